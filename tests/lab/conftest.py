"""JupyterLab itself, on copies of the notebooks, with a Chromium before it."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import lab
import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = {  # cells that are out of sight stay on the page, and nothing is asked of the net
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
# Idle, and no cell waits: between two cells of a queue the kernel is idle too.
READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return panel?.sessionContext?.session?.kernel?.status === "idle"
        && !panel.content.widgets.some(cell => cell.promptNode?.textContent.includes("*"));
}"""
ENDED = """() => {
    const code = jupyterapp.shell.currentWidget.content.widgets.filter(c => c.model.type === "code");
    return code.every(c => c.model.executionCount)
        || code.some(c => c.model.outputs.toJSON().some(o => o.output_type === "error"));
}"""
CELLS = """() => jupyterapp.shell.currentWidget.content.widgets.map(cell => ({
    id: cell.model.id, type: cell.model.type, count: cell.model.executionCount ?? null,
    errors: cell.model.outputs?.toJSON().filter(o => o.output_type == "error")
        .map(o => `${o.ename}: ${o.evalue}`.slice(0, 300)) ?? []}))"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """What `make lab` lays out."""
    place = tmp_path_factory.mktemp("lab") / "lab"
    lab.lay_out(ROOT, place)
    return place


@pytest.fixture(scope="session")
def address(folder):
    """JupyterLab's address on this machine, for as long as the tests run."""
    for name, setting in SETTINGS.items():
        path = folder.parent / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting), "utf8")
    environ = {k: v for k, v in os.environ.items() if k not in ("LECTOOL_EXPLORE", "MPLBACKEND")}
    environ |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environ |= {"JUPYTERLAB_SETTINGS_DIR": str(folder.parent / "settings")}
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--port={port}", "--IdentityProvider.token=", f"--notebook-dir={folder}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    with (folder.parent / "log").open("w") as log:
        server = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT)
        for _ in range(120):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(1)
        yield f"http://127.0.0.1:{port}"
        server.terminate()
        server.wait(30)


@dataclass
class Notebook:
    """A notebook that stands open, with whom its page asked for something."""

    page: object
    path: Path
    outside: list[str] = field(default_factory=list)

    def do(self, command: str, **arguments: object) -> None:
        # Not awaited: what it starts may take as long as the test wishes.
        self.page.evaluate(
            "([c, a]) => { jupyterapp.commands.execute(c, a); }", [command, arguments]
        )

    def cells(self) -> list[dict]:
        return self.page.evaluate(CELLS)

    def wait(self, seconds: int = 900) -> None:
        """Until the kernel has nothing to do."""
        self.page.wait_for_timeout(500)
        self.page.wait_for_function(READY, timeout=1000 * seconds)
        self.page.wait_for_timeout(500)

    def run_all(self) -> list[dict]:
        self.do("notebook:run-all-cells")
        self.page.wait_for_function(ENDED, timeout=900_000)
        self.wait()
        return self.cells()

    def select(self, number: int) -> None:
        self.page.evaluate(
            "n => { jupyterapp.shell.currentWidget.content.activeCellIndex = n; }", number
        )

    def run(self, number: int) -> str:
        """Runs one cell; returns the text below it."""
        self.select(number)
        self.do("notebook:run-cell")
        self.wait()
        return self.output(number).inner_text()

    def cell(self, number: int):
        return self.page.locator(".jp-NotebookPanel:visible .jp-Cell").nth(number)

    def output(self, number: int):
        return self.cell(number).locator(".jp-Cell-outputArea")

    def write(self, number: int, text: str) -> None:
        """Replaces the code of a cell as somebody at the keyboard would."""
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(text)

    def append(self, text: str) -> int:
        self.select(len(self.cells()) - 1)
        self.do("notebook:insert-cell-below")
        number = len(self.cells()) - 1
        self.write(number, text)
        return number


@pytest.fixture(scope="session")
def open_notebook(browser, address, folder):
    """`open_notebook(name)`: a notebook in a tab of its own."""
    pages = []

    def opened(name: str) -> Notebook:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        pages.append(page)
        notebook = Notebook(page, folder / name)

        def route(request):
            if request.request.url.startswith((address, "data:", "blob:")):
                request.continue_()
            else:
                notebook.outside.append(request.request.url)
                request.abort()

        page.route("**/*", route)
        page.goto(f"{address}/lab/tree/{name}?reset", timeout=120_000)
        page.wait_for_function(READY, timeout=180_000)
        return notebook

    yield opened
    for page in pages:
        page.close()
