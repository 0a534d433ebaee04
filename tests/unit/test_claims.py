"""Claims: what passes, what fails, what is refused, and what the page gets."""

import math

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from lectool import claims, data
from lectool.claims import MIME, ClaimError, claim


@pytest.fixture(autouse=True)
def shown(monkeypatch) -> list[dict]:
    bundles: list[dict] = []
    monkeypatch.setattr(claims, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


@pytest.mark.parametrize(
    ("left", "op", "right", "margin", "passes"),
    [
        (1, "<", 2, 0, True),
        (2, "<", 2, 0, False),
        (3, "<", 2, 0, False),
        (2, "≤", 2, 0, True),
        (2.001, "≤", 2, 0, False),
        (2, "<=", 2, 0, True),
        (3, ">", 2, 0, True),
        (2, ">", 2, 0, False),
        (1, ">", 2, 0, False),
        (2, "≥", 2, 0, True),
        (1.999, "≥", 2, 0, False),
        (2, ">=", 2, 0, True),
        (1, "<", 2, 0.5, True),
        (1, "<", 2, 1, False),
        (1, "≤", 2, 1, True),
        (1, "≤", 2, 1.25, False),
        (2, ">", 1, 0.5, True),
        (2, ">", 1, 1, False),
        (2, "≥", 1, 1, True),
        (2, "≥", 1, 1.25, False),
        (1, "≈", 1.5, 0.5, True),
        (1.5, "≈", 1, 0.5, True),
        (1, "≈", 1.75, 0.5, False),
        (1.75, "≈", 1, 0.5, False),
    ],
)
def test_every_operator_at_both_sides_of_its_boundary(shown, left, op, right, margin, passes):
    if passes:
        claim("a sentence", left, op, right, margin=margin)
        assert len(shown) == 1
    else:
        with pytest.raises(ClaimError):
            claim("a sentence", left, op, right, margin=margin)
        assert not shown  # nothing on the page that this run does not bear out


def test_the_error_holds_sentence_and_both_numbers():
    with pytest.raises(AssertionError, match=r"FISTA is faster: 41\.25 < 17\.5 steps \(margin 2\)"):
        claim("FISTA is faster", 41.25, "<", 17.5, margin=2, unit="steps")
    with pytest.raises(ClaimError, match=r"1 ≈ 2 \(within 0\.5\)"):
        claim("the same", 1, "≈", 2, margin=0.5)


@pytest.mark.parametrize(
    ("left", "right"), [(math.nan, 1.0), (1.0, math.nan), (torch.tensor(math.nan), 1.0)]
)
@pytest.mark.parametrize("op", ["<", "≤", ">", "≥", "≈"])
def test_nan_decides_nothing(left, op, right):
    with pytest.raises(ValueError, match="cannot be decided"):
        claim("s", left, op, right, margin=0.1)


def test_a_value_is_not_compared_with_itself():
    measured = torch.tensor(1.0)
    with pytest.raises(ValueError, match="compares a value with itself"):
        claim("s", measured, "≤", measured)
    claim("s", 3, "≤", 3)  # two small integers are one object in Python: no reason to refuse


@pytest.mark.parametrize("op", ["=", "==", "!=", "", "lt"])
def test_an_unknown_operator(op):
    with pytest.raises(ValueError, match="it can be <, ≤, >, ≥ or ≈"):
        claim("s", 1, op, 2)


def test_margins_that_make_no_sense():
    with pytest.raises(ValueError, match="expected > 0 with ≈"):
        claim("s", 1.0, "≈", 1.0)
    for op in ("<", "≈"):
        with pytest.raises(ValueError, match=r"margin is -0\.5; expected"):
            claim("s", 1.0, op, 3.0, margin=-0.5)


def test_the_bundle(shown, monkeypatch):
    monkeypatch.delenv("LECTOOL_SCALE", raising=False)
    monkeypatch.setattr(data, "used", {"mnist", "drawn"})
    claim("k < 3 & <b>more</b>", torch.tensor(0.25), "<=", 1234.5, margin=0.5, unit="bits")
    bundle = shown[0]
    assert set(bundle) == {"text/plain", "text/html", MIME}
    (record,) = bundle[MIME]["claims"]
    assert record == {
        "sentence": "k < 3 & <b>more</b>",
        "left": 0.25,
        "op": "≤",
        "right": 1234.5,
        "margin": 0.5,
        "numbers": "0.25 ≤ 1,234 bits (margin 0.5)",
        "passed": True,
        "scale": "quick",
        "data": "drawn, mnist",
    }
    assert type(record["left"]) is float  # JSON knows no tensors
    assert (
        "k &lt; 3 &amp; &lt;b&gt;more" in bundle["text/html"] and "<b>" not in bundle["text/html"]
    )
    assert bundle["text/plain"].startswith("✓ k < 3 & <b>more</b>: 0.25 ≤ 1,234 bits")
    monkeypatch.setenv("LECTOOL_SCALE", "full")
    claim("s", 1.0, "<", 2.0)
    assert shown[1][MIME]["claims"][0]["scale"] == "full"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (-0.25, "-0.25"),
        (2e-5, "2.0e-5"),
        (3.14159, "3.142"),
        (1.5e-12, "1.5e-12"),
    ],
)
def test_numbers_as_shown(shown, value, text):
    claim("s", value, "<", 10.0)
    assert shown[0][MIME]["claims"][0]["numbers"] == f"{text} < 10"


def test_two_claims_stand_open_more_are_folded_and_a_false_one_is_seen():
    record = {"sentence": "a < b", "numbers": "1 < 2", "passed": True}
    assert "<details" not in claims.block([record] * 2) and claims.block([record]).count("<tr") == 1
    folded = claims.block([record] * 3)
    assert folded.startswith("<details") and "3 claims, checked" in folded and "a &lt; b" in folded
    seen = claims.block([record, record, record | {"passed": False}])
    assert "<details" not in seen and "✗ not so on this run" in seen


def test_a_false_claim_does_not_end_a_readers_play(shown, monkeypatch):
    monkeypatch.setenv("LECTOOL_EXPLORE", "live")
    claim("the knob was turned", 3.0, "<", 2.0)
    assert shown[0]["text/plain"] == "✗ not so on this run: the knob was turned: 3 < 2"
    assert shown[0][MIME]["claims"][0]["passed"] is False
    monkeypatch.setenv("LECTOOL_EXPLORE", "static")
    with pytest.raises(ClaimError) as caught:
        claim("the knob was turned", 3.0, "<", 2.0)
    assert caught.value._render_traceback_() == [
        "ClaimError: not so on this run: the knob was turned: 3 < 2"
    ]


def test_a_cell_shows_its_claims_once_at_its_end(shown):
    shell = InteractiveShell.instance()
    try:
        shell.user_ns |= {"claim": claim, "shown": shown}
        ran = shell.run_cell("claim('one', 1, '<', 2)\nn = len(shown)\nclaim('two', 1, '<', 2)")
        assert ran.success and shell.user_ns["n"] == 0
        assert [r["sentence"] for r in shown[0][MIME]["claims"]] == ["one", "two"]
        assert not shell.run_cell("claim('three', 1, '<', 2); claim('no', 3, '<', 2)").success
        assert [r["sentence"] for r in shown[1][MIME]["claims"]] == ["three"]
        shell.run_cell("1")
        assert len(shown) == 2
    finally:
        InteractiveShell.clear_instance()
