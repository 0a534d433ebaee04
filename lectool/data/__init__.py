r"""Data sets: looked for in ``LECTOOL_DATA``, else downloaded into the user's cache, else a stand-in.

Environment:
    LECTOOL_DATA: a folder with ``mnist`` (the four IDX files, packed as ``.gz`` or not; also as torchvision leaves
        them, in ``MNIST/raw``) and ``olivetti/olivettifaces.mat``, or one of these folders itself.
    LECTOOL_DIGITS: ``mnist`` (an error where it cannot be had), ``bundled`` or ``auto`` (default).
    LECTOOL_OFFLINE: ``1`` forbids every download.
"""

from lectool.data.densities import grid, ring, sample_modes, two_moons, two_moons_log_prob
from lectool.data.fetch import Unavailable, used
from lectool.data.folder import pictures
from lectool.data.generated import (
    drawn_faces,
    moving_shape,
    shapes,
    spiral,
    three_signals,
    transformed,
    transformed_pairs,
)
from lectool.data.images import (
    Digits,
    Faces,
    digits,
    faces,
    patches,
    photographs,
    read_idx,
    variance_mnist,
)
from lectool.data.ratings import GENRES, Ratings, ratings
from lectool.data.texts import Documents, documents

__all__ = [
    "GENRES",
    "Digits",
    "Documents",
    "Faces",
    "Ratings",
    "Unavailable",
    "digits",
    "documents",
    "drawn_faces",
    "faces",
    "grid",
    "moving_shape",
    "patches",
    "photographs",
    "pictures",
    "ratings",
    "read_idx",
    "ring",
    "sample_modes",
    "shapes",
    "spiral",
    "three_signals",
    "transformed",
    "transformed_pairs",
    "two_moons",
    "two_moons_log_prob",
    "used",
    "variance_mnist",
]
