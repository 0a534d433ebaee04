"""The collaborative-filtering RBM against enumeration; its baselines against means taken by hand."""

import itertools

import pytest
import torch
from torch import Tensor

from lectool import boltzmann, data, random, train
from lectool.boltzmann import RatingsRBM

DOUBLE = torch.float64


def machine(d: int = 3, k: int = 2, n_values: int = 3, **options) -> RatingsRBM:
    torch.manual_seed(0)
    rbm = RatingsRBM(d, k, n_values, **options).double()
    with torch.no_grad():
        for p in rbm.parameters():
            p.copy_(torch.randn_like(p))
    return rbm


def all_ratings(films: list[int], d: int, n_values: int = 3) -> Tensor:
    """Every way in which a user can rate some of the films."""
    rows = []
    for values in itertools.product(range(1, n_values + 1), repeat=len(films)):
        row = [0] * d
        for film, value in zip(films, values):
            row[film] = value
        rows.append(row)
    return torch.tensor(rows)


def unnormalized(rbm: RatingsRBM, ratings: Tensor) -> Tensor:
    """Σ_h exp(−E) term by term, shape (n, 2^k) of the joint with h."""
    k = len(rbm.b)
    table = []
    for row in ratings.tolist():
        joint = []
        for h in itertools.product([0.0, 1.0], repeat=k):
            e = sum(h[j] * rbm.b[j] for j in range(k))
            for i, r in enumerate(row):
                if r > 0:
                    e = e + rbm.c[i, r - 1] + sum(h[j] * rbm.W[j, i, r - 1] for j in range(k))
            joint.append(e.exp())
        table.append(torch.stack(joint))
    return torch.stack(table).detach()


@pytest.mark.parametrize("films", [[0, 1, 2], [0, 2], [1]])
def test_likelihood_by_enumeration_with_and_without_missing_films(films):
    rbm, x = machine(), all_ratings(films, 3)
    joint = unnormalized(rbm, x)
    torch.testing.assert_close(rbm.log_prob(x).exp(), joint.sum(1) / joint.sum())
    torch.testing.assert_close(-rbm.free_energy(rbm.one_hot(x)), joint.sum(1).log())
    torch.testing.assert_close(rbm.log_partition(x), joint.sum().log().expand(len(x)))
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=DOUBLE)
    torch.testing.assert_close(rbm.encode(x), joint / joint.sum(1, keepdim=True) @ h)


def test_every_user_has_a_z_of_its_own():
    rbm = machine()
    x = torch.tensor([[1, 2, 3], [1, 0, 3], [0, 2, 0]])
    alone = torch.cat([rbm.log_partition(row[None]) for row in x])
    torch.testing.assert_close(rbm.log_partition(x), alone)
    assert len(alone.unique()) == 3


def test_decode_is_the_conditional_of_each_film():
    rbm = machine()
    x = all_ratings([0, 1, 2], 3)
    joint = unnormalized(rbm, x)
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=DOUBLE)
    for i in range(3):
        for r in range(1, 4):
            share = joint[x[:, i] == r].sum(0) / joint.sum(0)
            torch.testing.assert_close(rbm.decode(h)[:, i, r - 1], share)


def test_probabilities_of_an_unrated_film_by_enumeration():
    rbm = machine(d=4)
    x = torch.tensor([[2, 0, 3, 0], [1, 1, 0, 3], [0, 0, 0, 2]])
    p = rbm.probabilities(x)
    torch.testing.assert_close(p.sum(2), torch.ones(3, 4, dtype=DOUBLE))
    for u in range(3):
        for film in (x[u] == 0).nonzero()[:, 0].tolist():
            with_film = x[u].repeat(3, 1)
            with_film[:, film] = torch.tensor([1, 2, 3])
            joint = unnormalized(rbm, with_film).sum(1)
            torch.testing.assert_close(p[u, film], joint / joint.sum())
    torch.testing.assert_close(rbm.predict(x), p @ torch.tensor([1.0, 2, 3], dtype=DOUBLE))
    close = rbm.probabilities(x, mean_field=True)
    torch.testing.assert_close(close, rbm.decode(rbm.encode(x)))


def test_predictions_in_blocks(monkeypatch):
    rbm, x = machine(), all_ratings([0, 2], 3)
    whole = rbm.predict(x)
    monkeypatch.setattr(boltzmann.ratings, "BLOCK", 4 * rbm.W.numel())
    torch.testing.assert_close(rbm.predict(x), whole)


def test_gibbs_steps_follow_the_model_and_leave_missing_ratings_missing():
    rbm, n = machine(), 30_000
    x = torch.tensor([[1, 0, 3]]).expand(n, -1)
    v = rbm.gibbs(rbm.one_hot(x), 30, random.generator(0))
    assert (v[:, 1] == 0).all() and (v[:, [0, 2]].sum(2) == 1).all()
    states = all_ratings([0, 2], 3)
    p = rbm.log_prob(states).exp()
    code = v[:, 0].argmax(1) * 3 + v[:, 2].argmax(1)
    share = torch.bincount(code, minlength=9) / n
    assert ((share - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()


@pytest.mark.parametrize("n_gibbs", [1, 2])
def test_loss_has_the_contrastive_divergence_gradient(n_gibbs):
    rbm = machine(n_gibbs=n_gibbs)
    x = torch.tensor([[1, 0, 3], [2, 2, 0], [3, 1, 1], [0, 0, 2]])
    torch.manual_seed(1)
    rbm.loss(x).backward()
    torch.manual_seed(1)
    v = rbm.one_hot(x)
    sample = rbm.gibbs(v, n_gibbs)
    h, h_new = rbm.inputs(v).sigmoid(), rbm.inputs(sample).sigmoid()
    positive, negative = (torch.einsum("nj,nir->jir", a, b) for a, b in ((h, v), (h_new, sample)))
    torch.testing.assert_close(-rbm.W.grad, (positive - negative) / 4)
    torch.testing.assert_close(-rbm.c.grad, (v - sample).mean(0))
    torch.testing.assert_close(-rbm.b.grad, (h - h_new).mean(0))


def test_start_at_has_the_films_shares():
    rbm = RatingsRBM(2, 1, 3, sd=0)
    rbm.start_at(torch.tensor([[1, 3], [1, 0], [3, 2]]))
    expected = torch.tensor([[3, 1, 2], [1, 2, 2]]) / torch.tensor([[6], [5]])
    torch.testing.assert_close(rbm.decode(torch.zeros(1, 1))[0].detach(), expected)


def test_learned_tastes_beat_every_mean():
    random.seed(0)
    films = data.ratings(600, 30, n_genres=3, per_user=(8, 16))
    rbm = RatingsRBM(30, 8)
    rbm.start_at(films.train)
    train.fit(rbm, films.train, epochs=40, batch_size=50, lr=0.02, schedule="linear")
    means = boltzmann.mean_baselines(films.train)
    errors = {name: boltzmann.rmse(guess, films.test) for name, guess in means.items()}
    assert boltzmann.rmse(rbm.predict(films.train), films.test) < 0.9 * min(errors.values())


def test_baselines_by_hand():
    x = torch.tensor([[5, 0, 1, 0], [3, 4, 0, 0]])
    found = boltzmann.mean_baselines(x)
    mean = 13 / 4
    expected = {
        "mean": [[mean] * 4] * 2,
        "user mean": [[3.0] * 4, [3.5] * 4],
        "film mean": [[4, 4, 1, mean]] * 2,
        # User 1 gives 1 more and 0 more than the films' means, user 2 gives 1 less and 0 more.
        "user + film": [[4.5, 4.5, 1.5, mean + 0.5], [3.5, 3.5, 0.5, mean - 0.5]],
    }
    assert list(found) == list(expected)
    for name, guess in expected.items():
        torch.testing.assert_close(found[name], torch.tensor(guess))


def test_rmse_counts_rated_films_only():
    predicted = torch.tensor([[3.0, 9.0], [1.0, 2.0]])
    assert boltzmann.rmse(predicted, torch.tensor([[5, 0], [0, 2]])) == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RatingsRBM(0, 1), "d is 0; expected"),
        (lambda: RatingsRBM(2, 1, 1), "n_values is 1; expected a finite number ≥ 2"),
        (
            lambda: RatingsRBM(2, 1).loss(torch.tensor([[6, 0]])),
            r"ratings lie in \[0, 6\]; expected 1 … 5, and 0",
        ),
        (lambda: RatingsRBM(2, 1).predict(torch.tensor([[-1, 2]])), r"ratings lie in \[-1, 2\]"),
        (lambda: RatingsRBM(2, 1).loss(torch.tensor([[1, 2], [0, 0]])), "1 users have no rating"),
        (lambda: RatingsRBM(2, 1).loss(torch.ones(2, 2)), r"ratings are torch.float32, shape"),
        (lambda: RatingsRBM(2, 1).loss([[1, 2]]), "ratings are list; expected an int64 tensor"),
        (lambda: RatingsRBM(2, 1).encode(torch.ones(1, 3).long()), r"\(1, 3\); expected 2 films"),
        (lambda: RatingsRBM(2, 21).log_prob(torch.ones(1, 2).long()), "21 units have"),
        (lambda: boltzmann.mean_baselines(torch.zeros(1, 2).long()), "1 users have no rating"),
        (lambda: boltzmann.rmse(torch.ones(1, 2), torch.zeros(1, 2)), "test holds no rating"),
        (lambda: boltzmann.rmse(torch.ones(1, 2), torch.ones(1, 3)), r"expected \(1, 3\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
