r"""Chapter 09: the Gaussian–Bernoulli RBM: real visible units, binary hidden ones.

The convention is that in which a hidden unit moves the visible units' mean by its row of W, whatever σ is, so that W
is in units of the data:

.. math:: E(v, h) = \sum_i \frac{(v_i - c_i)^2}{2 \sigma_i^2} - \sum_{j, i} h_j W_{ji} \frac{v_i}{\sigma_i^2}
          - \sum_j b_j h_j, \qquad p(v \mid h) = N\bigl(c + W^\top h, \operatorname{diag} \sigma^2\bigr) .

Others divide :math:`v_i` by :math:`\sigma_i` in the middle term, once. Their means are
:math:`c_i + \sigma_i \sum_j W_{ji} h_j`, and their W is ours divided by σ. For σ = 1 both are the same.
"""

import math
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lectool import check, random
from lectool.boltzmann.rbm import Restricted
from lectool.boltzmann.states import all_bits

__all__ = ["GaussianRBM"]

DIVERGED = 1e3  # times the data's spread, which no useful sample has


class GaussianRBM(Restricted):
    r"""Restricted Boltzmann machine with real visible and binary hidden units.

    Its marginal is a mixture of 2^k Gaussians that share a covariance, see :meth:`mixture`. Data should be
    standardized, or whitened; the step size must be smaller than a binary machine's, as a visible unit has no bounds
    that would hold it.

    Arguments:
        d, k: numbers of visible and hidden units, ≥ 1.
        sigma: standard deviation of the visible units given the hidden ones, a number > 0 or shape (d,).
        learn_sigma: whether σ is a parameter.
        objective: of :meth:`loss`: ``"cd"``, or ``"score matching"``, which needs neither samples nor Z.
        n_gibbs, n_particles, sd: as for :class:`RBM`.

    Attributes:
        W, b, c: parameters, shapes (k, d), (k,), (d,).
        log_sigma: :math:`\log \sigma`, shape (d,), a parameter or a buffer.

    Warns:
        UserWarning: at the first :meth:`loss`, if the data are far from mean 0 and standard deviation 1.

    Raises:
        ValueError: if a number is out of range; for data of another width or with NaN.
        FloatingPointError: from :meth:`loss`, if the samples run away.

    References:
        Welling, Rosen-Zvi & Hinton (2005), Exponential family harmoniums; Melchior, Wang & Wiskott (2017),
        Gaussian-binary restricted Boltzmann machines for modeling natural image statistics.
    """

    def __init__(
        self,
        d: int,
        k: int,
        *,
        sigma: float | Tensor = 1.0,
        learn_sigma: bool = False,
        objective: str = "cd",
        n_gibbs: int = 1,
        n_particles: int = 0,
        sd: float = 0.1,
    ) -> None:
        check.one_of(("cd", "score matching"), objective=objective)
        super().__init__(d, k, n_gibbs, n_particles, sd)
        sigma = torch.as_tensor(sigma, dtype=self.c.dtype)
        check.positive(sigma=sigma.min().item())
        log_sigma = sigma.log().expand(d).clone()
        if learn_sigma:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)
        self.objective, self.seen = objective, False
        if n_particles:
            self.particles.copy_(torch.randn_like(self.particles))

    @property
    def precision(self) -> Tensor:
        r""":math:`1 / \sigma_i^2`, shape (d,)."""
        return (-2 * self.log_sigma).exp()

    def check_visible(self, x: Tensor) -> None:
        r"""Raises a ValueError unless x has shape (n, d) and finite numbers."""
        check.data(x, width=self.W.shape[1])

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        r"""Sets c to the mean of data, shape (n, d), and the particles to random ones of them."""
        self.check_visible(x)
        self.c.copy_(x.mean(0))
        if self.particles is not None:
            self.particles.copy_(x[random.integers(len(x), len(self.particles), x.device)])

    def hidden_given_visible(self, v: Tensor) -> Tensor:
        r"""Means of the hidden units, :math:`\sigma(b_j + \sum_i W_{ji} v_i / \sigma_i^2)`, shape (n, k)."""
        return self.inputs(v).sigmoid()

    def visible_given_hidden(self, h: Tensor) -> Tensor:
        r"""Means of the visible units, :math:`c + W^\top h`, shape (n, d)."""
        return F.linear(h, self.W.T, self.c)

    def draw_hidden(self, v: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""A draw of the hidden units given visible ones, shape (n, k)."""
        return random.bernoulli(self.hidden_given_visible(v), generator)

    def draw_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""A draw of the visible units given hidden ones, shape (n, d)."""
        mean = self.visible_given_hidden(h)
        return mean + self.log_sigma.exp() * random.noise(mean.shape, mean, generator)

    def inputs(self, v: Tensor) -> Tensor:
        r"""The hidden units' inputs :math:`a_j = b_j + \sum_i W_{ji} v_i / \sigma_i^2`, shape (n, k)."""
        return F.linear(v * self.precision, self.W, self.b)

    def free_energy(self, v: Tensor) -> Tensor:
        r"""In nats, shape (n,); :math:`p(v) = e^{-F(v)} / Z`.

        .. math:: F(v) = \sum_i \frac{(v_i - c_i)^2}{2 \sigma_i^2} - \sum_j \log(1 + e^{a_j})
        """
        quadratic = 0.5 * (v - self.c).square() @ self.precision
        return quadratic - F.softplus(self.inputs(v)).sum(1)

    def loss(self, x: Tensor) -> Tensor:
        r"""The objective's: see :meth:`Restricted.loss` for CD, :meth:`score_matching_loss` for the other."""
        self.check_visible(x)
        self._look(x)
        if self.objective == "score matching":
            return self.score_matching_loss(x)
        v = self.negatives(x)
        self._stop_if_diverged(v, x)
        return self.free_energy(x).mean() - self.free_energy(v).mean()

    def score(self, v: Tensor) -> Tensor:
        r""":math:`\nabla_v \log p(v) = (c + W^\top \sigma(a) - v) / \sigma^2`, shape (n, d).

        The bracket is a reconstruction less its input: that of an autoencoder with tied weights.
        """
        return (self.visible_given_hidden(self.hidden_given_visible(v)) - v) * self.precision

    def score_matching_loss(self, x: Tensor) -> Tensor:
        r"""Score matching's objective, half the squared score and its divergence, in closed form, shape ().

        .. math:: \nabla \cdot s(v) = \sum_i \Bigl[-\frac1{\sigma_i^2}
                  + \frac1{\sigma_i^4} \sum_j W_{ji}^2\, \sigma(a_j)(1 - \sigma(a_j))\Bigr]

        References:
            Hyvärinen (2005), Estimation of non-normalized statistical models by score matching.
        """
        h = self.hidden_given_visible(x)
        score = (self.visible_given_hidden(h) - x) * self.precision
        curvature = (h * (1 - h)) @ (self.W.square() @ self.precision.square())
        return (0.5 * score.square().sum(1) + curvature).mean() - self.precision.sum()

    def mixture(self) -> tuple[Tensor, Tensor]:
        r"""The Gaussians that the marginal is a mixture of, one for each state of the hidden units.

        With :math:`m_h = c + W^\top h`, the implicit prior is

        .. math:: p(h) \propto \exp\Bigl(b^\top h + \sum_i \frac{m_{h i}^2 - c_i^2}{2 \sigma_i^2}\Bigr) .

        Returns:
            log_prior: log p(h) in nats, states as :func:`all_bits` orders them, shape (2^k,).
            means: :math:`m_h`, shape (2^k, d); each component has the standard deviations σ.

        Raises:
            ValueError: if there are more than 20 hidden units.
        """
        log_weights, means = self._components()
        return log_weights.log_softmax(0), means

    def log_partition(self) -> Tensor:
        r"""log Z in nats, the integral of :math:`e^{-F}`, shape (), by enumeration of the hidden units."""
        log_root = self.log_sigma.sum() + 0.5 * len(self.c) * math.log(2 * math.pi)
        return self._components()[0].logsumexp(0) + log_root

    def log_prob(self, v: Tensor, log_z: Tensor | float | None = None) -> Tensor:
        r"""The log-density in nats, shape (n,), of points v, shape (n, d).

        Arguments:
            log_z: where it is known; enumerated where ``None``.

        Raises:
            ValueError: if there are more than 20 hidden units and no ``log_z``.
        """
        self.check_visible(v)
        return -self.free_energy(v) - (self.log_partition() if log_z is None else log_z)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        n_steps: int = 1000,
        *,
        start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Points after Gibbs sampling, as many chains as samples, shape (n, d).

        Arguments:
            n: number of samples, ≥ 1.
            n_steps: rounds, ≥ 0.
            start: where the chains begin, shape (n, d); draws of N(c, σ²) where ``None``.
            generator: of the draws.
        """
        check.at_least(1, n=n)
        if start is None:
            start = self.draw_visible(self.b.new_zeros(n, len(self.b)), generator)
        check.data(start, "start", width=self.W.shape[1])
        check.shape(n, self.W.shape[1], start=start)
        return self.gibbs(start, n_steps, generator)

    def _components(self) -> tuple[Tensor, Tensor]:
        h = all_bits(len(self.b), self.b)
        means = self.visible_given_hidden(h)
        return h @ self.b + 0.5 * (means.square() - self.c.square()) @ self.precision, means

    def _look(self, x: Tensor) -> None:
        # Once, at the first batch that is large enough to tell.
        if self.seen or len(x) < 16:
            return
        self.seen = True
        mean, sd = x.mean(0).square().mean().sqrt().item(), x.std(0).square().mean().sqrt().item()
        if mean > 0.5 or not 0.5 < sd < 2:
            warnings.warn(
                f"the data have mean {x.mean().item():.3g} (root mean square of the features' means "
                f"{mean:.3g}) and standard deviation {sd:.3g}; expected about 0 and 1: subtract each "
                "feature's mean and divide by its standard deviation",
                stacklevel=3,
            )

    def _stop_if_diverged(self, v: Tensor, x: Tensor) -> None:
        size, of_data = torch.stack([v.square().mean().sqrt(), x.square().mean().sqrt()]).tolist()
        if not size < DIVERGED * max(of_data, 1e-6):
            raise FloatingPointError(
                f"GaussianRBM diverged: its samples are of size {size:.3g}, the data of {of_data:.3g} (root mean "
                "square); expected a smaller lr, a tenth of a binary machine's or less, and standardized data"
            )
