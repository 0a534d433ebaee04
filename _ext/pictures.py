r"""Sphinx extension of the pictures: what a picture says of itself becomes attributes of its element on the page.

``lectool.plot`` writes into a picture what there is to see in it, and where its columns of panels can be cut. The first
becomes its description; by the second ``_static/book.js`` lays the panels one below the other on a narrow screen.
"""

from __future__ import annotations

import functools
import html
import json
import re
from pathlib import Path

from PIL import Image

from lectool.explore import cut_marks

ELEMENT = re.compile(r'<img (?=[^>]*\bsrc="[^"]*_images/([^"/]+\.png)")[^>]*>')


@functools.cache
def facts(path: Path) -> tuple[str, str]:
    """Description and further attributes of one picture; empty where it says nothing."""
    said = Image.open(path).info
    cuts = json.loads(said.get("panels", "{}"))
    return said.get("Description", ""), cut_marks(cuts).strip()


def mark(app, pagename, templatename, context, doctree) -> None:
    """Completes the pictures of a page."""
    if "body" not in context:
        return
    files = {name: Path(app.srcdir, path) for path, name in app.builder.images.items()}

    def complete(found: re.Match) -> str:
        path = files.get(found[1])
        alt, more = facts(path) if path and path.exists() else ("", "")
        element = found[0]
        if alt:
            element = re.sub(r' alt="[^"]*"', "", element)
            more = f'alt="{html.escape(alt, True)}" {more}'
        return element.replace("<img ", f"<img {more.strip()} ", 1) if more else element

    context["body"] = ELEMENT.sub(complete, context["body"])


def setup(app) -> dict:
    app.connect("html-page-context", mark)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
