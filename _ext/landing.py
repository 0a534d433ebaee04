r"""Sphinx extension of the landing page: what follows from what, and samples of the book, from the book itself.

{reading-path}      a map of the chapters; each line of its body is ``NN: MM MM``, the chapters that NN builds on
{claims-sample}     some claims, as the chapters show them; each line of its body is ``NN: words``, the chapter and the
                    words that the claim begins with
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

from lectool import claims
from lectool.source import source_text

# Three boxes side by side are as wide as a phone: there the letters have their own size, elsewhere they are larger.
WIDTH, GAP = 112, (11, 34)  # of a box, in pixels, and between two
LETTERS, LINE, PADDING = (
    15,
    14,
    10,
)  # at most so many letters in a line of a box; height of a line, and around them


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
        needs.add_node(number)
        needs.add_edges_from((b, number) for b in before.split())
    standing = {chapter.number: chapter for chapter in book.chapters(app)}
    if wrong := set(needs) ^ set(standing):
        raise ExtensionError(f"reading-path and the chapters differ in {sorted(wrong)}")
    rows = in_rows(needs)
    words = {n: textwrap.wrap(f"{n} {standing[n].title}", LETTERS) for n in needs}
    height = LINE * max(map(len, words.values())) + 2 * PADDING
    step_x, step_y = WIDTH + GAP[0], height + GAP[1]
    whole = max(map(len, rows)) * step_x - GAP[0], len(rows) * step_y - GAP[1]
    place = {
        number: (whole[0] / 2 + (i - (len(row) - 1) / 2) * step_x, height / 2 + j * step_y)
        for j, row in enumerate(rows)
        for i, number in enumerate(row)
    }
    lines = "".join(
        f'<line x1="{place[a][0]:g}" y1="{place[a][1] + height / 2:g}" '
        f'x2="{place[b][0]:g}" y2="{place[b][1] - height / 2:g}"/>'
        for a, b in nx.transitive_reduction(needs).edges
    )
    boxes = "".join(
        box(words[n], *place[n], height, app.builder.get_relative_uri(docname, standing[n].docname))
        for n in sorted(place)
    )
    said = "; ".join(
        f"chapter {n.lstrip('0')} builds on "
        f"{' and '.join(b.lstrip('0') for b in sorted(needs.predecessors(n)))}"
        for n in sorted(needs)
        if needs.in_degree(n)
    )
    svg = (
        f'<svg viewBox="-1 -1 {whole[0] + 2:g} {whole[1] + 2:g}" style="max-width:{1.4 * whole[0]:.0f}px" '
        f'role="group" aria-label="Map of the chapters: {said}">{lines}{boxes}</svg>'
    )
    return [book.raw(f'<div class="reading-path">{svg}</div>')]


def in_rows(needs: nx.DiGraph) -> list[list[str]]:
    """Chapters below all that they build on, ordered by where those stand, so that few lines cross."""
    edges, at, rows = nx.transitive_reduction(needs), {}, []
    for row in nx.topological_generations(needs):
        above = {number: [at[before] for before in edges.predecessors(number)] for number in row}
        middle = {number: sum(x) / max(len(x), 1) for number, x in above.items()}
        rows.append(sorted(row, key=lambda number, middle=middle: (middle[number], number)))
        at |= {number: i - (len(row) - 1) / 2 for i, number in enumerate(rows[-1])}
    return rows


def box(words: list[str], x: float, y: float, height: float, link: str) -> str:
    first = y + 4 - LINE / 2 * (len(words) - 1)
    text = "".join(
        f'<text x="{x:g}" y="{first + LINE * i:g}">{html.escape(line)}</text>'
        for i, line in enumerate(words)
    )
    corner = f'x="{x - WIDTH / 2:g}" y="{y - height / 2:g}"'
    return f'<a href="{link}"><rect {corner} width="{WIDTH}" height="{height}" rx="6"/>{text}</a>'


def claims_sample(app, docname: str, body: str) -> list[nodes.Node]:
    """Claims of chapters that have been executed, found by their beginnings, unfolded."""
    made = {chapter.number: records(chapter) for chapter in book.chapters(app)}
    sample = []
    for line in filter(None, map(str.strip, body.splitlines())):
        number, _, words = line.partition(":")
        all_of_it = made.get(number, [])
        found = [r for r in all_of_it if r["sentence"].startswith(words.strip())]
        if all_of_it and len(found) != 1:
            raise ExtensionError(f"claims-sample: {len(found)} claims begin as {line!r} does")
        sample += found
    block = claims.block(sample).replace("<details ", "<details open ", 1)
    return [book.raw(block)] if sample else []


def records(chapter: book.Chapter) -> list[dict]:
    outputs = [output for cell in chapter.cells for output in cell.get("outputs", [])]
    found = [output.get("data", {}).get(book.CLAIM_MIME, {}) for output in outputs]
    return [record for claimed in found for record in claimed.get("claims", [])]


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
