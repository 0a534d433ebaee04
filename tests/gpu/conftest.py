"""The device of these tests: a GPU, or what LECTOOL_TEST_DEVICE names; `cpu` proves the tests themselves."""

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device():
    name = os.environ.get("LECTOOL_TEST_DEVICE") or "cuda"
    if name.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip(
            "no CUDA here; LECTOOL_TEST_DEVICE=cpu runs these tests on the CPU against itself"
        )
    where = torch.device(name)
    return torch.empty(0, device=where).device  # with the number of the GPU


@pytest.fixture(autouse=True)
def precise(monkeypatch):
    """Double precision, and seeds that nobody shifts."""
    monkeypatch.delenv("LECTOOL_SEED", raising=False)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
    torch.set_flush_denormal(False)


DRAWS = ("randn", "rand", "randint", "randperm", "multinomial", "bernoulli", "normal")
LIKE = ("randn_like", "rand_like")


@pytest.fixture
def same_numbers(monkeypatch):
    """Random numbers that are asked for on any device are drawn on the CPU, so that they are the same everywhere."""
    source = torch.Generator()

    def draw_on_cpu(draw):
        def on_cpu(*arguments, device=None, generator=None, out=None, **options):
            tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
            where = device or (tensors[0].device if tensors else "cpu")
            arguments = [a.cpu() if isinstance(a, torch.Tensor) else a for a in arguments]
            given = (
                generator if generator is not None and generator.device.type == "cpu" else source
            )
            return draw(*arguments, generator=given, **options).to(where)

        return on_cpu

    def draw_like(draw):
        def on_cpu(x, **options):
            return draw(x.shape, dtype=x.dtype, generator=source).to(x.device)

        return on_cpu

    randn, rand = torch.randn, torch.rand
    for name in DRAWS:
        monkeypatch.setattr(torch, name, draw_on_cpu(getattr(torch, name)))
    for name, draw in zip(LIKE, (randn, rand)):
        monkeypatch.setattr(torch, name, draw_like(draw))
    return source.manual_seed
