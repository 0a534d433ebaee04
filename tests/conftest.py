"""Figures are drawn without a window."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
