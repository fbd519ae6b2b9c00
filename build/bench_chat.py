"""Times a language model of random weights in Chromium: what a page waits for, and how fast it reads and writes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import browser as browsers
import gguf
import numpy as np
import serve
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright
from webfiles import CACHE, folder_digest

import ruvllm_models.convert
from ruvllm.text.bpe import byte_characters
from ruvllm_models.convert import convert

PATIENCE = 600_000  # ms
PLACE = "/bench-model/"  # under which the server has the model
BLOCK, BLOCK_BYTES = 32, 18  # of Q4_0: a float16 scale, then two numbers to a byte
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
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


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a qwen2 decoder with tied embeddings."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        kv = self.hidden // self.heads * self.kv_heads
        layer = 2 * self.hidden * (self.hidden + kv) + 3 * self.hidden * self.inner
        return self.vocabulary * self.hidden + self.layers * layer


SHAPES = {"60M": Shape(8, 512, 1664, 8, 2, 65_536), "494M": Shape(24, 896, 4864, 14, 2, 151_936)}


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
    key = folder_digest({file.name: file.read_bytes() for file in (Path(__file__), *code.glob("*.py"))})
    folder = CACHE / f"chat-{shape.parameters}-{key[:12]}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            _write(shape, Path(work, "random.gguf"))
            convert(Path(work, "random.gguf"), folder)
    return folder


def _write(shape: Shape, path: Path) -> None:
    rng = np.random.default_rng(0)
    out = gguf.GGUFWriter(path, "qwen2")
    for add, value in (
        (out.add_block_count, shape.layers),
        (out.add_context_length, 4096),
        (out.add_embedding_length, shape.hidden),
        (out.add_feed_forward_length, shape.inner),
        (out.add_head_count, shape.heads),
        (out.add_head_count_kv, shape.kv_heads),
        (out.add_layer_norm_rms_eps, 1e-6),
        (out.add_rope_freq_base, 1e6),
    ):
        add(value)
    _write_words(out, shape.vocabulary)
    kv = shape.hidden // shape.heads * shape.kv_heads

    def norm(name: str, width: int = shape.hidden) -> None:
        out.add_tensor(f"{name}.weight", np.ones(width, np.float32))

    def matrix(name: str, rows: int, columns: int) -> None:
        out.add_tensor(f"{name}.weight", _blocks(rng, rows, columns), raw_dtype=gguf.GGMLQuantizationType.Q4_0)

    matrix("token_embd", shape.vocabulary, shape.hidden)
    norm("output_norm")
    for i in range(shape.layers):
        at = f"blk.{i}"
        norm(f"{at}.attn_norm")
        norm(f"{at}.ffn_norm")
        for name, rows in (("q", shape.hidden), ("k", kv), ("v", kv)):
            matrix(f"{at}.attn_{name}", rows, shape.hidden)
            out.add_tensor(f"{at}.attn_{name}.bias", np.zeros(rows, np.float32))
        matrix(f"{at}.attn_output", shape.hidden, shape.hidden)
        matrix(f"{at}.ffn_gate", shape.inner, shape.hidden)
        matrix(f"{at}.ffn_up", shape.inner, shape.hidden)
        matrix(f"{at}.ffn_down", shape.hidden, shape.inner)
    for step in (out.write_header_to_file, out.write_kv_data_to_file, out.write_tensors_to_file, out.close):
        step()


def _write_words(out: gguf.GGUFWriter, size: int) -> None:
    """Bytes, one pair of them, and nothing in the place of all other words."""
    words = [*byte_characters(), "th"]
    unused = [f"[UNUSED{i}]" for i in range(size - len(words) - len(MARKS))]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list([*words, *MARKS, *unused])
    out.add_token_types([1] * len(words) + [3] * len(MARKS) + [5] * len(unused))
    out.add_token_merges(["t h"])


def _blocks(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    """uint8 (rows, bytes of a row), weights of about 1 / sqrt(columns)."""
    data = rng.integers(0, 256, (rows * columns // BLOCK, BLOCK_BYTES), np.uint8)
    data[:, :2] = np.frombuffer(np.float16(0.2 / columns**0.5).tobytes(), np.uint8)
    return data.reshape(rows, -1)


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
