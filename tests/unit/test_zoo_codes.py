"""InfoGAN: the codes, the bound of mutual information, and the game."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn.functional import cross_entropy, softplus

from lectool import gan, nets
from lectool.zoo.codes import (
    CodeDiscriminator,
    Codes,
    guide,
    infogan,
    matched,
    mutual_information,
    variational_bound,
)


def table(seed=0, shape=(4, 6)):
    rng = torch.Generator().manual_seed(seed)
    joint = torch.rand(shape, dtype=torch.float64, generator=rng) ** 3
    return joint / joint.sum()


# ---------------------------------------------------------------------------------------------- codes


def test_codes_are_drawn_as_they_say():
    codes = Codes(4, 2)
    rng = torch.Generator().manual_seed(0)
    c = codes.draw(8000, like=torch.zeros(1, dtype=torch.float64), generator=rng)
    assert (codes.width, codes.n_outputs, c.shape, c.dtype) == (6, 8, (8000, 6), torch.float64)
    assert torch.equal(c[:, :4].sum(1), torch.ones(8000).double())
    assert c[:, :4].mean(0) == pytest.approx(torch.full((4,), 0.25).double(), abs=0.02)
    numbers = c[:, 4:]
    assert -1 <= numbers.min() < -0.99
    assert 0.99 < numbers.max() <= 1
    assert numbers.mean().item() == pytest.approx(0, abs=0.02)
    assert numbers.var().item() == pytest.approx(1 / 3, abs=0.02)
    again = codes.draw(8000, like=c, generator=torch.Generator().manual_seed(0))
    assert torch.equal(c, again)


def test_codes_joined():
    codes = Codes(3, 2)
    assert codes.join(torch.tensor([2, 0])).tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]]
    numbers = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    assert codes.join(torch.tensor([1]), numbers).tolist() == [[0, 1, 0, 0.5, -1]]
    assert codes.join(torch.tensor([1]), numbers).dtype == torch.float64


def test_the_likelihood_is_torchs():
    codes = Codes(3, 2, least_sd=0.2)
    torch.manual_seed(0)
    outputs, c = torch.randn(7, 7, dtype=torch.float64), codes.draw(7, like=torch.zeros(1).double())
    of_class, of_numbers = codes.log_likelihood(outputs, c)
    k = c[:, :3].argmax(1)
    assert torch.allclose(of_class, outputs[:, :3].log_softmax(1)[torch.arange(7), k])
    gauss = Normal(outputs[:, 3:5], 0.2 + softplus(outputs[:, 5:]))
    assert torch.allclose(of_numbers, gauss.log_prob(c[:, 3:]).sum(1))
    bounds = codes.bounds(outputs, c)
    assert bounds[0] == pytest.approx(of_class.mean().item() + math.log(3))
    assert bounds[1] == pytest.approx(of_numbers.mean().item() + 2 * math.log(2))
    assert codes.entropy == pytest.approx(math.log(3) + 2 * math.log(2))
    with pytest.raises(ValueError, match="outputs has shape"):
        codes.log_likelihood(outputs[:, :5], c)
    with pytest.raises(ValueError, match="c has shape"):
        codes.log_likelihood(outputs, c[:, :4])


def test_who_knows_nothing_is_told_nothing_and_who_knows_all_everything():
    codes = Codes(5, 0)
    c = codes.draw(200)
    assert codes.bounds(torch.zeros(200, 5), c)[0].item() == pytest.approx(0, abs=1e-6)
    assert codes.bounds(100 * c, c)[0].item() == pytest.approx(math.log(5), abs=1e-6)
    assert codes.bounds(100 * c, c)[1].item() == 0


def test_no_number_is_told_more_exactly_than_allowed():
    codes = Codes(2, 1, least_sd=0.1)
    c = codes.draw(500)
    outputs = torch.cat([c, torch.full((500, 1), -50.0)], 1)  # Q knows the number, and claims to
    best = math.log(2) - math.log(0.1) - 0.5 * math.log(2 * math.pi)
    assert codes.bounds(outputs, c)[1].item() == pytest.approx(best, abs=1e-4)


# ------------------------------------------------------------------------------------------ information


def test_information_is_that_of_the_definition():
    joint = table()
    by_hand = sum(
        joint[c, x] * math.log(joint[c, x] / (joint[c].sum() * joint[:, x].sum()))
        for c, x in itertools.product(range(4), range(6))
    )
    assert mutual_information(joint).item() == pytest.approx(by_hand.item())
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    assert mutual_information(apart).item() == pytest.approx(0, abs=1e-12)
    assert mutual_information(torch.eye(5).double() / 5).item() == pytest.approx(math.log(5))


def test_the_bound_misses_the_information_by_the_kl():
    joint = table(1)
    posterior = joint / joint.sum(0)
    log_Q = torch.randn(4, 6, dtype=torch.float64).log_softmax(0)
    kl = (joint.sum(0) * (posterior * (posterior.log() - log_Q)).sum(0)).sum()
    bound = variational_bound(joint, log_Q)
    assert (bound + kl).item() == pytest.approx(mutual_information(joint).item())
    assert variational_bound(joint, posterior.log()).item() == pytest.approx(
        mutual_information(joint).item()
    )


def test_the_bound_of_draws_is_the_bound_of_the_table():
    """The same number from ``Codes.bounds`` on samples of a discrete game: c to one of six pictures."""
    codes = Codes(4, 0)
    p = table(2)
    p = p / p.sum(1, keepdim=True) / 4  # codes equally likely
    logits = torch.randn(6, 4, dtype=torch.float64)
    c, x = (t.flatten() for t in torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij"))
    of_class, _ = codes.log_likelihood(logits[x], codes.join(c, torch.zeros(24, 0).double()))
    sampled = (p.flatten() * of_class).sum() + codes.entropy
    assert sampled.item() == pytest.approx(variational_bound(p, logits.log_softmax(1).T).item())


# ---------------------------------------------------------------------------------------------- the game


def small_game(lam=(2.0, 0.5), objective=None, **settings):
    torch.manual_seed(0)
    codes = Codes(3, 1)
    G = nets.mlp([2 + codes.width, 8, 2]).double()
    D = CodeDiscriminator(nets.mlp([2, 8]), 8, codes).double()
    settings = {"latent": 2 + codes.width, "lr": 1e-3} | settings
    return codes, G, D, infogan(G, D, objective or gan.NonSaturating(), codes, lam=lam, **settings)


def test_the_losses_of_the_game_by_hand():
    codes, G, D, game = small_game()
    x = torch.randn(9, 2, dtype=torch.float64)
    made = game.make(x, generator=torch.Generator().manual_seed(4))
    rng = torch.Generator().manual_seed(4)
    z = gan.draw_latent(9, 2, like=x, generator=rng)
    c = codes.draw(9, like=x, generator=rng)
    assert torch.equal(made["c"], c)
    assert torch.equal(made["fake"], G(torch.cat([z, c], 1)))
    told = codes.bounds(D.Q(D.body(made["fake"])), c)
    terms = game.judges["discriminator"].loss(made)
    expected = gan.NonSaturating().discriminator_loss(D(x), D(made["fake"]))
    assert torch.allclose(terms["discriminator"], expected)
    assert torch.allclose(terms["not told"], -told[0] - told[1])
    terms = game.makers["generator"].loss(made)
    assert torch.allclose(terms["generator"], softplus(-D(made["fake"])).mean())
    assert torch.allclose(terms["not paid"], -2 * told[0] - 0.5 * told[1])
    _, _, _, even = small_game(lam=0.25)
    made = even.make(x, generator=torch.Generator().manual_seed(4))
    assert torch.allclose(
        even.makers["generator"].loss(made)["not paid"], -0.25 * (told[0] + told[1])
    )


def test_real_outputs_are_handed_to_objectives_that_want_them():
    seen = []

    class Wants(gan.NonSaturating):
        needs_real = True

        def generator_loss(self, fake, real=None):
            seen.append(real)
            return super().generator_loss(fake)

    _, _, D, game = small_game(objective=Wants())
    x = torch.randn(9, 2, dtype=torch.float64)
    game.makers["generator"].loss(game.make(x))
    assert torch.equal(seen[0], D(x))


def test_settings_are_checked():
    with pytest.raises(ValueError, match="lam"):
        small_game(lam=(1.0, -1.0))
    with pytest.raises(ValueError, match="latent is 4"):
        small_game(latent=4)
    with pytest.raises(ValueError, match="latent is None"):
        small_game(latent=None)
    for wrong in ((1, 0), (2, -1), (2, 1, 0.0)):
        with pytest.raises(ValueError, match="expected"):
            Codes(*wrong)
    with pytest.raises(ValueError, match="n_features"):
        CodeDiscriminator(nn.Identity(), 0, Codes())


def corners(lam, seed=0):
    """Four clouds and a code of four: what the pictures tell of the code, as a share of log 4."""
    torch.manual_seed(seed)
    places = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    k = torch.randint(4, (4000,))
    x = places[k] + 0.15 * torch.randn(4000, 2)
    codes = Codes(4, 0)
    G, D = nets.mlp([6, 32, 2], nn.ReLU), CodeDiscriminator(nets.mlp([2, 32, 32]), 32, codes)
    game = infogan(G, D, gan.NonSaturating(), codes, lam=lam, latent=6, lr=(5e-3, 5e-3))
    gan.play(game, x, n_steps=250, schedule="linear")
    c = codes.draw(2000)
    with torch.no_grad():
        fakes = G(torch.cat([torch.randn(2000, 2), c], 1))
        told = codes.bounds(D.both(fakes)[1], c)[0].item() / math.log(4)
    place = torch.cdist(fakes, places).argmin(1)
    return told, matched(c.argmax(1), place, 4)[1]


def test_the_code_is_told_and_without_the_term_it_is_not():
    told, share = corners(1.0)
    assert told > 0.9
    assert share > 0.7
    silent, _ = corners(0.0)
    assert silent < told - 0.3


def test_Q_moves_in_the_judges_move_and_makes_the_bound_tight():
    _, _, D, game = small_game(lam=0.0, lr=1e-2)
    before = [p.clone() for p in D.Q.parameters()]
    x = torch.randn(64, 2, dtype=torch.float64)
    first = game.judges["discriminator"].loss(game.make(x))["not told"].item()
    for _ in range(100):
        with torch.no_grad():
            made = game.make(x)
        last = gan.move(game.judges, made)["not told"].item()
    assert any(not torch.equal(a, b) for a, b in zip(before, D.Q.parameters()))
    assert last < first - 0.1


def test_hints_are_a_cross_entropy_of_the_class():
    codes, _, D, game = small_game()
    x, y = torch.randn(1, 2, dtype=torch.float64).expand(3, 2), torch.tensor([2, 2, 2])
    assert guide(game, codes, x, y, batch_size=5) is game
    made = game.make(torch.randn(9, 2, dtype=torch.float64))
    terms = game.judges["discriminator"].loss(made)
    assert set(terms) == {"discriminator", "not told", "hints"}
    assert torch.allclose(terms["hints"], cross_entropy(D.Q(D.body(x))[:, :3], y))
    assert "hints" not in game.makers["generator"].loss(made)
    with pytest.raises(ValueError, match="rows"):
        guide(game, codes, x, y[:2])
    with pytest.raises(ValueError, match="batch_size"):
        guide(game, codes, x, y, batch_size=0)


def test_hints_go_round_among_all_pictures():
    codes, _, D, game = small_game()
    x, y = torch.randn(3, 2, dtype=torch.float64), torch.tensor([0, 1, 2])
    guide(game, codes, x, y, batch_size=6000)
    made = game.make(torch.randn(4, 2, dtype=torch.float64))
    hint = game.judges["discriminator"].loss(made)["hints"]
    assert hint.item() == pytest.approx(cross_entropy(D.Q(D.body(x))[:, :3], y).item(), abs=0.05)


# ------------------------------------------------------------------------------------------- names


def test_the_best_naming_is_that_of_all_permutations():
    rng = torch.Generator().manual_seed(0)
    found, y = (torch.randint(5, (60,), generator=rng) for _ in range(2))
    name, share = matched(found, y, 5)
    every = [
        (torch.tensor(p)[found] == y).double().mean().item()
        for p in itertools.permutations(range(5))
    ]
    assert share == pytest.approx(max(every))
    assert sorted(name.tolist()) == list(range(5))
    assert (name[found] == y).double().mean().item() == pytest.approx(share)


def test_a_renamed_class_is_found():
    y = torch.arange(10).repeat(4)
    order = torch.randperm(10)
    name, share = matched(order[y], y)
    assert share == 1
    assert torch.equal(name[order], torch.arange(10))
    with pytest.raises(ValueError, match="rows"):
        matched(y, y[:3])
