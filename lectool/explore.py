r"""Sliders that move with a kernel and without one.

With a kernel (JupyterLab, Colab, VS Code) ``explore`` shows ipywidgets and draws anew at each move. In the
built page there is no kernel: there the same call has drawn every combination at build time and
ships one self-contained HTML figure with native range inputs, its frames and a short script.
"""

import base64
import contextlib
import html
import inspect
import io
import itertools
import json
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib._pylab_helpers import Gcf
from matplotlib.figure import Figure
from PIL import Image

from lectool.live import is_live
from lectool.plot import panels

__all__ = ["OWN_KEYS", "cut_marks", "embed", "explore", "web_file"]

Alt = str | Callable[..., str]
# Of one figure: a page is to stay under 3 MB.
MAX_FRAME_BYTES = 2_900_000


def explore(
    draw: Callable[..., Any],
    *,
    start: dict[str, Any] | None = None,
    alt: Alt | None = None,
    caption: str = "",
    labels: dict[str, str] | None = None,
    max_frames: int = 128,
    **values: Iterable,
) -> None:
    r"""Lets the reader move one or more values and see the picture that they make.

    Arguments:
        draw: called as ``draw(**one_value_each)``; draws one matplotlib figure of always the same size: the one
            that it returns (or whose axes it returns), else the last one that it makes, else an open one that it
            changes. ``plt.show()`` at its end does nothing. What it prints stands under the picture and follows
            the slider too.
        start: the values shown first; the first of each where not given.
        alt: the picture's description for those who do not see it: a format string over the values
            (``"{k} components"``) or a function of them. It is read out at each move.
        caption: one or two sentences under the sliders.
        labels: readable names of the values.
        max_frames: the largest number of combinations that the page may carry.
        values: for each argument of ``draw`` the values that its slider offers, in order.

    Raises:
        ValueError: if there is no slider, one has fewer than two values, ``start`` is not among them,
            there are more combinations than ``max_frames``, ``draw`` does not accept the names, or it
            draws no figure.
    """
    choices = {name: list(options) for name, options in values.items()}
    _check(draw, choices, max_frames)
    begin = _positions(choices, start or {})
    sliders = Sliders(draw, choices, begin, alt, caption, labels or {})
    if is_live():
        _show_live(sliders)
    else:
        display(_static(sliders), raw=True)


def _check(draw: Callable[..., Any], choices: dict[str, list], max_frames: int) -> None:
    if not choices or any(len(options) < 2 for options in choices.values()):
        raise ValueError(
            f"values are {choices}; expected at least one slider, each with two values or more"
        )
    try:
        inspect.signature(draw).bind(**{name: options[0] for name, options in choices.items()})
    except TypeError as error:
        raise ValueError(f"draw cannot be called with {', '.join(choices)}: {error}") from error
    n_frames = math.prod(len(options) for options in choices.values())
    if n_frames > max_frames:
        raise ValueError(f"{n_frames} combinations; at most {max_frames} are allowed (max_frames)")


def _positions(choices: dict[str, list], start: dict[str, Any]) -> dict[str, int]:
    unknown = [name for name in start if name not in choices]
    if unknown:
        raise ValueError(f"start names {', '.join(unknown)}; expected some of {', '.join(choices)}")
    begin = {}
    for name, options in choices.items():
        wish = start.get(name, options[0])
        if wish not in options:
            raise ValueError(f"start has {name} = {wish!r}; expected one of {options}")
        begin[name] = options.index(wish)
    return begin


# Without this JupyterLab takes a control's arrows, Enter and letters for its cells.
OWN_KEYS = 'data-lm-suppress-shortcuts="true"'


def web_file(name: str) -> str:
    r"""The text of a script or style sheet that a figure carries with it."""
    return (Path(__file__).parent / "web" / name).read_text(encoding="utf-8")


@dataclass
class Sliders:
    r"""What :func:`explore` was given, and how a picture is made of it.

    Attributes:
        begin: the position of each slider at first.
        draw, choices, alt, caption, labels: as in :func:`explore`, which calls the choices values.
    """

    draw: Callable[..., Any]
    choices: dict[str, list]
    begin: dict[str, int]
    alt: Alt | None
    caption: str
    labels: dict[str, str]

    def label(self, name: str) -> str:
        return self.labels.get(name, name)

    def describe(self, values: dict[str, Any]) -> str:
        if callable(self.alt):
            return self.alt(**values)
        if self.alt is not None:
            return self.alt.format(
                **{k: Shown(v) if isinstance(v, float) else v for k, v in values.items()}
            )
        return "Picture at " + ", ".join(
            f"{self.label(k)} {readable(v)}" for k, v in values.items()
        )

    def render(self, values: dict[str, Any]) -> tuple[Image.Image, str, dict[str, Any]]:
        r"""Draws one frame; returns its picture (RGB), what ``draw`` printed, and its panels."""
        printed, buffer = io.StringIO(), io.BytesIO()
        with contextlib.redirect_stdout(printed), _drawing() as drawn:
            figure = drawn(self.draw(**values))
            # The figure's own size, not a tight box: all frames must have the same number of pixels.
            figure.savefig(
                buffer, format="png", dpi=110, bbox_inches=None, pil_kwargs={"compress_level": 1}
            )
            cuts = panels(figure)
        return Image.open(buffer).convert("RGB"), printed.getvalue().rstrip(), cuts


@contextlib.contextmanager
def _drawing() -> Iterator[Callable[[Any], Figure]]:
    r"""Watches what is drawn; gives a function that finds the figure, from what the drawing returned.

    Meanwhile ``plt.show()`` does nothing (in a notebook it would show the figure and close it), and open figures are
    out of pyplot's sight, so that ``plt.plot`` begins a new one. Figures made meanwhile are closed at the end.
    """
    others, made = Gcf.figs.copy(), []
    stale = {manager.canvas.figure: manager.canvas.figure.stale for manager in others.values()}
    make, show = plt.new_figure_manager, plt.show

    def watched(*args: Any, **options: Any) -> Any:
        made.append(make(*args, **options))
        return made[-1]

    def find(returned: Any) -> Figure:
        figures = [manager.canvas.figure for manager in made]
        drawn = [figure for figure in figures if figure.axes]
        touched = [other for other in stale if other.stale]
        found = _figures_of(returned) or drawn or touched or figures
        if not found:
            raise ValueError(
                "draw made no figure, and changed none that is open; expected one matplotlib figure a call "
                "(where it draws on axes that were made before, let it return their figure)"
            )
        return found[-1]

    Gcf.figs.clear()
    for other in stale:
        other.stale = False
    plt.new_figure_manager, plt.show = watched, lambda *args, **options: None
    try:
        yield find
    finally:
        plt.new_figure_manager, plt.show = make, show
        for manager in made:
            plt.close(manager.canvas.figure)
        Gcf.figs.clear()
        Gcf.figs.update(others)
        for other, was in stale.items():
            other.stale = was or other.stale


def _figures_of(returned: Any) -> list[Figure]:
    r"""The figure of a figure, of axes, or of an array or list of what is drawn on them; none of anything else."""
    while isinstance(returned, list | tuple | np.ndarray) and len(returned):
        returned = returned[0]
    # Twice: what is drawn knows its part of a figure, and that part the whole; a figure is its own.
    figure = getattr(getattr(returned, "figure", None), "figure", None)
    return [figure] if isinstance(figure, Figure) else []


class Shown(float):
    r"""A number that a format string shows as the slider does."""

    def __format__(self, spec: str) -> str:
        return float.__format__(self, spec) if spec else readable(float(self))


def readable(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------------------- on the page


def _static(sliders: Sliders) -> dict[str, str]:
    r"""All frames in one bundle: HTML for the page, PNG for whoever cannot show HTML, and the text."""
    names = list(sliders.choices)
    # Identical pictures are stored once.
    frames: dict[bytes, int] = {}
    index, alts, texts = [], [], []
    lossless, first, size = None, None, None
    start_values = {name: sliders.choices[name][sliders.begin[name]] for name in names}
    for combination in itertools.product(*sliders.choices.values()):
        values = dict(zip(names, combination, strict=True))
        image, text, cuts = sliders.render(values)
        if size not in (None, image.size):
            raise ValueError(
                f"draw made pictures of {size} and {image.size} pixels; expected one size"
            )
        size = image.size
        # The first frame decides: flat colors, or a smooth color map.
        if lossless is None:
            lossless = len(_webp(image, True)) <= len(_webp(image, False))
        index.append(frames.setdefault(_webp(image, lossless), len(frames)))
        alts.append(sliders.describe(values))
        texts.append(text)
        if values == start_values:
            first = (len(index) - 1, image, cuts)
    here, image, cuts = first
    uris = ["data:image/webp;base64," + base64.b64encode(frame).decode() for frame in frames]
    n_bytes = sum(map(len, uris))
    if n_bytes > MAX_FRAME_BYTES:
        raise ValueError(
            f"the {len(uris)} frames take {n_bytes:,} bytes, more than a page may carry ({MAX_FRAME_BYTES:,}); "
            "draw fewer, smaller or flatter ones"
        )
    data = {
        # 0 stands for the frame that is already in the <img>.
        "frames": [uri if i != index[here] else 0 for i, uri in enumerate(uris)],
        "index": index if len(frames) < len(index) else 0,
        "alts": alts,
        "texts": texts if any(texts) else 0,
        "values": [[readable(v) for v in options] for options in sliders.choices.values()],
    }
    rows = "".join(
        f'<label class="ex-row"><span class="ex-name">{html.escape(sliders.label(name))}</span>'
        f'<input type="range" {OWN_KEYS} min="0" max="{len(options) - 1}" step="1" value="{sliders.begin[name]}" '
        f'aria-valuetext="{html.escape(readable(start_values[name]), True)}">'
        f'<output style="{_room(options)}">{html.escape(readable(start_values[name]))}</output></label>'
        for name, options in sliders.choices.items()
    )
    page = (
        f'<figure class="explore"><style>{web_file("figure.css")}</style>'
        f'<img src="{uris[index[here]]}" alt="{html.escape(alts[here], True)}" '
        f'width="{size[0]}" height="{size[1]}"{cut_marks(cuts)}>'
        + (f'<pre class="ex-text">{html.escape(texts[here])}</pre>' if any(texts) else "")
        + f'{rows}<p class="ex-live" role="status" aria-live="polite"></p>'
        "<noscript><p>The sliders need JavaScript; this is the first picture.</p></noscript>"
        + (f"<figcaption>{html.escape(sliders.caption)}</figcaption>" if sliders.caption else "")
        + f'<script type="application/json">{embed(data)}</script>'
        f"<script>{web_file('explore.js')}</script></figure>"
    )
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    return {
        "text/html": page,
        "image/png": base64.b64encode(png.getvalue()).decode(),
        "text/plain": alts[here] + (f"\n{texts[here]}" if texts[here] else ""),
    }


def _room(options: list) -> str:
    """The width of a slider's value: that of its longest, or the slider would change its length under the mouse."""
    longest = max(len(readable(value)) for value in options)
    return f"width:min({longest + 1}ch,30vw);justify-self:end"


def cut_marks(cuts: dict[str, Any]) -> str:
    r"""What :func:`lectool.plot.panels` found, as attributes of an ``<img>``, by which the page's script cuts it."""
    if not cuts:
        return ""
    title = html.escape(cuts["title"], True)
    return f' data-cuts="{" ".join(map(str, cuts["cuts"]))}" data-top="{cuts["top"]}" data-title="{title}"'


def _webp(image: Image.Image, lossless: bool) -> bytes:
    buffer = io.BytesIO()
    if lossless:
        flat = image.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        flat.convert("RGB").save(buffer, "WEBP", lossless=True, method=4)
    else:
        image.save(buffer, "WEBP", quality=85, method=4)
    return buffer.getvalue()


def embed(data: Any) -> str:
    r"""Data as JSON that may stand inside of a script element."""
    # "</script" would end the element, "<!--<script" would keep it from ending.
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


# ------------------------------------------------------------------------------------- with a kernel


def _show_live(sliders: Sliders) -> None:
    r"""Sliders that call ``draw`` anew, and beside them a still for where no kernel runs.

    A saved notebook keeps the still at the sliders' last position: it shows where the widget cannot (reopened, not
    trusted, converted), and hides itself where the widget lives.
    """
    import ipywidgets

    mark = uuid.uuid4().hex[:8]
    controls = {
        name: ipywidgets.SelectionSlider(
            options=[(readable(v), i) for i, v in enumerate(options)],
            value=sliders.begin[name],
            description=sliders.label(name),
            style={"description_width": "initial"},
            layout=ipywidgets.Layout(width="min(32em, 95%)"),
        )
        for name, options in sliders.choices.items()
    }
    picture = ipywidgets.HTML()

    def move(_change: Any = None) -> dict[str, str]:
        values = {name: sliders.choices[name][control.value] for name, control in controls.items()}
        image, text, _ = sliders.render(values)
        alt = sliders.describe(values)
        shown = _picture(image, alt, text)
        picture.value = f'<div class="live-{mark}">{shown}</div>'
        return {"text/html": _still(sliders, mark, shown, values), "text/plain": alt}

    still = move()
    parts: Sequence = [picture, *controls.values()]
    if sliders.caption:
        parts = [*parts, ipywidgets.HTML(f"<em>{html.escape(sliders.caption)}</em>")]
    display(ipywidgets.VBox(parts))
    handle = display(still, raw=True, display_id=True)
    for control in controls.values():
        control.observe(lambda _change: handle.update(move(), raw=True), names="value")


def _picture(image: Image.Image, alt: str, text: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    printed = f"<pre>{html.escape(text)}</pre>" if text else ""
    return f'<img src="{uri}" alt="{html.escape(alt, True)}" style="max-width:100%">{printed}'


def _still(sliders: Sliders, mark: str, shown: str, values: dict[str, Any]) -> str:
    at = ", ".join(f"{sliders.label(name)} {readable(value)}" for name, value in values.items())
    words = html.escape(" ".join(filter(None, [sliders.caption, f"Here: {at}."])))
    # The second rule takes away JupyterLab's "model not found" of the widget that is gone.
    style = (
        f":root:has(.live-{mark}) .still-{mark}{{display:none}}"
        f".jp-OutputArea-child:has(+ .jp-OutputArea-child .still-{mark}):not(:has(.live-{mark}))"
        "{display:none}"
    )
    return f'<figure class="still-{mark}"><style>{style}</style>{shown}<figcaption>{words}</figcaption></figure>'
