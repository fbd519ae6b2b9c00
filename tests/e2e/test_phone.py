"""A phone's viewport with touch, a slow line, and a window that keeps nothing large."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hosting import Site
from pages import SURE, UNSURE, agent, open_playground, view
from playwright.sync_api import Browser, BrowserContext, CDPSession, Locator, Page, Playwright, expect

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


def test_a_phone_of_two_gigabytes(
    playwright: Playwright, options: dict[str, Any], devtools: object, site: Site
) -> None:
    """With all models loaded the page's process stays under what such a phone leaves to one tab."""
    small = ["--enable-low-end-device-mode", "--js-flags=--max-old-space-size=256"]
    browser = playwright.chromium.launch(**options | {"args": [*options["args"], *small]})
    try:
        page = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True).new_page()
        open_playground(page, site, UNSURE, ruvltra=True)  # a private window: small phones give those little space
        expect(page.locator("#network")).to_have_text(re.compile("Offline ready|Not kept: no space"))
        processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
        most = max(peak(process["id"]) for process in processes if process["type"] == "renderer")
        assert most < 800_000, most
    finally:
        browser.close()


def peak(process: int) -> int:
    """The most memory that a process has had, in kB."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text("utf-8"))[0])


@pytest.fixture
def private(
    playwright: Playwright, browser: Browser, options: dict[str, Any], tmp_path: Path
) -> Iterator[BrowserContext]:
    """A private window: Firefox's own, or a context of Chromium, each of which is one."""
    if options.get("channel") == "moz-firefox":
        prefs = options["firefox_user_prefs"] | {"browser.privatebrowsing.autostart": True}
        window = playwright.firefox.launch_persistent_context(tmp_path, **options | {"firefox_user_prefs": prefs})
    else:
        window = browser.new_context()
    window.set_default_timeout(180_000)
    yield window
    window.close()


def test_a_private_window_learns_and_says_for_how_long(private: BrowserContext, site: Site) -> None:
    page = private.new_page()
    open_playground(page, site, UNSURE)
    page.get_by_role("button", name=f"Right: {agent(page)}").click()
    expect(page.locator(".feedback .said")).to_contain_text("Learnt")
    page.reload()
    facts = view(page, "Learnt").locator(".facts.wide")
    expect(facts).to_contain_text("Kept in")
    lost = "this visit only" in facts.inner_text()
    expect(facts).to_contain_text("0 lessons" if lost else "1 lesson")
