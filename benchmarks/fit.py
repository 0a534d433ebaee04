"""``train.fit`` beside a bare loop that does the same work, in one run.

    python benchmarks/fit.py

Both start from the same seed, take the same permutations and the same fused Adam, and must end at the same
weights to the bit: only then are their times compared.
"""

import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lectool import random, train
from lectool.autoencoders import deep_autoencoder
from lectool.pca import LinearAutoencoder

EPOCHS, BATCH, ROUNDS = 3, 128, 7


def bare(model: nn.Module, x: Tensor) -> None:
    opt = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    model.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(x))
        total = torch.zeros(())
        for rows in order.split(BATCH):
            loss = model.loss(x[rows])
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            total += loss.detach() * len(rows)
        float(total / len(x))


def fitted(model: nn.Module, x: Tensor) -> None:
    train.fit(model, x, epochs=EPOCHS, batch_size=BATCH, lr=1e-3, progress=False)


def run(
    loop: Callable[[nn.Module, Tensor], None], make: Callable[[], nn.Module], x: Tensor
) -> tuple[float, nn.Module]:
    random.seed(0)
    model = make()
    start = time.perf_counter()
    loop(model, x)
    return time.perf_counter() - start, model


def main() -> None:
    random.seed(0)
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__} with {torch.get_num_threads()} threads"
    )
    print(f"{EPOCHS} epochs, batches of {BATCH}; median of {ROUNDS} alternating runs\n")
    cases = {
        "autoencoder 784-256-30": (
            lambda: deep_autoencoder([784, 256, 30]),
            torch.rand(20_000, 784),
        ),
        "linear autoencoder 8-2": (lambda: LinearAutoencoder(8, 2), torch.randn(50_000, 8)),
    }
    for name, (make, x) in cases.items():
        times: dict[str, list[float]] = {"bare": [], "fit": []}
        for _ in range(ROUNDS + 1):
            (bare_time, a), (fit_time, b) = run(bare, make, x), run(fitted, make, x)
            times["bare"].append(bare_time)
            times["fit"].append(fit_time)
        if not all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters())):
            raise SystemExit(f"{name}: the two loops end at different weights")
        bare_s, fit_s = (
            statistics.median(values[1:]) for values in times.values()
        )  # the first run warms up
        updates = EPOCHS * -(-len(x) // BATCH)
        print(
            f"{name:26s} bare {bare_s:6.3f} s   fit {fit_s:6.3f} s   {1e6 * bare_s / updates:7.1f} µs an update",
            end="",
        )
        print(f"   ratio {fit_s / bare_s:.3f} (target: at most 1.15)")


if __name__ == "__main__":
    main()
