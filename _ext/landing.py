r"""Sphinx extension of the landing page: what follows from what, and samples of the book, from the book itself.

{reading-path}      a map of the chapters; each line of its body is ``NN: MM MM``, the chapters that NN builds on
{claims-sample}     the claims of one cell of the chapter that its body names, as that chapter shows them
{listing}           the code of the function of lectool that its body names
"""

from __future__ import annotations

import html
import textwrap
from pydoc import locate

import book
import networkx as nx
from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from lectool.source import source_text

WIDTH, HEIGHT, GAP = 130, 52, (12, 32)  # of a box, in pixels, and between two
MAX_ROWS = 3


class Sample(nodes.General, nodes.Element):
    """Stands for one of the parts until the page is written."""


class SampleDirective(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        book.pages_of(self.env).add(self.env.docname)
        return [Sample(part=self.name, body="\n".join(self.content))]


def reading_path(app, docname: str, body: str) -> list[nodes.Node]:
    """A drawing: chapters as boxes that are links, in rows, each below all that it builds on."""
    needs = nx.DiGraph()
    for line in filter(None, map(str.strip, body.splitlines())):
        number, _, before = line.partition(":")
        needs.add_node(int(number))
        needs.add_edges_from((int(b), int(number)) for b in before.split())
    standing = {chapter.number: chapter for chapter in book.chapters(app)}
    if wrong := set(needs) ^ set(standing):
        raise ExtensionError(f"reading-path and the chapters differ in {sorted(wrong)}")
    rows = [sorted(row) for row in nx.topological_generations(needs)]
    step_x, step_y = WIDTH + GAP[0], HEIGHT + GAP[1]
    width = max(map(len, rows)) * step_x - GAP[0]
    height = len(rows) * step_y - GAP[1]
    place = {
        number: (width / 2 + (i - (len(row) - 1) / 2) * step_x, HEIGHT / 2 + j * step_y)
        for j, row in enumerate(rows)
        for i, number in enumerate(row)
    }
    lines = "".join(
        f'<line x1="{place[a][0]:g}" y1="{place[a][1] + HEIGHT / 2:g}" '
        f'x2="{place[b][0]:g}" y2="{place[b][1] - HEIGHT / 2:g}"/>'
        for a, b in nx.transitive_reduction(needs).edges
    )
    boxes = "".join(
        box(standing[n], *place[n], app.builder.get_relative_uri(docname, standing[n].docname))
        for n in sorted(place)
    )
    words = "; ".join(
        f"chapter {n} builds on {' and '.join(map(str, sorted(needs.predecessors(n))))}"
        for n in sorted(needs)
        if needs.in_degree(n)
    )
    svg = (
        f'<svg viewBox="-1 -1 {width + 2:g} {height + 2:g}" style="max-width:{1.3 * width:.0f}px" '
        f'role="group" aria-label="Map of the chapters: {words}">{lines}{boxes}</svg>'
    )
    return [book.raw(f'<div class="reading-path">{svg}</div>')]


def box(chapter: book.Chapter, x: float, y: float, link: str) -> str:
    words = textwrap.wrap(f"{chapter.number:02d} {chapter.title}", 19)
    first = y + 4 - 6.5 * (len(words) - 1)
    text = "".join(
        f'<text x="{x:g}" y="{first + 13 * i:g}">{html.escape(line)}</text>'
        for i, line in enumerate(words)
    )
    corner = f'x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}"'
    return f'<a href="{link}"><rect {corner} width="{WIDTH}" height="{HEIGHT}" rx="6"/>{text}</a>'


def claims_sample(app, docname: str, body: str) -> list[nodes.Node]:
    """The first cell of a chapter with few claims, as it shows them, unfolded."""
    for chapter in book.chapters(app):
        if chapter.number != int(body):
            continue
        for cell in chapter.cells:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                found = data.get(book.CLAIM_MIME, {}).get("claims", [])
                if 1 <= len(found) <= MAX_ROWS:
                    page = "".join(data["text/html"])
                    return [book.raw(page.replace("<details ", "<details open ", 1))]
    return []


def listing(app, docname: str, body: str) -> list[nodes.Node]:
    item = locate(body.strip())
    if item is None:
        raise ExtensionError(f"listing: there is no {body.strip()}")
    text = source_text(item)
    return [nodes.literal_block(text, text, language="python")]


PARTS = {"reading-path": reading_path, "claims-sample": claims_sample, "listing": listing}


def fill(app, doctree, docname: str) -> None:
    for node in list(doctree.findall(Sample)):
        html_only = app.builder.format == "html" or node["part"] == "listing"
        node.replace_self(PARTS[node["part"]](app, docname, node["body"]) if html_only else [])


def setup(app) -> dict:
    app.add_node(Sample)
    for name in PARTS:
        app.add_directive(name, SampleDirective)
    app.connect("doctree-resolved", fill)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
