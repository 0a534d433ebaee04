r"""Chapter 10: gated (third-order) Boltzmann machines, which learn how one image becomes another, and their theory.

Images x ∈ ℝ^d and y ∈ ℝ^e (or bits), hidden bits z, each of which opens a matrix W_k that ties x to y.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lectool import check, random
from lectool.boltzmann.states import all_bits
from lectool.energy.covariance import few_bits

__all__ = [
    "FactoredGatedRBM",
    "FourierFit",
    "GatedRBM",
    "Margin",
    "fourier_fit",
    "nearest_mean",
    "phase_gap",
    "quadrature",
    "shared_eigenbasis",
    "shift_matrix",
]

VISIBLE = ("gaussian", "bernoulli")


class Margin(NamedTuple):
    r"""Whether the joint model of x, y and z can be normalised.

    Attributes:
        norm: the largest :math:`\lVert \sum_k z_k W_k \rVert` over all z, or a bound from above.
        exact: whether it is the largest one and no bound only.
        normalizable: ``True``, ``False``, or ``None`` where the bound decides nothing.
    """

    norm: float
    exact: bool
    normalizable: bool | None


class _Gated(nn.Module):
    r"""What the full and the factored machine share; they add ``response``, ``forth``, ``back`` and ``matrix``."""

    def __init__(
        self, d: int, e: int, k: int, visible: str, n_gibbs: int, symmetric: bool, sample: bool
    ) -> None:
        super().__init__()
        check.at_least(1, d=d, e=e, k=k, n_gibbs=n_gibbs)
        check.one_of(VISIBLE, visible=visible)
        self.visible, self.n_gibbs, self.symmetric = visible, n_gibbs, symmetric
        self.sample_visible = sample
        self.b = nn.Parameter(torch.zeros(d))
        self.c = nn.Parameter(torch.zeros(e))
        self.d = nn.Parameter(torch.zeros(k))

    @torch.no_grad()
    def start_at(self, x: Tensor, y: Tensor) -> None:
        r"""Sets b and c to the pixels' means in the data, shapes (n, d) and (n, e), or for bits to their log-odds."""
        self.check_pairs(x, y)
        for bias, images in ((self.b, x), (self.c, y)):
            average = images.mean(0)
            real = self.visible == "gaussian"
            bias.copy_(average if real else average.clamp(0.01, 0.99).logit())

    # ---------------------------------------------------------------------------------------- the distribution

    def energy(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        r"""E(x, y, z) in nats, shape (n,), for x (n, d), y (n, e), z (n, k)."""
        hidden = (z * (self.response(x, y) + self.d)).sum(1)
        return self.cost(x, self.b) + self.cost(y, self.c) - hidden

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The energy with z summed out, in nats, shape (n,).

        .. math:: F(x, y) = \tfrac12 \lVert x \rVert^2 + \tfrac12 \lVert y \rVert^2 - b^\top x - c^\top y
            - \sum_k \log\big(1 + e^{x^\top W_k y + d_k}\big),

        without the squares for bits.
        """
        hidden = F.softplus(self.response(x, y) + self.d).sum(1)
        return self.cost(x, self.b) + self.cost(y, self.c) - hidden

    def cost(self, x: Tensor, bias: Tensor) -> Tensor:
        r"""What an image alone adds to the energy, shape (n,)."""
        square = 0.5 * x.square().sum(1) if self.visible == "gaussian" else 0.0
        return square - x @ bias

    def hidden_given_visible(self, x: Tensor, y: Tensor) -> Tensor:
        r""":math:`p(z_k = 1 \mid x, y) = \sigma(x^\top W_k y + d_k)`, shape (n, k): which transformation it was."""
        return torch.sigmoid(self.response(x, y) + self.d)

    def y_given(self, x: Tensor, z: Tensor) -> Tensor:
        r"""Mean of p(y | x, z): :math:`c + \sum_k z_k W_k^\top x` (σ of it for bits), shape (n, e)."""
        return self.link(self.c + self.forth(x, z))

    def x_given(self, y: Tensor, z: Tensor) -> Tensor:
        r"""Mean of p(x | y, z): :math:`b + \sum_k z_k W_k y` (σ of it for bits), shape (n, d)."""
        return self.link(self.b + self.back(y, z))

    def link(self, a: Tensor) -> Tensor:
        return a if self.visible == "gaussian" else a.sigmoid()

    def draw(self, mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""Visible units with these means."""
        if self.visible == "bernoulli":
            return random.bernoulli(mean, generator)
        return mean + random.noise(mean.shape, mean, generator)

    # ---------------------------------------------------------------------------------------- sampling, training

    @torch.no_grad()
    def gibbs_y(
        self, x: Tensor, y: Tensor, n_steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""y after rounds of z given x and y, y given x and z, with x held fixed: the conditional p(y | x).

        It can be normalised whatever the weights, because :math:`\log p(y \mid x)` falls like
        :math:`-\tfrac12 \lVert y \rVert^2` and the rest grows only linearly.

        Arguments:
            x, y: shapes (n, d) and (n, e); y is where the chains start.
            n_steps: rounds, ≥ 0.
            generator: of the draws.
        """
        check.at_least(0, n_steps=n_steps)
        for _ in range(n_steps):
            z = random.bernoulli(self.hidden_given_visible(x, y), generator)
            y = self.y_given(x, z)
            y = self.draw(y, generator) if self.sample_visible else y
        return y

    @torch.no_grad()
    def gibbs_x(
        self, x: Tensor, y: Tensor, n_steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""The same with y held fixed: samples of p(x | y)."""
        check.at_least(0, n_steps=n_steps)
        for _ in range(n_steps):
            z = random.bernoulli(self.hidden_given_visible(x, y), generator)
            x = self.x_given(y, z)
            x = self.draw(x, generator) if self.sample_visible else x
        return x

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Conditional contrastive divergence: the mean free energy of pairs less that of (x, y′), y′ from a chain.

        With ``symmetric`` half of it, and half of the same with x and y changing roles. Its value is no likelihood.

        Arguments:
            x, y: corresponding images, shapes (n, d) and (n, e).
        """
        self.check_pairs(x, y)
        of_data = self.free_energy(x, y)
        loss = (of_data - self.free_energy(x, self.gibbs_y(x, y, self.n_gibbs))).mean()
        if self.symmetric:
            x_new = self.gibbs_x(x, y, self.n_gibbs)
            loss = 0.5 * loss + 0.5 * (of_data - self.free_energy(x_new, y)).mean()
        return loss

    def check_pairs(self, x: Tensor, y: Tensor) -> None:
        low, high = (0.0, 1.0) if self.visible == "bernoulli" else (None, None)
        check.data(x, "x", width=len(self.b), low=low, high=high, like=self.b)
        check.data(y, "y", width=len(self.c), low=low, high=high, like=self.c)
        check.lengths(x=x, y=y)

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        r"""E[z | x, y], shape (n, k): the code of the transformation."""
        self.check_pairs(x, y)
        return self.hidden_given_visible(x, y)

    def analogy(self, x: Tensor, y: Tensor, x_new: Tensor) -> Tensor:
        r"""Does to ``x_new`` what turned x into y: the mean of y given x_new and E[z | x, y], shape (n, e).

        Arguments:
            x, y: pairs, shapes (n, d) and (n, e).
            x_new: one new image for each pair, shape (n, d), or (1, d) for one that all pairs act on.
        """
        z = self.encode(x, y)
        return self.y_given(x_new.expand(len(z), -1), z)

    # ---------------------------------------------------------------------------------------- the joint model

    def joint_precision(self, z: Tensor) -> Tensor:
        r"""The precision of (x, y) given z, shape (n, d + e, d + e), for z of shape (n, k); real units only.

        .. math:: \begin{pmatrix} I & -M_z \\ -M_z^\top & I \end{pmatrix}, \qquad M_z = \sum_k z_k W_k .

        Its eigenvalues are :math:`1 \pm s` for the singular values s of M_z (and ones), so that the joint density has
        an integral only where :math:`\lVert M_z \rVert < 1`.

        Raises:
            ValueError: for bits, whose joint model can always be normalised.
        """
        if self.visible != "gaussian":
            raise ValueError(
                "bits have no precision, and their joint model is always normalisable; expected visible='gaussian'"
            )
        M = self.matrix(z)
        n, d, e = M.shape
        eyes = torch.eye(d).to(M).expand(n, -1, -1), torch.eye(e).to(M).expand(n, -1, -1)
        return torch.cat([torch.cat([eyes[0], -M], 2), torch.cat([-M.mT, eyes[1]], 2)], 1)

    @torch.no_grad()
    def margin(self) -> Margin:
        r"""Whether :math:`\lVert \sum_k z_k W_k \rVert < 1` for every z: the joint density has an integral only then.

        All z are tried where k ≤ 12. Else all bits alone, all bits together and 1000 random z are: one of norm ≥ 1
        settles that there is none; the sum of the norms bounds what is not tried.

        Raises:
            ValueError: for bits, as :meth:`joint_precision` does.
        """
        k = len(self.d)
        if self.visible != "gaussian":
            raise ValueError("bits can always be normalised; expected visible='gaussian'")
        if k <= 12:
            largest = max(
                torch.linalg.matrix_norm(self.matrix(z), 2).max().item()
                for z in all_bits(k, self.d).split(256)
            )
            return Margin(largest, True, largest < 1)
        own = random.generator(0, self.d.device)
        some = (random.uniform((1000, k), self.d, own) < 0.5).to(self.d)
        tried = torch.cat([torch.eye(k).to(self.d), torch.ones(1, k).to(self.d), some])
        norms = torch.cat([torch.linalg.matrix_norm(self.matrix(z), 2) for z in tried.split(128)])
        if norms.max() >= 1:
            return Margin(norms.max().item(), False, False)
        bound = norms[:k].sum().item()
        return Margin(bound, False, True if bound < 1 else None)

    @torch.no_grad()
    def sample(
        self, n: int, n_steps: int = 100, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Pairs from the joint model: Gibbs rounds of z, x and y in turn, from random images.

        Returns:
            x, y: shapes (n, d) and (n, e).

        Raises:
            ValueError: if :meth:`margin` says that the joint model cannot be normalised, in which case the chains
                would run off to infinity; or if they do.
        """
        check.at_least(1, n=n)
        if self.visible == "gaussian" and (found := self.margin()).normalizable is False:
            raise ValueError(
                f"the joint model cannot be normalised: a z has ‖Σ z_k W_k‖ = {found.norm:.3g}; expected less than "
                "1, or a sample of y given x (gibbs_y), which always exists"
            )
        x, y = (self.draw(self.link(m.expand(n, -1)), generator) for m in (self.b, self.c))
        for _ in range(n_steps):
            z = random.bernoulli(self.hidden_given_visible(x, y), generator)
            x = self.draw(self.x_given(y, z), generator)
            y = self.draw(self.y_given(x, z), generator)
        if not (x.isfinite().all() and y.isfinite().all()):
            raise ValueError("the chains ran off to infinity; expected ‖Σ z_k W_k‖ < 1 for all z")
        return x, y

    def log_prob_y(self, x: Tensor, y: Tensor) -> Tensor:
        r"""log p(y | x) in nats, shape (n,), exactly, by a sum over 2^k states of z.

        .. math:: \log Z(x) = -\text{cost}(x) + \log \sum_z e^{d^\top z}\, Z_y\big(c + M_z^\top x\big),

        where one y with the pull m has :math:`Z_y = (2 \pi)^{e/2} e^{\lVert m \rVert^2 / 2}`, or
        :math:`\prod_j (1 + e^{m_j})` for bits.

        Raises:
            ValueError: if k > 16.
        """
        self.check_pairs(x, y)
        z = few_bits(len(self.d), self.d)
        pull = self.c + torch.einsum("nd,mde->nme", x, self.matrix(z))  # (n, 2^k, e)
        if self.visible == "gaussian":
            of_y = 0.5 * pull.square().sum(2) + 0.5 * len(self.c) * math.log(2 * math.pi)
        else:
            of_y = F.softplus(pull).sum(2)
        log_z = (z @ self.d + of_y).logsumexp(1) - self.cost(x, self.b)
        return -self.free_energy(x, y) - log_z


class GatedRBM(_Gated):
    r"""The third-order Boltzmann machine: hidden bits that choose the linear map between two images.

    .. math:: \log p(x, y, z) \doteq \sum_k z_k\, x^\top W_k y + b^\top x + c^\top y + d^\top z
        - \tfrac12 \lVert x \rVert^2 - \tfrac12 \lVert y \rVert^2

    Given two of the three the third is easy: y is :math:`N(c + M_z^\top x, I)` with :math:`M_z = \sum_k z_k W_k`, x is
    :math:`N(b + M_z y, I)`, and the bits are independent. But p(x, y, z) has an integral only where
    :math:`\lVert M_z \rVert < 1` for all z (:meth:`margin`); training uses p(y | x), which always has. Bits as visible
    units drop the squares and have no such limit.

    Arguments:
        d, e: numbers of pixels of x and of y, ≥ 1.
        k: number of hidden units, ≥ 1.
        visible: ``"gaussian"`` for real pixels with unit noise, ``"bernoulli"`` for bits.
        n_gibbs: rounds behind each sample of :meth:`loss`, ≥ 1.
        symmetric: whether x is learned from y as well as y from x.
        sample_visible: whether chains draw the visible units; ``False`` puts their means in place of the draws.

    Attributes:
        W: one matrix for each hidden unit, shape (k, d, e).
        b, c, d: biases of x, y and z, shapes (d,), (e,) and (k,).

    Raises:
        ValueError: if a number is below 1 or ``visible`` is neither; for data of another width, with NaN, or outside
            [0, 1] for bits.

    References:
        Memisevic & Hinton (2007), Unsupervised learning of image transformations.

    Example:
        >>> model = GatedRBM(9, 9, 5)
        >>> x, y = torch.randn(2, 10, 9)
        >>> model.loss(x, y).shape, model.analogy(x, y, x).shape
        (torch.Size([]), torch.Size([10, 9]))
    """

    def __init__(
        self,
        d: int,
        e: int,
        k: int,
        *,
        visible: str = "gaussian",
        n_gibbs: int = 1,
        symmetric: bool = False,
        sample_visible: bool = True,
    ) -> None:
        super().__init__(d, e, k, visible, n_gibbs, symmetric, sample_visible)
        W = without_mean(without_mean(torch.randn(k, d, e)).mT).mT
        self.W = nn.Parameter(0.1 * W / (d * e) ** 0.25)

    def response(self, x: Tensor, y: Tensor) -> Tensor:
        r""":math:`x^\top W_k y`, shape (n, k)."""
        pairs = x[:, :, None] * y[:, None]  # (n, d, e)
        return pairs.flatten(1) @ self.W.flatten(1).T

    def matrix(self, z: Tensor) -> Tensor:
        r""":math:`M_z = \sum_k z_k W_k`, shape (n, d, e), for z of shape (n, k)."""
        return (z @ self.W.flatten(1)).reshape(len(z), *self.W.shape[1:])

    def forth(self, x: Tensor, z: Tensor) -> Tensor:
        r""":math:`M_z^\top x`, shape (n, e)."""
        return (x[:, None] @ self.matrix(z)).squeeze(1)

    def back(self, y: Tensor, z: Tensor) -> Tensor:
        r""":math:`M_z y`, shape (n, d)."""
        return (self.matrix(z) @ y[:, :, None]).squeeze(2)


class FactoredGatedRBM(_Gated):
    r"""A :class:`GatedRBM` whose matrices share F pairs of filters: its three-way tensor has rank F.

    .. math:: W_k = \sum_f w^z_{f k}\, w^x_f\, (w^y_f)^\top, \qquad
        x^\top W_k y = \sum_f w^z_{f k}\, (x^\top w^x_f)\, (y^\top w^y_f)

    F (d + e + k) numbers in place of d e k. A pair of filters asks whether x and y answer alike; hidden units gather
    such answers.

    Arguments:
        d, e, k, visible, n_gibbs, symmetric, sample_visible: as in :class:`GatedRBM`.
        n_factors: F ≥ 1.

    Attributes:
        Wx, Wy: filters as rows, shapes (F, d) and (F, e).
        Wz: shape (k, F).
        b, c, d: biases of x, y and z, shapes (d,), (e,) and (k,).

    Raises:
        ValueError: as :class:`GatedRBM` does.

    References:
        Memisevic & Hinton (2010), Learning to represent spatial transformations with factored higher-order Boltzmann
        machines.

    Example:
        >>> model = FactoredGatedRBM(9, 9, 5, n_factors=12)
        >>> x, y = torch.randn(2, 10, 9)
        >>> model.encode(x, y).shape, model.y_given(x, model.encode(x, y)).shape
        (torch.Size([10, 5]), torch.Size([10, 9]))
    """

    def __init__(
        self,
        d: int,
        e: int,
        k: int,
        *,
        n_factors: int,
        visible: str = "gaussian",
        n_gibbs: int = 1,
        symmetric: bool = False,
        sample_visible: bool = True,
    ) -> None:
        super().__init__(d, e, k, visible, n_gibbs, symmetric, sample_visible)
        check.at_least(1, n_factors=n_factors)
        self.Wx = nn.Parameter(without_mean(torch.randn(n_factors, d) / d**0.5))
        self.Wy = nn.Parameter(without_mean(torch.randn(n_factors, e) / e**0.5))
        self.Wz = nn.Parameter(0.1 * torch.randn(k, n_factors))

    def response(self, x: Tensor, y: Tensor) -> Tensor:
        r""":math:`\sum_f w^z_{f k} (x^\top w^x_f) (y^\top w^y_f)`, shape (n, k)."""
        return ((x @ self.Wx.T) * (y @ self.Wy.T)) @ self.Wz.T

    def matrix(self, z: Tensor) -> Tensor:
        r""":math:`M_z = \sum_k z_k W_k`, shape (n, d, e), for z of shape (n, k)."""
        gate = z @ self.Wz  # (n, F): how far each pair of filters is open
        return (self.Wx.T * gate[:, None]) @ self.Wy

    def forth(self, x: Tensor, z: Tensor) -> Tensor:
        r""":math:`M_z^\top x`, shape (n, e): filter x, open and close, put the y-filters together."""
        return ((x @ self.Wx.T) * (z @ self.Wz)) @ self.Wy

    def back(self, y: Tensor, z: Tensor) -> Tensor:
        r""":math:`M_z y`, shape (n, d)."""
        return ((y @ self.Wy.T) * (z @ self.Wz)) @ self.Wx


def without_mean(filters: Tensor) -> Tensor:
    r"""Filters (along the last axis) less their mean, so that they do not see how bright an image is.

    The mean brightness of bits tells nothing of a transformation, and with it in every product learning stalls.
    """
    return filters - filters.mean(-1, keepdim=True) if filters.shape[-1] > 1 else filters


# ------------------------------------------------------------------------------------------------ reading the code


def nearest_mean(codes: Tensor, labels: Tensor, new: Tensor) -> Tensor:
    r"""The class whose mean code is nearest, shape (m,): the simplest of classifiers.

    Arguments:
        codes, labels: shape (n, k), and (n,) with classes from 0 on, each of which has to occur.
        new: codes to classify, shape (m, k).

    Raises:
        ValueError: if the lengths differ or a class is empty.
    """
    check.lengths(codes=codes, labels=labels)
    counts = labels.bincount()
    if (counts == 0).any():
        raise ValueError(f"class {counts.argmin().item()} is empty; expected codes of every class")
    sums = torch.zeros(len(counts), codes.shape[1]).to(codes).index_add(0, labels, codes)
    return torch.cdist(new, sums / counts[:, None]).argmin(1)


# ------------------------------------------------------------------------------------------------ the theory


def shift_matrix(shape: int | Sequence[int], by: int | Sequence[int]) -> Tensor:
    r"""The permutation A that shifts a signal (or an image, row by row) with wrap-around, shape (d, d), float64.

    Arguments:
        shape: length d, or (height, width).
        by: pixels, one number for each axis.

    Example:
        >>> shift_matrix(4, 1) @ torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
        tensor([4., 1., 2., 3.], dtype=torch.float64)
    """
    shape, by = ((s,) if isinstance(s, int) else tuple(s) for s in (shape, by))
    check.lengths(shape=shape, by=by)
    check.at_least(1, **{f"shape[{i}]": size for i, size in enumerate(shape)})
    d = math.prod(shape)
    images = torch.eye(d, dtype=torch.float64).reshape(d, *shape)
    return images.roll(by, tuple(range(1, 1 + len(shape)))).reshape(d, d).T


def shared_eigenbasis(maps: Tensor, *, tol: float = 1e-6) -> tuple[Tensor, Tensor]:
    r"""Orthogonal maps that commute have one basis of eigenvectors, and eigenvalues of magnitude 1.

    .. math:: A_\kappa = U \Lambda_\kappa U^H, \qquad \lvert \lambda \rvert = 1, \qquad U^H U = I .

    U is complex, so that the conjugate transpose :math:`U^H` stands where real symmetric matrices have
    :math:`U^\top`. It comes from one random mixture of the maps, whose eigenvalues differ where any map's do.

    Arguments:
        maps: A_κ, shape (m, d, d), real.
        tol: largest entry allowed in :math:`A^\top A - I` and :math:`A B - B A`, > 0.

    Returns:
        U: shape (d, d), complex, eigenvectors as columns.
        eigenvalues: of each map, shape (m, d), complex.

    Raises:
        ValueError: if a map is not orthogonal (as a scaling is not) or two do not commute.
    """
    check.positive(tol=tol)
    A = check.data(maps, "maps", n_dims=3).double()
    check.shape("m", A.shape[2], A.shape[2], maps=A)
    error = (A.mT @ A - torch.eye(A.shape[1]).to(A)).abs().amax((1, 2))
    if error.max() > tol:
        raise ValueError(
            f"map {error.argmax().item()} is not orthogonal: AᵀA differs from I by {error.max():.3g}"
        )
    for (i, one), (j, other) in itertools.combinations(enumerate(A), 2):
        if (gap := (one @ other - other @ one).abs().max()) > tol:
            raise ValueError(f"maps {i} and {j} do not commute: AB − BA has an entry {gap:.3g}")
    own = torch.Generator().manual_seed(0)  # of the method, not of an experiment
    weights = torch.randn(2, len(A), 1, 1, generator=own, dtype=A.dtype).to(A)
    # A + Aᵀ and (A − Aᵀ) / i are Hermitian with A's eigenvectors, and so is any mixture: eigh makes U unitary.
    even, odd = (weights[0] * (A + A.mT)).sum(0), (weights[1] * (A - A.mT)).sum(0)
    U = torch.linalg.eigh(torch.complex(even, -odd)).eigenvectors
    return U, torch.einsum("ij,mik,kj->mj", U.conj(), A.to(U), U)


class FourierFit(NamedTuple):
    r"""The wave that a filter is most like.

    Attributes:
        share: the share of a filter's energy that lies in it, in [0, 1], shape (n,).
        frequency: in cycles over the signal, one number for each axis, shape (n, axes).
        phase: φ of :math:`\cos(2 \pi \, \text{frequency} \cdot t / \text{size} + \varphi)`, in (−π, π], shape (n,).
    """

    share: Tensor
    frequency: Tensor
    phase: Tensor


def fourier_fit(filters: Tensor, shape: int | Sequence[int]) -> FourierFit:
    r"""How much like one wave filters are: the share of their energy in their best frequency.

    A real wave has its energy in a frequency and its opposite, which count as one; of the two, the one is given whose
    first index that is not 0 lies in the lower half. White noise of d numbers has a share of about
    2 (log(d/2) + 0.6) / d.

    Arguments:
        filters: shape (n, d).
        shape: d, or (height, width) with height · width = d.

    Raises:
        ValueError: if the sizes do not match or a filter is all 0.
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    check.data(filters, "filters", width=math.prod(shape))
    signals = filters.detach().reshape(-1, *shape)
    axes = tuple(range(1, signals.ndim))
    spectrum = torch.fft.fftn(signals, dim=axes)
    power = spectrum.abs().square()
    if (power.sum(axes) == 0).any():
        raise ValueError("a filter is 0 everywhere; expected one with some energy")
    opposite = power.flip(axes).roll((1,) * len(axes), axes)  # at minus the frequency
    index = torch.arange(math.prod(shape), device=filters.device).reshape(shape)
    mirror = index.flip([a - 1 for a in axes]).roll((1,) * len(axes), [a - 1 for a in axes])
    energy = torch.where(mirror == index, power, power + opposite)
    energy = torch.where(index <= mirror, energy, -1.0).flatten(1)  # one of each two
    best = energy.argmax(1)
    frequency = torch.stack(torch.unravel_index(best, shape), 1)
    phase = spectrum.flatten(1).gather(1, best[:, None]).squeeze(1).angle()
    return FourierFit(energy.amax(1) / power.sum(axes), frequency, phase)


def phase_gap(one: FourierFit, other: FourierFit) -> Tensor:
    r"""The phase by which waves of equal frequency differ, ``other`` less ``one``, in (−π, π], shape (n,).

    A quarter turn, π/2, is quadrature. Where the two frequencies differ, it is NaN.
    """
    gap = other.phase - one.phase
    gap = torch.atan2(gap.sin(), gap.cos())
    same = (one.frequency == other.frequency).all(1)
    return torch.where(same, gap, torch.nan)


def quadrature(fit: FourierFit) -> tuple[Tensor, Tensor]:
    r"""How evenly the phases of filters of one frequency are spread: a sine beside each cosine.

    :math:`1 - \lvert \operatorname{mean} e^{2 i \varphi} \rvert` is 1 for two filters a quarter turn apart, and 0 for
    filters of one phase, or of opposite ones, which ask the same. Only together do sine and cosine see a shift whatever
    the phase of the image.

    Returns:
        frequency: those that filters have, shape (m, axes).
        balance: in [0, 1], shape (m,).
    """
    frequency, group = fit.frequency.unique(dim=0, return_inverse=True)
    double = torch.polar(torch.ones_like(fit.phase), 2 * fit.phase)
    total = torch.zeros(len(frequency)).to(double).index_add(0, group, double)
    return frequency, 1 - total.abs() / group.bincount()
