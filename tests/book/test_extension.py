"""The Sphinx extension on a book of two small chapters, whose outputs are put into the execution cache by hand."""

import base64
import io
import shutil
import subprocess
import sys
from pathlib import Path

import book
import landing
import nbformat
import networkx as nx
import pytest
import yaml
from bs4 import BeautifulSoup
from jupyter_cache import get_cache
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from PIL.PngImagePlugin import PngInfo

ROOT = Path(__file__).parents[2]
CLAIM = {
    "sentence": "Two is less than three",
    "left": 2.0,
    "op": "<",
    "right": 3.0,
    "numbers": "2 < 3",
    "passed": True,
}
PAGES = {
    "index": "# Book\n\n```{hero}\n```\n\n```{chapter-cards}\n```\n\n"
    "```{reading-path}\n01:\n02: 01\n```\n\n```{claims-sample}\n02: Anoth\n```\n\n"
    "```{listing}\nlectool.pca.PCA.fit\n```\n",
    "claims": "# Claims\n\n```{claims-table}\n```\n",
}


def png(width, height, color="red"):
    """A picture that says what it shows and where it can be cut, as `plot.show` makes it."""
    buffer, said = io.BytesIO(), PngInfo()
    said.add_text("Description", 'A "red" field.')
    said.add_text("panels", '{"cuts": [0, 0.4, 1], "top": 0.1, "title": "Both"}')
    Image.new("RGB", (width, height), color).save(buffer, "PNG", pnginfo=said)
    return base64.b64encode(buffer.getvalue()).decode()


def display(**data):
    return new_output(
        "display_data", {name.replace("_", "/", 1): value for name, value in data.items()}
    )


def chapter(number, *, sentence=CLAIM["sentence"], hero=False):
    """A chapter with its outputs."""
    shown = display(image_png=png(1200, 500), text_plain="figure")
    shown.metadata["image/png"] = {"alt": "A red field."}
    claimed = display(text_html=f'<p class="claim">✓ {sentence} 2 &lt; 3</p>', text_plain=sentence)
    record = {**CLAIM, "sentence": sentence, "scale": "quick", "data": "MNIST"}
    claimed.data[book.CLAIM_MIME] = {"claims": [record]}
    cells = [
        new_markdown_cell(
            f"# {number} Chapter & verse\n\nOne sentence. A second one.\n\nAbout a minute on a laptop · MNIST"
        ),
        new_code_cell("draw()", metadata={"tags": ["thumbnail"]}, outputs=[shown]),
        new_markdown_cell("## A section"),
        new_code_cell("claim()", outputs=[claimed]),
    ]
    if hero:
        pad = '<figure class="latent-pad"><canvas></canvas></figure>'
        cells.append(
            new_code_cell("pad()", metadata={"tags": ["hero"]}, outputs=[display(text_html=pad)])
        )
    for count, cell in enumerate([c for c in cells if c.cell_type == "code"], start=1):
        cell.execution_count = count
    kernel = {"name": "python3", "display_name": "Python 3"}
    return new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


class Book:
    def __init__(self, folder):
        self.folder = folder
        (folder / "chapters").mkdir()
        shutil.copytree(ROOT / "_static", folder / "_static")
        shutil.copytree(
            ROOT / "_ext", folder / "_ext", ignore=shutil.ignore_patterns("__pycache__")
        )
        config = (ROOT / "_config.yml").read_text(encoding="utf-8")
        config = config.replace(
            "      - sphinx-mathjax-offline\n", ""
        )  # 24 MB to copy, and no formula here
        (folder / "_config.yml").write_text(config, encoding="utf-8")
        for name, text in PAGES.items():
            (folder / f"{name}.md").write_text(text, encoding="utf-8")
        files = [{"file": name} for name in ("chapters/01-one", "chapters/02-two", "claims")]
        toc = yaml.safe_dump({"format": "jb-book", "root": "index", "chapters": files})
        (folder / "_toc.yml").write_text(toc, encoding="utf-8")

    def put(self, name, notebook):
        """Writes a chapter without its outputs, and the outputs into the cache."""
        executed = self.folder / "executed.ipynb"
        nbformat.write(notebook, executed)
        get_cache(str(self.folder / "_build" / ".jupyter_cache")).cache_notebook_file(
            str(executed), overwrite=True
        )
        executed.unlink()
        bare = nbformat.from_dict(notebook)
        for cell in bare.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        path = self.folder / "chapters" / f"{name}.ipynb"
        text = nbformat.writes(bare)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")

    def build(self):
        script = "from jupyter_book.cli.main import main; main()"
        command = [sys.executable, "-c", script, "build", "-W", "--keep-going", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def page(self, name):
        return BeautifulSoup(
            (self.folder / "_build/html" / f"{name}.html").read_text(encoding="utf-8"),
            "html.parser",
        )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    result = Book(tmp_path_factory.mktemp("book"))
    first, second = chapter(1), chapter(2, sentence="Another")
    second.cells[1].source = "draw(2)"  # the cache knows notebooks by their code
    for name, notebook in {"01-one": first, "02-two": second}.items():
        for cell in notebook.cells:
            cell.id = f"{name}-{notebook.cells.index(cell)}"
        result.put(name, notebook)
    result.notebooks = {"01-one": first, "02-two": second}
    result.build()
    return result


def test_cards(built):
    cards = built.page("index").select(".chapter-card")
    assert [card.h3.get_text(" ", strip=True) for card in cards] == [
        "01 Chapter & verse",
        "02 Chapter & verse",
    ]
    assert cards[0].find_all("p")[0].get_text() == "One sentence. A second one."
    assert cards[0].select_one(".time").get_text() == "About a minute on a laptop · MNIST"
    assert cards[0].h3.a["href"] == "chapters/01-one.html"
    assert cards[0].img["alt"] == "A red field."
    with Image.open(built.folder / "_build/html" / cards[0].img["src"]) as image:
        assert image.format == "WEBP" and image.width == 640


def test_claims(built):
    page = built.page("claims")
    assert page.select_one(".claims-summary").get_text() == (
        "2 claims in 2 chapters, checked in this build; data: MNIST; scale: quick."
    )
    rows = [
        [cell.get_text(strip=True) for cell in row.select("td")] for row in page.select("tbody tr")
    ]
    assert rows == [
        ["Two is less than three", "2 < 3", "A section"],
        ["Another", "2 < 3", "A section"],
    ]
    assert page.select_one("tbody a")["href"] == "chapters/01-one.html#a-section"
    assert built.page("chapters/01-one").find(id="a-section")


def test_the_map_leads_to_the_chapters_in_rows(built):
    drawing = built.page("index").select_one(".reading-path svg")
    assert [a["href"] for a in drawing.select("a")] == [
        "chapters/01-one.html",
        "chapters/02-two.html",
    ]
    first, second = (float(rect["y"]) for rect in drawing.select("rect"))
    (line,) = drawing.select("line")
    assert first < float(line["y1"]) < float(line["y2"]) <= second
    assert drawing["aria-label"] == "Map of the chapters: chapter 2 builds on 1"


def test_the_map_has_no_crossings_that_another_order_avoids():
    needs = nx.DiGraph(
        [(1, 2), (1, 4), (2, 3), (2, 11), (4, 11), (2, 13), (11, 12), (13, 14), (11, 16)]
    )
    needs.add_edge(1, 3)  # follows from the others, and is not drawn
    assert landing.in_rows(needs) == [[1], [2, 4], [3, 13, 11], [14, 12, 16]]


def test_samples_come_from_the_book_itself(built):
    page = built.page("index")
    (shown,) = page.select(".claims tr")
    assert shown.get_text(" ", strip=True) == "✓ Another 2 < 3"
    assert "def fit(self, x):" in page.select_one("div.highlight").get_text()


def test_what_a_picture_says_of_itself_reaches_its_element(built):
    picture = built.page("chapters/01-one").select_one(".cell_output img")
    assert picture["alt"] == 'A "red" field.'
    assert (picture["data-cuts"], picture["data-top"]) == ("0 0.4 1", "0.1")
    assert picture["data-title"] == "Both"


def test_a_picture_stands_in_for_a_moving_one(built):
    still = built.page("index").select_one(".hero.still img")
    assert still["alt"] == "A red field."


def test_an_unchanged_book_is_not_read_again(built):
    assert "0 added, 0 changed, 0 removed" in built.build()


def test_new_outputs_of_an_unchanged_notebook_reach_the_pages(built):
    anew = built.notebooks["01-one"]
    before = (built.folder / "chapters/01-one.ipynb").stat().st_mtime_ns
    output = anew.cells[3].outputs[0]
    output.data[book.CLAIM_MIME]["claims"][0]["sentence"] = output.data["text/html"] = (
        "Measured again"
    )
    anew.cells[1].outputs[0].data["image/png"] = png(300, 400, "blue")
    built.put("01-one", anew)
    assert (built.folder / "chapters/01-one.ipynb").stat().st_mtime_ns == before
    built.build()
    assert "Measured again" in built.page("chapters/01-one").get_text()
    assert "Measured again" in built.page("claims").get_text()
    pictures = sorted((built.folder / "_build/html/_images").glob("card-01-*"))
    assert [f"_images/{p.name}" for p in pictures] == [
        built.page("index").select(".chapter-card img")[0]["src"]
    ]


def test_folded_code_of_neighbors_is_one_toggle_below_their_outputs(built):
    folded = chapter(2, sentence="Another")
    folded.cells[1].metadata["tags"] = ["thumbnail", "hide-input"]
    folded.cells.insert(
        2, new_code_cell("# @title Checks\nmore()", metadata={"tags": ["hide-input"]})
    )
    folded.cells[1].source = "# @title Figure\ndraw(2)"
    folded.cells[1].execution_count, folded.cells[2].execution_count = 1, 2
    folded.cells[4].execution_count = 3
    for number, cell in enumerate(folded.cells):
        cell.id = f"02-two-{number}"
    built.put("02-two", folded)
    built.build()
    page = built.page("chapters/02-two")
    (toggle,) = page.select("details.code")
    assert toggle.summary.get_text() == "code: figure, checks"
    assert "draw(2)" in toggle.get_text() and "more()" in toggle.get_text()
    assert "@title" not in page.get_text()
    assert page.select_one(".cell_output img").find_next("details", class_="code") is toggle
    assert "claim()" not in toggle.get_text(), "what is not folded stays where it is"


def test_the_moving_picture_of_a_chapter(built):
    moving = chapter(2, sentence="Another", hero=True)
    for number, cell in enumerate(moving.cells):
        cell.id = f"02-two-{number}"
    built.put("02-two", moving)
    built.build()
    assert built.page("index").select_one(".hero figure.latent-pad canvas")


# --- its small parts ------------------------------------------------------------------------------------------------


def test_opening_is_plain_text():
    source = "# 3 A *title*\n\nText with `code`, $k$ and a\n[link](x.md).\n\nSo.\n\nAbout a minute on a laptop · moons"
    assert book.opening(source) == (
        "A title",
        "Text with code, k and a link.",
        "About a minute on a laptop · moons",
    )


def test_opening_without_anything():
    assert book.opening("") == ("", "", "")


def test_shorten_ends_with_a_sentence_or_says_that_it_does_not():
    assert book.shorten("One. Two. Three.", 10) == "One. Two."
    assert book.shorten("One. Two.", 100) == "One. Two."
    assert book.shorten("A long, long sentence that does not end", 13) == "A long, long …"


def test_a_claim_without_prepared_numbers_shows_its_own():
    assert book.Claim(0, "x", 0.123456, "<", 2000.0).measured() == "0.1235 < 2000"


def test_claims_tell_how_they_turned_out_at_full_scale(monkeypatch):
    kept = {"device": "a GPU", "date": "2026-01-01", "progress": "9 of 9 cells"}
    kept |= {"table": {"rows": [["Two is small", "2 < 3", True], ["Four is", "4 < 3", False]]}}
    records = {"chapter-02": kept}
    monkeypatch.setattr(book.results, "load", records.get)
    (said,) = book.at_full_scale("02")
    assert said.astext() == (
        "At full scale 1 of 2 hold (a GPU, 2026-01-01, 9 of 9 cells). Not so there: Four is."
    )
    assert book.at_full_scale("01") == []
