"""Captions, their encoder, and the GAN that is asked in words."""

import math

import pytest
import torch
from torch import nn

from lectool import gan
from lectool.zoo import text


def bar(height, width, shear=0.0, size=40, dtype=torch.float64):
    """A bright bar in the middle whose rows are moved by ``shear`` pixels a row to the right, going up."""
    image = -torch.ones(1, 1, size, size, dtype=dtype)
    top, left = (size - height) // 2, (size - width) // 2
    for i in range(height):
        shift = round(shear * ((height - 1) / 2 - i))
        image[0, 0, top + i, left + shift : left + shift + width] = 1
    return image


# --------------------------------------------------------------------------------------- measured


def test_a_bar_is_as_wide_and_as_upright_as_it_was_drawn():
    width, slant, _ = text.traits(bar(20, 5))[0].tolist()
    assert width == pytest.approx(
        math.sqrt((5**2 - 1) / 12)
    )  # a uniform distribution over 5 pixels
    assert slant == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shear", [-1, 1])
def test_the_slant_is_the_tangent_and_the_width_does_not_know_of_it(shear):
    width, slant, _ = text.traits(bar(21, 4, shear))[0].tolist()
    assert slant == pytest.approx(shear)
    assert width == pytest.approx(math.sqrt((4**2 - 1) / 12))


@pytest.mark.parametrize("w", [1, 2, 4])
def test_the_thickness_of_a_bar_follows_from_its_sides(w):
    # Forward differences see the sides; the two corners that they see at once are √2 in place of 2.
    found = text.traits(bar(30, w))[0, 2].item()
    assert found == pytest.approx(2 * 30 * w / (2 * (30 + w) - 2 + math.sqrt(2)))


def test_outline_of_one_pixel():
    ink = torch.zeros(1, 3, 3, dtype=torch.float64)
    ink[0, 2, 2] = 1  # in the corner: the border counts too
    assert text.outline(ink).item() == pytest.approx(2 + math.sqrt(2))


def test_traits_do_not_depend_on_place_or_faint_gray_and_keep_their_type():
    image = bar(20, 5)
    moved = image.roll((3, -4), (2, 3))
    faint = image.clamp(min=-0.9)  # ink of 0.05 everywhere
    torch.testing.assert_close(text.traits(moved), text.traits(image))
    torch.testing.assert_close(text.traits(faint), text.traits(image))
    assert text.traits(image).dtype == torch.float64
    assert text.traits(image.float()).dtype == torch.float32


def test_an_empty_image_has_finite_traits():
    assert text.traits(-torch.ones(2, 1, 8, 8)).tolist() == [[0, 0, 0]] * 2


def test_traits_say_what_does_not_fit():
    with pytest.raises(ValueError, match="images has shape"):
        text.traits(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="faint is 1"):
        text.traits(torch.zeros(2, 1, 8, 8), faint=1.0)


# --------------------------------------------------------------------------------------- captions


@pytest.fixture
def captions():
    labels = torch.arange(10).repeat_interleave(30)
    values = torch.arange(30.0).repeat(10)[:, None] * torch.tensor([1.0, 2.0, -1.0])
    return text.Captions(values + 100 * labels[:, None], labels), values, labels


def test_levels_are_the_thirds_of_the_own_class(captions):
    write, values, labels = captions
    levels = write.levels(values + 100 * labels[:, None], labels)
    for c in range(10):
        counts = [torch.bincount(column, minlength=3).tolist() for column in levels[labels == c].T]
        assert counts == [[10, 10, 10]] * 3
    assert levels[0].tolist() == [0, 0, 2]
    assert levels[29].tolist() == [2, 2, 0]


def test_a_class_must_not_be_missing(captions):
    with pytest.raises(ValueError, match="expected 10 classes"):
        text.Captions(torch.zeros(20, 3), torch.arange(5).repeat(4))
    with pytest.raises(ValueError, match="expected 10 classes"):
        text.Captions(torch.zeros(33, 3), torch.arange(11).repeat(3))


WORDS = {
    w: (j, 2 * i)
    for j, pairs in enumerate(text.TRAITS.values())
    for i, two in enumerate(pairs)
    for w in two
}


def understood(line):
    """Digit and levels that a caption speaks of."""
    levels, digits = [1, 1, 1], []
    for word in text.WORD.findall(line):
        if word in WORDS:
            j, level = WORDS[word]
            levels[j] = level
        digits += [c for c, names in enumerate(text.NAMES) if word in names]
    assert len(digits) == 1
    return digits[0], levels


@pytest.mark.parametrize("unheard", [False, True])
def test_captions_say_what_they_are_given_and_nothing_else(captions, unheard):
    labels, levels = torch.randint(10, (300,)), torch.randint(3, (300, 3))
    lines = captions[0].write(labels, levels, unheard=unheard)
    assert [understood(line) for line in lines] == list(zip(labels.tolist(), levels.tolist()))


def test_wordings_differ_and_some_pairs_are_kept_back(captions):
    n = 400
    for digit in (4, 7):
        labels, levels = torch.full((n,), digit), torch.full((n, 3), 2)
        lines = captions[0].write(labels, levels)
        heard = {word for line in lines for word in text.WORD.findall(line)}
        for j, (_, high) in enumerate(text.TRAITS.values()):
            assert high[0] in heard
            assert (high[1] in heard) == ((digit + j) % 2 == 0)
        assert len(set(lines)) > 50
        again = captions[0].write(labels, levels, unheard=True)
        assert {high[1] for _, high in text.TRAITS.values()} <= set(text.WORD.findall(again[0]))


def test_the_wording_follows_its_generator(captions):
    labels, levels = torch.arange(10), torch.full((10, 3), 2)
    one, two, other = (
        captions[0].write(labels, levels, generator=torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    )
    assert one == two != other


def test_vocabulary_numbers_words_and_fills_up():
    words = text.Vocabulary(["a thin 7", "seven, thin"])
    assert len(words) == 5
    assert words.encode(["thin SEVEN", "a thin, 7!"]).tolist() == [[2, 4, 0], [1, 2, 3]]


def test_vocabulary_names_unknown_words():
    with pytest.raises(ValueError, match="unknown words: bold, eight; known are a, thin, 7"):
        text.Vocabulary(["a thin 7"]).encode(["a bold eight"])
    with pytest.raises(ValueError, match="no word"):
        text.Vocabulary(["", "!"])


# ---------------------------------------------------------------------------------------- encoder


def test_a_bag_of_words_knows_neither_order_nor_padding():
    read = text.CaptionEncoder(8).double()
    phi = read(torch.tensor([[1, 2, 3, 0, 0], [3, 1, 2, 0, 0], [3, 3, 1, 2, 0]]))
    torch.testing.assert_close(phi[0], phi[1])
    assert (phi[0] - phi[2]).abs().max() > 1e-3
    torch.testing.assert_close(phi.norm(dim=1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(phi[:1], read(torch.tensor([[1, 2, 3]])))


def test_matching_loss_by_hand():
    v, phi = torch.randn(2, 5, 4, dtype=torch.float64)
    total = 0.0
    for i in range(5):
        row = [math.exp((v[i] @ phi[j]).item() / 0.5) for j in range(5)]
        column = [math.exp((v[j] @ phi[i]).item() / 0.5) for j in range(5)]
        total -= math.log(row[i] / sum(row)) + math.log(column[i] / sum(column))
    assert text.matching_loss(v, phi, 0.5).item() == pytest.approx(total / 10)
    same = torch.ones(6, 3) / math.sqrt(3)
    assert text.matching_loss(same, same).item() == pytest.approx(math.log(6), abs=1e-5)
    with pytest.raises(ValueError, match="temperature"):
        text.matching_loss(v, phi, 0.0)


def test_retrieved_counts_images_that_find_their_caption():
    v = torch.eye(4)
    assert text.retrieved(v, v, 3) == 1
    assert text.retrieved(v, v[[1, 0, 2, 3]], 3) == 0.5
    assert text.retrieved(v, v.roll(1, 0), 1) == 0  # each finds the next one's
    assert text.retrieved(v, torch.ones(4, 4), 2) == 0  # a tie is no find
    with pytest.raises(ValueError, match="n_others"):
        text.retrieved(v, v, 4)


def test_the_image_encoder_lives_in_the_same_space():
    v = text.ImageEncoder(4, embedding=32)(torch.randn(3, 1, 28, 28))
    torch.testing.assert_close(v.norm(dim=1), torch.ones(3))
    assert v.shape == (3, 32)


def test_between_keeps_the_ends_and_the_length():
    a, b = nn.functional.normalize(torch.randn(2, 5, 8, dtype=torch.float64), dim=2)
    torch.testing.assert_close(text.between(a, b, 0.0), a)
    torch.testing.assert_close(text.between(a, b, 1.0), b)
    middle = text.between(a, b, 0.5)
    torch.testing.assert_close(middle.norm(dim=1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close((middle * a).sum(1), (middle * b).sum(1))
    third = text.between(a, b, 0.25)
    assert ((third * a).sum(1) > (third * b).sum(1)).all()


# ------------------------------------------------------------------------------------------- game


@pytest.mark.parametrize("size", [14, 28])
def test_networks_fit_and_read_their_captions(size):
    G = text.TextGenerator(5, embedding=6, n_text=4, width=4, size=size).double()
    D = text.TextDiscriminator(embedding=6, n_text=4, width=4, size=size).double()
    z, phi = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    fake = G(z, phi)
    assert fake.shape == (3, 1, size, size) and fake.dtype == torch.float64
    assert G.net[1].weight.std().item() == pytest.approx(0.02, rel=0.1)  # as in a DCGAN
    assert fake.abs().max() <= 1 and D(fake, phi).shape == (3, 1)
    G.eval(), D.eval()
    assert (G(z, phi) - G(z, phi.roll(1, 0))).abs().max() > 0
    assert (D(fake, phi) - D(fake, phi.roll(1, 0))).abs().max() > 0
    torch.testing.assert_close(D(fake, phi), D.judge(D.look(fake), phi))
    with pytest.raises(ValueError, match="size"):
        text.TextGenerator(size=16)


def test_the_caption_stands_behind_every_place():
    D = text.TextDiscriminator(embedding=6, n_text=4, width=4)
    seen = []
    D.compare = nn.Sequential(nn.Identity(), nn.Flatten())
    D.compare.register_forward_hook(lambda *a: seen.append(a[1][0]))
    phi = nn.functional.normalize(torch.randn(2, 6), dim=1)
    D(torch.randn(2, 1, 28, 28), phi)
    depth = seen[0][:, 8:]
    assert seen[0].shape == (2, 12, 7, 7)
    torch.testing.assert_close(depth, D.project(phi)[:, :, None, None].expand(-1, -1, 7, 7))
    # The embedding is brought from length 1 to numbers of size 1 first.
    by_hand = nn.functional.leaky_relu(D.project[0](math.sqrt(6) * phi), 0.2)
    torch.testing.assert_close(D.project(phi), by_hand)


class Score(nn.Module):
    """Scores that are known: a for every pair, by sums of image and caption."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def look(self, x):
        return x.flatten(1).sum(1, keepdim=True)

    def judge(self, h, phi):
        return self.a * (h + 2 * phi.sum(1, keepdim=True))

    def forward(self, x, phi):
        return self.judge(self.look(x), phi)


def table():
    rng = torch.Generator().manual_seed(0)
    real, fake, right, wrong = (
        torch.randn(4, 3, generator=rng, dtype=torch.float64) for _ in range(4)
    )
    return {"real": real, "fake": fake, "right": right, "wrong": wrong}


@pytest.mark.parametrize("wrong", [True, False])
def test_the_loss_is_that_of_three_kinds_of_pairs(wrong):
    D, made = Score(), table()
    p = {
        "right": torch.sigmoid(D(made["real"], made["right"])),
        "wrong": torch.sigmoid(D(made["real"], made["wrong"])),
        "fake": torch.sigmoid(D(made["fake"], made["right"])),
    }
    false = (1 - p["fake"]).log().mean()
    if wrong:
        false = ((1 - p["wrong"]).log().mean() + false) / 2
    expected = -p["right"].log().mean() - false
    assert sum(text.cls_loss(D, made, wrong=wrong).values()).item() == pytest.approx(
        expected.item()
    )


class Echo(nn.Module):
    latent = 3

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, z, phi):
        return z + phi + self.shift


def test_the_generators_loss_and_what_lies_on_the_table():
    G, D, x = Echo(), Score(), table()
    game = text.gan_cls(G, D, blend=0.5, extra=lambda made: 0.25 * made["fake"].square().mean())
    made = game.make(x["real"], x["right"], generator=torch.Generator().manual_seed(3))
    z = gan.draw_latent(4, 3, like=x["real"], generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(made["fake"], G(z, x["right"]))
    torch.testing.assert_close(made["wrong"], x["right"][[3, 0, 1, 2]])
    terms = game.makers["generator"].loss(made)
    phi = text.between(made["right"], made["wrong"], 0.5)
    expected = {
        "generator": -torch.sigmoid(D(made["fake"], x["right"])).log().mean(),
        "between": -0.5 * torch.sigmoid(D(G(z, phi), phi)).log().mean(),
        "extra": 0.25 * made["fake"].square().mean(),
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    assert set(text.gan_cls(G, D).makers["generator"].loss(made)) == {"generator"}
    with pytest.raises(ValueError, match="blend"):
        text.gan_cls(G, D, blend=-1.0)


def test_step_sizes_go_to_their_players():
    game = text.gan_cls(Echo(), Score(), lr=(0.1, 0.2), betas=(0.3, 0.4))
    for player, lr in ((game.makers["generator"], 0.1), (game.judges["discriminator"], 0.2)):
        assert player.optimizer.param_groups[0]["lr"] == lr
        assert player.optimizer.param_groups[0]["betas"] == (0.3, 0.4)


def test_a_tiny_game_ends_where_the_captions_say():
    """Data are their captions, on a line: the generator must learn to repeat the caption."""
    torch.manual_seed(0)

    class Line(nn.Module):
        latent = 1

        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([0.0, 0.3]))

        def forward(self, z, phi):
            return self.w[0] * phi + self.w[1] * z

    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.look, self.net = (
                nn.Identity(),
                nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1)),
            )

        def judge(self, h, phi):
            return self.net((h - phi).abs())  # it can compare, and must learn which way round

        def forward(self, x, phi):
            return self.judge(self.look(x), phi)

    phi = torch.randn(2000, 1)
    x = phi + 0.1 * torch.randn(2000, 1)
    G = Line()
    gan.play(text.gan_cls(G, Critic(), lr=(1e-2, 1e-2)), [x, phi], n_steps=300)
    assert G.w[0].item() == pytest.approx(1, abs=0.15)


def test_the_price_on_ignoring_the_noise_by_hand():
    G = Echo()
    z, phi = (torch.randn(6, 3, dtype=torch.float64) for _ in range(2))
    made = {
        "z": z,
        "right": phi,
        "fake": 0.5 * G(z, phi),
    }  # so that the fakes count, not a second pass
    found = text.mode_seeking(G, made, eps=0.2).item()
    total = 0.0
    for i in range(3):  # half of the batch
        other = z[i - 1]
        moved = (0.5 * (z[i] + phi[i]) - (other + phi[i])).abs().mean() + 0.2
        total += ((z[i] - other).abs().mean() / moved).item() / 3
    assert found == pytest.approx(total)
    with pytest.raises(ValueError, match="eps"):
        text.mode_seeking(G, made, eps=0.0)


def test_a_generator_that_ignores_its_noise_pays_more():
    z, phi = torch.randn(8, 3), torch.randn(8, 3)

    def alert(z, phi):
        return (z + phi)[:, None, None]

    def deaf(z, phi):
        return (0.01 * z + phi)[:, None, None]

    prices = [
        text.mode_seeking(G, {"z": z, "right": phi, "fake": G(z, phi)}).item()
        for G in (alert, deaf)
    ]
    assert prices[0] == pytest.approx(1, abs=0.05) and prices[1] > 20
