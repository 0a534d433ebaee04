r"""Autoencoders: the plain ones of chapter 02 and the regularized ones of chapter 03."""

from lectool.autoencoders.ladder import LadderNetwork, pick_labels
from lectool.autoencoders.plain import (
    Autoencoder,
    ConvAutoencoder,
    SigmoidAutoencoder,
    deep_autoencoder,
    gradient_parts,
    greedy_layers,
    reconstruction_loss,
    unroll,
)
from lectool.autoencoders.regularized import (
    Contractive,
    Denoising,
    GatedAutoencoder,
    PredictiveSparseDecomposition,
    VarianceAutoencoder,
    corrupt,
    hutchinson_norm,
    jacobian_norm,
    mixture_denoiser,
    mixture_score,
    sigmoid_jacobian_norm,
)

__all__ = [
    "Autoencoder",
    "Contractive",
    "ConvAutoencoder",
    "Denoising",
    "GatedAutoencoder",
    "LadderNetwork",
    "PredictiveSparseDecomposition",
    "SigmoidAutoencoder",
    "VarianceAutoencoder",
    "corrupt",
    "deep_autoencoder",
    "gradient_parts",
    "greedy_layers",
    "hutchinson_norm",
    "jacobian_norm",
    "mixture_denoiser",
    "mixture_score",
    "pick_labels",
    "reconstruction_loss",
    "sigmoid_jacobian_norm",
    "unroll",
]
