r"""Runs every notebook once: nbval tests it, and what it printed and drew goes into the book's cache.

``python _ext/execute.py [notebook ...]`` runs the notebooks of ``_toc.yml`` that the cache does not hold yet.
Loaded by pytest as a plugin (``-p execute``), this same file records each notebook that passes.

A cached notebook is taken as it is while nothing that it depends on has changed: its own code cells, the
modules of lectool that it imports (and those that they import), requirements.txt, the settings in
``LECTOOL_SCALE``, ``LECTOOL_SEED``, ``LECTOOL_DIGITS`` and the data that are found. Jupyter-cache looks at
the code cells; `key` covers the rest and is stored with each record.
"""

import argparse
import ast
import functools
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

import nbformat
import nbval.plugin
import pytest
import yaml
from environment import ROOT, cores, data_found, variables
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal
from nbval.kernel import RunningKernel

# Times are compared with that of chapter 02 in the same run: seconds differ between machines.
MEASURE = "02"
BUDGET = 1.3
BUDGET_OF_MASTERS = 0.6
BUDGET_OF_ALL = 8.0
CELL_TIMEOUT = 600
SETTINGS = {"LECTOOL_SCALE": "quick", "LECTOOL_SEED": "0", "LECTOOL_DIGITS": "auto"}

# ------------------------------------------------------------------------------------- what is to be run


def notebooks(root: Path = ROOT) -> list[Path]:
    """The notebooks of the table of contents that the book executes, in reading order."""

    def files(node: object):
        if isinstance(node, dict):
            yield from (node[name] for name in ("root", "file") if name in node)
            for child in node.values():
                yield from files(child)
        elif isinstance(node, list):
            for child in node:
                yield from files(child)

    config = yaml.safe_load((root / "_config.yml").read_text("utf8"))
    excluded = (config.get("execute") or {}).get("exclude_patterns") or []
    paths = [root / f"{str(name).removesuffix('.ipynb')}.ipynb" for name in files(_toc(root))]
    return [
        path
        for path in paths
        if path.is_file() and not any(PurePosixPath(path).match(p) for p in excluded)
    ]


def masters(root: Path = ROOT) -> list[Path]:
    """The assignments with their solutions: no pages of the book, but executed with it."""
    return sorted((root / "assignments").glob("a[0-9][0-9]-*.ipynb"))


def budget(path: Path) -> float:
    """What a notebook may take, in times of chapter 02."""
    return BUDGET_OF_MASTERS if path.parent.name == "assignments" else BUDGET


def _toc(root: Path) -> object:
    return yaml.safe_load((root / "_toc.yml").read_text("utf8"))


# ------------------------------------------------------------------------------------------------ the key


def key(notebook: Path, root: Path = ROOT, environ: dict[str, str] | None = None) -> str:
    """A hash of all that the notebook's outputs depend on, apart from its own code cells."""
    environ = dict(os.environ) if environ is None else environ
    modules = _modules(notebook, root)
    files = [root / "requirements.txt", *sorted(modules)]
    # What long runs have kept is read through one module.
    kept = ["results"] if root / "lectool" / "results.py" in modules else []
    for folder in ("lectool", *kept):
        files += sorted(
            p for p in (root / folder).rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")
        )
    parts = [f"python {sys.version_info.major}.{sys.version_info.minor}"]
    parts += [
        f"{path.relative_to(root).as_posix()} {_digest(path)}" for path in files if path.is_file()
    ]
    parts += [f"{name}={environ.get(name) or default}" for name, default in SETTINGS.items()]
    parts += data_found(environ)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _modules(notebook: Path, root: Path) -> set[Path]:
    """The files of lectool that the notebook imports, and those that these import."""
    package = root / "lectool"
    code = "\n".join(
        re.sub(r"^(\s*)[%!].*", r"\1pass", cell.source, flags=re.MULTILINE)
        for cell in nbformat.read(notebook, as_version=4).cells
        if cell.cell_type == "code" and not cell.source.startswith("%%")
    )
    names = _imports(code)
    if names is None or notebook.parent.name != "chapters":
        return set(package.rglob("*.py"))  # an assignment's checks look modules up by name
    found, todo = {package / "__init__.py"}, set(names)
    if package.is_dir():
        todo |= _imports((package / "__init__.py").read_text("utf8")) or set()
    while todo:
        name = todo.pop()
        file = package / f"{name}.py"
        files = {file} if file.is_file() else set((package / name).rglob("*.py"))
        for path in files - found:
            more = _imports(path.read_text("utf8"))
            if more is None:
                return set(package.rglob("*.py"))
            todo |= more
        found |= files
    return found


@functools.cache
def _imports(code: str) -> frozenset[str] | None:
    """The modules of lectool that code imports; None where this cannot be told, which means all."""
    names: set[str] = set()
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                package, _, rest = alias.name.partition(".")
                if package == "lectool":
                    if not rest:
                        return None
                    names.add(rest.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = f"lectool.{module}".rstrip(".")
            package, _, rest = module.partition(".")
            if package == "lectool":
                names |= {rest.split(".")[0]} if rest else {alias.name for alias in node.names}
    return None if "*" in names else frozenset(names)


# ---------------------------------------------------------------------------------------------- the cache


def cached(cache, notebook: Path, wanted: str):
    """The cache's record of the notebook, or None; a record of other code or settings is thrown away."""
    try:
        record = cache.match_cache_notebook(nbformat.read(notebook, as_version=4))
        cache.get_cache_bundle(record.pk)
        if (record.data or {}).get("key") == wanted:
            return record
        cache.remove_cache(record.pk)
    except KeyError:  # there is no record, or its file is gone
        pass
    return None


def collect(cache, folder: Path) -> None:
    """Moves the notebooks that passed from the folder into which the plugin wrote them to the cache."""
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        facts = notebook.metadata.pop("lectool_run")
        data = {"execution_seconds": facts["seconds"], "key": facts["key"], "run": facts["run"]}
        bundle = CacheBundleIn(notebook, facts["path"], data=data)
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        path.unlink()


# ---------------------------------------------------------------------------------------------- the plugin
# Active in pytest where LECTOOL_RECORD names the folder to write to.


def pytest_configure(config: pytest.Config) -> None:
    folder = os.environ.get("LECTOOL_RECORD")
    if folder:
        nbval.plugin.RunningKernel = Kernel
        config.pluginmanager.register(Recorder(Path(folder)), "lectool-recorder")
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(Progress(config), "lectool-progress")


class Kernel(RunningKernel):
    """The kernel that nbval talks to. It numbers the cells and keeps what the last one sent."""

    asked, messages = None, ()

    def execute_cell_input(self, cell_input: str, allow_stdin: bool | None = None) -> str:
        # with a history, so that In, Out, _ and tracebacks know the cells by their numbers
        settings = {"store_history": True, "allow_stdin": allow_stdin, "stop_on_error": False}
        self.asked, self.messages = self.kc.execute(cell_input, **settings), []
        return self.asked

    def get_message(self, stream: str, timeout: float | None = None) -> dict:
        message = super().get_message(stream, timeout)
        if stream == "iopub" and message["parent_header"].get("msg_id") == self.asked:
            self.messages.append(message)
        return message


class Run:
    """One notebook that is being executed. Its outputs are what nbclient makes of the kernel's messages."""

    def __init__(self, path: Path, notebook: nbformat.NotebookNode) -> None:
        self.path, self.notebook = path, notebook
        self.key = key(path)
        self.start = time.perf_counter()
        self.client = NotebookClient(notebook, record_timing=False)
        self.client.reset_execution_trackers()
        self.cells = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        self.n_passed = 0
        self.failed = False

    def take(self, number: int, messages: list[dict]) -> None:
        """Gives a cell that passed its outputs."""
        cell = self.notebook.cells[self.cells[number]]
        cell.outputs, cell.execution_count = [], None
        self.client.clear_before_next_output = False
        for message in messages if cell.source.strip() else ():
            try:
                self.client.process_message(message, cell, self.cells[number])
            except CellControlSignal:  # the cell is complete
                break
        self.n_passed += 1

    def finish(self, kernel: Kernel, folder: Path) -> None:
        """Writes the notebook, unless lectool, a setting or the data changed while it ran."""
        if key(self.path) != self.key:
            return
        self.client.set_widgets_metadata()
        reply = kernel.kc.kernel_info(reply=True, timeout=10)
        self.notebook.metadata["language_info"] = reply["content"]["language_info"]
        self.notebook.metadata["lectool_run"] = {
            "path": str(self.path),
            "key": self.key,
            "run": os.environ.get("LECTOOL_RUN", ""),
            "seconds": time.perf_counter() - self.start,
        }
        path = folder / f"{_flat(self.path)}.ipynb"
        part = path.with_suffix(".part")
        nbformat.write(self.notebook, part)
        part.replace(path)


class Recorder:
    """Follows nbval through the notebooks and keeps those of which every cell passes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: dict[Path, Run] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if not hasattr(item, "cell_num"):
            return
        if item.path not in self.runs:
            self.runs[item.path] = Run(item.path, item.parent.nb)
        if self.runs[item.path].failed and not os.environ.get("LECTOOL_KEEP_ON"):
            pytest.skip("an earlier cell of this notebook failed")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item):
        if not hasattr(item, "cell_num"):
            return (yield)
        run, kernel = self.runs[item.path], item.parent.kernel
        try:
            result = yield
        except pytest.skip.Exception:
            raise
        except BaseException as error:
            run.failed = True
            self._report(run, item.cell_num, kernel.messages, error)
            raise
        run.take(item.cell_num, kernel.messages)
        if run.n_passed == len(run.cells):
            run.finish(kernel, self.folder)
        return result

    def _report(self, run: Run, number: int, messages: list[dict], error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        for content in (m["content"] for m in messages if m["msg_type"] == "error"):
            text = f"{content['ename']}: {content['evalue']}"
        line = json.dumps({"notebook": run.path.stem, "cell": number, "error": text})
        with (self.folder / f"{_flat(run.path)}.errors").open("a", encoding="utf8") as file:
            file.write(line + "\n")


def _flat(path: Path) -> str:
    return f"{path.parent.name}--{path.stem}"


class Progress:
    """One line for each notebook as it ends."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.n_cells: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("::")[0]
        if not name.endswith(".ipynb"):
            return
        self.seconds[name] = self.seconds.get(name, 0.0) + report.duration
        if report.failed:
            self.failed.add(name)
        if report.when != "teardown":
            return
        if name not in self.n_cells:
            cells = nbformat.read(self.config.rootpath / name, as_version=4).cells
            self.n_cells[name] = sum(cell.cell_type == "code" for cell in cells)
        self.n_cells[name] -= 1
        if self.n_cells[name] == 0:
            terminal = self.config.pluginmanager.get_plugin("terminalreporter")
            terminal.ensure_newline()
            word = "failed" if name in self.failed else "passed"
            terminal.write_line(f"{name}: {word} in {self.seconds[name]:.1f} s")


# --------------------------------------------------------------------------------------------- the command


def fetch_data(root: Path = ROOT) -> None:
    """Downloads what is missing once, before any notebook asks for it; without a network it does nothing."""
    if os.environ.get("LECTOOL_OFFLINE") == "1" or os.environ.get("LECTOOL_DATA"):
        return
    code = "from lectool import data\nprint(data.digits(1, 1).note)\nprint(data.faces().note)"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=root, env=variables(1, root), check=False
    )


def execute(
    paths: list[Path], output: Path, *, force: bool = False, report: Path | None = None
) -> int:
    """Runs those notebooks that the cache under `output` does not hold; returns pytest's exit status."""
    folder = output / "executed"
    folder.mkdir(parents=True, exist_ok=True)
    cache = get_cache(str(output / ".jupyter_cache"))
    if force:
        shutil.rmtree(folder)
        folder.mkdir()
    for path in folder.glob("*.errors"):
        path.unlink()
    collect(cache, folder)  # what a run that was cut off left finished
    todo = [path for path in paths if force or cached(cache, path, key(path)) is None]
    if todo:
        fetch_data()
        todo = [path for path in paths if force or cached(cache, path, key(path)) is None]
    status = 0
    if todo:
        times = _times(output)
        todo.sort(key=lambda path: -times.get(path.name, math.inf))
        n_workers = max(1, min(int(os.environ.get("LECTOOL_WORKERS") or cores()), len(todo)))
        command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(ROOT)]
        command += ["-p", "no:cacheprovider", "-p", "execute", "--nbval-lax"]
        command += ["--nbval-current-env", f"--nbval-cell-timeout={CELL_TIMEOUT}"]
        if n_workers > 1:
            command += ["-n", str(n_workers), "--dist", "loadfile", "--no-loadscope-reorder"]
        command += [f"--junitxml={report}"] if report else []
        environ = variables(n_workers)
        environ |= {"LECTOOL_RECORD": str(folder), "LECTOOL_RUN": str(time.time_ns())}
        try:
            status = subprocess.run(
                [*command, *map(str, todo)], cwd=ROOT, env=environ, check=False
            ).returncode
        finally:
            collect(cache, folder)
    status = _table(cache, paths, set(todo), output, status)
    return status


def _times(output: Path) -> dict[str, float]:
    try:
        return json.loads((output / "times.json").read_text("utf8"))
    except (OSError, ValueError):
        return {}


def _table(cache, paths: list[Path], ran: set[Path], output: Path, status: int) -> int:
    times = _times(output)
    records = {path: cached(cache, path, key(path)) for path in paths}
    facts = {path: {"run": "", **record.data} for path, record in records.items() if record}
    times |= {path.name: data["execution_seconds"] for path, data in facts.items()}
    (output / "times.json").write_text(json.dumps(times, indent=1), "utf8")
    ratios = relative(
        {path: (data["execution_seconds"], data["run"]) for path, data in facts.items()}
    )
    print(f"\n{'notebook':<44}{'seconds':>9}{f'× {MEASURE}':>8}{'budget':>8}")
    for path in paths:
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
        if path in facts:
            seconds = f"{facts[path]['execution_seconds']:.1f}"
            why = "executed" if path in ran else "unchanged, from the cache"
        else:
            status, seconds = status or 1, "–"
            why = "not kept: not every cell was run, or its code or data changed meanwhile"
            if (output / "executed" / f"{_flat(path)}.errors").exists():
                why = "failed"
        print(_row(name, seconds, ratios.get(path), budget(path), why))
    if len(ratios) == len(paths):
        # as two workers share them
        print(_row("all of them", "", sum(ratios.values()) / 2, BUDGET_OF_ALL, "by two workers"))
    return status


def relative(times: dict[Path, tuple[float, str]]) -> dict[Path, float]:
    """Seconds over those of chapter 02, for the notebooks that ran in the same run as that chapter."""
    measures = [times[path] for path in times if path.name.startswith(f"{MEASURE}-")]
    return {
        path: seconds / unit
        for unit, its_run in measures
        for path, (seconds, run) in times.items()
        if run and run == its_run
    }


def _row(name: str, seconds: str, ratio: float | None, most: float, why: str) -> str:
    over = ", over the budget" if ratio is not None and ratio > most else ""
    shown = "–" if ratio is None else f"{ratio:.2f}"
    return f"{name:<44}{seconds:>9}{shown:>8}{most:>8.1f}   {why}{over}"


def main(arguments: list[str] | None = None) -> int:
    about = "Test the notebooks and fill the book's execution cache."
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: those of _toc.yml")
    parser.add_argument("--output", type=Path, default=ROOT / "_build", help="where the cache lies")
    parser.add_argument("--force", action="store_true", help="run also what has not changed")
    parser.add_argument("--report", type=Path, help="write a JUnit report")
    options = parser.parse_args(arguments)
    paths = [path.resolve() for path in options.notebooks] or notebooks()
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        parser.error(f"no such notebook: {', '.join(missing)}")
    return execute(paths, options.output.resolve(), force=options.force, report=options.report)


if __name__ == "__main__":
    sys.exit(main())
