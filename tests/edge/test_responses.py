"""OpenAI's Responses API, by its own Python client, in front of servers of both other APIs and of text alone."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any

import openai
import pytest
from conftest import Running, Writer, serving
from hypothesis import given
from hypothesis import strategies as st
from llm_server import answer, chunk, events, stream
from openai import OpenAI
from test_backends import llm_server
from test_tools import ASK, CALL, SERVED, WHOLE, before

from ruvllm import RuvLLM
from ruvllm.state.store import Store
from ruvllm_edge.conversations import question_of
from ruvllm_edge.problems import Problem
from ruvllm_edge.responses_in import Tool, chat_request
from ruvllm_edge.responses_out import ResponseWriter
from ruvllm_edge.stored_responses import StoredResponses

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
TOOLS = [{"type": "function", "name": "write", "description": "writes a file", "strict": None, "parameters": SCHEMA}]
ITEMS = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "input_text", "text": ASK},
                                 {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"},
    {"type": "function_call", "call_id": "c1", "name": "write", "arguments": json.dumps(CALL)},
    {"type": "function_call_output", "call_id": "c1", "output": "no such folder"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UP_KEY", "secret-of-the-server")


def client_of(edge: Running) -> OpenAI:
    return OpenAI(base_url=f"{edge.url}/v1", api_key="mine", max_retries=0)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("upstream", ["openai", "anthropic"])
def test_openais_client_gets_the_calls_of_either_server(upstream: str, streamed: bool):
    body: dict[str, Any] = {
        "model": "auto", "input": ITEMS, "instructions": "Be kind.", "tools": TOOLS, "tool_choice": "required",
        "parallel_tool_calls": False, "max_output_tokens": 99, "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "note", "schema": SCHEMA, "strict": True}},
    }  # fmt: skip
    with llm_server(SERVED[upstream, streamed]) as server, before(server, upstream) as edge:
        client = client_of(edge)
        if streamed:
            with client.responses.stream(**body) as got:
                seen = list(got)
                made = got.get_final_response()
            assert [event.sequence_number for event in seen] == sorted({event.sequence_number for event in seen})
            pieces = [event.delta for event in seen if event.type == "response.function_call_arguments.delta"]
            assert json.loads("".join(pieces)) == CALL
            assert [seen[0].type, seen[-1].type] == ["response.created", "response.completed"]
        else:
            made = client.responses.create(**body)
        (request,) = server.requests
    message, call = made.output
    assert (made.output_text, message.status) == ("I write.", "completed")
    assert (call.type, call.call_id, call.name, json.loads(call.arguments)) == ("function_call", "c1", "write", CALL)
    assert (made.usage.input_tokens, made.usage.input_tokens_details.cached_tokens) == (9, 5)
    assert (made.status, made.tool_choice, made.instructions) == ("completed", "required", "Be kind.")
    sent = request.body
    if upstream == "openai":
        assert [turn["role"] for turn in sent["messages"]] == ["system", "user", "assistant", "tool"]
        assert sent["messages"][0]["content"] == "Be kind.\n\nBe brief."
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
        assert sent["messages"][1]["content"] == [{"type": "text", "text": ASK}, picture]
        assert sent["messages"][2]["tool_calls"][0]["id"] == "c1"
        assert sent["tools"][0]["function"]["parameters"] == SCHEMA
        assert (sent["tool_choice"], sent["parallel_tool_calls"], sent["max_tokens"]) == ("required", False, 99)
        assert (sent["reasoning_effort"], sent["response_format"]["json_schema"]["name"]) == ("low", "note")
    else:
        assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]
        assert sent["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
        assert sent["output_config"]["format"]["schema"] == SCHEMA


def test_an_answer_goes_on_from_one_before_and_can_be_forgotten():
    with llm_server(SERVED["openai", False]) as server, before(server) as edge:
        client = client_of(edge)
        first = client.responses.create(model="auto", input=ASK, tools=TOOLS, instructions="Be kind.")
        output = {"type": "function_call_output", "call_id": first.output[1].call_id, "output": "done"}
        second = client.responses.create(model="auto", input=[output], tools=TOOLS, previous_response_id=first.id)
        turns = server.requests[-1].body["messages"]
        assert [turn["role"] for turn in turns] == ["user", "assistant", "tool"]  # instructions are of one answer
        assert (turns[1]["content"], turns[1]["tool_calls"][0]["id"], turns[2]["content"]) == ("I write.", "c1", "done")
        assert (second.previous_response_id, client.responses.retrieve(second.id).output_text) == (first.id, "I write.")
        client.responses.delete(first.id)
        for lost in (first.id, "resp_none"):
            with pytest.raises(openai.NotFoundError, match="not found"):
                client.responses.retrieve(lost)
            with pytest.raises(openai.NotFoundError) as caught:
                client.responses.create(model="auto", input="go on", previous_response_id=lost)
            assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")
        client.responses.create(model="auto", input="go on", previous_response_id=second.id)  # it has all of it
        refers = [{"role": "user", "content": ASK}, {"type": "item_reference", "id": second.output[0].id}, output]
        client.responses.create(model="auto", input=refers)
        assert server.requests[-1].body["messages"][1] == {"role": "assistant", "content": "I write."}
        wrong = [{"type": "computer_call", "call_id": "c"}]
        with pytest.raises(openai.BadRequestError, match=r"input\[0\].type 'computer_call'"):
            client.responses.create(model="auto", input=wrong, previous_response_id=second.id)
        with pytest.raises(openai.NotFoundError, match="Item with id"):
            client.responses.create(model="auto", input=[{"id": first.output[0].id}])


def test_what_shall_not_be_stored_is_not():
    with llm_server(SERVED["openai", False]) as server, before(server) as edge:
        made = client_of(edge).responses.create(model="auto", input=ASK, store=False)
        assert edge.get(f"/v1/responses/{made.id}").status_code == 404


def test_an_answer_is_its_keys_alone():
    keys = {name: f"rv-{name * 20}" for name in "ab"}
    with llm_server(SERVED["openai", False]) as server:
        tier = {"kind": "openai", "url": server.url, "model": "up"}
        llm = RuvLLM(encoder="static", config={"inference": {"tiers": {"small": tier}}})
        with serving(llm, api_keys=tuple(keys.values())) as edge:
            mine = {"authorization": f"Bearer {keys['a']}"}
            theirs = {"authorization": f"Bearer {keys['b']}"}
            name = edge.post("/v1/responses", {"input": ASK}, headers=mine).json()["id"]
            assert edge.get(f"/v1/responses/{name}", headers=mine).status_code == 200
            assert edge.get(f"/v1/responses/{name}", headers=theirs).status_code == 404
            assert edge.client.delete(f"/v1/responses/{name}", headers=theirs).status_code == 404
            body = {"input": "go on", "previous_response_id": name}
            assert edge.post("/v1/responses", body, headers=theirs).status_code == 404
            assert edge.post("/v1/responses", body, headers=mine).status_code == 200
            item = edge.get(f"/v1/responses/{name}", headers=mine).json()["output"][0]["id"]
            body = {"input": [{"role": "user", "content": "go on"}, {"type": "item_reference", "id": item}]}
            assert edge.post("/v1/responses", body, headers=theirs).status_code == 404
            assert edge.post("/v1/responses", body, headers=mine).status_code == 200


def test_stored_answers_have_a_time_and_a_bound(tmp_path: Path):
    now = [0.0]
    path = tmp_path / "state.db"
    with closing(Store(path)) as store:
        stored = StoredResponses(store, ttl=10, most=2, most_bytes=3_000, clock=lambda: now[0])
        assert (stored.get("", "a"), stored.delete("", "a")) == (None, False)
        for name in "abc":
            stored.put("", {"id": name, "output": [{"id": f"m{name}"}]}, [])
        assert [stored.get("", name) is not None for name in "abc"] == [False, True, True]
        assert stored.item("", "mb") == {"id": "mb"}
        assert (stored.item("", "m"), stored.get("other", "b"), stored.item("other", "mb")) == (None, None, None)
        noise = [{"text": token_hex(1_500)}]  # which compresses to about half
        for name in "xd":  # both are too large together
            stored.put("", {"id": name, "output": []}, noise)
        assert [stored.get("", name) is not None for name in "cxd"] == [False, False, True]
    with closing(Store(path)) as store:  # after a restart
        stored = StoredResponses(store, ttl=10, most=2, most_bytes=3_000, clock=lambda: now[0])
        assert stored.get("", "d").items == noise
        now[0] = 10.0
        assert stored.get("", "d") is None
        stored.put("", {"id": "e", "output": []}, [{"text": "a secret"}])
        assert (stored.delete("other", "e"), stored.delete("", "e"), stored.get("", "e")) == (False, True, None)
        assert store.read("SELECT count(*) FROM responses") == [(0,)]
        stored.put("", {"id": "f", "output": []}, [])
        with store.write() as db:
            db.execute("UPDATE responses SET data = x'00'")
        assert stored.get("", "f") is None  # damaged
        none = StoredResponses(store, ttl=10, most=2, most_bytes=3_000, keep=False, clock=lambda: now[0])
        none.put("", {"id": "g", "output": []}, [])
        assert none.get("", "g") is not None
        assert store.read("SELECT count(*) FROM responses") == [(0,)]


def test_a_conversation_goes_on_after_a_restart_of_the_server(tmp_path: Path):
    def begun(writer: Writer) -> RuvLLM:
        return RuvLLM(encoder="static", state=tmp_path / "state.db", backends={"small": writer})

    with serving(begun(Writer())) as edge:
        first = client_of(edge).responses.create(model="auto", input="remember the kettle", instructions="Be kind.")
    writer = Writer()
    with serving(begun(writer)) as edge:
        client = client_of(edge)
        client.responses.create(model="auto", input="what did I say", previous_response_id=first.id)
        said = [(one.role, one.content) for one in writer.asked[-1]]
        assert said[:2] == [("user", "remember the kettle"), ("assistant", "remember the kettle ")]
        assert client.responses.retrieve(first.id).output_text == "remember the kettle "
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)


def test_a_backend_of_text_alone_answers_too(edge: Running, writer: Writer):
    client = client_of(edge)
    made = client.responses.create(model="auto", input="write three short words", instructions="Be brief.")
    assert (made.output_text, made.model) == ("write three short words ", "writer-1")
    assert (writer.asked[-1][0].role, writer.asked[-1][0].content) == ("system", "Be brief.")
    with client.responses.stream(model="auto", input="write three short words") as got:
        pieces = [event.delta for event in got if event.type == "response.output_text.delta"]
        assert (pieces, got.get_final_response().usage.output_tokens > 0) == (
            ["write ", "three ", "short ", "words "],
            True,
        )
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.responses.create(model="auto", input=ASK, tools=TOOLS)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"new_field": 1}, "new_field"),
        ({"tools": [{"type": "code_interpreter", "container": "c"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"input": [{"type": "computer_call", "id": "cu_1"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": 5}]}, "input"),
        ({"input": [5]}, "input"),
        ({"input": []}, "input"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"temperature": 3}, "temperature"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_by_name(change: dict[str, Any], name: str, edge: Running):
    found = edge.post("/v1/responses", {"input": ASK} | change)
    assert found.status_code == 400, found.text
    assert found.json()["error"]["param"].startswith(name)


def test_what_makes_no_other_answer_is_named_in_a_header():
    body = {"input": ASK, "include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low"},
            "tools": [*TOOLS, {"type": "web_search"}]}  # fmt: skip
    with llm_server(SERVED["anthropic", False]) as server, before(server, "anthropic") as edge:
        found = edge.post("/v1/responses", body)
    assert found.headers["x-ruvllm-ignored"] == "include, reasoning.effort, tools[1].type web_search"


def test_tools_of_free_text_and_of_namespaces_come_back_as_they_are():
    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'}
    tools = [
        {"type": "custom", "name": "apply_patch", "description": "Patches files.", "format": grammar},
        {"type": "namespace", "name": "agents", "description": "", "tools": [{"type": "function", "name": "spawn"}]},
    ]
    items = [
        {"role": "user", "content": ASK},
        {"type": "custom_tool_call", "call_id": "p1", "name": "apply_patch", "input": "*** Begin"},
        {"type": "function_call", "call_id": "s1", "name": "spawn", "namespace": "agents", "arguments": "{}"},
        {"type": "custom_tool_call_output", "call_id": "p1", "output": [{"type": "input_text", "text": "ok"},
                                                                       {"type": "input_image", "image_url": "u"}]},
        {"type": "function_call_output", "call_id": "s1", "output": "ok"},
    ]  # fmt: skip
    request = chat_request({"tools": tools}, items)
    names = [tool["function"]["name"] for tool in request.body["tools"]]
    assert names == ["apply_patch", "agents__spawn"]
    assert 'start: "x"' in request.body["tools"][0]["function"]["description"]
    _, calls, first, second, picture = request.body["messages"]
    assert [call["function"] for call in calls["tool_calls"]] == [
        {"name": "apply_patch", "arguments": '{"input": "*** Begin"}'},
        {"name": "agents__spawn", "arguments": "{}"},
    ]
    assert (first["content"], second["content"], picture["role"]) == ("ok", "ok", "user")
    writer = ResponseWriter({"id": "r"}, request.tools)
    for piece in ('{"inp', 'ut": "*** Begin"}'):
        writer.feed({"choices": [{"delta": {"tool_calls": [
            {"index": 0, "id": "p1", "function": {"name": "apply_patch", "arguments": piece}}]}}]})  # fmt: skip
    writer.feed({"choices": [{"delta": {"tool_calls": [
        {"index": 1, "id": "s1", "function": {"name": "agents__spawn", "arguments": ""}}]}}]})  # fmt: skip
    done = writer.close()
    assert done[-1]["type"] == "response.completed"
    patch, spawn = writer.response["output"]
    assert (patch["type"], patch["name"], patch["input"]) == ("custom_tool_call", "apply_patch", "*** Begin")
    assert (spawn["name"], spawn["namespace"], spawn["arguments"]) == ("spawn", "agents", "{}")
    again = chat_request({"tools": tools}, [items[0], patch, spawn, *items[3:]])
    assert again.body["messages"] == request.body["messages"]


def test_tools_that_a_search_finds_can_be_called():
    search = {"type": "tool_search", "execution": "client", "description": "finds", "parameters": SCHEMA}
    writer = ResponseWriter({"id": "r"}, chat_request({"tools": [search]}, []).tools)
    function = {"name": "tool_search", "arguments": '{"query": "agents"}'}
    writer.feed({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "t1", "function": function}]}}]})
    writer.close()
    (call,) = writer.response["output"]
    assert (call["type"], call["arguments"], call["execution"]) == ("tool_search_call", {"query": "agents"}, "client")
    found = {"type": "namespace", "name": "agents", "tools": [{"type": "function", "name": "spawn"}]}
    output = {"type": "tool_search_output", "call_id": "t1", "status": "completed", "tools": [found, *TOOLS]}
    request = chat_request({"tools": [search, *TOOLS]}, [{"role": "user", "content": ASK}, call, output])
    names = [tool["function"]["name"] for tool in request.body["tools"]]
    assert names == ["tool_search", "write", "agents__spawn"]
    assert request.tools["agents__spawn"] == Tool("function", "spawn", "agents")
    assert request.body["messages"][1]["tool_calls"][0]["function"] == function
    assert request.body["messages"][2]["content"] == "Tools found: agents__spawn, write"


def test_allowed_tools_are_the_only_ones():
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "write"}]}
    tools = [*TOOLS, {"type": "function", "name": "read", "parameters": SCHEMA}]
    body = chat_request({"tools": tools, "tool_choice": choice}, [{"role": "user", "content": ASK}]).body
    assert ([tool["function"]["name"] for tool in body["tools"]], body["tool_choice"]) == (["write"], "required")


WORDS = st.text("abc é😀\n", min_size=1, max_size=12)


@given(st.lists(st.tuples(WORDS, st.sampled_from(["content", "reasoning_content", "call", "next"])), max_size=12))
def test_whatever_order_an_answer_has_its_events_make_the_response(pieces: list[tuple[str, str]]):
    writer, calls = ResponseWriter({"id": "r"}, {"f": Tool("function", "f")}), list[str]()
    seen = writer.begin()
    for text, kind in pieces:
        delta: dict[str, Any] = {kind: text}
        if kind in ("call", "next"):
            if kind == "next" or not calls:
                calls.append("")
            calls[-1] += text
            function = {"name": "f", "arguments": text}
            delta = {"tool_calls": [{"index": len(calls) - 1, "id": f"c{len(calls)}", "function": function}]}
        seen += writer.feed({"choices": [{"delta": delta}]})
    seen += writer.close()
    assert [event["sequence_number"] for event in seen] == list(range(len(seen)))
    items: dict[int, Any] = {}
    texts: dict[int, str] = {}
    for event in seen:
        if event["type"].endswith(".delta"):
            texts[event["output_index"]] = texts.get(event["output_index"], "") + event["delta"]
        elif event["type"] == "response.output_item.done":
            items[event["output_index"]] = event["item"]
    assert [items[i] for i in range(len(items))] == seen[-1]["response"]["output"] == writer.response["output"]
    for i, item in items.items():
        assert texts[i] == (item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"])
    assert [item["arguments"] for item in items.values() if item["type"] == "function_call"] == calls
    if pieces:
        back = chat_request({}, [{"role": "user", "content": ASK}, *items.values()]).body["messages"][1:]
        text = "".join(text for text, kind in pieces if kind == "content")
        assert "".join(turn["content"] or "" for turn in back) == text
        found = [call["function"]["arguments"] for turn in back for call in turn.get("tool_calls", ())]
        assert found == calls


def test_what_programs_put_around_an_ask_is_not_routed():
    around = ("<environment_context>\n  <cwd>/a</cwd>\n</environment_context>", ASK,
              "<turn_aborted>\nby the user\n</turn_aborted>")  # fmt: skip
    items = [{"role": "user", "content": [{"type": "input_text", "text": text}]} for text in around]
    body = chat_request({"parallel_tool_calls": True}, items).body
    assert question_of(body["messages"]) == (ASK, False)
    assert "parallel_tool_calls" not in body


def test_a_cut_answer_is_incomplete():
    cut = events(chunk("half"), chunk(finish_reason="length"), b"[DONE]")
    with llm_server(stream(cut)) as server, before(server) as edge:
        seen = client_of(edge).responses.create(model="auto", input=ASK, stream=True)
        made = [event.response for event in seen if event.type == "response.incomplete"]
    assert (made[0].status, made[0].incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_a_stream_that_breaks_off_ends_with_the_reason():
    with llm_server(stream(events(chunk("half")), finish=False)) as server, before(server) as edge:
        seen = list(client_of(edge).responses.create(model="auto", input=ASK, stream=True))
        failed = seen[-1]
        assert (failed.type, failed.response.status) == ("response.failed", "failed")
        assert failed.response.error.code == "server_error"
        assert edge.get(f"/v1/responses/{failed.response.id}").status_code == 404


@pytest.mark.parametrize("said", [{"choices": [{"message": 7}]}, {"choices": [{"message": {"tool_calls": 5}}]}])
def test_an_answer_of_a_wrong_shape_is_the_servers_fault(said: Any):
    with llm_server(answer(200, said | {"object": "chat.completion"})) as server, before(server) as edge:
        assert edge.post("/v1/responses", {"input": ASK}).status_code in (200, 502)


def test_thoughts_are_an_item_of_their_own():
    message = {"role": "assistant", "content": "Yes.", "reasoning_content": "hm"}
    body = WHOLE | {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    with llm_server(answer(200, body)) as server, before(server) as edge:
        thought, text = client_of(edge).responses.create(model="auto", input=ASK).output
    assert (thought.type, thought.content[0].text, text.content[0].text) == ("reasoning", "hm", "Yes.")


def test_a_refusal_names_its_problem():
    with pytest.raises(Problem) as caught:
        chat_request({"input": 1, "modalities": ["audio"]}, [])
    assert (caught.value.field, caught.value.code) == ("modalities", "unsupported_parameter")
