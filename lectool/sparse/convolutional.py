r"""Chapter 06: convolutional sparse coding: whole images as sums of small filters, each drawn at a few places.

Images are x, shape (n, c, H, W); filters are D, shape (k, c, h, w); codes are z, with a map for each filter that says
where it is drawn and how strongly. Two boundaries:

``"open"``: a filter may stick out of the image, so that pixels at the border are built as those inside are. The maps
are larger than the image, H + h − 1 by W + w − 1, and what is drawn outside is cut off.

``"circular"``: what leaves the image on one side comes in on the other. The maps are as large as the image, and the
Fourier transform makes a product of each convolution.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from lectool import check, random
from lectool.sparse.inference import Prox, accelerated, shrink, shrink_positive

__all__ = [
    "ConvolutionalDictionaryLearning",
    "conv_analysis",
    "conv_fista",
    "conv_lipschitz",
    "conv_objective",
    "conv_synthesis",
    "convolution_matrix",
    "fourier_admm",
    "lowpass",
    "update_filters",
]

BOUNDARIES = ("open", "circular")


# ------------------------------------------------------------------------------------- convolution as a matrix


def convolution_matrix(
    kernel: Tensor, shape: tuple[int, ...], *, stride: int = 1, padding: int = 0
) -> Tensor:
    r"""The matrix C of a convolution: each column is what the convolution makes of an image with a single 1.

    As in torch the kernel is not flipped (a cross-correlation). :math:`C^\top` is the transposed convolution.

    Arguments:
        kernel: shape (h, w), or (k, c, h, w) for images of c channels.
        shape: of the image, (H, W), or (c, H, W) with the second kind of kernel.
        stride: pixels from one place of the kernel to the next, ≥ 1.
        padding: zeros around the image, ≥ 0.

    Returns:
        shape (pixels of the output, pixels of the image), channels included; both images are read row by row.

    Raises:
        ValueError: if the kernel is no valid data, does not fit the image or is larger than the padded image, or a
            number is out of range.

    Example:
        >>> C = convolution_matrix(torch.ones(3, 3), (6, 6))
        >>> (C.T @ torch.ones(16)).reshape(6, 6).int()[:3].tolist()
        [[1, 2, 3, 3, 2, 1], [2, 4, 6, 6, 4, 2], [3, 6, 9, 9, 6, 3]]
    """
    check.at_least(1, stride=stride)
    check.at_least(0, padding=padding)
    check.data(kernel, "kernel", n_dims=2 if len(shape) == 2 else 4)
    if len(shape) == 2:
        kernel, shape = kernel[None, None], (1, *shape)
    if len(shape) != 3 or kernel.shape[1] != shape[0]:
        raise ValueError(
            f"kernel has shape {tuple(kernel.shape)}, the image {tuple(shape)}; expected (k, c, h, w) and (c, H, W)"
        )
    no_smaller(kernel, [side + 2 * padding for side in shape[1:]], "padded image")
    n_pixels = shape[0] * shape[1] * shape[2]
    units = torch.eye(n_pixels, dtype=kernel.dtype, device=kernel.device).reshape(-1, *shape)
    return F.conv2d(units, kernel, stride=stride, padding=padding).flatten(1).T.contiguous()


# ------------------------------------------------------------------------------------- codes and images


def conv_synthesis(z: Tensor, D: Tensor, *, boundary: str = "open") -> Tensor:
    r"""The images D ∗ z: each filter drawn wherever its map is not 0, and all of them added up.

    Arguments:
        z: codes, shape (n, k, H + h − 1, W + w − 1), or (n, k, H, W) where circular.
        D: filters, shape (k, c, h, w).
        boundary: ``"open"`` or ``"circular"``.

    Returns:
        images, shape (n, c, H, W).
    """
    check.one_of(BOUNDARIES, boundary=boundary)
    rows, columns = D.shape[2] - 1, D.shape[3] - 1
    if boundary == "circular":
        z = F.pad(z, (columns, 0, rows, 0), mode="circular")
    return F.conv_transpose2d(z, D, padding=(rows, columns))


def conv_analysis(x: Tensor, D: Tensor, *, boundary: str = "open") -> Tensor:
    r"""How well each filter fits at each place of the images: the transposed map of :func:`conv_synthesis`.

    For all x and z the inner products ⟨D ∗ z, x⟩ and ⟨z, conv_analysis(x, D)⟩ are equal.

    Arguments:
        x: images, shape (n, c, H, W).
        D: filters, shape (k, c, h, w).
        boundary: ``"open"`` or ``"circular"``.

    Returns:
        shape of the codes.
    """
    return F.conv2d(with_border(x, D, boundary), D)


def with_border(x: Tensor, D: Tensor, boundary: str) -> Tensor:
    r"""Images with as much around them as the filters reach out: zeros, or what follows on the other side."""
    check.one_of(BOUNDARIES, boundary=boundary)
    rows, columns = D.shape[2] - 1, D.shape[3] - 1
    if boundary == "circular":
        return F.pad(x, (0, columns, 0, rows), mode="circular")
    return F.pad(x, (columns, columns, rows, rows))


def conv_objective(
    x: Tensor, D: Tensor, z: Tensor, lam: float, *, boundary: str = "open"
) -> Tensor:
    r"""½‖x − D ∗ z‖² + λ‖z‖₁ of each image, shape (n,)."""
    error = x - conv_synthesis(z, D, boundary=boundary)
    return 0.5 * error.square().sum((1, 2, 3)) + lam * z.abs().sum((1, 2, 3))


def conv_lipschitz(D: Tensor, shape: tuple[int, int], *, boundary: str = "open") -> float:
    r"""L: by as much, at most, the gradient of ½‖x − D ∗ z‖² changes when z moves by 1.

    .. math:: L = \max_\omega \sum_j |\hat D_j(\omega)|^2

    with the filters' Fourier transforms on a grid as large as the maps. It is exact where circular. An open boundary
    does the same on its larger grid and then cuts off the margin, which makes nothing larger: L is a bound there.

    Arguments:
        D: filters, shape (k, c, h, w). With several channels, :math:`\sum_j` becomes the largest eigenvalue of a c × c
            matrix.
        shape: (H, W) of the images, no smaller than the filters.
        boundary: ``"open"`` or ``"circular"``.

    Raises:
        ValueError: if D is no valid data, or larger than the image.
    """
    check.one_of(BOUNDARIES, boundary=boundary)
    check.data(D, "D", n_dims=4)
    no_smaller(D, shape)
    D_hat = torch.fft.rfft2(D, s=map_shape(D, shape, boundary))
    between = torch.einsum("kchw,kdhw->hwcd", D_hat, D_hat.conj())  # channels with each other
    return torch.linalg.eigvalsh(between)[..., -1].max().item()


def conv_fista(
    x: Tensor,
    D: Tensor,
    lam: float,
    *,
    n_steps: int = 100,
    prox: Prox = shrink,
    boundary: str = "open",
    restart: bool = True,
    step: float | None = None,
    start: Tensor | None = None,
    watch: Callable[[Tensor], object] | None = None,
) -> Tensor:
    r"""Codes of whole images: :func:`lectool.sparse.fista`, with two convolutions in place of the two matrix products.

    .. math:: \min_z \tfrac12 \lVert x - D * z \rVert^2 + \lambda \lVert z \rVert_1

    Arguments:
        x: images, shape (n, c, H, W).
        D: filters, shape (k, c, h, w).
        lam: λ > 0.
        n_steps: ≥ 0.
        prox: the rule that belongs to the penalty: :func:`lectool.sparse.shrink` for ‖z‖₁,
            :func:`lectool.sparse.shrink_positive` for ‖z‖₁ with z ≥ 0.
        boundary: ``"open"`` or ``"circular"``.
        restart: whether an image loses its momentum as soon as that points up the slope.
        step: τ in (0, 1/L]; 1/L where ``None``, with L from :func:`conv_lipschitz`.
        start: codes to begin with; zeros where ``None``.
        watch: called with the codes after each step.

    Returns:
        codes, shape (n, k, H + h − 1, W + w − 1), or (n, k, H, W) where circular.

    Raises:
        ValueError: if x or D is no valid data, they do not fit, an image is smaller than a filter, a filter is zero,
            λ ≤ 0, or the step is not in (0, 1/L].

    References:
        Beck & Teboulle (2009), A fast iterative shrinkage-thresholding algorithm; Zeiler, Krishnan, Taylor & Fergus
        (2010), Deconvolutional networks.
    """
    z, step = begin(x, D, lam, step, start, boundary)
    check.at_least(0, n_steps=n_steps)

    def move(z: Tensor) -> Tensor:
        error = conv_synthesis(z, D, boundary=boundary) - x
        return prox(z - step * conv_analysis(error, D, boundary=boundary), step * lam)

    return accelerated(z, move, n_steps, restart=restart, watch=watch)


def fourier_admm(
    x: Tensor,
    D: Tensor,
    lam: float,
    *,
    rho: float = 1.0,
    n_steps: int = 100,
    watch: Callable[[Tensor], object] | None = None,
) -> Tensor:
    r"""The same codes, boundary circular, from a solver that does all convolutions at once, frequency by frequency.

    The code is split in two copies: z has to explain the image, s has to be sparse, and u, the sum of their differences
    so far, pulls them together. In Fourier's basis the best z solves k equations for each frequency, whose matrix is ρ
    times the identity plus one of rank 1, so that Sherman and Morrison's formula gives z without a matrix:

    .. math:: \hat z = \hat v + \frac{\overline{\hat D}}{\rho + \sum_j |\hat D_j|^2}
        \Bigl( \hat x - \sum_j \hat D_j \hat v_j \Bigr), \qquad v = s - u

    Arguments:
        x: images of one channel, shape (n, 1, H, W).
        D: filters, shape (k, 1, h, w).
        lam: λ > 0.
        rho: ρ > 0: how hard z and s are pulled together. Any value leads to the solution, at its own pace.
        n_steps: ≥ 0.
        watch: called with s after each step.

    Returns:
        s, shape (n, k, H, W).

    Raises:
        ValueError: if x or D is no valid data or has several channels, they do not fit, an image is smaller than a
            filter, a filter is zero, λ ≤ 0 or ρ ≤ 0.

    References:
        Bristow, Eriksson & Lucey (2013), Fast convolutional sparse coding; Wohlberg (2014), Efficient convolutional
        sparse coding.
    """
    s = begin(x, D, lam, None, None, "circular")[0]
    check.positive(rho=rho)
    check.at_least(0, n_steps=n_steps)
    if x.shape[1] != 1:
        raise ValueError(f"x has {x.shape[1]} channels; expected 1")
    size, u = x.shape[2:], torch.zeros_like(s)
    x_hat, D_hat = torch.fft.rfft2(x), torch.fft.rfft2(D[:, 0], s=size)
    gain = D_hat.conj() / (rho + D_hat.abs().square().sum(0))
    for _ in range(n_steps):
        v_hat = torch.fft.rfft2(s - u)
        z_hat = v_hat + gain * (x_hat - (D_hat * v_hat).sum(1, keepdim=True))
        z = torch.fft.irfft2(z_hat, s=size)
        s = shrink(z + u, lam / rho)
        u = u + z - s
        if watch is not None:
            watch(s)
    return s


def begin(
    x: Tensor, D: Tensor, lam: float, step: float | None, start: Tensor | None, boundary: str
) -> tuple[Tensor, float]:
    r"""First codes and step size, after a look at all that a solver is given.

    Raises:
        ValueError: see :func:`conv_fista`.
    """
    check.positive(lam=lam)
    fitting(x, D)
    L = conv_lipschitz(D, x.shape[2:], boundary=boundary)
    if step is not None and not 0 < step <= (1 + 1e-5) / L:
        raise ValueError(f"step is {step}; expected a number in (0, {1 / L:.6g}], which is 1/L")
    shape = (len(x), len(D), *map_shape(D, x.shape[2:], boundary))
    z = x.new_zeros(shape) if start is None else start
    check.shape(*shape, start=z)
    check.same_kind(D, start=z)
    return z, 1 / L if step is None else step


def fitting(x: Tensor, D: Tensor) -> None:
    r"""Images and filters that belong together, none of which is zero.

    Raises:
        ValueError: if they do not.
    """
    check.data(D, "D", n_dims=4)
    check.data(x, n_dims=4, like=D)
    if x.shape[1] != D.shape[1]:
        raise ValueError(f"x has {x.shape[1]} channels, D has {D.shape[1]}; expected equally many")
    no_smaller(D, x.shape[2:])
    n_zero = int((D == 0).all(3).all(2).all(1).sum())
    if n_zero:
        raise ValueError(f"{n_zero} of {len(D)} filters are zero; expected none")


def no_smaller(D: Tensor, shape: tuple[int, ...] | list[int], name: str = "image") -> None:
    r"""Images into which the filters fit.

    Raises:
        ValueError: if they do not.
    """
    if D.shape[-2] > shape[0] or D.shape[-1] > shape[1]:
        raise ValueError(
            f"the {name} is {shape[0]} × {shape[1]}, a filter {D.shape[-2]} × {D.shape[-1]}; expected it to fit in"
        )


def map_shape(D: Tensor, shape: tuple[int, ...], boundary: str) -> tuple[int, int]:
    r"""Rows and columns of the codes' maps, for images of this height and width."""
    if boundary == "circular":
        return shape[0], shape[1]
    return shape[0] + D.shape[2] - 1, shape[1] + D.shape[3] - 1


# ------------------------------------------------------------------------------------- learning the filters


def update_filters(D: Tensor, x: Tensor, z: Tensor, n_steps: int = 5) -> Tensor:
    r"""Projected gradient: steps down ½‖x − D ∗ z‖², after each of which filters that are too long are cut to length 1.

    For fixed codes the images are linear in the filters, and the derivative is a convolution again: of the error with
    the codes. No step raises the error.

    Arguments:
        D: filters, shape (k, c, h, w).
        x: images, shape (n, c, H, W).
        z: their codes, open boundary, shape (n, k, H + h − 1, W + w − 1).
        n_steps: ≥ 1.

    Returns:
        the new filters, shape (k, c, h, w).
    """
    step = filter_steps(z, D.shape[2], D.shape[3])
    for _ in range(n_steps):
        error = conv_synthesis(z, D) - x
        D = D - step * conv2d_weight(with_border(error, D, "open"), D.shape, z)
        D = D / length(D).clamp(min=1)
    return D


def filter_steps(z: Tensor, h: int, w: int) -> Tensor:
    r"""A step size for each filter, shape (k, 1, 1, 1): one over L times its use :math:`s_j = \sum z_j^2`.

    Were all maps equally strong, one size would suit all filters. So the maps are scaled to be, and L bounds the slope
    for these: it is the largest eigenvalue of their correlations with each other, k × k at each frequency. Filters of
    h × w pixels see only the correlations at shifts up to h − 1 and w − 1, for which 2h − 1 by 2w − 1 frequencies are
    enough; all frequencies of the maps would give an L several times larger than need be.
    """
    use = z.square().sum((0, 2, 3)).clamp(min=1e-12)
    use = torch.maximum(use, 1e-3 * use.max())
    z_hat = torch.fft.rfft2(z / use.sqrt()[:, None, None])
    between = torch.einsum("nkhw,njhw->hwkj", z_hat, z_hat.conj())
    correlation = torch.fft.irfft2(between, s=z.shape[2:], dim=(0, 1))
    rows, columns = (torch.fft.ifftshift(torch.arange(1 - side, side)) for side in (h, w))
    near = torch.fft.rfft2(correlation[rows[:, None], columns], dim=(0, 1))
    L = torch.linalg.eigvalsh(near)[..., -1].max().clamp(min=1e-12)
    return 1 / (L * use)[:, None, None, None]


class ConvolutionalDictionaryLearning:
    r"""Filters learned from images in turns: codes of all images, then better filters for these codes.

    .. math:: \min_{D,\, z_1 \dots z_n} \frac1n \sum_i \tfrac12 \lVert x_i - D * z_i \rVert^2
        + \lambda \lVert z_i \rVert_1 \quad \text{with} \quad \lVert D_j \rVert \le 1

    Each half lowers the objective or leaves it. Photographs should have lost their slow changes of brightness before,
    see :func:`lowpass`: small filters would need many entries for them.

    Arguments:
        n_components: k, the number of filters.
        size: side of the square filters, in pixels, ≥ 1.
        lam: λ > 0.
        n_iter: rounds, ≥ 1.
        n_steps: FISTA steps a round, which go on from the codes of the round before, ≥ 1.
        n_filter_steps: steps of :func:`update_filters` a round, ≥ 1.
        positive: whether codes are ≥ 0.
        generator: of the first filters, which are patches of the images, and of replaced ones.

    Attributes:
        D_: the filters, shape (k, c, size, size).
        objective_: mean objective of the images at the start and after each half of a round, a list.
        n_replaced_: filters that no code contained any more and that became the patches rebuilt worst, over all rounds.

    References:
        Zeiler, Krishnan, Taylor & Fergus (2010), Deconvolutional networks; Bristow, Eriksson & Lucey (2013), Fast
        convolutional sparse coding.
    """

    def __init__(
        self,
        n_components: int,
        size: int,
        lam: float,
        *,
        n_iter: int = 30,
        n_steps: int = 15,
        n_filter_steps: int = 5,
        positive: bool = False,
        generator: torch.Generator | None = None,
    ):
        check.at_least(1, n_components=n_components, size=size)
        check.at_least(1, n_iter=n_iter, n_steps=n_steps, n_filter_steps=n_filter_steps)
        check.positive(lam=lam)
        self.n_components, self.size, self.lam, self.positive = n_components, size, lam, positive
        self.n_iter, self.n_steps, self.n_filter_steps = n_iter, n_steps, n_filter_steps
        self.generator = generator

    def fit(self, x: Tensor) -> "ConvolutionalDictionaryLearning":
        r"""Learns the filters from x, shape (n, c, H, W).

        Raises:
            ValueError: if x is no valid data, its images are smaller than a filter, or fewer of their patches than
                filters are not zero.
        """
        check.data(x, n_dims=4)
        D = first_filters(x, self.n_components, self.size, self.generator)
        z = x.new_zeros(len(x), len(D), *map_shape(D, x.shape[2:], "open"))
        self.objective_, self.n_replaced_ = [self.mean_objective(x, D, z)], 0
        for _ in range(self.n_iter):
            z = self.recode(x, D, z, self.n_steps)
            self.objective_.append(self.mean_objective(x, D, z))
            D = update_filters(D, x, z, self.n_filter_steps)
            D, n_replaced = replace_unused(D, x, z)
            self.n_replaced_ += n_replaced
            self.objective_.append(self.mean_objective(x, D, z))
        self.D_ = D
        return self

    def recode(self, x: Tensor, D: Tensor, z: Tensor, n_steps: int) -> Tensor:
        r"""Better codes; an image that momentum has carried uphill keeps its old ones."""
        prox = shrink_positive if self.positive else shrink
        new = conv_fista(x, D, self.lam, n_steps=n_steps, prox=prox, start=z)
        worse = conv_objective(x, D, new, self.lam) > conv_objective(x, D, z, self.lam)
        return torch.where(worse[:, None, None, None], z, new)

    def mean_objective(self, x: Tensor, D: Tensor, z: Tensor) -> float:
        return conv_objective(x, D, z, self.lam).double().mean().item()

    def transform(self, x: Tensor, *, n_steps: int = 200) -> Tensor:
        r"""Codes of x after so many steps of :func:`conv_fista`, shape (n, k, H + size − 1, W + size − 1)."""
        prox = shrink_positive if self.positive else shrink
        return conv_fista(x, self.D_, self.lam, n_steps=n_steps, prox=prox)

    def fit_transform(self, x: Tensor) -> Tensor:
        r"""``fit(x)`` and then ``transform(x)``."""
        return self.fit(x).transform(x)

    def inverse_transform(self, z: Tensor) -> Tensor:
        r"""The images D ∗ z, shape (n, c, H, W).

        Raises:
            ValueError: if z is no valid data, has not one map a filter, or its maps are too small for an image.
        """
        check.data(z, "z", n_dims=4, like=self.D_)
        check.shape("n", len(self.D_), "H", "W", z=z)
        no_smaller(self.D_, z.shape[2:], "map")
        return conv_synthesis(z, self.D_)

    def score(self, x: Tensor) -> float:
        r"""Minus the mean objective of x: larger is better."""
        return -self.mean_objective(x, self.D_, self.transform(x))


def length(D: Tensor) -> Tensor:
    r"""‖D_j‖ of each filter, shape (k, 1, 1, 1)."""
    return D.flatten(1).norm(dim=1)[:, None, None, None]


def first_filters(x: Tensor, k: int, size: int, generator: torch.Generator | None) -> Tensor:
    r"""k patches of the images at random places, scaled to length 1: shape (k, c, size, size).

    Raises:
        ValueError: if an image is smaller than a filter, or fewer than k patches are not zero.
    """
    no_smaller(x.new_empty(size, size), x.shape[2:])
    found = x.unfold(2, size, 1).unfold(3, size, 1).permute(0, 2, 3, 1, 4, 5)  # a view, no copy
    energy = F.avg_pool2d(x.square().sum(1, keepdim=True), size, stride=1)
    places = (energy[:, 0] > 0).nonzero()
    if len(places) < k:
        raise ValueError(
            f"{len(places)} patches of the images are not zero; expected at least one for each of {k} filters"
        )
    chosen = places[random.permutation(len(places), x.device, generator)[:k]]
    filters = found[tuple(chosen.T)]
    return filters / length(filters)


def replace_unused(D: Tensor, x: Tensor, z: Tensor) -> tuple[Tensor, int]:
    r"""Filters that no code contains become the patches that are rebuilt worst, one an image, and are counted."""
    use = z.square().sum((0, 2, 3))
    unused = (use <= 1e-10 * use.max()).nonzero()[:, 0]
    if len(unused) == 0:
        return D, 0
    h, w = D.shape[2:]
    error = (x - conv_synthesis(z, D)).square().sum(1, keepdim=True)
    size, place = F.avg_pool2d(error, (h, w), stride=1).flatten(1).max(1)
    D, n_replaced, n_columns = D.clone(), 0, x.shape[3] - w + 1
    for j, i in zip(unused.tolist(), size.argsort(descending=True).tolist()):
        top, left = divmod(place[i].item(), n_columns)
        patch = x[i, :, top : top + h, left : left + w]
        if patch.norm() > 0:
            D[j], n_replaced = patch / patch.norm(), n_replaced + 1
    return D, n_replaced


# ------------------------------------------------------------------------------------- slow changes of brightness


def lowpass(x: Tensor, strength: float = 5.0) -> Tensor:
    r"""The slow part of images, which is left out before coding and added again after it: x − lowpass(x) is coded.

    .. math:: \arg\min_l \tfrac12 \lVert l - x \rVert^2 + \tfrac{\alpha}2 \lVert \nabla l \rVert^2

    with differences between neighbours inside of the image as ∇. In the image and its mirror images, taken together as
    periodic, each frequency is only scaled: :math:`\hat l = \hat x / (1 + 4 \alpha (\sin^2 \tfrac{\omega_1}2 + \sin^2
    \tfrac{\omega_2}2))`.

    Arguments:
        x: images, shape (n, c, H, W).
        strength: α > 0: waves longer than about 2π√α pixels stay.

    Returns:
        shape (n, c, H, W), with the mean of each image unchanged.

    Raises:
        ValueError: if x is no valid data or ``strength`` ≤ 0.

    References:
        Wohlberg (2016), Convolutional sparse representations as an image model for impulse noise restoration.
    """
    check.data(x, n_dims=4)
    check.positive(strength=strength)
    H, W = x.shape[2:]
    wide = torch.cat([x, x.flip(3)], 3)
    mirrored = torch.cat([wide, wide.flip(2)], 2)
    like = {"dtype": x.dtype, "device": x.device}
    rows, columns = torch.fft.fftfreq(2 * H, **like), torch.fft.rfftfreq(2 * W, **like)
    slope = (torch.pi * rows).sin().square()[:, None] + (torch.pi * columns).sin().square()
    smooth = torch.fft.rfft2(mirrored) / (1 + 4 * strength * slope)
    return torch.fft.irfft2(smooth, s=(2 * H, 2 * W))[:, :, :H, :W].contiguous()
