r"""BigGAN's parts, each against what it must be by its definition."""

import copy

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from lectool import gan, random
from lectool.zoo import big


@pytest.fixture(autouse=True)
def fixed():
    random.seed(0)


def double(net: nn.Module) -> nn.Module:
    return net.to(torch.float64)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# ------------------------------------------------------------------------------------------ layers


def test_conditional_batch_norm_moves_the_normalized_channels():
    norm = double(big.ConditionalBatchNorm(3, 5))
    h, s = 2 + 3 * randn(7, 3, 4, 4), randn(7, 5)
    normal = (h - h.mean((0, 2, 3), keepdim=True)) / (
        h.var((0, 2, 3), correction=0, keepdim=True) + 1e-5
    ).sqrt()
    gain, shift = 1 + s @ norm.gain.weight.T, s @ norm.shift.weight.T
    torch.testing.assert_close(
        norm(h, s), gain[:, :, None, None] * normal + shift[:, :, None, None]
    )


def test_without_a_condition_a_norm_only_normalizes():
    norm = double(big.ConditionalBatchNorm(3, 5))
    out = norm(2 + 3 * randn(7, 3, 4, 4), torch.zeros(7, 5, dtype=torch.float64))
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(
        out.std((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), rtol=1e-5, atol=0
    )


def test_a_plain_norm_does_not_hear_its_condition():
    norm = double(big.PlainBatchNorm(3, 5))
    h = randn(7, 3, 4, 4)
    torch.testing.assert_close(norm(h, randn(7, 5)), norm(h, randn(7, 5)))


def test_up_block_doubles_and_adds_its_skip():
    block = double(big.UpBlock(4, 3, 5))
    x, s = randn(6, 4, 5, 5), randn(6, 5)
    h = F.interpolate(F.relu(block.norm1(x, s)), scale_factor=2)
    h = block.conv2(F.relu(block.norm2(block.conv1(h), s)))
    expected = h + block.skip(F.interpolate(x, scale_factor=2))  # doubled before, not after
    assert expected.shape == (6, 3, 10, 10)
    torch.testing.assert_close(block(x, s), expected)


@pytest.mark.parametrize("first", [True, False])
def test_down_block_halves_by_means(first):
    block = double(big.DownBlock(4, 6, first=first))
    x = randn(3, 4, 8, 8)
    h = block.conv2(F.relu(block.conv1(x if first else F.relu(x)))) + block.skip(x)
    expected = h.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5))
    torch.testing.assert_close(block(x), expected)


def test_a_block_of_equal_size_keeps_its_input_as_it_is():
    block = double(big.DownBlock(4, 4, down=False))
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    x = randn(3, 4, 8, 8)
    torch.testing.assert_close(block(x), x)


def test_attention_begins_as_the_identity():
    attention, x = double(big.SelfAttention(8)), randn(2, 8, 4, 4)
    torch.testing.assert_close(attention(x), x)


def test_attention_is_the_mean_of_values_by_softmax():
    attention, x = double(big.SelfAttention(8)), randn(2, 8, 4, 6)
    nn.init.constant_(attention.gamma, 0.7)
    q, k, v = torch.einsum("oc,nchw->nohw", attention.seen.weight[:, :, 0, 0], x).split(
        [2, 2, 4], 1
    )
    k, v = (t.unflatten(3, (3, 2)).unflatten(2, (2, 2)).mean((3, 5)) for t in (k, v))
    expected = x.clone()
    for n in range(2):
        for i in range(4):
            for j in range(6):
                a = torch.stack([q[n, :, i, j] @ k[n, :, r, c] for r in range(2) for c in range(3)])
                mean = sum(w * v[n, :, m // 3, m % 3] for m, w in enumerate(a.softmax(0)))
                expected[n, :, i, j] += 0.7 * attention.out.weight[:, :, 0, 0] @ mean
    torch.testing.assert_close(attention(x), expected)
    looks, _ = attention.looks(x)
    assert looks.shape == (2, 24, 6)
    torch.testing.assert_close(looks.sum(2), torch.ones(2, 24, dtype=torch.float64))


# ---------------------------------------------------------------------------------------- networks


def test_generator_makes_images():
    G = double(big.BigGenerator(4, 3, 5))
    fake = G(randn(6, 9), torch.arange(6))
    assert fake.shape == (6, 1, 16, 16) and fake.dtype == torch.float64 and G.latent == 9
    assert fake.abs().max() < 1


def test_each_place_hears_the_class_and_a_chunk_of_its_own():
    G = double(big.BigGenerator(4, 3, 5))
    z, y = randn(6, 9), torch.tensor([0, 1, 2, 9, 9, 0])
    conditions = G.conditions(z, y)
    assert [s.shape for s in conditions] == [(6, 8)] * 3
    for i, s in enumerate(conditions):
        torch.testing.assert_close(s[:, :5], G.embed.weight.T[y])  # shared by all
        torch.testing.assert_close(s[:, 5:], z[:, 3 * i : 3 * i + 3])


def test_image_is_drawn_from_the_bottom_up():
    G = double(big.BigGenerator(4, 3, 5))
    z, y = randn(6, 9), torch.arange(6)
    bottom, low, high = G.conditions(z, y)
    h = G.up1(G.first(bottom).unflatten(1, (16, 4, 4)), low)
    assert h.shape == (6, 8, 8, 8)
    h = F.relu(G.norm(G.up2(G.attention(h), high)))
    torch.testing.assert_close(G(z, y), torch.tanh(G.last(h)))


def test_without_skips_the_whole_code_goes_in_at_the_bottom():
    G = double(big.BigGenerator(4, 3, 5, skip_z=False))
    z, y = randn(6, 9), torch.arange(6)
    bottom, low, high = G.conditions(z, y)
    torch.testing.assert_close(bottom[:, 5:], z)
    assert low.shape == high.shape == (6, 5)


def test_without_conditional_norms_the_blocks_hear_nothing():
    G = double(big.BigGenerator(4, 3, 5, conditional_norm=False)).eval()
    z, y = randn(6, 9), torch.arange(6)
    before = G(z, y)
    assert G.conditions(z, y)[0].shape == (6, 14)
    h = G.attention(G.up1(G.first(G.conditions(z, y)[0]).unflatten(1, (-1, 4, 4)), None))
    after = torch.tanh(G.last(F.relu(G.norm(G.up2(h, None)))))
    torch.testing.assert_close(before, after)


def test_scores_of_two_classes_differ_by_a_projection():
    D = double(big.BigDiscriminator(4))
    x, y, other = randn(5, 1, 16, 16), torch.arange(5), torch.arange(5) + 5
    h = D.features(x)
    assert h.shape == (5, 16) and (h >= 0).all()
    difference = ((D.embed.weight.T[y] - D.embed.weight.T[other]) * h).sum(1, keepdim=True)
    torch.testing.assert_close(D(x, y) - D(x, other), difference)
    torch.testing.assert_close(
        D(x, y) - (D.embed.weight.T[y] * h).sum(1, keepdim=True), D.linear(h)
    )


def test_features_are_sums_over_positions():
    D = double(big.BigDiscriminator(4, attention=False))
    x = randn(2, 1, 16, 16)
    inner = F.relu(D.block(D.down2(D.down1(x))))
    assert inner.shape == (2, 16, 4, 4)
    torch.testing.assert_close(D.features(x), inner.flatten(2).sum(2))


def test_without_projection_the_class_is_not_looked_at():
    D = double(big.BigDiscriminator(4, projection=False))
    x = randn(5, 1, 16, 16)
    torch.testing.assert_close(D(x, torch.arange(5)), D(x, torch.arange(5) + 5))


# ------------------------------------------------------------------------------- orthogonal weights


def test_orthogonal_init_stretches_no_direction():
    net = big.orthogonal_init(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(6, 4), nn.Linear(4, 6)))
    for layer in net:
        values = torch.linalg.svdvals(layer.weight.flatten(1))
        torch.testing.assert_close(values, torch.ones_like(values))
        assert not layer.bias.any()


@pytest.mark.parametrize("orthogonal", [True, False])
def test_how_the_games_weights_start(orthogonal):
    for net in big.big_gan(4, spectral="", orthogonal=orthogonal)[:2]:
        for layer in big.layers(net):
            W = layer.weight.flatten(1)
            if orthogonal:
                values = torch.linalg.svdvals(W)
                torch.testing.assert_close(values, torch.ones_like(values))
            else:
                assert W.abs().max() < 0.1
            assert not layer.bias.any() if layer.bias is not None else True


def test_penalty_of_two_filters_by_hand():
    W = torch.tensor([[3.0, 4.0, 0.0], [1.0, 1.0, 2.0]], dtype=torch.float64)
    # lengths² 25 and 6, inner product 7
    torch.testing.assert_close(big.orthogonal_penalty(W).item(), 2 * 7.0**2)
    torch.testing.assert_close(
        big.orthogonal_penalty(W, diagonal=True).item(), 2 * 7.0**2 + 24.0**2 + 5.0**2
    )
    # More rows than columns: the same columns are compared.
    torch.testing.assert_close(big.orthogonal_penalty(W.T).item(), 2 * 7.0**2)


def test_slope_of_the_penalty():
    W = randn(4, 6).requires_grad_()
    (slope,) = torch.autograd.grad(big.orthogonal_penalty(W), W)
    gram = (W @ W.T).detach()
    torch.testing.assert_close(slope, 4 * (gram - gram.diag().diag()) @ W.detach())


def test_without_the_diagonal_the_lengths_are_free():
    Q = torch.linalg.qr(randn(6, 4)).Q.T
    lengths = torch.tensor([[0.1], [1.0], [2.0], [3.0]], dtype=torch.float64)
    assert big.orthogonal_penalty(lengths * Q) < 1e-20
    expected = ((lengths**2 - 1) ** 2).sum()
    torch.testing.assert_close(big.orthogonal_penalty(lengths * Q, diagonal=True), expected)
    assert big.orthogonal_penalty(Q, diagonal=True) < 1e-20


def test_the_penalty_makes_filters_orthogonal():
    W = randn(4, 6).requires_grad_()
    optimizer = torch.optim.Adam([W], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        big.orthogonal_penalty(W).backward()
        optimizer.step()
    cosines = F.normalize(W.detach(), dim=1)
    torch.testing.assert_close(
        cosines @ cosines.T, torch.eye(4, dtype=torch.float64), atol=1e-3, rtol=0
    )


def test_orthogonality_sees_the_weights_before_their_division():
    random.seed(0)
    plain, *_ = big.big_gan(4, spectral="", orthogonal=False)
    random.seed(0)
    normalized, *_ = big.big_gan(4, spectral="G", orthogonal=False)
    named = [m for m in plain.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    left = [plain.embed]
    for m in plain.modules():
        left += [m.gain, m.shift] if isinstance(m, big.ConditionalBatchNorm) else []
    expected = sum(
        big.orthogonal_penalty(m.weight.flatten(1)) for m in named if not any(m is n for n in left)
    )
    torch.testing.assert_close(big.orthogonality(plain), expected)
    # the spectral norm's own start draws random numbers between the layers' draws of the two nets
    for layer in big.layers(normalized):
        raw = layer.parametrizations.weight.original
        torch.testing.assert_close(big.raw_weight(layer), raw)
        assert raw.std() < 0.03  # and not divided by its norm
        assert (layer.weight - raw).abs().max() > 0.1


# -------------------------------------------------------------------------------------------- game


def test_spectral_norms_are_where_they_are_asked_for():
    G, D, _ = big.big_gan(4)
    for net in (G, D):
        for layer in big.layers(net):
            norm = torch.linalg.matrix_norm(gan.settle(layer, 200).weight.flatten(1), 2)
            torch.testing.assert_close(norm, torch.ones(()), rtol=1e-3, atol=0)
    assert not is_parametrized(G.embed) and is_parametrized(D.embed)
    G, D, _ = big.big_gan(4, spectral="D", orthogonal=False)
    assert not any(is_parametrized(m) for m in G.modules())
    assert all(is_parametrized(m) for m in big.layers(D))


def test_both_losses_of_the_game():
    G, D, game = big.big_gan(4, spectral="", beta=0.3, k=3, attention="GD")
    for net in (G, D):
        double(net)
    x, y = randn(6, 1, 16, 16), torch.arange(6)
    assert game.k == 3
    made = game.make(x, y, generator=random.generator(1))
    z = gan.draw_latent(6, 24, like=x, generator=random.generator(1))
    torch.testing.assert_close(made["fake"], G(z, y))
    torch.testing.assert_close(made["x"], x)
    real, fake = D(x, y), D(made["fake"], y)
    judge, maker = game.judges["discriminator"], game.makers["generator"]
    torch.testing.assert_close(judge.loss(made), F.relu(1 - real).mean() + F.relu(1 + fake).mean())
    terms = maker.loss(made)
    torch.testing.assert_close(terms["generator"], -fake.mean())
    nn.init.normal_(G.last.weight)
    nn.init.normal_(G.up1.conv1.weight)
    terms = maker.loss(made)
    assert terms["orthogonal"] > 1
    torch.testing.assert_close(terms["orthogonal"], 0.3 * big.orthogonality(G))


def test_a_game_is_played_and_keeps_its_type():
    G, D, game = big.big_gan(4)
    double(G), double(D)
    x, y = randn(40, 1, 16, 16).tanh(), torch.arange(40) % 10
    before = [copy.deepcopy(net.state_dict()) for net in (G, D)]
    record = gan.play(game, [x, y], n_steps=3, batch_size=8)
    assert record.n_steps == 3 and set(record.terms) == {"discriminator", "generator", "orthogonal"}
    for net, old in zip((G, D), before):
        for name, p in net.named_parameters():
            assert p.dtype == torch.float64
            # the bias in front of a batch norm and what only γ = 0 carries get no slope at first
            if "weight" in name and "attention" not in name:
                assert not torch.equal(p, old[name]), name


def test_what_is_taken_out():
    G, D, game = big.big_gan(
        4, attention="", skip_z=False, projection=False, beta=0, objective=gan.NonSaturating()
    )
    assert isinstance(G.attention, nn.Identity) and isinstance(D.attention, nn.Identity)
    assert not G.skip_z and D.embed is None
    made = game.make(torch.zeros(4, 1, 16, 16), torch.arange(4))
    terms = game.makers["generator"].loss(made)
    assert set(terms) == {"generator"}
    torch.testing.assert_close(
        terms["generator"].item(),
        F.softplus(-D(made["fake"], made["y"])).mean().item(),
        rtol=1e-3,
        atol=0,
    )
    G, D, _ = big.big_gan(4, attention="D")
    assert isinstance(G.attention, nn.Identity) and isinstance(D.attention, big.SelfAttention)
    assert isinstance(G.up1.norm1, big.ConditionalBatchNorm)
    G, _, _ = big.big_gan(4, conditional_norm=False)
    assert isinstance(G.up1.norm1, big.PlainBatchNorm)


# ---------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("threshold", [0.3, 1.0, 2.0])
def test_truncated_codes_have_the_truncated_distribution(threshold):
    z = big.truncated_latent(500, 20, threshold, generator=random.generator(0))
    assert z.abs().max() <= threshold and z.shape == (500, 20)
    law = stats.truncnorm(-threshold, threshold)
    assert stats.kstest(z.flatten().numpy(), law.cdf).pvalue > 1e-3
    assert z.flatten().unique().numel() > 9000  # drawn anew, not clipped to the ends


def test_codes_of_several_axes_in_the_type_asked_for():
    z = big.truncated_latent(4, (2, 3), 0.5, like=randn(1), generator=random.generator(0))
    assert z.shape == (4, 2, 3) and z.dtype == torch.float64
    again = big.truncated_latent(4, (2, 3), 0.5, like=randn(1), generator=random.generator(0))
    torch.testing.assert_close(z, again)


def test_without_a_threshold_codes_are_gaussian():
    z = big.truncated_latent(5, 7, float("inf"), generator=random.generator(0))
    torch.testing.assert_close(z, gan.draw_latent(5, 7, generator=random.generator(0)))


def test_averages_run_behind_the_weights():
    net = nn.Linear(2, 1)
    mean = big.averaged(net, 0.9)
    expected = None
    for step in range(5):
        nn.init.constant_(net.weight, float(step))
        mean.update_parameters(net)
        expected = float(step) if expected is None else 0.9 * expected + 0.1 * step
    torch.testing.assert_close(mean.module.weight.detach(), torch.full((1, 2), expected))


def test_standing_statistics_are_means_over_the_passes():
    G = double(big.BigGenerator(4, 3, 5, conditional_norm=False))
    z, y = randn(12, 9), torch.arange(12) % 10
    G.train()
    G(randn(5, 9) + 3, torch.zeros(5, dtype=torch.int64))  # statistics of something else
    assert big.standing_statistics(G, z, y, batch_size=4) is G
    assert not any(m.training for m in G.modules()) and G.up1.norm1.momentum == 0.1
    h = G.first(G.conditions(z, y)[0]).unflatten(1, (-1, 4, 4)).split(4)
    mean = torch.stack([part.mean((0, 2, 3)) for part in h]).mean(0)
    variance = torch.stack([part.var((0, 2, 3)) for part in h]).mean(0)
    torch.testing.assert_close(G.up1.norm1.running_mean, mean)
    torch.testing.assert_close(G.up1.norm1.running_var, variance)


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: big.BigGenerator(0), "width is 0"),
        (lambda: big.BigDiscriminator(4, 0), "n_classes is 0"),
        (lambda: big.big_gan(4, beta=-1.0), "beta is -1.0"),
        (lambda: big.big_gan(4, k=0), "k is 0"),
        (lambda: big.big_gan(4, lr=(0.0, 1e-3)), "lr is 0.0"),
        (lambda: big.truncated_latent(2, 3, 0.0), "threshold is 0.0"),
        (lambda: big.averaged(nn.Linear(1, 1), 1.0), "decay is 1.0"),
        (lambda: big.orthogonal_penalty(torch.zeros(2, 2, 2)), "W has shape"),
        (lambda: big.ConditionalBatchNorm(2, 0), "n_condition is 0"),
        (lambda: big.SelfAttention(0), "n_channels is 0"),
    ],
)
def test_errors_name_what_is_wrong(call, word):
    with pytest.raises(ValueError, match=word):
        call()
