r"""What diagrams are drawn with: boxes, lines and words, as pieces of SVG."""

import html
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

# At 460 units a phone 360 pixels wide shows letters of 16 units at 11 pixels.
WIDEST, SIZE, LINE = 460, 16, 21
BLUE, ORANGE = "#3b8bd0", "#dd7722"


class Box(NamedTuple):
    r"""A rectangle by its middle and its sides."""

    x: float
    y: float
    width: float
    height: float

    @property
    def corners(self) -> tuple[float, float, float, float]:
        r"""Left, top, right and bottom."""
        w, h = self.width / 2, self.height / 2
        return self.x - w, self.y - h, self.x + w, self.y + h

    def overlaps(self, other: "Box") -> bool:
        r"""Whether the two share more than their edges."""
        near_x = abs(self.x - other.x) < (self.width + other.width) / 2 - 1e-6
        return near_x and abs(self.y - other.y) < (self.height + other.height) / 2 - 1e-6


def around(boxes: Sequence[Box], pad: float = 0.0, below: float = 0.0) -> Box:
    r"""The smallest box around others, with a rim, and with more room below."""
    left, top, right, bottom = zip(*(box.corners for box in boxes))
    a, b, c, d = min(left) - pad, min(top) - pad, max(right) + pad, max(bottom) + pad + below
    return Box((a + c) / 2, (b + d) / 2, c - a, d - b)


def picture(parts: Sequence[str], room: Box) -> str:
    r"""The parts as one SVG, whose view is ``room``.

    Raises:
        ValueError: if the room is wider than a phone can show.
    """
    if room.width > WIDEST + 8:
        raise ValueError(
            f"the diagram is {room.width:.0f} units wide, at most {WIDEST} are legible on a phone; "
            "expected more rows or shorter labels"
        )
    left, top, _, _ = room.corners
    view = f"{left:.1f} {top:.1f} {room.width:.1f} {room.height:.1f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" width="{room.width:.0f}" '
        'style="max-width:100%;height:auto;overflow:visible" font-family="system-ui, sans-serif" '
        f'font-size="{SIZE}" fill="none" stroke-linejoin="round">{"".join(parts)}</svg>'
    )


# --- lines and shapes ---------------------------------------------------------------------------------------------


def stroke_with_head(
    points: Sequence[tuple[float, float]],
    color: str = "currentColor",
    width: float = 1.5,
    *,
    head: bool = True,
    dashed: bool = False,
    smooth: bool = True,
) -> str:
    r"""A line with an arrow's head; of three points the second one pulls, or is a corner."""
    (x_1, y_1), (x, y) = points[-2:]
    angle, long, half = math.atan2(y - y_1, x - x_1), 6 + 2 * width, 0.42
    shaft, tip = list(points), ""
    if head:
        wings = [
            (x - long * math.cos(angle + s), y - long * math.sin(angle + s)) for s in (half, -half)
        ]
        tip = polygon([(x, y), *wings], fill=color)
        shaft[-1] = (x - 0.8 * long * math.cos(angle), y - 0.8 * long * math.sin(angle))
    dash = {"stroke_dasharray": "5 4"} if dashed else {}
    return line_path(shaft, smooth=smooth, stroke=color, stroke_width=width, **dash) + tip


def line_path(
    points: Sequence[tuple[float, float]],
    *,
    smooth: bool = True,
    stroke: str = "currentColor",
    **style: object,
) -> str:
    r"""A line through points; where it is smooth and has three, the second one pulls it."""
    spots = [f"{x:.1f} {y:.1f}" for x, y in points]
    curve = f"M{spots[0]} Q{spots[1]} {spots[-1]}"
    path = curve if smooth and len(spots) == 3 else "M" + " L".join(spots)
    return f'<path d="{path}"{attributes(stroke=stroke, **style)}/>'


def polygon(points: Sequence[tuple], **style) -> str:
    r"""A closed shape."""
    spots = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon points="{spots}"{attributes(**style)}/>'


def rectangle(
    box: Box, *, radius: float, stroke: str = "currentColor", stroke_width: float = 1.5, **style
) -> str:
    r"""A rectangle with round corners; a circle where the radius is half of its side."""
    left, top, _, _ = box.corners
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{radius:.1f}"'
        f"{attributes(stroke=stroke, stroke_width=stroke_width, **style)}/>"
    )


def attributes(**style: object) -> str:
    r"""Settings as SVG writes them."""
    return "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())


# --- words ----------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    r"""Characters in one style; ``level`` is −1 for lowered, 1 for raised ones."""

    characters: str
    level: int
    italic: bool


def runs(line: str, math_mode: bool = False) -> list[Run]:
    r"""A line of a label, cut where its style changes."""
    found = []
    for piece in re.findall(r"\$|[_^]\{[^}]*\}|[_^].|[^$_^]+", line):
        if piece == "$":
            math_mode = not math_mode
        elif piece[0] in "_^":
            found.append(Run(piece[1:].strip("{}"), -1 if piece[0] == "_" else 1, math_mode))
        else:
            found.append(Run(piece, 0, math_mode))
    return found


def text_size(label: str) -> tuple[float, float]:
    r"""About how wide and how high a label is; rather too much than too little."""
    widths = [0.0]
    for line in label.split("\n"):
        widths.append(0.0)
        for run in runs(line):
            wide = sum(not unicodedata.combining(c) for c in run.characters)
            widths[-1] += wide * SIZE * (0.45 if run.level else 0.6)
    return max(widths), LINE * (label.count("\n") + 1) if label else 0.0


def text(label: str, x: float, y: float, *, anchor: str = "middle", math_mode: bool = False) -> str:
    r"""A label whose lines stand around the height y."""
    lines, drawn = label.split("\n") if label else [], []
    for i, line in enumerate(lines):
        height, spans = 0, []
        base = y + 5.5 + LINE * (i - (len(lines) - 1) / 2)
        for run in runs(line, math_mode):
            style = {"dy": -5 * run.level - height} if -5 * run.level != height else {}
            height = -5 * run.level
            if run.level:
                style["font_size"] = "75%"
            if run.italic:
                style |= {"font_family": "STIX Two Text, Cambria, Georgia, Times New Roman, serif"}
                style |= {"font_style": "italic"} if re.search("[^\\W\\d]", run.characters) else {}
            spans.append(f"<tspan{attributes(**style)}>{html.escape(run.characters)}</tspan>")
        drawn.append(
            f'<text x="{x:.1f}" y="{base:.1f}" text-anchor="{anchor}" fill="currentColor">{"".join(spans)}</text>'
        )
    return "".join(drawn)
