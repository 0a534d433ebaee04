"""What a pad paints in the browser is what torch computes."""

import pytest
import torch
from torch import nn

from lectool import pads
from lectool.nets import mlp

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


def grey(x):
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
            expected = grey(decoder(torch.tensor([[first, base[1], second]])))
        seen = torch.tensor(page.evaluate(READ, ".pad-pixels"), dtype=torch.float32)
        assert (seen - expected).abs().max() <= 1.5  # rounding to 256 greys, and 16-bit weights


def test_sketch_pad_reconstructs_as_torch_does(painted):
    torch.manual_seed(0)
    encoder, decoder = mlp([784, 30, 5]), nn.Sequential(mlp([5, 30, 784]), nn.Sigmoid())
    examples = torch.rand(2, 784).mul(255).round().div(255)
    page = painted(lambda: pads.sketch_pad(encoder, decoder, examples=examples))
    for example in examples:
        with torch.no_grad():
            expected = grey(decoder(encoder(example[None])))
        seen = torch.tensor(page.evaluate(READ, ".pad-output"), dtype=torch.float32)
        assert (seen - expected).abs().max() <= 1.5
        assert page.evaluate(READ, ".pad-input") == grey(example).round().int().tolist()
        page.get_by_text("next example").click()


def test_a_drawing_is_scaled_and_centred_like_mnist(painted):
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
    centre = [(seen.sum(1 - i) * axis).sum() / seen.sum() for i in (0, 1)]
    assert all(abs(c - 13.5) < 0.7 for c in centre)
