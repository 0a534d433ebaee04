"""Judges that are energies: EBGAN, BEGAN, and the energy game."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from lectool import data, gan, nets
from lectool.zoo.energies import (
    AutoencoderEnergy,
    Balance,
    Margin,
    boltzmann,
    ebgan,
    energy_game,
    neighbor_entropy,
    pulling_away,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(W):
    layer = nn.Linear(W.shape[1], W.shape[0], bias=False, dtype=W.dtype)
    layer.weight.data = W
    return layer


def drawer(n_out=2, latent=3):
    G = nets.mlp([latent, 16, n_out])
    G.latent = latent
    return G


# ------------------------------------------------------------------------------------------- the autoencoder


@pytest.mark.parametrize("power", [1, 2])
def test_the_energy_is_the_mean_error_of_what_comes_back(power):
    A, B = torch.randn(2, 5, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    x = torch.randn(7, 5, dtype=torch.float64)
    energy = AutoencoderEnergy(linear(A), linear(B), power)(x)
    by_hand = [sum(abs(v) ** power for v in (B @ (A @ row) - row).tolist()) / 5 for row in x]
    assert energy.dtype == torch.float64 and energy.shape == (7, 1)
    torch.testing.assert_close(energy[:, 0], torch.tensor(by_hand, dtype=torch.float64))


def test_the_energy_of_images_is_a_mean_over_all_their_pixels():
    flat = AutoencoderEnergy(nn.Flatten(), nn.Sequential(nn.Unflatten(1, (1, 4, 4)), nn.Tanh()))
    x = torch.randn(3, 1, 4, 4)
    torch.testing.assert_close(flat(x)[:, 0], (x.tanh() - x).square().mean((1, 2, 3)))


def test_the_judge_pushes_only_below_the_margin():
    real = torch.tensor([[1.0], [3.0]], requires_grad=True)
    fake = torch.tensor([[0.5], [2.0], [5.0]], requires_grad=True)
    loss = Margin(2.5).discriminator_loss(real, fake)
    assert loss.item() == pytest.approx(2 + (2.0 + 0.5 + 0) / 3)
    loss.backward()
    torch.testing.assert_close(real.grad, torch.full((2, 1), 0.5))
    torch.testing.assert_close(fake.grad, torch.tensor([[-1.0], [-1.0], [0.0]]) / 3)


def test_without_a_margin_the_judge_pushes_always():
    real, fake = torch.rand(4, 1), torch.tensor([[1.0], [1e6]])
    loss = Margin(math.inf).discriminator_loss(real, fake)
    torch.testing.assert_close(loss, real.mean() - fake.mean())
    torch.testing.assert_close(Margin(math.inf).generator_loss(fake), fake.mean())


def test_pulling_away_is_the_mean_squared_cosine_of_pairs():
    S = torch.randn(6, 4, dtype=torch.float64, generator=rng())
    pairs = [
        nn.functional.cosine_similarity(S[i], S[j], dim=0) ** 2
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    torch.testing.assert_close(pulling_away(S), torch.stack(pairs).mean())


def test_pulling_away_knows_its_ends():
    assert pulling_away(torch.eye(4)).item() == pytest.approx(0, abs=1e-6)
    one_way = torch.tensor([[1.0], [2.0], [-3.0]]) * torch.tensor([[1.0, 2.0]])
    assert pulling_away(one_way).item() == pytest.approx(1)  # the length and the sign do not count
    many = pulling_away(torch.randn(2000, 8, generator=rng()))
    assert many.item() == pytest.approx(1 / 8, abs=0.01)


def test_a_game_of_ebgan_is_its_two_losses_written_by_hand():
    torch.manual_seed(0)
    G, D = drawer(4), AutoencoderEnergy(nets.mlp([4, 8, 3]), nets.mlp([3, 8, 4]))
    game, x = ebgan(G, D, 0.7, pull=0.3, lr=(1e-3, 2e-3)), torch.randn(9, 4)
    made = game.make(x, generator=rng(1))
    fake = G(torch.randn(9, 3, generator=rng(1)))
    torch.testing.assert_close(made["fake"], fake)
    judge = D(x).mean() + (0.7 - D(fake)).clamp(min=0).mean()
    torch.testing.assert_close(game.judges["discriminator"].loss(made)["discriminator"], judge)
    terms = game.makers["generator"].loss(made)
    torch.testing.assert_close(terms["generator"], D(fake).mean())
    torch.testing.assert_close(terms["pull"], 0.3 * pulling_away(D.encoder(fake)))
    assert [p.optimizer.param_groups[0]["lr"] for p in game.makers.values()] == [1e-3]
    assert [p.optimizer.param_groups[0]["lr"] for p in game.judges.values()] == [2e-3]


def test_ebgan_draws_fakes_to_the_data():
    torch.manual_seed(0)
    G, D = drawer(2), AutoencoderEnergy(nets.mlp([2, 32, 1]), nets.mlp([1, 32, 2]))
    x = torch.tensor([2.0, -1.0]) + 0.1 * torch.randn(500, 2)
    gan.play(ebgan(G, D, 0.5, lr=5e-3), x, n_steps=400, schedule="linear", progress=False)
    with torch.no_grad():
        fake = G(torch.randn(500, 3))
    assert (fake.mean(0) - torch.tensor([2.0, -1.0])).norm() < 0.4


# ----------------------------------------------------------------------------------------------- the balance


def test_the_thermostat_is_the_papers_recursion():
    objective, kappa = Balance(0.4, lam=0.1, start=0.2).double(), 0.2
    for seed in range(5):
        real, fake = (
            torch.rand(6, 1, dtype=torch.float64, generator=rng(2 * seed + i)) for i in (0, 1)
        )
        loss = objective.discriminator_loss(real, fake)
        assert loss.item() == pytest.approx(
            real.mean().item() - kappa * fake.mean().item(), abs=1e-7
        )
        kappa = min(1, max(0, kappa + 0.1 * (0.4 * real.mean().item() - fake.mean().item())))
        assert objective.kappa.item() == pytest.approx(kappa, abs=1e-7)
    assert 0 < kappa < 1
    objective.discriminator_loss(torch.zeros(2, 1), torch.full((2, 1), 9.0))
    assert objective.kappa.item() == 0  # fakes that are hard to repair need no push
    assert loss.dtype == torch.float64


def test_the_push_has_an_upper_end_and_can_be_switched_off():
    strong, off = Balance(1.0, lam=10.0), Balance(0.5, lam=0.0, start=0.3)
    for objective in (strong, off):
        objective.discriminator_loss(torch.ones(3, 1), torch.zeros(3, 1))
    assert strong.kappa.item() == 1
    assert off.kappa.item() == pytest.approx(0.3)


def test_the_push_carries_no_gradient_into_the_next_loss():
    fake = torch.rand(3, 1, requires_grad=True)
    objective = Balance(0.5, lam=0.1, start=0.5)
    objective.discriminator_loss(torch.rand(3, 1, requires_grad=True), fake).backward()
    torch.testing.assert_close(fake.grad, torch.full((3, 1), -0.5 / 3))
    assert not objective.kappa.requires_grad


def test_the_measure_adds_error_and_imbalance():
    measure = Balance(0.5).measure(torch.tensor([[2.0], [4.0]]), torch.tensor([[1.0], [7.0]]))
    assert measure.item() == pytest.approx(3 + abs(1.5 - 4))
    assert Balance(0.5).generator_loss(torch.tensor([[1.0], [7.0]])).item() == 4


def test_balances_played_side_by_side_keep_their_own_state():
    torch.manual_seed(0)

    def game(objective):
        D = AutoencoderEnergy(nets.mlp([2, 8, 1]), nets.mlp([1, 8, 2]), 1)
        return gan.two_player(drawer(), D, objective)

    objectives = [Balance(0.3, lam=0.1), Balance(0.9, lam=0.1), Balance(0.9, lam=0.0, start=0.5)]
    games = gan.several([game(b) for b in objectives])
    gan.play(games, 3 + torch.randn(200, 3, 2), n_steps=10, progress=False)
    low, high, fixed = (b.kappa.item() for b in objectives)
    assert low < high and fixed == pytest.approx(0.5)


# ------------------------------------------------------------------------------------------- the energy game


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_entropy_of_a_gaussian(d, k):
    x = 1.7 * torch.randn(3000, d, dtype=torch.float64, generator=rng(4))
    exact = 0.5 * d * math.log(2 * math.pi * math.e * 1.7**2)
    found = neighbor_entropy(x, k)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(exact, abs=0.1)


def test_entropy_of_a_square_and_of_a_larger_one():
    x = torch.rand(4000, 2, dtype=torch.float64, generator=rng(5))
    assert neighbor_entropy(x).item() == pytest.approx(0, abs=0.06)
    larger = neighbor_entropy(5 * x) - neighbor_entropy(x)
    assert larger.item() == pytest.approx(2 * math.log(5))


def test_the_entropys_gradient_is_that_of_all_distances():
    x = torch.randn(12, 2, dtype=torch.float64, generator=rng(6))
    assert torch.autograd.gradcheck(partial(neighbor_entropy, k=2), x.requires_grad_())


def test_which_neighbor_is_counted():
    x = torch.tensor([[0.0], [1.0], [3.0]])  # first neighbors: 1, 1, 2; second: 3, 2, 3
    for k, distances in ((1, (1, 1, 2)), (2, (3, 2, 3))):
        psi = torch.digamma(torch.tensor([3.0, float(k)])).tolist()
        exact = sum(map(math.log, distances)) / 3 + math.log(2) + psi[0] - psi[1]
        assert neighbor_entropy(x, k).item() == pytest.approx(exact, abs=1e-6)


class Parabola(nn.Module):
    """The energy of N(mean, variance I)."""

    def __init__(self, mean, variance):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean))
        self.variance = variance

    def forward(self, x):
        return ((x - self.mean) ** 2).sum(1, keepdim=True) / (2 * self.variance)


def test_the_boltzmann_density_of_a_parabola_is_the_gaussian():
    side = torch.linspace(-6, 8, 281, dtype=torch.float64)
    cells = torch.cartesian_prod(side, side)
    mean = torch.tensor([1.0, 0.5], dtype=torch.float64)
    log_p, log_Z = boltzmann(Parabola(mean, 0.8), cells, 0.05**2)
    assert log_p.dtype == torch.float64
    exact = -((cells - mean) ** 2).sum(1) / 1.6 - math.log(2 * math.pi * 0.8)
    torch.testing.assert_close(log_p, exact)
    assert log_Z.item() == pytest.approx(math.log(2 * math.pi * 0.8), abs=1e-6)


def linear_game(entropy):
    torch.manual_seed(1)
    g = nn.Linear(2, 2)
    g.latent = 2
    game = energy_game(g, Parabola([1.0, -1.0], 0.25), entropy=entropy, lr=2e-2)
    settings = {"n_steps": 400, "batch_size": 256, "schedule": "linear", "progress": False}
    gan.play(game, torch.zeros(256, 2), **settings)
    return g.bias.detach(), (g.weight @ g.weight.T).detach()


@pytest.mark.parametrize(("entropy", "variance"), [(0.0, 0.0), (1.0, 0.25), (2.0, 0.5)])
def test_a_linear_generator_ends_at_the_boltzmann_density(entropy, variance):
    # E − T H is smallest for e^(−E / T): T times the variance, and a point at T = 0.
    mean, covariance = linear_game(entropy)
    torch.testing.assert_close(mean, torch.tensor([1.0, -1.0]), atol=0.06, rtol=0)
    torch.testing.assert_close(
        covariance, variance * torch.eye(2), atol=0.1 * variance + 1e-3, rtol=0
    )


def test_the_saddle_points_losses_written_by_hand():
    torch.manual_seed(0)
    g, E, x = drawer(), nets.mlp([2, 8, 1]), torch.randn(30, 2)
    game = energy_game(g, E, entropy=0.5, neighbor=2, lr=(1e-3, 2e-3), k=3)
    made = game.make(x, generator=rng(1))
    fake = g(torch.randn(30, 3, generator=rng(1)))
    torch.testing.assert_close(made["fake"], fake)
    loss = game.judges["energy"].loss(made)  # low on data, high on negative samples
    torch.testing.assert_close(loss, E(x).mean() - E(fake).mean())
    terms = game.makers["generator"].loss(made)
    torch.testing.assert_close(terms["mean energy"], E(fake).mean())
    torch.testing.assert_close(terms["entropy"], -0.5 * neighbor_entropy(fake, 2))
    assert game.k == 3 and game.judges["energy"].optimizer.param_groups[0]["lr"] == 2e-3


def test_with_samples_of_the_model_the_energys_gradient_is_that_of_the_likelihood():
    mean, x = torch.tensor([[0.3, -0.2]], dtype=torch.float64), torch.randn(50, 2).double()

    class Free(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(mean.clone())

        def forward(self, x):
            return 0.5 * ((x - self.mean) ** 2).sum(1, keepdim=True)

    E = Free()
    half = torch.randn(500, 2, dtype=torch.float64, generator=rng(2))
    negative = mean + torch.cat([half, -half])  # from e^(−E) / Z, with exactly its mean
    energy_game(drawer(), E).judges["energy"].loss({"real": x, "fake": negative}).backward()
    torch.testing.assert_close(E.mean.grad, -(x - mean).mean(0, keepdim=True))


def test_an_energy_at_rest_does_not_move_and_has_no_judge():
    E = nets.mlp([2, 8, 1]).requires_grad_(False)
    game = energy_game(drawer(), E)
    before = [p.clone() for p in E.parameters()]
    record = gan.play(game, torch.zeros(40, 2), n_steps=3, batch_size=16, progress=False)
    assert not game.judges and set(record.terms) == {"mean energy", "entropy"}
    assert E in game.modules  # so that it goes to the players' device, too
    assert all(torch.equal(a, b) for a, b in zip(before, E.parameters()))


def test_both_learn_a_gaussian():
    torch.manual_seed(0)
    x = data.sample_modes(4000, torch.tensor([[1.0, 0.0]]), 0.5)

    class Bowl(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(2))
            self.log_precision = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return 0.5 * self.log_precision.exp() * ((x - self.mean) ** 2).sum(1, keepdim=True)

    E, g = Bowl(), nn.Linear(2, 2)
    g.latent = 2
    settings = {"n_steps": 300, "batch_size": 256, "schedule": "linear", "progress": False}
    gan.play(energy_game(g, E, lr=4e-2), x, **settings)
    torch.testing.assert_close(E.mean.detach(), torch.tensor([1.0, 0.0]), atol=0.06, rtol=0)
    assert E.log_precision.exp().item() == pytest.approx(4, rel=0.15)
    assert (g.weight.det().abs().item()) == pytest.approx(0.25, rel=0.15)


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: AutoencoderEnergy(nn.Identity(), nn.Identity(), 0), "power is 0"),
        (lambda: Margin(0.0), "m is 0"),
        (lambda: Margin(math.nan), "m is nan"),
        (lambda: Balance(0.0), "gamma is 0"),
        (lambda: Balance(1.1), "gamma is 1.1"),
        (lambda: Balance(0.5, lam=-1.0), "lam is -1"),
        (lambda: Balance(0.5, start=2.0), "start is 2"),
        (lambda: pulling_away(torch.zeros(1, 3)), "n ≥ 2"),
        (lambda: pulling_away(torch.zeros(4, 2, 3)), "expected"),
        (lambda: neighbor_entropy(torch.zeros(3, 2)), "n > 3"),
        (lambda: neighbor_entropy(torch.zeros(3, 2), 0), "k is 0"),
        (lambda: energy_game(drawer(), nn.Linear(2, 1), entropy=-1.0), "entropy is -1"),
        (
            lambda: ebgan(drawer(), AutoencoderEnergy(nn.Identity(), nn.Identity()), 1.0, pull=-1),
            "pull",
        ),
        (lambda: boltzmann(nn.Linear(2, 1), torch.zeros(3, 2), 0.0), "cell is 0"),
    ],
)
def test_errors_are_plain(call, words):
    with pytest.raises(ValueError, match=words):
        call()
