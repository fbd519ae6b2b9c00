"""Recursive answering with a model on this machine that talks nonsense: the rules and the sources answer instead."""

import asyncio

import decoders
import pytest
from decoders import random_decoder, write_folder
from waiting import PATIENCE, until_async

from ruvllm import RuvLLM
from ruvllm.inference.local_models import LocalModels
from ruvllm.rlm.answers import Delta, Planned, RlmAnswer
from ruvllm.rlm.controller import RlmController
from ruvllm.rlm.decompose import LlmDecomposer, RuleDecomposer
from ruvllm_models.convert import convert

FACTS = [
    "The staging database is reset every Monday at six.",
    "The production database is backed up every night.",
    "Deploys to production need two approvals.",
]
QUERY = "When is the staging database reset, and how many approvals do deploys to production need?"


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoders, "CONTEXT", 4096)
        write_folder(random_decoder("qwen2"), root / "hf")
    convert(root / "hf", root / "tiny")
    return LocalModels(threads=1).backend("small", root / "tiny")


@pytest.fixture
def llm(tmp_path):
    with RuvLLM(encoder="static", state=tmp_path / "s.db") as one:
        one.memory.add(FACTS)
        yield one


def rlm(llm, backend, **settings):
    # Cooler, a random model falls into a loop, and is sure of it.
    settings |= {"temperature": 1.0}
    return RlmController(llm.encoders.static, backend, llm.memory, decomposer=LlmDecomposer(backend), **settings)


def test_nonsense_for_a_plan_is_the_rules_plan(backend):
    plan = asyncio.run(LlmDecomposer(backend).decompose(QUERY))
    assert [part.text for part in plan.parts] == [part.text for part in RuleDecomposer().plan(QUERY).parts]
    assert len(plan.parts) == 2
    assert plan.usage.completion_tokens > 0  # it was asked, and it is paid


def test_nonsense_for_answers_is_what_the_sources_say(llm, backend):
    answer = asyncio.run(rlm(llm, backend, token_budget=20_000, answer_tokens=64).aquery(QUERY))
    assert answer.calls >= 2
    assert not answer.unanswered
    assert "every Monday at six. [1]" in answer.text
    assert answer.text == RlmController(llm.encoders.static, None, llm.memory).query(QUERY).text
    assert answer.usage.completion_tokens > 0
    assert not answer.usage.estimated


def test_it_streams_and_its_last_text_is_the_answer(llm, backend):
    async def main():
        return [event async for event in rlm(llm, backend, token_budget=20_000, answer_tokens=64).astream(QUERY)]

    *events, answer = asyncio.run(main())
    assert isinstance(answer, RlmAnswer)
    assert any(isinstance(event, Planned) for event in events)
    text = ""
    for event in events:
        if isinstance(event, Delta):
            text = event.text if event.restart else text + event.text
    assert text.strip() == answer.text.strip()


def test_who_leaves_frees_the_model(llm, backend):
    async def main():
        task = asyncio.ensure_future(rlm(llm, backend, token_budget=50_000).aquery(QUERY))
        await until_async(lambda: backend._turns._taken)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await asyncio.wait_for(rlm(llm, backend, token_budget=20_000, answer_tokens=32).aquery(QUERY), PATIENCE)

    assert "every Monday" in asyncio.run(main()).text
