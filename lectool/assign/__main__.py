r"""The command line: ``python -m lectool.assign release | grade``."""

import argparse
import sys
from pathlib import Path

from lectool.assign.grade import grade_all, merge
from lectool.assign.master import MarkerError
from lectool.assign.release import release
from lectool.assign.tables import FORMATS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lectool.assign")
    commands = parser.add_subparsers(dest="command", required=True)
    out = commands.add_parser("release", help="write student notebooks from masters")
    out.add_argument("masters", nargs="+", type=Path)
    out.add_argument("--to", type=Path, required=True, help="the folder of the student notebooks")
    out.add_argument(
        "--check", action="store_true", help="write nothing; fail where the folder is stale"
    )
    back = commands.add_parser("grade", help="run submissions and write points as CSV")
    back.add_argument("master", type=Path)
    back.add_argument("submissions", nargs="*", type=Path, help="notebooks, or folders of them")
    back.add_argument("-o", "--output", type=Path, default=Path("grades.csv"))
    back.add_argument("--timeout", type=float, default=60, help="seconds a cell may take")
    back.add_argument("--seed", type=int, default=1, help="added to every seed of the checks")
    back.add_argument("--jobs", type=int, default=2, help="submissions at the same time")
    back.add_argument(
        "--part",
        type=_part,
        default=(1, 1),
        help="i/n: only the i-th of n parts of the submissions",
    )
    back.add_argument(
        "--merge",
        nargs="+",
        type=Path,
        metavar="CSV",
        help="grade nothing; put the tables of several parts together",
    )
    back.add_argument(
        "--format", choices=list(FORMATS), default="plain", help="the table's columns"
    )
    back.add_argument("--column", help="what Canvas calls the assignment: 'A1 (4711)'")
    back.add_argument(
        "--roster", type=Path, help="Canvas's or Moodle's own export, with the students"
    )
    back.add_argument("--feedback", type=Path, help="a folder for a Markdown page a student")
    options = parser.parse_args(arguments)
    try:
        if options.command == "release":
            return release(options.masters, options.to, check=options.check)
        if bool(options.merge) == bool(options.submissions):
            raise ValueError("expected either submissions or --merge with tables")
        tables = {
            "feedback": options.feedback,
            "kind": options.format,
            "column": options.column,
            "roster": options.roster,
        }
        if options.merge:
            merge(options.master, options.merge, options.output, **tables)
            return 0
        grade_all(
            options.master,
            options.submissions,
            options.output,
            timeout=options.timeout,
            seed=options.seed,
            jobs=options.jobs,
            part=options.part,
            **tables,
        )
    except (MarkerError, FileNotFoundError, ValueError) as error:
        print(f"{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; what was graded is kept, and the same command goes on", file=sys.stderr)
        return 130
    return 0


def _part(text: str) -> tuple[int, int]:
    index, _, n_parts = text.partition("/")
    return int(index), int(n_parts)


if __name__ == "__main__":
    sys.exit(main())
