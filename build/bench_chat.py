"""Times a language model of random weights in Chromium: what a page waits for, and how fast it reads and writes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import browser as browsers
import serve
from playwright.sync_api import sync_playwright
from webfiles import CACHE, folder_digest

import ruvllm_models.convert
from ruvllm_models.bench import random_model
from ruvllm_models.bench.random_model import SHAPES, Shape, write_random
from ruvllm_models.convert import convert

PATIENCE = 600_000  # ms
PLACE = "/bench-model/"  # under which the server has the model
_PAGE = """async ({ model, question, tokens }) => {
  const { LocalModel } = await import("/ruvllm.js");
  const began = performance.now();
  const llm = await LocalModel.load(new URL(model, location.href), { device: "wasm" });
  const load = performance.now() - began;
  const ask = () => llm.chat([{ role: "user", content: question }], { maxTokens: tokens, temperature: 0, stop: [] });
  const answer = await ask();
  const { threads, bytes, kept } = llm.info;
  llm.close();
  const again = performance.now();
  const second = await LocalModel.load(new URL(model, location.href), { device: "wasm" });
  const reload = performance.now() - again;
  second.close();
  return { load, reload, threads, bytes, kept, ...answer };
}"""


def bench(dist: Path, names: list[str], tokens: int) -> list[dict[str, Any]]:
    """Each shape without threads and, where there are processors for it, with them."""
    rows = []
    for name in names:
        folder = model_of(SHAPES[name])
        for isolated in (False, True):
            told = _measured(dist, folder, tokens, isolated)
            rows.append({"shape": name, "parameters": SHAPES[name].parameters, **told})
            print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """For a terminal."""
    usage = row["usage"]
    return (
        f"{row['shape']:>5} ({row['parameters'] / 1e6:.0f} M parameters, {row['bytes'] / 1e6:.0f} MB), "
        f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}: {row['tokens_per_second']:.1f} tokens/s, "
        f"first token after {row['first_token_ms'] / 1000:.2f} s for {usage['prompt_tokens']} tokens of prompt, "
        f"loaded in {row['load'] / 1000:.1f} s, from the browser's own files in {row['reload'] / 1000:.1f} s"
    )


def model_of(shape: Shape) -> Path:
    """A converted model of random weights in 4 bits, kept for the next time."""
    code = Path(ruvllm_models.convert.__file__).parent
    key = folder_digest({file.name: file.read_bytes() for file in (Path(random_model.__file__), *code.glob("*.py"))})
    folder = CACHE / f"chat-{shape.parameters}-{key[:12]}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            write_random(shape, Path(work, "random.gguf"))
            convert(Path(work, "random.gguf"), folder)
    return folder


class _Handler(serve.Handler):
    """Has a model beside the page."""

    def __init__(self, *args: object, model: str, **kwargs: object) -> None:
        self.model = model
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        """A file's own place."""
        if path.startswith(PLACE):
            return str(Path(self.model, Path(path).name))
        return super().translate_path(path)


@contextmanager
def _serving(dist: Path, model: Path, isolated: bool) -> Iterator[str]:
    server = serve.serve(dist, isolated=isolated)
    keywords = server.RequestHandlerClass.keywords  # type: ignore[attr-defined]
    server.RequestHandlerClass = partial(_Handler, **keywords, model=str(model))  # type: ignore[assignment]
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def _measured(dist: Path, model: Path, tokens: int, isolated: bool) -> dict[str, Any]:
    profile = tempfile.mkdtemp()
    try:
        with _serving(dist, model, isolated) as url, sync_playwright() as playwright:
            launch = playwright.chromium.launch_persistent_context
            context = launch(profile, executable_path=browsers.ensure(), args=list(browsers.ARGUMENTS))
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(url + "ruvllm.json")  # a page of this origin, with its headers, that does nothing by itself
            job = {"model": PLACE, "question": "0123456789" * 23, "tokens": tokens}
            told: dict[str, Any] = json.loads(
                page.evaluate(f"async (job) => JSON.stringify(await ({_PAGE})(job))", job)
            )
            context.close()
        return told
    finally:
        shutil.rmtree(profile, ignore_errors=True)
