r"""One PDF of the whole book: Chromium prints the built pages, which are put together with contents and numbers.

``python _ext/pdf.py`` (``make pdf``, which builds the site first) writes ``_build/book.pdf``. Sliders show their first
picture; links from page to page lead within the file.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from browser import find_chromium
from environment import ROOT
from playwright.sync_api import Browser, sync_playwright
from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.generic import ArrayObject, Destination, NameObject, NullObject, NumberObject

SITE, OUTPUT = ROOT / "_build" / "html", ROOT / "_build" / "book.pdf"
PAPER = {"format": "A4", "print_background": True, "outline": True, "tagged": True, "scale": 0.8}
MARGINS = {"top": "18mm", "bottom": "22mm", "left": "18mm", "right": "18mm"}
SETTLED = """() => Promise.all([window.MathJax?.startup?.promise,
    ...[...document.images].map(image => { image.loading = "eager"; return image.decode().catch(() => 0); })])"""


@dataclass
class Part:
    """One page of the site in print."""

    name: str
    title: str
    reader: PdfReader
    start: int = 0  # of its first sheet in the book, from 0

    @property
    def sections(self) -> list[tuple[str, int]]:
        """Title and sheet, within the part, of the headings below its title."""
        found = list(entries(self.reader.outline, self.reader))
        return [(t, sheet) for t, sheet, depth in found if depth == 1 and t != self.title]


def entries(outline: list, reader: PdfReader, depth: int = 0) -> Iterator[tuple[str, int, int]]:
    for item in outline:
        if isinstance(item, Destination):
            yield once(str(item.title)), reader.get_destination_page_number(item) or 0, depth
        else:
            yield from entries(item, reader, depth + 1)


def once(title: str) -> str:
    """Chromium writes a heading twice into its outline where it was laid out anew."""
    half = len(title) // 2
    return title[:half] if title[:half] == title[half:] else title


def names(root: Path = ROOT) -> list[str]:
    """The pages of the book in reading order, as the site's table of contents has them."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    return [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]


def print_page(browser: Browser, address: str, path: Path) -> str:
    """Prints one page; returns its title."""
    page = browser.new_page(color_scheme="light")
    page.goto(address)
    page.emulate_media(media="print", color_scheme="light")
    page.evaluate(SETTLED)
    title = page.locator("h1").first.evaluate("e => e.firstChild.textContent.trim()")
    page.pdf(path=str(path), margin=MARGINS, **PAPER)
    page.close()
    return title


def print_text(browser: Browser, text: str, path: Path, **more: object) -> PdfReader:
    page = browser.new_page()
    page.set_content(text)
    page.pdf(path=str(path), **{**PAPER, "outline": False, "scale": 1, "margin": MARGINS, **more})
    page.close()
    return PdfReader(path)


def contents(parts: list[Part], title: str, first: int) -> str:
    """The sheets with the contents; `first` is how many of them there are."""
    rows = "".join(
        f'<tr class="part"><td>{html.escape(part.title)}</td><td>{part.start + first + 1}</td></tr>'
        + "".join(
            f"<tr><td>{html.escape(section)}</td><td>{part.start + first + sheet + 1}</td></tr>"
            for section, sheet in part.sections
            if part.name.startswith("chapters/")
        )
        for part in parts
    )
    style = (
        "body{font:10pt/1.45 'DejaVu Sans',sans-serif} h1{margin:4rem 0 3rem} table{width:100%;border-spacing:0}"
        "td{padding:0 0 0 1.5rem} .part td{padding:.7rem 0 .1rem;font-weight:bold}"
        "td:last-child{text-align:right} tr{break-inside:avoid}"
    )
    return (
        f"<style>{style}</style><h1>{html.escape(title)}</h1><h2>Contents</h2><table>{rows}</table>"
    )


def numbers(n: int) -> str:
    """Empty sheets that bear nothing but their numbers."""
    style = "body{margin:0;font:9pt 'DejaVu Sans',sans-serif}"
    style += "p{height:285mm;margin:0;position:relative;break-after:page}"
    style += "span{position:absolute;bottom:0;width:100%;text-align:center;color:#555}"
    return f"<style>{style}</style>" + "".join(f"<p><span>{i + 1}</span></p>" for i in range(n))


def lead_within(page: PageObject, starts: dict[str, int], writer: PdfWriter) -> None:
    """Links to pages of the site lead to their sheets; to other files on this machine nowhere."""
    for reference in page.get("/Annots") or ():
        annotation = reference.get_object()
        action = annotation.get("/A", {})
        uri = str(action.get("/URI", ""))
        if not uri.startswith("file:"):
            continue
        target = uri.partition("#")[0].removeprefix(SITE.as_uri()).strip("/").removesuffix(".html")
        del annotation[NameObject("/A")]
        if target in starts:
            place = writer.pages[starts[target]].indirect_reference
            top = [place, NameObject("/XYZ"), NullObject(), NullObject(), NumberObject(0)]
            annotation[NameObject("/Dest")] = ArrayObject(top)


def bind(parts: list[Part], front: PdfReader, sheets: PdfReader, title: str) -> PdfWriter:
    """Puts everything together, with bookmarks."""
    writer = PdfWriter()
    writer.append(front, import_outline=False)
    for part in parts:
        writer.append(part.reader, import_outline=False)
        mark = writer.add_outline_item(title=part.title, page_number=part.start + len(front.pages))
        for section, sheet in part.sections:
            place = part.start + len(front.pages) + sheet
            writer.add_outline_item(title=section, page_number=place, parent=mark)
    starts = {part.name: part.start + len(front.pages) for part in parts}
    for number, page in enumerate(writer.pages):
        lead_within(page, starts, writer)
        page.merge_page(sheets.pages[number])
    writer.add_metadata({"/Title": title})
    return writer


def book(browser: Browser, pages: list[str], title: str, folder: Path) -> PdfWriter:
    """Prints the pages of the site, with contents in front."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Part] = []
    start = 0
    for name in pages:
        path = folder / f"{name.replace('/', '-')}.pdf"
        heading = print_page(browser, (SITE / f"{name}.html").as_uri(), path)
        parts.append(Part(name, heading, PdfReader(path), start))
        start += len(parts[-1].reader.pages)
        print(f"{name}: {len(parts[-1].reader.pages)} sheets", flush=True)
    n_front, front = 0, None
    while front is None or len(front.pages) != n_front:  # its length moves all that follows
        n_front = len(front.pages) if front else 1
        front = print_text(browser, contents(parts, title, n_front), folder / "contents.pdf")
    no_margins = {"margin": dict.fromkeys(MARGINS, "0")}
    sheets = print_text(browser, numbers(start + n_front), folder / "numbers.pdf", **no_margins)
    return bind(parts, front, sheets, title)


def main() -> int:
    chromium = find_chromium(install=True)
    if chromium is None or not (SITE / "index.html").is_file():
        print("A Chromium and the built site are needed: make book")
        return 1
    title = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["title"]
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        writer = book(browser, names(), title, SITE.parent / "print")
        browser.close()
    writer.write(OUTPUT)
    size = OUTPUT.stat().st_size / 2**20
    print(f"The book: {OUTPUT.relative_to(ROOT)}, {len(writer.pages)} sheets, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
