r"""Several starts of one game, played side by side: the same code for one, mapped over stacked weights."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lectool import check
from lectool.gan.game import Game, Player

__all__ = ["Several", "several"]


class Several(nn.Module):
    r"""Networks of one form as one module, whose weights are stacked along a first axis.

    The networks stay what they are: their weights are views of the stack, so that whoever trains the stack trains
    them. Data have the networks on axis 1: shape (n, networks, …), each network with samples of its own.

    Arguments:
        nets: at least one; all of one form, each with its own start.

    Raises:
        ValueError: if there is none.

    Example:
        >>> both = Several([nn.Linear(3, 1), nn.Linear(3, 1)])
        >>> both(torch.zeros(5, 2, 3)).shape
        torch.Size([5, 2, 1])
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        check.at_least(1, n_nets=len(nets))
        self.nets = tuple(nets)  # a tuple, so that their views are not registered a second time
        weights, buffers = stack_module_state(list(nets))
        self.names, self.buffer_names = list(weights), list(buffers)
        self.weights = nn.ParameterList(weights.values())
        for name, buffer in buffers.items():
            self.register_buffer(name.replace(".", "-"), buffer)
        for i, net in enumerate(nets):
            for name, p in net.named_parameters():
                p.data = weights[name].data[i]
            for name in buffers:
                owner, _, leaf = name.rpartition(".")
                net.get_submodule(owner)._buffers[leaf] = buffers[name][i]

    def each(self, f: Callable, out_dim: int = 0) -> Callable:
        r"""A function of one network, ``f(net, *data)``, as a function of all of them, whose results are stacked.

        Randomness within ``f`` differs from network to network.
        """
        root = _Call(self.nets[0])

        def run(state: dict[str, Tensor], *data: Any) -> Any:
            return functional_call(root, state, (f, *data))

        def together(*data: Any) -> Any:
            state = dict(zip(self.names, self.weights, strict=True))
            state |= {name: getattr(self, name.replace(".", "-")) for name in self.buffer_names}
            state = {f"net.{name}": t for name, t in state.items()}
            in_dims = (0, *[1] * len(data))
            return vmap(run, in_dims, out_dim, randomness="different")(state, *data)

        return together

    def forward(self, x: Tensor) -> Tensor:
        r"""Each network's outputs on its own samples, (n, networks, …) to (n, networks, …)."""
        return self.each(lambda net, v: net(v), out_dim=1)(x)

    def train(self, mode: bool = True) -> "Several":
        for net in self.nets:
            net.train(mode)
        return super().train(mode)

    def part(self, prefix: str) -> nn.ParameterList:
        r"""The stacked weights whose names begin so."""
        chosen = [p for name, p in zip(self.names, self.weights) if name.startswith(prefix)]
        return nn.ParameterList(chosen)


class _Call(nn.Module):
    r"""Gives ``functional_call`` a function in place of a forward pass."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, f: Callable, *data: Any) -> Any:
        return f(self.net, *data)


def several(games: Sequence[Game]) -> Game:
    r"""Games of one form, each with its own start, as one game: five seeds for little more than the price of one.

    Each game is played as if it were alone, against data of its own: shape (n, games, …). Its networks can be looked at
    and used at any time.

    Arguments:
        games: at least one; made by the same lines, with networks of their own.

    Raises:
        ValueError: if there is none.
    """
    check.at_least(1, n_games=len(games))
    first = games[0]
    stack = Several([game.modules for game in games])

    def together(f: Callable, out_dim: int = 0) -> Callable:
        return stack.each(lambda _, *data: f(*data), out_dim)

    def joined(side: str, offset: int) -> dict[str, Player]:
        players = {}
        for i, (name, player) in enumerate(getattr(first, side).items()):
            copies = [getattr(game, side)[name] for game in games]
            both = Player(
                stack.part(f"{offset + i}."), together(player.loss), optimizer=_like(player)
            )
            both.constrain = lambda _, copies=copies: [
                c.constrain(c.net) for c in copies if c.constrain
            ]
            players[name] = both
        return players

    def make(*batch: Tensor, generator: torch.Generator | None = None) -> Any:
        return together(lambda *one: first.make(*one, generator=generator), out_dim=1)(*batch)

    def sanity(*batch: Tensor) -> None:
        for i, game in enumerate(games):
            if game.sanity is not None:
                game.sanity(*[t[:, i] for t in batch])

    makers = joined("makers", 0)
    return Joined(makers, joined("judges", len(makers)), make, first.k, [stack], sanity)


def _like(player: Player) -> Callable:
    return lambda parameters, lr: player.make_optimizer(parameters)


class Joined(Game):
    r"""A game of games; all of its state is in one stack."""

    @property
    def modules(self) -> nn.ModuleList:
        return nn.ModuleList(self.others)
