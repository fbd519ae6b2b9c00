"""The built guide: strict, without a remote request, under the server's policy, and answering a stranger's questions.

`make docs-test` builds it and runs these.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pages import ROOT, Shell

GUIDE = ROOT / "web" / "guide"
pytestmark = pytest.mark.skipif(not (GUIDE / "index.html").is_file(), reason="the guide is not built: make docs")


class Fetched(HTMLParser):
    """What a page loads by itself, what it links to, its ids, and code in it that a strict policy would stop."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads, self.links, self.ids, self.inline = list[str](), list[str](), set[str](), list[str]()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        self.inline += [tag] if tag == "style" or (tag == "script" and not given.keys() & {"src", "type"}) else []
        if tag in ("img", "script", "source", "iframe") and "src" in given:
            self.loads.append(given["src"])
        elif tag == "link" and given.get("rel") not in ("prev", "next"):
            self.loads.append(given["href"])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site() -> dict[Path, Fetched]:
    return {page: Fetched(page) for page in GUIDE.rglob("*.html")}


def test_no_link_is_dead_and_nothing_is_loaded_from_elsewhere(site: dict[Path, Fetched]) -> None:
    dead, remote = [], []
    for page, found in site.items():
        if page.name == "404.html":
            continue
        remote += [f"{page}: {one}" for one in found.loads if re.match(r"(https?:)?//", one)]
        for link in found.links + found.loads:
            if re.match(r"[a-z]+:|//", link):
                continue
            place, _, anchor = link.partition("#")
            target = (page.parent / place).resolve() if place else page
            target = target / "index.html" if target.is_dir() else target
            known = site[target].ids if target in site else set()
            if not target.is_file() or (anchor and anchor not in known and not anchor.startswith("__")):
                dead.append(f"{page.relative_to(GUIDE)}: {link}")
    assert remote == []
    assert dead == []
    styles = [
        one
        for path in GUIDE.rglob("*.css")
        for one in re.findall(r"(?:url\(|@import )['\"]?(https?:)?//", path.read_text())
    ]
    assert styles == []


def test_scripts_and_styles_are_files(site: dict[Path, Fetched]) -> None:
    assert {str(page): found.inline for page, found in site.items() if found.inline} == {}


def test_programs_find_all_pages() -> None:
    places = re.findall(r"\]\(([\w/-]*)\)", (GUIDE / "llms.txt").read_text("utf-8"))
    assert len(places) > 30
    assert [place for place in places if not (GUIDE / place / "index.html").is_file()] == []
    assert len((GUIDE / "llms-full.txt").read_text("utf-8")) > 50_000


@pytest.mark.skipif(not shutil.which("node"), reason="the site's search is JavaScript: it needs Node")
def test_a_strangers_questions_are_answered_by_the_first_pages_that_the_search_finds() -> None:
    """One is not: words in quotes are a phrase for the search, and "no" is none of its words."""
    lines = (Path(__file__).parent / "questions.txt").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    command = ["node", str(Path(__file__).with_name("search.mjs")), str(GUIDE)]
    asked = json.dumps([question for question, _ in rows])
    hits = json.loads(subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout)
    pages = [[group[0].partition("#")[0].strip("/") for group in groups] for groups in hits]
    missed = [
        question for (question, right), found in zip(rows, pages, strict=True) if not {*found[:5]} & {*right.split()}
    ]
    assert len(rows) == 61
    assert missed == ['How do I fix "no such option" in the configuration?']


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    shell = Shell(tmp_path)
    (tmp_path / "site" / "page").mkdir(parents=True)
    (tmp_path / "site" / "page" / "index.html").write_text("<!doctype html><title>page</title>")
    shutil.copytree(GUIDE, tmp_path / "site" / "guide")
    shell.run("ruvllm serve --encoder static --web site/page --port 3000 &")
    yield f"http://127.0.0.1:{shell.port}"
    shell.close()


def test_the_server_has_it_and_a_browser_asks_nobody_else(served: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    sys.path.insert(0, str(ROOT / "build"))
    import browser as browsers

    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=browsers.ensure(), args=list(browsers.ARGUMENTS))
        page = browser.new_page()
        requests, problems = list[str](), list[str]()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{served}/guide")
        assert page.url == f"{served}/guide/"
        page.get_by_placeholder("Search").fill("delete a memory for good")
        page.locator(".md-search-result__link").first.click()
        page.wait_for_url("**/how-to/memory/**")
        page.goto(f"{served}/guide/reference/configuration/")
        page.get_by_text("RUVLLM_MEMORY_RECALL").first.wait_for()
        browser.close()
    assert [url for url in requests if not url.startswith((served, "data:"))] == []
    assert problems == []
