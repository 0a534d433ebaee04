"""Every page by axe-core's rules, in light and dark, with everything unfolded: nothing that keeps a reader out."""

from importlib.resources import files

import pytest

pytestmark = pytest.mark.browser

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice", "experimental"]
EVERYTHING = {"type": "tag", "values": TAGS}
COLORS = {"type": "rule", "values": ["color-contrast"]}
# Formulas are left out: MathJax's elements are many, and their rules its own. So is code, whose colors are the same on
# all pages: the landing page shows some, and there they are looked at.
# One experimental rule forbids what another demands: that a table which scrolls can be reached by keyboard.
LEFT_OUT = ["mjx-container", "div.highlight pre"]
RUN = """([rules, out]) => axe.run({exclude: out.map(selector => [selector])},
    {resultTypes: ["violations"], runOnly: rules, rules: {"focus-order-semantics": {enabled: false}}}).then(
    found => found.violations.map(v => `${v.id}, ${v.nodes.length} times: ${v.nodes[0].html.slice(0, 200)}; `
        + [...v.nodes[0].any, ...v.nodes[0].all, ...v.nodes[0].none].map(c => c.message).join("; ")))"""


@pytest.fixture(scope="session")
def axe():
    return files("axe_playwright_python").joinpath("axe.min.js").read_text("utf8")


def complaints(page, axe, theme, rules=EVERYTHING, out=LEFT_OUT):
    page.evaluate("t => {document.documentElement.dataset.theme = t}", theme)
    page.evaluate("document.querySelectorAll('main details').forEach(d => {d.open = true})")
    page.add_style_tag(content="*, ::before, ::after {transition: none !important}")
    page.evaluate(axe)
    return page.evaluate(RUN, [rules, out])


def test_no_barrier(opened, axe):
    assert complaints(opened.page, axe, "light") == []


def test_dark_can_be_read(opened, axe):
    assert complaints(opened.page, axe, "dark", COLORS) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_code_can_be_read(open_page, axe, theme):
    page = open_page("index.html").page
    assert page.locator("div.highlight pre").count() > 0
    assert complaints(page, axe, theme, COLORS, out=[]) == []


def test_no_barrier_on_a_phone(open_page, example_page, axe):
    page = open_page(example_page, viewport={"width": 390, "height": 844}).page
    assert complaints(page, axe, "light") == []


def test_axe_sees_a_barrier(open_page, axe):
    page = open_page("notation.html").page
    page.evaluate(
        "document.querySelector('main section h1').insertAdjacentHTML('afterend', '<img src=x.png>')"
    )
    found = complaints(page, axe, "light")
    assert len(found) == 1 and "image-alt" in found[0]
