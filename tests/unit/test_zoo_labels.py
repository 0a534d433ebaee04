"""Conditional games: where the class enters, what an auxiliary classifier asks for, and how samples are counted."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softplus

from lectool import gan, nets
from lectool.zoo.labels import (
    AuxiliaryDiscriminator,
    Blind,
    ConcatenatedDiscriminator,
    ConditionalGenerator,
    ProjectionDiscriminator,
    acgan,
    attach,
    class_coverage,
    class_leakage,
    spread_within,
)


def test_attach_puts_numbers_behind_features():
    h = torch.tensor([[0.5, 0.25], [7.0, 8.0]], dtype=torch.float64)
    out = attach(h, torch.tensor([2, 0]), 3)
    assert out.dtype == torch.float64
    assert out.tolist() == [[0.5, 0.25, 0, 0, 1], [7, 8, 1, 0, 0]]


def test_attach_puts_planes_behind_images():
    x, y = torch.randn(4, 1, 3, 5), torch.tensor([1, 0, 1, 2])
    out = attach(x, y, 4)
    assert out.shape == (4, 5, 3, 5)
    assert torch.equal(out[:, :1], x)
    for i, k in enumerate(y.tolist()):
        for j in range(4):
            assert (out[i, 1 + j] == float(j == k)).all()


@pytest.mark.parametrize("y", [torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0])])
def test_attach_refuses_classes_that_do_not_fit(y):
    with pytest.raises(ValueError, match="expected"):
        attach(torch.zeros(2, 2), y, 3)


def test_the_conditional_generator_reads_code_then_class():
    G = ConditionalGenerator(nn.Linear(5, 1, bias=False), 2, 3)
    G.net.weight.data = torch.tensor([[1.0, 10.0, 100.0, 200.0, 300.0]])
    assert G.latent == 2
    out = G(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([0, 2]))
    assert out[:, 0].tolist() == [121.0, 303.0]


def test_the_concatenated_discriminator_joins_behind_its_body():
    D = ConcatenatedDiscriminator(nn.Linear(2, 1, bias=False), nn.Linear(3, 1, bias=False), 2)
    D.body.weight.data = torch.tensor([[1.0, 1.0]])
    D.head.weight.data = torch.tensor([[2.0, 5.0, 7.0]])
    out = D(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([1, 0]))
    assert out[:, 0].tolist() == [13.0, 7.0]


def test_with_a_linear_head_the_class_does_not_change_the_slope():
    D = ConcatenatedDiscriminator(nets.mlp([3, 8]), nn.Linear(8 + 4, 1), 4).double()
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    slopes = [
        torch.autograd.grad(D(x, torch.full((6,), k)).sum(), x, retain_graph=True)[0]
        for k in (0, 3)
    ]
    assert torch.allclose(*slopes)


def test_projection_is_the_log_ratio_of_gaussians_of_one_covariance():
    torch.manual_seed(0)
    centers = torch.randn(2, 5, 3, dtype=torch.float64)
    L = torch.tril(torch.randn(3, 3, dtype=torch.float64)) + 3 * torch.eye(3)
    dist = torch.distributions.MultivariateNormal
    x, y = torch.randn(50, 3, dtype=torch.float64), torch.randint(5, (50,))
    truth = dist(centers[0][y], scale_tril=L).log_prob(x) - dist(
        centers[1][y], scale_tril=L
    ).log_prob(x)
    inverse = torch.linalg.inv(L @ L.T)
    p, q = centers
    constant = -0.5 * ((p @ inverse * p).sum(1) - (q @ inverse * q).sum(1))
    D = ProjectionDiscriminator(nn.ConstantPad1d((0, 1), 1.0), 4, 5).double()
    D.embed.weight.data = torch.cat([(p - q) @ inverse, constant[:, None]], 1)
    D.psi.weight.data.zero_()
    D.psi.bias.data.fill_(0.25)
    out = D(x, y)
    assert out.shape == (50, 1)
    assert out.dtype == torch.float64
    assert torch.allclose(out[:, 0], truth + 0.25)


def test_projection_takes_another_psi():
    D = ProjectionDiscriminator(nn.Identity(), 2, 3, psi=nets.mlp([2, 4, 1]))
    D.embed.weight.data.zero_()
    x = torch.randn(5, 2)
    assert torch.equal(D(x, torch.zeros(5).long()), D.psi(x))


def test_a_projection_learns_a_ratio_whose_classes_differ():
    """Two classes of 1 and −1; a generator that mixes them up. The logit must be large where class and place agree."""
    torch.manual_seed(1)
    D = ProjectionDiscriminator(nets.mlp([1, 16]), 16, 2)
    opt = torch.optim.Adam(D.parameters(), lr=2e-2)
    for _ in range(150):
        y = torch.randint(2, (128,))
        real = 0.5 * torch.randn(128, 1) + 2.0 * y[:, None] - 1
        fake = 0.5 * torch.randn(128, 1) + 2.0 * torch.randint(2, (128, 1)) - 1
        opt.zero_grad()
        gan.NonSaturating().discriminator_loss(D(real, y), D(fake, y)).backward()
        opt.step()
    at = torch.tensor([[1.0], [-1.0]])
    right, wrong = D(at, torch.tensor([1, 0])), D(at, torch.tensor([0, 1]))
    assert (right > 0.3).all()  # log 2 where the data have all of their mass, the fakes half of it
    assert (right < 1.0).all()
    assert (wrong < -1).all()


def test_blind_does_not_look():
    D = Blind(nn.Linear(2, 1))
    x = torch.randn(3, 2)
    assert torch.equal(D(x, torch.tensor([0, 1, 2])), D.net(x))


class Objective:
    needs_real = False

    def discriminator_loss(self, real, fake):
        return softplus(-real).mean() + softplus(fake).mean()

    def generator_loss(self, fake, real=None):
        return softplus(-fake).mean() + (0.0 if real is None else real.mean())


def ac_game(weight=0.7, objective=None):
    torch.manual_seed(3)
    G = ConditionalGenerator(nets.mlp([2 + 3, 4, 2]), 2, 3).double()
    D = AuxiliaryDiscriminator(nets.mlp([2, 6]), 6, 3).double()
    return G, D, acgan(G, D, objective or Objective(), weight=weight, lr=1e-3)


def test_the_two_losses_of_acgan_by_hand():
    _, D, game = ac_game()
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1])
    made = game.make(x, y, generator=torch.Generator().manual_seed(0))
    h, g = D.body(x), D.body(made["fake"])
    terms = game.judges["discriminator"].loss(made)
    expected = softplus(-D.real(h)).mean() + softplus(D.real(g)).mean()
    assert torch.allclose(terms["discriminator"], expected)
    assert torch.allclose(terms["classes of real"], 0.7 * cross_entropy(D.classes(h), y))
    assert torch.allclose(terms["classes of fakes"], 0.7 * cross_entropy(D.classes(g), y))
    assert len(terms) == 3
    terms = game.makers["generator"].loss(made)
    assert torch.allclose(terms["generator"], softplus(-D.real(g)).mean())
    assert torch.allclose(terms["asked"], 0.7 * cross_entropy(D.classes(g), y))
    assert sum(terms.values()).dtype == torch.float64
    assert torch.equal(D(x), D.both(x)[0])
    assert torch.equal(D(x), D(x, y))


def test_acgan_hands_real_outputs_to_objectives_that_want_them():
    objective = Objective()
    _, D, game = ac_game(objective=objective)
    objective.needs_real = True
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1])
    made = game.make(x, y)
    loss = game.makers["generator"].loss(made)["generator"]
    assert torch.allclose(loss, softplus(-D(made["fake"])).mean() + D(x).mean())


def test_acgan_checks_its_weight_and_the_data():
    with pytest.raises(ValueError, match="weight is -1"):
        ac_game(weight=-1.0)
    _, _, game = ac_game()
    with pytest.raises(ValueError, match="expected the same"):
        gan.play(game, [torch.randn(8, 3).double(), torch.zeros(8).long()], n_steps=1)


def overlapping(kind, n_steps=220):
    torch.manual_seed(0)
    y = torch.randint(2, (8000,))
    x = torch.randn(8000, 1) + 2.0 * y[:, None] - 1
    G = ConditionalGenerator(nets.mlp([6, 32, 1], nn.Tanh), 4, 2)
    body = nn.Sequential(nets.mlp([1, 32, 32], nn.Tanh), nn.Tanh())
    D = kind(body, 32, 2)
    match = acgan if kind is AuxiliaryDiscriminator else gan.two_player
    game = match(G, D, gan.NonSaturating(), lr=(6e-3, 1e-2))
    gan.play(game, [x, y], n_steps=n_steps, batch_size=128, schedule="linear")
    with torch.no_grad():
        low, high = (G(torch.randn(3000, 4), torch.full((3000,), k)) for k in (0, 1))
    astray = ((low > 0).double().mean() + (high < 0).double().mean()).item() / 2
    return astray, high.mean().item() - low.mean().item()


def test_acgan_keeps_away_from_the_overlap_and_projection_does_not():
    true = 0.5 * math.erfc(1 / math.sqrt(2))
    astray, gap = overlapping(ProjectionDiscriminator)
    assert astray == pytest.approx(true, abs=0.08)
    assert gap == pytest.approx(2, abs=0.5)
    astray, gap = overlapping(AuxiliaryDiscriminator)
    assert astray < 0.05
    assert gap > 2.2


def test_leakage_counts_pictures_without_a_sure_class():
    p = torch.tensor([[0.6, 0.4, 0.0], [0.59, 0.01, 0.4], [0.3, 0.3, 0.4], [0.0, 0.0, 1.0]])
    assert class_leakage(p) == 0.5
    assert class_leakage(p, sure=0.595) == 0.5
    assert class_leakage(p, sure=1.0) == 0.75
    assert class_leakage(p, sure=0.55) == 0.25
    for wrong in (0.5, 1.1):
        with pytest.raises(ValueError, match="sure"):
            class_leakage(p, sure=wrong)
    with pytest.raises(ValueError, match="lies in"):
        class_leakage(-p)


def test_coverage_is_the_number_of_equally_frequent_classes():
    assert class_coverage(torch.tensor([3, 3, 3])) == pytest.approx(1)
    assert class_coverage(torch.arange(10).repeat(3)) == pytest.approx(10)
    y = torch.tensor([0, 1, 1, 1])
    assert class_coverage(y, 2) == pytest.approx(
        math.exp(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    )


def test_spread_within_is_the_mean_variance_of_the_classes():
    f = torch.tensor([[0.0, 0.0], [2.0, 4.0], [10.0, 10.0], [10.0, 10.0]], dtype=torch.float64)
    y = torch.tensor([0, 0, 5, 5])
    assert spread_within(f, y) == pytest.approx((2 + 8 + 0) / 2)
    assert spread_within(f + 3 * y[:, None], y) == pytest.approx(
        5
    )  # where a class lies does not matter
    with pytest.raises(ValueError, match="single"):
        spread_within(f, torch.tensor([0, 0, 1, 2]))
    with pytest.raises(ValueError, match="shape"):
        spread_within(f, y[:3])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConditionalGenerator(nn.Identity(), 0),
        lambda: ConditionalGenerator(nn.Identity(), 2, 1),
        lambda: ConcatenatedDiscriminator(nn.Identity(), nn.Identity(), 1),
        lambda: ProjectionDiscriminator(nn.Identity(), 0),
        lambda: ProjectionDiscriminator(nn.Identity(), 2, 1),
        lambda: AuxiliaryDiscriminator(nn.Identity(), 0),
        lambda: AuxiliaryDiscriminator(nn.Identity(), 2, 1),
    ],
)
def test_sizes_are_checked(make):
    with pytest.raises(ValueError, match="expected"):
        make()
