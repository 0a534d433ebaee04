"""Seeds and noise."""

import random as python_random

import numpy as np
import pytest
import torch

from lectool import random
from lectool.random import bernoulli, integers, noise, uniform


def draws() -> list[float]:
    return [python_random.random(), np.random.rand(), torch.rand(()).item()]  # noqa: NPY002


def test_seed_fixes_all_three_sources():
    random.seed(4)
    first = draws()
    assert draws() != first
    random.seed(4)
    assert draws() == first
    random.seed(5)
    other = draws()
    assert all(a != b for a, b in zip(first, other))
    random.seed()
    default = draws()
    random.seed(0)
    assert draws() == default


def test_the_variable_shifts_every_seed(monkeypatch):
    random.seed(7)
    first, drawn = draws(), torch.rand(3, generator=random.generator(7))
    monkeypatch.setenv("LECTOOL_SEED", "2")
    assert random.shifted(5) == 7
    random.seed(5)
    assert draws() == first
    assert torch.equal(torch.rand(3, generator=random.generator(5)), drawn)
    monkeypatch.setenv("LECTOOL_SEED", "")
    assert random.shifted(5) == 5


def test_seed_flushes_denormal_numbers():
    torch.set_flush_denormal(False)
    random.seed(0)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot")
    random.seed(0)
    assert (torch.tensor([1e-30]) * 1e-10).item() == 0


def test_generator_leaves_the_global_one_alone():
    state = torch.get_rng_state()
    torch.rand(5, generator=random.generator(1))
    assert torch.equal(torch.get_rng_state(), state)


# ---------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("draw", [noise, uniform])
def test_noise_takes_device_and_type_of_what_it_is_for(draw):
    like = torch.zeros(2, dtype=torch.float64)
    assert draw((3, 4), like).dtype == torch.float64 and draw((3, 4), like).shape == (3, 4)
    assert draw(5).dtype == torch.get_default_dtype() and draw(5).shape == (5,)


@pytest.mark.parametrize(
    "draw", [noise, uniform, lambda n, like, g: integers(9, n, "cpu", g).float()]
)
def test_the_same_generator_draws_the_same_noise(draw):
    first, second, other = (draw(50, None, random.generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_noise_moves_from_the_generators_device():
    """The meta device stands in for a GPU: results arrive there though the generator lives on the CPU."""
    like = torch.empty(1, device="meta")
    assert noise(3, like, random.generator(0)).device.type == "meta"
    assert integers(3, 4, "meta", random.generator(0)).device.type == "meta"


def test_noise_is_standard_normal_and_uniform():
    z, u = noise(200_000, None, random.generator(0)), uniform(200_000, None, random.generator(0))
    assert abs(z.mean()) < 0.01 and abs(z.var() - 1) < 0.02 and abs((z**4).mean() - 3) < 0.1
    assert (
        u.min() >= 0
        and u.max() < 1
        and abs(u.mean() - 0.5) < 0.005
        and abs(u.var() - 1 / 12) < 0.002
    )


def test_bernoulli_is_one_with_its_probability():
    p = torch.tensor([0.0, 0.2, 0.9, 1.0], dtype=torch.float64).expand(50_000, 4)
    x = bernoulli(p, random.generator(0))
    assert x.dtype == p.dtype and set(x.unique().tolist()) == {0.0, 1.0}
    assert (x.mean(0) - p[0]).abs().max() < 0.01 and x[:, 0].sum() == 0 and x[:, 3].min() == 1


def test_integers_take_every_value():
    counts = torch.bincount(
        integers(5, (100, 100), generator=random.generator(0)).flatten(), minlength=5
    )
    assert len(counts) == 5 and counts.min() > 1800
