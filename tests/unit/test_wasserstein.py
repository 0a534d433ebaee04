"""Transport against SciPy, brute force and closed forms; constraints against SVDs and hand-made derivatives."""

import itertools
import math

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lectool import gan, nets
from lectool.gan import (
    SpectralNorm,
    clip_weights,
    exact_critic,
    gradient_norm,
    gradient_penalty,
    lipschitz_bound,
    optimal_transport,
    power_iteration,
    settle,
    spectral_normalize,
    wasserstein_1d,
)

FEW = settings(derandomize=True, database=None, deadline=None, max_examples=25)


def random(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ------------------------------------------------------------------------------------------ on a line


@FEW
@given(n=st.integers(1, 20), m=st.integers(1, 20), seed=st.integers(0, 999))
def test_wasserstein_on_a_line_agrees_with_scipy(n, m, seed):
    x, y = random(n, seed=seed), random(m, seed=seed + 1) + 1
    a, b = random(n, seed=seed + 2).abs(), random(m, seed=seed + 3).abs()
    expected = scipy.stats.wasserstein_distance(x, y)
    assert wasserstein_1d(x, y).item() == pytest.approx(expected, rel=1e-9)
    expected = scipy.stats.wasserstein_distance(x, y, a, b)
    assert wasserstein_1d(x, y, a, b).item() == pytest.approx(expected, rel=1e-9)
    assert wasserstein_1d(y, x, b, a).item() == pytest.approx(expected, rel=1e-9)


def test_wasserstein_of_known_distributions():
    share = (torch.arange(20000).double() + 0.5) / 20000
    uniform, gaussian = share, torch.special.ndtri(share)
    assert wasserstein_1d(uniform, uniform + 3).item() == pytest.approx(3)
    assert wasserstein_1d(uniform, 2 * uniform).item() == pytest.approx(0.5)
    expected = math.sqrt(2 / math.pi)  # of N(0, 1) and N(0, 4): E|z|
    assert wasserstein_1d(gaussian, 2 * gaussian).item() == pytest.approx(expected, rel=1e-3)
    assert wasserstein_1d(gaussian, gaussian.flip(0)).item() == 0


def test_wasserstein_keeps_the_type_and_has_gradients():
    x, y = random(9, dtype=torch.float32).requires_grad_(), random(7, seed=1, dtype=torch.float32)
    w = wasserstein_1d(x, y)
    assert w.dtype == torch.float32
    w.backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((random(3, 1), random(3)), "expected 1 axes"),
        ((random(3), random(3), torch.ones(4), None), "a has 4 masses"),
        ((random(3), random(3), None, -torch.ones(3)), "expected"),
        ((random(3), random(3), torch.zeros(3), None), "expected 3 and > 0"),
        ((random(3) * math.nan, random(3)), "NaN"),
        ((random(0), random(3)), "empty"),
    ],
)
def test_wasserstein_rejects(arguments, words):
    with pytest.raises(ValueError, match=words):
        wasserstein_1d(*arguments)


# --------------------------------------------------------------------------------- linear programs


@FEW
@given(n=st.integers(1, 5), d=st.integers(1, 3), seed=st.integers(0, 999))
def test_transport_of_equal_masses_is_the_best_of_all_assignments(n, d, seed):
    cost = torch.cdist(random(n, d, seed=seed), random(n, d, seed=seed + 1))
    expected = min(
        sum(cost[i, j].item() for i, j in enumerate(order)) / n
        for order in itertools.permutations(range(n))
    )
    assert optimal_transport(cost).cost == pytest.approx(expected, rel=1e-7)


@FEW
@given(n=st.integers(1, 9), m=st.integers(1, 9), seed=st.integers(0, 999))
def test_plan_and_potentials_prove_each_other(n, m, seed):
    cost = random(n, m, seed=seed).abs()
    a, b = 3 * random(n, seed=seed + 1).abs(), random(m, seed=seed + 2).abs()
    found = optimal_transport(cost, a, b)
    torch.testing.assert_close(found.plan.sum(1), a / a.sum())
    torch.testing.assert_close(found.plan.sum(0), b / b.sum())
    assert (found.plan >= -1e-12).all()
    assert (found.plan * cost).sum().item() == pytest.approx(found.cost, rel=1e-7)
    assert (found.f[:, None] + found.g <= cost + 1e-8).all()
    dual = (found.f * a / a.sum()).sum() + (found.g * b / b.sum()).sum()
    assert dual.item() == pytest.approx(found.cost, rel=1e-7)


@FEW
@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 999))
def test_transport_on_a_line_is_the_area_between_distribution_functions(n, m, seed):
    x, y = random(n, seed=seed), random(m, seed=seed + 1)
    cost = (x[:, None] - y).abs()
    assert optimal_transport(cost).cost == pytest.approx(wasserstein_1d(x, y).item(), rel=1e-7)


def masses(kind: str, n: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    noise = random(n, seed=seed, dtype=dtype)
    if kind == "peaked":
        return (20 * noise).softmax(0)
    if kind == "one heap":
        return torch.full((n,), 1e-9, dtype=dtype).index_fill(0, torch.tensor([seed % n]), 1.0)
    return {"uneven": noise.abs(), "wide": 1e4 * noise.abs() ** 30}[kind]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["uneven", "peaked", "one heap", "wide"])
def test_any_masses_and_any_costs_have_a_plan(kind, dtype):
    # 25 problems each, 200 in all, with costs of very different scale, or far from 0.
    for seed in range(25):
        n, m = 2 + seed * 7 % 31, 2 + seed * 11 % 37
        scale, offset = ((1.0, 0.0), (1e-9, 0.0), (1e9, 0.0), (1.0, 1e3))[seed % 4]
        cost = scale * random(n, m, seed=seed, dtype=dtype).abs() + offset
        a, b = masses(kind, n, seed, dtype), masses(kind, m, seed + 100, dtype)
        found = optimal_transport(cost, a, b)
        a, b, plan, f, g = (t.double() for t in (a, b, found.plan, found.f, found.g))
        a, b = a / a.sum(), b / b.sum()
        assert found.plan.dtype == dtype and (plan >= 0).all()
        torch.testing.assert_close(plan.sum(1), a, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(plan.sum(0), b, rtol=1e-6, atol=1e-7)
        span, eps = (cost.max() - cost.min()).item(), torch.finfo(dtype).eps
        tolerance = 1e-6 * span + 4 * eps * cost.max().item()
        assert (f[:, None] + g - cost).max() <= tolerance
        assert ((f * a).sum() + (g * b).sum()).item() == pytest.approx(found.cost, abs=tolerance)
        assert (plan * cost).sum().item() == pytest.approx(found.cost, abs=tolerance)


def test_what_lies_on_one_spot_costs_nothing_to_move():
    found = optimal_transport(torch.zeros(3, 2))
    assert found.cost == 0 and found.plan.sum().item() == pytest.approx(1)
    assert (found.f[:, None] + found.g).abs().max() == 0


def test_a_wide_gap_does_not_drown_a_short_way_on_a_line():
    # Two groups 2e6 apart, each moved by 1/4; as many points in each, so that none crosses the gap.
    x = torch.cat([random(300), random(300, seed=1) + 2e6])
    y = torch.cat([x, x]) + 0.25
    assert wasserstein_1d(x, y).item() == pytest.approx(0.25, rel=1e-6)
    whole = (16 * random(600)).round()
    x = torch.cat([whole[:300], whole[300:] + 2e6]).float()
    assert wasserstein_1d(x, torch.cat([x, x]) + 0.25).item() == pytest.approx(0.25, rel=1e-3)


def test_a_critic_scores_points_of_another_type():
    x, y = random(8, 2), random(6, 2, seed=1)
    _, critic = exact_critic(x, y)
    assert critic(x.float()).dtype == torch.float32
    torch.testing.assert_close(critic(x.float()), critic(x).float())
    assert exact_critic(x, y.float())[0] == pytest.approx(exact_critic(x, y)[0], rel=1e-6)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
def test_exact_critic_attains_the_distance_and_keeps_its_slope(p):
    x, y = random(40, 3), random(25, 3, seed=1) + 0.5
    distance, critic = exact_critic(x, y, p=p)
    assert (critic(x).mean() - critic(y).mean()).item() == pytest.approx(distance, rel=1e-7)
    a, b = 3 * random(2000, 3, seed=2), 3 * random(2000, 3, seed=3)
    slopes = (critic(a) - critic(b)).abs() / torch.linalg.vector_norm(a - b, p, dim=1)
    assert slopes.max() <= 1 + 1e-9
    assert slopes.max() > 0.5


def test_transport_rejects():
    with pytest.raises(ValueError, match="cost has shape"):
        optimal_transport(random(3))
    with pytest.raises(ValueError, match="b has 3 masses"):
        optimal_transport(random(3, 2), None, torch.ones(3))
    with pytest.raises(ValueError, match=r"p is 0\.5"):
        exact_critic(random(3, 2), random(3, 2), p=0.5)
    with pytest.raises(ValueError, match="expected 2 numbers"):
        exact_critic(random(3, 2), random(3, 1))


# -------------------------------------------------------------------------------------------- clipping


def test_clipping_moves_only_what_left_the_box():
    net = nets.mlp([3, 5, 1])
    before = [p.clone() for p in net.parameters()]
    clip_weights(net, 0.2)
    for p, old in zip(net.parameters(), before, strict=True):
        assert torch.equal(p, old.clamp(-0.2, 0.2)) and p.requires_grad
    with pytest.raises(ValueError, match="c is 0"):
        clip_weights(net, 0.0)


# ------------------------------------------------------------------------------------ gradient penalty


def by_hand(W, b, w, x):
    r"""f(x) = wᵀ tanh(W x + b): its gradient's length, and what moves it, without autograd.

    ∇f = Wᵀ s with s = w (1 − h²); and for L = Σ (‖∇f‖ − 1)² / n with u = ∇f / ‖∇f‖ the chain rule gives
    ∂L/∂w and ∂L/∂W by the product rule, once through W and once through h.
    """
    h = torch.tanh(x @ W.T + b)
    s = w * (1 - h**2)
    slope = s @ W
    length = slope.norm(dim=1)
    pull = 2 * (length - 1)[:, None] * slope / length[:, None] / len(x)  # ∂L/∂slope
    along = pull @ W.T  # ∂L/∂s
    d_w = (along * (1 - h**2)).sum(0)
    d_h = along * w * (-2 * h)
    d_a = d_h * (1 - h**2)
    return length, d_w, s.T @ pull + d_a.T @ x, d_a.sum(0)


def test_penalty_equals_a_double_backward_made_by_hand():
    W, b, w = random(6, 4), random(6, seed=1), random(6, seed=2)
    for p in (W, b, w):
        p.requires_grad_()
    x, y = random(30, 4, seed=3), random(30, 4, seed=4)
    penalty = gradient_penalty(
        lambda v: torch.tanh(v @ W.T + b) @ w, x, y, 7.0, generator=torch.Generator().manual_seed(5)
    )
    share = torch.rand(30, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    x_hat = share * x + (1 - share) * y
    with torch.no_grad():
        length, d_w, d_W, d_b = by_hand(W, b, w, x_hat)
    assert penalty.item() == pytest.approx(7 * (length - 1).square().mean().item(), rel=1e-12)
    penalty.backward()
    for found, expected in ((w.grad, d_w), (W.grad, d_W), (b.grad, d_b)):
        torch.testing.assert_close(found, 7 * expected, rtol=1e-9, atol=1e-12)


def test_penalty_of_a_linear_critic():
    w = torch.tensor([3.0, 4.0])
    x, y = random(9, 2).float(), random(9, 2, seed=1).float()
    assert gradient_penalty(lambda v: v @ w, x, y).item() == pytest.approx(160)
    assert gradient_penalty(lambda v: v @ w / 10, x, y, 2.0).item() == pytest.approx(0.5)
    assert gradient_penalty(lambda v: v @ w / 10, x, y, one_sided=True).item() == 0
    assert gradient_penalty(lambda v: v @ w, x, y, one_sided=True).item() == pytest.approx(160)


def test_penalty_of_images():
    images = random(5, 2, 3, 3), random(5, 2, 3, 3, seed=1)
    w = random(18, seed=2)
    expected = 10 * (w.norm() - 1).square().item()
    found = gradient_penalty(lambda v: v.flatten(1) @ w, *images)
    assert found.item() == pytest.approx(expected)
    assert gradient_norm(lambda v: v.flatten(1) @ w, images[0]).shape == (5,)


def test_penalty_survives_a_flat_critic_and_looks_between_the_samples():
    net = nn.Linear(2, 1)
    nn.init.zeros_(net.weight)
    x, y = torch.zeros(50, 2), torch.ones(50, 2)
    gradient_penalty(net, x, y).backward()
    assert torch.isfinite(net.weight.grad).all()
    seen = []
    gradient_penalty(lambda v: (seen.append(v.detach()), v.sum(1))[1], x, y)
    assert 0 < seen[0].min() and seen[0].max() < 1
    torch.testing.assert_close(seen[0][:, 0], seen[0][:, 1])  # on the line, one ε a sample
    assert seen[0][:, 0].std() > 0.1


def test_penalty_rejects():
    with pytest.raises(ValueError, match=r"fake has shape \(4, 2\); expected \(3, 2\)"):
        gradient_penalty(nn.Linear(2, 1), torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"lam is 0\.0"):
        gradient_penalty(nn.Linear(2, 1), torch.zeros(3, 2), torch.zeros(3, 2), 0.0)


# --------------------------------------------------------------------------------------- spectral norm


@FEW
@given(m=st.integers(1, 12), n=st.integers(1, 12), seed=st.integers(0, 999))
def test_power_iteration_agrees_with_the_decomposition(m, n, seed):
    W = random(m, n, seed=seed)
    sigma, u, v = power_iteration(W.mv, W.T.mv, random(m, seed=seed + 1), 1000)
    U, s, Vh = torch.linalg.svd(W)
    assert sigma.item() == pytest.approx(s[0].item(), rel=1e-4)
    if len(s) == 1 or s[1] < 0.9 * s[0]:
        assert (u @ U[:, 0]).abs().item() == pytest.approx(1, abs=1e-6)
        assert (v @ Vh[0]).abs().item() == pytest.approx(1, abs=1e-6)


def test_power_iteration_comes_from_below_and_converges_by_the_gap():
    U, V = torch.linalg.qr(random(6, 6)).Q, torch.linalg.qr(random(6, 6, seed=1)).Q
    W = U @ torch.tensor([2.0, 1.5, 1, 0.5, 0.2, 0.1]).double().diag() @ V.T
    errors = []
    for n in (10, 11):
        sigma, *_ = power_iteration(W.mv, W.T.mv, random(6, seed=2), n)
        errors.append(2 - sigma.item())
    assert errors[0] > errors[1] > 0
    assert errors[1] / errors[0] == pytest.approx(
        (1.5 / 2) ** 4, rel=0.05
    )  # σ's error: twice the exponent
    with pytest.raises(ValueError, match="n_steps is 0"):
        power_iteration(lambda v: v, lambda u: u, random(6), 0)


def dense(layer: nn.Conv2d, shape: tuple[int, ...]) -> torch.Tensor:
    """The matrix of a convolution, a column an input pixel."""
    d = math.prod(shape)
    with torch.no_grad():
        bias = layer.bias
        layer.bias = None
        columns = layer(torch.eye(d, dtype=layer.weight.dtype).reshape(d, *shape)).flatten(1)
        layer.bias = bias
    return columns.T


@pytest.mark.parametrize(
    ("settings_", "shape"),
    [
        ({"kernel_size": 3, "padding": 1}, (2, 7, 7)),
        ({"kernel_size": 3, "stride": 2, "padding": 1}, (2, 7, 8)),
        ({"kernel_size": 4, "stride": 2, "padding": 1}, (2, 8, 8)),
        ({"kernel_size": 5, "stride": 3}, (2, 9, 10)),
    ],
)
def test_norm_of_a_convolution_is_that_of_its_matrix(settings_, shape):
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, **settings_).double()
    part = SpectralNorm(layer, input_shape=shape)
    expected = torch.linalg.matrix_norm(dense(layer, shape), 2).item()
    assert part.settle(layer.weight.detach(), 3000).item() == pytest.approx(expected, rel=1e-4)
    reshaped = SpectralNorm(layer).settle(layer.weight.detach(), 2000).item()
    kernel = torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item()
    assert reshaped == pytest.approx(kernel, rel=1e-4)


def test_normalized_layers_have_norm_one_and_keep_to_it_in_training():
    torch.manual_seed(0)
    net = spectral_normalize(nets.mlp([4, 16, 16, 1]))
    opt = torch.optim.Adam(net.parameters(), lr=1e-2)
    x = random(64, 4).float()
    for _ in range(200):
        loss = (net(x) - 3 * x[:, :1]).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    for layer in net[::2]:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.02)
    settle(net)
    for layer in net[::2]:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=1e-4)
    assert gradient_norm(net, 3 * x).max() <= 1 + 1e-4
    assert lipschitz_bound(net) == pytest.approx(1, abs=3e-4)


def test_gradient_through_the_norm_is_the_derivative_of_the_quotient():
    torch.manual_seed(0)
    layer = nn.Linear(5, 4).double()
    W = layer.weight.detach().clone().requires_grad_()
    part = SpectralNorm(layer)
    part.settle(W.detach(), 2000)
    part.eval()
    weights = random(4, 5, seed=1)
    (found,) = torch.autograd.grad((part(W) * weights).sum(), W)
    (expected,) = torch.autograd.grad((W / torch.linalg.matrix_norm(W, 2) * weights).sum(), W)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_one_step_a_use_in_training_none_in_evaluation():
    layer = nn.Linear(6, 6)
    part = SpectralNorm(layer)
    u = part.u.clone()
    part.eval()(layer.weight)
    assert torch.equal(part.u, u)
    with torch.no_grad():
        layer.weight.add_(torch.randn(6, 6))
    part.train()(layer.weight)
    assert not torch.equal(part.u, u)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(5, 4),
        nn.Conv1d(3, 4, 3),
        nn.Conv2d(3, 4, 3),
        nn.Conv3d(2, 3, 2),
        nn.ConvTranspose1d(3, 4, 3),
        nn.ConvTranspose2d(3, 4, 3),
    ],
)
def test_every_kind_of_layer_is_read_as_outputs_by_the_rest(layer):
    W = layer.weight.detach()
    axis = 1 if "Transpose" in type(layer).__name__ else 0
    expected = torch.linalg.matrix_norm(W.movedim(axis, 0).flatten(1), 2).item()
    found = SpectralNorm(layer).settle(W, 3000).item()
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("settings_", "shape"),
    [
        ({"kernel_size": 3, "padding": 1}, (2, 5, 5)),
        ({"kernel_size": 4, "stride": 2, "padding": 1}, (2, 4, 5)),
        ({"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}, (2, 4, 4)),
    ],
)
def test_norm_of_a_transposed_convolution_is_that_of_its_matrix(settings_, shape):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(2, 3, **settings_).double()
    part = SpectralNorm(layer, input_shape=shape)
    expected = torch.linalg.matrix_norm(dense(layer, shape), 2).item()
    assert part.settle(layer.weight.detach(), 3000).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("layer", [nn.Embedding(5, 4), nn.LSTM(3, 4), nn.Bilinear(2, 3, 4)])
def test_layers_of_another_kind_are_refused_by_name(layer):
    with pytest.raises(ValueError, match=f"{type(layer).__name__} is not a layer"):
        spectral_normalize(nn.Sequential(nn.Linear(3, 5), layer))


def test_wgan_gp_is_the_game_of_its_parts():
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        G, f = nets.mlp([2, 8, 2]), nets.mlp([2, 8, 1])
        settings = {"lr": 1e-3, "betas": (0.0, 0.9), "k": 3, "latent": 2}
        game = (
            gan.two_player(G, f, gan.Wasserstein(), penalty=gradient_penalty, **settings)
            if results
            else gan.wgan_gp(G, f, **settings)
        )
        record = gan.play(game, torch.randn(50, 2), n_steps=4, batch_size=8)
        results.append((record, [p.detach() for net in (G, f) for p in net.parameters()]))
    (named, a), (_, b) = results
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
    assert set(named.terms) == {"critic", "penalty", "generator"}


def test_wgan_clips_its_critic():
    torch.manual_seed(0)
    G, f = nets.mlp([2, 8, 2]), nets.mlp([2, 8, 1])
    gan.play(gan.wgan(G, f, c=0.05, latent=2), torch.randn(50, 2), n_steps=2, batch_size=8)
    assert (
        max(p.abs().max() for p in f.parameters())
        <= 0.05
        < max(p.abs().max() for p in G.parameters())
    )


def test_a_normalized_net_survives_saving():
    torch.manual_seed(0)
    one, two = (spectral_normalize(nets.mlp([3, 8, 1])) for _ in range(2))
    two.load_state_dict(one.state_dict())
    x = torch.randn(5, 3)
    assert torch.equal(one.eval()(x), two.eval()(x))


def conv_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(96, 1),
    )


def test_bound_of_a_chain_is_above_what_is_measured():
    net, x = conv_net(), random(200, 64).float()
    norms = [
        torch.linalg.matrix_norm(dense(net[1], (1, 8, 8)), 2).item(),
        torch.linalg.matrix_norm(dense(net[3], (4, 4, 4)), 2).item(),
        torch.linalg.matrix_norm(net[6].weight, 2).item(),
    ]
    bound = lipschitz_bound(net, input_shape=(64,))
    assert bound == pytest.approx(math.prod(norms), rel=1e-3)
    assert gradient_norm(net, x).max() <= bound
    exact = spectral_normalize(conv_net(), input_shape=(64,))
    assert lipschitz_bound(settle(exact, 1000), input_shape=(64,)) == pytest.approx(1, abs=1e-3)
    with torch.no_grad():
        far = (exact(x) - exact(x.flip(0))).abs()[:, 0] / (x - x.flip(0)).norm(dim=1).clamp(
            min=1e-6
        )
    assert far.max() <= 1


def test_reshaped_kernels_leave_a_convolution_above_one():
    published = spectral_normalize(conv_net())
    assert lipschitz_bound(settle(published), input_shape=(64,)) > 1.2


def test_bounds_reject():
    with pytest.raises(ValueError, match="BatchNorm1d has no known"):
        lipschitz_bound(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    with pytest.raises(ValueError, match="input_shape is None"):
        lipschitz_bound(conv_net())
    with pytest.raises(ValueError, match="no layer with a weight matrix"):
        spectral_normalize(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="n_steps is 0"):
        SpectralNorm(nn.Linear(2, 2), n_steps=0)
    with pytest.raises(ValueError, match=r"bound is 0\.0"):
        SpectralNorm(nn.Linear(2, 2), bound=0.0)
    with pytest.raises(ValueError, match="expected zero padding"):
        SpectralNorm(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), input_shape=(1, 5, 5))


def test_bounds_see_steep_activations_shared_layers_and_skips():
    torch.manual_seed(0)
    layer = nn.Linear(3, 3)
    norm = torch.linalg.matrix_norm(layer.weight, 2).item()
    assert lipschitz_bound(nn.Sequential(layer, nn.LeakyReLU(2.5))) == pytest.approx(2.5 * norm)
    assert lipschitz_bound(nn.Sequential(layer, nn.ELU(3.0))) == pytest.approx(3 * norm)
    assert lipschitz_bound(nn.Sequential(layer, nn.ReLU(), layer)) == pytest.approx(norm**2)
    nested = nn.Sequential(nn.Sequential(layer, nn.ReLU()), layer)
    assert lipschitz_bound(nested) == pytest.approx(norm**2)

    class Skip(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    for net in (Skip(layer), nn.Sequential(Skip(layer)), nn.Sequential(layer, nn.GELU())):
        with pytest.raises(ValueError, match=r"forward pass of its own|no known Lipschitz"):
            lipschitz_bound(net)
