"""Sparse coding and dictionary learning against scikit-learn, brute force, autograd and closed forms."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import sklearn.decomposition
import sklearn.linear_model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lectool import random, sparse

FEW = settings(derandomize=True, database=None, deadline=None, max_examples=12)
LAM = 0.3


def problem(n=12, d=10, k=18, *, seed=0, dtype=torch.float64, sparsity=3, noise=0.1):
    """Signals that are a few atoms and a little noise; atoms of unequal length below 1."""
    rng = torch.Generator().manual_seed(seed)
    D = torch.randn(d, k, generator=rng, dtype=torch.float64)
    D = D / D.norm(dim=0) * (0.5 + 0.5 * torch.rand(k, generator=rng).double())
    z = torch.zeros(n, k, dtype=torch.float64)
    for row in z:
        row[torch.randperm(k, generator=rng)[:sparsity]] = 2 * torch.randn(
            sparsity, generator=rng, dtype=torch.float64
        )
    x = z @ D.T + noise * torch.randn(n, d, generator=rng, dtype=torch.float64)
    return x.to(dtype), D.to(dtype), z.to(dtype)


def scikit_lasso(x, D, lam, positive=False):
    model = sklearn.linear_model.Lasso(
        lam / x.shape[1], fit_intercept=False, tol=1e-12, max_iter=100_000, positive=positive
    )
    return torch.as_tensor(np.stack([model.fit(D.numpy(), row).coef_ for row in x.numpy()]))


# ------------------------------------------------------------------------------------------------ rules

PENALTIES = {
    sparse.shrink: lambda z: z.abs(),
    sparse.shrink_half: lambda z: z.abs().sqrt(),
    sparse.keep_large: lambda z: (z != 0).double(),
    sparse.shrink_positive: lambda z: torch.where(z < 0, torch.inf, z),
}


@pytest.mark.parametrize("rule", PENALTIES)
@pytest.mark.parametrize("b", [0.05, 0.4, 1.7])
def test_each_rule_minimizes_its_penalty(rule, b):
    a = torch.linspace(-4, 4, 83, dtype=torch.float64)
    grid = torch.linspace(-5, 5, 20001, dtype=torch.float64)

    def cost(z):
        return 0.5 * (z - a[:, None]).square() + b * PENALTIES[rule](z)

    found = cost(rule(a, b)[:, None])[:, 0]
    assert (found <= cost(grid).amin(1) + 1e-7).all()


def test_half_thresholding_jumps_where_the_docstring_says():
    b = 0.7
    edge = 1.5 * b ** (2 / 3)
    below, above = sparse.shrink_half(torch.tensor([edge - 1e-6, edge + 1e-6]).double(), b)
    assert below == 0 and above > 0.6 * edge


def test_shrink_takes_one_threshold_for_each_entry():
    a, b = torch.randn(5, 4).double(), torch.rand(4).double()
    expected = a.sign() * (a.abs() - b).clamp(min=0)
    torch.testing.assert_close(sparse.shrink(a, b), expected)
    torch.testing.assert_close(sparse.shrink_positive(a, b), (a - b).clamp(min=0))


# ------------------------------------------------------------------------------------------------ the Lasso

SOLVERS = {
    "ista": lambda x, D, lam, **o: sparse.ista(x, D, lam, n_steps=4000, **o),
    "fista": lambda x, D, lam, **o: sparse.fista(x, D, lam, n_steps=800, **o),
    "fista without restart": lambda x, D, lam, **o: sparse.fista(
        x, D, lam, n_steps=6000, restart=False, **o
    ),
    "coordinate descent": lambda x, D, lam, **o: sparse.coordinate_descent(
        x, D, lam, n_sweeps=400, **o
    ),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("shape", [(10, 18), (18, 10)])
def test_solvers_meet_scikit_learns_lasso(solver, positive, shape):
    x, D, _ = problem(d=shape[0], k=shape[1])
    prox = sparse.shrink_positive if positive else sparse.shrink
    z = SOLVERS[solver](x, D, LAM, prox=prox)
    theirs = scikit_lasso(x, D, LAM, positive)
    ours, best = (sparse.objective(x, D, code, LAM) for code in (z, theirs))
    torch.testing.assert_close(ours, best, rtol=1e-7, atol=0)
    torch.testing.assert_close(z, theirs, rtol=0, atol=1e-4)
    assert (sparse.duality_gap(x, D, z, LAM, positive=positive) < 1e-6 * best).all()


@pytest.mark.parametrize("positive", [False, True])
def test_duality_gap_bounds_the_distance_from_the_minimum(positive):
    x, D, _ = problem()
    best = sparse.objective(x, D, scikit_lasso(x, D, LAM, positive), LAM)
    rng = torch.Generator().manual_seed(1)
    for scale in (0.0, 0.1, 1.0):
        z = scale * torch.randn(len(x), D.shape[1], generator=rng, dtype=torch.float64)
        z = z.abs() if positive else z
        above = sparse.objective(x, D, z, LAM) - best
        gap = sparse.duality_gap(x, D, z, LAM, positive=positive)
        assert (gap >= above - 1e-9).all()


@pytest.mark.parametrize("positive", [False, True])
def test_lasso_is_as_exact_as_asked(positive):
    x, D, _ = problem(n=2100, dtype=torch.float32)  # more than two blocks
    x = x + 1.0  # the dual bound without bars only differs where correlations are negative
    for tol in (1e-2, 1e-4):
        z = sparse.lasso(x, D, LAM, tol=tol, positive=positive)
        gap = sparse.duality_gap(x, D, z, LAM, positive=positive)
        assert (gap <= tol * 0.5 * x.square().sum(1) * 1.01).all()
    assert z.dtype == torch.float32 and (not positive or z.min() == 0)
    alone = sparse.lasso(x[:3], D, LAM, tol=1e-4, positive=positive)
    torch.testing.assert_close(z[:3], alone, atol=1e-3, rtol=0)


def test_lasso_gives_up_at_max_steps():
    x, D, _ = problem(n=3)
    few = sparse.lasso(x, D, LAM, tol=1e-12, max_steps=1)
    plain = sparse.fista(x, D, LAM, n_steps=sparse.inference.CHUNK, restart=False)
    torch.testing.assert_close(few, plain)


def test_ista_never_rises_and_fista_keeps_its_bound():
    x, D, _ = problem()
    best = sparse.objective(x, D, scikit_lasso(x, D, LAM), LAM)
    start = sparse.objective(x, D, torch.zeros(len(x), D.shape[1]).double(), LAM)
    for prox, penalty in list(PENALTIES.items())[:3]:
        seen = [start]

        def look(z, seen=seen, penalty=penalty):
            seen.append(0.5 * (x - z @ D.T).square().sum(1) + LAM * penalty(z).sum(1))

        sparse.ista(x, D, LAM, n_steps=50, prox=prox, watch=look)
        assert all((b <= a + 1e-12).all() for a, b in itertools.pairwise(seen))
    L, solution, seen = sparse.lipschitz(D), scikit_lasso(x, D, LAM), []
    sparse.fista(
        x,
        D,
        LAM,
        n_steps=60,
        restart=False,
        watch=lambda z: seen.append(sparse.objective(x, D, z, LAM) - best),
    )
    for t, above in enumerate(seen, 1):
        assert (above <= 2 * L * solution.square().sum(1) / (t + 1) ** 2 + 1e-9).all()


def test_clamped_step_is_a_step_of_ista():
    x, D, z = problem()
    step = 0.9 / sparse.lipschitz(D)
    one = sparse.ista(x, D, LAM, n_steps=1, step=step, start=z)
    torch.testing.assert_close(sparse.clamped_step(z, x, D, LAM, step), one)
    assert (one == 0).any() and (one != 0).any()


@pytest.mark.parametrize("d, k", [(4, 9), (9, 4), (6, 6)])
def test_lipschitz_is_the_largest_eigenvalue(d, k):
    D = torch.randn(d, k, generator=torch.Generator().manual_seed(3)).double()
    assert sparse.lipschitz(D) == pytest.approx(np.linalg.eigvalsh((D.T @ D).numpy())[-1])


def test_a_large_lambda_and_silent_signals_give_zeros():
    x, D, _ = problem()
    lam = (x @ D).abs().max().item() * 1.001
    assert not sparse.lasso(x, D, lam).any() and not sparse.fista(x, D, lam).any()
    for solver in (sparse.ista, sparse.fista, sparse.coordinate_descent, sparse.lasso):
        assert not solver(torch.zeros(2, 10).double(), D, LAM).any()
    assert not sparse.omp(torch.zeros(2, 10).double(), D, 3).any()


@FEW
@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 8), st.integers(0, 1000))
def test_solution_obeys_the_optimality_conditions(n, d, k, seed):
    rng = torch.Generator().manual_seed(seed)
    x, D = (torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((n, d), (d, k)))
    z = sparse.coordinate_descent(x, D, LAM, n_sweeps=300)
    pull = (x - z @ D.T) @ D
    assert (pull.abs() <= LAM + 1e-3).all()
    torch.testing.assert_close(
        pull[z.abs() > 1e-6], LAM * z[z.abs() > 1e-6].sign(), atol=1e-3, rtol=0
    )


def bad_inputs():
    x, D, _ = problem()
    dead = D.clone()
    dead[:, [2, 5]] = 0
    return [
        ((x, D, 0.0), {}, r"lam is 0.0; expected a finite number > 0"),
        ((x, D, -1.0), {}, r"lam is -1.0"),
        ((x, dead, LAM), {}, r"2 of 18 atoms .* are zero"),
        ((x[:, :4], D, LAM), {}, r"expected 10 numbers"),
        ((x[:0], D, LAM), {}, "x is empty"),
        ((x * torch.nan, D, LAM), {}, "x holds"),
        ((x, D * torch.inf, LAM), {}, "D holds"),
        ((x.float(), D, LAM), {}, "expected the same"),
    ]


@pytest.mark.parametrize("solver", ["ista", "fista", "coordinate_descent", "lasso"])
@pytest.mark.parametrize("arguments, options, words", bad_inputs())
def test_solvers_reject(solver, arguments, options, words):
    with pytest.raises(ValueError, match=words):
        getattr(sparse, solver)(*arguments, **options)


@pytest.mark.parametrize("solver", [sparse.ista, sparse.fista])
def test_steps_that_are_too_long_are_refused(solver):
    x, D, _ = problem()
    longest = 1 / sparse.lipschitz(D)
    for step in (0.0, -0.1, 1.01 * longest):
        with pytest.raises(ValueError, match=r"step is .*which is 1/L"):
            solver(x, D, LAM, step=step)
    with pytest.raises(ValueError, match="start has shape"):
        solver(x, D, LAM, start=torch.zeros(2, 3).double())


# ------------------------------------------------------------------------------------------------ OMP


@pytest.mark.parametrize("n_nonzero", [1, 3, 10])
def test_omp_against_scikit_learn(n_nonzero):
    x, D, _ = problem()
    D = D / D.norm(dim=0)
    theirs = sklearn.linear_model.orthogonal_mp(D.numpy(), x.numpy().T, n_nonzero_coefs=n_nonzero)
    ours = sparse.omp(x, D, n_nonzero)
    torch.testing.assert_close(ours, torch.as_tensor(theirs.T), atol=1e-8, rtol=0)
    scaled = sparse.omp(x, D * torch.linspace(0.1, 3, 18), n_nonzero)  # lengths do not matter
    torch.testing.assert_close(scaled * torch.linspace(0.1, 3, 18), ours, atol=1e-8, rtol=0)


def test_omp_stops_adding_where_a_signal_is_met():
    _, D, _ = problem()
    z = sparse.omp(2 * D[:, [4]].T, D, 4)
    torch.testing.assert_close(z, 2.0 * (torch.arange(18) == 4).double()[None], atol=1e-8, rtol=0)


@pytest.mark.parametrize("n_nonzero", [0, 11])
def test_omp_rejects(n_nonzero):
    x, D, _ = problem()
    with pytest.raises(ValueError, match="n_nonzero"):
        sparse.omp(x, D, n_nonzero)


# ------------------------------------------------------------------------------------------------ learning


@pytest.mark.parametrize("update", [sparse.update_columns, sparse.gradient_update])
def test_updates_reach_the_best_dictionary_for_given_codes(update):
    rng = torch.Generator().manual_seed(0)
    z, true = torch.randn(300, 5, generator=rng).double(), 0.4 * torch.randn(8, 5).double()
    true = true / true.norm(dim=0).clamp(min=1)
    x = z @ true.T
    D = update(torch.randn(8, 5).double() / 4, z.T @ z, x.T @ z, 300)
    torch.testing.assert_close(D, true, atol=1e-6, rtol=0)  # inside the bound: least squares
    tight = update(torch.randn(8, 5).double() / 4, z.T @ z, 5 * (x.T @ z), 2000)
    grad = (tight @ (z.T @ z) - 5 * (x.T @ z)).T  # at the bound: slope along the atom only
    for atom, slope in zip(tight.T, grad, strict=True):
        assert atom.norm() <= 1 + 1e-9
        along = (slope @ atom) / atom.square().sum()
        assert along < 1e-6 and (slope - along * atom).norm() < 1e-4 * slope.norm() + 1e-6


def test_one_column_update_is_the_least_squares_atom():
    x, D, z = problem(n=40)
    A, B = z.T @ z, x.T @ z
    new = sparse.update_columns(D, A, B)
    rest = x - z[:, 1:] @ D[:, 1:].T
    atom = rest.T @ z[:, 0] / z[:, 0].square().sum()
    torch.testing.assert_close(new[:, 0], atom / atom.norm().clamp(min=1))


@pytest.mark.parametrize("update", ["columns", "gradient"])
@pytest.mark.parametrize("positive", [False, True])
def test_objective_never_rises_and_is_the_objective(update, positive):
    x, _, _ = problem(n=150, k=14, sparsity=2)
    x = x.abs() if positive else x
    model = sparse.DictionaryLearning(
        14,
        LAM,
        update=update,
        n_iter=20,
        positive_code=positive,
        positive_dict=positive,
        generator=random.generator(1),
    ).fit(x)
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(model.objective_))
    assert model.objective_[-1] < 0.9 * model.objective_[1]
    assert len(model.objective_) == 41 and (model.D_.norm(dim=0) <= 1 + 1e-9).all()
    z = model.transform(x, tol=1e-8)
    fresh = sparse.objective(x, model.D_, z, LAM).mean().item()
    assert fresh == pytest.approx(-model.score(x), rel=1e-3)
    assert fresh <= model.objective_[-1] + 1e-9
    assert (z.min() == 0) == (model.D_.min() >= 0) == positive
    torch.testing.assert_close(model.inverse_transform(z), z @ model.components_)


def test_learners_end_level_with_scikit_learn():
    x, _, _ = problem(n=1500, d=12, k=20, sparsity=2, noise=0.05)
    passes = 4
    theirs = sklearn.decomposition.MiniBatchDictionaryLearning(
        20,
        alpha=LAM,
        batch_size=64,
        max_iter=passes,
        fit_algorithm="cd",
        random_state=0,
        tol=0,
        max_no_improvement=None,
    ).fit(x.numpy())
    D = torch.as_tensor(theirs.components_.T.copy())

    def end(D):
        return sparse.objective(x, D, sparse.lasso(x, D, LAM, tol=1e-6), LAM).mean().item()

    online = sparse.OnlineDictionaryLearning(
        20, LAM, batch_size=64, n_passes=passes, generator=random.generator(0)
    ).fit(x)
    assert end(online.D_) <= 1.01 * end(D)


@pytest.mark.parametrize("beta, near, least", [("mairal", 0.95, 9), (0.9, 0.99, 12)])
def test_online_learning_finds_planted_atoms(beta, near, least):
    x, D, _ = problem(n=3000, d=12, k=15, sparsity=1, noise=0.02)
    model = sparse.OnlineDictionaryLearning(
        15, 0.1, n_passes=6, batch_size=100, beta=beta, generator=random.generator(2)
    ).fit(x)
    unit = D / D.norm(dim=0)
    found = (unit.T @ (model.D_ / model.D_.norm(dim=0))).abs().amax(1)
    assert (found > near).sum() >= least
    assert len(model.objective_) == 180
    assert np.mean(model.objective_[-30:]) < 0.8 * np.mean(model.objective_[:3])


def test_weights_of_the_past():
    fixed = sparse.OnlineDictionaryLearning(3, LAM, beta=0.75)
    assert fixed.weights(7, 10) == (0.75, 0.025)
    mairal = sparse.OnlineDictionaryLearning(3, LAM)
    keeps = [mairal.weights(t, 8)[0] for t in (1, 2, 7, 8, 500)]
    assert keeps == pytest.approx([1 / 9, 9 / 17, 49 / 57, 57 / 65, 549 / 557])


def test_unused_atoms_are_replaced_and_counted():
    x, _, _ = problem(n=60)
    D = torch.full((10, 4), 0.1).double()
    z = torch.zeros(60, 4).double()
    z[:, 0] = 1.0
    new, n_replaced = sparse.dictionaries.replace_unused(D, z.square().sum(0), x, z)
    assert n_replaced == 3 and torch.equal(new[:, 0], D[:, 0])
    worst = x[(x - z @ D.T).square().sum(1).topk(3).indices]
    torch.testing.assert_close(new[:, 1:].T, worst / worst.norm(dim=1, keepdim=True))
    # signals too weak to be coded make the first atoms: nothing uses these, whatever is learned
    faint = torch.cat([torch.eye(10)[:1].repeat(3, 1), 0.1 * torch.eye(10)[1:]]).double()
    for learner in (sparse.DictionaryLearning, sparse.OnlineDictionaryLearning):
        model = learner(8, LAM, generator=random.generator(0)).fit(faint)
        assert model.n_replaced_ > 0


@pytest.mark.parametrize("learner", [sparse.DictionaryLearning, sparse.OnlineDictionaryLearning])
def test_learners_reject_and_keep_types(learner):
    x, _, _ = problem(n=30, dtype=torch.float32)
    model = learner(5, LAM, generator=random.generator(0)).fit(x)
    assert model.D_.dtype == model.transform(x).dtype == torch.float32
    with pytest.raises(ValueError, match="0 of 30 signals are not zero"):
        learner(5, LAM).fit(torch.zeros(30, 10))
    with pytest.raises(ValueError, match="30 of 30 signals"):
        learner(31, LAM).fit(x)
    with pytest.raises(ValueError, match="x is empty"):
        learner(5, LAM).fit(x[:0])
    with pytest.raises(ValueError, match="lam is 0"):
        learner(5, 0)
    with pytest.raises(ValueError, match="z has shape"):
        model.inverse_transform(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="beta is 1"):
        sparse.OnlineDictionaryLearning(5, LAM, beta=1.0)
    with pytest.raises(ValueError, match="update is"):
        sparse.DictionaryLearning(5, LAM, update="ksvd")


def test_same_generator_same_dictionary():
    x, _, _ = problem(n=80)
    first, second, other = (
        sparse.OnlineDictionaryLearning(6, LAM, batch_size=20, generator=random.generator(s))
        .fit(x)
        .D_
        for s in (0, 0, 1)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_watch_sees_each_dictionary():
    x, _, _ = problem(n=50)
    seen = []
    model = sparse.OnlineDictionaryLearning(4, LAM, batch_size=20, n_passes=2).fit(
        x, watch=seen.append
    )
    assert len(seen) == 6 and torch.equal(seen[-1], model.D_) and not torch.equal(seen[0], seen[1])


# ------------------------------------------------------------------------------------------------ Gabor


def test_gabor_fit_knows_a_gabor_from_noise():
    line = torch.linspace(-1, 1, 12, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    atoms = []
    for angle, frequency, s, t in [
        (0.3, 0.7, 0.3, 0.5),
        (2.0, 1.1, 0.5, 0.2),
        (1.2, 0.1, 0.3, 0.6),
    ]:
        u, v = (
            (x - 0.2) * math.cos(angle) + y * math.sin(angle),
            y * math.cos(angle) - (x - 0.2) * math.sin(angle),
        )
        bell = torch.exp(-0.5 * ((u / s) ** 2 + (v / t) ** 2))
        atoms.append(bell * torch.cos(2 * math.pi * frequency * u + 1.1 * angle))
    noise = torch.randn(20, 144, generator=torch.Generator().manual_seed(0)).double()
    share = sparse.gabor_fit(torch.cat([torch.stack(atoms).flatten(1), noise]))
    assert (share[:3] > 0.98).all() and (share[3:] < 0.5).all() and (share >= 0).all()
    assert sparse.gabor_fit(-3 * torch.stack(atoms).flatten(1)).allclose(share[:3], atol=0.01)
    for bad in (noise[:, :143], torch.zeros(2, 144), noise[:, :9]):
        with pytest.raises(ValueError, match="atoms have shape"):
            sparse.gabor_fit(bad)


# ------------------------------------------------------------------------------------------------ fixed


def test_dct_is_scipys_transform():
    import scipy.fft

    D = sparse.dct_dictionary(8, 8).double()
    torch.testing.assert_close(D.T @ D, torch.eye(64).double(), atol=1e-5, rtol=0)
    patch = np.random.default_rng(0).normal(size=(8, 8))
    ours = torch.as_tensor(patch.flatten()) @ D
    theirs = scipy.fft.dctn(patch, norm="ortho").flatten()
    torch.testing.assert_close(ours, torch.as_tensor(theirs), atol=1e-5, rtol=0)


def test_overcomplete_dct_and_haar_frame():
    D = sparse.dct_dictionary(8, 11)
    assert D.shape == (64, 121) and torch.linalg.matrix_rank(D) == 64
    torch.testing.assert_close(D.norm(dim=0), torch.ones(121))
    assert D[:, 0].std() < 1e-6 and D[:, 1:].mean(0).abs().max() < 1e-6
    H = sparse.haar_frame(8)
    torch.testing.assert_close(H.norm(dim=0), torch.ones(H.shape[1]))
    alike = (H.T @ H).abs() - torch.eye(H.shape[1])
    assert alike.max() < 0.999 and torch.linalg.matrix_rank(H) == 64
    assert (H.mean(0).abs() > 1e-6).sum() == 1
    # a patch moved by a pixel has the same coefficients elsewhere
    patch = torch.randn(8, 8)
    values = [(p.flatten() @ H).abs().sort().values for p in (patch, patch.roll((1, 3), (0, 1)))]
    torch.testing.assert_close(*values, atol=1e-5, rtol=1e-5)


def test_fixed_dictionaries_reject():
    with pytest.raises(ValueError, match="n_frequencies"):
        sparse.dct_dictionary(8, 7)
    for size in (0, 1, 6):
        with pytest.raises(ValueError, match="size is"):
            sparse.haar_frame(size)


# ------------------------------------------------------------------------------------------------ relevance


def regression(k=20, d=60, noise=0.1):
    rng = torch.Generator().manual_seed(0)
    D = torch.randn(d, k, generator=rng).double()
    z = torch.zeros(k).double()
    z[[2, 7, 11]] = torch.tensor([1.5, -0.6, 2.0]).double()
    return D, D @ z + noise * torch.randn(d, generator=rng).double(), z


def test_relevance_evidence_is_a_gaussian_density_and_never_falls():
    D, x, _ = regression()
    gamma = torch.linspace(0, 1, 20).double()
    m, S, log_p = sparse.relevance.posterior(x, D, gamma, 0.3)
    cov = 0.3 * torch.eye(60) + (D * gamma) @ D.T
    normal = torch.distributions.MultivariateNormal(torch.zeros(60).double(), cov)
    assert log_p == pytest.approx(normal.log_prob(x).item())
    used = gamma > 0
    precision = D[:, used].T @ D[:, used] / 0.3 + torch.diag(1 / gamma[used])
    torch.testing.assert_close(S[used], torch.linalg.inv(precision).diagonal())
    torch.testing.assert_close(m[used], torch.linalg.solve(precision, D[:, used].T @ x / 0.3))
    assert not m[~used].any() and not S[~used].any()
    for known in (None, 0.01):
        steps = sparse.RelevanceDetermination(noise_variance=known).fit(D, x).evidence_
        assert len(steps) > 5 and min(b - a for a, b in itertools.pairwise(steps)) > -1e-6


def test_relevance_finds_the_coefficients_and_the_noise():
    D, x, z = regression()
    model = sparse.RelevanceDetermination(tol=1e-7).fit(D, x)
    assert (model.coef_[z == 0].abs() < 0.06).all()
    torch.testing.assert_close(model.coef_[z != 0], z[z != 0], atol=0.06, rtol=0)
    assert math.sqrt(model.noise_variance_) == pytest.approx(0.1, rel=0.25)
    theirs = sklearn.linear_model.ARDRegression(fit_intercept=False).fit(D.numpy(), x.numpy())
    torch.testing.assert_close(model.coef_, torch.as_tensor(theirs.coef_), atol=0.02, rtol=0)
    # the evidence is stationary in log γ, by finite differences
    gamma, step = model.gamma_, 1e-4
    for j in (z != 0).nonzero()[:, 0]:
        up, down = (gamma * (1 + s * step * (torch.arange(20) == j)) for s in (1, -1))
        slope = [sparse.relevance.posterior(x, D, g, model.noise_variance_)[2] for g in (up, down)]
        assert abs(slope[0] - slope[1]) / (2 * step) < 0.02


def test_relevance_rejects():
    D, x, _ = regression()
    model = sparse.RelevanceDetermination()
    for arguments, words in [
        ((D, x[:5]), "expected 60 numbers"),
        ((D, torch.zeros(60).double()), "x is zero everywhere"),
        ((D * (torch.arange(20) > 0), x), "1 of 20 atoms"),
        ((D, x[None]), "1 axes"),
    ]:
        with pytest.raises(ValueError, match=words):
            model.fit(*arguments)
    with pytest.raises(ValueError, match="noise_variance"):
        sparse.RelevanceDetermination(noise_variance=0.0)
    assert model.fit(D.float(), x.float()).coef_.dtype == torch.float32


# ------------------------------------------------------------------------------------------------ sensing


def test_basis_pursuit_against_linear_programming():
    rng = torch.Generator().manual_seed(0)
    D, x = (torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((3, 6, 14), (3, 2, 6)))
    z = sparse.basis_pursuit(x, D, n_steps=8000)
    torch.testing.assert_close(z @ D.mT, x)
    for matrix, signals, codes in zip(D, x, z, strict=True):
        both = torch.cat([matrix, -matrix], 1).numpy()
        for signal, code in zip(signals, codes, strict=True):
            best = scipy.optimize.linprog(np.ones(28), A_eq=both, b_eq=signal.numpy()).fun
            assert code.abs().sum().item() == pytest.approx(best, rel=1e-4)


def test_coherence_by_hand():
    D = torch.tensor([[1.0, 0.0, 3.0], [0.0, 2.0, 4.0]])
    assert sparse.mutual_coherence(D) == pytest.approx(0.8)
    assert sparse.coherence_bound(D) == 1
    spikes_and_waves = torch.cat([torch.eye(64), sparse.dct_dictionary(8, 8)], 1)
    mu = sparse.mutual_coherence(spikes_and_waves)
    assert sparse.coherence_bound(spikes_and_waves) == math.ceil((1 + 1 / mu) / 2) - 1
    assert sparse.coherence_bound(torch.eye(5)) == 5
    for cosine, most in ((0.3, 2), (0.4, 1)):  # (1 + 1/μ)/2 is 2.17 and 1.75
        pair = torch.tensor([[1.0, cosine], [0.0, math.sqrt(1 - cosine**2)]])
        assert sparse.coherence_bound(pair) == most


def test_coherence_bound_is_kept_by_both_methods():
    hadamard = torch.as_tensor(scipy.linalg.hadamard(64)).double() / 8
    D = torch.cat([torch.eye(64).double(), hadamard], 1)  # coherence 1/8: up to 4 atoms
    s = sparse.coherence_bound(D)
    assert s == 4
    rng, z = torch.Generator().manual_seed(0), torch.zeros(40, 128).double()
    for row in z:
        row[torch.randperm(128, generator=rng)[:s]] = torch.randn(s, generator=rng).double()
    for found in (sparse.omp(z @ D.T, D, s), sparse.basis_pursuit(z @ D.T, D, n_steps=5000)):
        torch.testing.assert_close(found, z, atol=1e-3, rtol=0)


def test_l1_dimension_by_sampling():
    k, s = 200, 20
    g = torch.randn(4000, k, generator=torch.Generator().manual_seed(0)).double()
    # squared distance of a Gaussian from the cone of subgradients, whose mean is the dimension
    taus = torch.linspace(0.5, 3, 60).double()
    head, tail = g[:, :s], g[:, s:].abs()
    squares = [(head - t).square().sum(1) + (tail - t).clamp(min=0).square().sum(1) for t in taus]
    measured = torch.stack(squares).amin(0).mean().item()
    assert sparse.l1_dimension(s, k) == pytest.approx(measured, abs=1.0)
    assert sparse.l1_dimension(0, k) == pytest.approx(0, abs=1e-3)
    assert sparse.l1_dimension(k, k) == pytest.approx(k, rel=1e-6)


def test_sensing_rejects():
    D = torch.randn(5, 3)
    with pytest.raises(ValueError, match="no more rows than columns"):
        sparse.basis_pursuit(torch.randn(2, 5), D)
    with pytest.raises(ValueError, match="n_nonzero"):
        sparse.l1_dimension(4, 3)
    with pytest.raises(ValueError, match="n_atoms is 1"):
        sparse.mutual_coherence(D[:, :1])
    with pytest.raises(ValueError, match="threshold"):
        sparse.basis_pursuit(torch.randn(2, 3), D.T, threshold=0.0)
