"""After one visit the page needs no network; an update comes whole or not at all; a full disk is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hosting import Site, build_called, hosted
from pages import SURE, UNSURE, agent, open_playground, route, view
from playwright.sync_api import BrowserContext, CDPSession, Page, expect

Devtools = Callable[[BrowserContext, Page], CDPSession]
KEPT = "Offline ready"
MARKS = """async () => [
  document.querySelector("meta[name=mark]").content,
  (await import(new URL("ruvllm.js", document.baseURI).href)).MARK,
  (await (await fetch("ruvllm.json")).json()).version,
]"""


@pytest.fixture(scope="module")
def builds(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two builds that differ in files of lasting names."""
    folder = tmp_path_factory.mktemp("builds")
    return {mark: build_called(mark, dist, folder / mark) for mark in ("one", "two")}


@pytest.fixture
def updated(builds: dict[str, Path]) -> Iterator[Site]:
    """A site that will change from build one to build two."""
    with hosted(builds["one"]) as site:
        yield site


def keep(page: Page, site: Site) -> None:
    """A first visit, until the page is kept."""
    open_playground(page, site)
    expect(page.locator("#network")).to_have_text(KEPT)


@pytest.mark.parametrize("way", ["the server is gone", "the network is off"])
def test_the_second_visit_needs_no_network(
    context: BrowserContext, page: Page, site: Site, way: str, shot: Callable[[Page, str], None]
) -> None:
    keep(page, site)
    if way == "the server is gone":
        site.down = True
    else:
        context.set_offline(True)
    sent = len(site.sent)
    for visit in range(2):
        page.reload()
        expect(page.locator("#loading")).to_have_text("Ready, with RuvLTRA")
        if visit == 0:
            route(page, UNSURE)
            expect(page.locator(".decision .facts")).to_contain_text("RuvLTRA")
            page.get_by_role("button", name=f"Right: {agent(page)}").click()
            expect(page.locator(".feedback .said")).to_contain_text("Learnt")
    route(page, SURE)
    assert agent(page) == "tester"
    if way == "the network is off":
        context.set_offline(False)  # a page that was loaded without a network may learn of it by a change alone
        context.set_offline(True)
        expect(page.locator("#network")).to_have_text("Offline, still routing")
        shot(page, "offline")
    view(page, "Learnt")
    expect(page.locator(".facts.wide")).to_contain_text("1 lesson")
    assert len(site.sent) == sent


@pytest.mark.parametrize("kind", ["resident", "context"], ids=["a profile on the disk", "a private window"])
def test_nothing_is_loaded_twice_to_be_kept(request: pytest.FixtureRequest, site: Site, kind: str) -> None:
    """What the page has loaded comes from the browser's own cache, which in a private window takes no large file."""
    browser: BrowserContext = request.getfixturevalue(kind)
    keep(browser.new_page(), site)
    paths = [one.path for one in site.sent if one.bytes > 10_000]
    assert sorted(paths) == sorted(set(paths))
    assert not any("jinja2" in path for path in paths)  # on demand


def test_an_update_never_mixes_versions(
    context: BrowserContext, page: Page, updated: Site, builds: dict[str, Path]
) -> None:
    keep(page, updated)
    updated.folder = builds["two"]
    page.reload()
    expect(page.locator("#network")).to_have_text("Update ready")
    assert page.evaluate(MARKS) == ["one"] * 3
    other = context.new_page()
    open_playground(other, updated)
    assert other.evaluate(MARKS) == ["one"] * 3
    page.get_by_role("button", name="Reload").click()
    expect(page.locator("#notice")).to_contain_text("Close this page in 1 other tab first")
    assert page.evaluate(MARKS) == ["one"] * 3
    other.close()
    with page.expect_navigation():
        page.get_by_role("button", name="Reload").click()
    expect(page.locator("#network")).to_have_text(KEPT)
    assert page.evaluate(MARKS) == ["two"] * 3
    updated.down = True
    page.reload()
    expect(page.locator("#loading")).to_have_text("Ready, with RuvLTRA")
    assert page.evaluate(MARKS) == ["two"] * 3


def test_half_an_update_changes_nothing(page: Page, updated: Site, builds: dict[str, Path]) -> None:
    """The host has the new service worker and index already, but still the old library."""
    keep(page, updated)
    updated.folder = builds["two"]
    updated.pages["/ruvllm.js"] = (builds["one"] / "ruvllm.js").read_text("utf-8")
    page.evaluate(
        """async () => {
          const registration = await navigator.serviceWorker.getRegistration();
          await registration.update();
          const next = registration.installing;
          if (next) await new Promise((done) => {
            next.addEventListener("statechange", () => next.state === "redundant" && done());
          });
        }"""
    )
    page.reload()
    expect(page.locator("#network")).to_have_text(KEPT)
    assert page.evaluate(MARKS) == ["one"] * 3


def test_a_full_disk_is_told_and_routing_goes_on(
    context: BrowserContext, page: Page, site: Site, devtools: Devtools
) -> None:
    session = devtools(context, page)
    session.send("Storage.overrideQuotaForOrigin", {"origin": site.url.rstrip("/"), "quotaSize": 5_000_000})
    open_playground(page, site, ruvltra=True)
    expect(page.locator("#network")).to_have_text("Not kept: no space")
    expect(page.locator("#notice")).to_contain_text("free some space")
    route(page, SURE)
    assert agent(page) == "tester"
