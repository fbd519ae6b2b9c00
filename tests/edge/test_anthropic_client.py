"""Anthropic's own Python client against the server."""

from __future__ import annotations

import anthropic
import pytest
from anthropic import Anthropic
from conftest import Running, Writer, serving

from ruvllm import RuvLLM

ASKED = {
    "model": "claude-any",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "write three short words"}],
}
TEXT = "write three short words "


@pytest.fixture(scope="module")
def client(edge: Running) -> Anthropic:
    return Anthropic(base_url=edge.url, api_key="none needed", max_retries=0)


def test_a_message_with_where_it_went(client: Anthropic, writer: Writer):
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    raw = client.messages.with_raw_response.create(
        **ASKED,
        system=system,
        stop_sequences=["END"],
        metadata={"user_id": "ada"},
        extra_body={"temperature": 0.25},  # which newer clients have no argument for
    )
    message = raw.parse()
    assert [(block.type, block.text) for block in message.content] == [("text", TEXT)]
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert message.usage.input_tokens > 0 < message.usage.output_tokens
    assert message._request_id
    assert raw.headers["x-ruvllm-backend"] == "writer"
    assert (writer.asked[-1][0].role, writer.asked[-1][0].content) == ("system", "Be brief.")
    assert (writer.params[-1].temperature, writer.params[-1].stop) == (0.25, ("END",))


def test_a_stream_is_gathered_by_the_client(client: Anthropic):
    with client.messages.stream(**ASKED) as stream:
        assert list(stream.text_stream) == ["write ", "three ", "short ", "words "]
        message = stream.get_final_message()
    assert message.content[0].text == TEXT
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0


def test_tools_are_refused_by_name(client: Anthropic):
    tools = [{"name": "ls", "description": "lists", "input_schema": {"type": "object", "properties": {}}}]
    with pytest.raises(anthropic.BadRequestError, match="writer knows no tools"):
        client.messages.create(**ASKED, tools=tools)


def test_beta_calls_with_thinking_and_calls_of_tools_are_answered_in_words(client: Anthropic, writer: Writer):
    turns = [
        {"role": "user", "content": "list the files"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "ls", "input": {"path": "."}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "is_error": True,
                    "content": [
                        {"type": "text", "text": "no such folder"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                    ],
                }
            ],
        },
    ]
    thinking = {"type": "enabled", "budget_tokens": 1024}
    client.beta.messages.create(
        **ASKED | {"messages": turns, "max_tokens": 2048},
        thinking=thinking,
        betas=["interleaved-thinking"],
    )
    said = [one.content for one in writer.asked[-1]]
    assert said == ["list the files", '[called ls: {"path":"."}]', "[error: no such folder\n(image)]"]


def test_tokens_are_counted_and_models_listed(client: Anthropic):
    counted = client.messages.count_tokens(model="claude-any", messages=ASKED["messages"], system="Be brief.")
    assert 5 < counted.input_tokens < 50
    assert {"auto", "writer-1"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("auto").type == "model"


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        ({"model": "llama"}, anthropic.NotFoundError, "model"),
        ({"messages": []}, anthropic.BadRequestError, "messages"),
        ({"extra_body": {"temperature": 2}}, anthropic.BadRequestError, "temperature"),
        ({"messages": [{"role": "user", "content": ""}]}, anthropic.BadRequestError, "messages"),
    ],
)
def test_mistakes_are_the_clients_own_errors(client: Anthropic, change: dict, error: type, field: str):
    with pytest.raises(error) as caught:
        client.messages.create(**ASKED | change)
    assert caught.value.body["error"]["field"] == field
    assert caught.value.request_id


@pytest.mark.parametrize(
    ("kind", "error"),
    [("unavailable", anthropic.InternalServerError), ("rate_limited", anthropic.RateLimitError)],
)
def test_a_backend_that_fails_is_told_before_or_in_the_middle(kind: str, error: type):
    for after in (0, 2):
        writer = Writer(fails_after=after, fails_with=kind)
        with serving(RuvLLM(encoder="static", backends={"small": writer})) as edge:
            client = Anthropic(base_url=edge.url, api_key="-", max_retries=0)
            with (
                pytest.raises(error if after == 0 else anthropic.APIStatusError),
                client.messages.stream(**ASKED) as got,
            ):
                assert list(got.text_stream) == ["write ", "three "]
