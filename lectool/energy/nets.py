r"""Chapter 10: deep energy models, and what trains a density that lacks its normaliser.

Every density is given by :math:`\log \phi(x)`, with :math:`p(x) = \phi(x) / Z`, in nats. Its gradient by x, the score
:math:`\psi(x) = \nabla_x \log p(x) = \nabla_x \log \phi(x)`, needs no Z. ``log_phi`` below is any function of x, shape
(n, d), with values of shape (n,), each of its own row alone: a model's method or a lambda.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check
from lectool.random import integers, noise, uniform

__all__ = [
    "ContrastiveDivergence",
    "DeepEnergyModel",
    "climb",
    "denoising_score_matching_loss",
    "hessian_diagonal",
    "langevin",
    "score",
    "score_matching_loss",
    "sigmoid",
    "sliced_score_matching_loss",
    "softplus",
]

LogPhi = Callable[[Tensor], Tensor]


# ------------------------------------------------------------------------------------------------ softplus


def softplus(u: Tensor) -> Tensor:
    r"""S(u) = log(1 + eᵘ) for any finite u, of u's shape.

    .. math:: S(u) = \log(e^u + e^0) = \max(u, 0) + \log(1 + e^{-\lvert u \rvert})

    No exponent is above 0, so nothing overflows, and for u → −∞ the result keeps its relative precision. Torch's own
    ``logsigmoid`` is used, as S(u) = −log s(−u): its derivatives are right for any u, while the terms on the right have
    none at u = 0, and ``torch.logaddexp`` loses its second derivative where eᵘ is 0 in the machine.
    """
    return -F.logsigmoid(-u)


def sigmoid(u: Tensor) -> Tensor:
    r"""s(u) = S′(u) = 1 / (1 + e⁻ᵘ) for any finite u, of u's shape; ``torch.sigmoid`` computes the same.

    .. math:: s(u) = e^{-S(-u)}
    """
    return torch.exp(-softplus(-u))


# ------------------------------------------------------------------------------------------------ the model


class DeepEnergyModel(nn.Module):
    r"""A density whose energy is a parabola less the output of a neural network.

    .. math::
        \log p(x) = -\frac{\lVert x - c \rVert^2}{2 \sigma^2} + \sum_j S(w_j^\top g(x) + b_j) - \log Z,
        \qquad S(u) = \log(1 + e^u)

    One layer has g(x) = x, two have :math:`g(x) = s(V x)` with the logistic function s, three
    :math:`g(x) = s(V_2\, s(V_1 x))`. Softplus is what is left of hidden units z ∈ {0, 1} once they are summed out of
    :math:`\log p(x, z) = -\lVert x - c \rVert^2 / 2\sigma^2 + z^\top (W g(x) + b) - \log Z`, so one layer is a
    Gaussian–Bernoulli RBM. Z is finite for all weights: the sum grows at most linearly, the parabola faster.

    In place of :math:`\lVert x - c \rVert^2 / 2 \sigma^2` one may write
    :math:`\lVert x \rVert^2 / 2 \sigma^2 - x^\top c / \sigma^2`, which differs by a constant.

    Arguments:
        sizes: d, the widths of the layers of g, and the number of hidden units z: ``[64, 100]`` has one layer,
            ``[64, 100, 50]`` two.
        sigma: σ > 0, in units of the data. It is fixed.
        bias: whether the layers of g have biases, V x + a.
        lam: λ ≥ 0, the price of curvature in :meth:`loss`.

    Raises:
        ValueError: if there are fewer than two sizes, one is below 1 or a setting is out of range; when used, for data
            that are no tensor of shape (n, d), hold a NaN or have another type.

    References:
        Ngiam, Chen, Koh & Ng (2011), Learning deep energy models; Köster & Hyvärinen (2009) for two layers by score
        matching; Kingma & LeCun (2010) for the price of curvature.

    Example:
        >>> model = DeepEnergyModel([64, 100, 50], sigma=0.5)
        >>> model.energy(torch.zeros(10, 64)).shape
        torch.Size([10])
    """

    def __init__(
        self, sizes: Sequence[int], *, sigma: float = 1.0, bias: bool = True, lam: float = 0.0
    ):
        super().__init__()
        check.sizes(sizes)
        check.positive(sigma=sigma)
        check.non_negative(lam=lam)
        self.sizes, self.sigma, self.lam, self.bias = list(sizes), sigma, lam, bias
        n_layers = len(sizes) - 1
        self.layers = nn.ModuleList(
            nn.Linear(n_in, n_out, bias=bias or i == n_layers)
            for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True), 1)
        )
        self.c = nn.Parameter(torch.zeros(sizes[0]))

    def extra_repr(self) -> str:
        return f"{self.sizes}, sigma={self.sigma}, lam={self.lam}"

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        r"""Sets c to the mean of the data, shape (n, d)."""
        self.c.copy_(check.data(x, width=self.sizes[0], like=self.c).mean(0))

    def features(self, x: Tensor) -> Tensor:
        r"""g(x), shape (n, k): what the last layer sees."""
        for layer in self.layers[:-1]:
            x = layer(x).sigmoid()
        return x

    def activations(self, x: Tensor) -> Tensor:
        r""":math:`W g(x) + b`, shape (n, k)."""
        check.data(x, width=self.sizes[0], like=self.c)
        return self.layers[-1](self.features(x))

    def encode(self, x: Tensor) -> Tensor:
        r"""The probabilities p(z_j = 1 | x) of the hidden units, shape (n, k)."""
        return self.activations(x).sigmoid()

    def energy(self, x: Tensor) -> Tensor:
        r"""E(x) in nats, shape (n,): :math:`p(x) = e^{-E(x)} / Z`."""
        hidden = softplus(self.activations(x)).sum(1)
        return (x - self.c).square().sum(1) / (2 * self.sigma**2) - hidden

    def log_phi(self, x: Tensor) -> Tensor:
        r"""−E(x): log p(x) + log Z, shape (n,)."""
        return -self.energy(x)

    def derivatives(self, x: Tensor, diagonal: bool = False) -> tuple[Tensor, Tensor]:
        r"""The score and the trace (or diagonal) of the Hessian of log p, exactly, in one pass through the layers.

        For a layer :math:`a = V h` with :math:`s = s(a)` the derivatives by the coordinates of x pass on as

        .. math:: \partial_i a = V \partial_i h, \qquad \partial_i^2 a = V \partial_i^2 h, \qquad
            \partial_i s = s'(a)\, \partial_i a, \qquad
            \partial_i^2 s = s'(a)\, \partial_i^2 a + s''(a)\, (\partial_i a)^2.

        Arguments:
            x: shape (n, d).
            diagonal: whether to return all :math:`\partial_i^2 \log p` or their sum.

        Returns:
            the score, shape (n, d), and second derivatives, shape (n,), or (n, d) for the diagonal.
        """
        check.data(x, width=self.sizes[0], like=self.c)
        h, J = x, torch.eye(len(self.c), dtype=x.dtype, device=x.device)[None]
        T = torch.zeros_like(J if diagonal else J[:, :1])
        for layer in self.layers[:-1]:
            s, slope, J, T, squares = through(layer, h, J, T)
            h, J, T = s[:, 0], slope * J, slope * (T + (1 - 2 * s) * squares)
        s, slope, J, T, squares = through(self.layers[-1], h, J, T)
        psi = (self.c - x) / self.sigma**2 + (J @ s.mT)[:, :, 0]  # of Σ S(a): S′ = s
        second = (s * T + slope * squares).sum(2)
        if diagonal:
            return psi, second - 1 / self.sigma**2
        return psi, second[:, 0] - len(self.c) / self.sigma**2

    def score(self, x: Tensor) -> Tensor:
        r""":math:`\nabla_x \log p(x)`, shape (n, d)."""
        return score(self.log_phi, x)

    def loss(self, x: Tensor) -> Tensor:
        r"""The score matching loss, exactly, and λ times the mean squared curvature:

        .. math:: \tfrac12 \lVert \psi(x) \rVert^2 + \sum_i \partial_i \psi_i(x)
            + \lambda \sum_i (\partial_i \psi_i(x))^2

        as a mean over the batch; its parts too, where λ > 0. The last term stands, roughly, for noise of variance 2λ
        in the data, and keeps the model from growing a peak wherever samples lie close to a plane.
        """
        if not self.lam:
            return hyvarinen(*self.derivatives(x))
        psi, second = self.derivatives(x, diagonal=True)
        fit, curvature = hyvarinen(psi, second.sum(1)), second.square().sum(1).mean()
        return {"loss": fit + self.lam * curvature, "fit": fit, "curvature": curvature}

    def grow(self, k: int) -> "DeepEnergyModel":
        r"""A model with one layer more, whose g is all that this model has learned; k hidden units on top of it."""
        taller = DeepEnergyModel([*self.sizes, k], sigma=self.sigma, bias=True, lam=self.lam)
        taller.to(self.c)
        with torch.no_grad():
            taller.c.copy_(self.c)
        for new, old in zip(taller.layers, self.layers):
            new.load_state_dict(old.state_dict(), strict=False)
            if old.bias is None:
                nn.init.zeros_(new.bias)
        return taller


def through(
    layer: nn.Linear, h: Tensor, J: Tensor, T: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    r"""Derivatives of a linear layer's output a = V h + b by the coordinates of x.

    Arguments:
        layer: V and b.
        h: its input, shape (n, k).
        J: first derivatives of h, shape (n or 1, d, k).
        T: second derivatives of h, shape (n or 1, d, k), or their sum over the coordinates, shape (n or 1, 1, k).

    Returns:
        s(a) and s′(a), shape (n, 1, k′); J and T of a; the squares of that J, summed where T is.
    """
    s = layer(h).sigmoid()[:, None]
    summed = T.shape[1] < J.shape[1]
    J, T = J @ layer.weight.T, T @ layer.weight.T
    squares = J.square().sum(1, keepdim=True) if summed else J.square()
    return s, s * (1 - s), J, T, squares


# ------------------------------------------------------------------------------------------------ score matching


def score(log_phi: LogPhi, x: Tensor) -> Tensor:
    r"""The score :math:`\psi(x) = \nabla_x \log \phi(x)` by autograd, shape (n, d).

    It can be differentiated again, by x where x requires a gradient, unless gradients are switched off around it.
    """
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad(log_phi(x).sum(), x, create_graph=keep)[0]


def hessian_diagonal(log_phi: LogPhi, x: Tensor) -> tuple[Tensor, Tensor]:
    r"""The score and :math:`\partial_i^2 \log \phi(x)`, shape (n, d) both, by autograd, for any density.

    Each of the d numbers takes one more pass backward.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        psi = score(log_phi, x)
        rows = [
            torch.autograd.grad(psi[:, i].sum(), x, create_graph=True)[0][:, i]
            for i in range(x.shape[1])
        ]
    return psi, torch.stack(rows, 1)


def hyvarinen(psi: Tensor, trace: Tensor) -> Tensor:
    r""":math:`\tfrac12 \lVert \psi \rVert^2 + \operatorname{tr} \nabla \psi` as a mean over the batch.

    Arguments:
        psi: the score, shape (n, d).
        trace: the sum of its d derivatives, each by its own coordinate, shape (n,).
    """
    return (0.5 * psi.square().sum(1) + trace).mean()


def score_matching_loss(log_phi: LogPhi, x: Tensor, *, lam: float = 0.0) -> Tensor:
    r"""Score matching for any density, in d + 1 passes backward, to be minimised.

    .. math:: J = E\Big[ \tfrac12 \lVert \psi(x) \rVert^2 + \sum_i \partial_i \psi_i(x)
        + \lambda \sum_i (\partial_i \psi_i(x))^2 \Big], \qquad \psi = \nabla_x \log \phi

    For λ = 0, J is :math:`\tfrac12 E \lVert \psi(x) - \nabla \log p_d(x) \rVert^2` less a number that depends on the
    data alone, for data that fill the space with a smooth density :math:`p_d`. :meth:`DeepEnergyModel.loss` computes
    the same in one pass.

    Arguments:
        log_phi: :math:`\log \phi`.
        x: data, shape (n, d).
        lam: λ ≥ 0.

    Returns:
        a scalar.

    References:
        Hyvärinen (2005), Estimation of non-normalized statistical models by score matching; Kingma & LeCun (2010),
        Regularized estimation of image statistics by score matching.
    """
    check.data(x)
    check.non_negative(lam=lam)
    psi, second = hessian_diagonal(log_phi, x)
    return hyvarinen(psi, second.sum(1)) + lam * second.square().sum(1).mean()


def sliced_score_matching_loss(
    log_phi: LogPhi, x: Tensor, *, n_slices: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    r"""Score matching with the trace estimated from random directions, to be minimised.

    .. math:: E\left[ \tfrac12 \lVert \psi(x) \rVert^2 + v^\top \nabla \psi(x)\, v \right],
        \qquad v \in \{-1, 1\}^d, \quad E\, v v^\top = I

    One pass backward a direction, whatever d is. The mean over v is :func:`score_matching_loss` at λ = 0.

    Arguments:
        log_phi: :math:`\log \phi`.
        x: data, shape (n, d).
        n_slices: directions for each sample, ≥ 1.
        generator: of the directions.

    References:
        Song, Garg, Shi & Ermon (2019), Sliced score matching (their variant with less variance).
    """
    check.data(x)
    check.at_least(1, n_slices=n_slices)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        psi, trace = score(log_phi, x), 0.0
        for _ in range(n_slices):
            v = 2.0 * integers(2, x.shape, x.device, generator) - 1
            Hv = torch.autograd.grad((psi * v).sum(), x, create_graph=True)[0]
            trace = trace + (v * Hv).sum(1) / n_slices
    return hyvarinen(psi, trace)


def denoising_score_matching_loss(
    log_phi: LogPhi, x: Tensor, sd: float, *, generator: torch.Generator | None = None
) -> Tensor:
    r"""Score matching to noisy data :math:`\tilde x = x + \text{sd} \cdot \epsilon`, without second derivatives.

    .. math:: \tfrac12 E \left\lVert \psi(\tilde x) - \frac{x - \tilde x}{\text{sd}^2} \right\rVert^2

    Its best ψ is the score of the noisy data, so the model learns a density smoothed by the noise.

    Arguments:
        log_phi: :math:`\log \phi`.
        x: data, shape (n, d).
        sd: standard deviation of the noise, > 0.
        generator: of the noise.

    References:
        Vincent (2011), A connection between score matching and denoising autoencoders.
    """
    check.data(x)
    check.positive(sd=sd)
    epsilon = noise(x.shape, x, generator)
    with torch.enable_grad():
        psi = score(log_phi, x + sd * epsilon)
    return 0.5 * (psi + epsilon / sd).square().sum(1).mean()


# ------------------------------------------------------------------------------------------------ chains


@torch.no_grad()
def langevin(
    log_phi: LogPhi,
    x: Tensor,
    step: float,
    n_steps: int = 1,
    *,
    adjust: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, float]:
    r"""A walk uphill in log φ with noise, whose places are samples of p in the long run and for small steps.

    .. math:: x \leftarrow x + \tfrac12 \epsilon^2 \psi(x) + \epsilon\, \xi, \qquad \xi \sim N(0, I)

    Arguments:
        log_phi: :math:`\log \phi`.
        x: where the walks start, shape (n, d).
        step: ε > 0, in units of the data.
        n_steps: ≥ 0.
        adjust: whether to accept or reject each step (Metropolis and Hastings), which makes p exact for any ε.
        generator: of the noise.

    Returns:
        where the walks end, shape (n, d), without gradient, and the share of accepted steps (1 without ``adjust``).

    References:
        Roberts & Tweedie (1996), Exponential convergence of Langevin distributions and their discrete approximations.
    """
    check.positive(step=step)
    check.at_least(0, n_steps=n_steps)
    rate = torch.ones(max(n_steps, 1), dtype=x.dtype, device=x.device)
    for i in range(n_steps):
        drift = 0.5 * step**2 * score(log_phi, x)
        y = x + drift + step * noise(x.shape, x, generator)
        if adjust:
            back = y + 0.5 * step**2 * score(log_phi, y)
            log_ratio = (y - x - drift).square().sum(1) - (x - back).square().sum(1)
            log_accept = log_phi(y) - log_phi(x) + log_ratio / (2 * step**2)
            accept = uniform(len(x), x, generator).log() < log_accept
            y, rate[i] = torch.where(accept[:, None], y, x), accept.to(x.dtype).mean()
        x = y
    return x, rate.mean().item()


@torch.no_grad()
def climb(log_phi: LogPhi, x: Tensor, step: float, n_steps: int = 100) -> Tensor:
    r"""Ascends log φ toward a mode: the walk of :func:`langevin` without noise.

    A step that would lead down is not made; that sample halves its step size from there on.

    Arguments:
        log_phi: :math:`\log \phi`.
        x: where the walks start, shape (n, d).
        step: ε > 0, in units of the data, at the start: moves are :math:`\tfrac12 \epsilon^2 \psi(x)`.
        n_steps: ≥ 0.

    Returns:
        all places, shape (n_steps + 1, n, d); log φ falls nowhere along a path.
    """
    check.positive(step=step)
    check.at_least(0, n_steps=n_steps)
    path, height = [x], log_phi(x)
    half_square = torch.full_like(height, 0.5 * step**2)
    for _ in range(n_steps):
        y = x + half_square[:, None] * score(log_phi, x)
        up = log_phi(y) >= height
        x = torch.where(up[:, None], y, x)
        half_square = torch.where(up, half_square, 0.25 * half_square)
        height = log_phi(x)
        path.append(x)
    return torch.stack(path)


class ContrastiveDivergence:
    r"""The loss of contrastive divergence, for any model with an energy and any chain.

    .. math:: \overline{E(x)} - \overline{E(\tilde x)}

    with :math:`\tilde x` the ends of chains, held fixed: its gradient lowers the energy of the data and lifts it where
    the chains have gone. The value is no likelihood. Use it as ``train.fit(model, x, loss=ContrastiveDivergence(…))``.

    Arguments:
        model: with ``energy(x)``, shape (n,).
        sampler: from places, shape (m, d), to where the chains are after a few steps.
        x0: places of persistent chains, shape (m, d), which then go on from update to update and never return to the
            data; short chains that begin at each batch where ``None``.

    Attributes:
        chains: where the persistent chains are, or where the last short ones ended.

    References:
        Hinton (2002), Training products of experts by minimizing contrastive divergence; Tieleman (2008) for
        persistent chains.

    Example:
        >>> model = DeepEnergyModel([64, 100])
        >>> loss = ContrastiveDivergence(model, lambda x: langevin(model.log_phi, x, 0.1, 10)[0])
    """

    def __init__(
        self, model: nn.Module, sampler: Callable[[Tensor], Tensor], x0: Tensor | None = None
    ):
        self.model, self.sampler, self.persistent = model, sampler, x0 is not None
        self.chains = None if x0 is None else check.data(x0, "x0").detach()

    def __call__(self, x: Tensor) -> Tensor:
        r"""A scalar for the batch x, shape (n, d); advances the chains.

        Raises:
            FloatingPointError: if a chain has left for infinity.
        """
        check.data(x)
        self.chains = self.sampler(self.chains if self.persistent else x).detach()
        if not torch.isfinite(self.chains).all():
            raise FloatingPointError(
                "a chain has run off to infinity; try a smaller step, or a smaller learning rate"
            )
        return self.model.energy(x).mean() - self.model.energy(self.chains).mean()
