r"""Chapter 07: Markov random fields: cliques, potentials, separation, and what a product of potentials can be."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import networkx
import torch
from torch import Tensor

from lectool.graphical.directed import check_states, moral_graph
from lectool.graphical.tables import (
    Joint,
    aligned,
    disjoint,
    in_range,
    known,
    nonnegative,
    product,
    sizes_of,
    summed,
)

__all__ = [
    "MarkovRandomField",
    "canonical_potentials",
    "cliques",
    "factorization_gap",
    "is_markov",
    "markov_blanket",
    "maximal_cliques",
    "moussouris",
    "separated",
]

Names = str | Iterable[str]


class MarkovRandomField:
    r"""Discrete variables whose distribution is a product of non-negative potentials, divided by its sum Z.

    .. math:: p(x) = \frac1Z \prod_C \varphi_C(x_C) = \frac1Z e^{-E(x)}, \qquad E(x) = -\sum_C \log \varphi_C(x_C)

    Arguments:
        potentials: pairs of a scope (names) and a table of :math:`\varphi_C \ge 0`, with an axis for each name; a
            mapping from scopes to tables will do as well.
        graph: an undirected graph that the scopes must be cliques of; where ``None``, all variables of a scope are
            linked, and no others.

    Attributes:
        graph: a :class:`networkx.Graph`.
        names: of the nodes, in the order in which they first come; the columns of states.
        sizes: number of states of each.

    Raises:
        ValueError: if a table is negative or has the wrong number of axes, two disagree about a variable, a scope is no
            clique of the graph, or a node of the graph has no potential.

    Example:
        >>> alike = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
        >>> ring = MarkovRandomField([("AC", alike), ("CB", alike), ("BD", alike), ("AD", alike)])
        >>> ring.log_partition().exp()
        tensor(82.)
    """

    def __init__(
        self,
        potentials: Iterable[tuple[Sequence[str], Tensor]] | Mapping[tuple[str, ...], Tensor],
        graph: networkx.Graph | None = None,
    ) -> None:
        pairs = potentials.items() if isinstance(potentials, Mapping) else potentials
        self.potentials = [
            (tuple(scope), nonnegative(table, f"the potential of {tuple(scope)}", tuple(scope)))
            for scope, table in pairs
        ]
        if not self.potentials:
            raise ValueError("there is no potential; expected at least one")
        self.sizes = sizes_of(self.potentials)
        self.names = tuple(self.sizes)
        self.graph = linked(self.potentials, graph)

    def factors(self) -> list[tuple[tuple[str, ...], Tensor]]:
        r"""The potentials with their scopes, as :class:`~lectool.graphical.FactorGraph` takes them."""
        return self.potentials

    def energy(self, x: Tensor) -> Tensor:
        r"""E(x) in nats, shape (n,); ∞ where a potential is 0.

        Arguments:
            x: states, int64, shape (n, K), columns as in ``names``.

        Raises:
            ValueError: if x has another shape or type, or holds states that do not exist.
        """
        check_states(x, self.sizes)
        columns = dict(zip(self.names, x.T))
        return -sum(
            table.log()[tuple(columns[name] for name in scope)] for scope, table in self.potentials
        )

    def log_partition(self) -> Tensor:
        r"""log Z in nats, shape (), by enumeration of all states.

        Raises:
            ValueError: if there are more than 2²⁴ states, or Z is 0.
        """
        return self._log_table().flatten().logsumexp(0)

    def joint(self) -> Joint:
        r"""The distribution as one table, by enumeration.

        Raises:
            ValueError: if there are more than 2²⁴ states, or Z is 0.
        """
        return Joint(self.names, (self._log_table() - self.log_partition()).exp())

    def conditional(self, node: str, blanket: Mapping[str, int]) -> Tensor:
        r"""The distribution of one node given its neighbors: the potentials that it takes part in, normalized.

        Arguments:
            node: its name.
            blanket: states of all its neighbors; those of other nodes are not looked at.

        Raises:
            ValueError: if a name is unknown, a neighbor is missing, a state is out of range, or no state is possible.
        """
        known([node], self.names)
        in_range({name: state for name, state in blanket.items() if name != node}, self.sizes)
        if missing := sorted(set(self.graph[node]) - set(blanket)):
            raise ValueError(
                f"the state of {', '.join(missing)} is missing; expected all neighbors'"
            )
        log_p = sum(
            table.log()[tuple(slice(None) if n == node else blanket[n] for n in scope)]
            for scope, table in self.potentials
            if node in scope
        )
        if log_p.max() == -torch.inf:
            raise ValueError(f"no state of {node} is possible given {dict(blanket)}")
        return log_p.softmax(0)

    def _log_table(self) -> Tensor:
        table = product([(scope, t.log()) for scope, t in self.potentials], self.sizes)
        if table.max() == -torch.inf:
            raise ValueError("the potentials are 0 for every state; expected Z > 0")
        return table


def linked(
    potentials: Iterable[tuple[Sequence[str], Tensor]], graph: networkx.Graph | None
) -> networkx.Graph:
    r"""The graph in which the variables of each scope are linked, or the given one if the scopes are its cliques."""
    own = networkx.Graph()
    for scope, _ in potentials:
        own.add_nodes_from(scope)
        own.add_edges_from(itertools.combinations(scope, 2))
    if graph is None:
        return own
    for a, b in own.edges:
        if not graph.has_edge(a, b):
            raise ValueError(
                f"a potential holds {a} and {b}, which the graph does not link; expected cliques"
            )
    known(own, graph)
    if missing := [str(node) for node in graph if node not in own]:
        raise ValueError(f"{', '.join(missing)} has no potential; expected one for each node")
    return graph


def maximal_cliques(graph: networkx.Graph) -> list[tuple[str, ...]]:
    r"""Sets of nodes, all linked with each other, that no other node can join; nodes in the graph's order.

    Raises:
        ValueError: if the graph is directed.

    References:
        Bron & Kerbosch (1973), Algorithm 457: finding all cliques of an undirected graph.
    """
    undirected(graph)
    place = {node: i for i, node in enumerate(graph)}

    def grow(clique: list, candidates: set, done: set) -> Iterator[tuple[str, ...]]:
        if not candidates and not done:
            yield tuple(sorted(clique, key=place.get))
            return
        # A maximal clique that lacks the pivot holds a node that is not its neighbor.
        pivot = max(
            candidates | done, key=lambda node: (len(candidates & set(graph[node])), -place[node])
        )
        for node in sorted(candidates - set(graph[pivot]), key=place.get):
            yield from grow([*clique, node], candidates & set(graph[node]), done & set(graph[node]))
            candidates, done = candidates - {node}, done | {node}

    found = grow([], {n for n in graph if not graph.has_edge(n, n)}, set()) if place else []
    return sorted(found, key=lambda clique: [place[node] for node in clique])


def cliques(graph: networkx.Graph) -> list[tuple[str, ...]]:
    r"""Every set of nodes that are all linked with each other, single nodes among them, small sets first.

    Raises:
        ValueError: if the graph is directed.
    """
    place = {node: i for i, node in enumerate(graph)}
    found = {
        part
        for clique in maximal_cliques(graph)
        for size in range(1, len(clique) + 1)
        for part in itertools.combinations(clique, size)
    }
    return sorted(found, key=lambda part: (len(part), [place[node] for node in part]))


def separated(graph: networkx.Graph, a: Names, b: Names, given: Names = ()) -> bool:
    r"""Whether every path between a and b goes through an observed node.

    Arguments:
        graph: undirected.
        a, b, given: a node or several; no node in two of the three.

    Raises:
        ValueError: if a node is unknown or in two sets, or the graph is directed.
    """
    undirected(graph)
    a, b, given = disjoint(a, b, given)
    known((*a, *b, *given), graph)
    return not reached(graph, a, given) & set(b)


def reached(graph: networkx.Graph, start: Iterable[str], blocked: Iterable[str]) -> set[str]:
    r"""The nodes on paths that begin in ``start`` and avoid the blocked nodes."""
    seen, queue = set(start), list(start)
    for node in queue:
        new = [other for other in graph[node] if other not in seen and other not in blocked]
        seen.update(new)
        queue += new
    return seen


def markov_blanket(graph: networkx.Graph | networkx.DiGraph, node: str) -> set[str]:
    r"""The nodes that tell of a node all that the others know.

    In an undirected graph they are its neighbors; in a directed one its parents, its children, and the other parents
    of its children.

    Raises:
        ValueError: if the node is unknown.
    """
    known([node], graph)
    return set((moral_graph(graph) if graph.is_directed() else graph)[node])


def canonical_potentials(
    joint: Joint, reference: Mapping[str, int] | None = None
) -> dict[tuple[str, ...], Tensor]:
    r"""The log-potential of every set of variables by which Hammersley and Clifford's theorem is proved.

    .. math:: \log \varphi_A(x_A) = \sum_{B \subseteq A} (-1)^{\lvert A \setminus B \rvert} \log p(x_B, r_{-B}),
              \qquad \log p(x) = \sum_A \log \varphi_A(x_A) ,

    with the variables outside of B in a reference state r. Those of sets that are no cliques are 0 if p is Markov with
    respect to the graph.

    Arguments:
        joint: with positive probabilities.
        reference: a state of every variable; 0 where ``None``.

    Returns:
        set of names → table of its log-potential, for all 2^K sets, the empty one among them.

    Raises:
        ValueError: if a probability is 0, whose logarithm is needed, or the reference is no state.

    References:
        Besag (1974), Spatial interaction and the statistical analysis of lattice systems; Grimmett (1973), A theorem
        about random fields.
    """
    if (joint.table <= 0).any():
        raise ValueError(
            f"{int((joint.table <= 0).sum())} states have probability 0; expected p > 0"
        )
    reference = dict.fromkeys(joint.names, 0) if reference is None else dict(reference)
    in_range(reference, joint.sizes)
    known(joint.names, reference)
    log_p = joint.table.log()
    potentials: dict[tuple[str, ...], Tensor] = {}
    for scope in subsets(joint.names):
        fixed = tuple(slice(None) if name in scope else reference[name] for name in joint.names)
        # What the smaller sets leave: the same as the alternating sum.
        smaller = [aligned(part, potentials[part], scope) for part in subsets(scope)[:-1]]
        potentials[scope] = log_p[fixed] - sum(smaller)
    return potentials


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    r"""All subsets, the empty one first and the whole last."""
    return [part for k in range(len(names) + 1) for part in itertools.combinations(names, k)]


def factorization_gap(joint: Joint, graph: networkx.Graph) -> float:
    r"""How far a distribution is from a product of potentials on the maximal cliques: 0 where it is one.

    A product can have zeros only where the marginal of a clique has one. Elsewhere, log p must be a sum of one number
    for each state of each clique: linear equations, solved by least squares.

    Returns:
        the largest error of log p in nats; ∞ where a probability is 0 although the marginals of all cliques are not.

    Raises:
        ValueError: if the nodes of the graph are not the variables.
    """
    known(graph, joint.names)
    known(joint.names, graph)
    p, columns, allowed = joint.table.double(), [], torch.ones_like(joint.table, dtype=torch.bool)
    for clique in maximal_cliques(graph):
        marginal = summed(joint.names, p, clique)
        allowed &= aligned(clique, marginal > 0, joint.names)
        for state in torch.eye(marginal.numel(), dtype=p.dtype):
            one = aligned(clique, state.view(marginal.shape), joint.names)
            columns.append(one.expand(p.shape).flatten())
    if not torch.equal(allowed, p > 0):
        return torch.inf
    possible = (p > 0).flatten()
    A, log_p = torch.stack(columns, 1)[possible], p.flatten()[possible].log()
    return (A @ (torch.linalg.pinv(A) @ log_p) - log_p).abs().max().item()


def is_markov(joint: Joint, graph: networkx.Graph, *, tol: float = 1e-9) -> bool:
    r"""Whether every separation in the graph is a conditional independence of the distribution (global property).

    For every set of observed nodes, each connected part of the rest must be independent of all other parts.

    Arguments:
        tol: mutual information that counts as none, in nats.

    Raises:
        ValueError: if the nodes of the graph are not the variables, or the graph is directed.
    """
    undirected(graph)
    known(graph, joint.names)
    known(joint.names, graph)
    for given in subsets(joint.names):
        rest = [name for name in joint.names if name not in given]
        while rest:
            part = reached(graph, rest[:1], given)
            others = [n for n in joint.names if n not in part and n not in given]
            if others and not joint.independent(part, others, given, tol=tol):
                return False
            rest = [name for name in rest if name not in part]
    return True


def moussouris() -> tuple[Joint, networkx.Graph]:
    r"""A distribution and a graph that show why Hammersley and Clifford need p > 0.

    Eight of the sixteen states of four binary variables have probability ⅛ each. On the four-cycle the distribution has
    every independence that the graph asks for, and is no product of potentials on its links.

    References:
        Moussouris (1974), Gibbs and Markov random systems with constraints.
    """
    names, table = ("x1", "x2", "x3", "x4"), torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    for state in ("0000", "1000", "1100", "1110", "0001", "0011", "0111", "1111"):
        table[tuple(map(int, state))] = 1 / 8
    return Joint(names, table), networkx.cycle_graph(names)


def undirected(graph: networkx.Graph) -> None:
    r"""Raises a ValueError for a directed graph."""
    if graph.is_directed():
        raise ValueError("the graph is directed; expected an undirected one")
