"""Data sets: damaged files, faults of network and cache, and what the generated ones promise."""

import gzip
import http.server
import io
import os
import re
import struct
import threading
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pooch
import pytest
import scipy.io
import torch

from lectool import data
from lectool.data import Unavailable, fetch, generated, images, read_idx

REAL = os.environ.get("LECTOOL_DATA")
NAMES = [name for name, _ in images.MNIST.values()]


def real_files(*parts: str) -> Path:
    path = Path(REAL or "", *parts)
    if not REAL or not path.exists():
        pytest.skip("LECTOOL_DATA is not set or has no " + "/".join(parts))
    return path


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No setting of the caller, an empty cache, and no network unless a test gives one."""
    for name in ("LECTOOL_DATA", "LECTOOL_DIGITS", "LECTOOL_OFFLINE", "LECTOOL_SEED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda _name: str(tmp_path / "cache"))
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setattr(fetch, "_failures", {})
    monkeypatch.setattr(fetch, "used", set())


@pytest.fixture
def light(monkeypatch):
    """Stand-ins that cost nothing, where only the way to them is tested."""
    monkeypatch.setattr(
        images, "_bundled_digits", lambda: (torch.zeros(1, 784), torch.zeros(1).long()) * 2
    )
    monkeypatch.setattr(images, "drawn_faces", lambda: torch.zeros(400, 4096))


def no_network(*_args, **_options):
    raise urllib.error.URLError("no route to host")


def idx(array: np.ndarray, *, magic: bytes | None = None) -> bytes:
    magic = bytes([0, 0, 8, array.ndim]) if magic is None else magic
    return magic + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, **replaced: bytes | None) -> Path:
    """A small MNIST; ``replaced`` gives the unzipped content of a file, by the start of its name."""
    rng = np.random.default_rng(0)
    (folder / "mnist").mkdir(parents=True, exist_ok=True)
    arrays = [
        rng.integers(0, 256, (12, 28, 28)),
        np.arange(12) % 10,
        rng.integers(0, 256, (5, 28, 28)),
        np.arange(5),
    ]
    for name, array in zip(NAMES, arrays, strict=True):
        content = idx(array)
        for start, other in replaced.items():
            if name.startswith(start):
                content = other
        if content is not None:
            (folder / "mnist" / name).write_bytes(gzip.compress(content))
    return folder


# ------------------------------------------------------------------------------------------ IDX files

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
GOOD = idx(IMAGES)


@pytest.mark.parametrize(
    "array", [IMAGES, IMAGES[0, 0], np.full((1, 1), 255, np.uint8), IMAGES[:, :, :, None]]
)
def test_read_idx_gives_the_array_back(tmp_path, array):
    path = tmp_path / "good.gz"
    path.write_bytes(gzip.compress(idx(array)))
    read = read_idx(path)
    assert read.dtype == np.uint8 and read.shape == array.shape and (read == array).all()
    assert (read_idx(str(path)) == array).all()


DAMAGED = {
    "not gzip": (GOOD, "damaged gzip"),
    "empty file": (b"", "magic number"),
    "html page": (b"<html>not found</html>", "damaged gzip"),
    "truncated gzip": (gzip.compress(GOOD)[:-12], "damaged gzip"),
    "gzip without its end": (gzip.compress(GOOD)[:-4], "damaged gzip"),
    "gzip with a flipped byte": (
        (lambda c: c[:14] + bytes([c[14] ^ 0xFF]) + c[15:])(gzip.compress(bytes(range(256)) * 9)),
        "damaged gzip",
    ),
    "gzip with a wrong checksum": (
        (lambda c: c[:-8] + b"\0\0\0\0" + c[-4:])(gzip.compress(GOOD)),
        "damaged gzip",
    ),
    "garbage behind the gzip": (gzip.compress(GOOD) + b"garbage", "damaged gzip"),
    "wrong magic": (gzip.compress(b"\x01" + GOOD[1:]), "magic number '01000803'"),
    "wrong magic, second byte": (
        gzip.compress(GOOD[:1] + b"\x01" + GOOD[2:]),
        "magic number '00010803'",
    ),
    "wrong type byte": (
        gzip.compress(idx(IMAGES, magic=bytes([0, 0, 0x0D, 3]))),
        "magic number '00000d03'",
    ),
    "no dimension": (gzip.compress(bytes([0, 0, 8, 0])), "header"),
    "magic cut": (gzip.compress(GOOD[:3]), "magic number"),
    "header cut": (gzip.compress(GOOD[:11]), "header"),
    "body missing": (gzip.compress(GOOD[:16]), "16 bytes where its header"),
    "body too short": (gzip.compress(GOOD[:-1]), "39 bytes where its header .* asks for 40"),
    "body too long": (gzip.compress(GOOD + b"\0"), "41 bytes where its header .* asks for 40"),
    "one more dimension": (
        gzip.compress(idx(IMAGES, magic=bytes([0, 0, 8, 4]))),
        "where its header|header",
    ),
    "sizes that overflow": (
        gzip.compress(bytes([0, 0, 8, 4]) + struct.pack(">4I", *[65536] * 4)),
        "where its header",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_named(tmp_path, kind):
    content, message = DAMAGED[kind]
    path = tmp_path / "some-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*({message})"):
        read_idx(path)


# ---------------------------------------------------------------------------------------------- digits


def test_digits_from_a_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("LECTOOL_DATA", str(write_mnist(tmp_path)))
    d = data.digits()
    assert d.source == "mnist" and d.note.startswith("MNIST") and "12 images; test: 5" in str(d)
    assert d.x_train.shape == (12, 784) and d.x_test.shape == (5, 784)
    assert d.x_train.dtype == torch.float32 and d.y_train.dtype == torch.int64
    raw = read_idx(tmp_path / "mnist" / NAMES[0])
    torch.testing.assert_close(
        d.x_train, torch.as_tensor(raw.reshape(12, 784).copy()).float() / 255
    )
    assert d.y_train.tolist() == [*range(10), 0, 1] and d.y_test.tolist() == list(range(5))
    few = data.digits(n_train=3, n_test=2)
    assert torch.equal(few.x_train, d.x_train[:3]) and torch.equal(few.y_test, d.y_test[:2])
    assert len(few.y_train) == 3 and len(few.x_test) == 2
    assert fetch.used == {"mnist"}


def test_digits_of_the_real_files(monkeypatch):
    real_files("mnist")
    monkeypatch.setenv("LECTOOL_DATA", REAL)
    d = data.digits(n_train=60_000)
    assert d.x_train.shape == (60_000, 784) and d.x_test.shape == (10_000, 784)
    assert d.x_train.min() == 0 and d.x_train.max() == 1
    assert d.x_train.mean().item() == pytest.approx(
        0.1307, abs=1e-4
    )  # known to everybody who ever normalized them
    assert d.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert d.y_test.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("missing", NAMES)
def test_three_of_four_files(monkeypatch, tmp_path, missing):
    write_mnist(tmp_path, **{missing: None})
    monkeypatch.setenv("LECTOOL_DATA", str(tmp_path))
    with pytest.raises(
        ValueError, match=f"{re.escape(str(tmp_path))}.*incomplete, {missing} not found"
    ):
        data.digits()


@pytest.mark.parametrize("damaged", NAMES)
@pytest.mark.parametrize("wish", ["auto", "mnist"])
def test_one_damaged_file_of_four_is_never_passed_over(monkeypatch, tmp_path, damaged, wish):
    write_mnist(tmp_path, **{damaged: b"\0\0\x09\x01" + bytes(8)})
    monkeypatch.setenv("LECTOOL_DATA", str(tmp_path))
    monkeypatch.setenv("LECTOOL_DIGITS", wish)
    with pytest.raises(ValueError, match=damaged):
        data.digits()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("train-images", np.zeros((11, 28, 28))),  # fewer than labels
        ("train-images", np.zeros((12, 28, 27))),
        ("train-images", np.zeros((12, 784))),
        ("t10k-images", np.zeros((6, 28, 28))),  # more than labels
        ("train-labels", np.zeros((12, 1))),
        ("train-labels", np.full(12, 10)),
        ("t10k-labels", np.arange(4)),
    ],
)
def test_images_that_do_not_match_their_labels(monkeypatch, tmp_path, name, array):
    write_mnist(tmp_path, **{name: idx(array)})
    monkeypatch.setenv("LECTOOL_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=f"{name.split('-')[0]}-images-idx3-ubyte.gz: "):
        data.digits()


def test_no_images_at_all(monkeypatch, tmp_path):
    write_mnist(
        tmp_path, **{"train-images": idx(np.zeros((0, 28, 28))), "train-labels": idx(np.zeros(0))}
    )
    monkeypatch.setenv("LECTOOL_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="train-images"):
        data.digits()


def test_data_folder_that_is_none(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("absent", "file"):
        monkeypatch.setenv("LECTOOL_DATA", str(tmp_path / name))
        for load in (data.digits, data.faces):
            with pytest.raises(
                ValueError, match=f"LECTOOL_DATA names .*{name}.*, which is no folder"
            ):
                load()


def test_a_data_folder_without_mnist_falls_back(monkeypatch, tmp_path, light):
    monkeypatch.setenv("LECTOOL_DATA", str(tmp_path))
    assert data.digits().source == "bundled"


@pytest.mark.parametrize("wish", ["MNIST", "fashion", "0"])
def test_unknown_digits(monkeypatch, wish):
    monkeypatch.setenv("LECTOOL_DIGITS", wish)
    with pytest.raises(
        ValueError, match=f"LECTOOL_DIGITS is '{wish}'; it can be 'mnist', 'bundled' or 'auto'"
    ):
        data.digits()


@pytest.mark.parametrize("numbers", [{"n_train": 0}, {"n_test": 0}, {"n_train": -5}])
def test_digits_rejects_numbers(numbers):
    with pytest.raises(
        ValueError, match=f"{next(iter(numbers))} is .*; expected a finite number ≥ 1"
    ):
        data.digits(**numbers)


def test_bundled_digits_say_so_and_are_what_they_say(monkeypatch, tmp_path):
    from sklearn.linear_model import LogisticRegression

    monkeypatch.setenv("LECTOOL_DATA", str(write_mnist(tmp_path)))
    monkeypatch.setenv("LECTOOL_DIGITS", "bundled")  # though MNIST is there
    d = data.digits()
    assert (
        d.source == "bundled"
        and "not MNIST" in d.note
        and "8×8" in d.note
        and "not MNIST" in str(d)
    )
    assert d.x_train.shape == (1437 * images.COPIES, 784) and d.x_test.shape == (360, 784)
    assert len(d.y_train) == len(d.x_train) and d.y_train.unique().tolist() == list(range(10))
    for x in (d.x_train, d.x_test):
        assert x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1 and x.max() > 0.9
    ink = d.x_train.reshape(-1, 28, 28).mean(0)
    assert ink[8:20, 8:20].mean() > 5 * ink[0].mean()  # strokes in the middle, nothing at the edge
    monkeypatch.setenv("LECTOOL_SEED", "3")
    assert torch.equal(
        data.digits().x_train, d.x_train
    )  # data are no experiment: no seed moves them
    model = LogisticRegression(max_iter=30, tol=1e-2).fit(
        d.x_train[:1500].numpy(), d.y_train[:1500].numpy()
    )
    assert (
        model.score(d.x_test.numpy(), d.y_test.numpy()) > 0.75
    )  # upright, and labels go with images


# ------------------------------------------------------------------------------ no network, no cache


def test_no_network_falls_back_and_says_why(light):
    d = data.digits()
    assert d.source == "bundled" and "MNIST could not be had" in d.note and "URLError" in d.note


def test_no_network_and_mnist_forced(monkeypatch, light):
    monkeypatch.setenv("LECTOOL_DIGITS", "mnist")
    with pytest.raises(Unavailable, match="does not give it"):
        data.digits()


def test_a_network_that_hangs_is_given_up_once_a_process(monkeypatch, light):
    asked = []

    def hang(*_args, **_options):
        asked.append(1)
        time.sleep(30)

    monkeypatch.setattr(urllib.request, "urlopen", hang)
    monkeypatch.setattr(fetch, "DOWNLOAD_TIMEOUT", 1.0)
    start = time.perf_counter()
    assert data.digits().source == "bundled"
    assert 0.9 < time.perf_counter() - start < 1.7  # over both homes
    n_asked = len(asked)
    start = time.perf_counter()
    assert data.digits().source == "bundled"
    assert time.perf_counter() - start < 0.4 and len(asked) == n_asked
    assert data.faces().source == "drawn" and len(asked) > n_asked  # other hosts: asked once, too
    n_asked, start = len(asked), time.perf_counter()
    assert data.faces().source == "drawn"
    assert time.perf_counter() - start < 0.4 and len(asked) == n_asked


def refusal(url: str, code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError(url, code, "", {}, None)


def test_a_refusal_by_one_home_does_not_bar_another(monkeypatch, tmp_path, light):
    home = serve_mnist(monkeypatch, tmp_path)
    mnist_hosts = {urlsplit(url).netloc for url in images.MNIST_HOMES}

    def answer(request, timeout=None):
        if urlsplit(request.full_url).netloc in mnist_hosts:
            return home.serve(request)
        raise refusal(request.full_url, 403)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    faces = data.faces()
    assert faces.source == "drawn" and "HTTPError 403" in faces.note
    assert urlsplit(images.FACES_HOMES[0]).netloc in faces.note
    assert data.digits().source == "mnist"


def test_a_failure_is_forgotten_after_some_minutes(monkeypatch, tmp_path, light):
    home, busy, now = serve_mnist(monkeypatch, tmp_path), [True], [1000.0]

    def answer(request, timeout=None):
        if busy[0]:
            raise refusal(request.full_url, 503)
        return home.serve(request)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    monkeypatch.setattr(fetch.time, "monotonic", lambda: now[0])
    assert "HTTPError 503" in data.digits().note
    busy[0] = False
    now[0] += fetch.REST - 1
    resting = data.digits()
    assert resting.source == "bundled" and "is not asked again for" in resting.note
    assert "HTTPError 503" in resting.note and home.asked == []
    now[0] += 2
    assert data.digits().source == "mnist"


def test_a_home_that_knows_only_get_is_asked_for_the_file(monkeypatch, tmp_path):
    """A real server on this machine: it refuses HEAD and takes its time, as some homes do."""
    source = write_mnist(tmp_path / "home") / "mnist"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(405)

        def do_GET(self):
            time.sleep(0.3)
            content = (source / self.path.rsplit("/", 1)[1]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_args):
            pass

    monkeypatch.undo()
    for name in ("LECTOOL_DATA", "LECTOOL_DIGITS", "LECTOOL_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda _name: str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "_failures", {})
    known = {
        kind: (name, "md5:" + pooch_hash((source / name).read_bytes()))
        for kind, (name, _) in images.MNIST.items()
    }
    monkeypatch.setattr(images, "MNIST", known)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setattr(images, "MNIST_HOMES", (address,))
        assert data.digits().x_train.shape == (12, 784)
        server.shutdown()


@pytest.mark.parametrize("place", ["mnist", "MNIST/raw", "raw", "."])
@pytest.mark.parametrize("kind", ["packed", "unpacked", "dotted"])
def test_mnist_is_found_as_others_leave_it(monkeypatch, tmp_path, place, kind):
    source, folder = write_mnist(tmp_path / "home") / "mnist", tmp_path / "own" / place
    folder.mkdir(parents=True)
    for name in NAMES:
        content = (source / name).read_bytes()
        if kind == "packed":
            (folder / name).write_bytes(content)
        else:
            plain = name.removesuffix(".gz")
            plain = plain.replace("-idx", ".idx") if kind == "dotted" else plain
            (folder / plain).write_bytes(gzip.decompress(content))
    monkeypatch.setenv("LECTOOL_DATA", str(tmp_path / "own"))
    assert data.digits().source == "mnist" and data.digits().x_train.shape == (12, 784)


def test_a_folder_with_some_of_the_files_says_which_are_missing(monkeypatch, tmp_path):
    source = write_mnist(tmp_path) / "mnist"
    (source / NAMES[2]).unlink()
    monkeypatch.setenv("LECTOOL_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=f"MNIST is incomplete, {re.escape(NAMES[2])} not found"):
        data.digits()


def test_the_promise_is_five_seconds_over_all_homes():
    assert fetch.DOWNLOAD_TIMEOUT <= 5
    assert len(images.MNIST_HOMES) == len(images.FACES_HOMES) == 2  # each is asked for half of it


def test_offline_forbids_even_asking(monkeypatch, light):
    def asked(*_args, **_options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(urllib.request, "urlopen", asked)
    monkeypatch.setattr(pooch, "retrieve", asked)
    monkeypatch.setenv("LECTOOL_OFFLINE", "1")
    d = data.digits()
    assert d.source == "bundled" and "LECTOOL_OFFLINE forbids downloads" in d.note
    assert data.faces().source == "drawn"


class Home:
    """A network that answers, and serves given bytes under any name."""

    def __init__(self, monkeypatch, contents: dict[str, bytes], *, breaks: bool = False):
        self.files, self.asked, self.breaks = contents, [], breaks
        monkeypatch.setattr(urllib.request, "urlopen", self.serve)

    def serve(self, request, timeout=None) -> io.BytesIO:
        self.asked.append(request.full_url)
        content = self.files[request.full_url.rsplit("/", 1)[1]]
        return Broken(content[: len(content) // 2]) if self.breaks else io.BytesIO(content)


class Broken(io.BytesIO):
    """An answer whose line goes dead in the middle."""

    def read(self, *args):
        if chunk := super().read(*args):
            return chunk
        raise ConnectionError("the line went dead")


def files_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


def serve_mnist(monkeypatch, tmp_path, *, good: bool = True, **options) -> Home:
    source = write_mnist(tmp_path / "home") / "mnist"
    contents = {name: (source / name).read_bytes() for name in NAMES}
    known = {
        kind: (name, "md5:" + (pooch_hash(contents[name]) if good else "0" * 32))
        for kind, (name, _) in images.MNIST.items()
    }
    monkeypatch.setattr(images, "MNIST", known)
    return Home(monkeypatch, contents, **options)


def pooch_hash(content: bytes) -> str:
    import hashlib

    return hashlib.md5(content).hexdigest()


def test_a_download_is_cached_and_not_asked_for_again(monkeypatch, tmp_path):
    home = serve_mnist(monkeypatch, tmp_path)
    d = data.digits()
    assert d.source == "mnist" and d.x_train.shape == (12, 784)
    assert files_in(tmp_path / "cache") == sorted(NAMES)
    assert len(home.asked) == 4
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    assert torch.equal(data.digits().x_test, d.x_test) and len(home.asked) == 4


def test_a_download_of_another_hash_is_not_used(monkeypatch, tmp_path, light):
    home = serve_mnist(monkeypatch, tmp_path, good=False)
    d = data.digits()
    assert d.source == "bundled" and "does not give it (ValueError)" in d.note
    assert len(home.asked) == len(images.MNIST_HOMES)  # the other home was tried too
    assert files_in(tmp_path / "cache") == []
    monkeypatch.setenv("LECTOOL_DIGITS", "mnist")
    with pytest.raises(Unavailable):
        data.digits()


def test_a_download_that_breaks_leaves_no_partial_file(monkeypatch, tmp_path, light):
    serve_mnist(monkeypatch, tmp_path, breaks=True)
    d = data.digits()
    assert d.source == "bundled" and "ConnectionError" in d.note
    assert files_in(tmp_path / "cache") == []


def test_a_damaged_file_in_the_cache_is_fetched_anew_or_left(monkeypatch, tmp_path, light):
    home = serve_mnist(monkeypatch, tmp_path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / NAMES[0]).write_bytes(b"half a file")
    monkeypatch.setenv("LECTOOL_OFFLINE", "1")
    assert data.digits().source == "bundled"
    monkeypatch.delenv("LECTOOL_OFFLINE")
    assert data.digits().source == "mnist" and len(home.asked) == 4


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")]
)
def test_a_read_only_cache_warns_and_falls_back(monkeypatch, tmp_path, error, light):
    def refuse(*_args, **_options):
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **o: io.BytesIO(b""))
    monkeypatch.setattr(pooch, "retrieve", refuse)
    with pytest.warns(UserWarning, match=f"{re.escape(str(tmp_path / 'cache'))} cannot be written"):
        d = data.digits()
    assert d.source == "bundled" and "cannot be written" in d.note
    assert files_in(tmp_path / "cache") == []


def test_a_read_only_cache_that_has_the_files_is_used(monkeypatch, tmp_path):
    serve_mnist(monkeypatch, tmp_path)
    data.digits()

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data.digits().source == "mnist"


# ----------------------------------------------------------------------------------------------- faces


def write_faces(folder: Path, **content) -> Path:
    (folder / "olivetti").mkdir(exist_ok=True)
    scipy.io.savemat(folder / "olivetti" / images.FACES_FILE, content)
    return folder / "olivetti" / images.FACES_FILE


def test_faces_from_a_folder_stand_upright(monkeypatch, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4096, 400)).astype(np.uint8)
    write_faces(tmp_path, faces=pixels)
    monkeypatch.setenv("LECTOOL_DATA", str(tmp_path))
    f = data.faces()
    assert f.source == "olivetti" and f.x.shape == (400, 4096) and f.x.dtype == torch.float32
    assert f.y.tolist() == [i // 10 for i in range(400)] and "40 persons" in str(f)
    # MATLAB goes down the columns: pixel (row, column) of image i is number 64 · column + row.
    for i, row, column in ((0, 0, 1), (7, 5, 60), (399, 63, 0)):
        assert f.x[i].reshape(64, 64)[row, column].item() == pytest.approx(
            pixels[64 * column + row, i] / 255
        )


def test_faces_of_the_real_file(monkeypatch):
    real_files("olivetti", images.FACES_FILE)
    monkeypatch.setenv("LECTOOL_DATA", REAL)
    f = data.faces()
    assert f.source == "olivetti" and 0 <= f.x.min() and 0.9 < f.x.max() <= 1
    assert more_alike_within(f.x) > 1.5
    image = f.x.mean(0).reshape(64, 64)
    assert (image - image.flip(1)).abs().mean() < 0.5 * (
        image - image.flip(0)
    ).abs().mean()  # faces: left ≈ right


@pytest.mark.parametrize("kind", ["text", "truncated", "no faces", "wrong shape", "empty"])
def test_damaged_faces(monkeypatch, tmp_path, kind):
    path = write_faces(
        tmp_path, faces=np.zeros((4096, 400), np.uint8) + np.arange(400, dtype=np.uint8)
    )
    if kind == "text":
        path.write_bytes(b"<html>" * 100)
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "no faces":
        write_faces(tmp_path, other=np.zeros((4096, 400)))
    else:
        write_faces(tmp_path, faces=np.zeros((400, 4096)))
    monkeypatch.setenv("LECTOOL_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": ('faces' has shape|damaged)"):
        data.faces()


def more_alike_within(x: torch.Tensor) -> float:
    """Mean squared distance between persons over that between views of one."""
    distance = torch.cdist(x.double(), x.double()) ** 2
    person = torch.arange(len(x)) // 10
    same = person[:, None] == person
    return (distance[~same].mean() / (distance[same].sum() / (same.sum() - len(x)))).item()


def test_drawn_faces(monkeypatch):
    x = data.drawn_faces()
    assert x.shape == (400, 4096) and x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1
    torch.manual_seed(5)
    state = torch.get_rng_state()
    small = data.drawn_faces(3, 2)
    monkeypatch.setenv("LECTOOL_SEED", "9")
    assert torch.equal(data.drawn_faces(3, 2), small) and small.shape == (6, 4096)
    assert torch.equal(torch.get_rng_state(), state)  # of no one else's random numbers
    assert more_alike_within(x) > 1.5


def test_faces_fall_back_to_drawn_ones(monkeypatch):
    drawn = torch.rand(400, 4096)
    monkeypatch.setattr(images, "drawn_faces", lambda: drawn)
    f = data.faces()
    assert (
        f.source == "drawn"
        and "not photographs" in f.note
        and f.x is drawn
        and fetch.used == {"drawn"}
    )


# ------------------------------------------------------------------------------------------- documents


def test_documents_are_repeatable_and_shifted_by_the_seed(monkeypatch):
    first, again, other = (
        data.documents(n_train=50, n_test=20, n_words=100, seed=s) for s in (0, 0, 1)
    )
    assert torch.equal(first.x_train, again.x_train) and torch.equal(first.y_test, again.y_test)
    assert not torch.equal(first.x_train, other.x_train)
    monkeypatch.setenv("LECTOOL_SEED", "1")
    assert torch.equal(data.documents(n_train=50, n_test=20, n_words=100).x_train, other.x_train)


def test_documents_are_counts_with_categories():
    d = data.documents(n_train=800, n_test=200, n_words=300)
    assert (
        d.x_train.shape == (800, 300)
        and d.x_test.shape == (200, 300)
        and d.x_train.dtype == torch.float32
    )
    assert d.y_train.dtype == torch.int64 and len(d.y_train) == 800 and len(d.y_test) == 200
    assert d.y_train.unique().tolist() == list(range(8)) and len(d.categories) == 8
    assert torch.equal(d.x_train, d.x_train.round()) and d.x_train.min() == 0
    lengths = torch.cat([d.x_train, d.x_test]).sum(1)
    assert lengths.min() >= 40 and lengths.max() <= 160
    assert lengths.mean().item() == pytest.approx(100, abs=4)
    assert "generated corpus: 1,000 documents over 300 words in 8 categories" in str(d)


def test_documents_of_a_category_share_words_and_neighbors_some():
    d = data.documents(n_train=3000, n_test=1, n_words=500)
    share = d.x_train / d.x_train.sum(1, keepdim=True)
    mean = torch.stack([share[d.y_train == c].mean(0) for c in range(8)])
    mean = mean - mean.mean(0)
    close = torch.nn.functional.cosine_similarity(mean[:, None], mean[None], dim=2)
    neighbors = torch.tensor([close[c, (c + 1) % 8] for c in range(8)]).mean()
    strangers = torch.tensor([close[c, (c + 4) % 8] for c in range(8)]).mean()
    assert neighbors > strangers + 0.1
    found = ((d.x_train / d.x_train.norm(dim=1, keepdim=True)) @ mean.T).argmax(1)
    assert (found == d.y_train).double().mean() > 0.7  # words tell the category


@pytest.mark.parametrize("numbers", [{"n_train": 0}, {"n_test": 0}, {"n_words": 0}])
def test_documents_rejects(numbers):
    with pytest.raises(ValueError, match="expected a finite number ≥ 1"):
        data.documents(**numbers)
    with pytest.raises(ValueError, match="it can be 'generated' or 'newsgroups'"):
        data.documents("reuters")


def test_newsgroups(monkeypatch):
    import sklearn.datasets

    texts = {
        "train": ["orbit orbit moon", "goal match goal", "moon orbit launch", "the and of"],
        "test": ["goal orbit unseen", "launch"],
    }

    def loader(*, subset, remove, download_if_missing):
        assert remove == ("headers", "footers") and not download_if_missing
        target = {"train": np.array([0, 1, 0, 1]), "test": np.array([1, 0])}[subset]
        return SimpleNamespace(data=texts[subset], target=target, target_names=["space", "sport"])

    monkeypatch.setattr(sklearn.datasets, "fetch_20newsgroups", loader)
    d = data.documents("newsgroups", n_train=3, n_test=10, n_words=3)
    assert (
        d.source == "newsgroups"
        and d.categories == ["space", "sport"]
        and "20 newsgroups" in str(d)
    )
    # The three most frequent words of the three training documents, in order: goal, moon, orbit.
    assert d.x_train.tolist() == [[0, 1, 2], [2, 0, 0], [0, 1, 1]]
    assert d.x_test.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert d.y_train.tolist() == [0, 1, 0] and d.y_test.tolist() == [1, 0]


def test_newsgroups_that_do_not_come_are_given_up(monkeypatch):
    import sklearn.datasets

    def loader(*, download_if_missing, **_options):
        if download_if_missing:
            raise AssertionError("scikit-learn would wait without end")
        raise OSError("not in the cache")

    def hang(*_args, **_options):
        time.sleep(30)

    monkeypatch.setattr(sklearn.datasets, "fetch_20newsgroups", loader)
    monkeypatch.setattr(urllib.request, "urlopen", hang)
    monkeypatch.setattr(fetch, "DOWNLOAD_TIMEOUT", 0.5)
    start = time.perf_counter()
    with pytest.raises(Unavailable, match="does not give it"):
        data.documents("newsgroups")
    assert time.perf_counter() - start < 2


# ------------------------------------------------------------------------------------------ small sets


def test_patches_are_cut_out_of_the_photographs(monkeypatch):
    import sklearn.datasets

    photographs = sklearn.datasets.load_sample_images()
    monkeypatch.setattr(sklearn.datasets, "load_sample_images", lambda: photographs)
    x = data.patches(200, size=9)
    assert x.shape == (200, 81) and x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1
    gray = [torch.as_tensor(i.copy()).float().mean(2) / 255 for i in photographs.images]
    windows = [g.unfold(0, 9, 1).unfold(1, 9, 1) for g in gray]
    pictures = set()
    for patch in x[:6].reshape(-1, 9, 9):
        hits = [((w[..., 0, 0] - patch[0, 0]).abs() < 1e-6).nonzero() for w in windows]
        found = [
            (i, r, c)
            for i, h in enumerate(hits)
            for r, c in h.tolist()
            if torch.allclose(windows[i][r, c], patch)
        ]
        assert found
        pictures.add(found[0][0])
    assert pictures == {0, 1}
    assert torch.equal(data.patches(200, size=9), x)
    assert not torch.equal(data.patches(200, size=9, seed=2), x)
    monkeypatch.setenv("LECTOOL_SEED", "2")
    assert torch.equal(data.patches(200, size=9), data.patches(200, size=9, seed=0))
    shifted = data.patches(200, size=9)
    monkeypatch.delenv("LECTOOL_SEED")
    assert torch.equal(data.patches(200, size=9, seed=2), shifted)


def test_patches_reach_every_corner():
    assert images.places(torch.zeros(2, 427, 640), 16) == (412, 625)
    assert data.patches(3, size=400).shape == (3, 160_000)


def test_patches_of_own_images():
    images = torch.arange(2 * 5 * 4, dtype=torch.float64).reshape(2, 5, 4)
    x = data.patches(50, size=3, images=images)
    assert x.dtype == torch.float64 and x.shape == (50, 9)
    first = x[:, :1]
    assert torch.equal(x - first, torch.tensor([0, 1, 2, 4, 5, 6, 8, 9, 10.0]).to(x).expand(50, 9))
    assert set(first[:, 0].tolist()) <= {0, 1, 4, 5, 8, 9, 20, 21, 24, 25, 28, 29}
    assert {f >= 20 for f in first[:, 0].tolist()} == {True, False}
    for bad in (
        {"images": images[0]},
        {"images": images, "size": 5},
        {"images": images * torch.nan},
    ):
        with pytest.raises(ValueError, match=r"images|size"):
            data.patches(3, **{"size": 3, **bad})
    assert data.patches(2, size=1).shape == (2, 1)


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 1, "size": 0}, {"n": 1, "size": 428}])
def test_patches_rejects(options):
    with pytest.raises(ValueError, match=r"(n|size) is \d+; expected a"):
        data.patches(**options)


def test_a_spiral_without_noise_is_the_curve():
    x, t = data.spiral(500, noise=0, turns=2.5)
    assert x.shape == (500, 2) and t.shape == (500,) and t.min() >= 0 and t.max() < 1
    torch.testing.assert_close(x.norm(dim=1), 0.25 + 0.75 * t)
    angle = torch.atan2(x[:, 1], x[:, 0]) / (2 * torch.pi)
    wound = 2.5 * t - angle
    torch.testing.assert_close(wound, wound.round(), atol=1e-5, rtol=0)
    assert t.double().mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_noise_of_a_spiral_and_its_seeds(monkeypatch):
    clean, _ = data.spiral(4000, noise=0)
    noisy, _ = data.spiral(4000, noise=0.1)
    assert (noisy - clean).std(0).tolist() == pytest.approx([0.1, 0.1], rel=0.05)
    assert torch.equal(data.spiral(4000, noise=0.1)[0], noisy)
    other = data.spiral(4000, noise=0.1, seed=1)[0]
    assert not torch.equal(other, noisy)
    monkeypatch.setenv("LECTOOL_SEED", "1")
    assert torch.equal(data.spiral(4000, noise=0.1)[0], other)


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 5, "noise": -0.1}])
def test_spiral_rejects(options):
    with pytest.raises(ValueError, match=r"(n is 0|noise is -0\.1); expected a finite number"):
        data.spiral(**options)


def test_ratings_are_split_and_have_the_promised_numbers():
    d = data.ratings(300, 40, n_genres=4, per_user=(6, 12), test_share=0.25)
    assert d.train.shape == d.test.shape == (300, 40) and d.train.dtype == torch.int64
    assert not ((d.train > 0) & (d.test > 0)).any()
    both = d.train + d.test
    assert set(both.unique().tolist()) == {0, 1, 2, 3, 4, 5}
    n_rated, n_test = (both > 0).sum(1), (d.test > 0).sum(1)
    assert (n_rated.min(), n_rated.max()) == (6, 12)
    assert torch.equal(n_test, (0.25 * n_rated).round().long())
    assert d.genres.bincount().tolist() == [10] * 4 and d.likes.shape == (300, 4)
    assert len(set(d.titles)) == 40 and d.titles[5] == f"{data.GENRES[1]} 2"
    assert f"40 films in 4 genres by 300 users; {(both > 0).double().mean():.0%} of all" in str(d)
    per_film = (both > 0).sum(0).double()
    assert per_film.std() > 2 * (per_film.mean() * (1 - per_film.mean() / 300)).sqrt()


def test_ratings_follow_the_tastes_and_only_they():
    d = data.ratings(3000, 30, n_genres=3, taste=1.0, noise=0.3)
    both, liked = d.train + d.test, d.likes[:, d.genres]
    gap = both[liked & (both > 0)].double().mean() - both[~liked & (both > 0)].double().mean()
    assert gap.item() == pytest.approx(2, abs=0.15)  # cut off at 1 and 5
    assert (both > 0)[liked].double().mean().item() == pytest.approx(
        (both > 0)[~liked].double().mean().item(), abs=0.01
    )
    same = data.ratings(3000, 30, n_genres=3, taste=0.0, noise=0.3)
    both = same.train + same.test
    gap = both[liked & (both > 0)].double().mean() - both[~liked & (both > 0)].double().mean()
    assert abs(gap.item()) < 0.05


def test_ratings_and_their_seeds(monkeypatch):
    first, other = data.ratings(50), data.ratings(50, seed=1)
    assert torch.equal(first.train, data.ratings(50).train)
    assert not torch.equal(first.train, other.train)
    monkeypatch.setenv("LECTOOL_SEED", "1")
    assert torch.equal(data.ratings(50).train, other.train)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_users": 0}, "n_users is 0; expected"),
        ({"n_genres": 9}, r"n_genres is 9; expected a number in \[1, 8\]"),
        ({"n_films": 3}, "n_films is 3; expected a finite number ≥ 5"),
        ({"per_user": (1, 5)}, r"fewest is 1; expected a number in \[2, 100\]"),
        ({"per_user": (9, 5)}, "most is 5; expected a finite number ≥ 9"),
        ({"per_user": (9, 500)}, r"most is 500; expected a number in \[2, 100\]"),
        ({"noise": -1}, "noise is -1; expected"),
        ({"test_share": 1.0}, r"test_share is 1.0; expected a number in \(0, 1\)"),
    ],
)
def test_ratings_reject(options, message):
    with pytest.raises(ValueError, match=message):
        data.ratings(**options)


# ------------------------------------------------------------------------------------------- densities


def test_two_moons_density_integrates_to_one_and_is_that_of_the_points():
    axis = torch.linspace(-3, 3, 120, dtype=torch.float64)
    area = (6 / 119) ** 2
    everywhere = torch.cartesian_prod(axis, axis)
    log_p = data.two_moons_log_prob(everywhere)
    assert log_p.exp().sum().item() * area == pytest.approx(1, abs=1e-3)
    x, moon = data.two_moons(6000)
    entropy = -(log_p.exp() * log_p).sum().item() * area
    assert -data.two_moons_log_prob(x).mean().item() == pytest.approx(entropy, abs=0.03)
    assert 0.48 < moon.float().mean() < 0.52
    few, many = (data.two_moons_log_prob(x[:500], n_nodes=n) for n in (60, 20000))
    assert (few - many).abs().mean() < 2e-3  # the midpoint rule; ten times as much by the left ends


def test_the_moons_lie_on_two_half_circles(monkeypatch):
    x, moon = data.two_moons(1000, noise=1e-6, seed=3)
    center = torch.tensor([[-0.5, -0.25], [0.5, 0.25]])[moon]
    torch.testing.assert_close((x - center).norm(dim=1), torch.ones(1000), atol=1e-5, rtol=0)
    assert ((x - center)[:, 1] * (1 - 2 * moon) > -1e-5).all()
    monkeypatch.setenv("LECTOOL_SEED", "3")
    assert torch.equal(data.two_moons(1000, noise=1e-6)[0], x)


def test_rings_grids_and_their_samples():
    expected = torch.tensor([[3.0, 0.0], [0.0, 3.0], [-3.0, 0.0], [0.0, -3.0]])
    torch.testing.assert_close(data.ring(4, 3.0), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(data.ring().norm(dim=1), torch.full((8,), 2.0))
    assert data.grid(5).shape == (25, 2) and data.grid(5).mean(0).abs().max() < 1e-6
    assert data.grid(3, 0.5).unique().tolist() == [-0.5, 0.0, 0.5] and data.grid(1).shape == (1, 2)
    centers = data.grid(3).double()
    x, again = (
        data.sample_modes(20000, centers, 0.1, generator=torch.Generator().manual_seed(0))
        for _ in range(2)
    )
    assert x.shape == (20000, 2) and x.dtype == torch.float64 and torch.equal(x, again)
    distance, nearest = torch.cdist(x, centers).min(1)
    assert distance.square().mean().item() == pytest.approx(2 * 0.1**2, rel=0.03)
    assert torch.bincount(nearest).double().div(20000).sub(1 / 9).abs().max() < 0.01


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: data.two_moons(0), "n is 0"),
        (lambda: data.two_moons(5, noise=0.0), "noise is 0.0"),
        (lambda: data.two_moons_log_prob(torch.ones(1, 2), noise=0.0), "noise is 0.0"),
        (lambda: data.two_moons_log_prob(torch.ones(1, 2), n_nodes=0), "n_nodes is 0"),
        (lambda: data.two_moons_log_prob(torch.ones(1, 3)), r"shape \(1, 3\)"),
        (lambda: data.ring(0), "n_modes is 0"),
        (lambda: data.ring(3, float("nan")), "radius is nan"),
        (lambda: data.grid(0), "side is 0"),
        (lambda: data.grid(3, 0.0), "spacing is 0.0"),
        (lambda: data.sample_modes(0, data.ring()), "n is 0"),
        (lambda: data.sample_modes(5, data.ring(), 0.0), "sd is 0.0"),
        (lambda: data.sample_modes(5, torch.zeros(3, 4)), r"centers has shape \(3, 4\)"),
    ],
)
def test_densities_name_what_is_out_of_range(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# ------------------------------------------------------------------------------------ transformed pairs


def test_shifts_are_permutations_with_wrap_around():
    images = torch.arange(24.0).reshape(2, 3, 4)
    moved = data.transformed(images, "shift", torch.tensor([[1, 0], [-1, 6]]))
    assert torch.equal(moved[0], images[0].roll(1, 0))
    assert torch.equal(moved[1], images[1].roll((-1, 2), (0, 1)))
    back = data.transformed(moved, "shift", torch.tensor([[-1, 0], [1, -6]]))
    assert torch.equal(back, images)


def test_quarter_turns_are_exact_and_counterclockwise():
    images = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    turns = torch.arange(3) * torch.pi / 2
    moved = data.transformed(images, "rotate", turns)
    for k in range(3):
        torch.testing.assert_close(moved[k], torch.rot90(images[k], k), atol=1e-5, rtol=0)


def test_a_turn_keeps_lengths_on_oblong_images():
    """A bump two pixels above the middle comes to lie two pixels to the left of it."""
    row, column = torch.arange(9.0)[:, None] - 4, torch.arange(15.0) - 7
    bump = (-((row + 2) ** 2 + column**2) / 2).exp()[None]
    turned = data.transformed(bump, "rotate", torch.tensor([torch.pi / 2]))[0]
    expected = (-(row**2 + (column + 2) ** 2) / 2).exp()
    assert (turned - expected).abs().max() < 0.05


def test_scaling_enlarges_about_the_middle():
    row, column = torch.arange(11.0)[:, None] - 5, torch.arange(13.0) - 6
    bump = (-((row - 2) ** 2 + (column + 1) ** 2) / 8).exp()[None]
    moved = data.transformed(bump.repeat(2, 1, 1), "scale", torch.tensor([1.0, 1.5]))
    torch.testing.assert_close(moved[0], bump[0], atol=1e-5, rtol=0)
    expected = (-((row - 3) ** 2 + (column + 1.5) ** 2) / 18).exp()
    assert (moved[1] - expected).abs().max() < 0.1


@pytest.mark.parametrize("kind", ["shift", "rotate", "scale"])
def test_the_second_image_is_the_first_one_transformed(kind, monkeypatch):
    x, y, which = data.transformed_pairs(3000, kind=kind, size=8)
    assert x.shape == y.shape == (3000, 64) and x.dtype == torch.float32
    assert abs(x.mean()) < 0.02 and x.var().item() == pytest.approx(1, rel=0.05)
    amounts = {"shift": 9, "rotate": 8, "scale": 5}[kind]
    assert which.bincount(minlength=amounts).min() > 0.8 * 3000 / amounts
    amount = generated.standard_amounts(kind, 8)
    again = data.transformed(x.reshape(-1, 8, 8), kind, amount[which]).flatten(1)
    inside = torch.ones(8, 8).bool()
    if kind != "shift":  # what comes in from outside of the first image is seen in the second alone
        ring = torch.arange(8.0) - 3.5
        inside = ring.square()[:, None] + ring.square() < 2.2**2
    error = (again - y)[:, inside.flatten()].square().mean() / y.var()
    assert error < (1e-10 if kind == "shift" else 0.01)
    # Neither image alone says which it was.
    assert all(abs(t[which == c].mean()) < 0.05 for t in (x, y) for c in range(amounts))
    assert torch.equal(data.transformed_pairs(3000, kind=kind, size=8)[1], y)
    monkeypatch.setenv("LECTOOL_SEED", "1")
    assert not torch.equal(data.transformed_pairs(3000, kind=kind, size=8)[1], y)


@pytest.mark.parametrize("kind", ["rotate", "scale"])
def test_no_edge_shows_in_a_second_image(kind):
    _, y, which = data.transformed_pairs(4000, kind=kind, size=8)
    energy = torch.stack([y[which == c].square().mean(0) for c in which.unique()])
    assert energy.min() > 0.5 * energy.mean()


def test_pairs_of_bits_of_signals_and_of_chosen_amounts():
    x, y, _ = data.transformed_pairs(2000, binary=True)
    assert set(x.unique().tolist()) == set(y.unique().tolist()) == {0.0, 1.0}
    assert x.mean().item() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(x.sum(1), y.sum(1))
    x, y, which = data.transformed_pairs(50, size=(1, 6))
    assert x.shape == (50, 6) and which.max() == 2
    for i in range(50):
        assert torch.equal(y[i], x[i].roll(int(which[i]) - 1))
    x, y, which = data.transformed_pairs(20, size=(4, 5), amounts=torch.tensor([[2, 3]]))
    assert torch.equal(y.reshape(-1, 4, 5), x.reshape(-1, 4, 5).roll((2, 3), (1, 2)))
    assert (which == 0).all()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: data.transformed_pairs(0), "n is 0"),
        (lambda: data.transformed_pairs(5, size=3), "width is 3|height is 3"),
        (lambda: data.transformed_pairs(5, size=(1, 3)), "width is 3"),
        (lambda: data.transformed_pairs(5, kind="rotate", size=(1, 8)), "height is 1"),
        (lambda: data.transformed_pairs(5, kind="mirror"), "kind is 'mirror'"),
        (lambda: data.transformed(torch.ones(2, 4, 4), "mirror", torch.ones(2)), "kind is"),
        (lambda: data.transformed(torch.ones(2, 4, 4), "shift", torch.ones(2)), "expected .2, 2."),
        (lambda: data.transformed(torch.ones(2, 4, 4), "scale", torch.zeros(2)), "factors > 0"),
        (lambda: data.transformed(torch.ones(1, 4, 4), "shift", torch.full((1, 2), 0.5)), "whole"),
        (lambda: data.transformed(torch.ones(4, 4), "scale", torch.ones(4)), "expected 3 axes"),
    ],
)
def test_transformations_name_what_is_out_of_range(make, words):
    with pytest.raises(ValueError, match=words):
        make()
