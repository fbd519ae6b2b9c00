"""The worker dies: the next question starts another one, with what was kept and what was added."""

from __future__ import annotations

import pytest
from hosting import Site
from pages import SURE, UNSURE, ask, load, refused
from playwright.sync_api import Page, Worker

AGENTS = [
    {"name": "tester", "description": "Writes tests", "examples": ["add unit tests", "test the login"]},
    {"name": "gardener", "description": "Looks after plants", "examples": ["water the roses", "mow the lawn"]},
]
OPTIONS = {"encoder": "static", "snapshot": False, "agents": AGENTS}
DEATHS = {
    "it ends itself": "() => { self.close(); }",
    "an error nobody caught": "() => { setTimeout(() => { throw new Error('from the test'); }); }",
}


def worker(page: Page) -> Worker:
    """The only one."""
    (one,) = page.workers
    return one


def test_a_worker_that_the_browser_ends_is_replaced(page: Page, site: Site) -> None:
    page.add_init_script(
        "window.Worker = class extends Worker { constructor(...args) { super(...args); window.last = this; } };"
    )
    load(page, site, **OPTIONS)
    ask(page, "feedback", UNSURE, "tester")
    page.evaluate("() => window.last.terminate()")
    assert ask(page, "route", UNSURE)["agent"] == "tester"
    assert ask(page, "stats")["feedback"] == 1


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
def test_a_dead_worker_is_replaced(page: Page, site: Site, death: str) -> None:
    load(page, site, **OPTIONS)
    ask(page, "addAgents", [{"name": "florist", "description": "Ties bouquets and wreaths"}])
    for _ in range(3):
        ask(page, "feedback", UNSURE, "tester")
    first = worker(page)
    with page.expect_event("worker") as started, first.expect_event("close"):
        first.evaluate(death)
        page.evaluate("() => { window.answer = llm.route('water the plants while I am on holiday'); }")
    assert page.evaluate("() => window.answer")["agent"] == "tester"
    assert worker(page) == started.value != first
    assert ask(page, "stats")["feedback"] == 3
    assert "florist" in [agent["name"] for agent in ask(page, "agents")]
    assert ask(page, "route", SURE)["agent"] == "tester"


@pytest.mark.usefixtures("inside")
def test_what_changes_something_is_not_repeated_by_itself(page: Page, site: Site) -> None:
    """Feedback that was on its way when the worker died may have been kept or not: the caller is told."""
    load(page, site, **OPTIONS)
    first = worker(page)
    first.evaluate(
        """() => {
          const stop = (event) => { event.stopImmediatePropagation(); self.close(); };
          self.addEventListener("message", stop, { capture: true, once: true });
        }"""
    )
    error = refused(page, "feedback", UNSURE, "tester")
    assert error["name"] == "WorkerError"
    assert "starts anew" in error["fix"]
    assert ask(page, "route", SURE)["agent"] == "tester"
    assert ask(page, "stats")["feedback"] in (0, 1)


@pytest.mark.usefixtures("inside")
def test_many_questions_on_the_way_are_all_answered(page: Page, site: Site) -> None:
    load(page, site, **OPTIONS)
    first = worker(page)
    page.evaluate(
        """() => { window.answers = Promise.all(Array.from({ length: 50 }, (_, i) => llm.route(`add tests ${i}`))); }"""
    )
    first.evaluate(DEATHS["it ends itself"])
    answers = page.evaluate("() => window.answers")
    assert [answer["agent"] for answer in answers] == ["tester"] * 50


def test_a_closed_router_stays_closed(page: Page, site: Site) -> None:
    load(page, site, **OPTIONS)
    with worker(page).expect_event("close"):
        ask(page, "close")
    assert refused(page, "route", SURE)["name"] == "ClosedError"
    assert page.workers == []
