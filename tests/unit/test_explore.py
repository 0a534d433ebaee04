"""Sliders: what the page carries, read back as a browser would, and what a kernel shows."""

import base64
import io
import itertools
import json
import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from lectool import explore as module
from lectool.explore import explore
from lectool.live import is_live


@pytest.fixture(autouse=True)
def shown(monkeypatch) -> list:
    bundles: list = []

    def display(bundle, raw=False, display_id=False):
        bundles.append(bundle)
        place = len(bundles) - 1
        return SimpleNamespace(update=lambda new, raw: bundles.__setitem__(place, new))

    monkeypatch.setattr(module, "display", display)
    monkeypatch.setenv("LECTOOL_EXPLORE", "static")
    plt.close("all")
    yield bundles
    plt.close("all")


def bars(a, b=0):
    """Two bars whose heights are the two values: the picture tells them."""
    figure = plt.figure(figsize=(1.2, 1.0))
    ax = figure.add_axes([0, 0, 1, 1])
    ax.axis("off")
    ax.set(xlim=(0, 2), ylim=(0, 4))
    ax.bar([0.5, 1.5], [a, b], color=["#0072B2", "#D55E00"], width=1)
    return figure


def pixels(a, b=0) -> np.ndarray:
    return printed(bars(a, b))


def printed(figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    plt.close(figure)
    return picture(buffer.getvalue())


class Page(HTMLParser):
    """Elements as (tag, attributes, text), and whether every one of them is closed in order."""

    VOID = ("img", "input")

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.found: list[list] = []
        self.open: list[list] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), "", [e[0] for e in self.open]]
        self.found.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1][2] += data

    def all(self, tag: str) -> list[list]:
        return [e for e in self.found if e[0] == tag]

    @property
    def data(self) -> dict:
        return json.loads(
            next(e[2] for e in self.all("script") if e[1].get("type") == "application/json")
        )


def page(shown: list) -> Page:
    return Page(shown[-1]["text/html"])


def frame(found: Page, at: int) -> np.ndarray:
    """The picture of a combination, by the rules of the script."""
    data = found.data
    number = data["index"][at] if data["index"] else at
    kind, content = (data["frames"][number] or found.all("img")[0][1]["src"]).split(",", 1)
    assert kind == "data:image/webp;base64"
    return picture(base64.b64decode(content))


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)


# ---------------------------------------------------------------------------------------- the structure


def test_the_structure_of_the_figure(shown):
    explore(
        bars,
        a=[1, 2, 3],
        b=[0.5, 2.0],
        start={"b": 2.0},
        labels={"a": "height"},
        caption="Two bars.",
        alt="{a}, {b}",
    )
    assert set(shown[-1]) == {"text/html", "image/png", "text/plain"}
    found = page(shown)
    assert found.found[0][0] == "figure" and len(found.all("figure")) == 1
    (image,) = found.all("img")
    assert image[1]["alt"] == "1, 2" and (image[1]["width"], image[1]["height"]) == ("132", "110")
    assert len(found.all("label")) == len(found.all("input")) == len(found.all("output")) == 2
    first, second = (e[1] for e in found.all("input"))
    assert first["type"] == "range" and first["aria-valuetext"] == "1"
    assert [first[k] for k in ("min", "max", "step", "value")] == ["0", "2", "1", "0"]
    assert (second["max"], second["value"], second["aria-valuetext"]) == ("1", "1", "2")
    # Each input has its name.
    assert all(e[3][-1] == "label" for e in found.all("input") + found.all("output"))
    assert [e[2] for e in found.all("span")] == ["height", "b"]
    assert [e[2] for e in found.all("output")] == ["1", "2"]
    assert len(found.all("noscript")) == 1 and found.all("figcaption")[0][2] == "Two bars."
    assert any(e[1].get("aria-live") == "polite" for e in found.all("p"))
    assert found.data["values"] == [["1", "2", "3"], ["0.5", "2"]]
    png = picture(base64.b64decode(shown[-1]["image/png"]))
    assert png.shape == (110, 132, 3) and np.abs(png - pixels(1, 2)).mean() < 1
    assert shown[-1]["text/plain"] == "1, 2"


def test_nothing_comes_from_outside_and_nothing_has_an_id(shown):
    explore(bars, a=[1, 2], caption="c")
    text = shown[-1]["text/html"]
    assert not re.search(
        r"https?:|//[a-z]|\bimport\b|fetch\(|XMLHttp", text.replace("application/json", "")
    )
    found = page(shown)
    assert not found.all("link") and not found.all("iframe")
    assert all("src" not in e[1] for e in found.all("script"))
    assert all("id" not in e[1] for e in found.found)


def test_each_combination_shows_its_own_picture(shown):
    a, b = [0, 1, 2, 3], [1, 3, 4]
    explore(bars, a=a, b=b, start={"a": 2, "b": 3})
    found = page(shown)
    assert len(found.data["alts"]) == 12 and found.data["index"] == 0
    # The one that stands in the <img>.
    assert [i for i, f in enumerate(found.data["frames"]) if f == 0] == [2 * 3 + 1]
    for at, (i, j) in enumerate(itertools.product(a, b)):
        assert np.abs(frame(found, at) - pixels(i, j)).mean() < 2
    assert np.abs(frame(found, 0) - pixels(3, 4)).mean() > 20  # which would not pass for another


def test_smooth_pictures_stay_close_to_the_drawing(shown):
    noise = np.random.default_rng(0).random((8, 8))

    def smooth(k):
        figure = plt.figure(figsize=(1.5, 1.5))
        figure.add_axes([0, 0, 1, 1]).imshow(noise**k, cmap="viridis", interpolation="bicubic")
        return figure

    explore(smooth, k=[1, 3])
    found = page(shown)
    for at, k in enumerate((1, 3)):
        assert np.abs(frame(found, at) - printed(smooth(k))).mean() < 6
    smooth_bytes = len(found.data["frames"][1])
    assert smooth_bytes < 30_000


def test_identical_frames_are_stored_once(shown):
    explore(lambda a, b: bars(min(a, 2), b), a=[1, 2, 3, 4], b=[1, 2])
    data = page(shown).data
    assert len(data["frames"]) == 4 and data["index"] == [0, 1, 2, 3, 2, 3, 2, 3]
    found = page(shown)
    assert np.abs(frame(found, 7) - pixels(2, 2)).mean() < 2


def test_printed_text_follows(shown):
    def draw(k):
        print(f"error {k * 10} <b>")
        bars(k)

    explore(draw, k=[1, 2, 3], start={"k": 2})
    found = page(shown)
    assert found.data["texts"] == ["error 10 <b>", "error 20 <b>", "error 30 <b>"]
    assert found.all("pre")[0][2] == "error 20 <b>" and "<b>" not in shown[-1]["text/html"]
    assert shown[-1]["text/plain"].endswith("\nerror 20 <b>")
    explore(bars, a=[1, 2])
    assert page(shown).data["texts"] == 0 and not page(shown).all("pre")


def test_alt_text_as_format_function_and_default(shown):
    values = [0.1 + 0.2, 1234567.0, 1e-7]
    explore(lambda x: bars(1), x=values, alt="at {x}, or {x:.2f}")
    assert page(shown).data["alts"] == [
        "at 0.3, or 0.30",
        "at 1.235e+06, or 1234567.00",
        "at 1e-07, or 0.00",
    ]
    explore(
        lambda x, n: bars(1), x=[0.1 + 0.2, 2.0], n=[3, 4], alt=lambda x, n: f"{n} times {x:.1f}"
    )
    assert page(shown).data["alts"] == ["3 times 0.3", "4 times 0.3", "3 times 2.0", "4 times 2.0"]
    explore(lambda x, n: bars(1), x=[0.1 + 0.2, 2.0], n=[3, 4], labels={"n": "number"})
    assert page(shown).data["alts"][1] == "Picture at x 0.3, number 4"


def test_values_may_be_of_any_kind(shown):
    explore(lambda method, on: bars(1 + on), method=["PCA", "ICA"], on=[False, True])
    assert page(shown).data["values"] == [["PCA", "ICA"], ["False", "True"]]
    explore(bars, a=range(3), b=np.linspace(0, 1, 3))
    assert page(shown).data["values"] == [["0", "1", "2"], ["0", "0.5", "1"]]


def test_two_calls_give_the_identical_string(shown):
    for _ in range(2):
        explore(bars, a=[1, 2], b=[1.5, 2.5], alt="{a} and {b}", caption="c")
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    "text", ["</script><b>", "<!--<script>", "\"'><img src=x>", "&lt;script&gt;", "]]> \\ \u2028"]
)
def test_no_text_breaks_out_of_its_place(shown, text):
    def draw(a):
        print(text)
        bars(a)

    explore(draw, a=[1, 2], alt=lambda a: f"{a} {text}", caption=text, labels={"a": text})
    found = page(shown)

    def without(a):
        print("words")
        bars(a)

    explore(without, a=[1, 2], alt="words", caption="words")
    plain = page(shown)
    assert [e[0] for e in found.found] == [e[0] for e in plain.found]
    assert (
        found.data["alts"] == [f"1 {text}", f"2 {text}"] and found.data["texts"][0] == text.rstrip()
    )
    assert found.all("img")[0][1]["alt"] == f"1 {text}"
    assert found.all("figcaption")[0][2] == text and found.all("span")[0][2] == text
    scripts = [e[2] for e in found.all("script")]
    assert "<!--" not in scripts[0] and "<script" not in scripts[0] and "</" not in scripts[0]


def test_figures_are_closed_and_others_stay(shown):
    mine = plt.figure()
    explore(bars, a=[1, 2, 3])
    assert plt.get_fignums() == [mine.number] and plt.gcf() is mine and not mine.axes


# --------------------------------------------------------------------- which figure draw has drawn


@pytest.fixture(params=["agg", "module://matplotlib_inline.backend_inline"])
def back_end(request):
    """The back end of a script, and the one of a notebook, whose ``plt.show`` closes what it has shown."""
    before = plt.get_backend()
    plt.switch_backend(request.param)
    yield
    plt.close("all")
    plt.switch_backend(before)


def shows(a):
    bars(a)
    plt.show()


def closes(a):
    plt.close(bars(a))


def returns_closed(a):
    figure = bars(a)
    plt.close(figure)
    return figure


def returns_without_pyplot(a):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2, 1.0))
    ax = figure.add_axes([0, 0, 1, 1])
    ax.axis("off")
    ax.set(xlim=(0, 2), ylim=(0, 4))
    ax.bar([0.5, 1.5], [a, 0], color=["#0072B2", "#D55E00"], width=1)
    return figure


def returns_the_first_of_two(a):
    figure = bars(a)
    bars(4, 4)
    return figure


def returns_axes(a):
    figure = bars(a)
    bars(4, 4)
    return figure.axes[0]


def returns_an_array_of_axes(a):
    return np.array([[returns_axes(a)]])


def returns_what_is_drawn(a):
    figure = bars(a)
    bars(4, 4)
    return figure.axes[0].plot([])


def returns_something_else(a):
    bars(a)
    return {"height": a}, a


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(
    "draw",
    [
        shows,
        closes,
        returns_closed,
        returns_without_pyplot,
        returns_the_first_of_two,
        returns_axes,
        returns_an_array_of_axes,
        returns_what_is_drawn,
        returns_something_else,
    ],
)
def test_the_figure_that_draw_made_or_returned(shown, back_end, draw, opened):
    mine = plt.figure() if opened else None
    displayed = len(shown)
    explore(draw, a=[1, 2, 3])
    found = page(shown)
    for at, a in enumerate((1, 2, 3)):
        assert np.abs(frame(found, at) - pixels(a)).mean() < 2
    assert len(shown) == displayed + 1
    assert plt.get_fignums() == ([mine.number] if opened else []) and not (mine and mine.axes)


def test_pyplot_begins_a_new_figure_though_one_is_open(shown, back_end):
    mine = plt.figure(figsize=(3, 3))
    plt.plot([0, 1])

    def draw(a):
        plt.gcf().set_size_inches(1.2, 1.0)
        plt.axes([0, 0, 1, 1]).axis("off")
        plt.xlim(0, 2)
        plt.ylim(0, 4)
        plt.bar([0.5, 1.5], [a, 0], color=["#0072B2", "#D55E00"], width=1)

    explore(draw, a=[1, 3])
    for at, a in enumerate((1, 3)):
        assert np.abs(frame(page(shown), at) - pixels(a)).mean() < 2
    assert plt.gcf() is mine and len(mine.axes) == 1 and len(mine.axes[0].lines) == 1


@pytest.mark.parametrize("by", ["axes", "number", "sca"])
def test_an_open_figure_that_draw_changes(shown, back_end, by):
    figure, other = bars(4, 4), plt.figure()
    (ax,) = figure.axes

    def draw(a):
        if by == "number":
            plt.figure(figure.number)
        if by == "sca":
            plt.sca(ax)
        ax.patches[0].set_height(a)
        ax.patches[1].set_height(0)

    for _ in range(2):
        explore(draw, a=[1, 2, 3])
        for at, a in enumerate((1, 2, 3)):
            assert np.abs(frame(page(shown), at) - pixels(a)).mean() < 2
    assert plt.get_fignums() == [figure.number, other.number] and plt.gcf() is other
    assert plt.show.__module__ == plt.new_figure_manager.__module__ == "matplotlib.pyplot"


def test_nothing_drawn_is_said_in_words(shown, back_end):
    plt.plot([0, 1])
    for draw in (lambda a: None, lambda a: print(a), lambda a: a):
        with pytest.raises(ValueError, match="draw made no figure, and changed none that is open"):
            explore(draw, a=[1, 2])
    assert plt.get_fignums() == [1] and not shown
    assert plt.show.__module__ == plt.new_figure_manager.__module__ == "matplotlib.pyplot"


def test_figures_are_closed_where_draw_fails(shown):
    def draw(a):
        bars(a)
        if a == 2:
            raise RuntimeError("in draw")

    with pytest.raises(RuntimeError, match="in draw"):
        explore(draw, a=[1, 2])
    assert plt.get_fignums() == []


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "expected at least one slider"),
        ({"a": [1]}, "each with two values or more"),
        ({"a": []}, "each with two values or more"),
        ({"a": [1, 2], "b": [1]}, "each with two values or more"),
        ({"a": [1, 2], "start": {"a": 3}}, r"start has a = 3; expected one of \[1, 2\]"),
        ({"a": [1, 2], "start": {"c": 3}}, "start"),
        (
            {"a": range(13), "b": range(10)},
            r"130 combinations; at most 128 are allowed \(max_frames\)",
        ),
        ({"a": range(3), "max_frames": 2}, "3 combinations; at most 2"),
        ({"a": [1, 2], "c": [1, 2]}, "draw cannot be called with a, c"),
        ({"b": [1, 2]}, "draw cannot be called with b"),
    ],
)
def test_wrong_calls(shown, options, words):
    with pytest.raises(ValueError, match=words):
        explore(bars, **options)
    assert not shown and plt.get_fignums() == []


def test_draw_must_make_one_figure_of_one_size(shown):
    with pytest.raises(ValueError, match="draw made no figure"):
        explore(lambda a: None, a=[1, 2])
    with pytest.raises(
        ValueError, match=r"pictures of \(110, 110\) and \(220, 110\) pixels; expected one size"
    ):
        explore(lambda a: plt.figure(figsize=(a, 1)), a=[1, 2])
    assert plt.get_fignums() == [] and not shown


def test_a_figure_heavier_than_a_page(shown, monkeypatch):
    monkeypatch.setattr(module, "MAX_FRAME_BYTES", 200)
    with pytest.raises(
        ValueError, match=r"the 3 frames take .* bytes, more than a page may carry \(200\)"
    ):
        explore(bars, a=[1, 2, 3])
    assert not shown


def test_the_limit_keeps_a_page_under_three_megabytes():
    assert (
        module.MAX_FRAME_BYTES
        + len(module.web_file("explore.js"))
        + len(module.web_file("figure.css"))
        < 3e6
    )


# -------------------------------------------------------------------------------------- with a kernel


@pytest.fixture
def plainly(monkeypatch):
    """No sign of a kernel."""
    monkeypatch.delenv("LECTOOL_EXPLORE")
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)


def test_static_where_nobody_sits(plainly):
    assert not is_live()


def test_live_under_a_jupyter_server(plainly, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "chapter.ipynb")
    assert is_live()
    # As the build of the book sets it, wherever it starts.
    monkeypatch.setenv("LECTOOL_EXPLORE", "static")
    assert not is_live()


def test_live_in_colab(plainly, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", object())
    assert is_live()


def test_live_in_vs_code(plainly, monkeypatch):
    import IPython

    class Shell:
        user_ns = {"__vsc_ipynb_file__": "a.ipynb"}  # noqa: RUF012

    monkeypatch.setattr(IPython, "get_ipython", lambda: Shell)
    assert is_live()
    monkeypatch.setattr(Shell, "user_ns", {})
    assert not is_live()


@pytest.mark.parametrize(("wish", "live"), [("live", True), ("static", False)])
def test_the_variable_decides(monkeypatch, wish, live):
    monkeypatch.setenv("LECTOOL_EXPLORE", wish)
    assert is_live() is live
    monkeypatch.setenv("LECTOOL_EXPLORE", wish.upper())
    with pytest.raises(ValueError, match=r"LECTOOL_EXPLORE is '.*'; it can be 'live' or 'static'"):
        is_live()


def test_moving_a_live_slider_draws_anew(shown, monkeypatch):
    import ipywidgets

    monkeypatch.setenv("LECTOOL_EXPLORE", "live")
    calls = []

    def draw(a, b):
        calls.append((a, b))
        print(f"sum {a + b} <i>")
        bars(a, b)

    explore(
        draw,
        a=[1, 2, 3],
        b=[0.25, 1.0],
        start={"a": 2},
        labels={"a": "height"},
        alt='{a} & "{b}"',
        caption="C < D",
    )
    box, still = shown
    html, first, second, caption = box.children
    assert isinstance(html, ipywidgets.HTML) and "C &lt; D" in caption.value
    assert (
        isinstance(first, ipywidgets.SelectionSlider)
        and first.description == "height"
        and second.description == "b"
    )
    assert [label for label, _ in second.options] == ["0.25", "1"]
    assert calls == [(2, 0.25)]  # nothing is drawn ahead

    def image() -> np.ndarray:
        content = re.search(r"base64,([^\"]+)", html.value)[1]
        return picture(base64.b64decode(content))

    def alt() -> str:
        return Page(html.value).all("img")[0][1]["alt"]

    assert alt() == '2 & "0.25"' and np.abs(image() - pixels(2, 0.25)).mean() < 1
    before = html.value
    first.value = 2
    assert calls[-1] == (3, 0.25) and html.value != before and alt() == '3 & "0.25"'
    second.index = 1
    assert (
        calls[-1] == (3, 1.0) and alt() == '3 & "1"' and np.abs(image() - pixels(3, 1)).mean() < 1
    )
    assert Page(html.value).all("pre")[0][2] == "sum 4.0 <i>"
    assert plt.get_fignums() == []
    # The still is at the sliders' last position, and hides where the widget lives.
    assert still["text/plain"] == '2 & "0.25"'
    still = shown[1]
    page, mark = Page(still["text/html"]), re.search(r"live-(\w+)", html.value)[1]
    assert page.all("img")[0][1] == Page(html.value).all("img")[0][1]
    assert page.all("figure")[0][1]["class"] == f"still-{mark}"
    assert f":root:has(.live-{mark}) .still-{mark}{{display:none}}" in page.all("style")[0][2]
    assert page.all("figcaption")[0][2] == "C < D Here: height 3, b 1."
    assert still["text/plain"] == '3 & "1"'


def test_live_takes_any_number_of_combinations_that_static_takes(shown, monkeypatch):
    monkeypatch.setenv("LECTOOL_EXPLORE", "live")
    # A reader's page must be able to carry it.
    with pytest.raises(ValueError, match="at most 128"):
        explore(bars, a=range(200))
