r"""The outlook: fields that are learned without solving anything, by flow matching and by denoising."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lectool import check
from lectool.flows.continuous import rk4
from lectool.random import integers, noise, uniform

__all__ = ["Diffusion", "FlowMatching", "TimeNet"]


class TimeNet(nn.Module):
    r"""A residual perceptron that knows the time: from (t, x) to a vector of x's shape.

    Its input is also handed on directly, times a number that depends on the time: most of a noisy input is
    noise, and guessing that should not have to go through the hidden layers.

    Arguments:
        d: numbers in a sample, ≥ 1.
        width: of the hidden layers.
        n_blocks: residual blocks, ≥ 1.
    """

    frequencies: Tensor

    def __init__(self, d: int, width: int = 128, n_blocks: int = 2):
        super().__init__()
        check.at_least(1, d=d, width=width, n_blocks=n_blocks)
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(6))
        self.enter = nn.Linear(d, width)
        self.time = nn.ModuleList(nn.Linear(13, width) for _ in range(n_blocks))
        self.inside = nn.ModuleList(nn.Linear(width, width) for _ in range(n_blocks))
        self.leave = nn.Linear(width, d)
        self.gain = nn.Linear(13, 1)

    def forward(self, t: float | Tensor, x: Tensor) -> Tensor:
        r"""Shape (n, d), at times in [0, 1] of shape () or (n,)."""
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))[:, None]
        angles = t * self.frequencies.to(x)
        features = torch.cat([t, angles.sin(), angles.cos()], 1)
        h = self.enter(x)
        for time, inside in zip(self.time, self.inside):
            h = h + inside(nn.functional.silu(h + time(features)))
        return self.leave(nn.functional.silu(h)) + self.gain(features) * x


class FlowMatching(nn.Module):
    r"""Learns a continuous flow by regression, without solver, trace or likelihood.

    Each data point is joined to a random point of the base by a straight line,
    :math:`x_t = (1 - t)\, \epsilon + t\, x`, and the field is trained on the line's velocity,

    .. math:: L = \mathbb E_{t, x, \epsilon} \lVert v(t, x_t) - (x - \epsilon) \rVert^2.

    The best field is :math:`\mathbb E[x - \epsilon \mid x_t]`, and the flow along it carries N(0, I) to the data.

    Arguments:
        field: called as ``field(t, x)``, e.g. a :class:`VelocityField`, which then has a density too, by
            :class:`ContinuousFlow`.
        d: numbers in a sample, ≥ 1.

    References:
        Lipman, Chen, Ben-Hamu, Nickel & Le (2023), Flow matching for generative modeling.
    """

    def __init__(self, field: nn.Module, d: int):
        super().__init__()
        self.field, self.d = field, d

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""Mean squared error of the velocity, summed over the d numbers."""
        check.data(x, width=self.d)
        epsilon, t = noise(x.shape, x, generator), uniform(len(x), x, generator)
        x_t = epsilon + t[:, None] * (x - epsilon)
        return (self.field(t, x_t) - (x - epsilon)).square().sum(1).mean()

    @torch.no_grad()
    def sample(
        self, n: int, n_steps: int = 20, *, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Draws n samples by ``n_steps`` Runge–Kutta steps from noise to data, shape (n, d)."""
        like = next(self.parameters())
        epsilon = noise((n, self.d), like, generator)
        return rk4(self.field, epsilon, 0.0, 1.0, n_steps)


def cosine_schedule(n_steps: int) -> Tensor:
    r"""The share of the data's variance that is left after each step, a cosine's square, shape (n_steps,)."""
    at = (torch.arange(n_steps + 1, dtype=torch.float64) / n_steps + 0.008) / 1.008
    cosine = (at * math.pi / 2).cos().square()
    return (cosine[1:] / cosine[:-1]).clamp(min=0.05).cumprod(0)


class Diffusion(nn.Module):
    r"""A denoising diffusion model: destroys data by noise in small steps, and learns to undo one of them.

    After t of T steps the data are :math:`x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \epsilon`. To guess
    :math:`\epsilon` is hard where there is little of it, to guess x where there is much. The network guesses
    a mixture that is well scaled at both ends,

    .. math:: L = \mathbb E_{t, x, \epsilon} \lVert \hat v(t, x_t) - v \rVert^2, \qquad
        v = \sqrt{\bar\alpha_t}\, \epsilon - \sqrt{1 - \bar\alpha_t}\, x,

    from which both follow: :math:`\hat x = \sqrt{\bar\alpha_t}\, x_t - \sqrt{1 - \bar\alpha_t}\, \hat v` and
    :math:`\hat\epsilon = \sqrt{1 - \bar\alpha_t}\, x_t + \sqrt{\bar\alpha_t}\, \hat v`; and with them the score of the
    noised data (chapter 3), :math:`\nabla \log p_t(x_t) = -\hat\epsilon / \sqrt{1 - \bar\alpha_t}`.

    Arguments:
        net: called as ``net(t / T, x_t)``.
        d: numbers in a sample, ≥ 1.
        n_steps: T, ≥ 2.
        alpha_bar: :math:`\bar\alpha_1, \dots, \bar\alpha_T`, falling, in (0, 1); a cosine's square where ``None``.

    Raises:
        ValueError: if ``n_steps`` is below 2 or the :math:`\bar\alpha` do not fall within (0, 1).

    References:
        Ho, Jain & Abbeel (2020), Denoising diffusion probabilistic models; Nichol & Dhariwal (2021), Improved
        denoising diffusion probabilistic models, for the cosine; Salimans & Ho (2022), Progressive distillation, for v.
    """

    alpha_bar: Tensor

    def __init__(
        self, net: nn.Module, d: int, n_steps: int = 50, alpha_bar: Sequence[float] | None = None
    ):
        super().__init__()
        check.at_least(2, n_steps=n_steps)
        bar = cosine_schedule(n_steps) if alpha_bar is None else alpha_bar
        bar = torch.as_tensor(bar, dtype=torch.float64)
        falling = (bar.diff() < 0).all() and 0 < bar.min() and bar.max() < 1
        if len(bar) != n_steps or not falling:
            raise ValueError(
                f"alpha_bar has {len(bar)} values; expected {n_steps}, falling, in (0, 1)"
            )
        self.net, self.d, self.n_steps = net, d, n_steps
        self.register_buffer("alpha_bar", bar.to(torch.get_default_dtype()))

    def add_noise(self, x: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        r"""x after t steps, 1 ≤ t ≤ T, shape (n,): :math:`x_t`."""
        bar = self.alpha_bar[t - 1].to(x)[:, None]
        return bar.sqrt() * x + (1 - bar).sqrt() * epsilon

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""Mean squared error of the guessed v, summed over the d numbers."""
        check.data(x, width=self.d)
        t = 1 + integers(self.n_steps, len(x), x.device, generator)
        bar, epsilon = self.alpha_bar[t - 1].to(x)[:, None], noise(x.shape, x, generator)
        v = bar.sqrt() * epsilon - (1 - bar).sqrt() * x
        guess = self.net(t.to(x) / self.n_steps, self.add_noise(x, t, epsilon))
        return (guess - v).square().sum(1).mean()

    def denoise(self, x_t: Tensor, t: int) -> Tensor:
        r"""The guess of the clean x at noised points, shape (n, d)."""
        bar = self.alpha_bar[t - 1]
        return bar.sqrt() * x_t - (1 - bar).sqrt() * self.net(t / self.n_steps, x_t)

    def score(self, x_t: Tensor, t: int) -> Tensor:
        r"""The learned :math:`\nabla \log p_t` at noised points, shape (n, d): minus the guessed noise, scaled."""
        bar = self.alpha_bar[t - 1]
        epsilon = (1 - bar).sqrt() * x_t + bar.sqrt() * self.net(t / self.n_steps, x_t)
        return -epsilon / (1 - bar).sqrt()

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        clip: tuple[float, float] | None = None,
        generator: torch.Generator | None = None,
        path: bool = False,
    ) -> Tensor | list[Tensor]:
        r"""Draws n samples by the T steps back, shape (n, d).

        Each step draws from :math:`q(x_{t-1} \mid x_t, \hat x)`, a Gaussian in closed form, at the guess
        :math:`\hat x` of the clean x.

        Arguments:
            clip: a range into which the guesses are cut, that of the data.
            path: whether to return all states, from noise to data, T + 1 tensors.
        """
        check.at_least(1, n=n)
        states = [noise((n, self.d), next(self.parameters()), generator)]
        for t in range(self.n_steps, 0, -1):
            x = states[-1]
            guess = self.denoise(x, t)
            guess = guess if clip is None else guess.clamp(*clip)
            mean, variance = self.step_back(x, guess, t)
            states.append(mean + variance.sqrt() * noise(x.shape, x, generator))
        return states if path else states[-1]

    def step_back(self, x_t: Tensor, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        r"""Mean and variance of ``q(x_{t-1} | x_t, x)``, the way back where the clean x is known.

        .. math:: \mu = \frac{\sqrt{\bar\alpha_{t-1}}\, (1 - \alpha_t)\, x
            + \sqrt{\alpha_t}\, (1 - \bar\alpha_{t-1})\, x_t}{1 - \bar\alpha_t}, \qquad
            \sigma^2 = \frac{(1 - \alpha_t)(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}
        """
        bar = self.alpha_bar[t - 1]
        before = self.alpha_bar[t - 2] if t > 1 else torch.ones_like(bar)
        alpha = bar / before
        mean = before.sqrt() * (1 - alpha) * x + alpha.sqrt() * (1 - before) * x_t
        return mean / (1 - bar), (1 - alpha) * (1 - before) / (1 - bar)
