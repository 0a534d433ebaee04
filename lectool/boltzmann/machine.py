r"""Chapter 09: the Boltzmann machine: binary units that may all be tied to each other, some of them hidden.

The convention, with units :math:`u = (v, h) \in \{0, 1\}^{d + k}`:

.. math:: p(u) = \frac1Z e^{-E(u)}, \qquad E(u) = -u^\top W u - b^\top u, \qquad W = W^\top, \quad W_{ii} = 0 .

The quadratic form holds each pair of units twice, as :math:`W_{ij}` and as :math:`W_{ji}`, so that

.. math:: p(u_i = 1 \mid u_{-i}) = \sigma\bigl(2 \textstyle\sum_j W_{ij} u_j + b_i\bigr) .

With a sum over pairs i < j in its place, as in many texts, W is twice as large and the 2 is not there.
"""

import torch
from torch import Tensor, nn

from lectool import check
from lectool.boltzmann.states import MOST_UNITS, all_bits, check_bits
from lectool.random import bernoulli

__all__ = ["BoltzmannMachine"]


class BoltzmannMachine(nn.Module):
    r"""Boltzmann machine with d visible and k hidden units, every unit tied to every other.

    Learning descends minus the log-likelihood, whose gradient is a difference of two phases, with the visible units
    clamped to data and with all units free:

    .. math:: \frac{\partial \log p(v)}{\partial W_{ij}} = E[u_i u_j \mid v] - E[u_i u_j] \quad (i \ne j), \qquad
              \frac{\partial \log p(v)}{\partial b_i} = E[u_i \mid v] - E[u_i]

    Both are enumerated, or sampled by Gibbs sweeps where ``n_particles`` says so.

    Arguments:
        d: number of visible units, ≥ 1.
        k: number of hidden units, ≥ 0.
        n_particles: persistent chains that :meth:`loss` draws the free phase from; 0 for enumeration.
        n_sweeps: Gibbs sweeps a call of :meth:`loss`, ≥ 1.

    Attributes:
        W: parameter, shape (d + k, d + k); only its symmetric part without the diagonal counts, see
            :attr:`couplings`. Small random numbers at the start where there are hidden units, else 0.
        b: biases, shape (d + k,).
        particles: states of the chains, shape (n_particles, d + k).

    Raises:
        ValueError: if a number is out of range; for data that are not bits or of another width; where more than 20
            units would have to be enumerated.

    References:
        Ackley, Hinton & Sejnowski (1985), A learning algorithm for Boltzmann machines.

    Example:
        >>> machine = BoltzmannMachine(3)
        >>> machine.log_prob(torch.ones(1, 3))
        tensor([-2.0794], grad_fn=<SubBackward0>)
    """

    def __init__(self, d: int, k: int = 0, *, n_particles: int = 0, n_sweeps: int = 1) -> None:
        super().__init__()
        check.at_least(1, d=d, n_sweeps=n_sweeps)
        check.non_negative(k=k, n_particles=n_particles)
        self.d, self.n_sweeps = d, n_sweeps
        W = 0.1 * torch.randn(d + k, d + k) if k else torch.zeros(d, d)
        self.W = nn.Parameter(((W + W.T) / 2).fill_diagonal_(0))
        self.b = nn.Parameter(torch.zeros(d + k))
        if n_particles:
            self.register_buffer("particles", (torch.rand(n_particles, d + k) < 0.5).float())

    @classmethod
    def from_spins(cls, J: Tensor, temperature: float = 1.0) -> "BoltzmannMachine":
        r"""The machine whose units, read as spins :math:`s = 2u - 1`, have a Hopfield network's energy.

        With :math:`E(s) = -\tfrac12 s^\top J s` and :math:`p \propto e^{-E / T}`, W = 2J/T and b = −2J1/T.

        Arguments:
            J: symmetric with zeros on the diagonal, shape (d, d).
            temperature: T > 0.
        """
        check.positive(temperature=temperature)
        check.shape(len(J), len(J), J=J)
        machine = cls(len(J)).to(J)
        with torch.no_grad():
            machine.W.copy_(2 * J / temperature)
            machine.b.copy_(-2 * J.sum(1) / temperature)
        return machine

    def extra_repr(self) -> str:
        return f"{self.d}, {len(self.b) - self.d}"

    @property
    def couplings(self) -> Tensor:
        r"""The symmetric matrix of the energy, zeros on its diagonal, shape (d + k, d + k)."""
        W = (self.W + self.W.T) / 2
        return W - W.diagonal().diag()

    def energy(self, u: Tensor) -> Tensor:
        r""":math:`E(u) = -u^\top W u - b^\top u` in nats, of states u, shape (…, d + k): shape (…)."""
        return -((u @ self.couplings) * u).sum(-1) - u @ self.b

    def conditional(self, u: Tensor) -> Tensor:
        r""":math:`p(u_i = 1 \mid u_{-i})` for every unit, of states u, shape (…, d + k): the same shape."""
        return (2 * u @ self.couplings + self.b).sigmoid()

    @torch.no_grad()
    def gibbs(
        self,
        u: Tensor,
        n_sweeps: int = 1,
        *,
        clamped: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""States after some sweeps, each of which draws every unit once, given all others.

        Arguments:
            u: where the chains start, bits, shape (n, d + k).
            n_sweeps: ≥ 0.
            clamped: units that keep their values, bool, shape (d + k,).
            generator: of the draws.

        Returns:
            shape (n, d + k); u itself stays as it is.
        """
        check.at_least(0, n_sweeps=n_sweeps)
        u, W, units = u.clone(), self.couplings, range(len(self.b))
        if clamped is not None:
            check.shape(len(self.b), clamped=clamped)
            units = (~clamped).nonzero()[:, 0].tolist()
        for _ in range(n_sweeps):
            for i in units:
                u[:, i] = bernoulli((2 * u @ W[i] + self.b[i]).sigmoid(), generator)
        return u

    def log_partition(self) -> Tensor:
        r"""log Z in nats, shape (), by enumeration."""
        return (-self.energy(all_bits(len(self.b), self.b))).logsumexp(0)

    def log_prob(self, v: Tensor) -> Tensor:
        r""":math:`\log p(v)` in nats of bits v, shape (n, d), hidden units summed out, by enumeration: shape (n,)."""
        check_bits(v, width=self.d, like=self.b)
        return (-self.energy(self._with_all_hidden(v))).logsumexp(0) - self.log_partition()

    def free_phase(self) -> Tensor:
        r""":math:`E[u u^\top]` by enumeration, shape (d + k, d + k); its diagonal is :math:`E[u]`, as u² = u."""
        u = all_bits(len(self.b), self.b)
        p = (-self.energy(u)).softmax(0)
        return (p[:, None] * u).T @ u

    def clamped_phase(self, v: Tensor) -> Tensor:
        r""":math:`E[u u^\top \mid v]`, mean over data v, shape (n, d), by enumeration: shape (d + k, d + k)."""
        check_bits(v, width=self.d, like=self.b)
        u = self._with_all_hidden(v)
        p = (-self.energy(u)).softmax(0) / len(v)
        return torch.einsum("sn,sni,snj->ij", p, u, u)

    def loss(self, x: Tensor) -> Tensor:
        r"""Minus the mean log-likelihood; with particles, a number of which only the gradient has a meaning.

        It is then the mean energy of data, with hidden units drawn given them, less that of the particles.
        """
        if not hasattr(self, "particles"):
            return -self.log_prob(x).mean()
        check_bits(x, width=self.d, like=self.b)
        with torch.no_grad():
            clamped = self.gibbs(self._with_hidden(x), self.n_sweeps, clamped=self.visible())
            self.particles.copy_(self.gibbs(self.particles, self.n_sweeps))
        return self.energy(clamped).mean() - self.energy(self.particles).mean()

    @torch.no_grad()
    def sample(
        self, n: int, n_sweeps: int = 100, *, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""n visible vectors after Gibbs sweeps from random states, shape (n, d)."""
        check.at_least(1, n=n)
        half = torch.full((n, len(self.b)), 0.5).to(self.b)
        return self.gibbs(bernoulli(half, generator), n_sweeps, generator=generator)[:, : self.d]

    @torch.no_grad()
    def complete(
        self,
        v: Tensor,
        known: Tensor,
        n_sweeps: int = 100,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Draws the unknown visible units given the known ones, by Gibbs sweeps with these clamped.

        Arguments:
            v: bits, shape (n, d); the values of unknown units are not looked at.
            known: bool, shape (d,).
            n_sweeps: ≥ 0.

        Returns:
            v with the unknown units replaced, shape (n, d).
        """
        check_bits(v, width=self.d, like=self.b)
        check.shape(self.d, known=known)
        start = torch.where(known, v, bernoulli(torch.full_like(v, 0.5), generator))
        clamped = torch.zeros_like(self.b, dtype=torch.bool)
        clamped[: self.d] = known
        u = self.gibbs(self._with_hidden(start), n_sweeps, clamped=clamped, generator=generator)
        return u[:, : self.d]

    def completion(self, v: Tensor, known: Tensor) -> Tensor:
        r"""The exact :math:`p(u_i = 1 \mid \text{known visible units})`, arguments as in :meth:`complete`.

        Returns:
            shape (n, d + k); 0 or 1 for the known units themselves.
        """
        check_bits(v, width=self.d, like=self.b)
        check.shape(self.d, known=known)
        known = torch.cat([known, known.new_zeros(len(self.b) - self.d)])
        u = self._with_hidden(v).repeat(2 ** self._few(int((~known).sum())), 1, 1)
        u[:, :, ~known] = all_bits(int((~known).sum()), u)[:, None]
        return torch.einsum("sn,sni->ni", (-self.energy(u)).softmax(0), u)

    def visible(self) -> Tensor:
        r"""Which units are visible, bool, shape (d + k,)."""
        return torch.arange(len(self.b), device=self.b.device) < self.d

    def _with_hidden(self, v: Tensor) -> Tensor:
        # Hidden units start at 0; one sweep draws them all.
        return torch.cat([v, v.new_zeros(len(v), len(self.b) - self.d)], 1)

    def _with_all_hidden(self, v: Tensor) -> Tensor:
        # Every state of the hidden units beside each row of v, shape (2^k, n, d + k).
        h = all_bits(len(self.b) - self.d, v)
        return torch.cat([v.expand(len(h), *v.shape), h[:, None].expand(-1, len(v), -1)], 2)

    def _few(self, n: int) -> int:
        if n > MOST_UNITS:
            raise ValueError(f"{n} units are unknown; expected at most {MOST_UNITS}, or `complete`")
        return n
