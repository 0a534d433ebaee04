"""What is installed: lectool alone for readers, exact pins for whoever builds the book."""

import ast
import re
import subprocess
import sys
import zipfile

import pytest
import yaml
from environment import ROOT, files
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PINS = [
    Requirement(line)
    for line in (ROOT / "requirements.txt").read_text("utf8").splitlines()
    if line.strip() and not line.startswith("#")
]


def project() -> dict:
    """The [project] table; by setuptools' own reader, which Python 3.10 has too."""
    from setuptools.config.pyprojecttoml import load_file

    return load_file(ROOT / "pyproject.toml")["project"]


def test_every_pin_is_exact():
    for pin in PINS:
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)), pin


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_each_package_is_pinned_once_for_each_python(python):
    held = [
        pin.name.lower()
        for pin in PINS
        if not pin.marker or pin.marker.evaluate({"python_version": python})
    ]
    assert len(held) == len(set(held))
    assert {pin.name.lower() for pin in PINS} == set(held)


def test_pins_meet_the_lower_bounds():
    bounds = {r.name: r.specifier for r in map(Requirement, project()["dependencies"])}
    for pin in PINS:
        version = str(pin.specifier).removeprefix("==")
        assert pin.name not in bounds or version in bounds[pin.name], pin
    assert set(bounds) <= {pin.name for pin in PINS}


def test_bounds_are_open():
    for requirement in map(Requirement, project()["dependencies"]):
        assert [s.operator for s in requirement.specifier] == [">="], requirement
    assert SpecifierSet(project()["requires-python"]) == SpecifierSet(">=3.10")


def test_environment_holds_the_pins():
    from importlib.metadata import version

    for pin in PINS:
        if not pin.marker or pin.marker.evaluate():
            assert version(pin.name).partition("+")[0] in pin.specifier, pin


def test_wheel_holds_lectool_with_its_results_and_nothing_else(tmp_path):
    tree = tmp_path / "tree"
    for path in files():
        target = tree / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--isolated",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*command, "--quiet", "--wheel-dir", tmp_path, tree], check=True)
    (wheel,) = tmp_path.glob("lectool-*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    kept = [name for name in names if name.startswith(f"lectool-{project()['version']}.data/data/")]
    listed = [path.relative_to(ROOT).as_posix() for path in files()]
    assert sorted(set(names) - set(kept)) == [p for p in listed if p.startswith("lectool/")]
    results = [p for p in listed if re.fullmatch(r"results/[^/]+\.(json|png)", p)]
    places = {name.split("/data/", 1)[1].removeprefix("share/lectool/") for name in kept}
    assert places == set(results)


def test_citation():
    facts = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf8"))
    assert {"cff-version", "title", "authors", "version", "license", "repository-code"} <= set(
        facts
    )
    assert facts["version"] == project()["version"]


def test_nothing_names_the_machine_it_was_written_on():
    pattern = re.compile(rb"/(?:work|home|root|Users)/[a-z]|file:///|\blocalhost:\d")
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix in (".toml", ".txt", ".yml", ".cff") or name in (
            "Makefile",
            ".ci/run",
            ".ci/colab",
        ):
            assert not pattern.search(path.read_bytes()), name


def test_the_formatter_is_nowhere_switched_off():
    code = [path for path in files() if path.suffix in (".py", ".ipynb")]
    assert code
    assert not [path for path in code if "fmt: " + "skip" in path.read_text("utf8")]


NAMES = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "IPython": "ipython",
    "jupyter_client": "jupyter-client",
}


def imports(path) -> set[str]:
    """The packages that a module imports from elsewhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return {NAMES.get(name, name) for name in found - set(sys.stdlib_module_names) - {"lectool"}}


def test_what_is_imported_is_declared_and_not_more():
    declared = {Requirement(line).name for line in project()["dependencies"]}
    extras = project()["optional-dependencies"]
    needed, more = set(), {name: set() for name in extras}
    for path in (ROOT / "lectool").rglob("*.py"):
        if (
            path.parent.name == "assign" and path.name != "inside.py"
        ):  # that goes to a student's kernel
            more["assign"] |= imports(path)
        elif path.name == "repeat.py":
            more["full"] |= imports(path)
        else:
            needed |= imports(path)
    assert needed == declared
    for name, found in more.items():
        assert found - declared <= {Requirement(line).name for line in extras[name]}, name


def test_git_ignores_no_source():
    """A pattern such as `lab/` also hides tests/lab, which then never leaves the machine it was written on."""
    places = ["tests", "lectool", "_ext", "_static", "benchmarks", "chapters", "assignments"]
    command = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", *places]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        pytest.skip("no git repository")
    kinds = (".py", ".ipynb", ".js", ".css", ".json", ".md", ".html")
    hidden = [path for path in run.stdout.splitlines() if path.endswith(kinds)]
    assert not [path for path in hidden if "/." not in path and "__pycache__" not in path]
