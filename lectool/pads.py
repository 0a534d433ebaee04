r"""Small models that run in the reader's browser: a plane of codes to walk on, pads to draw on.

The weights travel in the page as 16-bit floats and a short script computes with them, so that a
pad moves without a kernel, without a network, and in the built page just as in Colab.
"""

import base64
import copy
import html
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from IPython.display import display
from PIL import Image
from torch import Tensor, nn

from lectool import check
from lectool.explore import OWN_KEYS, embed, readable, web_file
from lectool.plot import class_color

__all__ = ["latent_pad", "sketch_pad", "sparse_pad"]

# Called as code(x, D, lam, n_steps=…).
Solver = Callable[..., Tensor]

ACTIVATIONS = {
    nn.Identity: "identity",
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.Softplus: "softplus",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
}


def latent_pad(
    decoder: nn.Module,
    shape: tuple[int, int],
    *,
    points: Tensor | None = None,
    labels: Tensor | None = None,
    bounds: Sequence[tuple[float, float]] | None = None,
    start: Sequence[float] | None = None,
    base: Tensor | None = None,
    axes: tuple[int, int] = (0, 1),
    names: tuple[str, str] = ("z₁", "z₂"),
    values: tuple[float, float] = (0.0, 1.0),
    alt: str = "Image decoded at the chosen code",
    caption: str = "",
    autoplay: bool = False,
) -> None:
    r"""A plane of codes: the reader drags a point, by hand or by two sliders, and sees what it decodes to.

    Arguments:
        decoder: linear layers and activations in ``nn.Sequential``, from k code numbers to pixels.
        shape: (rows, columns) of the decoded image.
        points: codes to show in the plane as orientation, shape (n, 2); a few hundred are enough.
        labels: the class of each point, shape (n,); sets its color, and the class's name at its median.
        bounds: (lowest, highest) of each axis; the points' range with a small edge where ``None``. An axis on which
            the points have collapsed (a hundredth of the other's range, or less) gets the range of the other.
        start: where the point lies at first; the middle where ``None``.
        base: the code whose other coordinates stay as they are, shape (k,); zeros where ``None``.
        axes: which two of the k coordinates move.
        names: of the two coordinates.
        values: what is drawn black and white.
        alt: description of the image, to which the code's coordinates are added as they change.
        caption: one or two sentences below.
        autoplay: whether the point wanders by itself until it is touched (never where the reader has
            asked the system for less motion).

    Raises:
        ValueError: if the decoder has other parts than linear layers and known activations, its sizes do
            not fit, a number that is given or decoded is NaN or infinite, or neither ``points`` nor ``bounds``
            is given.
    """
    n_in, n_out = _sizes(decoder)
    if n_out != shape[0] * shape[1]:
        raise ValueError(f"the decoder makes {n_out} numbers; expected {shape[0]}×{shape[1]}")
    base = torch.zeros(n_in) if base is None else base.detach().cpu().float()
    check.data(base, "base", n_dims=1)
    if base.shape != (n_in,) or n_in < 2 or not 0 <= min(axes) < max(axes) < n_in:
        raise ValueError(
            f"base has shape {tuple(base.shape)} and axes are {axes}; the code has {n_in} numbers"
        )
    black, white = values
    check.inside("(-∞, ∞)", black=black, white=white)
    if black == white:
        raise ValueError(f"values are {values}; expected two numbers that differ")
    points, labels = _points(points, labels)
    bounds = _bounds(points, bounds)
    start = _start(start, bounds)
    code = base.clone()
    code[list(axes)] = torch.tensor(start)
    corners = base.repeat(5, 1)
    corners[:4, list(axes)] = torch.cartesian_prod(*torch.tensor(bounds))
    corners[4] = code
    data = {
        **_pack(decoder, corners, black, white),
        "shape": list(shape),
        "base": base.tolist(),
        "axes": list(axes),
        "bounds": bounds,
        "digits": [_n_digits(*b) for b in bounds],
        "range": [black, white],
        "names": list(names),
        "alt": alt,
        "autoplay": autoplay,
        **_map(points, labels, bounds),
    }
    picture = _still(decoder, code, shape, values)
    sliders = "".join(
        _slider(name, low, high, at)
        for name, (low, high), at in zip(names, bounds, start, strict=True)
    )
    live = (
        '<div class="pad-views">'
        f'<div class="pad-view"><canvas class="pad-plane" width="512" height="512" role="img" '
        f'aria-label="Plane of codes with the chosen point"></canvas>{_words("plane of codes: drag the point")}</div>'
        f'<div class="pad-view"><canvas class="pad-pixels" width="{shape[1]}" height="{shape[0]}" role="img" '
        f'aria-label="{html.escape(alt, True)}"></canvas>{_words("decoded image")}</div></div>'
        f'{sliders}<p class="ex-live" role="status" aria-live="polite"></p>'
    )
    page = _page("latent-pad", live, _stand_in("its first picture", picture, alt), caption, data)
    display({"text/html": page, "image/png": picture, "text/plain": f"{alt} at {start}"}, raw=True)


def sketch_pad(
    encoder: nn.Module,
    decoder: nn.Module,
    *,
    examples: Tensor,
    alt: str = "Reconstruction of the drawn digit",
    caption: str = "",
) -> None:
    r"""A pad to draw a digit on: the page's trained network encodes and reconstructs it at once.

    The drawing is scaled to 20×20 pixels and centered by its mass in 28×28, as MNIST was made.

    Arguments:
        encoder, decoder: linear layers and activations in ``nn.Sequential``, from 784 pixels in [0, 1]
            to the code and back.
        examples: images that the reader can put on the pad by a button, shape (n, 784): the way in for those
            who do not draw.
        alt: description of the reconstruction.
        caption: one or two sentences below.

    Raises:
        ValueError: if a network has other parts than linear layers and known activations, sizes that do not fit,
            or weights that are NaN or infinite, or an example leaves [0, 1].
    """
    whole = nn.Sequential(encoder, decoder)
    n_pixels, n_out = _sizes(whole)
    if n_pixels != 784 or n_out != 784 or examples.ndim != 2 or examples.shape[1] != 784:
        raise ValueError(
            f"sizes are {n_pixels} → {n_out}, examples {tuple(examples.shape)}; expected 784 each"
        )
    check.data(examples, "examples", low=0.0, high=1.0)
    data = {
        **_pack(whole, examples, 0.0, 1.0),
        "code": sum(isinstance(part, nn.Linear) for part in _parts(encoder)),
        "examples": _examples(examples),
        "alt": alt,
    }
    picture = _still(whole, examples[0], (28, 28), (0.0, 1.0))
    views = (
        f"{_drawing()}"
        f"{_pixels('pad-input', 'What the network sees', 'what the network sees')}"
        f"{_pixels('pad-output', alt, 'its reconstruction')}"
    )
    live = (
        f'<div class="pad-views">{views}</div>'
        '<p class="pad-readout" role="status" aria-live="polite"></p>'
    )
    page = _page("sketch-pad", live, _stand_in("one reconstruction", picture, alt), caption, data)
    display({"text/html": page, "image/png": picture, "text/plain": alt}, raw=True)


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
        "examples": _examples(x),
        "alt": alt,
    }
    z = _codes(code, x[:1], D, lam, n_steps)[0]
    words = _sparse_words(x[0], D, z)
    picture = _png(_sparse_still(x[0], D, z, n_shown, colors))
    atom = (
        '<div class="pad-atom pad-unused"><span></span><canvas width="28" height="28" role="img" '
        'aria-label="Atom"></canvas></div>'
    )
    live = (
        f'<div class="pad-views">{_drawing()}'
        f"{_pixels('pad-input', 'The drawing, centered', 'the drawing, centered')}"
        f"{_pixels('pad-output', f'{alt}: {words}', 'its reconstruction')}</div>"
        f'<p class="pad-readout">{words}</p>'
        '<div class="pad-atoms" role="group" aria-label="Most active atoms, each with its coefficient">'
        f"{atom * n_shown}</div>"
        f"{_lam_slider(data['names'], lams.index(lam))}"
        '<p class="ex-live" role="status" aria-live="polite"></p>'
    )
    what = "a drawing, its reconstruction, and the most active atoms"
    page = _page("sparse-pad", live, _stand_in(what, picture, f"{alt}: {words}"), caption, data)
    display({"text/html": page, "image/png": picture, "text/plain": f"{alt}: {words}"}, raw=True)


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


def _lam_slider(names: list[str], at: int) -> str:
    return (
        f'<label class="ex-row"><span class="ex-name">λ</span><input type="range" {OWN_KEYS} min="0" '
        f'max="{len(names) - 1}" step="1" value="{at}" aria-valuetext="{names[at]}">'
        f"<output>{names[at]}</output></label>"
    )


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
        "atoms": _floats(packed.T, bits),
        "bits": bits,
        "L": torch.linalg.matrix_norm(packed.double(), 2).square().item(),
    }


def _atom_colors(D: Tensor) -> np.ndarray:
    r"""Colors between which an atom's numbers lie, shape (n, 3): black to white, or about zero if some are below it."""
    name, n = ("gray", 2) if (D >= 0).all() else ("PuOr", 11)
    return np.round(255 * mpl.colormaps[name](np.linspace(0, 1, n))[:, :3]).astype(int)


def _sparse_words(x: Tensor, D: Tensor, z: Tensor) -> str:
    # As in web/pads.js.
    error = (x - D @ z).square().sum().item()
    return f"{int((z > 0).sum())} of {len(z)} atoms in use, squared error {error:.1f}"


def _sparse_still(x: Tensor, D: Tensor, z: Tensor, n_shown: int, colors: np.ndarray) -> np.ndarray:
    r"""The drawing, its reconstruction and the most active atoms, five in a row: bytes of red, green and blue."""
    tiles = [np.repeat(_bytes(image)[:, None], 3, 1) for image in (x, D @ z)]
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


def _drawing() -> str:
    r"""The area to draw on, with its buttons."""
    return (
        '<div class="pad-view"><canvas class="pad-draw" width="280" height="280" role="img" '
        f'aria-label="Drawing area"></canvas>{_words("draw here")} '
        f'<button type="button" {OWN_KEYS} class="pad-clear">clear</button> '
        f'<button type="button" {OWN_KEYS} class="pad-example">next example</button></div>'
    )


def _pixels(css: str, label: str, words: str) -> str:
    r"""An image of 28×28 pixels with a few words below."""
    return (
        f'<div class="pad-view"><canvas class="pad-pixels {css}" width="28" height="28" role="img" '
        f'aria-label="{html.escape(label, True)}"></canvas>{_words(words)}</div>'
    )


def _examples(x: Tensor) -> list[str]:
    return [base64.b64encode(_bytes(image)).decode() for image in x]


def _stand_in(what: str, picture: str, alt: str) -> str:
    r"""What is seen where the pad's script may not run: without JavaScript, in a notebook that is not trusted."""
    alt = html.escape(alt, True)
    return (
        '<div class="pad-still"><p>The pad needs JavaScript, in a notebook also your trust (File, Trust Notebook). '
        f'This is {what}.</p><img src="data:image/png;base64,{picture}" width="224" alt="{alt}"></div>'
    )


def _words(text: str) -> str:
    # By the style sheet: a front end that takes canvases away takes this too, and no words are left without a picture.
    return f'<span class="pad-words" data-words="{text}"></span>'


def _parts(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [part for child in module for part in _parts(child)]
    return [module]


def _known(part: nn.Module) -> bool:
    # The page's script has the activations at their default settings only.
    settings = ("negative_slope", "alpha", "beta", "threshold")
    usual = type(part)() if type(part) in ACTIVATIONS else None
    return usual is not None and all(
        getattr(part, s, None) == getattr(usual, s, None) for s in settings
    )


def _layers(module: nn.Module) -> list[tuple[nn.Linear, str]]:
    r"""The linear layers, each with the name of the activation behind it."""
    layers: list[tuple[nn.Linear, str]] = []
    for part in _parts(module):
        if isinstance(part, nn.Linear):
            if layers and layers[-1][0].out_features != part.in_features:
                raise ValueError(f"{part} does not fit behind {layers[-1][0].out_features} numbers")
            layers.append((part, "identity"))
        elif _known(part) and layers and layers[-1][1] == "identity":
            layers[-1] = (layers[-1][0], ACTIVATIONS[type(part)])
        else:
            known = ", ".join(kind.__name__ for kind in ACTIVATIONS)
            raise ValueError(
                f"{part} cannot run in a page; expected nn.Linear, each followed by one of {known}"
            )
    if not layers:
        raise ValueError("the network has no linear layer")
    return layers


def _sizes(module: nn.Module) -> tuple[int, int]:
    layers = _layers(module)
    return layers[0][0].in_features, layers[-1][0].out_features


def _pack(module: nn.Module, x: Tensor, low: float, high: float) -> dict[str, Any]:
    r"""The network as the page's script reads it: sizes, activations, and all weights as base64.

    In 16-bit floats where the picture of none of the inputs ``x`` changes visibly by it, else in 32-bit floats.
    """
    layers = _layers(module)
    weights = []
    for layer, _ in layers:
        bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
        for t in (layer.weight, bias):
            t = t.detach().cpu().float()
            if not torch.isfinite(t).all():
                raise ValueError(f"{layer} has weights that are NaN or infinite")
            weights.append(t.flatten())
    weights = torch.cat(weights)
    rounded = copy.deepcopy(module)
    with torch.no_grad():
        for p in rounded.parameters():
            p.copy_(p.half())
        exact, rough = _run(module, x), _run(rounded, x)
    if not torch.isfinite(exact).all():
        raise ValueError("the network makes numbers that are NaN or infinite; expected an image")
    seen = [((image - low) / (high - low)).clamp(0, 1) for image in (exact, rough)]
    fits = weights.half().isfinite().all() and (seen[0] - seen[1]).abs().max() < 0.01
    bits = 16 if fits else 32
    return {
        "layers": [
            {"rows": layer.out_features, "columns": layer.in_features, "act": act}
            for layer, act in layers
        ],
        "weights": _floats(weights, bits),
        "bits": bits,
    }


def _floats(values: Tensor, bits: int) -> str:
    return base64.b64encode(values.numpy().astype(f"<f{bits // 8}").tobytes()).decode()


def _run(net: nn.Module, x: Tensor) -> Tensor:
    return net(x.detach().to(next(net.parameters()))).cpu().float()


def _points(points: Tensor | None, labels: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    if points is None:
        return None, None
    check.data(points, "points")
    check.shape("n", 2, points=points)
    if labels is not None:
        check.lengths(points=points, labels=labels)
        labels = labels.detach().cpu().long()
        check.at_least(0, labels=int(labels.min()))
    return points.detach().cpu(), labels


def _bounds(
    points: Tensor | None, bounds: Sequence[tuple[float, float]] | None
) -> list[list[float]]:
    if bounds is not None:
        fits = len(bounds) == 2 and all(-math.inf < low < high < math.inf for low, high in bounds)
        if not fits:
            raise ValueError(f"bounds are {bounds}; expected two pairs, each ascending")
        return [[float(low), float(high)] for low, high in bounds]
    if points is None:
        raise ValueError("neither points nor bounds are given; expected one of them")
    low, high = points.double().aminmax(dim=0)
    middle, half = (low + high) / 2, 0.55 * (high - low)
    # Collapsed: nothing beside the other coordinate, or beside the rounding of the code's own numbers.
    alive = (half > 0.01 * half.max()) & (half > 1e-5 * middle.abs())
    usual = half.max() if alive.any() else torch.ones((), dtype=torch.float64)
    half = torch.where(alive, half, torch.maximum(usual, 1e-3 * middle.abs()))
    ends = zip((middle - half).tolist(), (middle + half).tolist())
    return [[round(v, 2 + _n_digits(a, b)) for v in (a, b)] for a, b in ends]


def _start(start: Sequence[float] | None, bounds: list[list[float]]) -> list[float]:
    if start is None:
        return [(low + high) / 2 for low, high in bounds]
    if len(start) != 2 or not all(low <= v <= high for v, (low, high) in zip(start, bounds)):
        raise ValueError(f"start is {list(start)}; expected a point within {bounds}")
    return [float(v) for v in start]


def _n_digits(low: float, high: float) -> int:
    r"""How many digits behind the point tell the 200 steps of a slider apart; two at least."""
    return max(2, math.ceil(-math.log10((high - low) / 200)))


def _map(
    points: Tensor | None, labels: Tensor | None, bounds: list[list[float]]
) -> dict[str, list]:
    if points is None:
        return {"points": [], "colors": [], "marks": []}
    y = torch.zeros(len(points), dtype=torch.int64) if labels is None else labels
    n_digits = [1 + _n_digits(*b) for b in bounds]

    def place(point: Tensor) -> list[float]:
        return [round(v, n) for v, n in zip(point.tolist(), n_digits)]

    marks = []
    if labels is not None:
        marks = [[*place(points[y == c].median(0).values), c] for c in y.unique().tolist()]
    return {
        "points": [[*place(point), c] for point, c in zip(points, y.tolist())],
        "colors": [class_color(i) for i in range(int(y.max()) + 1)],
        "marks": marks,
    }


def _slider(name: str, low: float, high: float, at: float) -> str:
    return (
        f'<label class="ex-row"><span class="ex-name">{html.escape(name)}</span>'
        f'<input type="range" {OWN_KEYS} min="{low:.10g}" max="{high:.10g}" step="{(high - low) / 200:.6g}" '
        f'value="{at:.10g}"><output>{at:.{_n_digits(low, high)}f}</output></label>'
    )


def _page(kind: str, live: str, still: str, caption: str, data: dict[str, Any]) -> str:
    r"""One figure: what the script brings to life, hidden until it does, and what is seen where it may not run."""
    return (
        f'<figure class="{kind}"><style>{web_file("figure.css")}</style>'
        f'<div class="pad-live" hidden="hidden">{live}</div>{still}'
        + (f"<figcaption>{html.escape(caption)}</figcaption>" if caption else "")
        + f'<script type="application/json">{embed(data)}</script><script>{web_file("pads.js")}</script></figure>'
    )


def _still(
    decoder: nn.Module, code: Tensor, shape: tuple[int, int], values: tuple[float, float]
) -> str:
    with torch.no_grad():
        x = _run(decoder, code[None])[0]
    return _png(_bytes((x - values[0]) / (values[1] - values[0])).reshape(shape))


def _bytes(x: Tensor) -> np.ndarray:
    return (x.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    big = Image.fromarray(pixels).resize(
        (pixels.shape[1] * 8, pixels.shape[0] * 8), Image.Resampling.NEAREST
    )
    big.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
