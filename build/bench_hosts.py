"""Times the built folder where it runs: in Node, and in a browser's page with a profile of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

import browser as browsers
import serve
from packaging.version import Version
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import sync_playwright

PATIENCE = 300_000  # ms
Evaluate = Callable[[str, str, object], Any]
FIRST = "add unit tests for the auth module"
# Milliseconds from the first import of the library, for both hosts: a first route, and RuvLTRA being there.
_START = """async (load, options) => {
  const began = performance.now();
  let told;
  const later = new Promise((done) => (told = done));
  const onProgress = ({ stage, loaded, total }) => {
    if (stage === "ruvltra" && loaded === total) told(performance.now() - began);
  };
  const llm = await load({ ...options, onProgress });
  await llm.route(FIRST);
  const route = performance.now() - began;
  const ruvltra = options.encoder === "static" ? null : await later;
  const { started_from } = await llm.stats();
  return { llm, route, ruvltra, from: started_from };
}""".replace("FIRST", json.dumps(FIRST))
# A page's clock ticks in tenths of a millisecond: each figure is the mean of a few routes of different texts.
_ROUTES = """async (llm, seconds) => {
  const asked = (await llm.agents()).flatMap((agent) => agent.examples ?? []);
  const [few, inside, whole] = [20, [], []];
  let [number, warm] = [0, 5];
  const end = performance.now() + 1000 * seconds;
  while (whole.length < 5 || performance.now() < end) {
    let sum = 0;
    const began = performance.now();
    for (let i = 0; i < few; i++, number++) {
      const decision = await llm.route(`${asked[number % asked.length]} #${number}`);
      if (decision.cached) throw new Error("a text was asked twice");
      sum += decision.timings_us.total;
    }
    if (warm-- > 0) continue;
    inside.push(sum / 1000 / few);
    whole.push((performance.now() - began) / few);
  }
  const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
  return { inside: middle(inside), whole: middle(whole) };
}"""
# Milliseconds from handing over 200 agents of eight examples each to a decision among them.
_MANY = """async (llm) => {
  const [rooms, works] = ["kitchen garden garage office harbour theatre hospital library school bakery",
    "cleans repairs plans paints counts orders inspects teaches moves maps " +
    "sells measures guards heats cools lights rents films books audits"]
    .map((words) => words.split(" "));
  const ends = ["today", "soon", "with care", "again", "for guests", "by hand", "in silence", "before noon"];
  const made = (room, work) => {
    const description = `${work} the ${room}`;
    return { name: `${room}-${work}`, description, examples: ends.map((end) => `${description} ${end}`) };
  };
  const began = performance.now();
  await llm.addAgents(rooms.flatMap((room) => works.map((work) => made(room, work))));
  await llm.route("who repairs our harbour?");
  return performance.now() - began;
}"""
_NODE = f"""
import {{ readFileSync }} from "node:fs";
const {{ module, encoder, seconds }} = JSON.parse(readFileSync(0, "utf8"));
const [start, routes, many] = [{_START}, {_ROUTES}, {_MANY}];
const load = async (options) => (await import(module)).RuvLLM.load(options);
try {{
  const {{ llm, ...times }} = await start(load, {{ encoder }});
  const told = {{ ...times, ...(seconds ? {{ ...(await routes(llm, seconds)), many: await many(llm) }} : {{}}) }};
  await llm.close();
  console.log(JSON.stringify(told));
}} catch (error) {{
  console.error(error.message);
  process.exitCode = 1;
}}
"""
_PAGE = f"""async ({{ options, seconds }}) => {{
  const [start, routes, many] = [{_START}, {_ROUTES}, {_MANY}];
  const load = async (options) => (await import("/ruvllm.js")).RuvLLM.load(options);
  const {{ llm, ...times }} = await start(load, options);
  const told = {{ ...times, ...(seconds ? {{ ...(await routes(llm, seconds)), many: await many(llm) }} : {{}}) }};
  await llm.close();
  return told;
}}"""
_BARE = """async () => {
  const base = new URL("/", location.href);
  const { pyodide, lock } = await (await fetch(new URL("ruvllm.json", base))).json();
  const began = performance.now();
  const { loadPyodide } = await import(new URL(`${pyodide}pyodide.mjs`, base));
  await loadPyodide({ indexURL: new URL(pyodide, base).href, lockFileURL: new URL(lock, base).href });
  return performance.now() - began;
}"""
_KEEP = """async () => {
  await (await import("/ruvllm.js")).RuvLLM.load({ encoder: "static" });
  const kept = async () => {
    for (const name of await caches.keys())
      for (const { url } of await (await caches.open(name)).keys()) if (url.includes("memory-snapshot")) return true;
    return false;
  };
  while (!(await kept())) await new Promise((done) => setTimeout(done, 100));
}"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Bytes that a page asked for."""

    raw: int
    brotli: int


class _Recorder(serve.Handler):
    """Keeps the names of the files it sends."""

    def __init__(self, *args: object, sent: list[str], **kwargs: object) -> None:
        self.sent = sent
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def send_head(self) -> BytesIO | BinaryIO | None:
        self.sent.append(self.translate_path(self.path))
        return super().send_head()


def in_node(dist: Path, encoder: str, seconds: float) -> dict[str, Any]:
    """A fresh process: route, ruvltra, from; with `seconds` also inside and whole."""
    job = {"module": (dist / "node.js").as_uri(), "encoder": encoder, "seconds": seconds}
    command = ["node", "--input-type=module", "--eval", _NODE]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Node: {done.stderr[-1000:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


class Page:
    """Pages of one origin in one browser profile.

    Args:
        evaluate: what a JavaScript function gives for an argument, in a page of its own of an address.
        sent: names of the files that were asked for.
    """

    def __init__(self, evaluate: Evaluate, url: str, sent: list[str]) -> None:
        self._evaluate = partial(evaluate, url + "blank")  # not found, and so a page that loads nothing
        self._sent = sent

    def visit(self, seconds: float = 0, **options: Any) -> dict[str, Any]:
        """A page of its own, closed afterwards: route, ruvltra, from; with `seconds` also inside and whole."""
        told: dict[str, Any] = self._evaluate(_PAGE, {"options": options, "seconds": seconds})
        return told

    def bare(self) -> float:
        """Milliseconds that Pyodide takes to start with nothing of ours."""
        return float(self._evaluate(_BARE, None))

    def keep_snapshot(self) -> None:
        """A visit that lasts until the snapshot for the next one is kept."""
        self._evaluate(_KEEP, None)

    def first_bytes(self) -> Loaded:
        """What one visit asks for up to its first static route."""
        before = len(self._sent)
        self.visit(encoder="static", snapshot=False, state="memory")
        files = [Path(name) for name in dict.fromkeys(self._sent[before:])]
        packed = [Path(f"{file}.br") for file in files]
        raw = sum(file.stat().st_size for file in files if file.is_file())
        brotli = [form if form.is_file() else file for file, form in zip(files, packed, strict=True)]
        return Loaded(raw, sum(file.stat().st_size for file in brotli if file.is_file()))


@contextmanager
def fresh_profile(dist: Path, name: str = "chromium") -> Iterator[Page]:
    """A browser as on its first day, and the folder on a local port. Raises BrowserError: there is no such browser."""
    sent: list[str] = []
    server = serve.serve(dist)
    keywords = server.RequestHandlerClass.keywords  # type: ignore[attr-defined]
    server.RequestHandlerClass = partial(_Recorder, **keywords, sent=sent)  # type: ignore[assignment]
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with _webkit() if name == "webkit" else _playwright(name) as evaluate:
            yield Page(evaluate, f"http://127.0.0.1:{server.server_address[1]}/", sent)
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _playwright(name: str) -> Iterator[Evaluate]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, sync_playwright() as playwright:
        if name == "firefox":
            if not (firefox := browsers.firefox()):
                raise browsers.BrowserError(browsers.NO_FIREFOX)
            if Version(version("playwright")) >= Version("1.65"):
                raise browsers.BrowserError("this Playwright fails with Firefox: run `make setup-browsers`")
            channel = {} if "ms-playwright" in firefox.parts else {"channel": "moz-firefox"}
            launch = partial(playwright.firefox.launch_persistent_context, executable_path=firefox, **channel)
        else:
            arguments = list(browsers.ARGUMENTS)
            launch = partial(
                playwright.chromium.launch_persistent_context, executable_path=browsers.ensure(), args=arguments
            )
        try:
            context = launch(profile, timeout=PATIENCE)
        except PlaywrightError as error:  # of an older browser than its driver takes
            raise browsers.BrowserError(f"{name} does not start: {error.message.splitlines()[0]}") from None

        def evaluate(url: str, script: str, argument: object) -> Any:
            page = context.new_page()
            try:
                page.set_default_timeout(PATIENCE)
                page.goto(url)
                return page.evaluate(script, argument)
            finally:
                page.close()

        yield evaluate
        context.close()


@contextmanager
def _webkit() -> Iterator[Evaluate]:
    if not find_spec("selenium"):
        raise browsers.BrowserError("selenium comes with `make setup-browsers`")
    with browsers.screen() as display, browsers.webkit_window(display) as window:

        def evaluate(url: str, script: str, argument: object) -> Any:
            window.get(url)
            body = f"""const [given, done] = arguments;
            ({script})(given).then((value) => done({{ value }}), (error) => done({{ error: error.message }}));"""
            found = window.execute_async_script(body, argument)
            if "error" in found:
                raise SystemExit(f"WebKit: {found['error'][:1000]}")
            return found.get("value")

        yield evaluate
