"""The same questions to the three hosts: CPython, Pyodide under Node, and Chromium."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import browser as browsers
import numpy as np
import serve
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

from ruvllm import RuvLLM

__all__ = ["Answers", "chromium", "cpython", "node"]

PATIENCE = 300_000  # ms: a slow machine is no failure
# A JavaScript function for both of its hosts: the agent and the vector of each prompt, as JSON.
_ASK = """async (RuvLLM, options, prompts) => {
  const llm = await RuvLLM.load({ ...options, state: "memory", snapshot: false });
  const agents = [];
  for (const prompt of prompts) agents.push((await llm.route(prompt)).agent);
  const { dim, data } = await llm.embed(prompts);
  await llm.close();
  return JSON.stringify({ agents, dim, data: Array.from(data) });
}"""
_NODE = f"""
import {{ readFileSync }} from "node:fs";
const {{ module, encoder, prompts }} = JSON.parse(readFileSync(0, "utf8"));
const {{ RuvLLM }} = await import(module);
const ask = {_ASK};
try {{
  process.stdout.write(await ask(RuvLLM, {{ encoder }}, prompts));
}} catch (error) {{
  console.error(error.message);
  process.exitCode = 1;
}}
"""
_PAGE = f"""async ({{ encoder, prompts }}) => {{
  const {{ RuvLLM }} = await import("/ruvllm.js");
  const ask = {_ASK};
  return await ask(RuvLLM, {{ encoder }}, prompts);
}}"""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one host said to all prompts."""

    agents: list[str]
    vectors: NDArray[np.float32]  # (prompts, dim), unit rows


def cpython(encoder: str, prompts: Sequence[str]) -> Answers:
    """This process."""
    with RuvLLM(encoder=encoder) as llm:
        return Answers([llm.route(prompt).agent for prompt in prompts], llm.embed(prompts))


def node(dist: Path, encoder: str, prompts: Sequence[str]) -> Answers:
    """The npm package's own client in Node."""
    job = {"module": (dist / "node.js").as_uri(), "encoder": encoder, "prompts": prompts}
    command = ["node", "--input-type=module", "--eval", _NODE]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    return _answers(done.stdout)


def chromium(dist: Path, encoder: str, prompts: Sequence[str]) -> Answers:
    """The package's client and its worker in a page, under the strict policy."""
    server = serve.serve(dist)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browsers.ensure(), args=list(browsers.ARGUMENTS))
            page = browser.new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/ruvllm.json")  # a page without a router of its own
            told = page.evaluate(_PAGE, {"encoder": encoder, "prompts": list(prompts)})
            browser.close()
        return _answers(told)
    finally:
        server.shutdown()
        server.server_close()


def _answers(told: str) -> Answers:
    answer = json.loads(told)
    return Answers(answer["agents"], np.array(answer["data"], np.float32).reshape(-1, answer["dim"]))
