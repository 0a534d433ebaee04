"""How a page reads: quiet claims, folded code, pictures that can be seen on a phone and at full size."""

import pytest

pytestmark = pytest.mark.browser

SCREEN = 900
TOPS = (
    "boxes => boxes.filter(b => b.offsetParent).map(b => b.getBoundingClientRect().top + scrollY)"
)
TOGGLES = """() => [...document.querySelectorAll("main details")].map(details => {
    let n = 1, next = details;
    while ((next = next.nextElementSibling) && next.tagName === "DETAILS") n += 1;
    return n;
})"""
# How wide a picture's pixels are on the page: type is drawn at about 14 of them.
SCALES = """() => [...document.querySelectorAll(".picture")].map(frame => {
    const shown = [...frame.querySelectorAll("img")].filter(i => i.getBoundingClientRect().width > 2);
    return Math.min(...shown.map(i => i.getBoundingClientRect().width / i.naturalWidth));
})"""


def test_at_most_two_open_blocks_of_claims_a_screen(chapter):
    page = chapter.page
    tops = sorted(page.locator("div.claims").evaluate_all(TOPS))
    crowded = [top for top, third in zip(tops, tops[2:]) if third - top < SCREEN]
    assert crowded == []


def test_no_run_of_more_than_two_toggles(chapter):
    assert max(chapter.page.evaluate(TOGGLES)) <= 2


def test_a_picture_stands_on_the_first_two_screens(chapter):
    page = chapter.page
    tops = page.locator("main .picture, main figure").evaluate_all(TOPS)
    first_section = page.locator("main section section h2").first.evaluate_all(TOPS)
    assert min(tops) < min(2 * SCREEN, *first_section)


def test_solutions_unfold(chapter):
    solution = chapter.page.locator("details:has(> summary:text('Solution'))").first
    assert not solution.locator("p, pre").first.is_visible()
    solution.locator("summary").click()
    assert solution.locator("p, pre").first.is_visible()


def test_folded_claims_unfold_and_can_be_read(chapter):
    claims = chapter.page.locator("details.claims").first
    summary, table = claims.locator("summary"), claims.locator("table")
    brightness = """element => {
        const [r, g, b] = getComputedStyle(element).color.match(/[0-9.]+/g).map(Number);
        return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
    }"""
    for theme, legible in (("light", lambda v: v < 0.55), ("dark", lambda v: v > 0.35)):
        chapter.page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        assert legible(summary.evaluate(brightness)), theme
    assert not table.is_visible()
    summary.click()
    assert table.is_visible() and "✓" in table.text_content()


def test_a_picture_opens_at_full_size_by_mouse_and_keyboard(open_page, example_page):
    page = open_page(example_page).page
    frame, dialog = page.locator(".picture").first, page.locator("dialog.full-size")
    frame.scroll_into_view_if_needed()
    frame.locator("img").first.click()
    assert dialog.is_visible()
    large = dialog.locator("img")
    assert large.evaluate("i => i.getBoundingClientRect().width === i.naturalWidth")
    assert large.get_attribute("alt") == frame.locator("img").first.get_attribute("alt")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    frame.locator("button").focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    page.keyboard.press("Enter")  # the button "close" has the focus
    assert not dialog.is_visible()


def test_panels_stand_one_below_the_other_on_a_phone(chapter_on_a_phone):
    opened, page = chapter_on_a_phone, chapter_on_a_phone.page
    for frame in page.locator(".picture:has(> .panels)").all():
        frame.scroll_into_view_if_needed()
        parts = [part.bounding_box() for part in frame.locator(".panels > span").all()]
        assert len(parts) >= 2
        for above, below in zip(parts, parts[1:]):
            assert below["y"] >= above["y"] + above["height"] - 1
            assert above["width"] > 250 and above["height"] > 40
    assert page.evaluate("document.documentElement.scrollWidth") <= 391
    assert opened.errors == [] and opened.outside == []


def test_panels_follow_their_slider_on_a_phone(open_page, example_page, phone):
    page = open_page(example_page, **phone).page
    for figure in page.locator("figure.explore:has(.panels)").all():
        slider, copy = figure.locator("input").first, figure.locator(".panels img").first
        slider.scroll_into_view_if_needed()
        slider.press("Home")
        page.wait_for_timeout(100)
        before = copy.evaluate("i => i.src")
        slider.press("End")
        page.wait_for_timeout(100)
        assert copy.evaluate("i => i.src") != before


def test_most_type_in_pictures_is_legible_on_a_phone(chapter_on_a_phone):
    scales = chapter_on_a_phone.page.evaluate(SCALES)
    small = [round(14 * scale, 1) for scale in scales if 14 * scale < 6.5]
    assert len(small) <= len(scales) / 3, small
