"""A game that is written to a file goes on as if it had never stopped."""

import pytest
import torch

from lectool import gan, nets, random


def game(seed=0, width=8, **options):
    torch.manual_seed(seed)
    G, D = nets.mlp([2, width, 2]), nets.mlp([2, width, 1])
    return gan.two_player(G, D, gan.Fisher(0.1), latent=2, **options)


def plane():
    return torch.randn(100, 2, generator=torch.Generator().manual_seed(0))


def weights(played):
    return list(played.modules.state_dict().values())


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("stop", [3, 5, 6])
def test_a_resumed_game_is_the_uninterrupted_one_to_the_bit(tmp_path, own, stop):
    options = {"n_steps": 10, "window": 3, "batch_size": 8, "schedule": "linear"}

    def run(start, seed=1, **more):
        torch.manual_seed(seed)
        generator = random.generator(seed) if own else None
        played = game(k=2) if start else game(seed=9, k=2)
        torch.manual_seed(seed)
        return played, gan.play(played, plane(), generator=generator, **options, **more)

    def leave(n, _):
        if n == stop + 1:
            raise KeyboardInterrupt

    path, seen = tmp_path / "game.pt", []
    whole, expected = run(True)
    assert run(True, checkpoint=path, each=leave)[1].interrupted
    resumed, record = run(False, seed=7, checkpoint=path, each=lambda n, _: seen.append(n))
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    assert record.terms == expected.terms and record.steps == expected.steps == [3, 6, 9, 10]
    assert record.n_steps == 10 and not record.interrupted
    assert seen == list(range(3 * (stop // 3) + 1, 11))
    assert [p.name for p in tmp_path.iterdir()] == ["game.pt"]


def test_a_finished_game_is_only_loaded(tmp_path):
    path, first, second = tmp_path / "game.pt", game(), game(seed=4)
    gan.play(first, plane(), n_steps=4, window=2, batch_size=8, checkpoint=path)
    stamp = path.stat().st_mtime_ns
    record = gan.play(second, plane(), n_steps=4, window=2, batch_size=8, checkpoint=str(path))
    assert record.n_steps == 4 and path.stat().st_mtime_ns == stamp
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_a_checkpoint_of_another_game_is_refused(tmp_path):
    path = tmp_path / "game.pt"
    gan.play(game(), plane(), n_steps=2, batch_size=8, checkpoint=path)
    other = game(width=9)
    with pytest.raises(
        ValueError, match=r"another model, game of generator, discriminator against"
    ):
        gan.play(other, plane(), n_steps=4, batch_size=8, checkpoint=path)


def test_a_game_that_left_the_finite_numbers_is_not_written(tmp_path):
    """The file holds the last good window, from which a smaller step may go on."""
    path = tmp_path / "game.pt"

    def poison(n, played):
        if n == 5:
            with torch.no_grad():
                next(played.modules.parameters()).fill_(torch.nan)

    record = gan.play(
        game(), plane(), n_steps=9, window=3, batch_size=8, checkpoint=path, each=poison
    )
    assert record.stopped and record.n_steps == 3
    record = gan.play(game(), plane(), n_steps=9, window=3, batch_size=8, checkpoint=path)
    assert record.n_steps == 9 and not record.stopped and record.steps == [3, 6, 9]


def test_losses_are_the_players_own_again():
    played = game()
    before = [p.loss for p in (*played.makers.values(), *played.judges.values())]
    gan.play(played, plane(), n_steps=1, batch_size=8)
    assert [p.loss for p in (*played.makers.values(), *played.judges.values())] == before
