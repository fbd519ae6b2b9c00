"""Routing does not fill the memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hosting import Site, hosted
from pages import QUICK, ask, load, settled
from playwright.sync_api import BrowserContext, CDPSession, Page

ROUTES = """async ([from, count]) => {
  for (let i = from; i < from + count; i++)
    await llm.route(i % 8 ? `add tests for module number ${i} of the parser` : `water plant number ${i} for me`);
}"""
# JavaScript's heaps of the page and its worker, after a collection; only an isolated page may ask.
HEAPS = "async () => (await performance.measureUserAgentSpecificMemory()).bytes"
# Put before the worker's own code: keeps hold of each WebAssembly memory, which that measure leaves out.
HOLD = """globalThis.memories = [];
const hold = (imports, instance) => {
  for (const { exports } of [instance]) if (exports.memory) memories.push(exports.memory);
  for (const part of Object.values(imports ?? {}))
    for (const value of Object.values(part)) if (value instanceof WebAssembly.Memory) memories.push(value);
};
for (const name of ["instantiate", "instantiateStreaming"]) {
  const plain = WebAssembly[name];
  WebAssembly[name] = async (source, imports) => {
    const made = await plain.call(WebAssembly, source, imports);
    hold(imports, made.instance ?? made);
    return made;
  };
}
"""


def promises(session: CDPSession) -> int:
    """How many the page's own code still holds, after a collection."""
    kind = session.send("Runtime.evaluate", {"expression": "Promise.prototype"})["result"]["objectId"]
    found = session.send("Runtime.queryObjects", {"prototypeObjectId": kind})["objects"]["objectId"]
    count = {"functionDeclaration": "function () { return this.length; }", "objectId": found, "returnByValue": True}
    number: int = session.send("Runtime.callFunctionOn", count)["result"]["value"]
    return number


def test_a_call_leaves_no_promise_behind(
    context: BrowserContext, page: Page, site: Site, devtools: Callable[[BrowserContext, Page], CDPSession]
) -> None:
    load(page, site, **QUICK)
    page.evaluate(ROUTES, [0, 5])
    session = devtools(context, page)
    before = promises(session)
    page.evaluate(ROUTES, [5, 100])
    assert promises(session) <= before + 5


def used(page: Page) -> dict[str, int]:
    """Bytes of both kinds."""
    (worker,) = page.workers
    wasm = worker.evaluate("() => [...new Set(memories)].map((memory) => memory.buffer.byteLength)")
    return {"wasm": sum(wasm), "heaps": page.evaluate(HEAPS)}


def test_a_thousand_routes_grow_memory_by_less_than_a_tenth(page: Page, dist: Path, devtools: object) -> None:
    """Each of them new, one in eight by RuvLTRA as well, after a warm-up."""
    index = json.loads((dist / "ruvllm.json").read_text("utf-8"))
    with hosted(dist, isolated=True) as site:
        site.pages[f"/{index['worker']}"] = HOLD + (dist / index["worker"]).read_text("utf-8")
        load(page, site, state="memory", snapshot=False)
        settled(page)
        page.evaluate(ROUTES, [0, 200])
        before = used(page)
        page.evaluate(ROUTES, [200, 1000])
        after = used(page)
        assert ask(page, "route", "water plant number 8 for me")["encoder"] != "static"
        assert before["wasm"] > 20_000_000
        assert before["heaps"] > 1_000_000
        for kind, bytes_before in before.items():
            assert after[kind] < bytes_before * 1.1, kind


def test_ten_thousand_routes_leave_a_megabyte_at_most(page: Page, dist: Path, devtools: object) -> None:
    """Each of them new, after as many that have filled the cache of vectors; WebAssembly's memory included."""
    routes = 10_000
    with hosted(dist, isolated=True) as site:
        load(page, site, **QUICK)
        page.evaluate(ROUTES, [0, routes])
        before = page.evaluate(HEAPS)
        page.evaluate(ROUTES, [routes, routes])
        grown = page.evaluate(HEAPS) - before
    assert grown <= 1_000_000
