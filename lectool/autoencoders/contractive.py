r"""Chapter 03: autoencoders whose code is to move little when the input does."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lectool import check, random
from lectool.autoencoders.plain import SigmoidAutoencoder

__all__ = ["Contractive", "hutchinson_norm", "jacobian_norm", "sigmoid_jacobian_norm"]


def sigmoid_jacobian_norm(W: Tensor, h: Tensor) -> Tensor:
    r""":math:`\lVert J \rVert_F^2` of a sigmoid layer :math:`h = \sigma(W x + b)`, one number a sample.

    Since :math:`\partial h_j / \partial x_i = h_j (1 - h_j) W_{ji}`,

    .. math:: \lVert J \rVert_F^2 = \sum_j \bigl(h_j (1 - h_j)\bigr)^2 \sum_i W_{ji}^2,

    which costs k numbers a sample where the Jacobian itself has k · d.

    Arguments:
        W: weights, shape (k, d).
        h: the layer's output, shape (n, k).

    Returns:
        shape (n,).
    """
    return (h * (1 - h)).square() @ W.square().sum(1)


def jacobian_norm(encode: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    r""":math:`\lVert J \rVert_F^2` of any encoder by automatic differentiation, one number a sample.

    Arguments:
        encode: from (n, d) to (n, k), each row by itself (no batch normalization in training mode).
        x: shape (n, d).

    Returns:
        shape (n,). It takes k backward passes.
    """
    check.data(x)
    J = torch.func.vmap(torch.func.jacrev(lambda row: encode(row[None])[0]))(x)
    return J.square().sum((1, 2))


def hutchinson_norm(
    encode: Callable[[Tensor], Tensor],
    x: Tensor,
    n_probes: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""An unbiased estimate of :math:`\lVert J \rVert_F^2` from a few backward passes, one number a sample.

    For random signs v, :math:`E \lVert J^\top v \rVert^2 = \operatorname{tr} J J^\top = \lVert J \rVert_F^2`,
    and :math:`J^\top v` is one vector–Jacobian product. The result can itself be differentiated.

    Arguments:
        encode: as in :func:`jacobian_norm`.
        x: shape (n, d).
        n_probes: number of sign vectors, ≥ 1.
        generator: of the signs; torch's global one where ``None``.

    References:
        Hutchinson (1989), A stochastic estimator of the trace of the influence matrix.
    """
    check.at_least(1, n_probes=n_probes)
    x = x.detach().requires_grad_()
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    with torch.enable_grad():
        z = encode(x)
        for _ in range(n_probes):
            bits = random.integers(2, z.shape, z.device, generator)
            (Jv,) = torch.autograd.grad(z, x, (2 * bits - 1).to(z), create_graph=True)
            total = total + Jv.square().sum(1)
    return total / n_probes


class Contractive(nn.Module):
    r"""Trains an autoencoder whose code is to move little when the input does.

    .. math:: L(x) = \ell(\hat x, x) + \lambda \left\lVert \partial z / \partial x \right\rVert_F^2

    Arguments:
        net: trained in place. For the closed form a :class:`SigmoidAutoencoder`, best with tied weights:
            a free decoder can undo a shrunken encoder, and the penalty is then paid by scale alone.
        lam: λ > 0, in units of the reconstruction loss.
        n_probes: ``None`` for the closed form of a sigmoid layer, else the probes of
            :func:`hutchinson_norm`, for any encoder.

    Raises:
        ValueError: if λ or ``n_probes`` is not positive, or the closed form is asked for another net.

    References:
        Rifai et al. (2011), Contractive auto-encoders: explicit invariance during feature extraction.
    """

    def __init__(self, net: nn.Module, lam: float, *, n_probes: int | None = None):
        super().__init__()
        check.positive(lam=lam)
        if n_probes is None and (not isinstance(net, SigmoidAutoencoder) or net.linear_code):
            raise ValueError(
                "the closed form needs a SigmoidAutoencoder with sigmoid codes; set n_probes for other nets"
            )
        if n_probes is not None:
            check.at_least(1, n_probes=n_probes)
        self.net, self.lam, self.n_probes = net, lam, n_probes

    def encode(self, x: Tensor) -> Tensor:
        return self.net.encode(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.net.reconstruct(x)

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        r"""The terms ``loss``, ``reconstruction`` and ``jacobian`` (unweighted), means over the batch."""
        reconstruction = self.net.loss(x)
        if self.n_probes is None:
            jacobian = sigmoid_jacobian_norm(self.net.W, self.net.encode(x)).mean()
        else:
            jacobian = hutchinson_norm(self.net.encode, x, self.n_probes).mean()
        loss = reconstruction + self.lam * jacobian
        return {"loss": loss, "reconstruction": reconstruction, "jacobian": jacobian}
