"""The RBM against enumeration, integration and the textbook gradient; its estimates against exact ones."""

import doctest
import importlib
import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.neural_network import BernoulliRBM
from torch import Tensor

from lectool import boltzmann, random, train
from lectool.boltzmann import RBM, BernoulliNoise, NoiseContrastiveRBM
from lectool.graphical import MarkovRandomField

D, K = 4, 3


def machine(hidden: str = "bernoulli", **options) -> RBM:
    """A small machine with weights far from 0, in double precision."""
    torch.manual_seed(0)
    rbm = RBM(D, K, hidden=hidden, **options).double()
    with torch.no_grad():
        for p in rbm.parameters():
            p.copy_(torch.randn_like(p))
    return rbm


def states(n: int) -> Tensor:
    """All 2**n binary vectors of length n."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)), dtype=torch.float64)


def energy(rbm: RBM, v: Tensor, h: Tensor) -> Tensor:
    """E(v, h) of binary units for every pair, (len(v), len(h)), written from the definition."""
    interaction = torch.einsum("nd,kd,mk->nm", v, rbm.W, h)
    return -(v @ rbm.c)[:, None] - (h @ rbm.b)[None] - interaction


def test_free_energy_sums_the_hidden_units_out():
    rbm, v = machine(), states(D)
    enumerated = -(-energy(rbm, v, states(K))).logsumexp(1)
    torch.testing.assert_close(rbm.free_energy(v), enumerated)


def test_conditionals_are_those_of_the_joint_distribution():
    rbm, v, h = machine(), states(D), states(K)
    joint = (-energy(rbm, v, h)).softmax(1)  # p(h | v), one row for each v
    torch.testing.assert_close(rbm.hidden_given_visible(v), joint @ h)
    joint = (-energy(rbm, v, h)).T.softmax(1)  # p(v | h), one row for each h
    torch.testing.assert_close(rbm.visible_given_hidden(h), joint @ v)


def test_gaussian_hidden_units_against_numerical_integration():
    torch.manual_seed(1)
    rbm = RBM(D, 1, hidden="gaussian").double()
    v, h = states(D), torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
    weight = torch.exp(-energy(rbm, v, h) - 0.5 * h.square().T)
    integral = torch.trapezoid(weight, h[:, 0], dim=1)
    free_energy = -integral.log() + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(rbm.free_energy(v), free_energy)
    mean = torch.trapezoid(weight * h.T, h[:, 0], dim=1) / integral
    torch.testing.assert_close(rbm.hidden_given_visible(v)[:, 0], mean)


@pytest.mark.parametrize("hidden", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("sample_visible", [True, False])
def test_loss_has_the_contrastive_divergence_gradient(hidden, k, sample_visible):
    rbm, n = machine(hidden, n_gibbs=k, sample_visible=sample_visible), 6
    x = torch.rand(n, D, dtype=torch.float64)
    torch.manual_seed(2)
    rbm.loss(x).backward()

    torch.manual_seed(2)
    v = rbm.gibbs(x, k)
    assert bool(((v == 0) | (v == 1)).all()) is sample_visible
    h_data, h_model = rbm.hidden_given_visible(x), rbm.hidden_given_visible(v)
    torch.testing.assert_close(-rbm.W.grad, (h_data.T @ x - h_model.T @ v) / n)
    torch.testing.assert_close(-rbm.c.grad, (x - v).mean(0))
    torch.testing.assert_close(-rbm.b.grad, (h_data - h_model).mean(0))


@pytest.mark.parametrize("hidden", ["bernoulli", "gaussian"])
def test_gibbs_samples_follow_the_model(hidden):
    rbm, v = machine(hidden), states(D)
    p = (-rbm.free_energy(v)).softmax(0)
    n = 20_000
    torch.manual_seed(3)
    start = v[torch.multinomial(p, n, replacement=True)]  # in equilibrium, where it must stay
    sample = rbm.gibbs(start, 2)
    frequency = torch.bincount((sample @ (2.0 ** torch.arange(D - 1, -1, -1)).double()).long())
    frequency = frequency.double() / n
    error = (p * (1 - p) / n).sqrt()
    assert ((frequency - p).abs() < 5 * error).all()
    torch.manual_seed(3)
    wrong = rbm.gibbs(torch.zeros(n, D, dtype=torch.float64), 50).mean(0)  # forgets its start
    assert ((wrong - p @ v).abs() < 0.05).all()


def test_gibbs_carries_no_gradient_and_zero_steps_change_nothing():
    rbm, x = machine(), torch.rand(5, D, dtype=torch.float64)
    assert not rbm.gibbs(x, 1).requires_grad
    assert rbm.gibbs(x, 0) is x


def test_training_by_cd_raises_the_exact_likelihood():
    torch.manual_seed(0)
    x = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]).repeat(50, 1)
    rbm = RBM(D, K)

    def log_likelihood() -> float:
        with torch.no_grad():
            log_z = (-rbm.free_energy(states(D).float())).logsumexp(0)
            return (-rbm.free_energy(x)).mean().sub(log_z).item()

    before, adam = log_likelihood(), torch.optim.Adam(rbm.parameters(), lr=0.05)
    for _ in range(300):
        adam.zero_grad()
        rbm.loss(x).backward()
        adam.step()
    assert log_likelihood() > before + 1  # at best -log 2 = -0.69, from about -4 log 2 = -2.77
    assert log_likelihood() < -math.log(2) + 1e-4


@pytest.mark.parametrize("hidden", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_dtypes(hidden, dtype):
    rbm, x = RBM(D, K, hidden=hidden).to(dtype), torch.rand(5, D, dtype=dtype)
    z = rbm.encode(x)
    expected = {
        (5, K): [z],
        (5, D): [rbm.decode(z), rbm.reconstruct(x), rbm.gibbs(x, 2)],
        (5,): [rbm.free_energy(x)],
        (): [rbm.loss(x)],
    }
    for shape, tensors in expected.items():
        for tensor in tensors:
            assert tuple(tensor.shape) == shape and tensor.dtype == dtype
    torch.testing.assert_close(rbm.reconstruct(x), rbm.decode(rbm.encode(x)))
    assert rbm.W.shape == (K, D) and rbm.b.shape == (K,) and rbm.c.shape == (D,)


def test_same_seed_same_loss():
    rbm, x = machine(), torch.rand(5, D, dtype=torch.float64)
    torch.manual_seed(7)
    first = rbm.loss(x)
    torch.manual_seed(7)
    assert rbm.loss(x) == first


@pytest.mark.parametrize("method", ["loss", "encode", "reconstruct"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((2, D), 1.5), r"lies in \[1.5, 1.5\]; expected \[0.0, 1.0\]"),
        (torch.full((2, D), -0.1), r"lies in \[-0.1, -0.1\]; expected"),
        (torch.tensor([[0.5, math.nan, 0.5, 0.5]]), "holds 1 values that are NaN"),
        (torch.tensor([[0.5, math.inf, 0.5, 0.5]]), "holds 1 values that are NaN or infinite"),
        (torch.rand(2, D + 1), r"shape \(2, 5\); expected 4 numbers"),
        (torch.rand(D), r"shape \(4,\); expected 2 axes"),
        (torch.empty(0, D), "x is empty"),
    ],
)
def test_bad_data(method, x, message):
    with pytest.raises(ValueError, match=message):
        getattr(RBM(D, K), method)(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d": 0}, "d is 0; expected a finite number ≥ 1"),
        ({"k": -2}, "k is -2; expected a finite number ≥ 1"),
        ({"n_gibbs": 0}, "n_gibbs is 0; expected a finite number ≥ 1"),
        ({"hidden": "relu"}, "hidden is 'relu'; it can be"),
        ({"n_particles": -1}, "n_particles is -1; expected a finite number ≥ 0"),
        ({"sd": -0.1}, "sd is -0.1; expected a finite number ≥ 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        RBM(**{"d": D, "k": K, **options})


def test_negative_number_of_steps():
    with pytest.raises(ValueError, match="n_steps is -1; expected a finite number ≥ 0"):
        RBM(D, K).gibbs(torch.rand(1, D), -1)


def test_start_at_sets_the_mean_image():
    rbm, x = RBM(D, K), torch.rand(50, D)
    rbm.start_at(x)
    torch.nn.init.zeros_(rbm.W)
    torch.testing.assert_close(rbm.reconstruct(x)[0], x.mean(0))


# ------------------------------------------------------------------------------------------------ exact likelihood


def joint(rbm: RBM) -> Tensor:
    """p(v, h) of all states, (2^d, 2^k), from the definition."""
    k, d = rbm.W.shape
    log_p = -energy(rbm, states(d), states(k)).detach()
    return (log_p - log_p.flatten().logsumexp(0)).exp()


def any_machine(d: int, k: int, seed: int = 0, scale: float = 1.0, **options) -> RBM:
    torch.manual_seed(seed)
    rbm = RBM(d, k, **options).double()
    with torch.no_grad():
        for p in rbm.parameters():
            p.copy_(scale * torch.randn_like(p))
    return rbm


@pytest.mark.parametrize(("d", "k"), [(4, 3), (3, 4), (3, 3), (14, 2), (2, 14)])
def test_log_partition_enumerates_either_layer(d, k):
    rbm = any_machine(d, k)
    log_z = -energy(rbm, states(d), states(k)).flatten()
    torch.testing.assert_close(rbm.log_partition(), log_z.logsumexp(0))
    torch.testing.assert_close(rbm.log_prob(states(d)).exp().sum().item(), 1.0)


def test_log_prob_of_real_hidden_units_and_with_a_given_z():
    rbm, v = machine("gaussian"), states(D)
    torch.testing.assert_close(rbm.log_prob(v).exp().sum().item(), 1.0)
    torch.testing.assert_close(rbm.log_prob(v, 2.0), -rbm.free_energy(v) - 2)
    with pytest.raises(ValueError, match="v holds other numbers than 0 and 1"):
        rbm.log_prob(torch.full((1, D), 0.5))
    with pytest.raises(ValueError, match="the hidden units are real; expected hidden='bernoulli'"):
        rbm.hidden_free_energy(states(K))


def test_too_many_units_to_enumerate():
    with pytest.raises(ValueError, match=r"21 units have .* for more see ais"):
        RBM(30, 21).log_partition()


def test_the_marginal_is_a_product_of_experts():
    rbm, v = machine(), states(D)
    product = (v @ rbm.c).exp() * rbm.experts(v).exp().prod(1)
    torch.testing.assert_close(product / product.sum(), joint(rbm).sum(1))
    a = v @ rbm.W.T + rbm.b
    torch.testing.assert_close(rbm.experts(v), (1 + a.exp()).log())
    real = machine("gaussian")
    torch.testing.assert_close(real.experts(v), 0.5 * (v @ real.W.T + real.b) ** 2)


def test_hidden_free_energy_is_the_other_marginal():
    rbm = machine()
    p = (-rbm.hidden_free_energy(states(K))).softmax(0)
    torch.testing.assert_close(p, joint(rbm).sum(0))


def test_factors_multiply_to_the_joint_distribution():
    rbm = any_machine(3, 2)
    pairs = boltzmann.factors(rbm)
    assert [len(scope) for scope, _ in pairs] == [2] * 6 + [1] * 5
    table = MarkovRandomField(pairs).joint()
    order = [table.names.index(name) for name in ("v1", "v2", "v3", "h1", "h2")]
    torch.testing.assert_close(table.table.permute(order).reshape(8, 4), joint(rbm))
    with pytest.raises(ValueError, match="hidden is 'gaussian'"):
        boltzmann.factors(RBM(2, 2, hidden="gaussian"))


# ------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize(
    ("d", "k", "hidden"), [(4, 3, "bernoulli"), (3, 5, "bernoulli"), (3, 2, "gaussian")]
)
def test_exact_gradient_is_that_of_the_log_likelihood(d, k, hidden):
    rbm = any_machine(d, k, hidden=hidden)
    x = torch.randint(2, (7, d)).double()
    rbm.log_prob(x).mean().backward()
    gradient = boltzmann.exact_gradient(rbm, x)
    for name in ("W", "b", "c"):
        torch.testing.assert_close(getattr(gradient, name), getattr(rbm, name).grad)
    flat = torch.cat([rbm.W.grad.flatten(), rbm.b.grad, rbm.c.grad])
    torch.testing.assert_close(gradient.flat(), flat)


def test_statistics_by_enumeration():
    rbm = machine()
    v, h, p = states(D), states(K), joint(rbm)
    found = boltzmann.model_statistics(rbm)
    torch.testing.assert_close(found.W, torch.einsum("vh,hk,vd->kd", p, h, v))
    torch.testing.assert_close(found.b, p.sum(0) @ h)
    torch.testing.assert_close(found.c, p.sum(1) @ v)
    weighted = boltzmann.data_statistics(rbm, v, p=p.sum(1))
    torch.testing.assert_close(weighted.W, found.W)
    plain = boltzmann.data_statistics(rbm, v[:3], h[:3])
    torch.testing.assert_close(plain.W, h[:3].T @ v[:3] / 3)


def test_transition_matrix_keeps_the_model_and_is_what_gibbs_does():
    rbm, n = machine(), 40_000
    T, p = boltzmann.transition_matrix(rbm), joint(rbm).sum(1)
    torch.testing.assert_close(T.sum(1), torch.ones(2**D, dtype=torch.float64))
    torch.testing.assert_close(p @ T, p)
    torch.testing.assert_close(p[:, None] * T, (p[:, None] * T).T)  # detailed balance
    torch.manual_seed(0)
    v = rbm.gibbs(states(D)[5].expand(n, -1), 1)
    share = torch.bincount((v @ torch.tensor([8.0, 4, 2, 1]).double()).long(), minlength=16) / n
    assert ((share - T[5]).abs() < 5 * (T[5] * (1 - T[5]) / n).sqrt() + 1e-9).all()


@pytest.mark.parametrize("old_hidden", [False, True])
@pytest.mark.parametrize("n_gibbs", [1, 2])
def test_sampled_cd_gradients_average_to_the_expected_one(old_hidden, n_gibbs):
    rbm = machine()
    x = torch.randint(2, (5, D), generator=torch.Generator().manual_seed(0)).double()
    expected = boltzmann.expected_cd_gradient(rbm, x, n_gibbs, old_hidden=old_hidden)
    many = x.repeat(8000, 1)
    found = boltzmann.cd_gradient(
        rbm, many, n_gibbs, old_hidden=old_hidden, generator=torch.Generator().manual_seed(1)
    )
    assert ((found - expected).flat().abs() < 0.012).all()  # 4 standard errors at most
    other = boltzmann.expected_cd_gradient(rbm, x, n_gibbs, old_hidden=not old_hidden)
    assert (found - expected).flat().norm() < (found - other).flat().norm() / 2


def test_loss_descends_along_the_cd_gradient():
    rbm, x = machine(n_gibbs=2), torch.randint(2, (6, D)).double()
    torch.manual_seed(5)
    rbm.loss(x).backward()
    torch.manual_seed(5)
    found = boltzmann.cd_gradient(rbm, x, 2)
    for name in ("W", "b", "c"):
        torch.testing.assert_close(getattr(found, name), -getattr(rbm, name).grad)


def test_cd_tends_to_the_exact_gradient():
    rbm = any_machine(6, 4, seed=1)
    x = torch.randint(2, (20, 6), generator=torch.Generator().manual_seed(0)).double()
    exact = boltzmann.exact_gradient(rbm, x)
    of_k = [
        boltzmann.cosine(boltzmann.expected_cd_gradient(rbm, x, k), exact).item()
        for k in (1, 5, 100)
    ]
    assert of_k[0] < of_k[1] < of_k[2] and of_k[2] > 0.9999
    sampled = boltzmann.cd_gradient(rbm, x.repeat(200, 1), 100, generator=random.generator(0))
    assert boltzmann.cosine(sampled, exact) > 0.99


def test_the_older_hidden_units_are_further_from_the_model():
    rbm = machine()
    x = torch.randint(2, (4, D), generator=torch.Generator().manual_seed(3)).double()
    exact = boltzmann.exact_gradient(rbm, x).flat()
    for n_gibbs in (1, 2, 4):
        new, old = (
            boltzmann.expected_cd_gradient(rbm, x, n_gibbs, old_hidden=o).flat() for o in (0, 1)
        )
        assert (old - exact).norm() > 1.2 * (new - exact).norm()
    x_new, h_old, h_new = boltzmann.negative_pair(rbm, x, 3, random.generator(0))
    again = rbm.gibbs(x, 3, random.generator(0))
    assert torch.equal(x_new, again)
    torch.testing.assert_close(h_new, rbm.hidden_given_visible(x_new))
    assert set(h_old.unique().tolist()) <= {0.0, 1.0}


def test_cosine():
    a = boltzmann.Statistics(torch.tensor([[3.0, 0.0]]), torch.zeros(1), torch.tensor([0.0, 4.0]))
    b = boltzmann.Statistics(torch.tensor([[1.0, 0.0]]), torch.zeros(1), torch.zeros(2))
    assert boltzmann.cosine(a, b).item() == pytest.approx(0.6)
    assert (a - b).W.tolist() == [[2.0, 0.0]] and (a - b).c.tolist() == [0.0, 4.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rbm: boltzmann.exact_gradient(rbm, torch.rand(2, D)), "x holds other numbers"),
        (lambda rbm: boltzmann.cd_gradient(rbm, torch.ones(2, D), 0), "n_gibbs is 0"),
        (lambda rbm: boltzmann.expected_cd_gradient(rbm, torch.ones(2, D), 0), "n_gibbs is 0"),
        (
            lambda rbm: boltzmann.transition_matrix(RBM(13, 2)),
            r"d is 13; expected a number in \[1, 12\]",
        ),
        (
            lambda rbm: boltzmann.transition_matrix(RBM(2, 2, hidden="gaussian")),
            "hidden is 'gaussian'",
        ),
        (
            lambda rbm: boltzmann.pseudo_log_likelihood(rbm, torch.rand(2, D)),
            "v holds other numbers",
        ),
        (lambda rbm: boltzmann.ais(RBM(2, 2, hidden="gaussian")), "hidden is 'gaussian'"),
        (lambda rbm: boltzmann.ais(rbm, n_chains=1), "n_chains is 1; expected"),
        (lambda rbm: boltzmann.ais(rbm, n_temperatures=0), "n_temperatures is 0; expected"),
        (
            lambda rbm: boltzmann.ais(rbm, n_temperatures=torch.tensor([0.0, 0.9])),
            "rise from 0 to 1",
        ),
        (
            lambda rbm: boltzmann.ais(rbm, base=torch.zeros(3)),
            r"base has shape \(3,\); expected \(4,\)",
        ),
        (lambda rbm: boltzmann.from_log_weights(torch.zeros(1)), "n_weights is 1; expected"),
        (
            lambda rbm: boltzmann.from_log_weights(torch.tensor([0.0, math.nan])),
            "log_w holds 1 values",
        ),
        (lambda rbm: rbm.sample(0), "n is 0; expected"),
        (
            lambda rbm: rbm.sample(2, start=torch.ones(3, D)),
            r"start has shape \(3, 4\); expected \(2, 4\)",
        ),
        (lambda rbm: NoiseContrastiveRBM(rbm, BernoulliNoise(torch.full((D,), 0.5)), 0), "nu is 0"),
        (lambda rbm: BernoulliNoise(torch.tensor([0.5, 1.0])), "largest_mean is 1.0; expected"),
    ],
)
def test_errors_of_the_estimates(call, message):
    with pytest.raises(ValueError, match=message):
        call(RBM(D, K))


# ------------------------------------------------------------------------------------------------ persistent chains


def test_persistent_chains_go_on_where_they_were_left():
    rbm = machine(n_particles=6, n_gibbs=3)
    start = rbm.particles.clone()
    assert start.shape == (6, D) and set(start.unique().tolist()) <= {0.0, 1.0}
    x = torch.randint(2, (4, D)).double()
    torch.manual_seed(5)
    rbm.loss(x).backward()
    torch.manual_seed(5)
    expected = rbm.gibbs(start, 3)
    assert torch.equal(rbm.particles, expected)
    h, h_free = rbm.hidden_given_visible(x), rbm.hidden_given_visible(expected)
    torch.testing.assert_close(-rbm.W.grad, h.T @ x / 4 - h_free.T @ expected / 6)
    assert "particles" in rbm.state_dict() and "particles" not in machine().state_dict()


def test_start_at_draws_the_particles_with_the_means_of_the_data():
    rbm = RBM(2, 1, n_particles=4000)
    rbm.start_at(torch.tensor([[1.0, 0.0], [0.6, 0.2]]))
    assert rbm.particles.mean(0).tolist() == pytest.approx([0.8, 0.1], abs=0.03)


def test_persistent_chains_learn_a_planted_machine():
    truth = any_machine(8, 4, seed=3, scale=1.5)
    p = truth.log_prob(states(8)).exp()
    x = states(8)[torch.multinomial(p, 2000, replacement=True)]
    rbm = RBM(8, 4, n_particles=100).double()
    before = rbm.log_prob(x).mean()
    train.fit(rbm, x, epochs=40, batch_size=100, lr=0.03, schedule="linear")
    lost = truth.log_prob(x).mean() - rbm.log_prob(x).mean()
    assert lost < 0.03 < (truth.log_prob(x).mean() - before) / 30


def test_samples_follow_the_model():
    rbm, n = machine(), 20_000
    p = joint(rbm).sum(1)
    v = rbm.sample(n, 50, generator=random.generator(0))
    share = torch.bincount((v @ torch.tensor([8.0, 4, 2, 1]).double()).long(), minlength=16) / n
    assert ((share - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()
    start = states(D)
    assert torch.equal(rbm.sample(16, 0, start=start), start)
    far = rbm.sample(20_000, 0, generator=random.generator(0)).mean(0)
    torch.testing.assert_close(far, rbm.c.sigmoid(), atol=0.02, rtol=0)


# ------------------------------------------------------------------------------------------------ AIS


def test_ais_is_within_its_error_and_a_tenth_of_a_nat():
    for seed in range(3):
        rbm = any_machine(20, 10, seed=seed, scale=0.7)
        exact = rbm.log_partition().item()
        found = boltzmann.ais(
            rbm, n_chains=400, n_temperatures=500, generator=random.generator(seed)
        )
        error = abs(found.log_z.item() - exact)
        assert error < 3 * found.standard_error.item() and error < 0.1
        assert 0.001 < found.standard_error.item() < 0.04
        low, high = found.interval()
        assert low < exact < high


def test_ais_is_exact_where_there_is_nothing_to_anneal():
    rbm = any_machine(5, 3)
    with torch.no_grad():
        rbm.W.zero_()
        rbm.b.zero_()
    found = boltzmann.ais(rbm, n_chains=2, n_temperatures=1, base=rbm.c.detach())
    assert found.log_z.item() == pytest.approx(rbm.log_partition().item())
    assert found.standard_error.item() < 1e-12 and found.effective.item() == pytest.approx(2)


@pytest.mark.parametrize("n_temperatures", [1, 3])
def test_the_mean_weight_is_unbiased_however_few_temperatures(n_temperatures):
    rbm = any_machine(4, 3, seed=2, scale=0.6)
    base = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
    found = boltzmann.ais(
        rbm,
        n_chains=100_000,
        n_temperatures=n_temperatures,
        base=base,
        generator=random.generator(0),
    )
    assert abs(found.log_z - rbm.log_partition()).item() < 4 * found.standard_error.item()
    assert found.standard_error.item() < 0.01


def test_given_temperatures():
    rbm = any_machine(6, 3)
    given = torch.linspace(0, 1, 11, dtype=torch.float64)
    a, b = (
        boltzmann.ais(rbm, n_chains=8, n_temperatures=t, generator=random.generator(0)).log_z
        for t in (10, given)
    )
    torch.testing.assert_close(a, b)


def test_weights_are_averaged_in_the_log_domain():
    log_w = torch.tensor([1000.0, 1000.0 + math.log(3.0)])
    found = boltzmann.from_log_weights(log_w)
    assert found.log_z.item() == pytest.approx(1000 + math.log(2))
    # Weights 1 and 3: mean 2, standard deviation √2.
    assert found.standard_error.item() == pytest.approx(math.sqrt(2) / math.sqrt(2) / 2, rel=1e-4)
    assert found.effective.item() == pytest.approx(16 / 10, rel=1e-4)
    low, high = found.interval(1.0)
    assert low.item() == pytest.approx(1000 + math.log(1), abs=1e-3)
    assert high.item() == pytest.approx(1000 + math.log(3), abs=1e-3)
    assert found.interval(3.0)[0] == -math.inf


# ------------------------------------------------------------------------------------------------ pseudo-likelihood


@pytest.mark.parametrize("hidden", ["bernoulli", "gaussian"])
def test_pseudo_likelihood_is_the_sum_of_conditionals(hidden):
    rbm, v = machine(hidden), states(D)
    p = (-rbm.free_energy(v)).softmax(0)
    expected = torch.zeros(16, dtype=torch.float64)
    for i in range(D):
        partner = torch.arange(16) ^ (8 >> i)
        expected += (p / (p + p[partner])).log()
        each = boltzmann.flip_log_likelihood(rbm, v, torch.full((16,), i))
        torch.testing.assert_close(each, (p / (p + p[partner])).log())
    torch.testing.assert_close(boltzmann.pseudo_log_likelihood(rbm, v), expected)


def test_pseudo_likelihood_in_blocks(monkeypatch):
    rbm, v = machine(), states(D)
    whole = boltzmann.pseudo_log_likelihood(rbm, v)
    torch.testing.assert_close(
        torch.cat([boltzmann.pseudo_log_likelihood(rbm, r[None]) for r in v]), whole
    )
    monkeypatch.setattr(boltzmann.likelihood, "BLOCK", 5 * D * K)
    torch.testing.assert_close(boltzmann.pseudo_log_likelihood(rbm, v), whole)


def test_stochastic_pseudo_likelihood_is_scikit_learns():
    rbm, v = machine(), states(D)
    theirs = BernoulliRBM(K, random_state=3)
    theirs.components_ = rbm.W.detach().numpy()
    theirs.intercept_hidden_, theirs.intercept_visible_ = (
        rbm.b.detach().numpy(),
        rbm.c.detach().numpy(),
    )
    i = torch.as_tensor(np.random.RandomState(3).randint(0, D, 16))
    ours = D * boltzmann.flip_log_likelihood(rbm, v, i)
    torch.testing.assert_close(ours.detach(), torch.as_tensor(theirs.score_samples(v.numpy())))
    many = v[9].expand(20_000, -1)
    drawn = boltzmann.stochastic_pseudo_log_likelihood(rbm, many, random.generator(0)).detach()
    exact = boltzmann.pseudo_log_likelihood(rbm, v[9:10]).item()
    assert drawn.mean().item() == pytest.approx(exact, abs=5 * drawn.std().item() / 20_000**0.5)
    assert len(drawn.unique()) == D


# ------------------------------------------------------------------------------------------------ NCE


def test_bernoulli_noise():
    noise = BernoulliNoise(torch.tensor([0.2, 0.9], dtype=torch.float64))
    v = states(2)
    expected = torch.tensor([0.8 * 0.1, 0.8 * 0.9, 0.2 * 0.1, 0.2 * 0.9], dtype=torch.float64)
    torch.testing.assert_close(noise.log_prob(v).exp(), expected)
    assert noise.sample(20_000).mean(0).tolist() == pytest.approx([0.2, 0.9], abs=0.015)
    assert BernoulliNoise.fit(torch.ones(3, 2)).mean.tolist() == pytest.approx([0.99, 0.99])


@pytest.mark.parametrize("nu", [1, 4])
def test_nce_loss_is_that_of_a_classifier(nu):
    rbm, x = machine(), states(D)[::2]
    model = NoiseContrastiveRBM(rbm, BernoulliNoise(torch.full((D,), 0.3).double()), nu)
    with torch.no_grad():
        model.log_z.fill_(1.3)
    torch.manual_seed(0)
    loss = model.loss(x)
    torch.manual_seed(0)
    y = model.noise.sample(nu * len(x))

    def p_data(v: Tensor) -> Tensor:
        phi, noise = (-rbm.free_energy(v) - 1.3).exp(), model.noise.log_prob(v).exp()
        return phi / (phi + nu * noise)

    expected = -p_data(x).log().mean() - nu * (1 - p_data(y)).log().mean()
    torch.testing.assert_close(loss, expected)


def test_nce_learns_the_data_and_log_z():
    random.seed(0)
    x = torch.randint(2, (3000, 2)).double().repeat_interleave(3, 1)  # two bits, three times each
    x = (x + random.bernoulli(torch.full_like(x, 0.1))) % 2
    model = NoiseContrastiveRBM(RBM(6, 2).double(), BernoulliNoise.fit(x), 5)
    at_start = (model.log_z - model.rbm.log_partition()).abs().item()
    assert at_start < 0.1
    train.fit(model, x, epochs=30, batch_size=200, lr=0.03, schedule="linear")
    assert model.log_z.item() == pytest.approx(model.rbm.log_partition().item(), abs=0.1)
    best = RBM(6, 2).double()
    train.fit(best, x, epochs=30, batch_size=200, lr=0.03, loss=lambda v: -best.log_prob(v).mean())
    likelihood = {m: m.log_prob(x).mean().item() for m in (best, model.rbm, model.noise)}
    lost = likelihood[best] - likelihood[model.rbm]
    assert lost < 0.12 < (likelihood[best] - likelihood[model.noise]) / 8


@pytest.mark.parametrize("name", ["hopfield", "machine", "ratings", "rbm"])
def test_examples(name):
    module = importlib.import_module(f"lectool.boltzmann.{name}")
    found = doctest.testmod(module, extraglobs={"torch": torch})
    assert found.attempted and not found.failed
