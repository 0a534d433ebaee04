"""The make targets: what they would do, when they do nothing, what they say when a stage fails."""

import os
import re
import shutil
import subprocess

import browser
import environment
import pytest
import stages
import yaml
from environment import ROOT

TARGETS = set(
    re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf8"), re.MULTILINE)[1].split()
)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """An output folder and a tree of its own for the stages; what takes long is replaced."""
    (tmp_path / "page.md").write_text("a page")
    (tmp_path / "tests" / "book").mkdir(parents=True)
    (tmp_path / "tests" / "browser").mkdir()
    (tmp_path / "_config.yml").write_text("title: t\nexecute: {timeout: 600}\n")
    calls: list[str] = []
    fail: set[str] = set()

    def stand_in(name):
        def work(*arguments, **_):
            calls.append(name if name != "pytest" else f"pytest {arguments[0]}")
            return 1 if calls[-1] in fail else 0

        return work

    for name in ("lint", "pytest", "execute", "build"):
        monkeypatch.setattr(stages, name, stand_in(name))
    names = [tmp_path / "chapters" / f"{i:02d}-x.ipynb" for i in (1, 2, 3)]
    monkeypatch.setattr(stages, "notebooks", lambda: names)
    monkeypatch.setattr(stages, "OUTPUT", tmp_path / "_build")
    monkeypatch.setattr(stages, "ROOT", tmp_path)
    monkeypatch.setattr(stages, "fingerprint", lambda: environment.fingerprint(tmp_path))
    monkeypatch.setattr(stages, "find_chromium", lambda install: "chromium")
    tmp_path.calls, tmp_path.fail = calls, fail
    return tmp_path


@pytest.fixture
def tmp_path(tmp_path):
    class Folder(type(tmp_path)):
        calls: list[str]
        fail: set[str]

    return Folder(tmp_path)


ALL = ["lint", "pytest unit", "execute", "build", "pytest book", "pytest browser"]


def test_green_runs_are_not_repeated(tree, capsys):
    assert stages.test() == 0
    assert tree.calls == ALL
    assert stages.test() == 0
    assert tree.calls == ALL
    assert "Nothing has changed since all tests passed" in capsys.readouterr().out
    assert stages.test(force=True) == 0
    assert tree.calls == 2 * ALL


@pytest.mark.parametrize("change", ["edit", "new file", "setting"])
def test_any_change_runs_the_tests_again(tree, change, monkeypatch):
    assert stages.test() == 0
    if change == "edit":
        (tree / "page.md").write_text("another page")
    elif change == "new file":
        (tree / "more.md").write_text("more")
    else:
        monkeypatch.setenv("LECTOOL_SEED", "1")
    assert stages.test() == 0
    assert tree.calls == 2 * ALL


@pytest.mark.parametrize(
    ("broken", "left_out"),
    [
        ("lint", []),
        ("pytest unit", []),
        ("execute", ["build", "pytest book", "pytest browser"]),
        ("build", ["pytest book", "pytest browser"]),
        ("pytest browser", []),
    ],
)
def test_a_failing_stage_fails_the_run(tree, broken, left_out, capsys):
    tree.fail.add(broken)
    assert stages.test() == 1
    assert tree.calls == [name for name in ALL if name not in left_out]
    assert "; failed: " in capsys.readouterr().out.splitlines()[-1]
    tree.calls.clear()
    tree.fail.clear()
    assert stages.test() == 0
    assert tree.calls == ALL


def test_a_tree_that_changes_during_the_tests_is_not_called_green(tree, monkeypatch):
    monkeypatch.setattr(stages, "lint", lambda: (tree / "page.md").write_text("edited") and 0)
    assert stages.test() == 0
    assert not (tree / "_build" / "green.json").exists()


def test_without_a_browser(tree, monkeypatch):
    monkeypatch.delenv("LECTOOL_REQUIRE_BROWSER", raising=False)
    monkeypatch.setattr(stages, "find_chromium", lambda install: None)
    assert stages.browser_tests() == 0
    monkeypatch.setenv("LECTOOL_REQUIRE_BROWSER", "1")
    assert stages.browser_tests() == 1


def test_offline_runs_two_chapters_and_leaves_the_others(tree, monkeypatch):
    for name in (
        "LECTOOL_DATA",
        "LECTOOL_DIGITS",
        "LECTOOL_OFFLINE",
        "LECTOOL_SEED",
        "XDG_CACHE_HOME",
    ):
        monkeypatch.setenv(name, "before")
    ran = []
    monkeypatch.setattr(
        stages, "execute", lambda paths, output: ran.append((paths, output, dict(os.environ)))
    )
    assert stages.offline() == 0
    ((paths, output, environ),) = ran
    assert [path.name for path in paths] == ["01-x.ipynb", "02-x.ipynb"]
    assert output != tree / "_build"
    assert "LECTOOL_DATA" not in environ
    assert (environ["LECTOOL_DIGITS"], environ["LECTOOL_OFFLINE"]) == ("bundled", "1")
    config = yaml.safe_load((tree / "_build" / "offline" / "_config.yml").read_text())
    assert config["execute"] == {"timeout": 600, "exclude_patterns": ["chapters/03-x.ipynb"]}


def test_claims_covers_seeds_and_data_and_names_what_failed(tree, monkeypatch, capsys):
    settings = []

    def execute(paths, output):
        settings.append((os.environ["LECTOOL_DIGITS"], os.environ["LECTOOL_SEED"]))
        if settings[-1] == ("bundled", "2"):
            (output / "executed").mkdir(parents=True)
            line = '{"notebook": "01-x", "cell": 7, "error": "ClaimError: 0.3 is not below 0.2"}\n'
            (output / "executed" / "chapters--01-x.errors").write_text(line)
            return 1
        return 0

    monkeypatch.setattr(stages, "execute", execute)
    before = dict(os.environ)
    assert stages.claims(["01"]) == 1
    assert dict(os.environ) == before
    assert settings == [(digits, seed) for digits in ("mnist", "bundled") for seed in "012"]
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"bundled, seed 2\s+01-x\s+cell 7\s+ClaimError: 0.3 is not below 0.2", last)


# ------------------------------------------------------------------------------------- fingerprint, browser


def test_fingerprint_leaves_out_what_the_site_does_not_show(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "page.md").write_text("page")
    with_tests, site = (environment.fingerprint(tmp_path, without) for without in ((), ("tests/",)))
    (tmp_path / "tests" / "test_x.py").write_text("")
    assert environment.fingerprint(tmp_path) != with_tests
    assert environment.fingerprint(tmp_path, ("tests/",)) == site
    (tmp_path / "page.md").write_text("page 2")
    assert environment.fingerprint(tmp_path, ("tests/",)) != site


def test_files_are_those_of_git(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("ignored\n")
    for name in ("ignored", "kept"):
        (tmp_path / name).write_text("")
    assert [path.name for path in environment.files(tmp_path)] == [".gitignore", "kept"]


def test_chromium(tmp_path, monkeypatch):
    monkeypatch.setenv("LECTOOL_CHROMIUM", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="LECTOOL_CHROMIUM"):
        browser.find_chromium()
    monkeypatch.delenv("LECTOOL_CHROMIUM")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "_playwrights", lambda: None)
    assert browser.find_chromium() is None
    program = tmp_path / "chromium-browser"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert browser.find_chromium() == str(program)
    monkeypatch.setenv("LECTOOL_CHROMIUM", "chromium-browser")
    assert browser.find_chromium() == str(program)


# -------------------------------------------------------------------------------------- Makefile, workflows


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["book"], r"python _ext/stages.py book$"),
        (["test"], r"python _ext/stages.py test *$"),
        (["test", "FORCE=1"], r"python _ext/stages.py test --force$"),
        (["offline"], r"python _ext/stages.py offline$"),
        (["claims", "CHAPTER=02"], r"python _ext/stages.py claims 02$"),
        (["address", "REPO=a/b", "TAG=v1.2"], r"python _ext/address.py a/b --tag v1.2$"),
        (["lab"], r"python _ext/lab\.py$"),
        (
            ["format"],
            r"ruff check --fix \. && .*ruff format \. && .*_ext/folding\.py chapters/\*\.ipynb assignments/\*\.ipynb$",
        ),
    ],
)
def test_targets(tmp_path, arguments, expected):
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    plan = subprocess.run(
        ["make", "-n", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "pip install" in plan.stdout and "-m venv" in plan.stdout  # nothing is there yet
    assert re.search(expected, plan.stdout, re.MULTILINE)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".ready").touch()
    again = subprocess.run(
        ["make", "-n", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "pip" not in again.stdout
    assert re.search(expected, again.stdout, re.MULTILINE)


def test_an_old_python_is_refused(tmp_path):
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    run = subprocess.run(
        ["make", "book", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "older than Python 3.10" in run.stdout
    assert not (tmp_path / ".venv").exists()


def test_help_lists_every_target():
    text = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[0] for line in text.splitlines() if line[:1].isalpha()} == TARGETS


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.stem
)
def test_workflows_are_short_and_call_the_targets(path):
    text = path.read_text("utf8")
    jobs = yaml.safe_load(text)["jobs"]
    assert len(text.splitlines()) <= 50
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    called = [target for command in commands for target in re.findall(r"\bmake ([a-z]+)", command)]
    assert set(called) - {"room"} <= TARGETS
    scripts = [name for command in commands for name in re.findall(r"\.ci/\w+", command)]
    assert called or scripts
    assert all(os.access(ROOT / name, os.X_OK) for name in scripts)
    assert not re.search(r"\bpip install\b", "".join(commands))


@pytest.mark.parametrize("name", ["run", "colab"])
def test_scripts_are_bash(name):
    subprocess.run(["bash", "-n", ROOT / ".ci" / name], check=True)
    assert os.access(ROOT / ".ci" / name, os.X_OK)


def test_documents_name_targets_that_exist():
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text("utf8")
        called = re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)
        assert called and set(called) <= TARGETS


def test_command_line_refuses_unknown_targets(capsys):
    with pytest.raises(SystemExit):
        stages.main(["all"])
    assert "invalid choice" in capsys.readouterr().err


def test_a_relative_data_folder_counts_from_where_make_is_called(monkeypatch):
    seen = []
    monkeypatch.setenv("LECTOOL_DATA", "../data")
    monkeypatch.setattr(stages, "bench", lambda: seen.append(os.environ["LECTOOL_DATA"]) or 0)
    assert stages.main(["bench"]) == 0
    assert seen == [os.path.abspath("../data")]
