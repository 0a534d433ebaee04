"""Every page of the built site in Chromium, with all other hosts out of reach.

A page is opened once, and all tests of it look at the same tab.
"""

import hashlib

import pytest

pytestmark = pytest.mark.browser

# What a reader can see of a figure: the state of a slider and of the picture that it moves.
SLIDER = """input => {
    const figure = input.closest("figure"), image = figure.querySelector("img");
    const output = input.closest("label").querySelector("output");
    const text = figure.querySelector(".ex-text");
    return {value: +input.value, min: +input.min, max: +input.max, said: input.getAttribute("aria-valuetext"),
            shown: output.textContent, source: image ? image.src : "", alt: image ? image.alt : "",
            printed: text ? text.textContent : ""};
}"""
CANVASES = """figure => [...figure.querySelectorAll("canvas")].map(canvas => canvas.toDataURL())"""
# All that have a slider.
FIGURES = "figure:is(.explore, .hopfield-pad, .ising-pad, .latent-pad, .rbm-pad, .sparse-pad, .stroke-pad)"
SHOWN = """figure => [...figure.querySelectorAll("output, .pad-readout")].map(output => output.textContent)"""


def figures(opened, kind):
    return opened.page.locator(f"figure.{kind}").all()


def short(picture):
    """A data address of some kilobytes, as what a failing test can print."""
    return hashlib.sha256(picture.encode()).hexdigest()[:8]


def state(slider):
    seen = slider.evaluate(SLIDER)
    return {**seen, "source": short(seen["source"])}


def canvases(figure):
    return [short(picture) for picture in figure.evaluate(CANVASES)]


def readout(figure):
    return figure.evaluate(SHOWN)


def pictures(figure):
    return canvases(figure), [
        short(source) for source in figure.locator("img").evaluate_all("all => all.map(i => i.src)")
    ]


def middle_of(locator):
    locator.scroll_into_view_if_needed()
    box = locator.bounding_box()
    return box["x"], box["y"] + box["height"] / 2, box["width"]


def test_loads_without_an_error_and_without_the_network(opened):
    opened.page.wait_for_load_state("networkidle")
    assert opened.errors == []
    assert opened.outside == []


def test_formulas_are_set(opened):
    formulas = opened.page.locator(".bd-article .math").count()
    if formulas:
        opened.page.wait_for_function("MathJax.startup && MathJax.startup.promise")
        opened.page.evaluate("MathJax.startup.promise")
        assert opened.page.locator(".bd-article .math mjx-container").count() >= formulas
        assert opened.page.locator("mjx-merror").all_text_contents() == []
        cut = opened.page.locator(".bd-article div.math").evaluate_all(
            "all => all.filter(e => e.scrollWidth > e.clientWidth + 2).map(e => e.closest('section').id)"
        )
        assert cut == [], "formulas wider than the page's column"
    left = opened.page.locator(".bd-article p, .bd-article li, .bd-article td").evaluate_all(
        "all => all.map(e => e.textContent).filter(t => /\\\\(frac|sum|lambda|mathbb|top)(?![a-z])|\\$\\$/.test(t))"
    )
    assert left == [], "formulas that were left as text"


def test_pictures_are_drawn(opened):
    broken = opened.page.locator("img:not([loading=lazy])").evaluate_all(
        "images => images.filter(i => i.hasAttribute('src') && i.closest('noscript') === null && !i.naturalWidth)"
        ".map(i => i.src.slice(0, 99))"
    )
    assert broken == []


def test_fits_a_narrow_screen(opened):
    opened.page.set_viewport_size({"width": 360, "height": 740})
    wide = opened.page.evaluate("document.documentElement.scrollWidth")
    culprits = opened.page.evaluate(
        """[...document.querySelectorAll("article *")].filter(e => e.getBoundingClientRect().right > 361)
           .slice(0, 5).map(e => e.tagName + "." + e.className)"""
    )
    opened.page.set_viewport_size({"width": 1280, "height": 900})
    assert wide <= 361, f"the page is {wide} pixels wide on a screen of 360: {culprits}"


def test_dark_mode_can_be_chosen(opened):
    themes, button = set(), opened.page.locator("button.theme-switch-button:visible").first
    for _ in range(3):
        button.click()
        themes.add(opened.page.evaluate("document.documentElement.dataset.theme"))
        if opened.page.evaluate("document.documentElement.dataset.theme") == "dark":
            backgrounds = opened.page.locator(".cell_output img, figure.explore img").evaluate_all(
                "images => images.map(i => getComputedStyle(i).backgroundColor)"
            )
            assert set(backgrounds) <= {"rgb(255, 255, 255)"}, (
                "black axes on a dark page cannot be read"
            )
    assert {"dark", "light"} <= themes


def test_sliders_move_by_keyboard(opened):
    for figure in figures(opened, "explore"):
        alts = set()
        for slider in figure.locator("input[type=range]").all():
            slider.focus()
            slider.press("Home")
            states = [state(slider)]
            assert states[0]["value"] == states[0]["min"]
            for step in range(1, int(states[0]["max"]) + 1):
                slider.press("ArrowRight")
                states.append(state(slider))
                assert states[-1]["value"] == step
            slider.press("ArrowLeft")
            assert state(slider) == states[-2], "a step back does not show what stood there before"
            slider.press("End")
            assert state(slider) == states[-1]
            for s in states:
                assert s["said"] == s["shown"]
            assert len({s["shown"] for s in states}) == len(states), (
                "two positions show the same value"
            )
            assert len({s["source"] for s in states}) >= 2, (
                f"no step of this slider changes the picture: {states[0]}"
            )
            alts |= {s["alt"] for s in states}
            slider.press("Home")
        assert len(alts) >= 2, f"the alt text does not follow the sliders: {alts}"
        assert all(alt.strip() for alt in alts)


def test_sliders_move_by_mouse(opened):
    mouse = opened.page.mouse
    for figure in figures(opened, "explore"):
        for slider in figure.locator("input[type=range]").all():
            x, y, width = middle_of(slider)
            mouse.click(x + 0.02 * width, y)
            first = state(slider)
            assert first["value"] == first["min"]
            mouse.click(x + 0.98 * width, y)
            last = state(slider)
            assert last["value"] == last["max"]
            assert last["shown"] != first["shown"] and last["said"] == last["shown"]
            mouse.move(x + 0.97 * width, y)
            mouse.down()
            seen = [last]
            for part in (0.75, 0.5, 0.25, 0.02):
                mouse.move(x + part * width, y, steps=2)
                seen.append(state(slider))
            mouse.up()
            assert seen[-1] == first, "dragging back does not show the first picture"
            assert len({s["source"] for s in seen}) >= 2


def test_sliders_are_heard(opened):
    for figure in figures(opened, "explore"):
        slider = figure.locator("input[type=range]").first
        slider.press("Home")  # it may have started at its end, where nothing changes
        slider.press("End")
        alt = figure.locator("img").first.get_attribute("alt")
        live = figure.locator("[aria-live=polite]").first.element_handle()
        opened.page.wait_for_function(
            "([e, alt]) => e.textContent.trim() === alt.trim()", arg=[live, alt], timeout=3000
        )


def test_pads_move_by_keyboard(opened):
    for pad in figures(opened, "latent-pad"):
        for slider in pad.locator("input[type=range]").all():
            slider.scroll_into_view_if_needed()
            slider.press("Home")
            start, shown = canvases(pad), readout(pad)
            slider.press("End")
            end = canvases(pad)
            assert all(a != b for a, b in zip(start, end, strict=True)), "a canvas stays as it is"
            assert readout(pad) != shown
            slider.press("ArrowLeft")
            assert canvases(pad) != end
            slider.press("Home")
            assert canvases(pad) == start
            assert readout(pad) == shown


def test_pads_move_by_mouse(opened):
    mouse = opened.page.mouse
    for pad in figures(opened, "latent-pad"):
        plane = pad.locator("canvas").first
        x, y, width = middle_of(plane)
        seen, shown = [], []
        mouse.move(x + 0.2 * width, y)
        mouse.down()
        for part in (0.25, 0.5, 0.8):
            mouse.move(x + part * width, y + (part - 0.5) * 40)
            seen.append(tuple(canvases(pad)))
            shown.append(tuple(readout(pad)))
        mouse.up()
        assert len(set(seen)) == 3 and len(set(shown)) == 3
        assert len({drawn[-1] for drawn in seen}) == 3, (
            "the decoded picture does not follow the point"
        )
        mouse.move(x + 0.1 * width, y)
        assert tuple(canvases(pad)) == seen[-1], "the pad follows a mouse whose button is up"


def test_drawings_are_reconstructed(opened):
    # Drawing, what is seen of it and what is made of it; the atoms behind them may stay unused.
    mouse = opened.page.mouse
    for pad in figures(opened, "sketch-pad") + figures(opened, "sparse-pad"):
        pad.locator(".pad-clear").click()
        blank, shown = canvases(pad)[:3], readout(pad)
        x, y, width = middle_of(pad.locator(".pad-draw"))
        mouse.move(x + 0.3 * width, y - 0.2 * width)
        mouse.down()
        mouse.move(x + 0.6 * width, y + 0.2 * width, steps=4)
        mouse.up()
        drawn = canvases(pad)[:3]
        assert all(a != b for a, b in zip(blank, drawn, strict=True))
        assert readout(pad) != shown
        pad.locator(".pad-example").focus()
        opened.page.keyboard.press("Enter")
        assert all(a != b for a, b in zip(drawn, canvases(pad)[:3], strict=True))


def test_fields_are_sampled_until_they_are_paused(opened):
    for kind in ("ising-pad", "rbm-pad"):
        for pad in figures(opened, kind):
            pad.scroll_into_view_if_needed()
            run, before = pad.locator(".pad-run"), canvases(pad)
            opened.page.wait_for_timeout(500)
            assert run.text_content() == "pause" and canvases(pad) != before
            run.press("Enter")
            before, shown = canvases(pad), readout(pad)
            opened.page.wait_for_timeout(300)
            assert canvases(pad) == before
            pad.locator(".pad-step").press("Enter")
            assert canvases(pad) != before and readout(pad) != shown
            before = canvases(pad)
            x, y, width = middle_of(pad.locator(".pad-field"))
            opened.page.mouse.click(x + 0.5 * width, y)
            assert canvases(pad) != before, "a touch changes nothing"


def test_a_memory_is_recalled(opened):
    for pad in figures(opened, "hopfield-pad"):
        pad.locator(".pad-pattern").first.press("Enter")
        whole = canvases(pad)[0]
        pad.locator(".pad-half").press("Enter")
        damaged = canvases(pad)[0]
        assert damaged != whole
        pad.locator(".pad-run").press("Enter")
        pad.locator(".pad-run", has_text="recall").wait_for()
        assert pad.get_attribute("data-state") == "at rest" and canvases(pad)[0] != damaged
        before = canvases(pad)[0]
        x, y, width = middle_of(pad.locator(".pad-field"))
        opened.page.mouse.click(x + 0.5 * width, y)
        assert canvases(pad)[0] != before


def test_strokes_are_completed(opened):
    for pad in figures(opened, "stroke-pad"):
        pad.scroll_into_view_if_needed()  # out of sight it does not search
        pad.locator(".pad-run", has_text="search").wait_for()
        pad.locator(".pad-clear").press("Enter")
        field, found = canvases(pad)
        assert field == found
        x, y, width = middle_of(pad.locator(".pad-field"))
        opened.page.mouse.move(x + 0.3 * width, y)
        opened.page.mouse.down()
        opened.page.mouse.move(x + 0.7 * width, y, steps=4)
        opened.page.mouse.up()
        pad.locator(".pad-run", has_text="search").wait_for()
        assert pad.get_attribute("data-state") == "at rest" and canvases(pad)[1] != found
        before = canvases(pad)
        pad.locator(".pad-example").press("Enter")
        assert canvases(pad)[0] != before[0]


def test_all_that_was_said_was_no_error(opened):
    """After everything that the tests above did to the page."""
    assert opened.errors == [] and opened.outside == []


# --- other ways to look at the site ---------------------------------------------------------------------------------


def test_figures_move_from_a_file(open_page, site, moving_page):
    opened = open_page(moving_page, base=site.as_uri())
    for figure in opened.page.locator(FIGURES).all():
        slider = figure.locator("input[type=range]").first
        slider.press("Home")
        before = pictures(figure), readout(figure)
        slider.press("End")
        assert (pictures(figure), readout(figure)) != before
    assert opened.errors == [] and opened.outside == []


def test_figures_without_javascript(open_page, moving_page):
    page = open_page(moving_page, java_script_enabled=False).page
    for figure in page.locator(FIGURES).all():
        words = figure.locator("noscript, .pad-still")
        assert words.is_visible() and "JavaScript" in words.inner_text()
        box = figure.locator("img").first.bounding_box()
        assert box and box["width"] > 50 and box["height"] > 50, "the first picture is not shown"


def test_figures_answer_to_touch(open_page, example_page, phone):
    opened = open_page(example_page, **phone)
    for figure in opened.page.locator(FIGURES).all():
        slider = figure.locator("input[type=range]").first
        x, y, width = middle_of(slider)
        opened.page.touchscreen.tap(x + 0.03 * width, y)
        low = slider.input_value()
        opened.page.touchscreen.tap(x + 0.97 * width, y)
        assert float(slider.input_value()) > float(low)
    assert opened.errors == []


def test_the_landing_page_moves_at_once(open_page):
    opened = open_page("index.html")
    pad = opened.page.locator("figure.latent-pad").first
    pad.scroll_into_view_if_needed()
    before = canvases(pad)
    opened.page.wait_for_timeout(600)
    assert canvases(pad) != before


def test_the_landing_page_keeps_still_where_asked_to(open_page):
    opened = open_page("index.html", reduced_motion="reduce")
    pad = opened.page.locator("figure.latent-pad").first
    pad.scroll_into_view_if_needed()
    before = canvases(pad)
    opened.page.wait_for_timeout(600)
    assert canvases(pad) == before


def test_search_finds_a_word(open_page):
    opened = open_page("search.html?q=principal")
    opened.page.wait_for_selector("#search-results li a", timeout=10_000)
    found = opened.page.locator("#search-results li a").all_text_contents()
    assert any("PCA" in title for title in found), found
    assert opened.errors == [] and opened.outside == []
