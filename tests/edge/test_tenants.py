"""Keys are tenants: what belongs to one space is reached by no key of another, through any endpoint."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from conftest import Running, Writer, serving
from llm_server import Behaviour, answer
from test_backends import llm_server
from waiting import until

from ruvllm import RuvLLM
from ruvllm.cli.main import main
from ruvllm.config import Config
from ruvllm.inference.backend import Chunk
from ruvllm.inference.endpoint import Price
from ruvllm_edge.app import all_operations
from ruvllm_edge.audit import Audit, read_audit
from ruvllm_edge.auth import ROLES, Key
from ruvllm_edge.operations import Operation
from ruvllm_edge.roles import OPEN, ROLE_OF, role_of

ALL = all_operations()
SECRET = "quasarxylophone"  # in all that the first space holds
SPACES = ("acme", "globex")


def secret_of(name: str) -> str:
    return f"rv-{sha256(name.encode()).hexdigest()}"


def keys_file(path: Path, *keys: Key) -> Path:
    """Of keys whose secrets `secret_of` gives."""
    hashed = (Key(**{name: getattr(key, name) for name in Key.__slots__} | {"digest": _digest(key)}) for key in keys)
    path.write_text("".join(key.line() for key in hashed))
    return path


def _digest(key: Key) -> bytes:
    return sha256(secret_of(key.name).encode()).digest()


def header(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret_of(name)}"}


def said_by_openai(text: str) -> Behaviour:
    return answer(200, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "model": "up"})


def said_by_claude(text: str) -> Behaviour:
    message = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": text}], "model": "up"}
    used = {"input_tokens": 9, "output_tokens": 9}
    return answer(200, message | {"id": "msg_1", "stop_reason": "end_turn", "stop_sequence": None, "usage": used})


WELL_SAID = {"openai": said_by_openai, "anthropic": said_by_claude}
HELLO = {
    "jsonrpc": "2.0", "id": 0, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}  # fmt: skip


@dataclass
class House:
    """A server of two spaces with a key for each role, and what the first space holds."""

    edge: Running
    ids: dict[str, str]

    def send(self, method: str, path: str, name: str, body: Any = None) -> httpx.Response:
        more: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        headers = header(name)
        if path == "/mcp":
            headers |= {"accept": "application/json, text/event-stream"}
            headers |= {"mcp-session-id": self.begun(name) if method == "POST" else self.ids["mcp"]}
        return self.edge.client.request(method, path, headers=headers, **(more if body is not None else {}))

    def begun(self, name: str) -> str:
        """The id of a session of the Model Context Protocol; "" where that is not installed."""
        accept = {"accept": "application/json, text/event-stream"}
        said = self.edge.post("/mcp", HELLO, headers=header(name) | accept)
        return said.headers.get("mcp-session-id", "")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    named = [Key(f"{space}-{role}", role=role, space=space) for space in SPACES for role in ROLES]
    file = keys_file(folder / "keys", *named, Key("owner", role="admin"))
    llm = RuvLLM(encoder="static", state=folder / "state.db", backends={"small": Writer()})
    with serving(llm, True, keys_file=file, max_state=16 << 20, rate=0) as edge:
        house = House(edge, {})
        house.ids = _filled(house, "acme", SECRET)
        _filled(house, "globex", "ordinary")
        yield house


def _filled(house: House, space: str, word: str) -> dict[str, str]:
    """Put a word into everything that a space can hold; the ids of what was made."""

    def made(method: str, path: str, body: Any, role: str = "teach") -> Any:
        answer = house.send(method, path, f"{space}-{role}", body)
        assert answer.status_code < 300, (path, answer.text)
        return answer.json() if answer.content else None

    first, second = made(
        "POST", "/v1/memory", {"memories": [{"text": f"the {word} lives here"}, {"text": f"the {word} sleeps"}]}
    )["ids"]
    agent = {"name": f"{word}-agent", "description": f"Feeds the {word}.", "examples": [f"feed the {word}"]}
    made("PUT", "/v1/agents?wait=30", {"agents": [agent]})
    session = made("POST", "/v1/sessions", {"metadata": {"word": word}})["session_id"]
    asked = made("POST", "/v1/query", {"query": f"where is the {word}", "session_id": session})
    made("POST", "/v1/feedback", {"text": f"groom the {word}", "agent": f"{word}-agent"})
    made("POST", "/v1/feedback", {"request_id": asked["request_id"], "rating": 5})
    join = made("POST", "/v1/memory/hyperedges", {"members": [first, second], "kind": "SameTopic"})
    response = made("POST", "/v1/responses", {"input": f"tell me of the {word}"})
    chat = {"messages": [{"role": "user", "content": f"go on about the {word}"}], "user": word}
    made("POST", "/v1/chat/completions", chat)
    question = {"urgent": {"type": "noul", "instructions": f"Is the {word} urgent?"}}
    decided = made("POST", "/v1/systemone", {"model": "auto", "state": f"a {word} cries", "questions": question})
    made("POST", "/v1/feedback", {"request_id": decided["id"], "answer": {"urgent": True}})
    made("POST", "/v1/keys", {"name": f"{word}-key", "role": "use"}, "admin")
    return {
        "memory": str(first), "session": session, "request": asked["request_id"], "hyperedge": str(join["id"]),
        "mcp": house.begun(f"{space}-teach") or "none-of-them", "response": response["id"],
        "item": response["output"][0]["id"], "decision": decided["id"],
    }  # fmt: skip


def attacks(ids: dict[str, str]) -> dict[tuple[str, str], list[tuple[str, Any]]]:
    """By operation, requests (path, body) that try to get at what the first space holds."""
    ask = {"role": "user", "content": "where is it, what sleeps, who lives here?"}
    about, plain = {"model": "auto", "messages": [ask]}, {"text": "feed it where it lives"}
    question = {"urgent": {"type": "noul", "instructions": "Is it urgent?"}}
    query = [{"query": "who lives here"}, {"query": "where is it", "session_id": ids["session"]},
             {"query": "who lives here", "deep": True}]  # fmt: skip
    told = [{"text": "feed it", "agent": f"{SECRET}-agent"}, {"request_id": ids["request"], "rating": 1},
            {"request_id": ids["request"], "correction": "nothing"},
            {"request_id": ids["decision"], "answer": {"urgent": False}}]  # fmt: skip
    responses = [{"input": "go on", "previous_response_id": ids["response"]},
                 {"input": [ask, {"type": "item_reference", "id": ids["item"]}]}]  # fmt: skip
    decisions = {"model": "auto", "input": "it cries", "questions": [{"type": "predicate", "instructions": "It is."}]}
    found: dict[tuple[str, str], list[tuple[str, Any]]] = {
        ("POST", "/v1/route"): [("", plain)],
        ("POST", "/v1/route/complex"): [("", plain)],
        ("POST", "/v1/tools/search"): [("", {"task": "who lives here", "k": 100})],
        ("POST", "/query"): [("", body) for body in query],
        ("POST", "/v1/query"): [("", body) for body in query],
        ("POST", "/feedback"): [("", body) for body in told],
        ("POST", "/v1/feedback"): [("", body) for body in told],
        ("POST", "/session"): [("", {"metadata": {"id": ids["session"]}})],
        ("POST", "/v1/sessions"): [("", {"metadata": {"id": ids["session"]}})],
        ("GET", "/v1/sessions/{id}"): [(f"/v1/sessions/{ids['session']}", None)],
        ("DELETE", "/v1/sessions/{id}"): [(f"/v1/sessions/{ids['session']}", None)],
        ("PUT", "/v1/agents"): [("", {"agents": [{"name": "cook", "description": "Cooks."}]})],
        ("DELETE", "/v1/agents/{name}"): [(f"/v1/agents/{SECRET}-agent", None)],
        ("POST", "/v1/memory"): [("", {"memories": [{"text": "a plain note"}]})],
        ("POST", "/v1/memory/search"): [("", {"query": "lives here", "k": 50, "hops": 2})],
        ("GET", "/v1/memory/graph"): [(f"/v1/memory/graph?ids={n}&hops=3", None) for n in (1, 2, 3)],
        ("GET", "/v1/memory/{id}/timeline"): [("/v1/memory/9000/timeline", None)],
        ("POST", "/v1/memory/{id}/reopen"): [("/v1/memory/9000/reopen", None)],
        ("DELETE", "/v1/memory/{id}"): [("/v1/memory/9000", None), ("/v1/memory/9000?erase=true", None)],
        ("POST", "/v1/memory/forget"): [
            ("", {"ids": [1, 2, 9000]}), ("", {"filter": {"team": {"$exists": True}}, "erase": True})
        ],
        ("POST", "/v1/memory/edges"): [("", {"source": 1, "target": 9000, "kind": "Cites"})],
        ("POST", "/v1/query/plan"): [("", {"query": "Who lives here and who feeds it?"})],
        ("DELETE", "/v1/feedback/{id}"): [("/v1/feedback/9000", None)],
        ("POST", "/v1/jobs"): [("", {"budget": 0.01})],
        ("PUT", "/v1/backends"): [("", {"backends": [{"name": "a", "cost": 0.1}, {"name": "b", "cost": 0.2}]})],
        ("POST", "/v1/backends/select"): [("", {"prompt": "who lives here"})],
        ("POST", "/v1/backends/outcomes"): [("", {"choice_id": ids["request"]})],
        ("POST", "/v1/memory/hyperedges"): [("", {"members": [1, 2, 3], "kind": "SameTopic"})],
        ("DELETE", "/v1/memory/hyperedges/{id}"): [("/v1/memory/hyperedges/4242", None)],
        ("POST", "/v1/chat/completions"): [("", about), ("", about | {"user": SECRET[:3]})],
        ("POST", "/v1/completions"): [("", {"model": "auto", "prompt": "who lives here"})],
        ("POST", "/v1/embeddings"): [("", {"input": ["who lives here"]})],
        ("POST", "/v1/responses"): [("", body) for body in responses],
        ("GET", "/v1/responses/{id}"): [(f"/v1/responses/{ids['response']}", None)],
        ("DELETE", "/v1/responses/{id}"): [(f"/v1/responses/{ids['response']}", None)],
        ("POST", "/v1/messages"): [("", about | {"max_tokens": 50})],
        ("POST", "/v1/messages/count_tokens"): [("", about)],
        ("POST", "/v1/systemone"): [("", {"model": "auto", "state": "it cries", "questions": question})],
        ("POST", "/v1/decisions"): [("", decisions)],
        ("POST", "/api/chat"): [("", about | {"stream": False})],
        ("POST", "/api/generate"): [("", {"model": "auto", "prompt": "who lives here", "stream": False})],
        ("POST", "/api/embed"): [("", {"model": "auto", "input": ["who lives here"]})],
        ("GET", "/v1/models/{id}"): [("/v1/models/writer", None)],
        ("POST", "/v1/federated/updates"): [("", b"no update")],
        ("PUT", "/v1/state"): [("", b"no state")],
        ("POST", "/v1/keys"): [("", {"name": f"{SECRET[:4]}-key", "role": "use"})],
        ("DELETE", "/v1/keys/{name}"): [(f"/v1/keys/{SECRET}-key", None), ("/v1/keys/acme-admin", None)],
        ("POST", "/v1/keys/{name}/rotate"): [
            (f"/v1/keys/{name}/rotate", None) for name in (f"{SECRET}-key", "acme-admin")
        ],
        ("GET", "/mcp"): [("", None)],
        ("DELETE", "/mcp"): [("", None)],
        ("POST", "/mcp"): [
            ("", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
            for method, params in (
                ("tools/call", {"name": "recall", "arguments": {"query": "who lives here"}}),
                ("tools/call", {"name": "route", "arguments": {"text": "feed it where it lives"}}),
                ("tools/call", {"name": "agents", "arguments": {}}),
                ("tools/call", {"name": "remember", "arguments": {"text": "a plain note"}}),
                ("resources/list", {}),
                ("resources/read", {"uri": f"ruvllm://agents/{SECRET}-agent"}),
            )
        ],
        ("GET", "/v1/audit"): [("/v1/audit?most=10000", None), (f"/v1/audit?key={SECRET}-key", None)],
    }  # fmt: skip
    nothing_to_say = ("POST", "/v1/patterns"), ("GET", "/v1/agents"), ("DELETE", "/v1/agents"), ("DELETE", "/v1/state")
    for method, path in nothing_to_say:
        found[method, path] = [("", None)]
    plain_gets = """/v1/memory /v1/memory/stats /v1/feedback /v1/reliability /v1/agents/lint /v1/backends
        /v1/savings /v1/usage /v1/patterns /v1/state /stats /v1/stats /health /v1/health /ready /metrics
        /v1/models /api/tags /api/version /v1/federated /v1/federated/model /v1/keys /openapi.json /docs"""
    return found | {("GET", path): [("", None)] for path in plain_gets.split()}


def test_an_agents_key_reads_its_own_and_what_is_shared(static_llm: RuvLLM, tmp_path: Path):
    keys = keys_file(tmp_path / "keys", Key("cook", role="teach", agent="cook"), Key("all", role="teach"))
    with serving(RuvLLM(encoder="static", like=static_llm), keys_file=keys) as running:

        def call(method: str, path: str, who: str = "cook", **body: Any) -> httpx.Response:
            return running.client.request(method, f"/v1/memory{path}", json=body or None, headers=header(who))

        def add(who: str, text: str, **more: str) -> int:
            return call("POST", "", who, memories=[{"text": text, **more}]).json()["ids"][0]  # type: ignore[no-any-return]

        own, shared = add("cook", "The oven is hot."), add("all", "The oven is new.")
        other = add("all", "The oven is broken.", agent_id="baker")
        running.llm.memory.graph.link(shared, other, "Follows")
        found = call("POST", "/search", query="the oven", hops=2).json()["memories"]
        assert {one["id"] for one in found} == {own, shared}
        assert call("POST", "/search", query="x", agent_id="baker").status_code == 403
        assert call("POST", "", memories=[{"text": "x", "metadata": {"agent_id": "baker"}}]).status_code == 403
        assert [one["id"] for one in call("GET", f"/graph?ids={shared}").json()["nodes"]] == [shared]
        assert [call("GET", f"/{id}/timeline").status_code for id in (own, shared, other)] == [200, 200, 404]
        assert [one["id"] for one in call("GET", "").json()["memories"]] == [shared, own]
        assert call("POST", "/edges", source=own, target=other, kind="Cites").status_code == 404
        assert call("POST", "/edges", source=own, target=shared, kind="Cites").status_code == 204
        assert call("POST", "/forget", ids=[own, shared, other]).json() == {"forgotten": 1}
        answer = running.client.post("/v1/query", json={"query": "Is the oven broken?"}, headers=header("cook")).json()
        assert other not in {one["id"] for one in answer["sources"]}
        deep = {"query": "Is the oven broken, and is it new?", "deep": True}
        running.llm.memory.add("The oven is new, says Bo.")
        for who, seen in (("cook", False), ("all", True)):
            parts = running.client.post("/v1/query", json=deep, headers=header(who)).json()
            assert parts["sources"]
            assert any("broken" in one["text"] for one in parts["sources"]) == seen
        baker = running.client.post("/v1/query", json=deep | {"agent_id": "baker"}, headers=header("cook"))
        assert (baker.status_code, baker.json()["field"]) == (403, "agent_id")


def test_every_operation_has_a_role_and_an_attack():
    operations = {(one.method, one.plain_path) for one in ALL}
    assert operations - ROLE_OF.keys() == set()
    assert ROLE_OF.keys() - operations == set()
    assert {(one.method, one.plain_path) for one in ALL if one.public} == {
        name for name, role in ROLE_OF.items() if role == OPEN
    }
    assert (
        operations - attacks(dict.fromkeys(("session", "request", "decision", "response", "item"), "x")).keys() == set()
    )
    assert role_of("POST", "/v1/nobody/thought/of/it") == "admin"


def named(one: Operation) -> str:
    return f"{one.method} {one.plain_path}"


LAST = ("PUT /v1/state", "DELETE /v1/state")  # what the second space holds is gone then


@pytest.mark.parametrize("one", sorted(ALL, key=lambda one: (named(one) in LAST, named(one))), ids=named)
def test_nothing_of_a_space_is_reached_with_anothers_key(house: House, one: Operation):
    needed = ROLE_OF[one.method, one.plain_path]
    for role in ROLES:
        for path, body in attacks(house.ids)[one.method, one.plain_path]:
            answer = house.send(one.method, path or one.path, f"globex-{role}", body)
            may = not needed or ROLES.index(role) >= ROLES.index(needed)
            assert (answer.status_code == 403) is not may, (role, answer.text)
            for leak in (SECRET, *(value for name, value in house.ids.items() if name not in ("memory", "hyperedge"))):
                hidden = _without_echo(answer, path, body)
                assert leak.encode() not in hidden, (role, path, body)
            assert b"acme" not in _without_echo(answer, path, body), (role, path, body)
            _like_unknown(house, one, role, path or one.path, body, answer)


def _without_echo(answer: httpx.Response, path: str, body: Any) -> bytes:
    """What the server said of itself: not what the request had said."""
    said = answer.content + repr(sorted(answer.headers.items())).encode()
    own = {*re.findall(rb"[\w.-]{4,}", json.dumps(body).encode() if isinstance(body, dict) else b"")}
    own |= {*re.findall(rb"[\w.-]{4,}", path.encode())}
    return re.sub(rb"[\w.-]{4,}", lambda found: b"" if found[0].rstrip(b".") in own else found[0], said)


def _like_unknown(house: House, one: Operation, role: str, path: str, body: Any, answer: httpx.Response) -> None:
    """An id of another space is answered as one that nobody ever had."""
    for name in ("session", "response", "item", "request", "decision"):
        real = house.ids[name]
        if real not in path and real not in json.dumps(body if isinstance(body, dict) else ""):
            continue
        other = real[:-8] + "".join("0" if char != "0" else "1" for char in real[-8:])
        again = house.send(
            one.method, path.replace(real, other), f"globex-{role}",
            json.loads(json.dumps(body).replace(real, other)) if isinstance(body, dict) else body,
        )  # fmt: skip
        if "metadata" in (body or {}):
            continue
        assert again.status_code == answer.status_code
        if answer.status_code >= 400:
            assert _plain(again.text.replace(other, real)) == _plain(answer.text)


def _plain(text: str) -> str:
    return re.sub(r"(req-)?[0-9a-f]{10,}-[0-9a-f]+", "ID", text)


def test_what_was_attacked_is_all_there(house: House):
    found = house.send("POST", "/v1/memory/search", "acme-use", {"query": f"the {SECRET} lives here"}).json()[
        "memories"
    ]
    assert {f"the {SECRET} lives here", f"the {SECRET} sleeps"} <= {one["text"] for one in found}
    session = house.send("GET", f"/v1/sessions/{house.ids['session']}", "acme-teach")
    assert session.json()["metadata"] == {"word": SECRET}
    assert house.send("GET", f"/v1/responses/{house.ids['response']}", "acme-teach").status_code == 200
    assert (
        house.send("POST", "/v1/route", "acme-use", {"text": f"feed the {SECRET}"}).json()["agent"] == f"{SECRET}-agent"
    )
    assert house.send("DELETE", f"/v1/memory/hyperedges/{house.ids['hyperedge']}", "acme-teach").status_code == 204
    assert f"{SECRET}-key" in house.send("GET", "/v1/keys", "acme-admin").text
    if house.ids["mcp"] != "none-of-them":
        recall = {"name": "recall", "arguments": {"query": "who lives here"}}
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": recall}
        assert SECRET in house.send("POST", "/mcp", "acme-use", asked).text
    usage = house.send("GET", "/v1/usage", "acme-admin").json()["keys"]
    assert {one["key"] for one in usage} == {*(f"acme-{role}" for role in ROLES), f"{SECRET}-key"}
    assert [one["key"] for one in house.send("GET", "/v1/usage", "acme-use").json()["keys"]] == ["acme-use"]


def test_metrics_name_other_spaces_to_the_owner_alone(house: House):
    owner = house.send("GET", "/metrics", "owner").text
    assert 'space="acme"' in owner
    assert 'space="globex"' in owner
    mine = house.send("GET", "/metrics", "acme-use").text
    assert 'space="acme"' in mine
    assert "globex" not in mine
    assert "ruvllm_requests_total" not in mine


def test_stats_of_a_space_do_not_move_with_anothers(house: House):
    def moving() -> Any:
        said = house.send("GET", "/v1/stats", "globex-use").json()
        # a space's own background work runs when it will, and makes what measures its tiers
        return {name: value for name, value in said.items() if name not in ("jobs", "tiers")}

    before = moving()
    house.send("POST", "/v1/query", "acme-use", {"query": "who sleeps?"})
    house.send("POST", "/v1/memory", "acme-teach", {"memories": [{"text": "one more"}]})
    assert moving() == before


def test_a_space_is_a_file_of_its_own(house: House):
    folder = Path(f"{house.edge.llm.store.path}.spaces")
    assert {file.name for file in folder.glob("*.db")} == {f"{space}.db" for space in SPACES}
    house.edge.llm.store.flush()
    assert SECRET.encode() not in Path(house.edge.llm.store.path).read_bytes()


def test_the_audit_log_names_deeds_and_no_contents(house: House):
    rows = house.send("GET", "/v1/audit?most=10000", "acme-admin").json()["rows"]
    assert {row["space"] for row in rows} == {"acme"}
    deeds = {(row["key"], row["action"], row["outcome"]) for row in rows}
    assert ("acme-teach", "POST /v1/memory", 200) in deeds
    assert any(row["action"] == "keys add" and row["about"] == f"{SECRET}-key" for row in rows)
    assert SECRET not in json.dumps([row | {"about": ""} for row in rows])
    assert house.ids["session"] not in json.dumps(rows)
    file = house.edge.llm.store.path.replace("state.db", "keys.audit.jsonl")
    assert Path(file).stat().st_mode & 0o077 == 0
    assert house.send("GET", "/v1/audit", "globex-use").status_code == 403
    house.send("GET", "/v1/audit", "globex-admin")  # which writes what waits
    said = CliRunner().invoke(
        main, ["keys", "audit", "--file", file.replace(".audit.jsonl", ""), "--json", "-n", "9999"]
    )
    refused = [row for row in json.loads(said.output) if row["outcome"] == 403]
    assert {row["space"] for row in refused} == {"globex"}


class Dear(Writer):
    """Costs a dollar a token."""

    price = Price(1e6, 1e6)

    async def stream(self, messages: Any, params: Any) -> AsyncIterator[Chunk]:
        async for chunk in super().stream(messages, params):
            yield replace(chunk, cost=self.price.of(chunk.usage)) if chunk.usage else chunk


CHAT = {"messages": [{"role": "user", "content": "implement the login form with React"}]}


def test_keys_come_and_go_while_the_server_runs(tmp_path: Path):
    file, run = tmp_path / "keys", CliRunner()

    def cli(*words: str) -> str:
        done = run.invoke(main, ["keys", *words, "--file", str(file)])
        assert done.exit_code == 0, done.output
        return done.output.strip()

    first = {"api-key": cli("add", "first", "--space", "acme", "--role", "teach")}
    with serving(RuvLLM(encoder="static", state=tmp_path / "state.db"), keys_file=file) as edge:
        session = edge.post("/v1/sessions", {}, headers=first).json()["session_id"]
        second = {"x-api-key": cli("add", "second", "--space", "acme", "--role", "use")}
        assert edge.get("/v1/agents", headers=second).status_code == 200
        assert edge.get(f"/v1/sessions/{session}", headers=second).status_code == 404
        fresh = {"authorization": f"Bearer {cli('rotate', 'first')}"}
        assert edge.get(f"/v1/sessions/{session}", headers=first).status_code == 401
        assert edge.get(f"/v1/sessions/{session}", headers=fresh).status_code == 200
        cli("revoke", "second")
        assert edge.get("/v1/agents", headers=second).status_code == 401
        good = file.read_text()
        file.write_text("no key at all\n")  # changes nothing, and is in the log
        assert edge.get("/v1/agents", headers=fresh).status_code == 200
        file.write_text(good)
        cli("revoke", "first")
        assert edge.get("/v1/agents", headers=fresh).status_code == 401
        assert edge.get("/v1/agents").status_code == 401  # no key is left, and one is needed all the same


NOTE = "The ferry to Orkney is painted quasarblue."
PAINT = "What colour is the ferry to Orkney painted?"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_what_chats_get_beside_being_passed_on_is_their_keys_choice(kind: str, tmp_path: Path):
    """Memory, persona and write-back touch the chats of the key that asks for them, in both APIs, and no other's."""
    said = "The ferry is painted quasarblue, as you told me."
    server_says = WELL_SAID[kind](said)
    everything = ("memory", "persona", "write-back")
    keys = Key("adds", role="teach", adds=everything), Key("plain", role="teach"), Key("none", role="teach", adds=())
    file = keys_file(tmp_path / "keys.txt", *keys)
    with llm_server(server_says) as upstream:
        tier = {"kind": kind, "url": upstream.url, "model": "up-1", "retries": 0}
        config = Config.from_dict({"inference": {"tiers": {"small": tier}}, "memory": {"quality_threshold": 0.0}})
        llm = RuvLLM(encoder="static", config=config)
        with serving(llm, keys_file=file, share_answers=True, chat_adds=("memory",)) as edge:
            edge.post("/v1/memory", {"memories": [{"text": NOTE}]}, headers=header("plain"))

            def chat(name: str, path: str, text: str) -> tuple[dict[str, Any], str, int]:
                """(what its server got, the instructions in it, how many answers wait for memory)"""
                before = llm.queries.stats()["waiting"] + sum(llm.memory.records.counts().values())
                body = {"model": "auto", "max_tokens": 64, "messages": [{"role": "user", "content": text}]}
                assert edge.post(path, body, headers=header(name)).status_code == 200
                sent = upstream.requests[-1].body
                system = sent.get("system") or [one for one in sent["messages"] if one["role"] == "system"]
                now = llm.queries.stats()["waiting"] + sum(llm.memory.records.counts().values())
                return sent, json.dumps(system), now - before

            for path in ("/v1/chat/completions", "/v1/messages"):
                sent, system, _ = chat("none", path, PAINT)
                assert system == "[]"
                assert PAINT in json.dumps(sent["messages"])
                _, system, _ = chat("plain", path, PAINT)  # as the server says of keys that say nothing
                assert NOTE in system
                assert "You are" not in system
                _, system, _ = chat("adds", path, PAINT)
                assert NOTE in system
                assert "You are tester." in chat("adds", path, "add unit tests for the auth module")[1]
                assert [chat(name, path, f"{PAINT} {path} {name}")[2] for name in ("none", "plain", "adds")] == [
                    0,
                    0,
                    1,
                ]
                boat = f"The boat of {path[-8:]} is called"
                told = [chat(name, path, f"{boat} {name}. {PAINT}")[2] for name in ("none", "plain", "adds")]
                assert told == [0, 0, 2]  # the answer, and what the user states


def test_a_budget_holds_until_the_day_ends_in_every_dialect(tmp_path: Path):
    poor, rich = Key("poor", role="use", space="acme", budget=10.0), Key("rich", role="use", space="acme")
    file = keys_file(tmp_path / "keys", poor, rich)
    llm = RuvLLM(encoder="static", state=tmp_path / "state.db", backends={"small": Dear()})
    with serving(llm, keys_file=file) as edge:
        said = edge.post("/v1/chat/completions", CHAT, headers=header("poor"))
        assert said.status_code == 200
        usage = edge.get("/v1/usage", headers=header("poor")).json()
        (row,) = usage["keys"]
        assert row["spent_today"] == row["cost"] > 10
        assert row["left_today"] == 0
        refused = {
            "/v1/chat/completions": CHAT, "/v1/messages": CHAT | {"model": "auto", "max_tokens": 9},
            "/v1/responses": {"input": "hi"}, "/v1/completions": {"model": "auto", "prompt": "hi"},
            "/api/chat": CHAT | {"model": "auto", "stream": False}, "/v1/query": {"query": "hi"},
        }  # fmt: skip
        for path, body in refused.items():
            answer = edge.post(path, body, headers=header("poor"))
            assert answer.status_code == 429, path
            assert 0 < int(answer.headers["retry-after"]) <= usage["day_ends"] + 60
            assert "$10" in answer.text
        assert (
            edge.post("/v1/chat/completions", CHAT, headers=header("poor")).json()["error"]["code"]
            == "insufficient_quota"
        )
        assert edge.post("/v1/route", {"text": "fix it"}, headers=header("poor")).status_code == 200  # costs nothing
        assert edge.post("/v1/chat/completions", CHAT, headers=header("rich")).status_code == 200
        more = Key(**{name: getattr(poor, name) for name in Key.__slots__} | {"budget": 1e6})
        keys_file(file, more, rich)
        assert edge.post("/v1/chat/completions", CHAT, headers=header("poor")).status_code == 200
        keys_file(file, poor, rich)
        edge.stop()
    with serving(
        RuvLLM(encoder="static", state=tmp_path / "state.db", backends={"small": Dear()}), keys_file=file
    ) as edge:
        assert edge.post("/v1/chat/completions", CHAT, headers=header("poor")).status_code == 429


def test_a_stream_that_is_broken_off_is_paid_for(tmp_path: Path):
    file = keys_file(tmp_path / "keys", Key("poor", role="use", space="acme", budget=1.0))
    llm = RuvLLM(encoder="static", state=tmp_path / "state.db", backends={"small": Dear(held_after=1)})
    with serving(llm, keys_file=file) as edge:
        with edge.client.stream(
            "POST", "/v1/chat/completions", json=CHAT | {"stream": True}, headers=header("poor")
        ) as got:
            next(got.iter_lines())
        until(lambda: edge.get("/v1/usage", headers=header("poor")).json()["keys"][0]["spent_today"] > 0)
        assert edge.post("/v1/chat/completions", CHAT, headers=header("poor")).status_code == 429


def test_a_key_has_a_rate_of_its_own(tmp_path: Path):
    file = keys_file(tmp_path / "keys", Key("slow", rate=0.01), Key("fast"))
    with serving(RuvLLM(encoder="static", state=tmp_path / "state.db"), keys_file=file) as edge:
        assert [edge.get("/v1/agents", headers=header("slow")).status_code for _ in range(2)] == [200, 429]
        assert [edge.get("/v1/agents", headers=header("fast")).status_code for _ in range(3)] == [200] * 3


def test_models_that_a_key_may_not_use_are_not_there_for_it(tmp_path: Path):
    small, large = Writer("cheap", "cheap-1"), Writer("dear", "dear-1")
    held = Key("held", role="use", models=("cheap-1",))
    file = keys_file(tmp_path / "keys", held, Key("free"), Key("none", models=("gone",)))
    llm = RuvLLM(encoder="static", state=tmp_path / "state.db", backends={"small": small, "large": large})
    hard = "design a distributed consensus architecture with threat model and migration from scratch"
    ask = {"messages": [{"role": "user", "content": hard}]}
    with serving(llm, keys_file=file) as edge:
        shown = [one["id"] for one in edge.get("/v1/models", headers=header("held")).json()["data"]]
        assert {"auto", "cheap-1"} <= set(shown) <= {"auto", "small", "booster", "cheap", "cheap-1"}
        assert "dear" not in edge.get("/api/tags", headers=header("held")).text
        assert edge.get("/v1/models/dear-1", headers=header("held")).status_code == 404
        free = edge.post("/v1/chat/completions", ask | {"model": "auto"}, headers=header("free"))
        assert free.json()["model"] == "dear-1"
        for path, body in {
            "/v1/chat/completions": ask, "/v1/messages": ask | {"max_tokens": 99}, "/v1/responses": {"input": hard},
            "/v1/completions": {"prompt": hard}, "/api/chat": ask | {"stream": False},
        }.items():  # fmt: skip
            said = edge.post(path, body | {"model": "auto"}, headers=header("held"))
            assert (said.status_code, said.headers["x-ruvllm-model"]) == (200, "cheap-1"), path
            named = [edge.post(path, body | {"model": model}, headers=header("held")) for model in ("dear-1", "nobody")]
            assert [one.status_code for one in named] == [404, 404], path
        said = edge.post("/v1/query", {"query": hard}, headers=header("held"))
        assert said.json()["routing"]["model"] == "cheap-1"
        forced = edge.post("/v1/query", {"query": hard, "force_model": "dear-1"}, headers=header("held"))
        assert (forced.status_code, forced.json()["field"]) == (422, "force_model")
        asked = len(large.asked)
        assert (
            edge.post(
                "/v1/query", {"query": f"{hard} and then test it", "deep": True}, headers=header("held")
            ).status_code
            == 200
        )
        assert len(large.asked) == asked
        embed = {"model": "auto", "input": ["a"]}
        assert edge.post("/v1/embeddings", embed, headers=header("held")).status_code == 404
        assert edge.post("/api/embed", embed, headers=header("held")).status_code == 404
        assert edge.post("/v1/embeddings", embed, headers=header("free")).status_code == 200
        assert edge.post("/v1/chat/completions", ask, headers=header("none")).status_code == 400
        small.fails_after = 0  # and what fails is not answered by another one
        assert edge.post("/v1/chat/completions", ask | {"model": "auto"}, headers=header("held")).status_code == 503
        assert len(large.asked) == asked


def test_spaces_are_closed_for_others_and_lose_nothing(tmp_path: Path):
    spaces = [f"space-{i}" for i in range(4)]
    held = [Key(space, role="teach", space=space) for space in spaces]
    file = keys_file(tmp_path / "keys", *held, Key("owner", role="admin"))
    backend = Writer(held_after=1)
    llm = RuvLLM(encoder="static", state=tmp_path / "state.db", backends={"small": backend})
    with serving(llm, True, keys_file=file, spaces=tmp_path / "s", max_spaces=1, rate=0) as edge:

        def opened(count: int) -> bool:
            return f"ruvllm_spaces_open {count}.0" in edge.get("/metrics", headers=header("owner")).text

        streamed = CHAT | {"stream": True}
        with edge.client.stream("POST", "/v1/chat/completions", json=streamed, headers=header(spaces[0])) as answer:
            lines = answer.iter_lines()
            next(lines)
            for space in spaces[1:]:
                edge.post("/v1/memory", {"memories": [{"text": f"of {space}"}]}, headers=header(space))
            until(lambda: opened(2))  # the default one, and the one in use
            backend.go.set()
            assert "data: [DONE]" in list(lines)
        for space in spaces[1:]:
            found = edge.post("/v1/memory/search", {"query": "of"}, headers=header(space)).json()["memories"]
            assert [one["text"] for one in found] == [f"of {space}"]
        until(lambda: opened(2))
    assert {one.name for one in (tmp_path / "s").glob("*.db")} == {f"{space}.db" for space in spaces}


def test_a_space_is_exported_restored_and_deleted(tmp_path: Path):
    file = keys_file(tmp_path / "keys", Key("boss", role="admin", space="acme"), Key("other", role="admin", space="b"))
    llm = RuvLLM(encoder="static", state=tmp_path / "state.db")
    search = {"query": "the copper kettle"}

    def remembered(edge: Running, name: str) -> int:
        return len(edge.post("/v1/memory/search", search, headers=header(name)).json()["memories"])

    with serving(llm, True, keys_file=file, max_state=16 << 20) as edge:
        for name in ("boss", "other"):
            text = {"memories": [{"text": "the copper kettle"}]}
            assert edge.post("/v1/memory", text, headers=header(name)).status_code == 200
        agent = {"agents": [{"name": "polisher", "description": "Polishes copper kettles."}]}
        assert edge.client.put("/v1/agents?wait=30", json=agent, headers=header("boss")).status_code == 200
        session = edge.post("/v1/sessions", {}, headers=header("boss")).json()["session_id"]
        exported = edge.get("/v1/state", headers=header("boss"))
        assert exported.content.startswith(b"SQLite format 3")
        assert edge.client.delete("/v1/state", headers=header("boss")).status_code == 204
        assert (remembered(edge, "boss"), remembered(edge, "other")) == (0, 1)
        assert "polisher" not in edge.get("/v1/agents", headers=header("boss")).text
        assert edge.get(f"/v1/sessions/{session}", headers=header("boss")).status_code == 404
        kept = b"".join(one.read_bytes() for one in (tmp_path / "state.db.spaces").glob("acme.db*"))
        assert b"copper kettle" not in kept
        assert edge.client.put("/v1/state", content=exported.content, headers=header("boss")).status_code == 204
        assert (remembered(edge, "boss"), remembered(edge, "other")) == (1, 1)
        assert "polisher" in edge.get("/v1/agents", headers=header("boss")).text
        assert edge.get(f"/v1/sessions/{session}", headers=header("boss")).status_code == 200


def test_the_key_of_a_single_user_may_do_everything_as_before(tmp_path: Path):
    file = tmp_path / "keys"
    key = CliRunner().invoke(main, ["keys", "add", "me", "--file", str(file)]).output.strip()
    assert file.read_text() == f"me sha256:{sha256(key.encode()).hexdigest()}\n"
    with serving(RuvLLM(encoder="static", state=tmp_path / "state.db"), keys_file=file, max_state=16 << 20) as edge:
        assert edge.get("/v1/state", headers={"x-api-key": key}).status_code == 200
        assert "ruvllm_requests_total" in edge.get("/metrics", headers={"x-api-key": key}).text
    assert Key.read(f"old sha256:{'0' * 64} admin").admin


WRONG = ("role=god", "space=../up", "budget=-1", "rate=nan", "adds=magic", "what")


@pytest.mark.parametrize("line", ["x sha256:12", *(f"x sha256:{'0' * 64} {word}" for word in WRONG)])
def test_a_line_that_is_no_key_is_refused(line: str):
    with pytest.raises(ValueError):  # noqa: PT011 - its message is for nobody
        Key.read(line)


def test_a_key_is_written_as_it_is_read():
    key = Key("k", b"\1" * 32, "use", "acme", ("gpt 4,o", "small"), 0.5, 3.0, 8, "abc")
    for adds in (None, (), ("memory", "write-back")):
        assert Key.read(replace(key, adds=adds).line()) == replace(key, adds=adds)


def test_more_rows_than_fit_leave_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ruvllm_edge.audit._MOST", 100)
    log = Audit(tmp_path / "audit")
    for number in range(3):
        log.add(f"GET /{number}", 200, key="k")
        log.write()
    assert [row["action"] for row in read_audit(tmp_path / "audit")] == ["GET /0", "GET /1", "GET /2"]
    with (tmp_path / "audit").open("ab") as out:
        out.write(b'{"time": "cut')
    assert len(read_audit(tmp_path / "audit", most=2)) == 2


def test_spaces_are_exported_restored_and_deleted_from_the_command_line_beside_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ruvllm_edge.server._TICK", 0.01)
    file = keys_file(tmp_path / "keys", Key("boss", role="admin", space="acme"))
    run, state = CliRunner(), tmp_path / "state.db"

    def cli(*words: str) -> str:
        done = run.invoke(main, ["--state", str(state), "state", *words])
        assert done.exit_code == 0, done.output
        return done.output

    with serving(RuvLLM(encoder="static", state=state), True, keys_file=file, rate=0) as edge:

        def remembered(count: int) -> bool:
            found = edge.post("/v1/memory/search", {"query": "the copper kettle"}, headers=header("boss"))
            return len(found.json()["memories"]) == count

        text = {"memories": [{"text": "the copper kettle"}]}
        assert edge.post("/v1/memory", text, headers=header("boss")).status_code == 200
        agent = {"agents": [{"name": "polisher", "description": "Polishes copper kettles."}]}
        assert edge.client.put("/v1/agents?wait=30", json=agent, headers=header("boss")).status_code == 200
        cli("export", str(tmp_path / "acme.db"), "--space", "acme")
        cli("delete", "--space", "acme", "--yes")
        until(lambda: remembered(0))
        until(lambda: "polisher" not in edge.get("/v1/agents", headers=header("boss")).text)
        cli("restore", str(tmp_path / "acme.db"), "--space", "acme")
        until(lambda: remembered(1))
        until(lambda: "polisher" in edge.get("/v1/agents", headers=header("boss")).text)
        assert {row["space"] for row in json.loads(cli("spaces", "--json"))} == {"default", "acme"}
    wrong = run.invoke(main, ["--state", str(state), "state", "delete", "--space", "../state", "--yes"])
    assert (wrong.exit_code, "no space is called" in wrong.output) == (2, True)
