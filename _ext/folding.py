r"""Folded code: the same cells are folded on the page, in JupyterLab and in Colab, each under a name.

A cell tagged ``hide-input`` or ``hide-cell`` begins with ``# @title Figure``, by which Colab's form view, and the
page, name it. ``python _ext/folding.py chapters/*.ipynb`` (a part of ``make format``) sets what the front ends need,
and a name where there is none. As a Sphinx extension, this module joins the folded code of neighboring cells into one
toggle below their outputs: a run of three cells reads *figure, figure, code: figure, checks*.
"""

from __future__ import annotations

import ast
import html
import re
import sys
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

TITLE = re.compile(r"# @title (\S.*)\n")
FOLDED = {"hide-input", "hide-cell"}
# What a call says about the cell it stands in, in the order in which a name lists it.
KINDS = {
    "Slider": r"explore|(?:pads\.)?(?:hopfield|ising|latent|rbm|sketch|sparse|stroke)_pad",
    "Diagram": r"diagram\.(?:show|\w*svd)",
    "Training": r"(?:train\.)?fit|(?:gan\.)?play",
    "Figure": r"plt\.show|plot\.image_\w+|plt\.subplots|plt\.figure",
    "Table": r"plot\.table",
    "Questions": r"quiz",
    "Checks": r"claim",
}


# --- the notebooks --------------------------------------------------------------------------------------------------


def is_folded(cell) -> bool:
    return cell.cell_type == "code" and bool(FOLDED & set(cell.metadata.get("tags", [])))


def title_of(source: str) -> str:
    """The name of a folded cell; empty where it has none."""
    found = TITLE.match(source)
    return found[1] if found else ""


def suggest(source: str) -> str:
    """A name for a cell, by what it calls."""
    tree = ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    kinds = [
        kind for kind, calls in KINDS.items() if any(re.fullmatch(calls, name) for name in called)
    ]
    if "Slider" in kinds and "Figure" in kinds:
        kinds.remove("Figure")  # the picture that the slider moves
    if not kinds:
        imports = bool(tree.body) and isinstance(tree.body[0], ast.Import | ast.ImportFrom)
        kinds = ["Imports" if imports else "Helpers"]
    return ", ".join([kinds[0], *map(str.lower, kinds[1:])])


def fold(nb) -> bool:
    """Has every front end fold what the page folds, and nothing else; says where slides begin; whether that changed."""
    before = nbformat.writes(nb)
    for cell in nb.cells:
        if is_folded(cell):
            if not title_of(cell.source):
                name = "Set-up" if "hide-cell" in cell.metadata.tags else suggest(cell.source)
                cell.source = f"# @title {name}\n{cell.source}"
            cell.metadata.setdefault("jupyter", {})["source_hidden"] = True
            cell.metadata["cellView"] = "form"
        elif cell.cell_type == "code":
            cell.metadata.pop("cellView", None)
            cell.metadata.get("jupyter", {}).pop("source_hidden", None)
            if cell.metadata.get("jupyter") == {}:
                del cell.metadata["jupyter"]
        elif cell.cell_type == "markdown":
            cell.metadata["slideshow"] = {"slide_type": slide_type(cell.source)}
    return nbformat.writes(nb) != before


def slide_type(source: str) -> str:
    """Where `nbconvert --to slides` begins anew: a section at the side, what belongs to it below."""
    if any(line.startswith("## Exercises") for line in source.splitlines()):
        return "skip"  # for reading, not for a screen
    return "slide" if source.startswith(("# ", "## ")) else "subslide"


def main(paths: list[str]) -> int:
    for path in map(Path, paths):
        nb = nbformat.read(path, as_version=4)
        if fold(nb):
            nbformat.write(nb, path)
            print(f"folded anew: {path}")
    return 0


# --- the page -------------------------------------------------------------------------------------------------------


class Folded(nodes.Element):
    """Code that unfolds below the outputs of its cells."""


def visit(self, node: Folded) -> None:
    self.body.append(f'<details class="code"><summary>{html.escape(node["name"])}</summary>\n')


def depart(self, node: Folded) -> None:
    self.body.append("</details>\n")


def joined(names: list[str]) -> str:
    """One name for the code of several cells: ``code: figure, checks``."""
    words = dict.fromkeys(word.lower() for name in names for word in name.split(", ") if word)
    return "code: " + ", ".join(words) if words else "code"


class JoinFoldedCode(SphinxPostTransform):
    """Moves the folded code of each run of cells into one toggle, below what the last of them shows."""

    default_priority = 198  # just before myst-nb gives each cell a toggle of its own
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for run in runs(self.document):
            names, folded = [], Folded()
            for cell in run:
                del cell["hide_mode"]
                source = cell.children[0]
                cell.remove(source)
                for block in source.findall(nodes.literal_block):
                    names.append(title_of(block.astext()))
                    text = TITLE.sub("", block.astext(), count=1)
                    block.rawsource, block.children = text, [nodes.Text(text)]
                folded += source
            folded["name"] = joined(names)
            run[-1] += folded


def runs(document: nodes.document) -> list[list[nodes.container]]:
    """Neighboring code cells whose code is folded."""
    found: list[list[nodes.container]] = []
    for cell in document.findall(nodes.container):
        if cell.get("nb_element") != "cell_code" or not hides_code(cell):
            continue
        if found and next_cell(found[-1][-1]) is cell:
            found[-1].append(cell)
        else:
            found.append([cell])
    return found


def hides_code(cell: nodes.container) -> bool:
    return (
        cell.get("hide_mode") in ("input", "all")
        and bool(cell.children)
        and cell.children[0].get("nb_element") == "cell_code_source"
    )


def next_cell(cell: nodes.container) -> nodes.Node | None:
    place = cell.parent.index(cell) + 1
    return cell.parent[place] if place < len(cell.parent) else None


def setup(app) -> dict:
    app.add_node(Folded, html=(visit, depart))
    app.add_post_transform(JoinFoldedCode)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
