r"""Sphinx extension of the assignments' pages: a solution, folded in under each check.

The page is the student notebook. With ``assignment_solutions: folded`` (the default) every check is followed by the
solution from the master of the same name; with ``hidden`` nothing of it is read, so that neither the page nor its
source nor the search index knows it.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.errors import ConfigError

from lectool.assign import master as masters

STUDENT = re.compile(r"assignments/student/(a\d\d-[\w-]+)")
CHOICES = ("folded", "hidden")


def fold(app, doctree: nodes.document) -> None:
    """Puts the solutions behind the cells with their checks."""
    found = STUDENT.fullmatch(app.env.docname)
    if not found or app.config.assignment_solutions == "hidden":
        return
    path = Path(app.srcdir, "assignments", f"{found[1]}.ipynb")
    app.env.note_dependency(str(path))
    master, student = masters.read(path), nbformat.read(app.env.doc2path(app.env.docname), 4)
    solved = masters.solutions(master)
    names = {master.cells[e.check].id: e.name for e in masters.exercises(master, path.name)}
    for cell in list(doctree.findall(nodes.container)):
        if cell.get("nb_element") != "cell_code":
            continue
        name = names.get(student.cells[cell["cell_index"]].id)
        if name is None:
            continue
        summary = f"<summary>Solution of {html.escape(name)}</summary>"
        code = "\n\n\n".join(solved[name])
        block = nodes.literal_block(code, code, language="python")
        place = cell.parent.index(cell) + 1
        cell.parent[place:place] = [
            nodes.raw("", f'<details class="solution">{summary}', format="html"),
            block,
            nodes.raw("", "</details>", format="html"),
        ]


def verify(app, config) -> None:
    if config.assignment_solutions not in CHOICES:
        raise ConfigError(
            f"assignment_solutions is {config.assignment_solutions!r}; it can be {' or '.join(CHOICES)}"
        )


def setup(app) -> dict:
    app.add_config_value("assignment_solutions", "folded", "env")
    app.connect("config-inited", verify)
    app.connect("doctree-read", fold)
    return {
        "version": "1",
        "env_version": 1,
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
