r"""Chapter 04: linear factor models: factor analysis, probabilistic PCA, ICA, slow features."""

from lectool.factors.gaussian import (
    PPCA,
    FactorAnalysis,
    GradientPPCA,
    log_density,
    posterior,
    ppca_em_missing,
    ppca_gradient,
)
from lectool.factors.independent import FastICA, amari_distance, kurtosis, negentropy
from lectool.factors.mixtures import MixtureOfFactorAnalyzers, MixtureOfPPCA
from lectool.factors.slow import (
    SlowFeatureAnalysis,
    decorrelation_penalty,
    quadratic_expansion,
    slowness,
)

__all__ = [
    "PPCA",
    "FactorAnalysis",
    "FastICA",
    "GradientPPCA",
    "MixtureOfFactorAnalyzers",
    "MixtureOfPPCA",
    "SlowFeatureAnalysis",
    "amari_distance",
    "decorrelation_penalty",
    "kurtosis",
    "log_density",
    "negentropy",
    "posterior",
    "ppca_em_missing",
    "ppca_gradient",
    "quadratic_expansion",
    "slowness",
]
