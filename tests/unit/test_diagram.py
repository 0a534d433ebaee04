"""Diagrams: what is drawn is what was said, legible on a phone, and read off the network itself."""

import xml.etree.ElementTree as ElementTree

import pytest
import torch
from torch import nn

from lectool import diagram
from lectool.autoencoders import ConvAutoencoder
from lectool.diagram import Diagram, Stage, layers, marks, read_layers

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg):
    return ElementTree.fromstring(svg)


def words(svg):
    return ["".join(text.itertext()) for text in drawn(svg).iter(f"{SVG}text")]


def ppca():
    model = Diagram().put("hidden", {"z": (0, 0, "z_i")}).put("observed", {"x": (1, 0, "x_i")})
    return model.put("parameter", {"W": (1, -1)}).join("z → x", "W → x").plate("z x", "n")


def test_a_graph_holds_what_was_put_and_joined():
    model = ppca()
    assert dict(model.graph.nodes(data="kind")) == {
        "z": "hidden",
        "x": "observed",
        "W": "parameter",
    }
    assert set(model.graph.edges) == {("z", "x"), ("W", "x")}
    assert words(model.svg()) == ["n", "zi", "xi", "W"]


def test_things_stand_in_their_columns_and_rows_and_the_plate_around_them():
    model = ppca()
    boxes, [(plate, label)] = model.boxes(), model.frames()
    assert boxes["z"].x < boxes["x"].x and boxes["z"].y == boxes["x"].y
    assert boxes["W"].x == boxes["x"].x and boxes["W"].y < boxes["x"].y
    left, top, right, bottom = plate.corners
    for name in ("z", "x"):
        a, b, c, d = boxes[name].corners
        assert left < a and top < b and c < right and d < bottom
    assert boxes["W"].y < top and label == "n"


@pytest.mark.parametrize(
    "link, has_head, dashed", [("→", 1, 0), ("⇢", 1, 1), ("—", 0, 0), ("⋯", 0, 1)]
)
def test_links(link, has_head, dashed):
    model = Diagram().put("step", {"a": (0, 0), "b": (1, 0)}).join(f"a {link} b")
    svg = model.svg()
    assert svg.count("<polygon") == has_head
    assert svg.count("stroke-dasharray") == dashed


def test_an_arrow_ends_at_the_rim_of_what_it_points_to():
    model = Diagram().put("hidden", {"a": (0, 0), "b": (1, 0)}).join("a → b")
    a, b = model.boxes().values()
    tip = drawn(model.svg()).find(f"{SVG}polygon").get("points").split()
    xs = [float(point.split(",")[0]) for point in tip]
    assert a.corners[2] < min(xs) < max(xs) < b.corners[0]
    assert b.corners[0] - max(xs) < 5


def test_colors_come_from_the_text_around():
    svg = ppca().svg()
    used = {e.get(k) for e in drawn(svg).iter() for k in ("stroke", "fill")} - {None, "none"}
    assert used == {"currentColor"}
    assert "<script" not in svg and "@font-face" not in svg


def test_shapes_are_read_off_the_network_and_it_is_left_as_it_was():
    net = nn.Sequential(
        nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)
    )
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    assert read_layers(net, (6,)) == [
        Stage("", (6,)),
        Stage("linear, batch norm, ReLU, dropout", (4,)),
        Stage("linear", (2,)),
    ]
    assert net.training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_images_keep_their_sides():
    conv = ConvAutoencoder()
    shapes = [stage.shape for stage in read_layers([conv.encoder, conv.decoder], (784,))]
    assert shapes[:5] == [(1, 28, 28), (16, 10, 10), (16, 5, 5), (8, 3, 3), (8, 2, 2)]
    assert shapes[-1] == (1, 28, 28)


def test_bars_are_as_wide_as_the_root_of_the_numbers_in_them():
    net = nn.Sequential(nn.Linear(100, 25), nn.ReLU(), nn.Linear(25, 9))
    svg = layers(net, (100,), code=-1, names={0: "data"})
    wide = [float(bar.get("width")) for bar in drawn(svg).iter(f"{SVG}rect")]
    assert wide[1] / wide[0] == pytest.approx(0.5, abs=1e-3)
    assert wide[2] / wide[0] == pytest.approx(0.3, abs=1e-3)
    assert words(svg) == [
        "100 · data",
        "linear, ReLU",
        "25",
        "linear",
        "9",
    ] or "100 · data" in words(svg)
    colors = [bar.get("fill") for bar in drawn(svg).iter(f"{SVG}rect")]
    assert colors == [marks.BLUE, marks.BLUE, marks.ORANGE]


def test_a_matrix_in_three_steps():
    A = torch.tensor([[1.0, 0.7], [0.1, 0.8]])
    curves = [p.get("points") for p in drawn(diagram.svd(A)).iter(f"{SVG}polygon")]
    curves = [torch.tensor([[float(v) for v in xy.split(",")] for xy in c.split()]) for c in curves]
    shapes = [c[:-1] - c[:-1].mean(0) for c in curves if len(c) > 10]
    assert len(shapes) == 4
    spread = [torch.linalg.svdvals(s.double()) for s in shapes]
    S = torch.linalg.svdvals(A.double())
    for before, after in ((0, 1), (2, 3)):  # turns change no lengths
        torch.testing.assert_close(spread[before], spread[after], rtol=5e-3, atol=0)
    torch.testing.assert_close(spread[2] / spread[1], S, rtol=5e-3, atol=0)


def test_on_the_page_there_are_words_for_those_who_do_not_see(monkeypatch):
    shown = []
    monkeypatch.setattr("lectool.diagram.page.display", lambda bundle, raw: shown.append(bundle))
    diagram.show(ppca(), alt='z points to x, "n" times', caption="PPCA")
    page = ElementTree.fromstring(shown[0]["text/html"])
    assert page.find(f"{SVG}svg").get("aria-label") == 'z points to x, "n" times'
    assert page.find("figcaption").text == "PPCA"
    assert shown[0]["text/plain"] == 'z points to x, "n" times'


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Diagram().svg(), "empty"),
        (lambda: ppca().put("hidden", {"z": (3, 3)}), "there is a 'z' already"),
        (lambda: Diagram().put("cloud", {"z": (0, 0)}), "kind is 'cloud'"),
        (lambda: ppca().join("z → y"), "names 'y'"),
        (lambda: ppca().plate("z y", "n"), "the plate names 'y'"),
        (lambda: ppca().join("z → x", elbow="?"), "elbow is"),
        (lambda: Diagram().put("step", {"a": (0, 0), "b": (0.1, 0)}).svg(), "overlap"),
        (lambda: Diagram().put("text", {"a": (0, 0, 60 * "m")}).svg(), "legible on a phone"),
        (lambda: layers(nn.Linear(3, 2), (3,), code=5), r"stage is 5; expected .*\[-2, 1\]"),
        (lambda: layers(nn.Linear(3, 2), (3,), names={0: 60 * "m"}), "shorter names"),
        (lambda: diagram.svd(torch.zeros(2, 2)), "A is zero"),
        (lambda: diagram.svd(torch.ones(3, 2)), "A has shape"),
        (lambda: diagram.show(ppca(), alt="a plot"), "at least 15"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
