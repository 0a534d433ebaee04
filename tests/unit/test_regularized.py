"""Regularized autoencoders against autograd, closed forms, numerical integration and scikit-learn."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import sparse_encode
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from lectool import data, nets, train
from lectool.autoencoders import (
    Autoencoder,
    Contractive,
    Denoising,
    GatedAutoencoder,
    LadderNetwork,
    PredictiveSparseDecomposition,
    SigmoidAutoencoder,
    VarianceAutoencoder,
    corrupt,
    greedy_layers,
    hutchinson_norm,
    jacobian_norm,
    pick_labels,
    reconstruction_loss,
    sigmoid_jacobian_norm,
    unroll,
)
from lectool.energy import mixture_denoiser, mixture_score


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=rng(seed), dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------- corruption


def test_masking_zeroes_a_share_and_keeps_the_rest():
    x = random(200, 500) + 0.5
    damaged = corrupt(x, "masking", 0.3, rng())
    kept = damaged != 0
    assert torch.equal(damaged[kept], x[kept])  # not rescaled, unlike dropout
    assert 1 - kept.double().mean().item() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 1e5))


def test_gaussian_noise_has_the_standard_deviation_asked_for():
    x = random(200, 500)
    noise = corrupt(x, "gaussian", 0.3, rng()) - x
    assert noise.mean().item() == pytest.approx(0, abs=5 * 0.3 / math.sqrt(1e5))
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("kind", ["gaussian", "masking"])
def test_corruption_repeats_with_its_generator_and_keeps_dtype(kind):
    for dtype in (torch.float32, torch.float64):
        x = random(3, 4).to(dtype)
        first = corrupt(x, kind, 0.5, rng(3))
        assert torch.equal(first, corrupt(x, kind, 0.5, rng(3))) and first.dtype == dtype


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("masking", 0.0),
        ("masking", 1.0),
        ("masking", -0.1),
        ("masking", math.nan),
        ("gaussian", 0.0),
        ("gaussian", -1.0),
        ("gaussian", math.nan),
        ("gaussian", math.inf),
    ],
)
def test_a_noise_level_out_of_range_is_named(kind, level):
    with pytest.raises(ValueError, match="level is"):
        corrupt(torch.ones(2, 2), kind, level)
    with pytest.raises(ValueError, match="level is"):
        Denoising(SigmoidAutoencoder(2, 1), kind, level)


def test_unknown_noise_is_named():
    with pytest.raises(ValueError, match="'salt'"):
        corrupt(torch.ones(2, 2), "salt", 0.5)


# -------------------------------------------------------------------------------------------- denoising


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_denoising_loss_compares_with_the_clean_batch(likelihood):
    net, x = SigmoidAutoencoder(6, 4, likelihood=likelihood).double(), random(5, 6)
    torch.manual_seed(7)
    loss = Denoising(net, "masking", 0.4).loss(x)
    torch.manual_seed(7)
    x_noisy = corrupt(x, "masking", 0.4)
    expected = reconstruction_loss(net.decoder(net.encode(x_noisy)), x, likelihood)
    torch.testing.assert_close(loss, expected)
    assert not torch.equal(x_noisy, x)


def test_denoising_codes_and_reconstructions_add_no_noise():
    net, x = SigmoidAutoencoder(6, 4), random(5, 6).float()
    model = Denoising(net, "gaussian", 2.0)
    assert torch.equal(model.encode(x), net.encode(x))
    assert torch.equal(model.reconstruct(x), net.reconstruct(x))
    assert {id(p) for p in model.parameters()} == {id(p) for p in net.parameters()}


def test_denoising_refuses_what_the_likelihood_cannot_hold():
    model = Denoising(SigmoidAutoencoder(3, 2), "masking", 0.5)
    with pytest.raises(ValueError, match=r"\[0.0, 1.0\]"):
        model.loss(torch.full((2, 3), 1.5))
    with pytest.raises(ValueError, match="NaN"):
        Denoising(SigmoidAutoencoder(3, 2, likelihood="gaussian")).loss(
            torch.full((2, 3), math.nan)
        )


def test_a_linear_denoiser_learns_the_wiener_filter():
    """The best linear denoiser of N(0, C) is C (C + σ²I)⁻¹."""
    torch.manual_seed(0)
    scales, sigma = torch.tensor([2.0, 1.0, 0.5]), 0.7
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    x = (torch.randn(20000, 3) * scales) @ turn.T
    net = Autoencoder(nn.Linear(3, 3), nn.Linear(3, 3), likelihood="gaussian")
    train.fit(
        Denoising(net, "gaussian", sigma), x, steps=700, batch_size=500, lr=1e-2, schedule="linear"
    )
    cov = turn @ torch.diag(scales**2) @ turn.T
    wiener = cov @ torch.linalg.inv(cov + sigma**2 * torch.eye(3))
    learned = net.decoder.weight @ net.encoder.weight
    torch.testing.assert_close(learned, wiener, atol=0.03, rtol=0)


def test_gates_multiply_the_input():
    net, x = GatedAutoencoder(nn.Linear(4, 2), nn.Linear(2, 4)).double(), normal(6, 4)
    gates = torch.sigmoid(net.decoder(net.encoder(x)))
    torch.testing.assert_close(net.reconstruct(x), gates * x)
    torch.testing.assert_close(net.loss(x), ((gates * x - x) ** 2).sum() / 6)
    torch.manual_seed(1)
    loss = Denoising(net, "gaussian", 0.5).loss(x)
    torch.manual_seed(1)
    x_noisy = corrupt(x, "gaussian", 0.5)
    torch.testing.assert_close(loss, ((net.gates(x_noisy) * x_noisy - x) ** 2).sum() / 6)
    with pytest.raises(ValueError, match="NaN"):
        net.loss(torch.full((2, 4), math.nan, dtype=torch.float64))


# ------------------------------------------------------------------------------------------------ score


def log_density(x: torch.Tensor, means: torch.Tensor, sd: float) -> torch.Tensor:
    each = Independent(Normal(means, sd), 1).log_prob(x[:, None])
    return each.logsumexp(1) - math.log(len(means))


@settings(max_examples=25, deadline=None)
@given(
    d=st.integers(1, 4),
    k=st.integers(1, 6),
    sd=st.floats(0.2, 3, allow_subnormal=False),
    seed=st.integers(0, 99),
)
def test_score_is_the_gradient_of_the_log_density(d, k, sd, seed):
    means = normal(k, d, seed=seed)
    x = (2 * normal(7, d, seed=seed + 1)).requires_grad_()
    (expected,) = torch.autograd.grad(log_density(x, means, sd).sum(), x)
    torch.testing.assert_close(mixture_score(x.detach(), means, sd), expected)


@settings(max_examples=25, deadline=None)
@given(
    sd=st.floats(0.2, 2, allow_subnormal=False),
    sigma=st.floats(0.1, 2, allow_subnormal=False),
    seed=st.integers(0, 99),
)
def test_tweedie_the_best_denoiser_follows_the_noised_score(sd, sigma, seed):
    means, x_noisy = normal(5, 3, seed=seed), 2 * normal(9, 3, seed=seed + 1)
    step = sigma**2 * mixture_score(x_noisy, means, math.hypot(sd, sigma))
    torch.testing.assert_close(mixture_denoiser(x_noisy, means, sd, sigma), x_noisy + step)


def test_denoiser_is_the_posterior_mean_by_integration():
    means = torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
    sd, sigma = 0.3, 0.8
    grid = torch.linspace(-8, 8, 20001, dtype=torch.float64)[:, None]
    prior = log_density(grid, means, sd)
    for point in (-1.7, 0.0, 0.9):
        weight = (prior + Normal(grid[:, 0], sigma).log_prob(torch.tensor(point))).softmax(0)
        expected = (weight * grid[:, 0]).sum()
        found = mixture_denoiser(torch.tensor([[point]], dtype=torch.float64), means, sd, sigma)
        torch.testing.assert_close(found[0, 0], expected, rtol=1e-6, atol=1e-6)


def test_a_width_that_is_not_positive_is_named():
    x, means = torch.zeros(2, 2), torch.zeros(3, 2)
    with pytest.raises(ValueError, match="sd is 0"):
        mixture_score(x, means, 0)
    with pytest.raises(ValueError, match="sigma is -1"):
        mixture_denoiser(x, means, 1, -1)
    with pytest.raises(ValueError, match="expected 2 numbers"):
        mixture_score(torch.zeros(2, 3), means, 1)


# ------------------------------------------------------------------------------------------ contraction


@settings(max_examples=20, deadline=None)
@given(d=st.integers(1, 6), k=st.integers(1, 6), seed=st.integers(0, 99))
def test_closed_form_equals_autograd(d, k, seed):
    torch.manual_seed(seed)
    net, x = SigmoidAutoencoder(d, k).double(), 3 * normal(4, d, seed=seed)
    closed, general = sigmoid_jacobian_norm(net.W, net.encode(x)), jacobian_norm(net.encode, x)
    torch.testing.assert_close(closed, general, rtol=1e-10, atol=1e-12)
    whole = torch.autograd.functional.jacobian(net.encode, x)  # (n, k, n, d), zero between samples
    torch.testing.assert_close(general, whole.square().sum((1, 2, 3)))


def test_hutchinson_is_unbiased():
    torch.manual_seed(0)
    encode, x = nets.mlp([5, 8, 3], nn.Tanh).double(), normal(4, 5)
    exact = jacobian_norm(encode, x)
    probes = torch.stack([hutchinson_norm(encode, x, 1, rng(i)) for i in range(800)]).detach()
    error = probes.std(0) / 800**0.5
    assert ((probes.mean(0) - exact).abs() < 4 * error).all()
    several = hutchinson_norm(encode, x, 2000, rng(5))
    torch.testing.assert_close(several, exact, rtol=0.1, atol=0)


def test_hutchinson_is_exact_for_one_code_and_its_gradient_too():
    torch.manual_seed(0)
    net, x = SigmoidAutoencoder(5, 1).double(), normal(6, 5)  # k = 1: signs cancel in the square
    closed = sigmoid_jacobian_norm(net.W, net.encode(x))
    torch.testing.assert_close(hutchinson_norm(net.encode, x, 1, rng()), closed)
    (a,) = torch.autograd.grad(closed.sum(), net.W)
    (b,) = torch.autograd.grad(hutchinson_norm(net.encode, x, 1, rng()).sum(), net.W)
    torch.testing.assert_close(a, b)


def test_hutchinson_works_inside_no_grad():
    net, x = SigmoidAutoencoder(5, 1), torch.rand(6, 5)
    with torch.no_grad():
        found = hutchinson_norm(net.encode, x)
    torch.testing.assert_close(found, sigmoid_jacobian_norm(net.W, net.encode(x)))


def test_contractive_loss_is_the_sum_of_its_terms():
    net, x = SigmoidAutoencoder(6, 3).double(), random(5, 6)
    terms = Contractive(net, 0.7).loss(x)
    torch.testing.assert_close(terms["reconstruction"], net.loss(x))
    torch.testing.assert_close(terms["jacobian"], jacobian_norm(net.encode, x).mean())
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + 0.7 * terms["jacobian"])
    one = SigmoidAutoencoder(6, 1).double()
    closed, probed = Contractive(one, 0.7).loss(x), Contractive(one, 0.7, n_probes=1).loss(x)
    torch.testing.assert_close(closed["loss"], probed["loss"])


def test_contraction_contracts_a_deep_encoder():
    x = random(500, 8).float()
    found = {}
    for lam in (1e-6, 1.0):
        torch.manual_seed(0)
        net = Autoencoder(nets.mlp([8, 16, 4], nn.Tanh), nn.Linear(4, 8))
        train.fit(Contractive(net, lam, n_probes=1), x, steps=200, batch_size=50, lr=1e-2)
        found[lam] = jacobian_norm(net.encode, x).mean().item()
    assert found[1.0] < 0.5 * found[1e-6]


@pytest.mark.parametrize("lam", [0, -1.0, math.nan, math.inf])
def test_a_weight_that_is_not_positive_is_named(lam):
    with pytest.raises(ValueError, match="lam is"):
        Contractive(SigmoidAutoencoder(3, 2), lam)
    with pytest.raises(ValueError, match="lam is"):
        PredictiveSparseDecomposition(3, 2, lam)


def test_the_closed_form_is_refused_where_it_does_not_hold():
    for net in (
        SigmoidAutoencoder(3, 2, linear_code=True),
        Autoencoder(nn.Linear(3, 2), nn.Linear(2, 3)),
    ):
        with pytest.raises(ValueError, match="n_probes"):
            Contractive(net, 1.0)
    with pytest.raises(ValueError, match="n_probes is 0"):
        Contractive(SigmoidAutoencoder(3, 2), 1.0, n_probes=0)
    with pytest.raises(ValueError, match="n_probes is 0"):
        hutchinson_norm(nn.Linear(3, 2), torch.ones(1, 3), 0)


# ----------------------------------------------------------------------------------------- sparse codes


def psd(d: int = 6, k: int = 9, lam: float = 0.3) -> PredictiveSparseDecomposition:
    torch.manual_seed(0)
    return PredictiveSparseDecomposition(d, k, lam).double()


def test_atoms_have_length_one_whatever_the_parameters():
    model = psd()
    with torch.no_grad():
        model.directions *= 7
    torch.testing.assert_close(model.D.norm(dim=0), torch.ones(9, dtype=torch.float64))


def test_inference_meets_scikit_learns_lasso():
    model, x = psd(), normal(8, 6)
    z = model.infer(x, 20000)
    lars = sparse_encode(
        x.numpy(), model.D.detach().T.numpy(), algorithm="lasso_cd", alpha=0.15, max_iter=100000
    )  # scikit-learn halves the squared error, so that its alpha is λ / 2
    expected = model.objective(x, torch.from_numpy(lars))
    torch.testing.assert_close(model.objective(x, z), expected, rtol=1e-3, atol=1e-5)
    assert (model.objective(x, z) <= expected + 1e-6).all()


def test_inference_with_a_guess_minimises_the_whole_energy():
    model, x = psd(), normal(4, 6)
    guess = model.encode(x).detach()

    def energy(z):
        return model.objective(x, z) + (z - guess).square().sum(1)

    z = model.infer(x, 5000, guess=guess)
    best = energy(z)
    for seed in range(200):
        assert (energy(z + 1e-3 * normal(*z.shape, seed=seed)) >= best - 1e-9).all()
    steps = torch.stack([energy(model.infer(x, n, guess=guess)) for n in range(12)])
    assert (steps[1:] <= steps[:-1] + 1e-12).all()  # ISTA never climbs


def test_inference_with_orthonormal_atoms_takes_one_step():
    """Then the energy falls apart into one number a code: z = soft((Dᵀx + f) / 2, λ / 4)."""
    model, x, guess = psd(6, 6, lam=0.8), normal(5, 6), normal(5, 6, seed=2)
    with torch.no_grad():
        model.directions.copy_(3 * torch.linalg.qr(normal(6, 6, seed=1)).Q)
    both = nn.functional.softshrink((x @ model.D + guess) / 2, 0.2)
    alone = nn.functional.softshrink(x @ model.D, 0.4)
    for n_steps in (1, 2, 7):
        torch.testing.assert_close(model.infer(x, n_steps, guess=guess), both)
        torch.testing.assert_close(model.infer(x, n_steps), alone)


def test_the_length_of_an_atom_has_no_gradient():
    model = psd()
    model.loss(normal(8, 6))["loss"].backward()
    along = (model.directions.grad * model.directions).sum(0)
    assert model.directions.grad.norm() > 1e-3 and along.abs().max() < 1e-10


def test_objective_and_loss_by_hand():
    model, x = psd(), normal(5, 6)
    z = normal(5, 9, seed=2)
    rebuilt = (model.D @ z.T).T
    by_hand = (x - rebuilt).pow(2).sum(1) + 0.3 * z.abs().sum(1)
    torch.testing.assert_close(model.objective(x, z), by_hand)
    guess = model.g * torch.tanh(x @ model.W.T + model.b)
    torch.testing.assert_close(model.encode(x), guess)
    terms = model.loss(x)
    z = model.infer(x, 20, start=guess.detach(), guess=guess.detach())
    torch.testing.assert_close(terms["prediction"], (z - guess).pow(2).sum(1).mean())
    torch.testing.assert_close(terms["sparse_coding"], model.objective(x, z).mean())
    torch.testing.assert_close(terms["loss"], terms["prediction"] + terms["sparse_coding"])


def test_sizes_of_a_sparse_model_are_checked():
    with pytest.raises(ValueError, match="k is 0"):
        PredictiveSparseDecomposition(3, 0, 1.0)
    with pytest.raises(ValueError, match="expected 6 numbers"):
        psd().loss(normal(2, 5))


# ------------------------------------------------------------------------------------- variance decoder


def test_variance_autoencoder_loss_is_the_negative_elbo():
    torch.manual_seed(0)
    model = VarianceAutoencoder(nn.Linear(5, 4), nn.Linear(2, 10), floor=1e-2).double()
    x = normal(7, 5)
    torch.manual_seed(3)
    terms = model.loss(x)
    m, log_s2 = model.encoder(x).chunk(2, 1)
    q = Normal(m, (log_s2 / 2).exp())
    torch.manual_seed(3)
    z = m + q.stddev * torch.randn_like(m)
    mean, log_variance = model.decoder(z).chunk(2, 1)
    p = Normal(mean, (log_variance.exp() + 1e-2).sqrt())
    torch.testing.assert_close(terms["reconstruction"], -p.log_prob(x).sum(1).mean())
    prior = Normal(torch.zeros_like(m), torch.ones_like(m))
    torch.testing.assert_close(terms["kl"], kl_divergence(q, prior).sum(1).mean())
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + terms["kl"])
    torch.testing.assert_close(model.encode(x), m)


def test_variance_autoencoder_checks_floor_and_data():
    with pytest.raises(ValueError, match="floor is 0"):
        VarianceAutoencoder(nn.Linear(5, 4), nn.Linear(2, 10), floor=0)
    with pytest.raises(ValueError, match="NaN"):
        VarianceAutoencoder(nn.Linear(2, 2), nn.Linear(1, 4)).loss(torch.full((1, 2), math.nan))


def test_variance_mnist_is_noise_with_the_strokes_variance(monkeypatch):
    monkeypatch.setenv("LECTOOL_DIGITS", "bundled")
    monkeypatch.setattr(data.images, "COPIES", 1)  # a million pixels are enough
    plain, noise = data.digits(1400), data.variance_mnist(1400, background=0.04)
    assert torch.equal(plain.y_train, noise.y_train) and torch.equal(plain.y_test, noise.y_test)
    standard = noise.x_train / (0.04 + 0.96 * plain.x_train.square()).sqrt()
    assert standard.mean().item() == pytest.approx(0, abs=0.003)
    assert standard.std().item() == pytest.approx(1, abs=0.003)
    assert standard.pow(4).mean().item() == pytest.approx(3, abs=0.03)
    again, other = data.variance_mnist(10, 5), data.variance_mnist(10, 5, seed=1)
    assert torch.equal(again.x_train, data.variance_mnist(10, 5).x_train)
    assert not torch.equal(again.x_train, other.x_train)
    for background in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="background is"):
            data.variance_mnist(10, background=background)


# ------------------------------------------------------------------------------------------- the stack


def test_a_stack_can_be_trained_by_denoising():
    x = random(300, 12).float()

    def fit(layer, codes):
        train.fit(Denoising(layer, "masking", 0.3), codes, steps=20, batch_size=50)

    torch.manual_seed(0)
    layers = greedy_layers(x, [12, 8, 4], lambda a, b, last: SigmoidAutoencoder(a, b), fit)
    deep = unroll(layers)
    h = layers[0].encode(x)
    torch.testing.assert_close(
        deep.encode(x), nn.functional.linear(h, layers[1].W, layers[1].b)
    )  # unroll's code is linear


# ----------------------------------------------------------------------------------------------- ladder


def blobs(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.arange(n) % 3
    centers = 3 * torch.eye(3, 6)
    return centers[y] + 0.5 * torch.randn(n, 6, generator=rng(seed)), y


def test_picked_labels_are_balanced_and_repeatable():
    y = torch.randint(5, (200,), generator=rng())
    rows = pick_labels(y, 4, rng(1))
    assert torch.bincount(y[rows]).tolist() == [4] * 5
    assert y[rows].tolist() == [0, 1, 2, 3, 4] * 4  # the classes in turn
    assert len(rows.unique()) == 20
    assert torch.equal(rows, pick_labels(y, 4, rng(1)))
    assert not torch.equal(rows, pick_labels(y, 4, rng(2)))


def test_a_class_without_labels_is_named():
    y = torch.tensor([0, 0, 2, 2])
    with pytest.raises(ValueError, match="class 1 has 0 samples"):
        pick_labels(y, 1)
    with pytest.raises(ValueError, match="class 3 has 0 samples"):
        pick_labels(torch.tensor([0, 1, 2]), 1, n_classes=4)
    with pytest.raises(ValueError, match="per_class is 0"):
        pick_labels(y, 0)
    x = torch.randn(4, 6)
    with pytest.raises(ValueError, match=r"\[2, 0, 2\]"):
        LadderNetwork([6, 5, 3]).loss(x, x, y)
    with pytest.raises(ValueError, match="expected at least one of each of 3"):
        LadderNetwork([6, 5, 3]).loss(x, x, torch.tensor([0, 1, 2, 3]))


def test_clean_run_is_batch_normalised_layers():
    torch.manual_seed(0)
    net = LadderNetwork([6, 5, 3])
    x = torch.randn(40, 6)
    logits, zs = net.clean(x)
    a = x @ net.up[0].weight.T
    z = (a - a.mean(0)) / (a.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(zs[1], z)
    a = z.clamp(min=0) @ net.up[1].weight.T
    torch.testing.assert_close(logits, (a - a.mean(0)) / (a.var(0, unbiased=False) + 1e-5).sqrt())
    assert torch.equal(zs[0], x)


def test_noisy_run_adds_the_noise_asked_for_to_the_same_weights():
    torch.manual_seed(0)
    x = torch.randn(5000, 6)
    quiet = LadderNetwork([6, 5, 3], noise=1e-6)
    logits, zs = quiet.noisy(x)
    clean_logits, _ = quiet.clean(x)
    torch.testing.assert_close(logits, clean_logits, atol=1e-3, rtol=1e-3)
    loud = LadderNetwork([6, 5, 3], noise=0.7)
    _, zs = loud.noisy(x)
    assert (zs[0] - x).std().item() == pytest.approx(0.7, rel=0.03)
    assert zs[1].var().item() == pytest.approx(1 + 0.49, rel=0.03)  # unit variance and noise


def test_the_lateral_connections_start_open():
    """At the start m = 0 and v = σ(u)·0 + 1 = 1: the estimate is the noisy layer itself."""
    torch.manual_seed(0)
    net = LadderNetwork([6, 5, 3])
    logits, noisy = net.noisy(torch.randn(30, 6))
    for z, z_hat in zip(noisy, net.clean_up(logits, noisy)):
        torch.testing.assert_close(z_hat, z)


def test_loss_sums_weighted_layers():
    x, y = blobs(60)
    terms = {}
    for weights in ([1.0, 0, 0], [0, 2.0, 0], [0, 0, 0.5], [1.0, 2.0, 0.5], [0, 0, 0]):
        torch.manual_seed(0)
        net = LadderNetwork([6, 5, 3], weights=weights)
        torch.manual_seed(1)
        terms[tuple(weights)] = net.loss(x[9:], x[:9], y[:9])
    parts = [terms[key]["denoising"] for key in [(1.0, 0, 0), (0, 2.0, 0), (0, 0, 0.5)]]
    whole = terms[(1.0, 2.0, 0.5)]
    torch.testing.assert_close(whole["denoising"], sum(parts))
    torch.testing.assert_close(whole["loss"], whole["denoising"] + whole["supervised"])
    assert terms[(0, 0, 0)]["denoising"] == 0
    torch.manual_seed(0)
    net = LadderNetwork([6, 5, 3], weights=[1.0, 0, 0])
    torch.manual_seed(1)
    logits, noisy = net.noisy(x)  # the labeled rows stand first
    expected = nn.functional.cross_entropy(logits[:9], y[:9])
    torch.testing.assert_close(whole["supervised"], expected)
    torch.testing.assert_close(parts[0], (net.clean_up(logits, noisy)[0] - x).square().mean())


def test_the_clean_run_is_moved_by_the_denoising_too():
    """The slope of the loss equals a difference quotient, which knows nothing of detached targets."""
    x, y = (v.double() if v.is_floating_point() else v for v in blobs(30))
    torch.manual_seed(0)
    net = LadderNetwork([6, 5, 3], weights=[1.0, 2.0, 0.5]).double()
    W, step = net.up[0].weight, 1e-6
    direction = normal(5, 6, seed=1)

    def loss(shift):
        torch.manual_seed(1)
        with torch.no_grad():
            W.add_(shift * direction)
        value = net.loss(x[9:], x[:9], y[:9])["loss"]
        with torch.no_grad():
            W.sub_(shift * direction)
        return value

    torch.manual_seed(1)
    (slope,) = torch.autograd.grad(net.loss(x[9:], x[:9], y[:9])["loss"], W)
    quotient = (loss(step) - loss(-step)).item() / (2 * step)
    assert (slope * direction).sum().item() == pytest.approx(quotient, rel=1e-5)


def test_default_weights_fall_from_the_input_up():
    assert LadderNetwork([6, 5, 4, 3]).weights == [1000.0, 10.0, 0.1, 0.1]


def test_combinator_by_hand():
    torch.manual_seed(0)
    net = LadderNetwork([4, 2], noise=0.5)
    with torch.no_grad():
        for a in net.lateral:
            a.copy_(torch.randn_like(a))
    logits, noisy = net.noisy(torch.randn(20, 4))
    top, a = net.clean_up(logits, noisy)[1], net.lateral[1]
    p = logits.softmax(1)
    u = (p - p.mean(0)) / (p.var(0, unbiased=False) + 1e-5).sqrt()
    m = a[0] * (a[1] * u + a[2]).sigmoid() + a[3] * u + a[4]
    v = a[5] * (a[6] * u + a[7]).sigmoid() + a[8] * u + a[9]
    torch.testing.assert_close(top, (noisy[1] - m) * v + m)


def test_both_runs_and_the_lower_rungs_by_hand():
    torch.manual_seed(0)
    net, x = LadderNetwork([6, 5, 3], noise=0.5), torch.randn(30, 6)
    with torch.no_grad():
        for p in (*net.beta, net.gamma, *net.lateral):  # away from their start of 0 and 1
            p.copy_(torch.randn_like(p))

    def norm(a):
        return (a - a.mean(0)) / (a.var(0, unbiased=False) + 1e-5).sqrt()

    clean_logits, clean = net.clean(x)
    logits, noisy = net.noisy(x)
    for z, top in ((clean, clean_logits), (noisy, logits)):
        torch.testing.assert_close(top, net.gamma * (z[2] + net.beta[1]))
    torch.testing.assert_close(
        clean[2], norm((clean[1] + net.beta[0]).clamp(min=0) @ net.up[1].weight.T)
    )
    noise = noisy[2] - norm((noisy[1] + net.beta[0]).clamp(min=0) @ net.up[1].weight.T)
    assert 0.35 < noise.std() < 0.65
    estimates = net.clean_up(logits, noisy)
    for layer in (0, 1):
        a = net.lateral[layer]
        u = norm(estimates[layer + 1] @ net.down[layer].weight.T)
        m = a[0] * (a[1] * u + a[2]).sigmoid() + a[3] * u + a[4]
        v = a[5] * (a[6] * u + a[7]).sigmoid() + a[8] * u + a[9]
        torch.testing.assert_close(estimates[layer], (noisy[layer] - m) * v + m)


def test_few_labels_are_enough_for_separate_blobs():
    x, y = blobs(600)
    x_test, y_test = blobs(300, seed=1)
    rows = pick_labels(y, 1, rng())
    torch.manual_seed(0)
    net = LadderNetwork([6, 12, 3])
    train.fit(
        net,
        x,
        steps=150,
        batch_size=100,
        lr=1e-2,
        loss=lambda batch: net.loss(batch, x[rows], y[rows]),
    )
    assert (net.predict(x_test) == y_test).double().mean() > 0.97
    one_by_one = torch.cat([net.predict(row[None]) for row in x_test[:20]])
    assert torch.equal(one_by_one, net.predict(x_test)[:20])  # eval mode: rows do not interact


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"sizes": [5]}, "sizes are"),
        ({"sizes": [5, 0]}, "sizes are"),
        ({"sizes": [5, 3], "noise": 0.0}, "noise is"),
        ({"sizes": [5, 3], "noise": math.nan}, "noise is"),
        ({"sizes": [5, 3], "weights": [1.0]}, "weights has 1, sizes has 2"),
        ({"sizes": [5, 3], "weights": [1.0, -1.0]}, "weights is -1.0"),
    ],
)
def test_ladder_settings_are_checked(settings_, message):
    with pytest.raises(ValueError, match=message):
        LadderNetwork(**settings_)
