"""Each view of the playground, by keyboard too, on a wide and a narrow screen, in light and dark."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hosting import Site
from pages import SURE, UNSURE, VIEWS, agent, open_playground, route, view
from playwright.sync_api import Browser, Locator, Page, expect

Shot = Callable[[Page, str], None]
TABS = tuple(VIEWS)


def fits(page: Page) -> bool:
    """Nothing sticks out to the side."""
    return page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_a_decision_and_why_in_light_and_dark(page: Page, site: Site, shot: Shot) -> None:
    open_playground(page, site, ruvltra=True)
    card = page.get_by_role("article", name="Decision")
    expect(card.get_by_role("heading", name="tester")).to_be_visible()
    expect(card).to_contain_text("Use it")
    expect(card.get_by_role("list", name="Next best agents").get_by_role("listitem")).to_have_count(4)
    expect(page.locator(".why mark")).not_to_have_count(0)
    expect(page.locator(".timing .legend div")).not_to_have_count(0)
    expect(page.locator("#spoken")).to_contain_text("tester")
    paper = "() => getComputedStyle(document.documentElement).backgroundColor"
    themes = page.get_by_role("button", name="Colours:")
    seen = []
    for name in ("light", "dark"):
        themes.click()
        expect(themes).to_have_accessible_name(f"Colours: {name}. Change.")
        seen.append(page.evaluate(paper))
        shot(page, f"decision-{name}")
    assert seen[0] != seen[1]


def test_a_taught_task_says_that_the_lesson_decided(page: Page, site: Site) -> None:
    open_playground(page, site, UNSURE)
    page.get_by_role("button", name=f"Right: {agent(page)}").click()
    expect(page.locator(".why")).to_contain_text(
        f"A lesson decided: you taught that this, or a task that means the same, is for {agent(page)}"
    )
    expect(page.locator(".why .nearest .text").first).to_have_text(UNSURE)
    expect(page.locator(".decision .facts")).to_contain_text("Decided by a lesson", use_inner_text=True)
    route(page, SURE)
    expect(page.locator(".why")).to_contain_text("Marked: words that tester is known by.")


def test_a_text_from_right_to_left_and_an_endless_one(page: Page, site: Site, shot: Shot) -> None:
    open_playground(page, site)
    route(page, "أضف اختبارات لوحدة المصادقة auth")
    direction = "(node) => getComputedStyle(node).direction"
    for place in ("#taskbox #task", ".decision .from p", ".why .quote"):
        assert page.locator(place).evaluate(direction) == "rtl", place
    assert page.locator(".decision h2.agent").evaluate(direction) == "ltr"
    shot(page, "right-to-left")
    page.get_by_role("textbox", name="Task").fill("add tests " + "x" * 15_000)
    page.keyboard.press("Enter")
    expect(page.locator(".decision .from p")).to_contain_text("…")
    for name in VIEWS["Route"][:3]:
        panel = view(page, name)
        expect(panel).to_contain_text("x…")
        assert len(panel.inner_text()) < 5_000, name
        assert fits(page), name


def test_the_views(page: Page, site: Site, shot: Shot) -> None:
    open_playground(page, site, "write the code, then test it, then document it", ruvltra=True)
    team = view(page, "Team")
    expect(team.locator("summary")).to_contain_text("wants 3 agents")
    stations = team.locator("ol.line > li")
    expect(stations).to_have_count(3)
    expect(stations.nth(1).get_by_role("heading")).to_have_text("tester")
    shot(page, "team")
    agents = view(page, "Agents")
    expect(agents.get_by_role("status").filter(has_text="agents")).to_contain_text(" of ")
    agents.get_by_label("Search").fill("raft")
    expect(agents.locator(".agents > li")).not_to_have_count(0)
    agents.locator(".agents summary").first.click()
    expect(agents.locator(".inside").first).to_contain_text("raft", ignore_case=True)
    shot(page, "agents")
    view(page, "Map")
    expect(page.locator(".mapcard .nearest li")).to_have_count(5)
    expect(page.locator(".mapcard")).to_contain_text("Each dot is an agent")
    assert page.locator("canvas.map").evaluate(
        "(canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte)"
    )
    shot(page, "map")
    view(page, "Benchmark")
    page.get_by_label("Routes").select_option("200")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    rows = page.locator("table.numbers tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("200")
    shot(page, "benchmark")
    assert fits(page)


def test_tabs_by_keyboard(page: Page, site: Site) -> None:
    open_playground(page, site)
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Route").focus()
    for name in (*TABS[1:], TABS[0]):
        page.keyboard.press("ArrowRight")
        tab = page.get_by_role("tab", name=name, exact=True)
        expect(tab).to_be_focused()
        expect(tab).to_have_attribute("aria-selected", "true")
        expect(page.get_by_role("tabpanel")).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
    page.keyboard.press("/")
    expect(page.get_by_role("textbox", name="Task")).to_be_focused()
    page.keyboard.type("review my pull request")
    expect(page.locator(".decision .from p")).to_have_text("review my pull request")
    page.keyboard.press("Escape")
    expect(page.get_by_role("textbox", name="Task")).not_to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone(browser: Browser, site: Site, shot: Shot, tap: Callable[[Locator], None], scheme: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
    try:
        page = context.new_page()
        open_playground(page, site, SURE)
        for tab in page.get_by_role("tab").all():  # all of them by thumb
            box = tab.bounding_box()
            assert box is not None
            assert (box["height"] >= 44, box["y"] > 600, box["x"] + box["width"] <= 360) == (True, True, True), box
        for name in TABS:
            tap(page.get_by_role("tab", name=name, exact=True))
            expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
            assert fits(page), name
        view(page, "Decision")
        shot(page, f"telephone-{scheme}")
    finally:
        context.close()


def test_questions_of_ones_own_are_answered_and_taught_at_once(page: Page, site: Site, shot: Shot) -> None:
    open_playground(page, site)
    route(page, "the invoices of March have to go to the accountant")
    panel = view(page, "Questions")
    asks = panel.locator("form.questions")
    asks.get_by_label("A choice: answers").fill(
        "kitchen: meals and dishes\noffice: letters, invoices, accounts\ngarden: plants"
    )
    asks.get_by_role("button", name="Answer").click()
    rows = panel.locator(".possible li")
    expect(rows).to_have_count(3 + 2 + 4)
    first = panel.locator(".possible").first.locator("li")
    expect(first.filter(has_text="kitchen")).to_be_visible()
    before = first.filter(has_text="garden").locator(".number").inner_text()
    shot(page, "questions")
    panel.get_by_role("button", name="garden is right").click()  # as nobody would have thought
    expect(panel.get_by_text("Learnt: garden.")).to_be_visible()
    now = first.filter(has_text="garden").locator(".number")
    expect(now).not_to_have_text(before)
    assert int("".join(filter(str.isdigit, now.inner_text()))) > 50


def test_old_links_open_their_views_and_what_no_agent_fits_says_so(page: Page, site: Site) -> None:
    page.goto(f"{site.url}#decision/what should I cook tonight?")
    card = page.get_by_role("article", name="Decision")
    expect(card.locator(".nobody")).to_contain_text("no agent fits")
    expect(card).to_contain_text("Escalate")
    for old, name in (("learnt", "Learnt"), ("chat", "Chat"), ("map", "Map"), ("team/write it, then test it", "Team")):
        page.evaluate("(hash) => { location.hash = hash; }", old)
        expect(page.locator(f"#view-{name.lower()} > :last-child")).to_be_visible()
    expect(page.locator("#view-team .quote")).to_have_text("write it, then test it")


def test_half_a_minute_teaches_one_task_and_the_next_goes_there(page: Page, site: Site) -> None:
    open_playground(page, site)
    tour = page.get_by_role("region", name="Tour")
    twice = "(button) => { button.click(); document.querySelector('.taskform').requestSubmit(); }"
    tour.get_by_role("button", name="Show me").evaluate(twice)  # as when RuvLTRA comes, and the task is routed again
    expect(tour).to_contain_text("Who should take such tasks?")
    choice = tour.get_by_role("button").first
    name = choice.inner_text()
    choice.click()
    tour.get_by_role("button", name="Route the next one").click()
    expect(tour).to_contain_text(f"It went to {name}")
    tour.get_by_role("button", name="Undo the lesson").click()
    expect(tour).to_have_count(0)
    expect(view(page, "Learnt").locator(".facts.wide")).to_contain_text("0 lessons")
    page.reload()
    expect(page.locator("#loading")).to_contain_text("Ready")
    expect(tour).to_have_count(0)


def test_the_page_can_be_typed_in_before_much_has_come(page: Page, site: Site) -> None:
    with site.holding("worker-", ".wasm", ".zip"):
        page.goto(site.url)
        page.get_by_role("textbox", name="Task").fill("rename this variable")
        scripts = [sent for sent in site.sent if sent.path.partition("?")[0].endswith(".js")]
        assert 0 < sum(sent.bytes for sent in scripts) <= 120_000, scripts
