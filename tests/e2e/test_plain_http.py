"""Over plain http a browser has no Web Locks, no private files, no caches, no service worker, no digests."""

from __future__ import annotations

import pytest
from hosting import Site
from pages import SURE, UNSURE, agent, ask, load, open_playground, refused, route, taught_at_once, view
from playwright.sync_api import BrowserContext, Page, expect

OPTIONS = {"encoder": "static"}


@pytest.fixture
def site(site: Site) -> Site:
    """Under a name that is not this machine's own, which would count as safe."""
    site.url = site.url.replace("127.0.0.1", "plain.test")
    return site


def test_the_page_routes_learns_and_remembers(page: Page, site: Site, problems: list[str]) -> None:
    open_playground(page, site, UNSURE, ruvltra=True)
    assert page.evaluate("() => [isSecureContext, 'storage' in navigator, 'locks' in navigator]") == [False] * 3
    page.get_by_role("button", name=f"Right: {agent(page)}").click()
    expect(page.locator(".feedback .said")).to_contain_text("Learnt")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Not allowed here")).to_be_visible()
    expect(page.locator("#network")).to_have_text("Online only")
    page.reload()
    route(page, SURE)
    view(page, "Learnt")
    expect(page.locator(".facts.wide")).to_contain_text("1 lesson")
    expect(page.locator(".facts.wide")).to_contain_text("this browser, IndexedDB")
    expect(page.locator("#view-learnt")).to_contain_text("no copy of the page: each visit needs the network")
    assert problems == []


def test_two_tabs_that_teach_at_once_lose_nothing(context: BrowserContext, site: Site) -> None:
    assert taught_at_once(context, site, **OPTIONS) == 40


@pytest.mark.usefixtures("inside")
def test_a_dead_worker_is_noticed(page: Page, site: Site) -> None:
    """By its silence: what waits is refused, and what is asked next starts another one."""
    page.clock.install()
    load(page, site, **OPTIONS)
    (worker,) = page.workers
    worker.evaluate("() => { self.close(); }")
    page.evaluate("() => { window.silence = llm.feedback('feed the cat', 'tester').catch((error) => error.toJSON()); }")
    page.clock.run_for(150_000)
    error = page.evaluate("() => window.silence")
    assert error["name"] == "WorkerError"
    assert "no sign of life" in error["message"]
    assert "starts anew" in error["fix"]
    assert ask(page, "route", SURE)["agent"] == "tester"
    assert refused(page, "route", "")["field"] == "text"
