"""Feedback: it changes a later decision, survives reloads and crashes, and reaches the other tabs."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hosting import Site
from pages import UNSURE, agent, ask, load, open_playground, refused, route, taught_at_once, until, view
from playwright.sync_api import BrowserContext, Error, Page, expect

TEACH = "Wrong: pick the right agent"


def teach(page: Page, name: str) -> None:
    """Thumb down, and another agent picked from the list."""
    page.get_by_role("button", name=TEACH).click()
    page.get_by_label("Which agent is right?").select_option(name)
    page.get_by_role("button", name="Teach").click()
    expect(page.locator(".feedback .said")).to_contain_text("Learnt")


def test_feedback_changes_a_later_decision_and_reload_keeps_it(page: Page, site: Site) -> None:
    open_playground(page, site, UNSURE, ruvltra=True)
    taught = "tester" if agent(page) != "tester" else "documenter"
    for _ in range(3):
        if agent(page) != taught:
            teach(page, taught)
    expect(page.locator(".decision h2.agent")).to_have_text(taught)
    route(page, f"please {UNSURE}")
    assert agent(page) == taught
    page.reload()
    expect(page.locator(".decision h2.agent")).not_to_be_empty()
    route(page, UNSURE)
    assert agent(page) == taught
    view(page, "Learnt")
    expect(page.locator(".facts.wide")).to_contain_text("lesson")
    expect(page.locator(".facts.wide")).to_contain_text("this browser, a private file")
    review = page.get_by_role("region", name="Background work").get_by_role("row", name="review")
    expect(review).to_contain_text("when needed")


def test_a_thumb_up_is_learnt(page: Page, site: Site) -> None:
    open_playground(page, site, UNSURE, ruvltra=True)  # which would be asked again behind our back
    name = agent(page)
    before = page.locator(".ring").get_attribute("aria-valuenow")
    page.get_by_role("button", name=f"Right: {name}").click()
    expect(page.locator(".feedback .said")).to_have_text(f"Learnt: this is for {name}.")
    assert agent(page) == name
    after = page.locator(".ring").get_attribute("aria-valuenow")
    assert before is not None
    assert after is not None
    assert float(after) > float(before)


def test_two_tabs_share_what_is_learnt(context: BrowserContext, page: Page, site: Site) -> None:
    load(page, site, encoder="static", snapshot=False)
    other = context.new_page()
    load(other, site, encoder="static", snapshot=False)
    for _ in range(3):
        ask(page, "feedback", UNSURE, "tester")
    until(other, "async () => (await llm.stats()).feedback === 3")
    assert ask(other, "route", UNSURE)["agent"] == "tester"
    ask(other, "feedback", "polish the copper kettle", "documenter")
    until(page, "async () => (await llm.stats()).feedback === 4")
    third = context.new_page()
    load(third, site, encoder="static", snapshot=False)
    assert ask(third, "stats")["feedback"] == 4
    assert ask(third, "route", "polish the copper kettle")["agent"] == "documenter"


def test_two_tabs_that_teach_at_once_lose_nothing(context: BrowserContext, site: Site) -> None:
    assert taught_at_once(context, site, encoder="static") == 40


def test_two_tabs_that_change_all_kinds_of_things_at_once_lose_nothing(context: BrowserContext, site: Site) -> None:
    one, two = context.new_page(), context.new_page()
    for tab in (one, two):
        load(tab, site, encoder="static", snapshot=False)
    one.evaluate(
        """() => { window.done = Promise.all([
          llm.feedback("polish the kettle", "tester"),
          llm.addAgents([{ name: "florist", description: "Ties bouquets" }]),
          llm.addMemory([{ text: "Staging is emptied on Mondays." }]),
        ]); }"""
    )
    two.evaluate(
        """() => { window.done = Promise.all([
          llm.addMemory([{ text: "Ada owns billing." }]),
          llm.feedback("polish the lamp", "tester"),
          llm.addAgents([{ name: "gardener", description: "Looks after plants" }]),
        ]); }"""
    )
    for tab in (one, two):
        tab.evaluate("() => window.done")
    later = context.new_page()
    load(later, site, encoder="static", snapshot=False)
    for tab in (one, two, later):
        until(tab, "async () => (await llm.stats()).feedback === 2 && (await llm.memories()).length === 2")
        assert {"florist", "gardener"} <= {agent["name"] for agent in ask(tab, "agents")}
    assert ask(later, "reliability")["decisions"] == 2


def test_a_choice_may_be_judged_after_another_tab_has_learnt(context: BrowserContext, page: Page, site: Site) -> None:
    load(page, site, encoder="static", snapshot=False)
    ask(page, "setBackends", [{"name": "small", "cost": 0.0003}, {"name": "large", "cost": 0.009}])
    choices = [ask(page, "select", task)["choice_id"] for task in ("rename this", "name that")]
    assert ask(page, "recordOutcome", choices[0], {"success": True})["answers"] == 1
    other = context.new_page()
    load(other, site, encoder="static", snapshot=False)
    ask(other, "addMemory", [{"text": "Ada owns billing."}])
    until(page, "async () => (await llm.memories()).length === 1")
    assert ask(page, "recordOutcome", choices[1], {"success": True})["answers"] == 2


@pytest.mark.usefixtures("devtools")
def test_what_is_learnt_survives_a_crash_of_the_tab(context: BrowserContext, page: Page, site: Site) -> None:
    load(page, site, encoder="static", snapshot=False)
    for _ in range(3):
        ask(page, "feedback", UNSURE, "tester")
    with page.expect_event("crash"), suppress(Error):  # whoever waits for the page hears of it as an error
        page.goto("chrome://crash")
    fresh = context.new_page()
    load(fresh, site, encoder="static", snapshot=False)
    assert ask(fresh, "stats")["feedback"] == 3
    assert ask(fresh, "route", UNSURE)["agent"] == "tester"


def test_a_damaged_state_is_set_aside_and_told(page: Page, site: Site) -> None:
    page.goto(f"{site.url}blank.html")
    page.evaluate(
        """async () => {
          const root = await navigator.storage.getDirectory();
          const file = await (await root.getFileHandle("ruvllm.sqlite", { create: true })).createWritable();
          await file.write("SQLite format 3\\0 and then nothing that makes sense");
          await file.close();
        }"""
    )
    load(page, site, encoder="static", snapshot=False)
    told = ask(page, "stats")
    assert told["feedback"] == 0
    assert [problem["field"] for problem in told["problems"]] == ["state"]
    names = page.evaluate("async () => Array.fromAsync((await navigator.storage.getDirectory()).keys())")
    assert "ruvllm.broken.sqlite" in names


def test_an_export_opens_elsewhere_and_a_wrong_file_changes_nothing(page: Page, site: Site) -> None:
    load(page, site, encoder="static", snapshot=False)
    for _ in range(3):
        ask(page, "feedback", UNSURE, "tester")
    same = page.evaluate(
        """async () => {
          const bytes = await llm.export();
          await llm.feedback("polish the copper kettle", "documenter");
          await llm.import(bytes);
          return String(await llm.export()) === String(bytes);
        }"""
    )
    assert same
    assert ask(page, "stats")["feedback"] == 3
    error = page.evaluate("() => llm.import(new Uint8Array(100)).catch((error) => error.toJSON())")
    assert error["name"] == "StoreError"
    assert error["fix"]
    assert refused(page, "feedback", UNSURE, "nobody")["field"] == "agent"
    assert ask(page, "route", UNSURE)["agent"] == "tester"
