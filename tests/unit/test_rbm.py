"""The RBM against enumeration, integration and the textbook gradient."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from lectool.rbm import RBM

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
