"""Concept questions: well formed, with feedback to every answer, and shown without a network."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

from lectool import quizzes

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "lectool" / "quizzes").glob("*.json"))


def test_every_chapter_has_questions_and_asks_them():
    chapters = sorted((ROOT / "chapters").glob("*.ipynb"))
    assert [path.stem for path in chapters] == NAMES
    for path in chapters:
        assert f'quiz(\\"{path.stem}\\")' in path.read_text("utf8")


@pytest.mark.parametrize("name", NAMES)
def test_questions(name):
    asked = quizzes.questions(name)
    assert len(asked) >= 3
    assert len({q["question"] for q in asked}) == len(asked)
    for q in asked:
        assert q["type"] == "multiple_choice" and q["question"].endswith("?")
        assert 3 <= len(q["answers"]) <= 5
        assert sum(a["correct"] for a in q["answers"]) == 1
        for a in q["answers"]:
            assert set(a) == {"answer", "correct", "feedback"}
            assert a["feedback"].startswith("Right") == a["correct"]
            assert len(a["feedback"].split()) >= 6
        text = " ".join([q["question"], *(a["answer"] + a["feedback"] for a in q["answers"])])
        assert not re.search(r"[$<>\\]", text), "plain text: no formulas, no HTML"


@pytest.mark.parametrize("name", NAMES)
def test_the_chapter_asks_them(name):
    cells = nbformat.read(ROOT / "chapters" / f"{name}.ipynb", as_version=4).cells
    asking = [cell for cell in cells if f'quiz("{name}")' in cell.source]
    assert len(asking) == 1 and "hide-input" in asking[0].metadata.tags


@pytest.mark.parametrize("name", NAMES)
def test_the_page_names_no_other_host_that_it_would_load_from(name):
    page = quizzes._page(name, quizzes.questions(name))
    assert "</script>" in page and page.count("<script>") == 1
    assert "(function (MathJax)" in page and "})(undefined);" in page
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    assert page.count("<div") == page.count("</div>")
    assert page == quizzes._page(name, quizzes.questions(name)), "the same at every build"
    assert len(page) < 100_000


def test_without_jupyterquiz_the_answers_are_folded(monkeypatch):
    monkeypatch.setitem(sys.modules, "jupyterquiz.dynamic.loader", None)
    page = quizzes._page("01-pca", quizzes.questions("01-pca"))
    assert page.count("<details>") == len(quizzes.questions("01-pca")) and "<script" not in page


def test_an_unknown_chapter():
    with pytest.raises(ValueError, match="name is '99-none'; it can be 01-pca"):
        quizzes.quiz("99-none")
