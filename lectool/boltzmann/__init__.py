r"""Chapter 09: Hopfield networks, Boltzmann machines, and restricted ones for bits, real numbers and ratings."""

from lectool.boltzmann.ais import LogPartition, ais, from_log_weights
from lectool.boltzmann.gaussian import GaussianRBM
from lectool.boltzmann.gradients import (
    Statistics,
    cd_gradient,
    cosine,
    data_statistics,
    exact_gradient,
    expected_cd_gradient,
    model_statistics,
    negative_pair,
    transition_matrix,
)
from lectool.boltzmann.hopfield import (
    Hopfield,
    asynchronous_sweep,
    hopfield_capacity,
    hopfield_energy,
    synchronous_step,
    unstable_share,
)
from lectool.boltzmann.likelihood import (
    BernoulliNoise,
    NoiseContrastiveRBM,
    factors,
    flip_log_likelihood,
    pseudo_log_likelihood,
    stochastic_pseudo_log_likelihood,
)
from lectool.boltzmann.machine import BoltzmannMachine
from lectool.boltzmann.ratings import RatingsRBM, mean_baselines, rmse
from lectool.boltzmann.rbm import RBM, Restricted
from lectool.boltzmann.states import all_bits, check_bits

__all__ = [
    "RBM",
    "BernoulliNoise",
    "BoltzmannMachine",
    "GaussianRBM",
    "Hopfield",
    "LogPartition",
    "NoiseContrastiveRBM",
    "RatingsRBM",
    "Restricted",
    "Statistics",
    "ais",
    "all_bits",
    "asynchronous_sweep",
    "cd_gradient",
    "check_bits",
    "cosine",
    "data_statistics",
    "exact_gradient",
    "expected_cd_gradient",
    "factors",
    "flip_log_likelihood",
    "from_log_weights",
    "hopfield_capacity",
    "hopfield_energy",
    "mean_baselines",
    "model_statistics",
    "negative_pair",
    "pseudo_log_likelihood",
    "rmse",
    "stochastic_pseudo_log_likelihood",
    "synchronous_step",
    "transition_matrix",
    "unstable_share",
]
