"""What an event loop adds to recursive answering: parts at the same time, deadlines, streams, cancellation."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from waiting import patiently, until_async

from ruvllm import InputError, RuvLLM
from ruvllm.inference.backend import Chunk, Completion, Usage
from ruvllm.rlm.answers import Answered, Delta, Planned, RlmAnswer
from ruvllm.rlm.controller import RlmController
from ruvllm.rlm.plan import Plan, SubQuery

NAMES = ["rust", "glaze", "kiln", "iron", "oxygen", "salt", "clay", "ash"]
EIGHT = f"Define {', '.join(NAMES[:-1])} and {NAMES[-1]}"


class Slow:
    """A backend that takes its time, and remembers how many it served at once and in which order.

    Args:
        together: nobody is answered before it serves so many at once.
    """

    name, model, context = "slow", "slow", 8192

    def __init__(self, seconds: float = 0.02, together: int = 1) -> None:
        self.together = together
        self.seconds, self.now, self.most, self.tokens, self.broken_off = seconds, 0, 0, 0, 0
        self.asked: list[str] = []

    async def generate(self, messages, params) -> Completion:
        self.asked.append(messages[-1].content)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await until_async(lambda: self.most >= self.together)
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        finally:
            self.now -= 1
        usage = Usage(sum(len(message.content) for message in messages) // 4, 8)
        self.tokens += usage.total_tokens
        return Completion(f"{messages[-1].content} is known.", self.model, usage)

    async def stream(self, messages, params):
        said = await self.generate(messages, params)
        for word in said.text.split(" "):
            yield Chunk(f"{word} ")
        yield Chunk("", "stop", said.usage)


class Steps:
    """A decomposer whose last part needs the first."""

    def tokens(self, query: str) -> int:
        return 0

    async def decompose(self, query: str) -> Plan:
        if query != "q":
            return Plan(query)
        return Plan(query, (SubQuery("one"), SubQuery("two"), SubQuery("three", (0,)), SubQuery("two")))


def rlm(llm: RuvLLM, backend, **settings) -> RlmController:
    return RlmController(llm.encoders.static, backend, **settings)


def test_independent_parts_are_asked_at_the_same_time(static_llm):
    slow = Slow(together=8)
    answer = asyncio.run(rlm(static_llm, slow, max_sub_queries=8).aquery(EIGHT))
    assert (slow.most, answer.calls) == (8, 9)
    assert answer.usage.total_tokens == slow.tokens <= 4096
    assert not answer.unanswered


def test_no_more_at_a_time_than_allowed(static_llm):
    slow = Slow(together=3)
    asyncio.run(rlm(static_llm, slow, max_parallel=3).aquery(EIGHT))
    assert slow.most == 3


def test_a_part_waits_for_the_one_it_needs_and_nothing_is_asked_twice(static_llm):
    slow = Slow()
    answer = asyncio.run(rlm(static_llm, slow, decomposer=Steps()).aquery("q"))
    assert sorted(slow.asked[:2]) == ["one", "two"]
    assert slow.asked[2:] == ["three", "q"]
    assert [finding.query for finding in answer.findings] == ["one", "two", "three", "two"]


def test_the_deadline_breaks_off_what_is_late(static_llm):
    def check(slower: float) -> None:
        slow = Slow(seconds=3_600)
        answer = asyncio.run(rlm(static_llm, slow, deadline=0.05 * slower).aquery("Define rust and glaze"))
        assert {finding.missing for finding in answer.findings} == {"deadline"}
        assert slow.broken_off == 2
        assert answer.quality == 0

    patiently(check)


def test_a_stream_tells_of_every_step(static_llm):
    async def collect():
        return [event async for event in rlm(static_llm, Slow()).astream("Define rust and glaze")]

    events = asyncio.run(collect())
    assert [type(event) for event in events[:3]] == [Planned, Answered, Answered]
    assert isinstance(events[-1], RlmAnswer)
    told = "".join(event.text for event in events if isinstance(event, Delta))
    assert told.strip() == events[-1].text
    assert sum(isinstance(event, Delta) for event in events) > 3


def test_a_stream_that_is_left_stops_the_backend(static_llm):
    slow = Slow(seconds=3_600)

    async def leave():
        async with aclosing(rlm(static_llm, slow).astream("Define rust and glaze")) as events:
            async for event in events:
                if isinstance(event, Planned):
                    break
            await until_async(lambda: slow.now == 2)
        await until_async(lambda: slow.now == 0 and len(asyncio.all_tasks()) == 1)

    asyncio.run(leave())
    assert slow.broken_off == 2


def test_a_mistake_in_a_backend_is_not_hidden(static_llm):
    class Broken(Slow):
        async def generate(self, messages, params):
            raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(rlm(static_llm, Broken()).aquery("Define rust and glaze"))


def test_query_waits_for_a_backend_where_nothing_else_runs(static_llm):
    controller = rlm(static_llm, Slow())
    assert controller.query("rust").text
    assert controller.query("glaze").text

    async def inside():
        controller.query("kiln")

    with pytest.raises(InputError):
        asyncio.run(inside())
    controller.close()
