"""``gan.play`` beside a bare loop written by hand, and transport and matrix roots beside their peers, in one run.

    python benchmarks/gan.py

The bare loop already does what this costs little: channels-last images, fakes detached in the discriminator's step and
used again in the generator's, whose step freezes the discriminator. Both start from the same seed, draw the same
batches and codes, and must end at the same weights up to rounding: only then are their times compared. Loops as they
are often copied (nothing detached, nothing frozen, images in the default order, fresh fakes for each player) stand
beside them. WGAN-GP takes five updates of the critic a step, as it was published. Then updates of a small game in the
plane are counted, and exact transport (beside POT, where it is installed) and the Fréchet distance (beside SciPy's
matrix root) are timed.
"""

import os
import statistics
import time
from collections.abc import Callable

import scipy.linalg
import torch
from torch import Tensor, nn

from lectool import data, gan, metrics, nets, random

STEPS, BATCH, ROUNDS, LAM = 20, 64, 5, 10.0
ADAM = {"lr": 2e-4, "betas": (0.5, 0.999)}


def slope_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    share = torch.rand(len(real), *[1] * (real.ndim - 1))
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return LAM * (slope.flatten(1).norm(dim=1) - 1).square().mean()


def played(
    g: nn.Module, d: nn.Module, x: Tensor, objective: gan.Objective, k: int, penalty
) -> None:
    if penalty is None:
        game = gan.two_player(g, d, objective, k=k, **ADAM)
    else:
        game = gan.wgan_gp(g, d, lam=LAM, k=k, **ADAM)
    gan.play(game, x, n_steps=STEPS, batch_size=BATCH, window=STEPS, progress=False)


def bare(g: nn.Module, d: nn.Module, x: Tensor, objective: gan.Objective, k: int, penalty) -> None:
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
        g.to(memory_format=torch.channels_last)
        d.to(memory_format=torch.channels_last)
    opt_g = torch.optim.Adam(g.parameters(), fused=True, **ADAM)
    opt_d = torch.optim.Adam(d.parameters(), fused=True, **ADAM)
    g.train()
    d.train()
    rows = torch.randint(len(x), (STEPS, k, BATCH))
    for i in range(STEPS):
        for j in range(k):
            real = x[rows[i, j]]
            with torch.set_grad_enabled(j == k - 1):
                fake = g(torch.randn(BATCH, g.latent))
            loss = objective.discriminator_loss(d(real), d(fake.detach()))
            if penalty is not None:
                loss = loss + penalty(d, real, fake.detach())
            opt_d.zero_grad(set_to_none=True)
            loss.backward()
            opt_d.step()
        for p in d.parameters():
            p.requires_grad_(False)
        loss = objective.generator_loss(d(fake))
        opt_g.zero_grad(set_to_none=True)
        loss.backward()
        opt_g.step()
        for p in d.parameters():
            p.requires_grad_(True)


def copied(
    g: nn.Module, d: nn.Module, x: Tensor, objective: gan.Objective, k: int, penalty
) -> None:
    opt_g, opt_d = (torch.optim.Adam(m.parameters(), **ADAM) for m in (g, d))
    g.train()
    d.train()
    for _ in range(STEPS):
        for _ in range(k):
            real = x[torch.randint(len(x), (BATCH,))]
            fake = g(torch.randn(BATCH, g.latent))
            loss = objective.discriminator_loss(d(real), d(fake))
            if penalty is not None:
                loss = loss + penalty(d, real, fake)
            opt_d.zero_grad()
            loss.backward()
            opt_d.step()
        loss = objective.generator_loss(d(g(torch.randn(BATCH, g.latent))))
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()
        loss.item()


def mlp_players() -> tuple[nn.Module, nn.Module]:
    g = nets.mlp([64, 256, 512, 784], last=nn.Tanh)
    g.latent = 64
    return g, nets.mlp([784, 512, 256, 1])


def run(loop: Callable[..., None], make: Callable, x: Tensor, *parts: object) -> tuple[float, list]:
    random.seed(0)
    g, d = make()
    start = time.perf_counter()
    loop(g, d, x, *parts)
    return time.perf_counter() - start, [*g.parameters(), *d.parameters()]


def peers() -> None:
    r"""Exact transport and the Fréchet distance, seconds a call."""
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(300, 2, generator=rng, dtype=torch.float64) for _ in range(2))
    cost, mass = torch.cdist(a, b), torch.full((300,), 1 / 300, dtype=torch.float64).numpy()
    c, d = (torch.randn(500, 256, generator=rng, dtype=torch.float64).T.cov() for _ in range(2))
    zero = torch.zeros(256, dtype=torch.float64)
    calls = {
        "transport of 300 to 300 points": lambda: gan.optimal_transport(cost),
        "Fréchet distance of 256 features": lambda: metrics.frechet_distance(zero, c, zero, d),
        "the same by SciPy's matrix root": lambda: scipy.linalg.sqrtm((c @ d).numpy()),
    }
    try:
        import ot

        calls["the same transport, POT"] = lambda: ot.emd2(mass, mass, cost.numpy())
    except ImportError:
        print("POT is not installed: transport without a peer")
    for name, call in calls.items():
        times = []
        for _ in range(ROUNDS + 1):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        print(f"{name}: {statistics.median(times[1:]):.4f} s")


def main() -> None:
    random.seed(0)
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__} with {torch.get_num_threads()} threads"
    )
    print(f"{STEPS} iterations, batches of {BATCH}; median of {ROUNDS} alternating runs\n")
    images = 2 * torch.rand(2000, 1, 28, 28) - 1
    cases = {
        "DCGAN": (
            lambda: (gan.DCGenerator(16), gan.DCDiscriminator()),
            images,
            gan.NonSaturating(),
            1,
            None,
        ),
        "WGAN-GP, MLP": (mlp_players, images.flatten(1), gan.Wasserstein(), 5, slope_penalty),
    }
    for name, case in cases.items():
        times: dict[Callable, list[float]] = {played: [], bare: [], copied: []}
        for _ in range(ROUNDS + 1):
            ends = {}
            for loop, seconds in times.items():
                took, ends[loop] = run(loop, *case)
                seconds.append(took)
            # Sums in another order differ in the last digit, which 20 steps of ReLU nets make 1e-3; other draws, 0.2.
            if any((a - b).norm() > 0.01 * a.norm() for a, b in zip(ends[played], ends[bare])):
                raise SystemExit(f"{name}: the two loops end at different weights")
        play_s, bare_s, copied_s = (
            statistics.median(v[1:]) for v in times.values()
        )  # the first warms up
        print(
            f"{name:14s} play {1e3 * play_s / STEPS:6.1f} ms   bare {1e3 * bare_s / STEPS:6.1f} ms   "
            f"ratio {play_s / bare_s:.3f} (target: at most 1.05)   bare / copied {bare_s / copied_s:.2f}"
        )
    g, d = nets.mlp([16, 64, 64, 2]), nets.mlp([2, 64, 64, 1])
    x = data.sample_modes(20000, data.ring())
    game = gan.two_player(g, d, gan.NonSaturating(), latent=16)
    game = gan.play(game, x, n_steps=1000, batch_size=BATCH, progress=False)
    print(
        f"game in the plane: {game.n_steps / game.seconds:.0f} updates a second (target: at least 300)"
    )
    peers()


if __name__ == "__main__":
    main()
