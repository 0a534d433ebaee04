r"""What the make targets do, in stages: each prints its progress, and a table says where the time went.

``python _ext/stages.py book | test | offline | claims | bench`` (see ``make help``).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml
from browser import find_chromium
from environment import ROOT, cores, fingerprint, read_stamp, variables, write_stamp
from execute import execute, masters, notebooks

OUTPUT = ROOT / "_build"
ASSIGNMENT_PAGES = (
    "tests/assignments/test_pages.py"  # builds small books and opens them in a browser
)
SITE_ONLY = ("tests/", "benchmarks/", ".github/", ".ci/")  # changes here leave the site as it is

# -------------------------------------------------------------------------------------------------- stages


class Stages:
    """Runs one stage after the other and remembers how each ended and how long it took."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float]] = []
        self.start = time.perf_counter()

    def run(self, name: str, work: Callable[[], int], *, after: Iterable[str] = ()) -> bool:
        """Runs `work`, unless a stage named in `after` did not pass; returns whether it passed."""
        broken = [row[0] for row in self.rows if row[0] in after and row[1] != "passed"]
        print(f"\n── {name} " + "─" * max(1, 76 - len(name)), flush=True)
        start = time.perf_counter()
        if broken:
            print(f"not run, since this did not pass: {', '.join(broken)}")
            outcome = "not run"
        else:
            outcome = "FAILED" if work() else "passed"
        self.rows.append((name, outcome, time.perf_counter() - start))
        return outcome == "passed"

    @property
    def passed(self) -> bool:
        return all(outcome == "passed" for _, outcome, _ in self.rows)

    def table(self) -> None:
        print(f"\n{'where the time went':<44}{'seconds':>9}")
        for name, outcome, seconds in self.rows:
            print(f"{name:<44}{seconds:>9.1f}   {outcome}")
        print(f"{'in all':<44}{time.perf_counter() - self.start:>9.1f}", flush=True)


def call(*command: str, **extra: str) -> int:
    """Runs a command in the tree with the variables that notebooks and tests share."""
    environ = variables(cores()) | extra
    return subprocess.run(
        command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, check=False
    ).returncode


def python(*arguments: str, **extra: str) -> int:
    return call(sys.executable, *arguments, **extra)


def lint() -> int:
    check = python("-m", "ruff", "check", ".")
    layout = python("-m", "ruff", "format", "--check", ".")
    return check or layout


def pytest(report: str, *arguments: str, **extra: str) -> int:
    xml = OUTPUT / "reports" / f"{report}.xml"
    xml.unlink(missing_ok=True)
    status = python("-m", "pytest", "-q", "--durations=5", f"--junitxml={xml}", *arguments, **extra)
    return 0 if status == 5 else status  # 5: there is no test of that kind


def totals() -> dict[str, int]:
    """Passed, failed and skipped tests over all of the run's reports."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted((OUTPUT / "reports").glob("*.xml")):
        for suite in ElementTree.parse(path).iter("testsuite"):
            n = {
                name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
            }
            counts["failed"] += n["failures"] + n["errors"]
            counts["skipped"] += n["skipped"]
            counts["passed"] += n["tests"] - n["failures"] - n["errors"] - n["skipped"]
    return counts


# ---------------------------------------------------------------------------------------------- the targets


def build(output: Path = OUTPUT, config: Path | None = None) -> int:
    """Builds the site from the execution cache under `output`, with warnings as errors."""
    index, stamp = output / "html" / "index.html", output / "book.json"
    now = fingerprint(without=SITE_ONLY)
    if index.is_file() and read_stamp(stamp).get("fingerprint") == now:
        print("nothing has changed since the last build")
    else:
        stamp.unlink(missing_ok=True)
        shutil.rmtree(
            output / "html", ignore_errors=True
        )  # a page that left the book must not stay
        script = "from jupyter_book.cli.main import main; main()"
        arguments = ["build", "-W", "--keep-going", "--all", "--path-output", str(output.parent)]
        arguments += ["--config", str(config)] if config else []
        status = python("-c", script, *arguments, str(ROOT))
        if status or not index.is_file():
            return status or 1
        write_stamp(stamp, fingerprint=now)
    return 0


def _short(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def book() -> int:
    stages = Stages()
    stages.run("notebooks", lambda: execute(notebooks(), OUTPUT))
    stages.run("site", build, after=["notebooks"])
    stages.table()
    if stages.passed:
        print(f"The site: {_short(OUTPUT / 'html' / 'index.html')}")
    return not stages.passed


def test(force: bool = False) -> int:
    stamp, now = OUTPUT / "green.json", fingerprint()
    last = read_stamp(stamp)
    if last.get("fingerprint") == now and not force:
        print(
            f"Nothing has changed since all tests passed on {last['when']}, in {last['seconds']:.0f} s."
        )
        print("make test FORCE=1 runs them again.")
        print(last["summary"])
        return 0
    stamp.unlink(missing_ok=True)
    if force:
        (OUTPUT / "book.json").unlink(missing_ok=True)
    reports = OUTPUT / "reports"
    for path in reports.glob("*.xml"):
        path.unlink()
    reports.mkdir(parents=True, exist_ok=True)
    workers = ["-n", str(cores())]
    apart = [f"--ignore=tests/{name}" for name in ("book", "browser", "lab")]
    apart += [f"--ignore={ASSIGNMENT_PAGES}"]
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    stages = Stages()
    stages.run("lint", lint)
    stages.run(
        "unit tests",
        lambda: pytest(
            "unit", "tests", "lectool", "--doctest-modules", *apart, *workers, **one_thread
        ),
    )
    report = reports / "notebooks.xml"
    paths = [*notebooks(), *masters()]
    stages.run("notebooks", lambda: execute(paths, OUTPUT, force=force, report=report))
    stages.run("site", build, after=["notebooks"])
    if (ROOT / "tests" / "book").is_dir():
        stages.run("tests of the site", lambda: pytest("book", "tests/book"), after=["site"])
    if (ROOT / "tests" / "browser").is_dir():
        stages.run("tests in the browser", browser_tests, after=["site"])
    stages.table()
    counts, seconds = totals(), time.perf_counter() - stages.start
    summary = ", ".join(f"{n} {word}" for word, n in counts.items() if n) or "no tests"
    if stages.passed and fingerprint() == now:
        when = time.strftime("%Y-%m-%d %H:%M")
        write_stamp(stamp, fingerprint=now, when=when, seconds=seconds, summary=summary)
    if not stages.passed:
        summary += "; failed: " + ", ".join(
            name for name, outcome, _ in stages.rows if outcome != "passed"
        )
    print(f"{summary} in {seconds:.1f}s")
    return not stages.passed


def browser_tests() -> int:
    chromium = find_chromium(install=True)
    if chromium is None and os.environ.get("LECTOOL_REQUIRE_BROWSER") == "1":
        print("no Chromium is found and none could be installed")
        return 1
    tests = ["tests/browser", ASSIGNMENT_PAGES, "tests/lab"]
    return pytest(
        "browser",
        *[name for name in tests if (ROOT / name).exists()],
        *["-n", str(min(2, cores()))],  # a browser each
        "-rs",
        **({"LECTOOL_CHROMIUM": chromium} if chromium else {}),
    )


def offline() -> int:
    """Chapters 01 and 02 with neither data nor network: the bundled digits, in a site of its own."""
    output = OUTPUT / "offline" / "_build"
    output.mkdir(parents=True, exist_ok=True)
    _settle(output, "bundled", "0")
    chosen = [path for path in notebooks() if path.name[:2] in ("01", "02")]
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    others = [path.relative_to(ROOT).as_posix() for path in notebooks() if path not in chosen]
    settings = config.setdefault("execute", {})
    settings["exclude_patterns"] = [*(settings.get("exclude_patterns") or []), *others]
    path = output.parent / "_config.yml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), "utf8")
    stages = Stages()
    stages.run("notebooks, offline", lambda: execute(chosen, output))
    stages.run("site, offline", lambda: build(output, path), after=["notebooks, offline"])
    stages.table()
    if stages.passed:
        print(f"The site: {_short(output / 'html' / 'index.html')}")
    return not stages.passed


def _settle(output: Path, digits: str, seed: str) -> None:
    # "bundled" stands for a machine without data and network, whose cache of downloads is empty
    os.environ |= {"LECTOOL_DIGITS": digits, "LECTOOL_SEED": seed, "LECTOOL_OFFLINE": "0"}
    if digits == "bundled":
        os.environ |= {"LECTOOL_OFFLINE": "1", "XDG_CACHE_HOME": str(output / "home")}
        os.environ.pop("LECTOOL_DATA", None)


def claims(chapters: list[str]) -> int:
    """Runs the chapters over seeds 0–2 and both data settings, and prints what did not hold."""
    paths = [path for path in notebooks() if not chapters or path.name.startswith(tuple(chapters))]
    failures, before = [], dict(os.environ)
    for digits in ("mnist", "bundled"):
        for seed in ("0", "1", "2"):
            output = OUTPUT / "claims" / f"{digits}-{seed}" / "_build"
            print(f"\n── {digits}, seed {seed} " + "─" * 50, flush=True)
            _settle(output, digits, seed)
            os.environ["LECTOOL_KEEP_ON"] = "1"
            status = execute(paths, output)
            os.environ.clear()
            os.environ.update(before)
            lines = [
                x
                for p in (output / "executed").glob("*.errors")
                for x in p.read_text("utf8").splitlines()
            ]
            failures += [
                {"setting": f"{digits}, seed {seed}", **json.loads(line)} for line in lines
            ]
            if status and not lines:
                failures.append(
                    {"setting": f"{digits}, seed {seed}", "notebook": "", "error": "did not run"}
                )
    print(f"\n{len(paths)} chapters, seeds 0–2, two data settings: {len(failures)} failures")
    for row in failures:
        error = row["error"].strip().splitlines()
        print(
            f"{row['setting']:<16} {row['notebook']:<24} cell {row.get('cell', '–'):<4} {' '.join(error[:2])}"
        )
    return bool(failures)


def bench() -> int:
    scripts = sorted((ROOT / "benchmarks").glob("[!_]*.py"))
    status = 0
    for path in scripts:
        print(f"\n── {_short(path)} " + "─" * 50, flush=True)
        n = str(cores())
        status = (
            python(str(path), OMP_NUM_THREADS=n, MKL_NUM_THREADS=n, OPENBLAS_NUM_THREADS=n)
            or status
        )
    return status


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=["book", "test", "offline", "claims", "bench"])
    parser.add_argument(
        "chapters", nargs="*", help="for claims: the beginnings of chapter names, such as 01"
    )
    parser.add_argument("--force", action="store_true", help="for test: also what has not changed")
    options = parser.parse_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)
    if folder := os.environ.get("LECTOOL_DATA"):  # notebooks run in a folder of their own
        os.environ["LECTOOL_DATA"] = os.path.abspath(folder)
    try:
        match options.target:
            case "test":
                return int(test(options.force))
            case "claims":
                return int(claims(options.chapters))
            case target:
                return int({"book": book, "offline": offline, "bench": bench}[target]())
    except KeyboardInterrupt:
        print("\nstopped; the notebooks that were finished are kept")
        return 130


if __name__ == "__main__":
    sys.exit(main())
