"""The book in print: pages with pictures and formulas, contents, numbers, and links that lead within the file."""

import io

import pdf
import pytest

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def printed(browser, site, tmp_path_factory):
    pages = ["index", "chapters/01-pca", "notation"]
    patch = pytest.MonkeyPatch()
    patch.setattr(pdf, "SITE", site)
    writer = pdf.book(browser, pages, "A title", tmp_path_factory.mktemp("print"))
    patch.undo()
    stream = io.BytesIO()
    writer.write(stream)
    return pdf.PdfReader(stream)


def links(reader):
    for page in reader.pages:
        for reference in page.get("/Annots") or ():
            yield reference.get_object()


def test_bookmarks_and_contents_name_chapters_and_sections(printed):
    marks = {title: sheet for title, sheet, _ in pdf.entries(printed.outline, printed)}
    assert {"1 PCA and linear autoencoders", "Exercises", "Notation"} <= set(marks)
    chapter = printed.pages[marks["1 PCA and linear autoencoders"]].extract_text()
    assert "PCA and linear autoencoders" in chapter.replace("\n", " ")
    first = printed.pages[0].extract_text()
    line = next(line for line in first.splitlines() if line.startswith("Exercises"))
    assert int(line.split()[-1]) == marks["Exercises"] + 1


def test_every_sheet_bears_its_number(printed):
    for number, page in enumerate(printed.pages, 1):
        assert page.extract_text().strip().splitlines()[-1] == str(number)


def test_links_lead_within_the_file_or_to_the_net(printed):
    found = list(links(printed))
    assert any("/Dest" in link for link in found)
    uris = [str(link["/A"]["/URI"]) for link in found if "/URI" in link.get("/A", {})]
    assert uris and all(uri.startswith("http") for uri in uris)


def test_pictures_are_there_and_what_needs_a_screen_is_not(printed):
    marks = {title: sheet for title, sheet, _ in pdf.entries(printed.outline, printed)}
    sheets = printed.pages[marks["1 PCA and linear autoencoders"] : marks["Notation"]]
    assert sum(len(sheet.images) for sheet in sheets) >= 8
    text = " ".join(sheet.extract_text() for sheet in sheets)
    assert "code: figure" not in text and "Contents" not in text
    assert "Solution" in text, "solutions are unfolded on paper"


def test_a_title_that_stands_twice_is_taken_once():
    assert pdf.once("Side by sideSide by side") == "Side by side"
    assert pdf.once("Beriberi") == "Beriberi" and pdf.once("Notation") == "Notation"
