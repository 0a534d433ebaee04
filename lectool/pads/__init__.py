r"""Small models that run in the reader's browser: a plane of codes to walk on, pads to draw on, fields that move.

The numbers that a pad needs travel in the page, the weights as floats of 16 bits or fewer where that changes nothing
to be seen, and a short script computes with them, so that a pad moves without a kernel, without a network, and in the
built page just as in Colab.
"""

from lectool.pads.hopfield import hopfield_pad
from lectool.pads.ising import ising_pad
from lectool.pads.latent import latent_pad
from lectool.pads.network import ACTIVATIONS
from lectool.pads.rbm import rbm_pad
from lectool.pads.sketch import sketch_pad
from lectool.pads.sparse import sparse_pad
from lectool.pads.stroke import stroke_pad

__all__ = [
    "ACTIVATIONS",
    "hopfield_pad",
    "ising_pad",
    "latent_pad",
    "rbm_pad",
    "sketch_pad",
    "sparse_pad",
    "stroke_pad",
]
