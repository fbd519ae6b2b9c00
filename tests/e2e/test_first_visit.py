"""What somebody sees and loads who was never here before."""

from __future__ import annotations

import json
from collections.abc import Callable

from hosting import Site
from pages import SURE, UNSURE, agent, ask, load, open_playground, route, settled
from playwright.sync_api import Page, expect

BAR = 14_000_000  # bytes up to the first static route


def test_progress_is_shown_then_a_decision(page: Page, site: Site, shot: Callable[[Page, str], None]) -> None:
    with site.holding(".npz"):
        page.goto(site.url)
        rows = page.locator(".board li")
        expect(page.get_by_role("heading", name="Getting ready")).to_be_visible()
        expect(rows.filter(has_text="numpy and ruvllm")).to_have_class("here")
        expect(rows.filter(has_text="Word table").locator(".number")).to_contain_text("\u202fkB of ")
        expect(page.locator("#loading progress")).to_be_visible()
        expect(rows.filter(has_text="as WebAssembly")).to_have_class("here")
        shot(page, "first-visit")
    expect(page.locator(".decision h2.agent")).not_to_be_empty()
    expect(page.get_by_role("heading", name="Getting ready")).to_be_hidden()


def test_the_table_routes_before_ruvltra_has_come(page: Page, site: Site) -> None:
    with site.holding(".onnx"):
        open_playground(page, site, UNSURE)
        expect(page.locator(".decision .facts")).to_contain_text("the word table")
        route(page, SURE)
        assert agent(page) == "tester"
        expect(page.locator("#loading")).to_contain_text("Ready; RuvLTRA")
    expect(page.locator("#loading")).to_have_text("Ready, with RuvLTRA")
    route(page, UNSURE)
    expect(page.locator(".decision .facts")).to_contain_text("RuvLTRA")


def test_bytes_up_to_the_first_route(page: Page, site: Site) -> None:
    """All that has crossed the wire by then but RuvLTRA's own files, which come behind it."""
    files = json.loads((site.folder / "ruvllm.json").read_text("utf-8"))["files"]
    with site.holding(*(name for name, entry in files.items() if entry.get("stage") == "ruvltra")):
        open_playground(page, site)
        total = sum(one.bytes for one in site.sent)
    assert 10_000_000 < total <= BAR, [(one.path, one.bytes) for one in site.sent]


def test_progress_counts_up_and_ends_whole(page: Page, site: Site) -> None:
    load(page, site, state="memory", snapshot=False)
    assert ask(page, "stats")["encoder"] == "static"
    settled(page)
    steps = page.evaluate("() => window.progress")
    assert [step["stage"] for step in steps if step["loaded"] == step["total"]][-1] == "ruvltra"
    for stage in ("python", "packages", "static", "ready", "ruvltra"):
        loaded = [step["loaded"] for step in steps if step["stage"] == stage]
        assert loaded == sorted(loaded), stage
        assert loaded[-1] == next(step["total"] for step in steps if step["stage"] == stage), stage
    assert ask(page, "stats")["encoder"] == "cascade"
