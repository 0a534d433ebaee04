r"""What the measures share: the numbers in which they are computed."""

import torch
from torch import Tensor

__all__ = ["double"]


def double(x: Tensor) -> Tensor:
    r"""``x`` in float64, on the CPU where its own device (Apple's MPS) has no such numbers."""
    return (x.cpu() if x.device.type == "mps" else x).to(torch.float64)
