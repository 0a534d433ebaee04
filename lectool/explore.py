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
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from IPython.display import display
from PIL import Image

__all__ = ["explore", "is_live", "web_file"]

Alt = str | Callable[..., str]
MAX_FRAME_BYTES = 2_900_000  # of one figure: a page is to stay under 3 MB


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
        draw: called as ``draw(**one_value_each)``; makes one matplotlib figure of always the same size. What
            it prints stands under the picture and follows the slider too.
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
            makes no figure.
    """
    choices = {name: list(options) for name, options in values.items()}
    if not choices or any(len(options) < 2 for options in choices.values()):
        raise ValueError(
            f"values are {choices}; expected at least one slider, each with two values or more"
        )
    try:
        inspect.signature(draw).bind(**{name: options[0] for name, options in choices.items()})
    except TypeError as error:
        raise ValueError(f"draw cannot be called with {', '.join(choices)}: {error}") from error
    unknown = [name for name in (start or {}) if name not in choices]
    if unknown:
        raise ValueError(f"start names {', '.join(unknown)}; expected some of {', '.join(choices)}")
    begin = {}
    for name, options in choices.items():
        wish = (start or {}).get(name, options[0])
        if wish not in options:
            raise ValueError(f"start has {name} = {wish!r}; expected one of {options}")
        begin[name] = options.index(wish)
    n_frames = math.prod(len(options) for options in choices.values())
    if n_frames > max_frames:
        raise ValueError(f"{n_frames} combinations; at most {max_frames} are allowed (max_frames)")
    sliders = Sliders(draw, choices, begin, alt, caption, labels or {})
    if is_live():
        _show_live(sliders)
    else:
        display(_static(sliders), raw=True)


def is_live() -> bool:
    r"""Whether somebody sits before a kernel.

    ``LECTOOL_EXPLORE`` (``live`` or ``static``) decides; else live in Colab, under a Jupyter server
    (which sets ``JPY_SESSION_NAME``; nbclient, nbval and the book's build do not) and in VS Code.
    """
    wish = os.environ.get("LECTOOL_EXPLORE")
    if wish:
        if wish not in ("live", "static"):
            raise ValueError(f"LECTOOL_EXPLORE is {wish!r}; it can be 'live' or 'static'")
        return wish == "live"
    if "google.colab" in sys.modules or os.environ.get("JPY_SESSION_NAME"):
        return True
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and "__vsc_ipynb_file__" in shell.user_ns


def web_file(name: str) -> str:
    r"""The text of a script or style sheet that a figure carries with it."""
    return (Path(__file__).parent / "web" / name).read_text(encoding="utf-8")


@dataclass
class Sliders:
    draw: Callable[..., Any]
    choices: dict[str, list]
    begin: dict[str, int]  # position of each slider at first
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

    def render(self, values: dict[str, Any]) -> tuple[Image.Image, str]:
        r"""Draws one frame; returns its picture (RGB) and what ``draw`` printed."""
        before = set(plt.get_fignums())
        printed = io.StringIO()
        buffer = io.BytesIO()
        try:
            with contextlib.redirect_stdout(printed):
                self.draw(**values)
            new = [number for number in plt.get_fignums() if number not in before]
            if not new:
                raise ValueError("draw made no figure; expected one matplotlib figure a call")
            figure = plt.figure(new[-1])
            # The figure's own size, not a tight box: all frames must have the same number of pixels.
            figure.savefig(
                buffer, format="png", dpi=110, bbox_inches=None, pil_kwargs={"compress_level": 1}
            )
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)
        return Image.open(buffer).convert("RGB"), printed.getvalue().rstrip()


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
    frames: dict[bytes, int] = {}  # identical pictures are stored once
    index, alts, texts = [], [], []
    lossless, first, size = None, None, None
    start_values = {name: sliders.choices[name][sliders.begin[name]] for name in names}
    for combination in itertools.product(*sliders.choices.values()):
        values = dict(zip(names, combination, strict=True))
        image, text = sliders.render(values)
        if size not in (None, image.size):
            raise ValueError(
                f"draw made pictures of {size} and {image.size} pixels; expected one size"
            )
        size = image.size
        if lossless is None:  # the first frame decides: flat colours, or a smooth colour map
            lossless = len(_webp(image, True)) <= len(_webp(image, False))
        index.append(frames.setdefault(_webp(image, lossless), len(frames)))
        alts.append(sliders.describe(values))
        texts.append(text)
        if values == start_values:
            first = (len(index) - 1, image)
    here, image = first
    uris = ["data:image/webp;base64," + base64.b64encode(frame).decode() for frame in frames]
    n_bytes = sum(map(len, uris))
    if n_bytes > MAX_FRAME_BYTES:
        raise ValueError(
            f"the {len(uris)} frames take {n_bytes:,} bytes, more than a page may carry ({MAX_FRAME_BYTES:,}); "
            "draw fewer, smaller or flatter ones"
        )
    data = {
        # 0: the frame that already stands in the <img>
        "frames": [uri if i != index[here] else 0 for i, uri in enumerate(uris)],
        "index": index if len(frames) < len(index) else 0,
        "alts": alts,
        "texts": texts if any(texts) else 0,
        "values": [[readable(v) for v in options] for options in sliders.choices.values()],
    }
    rows = "".join(
        f'<label class="ex-row"><span class="ex-name">{html.escape(sliders.label(name))}</span>'
        f'<input type="range" min="0" max="{len(options) - 1}" step="1" value="{sliders.begin[name]}" '
        f'aria-valuetext="{html.escape(readable(start_values[name]), True)}">'
        f"<output>{html.escape(readable(start_values[name]))}</output></label>"
        for name, options in sliders.choices.items()
    )
    page = (
        f'<figure class="explore"><style>{web_file("figure.css")}</style>'
        f'<img src="{uris[index[here]]}" alt="{html.escape(alts[here], True)}" '
        f'width="{size[0]}" height="{size[1]}">'
        + (f'<pre class="ex-text">{html.escape(texts[here])}</pre>' if any(texts) else "")
        + f'{rows}<p class="ex-live" role="status" aria-live="polite"></p>'
        "<noscript><p>The sliders need JavaScript; this is the first picture.</p></noscript>"
        + (f"<figcaption>{html.escape(sliders.caption)}</figcaption>" if sliders.caption else "")
        + f'<script type="application/json">{_embed(data)}</script>'
        f"<script>{web_file('explore.js')}</script></figure>"
    )
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    return {
        "text/html": page,
        "image/png": base64.b64encode(png.getvalue()).decode(),
        "text/plain": alts[here] + (f"\n{texts[here]}" if texts[here] else ""),
    }


def _webp(image: Image.Image, lossless: bool) -> bytes:
    buffer = io.BytesIO()
    if lossless:
        flat = image.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        flat.convert("RGB").save(buffer, "WEBP", lossless=True, method=4)
    else:
        image.save(buffer, "WEBP", quality=85, method=4)
    return buffer.getvalue()


def _embed(data: Any) -> str:
    # "</script" inside a script element would end it, "<!--<script" would keep it from ending.
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


# ------------------------------------------------------------------------------------- with a kernel


def _show_live(sliders: Sliders) -> None:
    import ipywidgets

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

    def move(_change: Any = None) -> None:
        values = {name: sliders.choices[name][control.value] for name, control in controls.items()}
        image, text = sliders.render(values)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        alt = html.escape(sliders.describe(values), True)
        picture.value = f'<img src="{uri}" alt="{alt}" style="max-width:100%">' + (
            f"<pre>{html.escape(text)}</pre>" if text else ""
        )

    for control in controls.values():
        control.observe(move, names="value")
    move()
    parts: Sequence = [picture, *controls.values()]
    if sliders.caption:
        parts = [*parts, ipywidgets.HTML(f"<em>{html.escape(sliders.caption)}</em>")]
    display(ipywidgets.VBox(parts))
