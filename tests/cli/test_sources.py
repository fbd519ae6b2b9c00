"""Agents from several places at once: whose counts, what a project cannot take, servers and addresses."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ruvllm import AgentFileError, InputError, RuvLLM
from ruvllm.agents.sources import AgentSource, sources_of
from ruvllm.cli.main import main

SERVER = """
import json, sys
tools = [{"name": f"tool{i}", "description": f"Does {i}."} for i in range(5)]
open(sys.argv[1], "a").write("started\\n")
for line in sys.stdin:
    ask = json.loads(line)
    if "id" not in ask:
        continue
    if ask["method"] == "initialize":
        result = {"protocolVersion": ask["params"]["protocolVersion"], "capabilities": {}}
        print("not JSON, as some servers say", flush=True)
    else:
        first = int(ask["params"].get("cursor", 0))
        result = {"tools": tools[first:first + 2]} | ({"nextCursor": str(first + 2)} if first + 2 < len(tools) else {})
    print(json.dumps({"jsonrpc": "2.0", "id": ask["id"], "result": result}), flush=True)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("home", "project", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUVLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "home"


def write(path: Path, description: str, *examples: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = "".join(f"<example>\nuser: {example}\n</example>\n" for example in examples)
    path.write_text(f"---\nname: {path.stem}\ndescription: {description}\n---\n{blocks}", encoding="utf-8")
    return path


def run(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == code, result.output
    return result


def listed(*args: str) -> dict[str, dict[str, Any]]:
    found = json.loads(run("agents", "list", "--json", *args).stdout)
    return {one["name"]: one for one in found}


def test_project_user_and_plugin_are_found_and_the_nearest_counts(home: Path) -> None:
    write(Path(".claude/agents/reviewer.md"), "The project's reviewer of pull requests.")
    write(home / ".claude/agents/reviewer.md", "The user's reviewer of letters.")
    write(home / ".claude/agents/cook.md", "Cooks soups.")
    plugin = home / "somewhere" / "garden"
    write(plugin / "agents" / "gardener.md", "Prunes roses.")
    write(plugin / "commands" / "water.md", "Waters the garden.")
    registry = home / ".claude" / "plugins" / "installed_plugins.json"
    registry.parent.mkdir(parents=True)
    registry.write_text(json.dumps({"plugins": {"garden@shop": [{"installPath": str(plugin)}]}}))
    found = listed("--from", "claude")
    assert found["reviewer"]["description"] == "The project's reviewer of pull requests."
    scopes = {name: (one["scope"], one["kind"]) for name, one in found.items()}
    assert scopes == {
        "reviewer": ("project", "agent"),
        "cook": ("user", "agent"),
        "garden:gardener": ("plugin", "agent"),
        "garden:water": ("plugin", "command"),
    }
    assert "hidden by that of .claude/agents/reviewer.md" in run("agents", "list", "--from", "claude").stderr
    assert set(listed("--from", "auto", "--kind", "command")) == {"garden:water"}


def test_every_client_and_several_places(home: Path) -> None:
    write(Path(".cursor/rules/style.mdc"), "How we style.")
    write(home / ".config/opencode/agent/docs.md", "Writes docs.")
    write(Path(".github/agents/plan.agent.md"), "Plans.")
    Path("AGENTS.md").write_text("# Build\n\nRun make.\n")
    Path(".codex/agents").mkdir(parents=True)
    Path(".codex/agents/fix.toml").write_text('name = "fix"\ndescription = "Fixes."\ndeveloper_instructions = "x"\n')
    assert set(listed("--from", "auto")) == {"style", "docs", "plan.agent", "Build", "fix"}
    more = write(home / "more" / "baker.md", "Bakes bread.")
    assert set(listed("--from", "codex,opencode", "--from", f"user:{more}")) == {"docs", "Build", "fix", "baker"}


def test_routing_takes_the_same_sources(home: Path) -> None:
    write(Path(".claude/agents/baker.md"), "Bakes bread and cakes.", "bake a sourdough loaf")
    write(home / ".claude/agents/sailor.md", "Sails boats across the sea.", "hoist the main sail")
    llm = RuvLLM("claude", encoder="static")
    assert {agent.name: agent.scope for agent in llm.agents} == {"baker": "project", "sailor": "user"}
    assert "sailor" in run("route", "--agents", "claude", "--encoder", "static", "hoist the main sail").stdout
    assert [agent.name for agent in RuvLLM([AgentSource(".claude/agents")], encoder="static").agents] == ["baker"]


def test_a_projects_agent_cannot_take_what_is_anothers(home: Path) -> None:
    said = "Sails boats across the sea and mends their sails."
    write(home / ".claude/agents/sailor.md", said, "hoist the main sail", "mend the torn jib")
    write(Path(".claude/agents/pirate.md"), said, "hoist the main sail")
    write(Path(".claude/agents/diver.md"), "Dives for wrecks.", "Hoist the main sail!", "dive to the wreck")
    llm = RuvLLM("claude", encoder="static")
    assert {agent.name: agent.examples for agent in llm.agents} == {
        "sailor": ("hoist the main sail", "mend the torn jib"),
        "diver": ("dive to the wreck",),
    }
    assert {problem.skipped for problem in llm.services.problems} == {True, False}
    assert llm.route("hoist the main sail").agent == "sailor"


def test_a_file_cannot_say_whose_it_is() -> None:
    Path("agents.json").write_text(json.dumps([{"name": "x", "description": "y", "scope": "user"}]))
    assert listed("--from", "project:agents.json")["x"]["scope"] == "project"


def test_what_names_no_source_says_what_does() -> None:
    with pytest.raises(InputError) as error:
        sources_of("claud")
    assert "claude" in error.value.fix
    with pytest.raises(AgentFileError):
        sources_of("./nowhere")
    result = run("agents", "list", "--from", "claude", code=2)
    assert "no client on this machine has agents" in result.stderr


def test_one_bad_source_never_stops_the_next(home: Path) -> None:
    write(home / "good" / "cook.md", "Cooks.")
    Path("bad.json").write_text("{")
    result = run("agents", "list", "--json", "--from", "bad.json", "--from", f"user:{home / 'good'}")
    assert [one["name"] for one in json.loads(result.stdout)] == ["cook"]
    assert "bad.json:1: not JSON" in result.stderr


def test_a_server_is_started_only_when_asked(home: Path) -> None:
    Path("server.py").write_text(SERVER)
    log = home / "log"
    row = {"command": sys.executable, "args": ["server.py", str(log)]}
    Path(".mcp.json").write_text(json.dumps({"mcpServers": {"five": row}}))
    assert "which is not started" in run("agents", "list", "--from", ".mcp.json", code=2).stderr
    assert not log.exists()
    for _ in range(2):  # the second time from the cache
        found = listed("--from", ".mcp.json", "--start")
        assert set(found) == {f"mcp__five__tool{i}" for i in range(5)}
        assert {one["kind"] for one in found.values()} == {"tool"}
    assert log.read_text() == "started\n"


@pytest.fixture
def site() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: bytes, media: str, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"content-type": media, "content-length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            pages = {"/api.json": {"openapi": "3.1.0", "paths": {"/a": {"get": {"operationId": "getA"}}}}}
            if self.path == "/away":
                self.answer(b"", "text/plain", 302, location="http://169.254.169.254/")
            elif self.path in pages:
                self.answer(json.dumps(pages[self.path]).encode(), "application/json")
            else:
                self.answer(b"", "text/plain", 405)

        def do_POST(self) -> None:
            ask = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if "id" not in ask:
                return self.answer(b"", "text/plain", 202)
            result = {"tools": [{"name": "ping", "inputSchema": {}}]} if ask["method"] == "tools/list" else {}
            message = json.dumps({"jsonrpc": "2.0", "id": ask["id"], "result": result})
            return self.answer(f"event: message\ndata: {message}\n\n".encode(), "text/event-stream", mcp_session_id="s")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_documents_and_servers_at_a_url(site: str) -> None:
    pytest.importorskip("httpx")
    assert set(listed("--private", "--from", f"{site}/api.json")) == {"getA"}
    assert set(listed("--private", "--from", f"{site}/mcp")) == {"ping"}


def test_an_address_of_this_network_is_refused_and_nothing_is_followed(site: str) -> None:
    pytest.importorskip("httpx")
    assert "leads to a private address" in run("agents", "list", "--from", f"{site}/api.json", code=2).stderr
    Path("mcp.json").write_text(json.dumps({"servers": {"meta": {"url": "http://169.254.169.254/mcp"}}}))
    assert "private address" in run("agents", "list", "--start", "--from", "mcp.json", code=2).stderr
    assert "leads elsewhere" in run("agents", "list", "--private", "--from", f"{site}/away", code=2).stderr
