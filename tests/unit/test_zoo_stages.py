"""Large pictures from small ones: StackGAN, LAPGAN, and a network that grows."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from lectool import gan
from lectool.zoo import stages


def wide(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------- StackGAN


def test_the_divergence_of_the_clouds_is_that_of_torch():
    augment = stages.ConditioningAugmentation(6, 4).double()
    phi = wide(5, 6)
    mean, log_variance = augment.moments(phi)
    cloud = Normal(mean, (log_variance / 2).exp())
    expected = kl_divergence(cloud, Normal(torch.zeros_like(mean), 1.0)).sum(1).mean()
    torch.testing.assert_close(augment.kl(phi), expected)


def test_conditions_are_drawn_from_the_clouds():
    augment = stages.ConditioningAugmentation(6, 4).double()
    phi = wide(1, 6)
    mean, log_variance = augment.moments(phi)
    drawn = augment(phi.expand(40000, -1), wide(40000, 4))
    torch.testing.assert_close(drawn.mean(0), mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.var(0), log_variance.exp()[0], atol=0.05, rtol=0.05)
    torch.testing.assert_close(augment(phi, torch.zeros(1, 4, dtype=torch.float64)), mean)
    with pytest.raises(ValueError, match="n_text"):
        stages.ConditioningAugmentation(6, 0)


def two_stages(reads=True):
    torch.manual_seed(0)
    first = stages.StageOne(3, embedding=6, n_text=4, width=4)
    return first, stages.StageTwo(first, embedding=6, n_text=5, width=4, reads=reads)


def test_the_first_stage_reads_noise_behind_the_code():
    first, _ = two_stages()
    first.double().eval()
    z, phi = wide(2, 7), wide(2, 6, seed=1)
    assert first.latent == 7 and first(z, phi).shape == (2, 1, 14, 14)
    c = first.project(phi, z[:, 3:])
    torch.testing.assert_close(first(z, phi), first.net(torch.cat([z[:, :3], c], 1)))


def test_the_second_stage_goes_on_from_the_sketch():
    first, second = two_stages()
    z, phi = torch.randn(3, second.latent), torch.randn(3, 6)
    assert second.latent == 7 + 5
    torch.testing.assert_close(second.sketch(z, phi), first(z[:, :7], phi))
    assert second.refine[0].weight.std().item() == pytest.approx(0.02, rel=0.15)  # as in a DCGAN
    with torch.no_grad():
        second.refine[-1].weight.zero_()
    expected = torch.tanh(2 * stages.up(second.sketch(z, phi)))
    torch.testing.assert_close(second(z, phi), expected)


def test_the_first_stage_stands_still():
    first, second = two_stages()
    own = {id(p) for p in second.parameters()}
    assert not own & {id(p) for p in first.parameters()}
    second.train()
    assert not first.training
    second(torch.randn(3, second.latent), torch.randn(3, 6)).sum().backward()
    assert all(p.grad is None for p in first.parameters())


def test_whether_the_caption_is_read_again():
    _, second = two_stages()
    z, phi = torch.randn(3, second.latent), torch.randn(3, 6)
    for net, reads in ((second, True), (two_stages(reads=False)[1], False)):
        net.eval()
        torch.manual_seed(1)
        nn.init.normal_(net.refine[0].weight)
        nn.init.normal_(net.refine[-1].weight)
        sketch = net.sketch(z, phi)
        net.sketch = lambda z, phi, sketch=sketch: sketch  # only the second reading can tell
        assert bool((net(z, phi) - net(z, phi.roll(1, 0))).abs().max() > 1e-4) == reads
        other = torch.cat([z[:, :7], z[:, 7:] + 1], 1)
        assert (net(z, phi) - net(other, phi)).abs().max() > 1e-4


# ----------------------------------------------------------------------------------------- LAPGAN


@pytest.mark.parametrize("n_levels", [1, 2, 3])
def test_a_pyramid_is_inverted_exactly(n_levels):
    x = wide(3, 2, 16, 24)
    parts = stages.laplacian_pyramid(x, n_levels)
    sides = [tuple(p.shape[2:]) for p in parts]
    assert sides == [(16 >> j, 24 >> j) for j in range(n_levels)] + [
        (16 >> n_levels, 24 >> n_levels)
    ]
    torch.testing.assert_close(stages.rebuild(parts), x, atol=1e-12, rtol=0)


def test_what_a_pyramid_holds():
    x = wide(2, 1, 8, 8)
    fine, low = stages.laplacian_pyramid(x, 1)
    by_hand = x.reshape(2, 1, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(low, by_hand)
    torch.testing.assert_close(fine, x - stages.up(by_hand))
    flat = torch.full((1, 1, 8, 8), 0.7, dtype=torch.float64)
    assert (
        stages.laplacian_pyramid(flat, 2)[0].abs().max() < 1e-12
    )  # nothing is lost where nothing is


def test_enlarging_keeps_a_slope():
    ramp = torch.arange(6.0, dtype=torch.float64).expand(1, 1, 6, 6)
    inner = stages.up(ramp)[0, 0, 3, 1:-1]
    torch.testing.assert_close(inner.diff(), torch.full((9,), 0.5, dtype=torch.float64))


def test_a_pyramid_says_what_does_not_fit():
    with pytest.raises(ValueError, match="divisible by 4"):
        stages.laplacian_pyramid(torch.zeros(1, 1, 14, 12), 2)
    with pytest.raises(ValueError, match="n_levels"):
        stages.laplacian_pyramid(torch.zeros(1, 1, 8, 8), 0)


class Constant(nn.Module):
    def __init__(self, size, value):
        super().__init__()
        self.latent, self.value = (1, size, size), value

    def forward(self, z, low):
        assert z.shape == low.shape
        return torch.full_like(low, self.value)


def test_climbing_adds_details_level_by_level():
    x = wide(2, 1, 7, 7)
    made = stages.climb(x, [Constant(14, 1.0), Constant(28, 10.0)])
    torch.testing.assert_close(made, stages.up(stages.up(x)) + 11)


def test_climbing_follows_its_generator():
    G, x = stages.ResidualGenerator(14, 4), torch.randn(2, 1, 7, 7)
    a, b, c = (stages.climb(x, [G], torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c) and not a.requires_grad


@pytest.mark.parametrize("size", [14, 28])
def test_networks_of_the_details_fit(size):
    G, D = stages.ResidualGenerator(size, 4), stages.ResidualDiscriminator(size, 4)
    z, low = torch.randn(2, 3, 1, size, size)
    details = G(z, low)
    assert details.shape == low.shape and D(details, low).shape == (3, 1)
    assert (G(z, low + 1) - details).abs().max() > 0 and (G(z + 1, low) - details).abs().max() > 0
    # What is judged is the image with its details, beside the image without.
    first = D[0](torch.cat([low + details, low], 1))
    torch.testing.assert_close(D(details, low), nn.Sequential(*list(D)[1:])(first))


def test_details_of_a_known_kind_are_learned():
    """Where every missing detail is 0.5, the generator learns to add it."""
    torch.manual_seed(0)
    low = 0.1 * torch.randn(500, 1, 8, 8)
    G, D = stages.ResidualGenerator(8, 4), stages.ResidualDiscriminator(8, 4)
    before = (G(torch.randn(100, 1, 8, 8), low[:100]).mean() - 0.5).abs().item()
    game = gan.two_player(G, D, gan.LeastSquares(), lr=3e-3)
    gan.play(game, [torch.full_like(low, 0.5), low], n_steps=120, batch_size=32)
    after = (G(torch.randn(100, 1, 8, 8), low[:100]).mean() - 0.5).abs().item()
    assert after < 0.2 < before


# ------------------------------------------------------------------------------------ small parts


def test_an_equalized_convolution_is_one_of_the_usual_start():
    torch.manual_seed(0)
    layer = stages.EqualConv2d(32, 64, 3).double()
    x = wide(4, 32, 9, 9)
    plain = nn.functional.conv2d(x, layer.weight * math.sqrt(2 / (32 * 9)), layer.bias, padding=1)
    torch.testing.assert_close(layer(x), plain)
    assert layer.weight.std().item() == pytest.approx(1, abs=0.05)
    after = nn.functional.relu(layer(x))[:, :, 1:-1, 1:-1].square().mean().item()
    assert after == pytest.approx(1, abs=0.2)  # a rectifier halves what √2 has doubled
    assert stages.EqualConv2d(4, 2, 1, gain=1.0).scale == pytest.approx(0.5)


def test_pixel_norm_scales_each_pixel():
    x = wide(2, 5, 3, 3)
    y = stages.PixelNorm()(x)
    torch.testing.assert_close(y.square().mean(1), torch.ones(2, 3, 3, dtype=torch.float64))
    torch.testing.assert_close(y, stages.PixelNorm()(7 * x))
    assert (y * x > 0).all()
    assert stages.PixelNorm()(torch.zeros(1, 2, 1, 1)).isfinite().all()


def test_the_deviation_of_the_batch():
    x = wide(6, 3, 4, 5)
    y = stages.MinibatchDeviation()(x)
    assert y.shape == (6, 4, 4, 5)
    torch.testing.assert_close(y[:, :3], x)
    expected = x.std(0, correction=0).mean()
    torch.testing.assert_close(y[:, 3], expected.expand(6, 4, 5))
    same = stages.MinibatchDeviation()(x[:1].expand(6, -1, -1, -1).clone().requires_grad_())
    assert same[:, 3].max() < 1e-3
    same.sum().backward()  # no infinite slope where the batch is one picture


# ---------------------------------------------------------------------------------------- growing


def growing(level, alpha):
    torch.manual_seed(0)
    G, D = stages.GrowingGenerator(4, (6, 5, 3)), stages.GrowingDiscriminator((6, 5, 3))
    for net in (G.double(), D.double()):
        net.level, net.alpha = level, alpha
    return G, D


@pytest.mark.parametrize("level", [0, 1, 2])
def test_sizes_of_the_levels(level):
    G, D = growing(level, 0.5)
    image = G(wide(3, 4))
    assert image.shape == (3, 1, 7 * 2**level, 7 * 2**level) and D(image).shape == (3, 1)
    assert image.dtype == torch.float64


def test_before_the_fade_the_new_layers_do_not_count():
    z = wide(3, 4)
    for level in (1, 2):
        old, old_D = growing(level - 1, 1.0)
        new, new_D = growing(level, 0.0)
        torch.testing.assert_close(new(z), stages.up(old(z)))
        x = wide(3, 1, 7 * 2**level, 7 * 2**level, seed=1)
        torch.testing.assert_close(new_D(x), old_D(stages.down(x)))


def test_the_fade_of_the_generator_is_a_mixture():
    z, images = wide(3, 4), {}
    for alpha in (0.0, 0.3, 1.0):
        images[alpha] = growing(2, alpha)[0](z)
    torch.testing.assert_close(images[0.3], 0.3 * images[1.0] + 0.7 * images[0.0])


def test_the_discriminator_mixes_features():
    x = wide(3, 1, 14, 14)
    seen = {}
    for alpha in (0.0, 0.3, 1.0):
        _, D = growing(1, alpha)
        D.end = nn.Identity()
        seen[alpha] = D(x)
    torch.testing.assert_close(seen[0.3], 0.3 * seen[1.0] + 0.7 * seen[0.0])
    assert (seen[0.0] - seen[1.0]).abs().max() > 1e-3


def test_full_grown_networks_use_all_their_layers():
    G, D = growing(2, 1.0)
    D(G(wide(3, 4))).sum().backward()
    used = {name for net in (G, D) for name, p in net.named_parameters() if p.grad is not None}
    assert {"blocks.2.0.weight", "to_image.2.weight", "from_image.2.0.weight"} <= used
    assert not {"to_image.0.weight", "to_image.1.weight", "from_image.0.0.weight"} & used


def test_growing_goes_through_the_levels():
    G, D = growing(0, 1.0)
    x, seen = wide(40, 1, 28, 28).clamp(-1, 1), []
    records = stages.grow(
        G,
        D,
        gan.NonSaturating(),
        x,
        n_steps=(2, 4, 5),
        batch_size=4,
        lr=1e-3,
        each=lambda n, game: seen.append((n, G.level, D.level, G.alpha, D.alpha)),
    )
    assert [r.n_steps for r in records] == [2, 4, 5]
    assert [s[0] for s in seen] == [0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11]
    assert all(g == d and a == b for _, g, d, a, b in seen)
    middle = [a for n, level, _, a, _ in seen if level == 1]
    assert middle == [0.5, 1, 1, 1, 1]  # two of four steps fade
    assert G.level == 2 and G.alpha == 1
    with pytest.raises(ValueError, match="fade"):
        stages.grow(G, D, gan.NonSaturating(), x, n_steps=(1,), fade=0.0)


def test_only_full_resolution_has_a_schedule():
    G, D = growing(0, 1.0)
    rates = []

    def note(n, game):
        if G.level == 2 or n < 2:
            rates.append(game.makers["generator"].optimizer.param_groups[0]["lr"])

    settings = {"n_steps": (4, 1, 4), "batch_size": 4, "lr": 1e-3, "schedule": "linear"}
    stages.grow(G, D, gan.NonSaturating(), wide(8, 1, 28, 28).clamp(-1, 1), each=note, **settings)
    assert rates[:2] == [1e-3, 1e-3] and rates[-1] < 0.5e-3


def test_growing_follows_its_generator():
    ends = []
    for seed in (0, 0, 1):
        G, D = growing(0, 1.0)
        torch.manual_seed(len(ends))  # the global numbers do not count
        settings = {"n_steps": (2, 1, 1), "batch_size": 4, "lr": 1e-2}
        rng = torch.Generator().manual_seed(seed)
        x = wide(20, 1, 28, 28).clamp(-1, 1)
        stages.grow(G, D, gan.NonSaturating(), x, generator=rng, **settings)
        ends.append(G.to_image[2].weight)
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_real_images_fade_too():
    G, _ = growing(1, 0.25)
    make = stages.faded(lambda real, generator=None: {"real": real}, G)
    x = wide(2, 1, 14, 14)
    torch.testing.assert_close(make(x)["real"], 0.25 * x + 0.75 * stages.up(stages.down(x)))
    G.level = 0
    torch.testing.assert_close(make(x)["real"], x)


def test_each_level_is_shown_images_of_its_size():
    shapes, (G, D) = [], growing(0, 1.0)
    D.register_forward_pre_hook(lambda net, args: shapes.append(args[0].shape[-1]))
    stages.grow(
        G, D, gan.NonSaturating(), wide(8, 1, 28, 28).clamp(-1, 1), n_steps=(1, 1, 1), batch_size=4
    )
    assert [s for s, before in zip(shapes, [0, *shapes]) if s != before] == [7, 14, 28]


def test_coarse_images_are_means():
    x = wide(2, 1, 8, 8)
    torch.testing.assert_close(stages.coarse(x, 2), x.reshape(2, 1, 2, 4, 2, 4).mean((3, 5)))
    assert stages.coarse(x, 0) is x
