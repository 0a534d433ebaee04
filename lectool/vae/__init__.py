r"""Variational autoencoders: the plain one of chapter 11 and its family of chapter 12.

:mod:`~lectool.vae.parts` holds what is exchanged (likelihood, posterior, prior), :mod:`~lectool.vae.plain` the model.
"""

from lectool.vae.discrete import DiscreteVAE, gumbel, gumbel_softmax, reinforce
from lectool.vae.disentangle import factor_information, mutual_information_gap
from lectool.vae.family import (
    IWAE,
    WAE,
    ConditionalNormal,
    ConditionalVAE,
    ConstrainedVAE,
    CriticPenalty,
    MMDPenalty,
    Point,
    effective_samples,
    normalized_weights,
)
from lectool.vae.hierarchical import HierarchicalVAE, TopDownVAE
from lectool.vae.inference import AggregatePosterior, NonAmortized, elbo_gradients, refine
from lectool.vae.parts import (
    Bernoulli,
    DiagonalGaussian,
    FullGaussian,
    Gaussian,
    HeteroscedasticGaussian,
    Likelihood,
    Posterior,
    StandardNormal,
    binarize,
    normal_log_prob,
    residual_kl,
)
from lectool.vae.plain import VAE
from lectool.vae.quantized import (
    VQVAE,
    CodePrior,
    MaskedConv2d,
    VectorQuantizer,
    grid_networks,
    perplexity,
)
from lectool.vae.shallow import BernoulliVAE, linear_vae, score_matching

__all__ = [
    "IWAE",
    "VAE",
    "VQVAE",
    "WAE",
    "AggregatePosterior",
    "Bernoulli",
    "BernoulliVAE",
    "CodePrior",
    "ConditionalNormal",
    "ConditionalVAE",
    "ConstrainedVAE",
    "CriticPenalty",
    "DiagonalGaussian",
    "DiscreteVAE",
    "FullGaussian",
    "Gaussian",
    "HeteroscedasticGaussian",
    "HierarchicalVAE",
    "Likelihood",
    "MMDPenalty",
    "MaskedConv2d",
    "NonAmortized",
    "Point",
    "Posterior",
    "StandardNormal",
    "TopDownVAE",
    "VectorQuantizer",
    "binarize",
    "effective_samples",
    "elbo_gradients",
    "factor_information",
    "grid_networks",
    "gumbel",
    "gumbel_softmax",
    "linear_vae",
    "mutual_information_gap",
    "normal_log_prob",
    "normalized_weights",
    "perplexity",
    "refine",
    "reinforce",
    "residual_kl",
    "score_matching",
]
