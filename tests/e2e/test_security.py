"""The strict policy holds, nothing leaves the origin, and what people bring is text, never HTML."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosting import Site, hosted
from pages import QUICK, SURE, UNSURE, VIEWS, ask, load, open_playground, route, settled, view
from playwright.sync_api import BrowserContext, Page, expect

MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>'
ALL = [name for views in VIEWS.values() for name in views]
QUIET = [name for name in ALL if name != "Benchmark"]


def untouched(page: Page) -> None:
    """Nothing of the markup has become a node or has run."""
    assert page.evaluate("() => window.hacked") is None
    assert (
        page.evaluate(
            """() => {
          const trees = [document];
          for (const tree of trees)
            for (const element of tree.querySelectorAll("*")) if (element.shadowRoot) trees.push(element.shadowRoot);
          return trees.flatMap((tree) => [...tree.querySelectorAll("img, script:not([src]), iframe")]).length;
        }"""
        )
        == 0
    )


def test_nothing_breaks_the_policy_and_nothing_leaves_the_origin(
    context: BrowserContext, page: Page, site: Site, problems: list[str]
) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    open_playground(page, site, UNSURE, ruvltra=True)
    for name in ALL:
        view(page, name)
    assert problems == []
    assert site.violations == []
    assert {url for url in asked if not url.startswith((site.url, f"blob:{site.url}"))} == set()
    assert len(asked) > 15


def test_the_policy_is_in_force(page: Page, site: Site, problems: list[str]) -> None:
    """So that the test above can fail: an inline script is stopped, and told of."""
    site.pages["/inline.html"] = "<!doctype html><script>window.hacked = 1</script>"
    with page.expect_event("console") as told:
        page.goto(f"{site.url}inline.html")
    assert "Content Security Policy" in told.value.text or "blocked an inline script" in told.value.text
    assert page.evaluate("() => window.hacked") is None
    assert problems


def test_prompts_are_text(page: Page, site: Site, problems: list[str]) -> None:
    open_playground(page, site)
    route(page, f"{MARKUP} {SURE}")
    expect(page.locator(".why .quote")).to_contain_text("<script>")
    for name in QUIET:
        view(page, name)
    page.locator("ruvllm-router textarea").fill(f"{MARKUP} fix it")
    expect(page.locator("ruvllm-router").get_by_role("group", name="Decision")).to_contain_text("Tier")
    page.goto(f"{site.url}#team/{MARKUP} and {SURE}")
    expect(page.locator("#view-team .quote")).to_contain_text("<img")
    untouched(page)
    assert problems == []


def test_agent_files_are_text(page: Page, site: Site, tmp_path: Path, problems: list[str]) -> None:
    """Name, description, keywords and file name; shown on every tab, and thrown out again as a problem."""
    text = f"---\nname: zebra-{MARKUP}\ndescription: 'Grooms zebras. {MARKUP}'\n---\nGroom zebras {MARKUP}\n"
    bad = {"name": "<img src=x onerror=alert(1)>.md", "mimeType": "text/markdown", "buffer": b"no front matter"}
    good = {"name": "zebra.md", "mimeType": "text/markdown", "buffer": text.encode()}
    rows = f'{{"agents": [{{"name": "yak", "description": "Grooms yaks {MARKUP.replace(chr(34), chr(39))}"}}]}}'
    plain = {"name": "yak.json", "mimeType": "application/json", "buffer": rows.encode()}
    open_playground(page, site)
    view(page, "Agents")
    page.get_by_label("Agent files", exact=True).set_input_files([bad, good, plain])
    expect(page.locator(".report")).to_contain_text("to route among")
    expect(page.locator(".report .problems")).to_contain_text("<img src=x")
    page.get_by_label("Search").fill("yaks")
    row = page.locator(".agents li").filter(has_text="yak")
    row.locator("summary").click()
    expect(row.locator(".inside")).to_contain_text("<img")
    view(page, "Decision")
    route(page, "groom the yaks and zebras")
    for name in QUIET:
        view(page, name)
    untouched(page)
    assert problems == []


@pytest.mark.parametrize("isolated", [False, True], ids=["plain", "cross-origin isolated"])
def test_the_library_alone_under_the_policy(page: Page, dist: Path, problems: list[str], isolated: bool) -> None:
    """With RuvLTRA; isolated, onnxruntime may use threads."""
    with hosted(dist, isolated=isolated) as site:
        load(page, site, state="memory", snapshot=False)
        settled(page)
        assert page.evaluate("() => crossOriginIsolated") is isolated
        assert ask(page, "route", UNSURE)["timings_us"]["encode_ruvltra"] > 0
        assert problems == []
        assert site.violations == []


def test_a_damaged_folder_is_told_by_file(page: Page, site: Site, dist: Path) -> None:
    """Every file is checked against the index before it is used."""
    name = next(file.name for file in (dist / "models").glob("static-*.npz"))
    site.pages[f"/models/{name}"] = "not the table"
    page.goto(f"{site.url}blank.html")
    error = page.evaluate(
        """async ([base, options]) => {
          const { RuvLLM } = await import(`${base}ruvllm.js`);
          return RuvLLM.load(options).then(() => null, (error) => error.toJSON());
        }""",
        [site.url, QUICK],
    )
    assert error["name"] == "ArtifactError"
    assert name in error["message"]
    assert "make web" in error["fix"]
