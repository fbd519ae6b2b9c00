"""The views that are fetched when they are opened: parts of a query, memory, costs, and what feedback taught."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from hosting import Site
from pages import (
    QUICK,
    SURE,
    UNSURE,
    VIEWS,
    agent,
    ask,
    fill_number,
    load,
    open_playground,
    refused,
    route,
    until,
    view,
)
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from ruvllm import RuvLLM
from ruvllm_edge import Settings
from ruvllm_edge.serve import bound, make_server

Shot = Callable[[Page, str], None]
ROOT = Path(__file__).parents[2]
PARTS = "when is the staging database reset and when is production backed up?"
QUESTION = "when does staging lose its data?"
BACKENDS = [
    {"name": "small", "cost": 0.0002, "latency": 300, "quality": 0.7},
    {"name": "large", "cost": 0.01, "latency": 2000, "quality": 0.95},
]
# The lowest contrast of a visible text with the nearest ground behind it, and that text; WCAG 2.2, 1.4.3.
CONTRAST = """(panel) => {
  const light = (c) => c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  const value = (c) => { const [r, g, b] = light(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const c = numbers(getComputedStyle(at).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  let worst = [99, ""];
  const walker = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest(".spoken")) continue;
    const style = getComputedStyle(node);
    const ink = numbers(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [value(ink), value(ground(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) worst = [ratio, walker.currentNode.data.trim().slice(0, 60)];
  }
  return worst;
}"""


def tile(panel: Locator, name: str) -> Locator:
    """The number under a name."""
    return panel.locator(".tiles > div").filter(has_text=name).locator("dd")


def remember_samples(page: Page) -> Locator:
    """The memory view with its sample notes, and an answer made of them."""
    panel = view(page, "Memory")
    panel.get_by_role("button", name="sample notes").click()
    expect(panel.get_by_role("article", name="Answer")).to_be_visible()
    expect(panel.locator(".notecard")).to_be_visible()
    return panel


def practise(page: Page) -> Locator:
    """The costs view after a round of practice."""
    panel = view(page, "Costs")
    panel.get_by_role("button", name="Practise").click()
    expect(panel.get_by_role("status")).to_have_text("300 prompts practised.")
    return panel


def test_a_query_in_parts(page: Page, site: Site, shot: Shot) -> None:
    open_playground(page, site, "first measure the checkout, then fix the slowest query, then write the release notes")
    panel = view(page, "Parts")
    boxes = panel.get_by_role("article")
    expect(boxes).to_have_count(3)
    expect(boxes.nth(2)).to_contain_text("needs part 2")
    expect(boxes.nth(2)).to_contain_text("write the release notes")
    expect(panel).to_contain_text("1 can begin at once")
    expect(panel.locator(".arrows path.needed")).to_have_count(2)
    shot(page, "parts")
    page.get_by_role("textbox", name="Task").fill("what are the causes AND solutions for slow API responses?")
    page.keyboard.press("Enter")
    expect(boxes).to_have_count(2)
    expect(boxes.first).to_contain_text("causes of slow API responses")
    expect(panel.locator(".arrows path.given")).to_have_count(2)
    page.get_by_role("textbox", name="Task").fill("research and development budget")
    page.keyboard.press("Enter")
    expect(panel).to_contain_text("best answered whole")
    expect(boxes).to_have_count(1)


def test_the_parts_of_a_query_are_answered_from_what_the_page_remembers(page: Page, site: Site) -> None:
    open_playground(page, site)
    remember_samples(page)
    panel = view(page, "Parts")
    page.get_by_role("textbox", name="Task").fill(PARTS)
    page.keyboard.press("Enter")
    panel.get_by_role("button", name="Answer its parts").click()
    expect(panel.locator(".findings li")).to_have_count(2)
    expect(panel).to_contain_text("of 2 parts answered from what is remembered")


def test_a_page_of_a_ruvllm_server_has_the_parts_answered_there(page: Page, dist: Path) -> None:
    llm = RuvLLM(encoder="static")
    llm.memory.add("The staging database is reset every Friday.")
    sock = bound("127.0.0.1", 0)
    server = make_server(llm, Settings(web=dist, log_level="error"))
    thread = Thread(target=lambda: asyncio.run(server.serve([sock])))
    thread.start()
    try:
        page.goto(f"http://127.0.0.1:{sock.getsockname()[1]}/")
        route(page, PARTS)
        panel = view(page, "Parts")
        panel.get_by_role("button", name="Answer its parts").click()
        expect(panel.locator(".together")).to_contain_text("Friday")
    finally:
        server.should_exit = True
        thread.join()


def test_notes_are_found_answered_linked_kept_and_forgotten(page: Page, site: Site, shot: Shot) -> None:
    open_playground(page, site)
    panel = remember_samples(page)
    answer = panel.get_by_role("article", name="Answer")
    expect(answer).to_contain_text("emptied every Monday")
    expect(answer.locator(".sources li").first).to_contain_text("[1]")
    expect(panel.locator(".hits li").first).to_contain_text("staging")
    expect(tile(panel, "Notes")).to_have_text("7")
    expect(tile(panel, "Edges")).to_have_text("6")
    expect(tile(panel, "Kept as")).to_contain_text("float32 × 256")
    nodes = panel.locator(".web .node")
    assert nodes.count() >= 5
    expect(panel.locator(".web .edge")).not_to_have_count(0)
    shot(page, "memory")
    answer.get_by_role("button", name="Helpful", exact=True).click()
    expect(answer.get_by_role("status")).to_contain_text("now count more")
    panel.get_by_label("Kind of edge").select_option("Cites")
    panel.get_by_label("Note to link to").select_option(index=0)
    panel.get_by_role("button", name="Link", exact=True).click()
    expect(tile(panel, "Edges")).to_have_text("7")
    expect(panel.locator(".notecard .edges")).to_contain_text("cites")
    page.reload()
    expect(tile(panel, "Notes")).to_have_text("7")
    panel.get_by_label("Look for, or ask").fill(QUESTION)
    panel.get_by_role("button", name="Search", exact=True).click()
    expect(panel.locator(".hits li").first).to_contain_text("staging")
    panel.get_by_role("button", name="Forget this note").click()
    expect(tile(panel, "Notes")).to_have_text("6")
    panel.get_by_role("button", name="Search", exact=True).click()
    expect(panel.locator(".hits li").first).not_to_contain_text("staging")


def test_a_backend_is_chosen_within_limits_and_learns(page: Page, site: Site) -> None:
    open_playground(page, site)
    panel = view(page, "Costs")
    names = panel.get_by_label("Name")
    expect(names).to_have_count(2)
    names.first.fill("tiny")
    fill_number(panel.get_by_label("Price, $ per 1,000 answers").first, "0.5")
    fill_number(panel.get_by_label("Budget"), "")
    panel.get_by_role("button", name="Use these").click()
    expect(panel.get_by_role("status")).to_contain_text("Choosing among 2 backends")
    panel.get_by_label("Prompt", exact=True).fill("rename this variable")
    page.keyboard.press("Enter")
    choice = panel.get_by_role("article", name="Chosen backend")
    expect(choice.get_by_role("heading")).to_have_text("tiny")
    choice.get_by_role("button", name="Bad answer").click()
    expect(tile(panel, "Answers")).to_have_text("1")
    expect(tile(panel, "Good")).to_have_text(re.compile(r"^0.%$"))
    expect(tile(panel, "Spent")).to_have_text("$0.0005")
    panel.get_by_text("Limits that no choice may break").click()
    fill_number(panel.get_by_label("Most dollars"), "0.1")
    panel.get_by_role("button", name="Choose a backend").click()
    expect(panel.get_by_role("status")).to_contain_text("no backend matches: the nearest, 'tiny', costs")
    fill_number(panel.get_by_label("Most dollars"), "")
    fill_number(panel.get_by_label("Least quality"), "93")
    panel.get_by_role("button", name="Choose a backend").click()
    expect(choice.get_by_role("heading")).to_have_text("large")
    names.first.fill("large")
    panel.get_by_role("button", name="Use these").click()
    expect(panel.get_by_role("status")).to_contain_text("each name once")


def test_practice_spends_less_and_parts_hard_prompts_from_easy_ones(page: Page, site: Site, shot: Shot) -> None:
    open_playground(page, site)
    panel = practise(page)
    expect(tile(panel, "Answers")).to_have_text("300")
    saved = int(re.sub(r"\D", "", tile(panel, "Saved").inner_text()))
    assert 30 <= saved <= 75
    plots = panel.locator(".plots figure")
    expect(plots).to_have_count(4)
    curves = panel.locator(".plots path.curve")
    expect(curves).to_have_count(6)
    for curve in curves.all():
        assert len(curve.get_attribute("d") or "") > 100
    parted = plots.nth(3).locator(".readout").inner_text()
    hard, easy = (int(part) for part in re.findall(r"(\d+).%", parted))
    assert hard > easy, parted
    shot(page, "costs")
    picture = plots.first.get_by_role("img")
    picture.focus()
    before = plots.first.locator(".readout").inner_text()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    expect(plots.first.locator(".readout")).not_to_have_text(before)
    expect(plots.first.get_by_role("img")).to_be_focused()
    page.keyboard.press("End")
    expect(plots.first.locator(".readout")).to_have_text(before)
    page.wait_for_timeout(2_500)  # outcomes are kept when no more have come for a moment
    page.reload()
    expect(tile(panel, "Answers")).to_have_text("300")


def test_a_lesson_is_listed_and_taken_back(page: Page, site: Site, shot: Shot) -> None:
    open_playground(page, site, ruvltra=True)  # or the answer to come back to may be the table's
    route(page, UNSURE)
    before = agent(page)
    taught = "tester" if before != "tester" else "documenter"
    page.get_by_role("button", name="Wrong: pick the right agent").click()
    page.get_by_label("Which agent is right?").select_option(taught)
    page.get_by_role("button", name="Teach").click()
    expect(page.locator(".decision h2.agent")).to_have_text(taught)
    expect(page.locator(".why")).to_contain_text("A lesson decided")
    route(page, SURE)
    page.get_by_role("button", name="Right: tester").click()
    expect(page.locator(".feedback .said")).to_contain_text("Learnt")
    panel = page.get_by_role("tabpanel", name="Learn")
    view(page, "Learnt")
    lessons = panel.locator(".lessons li")
    expect(lessons).to_have_count(2)
    expect(panel).to_contain_text("2 decisions, 1 right")
    expect(panel.locator(".square circle.dot")).to_have_count(2)
    shot(page, "learnt")
    panel.get_by_role("button", name=f"Undo: {UNSURE}").click()
    expect(lessons).to_have_count(1)
    expect(panel.get_by_role("status").filter(has_text="Taken back")).to_be_visible()
    view(page, "Decision")
    route(page, UNSURE)
    # Of agents that are all but equal any may lead now.
    expect(page.locator(".why")).not_to_contain_text("A lesson decided")


def test_rated_answers_become_patterns(page: Page, site: Site) -> None:
    open_playground(page, site)
    answer = remember_samples(page).get_by_role("article", name="Answer")
    answer.get_by_role("button", name="Helpful", exact=True).click()
    expect(answer.get_by_role("status")).to_contain_text("patterns will know")
    panel = view(page, "Lessons")
    expect(panel).to_contain_text("None yet")
    panel.get_by_role("button", name="Distil now").click()
    expect(panel.get_by_role("region", name="Patterns").locator("tbody tr")).to_have_count(1)


def test_views_by_keyboard(page: Page, site: Site) -> None:
    open_playground(page, site)
    panel = remember_samples(page)
    last = panel.locator(".web .node").last
    note = last.get_attribute("data-id")
    last.focus()
    page.keyboard.press("Enter")
    expect(panel.get_by_role("article", name=f"Note {note}", exact=True)).to_be_visible()
    expect(panel.locator(".web .node.chosen")).to_be_focused()
    expect(page.locator("#desk")).not_to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("textbox", name="Task")).to_be_focused()
    expect(page.get_by_role("tab", name="Route")).to_have_attribute("aria-selected", "true")


def test_nothing_of_a_view_is_fetched_before_it_is_opened(browser: Browser, site: Site) -> None:
    context = browser.new_context(service_workers="block")  # which would fetch all of it for use without a network
    try:
        page = context.new_page()
        open_playground(page, site)
        later = re.compile(r"/(parts|memory|costs|taught|workbench)-")
        assert not [sent.path for sent in site.sent if later.search(sent.path)]
        view(page, "Memory")
        assert [sent.path for sent in site.sent if later.search(sent.path)]
    finally:
        context.close()


AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_and_can_be_used_by_anybody(
    browser: Browser, site: Site, shot: Shot, scheme: str, width: int
) -> None:
    """By axe's rules; and from right to left. A picture of each tab with all its views is kept for a person."""
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        open_playground(page, site, "compare SQLite and PostgreSQL, then plan the move")
        page.get_by_role("button", name="Not now").click()
        remember_samples(page)
        practise(page)
        wrong = list[object]()
        for tab, views in VIEWS.items():
            for name in views:
                view(page, name)
            panel = page.get_by_role("tabpanel")
            expect(panel.get_by_text("Opening…")).to_have_count(0)
            expect(panel.get_by_text("cards, ")).to_have_count(0)  # the map's, which are being read
            assert panel.evaluate(CONTRAST)[0] >= 4.5, (tab, panel.evaluate(CONTRAST))
            page.evaluate(AXE.read_text("utf-8"))
            found = page.evaluate("async () => (await axe.run()).violations")
            wrong += [(tab, one["id"], node["target"]) for one in found for node in one["nodes"]]
            shot(page, f"{tab.lower()}-{scheme}-{width}")
            for direction in ("rtl", "ltr"):
                page.evaluate("(dir) => { document.documentElement.dir = dir; }", direction)
                assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), (tab, direction)
        assert not wrong
    finally:
        context.close()


def test_what_is_printed_is_the_answer(page: Page, site: Site, devtools: object) -> None:
    open_playground(page, site)
    page.emulate_media(media="print", color_scheme="dark")
    ink = "() => getComputedStyle(document.querySelector('.decision')).color"
    assert page.evaluate(ink) == "rgb(21, 32, 42)"  # on paper, which is white
    expect(page.get_by_role("article", name="Decision")).to_be_visible()
    for gone in ("#nav", "#taskbox .taskbox", ".foot", "#view-team"):
        expect(page.locator(gone)).to_be_hidden()


def test_files_dropped_anywhere_are_agents_or_what_was_learnt(page: Page, site: Site) -> None:
    open_playground(page, site)
    drop = """([name, text]) => {
      const data = new DataTransfer();
      data.items.add(new File([text], name));
      for (const type of ["dragover", "drop"]) {
        const event = new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true });
        document.querySelector("h1").dispatchEvent(event);
      }
    }"""
    page.evaluate(drop, ["florist.md", "---\nname: florist\ndescription: Ties bouquets\n---\nTie.\n"])
    expect(page.locator("#view-agents .report")).to_contain_text("1 new agent from 1 file")
    page.evaluate(drop, ["learnt.sqlite", "no state"])
    expect(page.get_by_role("tabpanel", name="Learn")).to_contain_text(
        "Replace everything learnt here by learnt.sqlite"
    )
    page.get_by_role("button", name="Keep what is here").click()


def test_another_tab_and_an_export_know_the_notes_and_the_backends(
    context: BrowserContext, page: Page, site: Site
) -> None:
    load(page, site, encoder="static", snapshot=False)
    other = context.new_page()
    load(other, site, encoder="static", snapshot=False)
    ids = ask(
        page, "addMemory", [{"text": "Staging is emptied on Mondays."}, {"text": "Ada owns billing."}], {"chain": True}
    )
    until(other, "async () => (await llm.memories()).length === 2")
    assert ask(other, "searchMemory", "who is responsible for billing?", {"k": 1})[0]["id"] == ids[1]
    graph = ask(other, "memoryGraph", [ids[0]])
    assert graph["edges"] == [{"source": ids[1], "target": ids[0], "kind": "Follows", "weight": 1}]
    ask(page, "setBackends", BACKENDS)
    choice = ask(page, "select", "rename this variable")
    stats = ask(page, "recordOutcome", choice["choice_id"], {"success": True})
    assert (stats["answers"], stats["spent"]) == (1, BACKENDS[0]["cost"])
    assert refused(page, "recordOutcome", choice["choice_id"], {"success": True})["field"] == "choice_id"
    assert refused(page, "select", "rename", {"max_cost": 0.0001})["field"] == "requirements"
    again = page.evaluate(
        """async () => {
          const bytes = await llm.export();
          await llm.forgetMemory((await llm.memories()).map((one) => one.id));
          await llm.import(bytes);
          return [(await llm.memories()).length, (await llm.backendStats()).answers];
        }"""
    )
    assert again == [2, 1]


def test_what_cannot_be_asked_is_refused(page: Page, site: Site) -> None:
    load(page, site, **QUICK)
    assert refused(page, "backendStats")["field"] == "backends"
    assert refused(page, "setBackends", BACKENDS[:1])["field"] == "backends"
    assert refused(page, "setBackends", BACKENDS, {"budget": 0.00001})["field"] == "budget"
    assert refused(page, "decompose", " ")["field"] == "query"
    assert refused(page, "addMemory", [{"text": " "}])["field"] == "text"
    assert refused(page, "linkMemory", 1, 2, "Cites")["field"] == "ids"
    assert refused(page, "ask", "no_such_call")["field"] == "method"
    assert ask(page, "undoFeedback", 99) is False
