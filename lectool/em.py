r"""Expectation–maximization: the one loop that climbs every likelihood with hidden variables."""

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

__all__ = ["climb", "extrapolate", "further", "warn_not_converged"]

Parameters = tuple[Tensor, ...]


def climb(
    e_step: Callable[..., tuple[float, tuple]],
    m_step: Callable[..., Parameters],
    parameters: Parameters,
    *,
    max_iter: int,
    tol: float,
    name: str,
    leap: Callable[..., Parameters] | None = None,
) -> tuple[Parameters, tuple, list[float]]:
    r"""Alternates E-step and M-step until the likelihood gains less than ``tol``.

    In theory it never falls. An iteration that falls all the same, by rounding or by a mistake in a step, is recorded
    like every other and is the last one; its parameters are not taken.

    With a ``leap`` an iteration consists of two M-steps and a guess at where they lead, which is taken only if it is
    more likely than where they are.

    Arguments:
        e_step: maps parameters to their log-likelihood and a tuple of expectations under the posterior.
        m_step: maps these expectations to the parameters that make them most likely.
        parameters: where to start.
        max_iter: number of iterations at most.
        tol: smallest gain in log-likelihood that is worth another iteration.
        name: of the model, for the warning where ``max_iter`` iterations were too few.
        leap: maps three successive sets of parameters to a guess, as :func:`extrapolate` does.

    Returns:
        parameters: the most likely ones found.
        expected: the expectations that belong to them.
        loglike: log-likelihood at the start and after each iteration, as measured.

    Raises:
        ValueError: if the log-likelihood is no finite number.

    References:
        Dempster, Laird & Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm.
    """

    def at(parameters: Parameters) -> tuple[float, Parameters, tuple]:
        value, expected = e_step(*parameters)
        return value, parameters, expected

    here = at(parameters)
    loglike = [_finite(here[0], name, 0)]
    for step in range(1, max_iter + 1):
        there = at(m_step(*here[2]))
        there = there if leap is None else further(at, m_step, leap, here, there)
        loglike.append(_finite(there[0], name, step))
        change = there[0] - here[0]
        # A fall is recorded, but not taken.
        if change >= 0:
            here = there
        if change < tol:
            break
    else:
        warn_not_converged(name, max_iter, change, tol)
    return here[1], here[2], loglike


def further(at: Callable, m_step: Callable, leap: Callable, here: tuple, there: tuple) -> tuple:
    r"""One more M-step, or the guess at where both steps lead, whichever is more likely."""
    path, there = (here[1], there[1]), at(m_step(*there[2]))
    guess = at(leap(*path, there[1]))
    return guess if guess[0] > there[0] else there


def extrapolate(first: Parameters, second: Parameters, third: Parameters) -> Parameters:
    r"""Where three successive steps :math:`\theta_0, \theta_1, \theta_2` lead to (SQUAREM).

    With the step :math:`r = \theta_1 - \theta_0`, its change :math:`v = \theta_2 - 2\theta_1 + \theta_0` and
    :math:`\alpha = \lVert r \rVert / \lVert v \rVert \ge 1`,

    .. math:: \theta = \theta_0 + 2 \alpha\, r + \alpha^2 v ,

    which is :math:`\theta_2` for :math:`\alpha = 1`. Steps that shrink slowly make :math:`\alpha` large. Tensors of
    positive numbers, such as variances, are extrapolated in their logarithms.

    References:
        Varadhan & Roland (2008), Simple and globally convergent methods for accelerating the convergence of any EM
        algorithm.
    """
    in_logs = [all((t > 0).all() for t in of_one) for of_one in zip(first, second, third)]
    path = [
        [t.log() if log else t for t, log in zip(parameters, in_logs, strict=True)]
        for parameters in (first, second, third)
    ]
    r = [b - a for a, b, _ in zip(*path, strict=True)]
    v = [c - 2 * b + a for a, b, c in zip(*path, strict=True)]
    alpha = max(_norm(r) / max(_norm(v), 1e-300), 1.0)
    found = [a + 2 * alpha * r + alpha**2 * v for a, r, v in zip(path[0], r, v, strict=True)]
    return tuple(t.exp() if log else t for t, log in zip(found, in_logs, strict=True))


def warn_not_converged(name: str, n_iter: int, change: float, tol: float) -> None:
    r"""Tells that iterations stopped only because they were used up."""
    warnings.warn(
        f"{name}: not converged after {n_iter} iterations, last change {change:.2e}, tol {tol:.0e}; "
        "raise max_iter or tol",
        ConvergenceWarning,
        stacklevel=4,
    )


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(torch.sum(t.double() ** 2).item() for t in tensors))


def _finite(value: float, name: str, step: int) -> float:
    if not math.isfinite(value):
        raise ValueError(
            f"{name}: the log-likelihood is {value} after {step} iterations; expected data that leave some noise "
            "to every component"
        )
    return value
