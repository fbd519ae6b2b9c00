"""Queries whose backend has to be awaited: from synchronous code, with a limit, and cancelled."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from typing import Any

import pytest
from waiting import PATIENCE

from ruvllm import RuvLLM, Tier
from ruvllm.errors import BackendError, InputError
from ruvllm.inference.echo import Echo
from ruvllm.query.responses import Constraints, Delta

TEXT = "one two three four five six"


def make(static_llm: RuvLLM, pause: float = 0.0) -> RuvLLM:
    return RuvLLM(encoder="static", like=static_llm, backends={Tier.LARGE: Echo(pause=pause)})


def test_a_synchronous_caller_waits(static_llm: RuvLLM):
    with make(static_llm, 0.001) as llm:
        session = llm.new_session().id
        assert [llm.query_session(session, TEXT).text for _ in range(2)] == [f"[echo] {TEXT}"] * 2
        assert len(llm.session(session).history) == 4


def test_threads_take_turns(static_llm: RuvLLM):
    said = list[str]()
    with make(static_llm, 0.001) as llm:
        threads = [threading.Thread(target=lambda: said.append(llm.query(TEXT).text)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert said == [f"[echo] {TEXT}"] * 4


def test_inside_an_event_loop_it_says_what_to_await(static_llm: RuvLLM):
    async def main() -> None:
        with pytest.raises(InputError, match=r"await aquery\(\)"):
            llm.query(TEXT)
        assert (await llm.aquery(TEXT)).text == f"[echo] {TEXT}"
        await llm.aclose()

    llm = make(static_llm, 0.001)
    asyncio.run(main())


def test_what_never_waits_may_be_called_anywhere(static_llm: RuvLLM):
    async def main() -> str:
        return RuvLLM(encoder="static", like=static_llm).query(TEXT).text

    assert "cannot answer" in asyncio.run(main())


def test_a_limit_of_time_holds(static_llm: RuvLLM):
    llm = make(static_llm, 0.5)
    with pytest.raises(BackendError) as caught:
        llm.query(TEXT, constraints=Constraints(max_latency_ms=100))
    assert caught.value.kind == "timeout"

    seen = list[Any]()

    async def main() -> None:
        async for event in llm.aquery_stream(TEXT, constraints=Constraints(max_latency_ms=100)):
            seen.append(event)

    with pytest.raises(BackendError):
        asyncio.run(main())
    assert len(seen) == 1
    assert llm.stats()["total_queries"] == 0


def test_a_cancelled_stream_leaves_nothing(static_llm: RuvLLM):
    llm = make(static_llm, 0.05)
    session = llm.new_session().id
    seen = list[Any]()

    async def read() -> None:
        async with aclosing(llm.aquery_stream(TEXT, session=session)) as events:  # type: ignore[type-var]
            async for event in events:
                seen.append(event)

    async def main() -> None:
        task = asyncio.create_task(read())
        while not any(isinstance(event, Delta) for event in seen):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await llm.aquery(TEXT, session=session)).text == f"[echo] {TEXT}"

    asyncio.run(main())
    assert [message.content for message in llm.session(session).history] == [TEXT, f"[echo] {TEXT}"]
    assert llm.stats()["total_queries"] == 1


def test_many_at_once_in_one_session(static_llm: RuvLLM):
    llm = make(static_llm, 0.001)
    session = llm.new_session().id

    async def main() -> None:
        await asyncio.gather(*(llm.aquery(f"question {i}", session=session) for i in range(10)))

    asyncio.run(main())
    spoken = [message.content for message in llm.session(session).history]
    assert sorted(spoken[::2]) == sorted(f"question {i}" for i in range(10))
    assert all(answer == f"[echo] {asked}" for asked, answer in zip(spoken[::2], spoken[1::2], strict=True))
