"""Linear factor models against scikit-learn, SciPy, autograd, closed forms and properties."""

import math
import warnings

import pytest
import scipy.stats
import sklearn.decomposition
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from lectool import data, em, factors, random, train
from lectool.factors import (
    PPCA,
    FactorAnalysis,
    FastICA,
    GradientPPCA,
    MixtureOfFactorAnalyzers,
    MixtureOfPPCA,
    SlowFeatureAnalysis,
    amari_distance,
    kurtosis,
    negentropy,
)
from lectool.metrics import principal_angles

FEW = settings(derandomize=True, database=None, deadline=None, max_examples=20)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def factor_data(n=600, d=8, k=2, *, seed=0):
    """k factors, private noise of unequal size, a mean away from 0."""
    W, noise = 2 * randn(d, k, seed=seed), 0.2 + torch.rand(d, generator=rng(seed + 1)).double()
    return randn(n, k, seed=seed + 2) @ W.T + randn(n, d, seed=seed + 3) * noise.sqrt() + 3


def sources(n=4000, k=4, seed=0):
    u = torch.rand(n, k, generator=rng(seed), dtype=torch.float64) - 0.5
    u[:, ::2] = -u[:, ::2].sign() * torch.log1p(-2 * u[:, ::2].abs() + 1e-12)  # Laplacian
    return u / u.std(0)


def gaussian_log_density(x, mean, covariance):
    return torch.as_tensor(
        scipy.stats.multivariate_normal(mean.numpy(), covariance.numpy()).logpdf(x.numpy())
    )


# ----------------------------------------------------------------------------- the Gaussian models


@FEW
@given(d=st.integers(2, 9), k=st.integers(1, 8), seed=st.integers(0, 99), one=st.booleans())
def test_density_and_posterior_against_full_covariances(d, k, seed, one):
    x, W = randn(5, d, seed=seed), randn(d, k, seed=seed + 1)
    noise = torch.rand(() if one else (d,), generator=rng(seed)).double() + 0.1
    sigma = W @ W.T + noise.expand(d).diag()
    torch.testing.assert_close(
        factors.log_density(x, W, noise), gaussian_log_density(x, torch.zeros(d), sigma)
    )
    m, G = factors.posterior(x, W, noise)
    torch.testing.assert_close(m, x @ torch.linalg.solve(sigma, W))
    torch.testing.assert_close(
        G, torch.eye(k).double() - W.T @ torch.linalg.solve(sigma, W), rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize(("n", "d", "k"), [(600, 8, 2), (600, 8, 1), (3000, 20, 5)])
def test_factor_analysis_against_scikit_learn(n, d, k):
    x = factor_data(n, d, k)
    ours = FactorAnalysis(k, tol=1e-9, max_iter=5000).fit(x)
    theirs = sklearn.decomposition.FactorAnalysis(k, svd_method="lapack", tol=1e-8, max_iter=5000)
    theirs.fit(x.numpy())
    assert ours.score(x) == pytest.approx(theirs.score(x.numpy()), abs=1e-4)
    assert ours.score(x) == pytest.approx(ours.loglike_[-1], rel=1e-9)
    torch.testing.assert_close(
        ours.get_covariance(), torch.as_tensor(theirs.get_covariance()), rtol=1e-2, atol=1e-2
    )
    torch.testing.assert_close(ours.mean_, x.mean(0))
    assert ours.components_.shape == (k, d) and ours.noise_variance_.shape == (d,)


@FEW
@given(seed=st.integers(0, 999), k=st.integers(1, 4), scale=st.sampled_from([1e-4, 1.0, 1e5]))
def test_factor_analysis_likelihood_never_falls_and_units_do_not_matter(seed, k, scale):
    x = factor_data(60, 7, 2, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = FactorAnalysis(k, max_iter=40).fit(x)
        scaled = FactorAnalysis(k, max_iter=40).fit(x * torch.tensor([scale, 1, 1, 1, 1, 1, 2.0]))
    assert min(b - a for a, b in zip(model.loglike_, model.loglike_[1:])) >= -1e-10
    shift = math.log(scale) + math.log(2)
    assert scaled.loglike_[-1] + shift == pytest.approx(model.loglike_[-1], abs=1e-4)


def test_factor_analysis_ignores_a_loud_private_channel():
    x = factor_data(4000, 8, 1)
    x[:, 3] = 20 * randn(4000, seed=9)
    model = FactorAnalysis(1).fit(x)
    assert model.noise_variance_[3] == pytest.approx(400, rel=0.1)
    assert model.W_[3].square() < 0.01 * model.noise_variance_[3]


def test_repeated_features_are_a_heywood_case():
    x = factor_data(300, 6, 2)
    x = torch.cat([x, x[:, :1]], 1)
    with pytest.warns(UserWarning, match="lower bound in features 0, 6"):
        model = FactorAnalysis(2).fit(x)
    assert math.isfinite(model.score(x))
    assert min(b - a for a, b in zip(model.loglike_, model.loglike_[1:])) >= -1e-9


def test_fewer_samples_than_dimensions():
    x = factor_data(20, 40, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = FactorAnalysis(3).fit(x)
    assert torch.isfinite(model.W_).all() and math.isfinite(model.score(x))
    ppca = PPCA(3).fit(x)
    theirs = sklearn.decomposition.PCA(3, svd_solver="full").fit(x.numpy())
    ours = PPCA(3, correction=1).fit(x)
    # scikit-learn spreads what is left over min(n, d) − k directions, maximum likelihood over d − k.
    assert ours.noise_variance_ * 37 == pytest.approx(theirs.noise_variance_ * 17, rel=1e-8)
    covariance = x.T.cov(correction=0)
    values = torch.linalg.eigvalsh(covariance).flip(0)
    assert ppca.noise_variance_ == pytest.approx(values[3:].sum().item() / 37, rel=1e-8)
    torch.testing.assert_close(
        ppca.score_samples(x), gaussian_log_density(x, x.mean(0), ppca.get_covariance())
    )


@pytest.mark.parametrize(("n", "d", "k"), [(1000, 10, 3), (1500, 10, 1), (1000, 10, 9)])
def test_ppca_score_is_that_of_scikit_learn(n, d, k):
    x = factor_data(n, d, 3)
    theirs = sklearn.decomposition.PCA(k, svd_solver="full").fit(x.numpy())
    expected = theirs.score(x.numpy())
    assert PPCA(k).fit(x).score(x) == pytest.approx(expected, rel=1e-6)
    exact = PPCA(k, correction=1).fit(x)
    assert exact.score(x) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(
        exact.get_covariance(), torch.as_tensor(theirs.get_covariance()), rtol=1e-8, atol=1e-9
    )


@pytest.mark.parametrize("k", [1, 2, 4])
def test_ppca_em_reaches_the_closed_form(k):
    x = factor_data(500, 6, 2)
    closed, em = (
        PPCA(k).fit(x),
        PPCA(k, solver="em", tol=1e-13, max_iter=20000, generator=rng(1)).fit(x),
    )
    assert em.loglike_[-1] == pytest.approx(closed.score(x), abs=1e-8)
    assert em.score(x) == pytest.approx(em.loglike_[-1], abs=1e-9)
    assert min(b - a for a, b in zip(em.loglike_, em.loglike_[1:])) >= -1e-11
    torch.testing.assert_close(em.get_covariance(), closed.get_covariance(), rtol=1e-3, atol=1e-3)


@FEW
@given(seed=st.integers(0, 99))
def test_no_other_parameters_are_more_likely(seed):
    x = factor_data(80, 5, 2, seed=seed)
    model = PPCA(2).fit(x)
    best = model.score(x)
    model.W_ = model.W_ + 0.05 * randn(5, 2, seed=seed)
    model.noise_variance_ = model.noise_variance_ * (1 + 0.1 * randn(1, seed=seed)[0].tanh())
    assert model.score(x) < best


def test_the_gradient_against_autograd_and_at_the_optimum():
    x = factor_data(400, 6, 2)
    C, W, noise = x.T.cov(correction=0), randn(6, 2).requires_grad_(), torch.tensor(0.7).double()
    factors.log_density(x - x.mean(0), W, noise).mean().backward()
    torch.testing.assert_close(factors.ppca_gradient(W.detach(), noise, C), W.grad)
    model = PPCA(2).fit(x)
    assert factors.ppca_gradient(model.W_, model.noise_variance_, C).abs().max() < 1e-10


def test_a_network_climbs_to_the_closed_form():
    random.seed(0)
    x = factor_data(400, 5, 1)
    net = GradientPPCA(5, 1).double()
    train.fit(net, x, steps=1500, batch_size=400, lr=0.05, schedule="linear")
    model = PPCA(1).fit(x)
    assert -net.loss(x).item() == pytest.approx(model.score(x), abs=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(
            net.encode(x).abs(), model.transform(x).abs(), rtol=0.05, atol=0.02
        )
        drawn = net.sample(20000, generator=rng())
    torch.testing.assert_close(
        drawn.T.cov(), model.get_covariance(), rtol=0.1, atol=0.03 * x.var().item()
    )


def test_without_noise_the_posterior_is_the_pseudo_inverse():
    x = factor_data(300, 6, 2)
    model = PPCA(2, noise_variance=1e-9).fit(x)
    z, G = model.posterior(x)
    expected = (x - model.mean_) @ torch.linalg.pinv(model.W_).T
    torch.testing.assert_close(z, expected, rtol=1e-6, atol=1e-6)
    assert G.abs().max() < 1e-8
    torch.testing.assert_close(
        model.inverse_transform(z),
        torch.as_tensor(
            (p := sklearn.decomposition.PCA(2).fit(x.numpy())).inverse_transform(
                p.transform(x.numpy())
            )
        ),
        rtol=1e-6,
        atol=1e-6,
    )


def test_a_noise_that_is_given_is_kept_to_the_last_digit():
    assert PPCA(2, noise_variance=0.1).fit(factor_data()).noise_variance_.item() == 0.1


def test_a_noise_above_the_variance_leaves_no_loading():
    x = factor_data(300, 6, 2)
    assert (PPCA(2, noise_variance=1e4).fit(x).W_ == 0).all()


@pytest.mark.parametrize("make", [lambda: PPCA(2), lambda: FactorAnalysis(2)])
def test_samples_have_the_model_s_moments(make):
    model = make().fit(factor_data())
    drawn = model.sample(100_000, generator=rng())
    torch.testing.assert_close(drawn.mean(0), model.mean_, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.T.cov(), model.get_covariance(), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes_are_kept(dtype):
    x = factor_data().to(dtype)
    for model in (
        PPCA(2),
        PPCA(2, solver="em"),
        FactorAnalysis(2),
        MixtureOfPPCA(2, 1),
        MixtureOfFactorAnalyzers(2, 1),
    ):
        model.fit(x)
        assert model.W_.dtype == model.noise_variance_.dtype == dtype
        assert model.sample(3).dtype == dtype and model.score_samples(x).dtype == dtype
    for model in (FastICA(3), SlowFeatureAnalysis(2, degree=2)):
        assert model.fit(sources(600, 3).to(dtype)).transform(x[:, :3]).dtype == dtype


# --------------------------------------------------------------------------------- missing numbers


def test_missing_em_on_whole_data_is_ppca():
    x = factor_data(300, 6, 2)
    model, filled = factors.ppca_em_missing(
        x, torch.ones(300, 6).bool(), 2, tol=1e-11, max_iter=5000, generator=rng()
    )
    closed = PPCA(2).fit(x)
    assert model.loglike_[-1] == pytest.approx(closed.score(x), abs=1e-6)
    torch.testing.assert_close(model.mean_, x.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        model.get_covariance(), closed.get_covariance(), rtol=1e-2, atol=1e-2
    )
    torch.testing.assert_close(filled, x)


def test_missing_likelihood_and_filling_against_conditional_gaussians():
    x = factor_data(200, 5, 2)
    observed = torch.rand(200, 5, generator=rng(4)) < 0.7
    observed[torch.arange(200), torch.arange(200) % 5] = True
    holes = torch.where(observed, x, torch.full_like(x, torch.nan))
    model, filled = factors.ppca_em_missing(holes, observed, 2, generator=rng())
    assert min(b - a for a, b in zip(model.loglike_, model.loglike_[1:])) >= -1e-9
    sigma, mu, total = model.get_covariance(), model.mean_, 0.0
    for row, o, done in zip(x, observed, filled, strict=True):
        total += gaussian_log_density(row[o], mu[o], sigma[o][:, o]).item()
        guess = mu[~o] + sigma[~o][:, o] @ torch.linalg.solve(sigma[o][:, o], row[o] - mu[o])
        torch.testing.assert_close(done[~o], guess, rtol=1e-6, atol=1e-6)
    assert total / 200 == pytest.approx(model.loglike_[-1], rel=1e-8)
    assert (filled - x)[~observed].std() < 0.5 * (x - x.mean(0))[~observed].std()


def test_missing_bad_input():
    x, seen = factor_data(30, 5), torch.ones(30, 5).bool()
    with pytest.raises(ValueError, match="expected bool"):
        factors.ppca_em_missing(x, seen.float(), 2)
    with pytest.raises(ValueError, match="nowhere observed"):
        factors.ppca_em_missing(x, seen & (torch.arange(5) > 0), 2)
    with pytest.raises(ValueError, match="expected 1 … 4"):
        factors.ppca_em_missing(x, seen, 5)
    with pytest.raises(ValueError, match="NaN"):
        factors.ppca_em_missing(torch.full((30, 5), torch.nan), seen, 2)


# ----------------------------------------------------------------------------------------- mixtures


def test_a_mixture_of_one_is_ppca():
    x = factor_data()
    one, ppca = MixtureOfPPCA(1, 2).fit(x), PPCA(2).fit(x)
    torch.testing.assert_close(one.score_samples(x), ppca.score_samples(x), rtol=1e-6, atol=1e-6)


def test_mixture_density_likelihood_and_samples():
    x = torch.cat([factor_data(300, 4, 1), factor_data(500, 4, 1, seed=5) + 15])
    model = MixtureOfPPCA(2, 1, generator=rng()).fit(x)
    assert min(b - a for a, b in zip(model.loglike_, model.loglike_[1:])) >= -1e-9
    full = [
        w.log() + gaussian_log_density(x, m, W @ W.T + s * torch.eye(4))
        for w, m, W, s in zip(
            model.weights_, model.means_, model.W_, model.noise_variance_, strict=True
        )
    ]
    torch.testing.assert_close(model.score_samples(x), torch.stack(full).logsumexp(0))
    torch.testing.assert_close(
        model.weights_.sort().values, torch.tensor([0.375, 0.625]).double(), rtol=1e-3, atol=1e-3
    )
    share = model.predict_proba(x)
    assert (share[:300].argmax(1) != share[-1].argmax()).all()
    torch.testing.assert_close(share.sum(1), torch.ones(800).double())
    drawn = model.sample(100_000, generator=rng())
    torch.testing.assert_close(drawn.mean(0), x.mean(0), rtol=0.02, atol=0.1)
    torch.testing.assert_close(drawn.T.cov(), x.T.cov(), rtol=0.1, atol=1.5)


def test_a_mixture_of_one_factor_analyzer_is_factor_analysis():
    x = factor_data()
    one = MixtureOfFactorAnalyzers(1, 2, max_iter=3000, tol=1e-9).fit(x)
    alone = FactorAnalysis(2).fit(x)
    torch.testing.assert_close(one.score(x), alone.score(x), rtol=0, atol=1e-4)
    torch.testing.assert_close(one.noise_variance_[0], alone.noise_variance_, rtol=0.02, atol=1e-3)


def test_factor_analyzers_far_apart_find_the_noise_of_each_part():
    noises = torch.tensor([[0.1, 1, 2, 0.5, 1], [2, 0.2, 0.1, 1, 0.4]]).double()
    parts = []
    for noise, n, shift in zip(noises, (4000, 12000), (0, 100), strict=True):
        W, g = torch.tensor([[2.0], [-1.5], [1], [1.5], [-2]]).double(), rng(shift)
        z, e = (torch.randn(n, m, generator=g, dtype=torch.float64) for m in (1, 5))
        parts.append(z @ W.T + e * noise.sqrt() + shift)
    x = torch.cat(parts)
    model = MixtureOfFactorAnalyzers(2, 1, tol=1e-7, max_iter=2000, generator=rng()).fit(x)
    assert min(b - a for a, b in zip(model.loglike_, model.loglike_[1:])) >= 0
    order = model.weights_.argsort()
    torch.testing.assert_close(model.weights_[order], torch.tensor([0.25, 0.75]).double())
    torch.testing.assert_close(model.noise_variance_[order], noises, rtol=0.15, atol=0.1)
    full = [
        w.log() + gaussian_log_density(x, m, W @ W.T + noise.diag())
        for w, m, W, noise in zip(
            model.weights_, model.means_, model.W_, model.noise_variance_, strict=True
        )
    ]
    torch.testing.assert_close(model.score_samples(x), torch.stack(full).logsumexp(0))
    drawn = model.sample(40_000, generator=rng())
    for mine, part in ((drawn[drawn[:, 0] < 50], parts[0]), (drawn[drawn[:, 0] >= 50], parts[1])):
        torch.testing.assert_close(mine.T.cov(), part.T.cov(), rtol=0.1, atol=0.15)


def test_pieces_far_apart_are_the_ppca_of_each_part():
    parts = 3 * factor_data(400, 4, 1), 3 * factor_data(1200, 4, 1, seed=5) + 200
    model = MixtureOfPPCA(2, 1, generator=rng()).fit(torch.cat(parts))
    order = model.weights_.argsort()
    torch.testing.assert_close(model.weights_[order], torch.tensor([0.25, 0.75]).double())
    drawn = model.sample(40_000, generator=rng())
    halves = drawn[drawn[:, 0] < 100], drawn[drawn[:, 0] >= 100]
    for c, part, half in zip(order, parts, halves, strict=True):
        alone = PPCA(1).fit(part)
        covariance = model.W_[c] @ model.W_[c].T + model.noise_variance_[c] * torch.eye(4)
        torch.testing.assert_close(model.means_[c], alone.mean_)
        torch.testing.assert_close(covariance, alone.get_covariance(), rtol=1e-4, atol=1e-3)
        smallest = torch.linalg.eigvalsh(half.T.cov())[0]  # the noise alone
        assert smallest.item() == pytest.approx(alone.noise_variance_.item(), rel=0.1)


def test_a_piece_without_noise_keeps_the_floor():
    t = torch.rand(400, 1, generator=rng()).double()
    bent = torch.cat([t, (t - 0.5).abs()], 1)  # two straight pieces, no noise
    model = MixtureOfPPCA(2, 1, min_noise=1e-3, generator=rng()).fit(bent)
    floor = 1e-3 * bent.var(0, correction=0).mean()
    assert (model.noise_variance_ >= floor * (1 - 1e-9)).all()
    assert model.noise_variance_.min().item() == pytest.approx(floor.item())


def test_samples_of_the_network_have_its_covariance():
    net = GradientPPCA(4, 2).double()
    with torch.no_grad():
        net.W.copy_(randn(4, 2))
        net.b.copy_(randn(4, seed=1))
        net.log_noise.fill_(math.log(9))
        drawn = net.sample(100_000, generator=rng())
        torch.testing.assert_close(drawn.mean(0), net.b.detach(), rtol=0, atol=0.05)
        expected = net.W @ net.W.T + 9 * torch.eye(4)
        torch.testing.assert_close(drawn.T.cov(), expected, rtol=0.03, atol=0.2)


# ------------------------------------------------------------------------------------- bad input


MODELS = [
    lambda k: FactorAnalysis(k),
    lambda k: PPCA(k),
    lambda k: MixtureOfPPCA(2, k),
    lambda k: MixtureOfFactorAnalyzers(2, k),
]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("k", [0, 8, 9])
def test_too_many_components(make, k):
    with pytest.raises(ValueError, match=f"n_components is {k}.* 8 numbers.*expected 1 … 7"):
        make(k).fit(factor_data())


@pytest.mark.parametrize("make", [*MODELS, lambda k: FastICA(k), lambda k: SlowFeatureAnalysis(k)])
@pytest.mark.parametrize(
    "x", [torch.zeros(0, 4), torch.full((9, 4), torch.nan), torch.zeros(4), torch.zeros(9, 4).int()]
)
def test_no_valid_data(make, x):
    with pytest.raises(ValueError, match="x "):
        make(2).fit(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PPCA(1, solver="svd"), "solver is 'svd'"),
        (lambda: PPCA(1, noise_variance=0.0), "expected > 0"),
        (lambda: PPCA(1, noise_variance=1.0, solver="em"), "expected > 0 and 'closed'"),
        (lambda: PPCA(1, correction=2), "correction is 2; it can be 0 or 1"),
        (lambda: FactorAnalysis(1, max_iter=0), "max_iter"),
        (lambda: FactorAnalysis(1, min_noise=0), "min_noise"),
        (lambda: MixtureOfPPCA(0, 1), "n_mixtures"),
        (lambda: GradientPPCA(3, 3), "k is 3"),
        (lambda: FastICA(algorithm="both"), "algorithm is 'both'"),
        (lambda: FastICA(fun="tanh"), "fun is 'tanh'"),
        (lambda: FastICA(tol=-1), "tol"),
        (lambda: SlowFeatureAnalysis(degree=3), "degree"),
        (lambda: data.three_signals(1), "n is 1"),
        (lambda: data.moving_shape(5, size=2), "size"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_constant_features_and_singular_covariances():
    x = factor_data(100, 6)
    x[:, [1, 4]] = 2.0
    with pytest.raises(ValueError, match="constant: features 1, 4"):
        FactorAnalysis(2).fit(x)
    assert math.isfinite(PPCA(2).fit(x).score(x))
    flat = randn(100, 2) @ randn(2, 6)
    with pytest.raises(ValueError, match="vary in at most 2 directions"):
        PPCA(2).fit(flat)
    assert math.isfinite(PPCA(2, noise_variance=0.1).fit(flat).score(flat))
    with pytest.raises(ValueError, match="varies in 2 directions, n_components is 3"):
        FastICA(3).fit(flat)
    with pytest.raises(ValueError, match="n_components is 3; expected 1 … 2"):
        SlowFeatureAnalysis(3).fit(flat)
    assert SlowFeatureAnalysis().fit(flat).components_.shape == (2, 6)
    with pytest.raises(ValueError, match="all samples are the same"):
        MixtureOfPPCA(2, 1).fit(torch.ones(9, 3))


def test_non_convergence_is_told():
    x, mixed = factor_data(), sources() @ randn(4, 4)
    cases = [
        (lambda: FactorAnalysis(2, max_iter=2, tol=0), "FactorAnalysis"),
        (lambda: PPCA(2, solver="em", max_iter=2, tol=0), "PPCA"),
        (lambda: MixtureOfPPCA(3, 1, max_iter=2, tol=0), "MixtureOfPPCA"),
    ]
    for make, name in cases:
        with pytest.warns(
            ConvergenceWarning, match=rf"{name}: .* after 2 iterations, last change \d"
        ):
            assert make().fit(x).n_iter_ == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what converges does not warn on its way
        FactorAnalysis(2).fit(x)
        PPCA(2, solver="em", generator=rng()).fit(x)
    for algorithm in ("parallel", "deflation"):
        with pytest.warns(ConvergenceWarning, match=r"FastICA: .* after 1 iterations, last change"):
            FastICA(algorithm=algorithm, max_iter=1, tol=0, generator=rng()).fit(mixed)


def test_em_stops_where_the_likelihood_falls_and_records_the_fall():
    def climbed(values, max_iter=9):
        """EM on a ladder: its parameter is the number of the rung, which has the given likelihood."""

        def e_step(rung):
            return values[int(rung)], (rung,)

        steps = {"max_iter": max_iter, "tol": 1e-3, "name": "ladder"}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            start = (torch.zeros(()),)
            (rung,), _, found = em.climb(e_step, lambda rung: (rung + 1,), start, **steps)
        return int(rung), found

    assert climbed([1.0, 1.1, 1.1005, 7.0]) == (2, [1.0, 1.1, 1.1005])
    assert climbed([1.0, 1.1, 1.0, 7.0]) == (1, [1.0, 1.1, 1.0])
    with pytest.raises(ConvergenceWarning, match="ladder: not converged after 2 iterations"):
        climbed([1.0, 1.1, 1.2, 7.0], max_iter=2)
    with pytest.raises(ValueError, match="ladder: the log-likelihood is nan after 1 iterations"):
        climbed([1.0, math.nan])


@pytest.mark.parametrize("leap", [None, em.extrapolate], ids=["plain", "with leaps"])
@pytest.mark.parametrize("shared", [True, False], ids=["PPCA", "factor analysis"])
def test_a_damaged_m_step_is_seen_as_a_fall(shared, leap):
    C = factor_data(500, 6, 2).T.cov(correction=0)
    e_step, m_step = factors.gaussian.gaussian_em(C, shared)
    start = randn(6, 2), torch.ones(() if shared else 6).double()

    def climbed(step, start):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found, _, values = em.climb(
                e_step, step, start, max_iter=300, tol=1e-9, name="damaged", leap=leap
            )
        assert max(values) == e_step(*found)[0]  # the most likely parameters are returned
        return found, min(b - a for a, b in zip(values, values[1:]))

    top, smallest_rise = climbed(m_step, start)
    assert smallest_rise > -1e-10
    damages = {
        "noise too loud": lambda W, noise: (W, 1.05 * noise),
        "loadings too short": lambda W, noise: (0.95 * W, noise),
        "noise forgets what is explained": lambda W, noise: (W, noise + W.square().sum(1).mean()),
    }
    for name, damage in damages.items():
        _, smallest_rise = climbed(lambda *expected, d=damage: d(*m_step(*expected)), top)
        assert smallest_rise < -1e-5, name


def test_a_leap_is_taken_only_uphill():
    def e_step(x):
        return -float((x - 5) ** 2), (x,)

    def slow(x):
        return (x + 0.1 * (5 - x),)

    settings = {"max_iter": 4, "tol": 0.0, "name": "slope"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (plain,), _, _ = em.climb(e_step, slow, (torch.zeros(()),), **settings)
        (bad,), _, found = em.climb(
            e_step, slow, (torch.zeros(()),), leap=lambda *path: (torch.tensor(-9.0),), **settings
        )
        (good,), _, _ = em.climb(e_step, slow, (torch.ones(()),), leap=em.extrapolate, **settings)
    assert plain.item() == pytest.approx(5 - 5 * 0.9**4)
    assert bad.item() == pytest.approx(5 - 5 * 0.9**8)  # two steps an iteration, no leap
    assert all(b > a for a, b in zip(found, found[1:]))
    assert good.item() == pytest.approx(5, abs=1e-4)  # on a geometric path the guess is exact


@pytest.mark.parametrize("seed", range(3))
def test_factor_analysis_near_a_heywood_case_is_as_likely_as_scikit_learns(seed):
    g = rng(seed)
    W = torch.randn(15, 4, generator=g, dtype=torch.float64)
    noise = torch.cat([torch.full((2,), 1e-3), torch.rand(13, generator=g)]).double()
    x = torch.randn(400, 4, generator=g, dtype=torch.float64) @ W.T
    x = x + noise.sqrt() * torch.randn(400, 15, generator=g, dtype=torch.float64)
    theirs = sklearn.decomposition.FactorAnalysis(4, svd_method="lapack", tol=1e-8, max_iter=5000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = theirs.fit(x.numpy()).score(x.numpy())
        model = FactorAnalysis(4).fit(x)
    assert model.score(x) > reference - 1e-4
    assert min(b - a for a, b in zip(model.loglike_, model.loglike_[1:])) >= 0


# ------------------------------------------------------------------------------------ columns of any scale


def table(dtype=torch.float32):
    """A year and an income: 2000 ± 0.5 and 60,000 ± 30,000, and something of both."""
    g = rng(5)
    z = torch.randn(3000, 2, generator=g, dtype=torch.float64)
    year, income = 2000 + 0.5 * z[:, 0], 6e4 + 3e4 * z[:, 1]
    other = 10 + z[:, 0] + z[:, 1] + 0.3 * torch.randn(3000, generator=g, dtype=torch.float64)
    return torch.stack([year, income, other], 1).to(dtype)


def test_factor_models_of_columns_of_very_different_scale():
    x = table()
    exact = x.double()
    factors = FactorAnalysis(1).fit(x)
    pairs = (
        (factors, FactorAnalysis(1).fit(exact)),
        tuple(FastICA(3, generator=rng()).fit(t) for t in (x, exact)),
    )
    for ours, reference in pairs:
        assert torch.isfinite(ours.components_).all()
        left, right = ours.components_.double().abs(), reference.components_.abs()
        torch.testing.assert_close(left, right, rtol=2e-2, atol=1e-7)
    noise = factors.noise_variance_
    assert (noise > 0).all() and noise[0] == pytest.approx(0.125, rel=0.5)


def test_fast_ica_takes_a_loud_channel_in_single_precision():
    x = sources(2000, 3).float()
    x = x @ torch.tensor([[1.0, 0.5, 0.2], [0.3, 1.0, 0.4], [0.1, 0.2, 1.0]])
    found = FastICA(generator=rng()).fit(x * torch.tensor([1.0, 100.0, 1.0]))
    mixing = torch.tensor([[1.0, 0.5, 0.2], [0.3, 1.0, 0.4], [0.1, 0.2, 1.0]]).T
    mixing = mixing * torch.tensor([1.0, 100.0, 1.0])[:, None]
    assert amari_distance(found.components_, mixing) < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_data_of_low_rank_leave_no_noise_in_either_precision(dtype):
    x = (randn(200, 3) @ randn(3, 8, seed=1)).to(dtype)
    with pytest.raises(ValueError, match="vary in at most 3 directions"):
        PPCA(3).fit(x)
    assert PPCA(2).fit(x).noise_variance_ > 0
    with pytest.raises(ValueError, match="x varies in 3 directions"):
        FastICA(4, generator=rng()).fit(x)


def test_slow_features_of_columns_of_very_different_scale():
    t = torch.arange(2000, dtype=torch.float64) / 100
    slow, fast = torch.sin(t), torch.sin(11 * t)
    x = torch.stack([2000 + 0.5 * (slow + fast), 1e4 * (slow - fast)], 1).float()
    found = SlowFeatureAnalysis(1, tol=0.0).fit(x).transform(x)[:, 0]
    found = (found - found.mean()).double()
    correlation = (found @ (slow - slow.mean())) / found.norm() / (slow - slow.mean()).norm()
    assert correlation.abs() > 0.99


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e6])
def test_kurtosis_and_negentropy_know_no_units(scale):
    y = randn(500, 2).abs()
    for measure in (kurtosis, negentropy):
        torch.testing.assert_close(measure(scale * y), measure(y))
        torch.testing.assert_close(
            measure((scale * y).float()).double(), measure(y), rtol=1e-3, atol=1e-3
        )


def test_types_that_do_not_fit_get_a_sentence():
    x = randn(50, 4)
    for model in (PPCA(2), FactorAnalysis(2), FastICA(2, generator=rng()), SlowFeatureAnalysis(2)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x)
        with pytest.raises(
            ValueError, match=r"x is torch.float32, the model torch.float64; expected"
        ):
            model.transform(x.float())
        with pytest.raises(ValueError, match=r"x is torch.float16; expected a float32 or float64"):
            type(model)(2).fit(x.half())


# ---------------------------------------------------------------------------------------------- ICA


def test_kurtosis():
    y = torch.stack([randn(9000), randn(9000, seed=1).square()], 1) * 5 + 2
    torch.testing.assert_close(
        factors.kurtosis(y), torch.as_tensor(scipy.stats.kurtosis(y.numpy())), rtol=1e-9, atol=1e-9
    )
    with pytest.raises(ValueError, match="constant: feature 1"):
        factors.kurtosis(torch.stack([torch.arange(5.0), torch.ones(5)], 1))


@pytest.mark.parametrize(
    ("law", "tolerance"),
    [("norm", 0), ("logistic", 0.1), ("gumbel_r", 0.35), ("laplace", 0.35), ("uniform", 0.7)],
)
def test_negentropy(law, tolerance):
    """Exact for a Gaussian, near to the truth for what is nearly Gaussian, too small for the others."""
    law = getattr(scipy.stats, law)
    law = law(scale=1 / law.std())
    truth = 0.5 * math.log(2 * math.pi * math.e) - law.entropy()
    grid = (torch.arange(200_000).double() + 0.5) / 200_000
    y = torch.as_tensor(law.ppf(grid.numpy()))
    value = factors.negentropy(4 * y[:, None] + 1).item()
    assert value == pytest.approx(truth, rel=tolerance, abs=1e-6)
    mean = law.mean()
    odd = law.expect(lambda y: (y - mean) * math.exp(-((y - mean) ** 2) / 2))
    even = law.expect(lambda y: math.exp(-((y - mean) ** 2) / 2)) - math.sqrt(0.5)
    by_hand = 7.412889 * odd**2 + 33.669423 * even**2
    assert value == pytest.approx(by_hand, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("algorithm", ["parallel", "deflation"])
@pytest.mark.parametrize("fun", ["logcosh", "exp", "cube"])
def test_fast_ica_against_scikit_learn(algorithm, fun):
    A, S, start = randn(4, 4, seed=3), sources(), randn(4, 4, seed=7)
    x = S @ A.T + 1
    ours = FastICA(algorithm=algorithm, fun=fun, w_init=start, tol=1e-10).fit(x)
    theirs = sklearn.decomposition.FastICA(
        algorithm=algorithm, fun=fun, whiten="unit-variance", w_init=start.numpy(), tol=1e-10
    ).fit(x.numpy())
    product = (ours.components_ @ torch.as_tensor(theirs.mixing_)).abs()  # a permutation
    torch.testing.assert_close(
        product.sort(1).values[:, :3], torch.zeros(4, 3).double(), rtol=0, atol=0.1
    )
    reference = amari_distance(torch.as_tensor(theirs.components_), A)
    assert amari_distance(ours.components_, A) < reference + 0.01
    if algorithm == "parallel":
        assert amari_distance(ours.components_, A) == pytest.approx(reference, abs=1e-6)
    z = ours.transform(x)
    torch.testing.assert_close(z.T.cov(correction=0), torch.eye(4).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(ours.inverse_transform(z), x)


def test_one_step_of_deflation_by_hand():
    """Each row starts orthogonal to those before it, and stays so."""
    white, start = sources(500, 3), randn(3, 3, seed=7)
    white = (white - white.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(white.T.cov())).T
    with pytest.warns(ConvergenceWarning):
        found = FastICA(algorithm="deflation", max_iter=1, tol=0).deflation(white, start)
    rows = []
    for w in start:
        for r in rows:
            w = w - (w @ r) * r
        w = w / w.norm()
        g = torch.tanh(white @ w)
        new = (white * g[:, None]).mean(0) - (1 - g**2).mean() * w
        for r in rows:
            new = new - (new @ r) * r
        rows.append(new / new.norm())
    torch.testing.assert_close(found, torch.stack(rows))


def test_fast_ica_with_fewer_components_and_few_samples():
    x = sources(500, 2) @ randn(2, 6) + 1e-3 * randn(500, 6)
    model = FastICA(2).fit(x)
    assert model.components_.shape == (2, 6) and model.mixing_.shape == (6, 2)
    torch.testing.assert_close(model.components_ @ model.mixing_, torch.eye(2).double())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert FastICA(3).fit(randn(10, 30)).components_.shape == (3, 30)
    with pytest.raises(ValueError, match="w_init has shape"):
        FastICA(2, w_init=torch.eye(3)).fit(x)
    with pytest.raises(ValueError, match="expected 1 … 6"):
        FastICA(7).fit(x)


def test_gaussian_sources_are_told():
    for k in (2, 5):
        with pytest.warns(UserWarning, match=f"{k} of {k} sources cannot be told from Gaussian"):
            FastICA(generator=rng()).fit(randn(3000, k) @ randn(k, k))
    mixed = torch.cat([sources(3000, 3), randn(3000, 1, seed=8)], 1) @ randn(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FastICA(generator=rng()).fit(mixed)  # one Gaussian source does no harm
    rare = torch.rand(3000, 3, generator=rng()).double() < 0.2113  # p(1 − p) = 1/6: kurtosis 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FastICA(generator=rng()).fit(rare.double() @ randn(3, 3))
    mixed = torch.cat([sources(3000, 2), randn(3000, 2, seed=8)], 1) @ randn(4, 4)
    with pytest.warns(UserWarning, match="2 of 4 sources"):
        FastICA(generator=rng()).fit(mixed)


def root_of(f, target):
    """Where an increasing function of a number in [0, 1] meets a target."""
    low, high = 0.0, 1.0
    for _ in range(50):
        low, high = (middle, high) if f(middle := (low + high) / 2) < target else (low, middle)
    return low


@pytest.mark.parametrize(("n", "k"), [(400, 2), (3000, 5)])
def test_sources_look_gaussian_up_to_the_spread_of_the_two_measures(n, k):
    """Kurtosis up to 3 + √k times √(24/n), negentropy up to (3 + √k)² · 0.6/n; each alone gives a source away."""
    share = (torch.arange(n).double() + 0.5) / n
    gaussian, peaked = torch.special.ndtri(share), torch.logit(share)
    coin = (torch.rand(n, generator=rng()).argsort().argsort() < round(0.2113 * n)).double()

    def heavy(a):  # from a Gaussian to a logistic distribution's tails and beyond
        return (gaussian + a * peaked**3)[:, None]

    def lumpy(a):  # of kurtosis 0 for every a: a coin, and a Gaussian that hides it
        return (a * coin / coin.std() + (1 - a) * gaussian)[:, None]

    measured = [
        (heavy, factors.kurtosis, (3 + k**0.5) * (24 / n) ** 0.5),
        (lumpy, factors.negentropy, (3 + k**0.5) ** 2 * 0.6 / n),
    ]
    for make, measure, limit in measured:
        for target, told in ((0.9 * limit, True), (1.1 * limit, False)):
            z = make(root_of(lambda a, f=make, m=measure: m(f(a)).item(), target)).expand(-1, k)
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                factors.independent.warn_gaussian(z)
            assert bool(seen) == told, (make.__name__, target)


@FEW
@given(k=st.integers(2, 6), seed=st.integers(0, 99))
def test_amari_distance_knows_scale_sign_and_order(k, seed):
    A = randn(k, k, seed=seed)
    W = torch.linalg.inv(A)
    changed = (W * randn(k, 1, seed=seed + 1))[torch.randperm(k, generator=rng(seed))]
    assert amari_distance(changed, A) == pytest.approx(0, abs=1e-8)
    assert 0 <= amari_distance(randn(k, k, seed=seed + 5), A) <= 1
    assert amari_distance(torch.ones(k, k), torch.eye(k)) == pytest.approx(1)


def test_amari_distance_by_hand():
    # rows: 1.5/1 − 1 and 1/1 − 1; columns: 1/1 − 1 and 1.5/1 − 1; their sum over 2·2·1
    assert amari_distance(torch.tensor([[1, 0.5], [0, 1]]), torch.eye(2)) == pytest.approx(0.25)
    P = torch.tensor([[1.0, 0.5], [0.0, 0.25]])  # rows 0.5, 0; columns 0, 0.5
    assert amari_distance(P, torch.eye(2)) == pytest.approx(0.25)
    P = torch.tensor([[1.0, 0.5], [0.5, 0.1]])  # rows 0.5, 0.2; columns 0.5, 0.2
    assert amari_distance(P, torch.eye(2)) == pytest.approx(1.4 / 4)
    with pytest.raises(ValueError, match="shapes are"):
        amari_distance(torch.eye(2), torch.eye(3))


def test_the_three_signals():
    S, t = data.three_signals()
    assert S.shape == (2000, 3) and t[-1] == 8
    torch.testing.assert_close(S.std(0, correction=0), torch.ones(3).double())
    clean, t = data.three_signals(noise=0)
    torch.testing.assert_close(clean[:, 0] / clean[1, 0] * (2 * t[1]).sin(), (2 * t).sin())
    assert clean[:, 1].unique().numel() <= 3
    saw = torch.as_tensor(scipy.signal.sawtooth(2 * math.pi * t.numpy()))
    assert torch.corrcoef(torch.stack([clean[:, 2], saw]))[0, 1] > 0.99


# ------------------------------------------------------------------------------------ slow features


def wave(n=4000):
    t = torch.linspace(0, 4 * math.pi, n, dtype=torch.float64)
    return torch.stack([t.sin() + (11 * t).cos() ** 2, (11 * t).cos()], 1), t


def test_slow_features_of_the_lecture_s_signal():
    x, t = wave()
    model = SlowFeatureAnalysis(degree=2).fit(x)
    y = model.transform(x)
    assert torch.corrcoef(torch.stack([y[:, 0], t.sin()]))[0, 1].abs() > 0.999
    linear = SlowFeatureAnalysis().fit_transform(x)
    assert torch.corrcoef(torch.stack([linear[:, 0], t.sin()]))[0, 1].abs() < 0.95
    torch.testing.assert_close(y.mean(0), torch.zeros(5).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(y.T.cov(correction=0), torch.eye(5).double(), rtol=0, atol=1e-7)
    torch.testing.assert_close((y[1:] - y[:-1]).square().mean(0), model.slowness_)
    assert (model.slowness_.diff() >= 0).all()


@FEW
@given(seed=st.integers(0, 99))
def test_no_other_linear_feature_is_slower(seed):
    x = randn(300, 5, seed=seed).cumsum(0)
    model = SlowFeatureAnalysis(2).fit(x)
    w = randn(5, seed=seed + 1)
    y = x @ w
    assert (y.diff() ** 2).mean() / y.var(correction=0) >= model.slowness_[0] - 1e-12
    # Invariant under invertible maps of the input.
    mixed = SlowFeatureAnalysis(2).fit(x @ randn(5, 5, seed=seed + 2) + 4)
    torch.testing.assert_close(mixed.slowness_, model.slowness_, rtol=1e-5, atol=1e-9)


def test_directions_of_little_variance_are_left_out():
    x = randn(300, 3) * torch.tensor([1.0, 1.0, 1e-2])  # the last one: a share of 1e-4
    for tol, k in ((1e-9, 3), (1e-5, 3), (1e-3, 2)):
        assert SlowFeatureAnalysis(tol=tol).fit(x).components_.shape == (k, 3)


def test_quadratic_expansion():
    x = torch.tensor([[2.0, 3.0, 5.0]])
    assert factors.quadratic_expansion(x).tolist() == [[2, 3, 5, 4, 6, 10, 9, 15, 25]]
    with pytest.raises(ValueError, match="not as many numbers"):
        SlowFeatureAnalysis(1).fit(randn(9, 3)).transform(randn(9, 2))
    with pytest.raises(ValueError, match="at least 3"):
        SlowFeatureAnalysis(1).fit(randn(2, 2))


def test_penalties():
    x, _ = wave()
    z = SlowFeatureAnalysis(2, degree=2).fit_transform(x)
    model = SlowFeatureAnalysis(2, degree=2).fit(x)
    value = factors.slowness(z[:-1], z[1:])
    assert value == pytest.approx(model.slowness_.sum().item(), rel=1e-2)
    assert factors.slowness(10 * z[:-1] + 3, 10 * z[1:] + 3) == pytest.approx(
        value.item(), rel=1e-5
    )
    now, later = torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [2.0]])  # together: variance 2
    assert factors.slowness(now, later).item() == pytest.approx((16 + 0) / 2 / 2)
    assert factors.decorrelation_penalty(z) < 1e-3
    assert factors.decorrelation_penalty(3 * z + 5) < 1e-3  # neither scale nor mean matters
    same = torch.cat([z[:, :1], -3 * z[:, :1]], 1)
    assert factors.decorrelation_penalty(same) == pytest.approx(2, rel=1e-2)


def test_the_moving_shape():
    frames, places = data.moving_shape(500, stripes=0.0)
    assert frames.shape == (500, 256) and places.shape == (500, 2) and places.abs().max() <= 1
    weight = frames.abs() / frames.abs().sum(1, keepdim=True)
    axis = torch.linspace(-1.4, 1.4, 16)
    column, row = axis.repeat(16), axis.repeat_interleave(16)
    torch.testing.assert_close((weight @ column), places[:, 0], rtol=0, atol=0.03)
    torch.testing.assert_close((weight @ row), places[:, 1], rtol=0, atol=0.03)
    assert 0.3 < (frames.sum(1) > 0).float().mean() < 0.7
    assert (places[1:] - places[:-1]).abs().max() < 0.1
    again, _ = data.moving_shape(500, stripes=0.0)
    assert torch.equal(frames, again)
    other, _ = data.moving_shape(500, seed=1)
    assert not torch.equal(frames, other)


def test_subspaces():
    W = randn(8, 2, seed=0)
    model = FactorAnalysis(2).fit(factor_data(20_000, 8, 2))
    assert principal_angles(model.W_, W).max() < 0.05
