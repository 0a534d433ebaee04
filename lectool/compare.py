r"""Chapter 17: every generative model of the book behind one face, asked the same questions.

A model of any kind becomes a :class:`Model`: what it can do is a function, what it cannot do is ``None`` and leaves its
cells empty. The functions below ask; none of them knows which model it asks.
"""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lectool import check, metrics, random
from lectool.metrics import Estimate
from lectool.sortable import over_seeds, table

__all__ = [
    "Model",
    "auc",
    "bits_per_pixel",
    "copying",
    "draw",
    "effective_classes",
    "grade",
    "grid_kl",
    "histogram",
    "kernel_density",
    "linear_probe",
    "log_density",
    "mean",
    "mixed",
    "of_estimator",
    "over_seeds",
    "pictures",
    "rank_correlation",
    "sharpness",
    "table",
    "total_variation",
    "trained",
    "watched",
]


# ------------------------------------------------------------------------------------------------ one face


@dataclass(frozen=True)
class Model:
    r"""What a comparison may ask of a model.

    Attributes:
        sample: from n to n draws, shape (n, d); ``None`` for a model that draws nothing.
        log_prob: from data, shape (n, d), to log-densities or log-probabilities in nats, shape (n,); ``None`` for a
            model that tells none.
        kind: how log_prob comes about: ``"exact"``, ``"bound"`` or ``"estimate"``; empty without it.
        encode: from data to a representation, shape (n, k); ``None`` for a model that has none.
        n_parameters: numbers that were fitted, with the training data where they are kept.
        name, seconds: by :func:`trained`.
    """

    sample: Callable[[int], Tensor] | None = None
    log_prob: Callable[[Tensor], Tensor] | None = None
    kind: str = ""
    encode: Callable[[Tensor], Tensor] | None = None
    n_parameters: int = 0
    name: str = ""
    seconds: float = math.nan


def trained(name: str, make: Callable[..., Model], *data: Any, seed: int = 0) -> Model:
    r"""The model that ``make(*data)`` returns, with its name and the seconds of processor time that it took.

    Seconds are those of all cores together; what else runs on the machine does not count. Random numbers begin at
    ``seed``, shifted by ``LECTOOL_SEED``.
    """
    random.seed(seed)
    start = time.process_time()
    model = make(*data)
    return replace(model, name=name, seconds=time.process_time() - start)


def of_estimator(fitted: Any, encode: Callable[[Tensor], Tensor] | None = None) -> Model:
    r"""The face of a closed-form or EM model: ``score_samples`` is its exact log-density.

    Arguments:
        fitted: with ``sample(n)`` and ``score_samples(x)``; its tensors whose names end in ``_`` are its parameters.
        encode: where it has a representation.
    """

    def sample(n: int) -> Tensor:
        drawn = fitted.sample(n)
        # A mixture also tells which component.
        return drawn[0] if isinstance(drawn, tuple) else drawn

    values = [v for k, v in vars(fitted).items() if k.endswith("_") and isinstance(v, Tensor)]
    return Model(sample, fitted.score_samples, "exact", encode, sum(v.numel() for v in values))


def watched(
    loss: Callable[..., Any], updates: Collection[int], look: Callable[[int], None]
) -> Callable[..., Any]:
    r"""A loss for ``train.fit`` that calls ``look(u)`` when u updates have been made, for each u of ``updates``."""
    done = 0

    def counting(*batch: Tensor) -> Any:
        nonlocal done
        if done in updates:
            with torch.no_grad():
                look(done)
        done += 1
        return loss(*batch)

    return counting


# ------------------------------------------------------------------------------------------------ baselines


def kernel_density(x: Tensor, sigma: float) -> Model:
    r"""Copies of the training data with noise: a Gaussian of width σ around each of them, all of the same weight.

    .. math:: p(y) = \frac1n \sum_{i=1}^n N(y; x_i, \sigma^2 I)

    Arguments:
        x: training data, shape (n, d).
        sigma: bandwidth σ > 0, in units of the data.

    References:
        Parzen (1962), On estimation of a probability density function and mode.
    """
    check.data(x)
    check.positive(sigma=sigma)
    n, d = x.shape

    def log_prob(y: Tensor) -> Tensor:
        squares = torch.cat([torch.cdist(rows, x) for rows in y.split(500)]).square()
        peak = -d * math.log(sigma * math.sqrt(2 * math.pi)) - math.log(n)
        return (-squares / (2 * sigma**2)).logsumexp(1) + peak

    def sample(m: int) -> Tensor:
        return x[random.integers(n, m)] + sigma * random.noise((m, d), x)

    return Model(sample, log_prob, "exact", n_parameters=x.numel())


def mixed(good: Model, other: Model, share: float) -> Model:
    r"""Draws from ``good`` with probability ``share`` and from ``other`` else.

    .. math:: \log p(x) = \log\bigl(s\, p_{\text{good}}(x) + (1 - s)\, p_{\text{other}}(x)\bigr)
        \ge \log p_{\text{good}}(x) + \log s

    Arguments:
        good, other: both with ``sample`` and ``log_prob``.
        share: s in (0, 1).

    Raises:
        ValueError: if s is out of range or a model lacks one of the two.

    References:
        Theis, van den Oord & Bethge (2016), A note on the evaluation of generative models, section 3.2.
    """
    check.inside("(0, 1)", share=share)
    for model in (good, other):
        if model.sample is None or model.log_prob is None:
            raise ValueError(
                f"{model.name or 'a model'} has no sampler or no density; a mixture needs both"
            )

    def log_prob(x: Tensor) -> Tensor:
        return torch.logaddexp(
            good.log_prob(x) + math.log(share), other.log_prob(x) + math.log(1 - share)
        )

    def sample(n: int) -> Tensor:
        from_good = random.uniform((n, 1)) < share
        return torch.where(from_good, good.sample(n), other.sample(n))

    # The mixture's density is no surer than the less sure one of the two.
    kinds = ("exact", "bound", "estimate", "")
    kind = max(good.kind, other.kind, key=kinds.index)
    return Model(sample, log_prob, kind, n_parameters=good.n_parameters + other.n_parameters)


# ------------------------------------------------------------------------------------------------ asking


def draw(model: Model, n: int, d: int) -> Tensor | None:
    r"""n draws of d numbers, without gradient; ``None`` where the model draws nothing.

    Raises:
        ValueError: if the sampler returns another shape, or numbers that are not finite; the message names the model.
    """
    if model.sample is None:
        return None
    with torch.no_grad():
        x = model.sample(n)
    if not isinstance(x, Tensor) or x.shape != (n, d):
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{model.name}: its sampler returned {shape}; expected shape {(n, d)}")
    if n_bad := int((~torch.isfinite(x)).any(1).sum()):
        raise ValueError(f"{model.name}: {n_bad} of {n} draws hold NaN or infinite numbers")
    return x


def log_density(model: Model, x: Tensor) -> Tensor | None:
    r"""Log-densities of data in nats, shape (n,), in float64; ``None`` where the model tells none.

    Raises:
        ValueError: if they have another shape, or hold NaN or +∞ (−∞ is the logarithm of a density of 0); the message
            names the model.
    """
    if model.log_prob is None:
        return None
    with torch.no_grad():
        log_p = model.log_prob(x)
    if log_p.shape != (len(x),):
        raise ValueError(
            f"{model.name}: log_prob returned shape {tuple(log_p.shape)}; expected ({len(x)},)"
        )
    if n_bad := int((log_p.isnan() | (log_p == math.inf)).sum()):
        raise ValueError(f"{model.name}: {n_bad} of {len(x)} log-densities are NaN or infinite")
    return log_p.double()


def mean(values: Tensor) -> Estimate:
    r"""The mean of independent values, shape (n,), with its 95 % interval (normal; 1.96 standard errors)."""
    check.at_least(2, n=len(values))
    values = values.double()
    value, half = values.mean().item(), 1.96 * values.std().item() / math.sqrt(len(values))
    return Estimate(value, value - half, value + half, 0.0)


def grade(fake: Tensor, real: Tensor, *, n_groups: int = 10) -> dict[str, Estimate]:
    r"""Four distances of generated from real samples by their features, each with a jackknife interval.

    Arguments:
        fake, real: features of both, shapes (n, k) and (m, k), rows in random order.
        n_groups: of the jackknife.

    Returns:
        ``FID`` (less the bias that the jackknife estimates), ``KID``, ``precision``, ``recall``.
    """

    def all_four(u: Tensor, v: Tensor) -> tuple[float, ...]:
        fid = metrics.frechet_inception_distance(u, v)
        return (fid, metrics.kernel_inception_distance(u, v), *metrics.precision_recall(u, v))

    found = metrics.jackknife(all_four, real, fake, n_groups=n_groups)
    by_name = dict(zip(("FID", "KID", "precision", "recall"), found, strict=True))
    fid = by_name["FID"]
    by_name["FID"] = Estimate(
        fid.value - fid.bias, fid.low - fid.bias, fid.high - fid.bias, fid.bias
    )
    return by_name


def effective_classes(labels: Tensor, n_classes: int = 10) -> float:
    r"""How many classes the labels fill, :math:`\exp(-\sum_c f_c \log f_c)` with their frequencies f: 1 … n_classes."""
    f = torch.bincount(labels, minlength=n_classes).double() / len(labels)
    return torch.special.entr(f).sum().exp().item()


def copying(x: Tensor, seen: Tensor, unseen: Tensor) -> Estimate:
    r"""How near samples lie to training data: 1 as near as test data do, 0 for copies.

    The median distance to the nearest training image, divided by that of test images.

    Arguments:
        x: samples, shape (n, d), in random order.
        seen, unseen: training and test data, shapes (m, d) and (l, d).
    """
    near = [torch.cdist(part, seen).amin(1) for part in (x, unseen)]
    return metrics.jackknife(lambda a, b: (a.median() / b.median()).item(), *near, n_groups=10)


def auc(high: Tensor, low: Tensor) -> float:
    r"""The share of pairs in which the score from ``high`` is the larger one; a tie counts one half."""
    every = torch.cat([high, low]).double()
    _, group, count = every.unique(return_inverse=True, return_counts=True)
    rank = (count.cumsum(0) - 0.5 * (count - 1))[group]  # from 1; equals share their mean rank
    n, m = len(high), len(low)
    return ((rank[:n].sum() - n * (n + 1) / 2) / (n * m)).item()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    r"""Spearman's correlation of two measures of the same models, −1 … 1, for values without ties."""
    ranks = torch.stack([v.argsort().argsort().double() for v in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


def sharpness(x: Tensor) -> Tensor:
    r"""The energy of the Laplacian as a share of an image's own energy, shape (n,): small for soft images.

    Arguments:
        x: images, shape (n, h, w).
    """
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], dtype=x.dtype)
    edges = F.conv2d(x[:, None], kernel[None, None].to(x.device))
    return edges.square().sum((1, 2, 3)) / x.square().sum((1, 2)).clamp(min=1e-6)


def linear_probe(
    codes: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor], lam: float = 1e-2
) -> Tensor:
    r"""Which test images a linear classifier on a representation gets right, shape (m,), as 0 and 1.

    Ridge regression on one-hot labels, from codes in standard units.

    Arguments:
        codes: of training and test images, shapes (n, k) and (m, k).
        labels: their classes, shapes (n,) and (m,).
        lam: weight of the penalty, > 0, per sample.
    """
    check.positive(lam=lam)
    center, spread = codes[0].double().mean(0), codes[0].double().std(0).clamp(min=1e-6)
    a, b = ((F.pad((z.double() - center) / spread, (0, 1), value=1.0)) for z in codes)
    y = F.one_hot(labels[0]).double()
    W = torch.linalg.solve(a.T @ a + lam * len(a) * torch.eye(a.shape[1], dtype=a.dtype), a.T @ y)
    return ((b @ W).argmax(1) == labels[1]).double()


# ------------------------------------------------------------------------------------------------ gray values


def pictures(y: Tensor, levels: int) -> Tensor:
    r"""Numbers in [0, 1] as whole gray values, and these as numbers from 0 to 1, ``⌊levels · y⌋ / (levels − 1)``."""
    return (y * levels).floor().clamp(0, levels - 1) / (levels - 1)


def bits_per_pixel(log_p: Tensor, d: int, levels: int) -> Tensor:
    r"""Bits a pixel that whole gray values take, from log-densities of their dequantized values in [0, 1], in nats.

    .. math:: \log_2 \text{levels} - \frac{\log p(y)}{d \log 2}
    """
    return math.log2(levels) - log_p / (d * math.log(2))


# ------------------------------------------------------------------------------------------------ in the plane


def grid_kl(log_p: Tensor, log_q: Tensor, tile: float) -> tuple[float, float]:
    r"""KL(p ‖ q) in nats and the mass of q, both as sums over a grid.

    Arguments:
        log_p, log_q: log-densities at the grid's points, shape (n,).
        tile: area of one cell.

    Returns:
        the divergence and :math:`\int q`, which tells whether q is a density and the grid wide enough.
    """
    p = log_p.double().exp()
    terms = torch.where(p > 1e-12, p * (log_p.double() - log_q.double()), torch.zeros_like(p))
    return terms.sum().item() * tile, log_q.double().exp().sum().item() * tile


def histogram(points: Tensor, edge: float, n_bins: int) -> Tensor:
    r"""The share of points in each cell of [−edge, edge]², and, last, outside of it, shape (n_bins² + 1,)."""
    cell = ((points + edge) / (2 * edge) * n_bins).floor().long()
    inside = ((cell >= 0) & (cell < n_bins)).all(1)
    index = torch.where(inside, cell[:, 0] * n_bins + cell[:, 1], n_bins**2)
    return torch.bincount(index, minlength=n_bins**2 + 1).double() / len(points)


def total_variation(p: Tensor, q: Tensor) -> float:
    r"""Half the sum of the differences of two distributions on the same cells: 0 for equals, 1 without overlap."""
    return 0.5 * (p - q).abs().sum().item()
