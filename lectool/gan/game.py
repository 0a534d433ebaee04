r"""The one game loop, Algorithm 1 of Goodfellow et al. (2014), for any number of players.

Some players make things (generators, encoders), others judge what has been made (discriminators, critics). Each has a
loss of its own, a function of what lies on the table: real data, fakes, codes, conditions, by name.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lectool import check, parallel
from lectool.gan.sanity import check_two
from lectool.random import integers, noise
from lectool.record import Record, Recorder, adam, not_finite, resume, save

__all__ = [
    "Game",
    "GameRecord",
    "Objective",
    "Player",
    "Snapshots",
    "draw_latent",
    "move",
    "play",
    "step",
    "two_player",
]

Judge = Callable[[Tensor], Tensor]  # data → scores
Made = Mapping[str, Any]  # what lies on the table: tensors, or tuples of them, by name
Loss = Callable[[Made], "Tensor | dict[str, Tensor]"]


class Objective(Protocol):
    r"""What a game of two is about: two losses of the discriminator's outputs, both made small by their players.

    ``needs_real`` says whether the generator's loss looks at the outputs on real data too.
    """

    needs_real: bool

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor: ...

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor: ...


class Player:
    r"""A network that wants something.

    Arguments:
        net: what moves; parameters that do not require gradients stand still.
        loss: of what has been made; a scalar, or named scalars whose sum is descended.
        lr, betas: of fused Adam.
        optimizer: called as ``optimizer(parameters, lr=lr)`` in its place.
        constrain: called with the network after each of its updates, without gradients.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        *,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        optimizer: Callable[..., Optimizer] | None = None,
        constrain: Callable[[nn.Module], Any] | None = None,
    ) -> None:
        check.positive(lr=lr)
        self.net, self.loss, self.constrain = net, loss, constrain
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        self.make_optimizer = partial(optimizer or partial(adam, betas=betas), lr=lr)
        self.optimizer = self.make_optimizer(self.parameters)


@dataclass
class Game:
    r"""Who plays, and what there is to look at.

    Attributes:
        makers: players whose moves change what is made, by name.
        judges: players who only look at it, by name.
        make: from a batch of real data (and conditions, and ``generator=``) to what lies on the table.
        k: updates of the judges a step, ≥ 1.
        others: modules with a state of their own besides the players' networks.
        sanity: called with the data before the game; stops one that cannot go well.
    """

    makers: dict[str, Player]
    judges: dict[str, Player]
    make: Callable[..., Made]
    k: int = 1
    others: Sequence[nn.Module] = ()
    sanity: Callable[..., None] | None = None

    def __post_init__(self) -> None:
        check.at_least(1, k=self.k)

    @property
    def modules(self) -> nn.ModuleList:
        r"""All that has a state: networks and others."""
        players = [*self.makers.values(), *self.judges.values()]
        return nn.ModuleList([*[player.net for player in players], *self.others])


@dataclass
class GameRecord(Record):
    r"""What a game leaves.

    Attributes:
        terms: one list a named term, one mean a window of steps.
        steps: the step at which each window ended.
        n_steps: steps made (and kept).
        stopped: why the game ended early, empty where it did not.
    """

    steps: list[int] = field(default_factory=list)
    n_steps: int = 0
    stopped: str = ""

    def __repr__(self) -> str:
        last, end = self.last(), f"; stopped: {self.stopped}" if self.stopped else ""
        return f"GameRecord({self.n_steps} steps{': ' if last else ''}{last}{end})"


# ---------------------------------------------------------------------------------------------- one step


def step(
    game: Game, batches: Sequence[Sequence[Tensor]], generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    r"""One round of Algorithm 1: k updates of the judges, then one of the makers.

    Arguments:
        game: who plays.
        batches: k of them, each a list of real data and their conditions.
        generator: of the codes.

    Returns:
        the terms of the losses by name, the judges' from the last of their updates.
    """
    for i, batch in enumerate(batches):
        # Judges look at fakes that stand still; the last fakes, with their graph, serve the makers too.
        with torch.set_grad_enabled(i == len(batches) - 1):
            made = game.make(*batch, generator=generator)
        terms = move(game.judges, _still(made))
    return terms | move(game.makers, made)


def move(players: Mapping[str, Player], made: Made) -> dict[str, Tensor]:
    r"""Some players at once descend their losses of what has been made, while everybody else stands still."""
    terms, last = {}, len(players) - 1
    for i, (name, player) in enumerate(players.items()):
        loss = player.loss(made)
        own = loss if isinstance(loss, dict) else {name: loss}
        player.optimizer.zero_grad()
        # Only the player's own parameters get a gradient, also where the loss passes through another's network.
        sum(own.values()).sum().backward(inputs=player.parameters, retain_graph=i < last)
        terms |= own
    for player in players.values():
        player.optimizer.step()
        if player.constrain is not None:
            with torch.no_grad():
                player.constrain(player.net)
    return terms


def _still(made: Made) -> Made:
    return {
        name: tuple(v.detach() for v in value) if isinstance(value, tuple) else value.detach()
        for name, value in made.items()
    }


# ----------------------------------------------------------------------------------------- games of two


def draw_latent(
    n: int,
    latent: int | Sequence[int],
    *,
    like: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Codes z from N(0, I), shape (n, \*latent), on the device and in the type of ``like``."""
    return noise((n, latent) if isinstance(latent, int) else (n, *latent), like, generator)


def two_player(
    G: nn.Module,
    D: nn.Module,
    objective: Objective,
    *,
    k: int = 1,
    lr: float | tuple[float, float] = 2e-4,
    betas: tuple[float, float] = (0.5, 0.999),
    latent: int | Sequence[int] | None = None,
    penalty: Callable[[Judge, Tensor, Tensor], Tensor] | None = None,
    constrain: Callable[[nn.Module], Any] | None = None,
    look_ahead: Callable[[Callable, Objective, Tensor, Tensor], Tensor] | None = None,
    optimizer: Callable[..., Optimizer] | None = None,
) -> Game:
    r"""The game of a generator against a discriminator.

    Arguments:
        G: maps codes (n, \*latent) to fakes of the data's shape, ``G(z, *conditions)``.
        D: maps data to logits or scores, shape (n, …), without a sigmoid, ``D(x, *conditions)``.
        objective: the two losses, see :class:`Objective`.
        k: updates of D for each of G.
        lr: step size of both, or (G's, D's).
        betas, optimizer: as for :class:`Player`.
        latent: shape of one code; ``G.latent`` where ``None``.
        penalty: ``penalty(D, real, fake)`` is added to D's loss.
        constrain: ``constrain(D)`` is called after each update of D, without gradients.
        look_ahead: ``look_ahead(D, objective, real, fake)`` replaces G's loss.

    Raises:
        ValueError: if a setting is out of range, or the shape of a code is unknown.
    """
    lr_G, lr_D = lr if isinstance(lr, tuple) else (lr, lr)
    latent = getattr(G, "latent", None) if latent is None else latent
    if latent is None:
        raise ValueError(
            f"latent is None and {type(G).__name__} has no attribute latent; expected the shape of a code"
        )

    def make(real: Tensor, *given: Tensor, generator: torch.Generator | None = None) -> Made:
        z = draw_latent(len(real), latent, like=real, generator=generator)
        return {"real": real, "fake": G(z, *given), "given": given}

    def discriminator_loss(made: Made) -> dict[str, Tensor]:
        judge, real, fake = _given(D, made), made["real"], made["fake"]
        terms = {"discriminator": objective.discriminator_loss(judge(real), judge(fake))}
        return terms | ({} if penalty is None else {"penalty": penalty(judge, real, fake)})

    def generator_loss(made: Made) -> Tensor:
        judge, real, fake = _given(D, made), made["real"], made["fake"]
        if look_ahead is not None:
            return look_ahead(judge, objective, real, fake)
        return objective.generator_loss(judge(fake), judge(real) if objective.needs_real else None)

    settings = {"betas": betas, "optimizer": optimizer}
    return Game(
        makers={"generator": Player(G, generator_loss, lr=lr_G, **settings)},
        judges={
            "discriminator": Player(D, discriminator_loss, lr=lr_D, constrain=constrain, **settings)
        },
        make=make,
        k=k,
        others=[objective] if isinstance(objective, nn.Module) else [],
        sanity=partial(check_two, G, D, latent),
    )


def _given(D: nn.Module, made: Made) -> Judge:
    given = made["given"]
    return (lambda v: D(v, *given)) if given else D


# ------------------------------------------------------------------------------------------ the whole game


@torch.no_grad()
def _data(game: Game, x: Tensor | Sequence[Tensor]) -> list[Tensor]:
    r"""Data and conditions, checked, on the players' device; images and networks for images in channels-last order."""
    x, *conditions = [x] if isinstance(x, Tensor) else list(x)
    check.data(x, n_dims=x.ndim)
    check.lengths(x=x, **{f"condition {i + 1}": c for i, c in enumerate(conditions)})
    weights = next(game.modules.parameters())
    data = [t.to(weights.device) for t in (x.to(weights.dtype), *conditions)]
    if x.ndim == 4:
        data[0] = data[0].contiguous(memory_format=torch.channels_last)
        game.modules.to(memory_format=torch.channels_last)
    if game.sanity is not None:
        game.sanity(*data)
    return data


def play(
    game: Game,
    x: Tensor | Sequence[Tensor],
    *,
    n_steps: int = 1000,
    batch_size: int = 64,
    step: Callable[..., dict[str, Tensor]] = step,
    schedule: str = "constant",
    each: Callable[[int, Game], Any] | None = None,
    window: int = 50,
    generator: torch.Generator | None = None,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
) -> GameRecord:
    r"""Plays a game; its networks are trained in place.

    Under ``torchrun`` several processes play it together, each with its share of every batch. The result is that of one
    process up to rounding; for what differs see :func:`lectool.train.fit`.

    Arguments:
        game: of two players, see :func:`two_player`, or of any.
        x: data, shape (n, …); or several tensors of equal length, of which those after the first are conditions.
        n_steps: steps, each with one update of the makers.
        batch_size: samples an update, drawn with replacement; in all processes together, of whose number it is a
            multiple.
        step: called as ``step(game, batches, generator)``; returns named terms. Its updates are made by :func:`move`.
        schedule: of all step sizes over the game, see :func:`lectool.train.fit`.
        each: called as ``each(n, game)`` before the first step, with n = 0, and after each; see :class:`Snapshots`.
            A generator with averaged weights is torch's ``swa_utils.AveragedModel``, updated here; with spectral
            norms in it, :func:`settle` its ``module`` before use.
        window: steps a record, and between two looks at whether the game is still finite.
        generator: source of the codes and batches; torch's global one where ``None``.
        checkpoint: a file that is written after each window and, where it exists, continued from.
        progress: whether to show a bar; where ``None``, only if somebody watches.

    Returns:
        the record; also after a game that left the finite numbers: then ``stopped`` says where, and all networks hold
        their last good state; in a script also after Ctrl-C, with ``interrupted`` set.

    Raises:
        Stopped: in a notebook, after Ctrl-C; its ``record`` is the record.
        ValueError: before training, if a setting is out of range, or the data are empty, not finite, or do not fit
            the players; or if the checkpoint belongs to another game.
        ConnectionError: if another process is gone.
    """
    check.at_least(0, n_steps=n_steps)
    check.at_least(1, batch_size=batch_size, window=window)
    parallel.join()
    parallel.check_batch(batch_size)
    data, modules = _data(game, x), game.modules
    record, players = GameRecord(), [*game.makers.values(), *game.judges.values()]
    optimizers, tell = [player.optimizer for player in players], each or (lambda n, game: None)
    name, device = f"game of {', '.join([*game.makers, *game.judges])}", data[0].device
    state = [modules, optimizers]
    if checkpoint is not None and (saved := resume(Path(checkpoint), name, *state, generator)):
        record = GameRecord(**saved)
    book = Recorder(
        record,
        optimizers,
        schedule=schedule,
        n_updates=n_steps,
        name="game",
        unit="step",
        total=n_steps,
        n_done=record.n_steps,
        done=record.n_steps,
        progress=progress,
    )
    good = _state(modules)
    try:
        with book, parallel.watched(checkpoint), _together(players):
            parallel.agree(modules, generator)
            modules.train()
            if record.n_steps == 0:
                tell(0, game)
            while record.n_steps < n_steps and not record.stopped:
                n = min(window, n_steps - record.n_steps)
                rows = integers(len(data[0]), (n, game.k, batch_size), device, generator)
                for i in range(n):
                    book.pace()
                    with parallel.share(batch_size) as own:
                        terms = step(game, _batches(data, rows[i, :, own]), generator)
                    book.add({name: t.mean() for name, t in terms.items()})
                    tell(record.n_steps + i + 1, game)
                parallel.agree(modules, generator)
                means = parallel.mean(book.means(), device)
                if bad := not_finite(means) + _not_finite(modules):
                    modules.load_state_dict(good)
                    record.stopped = (
                        f"{', '.join(bad)} not finite between steps {record.n_steps + 1} and {record.n_steps + n}; all "
                        f"networks are as they were after step {record.n_steps}; try a smaller lr"
                    )
                else:
                    good, record.n_steps = _state(modules), record.n_steps + n
                    record.steps.append(record.n_steps)
                    book.note(means, n)
                    if checkpoint is not None:
                        save(Path(checkpoint), name, *state, record, generator)
    finally:
        modules.eval()
    return record


@contextmanager
def _together(players: Sequence[Player]) -> Iterator[None]:
    r"""Each player's gradients are averaged over all processes, where there are several.

    It is the loss that DistributedDataParallel wraps, not the network: it counts on one forward pass for each backward
    pass, and a discriminator looks at real data, at fakes and, in the generator's loss, once more without an update.
    """
    losses = [player.loss for player in players]
    for player in players:
        player.loss = parallel.together(player.net, player.loss)
    try:
        yield
    finally:
        for player, loss in zip(players, losses):
            player.loss = loss


def _batches(data: Sequence[Tensor], rows: Tensor) -> list[list[Tensor]]:
    return [[t[r] for t in data] for r in rows]


def _state(modules: nn.ModuleList) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in modules.state_dict().items()}


def _not_finite(modules: nn.ModuleList) -> list[str]:
    return [
        f"{type(m).__name__}'s weights"
        for m in modules
        if not all(p.isfinite().all() for p in m.parameters())
    ]


class Snapshots:
    r"""Looks at a game at some of its steps; handed to :func:`play` as ``each``.

    Arguments:
        at: the numbers of those steps; 0 is before the first.
        look: called with the step's number, all networks in ``eval()`` mode; what it returns is kept in ``seen``.

    Attributes:
        seen: step → what was seen there.
    """

    def __init__(self, at: Collection[int], look: Callable[[int], Any]) -> None:
        self.at, self.look, self.seen = frozenset(at), look, {}

    def __call__(self, n: int, game: Game) -> None:
        if n in self.at:
            with _evaluated(game.modules):
                self.seen[n] = self.look(n)


@contextmanager
def _evaluated(modules: nn.Module) -> Iterator[None]:
    modules.eval()
    try:
        yield
    finally:
        modules.train()
