r"""Chapter 07: the Ising model on a grid: Gibbs sampling, mean field, iterated conditional modes, and exact answers."""

import math
from collections.abc import Iterator

import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch import Tensor

from lectool import check
from lectool.graphical.checkerboard import checkerboard_links, half_sweep, pack, unpack

__all__ = [
    "Ising",
    "all_spins",
    "critical_coupling",
    "denoiser",
    "from_binary",
    "onsager_magnetization",
]

MOST_SPINS = 20  # whose 2²⁰ states are enumerated in a second


class Ising:
    r"""Spins :math:`s_i = \pm 1` on a grid, each tied to its neighbors to the left, right, above and below.

    .. math:: p(s) = \frac1Z e^{-E(s)}, \qquad
              E(s) = -\sum_{\text{neighbors } i,\, j} J_{ij}\, s_i s_j - \sum_i h_i s_i .

    Spins of one color of a checkerboard are not neighbors of each other. Given the other color they are independent,
    so that one step updates half of the grid.

    Arguments:
        height, width: of the grid, ≥ 1; ≥ 2 where it is periodic.
        coupling: J, in units of the temperature: a number, or a pair for the links to the right and for those
            below, each a number or a tensor of shape (height, width) that holds the link at the spin where it begins.
        field: h, a number or a tensor of shape (height, width) or (…, height, width), on the device of which all
            else is kept.
        periodic: whether the last column is linked to the first, and the last row to the first. Where a side has two
            spins only, they are linked twice.
        dtype: of all numbers.

    Attributes:
        right, down: couplings of each spin with the next one to the right and below, shape (height, width).
        field: h, shape (…, height, width).

    Raises:
        ValueError: if a size is too small, or a tensor has another shape or holds a NaN.

    References:
        Geman & Geman (1984), Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images.

    Example:
        >>> model = Ising(4, 6, coupling=0.5)
        >>> model.energy(torch.ones(4, 6))
        tensor(-24.)
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        coupling: float | Tensor | tuple = 0.4,
        field: float | Tensor = 0.0,
        periodic: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check.at_least(2 if periodic else 1, height=height, width=width)
        if isinstance(coupling, tuple) and len(coupling) != 2:
            raise ValueError(f"coupling is a tuple of {len(coupling)}; expected (right, below)")
        right, down = coupling if isinstance(coupling, tuple) else (coupling, coupling)
        self.periodic = periodic
        self.field = on_grid(field, height, width, dtype, "field", batch=True)
        self.right = on_grid(right, height, width, dtype, "coupling").to(self.field)
        self.down = on_grid(down, height, width, dtype, "coupling").to(self.field)
        if not periodic:
            self.right[:, -1] = 0
            self.down[-1] = 0

    def local_field(self, s: Tensor) -> Tensor:
        r"""What pulls at each spin, :math:`a_i = h_i + \sum_j J_{ij} s_j`, shape (…, height, width)."""
        across = self.right * s.roll(-1, -1) + (self.right * s).roll(1, -1)
        return self.field + across + self.down * s.roll(-1, -2) + (self.down * s).roll(1, -2)

    def energy(self, s: Tensor) -> Tensor:
        r"""E(s) of grids s, shape (…, height, width), in units of the temperature, shape (…).

        Numbers between −1 and 1 are read as means of independent spins; E is then the mean energy.
        """
        self._fits(s)
        pull = self.field + self.right * s.roll(-1, -1) + self.down * s.roll(-1, -2)
        return -(s * pull).sum((-2, -1))

    def probability_up(self, s: Tensor) -> Tensor:
        r""":math:`p(s_i = 1 \mid s_{-i}) = \sigma(2 a_i)` for every spin, shape (…, height, width)."""
        self._fits(s)
        return (2 * self.local_field(s)).sigmoid()

    def gibbs(
        self, s: Tensor, n_sweeps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Grids after some sweeps of Gibbs sampling, each of which renews every spin once, given its neighbors.

        Arguments:
            s: where the chains start, spins ±1, shape (…, height, width); leading axes are as many chains.
            n_sweeps: ≥ 0.
            generator: of the draws; torch's global one where ``None``.

        Raises:
            ValueError: if s has another shape or other values, or the grid is periodic with an odd side.
        """
        check.at_least(0, n_sweeps=n_sweeps)
        pair = None
        for pair in self._sweeps(s, n_sweeps, generator):  # noqa: B007  (the last one is wanted)
            pass
        return s if pair is None else self._joined(*pair)

    def expectations(
        self,
        s: Tensor,
        n_sweeps: int,
        *,
        burn_in: int = 0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Means over Gibbs sweeps: of each spin, and the grid's magnetization sweep by sweep.

        Arguments:
            s, generator: as in :meth:`gibbs`.
            n_sweeps: sweeps that count, ≥ 1.
            burn_in: sweeps before them that do not, ≥ 0.

        Returns:
            mean: of each spin, in [−1, 1], shape (…, height, width).
            magnetization: mean of a grid's spins after each sweep, shape (n_sweeps, …).

        Raises:
            ValueError: as :meth:`gibbs` does.
        """
        check.at_least(1, n_sweeps=n_sweeps)
        s, total, trace = self.gibbs(s, burn_in, generator), 0.0, []
        for pair in self._sweeps(s, n_sweeps, generator):
            grid = self._joined(*pair)
            total = total + grid
            trace.append(grid.mean((-2, -1)))
        return total / n_sweeps, torch.stack(trace)

    def icm(self, s: Tensor, max_sweeps: int = 100) -> tuple[Tensor, Tensor]:
        r"""Iterated conditional modes: each spin takes the value of lower energy, until none wants to change.

        The spins of one color move at once; none is a neighbor of another, so that the energy never rises.

        Arguments:
            s: where to begin, spins ±1, shape (…, height, width).
            max_sweeps: ≥ 1.

        Returns:
            s: the grids at the end.
            energies: before the first sweep and after each, shape (n + 1, …).

        References:
            Besag (1986), On the statistical analysis of dirty pictures.
        """
        check.at_least(1, max_sweeps=max_sweeps)
        self._fits(s, spins=True)
        energies = [self.energy(s)]
        for _ in range(max_sweeps):
            before = s
            for color in self._colors():
                a = self.local_field(s)
                s = torch.where(color & (a != 0), a.sign(), s)  # a spin that nothing pulls at stays
            energies.append(self.energy(s))
            if torch.equal(s, before):
                break
        return s, torch.stack(energies)

    def mean_field(
        self, m: Tensor | None = None, *, max_iter: int = 500, tol: float = 1e-6
    ) -> tuple[Tensor, Tensor]:
        r"""The best independent spins: means :math:`m_i = \tanh(h_i + \sum_j J_{ij} m_j)`, one color after the other.

        Each update maximizes :meth:`bound` over its color, so that the bound never falls. With strong coupling there
        are several solutions; the start chooses.

        Arguments:
            m: where to begin, in [−1, 1], shape (…, height, width); a small push upwards where ``None``.
            max_iter: ≥ 1.
            tol: ends when no mean changes by more, > 0.

        Returns:
            m: shape (…, height, width).
            bounds: on log Z, before the first update and after each, in nats, shape (n + 1, …).
        """
        check.at_least(1, max_iter=max_iter)
        check.positive(tol=tol)
        m = torch.full_like(self.field, 0.01) if m is None else m
        bounds = [self.bound(m)]
        for _ in range(max_iter):
            before = m
            for color in self._colors():
                m = torch.where(color, self.local_field(m).tanh(), m)
            bounds.append(self.bound(m))
            if (m - before).abs().max() <= tol:
                break
        return m, torch.stack(bounds)

    def bound(self, m: Tensor) -> Tensor:
        r"""What independent spins with means m say of log Z: :math:`H(m) - E(m) \le \log Z`, in nats, shape (…).

        The gap is the KL divergence of the independent spins from the model.
        """
        check.data(m, "m", n_dims=m.ndim, low=-1.0, high=1.0)
        up = (1 + m) / 2
        entropy = torch.special.entr(up) + torch.special.entr(1 - up)
        return entropy.sum((-2, -1)) - self.energy(m)

    def mode(self) -> Tensor:
        r"""The most probable state, shape (height, width), where no coupling is negative: a smallest cut.

        Water flows from a source to the spins with :math:`h_i > 0`, between neighbors, and from the spins with
        :math:`h_i < 0` to a sink, through pipes as wide as |h| and J. To part source and sink costs what the cut
        pipes carry, which is half the energy of a state up to a constant; the largest flow finds the cheapest cut.

        Raises:
            ValueError: if a coupling is negative, or there are several fields.

        References:
            Greig, Porteous & Seheult (1989), Exact maximum a posteriori estimation for binary images.
        """
        check.shape(*self.right.shape, field=self.field)
        check.non_negative(coupling=min(self.right.min().item(), self.down.min().item()))
        start, end, width = self._pipes()
        n = self.right.numel()
        # Whole numbers, as wide as 32 bits can hold for the widest pipe and for all that leaves the source.
        most = max(width.max().item(), width[start == n].sum().item(), 1e-30)
        width = (width * (2**29 / most)).round().int()
        pipes = csr_array((width.numpy(), (start.numpy(), end.numpy())), shape=(n + 2, n + 2))
        left = (pipes - maximum_flow(pipes, n, n + 1).flow) > 0
        wet = breadth_first_order(left, n, return_predecessors=False)
        s = -torch.ones(n + 2).to(self.right)
        s[torch.as_tensor(wet).long()] = 1
        return s[:n].view_as(self.right)

    def _pipes(self) -> tuple[Tensor, Tensor, Tensor]:
        r"""Where each pipe of :meth:`mode` starts and ends, and its width; the source is n, the sink n + 1."""
        h = self.field
        spin = torch.arange(h.numel()).view(h.shape)
        source, sink = torch.full_like(spin, h.numel()), torch.full_like(spin, h.numel() + 1)
        pipes = [(source, spin, h.clamp(min=0)), (spin, sink, (-h).clamp(min=0))]
        for links, axis in ((self.right, -1), (self.down, -2)):
            other = spin.roll(-1, axis)
            pipes += [(spin, other, links), (other, spin, links)]
        start, end, width = (torch.stack(part).flatten() for part in zip(*pipes))
        return start, end, width.double().cpu()

    def exact(self) -> tuple[Tensor, Tensor]:
        r"""log Z in nats, shape (), and the mean of each spin, shape (height, width), by enumeration.

        Raises:
            ValueError: if the grid has more than 20 spins, or there are several fields.
        """
        check.shape(*self.right.shape, field=self.field)
        s = all_spins(*self.right.shape).to(self.right)
        log_p = -self.energy(s)
        log_z = log_p.double().logsumexp(0)
        p = (log_p.double() - log_z).exp()
        return log_z.to(log_p), torch.einsum("n,nhw->hw", p, s.double()).to(log_p)

    def _sweeps(
        self, s: Tensor, n_sweeps: int, generator: torch.Generator | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        self._fits(s, spins=True)
        self._colors()
        h = pack(self._even(self.field))
        links = checkerboard_links(self._even(self.right), self._even(self.down))
        s = torch.broadcast_to(s, torch.broadcast_shapes(s.shape, self.field.shape))
        black, white = pack(self._even(s, 1.0))
        for _ in range(n_sweeps):
            black = half_sweep(white, h[0], links[0], generator)
            white = half_sweep(black, h[1], links[1], generator)
            yield black, white

    def _even(self, t: Tensor, fill: float = 0.0) -> Tensor:
        height, width = t.shape[-2:]
        return torch.nn.functional.pad(t, (0, width % 2, 0, height % 2), value=fill)

    def _joined(self, black: Tensor, white: Tensor) -> Tensor:
        height, width = self.right.shape
        return unpack(black, white)[..., :height, :width]

    def _colors(self) -> tuple[Tensor, Tensor]:
        height, width = self.right.shape
        if self.periodic and (height % 2 or width % 2):
            raise ValueError(
                f"the periodic grid is {height} × {width}; expected even sides, else no checkerboard closes"
            )
        black = (torch.arange(height)[:, None] + torch.arange(width)).to(self.right.device) % 2 == 0
        return black, ~black

    def _fits(self, s: Tensor, *, spins: bool = False) -> None:
        check.data(s, "s", n_dims=s.ndim, like=self.right)
        if s.shape[-2:] != self.right.shape:
            height, width = self.right.shape
            raise ValueError(f"s has shape {tuple(s.shape)}; expected (…, {height}, {width})")
        if spins and not (s.abs() == 1).all():
            raise ValueError("s holds other numbers than −1 and 1; expected spins")


def all_spins(height: int, width: int) -> Tensor:
    r"""Every state of a grid of at most 20 spins, as ±1, float64, shape (2^(height · width), height, width).

    Raises:
        ValueError: if it has more spins.
    """
    check.inside(f"[1, {MOST_SPINS}]", n_spins=height * width)
    bits = torch.arange(2 ** (height * width))[:, None] >> torch.arange(height * width)
    return (2.0 * (bits % 2) - 1).double().view(-1, height, width)


def critical_coupling() -> float:
    r"""The coupling :math:`\tfrac12 \log(1 + \sqrt2) \approx 0.4407` above which a large grid has a magnetization.

    References:
        Kramers & Wannier (1941), Statistics of the two-dimensional ferromagnet.
    """
    return math.log(1 + math.sqrt(2)) / 2


def onsager_magnetization(coupling: float | Tensor, down: float | Tensor | None = None) -> Tensor:
    r"""The magnetization of an endless grid without field.

    .. math:: m = \bigl( 1 - (\sinh 2 J_1\, \sinh 2 J_2)^{-2} \bigr)^{1/8} \quad
              \text{where } \sinh 2 J_1\, \sinh 2 J_2 > 1, \text{ else } 0 .

    Arguments:
        coupling: :math:`J_1`, ≥ 0, to the right, any shape.
        down: :math:`J_2`, ≥ 0; the same where ``None``.

    Raises:
        ValueError: if a coupling is negative or not finite.

    References:
        Onsager (1949), unpublished; Yang (1952), The spontaneous magnetization of a two-dimensional Ising model.
    """
    across = torch.as_tensor(coupling, dtype=torch.float64)
    down = across if down is None else torch.as_tensor(down, dtype=torch.float64)
    for J in (across, down):
        check.non_negative(coupling=J.min().item(), largest_coupling=J.max().item())
    product = (2 * across).sinh() * (2 * down).sinh()
    return (1 - product.clamp(min=1.0) ** -2) ** 0.125


def denoiser(y: Tensor, *, coupling: float, flip: float, bias: float = 0.0) -> Ising:
    r"""The posterior of a clean picture, given one whose pixels were flipped with some probability.

    .. math:: E(x, y) = -J \sum_{\text{neighbors}} x_i x_j - \eta \sum_i x_i y_i - b \sum_i x_i, \qquad
              \eta = \tfrac12 \log \frac{1 - \varepsilon}{\varepsilon} ,

    with which :math:`p(x \mid y) \propto e^{-E}`. The grid has free borders.

    Arguments:
        y: noisy pictures of −1 and 1, shape (…, height, width).
        coupling: J, how strongly neighboring pixels agree in a clean picture.
        flip: ε, the probability of a flip, in (0, 1); above ½ the picture is a negative.
        bias: b, > 0 where clean pictures have more pixels of 1.

    Raises:
        ValueError: if y holds other numbers, or flip is not in (0, 1).
    """
    check.data(y, "y", n_dims=max(y.ndim, 2))
    check.inside("(0, 1)", flip=flip)
    if not (y.abs() == 1).all():
        raise ValueError("y holds other numbers than −1 and 1; expected pixels of −1 and 1")
    field = bias + 0.5 * math.log((1 - flip) / flip) * y
    return Ising(*y.shape[-2:], coupling=coupling, field=field, periodic=False, dtype=y.dtype)


def from_binary(
    height: int,
    width: int,
    *,
    coupling: float,
    field: float,
    periodic: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Ising:
    r"""The Ising model of binary variables :math:`x_i = (1 + s_i) / 2 \in \{0, 1\}`.

    :math:`p(x) \propto \exp(\theta_1 \sum x_i x_j + \theta_2 \sum x_i)` has :math:`J = \theta_1 / 4` and
    :math:`h_i = \theta_2 / 2 + \theta_1 n_i / 4`, with the number :math:`n_i` of neighbors of i.

    Arguments:
        coupling, field: :math:`\theta_1`, :math:`\theta_2`.
    """
    options = dict(periodic=periodic, dtype=dtype)
    half = Ising(height, width, coupling=coupling / 4, field=field / 2, **options)
    h = half.local_field(torch.ones(height, width, dtype=dtype))
    return Ising(height, width, coupling=coupling / 4, field=h, **options)


def on_grid(
    value: float | Tensor,
    height: int,
    width: int,
    dtype: torch.dtype,
    name: str,
    batch: bool = False,
) -> Tensor:
    r"""A number or a tensor as a new tensor of shape (height, width), or (…, height, width) for a batch.

    Raises:
        ValueError: if it has another shape or is not finite.
    """
    value = torch.as_tensor(value, dtype=dtype)
    check.data(value[None] if value.ndim == 0 else value, name, n_dims=max(value.ndim, 1))
    leading = value.shape[:-2] if batch else ()
    if value.ndim and value.shape != (*leading, height, width):
        dots = "…, " if batch else ""
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}; expected a number or ({dots}{height}, {width})"
        )
    return value.expand(*leading, height, width).clone()
