r"""Chapter 03: autoencoders that are kept from copying by noise, by a penalty or by a likelihood."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lectool import check
from lectool.autoencoders.plain import Autoencoder, SigmoidAutoencoder, reconstruction_loss

__all__ = [
    "Contractive",
    "Denoising",
    "GatedAutoencoder",
    "PredictiveSparseDecomposition",
    "VarianceAutoencoder",
    "corrupt",
    "hutchinson_norm",
    "jacobian_norm",
    "mixture_denoiser",
    "mixture_score",
    "sigmoid_jacobian_norm",
]


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} is {value}; expected a finite number > 0")


# ------------------------------------------------------------------------------------------ denoising


def corrupt(x: Tensor, kind: str, level: float, generator: torch.Generator | None = None) -> Tensor:
    r"""A damaged copy :math:`\tilde x` of x.

    Arguments:
        x: data, any shape.
        kind: ``"gaussian"`` adds noise from N(0, level²); ``"masking"`` sets each number to 0 with
            probability level and leaves the others as they are.
        level: a standard deviation, > 0, in the units of x; or a probability, in (0, 1).
        generator: of the noise; torch's global one where ``None``.

    Raises:
        ValueError: if ``kind`` is unknown or ``level`` is out of its range.
    """
    _check_noise(kind, level)
    if kind == "gaussian":
        noise = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
        return x + level * noise
    return x * (torch.rand(x.shape, device=x.device, generator=generator) >= level)


def _check_noise(kind: str, level: float) -> None:
    if kind not in ("gaussian", "masking"):
        raise ValueError(f"kind is {kind!r}; it can be 'gaussian' or 'masking'")
    if kind == "gaussian":
        _positive(level=level)
    elif not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a probability in (0, 1) for masking")


class Denoising(nn.Module):
    r"""Trains any autoencoder to undo noise: the input is corrupted, the target is not.

    Arguments:
        net: an :class:`Autoencoder` or a :class:`SigmoidAutoencoder`; its parameters are trained in place.
        kind, level: of the noise, as in :func:`corrupt`.

    Raises:
        ValueError: as :func:`corrupt` does, and for data that the net's likelihood cannot hold.

    References:
        Vincent et al. (2008), Extracting and composing robust features with denoising autoencoders.
    """

    def __init__(self, net: nn.Module, kind: str = "gaussian", level: float = 0.5):
        super().__init__()
        _check_noise(kind, level)
        self.net, self.kind, self.level = net, kind, level

    def encode(self, x: Tensor) -> Tensor:
        r"""The net's codes, without added noise."""
        return self.net.encode(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""The net's output for x as it is: the denoised x where x is noisy."""
        return self.net.reconstruct(x)

    def loss(self, x: Tensor) -> Tensor:
        r"""How badly the clean batch, shape (n, d), is rebuilt from a fresh corrupted copy."""
        bernoulli = self.net.likelihood == "bernoulli"
        check.data(x, low=0.0 if bernoulli else None, high=1.0 if bernoulli else None)
        x_noisy = corrupt(x, self.kind, self.level)
        if self.net.likelihood == "gaussian":
            return (self.net.reconstruct(x_noisy) - x).square().sum(1).mean()
        a = self.net.decoder(self.net.encode(x_noisy))
        return reconstruction_loss(a, x, self.net.likelihood)


class GatedAutoencoder(Autoencoder):
    r"""The decoder opens a gate for each number of the input: :math:`\hat x = \sigma(g(z)) \odot x`.

    The gates are a skip connection. Trained by :class:`Denoising`, the code has to say which numbers
    are worth letting through; without noise all gates open and the code stays empty.

    Arguments:
        encoder: from samples, shape (n, d), to codes, shape (n, k).
        decoder: from codes to d numbers, before the sigmoid.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__(encoder, decoder, likelihood="gaussian")

    def gates(self, x: Tensor) -> Tensor:
        r"""The share of each number that passes, in (0, 1), shape (n, d)."""
        return torch.sigmoid(self.decoder(self.encode(x)))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.gates(x) * x

    def loss(self, x: Tensor) -> Tensor:
        check.data(x)
        return (self.reconstruct(x) - x).square().sum(1).mean()


def mixture_score(x: Tensor, means: Tensor, sd: float) -> Tensor:
    r"""The score :math:`\nabla_x \log p(x)` of a mixture of equal round Gaussians, exactly.

    With responsibilities :math:`r_k \propto \exp(-\lVert x - \mu_k \rVert^2 / 2 s^2)` that sum to one,

    .. math:: \nabla_x \log p(x) = \frac{\sum_k r_k \mu_k - x}{s^2}.

    Adding noise N(0, σ²) to the data makes s² to s² + σ².

    Arguments:
        x: points, shape (n, d).
        means: of the components, shape (k, d).
        sd: standard deviation s of each, > 0.

    Returns:
        shape (n, d).
    """
    _positive(sd=sd)
    check.data(x, width=means.shape[1])
    r = (-torch.cdist(x, means).square() / (2 * sd**2)).softmax(1)
    return (r @ means - x) / sd**2


def mixture_denoiser(x_noisy: Tensor, means: Tensor, sd: float, sigma: float) -> Tensor:
    r"""The best guess :math:`E[x \mid \tilde x]` under squared error, for a mixture as in :func:`mixture_score`.

    From the rule for conditioning Gaussians, component by component; no score is used:

    .. math::
        E[x \mid \tilde x] = \sum_k \tilde r_k \left( \mu_k + \frac{s^2}{s^2 + \sigma^2} (\tilde x - \mu_k) \right),

    where the responsibilities :math:`\tilde r_k` belong to the noisy point, with variance s² + σ².

    Arguments:
        x_noisy: points, shape (n, d).
        means, sd: the mixture, shape (k, d) and > 0.
        sigma: standard deviation of the noise, > 0.
    """
    _positive(sd=sd, sigma=sigma)
    check.data(x_noisy, "x_noisy", width=means.shape[1])
    total = sd**2 + sigma**2
    r = (-torch.cdist(x_noisy, means).square() / (2 * total)).softmax(1)
    guesses = means + sd**2 / total * (x_noisy[:, None] - means)  # (n, k, d)
    return (r[:, :, None] * guesses).sum(1)


# ---------------------------------------------------------------------------------------- contraction


def sigmoid_jacobian_norm(W: Tensor, h: Tensor) -> Tensor:
    r""":math:`\lVert J \rVert_F^2` of a sigmoid layer :math:`h = \sigma(W x + b)`, one number a sample.

    Since :math:`\partial h_j / \partial x_i = h_j (1 - h_j) W_{ji}`,

    .. math:: \lVert J \rVert_F^2 = \sum_j \bigl(h_j (1 - h_j)\bigr)^2 \sum_i W_{ji}^2,

    which costs k numbers a sample where the Jacobian itself has k · d.

    Arguments:
        W: weights, shape (k, d).
        h: the layer's output, shape (n, k).

    Returns:
        shape (n,).
    """
    return (h * (1 - h)).square() @ W.square().sum(1)


def jacobian_norm(encode: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    r""":math:`\lVert J \rVert_F^2` of any encoder by automatic differentiation, one number a sample.

    Arguments:
        encode: from (n, d) to (n, k), each row by itself (no batch normalization in training mode).
        x: shape (n, d).

    Returns:
        shape (n,). It takes k backward passes.
    """
    check.data(x)
    J = torch.func.vmap(torch.func.jacrev(lambda row: encode(row[None])[0]))(x)
    return J.square().sum((1, 2))


def hutchinson_norm(
    encode: Callable[[Tensor], Tensor],
    x: Tensor,
    n_probes: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""An unbiased estimate of :math:`\lVert J \rVert_F^2` from a few backward passes, one number a sample.

    For random signs v, :math:`E \lVert J^\top v \rVert^2 = \operatorname{tr} J J^\top = \lVert J \rVert_F^2`,
    and :math:`J^\top v` is one vector–Jacobian product. The result can itself be differentiated.

    Arguments:
        encode: as in :func:`jacobian_norm`.
        x: shape (n, d).
        n_probes: number of sign vectors, ≥ 1.
        generator: of the signs; torch's global one where ``None``.

    References:
        Hutchinson (1989), A stochastic estimator of the trace of the influence matrix.
    """
    if n_probes < 1:
        raise ValueError(f"n_probes is {n_probes}; expected ≥ 1")
    x = x.detach().requires_grad_()
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    with torch.enable_grad():
        z = encode(x)
        for _ in range(n_probes):
            bits = torch.randint(2, z.shape, device=z.device, generator=generator)
            (Jv,) = torch.autograd.grad(z, x, (2 * bits - 1).to(z), create_graph=True)
            total = total + Jv.square().sum(1)
    return total / n_probes


class Contractive(nn.Module):
    r"""Trains an autoencoder whose code is to move little when the input does.

    .. math:: L(x) = \ell(\hat x, x) + \lambda \left\lVert \partial z / \partial x \right\rVert_F^2

    Arguments:
        net: trained in place. For the closed form a :class:`SigmoidAutoencoder`, best with tied weights:
            a free decoder can undo a shrunken encoder, and the penalty is then paid by scale alone.
        lam: λ > 0, in units of the reconstruction loss.
        n_probes: ``None`` for the closed form of a sigmoid layer, else the probes of
            :func:`hutchinson_norm`, for any encoder.

    Raises:
        ValueError: if λ or ``n_probes`` is not positive, or the closed form is asked for another net.

    References:
        Rifai et al. (2011), Contractive auto-encoders: explicit invariance during feature extraction.
    """

    def __init__(self, net: nn.Module, lam: float, *, n_probes: int | None = None):
        super().__init__()
        _positive(lam=lam)
        if n_probes is None and (not isinstance(net, SigmoidAutoencoder) or net.linear_code):
            raise ValueError(
                "the closed form needs a SigmoidAutoencoder with sigmoid codes; set n_probes for other nets"
            )
        if n_probes is not None and n_probes < 1:
            raise ValueError(f"n_probes is {n_probes}; expected ≥ 1, or None for the closed form")
        self.net, self.lam, self.n_probes = net, lam, n_probes

    def encode(self, x: Tensor) -> Tensor:
        return self.net.encode(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.net.reconstruct(x)

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        r"""The terms ``loss``, ``reconstruction`` and ``jacobian`` (unweighted), means over the batch."""
        reconstruction = self.net.loss(x)
        if self.n_probes is None:
            jacobian = sigmoid_jacobian_norm(self.net.W, self.net.encode(x)).mean()
        else:
            jacobian = hutchinson_norm(self.net.encode, x, self.n_probes).mean()
        loss = reconstruction + self.lam * jacobian
        return {"loss": loss, "reconstruction": reconstruction, "jacobian": jacobian}


# --------------------------------------------------------------------------------------- sparse codes


class PredictiveSparseDecomposition(nn.Module):
    r"""Sparse coding with an encoder that learns to guess the sparse code.

    .. math:: E(x, z) = \lVert x - D z \rVert^2 + \lambda \lVert z \rVert_1 + \lVert z - f(x) \rVert^2,
        \qquad f(x) = g \odot \tanh(W x + b)

    Each batch first finds its codes z by ISTA steps on E, from the encoder's guess; then D, W, b and g
    take a gradient step at these z. The columns of D are kept at length 1: without a bound, a longer D and
    a smaller z would make the ℓ₁ term as small as one likes. The gains g and the tanh let f reach codes of
    either sign and any size.

    Arguments:
        d: numbers in a sample.
        k: atoms in the dictionary.
        lam: λ > 0.
        n_ista: ISTA steps a batch, ≥ 1.

    Raises:
        ValueError: if a size, λ or ``n_ista`` is out of range.

    References:
        Kavukcuoglu, Ranzato & LeCun (2008), Fast inference in sparse coding algorithms.
    """

    def __init__(self, d: int, k: int, lam: float, *, n_ista: int = 20):
        super().__init__()
        if min(d, k, n_ista) < 1:
            raise ValueError(f"d, k, n_ista are {d}, {k}, {n_ista}; expected ≥ 1 each")
        _positive(lam=lam)
        self.lam, self.n_ista = lam, n_ista
        self.directions = nn.Parameter(torch.randn(d, k))
        self.W = nn.Parameter(torch.randn(k, d) / d**0.5)
        self.b = nn.Parameter(torch.zeros(k))
        self.g = nn.Parameter(torch.ones(k))

    @property
    def D(self) -> Tensor:
        r"""The dictionary, shape (d, k), with columns of length 1."""
        return self.directions / self.directions.norm(dim=0)

    def encode(self, x: Tensor) -> Tensor:
        r"""The encoder's guess f(x), shape (n, k): one matrix product, no iteration."""
        return self.g * torch.tanh(x @ self.W.T + self.b)

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.D.T

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def objective(self, x: Tensor, z: Tensor) -> Tensor:
        r"""The sparse coding objective without the encoder's term, one number a sample, shape (n,)."""
        return (x - self.decode(z)).square().sum(1) + self.lam * z.abs().sum(1)

    @torch.no_grad()
    def infer(
        self, x: Tensor, n_steps: int, *, start: Tensor | None = None, guess: Tensor | None = None
    ) -> Tensor:
        r"""Codes by ``n_steps`` of ISTA.

        Arguments:
            x: shape (n, d).
            start: where to begin, shape (n, k); zeros where ``None``.
            guess: f(x), if its term belongs to the energy; sparse coding alone where ``None``.
        """
        D = self.D
        z = x.new_zeros(len(x), D.shape[1]) if start is None else start
        pull = 0.0 if guess is None else 1.0
        target = 0.0 if guess is None else guess
        step = 1 / (2 * torch.linalg.matrix_norm(D, 2) ** 2 + 2 * pull)
        for _ in range(n_steps):
            slope = 2 * (z @ D.T - x) @ D + 2 * pull * (z - target)
            z = nn.functional.softshrink(z - step * slope, (step * self.lam).item())
        return z

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        r"""The terms ``loss``, ``sparse_coding`` and ``prediction`` at the batch's best codes."""
        check.data(x, width=self.W.shape[1])
        guess = self.encode(x)
        z = self.infer(x, self.n_ista, start=guess.detach(), guess=guess.detach())
        coding, prediction = self.objective(x, z).mean(), (z - guess).square().sum(1).mean()
        return {"loss": coding + prediction, "sparse_coding": coding, "prediction": prediction}


# -------------------------------------------------------------------------- a decoder with a variance


class VarianceAutoencoder(nn.Module):
    r"""Encoder and decoder both answer with a Gaussian: a small variational autoencoder (chapter 11).

    .. math:: q(z \mid x) = N(m(x), \operatorname{diag} s^2(x)), \quad
        p(x \mid z) = N(\mu(z), \operatorname{diag} \sigma^2(z)), \quad p(z) = N(0, I)

    Arguments:
        encoder: from (n, d) to (n, 2k): the means m and the logarithms of s².
        decoder: from (n, k) to (n, 2d): the means μ and the logarithms of σ².
        floor: the smallest σ², > 0, in squared units of the data; keeps the likelihood bounded.

    References:
        Kingma & Welling (2014), Auto-encoding variational Bayes.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, floor: float = 1e-3):
        super().__init__()
        _positive(floor=floor)
        self.encoder, self.decoder, self.floor = encoder, decoder, floor

    def encode(self, x: Tensor) -> Tensor:
        r"""The means m(x), shape (n, k)."""
        return self.encoder(x).chunk(2, 1)[0]

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Means and variances of the data, each of shape (n, d)."""
        mean, log_variance = self.decoder(z).chunk(2, 1)
        return mean, log_variance.exp() + self.floor

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        r"""Minus the evidence lower bound in nats, ``loss`` = ``reconstruction`` + ``kl``."""
        check.data(x)
        m, log_s2 = self.encoder(x).chunk(2, 1)
        z = m + (log_s2 / 2).exp() * torch.randn_like(m)
        mean, variance = self.decode(z)
        nll = 0.5 * ((x - mean).square() / variance + variance.log() + math.log(2 * math.pi))
        kl = 0.5 * (m.square() + log_s2.exp() - 1 - log_s2)
        reconstruction, kl = nll.sum(1).mean(), kl.sum(1).mean()
        return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
