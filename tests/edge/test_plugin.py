"""From installing it to the first delegation that is routed: in Claude Code and Codex, each where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import serving
from llm_server import Server
from test_backends import llm_server
from test_coding_agents import CLAUDE, CODEX, PROVIDER, _claude, _openai

from ruvllm import RuvLLM
from ruvllm.config import Config

ROOT = Path(__file__).resolve().parents[2]
TASK = "prune the apple trees and the hedge in the garden"
QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "RUVLLM_HOOK_IDLE": "5"}
AGENTS = {"gardener": "Plants flowers, prunes hedges and trees, mows lawns.", "baker": "Bakes bread, cakes and pastry."}


def run(command: list[str], cwd: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own, with `ruvllm` of this tree on its path."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ruvllm"
    paths = [str(ROOT / name) for name in ("core", "edge_server", "models")]  # clients do not hand PYTHONPATH on to all
    start = f"import sys\nsys.path[:0] = {paths}\nfrom ruvllm.cli.__main__ import run\nrun()\n"
    program.write_text(f"#!{sys.executable}\n{start}")
    program.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"HOME": str(tmp_path), "PATH": path, "PYTHONPATH": os.pathsep.join(paths)} | QUIET


def delegating(name: str, call: dict[str, Any], answer: Any = _claude) -> tuple[list[Server], Any]:
    """A model that delegates once, where it has such a tool, and is done then."""
    held, done = list[Server](), list[str]()

    async def behave(reader: Any, writer: Any) -> None:
        body = held[0].requests[-1].body or {}
        named = [tool.get("name") or tool["function"]["name"] for tool in body.get("tools") or ()]
        tool = next((one for one in named if one.endswith(name)), None)
        first = tool is not None and not done  # the sub-agent has the tool, too
        done.extend([name] * first)
        await answer(tool, call if first else None)(reader, writer)

    return held, behave


def outcomes(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / ".config" / "ruvllm" / "hook.jsonl").read_text().splitlines()]


@pytest.mark.skipif(CLAUDE is None, reason="Claude Code is not installed: npm i @anthropic-ai/claude-code, CLAUDE=path")
@pytest.mark.parametrize("way", ["install", "plugin"])
def test_claude_code_delegates_to_whom_the_task_is_for(way: str, tmp_path: Path, environment: dict[str, str]):
    assert CLAUDE is not None
    work = tmp_path / "work"
    (work / ".claude" / "agents").mkdir(parents=True)
    for name, text in AGENTS.items():
        (work / ".claude" / "agents" / f"{name}.md").write_text(f"---\nname: {name}\ndescription: {text}\n---\nGo.\n")
    if way == "install":
        run(
            [str(tmp_path / "bin" / "ruvllm"), "install", "claude", "--project", "--mode", "act", "--no-mcp"],
            work,
            environment,
        )
    else:
        (tmp_path / ".config" / "ruvllm").mkdir(parents=True)
        (tmp_path / ".config" / "ruvllm" / "hook.toml").write_text('mode = "act"')
        run([CLAUDE, "plugin", "marketplace", "add", str(ROOT)], work, environment)
        run([CLAUDE, "plugin", "install", "ruvllm@ruvllm"], work, environment)
    held, behave = delegating("Agent", {"description": "work", "prompt": TASK, "subagent_type": "general-purpose"})
    with llm_server(behave) as server:
        held.append(server)
        where = {"ANTHROPIC_BASE_URL": server.url.removesuffix("/v1"), "ANTHROPIC_API_KEY": "-"}
        assert "Done." in run([CLAUDE, "-p", "Tidy the garden"], work, environment | where)
        prompts = [json.dumps(request.body) for request in server.requests if request.body]
    rows = outcomes(tmp_path)
    (delegation,) = [row for row in rows if row["event"] == "PreToolUse"]
    assert (delegation["named"], delegation["agent"], delegation["changed"]) == ("general-purpose", "gardener", True)
    ended = {row["agent"] for row in rows if row["event"] == "SubagentStop"}
    assert ended == {"gardener"}  # Claude Code did as it was told
    assert any("ruvllm chose agent gardener instead of general-purpose" in prompt for prompt in prompts)
    assert all(row["tokens"] != [0, 0, 0, 0] for row in rows if row["event"] in ("Stop", "SubagentStop"))


@pytest.mark.skipif(CLAUDE is None, reason="Claude Code is not installed: npm i @anthropic-ai/claude-code, CLAUDE=path")
def test_claude_code_finds_no_fault_with_the_plugin(tmp_path: Path, environment: dict[str, str]):
    assert CLAUDE is not None
    for path in (ROOT / "plugin", ROOT):
        run([CLAUDE, "plugin", "validate", "--strict", str(path)], tmp_path, environment)
    run([CLAUDE, "plugin", "marketplace", "add", str(ROOT)], tmp_path, environment)
    run([CLAUDE, "plugin", "install", "ruvllm@ruvllm"], tmp_path, environment)
    said = run([CLAUDE, "plugin", "details", "ruvllm"], tmp_path, environment)
    for part in (
        "route, ruvllm, savings",
        "UserPromptSubmit, PreToolUse, SubagentStop, Stop, SessionStart",
        "MCP servers (1)",
    ):
        assert part in said


@pytest.mark.skipif(CODEX is None, reason="Codex is not installed: npm i @openai/codex, CODEX=path")
@pytest.mark.parametrize("way", ["install", "plugin"])
def test_codex_delegates_to_whom_the_task_is_for(way: str, tmp_path: Path, environment: dict[str, str]):
    assert CODEX is not None
    work, home = tmp_path / "work", tmp_path / ".codex"
    work.mkdir()
    (home / "agents").mkdir(parents=True)
    for name, text in AGENTS.items():
        role = f'name = "{name}"\ndescription = "{text}"\ndeveloper_instructions = "Go."\n'
        (home / "agents" / f"{name}.toml").write_text(role)
    given = {"message": TASK, "agent_type": "default", "task_name": "prune"}
    held, behave = delegating("spawn_agent", given, _openai)
    environment |= {"CODEX_HOME": str(home)}
    with llm_server(behave) as server:
        held.append(server)
        tier = {"kind": "openai", "url": server.url, "model": "up-1"}
        config = Config.from_dict({"inference": {"tiers": {"small": tier, "large": tier}}})
        with serving(RuvLLM(encoder="static", config=config)) as edge:
            (home / "config.toml").write_text(PROVIDER.format(edge.url) + "[features]\nmulti_agent_v2 = true\n")
            if way == "install":
                run(
                    [str(tmp_path / "bin" / "ruvllm"), "install", "codex", "--mode", "act", "--no-mcp"],
                    work,
                    environment,
                )
            else:
                (tmp_path / ".config" / "ruvllm").mkdir(parents=True)
                (tmp_path / ".config" / "ruvllm" / "hook.toml").write_text('mode = "act"')
                run([CODEX, "plugin", "marketplace", "add", str(ROOT)], work, environment)
                run([CODEX, "plugin", "add", "ruvllm@ruvllm"], work, environment)
            command = [CODEX, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
            command += ["--dangerously-bypass-hook-trust", "-m", "gpt-5.5", "Tidy the garden"]
            assert "Done." in run(command, work, environment)
    (delegation,) = [row for row in outcomes(tmp_path) if row["event"] == "PreToolUse"]
    assert (delegation["client"], delegation["agent"], delegation["changed"]) == ("codex", "gardener", True)
    roles = "".join(path.read_text() for path in home.rglob("rollout-*.jsonl"))
    assert '"agent_role":"gardener"' in roles  # Codex did as it was told
