"""Autoencoders against torch.distributions, explicit sums and autograd."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical

from lectool import random, train
from lectool.autoencoders import (
    Autoencoder,
    ConvAutoencoder,
    SigmoidAutoencoder,
    deep_autoencoder,
    gradient_parts,
    greedy_layers,
    reconstruction_loss,
    unroll,
)
from lectool.boltzmann import RBM


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --------------------------------------------------------------------------------------------- the loss


def test_gaussian_loss_is_the_squared_error_a_sample():
    a, x = rand(5, 4) * 3, rand(5, 4, seed=1)
    by_hand = sum(sum((a[i, j] - x[i, j]) ** 2 for j in range(4)) for i in range(5)) / 5
    torch.testing.assert_close(reconstruction_loss(a, x, "gaussian"), by_hand)


def test_bernoulli_loss_is_the_negative_log_likelihood_in_nats():
    a, x = rand(5, 4) * 6 - 3, rand(5, 4, seed=1).round()
    torch.testing.assert_close(
        reconstruction_loss(a, x, "bernoulli"), -Bernoulli(logits=a).log_prob(x).sum(1).mean()
    )
    gray, p = rand(5, 4, seed=2), a.sigmoid()
    expected = -(gray * p.log() + (1 - gray) * (1 - p).log()).sum(1).mean()
    torch.testing.assert_close(reconstruction_loss(a, gray, "bernoulli"), expected)
    far = torch.full((1, 1), 200.0)  # where sigmoid is 1 to the last bit
    assert reconstruction_loss(far, torch.zeros(1, 1), "bernoulli").item() == pytest.approx(200)


def test_multinomial_loss_is_nats_a_word():
    a, counts = (
        rand(3, 6) * 4,
        torch.tensor([[2, 0, 1, 0, 0, 3], [0, 0, 0, 0, 0, 7], [1, 1, 1, 1, 1, 1]]).double(),
    )
    total = 0.0
    for row, logits in zip(counts, a):
        words = torch.arange(6).repeat_interleave(row.long())
        total -= Categorical(logits=logits).log_prob(words).mean()  # each word is one draw
    torch.testing.assert_close(reconstruction_loss(a, counts, "multinomial"), total / 3)
    one = torch.tensor([[0, 0, 0, 1, 0, 0]]).double()
    torch.testing.assert_close(
        reconstruction_loss(a[:1], one, "multinomial"), -a[0].log_softmax(0)[3]
    )
    assert reconstruction_loss(a, 0 * counts, "multinomial") == 0  # an empty document says nothing


@pytest.mark.parametrize("name", ["poisson", "Gaussian", ""])
def test_unknown_likelihoods(name):
    for make in (
        lambda: reconstruction_loss(torch.zeros(1, 1), torch.zeros(1, 1), name),
        lambda: Autoencoder(nn.Identity(), nn.Identity(), likelihood=name),
        lambda: deep_autoencoder([4, 2], likelihood=name),
    ):
        with pytest.raises(
            ValueError,
            match=f"likelihood is '{name}'; it can be 'gaussian', 'bernoulli' or 'multinomial'",
        ):
            make()


# ---------------------------------------------------------------------------------------- autoencoders


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "multinomial"])
def test_an_autoencoder_is_decoder_after_encoder(likelihood):
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(6, 2).double(), nn.Linear(2, 6).double()
    model = Autoencoder(encoder, decoder, likelihood=likelihood)
    x = (rand(4, 6) * 5).round() if likelihood == "multinomial" else rand(4, 6)
    seen = x / x.sum(1, keepdim=True) if likelihood == "multinomial" else x
    a = decoder(encoder(seen))
    mean = {"gaussian": a, "bernoulli": a.sigmoid(), "multinomial": a.softmax(1)}[likelihood]
    torch.testing.assert_close(model.encode(x), encoder(seen))
    torch.testing.assert_close(model.reconstruct(x), mean)
    torch.testing.assert_close(model.decode(model.encode(x)), mean)
    torch.testing.assert_close(model.loss(x), reconstruction_loss(a, x, likelihood))


def test_the_length_of_a_document_is_no_content():
    model = deep_autoencoder([5, 3, 2], likelihood="multinomial").double()
    x = torch.tensor([[1.0, 2.0, 0.0, 1.0, 4.0]]).double()
    torch.testing.assert_close(model.encode(3 * x), model.encode(x))
    torch.testing.assert_close(model.loss(3 * x), model.loss(x))
    assert torch.isfinite(model.loss(0 * x))


BAD = [
    (torch.full((2, 6), 1.5), "lies in .*1.5"),
    (torch.full((2, 6), -0.5), "lies in .*-0.5"),
    (torch.full((2, 6), math.nan), "NaN"),
    (torch.zeros(0, 6), "empty"),
    (torch.zeros(6), "expected 2 axes"),
    (torch.zeros(2, 6, dtype=torch.uint8), "torch.uint8"),
]


@pytest.mark.parametrize(("x", "words"), BAD)
@pytest.mark.parametrize(
    "make", [lambda: deep_autoencoder([6, 3, 2]), lambda: SigmoidAutoencoder(6, 3)]
)
def test_bad_data_for_bernoulli_models(make, x, words):
    with pytest.raises(ValueError, match=words):
        make().loss(x)


def test_each_likelihood_has_its_range():
    real, counts = torch.full((2, 6), -3.0), torch.full((2, 6), 3.0)
    assert torch.isfinite(deep_autoencoder([6, 2], likelihood="gaussian").loss(real))
    assert torch.isfinite(SigmoidAutoencoder(6, 2, likelihood="gaussian").loss(real))
    assert torch.isfinite(deep_autoencoder([6, 2], likelihood="multinomial").loss(counts))
    with pytest.raises(ValueError, match="lies in"):
        deep_autoencoder([6, 2], likelihood="multinomial").loss(real)
    for model in (
        SigmoidAutoencoder(6, 2, likelihood="gaussian"),
        deep_autoencoder([6, 2], likelihood="gaussian"),
    ):
        with pytest.raises(ValueError, match="NaN"):
            model.loss(real * math.nan)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("linear_code", [True, False])
def test_sigmoid_autoencoder_by_its_formula(tied, likelihood, linear_code):
    torch.manual_seed(0)
    model = SigmoidAutoencoder(
        6, 3, tied=tied, likelihood=likelihood, linear_code=linear_code
    ).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p))
    assert len(list(model.parameters())) == (3 if tied else 4)
    assert model.W.shape == (3, 6) and model.b.shape == (3,) and model.c.shape == (6,)
    x = rand(5, 6)
    h = x @ model.W.T + model.b
    h = h if linear_code else 1 / (1 + (-h).exp())
    a = h @ (model.W if tied else model.W_star.T) + model.c
    x_hat = a if likelihood == "gaussian" else 1 / (1 + (-a).exp())
    torch.testing.assert_close(model.encode(x), h)
    torch.testing.assert_close(model.decode(h), x_hat)
    torch.testing.assert_close(model.reconstruct(x), x_hat)
    torch.testing.assert_close(model.loss(x), reconstruction_loss(a, x, likelihood))


@pytest.mark.parametrize(
    ("d", "k", "likelihood"), [(0, 3, "bernoulli"), (3, 0, "bernoulli"), (3, 3, "multinomial")]
)
def test_sigmoid_autoencoder_rejects(d, k, likelihood):
    with pytest.raises(
        ValueError,
        match="[dk] is 0; expected" if 0 in (d, k) else f"likelihood is '{likelihood}'; it can be",
    ):
        SigmoidAutoencoder(d, k, likelihood=likelihood)


# --------------------------------------------------------------------------- two parts of one gradient


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("linear_code", [True, False])
def test_gradient_parts_sum_to_the_gradient(likelihood, linear_code):
    torch.manual_seed(0)
    model, x = (
        SigmoidAutoencoder(6, 3, likelihood=likelihood, linear_code=linear_code).double(),
        rand(7, 6),
    )
    encoder, decoder = gradient_parts(model, x)
    assert model.W.grad is None  # nothing is left behind
    model.loss(x).backward()
    assert (encoder + decoder - model.W.grad).abs().max() < 1e-12
    assert encoder.shape == decoder.shape == (3, 6)
    assert encoder.abs().max() > 1e-3 and decoder.abs().max() > 1e-3
    assert (encoder - decoder).abs().max() > 1e-3


def test_each_part_is_the_gradient_of_its_place():
    torch.manual_seed(0)
    tied = SigmoidAutoencoder(6, 3).double()
    untied = SigmoidAutoencoder(6, 3, tied=False).double()
    with torch.no_grad():
        untied.W.copy_(tied.W)
        untied.W_star.copy_(tied.W.T)
    x = rand(7, 6)
    untied.loss(x).backward()
    encoder, decoder = gradient_parts(tied, x)
    torch.testing.assert_close(encoder, untied.W.grad)
    torch.testing.assert_close(decoder, untied.W_star.grad.T)


def test_gradient_parts_needs_tied_weights():
    with pytest.raises(ValueError, match="not tied; expected tied=True"):
        gradient_parts(SigmoidAutoencoder(4, 2, tied=False), torch.rand(3, 4))


# ------------------------------------------------------------------------------------------ deep stacks


def widths(net: nn.Module) -> list[tuple[int, int]]:
    return [(part.in_features, part.out_features) for part in net if isinstance(part, nn.Linear)]


def test_the_decoder_mirrors_the_encoder():
    model = deep_autoencoder((784, 1000, 500, 250, 30), activation=nn.Tanh)
    down = [(784, 1000), (1000, 500), (500, 250), (250, 30)]
    assert widths(model.encoder) == down
    assert widths(model.decoder) == [(b, a) for a, b in reversed(down)]
    kinds = [nn.Linear, nn.Tanh] * 3 + [nn.Linear]  # neither the code nor the output is squashed
    assert [type(p) for p in model.encoder] == [type(p) for p in model.decoder] == kinds


def test_greedy_layers_calls_and_shapes():
    x, made, fitted = rand(9, 8).float(), [], []

    def make(n_in, n_out, last):
        made.append((n_in, n_out, last))
        return SigmoidAutoencoder(
            n_in, n_out, linear_code=last
        ).double()  # it is brought to the data's dtype

    def fit(layer, codes):
        fitted.append((layer, codes))

    layers = greedy_layers(x, [8, 5, 4, 2], make, fit)
    assert made == [(8, 5, False), (5, 4, False), (4, 2, True)]
    assert [layer for layer, _ in fitted] == layers and [
        tuple(layer.W.shape) for layer in layers
    ] == [(5, 8), (4, 5), (2, 4)]
    assert fitted[0][1] is x
    for (layer, codes), (_, following) in zip(fitted, fitted[1:]):
        assert torch.equal(following, layer.encode(codes)) and not following.requires_grad
        assert following.dtype == torch.float32


def test_each_layer_is_trained_before_it_encodes():
    def fit(layer, _codes):
        with torch.no_grad():
            layer.b.fill_(50.0)

    seen = []
    greedy_layers(
        rand(4, 6),
        [6, 3, 2],
        lambda i, o, last: SigmoidAutoencoder(i, o),
        lambda m, c: (seen.append(c), fit(m, c)),
    )
    torch.testing.assert_close(seen[1], torch.ones(4, 3).double())


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_unroll_encodes_and_decodes_as_the_layers_do(likelihood):
    torch.manual_seed(0)
    sizes = [8, 5, 4, 2]
    layers = [
        SigmoidAutoencoder(
            i, o, linear_code=o == 2, likelihood=likelihood if i == 8 else "bernoulli"
        ).double()
        for i, o in zip(sizes, sizes[1:])
    ]
    with torch.no_grad():
        for layer in layers:
            for p in layer.parameters():
                p.copy_(torch.randn_like(p))
    model, x = unroll(layers, likelihood=likelihood), rand(6, 8)
    z = x
    for layer in layers:
        z = layer.encode(z)
    assert torch.equal(model.encode(x), z)
    x_hat = z
    for layer in reversed(layers):
        x_hat = layer.decode(x_hat)
    torch.testing.assert_close(model.decode(z), x_hat, rtol=0, atol=1e-14)
    assert next(model.parameters()).dtype == torch.float64 and model.likelihood == likelihood
    with torch.no_grad():
        model.encoder[0].weight.zero_()  # from here on they are trained apart
    assert layers[0].W.any() and model.decoder[-1].weight.any()


def test_unroll_takes_a_stack_of_rbms():
    torch.manual_seed(0)
    x = rand(6, 8)
    layers = greedy_layers(
        x,
        [8, 5, 2],
        lambda i, o, last: RBM(i, o, hidden="gaussian" if last else "bernoulli"),
        lambda layer, codes: None,
    )
    with torch.no_grad():
        for layer in layers:
            for p in layer.parameters():
                p.copy_(torch.randn_like(p))
    model = unroll(layers)
    z = layers[1].encode(layers[0].encode(x))
    torch.testing.assert_close(model.encode(x), z)
    torch.testing.assert_close(model.decode(z), layers[0].decode(layers[1].decode(z)))


def test_pretraining_gives_a_better_start():
    random.seed(0)
    x = (rand(60, 1) + rand(60, 12, seed=1) > 1).double()
    layers = greedy_layers(
        x,
        [12, 6, 2],
        lambda i, o, last: SigmoidAutoencoder(i, o, linear_code=last),
        lambda layer, codes: train.fit(layer, codes, epochs=30, batch_size=20, lr=0.05),
    )
    started = unroll(layers)
    fresh = deep_autoencoder([12, 6, 2], activation=nn.Sigmoid).double()
    assert started.loss(x) < fresh.loss(x)


# ------------------------------------------------------------------------------------------ convolution


def test_conv_autoencoder_shapes_as_the_lecture_has_them():
    model, x = ConvAutoencoder(), rand(3, 784).float()
    shapes, value = [], 2 * x - 1
    for part in model.encoder:
        value = part(value)
        shapes.append(tuple(value.shape[1:]))
    assert shapes[0] == (1, 28, 28) and shapes[1] == (16, 10, 10) and shapes[3] == (16, 5, 5)
    assert shapes[4] == (8, 3, 3) and shapes[6] == (8, 2, 2) and shapes[-1] == (32,)
    ups = [tuple(v.shape[1:]) for v in through(model.decoder, value)]
    assert (
        ups[1] == (16, 5, 5)
        and ups[3] == (8, 15, 15)
        and ups[5] == (1, 28, 28)
        and ups[-1] == (784,)
    )


def through(net: nn.Sequential, value: torch.Tensor):
    for part in net:
        value = part(value)
        yield value


def test_the_padding_of_the_slide_ends_at_16_by_16():
    z = rand(2, 32).float()
    assert ConvAutoencoder(padding=0).decoder(z).shape == (2, 28 * 28)
    shapes = [tuple(v.shape[1:]) for v in through(ConvAutoencoder(padding=1).decoder, z)]
    assert shapes[5] == (1, 16, 16) and shapes[-1] == (256,)


def test_conv_autoencoder_works_in_gray_values():
    torch.manual_seed(0)
    model, x = ConvAutoencoder(), rand(3, 784).float()
    torch.testing.assert_close(model.encode(x), model.encoder(2 * x - 1))
    x_hat = model.reconstruct(x)
    assert x_hat.shape == x.shape and 0 <= x_hat.min() and x_hat.max() <= 1
    torch.testing.assert_close(2 * x_hat - 1, model.decoder(model.encode(x)))
    torch.testing.assert_close(model.loss(x), (x_hat - x).square().sum(1).mean())


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.full((2, 784), 1.01), "lies in"),
        (torch.full((2, 784), -0.01), "lies in"),
        (torch.full((2, 784), math.nan), "NaN"),
        (torch.zeros(2, 1, 28, 28), "expected 2 axes"),
        (torch.zeros(2, 256), "expected 784 numbers in a sample"),
    ],
)
def test_conv_autoencoder_rejects(x, words):
    with pytest.raises(ValueError, match=words):
        ConvAutoencoder().loss(x)


@pytest.mark.parametrize(
    "make", [lambda: deep_autoencoder([12, 8, 3]), lambda: SigmoidAutoencoder(12, 6)]
)
def test_they_learn(make):
    random.seed(0)
    x = (torch.rand(100, 1) > 0.5).float().expand(100, 12).contiguous()
    model = make()
    history = train.fit(model, x, epochs=40, batch_size=20, lr=0.01)
    assert history["loss"][-1] < 0.3 * history["loss"][0]
