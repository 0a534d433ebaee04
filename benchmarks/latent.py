"""Mixtures of Gaussians and topics by lectool and by scikit-learn, the same work in one run.

    python benchmarks/latent.py

100,000 points of 16 features from ten overlapping Gaussians, float64: EM from one start, and variational Bayes from the
k-means of each. Latent Dirichlet allocation on 2,000 documents of 100 words from 20 topics over 2,000 words:
scikit-learn gets them as a sparse matrix and both ways of counting: passes as they come, and passes with as many
updates of a document as lectool's. The number of threads is 2 for both (LECTOOL_THREADS sets another).

Seconds an iteration are the difference of two fits, of which one has more iterations, so that the start does not count.
The last column is what both maximize, computed by one formula for both; equal numbers say that the work is equal.
"""

import os
import statistics
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import sklearn
import torch
from _race import race
from scipy.sparse import csr_matrix
from sklearn import decomposition, mixture
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from lectool import latent

THREADS = int(os.environ.get("LECTOOL_THREADS", 2))
N, D, K, ROUNDS = 100_000, 16, 10, 3
N_DOCUMENTS, N_WORDS, VOCABULARY, TOPICS, PASSES = 2_000, 100, 2_000, 20, 20
FEW, MANY = 1, 11  # iterations of the two fits whose difference counts


def timed(
    calls: dict[str, Callable[[int], Any]], few: int, many: int
) -> dict[str, tuple[float, Any]]:
    """Median seconds an iteration of each, from the difference of two fits, and the last result of many iterations."""
    counts = {"few": few, "many": many}
    fits = {(name, c): partial(call, n) for name, call in calls.items() for c, n in counts.items()}
    seconds, results = race(fits, ROUNDS)
    found = {}
    for name in calls:
        fit = results[name, "many"]
        extra = fit.n_iter_ - results[name, "few"].n_iter_
        both = zip(seconds[name, "few"], seconds[name, "many"])
        found[name] = statistics.median((b - a) / extra for a, b in both), fit
    return found


def report(
    title: str, found: dict[str, tuple[float, Any]], unit: str, value: Callable[[Any], float]
) -> None:
    first = next(iter(found.values()))[0]
    print(f"\n{title}")
    for name, (seconds, model) in found.items():
        print(
            f"  {name:40} {1e3 * seconds:8.1f} ms {unit}   {seconds / first:5.2f} × lectool's"
            f"   {value(model):.6f}"
        )


# --- mixtures -------------------------------------------------------------------------------------------------------


def points() -> tuple[Tensor, Tensor]:
    """Data, shape (N, D), and ten of them to start from."""
    rng = torch.Generator().manual_seed(0)
    options: dict[str, Any] = {"generator": rng, "dtype": torch.float64}
    means = 0.5 * torch.randn(K, D, **options)
    roots = torch.randn(K, D, D, **options) / D**0.5
    owner = torch.randint(K, (N,), generator=rng)
    noise = torch.randn(N, D, **options)
    x = means[owner] + torch.einsum("nij,nj->ni", roots[owner], noise) + 0.3 * noise
    return x, x[torch.randperm(N, generator=rng)[:K]]


def mean_log_density(x: Tensor, weights: Any, means: Any, covariances: Any) -> float:
    weights, means, covariances = (torch.as_tensor(t) for t in (weights, means, covariances))
    U = latent.precision_factors(covariances)
    joint = [latent.log_gaussians(part, means, U) + weights.log() for part in x.split(10_000)]
    return torch.cat(joint).logsumexp(1).mean().item()


def by_em(x: Tensor, start: Tensor) -> None:
    weights = torch.full((K,), 1 / K, dtype=x.dtype)
    precisions = torch.diag(1 / x.var(0)).expand(K, D, D).contiguous()
    init = {"weights_init": weights, "means_init": start, "precisions_init": precisions}
    theirs = {name: t.numpy() for name, t in init.items()}
    calls = {
        "lectool.latent.GaussianMixture": lambda n: latent.GaussianMixture(
            K, tol=0, max_iter=n, **init
        ).fit(x),
        "sklearn.mixture.GaussianMixture": lambda n: mixture.GaussianMixture(
            K, tol=0, max_iter=n, reg_covar=0, **theirs
        ).fit(x.numpy()),
    }
    report(
        f"EM, {N:,} × {D}, {K} components, from one start; log-likelihood in nats a sample",
        timed(calls, FEW, MANY),
        "an iteration",
        lambda model: mean_log_density(x, model.weights_, model.means_, model.covariances_),
    )


def by_bayes(x: Tensor) -> None:
    prior = {"weight_concentration_prior": 1 / K, "mean_precision_prior": 1.0}
    calls = {
        "lectool.latent.VariationalGaussianMixture": lambda n: latent.VariationalGaussianMixture(
            K, tol=0, max_iter=n, generator=torch.Generator().manual_seed(0), **prior
        ).fit(x),
        "sklearn.mixture.BayesianGaussianMixture": lambda n: mixture.BayesianGaussianMixture(
            n_components=K,
            tol=0,
            max_iter=n,
            reg_covar=0,
            random_state=0,
            weight_concentration_prior_type="dirichlet_distribution",
            **prior,
        ).fit(x.numpy()),
    }
    report(
        "variational Bayes; log-likelihood of the expected parameters in nats a sample",
        timed(calls, FEW, MANY),
        "an iteration",
        lambda model: mean_log_density(x, model.weights_, model.means_, model.covariances_),
    )


# --- topics ---------------------------------------------------------------------------------------------------------


def documents() -> Tensor:
    rng = torch.Generator().manual_seed(0)
    weights = torch.rand(TOPICS, VOCABULARY, generator=rng).pow(8)
    topics = weights / weights.sum(1, keepdim=True)
    return latent.sample_documents(topics, N_DOCUMENTS, n_words=N_WORDS, generator=rng)[0]


def topics(x: Tensor) -> None:
    sparse, n_words = csr_matrix(x.numpy()), x.sum().item()
    ours = latent.LDA(TOPICS)  # for its bound, with the priors of all
    settings = {"learning_method": "batch", "random_state": 0, "n_jobs": THREADS}

    def theirs(**more: Any) -> Callable[[int], Any]:
        return lambda n: decomposition.LatentDirichletAllocation(
            TOPICS, max_iter=n, **settings, **more
        ).fit(sparse)

    def bound(model: Any) -> float:
        ours.components_ = torch.as_tensor(model.components_).to(x)
        return ours.score(x) / n_words

    calls = {
        "lectool.latent.LDA": lambda n: latent.LDA(
            TOPICS, tol=0, max_iter=n, generator=torch.Generator().manual_seed(0)
        ).fit(x),
        "sklearn's, at most 100 updates a document": theirs(),
        "sklearn's, at most 10 updates": theirs(max_doc_update_iter=10),
    }
    report(
        f"LDA, {N_DOCUMENTS:,} documents of {N_WORDS} words out of {VOCABULARY:,}, {TOPICS} topics, {PASSES} passes; "
        "bound in nats a word",
        timed(calls, FEW, PASSES),
        "a pass",
        bound,
    )


def main() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(THREADS)
    versions = (
        f"torch {torch.__version__}, NumPy {np.__version__}, scikit-learn {sklearn.__version__}"
    )
    print(f"{os.cpu_count()} cores, {THREADS} threads, {versions}")
    with threadpool_limits(THREADS):  # NumPy's and scikit-learn's
        x, start = points()
        by_em(x, start)
        by_bayes(x)
        topics(documents())


if __name__ == "__main__":
    main()
