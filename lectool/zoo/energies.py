r"""Chapter 15: discriminators that are energies, low where data are and high elsewhere.

An autoencoder's error is one (EBGAN, BEGAN); in the energy game it is the energy of a Boltzmann density, which a
generator supplies with negative samples.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from lectool import check
from lectool.gan import Game, Player, draw_latent, two_player

__all__ = [
    "AutoencoderEnergy",
    "Balance",
    "Margin",
    "boltzmann",
    "ebgan",
    "energy_game",
    "neighbor_entropy",
    "pulling_away",
]


# ----------------------------------------------------------------------------------- an autoencoder as a judge


class AutoencoderEnergy(nn.Module):
    r"""The error of an autoencoder as the energy of a sample, a mean over its d numbers.

    .. math:: D(x) = \tfrac1d \sum_j \lvert \mathrm{Dec}(\mathrm{Enc}(x))_j - x_j \rvert^p

    Arguments:
        encoder, decoder: (n, …) → (n, k) → the shape of the data.
        power: p, > 0; 2 is the mean squared error, 1 the mean absolute error.

    Input and output: (n, …) → (n, 1), ≥ 0, in units of the data to the power p.

    Raises:
        ValueError: if ``power`` is not positive.

    References:
        Zhao, Mathieu, LeCun (2017), Energy-based generative adversarial network, section 2.3.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, power: float = 2) -> None:
        super().__init__()
        check.positive(power=power)
        self.encoder, self.decoder, self.power = encoder, decoder, power

    def forward(self, x: Tensor) -> Tensor:
        error = self.decoder(self.encoder(x)) - x
        return error.abs().pow(self.power).flatten(1).mean(1, keepdim=True)


class Margin:
    r"""EBGAN's two losses: fakes are pushed up only as long as their energy is below a margin.

    .. math:: L_D = \mathbb E\, D(x) + \mathbb E \max(0, m - D(G(z))), \qquad L_G = \mathbb E\, D(G(z))

    Arguments:
        m: the margin, > 0, in units of the energy; ∞ for none, where the second term is
            :math:`-\mathbb E\, D(G(z))`.

    Raises:
        ValueError: if ``m`` is not positive.

    References:
        Zhao, Mathieu, LeCun (2017), Energy-based generative adversarial network, equations 1 and 2.
    """

    needs_real = False

    def __init__(self, m: float) -> None:
        if not m > 0:
            raise ValueError(f"m is {m}; expected a number > 0, or ∞")
        self.m = m

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        push = -fake if math.isinf(self.m) else relu(self.m - fake)
        return real.mean() + push.mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return fake.mean()


def pulling_away(codes: Tensor) -> Tensor:
    r"""How much the codes of a batch point the same way: the mean squared cosine of two different ones.

    .. math:: \mathrm{PT}(S) = \frac1{n (n - 1)} \sum_i \sum_{j \ne i}
        \left( \frac{s_i^\top s_j}{\lVert s_i \rVert \lVert s_j \rVert} \right)^2

    Arguments:
        codes: S, one row a sample, shape (n, k), n ≥ 2.

    Returns:
        a scalar from 0 to 1; 1/k on average for directions at random.

    Raises:
        ValueError: if there are fewer than two codes, or they are no vectors.

    References:
        Zhao, Mathieu, LeCun (2017), Energy-based generative adversarial network, equation 4.
    """
    if codes.ndim != 2 or len(codes) < 2:
        raise ValueError(f"codes have shape {tuple(codes.shape)}; expected (n, k) with n ≥ 2")
    directions = normalize(codes, dim=1)
    squares = (directions @ directions.T).square()
    return (squares.sum() - squares.diagonal().sum()) / (len(codes) * (len(codes) - 1))


def ebgan(
    G: nn.Module,
    D: AutoencoderEnergy,
    m: float,
    *,
    pull: float = 0.0,
    lr: float | tuple[float, float] = 1e-3,
    betas: tuple[float, float] = (0.5, 0.999),
    latent: int | Sequence[int] | None = None,
) -> Game:
    r"""The game of a generator against an autoencoder, with :class:`Margin` and the pulling-away term.

    Arguments:
        G: maps codes (n, \*latent) to fakes.
        D: the autoencoder's error as an energy.
        m: the margin, > 0, or ∞.
        pull: weight ≥ 0 of :func:`pulling_away` of the fakes' codes in the generator's loss.
        lr: step size of both, or (G's, D's).
        betas: of Adam.
        latent: shape of one code; ``G.latent`` where ``None``.

    Raises:
        ValueError: if a setting is out of range.
    """
    check.non_negative(pull=pull)
    game = two_player(G, D, Margin(m), lr=lr, betas=betas, latent=latent)
    maker = game.makers["generator"]
    unpulled = maker.loss

    def loss(made: dict[str, Any]) -> dict[str, Tensor]:
        pulled = pull * pulling_away(D.encoder(made["fake"]))
        return {"generator": unpulled(made), "pull": pulled}

    if pull:
        maker.loss = loss
    return game


class Balance(nn.Module):
    r"""BEGAN's two losses, and the thermostat that keeps fakes at a set share of the real samples' error.

    .. math:: L_D = \mathbb E\, D(x) - \kappa_t\, \mathbb E\, D(G(z)), \qquad L_G = \mathbb E\, D(G(z)), \qquad
        \kappa_{t + 1} = \kappa_t + \lambda \bigl( \gamma\, \mathbb E\, D(x) - \mathbb E\, D(G(z)) \bigr)

    with :math:`\kappa` kept in [0, 1]; it moves after each loss of the discriminator. The paper writes k for κ.

    Arguments:
        gamma: γ in (0, 1], what :math:`\mathbb E\, D(G(z)) / \mathbb E\, D(x)` is to be.
        lam: λ ≥ 0, step size of κ; 0 leaves it where it starts.
        start: κ₀ in [0, 1].

    Attributes:
        kappa: κ, part of the state that is saved.

    Raises:
        ValueError: if a setting is out of range.

    References:
        Berthelot, Schumm, Metz (2017), BEGAN: boundary equilibrium generative adversarial networks, section 3.4.
    """

    needs_real = False

    def __init__(self, gamma: float = 0.5, lam: float = 1e-3, start: float = 0.0) -> None:
        super().__init__()
        check.inside("(0, 1]", gamma=gamma)
        check.inside("[0, 1]", start=start)
        check.non_negative(lam=lam)
        for name, value in {"gamma": gamma, "lam": lam, "kappa": start}.items():
            self.register_buffer(name, torch.tensor(float(value)))

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake, kappa = real.mean(), fake.mean(), self.kappa.clone()
        push = self.kappa + self.lam * (self.gamma * real - fake).detach()
        self.kappa.copy_(push.clamp(0, 1))
        return real - kappa * fake

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return fake.mean()

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        r"""How far the game has come, small where it is good, a scalar.

        .. math:: M = \mathbb E\, D(x) + \lvert \gamma\, \mathbb E\, D(x) - \mathbb E\, D(G(z)) \rvert
        """
        real, fake = real.mean(), fake.mean()
        return real + (self.gamma * real - fake).abs()


# -------------------------------------------------------------------------- the energy function and its generator


def neighbor_entropy(x: Tensor, k: int = 3) -> Tensor:
    r"""The entropy of the density from which samples come, by the distance to each one's k-th neighbor.

    .. math:: H \approx \frac dn \sum_i \log \rho_{ik} + \log V_d + \psi(n) - \psi(k)

    :math:`\rho_{ik}` is that distance, :math:`V_d` the volume of the unit ball, :math:`\psi` the digamma function.
    The error falls with n, and falls slowly where d is large. It costs all n² distances; the gradient goes
    through the n distances that count.

    Arguments:
        x: shape (n, d), n > k, no two rows equal.
        k: which neighbor, ≥ 1.

    Returns:
        a scalar, in nats.

    Raises:
        ValueError: if ``k`` or the shape is out of range.

    References:
        Kozachenko, Leonenko (1987), Sample estimate of the entropy of a random vector; Kraskov, Stögbauer,
        Grassberger (2004), Estimating mutual information, equation 20.
    """
    check.at_least(1, k=k)
    if x.ndim != 2 or len(x) <= k:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (n, d) with n > {k}")
    n, d = x.shape
    with torch.no_grad():  # who the neighbor is; itself comes first
        near = torch.cdist(x, x).topk(k + 1, largest=False).indices[:, -1]
    log_distance = 0.5 * (x - x[near]).square().sum(1).log()
    log_ball = 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1)
    counts = torch.digamma(torch.tensor([float(n), float(k)], dtype=torch.float64)).tolist()
    return d * log_distance.mean() + log_ball + counts[0] - counts[1]


def energy_game(
    G: nn.Module,
    E: nn.Module,
    *,
    entropy: float = 1.0,
    lr: float | tuple[float, float] = 1e-3,
    betas: tuple[float, float] = (0.5, 0.999),
    latent: int | Sequence[int] | None = None,
    neighbor: int = 3,
    k: int = 1,
) -> Game:
    r"""The saddle point of an energy and a generator of its negative samples.

    .. math:: \max_\theta \min_g\; -\mathbb E_x E(x; \theta) + \mathbb E_z E(g(z); \theta) - T\, H(p_g)

    With T = 1 the inner minimum is reached where :math:`p_g` is the Boltzmann density :math:`e^{-E} / Z`, and the
    gradient in θ is then that of the log-likelihood. With T = 0 it is reached where all samples are one point.

    Arguments:
        G: g, maps codes (n, \*latent) to points (n, d).
        E: (n, d) → (n, 1). One without trainable parameters stands still, and only G moves.
        entropy: T ≥ 0, the weight of the entropy.
        lr: step size of both, or (G's, E's).
        betas: of Adam.
        latent: shape of one code; ``G.latent`` where ``None``.
        neighbor: which neighbor measures the entropy, see :func:`neighbor_entropy`.
        k: updates of E for each of G.

    Raises:
        ValueError: if a setting is out of range.
    """
    check.non_negative(entropy=entropy)
    lr_G, lr_E = lr if isinstance(lr, tuple) else (lr, lr)
    latent = G.latent if latent is None else latent

    def make(real: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        z = draw_latent(len(real), latent, like=real, generator=generator)
        return {"real": real, "fake": G(z)}

    def energy_loss(made: dict[str, Tensor]) -> Tensor:
        return E(made["real"]).mean() - E(made["fake"]).mean()

    def generator_loss(made: dict[str, Tensor]) -> dict[str, Tensor]:
        terms = {"mean energy": E(made["fake"]).mean()}
        if entropy:
            terms["entropy"] = -entropy * neighbor_entropy(made["fake"], neighbor)
        return terms

    learns = any(p.requires_grad for p in E.parameters())
    makers = {"generator": Player(G, generator_loss, lr=lr_G, betas=betas)}
    judges = {"energy": Player(E, energy_loss, lr=lr_E, betas=betas)} if learns else {}
    return Game(makers, judges, make, k=k, others=[] if learns else [E])


@torch.no_grad()
def boltzmann(E: nn.Module, points: Tensor, cell: float) -> tuple[Tensor, Tensor]:
    r"""The Boltzmann density :math:`e^{-E} / Z` on a grid, by the sum over its cells.

    Arguments:
        E: the energy, (n, d) → (n, 1).
        points: the middles of equal cells that cover all places of low energy, shape (n, d).
        cell: volume of a cell, > 0.

    Returns:
        log-density in nats at the points, shape (n,), and log Z, a scalar.

    Raises:
        ValueError: if the volume is not positive.
    """
    check.positive(cell=cell)
    log_phi = -E(points).flatten()
    log_Z = log_phi.logsumexp(0) + math.log(cell)
    return log_phi - log_Z, log_Z
