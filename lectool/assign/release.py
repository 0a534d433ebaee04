r"""Student notebooks from masters."""

from collections.abc import Sequence
from pathlib import Path

from lectool.assign.master import released

__all__ = ["release"]


def release(masters: Sequence[Path], to: Path, *, check: bool = False) -> int:
    r"""Writes the student notebook of each master, under the same name, into a folder.

    Arguments:
        masters: notebooks with solutions.
        to: the folder; made where it is missing.
        check: write nothing, and say what is stale: missing, different, or without a master.

    Returns:
        0, or 1 where ``check`` found something stale.

    Raises:
        MarkerError: if the markers of a master are not in order; then nothing at all is written.
        ValueError: if two masters have the same name, or a master lies in the folder itself, be it by a link.
    """
    masters, to = [Path(path) for path in masters], Path(to)
    if len({path.name for path in masters}) < len(masters):
        raise ValueError("two masters have the same name; expected different ones")
    sources = {path.resolve() for path in masters}
    if any((to / path.name).resolve() in sources for path in masters):
        raise ValueError(f"{to} holds the masters; expected another folder")
    texts = {path.name: released(path) for path in masters}
    stale = []
    for name, text in texts.items():
        path = to / name
        if not path.is_file() or path.read_text("utf8") != text:
            stale.append(f"{path}: {'differs from its master' if path.is_file() else 'is missing'}")
            if not check:
                to.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf8")
                print(f"wrote {path}")
    if check:
        stale += [
            f"{path}: has no master"
            for path in sorted(to.glob("*.ipynb"))
            if path.name not in texts
        ]
        print("\n".join([*stale, f"{len(texts)} masters, {len(stale)} stale student notebooks"]))
        return int(bool(stale))
    return 0
