"""An epoch of a variational autoencoder: ``train.fit`` beside a bare loop and beside pythae, in one run.

    python benchmarks/vae.py [rounds]

Everybody trains the same network, 784-400-20, on the same 50,000 binary images in batches of 128 with Adam. The
bare loop is written out by hand: index batches, fused Adam, the loss in five lines, no checks, no history. pythae
(Apache license, ``pip install pythae``) runs its own training step on its own data loader; where it is not
installed, its column is left out. An importance-weighted autoencoder with five draws is compared in the same way
(pythae's loss leaves a constant out and puts the weights on the whole gradient: the same work).
"""

import logging
import os
import sys
import tempfile
from collections.abc import Callable

import torch
import torch.nn.functional as F
from _race import medians
from torch import Tensor, nn

from lectool import nets, random, train
from lectool.vae import IWAE, VAE

N, BATCH, DRAWS, SIZES = 50_000, 128, 5, [784, 400, 20]


def bare(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> None:
    r"""One epoch, as short as it can be said."""
    opt = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)
    for rows in torch.randperm(len(x)).split(BATCH):
        batch = x[rows]
        m, log_s2 = encoder(batch).chunk(2, 1)
        a = decoder(m + (log_s2 / 2).exp() * torch.randn_like(m))
        fit = F.binary_cross_entropy_with_logits(a, batch, reduction="sum")
        kl = 0.5 * (m.square() + log_s2.exp() - 1 - log_s2).sum()
        opt.zero_grad(set_to_none=True)
        ((fit + kl) / len(batch)).backward()
        opt.step()


def networks() -> tuple[nn.Module, nn.Module]:
    random.seed(0)
    return nets.mlp([784, 400, 40]), nets.mlp([20, 400, 784])


def run_bare(x: Tensor) -> Callable[[], None]:
    encoder, decoder = networks()
    return lambda: bare(encoder, decoder, x)


def run_fit(x: Tensor, model: nn.Module) -> Callable[[], None]:
    return lambda: train.fit(model, x, epochs=1, batch_size=BATCH, lr=1e-3, progress=False)


def run_pythae(x: Tensor, k: int = 1) -> Callable[[], None]:
    from pythae.data.datasets import BaseDataset
    from pythae.models import IWAE as PythaeIWAE
    from pythae.models import VAE as PythaeVAE
    from pythae.models import IWAEConfig, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.disable(logging.INFO)
    up, down = networks()

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = up

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_variance = self.net(x).chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = down

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=torch.sigmoid(self.net(z)))

    common = {"input_dim": (784,), "latent_dim": 20, "reconstruction_loss": "bce"}
    if k == 1:
        model = PythaeVAE(VAEConfig(**common), Encoder(), Decoder())
    else:
        model = PythaeIWAE(IWAEConfig(**common, number_samples=k), Encoder(), Decoder())
    config = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(),
        num_epochs=1,
        learning_rate=1e-3,
        per_device_train_batch_size=BATCH,
        optimizer_cls="Adam",
        no_cuda=True,
    )
    trainer = BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=config)
    trainer.prepare_training()
    # no progress bar, no console
    trainer.callback_handler.callbacks = []
    return lambda: trainer.train_step(1)


def compare(title: str, runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    found = medians(runs, rounds, warm_up=True)
    print(f"{title}: " + "   ".join(f"{name} {s:.2f} s" for name, (s, _) in found.items()))
    return {name: s for name, (s, _) in found.items()}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    threads = torch.get_num_threads()
    print(f"{os.cpu_count()} cores, torch {torch.__version__} with {threads} threads")
    print(f"one epoch of {N:,} images, batches of {BATCH}; median of {rounds} alternating runs\n")
    random.seed(0)
    # as much white as MNIST has; the time does not depend on it
    x = (torch.rand(N, 784) < 0.13).float()
    try:
        peers = {"pythae": run_pythae(x)}, {"pythae": run_pythae(x, DRAWS)}
    except ImportError as error:
        print(f"pythae is not installed ({error}); its column is left out")
        peers = {}, {}
    plain = compare(
        "VAE", {"fit": run_fit(x, VAE.mlp(SIZES)), "bare": run_bare(x), **peers[0]}, rounds
    )
    ratio = plain["fit"] / plain["bare"]
    print(f"    fit / bare   {ratio:.3f} (target: at most 1.1)")
    if "pythae" in plain:
        print(f"    fit / pythae {plain['fit'] / plain['pythae']:.3f} (target: at most 0.65)")
    weighted = compare(
        f"IWAE, k = {DRAWS}", {"fit": run_fit(x, IWAE.mlp(SIZES, k=DRAWS)), **peers[1]}, rounds
    )
    if "pythae" in weighted:
        ratio = weighted["fit"] / weighted["pythae"]
        print(f"    fit / pythae {ratio:.3f} (target: at most 0.8)")


if __name__ == "__main__":
    main()
