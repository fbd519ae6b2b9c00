"""The Model Context Protocol, as the official SDK's client sees it: over standard input and output, and over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import Running, serving
from waiting import PATIENCE

from ruvllm import RuvLLM

pytest.importorskip("mcp.server.mcpserver")
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ResourceLink
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

TASK = "add unit tests for the parser"
KEYS = {"ann": "use", "bob": "teach", "cat": "teach", "gil": "teach agent=gardener"}
AGENT = {"name": "kettle-keeper", "description": "Looks after kettles.", "examples": ["polish the kettle"]}


def teams(name: str) -> dict[str, Any]:
    """A question that only the conversation of this name teaches."""
    criteria = {"billing": "Payments", "tech": "Bugs"}
    return {"team": {"type": "choice", "instructions": f"Which team of {name}?", "criteria": criteria}}


@pytest.fixture(scope="module")
def edge(static_llm: RuvLLM) -> Iterator[Running]:
    with serving(RuvLLM(encoder="static", like=static_llm)) as running:
        yield running


def secret(name: str) -> str:
    return f"{name}-{'k' * 30}"


@pytest.fixture
def keyed(static_llm: RuvLLM, tmp_path: Path) -> Iterator[Running]:
    lines = (f"{n} sha256:{sha256(secret(n).encode()).hexdigest()} role={role}\n" for n, role in KEYS.items())
    (tmp_path / "keys").write_text("".join(lines))
    with serving(RuvLLM(encoder="static", like=static_llm), keys_file=tmp_path / "keys") as running:
        yield running


@asynccontextmanager
async def connected(edge: Running, mode: str = "auto", key: str = "", **more: Any) -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {secret(key)}"} if key else {}
    async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE) as http:
        transport = streamable_http_client(f"{edge.url}/mcp", http_client=http)
        async with Client(transport, mode=mode, **more) as client:
            yield client


def run(conversation: Awaitable[None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(conversation, PATIENCE)

    asyncio.run(bounded())


def words(told: Any) -> str:
    return str(told.content[0].text)


async def talk(client: Client) -> None:
    """All that the server has."""
    asked = {"state": "I was charged twice", "questions": teams(client.protocol_version)}
    tools = {tool.name for tool in (await client.list_tools()).tools}
    assert tools == {"route", "decide", "agents", "search_tools", "remember", "recall", "feedback"}
    routed = (await client.call_tool("route", {"task": TASK})).structured_content
    assert routed["agent"] == "tester"
    decided = (await client.call_tool("decide", asked)).structured_content
    assert sum(decided["answers"]["team"]["probabilities"].values()) == pytest.approx(1)
    taught = await client.call_tool("feedback", {"decision": decided["id"], "answer": "tech"})
    assert words(taught) == "learnt: team (1 examples)"
    again = (await client.call_tool("decide", asked)).structured_content
    before, after = (one["answers"]["team"]["probabilities"]["tech"] for one in (decided, again))
    assert after > before
    wrong = await client.call_tool("decide", {"state": "x", "questions": {"team": {"type": "chioce"}}})
    assert wrong.is_error
    assert "chioce" in words(wrong)
    await client.call_tool("remember", {"text": "The staging database is reset every Monday."})
    found = (await client.call_tool("recall", {"query": "when is staging reset?"})).structured_content
    assert "reset every Monday" in found["result"][0]["text"]
    assert words(await client.call_tool("feedback", {"task": "frobnicate it", "agent": "tester"})) == "learnt: tester"
    await resources(client)


async def resources(client: Client) -> None:
    """Agents are read in pages, and what a search finds are links to them."""
    names, cursor, pages = list[str](), None, 0
    while pages == 0 or cursor:
        page = await client.list_resources(cursor=cursor)
        names, cursor, pages = names + [one.name for one in page.resources], page.next_cursor, pages + 1
    assert len(names) == len({*names}) > 70
    assert pages > 1
    with pytest.raises(MCPError, match="no page has this cursor"):
        await client.list_resources(cursor="nonsense")
    found = await client.call_tool("agents", {"query": "security", "limit": 2})
    assert len(found.content) == len(found.structured_content["result"]) == 2
    link = found.content[0]
    assert isinstance(link, ResourceLink)
    read = (await client.read_resource(str(link.uri))).contents[0]
    assert (read.mime_type, link.name in read.text, link.description in read.text) == ("text/markdown", True, True)
    following = await client.call_tool(
        "agents", {"query": "security", "limit": 2, "cursor": found.structured_content["next_cursor"]}
    )
    assert following.content[0].name not in {one.name for one in found.content}
    with pytest.raises(MCPError):
        await client.read_resource("ruvllm://agents/nobody")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_all_of_it_over_http(edge: Running, mode: str):
    async def conversation() -> None:
        async with connected(edge, mode) as client:
            newest = (MODERN_PROTOCOL_VERSIONS if mode == "auto" else HANDSHAKE_PROTOCOL_VERSIONS)[-1]
            assert client.protocol_version == newest
            assert client.server_capabilities.resources.list_changed
            await talk(client)

    run(conversation())


def test_all_of_it_over_stdio(tmp_path: Path):
    arguments = ["-m", "ruvllm.cli", "--state", str(tmp_path / "state.db"), "mcp", "--encoder", "static"]

    async def conversation() -> None:
        started = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
        async with Client(started) as client:
            assert client.server_capabilities.resources.list_changed
            await talk(client)

    run(conversation())


def test_a_client_hears_that_there_are_other_agents(edge: Running):
    async def newer(heard: asyncio.Event) -> None:
        async with connected(edge) as client, client.listen(resources_list_changed=True) as events:
            heard.set()
            await anext(aiter(events))

    async def older(heard: asyncio.Event) -> None:
        changed = asyncio.Event()

        async def hear(message: Any) -> None:
            if "resources/list_changed" in str(getattr(message, "method", "")):
                changed.set()

        async with connected(edge, "legacy", message_handler=hear) as client:
            await client.list_tools()
            heard.set()
            await changed.wait()
            cursor, names = None, set[str]()
            while not names or cursor:
                page = await client.list_resources(cursor=cursor)
                cursor, names = page.next_cursor, names | {one.name for one in page.resources}
            assert "kettle-keeper" in names

    async def conversation() -> None:
        ready = [asyncio.Event(), asyncio.Event()]
        clients = [asyncio.ensure_future(one(event)) for one, event in zip((newer, older), ready, strict=True)]
        await asyncio.gather(*(event.wait() for event in ready))
        async with httpx2.AsyncClient(timeout=PATIENCE) as http:
            assert (await http.put(f"{edge.url}/v1/agents", json={"agents": [AGENT]})).status_code in (200, 202)
        await asyncio.gather(*clients)

    run(conversation())


def test_a_call_is_given_up_when_its_client_says_so(edge: Running, monkeypatch: pytest.MonkeyPatch):
    begun, ended = asyncio.Event(), asyncio.Event()
    loops = list[Any]()

    async def slow(*_: Any, **__: Any) -> None:
        try:
            loops[0].call_soon_threadsafe(begun.set)
            await asyncio.sleep(60)
        finally:
            loops[0].call_soon_threadsafe(ended.set)

    monkeypatch.setattr(edge.llm, "aroute", slow)

    async def conversation(mode: str) -> None:
        loops[:] = [asyncio.get_running_loop()]
        async with connected(edge, mode) as client:
            call = asyncio.ensure_future(client.call_tool("route", {"task": TASK}))
            await begun.wait()
            call.cancel()
            await ended.wait()
            assert (await client.list_tools()).tools  # and the connection goes on

    for mode in ("auto", "legacy"):
        begun, ended = asyncio.Event(), asyncio.Event()
        run(conversation(mode))


def test_keys_and_roles_hold_as_everywhere(keyed: Running):
    assert keyed.post("/mcp", {}).status_code == 401

    async def conversation() -> None:
        for mode in ("auto", "legacy"):
            async with connected(keyed, mode, "ann") as client:
                assert (await client.call_tool("route", {"task": TASK})).structured_content["agent"] == "tester"
                for tool, arguments in (
                    ("remember", {"text": "x y z"}),
                    ("feedback", {"task": TASK, "agent": "tester"}),
                ):
                    told = await client.call_tool(tool, arguments)
                    assert told.is_error
                    assert "this key's role is use, and this needs teach" in words(told)
            async with connected(keyed, mode, "bob") as client:
                assert not (await client.call_tool("remember", {"text": "Refunds take five days."})).is_error
                assert not (await client.call_tool("remember", {"text": "Refunds: ask Dan.", "agent_id": "x"})).is_error
            async with connected(keyed, mode, "gil") as client:
                assert not (await client.call_tool("remember", {"text": "Refunds: ask Eve."})).is_error
                told = str((await client.call_tool("recall", {"query": "Refunds", "min_score": -1})).structured_content)
                assert "Refunds take five days." in told
                assert "ask Eve" in told
                assert "ask Dan" not in told
                told = await client.call_tool("recall", {"query": "Refunds", "agent_id": "x"})
                assert "the memory of the agent gardener" in words(told)
            (row,) = keyed.llm.memory.search("ask Eve", 1)
            assert row.memory.metadata == {"agent_id": "gardener"}

    run(conversation())


HELLO = {
    "jsonrpc": "2.0", "id": 0, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}  # fmt: skip
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def test_a_session_is_its_keys(keyed: Running):
    bob, cat = ({"authorization": f"Bearer {secret(name)}"} for name in ("bob", "cat"))
    began = keyed.client.post("/mcp", json=HELLO, headers=ACCEPT | bob)
    assert began.status_code == 200
    session = {"mcp-session-id": began.headers["mcp-session-id"]}
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert keyed.client.post("/mcp", json=ping, headers=ACCEPT | session | bob).status_code == 200
    for method in ("post", "delete", "get"):
        body = {"json": ping} if method == "post" else {}
        found = getattr(keyed.client, method)("/mcp", headers=ACCEPT | session | cat, **body)
        assert found.status_code == 404
    assert keyed.client.delete("/mcp", headers=ACCEPT | session | bob).status_code == 200
    assert keyed.client.post("/mcp", json=ping, headers=ACCEPT | session | bob).status_code == 404


def test_strange_hosts_origins_and_bodies_are_refused(edge: Running):
    def status(headers: dict[str, str], **more: Any) -> int:
        return edge.client.post("/mcp", **({"json": HELLO} | more), headers=ACCEPT | headers).status_code

    assert status({"host": "evil.example"}) == 421
    assert status({"origin": "https://evil.example"}) == 403
    assert status({"origin": edge.url.rstrip("/")}) == 200
    assert edge.client.put("/mcp", json={}).status_code == 405
    assert status({}, json=None, content=b"x" * (2 << 20)) == 413
    assert 400 <= status({}, json=None, content=b"{") < 500


def test_a_server_ends_though_a_client_listens(static_llm: RuvLLM):
    with serving(RuvLLM(encoder="static", like=static_llm)) as edge:

        async def conversation() -> None:
            async with connected(edge) as client, client.listen(resources_list_changed=True) as events:
                ended = asyncio.ensure_future(asyncio.to_thread(edge.stop))
                with suppress(Exception):  # the stream is lost, or ends: the client says which
                    await anext(aiter(events))
                await ended

        run(conversation())


def test_without_the_sdk_the_path_says_what_is_missing(static_llm: RuvLLM, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ruvllm.cli.mcp.find_spec", lambda _: None)
    with serving(RuvLLM(encoder="static", like=static_llm)) as edge:
        found = edge.post("/mcp", HELLO)
        assert (found.status_code, "ruvllm[mcp]" in found.json()["fix"]) == (501, True)
