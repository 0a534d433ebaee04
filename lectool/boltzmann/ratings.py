r"""Chapter 09: ratings of films by users who have seen few of them: an RBM with softmax units, and simpler guesses.

Ratings are whole numbers, one user a row, one film a column: 1 … K, and 0 where the user did not rate the film.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check, random
from lectool.boltzmann.states import bit_blocks

__all__ = ["RatingsRBM", "check_ratings", "mean_baselines", "rmse"]

BLOCK = 2**24  # numbers that a prediction holds at once


class RatingsRBM(nn.Module):
    r"""Restricted Boltzmann machine for collaborative filtering: a softmax unit a film, binary hidden units.

    With :math:`v_{ir} = 1` where the user gave film i the rating r, and S the films that the user rated,

    .. math:: p(v, h) = \frac1{Z_S} \exp\Bigl(\sum_{j,\, i \in S,\, r} h_j W_{jir} v_{ir}
              + \sum_{i \in S,\, r} c_{ir} v_{ir} + \sum_j b_j h_j\Bigr) .

    Films that a user did not rate are not in the sums: each user has a machine with as many visible units as ratings,
    and with its own :math:`Z_S`; a film's weights are the same in all of them.

    Arguments:
        d: number of films, ≥ 1.
        k: number of hidden units, ≥ 1.
        n_values: K, ≥ 2.
        n_gibbs: Gibbs steps behind each sample of :meth:`loss`, ≥ 1.
        sd: standard deviation of the weights at the start, ≥ 0.

    Attributes:
        W, b, c: parameters, shapes (k, d, K), (k,), (d, K).

    Raises:
        ValueError: if a number is out of range; for ratings out of range, of another shape, or a user with none.

    References:
        Salakhutdinov, Mnih & Hinton (2007), Restricted Boltzmann machines for collaborative filtering.

    Example:
        >>> rbm = RatingsRBM(4, 2)
        >>> rbm.predict(torch.tensor([[5, 0, 0, 1]])).shape
        torch.Size([1, 4])
    """

    def __init__(
        self, d: int, k: int, n_values: int = 5, *, n_gibbs: int = 1, sd: float = 0.01
    ) -> None:
        super().__init__()
        check.at_least(1, d=d, k=k, n_gibbs=n_gibbs)
        check.at_least(2, n_values=n_values)
        check.non_negative(sd=sd)
        self.n_gibbs = n_gibbs
        self.W = nn.Parameter(sd * torch.randn(k, d, n_values))
        self.b = nn.Parameter(torch.zeros(k))
        self.c = nn.Parameter(torch.zeros(d, n_values))

    def extra_repr(self) -> str:
        k, d, n_values = self.W.shape
        return f"{d}, {k}, n_values={n_values}, n_gibbs={self.n_gibbs}"

    @torch.no_grad()
    def start_at(self, ratings: Tensor) -> None:
        r"""Sets c to the logarithms of each film's shares of ratings, shape (n, d), with one of each kind added."""
        counts = self.one_hot(ratings).sum(0) + 1
        self.c.copy_((counts / counts.sum(1, keepdim=True)).log())

    def one_hot(self, ratings: Tensor) -> Tensor:
        r"""The visible units, shape (n, d, K): zeros for films that were not rated."""
        _, d, n_values = self.W.shape
        check_ratings(ratings, n_values, width=d)
        return F.one_hot(ratings, n_values + 1)[:, :, 1:].to(self.W)

    def inputs(self, v: Tensor) -> Tensor:
        r"""The hidden units' inputs, shape (n, k), of visible units, shape (n, d, K)."""
        return F.linear(v.flatten(1), self.W.flatten(1), self.b)

    def log_odds(self, h: Tensor) -> Tensor:
        r""":math:`c_{ir} + \sum_j h_j W_{jir}`, shape (n, d, K), of hidden units, shape (n, k)."""
        return self.c + torch.einsum("nj,jir->nir", h, self.W)

    def encode(self, ratings: Tensor) -> Tensor:
        r"""Means of the hidden units given a user's ratings, shape (n, k)."""
        return self.inputs(self.one_hot(ratings)).sigmoid()

    def decode(self, z: Tensor) -> Tensor:
        r"""Probabilities of each rating given hidden units, shape (n, d, K)."""
        return self.log_odds(z).softmax(2)

    @torch.no_grad()
    def gibbs(
        self, v: Tensor, n_steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Visible units after rounds of Gibbs sampling, shape (n, d, K); those of missing ratings stay zeros."""
        check.at_least(0, n_steps=n_steps)
        rated = v.sum(2, keepdim=True)
        for _ in range(n_steps):
            h = random.bernoulli(self.inputs(v).sigmoid(), generator)
            below = self.decode(h).cumsum(2)[:, :, :-1]
            value = (random.uniform((*v.shape[:2], 1), v, generator) >= below).sum(2)
            v = rated * F.one_hot(value, v.shape[2])
        return v

    def free_energy(self, v: Tensor) -> Tensor:
        r"""In nats, shape (n,), of visible units, shape (n, d, K); :math:`p(v) = e^{-F(v)} / Z_S`."""
        return -(v * self.c).sum((1, 2)) - F.softplus(self.inputs(v)).sum(1)

    def loss(self, ratings: Tensor) -> Tensor:
        r"""The mean free energy of users less that of their CD-k samples, shape (); see :meth:`RBM.loss`."""
        v = self.one_hot(ratings)
        sample = self.gibbs(v, self.n_gibbs)
        return self.free_energy(v).mean() - self.free_energy(sample).mean()

    def log_partition(self, ratings: Tensor) -> Tensor:
        r""":math:`\log Z_S` in nats for each user's set S of rated films, by enumeration of h, shape (n,).

        .. math:: Z_S = \sum_h e^{b^\top h} \prod_{i \in S} \sum_r e^{c_{ir} + \sum_j h_j W_{jir}}

        Raises:
            ValueError: if there are more than 20 hidden units.
        """
        rated = self.one_hot(ratings).sum(2)
        terms = [
            ((h @ self.b)[:, None] + self.log_odds(h).logsumexp(2) @ rated.T).logsumexp(0)
            for h in bit_blocks(len(self.b), self.b)
        ]
        return torch.stack(terms).logsumexp(0)

    def log_prob(self, ratings: Tensor) -> Tensor:
        r"""The log-probability of each user's ratings, given which films were rated, in nats, shape (n,)."""
        return -self.free_energy(self.one_hot(ratings)) - self.log_partition(ratings)

    @torch.no_grad()
    def probabilities(self, ratings: Tensor, *, mean_field: bool = False) -> Tensor:
        r"""Probabilities of each rating of each film that a user has not rated, given those rated, shape (n, d, K).

        .. math:: p(v_{qr} = 1 \mid v) \propto e^{c_{qr}} \prod_j \bigl(1 + e^{a_j + W_{jqr}}\bigr)

        with the inputs a of the rated films. Numbers for films that a user did rate have no meaning.

        Arguments:
            mean_field: whether to put the hidden units' means into :meth:`decode` instead: faster, and close.
        """
        if mean_field:
            return self.decode(self.encode(ratings))
        rows = max(1, BLOCK // self.W.numel())
        return torch.cat([self._exact(part) for part in self.one_hot(ratings).split(rows)])

    def predict(self, ratings: Tensor, *, mean_field: bool = False) -> Tensor:
        r"""The expected rating of each film, in [1, K], shape (n, d); arguments as in :meth:`probabilities`."""
        values = torch.arange(1, self.W.shape[2] + 1).to(self.W)
        return self.probabilities(ratings, mean_field=mean_field) @ values

    def _exact(self, v: Tensor) -> Tensor:
        a = self.inputs(v)[:, :, None, None] + self.W  # (n, k, d, K)
        return (self.c + F.softplus(a).sum(1)).softmax(2)


def mean_baselines(train: Tensor) -> dict[str, Tensor]:
    r"""Guesses without a model of taste, shape (n, d) each.

    ``"mean"`` of all ratings; ``"user mean"``; ``"film mean"``; and ``"user + film"``, the film's mean plus what the
    user's ratings exceed those of the films that the user rated by, on average. A film that nobody rated gets the
    mean of all.

    Arguments:
        train: ratings, 0 where missing, int64, shape (n, d).

    Raises:
        ValueError: if a rating is negative or a user has none.
    """
    check_ratings(train)
    rated = (train > 0).double()
    total, per_user, per_film = train.double(), rated.sum(1, keepdim=True), rated.sum(0)
    mean = total.sum() / rated.sum()
    user = total.sum(1, keepdim=True) / per_user
    film = torch.where(per_film > 0, total.sum(0) / per_film.clamp(min=1), mean)
    kindness = (rated * (total - film)).sum(1, keepdim=True) / per_user
    guesses = {"mean": mean, "user mean": user, "film mean": film, "user + film": film + kindness}
    return {name: guess.expand(train.shape).float() for name, guess in guesses.items()}


def rmse(predicted: Tensor, test: Tensor) -> float:
    r"""Root mean squared error over the ratings in ``test`` that are not 0, in units of the ratings.

    Arguments:
        predicted, test: shape (n, d).

    Raises:
        ValueError: if the shapes differ or nothing was rated.
    """
    check.shape(*test.shape, predicted=predicted)
    if not (test > 0).any():
        raise ValueError("test holds no rating; expected at least one above 0")
    error = (predicted - test)[test > 0].double()
    return error.square().mean().sqrt().item()


def check_ratings(ratings: Tensor, n_values: int | None = None, width: int | None = None) -> None:
    r"""Whole numbers from 0, for a missing rating, to K, and at least one rating a user.

    Raises:
        ValueError: if they are not.
    """
    if not isinstance(ratings, Tensor) or ratings.dtype != torch.int64 or ratings.ndim != 2:
        said = (
            f"{ratings.dtype}, shape {tuple(ratings.shape)}"
            if isinstance(ratings, Tensor)
            else type(ratings).__name__
        )
        raise ValueError(
            f"ratings are {said}; expected an int64 tensor of shape (n_users, n_films)"
        )
    if ratings.numel() == 0 or (width is not None and ratings.shape[1] != width):
        raise ValueError(
            f"ratings have shape {tuple(ratings.shape)}; expected {width or 'one or more'} films"
        )
    low, high = (t.item() for t in ratings.aminmax())
    if low < 0 or (n_values is not None and high > n_values):
        raise ValueError(
            f"ratings lie in [{low}, {high}]; expected 1 … {n_values or 'K'}, and 0 for a missing one"
        )
    if n_empty := int((ratings == 0).all(1).sum()):
        raise ValueError(f"{n_empty} users have no rating; expected at least one each")
