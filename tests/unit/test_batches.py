"""Data in files, data sets and loaders are trained on as tensors in memory are."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

from lectool.batches import Items, Loaded, Rows, batches_of
from lectool.train import fit

CPU = torch.device("cpu")


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.2), nn.Linear(4, 6))

    def loss(self, x, y=None):
        return (self.net(x) - x).square().sum(1).mean() + (0.0 if y is None else y.float().mean())


class Squares(Dataset):
    """Items that are tuples."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Single(Squares):
    def __getitem__(self, i):
        return self.x[i]


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(6)


def samples(n=50):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(0))


def trained(x, **options):
    torch.manual_seed(1)
    model = Small()
    history = fit(model, x, **({"epochs": 3, "batch_size": 16, "lr": 0.01} | options))
    return model, history, torch.rand(())


def same(a, b):
    (model, history, number), (other, other_history, other_number) = a, b
    return (
        all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters()))
        and history.terms == other_history.terms
        and number == other_number
    )


@pytest.fixture
def in_file(tmp_path):
    """A tensor → a function that opens it in another way."""

    def write(x, kind):
        path = str(tmp_path / "x.npy")
        np.save(path, x.numpy())
        mapped = np.load(path, mmap_mode="r")
        if kind == "from_file":
            x.numpy().tofile(path)
            return torch.from_file(path, shared=True, size=x.numel(), dtype=x.dtype).view(x.shape)
        return {"memmap": mapped, "view": mapped[:], "array view": np.asarray(mapped)}[kind]

    return write


FILES = ["memmap", "view", "array view", "from_file"]


@pytest.mark.parametrize("kind", [*FILES, "array", "data set", "tuples", "tensor data set"])
def test_other_data_are_the_tensors_to_the_bit(in_file, kind):
    x, y = samples(), torch.arange(50)
    if kind in FILES:
        other = in_file(x, kind)
    else:
        other = {
            "array": x.numpy(),
            "data set": Single(x, y),
            "tuples": Squares(x, y),
            "tensor data set": TensorDataset(x, y),
        }[kind]
    both = kind in ("tuples", "tensor data set")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(trained([x, y] if both else x), trained(other))
        assert same(trained([x, y] if both else x, steps=9), trained(other, steps=9))


@pytest.mark.parametrize("kind", FILES)
def test_what_lies_in_a_file_stays_there(in_file, kind):
    rows = batches_of(in_file(samples(), kind), CPU)
    assert rows.mapped and len(list(rows.ordered(20))) == 3
    assert not batches_of(samples(), CPU).mapped and not batches_of(samples().numpy(), CPU).mapped


def test_only_some_rows_of_a_file_are_looked_at(in_file, monkeypatch):
    x = samples(5000)
    x[1] = torch.nan
    assert batches_of(in_file(x, "memmap"), CPU).n == 5000
    x[5] = torch.nan  # every fifth row of 5000
    with pytest.raises(ValueError, match="x holds 6 values that are NaN"):
        batches_of(in_file(x, "memmap"), CPU)
    with pytest.raises(ValueError, match="x holds 12 values that are NaN"):
        batches_of(x, CPU)


def test_a_file_and_a_tensor_side_by_side(in_file):
    x, y = samples(), torch.arange(50)
    assert same(trained([x, y]), trained([in_file(x, "memmap"), y]))


def test_data_larger_than_half_of_a_free_gpu_stay_where_they_are(monkeypatch):
    from lectool import batches

    x = samples()  # 1200 bytes
    gpu = torch.device("cuda", 0)
    for free, fits in [(2300, False), (2500, True)]:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, n=free: (n, 9999))
        assert batches._fits([x], gpu) is fits
        assert batches._fits([x], CPU)


# --- loaders -----------------------------------------------------------------------------------------------


def loader(x, **options):
    return DataLoader(Single(x, x), **({"batch_size": 16, "shuffle": True} | options))


def test_a_loader_keeps_its_order_and_its_batches():
    seen, model = [], Small()

    def loss(x):
        seen.append(x[:, 0].tolist())
        return model.loss(x)

    x = torch.arange(7.0)[:, None].repeat(1, 6) / 10
    history = fit(model, loader(x, batch_size=3, shuffle=False), epochs=2, batch_size=99, loss=loss)
    assert [[round(10 * v) for v in batch] for batch in seen] == 2 * [[0, 1, 2], [3, 4, 5], [6]]
    assert history.n_epochs == 2
    seen.clear()
    fit(model, loader(x, batch_size=3, shuffle=False), steps=4, loss=loss)
    assert len(seen) == 4


def test_terms_are_means_over_the_samples_of_a_loader():
    x, model = samples(7), Small()
    terms = fit(
        model,
        loader(x, batch_size=3),
        epochs=1,
        validation=loader(x, batch_size=2),
        loss=lambda x: {"loss": model.loss(x), "mean": x.mean()},
    ).terms
    assert terms["mean"][0] == pytest.approx(x.mean().item(), rel=1e-4)
    assert terms["validation mean"][0] == pytest.approx(x.mean().item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["loader", "items", "memmap"])
def test_a_resumed_run_is_the_uninterrupted_one(in_file, tmp_path, kind):
    def data():
        x = samples()
        return {
            "loader": loader,
            "items": lambda x: Single(x, x),
            "memmap": lambda x: in_file(x, "memmap"),
        }[kind](x)

    def leave(epoch, _model):
        if epoch == 2:
            raise KeyboardInterrupt

    whole = trained(data())
    path = tmp_path / "run.pt"
    assert trained(data(), checkpoint=path, callback=leave)[1].interrupted
    torch.manual_seed(9)
    model = Small()
    history = fit(model, data(), epochs=3, batch_size=16, lr=0.01, checkpoint=path)
    assert same(whole, (model, history, torch.rand(())))


def test_validation_in_a_file_is_that_in_memory(in_file):
    x, held_out = samples(), samples(40)
    a, b = (trained(x, validation=v) for v in (held_out, in_file(held_out, "memmap")))
    assert a[1]["validation loss"] == pytest.approx(b[1]["validation loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ("text", "x is str; expected a tensor, a sequence of tensors, a Dataset or a DataLoader"),
        ([[1.0, 2.0]], "x is list; expected a tensor"),
        (Endless(), "x is a Endless that has no length; expected at least 1"),
        (DataLoader(Endless(), batch_size=2), "x is a DataLoader that has no length"),
        (Single(samples(0), None), "x is a Single that is empty"),
        (np.zeros((0, 6)), r"x has \[\(0, 6\)\]; expected equal lengths of at least 1"),
        ([samples(3), np.zeros(4)], r"x has \[\(3, 6\), \(4,\)\]; expected equal lengths"),
        (np.full((3, 6), np.nan), "x holds 18 values that are NaN"),
    ],
)
def test_data_that_are_none(x, words):
    with pytest.raises(ValueError, match=words):
        fit(Small(), x)


def test_a_batch_that_is_no_tensor_is_named():
    class Words(Single):
        def __getitem__(self, i):
            return {"x": self.x[i]}

    with pytest.raises(ValueError, match="a batch is dict; expected a tensor or a sequence"):
        fit(Small(), Words(samples(), None))


def test_which_kind_of_source():
    x = samples()
    assert isinstance(batches_of(x, CPU), Rows) and isinstance(batches_of(Single(x, x), CPU), Items)
    assert isinstance(batches_of(TensorDataset(x), CPU), Rows)
    assert isinstance(batches_of(DataLoader(x, sampler=RandomSampler(x)), CPU), Loaded)
