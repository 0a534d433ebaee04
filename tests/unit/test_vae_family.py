"""The VAE's relatives against closed forms, enumeration, autograd and torch.distributions."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from lectool import data, random, train, vae
from lectool.metrics import squared_mmd
from lectool.nets import mlp


def bits(n, d, seed=0):
    source = torch.Generator().manual_seed(seed)
    return (torch.rand(n, d, generator=source) < 0.4).float()


# --- importance weights ---------------------------------------------------------------------------------------------


def linear_gaussian(kind, **extra):
    """x = W z + noise with an encoder that is not the exact posterior; and the exact log-density."""
    random.seed(0)
    W, sigma = torch.randn(5, 2), 0.8
    model = kind(
        nn.Linear(5, 4),
        nn.Linear(2, 5),
        vae.StandardNormal(2),
        likelihood=vae.Gaussian(sigma),
        **extra,
    )
    M = W.T @ W / sigma**2 + torch.eye(2)
    with torch.no_grad():
        model.decoder.weight.copy_(W)
        model.decoder.bias.zero_()
        model.encoder.weight.zero_()
        model.encoder.weight[:2] = torch.linalg.solve(M, W.T) / sigma**2
        model.encoder.bias.copy_(torch.tensor([0.1, -0.1, -0.6, -0.6]))
    exact = MultivariateNormal(torch.zeros(5), W @ W.T + sigma**2 * torch.eye(5))
    return model, exact


def test_bounds_grow_with_k_and_stay_below_the_truth():
    model, exact = linear_gaussian(vae.IWAE, k=5)
    x = exact.sample((400,))
    found = []
    with torch.no_grad():
        for k in (1, 5, 50):
            model.k = k
            values = torch.stack([-model.loss(x) for _ in range(60)])
            found.append((values.mean(), values.std() / 60**0.5))
    truth = exact.log_prob(x).mean()
    for (low, low_se), (high, high_se) in itertools.pairwise([*found, (truth, 0.0)]):
        assert low < high - 2 * (low_se + high_se)
    assert truth - found[-1][0] < 0.05


def test_iwae_loss_is_the_mean_bound_and_its_gradient_is_weighted():
    model, exact = linear_gaussian(vae.IWAE, k=7)
    x = exact.sample((3,))
    torch.manual_seed(1)
    loss = model.loss(x)
    torch.manual_seed(1)
    torch.testing.assert_close(loss, -model.elbo(x, 7).mean())
    p = list(model.encoder.parameters()) + list(model.decoder.parameters())
    whole = torch.autograd.grad(loss, p)
    torch.manual_seed(1)
    log_w = model.log_weights(x, 7)
    shares = (log_w.exp() / log_w.exp().sum(0)).detach()
    torch.testing.assert_close(vae.normalized_weights(log_w).detach(), shares)
    parts = torch.autograd.grad(-(shares * log_w).sum(0).mean(), p)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_effective_samples():
    log_w = torch.tensor([[0.0, 0.0], [0.0, -1e9], [0.0, -1e9], [0.0, -1e9]]) + 700
    torch.testing.assert_close(vae.effective_samples(log_w), torch.tensor([4.0, 1.0]))


@pytest.mark.parametrize("k", [0, -1])
def test_fewer_than_one_draw(k):
    with pytest.raises(ValueError, match=f"k is {k}; expected a finite number ≥ 1"):
        vae.IWAE.mlp([6, 4, 2], k=k)
    with pytest.raises(ValueError, match=f"k is {k}"):
        vae.HierarchicalVAE(6, [2], [4]).elbo(bits(3, 6), k)


@pytest.mark.parametrize("setting", [{"beta": 100.0}, {"warm_up": 5}, {"free_nats": 0.3}])
def test_a_setting_that_a_relative_has_no_use_for_is_named(setting):
    (name,) = setting
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        vae.IWAE.mlp([6, 4, 2], **setting)
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        vae.WAE.mlp([6, 4, 2], penalty=vae.MMDPenalty(), **setting)
    vae.ConditionalVAE.mlp([6, 4, 2], n_conditions=1, **setting)  # has


def test_negative_beta():
    with pytest.raises(ValueError, match="beta"):
        vae.VAE.mlp([6, 4, 2], beta=-1.0)
    with pytest.raises(ValueError, match="beta is -1"):
        vae.VQVAE(nn.Identity(), nn.Identity(), vae.VectorQuantizer(4, 2), beta=-1)


# --- conditional ----------------------------------------------------------------------------------------------------


def conditional_prior():
    random.seed(0)
    prior = vae.ConditionalNormal(3, 2).double()
    c = torch.eye(3, dtype=torch.float64)
    assert torch.equal(
        prior.kl_terms(vae.DiagonalGaussian(torch.zeros(3, 4).double()), c), torch.zeros(3, 2)
    )
    nn.init.normal_(prior.numbers.weight)
    nn.init.normal_(prior.numbers.bias)
    m, log_s2 = prior.numbers(c).detach().chunk(2, 1)
    return prior, c, Normal(m, (log_s2 / 2).exp())


def test_conditional_prior_is_torchs_gaussian():
    prior, c, p = conditional_prior()
    q = vae.DiagonalGaussian(torch.randn(3, 4, dtype=torch.float64))
    truth = kl_divergence(Normal(q.mean, q.variance.sqrt()), p)
    torch.testing.assert_close(prior.kl_terms(q, c), truth, atol=1e-6, rtol=0)
    z = torch.randn(5, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(prior.log_prob(z, c), p.log_prob(z).sum(-1))
    z = prior.sample(20000, c[1:2].expand(20000, -1), torch.Generator().manual_seed(0)).detach()
    torch.testing.assert_close(z.mean(0), p.mean[1], atol=0.05, rtol=0.05)
    torch.testing.assert_close(z.std(0), p.stddev[1], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("blind", [False, True])
def test_conditional_bound_is_tight_only_if_the_encoder_sees_the_condition(blind):
    # x = z + 2 c + noise: p(z | x, c) = N((x - 2 c) / (1 + v), v / (1 + v)), p(x | c) = N(2 c, 1 + v)
    v = 0.25
    model = vae.ConditionalVAE(
        nn.Linear(2, 2),
        nn.Linear(2, 1),
        vae.StandardNormal(1),
        likelihood=vae.Gaussian(v**0.5),
        blind=blind,
    )
    with torch.no_grad():
        model.decoder.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.decoder.bias.zero_()
        model.encoder.weight.copy_(torch.tensor([[1.0, -2.0], [0.0, 0.0]]) / (1 + v))
        model.encoder.bias.copy_(torch.tensor([0.0, math.log(v / (1 + v))]))
    c = torch.tensor([[-1.0], [1.0]]).repeat(100, 1)
    x = 2 * c + (1 + v) ** 0.5 * torch.randn(200, 1)
    exact = Normal(2 * c[:, 0], (1 + v) ** 0.5).log_prob(x[:, 0])
    gap = (exact - model.elbo(x, 200, c)).detach()  # with the exact posterior all weights are equal
    assert gap.abs().max() < 1e-4 if not blind else gap.mean() > 0.5


def test_missing_condition():
    model = vae.ConditionalVAE.mlp([6, 4, 2], n_conditions=3)
    with pytest.raises(ValueError, match="c is None; expected one row for each of 2"):
        model.loss(bits(2, 6))
    with pytest.raises(ValueError, match="x has 2, c has 3 rows"):
        model.loss(bits(2, 6), torch.zeros(3, 3))
    for without in (lambda: model.decode(torch.zeros(2, 2)), lambda: model.sample(2)):
        with pytest.raises(ValueError, match="c is None; expected one row for each code"):
            without()


# --- constrained ---------------------------------------------------------------------------------------------------


def test_the_code_says_what_it_may_and_the_price_is_that_of_the_exact_solution():
    # x ~ N(0, 2.5²), p(x | z) = N(w z, 1). At capacity C the best linear Gaussian code keeps D = 6.25 exp(-2 C) of x,
    # and one nat more would lower the cost D / 2 by the price: β = -d(D / 2) / dC = D.
    random.seed(0)
    x = 2.5 * torch.randn(4000, 1)
    variance = x.square().mean().item()
    prices = []
    for capacity in (0.3, 0.6):
        parts = nn.Linear(1, 2), nn.Linear(1, 1), vae.StandardNormal(1)
        model = vae.ConstrainedVAE(*parts, capacity=capacity, likelihood=vae.Gaussian(1.0))
        train.fit(model, x, steps=800, batch_size=200, lr=2e-2, schedule="linear")
        assert model.loss(x)["kl"].item() == pytest.approx(capacity, rel=0.1)
        prices.append(model.log_beta.exp().item())
        assert prices[-1] == pytest.approx(variance * math.exp(-2 * capacity), rel=0.15)
    assert prices[0] > prices[1]


def test_the_price_moves_in_training_by_its_formula_and_is_part_of_the_state():
    model = vae.ConstrainedVAE.mlp([6, 4, 2], capacity=0.5, rate=0.1)
    x = bits(20, 6)
    terms = model.loss(x)
    assert terms["beta"] == 1
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + terms["kl"])
    moved = 0.1 * (terms["kl"].item() / 0.5 - 1)
    assert model.state_dict()["log_beta"].item() == pytest.approx(moved, rel=1e-4)
    model.eval()
    terms = model.loss(x)
    assert model.log_beta.item() == pytest.approx(moved, rel=1e-4)
    torch.testing.assert_close(
        terms["loss"], terms["reconstruction"] + math.exp(moved) * terms["kl"]
    )
    for setting in ({"capacity": 0.0}, {"capacity": 1.0, "rate": 0.0}):
        with pytest.raises(ValueError, match="is 0"):
            vae.ConstrainedVAE.mlp([6, 2], **setting)
    with pytest.raises(TypeError, match="beta"):
        vae.ConstrainedVAE.mlp([6, 2], capacity=1.0, beta=4.0)


# --- Wasserstein ----------------------------------------------------------------------------------------------------


def test_point_posterior():
    q = vae.Point(torch.randn(3, 2))
    assert torch.equal(q.sample(), q.mean) and torch.equal(q.variance, torch.zeros(3, 2))
    assert vae.Point.n_outputs(5) == 5
    with pytest.raises(ValueError, match="no density"):
        q.log_prob(q.mean)
    model = vae.WAE.mlp([6, 8, 2], penalty=vae.MMDPenalty())
    assert isinstance(model.encode(bits(3, 6)), vae.Point)  # where no other family is named
    for k in (1, 5):
        with pytest.raises(ValueError, match="no density"):
            model.elbo(bits(3, 6), k)


def test_wae_loss_is_reconstruction_and_penalty():
    random.seed(0)
    x = bits(40, 6)
    model = vae.WAE.mlp([6, 8, 2], posterior=vae.Point, penalty=vae.MMDPenalty(), lam=3.0)
    torch.manual_seed(2)
    terms = model.loss(x)
    torch.manual_seed(2)
    z, z_prior = model.encode(x).mean, torch.randn(40, 2)
    widths = [(4 * s) ** 0.5 for s in (0.1, 0.5, 1.0, 2.0, 10.0)]
    mmd = squared_mmd(z, z_prior, kernel="imq", widths=widths)
    nll = F.binary_cross_entropy_with_logits(model.decoder(z), x, reduction="sum") / 40
    torch.testing.assert_close(terms["reconstruction"], nll)
    torch.testing.assert_close(terms["loss"], nll + 3 * mmd)
    plain = vae.WAE.mlp([6, 8, 2], posterior=vae.Point, penalty=vae.MMDPenalty(), lam=0)
    terms = plain.loss(x)
    torch.testing.assert_close(terms["loss"], terms["reconstruction"])
    against = vae.WAE.mlp([6, 8, 2], posterior=vae.Point, penalty=vae.CriticPenalty(2), lam=3.0)
    terms = against.loss(x)
    expected = terms["reconstruction"] + 3 * terms["penalty"] + terms["critic"]
    torch.testing.assert_close(terms["loss"], expected)  # λ does not weigh the critic's own cost


def test_critic_and_encoder_get_their_own_gradients():
    random.seed(0)
    penalty = vae.CriticPenalty(2, 8)
    z, z_prior = torch.randn(10, 2, requires_grad=True), torch.randn(10, 2)
    misled, wrong = penalty(z, z_prior)
    T, T_prior = penalty.critic(z), penalty.critic(z_prior)
    torch.testing.assert_close(misled, -F.logsigmoid(T).mean())
    torch.testing.assert_close(wrong, -F.logsigmoid(T_prior).mean() - F.logsigmoid(-T).mean())
    p = list(penalty.parameters())
    assert all(
        g is None for g in torch.autograd.grad(misled, p, allow_unused=True, retain_graph=True)
    )
    assert torch.autograd.grad(wrong, z, allow_unused=True, retain_graph=True) == (None,)
    (g,) = torch.autograd.grad(misled, z)
    (truth,) = torch.autograd.grad(-F.logsigmoid(T).mean(), z)
    torch.testing.assert_close(g, truth)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(wrong, p[:1]))


def test_mmd_pulls_codes_to_the_prior():
    random.seed(0)
    model = vae.WAE.mlp([6, 16, 2], posterior=vae.Point, penalty=vae.MMDPenalty(), lam=200.0)
    x = torch.rand(2000, 6)
    train.fit(model, x, steps=150, batch_size=100, lr=1e-2, schedule="linear")
    with torch.no_grad():
        z = model.encode(x).mean
    assert z.mean(0).abs().max() < 0.35 and (z.var(0) - 1).abs().max() < 0.5


def test_critic_learns_the_log_ratio():
    # log N(z; 0, 1) - log N(z; 1, 1) = 1/2 - z
    random.seed(0)
    penalty = vae.CriticPenalty(1, 16)

    def loss(z):
        return penalty(z + 1, torch.randn_like(z))[1]

    z = torch.randn(4000, 1)
    train.fit(penalty, z, steps=300, batch_size=500, lr=1e-2, schedule="linear", loss=loss)
    z = torch.linspace(-1, 2, 7)[:, None]
    torch.testing.assert_close(penalty.critic(z).detach(), 0.5 - z, atol=0.3, rtol=0)


@pytest.mark.parametrize("lam", [-1.0, float("nan"), float("inf")])
def test_bad_lambda(lam):
    with pytest.raises(ValueError, match="lam is"):
        vae.WAE.mlp([6, 4, 2], penalty=vae.MMDPenalty(), lam=lam)


# --- discrete -------------------------------------------------------------------------------------------------------


def discrete(**extra):
    random.seed(0)
    return vae.DiscreteVAE(mlp([6, 8, 6]), mlp([6, 8, 6]), 2, 3, **extra).double()


def gradient_of(model, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def test_exact_terms_by_enumeration():
    model, x = discrete(estimator="exact"), bits(4, 6).double()
    q = Categorical(logits=model.encoder(x).reshape(4, 2, 3))
    kl = kl_divergence(q, Categorical(torch.ones(4, 2, 3).double())).sum(1)
    torch.testing.assert_close(model.kl(model.encode(x)), kl, atol=1e-9, rtol=0)
    expected, evidence = 0.0, 0.0
    for code in itertools.product(range(3), repeat=2):
        z = F.one_hot(torch.tensor(code), 3).double().flatten().expand(4, -1)
        log_x = -F.binary_cross_entropy_with_logits(model.decoder(z), x, reduction="none").sum(1)
        weight = q.log_prob(torch.tensor(code).expand(4, 2)).sum(1).exp()
        expected, evidence = expected - weight * log_x, evidence + log_x.exp() / 9
    terms = model.loss(x)
    torch.testing.assert_close(terms["loss"], (expected + kl).mean())
    bound = model.elbo(x, 4000)
    torch.testing.assert_close(bound, (-expected - kl).detach(), atol=0.1, rtol=0)
    assert (bound < evidence.log()).all()
    torch.manual_seed(1)
    bound = model.elbo(x, 5)
    torch.manual_seed(1)
    z = model.draw(model.encode(x), 5)
    assert z.shape == (5, 4, 2, 3) and torch.equal(z.sum(-1), torch.ones(5, 4, 2).double())
    a, many = model.decoder(z.flatten(2)), x.expand(5, -1, -1)
    log_x = -F.binary_cross_entropy_with_logits(a, many, reduction="none").sum(2)
    torch.testing.assert_close(bound, (log_x.mean(0) - kl).detach())


def test_codes_are_read_off_the_likeliest_categories_and_drawn_from_the_uniform_prior():
    model = vae.DiscreteVAE(nn.Linear(6, 6), nn.Linear(6, 6), 2, 3)
    with torch.no_grad():
        for net, scale in ((model.encoder, 1.0), (model.decoder, 40.0)):
            net.weight.copy_(scale * torch.eye(6))
            net.bias.fill_(-scale / 2)
    x = torch.tensor([[0.2, 0.9, 0.1, 0.3, 0.2, 0.6]])
    codes = torch.tensor([[0.0, 1, 0, 0, 0, 1]])
    torch.testing.assert_close(model.reconstruct(x), codes, atol=1e-6, rtol=0)
    drawn = model.sample(9000, torch.Generator().manual_seed(0)).round()
    which = drawn[:, :3].argmax(1) * 3 + drawn[:, 3:].argmax(1)
    shares = torch.bincount(which, minlength=9) / 9000
    torch.testing.assert_close(shares, torch.full((9,), 1 / 9), atol=0.015, rtol=0)


@pytest.mark.parametrize(("baseline", "n_draws"), [(None, 1), ("mean", 1), ("others", 3)])
def test_reinforce_is_unbiased(baseline, n_draws):
    model, x = (
        discrete(estimator="reinforce", baseline=baseline, n_draws=n_draws),
        bits(1, 6).double(),
    )
    model.estimator = "exact"
    truth = gradient_of(model, model.loss(x)["loss"])
    model.estimator = "reinforce"
    model.train()
    model.loss(x)  # gives the running mean a first value
    model.eval()
    found = torch.stack(
        [gradient_of(model, model.loss(x.expand(50, -1))["loss"]) for _ in range(250)]
    )
    standard_error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - truth).abs() < 4.5 * standard_error + 1e-9).all()


def test_a_baseline_lowers_the_variance():
    x, spread = bits(1, 6).double(), {}
    for baseline, n_draws in ((None, 2), ("mean", 2), ("others", 2)):
        model = discrete(estimator="reinforce", baseline=baseline, n_draws=n_draws)
        model.loss(x.expand(50, -1))
        model.eval()
        torch.manual_seed(1)
        found = torch.stack([gradient_of(model, model.loss(x)["loss"]) for _ in range(150)])
        spread[baseline] = found.var(0).sum()
    assert spread["mean"] < 0.5 * spread[None] and spread["others"] < 0.5 * spread[None]


def test_running_mean_uses_earlier_batches_only():
    model, x = discrete(estimator="reinforce", baseline="mean"), bits(5, 6).double()
    first = model.usual(torch.full((1, 5), 3.0))
    second = model.usual(torch.full((1, 5), 9.0))
    assert first == 0 and second == 3 and model.mean_cost == 6
    model.eval()
    model.loss(x)
    assert model.mean_cost == 6
    model.train()
    for _ in range(40):
        model.usual(torch.full((1, 5), 6.0))
    model.usual(torch.full((1, 5), 26.0))
    assert model.mean_cost == 7  # old batches fade: the last one counts a twentieth


def test_loss_value_is_not_touched_by_the_score_term():
    model, x = discrete(estimator="reinforce", baseline="mean"), bits(5, 6).double()
    terms = model.loss(x)
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + terms["kl"])


def test_gumbel_draws_have_the_right_frequencies():
    q = torch.tensor([0.5, 0.3, 0.15, 0.05])
    source = torch.Generator().manual_seed(0)
    z = vae.gumbel_softmax(q.log().expand(20000, -1), 0.3, generator=source)
    torch.testing.assert_close(z.sum(1), torch.ones(20000))
    torch.testing.assert_close(
        torch.bincount(z.argmax(1)) / 20000, q, atol=4 * 0.5 / 20000**0.5, rtol=0
    )


def test_straight_through_has_the_relaxed_gradient():
    log_q = torch.randn(4, 3, dtype=torch.float64).log_softmax(1).requires_grad_()
    weights = torch.randn(4, 3, dtype=torch.float64)
    soft = vae.gumbel_softmax(log_q, 0.7, generator=torch.Generator().manual_seed(0))
    hard = vae.gumbel_softmax(log_q, 0.7, hard=True, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hard.detach().round(), F.one_hot(soft.argmax(1), 3).double())
    (a,) = torch.autograd.grad((soft * weights).sum(), log_q)
    (b,) = torch.autograd.grad((hard * weights).sum(), log_q)
    torch.testing.assert_close(a, b)
    u = torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(soft, ((log_q - (-u.log()).log()) / 0.7).softmax(1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"estimator": "magic"},
        {"baseline": "best"},
        {"estimator": "reinforce", "baseline": "others", "n_draws": 1},
        {"tau": 0.0},
        {"n_draws": 0},
    ],
)
def test_bad_discrete_settings(wrong):
    with pytest.raises(ValueError, match="is "):
        discrete(**wrong)


@pytest.mark.parametrize(
    ("estimator", "setting"),
    [
        ("gumbel", {"baseline": "mean"}),
        ("exact", {"baseline": "others", "n_draws": 2}),
        ("exact", {"n_draws": 2}),
        ("exact", {"tau": 0.5}),
        ("reinforce", {"tau": 0.5}),
    ],
)
def test_an_estimator_names_the_setting_that_it_has_no_use_for(estimator, setting):
    name = next(iter(setting))
    with pytest.raises(ValueError, match=f"{name} is .*'{estimator}' has no use for it"):
        discrete(estimator=estimator, **setting)


def test_the_temperature_is_part_of_the_state():
    model = discrete(tau=0.5)
    assert model.tau == 0.5
    model.tau = 0.25
    again = discrete()
    again.load_state_dict(model.state_dict())
    assert again.tau == 0.25
    with pytest.raises(ValueError, match="tau is 0"):
        model.tau = 0.0


def test_too_many_codes_to_enumerate():
    model = vae.DiscreteVAE(nn.Linear(6, 40), nn.Linear(40, 6), 10, 4, estimator="exact")
    with pytest.raises(ValueError, match="at most 4096"):
        model.loss(bits(2, 6))


def vq(n_codes=4):
    return vae.VQVAE(
        nn.Unflatten(1, (2, 3, 1)), nn.Flatten(), vae.VectorQuantizer(n_codes, 2, restart=False)
    )


@pytest.mark.parametrize(
    ("make", "methods"),
    [
        (lambda: discrete().float(), ["loss", "elbo", "encode", "reconstruct"]),
        (lambda: vae.HierarchicalVAE(6, [2], [4]), ["loss", "elbo", "encode", "log_ratios"]),
        (lambda: vae.TopDownVAE(6, [2], 4), ["loss", "elbo", "features"]),
        (vq, ["loss", "encode", "reconstruct", "quantize", "usage"]),
        (lambda: vae.IWAE.mlp([6, 4, 2]), ["loss", "elbo", "log_prob", "encode", "reconstruct"]),
        (
            lambda: vae.WAE.mlp([6, 4, 2], penalty=vae.MMDPenalty()),
            ["loss", "encode", "reconstruct"],
        ),
    ],
)
def test_data_outside_the_unit_interval(make, methods):
    model = make()
    for method in methods:
        for wrong in (bits(3, 6) * 2, bits(3, 6) - 0.5):
            with pytest.raises(ValueError, match=r"expected \[0"):
                getattr(model, method)(wrong)


def test_data_outside_the_unit_interval_where_more_than_data_is_asked_for():
    wrong, c = bits(3, 6) * 2, torch.zeros(3, 1)
    conditional = vae.ConditionalVAE.mlp([6, 4, 2], n_conditions=1)
    model = discrete().float()
    log_q = model.encode(bits(3, 6))
    for call in (
        lambda: conditional.loss(wrong, c),
        lambda: conditional.encode(wrong, c),
        lambda: vae.TopDownVAE(6, [2], 4).resample(wrong, 1),
        lambda: model.expected_cost(wrong, log_q),
        lambda: model.cost(wrong, model.draw(log_q)),
    ):
        with pytest.raises(ValueError, match=r"expected \[0"):
            call()


# --- vector quantization --------------------------------------------------------------------------------------------


def test_quantizer_takes_the_nearest_and_passes_gradients_on():
    random.seed(0)
    quantizer = vae.VectorQuantizer(6, 3, decay=None, restart=False)
    z = torch.randn(20, 3, requires_grad=True)
    e, indices, to_code, to_vector = quantizer(z)
    far = torch.cdist(z, quantizer.codebook)
    assert torch.equal(indices, far.argmin(1))
    torch.testing.assert_close(e, quantizer.codebook[indices])
    torch.testing.assert_close(to_code, far.min(1).values.square(), atol=1e-5, rtol=1e-4)
    weights = torch.randn(20, 3)
    (g,) = torch.autograd.grad((e * weights).sum(), z, retain_graph=True)
    torch.testing.assert_close(g, weights)
    assert torch.autograd.grad(
        to_code.sum(), quantizer.codebook, allow_unused=True, retain_graph=True
    ) == (None,)
    assert torch.autograd.grad(to_vector.sum(), z, allow_unused=True, retain_graph=True) == (None,)
    (g,) = torch.autograd.grad(to_code.sum(), z)
    torch.testing.assert_close(g, 2 * (z - quantizer.codebook[indices]).detach())
    (g,) = torch.autograd.grad(to_vector.sum(), quantizer.codebook)
    pulls = torch.zeros(6, 3).index_add_(0, indices, 2 * (quantizer.codebook[indices] - z).detach())
    torch.testing.assert_close(g, pulls)


def test_moving_averages_follow_the_formula_and_end_at_the_means():
    random.seed(0)
    quantizer = vae.VectorQuantizer(3, 2, decay=0.9, restart=False)
    centers = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    with torch.no_grad():
        quantizer.codebook.copy_(centers + 1)
    z = centers.repeat_interleave(50, 0) + torch.randn(150, 2)
    _, indices, *_ = quantizer(z)
    counts = 0.1 * torch.bincount(indices, minlength=3).float()
    torch.testing.assert_close(quantizer.counts, counts)
    first = torch.stack([z[indices == j].mean(0) for j in range(3)])
    torch.testing.assert_close(
        quantizer.codebook.data, first
    )  # from 0, the first average is the mean
    other = z + 0.5
    _, second, *_ = quantizer(other)
    sums = 0.9 * 0.1 * torch.stack([z[indices == j].sum(0) for j in range(3)])
    sums += 0.1 * torch.stack([other[second == j].sum(0) for j in range(3)])
    counts = 0.9 * counts + 0.1 * torch.bincount(second, minlength=3)
    torch.testing.assert_close(quantizer.codebook.data, sums / counts[:, None])


def test_restart_starts_from_data_and_revives_dead_codes():
    random.seed(0)
    z = 100 + torch.randn(500, 2)
    lost = vae.VectorQuantizer(16, 2, restart=False)
    found = vae.VectorQuantizer(16, 2, restart=True)
    for _ in range(50):
        lost(z)
        found(z)
    lost.eval(), found.eval()
    assert len(lost(z)[1].unique()) <= 2
    assert len(found(z)[1].unique()) == 16
    with torch.no_grad():
        found.codebook[0] = -1e4
        found.sums[0], found.counts[0] = found.codebook[0] * 1e-3, 1e-3
    found.train()
    found(z)
    assert (found.codebook[0] - 100).abs().max() < 10
    before = found.codebook.clone()
    found.eval()
    found(z - 50)
    assert torch.equal(before, found.codebook)


@pytest.mark.parametrize(("count", "dead"), [(0.02, False), (0.005, True)])
def test_a_code_is_dead_below_a_hundredth_of_the_mean_use(count, dead):
    random.seed(0)
    quantizer = vae.VectorQuantizer(3, 2, decay=0.99, restart=True)
    with torch.no_grad():
        quantizer.codebook.copy_(torch.tensor([[0.0, 0.0], [6.0, 0.0], [90.0, 90.0]]))
        quantizer.counts.copy_(torch.tensor([1.0, 1.0, count]))
        quantizer.sums.copy_(quantizer.codebook * quantizer.counts[:, None])
        quantizer.started.fill_(True)
    z = torch.tensor([[0.0, 0.0], [6.0, 0.0]])
    quantizer(z)
    moved = (quantizer.codebook[2] - 90).abs().max() > 1e-3
    assert moved == dead
    assert not dead or (quantizer.codebook[2] == z).all(1).any()


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("n", [1, 5])
def test_a_codebook_survives_a_first_batch_of_fewer_vectors_than_codes(n, size):
    random.seed(0)
    quantizer = vae.VectorQuantizer(8, size)
    first = torch.randn(n, size)
    quantizer(first)
    assert quantizer.codebook.isfinite().all() and quantizer.sums.isfinite().all()
    near = torch.cdist(quantizer.codebook, first).min(1)
    assert near.values.max() < 0.2
    if n > 1:
        assert len(near.indices.unique()) == n  # every vector is taken
    for _ in range(300):
        e, indices, *_ = quantizer(torch.randn(64, size))
    assert e.isfinite().all()
    assert vae.perplexity(indices, 8) > 4


def test_a_codebook_starts_from_vectors_that_differ():
    random.seed(0)
    quantizer, first = vae.VectorQuantizer(20, 2), 100 * torch.randn(20, 2)
    quantizer.start(first)
    assert len(torch.cdist(quantizer.codebook, first).argmin(1).unique()) == 20


def test_reading_codes_off_teaches_the_codebook_nothing():
    random.seed(0)
    encoder = nn.Unflatten(1, (2, 3, 1))
    model = vae.VQVAE(encoder, nn.Flatten(), vae.VectorQuantizer(4, 2))
    x = bits(5, 6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    codes = model.encode(x)
    model.reconstruct(x)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(codes, model.eval().quantize(x)[1])


@given(st.lists(st.integers(0, 7), min_size=1, max_size=60))
@settings(deadline=None, max_examples=60)
def test_perplexity_lies_between_1_and_the_number_of_codes(values):
    indices = torch.tensor(values)
    p = vae.perplexity(indices, 8).item()
    used = len(set(values))
    assert 1 - 1e-9 <= p <= used + 1e-9
    frequencies = torch.bincount(indices, minlength=8) / len(values)
    assert p == pytest.approx(Categorical(frequencies.double()).entropy().exp().item())


def test_vqvae_terms_and_collapse():
    random.seed(0)
    encoder, decoder = vae.grid_networks(8, 4)
    model = vae.VQVAE(
        encoder, decoder, vae.VectorQuantizer(16, 4, decay=None, restart=False), beta=0.5
    )
    x = bits(12, 784)
    terms = model.loss(x)
    z = encoder(x).permute(0, 2, 3, 1)
    e = model.quantizer.codebook[model.encode(x)]
    distance = (z - e).square().sum((1, 2, 3)).mean()
    nll = (
        F.binary_cross_entropy_with_logits(decoder(e.permute(0, 3, 1, 2)), x, reduction="sum") / 12
    )
    torch.testing.assert_close(terms["reconstruction"], nll)
    torch.testing.assert_close(terms["commitment"], distance)
    torch.testing.assert_close(terms["loss"], nll + 1.5 * distance)
    torch.testing.assert_close(model.reconstruct(x), model.decode(model.encode(x)))
    assert model.encode(x).shape == (12, 7, 7)
    with torch.no_grad():
        model.quantizer.codebook[1:] += 1e3
    with pytest.warns(UserWarning, match=r"collapsed: perplexity 1\.0 of 16"):
        assert model.usage(x) == {"perplexity": pytest.approx(1.0), "share": 1 / 16}


@pytest.mark.parametrize(("arguments", "name"), [((1, 2), "n_codes is 1"), ((4, 0), "size is 0")])
def test_bad_codebook(arguments, name):
    with pytest.raises(ValueError, match=name):
        vae.VectorQuantizer(*arguments)
    with pytest.raises(ValueError, match="decay is 1"):
        vae.VectorQuantizer(4, 2, decay=1.0)


def test_code_prior_is_a_distribution_and_causal():
    random.seed(0)
    prior = vae.CodePrior(3, (2, 2), width=8).double()
    grids = torch.tensor(list(itertools.product(range(3), repeat=4))).reshape(-1, 2, 2)
    p = prior.log_prob(grids).exp()
    assert p.sum().item() == pytest.approx(1.0)
    drawn = prior.sample(6000)
    seen = (
        torch.bincount((drawn.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1), minlength=81) / 6000
    )
    assert (seen - p).abs().max() < 0.03
    wide = vae.CodePrior(5, (4, 5), width=8)
    nn.init.normal_(wide.place)
    base = torch.randint(5, (1, 4, 5))
    before = wide.logits(base)
    reached = torch.zeros(20)
    for i in range(20):
        changed = base.clone()
        changed.view(-1)[i] = (changed.view(-1)[i] + 1) % 5
        moved = (wide.logits(changed) - before).abs().sum(1).flatten() > 1e-7
        assert not moved[: i + 1].any()
        reached += moved
    assert (reached[1:] > 0).all()


def test_code_prior_learns_a_rule():
    random.seed(0)
    first = torch.randint(4, (600, 1, 1))
    grids = (first + torch.arange(9).reshape(1, 3, 3)) % 4  # one free choice, all else follows
    prior = vae.CodePrior(4, (3, 3), width=16)
    train.fit(prior, grids, steps=100, batch_size=100, lr=1e-2)
    assert prior.loss(grids).item() == pytest.approx(math.log(4), abs=0.15)
    drawn = prior.sample(50)
    assert (
        (drawn == (drawn[:, :1, :1] + torch.arange(9).reshape(1, 3, 3)) % 4).float().mean()
    ) > 0.95


def test_bad_codes():
    prior = vae.CodePrior(4, (3, 3), width=8)
    for wrong in (torch.zeros(2, 2, 3, dtype=torch.int64), torch.zeros(2, 3, 3)):
        with pytest.raises(ValueError, match="expected integers of shape"):
            prior.log_prob(wrong)
    with pytest.raises(ValueError, match=r"lie in \[0, 4\]; expected 0 … 3"):
        prior.log_prob(torch.tensor([[[0, 1, 2], [3, 4, 0], [0, 0, 0]]]))
    with pytest.raises(ValueError, match="n_codes"):
        vae.CodePrior(1)


# --- layers ---------------------------------------------------------------------------------------------------------


def test_layers_agree_with_closed_forms():
    random.seed(0)
    model = vae.HierarchicalVAE(6, [2, 3], [4, 4]).double()
    for net in [*model.up, *model.down]:
        nn.init.zeros_(net[-1].weight)  # distributions that no longer depend on anything
        nn.init.normal_(net[-1].bias, std=0.5)
    x = bits(5, 6).double()
    log_x, kl = model.log_ratios(x, 5000)
    assert log_x.shape == (5000, 5) and kl.shape == (2, 5000, 5)

    def gaussian(net):
        m, log_v = net[-1].bias.detach().chunk(2)
        return Normal(m, (log_v / 2).exp())

    truth = [
        kl_divergence(gaussian(model.up[0]), gaussian(model.down[1])).sum(),
        kl_divergence(gaussian(model.up[1]), Normal(torch.zeros(3).double(), 1.0)).sum(),
    ]
    for layer in range(2):
        assert kl[layer].mean().item() == pytest.approx(truth[layer].item(), abs=0.06)
    exact = -F.binary_cross_entropy_with_logits(
        model.down[0][-1].bias.expand(5, -1), x, reduction="none"
    ).sum(1)
    torch.testing.assert_close(model.elbo(x, 5000), exact, atol=0.15, rtol=0)
    bound = torch.stack([model.elbo(x) for _ in range(400)]).mean(0)
    torch.testing.assert_close(bound, exact - sum(truth), atol=0.4, rtol=0)


def test_layers_are_drawn_one_from_the_other():
    random.seed(0)
    model = vae.HierarchicalVAE(6, [2, 2], [4, 4]).double()
    x = bits(5, 6).double()
    with torch.no_grad():
        for net in [*model.up, model.down[1]]:
            net[-1].bias[2:] = -60.0  # no variance: each draw is a mean
            net[-1].weight[2:] = 0.0
        z = model.encode(x)
        torch.testing.assert_close(z[0], model.up[0](x)[:, :2])
        torch.testing.assert_close(z[1], model.up[1](z[0])[:, :2])
        found = model.sample(7, torch.Generator().manual_seed(1))
        source = torch.Generator().manual_seed(1)
        top = torch.randn(7, 2, dtype=torch.float64, generator=source)
        expected = torch.sigmoid(model.down[0](model.down[1](top)[:, :2]))
        torch.testing.assert_close(found, expected)


def test_one_layer_is_the_plain_vae():
    random.seed(0)
    model = vae.HierarchicalVAE(6, [2], [4])
    plain = vae.VAE(model.up[0], model.down[0], vae.StandardNormal(2))
    x = bits(30, 6)
    torch.testing.assert_close(model.elbo(x, 3000), plain.elbo(x, 3000), atol=0.05, rtol=0)


@given(*(st.integers(-200, 200) for _ in range(4)))
@settings(deadline=None, max_examples=60)
def test_residual_kl_is_torchs(a, b, c, d):
    shift, log_r, log_sigma, mean = (v / 100 for v in (a, b, c, d))
    p = Normal(torch.tensor(mean).double(), math.exp(log_sigma))
    q = Normal(torch.tensor(mean + shift).double(), math.exp(log_sigma + log_r))
    found = vae.residual_kl(*(torch.tensor(v).double() for v in (shift, log_r, log_sigma)))
    torch.testing.assert_close(found, kl_divergence(q, p), atol=1e-6, rtol=1e-6)


def test_top_down_bound_by_hand():
    random.seed(0)
    model = vae.TopDownVAE(6, [2, 3], 5)
    x = bits(4, 6)
    assert all((net(torch.randn(2, 5)) == 0).all() for net in model.prior)  # N(0, I) at first
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    torch.manual_seed(3)
    bound = model.elbo(x)
    torch.manual_seed(3)
    h = [model.first(x)]
    for net in model.up:
        h.append(h[-1] + net(h[-1].clamp(min=0)))
    h, s, total = h[1:], model.start.expand(4, -1), 0.0
    for layer, k in ((1, 3), (0, 2)):
        mean, log_sigma = model.prior[layer](s).chunk(2, 1)
        shift, log_r = model.residual[layer](torch.cat([s, h[layer]], 1)).chunk(2, 1)
        p, q = Normal(mean, log_sigma.exp()), Normal(mean + shift, (log_sigma + log_r).exp())
        z = q.mean + q.stddev * torch.randn(4, k)
        total = total + kl_divergence(q, p).sum(1)
        s = s + model.update[layer](torch.cat([s, z], 1))
    log_x = -F.binary_cross_entropy_with_logits(model.last(F.relu(s)), x, reduction="none").sum(1)
    torch.testing.assert_close(bound, log_x - total)
    terms = model.loss(x)
    torch.testing.assert_close(
        terms["loss"], terms["reconstruction"] + terms["kl 1"] + terms["kl 2"]
    )
    assert all(
        g is not None for g in torch.autograd.grad(model.loss(x)["loss"], list(model.parameters()))
    )


def test_lower_layers_can_be_drawn_anew():
    random.seed(0)
    model = vae.TopDownVAE(6, [2, 3], 5)
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)
    x = bits(4, 6)
    _, kls = model.descend(4, model.features(x), n_prior=1)
    assert kls[0].abs().max() == 0 and kls[1].min() > 0
    assert model.resample(x, 2).shape == model.sample(4).shape == (4, 6)
    with pytest.raises(ValueError, match="n_prior is 3"):
        model.resample(x, 3)


@pytest.mark.parametrize(
    "kind", [vae.HierarchicalVAE, lambda d, s, w: vae.TopDownVAE(d, s, w[0] if w else 4)]
)
def test_bad_layers(kind):
    for sizes, widths, name in (([], [], "n_layers is 0"), ([2, 0], [4, 4], r"sizes\[1\] is 0")):
        with pytest.raises(ValueError, match=name):
            kind(6, sizes, widths)
    with pytest.raises(ValueError, match="sizes has 2, widths has 1 rows"):
        vae.HierarchicalVAE(6, [2, 2], [4])


# --- disentanglement ------------------------------------------------------------------------------------------------


def grid():
    return torch.cartesian_prod(torch.arange(4), torch.arange(3))


def test_mig_of_ideal_blind_and_turned_codes():
    factors = grid()
    z = torch.cat([factors.double(), torch.zeros(12, 1).double()], 1)
    s = torch.full_like(z, 0.05)
    s[:, 2] = 1.0
    information, entropy = vae.factor_information(z, s, factors)
    torch.testing.assert_close(entropy, torch.tensor([4.0, 3.0]).double().log())
    truth = torch.zeros(3, 2).double()
    truth[0, 0], truth[1, 1] = entropy
    torch.testing.assert_close(information, truth, atol=1e-3, rtol=0)
    assert vae.mutual_information_gap(z, s, factors).item() == pytest.approx(1.0, abs=1e-3)
    assert vae.mutual_information_gap(z[:, [0, 0, 1]], s, factors).item() < 0.6  # one factor twice
    turned = torch.stack([z[:, 0] + z[:, 1], z[:, 0] - z[:, 1]], 1)
    assert vae.mutual_information_gap(turned, s[:, :2], factors).item() < 0.3


def test_information_of_two_overlapping_gaussians():
    points = torch.linspace(-12, 12, 200001, dtype=torch.float64)
    densities = torch.stack([Normal(m, 1.3).log_prob(points).exp() for m in (-1.0, 1.5)])
    step = (points[1] - points[0]).item()
    mixture = densities.mean(0)
    truth = sum(0.5 * step * (p * (p / mixture).log()).nansum() for p in densities)
    mean = torch.tensor([[-1.0, 0.0], [1.5, 0.0]])
    found, _ = vae.factor_information(mean, torch.full((2, 2), 1.3), torch.tensor([[0], [1]]))
    assert found[0, 0].item() == pytest.approx(truth.item(), abs=1e-5)
    assert found[1, 0].item() == pytest.approx(0.0, abs=1e-9)


def test_bad_codes_for_the_gap():
    z, s, factors = torch.zeros(12, 2), torch.ones(12, 2), grid()
    for wrong in (
        (z, s[:5], factors),
        (z, 0 * s, factors),
        (z, s, factors[:5]),
        (z, s, factors[:, 0]),
        (z, s, factors[:, :0]),
    ):
        with pytest.raises(ValueError, match="expected"):
            vae.mutual_information_gap(*wrong)
    with pytest.raises(ValueError, match="integers"):
        vae.mutual_information_gap(z, s, factors.float())
    with pytest.raises(ValueError, match="at least 2 code numbers"):
        vae.mutual_information_gap(z[:, :1], s[:, :1], factors)


def test_a_factor_that_never_varies_has_no_share_in_the_gap():
    factors, z = grid(), grid().float()
    s = torch.full_like(z, 0.05)
    constant = torch.cat([factors, torch.full((12, 1), 2)], 1)
    found = vae.mutual_information_gap(z, s, constant)
    assert found == vae.mutual_information_gap(z, s, factors)
    information, entropy = vae.factor_information(z, s, constant)
    assert entropy[2] == 0 and information[:, 2].abs().max() < 1e-3
    with pytest.raises(ValueError, match="factors are constant over 12 samples"):
        vae.mutual_information_gap(z, s, constant[:, 2:])


# --- shapes ---------------------------------------------------------------------------------------------------------


def test_shapes_show_their_factors():
    x, factors = data.shapes(20)
    assert x.shape == (960, 400) and factors.shape == (960, 4) and x.dtype == torch.float32
    assert 0 <= x.min() and x.max() <= 1 and len(factors.unique(dim=0)) == 960
    image = x.reshape(-1, 20, 20)
    mass = image.sum((1, 2))
    axis = torch.linspace(-1, 1, 20)
    column, row = (image.sum(1) @ axis) / mass, (image.sum(2) @ axis) / mass
    for value, factor in ((column, factors[:, 0]), (row, factors[:, 1]), (mass, factors[:, 2])):
        corr = torch.corrcoef(torch.stack([value, factor.float()]))[0, 1]
        assert corr > 0.95
    wide = (image.sum(1) * (axis - column[:, None]) ** 2).sum(1) / mass
    high = (image.sum(2) * (axis - row[:, None]) ** 2).sum(1) / mass
    assert torch.equal(wide > high, factors[:, 3] == 1) or torch.equal(
        wide < high, factors[:, 3] == 1
    )
    with pytest.raises(ValueError, match="size is 7"):
        data.shapes(7)
