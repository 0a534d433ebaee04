"""The built site, read without a browser and without a network."""

import os
import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from sklearn.linear_model import LinearRegression

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("LECTOOL_SITE") or ROOT / "_build" / "html")
MAX_BYTES = 3_000_000
BUILT = sorted(SITE.rglob("*.html")) if SITE.exists() else []
PAGES = [
    path.relative_to(SITE).as_posix()
    for path in BUILT
    if not path.relative_to(SITE).parts[0].startswith("_")
]
CHAPTERS = [page for page in PAGES if re.fullmatch(r"chapters/\d\d[a-z]?-.+\.html", page)]
LOADING = {
    "stylesheet",
    "icon",
    "shortcut icon",
    "preload",
    "modulepreload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
}

pytestmark = pytest.mark.skipif(
    not PAGES, reason="there is no built site: run `make book` first, or set LECTOOL_SITE"
)
cache = {}


def soup(page):
    if page not in cache:
        cache[page] = BeautifulSoup((SITE / page).read_text(encoding="utf-8"), "html.parser")
    return cache[page]


def text_of(element):
    return " ".join(element.get_text(" ").split())


# --- what a page must be: functions from a page to complaints -------------------------------------------------------


def broken_links(page, html, site=SITE):
    """Links, pictures and scripts of this site that lead nowhere."""
    for element in html.find_all(True):
        for target in filter(None, (element.get("href"), element.get("src"))):
            parts = urlsplit(target)
            if (
                parts.scheme
                or parts.netloc
                or target in ("#", "")
                or element.find_parent(class_="MathJax")
            ):
                continue
            path = (site / page).parent / unquote(parts.path) if parts.path else site / page
            path = path / "index.html" if path.is_dir() else path
            if not path.exists():
                yield f"{element.name} to {target}: no such file"
            elif parts.fragment and path.suffix == ".html":
                name = path.resolve().relative_to(site.resolve()).as_posix()
                there = html if name == page else soup(name)
                if there.find(id=unquote(parts.fragment)) is None:
                    yield f"{element.name} to {target}: no such place on that page"


def pictures_without_words(page, html):
    for image in html.find_all("img"):
        alt = image.get("alt", "").strip()
        if len(alt) < 3 or re.search(
            r"\.(?:png|svg|webp|jpe?g|gif)$|_images/|jupyter_execute|[\\/]\w+[\\/]", alt
        ):
            yield f"img {image.get('src', '')[:60]} has the alt text {alt!r}"
    for canvas in html.find_all("canvas"):
        button = canvas.parent if canvas.parent.name == "button" else None
        if canvas.get("aria-hidden") == "true" and button and button.get_text(strip=True):
            continue  # the button's own words say it
        if canvas.get("role") != "img" or not canvas.get("aria-label", "").strip():
            yield "a canvas without role=img and aria-label"


def addresses_that_load(page, html):
    """What the page fetches from another host when it is opened."""
    for element in html.find_all(
        ["script", "img", "iframe", "source", "video", "audio", "embed", "object", "link"]
    ):
        if element.name == "link" and not LOADING & {
            " ".join(element.get("rel", [])),
            *element.get("rel", []),
        }:
            continue
        for target in (
            element.get("src"),
            element.get("srcset"),
            element.get("data"),
            element.get("href"),
        ):
            if target and re.match(r"(?:https?:)?//", target):
                yield f"{element.name} loads {target}"
    for style in html.find_all("style"):
        for target in re.findall(
            r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)", style.get_text()
        ):
            yield f"a style loads {target}"


def paths_of_this_machine(page, html):
    text = re.sub(r"data:[\w/+.;-]+,[^\"'\s<>]*|[A-Za-z0-9+/=]{200,}", "", str(html))
    homes = {str(ROOT), str(Path.home()), sys.prefix, tempfile.gettempdir()} - {
        "/",
        "/root",
        "/tmp",
    }
    for home in homes:
        if home in text:
            yield f"names {home}"
    if found := re.search(
        r"(?<![\w.:/-])(?:/(?:home|root|Users|tmp|private|workspace)/|[A-Z]:\\\\?Users)[\w.\\/-]+",
        text,
    ):
        yield f"names {found[0]}"


def too_heavy(page, html, site=SITE):
    if (size := (site / page).stat().st_size) > MAX_BYTES:
        yield f"{size:,} bytes, at most {MAX_BYTES:,} are allowed"


def failures_in_outputs(page, html):
    for output in html.select(".cell_output"):
        if "Traceback (most recent call last)" in output.get_text() or output.select(
            ".output.traceback"
        ):
            yield f"an output shows an error: {text_of(output)[:80]}"


def widgets_of_libraries(page, html):
    """scikit-learn draws an estimator that a cell ends with, in colors and with markup of its own."""
    if html.select("[id^=sk-container], .sk-top-container"):
        yield "an output shows an estimator: let the cell end with something else"


CHECKS = [
    broken_links,
    pictures_without_words,
    addresses_that_load,
    paths_of_this_machine,
    too_heavy,
    failures_in_outputs,
    widgets_of_libraries,
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_page(check, page):
    assert list(check(page, soup(page))) == []


def test_own_style_sheets_load_nothing_from_elsewhere():
    for path in (ROOT / "_static").rglob("*.css"):
        assert not re.search(
            r"(?:@import|url\()\s*[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")
        ), path.name


def test_one_script_lies_in_static():
    """It loads on every page."""
    assert list((ROOT / "_static").rglob("*.js")) == [ROOT / "_static" / "book.js"]


# --- the parts that the extension makes -----------------------------------------------------------------------------


def test_all_pages_of_the_contents_are_built():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    wanted = {toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])}
    assert {f"{name}.html" for name in wanted} <= set(PAGES)


def test_landing_page_has_a_card_for_each_chapter():
    found = soup("index.html").select(".chapter-card")
    assert [card.h3.a["href"] for card in found] == CHAPTERS
    for card in found:
        assert (SITE / card.img["src"]).stat().st_size < 60_000, "a thumbnail is small"
        assert len(text_of(card.find_all("p")[0])) > 40
        assert text_of(card.select_one(".time")).partition(" · ")[0].endswith("on a laptop")
        assert text_of(card.h3.a) in text_of(soup(card.h3.a["href"]).h1)


def test_landing_page_shows_a_moving_picture():
    assert soup("index.html").select_one(".hero figure.latent-pad canvas")


@pytest.mark.parametrize("page", CHAPTERS)
def test_claims_page_lists_what_the_chapter_claims(page):
    claimed = [text_of(line).removeprefix("✓").strip() for line in soup(page).select(".claim")]
    section = soup("claims.html").find("section", id=f"chapter-{page[9:].partition('-')[0]}")
    rows = section.select("tbody tr") if section else []
    listed = [" ".join(text_of(cell) for cell in row.find_all("td")[:2]) for row in rows]
    assert listed == claimed
    assert len(claimed) >= 4
    for row in rows:
        target = row.find_all("td")[2].a["href"]
        assert target.split("#")[0] == page and "#" in target


def test_claims_page_counts_them():
    summary = text_of(soup("claims.html").select_one(".claims-summary"))
    n_claims = sum(len(soup(page).select(".claim")) for page in CHAPTERS)
    assert summary.startswith(f"{n_claims} claims in {len(CHAPTERS)} chapter")


@pytest.mark.parametrize("page", CHAPTERS)
def test_chapter_can_be_launched_and_downloaded(page):
    links = [a["href"] for a in soup(page).find_all("a", href=True)]
    notebook = page.replace(".html", ".ipynb")
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    repository = config["repository"]["url"].removeprefix("https://github.com/")
    branch = config["repository"]["branch"]
    assert (
        f"https://colab.research.google.com/github/{repository}/blob/{branch}/{notebook}" in links
    )
    assert any(
        link.startswith(f"https://mybinder.org/v2/gh/{repository}/{branch}?") for link in links
    )
    assert f"../_sources/{notebook}" in links


@pytest.mark.parametrize("page", CHAPTERS)
def test_chapter_hides_its_setup(page):
    text = soup(page)
    assert "tag_hide-cell" in text.select_one("div.cell")["class"]
    folded = text.select_one("details.code")
    assert folded.summary.get_text().startswith("code: set-up")
    assert "installs lectool" in folded.get_text()
    folded.decompose()
    assert "installs lectool" not in text.get_text()


# --- the checks can fail --------------------------------------------------------------------------------------------

SOUND = """<html><head><link rel="stylesheet" href="style.css"><link rel="canonical" href="https://example.org/x">
<style>p {color: red}</style></head><body><h1 id="top">A</h1><a href="#top">up</a>
<a href="https://example.org">out</a>
<a href="other.html#there">other</a><img src="a.png" alt="A falling curve">
<canvas role="img" aria-label="digit"></canvas>
<div class="cell_output">1.0</div></body></html>"""
DAMAGES = [
    (broken_links, "#top", "#bottom"),
    (broken_links, "other.html", "gone.html"),
    (broken_links, "#there", "#nowhere"),
    (broken_links, "a.png", "b.png"),
    (pictures_without_words, ' alt="A falling curve"', ""),
    (pictures_without_words, "A falling curve", "../_images/abc.png"),
    (pictures_without_words, "A falling curve", "_build/jupyter_execute/abc"),
    (pictures_without_words, ' aria-label="digit"', ""),
    (addresses_that_load, "style.css", "https://cdn.example.org/style.css"),
    (addresses_that_load, "<h1", '<script src="//cdn.example.org/x.js"></script><h1'),
    (addresses_that_load, "p {color: red}", "p {background: url(https://example.org/x.png)}"),
    (paths_of_this_machine, "1.0", "saved to /home/someone/file.txt"),
    (paths_of_this_machine, "1.0", str(ROOT / "lectool")),
    (too_heavy, "1.0", "1" * MAX_BYTES),
    (failures_in_outputs, "1.0", "Traceback (most recent call last)"),
    (widgets_of_libraries, "1.0", LinearRegression()._repr_html_()),
]


def complaints(check, text, folder):
    (folder / "index.html").write_text(text, encoding="utf-8")
    (folder / "other.html").write_text("<p id='there'>x</p>", encoding="utf-8")
    for name in ("style.css", "a.png"):
        (folder / name).touch()
    cache["other.html"] = BeautifulSoup("<p id='there'>x</p>", "html.parser")
    arguments = {"site": folder} if check in (broken_links, too_heavy) else {}
    found = list(check("index.html", BeautifulSoup(text, "html.parser"), **arguments))
    del cache["other.html"]
    return found


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_check_accepts_a_sound_page(check, tmp_path):
    assert complaints(check, SOUND, tmp_path) == []


@pytest.mark.parametrize(
    ("check", "old", "new"), DAMAGES, ids=[f"{d[0].__name__}-{i}" for i, d in enumerate(DAMAGES)]
)
def test_check_sees_the_damage(check, old, new, tmp_path):
    assert old in SOUND
    assert complaints(check, SOUND.replace(old, new, 1), tmp_path)


def test_every_check_is_seen_to_fail():
    assert {damage[0] for damage in DAMAGES} == set(CHECKS)
