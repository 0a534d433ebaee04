"""Deep sparse codes against dense matrices, scipy, scikit-learn, autograd and planted codes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.signal import correlate2d
from sklearn.linear_model import Lasso
from torch import nn
from torch.nn import functional as F

from lectool import train
from lectool.metrics import psnr, reconstruction_error
from lectool.sparse import inference
from lectool.sparse.convolutional import conv_fista, conv_objective
from lectool.sparse.deconvolutional import (
    AdaptiveDeconvolutionalNetwork,
    DeconvolutionalNetwork,
    Switches,
    chain_down,
    chain_up,
    correlate,
    filter_slope,
    infer_through,
    largest_gain,
    middle_switches,
    pick,
    pool,
    rebuild,
    unpool,
    update_through,
)
from lectool.sparse.deep import (
    LISTA,
    excess_slopes,
    hierarchical_codes,
    layered_pursuit,
    layered_thresholding,
    project_l1,
    relu_network,
    support_overlap,
    violations,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def dictionary(d: int, k: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(normal(d, k, seed=seed), dim=0)


def filters(k: int, c: int, size: int, seed: int = 0) -> torch.Tensor:
    D = normal(k, c, size, size, seed=seed)
    return D / D.flatten(1).norm(dim=1)[:, None, None, None]


# ------------------------------------------------------------------------------------- layered thresholding


def test_layered_thresholding_is_its_formula_layer_by_layer():
    x, D1, D2 = normal(4, 5), dictionary(5, 7), dictionary(7, 6, 1)
    z1, z2 = layered_thresholding(x, [D1, D2], [0.3, 0.7])
    for n in range(4):
        first = [max(float(D1[:, j] @ x[n]) - 0.3, 0) for j in range(7)]
        second = [max(float(D2[:, j] @ torch.tensor(first).double()) - 0.7, 0) for j in range(6)]
        assert z1[n].tolist() == pytest.approx(first)
        assert z2[n].tolist() == pytest.approx(second)
    assert (z2 > 0).any() and (z2 == 0).any()


def test_both_signs_with_soft_thresholding():
    x, D = normal(4, 5), dictionary(5, 7)
    (z,) = layered_thresholding(x, [D], [0.3], prox=inference.shrink)
    a = x @ D
    assert torch.allclose(z, a.sign() * (a.abs() - 0.3).clamp(min=0))
    assert (z < 0).any()


def test_it_is_a_relu_network_exactly():
    x = normal(50, 10)
    Ds, lams = [dictionary(10, 20), dictionary(20, 15, 1), dictionary(15, 9, 2)], [0.2, 0.3, 0.1]
    net = relu_network(Ds, lams)
    assert [type(part) for part in net] == [nn.Linear, nn.ReLU] * 3
    code = layered_thresholding(x, Ds, lams)[-1]
    assert torch.allclose(net(x), code, rtol=1e-13, atol=1e-14)
    assert 0.1 < (code > 0).double().mean() < 0.9


def test_with_filters_it_is_a_convolutional_network_exactly():
    x = normal(3, 2, 8, 9)
    Ds, lams = [filters(4, 2, 3), filters(5, 4, 2, 1)], [0.2, 0.3]
    net = relu_network(Ds, lams)
    assert [type(part) for part in net] == [nn.Conv2d, nn.ReLU] * 2
    codes = layered_thresholding(x, Ds, lams)
    assert codes[0].shape == (3, 4, 10, 11) and codes[1].shape == (3, 5, 11, 12)
    assert torch.allclose(net(x), codes[-1], rtol=1e-13, atol=1e-14)
    a = sum(correlate2d(x[1, c].numpy(), Ds[0][2, c].numpy()) for c in range(2))
    assert np.allclose(codes[0][1, 2].numpy(), np.maximum(a - 0.2, 0))


def test_a_network_of_float32_stays_one():
    net = relu_network([dictionary(4, 5).float()], [0.1])
    assert net(torch.ones(2, 4)).dtype == torch.float32


@pytest.mark.parametrize("prox", [inference.shrink, inference.shrink_positive])
def test_one_step_of_ista_is_the_threshold_times_the_step(prox):
    x, D, lam = normal(30, 8), dictionary(8, 24), 0.3
    tau = 1 / inference.lipschitz(D)
    (z,) = layered_thresholding(x, [D], [lam], prox=prox)
    step = inference.ista(x, D, lam, n_steps=1, prox=prox)
    assert torch.allclose(step, tau * z, atol=1e-14)
    assert tau < 0.5  # overcomplete, so that without the factor it is another code
    assert not torch.allclose(step, z, atol=0.1)


def test_orthonormal_atoms_make_thresholding_the_exact_pursuit():
    x, lams = normal(20, 6), [0.3, 0.2]
    Ds = [torch.linalg.qr(normal(6, 6, seed=s))[0] for s in (1, 2)]
    for fast, full in zip(
        layered_thresholding(x, Ds, lams), layered_pursuit(x, Ds, lams, tol=1e-12)
    ):
        assert torch.allclose(fast, full, atol=1e-6)
        assert support_overlap(fast, full) == 1


@pytest.mark.parametrize("positive", [True, False])
def test_layered_pursuit_solves_each_layers_lasso(positive):
    x, Ds, lams = normal(5, 8), [dictionary(8, 12), dictionary(12, 16, 1)], [0.2, 0.1]
    codes = layered_pursuit(x, Ds, lams, positive=positive, tol=1e-10, max_steps=5000)
    for below, z, D, lam in zip([x, *codes], codes, Ds, lams):
        other = Lasso(
            lam / len(D), fit_intercept=False, positive=positive, tol=1e-12, max_iter=10**5
        )
        for signal, code in zip(below, z):
            truth = other.fit(D.numpy(), signal.numpy()).coef_
            assert np.allclose(code.numpy(), truth, atol=1e-4)


def test_batch_norm_standardizes_before_the_threshold():
    x, D1, D2 = 3 * normal(40, 5) + 1, dictionary(5, 7), dictionary(7, 6, 1)
    z1, z2 = layered_thresholding(x, [D1, D2], [0.5, 0.8], batch_norm=True)
    for below, D, lam, z in ((x, D1, 0.5, z1), (z1, D2, 0.8, z2)):
        a = below @ D
        a = (a - a.mean(0)) / a.std(0, correction=0)
        assert torch.allclose(z, (a - lam).clamp(min=0), atol=1e-4)
    again = layered_thresholding(100 * x - 7, [D1, D2], [0.5, 0.8], batch_norm=True)
    assert torch.allclose(again[1], z2, atol=1e-4)  # neither scale nor offset of the data counts


def test_batch_norm_of_filters_pools_all_places():
    x, D = normal(3, 1, 6, 6), filters(4, 1, 3)
    (z,) = layered_thresholding(x, [D], [0.5], batch_norm=True)
    a = F.conv2d(x, D, padding=2)
    mean, sd = a.mean((0, 2, 3), keepdim=True), a.std((0, 2, 3), correction=0, keepdim=True)
    assert torch.allclose(z, ((a - mean) / sd - 0.5).clamp(min=0), atol=1e-4)


def test_support_overlap_counts_shared_atoms():
    a = torch.tensor([[1.0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    b = torch.tensor([[-1.0, 0, 3, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    assert support_overlap(a, b) == pytest.approx((1 / 3 + 1 + 0) / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dictionaries": [], "lams": []}, "no dictionary"),
        ({"lams": [0.1]}, "dictionaries has 2, lams has 1"),
        ({"lams": [0.1, 0.0]}, r"lams\[1\] is 0.0; expected a finite number > 0"),
        ({"lams": [math.nan, 0.1]}, r"lams\[0\] is nan"),
        ({"x": torch.ones(3, 5)}, "float32"),
        ({"x": normal(3, 4)}, r"x has shape \(3, 4\)"),
        ({"x": normal(3, 4, 2, 2)}, "expected 2 axes"),
        ({"x": normal(3, 5) * math.nan}, "NaN"),
        ({"dictionaries": [dictionary(5, 7), dictionary(6, 3)]}, "codes of 6 atoms.*below has 7"),
        ({"dictionaries": [dictionary(5, 7), filters(6, 7, 2)]}, r"dictionaries\[1\].*2 axes"),
        (
            {"dictionaries": [dictionary(5, 7), dictionary(7, 3).float()]},
            r"dictionaries\[1\] is torch",
        ),
        ({"dictionaries": [dictionary(5, 7), [1, 2]]}, r"dictionaries\[1\] is list"),
    ],
)
def test_layers_that_do_not_fit_are_refused(change, message):
    given = {
        "x": normal(3, 5),
        "dictionaries": [dictionary(5, 7), dictionary(7, 6)],
        "lams": [0.1, 0.1],
    }
    given |= change
    for algorithm in (layered_thresholding, layered_pursuit):
        with pytest.raises(ValueError, match=message):
            algorithm(**given)
    if "x" not in change:
        with pytest.raises(ValueError, match=message):
            relu_network(given["dictionaries"], given["lams"])


def test_other_bad_layers_are_refused():
    with pytest.raises(ValueError, match="one value of each atom"):
        layered_thresholding(normal(1, 5), [dictionary(5, 7)], [0.1], batch_norm=True)
    with pytest.raises(ValueError, match="x has shape"):
        layered_thresholding(normal(1, 3, 8, 8), [filters(4, 2, 3)], [0.1])
    with pytest.raises(ValueError, match="expected 2 axes"):
        layered_pursuit(normal(1, 2, 8, 8), [filters(4, 2, 3)], [0.1])
    with pytest.raises(ValueError, match="b has shape"):
        support_overlap(normal(2, 3), normal(2, 4))
    with pytest.raises(ValueError, match="a holds"):
        support_overlap(normal(2, 3) * math.nan, normal(2, 3))


# ------------------------------------------------------------------------------------- constraints


def test_the_projection_is_the_threshold_that_scipy_finds():
    z = 3 * normal(30, 9)
    for radius in (0.5, 4.0):
        for row, found in zip(z, project_l1(z, radius)):
            size = row.abs().numpy()
            b = brentq(
                lambda b, *a: np.maximum(a[0] - b, 0).sum() - a[1], 0, size.max(), (size, radius)
            )
            assert torch.allclose(found, row.sign() * (row.abs() - b).clamp(min=0), atol=1e-10)


@given(
    st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=1, max_size=8), st.floats(0.01, 20)
)
def test_the_projection_is_the_nearest_point_of_the_ball(numbers, radius):
    z = torch.tensor([numbers], dtype=torch.float64)
    p = project_l1(z, radius)
    assert p.abs().sum() <= radius * (1 + 1e-12)
    if z.abs().sum() <= radius:
        assert torch.equal(p, z)
    corners = radius * torch.cat([torch.eye(z.shape[1]), -torch.eye(z.shape[1])]).double()
    assert ((corners - p) @ (z - p).T <= 1e-9 * (1 + radius)).all()  # no corner lies on z's side


def test_the_projection_bears_ties_zeros_and_small_radii():
    assert project_l1(torch.tensor([[2.0, -2.0, 0.0]]), 2.0).tolist() == [[1, -1, 0]]
    assert project_l1(torch.zeros(1, 3), 1.0).tolist() == [[0, 0, 0]]
    assert project_l1(torch.tensor([[1e9, 0.0]]), 1e-3).abs().sum() <= 1e-3


def hierarchy(seed: int = 0):
    r"""A planted code: sparse at the top, exact below it."""
    Ds = [dictionary(12, 16, seed), dictionary(16, 20, seed + 1), dictionary(20, 24, seed + 2)]
    top = normal(10, 24, seed=seed + 3) * (torch.rand(10, 24, generator=rng(seed)) < 0.15)
    codes = [top]
    for D in (Ds[2], Ds[1]):
        codes.insert(0, codes[0] @ D.T)
    return codes[0] @ Ds[0].T, codes, Ds


def test_a_planted_code_shows_that_the_constraints_can_be_met_and_they_are():
    x, planted, Ds = hierarchy()
    mu = [z.abs().sum(1).max().item() for z in planted]
    eps = [0.05, 0.05, 0.05]
    fit, size = violations(x, planted, Ds, eps, mu)
    assert fit.max() == 0 and size.max() < 1e-12
    at_first = violations(x, hierarchical_codes(x, Ds, eps, mu, n_steps=0), Ds, eps, mu)[0]
    assert torch.allclose(at_first[:, 0], (x.norm(dim=1) - 0.05).clamp(min=0))
    codes = hierarchical_codes(x, Ds, eps, mu, n_steps=600)
    fit, size = violations(x, codes, Ds, eps, mu)
    assert fit.shape == size.shape == (10, 3)
    assert fit.max() < 1e-6 and size.max() < 1e-9
    assert at_first.max() > 1
    own = [z[1].abs().sum().item() for z in planted]  # no room at all for the second signal
    codes = hierarchical_codes(x[1:2], Ds, eps, own, n_steps=1000)
    fit, size = violations(x[1:2], codes, Ds, eps, own)
    assert fit.max() < 1e-3 and size.max() < 1e-9


def test_the_gradient_is_autograds():
    x, planted, Ds = hierarchy(5)
    eps = [0.5, 100.0, 0.3]  # the second is kept to everywhere
    codes = [(z + 0.3 * normal(*z.shape, seed=i)).requires_grad_() for i, z in enumerate(planted)]
    errors = [(b - z @ D.T).norm(dim=1) for b, z, D in zip([x, *codes], codes, Ds)]
    total = sum(0.5 * (error - e).clamp(min=0).square().sum() for error, e in zip(errors, eps))
    truth = torch.autograd.grad(total, codes)
    for mine, other in zip(excess_slopes(x, [z.detach() for z in codes], Ds, eps), truth):
        assert torch.allclose(mine, other)
    assert truth[1].abs().max() > 0.01


def test_where_the_constraints_cannot_be_met_the_least_violation_is_found():
    x, _, Ds = hierarchy(7)
    eps, mu = [0.1, 0.2, 0.0], [1.0, 0.5, 0.2]
    codes = hierarchical_codes(x, Ds, eps, mu, n_steps=500)
    slopes = excess_slopes(x, codes, Ds, eps)
    # Convex: no point of the balls can be better than now by more than this.
    gap = sum((g * z).sum(1) + m * g.abs().amax(1) for g, z, m in zip(slopes, codes, mu))
    fit, size = violations(x, codes, Ds, eps, mu)
    assert size.max() < 1e-9 and (fit.amax(0) > 0.1).all()
    assert gap.max() < 1e-6


def test_one_layer_without_tolerance_is_the_lasso_in_its_constraint_form():
    x, D, lam = normal(1, 8), dictionary(8, 12), 0.3
    z = inference.lasso(x, D, lam, tol=1e-12, max_steps=10000)
    (found,) = hierarchical_codes(x, [D], [0.0], [z.abs().sum().item()], n_steps=1000)
    assert torch.allclose(found, z, atol=1e-4)


def test_violations_of_a_hand_made_code():
    x, D = torch.tensor([[3.0, 4.0]]), torch.eye(2)
    fit, size = violations(x, [torch.zeros(1, 2), torch.ones(1, 2)], [D, D], [1.0, 1.0], [1.0, 0.5])
    assert fit[0].tolist() == pytest.approx([4, math.sqrt(2) - 1])
    assert size[0].tolist() == pytest.approx([0, 1.5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": [0.1]}, "dictionaries has 2, eps has 1"),
        ({"mu": [1.0]}, "dictionaries has 2, mu has 1"),
        ({"eps": [0.1, -0.1]}, r"eps\[1\] is -0.1"),
        ({"mu": [0.0, 1.0]}, r"mu\[0\] is 0.0"),
        ({"x": normal(3, 4)}, "x has shape"),
        ({"dictionaries": [filters(4, 1, 3), filters(4, 4, 3)]}, "2 axes"),
    ],
)
def test_constraints_that_do_not_fit_are_refused(change, message):
    Ds = [dictionary(5, 7), dictionary(7, 6)]
    given = {"x": normal(3, 5), "dictionaries": Ds, "eps": [0.1, 0.1], "mu": [1.0, 1.0]} | change
    with pytest.raises(ValueError, match=message):
        hierarchical_codes(**given)
    with pytest.raises(ValueError, match=message):
        violations(**given, codes=[normal(3, 7), normal(3, 6)])


def test_other_bad_constraints_are_refused():
    x, D = normal(3, 5), dictionary(5, 7)
    with pytest.raises(ValueError, match="n_steps is -1"):
        hierarchical_codes(x, [D], [0.1], [1.0], n_steps=-1)
    with pytest.raises(ValueError, match=r"codes\[0\] has shape"):
        violations(x, [normal(3, 6)], [D], [0.1], [1.0])
    with pytest.raises(ValueError, match="codes has 0"):
        violations(x, [], [D], [0.1], [1.0])
    with pytest.raises(ValueError, match="radius is 0"):
        project_l1(x, 0)
    with pytest.raises(ValueError, match="z has shape"):
        project_l1(x[0], 1.0)


# ------------------------------------------------------------------------------------- LISTA


@pytest.mark.parametrize("n_layers", [1, 2, 7])
def test_untrained_it_is_ista(n_layers):
    x, D = normal(20, 8), dictionary(8, 12)
    net = LISTA(D, 0.2, n_layers)
    z = inference.ista(x, D, 0.2, n_steps=n_layers)
    assert torch.allclose(net.encode(x), z, atol=1e-13)
    assert torch.allclose(net.reconstruct(x), z @ D.T, atol=1e-13)
    truth = (0.5 * (x - z @ D.T).square().sum(1) + 0.2 * z.abs().sum(1)).mean()
    assert net.loss(x).item() == pytest.approx(truth.item())


def test_five_layers_learn_to_be_better_than_twenty_steps():
    torch.manual_seed(0)
    D = dictionary(16, 32).float()
    codes = torch.randn(3000, 32) * (torch.rand(3000, 32) < 0.1)
    x = codes @ D.T + 0.02 * torch.randn(3000, 16)
    net, held_out = LISTA(D, 0.1, 5), x[2000:]
    train.fit(net, x[:2000], epochs=15, batch_size=100, lr=3e-3, schedule="linear", progress=False)
    assert torch.equal(net.D, D)  # the dictionary is not trained
    cost = lambda z: inference.objective(held_out, D, z, 0.1).mean().item()  # noqa: E731
    best = cost(inference.lasso(held_out, D, 0.1, tol=1e-6))
    learned = cost(net.encode(held_out).detach())
    assert best < learned < cost(inference.ista(held_out, D, 0.1, n_steps=20))


def test_each_layer_has_its_own_matrices_and_thresholds():
    x, net = normal(5, 8), LISTA(dictionary(8, 12), 0.2, 3)
    for i, parameter in enumerate(net.parameters()):
        parameter.data += 0.2 * normal(*parameter.shape, seed=i)
    z = torch.zeros(5, 12).double()
    for t in range(3):
        a = x @ net.W[t].T + (z @ net.S[t - 1].T if t else 0)
        z = a.sign() * (a.abs() - net.theta[t].abs()).clamp(min=0)
    assert torch.allclose(net.encode(x), z)


def test_a_threshold_counts_by_its_size():
    x, net = normal(5, 8), LISTA(dictionary(8, 12), 0.2, 3)
    z = net.encode(x)
    net.theta.data.neg_()
    assert torch.equal(net.encode(x), z)


def test_a_single_layer_can_be_trained():
    net = LISTA(dictionary(8, 12).float(), 0.2, 1)
    history = train.fit(net, normal(64, 8).float(), epochs=5, progress=False)
    assert history["loss"][-1] < history["loss"][0]


def test_bad_networks_are_refused():
    D = dictionary(8, 12)
    with pytest.raises(ValueError, match="lam is 0"):
        LISTA(D, 0, 3)
    with pytest.raises(ValueError, match="n_layers is 0"):
        LISTA(D, 0.1, 0)
    with pytest.raises(ValueError, match="D has shape"):
        LISTA(D[0], 0.1, 3)
    with pytest.raises(ValueError, match="zero"):
        LISTA(D * (torch.arange(12) > 0), 0.1, 3)
    with pytest.raises(ValueError, match="expected 8 numbers"):
        LISTA(D, 0.1, 3).loss(normal(3, 7))
    with pytest.raises(ValueError, match="float32"):
        LISTA(D, 0.1, 3).loss(torch.ones(3, 8))


# ------------------------------------------------------------------------------------- deconvolutional networks


def digits(n: int, skip: int = 0) -> torch.Tensor:
    r"""Small images with strokes: scikit-learn's 8 × 8 digits, twice as large."""
    from sklearn.datasets import load_digits

    x = torch.as_tensor(load_digits().images[skip : skip + n] / 16, dtype=torch.float32)
    return F.interpolate(x[:, None], scale_factor=2)


SMALL = {"n_filters": (4, 6), "size": 3, "lams": (0.1, 0.1), "n_iter": 3}


@pytest.fixture(scope="module")
def plain():
    return DeconvolutionalNetwork((4, 6, 8), 3, (0.1, 0.05, 0.05), n_iter=3, generator=rng()).fit(
        digits(12)
    )


def test_each_layer_codes_the_layer_below(plain):
    x = digits(4, 50)
    codes = plain.transform(x, n_steps=60)
    assert [tuple(z.shape) for z in codes] == [(4, 4, 18, 18), (4, 6, 20, 20), (4, 8, 22, 22)]
    for below, z, layer, lam in zip([x, *codes], codes, plain.layers_, (0.1, 0.05, 0.05)):
        assert layer.D_.shape[1] == below.shape[1]
        assert torch.allclose(z, conv_fista(below, layer.D_, lam, n_steps=60), atol=1e-6)
        cost = conv_objective(below, layer.D_, z, lam).mean()
        assert cost < 0.5 * (0.5 * below.square().sum((1, 2, 3)).mean())  # half of what z = 0 costs


def test_a_code_is_drawn_by_the_chain_of_convolutions(plain):
    D1, D2, D3 = (layer.D_ for layer in plain.layers_)
    z = plain.transform(digits(2), n_steps=20)
    chain = F.conv_transpose2d(F.conv_transpose2d(F.conv_transpose2d(z[2], D3), D2), D1)
    assert torch.allclose(plain.reconstruct(z[2], 3), chain[:, :, 6:-6, 6:-6], atol=1e-6)
    assert torch.allclose(
        plain.reconstruct(z[0], 1), F.conv_transpose2d(z[0], D1)[:, :, 2:-2, 2:-2], atol=1e-6
    )


def test_learning_lowers_each_layers_objective(plain):
    for layer in plain.layers_:
        assert all(b <= a * (1 + 1e-5) for a, b in zip(layer.objective_, layer.objective_[1:]))


def test_pooling_keeps_the_largest_magnitude_and_its_sign():
    z = torch.tensor([[[[1.0, -3, 0], [2, 0, -1], [0, 0, 0]]]])
    p, switches = pool(z, 2)
    assert p.tolist() == [[[[-3, -1], [0, 0]]]]
    assert switches.shape == (3, 3)
    assert switches.places[0, 0, 0].tolist() == [1, 5]
    assert unpool(p, switches).tolist() == [[[[0, -3, 0], [0, 0, -1], [0, 0, 0]]]]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pooling_what_was_unpooled_changes_nothing(size):
    z = normal(3, 2, 7, 8)
    p, switches = pool(z, size)
    assert p.shape == (3, 2, math.ceil(7 / size), math.ceil(8 / size))
    again, same = pool(unpool(p, switches), size)
    assert torch.equal(again, p) and torch.equal(same.places, switches.places)
    assert torch.equal(unpool(p, switches), z) == (size == 1)


def test_picking_is_the_transpose_of_unpooling():
    z, (p, switches) = normal(3, 2, 7, 8), pool(normal(3, 2, 7, 8, seed=1), 3)
    assert (unpool(p, switches) * z).sum().item() == pytest.approx(
        (p * pick(z, switches)).sum().item()
    )


def test_switches_that_know_nothing_point_to_the_middle():
    for size, places in (
        (2, [6, 8, 9, 16, 18, 19, 21, 23, 24]),
        (3, [6, 9, 21, 24]),
        (1, list(range(25))),
    ):
        _, switches = pool(normal(2, 3, 5, 5), size)
        blank = middle_switches(switches, size)
        assert blank.shape == (5, 5) and blank.places.shape == switches.places.shape
        assert blank.places[1, 2].flatten().tolist() == places


def tower(seed: int = 0):
    r"""Two pooled layers and a third on top, on images of 6 × 7 pixels in two colors."""
    x, Ds = (
        normal(2, 2, 6, 7, seed=seed),
        [filters(3, 2, 3), filters(4, 3, 2, 1), filters(3, 4, 2, 2)],
    )
    _, s1 = pool(normal(2, 3, 8, 9, seed=seed + 1), 2)
    _, s2 = pool(normal(2, 4, 5, 6, seed=seed + 2), 2)
    return x, Ds[2], Ds[:2], [s1, s2]


def matrix(i: int = 0):
    r"""R of image i as a matrix, a column for each entry of its code."""
    _, D, Ds, switches = tower()
    units = torch.eye(3 * 4 * 4).double().reshape(-1, 3, 4, 4)
    own = [Switches(s.places[i : i + 1].expand(len(units), -1, -1, -1), s.shape) for s in switches]
    return rebuild(units, D, Ds, own).flatten(1).T


def test_the_chain_is_nested_convolutions_with_unpooling():
    x, D, Ds, (s1, s2) = tower()
    z = normal(2, 3, 4, 4)
    conv = lambda z, D: F.conv_transpose2d(z, D, padding=D.shape[-1] - 1)  # noqa: E731
    nested = conv(unpool(conv(unpool(conv(z, D), s2), Ds[1]), s1), Ds[0])
    assert torch.allclose(rebuild(z, D, Ds, [s1, s2]), nested)
    assert nested.shape == x.shape


def test_the_way_up_is_the_transpose_of_the_way_down():
    x, D, Ds, switches = tower()
    z, p = normal(2, 3, 4, 4, seed=8), normal(*switches[1].places.shape, seed=9)
    down, up = chain_down(p, Ds, switches), chain_up(x, Ds, switches)
    assert (down * x).sum().item() == pytest.approx((p * up).sum().item())
    down, up = rebuild(z, D, Ds, switches), correlate(x, D, Ds, switches)
    assert (down * x).sum().item() == pytest.approx((z * up).sum().item())


def test_the_largest_gain_is_that_of_the_matrix():
    _, D, Ds, switches = tower()
    truth = max(torch.linalg.matrix_norm(matrix(i), 2).item() ** 2 for i in (0, 1))
    args = (D, Ds, switches)
    found = largest_gain(
        lambda z: rebuild(z, *args), lambda x: correlate(x, *args), normal(2, 3, 4, 4)
    )
    assert truth <= found <= 1.051 * truth


def test_inference_through_the_layers_is_the_lasso_of_the_matrix():
    x, D, Ds, switches = tower()
    z = infer_through(x, D, 0.2, Ds, switches, n_steps=1500)
    for i in (0, 1):
        truth = inference.lasso(x[i].flatten()[None], matrix(i), 0.2, tol=1e-9, max_steps=20000)
        assert torch.allclose(z[i].flatten(), truth[0], atol=1e-3)
    assert 0.05 < (z != 0).double().mean() < 0.9


def test_the_lowest_layer_is_convolutional_sparse_coding():
    x, D = normal(2, 2, 6, 7), filters(3, 2, 3)
    z = infer_through(x, D, 1.0, n_steps=1000)
    assert torch.allclose(z, conv_fista(x, D, 1.0, n_steps=1000), atol=1e-6)
    assert (z != 0).sum() > 5


@pytest.mark.parametrize("pool_size", [None, 2])
def test_no_step_raises_the_objective(pool_size):
    x, D, Ds, switches = tower()
    seen = []
    infer_through(x, D, 0.2, Ds, switches, n_steps=60, pool_size=pool_size, watch=seen.append)
    error = torch.stack([(x - rebuild(z, D, Ds, switches)).square().sum() for z in seen])
    cost = 0.5 * error + 0.2 * torch.stack([z.abs().sum() for z in seen])
    assert (cost[1:] <= cost[:-1] + 1e-12).all() and cost[-1] < 0.95 * 0.5 * x.square().sum()
    if pool_size:
        windows = F.avg_pool2d((seen[-1] != 0).double(), 2, divisor_override=1)
        assert windows.max() == 1  # one entry a window


def test_a_pooled_step_is_the_best_of_all_codes_with_one_entry_a_window():
    x, D, lam = normal(1, 1, 3, 3), filters(1, 1, 2), 0.1
    z = infer_through(x, D, lam, n_steps=1, pool_size=2)
    tau = 1 / largest_gain(lambda z: rebuild(z, D, (), ()), lambda x: correlate(x, D, (), ()), z)
    a = tau * correlate(x, D, (), ())
    for rows in (slice(0, 2), slice(2, 4)):
        for columns in (slice(0, 2), slice(2, 4)):
            aim, mine = a[0, 0, rows, columns].flatten(), z[0, 0, rows, columns].flatten()
            cost = lambda v, aim=aim: (0.5 * (v - aim) ** 2 + tau * lam * v.abs()).sum(-1)  # noqa: E731
            grid = torch.linspace(-3, 3, 2001).double()
            others = [cost(torch.outer(grid, unit)).min() for unit in torch.eye(4).double()]
            assert cost(mine) <= min(others) + 1e-9


def test_the_filters_slope_is_autograds():
    x, D, Ds, switches = tower()
    z, D = normal(2, 3, 4, 4), D.clone().requires_grad_()
    loss = 0.5 * (rebuild(z, D, Ds, switches) - x).square().sum()
    (truth,) = torch.autograd.grad(loss, D)
    D = D.detach()
    slope = filter_slope(rebuild(z, D, Ds, switches) - x, D, z, Ds, switches)
    assert torch.allclose(slope, truth)


def test_each_update_of_the_filters_lowers_the_error():
    x, D, Ds, switches = tower()
    z, errors = infer_through(x, D, 0.05, Ds, switches, n_steps=200), []
    for _ in range(5):
        errors.append((x - rebuild(z, D, Ds, switches)).square().sum().item())
        D = update_through(D, x, z, Ds, switches, n_steps=2)
        assert D.flatten(1).norm(dim=1).max() <= 1 + 1e-9
    assert all(b < a for a, b in zip(errors, errors[1:]))


@pytest.fixture(scope="module")
def adaptive():
    x = digits(24)
    net = AdaptiveDeconvolutionalNetwork(
        (6, 10, 12), 3, (0.05, 0.1, 0.2), n_iter=4, generator=rng()
    )
    return net.fit(x)


def test_stored_switches_are_worth_many_decibels(adaptive):
    x = digits(10, 100)
    codes, switches = adaptive.transform(x)
    assert len(codes) == 3 and len(switches) == 2
    with_switches, without, bare = [], [], psnr(reconstruction_error(x, 0 * x), 256)
    for level, z in enumerate(codes):
        used = switches[:level]
        for kept, found in ((used, with_switches), (adaptive.forget(used), without)):
            x_hat = adaptive.reconstruct(z, kept)
            found.append(psnr(reconstruction_error(x, x_hat), 256))
    assert without[0] == with_switches[0] > with_switches[1] > with_switches[2] > bare + 5
    assert with_switches[1] > without[1] + 3 and with_switches[2] > without[2] + 3


def test_learning_lowers_the_error_to_the_images(adaptive):
    for level in adaptive.objective_:
        assert len(level) == 4 and level[-1] < 0.95 * level[0]
    assert all(D.flatten(1).norm(dim=1).max() <= 1 + 1e-5 for D in adaptive.filters_)


def test_layers_are_trained_on_the_objective_that_they_are_used_with(adaptive):
    x, lams = digits(24), (0.05, 0.1, 0.2)
    codes, switches = adaptive.transform(x)
    for level, (z, lam) in enumerate(zip(codes, lams)):
        error = x - adaptive.reconstruct(z, switches[:level])
        cost = (0.5 * error.square().sum() + lam * z.abs().sum()).item() / 24
        assert 0.7 < cost / adaptive.objective_[level][-1] < 1.1
        used = {"filters": adaptive.filters_[:level], "switches": switches[:level]}
        free = infer_through(x, adaptive.filters_[level], lam, **used, n_steps=50)
        size = None if level == 2 else 2
        same = infer_through(
            x, adaptive.filters_[level], lam, **used, n_steps=50, start=free, pool_size=size
        )
        assert torch.equal(same, z)


def test_pooling_loses_nothing_of_the_lower_codes(adaptive):
    codes, switches = adaptive.transform(digits(3, 60), n_steps=10)
    for z, s in zip(codes, switches):
        assert torch.equal(unpool(*pool(z, 2)), z)
        assert torch.equal(pool(z, 2)[1].places, s.places)
    assert not torch.equal(unpool(*pool(codes[2], 2)), codes[2])  # the last one is not pooled


def test_codes_of_an_upper_layer_explain_the_images_not_the_maps(adaptive):
    x = digits(3, 60)
    codes, switches = adaptive.transform(x, n_steps=30)
    z = codes[1]
    error = x - adaptive.reconstruct(z, switches[:1])
    own = 0.5 * error.square().sum() + 0.1 * z.abs().sum()
    below = pick(codes[0], switches[0])
    maps = conv_fista(below, adaptive.filters_[1], 0.1, n_steps=200)
    maps = unpool(*pool(maps, 2))
    error = x - adaptive.reconstruct(maps, switches[:1])
    assert own < 0.5 * error.square().sum() + 0.1 * maps.abs().sum()


def test_same_generator_same_network():
    x = digits(3)
    for kind in (AdaptiveDeconvolutionalNetwork, DeconvolutionalNetwork):
        a, b = (kind(**SMALL, generator=rng(3)).fit(x) for _ in range(2))
        z = [net.transform(x, n_steps=5) for net in (a, b)]
        first = [codes[0] if kind is AdaptiveDeconvolutionalNetwork else codes for codes in z]
        assert all(torch.equal(one, other) for one, other in zip(*first))


def test_float64_stays_float64():
    net = AdaptiveDeconvolutionalNetwork(**SMALL, generator=rng()).fit(digits(6).double())
    codes, switches = net.transform(digits(2).double(), n_steps=5)
    assert net.reconstruct(codes[1], switches).dtype == torch.float64


@pytest.mark.parametrize("kind", [DeconvolutionalNetwork, AdaptiveDeconvolutionalNetwork])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_filters": (), "lams": ()}, "n_filters is empty"),
        ({"lams": (0.1,)}, "n_filters has 2, lams has 1"),
        ({"n_filters": (4, 0)}, r"n_filters\[1\] is 0"),
        ({"lams": (0.0, 0.1)}, r"lams\[0\] is 0.0"),
        ({"size": 0}, "size is 0"),
        ({"n_iter": 0}, "n_iter is 0"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"n_filter_steps": 0}, "n_filter_steps is 0"),
    ],
)
def test_bad_settings_are_refused(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(**(SMALL | change))


@pytest.mark.parametrize("kind", [DeconvolutionalNetwork, AdaptiveDeconvolutionalNetwork])
def test_bad_images_are_refused(kind):
    net = kind(**SMALL)
    for x, message in (
        (torch.ones(3, 8, 8), "4 axes"),
        (torch.ones(3, 1, 8, 8) * math.nan, "NaN"),
        (torch.ones(3, 1, 2, 8), "fit in"),
        (torch.zeros(3, 1, 8, 8), "not zero"),
    ):
        with pytest.raises(ValueError, match=message):
            net.fit(x)


def test_codes_that_do_not_fit_are_refused(plain, adaptive):
    codes, switches = adaptive.transform(digits(2), n_steps=2)
    with pytest.raises(ValueError, match="number of switches is 3"):
        adaptive.reconstruct(codes[2], [*switches, switches[0]])
    with pytest.raises(ValueError, match="z has shape"):
        adaptive.reconstruct(codes[2], switches[:1])
    with pytest.raises(ValueError, match=r"z is torch\.float64"):
        adaptive.reconstruct(codes[2].double(), switches)
    with pytest.raises(ValueError, match=r"level is 4; expected a number in \[1, 3\]"):
        plain.reconstruct(codes[0], 4)
    with pytest.raises(ValueError, match="z has shape"):
        plain.reconstruct(codes[0], 1)
    with pytest.raises(ValueError, match="2 channels"):
        plain.transform(torch.ones(1, 2, 16, 16))
    with pytest.raises(ValueError, match="pool_size is 0"):
        AdaptiveDeconvolutionalNetwork(**SMALL, pool_size=0)


def test_layers_below_that_do_not_fit_are_refused():
    x, D, Ds, switches = tower()
    with pytest.raises(ValueError, match="lam is 0"):
        infer_through(x, D, 0, Ds, switches)
    with pytest.raises(ValueError, match="filters has 2, switches has 1"):
        infer_through(x, D, 0.1, Ds, switches[:1])
    with pytest.raises(
        ValueError, match=r"switches\[0\] are for maps of 5 × 6, the layer's maps are 8 × 9"
    ):
        infer_through(x, D, 0.1, Ds, switches[::-1])
    with pytest.raises(ValueError, match=r"switches\[0\].places has shape"):
        infer_through(x[:1], D, 0.1, Ds, switches)
    with pytest.raises(ValueError, match="channels"):
        infer_through(x, Ds[1], 0.1, Ds, switches)
    with pytest.raises(ValueError, match="start has shape"):
        infer_through(x, D, 0.1, Ds, switches, start=normal(2, 3, 4, 5))
    with pytest.raises(ValueError, match="n_steps is -1"):
        infer_through(x, D, 0.1, Ds, switches, n_steps=-1)
    with pytest.raises(ValueError, match="pool_size is 0"):
        infer_through(x, D, 0.1, Ds, switches, pool_size=0)
    with pytest.raises(ValueError, match="size is 0"):
        pool(x, 0)
    with pytest.raises(ValueError, match="expected 4 axes"):
        pool(x[0], 2)
    with pytest.raises(ValueError, match="size is 3; the switches have 4 × 5 windows"):
        middle_switches(switches[0], 3)
