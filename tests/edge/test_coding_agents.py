"""Claude Code itself, headless, acts through the server; left out where it is not installed (CLAUDE=path of it)."""

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
NOTE = "ruvllm was here\n"


def scripted(kind: str, path: Path) -> Any:
    """Asks for the tool Write until it has been called, then says that it is done."""
    server: list[Server] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = server[0].requests[-1].body
        text = json.dumps(body["messages"])
        tools = json.dumps(body.get("tools") or [])
        call = {"file_path": str(path), "content": NOTE} if '"Write"' in tools and "call_1" not in text else None
        await (_openai if kind == "openai" else _claude)(call)(reader, writer)

    return server, behave


def _openai(call: dict[str, Any] | None) -> Any:
    if call is None:
        return stream(events(chat_chunk({"role": "assistant", "content": "Done."}), chat_chunk({}, "stop"), b"[DONE]"))
    function = {"name": "Write", "arguments": json.dumps(call)}
    delta = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
    return stream(events(chat_chunk({"role": "assistant"}), chat_chunk(delta), chat_chunk({}, "tool_calls"), b"[DONE]"))


def _claude(call: dict[str, Any] | None) -> Any:
    block: dict[str, Any] = {"type": "text", "text": ""}
    delta = {"type": "text_delta", "text": "Done."}
    if call is not None:
        block = {"type": "tool_use", "id": "call_1", "name": "Write", "input": {}}
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
    held, behave = scripted(kind, note)
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
