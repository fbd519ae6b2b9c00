"""Completions of texts, and embeddings with names and lengths of OpenAI's, by its own Python client."""

from __future__ import annotations

import numpy as np
import openai
import pytest
from conftest import Running, Writer, serving
from llm_server import answer, chunk, events, stream
from openai import OpenAI
from test_backends import llm_server
from test_tools import WHOLE, before

from ruvllm import RuvLLM


@pytest.fixture(scope="module")
def client(edge: Running) -> OpenAI:
    return OpenAI(base_url=f"{edge.url}/v1", api_key="none needed", max_retries=0)


def test_a_text_is_answered(client: OpenAI, writer: Writer):
    made = client.completions.create(model="auto", prompt="two words", max_tokens=9, temperature=0.5)
    assert (made.choices[0].text, made.choices[0].finish_reason, made.object) == (
        "two words ",
        "stop",
        "text_completion",
    )
    assert made.usage.total_tokens > 0
    assert (writer.params[-1].max_tokens, writer.params[-1].temperature) == (9, 0.5)
    assert [(one.role, one.content) for one in writer.asked[-1]] == [("user", "two words")]


def test_several_texts_are_answered_each(client: OpenAI):
    made = client.completions.create(model="auto", prompt=["one", "two words"])
    assert [(one.index, one.text) for one in made.choices] == [(0, "one "), (1, "two words ")]


def test_answers_come_in_pieces(client: OpenAI):
    made = list(
        client.completions.create(
            model="auto", prompt=["one", "two words"], stream=True, stream_options={"include_usage": True}
        )
    )
    pieces = [(one.choices[0].index, one.choices[0].text) for one in made if one.choices]
    assert pieces == [(0, "one "), (0, ""), (1, "two "), (1, "words "), (1, "")]
    assert made[-1].usage.completion_tokens > 0


def test_a_server_behind_it_is_asked_as_a_chat():
    with llm_server(
        answer(200, WHOLE), stream(events(chunk("yes"), chunk(finish_reason="length"), b"[DONE]"))
    ) as server:
        with before(server, api_key_env="") as edge:
            client = OpenAI(base_url=f"{edge.url}/v1", api_key="-", max_retries=0)
            made = client.completions.create(model="auto", prompt="hello", user="ada", extra_body={"new_field": 1})
            assert made.choices[0].text == "I write."
            pieces = list(client.completions.create(model="auto", prompt="hello", stream=True))
            assert [one.choices[0].text for one in pieces] == ["yes", ""]
            assert pieces[-1].choices[0].finish_reason == "length"
        sent = server.requests[0].body
    assert sent == {"model": "up-1", "messages": [{"role": "user", "content": "hello"}], "user": "ada", "new_field": 1,
                    "stream": False}  # fmt: skip


@pytest.mark.parametrize("field", [{"suffix": "x"}, {"echo": True}, {"logprobs": 2}, {"best_of": 3}, {"n": 2},
                                   {"prompt": [[1, 2]]}])  # fmt: skip
def test_what_a_chat_has_not_is_refused_by_name(client: OpenAI, field: dict):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": "auto", "prompt": "hello"} | field)
    assert caught.value.param == next(iter(field))


def test_fewer_dimensions_are_the_first_ones_at_length_1(client: OpenAI):
    whole = np.array(client.embeddings.create(model="text-embedding-3-small", input="fix it").data[0].embedding)
    short = np.array(client.embeddings.create(model="auto", input="fix it", dimensions=32).data[0].embedding)
    assert short.shape == (32,)
    np.testing.assert_allclose(short, whole[:32] / np.linalg.norm(whole[:32]), rtol=1e-5, atol=1e-6)
    for wrong in (0, whole.size + 1):
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model="auto", input="fix it", dimensions=wrong)


def test_tokens_of_another_model_are_refused(client: OpenAI):
    for tokens in ([1, 2, 3], [[1, 2], [3]]):
        with pytest.raises(openai.BadRequestError, match="tokens"):
            client.embeddings.create(model="text-embedding-3-small", input=tokens)


def test_names_that_are_set_are_the_only_ones():
    with serving(RuvLLM(encoder="static"), embedding_names=("nomic-embed-text",)) as edge:
        for name, status in (("nomic-embed-text", 200), ("auto", 200), ("text-embedding-3-small", 404)):
            assert edge.post("/v1/embeddings", {"input": "a", "model": name}).status_code == status
