"""Colab, simulated: its torch stays, its versions meet the lower bounds, the set-up cell installs lectool alone."""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata

import address
import colab
import nbformat
import pytest
from environment import ROOT, files, variables
from packaging.requirements import Requirement

# The oldest versions that the book promises to work with there, and what the image held in later Augusts.
IMAGES = {
    "oldest": {
        "python": "3.11",
        "torch": "2.4.0",
        "numpy": "1.26.4",
        "matplotlib": "3.8.0",
        "ipywidgets": "7.7.1",
        "ipython": "7.34.0",
        "scikit-learn": "1.5.2",
        "scipy": "1.13.1",
        "networkx": "3.4.2",
        "tqdm": "4.66.6",
        "pooch": "1.8.2",
        "pillow": "10.4.0",
    },
    "2025": {
        "python": "3.12",
        "torch": "2.8.0",
        "numpy": "2.0.2",
        "matplotlib": "3.10.0",
        "ipywidgets": "7.7.1",
        "ipython": "7.34.0",
        "scikit-learn": "1.6.1",
        "scipy": "1.16.1",
        "networkx": "3.5",
        "tqdm": "4.67.1",
        "pooch": "1.8.2",
        "pillow": "11.3.0",
    },
    "2026": colab.IMAGE,
}


ADDED = {"jupyterquiz"}  # what the image lacks and the set-up cell brings


def dependencies():
    from setuptools.config.pyprojecttoml import load_file

    return load_file(ROOT / "pyproject.toml")["project"]


@pytest.mark.parametrize("image", IMAGES)
def test_images_meet_the_lower_bounds(image):
    versions, project = IMAGES[image], dependencies()
    assert Requirement(f"python{project['requires-python']}").specifier.contains(versions["python"])
    for requirement in map(Requirement, project["dependencies"]):
        if requirement.name in ADDED:
            continue
        assert requirement.specifier.contains(versions[requirement.name]), (
            requirement,
            versions[requirement.name],
        )


@pytest.mark.parametrize("name", sorted(ADDED))
def test_what_is_added_brings_nothing_along(name):
    assert not metadata.requires(name)
    assert name in {Requirement(r).name for r in dependencies()["dependencies"]}


def test_pip_plans_lectool_and_nothing_else(tmp_path):
    # torch is present, and there is no index to turn to: pip's dry run must be content with what it finds
    tree = tmp_path / "tree"
    for path in files():
        target = tree / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--isolated",
        "--dry-run",
        "--no-index",
        "--quiet",
    ]
    command += [
        "--no-build-isolation",
        "--ignore-requires-python",
        "--report",
        str(tmp_path / "plan.json"),
        str(tree),
    ]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    run = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert run.returncode == 0, run.stderr
    plan = json.loads((tmp_path / "plan.json").read_text("utf8"))["install"]
    assert [item["metadata"]["name"] for item in plan] == ["lectool"]


# ------------------------------------------------------------------------------------------ the set-up cell

EXAMPLE = f"""# Set-up: in Colab this installs lectool; elsewhere it only imports.
import sys

if "google.colab" in sys.modules:
    {address.address().install}

from lectool import random, train

random.seed(0)
"""

RUN = """
import io, json, sys, types
from contextlib import redirect_stdout
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

if sys.argv[1] == "colab":
    sys.modules["google"] = types.ModuleType("google")
    sys.modules["google.colab"] = sys.modules["google"].colab = types.ModuleType("google.colab")
shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
asked = []
shell.register_magic_function(asked.append, "line", "pip")
shell.system = lambda command: asked.append("! " + command)
with redirect_stdout(io.StringIO()):
    result = shell.run_cell(sys.stdin.read())
result.raise_error()
print(json.dumps(asked))
"""


def run_cell(source: str, where: str) -> list[str]:
    """What the cell asks pip for when it runs in Colab (`where="colab"`) or elsewhere."""
    command = [sys.executable, "-c", RUN, where]
    run = subprocess.run(
        command, input=source, capture_output=True, text=True, cwd=ROOT, env=variables(1)
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(run.stdout.strip().splitlines()[-1])


def setup_cells() -> dict[str, str]:
    """The first code cell of each chapter, each text once."""
    found = {EXAMPLE: "example"}
    folders = (ROOT / "chapters", ROOT / "assignments" / "student")
    for path in sorted(path for folder in folders for path in folder.glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        found.setdefault(next(cell.source for cell in cells if cell.cell_type == "code"), path.stem)
    return {name: source for source, name in found.items()}


CELLS = setup_cells()


@pytest.mark.parametrize("name", CELLS)
def test_setup_cell_installs_lectool_alone_in_colab(name):
    assert run_cell(CELLS[name], "colab") == [address.address().install.removeprefix("%pip ")]


@pytest.mark.parametrize("name", CELLS)
def test_setup_cell_installs_nothing_elsewhere(name):
    assert run_cell(CELLS[name], "elsewhere") == []


def test_chapters_share_one_setup_cell():
    assert len(CELLS) <= 2, f"the set-up cell of {sorted(CELLS)[1:]} is not the same everywhere"
