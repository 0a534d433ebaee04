r"""What a matrix does to the plane."""

import math

import torch
from torch import Tensor

from lectool import check
from lectool.diagram import marks
from lectool.diagram.marks import BLUE, ORANGE, Box

__all__ = ["svd"]


def svd(A: Tensor) -> str:
    r"""What a 2 × 2 matrix does to the unit circle, at once and in three steps: :math:`A = U S V^\top` turns by
    :math:`V^\top`, stretches along the axes by S and turns by U (a turn may come with a reflection).

    Arguments:
        A: the matrix.

    Returns:
        the picture, for :func:`show`. The orange arrow is the first right singular vector and what becomes of it, the
        blue one the second.

    Raises:
        ValueError: if A has another shape or is zero.
    """
    check.shape(2, 2, A=A)
    U, S, Vt = torch.linalg.svd(A.detach().double().cpu())
    if torch.linalg.det(Vt) < 0:
        # The signs of a singular pair are free: let the first step be a turn without a reflection.
        U, Vt = U * torch.tensor([1.0, -1.0]), Vt * torch.tensor([[1.0], [-1.0]])
    if not S[0] > 0:
        raise ValueError("A is zero; expected a matrix that leaves something")
    angle = torch.linspace(0, 2 * math.pi, 73, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()])
    maps = [torch.eye(2, dtype=torch.float64), Vt, S.diag() @ Vt, U @ S.diag() @ Vt]
    half, middles = 74, [(0, 0), (232, 0), (232, 214), (0, 214)]
    scale = 0.86 * half / max(1.0, S[0].item())
    parts = []
    for M, (x, y) in zip(maps, middles):
        flip = torch.tensor([[scale], [-scale]]).double()
        where = torch.tensor([[x], [y]])
        parts.append(marks.line_path([(x - half, y), (x + half, y)], stroke_width=0.8, opacity=0.5))
        parts.append(marks.line_path([(x, y - half), (x, y + half)], stroke_width=0.8, opacity=0.5))
        curve = (where + flip * (M @ circle)).T.tolist()
        parts.append(
            marks.polygon(curve, fill="currentColor", fill_opacity=0.12, stroke="currentColor")
        )
        for v, color in zip(Vt, (ORANGE, BLUE)):
            tip = where + flip * (M @ v[:, None])
            parts.append(marks.stroke_with_head([(x, y), tuple(tip[:, 0].tolist())], color, 2.5))
    steps = [
        ("V^⊤", 0, 1, (116, -12)),
        ("S", 1, 2, (246, 107)),
        ("U", 2, 3, (116, 202)),
        ("A", 0, 3, (-14, 107)),
    ]
    for label, i, j, (x, y) in steps:
        (x_0, y_0), (x_1, y_1) = middles[i], middles[j]
        share = (half + 8) / math.hypot(x_1 - x_0, y_1 - y_0)
        ends = [(x_0 + s * (x_1 - x_0), y_0 + s * (y_1 - y_0)) for s in (share, 1 - share)]
        parts.append(marks.stroke_with_head(ends))
        parts.append(marks.text(label, x, y, math_mode=True))
    names = ["unit circle", "turned", "turned, stretched", "turned again"]
    for name, (x, y) in zip(names, middles):
        parts.append(marks.text(name, x, y + (-half - 14 if y == 0 else half + 14)))
    return marks.picture(
        parts, Box(116, 107, 232 + 2 * half + 8, 214 + 2 * half + 2 * marks.LINE + 16)
    )
