r"""Sphinx extension of the pictures: what the page's script needs to know to cut one into its panels.

``lectool.plot`` writes into a picture where its columns of panels can be cut. Here the element on the page gets
that as attributes; ``_static/book.js`` then lays the panels one below the other on a narrow screen.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

from PIL import Image

from lectool.explore import cut_marks

ELEMENT = re.compile(r'<img (?=[^>]*\bsrc="[^"]*_images/([^"/]+\.png)")')


@functools.cache
def marks(path: Path) -> str:
    """The attributes of one picture; empty where it has no panels to cut."""
    facts = Image.open(path).info.get("panels")
    return cut_marks(json.loads(facts)).strip() if facts else ""


def mark(app, pagename, templatename, context, doctree) -> None:
    """Adds the attributes to the pictures of a page."""
    if "body" not in context:
        return
    files = {name: Path(app.srcdir, path) for path, name in app.builder.images.items()}

    def attributes(found: re.Match) -> str:
        path = files.get(found[1])
        found_marks = marks(path) if path and path.exists() else ""
        return f"<img {found_marks} " if found_marks else found[0]

    context["body"] = ELEMENT.sub(attributes, context["body"])


def setup(app) -> dict:
    app.connect("html-page-context", mark)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
