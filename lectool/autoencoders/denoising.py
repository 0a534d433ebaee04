r"""Chapter 03: autoencoders that are kept from copying by noise."""

import torch
from torch import Tensor, nn

from lectool import check, random
from lectool.autoencoders.plain import Autoencoder

__all__ = ["Denoising", "GatedAutoencoder", "corrupt"]


def corrupt(x: Tensor, kind: str, level: float, generator: torch.Generator | None = None) -> Tensor:
    r"""A damaged copy :math:`\tilde x` of x.

    Arguments:
        x: data, any shape.
        kind: ``"gaussian"`` adds noise from N(0, level²); ``"masking"`` sets each number to 0 with
            probability level and leaves the others as they are.
        level: a standard deviation, > 0, in the units of x; or a probability, in (0, 1).
        generator: of the noise; torch's global one where ``None``.

    Raises:
        ValueError: if ``kind`` is unknown or ``level`` is out of its range.
    """
    _check_level(kind, level)
    if kind == "gaussian":
        return x + level * random.noise(x.shape, x, generator)
    return x * (random.uniform(x.shape, x, generator) >= level)


def _check_level(kind: str, level: float) -> None:
    check.one_of(("gaussian", "masking"), kind=kind)
    check.inside("(0, ∞)" if kind == "gaussian" else "(0, 1)", level=level)


class Denoising(nn.Module):
    r"""Trains any autoencoder to undo noise: the input is corrupted, the target is not.

    Arguments:
        net: an :class:`Autoencoder` or a :class:`SigmoidAutoencoder`; its parameters are trained in place.
        kind, level: of the noise, as in :func:`corrupt`.

    Raises:
        ValueError: as :func:`corrupt` does, and for data that the net's likelihood cannot hold.

    References:
        Vincent et al. (2008), Extracting and composing robust features with denoising autoencoders.
    """

    def __init__(self, net: nn.Module, kind: str = "gaussian", level: float = 0.5):
        super().__init__()
        _check_level(kind, level)
        self.net, self.kind, self.level = net, kind, level

    def encode(self, x: Tensor) -> Tensor:
        r"""The net's codes, without added noise."""
        return self.net.encode(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""The net's output for x as it is: the denoised x where x is noisy."""
        return self.net.reconstruct(x)

    def loss(self, x: Tensor) -> Tensor:
        r"""How badly the clean batch, shape (n, d), is rebuilt from a fresh corrupted copy."""
        return self.net.loss(x, given=corrupt(x, self.kind, self.level))


class GatedAutoencoder(Autoencoder):
    r"""The decoder opens a gate for each number of the input: :math:`\hat x = \sigma(g(z)) \odot x`.

    The gates are a skip connection. Trained by :class:`Denoising`, the code has to say which numbers
    are worth letting through; without noise all gates open and the code stays empty.

    Arguments:
        encoder: from samples, shape (n, d), to codes, shape (n, k).
        decoder: from codes to d numbers, before the sigmoid.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__(encoder, decoder, likelihood="gaussian")

    def gates(self, x: Tensor) -> Tensor:
        r"""The share of each number that passes, in (0, 1), shape (n, d)."""
        return torch.sigmoid(self.decoder(self.encode(x)))

    def outputs(self, x: Tensor) -> Tensor:
        return self.gates(x) * x

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.outputs(x)
