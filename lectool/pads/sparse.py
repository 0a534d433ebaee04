r"""A pad to draw on, which takes a drawing apart into the atoms of a dictionary."""

import math
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

from lectool import check
from lectool.explore import readable
from lectool.pads.page import (
    as_bytes,
    choice_slider,
    drawing_area,
    figure_html,
    packed_floats,
    packed_images,
    pixel_view,
    png,
    show,
    stand_in,
)

__all__ = ["Solver", "sparse_pad"]

# Called as code(x, D, lam, n_steps=…).
Solver = Callable[..., Tensor]


def sparse_pad(
    D: Tensor,
    *,
    examples: Tensor,
    lam: float,
    code: Solver,
    lam_range: tuple[float, float] | None = None,
    n_shown: int = 8,
    n_steps: int = 100,
    alt: str = "Reconstruction from few atoms",
    caption: str = "",
) -> None:
    r"""A pad to draw on: the drawing is taken apart into atoms of a dictionary, few or many as a slider says.

    For each drawing x, scaled and centered as in :func:`sketch_pad`, the page takes some steps of FISTA towards

    .. math:: \min_{z \ge 0} \tfrac12 \lVert x - D z \rVert^2 + \lambda \sum_j z_j

    Arguments:
        D: dictionary, its atoms as columns of length ≤ 1, shape (784, k); with k of a hundred or so the page carries
            0.2 MB and a redraw takes a few milliseconds.
        examples: images in [0, 1] that the reader can put on the pad by a button, shape (n, 784).
        lam: λ > 0 at first.
        code: the Python twin of the page's solver, ``partial(fista, prox=shrink_positive)``; called as
            ``code(x, D, lam, n_steps=n_steps)`` with x of shape (n, 784), gives codes ≥ 0, shape (n, k). It makes the
            picture that stands in where no script runs, and finds out how exactly the atoms have to travel.
        lam_range: the smallest and the largest λ of the slider, whose steps grow by a factor; λ/8 to 8λ where ``None``.
        n_shown: how many atoms are shown, those with the largest coefficients, ≥ 1.
        n_steps: steps of FISTA for each drawing, ≥ 1. With too few, page and Python may restart at different steps and
            stop at codes that differ visibly.
        alt: description of the reconstruction, to which the number of atoms and the error are added.
        caption: one or two sentences below.

    Raises:
        ValueError: if D or an example is no valid data, has another shape or, for an example, leaves [0, 1], an atom
            is zero or longer than 1, a number is out of range, or ``code`` makes something else than codes ≥ 0.
    """
    check.data(D, "D")
    check.shape(784, "k", D=D)
    check.data(examples, "examples", width=784, low=0.0, high=1.0)
    check.positive(lam=lam)
    check.at_least(1, n_shown=n_shown, n_steps=n_steps)
    lengths = D.norm(dim=0)
    if lengths.min() == 0 or lengths.max() > 1.001:  # not 1: lengths are rounded
        raise ValueError(
            f"atoms (columns of D) have lengths in [{lengths.min():.4g}, {lengths.max():.4g}]; expected (0, 1]"
        )
    D, lams = D.detach().cpu(), _lams(lam, lam_range)
    x = examples.detach().cpu().to(D.dtype)
    n_shown = min(n_shown, D.shape[1])
    colors = _atom_colors(D)
    data = {
        **_pack_atoms(D, x, lams, code, n_steps),
        "steps": n_steps,
        "lams": lams,
        "names": [readable(v) for v in lams],
        "colors": colors.tolist(),
        "examples": packed_images(x),
        "alt": alt,
    }
    z = _codes(code, x[:1], D, lam, n_steps)[0]
    words = _said(x[0], D, z)
    picture = png(_tiles(x[0], D, z, n_shown, colors))
    atom = (
        '<div class="pad-atom pad-unused"><span></span><canvas width="28" height="28" role="img" '
        'aria-label="Atom"></canvas></div>'
    )
    live = (
        f'<div class="pad-views">{drawing_area()}'
        f"{pixel_view('pad-input', 'The drawing, centered', 'the drawing, centered')}"
        f"{pixel_view('pad-output', f'{alt}: {words}', 'its reconstruction')}</div>"
        f'<p class="pad-readout">{words}</p>'
        '<div class="pad-atoms" role="group" aria-label="Most active atoms, each with its coefficient">'
        f"{atom * n_shown}</div>"
        f"{choice_slider('λ', data['names'], lams.index(lam))}"
        '<p class="ex-live" role="status" aria-live="polite"></p>'
    )
    what = "a drawing, its reconstruction, and the most active atoms"
    page = figure_html(
        "sparse-pad", live, stand_in(what, picture, f"{alt}: {words}"), caption, data
    )
    show(page, picture, f"{alt}: {words}")


def _lams(lam: float, lam_range: tuple[float, float] | None) -> list[float]:
    r"""What the slider offers: about thirteen values, each a factor above the one before, and λ itself among them."""
    ends = (lam / 8, 8 * lam) if lam_range is None else tuple(lam_range)
    if len(ends) != 2 or not 0 < ends[0] <= lam <= ends[1] < math.inf or ends[1] < 2 * ends[0]:
        raise ValueError(
            f"lam_range is {lam_range}; expected two numbers > 0, the second at least twice the first, "
            f"and lam = {lam} between them"
        )
    values = [float(f"{v:.2g}") for v in np.geomspace(*ends, 13)]
    values[int(np.abs(np.log(np.array(values) / lam)).argmin())] = float(lam)
    return sorted(set(values))


def _codes(code: Solver, x: Tensor, D: Tensor, lam: float, n_steps: int) -> Tensor:
    with torch.no_grad():
        z = code(x, D, lam, n_steps=n_steps)
    check.shape(len(x), D.shape[1], codes=z)
    check.non_negative(**{"the smallest coefficient of the codes": z.min().item()})
    return z


def _pack_atoms(
    D: Tensor, x: Tensor, lams: list[float], code: Solver, n_steps: int
) -> dict[str, Any]:
    r"""The dictionary as the page's script reads it, atom by atom, and L, the largest eigenvalue of DᵀD.

    In 16-bit floats where the reconstruction of none of the images ``x`` changes visibly by it, at the smallest and
    at the largest λ, else in 32-bit floats.
    """
    rough = D.half().to(D.dtype)
    fits = bool(rough.any(0).all())
    for lam in (lams[0], lams[-1]):
        exact = _codes(code, x, D, lam, n_steps) @ D.T
        if fits:
            seen = (_codes(code, x, rough, lam, n_steps) @ rough.T).clamp(0, 1)
            fits = (seen - exact.clamp(0, 1)).abs().max().item() < 0.01
    bits = 16 if fits else 32
    packed = rough if fits else D.float()
    return {
        "atoms": packed_floats(packed.T, bits),
        "bits": bits,
        "L": torch.linalg.matrix_norm(packed.double(), 2).square().item(),
    }


def _atom_colors(D: Tensor) -> np.ndarray:
    r"""Colors between which an atom's numbers lie, shape (n, 3): black to white, or about zero if some are below it."""
    name, n = ("gray", 2) if (D >= 0).all() else ("PuOr", 11)
    return np.round(255 * mpl.colormaps[name](np.linspace(0, 1, n))[:, :3]).astype(int)


def _said(x: Tensor, D: Tensor, z: Tensor) -> str:
    # As in web/pads-sparse.js.
    error = (x - D @ z).square().sum().item()
    return f"{int((z > 0).sum())} of {len(z)} atoms in use, squared error {error:.1f}"


def _tiles(x: Tensor, D: Tensor, z: Tensor, n_shown: int, colors: np.ndarray) -> np.ndarray:
    r"""The drawing, its reconstruction and the most active atoms, five in a row: bytes of red, green and blue."""
    tiles = [np.repeat(as_bytes(image)[:, None], 3, 1) for image in (x, D @ z)]
    for atom in D.T[z.topk(n_shown).indices][: int((z > 0).sum())].double().numpy():
        at = atom / np.abs(atom).max()
        at = (at if len(colors) == 2 else (at + 1) / 2) * (len(colors) - 1)
        rgb = [np.interp(at, np.arange(len(colors)), channel) for channel in colors.T]
        tiles.append(np.stack(rgb, 1).round().astype(np.uint8))
    whole = np.full((math.ceil(len(tiles) / 5) * 30, 5 * 30, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        row, column = 30 * (i // 5) + 1, 30 * (i % 5) + 1
        whole[row : row + 28, column : column + 28] = tile.reshape(28, 28, 3)
    return whole
