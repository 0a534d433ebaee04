r"""How good generated samples are."""

import torch
from torch import Tensor

from lectool import check
from lectool.metrics.distributions import frechet_distance, squared_mmd
from lectool.metrics.precision import double

__all__ = [
    "frechet_inception_distance",
    "inception_score",
    "kernel_inception_distance",
    "precision_recall",
]


def frechet_inception_distance(real: Tensor, fake: Tensor) -> float:
    r"""FID: the squared Fréchet distance of two samples' features, each sample taken as a Gaussian.

    Features come from a layer of a classifier: the published numbers use 2048 of the Inception network,
    this book a small network trained on digits. Numbers of different networks cannot be compared.
    The estimate is too large by O(1/n): compare samples of the same size only.

    Arguments:
        real, fake: features, shapes (n, d) and (m, d), at least two rows each.

    Raises:
        ValueError: if the widths differ or there are too few rows.

    References:
        Heusel et al. (2017), GANs trained by a two time-scale update rule converge to a local Nash equilibrium.
    """
    real, fake = _pair(real, fake)
    cov_1, cov_2 = (torch.atleast_2d(x.T.cov()) for x in (real, fake))
    return frechet_distance(real.mean(0), cov_1, fake.mean(0), cov_2)


def kernel_inception_distance(real: Tensor, fake: Tensor) -> float:
    r"""KID: the unbiased squared MMD of features with the kernel :math:`(x^\top y / d + 1)^3`.

    0 on average where both come from one distribution, for samples of any size; negative at times.

    Arguments:
        real, fake: features, shapes (n, d) and (m, d), at least two rows each.

    Raises:
        ValueError: if the widths differ or there are too few rows.

    References:
        Bińkowski, Sutherland, Arbel & Gretton (2018), Demystifying MMD GANs.
    """
    return squared_mmd(*_pair(real, fake), kernel="cubic").item()


def inception_score(probabilities: Tensor) -> float:
    r"""How sure a classifier is of each sample, and how evenly it uses its classes.

    .. math:: \exp \mathbb E_x\, \mathrm{KL}\bigl(p(y \mid x) \,\Vert\, p(y)\bigr), \qquad
        p(y) = \mathbb E_x\, p(y \mid x)

    Arguments:
        probabilities: :math:`p(y \mid x)`, one row a sample, shape (n, classes).

    Returns:
        a number from 1 to the number of classes.

    Raises:
        ValueError: if a number is negative or a row does not sum to 1.

    References:
        Salimans et al. (2016), Improved techniques for training GANs.
    """
    p = double(check.data(probabilities, "probabilities", low=0.0))
    sums = p.sum(1)
    if (sums - 1).abs().max() > 1e-4:
        raise ValueError(
            f"rows of probabilities sum to {sums.min():.4g} … {sums.max():.4g}; expected 1"
        )
    marginal = p.mean(0)
    kl = (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(1)
    return kl.mean().exp().item()


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> tuple[float, float]:
    r"""Precision: the share of generated samples that lie among the real ones; recall: the converse.

    A sample spans the union of balls around its points, each as wide as the distance to the point's ``k``-th
    neighbor in the same sample. Precision is the share of ``fake`` inside the balls of ``real``, recall
    the share of ``real`` inside the balls of ``fake``.

    Arguments:
        real, fake: features, shapes (n, d) and (m, d), as a rule of the same size: both shares grow with the
            number of balls.
        k: which neighbor, 1 … min(n, m) − 1.

    Returns:
        (precision, recall), each in [0, 1].

    Raises:
        ValueError: if the widths differ, there are too few rows, or ``k`` is out of range.

    References:
        Kynkäänniemi et al. (2019), Improved precision and recall metric for assessing generative models.
    """
    real, fake = _pair(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(f"k is {k}; expected 1 … {min(len(real), len(fake)) - 1}")

    def inside(points: Tensor, centers: Tensor) -> float:
        # The nearest of a center is the center itself: the k-th neighbor comes (k + 1)-st.
        near = [torch.cdist(c, centers).kthvalue(k + 1).values for c in centers.split(1000)]
        radius = torch.cat(near)
        hits = [(torch.cdist(p, centers) <= radius).any(1) for p in points.split(1000)]
        return torch.cat(hits).double().mean().item()

    return inside(fake, real), inside(real, fake)


def _pair(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    check.data(real, "real")
    check.data(fake, "fake", width=real.shape[1])
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"real and fake have {len(real)} and {len(fake)} rows; expected ≥ 2 each")
    return double(real), double(fake)
