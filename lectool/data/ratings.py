r"""Ratings of films made here, by users with known tastes: a stand-in for those that may not be passed on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lectool import check, random

__all__ = ["GENRES", "Ratings", "ratings"]

GENRES = ("comedy", "horror", "action", "romance", "documentary", "western", "crime", "animation")


@dataclass(frozen=True)
class Ratings:
    r"""Users' ratings of films.

    Attributes:
        train, test: whole numbers from 1 to 5, and 0 where there is none, int64, shape (n_users, n_films). No rating
            is in both; every user has some in each.
        genres: of each film, its place in :data:`GENRES`, int64, shape (n_films,).
        likes: whether a user likes a genre, bool, shape (n_users, n_genres).
    """

    train: Tensor
    test: Tensor
    genres: Tensor
    likes: Tensor

    @property
    def titles(self) -> list[str]:
        r"""A name for each film: its genre and a number."""
        n_genres = self.likes.shape[1]
        return [f"{GENRES[g]} {i // n_genres + 1}" for i, g in enumerate(self.genres.tolist())]

    def __str__(self) -> str:
        n_users, n_films = self.train.shape
        share = (self.train + self.test > 0).float().mean().item()
        return (
            f"Generated ratings of {n_films:,} films in {self.likes.shape[1]} genres by {n_users:,} users; "
            f"{share:.0%} of all pairs are rated. Training: {int((self.train > 0).sum()):,} ratings; "
            f"test: {int((self.test > 0).sum()):,}."
        )


def ratings(
    n_users: int = 2000,
    n_films: int = 100,
    *,
    n_genres: int = 5,
    per_user: tuple[int, int] = (10, 30),
    taste: float = 1.2,
    noise: float = 0.6,
    test_share: float = 0.2,
    seed: int = 0,
) -> Ratings:
    r"""Ratings by users each of whom likes some genres and dislikes the others.

    User u, who likes genre g or not, gives film i of that genre

    .. math:: \operatorname{round}\bigl(3.2 + \tfrac12 a_i + 0.4\, b_u \pm \text{taste}
              + \text{noise} \cdot \epsilon_{ui}\bigr), \quad \text{cut off at 1 and 5,}

    with the film's quality a, the user's kindness b and ε standard normal. Some films are rated more often than
    others; which ones a user rates does not depend on the taste.

    Arguments:
        n_users: ≥ 1.
        n_films: ≥ n_genres.
        n_genres: 1 … 8, with equally many films each, or one more.
        per_user: fewest and most ratings of a user, 2 ≤ fewest ≤ most ≤ n_films.
        taste: what liking a genre adds to a rating, and disliking it takes off, ≥ 0.
        noise: standard deviation of what no model can know, ≥ 0.
        test_share: share of each user's ratings that are kept for the test, at least one, in (0, 1).
        seed: shifted by ``LECTOOL_SEED``.

    Raises:
        ValueError: if a number is out of range.
    """
    fewest, most = per_user
    check.at_least(1, n_users=n_users)
    check.inside(f"[1, {len(GENRES)}]", n_genres=n_genres)
    check.at_least(n_genres, n_films=n_films)
    check.inside(f"[2, {n_films}]", fewest=fewest, most=most)
    check.at_least(fewest, most=most)
    check.non_negative(taste=taste, noise=noise)
    check.inside("(0, 1)", test_share=test_share)
    generator = random.generator(seed)

    def normal(*shape: int) -> Tensor:
        return random.noise(shape, generator=generator)

    genres = torch.arange(n_films) % n_genres
    likes = random.uniform((n_users, n_genres), generator=generator) < 0.5
    opinion = torch.where(likes[:, genres], taste, -taste)
    score = 3.2 + 0.5 * normal(n_films) + 0.4 * normal(n_users, 1) + opinion
    value = (score + noise * normal(n_users, n_films)).round().clamp(1, 5).long()
    # The first films of a random order, which popular ones lead more often.
    popularity = 0.7 * normal(n_films)
    wish = popularity - random.uniform((n_users, n_films), generator=generator).log().neg().log()
    n_rated = fewest + random.integers(most - fewest + 1, (n_users, 1), generator=generator)
    rated = ranks(-wish) < n_rated
    n_test = (test_share * n_rated).round().long().clamp(min=1).minimum(n_rated - 1)
    order = random.uniform((n_users, n_films), generator=generator).masked_fill(~rated, torch.inf)
    tested = ranks(order) < n_test
    return Ratings(value * (rated & ~tested), value * tested, genres, likes)


def ranks(x: Tensor) -> Tensor:
    r"""The place of each number in its row, the smallest first, from 0, shape of x."""
    return x.argsort(1).argsort(1)
