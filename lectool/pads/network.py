r"""Small networks that run in the page: which ones can, and how their weights travel."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lectool.pads.page import as_bytes, packed_floats, png

__all__ = ["ACTIVATIONS", "decoded_png", "in_and_out", "outputs", "packed_network", "parts"]

ACTIVATIONS = {
    nn.Identity: "identity",
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.Softplus: "softplus",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
}


def parts(module: nn.Module) -> list[nn.Module]:
    r"""The modules of nested ``nn.Sequential``, one after the other."""
    if isinstance(module, nn.Sequential):
        return [part for child in module for part in parts(child)]
    return [module]


def _known(part: nn.Module) -> bool:
    # The page's script has the activations at their default settings only.
    settings = ("negative_slope", "alpha", "beta", "threshold")
    usual = type(part)() if type(part) in ACTIVATIONS else None
    return usual is not None and all(
        getattr(part, s, None) == getattr(usual, s, None) for s in settings
    )


def linear_layers(module: nn.Module) -> list[tuple[nn.Linear, str]]:
    r"""The linear layers, each with the name of the activation behind it."""
    layers: list[tuple[nn.Linear, str]] = []
    for part in parts(module):
        if isinstance(part, nn.Linear):
            if layers and layers[-1][0].out_features != part.in_features:
                raise ValueError(f"{part} does not fit behind {layers[-1][0].out_features} numbers")
            layers.append((part, "identity"))
        elif _known(part) and layers and layers[-1][1] == "identity":
            layers[-1] = (layers[-1][0], ACTIVATIONS[type(part)])
        else:
            known = ", ".join(kind.__name__ for kind in ACTIVATIONS)
            raise ValueError(
                f"{part} cannot run in a page; expected nn.Linear, each followed by one of {known}"
            )
    if not layers:
        raise ValueError("the network has no linear layer")
    return layers


def in_and_out(module: nn.Module) -> tuple[int, int]:
    r"""How many numbers the network takes and makes."""
    layers = linear_layers(module)
    return layers[0][0].in_features, layers[-1][0].out_features


def packed_network(module: nn.Module, x: Tensor, low: float, high: float) -> dict[str, Any]:
    r"""The network as the page's script reads it: sizes, activations, and all weights as base64.

    In 16-bit floats where the picture of none of the inputs ``x`` changes visibly by it, else in 32-bit floats.
    """
    layers = linear_layers(module)
    weights = []
    for layer, _ in layers:
        bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
        for t in (layer.weight, bias):
            t = t.detach().cpu().float()
            if not torch.isfinite(t).all():
                raise ValueError(f"{layer} has weights that are NaN or infinite")
            weights.append(t.flatten())
    weights = torch.cat(weights)
    rounded = copy.deepcopy(module)
    with torch.no_grad():
        for p in rounded.parameters():
            p.copy_(p.half())
        exact, rough = outputs(module, x), outputs(rounded, x)
    if not torch.isfinite(exact).all():
        raise ValueError("the network makes numbers that are NaN or infinite; expected an image")
    seen = [((image - low) / (high - low)).clamp(0, 1) for image in (exact, rough)]
    fits = weights.half().isfinite().all() and (seen[0] - seen[1]).abs().max() < 0.01
    bits = 16 if fits else 32
    return {
        "layers": [
            {"rows": layer.out_features, "columns": layer.in_features, "act": act}
            for layer, act in layers
        ],
        "weights": packed_floats(weights, bits),
        "bits": bits,
    }


def outputs(net: nn.Module, x: Tensor) -> Tensor:
    r"""What the network makes of x, as float32 on the CPU."""
    return net(x.detach().to(next(net.parameters()))).cpu().float()


def decoded_png(
    decoder: nn.Module, code: Tensor, shape: tuple[int, int], values: tuple[float, float]
) -> str:
    r"""The picture of one code, as base64."""
    with torch.no_grad():
        x = outputs(decoder, code[None])[0]
    return png(as_bytes((x - values[0]) / (values[1] - values[0])).reshape(shape))
