"""Sphinx extension of the book: chapter cards, the moving picture of the landing page, the claims page.

The three directives leave a placeholder, which is filled when the pages are written: by then every notebook has
been executed. What they show comes from the executed notebooks (the execution cache), never from a copy.

    {chapter-cards}     one card a chapter: number, title, first sentences, time line, thumbnail
    {hero}              the live output of the cell tagged `hero`; where there is none, a chapter's thumbnail
    {claims-table}      every claim that the chapters check, with the two measured numbers

The pages that hold a placeholder are written anew by every build, and a notebook whose executed outputs have
changed is read again although its file is the same.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import io
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from markdown_it import MarkdownIt
from PIL import Image, ImageChops
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from lectool import results

CHAPTER = re.compile(r"chapters/(\d\d[a-z]?)-[\w-]+")
# No seconds: they differ threefold between machines.
TIMES = "A few seconds|About a minute|A minute or two|Two or three minutes"
TIME_LINE = re.compile(rf"(?:{TIMES}) on a laptop · \S.*")
CLAIM_MIME = "application/vnd.lectool.claim+json"
DATA_URL = re.compile(r'src="data:image/(?:png|webp|jpeg);base64,([^"]+)"')
logger = logging.getLogger(__name__)


# --- chapters -------------------------------------------------------------------------------------------------------


@dataclass
class Claim:
    cell: int
    sentence: str
    left: float
    op: str
    right: float
    numbers: str = ""
    data: str = ""
    scale: str = ""

    def measured(self) -> str:
        return self.numbers or f"{self.left:.4g} {self.op} {self.right:.4g}"


@dataclass
class Chapter:
    docname: str
    number: str  # two digits, and a letter where a chapter has several notebooks
    title: str
    lead: str
    time: str
    cells: list = field(repr=False)

    def tagged(self, tag: str) -> list:
        return [cell for cell in self.cells if tag in cell.metadata.get("tags", [])]

    def claims(self) -> list[Claim]:
        found = []
        for index, cell in enumerate(self.cells):
            for output in cell.get("outputs", []):
                for record in output.get("data", {}).get(CLAIM_MIME, {}).get("claims", []):
                    known = {f.name for f in fields(Claim)} & set(record)
                    found.append(Claim(cell=index, **{name: record[name] for name in known}))
        return found

    def picture(self) -> tuple[bytes, str] | None:
        """The picture of the card and its alt text: from the cell tagged `thumbnail`, else the first there is."""
        for cell in self.tagged("thumbnail") + list(self.cells):
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                page = "".join(data.get("text/html", ""))
                alt = re.search(r'<img[^>]*\salt="([^"]+)"', page)
                alt = html.unescape(alt[1]) if alt else _described(output)
                if png := data.get("image/png"):
                    return base64.b64decode(png), alt
                if frame := DATA_URL.search(page):
                    return base64.b64decode(frame[1]), alt
        return None


def _described(output) -> str:
    return output.get("metadata", {}).get("image/png", {}).get("alt", "")


@functools.cache
def anchors(path: Path) -> frozenset[str]:
    """What one can link to in a chapter: its headings of the first three levels, as Jupyter Book names them."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#{1,3} +(.+?) *$", text, flags=re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


def opening(source: str) -> tuple[str, str, str]:
    """Title, first paragraph and time line of a chapter's first Markdown cells, as plain text."""
    title, paragraphs = "", []
    tokens = MarkdownIt().parse(source)
    for before, token in zip(tokens, tokens[1:], strict=False):
        if token.type == "inline":
            text = "".join(
                " " if t.type == "softbreak" else t.content
                for t in token.children
                if t.type != "image"
            )
            text = re.sub(r"\$([^$]+)\$", r"\1", text)
            if before.type == "heading_open" and before.tag == "h1":
                title = title or re.sub(r"^\d+[a-z]?\.? +", "", text)
            elif before.type == "paragraph_open":
                paragraphs.append(text)
    time = next((m[0] for p in paragraphs if (m := TIME_LINE.search(p))), "")
    lead = next((p for p in paragraphs if not TIME_LINE.search(p)), "")
    return title, lead, time


def shorten(text: str, limit: int = 220) -> str:
    """Whole sentences up to `limit` characters, at least one; a longer first sentence is cut at a word."""
    short = ""
    for sentence in re.split(r"(?<=[.!?])\s+", text.strip()):
        if short and len(short) + len(sentence) > limit:
            break
        short = f"{short} {sentence}".strip()
    return short if len(short) <= limit else short[:limit].rsplit(" ", 1)[0].rstrip(",;:–") + " …"


def record_of(app, notebook):
    """The cache and its record of this notebook, or None where it has not been executed."""
    if app.env.mystnb_config.execution_mode != "cache":
        return None, None
    cache = get_cache(app.env.mystnb_config.execution_cache_path)
    try:
        return cache, cache.match_cache_notebook(notebook)
    except KeyError:
        return cache, None


def stamp(app, docname: str) -> str:
    """A hash of the executed outputs of a notebook; empty where it has not been executed."""
    notebook = nbformat.read(app.env.doc2path(docname), as_version=4)
    cache, record = record_of(app, notebook)
    path = record and Path(cache.path, "executed", record.hashkey, "base.ipynb")
    return hashlib.sha256(path.read_bytes()).hexdigest() if path and path.exists() else ""


def load_chapter(app, docname: str) -> Chapter:
    notebook = nbformat.read(app.env.doc2path(docname), as_version=4)
    cache, record = record_of(app, notebook)
    if record is not None:
        _, notebook = cache.merge_match_into_notebook(notebook)
    text = "\n\n".join(cell.source for cell in notebook.cells[:4] if cell.cell_type == "markdown")
    return Chapter(docname, CHAPTER.fullmatch(docname)[1], *opening(text), cells=notebook.cells)


def chapters(app) -> list[Chapter]:
    """All chapters of the book in reading order, read once a build."""
    if not hasattr(app, "_book_chapters"):
        names = sorted(name for name in app.env.found_docs if CHAPTER.fullmatch(name))
        app._book_chapters = [load_chapter(app, name) for name in names]
    return app._book_chapters


# --- what the placeholders become -----------------------------------------------------------------------------------


class Placeholder(nodes.General, nodes.Element):
    """Stands for one of the three parts until the page is written."""


def raw(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


def thumbnail(app, chapter: Chapter, docname: str) -> str:
    """An `<img>` of the chapter's picture, which is written small into the site's `_images`."""
    if (picture := chapter.picture()) is None:
        return f'<span class="no-picture" aria-hidden="true">{chapter.number}</span>'
    data, alt = picture
    name = f"card-{chapter.number}-{hashlib.sha256(data).hexdigest()[:8]}.webp"
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image).convert("RGB")
    image = image.crop(ImageChops.difference(image, white.convert("RGB")).getbbox())
    image.thumbnail((640, 400))
    folder = Path(app.outdir, "_images")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"card-{chapter.number}-*.webp"):
        if old.name != name:
            old.unlink()
    image.save(folder / name, quality=82, method=6)
    source = "../" * docname.count("/") + f"_images/{name}"
    alt = html.escape(alt or f"A figure of the chapter {chapter.title}")
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img src="{source}" {size} alt="{alt}" loading="lazy">'


def cards(app, docname: str) -> list[nodes.Node]:
    parts = ['<div class="chapter-cards">']
    for chapter in chapters(app):
        link = app.builder.get_relative_uri(docname, chapter.docname)
        parts.append(
            f'<article class="chapter-card"><div class="picture">{thumbnail(app, chapter, docname)}</div>'
            f'<h3><span class="number">{chapter.number}</span> '
            f'<a href="{link}">{html.escape(chapter.title)}</a></h3>'
            f'<p>{html.escape(shorten(chapter.lead))}</p><p class="time">{html.escape(chapter.time)}</p></article>'
        )
    return [raw("\n".join([*parts, "</div>"]))]


def hero(app, docname: str) -> list[nodes.Node]:
    for chapter in chapters(app):
        for cell in chapter.tagged("hero"):
            for output in cell.get("outputs", []):
                if page := "".join(output.get("data", {}).get("text/html", "")):
                    return [raw(f'<div class="hero">{page}</div>')]
    for chapter in reversed(chapters(app)):
        if chapter.picture():
            return [raw(f'<div class="hero still">{thumbnail(app, chapter, docname)}</div>')]
    return []


def sections(app, docname: str) -> dict[int, tuple[str, str]]:
    """For each code cell of a page: id and title of the section that it stands in."""
    found = {}
    for cell in app.env.get_doctree(docname).findall(nodes.container):
        if cell.get("nb_element") == "cell_code":
            section = cell.parent
            while section is not None and not isinstance(section, nodes.section):
                section = section.parent
            if section is not None and section["ids"]:
                found[cell["cell_index"]] = section["ids"][0], section[0].astext()
    return found


def paragraph(*children) -> nodes.paragraph:
    return nodes.paragraph("", "", *[nodes.Text(c) if isinstance(c, str) else c for c in children])


def link(text: str, uri: str) -> nodes.reference:
    return nodes.reference("", text, refuri=uri, internal=True)


def claims(app, docname: str) -> list[nodes.Node]:
    """A summary, then a table for each chapter."""
    listed = [(chapter, found) for chapter in chapters(app) if (found := chapter.claims())]
    everything = [claim for _, found in listed for claim in found]
    if not everything:
        return [
            paragraph("No chapter has been executed in this build, so there is nothing to list.")
        ]
    data, scale = (
        ", ".join(sorted({getattr(c, k) for c in everything} - {""})) for k in ("data", "scale")
    )
    conditions = (f"; data: {data}" if data else "") + (f"; scale: {scale}" if scale else "")
    count = f"{len(everything)} claims in {len(listed)} chapter{'s' * (len(listed) > 1)}"
    result = [
        nodes.paragraph(
            "", f"{count}, checked in this build{conditions}.", classes=["claims-summary"]
        )
    ]
    for chapter, found in listed:
        uri, places = (
            app.builder.get_relative_uri(docname, chapter.docname),
            sections(app, chapter.docname),
        )
        heading = f"{chapter.number} {chapter.title}"
        section = nodes.section(ids=[f"chapter-{chapter.number}"], classes=["claims-of-chapter"])
        section += [nodes.title("", heading), *at_full_scale(chapter.number)]
        section += [table(found, uri, places)]
        result.append(section)
    return result


def at_full_scale(number: str) -> list[nodes.paragraph]:
    """How the chapter's claims turned out in a long run (``python -m lectool.full``), where there was one."""
    kept = results.load(f"chapter-{number}")
    if kept is None:
        return []
    rows = kept["table"]["rows"]
    false = [sentence for sentence, _, holds in rows if not holds]
    words = f"At full scale {len(rows) - len(false)} of {len(rows)} hold"
    words += f" ({kept['device']}, {kept['date']}, {kept['progress']})."
    return [paragraph(words + (f" Not so there: {'; '.join(false)}." if false else ""))]


def table(found: list[Claim], uri: str, places: dict[int, tuple[str, str]]) -> nodes.table:
    group = nodes.tgroup("", *[nodes.colspec(colwidth=w) for w in (50, 25, 25)], cols=3)
    head = nodes.row("", *[nodes.entry("", paragraph(t)) for t in ("Claim", "Measured", "Section")])
    body = nodes.tbody()
    for claim in found:
        anchor, title = places.get(claim.cell, ("", "the chapter"))
        where = link(title, f"{uri}#{anchor}" if anchor else uri)
        cells = [claim.sentence, claim.measured(), where]
        body += nodes.row("", *[nodes.entry("", paragraph(c)) for c in cells])
    group += [nodes.thead("", head), body]
    return nodes.table("", group, classes=["claims-table"])


PARTS = {"chapter-cards": cards, "hero": hero, "claims-table": claims}


# --- the hooks ------------------------------------------------------------------------------------------------------


class PartDirective(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        pages_of(self.env).add(self.env.docname)
        return [Placeholder(part=self.name)]


def pages_of(env) -> set[str]:
    """The pages that hold a placeholder, kept with the environment between builds."""
    if not hasattr(env, "book_pages"):
        env.book_pages, env.book_stamps = set(), {}
    return env.book_pages


def executed_anew(app, env, added, changed, removed) -> list[str]:
    """Notebooks whose outputs in the cache are not those that the page was made of, or that have none there."""
    pages_of(env)
    known = {
        name: old
        for name, old in env.book_stamps.items()
        if name in env.found_docs and name not in removed
    }
    return [name for name, old in known.items() if (new := stamp(app, name)) != old or not new]


def remember(app, env) -> list[str]:
    """After reading: note the outputs used, and have the pages with placeholders written."""
    notebooks = [name for name in env.found_docs if CHAPTER.fullmatch(name)]
    pages = pages_of(env) & env.found_docs
    env.book_stamps = {name: stamp(app, name) for name in notebooks}
    return sorted(pages)


def fill(app, doctree, docname: str) -> None:
    for node in list(doctree.findall(Placeholder)):
        made = PARTS[node["part"]](app, docname) if app.builder.format == "html" else []
        node.replace_self(made)


def setup(app) -> dict:
    app.add_node(Placeholder)
    for name in PARTS:
        app.add_directive(name, PartDirective)
    app.connect("env-get-outdated", executed_anew)
    app.connect("env-updated", remember)
    app.connect("doctree-resolved", fill)
    return {
        "version": "1",
        "env_version": 1,
        "parallel_read_safe": False,
        "parallel_write_safe": True,
    }
