"""The questions that chapter 17 asks of every model, against answers that are known."""

import math
import re
import time
from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from lectool import compare, data, metrics, sortable, train
from lectool.compare import Model
from lectool.factors import PPCA
from lectool.latent import GaussianMixture
from lectool.metrics import Estimate


def gaussian(mean=0.0, sd=1.0, d=2):
    normal = torch.distributions.Normal(mean, sd)
    return Model(
        lambda n: normal.sample((n, d)), lambda x: normal.log_prob(x).sum(1), "exact", name="G"
    )


def seeded(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------ one face


def test_trained_names_times_and_seeds_alike():
    def make(n):
        end = torch.randn(n, 400) @ torch.randn(400, 400)
        for _ in range(20):
            end = end @ torch.randn(400, 400) / 20
        return Model(sample=lambda m: end[:m])

    first, second = (compare.trained("random", make, 50) for _ in range(2))
    assert first.name == "random"
    assert 0 < first.seconds < 30
    assert torch.equal(first.sample(50), second.sample(50))
    other = compare.trained("random", make, 50, seed=1)
    assert not torch.equal(first.sample(50), other.sample(50))


def test_seconds_are_those_of_the_processor():
    def make(end, wait):
        while time.process_time() < end:
            pass
        time.sleep(wait)
        return Model()

    busy = compare.trained("busy", lambda: make(time.process_time() + 0.2, 0.0)).seconds
    idle = compare.trained("idle", lambda: make(0.0, 0.2)).seconds
    assert idle < 0.1 < 0.2 <= busy < 0.3


def test_estimators_show_their_density_draws_and_parameters():
    x = seeded((300, 4))
    ppca = PPCA(2).fit(x)
    model = compare.of_estimator(ppca, ppca.transform)
    assert model.kind == "exact"
    assert torch.equal(model.log_prob(x), ppca.score_samples(x))
    assert model.encode(x).shape == (300, 2)
    fitted = [v for k, v in vars(ppca).items() if k[-1] == "_" and isinstance(v, torch.Tensor)]
    assert model.n_parameters == sum(map(torch.numel, fitted)) >= 4 + 4 * 2
    mixture = compare.of_estimator(GaussianMixture(2, max_iter=50).fit(x))
    assert mixture.encode is None
    assert compare.draw(mixture, 7, 4).shape == (7, 4)  # without the components


def test_watched_looks_before_the_update_that_follows():
    net, seen, before = nn.Linear(1, 1), {}, []

    def look(done):
        assert not torch.is_grad_enabled()
        seen[done] = net.weight.item()

    def cost(v):
        before.append(net.weight.item())
        return net(v).square().mean()

    loss = compare.watched(cost, (0, 3), look)
    train.fit(net, torch.ones(8, 1), steps=5, batch_size=4, lr=0.1, loss=loss)
    assert seen == {0: before[0], 3: before[3]}
    assert len(set(before)) == 5


# ------------------------------------------------------------------------------------------------ baselines


def test_kernel_density_is_a_mixture_of_gaussians():
    x, y = seeded((5, 3)), seeded((700, 3), 1)
    model = compare.kernel_density(x, 0.7)
    normal = torch.distributions.MultivariateNormal(x, 0.49 * torch.eye(3, dtype=x.dtype))
    truth = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(5)), normal
    )
    assert torch.allclose(model.log_prob(y), truth.log_prob(y))
    torch.manual_seed(0)
    drawn = model.sample(40_000)
    assert drawn.dtype == x.dtype
    assert model.n_parameters == x.numel()
    assert torch.allclose(drawn.mean(0), x.mean(0), atol=0.03)
    assert torch.allclose(drawn.var(0), x.var(0, correction=0) + 0.49, rtol=0.05)


@pytest.mark.parametrize("share", [0.01, 0.7])
def test_mixed_is_the_mixture(share):
    good, other = gaussian(0.0, 1.0), gaussian(8.0, 0.5)
    model = compare.mixed(good, other, share)
    x = torch.tensor([[0.0, 0.0], [8.0, 8.0]])
    expected = share * good.log_prob(x).exp() + (1 - share) * other.log_prob(x).exp()
    assert torch.allclose(model.log_prob(x), expected.log())
    assert (model.log_prob(x) >= good.log_prob(x) + math.log(share) - 1e-6).all()
    torch.manual_seed(0)
    from_good = model.sample(20_000) < 5
    assert torch.equal(from_good[:, 0], from_good[:, 1]), "whole rows come from one of the two"
    assert from_good.double().mean() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        (("exact", "exact"), "exact"),
        (("exact", "bound"), "bound"),
        (("estimate", "exact"), "estimate"),
        (("bound", "estimate"), "estimate"),
    ],
)
def test_a_mixture_tells_no_more_surely_than_its_parts(kinds, kind):
    parts = [replace(gaussian(), kind=k, n_parameters=n) for k, n in zip(kinds, (3, 4))]
    model = compare.mixed(*parts, 0.5)
    assert model.kind == kind
    assert model.n_parameters == 7


def test_mixed_needs_both():
    with pytest.raises(ValueError, match="share is 1"):
        compare.mixed(gaussian(), gaussian(), 1.0)
    with pytest.raises(ValueError, match="GAN has no sampler or no density"):
        compare.mixed(gaussian(), Model(sample=lambda n: torch.zeros(n, 2), name="GAN"), 0.5)


# ------------------------------------------------------------------------------------------------ asking


def test_what_a_model_cannot_do_stays_empty():
    nothing = Model(name="nothing")
    assert compare.draw(nothing, 10, 2) is None
    assert compare.log_density(nothing, torch.zeros(3, 2)) is None


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (lambda n: torch.full((n, 2), math.nan), "broken: 10 of 10 draws"),
        (lambda n: torch.arange(2 * n).reshape(n, 2).float().log(), "broken: 1 of 10 draws"),
        (lambda n: torch.zeros(n, 3), r"broken: its sampler returned \(10, 3\); expected"),
        (lambda n: torch.zeros(n - 1, 2), r"expected shape \(10, 2\)"),
        (lambda n: [0.0] * n, "returned list"),
    ],
)
def test_a_broken_sampler_is_named(sample, words):
    with pytest.raises(ValueError, match=words):
        compare.draw(Model(sample, name="broken"), 10, 2)


def test_a_broken_density_is_named():
    x = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="broken: 4 of 4 log-densities are NaN"):
        compare.log_density(Model(log_prob=lambda v: v[:, 0] / 0, name="broken"), x)
    with pytest.raises(ValueError, match=r"broken: log_prob returned shape \(4, 2\)"):
        compare.log_density(Model(log_prob=lambda v: v, name="broken"), x)
    zero = compare.log_density(Model(log_prob=lambda v: v[:, 0] - math.inf, name="uniform"), x)
    assert (zero == -math.inf).all()  # a density of 0 is an answer
    assert zero.dtype == torch.float64


def test_mean_covers_the_truth_as_often_as_it_says():
    hits = 0
    for seed in range(400):
        found = compare.mean(seeded(50, seed) + 3)
        hits += found.low <= 3 <= found.high
    assert 0.90 < hits / 400 < 0.98
    found = compare.mean(torch.tensor([0.0, 1.0, 2.0, 3.0]))  # of variance 5/3
    half = 1.96 * math.sqrt(5 / 3 / 4)
    assert found[:3] == pytest.approx((1.5, 1.5 - half, 1.5 + half))


def test_grade_takes_off_what_a_small_sample_adds():
    u, v = seeded((400, 8)), seeded((400, 8), 1)
    found = compare.grade(u, v)
    raw = metrics.frechet_inception_distance(v, u)
    assert list(found) == ["FID", "KID", "precision", "recall"]
    assert found["FID"].value == pytest.approx(raw - found["FID"].bias)
    for value, low, high, _ in found.values():
        assert low < value < high
        assert value == pytest.approx((low + high) / 2)
    assert found["KID"].value == pytest.approx(metrics.kernel_inception_distance(v, u))
    assert abs(found["FID"].value) < 0.3 * raw
    assert found["precision"].value == metrics.precision_recall(v, u)[0]
    few = compare.grade(u[:20].repeat(20, 1), v)
    assert few["recall"].value < 0.1 < 0.5 < few["precision"].value
    shifted = compare.grade(u + 1.0, v)
    assert shifted["FID"].value == pytest.approx(8, rel=0.15)


def test_effective_classes():
    assert compare.effective_classes(torch.arange(10).repeat(5)) == pytest.approx(10)
    assert compare.effective_classes(torch.zeros(5, dtype=torch.int64)) == pytest.approx(1)
    assert compare.effective_classes(torch.tensor([0, 1, 1, 0]), 4) == pytest.approx(2)


def test_copying():
    seen, unseen = seeded((200, 5)), seeded((200, 5), 1)
    found = compare.copying(seen[:50], seen, unseen)
    assert found.value == pytest.approx(0, abs=1e-4)
    fresh = compare.copying(seeded((200, 5), 2), seen, unseen)
    assert fresh.low < 1 < fresh.high
    assert compare.copying(unseen + 9, seen, unseen).low > 5


def test_auc_counts_pairs():
    high, low = seeded(40).round(decimals=1), seeded(30, 1).round(decimals=1) - 0.5
    pairs = (high[:, None] > low).double() + 0.5 * (high[:, None] == low).double()
    assert compare.auc(high, low) == pytest.approx(pairs.mean().item())
    assert compare.auc(low, high) == pytest.approx(1 - pairs.mean().item())
    never = torch.full((5,), -math.inf)
    assert compare.auc(high, never) == 1


def test_rank_correlation_is_spearmans():
    a, b = seeded(30), seeded(30, 1)
    assert compare.rank_correlation(a, a.exp()) == pytest.approx(1)
    assert compare.rank_correlation(a, -a) == pytest.approx(-1)
    assert compare.rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)


def test_sharpness_falls_with_blur():
    x = torch.rand(20, 14, 14, generator=torch.Generator().manual_seed(0))
    soft = nn.functional.avg_pool2d(x[:, None], 3, 1, 1)[:, 0]
    assert (compare.sharpness(soft) < compare.sharpness(x)).all()
    ramp = torch.arange(14.0).expand(1, 14, 14)
    assert compare.sharpness(ramp).item() == pytest.approx(0, abs=1e-6)  # no second derivative
    dot = torch.zeros(1, 5, 5)
    dot[0, 2, 2] = 3.0
    assert compare.sharpness(dot).item() == pytest.approx(16 + 4)
    assert compare.sharpness(torch.zeros(2, 5, 5)).tolist() == [0, 0]


def test_linear_probe():
    y = torch.arange(3).repeat(100)
    centers = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    codes = centers[y] + 0.3 * seeded((300, 2)).float()
    right = compare.linear_probe((codes[:200], codes[200:]), (y[:200], y[200:]))
    assert right.shape == (100,)
    assert right.mean() > 0.98
    noise = seeded((300, 2), 3)
    chance = compare.linear_probe((noise[:200], noise[200:]), (y[:200], y[200:]))
    assert chance.mean() < 0.55
    rare = (torch.arange(300) % 10 == 0).long()  # who knows nothing says the frequent class
    frequent = compare.linear_probe((noise[:200], noise[200:]), (rare[:200], rare[200:]))
    assert frequent.mean() == pytest.approx(0.9, abs=0.02)
    dead = torch.cat([codes, torch.ones(300, 1)], 1)  # a unit that never changes
    same = compare.linear_probe((dead[:200], dead[200:]), (y[:200], y[200:]))
    assert torch.equal(same, right)
    mixed = noise @ torch.tensor([[1.0, 0.95], [0.0, 0.3]], dtype=noise.dtype)
    several = compare.linear_probe((mixed.repeat(30, 1), mixed), (y.repeat(30), y), 1.0)
    once = compare.linear_probe((mixed, mixed), (y, y), 1.0)
    assert torch.equal(several, once), "the penalty counts for each sample"


# ------------------------------------------------------------------------------------------------ gray values


@pytest.mark.parametrize("levels", [2, 16])
def test_pictures_undo_dequantization(levels):
    whole = torch.randint(levels, (50, 9), generator=torch.Generator().manual_seed(0))
    y = (whole + torch.rand(50, 9, generator=torch.Generator().manual_seed(1))) / levels
    assert torch.allclose(compare.pictures(y, levels), whole / (levels - 1))
    beyond = compare.pictures(torch.tensor([-0.3, 1.0, 1.7]), levels)
    assert beyond.tolist() == [0, 1, 1]


def test_bits_of_a_uniform_density_are_those_of_the_gray_values():
    log_p = torch.zeros(3)  # density 1 on the unit cube
    assert compare.bits_per_pixel(log_p, 20, 16).tolist() == [4.0] * 3
    # all of the mass in a cell of 1/16 of each side: nothing left to say
    sure = torch.full((1,), 20 * math.log(16))
    assert compare.bits_per_pixel(sure, 20, 16).item() == pytest.approx(0, abs=1e-5)


# ------------------------------------------------------------------------------------------------ in the plane


def test_grid_kl_of_gaussians():
    axis = torch.linspace(-9, 9, 181, dtype=torch.float64)
    grid, tile = torch.cartesian_prod(axis, axis), 0.1**2
    p, q = (gaussian(0.0, 1.0).log_prob(grid), gaussian(1.0, 1.5).log_prob(grid))
    kl, mass = compare.grid_kl(p, q, tile)
    one = math.log(1.5) + (1 + 1) / (2 * 1.5**2) - 0.5
    assert kl == pytest.approx(2 * one, rel=1e-3)
    assert mass == pytest.approx(1, abs=1e-3)
    assert compare.grid_kl(p, p, tile)[0] == 0
    assert compare.grid_kl(p, q + 0.5, tile)[1] == pytest.approx(math.exp(0.5), abs=2e-3)
    nowhere = torch.where(grid[:, 0] > 0, q, -math.inf)
    assert compare.grid_kl(p, nowhere, tile)[0] == math.inf


def test_histogram_and_total_variation():
    points = torch.tensor([[-0.9, -0.9], [0.9, 0.9], [0.9, -0.9], [5.0, 0.0]])
    p = compare.histogram(points, 1.0, 2)
    assert p.tolist() == [0.25, 0, 0.25, 0.25, 0.25]
    assert compare.total_variation(p, p) == 0
    q = torch.tensor([0, 1.0, 0, 0, 0]).double()
    assert compare.total_variation(p, q) == 1
    halves = [compare.histogram(data.two_moons(20_000, seed=s)[0], 2.5, 10) for s in (0, 1)]
    assert compare.total_variation(*halves) < 0.03


# ------------------------------------------------------------------------------------------------ the table


@pytest.fixture
def shown(monkeypatch):
    bundles = []
    monkeypatch.setattr(sortable, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def test_table_writes_numbers_intervals_and_empty_cells(shown):
    value = Estimate(1.234, 1.0, 1.4, 0.0)
    rows = [["VAE <1>", value, None, 1234.5], ["GAN", math.nan, "bound", 3]]
    compare.table(["model", "FID", "kind", "seconds"], rows, "Some numbers.")
    page, plain = shown[0]["text/html"], shown[0]["text/plain"]
    assert '<td data-key="1.234">1.2 ± 0.2</td><td></td>' in page
    assert "VAE &lt;1&gt;" in page
    assert "<td></td><td>bound</td>" in page  # NaN is no number to show, nor to sort by
    assert "nan" not in re.sub("<script>.*", "", page, flags=re.DOTALL).lower()
    assert len(re.findall("<button", page)) == 4
    assert "http" not in page
    assert plain.splitlines()[1:] == ["VAE <1> | 1.2 ± 0.2 |  | 1,234", "GAN |  | bound | 3"]


@pytest.mark.parametrize(
    ("value", "key", "words"),
    [
        (Estimate(-12.34, -12.37, -12.31, 0.0), "-12.34", "−12.34 ± 0.03"),
        (Estimate(1234.4, 1214.4, 1254.4, 0.0), "1234.4", "1,234 ± 20"),
        (Estimate(0.5, 0.5, 0.5, 0.0), "0.5", "0.50 ± 0.00"),
        (Estimate(0.25, 0.25 - 3e-7, 0.25 + 3e-7, 0.0), "0.25", "0.2500 ± 0.0000"),
        (-0.25, "-0.25", "−0.25"),
        (123.4, "123.4", "123"),
        (999.6, "999.6", "1,000"),
        (1e-9, "1e-09", "0"),
        (math.inf, "Infinity", "inf"),
        (-math.inf, "-Infinity", "−inf"),  # as a script reads it
    ],
)
def test_a_cell_shows_what_is_known(shown, value, key, words):
    compare.table(["model", "number"], [["VAE", value]], "One number.")
    assert f'<td data-key="{key}">{words}</td>' in shown[0]["text/html"]


def test_table_refuses_ragged_rows(shown):
    with pytest.raises(ValueError, match="has 1 cells; expected 2"):
        compare.table(["a", "b"], [["x"]], "Short.")
