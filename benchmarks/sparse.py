"""Sparse codes and dictionary learning of lectool beside SPAMS and scikit-learn, the same work in one run.

    python benchmarks/sparse.py

Whitened 8×8 patches of length 1 from scikit-learn's photographs, 256 atoms, two threads each (LECTOOL_THREADS sets
another number). SPAMS is left out where `spams-bin` is not installed. Each row says how far above the best objective
it ends, since a faster and a better code are not the same thing. scikit-learn codes a tenth of the signals, and its
time is multiplied by ten.
"""

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
import torch
from _race import medians
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from torch import Tensor

from lectool import data, random, sparse
from lectool.pca import Whitening

THREADS = int(os.environ.get("LECTOOL_THREADS", 2))
N_CODES, N_LEARN, K, BATCH, ROUNDS = 20_000, 50_000, 256, 512, 3

try:
    import spams
except ImportError:
    spams = None


def load(n: int) -> Tensor:
    x = data.patches(n, size=8)
    x = x - x.mean(1, keepdim=True)
    x = Whitening().fit(x).transform(x)
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-3)


def cost(x: Tensor, D: Tensor, z: Tensor, lam: float) -> float:
    return sparse.objective(x, D, z, lam).double().mean().item()


def coding(x: Tensor, D: Tensor, lam: float) -> None:
    columns, atoms = np.asfortranarray(x.numpy().T), np.asfortranarray(D.numpy())
    few = x[: len(x) // 10]

    def blocks(n_steps: int) -> Tensor:
        way = {"n_steps": n_steps, "restart": False}
        return torch.cat([sparse.fista(b, D, lam, **way) for b in x.split(sparse.inference.BLOCK)])

    calls: dict[str, Callable[[], Any]] = {
        "lectool, 40 FISTA steps": lambda: blocks(40),
        "lectool, 80 FISTA steps": lambda: blocks(80),
        "lectool, lasso(tol=0.02)": lambda: sparse.lasso(x, D, lam, tol=0.02),
    }
    if spams:
        calls["SPAMS, lasso (LARS)"] = lambda: spams.lasso(
            columns, D=atoms, lambda1=lam, mode=2, numThreads=THREADS
        )
    calls["scikit-learn, lasso_cd"] = lambda: sparse_encode(
        few.numpy(),
        D.T.contiguous().numpy(),
        algorithm="lasso_cd",
        alpha=lam,
        max_iter=1000,
        n_jobs=THREADS,
    )
    best = sparse.lasso(x, D, lam, tol=1e-5, max_steps=4000)
    used = (best != 0).sum(1).float().mean()
    print(f"\n{len(x):,} codes, λ = {lam}: {used:.1f} of {K} atoms in use")
    for name, (seconds, z) in medians(calls, ROUNDS).items():
        part, share = (few, 10) if "scikit" in name else (x, 1)
        z = torch.as_tensor(z.toarray().T if hasattr(z, "toarray") else z).to(x)
        above = cost(part, D, z, lam) / cost(part, D, best[: len(part)], lam) - 1
        print(f"  {name:26} {share * seconds:7.2f} s   {above:+.1e} above the minimum")


def learning(x: Tensor, lam: float) -> Tensor:
    held_out = load(5000)
    columns, n_batches = np.asfortranarray(x.numpy().T), len(x) // BATCH + 1

    def ours() -> Tensor:
        model = sparse.OnlineDictionaryLearning(
            K, lam, batch_size=BATCH, n_steps=20, generator=random.generator(0)
        )
        return model.fit(x).D_

    def theirs() -> Tensor:
        model = MiniBatchDictionaryLearning(
            K,
            alpha=lam,
            batch_size=BATCH,
            max_iter=1,
            fit_algorithm="cd",
            n_jobs=THREADS,
            random_state=0,
            tol=0,
            max_no_improvement=None,
        )
        return torch.as_tensor(model.fit(x.numpy()).components_.T.copy())

    calls: dict[str, Callable[[], Tensor]] = {"lectool, online": ours}
    if spams:
        settings = {"K": K, "lambda1": lam, "mode": 2, "batchsize": BATCH, "iter": n_batches}
        calls["SPAMS, trainDL"] = lambda: torch.as_tensor(
            spams.trainDL(columns, numThreads=THREADS, verbose=False, **settings)
        )
    found = medians(calls, ROUNDS) | medians({"scikit-learn, mini-batch": theirs}, 1)
    print(f"\none pass over {len(x):,} patches, batches of {BATCH}, λ = {lam}")
    for name, (seconds, D) in found.items():
        end = cost(held_out, D, sparse.lasso(held_out, D, lam), lam)
        print(f"  {name:26} {seconds:7.2f} s   objective of 5,000 patches {end:.4f}")
    return found["lectool, online"][1]


def main() -> None:
    warnings.filterwarnings("ignore", module="sklearn")
    torch.set_num_threads(THREADS)
    random.seed(0)
    versions = f"torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    print(
        f"{os.cpu_count()} cores, {THREADS} threads, {versions}, SPAMS {'yes' if spams else 'no'}"
    )
    D = learning(load(N_LEARN), 0.15)
    x = load(N_CODES)
    for lam in (0.05, 0.15, 0.3):
        coding(x, D, lam)


if __name__ == "__main__":
    main()
