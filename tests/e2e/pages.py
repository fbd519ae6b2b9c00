"""What the tests do on a page: the library by its client, and the playground by its roles."""

from __future__ import annotations

import time
from typing import Any

from hosting import Site
from playwright.sync_api import BrowserContext, Locator, Page, expect

QUICK = {"encoder": "static", "state": "memory", "snapshot": False}
UNSURE = "water the plants while I am on holiday"
SURE = "add unit tests for the auth module"
VIEWS = {
    "Route": ("Decision", "Team", "Parts", "Questions"),
    "Remember": ("Memory",),
    "Learn": ("Lessons", "Learnt", "Costs"),
    "Build": ("Agents", "Map", "Embed", "Chat", "Benchmark"),
}
_IDS = {"Lessons": "taught"}

_LOAD = """async ([base, options]) => {
  const { RuvLLM } = await import(`${base}ruvllm.js`);
  window.progress = [];
  window.settled = new Promise((resolve) => {
    options.onProgress = (step) => {
      window.progress.push(step);
      if (step.stage === "ruvltra" && step.loaded === step.total) resolve();
    };
  });
  window.llm = await RuvLLM.load(options);
}"""


def load(page: Page, site: Site, **options: Any) -> None:
    """Open a blank page of the site and a router on it."""
    page.goto(f"{site.url}blank.html")
    page.evaluate(_LOAD, [site.url, options])


def ask(page: Page, method: str, *args: Any) -> Any:
    """What a method of the router answers."""
    return page.evaluate("([method, args]) => window.llm[method](...args)", [method, list(args)])


def refused(page: Page, method: str, *args: Any) -> dict[str, str]:
    """The error of a method that must fail."""
    told = page.evaluate(
        """async ([method, args]) => {
          try { await window.llm[method](...args); } catch (error) { return error.toJSON(); }
        }""",
        [method, list(args)],
    )
    assert told is not None, f"{method} did not fail"
    return told


_TEACH = """([number, count]) => {
  const teach = (_, i) => llm.feedback(`polish the kettle ${i} of ${number}`, "tester");
  window.taught = Promise.all(Array.from({ length: count }, teach));
}"""


def taught_at_once(context: BrowserContext, site: Site, each: int = 20, **options: Any) -> int:
    """How many lessons a later visit knows, after two tabs were given so many each at the same time."""
    tabs = [context.new_page(), context.new_page()]
    for tab in tabs:
        load(tab, site, **options, snapshot=False)
    for number, tab in enumerate(tabs):
        tab.evaluate(_TEACH, [number, each])
    for tab in tabs:
        tab.evaluate("() => window.taught")
    for tab in tabs:
        until(tab, f"async () => (await llm.stats()).feedback === {2 * each}")
    load(tabs[0], site, **options, snapshot=False)
    return len(ask(tabs[0], "feedbackList")["feedback"])


def settled(page: Page) -> None:
    """RuvLTRA has taken over."""
    page.evaluate("() => window.settled")


def until(page: Page, script: str, patience: float = 120) -> Any:
    """The first answer of a script that is true; for what tells nobody when it happens."""
    deadline = time.monotonic() + patience
    while not (answer := page.evaluate(script)):
        assert time.monotonic() < deadline, f"never: {script}"
        page.wait_for_timeout(50)
    return answer


def snapshot_kept(page: Page) -> None:
    """This page has kept Python's memory for the next visit."""
    until(page, "async () => (await (await caches.open('ruvllm-snapshot')).keys()).length > 0")


def open_playground(page: Page, site: Site, task: str = SURE, *, ruvltra: bool = False) -> None:
    """The page with a task in its address, once it shows the decision."""
    page.goto(f"{site.url}#decision/{task}")
    expect(page.get_by_role("article", name="Decision").get_by_role("heading")).to_be_visible()
    if ruvltra:
        expect(page.locator("#loading")).to_have_text("Ready, with RuvLTRA")


def view(page: Page, name: str) -> Locator:
    """A view, with its tab shown and itself unfolded."""
    tab = next(tab for tab, views in VIEWS.items() if name in views)
    page.get_by_role("tab", name=tab, exact=True).click()
    found = page.locator(f"#view-{_IDS.get(name, name.lower())}")
    expect(found).to_be_visible()
    if found.evaluate("(view) => view.open === false"):
        found.locator("> summary").click()
    return found


def route(page: Page, task: str) -> None:
    """Type a task and press Enter; returns when its decision is shown."""
    page.get_by_role("textbox", name="Task").fill(task)
    page.keyboard.press("Enter")
    expect(page.locator(".decision .from p")).to_have_text(task)
    expect(page.locator(".decision")).to_have_attribute("aria-busy", "false")


def fill_number(field: Locator, text: str) -> None:
    """As `fill`, which in Firefox adds to the number that is there."""
    field.press("ControlOrMeta+a")
    field.press("Delete")
    field.press_sequentially(text)


def agent(page: Page) -> str:
    """The agent of the decision that is shown."""
    return page.locator(".decision h2.agent").inner_text()
