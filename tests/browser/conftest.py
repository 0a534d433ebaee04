"""A browser without a network: it reaches the built site on this machine and nothing else."""

import contextlib
import functools
import http.server
import os
import re
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("LECTOOL_SITE") or ROOT / "_build" / "html")
sys.path.insert(0, str(ROOT / "_ext"))


SHARED = ("opened", "chapter", "chapter_on_a_phone")


def site_pages():
    """The pages that a reader sees, as paths below the site's root."""
    found = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    return [page for page in found if not page.startswith(("_", "genindex")) and "/_" not in page]


# Figures with a slider, as classes.
MOVING = (
    *("explore", "hopfield-pad", "ising-pad", "latent-pad"),
    *("rbm-pad", "sparse-pad", "stroke-pad"),
)


def chapters():
    return [page for page in site_pages() if page.startswith("chapters/")]


def pages_with(*kinds):
    mark = re.compile(rf'<figure class="(?:{"|".join(kinds)})"')
    return [page for page in site_pages() if mark.search((SITE / page).read_text(encoding="utf-8"))]


def pytest_generate_tests(metafunc):
    """A test that asks for one of these runs once for each such page of the site."""
    kinds = {
        "opened": site_pages,
        "chapter": chapters,
        "chapter_on_a_phone": chapters,
        "moving_page": lambda: pages_with(*MOVING),
        "example_page": lambda: list(
            dict.fromkeys(page for kind in MOVING for page in pages_with(kind)[:1])
        ),
        "chapter_page": chapters,
    }
    for name in kinds.keys() & set(metafunc.fixturenames):
        pages = kinds[name]() or ["index.html"]
        if name in SHARED:
            metafunc.parametrize(name, pages, indirect=True, scope="module")
        else:
            metafunc.parametrize(name, pages)


class ByPage(LoadScopeScheduling):
    """All tests of a page in one process, which opens it once a module; other tests by their file."""

    # pytest-xdist's groups, a mark for this, are ignored without a word from pytest 9.2 on (its issue 1386).
    def _split_scope(self, nodeid):
        page = re.search(r"\[(.+?\.html)", nodeid)
        return page[1] if page else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config, log):
    return ByPage(config, log)


@pytest.fixture(scope="session")
def site():
    if not (SITE / "index.html").exists():
        pytest.skip("there is no built site: run `make book` first, or set LECTOOL_SITE")
    return SITE


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def address(site):
    """The site's address on this machine, for as long as the tests run."""
    handler = functools.partial(QuietHandler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@dataclass
class Opened:
    """A page in the browser, with what went wrong in it and whom it asked for something."""

    page: object
    name: str
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def look_at(browser, address):
    """`with look_at(name) as opened`: a page of the site, from the server or, with `base`, from elsewhere."""

    @contextlib.contextmanager
    def opened(name, base=address, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        result = Opened(context.new_page(), name)

        def route(request):
            if request.request.url.startswith((address, "file:", "data:", "blob:", "about:")):
                request.continue_()
            else:
                result.outside.append(request.request.url)
                request.abort()

        context.route("**/*", route)
        result.page.on("pageerror", lambda error: result.errors.append(str(error)))
        result.page.on(
            "console", lambda m: result.errors.append(m.text) if m.type == "error" else None
        )
        result.page.on("requestfailed", lambda r: result.errors.append(f"could not load {r.url}"))
        result.page.on(
            "response",
            lambda r: result.errors.append(f"{r.status} {r.url}") if r.status >= 400 else None,
        )
        result.page.goto(f"{base}/{name}")
        yield result
        context.close()

    return opened


@pytest.fixture
def open_page(look_at):
    """`open_page(name)`: the same for one test, at whose end all pages are closed."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(look_at(*arguments, **options))


@pytest.fixture(scope="module")
def opened(request, look_at):
    """One page of the site, open for all tests that look at it."""
    with look_at(request.param) as result:
        yield result


chapter = opened  # the same for chapters alone


@pytest.fixture(scope="session")
def phone():
    """What a page is opened with, to be seen as on a phone."""
    return {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def chapter_on_a_phone(request, look_at, phone):
    with look_at(request.param, **phone) as result:
        yield result
