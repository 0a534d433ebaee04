r"""Autoencoders: the plain ones of chapter 02 and the regularized ones of chapter 03."""

from lectool.autoencoders.contractive import (
    Contractive,
    hutchinson_norm,
    jacobian_norm,
    sigmoid_jacobian_norm,
)
from lectool.autoencoders.denoising import Denoising, GatedAutoencoder, corrupt
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
from lectool.autoencoders.predictive import PredictiveSparseDecomposition
from lectool.autoencoders.variance import VarianceAutoencoder

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
    "pick_labels",
    "reconstruction_loss",
    "sigmoid_jacobian_norm",
    "unroll",
]
