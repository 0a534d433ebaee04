"""The way back from images to codes: against closed forms, hand-made players and enumeration."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, softplus

from lectool import gan, random
from lectool.zoo import inverse

# ------------------------------------------------------------------------------------- small networks


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


@pytest.mark.parametrize("n_classes", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_smooth_generator_interpolates_before_its_tanh(n_classes, dtype):
    G = inverse.SmoothGenerator(4, n_classes, width=7, size=(6, 10)).to(dtype)
    z, y = torch.randn(5, 4, dtype=dtype), [torch.tensor([0, 2, 1, 1, 0])][: bool(n_classes)]
    seen = torch.cat([z, *[torch.eye(3, dtype=dtype)[c] for c in y]], 1)
    a = (seen @ G.hidden.weight.T + G.hidden.bias).relu() @ G.pixels.weight.T + G.pixels.bias
    expected = interpolate(a.view(5, 1, 3, 5), size=(6, 10), mode="bilinear").tanh()
    x = G(z, *y)
    assert x.dtype == dtype and x.shape == (5, 1, 6, 10)
    torch.testing.assert_close(x, expected)
    assert not torch.allclose(
        x, interpolate(a.view(5, 1, 3, 5).tanh(), size=(6, 10), mode="bilinear")
    )


def test_a_smooth_generator_as_layers_for_a_page():
    G = inverse.SmoothGenerator(4, 3, width=7, size=(6, 10)).double()
    free = inverse.SmoothGenerator(4, 0, width=7, size=(6, 10))
    z = torch.randn(9, 4)
    for c in range(3):
        layers = G.at(c)
        assert [type(part).__name__ for part in layers] == ["Linear", "ReLU", "Linear", "Tanh"]
        expected = G(z.double(), torch.full((9,), c)).flatten(1)
        torch.testing.assert_close(layers(z.double()), expected)
    torch.testing.assert_close(free.at()(z), free(z).flatten(1))
    before = G(z.double(), torch.zeros(9, dtype=torch.int64))
    with torch.no_grad():
        layers[0].weight.zero_()
    assert torch.equal(before, G(z.double(), torch.zeros(9, dtype=torch.int64)))


def test_a_coarse_discriminator_looks_at_half_the_resolution():
    D = inverse.CoarseDiscriminator(3, width=5, size=(4, 6)).double()
    x, y = torch.randn(7, 1, 4, 6).double(), torch.tensor([0, 1, 2, 2, 1, 0, 1])
    means = x.view(7, 2, 2, 3, 2).mean((2, 4)).flatten(1)
    torch.testing.assert_close(D.features(x), D.body(means))
    scores = D.head(D.body(means))
    assert scores.shape == (7, 3)
    torch.testing.assert_close(D(x, y)[:, 0], scores[torch.arange(7), y])
    assert inverse.CoarseDiscriminator(width=5, size=(4, 6))(x.float()).shape == (7, 1)


def test_a_pair_discriminator_sees_image_and_code():
    D = inverse.PairDiscriminator(2, width=5, size=(4, 6))
    x, z = torch.randn(7, 1, 4, 6), torch.randn(7, 2)
    means = x.view(7, 2, 2, 3, 2).mean((2, 4)).flatten(1)
    torch.testing.assert_close(D(x, z), D.net(torch.cat([means, z], 1)))
    assert D(x, z).shape == (7, 1)


@pytest.mark.parametrize(
    "settings", [{"latent": 0}, {"width": 0}, {"n_classes": -1}, {"size": (5, 4)}]
)
def test_small_networks_of_no_size(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        inverse.SmoothGenerator(**settings)


# --------------------------------------------------------------------------------------------- BiGAN


class Line(nn.Module):
    """a · v + b on numbers."""

    def __init__(self, a, b=0.0):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (a, b))

    def forward(self, v):
        return self.a * v + self.b


class Product(nn.Module):
    """w x z: sees nothing but the pairing."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, x, z):
        return self.w * x * z


def test_the_losses_of_bigan_by_hand():
    G, E, D = Line(0.5, 0.1), Line(-2.0), Product()
    game = inverse.bigan(G, E, D, gan.NonSaturating(), latent=1)
    x, z = torch.randn(6, 1).double(), torch.randn(6, 1).double()
    made = {"real": x, "code": E(x), "fake": G(z), "z": z}
    on_real, on_fake = 0.7 * x * (-2 * x), 0.7 * (0.5 * z + 0.1) * z
    judge, both = game.judges["discriminator"], game.makers["both"]
    expected = softplus(-on_real).mean() + softplus(on_fake).mean()
    torch.testing.assert_close(judge.loss(made), expected)
    losses = both.loss(made)
    torch.testing.assert_close(losses["generator"], softplus(-on_fake).mean())
    torch.testing.assert_close(losses["encoder"], softplus(on_real).mean())
    assert {id(p) for p in both.parameters} == {id(p) for net in (G, E) for p in net.parameters()}
    made = game.make(x, generator=random.generator(3))
    z = gan.draw_latent(6, 1, like=x, generator=random.generator(3))
    for name, value in {"real": x, "code": -2 * x, "fake": 0.5 * z + 0.1, "z": z}.items():
        torch.testing.assert_close(made[name], value)
        assert made[name].dtype == torch.float64


def test_an_objective_with_a_state_belongs_to_the_game():
    objective = gan.Fisher()
    game = inverse.bigan(Line(1.0), Line(1.0), Product(), objective, latent=1)
    assert objective in game.modules


def test_a_discriminator_of_images_alone_teaches_an_encoder_nothing():
    G, E = nn.Linear(1, 1), nn.Linear(1, 1)
    before = [p.clone() for p in E.parameters()]

    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(1, 1)

        def forward(self, x, z):
            return self.net(x) + 0 * z

    game = inverse.bigan(G, E, Alone(), gan.NonSaturating(), latent=1, lr=0.1)
    start = G.weight.clone()
    gan.play(game, torch.randn(100, 1), n_steps=20)
    assert all(torch.equal(p, q) for p, q in zip(before, E.parameters()))
    assert not torch.equal(start, G.weight)


class Joint(nn.Module):
    """A bounded network of pairs of numbers."""

    def __init__(self):
        super().__init__()
        net = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
        self.net = gan.spectral_normalize(net, bound=2.0)

    def forward(self, x, z):
        return self.net(torch.cat([x, z], 1))


def test_bigan_ends_with_an_encoder_that_inverts_its_generator():
    G, E = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        G.weight.fill_(1.0)
        E.weight.fill_(0.2)
    game = inverse.bigan(G, E, Joint(), gan.NonSaturating(), latent=1, lr=1e-2)
    gan.play(game, 2 * torch.randn(4000, 1), n_steps=500, batch_size=256, schedule="linear")
    assert G.weight.item() == pytest.approx(2, abs=0.3)
    assert G.weight.item() * E.weight.item() == pytest.approx(1, abs=0.15)


def test_bigan_takes_the_latent_of_its_generator_or_complains():
    G, E, D = Line(1.0), Line(1.0), Product()
    with pytest.raises(ValueError, match="latent is None and Line"):
        inverse.bigan(G, E, D, gan.Hinge())
    G.latent = 3
    game = inverse.bigan(G, E, D, gan.Hinge(), lr=(1e-3, 1e-2), betas=(0.1, 0.2))
    assert game.make(torch.zeros(4, 3).double())["z"].shape == (4, 3)
    group = [
        side["both" if side is game.makers else "discriminator"].optimizer.param_groups[0]
        for side in (game.makers, game.judges)
    ]
    assert [g["lr"] for g in group] == [1e-3, 1e-2] and group[0]["betas"] == (0.1, 0.2)


# ------------------------------------------------------------------------------- latent optimization


def test_distances():
    a, b = torch.randn(3, 1, 2, 2).double(), torch.randn(3, 1, 2, 2).double()
    by_hand = torch.stack([((p - q) ** 2).sum() for p, q in zip(a, b)])
    torch.testing.assert_close(inverse.squared_distance(a, b), by_hand)
    mask = torch.tensor([[1.0, 0], [0, 0]]).double()
    torch.testing.assert_close(inverse.masked_distance(mask)(a, b), (a - b)[:, 0, 0, 0] ** 2)
    torch.testing.assert_close(inverse.feature_distance(lambda v: 3 * v)(a, b), 9 * by_hand)


@pytest.mark.parametrize("prior", [0.0, 2.0])
def test_the_projection_of_a_linear_generator_is_ridge_regression(prior):
    W = torch.randn(5, 2).double()
    x, start = torch.randn(4, 5).double(), torch.randn(4, 2).double()
    exact = torch.linalg.solve(2 * W.T @ W + prior * torch.eye(2).double(), 2 * W.T @ x.T).T
    found = inverse.project(lambda z: z @ W.T, x, start, prior=prior, n_steps=2000, lr=0.02)
    torch.testing.assert_close(found.z, exact, atol=1e-4, rtol=0)
    assert found.z.dtype == torch.float64 and not found.z.requires_grad
    assert found.errors.shape == (2001, 4) and not found.errors.requires_grad
    for at, z in ((0, start), (-1, found.z)):
        torch.testing.assert_close(found.errors[at], ((x - z @ W.T) ** 2).sum(1))
    assert repr(found).startswith("Projection(4 codes, 2000 steps: mean error ")


def test_a_projection_steps_as_adam_does_and_leaves_the_generator_alone():
    G = nn.Linear(2, 3).double()
    x, start = torch.randn(4, 3).double(), torch.randn(4, 2).double()
    before = start.clone()
    found = inverse.project(
        lambda z, y: G(z) + y, x, start, torch.ones(4, 1).double(), n_steps=3, lr=0.1
    )
    z = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        ((x - G(z) - 1) ** 2).sum().backward(inputs=[z])
        optimizer.step()
    torch.testing.assert_close(found.z, z.detach())
    assert torch.equal(start, before) and all(p.grad is None for p in G.parameters())
    same = inverse.project(G, x, start, n_steps=0)
    assert torch.equal(same.z, start) and same.errors.shape == (1, 4)


def test_each_image_is_searched_for_by_itself():
    W = torch.randn(5, 2).double()
    x, start = torch.randn(4, 5).double(), torch.randn(4, 2).double()
    whole = inverse.project(lambda z: (z @ W.T).tanh(), x, start, n_steps=20)
    alone = inverse.project(lambda z: (z @ W.T).tanh(), x[2:3], start[2:3], n_steps=20)
    torch.testing.assert_close(whole.z[2:3], alone.z)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prior": -1.0}, "prior is -1"),
        ({"n_steps": -1}, "n_steps is -1"),
        ({"lr": 0.0}, "lr is 0"),
    ],
)
def test_searches_that_make_no_sense(settings, words):
    with pytest.raises(ValueError, match=words):
        inverse.project(lambda z: z, torch.zeros(2, 1), torch.zeros(2, 1), **settings)


def test_searches_with_too_few_codes_or_conditions():
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="x has 2, z has 3"):
        inverse.project(lambda z: z, x, torch.zeros(3, 1))
    with pytest.raises(ValueError, match="condition 1 has 1"):
        inverse.project(lambda z, y: z, x, x, torch.zeros(1))


def test_pairs_that_a_generator_makes():
    def G(z, y):
        return 2 * z + y[:, None]

    y = torch.arange(1200)
    x, z, given = inverse.made_pairs(G, 1200, 3, y, generator=random.generator(0))
    assert torch.equal(given, y) and z.shape == (1200, 3)
    assert torch.equal(x, 2 * z + y[:, None]) and abs(z.mean()) < 0.1 and abs(z.std() - 1) < 0.1
    again = inverse.made_pairs(G, 1200, 3, y, generator=random.generator(0))
    assert torch.equal(again[1], z)
    x, z = inverse.made_pairs(nn.Linear(3, 2), 7, 3)
    assert x.shape == (7, 2) and not x.requires_grad
    with pytest.raises(ValueError, match="n is 0"):
        inverse.made_pairs(G, 0, 3)


# ------------------------------------------------------------------------------------------ what for


def test_a_change_keeps_the_code_and_takes_the_other_condition():
    def G(z, y):
        return torch.cat([z, y[:, None] * torch.ones_like(z)], 1)

    def E(x, y):
        return x[:, :1] + 0.5 * y[:, None]  # wrong on purpose

    x, old, new = (
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.tensor([2.0, 4.0]),
        torch.tensor([7.0, 8.0]),
    )
    changed, found = inverse.change(G, E, x, old, new, n_steps=0)
    assert changed.tolist() == [[2, 7], [5, 8]] and found.z.tolist() == [[2], [5]]
    assert found.errors[0].tolist() == [1, 4]
    changed, found = inverse.change(G, E, x, old, new, n_steps=500, lr=0.1)
    torch.testing.assert_close(changed, torch.tensor([[1.0, 7], [3, 8]]), atol=1e-3, rtol=0)
    second = inverse.feature_distance(
        lambda v: v[:, :1] - 1
    )  # nearest where the first number is x's
    assert inverse.change(G, E, x, old, new, n_steps=5, distance=second)[1].errors[0].tolist() == [
        1,
        4,
    ]


def test_the_difference_of_two_means():
    z = torch.tensor([[1.0, 0], [3, 0], [0, 5], [0, 7], [0, 0]]).double()
    chosen = torch.tensor([1, 1, 0, 0, 0])
    assert inverse.mean_difference(z, chosen).tolist() == [2, -4]
    for nothing in (torch.zeros(5), torch.ones(5)):
        with pytest.raises(ValueError, match="number of chosen codes"):
            inverse.mean_difference(z, nothing)
    with pytest.raises(ValueError, match="z has 5, chosen has 4"):
        inverse.mean_difference(z, chosen[:4])


def test_the_distance_of_anogan_by_hand():
    x, x_hat = torch.randn(3, 1, 2, 2).double(), torch.randn(3, 1, 2, 2).double()
    for lam in (0.0, 0.1, 1.0):
        d = inverse.anomaly_distance(lambda v: v.flatten(1)[:, :2] ** 2, lam)(x, x_hat)
        for i in range(3):
            pixels = sum(
                abs(a - b) for a, b in zip(x[i].flatten().tolist(), x_hat[i].flatten().tolist())
            )
            a, b = x[i].flatten()[:2] ** 2, x_hat[i].flatten()[:2] ** 2
            assert d[i].item() == pytest.approx(
                (1 - lam) * pixels + lam * (a - b).abs().sum().item()
            )
    for lam in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="lam is"):
            inverse.anomaly_distance(nn.Identity(), lam)


def test_the_area_under_the_curve_counts_pairs():
    scores = torch.randint(0, 6, (40,)).float()
    positive = torch.rand(40) < 0.4
    wins = [
        (a > b) + 0.5 * (a == b)
        for a in scores[positive].tolist()
        for b in scores[~positive].tolist()
    ]
    assert inverse.area_under_curve(scores, positive) == pytest.approx(sum(wins) / len(wins))
    assert inverse.area_under_curve(torch.arange(4.0), torch.tensor([0, 0, 1, 1])) == 1
    assert inverse.area_under_curve(-torch.arange(4.0), torch.tensor([0, 0, 1, 1])) == 0
    assert inverse.area_under_curve(torch.ones(4), torch.tensor([0, 0, 1, 1])) == 0.5
    with pytest.raises(ValueError, match="number of positives is 0"):
        inverse.area_under_curve(scores, torch.zeros(40))
    with pytest.raises(ValueError, match="positive has 3"):
        inverse.area_under_curve(scores, torch.ones(3))
