"""The game loop, its objectives and what keeps a game from collapsing."""

import math

import pytest
import torch
from torch import nn

from lectool import data, gan, metrics, nets, random


def toy(seed=0):
    torch.manual_seed(seed)
    return nets.mlp([2, 16, 2]), nets.mlp([2, 16, 1])


TWO = ("k", "lr", "betas", "latent", "penalty", "constrain", "look_ahead", "optimizer")


def played(G, D, objective, x, **settings):
    """The game of two, played: settings go to where they belong."""
    two = {name: settings.pop(name) for name in TWO if name in settings}
    return gan.play(gan.two_player(G, D, objective, **two), x, **settings)


def points(n=256):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(1)) * 0.3 + 1


def test_the_game_is_the_loop_written_by_hand():
    x = points()
    g, d = toy()
    rng = torch.Generator().manual_seed(5)
    played(
        g,
        d,
        gan.NonSaturating(),
        x,
        n_steps=7,
        batch_size=8,
        k=2,
        latent=2,
        window=3,
        lr=(5e-3, 2e-3),
        schedule="linear",
        generator=rng,
    )
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

    game = played(
        g,
        d,
        gan.Wasserstein(),
        points(),
        n_steps=2,
        batch_size=4,
        k=3,
        latent=2,
        penalty=penalty,
        constrain=constrain,
    )
    assert calls == [((4, 1), False), True] * 6
    assert game["penalty"] == pytest.approx([2.0])


def test_the_discriminator_stands_still_while_the_generator_moves():
    G, D = toy()
    before, seen = [p.detach().clone() for p in D.parameters()], []

    def look_ahead(judge, objective, real, fake):
        seen.append([p.detach().clone() for p in D.parameters()])
        return objective.generator_loss(judge(fake))

    played(G, D, gan.Hinge(), points(), n_steps=1, latent=2, look_ahead=look_ahead)
    assert all(torch.equal(a, b) for a, b in zip(seen[0], D.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(before, D.parameters()))


def test_what_was_frozen_stays_as_it_is():
    G, D = toy()
    for net in (G, D):
        net[0].requires_grad_(False)
    before = [(p.detach().clone(), p.requires_grad) for net in (G, D) for p in net.parameters()]
    played(G, D, gan.Hinge(), points(), n_steps=3, latent=2, lr=0.1)
    after = [p for net in (G, D) for p in net.parameters()]
    for (old, trainable), p in zip(before, after, strict=True):
        assert p.requires_grad == trainable
        assert torch.equal(old, p) != trainable


def test_snapshots_are_taken_where_asked():
    G, D = toy()
    shots = gan.Snapshots([0, 3, 5], lambda step: (step, G.training))
    played(G, D, gan.Hinge(), points(), n_steps=5, latent=2, each=shots)
    assert shots.seen == {0: (0, False), 3: (3, False), 5: (5, False)}


def test_a_game_that_explodes_stops_with_the_last_good_state():
    g, d = toy()
    calls = []

    def penalty(judge, real, fake):
        calls.append(0)
        return judge(real).sum() * (float("nan") if len(calls) > 4 else 0.0)

    game = played(
        g, d, gan.NonSaturating(), points(), n_steps=9, latent=2, penalty=penalty, window=2, lr=0.1
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
        ({"k": 0}, "k is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"n_steps": -1}, "n_steps is -1"),
        ({"window": 0}, "window is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"latent": None}, "latent"),
        ({"schedule": "up"}, "schedule"),
    ],
)
def test_bad_input_is_named_before_training(change, message):
    g, d = toy()
    settings = {"g": g, "d": d, "x": torch.rand(9, 2), "latent": 2} | change
    g, d, x = settings.pop("g"), settings.pop("d"), settings.pop("x")
    with pytest.raises(ValueError, match=message):
        played(g, d, gan.Minimax(), x, **settings)


def test_a_sigmoid_in_forward_is_found_too():
    class Hidden(nn.Linear):
        def forward(self, v):
            return torch.sigmoid(super().forward(v))

    with pytest.raises(ValueError, match="logits"):
        played(toy()[0], Hidden(2, 1), gan.Minimax(), torch.randn(9, 2), latent=2)


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
    played(g, d, gan.Hinge(), [torch.cat([c, c], 1), c], n_steps=3, batch_size=4, latent=2)
    assert set(g.seen[1:]) == set(d.seen[-3:]) == {4}
    with pytest.raises(ValueError, match="x has 9, condition 1 has 50 rows"):
        played(g, d, gan.Hinge(), [torch.rand(9, 2), c], latent=2)


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


def test_mmds_witness_is_the_critic_of_its_discrepancy():
    features = nn.Linear(2, 3).double()
    x, y = torch.randn(40, 2).double(), torch.randn(30, 2).double() + 1
    for kernel in ("rbf", "imq"):
        game = gan.MMD(kernel, widths=(0.7, 2.0))
        f = game.witness(features, x, y)
        biased = metrics.squared_mmd(
            features(x), features(y), kernel=kernel, widths=(0.7, 2.0), unbiased=False
        )
        assert f(x).shape == (40,)
        torch.testing.assert_close(f(x).mean() - f(y).mean(), biased)


def test_mmd_plays_for_the_distance_of_the_features():
    real, fake = torch.randn(20, 3), torch.randn(20, 3) + 1
    objective = gan.MMD("rbf", [1.0])
    expected = metrics.squared_mmd(real, fake, kernel="rbf", widths=[1.0])
    torch.testing.assert_close(objective.generator_loss(fake, real), expected)
    torch.testing.assert_close(objective.discriminator_loss(real, fake), -expected)
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
        lambda: gan.modes_covered(torch.rand(5, 3), data.ring()),
        lambda: gan.modes_covered(torch.rand(5, 2), data.ring(), -1.0),
        lambda: gan.Several([]),
        lambda: gan.several([]),
        lambda: gan.MinibatchDiscrimination(0),
        lambda: gan.ReferenceBatchNorm(3, 1),
        lambda: gan.WithReference(gan.ReferenceBatchNorm(3, 4), torch.rand(5, 3)),
    ],
)
def test_settings_out_of_range_are_named(make):
    with pytest.raises(ValueError, match=r"expected|expects|can be"):
        make()


# --- networks -------------------------------------------------------------------------------------------------------


def starts(objective, seeds, discriminator=lambda: nets.mlp([2, 8, 1]), **settings):
    games = []
    for seed in seeds:
        torch.manual_seed(seed)
        G, D = nets.mlp([2, 8, 2]), discriminator()
        games.append(gan.two_player(G, D, objective(), latent=2, **{"lr": 1e-2} | settings))
    return games


def weights(game):
    return torch.cat([p.detach().flatten() for p in game.modules.parameters()])


KINDS = {
    "non-saturating": (gan.NonSaturating, {}),
    "wasserstein, clipped": (gan.Wasserstein, {"constrain": lambda D: gan.clip_weights(D, 0.1)}),
    "unrolled": (gan.NonSaturating, {"look_ahead": gan.Unrolled(2, 0.1)}),
    "fisher": (gan.Fisher, {"k": 2}),
    "mmd": (gan.MMD, {}),
    "f-divergence": (lambda: gan.FDivergence("kl"), {}),
    "spectral norm": (
        gan.Hinge,
        {"discriminator": lambda: gan.spectral_normalize(nets.mlp([2, 8, 1]))},
    ),
    "company": (
        gan.Hinge,
        {
            "discriminator": lambda: nn.Sequential(
                gan.MinibatchDiscrimination(2, 3), nn.Linear(5, 1)
            )
        },
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_several_games_are_each_the_game_alone(kind):
    """Same data and codes for all: a start among others ends where it ends alone."""
    objective, settings = KINDS[kind]
    # Adam would blow up what rounding leaves where a slope is 0.
    settings = settings | {"optimizer": torch.optim.SGD, "lr": 0.1}
    x, codes = points(64), iter(torch.randn(99, 16, 2, generator=random.generator(3)))

    def fixed(game, codes):
        made = game.make

        def make(real, generator=None):
            G = game.makers["generator"].net
            return {"real": real, "fake": G(next(codes)), "given": ()}

        game.make = make if made else made
        return game

    together, alone = starts(objective, [1, 2, 3], **settings), starts(objective, [2], **settings)
    fixed(together[0], codes)
    rows = torch.randint(64, (5, together[0].k, 16), generator=random.generator(4))
    joined = gan.several(together)
    joined.modules.train()
    for batch in rows:
        gan.step(joined, [[x[r][:, None].expand(-1, 3, -1)] for r in batch])
    codes = iter(torch.randn(99, 16, 2, generator=random.generator(3)))
    fixed(alone[0], codes).modules.train()
    for batch in rows:
        gan.step(alone[0], [[x[r]] for r in batch])
    torch.testing.assert_close(weights(together[1]), weights(alone[0]), atol=2e-5, rtol=1e-3)
    assert not torch.allclose(weights(together[0]), weights(together[1]), atol=1e-2)
    if kind == "fisher":
        lams = [game.others[0].lam.item() for game in [*together, *alone]]
        assert lams[1] == pytest.approx(lams[3], rel=1e-4) and lams[0] != lams[1]


def test_several_games_are_played_and_looked_at():
    games = starts(gan.Wasserstein, [1, 2], penalty=gan.gradient_penalty, k=2)
    before = [weights(game) for game in games]
    x = torch.stack([points(), -points()], 1)
    shots = gan.Snapshots([4], lambda step: weights(games[1]))
    record = gan.play(gan.several(games), x, n_steps=4, batch_size=8, each=shots)
    assert record.n_steps == 4 and set(record.terms) == {"discriminator", "penalty", "generator"}
    assert all(not torch.allclose(a, weights(game)) for a, game in zip(before, games))
    assert torch.equal(shots.seen[4], weights(games[1]))
    assert not any(net.training for game in games for net in game.modules)
    with pytest.raises(ValueError, match="samples of shape"):
        gan.play(gan.several(games), torch.rand(9, 2, 3))


def test_several_networks_keep_their_own_weights_and_buffers():
    nets_ = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)) for _ in range(3)]
    x = torch.randn(7, 3, 3)
    expected = [net(x[:, i]).detach() for i, net in enumerate(nets_)]
    means = [net[1].running_mean.clone() for net in nets_]
    both = gan.Several(nets_)
    for i in range(3):
        torch.testing.assert_close(both(x)[:, i], expected[i])
    with torch.no_grad():
        both.weights[0][1] += 1
    both.load_state_dict(both.state_dict())
    assert torch.equal(nets_[1][0].weight, both.weights[0][1])
    assert all(not torch.equal(net[1].running_mean, m) for net, m in zip(nets_, means))
    assert len(list(both.parameters())) == len(list(nets_[0].parameters()))
    assert not both.eval().training and not nets_[2].training


def test_any_number_of_players():
    """Two makers and two judges: each pair has a target of its own, and one loss is shared."""
    torch.manual_seed(0)
    G, F = (nn.Linear(1, 1) for _ in range(2))
    C, D = (nets.mlp([1, 16, 1]) for _ in range(2))
    seen = []

    def make(real, generator=None):
        z = random.noise((len(real), 1), real, generator)
        return {"real": real, "a": G(z), "b": F(z)}

    def judge(net, name, sign):
        return lambda made: gan.Hinge().discriminator_loss(
            net(sign * made["real"]), net(made[name])
        )

    def maker(net, name):
        return lambda made: -net(made[name]).mean()

    def step(game, batches, generator):
        seen.append(len(batches))
        return gan.step(game, batches, generator)

    game = gan.Game(
        makers={
            "G": gan.Player(G, maker(C, "a"), lr=2e-2),
            "F": gan.Player(F, maker(D, "b"), lr=2e-2),
        },
        judges={
            "C": gan.Player(C, judge(C, "a", 1), lr=2e-2),
            "D": gan.Player(D, judge(D, "b", -1), lr=2e-2),
        },
        make=make,
        k=2,
    )
    x = 3 + 0.5 * torch.randn(500, 1)
    record = gan.play(game, x, n_steps=150, step=step, schedule="linear")
    assert seen == [2] * 150 and set(record.terms) == {"G", "F", "C", "D"}
    assert G.bias.item() == pytest.approx(3, abs=0.6) and F.bias.item() == pytest.approx(
        -3, abs=0.6
    )


def test_makers_move_at_once_and_only_by_their_own_loss():
    a, b = (nn.Linear(1, 1, bias=False) for _ in range(2))
    nn.init.ones_(a.weight), nn.init.constant_(b.weight, 2.0)
    sgd = {"optimizer": torch.optim.SGD, "lr": 0.1}
    game = gan.Game(
        makers={
            "a": gan.Player(a, lambda made: made["ab"].mean(), **sgd),
            "b": gan.Player(b, lambda made: -made["ab"].mean(), **sgd),
        },
        judges={},
        make=lambda real, generator=None: {"ab": a(real) * b(real)},
    )
    terms = gan.step(game, [[torch.ones(4, 1)]])
    assert a.weight.item() == pytest.approx(1 - 0.1 * 2) and b.weight.item() == pytest.approx(
        2 + 0.1 * 1
    )
    assert terms["a"].item() == pytest.approx(2) and terms["b"].item() == pytest.approx(-2)


def test_the_mean_of_weights_is_a_hook_of_three_lines():
    G, D = toy()
    mean = torch.optim.swa_utils.AveragedModel(G, avg_fn=torch.optim.swa_utils.get_ema_avg_fn(0.5))
    seen = []

    def each(n, game):
        if n:
            mean.update_parameters(G)
            seen.append(G[0].weight.detach().clone())

    played(G, D, gan.NonSaturating(), points(), n_steps=3, latent=2, lr=1e-2, each=each)
    expected = 0.5 * (0.5 * seen[0] + 0.5 * seen[1]) + 0.5 * seen[2]
    torch.testing.assert_close(mean.module[0].weight.detach(), expected)


def test_a_mean_of_weights_keeps_spectral_norms():
    """Its vectors are those of the last step, of length 1, not means of vectors; settled, each layer has norm 1."""
    torch.manual_seed(0)
    G, D = gan.spectral_normalize(nets.mlp([2, 32, 32, 2])), nets.mlp([2, 32, 1])
    mean = torch.optim.swa_utils.AveragedModel(G, avg_fn=torch.optim.swa_utils.get_ema_avg_fn(0.95))

    def each(n, game):
        if n:
            mean.update_parameters(G)

    played(G, D, gan.NonSaturating(), points(), n_steps=60, latent=2, lr=3e-2, each=each)
    vectors = [b for name, b in mean.module.named_buffers() if name.endswith((".u", ".v"))]
    assert len(vectors) == 6
    for vector in vectors:
        assert vector.norm().item() == pytest.approx(1, abs=1e-4)
    gan.settle(mean.module).eval()
    layers = [layer for layer in mean.module.modules() if isinstance(layer, torch.nn.Linear)]
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=1e-3)


def test_minibatch_features_by_two_loops():
    layer, x = gan.MinibatchDiscrimination(3, n_out=2, n_kernel=4), torch.randn(5, 3)
    M = (x @ layer.T.reshape(3, 8)).reshape(5, 2, 4)
    expected = torch.zeros(5, 2)
    for i in range(5):
        for j in range(5):
            if i != j:
                expected[i] += torch.exp(-(M[i] - M[j]).abs().sum(-1)) / 4
    torch.testing.assert_close(layer(x), torch.cat([x, expected], 1))
    crowd = layer(x[:1].expand(5, 3))[:, 3:]
    torch.testing.assert_close(crowd, torch.ones(5, 2))


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
def test_with_a_reference_no_sample_depends_on_its_neighbors(norm):
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
    game = played(
        g, d, gan.NonSaturating(), torch.rand(20, 1, 28, 28) * 2 - 1, n_steps=2, batch_size=4
    )
    assert game.n_steps == 2


# --- collapse -------------------------------------------------------------------------------------------------------


def test_modes_are_counted():
    centers = data.ring(8)
    assert gan.modes_covered(centers.repeat(10, 1), centers) == (8, 1.0)
    assert gan.modes_covered(centers[:3].repeat(10, 1), centers) == (3, 1.0)
    half = torch.cat([centers[:1].repeat(50, 1), torch.full((50, 2), 9.0)])
    assert gan.modes_covered(half, centers) == (1, 0.5)
    straggler = torch.cat([centers[:1].repeat(999, 1), centers[1:2]])
    assert gan.modes_covered(straggler, centers)[0] == 1
    expected = torch.tensor([[3.0, 0.0], [0.0, 3.0], [-3.0, 0.0], [0.0, -3.0]])
    torch.testing.assert_close(data.ring(4, 3.0), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(data.ring().norm(dim=1), torch.full((8,), 2.0))
    assert data.grid(5).shape == (25, 2) and data.grid(5).mean(0).abs().max() < 1e-6
    assert data.grid(3, 0.5).unique().tolist() == [-0.5, 0.0, 0.5]
    sample = data.sample_modes(
        20000, data.grid(3), 0.05, generator=torch.Generator().manual_seed(0)
    )
    covered, inside = gan.modes_covered(sample, data.grid(3), 0.05)
    assert covered == 9 and inside == pytest.approx(1 - math.exp(-4.5), abs=3e-3)


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
        played(g, d, gan.NonSaturating(), points(), n_steps=4, latent=2, look_ahead=ahead)
        results.append(torch.cat([p.detach().flatten() for p in g.parameters()]))
    torch.testing.assert_close(*results)
