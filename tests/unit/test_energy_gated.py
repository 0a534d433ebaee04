"""Gated machines and their theory against loops, enumeration, quadrature, autograd, and waves that are known."""

import doctest
import itertools
import math

import pytest
import torch
from torch.autograd.functional import hessian, jacobian

from lectool import data, energy, train
from lectool.energy import gated

DOUBLE = torch.float64


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=gen(seed), dtype=DOUBLE)


def bits(k):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=k)), dtype=DOUBLE)


def machine(kind="full", d=3, e=4, k=2, scale=0.6, **options):
    """Parameters far from 0, in double precision."""
    if kind == "full":
        model = energy.GatedRBM(d, e, k, **options).double()
    else:
        model = energy.FactoredGatedRBM(d, e, k, n_factors=5, **options).double()
    rng = gen()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=rng, dtype=DOUBLE))
    return model


def matrices(model):
    """W_k one by one, from the definition of each kind."""
    if isinstance(model, energy.GatedRBM):
        return model.W
    return torch.einsum("kf,fi,fj->kij", model.Wz, model.Wx, model.Wy)


KINDS = pytest.mark.parametrize("kind", ["full", "factored"])
VISIBLE = pytest.mark.parametrize("visible", ["gaussian", "bernoulli"])


def pairs(model, n, seed=0):
    shapes = (n, len(model.b)), (n, len(model.c))
    x, y = (noise(*s, seed=seed + i) for i, s in enumerate(shapes))
    return (x, y) if model.visible == "gaussian" else ((x > 0).double(), (y > 0).double())


# ------------------------------------------------------------------------------------------------ the distribution


@VISIBLE
@KINDS
def test_the_energy_is_the_definition(kind, visible):
    model = machine(kind, visible=visible)
    (x, y), z, W = pairs(model, 4), bits(2), matrices(model)
    for i in range(4):
        log_p = model.b @ x[i] + model.c @ y[i] + model.d @ z[i]
        log_p = log_p + sum(z[i, k] * (x[i] @ W[k] @ y[i]) for k in range(2))
        if visible == "gaussian":
            log_p = log_p - 0.5 * x[i] @ x[i] - 0.5 * y[i] @ y[i]
        torch.testing.assert_close(model.energy(x, y, z)[i], -log_p)


@VISIBLE
@KINDS
def test_free_energy_and_posterior_by_enumeration(kind, visible):
    model = machine(kind, visible=visible)
    (x, y), z = pairs(model, 5), bits(2)
    energies = torch.stack([model.energy(x, y, row.expand(5, -1)) for row in z], 1)
    torch.testing.assert_close(model.free_energy(x, y), -(-energies).logsumexp(1))
    expected = (-energies).softmax(1) @ z
    torch.testing.assert_close(model.hidden_given_visible(x, y), expected)
    torch.testing.assert_close(model.encode(x, y), expected)


@KINDS
def test_the_sum_of_open_matrices(kind):
    model, z, W = machine(kind), bits(2), matrices(machine(kind))
    M = torch.einsum("nk,kij->nij", z, W)
    (x, y) = pairs(model, 4)
    torch.testing.assert_close(model.matrix(z), M)
    torch.testing.assert_close(model.forth(x, z), torch.einsum("nij,ni->nj", M, x))
    torch.testing.assert_close(model.back(y, z), torch.einsum("nij,nj->ni", M, y))
    torch.testing.assert_close(model.response(x, y), torch.einsum("ni,kij,nj->nk", x, W, y))


@KINDS
def test_each_real_image_is_gaussian_given_the_rest(kind):
    model = machine(kind, scale=1.5)  # far beyond the joint model's limit
    (x, y), z = pairs(model, 4), bits(2)
    assert model.margin().normalizable is False
    for i in range(4):
        of_y = lambda t: model.energy(x[i][None], t[None], z[i][None]).squeeze()  # noqa: B023, E731
        of_x = lambda t: model.energy(t[None], y[i][None], z[i][None]).squeeze()  # noqa: B023, E731
        mean_y = model.y_given(x, z)[i].detach()
        mean_x = model.x_given(y, z)[i].detach()
        for E, mean in ((of_y, mean_y), (of_x, mean_x)):
            zero = torch.zeros(len(mean)).double()
            torch.testing.assert_close(jacobian(E, mean), zero, atol=1e-9, rtol=0)
            torch.testing.assert_close(hessian(E, mean), torch.eye(len(mean)).double())


@KINDS
def test_each_bit_by_enumeration(kind):
    model = machine(kind, visible="bernoulli", scale=1.5)
    (x, y), z = pairs(model, 4), bits(2)
    for i in range(4):
        every = bits(4)
        E = model.energy(x[i].expand(16, -1), every, z[i].expand(16, -1))
        torch.testing.assert_close(model.y_given(x, z)[i], (-E).softmax(0) @ every)
        every = bits(3)
        E = model.energy(every, y[i].expand(8, -1), z[i].expand(8, -1))
        torch.testing.assert_close(model.x_given(y, z)[i], (-E).softmax(0) @ every)


@KINDS
def test_the_conditional_density_integrates_to_one(kind):
    model = machine(kind, e=2, scale=0.9)
    axis = torch.linspace(-14, 14, 281, dtype=DOUBLE)
    y = torch.cartesian_prod(axis, axis)
    x = noise(3, 3)
    for row in x:
        log_p = torch.cat([model.log_prob_y(row.expand(len(t), -1), t) for t in y.split(40000)])
        assert abs(log_p.exp().sum() * (axis[1] - axis[0]) ** 2 - 1) < 1e-4
    model = machine(kind, visible="bernoulli")
    log_p = model.log_prob_y(torch.ones(16, 3).double(), bits(4))
    assert abs(log_p.exp().sum() - 1) < 1e-9


# ------------------------------------------------------------------------------------------------ N8: the joint model


@KINDS
def test_the_joint_precision_is_the_energys_hessian(kind):
    model, z = machine(kind), bits(2)
    for i, P in enumerate(model.joint_precision(z)):
        E = lambda t: model.energy(t[None, :3], t[None, 3:], z[i][None]).squeeze()  # noqa: B023, E731
        torch.testing.assert_close(hessian(E, noise(7)), P)
        s = torch.linalg.svdvals(model.matrix(z)[i])
        expected = torch.cat([1 - s, 1 + s, torch.ones(1).double()]).sort().values
        torch.testing.assert_close(torch.linalg.eigvalsh(P), expected)


def test_the_margin_is_the_largest_norm():
    model = machine()
    norms = [torch.linalg.svdvals(M).max().item() for M in model.matrix(bits(2))]
    with torch.no_grad():
        model.W.mul_(0.99 / max(norms))
    found = model.margin()
    assert found.norm == pytest.approx(0.99) and found.exact and found.normalizable is True
    smallest = torch.linalg.eigvalsh(model.joint_precision(bits(2))).min().item()
    assert smallest == pytest.approx(0.01)
    with torch.no_grad():
        model.W.mul_(1.5 / 0.99)
    found = model.margin()
    assert found.norm == pytest.approx(1.5) and found.normalizable is False
    smallest = torch.linalg.eigvalsh(model.joint_precision(bits(2))).min().item()
    assert smallest == pytest.approx(-0.5)  # as at 1.5 in the lecture's model


def test_the_margin_of_many_bits_is_a_bound():
    model = machine(k=20)
    norms = torch.linalg.matrix_norm(model.W, 2).sum().item()
    with torch.no_grad():
        model.W.mul_(0.9 / norms)
    found = model.margin()
    assert found.norm == pytest.approx(0.9) and not found.exact and found.normalizable is True
    with torch.no_grad():
        model.W.mul_(1.02 / 0.9)  # the sum of norms is above 1, but no z comes near it
    assert model.margin().normalizable is None
    with torch.no_grad():
        model.W.mul_(20)
    found = model.margin()
    assert found.normalizable is False and found.norm >= 1


@KINDS
def test_samples_of_the_joint_model_have_the_exact_moments(kind):
    model, z = machine(kind, d=2, e=2), bits(2)
    weights = model.W if kind == "full" else model.Wz
    with torch.no_grad():
        weights.mul_(0.6 / model.margin().norm)
    assert model.margin().normalizable is True
    P, pull = model.joint_precision(z), torch.cat([model.b, model.c])
    means = torch.linalg.solve(P, pull)
    log_w = z @ model.d + 0.5 * means @ pull - 0.5 * P.logdet()
    w = log_w.softmax(0)
    center = w @ means
    spread = torch.linalg.inv(P) + (means - center)[:, :, None] * (means - center)[:, None]
    exact = (w[:, None, None] * spread).sum(0)
    pair = torch.cat(model.sample(20000, 80, generator=gen()), 1)
    torch.testing.assert_close(pair.mean(0), center.detach(), atol=0.06, rtol=0)
    torch.testing.assert_close(pair.T.cov(correction=0), exact.detach(), atol=0.1, rtol=0.05)


def test_a_joint_model_without_an_integral_is_said_and_never_sampled():
    model = machine(scale=1.5)
    with pytest.raises(ValueError, match=r"cannot be normalised.*expected less than 1.*gibbs_y"):
        model.sample(5)
    x, y = pairs(model, 50)
    assert model.gibbs_y(x, y, 200, gen()).isfinite().all()  # the conditional model goes on
    # The chain that sample() refuses to run does run off.
    for seed in range(400):
        z = torch.ones(50, 2).double()
        x = model.x_given(y, z).detach() + noise(50, 3, seed=seed)
        y = model.y_given(x, z).detach() + noise(50, 4, seed=seed + 1)
    assert not y.isfinite().all() or y.abs().max() > 1e6


def test_bits_have_no_limit():
    model = machine(visible="bernoulli", scale=1.5)
    x, y = model.sample(6, 5, generator=gen())
    assert set(x.unique().tolist()) <= {0.0, 1.0} and y.shape == (6, 4)
    for call in (model.margin, lambda: model.joint_precision(bits(2))):
        with pytest.raises(ValueError, match="expected visible='gaussian'"):
            call()


def test_joint_samples_of_bits_by_enumeration():
    model = machine(visible="bernoulli", d=2, e=2)
    x, y = model.sample(40000, 60, generator=gen())
    every_x, every_y = bits(4).split(2, 1)
    exact = (-model.free_energy(every_x, every_y)).softmax(0)
    place = torch.tensor([8.0, 4.0, 2.0, 1.0]).double()
    found = (torch.cat([x, y], 1) @ place).long().bincount(minlength=16) / 40000
    torch.testing.assert_close(found, exact.float().detach(), atol=0.015, rtol=0)


# ------------------------------------------------------------------------------------------------ conditional chains


@KINDS
def test_chains_of_one_image_given_the_other_by_enumeration(kind):
    model = machine(kind, visible="bernoulli", d=2, e=2, scale=1.0)
    fixed, start = torch.tensor([[1.0, 0.0]]).double().expand(40000, -1), torch.zeros(40000, 2)
    every = bits(2)
    place = torch.tensor([2.0, 1.0]).double()
    y = model.gibbs_y(fixed, start.double(), 30, gen())
    exact = (-model.free_energy(fixed[:4], every)).softmax(0).detach().float()
    found = (y @ place).long().bincount(minlength=4) / 40000
    torch.testing.assert_close(found, exact, atol=0.015, rtol=0)
    x = model.gibbs_x(start.double(), fixed, 30, gen())
    exact = (-model.free_energy(every, fixed[:4])).softmax(0).detach().float()
    found = (x @ place).long().bincount(minlength=4) / 40000
    torch.testing.assert_close(found, exact, atol=0.015, rtol=0)


def test_chains_of_real_images_by_quadrature():
    model = machine(e=1, scale=0.9)
    x = noise(1, 3).expand(20000, -1)
    y = model.gibbs_y(x, torch.zeros(20000, 1).double(), 40, gen())
    axis = torch.linspace(-12, 12, 4001, dtype=DOUBLE)[:, None]
    weight = (-model.free_energy(x[:1].expand(4001, -1), axis)).softmax(0)
    assert abs(y.mean() - weight @ axis[:, 0]) < 0.04
    assert abs(y.square().mean() - weight @ axis[:, 0].square()) < 0.12


def test_chains_of_means_draw_no_pixels():
    model = machine(sample_visible=False, scale=3.0)
    x, y = pairs(model, 6)
    possible = torch.stack([model.y_given(x, z.expand(6, -1)) for z in bits(2)])
    found = model.gibbs_y(x, y, 1, gen())
    assert ((possible - found).abs().amax(2) < 1e-9).any(0).all()
    possible = torch.stack([model.x_given(y, z.expand(6, -1)) for z in bits(2)])
    found = model.gibbs_x(x, y, 1, gen())
    assert ((possible - found).abs().amax(2) < 1e-9).any(0).all()


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_loss_is_of_conditional_contrastive_divergence(symmetric, monkeypatch):
    model = machine(symmetric=symmetric)
    (x, y), (x_new, y_new) = pairs(model, 5), pairs(model, 5, seed=5)
    monkeypatch.setattr(model, "gibbs_y", lambda *_: y_new)
    monkeypatch.setattr(model, "gibbs_x", lambda *_: x_new)
    F = model.free_energy
    one, other = (F(x, y) - F(x, y_new)).mean(), (F(x, y) - F(x_new, y)).mean()
    torch.testing.assert_close(model.loss(x, y), (one + other) / 2 if symmetric else one)


@KINDS
def test_long_chains_give_the_gradient_of_the_conditional_likelihood(kind):
    torch.manual_seed(0)
    model = machine(kind, n_gibbs=40)
    x, y = pairs(model, 3000)
    model.loss(x, y).backward()
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    (-model.log_prob_y(x, y).mean()).backward()
    exact = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert torch.cosine_similarity(found, exact, dim=0) > 0.99
    assert 0.9 < found.norm() / exact.norm() < 1.1


def test_filters_begin_blind_to_brightness():
    torch.manual_seed(0)
    W = energy.GatedRBM(5, 6, 3).W
    assert W.mean(1).abs().max() < 1e-6 and W.mean(2).abs().max() < 1e-6 and W.std() > 0.01
    model = energy.FactoredGatedRBM(5, 6, 3, n_factors=4)
    for filters in (model.Wx, model.Wy):
        assert filters.mean(1).abs().max() < 1e-6 and filters.std() > 0.1
    assert (energy.FactoredGatedRBM(1, 1, 3, n_factors=4).Wx != 0).all()


def test_the_start():
    model = machine()
    x, y = pairs(model, 50)
    model.start_at(x, y)
    torch.testing.assert_close(model.b.detach(), x.mean(0))
    torch.testing.assert_close(model.c.detach(), y.mean(0))
    model = machine(visible="bernoulli")
    x, y = pairs(model, 50)
    model.start_at(x, y)
    torch.testing.assert_close(model.c.detach().sigmoid(), y.mean(0))


# ------------------------------------------------------------------------------------------------ learning


def learned(model, x, y, steps, lr):
    model.start_at(x, y)
    train.fit(model, [x, y], steps=steps, lr=lr, schedule="linear", progress=False)
    return model


AMOUNTS = torch.stack([torch.zeros(5).long(), torch.arange(5)], 1)


def signals(n, seed, binary=False):
    """Signals of eight numbers, turned by 0 to 4 places; as bits, half of them on."""
    x, y, which = data.transformed_pairs(n, size=(1, 8), amounts=AMOUNTS, seed=seed)
    return ((x > 0).float(), (y > 0).float(), which) if binary else (x, y, which)


def accuracy(model, **options):
    x, y, which = signals(2000, 0, **options)
    x_new, y_new, which_new = signals(1000, 1, **options)
    found = energy.nearest_mean(model.encode(x, y), which, model.encode(x_new, y_new))
    return (found == which_new).double().mean().item()


@pytest.mark.parametrize("kind", ["full", "factored", "bits"])
def test_it_learns_shifts_and_does_them_to_other_signals(kind):
    torch.manual_seed(0)
    x, y, _ = signals(6000, 0, binary=kind == "bits")
    if kind == "factored":
        model, steps, lr = energy.FactoredGatedRBM(8, 8, 20, n_factors=30), 900, 0.01
    elif kind == "full":
        model, steps, lr = energy.GatedRBM(8, 8, 12, symmetric=True), 500, 0.01
    else:
        model, steps, lr = energy.GatedRBM(8, 8, 20, visible="bernoulli"), 800, 0.02
    before = accuracy(model, binary=kind == "bits")
    learned(model, x, y, steps, lr)
    after = accuracy(model, binary=kind == "bits")
    assert before < 0.75 and after > 0.9, (before, after)
    if kind != "bits":
        x_new, y_new, which = signals(1000, 1)
        other = noise(1000, 8, seed=9).float()
        wanted = data.transformed(other[:, None], "shift", AMOUNTS[which])[:, 0]
        done = model.analogy(x_new, y_new, other)
        assert torch.cosine_similarity(done, wanted).mean() > 0.7
        assert torch.cosine_similarity(done, other).mean() < 0.4


def test_an_analogy_is_the_mean_given_the_inferred_bits():
    model = machine()
    (x, y), (other, _) = pairs(model, 5), pairs(model, 5, seed=7)
    expected = model.y_given(other, model.hidden_given_visible(x, y))
    torch.testing.assert_close(model.analogy(x, y, other), expected)
    torch.testing.assert_close(
        model.analogy(x, y, other[:1]), model.y_given(other[:1].expand(5, -1), model.encode(x, y))
    )


def test_nearest_mean():
    codes = torch.tensor([[0.0, 0], [2, 0], [10, 10], [12, 10]])
    labels = torch.tensor([0, 0, 1, 1])
    new = torch.tensor([[1.0, 3], [9, 9], [5.9, 5]])
    assert energy.nearest_mean(codes, labels, new).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="class 1 is empty"):
        energy.nearest_mean(codes, torch.tensor([0, 0, 2, 2]), new)
    with pytest.raises(ValueError, match="equally many"):
        energy.nearest_mean(codes, labels[:3], new)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"d": 0}, "d is 0"),
        ({"e": 0}, "e is 0"),
        ({"k": 0}, "k is 0"),
        ({"n_gibbs": 0}, "n_gibbs is 0"),
        ({"visible": "poisson"}, "visible is 'poisson'"),
        ({"n_factors": 0}, "n_factors is 0"),
    ],
)
def test_settings_out_of_range_are_rejected(options, words):
    with pytest.raises(ValueError, match=words):
        energy.FactoredGatedRBM(**{"d": 3, "e": 4, "k": 2, "n_factors": 5} | options)


def test_pairs_that_do_not_fit_are_rejected():
    model = machine()
    x, y = pairs(model, 5)
    for call in (model.loss, model.encode, model.log_prob_y, model.start_at):
        with pytest.raises(ValueError, match=r"x has shape .*expected 3 numbers"):
            call(y, y)
        with pytest.raises(ValueError, match=r"y has shape .*expected 4 numbers"):
            call(x, x)
        with pytest.raises(ValueError, match="equally many"):
            call(x, y[:4])
        with pytest.raises(ValueError, match="NaN"):
            call(x, y / 0)
    with pytest.raises(ValueError, match=r"expected \[0.0, 1.0\]"):
        machine(visible="bernoulli").loss(x, y)
    with pytest.raises(ValueError, match="17 hidden units"):
        machine(k=17).log_prob_y(x, y)
    for call in (model.gibbs_x, model.gibbs_y):
        with pytest.raises(ValueError, match="n_steps is -1"):
            call(x, y, -1)
    with pytest.raises(ValueError, match="n is 0"):
        model.sample(0)


# ------------------------------------------------------------------------------------------------ the theory


def test_shift_matrices_shift():
    x = noise(12)
    torch.testing.assert_close(energy.shift_matrix(12, 5) @ x, x.roll(5))
    image = x.reshape(3, 4)
    A = energy.shift_matrix((3, 4), (1, 2))
    torch.testing.assert_close((A @ x).reshape(3, 4), image.roll((1, 2), (0, 1)))
    with pytest.raises(ValueError, match="equally many"):
        energy.shift_matrix((3, 4), 1)


@pytest.mark.parametrize("shape", [7, 8, (3, 4)])
def test_commuting_orthogonal_maps_share_their_eigenvectors(shape):
    sizes = (shape,) if isinstance(shape, int) else shape
    every = list(itertools.product(*(range(s) for s in sizes)))[1:5]
    maps = torch.stack([energy.shift_matrix(sizes, by) for by in every])
    U, eigenvalues = energy.shared_eigenbasis(maps)
    identity = torch.eye(len(U)).to(U)
    torch.testing.assert_close(U.mH @ U, identity)
    torch.testing.assert_close(eigenvalues.abs(), torch.ones_like(eigenvalues.abs()))
    for A, values in zip(maps, eigenvalues):
        torch.testing.assert_close(U @ values.diag() @ U.mH, A.to(U))
        # The slide's U Λ Uᵀ is another matrix.
        assert (U @ values.diag() @ U.T - A).abs().max() > 0.1
    if isinstance(shape, int):  # they are the Fourier waves: one frequency each
        power = torch.fft.fft(U, dim=0).abs().square()
        assert (power.max(0).values / power.sum(0)).min() > 1 - 1e-9


def test_rotations_of_several_planes_share_their_eigenvectors():
    Q = torch.linalg.qr(noise(6, 6)).Q

    def turn(*angles):
        c, s = torch.tensor(angles).double().cos(), torch.tensor(angles).double().sin()
        blocks = [torch.stack([torch.stack([a, -b]), torch.stack([b, a])]) for a, b in zip(c, s)]
        return Q @ torch.block_diag(*blocks) @ Q.T

    # No map tells all planes apart by itself.
    maps = torch.stack([turn(0.5, 0.5, 1.0), turn(1.0, 2.0, 2.0)])
    U, eigenvalues = energy.shared_eigenbasis(maps)
    for A, values in zip(maps, eigenvalues):
        torch.testing.assert_close(U @ values.diag() @ U.mH, A.to(U))


def test_maps_without_a_shared_basis_are_named():
    shift, flip = energy.shift_matrix(5, 1), torch.eye(5).flip(0).double()
    with pytest.raises(ValueError, match="maps 0 and 1 do not commute"):
        energy.shared_eigenbasis(torch.stack([shift, flip]))
    scaling = 1.2 * torch.eye(5).double()
    with pytest.raises(ValueError, match=r"map 1 is not orthogonal.*0.44"):
        energy.shared_eigenbasis(torch.stack([shift, scaling]))
    with pytest.raises(ValueError, match="expected"):
        energy.shared_eigenbasis(noise(2, 4, 5))
    with pytest.raises(ValueError, match="tol is 0"):
        energy.shared_eigenbasis(shift[None], tol=0)


def test_waves_are_found():
    t = torch.arange(16).double()
    phases = torch.tensor([0.3, -2.0, 3.0]).double()
    for frequency in (1, 3, 7):
        waves = torch.cos(2 * torch.pi * frequency * t / 16 + phases[:, None])
        fit = energy.fourier_fit(2.5 * waves, 16)
        torch.testing.assert_close(fit.share, torch.ones(3).double())
        assert fit.frequency.flatten().tolist() == [frequency] * 3
        torch.testing.assert_close(fit.phase, phases)


def test_waves_of_images_are_found():
    row, column = torch.arange(8).double()[:, None], torch.arange(6).double()
    for f, g in ((0, 2), (3, 0), (2, 1), (2, 5), (4, 1), (4, 3), (0, 3)):
        angle = 2 * torch.pi * (f * row / 8 + g * column / 6) + 0.4
        fit = energy.fourier_fit(angle.cos().reshape(1, 48), (8, 6))
        assert fit.share.item() == pytest.approx(1)
        found = fit.frequency[0].tolist()
        assert found in ([f, g], [(-f) % 8, (-g) % 6]) and fit.frequency[0, 0] <= 4
        k, l = found
        again = (2 * torch.pi * (k * row / 8 + l * column / 6) + fit.phase).cos()
        norm = angle.cos().norm() / again.norm()
        torch.testing.assert_close(again * norm, angle.cos())


def test_a_constant_and_the_fastest_wave_count_once():
    flat = torch.ones(1, 8).double()
    fast = torch.tensor([[1.0, -1.0]]).double().repeat(1, 4)
    mix = flat + 0.5 * fast
    assert energy.fourier_fit(flat, 8).share.item() == pytest.approx(1)
    assert energy.fourier_fit(fast, 8).frequency.item() == 4
    assert energy.fourier_fit(mix, 8).share.item() == pytest.approx(0.8)
    # A wave has its energy at two frequencies, which are one.
    wave = torch.cos(2 * torch.pi * torch.arange(8) / 8).double()[None]
    assert energy.fourier_fit(wave + 0.5 * fast, 8).share.item() == pytest.approx(2 / 3)


def test_noise_is_like_no_wave():
    share = energy.fourier_fit(noise(2000, 64), 64).share
    assert share.mean().item() == pytest.approx(2 * (math.log(32) + 0.6) / 64, rel=0.05)


def test_phase_gaps():
    t = torch.arange(16).double()

    def fit(frequency, phase):
        return energy.fourier_fit(torch.cos(2 * torch.pi * frequency * t / 16 + phase)[None], 16)

    assert energy.phase_gap(fit(3, 0.2), fit(3, 0.2 + math.pi / 2)).item() == pytest.approx(
        math.pi / 2
    )
    assert energy.phase_gap(fit(3, 3.0), fit(3, -3.0)).item() == pytest.approx(2 * math.pi - 6)
    assert energy.phase_gap(fit(3, -3.0), fit(3, 3.0)).item() == pytest.approx(6 - 2 * math.pi)
    assert energy.phase_gap(fit(3, 0.0), fit(4, 0.0)).isnan().all()


def test_quadrature():
    t = torch.arange(16).double()[None]

    def balance(frequency, *phases):
        waves = torch.cos(2 * torch.pi * frequency * t / 16 + torch.tensor(phases)[:, None])
        return energy.quadrature(energy.fourier_fit(waves, 16))[1].item()

    assert balance(2, 0.3, 0.3 + math.pi / 2) == pytest.approx(1)
    assert balance(2, 0.3, 0.3 + math.pi) == pytest.approx(0, abs=1e-6)
    assert balance(2, 0.3) == pytest.approx(0, abs=1e-6)
    assert balance(2, 0.0, math.pi / 4) == pytest.approx(1 - math.sqrt(0.5), abs=1e-6)
    both = torch.cat(
        [
            torch.cos(2 * torch.pi * f * t / 16 + p)
            for f, p in ((1, 0.0), (3, 0.0), (3, math.pi / 2))
        ]
    )
    frequency, found = energy.quadrature(energy.fourier_fit(both, 16))
    assert frequency.flatten().tolist() == [1, 3]
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0]).double(), atol=1e-6, rtol=0)


def test_filters_that_are_no_signals_are_rejected():
    with pytest.raises(ValueError, match="expected 8 numbers"):
        energy.fourier_fit(noise(2, 7), 8)
    with pytest.raises(ValueError, match="0 everywhere"):
        energy.fourier_fit(torch.zeros(2, 8), (2, 4))


def test_examples():
    result = doctest.testmod(gated, extraglobs={"torch": torch})
    assert result.attempted > 0 and result.failed == 0
