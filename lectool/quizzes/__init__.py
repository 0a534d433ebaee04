r"""Concept questions of the chapters: ungraded, each about a misunderstanding that is common."""

import html
import json
from pathlib import Path
from typing import Any

from IPython.display import display

__all__ = ["questions", "quiz"]

FOLDER = Path(__file__).parent


def questions(name: str) -> list[dict[str, Any]]:
    r"""The questions of a chapter.

    Arguments:
        name: the chapter's file name, such as ``"01-pca"``.

    Returns:
        one dict a question, in jupyterquiz's form: ``question``, ``type``, ``answers``, of which each has ``answer``,
        ``correct`` and ``feedback``.

    Raises:
        ValueError: if the chapter has no questions.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.json"))
    if name not in known:
        raise ValueError(f"name is {name!r}; it can be {', '.join(known)}")
    return json.loads((FOLDER / f"{name}.json").read_text("utf8"))


def quiz(name: str) -> None:
    r"""Shows the questions of a chapter, to be answered by mouse or keyboard: in a notebook and on the page.

    Where jupyterquiz is not installed the questions come with their answers folded in. Nothing is loaded from
    elsewhere, and nothing is recorded.

    Arguments:
        name: the chapter's file name, such as ``"01-pca"``.

    Raises:
        ValueError: if the chapter has no questions.
    """
    asked = questions(name)
    plain = "\n\n".join(
        "\n".join([q["question"], *(f"  - {a['answer']}" for a in q["answers"])]) for q in asked
    )
    display({"text/html": _page(name, asked), "text/plain": plain}, raw=True)


def _page(name: str, asked: list[dict[str, Any]]) -> str:
    try:
        from jupyterquiz.dynamic.loader import load_questions_script
        from jupyterquiz.dynamic.renderer import build_script, build_styles, render_div
    except ImportError:
        return f'<div class="quiz">{_folded(asked)}</div>'
    place = "quiz" + "".join(c for c in name.title() if c.isalnum())
    colors = {
        "--jq-multiple-choice-bg": "#1f3a5f",
        "--jq-mc-button-bg": "#fafafa",
        "--jq-mc-button-border": "#8a8a8a",
        "--jq-mc-button-inset-shadow": "#555555",
        "--jq-many-choice-bg": "#1f3a5f",
        "--jq-incorrect-color": "#b3400a",
        "--jq-correct-color": "#1a6f37",
        "--jq-text-color": "#fafafa",
        "--jq-link-color": "#9abafa",
    }
    prefix, static, url = load_questions_script(asked, place)
    script = build_script(prefix, static, url, place, True).replace("</", "<\\/")
    # jupyterquiz fetches MathJax from another host where it meets one that is still loading. The questions hold no
    # formulas: it is told that there is none.
    body = render_div(place, False, True, False, len(asked), 640, 10, "left")
    return (
        f'<div class="quiz">{body}</div>'
        f"{build_styles(place, colors)}"
        f"<style>#{place} .Quiz {{font-size: 1.05rem}} #{place} .MCButton {{font-size: 0.95rem}}"
        f" #{place} .Answer {{grid-template-columns: 1fr !important}}"
        f" #{place} .Feedback {{color: inherit !important; font-size: 0.95rem}}"
        f" #{place} .MCButton:focus-within {{outline: 3px solid #e69f00}}</style>"
        f"<script>(function (MathJax) {{\n{script}\n"
        f'document.querySelectorAll("#{place} .Feedback").forEach(e => e.setAttribute("aria-live", "polite"));\n'
        # Without this JupyterLab takes arrows, Enter and letters for cells; the classic Notebook asks the event.
        f'document.querySelectorAll("#{place} input").forEach(e => {{\n'
        f'e.setAttribute("data-lm-suppress-shortcuts", "true");\n'
        f'e.addEventListener("keydown", event => event.stopPropagation()); }});\n'
        f"}})(undefined);</script><noscript>{_folded(asked)}</noscript></div>"
    )


def _folded(asked: list[dict[str, Any]]) -> str:
    parts = []
    for q in asked:
        rows = "".join(
            f"<li>{html.escape(a['answer'])}: <em>{html.escape(a['feedback'])}</em></li>"
            for a in q["answers"]
        )
        question = html.escape(q["question"])
        parts.append(f"<details><summary>{question}</summary><ul>{rows}</ul></details>")
    return "".join(parts)
