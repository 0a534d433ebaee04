"""Every model on the GPU: the CPU's result, samples of the same distribution, and nothing left behind on the CPU."""

import copy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lectool import gan, metrics, nets, random, train
from lectool.autoencoders import deep_autoencoder

sys.path.insert(0, str(Path(__file__).parent))

from models import FITTED, TRAINED, models

CPU = torch.device("cpu")
SAMPLED = {name: case for name, case in {**TRAINED, **FITTED}.items() if case.sample}


def moved(batch, where):
    return [t.to(where) for t in batch]


def tensors(thing, depth=3):
    """The tensors of a model, whatever it keeps them in, by name."""
    if isinstance(thing, Tensor):
        return {"": thing}
    if isinstance(thing, nn.Module):
        return dict(thing.state_dict())
    inside = thing if isinstance(thing, dict) else getattr(thing, "__dict__", None)
    if isinstance(thing, list | tuple):
        inside = dict(enumerate(thing))
    found = {}
    for name, value in (inside or {}).items() if depth else ():
        found |= {f"{name}.{rest}".rstrip("."): t for rest, t in tensors(value, depth - 1).items()}
    return found


def agree(found, expected, tolerance=1e-6):
    assert found.keys() == expected.keys() and found
    for name, t in expected.items():
        if not t.is_floating_point():
            assert torch.equal(found[name].cpu(), t), name
            continue
        torch.testing.assert_close(
            found[name].cpu(), t, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def trained(name, where, seed):
    """A model after three epochs, and its history."""
    case = TRAINED[name]
    seed(1)
    torch.manual_seed(1)
    model = copy.deepcopy(case.make()).to(where, torch.float64)
    torch.seed()  # whatever is not drawn by `same_numbers` differs, on the CPU too
    x = moved(case.data(), where)
    history = train.fit(model, x, epochs=3, batch_size=16, lr=1e-2, progress=False)
    return model, history


def fitted(name, where, seed):
    case = FITTED[name]
    seed(1)
    torch.seed()
    return case.make().fit(*moved(case.data(), where))


def test_every_model_is_here():
    known = {**TRAINED, **FITTED}
    assert models() == set(known), "each model needs a case in tests/gpu/models.py, by its name"


@pytest.mark.parametrize("name", TRAINED)
def test_training_gives_the_cpus_result(name, device, same_numbers):
    (here, history), (there, expected) = (
        trained(name, where, same_numbers) for where in (device, CPU)
    )
    agree(tensors(here), tensors(there))
    for term, values in expected.terms.items():
        assert history.terms[term] == pytest.approx(values, rel=1e-6, abs=1e-6), term


@pytest.mark.parametrize("name", FITTED)
def test_a_fit_gives_the_cpus_result(name, device, same_numbers):
    here, there = (fitted(name, where, same_numbers) for where in (device, CPU))
    found, expected = tensors(here), tensors(there)
    x = FITTED[name].data()[:1]
    for verb in ("transform", "score"):
        if hasattr(there, verb) and name != "BayesianCurve":
            values = [getattr(m, verb)(*moved(x, w)) for m, w in ((here, device), (there, CPU))]
            found |= {f"{verb} {k}": t for k, t in tensors(_tensor(values[0])).items()}
            expected |= {f"{verb} {k}": t for k, t in tensors(_tensor(values[1])).items()}
    agree(found, expected)


def _tensor(value):
    return torch.tensor(value) if isinstance(value, float) else value


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler: no g++")
def test_a_compiled_update_is_the_same(device):
    """On a GPU it is replayed as one CUDA graph; nothing in the loss cuts the graph."""
    x, results = torch.rand(48, 6, device=device), []
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    for compiled in (False, True):
        torch.manual_seed(0)
        model = deep_autoencoder([6, 8, 2]).to(device)
        loss = torch.compile(model.loss, mode=mode, fullgraph=True) if compiled else model.loss
        torch.manual_seed(1)
        train.fit(model, x, epochs=2, batch_size=16, lr=1e-2, loss=loss, progress=False)
        results.append(tensors(model))
    agree(*results)


class Elsewhere(TorchDispatchMode):
    """Notes operations whose results, more than a number, do not lie on a device."""

    def __init__(self, device):
        super().__init__()
        self.device, self.seen = device, set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for t in out if isinstance(out, list | tuple) else [out]:
            if isinstance(t, Tensor) and t.device != self.device and t.numel() > 1:
                self.seen.add(str(operation))
        return out


def test_operations_elsewhere_are_seen():
    x = torch.ones(3)
    with Elsewhere(torch.device("meta")) as mode:
        x + x
        x.sum()
        torch.zeros(3, device="meta") + 1
    assert mode.seen == {"aten.add.Tensor"}


@pytest.mark.parametrize("name", TRAINED)
def test_nothing_falls_back_to_the_cpu(name, device):
    random.seed(0)
    case = TRAINED[name]
    model = case.make().to(device, torch.float64).train()
    x = moved(case.data(), device)
    with Elsewhere(device) as mode:
        terms = train.named(model.loss(*x))
        terms["loss"].backward()
    assert not mode.seen
    assert {t.device for t in terms.values()} == {device}
    assert {t.device for t in model.state_dict().values()} == {device}
    assert {p.grad.device for p in model.parameters() if p.grad is not None} == {device}
    for verb in ("encode", "reconstruct"):
        if hasattr(model, verb) and len(x) == 1:
            out = getattr(model, verb)(x[0])
            assert {t.device for t in tensors(out).values()} == {device}, verb


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_agree_in_distribution(name, device, same_numbers):
    """Means and variances of many samples, within five standard errors; the two take different numbers."""
    train_or_fit = trained if name in TRAINED else fitted
    seed, n = same_numbers, 2000
    models = [train_or_fit(name, where, seed) for where in (device, CPU)]
    models = [m[0].eval() if name in TRAINED else m for m in models]
    with torch.no_grad():
        seed(3)
        here = SAMPLED[name].sample(models[0], n)
        seed(4)
        there = SAMPLED[name].sample(models[1], n)
    assert here.device == device and here.shape == there.shape
    assert not torch.equal(here.cpu(), there)
    a, b = (t.cpu().double().flatten(1) for t in (here, there))
    for f in (lambda t: t, lambda t: (t - b.mean(0)).square()):
        a_f, b_f = f(a), f(b)
        error = ((a_f.var(0) + b_f.var(0)) / n).sqrt() + 1e-9
        assert ((a_f.mean(0) - b_f.mean(0)).abs() / error).max() < 5.5


@pytest.mark.parametrize("draw", [random.noise, random.uniform])
def test_random_numbers_lie_where_they_are_needed(draw, device):
    like = torch.zeros(2, device=device)
    for generator in (None, torch.Generator(), torch.Generator(device)):
        assert draw((3, 2), like, generator).device == device
    given = torch.Generator(device).manual_seed(0)
    assert random.integers(5, (4,), device, given).device == device
    assert random.permutation(5, device, given).device == device
    assert random.bernoulli(like + 0.5, given).device == device
    same = [draw((3, 2), like, torch.Generator(device).manual_seed(1)) for _ in range(2)]
    assert torch.equal(*same)


GAMES = {
    "non-saturating": lambda G, D: gan.two_player(G, D, gan.NonSaturating(), latent=2, k=2),
    "WGAN-GP": lambda G, D: gan.wgan_gp(G, D, latent=2, k=2),
    "clipped": lambda G, D: gan.wgan(G, D, latent=2),
}


@pytest.mark.parametrize("name", GAMES)
def test_a_game_gives_the_cpus_result(name, device, same_numbers):
    states = []
    for where in (device, CPU):
        same_numbers(0)
        torch.manual_seed(0)
        G, D = nets.mlp([2, 8, 2]).to(where), nets.mlp([2, 8, 1]).to(where)
        torch.seed()
        x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).to(where)
        record = gan.play(GAMES[name](G, D), x, n_steps=6, progress=False)
        states.append((tensors(nn.ModuleList([G, D])), record.terms))
    agree(states[0][0], states[1][0])
    for term, values in states[1][1].items():
        assert states[0][1][term] == pytest.approx(values, rel=1e-6, abs=1e-6)


def test_a_file_is_trained_on_from_the_device(device, tmp_path, same_numbers):
    """Rows of a file go by pinned memory; the result is that of the tensor."""
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "x.npy", x.numpy())
    found = []
    for source in (x.to(device), np.load(tmp_path / "x.npy", mmap_mode="r")):
        same_numbers(0)
        torch.manual_seed(0)
        model = TRAINED["LinearAutoencoder"].make().to(device)
        train.fit(model, source, epochs=2, batch_size=16, progress=False)
        found.append(model.state_dict())
    agree(found[1], {name: t.cpu() for name, t in found[0].items()}, 1e-12)


def test_distances_are_the_cpus(device):
    a, b = (torch.randn(200, 3, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    for f in (metrics.frechet_inception_distance, metrics.squared_mmd, metrics.precision_recall):
        here, there = (torch.as_tensor(f(a.to(where), b.to(where))) for where in (device, CPU))
        torch.testing.assert_close(here.cpu(), there, rtol=1e-6, atol=1e-6)
