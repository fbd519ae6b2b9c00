"""A browser, the built folder behind a server, and pages that tell what went wrong in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="playwright comes with `make setup`")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "build"))

import browser as browsers  # noqa: E402
from hosting import Site, hosted  # noqa: E402
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright  # noqa: E402

PLAIN = "--host-resolver-rules=MAP plain.test 127.0.0.1"  # the same server over plain http, as any other machine's
EAGER = "--enable-blink-features=ForceEagerMeasureMemory"  # or a page waits half a minute for its memory's size
PATIENCE = 60_000  # ms: a slow machine is no failure
ARTIFACTS = Path(__file__).parent / "artifacts"


@pytest.fixture(scope="session")
def dist() -> Path:
    """The folder that `make web` built, or that $RUVLLM_DIST names."""
    folder = Path(os.environ.get("RUVLLM_DIST", ROOT / "web" / "dist"))
    if not (folder / "ruvllm.json").is_file():
        pytest.fail(f"{folder} is not built: run `make web`", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def executable() -> Path:
    """The browser that `make test` has found or installed."""
    try:
        found = browsers.find()
    except browsers.BrowserError as error:
        pytest.fail(str(error), pytrace=False)
    if found is None:
        pytest.fail(browsers.MISSING, pytrace=False)
    return found


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Its driver."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def chromium(playwright: Playwright, executable: Path) -> Iterator[Browser]:
    """One browser for all tests; each test has a context, and so storage, of its own."""
    arguments = [*browsers.ARGUMENTS, EAGER, PLAIN]
    browser = playwright.chromium.launch(executable_path=executable, args=arguments, timeout=PATIENCE)
    yield browser
    browser.close()


@pytest.fixture
def site(dist: Path) -> Iterator[Site]:
    """The built folder under the strict policy."""
    with hosted(dist) as site:
        yield site


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser that has never been here."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def resident(playwright: Playwright, executable: Path, tmp_path: Path) -> Iterator[BrowserContext]:
    """A browser with a profile on the disk: the others are like private windows, whose cache takes no large file."""
    context = playwright.chromium.launch_persistent_context(
        tmp_path / "profile", executable_path=executable, args=list(browsers.ARGUMENTS), timeout=PATIENCE
    )
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """Its first tab."""
    return context.new_page()


@pytest.fixture
def problems(context: BrowserContext) -> list[str]:
    """What the console calls an error, and exceptions that nobody caught: a test wants it empty."""
    told: list[str] = []
    context.on("console", lambda message: message.type == "error" and told.append(message.text[:500]))
    context.on("weberror", lambda wrong: told.append(str(wrong.error)[:500]))
    return told


@pytest.fixture(scope="session")
def shot() -> Callable[[Page, str], None]:
    """Keeps a picture of a page under artifacts/, for a person to look at."""
    ARTIFACTS.mkdir(exist_ok=True)

    def keep(page: Page, name: str) -> None:
        page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True, animations="disabled")

    return keep
