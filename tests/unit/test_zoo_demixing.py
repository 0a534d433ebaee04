"""Two generators whose sum has to look like a mixture, and the way back."""

import pytest
import torch
from torch import nn

from lectool import gan, nets
from lectool.zoo.demixing import Pair, demix, demixing_game, train_encoder


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(W):
    G = nn.Linear(W.shape[1], W.shape[0], bias=False, dtype=W.dtype)
    G.weight.data, G.latent = W, W.shape[1]
    return G


def linear_pair(dtype=torch.float64):
    W = torch.linalg.qr(torch.randn(6, 5, dtype=torch.float64, generator=rng()))[0].to(dtype)
    W = W * torch.tensor([1.0, 2.0, 1.5, 0.7, 1.2], dtype=dtype) + 0.1
    return Pair(linear(W[:, :2].clone()), linear(W[:, 2:].clone())), W


def test_a_pair_is_the_sum_of_its_parts():
    pair, W = linear_pair()
    z = torch.randn(4, 5, dtype=torch.float64)
    x1, x2 = pair.parts(z)
    torch.testing.assert_close(x1, z[:, :2] @ W[:, :2].T)
    torch.testing.assert_close(x2, z[:, 2:] @ W[:, 2:].T)
    torch.testing.assert_close(pair(z), z @ W.T)
    assert pair.latent == 5


@pytest.mark.parametrize("lam", [0.0, 0.7])
def test_demixing_by_linear_generators_is_a_ridge_regression(lam):
    pair, W = linear_pair()
    y = torch.randn(7, 6, dtype=torch.float64, generator=rng(9))
    starts = torch.randn(2, 7, 5, dtype=torch.float64, generator=rng(8))
    z, error = demix(y, pair, starts, n_steps=800, lr=0.05, lam=lam)
    exact = torch.linalg.solve(W.T @ W + lam * torch.eye(5), W.T @ y.T).T
    assert z.dtype == torch.float64 and z.shape == (7, 5)
    torch.testing.assert_close(z, exact, atol=2e-3, rtol=0)
    torch.testing.assert_close(error, (y - z @ W.T).square().sum(1))


def test_the_best_start_is_kept_for_each_mixture():
    pair, W = linear_pair()
    z = torch.randn(3, 5, dtype=torch.float64, generator=rng(1))
    y, far = z @ W.T, torch.full((3, 5), 9.0, dtype=torch.float64)
    starts = torch.stack([far, far, far])
    for i, s in enumerate((2, 0, 1)):
        starts[s, i] = z[i]
    found, error = demix(y, pair, starts, n_steps=0)
    torch.testing.assert_close(found, z)
    assert error.max() < 1e-20


def test_the_price_of_a_code_decides_between_equal_errors():
    G = nn.Sequential(linear(torch.ones(1, 1)))
    G[0].forward = torch.abs  # z and −z, and more: all codes of one sign look alike
    G.latent = 1
    y, starts = torch.tensor([[2.0]]), torch.tensor([[[2.5]], [[-1.5]]])  # equally far off
    assert demix(y, G, starts, n_steps=0, lam=0.1)[0].item() == -1.5
    assert demix(y, G, starts.flip(0), n_steps=0, lam=0.1)[0].item() == -1.5
    assert demix(y, G, starts, n_steps=0, lam=0.1)[1].item() == pytest.approx(0.25)
    starts = torch.tensor([[[2.5]], [[-1.2]]])  # errors 0.25 and 0.64, squares 6.25 and 1.44
    for lam, kept in ((0.07, 2.5), (0.09, -1.2)):  # equal at λ = 0.39 / 4.81
        assert demix(y, G, starts, n_steps=0, lam=lam)[0].item() == pytest.approx(kept)


def test_demixing_leaves_the_generators_and_the_starts_alone():
    pair, _ = linear_pair()
    before = [p.clone() for p in pair.parameters()]
    starts = torch.zeros(1, 4, 5, dtype=torch.float64)
    demix(torch.randn(4, 6, dtype=torch.float64), pair, starts, n_steps=3)
    assert starts.abs().max() == 0
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, pair.parameters()))


def test_demixing_takes_images():
    G = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4)))
    G.latent = 2
    z, error = demix(torch.rand(3, 1, 4, 4), G, torch.zeros(2, 3, 2), n_steps=2)
    assert z.shape == (3, 2) and error.shape == (3,)


def test_an_encoder_learns_the_inverse_of_a_linear_generator():
    torch.manual_seed(0)
    pair, W = linear_pair(torch.float32)
    encoder = train_encoder(nn.Linear(6, 5), pair, steps=800, lr=2e-2)
    z = torch.randn(100, 5)
    assert (encoder(z @ W.T) - z).square().mean() < 0.02


def test_an_encoder_that_sees_noise_shrinks_as_it_should():
    torch.manual_seed(0)
    G = linear(torch.eye(2))
    encoder = train_encoder(nn.Linear(2, 2), G, noise=1.0, steps=600, lr=2e-2)
    # With x = z + noise of the same size the best guess of z is x / 2.
    torch.testing.assert_close(encoder.weight.detach(), 0.5 * torch.eye(2), atol=0.06, rtol=0)


def test_the_games_losses_written_by_hand():
    torch.manual_seed(0)
    pair, D, D1 = linear_pair(torch.float32)[0], nets.mlp([6, 8, 1]), nets.mlp([6, 8, 1])
    objective = gan.Hinge()
    game = demixing_game(pair, D, objective, D1=D1, lr=(1e-3, 3e-3))
    y, x1 = torch.randn(5, 6), torch.randn(5, 6)
    made = game.make(y, x1, generator=rng(1))
    a, b = pair.parts(torch.randn(5, 5, generator=rng(1)))
    of_sums = objective.discriminator_loss(D(y), D(a + b))
    of_part = objective.discriminator_loss(D1(x1), D1(a))
    torch.testing.assert_close(game.judges["of sums"].loss(made), of_sums)
    torch.testing.assert_close(game.judges["of the part"].loss(made), of_part)
    terms = game.makers["generators"].loss(made)
    torch.testing.assert_close(terms["sums"], -D(a + b).mean())
    torch.testing.assert_close(terms["part"], -D1(a).mean())
    rates = [
        p.optimizer.param_groups[0]["lr"] for p in (*game.makers.values(), *game.judges.values())
    ]
    assert rates == [1e-3, 3e-3, 3e-3]


def test_a_blind_game_has_one_judge():
    game = demixing_game(linear_pair(torch.float32)[0], nets.mlp([6, 8, 1]), gan.Hinge())
    record = gan.play(game, [torch.randn(50, 6)], n_steps=2, batch_size=8, progress=False)
    assert set(record.terms) == {"of sums", "sums"}


class Shift(nn.Module):
    """A part with noise of a known width, whose mean is to be learned."""

    latent = 1

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1))

    def forward(self, z):
        return self.mean + 0.5 * z


def test_a_known_part_settles_what_sums_leave_open():
    # Parts with means 3 and −1: sums know that the means add up to 2, samples of the first which is which.
    torch.manual_seed(0)
    x1, x2 = (mean + 0.5 * torch.randn(4000, 1) for mean in (3.0, -1.0))
    pair = Pair(Shift(), Shift())
    D, D1 = (nets.mlp([1, 16, 1], nn.Tanh) for _ in range(2))
    game = demixing_game(pair, D, gan.NonSaturating(), D1=D1, lr=(2e-2, 1e-2))
    settings = {"n_steps": 600, "batch_size": 64, "schedule": "linear", "progress": False}
    gan.play(game, [x1 + x2, x1[torch.randperm(4000)]], **settings)
    assert pair.G1.mean.item() == pytest.approx(3, abs=0.3)
    assert pair.G2.mean.item() == pytest.approx(-1, abs=0.4)


def test_errors_are_plain():
    pair, _ = linear_pair(torch.float32)
    y = torch.zeros(3, 6)
    for starts in (torch.zeros(3, 5), torch.zeros(1, 4, 5), torch.zeros(1, 3, 4)):
        with pytest.raises(ValueError, match="starts has shape"):
            demix(y, pair, starts)
    good = torch.zeros(1, 3, 5)
    for setting in ({"n_steps": -1}, {"lr": 0.0}, {"lam": -0.1}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            demix(y, pair, good, **setting)
    with pytest.raises(ValueError, match="noise"):
        train_encoder(nn.Linear(6, 5), pair, noise=-1.0)
