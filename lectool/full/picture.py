r"""Small pictures of what a run has learned."""

import io
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

__all__ = ["LARGEST", "save_picture", "tiles"]

LARGEST = 60_000  # bytes


def tiles(images: Tensor, n_columns: int = 10, gap: int = 2) -> Tensor:
    r"""Images as one, with white lines between them.

    Arguments:
        images: in [0, 1], shape (n, 784).
        n_columns: how many stand in a row; what does not fill a row is left out.
        gap: width of the lines.

    Returns:
        shape (height, width), bytes.
    """
    n_rows = len(images) // n_columns
    cells = torch.ones(n_rows, n_columns, 28 + gap, 28 + gap)
    squares = images[: n_rows * n_columns].detach().cpu().float().clamp(0, 1)
    cells[:, :, :28, :28] = squares.reshape(n_rows, n_columns, 28, 28)
    side = 28 + gap
    whole = cells.permute(0, 2, 1, 3).reshape(n_rows * side, n_columns * side)
    return (255 * whole[: -gap or None, : -gap or None]).round().byte()


def save_picture(picture: Tensor | Figure, path: Path) -> None:
    r"""Writes a PNG of at most :data:`LARGEST` bytes, in fewer colors if need be.

    Arguments:
        picture: images in [0, 1], shape (n, 784), ten in a row; or a figure.
        path: of the file.

    Raises:
        ValueError: if it cannot be made so small.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, Figure):
        drawn = io.BytesIO()
        picture.savefig(drawn, format="png", dpi=110)
        image = Image.open(drawn).convert("RGB")
    else:
        small = Image.fromarray(tiles(picture).numpy())
        image = small.resize((2 * small.width, 2 * small.height), Image.Resampling.NEAREST)
    for n_colors in (64, 32, 16, 8, 4):
        packed = io.BytesIO()
        image.quantize(n_colors, dither=Image.Dither.NONE).save(packed, "png", optimize=True)
        if packed.tell() <= LARGEST:
            path.write_bytes(packed.getvalue())
            return
    raise ValueError(f"{path.name} has {packed.tell():,} bytes; expected at most {LARGEST:,}")
