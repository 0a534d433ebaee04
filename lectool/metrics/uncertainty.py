r"""How sure a measured value is."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.stats import t as students_t
from torch import Tensor

from lectool import check

__all__ = ["Estimate", "jackknife"]


class Estimate(NamedTuple):
    r"""A measured value with its confidence.

    Attributes:
        value: on all samples.
        low, high: the interval.
        bias: by how much the value is too large for being measured on so few samples, to first order.
    """

    value: float
    low: float
    high: float
    bias: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {(self.high - self.low) / 2:.1g}"


def jackknife(
    measure: Callable[..., float | tuple[float, ...]],
    *samples: Tensor,
    n_groups: int = 20,
    level: float = 0.95,
) -> Estimate | tuple[Estimate, ...]:
    r"""A confidence interval for any measure of samples, by leaving out one group of rows at a time.

    With :math:`\theta_j` measured without group j of g, and their mean :math:`\bar\theta`,

    .. math:: \mathrm{se}^2 = \frac{g - 1}{g} \sum_j (\theta_j - \bar\theta)^2, \qquad
        \text{bias} \approx (g - 1)(\bar\theta - \theta).

    The bootstrap draws rows twice. Twins are no matter for a mean; they make neighbors' balls empty and
    covariances narrow, so that precision, recall, FID and KID of a resample are those of another kind of sample.

    Arguments:
        measure: called with the samples; returns a number, or several.
        samples: tensors whose rows are independent of each other and in random order, ≥ ``n_groups`` each.
        n_groups: g, ≥ 2.
        level: of the interval, in (0, 1).

    Returns:
        an :class:`Estimate`, or one for each number that ``measure`` returns.

    Raises:
        ValueError: if a setting is out of range, or there are too few rows.

    References:
        Efron & Stein (1981), The jackknife estimate of variance.
    """
    check.at_least(2, n_groups=n_groups)
    check.inside("(0, 1)", level=level)
    if min((len(x) for x in samples), default=0) < n_groups:
        raise ValueError(
            f"samples have {[len(x) for x in samples]} rows; expected ≥ {n_groups} each"
        )
    groups = [torch.arange(len(x), device=x.device) % n_groups for x in samples]
    rest = ([x[group != j] for x, group in zip(samples, groups)] for j in range(n_groups))
    value = torch.tensor(measure(*samples), dtype=torch.float64)
    left_out = torch.tensor([measure(*kept) for kept in rest], dtype=torch.float64)
    se = ((n_groups - 1) * left_out.var(0, correction=0)).sqrt()
    half = students_t.ppf(0.5 + level / 2, n_groups - 1).item() * se
    bias = (n_groups - 1) * (left_out.mean(0) - value)
    columns = torch.stack([value, value - half, value + half, bias], -1).tolist()
    return Estimate(*columns) if value.ndim == 0 else tuple(Estimate(*row) for row in columns)
