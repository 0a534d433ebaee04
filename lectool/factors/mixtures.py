r"""Chapter 04, Gaussian pieces: mixtures of probabilistic PCA and of factor analyzers."""

from collections.abc import Iterator

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from lectool import check
from lectool.em import climb
from lectool.factors.gaussian import gaussian_em, log_density, ppca_closed_form
from lectool.moments import double, eigen
from lectool.random import noise as draw


class MixtureOfPPCA:
    r"""Several PPCA models that share the data: a bent set of points by flat pieces, by EM.

    The E-step finds the share :math:`r_{ic}` of each piece in each sample; the M-step is the closed form
    of PPCA on the covariance with these weights.

    Arguments:
        n_mixtures: number of pieces.
        n_components: k of each.
        max_iter, tol: as in :class:`FactorAnalysis`.
        min_noise: lower bound of each noise variance, as a share of the mean variance of a feature.
        generator: of the start by k-means.

    Attributes:
        weights_: prior share of each piece, shape (m,).
        means_: shape (m, d).
        W_: loadings, shape (m, d, k).
        noise_variance_: shape (m,).
        loglike_, n_iter_: as in :class:`FactorAnalysis`.

    References:
        Tipping & Bishop (1999), Mixtures of probabilistic principal component analyzers.
    """

    def __init__(
        self,
        n_mixtures: int,
        n_components: int,
        *,
        max_iter: int = 200,
        tol: float = 1e-4,
        min_noise: float = 1e-4,
        generator: torch.Generator | None = None,
    ):
        check.at_least(1, n_mixtures=n_mixtures, max_iter=max_iter)
        check.non_negative(tol=tol)
        check.positive(min_noise=min_noise)
        self.n_mixtures, self.n_components, self.max_iter = n_mixtures, n_components, max_iter
        self.tol, self.min_noise, self.generator = tol, min_noise, generator

    def fit(self, x: Tensor) -> "MixtureOfPPCA":
        r"""Finds the pieces in x, shape (n, d).

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data`, has no variance, ``n_components`` is not in
                1 … d − 1, or
                there are not at least two samples a piece.
        """
        check.data(x)
        (n, d), k = x.shape, self.n_components
        if not 1 <= k < d or n < 2 * self.n_mixtures:
            raise ValueError(
                f"n_components is {k}, n_mixtures {self.n_mixtures} for {n} samples of {d} numbers; "
                f"expected 1 … {d - 1} and at most {n // 2}"
            )
        floor = self.min_noise * double(x).var(0, correction=0).mean().item()
        if floor == 0:
            raise ValueError("all samples are the same; expected some variance")
        seed = int(torch.randint(2**31 - 1, (), generator=self.generator))
        found = KMeans(self.n_mixtures, n_init=3, random_state=seed).fit(x.cpu().numpy()).labels_
        share = nn.functional.one_hot(torch.as_tensor(found).long(), self.n_mixtures).to(x)

        def e_step(*parameters: Tensor) -> tuple[float, tuple]:
            joint = self.joint(x, *parameters)
            return joint.logsumexp(1).double().mean().item(), (joint.softmax(1), *parameters)

        def m_step(share: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
            return self.maximize(x, share.clamp(min=1e-10), floor, *parameters)

        steps = {"max_iter": self.max_iter, "tol": self.tol, "name": type(self).__name__}
        start = self.start(x, share.clamp(min=1e-10), floor)
        found, _, self.loglike_ = climb(e_step, m_step, start, **steps)
        self.weights_, self.means_, self.W_, self.noise_variance_ = found
        self.n_iter_ = len(self.loglike_) - 1
        return self

    def start(self, x: Tensor, share: Tensor, floor: float) -> tuple[Tensor, ...]:
        r"""Parameters before the first iteration, from the shares by k-means."""
        return self.maximize(x, share, floor)

    def maximize(self, x: Tensor, share: Tensor, floor: float, *_: Tensor) -> tuple[Tensor, ...]:
        r"""PPCA's closed form for each piece, on the samples' shares in it: weights, means, loadings, noise."""
        weights, means, covariances = weighted_moments(x, share)
        W, noise = [], []
        for C in covariances:
            axes, variances = eigen(C)
            sigma2 = max(variances[self.n_components :].mean().item(), floor)
            loadings, sigma2 = ppca_closed_form(axes, variances, len(C), self.n_components, sigma2)
            W.append(loadings.to(x))
            noise.append(sigma2.to(x))
        return weights, means, torch.stack(W), torch.stack(noise)

    @staticmethod
    def joint(x: Tensor, weights: Tensor, means: Tensor, W: Tensor, noise: Tensor) -> Tensor:
        r"""Log-density of each sample together with each piece, shape (n, m)."""
        pieces = zip(means, W, noise, strict=True)
        return torch.stack([log_density(x - mu, V, s) for mu, V, s in pieces], 1) + weights.log()

    def of(self, x: Tensor) -> Tensor:
        r"""The joint log-density of data under the fitted model, shape (n, m)."""
        check.data(x, width=self.means_.shape[1], like=self.means_)
        return self.joint(x, self.weights_, self.means_, self.W_, self.noise_variance_)

    def score_samples(self, x: Tensor) -> Tensor:
        r"""Log-density of each sample in nats, shape (n,)."""
        return self.of(x).logsumexp(1)

    def score(self, x: Tensor) -> float:
        r"""Mean log-density in nats a sample."""
        return self.score_samples(x).double().mean().item()

    def predict_proba(self, x: Tensor) -> Tensor:
        r"""The share of each piece in each sample, shape (n, m)."""
        return self.of(x).softmax(1)

    def sample(self, n: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        r"""New data, shape (n, d)."""
        _, d, k = self.W_.shape
        check.at_least(1, n=n)
        where = "cpu" if generator is None else generator.device
        c = torch.multinomial(self.weights_.to(where), n, replacement=True, generator=generator).to(
            self.W_.device
        )
        z, noise = (draw((n, size), self.W_, generator) for size in (k, d))
        mapped = (self.W_[c] @ z[:, :, None])[:, :, 0]
        return self.means_[c] + mapped + noise * self.noise_variance_[c].reshape(n, -1).sqrt()


class MixtureOfFactorAnalyzers(MixtureOfPPCA):
    r"""Several factor analyzers that share the data: pieces that each have a noise for every feature.

    There is no closed form for a piece, and none is needed: where PPCA's mixture goes to the top for the present
    shares :math:`r_{ic}`, this one takes a single step of factor analysis' EM up to it, on the covariance with these
    weights. The likelihood never falls all the same. It starts from PPCA's pieces.

    Arguments:
        as :class:`MixtureOfPPCA`; ``min_noise`` bounds the noise of each feature.

    Attributes:
        weights_, means_, W_, loglike_, n_iter_: as in :class:`MixtureOfPPCA`.
        noise_variance_: shape (m, d).

    References:
        Ghahramani & Hinton (1996), The EM algorithm for mixtures of factor analyzers.
    """

    def start(self, x: Tensor, share: Tensor, floor: float) -> tuple[Tensor, ...]:
        *pieces, noise = super().maximize(x, share, floor)
        return *pieces, noise[:, None].expand(-1, x.shape[1])

    def maximize(self, x: Tensor, share: Tensor, floor: float, *last: Tensor) -> tuple[Tensor, ...]:
        r"""Weights and means by the shares; loadings and noise by one step of EM from the last ones."""
        weights, means, covariances = weighted_moments(x, share)
        _, _, W, noise = last
        pieces = []
        for C, loadings, variances in zip(covariances, double(W), double(noise), strict=True):
            e_step, m_step = gaussian_em(C.to(loadings), shared=False, floor=floor)
            pieces.append(m_step(*e_step(loadings, variances)[1]))
        W, noise = (torch.stack(parts).to(x) for parts in zip(*pieces, strict=True))
        return weights, means, W, noise


def weighted_moments(x: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Iterator[Tensor]]:
    r"""Moments of data of which each piece owns a share of every sample.

    Arguments:
        x: shape (n, d).
        share: shape (n, m).

    Returns:
        weights: the pieces' shares of all data, shape (m,).
        means: shape (m, d).
        covariances: of shape (d, d), in float64, one after the other.
    """
    total = share.sum(0)
    means = (share.T @ x) / total[:, None]

    def covariances() -> Iterator[Tensor]:
        for r, mu in zip((share / total).T, means, strict=True):
            centered = double(x) - double(mu)
            yield (centered.T * double(r)) @ centered

    return total / total.sum(), means, covariances()
