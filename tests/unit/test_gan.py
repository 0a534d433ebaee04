"""The game loop, its objectives and what keeps a game from collapsing."""

import math

import pytest
import torch
from torch import nn

from lectool import gan, metrics, nets


def toy(seed=0):
    torch.manual_seed(seed)
    return nets.mlp([2, 16, 2]), nets.mlp([2, 16, 1])


def data(n=256):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(1)) * 0.3 + 1


def test_the_game_is_the_loop_written_by_hand():
    x = data()
    g, d = toy()
    rng = torch.Generator().manual_seed(5)
    gan.play(
        g, d, gan.NonSaturating(), x, n_steps=7, batch_size=8, k=2, latent=2, window=3, lr=(5e-3, 2e-3),
        schedule="linear", rng=rng,
    )  # fmt: skip
    g2, d2 = toy()
    rng = torch.Generator().manual_seed(5)
    opt_g = torch.optim.Adam(g2.parameters(), lr=5e-3, betas=(0.5, 0.999), fused=True)
    opt_d = torch.optim.Adam(d2.parameters(), lr=2e-3, betas=(0.5, 0.999), fused=True)
    ones, zeros = torch.ones(8, 1), torch.zeros(8, 1)
    bce = nn.functional.binary_cross_entropy_with_logits
    for i in range(7):
        if i % 3 == 0:  # batches are drawn a window at a time
            rows = torch.randint(len(x), (min(3, 7 - i), 2, 8), generator=rng)
        opt_g.param_groups[0]["lr"], opt_d.param_groups[0]["lr"] = (
            lr * (1 - i / 7) for lr in (5e-3, 2e-3)
        )
        for j in range(2):
            fake = g2(torch.randn(8, 2, generator=rng))
            loss = bce(d2(x[rows[i % 3, j]]), ones) + bce(d2(fake.detach()), zeros)
            opt_d.zero_grad()
            loss.backward()
            opt_d.step()
        opt_g.zero_grad()
        bce(d2(fake), ones).backward()
        opt_g.step()
    for a, b in zip([*g.parameters(), *d.parameters()], [*g2.parameters(), *d2.parameters()]):
        torch.testing.assert_close(a, b)


def test_hooks_are_called_after_and_in_each_critic_step():
    g, d = toy()
    calls = []

    def penalty(judge, real, fake):
        calls.append((tuple(judge(real).shape), fake.requires_grad))
        return 0 * judge(real).sum() + 2.0

    def constrain(module):
        calls.append(module is d)

    game = gan.play(
        g, d, gan.Wasserstein(), data(), n_steps=2, batch_size=4, k=3, latent=2, penalty=penalty, constrain=constrain
    )  # fmt: skip
    assert calls == [((4, 1), False), True] * 6
    assert game["penalty"] == pytest.approx([2.0])


def test_the_discriminator_stands_still_while_the_generator_moves():
    g, d = toy()
    frozen = []

    def look_ahead(judge, objective, real, fake):
        frozen.append([p.requires_grad for p in d.parameters()])
        return objective.generator_loss(judge(fake))

    gan.play(g, d, gan.Hinge(), data(), n_steps=2, latent=2, look_ahead=look_ahead)
    assert frozen == [[False] * 4] * 2 and all(p.requires_grad for p in d.parameters())


def test_snapshots_are_taken_where_asked():
    g, d = toy()
    game = gan.play(
        g, d, gan.Hinge(), data(), n_steps=5, latent=2, at=[0, 3, 5],
        callback=lambda step, g, d: (step, g.training),
    )  # fmt: skip
    assert game.snapshots == {0: (0, False), 3: (3, False), 5: (5, False)}


def test_a_game_that_explodes_stops_with_the_last_good_state():
    g, d = toy()
    calls = []

    def penalty(judge, real, fake):
        calls.append(0)
        return judge(real).sum() * (float("nan") if len(calls) > 4 else 0.0)

    game = gan.play(
        g, d, gan.NonSaturating(), data(), n_steps=9, latent=2, penalty=penalty, window=2, lr=0.1
    )
    assert game.n_steps == 4
    assert "not finite between steps 5 and 6" in game.stopped
    assert all(p.isfinite().all() for p in [*g.parameters(), *d.parameters()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(0, 2)}, "empty"),
        ({"x": torch.full((9, 2), float("nan"))}, "NaN"),
        ({"x": torch.rand(9, 3)}, "samples of shape"),
        ({"g": nn.Sequential(nn.Linear(2, 2), nn.Tanh())}, "2x − 1"),
        ({"g": nn.Sequential(nn.Linear(2, 2), nn.Tanh()), "x": 3 * torch.randn(9, 2)}, "tanh"),
        ({"g": nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), "x": torch.randn(9, 2)}, "sigmoid"),
        ({"d": nets.mlp([2, 8, 1], last=nn.Sigmoid)}, "expected logits"),
        ({"d": nn.Linear(3, 1)}, "does not take data"),
        ({"g": nn.Linear(3, 2)}, "does not take codes"),
        ({"k": 0}, "k, window"),
        ({"lr": 0.0}, "> 0"),
        ({"n_steps": -1}, "≥ 0"),
        ({"latent": None}, "latent"),
        ({"schedule": "up"}, "schedule"),
    ],
)
def test_bad_input_is_named_before_training(change, message):
    g, d = toy()
    settings = {"g": g, "d": d, "x": torch.rand(9, 2), "latent": 2} | change
    g, d, x = settings.pop("g"), settings.pop("d"), settings.pop("x")
    with pytest.raises(ValueError, match=message):
        gan.play(g, d, gan.Minimax(), x, **settings)


def test_a_sigmoid_in_forward_is_found_too():
    class Hidden(nn.Linear):
        def forward(self, v):
            return torch.sigmoid(super().forward(v))

    with pytest.raises(ValueError, match="logits"):
        gan.play(toy()[0], Hidden(2, 1), gan.Minimax(), torch.randn(9, 2), latent=2)


def test_conditions_reach_both_players():
    class Conditional(nn.Module):
        def __init__(self, n_in, n_out):
            super().__init__()
            self.net, self.seen = nn.Linear(n_in + 1, n_out), []

        def forward(self, v, c):
            self.seen.append(len(c))
            return self.net(torch.cat([v, c], 1))

    g, d = Conditional(2, 2), Conditional(2, 1)
    c = torch.rand(50, 1)
    gan.play(g, d, gan.Hinge(), [torch.cat([c, c], 1), c], n_steps=3, batch_size=4, latent=2)
    assert set(g.seen[1:]) == set(d.seen[-3:]) == {4}
    with pytest.raises(ValueError, match="conditions"):
        gan.play(g, d, gan.Hinge(), [torch.rand(9, 2), c], latent=2)


# --- objectives -----------------------------------------------------------------------------------------------------


def logits(n=50, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(n, 1, dtype=torch.float64, generator=rng) for _ in range(2)]


def test_minimax_is_minus_the_value_of_the_game():
    real, fake = logits()
    value = torch.sigmoid(real).log().mean() + (1 - torch.sigmoid(fake)).log().mean()
    torch.testing.assert_close(gan.Minimax().discriminator_loss(real, fake), -value)
    torch.testing.assert_close(
        gan.Minimax().generator_loss(fake), (1 - torch.sigmoid(fake)).log().mean()
    )
    torch.testing.assert_close(
        gan.NonSaturating().generator_loss(fake), -torch.sigmoid(fake).log().mean()
    )


@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 0.0), (0.3, 0.2)])
def test_smoothed_labels_are_targets_of_a_cross_entropy(alpha, beta):
    real, fake = logits()
    bce = nn.functional.binary_cross_entropy_with_logits
    expected = bce(real, torch.full_like(real, 1 - alpha)) + bce(fake, torch.full_like(fake, beta))
    torch.testing.assert_close(
        gan.NonSaturating(alpha, beta).discriminator_loss(real, fake), expected
    )


@pytest.mark.parametrize("objective", [gan.Minimax(), gan.NonSaturating()])
def test_slopes_of_the_generator_in_the_logit(objective):
    a = torch.linspace(-8, 8, 9, dtype=torch.float64, requires_grad=True)
    objective.generator_loss(a[:, None]).backward()
    D = torch.sigmoid(a.detach())
    expected = -D if type(objective) is gan.Minimax else -(1 - D)
    torch.testing.assert_close(9 * a.grad, expected)


def test_hinge_least_squares_and_wasserstein_by_hand():
    real, fake = torch.tensor([[2.0], [0.5]]), torch.tensor([[-3.0], [1.0]])
    assert gan.Hinge().discriminator_loss(real, fake).item() == pytest.approx(0.25 + 1.0)
    assert gan.Hinge().generator_loss(fake).item() == pytest.approx(1.0)
    assert gan.LeastSquares().discriminator_loss(real, fake).item() == pytest.approx(0.3125 + 2.5)
    assert gan.LeastSquares().generator_loss(fake).item() == pytest.approx(4.0)
    assert gan.Wasserstein().discriminator_loss(real, fake).item() == pytest.approx(-1 - 1.25)
    assert gan.Wasserstein().generator_loss(fake).item() == pytest.approx(1.0)


def gaussians():
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(x)
    log_q = torch.distributions.Normal(1.0, 1.3).log_prob(x)
    return x, log_p, log_q


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.2, 0.0), (0.1, 0.3)])
def test_no_discriminator_beats_the_optimal_one(alpha, beta):
    x, log_p, log_q = gaussians()
    D = gan.optimal_discriminator(log_p, log_q, alpha, beta).requires_grad_()
    p, q = log_p.exp(), log_q.exp()
    loss = -p * ((1 - alpha) * D.log() + alpha * (1 - D).log()) - q * (
        beta * D.log() + (1 - beta) * (1 - D).log()
    )
    inside = (x.abs() < 5).nonzero()[:, 0]  # further out D rounds to 0 or 1 in some of the cases
    (slope,) = torch.autograd.grad(loss[inside].sum(), D)
    assert slope.abs().max() < 1e-9
    torch.testing.assert_close(D.detach()[inside], (((1 - alpha) * p + beta * q) / (p + q))[inside])


def test_value_of_the_optimal_discriminator_is_the_divergence():
    x, log_p, log_q = gaussians()
    D = gan.optimal_discriminator(log_p, log_q)
    value = torch.trapezoid(log_p.exp() * D.log() + log_q.exp() * torch.log1p(-D), x)
    jsd = gan.jensen_shannon(log_p, log_q, x)
    assert value.item() == pytest.approx(2 * jsd - math.log(4), abs=1e-7)
    assert gan.jensen_shannon(log_p, log_p, x) == pytest.approx(0, abs=1e-12)
    apart = (
        torch.distributions.Normal(-8.0, 0.3).log_prob(x),
        torch.distributions.Normal(8.0, 0.3).log_prob(x),
    )
    assert gan.jensen_shannon(*apart, x) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("name", ["kl", "reverse kl", "pearson", "hellinger", "jensen-shannon"])
def test_f_divergences(name):
    objective = gan.FDivergence(name)
    x, log_p, log_q = gaussians()
    keep = x.abs() < 9  # p / q stays a finite number
    x, log_p, log_q = x[keep], log_p[keep], log_q[keep]
    p, q = log_p.exp(), log_q.exp()
    divergence = torch.trapezoid(q * objective.f((log_p - log_q).exp()), x)

    def bound(v):
        return torch.trapezoid(p * objective.g(v) - q * objective.conjugate(v), x)

    v = objective.optimum(log_p - log_q)
    assert bound(v).item() == pytest.approx(divergence.item(), abs=1e-4)
    for other in (v + 0.3 * torch.sin(x), 0.7 * v, v - 0.2):
        assert bound(other) < bound(v)
    u = torch.logspace(-4, 4, 200001, dtype=torch.float64)  # the conjugate is sup_u (u t − f(u))
    for value in (-1.5, 0.0, 0.4):
        t = objective.g(torch.tensor(value, dtype=torch.float64))
        assert (u * t - objective.f(u)).max().item() == pytest.approx(
            objective.conjugate(torch.tensor(value, dtype=torch.float64)).item(), abs=1e-3
        )
    real, fake = logits()
    torch.testing.assert_close(
        objective.discriminator_loss(real, fake),
        objective.conjugate(fake).mean() - objective.g(real).mean(),
    )
    torch.testing.assert_close(objective.generator_loss(fake), -objective.conjugate(fake).mean())


def test_known_f_divergences_of_gaussians():
    x, log_p, log_q = gaussians()
    ratio = (log_p - log_q)[x.abs() < 9].exp()
    q = log_q.exp()[x.abs() < 9]
    kl = torch.distributions.kl_divergence
    P, Q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(1.0, 1.3)
    for name, truth in {
        "kl": kl(P, Q),
        "reverse kl": kl(Q, P),
        "jensen-shannon": 2 * gan.jensen_shannon(log_p, log_q, x),
        "hellinger": 2 - 2 * math.sqrt(2 * 1.3 / (1 + 1.69)) * math.exp(-0.25 / (1 + 1.69)),
    }.items():
        found = torch.trapezoid(q * gan.FDivergence(name).f(ratio), x[x.abs() < 9])
        assert found.item() == pytest.approx(float(truth), abs=1e-4), name


def test_mmd_plays_for_the_distance_of_the_features():
    real, fake = torch.randn(20, 3), torch.randn(20, 3) + 1
    objective = gan.MMD("rbf", [1.0])
    expected = metrics.squared_mmd(real, fake, kernel="rbf", widths=[1.0])
    torch.testing.assert_close(objective.generator_loss(fake, real), expected)
    torch.testing.assert_close(objective.discriminator_loss(real, fake), -expected)
    pair = objective.generator_loss(torch.stack([fake, real], 1), torch.stack([real, fake], 1))
    torch.testing.assert_close(pair, 2 * expected)
    assert objective.generator_loss(fake, real * float("nan")).isnan()


def test_fisher_finds_the_closed_form():
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, 0.3, 0.6])
    real = torch.repeat_interleave(torch.arange(3), (10 * p).round().long())
    fake = torch.repeat_interleave(torch.arange(3), (10 * q).round().long())
    f = torch.zeros(3, 1, requires_grad=True)
    objective, opt = gan.Fisher(rho=0.1), torch.optim.SGD([f], lr=0.1)
    for _ in range(800):
        loss = objective.discriminator_loss(f[real], f[fake])
        opt.zero_grad()
        loss.backward()
        opt.step()
    ratio = (p - q) / ((p + q) / 2)
    distance = (((p + q) / 2) * ratio**2).sum().sqrt()
    torch.testing.assert_close(f.detach()[:, 0], ratio / distance, atol=2e-3, rtol=0)
    assert objective.lam.item() == pytest.approx(distance.item() / 2, abs=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gan.Minimax(1.0),
        lambda: gan.NonSaturating(0.0, -0.1),
        lambda: gan.FDivergence("l2"),
        lambda: gan.Fisher(0.0),
        lambda: gan.Unrolled(-1),
        lambda: gan.Unrolled(1, 0.0),
        lambda: gan.ring(0),
        lambda: gan.grid(3, 0.0),
        lambda: gan.sample_modes(0, gan.ring()),
        lambda: gan.modes_covered(torch.rand(5, 3), gan.ring()),
        lambda: gan.modes_covered(torch.rand(5, 2), gan.ring(), -1.0),
        lambda: gan.ensemble_mlp(0, [2, 2]),
        lambda: gan.ReferenceBatchNorm(3, 1),
        lambda: gan.WithReference(gan.ReferenceBatchNorm(3, 4), torch.rand(5, 3)),
    ],
)
def test_settings_out_of_range_are_named(make):
    with pytest.raises(ValueError, match=r"expected|expects|can be"):
        make()


# --- networks -------------------------------------------------------------------------------------------------------


def test_members_of_an_ensemble_play_games_of_their_own():
    x = torch.randn(64, 3, 2)

    def members(seed):
        torch.manual_seed(seed)
        g, d = gan.ensemble_mlp(3, [2, 8, 2]), gan.ensemble_mlp(3, [2, 8, 1])
        if seed == 1:  # another member 2, the others the same
            torch.manual_seed(0)
            h, e = gan.ensemble_mlp(3, [2, 8, 2]), gan.ensemble_mlp(3, [2, 8, 1])
            for mine, theirs in zip(
                [*g.parameters(), *d.parameters()], [*h.parameters(), *e.parameters()]
            ):
                mine.data[:2] = theirs.data[:2]
        torch.manual_seed(7)
        ahead = gan.Unrolled(2, 0.1)
        gan.play(g, d, gan.NonSaturating(), x, n_steps=5, batch_size=16, look_ahead=ahead, lr=1e-2)
        return [p.detach() for p in g.parameters()]

    for a, b in zip(members(0), members(1)):
        torch.testing.assert_close(a[:2], b[:2])
        assert not torch.allclose(a[2], b[2])


def test_an_ensemble_is_its_members():
    net = gan.ensemble_mlp(3, [4, 5, 2])
    x = torch.randn(7, 3, 4)
    for i in range(3):
        h = (x[:, i] @ net[0].W[i] + net[0].b[i]).relu()
        torch.testing.assert_close(net(x)[:, i], h @ net[2].W[i] + net[2].b[i])


def test_members_start_as_torchs_layers_do():
    torch.manual_seed(0)
    for p in gan.ensemble_mlp(3, [100, 400])[0].parameters():
        assert 0.099 < p.abs().max() <= 0.1  # 1 / √100
        assert p.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.03)


def test_minibatch_features_by_two_loops():
    layer, x = gan.MinibatchDiscrimination(3, n_out=2, n_kernel=4), torch.randn(5, 3)
    M = (x @ layer.T[0]).reshape(5, 2, 4)
    expected = torch.zeros(5, 2)
    for i in range(5):
        for j in range(5):
            if i != j:
                expected[i] += torch.exp(-(M[i] - M[j]).abs().sum(-1)) / 4
    torch.testing.assert_close(layer(x), torch.cat([x, expected], 1))
    crowd = layer(x[:1].expand(5, 3))[:, 3:]
    torch.testing.assert_close(crowd, torch.ones(5, 2))
    many = gan.MinibatchDiscrimination(3, 2, 4, n_members=2)
    both = many(torch.stack([x, x], 1))
    alone = gan.MinibatchDiscrimination(3, 2, 4)
    alone.T.data = many.T.data[1:]
    torch.testing.assert_close(both[:, 1], alone(x))


@pytest.mark.parametrize("shape", [(3,), (3, 4, 4)])
def test_reference_and_virtual_batch_norm_by_hand(shape):
    x = torch.randn(9, *shape)
    axes = (0,) if len(shape) == 1 else (0, 2, 3)
    reference = gan.ReferenceBatchNorm(3, 4)(x)
    virtual = gan.VirtualBatchNorm(3, 4)(x)

    def normal(v, by):
        std, mean = torch.var_mean(by, axes, correction=0, keepdim=True)
        return (v - mean) / (std + 1e-5).sqrt()

    torch.testing.assert_close(reference, normal(x, x[:4]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(virtual[:4], normal(x[:4], x[:4]), atol=1e-4, rtol=1e-4)
    scaled = gan.ReferenceBatchNorm(3, 4)
    with torch.no_grad():
        scaled.scale.copy_(torch.tensor([1.0, 2.0, 3.0]))
        scaled.shift.copy_(torch.tensor([0.0, 5.0, -1.0]))
    torch.testing.assert_close(scaled(x)[:, 1:2], 2 * reference[:, 1:2] + 5)
    torch.testing.assert_close(scaled(x)[:, 2:], 3 * reference[:, 2:] - 1)
    for i in range(4, 9):
        by = torch.cat([x[:4], x[i : i + 1]])
        torch.testing.assert_close(
            virtual[i : i + 1], normal(x[i : i + 1], by), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("norm", [gan.ReferenceBatchNorm, gan.VirtualBatchNorm])
def test_with_a_reference_no_sample_depends_on_its_neighbours(norm):
    net = gan.WithReference(gan.DCGenerator(8, 4, lambda c: norm(c, 6)), torch.randn(6, 8))
    z = torch.randn(5, 8)
    torch.testing.assert_close(net(z)[:2], net(z[:2]), atol=1e-5, rtol=1e-4)
    by_hand = net.net(torch.cat([net.reference, z]))[-5:]
    torch.testing.assert_close(net(z), by_hand)


def test_dcgan_shapes_and_ranges():
    torch.manual_seed(0)
    g, d = gan.DCGenerator(10, 4), gan.DCDiscriminator(4)
    fake = g(torch.randn(6, g.latent))
    assert fake.shape == (6, 1, 28, 28) and fake.abs().max() <= 1
    assert d(fake).shape == (6, 1)
    for part in [*g, *d]:
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            assert part.weight.std().item() == pytest.approx(0.02, rel=0.25)
            assert part.bias is None or not part.bias.any()
    last = [m for m in g if isinstance(m, nn.ConvTranspose2d)][-1]
    assert last.out_channels == 1 and isinstance(d[0], nn.Conv2d) and isinstance(d[1], nn.LeakyReLU)
    game = gan.play(
        g, d, gan.NonSaturating(), torch.rand(20, 1, 28, 28) * 2 - 1, n_steps=2, batch_size=4
    )
    assert game.n_steps == 2


# --- collapse -------------------------------------------------------------------------------------------------------


def test_modes_are_counted():
    centers = gan.ring(8)
    assert gan.modes_covered(centers.repeat(10, 1), centers) == (8, 1.0)
    assert gan.modes_covered(centers[:3].repeat(10, 1), centers) == (3, 1.0)
    half = torch.cat([centers[:1].repeat(50, 1), torch.full((50, 2), 9.0)])
    assert gan.modes_covered(half, centers) == (1, 0.5)
    straggler = torch.cat([centers[:1].repeat(999, 1), centers[1:2]])
    assert gan.modes_covered(straggler, centers)[0] == 1
    expected = torch.tensor([[3.0, 0.0], [0.0, 3.0], [-3.0, 0.0], [0.0, -3.0]])
    torch.testing.assert_close(gan.ring(4, 3.0), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(gan.ring().norm(dim=1), torch.full((8,), 2.0))
    assert gan.grid(5).shape == (25, 2) and gan.grid(5).mean(0).abs().max() < 1e-6
    assert gan.grid(3, 0.5).unique().tolist() == [-0.5, 0.0, 0.5]
    sample = gan.sample_modes(20000, gan.grid(3), 0.05, rng=torch.Generator().manual_seed(0))
    covered, inside = gan.modes_covered(sample, gan.grid(3), 0.05)
    assert covered == 9 and inside == pytest.approx(1 - math.exp(-4.5), abs=3e-3)
    assert gan.sample_modes(7, centers, n_members=3).shape == (7, 3, 2)


def test_unrolling_by_hand_on_a_game_of_two_numbers():
    # L_D = −(d x − d²/2 − d g): one imagined step moves d to d + η (x − g − d); L_G = −d' g
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.d = nn.Parameter(torch.tensor(0.3))

        def forward(self, v):
            return self.d * v - self.d**2 / 4

    class Duel:
        needs_real = False

        def discriminator_loss(self, real, fake):
            return -(real.sum() - fake.sum() - 0 * fake.sum())

        def generator_loss(self, fake, real=None):
            return -fake.sum()

    d, x = Scale(), torch.tensor([2.0])
    for eta, through in ((0.1, True), (0.1, False)):
        g = torch.tensor([0.5], requires_grad=True)
        loss = gan.Unrolled(1, eta, through=through)(d, Duel(), x, g)
        ahead = 0.3 + eta * (2.0 - 0.5)
        assert loss.item() == pytest.approx(-(ahead * 0.5 - ahead**2 / 4))
        (slope,) = torch.autograd.grad(loss, g)
        by_ahead = -(0.5 - ahead / 2) * -eta if through else 0.0
        assert slope.item() == pytest.approx(-ahead + by_ahead, abs=1e-6)
    assert d.d.item() == pytest.approx(0.3) and d.d.grad is None


def test_no_steps_ahead_is_the_ordinary_game():
    results = []
    for ahead in (None, gan.Unrolled(0)):
        g, d = toy()
        torch.manual_seed(3)
        gan.play(g, d, gan.NonSaturating(), data(), n_steps=4, latent=2, look_ahead=ahead)
        results.append(torch.cat([p.detach().flatten() for p in g.parameters()]))
    torch.testing.assert_close(*results)


def test_the_averaged_generator_is_the_running_mean_of_its_weights():
    (g, d), seen = toy(), []

    def watch(step, g, d):
        seen.append([p.detach().clone() for p in g.parameters()])

    gan.play(
        g, d, gan.NonSaturating(), data(), n_steps=6, latent=2, lr=1e-2, average=0.5, callback=watch, at=range(1, 7)
    )  # fmt: skip
    mean = seen[0]
    for weights in seen[1:]:
        mean = [0.5 * m + 0.5 * w for m, w in zip(mean, weights)]
    for p, m in zip(g.parameters(), mean):
        torch.testing.assert_close(p.detach(), m)
    seen.clear()

    def penalty(judge, real, fake):  # fails in step 5: what counts is the mean of the first four
        return judge(real).sum() * (float("nan") if len(seen) == 4 else 0.0)

    gan.play(
        g, d, gan.NonSaturating(), data(), n_steps=6, latent=2, lr=1e-2, average=0.5, callback=watch,
        at=range(1, 5), window=2, penalty=penalty,
    )  # fmt: skip
    mean = seen[0]
    for weights in seen[1:]:
        mean = [0.5 * m + 0.5 * w for m, w in zip(mean, weights)]
    for p, m in zip(g.parameters(), mean):
        torch.testing.assert_close(p.detach(), m)
    with pytest.raises(ValueError, match="average"):
        gan.play(g, d, gan.NonSaturating(), data(), latent=2, average=1.0)


@pytest.mark.parametrize(
    "make",
    [gan.Minimax, gan.NonSaturating, gan.Wasserstein, gan.Hinge, gan.LeastSquares, gan.Fisher]
    + [lambda: gan.FDivergence("kl"), gan.MMD],
)
def test_losses_of_games_side_by_side_add_up(make):
    real, fake = torch.randn(12, 3, 2), torch.randn(12, 3, 2) + 0.5
    both, alone = make(), [make() for _ in range(3)]
    torch.testing.assert_close(
        both.discriminator_loss(real, fake),
        sum(o.discriminator_loss(real[:, i], fake[:, i]) for i, o in enumerate(alone)),
    )
    torch.testing.assert_close(
        both.generator_loss(fake, real),
        sum(o.generator_loss(fake[:, i], real[:, i]) for i, o in enumerate(alone)),
    )
