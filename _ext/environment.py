r"""What the helpers around the book share: the tree's files, the cores, the variables, what has changed."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A tensor that goes to matplotlib as it is: NumPy will refuse it.
UNCONVERTED = "error:__array__ implementation doesn't accept a copy:DeprecationWarning"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def variables(n_workers: int, root: Path = ROOT) -> dict[str, str]:
    """The variables under which notebooks run: the tree's own lectool, static sliders, the cores shared out."""
    left_out = (
        "MPLBACKEND",
        "JPY_SESSION_NAME",
        "MAKEFLAGS",
        "MAKELEVEL",
        "MAKEOVERRIDES",
        "MFLAGS",
    )
    environ = {name: value for name, value in os.environ.items() if name not in left_out}
    n_threads = str(max(1, cores() // n_workers))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environ[name] = n_threads
    paths = [str(root / "_ext"), str(root), *filter(None, [environ.get("PYTHONPATH")])]
    environ |= {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONHASHSEED": "0",
        "LECTOOL_EXPLORE": "static",
        "PYTHONWARNINGS": UNCONVERTED,
    }
    return environ


def data_found(environ: dict[str, str]) -> list[str]:
    """The data sets that a notebook would find without a download: names and sizes of their files."""
    folders = [Path(environ["LECTOOL_DATA"])] if environ.get("LECTOOL_DATA") else []
    folders.append(_download_cache(environ))
    found = {}
    for folder in reversed(
        folders
    ):  # LECTOOL_DATA is looked in first, so it has the last word here
        for path in folder.rglob("*"):
            if path.suffix in (".gz", ".mat") and path.is_file():
                found[path.name] = path.stat().st_size
    if environ.get("LECTOOL_DIGITS") == "bundled":
        found = {name: size for name, size in found.items() if "ubyte" not in name}
    return [f"{name} {size}" for name, size in sorted(found.items())]


def _download_cache(environ: dict[str, str]) -> Path:
    import pooch

    home = environ.get("XDG_CACHE_HOME")
    return (
        Path(home) / "lectool"
        if home and sys.platform == "linux"
        else Path(pooch.os_cache("lectool"))
    )


def files(root: Path = ROOT) -> list[Path]:
    """The files that belong to the tree: tracked, or new and not ignored; all but hidden ones without git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.decode()
        names = {root / name for name in listed.split("\0") if name}
    except (OSError, subprocess.CalledProcessError):
        names = set()
    if not names:
        skipped = {".venv", ".git", "_build", "__pycache__", ".ipynb_checkpoints"}
        names = {p for p in root.rglob("*") if not skipped.intersection(p.relative_to(root).parts)}
    return sorted(path for path in names if path.is_file())


def fingerprint(
    root: Path = ROOT, without: tuple[str, ...] = (), environ: dict[str, str] | None = None
) -> str:
    """A hash of the tree's content, of the settings and of the data that are found."""
    environ = dict(os.environ) if environ is None else environ
    digest = hashlib.sha256(f"{sys.version_info[:2]} {data_found(environ)}".encode())
    for name in sorted(n for n in environ if n.startswith("LECTOOL_") and n != "LECTOOL_WORKERS"):
        digest.update(f"{name}={environ[name]}\n".encode())
    for path in files(root):
        name = path.relative_to(root).as_posix()
        if not name.startswith(without or ("\0",)):
            digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def read_stamp(path: Path) -> dict:
    try:
        return json.loads(path.read_text("utf8"))
    except (OSError, ValueError):
        return {}


def write_stamp(path: Path, **facts: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(facts, indent=1), "utf8")
    part.replace(path)
