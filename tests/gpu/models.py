"""A small instance of every model of the package, with data that it takes: what tests/gpu runs on the device."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import lectool
from lectool import autoencoders as ae
from lectool import boltzmann, energy, flows, graphical, latent, nets, vae
from lectool.factors import (
    PPCA,
    FactorAnalysis,
    FastICA,
    GradientPPCA,
    MixtureOfFactorAnalyzers,
    MixtureOfPPCA,
    SlowFeatureAnalysis,
)
from lectool.pca import PCA, LinearAutoencoder, Whitening
from lectool.sparse import (
    LISTA,
    AdaptiveDeconvolutionalNetwork,
    ConvolutionalDictionaryLearning,
    DeconvolutionalNetwork,
    DictionaryLearning,
    OnlineDictionaryLearning,
    RelevanceDetermination,
)

D, K = 6, 3


@dataclass
class Case:
    """How a model is made, what it is trained on, and how samples are drawn, ``n`` of them."""

    make: Callable[[], Any]
    data: Callable[[], tuple[Tensor, ...]]
    sample: Callable[[Any, int], Tensor] | None = None


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int = 64, *shape: int) -> Tensor:
    return torch.randn(n, *(shape or (D,)), generator=seeded())


def mixed(n: int = 64) -> Tensor:
    """Rows that depend on one another, of distinct variances."""
    scale = torch.tensor([3.0, 2.0, 1.5, 1.0, 0.7, 0.4])
    return (normal(n) * scale) @ torch.linalg.qr(normal(D)).Q


def bits(n: int = 64, d: int = D) -> Tensor:
    return (torch.rand(n, d, generator=seeded()) < 0.4).to(torch.get_default_dtype())


def unit(n: int = 64, d: int = D) -> Tensor:
    return torch.rand(n, d, generator=seeded())


def labels(n: int, k: int) -> Tensor:
    return torch.arange(n) % k


def drawn(model: Any, n: int) -> Tensor:
    return model.sample(n)


def chains(model: Any, n: int) -> Tensor:
    return model.sample(n, 30)


def autoencoder(kind: Callable[..., nn.Module] = ae.Autoencoder) -> nn.Module:
    return kind(nets.mlp([D, 8, K]), nets.mlp([K, 8, D]))


def log_joint(x: Tensor, z: Tensor) -> Tensor:
    return -0.5 * (x - z.sin()) ** 2 - 0.5 * z**2


class Pair(nn.Module):
    """log φ(x) or log φ(x, z) without its normaliser."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        z = torch.zeros_like(x) if z is None else z
        return -0.5 * ((x - self.a * z)[..., 0] ** 2 + z[..., 0] ** 2) - self.c


def noise_of_one() -> latent.NormalNoise:
    return latent.NormalNoise(torch.zeros(1), 2 * torch.eye(1))


def one(n: int = 64) -> tuple[Tensor]:
    return (normal(n, 1),)


def belief() -> nn.Module:
    return energy.DeepBeliefNetwork([boltzmann.RBM(D, 4), boltzmann.RBM(4, 3)]).untie()


def pictures(n: int = 4, side: int = 10) -> tuple[Tensor]:
    return (normal(n, 1, side, side),)


X = lambda: (normal(),)  # noqa: E731
MIXED = lambda: (mixed(),)  # noqa: E731
BITS = lambda: (bits(),)  # noqa: E731
UNIT = lambda: (unit(),)  # noqa: E731
PAIRS = lambda: (normal(), normal().flip(1))  # noqa: E731
COUNTS = lambda: ((8 * unit(30, 12)).floor(),)  # noqa: E731
VAES = [D, 8, 2]

# Trained by gradient: `train.fit(model, data)`.
TRAINED: dict[str, Case] = {
    "Contractive": Case(lambda: ae.Contractive(ae.SigmoidAutoencoder(D, K), 0.1), UNIT),
    "Denoising": Case(lambda: ae.Denoising(autoencoder(), "gaussian"), UNIT),
    "GatedAutoencoder": Case(lambda: autoencoder(ae.GatedAutoencoder), UNIT),
    "LadderNetwork": Case(
        lambda: ae.LadderNetwork([D, 5, 3]), lambda: (normal(), normal(), labels(64, 3))
    ),
    "Autoencoder": Case(autoencoder, UNIT),
    "SigmoidAutoencoder": Case(lambda: ae.SigmoidAutoencoder(D, K), UNIT),
    "ConvAutoencoder": Case(ae.ConvAutoencoder, lambda: (unit(16, 784),)),
    "PredictiveSparseDecomposition": Case(
        lambda: ae.PredictiveSparseDecomposition(D, 8, 0.2, n_ista=10), X
    ),
    "VarianceAutoencoder": Case(
        lambda: ae.VarianceAutoencoder(nets.mlp([D, 4]), nets.mlp([2, 2 * D])), X
    ),
    "LinearAutoencoder": Case(lambda: LinearAutoencoder(D, K), MIXED),
    "GradientPPCA": Case(lambda: GradientPPCA(D, 2), MIXED, drawn),
    "RBM": Case(lambda: boltzmann.RBM(D, 4, n_particles=16), BITS, chains),
    "GaussianRBM": Case(lambda: boltzmann.GaussianRBM(D, 4), X, chains),
    "BoltzmannMachine": Case(
        lambda: boltzmann.BoltzmannMachine(D, 2, n_particles=16), BITS, chains
    ),
    "RatingsRBM": Case(
        lambda: boltzmann.RatingsRBM(D, 4, 5), lambda: ((5 * unit()).ceil().long(),)
    ),
    "NoiseContrastiveRBM": Case(
        lambda: boltzmann.NoiseContrastiveRBM(
            boltzmann.RBM(D, 4), boltzmann.BernoulliNoise(torch.full((D,), 0.4))
        ),
        BITS,
    ),
    "SemiRestrictedRBM": Case(lambda: energy.SemiRestrictedRBM(D, K, n_chains=16), X, chains),
    "MeanCovarianceRBM": Case(lambda: energy.MeanCovarianceRBM(D, K, 3, n_leapfrog=5), X, chains),
    "CovarianceRBM": Case(lambda: energy.CovarianceRBM(D, 3, n_leapfrog=5), X, chains),
    "DeepBeliefNetwork": Case(belief, BITS, chains),
    "DoubledRBM": Case(lambda: energy.DoubledRBM(D, K, "visible"), BITS),
    "DeepBoltzmannMachine": Case(
        lambda: energy.DeepBoltzmannMachine(D, 4, 3, n_particles=16), BITS, chains
    ),
    "GatedRBM": Case(lambda: energy.GatedRBM(D, D, K), PAIRS),
    "FactoredGatedRBM": Case(lambda: energy.FactoredGatedRBM(D, D, K, n_factors=5), PAIRS),
    "DeepEnergyModel": Case(lambda: energy.DeepEnergyModel([D, 8, 4], lam=0.01), X),
    "LISTA": Case(lambda: LISTA(nn.functional.normalize(normal(D, 9), dim=0), 0.1, 3), X),
    "Flow": Case(lambda: flows.Flow([flows.ActNorm(D), flows.Planar(D)], D), X),
    "CouplingFlow": Case(lambda: flows.realnvp(D, n_layers=4, hidden=(8,)), X, drawn),
    "Dequantized": Case(
        lambda: flows.Dequantized(
            flows.glow((1, 4, 4), n_steps=1, n_hidden=4), 4, flows.VariationalNoise(1, 4, 4)
        ),
        lambda: ((4 * torch.rand(32, 1, 4, 4, generator=seeded())).floor(),),
        drawn,
    ),
    "FlowMatching": Case(lambda: flows.FlowMatching(flows.VelocityField(D, (16,)), D), X, drawn),
    "Diffusion": Case(lambda: flows.Diffusion(flows.TimeNet(D, 16), D, 10), X, drawn),
    "FlowVAE": Case(
        lambda: flows.FlowVAE(
            nn.Linear(D, 4),
            nn.Linear(2, D),
            vae.StandardNormal(2),
            flow=flows.Planar(2),
            likelihood="gaussian",
        ),
        X,
        drawn,
    ),
    "LinearChainCRF": Case(
        lambda: graphical.LinearChainCRF(D, 3),
        lambda: (normal(16, 5, D), labels(80, 3).view(16, 5)),
    ),
    "NoiseContrastive": Case(lambda: latent.NoiseContrastive(Pair(), noise_of_one()), one),
    "VariationalNCE": Case(lambda: latent.VariationalNCE(Pair(), noise_of_one(), 1), one),
    "AmortizedPosterior": Case(lambda: latent.AmortizedPosterior(log_joint, 1, (8,)), one),
    "VAE": Case(lambda: vae.VAE.mlp(VAES), BITS, drawn),
    "IWAE": Case(lambda: vae.IWAE.mlp(VAES, k=3), BITS, drawn),
    "ConditionalVAE": Case(
        lambda: vae.ConditionalVAE.mlp(VAES, n_conditions=4),
        lambda: (bits(), torch.eye(4)[labels(64, 4)]),
        lambda m, n: m.sample(n, torch.eye(4)[labels(n, 4)].to(next(m.parameters()))),
    ),
    "ConstrainedVAE": Case(lambda: vae.ConstrainedVAE.mlp(VAES, capacity=0.5), BITS, drawn),
    "WAE": Case(lambda: vae.WAE.mlp(VAES, penalty=vae.MMDPenalty()), BITS, drawn),
    "HierarchicalVAE": Case(lambda: vae.HierarchicalVAE(D, [3, 2], [9, 9]), BITS, drawn),
    "TopDownVAE": Case(lambda: vae.TopDownVAE(D, [3, 2], 9), BITS, drawn),
    "NonAmortized": Case(
        lambda: vae.NonAmortized(vae.VAE.mlp(VAES), 64), lambda: (bits(), torch.arange(64))
    ),
    "DiscreteVAE": Case(
        lambda: vae.DiscreteVAE(nn.Linear(D, D), nn.Linear(D, D), 2, 3), BITS, drawn
    ),
    "VQVAE": Case(
        lambda: vae.VQVAE(
            nn.Sequential(nn.Linear(D, D), nn.Unflatten(1, (2, 3, 1))),
            nn.Flatten(),
            vae.VectorQuantizer(3, 2),
        ),
        BITS,
    ),
    "CodePrior": Case(
        lambda: vae.CodePrior(4, (3, 3), width=8), lambda: (labels(144, 4).view(16, 3, 3),), drawn
    ),
    "BernoulliVAE": Case(lambda: vae.BernoulliVAE(D, K), BITS),
}

# Closed form or EM: `model.fit(*data)`.
FITTED: dict[str, Case] = {
    "PCA": Case(lambda: PCA(2), MIXED),
    "Whitening": Case(Whitening, MIXED),
    "FactorAnalysis": Case(lambda: FactorAnalysis(2, max_iter=20), MIXED, drawn),
    "PPCA": Case(lambda: PPCA(2), MIXED, drawn),
    "FastICA": Case(lambda: FastICA(3, tol=1e-10, max_iter=500), lambda: ((3 * unit(400)) ** 2,)),
    "MixtureOfPPCA": Case(lambda: MixtureOfPPCA(2, 1, max_iter=10), MIXED),
    "MixtureOfFactorAnalyzers": Case(lambda: MixtureOfFactorAnalyzers(2, 1, max_iter=10), MIXED),
    "SlowFeatureAnalysis": Case(lambda: SlowFeatureAnalysis(2), lambda: (mixed(200).cumsum(0),)),
    "Hopfield": Case(boltzmann.Hopfield, lambda: (2 * bits(3, 12) - 1,)),
    "BernoulliNoise": Case(lambda: boltzmann.BernoulliNoise, BITS, drawn),
    "NormalNoise": Case(lambda: latent.NormalNoise, MIXED, drawn),
    "ConstrainedGaussian": Case(
        lambda: energy.ConstrainedGaussian(energy.band_mask(D, 1)), MIXED, drawn
    ),
    "BayesianCurve": Case(
        lambda: graphical.BayesianCurve(3, alpha=0.3, noise_variance=0.04),
        lambda: (normal(20, 1)[:, 0], normal(20, 1)[:, 0].sin()),
        drawn,
    ),
    "VariationalGaussianMixture": Case(
        lambda: latent.VariationalGaussianMixture(2, max_iter=20), MIXED
    ),
    "GaussianMixture": Case(
        lambda: latent.GaussianMixture(2, max_iter=20), MIXED, lambda m, n: m.sample(n)[0]
    ),
    "LatentCurve": Case(
        lambda: latent.LatentCurve(5, max_iter=5, n_grid=101),
        lambda: (mixed()[:, :2],),
        lambda m, n: m.sample(n)[0],
    ),
    "PLSA": Case(lambda: latent.PLSA(3, max_iter=20), COUNTS),
    "LDA": Case(lambda: latent.LDA(3, max_iter=10), COUNTS, drawn),
    "DictionaryLearning": Case(lambda: DictionaryLearning(8, 0.2, n_iter=5), MIXED),
    "OnlineDictionaryLearning": Case(
        lambda: OnlineDictionaryLearning(8, 0.2, batch_size=16), MIXED
    ),
    "ConvolutionalDictionaryLearning": Case(
        lambda: ConvolutionalDictionaryLearning(2, 3, 0.1, n_iter=3), pictures
    ),
    "DeconvolutionalNetwork": Case(
        lambda: DeconvolutionalNetwork((2, 3), 3, (0.1, 0.1), n_iter=2), pictures
    ),
    "AdaptiveDeconvolutionalNetwork": Case(
        lambda: AdaptiveDeconvolutionalNetwork((2, 3), 3, (0.1, 0.1), n_iter=2),
        lambda: pictures(4, 12),
    ),
    "RelevanceDetermination": Case(
        lambda: RelevanceDetermination(max_iter=50),
        lambda: (normal(20, 5), normal(20, 5)[:, 0] + 0.1 * normal(20, 3)[:, 1]),
    ),
}

# Bases that are no models; those of the zoo are games of their own, those of the long runs are made of models here.
BASES = {"Copier", "Restricted"}
APART = ("lectool.zoo", "lectool.full", "lectool.checks", "lectool.assign", "lectool.quizzes")


def models() -> set[str]:
    """The names of the package's public classes with a loss or a fit."""
    found = set()
    for info in pkgutil.walk_packages(lectool.__path__, "lectool."):
        if info.name.startswith(APART) or info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, kind in vars(module).items():
            own = inspect.isclass(kind) and kind.__module__ == info.name
            if own and name[0] != "_" and (hasattr(kind, "loss") or hasattr(kind, "fit")):
                found.add(name)
    return found - BASES
