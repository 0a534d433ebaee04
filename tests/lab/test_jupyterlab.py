"""A chapter and an assignment in JupyterLab, as a reader uses them. `make lab-test` takes all chapters, in turn."""

import os
import re
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lectool import pads
from lectool.assign import master as masters

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))
ALL = os.environ.get("LECTOOL_LAB") == "all"
PICTURE = "div[class^=live-] img"
STILL = "figure[class^=still-] img"
MEGABYTE = 2**20

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", params=CHAPTERS if ALL else CHAPTERS[:1])
def chapter(request, open_notebook):
    notebook = open_notebook(f"chapters/{request.param}.ipynb")
    notebook.ran = notebook.run_all()
    return notebook


@pytest.fixture(scope="module")
def assignment(open_notebook):
    return open_notebook("assignments/student/a01-factors.ipynb")


def short(images):
    return [image.evaluate("e => e.src.length + e.src.slice(-4000)") for image in images]


# --- a chapter ------------------------------------------------------------------------------------------------------


def test_all_cells_run_and_nothing_is_asked_of_the_net(chapter):
    code = [cell for cell in chapter.ran if cell["type"] == "code"]
    assert [cell for cell in code if cell["errors"]] == []
    assert [cell["id"] for cell in code if cell["count"] is None] == []
    assert chapter.outside == []


def test_what_the_page_folds_is_folded_and_named(chapter):
    hidden = chapter.page.locator(".jp-CodeCell .jp-InputPlaceholder")
    assert hidden.count() >= 5


def test_a_slider_moves_its_picture(chapter):
    sliders = chapter.page.locator(".jp-OutputArea:has(.noUi-handle)")
    for view in sliders.all():
        picture, handle = view.locator(PICTURE), view.locator(".noUi-handle").first
        handle.scroll_into_view_if_needed()
        before, alt = short(picture.all()), picture.get_attribute("alt")
        handle.focus()
        back = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
        handle.press("ArrowLeft" if back else "ArrowRight")
        chapter.wait()
        assert short(picture.all()) != before and picture.get_attribute("alt") != alt
        assert not view.locator(STILL).is_visible(), "the still stands beside the living picture"
    assert sliders.count() or not chapter.page.locator(STILL).count()


def test_a_pad_follows_the_mouse(chapter):
    for pad in chapter.page.locator("figure.latent-pad").all():
        plane = pad.locator("canvas").first
        plane.scroll_into_view_if_needed()
        box, seen = plane.bounding_box(), []
        for share in (0.3, 0.7):
            chapter.page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.4 * box["height"])
            chapter.page.mouse.down()
            seen.append(pad.locator("canvas").last.evaluate("c => c.toDataURL()"))
            chapter.page.mouse.up()
        assert seen[0] != seen[1]


def test_questions_keep_their_keys(chapter):
    n_cells = len(chapter.cells())
    question = chapter.page.locator(".quiz .Quiz").first
    question.scroll_into_view_if_needed()
    answers = question.locator("label.MCButton")
    answers.first.locator("input").focus()
    chapter.page.keyboard.press("Space")
    said = {question.locator(".Feedback").inner_text()}
    for _ in range(answers.count() - 1):
        chapter.page.keyboard.press("ArrowDown")
        chapter.page.wait_for_timeout(100)
        said.add(question.locator(".Feedback").inner_text())
    assert said == {answer.get_attribute("data-feedback") for answer in answers.all()}
    chapter.page.keyboard.press("b")
    assert len(chapter.cells()) == n_cells, "the question's keys act on cells"


def test_a_link_leads_to_another_chapter(chapter):
    link = chapter.page.locator(".jp-MarkdownOutput a[href*='.ipynb']").first
    name = re.search(r"(\d\d[a-z]?-[\w-]+)\.ipynb", link.get_attribute("href") or link.inner_text())
    assert name, "the link names no notebook"
    link.scroll_into_view_if_needed()
    link.click()
    tab = chapter.page.locator(f".lm-TabBar-tabLabel:has-text('{name[1]}')")
    tab.wait_for(timeout=60_000)
    chapter.do("docmanager:open", path=f"chapters/{chapter.path.name}")
    chapter.wait()


def test_an_interrupt_ends_the_cell_and_the_queue(chapter):
    long = "import torch\nfrom lectool import nets, train\nm = nets.mlp([9, 64, 9])\n"
    long += "h = train.fit(m, torch.rand(2000, 9), epochs=100000, loss=lambda x: (m(x) - x).square().mean())"
    first, second = chapter.append(long), chapter.append("print('went on')")
    chapter.select(first)
    chapter.do("notebook:run-cell")
    chapter.select(second)
    chapter.do("notebook:run-cell")
    chapter.output(first).locator("text=/updates/").wait_for(timeout=60_000)
    chapter.do("notebook:interrupt-kernel")
    chapter.wait()
    text = chapter.output(first).inner_text()
    assert re.search(
        r"stopped after epoch \d+ of 100000; the model keeps what it has learned", text
    )
    assert "Traceback" not in text
    assert chapter.cells()[second]["count"] is None, "the next cell ran on"
    assert "went on" in chapter.run(second)
    assert "True" in chapter.run(chapter.append("bool(m(torch.rand(9, 9)).isfinite().all())"))


def test_a_saved_chapter_keeps_its_pictures_without_its_kernel(chapter):
    chapter.do("docmanager:save")
    chapter.page.wait_for_timeout(2000)
    assert chapter.path.stat().st_size < 12 * MEGABYTE
    saved = nbformat.read(chapter.path, as_version=4)
    n_stills = sum(
        "still-" in str(o.get("data", {})) for c in saved.cells for o in c.get("outputs", [])
    )
    chapter.do("notebook:shutdown-kernel")
    chapter.page.wait_for_timeout(2000)
    site = chapter.page.url.partition("/lab/")[0]
    chapter.page.goto(f"{site}/lab/tree/chapters/{chapter.path.name}?reset", timeout=120_000)
    chapter.page.locator(".jp-NotebookPanel:visible .jp-Cell").nth(3).wait_for(timeout=60_000)
    chapter.page.wait_for_timeout(6000)
    stills = chapter.page.locator(STILL)
    assert stills.count() == n_stills
    for still in stills.all():
        assert still.is_visible() and len(still.get_attribute("alt")) > 15
    assert not chapter.page.locator("text=/[Mm]odel not found/ >> visible=true").count()


# --- an assignment --------------------------------------------------------------------------------------------------


def test_an_exercise_answers_back(assignment):
    cells = nbformat.read(assignment.path, as_version=4).cells
    master = masters.read(ROOT / "assignments" / assignment.path.name)
    check = next(i for i, c in enumerate(cells) if c.source.startswith('check("a1.whiten"'))
    for number in (i for i, c in enumerate(cells[: check - 1]) if c.cell_type == "code"):
        assignment.run(number)
    assignment.run(check - 1)
    said = assignment.run(check)
    assert "not filled in yet" in said and "Traceback" not in said
    (solution,) = masters.solutions(master)["a1.whiten"]
    assignment.write(check - 1, solution.replace("torch.sqrt(spectrum)", "spectrum"))
    assignment.run(check - 1)
    said = assignment.run(check)
    assert "divided by the variances" in said and "Traceback" not in said
    assignment.write(check - 1, solution)
    assignment.run(check - 1)
    said = assignment.run(check)
    assert "✓" in said and "✗" not in said


# --- a pad from somebody else -----------------------------------------------------------------------------------------


def test_a_pad_that_is_not_trusted_shows_its_picture_and_says_what_to_do(
    folder, open_notebook, monkeypatch
):
    bundles = []
    monkeypatch.setattr("lectool.pads.page.display", lambda bundle, raw: bundles.append(bundle))
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 64))
    pads.latent_pad(decoder, (8, 8), bounds=[(-1, 1), (-1, 1)], alt="A made-up picture")
    cell = new_code_cell("pad()", outputs=[new_output("display_data", bundles[0])])
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[cell], metadata=kernel), folder / "mailed.ipynb")
    notebook = open_notebook("mailed.ipynb")
    output = notebook.output(0)
    picture = output.locator("img")
    picture.wait_for()
    assert picture.is_visible() and picture.evaluate("i => i.naturalWidth") > 50
    assert "A made-up picture" in picture.get_attribute("alt")
    assert "Trust Notebook" in output.inner_text()
    assert not output.locator("canvas >> visible=true").count(), "a hole where the pad would be"
