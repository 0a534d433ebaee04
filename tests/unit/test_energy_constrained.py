"""Constrained Gaussians against known precisions, dense linear systems, autograd and torch's Gaussian."""

import math
import warnings

import pytest
import torch
from torch.distributions import MultivariateNormal

from lectool import energy
from lectool.energy import constrained

DOUBLE = torch.float64
METHODS = constrained.METHODS


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=DOUBLE)


def banded(d=7, width=2, seed=0):
    """A precision matrix with a band, and its mask."""
    mask = energy.band_mask(d, width)
    A = 0.4 * draw(d, d, seed=seed) * mask
    A = A + A.T
    lift = 0.4 - torch.linalg.eigvalsh(A)[0]
    return A + lift * torch.eye(d, dtype=DOUBLE), mask


def covariance(d=6, seed=0):
    A = draw(d, d, seed=seed)
    return A @ A.T / d + 0.2 * torch.eye(d, dtype=DOUBLE)


def samples(Lambda, n, seed=0, mean=3.0):
    L = torch.linalg.cholesky(torch.linalg.inv(Lambda))
    return mean + draw(n, len(Lambda), seed=seed) @ L.T


# ------------------------------------------------------------------------------------------------ masks


def test_masks():
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    assert torch.equal(energy.band_mask(4, 1), torch.tensor(expected).bool())
    assert torch.equal(energy.band_mask(3, 0), torch.eye(3).bool())
    mask = energy.grid_mask(3, 4, 1)
    for i in range(12):
        for j in range(12):
            apart = math.dist(divmod(i, 4), divmod(j, 4))
            assert mask[i, j] == (apart <= 1)
    assert energy.grid_mask(3, 3, 1.5)[4].all() and energy.grid_mask(3, 3, 1.4)[4].sum() == 5


# ------------------------------------------------------------------------------------------------ from a covariance


@pytest.mark.parametrize("fit", [energy.fit_precision_ml, energy.fit_precision_score_matching])
@pytest.mark.parametrize("width", [0, 1, 2, 6])
def test_the_true_covariance_gives_the_true_precision(fit, width):
    Lambda, mask = banded(7, width, seed=width)
    found = fit(torch.linalg.inv(Lambda), mask)
    torch.testing.assert_close(found, Lambda, rtol=1e-6, atol=1e-7)


def test_maximum_likelihood_agrees_with_the_covariance_on_the_mask():
    C, mask = covariance(), energy.grid_mask(2, 3, 1)
    Lambda = energy.fit_precision_ml(C, mask, tol=1e-12)
    assert (Lambda[~mask] == 0).all() and torch.equal(Lambda, Lambda.T)
    torch.testing.assert_close(torch.linalg.inv(Lambda)[mask], C[mask])
    assert torch.linalg.eigvalsh(Lambda)[0] > 0


def test_maximum_likelihood_is_a_maximum():
    C, mask = covariance(), energy.band_mask(6, 1)
    Lambda = energy.fit_precision_ml(C, mask)
    free = Lambda.clone().requires_grad_()
    likelihood = torch.logdet(free) - (free @ C).trace()
    (slope,) = torch.autograd.grad(likelihood, free)
    assert slope[mask].abs().max() < 1e-6 < slope[~mask].abs().max()


def test_score_matching_solves_its_linear_system():
    """Against a dense solution with one unknown for each free entry."""
    C, mask = covariance(), energy.band_mask(6, 2)
    rows, columns = torch.triu(mask).nonzero(as_tuple=True)
    basis = torch.zeros(len(rows), 6, 6, dtype=DOUBLE)
    basis[torch.arange(len(rows)), rows, columns] = 1
    basis[torch.arange(len(rows)), columns, rows] = 1
    A = torch.einsum("aij,jk,bki->ab", basis, C, basis)
    b = basis.diagonal(dim1=1, dim2=2).sum(1)
    expected = torch.einsum("a,aij->ij", torch.linalg.solve((A + A.T) / 2, b), basis)
    found = energy.fit_precision_score_matching(C, mask)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, energy.fit_precision_ml(C, mask), atol=1e-3)


def test_score_matching_has_the_least_loss_of_a_gaussian_density():
    x, mask = draw(400, 4) @ covariance(4), energy.band_mask(4, 1)
    x = x - x.mean(0)
    best = energy.fit_precision_score_matching(x.T @ x / len(x), mask)

    def loss(Lambda):
        return energy.score_matching_loss(lambda t: -0.5 * ((t @ Lambda) * t).sum(1), x)

    free = best.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss((free + free.T) / 2), free)
    assert slope[mask].abs().max() < 1e-8


def test_conjugate_gradients_need_as_many_steps_as_there_are_unknowns():
    C, mask = covariance(), energy.band_mask(6, 2)
    n_unknowns = int(torch.triu(mask).sum())
    found = energy.fit_precision_score_matching(C, mask, n_steps=n_unknowns)
    torch.testing.assert_close(
        found, energy.fit_precision_score_matching(C, mask), rtol=1e-6, atol=1e-6
    )


def test_a_few_steps_are_not_enough():
    C, mask = covariance(), energy.band_mask(6, 2)
    exact = energy.fit_precision_score_matching(C, mask)
    assert (energy.fit_precision_score_matching(C, mask, n_steps=2) - exact).abs().max() > 1e-3
    loose = energy.fit_precision_ml(C, mask, n_sweeps=1)
    assert (loose - energy.fit_precision_ml(C, mask)).abs().max() > 1e-6


# ------------------------------------------------------------------------------------------------ noise


def test_quadratic():
    Lambda, x = covariance(4), draw(5, 4)
    expected = torch.stack([-0.5 * row @ Lambda @ row for row in x])
    torch.testing.assert_close(constrained.quadratic(Lambda, x), expected)


def test_nce_loss_is_that_of_the_classifier():
    x = draw(50, 3) @ covariance(3)
    x = x - x.mean(0)
    nu, Lambda, log_z = 3, covariance(3, seed=5), torch.tensor(1.7, dtype=DOUBLE)
    loss = constrained.make_nce_loss(x, nu, rng(1))(Lambda, log_z)
    C = x.T @ x / 50
    noise = MultivariateNormal(torch.zeros(3, dtype=DOUBLE), C)
    y = torch.randn(150, 3, generator=rng(1), dtype=DOUBLE) @ torch.linalg.cholesky(C).T

    def posterior(t):
        p = (-0.5 * ((t @ Lambda) * t).sum(1) - log_z).exp()
        return p / (p + nu * noise.log_prob(t).exp())

    expected = -posterior(x).log().mean() - nu * (1 - posterior(y)).log().mean()
    torch.testing.assert_close(loss, expected)


def test_conditional_nce_loss_is_its_formula():
    x, Lambda = draw(50, 3), covariance(3, seed=5)
    loss = constrained.make_conditional_nce_loss(x, 2, rng(1), 0.4)(Lambda, torch.zeros(()))
    y = x + 0.4 * torch.randn(2, 50, 3, generator=rng(1), dtype=DOUBLE)
    total = 0.0
    for copy in y:
        G = -0.5 * ((x @ Lambda) * x).sum(1) + 0.5 * ((copy @ Lambda) * copy).sum(1)
        total = total + 2 * torch.log(1 + (-G).exp()).mean() / 2
    torch.testing.assert_close(loss, total)


# ------------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("method, error", list(zip(METHODS, (0.03, 0.03, 0.04, 0.08))))
def test_every_method_recovers_a_band(method, error):
    Lambda, mask = banded()
    scale = torch.tensor([0.1, 1, 10, 1, 0.1, 1, 1], dtype=DOUBLE)
    x = scale * samples(Lambda, 20_000)
    model = energy.ConstrainedGaussian(mask, method=method, nu=2, generator=rng(2)).fit(x)
    found = scale[:, None] * model.precision_ * scale
    assert (found - Lambda).norm() < error * Lambda.norm()
    assert (model.precision_[~mask] == 0).all() and model.n_repaired_ == 0
    torch.testing.assert_close(model.mean_, x.mean(0))
    torch.testing.assert_close(model.covariance_, torch.linalg.inv(model.precision_))
    wrong = energy.ConstrainedGaussian(energy.band_mask(7, 0), method=method).fit(x)
    assert model.score(x) > wrong.score(x) + 0.1


def test_nce_finds_the_normalizer_too():
    Lambda, mask = banded(4, 1)
    x = samples(Lambda, 20_000, mean=0.0)
    found, log_z = constrained.descend(constrained.make_nce_loss(x, 5, rng(1)), mask, x, 200)
    p = MultivariateNormal(torch.zeros(4, dtype=DOUBLE), precision_matrix=found)
    assert abs(-p.log_prob(torch.zeros(4, dtype=DOUBLE)) - log_z) < 0.03


def test_log_prob_is_torchs_and_samples_have_the_covariance():
    Lambda, mask = banded()
    model = energy.ConstrainedGaussian(mask).fit(samples(Lambda, 500))
    p = MultivariateNormal(model.mean_, precision_matrix=model.precision_)
    x = draw(9, 7)
    torch.testing.assert_close(model.log_prob(x), p.log_prob(x))
    assert abs(model.score(x) - p.log_prob(x).mean().item()) < 1e-9
    y = model.sample(100_000, rng(1))
    assert (y.T.cov() - model.covariance_).abs().max() < 0.03 * model.covariance_.abs().max()
    assert (y.mean(0) - model.mean_).abs().max() < 0.02


def test_whitening_by_the_model():
    Lambda, mask = banded()
    x = samples(Lambda, 500)
    model = energy.ConstrainedGaussian(mask).fit(x)
    z = model.transform(x)
    torch.testing.assert_close(model.inverse_transform(z), x)
    torch.testing.assert_close(z.square().sum(1), -2 * (model.log_prob(x) + model.log_z_))
    white = energy.ConstrainedGaussian(torch.ones(7, 7).bool()).fit(x).transform(x)
    torch.testing.assert_close(white.T.cov(correction=0), torch.eye(7, dtype=DOUBLE))


def test_a_fit_that_is_not_positive_definite_is_repaired_and_said():
    values = torch.tensor([-0.5, -0.1, 0.3, 2.0], dtype=DOUBLE)
    Q = torch.linalg.qr(draw(4, 4))[0]
    model = energy.ConstrainedGaussian(torch.ones(4, 4).bool(), least=0.05)
    with pytest.warns(
        UserWarning, match=r"2 of 4 eigenvalues .* below 0.05, the smallest is -0.5; 0.55"
    ):
        repaired = model.repair(Q @ values.diag() @ Q.T)
    torch.testing.assert_close(torch.linalg.eigvalsh(repaired), values + 0.55)
    assert model.n_repaired_ == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good = Q @ (values + 1).diag() @ Q.T
        assert torch.equal(model.repair(good), good) and model.n_repaired_ == 0


def test_a_repaired_fit_keeps_its_zeros_and_is_a_density():
    """Nearly one-dimensional data, whose best banded precision by score matching has negative eigenvalues."""
    x = draw(200, 1) + 0.05 * draw(200, 5, seed=1) + 0.3 * draw(200, 1, seed=2) * torch.arange(5)
    mask = energy.band_mask(5, 1)
    model = energy.ConstrainedGaussian(mask, method="score matching")
    with pytest.warns(UserWarning, match="was added to its diagonal"):
        model.fit(x)
    assert model.n_repaired_ > 0 and (model.precision_[~mask] == 0).all()
    assert torch.linalg.eigvalsh(model.precision_)[0] > 0


def test_float32_data_give_float32():
    Lambda, mask = banded()
    model = energy.ConstrainedGaussian(mask).fit(samples(Lambda, 500).float())
    assert model.precision_.dtype == model.sample(3).dtype == torch.float32
    with pytest.raises(ValueError, match=r"the model torch\.float32"):
        model.log_prob(draw(3, 7))


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: energy.band_mask(0, 1), "d is 0"),
        (lambda: energy.band_mask(3, -1), "width is -1"),
        (lambda: energy.grid_mask(0, 3, 1), "height is 0"),
        (lambda: energy.grid_mask(2, 3, -1), "radius is -1"),
        (
            lambda: energy.ConstrainedGaussian(torch.eye(3)),
            "mask is torch.float32; expected torch.bool",
        ),
        (lambda: energy.ConstrainedGaussian(torch.ones(3, 3).triu().bool()), "not symmetric"),
        (lambda: energy.ConstrainedGaussian(~torch.eye(3).bool()), "true diagonal"),
        (lambda: energy.ConstrainedGaussian(torch.ones(2, 3).bool()), "mask has shape"),
        (lambda: energy.ConstrainedGaussian(torch.eye(3).bool(), method="cd"), "method is 'cd'"),
        (lambda: energy.ConstrainedGaussian(torch.eye(3).bool(), nu=0), "nu is 0"),
        (lambda: energy.ConstrainedGaussian(torch.eye(3).bool(), sd=0), "sd is 0"),
        (lambda: energy.ConstrainedGaussian(torch.eye(3).bool(), least=0), "least is 0"),
        (
            lambda: energy.ConstrainedGaussian(torch.eye(3).bool()).fit(draw(9, 4)),
            "expected 3 numbers",
        ),
        (lambda: energy.ConstrainedGaussian(torch.eye(3).bool()).fit(draw(2, 3)), "singular"),
        (
            lambda: energy.ConstrainedGaussian(torch.eye(3).bool()).fit(
                draw(9, 3) * torch.tensor([1, 0, 1])
            ),
            "constant in feature 1",
        ),
        (lambda: energy.fit_precision_ml(covariance(), energy.band_mask(4, 1)), "mask has shape"),
        (lambda: energy.fit_precision_ml(covariance(), energy.band_mask(6, 1), tol=0), "tol is 0"),
        (
            lambda: energy.fit_precision_score_matching(
                covariance(), energy.band_mask(6, 1), n_steps=0
            ),
            "n_steps",
        ),
    ],
)
def test_errors(call, said):
    with pytest.raises(ValueError, match=said):
        call()
