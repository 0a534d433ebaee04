"""Latent variables against scikit-learn, enumeration, quadrature, autograd and closed forms."""

import math
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import sklearn.decomposition
import sklearn.mixture
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.distributions import (
    Dirichlet,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    Wishart,
    kl_divergence,
)

from lectool import latent, random, train

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Singular sample"),
]
DOUBLE = torch.float64


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=DOUBLE)


def blobs(n=600, d=3, k=3, *, seed=0, distance=3.0):
    """Correlated clusters of unequal size, shifted far from the origin."""
    means, A = distance * draw(k, d, seed=seed), draw(k, d, d, seed=seed + 1) / 2
    c = torch.randint(k * (k + 1) // 2, (n,), generator=rng(seed + 2))
    c = (c[:, None] >= torch.arange(k).cumsum(0) + torch.arange(k)).sum(1).clamp(max=k) - 1
    L = A + 0.6 * torch.eye(d, dtype=DOUBLE)
    return 20 + means[c] + (L[c] @ draw(n, d, 1, seed=seed + 3))[:, :, 0], c


def never_falls(values, slack=1e-12):
    return (np.diff(values) >= -slack).all()


# ------------------------------------------------------------------------------------------------ Gaussians


def positive_definite(k, d, seed=0):
    A = draw(k, d, d, seed=seed)
    return A @ A.mT + 0.3 * torch.eye(d, dtype=DOUBLE)


def test_log_gaussians_are_those_of_torch():
    x, means, C = draw(7, 3), draw(4, 3, seed=1), positive_definite(4, 3)
    U = latent.precision_factors(C)
    torch.testing.assert_close(U @ U.mT, torch.linalg.inv(C))
    assert (U.tril(-1) == 0).all()
    expected = MultivariateNormal(means, C).log_prob(x[:, None])
    torch.testing.assert_close(latent.log_gaussians(x, means, U), expected)


def test_statistics_are_weighted_sums():
    x, joint = draw(2500, 3), draw(2500, 4, seed=1)
    table = dict(zip(x[:, 0].tolist(), joint, strict=True))

    def log_joint(rows):
        return torch.stack([table[first] for first in rows[:, 0].tolist()])

    loglike, (total, first, second) = latent.statistics(x, log_joint)
    r = joint.softmax(1)
    assert loglike == pytest.approx(joint.logsumexp(1).mean().item(), rel=1e-12)
    torch.testing.assert_close(total, r.sum(0))
    torch.testing.assert_close(first, r.T @ x)
    torch.testing.assert_close(second, torch.einsum("nk,ni,nj->kij", r, x, x))


def start_of(x, k, seed=0):
    """The same start for both libraries."""
    means = x[torch.randperm(len(x), generator=rng(seed))[:k]]
    weights = torch.linspace(1, 2, k, dtype=DOUBLE)
    precisions = torch.linalg.inv(
        0.5 * torch.diag(x.var(0)) + 0.1 * positive_definite(k, x.shape[1])
    )
    return weights / weights.sum(), means, precisions


def scikit_mixture(x, start, max_iter, **options):
    weights, means, precisions = (t.numpy() for t in start)
    given = {"weights_init": weights, "means_init": means, "precisions_init": precisions}
    options = {"tol": 0, "reg_covar": 0, **given, **options}
    return sklearn.mixture.GaussianMixture(len(means), max_iter=max_iter, **options).fit(x.numpy())


def ours(x, start, **options):
    weights, means, precisions = start
    given = {"weights_init": weights, "means_init": means, "precisions_init": precisions}
    return latent.GaussianMixture(len(means), **given, **{"tol": 0, **options}).fit(x)


def test_em_meets_scikit_learn_at_every_iteration():
    x, _ = blobs(distance=1.0)
    start, n_iter = start_of(x, 4), 25
    model = ours(x, start, max_iter=n_iter)
    # theirs reports the likelihood before the last M-step
    theirs = [scikit_mixture(x, start, t) for t in range(1, n_iter + 1)]
    for t, other in enumerate(theirs):
        assert model.loglike_[t] == pytest.approx(other.lower_bound_, abs=1e-9)
    other = theirs[-1]
    torch.testing.assert_close(model.weights_, torch.as_tensor(other.weights_))
    torch.testing.assert_close(model.means_, torch.as_tensor(other.means_))
    torch.testing.assert_close(model.covariances_, torch.as_tensor(other.covariances_))
    U = torch.as_tensor(other.precisions_cholesky_)
    torch.testing.assert_close(model.precisions_cholesky_, U)
    torch.testing.assert_close(model.score_samples(x), torch.as_tensor(other.score_samples(x)))
    torch.testing.assert_close(model.predict_proba(x), torch.as_tensor(other.predict_proba(x)))
    assert (model.predict(x).numpy() == other.predict(x.numpy())).all()
    assert model.score(x) == pytest.approx(model.loglike_[-1], abs=1e-10)
    assert model.bic(x) == pytest.approx(other.bic(x.numpy()), rel=1e-10)
    assert len(model.path_) == len(model.loglike_) == model.n_iter_ + 1 and model.n_floored_ == 0


def test_path_leads_from_the_start_to_the_fit():
    x, _ = blobs()
    start = start_of(x, 3)
    model = ours(x, start, max_iter=8)
    for given, at in zip((start[0], start[1], torch.linalg.inv(start[2])), model.path_[0]):
        torch.testing.assert_close(given, at)
    torch.testing.assert_close(model.path_[-1][1], model.means_)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_mixture_finds_clusters_in_any_units(dtype):
    x, c = blobs(distance=5.0)
    units = torch.tensor([1.0, 1e4, 1e-3], dtype=DOUBLE)
    x = (x * units + torch.tensor([0.0, 1e6, 0.0], dtype=DOUBLE)).to(dtype)
    model = latent.GaussianMixture(3, tol=1e-6, generator=rng(1)).fit(x)
    assert all(t.dtype == dtype for t in (model.means_, model.covariances_, model.score_samples(x)))
    table = torch.zeros(3, 3)
    table.index_put_((c, model.predict(x)), torch.ones(len(c)), accumulate=True)
    assert table.amax(1).sum() / len(c) > 0.98 and never_falls(model.loglike_)
    assert model.score(x) == pytest.approx(model.loglike_[-1], abs=1e-2)


def test_lifted_covariances_are_the_most_likely_ones():
    C, least = positive_definite(6, 3), 0.8
    lifted, n = latent.lift_variances(C, least)
    low = torch.linalg.eigvalsh(C)[:, 0] < least
    assert 0 < n == int(low.sum()) < 6
    assert torch.equal(lifted[~low], C[~low])
    assert (torch.linalg.eigvalsh(lifted) >= least - 1e-12).all()

    def loglike(other):
        return -torch.linalg.slogdet(other)[1] - (torch.linalg.inv(other) * C).sum((1, 2))

    best = loglike(lifted)
    for seed in range(40):
        change = 0.05 * draw(6, 3, 3, seed=seed)
        other = latent.lift_variances(lifted + change + change.mT, least)[0]
        assert (loglike(other) <= best + 1e-10).all()


@pytest.mark.parametrize("d", [1, 2])
def test_collapsing_components_are_held_up_and_counted(d):
    x = torch.cat([draw(100, d), torch.full((20, d), 4.0, dtype=DOUBLE)])
    means = torch.stack([torch.zeros(d), torch.full((d,), 4.0)]).double()
    model = latent.GaussianMixture(2, means_init=means, min_variance=1e-4, tol=1e-9).fit(x)
    assert model.n_floored_ >= 1 and never_falls(model.loglike_)
    smallest = torch.linalg.eigvalsh(model.covariances_).amin()
    assert smallest >= 0.99e-4 * x.var(0, correction=0).min() and math.isfinite(model.loglike_[-1])


def test_a_component_far_from_all_data_does_no_harm():
    x = draw(200, 2)
    means = torch.tensor([[0.0, 0.0], [1e6, 1e6]], dtype=DOUBLE)
    model = latent.GaussianMixture(2, means_init=means).fit(x)
    assert model.weights_[1] < 1e-12 and torch.isfinite(model.means_).all()
    assert model.score(x) == pytest.approx(latent.GaussianMixture(1).fit(x).score(x), abs=1e-6)


def test_mixture_samples_have_its_moments():
    x, _ = blobs()
    model = latent.GaussianMixture(3, generator=rng()).fit(x)
    y, c = model.sample(40_000, generator=rng(1))
    share = torch.bincount(c, minlength=3) / len(c)
    torch.testing.assert_close(share.double(), model.weights_, rtol=0, atol=0.01)
    for j in range(3):
        torch.testing.assert_close(y[c == j].mean(0), model.means_[j], rtol=0, atol=0.05)
        torch.testing.assert_close(
            torch.cov(y[c == j].T), model.covariances_[j], rtol=0.05, atol=0.05
        )


@pytest.mark.parametrize("options", [{}, {"tol": 0, "max_iter": 2}])
def test_em_warns_only_where_iterations_run_out(options):
    x, _ = blobs(distance=1.5)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        latent.GaussianMixture(3, generator=rng(), **options).fit(x)
    assert any(w.category is ConvergenceWarning for w in seen) == bool(options)


@pytest.mark.parametrize("model", [latent.GaussianMixture, latent.VariationalGaussianMixture])
def test_mixtures_say_what_they_expect(model):
    x = draw(20, 2)
    for wrong in ({"n_components": 0}, {"max_iter": 0}, {"tol": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            model(**wrong)
    for data in (x[:, 0], x.clone().fill_(torch.nan), x[:0], x.int()):
        with pytest.raises(ValueError, match="x "):
            model(2).fit(data)
    with pytest.raises(ValueError, match="at least 21"):
        model(21).fit(x)
    with pytest.raises(ValueError, match="expected 2 numbers"):
        model(2, generator=rng()).fit(x).score(draw(5, 3))


def test_gaussian_mixture_says_what_it_expects():
    x, model = draw(20, 2), latent.GaussianMixture
    with pytest.raises(ValueError, match="feature 1 never var"):
        model(2).fit(torch.cat([x[:, :1], torch.ones(20, 1).double()], 1))
    with pytest.raises(ValueError, match="min_variance"):
        model(2, min_variance=0)
    with pytest.raises(ValueError, match="means_init"):
        model(2, weights_init=torch.ones(2) / 2)
    with pytest.raises(ValueError, match="shapes"):
        model(2, means_init=x[:3]).fit(x)
    with pytest.raises(ValueError, match="sum to 1"):
        model(2, means_init=x[:2], weights_init=torch.ones(2)).fit(x)
    with pytest.raises(ValueError, match=r"\[1\] are not positive definite"):
        latent.precision_factors(torch.stack([torch.eye(2), -torch.eye(2)]))


# ------------------------------------------------------------------------------------------------ variational Bayes


def normal_wishart(seed):
    return draw(1, 2, seed=seed)[0], torch.tensor(1.0 + seed), torch.tensor(3.5 + seed)


def test_kl_of_normal_wishart_is_the_mean_of_log_ratios():
    torch.manual_seed(0)
    (m, beta, nu), (m0, beta0, nu0) = normal_wishart(0), normal_wishart(1)
    inverse, inverse0 = positive_definite(2, 2)

    def log_prob(mu, precision, m, beta, nu, inverse):
        of_mean = MultivariateNormal(m, precision_matrix=beta * precision).log_prob(mu)
        wishart = Wishart(nu.double(), precision_matrix=inverse)
        return of_mean + wishart.log_prob(precision)

    precision = Wishart(nu.double(), precision_matrix=inverse).sample((40_000,))
    mu = MultivariateNormal(m, precision_matrix=beta * precision).sample()
    ratio = log_prob(mu, precision, m, beta, nu, inverse)
    ratio = ratio - log_prob(mu, precision, m0, beta0, nu0, inverse0)
    q, p = (m, beta, nu, inverse), (m0, beta0, nu0, inverse0)
    error = 4 * ratio.std().item() / 200
    assert latent.kl_normal_wishart(q, p).item() == pytest.approx(ratio.mean().item(), abs=error)
    assert error < 0.1 * latent.kl_normal_wishart(q, p)
    assert latent.kl_normal_wishart(q, q).item() == pytest.approx(0, abs=1e-10)


def test_bound_of_one_component_is_the_evidence():
    # With one component the posterior is exact, and p(x) the product of the predictive t densities.
    x, C0, nu0, beta0 = draw(12, 2) + 3, positive_definite(1, 2)[0], 4.0, 0.7
    m0 = torch.tensor([2.0, 1.0], dtype=DOUBLE)
    prior = {"mean_prior": m0, "mean_precision_prior": beta0, "covariance_prior": C0}
    prior["degrees_of_freedom_prior"] = nu0
    model = latent.VariationalGaussianMixture(1, **prior).fit(x)
    evidence, seen = 0.0, x[:0]
    for one in x:
        n = len(seen)
        mean = seen.mean(0) if n else torch.zeros(2)
        beta, nu = beta0 + n, nu0 + n
        m = (beta0 * m0 + n * mean) / beta
        C = C0 + (seen - mean).T @ (seen - mean)
        C = C + beta0 * n / beta * torch.outer(mean - m0, mean - m0)
        t = scipy.stats.multivariate_t(m, C * (1 + beta) / (beta * (nu - 1)), df=nu - 1)
        evidence += t.logpdf(one)
        seen = torch.cat([seen, one[None]])
    assert model.bound_[-1] * len(x) == pytest.approx(evidence, rel=1e-9)


def test_bound_is_an_expectation_under_q():
    torch.manual_seed(0)
    x, _ = blobs(40, 2, 2)
    model = latent.VariationalGaussianMixture(2, tol=1e-10, generator=rng()).fit(x)
    alpha, beta = model.weight_concentration_, model.mean_precision_
    nu, inverse = (
        model.degrees_of_freedom_,
        model.covariances_ * model.degrees_of_freedom_[:, None, None],
    )
    n = 20_000
    pi, log_gauss = Dirichlet(alpha).sample((n,)), []
    for m, b, v, inv in zip(model.means_, beta, nu, inverse, strict=True):
        precision = Wishart(v, precision_matrix=inv).sample((n,))
        mu = MultivariateNormal(m, precision_matrix=b * precision).sample()
        log_gauss.append(
            MultivariateNormal(mu[:, None], precision_matrix=precision[:, None]).log_prob(x)
        )
    joint = (torch.stack(log_gauss, -1) + pi.log()[:, None]).mean(0)  # E log π_c N(x_i; μ_c, Λ_c)
    prior = (x.mean(0), torch.tensor(1.0), torch.tensor(2.0), torch.cov(x.T, correction=0))
    q = (model.means_, beta, nu, inverse)
    kl = kl_divergence(Dirichlet(alpha), Dirichlet(torch.full((2,), 0.5).double()))
    kl = kl + latent.kl_normal_wishart(q, prior).sum()
    expected = joint.logsumexp(1).sum() - kl
    assert model.bound_[-1] * len(x) == pytest.approx(expected.item(), abs=0.3)


@pytest.mark.parametrize("alpha", [0.01, 1.0])
def test_variational_mixture_beside_scikit_learn(alpha):
    x, _ = blobs(distance=4.0)
    C = torch.cov(x.T)
    options = {"weight_concentration_prior": alpha, "tol": 1e-9, "max_iter": 2000}
    model = latent.VariationalGaussianMixture(
        3, covariance_prior=C, generator=rng(1), **options
    ).fit(x)
    theirs = sklearn.mixture.BayesianGaussianMixture(
        n_components=3,
        weight_concentration_prior_type="dirichlet_distribution",
        reg_covar=0,
        random_state=0,
        **options,
    ).fit(x.numpy())
    order = torch.cdist(torch.as_tensor(theirs.means_), model.means_).argmin(1)
    assert len(set(order.tolist())) == 3 and never_falls(model.bound_)
    for name in ("weights_", "means_", "covariances_", "mean_precision_", "degrees_of_freedom_"):
        found, expected = getattr(model, name)[order], torch.as_tensor(getattr(theirs, name))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_superfluous_components_switch_off():
    x, _ = blobs(900, 2, 3, distance=6.0)
    model = latent.VariationalGaussianMixture(
        10, weight_concentration_prior=1e-3, tol=1e-8, max_iter=1000, generator=rng()
    ).fit(x)
    assert model.n_active() == 3 and never_falls(model.bound_)
    assert latent.GaussianMixture(10, tol=1e-6, generator=rng()).fit(x).weights_.min() > 0.01


def test_predictive_density_is_a_mixture_of_t():
    x, _ = blobs(60, 2, 2)
    model = latent.VariationalGaussianMixture(2, generator=rng()).fit(x)
    density = 0
    for w, m, b, v, C in zip(
        model.weights_,
        model.means_,
        model.mean_precision_,
        model.degrees_of_freedom_,
        model.covariances_,
        strict=True,
    ):
        t = scipy.stats.multivariate_t(m, C * v * (1 + b) / (b * (v - 1)), df=(v - 1).item())
        density = density + w.item() * t.pdf(x)
    assert np.allclose(model.score_samples(x).exp().numpy(), density)
    assert model.score(x) == pytest.approx(np.log(density).mean())
    torch.testing.assert_close(model.predict_proba(x).sum(1), torch.ones(60).double())


def test_variational_mixture_says_what_it_expects():
    x, model = draw(20, 2), latent.VariationalGaussianMixture
    with pytest.raises(ValueError, match="weight_concentration_prior"):
        model(2, weight_concentration_prior=0.0)
    with pytest.raises(ValueError, match="degrees_of_freedom_prior"):
        model(2, degrees_of_freedom_prior=1.0).fit(x)
    with pytest.raises(ValueError, match="singular"):
        model(2).fit(torch.cat([x[:, :1], x[:, :1]], 1))
    with pytest.raises(ValueError, match="mean_prior"):
        model(2, mean_prior=torch.zeros(3)).fit(x)


# ------------------------------------------------------------------------------------------------ topics


def planted(k=5, v=60, seed=0):
    torch.manual_seed(seed)
    return Dirichlet(torch.full((k, v), 0.05, dtype=DOUBLE)).sample()


def corpus(n=400, n_words=80, seed=0, **options):
    topics = planted(**options)
    x, shares = latent.sample_documents(topics, n, n_words=n_words, generator=rng(seed))
    return x, shares, topics


def test_documents_follow_the_story():
    x, shares, topics = corpus(3000, n_words=200)
    assert (x.sum(1) == 200).all() and (x >= 0).all()
    torch.testing.assert_close(shares.sum(1), torch.ones(3000).double())
    alpha, k = 0.1, 5
    expected = (1 / k) * (1 - 1 / k) / (k * alpha + 1)
    assert shares.var(0).mean().item() == pytest.approx(expected, rel=0.05)
    spread = (x / 200 - shares @ topics).square().sum(1).mean()
    p = shares @ topics
    assert spread.item() == pytest.approx(((p * (1 - p)).sum(1) / 200).mean().item(), rel=0.05)


def plsa_by_loops(x, shares, topics):
    """One iteration with the whole table P(c | d, w)."""
    table = shares[:, :, None] * topics[None]
    table = table / table.sum(1, keepdim=True)
    used = x[:, None] * table
    shares, topics = used.sum(2), used.sum(0)
    return shares / shares.sum(1, keepdim=True), topics / topics.sum(1, keepdim=True)


def test_plsa_step_is_that_of_the_whole_table():
    x, shares, topics = corpus(20)
    shares, topics = 0.9 * shares + 0.02, 0.9 * topics + 0.1 / 60
    loglike, expected = latent.PLSA.expect(x, shares, topics)
    found = latent.PLSA.maximize(*expected)
    for ours, theirs in zip(found, plsa_by_loops(x, shares, topics), strict=True):
        torch.testing.assert_close(ours, theirs)
    p = shares @ topics
    assert loglike == pytest.approx(((x * p.log()).sum() / x.sum()).item(), rel=1e-10)


def test_plsa_recovers_topics():
    x, shares, topics = corpus()
    model = latent.PLSA(5, generator=rng()).fit(x)
    order, distance = latent.match_topics(model.components_, topics)
    assert distance.max() < 0.15 and never_falls(model.loglike_)
    assert (model.doc_topic_[:, order] - shares).abs().mean() < 0.04
    torch.testing.assert_close(model.doc_weights_.sum(), torch.tensor(1.0).double())
    assert (model.transform(x) - model.doc_topic_).abs().mean() < 0.01
    new, shares_new = latent.sample_documents(topics, 50, n_words=300, generator=rng(5))
    assert (model.transform(new)[:, order] - shares_new).abs().mean() < 0.04


def test_lda_recovers_topics_and_its_bound_never_falls():
    x, shares, topics = corpus()
    for dtype in (DOUBLE, torch.float32):
        model = latent.LDA(5, doc_topic_prior=0.1, topic_word_prior=0.05, generator=rng())
        model.fit(x.to(dtype))
        order, distance = latent.match_topics(model.topics_, topics.to(dtype))
        assert distance.max() < 0.12 and never_falls(model.bound_)
        assert (model.transform(x.to(dtype))[:, order] - shares).abs().mean() < 0.04
        assert model.topics_.dtype == dtype
    assert model.perplexity(x.float()) < 0.6 * (x.sum(0) > 0).sum()


def test_converged_lda_is_a_stationary_point_of_its_bound():
    x, _, _ = corpus(15, n_words=30, k=3, v=12)
    model = latent.LDA(3, tol=0, max_iter=1000, mean_change_tol=0, generator=rng()).fit(x)
    gamma = model.posterior(x, 2000).requires_grad_()
    lam = model.components_.clone().requires_grad_()
    for g in torch.autograd.grad(model.bound(x, lam, gamma), (lam, gamma)):
        assert g.abs().max() < 1e-4
    off = torch.autograd.grad(model.bound(x, lam * 1.3, gamma), lam)[0]
    assert off.abs().max() > 0.01


def test_lda_bound_meets_scikit_learn_and_stays_below_the_evidence():
    x, _, _ = corpus(15, n_words=30, k=3, v=12)
    model = latent.LDA(3, doc_topic_prior=0.4, topic_word_prior=0.3, generator=rng()).fit(x)
    theirs = sklearn.decomposition.LatentDirichletAllocation(
        3,
        doc_topic_prior=0.4,
        topic_word_prior=0.3,
        max_iter=1,
        max_doc_update_iter=5000,
        mean_change_tol=1e-9,
    ).fit(x.numpy())
    theirs.components_ = model.components_.numpy()
    theirs.exp_dirichlet_component_ = latent.expected_log(model.components_).exp().numpy()
    model.mean_change_tol = 1e-10
    assert model.score(x) == pytest.approx(theirs.score(x.numpy()), rel=1e-5)
    # log p(x) of two short documents by draws from the prior
    torch.manual_seed(0)
    x = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]], dtype=DOUBLE)
    model = latent.LDA(2, doc_topic_prior=0.5, topic_word_prior=0.8, tol=1e-9, generator=rng()).fit(
        x
    )
    beta = Dirichlet(torch.full((2, 3), 0.8, dtype=DOUBLE)).sample((100_000,))
    theta = Dirichlet(torch.full((2, 2), 0.5, dtype=DOUBLE)).sample((100_000,))
    log_p = (x * (theta @ beta).log()).sum((1, 2)).logsumexp(0) - math.log(100_000)
    assert model.bound_[-1] * 6 < log_p.item() < model.bound_[-1] * 6 + 3


def test_lda_samples_documents():
    x, _, _ = corpus()
    model = latent.LDA(5, doc_topic_prior=0.1, generator=rng()).fit(x)
    y = model.sample(500, n_words=40, generator=rng(1))
    assert y.shape == (500, 60) and (y.sum(1) == 40).all()
    expected = model.topics_.mean(0)
    torch.testing.assert_close(y.sum(0) / y.sum(), expected, rtol=0, atol=0.02)


def test_match_topics_undoes_an_order():
    topics = planted()
    order = torch.tensor([3, 1, 4, 0, 2])
    found, distance = latent.match_topics(topics[order], topics)
    assert torch.equal(order[found], torch.arange(5)) and distance.max() < 1e-12
    apart = latent.match_topics(torch.eye(3)[:2], torch.eye(3)[2:])[1]
    assert apart.item() == pytest.approx(1)


@pytest.mark.parametrize("model", [latent.PLSA, latent.LDA])
def test_topic_models_say_what_they_expect(model):
    x, _, _ = corpus(10)
    empty = x.clone()
    empty[[2, 7]] = 0
    with pytest.raises(ValueError, match="documents 2, 7 have no words"):
        model(3).fit(empty)
    with pytest.raises(ValueError, match="documents 2, 7 have no words"):
        model(3).fit(x).transform(empty)
    with pytest.raises(ValueError, match="lies in"):
        model(3).fit(-x)
    with pytest.raises(ValueError, match="n_components"):
        model(0)
    with pytest.raises(ValueError, match="expected 60 numbers"):
        model(3).fit(x).transform(x[:, :50])


def test_topic_functions_say_what_they_expect():
    topics = planted()
    with pytest.raises(ValueError, match="sum to 1"):
        latent.sample_documents(2 * topics, 3)
    with pytest.raises(ValueError, match="doc_topic_prior"):
        latent.sample_documents(topics, 3, doc_topic_prior=0)
    with pytest.raises(ValueError, match="at least as many topics"):
        latent.match_topics(topics[:2], topics)
    with pytest.raises(ValueError, match="topic_word_prior"):
        latent.LDA(3, topic_word_prior=-1.0)


# ------------------------------------------------------------------------------------------------ a curve


def parabola(z):
    return (z**2 - 1)[..., None]


def wave(z):
    return torch.stack([z, torch.sin(2 * z)], -1)


def test_linear_curve_has_the_closed_form():
    a, b, s2 = 1.7, 0.4, 0.3
    model = latent.NonlinearLatentModel(lambda z: (a * z + b)[..., None], s2)
    x = torch.linspace(-3, 3, 7, dtype=DOUBLE)[:, None]
    expected = Normal(torch.tensor(b), math.sqrt(a**2 + s2)).log_prob(x[:, 0])
    torch.testing.assert_close(model.log_prob(x), expected.double(), rtol=1e-6, atol=1e-6)
    mean, variance = a * (x[:, 0] - b) / (a**2 + s2), s2 / (a**2 + s2)
    q = model.posterior(x)
    torch.testing.assert_close(q @ model.grid, mean)
    torch.testing.assert_close(q @ model.grid**2 - mean**2, torch.full((7,), variance).double())
    sd = torch.full((7,), math.sqrt(variance), dtype=DOUBLE)
    torch.testing.assert_close(model.log_gaussian(mean, sd).exp(), q)
    assert (model.modes(x) == 1).all()


def test_grid_joint_is_the_joint_density_times_the_spacing():
    model, x = latent.NonlinearLatentModel(wave, 0.2), draw(4, 2)
    spacing = model.grid[1] - model.grid[0]
    zero, sd = torch.tensor([0.0, 0.2], dtype=DOUBLE).sqrt()
    density = Normal(zero, zero + 1).log_prob(model.grid)
    each = Independent(Normal(wave(model.grid), sd), 1).log_prob(x[:, None])
    torch.testing.assert_close(model.log_joint(x, model.grid), each + density)
    torch.testing.assert_close(model.grid_joint(x), each + density + spacing.log())


def test_evidence_integrates_to_one_and_posterior_has_two_peaks():
    model = latent.NonlinearLatentModel(parabola, 0.1)
    x = torch.linspace(-4, 30, 4001, dtype=DOUBLE)[:, None]
    total = model.log_prob(x).exp().sum() * (x[1] - x[0])
    assert total.item() == pytest.approx(1, abs=1e-4)
    assert model.modes(torch.tensor([[-1.5], [1.0]], dtype=DOUBLE)).tolist() == [1, 2]


def test_free_energy_is_evidence_minus_kl():
    model, x = latent.NonlinearLatentModel(parabola, 0.3), draw(6, 1)
    joint, log_p, p = model.grid_joint(x), model.log_prob(x), model.log_posterior(x)
    torch.testing.assert_close(latent.free_energy(joint, p.exp()), log_p)
    for seed in range(3):
        q = (3 * draw(*joint.shape, seed=seed)).softmax(1)
        q[:, :5] = 0
        q = q / q.sum(1, keepdim=True)
        F = latent.free_energy(joint, q)
        torch.testing.assert_close(F, log_p - latent.kl(q.log(), p))
        assert (F < log_p - 1e-3).all()
    q = torch.tensor([0.5, 0.25, 0.25]).double()
    assert latent.entropy(q).item() == pytest.approx(1.5 * math.log(2))
    assert latent.kl(q.log(), torch.full((3,), 1 / 3).double().log()).item() == pytest.approx(
        math.log(3) - 1.5 * math.log(2)
    )


def test_em_learns_the_curve():
    true = latent.NonlinearLatentModel(wave, 0.02)
    x, z = true.sample(400, generator=rng())
    torch.testing.assert_close(
        (x - wave(z)).var(0), torch.full((2,), 0.02).double(), rtol=0.25, atol=0
    )
    assert abs(z.mean()) < 0.2 and abs(z.var() - 1) < 0.2
    model = latent.LatentCurve(n_grid=301, max_iter=90).fit(x)
    assert never_falls(model.loglike_) and len(model.path_) == model.n_iter_ + 1
    best, found = true.log_prob(x).mean(), model.log_prob(x).mean()
    assert found > best - 0.05
    assert model.noise_variance_ == pytest.approx(0.02, rel=0.3)
    penalty = 0.5 * model.ridge * model.coef_.square().sum() / len(x)
    assert model.loglike_[-1] == pytest.approx((found - penalty).item(), abs=1e-9)
    at = latent.LatentCurve(n_grid=301).at(*model.path_[0]).log_prob(x).mean()
    assert at < found - 0.3


def test_m_step_of_the_curve_is_the_maximum():
    model, x = latent.LatentCurve(6, ridge=0.5, n_grid=101), draw(30, 2)
    model.floor, sigma2 = 1e-6, torch.tensor(0.4).double()
    q = draw(30, 101, seed=3).softmax(1)
    coef, found = model.maximize(x, q, sigma2)

    def objective(coef, sigma2):
        f = model.basis(model.grid) @ coef
        each = Independent(Normal(f, sigma2.sqrt()), 1).log_prob(x[:, None])
        return (q * each).sum() - 0.25 * coef.square().sum()

    coef, found = coef.requires_grad_(), found.requires_grad_()
    (of_coef,) = torch.autograd.grad(objective(coef, sigma2), coef)
    (of_sigma,) = torch.autograd.grad(objective(coef, found), found)
    assert of_coef.abs().max() < 1e-8 and of_sigma.abs() < 1e-8


def test_curve_starts_where_it_is_told():
    x = draw(50, 1)
    model = latent.LatentCurve(start=parabola, noise_variance=0.3, max_iter=1).fit(x)
    coef, s2 = model.path_[0]
    z = torch.linspace(-2, 2, 9, dtype=DOUBLE)
    torch.testing.assert_close(model.basis(z) @ coef, parabola(z), rtol=0, atol=0.1)
    assert s2 == pytest.approx(0.3)


def test_curve_says_what_it_expects():
    for wrong in ({"ridge": 0}, {"n_basis": 1}, {"min_noise": 0}, {"n_grid": 2}, {"max_iter": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            latent.LatentCurve(**wrong)
    with pytest.raises(ValueError, match="the same"):
        latent.LatentCurve().fit(torch.ones(5, 1))
    with pytest.raises(ValueError, match="start"):
        latent.LatentCurve(start=wave).fit(draw(5, 1))
    for model in (
        lambda s2: latent.NonlinearLatentModel(wave, s2),
        lambda s2: latent.LatentCurve(noise_variance=s2),
    ):
        with pytest.raises(ValueError, match="noise_variance"):
            model(0.0)


# ------------------------------------------------------------------------------------------------ posteriors


def two_peaks(z):
    """Log-density of a mixture of N(−2, 0.5²) and N(2, 0.8²), weights 0.4 and 0.6."""
    pieces = [w + Normal(m, s).log_prob(z) for w, m, s in PEAKS]
    return torch.stack(pieces).logsumexp(0)


PEAKS = [(math.log(0.4), -2.0, 0.5), (math.log(0.6), 2.0, 0.8)]
WIDE = torch.linspace(-12, 12, 4001, dtype=DOUBLE)


def test_map_is_the_highest_peak():
    model, x = latent.NonlinearLatentModel(wave, 0.3), draw(10, 2)
    z = latent.map_estimate(lambda grid: model.log_joint(x, grid), model.grid)
    for one, found in zip(x, z, strict=True):

        def minus(value, one=one):
            return -model.log_joint(one[None], torch.tensor([float(value)]).double()).item()

        best = min(
            (
                scipy.optimize.minimize_scalar(minus, (a, a + 0.1))
                for a in (-2.0, -1.0, 0.0, 1.0, 2.0)
            ),
            key=lambda result: result.fun,
        )
        assert found.item() == pytest.approx(best.x, abs=1e-4)
    grid = torch.linspace(0, 1, 11)
    assert latent.map_estimate(lambda z: torch.stack([z, -z]), grid).tolist() == [1, 0]


def test_metropolis_draws_from_the_posterior():
    model, x = latent.NonlinearLatentModel(parabola, 0.5), torch.tensor([[-0.5], [0.3]]).double()
    log_p = lambda z: model.log_joint(x.repeat(300, 1), z[:, None])[:, 0]  # noqa: E731
    z, accepted = latent.metropolis(
        log_p, torch.zeros(600).double(), n_steps=300, step=1.5, generator=rng()
    )
    q = model.posterior(x)
    for power in (1, 2, 4):
        expected = q @ model.grid**power
        found = (z**power).reshape(-1, 2).mean(0)
        torch.testing.assert_close(found, expected, rtol=0.03, atol=0.03)
    assert z.shape == (300, 600) and (accepted > 0.1).all() and (accepted < 0.9).all()


def test_metropolis_takes_the_share_that_detailed_balance_says():
    # For N(0, 1) and proposals of width s the share taken is (2/π) arctan(2/s).
    z, accepted = latent.metropolis(
        lambda z: -0.5 * z**2, draw(2000), n_steps=50, step=1.0, n_burn_in=0, generator=rng(1)
    )
    assert accepted.mean().item() == pytest.approx(2 / math.pi * math.atan(2), abs=0.01)
    assert z.var().item() == pytest.approx(1, abs=0.05)
    with pytest.raises(ValueError, match="density is 0"):
        latent.metropolis(lambda z: z.log(), -torch.ones(2))
    with pytest.raises(ValueError, match="step"):
        latent.metropolis(two_peaks, torch.zeros(2), step=0.0)


def test_quadrature_is_exact_for_polynomials():
    epsilon, weights = latent.nodes(5, torch.empty(0, dtype=DOUBLE))
    for power, moment in ((0, 1), (1, 0), (2, 1), (4, 3), (6, 15), (8, 105)):
        assert (weights * epsilon**power).sum().item() == pytest.approx(moment, abs=1e-9)


def test_gaussian_free_energy_is_that_of_the_grid():
    model, x = latent.NonlinearLatentModel(wave, 0.3), draw(5, 2)
    mean, sd = draw(5, seed=1), 0.3 + 0.3 * draw(5, seed=2).abs()
    found = latent.gaussian_free_energy(lambda z: model.log_joint(x, z), mean, sd, 60)
    expected = latent.free_energy(model.grid_joint(x), model.log_gaussian(mean, sd).exp())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (found <= model.log_prob(x)).all()


def test_reverse_kl_takes_one_peak_and_forward_kl_covers_both():
    mean, sd = torch.tensor([-3.0, 3.0]).double(), torch.ones(2).double()
    m, s, free = latent.fit_reverse(two_peaks, mean, sd, n_steps=200)
    torch.testing.assert_close(m, torch.tensor([-2.0, 2.0]).double(), rtol=0, atol=0.05)
    torch.testing.assert_close(s, torch.tensor([0.5, 0.8]).double(), rtol=0.05, atol=0)
    torch.testing.assert_close(
        free, torch.tensor([math.log(0.4), math.log(0.6)]).double(), rtol=0.05, atol=0
    )
    broad, width = latent.fit_forward(lambda z: two_peaks(z)[None] + 7, WIDE)
    assert broad.item() == pytest.approx(0.4, abs=1e-6)
    assert width.item() == pytest.approx(math.sqrt(0.4 * 0.25 + 0.6 * 0.64 + 0.24 * 16), abs=1e-6)

    p = two_peaks(WIDE).log_softmax(0)
    q = [Normal(*pair).log_prob(WIDE).log_softmax(0) for pair in ((m[1], s[1]), (broad, width))]
    assert latent.kl(q[0], p) < latent.kl(q[1], p)
    assert latent.kl(p, q[1]) < latent.kl(p, q[0])


def test_variational_inference_reaches_the_best_gaussian():
    model, x = latent.NonlinearLatentModel(parabola, 0.4), torch.tensor([[0.5], [-1.2]]).double()
    start = torch.full((2,), 0.7).double()
    m, s, free = latent.fit_reverse(lambda z: model.log_joint(x, z), start, start)
    for i in range(2):

        def minus(theta, i=i):
            q = model.log_gaussian(*torch.tensor([[theta[0]], [math.exp(theta[1])]]).double())
            return -latent.free_energy(model.grid_joint(x[i : i + 1]), q.exp()).item()

        best = scipy.optimize.minimize(minus, [0.7, math.log(0.7)], method="Nelder-Mead", tol=1e-6)
        assert free[i].item() == pytest.approx(-best.fun, abs=1e-4)
        assert [m[i], s[i].log()] == pytest.approx(best.x, abs=5e-3)
    assert (free < model.log_prob(x)).all()
    with pytest.raises(ValueError, match="sd"):
        latent.fit_reverse(two_peaks, start, -start)


def test_amortised_posterior_nears_the_best_gaussians_from_below():
    random.seed(0)
    model = latent.NonlinearLatentModel(wave, 0.3, like=torch.empty(0))
    x, _ = model.sample(256, generator=rng())
    net = latent.AmortizedPosterior(model.log_joint, 2)
    before = net.elbo(x).mean()
    train.fit(net, x, epochs=40, batch_size=64, lr=5e-3, progress=False)
    start = [t.detach() for t in net.encode(x)]
    _, _, best = latent.fit_reverse(lambda z: model.log_joint(x, z), *start)
    after = net.elbo(x).mean()
    assert before + 0.5 < after <= best.mean() + 1e-3 <= model.log_prob(x).mean() + 2e-3
    assert best.mean() - after < 0.2
    assert net.loss(x).item() == pytest.approx(-after.item(), rel=1e-5)


# ------------------------------------------------------------------------------------------------ gradients

PHI = torch.tensor([0.7, -0.4], dtype=DOUBLE)


def both_estimators(n=20_000):
    """Gradients of E z² = m² + s² in (m, log s)."""
    epsilon = draw(n)
    z = latent.location_scale(PHI, epsilon)
    s = latent.scores(latent.gaussian_log_prob, z, PHI)
    path = latent.pathwise_gradients(lambda z: z**2, latent.location_scale, PHI, epsilon)
    exact = torch.tensor([2 * PHI[0], 2 * (2 * PHI[1]).exp()])
    return z**2, s, path, exact


def near(estimates, exact):
    error = 4 * estimates.std(0) / math.sqrt(len(estimates))
    return ((estimates.mean(0) - exact).abs() < error).all()


def test_scores_are_derivatives_of_the_log_density():
    z = draw(5)
    s = latent.scores(latent.gaussian_log_prob, z, PHI)
    e = (z - PHI[0]) / PHI[1].exp()
    torch.testing.assert_close(s, torch.stack([e / PHI[1].exp(), e**2 - 1], 1))
    expected = Normal(PHI[0], PHI[1].exp()).log_prob(z)
    torch.testing.assert_close(latent.gaussian_log_prob(z, PHI), expected)


def test_estimators_agree_in_the_mean_and_differ_in_variance():
    values, s, path, exact = both_estimators()
    plain = latent.score_gradients(values, s)
    assert near(plain, exact) and near(path, exact)
    assert (plain.var(0) > 3 * path.var(0)).all()
    for b in (0.9, latent.leave_one_out(values), latent.best_baseline(values[:5000], s[:5000])):
        assert near(latent.score_gradients(values, s, b), exact)


def test_pathwise_gradient_is_autograd_through_the_path():
    phi, epsilon = PHI.clone().requires_grad_(), draw(6)
    f = lambda z: torch.sin(3 * z) + z**3  # noqa: E731
    rows = latent.pathwise_gradients(f, latent.location_scale, PHI, epsilon)
    mean = f(latent.location_scale(phi, epsilon)).mean()
    torch.testing.assert_close(rows.mean(0), torch.autograd.grad(mean, phi)[0])


def test_leave_one_out_keeps_the_estimate_unbiased():
    # All pairs of draws of a Bernoulli variable with probability σ(a), f(0) = 1, f(1) = 4.
    a, f = torch.tensor(0.3, dtype=DOUBLE), torch.tensor([1.0, 4.0], dtype=DOUBLE)
    p = torch.stack([1 - a.sigmoid(), a.sigmoid()])
    score = torch.stack([-a.sigmoid(), 1 - a.sigmoid()])[:, None]
    exact = 3 * p[0] * p[1]
    mean = {"left out": 0.0, "all": 0.0}
    for i in (0, 1):
        for j in (0, 1):
            values, s = f[[i, j]], score[[i, j]]
            baselines = {"left out": latent.leave_one_out(values), "all": values.mean()}
            for name, b in baselines.items():
                mean[name] += p[i] * p[j] * latent.score_gradients(values, s, b).mean()
    assert mean["left out"].item() == pytest.approx(exact.item(), rel=1e-12)
    assert mean["all"].item() == pytest.approx(exact.item() / 2, rel=1e-12)


def test_best_baseline_has_the_least_variance():
    values, s, _, _ = both_estimators(4000)
    b = latent.best_baseline(values, s)

    def second_moment(b):
        return latent.score_gradients(values, s, b).square().mean(0)

    for change in (-0.1, 0.1):
        assert (second_moment(b) < second_moment(b + change)).all()
    assert (second_moment(b) < 0.8 * second_moment(0.0)).all()


def test_control_variate_leaves_what_is_not_correlated():
    h, rest = draw(20_000, 2), draw(20_000, 2, seed=1)
    g = 3 + 2 * h + rest
    better = latent.control_variate(g, h, 0.0)
    torch.testing.assert_close(better.mean(0), torch.full((2,), 3.0).double(), rtol=0, atol=0.03)
    torch.testing.assert_close(
        better.var(0) / g.var(0), torch.full((2,), 0.2).double(), rtol=0.05, atol=0
    )
    shifted = latent.control_variate(g, h + 5, 5.0)
    torch.testing.assert_close(shifted, better)


PATHS = {
    "location-scale": (latent.location_scale, PHI, scipy.stats.norm(0.7, math.exp(-0.4)), "normal"),
    "exponential": (
        latent.exponential,
        PHI[:1],
        scipy.stats.expon(scale=math.exp(-0.7)),
        "uniform",
    ),
    "logistic": (latent.logistic, PHI, scipy.stats.logistic(0.7, math.exp(-0.4)), "uniform"),
    "cauchy": (latent.cauchy, PHI, scipy.stats.cauchy(0.7, math.exp(-0.4)), "uniform"),
    "log-normal": (
        latent.log_normal,
        PHI,
        scipy.stats.lognorm(math.exp(-0.4), scale=math.exp(0.7)),
        "normal",
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_paths_lead_to_their_distributions(name):
    path, phi, expected, kind = PATHS[name]
    grid = torch.linspace(0.02, 0.98, 25, dtype=DOUBLE)
    noise = torch.special.ndtri(grid) if kind == "normal" else grid
    # Every path here rises with its noise, so quantiles go to quantiles.
    assert np.allclose(expected.cdf(path(phi, noise).numpy()), grid.numpy())


def test_compositions_lead_to_gamma_and_beta():
    u, v = (torch.rand(3000, size, generator=rng(size), dtype=DOUBLE) for size in (3, 2))
    gamma = latent.erlang(PHI[:1], u)
    assert (
        scipy.stats.kstest(gamma.numpy(), scipy.stats.gamma(3, scale=math.exp(-0.7)).cdf).pvalue
        > 0.01
    )
    assert scipy.stats.kstest(latent.beta(u, v).numpy(), scipy.stats.beta(3, 2).cdf).pvalue > 0.01
    # E z = 3 / λ, so the derivative in log λ is −3 / λ.
    rows = latent.pathwise_gradients(lambda z: z, latent.erlang, PHI[:1], u)
    assert near(rows, -3 / PHI[:1].exp())
    assert Gamma(3.0, PHI[0].exp()).mean.item() == pytest.approx(gamma.mean().item(), rel=0.05)


def test_gradient_functions_say_what_they_expect():
    with pytest.raises(ValueError, match="at least two"):
        latent.leave_one_out(torch.ones(1))
    with pytest.raises(ValueError, match="expected the same"):
        latent.control_variate(torch.ones(3), torch.ones(4), 0.0)
    with pytest.raises(ValueError, match="equally many"):
        latent.score_gradients(torch.ones(3), torch.ones(4, 2))


# ------------------------------------------------------------------------------------------------ NCE


def test_noise_is_gaussian():
    x, C = draw(9, 3), positive_definite(1, 3)[0]
    noise = latent.NormalNoise(x[0], C)
    torch.testing.assert_close(noise.log_prob(x), MultivariateNormal(x[0], C).log_prob(x))
    y = noise.sample(50_000, generator=rng())
    torch.testing.assert_close(torch.cov(y.T), C, rtol=0.05, atol=0.05)
    fitted = latent.NormalNoise.fit(y, scale=2.0)
    torch.testing.assert_close(fitted.L @ fitted.L.T, 4 * torch.cov(y.T, correction=0))
    with pytest.raises(ValueError, match="singular"):
        latent.NormalNoise.fit(torch.ones(4, 2))


def test_nce_objective_is_its_formula():
    p, n = draw(8).exp(), draw(8, seed=1).exp()
    q, m = draw(5, seed=2).exp(), draw(5, seed=3).exp()
    nu = 3.0
    expected = (p / (p + nu * n)).log().mean() + nu * (nu * m / (q + nu * m)).log().mean()
    found = latent.nce_objective(p.log() - n.log(), q.log() - m.log(), nu)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="nu"):
        latent.nce_objective(p, n, 0.0)


@pytest.mark.parametrize("nu", [1, 5])
@pytest.mark.parametrize("log_z", [-3.0, 8.0])
def test_nce_finds_the_normaliser(nu, log_z):
    C = positive_definite(1, 2)[0]
    data = MultivariateNormal(torch.ones(2).double(), C)
    noise = latent.NormalNoise(torch.zeros(2).double(), 2 * C + 0.5 * torch.eye(2))
    x = torch.ones(2) + draw(5000, 2) @ torch.linalg.cholesky(C).T
    y = noise.sample(5000 * nu, generator=rng(1))
    ratios = [data.log_prob(t) + log_z - noise.log_prob(t) for t in (x, y)]
    found = latent.estimate_log_z(*ratios, nu)
    assert found == pytest.approx(log_z, abs=0.02 * abs(log_z))
    # It is the maximum of the objective.
    J = [latent.nce_objective(*[r - found - e for r in ratios], nu) for e in (-0.01, 0.0, 0.01)]
    assert J[1] > max(J[0], J[2])


class Quadratic(nn.Module):
    """log φ(x) = −½ λ x², whose log Z is ½ log(2π/λ)."""

    def __init__(self):
        super().__init__()
        self.log_precision = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        return -0.5 * self.log_precision.exp() * x[:, 0] ** 2


def test_nce_trains_parameters_and_normaliser():
    random.seed(0)
    x = 0.5 * draw(4000, 1).float()
    noise = latent.NormalNoise(torch.zeros(1), torch.eye(1))
    model = latent.NoiseContrastive(Quadratic(), noise, nu=5, generator=rng())
    train.fit(model, x, epochs=30, batch_size=400, lr=2e-2, progress=False)
    precision = model.log_phi.log_precision.exp().item()
    assert precision == pytest.approx(4, rel=0.08)
    assert model.log_z.item() == pytest.approx(0.5 * math.log(2 * math.pi / precision), abs=0.05)
    assert model.log_prob(x).shape == (4000,)


def test_conditional_nce_needs_no_normaliser():
    x, log_phi = draw(6, 2), lambda x: -(x**2).sum(1) + x[:, 0]
    found = latent.conditional_nce_loss(log_phi, x, 0.5, n_noise=3, generator=rng(4))
    y = x + 0.5 * random.noise((3, 6, 2), x, rng(4))
    G = log_phi(x) - torch.stack([log_phi(rows) for rows in y])
    torch.testing.assert_close(found, 2 * (1 + (-G).exp()).log().mean())
    shifted = latent.conditional_nce_loss(
        lambda x: log_phi(x) + 9, x, 0.5, n_noise=3, generator=rng(4)
    )
    torch.testing.assert_close(found, shifted)
    with pytest.raises(ValueError, match="sd"):
        latent.conditional_nce_loss(log_phi, x, 0.0)


def test_conditional_nce_finds_the_precision():
    x, phi = 0.5 * draw(20_000, 1), torch.linspace(2, 6, 41).double()
    loss = [
        latent.conditional_nce_loss(
            lambda x, lam=lam: -0.5 * lam * x[:, 0] ** 2, x, 0.5, n_noise=4, generator=rng(1)
        )
        for lam in phi
    ]
    assert phi[torch.stack(loss).argmin()].item() == pytest.approx(4, abs=0.3)


def vnce_problem(nu=2.0, n=7):
    """Densities of a curve model at a few x, a Gaussian q on the grid, and Gaussian noise."""
    model, x = latent.NonlinearLatentModel(parabola, 0.5), draw(n, 1)
    noise = latent.NormalNoise(torch.zeros(1).double(), 4 * torch.eye(1).double())
    q = model.log_gaussian(draw(n, seed=5), 0.5 + draw(n, seed=6).abs())
    return model, x, q, noise.log_prob(x), nu


def test_first_term_is_a_bound_and_its_gap_an_f_divergence():
    model, x, q, log_noise, nu = vnce_problem()
    log_p, joint, p = model.log_prob(x), model.grid_joint(x), model.log_posterior(x)
    exact = (log_p.exp() / (log_p.exp() + nu * log_noise.exp())).log()
    log_w = (joint - q).T  # every z of the grid is a draw with its probability
    by_hand = (joint.exp() / (joint.exp() + nu * q.exp() * log_noise.exp()[:, None])).log()
    terms = latent.vnce_first_term(log_w, log_noise, nu)
    # Below e^-700 numbers have few digits left.
    sharp = by_hand.isfinite() & (joint > -700)
    torch.testing.assert_close(terms.T[sharp], by_hand[sharp])
    assert sharp.double().mean() > 0.3
    bound = (q.exp().T * terms).sum(0)
    assert (bound < exact - 1e-3).all()
    c = nu * (log_noise - log_p).exp()
    torch.testing.assert_close(exact - bound, latent.vnce_divergence(q, p, c))
    tight = (p.exp().T * latent.vnce_first_term((joint - p).T, log_noise, nu)).sum(0)
    torch.testing.assert_close(tight, exact)
    torch.testing.assert_close(
        latent.vnce_divergence(p, p, c), torch.zeros(7).double(), atol=1e-9, rtol=0
    )
    large = latent.vnce_divergence(q, p, torch.full((7,), 1e12).double())
    torch.testing.assert_close(large, latent.kl(q, p), rtol=1e-3, atol=1e-3)


def test_vnce_lies_below_nce_with_the_exact_inner_expectation_only():
    model = latent.NonlinearLatentModel(parabola, 0.5)
    noise = latent.NormalNoise(torch.zeros(1).double(), 4 * torch.eye(1).double())
    x, _ = model.sample(3000, generator=rng())
    y = noise.sample(3000, generator=rng(1))
    exact = [model.log_prob(t) for t in (x, y)]
    J = latent.nce_objective(exact[0] - noise.log_prob(x), exact[1] - noise.log_prob(y))

    def log_w(x, k, seed):
        """Draws from a q that is far from the posterior: N(0, 1)."""
        return model.log_likelihood(x, draw(len(x), k, seed=seed)).T

    of_data = log_w(x, 40, 2)
    bound = latent.vnce_objective(of_data, noise.log_prob(x), exact[1][None], noise.log_prob(y))
    assert bound < J - 0.05
    second = [
        latent.vnce_objective(of_data, noise.log_prob(x), log_w(y, k, 3), noise.log_prob(y))
        for k in (1, 5, 50)
    ]
    assert second[0] > second[1] > second[2] > bound
    # With q = p(z|x) and one draw for the noise the objective is above J.
    above = latent.vnce_objective(
        exact[0][None], noise.log_prob(x), log_w(y, 1, 4), noise.log_prob(y)
    )
    assert above > J + 0.05


def test_few_draws_bias_the_second_term_upwards():
    # Log-normal weights with E w = 1, so that the exact value is log ½; −0.472 by quadrature for one draw.
    sd = 1.5
    log_w = sd * draw(50, 40_000) - sd**2 / 2
    found = []
    for k in (1, 5, 50):
        log_p = latent.log_mean_weight(log_w[:k])
        found.append(nn.functional.logsigmoid(-log_p).mean().item())
    torch.testing.assert_close(latent.log_mean_weight(log_w), log_w.exp().mean(0).log())
    assert found == pytest.approx([-0.472, -0.599, -0.676], abs=0.01)
    assert found[2] > -math.log(2) + 0.01


class LinearGaussian(nn.Module):
    """log φ(x, z) of x = a z + s ε without its normaliser, and a constant to learn it."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.5))
        self.log_s = nn.Parameter(torch.tensor(0.0))
        self.c = nn.Parameter(torch.tensor(0.0))

    def forward(self, x, z):
        error = (x - self.a * z)[..., 0] / self.log_s.exp()
        return -0.5 * error**2 - 0.5 * z[..., 0] ** 2 - self.c


def test_variational_nce_trains_an_unnormalised_model():
    random.seed(0)
    x = 1.5 * draw(3000, 1).float()
    noise = latent.NormalNoise(torch.zeros(1), 4 * torch.eye(1))
    model = latent.VariationalNCE(LinearGaussian(), noise, 1, nu=3, k=10, generator=rng())
    train.fit(model, x, epochs=30, batch_size=300, lr=3e-2, progress=False)
    phi = model.log_phi
    variance = (phi.a**2 + (2 * phi.log_s).exp()).item()
    assert variance == pytest.approx(2.25, rel=0.1)
    assert phi.c.item() == pytest.approx(math.log(2 * math.pi) + phi.log_s.item(), abs=0.1)
    mean, sd = model.encode(x[:200])
    exact = phi.a.item() * x[:200] / variance
    assert (mean - exact).abs().mean() < 0.15
    assert sd.mean().item() == pytest.approx(
        math.exp(phi.log_s.item()) / math.sqrt(variance), rel=0.3
    )
