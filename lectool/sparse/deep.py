r"""Chapter 06: sparse codes of sparse codes, and the networks that come of it.

Signals are rows of x, shape (n, d); layer k has the dictionary :math:`D_k` with atoms as columns, shape (width of the
layer below, atoms), and the codes :math:`z_k` as rows; :math:`z_0 = x`. For images a layer has filters in place of a
matrix, shape (atoms, channels below, height, width), as in :mod:`lectool.sparse.convolutional` with an open boundary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lectool import check
from lectool.sparse.convolutional import conv_analysis
from lectool.sparse.inference import (
    Prox,
    fitting,
    lasso,
    lipschitz,
    objective,
    shrink,
    shrink_positive,
)

__all__ = [
    "LISTA",
    "hierarchical_codes",
    "layered_pursuit",
    "layered_thresholding",
    "project_l1",
    "relu_network",
    "support_overlap",
    "violations",
]


# ------------------------------------------------------------------------------------- layers of thresholding


def layered_thresholding(
    x: Tensor,
    dictionaries: Sequence[Tensor],
    lams: Sequence[float],
    *,
    prox: Prox = shrink_positive,
    batch_norm: bool = False,
) -> list[Tensor]:
    r"""A deep code in one pass: each layer correlates the code below with its atoms, then applies the threshold.

    .. math:: z_k = S_{\lambda_k}(D_k^\top z_{k-1}), \qquad z_0 = x

    Arguments:
        x: signals, shape (n, d); or images, shape (n, channels, height, width), for layers of filters.
        dictionaries: of each layer, from the bottom: shape (width below, atoms); or filters, shape (atoms, channels
            below, height, width).
        lams: λ > 0 of each layer.
        prox: :func:`shrink_positive` (a ReLU), or :func:`shrink` for codes of either sign.
        batch_norm: whether :math:`D_k^\top z_{k-1}` is first brought to mean 0 and variance 1, each atom over the batch
            (and all places). λ is then a number of standard deviations.

    Returns:
        the codes of all layers, from the bottom, as a list.

    Raises:
        ValueError: if there is no layer, layers, thresholds and data do not fit each other, a λ ≤ 0, or ``batch_norm``
            has only one value an atom to work with.

    References:
        Papyan, Romano & Elad (2017), Convolutional neural networks analyzed via convolutional sparse coding; Ioffe &
        Szegedy (2015), Batch normalization.
    """
    check_layers(x, dictionaries, lams)
    codes = [x]
    for D, lam in zip(dictionaries, lams):
        a = correlate(codes[-1], D)
        codes.append(prox(standardize(a) if batch_norm else a, lam))
    return codes[1:]


def correlate(x: Tensor, D: Tensor) -> Tensor:
    r""":math:`D^\top x`: the match of each atom with each signal, shape (n, k); of each filter at each place."""
    return x @ D if D.ndim == 2 else conv_analysis(x, D)


def standardize(a: Tensor) -> Tensor:
    r"""Batch normalization without learned scale and shift: each atom has mean 0 and variance 1 over all else.

    Raises:
        ValueError: if there is only one value of each atom.
    """
    if a.numel() == a.shape[1]:
        raise ValueError("batch_norm has one value of each atom; expected at least two signals")
    return F.batch_norm(a, None, None, training=True)


def relu_network(dictionaries: Sequence[Tensor], lams: Sequence[float]) -> nn.Sequential:
    r"""The ordinary network that computes :func:`layered_thresholding`: weights :math:`D_k^\top`, biases −λₖ, ReLU.

    Arguments:
        dictionaries, lams: as in :func:`layered_thresholding`. Filters give a convolutional network.

    Returns:
        ``Linear`` or ``Conv2d``, each followed by ``ReLU``; with the tensors' type and on their device.

    Raises:
        ValueError: if there is no layer, or layers and thresholds do not fit each other.
    """
    check_layers(None, dictionaries, lams)
    parts: list[nn.Module] = []
    for D, lam in zip(dictionaries, lams):
        if D.ndim == 2:
            layer = nn.Linear(*D.shape)
        else:
            layer = nn.Conv2d(
                *D.shape[1::-1], D.shape[2:], padding=[side - 1 for side in D.shape[2:]]
            )
        layer.weight = nn.Parameter((D.T if D.ndim == 2 else D).clone())
        layer.bias = nn.Parameter(D.new_full((len(layer.weight),), -lam))
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts)


def layered_pursuit(
    x: Tensor,
    dictionaries: Sequence[Tensor],
    lams: Sequence[float],
    *,
    positive: bool = True,
    tol: float = 1e-4,
    max_steps: int = 1000,
) -> list[Tensor]:
    r"""A deep code without shortcut: each layer's Lasso, with the code below as its signal, is solved to the end.

    .. math:: z_k = \arg\min_z \tfrac12 \lVert z_{k-1} - D_k z \rVert^2 + \lambda_k \lVert z \rVert_1

    Arguments:
        x: signals, shape (n, d).
        dictionaries, lams: as in :func:`layered_thresholding`, without filters.
        positive: whether all codes are ≥ 0.
        tol, max_steps: as in :func:`lasso`.

    Returns:
        the codes of all layers, from the bottom, as a list.

    Raises:
        ValueError: if there is no layer, layers, thresholds and data do not fit each other, or a λ ≤ 0.

    References:
        Papyan, Romano & Elad (2017), section 6: layered basis pursuit.
    """
    check_layers(x, dictionaries, lams, n_dims=2)
    codes = [x]
    for D, lam in zip(dictionaries, lams):
        z = lasso(codes[-1], D, lam, tol=tol, max_steps=max_steps, positive=positive)
        codes.append(z)
    return codes[1:]


def support_overlap(a: Tensor, b: Tensor) -> float:
    r"""How far two codes agree on which atoms are in use: those of both as a share of those of either, a mean.

    Arguments:
        a, b: codes, shape (n, k). Where neither uses any atom, they agree.

    Returns:
        a number in [0, 1].

    Raises:
        ValueError: if the codes are no valid data or differ in shape.
    """
    check.data(a, "a")
    check.data(b, "b")
    check.shape(*a.shape, b=b)
    both, either = ((a != 0) & (b != 0)).sum(1), ((a != 0) | (b != 0)).sum(1)
    return torch.where(either == 0, 1.0, both / either.clamp(min=1)).mean().item()


def check_layers(
    x: Tensor | None,
    dictionaries: Sequence[Tensor],
    lams: Sequence[float],
    name: str = "lams",
    *,
    n_dims: int | None = None,
) -> None:
    r"""Layers that fit on top of each other, and the signals below them.

    Arguments:
        x: signals; not looked at where ``None``.
        dictionaries, lams: a dictionary and a number > 0 for each layer.
        name: what the numbers are called.
        n_dims: 2 where filters are not allowed.

    Raises:
        ValueError: if they do not fit.
    """
    if len(dictionaries) == 0:
        raise ValueError("there is no dictionary; expected at least one layer")
    check.lengths(dictionaries=dictionaries, **{name: lams})
    check.positive(**{f"{name}[{i}]": lam for i, lam in enumerate(lams)})
    first = dictionaries[0]
    n_dims = n_dims or (first.ndim if isinstance(first, Tensor) and first.ndim == 4 else 2)
    for i, D in enumerate(dictionaries):
        check.data(D, f"dictionaries[{i}]", n_dims=n_dims)
        check.same_kind(first, **{f"dictionaries[{i}]": D})
    atoms, below = (0, 1) if n_dims == 4 else (1, 0)
    for i, (lower, upper) in enumerate(zip(dictionaries, dictionaries[1:]), 1):
        if upper.shape[below] != lower.shape[atoms]:
            raise ValueError(
                f"dictionaries[{i}] is for codes of {upper.shape[below]} atoms, the layer below has "
                f"{lower.shape[atoms]}; expected the same"
            )
    if x is not None:
        check.data(x, n_dims=n_dims, like=first)
        check.shape("n", first.shape[below], *["any"] * (n_dims - 2), x=x)


# ------------------------------------------------------------------------------------- all layers at once


def project_l1(z: Tensor, radius: float) -> Tensor:
    r"""The nearest point of the ball :math:`\lVert z \rVert_1 \le \mu`: soft thresholding by as much as is needed.

    Sorted by size, the j largest entries must lose (their sum − μ)/j each; j is the last one that is larger than that.

    Arguments:
        z: shape (n, k), a point a row.
        radius: μ > 0.

    Raises:
        ValueError: if z is no valid data or μ ≤ 0.

    References:
        Duchi, Shalev-Shwartz, Singer & Chandra (2008), Efficient projections onto the ℓ₁-ball, figure 1.
    """
    check.data(z, "z")
    check.positive(radius=radius)
    size = z.abs().sort(dim=1, descending=True).values
    loss = (size.cumsum(1) - radius) / torch.arange(1, z.shape[1] + 1).to(z)
    n_kept = (size > loss).sum(1, keepdim=True).clamp(min=1)
    return shrink(z, loss.gather(1, n_kept - 1).clamp(min=0))


def hierarchical_codes(
    x: Tensor,
    dictionaries: Sequence[Tensor],
    eps: Sequence[float],
    mu: Sequence[float],
    *,
    n_steps: int = 500,
) -> list[Tensor]:
    r"""Codes of all layers that keep to all constraints, or come near to it where that cannot be.

    .. math:: \lVert z_{k-1} - D_k z_k \rVert \le \varepsilon_k, \quad \lVert z_k \rVert_1 \le \mu_k
        \qquad (k = 1 \dots K, \; z_0 = x)

    Accelerated gradient steps on all layers together make :math:`\sum_k \frac12 \max(0, \lVert z_{k-1} - D_k z_k \rVert
    - \varepsilon_k)^2` small, which is convex; each is followed by a projection of each code onto its ℓ₁ ball. Unlike a
    pass from layer to layer, a code can thus give way to what the layer above it is able to represent.

    Arguments:
        x: signals, shape (n, d).
        dictionaries: of each layer, from the bottom, shape (width below, atoms).
        eps: ε ≥ 0 of each layer, the error allowed.
        mu: μ > 0 of each layer, the ℓ₁ norm allowed.
        n_steps: ≥ 0.

    Returns:
        the codes of all layers, from the bottom, as a list: all within their ℓ₁ balls.

    Raises:
        ValueError: if there is no layer, layers, bounds and data do not fit each other, or a bound is out of range.

    References:
        Papyan, Romano & Elad (2017), section 5: the deep coding problem; Beck & Teboulle (2009) for the acceleration.
    """
    check_bounds(x, dictionaries, eps, mu)
    check.at_least(0, n_steps=n_steps)
    z = [x.new_zeros(len(x), D.shape[1]) for D in dictionaries]
    step = 1 / (1 + max(map(lipschitz, dictionaries)) ** 0.5) ** 2
    ahead, t = z, x.new_ones(len(x), 1)
    for _ in range(n_steps):
        slopes = excess_slopes(x, ahead, dictionaries, eps)
        new = [project_l1(a - step * slope, m) for a, slope, m in zip(ahead, slopes, mu)]
        moves = [b - a for a, b in zip(z, new)]
        uphill = sum(((a - b) * m).sum(1, keepdim=True) for a, b, m in zip(ahead, new, moves)) > 0
        t = t.masked_fill(uphill, 1.0)
        t_next = (1 + (1 + 4 * t.square()).sqrt()) / 2
        ahead = [b + (t - 1) / t_next * m for b, m in zip(new, moves)]
        z, t = new, t_next
    return z


def excess_slopes(
    x: Tensor, codes: Sequence[Tensor], dictionaries: Sequence[Tensor], eps: Sequence[float]
) -> list[Tensor]:
    r"""Gradient of :math:`\sum_k \frac12 \max(0, \lVert z_{k-1} - D_k z_k \rVert - \varepsilon_k)^2` in each code.

    A residual counts with its part outside of the ball of radius ε. The code :math:`z_k` stands in two of them: it
    rebuilds the layer below, and is rebuilt by the layer above.
    """
    outside = []
    for below, z, D, e in zip([x, *codes], codes, dictionaries, eps):
        residual = below - z @ D.T
        length = residual.norm(dim=1, keepdim=True).clamp(min=1e-30)
        outside.append(residual * (1 - e / length).clamp(min=0))
    slopes = [-r @ D for r, D in zip(outside, dictionaries)]
    return [slope + above for slope, above in zip(slopes, outside[1:])] + slopes[-1:]


def violations(
    x: Tensor,
    codes: Sequence[Tensor],
    dictionaries: Sequence[Tensor],
    eps: Sequence[float],
    mu: Sequence[float],
) -> tuple[Tensor, Tensor]:
    r"""By how much codes break the constraints of :func:`hierarchical_codes`; 0 where they keep to them.

    Arguments:
        x, dictionaries, eps, mu: as there.
        codes: of each layer, from the bottom, shape (n, atoms).

    Returns:
        max(0, ‖zₖ₋₁ − Dₖzₖ‖ − εₖ) and max(0, ‖zₖ‖₁ − μₖ) of each signal and layer, shape (n, K) each.

    Raises:
        ValueError: as there, or if the codes do not fit.
    """
    check_bounds(x, dictionaries, eps, mu)
    check.lengths(dictionaries=dictionaries, codes=codes)
    for i, (z, D) in enumerate(zip(codes, dictionaries)):
        check.shape(len(x), D.shape[1], **{f"codes[{i}]": z})
    pairs = zip([x, *codes], codes, dictionaries)
    error = torch.stack([(below - z @ D.T).norm(dim=1) for below, z, D in pairs], 1)
    size = torch.stack([z.abs().sum(1) for z in codes], 1)
    return (error - x.new_tensor(list(eps))).clamp(min=0), (size - x.new_tensor(list(mu))).clamp(
        min=0
    )


def check_bounds(
    x: Tensor, dictionaries: Sequence[Tensor], eps: Sequence[float], mu: Sequence[float]
) -> None:
    r"""Signals, layers and the two bounds of each.

    Raises:
        ValueError: if they do not fit, an ε is below 0 or a μ is not above it.
    """
    check_layers(x, dictionaries, mu, "mu", n_dims=2)
    check.lengths(dictionaries=dictionaries, eps=eps)
    check.non_negative(**{f"eps[{i}]": e for i, e in enumerate(eps)})


# ------------------------------------------------------------------------------------- ISTA that learns


class LISTA(nn.Module):
    r"""A few steps of ISTA as the layers of a network whose matrices and thresholds are learned.

    .. math:: z \leftarrow S_{\theta_t}(W_t x + S_t z), \qquad t = 1 \dots T

    At the start it is ISTA: :math:`W = \tau D^\top`, :math:`S = I - \tau D^\top D`, :math:`\theta = \tau \lambda` with
    τ = 1/L. Training then lowers the Lasso objective of its codes on average over the signals at hand, where ISTA must
    do for all signals.

    Arguments:
        D: dictionary, shape (d, k); stays as it is.
        lam: λ > 0.
        n_layers: T ≥ 1.

    Attributes:
        W: shape (T, k, d).
        S: shape (T − 1, k, k); the first layer, where z = 0, has none.
        theta: thresholds, shape (T, k), of which the absolute value counts.

    Raises:
        ValueError: if D is no valid data or has a column of zeros, λ ≤ 0 or T < 1.

    References:
        Gregor & LeCun (2010), Learning fast approximations of sparse coding. There all layers share their matrices and
        learn from codes found before; here each has its own and learns from the objective.
    """

    D: Tensor

    def __init__(self, D: Tensor, lam: float, n_layers: int):
        super().__init__()
        check.positive(lam=lam)
        check.at_least(1, n_layers=n_layers)
        check.data(D, "D")
        fitting(D.T, D)
        self.register_buffer("D", D.clone())
        self.lam, k, step = lam, D.shape[1], 1 / lipschitz(D)
        keep = torch.eye(k).to(D) - step * D.T @ D
        self.W = nn.Parameter((step * D.T).repeat(n_layers, 1, 1))
        self.S = nn.Parameter(keep.repeat(n_layers - 1, 1, 1))
        self.theta = nn.Parameter(D.new_full((n_layers, k), step * lam))

    def encode(self, x: Tensor) -> Tensor:
        r"""Codes, shape (n, k), of signals x, shape (n, d)."""
        theta = self.theta.abs()
        z = shrink(x @ self.W[0].T, theta[0])
        for W, S, b in zip(self.W[1:], self.S, theta[1:]):
            z = shrink(x @ W.T + z @ S.T, b)
        return z

    def decode(self, z: Tensor) -> Tensor:
        r"""The signals Dz, shape (n, d)."""
        return z @ self.D.T

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def loss(self, x: Tensor) -> Tensor:
        r"""Mean over the signals of ½‖x − Dz‖² + λ‖z‖₁ at the network's codes.

        Raises:
            ValueError: if x is no valid data or does not fit the dictionary.
        """
        check.data(x, width=self.D.shape[0], like=self.D)
        return objective(x, self.D, self.encode(x), self.lam).mean()
