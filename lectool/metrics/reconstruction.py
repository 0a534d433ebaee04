r"""How much of the data comes back."""

import math

from torch import Tensor

from lectool import check

__all__ = ["psnr", "reconstruction_error"]


def reconstruction_error(x: Tensor, x_hat: Tensor) -> float:
    r"""The squared error of a sample, summed over its numbers, on average over all samples.

    .. math:: \frac1n \sum_{i=1}^n \lVert x_i - \hat x_i \rVert^2

    Arguments:
        x, x_hat: data and their reconstruction, of one shape (n, …).

    Raises:
        ValueError: if the shapes differ, there is no sample, or a number is NaN or infinite.
    """
    if x.shape != x_hat.shape or x.numel() == 0:
        raise ValueError(
            f"shapes are {tuple(x.shape)} and {tuple(x_hat.shape)}; expected the same, not empty"
        )
    check.data(x, n_dims=x.ndim)
    check.data(x_hat, "x_hat", n_dims=x.ndim)
    return ((x - x_hat) ** 2).sum().item() / len(x)


def psnr(error: float, d: int, peak: float = 1.0) -> float:
    r"""Peak signal-to-noise ratio in decibels: a squared error in units of the largest possible one.

    .. math:: 10 \log_{10} \frac{d \cdot \text{peak}^2}{\text{error}}

    Arguments:
        error: squared error, summed over ``d`` pixels, > 0.
        d: number of pixels, ≥ 1.
        peak: the largest value of a pixel, > 0.

    Raises:
        ValueError: if a number is out of range.
    """
    check.positive(error=error, peak=peak)
    check.at_least(1, d=d)
    return 10 * math.log10(peak**2 * d / error)
