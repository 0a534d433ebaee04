r"""A pad to draw a digit on, which a trained autoencoder reconstructs."""

from torch import Tensor, nn

from lectool import check
from lectool.pads.network import decoded_png, in_and_out, packed_network, parts
from lectool.pads.page import drawing_area, figure_html, packed_images, pixel_view, show, stand_in

__all__ = ["sketch_pad"]


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
    n_pixels, n_out = in_and_out(whole)
    if n_pixels != 784 or n_out != 784 or examples.ndim != 2 or examples.shape[1] != 784:
        raise ValueError(
            f"sizes are {n_pixels} → {n_out}, examples {tuple(examples.shape)}; expected 784 each"
        )
    check.data(examples, "examples", low=0.0, high=1.0)
    data = {
        **packed_network(whole, examples, 0.0, 1.0),
        "code": sum(isinstance(part, nn.Linear) for part in parts(encoder)),
        "examples": packed_images(examples),
        "alt": alt,
    }
    picture = decoded_png(whole, examples[0], (28, 28), (0.0, 1.0))
    views = (
        f"{drawing_area()}"
        f"{pixel_view('pad-input', 'What the network sees', 'what the network sees')}"
        f"{pixel_view('pad-output', alt, 'its reconstruction')}"
    )
    live = (
        f'<div class="pad-views">{views}</div>'
        '<p class="pad-readout" role="status" aria-live="polite"></p>'
    )
    page = figure_html(
        "sketch-pad", live, stand_in("one reconstruction", picture, alt), caption, data
    )
    show(page, picture, alt)
