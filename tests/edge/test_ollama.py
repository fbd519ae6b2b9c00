"""Ollama's API, in lines of JSON, by its own Python client where that is installed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from conftest import Running, Writer
from llm_server import answer
from test_backends import llm_server
from test_tools import ASK, CALL, OPENAI_TOOLS, SERVED, WHOLE, before

from ruvllm import __version__

TURNS = [{"role": "user", "content": "write three short words"}]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UP_KEY", "secret-of-the-server")


def lines(edge: Running, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    found = edge.post(path, {"model": "auto"} | body)
    assert found.status_code == 200, found.text
    assert found.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in found.text.splitlines()]


def test_a_chat_comes_in_lines(edge: Running, writer: Writer):
    options = {"temperature": 0.5, "num_predict": 9, "top_k": 3, "num_ctx": 4096}
    found = lines(edge, "/api/chat", {"messages": TURNS, "options": options, "model": "auto:latest"})
    texts = [one["message"]["content"] for one in found]
    assert (texts, found[-1]["done"], found[-1]["done_reason"]) == (
        ["write ", "three ", "short ", "words ", ""],
        True,
        "stop",
    )
    assert found[-1]["eval_count"] > 0
    assert {one["model"] for one in found} == {"auto:latest"}
    params = writer.params[-1]
    assert (params.temperature, params.max_tokens, params.top_k) == (0.5, 9, 3)
    whole = edge.post("/api/chat", {"model": "auto", "messages": TURNS, "stream": False, "options": options})
    assert whole.json()["message"] == {"role": "assistant", "content": "write three short words "}
    assert whole.headers["x-ruvllm-ignored"] == "options.num_ctx"


def test_a_prompt_is_answered(edge: Running, writer: Writer):
    found = lines(edge, "/api/generate", {"prompt": "two words", "system": "Be brief."})
    assert [one["response"] for one in found] == ["two ", "words ", ""]
    assert [one.role for one in writer.asked[-1]] == ["system", "user"]
    whole = edge.post("/api/generate", {"model": "auto", "prompt": "two words", "stream": False}).json()
    assert (whole["response"], whole["done"]) == ("two words ", True)
    nothing = edge.post("/api/generate", {"model": "auto"}).json()
    assert (nothing["response"], nothing["done_reason"]) == ("", "load")


def test_a_body_may_be_declared_as_nothing_unless_a_page_sends_it(edge: Running):
    """As Ollama's own examples do with curl."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = json.dumps({"model": "auto", "prompt": "two words", "stream": False})
    assert edge.client.post("/api/generate", content=body, headers=form).json()["response"] == "two words "
    sent = edge.client.post("/api/generate", content=body, headers=form | {"origin": edge.url})
    assert sent.status_code == 415


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("upstream", ["openai", "anthropic"])
def test_tools_and_images_reach_either_server(upstream: str, streamed: bool):
    turns = [
        {"role": "user", "content": ASK, "images": ["iVBORw0KGgo="]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "write", "arguments": CALL}}]},
        {"role": "tool", "tool_name": "write", "content": "no such folder"},
    ]
    body = {"model": "auto", "messages": turns, "tools": OPENAI_TOOLS, "stream": streamed, "format": {"type": "object"}}
    with llm_server(SERVED[upstream, streamed]) as server, before(server, upstream) as edge:
        found = lines(edge, "/api/chat", body) if streamed else [edge.post("/api/chat", body).json()]
        sent = server.requests[-1].body
    calls = [call for one in found for call in one["message"].get("tool_calls", ())]
    assert [call["function"] for call in calls] == [{"name": "write", "arguments": CALL}]
    assert "".join(one["message"]["content"] for one in found) == "I write."
    assert (found[-1]["prompt_eval_count"], found[-1]["eval_count"]) == (9, 4)
    if upstream == "openai":
        first, second, third = sent["messages"]
        assert first["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
        assert second["tool_calls"][0]["id"] == third["tool_call_id"]
        assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}
    else:
        assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]


def test_thoughts_have_a_field_of_their_own():
    message = {"role": "assistant", "content": "Yes.", "reasoning_content": "hm"}
    body = WHOLE | {"choices": [{"index": 0, "finish_reason": "length", "message": message}]}
    with llm_server(answer(200, body)) as server, before(server) as edge:
        found = edge.post("/api/chat", {"model": "auto", "messages": TURNS, "stream": False, "think": True}).json()
    assert (found["message"]["thinking"], found["message"]["content"], found["done_reason"]) == ("hm", "Yes.", "length")


@pytest.mark.parametrize(
    ("path", "change", "name"),
    [
        ("/api/chat", {"options": {"mirostat": 1}}, "options.mirostat"),
        ("/api/chat", {"logprobs": True}, "logprobs"),
        ("/api/chat", {"new_field": 1}, "new_field"),
        ("/api/chat", {"messages": [{"content": "x"}]}, "messages"),
        ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": [5]}]}, "messages"),
        ("/api/generate", {"suffix": "x", "messages": None}, "suffix"),
        ("/api/generate", {"context": [1], "messages": None}, "context"),
        ("/api/chat", {"options": {"temperature": 9}}, "temperature"),
    ],
)
def test_what_cannot_be_passed_on_is_refused_by_name(path: str, change: dict[str, Any], name: str, edge: Running):
    found = edge.post(path, {"model": "auto", "messages": TURNS} | change)
    assert (found.status_code, list(found.json())) == (400, ["error"])
    assert name in found.json()["error"]


def test_models_are_listed_and_others_are_not_there(edge: Running):
    names = [one["name"] for one in edge.get("/api/tags").json()["models"]]
    assert {"auto:latest", "small:latest"} <= set(names)
    assert edge.get("/api/version").json() == {"version": __version__}
    found = edge.post("/api/chat", {"model": "llama3.2", "messages": TURNS})
    assert (found.status_code, "model 'llama3.2' not found" in found.json()["error"]) == (404, True)


def test_texts_are_placed_in_the_same_space(edge: Running):
    texts = ["fix the login", "hello"]
    found = edge.post("/api/embed", {"model": "auto", "input": texts}).json()
    rows = np.array(found["embeddings"], np.float32)
    other = edge.post("/v1/embeddings", {"input": texts}).json()["data"]
    np.testing.assert_array_equal(rows, np.array([one["embedding"] for one in other], np.float32))
    short = edge.post("/api/embed", {"model": "auto", "input": texts, "dimensions": 16}).json()["embeddings"]
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, rtol=1e-5)


def test_pages_of_other_origins_and_names_may_not_call(edge: Running):
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
        assert edge.get("/api/tags", headers=headers).status_code in (403, 421)
        assert edge.post("/api/chat", {"model": "auto", "messages": TURNS}, headers=headers).status_code in (403, 421)


def test_ollamas_own_client_works(edge: Running):
    ollama = pytest.importorskip("ollama", reason="Ollama's client is not installed: pip install ollama")
    client = ollama.Client(host=edge.url)
    assert client.chat("auto", TURNS).message.content == "write three short words "
    assert "".join(one.message.content for one in client.chat("auto", TURNS, stream=True)) == "write three short words "
    assert client.generate("auto", "two words").response == "two words "
    assert len(client.embed("auto", ["a", "b"]).embeddings) == 2
    assert "auto:latest" in [one.model for one in client.list().models]
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.chat("llama3.2", TURNS)
