"""Each notebook runs once: what is cached, what runs again, what is never kept."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import execute
import nbformat
import pytest
from environment import ROOT, variables
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

MODULES = {
    "__init__": '__version__ = "0"\n',
    "a": "from lectool.c import three\n",
    "b": "from lectool import results\ntwo = 2\n",
    "c": "three = 3\n",
    "data": "",
    "results": "",
}
CONFIG = "title: t\nexecute: {execute_notebooks: cache, exclude_patterns: [chapters/09-*]}\n"
TOC = """format: jb-book
root: index
parts:
  - chapters:
      - file: chapters/01-a
      - file: chapters/02-b.ipynb
        sections:
          - file: chapters/09-left-out
  - chapters:
      - file: page
"""


def write(path: Path, *sources: str, **metadata) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [new_markdown_cell("# A title"), *(new_code_cell(source) for source in sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel, **metadata}), path)
    return path


@pytest.fixture
def tree(tmp_path):
    """A small book: two chapters, a package, the helpers of this repository."""
    shutil.copytree(ROOT / "_ext", tmp_path / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "requirements.txt").write_text("torch==1\n")
    (tmp_path / "_config.yml").write_text(CONFIG)
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / "lectool").mkdir()
    for name, text in MODULES.items():
        (tmp_path / "lectool" / f"{name}.py").write_text(text)
    write(
        tmp_path / "chapters" / "01-a.ipynb",
        "from lectool.a import three\nthree",
        "print(three + 1)",
    )
    write(tmp_path / "chapters" / "02-b.ipynb", "from lectool import b\nb.two")
    write(tmp_path / "chapters" / "09-left-out.ipynb", "1")
    (tmp_path / "page.md").write_text("# A page\n")
    return tmp_path


def run(tree: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess:
    command = [sys.executable, tree / "_ext" / "execute.py", *arguments]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LECTOOL_", "PYTEST_"))
    }
    environ = kept | {"LECTOOL_OFFLINE": "1", "LECTOOL_WORKERS": "1"} | environ
    return subprocess.run(command, capture_output=True, text=True, env=environ)


def held(tree: Path) -> set[str]:
    cache = get_cache(str(tree / "_build" / ".jupyter_cache"))
    return {Path(record.uri).stem for record in cache.list_cache_records()}


# -------------------------------------------------------------------------------------------------- the key


def test_notebooks_of_the_book(tree):
    assert [path.stem for path in execute.notebooks(tree)] == ["01-a", "02-b"]


@pytest.mark.parametrize(
    ("file", "seen_by"),
    [
        ("lectool/a.py", {"01-a"}),
        ("lectool/b.py", {"02-b"}),
        ("lectool/c.py", {"01-a"}),  # through a
        ("lectool/data.py", set()),
        ("lectool/__init__.py", {"01-a", "02-b"}),
        ("lectool/web/pad.js", {"01-a", "02-b"}),
        ("requirements.txt", {"01-a", "02-b"}),
        ("results/vae.json", {"02-b"}),
        ("page.md", set()),
    ],
)
def test_key_follows_what_a_notebook_uses(tree, file, seen_by):
    before = {path.stem: execute.key(path, tree, {}) for path in execute.notebooks(tree)}
    (tree / file).parent.mkdir(exist_ok=True)
    with (tree / file).open("a") as opened:
        opened.write("# changed\n")
    after = {path.stem: execute.key(path, tree, {}) for path in execute.notebooks(tree)}
    assert {name for name in after if before[name] != after[name]} == seen_by


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import lectool", MODULES),  # any module may be meant
        ("from lectool import *", MODULES),
        ("import torch", ["__init__"]),
        ("import lectool.b as bee", ["__init__", "b", "results"]),
        (
            "%matplotlib inline\n!ls\nfrom lectool import (\n    a,\n    b,\n)",
            ["__init__", "a", "b", "c", "results"],
        ),
        (
            "if True:\n    %pip install x\n    from lectool.b import two",
            ["__init__", "b", "results"],
        ),
        ("this is no Python", MODULES),
    ],
)
def test_modules_that_a_notebook_imports(tree, code, expected):
    path = write(tree / "chapters" / "03-c.ipynb", code)
    assert {p.stem for p in execute._modules(path, tree)} == set(expected)


def test_packages_and_relative_imports_are_followed(tree):
    package = tree / "lectool" / "gan"
    package.mkdir()
    (package / "__init__.py").write_text("from .loop import play\n")
    (package / "loop.py").write_text("from lectool.c import three\n")
    path = write(tree / "chapters" / "03-c.ipynb", "from lectool.gan import play")
    assert {"loop.py", "c.py"} <= {p.name for p in execute._modules(path, tree)}


def test_key_follows_settings_and_data(tree):
    chapter = tree / "chapters" / "02-b.ipynb"
    folder = tree / "data"
    environs = [{}, *({name: "other"} for name in execute.SETTINGS), {"LECTOOL_DATA": str(folder)}]
    environs.append({"LECTOOL_DATA": str(folder), "LECTOOL_DIGITS": "bundled"})
    (folder / "mnist").mkdir(parents=True)
    (folder / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"12345")
    nowhere = {"XDG_CACHE_HOME": str(tree / "nowhere")}
    keys = [execute.key(chapter, tree, nowhere | environ) for environ in environs]
    assert len(set(keys)) == len(keys)
    assert (
        execute.key(chapter, tree, nowhere | {"LECTOOL_SCALE": "quick", "LECTOOL_SEED": ""})
        == keys[0]
    )
    (folder / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"123456")
    again = [execute.key(chapter, tree, nowhere | environ) for environ in environs]
    assert [new != old for new, old in zip(again, keys)] == [False] * (len(keys) - 2) + [
        True,
        False,
    ]


# ------------------------------------------------------------------------------------------ the table of times


def test_times_are_compared_with_chapter_02_of_the_same_run():
    paths = [Path(f"chapters/{name}.ipynb") for name in ("01-a", "02-b", "03-c")]
    master = Path("assignments/a02-x.ipynb")
    times = dict(zip([*paths, master], [(30.0, "2"), (20.0, "2"), (90.0, "1"), (5.0, "2")]))
    assert execute.relative(times) == {paths[0]: 1.5, paths[1]: 1.0, master: 0.25}
    assert execute.relative({paths[0]: (30.0, "2")}) == {}
    assert execute.relative({paths[1]: (30.0, ""), paths[0]: (30.0, "")}) == {}
    assert (execute.budget(paths[0]), execute.budget(master)) == (1.3, 0.6)


def test_the_table_says_what_is_over_its_budget(tree, capsys):
    cache = get_cache(str(tree / "_build" / ".jupyter_cache"))
    for path, seconds in zip(execute.notebooks(tree), (3.0, 2.0)):
        data = {"key": execute.key(path), "run": "7", "execution_seconds": seconds}
        bundle = CacheBundleIn(nbformat.read(path, as_version=4), str(path), data=data)
        cache.cache_notebook_bundle(bundle, check_validity=False)
    assert execute._table(cache, execute.notebooks(tree), set(), tree / "_build", 0) == 0
    first, second, whole = capsys.readouterr().out.splitlines()[-3:]
    assert re.search(r"01-a.* 3\.0 +1\.50 +1\.3 .*, over the budget$", first)
    assert re.search(r"02-b.* 2\.0 +1\.00 +1\.3 +unchanged, from the cache$", second)
    assert re.search(r"^all of them +1\.25 +8\.0 +by two workers$", whole)


# ------------------------------------------------------------------------------------------------ execution

TRICKY = [
    "print('one')\nimport matplotlib.pyplot as plt\nplt.figure(figsize=(1, 1))\nplt.show()\nprint('two')",
    "",
    "from IPython.display import HTML, clear_output, display\n"
    "shown = display(HTML('<b>old</b>'), display_id=True)\nprint('gone')\nclear_output()\nprint('stays')\n1 + 1",
    "shown = display(HTML('<b>old</b>'), display_id='fixed')\nshown.update(HTML('<i>new</i>'))\n_ + 1",
    "class Rich:\n    def _repr_mimebundle_(self, **_):\n"
    "        return {'text/html': '<u>x</u>', 'text/plain': 'x'}, {'text/html': {'isolated': True}}\nRich()",
    "In[1][:5], _3",
]


def test_outputs_are_those_of_nbclient(tree):
    path = write(tree / "chapters" / "01-a.ipynb", *TRICKY)
    done = run(tree, str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    cache = get_cache(str(tree / "_build" / ".jupyter_cache"))
    notebook = nbformat.read(path, as_version=4)
    _, ours = cache.merge_match_into_notebook(notebook)
    theirs = nbformat.read(path, as_version=4)
    environ = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(variables(1, tree))
        result = single_nb_execution(theirs, cwd=str(path.parent), timeout=60, allow_errors=False)
    finally:
        os.environ.clear()
        os.environ.update(environ)
    assert result.err is None
    assert [cell.get("outputs") for cell in ours.cells] == [
        cell.get("outputs") for cell in theirs.cells
    ]
    assert [cell.get("execution_count") for cell in ours.cells] == [
        c.get("execution_count") for c in theirs.cells
    ]
    assert ours.metadata.language_info == theirs.metadata.language_info


def test_unchanged_notebooks_do_not_run_again(tree):
    first = run(tree)
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout.count("   executed") == 2
    assert held(tree) == {"01-a", "02-b"}
    second = run(tree)
    assert second.returncode == 0
    assert second.stdout.count("unchanged, from the cache") == 2
    assert "passed" not in second.stdout

    (tree / "lectool" / "c.py").write_text("three = 30\n")
    third = run(tree)
    assert third.returncode == 0
    assert (third.stdout.count("   executed"), third.stdout.count("unchanged")) == (1, 1)
    text = json.dumps(
        [p.read_text() for p in (tree / "_build" / ".jupyter_cache").rglob("base.ipynb")]
    )
    assert "31" in text

    forced = run(tree, "--force", str(tree / "chapters" / "02-b.ipynb"))
    assert forced.stdout.count("   executed") == 1


def test_a_failing_cell_is_shown_and_nothing_of_it_is_kept(tree):
    write(
        tree / "chapters" / "02-b.ipynb",
        "x = 1",
        "raise ValueError('the margin is too small')",
        "print('never')",
    )
    done = run(tree, LECTOOL_WORKERS="2")
    assert done.returncode == 1
    assert "ValueError: the margin is too small" in re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert "02-b.ipynb: failed" in done.stdout
    assert "1 failed" in done.stdout and "1 skipped" in done.stdout
    assert held(tree) == {"01-a"}
    errors = [
        json.loads(x)
        for p in (tree / "_build/executed").glob("*.errors")
        for x in p.read_text().splitlines()
    ]
    assert [(e["notebook"], e["cell"], e["error"]) for e in errors] == [
        ("02-b", 1, "ValueError: the margin is too small")
    ]
    write(tree / "chapters" / "02-b.ipynb", "x = 1")
    assert run(tree).returncode == 0
    assert held(tree) == {"01-a", "02-b"}


def test_outputs_of_code_that_changes_meanwhile_are_not_kept(tree):
    path = write(
        tree / "chapters" / "02-b.ipynb",
        "from lectool import b\nopen(b.__file__, 'a').write('# more')",
    )
    done = run(tree, str(path))
    assert done.returncode == 1
    assert "1 passed" in done.stdout and "changed meanwhile" in done.stdout
    assert held(tree) == set()


def test_a_run_that_was_cut_off_keeps_what_was_finished(tree):
    path = tree / "chapters" / "01-a.ipynb"
    notebook = nbformat.read(path, as_version=4)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LECTOOL_")}
    facts = {"path": str(path), "key": execute.key(path, tree, kept), "run": "1", "seconds": 1.5}
    notebook.metadata["lectool_run"] = facts
    (tree / "_build" / "executed").mkdir(parents=True)
    nbformat.write(notebook, tree / "_build" / "executed" / "chapters--01-a.ipynb")
    (tree / "_build" / "executed" / "chapters--02-b.part").write_text("{half a note")
    done = run(tree, str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout.count("   executed"), done.stdout.count("unchanged")) == (0, 1)
    assert held(tree) == {"01-a"}


def test_a_notebook_that_is_not_there(capsys):
    with pytest.raises(SystemExit):
        execute.main(["chapters/77-none.ipynb"])
    assert "no such notebook" in capsys.readouterr().err
