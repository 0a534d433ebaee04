r"""Chapter 09: the Hopfield network, a memory that is addressed by a part or a damaged copy of what it holds.

States are :math:`s \in \{-1, +1\}^d`, one a row.
"""

import math

import torch
from torch import Tensor

from lectool import check
from lectool.random import permutation

__all__ = [
    "Hopfield",
    "asynchronous_sweep",
    "hopfield_capacity",
    "hopfield_energy",
    "synchronous_step",
    "unstable_share",
]


def hopfield_energy(s: Tensor, W: Tensor) -> Tensor:
    r""":math:`E(s) = -\tfrac12 s^\top W s` of states, shape (…, d), with symmetric W, shape (d, d): shape (…)."""
    return -0.5 * ((s @ W) * s).sum(-1)


def asynchronous_sweep(s: Tensor, W: Tensor, order: Tensor) -> Tensor:
    r"""Each unit in turn takes the sign of its input :math:`a_i = \sum_j W_{ij} s_j`; where that is 0, it stays.

    A change of unit i alters the energy by :math:`-2 \lvert a_i \rvert`, if W is symmetric with zeros on its diagonal:
    the energy never rises.

    Arguments:
        s: states ±1, shape (n, d); left as they are.
        W: shape (d, d).
        order: the units in the order in which they move, int64, shape (d,).

    Returns:
        the states after the sweep, shape (n, d).
    """
    s = s.clone()
    for i in order:
        a = s @ W[i]
        s[:, i] = torch.where(a == 0, s[:, i], a.sign())
    return s


def synchronous_step(s: Tensor, W: Tensor) -> Tensor:
    r"""All units at once take the sign of their inputs, where these are not 0; shape (n, d).

    The energy may rise, and the network may swing for ever between two states.
    """
    a = s @ W.T
    return torch.where(a == 0, s, a.sign())


class Hopfield:
    r"""Symmetric network of ±1 units whose energy has minima at, or near, the stored patterns.

    Arguments:
        rule: ``"hebb"`` for :math:`W = \tfrac1d \sum_p x_p x_p^\top`; ``"projection"`` for :math:`W = X^+ X`, the
            projection on the patterns' span, which stores any patterns that are linearly independent. Both with zeros
            on the diagonal.

    Attributes:
        W_: weights, symmetric, shape (d, d).
        patterns_: what was stored, shape (n, d).

    Raises:
        ValueError: if the rule is neither, or the patterns hold other numbers than ±1.

    References:
        Hopfield (1982), Neural networks and physical systems with emergent collective computational abilities;
        Personnaz, Guyon & Dreyfus (1986), Collective computational properties of neural networks.

    Example:
        >>> x = torch.tensor([[1.0, 1, 1, -1, -1, -1, 1, -1]])
        >>> network = Hopfield().fit(x)
        >>> damaged = x.clone()
        >>> damaged[0, :2] *= -1
        >>> bool((network.recall(damaged)[0] == x).all())
        True
    """

    def __init__(self, rule: str = "hebb") -> None:
        check.one_of(("hebb", "projection"), rule=rule)
        self.rule = rule

    def fit(self, x: Tensor) -> "Hopfield":
        r"""Stores patterns ±1, shape (n, d)."""
        check_spins(x, "x")
        W = x.T @ x / x.shape[1] if self.rule == "hebb" else torch.linalg.pinv(x) @ x
        W = (W + W.T) / 2  # of a pseudo-inverse, symmetric up to rounding
        self.W_, self.patterns_ = W.fill_diagonal_(0), x
        return self

    def energy(self, s: Tensor) -> Tensor:
        r"""The energy of states ±1, shape (n, d): shape (n,)."""
        check_spins(s, width=self.W_.shape[0])
        return hopfield_energy(s, self.W_)

    def recall(
        self,
        s: Tensor,
        max_sweeps: int = 50,
        *,
        synchronous: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Lets states fall until none changes.

        Arguments:
            s: where to begin, ±1, shape (n, d).
            max_sweeps: updates of each unit at most, ≥ 0.
            synchronous: whether all units move at once, else one after the other in an order drawn anew each sweep.
            generator: of the order.

        Returns:
            s: the states at the end, shape (n, d).
            energies: before the first sweep and after each, shape (n_sweeps + 1, n).
        """
        check.at_least(0, max_sweeps=max_sweeps)
        energies = [self.energy(s)]
        for _ in range(max_sweeps):
            before = s
            if synchronous:
                s = synchronous_step(s, self.W_)
            else:
                order = permutation(s.shape[1], s.device, generator)
                s = asynchronous_sweep(s, self.W_, order)
            energies.append(hopfield_energy(s, self.W_))
            if torch.equal(s, before):
                break
        return s, torch.stack(energies)

    def overlap(self, s: Tensor) -> Tensor:
        r"""How far states agree with each pattern: the mean of :math:`s_i x_i`, in [−1, 1], shape (n, n_patterns)."""
        check_spins(s, width=self.W_.shape[0])
        return s @ self.patterns_.T / s.shape[1]


def unstable_share(d: int, n_patterns: int) -> float:
    r"""The share of stored bits that Hebb's rule fails to hold, for random patterns of ±1.

    At a stored bit, the pattern itself adds :math:`(d - 1)/d` to the input in its favor; the other
    :math:`m - 1` add a sum of :math:`(m - 1)(d - 1)` random signs, divided by d, so that

    .. math:: P(\text{bit flips}) \approx \Phi\bigl(-\sqrt{(d - 1) / (m - 1)}\bigr) .

    Arguments:
        d: number of units, ≥ 2.
        n_patterns: m, ≥ 1.

    References:
        Hertz, Krogh & Palmer (1991), Introduction to the theory of neural computation, section 2.2.
    """
    check.at_least(2, d=d)
    check.at_least(1, n_patterns=n_patterns)
    if n_patterns == 1:
        return 0.0
    return 0.5 * math.erfc(math.sqrt((d - 1) / (2 * (n_patterns - 1))))


def hopfield_capacity(d: int, *, exact: bool = False) -> float:
    r"""How many random patterns Hebb's rule stores in d units, for large d.

    Arguments:
        d: number of units, ≥ 2.
        exact: ``False`` for 0.138 d, up to which states near the patterns are stable, with about 1.6 % of the bits
            wrong at the limit; ``True`` for :math:`d / (2 \log d)`, up to which almost every pattern is stable bit by
            bit.

    References:
        Amit, Gutfreund & Sompolinsky (1985), Storing infinite numbers of patterns in a spin-glass model of neural
        networks; McEliece, Posner, Rodemich & Venkatesh (1987), The capacity of the Hopfield associative memory.
    """
    check.at_least(2, d=d)
    return d / (2 * math.log(d)) if exact else 0.138 * d


def check_spins(s: Tensor, name: str = "s", width: int | None = None) -> None:
    r"""Raises a ValueError unless s holds −1 and 1 only, shape (n, d)."""
    check.data(s, name, width=width)
    if not (s.abs() == 1).all():
        raise ValueError(f"{name} holds other numbers than −1 and 1; expected spins: 2 * bits - 1")
