r"""Shows the implementation on the page: the code that runs, not a copy of it."""

import ast
import importlib.metadata
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path

from IPython.display import display

__all__ = ["source", "source_text"]


def source(*objects: Callable | type, doc: bool = False) -> None:
    r"""Prints functions, methods or classes as they stand in ``lectool``, highlighted in every front end.

    Arguments:
        objects: what to show, in this order.
        doc: whether to keep the docstrings whole; only their first line stays where ``False``.

    Raises:
        TypeError: if an object has no Python source.
    """
    for item in objects:
        text, where = source_text(item, doc=doc), _where(item)
        display({"text/markdown": f"```python\n{text}\n```\n{where}", "text/plain": text}, raw=True)


def source_text(item: Callable | type, *, doc: bool = False) -> str:
    r"""The source of ``item`` as one string, without the indentation of its surroundings.

    Raises:
        TypeError: if ``item`` has no Python source.
    """
    text = textwrap.dedent(
        inspect.getsource(inspect.unwrap(item) if callable(item) else item)
    ).rstrip()
    return text if doc else _shorten_docstrings(text)


def _shorten_docstrings(text: str) -> str:
    lines = text.splitlines()
    strings = [s for s in map(_docstring, ast.walk(ast.parse(text))) if s is not None]
    for string in sorted(
        strings, key=lambda s: s.lineno, reverse=True
    ):  # from below: line numbers above stay
        first = lines[string.lineno - 1].rstrip()
        quote = "'''" if first.lstrip().lstrip("rR").startswith("'''") else '"""'
        if string.end_lineno > string.lineno:
            lines[string.lineno - 1 : string.end_lineno] = [
                first + " " * first.endswith(quote[0]) + quote
            ]
    return "\n".join(lines)


def _docstring(node: ast.AST) -> ast.Expr | None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.body:
        first = node.body[0]
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            return first
    return None


def _where(item: Callable | type) -> str:
    lines, start = inspect.getsourcelines(inspect.unwrap(item))
    path = Path(inspect.getfile(inspect.unwrap(item)))
    depth = 1 + max(1, inspect.unwrap(item).__module__.count("."))
    name = "/".join(path.parts[-depth:])  # from the top-level package down
    try:
        metadata = importlib.metadata.metadata("lectool")
        urls = dict(u.split(", ", 1) for u in metadata.get_all("Project-URL") or [])
        address = f"{urls['Repository']}/blob/v{metadata['Version']}/{name}#L{start}-L{start + len(lines) - 1}"
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return f"*{name}, line {start}*"
    return f"*[{name}, line {start}]({address})*"
