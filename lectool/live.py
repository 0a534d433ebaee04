r"""Whether somebody sits before the kernel."""

import os
import sys

from lectool import check

__all__ = ["is_live"]


def is_live() -> bool:
    r"""Whether somebody sits before the kernel, and sees what a cell shows at once.

    ``LECTOOL_EXPLORE`` (``live`` or ``static``) decides; else live in Colab, under a Jupyter server
    (which sets ``JPY_SESSION_NAME``; nbclient, nbval and the book's build do not) and in VS Code.
    """
    wish = os.environ.get("LECTOOL_EXPLORE")
    if wish:
        check.one_of(("live", "static"), LECTOOL_EXPLORE=wish)
        return wish == "live"
    if "google.colab" in sys.modules or os.environ.get("JPY_SESSION_NAME"):
        return True
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and "__vsc_ipynb_file__" in shell.user_ns
