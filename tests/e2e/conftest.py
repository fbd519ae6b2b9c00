"""A browser, the built folder behind a server, and pages that tell what went wrong in them.

RUVLLM_E2E=firefox runs the same tests in Firefox. What only Chromium's own protocol can ask is then skipped by name.
test_webkit.py has its own driver.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright comes with `make setup`")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "build"))

import browser as browsers  # noqa: E402
from hosting import Site, hosted  # noqa: E402
from packaging.version import Version  # noqa: E402
from playwright.sync_api import Browser, BrowserContext, CDPSession, Locator, Page, Playwright, expect, sync_playwright  # noqa: E402

FIREFOX = os.environ.get("RUVLLM_E2E", "chromium") == "firefox"
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
    find, missing = (browsers.firefox, browsers.NO_FIREFOX) if FIREFOX else (browsers.find, browsers.MISSING)
    try:
        found = find()
    except browsers.BrowserError as error:
        pytest.fail(str(error), pytrace=False)
    if found is None and FIREFOX:
        pytest.skip(missing)
    if FIREFOX and Version(version("playwright")) >= Version("1.65"):
        pytest.skip("this Playwright fails with Firefox: run `make setup-browsers`")
    if found is None:
        pytest.fail(missing, pytrace=False)
    return found


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Its driver."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def options(executable: Path) -> dict[str, Any]:
    """How to launch the browser."""
    if FIREFOX:
        prefs = {"network.dns.localDomains": "plain.test"}
        # Playwright drives a Firefox of its own otherwise than one as Mozilla builds it.
        channel = {} if "ms-playwright" in executable.parts else {"channel": "moz-firefox"}
        return {"executable_path": executable, "firefox_user_prefs": prefs, "timeout": PATIENCE, **channel}
    return {"executable_path": executable, "args": [*browsers.ARGUMENTS, EAGER, PLAIN], "timeout": PATIENCE}


@pytest.fixture(scope="session")
def browser(playwright: Playwright, options: dict[str, Any]) -> Iterator[Browser]:
    """One browser for all tests; each test has a context, and so storage, of its own."""
    browser = (playwright.firefox if FIREFOX else playwright.chromium).launch(**options)
    yield browser
    browser.close()


@pytest.fixture
def inside(browser: Browser) -> None:
    """Workers run what a test puts into them."""
    if FIREFOX:
        pytest.skip("the driver runs nothing inside a worker of Firefox")


@pytest.fixture
def folders(browser: Browser) -> None:
    """A folder can be chosen by the driver."""
    if FIREFOX:
        pytest.skip("the driver cannot choose a folder in Firefox")


@pytest.fixture
def tap() -> Callable[[Locator], None]:
    """Touches what a locator finds; in Firefox the driver's touches reach no page, and it is clicked."""
    return (lambda found: found.click()) if FIREFOX else (lambda found: found.tap())


@pytest.fixture
def devtools(browser: Browser) -> Callable[[BrowserContext, Page], CDPSession]:
    """A session of Chromium's own protocol."""
    if FIREFOX:
        pytest.skip("asks what only Chromium's protocol answers")
    return lambda context, page: context.new_cdp_session(page)


@pytest.fixture
def site(dist: Path) -> Iterator[Site]:
    """The built folder under the strict policy."""
    with hosted(dist) as site:
        yield site


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that has never been here."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def resident(playwright: Playwright, options: dict[str, Any], tmp_path: Path) -> Iterator[BrowserContext]:
    """A browser with a profile on the disk: the others are like private windows, whose cache takes no large file."""
    kind = playwright.firefox if FIREFOX else playwright.chromium
    context = kind.launch_persistent_context(tmp_path / "profile", **options)
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
        path = ARTIFACTS / f"{name}{'-firefox' if FIREFOX else ''}.png"
        # In Firefox the driver would stop animations and hide the caret by a style that the page's policy forbids.
        calm: dict[str, Any] = {"caret": "initial"} if FIREFOX else {"animations": "disabled"}
        page.screenshot(path=path, full_page=True, **calm)

    return keep
