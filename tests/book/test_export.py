"""An executed chapter through nbconvert, as a page and as slides: pictures, descriptions and sliders stay."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from environment import ROOT
from jupyter_cache import get_cache
from nbconvert import HTMLExporter, SlidesExporter
from traitlets.config import Config

CHAPTER = ROOT / "chapters" / "01-pca.ipynb"
HIDDEN = ["hide-input", "hide-cell", "remove-input"]


@pytest.fixture(scope="module")
def executed():
    notebook = nbformat.read(CHAPTER, as_version=4)
    folder = ROOT / "_build" / ".jupyter_cache"
    if not folder.is_dir():
        pytest.skip("no chapter has been executed: run `make book` first")
    _, merged = get_cache(str(folder)).merge_match_into_notebook(notebook)
    return merged


@pytest.fixture(scope="module")
def html(executed):
    # The classic template: the other one has no place for a PNG's description, which a live notebook gives in HTML.
    body, _ = HTMLExporter(template_name="classic").from_notebook_node(executed)
    return BeautifulSoup(body, "html.parser")


@pytest.fixture(scope="module")
def slides(executed):
    config = Config({"TagRemovePreprocessor": {"enabled": True, "remove_input_tags": HIDDEN}})
    body, _ = SlidesExporter(config=config).from_notebook_node(executed)
    return BeautifulSoup(body, "html.parser")


def test_every_picture_is_described(html):
    pictures = html.select("img")
    assert len(pictures) >= 5
    for picture in pictures:
        assert len(picture.get("alt", "")) > 10 and "No description" not in picture["alt"]


def test_sliders_and_claims_stay(html, executed):
    asked = sum("explore(" in cell.source for cell in executed.cells if cell.cell_type == "code")
    assert len(html.select("figure.explore input[type=range]")) >= asked > 0
    assert html.select("table.claims-of-cell td.claim-numbers")


def test_slides_begin_at_sections(slides, executed):
    sections = [
        c for c in executed.cells if c.cell_type == "markdown" and c.source.startswith("## ")
    ]
    shown = [c for c in sections if "## Exercises" not in c.source]
    tops = slides.select(".slides > section")
    assert len(tops) == len(shown) + 1  # and the opening
    titles = [top.select_one("h1, h2").get_text().removesuffix("¶") for top in tops]
    assert titles[1:] == [c.source.splitlines()[0].removeprefix("## ") for c in shown]
    assert "Further reading" not in titles


def test_slides_show_no_plumbing(slides):
    assert "@title" not in slides.get_text()
