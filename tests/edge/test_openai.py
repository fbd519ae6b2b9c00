"""OpenAI's own Python client against the server."""

from __future__ import annotations

import numpy as np
import openai
import pytest
from conftest import Running, Writer, serving
from openai import OpenAI

from ruvllm import RuvLLM

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "write three short words"}]


@pytest.fixture(scope="module")
def client(edge: Running) -> OpenAI:
    return OpenAI(base_url=f"{edge.url}/v1", api_key="none needed", max_retries=0)


def test_a_chat_goes_to_the_tiers_backend_as_it_is(client: OpenAI, writer: Writer):
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=ASKED, temperature=0.25, top_p=0.5, max_tokens=50, stop=["END"], seed=7
    )
    chat = raw.parse()
    assert chat.choices[0].message.content == "write three short words "
    assert (chat.choices[0].finish_reason, chat.model, chat.object) == ("stop", "writer-1", "chat.completion")
    assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens > 0
    assert raw.headers["x-ruvllm-backend"] == "writer"
    assert raw.headers["x-ruvllm-tier"] == "small"
    assert 0 <= float(raw.headers["x-ruvllm-confidence"]) <= 1
    assert raw.headers["x-ruvllm-agent"]
    assert [(one.role, one.content) for one in writer.asked[-1]] == [(m["role"], m["content"]) for m in ASKED]
    params = writer.params[-1]
    assert (params.temperature, params.top_p, params.max_tokens) == (0.25, 0.5, 50)
    assert (params.stop, params.seed) == (("END",), 7)


@pytest.mark.parametrize("penalty", ["repeat_penalty", "repetition_penalty"])
def test_what_openai_has_no_word_for_is_set_in_the_body(client: OpenAI, writer: Writer, penalty: str):
    more = {"top_k": 7, "min_p": 0.05, penalty: 1.2}
    client.chat.completions.create(model="auto", messages=ASKED, extra_body=more)
    params = writer.params[-1]
    assert (params.top_k, params.min_p, params.repeat_penalty) == (7, 0.05, 1.2)


def test_the_answer_can_be_rated_by_the_id_in_the_headers(client: OpenAI, edge: Running):
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=ASKED)
    rated = edge.post("/v1/feedback", {"request_id": raw.headers["x-ruvllm-request"], "rating": 4})
    assert (rated.json()["request"]["agent"], rated.json()["request"]["trajectory"]) == ("", True)


def test_a_stream_comes_in_pieces(client: OpenAI):
    chunks = list(
        client.chat.completions.create(
            model="auto", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert text == ["write ", "three ", "short ", "words "]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_is_written_as_openai_writes_it(edge: Running):
    body = {"model": "auto", "messages": ASKED, "stream": True}
    with edge.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.read().decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert all(line.startswith("data: {") for line in lines[:-2])


def test_content_in_parts_and_other_roles(client: OpenAI, writer: Writer):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    client.chat.completions.create(
        model="auto", messages=[{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}]
    )
    assert [(one.role, one.content) for one in writer.asked[-1]] == [("system", "Be kind."), ("user", "one\ntwo")]


@pytest.mark.parametrize(
    ("change", "error", "param"),
    [
        ({"model": "gpt-unknown"}, openai.NotFoundError, "model"),
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "system", "content": "only"}]}, openai.BadRequestError, "messages"),
        ({"n": 2}, openai.BadRequestError, "n"),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "response_format"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            openai.BadRequestError,
            "messages[0].content[0]",
        ),
    ],
)
def test_mistakes_are_the_clients_own_errors(client: OpenAI, change: dict, error: type, param: str):
    with pytest.raises(error) as caught:
        client.chat.completions.create(**{"model": "auto", "messages": ASKED} | change)
    assert caught.value.param == param
    assert caught.value.body["fix"]


def test_a_backend_that_fails_in_the_middle_ends_the_stream_with_an_error():
    with serving(RuvLLM(encoder="static", backends={"small": Writer(fails_after=2)})) as edge:
        client = OpenAI(base_url=f"{edge.url}/v1", api_key="-", max_retries=0)
        chunks = client.chat.completions.create(model="auto", messages=ASKED, stream=True)
        assert [next(chunks).choices[0].delta.content for _ in range(3)] == ["", "write ", "three "]
        with pytest.raises(openai.APIError, match="the backend is down"):
            next(chunks)


def test_embeddings_in_both_forms(client: OpenAI, edge: Running):
    texts = ["fix the login page", "bake a cake", "mend the sign-in form"]
    plain = client.embeddings.create(model="auto", input=texts, encoding_format="float")
    packed = client.embeddings.create(model="static", input=texts)  # the client asks for base64 by itself
    rows = np.array([row.embedding for row in plain.data], np.float32)
    np.testing.assert_array_equal(rows, np.array([row.embedding for row in packed.data], np.float32))
    np.testing.assert_allclose(rows, edge.llm.embed(texts), atol=1e-6)
    assert [row.index for row in plain.data] == [0, 1, 2]
    one = client.embeddings.create(model="auto", input=texts[0])
    np.testing.assert_allclose(one.data[0].embedding, rows[0], atol=1e-6)
    long = edge.post("/v1/embeddings", {"input": ["short", "word " * 300]}).json()["data"]
    assert [row.get("truncated") for row in long] == [None, True]
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model="auto", input=texts, dimensions=100_000)


def test_embeddings_of_token_ids(client: OpenAI, edge: Running):
    """Of the encoder's own vocabulary; those of another's, which an alias stands for, cannot be read."""
    ids = edge.llm.encoders.static.tokenizer.ids("fix the login page")
    rows = [client.embeddings.create(model="static", input=given).data[0].embedding for given in (ids, [ids])]
    np.testing.assert_allclose(rows, [edge.llm.embed(["fix the login page"])[0]] * 2, atol=1e-6)
    for model, given in (("text-embedding-3-small", ids), ("static", [[10**6]])):
        with pytest.raises(openai.BadRequestError, match="another model's tokens"):
            client.embeddings.create(model=model, input=given)


def test_models_are_listed(client: OpenAI):
    names = [model.id for model in client.models.list()]
    assert {"auto", "small", "writer", "writer-1", "static"} <= set(names)
    assert client.models.retrieve("auto").owned_by == "ruvllm"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_without_any_llm_memory_answers():
    with serving(RuvLLM(encoder="static")) as edge:
        edge.post("/v1/memory", {"memories": [{"text": "Deployments happen every Tuesday at noon."}]})
        client = OpenAI(base_url=f"{edge.url}/v1", api_key="-")
        asked = [{"role": "user", "content": "When do deployments happen?"}]
        assert "Tuesday" in client.chat.completions.create(model="auto", messages=asked).choices[0].message.content
