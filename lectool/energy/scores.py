r"""Chapters 03 and 10: the score, the gradient of a log-density, where it is known exactly."""

import torch
from torch import Tensor

from lectool import check

__all__ = ["mixture_denoiser", "mixture_score"]


def mixture_score(x: Tensor, means: Tensor, sd: float) -> Tensor:
    r"""The score :math:`\nabla_x \log p(x)` of a mixture of equal round Gaussians, exactly.

    With responsibilities :math:`r_k \propto \exp(-\lVert x - \mu_k \rVert^2 / 2 s^2)` that sum to one,

    .. math:: \nabla_x \log p(x) = \frac{\sum_k r_k \mu_k - x}{s^2}.

    Adding noise N(0, σ²) to the data makes s² to s² + σ².

    Arguments:
        x: points, shape (n, d).
        means: of the components, shape (k, d).
        sd: standard deviation s of each, > 0.

    Returns:
        shape (n, d).
    """
    check.positive(sd=sd)
    check.data(x, width=means.shape[1])
    r = (-torch.cdist(x, means).square() / (2 * sd**2)).softmax(1)
    return (r @ means - x) / sd**2


def mixture_denoiser(x_noisy: Tensor, means: Tensor, sd: float, sigma: float) -> Tensor:
    r"""The best guess :math:`E[x \mid \tilde x]` under squared error, for a mixture as in :func:`mixture_score`.

    From the rule for conditioning Gaussians, component by component; no score is used:

    .. math::
        E[x \mid \tilde x] = \sum_k \tilde r_k \left( \mu_k + \frac{s^2}{s^2 + \sigma^2} (\tilde x - \mu_k) \right),

    where the responsibilities :math:`\tilde r_k` belong to the noisy point, with variance s² + σ².

    Arguments:
        x_noisy: points, shape (n, d).
        means, sd: the mixture, shape (k, d) and > 0.
        sigma: standard deviation of the noise, > 0.
    """
    check.positive(sd=sd, sigma=sigma)
    check.data(x_noisy, "x_noisy", width=means.shape[1])
    total = sd**2 + sigma**2
    r = (-torch.cdist(x_noisy, means).square() / (2 * total)).softmax(1)
    guesses = means + sd**2 / total * (x_noisy[:, None] - means)  # (n, k, d)
    return (r[:, :, None] * guesses).sum(1)
