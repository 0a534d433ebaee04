r"""Shows the implementation on the page: the code that runs, not a copy of it."""

import ast
import importlib.metadata
import inspect
import re
import textwrap
import unicodedata
from collections.abc import Callable
from pathlib import Path

from IPython.display import display

__all__ = ["plain", "source", "source_text"]

FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
WIDTH = 96  # columns that the page shows without scrolling
TEX = {r"^\top": "ᵀ", r"^{-1}": "⁻¹", "^2": "²", "\\ ": " ", r"\,": " "}
ACCENTS = {"hat": "\u0302", "tilde": "\u0303", "bar": "\u0304", "dot": "\u0307"}
# A number or a letter, or a command or an accent in its place; and what stands in braces, without braces in it.
SYMBOL = r"\\[A-Za-z]+|\w"
BRACED = r"\{([^{}]*)\}"
FRACTION = rf"\\[td]?frac *(?:{BRACED}|({SYMBOL})) *(?:{BRACED}|({SYMBOL}))"
SIGNS = {"log": "log", "sum": "Σ", "partial": "∂", "nabla": "∇", "sim": "~", "le": "≤", "ge": "≥"}
SIGNS |= {"infty": "∞", "in": "∈", "times": "×", "cdot": "·", "to": "→", "odot": "⊙", "mid": "|"}
SIGNS |= {"lVert": "‖", "rVert": "‖", "Vert": "‖", "lvert": "|", "rvert": "|", "varepsilon": "ε"}
SIGNS |= dict.fromkeys(("dots", "ldots", "cdots"), "…")
SIGNS |= dict.fromkeys(("mathrm", "mathbb", "mathcal", "operatorname", "bigl", "bigr"), "")
GREEK = {
    unicodedata.name(chr(code)).rsplit(" ", 1)[-1].lower(): chr(code)
    for code in range(0x3B1, 0x3CA)
    if "FINAL" not in unicodedata.name(chr(code))
}
GREEK["lambda"] = GREEK.pop("lamda")
SIGNS |= GREEK | {name.title(): letter.upper() for name, letter in GREEK.items()}


def source(*objects: Callable | type, only: str = "", doc: bool = False) -> None:
    r"""Prints functions, methods or classes of ``lectool``, highlighted in every front end; see :func:`source_text`.

    Arguments:
        objects: what to show, in this order.
        only, doc: as for :func:`source_text`.

    Raises:
        TypeError: if an object has no Python source.
    """
    for item in objects:
        text, where = source_text(item, only=only, doc=doc), _where(item)
        display({"text/markdown": f"```python\n{text}\n```\n{where}", "text/plain": text}, raw=True)


def source_text(item: Callable | type, *, only: str = "", doc: bool = False) -> str:
    r"""The source of ``item`` as one string: the algorithm, without what only a machine or a caller needs.

    Signatures come without annotations, docstrings with their first line, and the checks of arguments (``check.…`` and
    ``if …: raise``) are left out, with a line that says so. A comment above a method names its class.

    Arguments:
        only: of a class, the names of the methods to show, separated by spaces; all of them where it is empty.
        doc: whether to keep everything as it stands in the file.

    Raises:
        TypeError: if ``item`` has no Python source.
    """
    text = textwrap.dedent(
        inspect.getsource(inspect.unwrap(item) if callable(item) else item)
    ).rstrip()
    if doc:
        return text
    if only and isinstance(item, type):
        text = _with_methods(text, only.split())
    lines, tree = text.splitlines(), ast.parse(text)
    nodes = [n for n in ast.walk(tree) if isinstance(n, FUNCTIONS | ast.ClassDef)]
    # From below, so that the line numbers above stay.
    for node in sorted(nodes, key=lambda n: n.lineno, reverse=True):
        string = _docstring(node)
        if isinstance(node, FUNCTIONS):
            _drop_checks(node, lines, has_docstring=string is not None)
        if string is not None:
            lines[string.lineno - 1 : string.end_lineno] = _first_line(string)
        if isinstance(node, FUNCTIONS):
            lines[node.lineno - 1 : _end_of_signature(node, lines)] = _signature(node)
    lines[:0] = _owner(item)
    return "\n".join(shown for line in lines for shown in _folded(line))


def _owner(item: Callable | type) -> list[str]:
    scopes = getattr(inspect.unwrap(item), "__qualname__", "").split(".")[:-1]
    return [f"# in class {scopes[-1]}"] if scopes and scopes[-1] != "<locals>" else []


def _folded(line: str) -> list[str]:
    start = line[: len(line) - len(line.lstrip())]
    if len(line) <= WIDTH or not line.lstrip().startswith("# "):
        return [line]
    return textwrap.wrap(
        line.lstrip()[2:], WIDTH, initial_indent=f"{start}# ", subsequent_indent=f"{start}# "
    )


def _with_methods(text: str, names: list[str]) -> str:
    lines, (tree,) = text.splitlines(), ast.parse(text).body
    methods = [node for node in tree.body if isinstance(node, FUNCTIONS)]
    if missing := set(names) - {node.name for node in methods}:
        raise ValueError(f"{tree.name} has no method {', '.join(sorted(missing))}")
    for node in reversed(methods):
        if node.name not in names:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            lines[first : node.end_lineno] = []
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip()


def _drop_checks(node: ast.FunctionDef, lines: list[str], *, has_docstring: bool) -> None:
    body = node.body[1:] if has_docstring else node.body
    checks = [statement for statement in body if _is_check(statement)]
    if len(checks) == len(body):
        return
    for check in reversed(checks):
        first, last = check.lineno - 1, check.end_lineno
        while lines[first - 1].strip().startswith("#"):
            first -= 1
        note = f"{' ' * check.col_offset}# … the arguments are checked"
        lines[first:last] = [note] if check is checks[0] else []


def _is_check(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return len(node.body) == 1 and isinstance(node.body[0], ast.Raise) and not node.orelse
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith("check.")


def _first_line(string: ast.Expr) -> list[str]:
    indent = " " * string.col_offset
    first = plain(inspect.cleandoc(string.value.value).splitlines()[0])
    first = f'"""{first}{" " * first.endswith(chr(34))}"""'
    return textwrap.wrap(first, WIDTH, initial_indent=indent, subsequent_indent=indent)


def plain(text: str) -> str:
    r"""A line of a docstring as a person would type it: roles and TeX replaced by their text."""
    text = re.sub(r":\w+:`~?([^`]*)`", lambda found: _tex(found[1]), text)
    return text.replace("``", "").replace("\\*", "*")


def _tex(text: str) -> str:
    for accent, mark in ACCENTS.items():
        text = re.sub(rf"\\{accent}(?![A-Za-z]) ?\{{?({SYMBOL})\}}?", rf"\1{mark}", text)
    for tex, sign in TEX.items():
        text = text.replace(tex, sign)
    # From the innermost braces outwards.
    for pattern, typed in ((rf"(?<=[_^]){BRACED}", _script), (FRACTION, _fraction)):
        while (done := re.sub(pattern, typed, text)) != text:
            text = done
    text = re.sub(r"\\([A-Za-z]+)", lambda found: SIGNS.get(found[1], found[1]), text)
    text = re.sub(r" +", " ", re.sub(r"[{}]", "", text)).strip()
    return unicodedata.normalize("NFC", text)


def _script(found: re.Match) -> str:
    text = _tex(found[1])
    return text if text.isalnum() else f"({text})"


def _fraction(found: re.Match) -> str:
    above, below = (_tex(part) for part in found.groups() if part is not None)
    single = r"\d+|\w[\u0302-\u0307]?"
    return "/".join(p if re.fullmatch(single, p) else f"({p})" for p in (above, below))


def _end_of_signature(node: ast.FunctionDef, lines: list[str]) -> int:
    parts = [node.returns, *ast.walk(node.args)]
    at = max([node.lineno, *(getattr(part, "end_lineno", 0) for part in parts)])
    while not lines[at - 1].split("#")[0].rstrip().endswith(":"):
        at += 1
    return at


def _signature(node: ast.FunctionDef) -> list[str]:
    rest = [arg for arg in (node.args.vararg, node.args.kwarg) if arg is not None]
    for arg in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *rest]:
        arg.annotation = None
    indent = " " * node.col_offset
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    line = f"{word} {node.name}({ast.unparse(node.args)}):"
    return textwrap.wrap(
        line,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + 8 * " ",
        break_on_hyphens=False,
    )


def _docstring(node: ast.AST) -> ast.Expr | None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return first if isinstance(first.value.value, str) else None
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
