"""Every chapter has the same anatomy, so that a reader who knows one finds the way in all.

A rule is a function from a notebook to a list of complaints. Each is tried twice: on the chapters, where it must
be silent, and on a good notebook that was damaged in one place, where it must not.
"""

import ast
import builtins
import contextlib
import copy
import inspect
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import book
import folding
import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lectool.source import source_text

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "chapters").glob("[0-9][0-9]*-*.ipynb"))
TIME_LINE = re.compile(f"^{book.TIME_LINE.pattern}$", re.MULTILINE)
CLOSING = ["Side by side", "Corrections to the slides", "Exercises", "Further reading"]
DRAWS_NOTHING = {"style", "class_color", "table", "close", "use", "show"}
MAX_SHOWN = 20
MAX_STATEMENTS, MAX_LINES = 15, 30  # a formatter may spread a statement over several lines


# --- reading a notebook ---------------------------------------------------------------------------------------------


def code(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def unfenced(text):
    """Markdown without its fenced code."""
    return re.sub(r"^(`{3,}|~{3,}).*?^\1[`~]*\s*$", "", text, flags=re.MULTILINE | re.DOTALL)


def prose(nb):
    return "\n\n".join(unfenced(cell.source) for cell in nb.cells if cell.cell_type == "markdown")


def opening(nb):
    """The Markdown before the first code cell."""
    text = []
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            break
        text.append(unfenced(cell.source))
    return "\n\n".join(text)


def headings(nb):
    return re.findall(r"^(#{1,6}) +(.+?) *#*$", prose(nb), flags=re.MULTILINE)


def section(nb, title):
    """The text below a `##` heading, up to the next one."""
    found = re.search(
        rf"^## {re.escape(title)} *$\n(.*?)(?=^## |\Z)", prose(nb), flags=re.MULTILINE | re.DOTALL
    )
    return found[1] if found else ""


def parsed(cell):
    """The syntax tree of a code cell, without IPython's own lines."""
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.MULTILINE))


def calls(cell, *, inside_functions=True):
    """Names of what a cell calls, with the call: `claim`, `plt.subplots`."""
    found = []

    def visit(node):
        if isinstance(node, ast.FunctionDef | ast.Lambda) and not inside_functions:
            return
        if isinstance(node, ast.Call):
            found.append((ast.unparse(node.func), node))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(parsed(cell))
    return found


def count(nb, *names):
    return sum(name in names for cell in code(nb) for name, _ in calls(cell))


# --- the rules ------------------------------------------------------------------------------------------------------


def has_one_title(nb):
    titles = [text for marks, text in headings(nb) if marks == "#"]
    if len(titles) != 1:
        yield f"{len(titles)} headings with one #, expected 1"
    if not nb.cells or not nb.cells[0].source.startswith("# "):
        yield "the first cell does not begin with the title"


def opens_with_a_paragraph(nb):
    blocks = [block.strip() for block in opening(nb).split("\n\n") if block.strip()]
    if len(blocks) < 2 or blocks[1][0] in "#-*|≈>$" or len(blocks[1].split()) < 20:
        yield "the title is not followed by a paragraph of at least 20 words"
    elif "$" in blocks[1]:
        yield "the opening paragraph contains a formula; the chapter's card shows it as plain text"


def says_three_abilities(nb):
    found = re.search(
        r"you will be able to[^\n]*\n+((?:[-*] .+\n?(?: {2,}.+\n?)*)+)", opening(nb), re.IGNORECASE
    )
    n_items = len(re.findall(r"^[-*] ", found[1], flags=re.MULTILINE)) if found else 0
    if n_items != 3:
        yield f"'You will be able to' is followed by a list of {n_items}, expected 3"


def says_time_and_data(nb):
    if len(TIME_LINE.findall(opening(nb))) != 1:
        yield "no line 'About a minute on a laptop · data set' (or another of book.TIMES) above the code"


def starts_with_hidden_setup(nb):
    cells = code(nb)
    if not cells or "hide-cell" not in cells[0].metadata.get("tags", []):
        yield "the first code cell is not tagged hide-cell"
    elif "seed(0)" not in cells[0].source:
        yield "the set-up cell does not call seed(0)"


def folds_the_same_everywhere(nb):
    """What the page folds is folded in JupyterLab and Colab too, under a name, and nothing else is (make format)."""
    again = copy.deepcopy(nb)
    folding.fold(again)
    for number, (cell, wished) in enumerate(zip(nb.cells, again.cells)):
        if cell.metadata != wished.metadata or cell.source != wished.source:
            yield f"cell {number} is not folded alike everywhere, or has no name (make format)"


def hides_the_call_of_a_listing(nb):
    """A cell that only says `source(…)` shows the listing on the page, not the call above it."""
    for number, cell in enumerate(nb.cells):
        if cell.cell_type == "code":
            tree = parsed(cell)
            only_source = bool(tree.body) and all(
                ast.unparse(getattr(getattr(node, "value", None), "func", node)) == "source"
                for node in tree.body
            )
            if only_source != ("remove-input" in cell.metadata.get("tags", [])):
                yield f"cell {number}: the tag remove-input is for cells of source(…) alone, and for all of them"


def has_claims(nb):
    if (found := count(nb, "claim")) < 4:
        yield f"{found} claims, expected at least 4"


def has_a_slider(nb):
    if not count(nb, "explore", "latent_pad"):
        yield "neither explore(…) nor latent_pad(…)"


def shows_a_diagram(nb):
    if not count(nb, "diagram.show"):
        yield "no diagram.show(…): the chapter's model or network is nowhere drawn"


def plotting_names(nb):
    """How the notebook calls lectool.plot: imported functions, and prefixes of the module's names."""
    names, prefixes = set(), {"plt."}
    for cell in code(nb):
        for node in ast.walk(parsed(cell)):
            if isinstance(node, ast.ImportFrom) and node.module == "lectool.plot":
                names |= {item.asname or item.name for item in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module == "lectool":
                prefixes |= {
                    f"{item.asname or item.name}." for item in node.names if item.name == "plot"
                }
            elif isinstance(node, ast.Import):
                prefixes |= {
                    f"{item.asname or item.name}."
                    for item in node.names
                    if item.name == "lectool.plot"
                }
    return names, tuple(prefixes)


def describes_its_figures(nb):
    imported, prefixes = plotting_names(nb)
    for number, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        told = [call for name, call in calls(cell) if name == "plot.show"]
        for name, call in calls(cell):
            if name == "explore" and "alt" not in {keyword.arg for keyword in call.keywords}:
                yield f"cell {number}: explore(…) without alt="
            if name == "plt.show":
                yield f"cell {number}: plt.show(), which says nothing to those who do not see; plot.show(…) does"
        for call in told:
            words = call.args[0] if call.args else None
            if not isinstance(words, ast.JoinedStr) and len(getattr(words, "value", "")) < 15:
                yield f"cell {number}: plot.show(…) without a sentence"
        made = {name for name, _ in calls(cell, inside_functions=False)}
        drawn = {name for name in made if name in imported or name.startswith(prefixes)}
        drawn = {
            name
            for name in drawn
            if name.split(".")[-1] not in DRAWS_NOTHING and ".rcParams" not in name
        }
        if drawn and not told and "explore" not in made:
            yield f"cell {number}: {', '.join(sorted(drawn))} makes a figure, which plot.show(…) does not show"


def closes_in_order(nb):
    level_two = [text for marks, text in headings(nb) if marks == "##"]
    if level_two[-len(CLOSING) :] != CLOSING:
        yield f"the last sections are {level_two[-len(CLOSING) :]}, expected {CLOSING}"


def compares_methods_in_a_table(nb):
    written = re.search(
        r"^\|.+\|\n\|[ :|-]+\|\n(\|.+\|\n?){2,}", section(nb, "Side by side"), flags=re.MULTILINE
    )
    here, printed = False, False
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for title in re.findall(r"^## +(.+?) *$", unfenced(cell.source), flags=re.MULTILINE):
                here = title == "Side by side"
        elif here:
            printed |= any(name.split(".")[-1] == "table" for name, _ in calls(cell))
    if not written and not printed:
        yield "'Side by side' holds no table of at least two methods"


def has_corrections(nb):
    if len(section(nb, "Corrections to the slides").split()) < 10:
        yield "'Corrections to the slides' is empty"


def has_exercises_with_solutions(nb):
    text = section(nb, "Exercises")
    starts = list(re.finditer(r"^(?:#{3,4} +|\*\*)(?:Exercise )?(\d+)\b", text, flags=re.MULTILINE))
    if [int(start[1]) for start in starts] != list(range(1, len(starts) + 1)) or not 4 <= len(
        starts
    ) <= 6:
        yield f"exercises are numbered {[int(s[1]) for s in starts]}, expected 1 to 4, 5 or 6"
    ends = [start.start() for start in starts[1:]] + [len(text)]
    for start, end in zip(starts, ends, strict=True):
        part = text[start.start() : end]
        folded = re.findall(
            r"<details>\s*<summary>[^<]*\S[^<]*</summary>\n\s*\n(.+?)</details>", part, re.DOTALL
        )
        if len(folded) != 1 or len(folded[0].split()) < 3:
            yield f"exercise {start[1]} is not followed by one folded solution (a blank line after </summary>)"
        elif len(part.split("<details>")[0].split()) < 8:
            yield f"exercise {start[1]} asks nothing"


def solutions(nb):
    """The code of the solutions, parsed."""
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    text = text[text.find("## Exercises") :]
    return [ast.parse(block) for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


def named(tree):
    """Names that a piece of code defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)


def solves_with_what_there_is(nb):
    """Solutions use names of the chapter and of lectool as they are today, and arguments that exist."""
    known = set(dir(builtins)).union(*(named(parsed(cell)) for cell in code(nb)))
    for tree in solutions(nb):
        known |= set(named(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in known:
                yield f"a solution uses {node.id}, which the chapter does not define"
            if isinstance(node, ast.Attribute) and (home := room(node.value)):
                if not hasattr(home, node.attr):
                    yield f"a solution uses {ast.unparse(node)}, which is not in lectool"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield from wrong_arguments(
                    node, getattr(room(node.func.value), node.func.attr, None)
                )


def room(node):
    """The module of lectool that a name stands for in a chapter, ``None`` for other names."""
    if isinstance(node, ast.Name) and find_spec(f"lectool.{node.id}"):
        return import_module(f"lectool.{node.id}")
    return None


def wrong_arguments(call, function):
    parameters = inspect.signature(function).parameters if callable(function) else {}
    if not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for word in call.keywords:
        if word.arg and word.arg not in parameters:
            yield f"a solution gives {ast.unparse(call.func)} the argument {word.arg}, which it does not take"


def has_further_reading(nb):
    if not re.search(r"^[-*] \S", section(nb, "Further reading"), flags=re.MULTILINE):
        yield "'Further reading' has no list"


def holds_no_outputs(nb):
    for number, cell in enumerate(nb.cells):
        if cell.cell_type == "code" and (cell.get("outputs") or cell.get("execution_count")):
            yield f"cell {number} holds outputs or an execution count"


def is_portable_markdown(nb):
    for number, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            for name, pattern in {
                "a MyST directive": r"^\s*(?:`{3,}|~{3,}|:{3,})\s*\{",
                "a colon fence": r"^\s*:::",
                "a MyST role": r"\{[\w:+-]+\}`",
                "a MyST label": r"^\([\w-]+\)=\s*$",
                "a MyST comment": r"^%",
            }.items():
                if re.search(pattern, cell.source, flags=re.MULTILINE):
                    yield f"cell {number}: {name}, which Jupyter and Colab show as text"


def keeps_cells_short(nb):
    for position, cell in enumerate(code(nb)):
        n_statements = len(
            [line for line in ast.unparse(parsed(cell)).splitlines() if line.strip()]
        )
        n_lines = len(cell.source.splitlines())
        if n_statements > MAX_STATEMENTS or n_lines > MAX_LINES:
            limits = f"at most {MAX_STATEMENTS} in {MAX_LINES} are allowed"
            yield f"code cell {position} has {n_statements} statements in {n_lines} lines, {limits}"


def shows_code_in_twenty_lines(nb):
    """What `source` prints is an algorithm that can be taken in at a glance."""
    space = {}
    for cell in code(nb):
        for node in ast.walk(parsed(cell)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                with contextlib.suppress(ImportError):  # that is another rule's
                    exec(compile(ast.Module([node], []), "imports", "exec"), space)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "source":
                only = next((k.value.value for k in node.keywords if k.arg == "only"), "")
                for item in node.args:
                    text = source_text(eval(ast.unparse(item), space), only=only)
                    n = sum(bool(line.strip()) for line in text.splitlines())
                    if n > MAX_SHOWN:
                        yield f"source({ast.unparse(item)}) shows {n} lines, at most {MAX_SHOWN} are allowed"


def has_unique_cell_ids(nb):
    ids = [cell.get("id") for cell in nb.cells]
    if None in ids or len(set(ids)) < len(ids):
        yield "cell ids are missing or not unique"


def runs_on_python3(nb):
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "kernelspec is not python3"


def has_a_thumbnail(nb):
    tagged = sum("thumbnail" in cell.metadata.get("tags", []) for cell in nb.cells)
    if tagged != 1:
        yield f"{tagged} cells are tagged thumbnail, expected 1"


def links_to_what_exists(nb):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(nb)):
        path, _, anchor = target.partition("#")
        if not path or re.match(r"\w+:", target):
            continue
        if not (ROOT / "chapters" / path).exists():
            yield f"link to {target}, which does not exist"
        elif (
            path.endswith(".ipynb")
            and anchor
            and anchor not in book.anchors(ROOT / "chapters" / path)
        ):
            yield f"link to {target}: there is no such section"


def chapter_number(name):
    """As prose has it: 5 of 05-sparse.ipynb, 15a of 15a-asking.ipynb."""
    return name.partition("-")[0].lstrip("0")


def keeps_its_promises(nb):
    """A chapter that is named and stands is linked, at the section where what is promised is kept."""
    standing = {chapter_number(path.name) for path in CHAPTERS}
    unlinked = re.sub(r"\[[^\]]*\]\([^)]*\)", "", prose(nb))
    for found in re.findall(r"\b[Cc]hapters? ((?:\d+[a-z]?\b(?:, | and |–|/)?)+)", unlinked):
        if named := standing & set(re.findall(r"\d+[a-z]?", found)):
            yield f"chapter {', '.join(sorted(named))} is named without a link to its section"
    for shown, target in re.findall(r"\[([Cc]hapters? \d+[a-z]?)\]\(([^)\s]+)\)", prose(nb)):
        if re.search(r"\d+[a-z]?", shown)[0] != chapter_number(target) or "#" not in target:
            yield f"{shown} is linked to {target}, expected a section of that chapter"


RULES = [
    has_one_title,
    opens_with_a_paragraph,
    says_three_abilities,
    says_time_and_data,
    starts_with_hidden_setup,
    folds_the_same_everywhere,
    hides_the_call_of_a_listing,
    has_claims,
    has_a_slider,
    shows_a_diagram,
    describes_its_figures,
    closes_in_order,
    compares_methods_in_a_table,
    has_corrections,
    has_exercises_with_solutions,
    solves_with_what_there_is,
    has_further_reading,
    holds_no_outputs,
    is_portable_markdown,
    keeps_cells_short,
    shows_code_in_twenty_lines,
    has_unique_cell_ids,
    runs_on_python3,
    has_a_thumbnail,
    links_to_what_exists,
    keeps_its_promises,
]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_chapter(path, rule):
    complaints = list(rule(nbformat.read(path, as_version=4)))
    assert not complaints, f"{path.name}: " + "; ".join(complaints)


def test_there_are_chapters():
    assert len(CHAPTERS) >= 2


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_title_bears_the_number_of_the_file(path):
    assert (
        nbformat.read(path, as_version=4)
        .cells[0]
        .source.startswith(f"# {chapter_number(path.name)} ")
    )


def test_the_setup_cell_is_the_same_in_all_chapters():
    assert CHAPTERS
    sources = {path.name: code(nbformat.read(path, as_version=4))[0].source for path in CHAPTERS}
    first = next(iter(sources.values()))
    assert [name for name, source in sources.items() if source != first] == []


def test_the_contents_list_the_chapters_in_order():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    listed = [name.removesuffix(".ipynb") for name in listed if name.startswith("chapters/")]
    assert listed == [f"chapters/{path.stem}" for path in CHAPTERS]
    numbers = [path.name.partition("-")[0] for path in CHAPTERS]
    assert numbers == sorted(set(numbers))


# --- the rules can fail ---------------------------------------------------------------------------------------------


def good():
    """A small notebook that no rule complains about."""
    exercises = "\n\n".join(
        f"**Exercise {i}.** Show that the error falls when k grows by one.\n\n"
        "<details>\n<summary>Solution</summary>\n\nOne more eigenvalue is kept.\n\n"
        "```python\n# k + 1\n```\n\n</details>"
        for i in range(1, 5)
    )
    nb = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    nb.cells = [
        new_markdown_cell(
            "# A chapter\n\n" + "A sentence that makes one want to go on. " * 4 + "\n\n"
            "You will be able to\n\n- see it,\n- write it,\n- check it.\n\nAbout a minute on a laptop · MNIST"
        ),
        new_code_cell(
            "import matplotlib.pyplot as plt\nfrom lectool.plot import (\n    grid, style)\nstyle()\nseed(0)"
        ),
        new_markdown_cell(
            "## An idea\n\nFrom $x$ to\n\n$$z = W x .$$\n\n```python\n# not a title\n```"
        ),
        new_code_cell(
            "plt.plot([1, 2])\nplot.show('The error falls as k grows.')",
            metadata={"tags": ["thumbnail"]},
        ),
        new_code_cell(
            "grid(x)\nplot.show('The error falls as k grows.')\ndiagram.show(model, alt='z points to x')"
        ),
        new_code_cell(
            "def draw(k):\n    plt.plot([k, 2])\n\nexplore(draw, alt='k is {k}', k=[1, 2])"
        ),
        new_code_cell("\n".join(f"claim('sentence {i}', {i}, '<', n)" for i in range(4))),
        new_markdown_cell(
            "## Side by side\n\n| method | cost |\n| --- | --- |\n| PCA | 1 |\n| AE | 2 |"
        ),
        new_markdown_cell(
            "## Corrections to the slides\n\n" + "A common form is wrong, and this is why. " * 2
        ),
        new_markdown_cell("## Exercises\n\n" + exercises),
        new_markdown_cell("## Further reading\n\n- Somebody (2006), [the list](../references.md)."),
    ]
    nb.cells[1].metadata.update(tags=["hide-cell"])
    folding.fold(nb)
    return nb


def replaced(index, old, new):
    def damage(nb):
        assert old in nb.cells[index].source
        nb.cells[index].source = nb.cells[index].source.replace(old, new, 1)

    return damage


def without(index):
    return lambda nb: nb.cells.pop(index)


DAMAGES = [
    (has_one_title, replaced(2, "## An idea", "# An idea")),
    (has_one_title, replaced(0, "# A chapter", "A chapter")),
    (
        opens_with_a_paragraph,
        replaced(0, "A sentence that makes one want to go on. " * 4, "Short."),
    ),
    (opens_with_a_paragraph, replaced(0, "A sentence", "A sentence on $k$")),
    (says_three_abilities, replaced(0, "- check it.", "")),
    (says_three_abilities, replaced(0, "- check it.", "- check it.\n- sell it.")),
    (says_time_and_data, replaced(0, "About a minute", "70 s")),
    (says_time_and_data, replaced(0, " · MNIST", "")),
    (starts_with_hidden_setup, lambda nb: nb.cells[1].metadata.pop("tags")),
    (starts_with_hidden_setup, replaced(1, "seed(0)", "seed(1)")),
    (has_claims, replaced(6, "claim('sentence 0', 0, '<', n)\n", "")),
    (has_claims, replaced(6, "claim('sentence 0'", "# claim('sentence 0'")),
    (has_a_slider, without(5)),
    (shows_a_diagram, replaced(4, "diagram.show", "show")),
    (describes_its_figures, replaced(3, "plot.show('The error falls as k grows.')", "")),
    (describes_its_figures, replaced(4, "plot.show('The error falls as k grows.')", "")),
    (describes_its_figures, replaced(3, "The error falls as k grows.", "A plot")),
    (describes_its_figures, replaced(3, "plot.show('The error falls as k grows.')", "plt.show()")),
    (describes_its_figures, replaced(5, "alt='k is {k}', ", "")),
    (closes_in_order, without(8)),
    (closes_in_order, lambda nb: nb.cells.append(new_markdown_cell("## Afterword\n\nText."))),
    (compares_methods_in_a_table, replaced(7, "| AE | 2 |", "")),
    (compares_methods_in_a_table, replaced(7, "## Side by side", "## In the end")),
    (has_corrections, lambda nb: nb.cells[8].update(source="## Corrections to the slides")),
    (has_exercises_with_solutions, replaced(9, "**Exercise 4.**", "Exercise 4.")),
    (has_exercises_with_solutions, replaced(9, "**Exercise 2.**", "**Exercise 3.**")),
    (has_exercises_with_solutions, replaced(9, "<details>", "")),
    (has_exercises_with_solutions, replaced(9, "</summary>\n\n", "</summary>\n")),
    (has_exercises_with_solutions, replaced(9, "One more eigenvalue is kept.", "")),
    (
        has_exercises_with_solutions,
        replaced(9, "Show that the error falls when k grows by one.", "Why?"),
    ),
    (solves_with_what_there_is, replaced(9, "# k + 1", "print(undefined)")),
    (solves_with_what_there_is, replaced(9, "# k + 1", "gan.ensemble_mlp")),
    (solves_with_what_there_is, replaced(9, "# k + 1", "gan.play(grid, grid, at=())")),
    (has_further_reading, replaced(10, "- Somebody", "Somebody")),
    (holds_no_outputs, lambda nb: nb.cells[3].update(execution_count=1)),
    (
        holds_no_outputs,
        lambda nb: nb.cells[3].outputs.append(
            {"output_type": "stream", "name": "stdout", "text": "1"}
        ),
    ),
    (is_portable_markdown, replaced(2, "From $x$", "{math}`x`")),
    (is_portable_markdown, replaced(2, "```python", "```{note}")),
    (is_portable_markdown, replaced(2, "From $x$", ":::note\nx\n:::")),
    (is_portable_markdown, replaced(2, "From $x$", "(label)=\n")),
    (is_portable_markdown, replaced(2, "From $x$", "% hidden\n")),
    (keeps_cells_short, lambda nb: nb.cells[4].update(source="x = 1\n" * (MAX_STATEMENTS + 1))),
    (keeps_cells_short, lambda nb: nb.cells[1].update(source="x = 1" + "\n" * MAX_LINES + "y = 2")),
    (
        shows_code_in_twenty_lines,
        replaced(4, "grid(x)", "from lectool import train\nsource(train.fit)"),
    ),
    (has_unique_cell_ids, lambda nb: nb.cells[3].update(id=nb.cells[4].id)),
    (has_unique_cell_ids, lambda nb: nb.cells[3].pop("id")),
    (runs_on_python3, lambda nb: nb.metadata.kernelspec.update(name="my-environment")),
    (has_a_thumbnail, lambda nb: nb.cells[3].metadata.pop("tags")),
    (links_to_what_exists, replaced(10, "../references.md", "references.md")),
    (links_to_what_exists, replaced(10, "../references.md", "01-pca.ipynb#no-such-section")),
    (hides_the_call_of_a_listing, lambda nb: nb.cells[4].update(source="source(mean)")),
    (hides_the_call_of_a_listing, lambda nb: nb.cells[4].metadata.update(tags=["remove-input"])),
    (folds_the_same_everywhere, lambda nb: nb.cells[1].metadata.pop("jupyter")),
    (folds_the_same_everywhere, lambda nb: nb.cells[1].metadata.pop("cellView")),
    (folds_the_same_everywhere, lambda nb: nb.cells[3].metadata.update(cellView="form")),
    (folds_the_same_everywhere, replaced(1, "# @title Set-up\n", "")),
    (
        folds_the_same_everywhere,
        lambda nb: nb.cells[3].metadata.update(tags=["hide-input", "thumbnail"]),
    ),
    (keeps_its_promises, replaced(2, "From $x$ to", "As chapter 1 says, from $x$ to")),
    (
        keeps_its_promises,
        replaced(2, "From $x$ to", "As [chapter 1](02-autoencoders.ipynb#deep-bottlenecks) says"),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_accepts_a_good_notebook(rule):
    assert list(rule(good())) == []


def test_a_printed_table_of_methods_will_do():
    nb = good()
    nb.cells[7:8] = [
        new_markdown_cell("## Side by side"),
        new_code_cell("plot.table(['method'], rows)"),
    ]
    assert list(compares_methods_in_a_table(nb)) == []


@pytest.mark.parametrize(
    ("rule", "damage"), DAMAGES, ids=[f"{r.__name__}-{i}" for i, (r, _) in enumerate(DAMAGES)]
)
def test_rule_sees_the_damage(rule, damage):
    nb = good()
    damage(nb)
    assert list(rule(nb))


def test_every_rule_is_seen_to_fail():
    assert {rule for rule, _ in DAMAGES} == set(RULES)
