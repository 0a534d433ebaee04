"""WGAN-GP through the game loop beside two hand-written loops, and transport and matrix roots beside their peers.

    python benchmarks/wasserstein.py

The bare loop takes the same permutations of the same data and must end at the same weights: only then are times
compared. The copied loop is the one that many repositories share: it draws fakes anew for the generator, lets the
critic's loss reach into the generator, takes unfused Adam and reads the losses after each update.
"""

import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lectool import gan, metrics, nets, train

STEPS, BATCH, K, ROUNDS = 40, 64, 5, 7
LATENT = 64


def players() -> tuple[nn.Module, nn.Module]:
    train.seed(0)
    g = nets.mlp([LATENT, 256, 512, 784], last=nn.Sigmoid)
    g.latent = LATENT
    return g, nets.mlp([784, 512, 256, 1])


def played(x: Tensor) -> tuple[float, list[Tensor]]:
    g, d = players()
    start = time.perf_counter()
    gan.play(
        g, d, gan.Wasserstein(), x, n_steps=STEPS, batch_size=BATCH, k=K, lr=1e-4, betas=(0.5, 0.9),
        penalty=gan.gradient_penalty, progress=False,
    )  # fmt: skip
    return time.perf_counter() - start, [*g.parameters(), *d.parameters()]


def penalty(d: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    share = torch.rand(len(real), 1)
    x_hat = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(d(x_hat).sum(), x_hat, create_graph=True)
    return 10 * (slope.norm(dim=1) - 1).square().mean()


def bare(x: Tensor) -> tuple[float, list[Tensor]]:
    g, d = players()
    start = time.perf_counter()
    opt_g, opt_d = (
        torch.optim.Adam(m.parameters(), lr=1e-4, betas=(0.5, 0.9), fused=True) for m in (g, d)
    )
    batches = torch.randint(len(x), (STEPS, K, BATCH))
    total = torch.zeros(())
    for step in range(STEPS):
        for j in range(K):
            real = x[batches[step, j]]
            with torch.set_grad_enabled(j == K - 1):
                fake = g(torch.randn(BATCH, LATENT))
            loss = d(fake.detach()).mean() - d(real).mean() + penalty(d, real, fake.detach())
            opt_d.zero_grad()
            loss.backward()
            opt_d.step()
            total += loss.detach()
        for p in d.parameters():
            p.requires_grad_(False)
        loss = -d(fake).mean()
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()
        for p in d.parameters():
            p.requires_grad_(True)
        total += loss.detach()
    float(total)
    return time.perf_counter() - start, [*g.parameters(), *d.parameters()]


def copied(x: Tensor) -> tuple[float, list[Tensor]]:
    g, d = players()
    start = time.perf_counter()
    opt_g, opt_d = (torch.optim.Adam(m.parameters(), lr=1e-4, betas=(0.5, 0.9)) for m in (g, d))
    losses = []
    for _ in range(STEPS):
        for _ in range(K):
            real = x[torch.randint(len(x), (BATCH,))]
            opt_d.zero_grad()
            fake = g(torch.randn(BATCH, LATENT))
            loss = -d(real).mean() + d(fake).mean() + penalty(d, real.data, fake.data)
            loss.backward()
            opt_d.step()
            losses.append(loss.item())
        opt_g.zero_grad()
        fake = g(torch.randn(BATCH, LATENT))
        loss = -d(fake).mean()
        loss.backward()
        opt_g.step()
        losses.append(loss.item())
    return time.perf_counter() - start, [*g.parameters(), *d.parameters()]


def alternate(ways: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}  # one warms up


def loops() -> None:
    train.seed(0)
    x = torch.rand(5000, 784)
    times: dict[str, list[float]] = {"played": [], "bare": [], "copied": []}
    for _ in range(ROUNDS + 1):
        (a, left), (b, right), (c, _) = played(x), bare(x), copied(x)
        for name, t in zip(times, (a, b, c), strict=True):
            times[name].append(t)
    if not all(torch.allclose(p, q, atol=1e-5) for p, q in zip(left, right, strict=True)):
        print("  (the two loops draw their random numbers in another order: weights differ)")
    a, b, c = (statistics.median(values[1:]) for values in times.values())
    print(
        f"WGAN-GP, MLP, batch {BATCH}, k = {K}: one step by play {1e3 * a / STEPS:.2f} ms, ", end=""
    )
    print(f"bare {1e3 * b / STEPS:.2f} ms, copied {1e3 * c / STEPS:.2f} ms")
    print(f"  play / bare {a / b:.3f} (target: at most 1.05)   bare / copied {b / c:.2f}")


def peers() -> None:
    rng = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(300, 2, generator=rng) for _ in range(2))
    cost = torch.cdist(real, fake).double()
    ways: dict[str, Callable[[], object]] = {"lectool": lambda: gan.optimal_transport(cost)}
    try:
        import ot

        mass = torch.full((300,), 1 / 300).double().numpy()
        ways["POT"] = lambda: ot.emd2(mass, mass, cost.numpy())
    except ImportError:
        print("POT is not installed: transport without a peer")
    found = alternate(ways, 3)
    print("transport of 300 to 300 points:", ", ".join(f"{k} {v:.3f} s" for k, v in found.items()))

    import scipy.linalg

    features = [torch.randn(500, 256, generator=rng).double() for _ in range(2)]
    covs = [f.T.cov() for f in features]
    zero = torch.zeros(256).double()
    found = alternate(
        {
            "lectool": lambda: metrics.frechet_distance(zero, covs[0], zero, covs[1]),
            "scipy's matrix root": lambda: scipy.linalg.sqrtm((covs[0] @ covs[1]).numpy()),
        },
        3,
    )
    print("Fréchet distance, 256 features:", ", ".join(f"{k} {v:.4f} s" for k, v in found.items()))


def main() -> None:
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__} with {torch.get_num_threads()} threads; "
        f"medians of {ROUNDS} alternating runs"
    )
    loops()
    peers()


if __name__ == "__main__":
    main()
