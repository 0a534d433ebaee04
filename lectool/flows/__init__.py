r"""Chapter 16: normalizing flows, and the outlook to flow matching and diffusion."""

from lectool.flows.autoregressive import (
    InverseAutoregressive,
    MaskedAutoregressive,
    MaskedMLP,
    iaf,
    maf,
)
from lectool.flows.continuous import ContinuousFlow, TangentMLP, VelocityField, dopri5, rk4
from lectool.flows.core import Chain, Flow, Inverse, Layer, jacobian_log_det
from lectool.flows.couplings import (
    AdditiveCoupling,
    AffineCoupling,
    Coupling,
    CouplingFlow,
    SplineCoupling,
    nice,
    rational_quadratic_spline,
    realnvp,
    spline_flow,
)
from lectool.flows.diffusion import Diffusion, FlowMatching, TimeNet
from lectool.flows.images import (
    Dequantized,
    Split,
    Squeeze,
    VariationalNoise,
    conv_net,
    glow,
    glow_step,
)
from lectool.flows.posterior import FlowPosterior, FlowPrior, FlowVAE
from lectool.flows.residual import ContractiveMLP, ResidualLayer, power_series_log_det
from lectool.flows.simple import ActNorm, Affine, InvertibleConv, Logit, Planar, Radial

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "Affine",
    "AffineCoupling",
    "Chain",
    "ContinuousFlow",
    "ContractiveMLP",
    "Coupling",
    "CouplingFlow",
    "Dequantized",
    "Diffusion",
    "Flow",
    "FlowMatching",
    "FlowPosterior",
    "FlowPrior",
    "FlowVAE",
    "Inverse",
    "InverseAutoregressive",
    "InvertibleConv",
    "Layer",
    "Logit",
    "MaskedAutoregressive",
    "MaskedMLP",
    "Planar",
    "Radial",
    "ResidualLayer",
    "SplineCoupling",
    "Split",
    "Squeeze",
    "TangentMLP",
    "TimeNet",
    "VariationalNoise",
    "VelocityField",
    "conv_net",
    "dopri5",
    "glow",
    "glow_step",
    "iaf",
    "jacobian_log_det",
    "maf",
    "nice",
    "power_series_log_det",
    "rational_quadratic_spline",
    "realnvp",
    "rk4",
    "spline_flow",
]
