"""An importance weighted autoencoder's epoch: lectool beside pythae, the same work in one run.

    python benchmarks/iwae.py

784-400-20, five draws an image, 10,000 random grey images in [0, 1], batches of 128, Adam at 1e-3, no
validation, no checkpoints. Alternating runs, medians; the first round is not counted. pythae is compared
where it is installed. (Its loss leaves a constant out and puts weights on the whole gradient: the same work.)
"""

import logging
import os
import statistics
import tempfile
import time

import torch

from lectool import train
from lectool.vae import IWAE

N, BATCH, WIDTH, CODE, DRAWS, ROUNDS = 10_000, 128, 400, 20, 5, 3


def with_lectool(x: torch.Tensor) -> float:
    train.seed(0)
    model = IWAE.mlp([784, WIDTH, CODE], k=DRAWS)
    start = time.perf_counter()
    train.fit(model, x, epochs=1, batch_size=BATCH, lr=1e-3, progress=False)
    return time.perf_counter() - start


def with_pythae(x: torch.Tensor) -> float:
    from pythae.data.datasets import BaseDataset
    from pythae.models import IWAE as PythaeIWAE
    from pythae.models import IWAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from torch import nn

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Sequential(nn.Linear(784, WIDTH), nn.ReLU())
            self.mean, self.log_variance = nn.Linear(WIDTH, CODE), nn.Linear(WIDTH, CODE)

        def forward(self, x):
            h = self.hidden(x)
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(CODE, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 784), nn.Sigmoid()
            )

        def forward(self, z):
            return ModelOutput(reconstruction=self.net(z))

    torch.manual_seed(0)
    config = IWAEConfig(
        input_dim=(784,), latent_dim=CODE, reconstruction_loss="bce", number_samples=DRAWS
    )
    model = PythaeIWAE(config, Encoder(), Decoder())
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder, num_epochs=1, per_device_train_batch_size=BATCH,
            learning_rate=1e-3, no_cuda=True,
        )  # fmt: skip
        trainer = BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=settings)
        trainer.prepare_training()
        start = time.perf_counter()
        trainer.train_step(epoch=1)
        return time.perf_counter() - start


def main() -> None:
    logging.disable(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"  # neither side draws a progress bar
    train.seed(0)
    x = torch.rand(N, 784)
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__} with {torch.get_num_threads()} threads"
    )
    print(f"IWAE 784-{WIDTH}-{CODE}, k = {DRAWS}, one epoch of {N:,} images, median of {ROUNDS}\n")
    calls = {"lectool": with_lectool, "pythae": with_pythae}
    try:
        import pythae  # noqa: F401
    except ImportError as error:
        print(f"pythae is not installed ({error}): nothing to compare with")
        del calls["pythae"]
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, call in calls.items():
            times[name].append(call(x))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:8s} {seconds:6.2f} s   {1e3 * seconds * BATCH / N:6.2f} ms an update")
    if "pythae" in medians:
        print(f"\nratio {medians['lectool'] / medians['pythae']:.2f} (target: at most 0.8)")


if __name__ == "__main__":
    main()
