r"""The one game loop, Algorithm 1 of Goodfellow et al. (2014); objectives, constraints and networks are its parts."""

import functools
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from lectool import check
from lectool.record import SCHEDULES, _is_watched

__all__ = ["Game", "Objective", "draw_latent", "play", "step"]

Judge = Callable[[Tensor], Tensor]  # data → logits
RESHAPING = (nn.Flatten, nn.Unflatten, nn.Identity)
SQUASHING = (nn.Sigmoid, nn.Softmax, nn.LogSigmoid, nn.Hardsigmoid)


class Objective(Protocol):
    r"""What a game is about: two losses of the discriminator's outputs, both made small by their players.

    ``needs_real`` says whether the generator's loss looks at the outputs on real data too.
    """

    needs_real: bool

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor: ...

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor: ...


@dataclass
class Game:
    r"""What a game leaves.

    Attributes:
        terms: one list a named term (``"discriminator"``, ``"generator"``, ``"penalty"``), one mean a window of steps.
        steps: the step at which each window ended.
        snapshots: step → what ``callback`` returned there.
        n_steps: generator updates made (and kept).
        seconds: time spent in them.
        stopped: why the game ended early, empty where it did not.
        interrupted: whether Ctrl-C ended it.
    """

    terms: dict[str, list[float]] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    snapshots: dict[int, Any] = field(default_factory=dict)
    n_steps: int = 0
    seconds: float = 0.0
    stopped: str = ""
    interrupted: bool = False

    def __getitem__(self, name: str) -> list[float]:
        return self.terms[name]

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {v[-1]:.4g}" for name, v in self.terms.items() if v)
        end = f"; stopped: {self.stopped}" if self.stopped else ""
        return f"Game({self.n_steps} steps{': ' if last else ''}{last}{end})"


def draw_latent(
    n: int,
    latent: int | Sequence[int],
    *,
    like: Tensor | None = None,
    rng: torch.Generator | None = None,
) -> Tensor:
    r"""Codes z from N(0, I), shape (n, \*latent), on the device and in the type of ``like``."""
    shape = (latent,) if isinstance(latent, int) else tuple(latent)
    options = {} if like is None else {"device": like.device, "dtype": like.dtype}
    return torch.randn(n, *shape, generator=rng, **options)


def play(
    generator: nn.Module,
    discriminator: nn.Module,
    objective: Objective,
    x: Tensor | Sequence[Tensor],
    *,
    n_steps: int = 1000,
    batch_size: int = 64,
    k: int = 1,
    lr: float | tuple[float, float] = 2e-4,
    betas: tuple[float, float] = (0.5, 0.999),
    schedule: str = "constant",
    average: float = 0.0,
    latent: int | Sequence[int] | None = None,
    penalty: Callable[[Judge, Tensor, Tensor], Tensor] | None = None,
    constrain: Callable[[nn.Module], None] | None = None,
    look_ahead: Callable[[nn.Module, Objective, Tensor, Tensor], Tensor] | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    callback: Callable[[int, nn.Module, nn.Module], Any] | None = None,
    at: Collection[int] = (),
    window: int = 50,
    rng: torch.Generator | None = None,
    progress: bool | None = None,
) -> Game:
    r"""Plays a generator against a discriminator.

    Each step updates the discriminator ``k`` times and then the generator once. The fakes of the last of
    the ``k`` updates serve both: detached for the discriminator, with their graph for the generator,
    whose update leaves the discriminator's parameters frozen. Images (four axes) run in channels-last order.

    Arguments:
        generator: maps codes (n, \*latent) to fakes of the data's shape; trained in place.
        discriminator: maps data to logits (or scores), shape (n,) or (n, …), without a sigmoid; trained in place.
        objective: the two losses, see :class:`Objective`.
        x: data, shape (n, …); or several tensors of equal length, of which those after the first are conditions
            that both networks receive: ``generator(z, *c)``, ``discriminator(x, *c)``.
        n_steps: generator updates.
        batch_size: real and fake samples an update, drawn with replacement.
        k: discriminator updates a step.
        lr: Adam's step size of both, or (generator's, discriminator's).
        betas: Adam's.
        schedule: of both step sizes over the game, see :func:`lectool.train.fit`.
        average: decay, in [0, 1), of a running mean of the generator's weights, which replaces them in the end;
            no mean where 0.
        latent: shape of one code; ``generator.latent`` where ``None``.
        penalty: ``penalty(discriminator, real, fake)`` is added to the discriminator's loss.
        constrain: ``constrain(discriminator)`` is called after each discriminator update, without gradients.
        look_ahead: ``look_ahead(discriminator, objective, real, fake)`` replaces the generator's loss.
        optimizer: called as ``optimizer(parameters, lr=lr)``; fused Adam where ``None``.
        callback: called as ``callback(step, generator, discriminator)`` at the steps in ``at`` (0 is before the
            first), both in ``eval()`` mode; what it returns is kept in ``snapshots``.
        at: those steps.
        window: steps a record, and between two looks at whether the game is still finite.
        rng: source of the codes and batches; torch's global one where ``None``.
        progress: whether to show a bar; where ``None``, only if somebody watches.

    Returns:
        the record; also after Ctrl-C, with ``interrupted`` set, and after a game that left the finite numbers:
        then ``stopped`` says where, and both networks hold their last good state.

    Raises:
        ValueError: before training, if a setting is out of range; if the data are empty, not finite or of another
            shape than the generator's output; if their range cannot be the generator's; or if the discriminator
            ends in a sigmoid.
    """
    lr_g, lr_d = lr if isinstance(lr, tuple) else (lr, lr)
    if min(n_steps, batch_size - 1, k - 1, window - 1) < 0 or not min(lr_g, lr_d) > 0:
        raise ValueError(
            f"n_steps, batch_size, k, window, lr are {n_steps}, {batch_size}, {k}, {window}, {lr}; "
            "expected ≥ 0, ≥ 1, ≥ 1, ≥ 1, > 0"
        )
    if not 0 <= average < 1:
        raise ValueError(f"average is {average}; expected a decay in [0, 1)")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}; it can be one of {', '.join(SCHEDULES)}")
    latent = getattr(generator, "latent", None) if latent is None else latent
    if latent is None:
        raise ValueError(
            f"latent is None and {type(generator).__name__} has no attribute latent; expected the shape of one code"
        )
    weights = next(generator.parameters())
    x, *conditions = [x] if isinstance(x, Tensor) else list(x)
    check.data(x, n_dims=x.ndim)
    if any(len(c) != len(x) for c in conditions):
        raise ValueError(f"{len(x)} samples, conditions of {[len(c) for c in conditions]}")
    x, *conditions = [t.to(weights.device) for t in (x.to(weights.dtype), *conditions)]
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
        generator.to(memory_format=torch.channels_last)
        discriminator.to(memory_format=torch.channels_last)
    check_players(generator, discriminator, x, conditions, latent)

    make = optimizer or functools.partial(
        torch.optim.Adam, betas=betas, fused=weights.device.type in ("cpu", "cuda")
    )
    parameters = list(discriminator.parameters())
    opt_g, opt_d = make(generator.parameters(), lr=lr_g), make(parameters, lr=lr_d)
    game, players = Game(), (generator, discriminator)
    averaged = None
    if average:
        decay = get_ema_multi_avg_fn(average)
        averaged = AveragedModel(generator, multi_avg_fn=decay, use_buffers=True)
    good = [clone_state(player) for player in players]
    bar = tqdm(
        total=n_steps,
        unit="step",
        desc="game",
        disable=not (_is_watched() if progress is None else progress),
    )

    def show(step: int) -> None:
        if callback is not None and step in at:
            for player in players:
                player.eval()
            game.snapshots[step] = callback(step, generator, discriminator)
            for player in players:
                player.train()

    try:
        for player in players:
            player.train()
        show(0)
        while game.n_steps < n_steps:
            start, sums = time.perf_counter(), {}
            n_now = min(window, n_steps - game.n_steps)
            batches = torch.randint(
                len(x), (n_now, k, batch_size), generator=rng, device=x.device if rng is None else rng.device
            ).to(x.device)  # fmt: skip
            for i in range(n_now):
                if schedule != "constant":
                    share = SCHEDULES[schedule]((game.n_steps + i) / n_steps)
                    opt_g.param_groups[0]["lr"] = lr_g * share
                    opt_d.param_groups[0]["lr"] = lr_d * share
                batch = [[t[rows] for t in (x, *conditions)] for rows in batches[i]]
                terms = step(
                    generator, discriminator, objective, opt_g, opt_d, batch,
                    lambda n: draw_latent(n, latent, like=x, rng=rng),
                    penalty=penalty, constrain=constrain, look_ahead=look_ahead,
                )  # fmt: skip
                if averaged is not None:
                    averaged.update_parameters(generator)
                for name, term in terms.items():  # stays on the device: one transfer a window
                    sums[name] = sums[name] + term if name in sums else term
                if at:
                    show(game.n_steps + i + 1)

            means = {name: total.item() / n_now for name, total in sums.items()}
            bad = [name for name, mean in means.items() if not math.isfinite(mean)]
            bad += [f"{type(p).__name__}'s weights" for p in players if not is_finite(p)]
            if bad:
                game.stopped = (
                    f"{', '.join(bad)} not finite between steps {game.n_steps + 1} and {game.n_steps + n_now}; "
                    f"both networks are as they were after step {game.n_steps}; try a smaller lr than {lr}"
                )
                for player, state in zip(players, good, strict=True):
                    player.load_state_dict(state)
                break
            good = [clone_state(player) for player in players]
            good_mean = clone_state(averaged.module) if averaged is not None else {}
            game.n_steps += n_now
            game.seconds += time.perf_counter() - start
            game.steps.append(game.n_steps)
            for name, mean in means.items():
                game.terms.setdefault(name, []).append(mean)
            bar.set_postfix({name: f"{mean:.4g}" for name, mean in means.items()}, refresh=False)
            bar.update(n_now)
    except KeyboardInterrupt:
        game.interrupted = True
    finally:
        bar.close()
        if averaged is not None and game.n_steps:
            generator.load_state_dict(good_mean)
        for p in parameters:
            p.requires_grad_(True)
        for player in players:
            player.eval()
    return game


def step(
    generator: nn.Module,
    discriminator: nn.Module,
    objective: Objective,
    opt_g: torch.optim.Optimizer,
    opt_d: torch.optim.Optimizer,
    batches: Sequence[Sequence[Tensor]],
    latent: Callable[[int], Tensor],
    *,
    penalty: Callable[[Judge, Tensor, Tensor], Tensor] | None = None,
    constrain: Callable[[nn.Module], None] | None = None,
    look_ahead: Callable[[nn.Module, Objective, Tensor, Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    r"""One round of Algorithm 1: k updates of the discriminator, one of the generator.

    Arguments:
        batches: k of them, each a list of real data and their conditions.
        latent: the number of samples → codes.
        others: as in :func:`play`.

    Returns:
        the terms, means over the k updates.
    """
    sums: dict[str, Tensor] = {}
    for i, (real, *given) in enumerate(batches):
        judge = with_conditions(discriminator, given)
        with torch.set_grad_enabled(i == len(batches) - 1):  # the last fakes serve both players
            fake = generator(latent(len(real)), *given)
        loss = objective.discriminator_loss(judge(real), judge(fake.detach()))
        terms = {"discriminator": loss}
        if penalty is not None:
            terms["penalty"] = penalty(judge, real, fake.detach())
            loss = loss + terms["penalty"]
        opt_d.zero_grad(set_to_none=True)
        loss.backward()
        opt_d.step()
        if constrain is not None:
            with torch.no_grad():
                constrain(discriminator)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term.detach() / len(batches)

    for p in discriminator.parameters():  # the generator moves, the discriminator stands still
        p.requires_grad_(False)
    if look_ahead is not None:
        loss = look_ahead(judge, objective, real, fake)
    else:
        loss = objective.generator_loss(judge(fake), judge(real) if objective.needs_real else None)
    opt_g.zero_grad(set_to_none=True)
    loss.backward()
    opt_g.step()
    for p in discriminator.parameters():
        p.requires_grad_(True)
    return sums | {"generator": loss.detach()}


def with_conditions(discriminator: nn.Module, given: Sequence[Tensor]) -> Judge:
    return (lambda v: discriminator(v, *given)) if given else discriminator


def clone_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in module.state_dict().items()}


def is_finite(module: nn.Module) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in module.parameters())


def last_part(module: nn.Module) -> nn.Module | None:
    r"""The last leaf of a network that does more than reshape."""
    leaves = [
        m for m in module.modules() if not list(m.children()) and not isinstance(m, RESHAPING)
    ]
    return leaves[-1] if leaves else None


@torch.no_grad()
def check_players(
    generator: nn.Module,
    discriminator: nn.Module,
    x: Tensor,
    conditions: Sequence[Tensor],
    latent: int | Sequence[int],
) -> None:
    r"""Stops a game that cannot go well before it begins; see :func:`play` for what it raises."""
    n, own = min(len(x), 16), torch.Generator().manual_seed(0)
    given = [c[:n] for c in conditions]
    z = draw_latent(n, latent, rng=own).to(x)
    generator.eval()
    discriminator.eval()
    try:
        fake = generator(z, *given)
    except RuntimeError as error:
        raise ValueError(
            f"the generator does not take codes of shape {tuple(z.shape)}: {error}"
        ) from error
    if fake.shape[1:] != x.shape[1:] or len(fake) != n:
        raise ValueError(
            f"the generator makes samples of shape {tuple(fake.shape[1:])}, the data have {tuple(x.shape[1:])}; "
            "expected the same"
        )
    low, high = (t.item() for t in torch.aminmax(x))
    end, given_range = last_part(generator), f"the data lie in [{low:.3g}, {high:.3g}]"
    if isinstance(end, nn.Sigmoid) and (low < 0 or high > 1):
        raise ValueError(f"{given_range}, the generator ends in a sigmoid; expected data in [0, 1]")
    if isinstance(end, nn.Tanh) and (low < -1 or high > 1):
        raise ValueError(f"{given_range}, the generator ends in a tanh; expected data in [−1, 1]")
    if isinstance(end, nn.Tanh) and low >= 0:
        raise ValueError(
            f"{given_range}, the generator ends in a tanh; expected data that use [−1, 1], such as 2x − 1"
        )
    try:
        logits = discriminator(x[:n], *given)
    except RuntimeError as error:
        raise ValueError(
            f"the discriminator does not take data of shape {tuple(x[:n].shape)}: {error}"
        ) from error
    if len(logits) != n:
        raise ValueError(
            f"the discriminator's output has shape {tuple(logits.shape)}; expected {n} on the first axis"
        )
    # At inputs a thousand times too large a logit runs away; a probability is pinned to 0 or 1.
    far = torch.cat(
        [logits, discriminator(1e3 * x[:n], *given), discriminator(-1e3 * x[:n], *given)]
    )
    pinned = bool(((far >= 0) & (far <= 1)).all()) and bool(((far < 1e-3) | (far > 1 - 1e-3)).any())
    if isinstance(last_part(discriminator), SQUASHING) or (
        pinned and float(far.max() - far.min()) > 0
    ):
        raise ValueError(
            f"the discriminator's outputs lie in [{far.min():.3g}, {far.max():.3g}] as if behind a sigmoid; "
            "expected logits: the objectives apply the sigmoid themselves"
        )
