r"""Chapter 02: autoencoders, shallow, deep and convolutional, and how to start them well."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check
from lectool.nets import bernoulli_cross_entropy, mlp

__all__ = [
    "Autoencoder",
    "ConvAutoencoder",
    "SigmoidAutoencoder",
    "deep_autoencoder",
    "gradient_parts",
    "greedy_layers",
    "reconstruction_loss",
    "unroll",
]

# What turns a decoder's output into a reconstruction, and the range that the data must keep to.
LIKELIHOODS = {
    "gaussian": (lambda a: a, None, None),
    "bernoulli": (torch.sigmoid, 0.0, 1.0),
    "multinomial": (lambda a: a.softmax(1), 0.0, None),
}


def reconstruction_loss(a: Tensor, x: Tensor, likelihood: str) -> Tensor:
    r"""How badly the decoder's output a describes x: summed over a sample's numbers, mean over the batch.

    Arguments:
        a: the decoder's output before any squashing, shape (n, d).
        x: data, shape (n, d).
        likelihood: ``"gaussian"`` for real numbers, :math:`\lVert x - a \rVert^2`; ``"bernoulli"`` for
            numbers in [0, 1], the cross-entropy :math:`-\sum_j x_j \log \hat x_j + (1 - x_j) \log (1 - \hat x_j)`
            of :math:`\hat x = \sigma(a)`, in nats; ``"multinomial"`` for counts,
            :math:`-\sum_j x_j \log \operatorname{softmax}(a)_j / \sum_j x_j`, in nats a word.

    Raises:
        ValueError: if ``likelihood`` is unknown.
    """
    check.one_of(LIKELIHOODS, likelihood=likelihood)
    if likelihood == "gaussian":
        return (a - x).square().sum(1).mean()
    if likelihood == "bernoulli":
        return bernoulli_cross_entropy(a, x).mean()
    return -((x * a.log_softmax(1)).sum(1) / x.sum(1).clamp(min=1)).mean()


class Copier(nn.Module):
    r"""What every autoencoder does with its ``encode``, its ``decoder`` and its ``likelihood``.

    Raises:
        ValueError: if the likelihood is unknown; when trained, if Bernoulli data leave [0, 1] or counts
            are negative.
    """

    def __init__(self, likelihood: str):
        super().__init__()
        check.one_of(LIKELIHOODS, likelihood=likelihood)
        self.likelihood = likelihood

    def decode(self, z: Tensor) -> Tensor:
        r"""Reconstructions: means, probabilities or word frequencies, shape (n, d)."""
        squash, _, _ = LIKELIHOODS[self.likelihood]
        return squash(self.decoder(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""``decode(encode(x))``."""
        return self.decode(self.encode(x))

    def outputs(self, x: Tensor) -> Tensor:
        r"""What the reconstruction loss compares with the data: the decoder's output before any squashing."""
        return self.decoder(self.encode(x))

    def loss(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        r"""The reconstruction loss of a batch.

        Arguments:
            x: what is to be rebuilt, shape (n, d).
            given: what the encoder sees in its place, such as a damaged copy; x itself where ``None``.
        """
        _, low, high = LIKELIHOODS[self.likelihood]
        check.data(x, low=low, high=high)
        return reconstruction_loss(self.outputs(x if given is None else given), x, self.likelihood)


class Autoencoder(Copier):
    r"""Any encoder and any decoder, trained to copy.

    Arguments:
        encoder: from samples, shape (n, d), to codes, shape (n, k).
        decoder: from codes back, without the last squashing: that belongs to the likelihood.
        likelihood: as in :func:`reconstruction_loss`.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, likelihood: str = "bernoulli"):
        super().__init__(likelihood)
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> Tensor:
        r"""Codes z, shape (n, k). Counts are divided by their sum first: a document's length is no content."""
        if self.likelihood == "multinomial":
            x = x / x.sum(1, keepdim=True).clamp(min=1)
        return self.encoder(x)


class SigmoidAutoencoder(Copier):
    r"""One hidden layer of sigmoid units: :math:`h = \sigma(W x + b)`, :math:`a = W^* h + c`.

    The parameters have the shapes and names of an RBM's, so that either can start a deep autoencoder.

    Arguments:
        d: numbers in a sample.
        k: hidden units.
        tied: whether :math:`W^* = W^\top`.
        likelihood: ``"bernoulli"`` for data in [0, 1] or ``"gaussian"`` for real numbers.
        linear_code: whether h is :math:`W x + b` without the sigmoid.

    References:
        Bourlard & Kamp (1988); Vincent et al. (2008), section 2.
    """

    def __init__(
        self,
        d: int,
        k: int,
        *,
        tied: bool = True,
        likelihood: str = "bernoulli",
        linear_code: bool = False,
    ):
        check.at_least(1, d=d, k=k)
        check.one_of(("bernoulli", "gaussian"), likelihood=likelihood)
        super().__init__(likelihood)
        self.linear_code = linear_code
        self.W = nn.Parameter(nn.init.xavier_uniform_(torch.empty(k, d)))
        self.W_star = None if tied else nn.Parameter(nn.init.xavier_uniform_(torch.empty(d, k)))
        self.b = nn.Parameter(torch.zeros(k))
        self.c = nn.Parameter(torch.zeros(d))

    def encode(self, x: Tensor) -> Tensor:
        r"""Hidden units h, shape (n, k)."""
        a = F.linear(x, self.W, self.b)
        return a if self.linear_code else torch.sigmoid(a)

    def decoder(self, h: Tensor) -> Tensor:
        r"""The output a before any squashing, shape (n, d)."""
        return F.linear(h, self.W.T if self.W_star is None else self.W_star, self.c)


def gradient_parts(model: SigmoidAutoencoder, x: Tensor) -> tuple[Tensor, Tensor]:
    r"""The gradient of a tied autoencoder's loss in W, split into the encoder's and the decoder's part.

    The same W stands at two places. Give the two places names of their own, differentiate in each, and
    the chain rule says that the gradient in W is the sum.

    Arguments:
        model: with tied weights.
        x: a batch, shape (n, d).

    Returns:
        the part through the encoder and the part through the decoder, both of W's shape (k, d).

    Raises:
        ValueError: if the weights are not tied.
    """
    if model.W_star is not None:
        raise ValueError("the autoencoder's weights are not tied; expected tied=True")
    W_encoder = model.W.detach().clone().requires_grad_()
    W_decoder = model.W.detach().clone().requires_grad_()
    a = F.linear(x, W_encoder, model.b)
    h = a if model.linear_code else torch.sigmoid(a)
    loss = reconstruction_loss(F.linear(h, W_decoder.T, model.c), x, model.likelihood)
    return torch.autograd.grad(loss, [W_encoder, W_decoder])


def deep_autoencoder(
    sizes: Sequence[int],
    *,
    activation: Callable[[], nn.Module] = nn.ReLU,
    likelihood: str = "bernoulli",
) -> Autoencoder:
    r"""An autoencoder whose decoder mirrors its encoder, with a linear code.

    Arguments:
        sizes: widths from data to code, such as ``[784, 1000, 500, 250, 30]``.
        activation: between the layers.
        likelihood: as in :func:`reconstruction_loss`.
    """
    return Autoencoder(
        mlp(sizes, activation), mlp(list(sizes)[::-1], activation), likelihood=likelihood
    )


def greedy_layers(
    x: Tensor,
    sizes: Sequence[int],
    make: Callable[[int, int, bool], nn.Module],
    fit: Callable[[nn.Module, Tensor], object],
) -> list[nn.Module]:
    r"""Trains one shallow model a layer, each on the codes of the one before it.

    Arguments:
        x: data, shape (n, sizes[0]).
        sizes: widths from data to code.
        make: called as ``make(n_in, n_out, last)``; returns an RBM or a :class:`SigmoidAutoencoder`.
        fit: trains it, ``fit(layer, codes)``.

    Returns:
        the trained layers, from data to code; each has W (n_out, n_in), b and c.

    References:
        Hinton & Salakhutdinov (2006) with RBMs; Bengio et al. (2007) with autoencoders.
    """
    layers = []
    for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        layer = make(n_in, n_out, i == len(sizes) - 2).to(x)
        fit(layer, x)
        with torch.no_grad():
            x = layer.encode(x)
        layers.append(layer)
    return layers


def unroll(layers: Sequence[nn.Module], *, likelihood: str = "bernoulli") -> Autoencoder:
    r"""Unfolds a stack of shallow models into one deep sigmoid autoencoder that starts at their weights.

    The encoder takes each W and b; the decoder takes each :math:`W^\top` and c in the opposite order.
    From there on the two halves are trained apart.

    Arguments:
        layers: from data to code, each with parameters W (n_out, n_in), b (n_out,), c (n_in,).
        likelihood: as in :func:`reconstruction_loss`.
    """
    sizes = [layers[0].W.shape[1]] + [layer.W.shape[0] for layer in layers]
    model = deep_autoencoder(sizes, activation=nn.Sigmoid, likelihood=likelihood).to(layers[0].W)
    down = [part for part in model.encoder if isinstance(part, nn.Linear)]
    up = [part for part in model.decoder if isinstance(part, nn.Linear)]
    with torch.no_grad():
        for layer, encode, decode in zip(layers, down, reversed(up), strict=True):
            encode.weight.copy_(layer.W)
            encode.bias.copy_(layer.b)
            decode.weight.copy_(layer.W.T)
            decode.bias.copy_(layer.c)
    return model


class ConvAutoencoder(Autoencoder):
    r"""The lecture's convolutional autoencoder for 28×28 images in [0, 1]; its code is 8×2×2.

    Shapes on the way down: 1×28×28 → 16×10×10 → pooled 16×5×5 → 8×3×3 → pooled 8×2×2; on the way up:
    16×5×5 → 8×15×15 → 1×28×28. The last step is a tanh, for images scaled to [−1, 1].

    Arguments:
        padding: of the first transposed convolution. 0 leads to 28×28; the slide's 1 ends at 16×16.
    """

    def __init__(self, *, padding: int = 0):
        encoder = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, 16, 3, stride=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=2),
            nn.Conv2d(16, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=1),
            nn.Flatten(),
        )
        decoder = nn.Sequential(
            nn.Unflatten(1, (8, 2, 2)),
            nn.ConvTranspose2d(8, 16, 3, stride=2, padding=padding),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 5, stride=3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 2, stride=2, padding=1),
            nn.Tanh(),
            nn.Flatten(),
        )
        super().__init__(encoder, decoder, likelihood="gaussian")

    def encode(self, x: Tensor) -> Tensor:
        r"""Codes, shape (n, 32), of images in [0, 1], shape (n, 784)."""
        return self.encoder(2 * x - 1)

    def decode(self, z: Tensor) -> Tensor:
        r"""Images in [0, 1], shape (n, 784), of codes, shape (n, 32)."""
        return (self.decoder(z) + 1) / 2

    def outputs(self, x: Tensor) -> Tensor:
        r"""The images themselves: the squared error is in units of gray values, as everywhere in the book."""
        return self.decode(self.encode(x))

    def loss(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        r"""The reconstruction loss of images in [0, 1], shape (n, 784); ``given`` as in an :class:`Autoencoder`."""
        check.data(x, width=784, low=0.0, high=1.0)
        return super().loss(x, given)
