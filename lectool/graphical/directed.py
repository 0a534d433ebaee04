r"""Chapter 07: Bayesian networks: what their graphs say, and what their tables answer."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import networkx
import torch
from torch import Tensor

from lectool import check, random
from lectool.graphical.tables import (
    Joint,
    disjoint,
    distribution,
    known,
    names_of,
    nonnegative,
    product,
    summed,
)

__all__ = [
    "BayesianNetwork",
    "d_separated",
    "from_joint",
    "minimal_graph",
    "moral_graph",
    "open_path",
    "random_graph",
    "random_network",
    "topological_order",
]

Names = str | Iterable[str]


class BayesianNetwork:
    r"""Discrete variables, each with a table of its probabilities given its parents.

    .. math:: p(x_1, \dots, x_K) = \prod_k p(x_k \mid \mathrm{pa}_k)

    Arguments:
        tables: name → table for a node without parents, name → (parents, table) for others. A table has an axis for
            each parent, in their order, and a last one for the states of the node, over which it sums to 1.

    Attributes:
        graph: a :class:`networkx.DiGraph`, with an edge from each parent to its child.
        names: of the nodes, as given; the columns of samples.
        order: of the nodes, parents before children.
        sizes: number of states of each node.

    Raises:
        ValueError: if the graph has a cycle, a parent is unknown, or a table has the wrong shape, a negative entry,
            or rows that do not sum to 1.

    Example:
        >>> rain = torch.tensor([0.8, 0.2])
        >>> wet = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        >>> network = BayesianNetwork({"rain": rain, "wet": ("rain", wet)})
        >>> network.query("rain", {"wet": 1}).table
        tensor([0.3333, 0.6667])
    """

    def __init__(self, tables: Mapping[str, Tensor | tuple[Names, Tensor]]) -> None:
        given = {name: t if isinstance(t, tuple) else ((), t) for name, t in tables.items()}
        self.names = tuple(given)
        self.parents = {name: names_of(parents) for name, (parents, _) in given.items()}
        self.graph = networkx.DiGraph()
        self.graph.add_nodes_from(self.names)
        for name, parents in self.parents.items():
            known(parents, self.names)
            self.graph.add_edges_from((parent, name) for parent in parents)
        self.order = topological_order(self.graph)
        self.tables = {
            name: nonnegative(table, f"the table of {name}", (*self.parents[name], name))
            for name, (_, table) in given.items()
        }
        self.sizes = {name: self.tables[name].shape[-1] for name in self.names}
        for name, table in self.tables.items():
            shape = tuple(self.sizes[parent] for parent in (*self.parents[name], name))
            check.shape(*shape, **{f"the table of {name}": table})
            distribution(table, f"the table of {name}")

    def __repr__(self) -> str:
        said = [f"{n} | {', '.join(p)}" if p else n for n, p in self.parents.items()]
        return f"BayesianNetwork({'; '.join(said)})"

    @property
    def n_parameters(self) -> int:
        r"""Free numbers in all tables: each row has one fewer than it has states."""
        return sum(t.numel() // t.shape[-1] * (t.shape[-1] - 1) for t in self.tables.values())

    def factors(self) -> list[tuple[tuple[str, ...], Tensor]]:
        r"""The tables with their scopes, as :class:`~lectool.graphical.FactorGraph` and others take them."""
        return [((*self.parents[name], name), self.tables[name]) for name in self.names]

    def log_prob(self, x: Tensor) -> Tensor:
        r"""Log-probability of states x in nats, shape (n,): the sum of one entry of each table.

        Arguments:
            x: int64, shape (n, K), columns as in ``names``.

        Raises:
            ValueError: if x has another shape or type, or holds states that do not exist.
        """
        check_states(x, self.sizes)
        columns = dict(zip(self.names, x.T))
        return sum(table.log()[tuple(columns[n] for n in scope)] for scope, table in self.factors())

    def joint(self) -> Joint:
        r"""The distribution of all nodes as one table.

        Raises:
            ValueError: if it has more than 2²⁴ entries.
        """
        factors = [(scope, table.double().log()) for scope, table in self.factors()]
        table = product(factors, self.sizes).exp()
        return Joint(self.names, table.to(self.tables[self.names[0]]))

    def query(self, names: Names, evidence: Mapping[str, int] | None = None) -> Joint:
        r"""The distribution of some nodes given the states of others, by enumeration of all the rest.

        Raises:
            ValueError: if a name is unknown, or the evidence has probability 0.
        """
        return self.joint().given(evidence or {}).marginal(*names_of(names))

    def sample(self, n: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        r"""Ancestral sampling: each node is drawn given its parents, which come before it.

        The columns of some nodes alone are samples of their marginal distribution.

        Arguments:
            n: ≥ 1.
            generator: of the draws; torch's global one where ``None``.

        Returns:
            states, int64, shape (n, K), columns as in ``names``.
        """
        check.at_least(1, n=n)
        x: dict[str, Tensor] = {}
        for name in self.order:
            rows = self.tables[name][tuple(x[parent] for parent in self.parents[name])]
            x[name] = categorical(rows.expand(n, -1), generator)
        return torch.stack([x[name] for name in self.names], 1)


def topological_order(graph: networkx.DiGraph) -> list[str]:
    r"""The nodes of a directed graph, each after its parents.

    Raises:
        ValueError: if there is a directed cycle, which is named, or the graph is not directed.
    """
    if not graph.is_directed():
        raise ValueError(f"the graph is a {type(graph).__name__}; expected a directed one")
    waiting = {node: set(graph.predecessors(node)) for node in graph}
    order: list[str] = []
    while waiting:
        ready = [node for node, parents in waiting.items() if parents <= set(order)]
        if not ready:
            raise ValueError(f"the graph has the cycle {' → '.join(cycle(waiting))}; expected none")
        order += ready
        waiting = {node: parents for node, parents in waiting.items() if node not in ready}
    return order


def cycle(parents: Mapping[str, set[str]]) -> list[str]:
    r"""A directed cycle among nodes of which each waits for a parent among them, its first node again at the end."""
    path = [next(iter(parents))]
    while path.count(path[-1]) < 2:
        path.append(next(p for p in parents[path[-1]] if p in parents))
    return [str(node) for node in path[path.index(path[-1]) :][::-1]]


def open_path(graph: networkx.DiGraph, a: Names, b: Names, given: Names = ()) -> list[str] | None:
    r"""A path from a to b along which information flows, with some nodes observed; ``None`` where all are blocked.

    A node is passed along a chain (→ →, ← ←) or from a common cause (← →) unless it is observed; a common effect
    (→ ←) is passed only if it, or a descendant of it, is observed: it explains away. The search walks over pairs of a
    node and the direction in which it was reached, each once. The path may touch a node twice, on its way down to an
    observed descendant and back.

    Arguments:
        graph: without cycles.
        a, b, given: a node or several; no node in two of the three.

    Raises:
        ValueError: if a node is unknown or in two sets, or the graph has a cycle.

    References:
        Shachter (1998), Bayes-ball.
    """
    a, b, given = disjoint(a, b, given)
    known((*a, *b, *given), graph)
    topological_order(graph)
    ways: dict[tuple, tuple | None] = {(node, "up"): None for node in a}
    queue = list(ways)
    for node, arrived in queue:
        if node in b:
            return walked(ways, (node, arrived))
        for step in onward(graph, node, arrived, node in given):
            if step not in ways:
                ways[step] = (node, arrived)
                queue.append(step)
    return None


def onward(graph: networkx.DiGraph, node: str, arrived: str, observed: bool) -> list[tuple]:
    r"""Where the ball goes on from a node that it reached from a child (``"up"``) or from a parent (``"down"``)."""
    parents = [(parent, "up") for parent in graph.predecessors(node)]
    children = [(child, "down") for child in graph.successors(node)]
    if observed:
        return parents if arrived == "down" else []
    return parents + children if arrived == "up" else children


def walked(ways: Mapping[tuple, tuple | None], end: tuple) -> list[str]:
    r"""The nodes from the start to the end of a search that kept where each step came from."""
    path, at = [], end
    while at is not None:
        path.append(at[0])
        at = ways[at]
    return path[::-1]


def d_separated(graph: networkx.DiGraph, a: Names, b: Names, given: Names = ()) -> bool:
    r"""Whether every path between a and b is blocked by the observed nodes: then a and b are independent given them.

    Arguments, errors: as for :func:`open_path`.

    Example:
        >>> alarm = networkx.DiGraph([("burglar", "alarm"), ("earthquake", "alarm")])
        >>> d_separated(alarm, "burglar", "earthquake")
        True
        >>> d_separated(alarm, "burglar", "earthquake", given="alarm")
        False
    """
    return open_path(graph, a, b, given) is None


def minimal_graph(order: Sequence[str], independent: Callable[..., bool]) -> networkx.DiGraph:
    r"""The graph that the product rule gives in this order of the nodes: a minimal I-map.

    At first every node before a node is its parent. One after the other is left out if the node is independent of it
    given the parents that remain. These then make it independent of all others before it, and none of them can be
    spared; where every probability is positive, there is one such set only.

    Arguments:
        order: the nodes; another order gives another graph.
        independent: called as ``independent(a, b, given)``; a :class:`Joint`'s own, or d-separation in a graph.

    Raises:
        ValueError: if a node comes twice.

    References:
        Pearl (1988), Probabilistic reasoning in intelligent systems, section 3.3.
    """
    known(order, order)
    graph = networkx.DiGraph()
    for k, node in enumerate(order):
        graph.add_node(node)
        parents = list(order[:k])
        for other in order[:k]:
            rest = [parent for parent in parents if parent != other]
            if independent(node, other, rest):
                parents = rest
        graph.add_edges_from((parent, node) for parent in parents)
    return graph


def from_joint(joint: Joint, graph: networkx.DiGraph) -> BayesianNetwork:
    r"""The network on a graph whose tables are the conditional distributions of a joint one.

    It has the joint distribution itself where the graph claims no independence that the distribution lacks, and else
    the closest to it that the graph allows. Rows for parents' states of probability 0 are uniform.

    Raises:
        ValueError: if their nodes differ, or the graph has a cycle.
    """
    known(graph, joint.names)
    known(joint.names, graph)
    tables = {}
    for name in joint.names:
        parents = tuple(p for p in joint.names if graph.has_edge(p, name))
        both = summed(joint.names, joint.table, (*parents, name))
        total = both.sum(-1, keepdim=True)
        tables[name] = (parents, torch.where(total > 0, both / total, 1 / both.shape[-1]))
    return BayesianNetwork(tables)


def moral_graph(graph: networkx.DiGraph) -> networkx.Graph:
    r"""The undirected graph in which each node, its parents and its children are linked, and parents of one child.

    Neighbors in it are the Markov blanket of a node: its parents, its children, and its children's other parents.
    """
    moral = networkx.Graph(graph.edges)
    moral.add_nodes_from(graph)
    for node in graph:
        parents = list(graph.predecessors(node))
        moral.add_edges_from((p, q) for i, p in enumerate(parents) for q in parents[:i])
    return moral


def random_graph(
    k: int, p: float = 0.5, *, generator: torch.Generator | None = None
) -> networkx.DiGraph:
    r"""A directed graph without cycles over nodes x1 … xk, in which each pair is linked with probability p.

    Links go from the smaller to the larger of two numbers drawn for the nodes: a random order.

    Raises:
        ValueError: if k < 1 or p is not in [0, 1].
    """
    check.at_least(1, k=k)
    check.inside("[0, 1]", p=p)
    order = random.permutation(k, generator=generator).tolist()
    linked = random.bernoulli(torch.full((k, k), p), generator).bool().tolist()
    graph = networkx.DiGraph()
    graph.add_nodes_from(f"x{i + 1}" for i in range(k))
    for later in range(k):
        earlier = [j for j in range(later) if linked[later][j]]
        graph.add_edges_from((f"x{order[j] + 1}", f"x{order[later] + 1}") for j in earlier)
    return graph


def random_network(
    graph: networkx.DiGraph,
    sizes: int | Mapping[str, int] = 2,
    *,
    generator: torch.Generator | None = None,
) -> BayesianNetwork:
    r"""A network on a graph with random tables, float64: rows are uniform over all distributions (Dirichlet(1, …, 1)).

    Arguments:
        graph: without cycles.
        sizes: number of states of every node, or of each by name, ≥ 1.
    """
    sizes = {n: sizes for n in graph} if isinstance(sizes, int) else dict(sizes)
    tables = {}
    for node in graph:
        parents = tuple(graph.predecessors(node))
        shape = [sizes[n] for n in (*parents, node)]
        weights = -random.uniform(shape, torch.empty(0).double(), generator).clamp(1e-12).log()
        tables[node] = (parents, weights / weights.sum(-1, keepdim=True))
    return BayesianNetwork(tables)


def categorical(p: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""A state for each row of probabilities, shape (n, m): where a uniform number falls among their sums; int64."""
    u = random.uniform((len(p), 1), p, generator)
    total = p.cumsum(-1)
    return (u * total[:, -1:] >= total[:, :-1]).sum(-1)


def check_states(x: Tensor, sizes: Mapping[str, int]) -> None:
    r"""Raises a ValueError unless x is int64 of shape (n, K) and holds states that exist."""
    if not isinstance(x, Tensor) or x.dtype != torch.int64:
        raise ValueError(f"x is {getattr(x, 'dtype', type(x).__name__)}; expected int64 states")
    check.shape("n", len(sizes), x=x)
    for (name, size), column in zip(sizes.items(), x.T):
        if len(column) and not (0 <= column.min() and column.max() < size):
            raise ValueError(
                f"x holds {name} = {column[(column < 0) | (column >= size)][0].item()}; "
                f"expected states 0 … {size - 1}"
            )
