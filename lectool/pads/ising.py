r"""A field of spins that is sampled in the page."""

import torch
from torch import Tensor

from lectool import check, random
from lectool.explore import readable
from lectool.graphical import Ising, critical_coupling, onsager_magnetization
from lectool.pads.page import (
    buttons,
    choice_slider,
    figure_html,
    numbers,
    packed_bits,
    png,
    show,
    stand_in,
    view,
)

__all__ = ["ising_pad"]

# Red, green and blue of a spin that is down, and of one that is up.
COLORS = ((16, 52, 84), (242, 226, 188))
SPEEDS = ("1", "2", "4", "8", "16", "32")


def ising_pad(
    *,
    size: int = 96,
    coupling: float = 0.44,
    field: float = 0.0,
    n_sweeps: int = 200,
    generator: torch.Generator | None = None,
    alt: str = "Ising field",
    caption: str = "",
) -> None:
    r"""An Ising field on a torus, sampled in the reader's page by Gibbs sweeps over a checkerboard.

    .. math:: p(x) \propto \exp\Bigl( J \sum_{\text{neighbors } i,\, j} x_i x_j + b \sum_i x_i \Bigr),
              \qquad x_i = \pm 1, \quad J = 1/T .

    The reader sets the temperature T and the field b, starts anew, and flips spins by hand. The page shows the
    magnetization (the mean of x), its mean over the sweeps since the last change, the energy a spin in units of the
    temperature, and where b is 0 the magnetization of an endless grid.

    Arguments:
        size: number of rows and of columns, even, in [4, 256].
        coupling: J at first, in [0.25, 1]: the slider goes from T = 1 to T = 4.
        field: b at first, in [−0.4, 0.4].
        n_sweeps: Gibbs sweeps of :class:`lectool.graphical.Ising`, from random spins, that make the field at which the
            page begins, ≥ 0.
        generator: of the field at which the page begins; torch's global one where ``None``.
        alt: description of the field, to which temperature, field and magnetization are added.
        caption: one or two sentences below.

    Raises:
        ValueError: if a number is out of range, or the size is odd.
    """
    check.inside("[4, 256]", size=size)
    check.inside("[0.25, 1]", coupling=coupling)
    check.inside("[-0.4, 0.4]", field=field)
    check.at_least(0, n_sweeps=n_sweeps)
    if size % 2:
        raise ValueError(f"size is {size}; expected an even number, else no checkerboard closes")
    x = 2 * random.bernoulli(torch.full((size, size), 0.5), generator) - 1
    x = Ising(size, size, coupling=coupling, field=field).gibbs(x, n_sweeps, generator)
    temperatures = _among(torch.linspace(1, 4, 61), 1 / coupling)
    fields = sorted({0.0, *_among(torch.linspace(-0.4, 0.4, 41), field)})
    couplings = [coupling if T == 1 / coupling else 1 / T for T in temperatures]
    data = {
        "size": size,
        "spins": packed_bits(x > 0),
        "couplings": couplings,
        "temperatures": [f"{T:.3g}" for T in temperatures],
        "names": [f"{T:.3g} (J = {J:.3g})" for T, J in zip(temperatures, couplings)],
        "fields": fields,
        "fieldNames": [readable(b) for b in fields],
        "exact": onsager_magnetization(torch.tensor(couplings)).tolist(),
        "speeds": list(SPEEDS),
        "colors": COLORS,
        "alt": alt,
    }
    at = temperatures.index(1 / coupling), fields.index(field)
    words = (
        f"{alt}: T = {data['temperatures'][at[0]]}, b = {data['fieldNames'][at[1]]}, "
        f"magnetization {x.mean().item():.2f}"
    )
    picture = png(torch.tensor(COLORS, dtype=torch.uint8)[(x > 0).long()].numpy(), scale=4)
    page = figure_html(
        "ising-pad", _live(data, at, words), stand_in("a sample", picture, words), caption, data
    )
    show(page, picture, words)


def _live(data: dict, at: tuple[int, int], words: str) -> str:
    size = data["size"]
    shown = numbers(
        "magnetization",
        "of an endless grid",
        "mean since a change",
        "sweeps since then",
        "energy a spin",
    )
    return (
        '<div class="pad-views">'
        + view("pad-field pad-pixels", size, size, words, "the field: drag to flip spins")
        + view(
            "pad-trace",
            512,
            256,
            "Magnetization over time",
            "magnetization; dashed: endless grid",
            after=shown,
        )
        + "</div>"
        + buttons(run="run", step="step", up="all up", random="random", flip="flip a patch")
        + choice_slider(
            f"temperature T (critical {1 / critical_coupling():.3f})", data["names"], at[0]
        )
        + choice_slider("field b", data["fieldNames"], at[1])
        + choice_slider("sweeps a frame", data["speeds"], 0)
        + '<p class="ex-live" role="status" aria-live="polite"></p>'
    )


def _among(grid: Tensor, value: float) -> list[float]:
    r"""The values of a slider: those of a grid, of which the nearest makes place for the given one."""
    values = [round(v, 4) for v in grid.tolist()]
    values[int((grid - value).abs().argmin())] = value
    return values
