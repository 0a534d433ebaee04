"""Figures are drawn without a window; examples are the same in every run, and a slow machine fails none."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")

settings.register_profile(
    "same", derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")

ARGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests of a run: Playwright cannot be started twice in a process."""
    sync_api = pytest.importorskip("playwright.sync_api")
    sys.path.insert(0, str(Path(__file__).parents[1] / "_ext"))
    from browser import find_chromium

    path = find_chromium(install=False)
    if path is None:
        pytest.skip(
            "no Chromium was found: put one on the PATH or run `playwright install chromium`"
        )
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGS)
        yield chromium
        chromium.close()
