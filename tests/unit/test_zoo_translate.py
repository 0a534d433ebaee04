"""Translation between two domains without pairs, and twins drawn from one code."""

import copy

import pytest
import torch
from torch import nn

from lectool import gan, nets
from lectool.zoo import translate as zoo

F64 = torch.float64


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=rng(seed))


class Scale(nn.Module):
    """x ↦ w x + v, elementwise."""

    def __init__(self, w, v=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(float(w), dtype=F64))
        self.v = nn.Parameter(torch.tensor(float(v), dtype=F64))

    def forward(self, x):
        return self.w * x + self.v


def four():
    return Scale(2.0, 0.5), Scale(0.3, -1.0), Scale(1.5, 0.2), Scale(-0.7, 0.1)


# ---------------------------------------------------------------------------------------------- CycleGAN


def test_there_and_back_is_written_out():
    (G, H, *_), a, b = four(), draws(5, 3), draws(7, 3, seed=1)
    made = zoo.there_and_back(G, H, a, b)
    assert set(made) == {"a", "b", "fake_a", "fake_b", "back_a", "back_b"}
    torch.testing.assert_close(made["fake_b"], 2 * a + 0.5)
    torch.testing.assert_close(made["fake_a"], 0.3 * b - 1)
    torch.testing.assert_close(made["back_a"], 0.3 * (2 * a + 0.5) - 1)
    torch.testing.assert_close(made["back_b"], 2 * (0.3 * b - 1) + 0.5)
    error = (0.6 * a - 0.85 - a).abs().mean() + (0.6 * b - 1.5 - b).abs().mean()
    torch.testing.assert_close(zoo.cycle_error(made), error)


def test_noise_meets_only_what_is_translated_back():
    (G, H, *_), a, b = four(), torch.zeros(20000, 1, dtype=F64), torch.ones(20000, 1, dtype=F64)
    made = zoo.there_and_back(G, H, a, b, 0.5, rng())
    again = zoo.there_and_back(G, H, a, b, 0.5, rng())
    assert made["fake_b"].std() < 1e-12 and made["fake_a"].std() < 1e-12
    assert made["back_a"].std().item() == pytest.approx(0.3 * 0.5, rel=0.03)
    assert made["back_b"].std().item() == pytest.approx(2.0 * 0.5, rel=0.03)
    torch.testing.assert_close(made["back_a"], again["back_a"], rtol=0, atol=0)
    both = torch.cat([made["back_a"], made["back_b"]], 1).T
    assert abs(torch.corrcoef(both)[0, 1]) < 0.03  # noise of its own on each way


@pytest.mark.parametrize("objective", [None, gan.Hinge(), gan.NonSaturating()])
def test_losses_and_moves_are_those_of_the_paper(objective):
    """One step of the game, against autograd on the losses written out, for all four players."""
    (G, H, D_A, D_B), a, b, lam, mu, lr = (
        four(),
        draws(6, 2),
        1 + draws(6, 2, seed=1),
        7.0,
        3.0,
        0.01,
    )
    players = dict(zip(("G_AB", "G_BA", "D_A", "D_B"), (G, H, D_A, D_B)))
    before = copy.deepcopy(players)
    game = zoo.cyclegan(G, H, D_A, D_B, objective, lam=lam, identity=mu, lr=lr)
    assert list(game.makers) == ["G_AB", "G_BA"] and list(game.judges) == ["D_A", "D_B"]
    terms = gan.step(game, [[a, b]])

    how = objective or gan.LeastSquares()
    g, h, d_a, d_b = before.values()
    judged = {
        "D_A": how.discriminator_loss(d_a(a), d_a(h(b).detach())),
        "D_B": how.discriminator_loss(d_b(b), d_b(g(a).detach())),
    }
    cycle = lam * ((h(g(a)) - a).abs().mean() + (g(h(b)) - b).abs().mean())
    # The makers answer discriminators that have moved.
    wanted = {
        "G_AB": how.generator_loss(D_B(g(a))) + cycle + mu * (g(b) - b).abs().mean(),
        "G_BA": how.generator_loss(D_A(h(b))) + cycle + mu * (h(a) - a).abs().mean(),
    }
    torch.testing.assert_close(terms["cycle"], cycle)
    torch.testing.assert_close(
        terms["G to b"] + terms["cycle"] + terms["identity b"], wanted["G_AB"]
    )
    torch.testing.assert_close(
        terms["G to a"] + terms["cycle"] + terms["identity a"], wanted["G_BA"]
    )
    for name, loss in (judged | wanted).items():
        if name in judged:
            torch.testing.assert_close(terms[name], loss)
        slopes = torch.autograd.grad(loss, list(before[name].parameters()), retain_graph=True)
        for old, new, slope in zip(before[name].parameters(), players[name].parameters(), slopes):
            # Adam's first step is lr against the sign of the slope.
            moved = old.detach() - lr * slope.sign()
            torch.testing.assert_close(new.detach(), moved, rtol=0, atol=1e-6)


def test_step_sizes_go_to_their_sides_and_without_a_cycle_nobody_translates_back():
    game = zoo.cyclegan(*four(), lam=0.0, lr=(0.5, 0.25), betas=(0.1, 0.2), k=3)
    rates = [
        p.optimizer.param_groups[0]["lr"] for p in (*game.makers.values(), *game.judges.values())
    ]
    assert rates == [0.5, 0.5, 0.25, 0.25] and game.k == 3
    assert game.makers["G_AB"].optimizer.param_groups[0]["betas"] == (0.1, 0.2)
    made = game.make(draws(4, 2), draws(4, 2, seed=1))
    assert set(made) == {"a", "b", "fake_a", "fake_b"}
    terms = game.makers["G_AB"].loss(made)
    assert set(terms) == {"G to b"}


def test_an_objective_that_looks_at_real_data_gets_those_of_the_target():
    (G, H, D_A, D_B), a, b = four(), draws(8, 2), 2 + draws(8, 2, seed=1)
    game = zoo.cyclegan(G, H, D_A, D_B, gan.MMD(), lam=0.0)
    terms = game.makers["G_BA"].loss(game.make(a, b))
    torch.testing.assert_close(terms["G to a"], gan.MMD().discrepancy(D_A(a), D_A(H(b))))


def test_the_cycle_alone_makes_inverses():
    """With discriminators that have no opinion, only the cycle pulls: w_AB w_BA = 1 at the end."""
    torch.manual_seed(0)
    G, H = Scale(1.7, 0.4), Scale(1.1, -0.6)
    game = zoo.cyclegan(G, H, Scale(0.0), Scale(0.0), lam=1.0, lr=0.02)
    for _ in range(400):
        gan.move(game.makers, game.make(draws(64, 1), draws(64, 1, seed=1)))
    assert (G.w * H.w).item() == pytest.approx(1, abs=0.1)
    assert (G.w * H.v + G.v).item() == pytest.approx(0, abs=0.1)


def test_the_whole_game_finds_a_map_between_two_bells():
    """N(0, 1) and N(1, 0.5²): G_AB must be 1 ± 0.5 a, and G_BA its inverse."""
    torch.manual_seed(0)
    a, b = torch.randn(2000, 1), 1 + 0.5 * torch.randn(2000, 1)
    G, H = nn.Linear(1, 1), nn.Linear(1, 1)
    D_A, D_B = (nets.mlp([1, 24, 1], nn.LeakyReLU) for _ in range(2))
    game = zoo.cyclegan(G, H, D_A, D_B, gan.NonSaturating(), lam=0.1, lr=(1e-2, 2e-2))
    gan.play(game, [a, b], n_steps=400, batch_size=64, schedule="linear")
    with torch.no_grad():
        assert G(a).mean().item() == pytest.approx(1, abs=0.2)
        assert G(a).std().item() == pytest.approx(0.5, abs=0.2)
        assert (H(G(a)) - a).abs().mean() < 0.15


def test_several_games_are_played_side_by_side():
    torch.manual_seed(0)

    def start():
        return [nets.mlp([2, 4, k]).double() for k in (2, 2, 1, 1)]

    starts = [start(), start()]
    alone = copy.deepcopy(starts)
    a, b = draws(16, 2, 2), 1 + draws(16, 2, 2, seed=1)
    gan.step(gan.several([zoo.cyclegan(*s, identity=1.0, lr=1e-2) for s in starts]), [[a, b]])
    for i, s in enumerate(alone):
        gan.step(zoo.cyclegan(*s, identity=1.0, lr=1e-2), [[a[:, i], b[:, i]]])
        for one, other in zip(s, starts[i]):
            for p, q in zip(one.parameters(), other.parameters()):
                torch.testing.assert_close(p, q, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"lam": -1.0}, "lam"), ({"identity": -1}, "identity"), ({"sd": -0.1}, "sd")],
)
def test_settings_out_of_range_are_refused(settings, word):
    with pytest.raises(ValueError, match=word):
        zoo.cyclegan(*four(), **settings)


def test_a_translator_into_the_wrong_shape_is_refused_before_the_game():
    G, H = nn.Linear(2, 3), nn.Linear(3, 2)
    D_A, D_B = nn.Linear(2, 1), nn.Linear(3, 1)
    a, b = torch.zeros(8, 2), torch.zeros(8, 3)
    gan.play(zoo.cyclegan(G, H, D_A, D_B), [a, b], n_steps=1)
    with pytest.raises(ValueError, match="G_BA makes samples"):
        gan.play(zoo.cyclegan(G, nn.Linear(3, 4), D_A, D_B), [a, b], n_steps=1)
    with pytest.raises(ValueError, match="one shape"):
        gan.play(zoo.cyclegan(G, H, D_A, D_B, identity=1.0), [a, b], n_steps=1)
    with pytest.raises(ValueError, match="rows"):
        gan.play(zoo.cyclegan(G, H, D_A, D_B), [a, b[:5]], n_steps=1)


# --------------------------------------------------------------------------------------- the box of fakes


def test_a_box_of_size_0_passes_everything():
    x = draws(5, 2)
    assert zoo.ImagePool(0)(x) is x
    with pytest.raises(ValueError, match="size"):
        zoo.ImagePool(-1)


def test_nothing_is_lost_or_doubled_in_the_box():
    """At each call, what went in and what was in the box is what came out and what is in the box."""
    box = zoo.ImagePool(10, rng())
    held = []
    swapped = 0
    for step in range(200):
        fresh = [float(step), step + 0.5, step + 0.75]
        out = box(torch.tensor(fresh)[:, None]).flatten().tolist()
        now = box.box.flatten().tolist()
        if step < 3:
            assert out == fresh and now == held + fresh
        elif step > 3 and len(set(now)) == 10:
            # Two of one call may take the same place: then the earlier holder passes twice.
            assert set(out) <= set(fresh) | set(held) and set(now) <= set(fresh) | set(held)
        swapped += sum(v not in fresh for v in out)
        held = now
        assert len(now) == min(3 * (step + 1), 10)
    assert swapped / 590 == pytest.approx(0.5, abs=0.07)
    assert min(held) > 150  # whoever is drawn leaves for good


def test_earlier_fakes_come_without_gradients_and_fresh_ones_with_theirs():
    box = zoo.ImagePool(4, rng())
    box(torch.zeros(4, 1, dtype=F64))
    x = torch.ones(64, 1, dtype=F64, requires_grad=True)
    out = box(x)
    assert out.dtype == F64 and not box.box.requires_grad
    (slope,) = torch.autograd.grad(out.sum(), x)
    kept = slope.flatten() == 1
    assert 15 < kept.sum() < 50 and (slope.flatten()[~kept] == 0).all()
    assert (out.flatten()[kept] == 1).all()


def test_discriminators_see_earlier_fakes_from_a_pool():
    """With every fake so far in the box, the pooled discriminator meets fakes that the game no longer makes."""
    torch.manual_seed(0)
    game = zoo.cyclegan(*four(), pool=50)
    loss = game.judges["D_B"].loss
    x = {"a": torch.zeros(50, 1, dtype=F64), "b": torch.zeros(50, 1, dtype=F64)}
    loss(x | {"fake_b": torch.zeros(50, 1, dtype=F64)})
    later = loss(x | {"fake_b": torch.full((50, 1), 9.0, dtype=F64)})
    fresh = zoo.cyclegan(*four()).judges["D_B"].loss
    ends = [fresh(x | {"fake_b": torch.full((50, 1), v, dtype=F64)}) for v in (0.0, 9.0)]
    share = (later - ends[0]) / (ends[1] - ends[0])
    assert 0.25 < share < 0.75


# ------------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize(("wide", "reach"), [(False, 10), (True, 14)])
def test_a_translators_pixel_sees_what_its_docstring_says(wide, reach):
    torch.manual_seed(0)
    net = zoo.Translator(1, 3, width=8, wide=wide).double().eval()
    x = torch.randn(1, 1, 14, 14, dtype=F64, requires_grad=True)
    y = net(x)
    assert y.shape == (1, 3, 14, 14) and y.dtype == F64 and y.abs().max() <= 1
    seen = torch.zeros(14, 14, dtype=torch.bool)
    for _ in range(20):  # other weights, so that a ReLU that is off hides nothing
        net = zoo.Translator(1, 3, width=8, wide=wide).double().eval()
        (slope,) = torch.autograd.grad(net(x)[0, :, 7, 7].sum(), x)
        seen |= slope[0, 0] != 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    assert rows.max() - rows.min() + 1 == reach and columns.max() - columns.min() + 1 == reach


def test_a_small_discriminator_scores():
    assert zoo.SmallDiscriminator(3, 4)(torch.zeros(5, 3, 14, 14)).shape == (5, 1)


# ------------------------------------------------------------------------------------------- coupled GAN


def team(seed=0):
    torch.manual_seed(seed)
    G = zoo.CoupledGenerator(nets.mlp([3, 5]), [nn.Linear(5, 2), nn.Linear(5, 4)], 3).double()
    D = zoo.CoupledDiscriminator([nn.Linear(2, 6), nn.Linear(4, 6)], nn.Linear(6, 1)).double()
    return G, D


def test_twins_come_from_one_code_through_one_trunk():
    G, D = team()
    z = draws(7, 3)
    x1, x2 = G(z)
    torch.testing.assert_close(x1, G.heads[0](G.trunk(z)))
    torch.testing.assert_close(x2, G.heads[1](G.trunk(z)))
    s1, s2 = D((x1, x2))
    torch.testing.assert_close(s1, D.trunk(D.heads[0](x1)))
    torch.testing.assert_close(s2, D.trunk(D.heads[1](x2)))
    with pytest.raises(ValueError):
        D((x1,))


@pytest.mark.parametrize("objective", [None, gan.Hinge(), gan.MMD()])
def test_the_losses_of_the_teams_are_sums(objective):
    G, D = team()
    how = objective or gan.NonSaturating()
    game = zoo.coupled(G, D, objective, lr=(0.5, 0.25), k=2)
    real = draws(6, 2, seed=1), draws(6, 4, seed=2)
    made = game.make(*real, generator=rng(3))
    x1, x2 = G(draws(6, 3, seed=3))
    torch.testing.assert_close(made["fake"], (x1, x2))
    first = [D.trunk(D.heads[0](v)) for v in (real[0], x1)]
    second = [D.trunk(D.heads[1](v)) for v in (real[1], x2)]
    judged = how.discriminator_loss(*first) + how.discriminator_loss(*second)
    made_by = how.generator_loss(*first[::-1]) + how.generator_loss(*second[::-1])
    torch.testing.assert_close(game.judges["discriminators"].loss(made), judged)
    torch.testing.assert_close(game.makers["generators"].loss(made), made_by)
    rates = [
        p.optimizer.param_groups[0]["lr"] for p in (*game.makers.values(), *game.judges.values())
    ]
    assert rates == [0.5, 0.25] and game.k == 2


def test_a_step_moves_shared_and_own_layers_of_both_teams():
    G, D = team()
    before = copy.deepcopy([G, D])
    gan.play(zoo.coupled(G, D, lr=1e-2), [draws(9, 2), draws(9, 4)], n_steps=1, batch_size=4)
    for old, new in zip(before, (G, D)):
        for (name, p), q in zip(old.named_parameters(), new.parameters()):
            assert not torch.equal(p, q), name


def test_shared_layers_tie_two_lines():
    """Domain 2 is domain 1 doubled. One shared unit, then a factor each: x2 = 2 x1 up to the sign of a bell."""
    torch.manual_seed(0)
    x = 1 + 0.5 * torch.randn(4000, 1)
    y = 2 * (1 + 0.5 * torch.randn(4000, 1))
    G = zoo.CoupledGenerator(nn.Linear(1, 1), [nn.Linear(1, 1, bias=False) for _ in range(2)], 1)
    D = zoo.CoupledDiscriminator(
        [nn.Linear(1, 24), nn.Linear(1, 24)], nn.Sequential(nn.LeakyReLU(), nn.Linear(24, 1))
    )
    gan.play(zoo.coupled(G, D, lr=2e-2), [x, y], n_steps=500, schedule="linear")
    with torch.no_grad():
        x1, x2 = G(torch.randn(500, 1))
    assert x1.mean().item() == pytest.approx(1, abs=0.25)
    assert (x2 / x1).median().item() == pytest.approx(2, abs=0.3)


def test_teams_of_different_size_are_refused():
    G, _ = team()
    alone = zoo.CoupledDiscriminator([nn.Linear(2, 6)], nn.Linear(6, 1))
    with pytest.raises(ValueError, match="generators has 2, discriminators has 1"):
        zoo.coupled(G, alone)
    with pytest.raises(ValueError, match="n_heads"):
        zoo.CoupledGenerator(nn.Identity(), [], 3)
