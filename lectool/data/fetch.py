r"""Where files come from: the reader's own folder, the cache of earlier downloads, or a home on the network."""

import errno
import os
import queue
import shutil
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Sequence
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pooch

__all__ = ["Unavailable", "download", "find", "reach", "used"]

# Seconds until a download that cannot start is given up, over all homes of a file.
DOWNLOAD_TIMEOUT = 5.0
# Seconds for which a host that failed is not asked again.
REST = 180.0

# The sources of the data sets that this process has loaded; claims name them.
used: set[str] = set()

# When each host failed last, by the clock that never goes back, and why.
_failures: dict[str, tuple[float, str]] = {}


class Unavailable(OSError):
    r"""A data set that is neither in ``LECTOOL_DATA`` nor to be had from its home now."""


def find(
    title: str, files: Sequence[Sequence[str]], own: Sequence[str], other: Sequence[str]
) -> list[Path] | None:
    r"""Looks for the files of a data set in the folder that ``LECTOOL_DATA`` names.

    Arguments:
        title: of the data set, for the message.
        files: for each file the names under which it may lie there.
        own: folders, below ``LECTOOL_DATA``, that hold this data set and nothing else.
        other: folders in which the files may lie beside others.

    Returns:
        one path for each file; ``None`` where there is no such data set, or no ``LECTOOL_DATA``.

    Raises:
        ValueError: if ``LECTOOL_DATA`` is no folder, or some of the files are missing in it.
    """
    given = os.environ.get("LECTOOL_DATA")
    if not given:
        return None
    root = Path(given).expanduser()
    if not root.is_dir():
        raise ValueError(f"LECTOOL_DATA names {given!r}, which is no folder")
    incomplete: list[tuple[Path, list[str]]] = []
    for place in [*own, *other]:
        folder = root / place
        paths = [
            next((folder / n for n in names if (folder / n).is_file()), None) for names in files
        ]
        missing = [names[0] for names, path in zip(files, paths) if path is None]
        if not missing:
            return paths
        if len(missing) < len(files) or (place in own and _holds_something(folder)):
            incomplete.append((folder, missing))
    if incomplete:
        folder, missing = min(incomplete, key=lambda found: len(found[1]))
        raise ValueError(f"{folder}: {title} is incomplete, {', '.join(missing)} not found")
    return None


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())


def download(homes: Sequence[str], name: str, known_hash: str) -> Path:
    r"""A file from the cache, or from the first of its homes that gives it.

    Arguments:
        homes: addresses of the same file.
        name: of the file in the cache.
        known_hash: as pooch writes it, ``"sha256:…"`` or ``"md5:…"``.

    Raises:
        Unavailable: if it can be had from none of them; the message says why.
    """
    # pooch writes to a temporary name, checks the hash and renames: no partial file is ever found.
    cache = Path(pooch.os_cache("lectool"))
    if (cache / name).exists() and pooch.hashes.hash_matches(cache / name, known_hash):
        return cache / name
    _forbid_offline()
    reasons, end = [], time.monotonic() + DOWNLOAD_TIMEOUT
    for i, url in enumerate(homes):
        if _rests(url):
            reasons.append(_rests(url))
            continue
        patience = (end - time.monotonic()) / (len(homes) - i)

        def get(url: str, output_file: str, _pooch: object, patience: float = patience) -> None:
            with _begin(url, patience) as answer, open(output_file, "wb") as file:
                shutil.copyfileobj(answer, file)

        try:
            return Path(pooch.retrieve(url, known_hash, fname=name, path=cache, downloader=get))
        except Exception as error:
            if isinstance(error, PermissionError) or _cannot_write(error):
                warnings.warn(f"the cache folder {cache} cannot be written ({error})", stacklevel=3)
                raise Unavailable(f"the cache folder {cache} cannot be written") from error
            # No route, no such host, another file than expected: all mean "not now".
            reasons.append(_remember(url, error))
    raise Unavailable("; ".join(reasons))


def reach(url: str) -> None:
    r"""Makes sure that a file can be had now, before a library that waits without end asks for it.

    Raises:
        Unavailable: if its home does not begin to give it within 5 s; the message says why.
    """
    _forbid_offline()
    if _rests(url):
        raise Unavailable(_rests(url))
    try:
        _begin(url, DOWNLOAD_TIMEOUT).close()
    except Exception as error:
        raise Unavailable(_remember(url, error)) from error


def _begin(url: str, patience: float) -> HTTPResponse:
    r"""Asks for a file; what comes back has begun to answer and can be read."""
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "lectool"})
        try:
            answers.put(urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT))
        except Exception as error:
            answers.put(error)

    # In a thread, since looking up a host's name can hang for longer than any time-out of a socket.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=max(patience, 0))
    except queue.Empty:
        raise TimeoutError(f"no answer from {url}") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _forbid_offline() -> None:
    if os.environ.get("LECTOOL_OFFLINE") == "1":
        raise Unavailable("LECTOOL_OFFLINE forbids downloads")


def _rests(url: str) -> str:
    r"""Why the host of an address is not asked now; empty where it can be."""
    host = urlsplit(url).netloc
    since, why = _failures.get(host, (-REST, ""))
    rest = since + REST - time.monotonic()
    if rest <= 0 or not why:
        return ""
    return f"{host} is not asked again for {rest / 60:.0f} minutes, since {why}"


def _remember(url: str, error: Exception) -> str:
    kind = type(error).__name__
    if isinstance(error, urllib.error.HTTPError):
        kind = f"{kind} {error.code}"
    why = f"{url} does not give it ({kind})"
    _failures[urlsplit(url).netloc] = (time.monotonic(), why)
    return why


def _cannot_write(error: Exception) -> bool:
    return getattr(error, "errno", None) in (errno.EROFS, errno.ENOSPC)
