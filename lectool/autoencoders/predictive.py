r"""Chapter 03: sparse codes that an encoder learns to guess."""

import torch
from torch import Tensor, nn

from lectool import check

__all__ = ["PredictiveSparseDecomposition"]


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
        check.at_least(1, d=d, k=k, n_ista=n_ista)
        check.positive(lam=lam)
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
