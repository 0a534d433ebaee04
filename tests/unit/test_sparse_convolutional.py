"""Convolutional sparse coding against dense matrices, loops, autograd, scikit-learn's Lasso and planted filters."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso
from torch.nn import functional as F

from lectool.sparse import convolutional as cv
from lectool.sparse import inference
from lectool.sparse.convolutional import (
    ConvolutionalDictionaryLearning,
    conv_analysis,
    conv_fista,
    conv_lipschitz,
    conv_objective,
    conv_synthesis,
    convolution_matrix,
    fourier_admm,
    lowpass,
    update_filters,
)

BOUNDARIES = ("open", "circular")
LAM = 0.3


def draw(*shape, seed=0, dtype=torch.float64):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=dtype, generator=source)


def unit_filters(k=3, c=1, h=3, w=2, seed=1, dtype=torch.float64):
    D = draw(k, c, h, w, seed=seed, dtype=dtype)
    return D / cv.length(D)


def codes_for(x, D, boundary, seed=2):
    shape = cv.map_shape(D, x.shape[2:], boundary)
    return draw(len(x), len(D), *shape, seed=seed, dtype=x.dtype)


def drawn(D, shape, boundary):
    """The matrix of D ∗ z, each column a filter that is drawn at one place, pixel by pixel."""
    k, c, h, w = D.shape
    H, W = shape
    rows, columns = cv.map_shape(D, shape, boundary)
    images = []
    for j in range(k):
        for top in range(rows):
            for left in range(columns):
                image = D.new_zeros(c, H, W)
                for a in range(h):
                    for b in range(w):
                        if boundary == "circular":
                            image[:, (top + a) % H, (left + b) % W] += D[j, :, a, b]
                        elif 0 <= top - h + 1 + a < H and 0 <= left - w + 1 + b < W:
                            image[:, top - h + 1 + a, left - w + 1 + b] += D[j, :, a, b]
                images.append(image.flatten())
    return torch.stack(images, 1)


# ------------------------------------------------------------------------------------- the matrix of a convolution


def test_lecture_table():
    C = convolution_matrix(torch.ones(3, 3), (6, 6))
    row = torch.tensor([1.0, 2, 3, 3, 2, 1])
    assert torch.equal((C.T @ torch.ones(16)).reshape(6, 6), torch.outer(row, row).clamp(max=9))
    assert torch.equal(C.sum(1), torch.full((16,), 9.0))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2)
)
def test_matrix_is_the_convolution(c, h, w, stride, padding):
    kernel, x = draw(2, c, h, w), draw(2, c, 5, 4, seed=1)
    C = convolution_matrix(kernel, (c, 5, 4), stride=stride, padding=padding)
    out = F.conv2d(x, kernel, stride=stride, padding=padding)
    assert C.dtype == torch.float64
    torch.testing.assert_close((x.flatten(1) @ C.T).reshape(out.shape), out)
    y = torch.randn_like(out)
    rest = (5 + 2 * padding - h) % stride, (4 + 2 * padding - w) % stride
    back = F.conv_transpose2d(y, kernel, stride=stride, padding=padding, output_padding=rest)
    torch.testing.assert_close((y.flatten(1) @ C).reshape(x.shape), back)
    torch.testing.assert_close((out * y).sum(), (x * back).sum())


def test_matrix_of_one_channel():
    kernel, x = draw(3, 2), draw(5, 4, seed=1)
    C = convolution_matrix(kernel, (5, 4), stride=2, padding=1)
    expected = F.conv2d(x[None, None], kernel[None, None], stride=2, padding=1)
    torch.testing.assert_close(C @ x.flatten(), expected.flatten())
    one = convolution_matrix(kernel[None, None], (1, 5, 4), stride=2, padding=1)
    assert torch.equal(C, one)
    assert convolution_matrix(kernel.float(), (5, 4)).dtype == torch.float32


@pytest.mark.parametrize(
    "kernel, shape, more, message",
    [
        (torch.ones(3, 3), (2, 4), {}, "2 × 4, a filter 3 × 3"),
        (torch.ones(3, 3), (4, 4), {"stride": 0}, "stride is 0"),
        (torch.ones(3, 3), (4, 4), {"padding": -1}, "padding is -1"),
        (torch.ones(3, 3), (1, 4, 4), {}, "expected 4 axes"),
        (torch.ones(1, 2, 3, 3), (1, 4, 4), {}, "expected (k, c, h, w) and (c, H, W)"),
        (torch.ones(1, 1, 3, 3), (4,), {}, "expected (k, c, h, w) and (c, H, W)"),
        (torch.full((3, 3), float("nan")), (4, 4), {}, "NaN"),
        (torch.ones(3, 3).int(), (4, 4), {}, "float32 or float64"),
        (torch.ones(0, 3), (4, 4), {}, "empty"),
    ],
)
def test_matrix_refuses(kernel, shape, more, message):
    with pytest.raises(ValueError) as error:
        convolution_matrix(kernel, shape, **more)
    assert message in str(error.value)


def test_examples():
    result = doctest.testmod(cv, extraglobs={"torch": torch})
    assert result.attempted > 0 and result.failed == 0


# ------------------------------------------------------------------------------------- synthesis and analysis


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("c", [1, 2])
def test_filters_are_drawn(boundary, c):
    x, D = draw(2, c, 5, 4), unit_filters(c=c)
    z = codes_for(x, D, boundary)
    matrix = drawn(D, (5, 4), boundary)
    image = conv_synthesis(z, D, boundary=boundary)
    assert image.shape == x.shape
    torch.testing.assert_close(image.flatten(1), z.flatten(1) @ matrix.T)
    fit = conv_analysis(x, D, boundary=boundary)
    torch.testing.assert_close(fit.flatten(1), x.flatten(1) @ matrix)
    torch.testing.assert_close((image * x).sum(), (z * fit).sum())
    expected = inference.objective(x.flatten(1), matrix, z.flatten(1), LAM)
    torch.testing.assert_close(conv_objective(x, D, z, LAM, boundary=boundary), expected)


def test_open_boundary_is_a_padded_convolution_transposed():
    D = unit_filters(c=2, w=3)
    matrix = convolution_matrix(D, (2, 5, 4), padding=2).T
    torch.testing.assert_close(matrix, drawn(D, (5, 4), "open"))


def test_no_border_is_darker():
    image = conv_synthesis(torch.ones(1, 1, 7, 7), torch.ones(1, 1, 3, 3))
    assert torch.equal(image, torch.full((1, 1, 5, 5), 9.0))


@pytest.mark.parametrize("c", [1, 2])
def test_lipschitz(c):
    D = unit_filters(k=4, c=c)
    for boundary, least in (("circular", 1 - 1e-9), ("open", 0.7)):
        exact = torch.linalg.matrix_norm(drawn(D, (6, 5), boundary), 2).item() ** 2
        L = conv_lipschitz(D, (6, 5), boundary=boundary)
        assert least * L <= exact <= (1 + 1e-9) * L


# ------------------------------------------------------------------------------------- solvers


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("positive", [False, True])
def test_fista_solves_the_dense_lasso(boundary, positive):
    x, D = draw(3, 2, 5, 4), unit_filters(k=4, c=2)
    matrix = drawn(D, (5, 4), boundary)
    prox = inference.shrink_positive if positive else inference.shrink
    z = conv_fista(x, D, LAM, n_steps=800, prox=prox, boundary=boundary)
    flat = x.flatten(1)
    gap = inference.duality_gap(flat, matrix, z.flatten(1), LAM, positive=positive)
    assert gap.max() < 1e-6
    dense = inference.lasso(flat, matrix, LAM, tol=1e-9, max_steps=20000, positive=positive)
    best = inference.objective(flat, matrix, dense, LAM)
    torch.testing.assert_close(
        conv_objective(x, D, z, LAM, boundary=boundary), best, rtol=0, atol=1e-6
    )
    if positive:
        assert z.min() == 0


def test_fista_against_scikit_learn():
    x, D = draw(1, 1, 5, 4), unit_filters()
    matrix = drawn(D, (5, 4), "open").numpy()
    model = Lasso(LAM / matrix.shape[0], fit_intercept=False, tol=1e-12, max_iter=200_000)
    best = torch.as_tensor(model.fit(matrix, x.flatten().numpy()).coef_)[None]
    z = conv_fista(x, D, LAM, n_steps=2000)
    image = torch.as_tensor(matrix @ best[0].numpy()).reshape(x.shape)
    torch.testing.assert_close(conv_synthesis(z, D), image, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        conv_objective(x, D, z, LAM),
        conv_objective(x, D, best.reshape(z.shape), LAM),
        rtol=1e-9,
        atol=0,
    )


def test_admm_meets_fista():
    x, D = draw(2, 1, 9, 8), unit_filters(k=5, h=4, w=3)
    z = conv_fista(x, D, LAM, n_steps=1500, boundary="circular")
    best = conv_objective(x, D, z, LAM, boundary="circular")
    for rho in (0.3, 1.0, 3.0):
        s = fourier_admm(x, D, LAM, rho=rho, n_steps=1500)
        found = conv_objective(x, D, s, LAM, boundary="circular")
        torch.testing.assert_close(found, best, rtol=1e-6, atol=0)
        assert (s == 0).double().mean() > 0.3


def test_admm_solves_each_frequency():
    """One step: z is the solution of (DᵀD + ρ) z = Dᵀx, dense."""
    x, D = draw(1, 1, 5, 4), unit_filters()
    matrix, rho = drawn(D, (5, 4), "circular"), 0.7
    z = torch.linalg.solve(
        matrix.T @ matrix + rho * torch.eye(matrix.shape[1]).double(), matrix.T @ x.flatten()
    )
    s = fourier_admm(x, D, LAM, rho=rho, n_steps=1)
    torch.testing.assert_close(s.flatten(), inference.shrink(z, LAM / rho))


def test_fista_is_ista_at_first_and_faster_later():
    x, D = draw(2, 1, 8, 8), unit_filters(k=4, h=3, w=3)
    z, step = torch.zeros(2, 4, 10, 10).double(), 1 / conv_lipschitz(D, (8, 8))
    for _ in range(40):
        slope = conv_analysis(conv_synthesis(z, D) - x, D)
        z = inference.shrink(z - step * slope, step * LAM)
    seen = []
    conv_fista(x, D, LAM, n_steps=40, watch=lambda z: seen.append(conv_objective(x, D, z, LAM)))
    best = conv_objective(x, D, conv_fista(x, D, LAM, n_steps=3000), LAM)
    assert len(seen) == 40
    assert ((seen[-1] - best) < 0.3 * (conv_objective(x, D, z, LAM) - best)).all()
    assert (torch.stack(seen) >= best - 1e-9).all()


def test_images_do_not_disturb_each_other():
    x, D = (
        draw(3, 1, 8, 8) * torch.tensor([0.3, 1.0, 4.0]).double()[:, None, None, None],
        unit_filters(),
    )
    together = conv_fista(x, D, LAM, n_steps=60)
    alone = torch.cat([conv_fista(image[None], D, LAM, n_steps=60) for image in x])
    torch.testing.assert_close(together, alone)


def test_start_step_and_no_steps():
    x, D = draw(2, 1, 6, 6), unit_filters()
    z = conv_fista(x, D, LAM, n_steps=5)
    assert conv_fista(x, D, LAM, n_steps=0, start=z) is z
    assert not conv_fista(x, D, LAM, n_steps=0).any()
    half = 0.5 / conv_lipschitz(D, (6, 6))
    first = conv_fista(x, D, LAM, n_steps=1, step=half)
    torch.testing.assert_close(first, inference.shrink(half * conv_analysis(x, D), half * LAM))
    plain = conv_fista(x, D, LAM, n_steps=1000, restart=False)
    assert conv_objective(x, D, plain, LAM).sum() < conv_objective(x, D, z, LAM).sum()


def test_all_zero_above_the_largest_fit():
    x, D = draw(1, 1, 6, 6), unit_filters()
    largest = conv_analysis(x, D).abs().max().item()
    assert not conv_fista(x, D, 1.001 * largest).any()
    assert conv_fista(x, D, 0.999 * largest).any()
    largest = conv_analysis(x, D, boundary="circular").abs().max().item()
    assert not fourier_admm(x, D, 1.01 * largest, n_steps=500).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_are_kept(dtype):
    x, D = draw(2, 1, 6, 6, dtype=dtype), unit_filters(dtype=dtype)
    assert conv_fista(x, D, LAM, n_steps=3).dtype == dtype
    assert fourier_admm(x, D, LAM, n_steps=3).dtype == dtype
    assert lowpass(x).dtype == dtype
    model = ConvolutionalDictionaryLearning(2, 3, LAM, n_iter=2).fit(x)
    assert model.D_.dtype == model.transform(x).dtype == dtype
    assert model.inverse_transform(model.transform(x, n_steps=2)).dtype == dtype


def test_inputs_stay_as_they_are():
    x, D = draw(2, 1, 6, 6), unit_filters()
    x_before, D_before = x.clone(), D.clone()
    z = conv_fista(x, D, LAM, n_steps=3)
    update_filters(D, x, z)
    cv.replace_unused(D, x, torch.zeros_like(z))
    fourier_admm(x, D, LAM, n_steps=3)
    lowpass(x)
    ConvolutionalDictionaryLearning(2, 3, LAM, n_iter=2).fit(x)
    assert torch.equal(x, x_before) and torch.equal(D, D_before)


BAD = {
    "λ": ({"lam": 0.0}, "lam is 0.0; expected a finite number > 0"),
    "λ < 0": ({"lam": -1.0}, "lam is -1.0"),
    "λ NaN": ({"lam": float("nan")}, "lam is nan"),
    "zero filter": ({"D": torch.zeros(2, 1, 3, 3)}, "2 of 2 filters are zero"),
    "channels": ({"D": torch.ones(2, 3, 3, 3)}, "x has 1 channels, D has 3"),
    "size": ({"D": torch.ones(2, 1, 3, 7)}, "the image is 6 × 6, a filter 3 × 7"),
    "empty": ({"x": torch.ones(0, 1, 6, 6)}, "x is empty"),
    "NaN": ({"x": torch.full((1, 1, 6, 6), float("nan"))}, "36 values that are NaN"),
    "NaN filter": ({"D": torch.full((1, 1, 2, 2), float("inf"))}, "D holds 4 values"),
    "axes": ({"x": torch.ones(6, 6)}, "expected 4 axes"),
    "kind": ({"x": torch.ones(1, 1, 6, 6).int()}, "expected a float32 or float64"),
    "types": ({"x": torch.ones(1, 1, 6, 6).double()}, "x is torch.float64"),
    "n_steps": ({"n_steps": -1}, "n_steps is -1"),
}
BAD_FISTA = BAD | {
    "step": ({"step": 1.0}, "which is 1/L"),
    "step 0": ({"step": 0.0}, "which is 1/L"),
    "boundary": ({"boundary": "zero"}, "it can be 'open' or 'circular'"),
    "start": ({"start": torch.ones(1, 2, 6, 6)}, "expected (1, 2, 8, 8)"),
    "start kind": ({"start": torch.ones(1, 2, 8, 8).double()}, "start is torch.float64"),
}
BAD_ADMM = BAD | {
    "ρ": ({"rho": 0.0}, "rho is 0.0"),
    "colors": ({"x": torch.ones(1, 3, 6, 6), "D": torch.ones(2, 3, 3, 3)}, "expected 1"),
}


@pytest.mark.parametrize(
    "solver, bad, message",
    [(conv_fista, *case) for case in BAD_FISTA.values()]
    + [(fourier_admm, *case) for case in BAD_ADMM.values()],
)
def test_solvers_refuse(solver, bad, message):
    good = {"x": torch.ones(1, 1, 6, 6), "D": torch.ones(2, 1, 3, 3), "lam": 0.1, "n_steps": 1}
    solver(**good)
    with pytest.raises(ValueError) as error:
        solver(**(good | bad))
    assert message in str(error.value)


def test_boundary_is_checked_everywhere():
    x, D = torch.ones(1, 1, 6, 6), torch.ones(2, 1, 3, 3)
    for call in (
        lambda: conv_synthesis(torch.ones(1, 2, 8, 8), D, boundary="same"),
        lambda: conv_analysis(x, D, boundary="same"),
        lambda: conv_objective(x, D, torch.ones(1, 2, 8, 8), 1.0, boundary="same"),
        lambda: conv_lipschitz(D, (6, 6), boundary="same"),
    ):
        with pytest.raises(ValueError, match="boundary is 'same'"):
            call()
    with pytest.raises(ValueError, match="the image is 2 × 6"):
        conv_lipschitz(D, (2, 6))


# ------------------------------------------------------------------------------------- learning


def planted(n=12, noise=0.01):
    """Images of two known filters at a few places, and the filters."""
    source = torch.Generator().manual_seed(0)
    cross, diagonal = [[0, -1, 0], [1, 1, 1], [0, -1, 0]], [[1, 0, -1], [0, 1, 0], [-1, 0, 1]]
    D = torch.tensor([[cross], [diagonal]]) / 5**0.5
    places = torch.rand(n, 2, 18, 18, generator=source) < 0.02
    z = places * torch.randn(n, 2, 18, 18, generator=source).sign()
    return conv_synthesis(z, D) + noise * torch.randn(n, 1, 16, 16, generator=source), D


@pytest.mark.parametrize("c", [1, 2])
def test_filter_step_is_autograds(c):
    x, D = draw(3, c, 7, 6), unit_filters(c=c) * 0.01
    z = codes_for(x, D, "open") * 0.1
    free = D.clone().requires_grad_()
    (0.5 * (x - conv_synthesis(z, free)).square().sum()).backward()
    step = cv.filter_steps(z, 3, 2)
    new = D - step * free.grad
    torch.testing.assert_close(update_filters(D, x, z, 1), new / cv.length(new).clamp(min=1))


@pytest.mark.parametrize("mean", [0.0, 10.0])  # neighbouring codes unlike or alike
def test_filter_steps_bound_the_slope(mean):
    """√S H √S with H the dense second derivative and S the step sizes has no eigenvalue above 1."""
    k, h, w = 3, 3, 2
    z = (draw(2, k, 20, 20) + mean) * torch.tensor([0.1, 1.0, 3.0]).double()[:, None, None]
    units = torch.eye(k * h * w).double().reshape(-1, k, 1, h, w)
    matrix = torch.stack([conv_synthesis(z, unit).flatten() for unit in units], 1)
    step = cv.filter_steps(z, h, w).expand(k, 1, h, w).flatten()
    scaled = step.sqrt()[:, None] * (matrix.T @ matrix) * step.sqrt()
    assert 0.25 < torch.linalg.eigvalsh(scaled)[-1] <= 1


def test_filters_become_the_best_ones():
    """With short filters allowed only, many steps end where a projected step of autograd's does not move."""
    x, D = draw(4, 1, 7, 6), unit_filters()
    z = codes_for(x, D, "open") * (codes_for(x, D, "open", seed=5) > 1)
    error = [0.5 * (x - conv_synthesis(z, D)).square().sum().item()]
    for _ in range(60):
        D = update_filters(D, x, z, 10)
        error.append(0.5 * (x - conv_synthesis(z, D)).square().sum().item())
    assert max(b - a for a, b in zip(error, error[1:])) < 1e-9
    free = D.clone().requires_grad_()
    (0.5 * (x - conv_synthesis(z, free)).square().sum()).backward()
    moved = D - 0.01 * free.grad
    torch.testing.assert_close(moved / cv.length(moved).clamp(min=1), D, rtol=0, atol=1e-6)
    assert cv.length(D).max() <= 1 + 1e-9


@pytest.mark.parametrize("positive", [False, True])
def test_objective_never_rises(positive):
    x, _ = planted(noise=0.1)
    source = torch.Generator().manual_seed(0)
    model = ConvolutionalDictionaryLearning(
        6, 5, 0.1, n_iter=8, positive=positive, generator=source
    ).fit(x)
    assert len(model.objective_) == 1 + 2 * 8
    assert max(b - a for a, b in zip(model.objective_, model.objective_[1:])) < 1e-6
    assert model.objective_[-1] < 0.9 * model.objective_[1]
    assert cv.length(model.D_).max() <= 1 + 1e-6
    assert model.objective_[0] == pytest.approx(0.5 * x.square().sum((1, 2, 3)).mean().item())
    z = model.transform(x)
    assert z.shape == (12, 6, 20, 20) and (not positive or z.min() == 0)
    assert -model.score(x) <= model.objective_[-1] + 1e-6


def test_codes_that_became_worse_are_not_kept(monkeypatch):
    x, D = planted()
    model = ConvolutionalDictionaryLearning(2, 3, 0.1)
    z = conv_fista(x, D, 0.1, n_steps=20)
    better, worse = conv_fista(x, D, 0.1, n_steps=50)[:6], z[6:] + 1
    monkeypatch.setattr(cv, "conv_fista", lambda *_, **__: torch.cat([better, worse]))
    assert torch.equal(model.recode(x, D, z, 1), torch.cat([better, z[6:]]))


def test_planted_filters_are_found():
    x, D = planted(24)
    source = torch.Generator().manual_seed(0)
    model = ConvolutionalDictionaryLearning(4, 5, 0.05, n_iter=20, generator=source).fit(x)
    true = conv_objective(x, D, conv_fista(x, D, 0.05, n_steps=100), 0.05).mean().item()
    assert -model.score(x) < true  # four filters can do better than two
    near = F.conv2d(F.pad(model.D_, (2, 2, 2, 2)), D).abs().amax((2, 3))  # any shift, any sign
    assert near.amax(0).min() > 0.95


def test_same_generator_same_filters():
    x, _ = planted()
    kept = {"n_iter": 2, "n_steps": 3}
    first, again, other = (
        ConvolutionalDictionaryLearning(
            4, 3, 0.1, generator=torch.Generator().manual_seed(seed), **kept
        )
        .fit(x)
        .D_
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_first_filters_are_patches():
    x = torch.zeros(2, 2, 6, 7)
    x[1, :, 2:5, 3:6] = draw(2, 3, 3, dtype=torch.float32)  # 16 of 40 patches see some of it
    D = cv.first_filters(x, 16, 3, torch.Generator().manual_seed(0))
    patches = F.unfold(x, 3).transpose(1, 2).reshape(-1, 18)
    patches = patches[patches.norm(dim=1) > 0]
    assert len(patches) == 16
    near = torch.cdist(D.flatten(1), patches / patches.norm(dim=1, keepdim=True)) < 1e-3
    assert (near.sum(0) == 1).all() and (near.sum(1) == 1).all()
    with pytest.raises(ValueError, match="16 patches of the images are not zero"):
        cv.first_filters(x, 17, 3, None)


def test_unused_filters_become_the_worst_patches():
    x, D = torch.zeros(3, 1, 8, 8), unit_filters(k=4, w=3, dtype=torch.float32)
    x[1, 0, 2:5, 4:7] = 3 * D[0, 0]
    x[2, 0, 0:3, 1:4] = 2 * D[1, 0]
    z = torch.zeros(3, 4, 10, 10)
    z[1, 3, 0, 0] = 1.0  # only the last one is used, at a corner
    new, n_replaced = cv.replace_unused(D, x, z)
    assert n_replaced == 3 - 1  # the third image is zero, and no patch of it can be a filter
    torch.testing.assert_close(new[0], D[0])
    torch.testing.assert_close(new[1], D[1])
    assert torch.equal(new[2:], D[2:])
    shuffled, _ = cv.replace_unused(D[[2, 1, 0, 3]], x, z)
    torch.testing.assert_close(shuffled[0], D[0])
    z += 1
    assert cv.replace_unused(D, x, z)[1] == 0


def test_replaced_filters_are_counted_and_lower_nothing():
    x, _ = planted()
    x[6:] = 0
    model = ConvolutionalDictionaryLearning(
        12, 5, 1.3, n_iter=6, generator=torch.Generator().manual_seed(0)
    ).fit(x)
    assert model.n_replaced_ > 0
    assert max(b - a for a, b in zip(model.objective_, model.objective_[1:])) < 1e-6
    torch.testing.assert_close(cv.length(model.D_).flatten(), torch.ones(12))


def test_nothing_is_coded_at_a_huge_penalty():
    x, _ = planted()
    model = ConvolutionalDictionaryLearning(3, 5, 1e3, n_iter=2).fit(x)
    assert torch.isfinite(model.D_).all() and not model.transform(x).any()


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"n_components": 0}, "n_components is 0"),
        ({"size": 0}, "size is 0"),
        ({"lam": 0.0}, "lam is 0.0"),
        ({"lam": float("inf")}, "lam is inf"),
        ({"n_iter": 0}, "n_iter is 0"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"n_filter_steps": 0}, "n_filter_steps is 0"),
    ],
)
def test_learning_refuses_settings(bad, message):
    with pytest.raises(ValueError) as error:
        ConvolutionalDictionaryLearning(**({"n_components": 2, "size": 3, "lam": 0.1} | bad))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "x, message",
    [
        (torch.ones(2, 8, 8), "expected 4 axes"),
        (torch.ones(2, 1, 2, 8), "the image is 2 × 8, a filter 3 × 3"),
        (torch.zeros(2, 1, 8, 8), "0 patches of the images are not zero"),
        (torch.ones(0, 1, 8, 8), "empty"),
        (torch.full((1, 1, 8, 8), float("nan")), "NaN"),
        (np.ones((2, 1, 8, 8)), "ndarray"),
    ],
)
def test_learning_refuses_data(x, message):
    with pytest.raises(ValueError) as error:
        ConvolutionalDictionaryLearning(2, 3, 0.1).fit(x)
    assert message in str(error.value)


def test_a_fitted_model_refuses():
    x, _ = planted()
    model = ConvolutionalDictionaryLearning(2, 5, 0.1, n_iter=1).fit(x)
    for z, message in (
        (torch.ones(2, 3, 20, 20), "expected (n, 2, H, W)"),
        (torch.ones(2, 2, 20, 20).double(), "z is torch.float64"),
        (torch.ones(2, 2, 4, 20), "the map is 4 × 20"),
    ):
        with pytest.raises(ValueError) as error:
            model.inverse_transform(z)
        assert message in str(error.value)
    with pytest.raises(ValueError, match="x has 2 channels"):
        model.transform(torch.ones(1, 2, 16, 16))


# ------------------------------------------------------------------------------------- lowpass


def test_lowpass_solves_its_equations():
    x, strength = draw(2, 2, 6, 5), 3.0
    down = torch.kron(torch.eye(6).diff(dim=0), torch.eye(5)).double()
    right = torch.kron(torch.eye(6), torch.eye(5).diff(dim=0)).double()
    system = torch.eye(30).double() + strength * (down.T @ down + right.T @ right)
    expected = torch.linalg.solve(system, x.flatten(2).mT).mT.reshape(x.shape)
    torch.testing.assert_close(lowpass(x, strength), expected)


def test_lowpass_keeps_what_is_slow():
    x = draw(2, 1, 7, 8)
    torch.testing.assert_close(lowpass(x).mean((2, 3)), x.mean((2, 3)))
    flat = torch.full((1, 1, 5, 5), 0.7)
    torch.testing.assert_close(lowpass(flat), flat)
    torch.testing.assert_close(lowpass(x, 1e-12), x)
    torch.testing.assert_close(lowpass(x, 1e12), x.mean((2, 3), keepdim=True).expand_as(x))
    checkers = (-1.0) ** (torch.arange(40)[:, None] + torch.arange(40))[None, None]
    inner = lowpass(checkers)[0, 0, 15:25, 15:25].abs()
    torch.testing.assert_close(inner, torch.full((10, 10), 1 / 41), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    "x, strength, message",
    [
        (torch.ones(1, 1, 4, 4), 0.0, "strength is 0.0"),
        (torch.ones(4, 4), 1.0, "expected 4 axes"),
        (torch.full((1, 1, 4, 4), float("nan")), 1.0, "NaN"),
        (torch.ones(1, 1, 0, 4), 1.0, "empty"),
    ],
)
def test_lowpass_refuses(x, strength, message):
    with pytest.raises(ValueError) as error:
        lowpass(x, strength)
    assert message in str(error.value)
