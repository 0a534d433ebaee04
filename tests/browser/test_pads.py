"""What a pad paints in the browser is what torch computes."""

import base64
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lectool import pads
from lectool.graphical import Ising, all_spins, onsager_magnetization
from lectool.nets import mlp
from lectool.sparse import fista, shrink_positive
from lectool.zoo.inverse import project

READ = """selector => {
  const canvas = document.querySelector(selector);
  const rgba = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return Array.from(rgba).filter((_, i) => i % 4 === 0);
}"""

# Marsaglia's xorshift.
SEEDED = """{
  let state = 2463534242;
  Math.random = () => {
    state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}"""


@pytest.fixture
def painted(browser, monkeypatch):
    """Shows a pad's HTML in an empty page, with the same random numbers each time; returns the page."""
    pages, errors = [], []

    def show(make, motion="reduce"):
        shown = []
        monkeypatch.setattr(
            "lectool.pads.page.display", lambda bundle, raw: shown.append(bundle["text/html"])
        )
        make()
        page = browser.new_page(reduced_motion=motion)
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.add_init_script(SEEDED)
        page.set_content(shown[0])
        return page

    yield show
    for page in pages:
        page.close()
    assert errors == []


def gray(x):
    return (x.clamp(0, 1) * 255).flatten()


@pytest.mark.parametrize("kind", list(pads.ACTIVATIONS))
def test_latent_pad_decodes_as_torch_does(painted, kind):
    torch.manual_seed(0)
    decoder = nn.Sequential(mlp([3, 20, 12, 48], kind), nn.Sigmoid())
    base = torch.tensor([0.4, -0.7, 0.2])
    page = painted(
        lambda: pads.latent_pad(decoder, (6, 8), bounds=[(-2, 2), (-2, 2)], base=base, axes=(0, 2))
    )
    for first, second in ((0.0, 0.0), (-1.5, 1.0), (2.0, -2.0)):
        for row, value in enumerate((first, second)):
            page.locator("input").nth(row).fill(str(value))
        with torch.no_grad():
            expected = gray(decoder(torch.tensor([[first, base[1], second]])))
        seen = torch.tensor(page.evaluate(READ, ".pad-pixels"), dtype=torch.float32)
        # Rounding to 256 grays, and 16-bit weights.
        assert (seen - expected).abs().max() <= 1.5


def test_latent_pad_of_a_collapsed_code_and_of_loud_weights_moves(painted):
    torch.manual_seed(0)
    decoder = nn.Sequential(mlp([2, 12, 48]), nn.Sigmoid())
    with torch.no_grad():
        decoder[0][0].weight.mul_(1e6)
        decoder[0][-1].weight.mul_(1e-6)
    points = torch.stack([torch.linspace(-2, 2, 50), torch.full((50,), 0.3)], 1)
    page = painted(lambda: pads.latent_pad(decoder, (6, 8), points=points))
    assert page.locator("output").all_text_contents() == ["0.00", "0.30"]
    plane = page.locator(".pad-plane").bounding_box()
    for right, down in ((0.25, 0.25), (0.8, 0.6)):
        page.mouse.click(plane["x"] + right * plane["width"], plane["y"] + down * plane["height"])
        z = torch.tensor([float(page.locator("input").nth(i).input_value()) for i in (0, 1)])
        expected_z = torch.tensor([4.4 * (right - 0.5), 0.3 + 4.4 * (0.5 - down)])
        assert (z - expected_z).abs().max() < 0.05
        with torch.no_grad():
            expected = gray(decoder(z[None]))
        seen = torch.tensor(page.evaluate(READ, ".pad-pixels"), dtype=torch.float32)
        assert (seen - expected).abs().max() <= 1.5


def test_sketch_pad_reconstructs_as_torch_does(painted):
    torch.manual_seed(0)
    encoder, decoder = mlp([784, 30, 5]), nn.Sequential(mlp([5, 30, 784]), nn.Sigmoid())
    examples = torch.rand(2, 784).mul(255).round().div(255)
    page = painted(lambda: pads.sketch_pad(encoder, decoder, examples=examples))
    for example in examples:
        with torch.no_grad():
            expected = gray(decoder(encoder(example[None])))
        seen = torch.tensor(page.evaluate(READ, ".pad-output"), dtype=torch.float32)
        assert (seen - expected).abs().max() <= 1.5
        assert page.evaluate(READ, ".pad-input") == gray(example).round().int().tolist()
        page.get_by_text("next example").click()


def test_a_drawing_is_scaled_and_centered_like_mnist(painted):
    identity = nn.Sequential(nn.Linear(784, 784))
    with torch.no_grad():
        identity[0].weight.copy_(torch.eye(784))
        identity[0].bias.zero_()
    page = painted(lambda: pads.sketch_pad(identity, identity, examples=torch.zeros(1, 784)))
    page.get_by_text("clear").click()
    box = page.locator(".pad-draw").bounding_box()
    x, y = box["x"] + 0.2 * box["width"], box["y"] + 0.1 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 0.3 * box["height"], steps=8)  # a short stroke in a corner
    page.mouse.up()
    seen = torch.tensor(page.evaluate(READ, ".pad-input"), dtype=torch.float32).reshape(28, 28)
    rows = (seen > 25).any(1).nonzero().flatten()
    assert 18 <= rows[-1] - rows[0] + 1 <= 22
    axis = torch.arange(28, dtype=torch.float32)
    center = [(seen.sum(1 - i) * axis).sum() / seen.sum() for i in (0, 1)]
    assert all(abs(c - 13.5) < 0.7 for c in center)


CODE = partial(fista, prox=shrink_positive)


def dictionary(k, signed=False):
    """Blobs of length 1 that overlap, as columns; and images made of a few of them."""
    torch.manual_seed(0)
    row, column = (t.flatten() for t in torch.meshgrid(*2 * [torch.arange(28.0)], indexing="ij"))
    center = 6 + 16 * torch.rand(k, 2, 1)
    D = torch.exp(-((row - center[:, 0]) ** 2 + (column - center[:, 1]) ** 2) / 12)
    if signed:
        D = D - 0.5 * D.roll(3, 1)
    D = (D / D.norm(dim=1, keepdim=True)).T
    x = (torch.rand(3, k) * (torch.rand(3, k) < 0.15) @ D.T).clamp(min=0)
    return D, (x / x.amax(1, keepdim=True)).mul(255).round().div(255)


@pytest.mark.parametrize("signed", [False, True])
def test_sparse_pad_decomposes_as_fista_does(painted, signed):
    D, examples = dictionary(64, signed)
    page = painted(lambda: pads.sparse_pad(D, examples=examples, lam=0.2, code=CODE))
    assert page.locator(".pad-still").count() == 0
    slider = page.locator("input[type=range]")
    for example in examples:
        assert page.evaluate(READ, ".pad-input") == gray(example).round().int().tolist()
        for position in (0, 4, 6, 12):
            slider.fill(str(position))
            lam = float(page.locator("output").text_content())
            assert slider.get_attribute("aria-valuetext") == f"{lam:.4g}"
            z = CODE(example[None], D, lam, n_steps=100)[0]
            seen = torch.tensor(page.evaluate(READ, ".pad-output"), dtype=torch.float32)
            # 0.01, and rounding to 256 grays.
            assert (seen - gray(D @ z)).abs().max() <= 3.1
            n_used, k, error = re.fullmatch(
                r"(\d+) of (\d+) atoms in use, squared error ([\d.]+)",
                page.locator(".pad-readout").text_content(),
            ).groups()
            assert abs(float(error) - (example - D @ z).square().sum()) < 0.1
            # The atoms as they travel: rounding can bring in or take out one whose coefficient is all but 0.
            z = CODE(example[None], D.half().float(), lam, n_steps=100)[0]
            assert abs(int(n_used) - (z > 0).sum()) <= 1 and int(k) == 64
            shown = page.locator(".pad-atom:not(.pad-unused) span").all_text_contents()
            assert len(shown) == min(8, int(n_used))
            largest = z.sort(descending=True).values
            for text, value in zip(shown, largest.tolist()):
                assert text.endswith(" ×") and abs(float(text[:-2]) - value) < 0.02
        slider.fill("6")
        page.get_by_text("next example").click()


def test_sparse_pad_shows_its_most_active_atoms(painted):
    D, _ = dictionary(30)
    x = (0.9 * D[:, 7] / D[:, 7].max()).clamp(0, 1)[None]
    page = painted(lambda: pads.sparse_pad(D, examples=x, lam=0.2, code=CODE, n_shown=3))
    first = page.locator(".pad-atom").first
    assert first.locator("canvas").get_attribute("aria-label") == "Atom 8"
    seen = torch.tensor(page.evaluate(READ, ".pad-atom canvas"), dtype=torch.float32)
    assert (seen - gray(D[:, 7] / D[:, 7].max())).abs().max() <= 1.5


def test_sparse_pad_by_keyboard_and_by_hand(painted):
    D, examples = dictionary(64)
    page = painted(lambda: pads.sparse_pad(D, examples=examples, lam=0.2, code=CODE))
    order = [".pad-clear", ".pad-example", "input[type=range]"]
    for selector in order:
        page.keyboard.press("Tab")
        assert page.evaluate("s => document.activeElement.matches(s)", selector)
    readout, live = page.locator(".pad-readout"), page.locator("[aria-live=polite]")
    counts = []
    for key in ("Home", "End"):
        page.keyboard.press(key)
        counts.append(int(readout.text_content().split()[0]))
        page.wait_for_timeout(500)
        assert live.text_content() == readout.text_content()
    assert counts[0] > counts[1]
    page.locator(".pad-example").focus()
    before = page.evaluate(READ, ".pad-input")
    page.keyboard.press("Enter")
    assert page.evaluate(READ, ".pad-input") != before
    page.locator(".pad-clear").focus()
    page.keyboard.press("Enter")
    assert readout.text_content() == "0 of 64 atoms in use, squared error 0.0"
    assert page.locator(".pad-atom:not(.pad-unused)").count() == 0
    page.locator("input[type=range]").fill("4")
    box = page.locator(".pad-draw").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.7 * box["height"], steps=8)
    page.mouse.up()
    x = torch.tensor(page.evaluate(READ, ".pad-input")).div(255)
    assert x.max() > 0.9
    z = CODE(x[None], D, float(page.locator("output").text_content()), n_steps=100)[0]
    seen = torch.tensor(page.evaluate(READ, ".pad-output"), dtype=torch.float32)
    assert (seen - gray(D @ z)).abs().max() <= 3.1 and (z > 0).any()


def test_sparse_pad_fits_a_phone(painted):
    D, examples = dictionary(64)
    page = painted(lambda: pads.sparse_pad(D, examples=examples, lam=0.2, code=CODE))
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


# ------------------------------------------------------------------------------------------- ising pad


def sampled(page, n_steps, burn_in=0):
    """Mean magnetization and energy a spin over so many steps of 32 sweeps, after some that do not count."""
    page.locator("input[type=range]").nth(2).fill("5")
    press = "n => { for (let i = 0; i < n; i++) document.querySelector('.pad-step').click(); }"
    page.evaluate(press, burn_in)
    page.locator("input[type=range]").nth(1).dispatch_event("input")  # the mean begins anew
    page.evaluate(press, n_steps)
    seen = page.locator("figure").evaluate("f => ({...f.dataset})")
    assert int(seen["sweeps"]) == 32 * n_steps
    return float(seen["magnetization"]), float(seen["energy"])


@pytest.mark.parametrize(("coupling", "field"), [(0.4, 0.1), (0.3, -0.2), (0.25, 0.4)])
def test_ising_pad_has_the_law_that_enumeration_gives(painted, coupling, field):
    page = painted(lambda: pads.ising_pad(size=4, coupling=coupling, field=field))
    model = Ising(4, 4, coupling=coupling, field=field, dtype=torch.float64)
    s = all_spins(4, 4)
    p = (-model.energy(s)).softmax(0)
    m, energy = sampled(page, 1500, burn_in=20)
    assert abs(m - (p * s.mean((1, 2))).sum()) < 0.03
    assert abs(energy - (p * model.energy(s)).sum() / 16) < 0.03


def test_ising_pad_above_and_below_the_critical_temperature(painted):
    page = painted(lambda: pads.ising_pad(size=64, coupling=0.5, n_sweeps=10))
    slider = page.locator("input[type=range]").first
    exact = page.locator(".pad-numbers span").nth(3)
    generator = torch.Generator().manual_seed(0)
    for position in ("60", "18"):
        slider.fill(position)
        T = float(page.locator("output").first.text_content().split()[0])
        page.get_by_text("all up").click()
        m, energy = sampled(page, 60, burn_in=30)
        assert abs(m - onsager_magnetization(1 / T)) < 0.02
        assert abs(float(exact.text_content().strip("±")) - onsager_magnetization(1 / T)) < 6e-4
        model = Ising(64, 64, coupling=1 / T)
        s = model.gibbs(torch.ones(16, 64, 64), 100, generator)
        energies = []
        for _ in range(40):
            s = model.gibbs(s, 5, generator)
            energies.append(model.energy(s).mean() / 64**2)
        assert abs(energy - sum(energies) / 40) < 0.01


def test_ising_pad_follows_its_field(painted):
    page = painted(lambda: pads.ising_pad(size=64, coupling=0.25, field=0.2))
    numbers = page.locator(".pad-numbers span")
    assert numbers.nth(3).text_content() == "–"
    page.get_by_text("random").click()
    m, energy = sampled(page, 40, burn_in=5)
    generator = torch.Generator().manual_seed(0)
    model = Ising(64, 64, coupling=0.25, field=0.2)
    s = model.gibbs(torch.ones(64, 64, 64), 50, generator)
    assert abs(m - s.mean()) < 0.01 and s.mean() > 0.3
    assert abs(energy - model.energy(s).mean() / 64**2) < 0.01


def test_ising_pad_begins_as_its_picture_and_flips_what_is_touched(painted):
    shown = []
    page = painted(lambda: shown.append(pads.ising_pad(size=32, coupling=0.5)))
    assert page.locator(".pad-run").text_content() == "run"  # less motion is asked for
    before = page.evaluate(READ, ".pad-field")
    page.wait_for_timeout(200)
    assert page.evaluate(READ, ".pad-field") == before
    page.get_by_text("all up").click()
    assert set(page.evaluate(READ, ".pad-field")) == {242}
    box = page.locator(".pad-field").bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    seen = torch.tensor(page.evaluate(READ, ".pad-field")).reshape(32, 32) == 16
    assert seen.sum() == 13 and seen[16, 8] and seen[14, 8] and not seen[13, 8]
    assert page.locator(".pad-numbers span").nth(1).text_content() == f"{1 - 26 / 1024:.3f}"
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.2 * box["height"], steps=6)
    page.mouse.up()
    row = torch.tensor(page.evaluate(READ, ".pad-field")).reshape(32, 32)[6] == 16
    assert row[4:28].all(), "a stroke flips each spin once"


def test_ising_pad_by_keyboard(painted):
    page = painted(lambda: pads.ising_pad(size=16, coupling=0.5))
    order = [
        ".pad-run",
        ".pad-step",
        ".pad-up",
        ".pad-random",
        ".pad-flip",
        *3 * ["input[type=range]"],
    ]
    for selector in order:
        page.keyboard.press("Tab")
        assert page.evaluate("s => document.activeElement.matches(s)", selector)
        if selector == ".pad-run":
            continue
        before = page.evaluate(READ, ".pad-field"), page.locator("output").all_text_contents()
        page.keyboard.press("ArrowRight" if "input" in selector else "Enter")
        assert before != (
            page.evaluate(READ, ".pad-field"),
            page.locator("output").all_text_contents(),
        )
    page.wait_for_timeout(500)
    said = page.locator("[aria-live=polite]").text_content()
    assert said == page.locator(".pad-field").get_attribute("aria-label")
    assert said.startswith("Ising field: T = 2.05, b = 0.02, magnetization ")


def test_ising_pad_runs_until_it_is_paused(painted):
    page = painted(lambda: pads.ising_pad(size=16, coupling=0.3), motion="no-preference")
    sweeps = "document.querySelector('figure').dataset.sweeps > 3"
    page.wait_for_function(sweeps)
    page.get_by_text("pause").click()
    before = page.evaluate(READ, ".pad-field")
    page.wait_for_timeout(200)
    assert page.evaluate(READ, ".pad-field") == before
    page.get_by_text("run", exact=True).click()
    page.wait_for_function("b => document.querySelector('figure').dataset.sweeps > b", arg=20)


@pytest.mark.parametrize("width", [360, 1280])
def test_ising_pad_fits(painted, width):
    page = painted(lambda: pads.ising_pad(size=16))
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


# ---------------------------------------------------------------------------------------- hopfield pad


def memories(n_patterns, bias=0.0):
    """Weights for 12×15 pixels that store random patterns by Hebb's rule, the patterns, and a bias."""
    torch.manual_seed(0)
    x = 2.0 * torch.randint(0, 2, (n_patterns, 180)) - 1
    return (x.T @ x / 180).fill_diagonal_(0), x, bias * torch.randn(180)


def state_of(page):
    return 2.0 * (torch.tensor(page.evaluate(READ, ".pad-field")) > 127).double() - 1


def settled(W, b, x, order):
    """Where the network comes to rest, and the energies on the way, one a flip."""
    W, b, x = W.double(), b.double(), x.clone()
    energies, moved = [(-0.5 * x @ W @ x - b @ x).item()], True
    while moved:
        moved = False
        for i in order:
            pull = W[i] @ x + b[i]
            if pull * x[i] < -1e-9:  # not 0: sums of 32-bit floats
                x[i], moved = -x[i], True
                energies.append((-0.5 * x @ W @ x - b @ x).item())
    return x, energies


DATA = """JSON.parse(document.querySelector('script[type="application/json"]').textContent)"""


# The energy after each flip, until there is none.
STEPS = """() => {
  const { dataset } = document.querySelector("figure"), seen = [+dataset.energy];
  while (dataset.state !== "at rest") {
    document.querySelector(".pad-step").click();
    seen.push(+dataset.energy);
  }
  return seen;
}"""


@pytest.mark.parametrize(
    ("n_patterns", "bias", "rule"), [(3, 0, 0), (40, 0, 0), (5, 0.3, 0), (8, 0, 1)]
)
def test_hopfield_pad_falls_as_torch_does(painted, n_patterns, bias, rule):
    W, x, b = memories(min(n_patterns, 12), bias)
    if n_patterns > 12:  # more than it can hold: the rest is not shown
        more = memories(n_patterns)[1]
        W = (more.T @ more / 180).fill_diagonal_(0)
    if rule:
        W = (torch.linalg.pinv(x) @ x).fill_diagonal_(0)
        W = (W + W.T) / 2
    page = painted(lambda: pads.hopfield_pad(W, x, (12, 15), bias=b))
    data = page.evaluate(DATA)
    assert data["bits"] == (16 if rule else 8)
    for damage in (".pad-noise", ".pad-half", ".pad-invert"):
        page.locator(".pad-pattern").nth(1).click()
        assert torch.equal(state_of(page), x[1].double())
        page.locator(damage).click()
        expected, falls = settled(W, b, state_of(page), data["order"])
        seen = page.evaluate(STEPS)
        # The last step finds nothing to flip.
        assert seen.pop() == seen[-1]
        assert torch.equal(state_of(page), expected)
        assert all(b < a for a, b in zip(seen, seen[1:])), "the energy rises"
        assert len(seen) == len(falls)
        assert max(abs(a - b) for a, b in zip(seen, falls)) < 0.01 * abs(falls[-1])


def test_hopfield_pad_runs_to_a_memory(painted):
    W, x, _ = memories(4)
    page = painted(
        lambda: pads.hopfield_pad(W, x, (12, 15), labels=list("abcd")), motion="no-preference"
    )
    numbers, live = page.locator(".pad-numbers span"), page.locator("[aria-live=polite]")
    for i, name in enumerate("abcd"):
        page.locator(".pad-pattern").nth(i).click()
        page.get_by_text("add noise").click()
        assert int(numbers.nth(5).text_content()) > 15
        page.locator(".pad-run").click()
        page.wait_for_function("document.querySelector('figure').dataset.state === 'at rest'")
        assert page.locator(".pad-run").text_content() == "recall"
        assert numbers.nth(3).text_content() == name and numbers.nth(5).text_content() == "0"
        assert torch.equal(state_of(page), x[i].double())
    page.wait_for_timeout(500)
    assert live.text_content() == page.locator(".pad-field").get_attribute("aria-label")
    assert live.text_content().endswith("nearest pattern d, 0 pixels differ, at rest")
    page.get_by_text("invert").click()
    assert numbers.nth(3).text_content() == "d, inverted"
    assert torch.equal(state_of(page), -x[3].double())


def test_hopfield_pad_by_hand_and_by_keyboard(painted):
    W, x, _ = memories(2)
    page = painted(lambda: pads.hopfield_pad(W, x, (12, 15)))
    page.locator(".pad-pattern").first.click()
    box = page.locator(".pad-field").bounding_box()
    y = box["y"] + 5.5 / 12 * box["height"]
    page.mouse.move(box["x"] + 2.5 / 15 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 10.5 / 15 * box["width"], y, steps=5)
    page.mouse.move(box["x"] + 2.5 / 15 * box["width"], y, steps=5)
    page.mouse.up()
    changed = (state_of(page) != x[0].double()).view(12, 15)
    assert changed.sum() == 9 and changed[5, 2:11].all()
    page.locator(".pad-pattern").first.focus()
    order = [
        ".pad-pattern",
        ".pad-noise",
        ".pad-half",
        ".pad-invert",
        ".pad-run",
        ".pad-step",
        "input",
    ]
    for selector in order:
        page.keyboard.press("Tab")
        assert page.evaluate("s => document.activeElement.matches(s)", selector)
        before = state_of(page)
        if selector == "input":
            page.keyboard.press("End")
            assert page.locator("output").text_content() == "50%"
        elif selector != ".pad-step":
            page.keyboard.press("Enter")
            if selector == ".pad-run":
                page.wait_for_function(
                    "document.querySelector('figure').dataset.state === 'at rest'"
                )
            assert not torch.equal(state_of(page), before)


@pytest.mark.parametrize("width", [360, 1280])
def test_hopfield_pad_fits(painted, width):
    W, x, _ = memories(12)
    page = painted(lambda: pads.hopfield_pad(W, x, (12, 15)))
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


# --------------------------------------------------------------------------------------------- rbm pad


def machine(k, d, scale):
    torch.manual_seed(0)
    return scale * torch.randn(k, d), torch.randn(k), torch.randn(d) - 0.5


def test_rbm_pad_has_the_conditionals_of_torch(painted):
    W, b, c = machine(128, 784, 0.1)
    page = painted(lambda: pads.rbm_pad(W, b, c, (28, 28), n_chains=4, n_steps=5))
    assert page.evaluate(DATA)["bits"] == 16
    for v, h in zip(torch.rand(3, 784).round(), torch.rand(3, 128).round()):
        ask = "([what, x]) => [...document.querySelector('figure').rbm[what](x)]"
        hidden = torch.tensor(page.evaluate(ask, ["hidden", v.tolist()]))
        visible = torch.tensor(page.evaluate(ask, ["visible", h.tolist()]))
        assert (hidden - (W @ v + b).sigmoid()).abs().max() < 2e-3
        assert (visible - (W.T @ h + c).sigmoid()).abs().max() < 2e-3


def test_rbm_pad_begins_as_its_picture(painted):
    W, b, c = machine(20, 30, 0.5)
    page = painted(lambda: pads.rbm_pad(W, b, c, (5, 6), start=torch.rand(3, 30).round()))
    picture = page.evaluate(READ, ".pad-particles")
    packed = np.frombuffer(base64.b64decode(page.evaluate(DATA)["hidden"]), np.uint8)
    h = torch.from_numpy(np.unpackbits(packed, count=60)).view(3, 20).float()
    means = (h @ W + c).sigmoid()
    tiles = torch.tensor(picture).view(11, 13)
    for i, mean in enumerate(means):
        row, column = 6 * (i // 2), 7 * (i % 2)
        seen = tiles[row : row + 5, column : column + 6].flatten()
        assert (seen - gray(mean)).abs().max() <= 0.6
    assert (torch.tensor(page.evaluate(READ, ".pad-field")) - gray(means[0])).abs().max() <= 0.6


# The mean of p(v = 1 | h) over steps and particles.
DREAM = """n => {
  const { rbm } = document.querySelector("figure"), button = document.querySelector(".pad-step");
  const sum = new Float64Array(rbm.means()[0].length);
  for (let step = 0; step < n; step++) {
    button.click();
    rbm.means().forEach(p => p.forEach((v, i) => { sum[i] += v; }));
  }
  return [...sum].map(v => v / n / rbm.means().length);
}"""


def test_rbm_pad_has_the_law_that_enumeration_gives(painted):
    W, b, c = machine(4, 6, 1.0)
    page = painted(lambda: pads.rbm_pad(W, b, c, (2, 3), n_chains=16))
    v = ((torch.arange(64)[:, None] >> torch.arange(6)) % 2).float()
    log_p = v @ c + torch.nn.functional.softplus(v @ W.T + b).sum(1)

    def means(allowed):
        return log_p[allowed].softmax(0) @ v[allowed]

    everything = torch.ones(64, dtype=torch.bool)
    assert (torch.tensor(page.evaluate(DREAM, 1500)) - means(everything)).abs().max() < 0.02
    # The first pixel held off, the last one on.
    box = page.locator(".pad-field").bounding_box()
    for pen, right, down in (("hold off (blue)", 1 / 6, 1 / 4), ("hold on (orange)", 5 / 6, 3 / 4)):
        page.get_by_text(pen).click()
        page.mouse.click(box["x"] + right * box["width"], box["y"] + down * box["height"])
    assert page.locator(".pad-numbers span").nth(3).text_content() == "2 of 6"
    free = slice(1, 5)
    seen = torch.tensor(page.evaluate(DREAM, 1500))[free]
    expected = means((v[:, 0] == 0) & (v[:, 5] == 1))[free]
    assert (seen - expected).abs().max() < 0.02
    assert (expected - means(everything)[free]).abs().max() > 0.1
    page.get_by_text("set all free").click()
    assert (torch.tensor(page.evaluate(DREAM, 1500)) - means(everything)).abs().max() < 0.02


def colors(page):
    """Which pixels of the area to draw on are orange, 1, or blue, 0; −1 elsewhere."""
    rgba = page.evaluate(READ.replace(".filter((_, i) => i % 4 === 0)", ""), ".pad-field")
    rgb = torch.tensor(rgba).view(-1, 4)[:, :3]
    kinds = torch.full((len(rgb),), -1)
    kinds[(rgb == torch.tensor([230, 159, 0])).all(1)] = 1
    kinds[(rgb == torch.tensor([0, 80, 127])).all(1)] = 0
    return kinds


def draw_across(page, row, n_rows):
    """Draws a line in a row of the area, from a fifth of its width to four fifths."""
    box = page.locator(".pad-field").bounding_box()
    y = box["y"] + (row + 0.5) / n_rows * box["height"]
    page.mouse.move(box["x"] + 0.2 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], y, steps=4)
    page.mouse.up()


def test_rbm_pad_holds_what_is_drawn(painted):
    W, b, c = machine(16, 400, 0.2)
    page = painted(lambda: pads.rbm_pad(W, b, c, (20, 20), n_chains=2))
    draw_across(page, 5, 20)
    held = colors(page).view(20, 20)
    assert (held[5, 4:16] == 1).all() and (held[:4] == -1).all() and (held[7:] == -1).all()
    page.get_by_text("hold off (blue)").click()
    draw_across(page, 12, 20)
    assert (colors(page).view(20, 20)[12, 4:16] == 0).all()
    page.locator(".pad-step").click()
    tile = torch.tensor(page.evaluate(READ, ".pad-particles")).view(20, 41)
    for left in (0, 21):  # all particles are held
        assert (tile[5, left + 4 : left + 16] == 255).all()
        assert (tile[12, left + 4 : left + 16] == 0).all()
    page.get_by_text("set free", exact=True).click()
    draw_across(page, 5, 20)
    assert (colors(page).view(20, 20)[5, 4:16] == -1).all()
    page.get_by_text("set all free").click()
    assert (colors(page) == -1).all()


def test_rbm_pad_by_keyboard(painted):
    W, b, c = machine(16, 64, 0.5)
    page = painted(lambda: pads.rbm_pad(W, b, c, (8, 8)))
    assert page.locator(".pad-run").text_content() == "run"  # less motion is asked for
    order = [
        ".pad-run",
        ".pad-step",
        ".pad-noise",
        ".pad-half",
        ".pad-release",
        *3 * [".pad-tools *"],
        "input",
    ]
    seen = []
    for selector in order:
        page.keyboard.press("Tab")
        assert page.evaluate("s => document.activeElement.matches(s)", selector)
        if selector == "input":
            page.keyboard.press("End")
            assert page.locator("output").text_content() == "60"
        elif selector != ".pad-run":
            page.keyboard.press("Enter")
            seen.append((page.evaluate(READ, ".pad-particles"), (colors(page) >= 0).sum().item()))
    assert len({str(picture) for picture, _ in seen[:3]}) == 3
    assert [n for _, n in seen] == [0, 0, 32, 0, 0, 0, 0]
    pressed = page.locator("[aria-pressed]").evaluate_all("all => all.map(b => b.ariaPressed)")
    assert pressed == ["false", "false", "true"]
    page.wait_for_timeout(500)
    said = page.locator("[aria-live=polite]").text_content()
    assert said == page.locator(".pad-particles").get_attribute("aria-label")
    assert said.endswith(": all pixels free, 0 of 64 pixels held")


def test_rbm_pad_runs_as_fast_as_its_slider_says(painted):
    W, b, c = machine(8, 16, 0.5)
    page = painted(lambda: pads.rbm_pad(W, b, c, (4, 4)), motion="no-preference")
    page.locator("input").press("Home")
    steps = "Number(document.querySelector('figure').dataset.steps)"
    first = page.evaluate(steps)
    page.wait_for_timeout(1500)
    assert page.evaluate(steps) - first <= 2
    page.locator("input").press("End")
    page.wait_for_function(f"first => {steps} > first + 10", arg=first)
    page.get_by_text("pause").click()
    first = page.evaluate(steps)
    page.wait_for_timeout(200)
    assert page.evaluate(steps) == first


@pytest.mark.parametrize("width", [360, 1280])
def test_rbm_pad_fits(painted, width):
    W, b, c = machine(8, 784, 0.1)
    page = painted(lambda: pads.rbm_pad(W, b, c, (28, 28), n_chains=16))
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_hopfield_pad_leaves_units_at_which_nothing_pulls(painted):
    _, x, _ = memories(1)
    page = painted(lambda: pads.hopfield_pad(torch.zeros(180, 180), x, (12, 15)))
    before = state_of(page)
    page.locator(".pad-step").click()
    assert torch.equal(state_of(page), before)
    assert page.locator("figure").get_attribute("data-state") == "at rest"


# ------------------------------------------------------------------------------------------ stroke pad


def strokes(n=2, n_pixels=48):
    torch.manual_seed(1)
    drawn = torch.randint(-1, 2, (n, n_pixels)).float()
    drawn[:, 0] = 1
    return drawn


def pen(sizes=(6, 20, 12, 48), kind=nn.ReLU, last=nn.Tanh):
    torch.manual_seed(0)
    generator = mlp(sizes, kind, last=last)
    with torch.no_grad():
        for p in generator.parameters():
            p.copy_(p.mul(2).half())  # as they travel
    return generator


def stroke_page(painted, generator, drawn, motion="reduce", **settings):
    shape = {48: (6, 8), 784: (28, 28)}[drawn.shape[1]]
    return painted(
        lambda: pads.stroke_pad(generator, shape, examples=drawn, project=project, **settings),
        motion=motion,
    )


@pytest.mark.parametrize("kind", list(pads.ACTIVATIONS))
def test_stroke_pad_goes_back_through_the_network_as_autograd_does(painted, kind):
    generator = pen(kind=kind, last=nn.Sigmoid)
    page = stroke_page(painted, generator, strokes(), values=(0.0, 1.0))
    ask = """([z, slope]) => {
      const { y, back } = document.querySelector("figure").stroke.generate(z);
      return [[...y], [...back(slope)]];
    }"""
    for _ in range(3):
        z, slope = torch.randn(6).double().requires_grad_(), torch.randn(48).double()
        y, below = page.evaluate(ask, [z.tolist(), slope.tolist()])
        expected = generator.double()(z)
        (back,) = torch.autograd.grad(expected, z, slope)
        assert (torch.tensor(y).double() - expected).abs().max() < 1e-6
        assert (torch.tensor(below).double() - back).abs().max() < 1e-5


@pytest.mark.parametrize("prior", [0.0, 1.0, 8.0])
def test_stroke_pad_searches_as_torch_does(painted, prior):
    generator, drawn = pen(), strokes()
    page = stroke_page(painted, generator, drawn, prior=prior, start=torch.ones(6) / 2)
    for example in drawn:
        code = page.evaluate("[...document.querySelector('figure').stroke.code()]")
        page.evaluate(
            "() => { for (let i = 0; i < 25; i++) document.querySelector('.pad-step').click(); }"
        )
        mask = (example != 0).double()[None]
        found = project(
            generator.double(),
            example[None].double(),
            torch.tensor([code]).double(),
            distance=lambda a, b, mask=mask: (mask * (a - b)).square().sum(1),
            prior=prior,
            n_steps=25,
        )
        seen = torch.tensor(page.evaluate("document.querySelector('figure').stroke.code()"))
        assert (seen - found.z[0]).abs().max() < 3e-3
        with torch.no_grad():
            y = generator(found.z)[0]
        picture = torch.tensor(page.evaluate(READ, ".pad-found"), dtype=torch.float32)
        assert (picture - gray((y + 1) / 2)).abs().max() <= 1.5
        error = (((y - example) / 2)[example != 0] ** 2).mean()
        numbers = page.locator(".pad-numbers span").all_text_contents()[1::2]
        assert int(numbers[0]) == mask.sum() and abs(float(numbers[1]) - error) < 2e-3
        assert abs(float(numbers[2]) - found.z.square().mean().sqrt()) < 0.01
        page.get_by_text("next example").click()


def inked(page):
    """1 where ink is wanted, −1 where none is, 0 elsewhere."""
    return torch.tensor([-1, 1, 0])[colors(page)]


def test_stroke_pad_by_hand(painted):
    drawn = strokes(1, 784)
    page = stroke_page(painted, pen((6, 20, 784)), drawn)
    assert torch.equal(inked(page).float(), drawn[0])
    page.locator(".pad-clear").click()
    assert (inked(page) == 0).all()
    assert page.locator(".pad-numbers span").nth(3).text_content() == "–"
    before = page.evaluate(READ, ".pad-found")
    page.locator(".pad-step").click()
    assert page.evaluate(READ, ".pad-found") == before, "nothing is drawn, and yet it moves"
    draw_across(page, 8, 28)
    page.get_by_text("no ink (blue)").click()
    draw_across(page, 20, 28)
    seen = inked(page).view(28, 28)
    assert (seen[8, 6:22] == 1).all() and (seen[20, 6:22] == -1).all()
    assert (seen[:7] == 0).all() and (seen[10:19] == 0).all()
    page.locator(".pad-step").click()
    assert page.evaluate(READ, ".pad-found") != before
    page.get_by_text("take away").click()
    draw_across(page, 8, 28)
    assert (inked(page).view(28, 28)[:19] == 0).all()


def test_stroke_pad_starts_anew_from_a_code_that_fits(painted):
    generator, drawn = pen(), strokes(1)
    page = stroke_page(painted, generator, drawn)
    errors = []
    for _ in range(20):
        page.locator(".pad-start").click()
        errors.append(float(page.locator(".pad-numbers span").nth(3).text_content()))
    with torch.no_grad():
        y = generator(torch.randn(2000, 6))
    by_lot = (((y - drawn[0]) / 2)[:, drawn[0] != 0] ** 2).mean(1)
    assert len(set(errors)) > 1
    # The best of fifty lies below the best twentieth part with a probability of 0.92.
    assert sum(e < by_lot.quantile(0.05) for e in errors) >= 14
    # Random codes are as long as those of N(0, I).
    page.locator(".pad-clear").click()
    lengths = []
    for _ in range(100):
        page.locator(".pad-start").click()
        lengths.append(float(page.locator(".pad-numbers span").nth(5).text_content()) ** 2)
    assert abs(sum(lengths) / 100 - 1) < 0.25


def test_stroke_pad_by_keyboard(painted):
    page = stroke_page(painted, pen(), strokes(3))
    assert page.locator(".pad-run").text_content() == "search"  # less motion is asked for
    order = [".pad-run", ".pad-step", ".pad-start", ".pad-clear", ".pad-example"]
    for selector in [*order, *3 * [".pad-tools *"], "input"]:
        page.keyboard.press("Tab")
        assert page.evaluate("s => document.activeElement.matches(s)", selector)
        if selector == ".pad-run":
            continue
        before = page.evaluate(READ, ".pad-found"), inked(page).tolist()
        page.keyboard.press("End" if selector == "input" else "Enter")
        after = page.evaluate(READ, ".pad-found"), inked(page).tolist()
        if selector in (".pad-step", ".pad-start"):
            assert after[0] != before[0]
        elif selector in order:
            assert after[1] != before[1]
    assert page.locator("output").text_content() == "8"
    pressed = page.locator("[aria-pressed]").evaluate_all("all => all.map(b => b.ariaPressed)")
    assert pressed == ["false", "false", "true"]
    page.wait_for_timeout(500)
    said = page.locator("[aria-live=polite]").text_content()
    assert said == page.locator(".pad-found").get_attribute("aria-label")
    assert said.startswith("Picture that fits the strokes: another pull, ")


def test_stroke_pad_searches_until_it_is_at_rest(painted):
    page = stroke_page(painted, pen(), strokes(2), motion="no-preference", n_steps=40)
    rest = "document.querySelector('figure').dataset.state === 'at rest'"
    page.wait_for_function(rest)
    assert page.locator(".pad-run").text_content() == "search"
    before = page.evaluate(READ, ".pad-found")
    page.wait_for_timeout(200)
    assert page.evaluate(READ, ".pad-found") == before
    page.locator(".pad-example").click()
    assert page.locator(".pad-run").text_content() == "pause"
    page.wait_for_function(rest)
    assert page.evaluate(READ, ".pad-found") != before
    page.locator(".pad-run").click()
    page.wait_for_function(rest)
    page.locator(".pad-clear").click()
    assert page.locator("figure").get_attribute("data-state") == "at rest"


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_stroke_pad_fits(painted, width):
    page = stroke_page(painted, pen((6, 20, 784)), strokes(1, 784))
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    field, found = (page.locator(s).bounding_box() for s in (".pad-field", ".pad-found"))
    assert field["y"] == found["y"], "the strokes and what they make stand side by side"
