"""Right answers pass at every seed, wrong ones fail with the words that help, and no property is idle."""

import math
import time

import pytest
import torch

from lectool.checks import CheckFailed, Trial, check, exercises, judge

SEEDS = range(20)
OTHER_SEEDS = range(3, 11)  # the first three are those of the words, at the end of this file


def test_every_exercise_of_a_master_has_a_check_and_the_other_way_round(answers):
    assert list(answers.exercises) == exercises(f"a{int(answers.path.name[1:3])}")
    assert 4 <= len(answers.exercises) <= 6


@pytest.mark.parametrize("seed", SEEDS)
def test_solutions_pass(answers, seed, monkeypatch):
    monkeypatch.setenv("LECTOOL_SEED", str(seed))
    for name in answers.exercises:
        report = answers.judge(name)
        assert report.passed, report.text()


@pytest.mark.parametrize("seed", SEEDS)
def test_other_right_ways_pass(answers, seed, monkeypatch):
    monkeypatch.setenv("LECTOOL_SEED", str(seed))
    assert list(answers.right) == list(answers.exercises)
    for name, ways in answers.right.items():
        for title, answer in ways:
            report = answers.judge(name, answers.answer(name, answer))
            assert report.passed, f"{name}, {title}:\n{report.text()}"


@pytest.mark.parametrize("seed", OTHER_SEEDS)
def test_wrong_answers_are_refused(answers, seed, monkeypatch):
    """By no luck of the draw; a trial ends with its first failure, which makes this four times quicker."""
    monkeypatch.setenv("LECTOOL_SEED", str(seed))
    ends_at_once = lambda self, *args, stop=False, **more: holds(self, *args, stop=True, **more)  # noqa: E731
    holds = Trial.holds
    monkeypatch.setattr(Trial, "holds", ends_at_once)
    accepted = [
        (name, title)
        for name, wrong in answers.wrong.items()
        for title, answer, _ in wrong
        if answers.judge(name, answers.answer(name, answer)).passed
    ]
    assert not accepted


def test_inputs_are_drawn_anew(answers, monkeypatch):
    """Sizes and numbers differ between two seeds, and no size is the same in all rounds."""
    seen: dict = {}
    run = Trial.run

    def recorded(self, f, *args, **kwargs):
        seen.setdefault(case, []).append([a for a in args if isinstance(a, torch.Tensor)])
        return run(self, f, *args, **kwargs)

    monkeypatch.setattr(Trial, "run", recorded)
    for name in answers.exercises:
        for seed in (0, 1):
            case = name, seed
            monkeypatch.setenv("LECTOOL_SEED", str(seed))
            answers.judge(name)
        sizes = [{tuple(x.shape) for call in seen[name, seed] for x in call} for seed in (0, 1)]
        assert min(map(len, sizes)) >= 2 or name == "a8.flow_sample", name
        first, other = ([x for call in seen[name, s] for x in call] for s in (0, 1))
        assert not all(torch.equal(a, b) for a, b in zip(first, other)) or not first, name


def test_checks_are_quick_and_leave_the_random_numbers_alone(answers):
    for name in answers.exercises:
        state, start = torch.get_rng_state(), time.perf_counter()
        answers.judge(name)
        assert time.perf_counter() - start < 5, name
        assert torch.equal(torch.get_rng_state(), state), name


def test_each_exercise_has_wrong_answers(answers):
    assert list(answers.wrong) == list(answers.exercises)
    for name, wrong in answers.wrong.items():
        assert len(wrong) >= 3, name
        assert len({title for title, _, _ in wrong}) == len(wrong), name


def problems(answers, without=None):
    """What is wrong with the checks; `without` takes a property out of them."""

    def reported(name, space=None):
        report = answers.judge(name, space)
        report.lines = [line for line in report.lines if (name, line.sentence) != without]
        return report

    for name, wrong in answers.wrong.items():
        properties = {line.sentence for line in reported(name).lines}
        caught = set()
        for title, answer, words in wrong:
            report = reported(name, answers.answer(name, answer))
            caught |= {line.sentence for line in report.lines if not line.passed}
            if report.passed or words not in report.text():
                yield f"{name}: {title}: {words!r} is not in\n{report.text()}"
        for sentence in sorted(properties - caught):
            yield f"{name}: no wrong answer fails at {sentence!r}"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wrong_answers_are_caught_with_words_and_no_property_is_idle(answers, seed, monkeypatch):
    monkeypatch.setenv("LECTOOL_SEED", str(seed))
    assert not (found := list(problems(answers))), "\n\n".join(found)


def test_a_deleted_property_is_missed(answers):
    """Whichever property is taken out of a check: some wrong answer gets through, or loses its words."""
    every = [
        (name, line.sentence) for name in answers.exercises for line in answers.judge(name).lines
    ]
    unseen = []
    reports = {}
    original = answers.judge

    def judged_once(name, space=None):
        key = (name, None if space is None else space["__title__"])
        if key not in reports:
            reports[key] = original(name, space)
        found = reports[key]
        return type(found)(found.name, list(found.lines), found.unfilled)

    def titled(name, answer, original=answers.answer):
        return {
            "__title__": repr(answer),
            **({} if (name, f"{answer!r}") in seen else fresh(name, answer, original)),
        }

    seen = set()

    def fresh(name, answer, original):
        seen.add((name, repr(answer)))
        return original(name, answer)

    answers.judge, answers.answer, kept = judged_once, titled, answers.answer
    try:
        unseen = [each for each in every if not list(problems(answers, without=each))]
    finally:
        answers.judge, answers.answer = original, kept
    assert unseen == []


def test_no_check_takes_a_stub_or_nonsense(answers):
    def stub(*args, **kwargs):
        raise NotImplementedError

    def nonsense(*args, **kwargs):
        return "nonsense"

    for name in answers.exercises:
        n_answers = len(answers.notebook.cells[answers.exercises[name].check].source.split(",")) - 1
        report = judge(name, *[stub] * n_answers)
        assert report.text() == f"{name}: not filled in yet"
        assert judge(name, *[None] * n_answers).unfilled == "not filled in yet"
        assert not judge(name, *[nonsense] * n_answers).passed
        assert not judge(name, *[torch.zeros(3)] * n_answers).passed


# --- what a student sees ----------------------------------------


def test_a_wrong_answer_raises_and_shows_its_report_without_a_traceback(capsys):
    with pytest.raises(CheckFailed) as caught:
        check("a1.whiten", lambda x: x)
    seen = capsys.readouterr().out
    assert "✗ every column has mean 0: expected" in seen and "likely: the mean" in seen
    assert str(caught.value) in seen
    assert caught.value._render_traceback_() == ["a1.whiten: not passed, 3 of 5 properties fail"]


@pytest.mark.parametrize("came", [math.nan, math.inf, [1.0, math.nan], []])
def test_nothing_is_near_what_is_no_number(came):
    trial = Trial()
    assert not trial.value("it is 1", torch.tensor(came), 1.0, tol=1e9)
    assert not trial.lines[0].passed
    assert trial.value("it is nearly 1", torch.tensor([1.0, 1.5]), 1.0, tol=0.5)


def test_a_right_answer_shows_each_property(answers, capsys):
    name = next(iter(answers.exercises))
    report = answers.judge(name)
    html = report._repr_html_()
    assert html.count("<li") == len(report.lines) == html.count("✓")
    assert report.verdict().endswith(f"passed, {len(report.lines)} properties hold")


def test_a_report_escapes_what_came():
    def answer(x):
        raise ValueError("<script>alert(1)</script>")

    report = judge("a1.whiten", answer)
    assert "<script>" in report.text() and "<script>" not in report._repr_html_()
    assert "ValueError" in report.text() and "raise ValueError" in report.text()


def test_notebooks_show_one_line(tmp_path):
    """In a kernel: the report as display data, the error without a traceback."""
    from lectool.assign.kernel import Kernel

    with Kernel(tmp_path, seed=0, mime="text/html") as kernel:
        code = "from lectool.checks import check\ncheck('a1.whiten', lambda x: x)"
        outcome = kernel.run(code, 60)
        assert outcome.status == "error" and outcome.error.startswith("CheckFailed: ✓")
        assert "likely" in outcome.data[0] and "every column has mean 0" in outcome.data[0]
        asked = kernel.client.execute(code)
        shown = []
        while not shown or shown[-1]["msg_type"] != "status":
            message = kernel.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") == asked and message["msg_type"] == "error":
                shown.append(message)
                break
        (error,) = shown
        assert error["content"]["traceback"] == ["a1.whiten: not passed, 3 of 5 properties fail"]


def test_a_function_that_calls_an_unfilled_one_says_so():
    def empty(x):
        raise NotImplementedError

    report = judge("a1.whiten", lambda x: empty(x))
    assert report.text() == "a1.whiten: not filled in yet: empty, which it calls"


@pytest.mark.parametrize("name", ["a1.nothing", "a99.whiten", "whiten", "a1.Trial", "trial.check"])
def test_an_unknown_exercise_is_named(name):
    with pytest.raises(ValueError, match="it can be"):
        judge(name, lambda x: x)


def test_another_number_of_answers():
    with pytest.raises(ValueError, match=r"has 1 answers; expected \w+, decorrelate"):
        judge("a1.newton_step", lambda z, W: W)


def test_an_answer_without_end_stops():
    def deep(x):
        return deep(x)

    assert "calls itself without end" in judge("a1.whiten", deep).text()
