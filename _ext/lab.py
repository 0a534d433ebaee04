r"""Copies of the notebooks to work in, and JupyterLab on them: what a reader saves never touches the repository.

``python _ext/lab.py`` (``make lab``) lays ``lab/`` out like the book, so that links between notebooks and pages work,
and opens it. A copy that nobody has changed follows the book; one that holds somebody's work is kept, and where the
book has moved on, its new version is laid beside it.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from environment import ROOT, read_stamp, write_stamp

LAB = ROOT / "lab"
PATTERNS = ("chapters/*.ipynb", "assignments/student/*.ipynb", "*.md")
NOT_READ_HERE = {"README.md", "CONTRIBUTING.md"}


def originals(root: Path = ROOT) -> Iterator[Path]:
    """The notebooks and pages of the book, relative to `root`."""
    for pattern in PATTERNS:
        for path in sorted(root.glob(pattern)):
            if path.name not in NOT_READ_HERE:
                yield path.relative_to(root)


def content(path: Path) -> str:
    """A hash of what somebody wrote: of a notebook its cells alone, not what running them left."""
    data = path.read_bytes()
    if path.suffix == ".ipynb":
        try:
            cells = json.loads(data)["cells"]
            data = json.dumps([[c["cell_type"], "".join(c["source"])] for c in cells]).encode()
        except (ValueError, KeyError, TypeError):
            pass  # somebody's work all the same
    return hashlib.sha256(data).hexdigest()


def lay_out(root: Path = ROOT, lab: Path = LAB) -> list[str]:
    """Brings the copies up to date; returns a line for each that was left as its reader had it."""
    stamp, said = lab / ".copied.json", []
    known = read_stamp(stamp)
    for name in originals(root):
        source, copy = root / name, lab / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        now = content(source)
        if copy.exists():
            mine, given = content(copy), known.get(name.as_posix())
            if now in (mine, given):
                continue  # the book has not moved on
            if mine != given:
                copy = copy.with_stem(f"{copy.stem}.new")
                said.append(f"{name} holds your work; the book's new version is {copy.name}")
        copy.write_bytes(source.read_bytes())
        known[name.as_posix()] = now
    write_stamp(stamp, **known)
    return said


def main(options: list[str]) -> None:
    print("\n".join([f"Your copies are in {LAB.name}/.", *lay_out()]), flush=True)
    # The modules that notebooks import are the tree's own, wherever JupyterLab was started.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    )
    arguments = ["-m", "jupyterlab", f"--notebook-dir={LAB}", *options]
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
