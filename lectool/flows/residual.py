r"""Residual flows: a step of the identity plus something that contracts is invertible."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lectool import check
from lectool.flows.continuous import TangentMLP, trace_probes
from lectool.flows.core import Layer

__all__ = ["ContractiveMLP", "ResidualLayer", "power_series_log_det"]


class ContractiveMLP(TangentMLP):
    r"""A perceptron g with :math:`\lVert g(a) - g(b) \rVert \le c \lVert a - b \rVert`, c < 1.

    Each of the L matrices is divided by its largest singular value where that exceeds :math:`c^{1/L}`;
    power iteration, continued from update to update, finds it. tanh never stretches.

    Arguments:
        sizes: widths from input to output.
        c: the bound, in (0, 1).

    Raises:
        ValueError: if c is out of range.
    """

    def __init__(self, sizes: Sequence[int], c: float = 0.9):
        super().__init__(sizes)
        check.inside("(0, 1)", c=c)
        self.c = c
        for i, layer in enumerate(self.layers):
            # Starts at the exact vector.
            self.register_buffer(f"u{i}", torch.linalg.svd(layer.weight.detach()).U[:, 0])

    def weights(self) -> list[Tensor]:
        limit = self.c ** (1 / len(self.layers))
        scaled = []
        for i, layer in enumerate(self.layers):
            W, u = layer.weight, getattr(self, f"u{i}")
            with torch.no_grad():
                for _ in range(3 if self.training else 1):
                    v = F.normalize(W.T @ u, dim=0)
                    u = F.normalize(W @ v, dim=0)
                if self.training:
                    getattr(self, f"u{i}").copy_(u)
            sigma = u @ W @ v
            scaled.append(W / (sigma / limit).clamp(min=1))
        return scaled


def power_series_log_det(traces: Tensor) -> Tensor:
    r""":math:`\log \lvert \det (I + J) \rvert = \sum_{k \ge 1} \frac{(-1)^{k+1}}{k} \operatorname{tr} J^k`, cut off.

    Arguments:
        traces: :math:`\operatorname{tr} J^k` or estimates of it for k = 1, 2, …, shape (m, n).

    Returns:
        shape (n,). With singular values of J at most c < 1 the rest is at most
        :math:`d\, c^{m+1} / ((m + 1)(1 - c))`.
    """
    k = torch.arange(1, len(traces) + 1).to(traces)
    sign = 1 - 2 * ((k + 1) % 2)
    return ((sign / k)[:, None] * traces).sum(0)


class ResidualLayer(Layer):
    r"""An invertible residual block: ``inverse`` is :math:`z = x + g(x)`.

    ``forward`` iterates :math:`x \leftarrow z - g(x)`. Since g contracts, this converges to the one x there is
    (Banach), each step by the factor c.

    Arguments:
        d: numbers in a sample, ≥ 1.
        hidden: widths of g.
        c: how much g contracts, in (0, 1).
        n_terms: terms of :func:`power_series_log_det`; where ``None``, the determinant of the d × d
            Jacobian itself, for small d.
        probe: whether the traces of the series are estimated by one vector of random signs for each sample (in
            ``train()`` mode) or exact.

    Raises:
        ValueError: if c or ``n_terms`` is out of range.

    References:
        Behrmann, Grathwohl, Chen, Duvenaud & Jacobsen (2019), Invertible residual networks; Chen, Behrmann,
        Duvenaud & Jacobsen (2019), Residual flows, who also remove the bias of the cut.
    """

    def __init__(
        self,
        d: int,
        hidden: Sequence[int] = (64, 64),
        *,
        c: float = 0.9,
        n_terms: int | None = None,
        probe: bool = False,
    ):
        super().__init__()
        check.at_least(1, n_terms=1 if n_terms is None else n_terms)
        self.g = ContractiveMLP([d, *hidden, d], c)
        self.n_terms, self.probe = n_terms, probe

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        estimated = self.n_terms is not None and self.probe and self.training
        probes = trace_probes(x, signs=estimated)
        g, T = self.g.with_tangents(x, probes)
        if self.n_terms is None:
            # The probes are the rows of the identity, so T is the Jacobian's transpose.
            return x + g, torch.linalg.slogdet(probes + T).logabsdet
        traces = [(probes * T).sum((1, 2))]
        for _ in range(self.n_terms - 1):
            T = self.g.with_tangents(x, T)[1]
            traces.append((probes * T).sum((1, 2)))
        return x + g, power_series_log_det(torch.stack(traces))

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, enough = z, 10 * torch.finfo(z.dtype).eps
        for _ in range(1000):
            new = z - self.g(x)
            moved = (new - x).abs().max().item()
            x = new
            if moved <= enough * (1 + x.abs().max().item()):
                break
        return x, -self.inverse(x)[1]
