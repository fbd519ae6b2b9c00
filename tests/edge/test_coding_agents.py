"""Claude Code, Codex and the AI SDK act through the server; each is left out where it is missing (by its variable)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import serving
from llm_server import Server, events, stream
from test_backends import llm_server
from test_tools import chat_chunk, claude_stream

from ruvllm import RuvLLM
from ruvllm.config import Config

CLAUDE = os.environ.get("CLAUDE") or shutil.which("claude")
CODEX = os.environ.get("CODEX") or shutil.which("codex")
AI_SDK = os.environ.get("AI_SDK")  # a folder with node_modules
NOTE = "ruvllm was here\n"


def scripted(kind: str, name: str, given: dict[str, Any]) -> Any:
    """Asks for a tool until it has been called, then says that it is done."""
    server: list[Server] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = server[0].requests[-1].body
        text = json.dumps(body["messages"])
        tools = json.dumps(body.get("tools") or [])
        call = given if f'"{name}"' in tools and "call_1" not in text else None
        await (_openai if kind == "openai" else _claude)(name, call)(reader, writer)

    return server, behave


def _openai(name: str, call: dict[str, Any] | None) -> Any:
    if call is None:
        return stream(events(chat_chunk({"role": "assistant", "content": "Done."}), chat_chunk({}, "stop"), b"[DONE]"))
    function = {"name": name, "arguments": json.dumps(call)}
    delta = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
    return stream(events(chat_chunk({"role": "assistant"}), chat_chunk(delta), chat_chunk({}, "tool_calls"), b"[DONE]"))


def _claude(name: str, call: dict[str, Any] | None) -> Any:
    block: dict[str, Any] = {"type": "text", "text": ""}
    delta = {"type": "text_delta", "text": "Done."}
    if call is not None:
        block = {"type": "tool_use", "id": "call_1", "name": name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(call)}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": [], "stop_reason": None,
               "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1}}  # fmt: skip
    end = {"stop_reason": "end_turn" if call is None else "tool_use", "stop_sequence": None}
    return claude_stream(
        [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": end, "usage": {"output_tokens": 3}},
            {"type": "message_stop"},
        ]
    )


@pytest.mark.skipif(CLAUDE is None, reason="Claude Code is not installed: npm i @anthropic-ai/claude-code, CLAUDE=path")
@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_claude_code_writes_a_file_through_the_server(kind: str, tmp_path: Path):
    note = tmp_path / "work" / "note.txt"
    note.parent.mkdir()
    held, behave = scripted(kind, "Write", {"file_path": str(note), "content": NOTE})
    with llm_server(behave) as server:
        held.append(server)
        tier = {"kind": kind, "url": server.url, "model": "up-1"}
        config = Config.from_dict({"inference": {"tiers": {"small": tier, "large": tier}}})
        with serving(RuvLLM(encoder="static", config=config)) as edge:
            environment = {
                "HOME": str(tmp_path), "PATH": os.environ["PATH"], "ANTHROPIC_BASE_URL": edge.url,
                "ANTHROPIC_API_KEY": "-", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1",
            }  # fmt: skip
            assert CLAUDE is not None
            command = [CLAUDE, "-p", "Write the note", "--allowedTools", "Write", "--permission-mode", "acceptEdits"]
            done = subprocess.run(
                command, cwd=note.parent, env=environment, capture_output=True, text=True, timeout=180
            )
        assert note.exists(), done.stdout + done.stderr
    assert note.read_text() == NOTE
    assert "Done." in done.stdout


PROVIDER = """model_provider = "ruvllm"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.ruvllm]
name = "ruvllm"
base_url = "{}/v1"
wire_api = "responses"
"""
PATCH = f"*** Begin Patch\n*** Add File: note.txt\n+{NOTE}*** End Patch\n"


@pytest.mark.skipif(CODEX is None, reason="Codex is not installed: npm i @openai/codex, CODEX=path")
@pytest.mark.parametrize(
    ("model", "tool", "call"),
    [("auto", "exec_command", {"cmd": f"printf '{NOTE}' > note.txt"}), ("gpt-5.5", "apply_patch", {"input": PATCH})],
    ids=["shell", "patch"],
)
@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_codex_writes_a_file_through_the_server(kind: str, model: str, tool: str, call: dict[str, Any], tmp_path: Path):
    work, home = tmp_path / "work", tmp_path / ".codex"
    work.mkdir()
    home.mkdir()
    held, behave = scripted(kind, tool, call)
    with llm_server(behave) as server:
        held.append(server)
        tier = {"kind": kind, "url": server.url, "model": "up-1"}
        config = Config.from_dict({"inference": {"tiers": {"small": tier, "large": tier}}})
        with serving(RuvLLM(encoder="static", config=config)) as edge:
            (home / "config.toml").write_text(PROVIDER.format(edge.url))
            environment = {"HOME": str(tmp_path), "CODEX_HOME": str(home), "PATH": os.environ["PATH"]}
            assert CODEX is not None
            command = [CODEX, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
            done = subprocess.run(
                [*command, "-m", model, "Write the note"], cwd=work, env=environment, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=180,
            )  # fmt: skip
            turns = [request.body["messages"] for request in server.requests]
    assert (work / "note.txt").exists(), done.stdout + done.stderr
    assert (work / "note.txt").read_text() == NOTE
    assert "Done." in done.stdout
    assert "call_1" in json.dumps(turns[-1])  # what the tool gave came back


PAGE = """
import { streamText, tool, stepCountIs } from 'ai'
import { createOpenAI } from '@ai-sdk/openai'
import { z } from 'zod'
const model = createOpenAI({ baseURL: process.argv[1], apiKey: '-' })('auto')
const inputSchema = z.object({ text: z.string() })
const write = tool({ description: 'writes', inputSchema, execute: async ({ text }) => console.log('wrote', text) })
const answer = streamText({ model, prompt: 'Write the note', tools: { write }, stopWhen: stepCountIs(2) })
console.log(await answer.text, (await answer.steps).length)
"""


@pytest.mark.skipif(
    AI_SDK is None, reason="the AI SDK is not installed: npm i ai @ai-sdk/openai zod, AI_SDK=its folder"
)
@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_the_ai_sdk_calls_its_tool_through_the_server(kind: str):
    """It sends the second request with references to the items of the first answer."""
    held, behave = scripted(kind, "write", {"text": NOTE})
    with llm_server(behave) as server:
        held.append(server)
        config = Config.from_dict({"inference": {"tiers": {"small": {"kind": kind, "url": server.url, "model": "up"}}}})
        with serving(RuvLLM(encoder="static", config=config)) as edge:
            command = ["node", "--input-type=module", "-e", PAGE, f"{edge.url}/v1"]
            done = subprocess.run(command, cwd=AI_SDK, capture_output=True, text=True, timeout=180)
    assert (done.stdout.split("\n"), done.stderr) == ([f"wrote {NOTE}".strip(), "", "Done. 2", ""], "")
