"""PCA and its relatives against scikit-learn, closed forms, enumeration and Max's table."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import sklearn.decomposition
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lectool import moments, pca, random, train
from lectool.metrics import principal_angles, reconstruction_error
from lectool.pca import (
    PCA,
    LinearAutoencoder,
    Whitening,
    allocate_bits,
    alternating_least_squares,
    quantize,
)

FEW = settings(derandomize=True, database=None, deadline=None, max_examples=25)


def correlated(n: int, d: int, *, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    """Data with a mean far from 0, correlated columns and distinct variances."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=rng, dtype=torch.float64) * 0.8 ** torch.arange(d)
    return (x @ torch.linalg.qr(torch.randn(d, d, generator=rng, dtype=torch.float64)).Q + 3).to(
        dtype
    )


# ------------------------------------------------------------------------------------------------ PCA


@pytest.mark.parametrize("solver", ["auto", "covariance", "svd"])
@pytest.mark.parametrize(
    ("n", "d", "k"),
    [(200, 12, 5), (200, 12, 12), (200, 12, None), (9, 30, 4), (9, 30, 8), (6, 6, 3)],
)
def test_pca_against_scikit_learn(solver, n, d, k):
    x = correlated(n, d)
    ours = PCA(k, solver=solver).fit(x)
    theirs = sklearn.decomposition.PCA(k, svd_solver="full").fit(x.numpy())
    rank = min(n - 1, d, len(ours.components_))  # beyond it a direction of no variance is arbitrary
    torch.testing.assert_close(ours.mean_, torch.as_tensor(theirs.mean_))
    for name in ("explained_variance_", "explained_variance_ratio_"):
        torch.testing.assert_close(
            getattr(ours, name), torch.as_tensor(getattr(theirs, name)), rtol=1e-8, atol=1e-10
        )
    cosines = (ours.components_ * torch.as_tensor(theirs.components_)).sum(1)[:rank]
    torch.testing.assert_close(cosines.abs(), torch.ones(rank).double())
    signs = cosines.sign()
    torch.testing.assert_close(
        ours.transform(x)[:, :rank] * signs,
        torch.as_tensor(theirs.transform(x.numpy()))[:, :rank],
        rtol=1e-7,
        atol=1e-7,
    )
    torch.testing.assert_close(
        ours.reconstruct(x), torch.as_tensor(theirs.inverse_transform(theirs.transform(x.numpy())))
    )


@FEW
@given(
    n=st.integers(2, 40),
    d=st.integers(1, 20),
    k=st.integers(1, 20),
    seed=st.integers(0, 99),
    solver=st.sampled_from(["auto", "covariance", "svd"]),
)
def test_properties_over_shapes(n, d, k, seed, solver):
    k, x = min(k, n, d), correlated(n, d, seed=seed)
    model = PCA(k, solver=solver).fit(x)
    assert model.components_.shape == (k, d) and model.explained_variance_.shape == (k,)
    torch.testing.assert_close(
        model.components_ @ model.components_.T, torch.eye(k).double(), rtol=0, atol=1e-10
    )
    assert (model.explained_variance_ >= 0).all() and (
        model.explained_variance_.diff() <= 1e-12
    ).all()
    # What is thrown away is the error: the closed form.
    error = reconstruction_error(x, model.reconstruct(x))
    assert model.discarded_variance_ == pytest.approx(error, rel=1e-8, abs=1e-10)
    total = (x - x.mean(0)).square().sum().item() / n
    assert model.explained_variance_.sum().item() * (n - 1) / n + error == pytest.approx(
        total, rel=1e-8
    )
    assert model.explained_variance_ratio_.sum().item() == pytest.approx(
        1 - error / total, abs=1e-8
    )
    # A projection: twice is once, and codes of reconstructions are the codes.
    again = model.reconstruct(model.reconstruct(x))
    torch.testing.assert_close(again, model.reconstruct(x))
    z = model.fit_transform(x)
    torch.testing.assert_close(model.transform(model.inverse_transform(z)), z, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(z.mean(0), torch.zeros(k).double(), rtol=0, atol=1e-9)
    covariance = z.T @ z / (n - 1)
    torch.testing.assert_close(covariance, model.explained_variance_.diag(), rtol=1e-7, atol=1e-9)
    # The sign rule.
    largest = model.components_.gather(1, model.components_.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


@FEW
@given(seed=st.integers(0, 999))
def test_no_other_subspace_loses_less(seed):
    x = correlated(60, 6, seed=seed)
    best = PCA(2).fit(x).discarded_variance_
    other = torch.linalg.qr(
        torch.randn(6, 2, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    ).Q
    centered = x - x.mean(0)
    assert reconstruction_error(centered, centered @ other @ other.T) >= best


def test_the_solvers_agree_also_on_many_rows():
    x = correlated(20_000, 4)  # more than the covariance takes in one piece
    a, b = PCA(3, solver="covariance").fit(x), PCA(3, solver="svd").fit(x)
    torch.testing.assert_close(a.components_, b.components_)
    torch.testing.assert_close(a.explained_variance_, b.explained_variance_)
    torch.testing.assert_close(
        a.explained_variance_.sum(), torch.linalg.eigvalsh(torch.cov(x.T))[1:].sum()
    )


def test_auto_takes_the_data_where_they_are_fewer_than_dimensions(monkeypatch):
    asked = []
    for name in ("covariance", "right_singular_vectors"):
        original = getattr(moments, name)
        monkeypatch.setattr(
            moments, name, lambda *a, _n=name, _o=original: asked.append(_n) or _o(*a)
        )
    PCA().fit(correlated(5, 6))
    PCA().fit(correlated(6, 6))
    PCA(solver="covariance").fit(correlated(5, 6))
    PCA(solver="svd").fit(correlated(6, 5))
    assert asked == ["right_singular_vectors", "covariance", "covariance", "right_singular_vectors"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [100, 5])
def test_the_dtype_is_kept(dtype, n):
    x = correlated(n, 8, dtype=dtype)
    model = PCA(3).fit(x)
    for t in (
        model.mean_,
        model.components_,
        model.explained_variance_,
        model.explained_variance_ratio_,
    ):
        assert t.dtype == dtype
    assert model.transform(x).dtype == model.reconstruct(x).dtype == dtype
    exact = PCA(3).fit(x.double())
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(
        model.components_.double(), exact.components_, rtol=0, atol=50 * tolerance
    )
    torch.testing.assert_close(
        model.explained_variance_.double(),
        exact.explained_variance_,
        rtol=10 * tolerance,
        atol=tolerance,
    )


def test_float32_with_a_large_mean():
    x = correlated(500, 5) * 0.1 + 1000  # a covariance as E[xx'] − μμ' would lose everything
    model, exact = PCA(3).fit(x.float()), PCA(3).fit(x)
    torch.testing.assert_close(
        model.explained_variance_.double(), exact.explained_variance_, rtol=0.02, atol=0
    )


@pytest.mark.parametrize("k", [0, -1, 5, 100])
def test_k_out_of_range(k):
    for x in (correlated(4, 9), correlated(9, 4)):
        with pytest.raises(
            ValueError, match=f"n_components is {k} for {len(x)} samples of .*; expected 1 … 4"
        ):
            PCA(k).fit(x)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(1, 3), "n ≥ 2"),
        (torch.zeros(5), "expected 2 axes"),
        (torch.zeros(0, 3), "empty"),
        (torch.tensor([[0.0, math.nan], [1.0, 2.0]]), "x holds 1 values that are NaN"),
        (torch.tensor([[0.0, math.inf], [1.0, 2.0]]), "NaN or infinite"),
        (torch.zeros(4, 3, dtype=torch.int64), "expected a float32 or float64 tensor"),
    ],
)
def test_bad_data(x, words):
    with pytest.raises(ValueError, match=words):
        PCA(1).fit(x)
    if "n ≥ 2" not in words:
        with pytest.raises(ValueError, match=words):
            Whitening().fit(x)
        with pytest.raises(ValueError, match=words):
            alternating_least_squares(x, 1)


def test_bad_arguments():
    with pytest.raises(ValueError, match="it can be 'auto', 'covariance' or 'svd'"):
        PCA(2, solver="randomized")
    model = PCA(2).fit(correlated(9, 4))
    with pytest.raises(ValueError, match="expected 4 numbers in a sample"):
        model.transform(correlated(3, 5))
    with pytest.raises(ValueError, match=r"z has shape \(3, 4\); expected 2 numbers"):
        model.inverse_transform(correlated(3, 4))


# ------------------------------------------------------------------------------------------ whitening


@pytest.mark.parametrize("method", ["pca", "zca"])
def test_whitening_gives_the_identity_and_goes_back(method):
    x = correlated(300, 6)
    model = Whitening(method, eps=0).fit(x)
    z = model.transform(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(6).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(z.T @ z / len(z), torch.eye(6).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(model.inverse_transform(z), x)
    assert (
        z.dtype == x.dtype
        and Whitening(method).fit(x.float()).transform(x.float()).dtype == torch.float32
    )


@pytest.mark.parametrize("method", ["pca", "zca"])
def test_eps_is_added_to_each_eigenvalue(method):
    x, eps = correlated(300, 6), 0.3
    z = Whitening(method, eps=eps).fit(x).transform(x)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0))
    expected = (eigenvalues / (eigenvalues + eps)).sort().values
    torch.testing.assert_close(torch.linalg.eigvalsh(torch.cov(z.T, correction=0)), expected)
    model = Whitening(method, eps=eps).fit(x)
    torch.testing.assert_close(model.inverse_transform(z), x)


def test_zca_is_symmetric_and_the_nearest_of_all_rotations():
    x = correlated(300, 5)
    model, centered = Whitening("zca", eps=0).fit(x), x - x.mean(0)
    torch.testing.assert_close(model.whitener_, model.whitener_.T)
    z = model.transform(x)
    nearest = (z - centered).square().sum()
    rng = torch.Generator().manual_seed(0)
    turns = [
        torch.linalg.qr(torch.randn(5, 5, generator=rng, dtype=torch.float64)).Q for _ in range(100)
    ]
    turns += [torch.matrix_exp(0.01 * (a - a.T)) for a in turns[:20]]  # also those close by
    for turn in turns:
        assert (z @ turn.T - centered).square().sum() > nearest
    flat = Whitening("pca", eps=0).fit(x).transform(x)
    assert (flat - centered).square().sum() > nearest


def test_pca_whitening_is_the_scaled_code():
    x = correlated(300, 5)
    model = PCA().fit(x)
    code = model.transform(x) / (model.explained_variance_ * 299 / 300).sqrt()
    z = Whitening("pca", eps=0).fit(x).transform(x)
    torch.testing.assert_close(z.abs(), code.abs())


def test_whitening_of_flat_data_needs_eps():
    x = torch.cat([correlated(50, 3), torch.zeros(50, 1)], 1)
    for flat in (x, correlated(4, 6), torch.zeros(5, 2)):
        with pytest.raises(ValueError, match=r"covariance is singular.*expected eps > 0"):
            Whitening(eps=0).fit(flat)
    assert torch.isfinite(Whitening(eps=1e-3).fit(x).transform(x)).all()


def test_whitening_rejects():
    with pytest.raises(ValueError, match="it can be 'pca' or 'zca'"):
        Whitening("cholesky")
    with pytest.raises(ValueError, match=r"eps is -0\.1; expected a finite number ≥ 0"):
        Whitening(eps=-0.1)
    with pytest.raises(ValueError, match="expected 4 numbers in a sample"):
        Whitening().fit(correlated(30, 4)).transform(correlated(3, 5))


# --------------------------------------------------------------------------------- linear autoencoders


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_loss_by_hand(tied, bias):
    torch.manual_seed(0)
    model, x = LinearAutoencoder(4, 2, tied=tied, bias=bias).double(), correlated(7, 4)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p))
    names = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert names == {
        "V": (2, 4),
        **({} if tied else {"U": (4, 2)}),
        **({"b": (2,), "c": (4,)} if bias else {}),
    }
    V, U = model.V.detach().numpy(), (model.V.T if tied else model.U).detach().numpy()
    b, c = (
        (model.b.detach().numpy(), model.c.detach().numpy()) if bias else (np.zeros(2), np.zeros(4))
    )
    total = 0.0
    for row in x.numpy():
        total += ((U @ (V @ row + b) + c - row) ** 2).sum()
    assert model.loss(x).item() == pytest.approx(total / 7, rel=1e-12)
    torch.testing.assert_close(model.decode(model.encode(x)), model.reconstruct(x))
    assert model.encode(x).shape == (7, 2)


@pytest.mark.parametrize(("d", "k"), [(0, 1), (3, 0)])
def test_linear_autoencoder_rejects(d, k):
    with pytest.raises(ValueError, match="expected a finite number ≥ 1"):
        LinearAutoencoder(d, k)


@pytest.mark.parametrize(("tied", "bias"), [(False, False), (True, False), (False, True)])
def test_a_trained_linear_autoencoder_reaches_pca_and_its_subspace(tied, bias):
    x = correlated(200, 5)
    x = x - x.mean(0) + (0.3 if bias else 0.0)
    exact = PCA(2).fit(x)
    random.seed(0)
    model = LinearAutoencoder(5, 2, tied=tied, bias=bias).double()
    train.fit(model, x, epochs=450, batch_size=200, lr=0.03, schedule="cosine")
    assert model.loss(x).item() >= exact.discarded_variance_ * (1 - 1e-9)
    assert model.loss(x).item() == pytest.approx(exact.discarded_variance_, rel=5e-3)
    decoder = model.V.T if tied else model.U
    assert principal_angles(decoder.detach(), exact.components_.T).max() < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_alternating_least_squares_reaches_pca_with_a_linear_code(dtype):
    x = correlated(80, 6, dtype=dtype)
    x = x - x.mean(0)
    torch.manual_seed(0)
    z, U = alternating_least_squares(x, 2, n_steps=100)
    assert z.shape == (80, 2) and U.shape == (6, 2) and z.dtype == U.dtype == dtype
    exact = PCA(2).fit(x)
    assert reconstruction_error(x, z @ U.T) == pytest.approx(exact.discarded_variance_, rel=1e-4)
    assert principal_angles(U, exact.components_.T).max() < 1e-2
    # No encoder was asked for, and yet the code is one linear map of x.
    linear = torch.linalg.lstsq(x.double(), z.double()).solution
    torch.testing.assert_close(
        x.double() @ linear, z.double(), rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-10
    )
    # The codes are the best for the decoder: no change of one lowers the error.
    gradient = (z @ U.T - x) @ U
    assert gradient.abs().max() < (1e-4 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("k", [0, 7])
def test_alternating_least_squares_rejects_k(k):
    with pytest.raises(ValueError, match=f"k is {k} .*; expected 1 … 6"):
        alternating_least_squares(correlated(9, 6), k)


# ---------------------------------------------------------------------------------------- quantization


def uniform_error(step: float, bits: int) -> float:
    """Exact mean squared error of a uniform quantizer of 2**bits cells, by integrating the Gaussian."""
    edges = step * np.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1))
    low, high = np.append(-np.inf, edges), np.append(edges, np.inf)
    middle = step * (np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) + 0.5)
    pdf, cdf = scipy.stats.norm.pdf, scipy.stats.norm.cdf
    mass, first = cdf(high) - cdf(low), pdf(low) - pdf(high)
    with np.errstate(invalid="ignore"):
        second = (
            mass
            + np.where(np.isinf(low), 0, low) * pdf(low)
            - np.where(np.isinf(high), 0, high) * pdf(high)
        )
    return float((second - 2 * middle * first + middle**2 * mass).sum())


def test_the_table_of_max_1960():
    steps, errors = pca.quantizer_table()
    assert steps[1:6].tolist() == pytest.approx([1.596, 0.9957, 0.5860, 0.3352, 0.1881], rel=0.01)
    assert errors[:6].tolist() == pytest.approx(
        [1, 0.3634, 0.1188, 0.03744, 0.01154, 0.003495], rel=0.01
    )


@pytest.mark.parametrize("bits", range(1, 11))
def test_each_entry_is_the_best_uniform_quantizer(bits):
    steps, errors = (t[bits].item() for t in pca.quantizer_table())
    exact = uniform_error(steps, bits)
    assert errors == pytest.approx(exact, rel=0.01)
    best = min(uniform_error(steps * f, bits) for f in np.linspace(0.8, 1.25, 46))
    assert exact <= best * 1.005


def test_every_further_bit_buys_less():
    _, errors = pca.quantizer_table()
    gains = -errors.diff()
    assert len(errors) == 11 and (gains > 0).all() and (gains.diff() < 0).all()
    assert (errors[1:] / errors[:-1] > 0.25).all()  # never better than 6 dB a bit


def test_quantize_has_so_many_levels_and_is_idempotent():
    rng = torch.Generator().manual_seed(0)
    sd = torch.tensor([1.0, 0.5, 2.0, 1.0, 3.0])
    bits = torch.tensor([0, 1, 2, 3, 5])
    z = torch.randn(20_000, 5, generator=rng) * sd
    q = quantize(z, bits, sd)
    assert [len(column.unique()) for column in q.T] == [1, 2, 4, 8, 32]
    assert not q[:, 0].any() and q.dtype == z.dtype
    assert torch.equal(quantize(q, bits, sd), q)
    _, errors = pca.quantizer_table()
    torch.testing.assert_close(
        (q - z).square().mean(0).double() / sd.double() ** 2, errors[bits], rtol=0.1, atol=0
    )
    for column in q.T[1:]:
        levels = column.unique()
        torch.testing.assert_close(levels, -levels.flip(0))  # symmetric about 0
    assert quantize(z.double(), bits, sd.double()).dtype == torch.float64


def test_quantize_goes_to_the_nearest_level():
    z = torch.linspace(-5, 5, 801, dtype=torch.float64)[:, None]
    for b in (1, 2, 4):
        q = quantize(z, torch.tensor([b]), torch.ones(1).double())
        levels = q.unique()
        assert ((q - z).abs() <= (z - levels[None]).abs().min(1, keepdim=True).values + 1e-12).all()


@pytest.mark.parametrize("bits", [[-1, 2], [3, 11]])
def test_quantize_rejects(bits):
    with pytest.raises(ValueError, match="expected 0 … 10"):
        quantize(torch.zeros(2, 2), torch.tensor(bits), torch.ones(2))


@FEW
@given(k=st.integers(1, 4), total=st.integers(0, 8), seed=st.integers(0, 999))
def test_no_other_allocation_is_better(k, total, seed):
    variances = (
        torch.rand(k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 3
        + 1e-4
    )
    total = min(total, 10 * k)
    bits = allocate_bits(variances, total)
    assert bits.sum() == total and bits.dtype == torch.int64 and bits.shape == (k,)
    _, errors = pca.quantizer_table()
    ours = (variances * errors[bits]).sum().item()
    every = [b for b in itertools.product(range(total + 1), repeat=k) if sum(b) == total]
    best = min((variances * errors[torch.tensor(b)]).sum().item() for b in every)
    assert ours == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("total", [0, 17, 100, 333, 500])
def test_no_single_bit_is_better_elsewhere(total):
    variances = 0.9 ** torch.arange(50)
    bits = allocate_bits(variances, total)
    assert bits.sum() == total and bits.min() >= 0 and bits.max() <= 10
    assert (bits.diff() <= 0).all()  # more variance, no fewer bits
    _, errors = pca.quantizer_table()
    gain = variances.double() * torch.cat([-errors.diff(), torch.zeros(1)])[bits]  # of one bit more
    loss = (
        variances.double() * torch.cat([torch.full((1,), math.inf), -errors.diff()])[bits]
    )  # of one bit fewer
    assert gain.max() <= loss.min() + 1e-15


def test_equal_components_share_alike():
    bits = allocate_bits(torch.ones(7), 24)
    assert sorted(bits.tolist()) == [3] * 4 + [4] * 3
    assert allocate_bits(torch.ones(3), 30).tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("variances", "total"), [([1.0, 0.0], 2), ([1.0, -1.0], 2), ([1.0, 1.0], -1), ([1.0, 1.0], 21)]
)
def test_allocate_bits_rejects(variances, total):
    with pytest.raises(ValueError, match="expected > 0 and 0 … 20"):
        allocate_bits(torch.tensor(variances), total)


# --- covariance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1.0, 3.0, 1000.0])
def test_covariance_in_float32_survives_a_mean_far_from_zero(offset):
    # Not centering at all would lose offset² / variance · 1e-7 of it: everything at an offset of 1000.
    exact = correlated(4000, 8) - 3
    x = (exact + offset).float()
    expected = np.cov(x.double().numpy().T, bias=True)
    found = moments.covariance(x, x.mean(0))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5 * np.trace(expected))


def test_covariance_keeps_to_the_data_though_they_need_a_gradient_or_are_no_block():
    x = correlated(50, 6)
    expected = np.cov(x.numpy().T, bias=True)
    for same in (x.clone().requires_grad_(), x.T.contiguous().T, x.repeat(1, 2)[:, :6]):
        np.testing.assert_allclose(
            moments.covariance(same, same.detach().mean(0)).numpy(), expected
        )


@pytest.mark.parametrize("n", [1, 127, 128, 20001])
def test_checked_mean_is_the_mean_with_little_rounding(n):
    x = 0.5 + torch.rand(n, 3, generator=torch.Generator().manual_seed(0))
    for rows in (x, x.flip(1), torch.cat([x, x], 1)[:, ::2]):
        assert (moments.mean(rows) - rows.double().mean(0)).abs().max() < 2e-7


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_checked_mean_sees_every_number(bad):
    for row in (0, 130, 299):
        x = torch.zeros(300, 2)
        x[row, 1] = bad
        with pytest.raises(ValueError, match="1 values that are NaN or infinite"):
            moments.mean(x)
    x[0, 1] = -bad
    with pytest.raises(ValueError, match="2 values that are NaN or infinite"):
        moments.mean(x)
    huge = torch.full((300, 2), 3e38)
    assert moments.mean(huge).shape == (2,), "finite numbers whose sum is not are no bad data"


# --- columns of any scale -------------------------------------------------------------------------------


def year_and_income(dtype=torch.float32):
    """2000 ± 0.5 and 60,000 ± 30,000, uncorrelated."""
    z = torch.randn(5000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = (z - z.mean(0)) / z.std(0, correction=0)
    z[:, 0] = z[:, 0] - z[:, 1] * (z[:, 0] @ z[:, 1]) / (z[:, 1] @ z[:, 1])
    return (torch.tensor([2000.0, 6e4]) + torch.tensor([0.5, 3e4]) * z).to(dtype)


@pytest.mark.parametrize("solver", ["covariance", "svd"])
def test_a_small_column_beside_a_large_one_keeps_its_variance(solver):
    model = PCA(solver=solver).fit(year_and_income())
    assert model.explained_variance_[0] == pytest.approx(9e8, rel=1e-2)
    assert model.explained_variance_[1] == pytest.approx(0.25, rel=1e-2)
    assert model.components_[1].abs().tolist() == pytest.approx([1.0, 0.0], abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["pca", "zca"])
def test_whitening_of_columns_of_very_different_scale(dtype, method):
    x = year_and_income(dtype)
    z = Whitening(method, eps=0.0).fit(x).transform(x).double()
    torch.testing.assert_close(z.T.cov(correction=0), torch.eye(2).double(), rtol=0, atol=2e-2)
    other = torch.tensor([3e4, 0.2]) * torch.randn(500, 2, dtype=torch.float64)
    Whitening(method, eps=0.0).fit(other)
    with pytest.raises(ValueError, match="singular"):
        Whitening(method, eps=0.0).fit(torch.cat([x, x[:, :1]], 1))


@pytest.mark.parametrize("scale", [1e-16, 1e-8, 1e8, 1e15])
def test_shares_of_variance_know_no_units(scale):
    x = correlated(200, 5)
    expected = PCA().fit(x).explained_variance_ratio_
    for dtype in (torch.float64, torch.float32):
        found = PCA().fit((scale * x).to(dtype)).explained_variance_ratio_
        assert found.sum() == pytest.approx(1, rel=1e-5)
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-6)


def test_what_a_type_cannot_hold_is_said():
    with pytest.raises(
        ValueError, match=r"torch.float32 cannot hold; expected other units, or float64"
    ):
        PCA().fit((1e-25 * correlated(20, 3)).float())
    assert PCA().fit(torch.ones(5, 3)).explained_variance_ratio_.sum() == 0


def test_types_that_do_not_fit_get_a_sentence():
    x = correlated(50, 4)
    for model in (PCA(2), Whitening()):
        model.fit(x)
        with pytest.raises(
            ValueError, match=r"x is torch.float32, the model torch.float64; expected"
        ):
            model.transform(x.float())
        with pytest.raises(ValueError, match=r"x is torch.bfloat16; expected a float32 or float64"):
            model.fit(x.bfloat16())


@pytest.mark.parametrize(("n", "d"), [(20_000, 3), (3_000, 900)])
def test_the_covariance_knows_what_rounding_has_left_of_the_mean(n, d):
    rng = torch.Generator().manual_seed(0)
    x = (1e6 + 0.1 * torch.randn(n, d, generator=rng, dtype=torch.float64)).float()
    exact = x.double().var(0, correction=0)
    found = moments.covariance(x, moments.mean(x)).diag()
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=0)
