r"""The runs, in the order of their worth: each is a paper's model, trained and measured as there.

What differs from the paper stands in the first lines of each. Where time is limited the step sizes fall with the time,
so that a short run ends with small steps; where it is not, with the paper's number of passes.
"""

import math
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lectool import autoencoders, boltzmann, data, flows, gan, nets, random, vae, zoo
from lectool.flows.images import conv_coupling
from lectool.full.core import Run, Session
from lectool.pca import PCA
from lectool.published import BITS, LOG_P
from lectool.record import adam

__all__ = ["RUNS"]


# ------------------------------------------------------------------------------------------------- chapter 09


class SalakhutdinovMurray(Run):
    r"""An RBM of 500 hidden units, trained by CD-25; its log Z by annealed importance sampling.

    As in the paper: 784 binary pixels, batches of 100, and for AIS 100 chains through 14,500 temperatures from a
    machine with the pixels' base rates. Ours: pixels are drawn anew each time they are used; 25 Gibbs steps from the
    beginning; plain gradient steps that fall linearly from 0.2, 100 passes.
    """

    name = "rbm"
    alt = "Digits that the machine draws after a thousand rounds of Gibbs sampling."

    def build(self, s: Session) -> nn.Module:
        rbm = boltzmann.RBM(784, s.pick(500, 30), n_gibbs=s.pick(25, 2), sd=0.01)
        rbm.start_at(s.digits().x_train)
        return rbm

    def train(self, s: Session, model: Any) -> Any:
        def loss(x: Tensor) -> Tensor:
            return model.loss(random.bernoulli(x))

        settings = {"batch_size": 100, "lr": 0.2, "schedule": "linear", "loss": loss}
        epochs = s.pick(100, 2)
        s.fit(model, s.digits().x_train, epochs=epochs, optimizer=torch.optim.SGD, **settings)
        return model.requires_grad_(False)

    def measure(self, s: Session, model: Any) -> dict[str, float]:
        digits = s.digits()
        base = digits.x_train.mean(0).clamp(0.01, 0.99).logit().to(s.device)

        def estimate(n: int) -> float:
            # The paper's spacing: 500 up to 0.5, 4,000 up to 0.9, 10,000 up to 1.
            ends, counts = (0.0, 0.5, 0.9, 1.0), (n // 29 + 1, 8 * n // 29 + 1, 20 * n // 29 + 1)
            pieces = [torch.linspace(a, b, m + 1)[:-1] for a, b, m in zip(ends, ends[1:], counts)]
            betas = torch.cat([*pieces, torch.ones(1)])
            source = random.generator(s.seed, s.device)
            annealing = {"n_temperatures": betas, "base": base, "generator": source}
            return boltzmann.ais(model, **annealing).log_z.item()

        log_z = estimate(s.affordable(estimate, s.pick(14_500, 30)))
        bits = random.bernoulli(digits.x_test, random.generator(1))
        log_p = [model.log_prob(v, log_z) for (v,) in s.test(bits, size=1000)]
        return {"−log p by AIS, nats": -torch.cat(log_p).mean().item()}

    def picture(self, s: Session, model: Any) -> Tensor:
        return model.visible_given_hidden(model.draw_hidden(model.sample(40, s.pick(1000, 5))))


# ---------------------------------------------------------------------------------------- chapters 11 and 12


class Burda(Run):
    r"""VAEs and IWAEs of one or two layers of codes; −log p by 5,000 draws for each test image.

    As in the paper: tanh networks 784–200–200–50, or 784–200–200–100 and 100–100–100–50, Glorot's weights, the last
    bias at the mean image, pixels drawn anew each time they are used, Adam with ε = 10⁻⁴, batches of 20, and step sizes
    of 10⁻³ · 10^(−i/7) for 3^i passes, i = 0 … 7, 3,280 passes in all. Ours: the test images are one draw of their
    pixels; where time is limited, batches have 200 images and the steps are twice as large.
    """

    alt = "Means of digits that the decoder makes of codes drawn from the prior."

    def __init__(self, name: str, layers: int, k: int):
        self.name, self.layers, self.k = name, layers, k

    def build(self, s: Session) -> nn.Module:
        wide = s.pick(200, 20)
        if self.layers == 1:
            model = vae.VAE.mlp([784, wide, wide, 50])
            last = model.decoder[-1]
        else:
            model = vae.HierarchicalVAE(784, [wide // 2, 50], [wide, wide // 2])
            last = model.down[0][-1]
        for part in model.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
            for name, each in list(part.named_children()):
                if isinstance(each, nn.ReLU):
                    setattr(part, name, nn.Tanh())
        last.bias.data = s.digits().x_train.mean(0).clamp(1e-3, 1 - 1e-3).logit()
        return model

    def train(self, s: Session, model: Any) -> Any:
        def loss(x: Tensor) -> Any:
            x = vae.binarize(x)
            return model.loss(x) if self.k == 1 else -model.elbo(x, s.pick(self.k, 3)).mean()

        def falling(done: float) -> float:
            # After 1 + 3 + … + 3^(i-1) = (3^i − 1) / 2 passes of 3,280 begins the i-th stage.
            return 10 ** (-math.floor(math.log(2 * 3280 * done + 1, 3)) / 7)

        size, lr = (200, 2e-3) if s.limited or s.smoke else (20, 1e-3)
        settings = {"batch_size": size, "lr": lr, "schedule": falling, "loss": loss}
        x, optimizer = s.digits().x_train, partial(adam, eps=1e-4)
        s.fit(model, x, epochs=s.pick(3280, 2), optimizer=optimizer, **settings)
        return model

    def measure(self, s: Session, model: Any) -> dict[str, float]:
        x, n, chunk = (
            vae.binarize(s.digits().x_test, random.generator(1)),
            *s.pick((20, 250), (2, 5)),
        )
        log_p = []
        for (v,) in s.test(x, size=s.pick(20, 10)):
            parts = torch.stack([model.elbo(v, chunk) for _ in range(n)])
            log_p.append(parts.logsumexp(0) - math.log(n))
        return {LOG_P: -torch.cat(log_p).mean().item()}

    def picture(self, s: Session, model: Any) -> Tensor:
        if self.layers == 2:
            return model.sample(40)
        return model.decode(torch.randn(40, 50, device=s.device))


# ------------------------------------------------------------------------------------------------- chapter 02


class HintonSalakhutdinov(Run):
    r"""A deep autoencoder 784–1000–500–250–30, pre-trained by RBMs; squared error of a test image.

    As in the paper: sigmoid units and a linear code, layers trained one by one as RBMs for 50 passes each, then the
    whole by the cross-entropy. Ours: Adam in place of momentum and, afterwards, of conjugate gradients, with 200 passes
    then. PCA with as many components is computed, not trained.
    """

    name = "autoencoder"
    alt = "Rows of test digits, each above its reconstructions from thirty numbers."

    def build(self, s: Session) -> list[int]:
        return [784, *s.pick((1000, 500, 250), (50, 40, 35)), 30]

    def train(self, s: Session, sizes: Any) -> Any:
        x = s.digits().x_train.to(s.device)
        settings = {"epochs": s.pick(50, 1), "batch_size": 100, "lr": 2e-3, "schedule": "linear"}
        ends = iter((0.08, 0.16, 0.24, 0.32))

        def make(n_in: int, n_out: int, last: bool) -> nn.Module:
            kind = "gaussian" if last else "bernoulli"
            return boltzmann.RBM(n_in, n_out, hidden=kind, sample_visible=False)

        def fit(layer: nn.Module, codes: Tensor) -> None:
            part = f"layer {layer.W.shape[1]}-{layer.W.shape[0]}"
            if not s.checkpoint("whole").exists():
                layer.start_at(codes)
                s.fit(layer, codes, part=part, until=next(ends), **settings)

        model = autoencoders.unroll(autoencoders.greedy_layers(x, sizes, make, fit))
        settings |= {"epochs": s.pick(200, 2), "lr": 3e-3, "schedule": "triangle", "part": "whole"}
        s.fit(model, x, optimizer=partial(adam, betas=(0.9, 0.99)), **settings)
        return model

    def measure(self, s: Session, model: Any) -> dict[str, float]:
        digits = s.digits()
        flat = PCA(30).fit(digits.x_train)
        errors = [
            torch.stack([(m.reconstruct(v) - v).square().sum(1).cpu() for m, v in pair])
            for (v,) in s.test(digits.x_test, size=1000)
            for pair in [((model, v), (flat, v.cpu()))]
        ]
        means = torch.cat(errors, 1).mean(1).tolist()
        return dict(zip(self.paper.figures, means, strict=True))

    def picture(self, s: Session, model: Any) -> Tensor:
        x = s.digits().x_test[:20].to(s.device)
        both = torch.stack([x, model.reconstruct(x)]).reshape(2, 2, 10, 784)
        return both.transpose(0, 1).flatten(0, 2)


# ------------------------------------------------------------------------------------------------- chapter 03


class Rasmus(Run):
    r"""A ladder network with a hundred labels; test errors.

    As in the paper: 784–1000–500–250–250–250–10, noise 0.3, weights 1000, 10 and 0.1, Adam at 0.002, 150 passes in
    batches of 100 with all hundred labels beside them, steps that fall to 0 over the last 50. Ours: one draw of labels
    (the published figure is a mean of ten), and all 60,000 images are unlabeled data.
    """

    name = "ladder"
    alt = "Test digits that the network takes for others; blank tiles where there are fewer than forty."

    def build(self, s: Session) -> nn.Module:
        hidden = s.pick([1000, 500, 250, 250, 250], [30, 20])
        return autoencoders.LadderNetwork([784, *hidden, 10], noise=0.3)

    def train(self, s: Session, model: Any) -> Any:
        digits = s.digits()
        rows = autoencoders.pick_labels(digits.y_train, 10, random.generator(s.seed))
        x, y = digits.x_train[rows].to(s.device), digits.y_train[rows].to(s.device)

        def loss(batch: Tensor) -> dict[str, Tensor]:
            return model.loss(batch, x, y)

        def falling(done: float) -> float:
            return min(1.0, 3 * (1 - done))

        settings = {"batch_size": 100, "lr": 2e-3, "schedule": falling, "loss": loss}
        s.fit(model, digits.x_train, epochs=s.pick(150, 2), **settings)
        return model

    def measure(self, s: Session, model: Any) -> dict[str, float]:
        digits = s.digits()
        batches = s.test(digits.x_test, digits.y_test, size=1000)
        wrong = torch.cat([model.predict(v) != y for v, y in batches])
        return {"test error, %": 100 * wrong.float().mean().item()}

    def picture(self, s: Session, model: Any) -> Tensor:
        x, y = s.digits().x_test, s.digits().y_test
        wrong = x[(model.predict(x.to(s.device)).cpu() != y)][:40]
        return torch.cat([wrong, torch.ones(40 - len(wrong), 784)])


# ------------------------------------------------------------------------------------------------ chapter 15a


class InfoGAN(Run):
    r"""InfoGAN without any label; errors of the class code's network Q on test digits, under the best naming.

    As in the paper: 62 numbers of noise, a class of ten and two numbers; strided convolutions, λ = 1 for the class,
    Adam at 2·10⁻⁴ for D and 10⁻³ for G, batches of 128. Ours: the book's DCGAN layers without the fully connected ones,
    Q is one layer on D's body, λ = 0.1 for the numbers, 50 passes.
    """

    name = "infogan"
    alt = "Digits drawn by the generator: a column for each value of the class code, a row for each noise."

    def build(self, s: Session) -> tuple[Any, ...]:
        codes, width = zoo.Codes(10, 2), s.pick(64, 4)
        G = gan.DCGenerator(62 + codes.width, width).to(s.device)
        body = nn.Sequential(*list(gan.DCDiscriminator(width))[:-1])
        D = zoo.CodeDiscriminator(body, 4 * width * 9, codes).to(s.device)
        moves = {"lr": (1e-3, 2e-4), "lam": (1.0, 0.1)}
        return G, D, codes, zoo.infogan(G, D, gan.NonSaturating(), codes, **moves)

    def train(self, s: Session, model: Any) -> Any:
        x = 2 * s.digits().x_train.reshape(-1, 1, 28, 28) - 1
        s.play(model[-1], x, n_steps=s.pick(50 * 469, 4), batch_size=s.pick(128, 16))
        return model

    def measure(self, s: Session, model: Any) -> dict[str, float]:
        x, D, found = 2 * s.digits().x_test.reshape(-1, 1, 28, 28) - 1, model[1], []
        for v, y in s.test(x, s.digits().y_test, size=500):
            found.append(torch.stack([D.both(v)[1][:, :10].argmax(1), y]))
        _, right = zoo.matched(*torch.cat(found, 1).cpu())
        return {"test error without labels, %": 100 * (1 - right)}

    def picture(self, s: Session, model: Any) -> Tensor:
        G, _, codes, _ = model
        c = codes.join(torch.arange(10, device=s.device).repeat(4))
        z = torch.randn(4, 62, device=s.device).repeat_interleave(10, 0)
        return (G(torch.cat([z, c], 1)).flatten(1) + 1) / 2


# ------------------------------------------------------------------------------------------------- chapter 16


class ImageFlow(Run):
    r"""Glow and RealNVP on whole gray values with uniform noise; bits a pixel.

    The published figures are those that the FFJORD paper tabulates. Ours: two scales; Glow with 32 steps each and 512
    channels in its networks; RealNVP with 16 couplings each of channels only, not of a checkerboard, with actnorm in
    place of batch norm and the same small networks in place of residual ones; Adam at 10⁻³, 100 passes.
    """

    weight = 1.5
    alt = "Images that the flow draws at temperature 1."

    def __init__(self, name: str):
        self.name = name

    def build(self, s: Session) -> nn.Module:
        if self.name == "glow":
            size = {"n_steps": s.pick(32, 1), "n_hidden": s.pick(512, 8)}
            return flows.Dequantized(flows.glow((1, 28, 28), alpha=1e-4, **size))
        n_steps, n_hidden = s.pick(16, 2), s.pick(256, 8)

        def scale(channels: int, left: int) -> flows.Layer:
            channels, layers = 4 * channels, [flows.Squeeze()]
            if left > 1:
                layers += [flows.Split(scale(channels // 2, left - 1))]
            for i in range(n_steps):
                layers += [conv_coupling(channels, n_hidden, bool(i % 2)), flows.ActNorm(channels)]
            return flows.Chain([*layers, flows.Inverse(flows.Squeeze())])

        return flows.Dequantized(flows.Flow([scale(1, 2), flows.Logit(1e-4)], (1, 28, 28)))

    def train(self, s: Session, model: Any) -> Any:
        x = self.gray(s.digits().x_train[: s.pick(None, 64)])
        settings = {"batch_size": s.pick(128, 32), "lr": 1e-3, "schedule": "triangle"}
        s.fit(model, x, epochs=s.pick(100, 2), **settings)
        return model

    def gray(self, x: Tensor) -> Tensor:
        r"""Whole gray values, 0 … 255."""
        return (255 * x).round().reshape(-1, 1, 28, 28)

    def measure(self, s: Session, model: Any) -> dict[str, float]:
        batches = s.test(self.gray(s.digits().x_test), size=s.pick(50, 20))
        return {BITS: torch.cat([model.bits(v) for (v,) in batches]).mean().item()}

    def picture(self, s: Session, model: Any) -> Tensor:
        return model.sample(40).flatten(1) / 255


# ------------------------------------------------------------------------------------------------- chapter 13


class Ring(Run):
    r"""GANs on a ring of eight Gaussians, as they are and unrolled; modes covered, mean of five starts.

    The published figures are those of the VEEGAN paper for a GAN and an unrolled GAN. Ours: the networks and steps of
    chapter 13, five imagined steps, 20,000 real ones; a mode counts as covered only if it holds a tenth of its share of
    the fakes, which is stricter than one fake near it.
    """

    name = "ring"
    alt = (
        "Fakes of the first start on the plane with eight circles, by a GAN and by an unrolled GAN."
    )
    centers, sd, n_starts = data.ring(8), 0.1, 5

    def build(self, s: Session) -> list[Any]:
        return [self.game(s, None), self.game(s, gan.Unrolled(s.pick(5, 1), 0.03))]

    def game(self, s: Session, look_ahead: Any) -> tuple[list[nn.Module], gan.Game]:
        r"""The generators, and the games of all starts as one."""
        random.seed(s.seed)
        Gs = [nets.mlp([16, 64, 64, 2]).to(s.device) for _ in range(self.n_starts)]
        Ds = [nets.mlp([2, 64, 64, 1]).to(s.device) for _ in range(self.n_starts)]
        settings = {"lr": (4e-3, 2e-3), "latent": 16, "look_ahead": look_ahead}
        games = [gan.two_player(G, D, gan.NonSaturating(), **settings) for G, D in zip(Gs, Ds)]
        return Gs, gan.several(games)

    def train(self, s: Session, model: Any) -> Any:
        sets = [data.sample_modes(20000, self.centers, self.sd) for _ in range(self.n_starts)]
        settings = {"n_steps": s.pick(20000, 4), "batch_size": 64, "schedule": "linear"}
        for part, until, (_, game) in zip(("GAN", "unrolled GAN"), (0.3, 1.0), model, strict=True):
            s.play(game, torch.stack(sets, 1), part=part, until=until, **settings)
        return model

    def fakes(self, s: Session, G: nn.Module) -> Tensor:
        return G(torch.randn(1000, 16, device=s.device)).cpu()

    def measure(self, s: Session, model: Any) -> dict[str, float]:
        fakes = [[self.fakes(s, G) for G in Gs] for Gs, _ in model]
        found = [[gan.modes_covered(x, self.centers, self.sd)[0] for x in xs] for xs in fakes]
        return {
            metric: sum(n) / len(n) for metric, n in zip(self.paper.figures, found, strict=True)
        }

    def picture(self, s: Session, model: Any) -> Figure:
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        for ax, (Gs, _), name in zip(axes, model, ("GAN", "unrolled GAN"), strict=True):
            ax.plot(*self.centers.T.numpy(), "o", mfc="none", mec="black", ms=11)
            ax.scatter(*self.fakes(s, Gs[0]).T.numpy(), s=1)
            ax.set(title=name, xlim=(-3, 3), ylim=(-3, 3), xlabel="$x_1$", aspect="equal")
        axes[0].set_ylabel("$x_2$")
        return figure


# ------------------------------------------------------------------------------------------------------- all

RUNS: dict[str, Run] = {
    run.name: run
    for run in (
        SalakhutdinovMurray(),
        Burda("vae", layers=1, k=1),
        Burda("iwae", layers=1, k=50),
        HintonSalakhutdinov(),
        Rasmus(),
        ImageFlow("glow"),
        InfoGAN(),
        Burda("vae-2", layers=2, k=1),
        Burda("iwae-2", layers=2, k=50),
        Ring(),
        ImageFlow("realnvp"),
    )
}
