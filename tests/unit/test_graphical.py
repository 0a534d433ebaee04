"""Graphical models against enumeration, networkx, autograd, Gaussian conditioning and closed forms."""

import itertools
import math

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal

from lectool import graphical, random, train
from lectool.graphical import checkerboard

FEW = settings(derandomize=True, database=None, deadline=None, max_examples=25)
DOUBLE = torch.zeros(()).double()
SEVEN = {"x1": "", "x2": "", "x3": "", "x4": "x1 x2 x3", "x5": "x1 x3", "x6": "x4", "x7": "x4 x5"}


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def dag(parents):
    graph = networkx.DiGraph()
    graph.add_nodes_from(parents)
    graph.add_edges_from((p, name) for name, ps in parents.items() for p in ps.split())
    return graph


def states(sizes):
    return list(itertools.product(*(range(size) for size in sizes.values())))


def by_hand(factors, sizes):
    """The product of factors for each state, one Python number at a time."""
    table = torch.zeros(tuple(sizes.values())).double()
    for x in states(sizes):
        at = dict(zip(sizes, x))
        table[x] = math.prod(t[tuple(at[name] for name in scope)].item() for scope, t in factors)
    return table


def some_dag(seed, k=5, p=0.5):
    return graphical.random_graph(k, p, generator=gen(seed))


def some_field(graph, seed, sizes=2, zeros=False):
    """A random field with a potential on each maximal clique."""
    rng, potentials = gen(seed), []
    for clique in graphical.maximal_cliques(graph):
        table = 3 * torch.rand([sizes] * len(clique), generator=rng, dtype=torch.float64) + 0.1
        if zeros:
            table.view(-1)[torch.randint(table.numel(), (), generator=rng)] = 0
        potentials.append((clique, table))
    return graphical.MarkovRandomField(potentials)


# ------------------------------------------------------------------------------------------------ tables


def some_joint(seed=0, sizes=(2, 3, 2, 2)):
    p = torch.rand(sizes, generator=gen(seed), dtype=torch.float64)
    return graphical.Joint("abcd"[: len(sizes)], p / p.sum())


def test_marginals_and_conditionals_are_sums_of_the_table():
    joint = some_joint()
    p = joint.table
    torch.testing.assert_close(joint.marginal("c", "b").table, torch.einsum("abcd->cb", p))
    expected = p[1, :, :, 0] / p[1, :, :, 0].sum()
    given_two = joint.given({"d": 0}, a=1)
    assert given_two.names == ("b", "c")
    torch.testing.assert_close(given_two.table, expected)
    assert joint.given({"a": 0, "b": 0, "c": 0, "d": 1}).table == 1
    assert joint.sizes == {"a": 2, "b": 3, "c": 2, "d": 2}
    mode = joint.mode()
    assert p[tuple(mode.values())] == p.max()


def test_information_is_a_divergence_and_zero_for_independent_variables():
    joint = some_joint()
    p = joint.table
    pc, pac, pbc = (torch.einsum(f"abcd->{s}", p) for s in ("c", "ac", "bc"))
    pabc = p.sum(3)
    ratio = pabc * pc[None, None] / (pac[:, None] * pbc[None])
    assert joint.information("a", "b", "c") == pytest.approx((pabc * ratio.log()).sum().item())
    xor = torch.zeros(2, 2, 2).double()
    for a, b in itertools.product((0, 1), repeat=2):
        xor[a, b, a ^ b] = 0.25
    xor = graphical.Joint("abc", xor)
    assert xor.independent("a", "b") and not xor.independent("a", "b", "c")
    assert xor.information("a", "b", "c") == pytest.approx(math.log(2))
    assert xor.information("a", ["b", "c"]) == pytest.approx(math.log(2))


def test_enumeration_has_a_limit():
    coin = torch.tensor([0.5, 0.5])
    with pytest.raises(ValueError, match="25 variables have 33554432 states; expected at most"):
        graphical.BayesianNetwork({f"x{i}": coin for i in range(25)}).joint()


# ------------------------------------------------------------------------------------------------ Bayesian networks


def test_the_seven_node_network_is_the_product_of_its_tables():
    sizes = dict(zip(SEVEN, (2, 3, 2, 2, 3, 2, 2)))
    network = graphical.random_network(dag(SEVEN), sizes, generator=gen(1))
    joint, expected = network.joint(), by_hand(network.factors(), sizes)
    assert joint.names == tuple(SEVEN)
    torch.testing.assert_close(joint.table, expected)
    assert expected.sum() == pytest.approx(1)
    x = torch.tensor(states(sizes))
    torch.testing.assert_close(network.log_prob(x), expected.flatten().log())
    assert network.n_parameters == 1 + 2 + 1 + 12 + 4 * 2 + 2 + 6
    assert all(network.order.index(p) < network.order.index(n) for p, n in network.graph.edges)


def test_a_query_is_a_ratio_of_sums():
    network = graphical.random_network(dag(SEVEN), generator=gen(2))
    p = by_hand(network.factors(), network.sizes)
    found = network.query(["x5", "x2"], {"x7": 1, "x3": 0})
    expected = torch.zeros(2, 2).double()
    for x in states(network.sizes):
        if x[6] == 1 and x[2] == 0:
            expected[x[4], x[1]] += p[x]
    torch.testing.assert_close(found.table, expected / expected.sum())
    torch.testing.assert_close(network.query("x6").table, p.sum((0, 1, 2, 3, 4, 6)))


def test_ancestral_samples_have_the_marginals_of_the_network():
    sizes = dict(zip(SEVEN, (2, 3, 2, 2, 3, 2, 2)))
    network = graphical.random_network(dag(SEVEN), sizes, generator=gen(3))
    n = 40_000
    x = network.sample(n, generator=gen(0))
    assert x.dtype == torch.int64 and x.shape == (n, 7)
    for a, b in itertools.combinations(range(7), 2):
        names = network.names[a], network.names[b]
        p = network.joint().marginal(*names).table
        counts = torch.zeros_like(p).index_put_((x[:, a], x[:, b]), p.new_ones(n), accumulate=True)
        error = (counts / n - p) / (p * (1 - p) / n).sqrt()
        assert error.abs().max() < 4.5, names


def test_samples_take_no_state_of_probability_zero_and_follow_the_generator():
    p = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0])
    network = graphical.BayesianNetwork({"a": p})
    x = network.sample(5000, generator=gen(1))
    assert set(x.flatten().tolist()) == {1, 3}
    assert torch.equal(x, network.sample(5000, generator=gen(1)))


def test_explaining_away():
    """Two rare causes of an alarm: independent at first, then one makes the other unlikely again."""
    rare = torch.tensor([0.9, 0.1]).double()
    either = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]).double()
    network = graphical.BayesianNetwork({"b": rare, "e": rare, "alarm": (("b", "e"), either)})
    assert network.query("b").table[1] == pytest.approx(0.1)
    assert network.query("b", {"e": 1}).table[1] == pytest.approx(0.1)
    assert network.query("b", {"alarm": 1}).table[1] == pytest.approx(0.1 / 0.19)
    assert network.query("b", {"alarm": 1, "e": 1}).table[1] == pytest.approx(0.1)


def test_d_separation_is_independence_in_200_random_networks():
    n_separated = 0
    for seed in range(200):
        rng = gen(seed)
        graph = graphical.random_graph(5, 0.45, generator=rng)
        joint = graphical.random_network(graph, generator=rng).joint()
        nodes = [f"x{i + 1}" for i in torch.randperm(5, generator=rng)]
        for n_given in range(4):
            a, b, c = nodes[0], nodes[1], nodes[2 : 2 + n_given]
            separated = graphical.d_separated(graph, a, b, c)
            assert joint.independent(a, b, c, tol=1e-13) == separated, (seed, a, b, c)
            n_separated += separated
    assert 150 < n_separated < 650


@FEW
@given(st.integers(0, 10_000), st.integers(2, 8), st.floats(0.1, 0.7))
def test_d_separation_of_sets_agrees_with_networkx(seed, k, p):
    graph, rng = some_dag(seed, k, p), gen(seed + 1)
    reference = getattr(networkx, "is_d_separator", None) or networkx.d_separated
    for _ in range(8):
        role = dict(zip(graph, torch.randint(4, (k,), generator=rng).tolist()))
        a, b, c = ({n for n in graph if role[n] == r} for r in range(3))
        if a and b:
            path = graphical.open_path(graph, a, b, c)
            assert (path is None) == reference(graph, a, b, c)
            if path is not None:
                steps = zip(path, path[1:])
                assert path[0] in a and path[-1] in b
                assert all(graph.has_edge(u, v) or graph.has_edge(v, u) for u, v in steps)


def test_an_open_path_goes_down_to_the_observed_descendant_and_back():
    graph = dag({"a": "", "b": "", "c": "a b", "d": "c"})
    assert graphical.open_path(graph, "a", "b") is None
    assert graphical.open_path(graph, "a", "b", "d") == ["a", "c", "d", "c", "b"]
    assert graphical.open_path(graph, "a", "d") == ["a", "c", "d"]
    assert graphical.open_path(graph, "a", "d", "c") is None


def test_topological_order_and_its_cycle():
    graph = some_dag(5, 8)
    place = {node: i for i, node in enumerate(graphical.topological_order(graph))}
    assert sorted(place) == sorted(graph) and all(place[u] < place[v] for u, v in graph.edges)
    with pytest.raises(ValueError, match="the graph has the cycle") as error:
        graphical.topological_order(dag({"a": "c d", "b": "a", "c": "b", "d": ""}))
    path = str(error.value).split("cycle ")[1].split(";")[0].split(" → ")
    assert path[0] == path[-1] and sorted(path[1:]) == ["a", "b", "c"]
    assert all(step in ("ab", "bc", "ca") for step in map("".join, zip(path, path[1:])))


@pytest.mark.parametrize("seed", range(4))
def test_every_order_gives_a_graph_that_loses_nothing_and_has_no_link_too_many(seed):
    network = graphical.random_network(some_dag(seed, 4), generator=gen(seed))
    joint = network.joint()
    links = set()
    for order in itertools.permutations(joint.names):
        graph = graphical.minimal_graph(order, joint.independent)
        again = graphical.from_joint(joint, graph).joint()
        torch.testing.assert_close(again.table, joint.table)
        by_graph = graphical.minimal_graph(
            order, lambda *sets: graphical.d_separated(network.graph, *sets)
        )
        assert set(graph.edges) == set(by_graph.edges)
        for edge in list(graph.edges):
            fewer = graph.copy()
            fewer.remove_edge(*edge)
            poorer = graphical.from_joint(joint, fewer).joint()
            assert (poorer.table - joint.table).abs().max() > 1e-7
        links.add(graph.number_of_edges())
    assert min(links) <= network.graph.number_of_edges()
    own = graphical.minimal_graph(network.order, joint.independent)
    assert set(own.edges) == set(network.graph.edges)


def test_an_order_from_effects_to_causes_needs_more_numbers():
    graph = dag({"a": "", "b": "", "c": "a b"})
    joint = graphical.random_network(graph, generator=gen(4)).joint()
    assert graphical.minimal_graph("abc", joint.independent).number_of_edges() == 2
    backwards = graphical.minimal_graph("cba", joint.independent)
    assert backwards.number_of_edges() == 3
    assert graphical.from_joint(joint, backwards).n_parameters == 7


def test_from_joint_has_uniform_rows_where_parents_are_impossible():
    table = torch.tensor([[0.3, 0.7], [0.0, 0.0]]).double()
    network = graphical.from_joint(graphical.Joint("ab", table), dag({"a": "", "b": "a"}))
    torch.testing.assert_close(network.tables["b"], torch.tensor([[0.3, 0.7], [0.5, 0.5]]).double())


@FEW
@given(st.integers(0, 10_000), st.integers(1, 8), st.floats(0, 1, allow_subnormal=False))
def test_moral_graphs_and_blankets(seed, k, p):
    graph = some_dag(seed, k, p)
    assert networkx.is_directed_acyclic_graph(graph) and len(graph) == k
    moral = graphical.moral_graph(graph)
    assert networkx.utils.graphs_equal(moral, networkx.moral_graph(graph))
    for node in graph:
        blanket = graphical.markov_blanket(graph, node)
        rest = set(graph) - blanket - {node}
        assert not rest or graphical.d_separated(graph, node, rest, blanket)
        for one in blanket:  # each is needed
            assert not graphical.d_separated(graph, node, {one} | rest, blanket - {one})


def test_random_graphs_link_a_share_of_the_pairs_in_both_directions():
    edges = [edge for seed in range(60) for edge in some_dag(seed, 6, 0.3).edges]
    assert len(edges) / (60 * 15) == pytest.approx(0.3, abs=0.05)
    assert sum(u < v for u, v in edges) / len(edges) == pytest.approx(0.5, abs=0.1)


# ------------------------------------------------------------------------------------------------ curve fitting


def some_curve(degree=4, n=7, seed=0, dtype=torch.float64):
    x = torch.rand(n, generator=gen(seed), dtype=dtype)
    t = (6 * x).sin() + 0.2 * torch.randn(n, generator=gen(seed + 1), dtype=dtype)
    return x, t, graphical.BayesianCurve(degree, alpha=0.3, noise_variance=0.04).fit(x, t)


def test_posterior_and_prediction_condition_the_joint_gaussian():
    x, t, curve = some_curve()
    new = torch.linspace(-0.5, 1.5, 9, dtype=torch.float64)
    phi = torch.cat(
        [torch.stack([x**j for j in range(5)], 1), torch.stack([new**j for j in range(5)], 1)]
    )
    both = torch.cat([torch.eye(5).double(), phi])
    cov = both @ both.T / 0.3  # of weights, targets, new targets
    cov[5:, 5:] += 0.04 * torch.eye(16)
    seen, rest = list(range(5, 12)), [*range(5), *range(12, 21)]
    gain = cov[rest][:, seen] @ torch.linalg.inv(cov[seen][:, seen])
    mean, posterior = gain @ t, cov[rest][:, rest] - gain @ cov[seen][:, rest]
    torch.testing.assert_close(curve.mean_, mean[:5])
    torch.testing.assert_close(curve.cov_, posterior[:5, :5])
    m, v = curve.predict(new)
    torch.testing.assert_close(m, mean[5:])
    torch.testing.assert_close(v, posterior.diagonal()[5:])
    evidence = MultivariateNormal(torch.zeros(7).double(), cov[seen][:, seen]).log_prob(t)
    assert curve.score() == pytest.approx(evidence.item())


def test_one_point_after_the_other_gives_the_product_of_predictions():
    x, t, curve = some_curve()
    total = MultivariateNormal(
        DOUBLE[None],
        torch.eye(1).double() * (0.04 + (x[0] ** torch.arange(5) ** 1.0).square().sum() / 0.3),
    ).log_prob(t[:1])
    for n in range(1, len(x)):
        part = graphical.BayesianCurve(4, alpha=0.3, noise_variance=0.04).fit(x[:n], t[:n])
        m, v = part.predict(x[n : n + 1])
        total = total + torch.distributions.Normal(m, v.sqrt()).log_prob(t[n])[0]
    assert curve.score() == pytest.approx(total.item())


def test_a_flat_prior_leaves_least_squares():
    x, t, _ = some_curve(n=30)
    curve = graphical.BayesianCurve(3, alpha=1e-10, noise_variance=0.04).fit(x, t)
    phi = graphical.powers(x, 3)
    torch.testing.assert_close(
        curve.mean_, torch.linalg.lstsq(phi, t[:, None]).solution[:, 0], rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(phi[:, 3], x * x * x)
    assert (phi[:, 0] == 1).all()


def test_sampled_curves_have_the_posterior_mean_and_covariance():
    _, _, curve = some_curve(2)
    w = curve.sample(40_000, generator=gen(0))
    scale = curve.cov_.diagonal().sqrt()
    assert ((w.mean(0) - curve.mean_) / scale * 200).abs().max() < 4
    assert ((w.T.cov() - curve.cov_) / scale / scale[:, None]).abs().max() < 0.04


def test_single_precision_curves_of_high_degree():
    x, t, wide = some_curve(9, 10)
    narrow = graphical.BayesianCurve(9, alpha=0.3, noise_variance=0.04).fit(x.float(), t.float())
    new = torch.linspace(0, 1, 20)
    for a, b in zip(narrow.predict(new), wide.predict(new.double())):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b.float(), rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------------------------------------ random fields


def test_the_lectures_graph_has_five_pairs_but_eleven_cliques():
    graph = networkx.Graph(["12", "23", "34", "42", "13"])
    assert graphical.maximal_cliques(graph) == [("1", "2", "3"), ("2", "3", "4")]
    found = graphical.cliques(graph)
    assert [sum(len(c) == k for c in found) for k in (1, 2, 3)] == [4, 5, 2] and len(found) == 11


@FEW
@given(st.integers(0, 10_000), st.integers(1, 9), st.floats(0, 1, allow_subnormal=False))
def test_cliques_agree_with_networkx(seed, k, p):
    graph = networkx.gnp_random_graph(k, p, seed=seed)
    expected = {frozenset(c) for c in networkx.find_cliques(graph)}
    found = graphical.maximal_cliques(graph)
    assert len(found) == len(expected) and set(map(frozenset, found)) == expected
    every = {frozenset(c) for c in networkx.enumerate_all_cliques(graph)}
    assert set(map(frozenset, graphical.cliques(graph))) == every


def ring(seed=0):
    rng = gen(seed)
    sizes = {"A": 2, "C": 3, "B": 2, "D": 2}
    pairs = [("A", "C"), ("C", "B"), ("B", "D"), ("A", "D")]
    return graphical.MarkovRandomField(
        {
            p: torch.rand([sizes[n] for n in p], generator=rng, dtype=torch.float64) * 3
            for p in pairs
        }
    )


def test_the_four_node_ring_by_hand():
    field = ring()
    table = by_hand(field.potentials, field.sizes)
    assert field.names == ("A", "C", "B", "D")
    assert field.log_partition().item() == pytest.approx(table.sum().log().item())
    torch.testing.assert_close(field.joint().table, table / table.sum())
    x = torch.tensor(states(field.sizes))
    torch.testing.assert_close(field.energy(x), -table.flatten().log())
    joint = field.joint()
    assert joint.independent("A", "B", ["C", "D"]) and not joint.independent("A", "B", "C")
    for x in states(field.sizes):
        at = dict(zip(field.names, x))
        for node in field.names:
            rest = {n: s for n, s in at.items() if n != node}
            expected = joint.given(rest).table
            blanket = {n: rest[n] for n in graphical.markov_blanket(field.graph, node)}
            assert len(blanket) == 2
            torch.testing.assert_close(field.conditional(node, blanket), expected)


@pytest.mark.parametrize("seed", range(12))
def test_separation_is_independence_in_random_fields(seed):
    graph = networkx.gnp_random_graph(5, 0.45, seed=seed)
    joint = some_field(graph, seed).joint()
    for a, b in itertools.combinations(graph, 2):
        rest = [n for n in graph if n not in (a, b)]
        for c in itertools.chain.from_iterable(itertools.combinations(rest, k) for k in range(4)):
            left = graph.subgraph(set(graph) - set(c))
            separated = graphical.separated(graph, [a], [b], c)
            assert separated == (not networkx.has_path(left, a, b))
            assert separated == joint.independent([a], [b], c, tol=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_canonical_potentials_are_mobius_sums_and_vanish_off_the_cliques(seed):
    graph = networkx.relabel_nodes(networkx.gnp_random_graph(4, 0.6, seed=seed), str)
    joint = some_field(graph, seed, sizes=3).joint()
    reference = dict(zip(joint.names, torch.randint(3, (4,), generator=gen(seed)).tolist()))
    found = graphical.canonical_potentials(joint, reference)
    assert len(found) == 16
    torch.testing.assert_close(graphical.product(found.items(), joint.sizes), joint.table.log())
    on_graph = {frozenset(c) for c in graphical.cliques(graph)} | {frozenset()}
    for scope, table in found.items():
        assert frozenset(scope) in on_graph or table.abs().max() < 1e-9
        for x in itertools.product(range(3), repeat=len(scope)):
            at, total = dict(zip(scope, x)), 0.0
            for k in range(len(scope) + 1):
                for part in itertools.combinations(scope, k):
                    state = [at[n] if n in part else reference[n] for n in joint.names]
                    total += (-1) ** (len(scope) - k) * joint.table[tuple(state)].log().item()
            assert table[x].item() == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_hammersley_clifford_on_random_fields(seed, zeros):
    graph = networkx.relabel_nodes(networkx.gnp_random_graph(5, 0.5, seed=seed), str)
    joint = some_field(graph, seed, zeros=zeros).joint()
    assert graphical.factorization_gap(joint, graph) < 1e-9
    assert graphical.is_markov(joint, graph)
    if graph.number_of_edges() and not zeros:
        poorer = graph.copy()
        poorer.remove_edge(*next(iter(graph.edges)))
        assert graphical.factorization_gap(joint, poorer) > 1e-4
        assert not graphical.is_markov(joint, poorer)


def test_a_field_with_zeros_still_counts_as_a_product():
    """Potentials of 0 leave zeros that clique marginals share, which the positive theorem cannot speak of."""
    table = torch.tensor([[1.0, 0.0], [2.0, 3.0]]).double()
    field = graphical.MarkovRandomField(
        [("ab", table), ("bc", table), ("cd", table), ("da", table)]
    )
    joint = field.joint()
    assert (joint.table == 0).any() and graphical.factorization_gap(joint, field.graph) < 1e-9


def test_moussouris_distribution_is_markov_and_no_product():
    joint, graph = graphical.moussouris()
    assert graphical.is_markov(joint, graph)
    assert graphical.factorization_gap(joint, graph) == math.inf
    # All pairs of values occur on each link, and yet half of the states do not.
    assert all((joint.marginal(*link).table > 0).all() for link in graph.edges)
    assert (joint.table > 0).sum() == 8
    with pytest.raises(ValueError, match="8 states have probability 0; expected p > 0"):
        graphical.canonical_potentials(joint)


def test_moussouris_distribution_with_a_little_of_everything_is_a_product():
    """Positive and Markov: the theorem holds. What fails is a limit of products, with potentials that diverge."""
    joint, graph = graphical.moussouris()
    largest = []
    for share in (1e-1, 1e-3, 1e-5):
        mixed = graphical.Joint(joint.names, (1 - share) * joint.table + share / 16)
        assert graphical.is_markov(mixed, graph)
        assert graphical.factorization_gap(mixed, graph) < 1e-9
        potentials = graphical.canonical_potentials(mixed)
        largest.append(max(table.abs().max().item() for table in potentials.values()))
    assert largest[0] + 4 < largest[1] < largest[2] - 4
    tilted = (joint.table + 0.01) * torch.linspace(1, 2, 16).view(2, 2, 2, 2)
    tilted = graphical.Joint(joint.names, tilted / tilted.sum())
    assert not graphical.is_markov(tilted, graph)
    assert graphical.factorization_gap(tilted, graph) > 0.01


# ------------------------------------------------------------------------------------------------ factor graphs


def some_tree(seed, n_factors=6, *, whole=False):
    """Factors of one to three variables that make a tree; ``whole`` draws entries 1 … 3, with many ties."""
    rng = gen(seed)

    def integer(high):
        return int(torch.randint(high, (), generator=rng))

    sizes, scopes = {"v0": 2 + integer(2)}, []
    for _ in range(n_factors):
        old = f"v{integer(len(sizes))}"
        new = [f"v{len(sizes) + i}" for i in range(integer(3))]
        sizes |= {name: 2 + integer(2) for name in new}
        scope = [old, *new]
        scopes.append([scope[i] for i in torch.randperm(len(scope), generator=rng)])
    scopes.append(["alone"])
    sizes["alone"] = 2
    factors = []
    for scope in scopes:
        shape = [sizes[name] for name in scope]
        table = torch.rand(shape, generator=rng, dtype=torch.float64) + 0.05
        if whole:
            table = torch.randint(1, 4, shape, generator=rng).double()
        factors.append((scope, table))
    return graphical.FactorGraph(factors)


@pytest.mark.parametrize("seed", range(12))
def test_sum_product_is_enumeration(seed):
    tree = some_tree(seed)
    table = by_hand(tree.factors, tree.sizes)
    assert tree.log_partition().item() == pytest.approx(table.sum().log().item(), abs=1e-10)
    joint = graphical.Joint(tree.names, table / table.sum())
    for name, p in tree.marginals().items():
        torch.testing.assert_close(p, joint.marginal(name).table)
    for f, (scope, _) in enumerate(tree.factors):
        torch.testing.assert_close(tree.factor_marginal(f).table, joint.marginal(*scope).table)
    seen = {tree.names[0]: 1, tree.names[-2]: 0}
    conditional = joint.given(seen)
    found = tree.marginals(seen)
    for name in conditional.names:
        torch.testing.assert_close(found[name], conditional.marginal(name).table)
    assert found[tree.names[0]].tolist()[:2] == [0, 1]
    part = table[tuple(seen.get(name, slice(None)) for name in tree.names)].sum()
    assert tree.log_partition(seen).item() == pytest.approx(part.log().item(), abs=1e-10)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_max_product_is_the_best_of_all_states(seed, whole):
    tree = some_tree(seed, whole=whole)
    table = by_hand(tree.factors, tree.sizes)
    state, value = tree.mode()
    assert set(state) == set(tree.names)
    assert table[tuple(state[name] for name in tree.names)] == pytest.approx(table.max().item())
    assert value.item() == pytest.approx(table.max().log().item())
    seen = {tree.names[1]: 1}
    state, value = tree.mode(seen)
    best = table.select(1, 1).max()
    assert state[tree.names[1]] == 1
    assert table[tuple(state[name] for name in tree.names)] == pytest.approx(best.item())
    assert value.item() == pytest.approx(best.log().item())


def test_messages_answer_queries_of_a_network_without_loops():
    graph = dag({"a": "", "b": "", "c": "a b", "d": "c", "e": "c"})
    network = graphical.random_network(graph, 3, generator=gen(0))
    tree, seen = graphical.FactorGraph(network.factors()), {"d": 2, "b": 0}
    for name in "ace":
        torch.testing.assert_close(tree.marginals(seen)[name], network.query(name, seen).table)
    p = network.joint().marginal("d", "b").table[2, 0]
    assert tree.log_partition(seen).exp().item() == pytest.approx(p.item())
    assert abs(tree.log_partition().item()) < 1e-12


def test_messages_come_in_order_and_make_the_marginals():
    tree = some_tree(3)
    messages, known = tree.messages({tree.names[0]: 1}), set()
    assert list(messages) == tree.schedule()
    assert len(messages) == 2 * tree.graph.number_of_edges()
    for sender, receiver in messages:
        assert {(n, sender) for n in tree.graph[sender] if n != receiver} <= known
        known.add((sender, receiver))
    expected = tree.marginals({tree.names[0]: 1})
    for name in tree.names[1:]:
        heard = sum(messages[f, name] for f in tree.graph[name])
        torch.testing.assert_close(heard.softmax(0), expected[name])


def test_long_chains_neither_underflow_nor_take_long():
    """Products of 1500 factors of 10⁻⁸: far below the smallest number that a float64 holds."""
    A = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double() * 1e-8
    chain = graphical.FactorGraph([((f"x{i}", f"x{i + 1}"), A) for i in range(1500)])
    values, vectors = torch.linalg.eigh(A)
    exact = 1500 * values[1].log() + vectors[:, 1].sum().square().log()
    assert chain.log_partition().item() == pytest.approx(exact.item())
    assert set(chain.mode()[0].values()) == {1}


# ------------------------------------------------------------------------------------------------ chains


def some_crf(seed=0, n=3, length=4, d=2, k=3):
    crf = graphical.LinearChainCRF(d, k).double()
    with torch.no_grad():
        for p in crf.parameters():
            p.copy_(torch.randn(p.shape, generator=gen(seed + p.numel())))
    x = torch.randn(n, length, d, generator=gen(seed), dtype=torch.float64)
    return crf, x, torch.randint(k, (n, length), generator=gen(seed))


def enumerated(crf, x):
    """Scores of all labelings, shape (n, k^T), and the labelings."""
    every = torch.cartesian_prod(*[torch.arange(crf.k)] * x.shape[1]).view(-1, x.shape[1])
    u = x @ crf.scores.weight.T + crf.scores.bias
    scores = sum(u[:, t, every[:, t]] for t in range(x.shape[1]))
    scores = scores + sum(crf.A[every[:, t - 1], every[:, t]] for t in range(1, x.shape[1]))
    return scores, every


@pytest.mark.parametrize("length", [1, 2, 5])
def test_likelihood_and_gradient_of_a_chain_are_those_of_the_enumeration(length):
    crf, x, y = some_crf(length=length)
    scores, every = enumerated(crf, x)
    at = (every[None] == y[:, None]).all(2).double().argmax(1)
    expected = scores.log_softmax(1)[torch.arange(len(x)), at]
    torch.testing.assert_close(crf.log_prob(x, y), expected)
    parameters = [crf.scores.weight, crf.scores.bias, crf.A]
    found = torch.autograd.grad(crf.loss(x, y), parameters)
    exact = torch.autograd.grad(-expected.mean(), parameters, allow_unused=True)
    for a, b in zip(found, exact):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b)


def test_forward_backward_and_viterbi_are_those_of_the_enumeration():
    crf, x, _ = some_crf(1, n=5)
    scores, every = enumerated(crf, x)
    p = scores.softmax(1)
    single, pair = crf.marginals(x)
    for t in range(4):
        for a in range(3):
            torch.testing.assert_close(single[:, t, a], p[:, every[:, t] == a].sum(1))
            for b in range(3):
                where = (every[:, t - 1] == a) & (every[:, t] == b)
                if t:
                    torch.testing.assert_close(pair[:, t - 1, a, b], p[:, where].sum(1))
    assert torch.equal(crf.predict(x), every[scores.argmax(1)])


def test_the_gradient_of_log_z_is_the_marginals():
    crf, x, _ = some_crf(2, length=7)
    u = crf.unary(x).detach().requires_grad_()
    A = crf.A.detach().requires_grad_()
    single, pair = graphical.chain_marginals(u, A)
    for found, expected in zip(
        torch.autograd.grad(graphical.chain_partition(u, A).sum(), [u, A]),
        [single, pair.sum((0, 1))],
    ):
        torch.testing.assert_close(found, expected)


def test_a_chain_is_a_factor_graph():
    crf, x, _ = some_crf(3, n=1, length=6)
    u, A = crf.unary(x)[0].detach(), crf.A.detach()
    factors = [((f"y{t}",), u[t].exp()) for t in range(6)]
    factors += [((f"y{t}", f"y{t + 1}"), A.exp()) for t in range(5)]
    tree = graphical.FactorGraph(factors)
    torch.testing.assert_close(torch.stack(list(tree.marginals().values())), crf.marginals(x)[0][0])
    assert list(tree.mode()[0].values()) == crf.predict(x)[0].tolist()
    assert tree.log_partition().item() == pytest.approx(
        graphical.chain_partition(u[None], A).item()
    )


def noisy_labels(n, length=20, seed=0, noise=1.0):
    """Two labels that stay for five places on average, seen through noise."""
    change = torch.rand(n, length, generator=gen(seed)) < 0.2
    y = change.long().cumsum(1) % 2
    x = 2.0 * y[:, :, None] - 1 + noise * torch.randn(n, length, 1, generator=gen(seed + 1))
    return x, y


def test_a_trained_chain_beats_the_best_labels_one_by_one_and_nears_the_truth():
    random.seed(0)
    x, y = noisy_labels(400)
    crf = graphical.LinearChainCRF(1, 2)
    history = train.fit(crf, [x, y], epochs=25, batch_size=50, lr=0.05, progress=False)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    x, y = noisy_labels(400, seed=7)
    found = crf.predict(x)
    alone = (x[:, :, 0] > 0).long()
    assert (found != y).float().mean() < 0.8 * (alone != y).float().mean()
    # The chain that made the labels has log-odds 2x and log(0.8 / 0.2) for staying.
    slope = crf.scores.weight[1] - crf.scores.weight[0]
    stay = (crf.A[0, 0] + crf.A[1, 1] - crf.A[0, 1] - crf.A[1, 0]) / 2
    assert slope.item() == pytest.approx(2, abs=0.25)
    assert stay.item() == pytest.approx(math.log(4), abs=0.25)


def test_scores_may_come_from_any_network():
    net = torch.nn.Sequential(
        torch.nn.Flatten(2), torch.nn.Linear(12, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)
    )
    crf = graphical.LinearChainCRF(12, 3, net)
    x, y = torch.randn(2, 5, 3, 4), torch.randint(3, (2, 5))
    crf.loss(x, y).backward()
    assert net[1].weight.grad.abs().sum() > 0 and crf.predict(x).shape == (2, 5)


# ------------------------------------------------------------------------------------------------ Ising

GRIDS = [(4, 4, True), (2, 6, True), (3, 5, False), (1, 4, False), (4, 3, False)]


def some_ising(height, width, periodic, seed=0, strength=0.5):
    rng = gen(seed)
    right, down, field = strength * torch.randn(
        3, height, width, generator=rng, dtype=torch.float64
    )
    return graphical.Ising(
        height, width, coupling=(right, down), field=field, periodic=periodic, dtype=torch.float64
    ), (right, down, field)


def spins(*shape, seed=0, dtype=torch.float64):
    return 2 * (torch.rand(shape, generator=gen(seed)) < 0.5).to(dtype) - 1


def energy_by_links(s, right, down, field, periodic):
    height, width, total = *s.shape, 0.0
    for i, j in itertools.product(range(height), range(width)):
        total -= field[i, j] * s[i, j]
        if periodic or j + 1 < width:
            total -= right[i, j] * s[i, j] * s[i, (j + 1) % width]
        if periodic or i + 1 < height:
            total -= down[i, j] * s[i, j] * s[(i + 1) % height, j]
    return total


@pytest.mark.parametrize("height, width, periodic", [*GRIDS, (3, 5, True)])
def test_energy_and_field_by_links(height, width, periodic):
    model, (right, down, field) = some_ising(height, width, periodic)
    s = spins(height, width)
    expected = energy_by_links(s, right, down, field, periodic)
    assert model.energy(s).item() == pytest.approx(expected.item())
    a = model.local_field(s)
    for i, j in itertools.product(range(height), range(width)):
        flipped = s.clone()
        flipped[i, j] *= -1
        rise = energy_by_links(flipped, right, down, field, periodic) - expected
        assert (2 * s[i, j] * a[i, j]).item() == pytest.approx(rise.item())
    torch.testing.assert_close(model.probability_up(s), 1 / (1 + (-2 * a).exp()))


@pytest.mark.parametrize("height, width, periodic", GRIDS)
def test_half_a_sweep_draws_one_color_from_its_conditional(height, width, periodic, monkeypatch):
    """With the same uniform number everywhere, a spin is up where its probability is larger than the number."""
    model, _ = some_ising(height, width, periodic, seed=3)
    s = spins(height, width, seed=4)
    black = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == 0
    for u in torch.linspace(0.03, 0.97, 25).tolist():
        monkeypatch.setattr(
            checkerboard,
            "signed_uniform",
            lambda like, g=None, v=2 * u - 1: torch.full_like(like, v),
        )
        expected = s
        for color in (black, ~black):
            up = 2.0 * (model.probability_up(expected) > u) - 1
            expected = torch.where(color, up, expected)
        assert torch.equal(model.gibbs(s), expected)


def test_packing_is_undone_and_keeps_the_colors_apart():
    s = torch.arange(2 * 6 * 8).view(2, 6, 8)
    black, white = graphical.pack(s)
    assert torch.equal(graphical.unpack(black, white), s)
    assert set(black[0].flatten().tolist()) == {
        8 * i + j for i in range(6) for j in range(8) if (i + j) % 2 == 0
    }


def test_signed_uniform_numbers():
    v = graphical.signed_uniform(torch.empty(3, 33_333).double(), gen(0)).flatten()
    assert -1 <= v.min() < -0.999 and 0.999 < v.max() < 1
    assert v.mean().abs() < 0.008 and abs(v.square().mean() - 1 / 3) < 0.005
    assert abs(v[:-1] @ v[1:] / len(v)) < 0.005  # the two halves of a word are independent
    assert torch.equal(
        v, graphical.signed_uniform(torch.empty(3, 33_333).double(), gen(0)).flatten()
    )


@pytest.mark.parametrize("height, width, periodic", GRIDS)
def test_gibbs_sampling_has_the_exact_means_and_energy(height, width, periodic):
    model, _ = some_ising(height, width, periodic, seed=1, strength=0.4)
    log_z, exact = model.exact()
    every = graphical.all_spins(height, width)
    energy = model.energy(every)
    mean_energy = ((-energy - log_z).exp() * energy).sum()
    s = model.gibbs(spins(3000, height, width), 60, gen(0))
    assert ((s.mean(0) - exact) / (1 - exact**2).clamp(1e-3).sqrt()).abs().max() < 4 / 3000**0.5
    sampled = model.energy(s)
    assert abs(sampled.mean() - mean_energy) < 4 * sampled.std() / 3000**0.5
    mean, trace = model.expectations(spins(400, height, width), 100, burn_in=20, generator=gen(1))
    assert (mean.mean(0) - exact).abs().max() < 0.03
    assert trace.shape == (100, 400)
    torch.testing.assert_close(trace.mean(0), mean.mean((1, 2)))


def test_enumeration_agrees_with_a_random_field():
    model, (right, down, field) = some_ising(3, 3, False)
    potentials, sign = [], torch.tensor([-1.0, 1.0]).double()
    for i, j in itertools.product(range(3), repeat=2):
        potentials.append(((f"{i}{j}",), (field[i, j] * sign).exp()))
        if j < 2:
            potentials.append(
                ((f"{i}{j}", f"{i}{j + 1}"), (right[i, j] * sign[:, None] * sign).exp())
            )
        if i < 2:
            potentials.append(
                ((f"{i}{j}", f"{i + 1}{j}"), (down[i, j] * sign[:, None] * sign).exp())
            )
    mrf = graphical.MarkovRandomField(potentials)
    log_z, mean = model.exact()
    assert log_z.item() == pytest.approx(mrf.log_partition().item())
    joint = mrf.joint()
    for i, j in itertools.product(range(3), repeat=2):
        assert mean[i, j].item() == pytest.approx((joint.marginal(f"{i}{j}").table @ sign).item())


@pytest.mark.parametrize("height, width, periodic", GRIDS)
def test_mean_field_climbs_to_a_fixed_point_below_log_z(height, width, periodic):
    model, _ = some_ising(height, width, periodic, seed=2, strength=0.25)
    m, bounds = model.mean_field(tol=1e-12)
    log_z, exact = model.exact()
    assert (bounds.diff() >= -1e-12).all() and bounds[-1] < log_z
    assert bounds[-1] > log_z - 1.0 and (m - exact).abs().max() < 0.5
    torch.testing.assert_close(m, model.local_field(m).tanh())
    every = graphical.all_spins(height, width)
    log_q = torch.where(every > 0, (1 + m) / 2, (1 - m) / 2).log().sum((1, 2))
    kl = (log_q.exp() * (log_q + model.energy(every) + log_z)).sum()
    assert (log_z - bounds[-1]).item() == pytest.approx(kl.item())


def test_mean_field_is_exact_for_independent_spins():
    field = torch.randn(3, 4, generator=gen(0)).double()
    model = graphical.Ising(3, 4, coupling=0.0, field=field, periodic=False, dtype=torch.float64)
    m, bounds = model.mean_field()
    torch.testing.assert_close(m, field.tanh())
    assert bounds[-1].item() == pytest.approx(model.exact()[0].item())
    assert model.exact()[0].item() == pytest.approx((2 * field.cosh()).log().sum().item())


@FEW
@given(st.integers(0, 10_000), st.sampled_from(GRIDS))
def test_icm_never_climbs_and_ends_where_no_spin_wants_to_change(seed, grid):
    model, _ = some_ising(*grid, seed=seed)
    start = spins(6, *grid[:2], seed=seed + 1)
    s, energies = model.icm(start)
    torch.testing.assert_close(energies[0], model.energy(start))
    torch.testing.assert_close(energies[-1], model.energy(s))
    assert (energies.diff(dim=0) <= 1e-12).all()
    assert (s * model.local_field(s) >= 0).all()


def picture(size=48):
    i, j = torch.meshgrid(*[torch.arange(size)] * 2, indexing="ij")
    disc = (i - 20) ** 2 + (j - 18) ** 2 < 150
    return 2.0 * (disc | ((j > 30) & (j < 40))) - 1


def test_denoising_by_icm_gibbs_and_mean_field():
    x = picture()
    y = torch.where(torch.rand(x.shape, generator=gen(0)) < 0.1, -x, x)
    model = graphical.denoiser(y, coupling=0.7, flip=0.1)
    flipped = (y != x).float().mean()
    icm, energies = model.icm(y)
    assert energies[-1] < energies[0] and (icm != x).float().mean() < 0.3 * flipped
    mean, _ = model.expectations(y, 100, burn_in=20, generator=gen(1))
    assert (mean.sign() != x).float().mean() < 0.25 * flipped
    m, _ = model.mean_field(y)
    assert (m.sign() != x).float().mean() < 0.3 * flipped


def test_the_denoiser_is_bayes_rule():
    y = spins(2, 3, seed=5)
    model = graphical.denoiser(y, coupling=0.6, flip=0.15, bias=0.2)
    every = graphical.all_spins(2, 3)
    prior = graphical.Ising(2, 3, coupling=0.6, field=0.2, periodic=False, dtype=torch.float64)
    likelihood = torch.where(every == y, 0.85, 0.15).double().log().sum((1, 2))
    exact = (likelihood - prior.energy(every)).softmax(0)
    torch.testing.assert_close((-model.energy(every)).softmax(0), exact)
    torch.testing.assert_close(model.exact()[1], torch.einsum("n,nij->ij", exact, every))


@pytest.mark.parametrize("height, width, periodic", GRIDS)
@pytest.mark.parametrize("strength", [0.3, 1.5])
def test_the_smallest_cut_is_the_best_of_all_states(height, width, periodic, strength):
    every = graphical.all_spins(height, width)
    for seed in range(5):
        _, (right, down, field) = some_ising(height, width, periodic, seed, strength)
        coupling = (right.abs(), down.abs())
        options = dict(coupling=coupling, field=field, periodic=periodic, dtype=torch.float64)
        model = graphical.Ising(height, width, **options)
        best = every[model.energy(every).argmin()]
        assert torch.equal(model.mode(), best)
    assert model.mode().dtype == torch.float64


def test_without_field_the_cut_is_one_of_the_best_states():
    assert graphical.Ising(4, 6, coupling=0.3).mode().unique().numel() == 1
    assert graphical.Ising(4, 6, coupling=0.0, field=1.0).mode().min() == 1


@pytest.mark.parametrize("periodic", [True, False])
def test_binary_variables_have_the_lectures_logistic_conditional(periodic):
    theta_pair, theta = 0.8, -1.1
    options = dict(coupling=theta_pair, field=theta, periodic=periodic, dtype=torch.float64)
    model = graphical.from_binary(3, 4, **options)
    s = spins(3, 4, seed=1)
    x = (1 + s) / 2
    near = sum(torch.roll(x, shift, axis) for axis in (0, 1) for shift in (1, -1))
    if not periodic:
        wide = torch.nn.functional.pad(x, (1, 1, 1, 1))
        near = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    expected = 1 / (1 + (-theta - theta_pair * near).exp())
    torch.testing.assert_close(model.probability_up(s), expected)


def test_onsagers_magnetization():
    Jc = graphical.critical_coupling()
    assert math.sinh(2 * Jc) == pytest.approx(1)
    J = torch.tensor([0.0, 0.3, Jc - 1e-6, 0.5, 2.0])
    m = graphical.onsager_magnetization(J)
    assert m[:3].tolist() == [0, 0, 0] and m[4] > 0.99999
    assert m[3].item() == pytest.approx(0.911319, abs=1e-6)
    # 1 − 2 e^{−4 (J₁ + J₂)} to first order at low temperature: single flipped spins.
    low = graphical.onsager_magnetization(2.1, 1.9)
    assert (1 - low).item() == pytest.approx(2 * math.exp(-16), rel=0.01)


@pytest.mark.parametrize("J", [(0.5, 0.5), (0.7, 0.4)])
def test_a_large_grid_has_onsagers_magnetization(J):
    model = graphical.Ising(64, 64, coupling=J)
    _, trace = model.expectations(torch.ones(4, 64, 64), 300, burn_in=100, generator=gen(0))
    assert trace.mean().item() == pytest.approx(
        graphical.onsager_magnetization(*J).item(), abs=0.006
    )


def test_each_chain_may_have_its_own_field():
    field = torch.tensor([-3.0, 3.0])[:, None, None].expand(2, 4, 5)
    model = graphical.Ising(4, 5, coupling=0.0, field=field, periodic=False)
    s = model.gibbs(torch.ones(4, 5), 3, gen(0))
    assert s.shape == (2, 4, 5) and s[0].mean() < -0.8 and s[1].mean() > 0.8
    mean, _ = model.expectations(torch.ones(4, 5), 400, generator=gen(0))
    torch.testing.assert_close(
        mean.mean((1, 2)), torch.tensor([-1.0, 1.0]) * math.tanh(3), atol=0.01, rtol=0
    )


# ------------------------------------------------------------------------------------------------ bad input

HALF = torch.tensor([0.5, 0.5])
COPY = torch.eye(2)
AB = graphical.BayesianNetwork({"a": torch.tensor([1.0, 0.0]), "b": ("a", COPY)})
CHAIN = graphical.FactorGraph([("a", torch.tensor([1.0, 0.0])), ("ab", COPY)])
FIELD = graphical.MarkovRandomField([("ab", COPY), ("bc", COPY)])
LINE = networkx.path_graph(["a", "b", "c"])
SMALL = graphical.Ising(4, 4)
CRF = graphical.LinearChainCRF(2, 3)
CURVE = graphical.BayesianCurve(2, alpha=1.0, noise_variance=1.0)

BAD = {
    "a cycle": (
        lambda: graphical.BayesianNetwork({"a": ("b", COPY), "b": ("a", COPY)}),
        "the graph has the cycle . → . → .; expected none",
    ),
    "own parent": (
        lambda: graphical.BayesianNetwork({"a": ("a", COPY)}),
        "'a' comes twice|the cycle a → a",
    ),
    "unknown parent": (
        lambda: graphical.BayesianNetwork({"a": HALF, "b": ("c", COPY)}),
        "there is no node 'c'; the nodes are a, b",
    ),
    "rows that do not sum to 1": (
        lambda: graphical.BayesianNetwork({"a": HALF, "b": ("a", COPY + 0.1)}),
        "the table of b sums to 1.2 over its last axis; expected 1",
    ),
    "columns that sum to 1": (
        lambda: graphical.BayesianNetwork(
            {"a": HALF, "b": ("a", torch.tensor([[0.2, 0.3], [0.8, 0.7]]))}
        ),
        "the table of b sums to .* over its last axis",
    ),
    "negative table": (
        lambda: graphical.BayesianNetwork({"a": torch.tensor([1.5, -0.5])}),
        "the table of a holds -0.5; expected no negative",
    ),
    "a NaN": (
        lambda: graphical.BayesianNetwork({"a": HALF * math.nan}),
        "the table of a holds 2 values that are NaN",
    ),
    "too few axes": (
        lambda: graphical.BayesianNetwork({"a": HALF, "b": ("a", HALF)}),
        r"the table of b has shape \(2,\); expected an axis for each of \('a', 'b'\)",
    ),
    "too many rows": (
        lambda: graphical.BayesianNetwork({"a": HALF, "b": ("a", torch.full((3, 2), 0.5))}),
        r"the table of b has shape \(3, 2\); expected \(2, 2\)",
    ),
    "impossible evidence": (
        lambda: AB.query("a", {"b": 1}),
        "b = 1 has probability 0; expected evidence",
    ),
    "unknown evidence": (lambda: AB.query("a", {"c": 1}), "there is no node 'c'"),
    "unknown query": (lambda: AB.query("z"), "there is no node 'z'"),
    "query of evidence": (lambda: AB.query("b", {"b": 0}), "there is no node 'b'"),
    "state out of range": (
        lambda: AB.query("a", {"b": 2}),
        "b is observed as 2; expected one of its states 0 … 1",
    ),
    "negative state": (lambda: AB.query("a", {"b": -1}), "b is observed as -1"),
    "float states": (lambda: AB.log_prob(torch.zeros(3, 2)), "x is torch.float32; expected int64"),
    "wrong columns": (
        lambda: AB.log_prob(torch.zeros(3, 3).long()),
        r"x has shape \(3, 3\); expected \(n, 2\)",
    ),
    "states beyond": (
        lambda: AB.log_prob(torch.tensor([[0, 2]])),
        "x holds b = 2; expected states 0 … 1",
    ),
    "no samples": (lambda: AB.sample(0), "n is 0"),
    "d-separation of a stranger": (
        lambda: graphical.d_separated(AB.graph, "a", "q"),
        "there is no node 'q'",
    ),
    "d-separation from itself": (lambda: graphical.d_separated(AB.graph, "a", "a"), "share a"),
    "d-separation of nothing": (
        lambda: graphical.d_separated(AB.graph, "a", ()),
        "not to be empty",
    ),
    "d-separation, undirected": (
        lambda: graphical.d_separated(LINE, "a", "b"),
        "expected a directed one",
    ),
    "table that is no joint": (
        lambda: graphical.Joint("ab", COPY),
        "table sums to 2 in all; expected 1",
    ),
    "too many names": (lambda: graphical.Joint("abc", COPY / 2), "expected an axis for each"),
    "name twice": (lambda: graphical.Joint("aa", COPY / 2), "'a' comes twice"),
    "other nodes": (
        lambda: graphical.from_joint(AB.joint(), dag({"a": ""})),
        "there is no node 'b'",
    ),
    "negative potential": (
        lambda: graphical.MarkovRandomField([("ab", -COPY)]),
        r"the potential of \('a', 'b'\) holds -1; expected no negative",
    ),
    "potentials that disagree": (
        lambda: graphical.MarkovRandomField([("ab", COPY), ("bc", torch.ones(3, 2))]),
        "b has 3 states .* 2 elsewhere; expected equally many",
    ),
    "no potential": (lambda: graphical.MarkovRandomField([]), "there is no potential"),
    "no clique": (
        lambda: graphical.MarkovRandomField([("ab", COPY), ("bc", COPY), ("ac", COPY)], LINE),
        "a potential holds a and c, which the graph does not link",
    ),
    "node without potential": (
        lambda: graphical.MarkovRandomField([("ab", COPY)], LINE),
        "c has no potential",
    ),
    "Z = 0": (
        lambda: graphical.MarkovRandomField([("ab", COPY), ("ab", 1 - COPY)]).log_partition(),
        "the potentials are 0 for every state; expected Z > 0",
    ),
    "a neighbor is missing": (
        lambda: FIELD.conditional("b", {"a": 0}),
        "the state of c is missing",
    ),
    "no state is possible": (
        lambda: FIELD.conditional("b", {"a": 0, "c": 1}),
        "no state of b is possible",
    ),
    "blanket of a stranger": (lambda: graphical.markov_blanket(LINE, "z"), "there is no node 'z'"),
    "directed cliques": (
        lambda: graphical.cliques(AB.graph),
        "the graph is directed; expected an undirected",
    ),
    "directed separation": (
        lambda: graphical.separated(AB.graph, "a", "b"),
        "the graph is directed",
    ),
    "separation of a stranger": (
        lambda: graphical.separated(LINE, "a", "z"),
        "there is no node 'z'",
    ),
    "reference out of range": (
        lambda: graphical.canonical_potentials(some_joint(), {"a": 5}),
        "a is observed as 5",
    ),
    "reference of a part": (
        lambda: graphical.canonical_potentials(some_joint(), {"a": 1}),
        "there is no node 'b'",
    ),
    "no factor": (lambda: graphical.FactorGraph([]), "there is no factor"),
    "a loop": (
        lambda: graphical.FactorGraph([("ab", COPY), ("bc", COPY), ("ca", COPY)]).marginals(),
        "the factor graph has a loop through .* expected a tree",
    ),
    "evidence that cannot be": (lambda: CHAIN.marginals({"b": 1}), "b = 1 has probability 0"),
    "mode that cannot be": (lambda: CHAIN.mode({"b": 1}), "b = 1 has probability 0"),
    "factors that exclude all": (
        lambda: graphical.FactorGraph([("a", torch.zeros(2))]).marginals(),
        "no evidence has probability 0",
    ),
    "evidence of a stranger": (lambda: CHAIN.marginals({"z": 1}), "there is no node 'z'"),
    "factor out of range": (lambda: CHAIN.factor_marginal(2), "there is no node 2"),
    "no precision": (
        lambda: graphical.BayesianCurve(2, alpha=0.0, noise_variance=1.0),
        "alpha is 0.0",
    ),
    "no noise": (
        lambda: graphical.BayesianCurve(2, alpha=1.0, noise_variance=-1.0),
        "noise_variance is -1.0",
    ),
    "negative degree": (
        lambda: graphical.BayesianCurve(-1, alpha=1.0, noise_variance=1.0),
        "degree is -1",
    ),
    "targets too short": (lambda: CURVE.fit(torch.rand(3), torch.rand(2)), "x has 3, t has 2 rows"),
    "inputs as a matrix": (
        lambda: CURVE.fit(torch.rand(3, 1), torch.rand(3)),
        r"x has shape \(3, 1\)",
    ),
    "one label": (lambda: graphical.LinearChainCRF(2, 1), "k is 1"),
    "labels too large": (
        lambda: CRF.loss(torch.rand(1, 2, 2), torch.tensor([[0, 3]])),
        "largest_label is 3",
    ),
    "labels too short": (
        lambda: CRF.loss(torch.rand(1, 2, 2), torch.tensor([[0]])),
        r"y has shape \(1, 1\)",
    ),
    "float labels": (
        lambda: CRF.loss(torch.rand(1, 2, 2), torch.zeros(1, 2)),
        "y is torch.float32",
    ),
    "wrong width": (
        lambda: CRF.predict(torch.rand(1, 2, 3)),
        r"x has shape \(1, 2, 3\); expected \(n, T, 2\)",
    ),
    "scores that do not fit": (
        lambda: graphical.chain_mode(torch.rand(1, 2, 3), torch.rand(2, 2)),
        r"u has shape \(1, 2, 3\)",
    ),
    "odd ring": (
        lambda: graphical.Ising(3, 4).gibbs(torch.ones(3, 4)),
        "the periodic grid is 3 × 4; expected even",
    ),
    "narrow ring": (lambda: graphical.Ising(1, 4), "height is 1"),
    "coupling of another shape": (
        lambda: graphical.Ising(4, 4, coupling=torch.ones(3, 4)),
        r"coupling has shape \(3, 4\); expected a number or \(4, 4\)",
    ),
    "three couplings": (
        lambda: graphical.Ising(4, 4, coupling=(1.0, 2.0, 3.0)),
        "coupling is a tuple of 3",
    ),
    "field of another shape": (
        lambda: graphical.Ising(4, 4, field=torch.ones(4)),
        r"field has shape \(4,\); expected a number or \(…, 4, 4\)",
    ),
    "infinite field": (lambda: graphical.Ising(4, 4, field=math.inf), "field holds 1 values"),
    "no spins": (lambda: SMALL.gibbs(torch.zeros(4, 4)), "s holds other numbers than −1 and 1"),
    "spins of another shape": (
        lambda: SMALL.energy(torch.ones(4, 5)),
        r"s has shape \(4, 5\); expected \(…, 4, 4\)",
    ),
    "spins of another type": (
        lambda: SMALL.energy(torch.ones(4, 4).double()),
        "s is torch.float64",
    ),
    "negative sweeps": (lambda: SMALL.gibbs(torch.ones(4, 4), -1), "n_sweeps is -1"),
    "means beyond 1": (lambda: SMALL.bound(2 * torch.ones(4, 4)), "m lies in"),
    "too many spins": (lambda: graphical.Ising(5, 5).exact(), "n_spins is 25"),
    "a best state of spins that repel": (
        lambda: graphical.Ising(4, 4, coupling=-0.5).mode(),
        "coupling is -0.5; expected",
    ),
    "a best state for several fields": (
        lambda: graphical.Ising(2, 2, field=torch.zeros(3, 2, 2)).mode(),
        r"field has shape \(3, 2, 2\)",
    ),
    "several fields": (
        lambda: graphical.Ising(2, 2, field=torch.zeros(3, 2, 2)).exact(),
        r"field has shape \(3, 2, 2\)",
    ),
    "gray picture": (
        lambda: graphical.denoiser(torch.rand(3, 3), coupling=1.0, flip=0.1),
        "y holds other numbers",
    ),
    "certain flips": (
        lambda: graphical.denoiser(torch.ones(3, 3), coupling=1.0, flip=1.0),
        "flip is 1.0",
    ),
    "repulsion": (lambda: graphical.onsager_magnetization(-0.5), "coupling is -0.5"),
    "random graph": (lambda: graphical.random_graph(3, 1.5), "p is 1.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        call()


def test_all_is_sorted_and_complete():
    names = graphical.__all__
    assert list(names) == sorted(names, key=lambda name: (not name[0].isupper(), name))
    assert all(hasattr(graphical, name) for name in names)
