r"""Chapter 08: topics behind the words of documents. PLSA by EM, latent Dirichlet allocation by variational EM."""

import torch
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from lectool import check
from lectool.em import climb
from lectool.random import uniform

__all__ = ["LDA", "PLSA", "expected_log", "match_topics", "sample_documents"]

# Below it a probability is 0 to float32, and its logarithm no number.
TINY = 1e-30


def sample_documents(
    topics: Tensor,
    n: int,
    *,
    doc_topic_prior: float = 0.1,
    n_words: int = 100,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The story that LDA tells: shares of topics from a Dirichlet distribution, then words from the mixed topics.

    Arguments:
        topics: probabilities of the words in each topic, shape (k, n_vocabulary).
        n: documents, ≥ 1.
        doc_topic_prior: concentration α > 0 of the shares; far below 1 a document keeps to few topics.
        n_words: in each document, ≥ 1.
        generator: of all draws.

    Returns:
        counts: of each word in each document, shape (n, n_vocabulary).
        shares: of the topics in each document, shape (n, k).

    Raises:
        ValueError: if a topic does not sum to 1 or a number is out of range.
    """
    check.at_least(1, n=n, n_words=n_words)
    check.positive(doc_topic_prior=doc_topic_prior)
    check.data(topics, "topics", low=0)
    if (topics.sum(1) - 1).abs().max() > 1e-4:
        raise ValueError(
            "topics do not sum to 1; expected the probabilities of words, a topic a row"
        )
    alpha = torch.full((n, len(topics)), doc_topic_prior, dtype=topics.dtype, device=topics.device)
    # Gamma draws, normalized, are Dirichlet draws; the smallest number stands for a share that underflows.
    gamma = torch._standard_gamma(alpha.double(), generator=generator).clamp(min=1e-300)
    shares = (gamma / gamma.sum(1, keepdim=True)).to(topics)
    words = torch.multinomial(shares @ topics, n_words, replacement=True, generator=generator)
    counts = torch.zeros(n, topics.shape[1], dtype=topics.dtype, device=topics.device)
    return counts.scatter_add_(1, words, torch.ones_like(words, dtype=topics.dtype)), shares


def match_topics(found: Tensor, planted: Tensor) -> tuple[Tensor, Tensor]:
    r"""Which found topic stands for which planted one, as the order of topics means nothing.

    Arguments:
        found, planted: probabilities of words, shapes (k, n_words) and (m, n_words) with k ≥ m.

    Returns:
        order: the found topic of each planted one, shape (m,); together they have the least distance.
        distance: total variation :math:`\tfrac12 \sum_w \lvert p_w - q_w \rvert` of each pair, in [0, 1], shape (m,).

    Raises:
        ValueError: if the words differ in number or there are fewer found topics than planted ones.
    """
    if found.shape[1] != planted.shape[1] or len(found) < len(planted):
        raise ValueError(
            f"found has shape {tuple(found.shape)}, planted {tuple(planted.shape)}; expected the same words "
            "and at least as many topics"
        )
    from scipy.optimize import linear_sum_assignment

    distance = 0.5 * torch.cdist(planted, found, p=1)
    _, order = linear_sum_assignment(distance.detach().cpu().numpy())
    order = torch.as_tensor(order, device=found.device)
    return order, distance.gather(1, order[:, None])[:, 0]


def _double(x: Tensor) -> Tensor:
    # Unlike lectool.moments.double it keeps gradients.
    return x.cpu().double() if x.device.type == "mps" else x.double()


def _counts(x: Tensor, **options) -> Tensor:
    check.data(x, low=0, high=torch.finfo(x.dtype).max, **options)
    empty = (x.sum(1) == 0).nonzero()[:, 0].tolist()
    if empty:
        some = ", ".join(map(str, empty[:5])) + (" …" if len(empty) > 5 else "")
        raise ValueError(f"documents {some} have no words; expected at least one in each")
    return x


class PLSA:
    r"""Probabilistic latent semantic analysis, :math:`P(w, d) = P(d) \sum_c P(c \mid d)\, P(w \mid c)`, by EM.

    The E-step would hold :math:`P(c \mid d, w)` for each word of each document; both M-steps need only its sums over
    words and over documents, which are two matrix products.

    Arguments:
        n_components: k ≥ 1, topics.
        tol: smallest gain in log-likelihood, in nats a word, that is worth another iteration.
        max_iter: ≥ 1.
        generator: of the start.

    Attributes:
        components_: :math:`P(w \mid c)`, shape (k, n_words).
        doc_topic_: :math:`P(c \mid d)` of the training documents, shape (n, k).
        doc_weights_: :math:`P(d)`, shape (n,).
        loglike_: mean of :math:`\log P(w \mid d)` over all words, in nats, at the start and after each iteration.
        n_iter_: number of iterations.

    References:
        Hofmann (1999), Probabilistic latent semantic analysis.
    """

    def __init__(
        self,
        n_components: int,
        *,
        tol: float = 1e-5,
        max_iter: int = 200,
        generator: torch.Generator | None = None,
    ):
        check.at_least(1, n_components=n_components, max_iter=max_iter)
        check.non_negative(tol=tol)
        self.n_components, self.tol, self.max_iter = n_components, tol, max_iter
        self.generator = generator

    def fit(self, x: Tensor) -> "PLSA":
        r"""Finds the topics of documents, given as word counts of shape (n, n_words).

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data`, counts are negative, or a document has no words.
        """
        _counts(x)
        shares = 0.5 + uniform((len(x), self.n_components), x, self.generator)
        topics = 0.5 + uniform((self.n_components, x.shape[1]), x, self.generator)
        start = shares / shares.sum(1, keepdim=True), topics / topics.sum(1, keepdim=True)
        self.doc_topic_, self.components_ = self._climb(x, start, learn=True)
        self.doc_weights_ = x.sum(1) / x.sum()
        return self

    def _climb(self, x: Tensor, start: tuple[Tensor, ...], learn: bool) -> tuple[Tensor, ...]:
        def e_step(*parameters: Tensor) -> tuple[float, tuple]:
            return self.expect(x, *parameters)

        def m_step(of_documents: Tensor, of_words: Tensor) -> tuple[Tensor, Tensor]:
            return self.maximize(of_documents, of_words if learn else start[1])

        steps = {"max_iter": self.max_iter, "tol": self.tol, "name": type(self).__name__}
        found, _, loglike = climb(e_step, m_step, start, **steps)
        if learn:
            self.loglike_, self.n_iter_ = loglike, len(loglike) - 1
        return found

    @staticmethod
    def expect(x: Tensor, shares: Tensor, topics: Tensor) -> tuple[float, tuple[Tensor, Tensor]]:
        r"""E-step: the log-likelihood in nats a word, and how often each topic was used, by documents and by words."""
        p = (shares @ topics).clamp(min=TINY)
        loglike = _double(torch.xlogy(x, p)).sum() / _double(x).sum()
        # Σ_w x_dw P(c|d,w) and Σ_d x_dw P(c|d,w) with P(c|d,w) = P(c|d) P(w|c) / p_dw
        ratio = x / p
        return loglike.item(), (shares * (ratio @ topics.T), topics * (shares.T @ ratio))

    @staticmethod
    def maximize(of_documents: Tensor, of_words: Tensor) -> tuple[Tensor, Tensor]:
        r"""M-step: shares of topics in documents and of words in topics, in proportion to how often they were used."""
        return tuple(t / t.sum(1, keepdim=True).clamp(min=TINY) for t in (of_documents, of_words))

    def transform(self, x: Tensor) -> Tensor:
        r"""Shares of the topics in new documents, by EM with the topics held fixed, shape (n, k)."""
        _counts(x, width=self.components_.shape[1], like=self.components_)
        shares = x.new_full((len(x), self.n_components), 1 / self.n_components)
        return self._climb(x, (shares, self.components_), learn=False)[0]


def expected_log(alpha: Tensor) -> Tensor:
    r""":math:`E \log \theta_j = \psi(\alpha_j) - \psi(\sum_i \alpha_i)` for θ ~ Dirichlet(α), shape of α."""
    return torch.digamma(alpha) - torch.digamma(alpha.sum(-1, keepdim=True))


def over_mixed(x: Tensor, theta: Tensor, B: Tensor) -> Tensor:
    r"""Counts over the weights of the words in the mixed topics, :math:`x_{dw} / \sum_c \theta_{dc} B_{cw}`.

    All in the memory of the first product: new memory for each step would take longer than the steps.
    """
    return (theta @ B).clamp_(min=TINY).reciprocal_().mul_(x)


class LDA:
    r"""Latent Dirichlet allocation by variational EM: PLSA whose shares and topics have priors.

    The approximate posterior gives each document a Dirichlet(γ) over topics, each topic a Dirichlet(λ) over words and
    each word its own shares of the topics. With the last at their best, the bound on :math:`\log p(x)` is

    .. math:: \mathcal L = \sum_{d,w} x_{dw} \log \sum_c e^{E \log \theta_{dc} + E \log \beta_{cw}}
        - \sum_d \mathrm{KL}(q(\theta_d) \Vert p(\theta_d)) - \sum_c \mathrm{KL}(q(\beta_c) \Vert p(\beta_c)) .

    The E-step raises it in γ for all documents at once, by matrix products, the M-step in λ.

    Arguments:
        n_components: k ≥ 1, topics.
        doc_topic_prior, topic_word_prior: concentrations α, η > 0; 1/k where ``None``.
        tol: smallest gain in the bound, in nats a word, that is worth another iteration.
        max_iter: ≥ 1.
        max_doc_update_iter: updates of γ an iteration, which go on from those of the iteration before, ≥ 1.
        mean_change_tol: mean change of γ, in words, at which an E-step may stop earlier.
        generator: of the start.

    Attributes:
        components_: λ, shape (k, n_words).
        topics_: expected :math:`P(w \mid c)`, shape (k, n_words).
        bound_: :math:`\mathcal L` in nats a word, at the start and after each iteration, a list.
        n_iter_: number of iterations.

    References:
        Blei, Ng & Jordan (2003), Latent Dirichlet allocation; Hoffman, Blei & Bach (2010), Online learning for LDA.
    """

    def __init__(
        self,
        n_components: int,
        *,
        doc_topic_prior: float | None = None,
        topic_word_prior: float | None = None,
        tol: float = 1e-4,
        max_iter: int = 100,
        max_doc_update_iter: int = 10,
        mean_change_tol: float = 1e-3,
        generator: torch.Generator | None = None,
    ):
        check.at_least(
            1, n_components=n_components, max_iter=max_iter, max_doc_update_iter=max_doc_update_iter
        )
        check.non_negative(tol=tol, mean_change_tol=mean_change_tol)
        alpha = 1 / n_components if doc_topic_prior is None else doc_topic_prior
        eta = 1 / n_components if topic_word_prior is None else topic_word_prior
        check.positive(doc_topic_prior=alpha, topic_word_prior=eta)
        self.n_components, self.doc_topic_prior, self.topic_word_prior = n_components, alpha, eta
        self.tol, self.max_iter, self.generator = tol, max_iter, generator
        self.max_doc_update_iter, self.mean_change_tol = max_doc_update_iter, mean_change_tol

    def fit(self, x: Tensor) -> "LDA":
        r"""Finds the topics of documents, given as word counts of shape (n, n_words).

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data`, counts are negative, or a document has no words.
        """
        _counts(x)
        k, n_words = self.n_components, x.sum().item()
        share = x.sum(0) / k + 1
        topics = share * (0.5 + uniform((k, x.shape[1]), x, self.generator))
        gamma = self.doc_topic_prior + (x.sum(1, keepdim=True) / k).expand(-1, k)

        def e_step(topics: Tensor, gamma: Tensor) -> tuple[float, tuple]:
            gamma, used = self.infer(x, topics, gamma)
            return self.bound(x, topics, gamma).item() / n_words, (used, gamma)

        def m_step(used: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
            return self.topic_word_prior + used, gamma

        steps = {"max_iter": self.max_iter, "tol": self.tol, "name": type(self).__name__}
        (self.components_, _), _, self.bound_ = climb(e_step, m_step, (topics, gamma), **steps)
        self.topics_ = self.components_ / self.components_.sum(1, keepdim=True)
        self.n_iter_ = len(self.bound_) - 1
        return self

    def infer(self, x: Tensor, topics: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        r"""E-step: γ of each document, and how often each topic used each word, from λ and a first γ."""
        B = expected_log(topics).exp()
        for _ in range(self.max_doc_update_iter):
            theta = expected_log(gamma).exp()
            last, gamma = gamma, self.doc_topic_prior + theta * (over_mixed(x, theta, B) @ B.T)
            if (gamma - last).abs().mean() < self.mean_change_tol:
                break
        theta = expected_log(gamma).exp()
        return gamma, B * (theta.T @ over_mixed(x, theta, B))

    def bound(self, x: Tensor, topics: Tensor, gamma: Tensor) -> Tensor:
        r"""The lower bound on :math:`\log p(x)` in nats, for all documents together: a scalar.

        Arguments:
            x: word counts, shape (n, n_words).
            topics: λ, shape (k, n_words).
            gamma: γ, shape (n, k).
        """
        # Sums of many words, and small differences of large logarithms, need float64.
        x, topics, gamma = (_double(t) for t in (x, topics, gamma))
        p = expected_log(gamma).exp() @ expected_log(topics).exp()
        alpha = torch.full_like(gamma, self.doc_topic_prior)
        eta = torch.full_like(topics, self.topic_word_prior)
        kl = kl_divergence(Dirichlet(gamma), Dirichlet(alpha)).sum()
        kl = kl + kl_divergence(Dirichlet(topics), Dirichlet(eta)).sum()
        return torch.xlogy(x, p.clamp(min=1e-300)).sum() - kl

    def posterior(self, x: Tensor, n_iter: int = 200) -> Tensor:
        r"""γ of new documents with the topics held fixed, shape (n, k), by at most ``n_iter`` updates."""
        _counts(x, width=self.components_.shape[1], like=self.components_)
        k, total = self.n_components, x.sum(1, keepdim=True)
        gamma, before = (self.doc_topic_prior + total / k).expand(-1, k), self.max_doc_update_iter
        for _ in range(-(-n_iter // before)):
            last, gamma = gamma, self.infer(x, self.components_, gamma)[0]
            if (gamma - last).abs().mean() < self.mean_change_tol:
                break
        return gamma

    def transform(self, x: Tensor) -> Tensor:
        r"""Expected shares of the topics in documents, shape (n, k)."""
        gamma = self.posterior(x)
        return gamma / gamma.sum(1, keepdim=True)

    def score(self, x: Tensor) -> float:
        r"""The bound on :math:`\log p(x)` of documents, in nats; as in scikit-learn, with the topics' KL once."""
        return self.bound(x, self.components_, self.posterior(x)).item()

    def perplexity(self, x: Tensor) -> float:
        r""":math:`e^{-\mathcal L / \text{words}}`: among how many equally likely words the model still wavers."""
        return float(torch.tensor(-self.score(x) / x.sum().item()).exp())

    def sample(
        self, n: int = 1, *, n_words: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Word counts of new documents of ``n_words`` words, shape (n, n_words of the vocabulary)."""
        options = {"doc_topic_prior": self.doc_topic_prior, "n_words": n_words}
        return sample_documents(self.topics_, n, **options, generator=generator)[0]
