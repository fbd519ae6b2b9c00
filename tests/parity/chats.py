"""The same conversation with the same model on the three hosts."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from threading import Thread
from typing import Any

import browser as browsers
import serve
from int8_files import with_int8_files
from playwright.sync_api import sync_playwright

from ruvllm.inference.backend import Message, Params
from ruvllm.inference.causal_lm import CausalLM
from ruvllm.inference.local import OnnxSession, open_local
from ruvllm.inference.local_model import read_model

PATIENCE = 300_000  # ms: a slow machine is no failure
QUESTIONS = ("When does the ferry leave?", "And is there a later one, before the lamps are lit?")
GREEDY: dict[str, Any] = {"max_tokens": 40, "temperature": 0.0, "repeat_penalty": 1.0}
DRAWN: dict[str, Any] = {"max_tokens": 40, "temperature": 0.8, "top_k": 30, "top_p": 0.95, "min_p": 0.02, "seed": 11}
_NAMES = {
    "max_tokens": "maxTokens",
    "repeat_penalty": "repeatPenalty",
    "top_k": "topK",
    "top_p": "topP",
    "min_p": "minP",
}
# For both hosts of JavaScript: one conversation for each set of options, every answer part of the next question.
_TALK = """async (LocalModel, model, questions, wanted) => {
  const llm = await LocalModel.load(model, { device: "wasm" });
  const told = [];
  for (const options of wanted) {
    const messages = [];
    for (const content of questions) {
      messages.push({ role: "user", content });
      const { text, usage } = await llm.chat(messages, options);
      messages.push({ role: "assistant", content: text });
      told.push([text, usage.prompt_tokens, usage.completion_tokens]);
    }
  }
  await llm.close();
  return JSON.stringify(told);
}"""
_NODE = f"""
import {{ readFileSync }} from "node:fs";
const {{ module, model, questions, wanted }} = JSON.parse(readFileSync(0, "utf8"));
try {{
  process.stdout.write(await ({_TALK})((await import(module)).LocalModel, model, questions, wanted));
}} catch (error) {{
  console.error(error.message);
  process.exitCode = 1;
}}
"""
_PAGE = f"""async ({{ model, questions, wanted }}) => {{
  const {{ LocalModel }} = await import("/ruvllm.js");
  return ({_TALK})(LocalModel, new URL(model, location.href), questions, wanted);
}}"""

Told = list[list[Any]]  # of each answer its text, and the tokens read and written


def cpython(folder: Path, wanted: list[dict[str, Any]], work: Path) -> Told:
    """This process, on the graph that a page runs."""
    if not (folder / "model_web.onnx").exists():
        return asyncio.run(_talk(open_local(folder, threads=1), wanted))
    ready = with_int8_files(folder, work)
    texts = {name: (ready / name).read_text("utf-8") for name in ("ruvllm-model.json", "tokenizer.json")}
    template = ready / "chat_template.jinja"
    manifest, tokenizer = map(json.loads, texts.values())
    model = read_model(folder.name, manifest, tokenizer, template.read_text("utf-8") if template.exists() else "")
    return asyncio.run(_talk(CausalLM(model, OnnxSession(ready / "model_web.onnx", 1)), wanted))


async def _talk(llm: CausalLM, wanted: list[dict[str, Any]]) -> Told:
    told: Told = []
    for options in wanted:
        messages: list[Message] = []
        for question in QUESTIONS:
            messages.append(Message("user", question))
            answer = await llm.generate(messages, Params(**options))
            messages.append(Message("assistant", answer.text))
            told.append([answer.text, answer.usage.prompt_tokens, answer.usage.completion_tokens])
    return told


def _job(wanted: list[dict[str, Any]]) -> dict[str, Any]:
    renamed = [{_NAMES.get(name, name): value for name, value in options.items()} for options in wanted]
    return {"questions": QUESTIONS, "wanted": renamed}


def node(dist: Path, folder: Path, wanted: list[dict[str, Any]]) -> Told:
    """The npm package in Node."""
    job = {"module": (dist / "node.js").as_uri(), "model": str(folder), **_job(wanted)}
    command = ["node", "--input-type=module", "--eval", _NODE]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    told: Told = json.loads(done.stdout)
    return told


def chromium(dist: Path, folder: Path, wanted: list[dict[str, Any]], work: Path) -> Told:
    """The library and its worker in a page, under the strict policy."""
    shutil.copytree(dist, work, copy_function=os.link)
    shutil.copytree(folder, work / "model")
    server = serve.serve(work)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browsers.ensure(), args=list(browsers.ARGUMENTS))
            page = browser.new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/ruvllm.json")  # a page that does nothing by itself
            told: Told = json.loads(page.evaluate(_PAGE, {"model": "/model/", **_job(wanted)}))
            browser.close()
        return told
    finally:
        server.shutdown()
        server.server_close()
