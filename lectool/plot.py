r"""Pictures in one style: color-blind-safe, labeled, on a white card that dark pages can carry."""

import base64
import html
import json
from collections.abc import Collection, Sequence

import matplotlib.pyplot as plt
from IPython.core.pylabtools import print_figure
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from torch import Tensor

from lectool.live import is_live

__all__ = [
    "COLORS",
    "DIGIT_COLORS",
    "curves",
    "image_grid",
    "image_rows",
    "panels",
    "scatter",
    "show",
    "show_image",
    "style",
    "table",
]

# Okabe & Ito (2008): told apart with every common color blindness, and in print.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F"]
# Ten classes: no ten colors are safe for everybody, so that pictures of classes also carry digits.
DIGIT_COLORS = (
    "#332288 #88CCEE #44AA99 #117733 #999933 #DDCC77 #CC6677 #882255 #AA4499 #7F7F7F".split()
)
MARKERS = "osD^vP*X<>"


def class_color(label: int) -> str:
    r"""The color of a class; repeats after ten."""
    return DIGIT_COLORS[label % len(DIGIT_COLORS)]


def style() -> None:
    r"""Sets matplotlib's defaults for the whole notebook."""
    plt.rcParams.update(
        {
            "figure.facecolor": "white",
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": plt.cycler(color=COLORS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#E5E5E5",
            "axes.axisbelow": True,
            "axes.titlesize": 11,
            "legend.frameon": False,
            "lines.linewidth": 2,
            "image.cmap": "gray",
        }
    )


def panels(figure: Figure, *, tight: bool = False) -> dict[str, object]:
    r"""How a picture is taken apart on a narrow screen, where its columns of panels stand one below the other.

    Arguments:
        figure: with its layout done.
        tight: whether the picture is cut to what is drawn, with 0.1 inch around.

    Returns:
        ``cuts``, from 0 to 1 in shares of the width; ``top``, where the panels begin, in shares of the width; and the
        ``title`` above them all. Empty where there are no two or three columns of panels, or cutting would hurt.
    """
    columns: dict[int, list[Bbox]] = {}
    for ax in figure.axes:
        # A color bar stands with the panel whose colors it explains.
        spec = getattr(ax, "_colorbar", None) and ax._colorbar.mappable.axes.get_subplotspec()
        spec = spec or ax.get_subplotspec()
        if spec is None or len(spec.get_topmost_subplotspec().colspan) > 1:
            return {}
        column = spec.get_topmost_subplotspec().colspan.start
        columns.setdefault(column, []).append(ax.get_tightbbox())
    if not 2 <= len(columns) <= 3 or figure.legends:
        return {}
    boxes = [Bbox.union(columns[column]) for column in sorted(columns)]
    whole = figure.get_tightbbox().padded(0.1) if tight else figure.bbox_inches
    left, top, width = whole.x0 * figure.dpi, whole.y1 * figure.dpi, whole.width * figure.dpi
    inner = [(a.x1 + b.x0) / 2 for a, b in zip(boxes, boxes[1:])]
    if any(a.x1 > b.x0 for a, b in zip(boxes, boxes[1:])):
        return {}
    cuts = [0.0, *((x - left) / width for x in inner), 1.0]
    title = figure.get_suptitle()
    above = figure._suptitle.get_window_extent().y0 if title else top
    return {
        "cuts": [round(float(c), 4) for c in cuts],
        "top": round(float(top - above) / width, 4),
        "title": title,
    }


def show(alt: str) -> None:
    r"""Shows the figure just drawn, in place of ``plt.show()``, with a description that every front end keeps.

    The description travels in the picture (where the page's builder finds it), in the output's metadata (where
    nbconvert does), and, where somebody sits before the kernel, in HTML: JupyterLab and Colab give none to a PNG.

    Arguments:
        alt: what there is to see, in a sentence or two, for whoever does not see it.

    Raises:
        ValueError: if there is no open figure, or more than one, or the description is shorter than 15 characters.
    """
    if len(plt.get_fignums()) != 1 or len(alt) < 15:
        raise ValueError(
            f"{len(plt.get_fignums())} figures are open, and alt is {alt!r}; expected one, and a sentence"
        )
    figure = plt.gcf()
    png = base64.b64encode(_png(figure, alt)).decode()
    plt.close(figure)
    if is_live():
        image = f'<img src="data:image/png;base64,{png}" alt="{html.escape(alt, True)}">'
        display({"text/html": image, "text/plain": alt}, raw=True)
    else:
        described = {"image/png": {"alt": alt}}
        display({"image/png": png, "text/plain": alt}, metadata=described, raw=True)


def _png(figure: Figure, alt: str) -> bytes:
    r"""A figure as the notebook shows it, with its description and the places where its panels can be cut."""
    n_columns = {getattr(ax.get_subplotspec(), "colspan", range(1)).start for ax in figure.axes}
    metadata = {"Description": alt}
    if 2 <= len(n_columns) <= 3:
        figure.draw_without_rendering()
        if facts := panels(figure, tight=True):
            metadata["panels"] = json.dumps(facts)
    return print_figure(figure, "png", bbox_inches="tight", pad_inches=0.1, metadata=metadata)


def image_rows(
    rows: dict[str, Tensor],
    *,
    shape: tuple[int, int] = (28, 28),
    title: str = "",
    columns: Sequence[str] = (),
    signed: bool | Collection[str] = False,
    scale: float = 0.75,
) -> Figure:
    r"""Images in labeled rows, one kind a row, so that a column shows one thing in several versions.

    Arguments:
        rows: name of a row → images, shape (n, pixels); the same n everywhere.
        shape: of one image, in pixels.
        title: of the figure.
        columns: names of the columns.
        signed: whether to color each image from its own −max (orange) over 0 (white) to +max (purple),
            as weights need it, or the names of the rows to which this applies; gray values in [0, 1]
            otherwise.
        scale: width of one image in inches.
    """
    n = len(next(iter(rows.values())))
    label = max(len(name) for name in rows) * 0.075
    figure, axes = plt.subplots(
        len(rows),
        n,
        figsize=(n * scale + label, len(rows) * scale * shape[0] / shape[1] + 0.5),
        squeeze=False,
    )
    for (name, images), line in zip(rows.items(), axes, strict=True):
        for j, ax in enumerate(line):
            colored = signed if isinstance(signed, bool) else name in signed
            show_image(ax, images[j], shape, signed=colored)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, name in zip(axes[0], columns, strict=False):
        ax.set_title(name, fontsize=9)
    figure.suptitle(title)
    return figure


def image_grid(
    images: Tensor,
    *,
    shape: tuple[int, int] = (28, 28),
    n_columns: int = 10,
    title: str = "",
    signed: bool | Collection[int] = False,
    titles: Sequence[str] = (),
    scale: float = 0.75,
) -> Figure:
    r"""Images row by row in one grid.

    Arguments:
        images: shape (n, pixels).
        titles: one a picture.
        signed: as in :func:`image_rows`; or the indices of the images to color.
        shape, title, scale: as in :func:`image_rows`.
    """
    n_rows = -(-len(images) // n_columns)
    height = scale * shape[0] / shape[1] + (0.2 if titles else 0)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(n_columns * scale, n_rows * height + 0.45), squeeze=False
    )
    for i, ax in enumerate(axes.flat):
        if i < len(images):
            show_image(
                ax, images[i], shape, signed=signed if isinstance(signed, bool) else i in signed
            )
            if titles:
                ax.set_title(titles[i], fontsize=8)
        else:
            ax.axis("off")
    figure.suptitle(title)
    return figure


def show_image(ax: Axes, image: Tensor, shape: tuple[int, int], *, signed: bool = False) -> None:
    r"""Draws one image into ``ax`` without ticks."""
    pixels = image.detach().cpu().reshape(shape).numpy()
    if signed:
        limit = max(abs(pixels).max(), 1e-12)
        ax.imshow(pixels, cmap="PuOr", vmin=-limit, vmax=limit)
    else:
        ax.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def curves(
    ax: Axes,
    lines: dict[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    title: str,
    log: bool = False,
    log_x: bool = False,
) -> None:
    r"""Named lines with a marker each, so that they are told apart without color.

    Arguments:
        lines: name → (x, y).
        x_label, y_label, title: of the axes.
        log: whether the y axis is logarithmic.
        log_x: whether the x axis is; it is then labeled at the first line's points.
    """
    for (name, (x, y)), marker in zip(lines.items(), MARKERS, strict=False):
        ax.plot(x, y, marker=marker, markersize=4, label=name)
    ax.set(xlabel=x_label, ylabel=y_label, title=title)
    if log:
        ax.set_yscale("log")
    if log_x:
        points = list(next(iter(lines.values()))[0])
        ax.set_xscale("log")
        ax.set_xticks(points, [f"{p:g}" for p in points])
        ax.minorticks_off()
    if len(lines) > 1:
        ax.legend()


def scatter(
    ax: Axes,
    z: Tensor,
    y: Tensor,
    *,
    names: Sequence[str] | None = None,
    x_label: str = "$z_1$",
    y_label: str = "$z_2$",
    title: str = "",
) -> None:
    r"""Codes in the plane, colored by class, each class named at its median so that color is not needed.

    Arguments:
        z: codes, shape (n, 2).
        y: class of each, shape (n,), integers.
        names: of the classes; their numbers where ``None``.
    """
    z, y = z.detach().cpu(), y.cpu()
    n_classes = int(y.max()) + 1
    ax.scatter(
        z[:, 0],
        z[:, 1],
        c=y,
        cmap=ListedColormap([class_color(i) for i in range(n_classes)]),
        vmin=-0.5,
        vmax=n_classes - 0.5,
        s=4,
        alpha=0.6,
        linewidths=0,
    )
    for label in y.unique().tolist():
        middle = z[y == label].median(0).values
        ax.annotate(
            names[label] if names else str(label),
            middle.tolist(),
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": class_color(label)},
        )
    ax.set(xlabel=x_label, ylabel=y_label, title=title)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    r"""A table of what was measured, as Markdown: readable on the page and in every front end.

    Arguments:
        header: names of the columns.
        rows: one sequence a row; numbers are shown with four digits.

    Raises:
        ValueError: if a row has another length than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"the row {list(row)} has {len(row)} cells; expected {len(header)}")
    lines = [[f"{c:,.4g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    marks = [
        "---:" if all(isinstance(row[j], int | float) for row in rows) else ":---"
        for j in range(len(header))
    ]
    text = "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |"
        for line in [list(header), marks, *lines]
    )
    display({"text/markdown": text, "text/plain": text}, raw=True)
