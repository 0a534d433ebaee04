r"""Chapter 12: how well single code numbers stand for single factors."""

import math

import torch
from torch import Tensor

from lectool import check

__all__ = ["factor_information", "mutual_information_gap"]


def factor_information(
    mean: Tensor, sigma: Tensor, factors: Tensor, *, n_points: int = 500
) -> tuple[Tensor, Tensor]:
    r"""The mutual information :math:`I(z_j; v_f)` between each code number and each factor, in nats.

    :math:`q(z_j)` is the mixture of the encoder's Gaussians over all samples, :math:`q(z_j \mid v_f)` the same over
    the samples with one factor value, and :math:`I = H(q(z_j)) - E_v H(q(z_j \mid v))`. The entropies are
    integrals over a line of points: nothing is binned or drawn.

    Arguments:
        mean, sigma: of the posteriors :math:`q(z_j \mid x_i)`, shape (n, k); σ > 0.
        factors: the true factors as integers 0, 1, …, shape (n, n_factors).
        n_points: of the integral, over the range of each code number.

    Returns:
        the information, shape (k, n_factors), and the factors' entropies, shape (n_factors,), in float64.

    Raises:
        ValueError: if shapes do not fit, σ is not positive or the factors are not integers ≥ 0.

    References:
        Chen, Li, Grosse & Duvenaud (2018), Isolating sources of disentanglement in VAEs, section 4.1.
    """
    check.data(mean, "mean")
    check.data(sigma, "sigma", width=mean.shape[1])
    if len(sigma) != len(mean) or factors.shape[:-1] != mean.shape[:1] or sigma.min() <= 0:
        raise ValueError(
            f"mean, sigma, factors have shapes {tuple(mean.shape)}, {tuple(sigma.shape)}, "
            f"{tuple(factors.shape)}, smallest sigma {sigma.min():.3g}; expected (n, k) twice, "
            "(n, n_factors), and sigma > 0"
        )
    if factors.is_floating_point() or factors.min() < 0:
        raise ValueError(f"factors are {factors.dtype}; expected integers ≥ 0")
    members = [torch.nn.functional.one_hot(v).double() for v in factors.T]  # (n, values) each
    shares = [m.mean(0) for m in members]
    information = torch.zeros(mean.shape[1], len(members), dtype=torch.float64)
    for j, (m, s) in enumerate(zip(mean.double().T, sigma.double().T, strict=True)):
        points = torch.linspace((m - 5 * s).min().item(), (m + 5 * s).max().item(), n_points)
        step, points = (points[1] - points[0]).item(), points.to(m)
        u = (points - m[:, None]) / s[:, None]
        density = torch.exp(-0.5 * u.square()) / (
            s[:, None] * math.sqrt(2 * math.pi)
        )  # (n, points)
        total = torch.special.entr(density.mean(0)).sum() * step
        for f, (member, share) in enumerate(zip(members, shares, strict=True)):
            given = member.T @ density / member.sum(0).clamp(min=1)[:, None]  # (values, points)
            within = torch.special.entr(given).sum(1) * step
            information[j, f] = total - (share * within).sum()
    return information, torch.stack([torch.special.entr(share).sum() for share in shares])


def mutual_information_gap(mean: Tensor, sigma: Tensor, factors: Tensor) -> Tensor:
    r"""The MIG: by how much the code number that knows most about a factor is ahead of the next one.

    .. math:: \frac1F \sum_f \frac{I(z_{j_1}; v_f) - I(z_{j_2}; v_f)}{H(v_f)}

    with :math:`j_1, j_2` the two code numbers that know most about factor f. 1 if every factor is known exactly to
    one code number and to no other; near 0 if factors are unknown, or each is spread over several.

    Arguments:
        mean, sigma, factors: as in :func:`factor_information`, with k ≥ 2.

    Returns:
        a scalar, in float64.

    Raises:
        ValueError: as :func:`factor_information`, or if k < 2.
    """
    if mean.shape[-1] < 2:
        raise ValueError(f"mean has shape {tuple(mean.shape)}; expected at least 2 code numbers")
    information, entropy = factor_information(mean, sigma, factors)
    best = information.topk(2, dim=0).values
    return ((best[0] - best[1]) / entropy).mean()
