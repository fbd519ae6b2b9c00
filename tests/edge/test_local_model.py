"""OpenAI's own client against a server that answers with a model on its own machine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import Any

import pytest
from conftest import Running, serving
from openai import OpenAI, RateLimitError
from waiting import PATIENCE, until

from ruvllm import Config, RuvLLM
from ruvllm.inference.local import OnnxSession

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


def held_steps(monkeypatch: pytest.MonkeyPatch, free: int) -> Callable[[], None]:
    """Let the model make so many steps, and then none until what is returned is called."""
    steps, step = Semaphore(free), OnnxSession._step

    def held(self: OnnxSession, *given: Any) -> Any:
        assert steps.acquire(timeout=PATIENCE)
        return step(self, *given)

    monkeypatch.setattr(OnnxSession, "_step", held)
    return lambda: steps.release(10_000)


def test_others_are_answered_meanwhile_and_the_queue_has_an_end(
    client: OpenAI, edge: Running, monkeypatch: pytest.MonkeyPatch
):
    asked = {"model": "tiny", "messages": ASKED, "max_tokens": 400, "stop": []}

    def chat(_: int) -> str:
        try:
            return client.chat.completions.create(**asked).choices[0].finish_reason
        except RateLimitError as error:
            return error.response.headers["retry-after"]

    go = held_steps(monkeypatch, 1)
    with ThreadPoolExecutor(4) as pool:
        chats = [pool.submit(chat, number) for number in range(4)]
        until(lambda: sum(one.done() for one in chats) == 2)
        assert edge.post("/v1/route", {"text": "write unit tests"}).status_code == 200
        assert {one.result() for one in chats if one.done()} == {"5"}  # one is written, one waits, two are turned away
        go()
        assert [one.result() for one in chats].count("5") == 2


def test_a_client_that_leaves_stops_the_model(client: OpenAI, edge: Running, monkeypatch: pytest.MonkeyPatch):
    turns = edge.llm.backends[next(iter(edge.llm.backends))]._turns
    go = held_steps(monkeypatch, 50)
    stream = client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=2_000, stream=True)
    next(iter(stream))
    stream.close()
    until(lambda: not turns._taken)  # though the model never came to its end
    go()
    short = client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=1)
    assert short.usage.completion_tokens == 1
    assert turns.waiting == 0
    assert asyncio.run(edge.llm.backends[next(iter(edge.llm.backends))].healthy())
