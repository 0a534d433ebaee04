"""Concept questions on the built pages: answered by mouse and keyboard, in both modes, without a network."""

import pytest

pytestmark = pytest.mark.browser


def test_questions_answer_back(chapter):
    questions = chapter.page.locator(".quiz .Quiz").all()
    assert len(questions) >= 3
    for question in questions:
        buttons = question.locator("label.MCButton").all()
        right = [b for b in buttons if b.get_attribute("data-correct") == "true"]
        wrong = [b for b in buttons if b.get_attribute("data-correct") == "false"]
        assert len(right) == 1 and len(wrong) >= 2
        feedback = question.locator(".Feedback")
        assert feedback.get_attribute("aria-live") == "polite"
        wrong[0].click()
        assert feedback.inner_text() == wrong[0].get_attribute("data-feedback")
        assert "incorrect" in feedback.get_attribute("class").split()
        right[0].locator("input").focus()
        right[0].locator("input").press("Space")
        assert feedback.inner_text().startswith("Right")
        assert "correct" in feedback.get_attribute("class").split()
    chapter.page.wait_for_timeout(800)
    assert chapter.errors == [] and chapter.outside == []


CONTRAST = """e => {
    const numbers = text => text.match(/[\\d.]+/g).map(Number);
    let ground = e;
    while (ground && (numbers(getComputedStyle(ground).backgroundColor)[3] ?? 1) === 0) ground = ground.parentElement;
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const [a, b] = [numbers(getComputedStyle(e).color), numbers(getComputedStyle(ground).backgroundColor)].map(light);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


def test_questions_can_be_read_in_both_modes_and_on_a_narrow_screen(chapter):
    page = chapter.page
    page.set_viewport_size({"width": 360, "height": 740})
    quick = "transition-duration: 1ms !important; animation-duration: 1ms !important"
    page.add_style_tag(content=f".quiz * {{{quick}}}")  # colors change slowly
    question = page.locator(".quiz .Quiz").first
    for theme in ("light", "dark"):
        page.evaluate("t => {document.documentElement.dataset.theme = t}", theme)
        question.locator("label.MCButton").first.click()
        page.wait_for_timeout(200)
        parts = ".MultipleChoiceQn > div:first-child, label.MCButton span, .Feedback"
        for part in question.locator(parts).all():
            assert part.evaluate(CONTRAST) >= 4.5, f"{theme}: {part.inner_text()}"
    assert page.evaluate("document.documentElement.scrollWidth") <= 361


def test_questions_without_javascript(open_page, chapter_page):
    page = open_page(chapter_page, java_script_enabled=False).page
    folded = page.locator(".quiz noscript details")
    assert folded.count() >= 3
    assert folded.first.is_visible()
