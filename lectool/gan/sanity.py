r"""What can be seen of a game of two before it begins: shapes and ranges that do not fit, a sigmoid too many."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lectool.random import noise

__all__ = ["check_two"]

RESHAPING = (nn.Flatten, nn.Unflatten, nn.Identity)
SQUASHING = (nn.Sigmoid, nn.Softmax, nn.LogSigmoid, nn.Hardsigmoid)


def last_part(module: nn.Module) -> nn.Module | None:
    r"""The last leaf of a network that does more than reshape."""
    leaves = [
        m for m in module.modules() if not list(m.children()) and not isinstance(m, RESHAPING)
    ]
    return leaves[-1] if leaves else None


@torch.no_grad()
def check_two(
    G: nn.Module, D: nn.Module, latent: int | Sequence[int], x: Tensor, *conditions: Tensor
) -> None:
    r"""Stops a game that cannot go well before it begins.

    Arguments:
        G, D: the generator and the discriminator, see :func:`lectool.gan.two_player`.
        latent: shape of one code.
        x: the data, and conditions.

    Raises:
        ValueError: if the shapes of data and networks do not fit, the data leave the range of the generator's last
            part, or the discriminator ends in a sigmoid.
    """
    n, shape = min(len(x), 16), (latent,) if isinstance(latent, int) else latent
    given = [c[:n] for c in conditions]
    z = noise((n, *shape), x, torch.Generator().manual_seed(0))
    G.eval()
    D.eval()
    try:
        fake = G(z, *given)
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
    end, given_range = last_part(G), f"the data lie in [{low:.3g}, {high:.3g}]"
    if isinstance(end, nn.Sigmoid) and (low < 0 or high > 1):
        raise ValueError(f"{given_range}, the generator ends in a sigmoid; expected data in [0, 1]")
    if isinstance(end, nn.Tanh) and (low < -1 or high > 1):
        raise ValueError(f"{given_range}, the generator ends in a tanh; expected data in [−1, 1]")
    if isinstance(end, nn.Tanh) and low >= 0:
        raise ValueError(
            f"{given_range}, the generator ends in a tanh; expected data that use [−1, 1], such as 2x − 1"
        )
    try:
        logits = D(x[:n], *given)
    except RuntimeError as error:
        raise ValueError(
            f"the discriminator does not take data of shape {tuple(x[:n].shape)}: {error}"
        ) from error
    if len(logits) != n:
        raise ValueError(
            f"the discriminator's output has shape {tuple(logits.shape)}; expected {n} on the first axis"
        )
    # At inputs a thousand times too large a logit runs away; a probability is pinned to 0 or 1.
    far = torch.cat([logits, D(1e3 * x[:n], *given), D(-1e3 * x[:n], *given)])
    pinned = bool(((far >= 0) & (far <= 1)).all()) and bool(((far < 1e-3) | (far > 1 - 1e-3)).any())
    if isinstance(last_part(D), SQUASHING) or (pinned and float(far.max() - far.min()) > 0):
        raise ValueError(
            f"the discriminator's outputs lie in [{far.min():.3g}, {far.max():.3g}] as if behind a sigmoid; "
            "expected logits: the objectives apply the sigmoid themselves"
        )
