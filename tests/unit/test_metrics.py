"""Measures against SciPy, scikit-learn and loops."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from lectool.metrics import (
    Estimate,
    frechet_distance,
    frechet_inception_distance,
    inception_score,
    jackknife,
    kernel_inception_distance,
    mmd2,
    nearest,
    precision_recall,
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.0, 5), "error is 0.0"),
        ((-1.0, 5), "error is -1.0"),
        ((1.0, 0), "d is 0"),
        ((1.0, 5, 0.0), "peak is 0.0"),
    ],
)
def test_psnr_rejects(arguments, words):
    with pytest.raises(ValueError, match=words):
        psnr(*arguments)


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
    turn = torch.linalg.qr(random(k, k, seed=seed + 2)).Q
    mix = turn * torch.linspace(1, 3, k)  # far from singular
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


def test_columns_of_very_different_length_are_a_basis():
    a = random(6, 2)
    scaled = a * torch.tensor([1e-200, 1e200], dtype=torch.float64)
    assert principal_angles(a, scaled).max() < 1e-12


def test_dependent_columns_are_seen_in_their_own_precision():
    a = random(6, 2, dtype=torch.float32)
    dependent = torch.cat([a, (a[:, :1] + 3 * a[:, 1:]) / 7], 1)
    with pytest.raises(ValueError, match="columns of b are linearly dependent"):
        principal_angles(random(6, 3, dtype=torch.float32), dependent)
    assert principal_angles(random(6, 3), dependent.double()).shape == (3,)


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


# ------------------------------------------------------------------------------------------ neighbors


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


def test_nearest_keeps_near_points_of_far_groups_apart():
    # In float32 the squares of numbers near 100 are exact to 1e-3; the groups are 1e-2 wide.
    x = torch.cat([random(100, 3) / 100 + 100, random(100, 3, seed=1) / 100 - 100]).float()
    theirs = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(x.double().numpy())
    expected = theirs.kneighbors(x.double().numpy())[1]
    assert nearest(x, x, 4).tolist() == expected.tolist()


def test_nearest_takes_two_float_types():
    x = random(20, 3)
    expected = nearest(x, x, 2)
    assert torch.equal(nearest(x.float(), x, 2), expected)
    assert torch.equal(nearest(x, x.float(), 2), expected)


def test_nearest_rejects():
    x = random(5, 3)
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"k is {k}; expected 1 … 5"):
            nearest(x, x, k)
    with pytest.raises(ValueError, match=r"queries has shape .*expected 3 numbers"):
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
    # Three clusters of equal points: every neighbor is a twin, of which half carry the other label.
    codes = torch.arange(3.0).repeat_interleave(8)[:, None] * 10
    labels = torch.arange(3).repeat_interleave(8)
    assert retrieval_precision(codes, labels, k=7) == 1.0
    assert retrieval_precision(codes, labels, k=1) == 1.0
    # With all 7 twins taken, 3 of them carry the query's own label.
    halves = torch.tensor([0, 1]).repeat(12)
    assert retrieval_precision(codes, halves, k=7) == pytest.approx(3 / 7)


def test_a_query_is_never_its_own_neighbor():
    codes, labels = torch.zeros(10, 2), torch.arange(10)  # all equal, no two labels the same
    for k in (1, 3, 9):
        assert retrieval_precision(codes, labels, k) == 0.0


def test_retrieval_precision_rejects():
    codes, labels = random(5, 2), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(ValueError, match="codes has 5, labels has 4 rows"):
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
    x, y = torch.randn(2000, 1, generator=g), torch.randn(2000, 1, generator=g) + m
    assert squared_mmd(x, y, widths=(w,)).item() == pytest.approx(expected.item(), rel=0.05)


def test_mmd_does_not_depend_on_a_common_shift_and_has_gradients():
    x, y = torch.randn(50, 2), torch.randn(60, 2, requires_grad=True)
    near, far = squared_mmd(x, y), squared_mmd(x + 1000, y + 1000)
    assert far.item() == pytest.approx(near.item(), abs=1e-3)
    near.backward()
    assert y.grad.abs().sum() > 0


@pytest.mark.parametrize("kernel", ["rbf", "imq", "cubic"])
def test_mmd2_is_the_same_number_without_checks_and_for_many_pairs_at_once(kernel):
    x, y = random(3, 7, 2), random(3, 5, 2, seed=1)
    expected = torch.stack(
        [squared_mmd(a, b, kernel=kernel, widths=(0.5, 2.0)) for a, b in zip(x, y)]
    )
    at_once = torch.vmap(lambda a, b: mmd2(a, b, kernel, (0.5, 2.0)))(x, y)
    torch.testing.assert_close(at_once, expected)
    assert mmd2(x[0] * math.nan, y[0], kernel, (1.0,)).isnan()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kernel": "linear"}, "kernel is 'linear'"),
        ({"widths": (1.0, 0.0)}, "widths is 0.0"),
        ({"widths": (math.nan,)}, "widths is nan"),
    ],
)
def test_mmd_refuses_what_is_no_kernel(arguments, words):
    with pytest.raises(ValueError, match=words):
        squared_mmd(torch.randn(5, 2), torch.randn(5, 2), **arguments)


def test_mmd_refuses_other_widths_other_types_and_single_points():
    with pytest.raises(ValueError, match=r"x is torch.float32 and y is torch.float64"):
        squared_mmd(torch.randn(5, 2), torch.randn(5, 2).double())
    with pytest.raises(ValueError):
        squared_mmd(torch.randn(5, 2), torch.randn(5, 3))
    with pytest.raises(ValueError, match="at least 2"):
        squared_mmd(torch.randn(1, 2), torch.randn(5, 2))


# ------------------------------------------------------------------------- Fréchet distance of Gaussians


def covariance(d: int, rank: int, seed: int) -> torch.Tensor:
    a = random(d, rank, seed=seed)
    return a @ a.T


def by_scipy(mean_1, cov_1, mean_2, cov_2) -> float:
    root = scipy.linalg.sqrtm((cov_1 @ cov_2).numpy()).real
    shift = (mean_1 - mean_2).square().sum().item()
    return shift + (cov_1.trace() + cov_2.trace()).item() - 2 * np.trace(root)


@FEW
@given(d=st.integers(1, 8), seed=st.integers(0, 999))
def test_frechet_distance_is_the_published_formula(d, seed):
    one = random(d, seed=seed), covariance(d, d + 2, seed + 1)
    two = random(d, seed=seed + 2), covariance(d, d + 2, seed + 3)
    assert frechet_distance(*one, *two) == pytest.approx(by_scipy(*one, *two), rel=1e-8, abs=1e-10)
    assert frechet_distance(*two, *one) == pytest.approx(frechet_distance(*one, *two), rel=1e-8)


def test_frechet_distance_where_it_is_known():
    zero = torch.zeros(3).double()
    sd_1, sd_2 = torch.tensor([1.0, 2.0, 0.0]).double(), torch.tensor([3.0, 2.0, 5.0]).double()
    found = frechet_distance(zero, sd_1.square().diag(), zero + 2, sd_2.square().diag())
    assert found == pytest.approx(12 + (sd_1 - sd_2).square().sum().item(), rel=1e-6)
    turn = torch.linalg.qr(random(3, 3)).Q  # turning both changes nothing
    a, b = turn @ sd_1.square().diag() @ turn.T, turn @ sd_2.square().diag() @ turn.T
    assert frechet_distance(zero, a, turn @ (zero + 2), b) == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("ranks", [(1, 1), (2, 5), (0, 3), (3, 9)])
def test_frechet_distance_of_singular_covariances(ranks):
    # Both live in one plane of few dimensions, where the distance is regular and SciPy's root exact.
    d, k = 40, 9
    basis = torch.linalg.qr(random(d, k, seed=7)).Q
    small = [covariance(k, r, seed=r) if r else torch.zeros(k, k).double() for r in ranks]
    m = [random(k, seed=20), random(k, seed=21)]
    ridge = [c + 1e-13 * torch.eye(k) for c in small]
    expected = by_scipy(m[0], ridge[0], m[1], ridge[1])
    large = [basis @ c @ basis.T for c in small]
    found = frechet_distance(basis @ m[0], large[0], basis @ m[1], large[1])
    assert found == pytest.approx(expected, abs=2e-4)
    assert frechet_distance(m[0], small[0], m[0], small[0]) == pytest.approx(0, abs=1e-10)


def test_frechet_distance_rejects():
    m, c = torch.zeros(2), torch.eye(2)
    with pytest.raises(ValueError, match="cov_2 is no covariance"):
        frechet_distance(m, c, m, -c)
    with pytest.raises(ValueError, match="cov_1 is no covariance"):
        frechet_distance(m, torch.tensor([[1.0, 0.5], [0.0, 1.0]]), m, c)
    with pytest.raises(ValueError, match="expected"):
        frechet_distance(m, torch.eye(3), m, c)
    with pytest.raises(ValueError, match="expected"):
        frechet_distance(m, c, torch.zeros(3), torch.eye(3))
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance(m, c * math.nan, m, c)


def test_fid_of_samples_is_the_distance_of_their_moments():
    x, y = random(50, 4), 2 * random(60, 4, seed=1) + 1
    cov_x, cov_y = (torch.from_numpy(np.cov(t.T.numpy())) for t in (x, y))
    expected = by_scipy(x.mean(0), cov_x, y.mean(0), cov_y)
    assert frechet_inception_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_inception_distance(x.float(), y.float()) == pytest.approx(expected, rel=1e-5)
    assert frechet_inception_distance(x, x.flip(0)) == pytest.approx(0, abs=1e-12)
    few = frechet_inception_distance(x[:3], y[:3])  # covariances of rank 2 in four dimensions
    assert math.isfinite(few) and few >= 0


def test_fid_cannot_see_beyond_two_moments():
    coin = (torch.arange(1500) % 2 * 2 - 1.0)[:, None]  # mean 0, variance 1, as a Gaussian has
    gaussian = torch.special.ndtri((torch.arange(1500).double() + 0.5) / 1500)[:, None]
    assert frechet_inception_distance(coin.double(), gaussian) < 1e-4
    assert kernel_inception_distance(coin.double(), gaussian**2) > 0.5


def test_kid_is_the_unbiased_cubic_mmd():
    x, y = random(30, 5), random(20, 5, seed=1) + 0.5
    assert kernel_inception_distance(x, y) == squared_mmd(x, y, kernel="cubic").item()
    values = [
        kernel_inception_distance(random(40, 3, seed=2 * i), random(40, 3, seed=2 * i + 1))
        for i in range(200)
    ]
    assert min(values) < 0 and abs(np.mean(values)) < 3 * np.std(values) / 200**0.5


@pytest.mark.parametrize("measure", [frechet_inception_distance, kernel_inception_distance])
def test_distances_of_samples_reject(measure):
    with pytest.raises(ValueError, match="expected 3 numbers"):
        measure(random(5, 3), random(5, 2))
    with pytest.raises(ValueError, match="expected ≥ 2 each"):
        measure(random(5, 3), random(1, 3))
    with pytest.raises(ValueError, match="NaN"):
        measure(random(5, 3), random(5, 3) * math.nan)


# --------------------------------------------------------------------------------------- inception score


def test_inception_score_where_it_is_known():
    sure = torch.eye(10).repeat(3, 1)
    assert inception_score(sure) == pytest.approx(10)
    assert inception_score(sure[:4]) == pytest.approx(4)
    assert inception_score(torch.full((7, 10), 0.1)) == pytest.approx(1)
    assert inception_score(sure[[0, 0, 0]]) == pytest.approx(1)  # sure, but always the same


@FEW
@given(n=st.integers(1, 20), k=st.integers(1, 6), seed=st.integers(0, 999))
def test_inception_score_is_the_exponential_of_the_mutual_information(n, k, seed):
    p = random(n, k, seed=seed).softmax(1)
    kl = [
        torch.distributions.kl_divergence(
            torch.distributions.Categorical(row), torch.distributions.Categorical(p.mean(0))
        ).item()
        for row in p
    ]
    score = inception_score(p)
    assert score == pytest.approx(math.exp(sum(kl) / n), rel=1e-8)
    assert 1 - 1e-9 <= score <= k + 1e-9


def test_inception_score_rejects():
    with pytest.raises(ValueError, match="sum to"):
        inception_score(torch.full((3, 4), 0.5))
    with pytest.raises(ValueError, match="expected"):
        inception_score(torch.tensor([[1.5, -0.5]]))


# ---------------------------------------------------------------------------------- precision and recall


def manifold_by_loops(real: torch.Tensor, fake: torch.Tensor, k: int) -> float:
    hits = 0
    for y in fake:
        for i, x in enumerate(real):
            others = sorted((x - o).norm().item() for j, o in enumerate(real) if j != i)
            if (y - x).norm().item() <= others[k - 1]:
                hits += 1
                break
    return hits / len(fake)


@FEW
@given(
    n=st.integers(3, 15),
    m=st.integers(3, 15),
    d=st.integers(1, 3),
    k=st.integers(1, 2),
    shift=st.floats(0, 3, allow_subnormal=False),
    seed=st.integers(0, 999),
)
def test_precision_and_recall_against_loops(n, m, d, k, shift, seed):
    real, fake = random(n, d, seed=seed), random(m, d, seed=seed + 1) + shift
    precision, recall = precision_recall(real, fake, k=k)
    assert precision == pytest.approx(manifold_by_loops(real, fake, k))
    assert recall == pytest.approx(manifold_by_loops(fake, real, k))


def test_precision_and_recall_see_two_different_faults():
    real = torch.cat([random(300, 2), random(300, 2, seed=1) + 10])
    half = random(600, 2, seed=2)  # good samples of one cluster only
    precision, recall = precision_recall(real, half)
    assert precision > 0.9 and 0.4 < recall < 0.55
    wide = 3 * torch.cat([random(300, 2, seed=3), random(300, 2, seed=4) + 10 / 3])
    precision, recall = precision_recall(real, wide)
    assert precision < 0.6 and recall > 0.9


def test_precision_and_recall_reject():
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k is {k}; expected 1 … 4"):
            precision_recall(random(9, 2), random(5, 2), k=k)


# -------------------------------------------------------------------------------------------- confidence


def test_jackknife_of_a_mean_is_its_standard_error():
    x = random(200, 1)
    found = jackknife(lambda x: x.mean().item(), x, n_groups=200)
    half = scipy.stats.t.ppf(0.975, 199) * x.std().item() / 200**0.5
    assert found.high - found.value == pytest.approx(half, rel=1e-9)
    assert found.value - found.low == pytest.approx(half, rel=1e-9)
    assert found.bias == pytest.approx(0, abs=1e-9)
    narrow = jackknife(lambda x: x.mean().item(), x, n_groups=200, level=0.5)
    shrunk = scipy.stats.t.ppf(0.75, 199) / scipy.stats.t.ppf(0.975, 199)
    assert narrow.high - narrow.value == pytest.approx(half * shrunk, rel=1e-9)


def test_jackknife_knows_the_bias_of_a_variance():
    x = random(60, 1)
    found = jackknife(lambda x: x.var(correction=0).item(), x, n_groups=60)
    assert found.value - found.bias == pytest.approx(x.var().item(), rel=1e-9)


def test_jackknife_covers_the_truth_for_two_samples():
    # Squared Fréchet distance of N(0, 1) and N(1, 4): 1 + (1 - 2)² = 2.
    hits, bias = 0, []
    for i in range(120):
        x, y = random(300, 1, seed=2 * i), 1 + 2 * random(300, 1, seed=2 * i + 1)
        found = jackknife(frechet_inception_distance, x, y)
        hits += found.low <= 2 <= found.high
        bias.append(found.bias)
    assert 107 <= hits <= 119  # 114 expected
    assert np.mean(bias) > 0


def test_jackknife_agrees_with_the_binomial_for_shares():
    # Precision of points, of which a known share lies far away: its error is a share's.
    real, fake = random(1000, 2), random(1000, 2, seed=1)
    fake[random(1000, seed=2) > 0.6745] += 100
    found = jackknife(lambda fake: precision_recall(real, fake)[0], fake, n_groups=20)
    expected = scipy.stats.t.ppf(0.975, 19) * (found.value * (1 - found.value) / 1000) ** 0.5
    assert 0.7 < found.value < 0.78
    assert found.high - found.value == pytest.approx(expected, rel=0.4)


def test_jackknife_of_several_measures_at_once_is_that_of_each():
    x, y = random(60, 2), random(40, 2, seed=1) + 0.5
    both = jackknife(precision_recall, x, y)
    for i in (0, 1):
        one = jackknife(lambda a, b, i=i: precision_recall(a, b)[i], x, y)
        assert tuple(both[i]) == pytest.approx(tuple(one))


def test_an_estimate_prints_its_half_width():
    assert str(Estimate(0.7534, 0.7334, 0.7734, 0.0)) == "0.753 ± 0.02"


def test_jackknife_rejects():
    x = random(30, 2)
    for name, value in (("n_groups", 1), ("level", 0.0), ("level", 1.0)):
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            jackknife(lambda x: 0.0, x, **{name: value})
    with pytest.raises(ValueError, match=r"samples have \[\] rows"):
        jackknife(lambda: 0.0)
    with pytest.raises(ValueError, match="expected ≥ 20 each"):
        jackknife(lambda x: 0.0, x[:10])


# ------------------------------------------------------------------------------------------- float types


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize(
    "measure",
    [
        reconstruction_error,
        principal_angles,
        squared_mmd,
        precision_recall,
        frechet_inception_distance,
        kernel_inception_distance,
        lambda x, y: nearest(x, y, 1),
        lambda x, y: retrieval_precision(x, torch.zeros(9), 1),
        lambda x, y: inception_score(x),
        lambda x, y: frechet_distance(x[0], x[:2].T @ y[:2], y[0], x[:2].T @ y[:2]),
    ],
)
def test_other_types_are_refused_by_name(measure, dtype):
    x, y = (random(9, 2, seed=seed).to(dtype) for seed in (0, 1))
    with pytest.raises(ValueError, match=f"is {dtype}; expected a float32 or float64 tensor"):
        measure(x, y)
