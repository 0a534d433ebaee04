"""Guards: what they let pass, and the words for what they do not."""

import math

import numpy as np
import pytest
import torch

from lectool import check


@pytest.mark.parametrize(
    ("x", "options", "words"),
    [
        ([[1.0]], {}, "x is list; expected a float32 or float64 tensor"),
        (np.zeros((2, 2)), {}, "x is ndarray; expected"),
        (torch.zeros(2, 2, dtype=torch.int64), {}, "x is torch.int64; expected"),
        (torch.zeros(2, 2, dtype=torch.complex64), {}, "x is torch.complex64; expected"),
        (torch.zeros(4), {}, r"x has shape \(4,\); expected 2 axes"),
        (torch.zeros(4, 2), {"n_dims": 4}, r"x has shape \(4, 2\); expected 4 axes"),
        (torch.zeros(0, 3), {}, r"x is empty, shape \(0, 3\)"),
        (torch.zeros(3, 0), {}, r"x is empty, shape \(3, 0\)"),
        (torch.zeros(2, 3), {"width": 4}, r"x has shape \(2, 3\); expected 4 numbers in a sample"),
        (
            torch.tensor([[0.0, math.nan, math.inf]]),
            {},
            "x holds 2 values that are NaN or infinite",
        ),
        (torch.tensor([[0.0, -math.inf]]), {}, "x holds 1 values"),
        (
            torch.tensor([[-0.5, 1.0]]),
            {"low": 0.0, "high": 1.0},
            r"x lies in \[-0.5, 1\]; expected \[0.0, 1.0\]",
        ),
        (torch.tensor([[0.5, 1.5]]), {"low": 0.0, "high": 1.0}, r"x lies in \[0.5, 1.5\]"),
        (torch.tensor([[-1.0]]), {"low": 0.0}, r"x lies in \[-1, -1\]"),
        (torch.tensor([[2.0]]), {"high": 1.0}, r"x lies in \[2, 2\]"),
    ],
)
def test_data_says_what_is_wrong(x, options, words):
    with pytest.raises(ValueError, match=words):
        check.data(x, **options)
    with pytest.raises(ValueError, match=words.replace("x ", "codes ", 1)):
        check.data(x, "codes", **options)


def test_data_lets_good_data_through():
    for x, options in [
        (torch.rand(2, 3), {"low": 0.0, "high": 1.0, "width": 3}),
        (torch.tensor([[0.0, 1.0]]), {"low": 0.0, "high": 1.0}),
        (torch.randn(2, 1, 4, 5, dtype=torch.float64), {"n_dims": 4, "width": 20}),
        (torch.rand(2, 3, requires_grad=True), {}),
    ]:
        assert check.data(x, **options) is x


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_by_name(dtype):
    with pytest.raises(ValueError, match=f"x is {dtype}; expected a float32 or float64 tensor"):
        check.data(torch.zeros(2, 2, dtype=dtype))


@pytest.mark.parametrize(
    ("guard", "good", "bad"),
    [
        (check.positive, [1e-9, 3, 2.5], [0, -1, math.nan, math.inf]),
        (check.non_negative, [0, 0.0, 7], [-1e-9, math.nan, math.inf]),
        (lambda v: check.at_least(2, v=v), [2, 2.0, 100], [1, 1.99, math.nan]),
        (lambda v: check.inside("[0, 1)", v=v), [0, 0.999], [-1e-9, 1, math.nan]),
        (lambda v: check.inside("(0, 1]", v=v), [1e-9, 1], [0, 1.001]),
        (lambda v: check.one_of(("a", "b"), v=v), ["a", "b"], ["c", None]),
    ],
)
def test_guards_pass_the_good_and_name_the_bad(guard, good, bad):
    call = guard if guard not in (check.positive, check.non_negative) else lambda v: guard(v=v)
    for value in good:
        call(value)
    for value in bad:
        with pytest.raises(ValueError, match=f"^v is {value!r}; "):
            call(value)


def test_guards_name_the_one_that_is_wrong():
    with pytest.raises(ValueError, match=r"^b is -2; expected a finite number > 0$"):
        check.positive(a=1, b=-2, c=-3)
    with pytest.raises(ValueError, match=r"^share is 1; expected a number in \[0, 1\)$"):
        check.inside("[0, 1)", share=1)
    with pytest.raises(ValueError, match=r"^solver is 'lu'; it can be 'svd' or 'eigh'$"):
        check.one_of(("svd", "eigh"), solver="lu")


def test_lengths_and_shapes():
    check.lengths(x=torch.zeros(3, 2), c=[1, 2, 3])
    with pytest.raises(ValueError, match="x has 3, c has 2 rows; expected equally many"):
        check.lengths(x=torch.zeros(3, 2), c=[1, 2])
    check.shape("n", 3, z=torch.zeros(7, 3))
    for bad in (torch.zeros(7, 2), torch.zeros(3), torch.zeros(7, 3, 1)):
        with pytest.raises(ValueError, match=r"z has shape .*; expected \(n, 3\)"):
            check.shape("n", 3, z=bad)
