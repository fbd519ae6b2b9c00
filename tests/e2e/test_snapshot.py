"""Later visits start from Python's memory as the first one kept it, and from its beginning where they cannot."""

from __future__ import annotations

import pytest
from hosting import Site
from pages import SURE, ask, load, snapshot_kept
from playwright.sync_api import BrowserContext, Page

OPTIONS = {"encoder": "static", "state": "memory"}
DAMAGE = {
    "noise": "crypto.getRandomValues(new Uint8Array(60000))",
    "cut short": "(await (await cache.match(key)).arrayBuffer()).slice(0, 4_000_000)",
}


def first_visit(page: Page, site: Site) -> None:
    """Until the snapshot is kept."""
    load(page, site, **OPTIONS)
    assert ask(page, "stats")["started_from"] == "start"
    snapshot_kept(page)


def test_a_later_visit_starts_from_the_snapshot(context: BrowserContext, page: Page, site: Site) -> None:
    first_visit(page, site)
    answer = ask(page, "route", SURE)
    for visitor in (page, context.new_page()):
        load(visitor, site, **OPTIONS)
        assert ask(visitor, "stats")["started_from"] == "snapshot"
        later = ask(visitor, "route", SURE)
        assert (later["agent"], later["confidence"]) == (answer["agent"], answer["confidence"])


def test_a_page_may_do_without(page: Page, site: Site) -> None:
    first_visit(page, site)
    load(page, site, **OPTIONS, snapshot=False)
    assert ask(page, "stats")["started_from"] == "start"


@pytest.mark.parametrize("data", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_snapshot_is_thrown_away_and_made_anew(page: Page, site: Site, data: str) -> None:
    first_visit(page, site)
    page.evaluate(
        f"""async () => {{
          const cache = await caches.open("ruvllm-snapshot");
          const [key] = await cache.keys();
          await cache.put(key, new Response({data}));
        }}"""
    )
    load(page, site, **OPTIONS)
    assert ask(page, "stats")["started_from"] == "start"
    assert ask(page, "route", SURE)["agent"] == "tester"
    snapshot_kept(page)
    load(page, site, **OPTIONS)
    assert ask(page, "stats")["started_from"] == "snapshot"
