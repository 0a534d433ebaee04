"""Covariance machines and hybrid Monte Carlo against enumeration, quadrature, autograd and closed forms."""

import doctest
import itertools
import math

import pytest
import torch
from torch.autograd.functional import hessian, jacobian
from torch.distributions import MultivariateNormal

from lectool import energy, train
from lectool.energy import covariance, hybrid

DOUBLE = torch.float64


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=gen(seed), dtype=DOUBLE)


def bits(k):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=k)), dtype=DOUBLE).reshape(-1, k)


def filled(model, scale=0.7, seed=0):
    """Parameters far from 0, in double precision."""
    model, rng = model.double(), gen(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=rng, dtype=DOUBLE))
    return model


def semi(d=4, k=3, **options):
    return filled(energy.SemiRestrictedRBM(d, k, **options))


def mean_cov(d=4, k=2, m=3, **options):
    return filled(energy.MeanCovarianceRBM(d, k, m, **options))


def plane(half=9.0, n=361):
    """Points of a fine grid and the area of each."""
    axis = torch.linspace(-half, half, n, dtype=DOUBLE)
    return torch.cartesian_prod(axis, axis), (axis[1] - axis[0]) ** 2


def among(rows, x):
    """Whether each of the rows is a row of x."""
    return (rows[:, None] == x).all(2).any(1).all()


def mixture_moments(weights, means, covs):
    """Mean and covariance of a mixture of Gaussians."""
    w = weights / weights.sum()
    center = (w[:, None] * means).sum(0)
    spread = covs + (means - center)[:, :, None] * (means - center)[:, None]
    return center, (w[:, None, None] * spread).sum(0)


# ------------------------------------------------------------------------------------------------ hybrid Monte Carlo

PRECISION = torch.tensor([[2.0, 0.9, 0.0], [0.9, 1.0, -0.2], [0.0, -0.2, 0.5]], dtype=DOUBLE)


def gaussian(x):
    return 0.5 * (x @ PRECISION * x).sum(1)


def well(x):
    """Two wells, in one dimension."""
    return (x.square() - 1).square().sum(1) + 0.3 * x.sum(1)


def test_the_leapfrog_runs_back():
    x, p = noise(5, 3), noise(5, 3, seed=1)
    gradient = hybrid.gradient_of(well)
    x_new, p_new = energy.leapfrog(gradient, x, p, 0.1, 7)
    assert (x_new - x).abs().max() > 0.1
    x_back, p_back = energy.leapfrog(gradient, x_new, -p_new, 0.1, 7)
    torch.testing.assert_close(x_back, x)
    torch.testing.assert_close(p_back, -p)


def test_the_leapfrog_keeps_volumes():
    def flow(state):
        x, p = energy.leapfrog(lambda x: 4 * x * (x**2 - 1), *state.reshape(2, 1, 2), 0.2, 3)
        return torch.cat([x, p]).flatten()

    J = jacobian(flow, noise(4))
    torch.testing.assert_close(J.det(), torch.ones(()).double())
    assert (J - torch.eye(4)).abs().max() > 0.3


def test_the_leapfrog_is_the_exact_motion_in_the_limit():
    x, p, time = noise(5, 1), noise(5, 1, seed=1), 1.3
    x_new, p_new = energy.leapfrog(lambda x: x, x, p, time / 4000, 4000)
    torch.testing.assert_close(x_new, x * math.cos(time) + p * math.sin(time), atol=1e-6, rtol=0)
    torch.testing.assert_close(p_new, p * math.cos(time) - x * math.sin(time), atol=1e-6, rtol=0)


@pytest.mark.parametrize("E", [gaussian, well])
def test_the_energy_error_falls_with_the_square_of_the_step(E):
    x, p = noise(200, 3), noise(200, 3, seed=1)
    errors = [energy.energy_error(E, x, p, step, 1.0).mean() for step in (0.04, 0.02, 0.01)]
    for coarse, fine in itertools.pairwise(errors):
        assert 3.8 < coarse / fine < 4.2


def test_gradients_by_autograd_and_by_hand_agree():
    x = noise(6, 3)
    torch.testing.assert_close(hybrid.gradient_of(gaussian)(x), x @ PRECISION)
    by_hand = energy.hmc(gaussian, x, 5, gradient=lambda x: x @ PRECISION, generator=gen())
    torch.testing.assert_close(by_hand.x, energy.hmc(gaussian, x, 5, generator=gen()).x)
    assert not by_hand.x.requires_grad


@pytest.mark.parametrize(("step", "least", "most"), [(0.3, 0.95, 1.0), (1.1, 0.4, 0.8)])
def test_hmc_finds_the_moments_of_a_gaussian(step, least, most):
    chains = energy.hmc(
        gaussian, 2 * noise(20000, 3), 40, step=step, n_leapfrog=2, generator=gen(1)
    )
    assert least < chains.rate < most
    torch.testing.assert_close(chains.x.mean(0), torch.zeros(3).double(), atol=0.05, rtol=0)
    cov = chains.x.T @ chains.x / len(chains.x)
    torch.testing.assert_close(cov, torch.linalg.inv(PRECISION), atol=0.07, rtol=0.03)


def test_the_leapfrog_without_the_choice_is_biased():
    x = noise(20000, 3)
    for seed in range(40):
        x, _ = energy.leapfrog(lambda x: x @ PRECISION, x, noise(20000, 3, seed=seed), 1.1, 2)
    exact = torch.linalg.inv(PRECISION)
    assert ((x.T @ x / len(x) - exact).abs() > 0.7).any()


def test_hmc_finds_the_moments_of_two_wells():
    axis = torch.linspace(-4, 4, 4001, dtype=DOUBLE)[:, None]
    weight = (-well(axis)).softmax(0)
    chains = energy.hmc(well, 0.7 * noise(20000, 1), 60, step=0.35, n_leapfrog=5, generator=gen(1))
    assert 0.5 < chains.rate < 0.97
    for power in (1, 2, 4):
        exact = weight @ axis[:, 0] ** power
        assert abs(chains.x.pow(power).mean() - exact) < 0.03


def test_jitter_ends_a_resonance():
    """2π of a standard deviation of 1: every chain comes back to where it was."""
    start = torch.full((4000, 1), 5.0, dtype=DOUBLE)
    options = {"step": math.pi / 10, "n_leapfrog": 20, "generator": gen(1)}
    E = lambda x: 0.5 * x.square().sum(1)  # noqa: E731
    stuck = energy.hmc(E, start, 100, jitter=0, **options)
    moved = energy.hmc(E, start, 100, **options)
    assert stuck.x.mean() > 3.5 and abs(moved.x.mean()) < 0.1
    assert abs(moved.x.square().mean() - 1) < 0.1


def test_detailed_balance():
    """From x ~ p, as many pairs (x, x′) go from a cell A to a cell B as from B to A."""
    axis = torch.linspace(-4, 4, 4001, dtype=DOUBLE)[:, None]
    cells = torch.multinomial((-well(axis)).exp(), 400_000, True, generator=gen())
    x = axis[cells]
    new = energy.hmc(well, x, 1, step=0.5, n_leapfrog=2, generator=gen(1)).x
    edges = torch.tensor([-1.0, 0.0, 0.9], dtype=DOUBLE)
    before, after = (torch.bucketize(t[:, 0].contiguous(), edges) for t in (x, new))
    flow = torch.zeros(4, 4).index_put((before, after), torch.ones(()), accumulate=True)
    for i, j in itertools.combinations(range(4), 2):
        there, back = flow[i, j], flow[j, i]
        assert (there - back).abs() < 4.5 * (there + back).sqrt() + 1, (i, j)
    assert flow.sum() - flow.diagonal().sum() > 50_000


def test_a_proposal_with_no_energy_is_refused():
    def box(x):
        return torch.where((x.abs() < 1).all(1), 0.0, torch.inf) + 0 * x.sum(1)

    start = 0.5 * noise(20000, 1).clamp(-1.9, 1.9)
    chains = energy.hmc(box, start, 30, step=0.5, n_leapfrog=2, generator=gen(1))
    assert (chains.x.abs() < 1).all() and 0.3 < chains.rate < 0.9
    assert abs(chains.x.square().mean() - 1 / 3) < 0.015
    broken = energy.hmc(lambda x: x.sum(1) * torch.nan, start, 2, gradient=lambda x: x)
    assert torch.equal(broken.x, start) and broken.rate == 0


def test_the_step_size_adapts_to_the_target():
    for start in (0.01, 2.0):
        chains = energy.hmc(
            gaussian, noise(500, 3), 300, step=start, n_leapfrog=5, target=0.8, generator=gen(1)
        )
        later = energy.hmc(gaussian, chains.x, 30, step=chains.step, n_leapfrog=5, generator=gen(2))
        assert abs(later.rate - 0.8) < 0.05
        assert later.step == chains.step


def test_hmc_takes_images_and_keeps_type_and_seed():
    def E(x):
        return 0.5 * x.square().flatten(1).sum(1)

    x = noise(4, 2, 3).float()
    chains = energy.hmc(E, x, 3, generator=gen(1))
    assert chains.x.shape == x.shape and chains.x.dtype == torch.float32
    assert torch.equal(chains.x, energy.hmc(E, x, 3, generator=gen(1)).x)
    assert not torch.equal(chains.x, energy.hmc(E, x, 3, generator=gen(2)).x)
    none = energy.hmc(E, x, 0)
    assert torch.equal(none.x, x) and none.rate == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step": 0.0}, "step is 0"),
        ({"n_leapfrog": 0}, "n_leapfrog is 0"),
        ({"n_steps": -1}, "n_steps is -1"),
        ({"jitter": 1.0}, "jitter is 1"),
        ({"target": 1.0}, "target is 1"),
    ],
)
def test_hmc_rejects(options, words):
    with pytest.raises(ValueError, match=words):
        energy.hmc(gaussian, noise(2, 3), **options)


def test_hmc_rejects_a_start_that_is_no_number():
    with pytest.raises(ValueError, match="NaN"):
        energy.hmc(gaussian, torch.full((2, 3), torch.nan))
    with pytest.raises(ValueError, match="time is 0"):
        energy.energy_error(gaussian, noise(2, 3), noise(2, 3), 0.1, 0.0)


# ------------------------------------------------------------------------------------------------ semi-restricted


def test_semi_restricted_energy_is_the_definition():
    model, x, z = semi(), noise(5, 4), bits(3)[:5]
    Lambda, W = model.precision, model.W.T
    for i in range(5):
        u = x[i] - model.a
        log_p = -0.5 * u @ Lambda @ u + model.b @ z[i] + x[i] @ Lambda @ W @ z[i]
        torch.testing.assert_close(model.energy(x, z)[i], -log_p)


def test_semi_restricted_precision_is_positive_definite_and_not_diagonal():
    model = semi()
    torch.testing.assert_close(model.precision, model.factor @ model.factor.T)
    assert torch.linalg.eigvalsh(model.precision).min() > 0
    assert model.precision[0, 1:].abs().min() > 1e-3


def test_semi_restricted_free_energy_and_posterior_by_enumeration():
    model, x, z = semi(), noise(6, 4), bits(3)
    energies = model.energy(x[:, None].expand(-1, 8, -1), z.expand(6, -1, -1))
    torch.testing.assert_close(model.free_energy(x), -(-energies).logsumexp(1))
    torch.testing.assert_close(model.hidden_given_visible(x), (-energies).softmax(1) @ z)


def test_semi_restricted_conditional_has_covariance_inverse_of_lambda():
    model, z = semi(), bits(3)
    mean, cov = model.visible_given_hidden(z)
    for center, row in zip(mean, z):
        E = lambda x: model.energy(x[None], row[None]).squeeze()  # noqa: B023, E731
        torch.testing.assert_close(jacobian(E, center), torch.zeros(4).double())
        torch.testing.assert_close(torch.linalg.inv(hessian(E, center)), cov)
    assert (cov - model.precision).abs().max() > 0.1  # the slide's Λ would be another covariance


def test_semi_restricted_density_integrates_to_one():
    model = semi(d=2)
    x, area = plane()
    torch.testing.assert_close(
        (model.log_prob(x).exp() * area).sum(), torch.ones(()).double(), atol=1e-4, rtol=0
    )


def test_semi_restricted_samples_have_the_exact_moments():
    model, z = semi(d=3, k=2), bits(2)
    mean, cov = model.visible_given_hidden(z)
    log_w = model.log_prob(mean) * 0 + torch.stack(
        [-model.energy(m[None], row[None])[0] for m, row in zip(mean, z)]
    )
    center, exact = mixture_moments(log_w.softmax(0), mean, cov.expand(4, -1, -1))
    x = model.sample(40000, 60, generator=gen())
    tol = 5 * exact.diagonal().max().sqrt().item() / 200
    torch.testing.assert_close(x.mean(0), center, atol=tol, rtol=0)
    torch.testing.assert_close(x.T.cov(correction=0), exact, atol=4 * tol, rtol=0.05)


def test_semi_restricted_noise_has_covariance_inverse_of_lambda():
    model = semi(d=3)
    x = model.correlated_noise(torch.zeros(200_000, 3).double(), gen())
    torch.testing.assert_close(
        x.T @ x / len(x), torch.linalg.inv(model.precision), rtol=0.05, atol=0.02
    )


def test_semi_restricted_starts_at_the_gaussian_of_the_data():
    x = noise(500, 4) @ noise(4, 4, seed=1) + 2
    model = energy.SemiRestrictedRBM(4, 2, n_chains=20).double()
    with torch.no_grad():
        model.W.zero_()
    model.start_at(x, eps=1e-9)
    reference = MultivariateNormal(x.mean(0), x.T.cov(correction=0))
    torch.testing.assert_close(model.log_prob(x), reference.log_prob(x), atol=1e-4, rtol=1e-4)
    assert among(model.particles, x)
    with pytest.raises(ValueError, match="eps is 0"):
        model.start_at(x, eps=0)


def two_lines():
    """Two parallel clouds, whose covariance a Gaussian can have but not their gap."""
    side = (torch.rand(600, 1, generator=gen()) < 0.5) * 6.0 - 3
    narrow = noise(600, 2).float() @ torch.tensor([[1.0, 0.9], [0.0, 0.4]])
    return side * torch.tensor([1.0, -1.0]) + narrow


def test_semi_restricted_learns_what_a_gaussian_does_not_explain():
    torch.manual_seed(0)
    x, best = two_lines(), []
    model = energy.SemiRestrictedRBM(2, 2, scale=2.0, n_gibbs=2)
    model.start_at(x)
    callback = lambda _, model: best.append(model.log_prob(x).mean().item())  # noqa: E731
    train.fit(model, x, epochs=40, batch_size=100, lr=0.03, callback=callback, progress=False)
    gauss = MultivariateNormal(x.mean(0), x.T.cov()).log_prob(x).mean()
    assert sorted(best)[len(best) // 2] > gauss + 0.8


def test_semi_restricted_stays_at_the_gaussian_from_a_narrow_start():
    torch.manual_seed(0)
    x = two_lines()
    model = energy.SemiRestrictedRBM(2, 2, scale=0.01)
    model.start_at(x)
    train.fit(model, x, epochs=20, batch_size=100, lr=0.03, progress=False)
    gauss = MultivariateNormal(x.mean(0), x.T.cov()).log_prob(x).mean()
    assert abs(model.log_prob(x).mean() - gauss) < 0.1


# ------------------------------------------------------------------------------------------------ mean and covariance


def test_mcrbm_energy_is_the_definition():
    model, x, y, z = mean_cov(n_factors=5), noise(4, 4), bits(3)[2:6], bits(2)
    R, P, W = model.R.T, model.P.T, model.W.T
    assert R.shape == (4, 5) and P.shape == (5, 3) and (P < 0).all()
    for i in range(4):
        u = x[i] - model.a
        of_mean = -0.5 * u @ u + x[i] @ W @ z[i] + model.b @ z[i]
        of_cov = (x[i] @ R) ** 2 @ P @ y[i] + model.c @ y[i]
        torch.testing.assert_close(model.energy(x, y, z)[i], -of_mean - of_cov)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("k", "m"), [(2, 3), (0, 3), (3, 0)])
def test_mcrbm_free_energy_and_posterior_by_enumeration(k, m, normalize):
    model, x = mean_cov(k=k, m=m, normalize=normalize), noise(6, 4)
    y, z = bits(m + k).tensor_split([m], 1)
    n = len(y)
    energies = model.energy(x[:, None].expand(-1, n, -1), y.expand(6, -1, -1), z.expand(6, -1, -1))
    torch.testing.assert_close(model.free_energy(x), -(-energies).logsumexp(1))
    p_y, p_z = model.hidden_given_visible(x)
    posterior = (-energies).softmax(1)
    torch.testing.assert_close(p_y, posterior @ y)
    torch.testing.assert_close(p_z, posterior @ z)
    assert torch.equal(model.encode(x), torch.cat([p_y, p_z], 1))


def test_mcrbm_conditional_is_the_energys_gaussian():
    model, (y, z) = mean_cov(n_factors=5), bits(5).tensor_split([3], 1)
    mean, cov = model.visible_given_hidden(y, z)
    for i in range(len(y)):
        E = lambda x: model.energy(x[None], y[i : i + 1], z[i : i + 1]).squeeze()  # noqa: B023, E731
        torch.testing.assert_close(jacobian(E, mean[i]), torch.zeros(4).double())
        torch.testing.assert_close(torch.linalg.inv(hessian(E, mean[i])), cov[i])


def test_mcrbm_covariance_is_that_of_the_corrected_slide():
    model, y, z = mean_cov(), bits(3), torch.ones(8, 2).double()
    R, P, W = model.R.T, model.P.T, model.W.T
    mean, cov = model.visible_given_hidden(y, z)
    for i in range(8):
        Sigma = torch.linalg.inv(torch.eye(4) - 2 * R @ torch.diag(P @ y[i]) @ R.T)
        torch.testing.assert_close(cov[i], Sigma)
        torch.testing.assert_close(mean[i], Sigma @ (model.a + W @ z[i]))
        assert (
            torch.linalg.eigvalsh(cov[i]).max() < 1 + 1e-9
        )  # no direction is wider than the identity's
    # The bias b of x in the slide's log p_M only moves a: log p(x, …) + bᵀx has the mean Σ(a + b + W z).
    shift, row = noise(4), (y[5:6], z[5:6])
    E = lambda x: (model.energy(x[None], *row) - x @ shift).squeeze()  # noqa: E731
    moved = cov[5] @ (model.a + shift + W @ z[5])
    torch.testing.assert_close(jacobian(E, moved), torch.zeros(4).double())


@pytest.mark.parametrize("normalize", [False, True])
def test_mcrbm_gradient_is_autograds(normalize):
    model, x = mean_cov(n_factors=5, normalize=normalize), noise(6, 4)
    torch.testing.assert_close(model.gradient(x), hybrid.gradient_of(model.free_energy)(x))


def test_mcrbm_density_integrates_to_one():
    x, area = plane()
    for k, m in ((2, 2), (0, 2), (2, 0)):
        total = (mean_cov(d=2, k=k, m=m).log_prob(x).exp() * area).sum()
        torch.testing.assert_close(total, torch.ones(()).double(), atol=1e-4, rtol=0)


def test_mcrbm_without_covariance_units_is_the_gaussian_rbm():
    model, x = mean_cov(k=3, m=0), noise(6, 4)
    expected = 0.5 * (x - model.a).square().sum(1)
    expected = expected - torch.nn.functional.softplus(x @ model.W.T + model.b).sum(1)
    torch.testing.assert_close(model.free_energy(x), expected)
    mean, cov = model.visible_given_hidden(torch.zeros(8, 0).double(), bits(3))
    torch.testing.assert_close(mean, model.a + bits(3) @ model.W)
    torch.testing.assert_close(cov, torch.eye(4).double().expand(8, -1, -1))


@pytest.mark.parametrize("by", ["gibbs", "hmc", "sample"])
def test_mcrbm_samples_have_the_exact_moments(by):
    model, (y, z) = mean_cov(d=3, k=1, m=2), bits(3).tensor_split([2], 1)
    with torch.no_grad():
        model.c += 2
    mean, cov = model.visible_given_hidden(y, z)
    log_w = -model.energy(mean, y, z) + 0.5 * cov.logdet()  # the mass of each state
    center, exact = (t.detach() for t in mixture_moments(log_w.softmax(0), mean, cov))
    start = noise(20000, 3)
    if by == "gibbs":
        x = model.gibbs(start, 40, gen())
    elif by == "hmc":
        x = model.hmc(start, 30, step=0.1, generator=gen()).x
    else:
        x = model.sample(20000, 60, generator=gen())
    torch.testing.assert_close(x.mean(0), center, atol=0.04, rtol=0)
    torch.testing.assert_close(x.T.cov(correction=0), exact, atol=0.05, rtol=0)
    assert (exact - torch.eye(3)).abs().max() > 0.2 and center.abs().max() > 0.2


def test_sampling_adapts_its_step_first_and_then_keeps_it(monkeypatch):
    model, calls = mean_cov(), []
    whole = model.hmc

    def listening(x, n_steps, **options):
        chains = whole(x, n_steps, **options)
        calls.append((n_steps, options, chains))
        return chains

    monkeypatch.setattr(model, "hmc", listening)
    model.sample(50, 9, generator=gen())
    (n, first, burnt), (m, second, last) = calls
    assert n + m == 9 and first["target"] == 0.9 and second.get("target") is None
    assert burnt.step != model.step and second["step"] == burnt.step == last.step


def test_normalized_data_hide_contrast_from_the_covariance_units():
    model, x = mean_cov(normalize=True), noise(6, 4)
    near = model.covariance_input(1000 * x)
    torch.testing.assert_close(near, model.covariance_input(2000 * x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        energy.normalized(1e4 * x).square().mean(1), torch.ones(6).double(), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(energy.normalized(x), x / (x.square().mean(1) + 0.5).sqrt()[:, None])
    torch.testing.assert_close(
        energy.normalized(x, 2.0), x / (x.square().mean(1) + 2).sqrt()[:, None]
    )
    for call in (lambda: model.gibbs(x), lambda: model.precision(bits(3)), model.log_z):
        with pytest.raises(ValueError, match="not Gaussian"):
            call()


# ------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("model", [semi(n_chains=0), mean_cov()])
def test_the_loss_holds_its_negatives_fixed(model, monkeypatch):
    x, negatives = noise(6, 4), noise(9, 4, seed=1)
    monkeypatch.setattr(model, "chain", lambda start: negatives)
    model.loss(x).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    loss = model.free_energy(x).mean() - model.free_energy(negatives).mean()
    loss.backward()
    for p, gradient in zip(model.parameters(), gradients):
        torch.testing.assert_close(p.grad, gradient)


@pytest.mark.parametrize("kind", [semi, mean_cov])
def test_long_chains_give_the_gradient_of_the_likelihood(kind):
    torch.manual_seed(0)
    model, x = kind(), noise(4000, 4)
    if kind is semi:
        model.n_gibbs = 60
    else:
        model.n_hmc = 60
        model.step.fill_(0.2)
    model.loss(x).backward()
    estimates = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    (-model.log_prob(x).mean()).backward()
    exact = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert torch.cosine_similarity(estimates, exact, dim=0) > 0.99


@pytest.mark.parametrize("kind", [semi, mean_cov])
def test_particles_live_on_in_training_only(kind):
    model, x = kind(n_chains=7), noise(6, 4)
    assert model.particles.shape == (7, 4)
    before = model.particles.clone()
    model.eval()
    model.loss(x)
    assert torch.equal(model.particles, before)
    model.train()
    model.loss(x)
    assert not torch.equal(model.particles, before) and not model.particles.requires_grad
    before = model.particles.clone()
    model.start_at(x)
    assert among(model.particles, x) if kind is semi else torch.equal(model.particles, before)
    torch.testing.assert_close(model.a.detach(), x.mean(0))


def test_the_step_size_moves_in_training_only():
    model, x = mean_cov(), noise(50, 4)
    model.eval()
    model.loss(x)
    assert model.step == torch.tensor(0.05)
    model.train()
    for _ in range(40):
        model.loss(x)
    assert model.step > 0.06 and 0 < model.rate <= 1


def test_mcrbm_learns_a_covariance_that_a_gaussian_rbm_does_not():
    torch.manual_seed(0)
    x = torch.randn(1000, 3, generator=gen())
    x = 0.9 * torch.stack([x[:, 0], x[:, 0] + 0.2 * x[:, 1], 0.3 * x[:, 2]], 1)
    scores = {}
    for name, k, m in (("mean", 4, 0), ("covariance", 0, 4), ("both", 2, 4)):
        model = energy.MeanCovarianceRBM(3, k, m, n_chains=200)
        train.fit(model, x, epochs=30, batch_size=100, lr=0.02, progress=False)
        scores[name] = model.log_prob(x).mean().item()
    assert min(scores["covariance"], scores["both"]) > scores["mean"] + 0.5, scores


def test_a_mixed_up_machine_is_rejected():
    for wrong, words in (
        ({"d": 0, "k": 1, "m": 1}, "d is 0"),
        ({"d": 2, "k": -1, "m": 1}, "k is -1"),
        ({"d": 2, "k": 0, "m": 0}, "expected hidden units"),
        ({"d": 2, "k": 1, "m": 2, "n_factors": 0}, "n_factors = 0"),
        ({"d": 2, "k": 1, "m": 1, "n_leapfrog": 0}, "n_leapfrog is 0"),
        ({"d": 2, "k": 1, "m": 1, "n_hmc": 0}, "n_hmc is 0"),
        ({"d": 2, "k": 1, "m": 1, "n_chains": -1}, "n_chains is -1"),
    ):
        with pytest.raises(ValueError, match=words):
            energy.MeanCovarianceRBM(**wrong)
    with pytest.raises(ValueError, match="m is 0"):
        energy.CovarianceRBM(2, 0)
    with pytest.raises(ValueError, match="n_gibbs is 0"):
        energy.SemiRestrictedRBM(2, 1, n_gibbs=0)


@pytest.mark.parametrize("model", [semi(), mean_cov()])
def test_bad_data_are_rejected(model):
    for call in (model.loss, model.log_prob):
        with pytest.raises(ValueError, match="expected 4 numbers"):
            call(noise(2, 3))
        with pytest.raises(ValueError, match="NaN"):
            call(torch.full((2, 4), torch.nan, dtype=DOUBLE))
    with pytest.raises(ValueError, match="n is 0"):
        model.sample(0)
    with pytest.raises(ValueError, match="n_steps is -1"):
        model.gibbs(noise(2, 4), -1)


def test_too_many_states_to_sum_over_are_rejected():
    with pytest.raises(ValueError, match="17 hidden units"):
        energy.SemiRestrictedRBM(3, 17).log_z()
    with pytest.raises(ValueError, match="17 hidden units"):
        energy.MeanCovarianceRBM(3, 9, 8).log_z()


def test_covariance_rbm_is_one_without_mean_units():
    torch.manual_seed(0)
    model = energy.CovarianceRBM(4, 3, n_factors=6)
    assert model.W.shape == (0, 4) and model.Q.shape == (3, 6)
    assert (model.P.argmin(1) < 6).all() and (model.P <= 0).all()
    x = noise(200, 4).float()
    train.fit(model, x, epochs=2, progress=False)
    assert model.encode(x).shape == (200, 3)


def test_every_covariance_unit_and_every_factor_begin_with_a_partner():
    for m, n_factors in ((3, 3), (2, 6), (6, 2)):
        torch.manual_seed(0)
        strong = energy.CovarianceRBM(4, m, n_factors=n_factors).P < -0.5
        assert strong.any(0).all() and strong.any(1).all()
        assert strong.sum() == max(m, n_factors)


def test_neighbors_of_patches():
    rows = torch.arange(6.0)[:, None].sub(2.5).expand(6, 6)
    flat = energy.neighbor_correlation((rows - rows.mean()).reshape(1, 36).repeat(4, 1), (6, 6))
    # To the right all pixels agree; below the mean product is that of r and r + 1.
    r = torch.arange(6.0) - 2.5
    below = (r[1:] * r[:-1]).mean() / r.square().mean()
    assert flat == pytest.approx((1 + below.item()) / 2, rel=1e-5)
    x = torch.randn(5000, 36, generator=gen())
    assert abs(energy.neighbor_correlation(x, (6, 6))) < 0.01
    x = torch.randn(5000, 4, 2, generator=gen()).repeat(1, 1, 4)  # alike two to the right
    assert energy.neighbor_correlation(x.flatten(1), (4, 8), 2) == pytest.approx(0.5, abs=0.02)
    assert energy.neighbor_correlation(x.flatten(1), (4, 8), 1) == pytest.approx(0.0, abs=0.02)
    with pytest.raises(ValueError, match="lag is 4"):
        energy.neighbor_correlation(x.flatten(1), (4, 8), 4)


@pytest.mark.parametrize("module", [covariance, hybrid])
def test_examples(module):
    torch.manual_seed(0)
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.attempted > 0 and result.failed == 0
