r"""Chapter 08: the gradient of an expectation, :math:`\nabla_\varphi E_{q_\varphi} f(z)`, from draws of z, in two ways.

All estimators return one row a draw. Their mean estimates the gradient; their variance, divided by the number of draws,
is that estimate's.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from lectool import check

__all__ = [
    "best_baseline",
    "beta",
    "cauchy",
    "control_variate",
    "erlang",
    "exponential",
    "gaussian_log_prob",
    "leave_one_out",
    "location_scale",
    "log_normal",
    "logistic",
    "pathwise_gradients",
    "score_gradients",
    "scores",
]

# ------------------------------------------------------------------------------------------------ estimators


def scores(log_q: Callable[[Tensor, Tensor], Tensor], z: Tensor, parameters: Tensor) -> Tensor:
    r"""The scores of draws, :math:`\nabla \log q(z)` in the parameters φ; their expectation is 0.

    Arguments:
        log_q: maps one draw, shape (…), and the parameters to :math:`\log q_\varphi(z)`, a scalar.
        z: draws, shape (n, …).
        parameters: φ, shape (p,).

    Returns:
        shape (n, p).
    """
    return vmap(grad(lambda phi, one: log_q(one, phi)), (None, 0))(parameters, z.detach())


def score_gradients(values: Tensor, scores: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    r"""Score-function estimator (REINFORCE) of each draw, :math:`(f(z) - b) \nabla \log q(z)`.

    It needs values of f only, no derivative, and takes discrete z. A baseline b changes no expectation, because that
    of the score is 0, as long as it does not depend on the draw itself.

    Arguments:
        values: f(z), shape (n,).
        scores: from :func:`scores`, shape (n, p).
        baseline: b: a number, one for each parameter (p,), or one for each draw (n, 1).

    Returns:
        shape (n, p).

    References:
        Williams (1992), Simple statistical gradient-following algorithms for connectionist reinforcement learning.
    """
    check.lengths(values=values, scores=scores)
    return (values[:, None] - baseline) * scores


def leave_one_out(values: Tensor) -> Tensor:
    r"""A baseline for each draw: the mean of f over all other draws, shape (n, 1).

    The mean over all of them would depend on the draw, and pull the estimate towards 0 by a share of 1/n.

    Raises:
        ValueError: if there are fewer than two draws.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} values; expected at least two draws")
    return ((values.sum() - values) / (len(values) - 1))[:, None]


def best_baseline(values: Tensor, scores: Tensor) -> Tensor:
    r"""The constant with the least variance for each parameter, :math:`E[f s^2] / E[s^2]`, shape (p,).

    Take it from other draws than those of the estimate, or a small bias comes in.

    References:
        Weaver & Tao (2001), The optimal reward baseline for gradient-based reinforcement learning.
    """
    check.lengths(values=values, scores=scores)
    squares = scores.square()
    return (values[:, None] * squares).mean(0) / squares.mean(0).clamp(min=1e-30)


def control_variate(values: Tensor, other: Tensor, expected: Tensor | float) -> Tensor:
    r"""Less noise by something correlated whose expectation is known: :math:`g - c\,(h - E h)`.

    The weight :math:`c = \mathrm{cov}(g, h) / \mathrm{var}(h)` leaves a share :math:`1 - \rho^2` of the variance, for
    their correlation ρ. It is fitted to the same draws, which costs a bias of order 1/n.

    Arguments:
        values: g, shape (n,) or (n, p).
        other: h, of the same shape.
        expected: :math:`E h`, exactly; a number or one for each column.

    Returns:
        the new values, whose expectation is that of g.
    """
    if values.shape != other.shape or len(values) < 2:
        raise ValueError(
            f"values have shape {tuple(values.shape)}, other {tuple(other.shape)}; expected the same, "
            "of at least two draws"
        )
    centered = other - other.mean(0)
    c = ((values - values.mean(0)) * centered).sum(0) / centered.square().sum(0).clamp(min=1e-30)
    return values - c * (other - expected)


def pathwise_gradients(
    f: Callable[[Tensor], Tensor],
    path: Callable[[Tensor, Tensor], Tensor],
    parameters: Tensor,
    epsilon: Tensor,
) -> Tensor:
    r"""Reparameterized estimator of each draw: the derivative of f along the path by which φ moves it.

    .. math:: \nabla_\varphi E_{q_\varphi} f(z) = E_\epsilon \nabla_\varphi f(t(\varphi, \epsilon)),
        \qquad z = t(\varphi, \epsilon)

    Arguments:
        f: maps one z to a scalar; differentiable, without jumps.
        path: t, maps φ (p,) and the noise of one draw, shape (…), to z; :func:`location_scale`, for instance.
        parameters: φ, shape (p,).
        epsilon: noise whose distribution does not depend on φ, shape (n, …).

    Returns:
        shape (n, p).

    References:
        Kingma & Welling (2014), Auto-encoding variational Bayes, section 2.4.
    """
    return vmap(grad(lambda phi, one: f(path(phi, one))), (None, 0))(parameters, epsilon)


# ------------------------------------------------------------------------------------------------ paths


def gaussian_log_prob(z: Tensor, parameters: Tensor) -> Tensor:
    r"""Log-density of N(m, s²) in nats, for parameters (m, log s), shape of z."""
    m, log_s = parameters
    return -0.5 * ((z - m) / log_s.exp()).square() - log_s - 0.5 * math.log(2 * math.pi)


def location_scale(parameters: Tensor, epsilon: Tensor) -> Tensor:
    r"""Location–scale: :math:`z = m + s \epsilon` for parameters (m, log s).

    With ε from N(0, 1) it is Gaussian; with noise from a Laplace, a Student t or a logistic distribution, it is one of
    these.
    """
    m, log_s = parameters
    return m + log_s.exp() * epsilon


def exponential(parameters: Tensor, u: Tensor) -> Tensor:
    r"""Inverse cdf: :math:`z = -\log(1 - u) / \lambda` has an exponential distribution, for parameters (log λ,)."""
    return -torch.log1p(-u) / parameters[0].exp()


def logistic(parameters: Tensor, u: Tensor) -> Tensor:
    r"""Inverse cdf: :math:`z = m + s \log(u / (1 - u))` has a logistic distribution, for parameters (m, log s)."""
    return parameters[0] + parameters[1].exp() * (u.log() - torch.log1p(-u))


def cauchy(parameters: Tensor, u: Tensor) -> Tensor:
    r"""Inverse cdf: :math:`z = m + s \tan(\pi (u - \tfrac12))` has a Cauchy distribution, for parameters (m, log s)."""
    return parameters[0] + parameters[1].exp() * torch.tan(math.pi * (u - 0.5))


def log_normal(parameters: Tensor, epsilon: Tensor) -> Tensor:
    r"""Composition: the exponential of a Gaussian, :math:`z = e^{m + s \epsilon}`, for parameters (m, log s)."""
    return location_scale(parameters, epsilon).exp()


def erlang(parameters: Tensor, u: Tensor) -> Tensor:
    r"""Composition: a sum of exponential variables has a Gamma distribution of whole shape, for parameters (log λ,).

    The sum goes along the last axis of u, whose length is the shape parameter.
    """
    return exponential(parameters, u).sum(-1)


def beta(u: Tensor, v: Tensor) -> Tensor:
    r"""Composition: :math:`a / (a + b)` of two :func:`erlang` variables has a Beta distribution of whole shapes.

    Arguments:
        u, v: uniform noise, whose last axes have the lengths α and β.
    """
    rate = torch.zeros(1).to(u)
    a, b = erlang(rate, u), erlang(rate, v)
    return a / (a + b)
