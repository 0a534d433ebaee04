"""Factor analysis, PPCA and FastICA of lectool beside scikit-learn, the same work in one run.

    python benchmarks/factors.py

Factor analysis with 20 factors on 10,000 images in float64, without constant pixels (about 673 are left):
MNIST's where LECTOOL_DATA names a folder that has them, else random data with factors. PPCA on the same
data. FastICA on 16 sources × 200,000 samples.
"""

import os
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn
import torch
from _race import race
from sklearn import decomposition

from lectool.factors import PPCA, FactorAnalysis, FastICA, amari_distance

N, D, K, ROUNDS = 10_000, 673, 20, 5
SOURCES, SAMPLES = 16, 200_000


def images() -> tuple[torch.Tensor, str]:
    folder = os.environ.get("LECTOOL_DATA")
    if folder and Path(folder, "mnist").is_dir():
        from lectool import data

        x, name = data.digits(n_train=N).x_train.double(), "MNIST"
    else:
        rng = torch.Generator().manual_seed(0)
        loadings = torch.randn(D, K, generator=rng, dtype=torch.float64)
        noise = 0.3 + 3 * torch.rand(D, generator=rng, dtype=torch.float64)
        z = torch.randn(N, K, generator=rng, dtype=torch.float64)
        x = z @ loadings.T + noise * torch.randn(N, D, generator=rng, dtype=torch.float64)
        name = "random, 20 factors"
    return x[:, x.std(0) > 0], name


def mixtures() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Half Laplacian, half uniform sources; the mixing; a common start."""
    rng = torch.Generator().manual_seed(0)
    u = torch.rand(SAMPLES, SOURCES, generator=rng, dtype=torch.float64) - 0.5
    u[:, ::2] = -u[:, ::2].sign() * torch.log1p(-2 * u[:, ::2].abs())
    mixing, start = torch.randn(2, SOURCES, SOURCES, generator=rng, dtype=torch.float64)
    return u @ mixing.T, mixing, start


def alternate(
    calls: dict[str, Callable[[], object]], rounds: int
) -> tuple[dict[str, float], dict[str, object]]:
    """Prints the seconds of each call and returns their medians, and what each returned last."""
    times, results = race(calls, rounds, warm_up=True)
    for name, values in times.items():
        print(
            f"  {name:38s} {statistics.median(values):8.3f} s   (from {min(values):.3f} to {max(values):.3f})"
        )
    return {name: statistics.median(values) for name, values in times.items()}, results


def main() -> None:
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__} with {torch.get_num_threads()} threads, "
        f"scikit-learn {sklearn.__version__}, numpy {np.__version__}"
    )
    x, name = images()
    array = x.numpy()
    print(f"\nFactor analysis, {len(x):,} × {x.shape[1]} {x.dtype} ({name}), {K} factors")
    seconds, fitted = alternate(
        {
            "lectool": lambda: FactorAnalysis(K).fit(x),
            "scikit-learn, lapack": lambda: decomposition.FactorAnalysis(
                K, svd_method="lapack"
            ).fit(array),
        },
        int(os.environ.get("ROUNDS") or 3),
    )
    ours, theirs = fitted.values()
    ratio = seconds["scikit-learn, lapack"] / seconds["lectool"]
    print(f"  lectool is {ratio:.1f} times as fast (target: at least 8)")
    print(
        f"  nats per sample: lectool {ours.score(x):.5f} after {ours.n_iter_} iterations, "
        f"scikit-learn {theirs.score(array):.5f} after {theirs.n_iter_} "
        f"(difference {ours.score(x) - theirs.score(array):+.1e}; target: within 1e-3)"
    )
    smallest = min(b - a for a, b in zip(ours.loglike_, ours.loglike_[1:]))
    print(f"  smallest step of lectool's likelihood: {smallest:.1e} (target: never below 0)")

    print(f"\nPPCA, the same data, {K} components")
    seconds, fitted = alternate(
        {
            "lectool, PPCA": lambda: PPCA(K).fit(x),
            "scikit-learn, PCA covariance_eigh": lambda: decomposition.PCA(
                K, svd_solver="covariance_eigh"
            ).fit(array),
            "scikit-learn, PCA full": lambda: decomposition.PCA(K, svd_solver="full").fit(array),
        },
        ROUNDS,
    )
    ours, *rest = seconds.values()
    print(f"  ratio to the fastest of scikit-learn's: {ours / min(rest):.2f} (target: at most 1)")
    ours, _, theirs = fitted.values()
    relative = ours.score(x) / theirs.score(array) - 1
    print(f"  score: relative difference {relative:+.1e} (target: within 1e-6)")

    mixed, mixing, start = mixtures()
    array = mixed.numpy()
    print(f"\nFastICA, logcosh, symmetric, {SOURCES} sources × {SAMPLES:,} samples {mixed.dtype}")
    calls = {"lectool": lambda: FastICA(w_init=start).fit(mixed)}
    for solver in ("svd", "eigh"):
        calls[f"scikit-learn, whiten_solver {solver}"] = lambda solver=solver: (
            decomposition.FastICA(
                whiten="unit-variance", whiten_solver=solver, w_init=start.numpy()
            ).fit(array)
        )
    seconds, fitted = alternate(calls, ROUNDS)
    ours, *rest = seconds.values()
    print(
        f"  ratio to scikit-learn's default (svd): {ours / rest[0]:.2f}, to the faster: {ours / min(rest):.2f} "
        "(target: at most 1)"
    )
    for name, model in fitted.items():
        distance = amari_distance(torch.as_tensor(model.components_), mixing)
        print(f"  Amari distance, {name}: {distance:.5f} after {model.n_iter_} iterations")


if __name__ == "__main__":
    main()
