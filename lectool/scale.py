r"""Two scales: *quick* for a laptop's CPU and for every build, *full* for the papers' settings on a GPU."""

import os
from typing import TypeVar

__all__ = ["current", "pick"]

T = TypeVar("T")


def current() -> str:
    r"""The scale that ``LECTOOL_SCALE`` asks for.

    Returns:
        ``"quick"`` (also where the variable is not set) or ``"full"``.

    Raises:
        ValueError: if the variable holds anything else.
    """
    scale = os.environ.get("LECTOOL_SCALE") or "quick"
    if scale not in ("quick", "full"):
        raise ValueError(f"LECTOOL_SCALE is {scale!r}; it can be 'quick' or 'full'")
    return scale


def pick(quick: T, full: T) -> T:
    r"""Chooses a setting by scale.

    Arguments:
        quick: the setting with which a chapter runs in a minute or two on two CPU cores.
        full: the paper's setting, for a GPU.

    Raises:
        ValueError: if ``LECTOOL_SCALE`` is neither ``quick`` nor ``full``.

    Example:
        >>> n_epochs = pick(quick=3, full=50)
    """
    return full if current() == "full" else quick
