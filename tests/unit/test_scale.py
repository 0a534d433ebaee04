"""The two scales."""

import pytest

from lectool import scale


@pytest.mark.parametrize(
    ("value", "expected"), [(None, "quick"), ("", "quick"), ("quick", "quick"), ("full", "full")]
)
def test_pick_follows_the_variable(monkeypatch, value, expected):
    if value is None:
        monkeypatch.delenv("LECTOOL_SCALE", raising=False)
    else:
        monkeypatch.setenv("LECTOOL_SCALE", value)
    assert scale.current() == expected
    assert scale.pick(quick=3, full=50) == {"quick": 3, "full": 50}[expected]


def test_pick_hands_on_the_object_itself(monkeypatch):
    monkeypatch.delenv("LECTOOL_SCALE", raising=False)
    small, large = [784, 30], [784, 1000, 30]
    assert scale.pick(small, large) is small


@pytest.mark.parametrize("value", ["Full", "fast", "1"])
def test_another_scale_is_named(monkeypatch, value):
    monkeypatch.setenv("LECTOOL_SCALE", value)
    with pytest.raises(
        ValueError, match=f"LECTOOL_SCALE is '{value}'; it can be 'quick' or 'full'"
    ):
        scale.pick(1, 2)
