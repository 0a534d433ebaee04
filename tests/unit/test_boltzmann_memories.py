"""Hopfield networks and Boltzmann machines against their definitions, enumeration and autograd."""

import itertools
import math

import pytest
import torch

from lectool import boltzmann, random, train
from lectool.boltzmann import BoltzmannMachine, Hopfield
from lectool.boltzmann.states import bit_blocks, check_bits

DOUBLE = torch.float64


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def spins(n, d, seed=0):
    return 2.0 * torch.randint(2, (n, d), generator=rng(seed)).double() - 1


# ------------------------------------------------------------------------------------------------ states


def test_all_bits_are_those_of_itertools_in_its_order():
    for n in (0, 1, 4):
        rows = torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)), dtype=DOUBLE)
        assert torch.equal(boltzmann.all_bits(n, rows), rows.view(2**n, n))
    blocks = list(bit_blocks(14))
    assert len(blocks) == 2 and torch.equal(torch.cat(blocks), boltzmann.all_bits(14))


@pytest.mark.parametrize("n", [-1, 21])
def test_too_many_states(n):
    with pytest.raises(ValueError, match=rf"{n} units have .* states; expected at most 20"):
        boltzmann.all_bits(n)


def test_check_bits():
    check_bits(torch.eye(3))
    with pytest.raises(ValueError, match=r"x holds other numbers than 0 and 1; .* x.round\(\)"):
        check_bits(torch.full((2, 2), 0.5), "x")
    with pytest.raises(ValueError, match=r"v lies in \[-1, 1\]; expected \[0.0, 1.0\]"):
        check_bits(torch.tensor([[-1.0, 1.0]]))


# ------------------------------------------------------------------------------------------------ Hopfield


def test_hebb_is_the_sum_of_outer_products():
    x = spins(3, 7)
    W = Hopfield().fit(x).W_
    for i in range(7):
        for j in range(7):
            expected = 0 if i == j else sum(p[i] * p[j] for p in x) / 7
            assert W[i, j] == pytest.approx(float(expected))


def test_projection_keeps_linearly_independent_patterns_beyond_hebbs_capacity():
    x = spins(40, 80, seed=1)
    x[1] = x[0]
    x[1, :4] *= -1  # alike, which Hebb's rule mixes up
    network = Hopfield("projection").fit(x)
    P = x.T @ torch.linalg.inv(x @ x.T) @ x
    torch.testing.assert_close(network.W_, P - P.diagonal().diag())
    assert torch.equal(network.recall(x, 1)[0], x)
    assert not torch.equal(Hopfield().fit(x).recall(x, 1)[0], x)


def test_energy_of_a_pair_and_of_every_unit_that_moves():
    W = torch.tensor([[0.0, 0.5], [0.5, 0.0]], dtype=DOUBLE)
    s = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=DOUBLE)
    assert boltzmann.hopfield_energy(s, W).tolist() == [-0.5, 0.5]
    A = torch.randn(9, 9, generator=rng(), dtype=DOUBLE)
    W = (A + A.T).fill_diagonal_(0)
    s = spins(1, 9, seed=2)
    for i in list(range(9)) * 2:
        new = boltzmann.asynchronous_sweep(s, W, torch.tensor([i]))
        a = (W @ s[0])[i]
        assert (new != s)[0].nonzero().flatten().tolist() in ([], [i])
        assert new[0, i] == a.sign()
        drop = boltzmann.hopfield_energy(s, W) - boltzmann.hopfield_energy(new, W)
        flips = 1.0 if bool((new != s).any()) else 0.0
        assert drop.item() == pytest.approx(2 * a.abs().item() * flips)
        s = new


def test_asynchronous_recall_never_raises_the_energy_and_ends_in_a_fixed_point():
    network = Hopfield().fit(spins(8, 50))
    start = spins(30, 50, seed=3)
    s, energies = network.recall(start, generator=rng())
    assert (energies.diff(dim=0) <= 1e-12).all() and (energies[0] > energies[-1]).all()
    torch.testing.assert_close(energies[-1], network.energy(s))
    assert torch.equal(energies[-1], energies[-2])
    for order in (torch.arange(50), torch.arange(50).flip(0)):
        assert torch.equal(boltzmann.asynchronous_sweep(s, network.W_, order), s)


def test_synchronous_updates_can_swing_for_ever():
    W = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=DOUBLE)
    s = torch.tensor([[1.0, -1.0]], dtype=DOUBLE)
    assert torch.equal(boltzmann.synchronous_step(s, W), -s)
    assert torch.equal(boltzmann.asynchronous_sweep(s, W, torch.arange(2)), -torch.ones_like(s))
    assert s.tolist() == [[1, -1]]  # not in place
    network = Hopfield().fit(spins(1, 2))
    network.W_ = W
    assert network.recall(s, 7, synchronous=True)[1].shape == (8, 1)
    A = torch.randn(6, 6, generator=rng(), dtype=DOUBLE)
    s = spins(4, 6)
    assert torch.equal(boltzmann.synchronous_step(s, A), (A @ s.T).T.sign())


def test_units_without_input_stay():
    s, W = spins(3, 4), torch.zeros(4, 4, dtype=DOUBLE)
    assert torch.equal(boltzmann.asynchronous_sweep(s, W, torch.arange(4)), s)
    assert torch.equal(boltzmann.synchronous_step(s, W), s)


@pytest.mark.parametrize("synchronous", [False, True])
def test_recall_repairs_damage(synchronous):
    x = spins(5, 100)
    network = Hopfield().fit(x)
    damaged = torch.where(torch.rand(5, 100, generator=rng(1)) < 0.15, -x, x)
    s, _ = network.recall(damaged, synchronous=synchronous, generator=rng())
    assert torch.equal(s, x)
    torch.testing.assert_close(network.overlap(s).diagonal(), torch.ones(5, dtype=DOUBLE))
    torch.testing.assert_close(network.overlap(damaged)[0, 1], (damaged[0] * x[1]).mean())


def test_share_of_unstable_bits_is_the_normal_tail():
    d, m, wrong = 200, 40, []
    for seed in range(8):
        x = spins(m, d, seed=seed)
        W = Hopfield().fit(x).W_
        wrong.append((boltzmann.synchronous_step(x, W) != x).double().mean())
    measured = torch.stack(wrong)
    expected = boltzmann.unstable_share(d, m)
    assert expected == pytest.approx(0.5 * (1 + math.erf(-math.sqrt(199 / 39) / math.sqrt(2))))
    assert measured.mean().item() == pytest.approx(expected, abs=4 * measured.std().item() / 8**0.5)
    assert boltzmann.unstable_share(10, 1) == 0


def test_capacity():
    assert boltzmann.hopfield_capacity(1000) == pytest.approx(138)
    assert boltzmann.hopfield_capacity(1000, exact=True) == pytest.approx(72.38, abs=0.01)
    below, above = (spins(m, 300, seed=4) for m in (20, 90))
    overlaps = [
        Hopfield().fit(x).recall(x, generator=rng())[0].mul(x).mean().item() for x in (below, above)
    ]
    assert overlaps[0] > 0.99 and overlaps[1] < 0.7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Hopfield("oja"), "rule is 'oja'; it can be 'hebb' or 'projection'"),
        (lambda: Hopfield().fit(torch.zeros(2, 3)), "x holds other numbers than −1 and 1"),
        (lambda: Hopfield().fit(spins(2, 3)).recall(spins(1, 4)), "expected 3 numbers in a sample"),
        (lambda: Hopfield().fit(spins(2, 3)).energy(0.5 * spins(1, 3)), "s holds other numbers"),
        (lambda: boltzmann.hopfield_capacity(1), "d is 1; expected a finite number ≥ 2"),
        (lambda: boltzmann.unstable_share(5, 0), "n_patterns is 0; expected"),
    ],
)
def test_hopfield_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ------------------------------------------------------------------------------------------------ Boltzmann machine


def machine(d=4, k=0, seed=0, **options):
    torch.manual_seed(seed)
    model = BoltzmannMachine(d, k, **options).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p))  # neither symmetric nor without a diagonal
    return model


def table(model):
    """All states and their probabilities, from the definition, pair by pair."""
    W, b = model.couplings.detach(), model.b.detach()
    states = list(itertools.product([0.0, 1.0], repeat=len(b)))
    log_p = []
    for u in states:
        pairs = sum(W[i, j] * u[i] * u[j] for i in range(len(u)) for j in range(len(u)))
        log_p.append(pairs + sum(b[i] * u[i] for i in range(len(u))))
    return torch.tensor(states, dtype=DOUBLE), torch.stack(log_p)


def test_couplings_are_symmetric_without_a_diagonal():
    model = machine()
    W = model.couplings
    assert torch.equal(W, W.T) and (W.diagonal() == 0).all()
    torch.testing.assert_close(W[0, 1], (model.W[0, 1] + model.W[1, 0]) / 2)


@pytest.mark.parametrize("k", [0, 2])
def test_energy_partition_and_marginal_by_enumeration(k):
    model = machine(3, k)
    u, log_p = table(model)
    torch.testing.assert_close(-model.energy(u), log_p)
    torch.testing.assert_close(model.log_partition(), log_p.logsumexp(0))
    v = boltzmann.all_bits(3, u)
    marginal = log_p.softmax(0).view(8, -1).sum(1)  # the hidden units come last
    torch.testing.assert_close(model.log_prob(v).exp(), marginal)


def test_each_pair_counts_twice_in_the_conditional():
    model = machine(4)
    u, log_p = table(model)
    p = log_p.exp()
    for i in range(4):
        flipped = u.clone()
        flipped[:, i] = 1 - u[:, i]
        place = (flipped @ torch.tensor([8.0, 4, 2, 1], dtype=DOUBLE)).long()
        on = torch.where(u[:, i] == 1, p, p[place])
        torch.testing.assert_close(model.conditional(u)[:, i], on / (p + p[place]))


@pytest.mark.parametrize("k", [0, 2])
def test_the_gradient_is_clamped_minus_free_phase(k):
    model = machine(3, k)
    x = torch.randint(2, (6, 3), generator=rng()).double()
    (-model.loss(x)).backward()
    difference = model.clamped_phase(x) - model.free_phase()
    torch.testing.assert_close(model.b.grad, difference.diagonal())
    torch.testing.assert_close(model.W.grad, difference - difference.diagonal().diag())


def test_phases_by_enumeration():
    model = machine(2, 2)
    u, log_p = table(model)
    p = log_p.softmax(0)
    torch.testing.assert_close(model.free_phase(), torch.einsum("s,si,sj->ij", p, u, u))
    v = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=DOUBLE)
    expected = 0
    for row in v:
        q = p * (u[:, :2] == row).all(1)
        expected = expected + torch.einsum("s,si,sj->ij", q / q.sum(), u, u) / 2
    torch.testing.assert_close(model.clamped_phase(v), expected)


def test_gibbs_sweeps_leave_the_distribution_as_it_is():
    model, n = machine(3), 40_000
    u, log_p = table(model)
    p = log_p.softmax(0)
    start = u[torch.multinomial(p, n, replacement=True, generator=rng())]
    end = model.gibbs(start, 1, generator=rng(1))
    share = torch.bincount((end @ torch.tensor([4.0, 2, 1], dtype=DOUBLE)).long(), minlength=8) / n
    assert ((share - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()
    far = model.gibbs(torch.zeros(n, 3, dtype=DOUBLE), 30, generator=rng(1)).mean(0)
    assert ((far - p @ u).abs() < 0.02).all()
    drawn = model.sample(n, 30, generator=rng(2)).mean(0)
    assert ((drawn - p @ u).abs() < 0.02).all() and model.sample(2).shape == (2, 3)


def test_clamped_units_stay_and_the_others_follow_the_conditional():
    model = machine(4, 1)
    known = torch.tensor([True, False, True, False])
    v = torch.tensor([[1.0, 0, 0, 0], [0.0, 1, 1, 1]], dtype=DOUBLE)
    exact = model.completion(v, known)
    u, log_p = table(model)
    for row, p_on in zip(v, exact):
        q = log_p.exp() * (u[:, [0, 2]] == row[[0, 2]]).all(1)
        torch.testing.assert_close(p_on, (q / q.sum()) @ u)
    for row, p_on in zip(v, exact):
        sample = model.complete(row.expand(20_000, -1), known, 30, generator=rng())
        assert torch.equal(sample[:, known], row[known].expand(20_000, -1))
        assert ((sample.mean(0) - p_on[:4]).abs() < 0.02).all()


def test_a_hopfield_network_is_a_boltzmann_machine_at_temperature_zero():
    A = torch.randn(6, 6, generator=rng(), dtype=DOUBLE)
    J = (A + A.T).fill_diagonal_(0)
    model = BoltzmannMachine.from_spins(J, 0.5)
    u = boltzmann.all_bits(6, J)
    offset = model.energy(u) - boltzmann.hopfield_energy(2 * u - 1, J) / 0.5
    torch.testing.assert_close(offset, offset[0].expand_as(offset))
    cold = BoltzmannMachine.from_spins(J, 1e-4).gibbs(u, 1, generator=rng())
    expected = boltzmann.asynchronous_sweep(2 * u - 1, J, torch.arange(6))
    assert torch.equal(2 * cold - 1, expected)


def test_exact_learning_reaches_a_distribution_of_pairs():
    torch.manual_seed(0)
    x = torch.tensor([[1.0, 1, 0], [1.0, 1, 0], [0.0, 0, 1], [1.0, 1, 1]], dtype=DOUBLE).repeat(
        8, 1
    )
    x = torch.cat([x, boltzmann.all_bits(3, x)])
    model = BoltzmannMachine(3).double()
    train.fit(model, x, epochs=400, batch_size=100, lr=0.05, schedule="linear")
    torch.testing.assert_close(model.free_phase(), x.T @ x / len(x), atol=2e-3, rtol=0)


def test_a_hidden_unit_learns_parity_which_pairs_cannot():
    random.seed(0)
    x = torch.tensor([[0.0, 0, 0], [0.0, 1, 1], [1.0, 0, 1], [1.0, 1, 0]])
    losses = []
    for k in (0, 1):
        torch.manual_seed(1)
        model = BoltzmannMachine(3, k)
        train.fit(model, x, epochs=300, batch_size=4, lr=0.2)
        losses.append(model.loss(x).item())
    assert losses[0] == pytest.approx(3 * math.log(2), abs=1e-3)  # no pair tells of parity
    assert losses[1] < 2 * math.log(2) + 0.1


def test_sampled_phases_learn_too():
    random.seed(0)
    x = torch.tensor([[1.0, 1, 0, 0], [0.0, 0, 1, 1]]).repeat(50, 1)
    model = BoltzmannMachine(4, 1, n_particles=200, n_sweeps=2)
    particles = model.particles.clone()
    before = model.log_prob(x).mean().item()
    train.fit(model, x, epochs=150, batch_size=100, lr=0.05, schedule="linear")
    assert model.log_prob(x).mean().item() > before + 1.2  # from −2.8; at best −0.69
    assert not torch.equal(model.particles, particles)
    assert set(model.particles.unique().tolist()) <= {0.0, 1.0}


def test_sampled_gradient_is_that_of_the_energies():
    model = machine(3, 1, n_particles=5)
    x = boltzmann.all_bits(3, model.b)
    torch.manual_seed(4)
    model.loss(x).backward()
    torch.manual_seed(4)
    fresh = machine(3, 1, n_particles=5)
    torch.manual_seed(4)
    hidden = torch.cat([x, torch.zeros(8, 1, dtype=DOUBLE)], 1)
    clamped = fresh.gibbs(hidden, 1, clamped=fresh.visible())
    free = fresh.gibbs(fresh.particles, 1)
    assert torch.equal(clamped[:, :3], x) and torch.equal(model.particles, free)
    torch.testing.assert_close(-model.b.grad, clamped.mean(0) - free.mean(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BoltzmannMachine(0), "d is 0; expected a finite number ≥ 1"),
        (lambda: BoltzmannMachine(2, -1), "k is -1; expected"),
        (lambda: BoltzmannMachine(2, n_sweeps=0), "n_sweeps is 0"),
        (
            lambda: BoltzmannMachine(2).log_prob(torch.rand(3, 2)),
            "v holds other numbers than 0 and 1",
        ),
        (lambda: BoltzmannMachine(2).loss(torch.ones(3, 4)), "expected 2 numbers in a sample"),
        (lambda: BoltzmannMachine(21).log_partition(), "21 units have .* expected at most 20"),
        (lambda: BoltzmannMachine.from_spins(torch.ones(2, 3)), r"J has shape \(2, 3\)"),
        (lambda: BoltzmannMachine.from_spins(torch.zeros(2, 2), 0), "temperature is 0"),
        (
            lambda: BoltzmannMachine(2).complete(torch.ones(1, 2), torch.tensor([True])),
            r"known has shape \(1,\); expected \(2,\)",
        ),
        (
            lambda: BoltzmannMachine(30).completion(torch.ones(1, 30), torch.arange(30) < 5),
            "25 units are unknown; expected at most 20",
        ),
    ],
)
def test_machine_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
