"""Two processes, started by torchrun, train what one process trains."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lectool import parallel, random

SCRIPT = Path(__file__).with_name("two_processes.py")
OWN_STATISTICS = [
    "a codebook's like",
    "after a first batch",
    "batch statistics",
]  # not those of one process


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of one process."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        script = runpy.run_path(str(SCRIPT))
        folder = tmp_path_factory.mktemp("one")
        (weights, terms), _ = script["interrupted"](folder, die=False)
        return script["results"](folder) | {"resumed": (weights, terms)}
    finally:
        torch.set_default_dtype(dtype)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder in which two processes left theirs; one of them dies once, and both are started again."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    environ = {k: v for k, v in os.environ.items() if k != "LECTOOL_SEED"}
    environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2])}
    # else processes that are started again find the addresses of those that are gone (PyTorch issue 135712)
    environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    ran = subprocess.run(
        [*command, str(SCRIPT), str(folder)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder


def close(a, b, tolerance):
    weights, terms = a
    others, other_terms = b
    assert weights.keys() == others.keys() and terms.keys() == other_terms.keys()
    for name, w in weights.items():
        torch.testing.assert_close(
            others[name], w, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
    for name, values in terms.items():
        assert other_terms[name] == pytest.approx(values, rel=max(tolerance, 1e-12)), name


def test_two_processes_train_what_one_trains(alone, two):
    """Weights and history agree to rounding; those of the two processes agree to the bit."""
    first, second = (torch.load(two / f"rank{i}-first.pt")["results"] for i in (0, 1))
    assert first.keys() == second.keys() == alone.keys() - {"resumed"}
    for name in first:
        close(first[name], second[name], 0.0)
        if name not in OWN_STATISTICS:
            close(alone[name], first[name], 1e-8)
        else:
            assert all(w.isfinite().all() for w in first[name][0].values())


def test_a_file_and_a_data_set_are_the_tensors(alone):
    for name in ("a file", "a data set"):
        weights, terms = alone["a last batch of two"]
        terms = {name: values for name, values in terms.items() if "validation" not in name}
        close((weights, terms), alone[name], 0.0)


def test_a_loader_with_a_sampler_gives_each_its_own(two):
    (first, refused), (second, _) = (
        torch.load(two / f"rank{i}-first.pt")["loader"] for i in (0, 1)
    )
    assert first == [[0, 2], [4, 6], [8]] and second == [[1, 3], [5, 7], [9]]
    assert "2 processes would be given the same batches; expected a loader with sampler=" in refused


def test_a_lost_process_is_named_and_the_run_goes_on(alone, two):
    said = (two / "lost.txt").read_text()
    assert "process 0 of 2 has lost another one" in said and f"begins from {two / 'run.pt'}" in said
    (first, n_first), (second, n_second) = (torch.load(two / f"rank{i}-second.pt") for i in (0, 1))
    close(first, second, 0.0)
    close(alone["resumed"], first, 1e-8)
    assert n_first in (2, 3) and n_second == 0, (
        "one process writes; two or three of five epochs were left"
    )


def test_what_one_process_refuses_all_refuse(two):
    for i in (0, 1):
        odd, damaged = (two / f"{name}{i}.txt" for name in ("odd", "damaged"))
        assert (
            odd.read_text() == "batch_size is 15; expected a multiple of 2, the number of processes"
        )
        assert "damaged.pt: no checkpoint of lectool" in damaged.read_text()


# --- one process that takes itself for one of several -----------------------------------------------------


@pytest.fixture
def third_of_four(monkeypatch):
    monkeypatch.setattr(parallel, "rank", lambda: 2)
    monkeypatch.setattr(parallel, "size", lambda: 4)


@pytest.mark.parametrize(
    ("draw", "shape"),
    [
        (lambda s, g: random.noise(s, generator=g), (4, 3)),
        (lambda s, g: random.uniform(s, generator=g), (4,)),
        (lambda s, g: random.integers(9, s, generator=g), (4, 2)),
        (lambda s, g: random.bernoulli(torch.full(s, 0.5), g), (4, 5)),
    ],
)
def test_within_a_share_numbers_are_drawn_for_the_whole_batch(draw, shape, third_of_four):
    whole = draw((16, *shape[1:]), random.generator(0))
    with parallel.share(16) as own:
        part = draw(shape, random.generator(0))
    assert torch.equal(part, whole[own]) and torch.equal(part, whole[2::4])
    outside = draw(shape, random.generator(0))
    with parallel.share(15) as own:  # no equal shares: everybody's
        assert own == slice(None)
        assert torch.equal(draw(shape, random.generator(0)), outside)


def test_a_single_number_is_the_same_for_all(third_of_four):
    with parallel.share(8):
        own = random.uniform((), generator=random.generator(0))
    assert own == random.uniform((), generator=random.generator(0))


def test_a_share_ends_with_its_error(third_of_four):
    with pytest.raises(KeyError), parallel.share(8):
        raise KeyError
    assert not parallel._sharing


def test_alone_nothing_happens():
    def loss(x):
        return x

    net, values = torch.nn.Linear(1, 1), {"a": 1.0}
    assert parallel.rank() == 0 and parallel.size() == 1 and parallel.is_first()
    assert parallel.together(net, loss) is loss
    assert parallel.mean(values, torch.device("cpu")) is values
    with parallel.share(8) as own:
        assert own == slice(None) and not parallel._sharing
    with pytest.raises(RuntimeError, match="gloo"), parallel.watched("run.pt"):
        raise RuntimeError("gloo is no concern of one process")


def test_only_what_communication_raises_is_a_lost_process(third_of_four):
    with pytest.raises(ConnectionError, match=r"process 2 of 4 has lost another one.*begins anew"):
        with parallel.watched(None):
            raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [::1]:80")
    with pytest.raises(RuntimeError, match="mat1"), parallel.watched(None):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
