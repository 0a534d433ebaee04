"""PCA of lectool beside scikit-learn's exact solvers, the same work in one run.

    python benchmarks/pca.py

50,000 × 784 numbers in float32: MNIST's training images where LECTOOL_DATA names a folder that has them,
else random data with a spectrum like MNIST's.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.decomposition import PCA as SklearnPCA

from lectool.pca import PCA

N, D, K, ROUNDS = 50_000, 784, 30, 5


def load() -> tuple[torch.Tensor, str]:
    folder = os.environ.get("LECTOOL_DATA")
    if folder and Path(folder, "mnist").is_dir():
        from lectool import data

        return data.digits(n_train=N).x_train, "MNIST"
    rng = torch.Generator().manual_seed(0)
    spread = torch.arange(1, D + 1) ** -0.9
    turn = torch.linalg.qr(torch.randn(D, D, generator=rng)).Q
    return (
        torch.randn(N, D, generator=rng) * spread
    ) @ turn.T + 0.13, "random, spectrum like MNIST's"


def seconds(call: Callable[[], object]) -> float:
    time.sleep(0.1)  # threads of the library that ran before spin for a while
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    x, name = load()
    array = x.numpy()
    solvers: dict[str, Callable[[], object]] = {"lectool, covariance": lambda: PCA(K).fit(x)}
    for solver in ("covariance_eigh", "full"):
        try:
            SklearnPCA(2, svd_solver=solver).fit(np.eye(4))
        except ValueError:  # covariance_eigh came with scikit-learn 1.5
            continue
        solvers[f"scikit-learn, {solver}"] = lambda solver=solver: SklearnPCA(
            K, svd_solver=solver
        ).fit(array)
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__} with {torch.get_num_threads()} threads, ",
        end="",
    )
    print(f"scikit-learn {sklearn.__version__}, numpy {np.__version__}")
    print(
        f"{len(x):,} × {x.shape[1]} {x.dtype} ({name}), {K} components; median of {ROUNDS} alternating runs\n"
    )

    times: dict[str, list[float]] = {solver: [] for solver in solvers}
    for call in solvers.values():  # threads, caches and memory once
        call()
    for _ in range(ROUNDS):
        for solver, call in solvers.items():
            times[solver].append(seconds(call))
    median = {solver: statistics.median(values) for solver, values in times.items()}
    for solver, value in median.items():
        print(
            f"{solver:32s} {value:7.3f} s   (from {min(times[solver]):.3f} to {max(times[solver]):.3f})"
        )
    ours, *theirs = median.values()
    print(
        f"\nratio of lectool to the fastest of scikit-learn: {ours / min(theirs):.2f} (target: at most 1.2)"
    )

    exact = SklearnPCA(K, svd_solver="full").fit(array)
    share = PCA(K).fit(x).explained_variance_ratio_.sum().item()
    print(
        f"variance explained: lectool {share:.6f}, scikit-learn {exact.explained_variance_ratio_.sum():.6f}"
    )


if __name__ == "__main__":
    main()
