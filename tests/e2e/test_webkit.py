"""The library in WebKit: as Debian's package has it, whose pages have no private files, and with those that Safari has.

`make setup-browsers` installs the driver; without it, Xvfb or selenium all of this is skipped by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser as browsers
import pytest
from hosting import Site, hosted
from pages import SURE

pytest.importorskip("selenium.webdriver", reason="selenium comes with `make setup-browsers`")
from selenium.webdriver.support.ui import WebDriverWait

LOAD = "const { RuvLLM } = await import(`${location.origin}/ruvllm.js`); window.llm = await RuvLLM.load(given);"
LOADED = """window.troubles = [];
addEventListener("error", (event) => troubles.push(event.message));
addEventListener("unhandledrejection", (event) => troubles.push(String(event.reason)));"""
ELEMENT = '<!doctype html><html lang="en"><title>A shop</title><script type="module" src="/element.js"></script>{}'


class WebKit:
    """One window of the browser.

    Attributes:
        files: whether its pages have private files (OPFS).
    """

    def __init__(self, driver: Any, *, files: bool) -> None:
        self.driver, self.files = driver, files
        self.wait = WebDriverWait(driver, browsers.PATIENCE)

    def open(self, url: str) -> None:
        """Go to a page, and gather what goes wrong there."""
        self.driver.get(url)
        self.driver.execute_script(LOADED)

    def run(self, body: str, given: Any = None) -> Any:
        """What the body of an async function of `given` returns; the test fails with what it throws."""
        script = f"""const [given, done] = arguments;
        (async () => {{ {body} }})().then((value) => done({{ value }}),
          (error) => done({{ error: error.message, fix: error.fix, stack: error.stack }}));"""
        told = self.driver.execute_async_script(script, given)
        assert "error" not in told, told
        return told.get("value")

    def load(self, site: Site, **options: Any) -> None:
        """A blank page of the site with a router on it."""
        self.open(f"{site.url}blank.html")
        self.run(LOAD, {"encoder": "static", "snapshot": False, **options})


@pytest.fixture(scope="module", params=["as installed", "with private files"])
def webkit(request: pytest.FixtureRequest) -> Iterator[WebKit]:
    """A browser that has never been here."""
    files = request.param == "with private files"
    try:
        with browsers.screen() as display, browsers.webkit_window(display, files=files) as window:
            yield WebKit(window, files=files)
    except browsers.BrowserError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def site(dist: Path) -> Iterator[Site]:
    """The built folder at an address of its own for each test, and so with storage of its own."""
    with hosted(dist) as site:
        yield site


def test_it_routes_learns_and_remembers(webkit: WebKit, site: Site) -> None:
    webkit.load(site)
    assert webkit.run("return 'storage' in navigator && 'getDirectory' in navigator.storage") is webkit.files
    assert webkit.run("return (await llm.route(given)).agent", SURE) == "tester"
    webkit.run("await llm.feedback('polish the copper kettle', 'coder')")
    webkit.run("await llm.close()")
    webkit.load(site)
    stats = webkit.run("return llm.stats()")
    assert stats["feedback"] == 1
    assert webkit.run("return (await llm.route('polish the copper kettle')).agent") == "coder"
    assert webkit.run("return troubles") == []
    assert site.violations == []


def test_ruvltra_takes_over(webkit: WebKit, site: Site) -> None:
    webkit.open(f"{site.url}blank.html")
    webkit.run(
        """const { RuvLLM } = await import(`${location.origin}/ruvllm.js`);
        await new Promise(async (resolve) => {
          const onProgress = ({ stage, loaded, total }) => stage === "ruvltra" && loaded === total && resolve();
          window.llm = await RuvLLM.load({ onProgress, state: "memory", snapshot: false });
        });"""
    )
    assert webkit.run("return (await llm.route('water the plants while I am on holiday')).encoder") != "static"


def test_memory_and_an_export_that_opens_elsewhere(webkit: WebKit, site: Site) -> None:
    webkit.load(site)
    webkit.run("await llm.addMemory([{ text: 'Ada owns billing.' }, { text: 'Staging is emptied on Mondays.' }])")
    found = webkit.run("return llm.searchMemory('who owns billing?')")
    assert found[0]["text"] == "Ada owns billing."
    assert "Ada" in webkit.run("return (await llm.query('Who owns billing?')).text")
    count = webkit.run(
        """const bytes = await llm.export();
        await llm.addMemory([{ text: 'Something else.' }]);
        await llm.import(bytes);
        return (await llm.memories()).length;"""
    )
    assert count == 2
    error = webkit.run("return llm.import(new Uint8Array(100)).catch((error) => error.toJSON())")
    assert error["name"] == "StoreError"


def test_the_element(webkit: WebKit, site: Site) -> None:
    site.pages["/shop.html"] = ELEMENT.format("<ruvllm-router></ruvllm-router>")
    webkit.open(f"{site.url}shop.html")
    told = webkit.run(
        """const element = document.querySelector("ruvllm-router");
        await customElements.whenDefined("ruvllm-router");
        const routed = new Promise((resolve) => element.addEventListener("route", resolve));
        element.value = given;
        element.shadowRoot.querySelector("form").requestSubmit();
        const { detail } = await routed;
        return [detail.agent, element.shadowRoot.querySelector("form").parentElement.innerText];""",
        SURE,
    )
    assert told[0] == "tester"
    assert "tester" in told[1]


def test_a_model_in_the_page(webkit: WebKit, dist: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the model is made with gguf")
    from models import beside, tiny_model

    with hosted(beside(dist, tiny_model(tmp_path / "tiny"), tmp_path / "site")) as site:
        webkit.open(f"{site.url}blank.html")
        told = webkit.run(
            """const { LocalModel } = await import(`${location.origin}/ruvllm.js`);
            const model = await LocalModel.load(`${location.origin}/models/tiny/`, { device: "wasm" });
            const options = { maxTokens: 4, temperature: 0 };
            const { text } = await model.chat([{ role: "user", content: "Hello" }], options);
            model.close();
            return text;"""
        )
        assert isinstance(told, str)


def test_the_second_visit_needs_no_network(webkit: WebKit, site: Site) -> None:
    webkit.open(f"{site.url}blank.html")
    webkit.run(
        """const { keepOffline } = await import(`${location.origin}/ruvllm.js`);
        const state = await new Promise((resolve) => {
          keepOffline({ onState: (state) => /ready|failed/.test(state.kind) && resolve(state) });
        });
        if (state.kind === "failed") throw new Error(state.message);"""
    )
    site.down = True
    webkit.open(site.url)
    loading = "return document.querySelector('#loading').textContent.startsWith('Ready')"
    webkit.wait.until(lambda window: window.execute_script(loading))
    assert webkit.run("return troubles") == []
