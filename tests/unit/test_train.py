"""The gradient loop against a bare one, and every fault that it may meet."""

import math

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import nn

from lectool import random, train
from lectool.nets import mlp
from lectool.record import Stopped
from lectool.train import History, fit


@pytest.fixture(autouse=True)
def no_shift(monkeypatch):
    monkeypatch.delenv("LECTOOL_SEED", raising=False)
    yield
    torch.set_flush_denormal(False)


class Small(nn.Module):
    """An autoencoder with dropout, so that random numbers and modes matter."""

    def __init__(self, d: int = 6, k: int = 3, dropout: float = 0.2):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(d, k), nn.BatchNorm1d(k), nn.Dropout(dropout), nn.Linear(k, d)
        )

    def loss(self, x):
        return (self.net(x) - x).square().sum(1).mean()


def made(kind=Small, **options) -> nn.Module:
    torch.manual_seed(1)
    return kind(**options)


def samples(n: int = 50, d: int = 6) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(p, q)
        for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


# ------------------------------------------------------------------------------------------- the loop


def test_fit_is_a_bare_loop_to_the_bit():
    x, epochs, size = samples(), 4, 16  # 50 samples: the last batch has 2
    model, bare = made(), made()
    torch.manual_seed(2)
    history = fit(model, x, epochs=epochs, batch_size=size, lr=0.01)

    torch.manual_seed(2)
    opt = torch.optim.Adam(bare.parameters(), lr=0.01, fused=True)
    means = []
    for _ in range(epochs):
        bare.train()
        order, total = torch.randperm(len(x)), 0.0
        for rows in order.split(size):
            loss = bare.loss(x[rows])
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item() * len(rows)
        means.append(total / len(x))
    assert same(model, bare)
    assert history["loss"] == pytest.approx(means, rel=1e-6)
    assert history.n_epochs == epochs and not history.interrupted and history.seconds > 0
    assert list(history.terms) == ["loss"]


def test_several_tensors_are_sliced_alike_and_terms_are_named():
    x = torch.arange(20.0)[:, None]
    y = torch.arange(20) * 2  # integers, as labels are
    model = nn.Linear(1, 1)

    def loss(x, y):
        assert torch.equal(2 * x[:, 0].long(), y)
        error = (model(x)[:, 0] - y).square().mean()
        return {"loss": error + 3.0, "error": error, "mean x": x.mean()}

    history = fit(model, (x, y), epochs=3, batch_size=6, lr=1e-3, loss=loss)
    assert list(history.terms) == ["loss", "error", "mean x"]
    assert all(len(values) == 3 for values in history.terms.values())
    assert history["mean x"] == pytest.approx([9.5] * 3)  # weighted by the size of each batch
    assert [a - b for a, b in zip(history["loss"], history["error"])] == pytest.approx(
        [3.0] * 3, rel=1e-4
    )
    assert history["error"][-1] < history["error"][0]


def test_only_the_term_called_loss_is_descended():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    loss = {"loss": 0, "other": 0}

    def terms(x):
        loss["loss"], loss["other"] = model.weight.square().sum(), -1000 * model.weight.sum()
        return loss

    fit(model, torch.ones(4, 1), epochs=5, batch_size=4, lr=0.1, loss=terms)
    assert model.weight.item() < 1


def test_validation_is_recorded_in_eval_mode_without_gradient():
    model, x, held_out = made(), samples(), samples(9)
    seen = []

    def loss(x):
        seen.append((len(x), model.training, torch.is_grad_enabled()))
        return model.loss(x)

    history = fit(model, x, epochs=2, batch_size=25, loss=loss, validation=held_out)
    assert seen == [(25, True, True), (25, True, True), (9, False, False)] * 2
    assert list(history.terms) == ["loss", "validation loss"]
    assert history["validation loss"][-1] == pytest.approx(model.eval().loss(held_out).item())
    history = fit(
        model,
        [x, x],
        epochs=1,
        validation=[held_out, held_out],
        loss=lambda a, b: {"loss": model.loss(a), "b": b.mean()},
    )
    assert list(history.terms) == ["loss", "b", "validation loss", "validation b"]
    assert history["validation b"][0] == pytest.approx(held_out.mean().item(), rel=1e-5)


def test_callback_after_each_epoch():
    model, seen = made(), []

    def callback(epoch, net):
        seen.append((epoch, net is model, net.training, torch.is_grad_enabled()))

    fit(model, samples(), epochs=3, callback=callback)
    assert seen == [(1, True, False, False), (2, True, False, False), (3, True, False, False)]
    assert not model.training and torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", lambda s: 1.0),
        ("linear", lambda s: 1 - s),
        ("cosine", lambda s: 0.5 * (1 + math.cos(math.pi * s))),
        ("triangle", lambda s: min((s + 1e-3) / 0.1, (1 - s) / 0.9)),
    ],
)
def test_schedules_from_first_to_last_update(schedule, expected):
    rates = []

    class Recorder(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    fit(made(), samples(), epochs=3, batch_size=16, lr=0.02, schedule=schedule, optimizer=Recorder)
    n = 3 * 4
    assert rates == pytest.approx([0.02 * expected(i / n) for i in range(n)])
    assert max(rates) <= 0.02
    if schedule == "triangle":
        assert rates[0] < 0.001 and rates.index(max(rates)) in (
            1,
            2,
        )  # up during the first tenth of 12 updates
        assert 0 < rates[-1] < 0.02 / n * 1.12  # the next one would be 0
    else:
        assert rates[0] == 0.02
    if schedule in ("linear", "cosine"):
        assert 0 < rates[-1] < 0.02 / n * 1.01
        assert rates == sorted(rates, reverse=True)


def test_a_frozen_parameter_stays():
    model = made()
    model.net[0].requires_grad_(False)
    before = model.net[0].weight.clone()
    fit(model, samples(), epochs=1)
    assert torch.equal(model.net[0].weight, before)


def test_no_epoch_is_no_change():
    model, before = made(), made()
    history = fit(model, samples(), epochs=0)
    assert same(model, before) and history.n_epochs == 0 and history.terms == {}


def test_float64_is_kept():
    model, x = made().double(), samples().double()
    history = fit(model, x, epochs=1)
    assert all(p.dtype == torch.float64 for p in model.parameters())
    assert math.isfinite(history["loss"][0])


def test_a_larger_batch_than_the_data():
    model, bare = made(dropout=0.0), made(dropout=0.0)
    x = samples()
    torch.manual_seed(0)
    fit(model, x, epochs=1, batch_size=1000)
    torch.manual_seed(0)
    fit(bare, x, epochs=1, batch_size=50)
    assert same(model, bare)


def test_progress_shows_where_asked(capsys, monkeypatch):
    monkeypatch.setenv("LECTOOL_EXPLORE", "static")
    fit(made(), samples(), epochs=1)
    assert "Small" not in capsys.readouterr().err  # nobody watches
    fit(made(), samples(), epochs=2, progress=True)
    text = capsys.readouterr().err
    last = text.splitlines()[-1]
    assert "Small: 100 %" in last and "2 of 2 updates" in last and "loss=" in last
    monkeypatch.setenv("LECTOOL_EXPLORE", "live")
    fit(made(), samples(), epochs=1, progress=False)
    assert "Small" not in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, schedule, stop):
    x, held_out, path = samples(), samples(9), tmp_path / "run.pt"
    whole = made()
    torch.manual_seed(3)
    expected = fit(
        whole, x, epochs=5, batch_size=16, lr=0.01, schedule=schedule, validation=held_out
    )

    def leave(epoch, _model):
        if epoch == stop + 1:
            raise KeyboardInterrupt

    options = {
        "epochs": 5,
        "batch_size": 16,
        "lr": 0.01,
        "schedule": schedule,
        "validation": held_out,
    }
    broken, resumed = made(), made()
    torch.manual_seed(3)
    assert fit(broken, x, checkpoint=path, callback=leave, **options).interrupted
    torch.manual_seed(99)  # another process: its random numbers are elsewhere
    history = fit(resumed, x, checkpoint=path, **options)
    assert same(resumed, whole)
    assert history.terms == expected.terms and history.n_epochs == 5 and not history.interrupted
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_a_finished_run_is_only_loaded(tmp_path):
    path, x = tmp_path / "run.pt", samples()
    done = made()
    expected = fit(done, x, epochs=2, checkpoint=path)
    stamp = path.stat().st_mtime_ns
    other = Small()
    history = fit(other, x, epochs=2, checkpoint=str(path))
    assert same(other, done) and history == expected and path.stat().st_mtime_ns == stamp


class Other(Small):
    pass


class Deeper(Small):
    def __init__(self):
        super().__init__()
        self.more = nn.Linear(2, 2)


Deeper.__name__ = "Small"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Other, ["Small against Other"]),
        (lambda: Small(k=4), ["net.0.weight", r"\(3, 6\)", r"\(4, 6\)"]),
        (Deeper, ["more.weight", "None"]),
    ],
)
def test_a_checkpoint_of_another_model(tmp_path, make, words):
    path = tmp_path / "run.pt"
    fit(made(), samples(), epochs=1, checkpoint=path)
    content = path.read_bytes()
    other = make()
    before = {k: v.clone() for k, v in other.state_dict().items()}
    for word in ["another model", "run.pt", *words]:
        with pytest.raises(ValueError, match=word):
            fit(other, samples(), epochs=2, checkpoint=path)
    assert all(torch.equal(before[k], v) for k, v in other.state_dict().items())
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "kind", ["empty", "text", "truncated", "another object", "half of its entries"]
)
def test_a_damaged_checkpoint_is_named(tmp_path, kind):
    path = tmp_path / "run.pt"
    fit(made(), samples(), epochs=1, checkpoint=path)
    content = path.read_bytes()
    if kind == "another object":
        torch.save([1, 2], path)
    elif kind == "half of its entries":
        torch.save({"name": "Small", "model": made().state_dict()}, path)
    else:
        path.write_bytes(
            {"empty": b"", "text": b"hello", "truncated": content[: len(content) // 2]}[kind]
        )
    with pytest.raises(ValueError, match=r"run\.pt: no checkpoint of lectool, or a damaged one"):
        fit(made(), samples(), epochs=2, checkpoint=path)


def test_a_save_that_fails_leaves_the_old_checkpoint_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    fit(made(), samples(), epochs=1, checkpoint=path)
    content = path.read_bytes()

    def disk_full(_state, file):
        with open(file, "wb") as f:
            f.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space left"):
        fit(made(), samples(), epochs=2, checkpoint=path)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_ctrl_c_while_saving_leaves_no_part(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    save = torch.save

    def interrupted(state, file):
        save(state, file)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    assert fit(made(), samples(), epochs=2, checkpoint=path).interrupted
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------- faults in a run


def test_ctrl_c_between_epochs():
    def callback(epoch, _model):
        if epoch == 2:
            raise KeyboardInterrupt

    model = made()
    history = fit(model, samples(), epochs=9, callback=callback)
    assert history.interrupted and history.n_epochs == 2 and len(history["loss"]) == 2
    assert not model.training and torch.isfinite(model.loss(samples()))


def test_in_a_notebook_ctrl_c_ends_the_cell_in_one_line():
    shell = InteractiveShell.instance()
    try:
        shell.user_ns |= {"fit": fit, "model": made(), "x": samples()}
        ran = shell.run_cell(
            "def leave(epoch, model):\n    if epoch == 2: raise KeyboardInterrupt\n"
            "for _ in range(3):\n    begun = True\n    fit(model, x, epochs=9, callback=leave)\n    begun = False"
        )
        stop = ran.error_in_exec
        assert isinstance(stop, Stopped) and shell.user_ns["begun"]
        assert stop._render_traceback_() == [
            "stopped after epoch 2 of 9; the model keeps what it has learned"
        ]
        assert stop.record.interrupted and stop.record.n_epochs == 2
        assert not shell.user_ns["model"].training
        assert shell.run_cell("history = fit(model, x, epochs=1)").success
    finally:
        InteractiveShell.clear_instance()


def test_ctrl_c_inside_an_epoch():
    model, calls = made(), []

    def loss(x):
        calls.append(1)
        if len(calls) == 6:  # the second of the second epoch
            raise KeyboardInterrupt
        return model.loss(x)

    history = fit(model, samples(), epochs=9, batch_size=16, loss=loss)
    assert history.interrupted and history.n_epochs == 1 and len(history["loss"]) == 1
    assert not model.training and torch.isfinite(model.loss(samples()))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("term", ["loss", "extra"])
def test_a_non_finite_term_is_named_with_model_and_epoch(value, term):
    model, calls = made(), []

    def loss(x):
        calls.append(1)
        factor = torch.tensor(
            value if len(calls) == 7 else 1.0
        )  # in the second epoch of four updates
        terms = {"loss": model.loss(x), "extra": x.mean()}
        terms[term] = terms[term] + factor
        return terms

    with pytest.raises(
        FloatingPointError, match=f"Small: the term '{term}' is .* in epoch 2; .*lr than 0.001"
    ):
        fit(model, samples(), epochs=9, batch_size=16, loss=loss)
    assert len(calls) == 8  # it stops at the end of that epoch
    assert not model.training


def test_a_non_finite_validation_is_an_error_too():
    model = made()
    with pytest.raises(FloatingPointError, match="'validation loss' is inf in epoch 1"):
        fit(
            model,
            samples(),
            validation=samples(9),
            loss=lambda x: model.loss(x) / (0.0 if len(x) == 9 else 1.0),
        )


def test_a_run_that_diverges_is_stopped():
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="Linear: the term 'loss'"):
        fit(
            model,
            10 * torch.ones(64, 1),
            epochs=200,
            batch_size=1,
            lr=10.0,
            optimizer=torch.optim.SGD,
            loss=lambda x: (model(x) - x).square().mean(),
        )


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.full((5, 6), math.nan), "x holds 30 values that are NaN or infinite"),
        (torch.tensor([[1.0, math.inf]] * 3), "x holds 3 values"),
        (torch.zeros(0, 6), "expected equal lengths of at least 1"),
        (
            (torch.zeros(3, 6), torch.zeros(4, 6)),
            r"x has \[\(3, 6\), \(4, 6\)\]; expected equal lengths",
        ),
        ((torch.zeros(3, 6), torch.full((3,), math.nan)), "x holds 3 values"),
        ([], "expected equal lengths"),
    ],
)
def test_data_that_cannot_be_learnt_from(x, words):
    with pytest.raises(ValueError, match=words):
        fit(made(), x)
    if isinstance(x, torch.Tensor):
        with pytest.raises(ValueError, match=words.replace("x holds", "validation holds")):
            fit(made(), samples(), validation=x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": -1}, "epochs is -1; expected a finite number ≥ 0"),
        ({"steps": -1}, "steps is -1; expected a finite number ≥ 0"),
        ({"batch_size": 0}, "batch_size is 0; expected a finite number ≥ 1"),
        ({"lr": 0.0}, "lr is 0.0; expected a finite number > 0"),
        ({"lr": math.nan}, "lr is nan; expected a finite number > 0"),
        ({"schedule": "step"}, "schedule is 'step'; it can be .*constant.*linear.*cosine"),
    ],
)
def test_settings_out_of_range(options, words):
    with pytest.raises(ValueError, match=words):
        fit(made(), samples(), **options)


def test_a_model_without_parameters():
    with pytest.raises(ValueError, match="ReLU has no parameter to train"):
        fit(nn.ReLU(), samples())
    frozen = made().requires_grad_(False)
    with pytest.raises(ValueError, match="Small has no parameter to train"):
        fit(frozen, samples())


def test_two_runs_from_one_seed_are_equal():
    models = []
    for _ in range(2):
        random.seed(3)
        models.append(Small())
        fit(models[-1], samples(), epochs=2)
    assert same(*models)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu"), (True, False, "cuda")],
)
def test_device_prefers_cuda_then_mps(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert train.device() == torch.device(expected)


def test_a_part_may_ask_for_a_step_size_of_its_own():
    """One update of SGD moves the part's own parameters by its multiple, not those of its parts."""

    class Part(nn.Module):
        lr_factor = 3.0

        def __init__(self):
            super().__init__()
            self.w, self.inner = nn.Parameter(torch.zeros(())), nn.Linear(1, 1, bias=False)

    model = nn.ModuleList([Part(), nn.Linear(1, 1, bias=False)])
    nn.init.zeros_(model[0].inner.weight), nn.init.zeros_(model[1].weight)

    def loss(x):
        return model[0].w + model[0].inner.weight.sum() + model[1].weight.sum()

    fit(model, samples(8), epochs=1, batch_size=8, lr=0.1, loss=loss, optimizer=torch.optim.SGD)
    moved = [model[0].w.item(), model[0].inner.weight.item(), model[1].weight.item()]
    assert moved == pytest.approx([-0.3, -0.1, -0.1])


def test_the_schedule_scales_every_group():
    """Of two linear steps the first is whole and the second half, for both multiples."""
    model = nn.ModuleList([nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)])
    model[0].lr_factor = 2.0
    start = [layer.weight.item() for layer in model]

    def loss(x):
        return model[0].weight.sum() + model[1].weight.sum()

    fit(
        model,
        samples(16),
        epochs=1,
        batch_size=8,
        lr=0.1,
        schedule="linear",
        loss=loss,
        optimizer=torch.optim.SGD,
    )
    moved = [layer.weight.item() - w for layer, w in zip(model, start)]
    assert moved == pytest.approx([-0.3, -0.15])


def test_fit_trains_what_the_book_trains():
    random.seed(0)
    net = mlp([6, 8, 6])
    history = fit(
        net, samples(200), epochs=30, lr=0.01, loss=lambda x: (net(x) - x).square().sum(1).mean()
    )
    assert history["loss"][-1] < 0.3 * history["loss"][0]


def test_a_history_shows_where_training_ended():
    assert repr(History({"loss": [3.0, 1.23456]}, n_epochs=2)) == "History(2 epochs: loss 1.235)"
    assert repr(History()) == "History(0 epochs)"
