"""OpenAI's own client against a server that answers with a model on its own machine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep

import pytest
from conftest import Running, serving
from openai import OpenAI, RateLimitError

from ruvllm import Config, RuvLLM

sys.path.append(str(Path(__file__).parents[1] / "native"))
import decoders
from decoders import random_decoder, write_folder

from ruvllm_models.convert import convert

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "When does the ferry leave?"}]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose small tier is a random model."""
    root = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoders, "CONTEXT", 2048)
        write_folder(random_decoder("llama"), root / "hf")
    convert(root / "hf", root / "tiny")
    tiers = {"small": {"kind": "local", "model": str(root / "tiny")}}
    with serving(RuvLLM(encoder="static", config=Config.from_dict({"inference": {"tiers": tiers, "queue": 1}}))) as one:
        yield one


@pytest.fixture(scope="module")
def client(edge: Running) -> OpenAI:
    return OpenAI(base_url=f"{edge.url}/v1", api_key="none needed", max_retries=0)


def test_it_answers_and_its_model_has_a_name(client: OpenAI):
    assert "tiny" in [model.id for model in client.models.list()]
    chats = [
        client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=12, seed=3, temperature=0.8)
        for _ in range(2)
    ]
    assert chats[0].choices[0].message.content == chats[1].choices[0].message.content
    assert chats[0].model == "tiny"
    assert 0 < chats[0].usage.completion_tokens <= 12
    assert chats[0].usage.prompt_tokens > 30


def test_a_stream_says_the_same(client: OpenAI):
    asked = {"model": "tiny", "messages": ASKED, "max_tokens": 12, "seed": 3}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    chunks = list(client.chat.completions.create(**asked, stream=True))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole
    assert len([piece for piece in pieces if piece]) > 1


def test_others_are_answered_meanwhile_and_the_queue_has_an_end(client: OpenAI, edge: Running):
    asked = {"model": "tiny", "messages": ASKED, "max_tokens": 400, "stop": []}

    def chat(_: int) -> str:
        try:
            return client.chat.completions.create(**asked).choices[0].finish_reason
        except RateLimitError as error:
            return error.response.headers["retry-after"]

    with ThreadPoolExecutor(4) as pool:
        chats = pool.map(chat, range(4))
        sleep(0.05)
        began = monotonic()
        assert edge.post("/v1/route", {"text": "write unit tests"}).status_code == 200
        waited = monotonic() - began
        ended = list(chats)
    assert waited < 1
    assert ended.count("5") == 2  # one is written, one waits, two are turned away


def test_a_client_that_leaves_stops_the_model(client: OpenAI, edge: Running):
    stream = client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=2_000, stream=True)
    next(iter(stream))
    stream.close()
    began = monotonic()
    short = client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=1)
    assert short.usage.completion_tokens == 1
    turns = edge.llm.backends[next(iter(edge.llm.backends))]._turns
    assert turns.waiting == 0
    assert monotonic() - began < 5
    assert asyncio.run(edge.llm.backends[next(iter(edge.llm.backends))].healthy())
