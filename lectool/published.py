r"""Figures that papers have published, and the table in which a chapter shows its own beside them.

The models behind them are trained at the papers' size by ``python -m lectool.full``, whose results are kept
(:mod:`lectool.results`).
"""

import base64
import html
from collections.abc import Mapping
from dataclasses import dataclass

from IPython.display import display

from lectool import check, plot, results, scale

__all__ = ["PUBLISHED", "Published", "table"]


@dataclass(frozen=True)
class Published:
    r"""What a paper has measured of a model.

    Attributes:
        title: the model, in words.
        chapter: the notebook's name without its ending.
        figures: from each metric, with its unit, to the published number.
        source: author, year, and place in the paper.
    """

    title: str
    chapter: str
    figures: Mapping[str, float]
    source: str


LOG_P, BITS = "−log p, nats", "bits a pixel"
BURDA = "Burda et al. (2016), table 1"
FFJORD = "Grathwohl et al. (2019), table 2"
# By the names of the runs, in the order of their worth where time is short.
PUBLISHED = {
    "rbm": Published(
        "RBM, 500 hidden units, CD-25",
        "09-boltzmann",
        {"−log p by AIS, nats": 86.34},
        "Salakhutdinov & Murray (2008)",
    ),
    "vae": Published("VAE, one layer of codes", "11-vae", {LOG_P: 86.76}, BURDA),
    "iwae": Published("IWAE, 50 draws, one layer of codes", "12-vae-family", {LOG_P: 84.78}, BURDA),
    "autoencoder": Published(
        "deep autoencoder 784–1000–500–250–30",
        "02-autoencoders",
        {"squared error an image": 3.00, "the same of PCA-30": 13.87},
        "Hinton & Salakhutdinov (2006)",
    ),
    "ladder": Published(
        "ladder network, 100 labels",
        "03-regularized-autoencoders",
        {"test error, %": 1.06},
        "Rasmus et al. (2015), table 1",
    ),
    "glow": Published("Glow, uniform noise", "16-flows", {BITS: 1.05}, FFJORD),
    "infogan": Published(
        "InfoGAN, class read off the code",
        "15a-asking",
        {"test error without labels, %": 5.0},
        "Chen et al. (2016)",
    ),
    "vae-2": Published("VAE, two layers of codes", "12-vae-family", {LOG_P: 85.33}, BURDA),
    "iwae-2": Published(
        "IWAE, 50 draws, two layers of codes", "12-vae-family", {LOG_P: 82.90}, BURDA
    ),
    "ring": Published(
        "ring of eight Gaussians",
        "13-gan",
        {"modes covered, GAN": 1.0, "modes covered, unrolled GAN": 7.6},
        "Srivastava et al. (2017), table 1",
    ),
    "realnvp": Published("RealNVP, uniform noise", "16-flows", {BITS: 1.06}, FFJORD),
}


# ------------------------------------------------------------------------------------------- in a chapter


def table(here: Mapping[str, float | Mapping[str, float] | None]) -> None:
    r"""A table of runs: what this notebook has measured, what was kept of the full scale, and what was published.

    Below it stand the pictures of the runs that have been made.

    Arguments:
        here: from a run's name to what stands beside it in this notebook: a number for its first metric, numbers by
            metric, or ``None``.

    Raises:
        ValueError: if there is no such run or metric.
    """
    rows = []
    for name, measured in here.items():
        check.one_of(PUBLISHED, name=name)
        paper, record = PUBLISHED[name], results.load(name)
        if not isinstance(measured, Mapping):
            measured = {next(iter(paper.figures)): measured}
        for metric in measured:
            check.one_of(paper.figures, metric=metric)
        for metric, number in paper.figures.items():
            full = _kept(name, metric, record)
            source = f"{number:.2f}, {paper.source}"
            rows.append([paper.title, metric, _words(measured.get(metric)), full, source])
    plot.table(
        ["model", "measured", f"here, {scale.current()} scale", "full scale", "published"], rows
    )
    for name in here:
        _show(name)


def _words(number: float | None) -> str:
    return "–" if number is None else f"{float(number):.2f}"


def _kept(name: str, metric: str, record: dict | None) -> str:
    r"""A kept number, with how far its run came where it did not come to its end; or how to get one."""
    if record is None:
        return f"not run yet: `python -m lectool.full {name}`"
    values = {entry["metric"]: entry["value"] for entry in record.get("values", ())}
    words = _words(values.get(metric))
    if not record.get("finished"):
        words += f", after {record.get('progress')}"
    if (n := record.get("n_test", 0)) < (all_of := record.get("n_test_of", 0)):
        words += f", {n:,} of {all_of:,} test images"
    return words


def _show(name: str) -> None:
    r"""The picture of a run, and how it came about; nothing where it has not been made."""
    record, path = results.load(name), results.find(f"{name}.png")
    if record is None or path is None:
        return
    words = (
        f"{PUBLISHED[name].title}: {record['device']}, {record['seconds']:,.0f} s, {record['date']}"
    )
    source = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    page = (
        f'<figure class="full-scale" style="margin:0.5em 0"><img src="{source}" style="max-width:100%" '
        f'alt="{html.escape(record["alt"], True)}"><figcaption>{html.escape(words)}</figcaption></figure>'
    )
    display({"text/html": page, "text/plain": f"{words}. {record['alt']}"}, raw=True)
