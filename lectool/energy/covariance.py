r"""Chapter 10: machines whose hidden units set the covariance of real visible units.

Visible units x ∈ ℝ^d. Hidden bits z change their mean, hidden bits y their covariance. In an equation a filter is a
column, in code a row: W, R and P of the lecture are ``W.T``, ``R.T`` and ``P.T`` here, as in a restricted Boltzmann
machine.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lectool import check, random
from lectool.boltzmann.states import all_bits
from lectool.energy.hybrid import Chains, hmc
from lectool.moments import covariance, eigen, mean

__all__ = [
    "CovarianceRBM",
    "MeanCovarianceRBM",
    "SemiRestrictedRBM",
    "few_bits",
    "neighbor_correlation",
    "normalized",
]

LOG_2_PI = math.log(2 * math.pi)


def few_bits(k: int, like: Tensor) -> Tensor:
    r"""All settings of k bits, shape (2^k, k), of the type and on the device of ``like``.

    Raises:
        ValueError: if k is above 16, where a sum over them would take too much room.
    """
    if k > 16:
        raise ValueError(f"{k} hidden units; a sum over all their states is offered for at most 16")
    return all_bits(k, like)


# ------------------------------------------------------------------------------------------------ what both share


class _Contrastive(nn.Module):
    r"""Training by contrastive divergence: needs ``free_energy(x)`` and ``chain(x)``, which moves samples on.

    Arguments:
        d: number of visible units.
        n_chains: how many samples live on from batch to batch; where 0, chains start at the data.
    """

    def __init__(self, d: int, n_chains: int) -> None:
        super().__init__()
        check.at_least(1, d=d)
        check.at_least(0, n_chains=n_chains)
        self.register_buffer("particles", torch.randn(n_chains, d))

    def negatives(self, x: Tensor) -> Tensor:
        r"""Samples to hold against a batch: the particles moved on, or the batch itself where there are none."""
        if len(self.particles) == 0:
            return self.chain(x.detach())
        x = self.chain(self.particles)
        if self.training:
            self.particles.copy_(x)
        return x

    def loss(self, x: Tensor) -> Tensor:
        r"""The mean free energy of the data, shape (n, d), less that of :meth:`negatives`, which are held fixed.

        Its gradient is that of (persistent) contrastive divergence. The value is no likelihood and need not fall.
        """
        check.data(x, width=self.particles.shape[1])
        return self.free_energy(x).mean() - self.free_energy(self.negatives(x)).mean()


# ------------------------------------------------------------------------------------------------ semi-restricted


class SemiRestrictedRBM(_Contrastive):
    r"""Hidden bits for the mean of real visible units, which are also tied to one another.

    .. math:: \log p(x, z) \doteq -\tfrac12 (x - a)^\top \Lambda (x - a) + b^\top z + x^\top \Lambda W z

    Completing the square shows that Λ is the precision of the visible units given the hidden ones, whatever these are:

    .. math:: p(x \mid z) = N(x;\ a + W z,\ \Lambda^{-1}), \qquad
              p(z_k = 1 \mid x) = \sigma(w_k^\top \Lambda x + b_k),

    so that p(x) is a mixture of 2^k Gaussians of one covariance, and the visible units are drawn together, not one by
    one.

    Λ alone can take up all of the data's covariance, and leaves the hidden units what a Gaussian does not explain. With
    W near 0 training therefore stops at the Gaussian for long; a wide start, at the scale of the data, does not.

    Arguments:
        d: number of visible units, ≥ 1.
        k: number of hidden units, ≥ 1.
        scale: standard deviation of the entries of W at the start, in units of x, > 0.
        n_gibbs: Gibbs steps behind each sample of :meth:`loss`, ≥ 1.
        n_chains: particles of persistent contrastive divergence; where 0, chains start at the data.

    Attributes:
        a, b: biases, shapes (d,) and (k,).
        W: shape (k, d).
        L: :math:`\Lambda = L L^\top` with L lower triangular; the diagonal holds the logarithms, so that Λ stays
            positive definite. What stands above the diagonal is not used.

    Raises:
        ValueError: if a number is out of range; for data of another width or with NaN.

    References:
        Osindero & Hinton (2007), Modeling image patches with a directed hierarchy of Markov random fields.

    Example:
        >>> model = SemiRestrictedRBM(6, 3)
        >>> model.loss(torch.randn(10, 6)).shape, model.log_prob(torch.randn(10, 6)).shape
        (torch.Size([]), torch.Size([10]))
    """

    def __init__(
        self, d: int, k: int, *, scale: float = 0.1, n_gibbs: int = 1, n_chains: int = 0
    ) -> None:
        super().__init__(d, n_chains)
        check.at_least(1, k=k, n_gibbs=n_gibbs)
        check.positive(scale=scale)
        self.n_gibbs = n_gibbs
        self.W = nn.Parameter(scale * torch.randn(k, d))
        self.a = nn.Parameter(torch.zeros(d))
        self.b = nn.Parameter(torch.zeros(k))
        self.L = nn.Parameter(torch.zeros(d, d))

    @property
    def factor(self) -> Tensor:
        r"""The lower triangular L with :math:`\Lambda = L L^\top`, shape (d, d)."""
        return self.L.tril(-1) + self.L.diagonal().exp().diag()

    @property
    def precision(self) -> Tensor:
        r"""Λ, shape (d, d)."""
        return self.factor @ self.factor.T

    @torch.no_grad()
    def start_at(self, x: Tensor, eps: float = 1e-3) -> None:
        r"""Sets a and Λ to mean and precision of the data, shape (n, d), and puts the particles there.

        Arguments:
            x: data.
            eps: added to the variances, as a share of the largest one, > 0.
        """
        check.positive(eps=eps)
        center = mean(check.data(x, width=len(self.a)))
        axes, variances = eigen(covariance(x, center))
        axes = axes / (variances + eps * variances[0]).sqrt()[:, None]
        L = torch.linalg.cholesky(axes.T @ axes).to(self.L)
        self.a.copy_(center)
        self.L.copy_(L.tril(-1) + L.diagonal().log().diag())
        rows = random.integers(len(x), len(self.particles), x.device)
        self.particles.copy_(x[rows])

    def energy(self, x: Tensor, z: Tensor) -> Tensor:
        r"""E(x, z) in nats, for x (…, d) and z (…, k): shape (…)."""
        quadratic = 0.5 * ((x - self.a) @ self.factor).square().sum(-1)
        return quadratic - z @ self.b - (x @ self.precision * (z @ self.W)).sum(-1)

    def free_energy(self, x: Tensor) -> Tensor:
        r"""The energy with the hidden units summed out, in nats, shape (n,).

        .. math:: F(x) = \tfrac12 (x - a)^\top \Lambda (x - a) - \sum_k \log(1 + e^{w_k^\top \Lambda x + b_k})
        """
        quadratic = 0.5 * ((x - self.a) @ self.factor).square().sum(1)
        return quadratic - F.softplus(x @ self.precision @ self.W.T + self.b).sum(1)

    def hidden_given_visible(self, x: Tensor) -> Tensor:
        r"""p(z = 1 | x), shape (n, k)."""
        return torch.sigmoid(x @ self.precision @ self.W.T + self.b)

    def visible_given_hidden(self, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean, shape (n, d), and covariance :math:`\Lambda^{-1}`, shape (d, d), of p(x | z)."""
        return self.a + z @ self.W, torch.cholesky_inverse(self.factor)

    @torch.no_grad()
    def gibbs(
        self, x: Tensor, n_steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Visible units after rounds of block Gibbs sampling, each z given x and then x given z.

        Arguments:
            x: where the chains start, shape (n, d).
            n_steps: rounds, ≥ 0.
            generator: of the draws.
        """
        check.at_least(0, n_steps=n_steps)
        for _ in range(n_steps):
            z = random.bernoulli(self.hidden_given_visible(x), generator)
            x = self.a + z @ self.W + self.correlated_noise(x, generator)
        return x

    def correlated_noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""Draws from :math:`N(0, \Lambda^{-1})`, which are L⁻ᵀ ε, of the shape of ``like``, (n, d)."""
        epsilon = random.noise(like.shape, like, generator)
        return torch.linalg.solve_triangular(self.factor.T, epsilon.T, upper=True).T

    def chain(self, x: Tensor) -> Tensor:
        r"""``gibbs`` with the model's own number of steps."""
        return self.gibbs(x, self.n_gibbs)

    @torch.no_grad()
    def sample(
        self, n: int, n_steps: int = 100, *, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Samples, shape (n, d), n_steps Gibbs rounds behind draws of x with all hidden units off."""
        check.at_least(1, n=n)
        start = self.a + self.correlated_noise(self.a.expand(n, -1), generator)
        return self.gibbs(start, n_steps, generator)

    def log_z(self) -> Tensor:
        r"""Logarithm of the normaliser, exactly, by a sum over 2^k states of z; a scalar, in nats.

        .. math:: Z = \frac{(2 \pi)^{d/2}}{\lvert \Lambda \rvert^{1/2}} \sum_z
            e^{b^\top z + a^\top \Lambda W z + \frac12 z^\top W^\top \Lambda W z}

        Raises:
            ValueError: if k > 16.
        """
        z = few_bits(len(self.b), self.W)
        half = z @ self.W @ self.factor  # L^T W z
        log_weight = z @ self.b + half @ (self.a @ self.factor) + 0.5 * half.square().sum(1)
        half_log_det = self.L.diagonal().sum()  # log |L|, half of log |Λ|
        return log_weight.logsumexp(0) + 0.5 * len(self.a) * LOG_2_PI - half_log_det

    def log_prob(self, x: Tensor) -> Tensor:
        r"""Log-density in nats, shape (n,), exactly; k ≤ 16."""
        return -self.free_energy(check.data(x, width=len(self.a))) - self.log_z()


# ------------------------------------------------------------------------------------------------ mean and covariance


def normalized(x: Tensor, offset: float = 0.5) -> Tensor:
    r"""Rows of nearly one length: :math:`\tilde x = x / \sqrt{\lVert x \rVert^2 / d + \text{offset}}`, shape (n, d).

    Ranzato and Hinton give this to the covariance units, so that these see the shape of a patch and not its contrast.
    With the median of the patches' mean squares for the offset it makes patches of photographs less unequal in
    contrast, and a faint one is not blown up.

    Arguments:
        x: shape (n, d).
        offset: in the units of x², ≥ 0.
    """
    return x / (x.square().mean(-1, keepdim=True) + offset).sqrt()


class MeanCovarianceRBM(_Contrastive):
    r"""The mean–covariance RBM: bits z that move the mean of the visible units, bits y that shape their covariance.

    .. math:: \log p(x, y, z) \doteq -\tfrac12 \lVert x - a \rVert^2 + x^\top W z + b^\top z
        + \sum_{f, m} (r_f^\top x)^2 P_{f m} y_m + c^\top y, \qquad P_{f m} \le 0 .

    It is a Gaussian in x, and a product of bits given x:

    .. math:: p(x \mid y, z) = N\big(\Sigma (a + W z),\ \Sigma\big), \qquad
        \Sigma = \big(I - 2 R \operatorname{diag}(P y) R^\top\big)^{-1}

    .. math:: p(z_k = 1 \mid x) = \sigma(w_k^\top x + b_k), \qquad
        p(y_m = 1 \mid x) = \sigma\Big(\sum_f P_{f m} (r_f^\top x)^2 + c_m\Big)

    A unit y that is on holds x near the plane :math:`r_f^\top x = 0`; one that goes off says that this smoothness is
    broken here, at the price :math:`c_m`. As P ≤ 0, Σ never exceeds the identity: no direction varies by more than 1
    but through z, so data should be scaled to variances of about 1 in their widest direction.

    With ``normalize`` the covariance units see :func:`normalized` x, as Ranzato and Hinton have it. Their demand then
    does not depend on contrast, and directions may vary by more than 1; but p(x | y, z) is no longer Gaussian, and
    only hybrid Monte Carlo is left to sample with.

    Arguments:
        d: number of visible units, ≥ 1.
        k: number of mean units z, ≥ 0. With none this is the covariance RBM.
        m: number of covariance units y, ≥ 0. With none this is the Gaussian RBM with σ = 1.
        n_factors: filters r_f; as many as m where ``None``.
        normalize: whether the covariance units see normalized data.
        n_hmc: rounds of hybrid Monte Carlo behind each sample of :meth:`loss`, ≥ 1.
        n_leapfrog: leapfrog steps a round, ≥ 1.
        n_chains: particles of persistent contrastive divergence; where 0, chains start at the data.

    Attributes:
        a, b, c: biases of x, z and y, shapes (d,), (k,), (m,). The lecture writes a bias :math:`b^\top x`, which adds
            to a and changes nothing; z needs one of its own.
        W: shape (k, d).
        R: filters, shape (n_factors, d).
        Q: :math:`P = -Q^2`, entry by entry, shape (m, n_factors): P cannot become positive.
        step: of the leapfrog, adapted in training to an acceptance rate of 0.9.
        rate: acceptance rate of the last round.

    Raises:
        ValueError: if a number is out of range; for data of another width or with NaN.

    References:
        Ranzato & Hinton (2010), Modeling pixel means and covariances using factorized third-order Boltzmann machines.

    Example:
        >>> model = MeanCovarianceRBM(6, 3, 4)
        >>> mean, cov = model.visible_given_hidden(torch.ones(2, 4), torch.ones(2, 3))
        >>> mean.shape, cov.shape
        (torch.Size([2, 6]), torch.Size([2, 6, 6]))
    """

    def __init__(
        self,
        d: int,
        k: int,
        m: int,
        *,
        n_factors: int | None = None,
        normalize: bool = False,
        n_hmc: int = 1,
        n_leapfrog: int = 20,
        n_chains: int = 0,
    ) -> None:
        super().__init__(d, n_chains)
        n_factors = m if n_factors is None else n_factors
        check.at_least(0, k=k, m=m, n_factors=n_factors)
        check.at_least(1, n_hmc=n_hmc, n_leapfrog=n_leapfrog)
        if (m > 0) != (n_factors > 0) or k + m == 0:
            raise ValueError(
                f"k = {k}, m = {m}, n_factors = {n_factors}; expected hidden units, and factors "
                "where there are covariance units"
            )
        self.normalize, self.n_hmc, self.n_leapfrog = normalize, n_hmc, n_leapfrog
        self.W = nn.Parameter(0.05 * torch.randn(k, d))
        self.R = nn.Parameter(torch.randn(n_factors, d) / d**0.5)
        # Each factor begins with a unit of its own, and with a little of the others.
        own = torch.arange(m)[:, None] % max(n_factors, 1) == torch.arange(n_factors) % max(m, 1)
        self.Q = nn.Parameter(own.float() + 0.02 * torch.randn(m, n_factors))
        self.a = nn.Parameter(torch.zeros(d))
        self.b = nn.Parameter(torch.zeros(k))
        self.c = nn.Parameter(torch.full((m,), 2.0))  # covariance units are on by default
        self.register_buffer("step", torch.tensor(0.05))
        self.register_buffer("rate", torch.tensor(1.0))

    @property
    def P(self) -> Tensor:
        r"""What each covariance unit asks of each factor, shape (m, n_factors), at most 0."""
        return -self.Q.square()

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        r"""Sets a to the mean of the data, shape (n, d).

        Particles stay where they began, at draws from N(0, I). From data they would not reach the wide region where all
        units y are off, and nothing would keep the model from putting its mass there.
        """
        self.a.copy_(mean(check.data(x, width=len(self.a))))

    def covariance_input(self, x: Tensor) -> Tensor:
        r"""What reaches the units y, :math:`\sum_f P_{fm} (r_f^\top x)^2 + c_m`, shape (n, m)."""
        seen = normalized(x) if self.normalize else x
        return (seen @ self.R.T).square() @ self.P.T + self.c

    def mean_input(self, x: Tensor) -> Tensor:
        r"""What reaches the units z, :math:`w_k^\top x + b_k`, shape (n, k)."""
        return x @ self.W.T + self.b

    def energy(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        r"""E(x, y, z) in nats, for x (…, d), y (…, m), z (…, k): shape (…)."""
        hidden = (y * self.covariance_input(x)).sum(-1) + (z * self.mean_input(x)).sum(-1)
        return 0.5 * (x - self.a).square().sum(-1) - hidden

    def free_energy(self, x: Tensor) -> Tensor:
        r"""The energy with y and z summed out, in nats, shape (n,).

        .. math:: F(x) = \tfrac12 \lVert x - a \rVert^2 - \sum_k \log(1 + e^{w_k^\top x + b_k})
            - \sum_m \log\Big(1 + e^{\sum_f P_{f m} (r_f^\top x)^2 + c_m}\Big)
        """
        spread = 0.5 * (x - self.a).square().sum(1)
        of_mean = F.softplus(self.mean_input(x)).sum(1)
        return spread - of_mean - F.softplus(self.covariance_input(x)).sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        r""":math:`\nabla F(x)`, shape (n, d): in closed form, twice as fast as by automatic differentiation."""
        y, z = self.hidden_given_visible(x)
        seen = normalized(x) if self.normalize else x
        pull = 2 * (y @ self.P) * (seen @ self.R.T) @ self.R
        if self.normalize:  # through x / s, s² = ‖x‖² / d + ½
            along = (seen * pull).mean(1, keepdim=True)
            pull = (pull - seen * along) / (x.square().mean(1, keepdim=True) + 0.5).sqrt()
        return x - self.a - z @ self.W - pull

    def hidden_given_visible(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""p(y = 1 | x), shape (n, m), and p(z = 1 | x), shape (n, k)."""
        return torch.sigmoid(self.covariance_input(x)), torch.sigmoid(self.mean_input(x))

    def encode(self, x: Tensor) -> Tensor:
        r"""p(y = 1 | x) and p(z = 1 | x) side by side, shape (n, m + k), for data of shape (n, d)."""
        check.data(x, width=len(self.a))
        return torch.cat(self.hidden_given_visible(x), 1)

    def precision(self, y: Tensor) -> Tensor:
        r""":math:`I - 2 R \operatorname{diag}(P y) R^\top` for y of shape (n, m): shape (n, d, d).

        Raises:
            ValueError: with ``normalize``, where p(x | y, z) is no Gaussian.
        """
        if self.normalize:
            raise ValueError(
                "with normalize=True p(x | y, z) is not Gaussian; expected normalize=False, or sample by hmc"
            )
        weight = -2 * (y @ self.P)  # (n, n_factors), at least 0
        return torch.eye(len(self.a)).to(weight) + self.R.T @ (weight[:, :, None] * self.R)

    def visible_given_hidden(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean, shape (n, d), and covariance, shape (n, d, d), of p(x | y, z).

        Raises:
            ValueError: as :meth:`precision` does.
        """
        cov = torch.cholesky_inverse(torch.linalg.cholesky(self.precision(y)))
        return (cov @ (self.a + z @ self.W)[:, :, None]).squeeze(2), cov

    @torch.no_grad()
    def gibbs(
        self, x: Tensor, n_steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Visible units after rounds of block Gibbs sampling: y and z given x, then x given both.

        Each row has a covariance of its own, and a Cholesky factor at d³/3: right for small d, and a check of
        hybrid Monte Carlo.

        Arguments:
            x: where the chains start, shape (n, d).
            n_steps: rounds, ≥ 0.
            generator: of the draws.

        Raises:
            ValueError: as :meth:`precision` does.
        """
        check.at_least(0, n_steps=n_steps)
        for _ in range(n_steps):
            y, z = (random.bernoulli(p, generator) for p in self.hidden_given_visible(x))
            L = torch.linalg.cholesky(self.precision(y))
            center = torch.cholesky_solve((self.a + z @ self.W)[:, :, None], L)
            epsilon = random.noise(x.shape, x, generator)[:, :, None]
            x = (center + torch.linalg.solve_triangular(L.mT, epsilon, upper=True)).squeeze(2)
        return x

    @torch.no_grad()
    def hmc(
        self,
        x: Tensor,
        n_steps: int = 1,
        *,
        step: float | Tensor | None = None,
        target: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Chains:
        r"""Chains on the free energy, from x, shape (n, d): :func:`lectool.energy.hmc` at the model's step size."""
        return hmc(
            self.free_energy,
            x,
            n_steps,
            step=self.step if step is None else step,
            n_leapfrog=self.n_leapfrog,
            target=target,
            gradient=self.gradient,
            generator=generator,
        )

    def chain(self, x: Tensor) -> Tensor:
        r"""``hmc`` with the model's own number of rounds; in training its step size is adapted."""
        chains = self.hmc(x, self.n_hmc, target=0.9 if self.training else None)
        if self.training:
            self.step.copy_(chains.step)
            self.rate.copy_(chains.rate)
        return chains.x

    @torch.no_grad()
    def sample(
        self, n: int, n_steps: int = 200, *, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Samples, shape (n, d), n_steps rounds of hybrid Monte Carlo behind draws from N(a, I).

        The step size is adapted in the first half of the rounds and fixed in the second.
        """
        check.at_least(1, n=n)
        start = self.a + random.noise((n, len(self.a)), self.a, generator)
        burnt = self.hmc(start, n_steps // 2, target=0.9, generator=generator)
        rest = n_steps - n_steps // 2
        return self.hmc(burnt.x, rest, step=burnt.step, generator=generator).x

    def log_z(self) -> Tensor:
        r"""Logarithm of the normaliser, exactly, by a sum over :math:`2^{k + m}` Gaussians; a scalar, in nats.

        .. math:: Z = (2 \pi)^{d/2} e^{-\frac12 \lVert a \rVert^2} \sum_{y, z} \lvert \Sigma \rvert^{1/2}
            e^{b^\top z + c^\top y + \frac12 (a + W z)^\top \Sigma (a + W z)}

        Raises:
            ValueError: if k + m > 16, or as :meth:`precision` does.
        """
        m, d = len(self.c), len(self.a)
        y, z = few_bits(m + len(self.b), self.a).tensor_split([m], 1)
        pull = self.a + z @ self.W
        center, cov = self.visible_given_hidden(y, z)
        log_weight = z @ self.b + y @ self.c + 0.5 * (pull * center).sum(1) + 0.5 * cov.logdet()
        return log_weight.logsumexp(0) - 0.5 * self.a.square().sum() + 0.5 * d * LOG_2_PI

    def log_prob(self, x: Tensor) -> Tensor:
        r"""Log-density in nats, shape (n,), exactly; k + m ≤ 16 and ``normalize=False``."""
        return -self.free_energy(check.data(x, width=len(self.a))) - self.log_z()


class CovarianceRBM(MeanCovarianceRBM):
    r"""The covariance RBM: a :class:`MeanCovarianceRBM` with no mean units.

    Arguments:
        d, m: numbers of visible and of covariance units, ≥ 1.
        options: as in :class:`MeanCovarianceRBM`.
    """

    def __init__(self, d: int, m: int, **options) -> None:
        check.at_least(1, m=m)
        super().__init__(d, 0, m, **options)


def neighbor_correlation(x: Tensor, shape: tuple[int, int], lag: int = 1) -> float:
    r"""The mean product of pixels side by side, over the mean square of a pixel: about 0 for noise, 1 for flat patches.

    Arguments:
        x: centered patches, shape (n, height · width).
        shape: (height, width).
        lag: how far apart, in pixels, ≥ 1; to the right and below.

    Returns:
        a number.
    """
    check.inside(f"[1, {min(shape) - 1}]", lag=lag)
    images = check.data(x, width=math.prod(shape)).reshape(-1, *shape)
    right = (images[:, :, lag:] * images[:, :, :-lag]).mean()
    below = (images[:, lag:] * images[:, :-lag]).mean()
    return ((right + below) / 2 / images.square().mean()).item()
