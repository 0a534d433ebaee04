"""Measures against SciPy, scikit-learn and loops."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from lectool.metrics import (
    nearest,
    principal_angles,
    psnr,
    reconstruction_error,
    retrieval_precision,
    squared_mmd,
)

FEW = settings(derandomize=True, database=None, deadline=None, max_examples=30)


def random(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ------------------------------------------------------------------------------- reconstruction error


def test_reconstruction_error_is_summed_over_numbers_and_averaged_over_samples():
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    x_hat = torch.tensor([[3.0, 4.0], [1.0, 1.0], [0.0, 0.0]])
    assert reconstruction_error(x, x_hat) == pytest.approx((25 + 0 + 4) / 3)


def test_reconstruction_error_of_images_is_that_of_flat_rows():
    x, y = random(6, 1, 4, 5), random(6, 1, 4, 5, seed=1)
    assert reconstruction_error(x, y) == pytest.approx(
        reconstruction_error(x.flatten(1), y.flatten(1))
    )
    assert reconstruction_error(x, y) == pytest.approx(np.square(x.numpy() - y.numpy()).sum() / 6)


@pytest.mark.parametrize(("a", "b"), [((3, 2), (3, 1)), ((3, 2), (2,)), ((0, 2), (0, 2))])
def test_reconstruction_error_rejects_shapes(a, b):
    with pytest.raises(ValueError, match="expected the same, not empty"):
        reconstruction_error(torch.zeros(a), torch.zeros(b))


def test_psnr_by_its_definition():
    x, x_hat, peak = random(1, 100), random(1, 100, seed=1), 2.5
    mean_squared = (x - x_hat).square().mean().item()
    expected = 10 * math.log10(peak**2 / mean_squared)
    assert psnr(reconstruction_error(x, x_hat), d=100, peak=peak) == pytest.approx(
        expected, rel=1e-12
    )
    assert psnr(1.0, d=100) == pytest.approx(20.0)


@pytest.mark.parametrize(("error", "d"), [(0.0, 5), (-1.0, 5), (1.0, 0)])
def test_psnr_rejects(error, d):
    with pytest.raises(ValueError, match="expected > 0 and ≥ 1"):
        psnr(error, d)


# ----------------------------------------------------------------------------------- principal angles


@FEW
@given(d=st.integers(1, 12), k=st.integers(1, 12), seed=st.integers(0, 999), near=st.integers(0, 8))
def test_angles_agree_with_scipy_and_do_not_depend_on_the_basis(d, k, seed, near):
    k = min(d, k)
    a = random(d, k, seed=seed)
    b = a + 10.0**-near * random(d, k, seed=seed + 1)
    ours = principal_angles(a, b)
    theirs = np.sort(scipy.linalg.subspace_angles(a.numpy(), b.numpy()))
    assert (ours.diff() >= -1e-12).all() and ours.dtype == torch.float64
    # SciPy gives an exact 0 among large angles (2k > d) as about 1e-8.
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6, atol=1e-7 if near < 3 else 1e-12)
    mix = torch.linalg.qr(random(k, k, seed=seed + 2)).Q * torch.linspace(
        1, 3, k
    )  # far from singular
    np.testing.assert_allclose(
        principal_angles(a @ mix, b).numpy(), ours.numpy(), rtol=1e-5, atol=1e-10
    )
    np.testing.assert_allclose(principal_angles(b, a).numpy(), ours.numpy(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    "angle",
    [1e-9, 1e-6, 0.1, math.pi / 4, 1.0, math.pi / 2 - 1e-6, math.pi / 2 - 1e-9, math.pi / 2],
)
def test_one_known_angle_to_full_precision(angle):
    a = torch.eye(5, dtype=torch.float64)[:, :2]
    b = a.clone()
    b[:, 1] = torch.tensor([0, math.cos(angle), math.sin(angle), 0, 0], dtype=torch.float64)
    found = principal_angles(a, b)
    assert found[0].item() == pytest.approx(0, abs=1e-14)
    assert found[1].item() == pytest.approx(angle, rel=1e-12)


def test_tiny_angles_beside_large_ones():
    expected = torch.tensor([1e-9, 2e-5, 0.3, 1.2], dtype=torch.float64)
    a = torch.cat([torch.eye(4), torch.zeros(4, 4)]).double()
    b = torch.cat([expected.cos().diag(), expected.sin().diag()])
    turn = torch.linalg.qr(random(8, 8)).Q
    torch.testing.assert_close(
        principal_angles(turn @ a, turn @ b @ random(4, 4)), expected, rtol=1e-5, atol=1e-15
    )


def test_angles_accept_float32():
    a = random(6, 2, dtype=torch.float32)
    assert principal_angles(a, 3 * a.flip(1)).max() < 1e-6


def test_angles_reject_what_is_no_pair_of_bases():
    a = random(5, 3)
    with pytest.raises(ValueError, match=r"shapes \(5, 3\), \(5, 2\)"):
        principal_angles(a, a[:, :2])
    with pytest.raises(ValueError, match="k ≤ d"):
        principal_angles(a.T, a.T)
    with pytest.raises(ValueError, match="k ≤ d"):
        principal_angles(a[:, 0], a[:, 0])
    with pytest.raises(ValueError, match="columns of b are linearly dependent"):
        principal_angles(a, torch.stack([a[:, 0], a[:, 1], a[:, 0] + a[:, 1]], 1))
    with pytest.raises(ValueError, match="columns of a are linearly dependent"):
        principal_angles(torch.zeros(5, 1), torch.ones(5, 1))


# ------------------------------------------------------------------------------------------ neighbours


@FEW
@given(
    m=st.integers(1, 12),
    n=st.integers(1, 30),
    d=st.integers(1, 6),
    k=st.integers(1, 30),
    seed=st.integers(0, 999),
)
def test_nearest_agrees_with_scikit_learn(m, n, d, k, seed):
    k = min(k, n)
    queries, items = random(m, d, seed=seed), random(n, d, seed=seed + 1)
    theirs = (
        NearestNeighbors(n_neighbors=k, algorithm="brute")
        .fit(items.numpy())
        .kneighbors(queries.numpy())[1]
    )
    assert nearest(queries, items, k).tolist() == theirs.tolist()


def test_nearest_in_chunks_is_nearest_at_once():
    queries, items = random(23, 4), random(50, 4, seed=1)
    whole = nearest(queries, items, 7)
    assert whole.shape == (23, 7)
    for chunk in (1, 5, 22, 23):
        assert torch.equal(nearest(queries, items, 7, chunk=chunk), whole)


def test_nearest_rejects():
    x = random(5, 3)
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"k is {k}; expected 1 … 5"):
            nearest(x, x, k)
    with pytest.raises(ValueError, match="expected 3 numbers a sample"):
        nearest(x[:, :2], x, 1)
    with pytest.raises(ValueError, match="NaN"):
        nearest(x, x * math.nan, 1)


def precision_by_loops(codes: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    shares = []
    for i in range(len(codes)):
        others = [j for j in range(len(codes)) if j != i]
        others.sort(key=lambda j, i=i: (codes[i] - codes[j]).square().sum().item())
        shares.append(sum(labels[j].item() == labels[i].item() for j in others[:k]) / k)
    return sum(shares) / len(shares)


@FEW
@given(
    n=st.integers(2, 25),
    d=st.integers(1, 4),
    k=st.integers(1, 24),
    classes=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_retrieval_precision_against_loops(n, d, k, classes, seed):
    k = min(k, n - 1)
    codes = random(n, d, seed=seed)
    labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    assert retrieval_precision(codes, labels, k) == pytest.approx(
        precision_by_loops(codes, labels, k)
    )


def test_retrieval_precision_with_twins():
    # Three clusters of equal points: every neighbour is a twin, of which half carry the other label.
    codes = torch.arange(3.0).repeat_interleave(8)[:, None] * 10
    labels = torch.arange(3).repeat_interleave(8)
    assert retrieval_precision(codes, labels, k=7) == 1.0
    assert retrieval_precision(codes, labels, k=1) == 1.0
    halves = torch.tensor([0, 1]).repeat(
        12
    )  # with all 7 twins taken, 3 of them carry the query's own label
    assert retrieval_precision(codes, halves, k=7) == pytest.approx(3 / 7)


def test_a_query_is_never_its_own_neighbour():
    codes, labels = torch.zeros(10, 2), torch.arange(10)  # all equal, no two labels the same
    for k in (1, 3, 9):
        assert retrieval_precision(codes, labels, k) == 0.0


def test_retrieval_precision_rejects():
    codes, labels = random(5, 2), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(ValueError, match="5 codes but 4 labels"):
        retrieval_precision(codes, labels[:4])
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k is {k}; expected 1 … 4"):
            retrieval_precision(codes, labels, k)


# --- maximum mean discrepancy ---------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["rbf", "imq", "cubic"])
@pytest.mark.parametrize("unbiased", [True, False])
def test_mmd_equals_the_sums_over_pairs(kernel, unbiased):
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64) + 1

    def k(a, b):
        r2 = (a - b).square().sum()
        return {
            "rbf": sum(torch.exp(-r2 / (2 * w * w)) for w in (0.5, 2.0)),
            "imq": sum(w * w / (w * w + r2) for w in (0.5, 2.0)),
            "cubic": (a @ b / 3 + 1) ** 3,
        }[kernel]

    def mean(a, b, same):
        pairs = [
            k(p, q)
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not (same and unbiased and i == j)
        ]
        return sum(pairs) / len(pairs)

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    found = squared_mmd(x, y, kernel=kernel, widths=(0.5, 2.0), unbiased=unbiased)
    torch.testing.assert_close(found, expected)


def test_mmd_of_gaussians_has_its_closed_form():
    # For N(0, 1) and N(m, 1) and a Gaussian kernel of width w: E k is a Gaussian integral.
    w, m = 1.5, 2.0
    gain = w / (w**2 + 2) ** 0.5
    expected = 2 * gain * (1 - torch.exp(torch.tensor(-(m**2) / (2 * (w**2 + 2)))))
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(4000, 1, generator=g), torch.randn(4000, 1, generator=g) + m
    assert squared_mmd(x, y, widths=(w,)).item() == pytest.approx(expected.item(), rel=0.05)


def test_mmd_does_not_depend_on_a_common_shift_and_has_gradients():
    x, y = torch.randn(50, 2), torch.randn(60, 2, requires_grad=True)
    near, far = (
        squared_mmd(x, y),
        squared_mmd(x + 1000, y + 1000),
    )
    assert far.item() == pytest.approx(near.item(), abs=1e-3)
    near.backward()
    assert y.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kernel": "linear"}, "kernel is 'linear'"),
        ({"widths": (0.0,)}, "widths > 0"),
    ],
)
def test_mmd_refuses_what_is_no_kernel(arguments, words):
    with pytest.raises(ValueError, match=words):
        squared_mmd(torch.randn(5, 2), torch.randn(5, 2), **arguments)


def test_mmd_refuses_other_widths_and_single_points():
    with pytest.raises(ValueError):
        squared_mmd(torch.randn(5, 2), torch.randn(5, 3))
    with pytest.raises(ValueError, match="at least 2"):
        squared_mmd(torch.randn(1, 2), torch.randn(5, 2))
