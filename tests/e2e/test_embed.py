"""<ruvllm-router> in a page of another origin, which knows nothing of ruvllm but its address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hosting import Site, hosted
from pages import SURE, UNSURE
from playwright.sync_api import BrowserContext, Locator, Page, expect

# What the embedding page has to allow: the other origin's files, and the worker that imports from there.
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self' 'wasm-unsafe-eval' {cdn}; "
    "connect-src {cdn}; worker-src blob: {cdn}"
)
HTML = """<!doctype html><html lang="en"><title>A shop</title>
<script type="module" src="{cdn}element.js"></script>
<h1>Shop</h1><button>Before</button>
<ruvllm-router {attributes}></ruvllm-router>
<button>After</button>"""
LISTEN = """() => {
  window.heard = [];
  for (const type of ["route", "feedback", "problem"])
    document.addEventListener(type, ({ detail }) => window.heard.push([type, detail.agent ?? detail.message]));
}"""


@pytest.fixture
def cdn(dist: Path) -> Iterator[Site]:
    """The built folder for pages of any origin."""
    with hosted(dist, any_origin=True) as site:
        yield site


@pytest.fixture
def shop(cdn: Site, tmp_path: Path) -> Iterator[Site]:
    """Another origin, with a policy of its own."""
    with hosted(tmp_path, policy=POLICY.format(cdn=cdn.url)) as site:
        yield site


def element(page: Page, shop: Site, cdn: Site, attributes: str = "") -> Locator:
    """The element on the shop's page."""
    shop.pages["/shop.html"] = HTML.format(cdn=cdn.url, attributes=attributes)
    page.goto(f"{shop.url}shop.html")
    page.evaluate(LISTEN)
    return page.locator("ruvllm-router")


def test_it_routes_and_learns(context: BrowserContext, page: Page, shop: Site, cdn: Site, problems: list[str]) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    router = element(page, shop, cdn)
    router.get_by_role("textbox").fill(SURE)
    router.get_by_role("button", name="Route").click()
    decision = router.get_by_role("group", name="Decision")
    expect(decision).to_contain_text("tester")
    expect(decision).to_contain_text("Use it")
    router.get_by_role("button", name="Right: tester").click()
    expect(router.get_by_role("group", name="Was this right?")).to_contain_text("Learnt")
    assert page.evaluate("() => window.heard") == [["route", "tester"], ["feedback", "tester"]]
    assert problems == []
    assert shop.violations == []
    assert {url for url in asked if not url.startswith((shop.url, cdn.url, "blob:"))} == set()


def test_by_keyboard_alone(page: Page, shop: Site, cdn: Site) -> None:
    router = element(page, shop, cdn)
    page.get_by_role("button", name="Before").focus()
    page.keyboard.press("Tab")
    page.keyboard.type(UNSURE)
    page.keyboard.press("Enter")
    wrong = router.get_by_role("button", name="Wrong: pick the right agent")
    expect(wrong).to_be_visible()
    for role in ("Route", "Right:", "Wrong:"):
        page.keyboard.press("Tab")
        expect(router.get_by_role("button", name=role)).to_be_focused()
    page.keyboard.press("Enter")
    expect(wrong).to_have_attribute("aria-expanded", "true")
    choice = router.get_by_label("Which agent is right?")
    expect(choice).to_be_focused()
    page.keyboard.press("Escape")
    expect(choice).to_be_hidden()
    expect(wrong).to_be_focused()
    page.keyboard.press("Enter")
    expect(choice).to_be_focused()
    expect(choice.locator("option")).to_have_count(82)
    page.keyboard.press("End")
    picked = choice.input_value()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(router.get_by_role("group", name="Was this right?")).to_contain_text(
        f"Learnt: tasks like this go to {picked}."
    )
    expect(wrong).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="After")).to_be_focused()


def test_roles_and_names(page: Page, shop: Site, cdn: Site) -> None:
    """What a screen reader is told."""
    router = element(page, shop, cdn, 'label="Who does it?"')
    expect(router.get_by_role("textbox", name="Who does it?")).to_have_accessible_description("")
    router.get_by_role("textbox").fill(SURE)
    router.get_by_role("textbox").press("Enter")
    decision = router.get_by_role("group", name="Decision")
    expect(decision.get_by_role("meter", name="Confidence", exact=True)).to_have_attribute(
        "aria-valuetext", "> 99\u202f%"
    )
    expect(decision.get_by_role("list", name="Next best agents").get_by_role("listitem")).to_have_count(3)
    expect(decision.locator("[aria-live=polite]")).to_contain_text("tester")
    expect(decision.get_by_role("button", name="Right: tester")).to_have_attribute("aria-pressed", "false")


def test_agents_of_the_embedding_page(page: Page, shop: Site, cdn: Site) -> None:
    """By an attribute: a file of the shop's own; by a property: plain objects."""
    shop.pages["/agents.json"] = (
        '[{"name": "till", "description": "Takes payments"}, {"name": "van", "description": "Delivers"}]'
    )
    with hosted(shop.folder, policy="") as plain:
        plain.pages |= shop.pages
        router = element(page, plain, cdn, 'agents="/agents.json" live')
        router.get_by_role("textbox").press_sequentially("deliver this parcel")
        expect(router.get_by_role("group", name="Decision")).to_contain_text("van")
        router.evaluate("(router) => { router.agents = [{ name: 'clerk', description: 'Answers letters' }]; }")
        router.get_by_role("textbox").fill("answer this letter")
        expect(router.get_by_role("group", name="Decision")).to_contain_text("clerk")


def test_while_a_route_takes_long_only_the_last_text_typed_waits(page: Page, shop: Site, cdn: Site) -> None:
    router = element(page, shop, cdn)
    asked = router.evaluate(
        """async (element) => {
          const asked = [];
          let go, begin;
          const begun = new Promise((resolve) => (begin = resolve));
          const gate = new Promise((resolve) => (go = resolve));
          const route = async (text) => {
            asked.push(text);
            begin();
            await gate;
            return { agent: text, confidence: 0.5, tier: 2, action: "escalate", out_of_scope: 0, alternatives: [] };
          };
          element.router = { route, close: async () => undefined };
          const first = element.route("f");
          await begun;
          const others = ["fi", "fix", "fix i", "fix it"].map((text) => element.route(text));
          go();
          return [(await Promise.all([first, ...others])).map((one) => one?.agent ?? null), asked];
        }"""
    )
    assert asked == [[None, None, None, None, "fix it"], ["f", "fix it"]]
    expect(router.get_by_role("group", name="Decision")).to_contain_text("fix it")


def test_a_folder_that_is_not_there_is_told(page: Page, shop: Site, cdn: Site) -> None:
    router = element(page, shop, cdn, f'base-url="{cdn.url}nowhere/"')
    router.get_by_role("textbox").fill(SURE)
    router.get_by_role("textbox").press("Enter")
    expect(router.get_by_role("group", name="Decision")).to_contain_text("nowhere/ruvllm.json cannot be reached; check")
    assert {kind for kind, _ in page.evaluate("() => window.heard")} == {"problem"}
