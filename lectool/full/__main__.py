r"""The command line: ``python -m lectool.full NAME … | all | CHAPTER … | chapters``."""

import argparse
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lectool import results
from lectool.full.chapters import chapter_names, perform_chapter
from lectool.full.core import Run, Session, perform
from lectool.full.runs import RUNS

LEAST = 20.0  # seconds below which a run is worth nothing: the first ones get as many, and the last ones none


def main(arguments: list[str] | None = None) -> int:
    r"""Runs what is asked for; returns 0 unless a run failed or none was made."""
    options = _options(arguments)
    if options.list:
        for run in RUNS.values():
            print(f"{run.name:<12} {run.paper.title}, chapter {run.paper.chapter.split('-')[0]}")
            for metric, number in run.paper.figures.items():
                print(f"{'':<12} {metric}: {number:g} published, {run.paper.source}")
        return 0
    kind = "smoke" if options.smoke else "full"
    base = results.ROOT if (results.ROOT / "pyproject.toml").is_file() else Path.cwd()
    out = options.out or (base / "build" / "smoke" if options.smoke else base / "results")
    failed = []
    for run, seconds in _shares(_chosen(options.names), options.minutes):
        if isinstance(run, Chapter):
            failed += _chapter(run, seconds, out, options)
            continue
        folder = base / "build" / "checkpoints" / f"{kind}-{options.seed}" / run.name
        if options.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"{run.name}: {run.paper.title}{_limit(seconds)}", flush=True)
        start = time.monotonic()
        try:
            session = Session(folder, seconds, smoke=options.smoke, seed=options.seed)
            record = perform(run, session, out)
        except KeyboardInterrupt:
            print("  stopped; the same command goes on from its checkpoint")
            return 130
        except Exception:
            # One that fails must not take the others' time with it.
            traceback.print_exc()
            failed.append(run.name)
            continue
        for value in record["values"]:
            print(f"  {value['metric']}: {value['value']:.2f} (published {value['published']:g})")
        print(f"  {record['progress']}, {time.monotonic() - start:.1f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}")
    print(f"results: {out}")
    return bool(failed)


@dataclass
class Chapter:
    r"""A chapter in the place of a run."""

    name: str
    path: Path
    weight: float = 1.0


def _chosen(names: list[str]) -> list[Run | Chapter]:
    chapters = {name: Chapter(name, path) for name, path in chapter_names().items()}
    papers = list(RUNS.values()) if "all" in names else [RUNS[n] for n in names if n in RUNS]
    wanted = chapters if "chapters" in names else [n for n in names if n in chapters]
    return papers + [chapters[n] for n in wanted]


def _chapter(
    chapter: Chapter, seconds: float | None, out: Path, options: argparse.Namespace
) -> list[str]:
    r"""Runs one; returns its name if cells failed."""
    print(f"chapter {chapter.name}{_limit(seconds)}", flush=True)
    settings = {"seed": options.seed, "fresh": options.fresh}
    record = perform_chapter(chapter.path, out, seconds, **settings)
    rows = record["table"]["rows"]
    print(f"  {sum(row[-1] for row in rows)} of {len(rows)} claims hold, {record['progress']}")
    for error in record["errors"]:
        print(f"  {error}", flush=True)
    return [chapter.name] if record["errors"] else []


def _limit(seconds: float | None) -> str:
    return "" if seconds is None else f", {seconds:.0f} s"


def _shares(
    runs: list[Run | Chapter], minutes: float | None
) -> Iterator[tuple[Run | Chapter, float | None]]:
    r"""Each run with its seconds: its share of what is left, at least :data:`LEAST`, while there is time at all."""
    end = time.monotonic() + 60 * (minutes or 0)
    for i, run in enumerate(runs):
        if minutes is None:
            yield run, None
            continue
        left = end - time.monotonic()
        if left < min(LEAST, 30 * minutes) / 4:
            print(f"no time left for: {', '.join(r.name for r in runs[i:])}")
            return
        share = left * run.weight / sum(r.weight for r in runs[i:])
        yield run, min(left, max(share, LEAST))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lectool.full", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="runs or all (--list names them); numbers of chapters, such as 09, or chapters",
    )
    parser.add_argument(
        "--minutes", type=float, help="for all of them together; no limit by default"
    )
    parser.add_argument("--out", type=Path, help="folder of the results; results/ by default")
    parser.add_argument(
        "--smoke", action="store_true", help="a few tiny steps each, to build/smoke"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="begin anew, not from a checkpoint")
    parser.add_argument("--list", action="store_true", help="what there is to run")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {*RUNS, "all", *chapter_names(), "chapters"}
    if unknown or not (options.names or options.list or options.smoke):
        parser.error(
            f"runs are: all, {', '.join(RUNS)}, chapters, 01 …; given: {' '.join(options.names) or 'none'}"
        )
    if options.minutes is not None and options.minutes <= 0:
        parser.error(f"--minutes is {options.minutes}; expected more than 0")
    if options.smoke and set(options.names) - {*RUNS, "all"}:
        parser.error("chapters have no tiny run; make book runs them at quick scale")
    if options.smoke and not options.names:
        options.names = ["all"]
    return options


if __name__ == "__main__":
    sys.exit(main())
