"""Deep energy models and score matching against autograd, quadrature, enumeration and closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from lectool import energy, train
from lectool.boltzmann import GaussianRBM, all_bits

DOUBLE = torch.float64
DEPTHS = ([5, 7], [5, 7, 4], [5, 6, 4, 3])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=DOUBLE)


def model(sizes, *, seed=0, scale=1.0, **settings):
    net = energy.DeepEnergyModel(sizes, **settings).double()
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(scale * draw(*p.shape, seed=seed + i))
    return net


def gaussian(d=3, seed=0):
    A = draw(d, d, seed=seed)
    return MultivariateNormal(draw(d, seed=seed + 1), A @ A.T + 0.5 * torch.eye(d, dtype=DOUBLE))


def hessians(log_phi, x):
    def of_row(row):
        return log_phi(row[None])[0]

    return torch.stack([torch.autograd.functional.hessian(of_row, row) for row in x])


# ------------------------------------------------------------------------------------------------ softplus


def test_softplus_and_sigmoid_are_right_for_any_number():
    u = torch.tensor([-1000.0, -80, -30, -1, 0, 1, 30, 80, 1000])
    exact = torch.logaddexp(u.double(), torch.zeros(9, dtype=DOUBLE))
    torch.testing.assert_close(energy.softplus(u).double(), exact, rtol=1e-6, atol=1e-40)
    torch.testing.assert_close(energy.sigmoid(u), u.sigmoid(), rtol=1e-5, atol=1e-37)
    assert energy.softplus(torch.tensor(-30.0)) > 0  # log(1 + e⁻³⁰) is 0 in float32


@pytest.mark.parametrize("f", [energy.softplus, energy.sigmoid])
def test_their_derivatives_are_finite_and_right_everywhere(f):
    u = torch.tensor([-1000.0, -90, -2, 0, 2, 90, 1000], requires_grad=True)
    s = u.detach().sigmoid()
    chain = [s, s * (1 - s), s * (1 - s) * (1 - 2 * s)]  # of softplus
    chain = chain if f is energy.softplus else chain[1:]
    value = f(u)
    for expected in chain:
        value = torch.autograd.grad(value.sum(), u, create_graph=True)[0]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-30)


# ------------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("sizes", DEPTHS)
def test_energy_is_the_formula(sizes):
    net, x = model(sizes, sigma=0.7), draw(6, 5, seed=9)
    for row, found in zip(x, net.energy(x)):
        g = row
        for layer in net.layers[:-1]:
            g = 1 / (1 + torch.exp(-(layer.weight @ g + layer.bias)))
        a = net.layers[-1].weight @ g + net.layers[-1].bias
        expected = (row - net.c).square().sum() / (2 * 0.7**2) - torch.log(1 + a.exp()).sum()
        torch.testing.assert_close(found, expected)
    assert torch.equal(net.log_phi(x), -net.energy(x))


def test_hidden_units_summed_out_give_the_energy():
    net, x = model([5, 6, 4], sigma=0.8), draw(3, 5, seed=9)
    z = all_bits(4, x)
    parabola = -(x - net.c).square().sum(1) / (2 * 0.8**2)
    log_joint = parabola[:, None] + net.activations(x) @ z.T  # (n, 2⁴)
    torch.testing.assert_close(log_joint.logsumexp(1), net.log_phi(x))
    torch.testing.assert_close(log_joint.softmax(1) @ z, net.encode(x))


def test_one_layer_is_the_gaussian_rbm():
    rbm = GaussianRBM(5, 4, sigma=0.6).double()
    net = model([5, 4], sigma=0.6)
    with torch.no_grad():
        rbm.log_sigma.fill_(math.log(0.6))  # in float64
        for p, seed in ((rbm.W, 1), (rbm.b, 2), (rbm.c, 3)):
            p.copy_(draw(*p.shape, seed=seed))
        net.layers[0].weight.copy_(rbm.W / 0.6**2)
        net.layers[0].bias.copy_(rbm.b)
        net.c.copy_(rbm.c)
    x = draw(7, 5, seed=4)
    gap = net.energy(x) - rbm.free_energy(x)
    torch.testing.assert_close(gap, gap[:1].expand(7))
    torch.testing.assert_close(net.encode(x), rbm.hidden_given_visible(x))
    torch.testing.assert_close(net.loss(x), rbm.score_matching_loss(x))


def test_without_biases_g_is_that_of_the_lecture():
    net, x = model([5, 6, 4], bias=False), draw(3, 5, seed=9)
    assert [layer.bias is None for layer in net.layers] == [True, False]
    torch.testing.assert_close(net.features(x), (x @ net.layers[0].weight.T).sigmoid())


@pytest.mark.parametrize("sizes", [[1, 3], [1, 4, 3], [1, 4, 3, 2]])
def test_the_density_can_be_normalized(sizes):
    net = model(sizes, sigma=0.9, scale=2.0)
    log_z = [
        torch.trapezoid(net.log_phi(x[:, None]).exp(), x).log()
        for x in (torch.linspace(-r, r, 40_001, dtype=DOUBLE) for r in (40, 80))
    ]
    torch.testing.assert_close(*log_z, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sizes", DEPTHS)
def test_derivatives_are_those_of_autograd(sizes):
    net, x = model(sizes, sigma=0.7), draw(6, 5, seed=9)
    H = hessians(net.log_phi, x)
    psi, diagonal = net.derivatives(x, diagonal=True)
    torch.testing.assert_close(psi, net.score(x))
    torch.testing.assert_close(diagonal, H.diagonal(dim1=1, dim2=2))
    psi, trace = net.derivatives(x)
    torch.testing.assert_close(psi, net.score(x))
    torch.testing.assert_close(trace, H.diagonal(dim1=1, dim2=2).sum(1))
    found = energy.hessian_diagonal(net.log_phi, x)
    torch.testing.assert_close(found[0], net.score(x))
    torch.testing.assert_close(found[1], diagonal)


def test_score_is_the_slope_by_finite_differences():
    net, x, eps = model([5, 7, 4], sigma=0.7), draw(6, 5, seed=9), 1e-6
    for i, e in enumerate(torch.eye(5, dtype=DOUBLE)):
        slope = (net.log_phi(x + eps * e) - net.log_phi(x - eps * e)) / (2 * eps)
        torch.testing.assert_close(net.score(x)[:, i], slope, rtol=1e-5, atol=1e-7)


def test_one_unit_in_one_dimension_works():
    net, x = model([1, 2, 1]), draw(4, 1, seed=9)
    diagonal = net.derivatives(x, diagonal=True)[1]
    torch.testing.assert_close(diagonal, hessians(net.log_phi, x)[:, :, 0])
    torch.testing.assert_close(net.derivatives(x)[1], diagonal[:, 0])


@pytest.mark.parametrize("lam", [0.0, 0.3])
@pytest.mark.parametrize("sizes", DEPTHS)
def test_loss_and_its_gradient_are_those_of_the_general_function(sizes, lam):
    net, x = model(sizes, sigma=0.7, lam=lam), draw(6, 5, seed=9)
    loss = net.loss(x)
    if lam:
        torch.testing.assert_close(loss["fit"] + lam * loss["curvature"], loss["loss"])
        loss = loss["loss"]
    other = energy.score_matching_loss(net.log_phi, x, lam=lam)
    torch.testing.assert_close(loss, other)
    parameters = list(net.parameters())
    expected = torch.autograd.grad(other, parameters, allow_unused=True)
    for found, wanted in zip(torch.autograd.grad(loss, parameters, allow_unused=True), expected):
        torch.testing.assert_close(found, wanted)


def test_a_taller_model_begins_with_what_the_other_has_learned():
    net, x = model([5, 7, 4], sigma=0.7, lam=0.1), draw(6, 5, seed=9)
    taller = net.grow(3)
    assert taller.sizes == [5, 7, 4, 3] and (taller.sigma, taller.lam) == (0.7, 0.1)
    torch.testing.assert_close(taller.features(x), net.encode(x))
    torch.testing.assert_close(taller.c, net.c)
    bare = model([5, 7, 4], bias=False)
    torch.testing.assert_close(bare.grow(2).features(x), bare.encode(x))


def test_start_is_the_mean():
    net, x = energy.DeepEnergyModel([4, 3]), draw(50, 4).float()
    net.start_at(x)
    torch.testing.assert_close(net.c.detach(), x.mean(0))


# ------------------------------------------------------------------------------------------------ score matching


class Bell(nn.Module):
    """log φ of a Gaussian with a free precision."""

    def __init__(self, d):
        super().__init__()
        self.mean, self.root = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.eye(d))
        self.double()

    def forward(self, x):
        return -0.5 * ((x - self.mean) @ self.root).square().sum(1)


def test_score_matching_is_half_the_distance_of_scores_up_to_a_constant():
    p, net = gaussian(), model([3, 6, 4], scale=0.5)
    other = model([3, 5], seed=50, scale=0.5)
    x = p.sample((200_000,)).to(DOUBLE)
    of_data = -(x - p.mean) @ p.precision_matrix

    def gap(m):
        return 0.5 * (m.score(x) - of_data).square().sum(1)

    J = [m.loss(x) for m in (net, other)]
    expected = gap(net) - gap(other)
    error = 4 * expected.std() / math.sqrt(len(x)) + 0.02
    assert abs((J[0] - J[1]) - expected.mean()) < error


def test_score_matching_of_a_gaussian_has_the_covariance_as_its_best():
    p = gaussian()
    x = p.sample((500,))
    bell = Bell(3)
    opt = torch.optim.LBFGS(bell.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        opt.zero_grad()
        loss = energy.score_matching_loss(bell, x)
        loss.backward()
        return loss

    opt.step(closure)
    torch.testing.assert_close(bell.mean.detach(), x.mean(0), rtol=1e-4, atol=1e-4)
    precision = (bell.root @ bell.root.T).detach()
    torch.testing.assert_close(
        precision, torch.linalg.inv(x.T.cov(correction=0)), rtol=1e-4, atol=1e-4
    )


def test_losses_of_a_gaussian_are_their_closed_forms():
    p, x = gaussian(), draw(40, 3, seed=9)
    P = p.precision_matrix
    psi = -(x - p.mean) @ P
    J = 0.5 * psi.square().sum(1).mean() - P.trace()
    torch.testing.assert_close(energy.score_matching_loss(p.log_prob, x), J)
    with_price = energy.score_matching_loss(p.log_prob, x, lam=0.5)
    torch.testing.assert_close(with_price, J + 0.5 * P.diagonal().square().sum())


def test_sliced_loss_is_right_on_average_and_exact_for_a_diagonal_hessian():
    net, x = model([5, 7, 4], sigma=0.7), draw(6, 5, seed=9)
    many = energy.sliced_score_matching_loss(net.log_phi, x, n_slices=4000, generator=rng(1))
    assert abs(many - net.loss(x)) < 0.3
    assert abs(energy.sliced_score_matching_loss(net.log_phi, x, generator=rng(1)) - many) > 1e-6

    def separate(x):
        return -(x**4).sum(1)

    once = energy.sliced_score_matching_loss(separate, x, generator=rng(2))
    torch.testing.assert_close(once, energy.score_matching_loss(separate, x))


def test_sliced_estimates_keep_to_their_standard_error():
    net, x = model([5, 7, 4], sigma=0.7), draw(6, 5, seed=9)
    draws = torch.stack(
        [
            energy.sliced_score_matching_loss(net.log_phi, x, generator=rng(seed)).detach()
            for seed in range(500)
        ]
    )
    assert abs(draws.mean() - net.loss(x)) < 4 * draws.std() / math.sqrt(500)


def test_denoising_loss_is_least_for_the_score_of_the_noisy_data():
    p, sd = gaussian(), 0.4
    x = p.sample((100_000,))
    noisy = MultivariateNormal(p.mean, p.covariance_matrix + sd**2 * torch.eye(3, dtype=DOUBLE))
    losses = [
        energy.denoising_score_matching_loss(q.log_prob, x, sd, generator=rng(3))
        for q in (noisy, p, gaussian(seed=20))
    ]
    assert losses[0] < min(losses[1:])
    mean_square = 0.5 * (3 / sd**2 - noisy.precision_matrix.trace())  # ½ E‖ψ + ε/sd‖² at the best ψ
    assert abs(losses[0] - mean_square) < 0.05
    bell = Bell(3)
    expected = energy.denoising_score_matching_loss(bell, x[:5], sd, generator=rng(4))
    epsilon = torch.randn(5, 3, generator=rng(4), dtype=DOUBLE)
    psi = -(x[:5] + sd * epsilon)
    torch.testing.assert_close(expected, 0.5 * (psi + epsilon / sd).square().sum(1).mean())


def test_losses_can_be_computed_where_gradients_are_off_and_trained_by_fit():
    x = draw(60, 2).float()
    net = energy.DeepEnergyModel([2, 5, 3])
    losses = [
        None,
        lambda x: energy.sliced_score_matching_loss(net.log_phi, x),
        lambda x: energy.denoising_score_matching_loss(net.log_phi, x, 0.5),
        lambda x: energy.score_matching_loss(net.log_phi, x),
    ]
    for loss in losses:
        before = net.layers[0].weight.detach().clone()
        train.fit(net, x, loss=loss, epochs=1, validation=x, progress=False)
        assert not torch.equal(before, net.layers[0].weight)
    with torch.no_grad():
        assert not net.score(x).requires_grad


def test_training_finds_the_two_peaks_of_a_density():
    torch.manual_seed(0)
    x = torch.cat([draw(500, 1) * 0.4 - 1.5, draw(500, 1, seed=1) * 0.4 + 1.5]).float()
    net = energy.DeepEnergyModel([1, 16, 8], sigma=2.0)
    train.fit(net, x, epochs=80, batch_size=100, lr=2e-2, schedule="linear", progress=False)
    grid = torch.linspace(-3, 3, 601)
    p = net.log_phi(grid[:, None]).detach().softmax(0) / 0.01
    bump = torch.distributions.Normal
    true = 0.5 * (bump(-1.5, 0.4).log_prob(grid).exp() + bump(1.5, 0.4).log_prob(grid).exp())
    assert (
        0.01 * (p - true).abs().sum() < 0.4
    )  # twice the total variation; 1.2 for the best Gaussian


# ------------------------------------------------------------------------------------------------ chains


def test_langevin_walks_by_its_formula():
    p, x = gaussian(), draw(5, 3, seed=9)
    y, rate = energy.langevin(p.log_prob, x, 0.3, generator=rng(1))
    xi = torch.randn(5, 3, generator=rng(1), dtype=DOUBLE)
    torch.testing.assert_close(y, x - 0.045 * (x - p.mean) @ p.precision_matrix + 0.3 * xi)
    assert rate == 1 and not y.requires_grad
    still, _ = energy.langevin(p.log_prob, x, 0.3, 0)
    assert torch.equal(still, x)


def test_adjusted_langevin_keeps_a_density_for_large_steps():
    def log_phi(x):
        return -(x**4).sum(1) + 0.5 * x.sum(1)

    grid = torch.linspace(-4, 4, 8001, dtype=DOUBLE)
    p = (-(grid**4) + 0.5 * grid).softmax(0)
    mean, square = (p * grid).sum(), (p * grid**2).sum()
    x, rate = energy.langevin(log_phi, draw(4000, 2) / 2, 0.9, 60, adjust=True, generator=rng(1))
    assert 0.2 < rate < 0.9
    assert abs(x.mean() - mean) < 0.03 and abs(x.square().mean() - square) < 0.03


def test_without_correction_the_variance_errs_as_it_must():
    def log_phi(x):
        return -0.5 * x.square().sum(1)

    x, _ = energy.langevin(log_phi, draw(40_000, 1), 1.0, 30, generator=rng(1))
    assert abs(x.var() - 1 / (1 - 0.25)) < 0.05  # 1 / (1 − ε²/4)
    x, _ = energy.langevin(log_phi, draw(40_000, 1), 1.0, 30, adjust=True, generator=rng(1))
    assert abs(x.var() - 1) < 0.04


def test_climbing_ends_on_a_peak_and_never_goes_down():
    net = model([3, 8, 4], sigma=0.8)
    path = energy.climb(net.log_phi, 3 * draw(20, 3, seed=9), 2.0, 400)
    assert path.shape == (401, 20, 3)
    height = torch.stack([net.log_phi(x) for x in path]).detach()
    assert (height.diff(dim=0) >= 0).all()
    assert net.score(path[-1]).norm(dim=1).max() < 1e-3
    assert (hessians(net.log_phi, path[-1][:3]).detach().diagonal(dim1=1, dim2=2) < 0).all()


def test_contrastive_divergence_is_the_difference_of_energies_and_its_gradient():
    net, x = model([3, 4]), draw(6, 3, seed=9)
    loss = energy.ContrastiveDivergence(net, lambda x: x + 1)
    value = loss(x)
    torch.testing.assert_close(value, net.energy(x).mean() - net.energy(x + 1).mean())
    torch.testing.assert_close(loss.chains, x + 1)
    (found,) = torch.autograd.grad(value, net.layers[0].bias)
    torch.testing.assert_close(found, net.encode(x + 1).mean(0) - net.encode(x).mean(0))


def test_persistent_chains_go_on_from_where_they_were():
    net, x = model([3, 4]), draw(6, 3, seed=9)
    x0 = draw(10, 3, seed=5)
    loss = energy.ContrastiveDivergence(net, lambda x: x + 1, x0)
    first, second = loss(x), loss(x)
    torch.testing.assert_close(loss.chains, x0 + 2)
    torch.testing.assert_close(first, net.energy(x).mean() - net.energy(x0 + 1).mean())
    torch.testing.assert_close(second, net.energy(x).mean() - net.energy(x0 + 2).mean())


def test_a_chain_that_runs_away_is_said():
    net, x = model([3, 4]), draw(6, 3)
    with pytest.raises(FloatingPointError, match="a chain has run off to infinity"):
        energy.ContrastiveDivergence(net, lambda x: x / 0)(x)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: energy.DeepEnergyModel([3]), "expected two or more numbers"),
        (lambda: energy.DeepEnergyModel([3, 0]), "each at least 1"),
        (lambda: energy.DeepEnergyModel([3, 2], sigma=0), "sigma is 0; expected"),
        (lambda: energy.DeepEnergyModel([3, 2], lam=-1), "lam is -1"),
        (lambda: model([3, 2]).energy(draw(4, 5)), "expected 3 numbers in a sample"),
        (lambda: model([3, 2]).loss(draw(4, 3).float()), "x is torch.float32, the model"),
        (lambda: model([3, 2]).loss(draw(4, 3) / 0 * 0), "NaN or infinite"),
        (lambda: energy.score_matching_loss(torch.sum, draw(4, 3), lam=-1), "lam is -1"),
        (lambda: energy.sliced_score_matching_loss(torch.sum, draw(4, 3), n_slices=0), "n_slices"),
        (lambda: energy.denoising_score_matching_loss(torch.sum, draw(4, 3), 0), "sd is 0"),
        (lambda: energy.langevin(torch.sum, draw(4, 3), 0), "step is 0"),
        (lambda: energy.langevin(torch.sum, draw(4, 3), 1, -1), "n_steps is -1"),
        (lambda: energy.climb(torch.sum, draw(4, 3), -1), "step is -1"),
    ],
)
def test_errors(call, said):
    with pytest.raises(ValueError, match=said):
        call()
