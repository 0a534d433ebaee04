"""The code on the page is the code that runs."""

import ast
import inspect
import textwrap

import pytest

from lectool import autoencoders, data, metrics, pca, source, train
from lectool.source import source_text


def plain(a, b=2):
    """First line.

    Arguments:
        a: gone on the page.
    """
    text = """not a docstring
    but a string"""
    return a + b + len(text)


class Outer:
    """Of the class.

    More of it.
    """

    def first(self):
        """Of the first method.

        More of the first.
        """

        def inner():
            """Of the inner function.

            More of the inner.
            """
            return 1

        return inner()

    def second(self):
        r"""Of the second method.

        More of the second.
        """
        return "kept"

    def third(self):
        "in single quotes"
        return 3

    class Nested:
        """One line only."""

        value = 4

        def fourth(self):
            """Of the fourth.

            More of the fourth.
            """
            return 4


def quotes():
    """Single quotes.

    More of them.
    """
    return 5


async def waits():
    """Of the coroutine.

    More of it.
    """
    return 6


def quoted():
    """It says "so"
    and more.
    """
    return 7


OURS = [plain, Outer, quotes, waits, quoted]
BOOK = [
    pca.PCA,
    pca.Whitening,
    pca.quantizer_table,
    autoencoders.SigmoidAutoencoder,
    autoencoders.unroll,
    autoencoders.ConvAutoencoder,
    metrics.principal_angles,
    train.fit,
    train.History,
    data.read_idx,
    data.drawn_faces,
]


def without_docstrings(text: str) -> str:
    tree = ast.parse(textwrap.dedent(text))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            node.body[0].value.value = "doc"
    return ast.dump(tree)


def docstrings(text: str) -> list[str]:
    nodes = [
        n
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    return [d for d in map(ast.get_docstring, nodes) if d is not None]


@pytest.mark.parametrize("item", OURS + BOOK, ids=lambda item: item.__qualname__)
def test_text_is_the_source_apart_from_docstrings(item):
    original, text = inspect.getsource(inspect.unwrap(item)), source_text(item)
    assert without_docstrings(text) == without_docstrings(original)
    whole = docstrings(textwrap.dedent(original))
    assert [d.rstrip() for d in docstrings(text)] == [d.split("\n")[0].strip() for d in whole]
    kept = [line for line in text.splitlines() if '"""' not in line and "'''" not in line]
    lines = iter(original.splitlines())  # every other line is there, in order, with its comments
    assert all(any(line.strip() == other.strip() for other in lines) for line in kept)


def test_with_docstrings_it_is_the_source():
    assert source_text(plain, doc=True) == inspect.getsource(plain).rstrip()
    assert (
        source_text(Outer.second, doc=True)
        == textwrap.dedent(inspect.getsource(Outer.second)).rstrip()
    )


def test_compiles_to_the_same_code():
    space: dict = {}
    exec(compile(source_text(plain), "page", "exec"), space)
    code, original = space["plain"].__code__, plain.__code__
    assert code.co_code == original.co_code and code.co_names == original.co_names
    assert [c for c in code.co_consts if c != "First line."] == [
        c for c in original.co_consts if c != plain.__doc__
    ]


def test_a_method_stands_at_the_margin():
    text = source_text(Outer.first)
    assert text.startswith('def first(self):\n    """Of the first method.')
    assert ast.parse(text).body[0].name == "first"


def test_a_decorated_function_is_unwrapped():
    assert "def quantizer_table" in source_text(pca.quantizer_table)  # under functools.lru_cache


@pytest.mark.parametrize("item", [len, int, "text", 3])
def test_no_python_source(item):
    with pytest.raises(TypeError):
        source_text(item)


def test_shown_as_highlighted_markdown_with_its_place(monkeypatch):
    shown = []
    monkeypatch.setattr(source, "display", lambda bundle, raw: shown.append(bundle))
    source.source(pca.PCA.fit, pca.PCA.reconstruct)
    assert [b["text/plain"] for b in shown] == [
        source_text(pca.PCA.fit),
        source_text(pca.PCA.reconstruct),
    ]
    markdown = shown[0]["text/markdown"]
    line = inspect.getsourcelines(pca.PCA.fit)[1]
    assert markdown.startswith(f"```python\n{source_text(pca.PCA.fit)}\n```\n")
    assert f"lectool/pca.py, line {line}" in markdown.splitlines()[-1]
    source.source(plain, doc=True)
    assert "gone on the page" in shown[2]["text/markdown"]
