"""``train.fit`` on data that stay in a file or behind a loader, and in several processes, in one run.

    python benchmarks/train.py

The same autoencoder is trained on the same rows in the same order: from tensors in memory, from a file that is mapped
into memory, from a data set whose items are collated one by one, and from a DataLoader. All but the last, which
shuffles by itself, must end at the same weights to the bit; then their times are compared.

Then one update is compared with the same update compiled (torch.compile; on a GPU replayed as a CUDA graph), for a
small, a middle and a large network: whoever wants it gives ``fit`` a ``loss=torch.compile(model.loss)``.

At last torchrun starts one, two, … processes (as many as there are cores, or GPUs, at most 4) that train it together,
with the same batch in all of them together. Each process is given one thread, so that more processes have more to work
with.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _race import race
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lectool import parallel, random, train
from lectool.autoencoders import deep_autoencoder

N, EPOCHS, BATCH, ROUNDS = 20_000, 2, 128, 5
WIDE = 1024  # samples an update for the processes, which meet once an update


class Items(Dataset):
    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Tensor:
        return torch.from_numpy(self.x[i].copy())


def trained(x: object, **settings: int) -> nn.Module:
    random.seed(0)
    model = deep_autoencoder([784, 256, 30]).to(train.device())
    options = {"epochs": EPOCHS, "batch_size": BATCH, "lr": 1e-3, "progress": False} | settings
    train.fit(model, x, **options)
    return model


def stream(folder: Path) -> None:
    random.seed(0)
    x = torch.rand(N, 784)
    np.save(folder / "x.npy", x.numpy())
    mapped = np.load(folder / "x.npy", mmap_mode="r")
    x = x.to(train.device())
    loader = DataLoader(Items(mapped), batch_size=BATCH, shuffle=True)
    calls = {
        "tensor in memory": lambda: trained(x),
        "file (np.memmap)": lambda: trained(mapped),
        "Dataset, item by item": lambda: trained(Items(mapped)),
        "DataLoader": lambda: trained(loader),
    }
    seconds, models = race(calls, ROUNDS, warm_up=True)
    first = list(models["tensor in memory"].parameters())
    for name in list(calls)[1:3]:
        if not all(torch.equal(p, q) for p, q in zip(first, models[name].parameters())):
            raise SystemExit(f"{name}: ends at other weights than the tensor")
    base = statistics.median(seconds["tensor in memory"])
    targets = {"file (np.memmap)": " (target: at most 1.1)"}
    for name, values in seconds.items():
        # of each round, so that a slow minute does not count against one of them
        ratios = [a / b for a, b in zip(values, seconds["tensor in memory"])]
        update = 1e6 * statistics.median(values) / (EPOCHS * -(-N // BATCH))
        print(
            f"{name:24s}{statistics.median(values):8.3f} s   {update:8.1f} µs an update   "
            f"ratio {statistics.median(ratios):.3f}{targets.get(name, '')}"
        )
    print(
        f"({N} × 784 numbers, batches of {BATCH}; the file lies in the page cache; {base:.3f} s is 1)"
    )


def compiled() -> None:
    """One update as the package makes it, and its loss and gradient by torch.compile: on a GPU as one CUDA graph."""
    mode = "reduce-overhead" if train.device().type == "cuda" else "default"
    print(f"\n{'one update':34s}{'as it is':>10s}{'compiled':>10s}{'ratio':>8s}   ({mode})")
    for sizes, size in (([16, 64, 2], 64), ([784, 256, 30], BATCH), ([784, 1000, 500, 30], WIDE)):
        random.seed(0)
        x = torch.rand(100 * size, sizes[0]).to(train.device())
        model = deep_autoencoder(sizes).to(train.device())
        settings = {"epochs": 1, "batch_size": size, "lr": 1e-4, "progress": False}
        losses = {"as it is": model.loss, "compiled": torch.compile(model.loss, mode=mode)}
        calls = {
            name: lambda loss=loss, s=settings, m=model, x=x: train.fit(m, x, loss=loss, **s)
            for name, loss in losses.items()
        }
        seconds, _ = race(calls, ROUNDS, warm_up=True)
        plain, fast = (1e4 * statistics.median(seconds[name]) for name in losses)
        words = f"{'–'.join(map(str, sizes))}, batches of {size}"
        print(f"{words:34s}{plain:7.0f} µs{fast:7.0f} µs{plain / fast:8.2f}", flush=True)


def scaling() -> None:
    most = torch.cuda.device_count() or min(4, os.cpu_count() or 1)
    environ = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    print(f"\n{'processes':12s}{'seconds':>10s}{'speed-up':>10s}   batches of {WIDE}")
    alone = 0.0
    for n in [n for n in (1, 2, 4, 8) if n <= most]:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n)]
        command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", __file__, "worker"]
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise SystemExit(ran.stderr)
        seconds = float(ran.stdout.split()[-1])
        alone = alone or seconds
        print(f"{n:<12d}{seconds:>10.3f}{alone / seconds:>10.2f}", flush=True)


def worker() -> None:
    random.seed(0)
    x = torch.rand(N, 784).to(train.device())
    times = []
    for _ in range(1 + 3):
        start = time.perf_counter()
        trained(x, batch_size=WIDE)
        times.append(time.perf_counter() - start)
    if parallel.is_first():
        print(statistics.median(times[1:]))


def main() -> None:
    print(f"{os.cpu_count()} cores, {torch.cuda.device_count()} GPUs, torch {torch.__version__}")
    print(f"{torch.get_num_threads()} threads; median of {ROUNDS} alternating runs\n")
    with tempfile.TemporaryDirectory() as folder:
        stream(Path(folder))
    compiled()
    scaling()


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["worker"] else main()
