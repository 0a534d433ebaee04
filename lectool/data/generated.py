r"""Data sets made here, by a formula and a seed: curves, mixed signals, moving shapes, moved images, drawn faces."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lectool import check, random

__all__ = [
    "drawn_faces",
    "moving_shape",
    "shapes",
    "spiral",
    "three_signals",
    "transformed",
    "transformed_pairs",
]


def spiral(
    n: int, *, noise: float = 0.02, turns: float = 1.5, seed: int = 0
) -> tuple[Tensor, Tensor]:
    r"""Points on a spiral: a one-dimensional manifold in the plane that no line can follow.

    Arguments:
        n: number of points.
        noise: standard deviation of the noise added to both coordinates.
        turns: how often the spiral winds round the origin.
        seed: shifted by ``LECTOOL_SEED``.

    Returns:
        x: the points, shape (n, 2).
        t: the true position of each along the curve, uniform in [0, 1], shape (n,).

    Raises:
        ValueError: if ``n`` is below 1 or ``noise`` below 0.
    """
    check.at_least(1, n=n)
    check.non_negative(noise=noise)
    check.inside("(-∞, ∞)", turns=turns)
    generator = random.generator(seed)
    t = random.uniform(n, generator=generator)
    angle, radius = 2 * torch.pi * turns * t, 0.25 + 0.75 * t
    x = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return x + noise * random.noise((n, 2), generator=generator), t


def three_signals(n: int = 2000, *, noise: float = 0.2, seed: int = 0) -> tuple[Tensor, Tensor]:
    r"""A sine, a square wave and a saw tooth, each with noise of its own: sources to be mixed.

    Arguments:
        n: number of samples over 8 seconds.
        noise: standard deviation of the noise on each source.
        seed: of the noise; shifted by ``LECTOOL_SEED``.

    Returns:
        sources: standard deviation 1 each, shape (n, 3), float64.
        t: time in seconds, shape (n,).

    Raises:
        ValueError: if ``n`` is below 2 or ``noise`` below 0.
    """
    check.at_least(2, n=n)
    check.non_negative(noise=noise)
    t = torch.linspace(0, 8, n, dtype=torch.float64)
    clean = torch.stack([(2 * t).sin(), (3 * t).sin().sign(), 2 * (t % 1) - 1], 1)
    sources = clean + noise * random.noise((n, 3), clean, random.generator(seed))
    return sources / sources.std(0, correction=0), t


def moving_shape(
    n: int = 2000, *, size: int = 16, stripes: float = 0.3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    r"""A video: a disc wanders slowly, and flickers between bright and dark before jumping stripes.

    Arguments:
        n: number of frames.
        size: side of a frame, in pixels.
        stripes: amplitude of the stripes, whose phase and direction are drawn anew for every frame.
        seed: of the disc's path and of what jumps; shifted by ``LECTOOL_SEED``.

    Returns:
        frames: shape (n, size²), float32, centered: the disc adds 1 or −1, at random for every frame.
        places: the disc's center (column, row), both coordinates in [−1, 1], shape (n, 2).

    Raises:
        ValueError: if ``n`` is below 2, ``size`` below 4 or ``stripes`` below 0.
    """
    check.at_least(2, n=n)
    check.at_least(4, size=size)
    check.non_negative(stripes=stripes)
    generator = random.generator(seed)
    speed = torch.tensor([0.061, 0.043]) * (1 + 0.2 * random.uniform(2, generator=generator))
    start = 2 * torch.pi * random.uniform(2, generator=generator)
    places = torch.sin(speed * torch.arange(n)[:, None] + start)
    axis = torch.linspace(-1.4, 1.4, size)
    row, column = axis[None, :, None], axis[None, None, :]
    far = (column - places[:, 0, None, None]) ** 2 + (row - places[:, 1, None, None]) ** 2
    sign, phase, turn = random.uniform((3, n, 1, 1), generator=generator)
    disc = torch.sigmoid((0.16 - far) * 30) * torch.where(sign < 0.5, -1.0, 1.0)
    across = torch.where(turn < 0.5, column, row)
    return (disc + stripes * torch.sin(4 * across + 2 * torch.pi * phase)).flatten(1), places


def drawn_faces(n_persons: int = 40, n_views: int = 10) -> Tensor:
    r"""Faces made of soft ellipses: a stand-in for photographs where none are at hand.

    A person is a vector of proportions (face, eyes, brows, nose, mouth, hair); a view changes the
    direction of the light, the position of the head and the smile, and adds noise.

    Returns:
        gray values in [0, 1], shape (n_persons · n_views, 4096); the views of one person in sequence.

    Raises:
        ValueError: if a number is below 1.
    """
    check.at_least(1, n_persons=n_persons, n_views=n_views)
    # Of the data set, not of an experiment: never shifted.
    generator = torch.Generator().manual_seed(1)
    n = n_persons * n_views

    def person(low: float, high: float) -> Tensor:
        drawn = low + (high - low) * random.uniform(n_persons, generator=generator)
        return drawn.repeat_interleave(n_views)[:, None, None]

    def view(sd: float) -> Tensor:
        return (sd * random.noise(n, generator=generator))[:, None, None]

    axis = torch.linspace(-1, 1, 64)
    row, column = axis[:, None] - view(0.03), axis[None, :] - view(0.04)

    def ellipse(row_0, column_0, height, width, soft=0.12):
        radius = (((row - row_0) / height) ** 2 + ((column - column_0) / width) ** 2).sqrt()
        return torch.sigmoid((1 - radius) / soft)

    head_width, head_height, skin = person(0.55, 0.75), person(0.8, 0.95), person(0.55, 0.85)
    eye_row, eye_gap, eye_size = person(-0.25, -0.08), person(0.2, 0.33), person(0.06, 0.11)
    brow, nose, mouth_row = person(0.03, 0.07), person(0.12, 0.26), person(0.38, 0.55)
    mouth_width, hair, fringe = person(0.16, 0.34), person(0.05, 0.45), person(-0.75, -0.45)
    smile, light = view(0.03), view(0.35)
    head = ellipse(0.05, 0.0, head_height, head_width)
    x = 0.3 * (1 - head) + skin * head * (1 + light * column)
    cap = ellipse(-0.75, 0.0, fringe + 1.05, head_width * 1.1) * (row < fringe).float()
    x = x + (hair - x) * cap
    for side in (-1, 1):
        x = x * (1 - 0.8 * ellipse(eye_row, side * eye_gap, eye_size, eye_size * 1.5))
        x = x * (1 - 0.6 * ellipse(eye_row - 0.17, side * eye_gap, brow, eye_size * 2))
    x = x * (1 - 0.25 * ellipse(0.15, 0.0, nose, 0.06, soft=0.4))
    x = x * (1 - 0.6 * ellipse(mouth_row - smile * (column / 0.2) ** 2, 0.0, 0.05, mouth_width))
    x = x + 0.02 * random.noise(x.shape, generator=generator)
    return x.clamp(0, 1).reshape(n, -1)


def shapes(size: int = 16) -> tuple[Tensor, Tensor]:
    r"""Small images of one bright shape, one for each combination of four known factors.

    The factors are the column and the row of the shape's middle, its size, and its kind: an upright or a
    lying ellipse. All combinations appear once, so that the factors are independent and uniform.

    Arguments:
        size: side of an image in pixels, ≥ 8.

    Returns:
        x: gray values in [0, 1], shape (n, size²), float32.
        factors: integers from 0: column (12 values), row (8), size (5), kind (2), shape (n, 4).

    Raises:
        ValueError: if ``size`` is below 8.
    """
    check.at_least(8, size=size)
    counts = (12, 8, 5, 2)
    factors = torch.cartesian_prod(*(torch.arange(n) for n in counts))
    column, row, large, lying = (factors[:, f, None, None] / (n - 1) for f, n in enumerate(counts))
    axis = torch.linspace(-1, 1, size)
    right = axis[None, None, :] - 0.65 * (2 * column - 1)
    down = axis[None, :, None] - 0.45 * (2 * row - 1)
    radius, flat = 0.18 + 0.17 * large, 0.7 ** (2 * lying - 1)
    far = ((right * flat) ** 2 + (down / flat) ** 2).sqrt()
    return torch.sigmoid((radius - far) * 1.5 * size).flatten(1), factors


def transformed(images: Tensor, kind: str, amount: Tensor) -> Tensor:
    r"""Images moved, turned or scaled about their middle.

    Shifts by whole pixels wrap around and are exact: each is a permutation of the pixels. Turns and scalings read
    between the pixels (bilinear), and 0 beyond the edge, so that they are not quite orthonormal maps, and a scaling
    would not be even without pixels.

    Arguments:
        images: shape (n, height, width).
        kind: ``"shift"``, ``"rotate"`` or ``"scale"``.
        amount: for shifts (rows down, columns to the right) in pixels, whole, shape (n, 2); for turns the angle in
            radians, counterclockwise, shape (n,); for scalings the factor > 0 by which an image is enlarged,
            shape (n,).

    Returns:
        shape (n, height, width).

    Raises:
        ValueError: if ``kind`` is unknown, ``amount`` has another shape, a factor is not above 0 or a shift not whole.
    """
    check.one_of(("shift", "rotate", "scale"), kind=kind)
    n, height, width = check.data(images, "images", n_dims=3).shape
    check.shape(*((n, 2) if kind == "shift" else (n,)), amount=amount)
    if kind == "shift":
        if (amount != amount.round()).any():
            raise ValueError("a shift is no whole number of pixels; expected whole shifts")
        down, right = amount.long().to(images.device)[:, :, None, None].unbind(1)
        row = (torch.arange(height, device=images.device)[:, None] - down) % height
        column = (torch.arange(width, device=images.device) - right) % width
        return images[torch.arange(n, device=images.device)[:, None, None], row, column]
    amount = amount.to(images)
    if kind == "scale" and not (amount > 0).all():
        raise ValueError(f"amount has a factor {amount.min():.4g}; expected factors > 0")
    angle, zoom = (
        (amount, torch.ones_like(amount))
        if kind == "rotate"
        else (torch.zeros_like(amount), amount)
    )
    # Where each pixel of the result is read, in half-widths; rows run downwards.
    cos, sin, none = angle.cos() / zoom, angle.sin() / zoom, torch.zeros_like(angle)
    ratio = height / width
    theta = torch.stack([cos, -sin * ratio, none, sin / ratio, cos, none], 1).reshape(n, 2, 3)
    where = F.affine_grid(theta, [n, 1, height, width], align_corners=False)
    return F.grid_sample(images[:, None], where, align_corners=False)[:, 0]


def transformed_pairs(
    n: int,
    *,
    kind: str = "shift",
    size: int | tuple[int, int] = 10,
    amounts: Tensor | None = None,
    binary: bool = False,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Pairs of random images, the second of which is the first one transformed: what they show tells nothing of how.

    A first image is noise, smoothed a little for turns and scalings, which are made on a larger canvas, so that no
    edge shows; for binary ones a fifth of the pixels are on.

    Arguments:
        n: number of pairs, ≥ 1.
        kind: ``"shift"`` (with wrap-around), ``"rotate"`` or ``"scale"``.
        size: side of an image, or (height, width), in pixels, ≥ 4; shifts take a height of 1 too: a signal.
        amounts: what to choose from, with equal chances; in the units of :func:`transformed`. Where ``None``: all
            shifts by up to one pixel each way, nine in all (three of a signal); eight turns, by 45 degrees each; five
            factors from 0.6 to 1.65. Factors below 0.5 show what is beyond the canvas.
        binary: whether the pixels are 0 and 1; else they are real, of mean about 0 and variance 1.
        seed: of images and choices; shifted by ``LECTOOL_SEED``.

    Returns:
        x, y: the first and the second images, shape (n, height · width), float32.
        which: the row of ``amounts`` that each pair has, shape (n,), int64.

    Raises:
        ValueError: if a number or ``kind`` is out of range, or as :func:`transformed` does.

    Example:
        >>> x, y, which = transformed_pairs(100, size=8)
        >>> x.shape, y.shape, which.max() < 9
        (torch.Size([100, 64]), torch.Size([100, 64]), tensor(True))
    """
    check.at_least(1, n=n)
    height, width = (size, size) if isinstance(size, int) else size
    check.at_least(1 if kind == "shift" else 4, height=height)
    check.at_least(4, width=width)
    amounts = standard_amounts(kind, height) if amounts is None else amounts
    generator = random.generator(seed)
    which = random.integers(len(amounts), n, generator=generator)
    # Half as large again on every side, for the corners that a turn or a scaling brings in.
    margin = 0 if kind == "shift" else (max(height, width) + 1) // 2
    x = random.noise((n, height + 2 * margin, width + 2 * margin), generator=generator)
    x = x if kind == "shift" else smooth(x)
    y = transformed(x, kind, amounts[which])
    if margin:
        x, y = (t[:, margin:-margin, margin:-margin] for t in (x, y))
    if binary:
        x, y = ((t > 0.8416).float() for t in (x, y))  # the normal distribution's upper fifth
    return x.flatten(1), y.flatten(1), which


def standard_amounts(kind: str, height: int) -> Tensor:
    r"""The transformations that :func:`transformed_pairs` chooses from."""
    check.one_of(("shift", "rotate", "scale"), kind=kind)
    if kind == "shift":
        down = torch.arange(-1, 2) if height > 1 else torch.arange(1)
        return torch.cartesian_prod(down, torch.arange(-1, 2))
    if kind == "rotate":
        return torch.arange(8) * torch.pi / 4
    return torch.logspace(-0.5, 0.5, 5, base=torch.e)


def smooth(x: Tensor) -> Tensor:
    r"""Images, shape (n, height, width), blurred by the kernel (1, 2, 1) each way, with the variance of noise kept."""
    kernel = torch.tensor([1.0, 2.0, 1.0]).to(x)
    kernel = kernel / kernel.norm()
    return F.conv2d(x[:, None], torch.outer(kernel, kernel)[None, None], padding=1)[:, 0]
