r"""Warnings and names that the factor models share."""

import math
import warnings
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from torch import Tensor


def done(model: Any, step: int) -> bool:
    r"""Whether EM may stop after this many steps; warns where it stops only because they are used up."""
    model.n_iter_, values = step, model.loglike_
    change = values[-1] - values[-2] if step else math.inf
    if change >= model.tol and step == model.max_iter:
        warn_not_converged(type(model).__name__, step, change, model.tol)
    return change < model.tol or step == model.max_iter


def warn_not_converged(name: str, n_iter: int, change: float, tol: float) -> None:
    warnings.warn(
        f"{name}: not converged after {n_iter} iterations, last change {change:.2e}, tol {tol:.0e}; "
        "raise max_iter or tol",
        ConvergenceWarning,
        stacklevel=4,
    )


def listed(where: Tensor, most: int = 5) -> str:
    found = where.nonzero()[:, 0].tolist()
    text = ", ".join(str(j) for j in found[:most]) + (" …" if len(found) > most else "")
    return f"feature {text}" if len(found) == 1 else f"features {text}" if found else ""
