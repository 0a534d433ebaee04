r"""Chapters 05 and 06: sparse coding, dictionary learning, and their convolutional and deep forms."""

from lectool.sparse.dictionaries import (
    DictionaryLearning,
    OnlineDictionaryLearning,
    dct_dictionary,
    gradient_update,
    haar_frame,
    update_columns,
)
from lectool.sparse.gabor import gabor_fit
from lectool.sparse.inference import (
    clamped_step,
    coordinate_descent,
    duality_gap,
    fista,
    ista,
    keep_large,
    lasso,
    lipschitz,
    objective,
    omp,
    shrink,
    shrink_half,
    shrink_positive,
)
from lectool.sparse.relevance import RelevanceDetermination
from lectool.sparse.sensing import basis_pursuit, coherence_bound, l1_dimension, mutual_coherence

__all__ = [
    "DictionaryLearning",
    "OnlineDictionaryLearning",
    "RelevanceDetermination",
    "basis_pursuit",
    "clamped_step",
    "coherence_bound",
    "coordinate_descent",
    "dct_dictionary",
    "duality_gap",
    "fista",
    "gabor_fit",
    "gradient_update",
    "haar_frame",
    "ista",
    "keep_large",
    "l1_dimension",
    "lasso",
    "lipschitz",
    "mutual_coherence",
    "objective",
    "omp",
    "shrink",
    "shrink_half",
    "shrink_positive",
    "update_columns",
]
