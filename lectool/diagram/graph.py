r"""Things on a grid with arrows between them and plates around them."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

import networkx

from lectool import check
from lectool.diagram import marks
from lectool.diagram.marks import BLUE, ORANGE, Box

__all__ = ["KINDS", "Diagram"]

KINDS = {
    "hidden": "a circle: a random variable that nobody sees",
    "observed": "a shaded circle: one that is seen",
    "parameter": "a dot with its name beside it",
    "network": "a blue box: something with weights",
    "narrow": "a blue trapezoid that closes to the right: an encoder",
    "wide": "a blue trapezoid that opens to the right: a decoder",
    "step": "a box: a computation without weights",
    "loss": "an orange box: what training makes small",
    "operator": "a small circle with a sign",
    "text": "words without a frame",
}
ROUND, MATH = ("hidden", "observed", "operator"), ("hidden", "observed", "parameter", "operator")
LINKS = {"→": {}, "⇢": {"dashed": True}, "—": {"head": False}, "⋯": {"head": False, "dashed": True}}


class Diagram:
    r"""A graph of named things on a grid, with arrows between them and plates around them.

    A column lies as far to the right as what stands in the same rows before it asks for, a row below all that stands
    in the row before it; numbers between two whole ones lie between two columns or rows. The graph is a
    :class:`networkx.DiGraph`, in ``graph``.

    Arguments:
        gap: room between columns and between rows.

    Example:
        >>> ppca = Diagram().put("hidden", {"z": (0, 0)}).put("observed", {"x": (1, 0)})
        >>> ppca = ppca.put("parameter", {"W": (1, -1)}).join("z → x", "W → x").plate("z x", "n")
        >>> list(ppca.graph.edges)
        [('z', 'x'), ('W', 'x')]
    """

    def __init__(self, *, gap: tuple[float, float] = (26.0, 30.0)) -> None:
        check.positive(column_gap=gap[0], row_gap=gap[1])
        self.graph, self.gap = networkx.DiGraph(), gap
        self.plates: list[tuple[list[str], str]] = []

    def put(self, kind: str, places: Mapping[str, tuple]) -> "Diagram":
        r"""Adds things of one kind.

        Arguments:
            kind: one of :data:`KINDS`.
            places: name → (column, row), or (column, row, label) where the label is not the name.

        Returns:
            the diagram, so that calls can be chained.

        Raises:
            ValueError: if the kind is unknown, or a name is taken.
        """
        check.one_of(KINDS, kind=kind)
        for name, (column, row, *label) in places.items():
            if name in self.graph:
                raise ValueError(f"there is a {name!r} already; expected another name")
            self.graph.add_node(name, kind=kind, at=(column, row), label=[*label, name][0])
        return self

    def join(
        self,
        *chains: str,
        label: str = "",
        bend: float = 0.0,
        side: int = 1,
        elbow: str = "",
        to: float = 0.0,
    ) -> "Diagram":
        r"""Adds arrows along chains of names: ``join("z → G → D", "x → D")``.

        Arguments:
            chains: names with ``→``, ``⇢`` (dashed), ``—`` (a line without a head) or ``⋯`` (dashed,
                without a head) between them.
            label: beside each of these arrows.
            bend: how far the middle leaves the straight line, as a share of its length; positive to the left of
                the direction of travel.
            side: 1 for a label above or on the right of its arrow, −1 for the other side.
            elbow: ``"—|"`` for an arrow that first runs level and then up or down, ``"|—"`` for the other way round.
            to: how far below the middle of the last thing the arrow ends, in units.

        Raises:
            ValueError: if a name is not in the diagram.
        """
        check.one_of((1, -1), side=side)
        check.one_of(("", "—|", "|—"), elbow=elbow)
        for chain in chains:
            names = re.split("( [→⇢—⋯] )", chain)
            for a, link, b in zip(names[::2], names[1::2], names[2::2]):
                for name in (a, b):
                    if name not in self.graph:
                        known = ", ".join(self.graph)
                        raise ValueError(f"{chain!r} names {name!r}; the diagram has {known}")
                how = {"label": label, "bend": bend, "side": side, "elbow": elbow, "to": to}
                self.graph.add_edge(a, b, **how | LINKS[link.strip()])
        return self

    def plate(self, names: str, label: str) -> "Diagram":
        r"""Draws a frame around things that are repeated.

        Arguments:
            names: with spaces between them, as are the things inside; plates that are nested come from the inside
                out.
            label: how often, in the lower right corner.

        Raises:
            ValueError: if a name is not in the diagram.
        """
        members = names.split()
        if missing := [name for name in members if name not in self.graph]:
            raise ValueError(
                f"the plate names {missing[0]!r}; the diagram has {', '.join(self.graph)}"
            )
        self.plates.append((members, label))
        return self

    def boxes(self) -> dict[str, Box]:
        r"""Where each thing stands.

        Raises:
            ValueError: if the diagram is empty, or two things overlap.
        """
        if not self.graph:
            raise ValueError("the diagram is empty; expected at least one thing")
        sizes = {name: node_size(**node) for name, node in self.graph.nodes(data=True)}
        x, y = (self._lines(axis, sizes) for axis in (0, 1))
        at = self.graph.nodes(data="at")
        found = {name: Box(x(c), y(r), *sizes[name]) for name, (c, r) in at}
        names = list(found)
        for i, a in enumerate(names):
            for b in names[:i]:
                if found[a].overlaps(found[b]):
                    raise ValueError(f"{a!r} and {b!r} overlap; expected another column or row")
        return found

    def _lines(self, axis: int, sizes: dict[str, tuple[float, float]]) -> Callable[[float], float]:
        r"""From a column (0) or row (1) to its middle."""
        at = dict(self.graph.nodes(data="at"))
        first, last = (f(place[axis] for place in at.values()) for f in (min, max))
        middles: dict[int, float] = {}
        for i in range(math.floor(first), math.ceil(last) + 1):
            # In a row nothing touches its neighbors; between rows, all of one and all of the next keep apart.
            bounds = [
                middles[at[a][axis]]
                + (sizes[a][axis] + sizes[b][axis]) / 2
                + self._room(a, b, axis)
                for b in at
                for a in at
                if at[b][axis] == i
                and at[a][axis] in middles
                and (axis == 1 or at[a][1] == at[b][1])
            ]
            least = middles[i - 1] + self.gap[axis] + 20 if middles else 0.0
            middles[i] = max([least, *bounds])

        def middle(place: float) -> float:
            low = math.floor(place)
            share = place - low
            return middles[low] + (share * (middles[low + 1] - middles[low]) if share else 0.0)

        return middle

    def _room(self, a: str, b: str, axis: int) -> float:
        r"""Between two things: more where words stand beside a level arrow."""
        edge = self.graph.edges.get((a, b)) or self.graph.edges.get((b, a)) or {"label": ""}
        words = marks.text_size(edge["label"])[0] if axis == 0 else 0.0
        return max(self.gap[axis], words + 16 if words else 0.0)

    def arrows(self) -> dict[tuple[str, str], tuple[str, list[Box]]]:
        r"""Each arrow as SVG, and the room that it takes beyond what it joins."""
        boxes, kinds = self.boxes(), self.graph.nodes(data="kind")
        return {
            (a, b): arrow(boxes[a], boxes[b], [kinds[a], kinds[b]], **edge)
            for a, b, edge in self.graph.edges(data=True)
        }

    def frames(self) -> list[tuple[Box, str]]:
        r"""The plates, around their things and the words between these, with their labels."""
        boxes, arrows = self.boxes(), self.arrows()
        found: list[tuple[Box, str]] = []
        for i, (members, label) in enumerate(self.plates):
            held = [boxes[name] for name in members]
            for (a, b), (_, spots) in arrows.items():
                held += spots if {a, b} <= {*members} else []
            for (names, _), (frame, _) in zip(self.plates, found):
                held += [frame] if {*names} <= {*members} else []
            # Each a little wider than the one before it, so that no two of their lines coincide.
            found.append((marks.around(held, pad=10 + 6 * i, below=marks.LINE - 4), label))
        return found

    def svg(self) -> str:
        r"""The picture.

        Raises:
            ValueError: if it is empty, things overlap, or it is wider than a phone can show.
        """
        boxes, arrows, frames = self.boxes(), self.arrows(), self.frames()
        parts = [draw_plate(frame, label) for frame, label in frames]
        parts += [line for line, _ in arrows.values()]
        for name, node in self.graph.nodes(data=True):
            parts.append(draw_node(boxes[name], node["kind"], node["label"], self._away(name)))
        room = [*boxes.values(), *(frame for frame, _ in frames)]
        room += [spot for _, spots in arrows.values() for spot in spots]
        return marks.picture(parts, marks.around(room, pad=4))

    def _away(self, name: str) -> str:
        r"""On which side of a dot its name stands: away from what the dot points to."""
        column = self.graph.nodes[name]["at"][0]
        targets = [self.graph.nodes[b]["at"][0] for b in self.graph.successors(name)]
        return "right" if targets and sum(targets) / len(targets) < column else "left"


# --- one thing, one arrow --------------------------------------------------------------------------------------------


def node_size(kind: str, label: str, **_) -> tuple[float, float]:
    r"""Width and height of a thing."""
    width, height = marks.text_size(label)
    if kind in ROUND:
        side = 26.0 if kind == "operator" else 40.0
        return max(side, width + 18), max(side, height)
    if kind == "parameter":
        return 2 * (width + 10), height
    pad = {"text": 0, "narrow": 30, "wide": 30}.get(kind, 22)
    return width + pad, height + (0 if kind == "text" else 16 if pad == 22 else 26)


def draw_plate(frame: Box, label: str) -> str:
    r"""The frame around what is repeated, with how often in its corner."""
    _, _, right, bottom = frame.corners
    words = marks.text(label, right - 10, bottom - 11, anchor="end", math_mode=True)
    return marks.rectangle(frame, radius=8, stroke_width=1.2) + words


def draw_node(box: Box, kind: str, label: str, side: str) -> str:
    r"""One thing with its label; ``side`` is where the name of a dot stands."""
    left, top, right, bottom = box.corners
    words = marks.text(label, box.x, box.y, math_mode=kind in MATH)
    if kind == "text":
        return words
    if kind == "parameter":
        x, anchor = (box.x + 10, "start") if side == "right" else (box.x - 10, "end")
        dot = f'<circle cx="{box.x:.1f}" cy="{box.y:.1f}" r="4.5" fill="currentColor"/>'
        return dot + marks.text(label, x, box.y, anchor=anchor, math_mode=True)
    if kind in ("narrow", "wide"):
        cut = 12
        a, b = (0, cut) if kind == "narrow" else (cut, 0)
        points = [(left, top + a), (right, top + b), (right, bottom - b), (left, bottom - a)]
        return marks.polygon(points, fill=BLUE, fill_opacity=0.16, stroke=BLUE) + words
    color = {"network": BLUE, "loss": ORANGE}.get(kind, "currentColor")
    opacity = {"network": 0.16, "loss": 0.16, "observed": 0.2}.get(kind, 0)
    radius = box.height / 2 if kind in ROUND else 6
    return (
        marks.rectangle(box, radius=radius, stroke=color, fill=color, fill_opacity=opacity) + words
    )


def arrow(
    start: Box,
    end: Box,
    kinds: Sequence[str],
    *,
    label: str,
    bend: float,
    side: int,
    elbow: str,
    to: float,
    head: bool = True,
    dashed: bool = False,
) -> tuple[str, list[Box]]:
    r"""An arrow from edge to edge, and the room that it takes with its label."""
    a, b = (start.x, start.y), (end.x, end.y + to)
    dx, dy = b[0] - a[0], b[1] - a[1]
    middle = ((a[0] + b[0]) / 2 + bend * dy, (a[1] + b[1]) / 2 - bend * dx)
    if elbow:
        middle = (b[0], a[1]) if elbow == "—|" else (a[0], b[1])
    points = [rim(start, kinds[0], a, middle, 1), middle, rim(end, kinds[1], b, middle, 2)]
    if not bend and not elbow:
        del points[1]
    drawn = marks.stroke_with_head(points, head=head, dashed=dashed, smooth=not elbow)
    # A quadratic curve passes half way between its control point and the middle of its ends.
    x, y = ((p + q) / 2 for p, q in zip(points[0], points[-1]))
    if elbow:
        x, y = ((p + q) / 2 for p, q in zip(points[0 if elbow == "—|" else 2], middle))
    elif bend:
        x, y = (x + middle[0]) / 2, (y + middle[1]) / 2
    width, height = marks.text_size(label)
    spots = [Box(*middle, 2, 2)] * bool(elbow) + [Box(x, y, 2, 2)]
    if elbow or abs(dx) > abs(dy):
        y, anchor = y - side * (height / 2 + 2), "middle"
        spots.append(Box(x, y, width, height))
    else:
        x, anchor = x + side * 7, "start" if side > 0 else "end"
        spots.append(Box(x + side * width / 2, y, width, height))
    return drawn + marks.text(label, x, y, anchor=anchor), spots if label else spots[:-1]


def rim(box: Box, kind: str, at: tuple, towards: tuple, space: float) -> tuple[float, float]:
    r"""Where a line from ``at``, inside of the box, leaves it, and a little further."""
    dx, dy = towards[0] - at[0], towards[1] - at[1]
    length = math.hypot(dx, dy)
    if kind == "parameter":
        share = 5 / length
    elif kind in ROUND and box.width == box.height:
        share = box.width / 2 / length
    else:
        left, top, right, bottom = box.corners
        across = (right - at[0] if dx > 0 else left - at[0]) / dx if dx else math.inf
        down = (bottom - at[1] if dy > 0 else top - at[1]) / dy if dy else math.inf
        share = min(across, down)
    share += space / length
    return at[0] + share * dx, at[1] + share * dy
