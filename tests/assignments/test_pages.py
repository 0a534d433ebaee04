"""The assignments' pages in Chromium: solutions folded, opened, and hidden, also from the pages' source."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

from lectool.assign import master as masters
from lectool.assign import read, solutions

ROOT = Path(__file__).parents[2]
MASTERS = sorted((ROOT / "assignments").glob("a[0-9][0-9]-*.ipynb"))
pytestmark = pytest.mark.browser


def build(folder, setting):
    """A book of the assignments alone, with the tree's own configuration but one setting."""
    folder.mkdir()
    for name in ("assignments", "_static", "_ext"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    config["sphinx"]["config"]["assignment_solutions"] = setting
    config["sphinx"]["config"]["extensions"].remove("sphinx-mathjax-offline")  # 24 MB to copy
    (folder / "_config.yml").write_text(yaml.safe_dump(config), "utf8")
    (folder / "index.md").write_text("# A course\n", "utf8")
    (folder / "chapters").mkdir()
    files = [{"file": f"assignments/student/{path.stem}"} for path in MASTERS]
    toc = {"format": "jb-book", "root": "index", "chapters": files}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc), "utf8")
    script = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", script, "build", "-W", "--keep-going", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=["folded", "hidden"])
def site(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("book") / request.param
    done = build(folder, request.param)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return request.param, folder / "_build" / "html"


def page_of(path, site):
    return site / "assignments" / "student" / f"{path.stem}.html"


def code_of(solved):
    """The longest line of each exercise's solution: what a reader would look for."""
    return {
        name: max("\n".join(cells).splitlines(), key=len).strip() for name, cells in solved.items()
    }


def test_solutions_unfold_or_are_not_there(site, browser, master_path):
    setting, folder = site
    master = read(master_path)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.route("**/*", lambda r: r.continue_() if r.request.url.startswith("file:") else r.abort())
    page.goto(page_of(master_path, folder).as_uri())
    folds = page.locator("details.solution")
    assert page.locator("div.cell").count() > 8
    assert "raise NotImplementedError" in page.locator("article").inner_text()
    if setting == "hidden":
        assert folds.count() == 0
        page.close()
        return
    wanted = solutions(master)
    assert folds.count() == len(wanted)
    for fold, (name, cells) in zip(folds.all(), wanted.items(), strict=True):
        assert fold.locator("summary").inner_text() == f"Solution of {name}"
        block = fold.locator("div.highlight")
        assert not block.is_visible()
        fold.locator("summary").click()
        assert block.is_visible()
        assert block.inner_text().split() == "\n".join(cells).split()
        above = fold.evaluate("e => e.previousElementSibling.textContent")
        assert f'check("{name}"' in above
        fold.locator("summary").press("Enter")
        assert not block.is_visible()
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    folds.first.locator("summary").click()
    colors = folds.first.locator("pre").evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    )
    assert colors[0] != colors[1]
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 361
    page.close()


def leaked(site, secret):
    """The files of a site that hold a line of a solution."""
    found = []
    for path in site.rglob("*"):
        if path.suffix in (".html", ".ipynb", ".js", ".json", ".txt", ".inv", ".md"):
            text = BeautifulSoup(
                path.read_text("utf8", "ignore"), "html.parser"
            ).get_text() + path.read_text("utf8", "ignore")
            found += [
                f"{path.name}: {line}"
                for line in secret
                if line in text or json.dumps(line)[1:-1] in text
            ]
    return found


def test_a_hidden_solution_is_nowhere_in_the_site(site, master_path):
    setting, folder = site
    secret = masters.solution_lines(read(master_path))
    found = leaked(folder, secret)
    if setting == "hidden":
        assert found == []
    else:
        pages = {name for line in found for name in [line.split(": ", 1)[0]]}
        own = {line.split(": ", 1)[1] for line in found if line.startswith(master_path.stem)}
        assert own == secret
        assert all(page.endswith(".html") for page in pages), "only pages, which share some lines"


def test_the_download_is_the_student_notebook(site, master_path):
    _, folder = site
    clean = ROOT / "assignments" / "student" / master_path.name
    assert (folder / "_sources/assignments/student" / clean.name).read_bytes() == clean.read_bytes()
    page = BeautifulSoup(page_of(master_path, folder).read_text("utf8"), "html.parser")
    links = [a["href"] for a in page.find_all("a", href=True)]
    assert f"../../_sources/assignments/student/{clean.name}" in links
    assert any(
        link.startswith("https://colab.research.google.com/")
        and link.endswith(f"assignments/student/{clean.name}")
        for link in links
    )


def test_another_setting_is_refused(tmp_path):
    done = build(tmp_path / "book", "visible")
    assert done.returncode != 0
    assert (
        "assignment_solutions is 'visible'; it can be folded or hidden" in done.stdout + done.stderr
    )
