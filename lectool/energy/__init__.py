r"""Energies and scores: what chapter 03 needs of them to see what a denoiser learns."""

from lectool.energy.scores import mixture_denoiser, mixture_score

__all__ = ["mixture_denoiser", "mixture_score"]
