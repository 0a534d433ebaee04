"""The Gaussian–Bernoulli RBM against quadrature, enumeration and autograd."""

import itertools
import math
import warnings

import pytest
import torch
from torch import Tensor

from lectool import boltzmann, random, train
from lectool.boltzmann import GaussianRBM

DOUBLE = torch.float64


def machine(d: int = 1, k: int = 3, *, sigma=0.7, **options) -> GaussianRBM:
    torch.manual_seed(0)
    rbm = GaussianRBM(d, k, sigma=sigma, **options).double()
    with torch.no_grad():
        rbm.log_sigma.copy_(torch.as_tensor(sigma, dtype=DOUBLE).log())
        for p in (rbm.W, rbm.b, rbm.c):
            p.copy_(torch.randn_like(p))
    return rbm


def hidden_states(k: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=k)), dtype=DOUBLE)


def energy(rbm: GaussianRBM, v: Tensor, h: Tensor) -> Tensor:
    """E(v, h) of every pair, (len(v), len(h)), written from the definition."""
    var = (2 * rbm.log_sigma).exp()
    own = ((v - rbm.c) ** 2 / (2 * var)).sum(1)
    return own[:, None] - torch.einsum("nd,kd,mk->nm", v / var, rbm.W, h) - (h @ rbm.b)[None]


def test_conditionals_and_marginal_by_quadrature():
    rbm, v, h = machine(), torch.linspace(-14, 14, 40_001, dtype=DOUBLE), hidden_states(3)
    joint = torch.exp(-energy(rbm, v[:, None], h)).detach()  # (n, 8)
    per_state = torch.trapezoid(joint, v, dim=0)
    z = per_state.sum()
    torch.testing.assert_close(rbm.log_partition().exp(), z)
    torch.testing.assert_close(rbm.log_prob(v[:, None]).exp(), joint.sum(1) / z)
    torch.testing.assert_close(rbm.free_energy(v[:, None]), -joint.sum(1).log())
    mean = torch.trapezoid(v[:, None] * joint, v, dim=0) / per_state
    torch.testing.assert_close(rbm.visible_given_hidden(h)[:, 0], mean)
    spread = torch.trapezoid((v[:, None] - mean) ** 2 * joint, v, dim=0) / per_state
    torch.testing.assert_close(spread, torch.full_like(spread, 0.7**2))
    posterior = joint / joint.sum(1, keepdim=True)
    torch.testing.assert_close(rbm.hidden_given_visible(v[:, None]), posterior @ h)


def test_the_marginal_is_a_mixture_with_the_implicit_prior():
    sigma = torch.tensor([0.5, 1.5], dtype=DOUBLE)
    rbm = machine(2, 3, sigma=sigma)
    log_prior, means = rbm.mixture()
    assert means.shape == (8, 2) and log_prior.exp().sum().item() == pytest.approx(1)
    v = torch.randn(50, 2, dtype=DOUBLE)
    component = torch.distributions.Normal(means, sigma).log_prob(v[:, None]).sum(2)
    torch.testing.assert_close(rbm.log_prob(v), (log_prior + component).logsumexp(1))
    axis = torch.linspace(-9, 9, 400, dtype=DOUBLE)
    grid = torch.cartesian_prod(axis, axis)
    mass = torch.exp(-energy(rbm, grid, hidden_states(3))).sum(0)
    torch.testing.assert_close(log_prior.exp(), mass / mass.sum())
    torch.testing.assert_close(rbm.log_partition().exp(), mass.sum() * (axis[1] - axis[0]) ** 2)


def test_the_other_convention_has_its_weights_divided_by_sigma():
    """With means c + σ W'h, as on other slides, and W' = W / σ: the same conditionals."""
    sigma = torch.tensor([0.5, 2.0], dtype=DOUBLE)
    rbm, h = machine(2, 3, sigma=sigma), hidden_states(3)
    other = rbm.W / sigma
    torch.testing.assert_close(rbm.visible_given_hidden(h), rbm.c + sigma * (h @ other))
    v = torch.randn(5, 2, dtype=DOUBLE)
    torch.testing.assert_close(
        rbm.hidden_given_visible(v), ((v / sigma) @ other.T + rbm.b).sigmoid()
    )


@pytest.mark.parametrize("sigma", [1.0, torch.tensor([0.6, 1.0, 1.7], dtype=DOUBLE)])
def test_score_and_score_matching_against_autograd(sigma):
    rbm = machine(3, 4, sigma=sigma)
    x = torch.randn(6, 3, dtype=DOUBLE)
    expected = []
    for row in x:

        def log_p(v: Tensor) -> Tensor:
            return -rbm.free_energy(v[None])[0]

        score = torch.autograd.functional.jacobian(log_p, row)
        trace = torch.autograd.functional.hessian(log_p, row).trace()
        torch.testing.assert_close(rbm.score(row[None])[0], score)
        expected.append(0.5 * score @ score + trace)
    torch.testing.assert_close(rbm.score_matching_loss(x), torch.stack(expected).mean())


def test_the_objective_chooses_the_loss():
    x = torch.randn(20, 3, dtype=DOUBLE)
    matching = machine(3, 2, objective="score matching")
    torch.testing.assert_close(matching.loss(x), matching.score_matching_loss(x))
    rbm = machine(3, 2, n_gibbs=2)
    torch.manual_seed(1)
    rbm.loss(x).backward()
    torch.manual_seed(1)
    v = rbm.gibbs(x, 2)
    h, h_new = rbm.hidden_given_visible(x), rbm.hidden_given_visible(v)
    torch.testing.assert_close(-rbm.W.grad, (h.T @ x - h_new.T @ v) / 20 / 0.49)
    torch.testing.assert_close(-rbm.c.grad, (x - v).mean(0) / 0.49)
    torch.testing.assert_close(-rbm.b.grad, (h - h_new).mean(0))
    assert not v.requires_grad


def test_gibbs_and_samples_follow_the_model():
    rbm, n = machine(2, 2), 20_000
    log_prior, means = rbm.mixture()
    p = log_prior.exp()
    mean = p @ means
    for v in (
        rbm.sample(n, 60, generator=random.generator(0)),
        rbm.gibbs(torch.zeros(n, 2, dtype=DOUBLE), 60, random.generator(1)),
    ):
        assert ((v.mean(0) - mean).abs() < 0.05).all()
        covariance = (means - mean).T @ (p[:, None] * (means - mean)) + 0.49 * torch.eye(2)
        torch.testing.assert_close(v.T.cov(correction=0), covariance, atol=0.06, rtol=0)
    start = torch.randn(3, 2, dtype=DOUBLE)
    assert torch.equal(rbm.sample(3, 0, start=start), start)


@pytest.mark.parametrize("options", [{}, {"n_particles": 100}, {"objective": "score matching"}])
def test_learning_finds_two_clusters(options):
    random.seed(0)
    x = torch.randn(4000, 2, dtype=DOUBLE) * 0.6
    x[:2000, 0] += 2
    x = x - x.mean(0)
    rbm = GaussianRBM(2, 1, sigma=0.6, **options).double()
    rbm.start_at(x)
    before = rbm.log_prob(x).mean().item()
    train.fit(rbm, x, epochs=15, batch_size=200, lr=0.02, schedule="linear")
    gap = rbm.mixture()[1].diff(dim=0)[0]
    assert abs(gap[0].item()) == pytest.approx(2, abs=0.1) and abs(gap[1].item()) < 0.1
    assert rbm.mixture()[0].exp().tolist() == pytest.approx([0.5, 0.5], abs=0.1)
    truth = GaussianRBM(2, 1, sigma=0.6).double()
    with torch.no_grad():
        truth.W.copy_(torch.tensor([[2.0, 0.0]]))
        truth.c.copy_(torch.tensor([-1.0, 0.0]))  # means −1 and 1, and so of equal weight
    best = truth.log_prob(x).mean().item()
    assert before < best - 0.2 and rbm.log_prob(x).mean().item() > best - 0.02


def test_sigma_can_be_learned():
    random.seed(0)
    x = torch.randn(2000, 2) * torch.tensor([0.7, 1.4])
    rbm = GaussianRBM(2, 1, learn_sigma=True, objective="score matching", sd=0)
    train.fit(rbm, x, epochs=20, batch_size=100, lr=0.02, schedule="linear")
    assert rbm.log_sigma.exp().tolist() == pytest.approx([0.7, 1.4], rel=0.1)
    assert "log_sigma" not in dict(GaussianRBM(2, 1).named_parameters())


def test_start_at_and_particles():
    x = torch.randn(50, 3) + 4
    rbm = GaussianRBM(3, 2, n_particles=7)
    assert rbm.particles.std() > 0.5
    rbm.start_at(x)
    torch.testing.assert_close(rbm.c.detach(), x.mean(0))
    assert all((p == x).all(1).any() for p in rbm.particles)


def test_a_warning_names_mean_and_standard_deviation_once():
    torch.manual_seed(0)
    x, rbm = 5 + 10 * torch.randn(100, 3), GaussianRBM(3, 2)
    with pytest.warns(UserWarning, match=r"mean 5.*standard deviation \d.*expected about 0 and 1"):
        rbm.loss(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rbm.loss(x)
        GaussianRBM(3, 2).loss((x - x.mean(0)) / x.std(0))
        GaussianRBM(3, 2).loss(x[:4])  # too few to tell
    for bad in (0.1 * torch.randn(100, 3), torch.randn(100, 3) + 2):
        with pytest.warns(UserWarning, match="expected about 0 and 1"):
            GaussianRBM(3, 2).loss(bad)


@pytest.mark.parametrize("size", [1e5, math.nan])
def test_divergence_is_explained(size):
    rbm = GaussianRBM(3, 2, n_particles=4)
    with torch.no_grad():
        rbm.c.fill_(size)
    with pytest.raises(
        FloatingPointError, match=r"diverged: its samples are of size .* smaller lr"
    ):
        rbm.loss(torch.randn(20, 3))


def test_a_step_size_that_is_too_large_diverges_with_that_error():
    random.seed(0)
    rbm = GaussianRBM(20, 50)
    with pytest.raises(FloatingPointError, match="GaussianRBM diverged"):
        train.fit(
            rbm, torch.randn(500, 20), epochs=50, lr=3.0, batch_size=50, optimizer=torch.optim.SGD
        )


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_shapes_and_dtypes(dtype):
    rbm, x = GaussianRBM(4, 3).to(dtype), torch.randn(5, 4, dtype=dtype)
    z = rbm.encode(x)
    expected = {
        (5, 3): [z],
        (5, 4): [rbm.decode(z), rbm.reconstruct(x), rbm.score(x), rbm.gibbs(x), rbm.sample(5, 2)],
        (5,): [rbm.free_energy(x), rbm.log_prob(x)],
        (): [rbm.loss(x), rbm.score_matching_loss(x), rbm.log_partition()],
    }
    for shape, tensors in expected.items():
        for tensor in tensors:
            assert tuple(tensor.shape) == shape and tensor.dtype == dtype
    torch.testing.assert_close(rbm.log_prob(x, 1.5), -rbm.free_energy(x) - 1.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GaussianRBM(0, 1), "d is 0; expected"),
        (lambda: GaussianRBM(2, 1, sigma=0.0), "sigma is 0.0; expected a finite number > 0"),
        (lambda: GaussianRBM(2, 1, objective="ml"), "objective is 'ml'; it can be 'cd' or"),
        (lambda: GaussianRBM(2, 1).loss(torch.full((3, 2), math.nan)), "x holds 6 values"),
        (lambda: GaussianRBM(2, 1).encode(torch.ones(3, 4)), "expected 2 numbers in a sample"),
        (lambda: GaussianRBM(2, 21).log_partition(), "21 units have"),
        (lambda: GaussianRBM(2, 1).sample(3, start=torch.ones(2, 2)), r"start has shape \(2, 2\)"),
        (lambda: boltzmann.ais(GaussianRBM(2, 1)), "ais takes binary visible units"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
