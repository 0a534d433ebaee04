"""Gibbs sampling of the Ising model and exact inference on trees: lectool beside its peers, the same work in one run.

    python benchmarks/graphical.py

A grid of 256 × 256 spins without field at J = 0.3, by lectool, by NumPy and by loops over the pixels, one thread each
(LECTOOL_THREADS sets another number). All start from one grid that has settled; ⟨s s'⟩ is the mean product of neighbors
after the sweeps that follow, which checks the work and not its speed. Compiled loops stand below them where `numba` and
`peapods` are installed.

Random trees of variables with three states: the marginals of all variables by lectool and by the three exact methods
of pgmpy, which are left out where it is not installed. They ask once for each variable, so that their time grows with
the square of the tree or faster; the largest trees are left out of theirs.
"""

import math
import os
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _race import medians
from torch import Tensor

from lectool import graphical

THREADS = int(os.environ.get("LECTOOL_THREADS", 1))
SIDE, COUPLING, ROUNDS = 256, 0.3, 5
SIZES, STATES = (5, 10, 30, 100, 1000), 3
LARGEST = {"belief propagation": 30, "variable elimination": 100, "message passing": 100}

try:
    import numba
except ImportError:
    numba = None
try:
    import peapods
except ImportError:
    peapods = None
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pgmpy
        from pgmpy.factors.discrete import DiscreteFactor
        from pgmpy.inference import VariableElimination
        from pgmpy.inference.ExactInference import (
            BeliefPropagation,
            BeliefPropagationWithMessagePassing,
        )
        from pgmpy.models import DiscreteMarkovNetwork, FactorGraph
except ImportError:
    pgmpy = None


# --- the Ising model ------------------------------------------------------------------------------------------------


def by_roll(s: np.ndarray, n_sweeps: int, rng: np.random.Generator) -> np.ndarray:
    """The usual form: neighbors of the whole grid by np.roll, and a mask for each color."""
    s, black = s.copy(), np.indices(s.shape).sum(0) % 2 == 0
    for _ in range(n_sweeps):
        for color in (black, ~black):
            a = COUPLING * sum(np.roll(s, step, axis) for step in (1, -1) for axis in (0, 1))
            up = rng.random(s.shape) < 1 / (1 + np.exp(-2 * a))
            s = np.where(color, np.where(up, 1.0, -1.0), s)
    return s


def by_slices(s: np.ndarray, n_sweeps: int, rng: np.random.Generator) -> np.ndarray:
    """float32 in a frame of copies of the border, only the spins that move, and a table of the five probabilities."""
    n, frame = len(s), np.zeros((len(s) + 2, len(s) + 2), np.float32)
    frame[1:-1, 1:-1] = s
    up = (1 / (1 + np.exp(-2 * COUPLING * np.arange(-4, 5)))).astype(np.float32)
    for _ in range(n_sweeps):
        for color in (0, 1):
            frame[0], frame[-1] = frame[-2], frame[1]
            frame[:, 0], frame[:, -1] = frame[:, -2], frame[:, 1]
            for row in (0, 1):  # even rows, then odd ones
                i, j = slice(1 + row, n + 1, 2), slice(1 + (row + color) % 2, n + 1, 2)
                above, below = slice(row, n, 2), slice(2 + row, n + 2, 2)
                left, right = slice(j.start - 1, n, 2), slice(j.start + 1, n + 2, 2)
                total = frame[above, j] + frame[below, j] + frame[i, left] + frame[i, right]
                u = rng.random(total.shape, np.float32)
                frame[i, j] = 2 * (u < up[total.astype(np.int8) + 4]) - 1
    return frame[1:-1, 1:-1].astype(float)


def by_pixel(s: np.ndarray, n_sweeps: int, rng: Any) -> np.ndarray:
    """A loop over the pixels of a NumPy array."""
    s, (height, width) = s.copy(), s.shape
    for _ in range(n_sweeps):
        for i in range(height):
            for j in range(width):
                a = COUPLING * (
                    s[i - 1, j] + s[(i + 1) % height, j] + s[i, j - 1] + s[i, (j + 1) % width]
                )
                s[i, j] = 1.0 if rng.random() < 1 / (1 + math.exp(-2 * a)) else -1.0
    return s


def by_list(s: np.ndarray, n_sweeps: int, rng: random.Random) -> np.ndarray:
    """A loop over the pixels of lists of Python's numbers, with a table of the five probabilities."""
    grid, (height, width), draw = s.astype(int).tolist(), s.shape, rng.random
    up = [1 / (1 + math.exp(-2 * COUPLING * total)) for total in (0, 1, 2, 3, 4, -4, -3, -2, -1)]
    for _ in range(n_sweeps):
        for i in range(height):
            above, row, below = grid[i - 1], grid[i], grid[(i + 1) % height]
            for j in range(width):
                total = above[j] + below[j] + row[j - 1] + row[(j + 1) % width]
                row[j] = 1 if draw() < up[total] else -1
    return np.array(grid, float)


def likeness(s: Any) -> float:
    s = np.asarray(s, float)
    return float(np.mean(s * (np.roll(s, 1, 0) + np.roll(s, 1, 1)) / 2))


def ising() -> None:
    model = graphical.Ising(SIDE, SIDE, coupling=COUPLING)
    torch.manual_seed(0)
    settled = model.gibbs(torch.ones(SIDE, SIDE), 300)
    s, rng, old = settled.double().numpy(), np.random.default_rng(0), random.Random(0)
    arrays: dict[str, tuple[int, Callable[[int], Any]]] = {
        "lectool": (100, lambda n: model.gibbs(settled, n)),
        "NumPy, slices, float32": (100, lambda n: by_slices(s, n, rng)),
        "NumPy, np.roll and a mask": (20, lambda n: by_roll(s, n, rng)),
        "loop over Python lists": (2, lambda n: by_list(s, n, old)),
        "loop over a NumPy array": (1, lambda n: by_pixel(s, n, old)),
    }
    if numba:
        run = numba.njit(by_pixel)
        arrays["Numba, the same loop compiled"] = (100, lambda n: run(s, n, rng))
    if peapods:
        theirs = peapods.Ising((SIDE, SIDE), temperatures=np.array([1 / COUPLING]))
        way = {"sweep_mode": "gibbs", "warmup_ratio": 0.5}
        theirs.sample(300, **way)
        arrays["peapods, compiled (Rust)"] = (100, lambda n: theirs.sample(n, **way))
    rows = {name: lambda n=n, call=call: call(n) for name, (n, call) in arrays.items()}
    found = medians(rows, ROUNDS, warm_up=True)
    print(f"\nIsing model, {SIDE} × {SIDE}, J = {COUPLING}: milliseconds a sweep")
    first = found["lectool"][0] / arrays["lectool"][0]
    for name, (seconds, grid) in found.items():
        each = seconds / arrays[name][0]
        like = "" if "peapods" in name else f"⟨s s'⟩ = {likeness(grid):.3f}"
        print(f"  {name:28} {1e3 * each:9.3f} ms   {each / first:8.2f} × lectool's   {like}")


# --- trees ----------------------------------------------------------------------------------------------------------


def tree(n: int) -> list[tuple[tuple[str, str], Tensor]]:
    """The factors of a random tree: each variable is linked with one of those before it."""
    rng = torch.Generator().manual_seed(n)
    links = [(f"x{int(torch.randint(i, (), generator=rng))}", f"x{i}") for i in range(1, n)]
    return [
        (link, torch.rand(STATES, STATES, generator=rng, dtype=torch.float64)) for link in links
    ]


def their_factors(factors: list[tuple[tuple[str, str], Tensor]]) -> list[Any]:
    return [DiscreteFactor(list(link), list(t.shape), t.numpy()) for link, t in factors]


def their_network(factors: list[tuple[tuple[str, str], Tensor]]) -> Any:
    model = DiscreteMarkovNetwork([link for link, _ in factors])
    model.add_factors(*their_factors(factors))
    return model


def their_graph(factors: list[tuple[tuple[str, str], Tensor]]) -> Any:
    model = FactorGraph()
    for factor in their_factors(factors):
        model.add_nodes_from(factor.variables)
        model.add_factors(factor)
        model.add_edges_from((name, factor) for name in factor.variables)
    return model


def one_by_one(way: Any, names: list[str]) -> dict[str, Any]:
    return {name: way.query([name], show_progress=False) for name in names}


def by_propagation(model: Any, names: list[str]) -> dict[str, Any]:
    way = BeliefPropagation(model)
    way.calibrate()
    return one_by_one(way, names)


def trees(n: int) -> None:
    factors = tree(n)
    names = [f"x{i}" for i in range(n)]
    calls: dict[str, Callable[[], dict[str, Any]]] = {
        "lectool": lambda: graphical.FactorGraph(factors).marginals()
    }
    if pgmpy:
        model, graph = their_network(factors), their_graph(factors)
        peers = {
            "belief propagation": lambda: by_propagation(model, names),
            "variable elimination": lambda: one_by_one(VariableElimination(model), names),
            "message passing": lambda: BeliefPropagationWithMessagePassing(graph).query(names),
        }
        calls |= {f"pgmpy, {way}": call for way, call in peers.items() if n <= LARGEST[way]}
    found = medians(calls, 3, warm_up=True)
    first, truth = found["lectool"]
    for name, (seconds, marginals) in found.items():
        worst = max(abs(values(marginals[v]) - values(truth[v])).max() for v in names)
        print(
            f"  {n:5} variables   {name:28} {1e3 * seconds:10.2f} ms   {seconds / first:8.2f} × lectool's"
            f"   largest difference {worst:.0e}"
        )


def values(marginal: Any) -> np.ndarray:
    table = marginal.numpy() if isinstance(marginal, Tensor) else marginal.values
    return table / table.sum()  # variable elimination leaves them unnormalized


def main() -> None:
    torch.set_num_threads(THREADS)
    versions = f"torch {torch.__version__}, NumPy {np.__version__}"
    others = f"pgmpy {pgmpy.__version__ if pgmpy else 'no'}"
    print(f"{os.cpu_count()} cores, {THREADS} thread, {versions}, {others}")
    ising()
    print(f"\nmarginals of all variables of a random tree, {STATES} states each")
    for n in SIZES:
        trees(n)


if __name__ == "__main__":
    main()
