"""The package trains where its data lie: no call ties it to one device."""

import ast

import pytest
from environment import ROOT

FILES = sorted((ROOT / "lectool").rglob("*.py"))

# Numbers of the CPU's generator that are moved to where they are needed, or belong to no device at all.
ON_THE_CPU = {
    "batches.py": "only a seed, for a loader",
    "data/generated.py": "data are made on the CPU",
    "data/images.py": "data are read on the CPU",
    "energy/gated.py": "moved to the matrices by .to(A)",
    "gan/sanity.py": "moved to the data by random.noise",
    "pads/hopfield.py": "of a page",
    "sparse/deconvolutional.py": "moved to the filters by random.noise",
    "zoo": "a game's own look at itself",
}
# Those that ask what kind of device there is.
BY_NAME = {"batches.py", "parallel.py", "record.py", "train.py"}


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node, ast.unparse(node.func)


def faults(source, name):
    """What ties a module to one device, with its lines."""
    tree = ast.parse(source)
    found = []
    for node, called in calls(tree):
        if called.endswith(".cuda") and not called.startswith("torch.cuda"):
            found.append(f"{name}:{node.lineno}: .cuda()")
        hard = called == "torch.Generator" and not node.args and not node.keywords
        if hard and name not in ON_THE_CPU and name.split("/")[0] not in ON_THE_CPU:
            found.append(f"{name}:{node.lineno}: torch.Generator() lives on the CPU")
    for node in ast.walk(tree):
        words = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if words and node.value.split(":")[0] == "cuda" and name not in BY_NAME:
            found.append(f"{name}:{node.lineno}: {node.value!r}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_is_tied_to_a_device(path):
    name = path.relative_to(ROOT / "lectool").as_posix()
    assert not faults(path.read_text("utf8"), name)


def test_every_exception_is_needed():
    texts = {p.relative_to(ROOT / "lectool").as_posix(): p.read_text("utf8") for p in FILES}
    for name in ON_THE_CPU.keys() - {"zoo"}:
        assert any(called == "torch.Generator" for _, called in calls(ast.parse(texts[name]))), name


@pytest.mark.parametrize(
    ("line", "n"),
    [
        ("x = x.cuda()", 1),
        ("model.net.cuda(0)", 1),
        ("x = x.to('cuda')", 1),
        ("x = torch.zeros(2, device='cuda:0')", 1),
        ("g = torch.Generator().manual_seed(0)", 1),
        ("g = torch.Generator(x.device).manual_seed(0)", 0),
        ("g = torch.Generator(device=x.device)", 0),
        ("torch.cuda.is_available()", 0),
        ("x = x.to(y.device)", 0),
    ],
)
def test_faults_are_seen(line, n):
    assert len(faults(line, "module.py")) == n
