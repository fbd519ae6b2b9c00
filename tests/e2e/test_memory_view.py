"""The memory view over time: why a note was found, when it held, what superseded it, and undoing that."""

from __future__ import annotations

from collections.abc import Callable

from hosting import Site
from pages import open_playground, view
from playwright.sync_api import Page, expect
from test_views import CONTRAST, tile

Shot = Callable[[Page, str], None]


def test_why_a_note_was_found_and_what_superseded_it(page: Page, site: Site, shot: Shot) -> None:
    open_playground(page, site)
    panel = view(page, "Memory")
    remember = panel.get_by_role("button", name="Remember", exact=True)

    def note(number: int, text: str, said_on: str, until: str = "") -> None:
        panel.get_by_label("Notes, one a line").fill(text)
        panel.get_by_label("Said by").fill("Grace")
        panel.get_by_label("Said on").fill(said_on)
        panel.get_by_label("Holds until").fill(until)
        remember.click()
        expect(tile(panel, "Notes")).to_have_text(str(number))

    panel.get_by_text("Who said it, and when it holds").click()
    note(1, "Ada lives in Porto, close to the river.", "2023-01-05")
    note(2, "Ada moved to Quito.", "2023-06-05")
    note(3, "The Porto office is closed for repairs.", "2023-02-01", "2023-04-01")
    panel.get_by_label("Look for, or ask").fill("Where does Ada live?")
    panel.get_by_role("button", name="Search", exact=True).click()
    hits = panel.locator(".hits li")
    expect(hits.first).to_contain_text("Quito")
    expect(hits.first.locator(".whys")).to_contain_text("meaning")
    expect(hits.first.locator(".whys")).to_contain_text("said by Grace")
    expect(hits.first.locator(".whys")).to_contain_text("since 2023-06-05")
    assert hits.first.locator(".sum i").count() >= 2
    ended = hits.filter(has_text="Porto, close")
    expect(ended).to_contain_text("2023-01-05 to 2023-06-05")
    expect(ended).to_contain_text("time −0.50")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        shot(page, f"memory-{scheme}")
        ratio, text = panel.evaluate(CONTRAST)
        assert ratio >= 4.5, text
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shot(page, "memory-390")
    past = panel.locator(".timeline li").filter(has_text="Porto")
    expect(past).to_contain_text("Ended: another place, and it says that this is new")
    panel.get_by_text("Time", exact=True).click()
    panel.get_by_label("As of this day").fill("2023-02-01")
    panel.get_by_role("button", name="Search", exact=True).click()
    expect(hits.first).to_contain_text("Porto, close")
    panel.get_by_label("As of this day").fill("")
    past.get_by_role("button", name="Undo: it still holds").click()
    expect(panel.get_by_role("status")).to_contain_text("holds again")
    expect(panel.locator(".timeline")).to_have_count(0)
    expect(ended).not_to_contain_text("to 2023-06-05")
