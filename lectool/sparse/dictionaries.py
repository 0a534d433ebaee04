r"""Chapter 05: dictionaries that are learned from data, and two that need no data."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lectool import check, random
from lectool.sparse.inference import fista, lasso, objective, shrink, shrink_positive

__all__ = [
    "DictionaryLearning",
    "OnlineDictionaryLearning",
    "dct_dictionary",
    "gradient_update",
    "haar_frame",
    "update_columns",
]


def gradient_update(
    D: Tensor, A: Tensor, B: Tensor, n_steps: int = 1, *, positive: bool = False
) -> Tensor:
    r"""Projected gradient: steps down ½‖X − ZDᵀ‖², after each of which atoms that are too long are cut to length 1.

    Arguments:
        D: dictionary, shape (d, k).
        A: :math:`\sum_i z_i z_i^\top`, shape (k, k).
        B: :math:`\sum_i x_i z_i^\top`, shape (d, k).
        n_steps: ≥ 1. The step size is one over the largest eigenvalue of A: no step can then raise the error.
        positive: whether the atoms must be ≥ 0.

    Returns:
        the new dictionary, shape (d, k).
    """
    step = 1 / torch.linalg.eigvalsh(A)[-1].clamp(min=1e-12)
    for _ in range(n_steps):
        D = D + step * (B - D @ A)
        D = D.clamp(min=0) if positive else D
        D = D / D.norm(dim=0).clamp(min=1)
    return D


def update_columns(
    D: Tensor, A: Tensor, B: Tensor, n_sweeps: int = 1, *, positive: bool = False
) -> Tensor:
    r"""Block coordinate descent: each atom in turn takes its best value with all others held fixed.

    .. math:: D_j \leftarrow D_j + (B_j - D A_j) / A_{jj}, \qquad D_j \leftarrow D_j / \max(1, \lVert D_j \rVert)

    Arguments:
        D, A, B: as in :func:`gradient_update`. Atoms that no signal uses (:math:`A_{jj} = 0`) stay as they are.
        n_sweeps: how often each atom has its turn, ≥ 1.
        positive: whether the atoms must be ≥ 0; negative entries are then set to 0 before the atom is cut to length.

    Returns:
        the new dictionary, shape (d, k).
    """
    atoms, A, B = D.T.contiguous(), A.contiguous(), B.T.contiguous()  # rows lie together in memory
    used = (A.diagonal() > 1e-10 * A.diagonal().max()).nonzero()[:, 0].tolist()
    for _ in range(n_sweeps):
        for j in used:
            atom = atoms[j] + (B[j] - A[j] @ atoms) / A[j, j]
            atom = atom.clamp(min=0) if positive else atom
            atoms[j] = atom / atom.norm().clamp(min=1)
    return atoms.T.contiguous()


class DictionaryLearning:
    r"""Dictionary learning in turns: codes for all signals, then a better dictionary for these codes.

    .. math:: \min_{D,\, z_1 \dots z_n} \frac1n \sum_i \tfrac12 \lVert x_i - D z_i \rVert^2
        + \lambda \lVert z_i \rVert_1 \quad \text{with} \quad \lVert D_j \rVert \le 1

    Each half lowers the objective or leaves it. Without the bound on the atoms a longer D and a smaller z would make
    the ℓ₁ term as small as one likes.

    Arguments:
        n_components: k, the number of atoms.
        lam: λ > 0.
        update: ``"columns"`` (:func:`update_columns`) or ``"gradient"`` (:func:`gradient_update`).
        n_iter: rounds, ≥ 1.
        n_updates: steps of the gradient, or sweeps over the columns, a round, ≥ 1.
        n_steps: FISTA steps a round, which go on from the codes of the round before, ≥ 1.
        positive_code, positive_dict: whether codes, or atoms, must be ≥ 0.
        generator: of the first atoms, which are signals chosen at random, and of replaced ones.

    Attributes:
        D_: the dictionary, shape (d, k).
        components_: the atoms as rows, shape (k, d), as in scikit-learn.
        objective_: mean objective of the training signals at the start and after each half of a round, a list.
        n_replaced_: atoms that no signal used any more and that became the signals rebuilt worst, over all rounds.

    References:
        Olshausen & Field (1996), Emergence of simple-cell receptive field properties; Mairal, Bach, Ponce & Sapiro
        (2009), Online dictionary learning for sparse coding.
    """

    def __init__(
        self,
        n_components: int,
        lam: float,
        *,
        update: str = "columns",
        n_iter: int = 30,
        n_updates: int = 5,
        n_steps: int = 30,
        positive_code: bool = False,
        positive_dict: bool = False,
        generator: torch.Generator | None = None,
    ):
        check.at_least(
            1, n_components=n_components, n_iter=n_iter, n_updates=n_updates, n_steps=n_steps
        )
        check.positive(lam=lam)
        check.one_of(("columns", "gradient"), update=update)
        self.n_components, self.lam, self.update = n_components, lam, update
        self.n_iter, self.n_updates, self.n_steps = n_iter, n_updates, n_steps
        self.generator = generator
        self.positive_code, self.positive_dict = positive_code, positive_dict

    def fit(self, x: Tensor) -> "DictionaryLearning":
        r"""Learns the atoms from x, shape (n, d).

        Raises:
            ValueError: if x is no valid data, all its signals are zero, or there are fewer signals than atoms.
        """
        check.data(x)
        update = {"columns": update_columns, "gradient": gradient_update}[self.update]
        D = first_atoms(x, self.n_components, self.generator)
        z = x.new_zeros(len(x), self.n_components)
        self.objective_, self.n_replaced_ = [self.mean_objective(x, D, z)], 0
        for _ in range(self.n_iter):
            z = self.recode(x, D, z)
            self.objective_.append(self.mean_objective(x, D, z))
            A, B = z.T @ z, x.T @ z
            D = update(D, A, B, self.n_updates, positive=self.positive_dict)
            D, n_replaced = replace_unused(D, A.diagonal(), x, z)
            self.n_replaced_ += n_replaced
            self.objective_.append(self.mean_objective(x, D, z))
        self.D_, self.components_ = D, D.T
        return self

    def recode(self, x: Tensor, D: Tensor, z: Tensor) -> Tensor:
        r"""Better codes; a signal that momentum has carried uphill keeps its old one."""
        prox = shrink_positive if self.positive_code else shrink
        new = fista(x, D, self.lam, n_steps=self.n_steps, prox=prox, restart=False, start=z)
        worse = objective(x, D, new, self.lam) > objective(x, D, z, self.lam)
        return torch.where(worse[:, None], z, new)

    def mean_objective(self, x: Tensor, D: Tensor, z: Tensor) -> float:
        return objective(x, D, z, self.lam).double().mean().item()

    def transform(self, x: Tensor, *, tol: float = 1e-4) -> Tensor:
        r"""Codes of x, shape (n, k), as exact as :func:`lasso` makes them with this ``tol``."""
        return lasso(x, self.D_, self.lam, tol=tol, positive=self.positive_code)

    def fit_transform(self, x: Tensor) -> Tensor:
        r"""``fit(x)`` and then ``transform(x)``."""
        return self.fit(x).transform(x)

    def inverse_transform(self, z: Tensor) -> Tensor:
        r"""The signals Dz, shape (n, d)."""
        check.data(z, "z", width=self.D_.shape[1], like=self.D_)
        return z @ self.D_.T

    def score(self, x: Tensor) -> float:
        r"""Minus the mean objective of x: larger is better."""
        return -self.mean_objective(x, self.D_, self.transform(x))


class OnlineDictionaryLearning(DictionaryLearning):
    r"""Dictionary learning that improves the atoms after each batch, with all that it still knows of earlier ones.

    Of the past it keeps two sums, :math:`A = \sum z z^\top` and :math:`B = \sum x z^\top`, older batches weighing less:
    their codes were found with a worse dictionary.

    Arguments:
        n_components, lam, n_steps, positive_code, positive_dict, generator: as in :class:`DictionaryLearning`.
        batch_size: signals a batch, ≥ 1.
        n_passes: over the data, in a new order each, ≥ 1.
        beta: a number in [0, 1): running averages A ← βA + (1 − β) zzᵀ; or ``"mairal"``: the past fades fast at
            first and ever more slowly, as in Mairal et al. (2010), section 3.4.

    Attributes:
        D_, components_, n_replaced_: as in :class:`DictionaryLearning`.
        objective_: mean objective of each batch before its update, a list.

    References:
        Mairal, Bach, Ponce & Sapiro (2010), Online learning for matrix factorization and sparse coding.
    """

    def __init__(
        self,
        n_components: int,
        lam: float,
        *,
        batch_size: int = 256,
        n_passes: int = 1,
        beta: float | str = "mairal",
        n_steps: int = 40,
        positive_code: bool = False,
        positive_dict: bool = False,
        generator: torch.Generator | None = None,
    ):
        signs = {"positive_code": positive_code, "positive_dict": positive_dict}
        super().__init__(n_components, lam, n_steps=n_steps, generator=generator, **signs)
        check.at_least(1, batch_size=batch_size, n_passes=n_passes)
        if beta != "mairal":
            check.inside("[0, 1)", beta=beta)
        self.batch_size, self.n_passes, self.beta = batch_size, n_passes, beta

    def fit(
        self, x: Tensor, *, watch: Callable[[Tensor], object] | None = None
    ) -> "OnlineDictionaryLearning":
        r"""Learns the atoms from x, shape (n, d); ``watch`` is called with the dictionary after each update.

        Raises:
            ValueError: as :meth:`DictionaryLearning.fit` does.
        """
        check.data(x)
        D = first_atoms(x, self.n_components, self.generator)
        A, B = x.new_zeros(D.shape[1], D.shape[1]), torch.zeros_like(D)
        self.objective_, self.n_replaced_ = [], 0
        for t, batch in enumerate(self.batches(x), 1):
            z = self.recode(batch, D, batch.new_zeros(len(batch), D.shape[1]))
            self.objective_.append(self.mean_objective(batch, D, z))
            keep, add = self.weights(t, len(batch))
            A, B = keep * A + add * (z.T @ z), keep * B + add * (batch.T @ z)
            D = update_columns(D, A, B, positive=self.positive_dict)
            D, n_replaced = replace_unused(D, A.diagonal(), batch, z)
            self.n_replaced_ += n_replaced
            if watch is not None:
                watch(D)
        self.D_, self.components_ = D, D.T
        return self

    def batches(self, x: Tensor) -> Iterator[Tensor]:
        for _ in range(self.n_passes):
            order = random.permutation(len(x), x.device, self.generator)
            yield from (x[rows] for rows in order.split(self.batch_size))

    def weights(self, t: int, n: int) -> tuple[float, float]:
        r"""By what the sums of the past are multiplied before batch t, and by what those of its n signals."""
        if self.beta != "mairal":
            return self.beta, (1 - self.beta) / n
        count = t * n if t < n else n**2 + t - n
        return (count + 1 - n) / (count + 1), 1 / n


def first_atoms(x: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    r"""k signals, scaled to length 1, as columns: shape (d, k).

    Raises:
        ValueError: if fewer than k signals are not zero.
    """
    candidates = x[x.norm(dim=1) > 0]
    if len(candidates) < k:
        raise ValueError(
            f"{len(candidates)} of {len(x)} signals are not zero; expected at least one for each of {k} atoms"
        )
    chosen = candidates[random.permutation(len(candidates), x.device, generator)[:k]]
    return (chosen / chosen.norm(dim=1, keepdim=True)).T.contiguous()


def replace_unused(D: Tensor, use: Tensor, x: Tensor, z: Tensor) -> tuple[Tensor, int]:
    r"""Atoms that no code contains become the signals that are rebuilt worst, and are counted.

    Arguments:
        D: dictionary, shape (d, k).
        use: :math:`\sum z_j^2` of each atom, shape (k,).
        x, z: signals and their codes.
    """
    unused = (use <= 1e-10 * use.max()).nonzero()[:, 0]
    if len(unused) == 0:
        return D, 0
    error = (x - z @ D.T).square().sum(1)
    worst = x[error.topk(min(len(unused), len(x))).indices]
    worst = worst[worst.norm(dim=1) > 0]
    D = D.clone()
    D[:, unused[: len(worst)]] = (worst / worst.norm(dim=1, keepdim=True)).T
    return D, len(worst)


# ------------------------------------------------------------------------------------- fixed dictionaries


def dct_dictionary(size: int, n_frequencies: int) -> Tensor:
    r"""Products of a horizontal and a vertical cosine: the dictionary behind JPEG, with more frequencies than pixels.

    Arguments:
        size: side of the square patches, in pixels, ≥ 1.
        n_frequencies: a side, ≥ ``size``; with as many as pixels it is the orthonormal cosine transform.

    Returns:
        shape (size², n_frequencies²), columns of length 1; the first is constant, all others have mean 0.

    Raises:
        ValueError: if a number is out of range.
    """
    check.at_least(1, size=size)
    check.at_least(size, n_frequencies=n_frequencies)
    place, frequency = torch.arange(size) + 0.5, torch.arange(n_frequencies)
    waves = torch.cos(math.pi / n_frequencies * place[:, None] * frequency)
    waves[:, 1:] -= waves[:, 1:].mean(0)
    waves = waves / waves.norm(dim=0)
    return torch.kron(waves, waves)


def haar_frame(size: int) -> Tensor:
    r"""Steps and checks of all widths 2, 4, 8 … at all places: Haar's wavelets with every shift, and a constant.

    Arguments:
        size: side of the square patches, a power of two ≥ 2. Patches are taken as periodic.

    Returns:
        shape (size², k), columns of length 1, no two of them equal or opposite.

    Raises:
        ValueError: if ``size`` is no power of two.
    """
    check.at_least(2, size=size)
    if size & (size - 1):
        raise ValueError(f"size is {size}; expected a power of two")
    atoms = [torch.ones(1, size * size)]
    for width in (2**j for j in range(1, size.bit_length())):
        step, flat = torch.zeros(2, size)
        flat[:width] = 1
        step[:width] = 1
        step[width // 2 : width] = -1
        for rows, columns in ((step, flat), (flat, step), (step, step)):
            atom = torch.outer(rows, columns)
            shifts = [atom.roll((i, j), (0, 1)).flatten() for i in range(size) for j in range(size)]
            atoms.append(torch.stack(shifts))
    atoms = torch.cat(atoms)
    sign = atoms.gather(
        1, atoms.abs().argmax(1, keepdim=True)
    ).sign()  # opposite atoms become equal
    atoms = torch.unique(atoms * sign, dim=0)
    return (atoms / atoms.norm(dim=1, keepdim=True)).T.contiguous()
