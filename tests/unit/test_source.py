"""The code on the page is the code that runs."""

import ast
import inspect
import textwrap

import pytest

from lectool import autoencoders, check, data, metrics, pca, source, train
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


def bare(text: str) -> str:
    """What is to be shown of a source, as a tree: no annotations, no checks at the top, docstrings alike."""
    tree = ast.parse(textwrap.dedent(text))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            start = ast.get_docstring(node) is not None
            if start:
                node.body[0].value.value = "doc"
            if not isinstance(node, ast.ClassDef):
                node.returns = None
                kept = [n for n in node.body[start:] if not is_check(n)]
                node.body[start:] = kept or node.body[start:]
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.dump(tree)


def is_check(node: ast.stmt) -> bool:
    text = ast.unparse(node)
    return text.startswith("check.") or (
        text.startswith("if ") and text.count("\n") == 1 and "raise" in text
    )


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
    assert bare(text) == bare(original)
    whole = docstrings(textwrap.dedent(original))
    shown = [" ".join(d.split()).strip() for d in docstrings(text)]
    assert shown == [source.plain(d.split("\n")[0].strip()) for d in whole]
    assert all(len(line) <= 100 or '"' in line for line in text.splitlines())
    assert all(len(c) <= source.WIDTH for c in text.splitlines() if c.strip().startswith("#"))
    assert ":math:" not in text and "->" not in text
    comments = [line.strip() for line in text.splitlines() if line.strip().startswith("# ")]
    words = " ".join(original.split())
    assert all(c.removeprefix("# ") in words for c in comments if not c.startswith("# …"))


def checked(a: int, *rest: float, b: str = "x: y", **more: object) -> dict[str, int]:
    r"""Of :math:`\sigma` and ``b``.

    More.
    """
    # why this is checked
    check.at_least(1, a=a)
    if not b:
        raise ValueError("b is empty")
    # why this is done
    return {b: a, **more}


def test_signature_docstring_and_checks():
    assert source_text(checked).splitlines() == [
        "def checked(a, *rest, b='x: y', **more):",
        '    """Of σ and b."""',
        "    # … the arguments are checked",
        "    # why this is done",
        "    return {b: a, **more}",
    ]


def test_some_methods_of_a_class():
    text = source_text(Outer, only="first third")
    assert text.startswith('class Outer:\n    """Of the class."""\n\n    def first(self):')
    assert "def third" in text and "def inner" in text and "second" not in text
    assert "class Nested" in text
    with pytest.raises(ValueError, match="no method fifth"):
        source_text(Outer, only="fifth")


def test_a_function_that_only_checks_is_shown():
    assert "check.at_least" in source_text(only_checks)


def only_checks(a: int) -> None:
    check.at_least(1, a=a)


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
    assert text.startswith('# in class Outer\ndef first(self):\n    """Of the first method.')
    assert ast.parse(text).body[0].name == "first"


def test_a_method_is_named_with_the_class_that_it_stands_in():
    class Heir(Outer):
        """Has its parent's methods."""

        @classmethod
        def made(cls):
            """Makes one."""

    assert source_text(Heir.first).startswith("# in class Outer\ndef first(self):")
    assert source_text(Heir.made).startswith("# in class Heir\n@classmethod\ndef made(cls):")
    assert source_text(Outer.Nested.fourth).startswith("# in class Nested\n")
    for alone in (Heir, Heir.made, Outer, plain):
        assert "in class" not in source_text(alone, doc=True)
    for alone in (Heir, Outer, plain):
        assert source_text(alone).startswith(("class ", "def "))


@pytest.mark.parametrize(
    ("tex", "typed"),
    [
        (r"x_1, \dots, x_{j-1}", "x_1, …, x_(j-1)"),
        (r"a + \cdots + b, \ldots", "a + … + b, …"),
        (r"\dot y = f(t, y), \dot{x}", "ẏ = f(t, y), ẋ"),
        (r"\hat x, \tilde{w}_i, \bar\theta", "x̂, w̃_i, θ̄"),
        (r"\frac1n \sum_i x_i", "1/n Σ_i x_i"),
        (r"-\tfrac12 \lVert u \rVert^2", "-1/2 ‖ u ‖²"),
        (r"\frac{a}{b} \frac{\partial v}{\partial x}", "a/b (∂ v)/(∂ x)"),
        (r"\frac{(-1)^{k+1}}{k}", "((-1)^(k+1))/k"),
        (r"\frac{1}{\frac{\sigma}{2n}}", "1/(σ/(2n))"),
        (r"\frac\pi{12}", "π/12"),
        (r"\sum_{k \ge 1} r_{ic} e^{s_{ij}}", "Σ_(k ≥ 1) r_ic e^(s_ij)"),
        (r"(W W^\top + \Psi)^{-1/2}, A^{-1}", "(W Wᵀ + Ψ)^(-1/2), A⁻¹"),
        (r"\operatorname{tr} \Delta \lambda \Lambda", "tr Δ λ Λ"),
        (r"E[x \mid \tilde x], \lvert a \rvert", "E[x | x̃], | a |"),
    ],
)
def test_tex_as_it_would_be_typed(tex, typed):
    assert source.plain(f"Of :math:`{tex}`.") == f"Of {typed}."


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
