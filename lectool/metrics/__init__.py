r"""Measures by which models of different topics can be compared.

One rule says where a measure lives. Here, if it takes only data, codes or samples, so that a second topic can
use it, whatever made them: a reconstruction of a PCA or of an autoencoder, samples of a GAN or of a VAE. With its
topic, if it asks for a part of the model (the slope of a critic, the posterior of a VAE), for what one topic's
data set knows (the factors of the shapes, the centers of a ring of Gaussians), or is a method that a chapter
derives (optimal transport).

- :mod:`~lectool.metrics.reconstruction`: how much of the data comes back;
- :mod:`~lectool.metrics.codes`: what a code or a subspace keeps;
- :mod:`~lectool.metrics.distributions`: how far two distributions are from each other;
- :mod:`~lectool.metrics.samples`: how good generated samples are;
- :mod:`~lectool.metrics.uncertainty`: how sure a measured value is.
"""

from lectool.metrics.codes import nearest, principal_angles, retrieval_precision
from lectool.metrics.distributions import frechet_distance, kernel_values, mmd2, squared_mmd
from lectool.metrics.reconstruction import psnr, reconstruction_error
from lectool.metrics.samples import (
    frechet_inception_distance,
    inception_score,
    kernel_inception_distance,
    precision_recall,
)
from lectool.metrics.uncertainty import Estimate, jackknife

__all__ = [
    "Estimate",
    "frechet_distance",
    "frechet_inception_distance",
    "inception_score",
    "jackknife",
    "kernel_inception_distance",
    "kernel_values",
    "mmd2",
    "nearest",
    "precision_recall",
    "principal_angles",
    "psnr",
    "reconstruction_error",
    "retrieval_precision",
    "squared_mmd",
]
