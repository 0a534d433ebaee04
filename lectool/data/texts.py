r"""Documents as bags of words: generated, or the 20 newsgroups."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lectool import check
from lectool.data import fetch
from lectool.random import shifted

__all__ = ["Documents", "documents"]

# Where scikit-learn gets them from.
NEWSGROUPS_HOME = "https://ndownloader.figshare.com/files/5975967"


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
    its own with topics that it shares with two neighbors and with words that everybody uses; a
    document draws its topic shares from a Dirichlet distribution and 40 to 160 words from those topics.

    Arguments:
        source: ``"generated"``, or ``"newsgroups"`` for the 20 newsgroups (scikit-learn's loader, 14 MB).
        n_train, n_test: numbers of documents (at most these many for the newsgroups).
        n_words: size of the vocabulary (the most frequent words for the newsgroups).
        seed: of the generated corpus; shifted by ``LECTOOL_SEED``.

    Raises:
        ValueError: if ``source`` is unknown or a number is below 1.
        Unavailable: if the newsgroups cannot be had.
    """
    check.at_least(1, n_train=n_train, n_test=n_test, n_words=n_words)
    check.one_of(("generated", "newsgroups"), source=source)
    if source == "newsgroups":
        return _newsgroups(n_train, n_test, n_words)
    rng = np.random.default_rng(shifted(seed))
    n_categories, n = 8, n_train + n_test
    # Two topics of each category's own, one between neighbors on a circle, one of all.
    own = rng.dirichlet(np.full(n_words, 0.02), 2 * n_categories)
    shared = rng.dirichlet(np.full(n_words, 0.05), n_categories)
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
    from sklearn.feature_extraction.text import CountVectorizer

    train, test = _fetch_newsgroups()
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


def _fetch_newsgroups() -> list[Any]:
    r"""Both parts, from scikit-learn's own cache or from their home."""
    from sklearn.datasets import fetch_20newsgroups

    def parts(download: bool) -> list[Any]:
        return [
            fetch_20newsgroups(
                subset=subset, remove=("headers", "footers"), download_if_missing=download
            )
            for subset in ("train", "test")
        ]

    try:
        return parts(download=False)
    except OSError:
        fetch.reach(NEWSGROUPS_HOME)
    try:
        with _socket_timeout(fetch.DOWNLOAD_TIMEOUT):
            return parts(download=True)
    except OSError as error:
        raise fetch.Unavailable(
            f"{NEWSGROUPS_HOME} does not give it ({type(error).__name__})"
        ) from error


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    r"""scikit-learn sets none: a line that goes dead would be waited for without end."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
