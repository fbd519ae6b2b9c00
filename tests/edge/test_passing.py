"""Faithful as a proxy: what goes to an LLM server is what the client said, and what it says comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anthropic
import openai
import pytest
from anthropic import Anthropic
from conftest import Running, Writer, serving
from llm_server import Behaviour, Server, answer, chunk, events, stream
from openai import OpenAI
from test_backends import llm_server

from ruvllm import RuvLLM
from ruvllm.config import Config

TEXT = "Is the ferry on time?"
TURNS = [{"role": "user", "content": TEXT}]
END = events(chunk(finish_reason="stop"), b"[DONE]")
WELL = stream(events(chunk("all well")) + END)
WHOLE = {"model", "messages", "stream"}  # asked for whole
OUR_OWN = WHOLE | {"stream_options"}


@contextmanager
def before(*servers: Server, **tier: Any) -> Iterator[Running]:
    """A server of ruvllm before the small and the large one of these."""
    tiers = {
        name: {"kind": "openai", "url": server.url, "model": f"{name}-1", "retries": 2} | tier
        for name, server in zip(("small", "large"), servers, strict=False)
    }
    with serving(RuvLLM(encoder="static", config=Config.from_dict({"inference": {"tiers": tiers}}))) as edge:
        yield edge


@contextmanager
def behind(*behaviours: Behaviour, **tier: Any) -> Iterator[tuple[Running, Server]]:
    with llm_server(*behaviours) as server, before(server, **tier) as edge:
        yield edge, server


def openai_client(edge: Running, retries: int = 2) -> OpenAI:
    return OpenAI(base_url=f"{edge.url}/v1", api_key="-", max_retries=retries)


def anthropic_client(edge: Running, retries: int = 2) -> Anthropic:
    return Anthropic(base_url=edge.url, api_key="-", max_retries=retries)


def chat(edge: Running, **more: Any) -> Any:
    return openai_client(edge).chat.completions.create(**{"model": "auto", "messages": TURNS} | more)


def message(edge: Running, **more: Any) -> Any:
    return anthropic_client(edge).messages.create(**{"model": "claude-any", "max_tokens": 64, "messages": TURNS} | more)


def test_what_the_caller_did_not_set_is_not_sent():
    with behind(WELL) as (edge, server):
        assert chat(edge).choices[0].message.content == "all well"
        assert set(server.requests[-1].body) == WHOLE
        assert edge.post("/v1/query", {"query": TEXT}).json()["routing"]["temperature"] is None
        assert set(server.requests[-1].body) == OUR_OWN
        message(edge)
        body = server.requests[-1].body
        assert (set(body), body["max_tokens"]) == (WHOLE | {"max_tokens"}, 64)


def test_what_is_configured_goes_with_queries_and_not_with_what_is_passed_on():
    with llm_server(WELL) as server:
        tiers = {"small": {"kind": "openai", "url": server.url, "model": "small-1", "dialect": "llama.cpp"}}
        inference = {"tiers": tiers, "temperature": 0.3, "max_tokens": 9, "top_k": 7}
        with serving(RuvLLM(encoder="static", config=Config.from_dict({"inference": inference}))) as edge:
            edge.post("/v1/query", {"query": TEXT})
            chat(edge)
    queried, passed = (request.body for request in server.requests)
    assert {name: queried[name] for name in set(queried) - OUR_OWN} == {"temperature": 0.3, "max_tokens": 9, "top_k": 7}
    assert set(passed) == WHOLE


def test_max_completion_tokens_is_sent_under_its_own_name():
    with behind(WELL) as (edge, server):
        chat(edge, max_completion_tokens=50)
        body = server.requests[-1].body
        assert (set(body), body["max_completion_tokens"]) == (WHOLE | {"max_completion_tokens"}, 50)


UNKNOWN = {
    "reasoning_effort": "low",
    "logit_bias": {"50256": -100},
    "metadata": {"a": "b"},
    "user": "ada",
    "response_format": {"type": "json_object"},
    "presence_penalty": 0.5,
    "extra_body": {"chat_template_kwargs": {"enable_thinking": False}, "top_k": 3},
}


@pytest.mark.parametrize("streamed", [False, True])
def test_parameters_that_are_not_known_are_passed_on(streamed: bool):
    turns = [{"role": "developer", "content": "Be brief."}, *TURNS, {"role": "user", "content": TEXT, "name": "ada"}]
    with behind(WELL) as (edge, server):
        raw = openai_client(edge).chat.completions.with_raw_response.create(
            model="auto", messages=turns, stream=streamed, **UNKNOWN
        )
        list(raw.parse()) if streamed else raw.parse()
        assert "x-ruvllm-ignored" not in raw.headers
    sent = dict(UNKNOWN)
    sent |= sent.pop("extra_body")
    body = server.requests[-1].body
    assert {name: body[name] for name in set(body) - OUR_OWN} == sent
    assert body["messages"] == [turns[0] | {"role": "system"}, *turns[1:]]
    assert (body["model"], body["stream"]) == ("small-1", streamed)


def test_who_cannot_pass_them_on_lists_them_or_refuses_by_name():
    with serving(RuvLLM(encoder="static", backends={"small": Writer()})) as edge:
        body = {"messages": TURNS, "user": "ada", "reasoning_effort": "low", "n": 1, "seed": 3, "logprobs": False}
        for streamed in (False, True):
            found = edge.post("/v1/chat/completions", body | {"stream": streamed})
            assert (found.status_code, found.headers["x-ruvllm-ignored"]) == (200, "reasoning_effort, user")
        for name, value in (("response_format", {"type": "json_object"}), ("guided_json", {}), ("grammar", "root")):
            found = edge.post("/v1/chat/completions", body | {name: value or {"type": "object"}})
            assert (found.status_code, found.json()["error"]["param"]) == (400, name)
        assert chat(edge, response_format={"type": "text"}).choices


def test_a_field_that_is_nested_too_deeply_is_the_callers_fault():
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    with behind(WELL) as (edge, server):
        found = edge.post("/v1/chat/completions", {"messages": TURNS, "deep": deep})
        assert found.status_code in (200, 400)
        assert found.status_code == 400 or server.requests[-1].body["deep"] == deep


def test_memory_alone_refuses_a_format_too():
    with serving(RuvLLM(encoder="static")) as edge:
        found = edge.post("/v1/chat/completions", {"messages": TURNS, "response_format": {"type": "json_object"}})
        assert (found.status_code, found.json()["error"]["param"]) == (400, "response_format")


TOOLS = [{"type": "function", "function": {"name": "ls", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": TOOLS}, "tools"),
        ({"functions": [TOOLS[0]["function"]]}, "functions"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_a_server_may_know_is_passed_on_and_others_refuse_it_by_name(change: dict[str, Any], param: str):
    with behind(WELL) as (edge, server):
        assert chat(edge, **change).choices
        assert server.requests[-1].body[param] == change[param]
    with serving(RuvLLM(encoder="static", backends={"small": Writer()})) as edge:
        with pytest.raises(openai.BadRequestError) as caught:
            chat(edge, **change)
        assert caught.value.param == param
        assert chat(edge, tools=TOOLS, tool_choice="none").choices


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
def test_an_upstream_status_that_is_the_callers_own_stays_and_is_not_tried_again(status: int):
    error = {"message": "no: see http://10.0.0.7:8000/x, key sk-abc123def456", "code": "odd", "param": "user"}
    with behind(answer(status, {"error": error})) as (edge, server):
        for streamed in (False, True):
            with pytest.raises(openai.APIStatusError) as caught:
                chat(edge, stream=streamed)
            assert (caught.value.status_code, caught.value.code) == (status, "odd")
            assert "no: see" in caught.value.message
        with pytest.raises(anthropic.APIStatusError) as claude:
            message(edge)
        assert claude.value.status_code == status
        for told in (str(caught.value), str(claude.value)):
            assert not any(secret in told for secret in ("10.0.0.7", "sk-abc", server.url))
        assert len(server.requests) == 3  # neither the clients nor ruvllm tried again
        assert edge.post("/v1/query", {"query": TEXT}).status_code == status


OVERFLOWS = {
    "openai": (400, {"message": "This model's maximum context length is 8 tokens", "code": "context_length_exceeded"}),
    "vllm": (400, {"message": "This model's maximum context length is 4096 tokens. However", "code": 400}),
    "llama.cpp": (400, {"message": "request (9 tokens) exceeds the available context size", "code": 400}),
    "old llama.cpp": (500, {"message": "the request exceeds the available context size"}),
    "ollama": (400, {"message": "the input length exceeds the context length"}),
    "anthropic": (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}),
}  # fmt: skip


def check_overflow(edge: Running, **more: Any) -> None:
    for streamed in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            chat(edge, stream=streamed, **more)
        assert (caught.value.code, caught.value.type) == ("context_length_exceeded", "invalid_request_error")
        with pytest.raises(anthropic.BadRequestError, match="prompt is too long: ") as claude:
            message(edge, stream=streamed, **more)
        assert claude.value.body["error"]["type"] == "invalid_request_error"
        assert claude.value.body["error"]["message"].count("prompt is too long") == 1


@pytest.mark.parametrize("told", OVERFLOWS.values(), ids=OVERFLOWS)
def test_a_context_overflow_is_told_in_the_clients_own_words(told: tuple[int, dict[str, Any]]):
    status, error = told
    with behind(answer(status, {"error": error})) as (edge, server):
        check_overflow(edge)
        assert len(server.requests) == 4
    with behind(stream(events({"error": error | {"code": status}}))) as (edge, _):
        check_overflow(edge)


def test_a_prompt_that_is_longer_than_the_configured_context_is_told_so_too():
    with behind(WELL, context=500) as (edge, server):
        check_overflow(edge, messages=[{"role": "user", "content": "word " * 2_000}])
        assert server.requests == []


@pytest.mark.parametrize("reason", ["content_filter", "refusal"])
def test_a_filtered_answer_keeps_its_text_and_says_why_it_ends(reason: str):
    with behind(stream(events(chunk("half of"), chunk(finish_reason=reason), b"[DONE]"))) as (edge, _):
        choice = chat(edge).choices[0]
        assert (choice.message.content, choice.finish_reason) == ("half of", "content_filter")
        pieces = list(chat(edge, stream=True))
        assert "".join(one.choices[0].delta.content or "" for one in pieces) == "half of"
        assert pieces[-1].choices[0].finish_reason == "content_filter"
        found = message(edge)
        assert (found.content[0].text, found.stop_reason) == ("half of", "refusal")
        assert edge.get("/stats").json()["waiting"] == 0  # it is not worth remembering


def test_a_filter_that_lets_nothing_through_is_an_answer():
    filtered = stream(events(chunk(finish_reason="content_filter"), b"[DONE]"))
    with llm_server(filtered) as small, llm_server(WELL) as large, before(small, large) as edge:
        sure = [{"role": "user", "content": "add unit tests for the auth module"}]  # for the small tier
        choice = chat(edge, messages=sure).choices[0]
        assert (choice.message.content, choice.finish_reason) == ("", "content_filter")
        assert large.requests == []


def test_a_refusal_stays_one():
    said = [chunk(delta={"refusal": text, "content": None}) for text in ("I ", "cannot.")]
    with behind(stream(events(*said) + END)) as (edge, _):
        choice = chat(edge).choices[0]
        assert (choice.message.content, choice.message.refusal, choice.finish_reason) == (None, "I cannot.", "stop")
        pieces = list(chat(edge, stream=True))
        assert [one.choices[0].delta.refusal for one in pieces] == ["I ", "cannot.", None]
        found = message(edge)
        assert (found.content[0].text, found.stop_reason) == ("I cannot.", "refusal")
        with anthropic_client(edge).messages.stream(model="claude", max_tokens=9, messages=TURNS) as got:
            assert "".join(got.text_stream) == "I cannot."
            assert got.get_final_message().stop_reason == "refusal"
        assert edge.post("/v1/query", {"query": TEXT}).json()["finish_reason"] == "refusal"


def busy(wait: str) -> Behaviour:
    return answer(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, retry_after=wait)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_rate_limit_of_every_tier_reaches_the_client_at_once(streamed: bool):
    with llm_server(busy("20")) as small, llm_server(busy("7")) as large, before(small, large) as edge:
        with pytest.raises(openai.RateLimitError) as caught:
            openai_client(edge, 0).chat.completions.create(model="auto", messages=TURNS, stream=streamed)
        # The one that is free again first says when to come back.
        assert (caught.value.response.headers["retry-after"], caught.value.code) == ("7", "rate_limit_exceeded")
        with pytest.raises(anthropic.RateLimitError) as claude:
            anthropic_client(edge, 0).messages.create(model="claude", max_tokens=9, messages=TURNS, stream=streamed)
        assert claude.value.response.headers["retry-after"] == "7"
        assert (len(small.requests), len(large.requests)) == (2, 2)


def test_a_rate_limit_until_a_date_is_told_in_seconds():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    with behind(busy(date)) as (edge, server):
        with pytest.raises(openai.RateLimitError) as caught:
            openai_client(edge, 0).chat.completions.create(model="auto", messages=TURNS, stream=True)
        assert 60 < int(caught.value.response.headers["retry-after"]) <= 90
        assert len(server.requests) == 1


def test_the_clients_own_retry_of_a_rate_limit_is_answered():
    with behind(busy("1"), WELL) as (edge, server):
        assert chat(edge).choices[0].message.content == "all well"
        assert len(server.requests) == 2


def test_no_response_begins_before_the_servers_first_word(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ruvllm_edge.sse.QUIET", 0.01)  # long before the server says that it is busy

    async def late(reader: Any, writer: Any) -> None:
        await asyncio.sleep(0.2)
        await busy("9")(reader, writer)

    with behind(late) as (edge, _):
        found = edge.post("/v1/chat/completions", {"messages": TURNS, "stream": True})
        assert (found.status_code, found.headers["retry-after"]) == (429, "9")


def test_halves_of_a_character_in_two_deltas_are_joined_on_their_way():
    escaped = [
        rb'{"choices":[{"index":0,"delta":{"content":"%s"}}]}' % text for text in (rb"a\ud83d", rb"\ude00b\ud83d")
    ]
    with behind(stream(events(*escaped) + END)) as (edge, _):
        assert chat(edge).choices[0].message.content == "a😀b\ufffd"
        pieces = [one.choices[0].delta.content or "" for one in chat(edge, stream=True)]
        assert "".join(pieces) == "a😀b\ufffd"
        with anthropic_client(edge).messages.stream(model="claude", max_tokens=9, messages=TURNS) as got:
            assert "".join(got.text_stream) == "a😀b\ufffd"
        assert edge.post("/v1/query", {"query": TEXT}).json()["text"] == "a😀b\ufffd"
        edge.llm.write()
        assert edge.get("/stats").status_code == 200


def test_a_tier_takes_a_dialect_and_extra_fields():
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "stream_options": None}
    with behind(WELL, dialect="vllm", extra=extra) as (edge, server):
        chat(edge)
        assert server.requests[-1].body == {
            "model": "small-1",
            "messages": TURNS,
            "stream": False,
            "chat_template_kwargs": {"enable_thinking": False},
        }


def test_headers_of_the_vendors_clients_are_allowed_to_pages_and_ours_exposed(writer: Writer):
    page = {"origin": "https://app.example", "access-control-request-method": "POST"}
    wanted = "authorization, content-type, x-stainless-os, x-stainless-retry-count, openai-beta, anthropic-version, "
    wanted += "anthropic-dangerous-direct-browser-access"
    llm = RuvLLM(encoder="static", backends={"small": writer})
    with serving(llm, origins=("https://app.example",)) as edge:
        asked = page | {"access-control-request-headers": f"{wanted}, cookie, x-stainless-a b, x-other-stainless-b"}
        found = edge.client.options("/v1/chat/completions", headers=asked)
        allowed = {name.strip() for name in found.headers["access-control-allow-headers"].split(",")}
        assert found.status_code == 204
        assert {name.strip() for name in wanted.split(",")} <= allowed
        assert not {"cookie", "*", "x-stainless-a b", "x-other-stainless-b"} & allowed
        answered = edge.post("/v1/chat/completions", {"messages": TURNS, "user": "ada"}, headers=page)
        exposed = {name.strip() for name in answered.headers["access-control-expose-headers"].split(",")}
        ours = {name for name in answered.headers if name.startswith("x-ruvllm-")}
        assert {"x-ruvllm-ignored", "x-ruvllm-request"} <= ours <= exposed
