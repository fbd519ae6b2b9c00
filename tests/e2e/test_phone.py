"""A phone's viewport with touch, a slow line, and a window that keeps nothing large."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hosting import Site
from pages import SURE
from playwright.sync_api import Browser, BrowserContext, CDPSession, Locator, Page, expect

HTML = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">
<title>A shop</title><script type="module" src="/element.js"></script><ruvllm-router></ruvllm-router>"""
# As Chromium's own tools have it: 1.6 Mbit/s down, 750 kbit/s up, 150 ms.
SLOW_4G = {"offline": False, "latency": 150, "downloadThroughput": 200_000, "uploadThroughput": 93_750}


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A phone."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    context.set_default_timeout(180_000)
    yield context
    context.close()


def test_the_element_by_touch(page: Page, site: Site, tap: Callable[[Locator], None], problems: list[str]) -> None:
    site.pages["/shop.html"] = HTML
    page.goto(f"{site.url}shop.html")
    router = page.locator("ruvllm-router")
    tap(router.get_by_role("textbox"))
    router.get_by_role("textbox").fill(SURE)
    tap(router.get_by_role("button", name="Route"))
    decision = router.get_by_role("group", name="Decision")
    expect(decision).to_contain_text("tester")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    tap(router.get_by_role("button", name="Right: tester"))
    expect(decision).to_contain_text("Learnt")
    assert problems == []


def test_one_line_tells_how_far_it_has_come_on_a_slow_line(
    context: BrowserContext, page: Page, site: Site, devtools: Callable[[BrowserContext, Page], CDPSession]
) -> None:
    site.pages["/shop.html"] = HTML
    page.goto(f"{site.url}shop.html")
    session = devtools(context, page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", SLOW_4G)
    page.evaluate(
        """() => {
          window.lines = new Set();
          const told = document.querySelector("ruvllm-router").shadowRoot.querySelector("[role=status]");
          new MutationObserver(() => lines.add(told.textContent)).observe(told, {
            childList: true, characterData: true, subtree: true,
          });
        }"""
    )
    router = page.locator("ruvllm-router")
    router.get_by_role("textbox").fill(SURE)
    router.get_by_role("textbox").press("Enter")
    expect(router.get_by_role("group", name="Decision")).to_contain_text("tester", timeout=180_000)
    lines = page.evaluate("() => [...lines].filter((line) => line.trim())")
    assert len(lines) > 3
    assert all(len(line) < 60 for line in lines), lines
