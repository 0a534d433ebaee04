"""Long runs: kept within their time, resumed where they stopped, and written down as they were."""

import ast
import inspect
import json
import math
import time
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from lectool import published, random, results
from lectool.full import RUNS, Session, __main__, core, perform, picture
from lectool.published import LOG_P, PUBLISHED, Published

VALUE = {"metric": "bits", "value": 1.5, "published": 1.0, "source": "A paper (2020)"}
RECORD = {
    "name": "x",
    "chapter": "09-boltzmann",
    "scale": "full",
    "seed": 0,
    "device": "CPU, 2 cores",
    "date": "2026-01-31",
    "commit": "unknown",
    "versions": {"torch": "2.4"},
    "seconds": 1.5,
    "values": [VALUE],
}
TABLE = {"columns": ["a", "b"], "rows": [[1, None]]}


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """A checkout of its own, in which nothing has been run yet, and seeds that nobody shifts."""
    monkeypatch.delenv("LECTOOL_SEED", raising=False)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results.metadata, "files", lambda name: [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    yield
    torch.set_flush_denormal(False)


# ------------------------------------------------------------------------------------------------- records


def test_a_record_comes_back_as_it_was_written(tmp_path):
    assert results.load("x") is None
    assert results.write("x", RECORD) == tmp_path / "results" / "x.json"
    assert results.load("x") == RECORD
    assert not list((tmp_path / "results").glob("*.part"))


def test_a_table_in_place_of_values():
    other = {**{k: v for k, v in RECORD.items() if k not in ("values", "seed")}, "seeds": [0, 1]}
    assert not list(results.problems("x", {**other, "table": TABLE}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "y"}, "expected 'x'"),
        ({"scale": "huge"}, "it can be full, quick, smoke"),
        ({"seed": 0.5}, "seed"),
        ({"seeds": [0]}, "seed"),
        ({"date": "today"}, "YYYY-MM-DD"),
        ({"device": ""}, "device"),
        ({"versions": {}}, "versions"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"values": []}, "not empty"),
        ({"values": [{}]}, "no metric"),
        ({"values": [{**VALUE, "value": math.nan}]}, "finite"),
        ({"values": [{**VALUE, "source": ""}]}, "source"),
        ({"table": TABLE}, "either values or a table"),
    ],
)
def test_a_wrong_record_is_not_written(change, words):
    with pytest.raises(ValueError, match=words):
        results.write("x", RECORD | change)
    assert results.load("x") is None


@pytest.mark.parametrize(
    "table",
    [
        {"columns": ["a", ""], "rows": [[1, 2]]},
        {"columns": ["a"], "rows": []},
        {"columns": ["a"], "rows": [[1, 2]]},
        {"columns": ["a"], "rows": [[math.inf]]},
        [],
    ],
)
def test_a_wrong_table_is_named(table):
    other = {k: v for k, v in RECORD.items() if k != "values"} | {"table": table}
    assert any("table" in words for words in results.problems("x", other))


@pytest.mark.parametrize("record", [None, [], {}])
def test_what_is_no_record_is_named(record):
    assert list(results.problems("x", record))


@pytest.mark.parametrize("name", ["X", "a b", "../a", "", "a-"])
def test_names_of_files(name):
    assert any("hyphens" in words for words in results.problems(name, {**RECORD, "name": name}))


def test_a_broken_file_is_named(tmp_path):
    results.write("x", RECORD)
    (tmp_path / "results" / "x.json").write_text("{")
    with pytest.raises(ValueError, match=r"x\.json is no JSON"):
        results.load("x")


def test_without_a_checkout_a_folder_has_to_be_named(tmp_path):
    (tmp_path / "pyproject.toml").unlink()
    with pytest.raises(FileNotFoundError, match="no checkout"):
        results.write("x", RECORD)
    assert results.write("x", RECORD, tmp_path / "mine").is_file()


def test_records_that_were_installed_are_found(tmp_path, monkeypatch):
    place = results.write("x", RECORD, tmp_path / "share" / "lectool" / "results")

    class Installed:
        name, parent = place.name, place.parent

        def locate(self):
            return place

    monkeypatch.setattr(results.metadata, "files", lambda name: [Installed()])
    assert results.load("x") == RECORD
    results.write("x", RECORD | {"seed": 1})
    assert results.load("x")["seed"] == 1  # the checkout's own goes first


def test_nothing_is_found_where_lectool_is_not_installed(monkeypatch):
    def missing(name):
        raise results.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(results.metadata, "files", missing)
    assert results.load("x") is None


def test_circumstances_fit_a_record():
    here = results.circumstances()
    assert not list(results.problems("x", RECORD | here))
    assert here["versions"]["torch"] == torch.__version__
    assert here["commit"] == "unknown"  # tmp_path is no repository


# ------------------------------------------------------------------------------------------------ the runs


def test_runs_are_those_that_were_published():
    assert list(RUNS) == list(PUBLISHED)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_run_says_what_differs_and_is_short(run):
    words = inspect.getdoc(type(run))
    assert "Ours:" in words and len(run.alt) > 30
    tree = ast.parse(inspect.getsource(type(run)))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert max(node.end_lineno - node.lineno for node in functions) < 30


# Between what hardly any training gives and its half or double. 206 nats are those of the pixels' base rates.
BEGINNERS = {
    "−log p by AIS, nats": (150, 240),
    "−log p, nats": (150, 240),
    "squared error an image": (30, 80),
    "the same of PCA-30": (8, 25),
    "test error, %": (25, 92),
    "test error without labels, %": (50, 92),
    "bits a pixel": (2.5, 5.5),
    "modes covered, GAN": (0, 8),
    "modes covered, unrolled GAN": (0, 8),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_tiny_run_leaves_a_record_and_a_picture(run, tmp_path):
    session = Session(tmp_path / "kept", smoke=True)
    record = perform(run, session, tmp_path)
    assert json.loads((tmp_path / f"{run.name}.json").read_text("utf8")) == record
    assert [v["metric"] for v in record["values"]] == list(run.paper.figures)
    assert record["scale"] == "smoke" and record["finished"]
    for value in record["values"]:
        low, high = BEGINNERS[value["metric"]]
        assert low <= value["value"] <= high, value
    picture = tmp_path / f"{run.name}.png"
    assert picture.stat().st_size <= 60_000
    assert len(set(Image.open(picture).convert("L").tobytes())) > 1
    # Once more, from the checkpoints: nothing is left to be trained, and the same is measured.
    again = perform(run, Session(tmp_path / "kept", smoke=True), tmp_path)
    assert again["progress"] == record["progress"] and again["finished"]


def test_what_is_measured_where_it_is_known(tmp_path):
    s = Session(tmp_path / "kept", smoke=True)
    digits = s.digits()
    ladder = SimpleNamespace(predict=lambda x: torch.full((len(x),), 3))
    wrong = RUNS["ladder"].measure(s, ladder)["test error, %"]
    assert wrong == pytest.approx(100 * (digits.y_test != 3).double().mean().item())
    level = SimpleNamespace(elbo=lambda v, n: torch.full((len(v),), -100.0))
    for name in ("vae", "iwae-2"):  # the mean of many equal densities is this density
        assert RUNS[name].measure(s, level)[LOG_P] == pytest.approx(100, rel=1e-6)
    rbm = RUNS["rbm"].build(s).requires_grad_(False)
    rbm.W.zero_()  # then its pixels are coins, each by itself
    bits = random.bernoulli(digits.x_test, random.generator(1))
    coins = binary_cross_entropy_with_logits(rbm.c.expand_as(bits), bits, reduction="none")
    assert RUNS["rbm"].measure(s, rbm)["−log p by AIS, nats"] == pytest.approx(
        coins.sum(1).mean().item(), rel=1e-3
    )
    ring = RUNS["ring"]
    games = [([lambda z, n=n: ring.centers[:n].repeat(len(z) // n, 1)] * 5, None) for n in (2, 8)]
    assert list(ring.measure(s, games).values()) == [2, 8]


def test_a_long_run_takes_nothing_but_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("LECTOOL_DIGITS", "bundled")
    with pytest.raises(ValueError, match="MNIST"):
        Session(tmp_path / "kept").digits()


# ------------------------------------------------------------------------------------------- time and ends


class Line(nn.Module):
    """Learns a number; counts its updates, and may be stopped before one."""

    def __init__(self, pause: float = 0.0, stop: int | None = None):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(()))
        self.pause, self.stop, self.n, self.steps = pause, stop, 0, []

    def loss(self, x):
        if self.n == self.stop:
            raise KeyboardInterrupt
        self.n += 1
        time.sleep(self.pause)
        return (x - self.a).square().mean()


class Tiny(core.Run):
    name, alt = "x", "Noise, in forty tiles, for whoever wants to see it."
    paper = Published("a line", "01-pca", {"error": 0.5}, "Nobody (2020)")

    def __init__(self, **settings):
        self.settings = settings

    def build(self, s):
        return Line(**self.settings)

    def train(self, s, model):
        s.fit(model, torch.randn(40, 1), epochs=10, batch_size=10, lr=0.1, schedule="linear")
        return model

    def measure(self, s, model):
        return {"error": float((model.a - 1).square())}

    def picture(self, s, model):
        return torch.rand(40, 784)


def test_a_stopped_run_goes_on_from_its_checkpoint(tmp_path):
    whole = Line()
    Tiny().train(Session(tmp_path / "whole", smoke=True), whole)
    stopped, folder = Line(stop=4 * 3 + 2), tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        Tiny().train(Session(folder, smoke=True), stopped)
    rest, session = Line(), Session(folder, smoke=True)
    Tiny().train(session, rest)
    assert rest.n == 4 * 7  # three epochs of four updates were kept
    assert session.how_far() == "10 of 10 epochs"
    torch.testing.assert_close(rest.a, whole.a, rtol=0, atol=0)


def test_a_stopped_run_writes_nothing_and_the_next_one_does(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        perform(Tiny(stop=6), Session(tmp_path / "kept", smoke=True), tmp_path)
    assert not (tmp_path / "x.json").exists()
    record = perform(Tiny(), Session(tmp_path / "kept", smoke=True), tmp_path)
    assert record["finished"] and record["progress"] == "10 of 10 epochs"


def test_time_ends_a_run_with_what_it_has(tmp_path):
    start = time.monotonic()
    record = perform(Tiny(pause=0.05), Session(tmp_path / "kept", 1.0, smoke=True), tmp_path)
    assert time.monotonic() - start < 3
    done = float(record["progress"].split()[0])
    assert not record["finished"] and 0 < done < 10
    assert record["seconds"] > 0.5


def test_a_finished_record_is_not_replaced_by_an_unfinished_one(tmp_path):
    slow = Session(tmp_path / "slow", 0.6, smoke=True)
    perform(Tiny(pause=0.2), slow, tmp_path)
    perform(Tiny(), Session(tmp_path / "kept", smoke=True), tmp_path)
    kept = [(tmp_path / name).read_bytes() for name in ("x.json", "x.png")]
    record = perform(Tiny(pause=0.2), Session(tmp_path / "new", 0.6, smoke=True), tmp_path)
    assert not record["finished"] and results_of(tmp_path)["finished"]
    assert [(tmp_path / name).read_bytes() for name in ("x.json", "x.png")] == kept


def results_of(folder):
    return json.loads((folder / "x.json").read_text("utf8"))


def test_less_than_an_epoch_counts_where_there_is_no_more(tmp_path):
    record = perform(Tiny(pause=0.2), Session(tmp_path / "kept", 0.6, smoke=True), tmp_path)
    assert 0 < float(record["progress"].split()[0]) < 1


def test_step_sizes_fall_with_the_work_or_with_the_time(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(core.time, "monotonic", lambda: clock[0])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    pace = core.Pace(10.0, 100, lambda done: 1 - done)
    pace.follow(optimizer)
    seen = []
    for now, n_done in ((0.0, 0), (1.0, 50), (6.0, 51)):
        clock[0], pace.n_done = now, n_done
        pace.tick()
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([1.0, 0.5, 0.4])
    clock[0] = 10.0
    with pytest.raises(core.TimeIsUp):
        pace.tick()


def test_measuring_ends_in_time_and_counts(tmp_path):
    session = Session(tmp_path / "kept", 0.5)
    for (_,) in session.test(torch.zeros(1000, 1), size=10):
        time.sleep(0.1)
    assert 10 <= session.n_test <= 60
    free = Session(tmp_path / "kept")
    rows = torch.cat([v for (v,) in free.test(torch.arange(95.0), size=10)])
    assert free.n_test == 95 and set(rows.tolist()) == set(range(95))


def test_what_can_be_afforded(tmp_path):
    session, done = Session(tmp_path / "kept", 1.0), []

    def work(n):
        done.append(n)
        time.sleep(0.01 * n)

    assert 10 <= session.affordable(work, 1000) < 100
    assert done == [2, 10]
    assert Session(tmp_path / "kept").affordable(work, 1000) == 1000


def test_the_falling_steps_of_burda_et_al():
    rates = []

    class Spy:
        limited, smoke = False, False
        pick = staticmethod(lambda paper, trial: paper)
        digits = staticmethod(lambda: type("Digits", (), {"x_train": torch.zeros(2, 784)}))

        def fit(self, model, x, *, schedule, **settings):
            # The i-th of eight stages has 3^i passes.
            starts = [(3**i - 1) // 2 for i in range(9)]
            assert settings["epochs"] == starts[-1] == 3280
            rates.extend(schedule((n + 0.5) / 3280) for n in starts[:-1])
            rates.append(schedule(1.0))

    RUNS["vae"].train(Spy(), None)
    assert rates[:8] == pytest.approx([10 ** (-i / 7) for i in range(8)])


# ---------------------------------------------------------------------------------------- the command line


def test_the_list_names_each_run(capsys):
    assert __main__.main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in RUNS)


@pytest.mark.parametrize("words", [["nothing"], [], ["rbm", "--minutes", "0"]])
def test_wrong_words_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        __main__.main(words)
    assert "error" in capsys.readouterr().err


def test_trials_stay_out_of_the_results(tmp_path, capsys):
    assert __main__.main(["ring", "--smoke"]) == 0
    assert (tmp_path / "build" / "smoke" / "ring.json").is_file()
    assert not (tmp_path / "results").exists()
    assert "published 7.6" in capsys.readouterr().out


@pytest.fixture
def two(monkeypatch):
    broken = Tiny()
    broken.name, broken.build = "broken", lambda s: 1 / 0
    monkeypatch.setitem(RUNS, "broken", broken)
    monkeypatch.setitem(RUNS, "x", Tiny())


def test_one_that_fails_does_not_stop_the_others(two, tmp_path, capsys):
    assert __main__.main(["broken", "x", "--out", str(tmp_path / "out")]) == 1
    assert (tmp_path / "out" / "x.json").is_file()
    assert "failed: broken" in capsys.readouterr().out


def test_ctrl_c_ends_all(two, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(RUNS, "broken", Tiny(stop=3))
    assert __main__.main(["broken", "x"]) == 130
    assert not (tmp_path / "results").exists()
    assert "goes on" in capsys.readouterr().out


def test_a_fresh_run_forgets_the_checkpoint(two, monkeypatch):
    updates = []
    for words in (["x"], ["x"], ["x", "--fresh"]):
        run = Tiny()
        line = Line()
        run.build = lambda s, line=line: line
        monkeypatch.setitem(RUNS, "x", run)
        assert __main__.main(words) == 0
        updates.append(line.n)
    assert updates == [40, 0, 40]


def test_the_time_is_shared_by_weight_and_what_is_left_is_passed_on(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(__main__.time, "monotonic", lambda: clock[0])
    three = [Tiny(), Tiny(), Tiny()]
    three[1].weight = 2.0
    shares = __main__._shares(three, 4.0)
    assert next(shares)[1] == pytest.approx(60)
    clock[0] = 30.0  # quicker than it had to be
    assert next(shares)[1] == pytest.approx(140)
    clock[0] = 238.0
    assert not list(shares)
    assert "no time left for: x" in capsys.readouterr().out
    assert [s for _, s in __main__._shares(three, None)] == [None] * 3


def test_in_little_time_the_first_ones_are_done(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(__main__.time, "monotonic", lambda: clock[0])
    given = []
    for _, seconds in __main__._shares([Tiny() for _ in range(10)], 1.0):
        given.append(seconds)
        clock[0] += seconds
    assert given == [20.0, 20.0, 20.0]


# ----------------------------------------------------------------------------------------------- the page


@pytest.fixture
def shown(monkeypatch):
    bundles = []
    keep = lambda bundle, **_: bundles.append(bundle)  # noqa: E731
    monkeypatch.setattr(published, "display", keep)
    monkeypatch.setattr(published.plot, "display", keep)
    return bundles


def test_before_any_run_the_table_says_how_to_make_one(shown):
    published.table({"autoencoder": {"squared error an image": 7.123}, "iwae": None})
    (bundle,) = shown
    rows = [line.split(" | ") for line in bundle["text/plain"].splitlines()]
    assert [len(row) for row in rows] == [5] * 5 and all(rows[0])
    assert "7.12" in rows[2] and "–" in rows[3] and "–" in rows[4]
    assert all("not run yet: `python -m lectool.full " in row[3] for row in rows[2:])
    assert "3.00, Hinton & Salakhutdinov (2006)" in rows[2][4]


def test_after_a_run_it_stands_there_with_its_picture(shown, tmp_path):
    entry = {"metric": "bits a pixel", "value": 1.2345, "published": 1.05, "source": "a paper"}
    kept = RECORD | {"name": "glow", "values": [entry], "alt": 'forty "digits" & more'}
    results.write("glow", kept | {"finished": True})
    picture.save_picture(torch.rand(40, 784), tmp_path / "results" / "glow.png")
    published.table({"glow": 1.56})
    table, figure = shown
    assert "| 1.56 | 1.23 | 1.05, Grathwohl" in table["text/plain"]
    assert 'alt="forty &quot;digits&quot; &amp; more"' in figure["text/html"]
    part = {"progress": "12 of 100 epochs", "n_test": 40, "n_test_of": 1000}
    results.write("glow", kept | {"finished": False} | part)
    published.table({"glow": 1.56})
    words = "| 1.23, after 12 of 100 epochs, 40 of 1,000 test images |"
    assert words in shown[2]["text/plain"]


@pytest.mark.parametrize("here", [{"nothing": 1.0}, {"glow": {"nats": 1.0}}])
def test_a_table_of_what_was_not_published(here):
    with pytest.raises(ValueError, match="it can be"):
        published.table(here)


# -------------------------------------------------------------------------------------------- the picture


def test_tiles_stand_side_by_side():
    images = torch.arange(20.0)[:, None].expand(20, 784) / 20
    whole = picture.tiles(images)
    assert whole.shape == (2 * 30 - 2, 10 * 30 - 2)
    assert whole[0, 30] == round(255 / 20) and whole[30, 0] == round(255 * 10 / 20)
    assert whole[28, 0] == whole[0, 28] == 255


def test_a_picture_that_cannot_be_made_small(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "LARGEST", 100)
    with pytest.raises(ValueError, match="at most 100"):
        picture.save_picture(torch.rand(40, 784), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
