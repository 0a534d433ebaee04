"""Masters of the assignments, their solutions and wrong answers, run without a kernel."""

import os
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MASTERS = sorted((ROOT / "assignments").glob("a[0-9][0-9]-*.ipynb"))


class Answers:
    """An assignment's solved cells, in one namespace, and its wrong answers."""

    def __init__(self, path):
        from lectool import assign
        from lectool.assign import master

        self.path = path
        self.notebook = assign.read(path)
        self.exercises = {e.name: e for e in master.exercises(self.notebook, path.name)}
        self.solutions = {k: "\n\n".join(v) for k, v in assign.solutions(self.notebook).items()}
        lists = runpy.run_path(str(path.with_name(f"{path.name[:3]}.wrong.py")))
        self.wrong, self.right = lists["WRONG"], lists["RIGHT"]
        self.space = {}
        for cell in self.notebook.cells:
            used = cell.cell_type == "code" and "experiment" not in cell.metadata.get("tags", [])
            if used and not master.checks(cell.source):
                code = re.sub(r"^(\s*)[%!].*$", r"\1pass", master.filled(cell.source), flags=re.M)
                exec(compile(code, path.stem, "exec"), self.space)

    def answer(self, name, wrong):
        """A namespace in which one solution is replaced by a wrong answer."""
        text = wrong if isinstance(wrong, str) else self.solutions[name]
        for old, new in [] if isinstance(wrong, str) else wrong:
            assert old in text, f"{name}: the master's solution does not contain {old!r}"
            text = text.replace(old, new)
        space = dict(self.space)
        exec(compile(text, f"{name} wrong", "exec"), space)
        return space

    def judge(self, name, space=None):
        import ast

        from lectool.assign import master
        from lectool.checks import judge

        call = master.parse(self.notebook.cells[self.exercises[name].check].source).body[0].value
        names = [ast.unparse(argument) for argument in call.args[1:]]
        space = self.space if space is None else space
        return judge(name, *(eval(n, space) for n in names))


_known = {}


@pytest.fixture
def answers(request):
    path = request.param
    if path not in _known:
        os.environ.setdefault("LECTOOL_OFFLINE", "1")
        _known[path] = Answers(path)
    return _known[path]


def pytest_generate_tests(metafunc):
    if "answers" in metafunc.fixturenames:
        metafunc.parametrize("answers", MASTERS, indirect=True, ids=lambda path: path.name[:3])
    if "master_path" in metafunc.fixturenames:
        metafunc.parametrize("master_path", MASTERS, ids=lambda path: path.name[:3])
