"""Pictures: titles, labels, classes by name, descriptions, cuts into panels, tables in Markdown."""

import base64
import html
import io
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from lectool import plot


@pytest.fixture(autouse=True)
def clean():
    with plt.rc_context():
        yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.subplots()[1]


def pictures(figure) -> list:
    return [ax.images[0].get_array() for ax in figure.axes if ax.images]


def test_image_rows_put_one_kind_in_a_row_and_name_it():
    x = torch.rand(3, 20)
    figure = plot.image_rows(
        {"data": x, "copy": x**2}, shape=(5, 4), title="T", columns=["a", "b", "c"]
    )
    assert figure.get_suptitle() == "T"
    axes = figure.axes
    assert [ax.get_ylabel() for ax in axes] == ["data", "", "", "copy", "", ""]
    assert [ax.get_title() for ax in axes] == ["a", "b", "c", "", "", ""]
    for image, expected in zip(pictures(figure), [*x, *x**2]):
        torch.testing.assert_close(torch.as_tensor(image.data), expected.reshape(5, 4))
    assert {ax.images[0].get_clim() for ax in axes} == {
        (0, 1)
    }  # gray means the same in all of them
    assert all(len(ax.get_xticks()) == len(ax.get_yticks()) == 0 for ax in axes)


def test_signed_images_are_symmetric_about_zero():
    w = torch.tensor([[-3.0, 1.0, 0.0, 0.5], [0.1, 0.2, 0.0, 0.05], [0.0, 0.0, 0.0, 0.0]])
    figure = plot.image_rows({"W": w}, shape=(2, 2), signed=True)
    limits = [ax.images[0].get_clim() for ax in figure.axes]
    assert [low for low, _ in limits] == [-high for _, high in limits]
    assert [high for _, high in limits] == pytest.approx([3, 0.2, 0], abs=1e-6)
    middle = figure.axes[0].images[0].cmap(0.5)
    assert min(middle[:3]) > 0.9  # 0 is white


def test_image_grid_leaves_the_rest_empty():
    x = torch.rand(7, 16, requires_grad=True)
    figure = plot.image_grid(
        x, shape=(4, 4), n_columns=3, title="T", titles=[str(i) for i in range(7)]
    )
    assert figure.get_suptitle() == "T" and len(figure.axes) == 9 and len(pictures(figure)) == 7
    assert [ax.get_title() for ax in figure.axes] == [*"0123456", "", ""]
    assert [ax.axison for ax in figure.axes] == [True] * 7 + [False] * 2
    torch.testing.assert_close(
        torch.as_tensor(pictures(figure)[5].data), x[5].detach().reshape(4, 4)
    )


def test_curves_are_told_apart_without_color(ax):
    plot.curves(
        ax,
        {"one": ([1, 2], [3, 4]), "two": ([1, 2], [5, 6])},
        x_label="X",
        y_label="Y",
        title="T",
        log=True,
    )
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(), ax.get_yscale()) == (
        "X",
        "Y",
        "T",
        "log",
    )
    assert len({line.get_marker() for line in ax.lines}) == 2
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["one", "two"]
    assert ax.lines[1].get_ydata().tolist() == [5, 6]


def test_one_curve_needs_no_legend(ax):
    plot.curves(ax, {"one": ([1, 2], [3, 4])}, x_label="X", y_label="Y", title="T")
    assert ax.get_legend() is None and ax.get_yscale() == "linear"


@pytest.mark.parametrize("classes", [[0, 1, 2], list(range(10)), [3, 5], [0], [7]])
def test_scatter_names_each_class_in_its_own_color(ax, classes):
    z = torch.cat([torch.randn(20, 2) + 10 * c for c in classes])
    y = torch.tensor(classes).repeat_interleave(20)
    plot.scatter(ax, z, y, title="T", x_label="X")
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("T", "X", "$z_2$")
    assert [t.get_text() for t in ax.texts] == [str(c) for c in classes]
    for text, c in zip(ax.texts, classes):
        middle = z[y == c].median(0).values
        assert text.xy == pytest.approx(middle.tolist())
        assert text.get_bbox_patch().get_edgecolor()[:3] == pytest.approx(
            to_rgb(plot.class_color(c))
        )
    ax.figure.canvas.draw()
    colors = ax.collections[0].get_facecolors()[:, :3]
    expected = [to_rgb(plot.class_color(c)) for c in y.tolist()]
    np.testing.assert_allclose(colors, expected)


def test_scatter_with_names(ax):
    plot.scatter(
        ax,
        torch.rand(6, 2, requires_grad=True),
        torch.tensor([0, 0, 1, 1, 2, 2]),
        names=["sun", "rain", "snow"],
    )
    assert [t.get_text() for t in ax.texts] == ["sun", "rain", "snow"]


def test_colors_are_of_one_palette():
    assert len(set(plot.COLORS)) == 8 and len(set(plot.DIGIT_COLORS)) == 10
    assert plot.class_color(3) == plot.class_color(13)
    plot.style()
    assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == plot.COLORS
    assert plt.rcParams["figure.facecolor"] == "white" and plt.rcParams["image.cmap"] == "gray"


@pytest.fixture
def shown(monkeypatch) -> list:
    bundles: list = []
    monkeypatch.setattr(plot, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def test_table_is_markdown(shown):
    plot.table(["method", "error", "n"], [["PCA", 13.8712, 30], ["AE", 12345.678, 30]])
    assert shown[0]["text/markdown"].splitlines() == [
        "| method | error | n |",
        "| :--- | ---: | ---: |",
        "| PCA | 13.87 | 30 |",
        "| AE | 1.235e+04 | 30 |",
    ]
    assert shown[0]["text/plain"] == shown[0]["text/markdown"]


def test_a_column_with_words_stands_to_the_left(shown):
    plot.table(["a"], [[1.0], ["none"]])
    assert shown[0]["text/markdown"].splitlines()[1] == "| :--- |"


def test_a_bar_in_a_cell_does_not_end_it(shown):
    plot.table(["p(x|z)"], [["$a|b$"]])
    assert [
        line.replace("\\|", "").count("|") for line in shown[0]["text/markdown"].splitlines()
    ] == [2, 2, 2]


@pytest.mark.parametrize("row", [["a"], ["a", 1, 2], []])
def test_a_row_of_another_length(shown, row):
    with pytest.raises(ValueError, match=f"has {len(row)} cells; expected 2"):
        plot.table(["x", "y"], [["fine", 1], row])
    assert not shown


# ------------------------------------------------------------------------------------------ showing, cutting


@pytest.fixture
def displayed(monkeypatch):
    seen = []
    monkeypatch.setattr(
        plot, "display", lambda data, metadata=None, raw=False: seen.append((data, metadata))
    )
    plt.close("all")
    yield seen
    plt.close("all")


def test_show_describes_the_picture_for_every_front_end(displayed, monkeypatch):
    alt = 'Two "panels" with a β & nothing else.'
    monkeypatch.setenv("LECTOOL_EXPLORE", "static")
    plt.subplots(1, 2, figsize=(8, 3))
    plot.show(alt)
    (data, metadata), *_ = displayed
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.info["Description"] == data["text/plain"] == metadata["image/png"]["alt"] == alt
    assert len(json.loads(picture.info["panels"])["cuts"]) == 3
    assert plt.get_fignums() == []
    monkeypatch.setenv("LECTOOL_EXPLORE", "live")
    plt.subplots()
    plot.show(alt)
    data, _ = displayed[1]
    assert f'alt="{html.escape(alt, True)}"' in data["text/html"] and "image/png" not in data


def test_show_wants_one_figure_and_a_sentence(displayed):
    with pytest.raises(ValueError, match="0 figures are open"):
        plot.show("Nothing that could be shown.")
    plt.figure()
    with pytest.raises(ValueError, match="alt is 'A plot'"):
        plot.show("A plot")
    plt.figure()
    with pytest.raises(ValueError, match="2 figures are open"):
        plot.show("Two figures at once, unfortunately.")


@pytest.mark.parametrize("tight", [False, True])
def test_cuts_lie_between_the_columns_and_a_color_bar_stays_with_its_panel(tight):
    with plt.rc_context({"figure.constrained_layout.use": True}):
        figure, axes = plt.subplots(2, 2, figsize=(8, 5))
        shown = axes[0, 0].imshow([[0, 1], [2, 3]])
        bar = figure.colorbar(shown, ax=axes[:, 0])
        figure.suptitle("Above them all")
        figure.draw_without_rendering()
    found = plot.panels(figure, tight=tight)
    whole = figure.get_tightbbox().padded(0.1) if tight else figure.bbox_inches
    cut = (whole.x0 + found["cuts"][1] * whole.width) * figure.dpi
    assert bar.ax.get_tightbbox().x1 < cut < axes[0, 1].get_tightbbox().x0
    assert found["title"] == "Above them all"
    below = (whole.y1 - found["top"] * whole.width) * figure.dpi
    assert below == pytest.approx(figure._suptitle.get_window_extent().y0, abs=1)
    plt.close("all")


def test_what_cannot_be_cut_stays_whole():
    grids = [plt.subplots(2, 5)[0], plt.subplots()[0]]
    spanning = plt.figure()
    spanning.add_subplot(2, 2, (1, 2))
    spanning.add_subplot(2, 2, 3)
    legend, axes = plt.subplots(1, 2)
    axes[0].plot([1, 2], label="a line")
    legend.legend()
    for figure in [*grids, spanning, legend]:
        figure.draw_without_rendering()
        assert plot.panels(figure) == {}
    plt.close("all")
