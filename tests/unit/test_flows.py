"""Flows against autograd's Jacobian, numerical integration, slow loops, torch.distributions and SciPy."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import nn
from torch.distributions import MultivariateNormal, Normal, StudentT

from lectool import data, flows, random, train, vae
from lectool.energy import mixture_denoiser, mixture_score
from lectool.flows import (
    ActNorm,
    AdditiveCoupling,
    Affine,
    AffineCoupling,
    Chain,
    ContinuousFlow,
    ContractiveMLP,
    Dequantized,
    Diffusion,
    Flow,
    FlowMatching,
    FlowPrior,
    FlowVAE,
    Inverse,
    InverseAutoregressive,
    InvertibleConv,
    Layer,
    Logit,
    MaskedAutoregressive,
    MaskedMLP,
    Planar,
    Radial,
    ResidualLayer,
    SplineCoupling,
    Split,
    Squeeze,
    TimeNet,
    VariationalNoise,
    VelocityField,
    dopri5,
    jacobian_log_det,
    power_series_log_det,
    rational_quadratic_spline,
    rk4,
)
from lectool.vae.parts import StandardNormal
from lectool.vae.plain import VAE

H = (8, 8)  # widths of small networks

VECTOR_LAYERS = {
    "affine": lambda d: Affine(d),
    "planar": lambda d: Planar(d),
    "radial": lambda d: Radial(d),
    "actnorm": lambda d: ActNorm(d),
    "convolution": lambda d: InvertibleConv(d),
    "logit": lambda d: Logit(0.05),
    "additive": lambda d: AdditiveCoupling(d, hidden=H),
    "additive, swapped": lambda d: AdditiveCoupling(d, hidden=H, swap=True),
    "affine coupling": lambda d: AffineCoupling(d, hidden=H),
    "affine coupling, swapped": lambda d: AffineCoupling(d, hidden=H, swap=True),
    "spline": lambda d: SplineCoupling(d, hidden=H, n_bins=5),
    "spline, swapped": lambda d: SplineCoupling(d, hidden=H, n_bins=3, swap=True, bound=2.0),
    "maf": lambda d: MaskedAutoregressive(d, H),
    "maf, reversed": lambda d: MaskedAutoregressive(d, H, reverse=True),
    "iaf": lambda d: InverseAutoregressive(d, H),
    "continuous": lambda d: ContinuousFlow(VelocityField(d, H), solver="dopri5"),
    "residual": lambda d: ResidualLayer(d, H),
}


def build(make, d, seed, dtype=torch.float64):
    """A layer with random parameters, none of them at a special start."""
    torch.manual_seed(seed)
    layer = make(d).to(dtype)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.2 * torch.randn_like(p))
    layer.eval()
    if isinstance(layer, ResidualLayer):  # power iteration catches up with the new weights
        layer.train()
        for _ in range(60):
            layer.g.weights()
        layer.eval()
    if isinstance(layer, ContinuousFlow):
        layer.tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    return layer


def points(n, d, seed=0, dtype=torch.float64, scale=1.0):
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, d, generator=rng, dtype=torch.float64).to(dtype)


# --------------------------------------------------------------------------- every layer: there and back


@pytest.mark.parametrize("name", VECTOR_LAYERS)
@settings(max_examples=6, deadline=None)
@given(d=st.integers(2, 6), n=st.integers(1, 8), seed=st.integers(0, 999))
def test_inverse_undoes_forward(name, d, n, seed):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        layer, z = build(VECTOR_LAYERS[name], d, seed, dtype), points(n, d, seed, dtype)
        with torch.no_grad():
            x, log_det = layer(z)
            back, log_det_back = layer.inverse(x)
        assert x.dtype == back.dtype == dtype and log_det.shape == log_det_back.shape == (n,)
        assert (back - z).abs().max() < tolerance * max(1, x.abs().max(), (-log_det).exp().max())
        assert (log_det + log_det_back).abs().max() < 20 * tolerance * (1 + log_det.abs().max())


@pytest.mark.parametrize("name", VECTOR_LAYERS)
@settings(max_examples=4, deadline=None)
@given(d=st.integers(2, 4), seed=st.integers(0, 999))
def test_log_determinant_is_that_of_autograds_jacobian(name, d, seed):
    layer, z = build(VECTOR_LAYERS[name], d, seed), points(2, d, seed)
    if name == "continuous":
        layer.tolerance = 1e-10
    tolerance = 1e-8 if name in ("continuous", "residual") else 1e-10
    x, log_det = layer(z)
    torch.testing.assert_close(log_det, jacobian_log_det(layer, z), rtol=0, atol=tolerance)
    back = layer.inverse(x.detach())[1]
    expected = jacobian_log_det(Inverse(layer), x.detach())
    torch.testing.assert_close(back, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", VECTOR_LAYERS)
def test_the_check_accepts_what_is_invertible(name):
    layer = build(VECTOR_LAYERS[name], 3, 0, torch.float32)
    x = layer(points(20, 3, dtype=torch.float32))[0].detach()
    Flow([layer], 3).check(x)


@pytest.mark.parametrize("name", ["maf", "iaf", "planar", "radial", "affine coupling", "spline"])
def test_the_density_can_be_trained_through_the_inverse(name):
    """The gradient of a log-density with respect to x equals the difference quotient."""
    flow = Flow([build(VECTOR_LAYERS[name], 2, 3)], 2)
    x, step = points(4, 2).requires_grad_(), 1e-6
    (slope,) = torch.autograd.grad(flow.log_prob(x).sum(), x)
    for j in range(2):
        e = step * torch.eye(2, dtype=torch.float64)[j]
        quotient = (flow.log_prob(x + e) - flow.log_prob(x - e)) / (2 * step)
        torch.testing.assert_close(slope[:, j], quotient, rtol=1e-5, atol=1e-7)


# -------------------------------------------------------------------------------------- whole densities


WHOLE = {
    "nice": lambda: flows.nice(2, 4, H),
    "realnvp": lambda: flows.realnvp(2, 4, H),
    "spline": lambda: flows.spline_flow(2, 2, H),
    "maf": lambda: flows.maf(2, 2, H),
    "iaf": lambda: flows.iaf(2, 2, H),
    "planar": lambda: Flow([Planar(2) for _ in range(4)], 2),
    "radial": lambda: Flow([Radial(2) for _ in range(4)], 2),
    "linear": lambda: Flow([Affine(2), InvertibleConv(2), ActNorm(2)], 2),
    "continuous": lambda: Flow([ContinuousFlow(VelocityField(2, H))], 2),
    "residual": lambda: Flow([ResidualLayer(2, H) for _ in range(2)], 2),
}


@pytest.mark.parametrize("name", WHOLE)
def test_density_integrates_to_one(name):
    flow = build(lambda d: WHOLE[name](), 2, 1)
    axis = torch.linspace(-12, 12, 241, dtype=torch.float64)
    with torch.no_grad():
        mass = flow.log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * (24 / 240) ** 2
    assert mass.item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", WHOLE)
def test_samples_have_the_density(name):
    """The mean log-density of samples is that of a numerical integral of p log p."""
    flow = build(lambda d: WHOLE[name](), 2, 2)
    torch.manual_seed(0)
    x = flow.sample(4000)
    axis = torch.linspace(-12, 12, 201, dtype=torch.float64)
    with torch.no_grad():
        log_p, on_grid = flow.log_prob(x), flow.log_prob(torch.cartesian_prod(axis, axis))
    expected = (on_grid.exp() * on_grid).sum().item() * (24 / 200) ** 2
    assert log_p.mean().item() == pytest.approx(expected, abs=5 * log_p.std().item() / 4000**0.5)


def test_an_affine_flow_is_a_gaussian():
    layer = build(lambda d: Affine(d), 3, 0)
    x = points(10, 3)
    exact = MultivariateNormal(layer.b.detach(), scale_tril=layer.L.detach()).log_prob(x)
    torch.testing.assert_close(Flow([layer], 3).log_prob(x).detach(), exact)


def test_another_base_takes_the_normals_place():
    base = StudentT(torch.full((2,), 3.0, dtype=torch.float64))
    layer, x = build(lambda d: Affine(d), 2, 0), points(5, 2)
    flow = Flow([layer], 2, base=base)
    z, log_det = layer.inverse(x)
    torch.testing.assert_close(flow.log_prob(x), base.log_prob(z).sum(1) + log_det)
    assert flow.sample(7).shape == (7, 2)


def test_loss_is_the_mean_negative_log_density_in_nats():
    flow, x = flows.realnvp(2, 2, H).double(), points(9, 2)
    torch.testing.assert_close(flow.loss(x), -flow.log_prob(x).mean())


def test_temperature_scales_the_noise():
    flow = Flow([Affine(2)], 2)
    torch.manual_seed(0)
    cold = flow.sample(5000, 0.5)
    assert cold.std().item() == pytest.approx(0.5, rel=0.05)
    assert torch.equal(flow.sample(3, 0.0), torch.zeros(3, 2))


def test_path_stops_after_each_layer():
    flow, z = flows.realnvp(2, 3, H).double(), points(4, 2)
    stops = flow.path(z)
    assert len(stops) == 4 and torch.equal(stops[0], z)
    torch.testing.assert_close(stops[-1], flow(z)[0])


@pytest.mark.parametrize(
    "make", [flows.nice, flows.realnvp, flows.spline_flow, flows.maf, flows.iaf]
)
def test_conditional_flows_depend_on_their_context(make):
    flow = make(3, 2, H, n_context=2)
    x, c = points(6, 3, dtype=torch.float32), points(6, 2, seed=1, dtype=torch.float32)
    log_p = flow.log_prob(x, c)
    assert log_p.shape == (6,) and not torch.allclose(log_p, flow.log_prob(x, c + 1))
    assert flow.sample(6, context=c).shape == (6, 3)
    back = flow(*[flow.inverse(x, c)[0]], c)[0]
    torch.testing.assert_close(back, x, rtol=1e-4, atol=1e-4)
    rows = torch.stack([flow.log_prob(x[i : i + 1], c[i : i + 1])[0] for i in range(6)])
    torch.testing.assert_close(rows, log_p, rtol=1e-4, atol=1e-5)  # each row by itself
    with pytest.raises(ValueError, match="context has 5, x has 6 rows"):
        flow.log_prob(x, c[:5])


def test_a_conditional_flow_learns_what_the_context_says():
    torch.manual_seed(0)
    c = torch.randn(2000, 1)
    x = torch.cat([2 * c, -c], 1) + 0.3 * torch.randn(2000, 2)
    flow = flows.realnvp(2, 4, (16,), n_context=1)
    train.fit(flow, [x, c], steps=150, batch_size=200, lr=2e-2, schedule="linear")
    exact = Normal(torch.cat([2 * c, -c], 1), 0.3).log_prob(x).sum(1).mean().item()
    assert flow.log_prob(x, c).mean().item() == pytest.approx(exact, abs=0.1)


# ----------------------------------------------------------------------------------------- single layers


def test_actnorm_makes_its_first_batch_standard():
    for x in (5 + 3 * points(200, 4), 2 + points(50, 3 * 4 * 4).reshape(50, 3, 4, 4)):
        layer = ActNorm(x.shape[1]).double()
        z, log_det = layer.inverse(x)
        spread = z.transpose(0, 1).flatten(1).std(1, correction=0)
        assert z.mean().abs() < 1e-9 and (spread - 1).abs().max() < 1e-9
        again = layer.inverse(2 * x)[0]
        assert again.std() > 1.5  # the second batch changes nothing
        places = x[0, 0].numel()
        torch.testing.assert_close(log_det, (-places * layer.log_scale.sum()).expand(len(x)))


def test_the_convolution_starts_as_a_rotation_and_mixes_places_alike():
    torch.manual_seed(0)
    layer = InvertibleConv(4).double()
    torch.testing.assert_close(
        layer.W @ layer.W.T, torch.eye(4, dtype=torch.float64), atol=1e-6, rtol=0
    )
    with torch.no_grad():
        layer.log_diagonal.add_(torch.randn(4))
    z = points(3, 4 * 2 * 2).reshape(3, 4, 2, 2)
    x, log_det = layer(z)
    torch.testing.assert_close(x, nn.functional.conv2d(z, layer.W[:, :, None, None]))
    expected = 4 * torch.linalg.slogdet(layer.W).logabsdet
    torch.testing.assert_close(log_det, expected.expand(3))


def test_planar_stays_invertible_whatever_its_parameters():
    layer = Planar(2).double()
    with torch.no_grad():
        layer.free_u.copy_(torch.tensor([-4.0, 1.0]))
        layer.w.copy_(torch.tensor([2.0, 0.5]))
    assert -1 < (layer.u @ layer.w).item() < -0.9  # up to the limit, not beyond
    z = points(200, 2, scale=2.0)
    torch.testing.assert_close(layer.inverse(layer(z)[0])[0], z, atol=1e-8, rtol=0)


def test_radial_stays_invertible_whatever_its_parameters():
    layer = Radial(2).double()
    for beta in (-3.0, 3.0):
        with torch.no_grad():
            layer.free_beta.fill_(beta)
        assert layer.beta > -layer.alpha
        z = points(200, 2, scale=2.0)
        torch.testing.assert_close(layer.inverse(layer(z)[0])[0], z, atol=1e-10, rtol=0)


def test_couplings_leave_one_half_alone():
    z = points(5, 5)
    for make in (AdditiveCoupling, AffineCoupling, SplineCoupling):
        x = make(5, hidden=H).double()(z)[0]
        assert torch.equal(x[:, :3], z[:, :3]) and not torch.equal(x[:, 3:], z[:, 3:])
        x = make(5, hidden=H, swap=True).double()(z)[0]
        assert torch.equal(x[:, 3:], z[:, 3:]) and not torch.equal(x[:, :3], z[:, :3])


@pytest.mark.parametrize("d", [2, 5])
def test_a_coupling_flow_is_the_chain_of_its_couplings(d):
    z, c = points(5, d), points(5, 2, seed=1)
    for make in (flows.realnvp, flows.spline_flow):
        fast = make(d, 3, H, n_context=2).double()
        slow = Chain(fast.layers)
        torch.testing.assert_close(fast(z, c), slow(z, c))
        torch.testing.assert_close(fast.inverse(z, c), slow.inverse(z, c))


def test_additive_couplings_keep_volume():
    z = points(5, 4)
    assert torch.equal(AdditiveCoupling(4).double()(z)[1], torch.zeros(5, dtype=torch.float64))


# -------------------------------------------------------------------------------------------- splines


@settings(max_examples=20, deadline=None)
@given(
    K=st.integers(1, 8), bound=st.floats(0.5, 5, allow_subnormal=False), seed=st.integers(0, 999)
)
def test_spline_rises_meets_its_knots_and_comes_back(K, bound, seed):
    parameters = 2 * points(1, 3 * K - 1, seed)
    x = torch.linspace(-1.5 * bound, 1.5 * bound, 301, dtype=torch.float64)
    y, log_slope = rational_quadratic_spline(x, parameters.expand(301, -1), bound=bound)
    assert (y.diff() > 0).all()
    outside = x.abs() >= bound
    assert torch.equal(y[outside], x[outside]) and (log_slope[outside] == 0).all()
    back, log_slope_back = rational_quadratic_spline(
        y, parameters.expand(301, -1), bound=bound, inverse=True
    )
    torch.testing.assert_close(back, x, atol=1e-9, rtol=0)
    torch.testing.assert_close(log_slope_back, -log_slope, atol=1e-7, rtol=0)
    sizes = parameters[0, : 2 * K].reshape(2, K).softmax(1) * (1 - 1e-3 * K) + 1e-3
    knots = (sizes.cumsum(1) * 2 - 1) * bound
    at_knots = rational_quadratic_spline(knots[0, :-1], parameters.expand(K - 1, -1), bound=bound)[
        0
    ]
    torch.testing.assert_close(at_knots, knots[1, :-1])


def test_spline_data_far_outside_the_box_keep_a_density():
    flow = flows.spline_flow(2, 2, H)
    x = torch.tensor([[50.0, -70.0]])
    z, log_det = flow.inverse(x)
    assert log_det.isfinite().all()
    torch.testing.assert_close(flow(z)[0], x)


# --------------------------------------------------------------------------------- autoregressive layers


@settings(max_examples=10, deadline=None)
@given(d=st.integers(1, 6), reverse=st.booleans(), seed=st.integers(0, 99))
def test_masked_outputs_see_only_what_comes_before(d, reverse, seed):
    torch.manual_seed(seed)
    net = MaskedMLP(d, (16, 16), 2, reverse=reverse).double()
    J = torch.autograd.functional.jacobian(lambda x: net(x[None])[0], points(1, d, seed)[0])
    for block in J.chunk(2):
        ordered = block.flip(0, 1) if reverse else block
        assert torch.equal(ordered.triu(), torch.zeros(d, d, dtype=torch.float64))
    if d > 1:
        assert (J != 0).any()


@settings(max_examples=8, deadline=None)
@given(d=st.integers(2, 5), reverse=st.booleans(), seed=st.integers(0, 99))
def test_sampling_of_maf_and_density_of_iaf_agree_with_the_slow_loops(d, reverse, seed):
    torch.manual_seed(seed)
    order = range(d)[::-1] if reverse else range(d)
    for kind in (MaskedAutoregressive, InverseAutoregressive):
        layer, given_ = kind(d, H, reverse=reverse).double(), points(4, d, seed)
        found, log_det = (layer.forward if kind is MaskedAutoregressive else layer.inverse)(given_)
        slow, total = torch.zeros(4, d, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
        for j in order:  # one number after another, each from those that are known by then
            s, t = layer.scale_and_shift(slow)
            slow[:, j] = ((given_[:, j] - t[:, j]) * (-s[:, j]).exp()).detach()
            total -= s[:, j].detach()
        torch.testing.assert_close(found, slow)
        torch.testing.assert_close(log_det, total)


# ----------------------------------------------------------------------------------- continuous flows


def test_rk4_is_of_fourth_order():
    y0 = torch.ones(1, 1, dtype=torch.float64)
    errors = [
        abs(rk4(lambda t, y: y * math.cos(t), y0, 0.0, 1.5, n).item() - math.exp(math.sin(1.5)))
        for n in (10, 20)
    ]
    assert 12 < errors[0] / errors[1] < 20


def test_dopri5_agrees_with_scipy_and_works_less_for_less():
    def f(t, y):
        return torch.stack([y[:, 1], (1 - y[:, 0] ** 2) * y[:, 1] - y[:, 0]], 1)  # van der Pol

    def g(t, y):
        return [y[1], (1 - y[0] ** 2) * y[1] - y[0]]

    y0 = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    exact = solve_ivp(g, (0, 5), [2.0, 0.0], rtol=1e-11, atol=1e-11).y[:, -1]
    costs = []
    for tolerance in (1e-4, 1e-8):
        y, n_evaluations = dopri5(f, y0, 0.0, 5.0, tolerance=tolerance)
        costs.append(n_evaluations)
        np.testing.assert_allclose(y[0].numpy(), exact, atol=30 * tolerance)
    assert costs[0] < costs[1]
    back = dopri5(f, y, 5.0, 0.0, tolerance=1e-10)[0]
    np.testing.assert_allclose(back[0].numpy(), y0[0].numpy(), atol=1e-5)


def test_divergence_is_the_trace_of_the_jacobian_and_hutchinson_is_unbiased():
    torch.manual_seed(0)
    field, x = VelocityField(3, H, n_context=2).double(), points(5, 3)
    c, t = points(5, 2, seed=1), torch.rand(5, dtype=torch.float64)
    v, divergence = field.with_divergence(t, x, torch.eye(3).double().expand(5, 3, 3), c)
    torch.testing.assert_close(v, field(t, x, c))
    for i in range(5):
        J = torch.autograd.functional.jacobian(
            lambda row, i=i: field(t[i], row[None], c[i : i + 1])[0], x[i]
        )
        torch.testing.assert_close(divergence[i], J.trace())
    probes = 2 * torch.randint(2, (1000, 5, 1, 3)).double() - 1
    estimates = torch.stack([field.with_divergence(t, x, p, c)[1] for p in probes]).detach()
    error = (estimates.mean(0) - divergence).abs() / (estimates.std(0) / 1000**0.5)
    assert error.max() < 4.5


def test_hutchinson_estimates_in_training_and_is_exact_afterwards():
    torch.manual_seed(0)
    field, z = VelocityField(4, H).double(), points(3, 4)
    layer, exact = ContinuousFlow(field, trace="hutchinson"), ContinuousFlow(field)
    x, truth = exact(z)
    assert not torch.allclose(layer(z)[1], truth)
    torch.testing.assert_close(layer(z)[0], x)  # the path itself needs no trace
    torch.testing.assert_close(layer.eval()(z)[1], truth)


def test_both_solvers_give_the_same_flow():
    torch.manual_seed(0)
    field, z = VelocityField(2, H).double(), points(6, 2)
    x, log_det = ContinuousFlow(field, n_steps=60)(z)
    adaptive = ContinuousFlow(field, solver="dopri5", tolerance=1e-10)
    x_too, log_det_too = adaptive(z)
    torch.testing.assert_close(x, x_too, atol=1e-7, rtol=0)
    torch.testing.assert_close(log_det, log_det_too, atol=1e-7, rtol=0)
    assert adaptive.n_evaluations > 6


# --------------------------------------------------------------------------------------- residual flows


@settings(max_examples=10, deadline=None)
@given(c=st.floats(0.1, 0.95, allow_subnormal=False), seed=st.integers(0, 99))
def test_contractive_nets_contract(c, seed):
    torch.manual_seed(seed)
    net = ContractiveMLP([3, 8, 8, 3], c).double()
    with torch.no_grad():
        for layer in net.layers:
            layer.weight.mul_(10)
    for _ in range(60):
        net.weights()
    product = math.prod(torch.linalg.matrix_norm(W, 2).item() for W in net.weights())
    assert product == pytest.approx(c, rel=0.01)
    a, b = points(50, 3, seed), points(50, 3, seed + 1)
    assert ((net(a) - net(b)).norm(dim=1) <= 1.01 * c * (a - b).norm(dim=1)).all()


def test_the_power_series_meets_the_determinant():
    torch.manual_seed(0)
    J = 0.3 * torch.randn(4, 3, 3, dtype=torch.float64)
    J = 0.6 * J / torch.linalg.matrix_norm(J, 2)[:, None, None].clamp(min=0.6)
    traces = torch.stack(
        [torch.linalg.matrix_power(J, k).diagonal(dim1=1, dim2=2).sum(1) for k in range(1, 60)]
    )
    exact = torch.linalg.slogdet(torch.eye(3) + J).logabsdet
    torch.testing.assert_close(power_series_log_det(traces), exact)
    rest = (power_series_log_det(traces[:4]) - exact).abs().max()
    assert 1e-6 < rest < 3 * 0.6**5 / (5 * 0.4)


def test_residual_layers_series_and_probe_meet_the_determinant():
    torch.manual_seed(0)
    exact, x = ResidualLayer(3, H, c=0.7).double().eval(), points(3, 3)
    truth = exact.inverse(x)[1]
    series = ResidualLayer(3, H, c=0.7, n_terms=40).double().eval()
    series.load_state_dict(exact.state_dict())
    torch.testing.assert_close(series.inverse(x)[1], truth, atol=1e-7, rtol=0)
    J = torch.stack(
        [torch.autograd.functional.jacobian(lambda v: exact.g(v[None])[0], v) for v in x]
    )
    trace, trace_of_square = (P.diagonal(dim1=1, dim2=2).sum(1) for P in (J, J @ J))
    for n_terms, expected in ((1, trace), (2, trace - trace_of_square / 2)):
        series.n_terms = n_terms
        torch.testing.assert_close(series.inverse(x)[1], expected)
    probing = ResidualLayer(3, H, c=0.7, n_terms=12, probe=True).double()
    probing.load_state_dict(exact.state_dict())
    many = probing.inverse(x.repeat(3000, 1))[1].reshape(3000, 3).detach()
    assert ((many.mean(0) - truth).abs() < 5 * many.std(0) / 3000**0.5 + 1e-3).all()


# ---------------------------------------------------------------------------------------------- images


def images(n, c, h, w, seed=0, dtype=torch.float64):
    return torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(seed)).to(dtype)


@settings(max_examples=6, deadline=None)
@given(c=st.integers(1, 2), h=st.sampled_from([4, 8]), n=st.integers(1, 3), seed=st.integers(0, 99))
def test_glow_is_invertible(c, h, n, seed):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        flow = build(lambda d, h=h: flows.glow((d, h, 4), n_steps=2, n_hidden=4), c, seed, dtype)
        x = 0.05 + 0.9 * images(n, c, h, 4, seed, dtype)
        with torch.no_grad():
            z, log_det = flow.inverse(x)
            back, log_det_back = flow(z)
            nearby = flow(z * (1 + 2 * torch.finfo(dtype).eps))[0]
        assert z.shape == x.shape and log_det.shape == (n,)
        # Some random weights stretch z's last digit by a thousand times; only that much is allowed for.
        stretched = (nearby - back).abs().max()
        assert (back - x).abs().max() < 10 * tolerance + 20 * stretched
        assert (log_det + log_det_back).abs().max() < 100 * tolerance * (1 + log_det.abs().max())
        flow.check(x, tolerance=1e-3)


def test_glows_log_determinant_is_that_of_autograds_jacobian():
    flow = build(lambda d: flows.glow((d, 4, 4), n_steps=2, n_hidden=4), 1, 0)
    x = 0.05 + 0.9 * images(2, 1, 4, 4)
    torch.testing.assert_close(flow.inverse(x)[1], jacobian_log_det(Inverse(flow), x))


def test_squeeze_makes_each_block_a_pixel():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    z, log_det = Squeeze()(x)
    assert z.shape == (1, 4, 2, 2) and log_det.tolist() == [0]
    assert z[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert torch.equal(Squeeze().inverse(z)[0], x)


def test_split_sends_only_the_first_half_on():
    layer, x = Split(Logit(0.1)), images(2, 4, 2, 2)
    z, log_det = layer.inverse(x)
    assert torch.equal(z[:, 2:], x[:, 2:]) and not torch.equal(z[:, :2], x[:, :2])
    torch.testing.assert_close(log_det, Logit(0.1).inverse(x[:, :2])[1])


def gray(n, levels=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(levels, (n, 1, 4, 4), generator=rng).float()


def test_dequantised_bound_is_below_the_true_probability():
    """A flow on one 2 × 2 image of two levels: the bound's total over all images is at most one."""
    torch.manual_seed(0)
    flow = flows.glow((1, 4, 4), n_scales=1, n_steps=1, n_hidden=4)
    model = Dequantized(flow, 2)
    x = gray(1, 2)
    y = (x + torch.rand(4000, 1, 4, 4)) / 2
    with torch.no_grad():
        exact = flow.log_prob(y).logsumexp(0) - math.log(4000) - 16 * math.log(2)
        bound = model.log_prob(x.expand(4000, -1, -1, -1)).mean()
    assert bound < exact


def test_learned_noise_is_paid_for_by_its_own_density():
    """The estimate is log p(y) − log q(u | x) − d log levels, for the very noise that was drawn."""
    torch.manual_seed(0)
    model = Dequantized(flows.glow((1, 4, 4), n_steps=1, n_hidden=4), 4, VariationalNoise(1, 4, 4))
    x = gray(5)
    torch.manual_seed(1)
    found = model.log_prob(x)
    torch.manual_seed(1)
    u, log_q = model.noise(x)
    model.eval()
    expected = model.flow.log_prob((x + u) / 4) - log_q - 16 * math.log(4)
    torch.testing.assert_close(found, expected)


def test_a_pixel_belongs_to_the_level_below_it():
    class Known(Flow):
        def sample(self, n, temperature=1.0, *, context=None, generator=None):
            return torch.tensor([0.0, 0.24, 0.26, 0.99, 1.0, -0.01]).reshape(1, 1, 2, 3)

    drawn = Dequantized(Known([Logit()], (1, 2, 3)), 4).sample(1)
    assert drawn.flatten().tolist() == [0, 0, 1, 3, 3, 0]


def test_each_scale_leaves_half_of_its_channels_behind():
    for n_scales, channels in ((1, [4]), (3, [16, 8, 4])):  # the innermost scale stands first
        flow = flows.glow((1, 8, 8), n_scales=n_scales, n_steps=1, n_hidden=4)
        found = [len(m.sign) for m in flow.modules() if isinstance(m, InvertibleConv)]
        assert found == channels


def test_uniform_dequantisation_of_a_uniform_density_is_exact():
    class Uniform(Flow):
        def log_prob(self, x, context=None):
            return x.new_zeros(len(x))

    model = Dequantized(Uniform([Logit()], (1, 4, 4)), 4)
    torch.testing.assert_close(model.bits(gray(3)), torch.full((3,), 2.0))  # log2 of 4 levels


def test_variational_noise_has_the_density_that_it_reports():
    """E_q[1 / q(u)] over the unit cube is its volume, 1; here pixel by pixel, without couplings."""
    torch.manual_seed(0)
    noise = VariationalNoise(1, 4, n_hidden=4, n_layers=0)
    with torch.no_grad():
        noise.start[-1].bias.normal_(0, 0.3)
    x = gray(1).expand(20000, -1, -1, -1)[:, :, :2, :2]
    with torch.no_grad():
        u, log_q = noise(x)
    assert 0 < u.min() and u.max() < 1
    inside = ((u > 0.2) & (u < 0.8)).all(3).all(2).all(1)  # where 1 / q has a variance
    weights = torch.where(inside, (-log_q).exp(), 0.0)
    assert weights.mean().item() == pytest.approx(0.6**4, abs=5 * weights.std().item() / 20000**0.5)
    coupled = VariationalNoise(1, 4, n_hidden=4, n_layers=2)
    with torch.no_grad():
        for p in coupled.parameters():
            p.add_(0.2 * torch.randn_like(p))
        u, log_q = coupled(x)
    inside = ((u > 0.2) & (u < 0.8)).all(3).all(2).all(1)
    weights = torch.where(inside, (-log_q).exp(), 0.0)
    assert weights.mean().item() == pytest.approx(0.6**4, abs=5 * weights.std().item() / 20000**0.5)


def test_dequantised_samples_are_whole_and_training_helps():
    torch.manual_seed(0)
    x = (gray(64, 4) > 1).float() * 3
    model = Dequantized(flows.glow((1, 4, 4), n_steps=1, n_hidden=8), 4, VariationalNoise(1, 4, 4))
    model.loss(x)  # sets actnorm
    before = model.bits(x).mean().item()
    history = train.fit(model, x, steps=30, batch_size=64, lr=5e-3)
    assert history["bits"][-1] < before
    assert history["loss"][-1] == pytest.approx(history["bits"][-1] * math.log(2), rel=1e-5)
    drawn = model.sample(5)
    assert torch.equal(drawn, drawn.round()) and 0 <= drawn.min() and drawn.max() <= 3


# ------------------------------------------------------------------------------- posterior of a VAE


def small_vae(flow=None, n=2):
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(4, 2 * n), nn.Linear(n, 4)
    if flow is None:
        return VAE(encoder, decoder, StandardNormal(n), likelihood="gaussian").double()
    return FlowVAE(encoder, decoder, StandardNormal(n), flow=flow, likelihood="gaussian").double()


def test_flow_vae_with_an_identity_flow_is_the_plain_vae():
    x = points(6, 4)
    plain, bent = small_vae(), small_vae(Affine(2))
    for k in (1, 5):
        a = plain.log_weights(x, k, generator=torch.Generator().manual_seed(1))
        b = bent.log_weights(x, k, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(a, b)
    torch.manual_seed(0)
    kl = torch.stack([bent.terms(x)[1].sum(1) for _ in range(400)]).detach()
    exact = plain.terms(x)[1].sum(1).detach()
    assert ((kl.mean(0) - exact).abs() < 5 * kl.std(0) / 400**0.5).all()


def test_flow_posterior_reports_the_density_of_its_draws():
    model = small_vae(flows.iaf(2, 2, H, n_context=4))
    q = model.encode(points(6, 4))
    z, log_q = q.sample_with_log_prob(3)
    assert z.shape == (3, 6, 2) and log_q.shape == (3, 6) and q.mean.shape == (6, 2)
    torch.testing.assert_close(q.log_prob(z), log_q)
    axis = torch.linspace(-8, 8, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    mass = q.log_prob(grid[:, None].expand(-1, 6, 2)).exp().sum(0) * (16 / 200) ** 2
    torch.testing.assert_close(mass, torch.ones_like(mass), atol=0.01, rtol=0)


def test_flow_vae_bounds_grow_with_the_number_of_draws():
    model, x = small_vae(flows.iaf(2, 2, H, n_context=4)), points(50, 4)
    torch.manual_seed(1)
    train.fit(model, x, steps=5)
    one, many = (model.elbo(x.repeat(20, 1), k).mean().item() for k in (1, 50))
    assert one < many


# ---------------------------------------------------------------------- flow matching and diffusion


def test_flow_matching_of_a_gaussian_finds_the_known_field():
    """Between N(0, I) and N(m, s²): E[x − ε | x_t] = m + (t s² − (1 − t)) / ((1 − t)² + t² s²) (x_t − t m)."""
    torch.manual_seed(0)
    m, s = 1.0, 0.5
    model = FlowMatching(VelocityField(1, (32, 32)), 1)
    x = m + s * torch.randn(5000, 1)
    train.fit(model, x, steps=500, batch_size=500, lr=1e-2, schedule="linear")
    t = torch.full((9,), 0.5)
    x_t = torch.linspace(-0.3, 1.3, 9)[:, None]
    slope = (0.5 * s**2 - 0.5) / (0.25 + 0.25 * s**2)
    exact = m + slope * (x_t - 0.5 * m)
    error = (model.field(t, x_t) - exact).abs()
    assert error.mean() < 0.1 and error.max() < 0.25  # the ends lie two standard deviations out
    drawn = model.sample(4000)
    assert drawn.mean().item() == pytest.approx(m, abs=0.06)
    assert drawn.std().item() == pytest.approx(s, abs=0.06)


class Exact(nn.Module):
    """The best guess of v for a mixture of Gaussians, by its known score."""

    def __init__(self, means, sd, n_steps):
        super().__init__()
        self.means, self.sd, self.n_steps = nn.Parameter(means), sd, n_steps

    def forward(self, t, x):
        bar = self.model[0].alpha_bar[round(float(torch.as_tensor(t).max()) * self.n_steps) - 1]
        spread = (bar * self.sd**2 + 1 - bar).sqrt().item()
        epsilon = -(1 - bar).sqrt() * mixture_score(x, bar.sqrt() * self.means, spread)
        return (epsilon - (1 - bar).sqrt() * x) / bar.sqrt()


def test_diffusion_with_the_exact_score_denoises_and_samples_exactly():
    torch.manual_seed(0)
    means, sd, T = torch.tensor([[2.0, 0.0], [-2.0, 1.0]]), 0.3, 200
    net = Exact(means, sd, T)
    model = Diffusion(net, 2, T)
    net.model = [model]
    x_t, t = torch.randn(7, 2), 60
    bar = model.alpha_bar[t - 1]
    with torch.no_grad():
        guess = model.denoise(x_t, t)
    tweedie = (x_t + (1 - bar) * model.score(x_t, t).detach()) / bar.sqrt()
    torch.testing.assert_close(guess, tweedie, atol=1e-4, rtol=1e-4)
    sigma = ((1 - bar) / bar).sqrt().item()
    exact = mixture_denoiser(x_t / bar.sqrt(), means, sd, sigma)
    torch.testing.assert_close(guess, exact, atol=1e-4, rtol=1e-4)
    x = model.sample(4000)
    nearest = torch.cdist(x, means).argmin(1)
    assert nearest.float().mean().item() == pytest.approx(0.5, abs=0.04)
    for k in (0, 1):
        part = x[nearest == k]
        assert (part.mean(0) - means[k]).abs().max() < 0.04
        assert (part.std(0) - sd).abs().max() < 0.03


def test_diffusion_learns_the_score_of_a_gaussian():
    """For x ~ N(0, s²) the noised data are N(0, ᾱ s² + 1 − ᾱ), and their score is linear."""
    torch.manual_seed(0)
    model, s = Diffusion(TimeNet(1, 32), 1, 20), 0.5
    train.fit(
        model, s * torch.randn(5000, 1), steps=300, batch_size=250, lr=1e-2, schedule="linear"
    )
    x_t, bar = torch.linspace(-1, 1, 9)[:, None], model.alpha_bar[9]
    exact = -x_t / (bar * s**2 + 1 - bar)
    assert (model.score(x_t, 10) - exact).abs().max() < 0.25


def test_diffusion_noise_keeps_to_its_schedule():
    model = Diffusion(TimeNet(2, 8), 2, 20)
    assert model.alpha_bar[-1] < 0.01 and model.alpha_bar[0] > 0.98
    x, t = torch.full((5000, 2), 3.0), torch.full((5000,), 10)
    x_t = model.add_noise(x, t, torch.randn(5000, 2))
    bar = model.alpha_bar[9]
    assert x_t.mean().item() == pytest.approx(3 * bar.sqrt().item(), abs=0.05)
    assert x_t.var().item() == pytest.approx(1 - bar.item(), abs=0.03)
    states = model.sample(4, path=True, clip=(-1, 1))
    assert len(states) == 21 and states[-1].abs().max() <= 1


def test_diffusion_steps_back_through_the_states_it_came_by():
    """With the clean x known, the state after t steps is N(√ᾱ x, 1 − ᾱ) on the way back too."""
    bars = [0.9, 0.6, 0.3, 0.1, 1e-6]
    model = Diffusion(TimeNet(1, 8), 1, 5, bars)
    rng = torch.Generator().manual_seed(0)
    states = model.sample(40000, clip=(0.7, 0.7), generator=rng, path=True)  # each guess is 0.7
    for state, bar in zip(states, [*bars[::-1], 1.0], strict=True):
        assert state.mean().item() == pytest.approx(0.7 * bar**0.5, abs=0.02)
        assert state.var().item() == pytest.approx(1 - bar, abs=0.02)


def test_losses_of_fields_are_summed_over_the_numbers():
    class Zero(TimeNet):
        def forward(self, t, x):
            return 0 * x

    torch.manual_seed(0)
    x = torch.full((20000, 3), 2.0)
    assert FlowMatching(Zero(3, 8), 3).loss(x).item() == pytest.approx(3 * (4 + 1), rel=0.02)
    even = Diffusion(Zero(3, 8), 3, 2, [0.5001, 0.4999])
    assert even.loss(x).item() == pytest.approx(3 * (0.5 + 0.5 * 4), rel=0.02)


def test_the_noisy_input_has_a_way_past_the_hidden_layers():
    torch.manual_seed(0)
    net = TimeNet(2, 8)
    nn.init.zeros_(net.leave.weight)
    nn.init.zeros_(net.leave.bias)
    x = torch.randn(5, 2)
    ratio = net(0.3, x) / x
    torch.testing.assert_close(ratio, ratio[:1, :1].expand(5, 2))
    assert not torch.isclose(ratio[0, 0], (net(0.8, x) / x)[0, 0])


# ------------------------------------------------------------------------------------------- bad input


class Fold(Layer):
    """Not invertible: both signs go to one."""

    def forward(self, z, context=None):
        return z.abs(), z.new_zeros(len(z))

    def inverse(self, x, context=None):
        return x, x.new_zeros(len(x))


class Liar(Layer):
    """Invertible, with a wrong log-determinant one way."""

    def forward(self, z, context=None):
        return 2 * z, z.new_zeros(len(z))

    def inverse(self, x, context=None):
        return x / 2, x.new_full((len(x),), -2 * math.log(2))


def test_the_check_rejects_a_layer_that_cannot_be_undone():
    x = points(10, 2)
    with pytest.raises(ValueError, match="layer 1, Fold, is not invertible"):
        Flow([Affine(2).double(), Fold()], 2).check(x)
    with pytest.raises(ValueError, match="layer 0, Liar, has log-determinants"):
        Flow([Liar()], 2).check(x)

    class Endless(Layer):
        def inverse(self, x, context=None):
            return x / 0, x.new_zeros(len(x))

        def forward(self, z, context=None):
            return z, z.new_zeros(len(z))

    with pytest.raises(ValueError, match="layer 0, Endless, gives values that are not finite"):
        Flow([Endless()], 2).check(x)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Chain([]), "layers is empty"),
        (lambda: Flow([Affine(2)], 0), r"shape is \(0,\)"),
        (lambda: Flow([Affine(2)], 2).log_prob(torch.ones(3, 3)), r"expected \(n, 2\)"),
        (lambda: Flow([Affine(2)], 2).log_prob(torch.full((3, 2), math.nan)), "NaN"),
        (lambda: Flow([Affine(2)], 2).log_prob(torch.ones(0, 2)), "empty"),
        (lambda: Flow([Affine(2)], 2).sample(0), "(n is 0|temperature is -1)"),
        (lambda: Flow([Affine(2)], 2).sample(3, -1.0), "(n is 0|temperature is -1)"),
        (lambda: AffineCoupling(1), "d is 1"),
        (lambda: flows.CouplingFlow([Affine(2)], 2), "couplings only"),
        (
            lambda: flows.CouplingFlow([AffineCoupling(2), AffineCoupling(3)], 2),
            r"sizes are \[2, 3\]",
        ),
        (lambda: SplineCoupling(2, n_bins=0), "n_bins is 0"),
        (lambda: SplineCoupling(2, bound=0.0), r"bound is 0\.0"),
        (lambda: rational_quadratic_spline(torch.ones(2), torch.ones(2, 4)), "3K − 1"),
        (lambda: MaskedMLP(0), "d is 0"),
        (lambda: Logit(0.5), "alpha is 0.5"),
        (lambda: Squeeze()(torch.ones(1, 1, 3, 4)), "h and w even"),
        (lambda: Squeeze().inverse(torch.ones(1, 3, 2, 2)), "multiple of 4"),
        (lambda: Split(Logit())(torch.ones(1, 3, 2, 2)), "3 channels; expected an even"),
        (lambda: flows.glow((1, 30, 30)), "sides divisible by 4"),
        (lambda: Dequantized(flows.glow(), 1), "levels is 1"),
        (
            lambda: Dequantized(flows.glow(), 4).loss(torch.full((1, 1, 28, 28), 0.5)),
            "784 values that are not whole",
        ),
        (
            lambda: Dequantized(flows.glow(), 4).loss(torch.full((1, 1, 28, 28), 4.0)),
            r"expected \[0, 3\]",
        ),
        (
            lambda: ContinuousFlow(VelocityField(2), trace="none"),
            "(trace is 'none'|solver is 'euler'); it can be",
        ),
        (
            lambda: ContinuousFlow(VelocityField(2), solver="euler"),
            "(trace is 'none'|solver is 'euler'); it can be",
        ),
        (lambda: rk4(lambda t, y: y, torch.ones(1, 1), 0.0, 1.0, 0), "n_steps is 0"),
        (
            lambda: dopri5(lambda t, y: y, torch.ones(1, 1), 0.0, 1.0, tolerance=0.0),
            "tolerance is 0",
        ),
        (lambda: ContractiveMLP([2, 2], 1.0), "c is 1.0"),
        (lambda: ResidualLayer(2, n_terms=0), "n_terms is 0"),
        (lambda: Diffusion(TimeNet(2), 2, 1), "n_steps is 1"),
        (lambda: Diffusion(TimeNet(2), 2, 3, [0.9, 0.95, 0.1]), "falling"),
        (lambda: TimeNet(0), "d is 0"),
        (lambda: data.two_moons(0), "n is 0"),
        (lambda: data.two_moons_log_prob(torch.ones(1, 2), noise=0.0), r"noise is 0\.0"),
    ],
)
def test_bad_input_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_field_too_stiff_is_given_up():
    with pytest.raises(RuntimeError, match="no end after 5 steps"):
        dopri5(lambda t, y: -1e4 * y, torch.ones(1, 1), 0.0, 1.0, max_steps=5)


# ------------------------------------------------------------------------------------------- hard cases


@pytest.mark.parametrize(
    "base",
    [
        torch.distributions.MultivariateNormal(
            torch.tensor([1.0, -2.0]), torch.diag(torch.tensor([4.0, 0.25]))
        ),
        torch.distributions.Independent(
            torch.distributions.Laplace(torch.zeros(2), torch.ones(2)), 1
        ),
        torch.distributions.Laplace(torch.zeros(2), torch.ones(2)),
        torch.distributions.Laplace(0.0, 1.0),
        torch.distributions.Normal(torch.zeros(1), torch.ones(1)),
    ],
)
def test_any_density_of_the_right_shape_is_a_base(base):
    torch.manual_seed(0)
    flow = flows.Flow([flows.Affine(2)], 2, base=base)
    with torch.no_grad():
        flow.layers[0].b.copy_(torch.tensor([0.5, 0.5]))
        flow.layers[0].log_diagonal.copy_(torch.tensor([0.3, -0.2]))
    x = flow.sample(50, generator=torch.Generator().manual_seed(1))
    again = flow.sample(50, generator=torch.Generator().manual_seed(1))
    other = flow.sample(50, generator=torch.Generator().manual_seed(2))
    assert x.shape == (50, 2) and torch.equal(x, again) and not torch.equal(x, other)
    z = (x - 0.5) * torch.exp(-torch.tensor([0.3, -0.2]))
    expected = base.log_prob(z).reshape(50, -1).sum(1) - 0.1
    torch.testing.assert_close(flow.log_prob(x), expected)


def test_a_generator_does_not_disturb_the_global_source():
    flow = flows.Flow([flows.Affine(2)], 2, base=torch.distributions.Laplace(0.0, 1.0))
    state = torch.get_rng_state()
    flow.sample(3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "base",
    [
        torch.distributions.Bernoulli(torch.tensor(0.5)),
        torch.distributions.Normal(torch.zeros(3), torch.ones(3)),
        torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3)),
        "normal",
    ],
)
def test_a_base_that_does_not_fit_is_refused(base):
    with pytest.raises(ValueError, match=r"^base "):
        flows.Flow([flows.Affine(2)], 2, base=base)


@pytest.mark.parametrize("value", [-0.5, 1.5, 255.0])
def test_glow_refuses_pixels_outside_of_its_range(value):
    model = flows.glow((1, 8, 8), n_scales=1, n_steps=1, n_hidden=4)
    x = torch.rand(3, 1, 8, 8)
    x[1, 0, 2, 2] = value
    with pytest.raises(ValueError, match=r"x lies in .*; expected pixels in \[0, 1\]"):
        model.loss(x)


@pytest.mark.parametrize("x", [torch.randn(1, 3), torch.ones(5, 3), torch.zeros(5, 3)])
def test_actnorm_survives_a_batch_without_spread(x):
    layer = flows.ActNorm(3).train()
    z, log_det = layer.inverse(x)
    assert z.isfinite().all() and z.abs().max() < 1e-6 and (log_det == 0).all()
    torch.testing.assert_close(layer(z)[0], x)


@pytest.mark.parametrize("make", [flows.Planar, flows.Radial])
@pytest.mark.parametrize("size", [-1e3, -30.0, 0.0, 30.0, 1e3])
def test_planar_and_radial_layers_at_the_edge(make, size):
    torch.manual_seed(0)
    layer = make(2).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.fill_(size)
    z = torch.cat([torch.randn(20, 2), torch.zeros(1, 2), torch.full((1, 2), size)]).double()
    x, log_det = layer(z)
    assert x.isfinite().all() and log_det.isfinite().all()
    layer.inverse(x.detach())[1].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


def test_the_spline_has_gradients_on_its_bound():
    parameters = torch.randn(5, 23, dtype=torch.float64, requires_grad=True)
    for at in (-3.0, 3.0):
        for inverse in (False, True):
            x = torch.full((5,), at, dtype=torch.float64, requires_grad=True)
            y, log_slope = flows.rational_quadratic_spline(x, parameters, inverse=inverse)
            grads = torch.autograd.grad((y + log_slope).sum(), [x, parameters], allow_unused=True)
            assert all(g.isfinite().all() for g in grads if g is not None)
            torch.testing.assert_close(y, x)


def test_no_time_takes_no_steps():
    y, n = flows.dopri5(lambda t, y: y, torch.ones(2, 1), 0.5, 0.5)
    assert torch.equal(y, torch.ones(2, 1)) and n == 1


def test_types_that_do_not_fit_get_a_sentence():
    with pytest.raises(
        ValueError, match=r"x is torch.float64, the parameters of CouplingFlow are torch.float32"
    ):
        flows.realnvp(2, 2).log_prob(torch.zeros(3, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"x is torch.float16; expected a float32 or float64"):
        flows.realnvp(2, 2).log_prob(torch.zeros(3, 2, dtype=torch.float16))


def test_settings_without_use_are_refused():
    with pytest.raises(ValueError, match="beside a network"):
        flows.AffineCoupling(2, nn.Linear(1, 2), hidden=(8, 8))
    layer = flows.AffineCoupling(2)
    with pytest.raises(ValueError, match="n_context = 0"):
        layer(torch.zeros(3, 2), torch.zeros(3, 1))


def test_the_way_back_is_bayes_rule():
    r"""q(x_{t-1} | x_t, x) by its density on a grid: prior N(√ᾱ_{t-1} x, 1 − ᾱ_{t-1}) times one step's noise."""
    model = flows.Diffusion(
        flows.TimeNet(1, 4, 1), 1, n_steps=5, alpha_bar=[0.9, 0.7, 0.5, 0.3, 0.1]
    )
    x, x_t = torch.tensor([[0.8]]), torch.tensor([[-0.4]])
    mean, variance = model.step_back(x_t, x, 3)
    grid = torch.linspace(-6, 6, 20001)
    log_p = torch.distributions.Normal(0.7**0.5 * 0.8, 0.3**0.5).log_prob(grid)
    log_p = log_p + torch.distributions.Normal(
        (0.5 / 0.7) ** 0.5 * grid, (1 - 0.5 / 0.7) ** 0.5
    ).log_prob(x_t[0, 0])
    p = log_p.softmax(0)
    assert mean.item() == pytest.approx((p * grid).sum().item(), abs=1e-4)
    assert variance.item() == pytest.approx((p * (grid - mean.item()) ** 2).sum().item(), abs=1e-4)


def test_a_flow_that_moves_nothing_is_the_standard_normal_prior():
    flow = flows.realnvp(2, 2)
    for layer in flow.layers:
        torch.nn.init.zeros_(layer.net[-1].weight), torch.nn.init.zeros_(layer.net[-1].bias)
    prior, q = FlowPrior(flow), vae.DiagonalGaussian(torch.randn(5000, 4))
    plain = StandardNormal(2)
    z = torch.randn(3, 7, 2)
    torch.testing.assert_close(prior.log_prob(z), plain.log_prob(z))
    torch.testing.assert_close(prior.kl(q).mean(), plain.kl(q).mean(), rtol=0.03, atol=0.03)
    assert prior.sample(4).shape == (4, 2)


def test_a_flow_prior_comes_to_the_codes_and_the_bound_counts_it():
    random.seed(0)
    model = VAE.mlp([6, 16, 2], likelihood="gaussian")
    x = torch.randn(2000, 6) * torch.tensor([3.0, 1, 1, 1, 1, 1]) + 2
    before = model.elbo(x).mean().item()
    model.requires_grad_(False)
    codes = model.encode(x).mean
    with_flow = copy.deepcopy(model)
    with_flow.prior = FlowPrior(flows.realnvp(2, 4))
    train.fit(with_flow, x, steps=200, batch_size=200, lr=1e-2, progress=False)
    with torch.no_grad():
        after = with_flow.elbo(x).mean().item()
        first, again, other = (with_flow.elbo(x, generator=random.generator(i)) for i in (1, 1, 2))
        by_draws = with_flow.log_weights(x, 50).mean().item()
        drawn = with_flow.prior.sample(20_000)
        aggregate = model.encode(x).sample(10).flatten(0, 1)
    assert after > before
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert abs(after - by_draws) < 0.3
    torch.testing.assert_close(drawn.mean(0), aggregate.mean(0), rtol=0.1, atol=0.15)
    torch.testing.assert_close(drawn.std(0), aggregate.std(0), rtol=0.15, atol=0.1)
    assert codes.shape == (2000, 2)
