"""The pages that point into the rest of the book: methods, corrections, references, and all links out of it."""

import importlib
import pkgutil
import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import book
import nbformat
import pytest
import yaml

import lectool

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "chapters").glob("[0-9][0-9]*-*.ipynb"))
SHARED = {
    "batches",
    "check",
    "claims",
    "data",
    "diagram",
    "em",
    "explore",
    "full",
    "live",
    "metrics",
    "moments",
    "nets",
    "pads",
    "parallel",
    "plot",
    "published",
    "random",
    "record",
    "results",
    "scale",
    "source",
    "train",
}
TOOLS = {"assign", "checks", "quizzes"}
URL = re.compile(r"https?://(?:[^\s<>()\[\]\"'`|\\]|\([^\s<>()\[\]\"'`|\\]*\))+")


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def rows(text):
    """The body rows of all tables of a page, as lists of cells."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {number - 1 for number, line in enumerate(lines) if re.fullmatch(r"[| :-]+", line)}
    kept = [
        line for number, line in enumerate(lines) if number not in heads and number - 1 not in heads
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in kept]


def dead_ends(cell):
    """Links of a table cell into chapters that do not exist, or not there; one link at least is expected."""
    targets = re.findall(r"\]\((chapters/[\w-]+\.ipynb)#([^)]+)\)", cell)
    if not targets:
        yield f"no link to a section of a chapter in {cell!r}"
    for name, anchor in targets:
        if not (ROOT / name).exists() or anchor not in book.anchors(ROOT / name):
            yield f"{name}#{anchor} does not exist"


# --- methods --------------------------------------------------------------------------------------------------------

METHODS = rows(page("methods.md"))


def names(cell):
    return re.findall(r"`(lectool(?:\.\w+)+)`", cell)


def resolve(name):
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


def topics():
    """Packages that a chapter imports: one that stands before its chapter has no section to be listed with."""
    modules = {module.name for module in pkgutil.iter_modules(lectool.__path__)}
    imports = re.compile(r"from lectool(?:\.(\w+))?[\w.]* import ([\w, ]+)")
    text = "\n".join(path.read_text("utf8") for path in (ROOT / "chapters").glob("*.ipynb"))
    found = imports.findall(text)
    taught = {name for name, _ in found} | {n for _, many in found for n in many.split(", ")}
    return sorted(name for name in (modules & taught) - SHARED - TOOLS if not name.startswith("_"))


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row[0])
def test_method_exists_and_is_explained(row):
    _, section, implementation = row
    assert list(dead_ends(section)) == []
    assert names(implementation), f"no name of lectool in {implementation!r}"
    for name in names(implementation):
        assert resolve(name) is not None


@pytest.mark.parametrize("topic", topics())
def test_everything_public_is_listed_among_the_methods(topic):
    listed = {name for row in METHODS for name in names(row[2])}
    public = {
        f"lectool.{topic}.{name}" for name in importlib.import_module(f"lectool.{topic}").__all__
    }
    assert public - listed == set()


def test_each_method_is_listed_once():
    assert [name for name, n in Counter(row[0] for row in METHODS).items() if n > 1] == []


def test_every_chapter_has_methods():
    linked = {name for row in METHODS for name in re.findall(r"chapters/[\w-]+\.ipynb", row[1])}
    assert linked == {f"chapters/{path.name}" for path in CHAPTERS}


# --- corrections ----------------------------------------------------------------------------------------------------

CORRECTIONS = rows(page("corrections.md"))


@pytest.mark.parametrize("row", CORRECTIONS, ids=lambda row: row[0])
def test_correction_is_proved_somewhere(row):
    number, stated, right, proof = row
    assert re.fullmatch(r"\d{1,2}[a-z]?|[NP]\d+[a-z]?", number)
    assert stated and right
    assert list(dead_ends(proof)) == []


def test_correction_numbers_are_unique():
    assert [number for number, n in Counter(row[0] for row in CORRECTIONS).items() if n > 1] == []


def test_every_chapter_with_corrections_is_on_the_page():
    linked = {name for row in CORRECTIONS for name in re.findall(r"chapters/[\w-]+\.ipynb", row[3])}
    assert linked == {f"chapters/{path.name}" for path in CHAPTERS}


# --- links out of the book ------------------------------------------------------------------------------------------


def sources():
    """Text of every page of the book, by name."""
    toc = yaml.safe_load(page("_toc.yml"))
    listed = [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]
    for name in listed:
        path = next((p for p in (ROOT / f"{name}.md", ROOT / f"{name}.ipynb") if p.exists()), None)
        if path and path.suffix == ".md":
            yield path.name, path.read_text(encoding="utf-8")
        elif path:
            cells = nbformat.read(path, as_version=4).cells
            yield (
                path.name,
                "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown"),
            )


def outside_links():
    """(page, address) for each link out of the book, the repository's own addresses left out."""
    repository = yaml.safe_load(page("_config.yml"))["repository"]["url"]
    found = [(name, url.rstrip(".,;:*")) for name, text in sources() for url in URL.findall(text)]
    return [(name, url) for name, url in found if not url.startswith(repository)]


def malformed(url):
    parts = urlsplit(url)
    if parts.scheme != "https":
        yield f"{url}: not https"
    if not re.fullmatch(r"(?:[a-z0-9-]+\.)+[a-z]{2,}", parts.netloc):
        yield f"{url}: no host name"
    if "//" in parts.path or url.count("(") != url.count(")"):
        yield f"{url}: cut or doubled"


def repeated(links):
    return [
        url
        for url, n in Counter(url.split("#")[0].rstrip("/") for _, url in links).items()
        if n > 1
    ]


def test_links_out_are_well_formed():
    assert [complaint for _, url in outside_links() for complaint in malformed(url)] == []


def test_each_address_stands_in_one_place():
    """So that it can be mended in one place."""
    assert repeated(outside_links()) == []


def test_references_are_on_their_page():
    """Chapters name works by author and year; addresses of papers and books stand on references.md."""
    assert {name for name, _ in outside_links()} <= {"references.md"}


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a",
        "https://example/a",
        "https://example.org//a",
        "https://example.org/a(b",
        "https:///a",
    ],
)
def test_a_malformed_link_is_seen(url):
    assert list(malformed(url))


def test_a_repeated_link_is_seen():
    assert repeated([("a", "https://example.org/x"), ("b", "https://example.org/x/")])


def test_a_dead_end_is_seen():
    chapter = f"chapters/{CHAPTERS[0].name}" if CHAPTERS else "chapters/01-none.ipynb"
    assert list(dead_ends("the chapter on PCA"))
    assert list(dead_ends(f"[x]({chapter}#no-such-section)"))
    assert list(dead_ends("[x](chapters/99-none.ipynb#exercises)"))
    if CHAPTERS:
        assert not list(dead_ends(f"[x]({chapter}#exercises)"))
