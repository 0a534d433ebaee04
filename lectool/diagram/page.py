r"""Diagrams on the page, with words for those who do not see them."""

import html

from IPython.display import display

from lectool.diagram.graph import Diagram

__all__ = ["show"]

# Of their own, since JupyterLab and Colab do not know the site's style sheet.
FIGURE = "margin:1rem auto;text-align:center"
CAPTION = "max-width:32rem;margin:0.5rem auto 0;font-size:0.9em;text-align:center;opacity:0.85"


def show(drawn: Diagram | str, *, alt: str, caption: str = "") -> None:
    r"""Shows a diagram.

    Arguments:
        drawn: a :class:`Diagram`, or a picture of :func:`layers` or :func:`svd`.
        alt: what is to be seen, for those who do not see it; at least fifteen characters.
        caption: below the picture.

    Raises:
        ValueError: if the description is too short.
    """
    if len(alt) < 15:
        raise ValueError(f"alt is {alt!r}; expected a description of at least 15 characters")
    svg = drawn.svg() if isinstance(drawn, Diagram) else drawn
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)
    words = f'<figcaption style="{CAPTION}">{html.escape(caption)}</figcaption>' if caption else ""
    page = f'<figure class="diagram" style="{FIGURE}">{svg}{words}</figure>'
    display({"text/html": page, "text/plain": alt}, raw=True)
