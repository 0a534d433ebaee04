r"""Chapter 03: the ladder network, a classifier that denoises its own layers."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check, random

__all__ = ["LadderNetwork", "pick_labels"]


def pick_labels(
    y: Tensor,
    per_class: int,
    generator: torch.Generator | None = None,
    n_classes: int | None = None,
) -> Tensor:
    r"""Indices of a few labeled samples, equally many of each class.

    Arguments:
        y: labels 0 … K − 1, shape (n,), integers.
        per_class: how many of each, ≥ 1.
        generator: of the choice; torch's global one where ``None``.
        n_classes: K; the largest label plus one where ``None``.

    Returns:
        indices, the classes in turn (0, 1, …, K − 1, 0, 1, …), shape (K · per_class,).

    Raises:
        ValueError: if a class has fewer samples than asked for; the message names it.
    """
    check.at_least(1, per_class=per_class)
    check.shape("n", y=y)
    order = random.permutation(len(y), y.device, generator)
    picked = []
    for label in range(int(y.max()) + 1 if n_classes is None else n_classes):
        rows = order[y[order] == label]
        if len(rows) < per_class:
            raise ValueError(
                f"class {label} has {len(rows)} samples; expected at least {per_class}"
            )
        picked.append(rows[:per_class])
    return torch.stack(picked, 1).flatten()


class LadderNetwork(nn.Module):
    r"""A classifier with a decoder beside it that cleans each of its layers, for few labels and much data.

    The encoder runs twice with the same weights: once clean, and once with noise N(0, σ²) added behind
    every batch normalization. The noisy run pays cross-entropy on the labeled rows. The decoder comes
    down from the noisy top; on each layer it joins what it hears from above, u, with what the noisy run
    left there, :math:`\tilde z`, over a lateral connection,

    .. math:: \hat z = (\tilde z - m(u)) \, v(u) + m(u), \qquad
        m(u), v(u) = a_1 \, \sigma(a_2 u + a_3) + a_4 u + a_5 \text{ per unit},

    and pays :math:`w_l \lVert \hat z_l - z_l \rVert^2 / d_l` against the clean run, on all rows.

    Arguments:
        sizes: widths from data to classes.
        noise: σ > 0 of every layer, the input included; layers have unit variance.
        weights: :math:`w_l` ≥ 0 of each layer from the input up, as many as sizes. All 0 makes it a
            supervised network with noise.

    Raises:
        ValueError: if the settings are out of range or, in ``loss``, a class has no label.

    References:
        Rasmus et al. (2015), Semi-supervised learning with ladder networks.
    """

    def __init__(
        self, sizes: Sequence[int], *, noise: float = 0.3, weights: Sequence[float] | None = None
    ):
        super().__init__()
        check.sizes(sizes)
        check.positive(noise=noise)
        weights = [1000.0, 10.0] + [0.1] * (len(sizes) - 2) if weights is None else list(weights)
        check.lengths(weights=weights, sizes=sizes)
        check.non_negative(weights=min(weights))
        self.noise, self.weights = noise, weights
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.up = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairs)
        self.down = nn.ModuleList(nn.Linear(b, a, bias=False) for a, b in pairs)
        self.norm = nn.ModuleList(nn.BatchNorm1d(b, affine=False) for b in sizes[1:])
        self.beta = nn.ParameterList(torch.zeros(b) for b in sizes[1:])
        self.gamma = nn.Parameter(torch.ones(sizes[-1]))  # a ReLU needs no scale, the softmax does
        start = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0])[:, None]
        self.lateral = nn.ParameterList(start.repeat(1, b) for b in sizes)

    def activate(self, layer: int, z: Tensor) -> Tensor:
        z = z + self.beta[layer]
        return self.gamma * z if layer == len(self.up) - 1 else F.relu(z)

    def clean(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        r"""Logits and each layer's normalized z."""
        h, zs = x, [x]
        for layer, (up, norm) in enumerate(zip(self.up, self.norm, strict=True)):
            zs.append(norm(up(h)))
            h = self.activate(layer, zs[-1])
        return h, zs

    def noisy(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        r"""Logits and each layer's noisy z."""
        zs = [x + self.noise * random.noise(x.shape, x)]
        h = zs[0]
        for layer, up in enumerate(self.up):
            z = normalize(up(h))
            zs.append(z + self.noise * random.noise(z.shape, z))
            h = self.activate(layer, zs[-1])
        return h, zs

    def clean_up(self, logits: Tensor, zs: list[Tensor]) -> list[Tensor]:
        r"""The decoder: an estimate of each clean z, from the input's up."""
        u, estimates = normalize(logits.softmax(1)), []
        for layer in range(len(zs) - 1, -1, -1):
            a = self.lateral[layer]
            m = a[0] * torch.sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]
            v = a[5] * torch.sigmoid(a[6] * u + a[7]) + a[8] * u + a[9]
            estimates.append((zs[layer] - m) * v + m)
            if layer:
                u = normalize(self.down[layer - 1](estimates[-1]))
        return estimates[::-1]

    def loss(self, x: Tensor, x_labeled: Tensor, y: Tensor) -> dict[str, Tensor]:
        r"""The terms ``loss``, ``supervised`` (nats a label) and ``denoising``.

        Arguments:
            x: unlabeled samples, shape (n, d).
            x_labeled, y: the few labeled ones, shapes (m, d) and (m,).
        """
        n_classes = len(self.gamma)
        found = torch.bincount(y, minlength=n_classes)
        if len(found) > n_classes or (found == 0).any():
            raise ValueError(
                f"labels a class are {found.tolist()}; expected at least one of each of {n_classes}"
            )
        x = torch.cat([check.data(x_labeled, "x_labeled"), check.data(x)])
        logits, noisy = self.noisy(x)
        supervised = F.cross_entropy(logits[: len(y)], y)
        denoising = supervised.new_zeros(())
        _, clean = self.clean(x)  # also where nothing is denoised: it keeps the running moments
        if any(self.weights):
            for w, z, z_hat in zip(self.weights, clean, self.clean_up(logits, noisy), strict=True):
                denoising = denoising + w * (z_hat - z).square().mean()
        loss = supervised + denoising
        return {"loss": loss, "supervised": supervised, "denoising": denoising}

    def predict(self, x: Tensor) -> Tensor:
        r"""Classes by the clean run, shape (n,); in ``eval()`` mode rows do not depend on each other."""
        return self.clean(x)[0].argmax(1)


def normalize(a: Tensor) -> Tensor:
    r"""Each unit less its mean and divided by its standard deviation in the batch, shape (n, d)."""
    return F.batch_norm(a, None, None, training=True)
