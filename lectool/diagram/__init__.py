r"""Diagrams of models: networks with their sizes, plates, games, flows, as SVG that any page can carry.

A picture takes its color from the text around it, so that it is legible on white and on black, loads no font and
runs no script. It is at most :data:`WIDEST` units wide, so that a phone can show it whole.

Labels are plain text. ``_`` and ``^`` lower and raise the next character, or what stands in braces: ``x_b``,
``z_{t−1}``; between dollar signs stands mathematics, in italics. Circles and dots hold mathematics only.
"""

from lectool.diagram.graph import KINDS, Diagram
from lectool.diagram.marks import WIDEST
from lectool.diagram.matrix import svd
from lectool.diagram.networks import Stage, layers, read_layers
from lectool.diagram.page import show

__all__ = ["KINDS", "WIDEST", "Diagram", "Stage", "layers", "read_layers", "show", "svd"]
