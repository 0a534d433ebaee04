"""Parts and the plain VAE against torch.distributions, quadrature and closed forms."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import (
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from lectool import factors, random, train, vae
from lectool.vae import VAE, DiagonalGaussian, FullGaussian, StandardNormal


def numbers(posterior, n, k, seed=0, scale=0.7):
    source = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, posterior.n_outputs(k), generator=source, dtype=torch.float64)


def as_torch(q):
    L = torch.diag_embed(q.log_scale.exp()) if isinstance(q, DiagonalGaussian) else q.L
    return MultivariateNormal(q.mean, scale_tril=L)


# --- parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", [DiagonalGaussian, FullGaussian])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_posterior_is_torchs_gaussian(posterior, k):
    q = posterior(numbers(posterior, 7, k))
    p = as_torch(q)
    z = torch.randn(3, 7, k, dtype=torch.float64)
    torch.testing.assert_close(q.log_prob(z), p.log_prob(z), atol=1e-10, rtol=0)
    torch.testing.assert_close(q.log_prob(z[0]), p.log_prob(z[0]), atol=1e-10, rtol=0)
    torch.testing.assert_close(q.entropy(), p.entropy(), atol=1e-10, rtol=0)
    torch.testing.assert_close(q.variance, p.variance, atol=1e-10, rtol=0)
    prior = MultivariateNormal(torch.zeros(k).double(), torch.eye(k).double())
    torch.testing.assert_close(StandardNormal(k).kl(q), kl_divergence(p, prior), atol=1e-6, rtol=0)
    assert (StandardNormal(k).kl_terms(q) > -1e-12).all()


def linear_gaussian(d=6, k=2, sigma=0.7, stretch=1.5):
    """A linear VAE with known density whose posterior is the exact one, widened; and the density."""
    random.seed(0)
    W = torch.randn(d, k)
    M = W.T @ W / sigma**2 + torch.eye(k)
    model = VAE(
        nn.Linear(d, vae.FullGaussian.n_outputs(k)),
        nn.Linear(k, d),
        StandardNormal(k),
        likelihood=vae.Gaussian(sigma),
        posterior="full",
    )
    L = stretch * torch.linalg.cholesky(torch.linalg.inv(M))
    row, column = torch.tril_indices(k, k, -1)
    with torch.no_grad():
        model.decoder.weight.copy_(W)
        model.encoder.weight.zero_()
        model.encoder.weight[:k] = torch.linalg.solve(M, W.T) / sigma**2
        model.encoder.bias.copy_(
            torch.cat(
                [-model.encoder.weight[:k] @ model.decoder.bias, L.diag().log(), L[row, column]]
            )
        )
    covariance = W @ W.T + sigma**2 * torch.eye(d)
    return model, MultivariateNormal(model.decoder.bias.detach(), covariance)


def test_bounds_on_a_linear_gaussian_model_are_ordered_and_end_at_the_exact_density():
    model, exact = linear_gaussian()
    x = exact.sample((4000,))
    with torch.no_grad():
        bounds = [model.elbo(x, k).mean().item() for k in (1, 5, 50)]
    bounds.append(exact.log_prob(x).mean().item())
    assert bounds == sorted(bounds)
    assert bounds[3] - bounds[0] > 0.2
    assert bounds[3] - model.log_prob(x, 500).mean().item() < 0.02


def test_the_exact_posterior_closes_the_gap():
    model, exact = linear_gaussian(stretch=1.0)
    x = exact.sample((50,))
    log_w = model.log_weights(x, 3).detach()
    torch.testing.assert_close(log_w, exact.log_prob(x).expand(3, 50), atol=1e-4, rtol=0)


def test_samples_of_the_model_come_from_its_density():
    model, exact = linear_gaussian()
    with torch.no_grad():
        x = model.sample(40000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.mean(0), exact.mean, atol=0.06, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), exact.covariance_matrix, atol=0.15, rtol=0.03)


def test_loss_trains_by_the_house_loop_with_and_without_condition():
    random.seed(0)
    x, c = (torch.rand(200, 12) < 0.3).float(), torch.eye(2)[torch.arange(200) % 2]
    model = VAE.mlp([12, 16, 2], n_conditions=2)
    history = train.fit(model, [x, c], epochs=5, lr=1e-2)
    assert history["loss"][-1] < history["loss"][0]
    assert model.log_prob(x, 60, c).shape == (200,)
    assert model.sample(2, c[:2]).shape == (2, 12)
    assert model.decode(torch.zeros(5, 200, 2), c).shape == (5, 200, 12)


def test_likelihoods_are_torchs():
    x = torch.rand(4, 3).double()
    a = torch.randn(5, 4, 6).double()
    mean, log_variance = a.chunk(2, -1)
    part = vae.HeteroscedasticGaussian(0.01)
    expected = Normal(mean, (log_variance.exp() + 0.01).sqrt()).log_prob(x).sum(-1)
    torch.testing.assert_close(part.log_prob(a, x), expected)
    expected = Normal(mean, 0.3).log_prob(x).sum(-1)
    torch.testing.assert_close(vae.Gaussian(0.3).double().log_prob(mean, x), expected)
    bits = (x > 0.5).double()
    expected = torch.distributions.Bernoulli(logits=mean).log_prob(bits).sum(-1)
    torch.testing.assert_close(vae.Bernoulli().log_prob(mean, bits), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000), st.floats(0.01, 2, allow_subnormal=False))
def test_kl_terms_are_never_negative_and_add_up(k, seed, scale):
    for posterior in (DiagonalGaussian, FullGaussian):
        q = posterior(numbers(posterior, 5, k, seed, scale))
        terms = StandardNormal(k).kl_terms(q)
        prior = MultivariateNormal(torch.zeros(k).double(), torch.eye(k).double())
        assert (terms > -1e-12).all()
        torch.testing.assert_close(
            terms.sum(1), kl_divergence(as_torch(q), prior), atol=1e-6, rtol=1e-6
        )


@pytest.mark.parametrize("posterior", [DiagonalGaussian, FullGaussian])
def test_draws_have_the_moments_they_promise(posterior):
    q = posterior(numbers(posterior, 2, 3))
    z = q.sample(40000, torch.Generator().manual_seed(1))
    assert z.shape == (40000, 2, 3)
    assert q.sample().shape == (2, 3)
    for i in range(2):
        expected = as_torch(q).covariance_matrix[i]
        torch.testing.assert_close(torch.cov(z[:, i].T), expected, atol=0.04, rtol=0.05)
    torch.testing.assert_close(z.mean(0), q.mean, atol=0.04, rtol=0)
    assert torch.equal(q[1:].mean, q.mean[1:])
    like = posterior.like(DiagonalGaussian(numbers(DiagonalGaussian, 2, 3)))
    torch.testing.assert_close(
        like.variance, DiagonalGaussian(numbers(DiagonalGaussian, 2, 3)).variance
    )


@pytest.mark.parametrize(
    "part", [vae.Bernoulli(), vae.Gaussian(0.5), vae.HeteroscedasticGaussian(0.2)]
)
def test_a_likelihood_draws_what_it_describes(part):
    d = 3
    a = torch.linspace(-1, 1, part.n_outputs(d))[None].expand(60000, -1)
    x = part.sample(a, torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.mean(0), part.mean(a)[0], atol=0.02, rtol=0)
    if isinstance(part, vae.HeteroscedasticGaussian):
        torch.testing.assert_close(x.var(0), part.moments(a)[1][0], atol=0.05, rtol=0.05)
    if isinstance(part, vae.Gaussian):
        torch.testing.assert_close(x.std(0), torch.full((d,), 0.5), atol=0.02, rtol=0)
    if isinstance(part, vae.Bernoulli):
        assert set(x.unique().tolist()) == {0.0, 1.0}


def test_binarize_draws_pixels_with_their_gray_values():
    x = torch.tensor([0.0, 0.2, 0.7, 1.0]).expand(20000, 4)
    bits = vae.binarize(x, torch.Generator().manual_seed(0))
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(bits.mean(0), x[0], atol=0.015, rtol=0)
    assert vae.binarize(x.double()).dtype == torch.float64


def test_a_learned_sigma_and_a_rows_numbers_move_by_their_multiple_of_the_step_size():
    model = VAE.mlp([4, 2], likelihood="gaussian")
    table = vae.NonAmortized(model, 8, lr_factor=7.0)
    x = 3 + torch.randn(8, 4)
    bias = model.decoder[0].bias.detach().clone()
    train.fit(table, [x, torch.arange(8)], steps=1, batch_size=8, lr=1e-3)
    torch.testing.assert_close(model.likelihood.log_sigma.abs().item(), 5e-3, rtol=1e-3, atol=0)
    step = (model.decoder[0].bias - bias).abs()
    torch.testing.assert_close(step, torch.full((4,), 1e-3), rtol=1e-2, atol=0)
    torch.testing.assert_close(table.table.abs().max().item(), 7e-3, rtol=1e-3, atol=0)
    assert vae.Gaussian(2.0).double().log_sigma.item() == pytest.approx(math.log(2))


# --- the model ------------------------------------------------------------------------------------------------------


def test_the_loss_is_minus_the_bound_and_beta_weighs_the_kl():
    random.seed(0)
    x = (torch.rand(64, 10) < 0.5).float()
    model = VAE.mlp([10, 8, 3])
    torch.manual_seed(1)
    terms = model.loss(x)
    torch.manual_seed(1)
    assert terms["loss"].item() == pytest.approx(-model.elbo(x).mean().item(), abs=1e-4)
    model.beta = 3.0
    torch.manual_seed(1)
    weighed = model.loss(x)
    difference = (weighed["loss"] - terms["loss"]).item()
    assert difference == pytest.approx(2 * terms["kl"].item(), abs=1e-4)


def test_warm_up_raises_beta_linearly_and_only_in_training():
    model = VAE.mlp([4, 2], beta=2.0, warm_up=4)
    model.eval()
    assert model.weight() == 2.0
    model.train()
    assert [model.weight() for _ in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: VAE.mlp([6, 8, 2], warm_up=40),
        lambda: VAE.mlp([6, 8, 2], likelihood="gaussian", warm_up=40),
        lambda: vae.NonAmortized(VAE.mlp([6, 8, 2], warm_up=40), 50),
        lambda: vae.DiscreteVAE(nn.Linear(6, 6), nn.Linear(6, 6), 2, 3),
        lambda: vae.DiscreteVAE(
            nn.Linear(6, 6), nn.Linear(6, 6), 2, 3, estimator="reinforce", baseline="mean"
        ),
        lambda: vae.VQVAE(
            nn.Sequential(nn.Linear(6, 6), nn.Unflatten(1, (2, 3, 1))),
            nn.Flatten(),
            vae.VectorQuantizer(5, 2, decay=0.8),
        ),
        lambda: vae.WAE.mlp([6, 8, 2], penalty=vae.CriticPenalty(2, 4)),
    ],
)
def test_a_run_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(make, tmp_path):
    random.seed(0)
    x = (torch.rand(50, 6) < 0.4).float()
    data = [x, torch.arange(50)] if isinstance(make(), vae.NonAmortized) else x

    def run(epochs, checkpoint=None):
        random.seed(1)
        model = make()

        def cool(epoch, model):
            if isinstance(model, vae.DiscreteVAE):
                model.tau = model.tau * 0.7

        fit = {"batch_size": 10, "lr": 1e-2, "callback": cool, "checkpoint": checkpoint}
        history = train.fit(model, data, epochs=epochs, **fit)
        return model.state_dict(), history

    whole, expected = run(4)
    run(2, tmp_path / "half.pt")
    resumed, history = run(4, tmp_path / "half.pt")
    assert history["loss"] == expected["loss"]
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_free_nats_are_a_floor_under_each_coordinate():
    random.seed(0)
    x = (torch.rand(32, 6) < 0.5).float()
    model = VAE.mlp([6, 2], free_nats=0.4)
    model.encoder[0].weight.data.zero_()
    bias = torch.tensor([0.0, 2.0, 0.0, 0.0])  # first coordinate: KL 0; second: KL 2
    model.encoder[0].bias.data.copy_(bias)
    terms = model.loss(x)
    assert terms["kl"].item() == pytest.approx(2.0, abs=1e-5)
    assert (terms["loss"] - terms["reconstruction"]).item() == pytest.approx(2.4, abs=1e-5)
    kl = terms["loss"] - terms["reconstruction"]
    (slope,) = torch.autograd.grad(kl, model.encoder[0].bias)
    torch.testing.assert_close(slope, torch.tensor([0.0, 2.0, 0.0, 0.0]))  # none below the floor
    q = DiagonalGaussian(torch.tensor([[0.0, 0, 0, 0], [2.0, 0, 0, 0]]))  # KL 0 and 2: a mean of 1
    terms = model.loss(x[:2], q=q)
    penalty = (terms["loss"] - terms["reconstruction"]).item()
    assert penalty == pytest.approx(1.4, abs=1e-5)  # the floor is under the batch's mean


def test_float64_stays_and_generators_repeat():
    model = VAE.mlp([5, 4, 2], likelihood="gaussian", posterior="full").double()
    x = torch.randn(7, 5, dtype=torch.float64)
    first = model.elbo(x, 3, generator=torch.Generator().manual_seed(0))
    again = model.elbo(x, 3, generator=torch.Generator().manual_seed(0))
    assert first.dtype == torch.float64
    assert torch.equal(first, again)
    assert model.sample(3).dtype == torch.float64
    assert torch.equal(model.reconstruct(x), model.decode(model.encode(x).mean))


SIX, GIVEN = (torch.arange(24).reshape(4, 6) % 3 == 0).float(), torch.eye(4)


def conditional():
    prior = vae.ConditionalNormal(4, 2)
    return vae.ConditionalVAE(nn.Linear(10, 4), nn.Linear(6, 6), prior, likelihood="gaussian")


def discrete(estimator):
    return vae.DiscreteVAE(nn.Linear(6, 6), nn.Linear(6, 6), 2, 3, estimator=estimator)


def codebook():
    encoder = nn.Sequential(nn.Linear(6, 6), nn.Unflatten(1, (2, 3, 1)))
    return vae.VQVAE(encoder, nn.Flatten(), vae.VectorQuantizer(3, 2))


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (lambda: VAE.mlp([6, 2]), lambda m, g: m.loss(SIX, generator=g)["loss"]),
        (lambda: VAE.mlp([6, 2]), lambda m, g: m.elbo(SIX, 3, generator=g)),
        (lambda: VAE.mlp([6, 2]), lambda m, g: m.log_prob(SIX, 3, generator=g)),
        (lambda: VAE.mlp([6, 2]), lambda m, g: m.sample(4, generator=g)),
        (lambda: VAE.mlp([6, 2]), lambda m, g: vae.refine(m, SIX, steps=2, generator=g).numbers),
        (
            lambda: vae.NonAmortized(VAE.mlp([6, 2]), 4),
            lambda m, g: m.loss(SIX, torch.arange(4), g)["loss"],
        ),
        (lambda: vae.IWAE.mlp([6, 2]), lambda m, g: m.loss(SIX, generator=g)),
        (
            lambda: vae.WAE.mlp([6, 2], penalty=vae.MMDPenalty()),
            lambda m, g: m.loss(SIX, generator=g)["penalty"],
        ),
        (
            lambda: vae.WAE.mlp([6, 2], penalty=vae.MMDPenalty(), posterior="diagonal"),
            lambda m, g: m.loss(SIX, generator=g)["reconstruction"],
        ),
        (conditional, lambda m, g: m.loss(SIX, GIVEN, g)["loss"]),
        (conditional, lambda m, g: m.sample(4, GIVEN, g)),
        (lambda: vae.HierarchicalVAE(6, [2, 2], [9, 9]), lambda m, g: m.loss(SIX, g)["loss"]),
        (lambda: vae.HierarchicalVAE(6, [2, 2], [9, 9]), lambda m, g: m.elbo(SIX, 3, g)),
        (lambda: vae.HierarchicalVAE(6, [2, 2], [9, 9]), lambda m, g: m.encode(SIX, g)[1]),
        (lambda: vae.HierarchicalVAE(6, [2, 2], [9, 9]), lambda m, g: m.sample(4, g)),
        (lambda: vae.TopDownVAE(6, [2, 2], 4), lambda m, g: m.loss(SIX, g)["loss"]),
        (lambda: vae.TopDownVAE(6, [2, 2], 4), lambda m, g: m.elbo(SIX, g)),
        (lambda: vae.TopDownVAE(6, [2, 2], 16), lambda m, g: m.resample(SIX, 1, g)),
        (lambda: vae.TopDownVAE(6, [2, 2], 4), lambda m, g: m.sample(4, g)),
        (lambda: discrete("gumbel"), lambda m, g: m.loss(SIX, g)["loss"]),
        (lambda: discrete("reinforce"), lambda m, g: m.loss(SIX, g)["reconstruction"]),
        (lambda: discrete("gumbel"), lambda m, g: m.elbo(SIX, generator=g)),
        (lambda: discrete("gumbel"), lambda m, g: m.sample(9, g)),
        (codebook, lambda m, g: m.loss(SIX, g)["loss"]),
        (lambda: vae.CodePrior(3, (2, 2), width=4), lambda m, g: m.sample(9, g)),
    ],
)
def test_every_draw_comes_from_the_generator(make, draw):
    values = []
    for step, seed in enumerate((0, 0, 1)):
        random.seed(0)
        model = make()
        torch.manual_seed(step)
        with torch.no_grad():
            values.append(draw(model, torch.Generator().manual_seed(seed)))
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_importance_sampling_in_chunks_is_importance_sampling():
    model, exact = linear_gaussian(stretch=1.2)
    x = exact.sample((500,))
    for k, chunk in ((7, 50), (120, 50), (100, 50)):
        found = model.log_prob(x, k, chunk=chunk).mean().item()
        assert found == pytest.approx(exact.log_prob(x).mean().item(), abs=0.15)


def test_a_convolutional_vae_has_the_shapes_and_bounds_of_any_other():
    x = torch.rand(6, 256, generator=random.generator())
    for likelihood, posterior in (("gaussian", "full"), ("heteroscedastic", "diagonal")):
        model = VAE.convolutional(16, [3, 5], 4, likelihood=likelihood, posterior=posterior)
        assert model.encode(x).mean.shape == (6, 4)
        assert model.reconstruct(x).shape == (6, 256)
        assert model.sample(3).shape == (3, 256)
        with torch.no_grad():
            many = model.log_weights(x, 100, generator=random.generator())
            assert many.shape == (100, 6)
            z = model.encode(x).sample(3, generator=random.generator())
            one_by_one = torch.stack([model.output(v) for v in z])
        torch.testing.assert_close(model.output(z), one_by_one)
        terms = torch.stack([model.elbo(x, generator=random.generator(i)) for i in range(100)])
        torch.testing.assert_close(many.mean(0), terms.mean(0), rtol=0.05, atol=0.5)
    n_layers = sum(isinstance(m, nn.ConvTranspose2d) for m in model.modules())
    assert n_layers == 2
    with pytest.raises(ValueError, match="side is 20"):
        VAE.convolutional(20, [2, 2, 2], 4)
    with pytest.raises(ValueError, match="sizes"):
        VAE.convolutional(16, [0], 4)


def test_linear_vae_converges_to_ppca():
    random.seed(0)
    x = torch.randn(3000, 2) @ torch.randn(2, 5) + 0.5 * torch.randn(3000, 5)
    ppca = factors.PPCA(2).fit(x)
    for posterior in ("diagonal", "full"):
        random.seed(1)
        model = vae.linear_vae(5, 2, posterior=posterior)
        train.fit(model, x, steps=400, batch_size=300, lr=4e-2, schedule="linear")
        W, b, noise = (model.decoder[0].weight, model.decoder[0].bias, model.likelihood.sigma**2)
        log_p = factors.log_density(x - b, W, noise).mean().item()
        assert log_p == pytest.approx(ppca.score(x), abs=0.1)
        assert model.elbo(x).mean().item() == pytest.approx(ppca.score(x), abs=0.1)


# --- inference ------------------------------------------------------------------------------------------------------


def exact_gradient(model, x, a):
    """The ELBO's gradient in a diagonal posterior's numbers, by autograd of the closed form."""
    a = a.detach().clone().requires_grad_()
    q = DiagonalGaussian(a)
    W, b, sigma = model.decoder.weight, model.decoder.bias, model.likelihood.sigma
    error = (x - b - q.mean @ W.T).square().sum() + (q.variance * W.square().sum(0)).sum()
    elbo = -0.5 * error / sigma**2 - model.prior.kl(q).sum()
    return torch.autograd.grad(elbo, a)[0][0]


@pytest.mark.parametrize("estimator", ["pathwise", "score", "score with baseline"])
def test_gradient_estimators_are_unbiased(estimator):
    model, density = linear_gaussian()
    x = density.sample((1,))
    a = torch.tensor([[0.3, -0.5, -1.0, -0.4]])

    def log_joint(z):
        return model.likelihood.log_prob(model.output(z), x) + model.prior.log_prob(z)

    g = vae.elbo_gradients(
        log_joint, DiagonalGaussian, a, 20000, estimator, torch.Generator().manual_seed(3)
    )
    error = g.std(0) / len(g) ** 0.5
    z_scores = (g.mean(0) - exact_gradient(model, x, a)) / error
    assert z_scores.abs().max() < 3


def test_a_baseline_is_the_mean_over_the_other_draws():
    model, density = linear_gaussian()
    x, a = density.sample((1,)), torch.tensor([[0.3, -0.5, -1.0, -0.4]])

    def log_joint(z):
        return model.likelihood.log_prob(model.output(z), x) + model.prior.log_prob(z)

    found = vae.elbo_gradients(
        log_joint, DiagonalGaussian, a, 3, "score with baseline", torch.Generator().manual_seed(3)
    )
    rows = a.expand(3, -1).clone().requires_grad_()
    q = DiagonalGaussian(rows)
    z = q.sample(generator=torch.Generator().manual_seed(3)).detach()
    (slopes,) = torch.autograd.grad(q.log_prob(z).sum(), rows)
    f = (log_joint(z) - q.log_prob(z)).detach()
    for i in range(3):
        others = (f[(i + 1) % 3] + f[(i + 2) % 3]) / 2
        torch.testing.assert_close(found[i], (f[i] - others) * slopes[i])


def test_gradient_estimators_differ_in_variance():
    model, density = linear_gaussian()
    x = density.sample((1,))
    a = torch.tensor([[0.3, -0.5, -1.0, -0.4]])

    def log_joint(z):
        return model.likelihood.log_prob(model.output(z), x) + model.prior.log_prob(z)

    spread = [
        vae.elbo_gradients(log_joint, DiagonalGaussian, a, 5000, e).var(0).sum()
        for e in ("pathwise", "score with baseline", "score")
    ]
    assert spread[0] < spread[1] < spread[2]


def test_refine_finds_the_best_member_of_each_family():
    model, density = linear_gaussian(stretch=1.5)
    x = density.sample((6,))
    W = model.decoder.weight.detach()
    P = W.T @ W / model.likelihood.sigma.item() ** 2 + torch.eye(2)
    random.seed(0)
    full = vae.refine(model, x, steps=250, n_draws=32, lr=0.03)
    assert isinstance(full, FullGaussian)
    truth = torch.linalg.inv(P)
    torch.testing.assert_close(full.L @ full.L.mT, truth.expand(6, 2, 2), atol=0.01, rtol=0.1)
    narrow = vae.refine(model, x, steps=250, n_draws=32, lr=0.03, posterior=DiagonalGaussian)
    torch.testing.assert_close(narrow.variance, (1 / P.diag()).expand(6, 2), atol=0.005, rtol=0.1)
    mean = torch.linalg.solve(P, W.T @ (x - model.decoder.bias.detach()).T).T
    mean = mean / model.likelihood.sigma.item() ** 2
    torch.testing.assert_close(narrow.mean, mean, atol=0.1, rtol=0)
    assert all(p.grad is None for p in model.parameters())


def test_refine_starts_at_the_encoder_and_its_steps_fall():
    model, density = linear_gaussian()
    x = 100 + density.sample((6,))  # far out: every slope keeps its sign
    start = model.encode(x)
    assert torch.equal(vae.refine(model, x, steps=1, lr=1e-30).numbers, start.numbers)
    other = vae.refine(model, x, steps=1, lr=1e-30, posterior=DiagonalGaussian)
    torch.testing.assert_close(other.mean, start.mean)
    torch.testing.assert_close(other.variance, start.variance)
    model.encoder.weight.data.zero_()
    moved = (vae.refine(model, x, steps=2, lr=0.01).mean - model.encode(x).mean).abs()
    torch.testing.assert_close(moved, torch.full((6, 2), 0.015), atol=2e-4, rtol=0)


def test_a_table_of_posteriors_learns_without_the_encoder():
    random.seed(0)
    x = (torch.rand(60, 12) < torch.rand(60, 1)).float()
    model = VAE.mlp([12, 16, 2])
    before = model.encoder[0].weight.detach().clone()
    table = vae.NonAmortized(model, 60)
    history = train.fit(table, [x, torch.arange(60)], epochs=60, batch_size=20, lr=5e-3)
    assert torch.equal(before, model.encoder[0].weight)
    assert history["loss"][-1] < history["loss"][0] - 1
    rows = torch.arange(60)
    assert model.elbo(x, q=table.posterior(rows)).mean() > model.elbo(x).mean()


def test_the_aggregate_is_torchs_mixture_and_its_kl_an_integral():
    q = DiagonalGaussian(torch.tensor([[-1.0, -2.0], [0.5, -1.0], [1.5, -3.0]]))
    mixture = vae.AggregatePosterior(q)
    torchs = MixtureSameFamily(
        Categorical(torch.ones(3)), Normal(q.mean[:, 0], q.variance[:, 0].sqrt())
    )
    z = torch.linspace(-8, 8, 4001)
    torch.testing.assert_close(mixture.log_prob(z[:, None]), torchs.log_prob(z), atol=1e-4, rtol=0)
    prior = StandardNormal(1)
    density = torchs.log_prob(z).exp()
    integral = (density * (torchs.log_prob(z) - Normal(0, 1).log_prob(z))).sum() * (z[1] - z[0])
    source = torch.Generator().manual_seed(0)
    found = torch.tensor([mixture.kl_to(prior, source) for _ in range(2000)]).mean(0)
    assert found[0].item() == pytest.approx(integral.item(), abs=0.03)
    assert 0 < found[1] < math.log(3)
    assert found.sum().item() == pytest.approx(prior.kl(q).mean().item(), abs=1e-4)
    draws = mixture.sample(40000, source)
    assert draws.shape == (40000, 1)
    assert draws.mean().item() == pytest.approx(q.mean.mean().item(), abs=0.02)
    assert draws.var().item() == pytest.approx(
        (q.variance.mean() + q.mean.var(correction=0)).item(), abs=0.04
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(0, 100))
def test_index_information_lies_between_nothing_and_log_n(n, seed):
    q = FullGaussian(numbers(FullGaussian, n, 2, seed, 1.5))
    mixture, prior = vae.AggregatePosterior(q), StandardNormal(2)
    z = q.sample(generator=torch.Generator().manual_seed(seed))
    assert (q.log_prob(z) - mixture.log_prob(z)).max() <= math.log(n) + 1e-9
    kl, information = mixture.kl_to(prior, torch.Generator().manual_seed(seed))
    assert kl + information == pytest.approx(prior.kl(q).mean().item())


# --- one layer ------------------------------------------------------------------------------------------------------


def test_hidden_bits_have_the_expectations_that_enumeration_gives():
    torch.manual_seed(0)
    model = vae.BernoulliVAE(5, 4, sigma=0.6).double()
    model.b.data.normal_()
    model.c.data.normal_()
    x = torch.randn(6, 5, dtype=torch.float64)
    p = torch.sigmoid(model.encode(x))
    elbo, log_joints, error = torch.zeros(6).double(), [], torch.zeros(6).double()
    for bits in itertools.product([0.0, 1.0], repeat=4):
        z = torch.tensor(bits).double()
        log_q = (z * p.log() + (1 - z) * (1 - p).log()).sum(1)
        log_x = Normal(z @ model.W.T + model.c, 0.6).log_prob(x).sum(1)
        log_joints.append(log_x - 4 * math.log(2))
        elbo += log_q.exp() * (log_joints[-1] - log_q)
        error += log_q.exp() * (x - model.decode(z)).square().sum(1)
    torch.testing.assert_close(model.elbo(x), elbo)
    torch.testing.assert_close(model.expected_error(x, p), error)
    exact = torch.stack(log_joints).logsumexp(0)
    torch.testing.assert_close(model.log_prob(x), exact)
    assert (model.elbo(x) <= exact).all()
    assert model.loss(x).item() == pytest.approx(-elbo.mean().item())


def test_hidden_bits_learn_with_and_without_tied_weights():
    random.seed(0)
    x = torch.randn(400, 3) @ torch.randn(3, 6)
    for tied in (True, False):
        model = vae.BernoulliVAE(6, 5, tied=tied)
        assert len(list(model.parameters())) == (3 if tied else 4)
        history = train.fit(model, x, epochs=10, lr=2e-2)
        assert history["loss"][-1] < history["loss"][0]


def test_score_matching_is_what_autograd_says():
    torch.manual_seed(0)
    W, x = torch.randn(5, 3).double(), torch.randn(4, 5).double()

    def log_density(v):
        return nn.functional.softplus(v @ W).sum() - 0.5 * v.square().sum()

    score = torch.func.vmap(torch.func.grad(log_density))(x)
    trace = torch.func.vmap(torch.func.hessian(log_density))(x).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(vae.score_matching(W, x), 0.5 * score.square().sum(1) + trace)


# --- bad input ------------------------------------------------------------------------------------------------------

MODEL = VAE.mlp([6, 2])
BITS = torch.zeros(3, 6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: MODEL.loss(BITS + 1.5), r"lies in \[1.5, 1.5\]; expected \[0.0, 1.0\]"),
        (lambda: MODEL.elbo(BITS - 0.5), "expected"),
        (lambda: MODEL.log_prob(BITS - 0.5), "expected"),
        (lambda: MODEL.loss(BITS * float("nan")), "NaN"),
        (lambda: MODEL.loss(BITS[:0]), "empty"),
        (lambda: MODEL.loss(BITS.long()), "expected a float"),
        (lambda: vae.binarize(BITS + 2), "expected"),
        (lambda: MODEL.elbo(BITS, 0), "k is 0; expected a finite number ≥ 1"),
        (lambda: MODEL.elbo(BITS, -3), "k is -3"),
        (lambda: MODEL.log_prob(BITS, 0), "k is 0"),
        (lambda: VAE.mlp([6, 2], beta=-1.0), "beta"),
        (lambda: VAE.mlp([6, 2], beta=float("nan")), "beta"),
        (lambda: VAE.mlp([6, 2], warm_up=-1), "warm_up"),
        (lambda: VAE.mlp([6, 2], free_nats=-0.1), "free_nats"),
        (lambda: VAE.mlp([6, 2], likelihood="poisson"), "likelihood is 'poisson'"),
        (lambda: VAE.mlp([6, 2], posterior="round"), "posterior is 'round'"),
        (lambda: VAE.mlp([6]), "sizes"),
        (lambda: vae.Gaussian(0.0), "sigma is 0"),
        (lambda: vae.HeteroscedasticGaussian(0.0), "floor is 0"),
        (lambda: StandardNormal(0), "k is 0"),
        (lambda: vae.BernoulliVAE(3, 0), "expected"),
        (lambda: vae.BernoulliVAE(3, 2, sigma=-1), "expected"),
        (lambda: vae.BernoulliVAE(3, 17).log_prob(torch.zeros(1, 3)), "k is 17"),
        (lambda: vae.BernoulliVAE(3, 2).loss(torch.zeros(1, 4)), "expected 3 numbers"),
        (lambda: vae.score_matching(torch.zeros(3, 2), torch.zeros(1, 4)), "expected 3 numbers"),
        (lambda: vae.NonAmortized(MODEL, 0), "n is 0"),
        (lambda: vae.NonAmortized(MODEL, 3, lr_factor=0.0), "lr_factor is 0"),
        (lambda: MODEL.encode(2 + BITS), "expected"),
        (lambda: MODEL.reconstruct(2 + BITS), "expected"),
        (lambda: MODEL.terms(2 + BITS), "expected"),
        (lambda: MODEL.log_weights(2 + BITS, 3), "expected"),
        (lambda: MODEL.loss(2 + BITS, q=MODEL.encode(BITS)), "expected"),
        (lambda: MODEL.elbo(2 + BITS, 3, q=MODEL.encode(BITS)), "expected"),
        (lambda: vae.NonAmortized(MODEL, 3).loss(2 + BITS, torch.arange(3)), "expected"),
        (lambda: vae.refine(MODEL, 2 + BITS), "expected"),
        (lambda: vae.refine(MODEL, BITS, n_draws=0), "n_draws is 0"),
        (lambda: MODEL.log_prob(BITS, chunk=0), "chunk is 0"),
        (lambda: vae.BernoulliVAE(3, 2).encode(torch.zeros(1, 3) / 0), "NaN"),
        (lambda: vae.BernoulliVAE(3, 2).elbo(torch.zeros(1, 4)), "expected 3 numbers"),
        (lambda: vae.BernoulliVAE(3, 2).log_prob(torch.zeros(1, 4)), "expected 3 numbers"),
        (lambda: vae.refine(MODEL, BITS, steps=0), "steps"),
        (lambda: vae.refine(MODEL, BITS, lr=0.0), "lr"),
        (
            lambda: vae.elbo_gradients(sum, DiagonalGaussian, torch.zeros(1, 4), 5, "best"),
            "estimator",
        ),
        (lambda: vae.elbo_gradients(sum, DiagonalGaussian, torch.zeros(1, 4), 1), "≥ 2"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
