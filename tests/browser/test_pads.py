"""What a pad paints in the browser is what torch computes."""

import re
from functools import partial

import pytest
import torch
from torch import nn

from lectool import pads
from lectool.nets import mlp
from lectool.sparse import fista, shrink_positive

READ = """selector => {
  const canvas = document.querySelector(selector);
  const rgba = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return Array.from(rgba).filter((_, i) => i % 4 === 0);
}"""


@pytest.fixture
def painted(browser, monkeypatch):
    """Shows a pad's HTML in an empty page; returns the page."""
    pages = []

    def show(make):
        shown = []
        monkeypatch.setattr(pads, "display", lambda bundle, raw: shown.append(bundle["text/html"]))
        make()
        page = browser.new_page()
        pages.append(page)
        page.set_content(shown[0])
        return page

    yield show
    for page in pages:
        page.close()


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
