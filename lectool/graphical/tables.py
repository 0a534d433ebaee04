r"""Chapter 07: distributions of a few discrete variables as one table, from which every question can be answered."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from lectool import check

__all__ = ["Joint", "product"]

MOST_STATES = 2**24  # of an enumeration: 128 MiB of float64


class Joint:
    r"""A distribution over named discrete variables, one axis of a table for each.

    Arguments:
        names: of the variables, in the order of the table's axes.
        table: probabilities, ≥ 0, that sum to 1; axis i has as many entries as variable i has states.

    Raises:
        ValueError: if the names and the axes do not match, or the table is no distribution.

    Example:
        >>> coins = Joint(("a", "b"), torch.full((2, 2), 0.25))
        >>> coins.given(b=1).table
        tensor([0.5000, 0.5000])
    """

    def __init__(self, names: Sequence[str], table: Tensor) -> None:
        self.names = tuple(names)
        self.table = distribution(nonnegative(table, "table", self.names), "table", table.ndim)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {size}" for name, size in self.sizes.items())
        return f"Joint({sizes})"

    @property
    def sizes(self) -> dict[str, int]:
        r"""Number of states of each variable."""
        return dict(zip(self.names, self.table.shape))

    def marginal(self, *names: str) -> "Joint":
        r"""The distribution of some of the variables, all others summed out, in the order given.

        Raises:
            ValueError: if a name is unknown or comes twice.
        """
        known(names, self.names)
        return Joint(names, summed(self.names, self.table, names))

    def given(self, evidence: Mapping[str, int] | None = None, /, **more: int) -> "Joint":
        r"""The distribution of the other variables where some are observed, ``given(a=1)`` or ``given({"a": 1})``.

        Raises:
            ValueError: if a name is unknown, a state is out of range, or the evidence has probability 0.
        """
        evidence = {**(evidence or {}), **more}
        in_range(evidence, self.sizes)
        rest = [name for name in self.names if name not in evidence]
        table = self.table[tuple(evidence.get(name, slice(None)) for name in self.names)]
        total = table.sum()
        possible(total.item(), evidence)
        return Joint(rest, table / total)

    def information(
        self, a: str | Iterable[str], b: str | Iterable[str], given: str | Iterable[str] = ()
    ) -> float:
        r"""Conditional mutual information of two sets of variables given a third, in nats, ≥ 0.

        .. math:: I(a; b \mid c) = \mathbb E \Bigl[ \log \frac{p(a, b, c)\, p(c)}{p(a, c)\, p(b, c)} \Bigr] ,

        which is 0 where a and b are independent given c, and nowhere else.

        Raises:
            ValueError: if a name is unknown, or two of the sets share a variable.
        """
        a, b, c = disjoint(a, b, given)
        known((*a, *b, *c), self.names)
        return max(
            0.0,
            self._entropy(a, c) + self._entropy(b, c) - self._entropy(a, b, c) - self._entropy(c),
        )

    def independent(
        self,
        a: str | Iterable[str],
        b: str | Iterable[str],
        given: str | Iterable[str] = (),
        *,
        tol: float = 1e-9,
    ) -> bool:
        r"""Whether a and b are independent given c: whether their information is at most ``tol`` nats."""
        return self.information(a, b, given) <= tol

    def mode(self) -> dict[str, int]:
        r"""The most probable state of all variables together."""
        return state_of(self.names, self.table)

    def _entropy(self, *sets: tuple[str, ...]) -> float:
        names = [name for part in sets for name in part]
        return torch.special.entr(summed(self.names, self.table.double(), names)).sum().item()


def aligned(scope: Sequence[str], table: Tensor, names: Sequence[str]) -> Tensor:
    r"""The table with one axis for each of the names, in their order; of size 1 where the scope lacks the name."""
    table = table.permute([scope.index(name) for name in names if name in scope])
    return table[tuple(slice(None) if name in scope else None for name in names)]


def summed(
    scope: Sequence[str], table: Tensor, names: Sequence[str], reduce: Callable = torch.sum
) -> Tensor:
    r"""The table with every axis but those of the names summed out, the names in their order."""
    rest = [axis for axis, name in enumerate(scope) if name not in names]
    table = reduce(table, rest) if rest else table
    return aligned([name for name in scope if name in names], table, names)


def product(factors: Iterable[tuple[Sequence[str], Tensor]], sizes: Mapping[str, int]) -> Tensor:
    r"""Sum of log-tables over all states of the variables: the log of a product of factors, by enumeration.

    Arguments:
        factors: pairs of a scope (names) and a log-table with one axis for each.
        sizes: number of states of each variable, in the order of the result's axes.

    Raises:
        ValueError: if there are more than 2²⁴ states.
    """
    n_states = 1
    for size in sizes.values():
        n_states *= size
    if n_states > MOST_STATES:
        raise ValueError(
            f"{len(sizes)} variables have {n_states} states; expected at most {MOST_STATES}"
        )
    names, total = tuple(sizes), None
    for scope, table in factors:
        table = aligned(tuple(scope), table, names)
        total = table if total is None else total + table
    return total.expand(tuple(sizes.values())).clone()


def names_of(value: str | Iterable[str]) -> tuple[str, ...]:
    r"""One name or several as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def disjoint(*sets: str | Iterable[str]) -> list[tuple[str, ...]]:
    r"""Sets of names as tuples.

    Raises:
        ValueError: if one of the first two is empty, or two share a name.
    """
    found = [names_of(part) for part in sets]
    flat = [name for part in found for name in part]
    if twice := sorted({str(name) for name in flat if flat.count(name) > 1}):
        raise ValueError(
            f"the sets {found} share {', '.join(twice)}; expected no variable in two of them"
        )
    if not all(found[:2]):
        raise ValueError(f"the sets are {found}; expected the first two not to be empty")
    return found


def known(names: Iterable[str], nodes: Iterable[str]) -> None:
    r"""Raises a ValueError for a name that is not among the nodes, or comes twice."""
    names, nodes = list(names), list(nodes)
    for name in names:
        if name not in nodes:
            raise ValueError(
                f"there is no node {name!r}; the nodes are {', '.join(map(str, nodes))}"
            )
        if names.count(name) > 1:
            raise ValueError(f"{name!r} comes twice in {names}; expected each name once")


def in_range(evidence: Mapping[str, int], sizes: Mapping[str, int]) -> None:
    r"""Raises a ValueError for evidence about unknown variables, or of states that they do not have."""
    known(evidence, sizes)
    for name, state in evidence.items():
        if int(state) != state or not 0 <= state < sizes[name]:
            raise ValueError(
                f"{name} is observed as {state}; expected one of its states 0 … {sizes[name] - 1}"
            )


def possible(probability: float, evidence: Mapping[str, int]) -> None:
    r"""Raises a ValueError for evidence of probability 0."""
    if not probability > 0:
        said = ", ".join(f"{name} = {state}" for name, state in evidence.items()) or "no evidence"
        raise ValueError(
            f"{said} has probability {probability:g}; expected evidence that can happen"
        )


def nonnegative(table: Tensor, name: str, scope: Sequence[str]) -> Tensor:
    r"""A table of a factor.

    Raises:
        ValueError: if it has no axis for each name of its scope, a name comes twice, or an entry is negative or NaN.
    """
    table = torch.as_tensor(table)
    known(scope, scope)
    if table.ndim != len(scope):
        raise ValueError(
            f"{name} has shape {tuple(table.shape)}; expected an axis for each of {tuple(scope)}"
        )
    flat = check.data(table.reshape(1, -1), name)
    if flat.min() < 0:
        raise ValueError(f"{name} holds {flat.min():g}; expected no negative entries")
    return table


def distribution(table: Tensor, name: str, n_axes: int = 1) -> Tensor:
    r"""A table that sums to 1 over its last axes.

    Raises:
        ValueError: if it does not.
    """
    totals = table.double().sum(tuple(range(-n_axes, 0))) if n_axes else table.double()
    worst = totals.flatten()[(totals - 1).abs().argmax()].item()
    if abs(worst - 1) > 1e-5:
        where = "over its last axis" if n_axes < table.ndim else "in all"
        raise ValueError(f"{name} sums to {worst:.6g} {where}; expected 1")
    return table


def sizes_of(scopes: Iterable[tuple[Sequence[str], Tensor]]) -> dict[str, int]:
    r"""Number of states of each variable, in the order in which they first come.

    Raises:
        ValueError: if two tables disagree.
    """
    sizes: dict[str, int] = {}
    for scope, table in scopes:
        for name, size in zip(scope, table.shape):
            if sizes.setdefault(name, size) != size:
                raise ValueError(
                    f"{name} has {size} states in the table of {tuple(scope)}, {sizes[name]} elsewhere; "
                    "expected equally many"
                )
    return sizes


def state_of(names: Sequence[str], table: Tensor) -> dict[str, int]:
    r"""Where a table is largest, by name."""
    where = torch.unravel_index(table.flatten().argmax(), table.shape)
    return {name: int(index) for name, index in zip(names, where)}
