r"""Finds the Chromium with which the browser tests look at the site."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium(install: bool = False) -> str | None:
    """The path of a Chromium: LECTOOL_CHROMIUM's, one on the PATH, else Playwright's own.

    Arguments:
        install: get one where there is none, by Playwright's download or, for root, by Debian's package.

    Raises:
        FileNotFoundError: if LECTOOL_CHROMIUM names a file that is not there.
    """
    named = os.environ.get("LECTOOL_CHROMIUM")
    if named:
        if shutil.which(named) is None:
            raise FileNotFoundError(f"LECTOOL_CHROMIUM is {named!r}, which is no program")
        return shutil.which(named)
    found = _on_path() or _playwrights()
    if found is None and install:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
        found = _playwrights()
        if (
            found is None
            and hasattr(os, "geteuid")
            and os.geteuid() == 0
            and shutil.which("apt-get")
        ):
            for command in (["update", "-qq"], ["install", "-y", "-qq", "chromium"]):
                subprocess.run(["apt-get", *command], check=False, stdin=subprocess.DEVNULL)
            found = _on_path()
    return found


def _on_path() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def _playwrights() -> str | None:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    try:
        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
    except Exception:  # Playwright's driver does not start here
        return None
    return path if Path(path).is_file() else None


if __name__ == "__main__":
    path = find_chromium(install="--install" in sys.argv)
    print(path or "no Chromium found")
    sys.exit(path is None)
