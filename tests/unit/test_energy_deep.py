"""Deep belief networks and deep Boltzmann machines against enumeration and autograd."""

import math

import pytest
import torch
from torch.distributions import Bernoulli

from lectool import energy, train
from lectool.boltzmann import RBM, ais, all_bits
from lectool.energy.deep import log_above, log_below

DOUBLE = torch.float64


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=DOUBLE)


def filled(model, seed=0, scale=1.0):
    model = model.double()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(scale * draw(*p.shape, seed=100 * seed + i))
    return model


def machine(d, k, seed=0, **settings):
    return filled(RBM(d, k, **settings), seed)


def bits(n):
    return all_bits(n, torch.empty(0, dtype=DOUBLE))


def network(*sizes, seed=0):
    rbms = [machine(d, k, seed + i) for i, (d, k) in enumerate(zip(sizes, sizes[1:]))]
    return energy.DeepBeliefNetwork(rbms)


def bernoulli_log_prob(logits, x):
    return Bernoulli(logits=logits).log_prob(x).sum(-1)


# ------------------------------------------------------------------------------------------------ stacks


def test_entropy_of_bits():
    p = torch.tensor([[0.0, 0.3, 1.0], [0.5, 0.5, 0.5]], dtype=DOUBLE)
    expected = Bernoulli(p).entropy().sum(1)
    torch.testing.assert_close(energy.bernoulli_entropy(p), expected)


def test_a_machine_upside_down_has_the_same_joint_distribution():
    rbm = machine(4, 3)
    turned = energy.transposed(rbm)
    torch.testing.assert_close(turned.log_partition(), rbm.log_partition())
    h = bits(3)
    torch.testing.assert_close(turned.free_energy(h), rbm.hidden_free_energy(h))
    with torch.no_grad():
        turned.W.zero_()
    assert rbm.W.abs().min() > 0  # a copy


def test_a_stack_is_trained_on_what_the_machine_below_draws():
    torch.manual_seed(0)
    seen = []

    class Spy(RBM):
        def loss(self, x):
            seen.append(x.detach())
            return super().loss(x)

    x = (torch.rand(40, 5) < 0.3).float()
    lower, upper = Spy(5, 4), Spy(4, 3)
    with torch.no_grad():
        lower.b.fill_(2.0)
    histories = energy.train_stack(
        [lower, upper], x, generator=rng(1), epochs=1, batch_size=40, lr=1e-9, progress=False
    )
    assert len(histories) == 2
    assert seen[0].sum() == x.sum()
    assert set(seen[1].unique().tolist()) == {0.0, 1.0}
    assert abs(seen[1].mean() - lower.encode(x).mean()) < 0.1


# ------------------------------------------------------------------------------------------------ deep belief network


def enumerate_three(dbn):
    """log p(v, h1) of a network with two machines, shape (2^d, 2^k1), built from its definition."""
    first, top = dbn.rbms
    v, h = bits(first.W.shape[1]), bits(len(first.W))
    prior = (-top.free_energy(h)).log_softmax(0)
    return torch.stack([bernoulli_log_prob(first.c + row @ first.W, v) for row in h], 1) + prior


def test_log_prob_is_the_sum_over_the_hidden_layer_and_normalized():
    dbn = network(4, 3, 5)
    v = bits(4)
    torch.testing.assert_close(dbn.log_prob(v), enumerate_three(dbn).logsumexp(1))
    torch.testing.assert_close(dbn.log_prob(v).logsumexp(0), torch.zeros((), dtype=DOUBLE))


def test_log_prob_of_three_machines():
    dbn = network(3, 4, 2, 3)
    v, h_1, h_2 = bits(3), bits(4), bits(2)
    low, middle, top = dbn.rbms
    prior = (-top.free_energy(h_2)).log_softmax(0)
    total = torch.zeros(8, dtype=DOUBLE)
    for log_p, second in zip(prior, h_2):
        for first in h_1:
            of_first = bernoulli_log_prob(middle.c + second @ middle.W, first)
            of_v = bernoulli_log_prob(low.c + first @ low.W, v)
            total = total + (log_p + of_first + of_v).exp()
    torch.testing.assert_close(dbn.log_prob(v), total.log())


def test_below_and_above_are_the_conditionals():
    rbm, v, h = machine(4, 3), bits(4)[:6], bits(3)[2:8]
    expected = bernoulli_log_prob(rbm.visible_given_hidden(h).logit(), v)
    torch.testing.assert_close(log_below(rbm, v, h), expected)
    expected = bernoulli_log_prob(rbm.hidden_given_visible(v).logit(), h)
    torch.testing.assert_close(log_above(rbm, v, h), expected)


def test_the_bound_starts_at_equality_for_a_transposed_second_machine():
    rbm, v = machine(5, 3), bits(5)
    dbn = energy.DeepBeliefNetwork([rbm, energy.transposed(rbm)])
    torch.testing.assert_close(dbn.log_prob(v), rbm.log_prob(v))
    for seed in range(3):  # every draw has the same weight
        torch.testing.assert_close(dbn.elbo(v, generator=rng(seed)), rbm.log_prob(v))


@pytest.mark.parametrize("sizes", [(4, 3, 5), (4, 3, 2, 3)])
def test_weights_average_to_the_probability(sizes):
    dbn = network(*sizes).untie()
    with torch.no_grad():
        for p in dbn.recognition.parameters():
            p.mul_(0.5)
    v = bits(4)
    log_w = dbn.log_weights(v, 20_000, generator=rng(1))
    assert log_w.shape == (20_000, 16)
    w = (log_w - dbn.log_prob(v)).exp()
    assert ((w.mean(0) - 1).abs() < 5 * w.std(0) / math.sqrt(20_000)).all()
    bounds = [log_w.reshape(-1, k, 16).logsumexp(1).mean() - math.log(k) for k in (1, 10, 1000)]
    assert bounds[0] < bounds[1] < bounds[2] < dbn.log_prob(v).mean() + 0.05
    found = dbn.elbo(v, 10, generator=rng(2))
    expected = dbn.log_weights(v, 10, generator=rng(2)).exp().mean(0).log()
    torch.testing.assert_close(found, expected)


def test_the_bound_is_its_expectation_over_q():
    dbn = network(4, 3, 5)
    first, v, h = dbn.rbms[0], bits(4), bits(3)
    log_q = torch.stack([bernoulli_log_prob(first.b + row @ first.W.T, h) for row in v])
    expected = (log_q.exp() * (enumerate_three(dbn) - log_q)).sum(1)
    found = dbn.log_weights(v, 40_000, generator=rng(1))
    error = found.std(0) / math.sqrt(40_000)
    assert ((found.mean(0) - expected).abs() < 5 * error).all()
    shifted = dbn.elbo(v, log_z=dbn.top.log_partition() + 2, generator=rng(1))
    torch.testing.assert_close(shifted, dbn.elbo(v, generator=rng(1)) - 2)


def exact_bound(dbn, x):
    """The bound of a network with two machines as a sum over h1."""
    first, h = dbn.recognition[0], bits(len(dbn.rbms[0].W)).to(x)
    log_q = torch.stack([bernoulli_log_prob(first.b + row @ first.W.T, h) for row in x])
    log_p = torch.stack([log_below(dbn.rbms[0], x, row.expand(len(x), -1)) for row in h], 1)
    return (log_q.exp() * (log_p + dbn.top.log_prob(h) - log_q)).sum(1)


def test_training_the_second_machine_raises_the_bound():
    torch.manual_seed(0)
    kinds = torch.tensor([[0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1.0]])
    x = (kinds[torch.randint(3, (500,))] - (torch.rand(500, 6) < 0.1).float()).abs()
    first = machine(6, 3, seed=2).float()
    top = energy.transposed(first)
    dbn = energy.DeepBeliefNetwork([first, top])
    before = first.log_prob(x).mean()
    torch.testing.assert_close(exact_bound(dbn, x).mean(), before)
    h = first.draw_hidden(x.repeat(4, 1)).detach()

    def exact(h):
        return -top.log_prob(h).mean()

    train.fit(top, h, loss=exact, epochs=20, lr=1e-2, progress=False)
    bound = exact_bound(dbn, x).mean()
    assert bound > before + 0.02
    assert dbn.log_prob(x).mean() > bound


def test_samples_have_the_networks_distribution():
    dbn = network(4, 3, 2)
    x = dbn.sample(20_000, 60, generator=rng(1))
    p = dbn.log_prob(bits(4)).exp()
    index = (x @ torch.tensor([8.0, 4, 2, 1], dtype=DOUBLE)).long()
    frequency = torch.bincount(index, minlength=16) / len(x)
    assert (frequency - p).abs().max() < 4.5 * (0.25 / len(x)) ** 0.5
    mean = dbn.sample(20_000, 60, mean=True, generator=rng(2)).mean(0)
    assert (mean - p @ bits(4)).abs().max() < 0.02
    assert 0 < dbn.sample(5, 3, mean=True).min()
    start = dbn.sample(7, 0, start=bits(4)[:7], generator=rng(3))
    assert start.shape == (7, 4)


def test_passes_up_and_down():
    dbn, v = network(4, 3, 5), bits(4)
    up = dbn.top.hidden_given_visible(dbn.rbms[0].hidden_given_visible(v))
    torch.testing.assert_close(dbn.encode(v), up)
    down = dbn.rbms[0].visible_given_hidden(dbn.top.visible_given_hidden(up))
    torch.testing.assert_close(dbn.decode(up), down)
    torch.testing.assert_close(dbn.reconstruct(v), down)
    layers = dbn.recognize(v, rng(1))
    assert torch.equal(layers[0], v) and [t.shape[1] for t in layers] == [4, 3]


def test_untied_ways_are_copies_of_the_ways_down():
    dbn = network(4, 3, 5)
    assert dbn.recognition[0] is dbn.rbms[0]
    n = sum(1 for _ in dbn.parameters())
    assert dbn.untie() is dbn and sum(1 for _ in dbn.parameters()) == n + 3
    with torch.no_grad():
        dbn.recognition[0].W.zero_()
    assert dbn.rbms[0].W.abs().min() > 0
    torch.testing.assert_close(dbn.encode(bits(4)).std(0).max(), torch.zeros((), dtype=DOUBLE))


def test_up_and_down_learn_from_each_other():
    torch.manual_seed(0)
    dbn, x = network(4, 3, 2).untie(), bits(4)
    torch.manual_seed(1)
    terms = dbn.loss(x)
    torch.manual_seed(1)
    h = dbn.recognize(x)[1]
    dreamt = dbn.top.negatives(h)
    v, h_dreamt = dbn.descend(dreamt)
    first, up = dbn.rbms[0], dbn.recognition[0]
    wake = -bernoulli_log_prob(first.c + h @ first.W, x).mean()
    sleep = -bernoulli_log_prob(up.b + v @ up.W.T, h_dreamt).mean()
    top = (dbn.top.free_energy(h) - dbn.top.free_energy(dreamt)).mean()
    for name, expected in (
        ("wake", wake),
        ("sleep", sleep),
        ("top", top),
        ("loss", wake + sleep + top),
    ):
        torch.testing.assert_close(terms[name], expected)
    terms["loss"].backward()
    assert first.b.grad is None and up.c.grad is None  # not in p, not in q
    assert all(p.grad.abs().sum() > 0 for p in (first.W, first.c, up.W, up.b, dbn.top.W))


def test_up_down_raises_the_bound():
    torch.manual_seed(0)
    x = machine(6, 4, seed=3).float().sample(2000, 200)
    rbms = [RBM(6, 4), RBM(4, 4, n_particles=100)]
    dbn = energy.DeepBeliefNetwork(rbms).untie()
    before = dbn.elbo(x).mean().item()
    train.fit(dbn, x, epochs=30, lr=5e-3, progress=False)
    assert dbn.elbo(x).mean().item() > before + 0.3


# ------------------------------------------------------------------------------------------------ doubled machines


def joint_of_copies(rbm):
    """log of the unnormalized joint over all copies, by their sum of pairs; v and h as lists of copies."""
    d, k = rbm.W.shape[1], len(rbm.W)
    vs, hs = bits(d * rbm.n_v), bits(k * rbm.n_h)
    v = vs.reshape(-1, rbm.n_v, d)
    h = hs.reshape(-1, rbm.n_h, k)
    log_phi = (v.sum(1) @ rbm.c)[:, None] + h.sum(1) @ rbm.b + v.sum(1) @ rbm.W.T @ h.sum(1).T
    return v, h, log_phi


@pytest.mark.parametrize("doubled", ["visible", "hidden"])
def test_a_doubled_machine_is_the_machine_of_all_copies(doubled):
    rbm = filled(energy.DoubledRBM(3, 2, doubled))
    v, h, log_phi = joint_of_copies(rbm)
    torch.testing.assert_close(rbm.free_energy(v.mean(1)), -log_phi.logsumexp(1))
    of_h = log_phi.softmax(1) @ h.mean(1)
    torch.testing.assert_close(rbm.hidden_given_visible(v.mean(1)), of_h)
    of_v = log_phi.softmax(0).T @ v.mean(1)
    torch.testing.assert_close(rbm.visible_given_hidden(h.mean(1)), of_v)


@pytest.mark.parametrize("doubled", ["visible", "hidden"])
def test_draws_of_copies_are_means_of_one_or_two_bits(doubled):
    rbm = filled(energy.DoubledRBM(3, 2, doubled))
    h = rbm.draw_hidden(bits(3).repeat(4000, 1), rng(1))
    v = rbm.draw_visible(bits(2).repeat(4000, 1), rng(2))
    assert set(h.unique().tolist()) == ({0, 1} if doubled == "visible" else {0, 0.5, 1})
    assert set(v.unique().tolist()) == ({0, 1} if doubled == "hidden" else {0, 0.5, 1})
    expected = rbm.hidden_given_visible(bits(3))
    assert (h.reshape(4000, 8, 2).mean(0) - expected).abs().max() < 0.04
    with torch.no_grad():
        rbm.start_at(torch.tensor([[0.2, 0.5, 1.0], [0.2, 0.5, 1.0]], dtype=DOUBLE))
    torch.testing.assert_close(rbm.c.sigmoid().tolist(), [0.2, 0.5, 0.99])
    rbm.loss(bits(3)).backward()
    assert rbm.W.grad.abs().sum() > 0


# ----------------------------------------------------------------------------------------------- deep Boltzmann machine


def deep(d=4, k_1=3, k_2=2, seed=0, **settings):
    return filled(energy.DeepBoltzmannMachine(d, k_1, k_2, **settings), seed)


def all_energies(dbm):
    """−E of every state, shape (2^d, 2^k1, 2^k2), written out."""
    v, h_1, h_2 = bits(len(dbm.c)), bits(len(dbm.b_1)), bits(len(dbm.b_2))
    return (
        (v @ dbm.c)[:, None, None]
        + (h_1 @ dbm.b_1)[None, :, None]
        + (h_2 @ dbm.b_2)
        + torch.einsum("ai,ji,bj->ab", v, dbm.W_1, h_1)[:, :, None]
        + torch.einsum("bj,kj,ck->bc", h_1, dbm.W_2, h_2)
    )


def test_energy_log_z_and_probability_are_those_of_all_states():
    dbm = deep()
    table = all_energies(dbm)
    v, h_1, h_2 = bits(4), bits(3), bits(2)
    torch.testing.assert_close(
        dbm.energy(v[5:8], h_1[1:4], h_2[:3]), -table[range(5, 8), range(1, 4), range(3)]
    )
    log_z = table.flatten().logsumexp(0)
    torch.testing.assert_close(dbm.log_partition(), log_z)
    torch.testing.assert_close(dbm.log_prob(v), table.flatten(1).logsumexp(1) - log_z)
    torch.testing.assert_close(dbm.log_prob(v, 0.0), table.flatten(1).logsumexp(1))
    assert not dbm.log_partition().requires_grad


def test_conditionals_are_those_of_all_states():
    dbm = deep()
    p = all_energies(dbm)
    v, h_1, h_2 = bits(4), bits(3), bits(2)
    middle = p[9, :, 2].softmax(0) @ h_1
    torch.testing.assert_close(dbm.middle_given_ends(v[9:10], h_2[2:3])[0], middle)
    ends = p[:, 5].flatten().softmax(0).reshape(16, 4)
    found_v, found_h = dbm.ends_given_middle(h_1[5:6])
    torch.testing.assert_close(found_v[0], ends.sum(1) @ v)
    torch.testing.assert_close(found_h[0], ends.sum(0) @ h_2)


def test_as_a_restricted_machine_it_has_the_same_energies():
    dbm = deep()
    rbm = dbm.as_rbm()
    table = all_energies(dbm)
    ends = torch.cat([bits(4)[:, None].expand(-1, 4, -1), bits(2).expand(16, -1, -1)], 2)
    found = rbm.free_energy(ends.reshape(-1, 6)).reshape(16, 4)
    torch.testing.assert_close(found, -table.logsumexp(1))
    estimate = ais(rbm, n_chains=200, n_temperatures=500, generator=rng(1))
    assert abs(estimate.log_z - dbm.log_partition()) < 0.1


def test_gibbs_sampling_keeps_the_distribution():
    dbm = deep()
    p = all_energies(dbm).flatten().softmax(0).reshape(16, 8, 4)
    start = torch.multinomial(p.sum((0, 2)), 20_000, replacement=True, generator=rng(1))
    h_1 = dbm.gibbs(bits(3)[start], 3, rng(2))
    index = (h_1 @ torch.tensor([4.0, 2, 1], dtype=DOUBLE)).long()
    frequency = torch.bincount(index, minlength=8) / 20_000
    assert (frequency - p.sum((0, 2))).abs().max() < 0.015
    far = dbm.gibbs(torch.zeros(20_000, 3, dtype=DOUBLE), 60, rng(3))
    assert (far.mean(0) - p.sum((0, 2)) @ bits(3)).abs().max() < 0.02
    x = dbm.sample(20_000, 60, start=bits(4)[:1].expand(20_000, -1), generator=rng(4))
    index = (x @ torch.tensor([8.0, 4, 2, 1], dtype=DOUBLE)).long()
    frequency = torch.bincount(index, minlength=16) / 20_000
    assert (frequency - p.sum((1, 2))).abs().max() < 0.015
    mean = dbm.sample(4000, 60, mean=True, generator=rng(5)).mean(0)
    assert (mean - p.sum((1, 2)) @ bits(4)).abs().max() < 0.04
    assert torch.equal(dbm.gibbs(h_1, 0), h_1)


def test_mean_field_is_a_peak_of_the_bound_and_never_lowers_it():
    dbm, x = deep(5, 4, 3), bits(5)
    bounds = torch.stack([dbm.elbo(x, n_steps=n).detach() for n in range(1, 12)])
    assert (bounds.diff(dim=0) > -1e-10).all() and bounds[-1].mean() > bounds[0].mean() + 1e-4
    mu = [t.clone().requires_grad_() for t in dbm.mean_field(x, 300)]
    objective = sum(energy.bernoulli_entropy(m) for m in mu) - dbm.energy(x, *mu)
    for slope in torch.autograd.grad(objective.sum(), mu):
        assert slope.abs().max() < 1e-6
    torch.testing.assert_close(dbm.encode(x), dbm.mean_field(x, 10)[1])
    first_guess = (2 * x @ dbm.W_1.T + dbm.b_1).sigmoid()
    torch.testing.assert_close(
        dbm.mean_field(x, 1)[1], (first_guess @ dbm.W_2.T + dbm.b_2).sigmoid()
    )


def test_the_bound_is_below_and_short_by_the_divergence():
    dbm, x = deep(), bits(4)
    bound, exact = dbm.elbo(x), dbm.log_prob(x)
    mu_1, mu_2 = dbm.mean_field(x)
    log_q = (
        torch.stack([Bernoulli(mu_1).log_prob(h).sum(1) for h in bits(3)], 1)[:, :, None]
        + torch.stack([Bernoulli(mu_2).log_prob(h).sum(1) for h in bits(2)], 1)[:, None]
    )
    posterior = all_energies(dbm).flatten(1).log_softmax(1).reshape(16, 8, 4)
    kl = (log_q.exp() * (log_q - posterior)).sum((1, 2))
    torch.testing.assert_close(exact - bound, kl)
    assert kl.min() >= 0 and kl.max() > 1e-3


def test_the_loss_has_the_bounds_gradient():
    """With chains drawn from the model itself, many of them, and exact averages over the ends."""
    dbm, x = deep(n_particles=40_000, n_mean_field=200), bits(4)[[1, 4, 9]]
    p = all_energies(dbm).flatten().softmax(0).reshape(16, 8, 4).sum((0, 2)).detach()
    rows = torch.multinomial(p, 40_000, replacement=True, generator=rng(1))
    dbm.particles.copy_(bits(3)[rows])
    torch.manual_seed(0)
    parameters = list(dbm.parameters())
    found = torch.autograd.grad(dbm.loss(x), parameters)
    mu = dbm.mean_field(x)
    objective = -dbm.energy(x, *mu).mean() - all_energies(dbm).flatten().logsumexp(0)
    for a, b in zip(found, torch.autograd.grad(-objective, parameters)):
        assert (a - b).abs().max() < 0.015


def test_chains_go_on_between_losses():
    torch.manual_seed(0)
    dbm = deep(n_particles=50, n_gibbs=2)
    before = dbm.particles.clone()
    dbm.loss(bits(4))
    assert not torch.equal(before, dbm.particles)
    torch.manual_seed(3)
    before = dbm.particles.clone()
    dbm.loss(bits(4))
    torch.manual_seed(3)
    assert torch.equal(dbm.particles, dbm.gibbs(before, 2))


def test_training_raises_the_exact_likelihood():
    torch.manual_seed(0)
    x = deep(6, 4, 3, seed=5).float().sample(1000, 200)
    dbm = energy.DeepBoltzmannMachine(6, 4, 3, n_gibbs=5)
    before = dbm.log_prob(x).mean().item()
    train.fit(dbm, x, epochs=40, lr=1e-2, progress=False)
    independent = Bernoulli(x.mean(0)).log_prob(x).sum(1).mean().item()
    after = dbm.log_prob(x).mean().item()
    assert before < independent < after
    assert dbm.elbo(x).mean().item() < after


def test_two_doubled_machines_make_a_deep_one():
    first = filled(energy.DoubledRBM(4, 3, "visible"), 1)
    second = filled(energy.DoubledRBM(3, 2, "hidden"), 2)
    dbm = energy.DeepBoltzmannMachine.from_rbms(first, second, n_particles=7)
    assert dbm.particles.shape == (7, 3) and dbm.c.dtype == DOUBLE
    v, h_2, h_1 = bits(4)[:4], bits(2), bits(3)[:4]
    mean = (first.hidden_given_visible(v).logit() + second.visible_given_hidden(h_2).logit()) / 2
    torch.testing.assert_close(dbm.middle_given_ends(v, h_2).logit(), mean)
    ends = dbm.ends_given_middle(h_1)
    torch.testing.assert_close(ends[0], first.visible_given_hidden(h_1))
    torch.testing.assert_close(ends[1], second.hidden_given_visible(h_1))


def test_passes_through_the_deep_machine():
    dbm, x = deep(), bits(4)
    mu_1, mu_2 = dbm.mean_field(x)
    torch.testing.assert_close(dbm.reconstruct(x), dbm.ends_given_middle(mu_1)[0])
    middle = (2 * mu_2 @ dbm.W_2 + dbm.b_1).sigmoid()
    torch.testing.assert_close(dbm.decode(mu_2), dbm.ends_given_middle(middle)[0])


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: energy.DeepBeliefNetwork([RBM(3, 2)]), "n_machines is 1"),
        (
            lambda: energy.DeepBeliefNetwork([RBM(3, 2), RBM(3, 2)]),
            "2 hidden units lies below one with 3",
        ),
        (
            lambda: energy.DeepBeliefNetwork([RBM(3, 2, hidden="gaussian"), RBM(2, 2)]),
            "hidden is 'gaussian'",
        ),
        (lambda: network(3, 2, 2).loss(bits(3)), "call untie"),
        (lambda: network(3, 2, 2).elbo(bits(3), 0), "k is 0"),
        (lambda: network(3, 2, 2).elbo(bits(4)), "expected 3 numbers in a sample"),
        (lambda: network(3, 2, 2).elbo(2 * bits(3)), r"expected \[0.0, 1.0\]"),
        (lambda: network(3, 2, 2).log_prob(0.5 * bits(3)), "other numbers than 0 and 1"),
        (lambda: network(3, 2, 2).encode(bits(4)), "expected 3 numbers"),
        (lambda: energy.DoubledRBM(3, 2, "both"), "doubled is 'both'"),
        (lambda: energy.DoubledRBM(3, 2, "hidden").loss(3 * torch.ones(1, 3)), "expected"),
        (lambda: energy.DeepBoltzmannMachine(3, 0, 2), "k_1 is 0"),
        (lambda: energy.DeepBoltzmannMachine(3, 2, 2, n_particles=0), "n_particles is 0"),
        (lambda: deep().mean_field(bits(4), 0), "n_steps is 0"),
        (lambda: deep().elbo(bits(5)), "expected 4 numbers in a sample"),
        (lambda: deep().log_prob(0.5 * bits(4)), "other numbers than 0 and 1"),
        (lambda: deep().loss(-bits(4)), "expected"),
        (lambda: deep().sample(0), "n is 0"),
        (lambda: deep().sample(3, start=bits(4)), "start has shape"),
        (
            lambda: energy.DeepBoltzmannMachine.from_rbms(
                energy.DoubledRBM(3, 2, "hidden"), energy.DoubledRBM(2, 2, "hidden")
            ),
            "two copies each",
        ),
        (
            lambda: energy.DeepBoltzmannMachine.from_rbms(
                energy.DoubledRBM(3, 2, "visible"), energy.DoubledRBM(3, 2, "hidden")
            ),
            "expected the same middle layer",
        ),
    ],
)
def test_errors(call, said):
    with pytest.raises(ValueError, match=said):
        call()
