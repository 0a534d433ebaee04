r"""Digits, faces, documents, photographs: found in ``LECTOOL_DATA``, downloaded, or stood in for."""

import errno
import gzip
import math
import os
import struct
import threading
import urllib.request
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pooch
import torch
import torch.nn.functional as F
from torch import Tensor

from lectool.data.generated import drawn_faces
from lectool.random import generator, shifted

__all__ = [
    "Digits",
    "Documents",
    "Faces",
    "Unavailable",
    "digits",
    "documents",
    "faces",
    "patches",
    "read_idx",
    "used",
    "variance_mnist",
]

MNIST = {  # name: (what it is called at its home, md5 of that file)
    "train images": ("train-images-idx3-ubyte.gz", "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "train labels": ("train-labels-idx1-ubyte.gz", "md5:d53e105ee54ea40749a09fcbcd1e9432"),
    "test images": ("t10k-images-idx3-ubyte.gz", "md5:9fb629c4189551a2d022fa330f9573f3"),
    "test labels": ("t10k-labels-idx1-ubyte.gz", "md5:ec29112dd5afa0611ce80d1b7f02629c"),
}
MNIST_HOMES = (  # the authors' page, which is often closed, and the copy that PyTorch keeps
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://yann.lecun.com/exdb/mnist/",
)
FACES_FILE = "olivettifaces.mat"
FACES_HOMES = (
    "https://cs.nyu.edu/~roweis/data/olivettifaces.mat",
    "https://ndownloader.figshare.com/files/5976027",
)
FACES_HASH = "sha256:b612fb967f2dc77c9c62d3e1266e0c73d5fca46a4b8906c18e454d41af987794"
DOWNLOAD_TIMEOUT = 5.0  # seconds until a download that cannot start is given up


# The sources of the data sets that this process has loaded; claims name them.
used: set[str] = set()


class Unavailable(OSError):
    r"""A data set that is neither in ``LECTOOL_DATA`` nor to be had from its home now."""


# ---------------------------------------------------------------------------------------------- digits


@dataclass(frozen=True)
class Digits:
    r"""Images of handwritten digits.

    Attributes:
        x_train, x_test: grey values in [0, 1], shape (n, 784), float32.
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
    for name, n in (("n_train", n_train), ("n_test", n_test)):
        if n is not None and n < 1:
            raise ValueError(f"{name} is {n}; expected at least 1")
    wish = os.environ.get("LECTOOL_DIGITS") or "auto"
    if wish not in ("mnist", "bundled", "auto"):
        raise ValueError(f"LECTOOL_DIGITS is {wish!r}; it can be 'mnist', 'bundled' or 'auto'")
    if wish == "bundled":
        arrays, source, why = _bundled_digits(), "bundled", "they were asked for"
    else:
        try:
            arrays, source, why = _mnist(), "mnist", ""
        except Unavailable as error:
            if wish == "mnist":
                raise
            arrays, source, why = _bundled_digits(), "bundled", f"MNIST could not be had: {error}"
    note = (
        "MNIST, 28×28 pixels."
        if source == "mnist"
        else "The bundled digits, not MNIST: scikit-learn's 8×8 digits enlarged to 28×28, each training "
        f"image in {COPIES} slightly moved copies ({why})."
    )
    used.add(source)
    x_train, y_train, x_test, y_test = (torch.as_tensor(a).to(device) for a in arrays)
    return Digits(
        x_train[:n_train], y_train[:n_train], x_test[:n_test], y_test[:n_test], source, note
    )


def read_idx(path: Path | str) -> np.ndarray:
    r"""Reads one gzipped IDX file of bytes, the format of MNIST.

    Returns:
        uint8 array whose shape the file's header gives.

    Raises:
        ValueError: if the file is no gzip, is cut short, has another magic number or another length than
            its header says; the message names the file.
    """
    try:
        with gzip.open(path, "rb") as file:
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
    folder = _local("mnist")
    names = [name for name, _ in MNIST.values()]
    if folder and any((folder / name).exists() for name in names):
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise ValueError(f"{folder}: MNIST is incomplete, {', '.join(missing)} not found")
        paths = [folder / name for name in names]
    else:
        paths = [
            _download([home + name for home in MNIST_HOMES], name, known_hash)
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


COPIES = 8  # of each bundled training image: itself and seven that are shifted, turned and scaled a little


def _bundled_digits() -> tuple[Tensor, ...]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.as_tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    labels = torch.as_tensor(bunch.target, dtype=torch.int64)
    n_train = 1437  # the usual split: other writers wrote the test images
    rng = torch.Generator().manual_seed(0)  # of the data set, not of an experiment: never shifted
    copies = images[:n_train].repeat_interleave(COPIES, 0)
    n = len(copies)
    angle = 0.15 * torch.randn(n, generator=rng)  # radians
    zoom = 1 + 0.06 * torch.randn(n, generator=rng)
    shift = 0.08 * torch.randn(n, 2, generator=rng)  # of half the image's width
    for t in (angle, zoom, shift):
        t[::COPIES] = 1.0 if t is zoom else 0.0
    x_train = _enlarge(copies, angle, zoom, shift)
    n_test = len(images) - n_train
    x_test = _enlarge(
        images[n_train:], torch.zeros(n_test), torch.ones(n_test), torch.zeros(n_test, 2)
    )
    order = torch.randperm(n, generator=rng)
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
        x: grey values in [0, 1], shape (400, 4096), float32; ten rows in sequence show one person.
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
        folder = _local("olivetti")
        if folder and (folder / FACES_FILE).exists():
            path = folder / FACES_FILE
        else:
            path = _download(FACES_HOMES, FACES_FILE, FACES_HASH)
        x, source, note = _read_faces(path), "olivetti", "The Olivetti faces."
    except Unavailable as error:
        x, source = drawn_faces(), "drawn"
        note = f"Drawn faces, made by a formula, not photographs (the Olivetti faces could not be had: {error})."
    used.add(source)
    y = torch.arange(40).repeat_interleave(10)
    return Faces(x.to(device), y.to(device), source, note)


def _read_faces(path: Path) -> Tensor:
    from scipy.io import loadmat

    try:
        columns = loadmat(path)["faces"]
    except Exception as error:  # loadmat raises many kinds for a damaged file
        raise ValueError(
            f"{path}: damaged, no MATLAB file with a matrix 'faces' ({error})"
        ) from error
    if columns.shape != (4096, 400):
        raise ValueError(f"{path}: 'faces' has shape {columns.shape}; expected (4096, 400)")
    images = torch.as_tensor(columns.T.copy(), dtype=torch.float32) / 255
    # MATLAB stores a picture column by column.
    return images.reshape(400, 64, 64).transpose(1, 2).reshape(400, -1).contiguous()


# ------------------------------------------------------------------------------------------- documents


@dataclass(frozen=True)
class Documents:
    r"""Documents as bags of words.

    Attributes:
        x_train, x_test: word counts, shape (n, n_words), float32.
        y_train, y_test: the category of each, shape (n,), int64.
        categories: their names.
        source: ``"generated"`` or ``"newsgroups"``.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    categories: list[str]
    source: str

    def __str__(self) -> str:
        what = {"generated": "A generated corpus", "newsgroups": "The 20 newsgroups"}[self.source]
        n, n_words = len(self.x_train) + len(self.x_test), self.x_train.shape[1]
        return (
            f"{what}: {n:,} documents over {n_words:,} words in {len(self.categories)} categories."
        )


def documents(
    source: str = "generated",
    *,
    n_train: int = 4000,
    n_test: int = 1000,
    n_words: int = 1000,
    seed: int = 0,
) -> Documents:
    r"""Word counts of documents with a known category.

    The generated corpus follows the story that topic models tell: each of eight categories mixes topics of
    its own with topics that it shares with two neighbours and with words that everybody uses; a
    document draws its topic shares from a Dirichlet distribution and 40 to 160 words from those topics.

    Arguments:
        source: ``"generated"``, or ``"newsgroups"`` for the 20 newsgroups (scikit-learn's loader, 14 MB).
        n_train, n_test: numbers of documents (at most these many for the newsgroups).
        n_words: size of the vocabulary (the most frequent words for the newsgroups).
        seed: of the generated corpus; shifted by ``LECTOOL_SEED``.

    Raises:
        ValueError: if ``source`` is unknown or a number is below 1.
    """
    if min(n_train, n_test, n_words) < 1:
        raise ValueError(
            f"n_train, n_test, n_words are {n_train}, {n_test}, {n_words}; expected at least 1"
        )
    if source == "newsgroups":
        return _newsgroups(n_train, n_test, n_words)
    if source != "generated":
        raise ValueError(f"source is {source!r}; it can be 'generated' or 'newsgroups'")
    rng = np.random.default_rng(shifted(seed))
    n_categories, n = 8, n_train + n_test
    own = rng.dirichlet(np.full(n_words, 0.02), 2 * n_categories)  # two topics a category
    shared = rng.dirichlet(np.full(n_words, 0.05), n_categories)  # between neighbours on a circle
    common = rng.dirichlet(np.full(n_words, 0.5), 1)
    topics = np.concatenate([own, shared, common])
    y = rng.integers(0, n_categories, n)
    concentration = np.full((n, len(topics)), 1e-3)
    rows = np.arange(n)
    for column in (2 * y, 2 * y + 1):
        concentration[rows, column] = 0.5
    for column in (2 * n_categories + y, 2 * n_categories + (y + 1) % n_categories):
        concentration[rows, column] = 0.4
    concentration[:, -1] = 3.0
    share = rng.gamma(concentration)
    share /= share.sum(1, keepdims=True)
    counts = rng.multinomial(rng.integers(40, 161, n), share @ topics)
    x, y = torch.as_tensor(counts, dtype=torch.float32), torch.as_tensor(y, dtype=torch.int64)
    names = ["markets", "politics", "weather", "sport", "science", "courts", "energy", "culture"]
    return Documents(x[:n_train], y[:n_train], x[n_train:], y[n_train:], names, source)


def _newsgroups(n_train: int, n_test: int, n_words: int) -> Documents:
    from sklearn.datasets import fetch_20newsgroups
    from sklearn.feature_extraction.text import CountVectorizer

    train, test = (
        fetch_20newsgroups(subset=part, remove=("headers", "footers")) for part in ("train", "test")
    )
    count = CountVectorizer(max_features=n_words, stop_words="english")
    x_train = count.fit_transform(train.data[:n_train]).toarray()
    x_test = count.transform(test.data[:n_test]).toarray()
    return Documents(
        torch.as_tensor(x_train, dtype=torch.float32),
        torch.as_tensor(train.target[:n_train], dtype=torch.int64),
        torch.as_tensor(x_test, dtype=torch.float32),
        torch.as_tensor(test.target[:n_test], dtype=torch.int64),
        list(train.target_names),
        "newsgroups",
    )


# ------------------------------------------------------------------------------------------ small sets


def patches(n: int, *, size: int = 16, seed: int = 0) -> Tensor:
    r"""Square cut-outs from two photographs that come with scikit-learn (a temple, a flower), in grey.

    Arguments:
        n: number of patches.
        size: their side, in pixels.
        seed: of the places; shifted by ``LECTOOL_SEED``.

    Returns:
        grey values in [0, 1], shape (n, size²), float32.

    Raises:
        ValueError: if ``n`` is below 1 or ``size`` not in 1 … 400.
    """
    from sklearn.datasets import load_sample_images

    if n < 1 or not 1 <= size <= 400:
        raise ValueError(f"n is {n}, size is {size}; expected n ≥ 1 and size in 1 … 400")
    grey = torch.as_tensor(np.stack(load_sample_images().images), dtype=torch.float32).mean(3) / 255
    rng = generator(seed)
    which, top, left = (
        torch.randint(high, (n, 1, 1), generator=rng) for high in (len(grey), *places(grey, size))
    )
    side = torch.arange(size)
    return grey[which, top + side[:, None], left + side].reshape(n, -1)


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

    A pixel of grey value g becomes one draw from N(0, v) with :math:`v = b + (1 - b) g^2`, so that strokes
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
    if not 0 <= background < 1:
        raise ValueError(f"background is {background}; expected a variance in [0, 1)")
    images = digits(n_train, n_test)
    rng = generator(seed)

    def draw(grey: Tensor) -> Tensor:
        sd = (background + (1 - background) * grey.square()).sqrt()
        return sd * torch.randn(grey.shape, generator=rng)

    note = f"Variance digits: each pixel one draw of mean 0, its variance given by a stroke. {images.note}"
    return replace(images, x_train=draw(images.x_train), x_test=draw(images.x_test), note=note)


# ------------------------------------------------------------------------------------------- fetching


def _local(name: str) -> Path | None:
    folder = os.environ.get("LECTOOL_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise ValueError(f"LECTOOL_DATA names {folder!r}, which is no folder")
    return Path(folder) / name


_no_network: list[str] = []  # why the first download failed: no second one is tried in this process


def _download(homes: Sequence[str], name: str, known_hash: str) -> Path:
    # pooch writes to a temporary name, checks the hash and renames: no partial file is ever found.
    cache = Path(pooch.os_cache("lectool"))
    if (cache / name).exists() and pooch.hashes.hash_matches(cache / name, known_hash):
        return cache / name
    if os.environ.get("LECTOOL_OFFLINE") == "1":
        raise Unavailable("LECTOOL_OFFLINE forbids downloads")
    if _no_network:
        raise Unavailable(_no_network[0])
    reasons = []
    for url in homes:
        try:
            _reach(url)
            fetch = pooch.HTTPDownloader(timeout=DOWNLOAD_TIMEOUT)
            return Path(pooch.retrieve(url, known_hash, fname=name, path=cache, downloader=fetch))
        except Exception as error:
            if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
                warnings.warn(f"the cache folder {cache} cannot be written ({error})", stacklevel=3)
                raise Unavailable(f"the cache folder {cache} cannot be written") from error
            # no route, no such host, another file than expected: all mean "not now"
            reasons.append(f"{url} does not give it ({type(error).__name__})")
    _no_network.append("; ".join(reasons))
    raise Unavailable(_no_network[0])


def _reach(url: str) -> None:
    # In a thread, since looking up a host's name can hang for longer than any time-out of a socket.
    answer: list[Exception | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "lectool"})
            with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT):
                answer.append(None)
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(DOWNLOAD_TIMEOUT / 2)  # two homes: 5 s in all
    if not answer:
        raise TimeoutError(f"no answer from {url}")
    if answer[0] is not None:
        raise answer[0]
