"""What tests/unit/test_parallel.py trains, in one process and, by torchrun, in two.

python -m torch.distributed.run --nproc-per-node 2 tests/unit/two_processes.py FOLDER
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from lectool import gan, nets, parallel, random, train
from lectool.flows import ActNorm, Flow
from lectool.vae import VAE


class Items(Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i]


class Plain(nn.Module):
    """An autoencoder with a part that its loss leaves out."""

    def __init__(self):
        super().__init__()
        self.net, self.idle = nets.mlp([6, 8, 6]), nn.Linear(2, 2)

    def loss(self, x):
        error = (self.net(x) - x).square().sum(1).mean()
        return {"loss": error, "mean": x.mean()}


class Noisy(Plain):
    """Draws by itself, and normalizes by its batch."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 6)
        )


def samples(n, d=6):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def fitted(make, x, **options):
    """The weights after training and the history's terms."""
    random.seed(1)
    model = make()
    settings = {"epochs": 3, "batch_size": 16, "lr": 0.01, "schedule": "linear"} | options
    history = train.fit(model, x, **settings)
    return dict(model.state_dict()), history.terms


def seen_at_second(x):
    """The weights that the second batch meets, of which the first one set some."""
    random.seed(1)
    model, seen = Flow([ActNorm(6)], 6), []

    def loss(x):
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return model.loss(x)

    train.fit(model, x, steps=2, batch_size=16, loss=loss)
    return seen[1], {}


def played(make, x, **options):
    random.seed(1)
    G, D = nets.mlp([2, 8, 2]), nets.mlp([2, 8, 1])
    record = gan.play(
        make(G, D), x, n_steps=7, batch_size=8, window=3, schedule="linear", **options
    )
    return {"G": G, "D": D}, record.terms


def game(make, x, **options):
    modules, terms = played(make, x, **options)
    weights = {f"{k}.{n}": t for k, m in modules.items() for n, t in m.state_dict().items()}
    return weights, terms


def cases(folder):
    """Name → how it is trained."""
    x, plane = samples(50), samples(256, 2)
    path = folder / f"x{parallel.rank()}.npy"
    np.save(path, x.numpy())
    mapped, ones = np.load(path, mmap_mode="r"), (samples(50) > 0).double()
    penalty = {"penalty": gan.gradient_penalty, "k": 2, "latent": 2}
    return {
        "a last batch of two": lambda: fitted(Plain, x, validation=samples(9)),
        "a last batch of three": lambda: fitted(Plain, x[:35]),
        "steps": lambda: fitted(Plain, x, steps=9, optimizer=torch.optim.SGD),
        "noise": lambda: fitted(lambda: VAE.mlp([6, 8, 2]), ones),
        "a file": lambda: fitted(Plain, mapped),
        "a data set": lambda: fitted(Plain, Items(x)),
        "a codebook's like": lambda: fitted(lambda: Flow([ActNorm(6)], 6), x),
        "after a first batch": lambda: seen_at_second(x),
        "batch statistics": lambda: fitted(Noisy, x[:48]),
        "game": lambda: game(
            lambda G, D: gan.two_player(G, D, gan.NonSaturating(), **penalty), plane
        ),
        "game with a generator": lambda: game(
            lambda G, D: gan.two_player(G, D, gan.Hinge(), latent=2),
            plane,
            generator=random.generator(3),
        ),
    }


def results(folder):
    return {name: case() for name, case in cases(folder).items()}


def loader(folder):
    """Each process is given the rows of PyTorch's own sampler."""
    data = Items(torch.arange(10.0)[:, None])
    sampler = DistributedSampler(data, shuffle=False)
    model, seen = nn.Linear(1, 1), []

    def loss(x):
        seen.append(x[:, 0].tolist())
        return model(x).square().mean()

    train.fit(model, DataLoader(data, batch_size=2, sampler=sampler), epochs=1, loss=loss)
    try:
        train.fit(model, DataLoader(data, batch_size=2), epochs=1, loss=loss)
    except ValueError as error:
        return seen, str(error)
    return seen, ""


def interrupted(folder, die):
    """A run that loses a process in its third epoch, where `die`; the next one goes on."""
    path, written = folder / "run.pt", []
    save = torch.save
    # objects on their way from one process to the other are saved too, but not into a file
    torch.save = lambda x, f, **k: (isinstance(f, Path) and written.append(f)) or save(x, f, **k)

    def callback(epoch, model):
        if die and epoch == 3 and parallel.rank() == 1:
            os._exit(7)

    try:
        result = fitted(Plain, samples(50), epochs=5, checkpoint=path, callback=callback)
    finally:
        torch.save = save
    return result, len(written)


def main(folder):
    torch.set_default_dtype(torch.float64)
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    parallel.join()
    mine = folder / f"rank{parallel.rank()}-{'first' if first else 'second'}.pt"
    if first:
        torch.save({"results": results(folder), "loader": loader(folder)}, mine)
        try:
            interrupted(folder, die=True)
        except ConnectionError as error:
            (folder / "lost.txt").write_text(str(error))
            raise
    else:
        torch.save(interrupted(folder, die=False), mine)
        try:
            train.fit(Plain(), samples(50), batch_size=15)
        except ValueError as error:
            (folder / f"odd{parallel.rank()}.txt").write_text(str(error))
        (folder / "damaged.pt").write_text("no checkpoint")
        try:
            train.fit(Plain(), samples(50), batch_size=16, checkpoint=folder / "damaged.pt")
        except ValueError as error:
            (folder / f"damaged{parallel.rank()}.txt").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
