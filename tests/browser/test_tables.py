"""A table that its reader sorts, in Chromium: by mouse and by keyboard, in a narrow window, in the dark."""

import math

import pytest

from lectool import compare, sortable
from lectool.metrics import Estimate

pytestmark = pytest.mark.browser

ROWS = [
    ["PPCA", Estimate(2.77, 2.7, 2.84, 0.0), 10, "exact"],
    ["GAN", None, 2, None],
    ["flow", Estimate(-1.4, -1.5, -1.3, 0.0), math.inf, "exact"],
    ["VAE", math.nan, 40, "bound"],
]


@pytest.fixture
def table(browser, monkeypatch):
    """Shows the table in an empty page of the size of a phone; returns the page."""
    shown, errors, contexts = [], [], []
    monkeypatch.setattr(sortable, "display", lambda bundle, raw: shown.append(bundle["text/html"]))
    compare.table(["model", "bits a pixel", "seconds", "kind"], ROWS, "Four models.")

    def show(**options):
        contexts.append(browser.new_context(viewport={"width": 390, "height": 700}, **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: errors.append(request.url))
        page.set_content(f"<body style='margin:8px'>{shown[0]}{shown[0]}</body>")
        return page

    yield show
    for context in contexts:
        context.close()
    assert errors == []


def order(page, which=0):
    names = page.locator("figure.sortable").nth(which).locator("tbody th")
    return names.all_text_contents()


def states(page):
    heads = page.locator("figure.sortable").first.locator("thead th")
    return [heads.nth(i).get_attribute("aria-sort") for i in range(heads.count())]


def test_a_click_sorts_numbers_as_numbers_and_keeps_empty_cells_below(table):
    page = table()
    before = order(page)
    assert before == ["PPCA", "GAN", "flow", "VAE"]
    page.get_by_role("button", name="seconds").first.click()
    assert order(page) == ["GAN", "PPCA", "VAE", "flow"]
    assert states(page) == [None, None, "ascending", None]
    page.get_by_role("button", name="seconds").first.click()
    assert order(page) == ["flow", "VAE", "PPCA", "GAN"]
    page.get_by_role("button", name="bits a pixel").first.click()
    assert order(page) == ["flow", "PPCA", "VAE", "GAN"]  # the empty ones as they were
    page.get_by_role("button", name="bits a pixel").first.click()
    assert order(page) == ["PPCA", "flow", "VAE", "GAN"]
    assert states(page) == [None, "descending", None, None]
    assert order(page, 1) == before, "the other table of the page stays as it is"


def test_the_keyboard_does_the_same(table):
    page = table()
    page.keyboard.press("Tab")  # the region that scrolls
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert order(page) == ["flow", "GAN", "PPCA", "VAE"]
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert order(page) == ["VAE", "flow", "PPCA", "GAN"]
    assert states(page)[-1] == "ascending"


def test_names_stay_in_sight_while_the_rest_scrolls(table):
    page = table()
    region = page.locator(".sortable > div").first
    region.evaluate("e => { e.firstElementChild.style.minWidth = '900px'; e.scrollLeft = 300; }")
    left = region.bounding_box()["x"]
    for name in region.locator("th:first-child").all():
        assert abs(name.bounding_box()["x"] - left) < 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_keeps_to_a_narrow_screen_and_to_the_page_s_colors(table, scheme):
    page = table(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    heights = page.locator("thead button").evaluate_all(
        "all => all.map(b => b.getBoundingClientRect().height)"
    )
    assert min(heights) >= 24
    page.evaluate("document.body.style.color = 'rgb(1, 2, 3)'")
    colors = page.locator(".sortable td, .sortable th").evaluate_all(
        "all => [...new Set(all.map(c => getComputedStyle(c).color))]"
    )
    assert colors == ["rgb(1, 2, 3)"]
