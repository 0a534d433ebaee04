r"""Chapter 07: factor graphs: exact marginals and the most probable state of a tree, by messages along its links."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import networkx
import torch
from torch import Tensor

from lectool.graphical.tables import (
    Joint,
    aligned,
    in_range,
    known,
    nonnegative,
    possible,
    sizes_of,
    summed,
)

__all__ = ["FactorGraph"]


class FactorGraph:
    r"""A product of factors, :math:`p(x) = \frac1Z \prod_f f(x_f)`, as a graph of variables and factors.

    A variable is linked with every factor that it takes part in. Where the graph is a tree (or several), two messages
    along each link answer every question, in a time that grows linearly with the number of factors.

    Arguments:
        factors: pairs of a scope (names) and a table, ≥ 0, with an axis for each name. ``factors()`` of a Bayesian
            network or a Markov random field gives them.

    Attributes:
        graph: a :class:`networkx.Graph` over names and the factors' numbers 0, 1, …
        names, sizes: of the variables, and their number of states.

    Raises:
        ValueError: if a table is negative or has the wrong number of axes, or two disagree about a variable.

    References:
        Kschischang, Frey & Loeliger (2001), Factor graphs and the sum–product algorithm.

    Example:
        >>> alike = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
        >>> chain = FactorGraph([("a", torch.tensor([0.9, 0.1])), ("ab", alike), ("bc", alike)])
        >>> chain.marginals()["c"]
        tensor([0.5444, 0.4556])
    """

    def __init__(self, factors: Iterable[tuple[Sequence[str], Tensor]]) -> None:
        self.factors = [
            (tuple(scope), nonnegative(table, f"the factor of {tuple(scope)}", tuple(scope)))
            for scope, table in factors
        ]
        if not self.factors:
            raise ValueError("there is no factor; expected at least one")
        self.sizes = sizes_of(self.factors)
        self.names = tuple(self.sizes)
        self.log_tables = [table.log() for _, table in self.factors]
        self.graph = networkx.Graph()
        self.graph.add_nodes_from(self.names)
        self.graph.add_nodes_from(range(len(self.factors)))
        for f, (scope, _) in enumerate(self.factors):
            self.graph.add_edges_from((f, name) for name in scope)

    def marginals(self, evidence: Mapping[str, int] | None = None) -> dict[str, Tensor]:
        r"""p(x_i | evidence) of every variable, by sum–product.

        Raises:
            ValueError: if the graph has a loop, a name is unknown, a state is out of range, or the evidence has
                probability 0.
        """
        inbox = self._messages(evidence, torch.logsumexp)
        possible(float(self._log_z(inbox) > -torch.inf), evidence or {})
        return {name: self._belief(name, inbox).softmax(0) for name in self.names}

    def log_partition(self, evidence: Mapping[str, int] | None = None) -> Tensor:
        r"""log Z in nats, shape (); with evidence, the log of the sum over the states that agree with it.

        For a Bayesian network that is the log-probability of the evidence, −∞ where it cannot happen.

        Raises:
            ValueError: as for :meth:`marginals`, save for evidence of probability 0.
        """
        return self._log_z(self._messages(evidence, torch.logsumexp))

    def factor_marginal(self, f: int, evidence: Mapping[str, int] | None = None) -> Joint:
        r"""The distribution of the variables of factor number f given the evidence: its table times all it hears.

        Raises:
            ValueError: as for :meth:`marginals`.
        """
        known([f], range(len(self.factors)))
        inbox = self._messages(evidence, torch.logsumexp)
        possible(float(self._log_z(inbox) > -torch.inf), evidence or {})
        table = self._heard(f, None, inbox)
        return Joint(self.factors[f][0], table.flatten().softmax(0).view(table.shape))

    def schedule(self) -> list[tuple]:
        r"""Every message as (sender, receiver), in an order in which all that it needs has come before it.

        From the leaves of each tree to its root, and then back; factors are their numbers 0, 1, …

        Raises:
            ValueError: if the graph has a loop.
        """
        links = [link for link in self._links() if link[0] is not None]
        return [(leaf, root) for root, leaf in reversed(links)] + links

    def messages(self, evidence: Mapping[str, int] | None = None) -> dict[tuple, Tensor]:
        r"""The messages of sum–product, (sender, receiver) → its logarithm for each state of the variable at that link.

        They come in the order of :meth:`schedule`.

        Raises:
            ValueError: as for :meth:`log_partition`.
        """
        inbox = self._messages(evidence, torch.logsumexp)
        return {link: inbox[link] for link in self.schedule()}

    def mode(self, evidence: Mapping[str, int] | None = None) -> tuple[dict[str, int], Tensor]:
        r"""The most probable state of all variables, by max–product, and the log of the product of factors there.

        Messages go from the leaves to a root, with maxima in place of sums. Then each factor, seen from the root, sets
        its other variables to the best that goes with the one that is set: ties cannot mix two best states.

        Raises:
            ValueError: as for :meth:`marginals`.
        """
        inbox, state = self._messages(evidence, torch.amax), {}
        possible(float(self._log_z(inbox, torch.amax) > -torch.inf), evidence or {})
        for sender, receiver in self._links():
            if sender is None:
                state[receiver] = int(self._belief(receiver, inbox).argmax())
            elif isinstance(receiver, int):
                state |= self._best(receiver, sender, state[sender], inbox)
        return state, self._log_z(inbox, torch.amax)

    def _best(self, f: int, fixed: str, value: int, inbox: Mapping) -> dict[str, int]:
        scope = self.factors[f][0]
        table = self._heard(f, fixed, inbox).select(scope.index(fixed), value)
        where = torch.unravel_index(table.flatten().argmax(), table.shape)
        return {n: int(i) for n, i in zip((n for n in scope if n != fixed), where)}

    def _messages(self, evidence: Mapping[str, int] | None, reduce: Callable) -> dict:
        r"""Log-messages along every link in both directions, (sender, receiver) → shape (states of the variable,)."""
        in_range(evidence or {}, self.sizes)
        inbox: dict[tuple, Tensor] = {}
        for name in self.names:
            seen = torch.zeros(self.sizes[name]).to(self.log_tables[0])
            if name in (evidence or {}):
                seen = torch.full_like(seen, -torch.inf)
                seen[int(evidence[name])] = 0
            inbox[None, name] = seen
        for sender, receiver in self.schedule():
            inbox[sender, receiver] = self._message(sender, receiver, inbox, reduce)
        return inbox

    def _message(
        self, sender: str | int, receiver: str | int, inbox: Mapping, reduce: Callable
    ) -> Tensor:
        if isinstance(sender, int):
            scope = self.factors[sender][0]
            return summed(scope, self._heard(sender, receiver, inbox), (receiver,), reduce)
        return self._belief(sender, inbox, but=receiver)

    def _heard(self, f: int, but: str | None, inbox: Mapping) -> Tensor:
        r"""A factor's log-table plus the messages of all its variables but one."""
        scope, table = self.factors[f][0], self.log_tables[f]
        for name in scope:
            if name != but:
                table = table + aligned((name,), inbox[name, f], scope)
        return table

    def _belief(self, name: str, inbox: Mapping, but: int | None = None) -> Tensor:
        r"""The sum of the log-messages that a variable hears, from all its factors but one, and its evidence."""
        return inbox[None, name] + sum(inbox[f, name] for f in self.graph[name] if f != but)

    def _log_z(self, inbox: Mapping, reduce: Callable = torch.logsumexp) -> Tensor:
        roots = [name for sender, name in self._links() if sender is None]
        lone = sum(t for (scope, _), t in zip(self.factors, self.log_tables) if not scope)
        return lone + sum(reduce(self._belief(name, inbox), 0) for name in roots)

    def _links(self) -> Iterator[tuple]:
        r"""Links from each tree's root outwards, (node near the root, node far from it); (None, root) comes first.

        Raises:
            ValueError: if there is a loop.
        """
        seen: set = set()
        for root in self.names:
            if root in seen:
                continue
            seen.add(root)
            queue: list[tuple] = [(None, root)]
            for near, node in queue:
                yield near, node
                for other in self.graph[node]:
                    if other == near:
                        continue
                    if other in seen:
                        raise ValueError(
                            f"the factor graph has a loop through {node!r} and {other!r}; expected a tree"
                        )
                    seen.add(other)
                    queue.append((node, other))
