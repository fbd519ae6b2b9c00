"""Who may call, how often, how much; and what is written down about it."""

from __future__ import annotations

import json
import logging
import socket
from hashlib import sha256
from pathlib import Path
from threading import Thread

import httpx
import pytest
from click.testing import CliRunner
from conftest import Writer, serving
from waiting import PATIENCE, until

from ruvllm import ConfigError, RuvLLM
from ruvllm.cli.main import main
from ruvllm.errors import BackendError
from ruvllm_edge import Settings
from ruvllm_edge.auth import Buckets, KeyRing, new_key, read_keys
from ruvllm_edge.logs import start_logging

KEY = "rv-0123456789abcdefghijklmnop"
TASK = {"text": "fix the login page"}
FEEDBACK = {"text": "polish the copper kettle", "agent": "reviewer"}


def static(**backends: Writer) -> RuvLLM:
    return RuvLLM(encoder="static", backends=backends or None)


def test_a_key_is_asked_for_everywhere_but_at_the_door():
    with serving(static(), api_keys=(KEY,)) as edge:
        for path in ("/health", "/ready", "/v1/health", "/openapi.json", "/docs"):
            assert edge.get(path).status_code == 200
        refused = edge.post("/v1/route", TASK)
        assert (refused.status_code, refused.json()["field"]) == (401, "authorization")
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert edge.get("/metrics").status_code == 401
        assert edge.post("/v1/route", TASK, headers={"authorization": "Bearer rv-wrong"}).status_code == 401
        assert edge.post("/v1/route", TASK, headers={"authorization": f"Bearer {KEY}"}).status_code == 200
        assert edge.post("/v1/route", TASK, headers={"x-api-key": KEY}).status_code == 200
        body = {"messages": [{"role": "user", "content": "hi"}]}
        assert edge.post("/v1/chat/completions", body).json()["error"]["code"] == "invalid_api_key"


def test_of_two_keys_in_two_headers_one_need_be_right():
    with serving(static(), api_keys=(KEY,)) as edge:
        for headers in (
            {"authorization": f"Bearer {KEY}", "x-api-key": "sk-ant-of-another-server"},
            {"authorization": "Bearer sk-of-another-server", "x-api-key": KEY},
            {"authorization": "Basic abc", "x-api-key": KEY},
        ):
            assert edge.post("/v1/route", TASK, headers=headers).status_code == 200
        wrong = {"authorization": "Bearer sk-of-another-server", "x-api-key": "sk-ant-of-another-server"}
        assert edge.post("/v1/route", TASK, headers=wrong).status_code == 401


def test_each_key_has_its_own_rate():
    other = KEY[::-1]
    with serving(static(), api_keys=(KEY, other), rate=0.5, burst=3) as edge:
        answers = [edge.post("/v1/route", TASK, headers={"x-api-key": KEY}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
        assert edge.post("/v1/route", TASK, headers={"x-api-key": other}).status_code == 200


def test_a_bucket_fills_again():
    buckets = Buckets(rate=2, burst=1)
    assert buckets.take("a", 0.0) == 0
    assert buckets.take("a", 0.0) == pytest.approx(0.5)
    assert buckets.take("a", 0.6) == 0
    assert Buckets(rate=0, burst=1).take("a", 0.0) == 0


def test_keys_are_kept_as_hashes(tmp_path):
    file = tmp_path / "keys.txt"
    run = CliRunner()
    key = run.invoke(main, ["keys", "add", "laptop", "--file", str(file)]).output.strip()
    assert key not in file.read_text()
    assert sha256(key.encode()).hexdigest() in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    found = read_keys(file).find(key)
    assert found is not None
    assert (found.name, found.admin) == ("laptop", False)
    assert read_keys(file).find(key + "x") is None
    assert run.invoke(main, ["keys", "add", "laptop", "--file", str(file)]).exit_code == 2
    assert run.invoke(main, ["keys", "list", "--file", str(file)]).output == "laptop\n"
    with serving(static(), keys_file=file) as edge:
        assert edge.post("/v1/route", TASK).status_code == 401
        assert edge.post("/v1/route", TASK, headers={"x-api-key": key}).status_code == 200
    run.invoke(main, ["keys", "remove", "laptop", "--file", str(file)])
    assert read_keys(file).find(key) is None


def test_sessions_belong_to_their_key(tmp_path: Path):
    ada, bob, state = {"x-api-key": KEY}, {"x-api-key": KEY[::-1]}, tmp_path / "state.db"
    with serving(RuvLLM(encoder="static", state=state), api_keys=(KEY, KEY[::-1]), max_state=8 << 20) as edge:
        name = edge.post("/v1/sessions", {}, headers=ada).json()["session_id"]
        again = edge.post("/session", {}, headers=ada).json()["session_id"]
        for path in ("/query", "/v1/query"):
            assert edge.post(path, {"query": "hello", "session_id": name}, headers=ada).status_code == 200
            other = edge.post(path, {"query": "hello", "session_id": name}, headers=bob)
            none = edge.post(path, {"query": "hello", "session_id": f"{name}0"}, headers=bob)
            assert (other.status_code, other.json()["field"]) == (404, "session")
            assert other.json() | {"request_id": ""} == none.json() | {"request_id": ""}
        assert edge.get(f"/v1/sessions/{name}", headers=bob).status_code == 404
        assert edge.client.delete(f"/v1/sessions/{name}", headers=bob).status_code == 404
        assert len(edge.get(f"/v1/sessions/{name}", headers=ada).json()["history"]) == 4
        assert edge.client.delete(f"/v1/sessions/{again}", headers=ada).status_code == 204
        for method in ("GET", "PUT"):  # the state holds all sessions
            assert edge.client.request(method, "/v1/state", content=b"a", headers=ada).status_code == 403
        assert edge.post("/v1/sessions", {"metadata": {"id": name}}, headers=bob).json()["session_id"] != name
    with serving(RuvLLM(encoder="static", state=state), api_keys=(KEY, KEY[::-1])) as edge:
        assert edge.get(f"/v1/sessions/{name}", headers=bob).status_code == 404
        assert edge.get(f"/v1/sessions/{name}", headers=ada).status_code == 200
    with serving(RuvLLM(encoder="static", state=state)) as edge:  # whoever runs it, with all that is in it
        assert edge.get(f"/v1/sessions/{name}").status_code == 200


@pytest.mark.parametrize(("keys", "shared", "written"), [(1, False, True), (2, False, False), (2, True, True)])
def test_answers_are_written_back_unless_several_keys_would_find_them(keys: int, shared: bool, written: bool):
    llm = static(small=Writer())
    assert llm.backends  # as the command opens them before it serves
    body = {"messages": [{"role": "user", "content": "implement the login form with React and TypeScript"}]}
    adds = ("write-back",)
    with serving(llm, api_keys=(KEY, KEY[::-1])[:keys], share_answers=shared, chat_adds=adds) as edge:
        header = {"x-api-key": KEY}
        assert edge.post("/v1/chat/completions", body, headers=header).status_code == 200
        answer = edge.post("/query", {"query": body["messages"][0]["content"]}, headers=header).json()
        edge.post("/v1/feedback", {"request_id": answer["request_id"], "rating": 5}, headers=header)
        stats = edge.get("/v1/stats", headers=header).json()
        assert stats["write_back"] is written
        assert (stats["waiting"] + stats["memory_nodes"] > 0) is written


def test_addresses_paths_and_what_backends_said_are_told_to_administrators_and_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    file, state, run = tmp_path / "keys", tmp_path / "state.db", CliRunner()
    add = ["keys", "add", "--file", str(file)]
    key, admin = (run.invoke(main, [*add, *more]).output.strip() for more in (["laptop"], ["owner", "--admin"]))
    assert run.invoke(main, ["keys", "list", "--file", str(file)]).output == "laptop\nowner (admin)\n"

    class Broken(Writer):
        async def stream(self, messages, params):
            raise BackendError("http://10.0.0.7:8080 said: CUDA of tenant 12", kind="refused", field="url")
            yield

    chat = {"messages": [{"role": "user", "content": "hi"}]}
    asked = {
        "/query": {"query": "hi"},
        "/v1/chat/completions": chat,
        "/v1/messages": chat | {"model": "auto", "max_tokens": 9},
    }
    llm = RuvLLM(encoder="static", state=state, backends={"small": Broken()})
    with serving(llm, keys_file=file) as edge, caplog.at_level(logging.WARNING, "ruvllm.edge"):
        for stream in (False, True):
            for path, body in asked.items():
                more = {"stream": stream} if path != "/query" else {}
                answers = [edge.post(path, body | more, headers={"x-api-key": one}) for one in (key, admin)]
                assert [answer.status_code for answer in answers] == [502, 502]
                assert ["10.0.0.7" in answer.text for answer in answers] == [False, True]
                assert ["CUDA" in answer.text for answer in answers] == [False, True]
        told = [record.data["problem"] for record in caplog.records if record.getMessage() == "failed"]
        assert len(told) == 12
        assert all("10.0.0.7" in problem for problem in told)
        stats = [edge.get("/v1/stats", headers={"x-api-key": one}).json() for one in (key, admin)]
        assert ["state" in row for row in stats] == [False, True]
        assert str(tmp_path) not in json.dumps(stats[0])
        edge.llm.store.close()
        broken = [edge.post("/v1/feedback", FEEDBACK, headers={"x-api-key": one}) for one in (key, admin)]
        assert [answer.status_code for answer in broken] == [503, 503]
        assert ["administrator" in answer.json()["fix"] for answer in broken] == [True, False]


def test_a_short_key_and_a_damaged_file_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="too short"):
        KeyRing.of(["secret"])
    (tmp_path / "keys").write_text("laptop sha256:123\n")
    with pytest.raises(ConfigError, match=":1 is no key"):
        read_keys(tmp_path / "keys")
    assert len(new_key()) > 40


def test_the_environment_is_read_and_keys_are_not_shown():
    settings = Settings.from_env({"RUVLLM_PORT": "81", "RUVLLM_API_KEYS": f"{KEY}, {KEY}2", "RUVLLM_RATE": "1.5"})
    assert (settings.port, settings.rate, len(settings.api_keys)) == (81, 1.5, 2)
    assert KEY not in repr(settings)
    for name, value in (("PORT", "many"), ("PORT", "70000"), ("RATE", "-1"), ("ORIGINS", "*"), ("LOG_LEVEL", "loud")):
        with pytest.raises(ConfigError) as caught:
            Settings.from_env({f"RUVLLM_{name}": value})
        assert caught.value.field == f"RUVLLM_{name}"


def test_a_public_address_needs_a_key_or_force():
    answer = CliRunner().invoke(main, ["serve", "--host", "0.0.0.0", "--port", "0"])
    assert answer.exit_code == 2
    assert "no key is needed" in answer.output


def test_other_origins_and_names_are_kept_out():
    with serving(static(), origins=("https://app.example",)) as edge:
        stranger = edge.post("/v1/route", TASK, headers={"origin": "https://evil.example"})
        assert (stranger.status_code, stranger.json()["field"]) == (403, "origin")
        assert "access-control-allow-origin" not in stranger.headers
        friend = edge.post("/v1/route", TASK, headers={"origin": "https://app.example"})
        assert friend.headers["access-control-allow-origin"] == "https://app.example"
        asked = edge.client.options("/v1/route", headers={"origin": "https://app.example"})
        assert asked.status_code == 204
        assert "POST" in asked.headers["access-control-allow-methods"]
        own = edge.post("/v1/route", TASK, headers={"origin": edge.url})
        assert own.status_code == 200
        secure = edge.post("/v1/route", TASK, headers={"origin": edge.url.replace("http:", "https:")})
        assert (secure.status_code, secure.json()["field"]) == (403, "origin")  # another page, in front of this port
        assert f"RUVLLM_ORIGINS={edge.url.replace('http:', 'https:')}" in secure.json()["fix"]
        for origin in ("null", f"ftp://127.0.0.1:{edge.port}", f"127.0.0.1:{edge.port}"):
            assert edge.post("/v1/route", TASK, headers={"origin": origin}).status_code == 403
        rebound = edge.post("/v1/route", TASK, headers={"host": f"evil.example:{edge.port}"})
        assert (rebound.status_code, rebound.json()["field"]) == (421, "host")


def test_bodies_have_a_largest_size():
    with serving(static(), max_body=2_000) as edge:
        large = {"text": "a" * 3_000}
        assert edge.post("/v1/route", large).status_code == 413
        pieces = (piece for piece in [b'{"text": "', *[b"a" * 500] * 6, b'"}'])
        answer = edge.client.post("/v1/route", content=pieces, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert edge.post("/v1/route", TASK).status_code == 200


def test_a_body_that_never_comes_is_given_up():
    with serving(static(), body_timeout=0.3) as edge, socket.create_connection(("127.0.0.1", edge.port)) as sock:
        head = f"POST /v1/route HTTP/1.1\r\nhost: 127.0.0.1:{edge.port}\r\ncontent-type: application/json\r\n"
        sock.sendall(head.encode() + b'content-length: 50\r\n\r\n{"te')
        sock.settimeout(PATIENCE)
        assert b" 408 " in sock.recv(1_000).split(b"\r\n")[0]


def test_a_full_queue_says_come_back_later():
    writer = Writer(held_after=1)
    with serving(static(small=writer), max_answers=1, queue=1) as edge:
        codes: list[int] = []

        def ask() -> None:
            with httpx.Client(base_url=edge.url, timeout=PATIENCE) as client:
                codes.append(client.post("/query", json={"query": "one two three"}).status_code)

        askers = [Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        until(lambda: len(codes) == 2 and writer.asked)
        assert edge.post("/v1/route", TASK).status_code == 200  # routing does not stand in that queue
        assert codes == [503, 503]
        writer.go.set()
        for asker in askers:
            asker.join()
        assert sorted(codes) == [200, 200, 503, 503]


def test_an_answer_has_a_time_limit():
    with serving(static(small=Writer(held_after=1)), timeout=0.3) as edge:
        answer = edge.post("/query", {"query": "one two"})
        assert (answer.status_code, bool(answer.json()["fix"])) == (504, True)


def test_who_leaves_stops_the_backend():
    writer = Writer(held_after=3)
    with serving(static(small=writer)) as edge:
        body = {"messages": [{"role": "user", "content": "word " * 9}], "stream": True}
        with edge.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            next(answer.iter_lines())
        until(lambda: writer.stopped == 1)
        with socket.create_connection(("127.0.0.1", edge.port), timeout=PATIENCE) as sock:
            said = json.dumps(body | {"stream": False})
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{edge.port}\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(said)}\r\n\r\n"
            sock.sendall((head + said).encode())
            until(lambda: len(writer.asked) == 2)
        until(lambda: writer.stopped == 2)


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/responses", {"input": "word " * 9, "stream": True}),
     ("/v1/completions", {"prompt": ["word " * 9, "next"], "stream": True}),
     ("/api/chat", {"model": "auto", "messages": [{"role": "user", "content": "word " * 9}]})],
)  # fmt: skip
def test_who_leaves_a_translated_stream_stops_the_backend(path: str, body: dict[str, object]):
    writer = Writer(held_after=3)
    with serving(static(small=writer)) as edge:
        with edge.client.stream("POST", path, json=body) as answer:
            next(answer.iter_lines())
        until(lambda: writer.stopped == 1)
        assert len(writer.asked) == 1


def test_the_log_has_neither_keys_nor_prompts(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    for name in ("ruvllm", "uvicorn"):
        for attribute in ("handlers", "propagate", "level"):
            monkeypatch.setattr(logging.getLogger(name), attribute, getattr(logging.getLogger(name), attribute))
    start_logging("info")
    with serving(static(), api_keys=(KEY,)) as edge:
        edge.post("/v1/route", {"text": "my very secret task"}, headers={"x-api-key": KEY})
        edge.post("/v1/route?key=visible", {"text": 3}, headers={"authorization": "Bearer rv-other-key-of-somebody"})
    told = capfd.readouterr().err
    rows = [json.loads(line) for line in told.splitlines()]
    asked = [row for row in rows if row["event"] == "request" and row["path"] == "/v1/route"]
    assert [row["status"] for row in asked] == [200, 401]
    for secret in (KEY, "secret task", "visible", "somebody"):
        assert secret not in told
    with serving(static(), log_prompts=True) as edge:
        edge.post("/v1/route", {"text": "a task that may be seen"})
    assert "a task that may be seen" in capfd.readouterr().err


def test_a_state_is_taken_or_replaced_only_where_the_owner_lets_it():
    with serving(RuvLLM(encoder="static")) as edge:
        for method, content in (("GET", None), ("PUT", b"SQLite format 3\0")):
            answer = edge.client.request(method, "/v1/state", content=content)
            assert (answer.status_code, answer.json()["field"]) == (403, "state")
            assert "RUVLLM_MAX_STATE" in answer.json()["fix"]
    with serving(RuvLLM(encoder="static"), max_state=1 << 20) as edge:
        edge.post("/v1/feedback", {"text": "tune the cello", "agent": "planner"})
        state = edge.get("/v1/state")
        assert (state.headers["content-type"], state.content[:15]) == ("application/octet-stream", b"SQLite format 3")
        assert edge.client.put("/v1/state", content=bytes(2 << 20)).status_code == 413
        assert edge.client.put("/v1/state", content=state.content[:5000]).status_code == 422
        assert edge.get("/v1/stats").json()["feedback"] == 1
    with serving(RuvLLM(encoder="static"), max_state=1 << 20) as edge:
        assert edge.client.put("/v1/state", content=state.content).status_code == 204
        assert edge.get("/v1/stats").json()["feedback"] == 1
        assert edge.post("/v1/route", {"text": "tune the cello"}).json()["agent"] == "planner"
        edge.post("/v1/memory", {"memories": [{"text": "x" * 1_000_000}]})
        assert edge.get("/v1/state").status_code == 413
    with pytest.raises(ConfigError, match="max_state"):
        Settings(max_state=2 << 20, bodies_memory=1 << 20)
