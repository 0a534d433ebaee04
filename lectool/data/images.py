r"""Digits, faces, photographs: found in ``LECTOOL_DATA``, downloaded, or stood in for."""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lectool import check, random
from lectool.data import fetch
from lectool.data.generated import drawn_faces

__all__ = ["Digits", "Faces", "digits", "faces", "patches", "read_idx", "variance_mnist"]

# What each file is called at its home, and the md5 of that file.
MNIST = {
    "train images": ("train-images-idx3-ubyte.gz", "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "train labels": ("train-labels-idx1-ubyte.gz", "md5:d53e105ee54ea40749a09fcbcd1e9432"),
    "test images": ("t10k-images-idx3-ubyte.gz", "md5:9fb629c4189551a2d022fa330f9573f3"),
    "test labels": ("t10k-labels-idx1-ubyte.gz", "md5:ec29112dd5afa0611ce80d1b7f02629c"),
}
# The copy that PyTorch keeps, and the authors' page, which is often closed.
MNIST_HOMES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://yann.lecun.com/exdb/mnist/",
)
FACES_FILE = "olivettifaces.mat"
FACES_HOMES = (
    "https://cs.nyu.edu/~roweis/data/olivettifaces.mat",
    "https://ndownloader.figshare.com/files/5976027",
)
FACES_HASH = "sha256:b612fb967f2dc77c9c62d3e1266e0c73d5fca46a4b8906c18e454d41af987794"
# Copies of each bundled training image: itself, and others that are shifted, turned and scaled a little.
COPIES = 8


# ---------------------------------------------------------------------------------------------- digits


@dataclass(frozen=True)
class Digits:
    r"""Images of handwritten digits.

    Attributes:
        x_train, x_test: gray values in [0, 1], shape (n, 784), float32.
        y_train, y_test: the digit that each shows, shape (n,), int64.
        source: ``"mnist"`` or ``"bundled"``.
        note: where they come from, in one sentence for the reader.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    source: str
    note: str
    shape: tuple[int, int] = (28, 28)

    def __str__(self) -> str:
        return f"{self.note} Training: {len(self.x_train):,} images; test: {len(self.x_test):,}."


def digits(
    n_train: int | None = None, n_test: int | None = None, *, device: torch.device | str = "cpu"
) -> Digits:
    r"""MNIST, or the bundled stand-in where MNIST is not at hand.

    Arguments:
        n_train: how many training images, the first ones; all where ``None``.
        n_test: the same for the test images.
        device: where the tensors live.

    Raises:
        ValueError: if a file is damaged (it is named), a number is below 1, or ``LECTOOL_DIGITS`` is
            unknown.
        Unavailable: if ``LECTOOL_DIGITS=mnist`` and MNIST cannot be had.
    """
    wanted = {"n_train": n_train, "n_test": n_test}
    check.at_least(1, **{name: n for name, n in wanted.items() if n is not None})
    wish = os.environ.get("LECTOOL_DIGITS") or "auto"
    check.one_of(("mnist", "bundled", "auto"), LECTOOL_DIGITS=wish)
    if wish == "bundled":
        arrays, source, why = _bundled_digits(), "bundled", "they were asked for"
    else:
        try:
            arrays, source, why = _mnist(), "mnist", ""
        except fetch.Unavailable as error:
            if wish == "mnist":
                raise
            arrays, source, why = _bundled_digits(), "bundled", f"MNIST could not be had: {error}"
    note = (
        "MNIST, 28×28 pixels."
        if source == "mnist"
        else "The bundled digits, not MNIST: scikit-learn's 8×8 digits enlarged to 28×28, each training "
        f"image in {COPIES} slightly moved copies ({why})."
    )
    fetch.used.add(source)
    x_train, y_train, x_test, y_test = (torch.as_tensor(a).to(device) for a in arrays)
    return Digits(
        x_train[:n_train], y_train[:n_train], x_test[:n_test], y_test[:n_test], source, note
    )


def read_idx(path: Path | str) -> np.ndarray:
    r"""Reads one IDX file of bytes, the format of MNIST, gzipped if its name ends in ``.gz``.

    Returns:
        uint8 array whose shape the file's header gives.

    Raises:
        ValueError: if a gzip is damaged, or the file is cut short, has another magic number or another length than
            its header says; the message names the file.
    """
    try:
        with (gzip.open if Path(path).suffix == ".gz" else open)(path, "rb") as file:
            content = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: damaged gzip file ({error}); delete it and fetch it again"
        ) from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(
            f"{path}: magic number {content[:4].hex()!r} is not that of an IDX file of bytes"
        )
    n_dims = content[3]
    header = 4 + 4 * n_dims
    if n_dims == 0 or len(content) < header:
        raise ValueError(f"{path}: cut short inside its header")
    shape = struct.unpack(f">{n_dims}I", content[4:header])
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise ValueError(
            f"{path}: {len(content)} bytes where its header {shape} asks for {expected}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _mnist() -> tuple[np.ndarray, ...]:
    names = [name for name, _ in MNIST.values()]
    # As they are at their home; unpacked; and unpacked by a program that takes "-idx" for a mistake.
    files = [
        (n, n.removesuffix(".gz"), n.removesuffix(".gz").replace("-idx", ".idx")) for n in names
    ]
    paths = fetch.find(
        "MNIST", files, own=("mnist", "mnist/raw", "MNIST", "MNIST/raw"), other=("raw", ".")
    ) or [
        fetch.download([home + name for home in MNIST_HOMES], name, known_hash)
        for name, known_hash in MNIST.values()
    ]
    arrays = [read_idx(path) for path in paths]
    for images, labels, path in (
        (arrays[0], arrays[1], paths[0]),
        (arrays[2], arrays[3], paths[2]),
    ):
        if images.ndim != 3 or images.shape[1:] != (28, 28):
            raise ValueError(f"{path}: shape {images.shape}; expected (n, 28, 28)")
        if labels.shape != images.shape[:1] or labels.size == 0 or labels.max() > 9:
            raise ValueError(
                f"{path}: {len(images)} images do not match their labels {labels.shape}"
            )
    x_train, y_train, x_test, y_test = arrays
    return (
        x_train.reshape(len(x_train), -1).astype(np.float32) / 255,
        y_train.astype(np.int64),
        x_test.reshape(len(x_test), -1).astype(np.float32) / 255,
        y_test.astype(np.int64),
    )


def _bundled_digits() -> tuple[Tensor, ...]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.as_tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    labels = torch.as_tensor(bunch.target, dtype=torch.int64)
    # The usual split: other writers wrote the test images.
    n_train = 1437
    # Of the data set, not of an experiment: never shifted.
    generator = torch.Generator().manual_seed(0)
    copies = images[:n_train].repeat_interleave(COPIES, 0)
    n = len(copies)
    # In radians, and in half the image's width.
    angle = 0.15 * random.noise(n, generator=generator)
    zoom = 1 + 0.06 * random.noise(n, generator=generator)
    shift = 0.08 * random.noise((n, 2), generator=generator)
    for t in (angle, zoom, shift):
        t[::COPIES] = 1.0 if t is zoom else 0.0
    x_train = _enlarge(copies, angle, zoom, shift)
    n_test = len(images) - n_train
    x_test = _enlarge(
        images[n_train:], torch.zeros(n_test), torch.ones(n_test), torch.zeros(n_test, 2)
    )
    order = torch.randperm(n, generator=generator)
    y_train = labels[:n_train].repeat_interleave(COPIES)
    return x_train[order], y_train[order], x_test, labels[n_train:]


def _enlarge(images: Tensor, angle: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    # 8×8 → 28×28 with crisp strokes: a bicubic enlargement and a contrast curve, as ink has.
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    theta = torch.stack(
        [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1
    )
    grid = F.affine_grid(theta * 1.15, [len(images), 1, 28, 28], align_corners=False)
    smooth = F.grid_sample(images, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    crisp = (torch.sigmoid(10 * (smooth - 0.5)) - 0.02).clamp(0, 1)
    return crisp.reshape(len(images), -1)


# ----------------------------------------------------------------------------------------------- faces


@dataclass(frozen=True)
class Faces:
    r"""Pictures of faces, ten of each of forty persons.

    Attributes:
        x: gray values in [0, 1], shape (400, 4096), float32; ten rows in sequence show one person.
        y: the person's number, shape (400,), int64.
        source: ``"olivetti"`` or ``"drawn"``.
        note: where they come from, in one sentence for the reader.
    """

    x: Tensor
    y: Tensor
    source: str
    note: str
    shape: tuple[int, int] = (64, 64)

    def __str__(self) -> str:
        return (
            f"{self.note} {len(self.x)} pictures of {int(self.y.max()) + 1} persons, 64×64 pixels."
        )


def faces(*, device: torch.device | str = "cpu") -> Faces:
    r"""The Olivetti faces (AT&T Laboratories Cambridge), or drawn ones where they are not at hand.

    Raises:
        ValueError: if the file found is damaged; the message names it.
    """
    try:
        found = fetch.find("Olivetti", [(FACES_FILE,)], own=("olivetti",), other=(".",))
        path = found[0] if found else fetch.download(FACES_HOMES, FACES_FILE, FACES_HASH)
        x, source, note = _read_faces(path), "olivetti", "The Olivetti faces."
    except fetch.Unavailable as error:
        x, source = drawn_faces(), "drawn"
        note = f"Drawn faces, made by a formula, not photographs (the Olivetti faces could not be had: {error})."
    fetch.used.add(source)
    y = torch.arange(40).repeat_interleave(10)
    return Faces(x.to(device), y.to(device), source, note)


def _read_faces(path: Path) -> Tensor:
    from scipy.io import loadmat

    try:
        columns = loadmat(path)["faces"]
    # loadmat raises many kinds for a damaged file.
    except Exception as error:
        raise ValueError(
            f"{path}: damaged, no MATLAB file with a matrix 'faces' ({error})"
        ) from error
    if columns.shape != (4096, 400):
        raise ValueError(f"{path}: 'faces' has shape {columns.shape}; expected (4096, 400)")
    images = torch.as_tensor(columns.T.copy(), dtype=torch.float32) / 255
    # MATLAB stores a picture column by column.
    return images.reshape(400, 64, 64).transpose(1, 2).reshape(400, -1).contiguous()


# ------------------------------------------------------------------------------------------ photographs


def patches(
    n: int, *, size: int = 16, images: Tensor | Sequence[Tensor] | None = None, seed: int = 0
) -> Tensor:
    r"""Square cut-outs from photographs, in gray.

    Arguments:
        n: number of patches.
        size: their side, in pixels.
        images: gray values, shape (m, height, width), or a list of pictures of any sizes, (height, width) each, as
            :func:`pictures` reads them from a folder; where ``None``, the two photographs that come with scikit-learn
            (a temple, a flower). Each is as likely as the others.
        seed: of the places; shifted by ``LECTOOL_SEED``.

    Returns:
        gray values, shape (n, size²); float32 in [0, 1] for scikit-learn's photographs.

    Raises:
        ValueError: if ``n`` is below 1, ``images`` are no valid data or smaller than a patch, or ``size`` is below 1.
    """
    check.at_least(1, n=n)
    generator = random.generator(seed)
    if images is None:
        images = photographs()
    if isinstance(images, Tensor):
        return _cut(check.data(images, "images", n_dims=3), n, size, generator)
    if not images:
        raise ValueError("images is an empty list; expected pictures")
    which = random.integers(len(images), n, generator=generator)
    found = [
        _cut(check.data(image, f"images[{i}]")[None], int((which == i).sum()), size, generator)
        for i, image in enumerate(images)
    ]
    return torch.cat(found)[random.permutation(n, generator=generator)]


def _cut(images: Tensor, n: int, size: int, generator: torch.Generator) -> Tensor:
    check.inside(f"[1, {min(images.shape[1:])}]", size=size)
    which, top, left = (
        random.integers(high, (n, 1, 1), images.device, generator)
        for high in (len(images), *places(images, size))
    )
    side = torch.arange(size, device=images.device)
    return images[which, top + side[:, None], left + side].reshape(n, -1)


def photographs() -> Tensor:
    r"""The two photographs that come with scikit-learn, gray values in [0, 1], shape (2, 427, 640)."""
    from sklearn.datasets import load_sample_images

    colors = torch.as_tensor(np.stack(load_sample_images().images), dtype=torch.float32)
    return colors.mean(3) / 255


def places(images: Tensor, size: int) -> tuple[int, int]:
    r"""In how many rows and columns a patch of this size can begin."""
    return images.shape[1] - size + 1, images.shape[2] - size + 1


def variance_mnist(
    n_train: int | None = None,
    n_test: int | None = None,
    *,
    background: float = 0.01,
    seed: int = 0,
) -> Digits:
    r"""Digits that no mean gives away: each pixel is noise, loud in the strokes and faint elsewhere.

    A pixel of gray value g becomes one draw from N(0, v) with :math:`v = b + (1 - b) g^2`, so that strokes
    have a standard deviation of about 1 and the background one of :math:`\sqrt b`. Every pixel has mean 0;
    the digit is in the variances alone.

    Arguments:
        n_train, n_test: as in :func:`digits`, whose images give the strokes.
        background: the variance b of an empty pixel, in [0, 1).
        seed: of the draws, one for each pixel of each image; shifted by ``LECTOOL_SEED``.

    Returns:
        digits whose ``x_train`` and ``x_test`` are real numbers, shape (n, 784).

    Raises:
        ValueError: if ``background`` is out of range, or as :func:`digits` does.
    """
    check.inside("[0, 1)", background=background)
    images = digits(n_train, n_test)
    generator = random.generator(seed)

    def draw(gray: Tensor) -> Tensor:
        sd = (background + (1 - background) * gray.square()).sqrt()
        return sd * random.noise(gray.shape, generator=generator)

    note = f"Variance digits: each pixel one draw of mean 0, its variance given by a stroke. {images.note}"
    return replace(images, x_train=draw(images.x_train), x_test=draw(images.x_test), note=note)
