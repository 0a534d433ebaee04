r"""Chapter 12: how well single code numbers stand for single factors."""

import torch
from torch import Tensor

from lectool import check
from lectool.vae.parts import normal_log_prob

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
    check.lengths(mean=mean, sigma=sigma, factors=factors)
    check.shape("n", "n_factors", factors=factors)
    check.positive(sigma=sigma.min().item())
    if factors.is_floating_point() or factors.numel() == 0 or factors.min() < 0:
        raise ValueError(
            f"factors are {factors.dtype} of shape {tuple(factors.shape)}; expected integers ≥ 0, in one or more "
            "columns"
        )
    # who has which value of each factor: (n, values) each
    members = [torch.nn.functional.one_hot(v).double() for v in factors.T]
    information = torch.zeros(mean.shape[1], len(members), dtype=torch.float64)
    for j, (m, s) in enumerate(zip(mean.double().T, sigma.double().T, strict=True)):
        low, high = (m - 5 * s).min().item(), (m + 5 * s).max().item()
        points = torch.linspace(low, high, n_points, dtype=m.dtype, device=m.device)
        step = (high - low) / (n_points - 1)
        squares = ((points - m[:, None]) / s[:, None]).square()
        density = normal_log_prob(squares, 1).exp() / s[:, None]
        total = torch.special.entr(density.mean(0)).sum() * step
        for f, member in enumerate(members):
            given = member.T @ density / member.sum(0).clamp(min=1)[:, None]
            within = torch.special.entr(given).sum(1) * step
            information[j, f] = total - member.mean(0) @ within
    entropies = [torch.special.entr(member.mean(0)).sum() for member in members]
    return information, torch.stack(entropies).cpu()


def mutual_information_gap(mean: Tensor, sigma: Tensor, factors: Tensor) -> Tensor:
    r"""The MIG: by how much the code number that knows most about a factor is ahead of the next one.

    .. math:: \frac1F \sum_f \frac{I(z_{j_1}; v_f) - I(z_{j_2}; v_f)}{H(v_f)}

    with :math:`j_1, j_2` the two code numbers that know most about factor f. 1 if every factor is known exactly to
    one code number and to no other; near 0 if factors are unknown, or each is spread over several. A factor that has
    the same value in all samples has nothing to tell (H = 0): the mean is over those that vary.

    Arguments:
        mean, sigma, factors: as in :func:`factor_information`, with k ≥ 2.

    Returns:
        a scalar, in float64.

    Raises:
        ValueError: as :func:`factor_information`, if k < 2, or if no factor varies.
    """
    if mean.shape[-1] < 2:
        raise ValueError(f"mean has shape {tuple(mean.shape)}; expected at least 2 code numbers")
    information, entropy = factor_information(mean, sigma, factors)
    varies = entropy > 0
    if not varies.any():
        raise ValueError(
            f"factors are constant over {len(factors)} samples; expected one that varies"
        )
    best = information[:, varies].topk(2, dim=0).values
    return ((best[0] - best[1]) / entropy[varies]).mean()
