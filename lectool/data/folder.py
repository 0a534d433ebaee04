r"""Photographs of one's own: a folder of pictures, in gray."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lectool import check

__all__ = ["pictures"]

# What systems leave in a folder of pictures without being asked.
LITTER = {"desktop.ini", "thumbs.db"}


def pictures(folder: Path | str, *, longest: int | None = 640) -> list[Tensor]:
    r"""All pictures of a folder in gray, for :func:`patches`.

    Their files may be of any kind that Pillow reads, of any size, gray or in color; gray is the mean of red, green
    and blue. A picture that was taken with the camera on its side is turned upright.

    Arguments:
        folder: where they lie; its own folders and hidden files are left out.
        longest: a picture whose longer side has more pixels is reduced to it, ≥ 1, so that a patch of some pixels
            shows more than a piece of sky; ``None`` to leave all as they are.

    Returns:
        in the order of their names, each of shape (height, width), float32 in [0, 1].

    Raises:
        ValueError: if there is no such folder, it holds no file, a file is no picture that can be read, or its gray
            values have no known range; the message names it.

    Example:
        >>> x = patches(50_000, size=28, images=pictures("holidays"))  # doctest: +SKIP
    """
    if longest is not None:
        check.at_least(1, longest=longest)
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected one that holds pictures")
    paths = [p for p in sorted(folder.iterdir()) if p.is_file() and not _is_hidden(p)]
    if not paths:
        raise ValueError(f"{folder}: holds no file; expected pictures")
    return [_read(path, longest) for path in paths]


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in LITTER


def _read(path: Path, longest: int | None) -> Tensor:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            gray = _gray(ImageOps.exif_transpose(opened))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path}: no picture that can be read ({error}); expected nothing else in the folder"
        ) from error
    low, high = gray.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{path}: its gray values have no known range; expected 8 or 16 bits")
    if longest is None or max(gray.shape) <= longest:
        return gray
    share = longest / max(gray.shape)
    size = [max(1, round(share * side)) for side in gray.shape]
    return F.adaptive_avg_pool2d(gray[None], size)[0].clamp(0, 1)


def _gray(image) -> Tensor:
    # Modes I and I;16 hold 16 bits, F real numbers; all others are colors of 8 bits, or become them.
    if image.mode.startswith("I"):
        return torch.as_tensor(np.asarray(image).astype(np.float32)) / 65535
    if image.mode == "F":
        return torch.as_tensor(np.array(image))
    return torch.as_tensor(np.asarray(image.convert("RGB"), np.float32)).mean(2) / 255
