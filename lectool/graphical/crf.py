r"""Chapter 07: conditional random fields on a chain: labels that depend on the data and on their neighbors."""

import torch
from torch import Tensor, nn

from lectool import check

__all__ = ["LinearChainCRF", "chain_marginals", "chain_mode", "chain_partition"]


class LinearChainCRF(nn.Module):
    r"""Labels :math:`y_1 \dots y_T` of a sequence, given what is seen at each place.

    .. math:: p(y \mid x) = \frac{1}{Z(x)} \exp \Bigl( \sum_{t=1}^T u_t(x, y_t) + \sum_{t=2}^T A_{y_{t-1} y_t} \Bigr),
              \qquad u_t = W x_t + b

    Only the labels are modelled: x may be as complicated as it likes. The scores u may come from any network.

    Arguments:
        d: numbers seen at each place, ≥ 1.
        k: number of labels, ≥ 2.
        scores: a module that maps (n, T, …) to (n, T, k); linear in x where ``None``.

    Raises:
        ValueError: if a number is out of range; for x or y of another shape, or labels outside of 0 … k − 1.

    References:
        Lafferty, McCallum & Pereira (2001), Conditional random fields.

    Example:
        >>> crf = LinearChainCRF(5, 3)
        >>> x, y = torch.randn(8, 10, 5), torch.randint(3, (8, 10))
        >>> crf.loss(x, y).shape, crf.predict(x).shape
        (torch.Size([]), torch.Size([8, 10]))
    """

    def __init__(self, d: int, k: int, scores: nn.Module | None = None) -> None:
        super().__init__()
        check.at_least(1, d=d)
        check.at_least(2, k=k)
        self.d, self.k = d, k
        self.scores = nn.Linear(d, k) if scores is None else scores
        self.A = nn.Parameter(torch.zeros(k, k))

    def unary(self, x: Tensor) -> Tensor:
        r"""The scores u of x, shape (n, T, k)."""
        if isinstance(self.scores, nn.Linear):
            check.data(x, n_dims=3, like=self.A)
            check.shape("n", "T", self.d, x=x)
        u = self.scores(x)
        check.shape(len(x), x.shape[1], self.k, scores=u)
        return u

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        r"""log p(y | x) in nats a sequence, shape (n,).

        Arguments:
            x: shape (n, T, d).
            y: labels 0 … k − 1, int64, shape (n, T).
        """
        u = self.unary(x)
        check.shape(*u.shape[:2], y=y)
        if y.dtype != torch.int64:
            raise ValueError(f"y is {y.dtype}; expected int64 labels")
        check.inside(
            f"[0, {self.k - 1}]", smallest_label=y.min().item(), largest_label=y.max().item()
        )
        at_places = u.gather(2, y[:, :, None]).sum((1, 2))
        between = self.A[y[:, :-1], y[:, 1:]].sum(1)
        return at_places + between - chain_partition(u, self.A)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Negative log-likelihood in nats a sequence, mean over the batch."""
        return -self.log_prob(x, y).mean()

    def marginals(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""p(y_t | x), shape (n, T, k), and p(y_t, y_{t+1} | x), shape (n, T − 1, k, k), by :func:`chain_marginals`."""
        return chain_marginals(self.unary(x), self.A)

    def predict(self, x: Tensor) -> Tensor:
        r"""The most probable labels of each sequence, int64, shape (n, T), by :func:`chain_mode`."""
        return chain_mode(self.unary(x), self.A)


def chain_partition(u: Tensor, A: Tensor) -> Tensor:
    r"""log Z of a chain, the logarithm of the sum over all k^T labelings, by one pass forwards.

    Arguments:
        u: scores of the labels at each place, shape (n, T, k).
        A: scores of a label (row) before another (column), shape (k, k).

    Returns:
        in nats, shape (n,).

    Raises:
        ValueError: if the shapes do not fit.
    """
    return forward(u, A)[:, -1].logsumexp(1)


def forward(u: Tensor, A: Tensor) -> Tensor:
    r"""Log of the sum over the labels before each place, for every label there, shape (n, T, k)."""
    check.shape("n", "T", len(A), u=u)
    check.shape(len(A), len(A), A=A)
    alpha = [u[:, 0]]
    for t in range(1, u.shape[1]):
        alpha.append(u[:, t] + (alpha[-1][:, :, None] + A).logsumexp(1))
    return torch.stack(alpha, 1)


def backward(u: Tensor, A: Tensor) -> Tensor:
    r"""Log of the sum over the labels after each place, for every label there, shape (n, T, k)."""
    beta = [torch.zeros_like(u[:, 0])]
    for t in range(u.shape[1] - 1, 0, -1):
        beta.append((A + (u[:, t] + beta[-1])[:, None, :]).logsumexp(2))
    return torch.stack(beta[::-1], 1)


def chain_marginals(u: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    r"""Probabilities of each label and of each pair of neighbors, by a pass forwards and one backwards.

    Arguments, errors: as for :func:`chain_partition`.

    Returns:
        single: shape (n, T, k).
        pair: shape (n, T − 1, k, k), first axis of the two for the label before.
    """
    alpha, beta = forward(u, A), backward(u, A)
    log_z = alpha[:, -1].logsumexp(1)[:, None, None]
    single = (alpha + beta - log_z).exp()
    after = (u + beta)[:, 1:, None, :]
    return single, (alpha[:, :-1, :, None] + A + after - log_z[..., None]).exp()


def chain_mode(u: Tensor, A: Tensor) -> Tensor:
    r"""The labeling of the largest score, by Viterbi's algorithm: the best way to each label, then back along it.

    Arguments, errors: as for :func:`chain_partition`.

    Returns:
        int64, shape (n, T).

    References:
        Viterbi (1967), Error bounds for convolutional codes and an asymptotically optimum decoding algorithm.
    """
    check.shape("n", "T", len(A), u=u)
    check.shape(len(A), len(A), A=A)
    best, came_from = u[:, 0], []
    for t in range(1, u.shape[1]):
        score, where = (best[:, :, None] + A).max(1)
        best = u[:, t] + score
        came_from.append(where)
    y = [best.argmax(1, keepdim=True)]
    for where in reversed(came_from):
        y.append(where.gather(1, y[-1]))
    return torch.cat(y[::-1], 1)
