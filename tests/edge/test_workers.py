"""Tasks that wait together, and processes that decide beside the one that learns."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
from conftest import serving
from msgspec.json import encode
from waiting import PATIENCE, until

from ruvllm import RuvLLM
from ruvllm.errors import InputError
from ruvllm_bench.serve.spawn import spawn
from ruvllm_edge.workers import Tasks, fork_workers

TASKS = [f"add unit tests for part {i} of the parser" for i in range(20)] + ["draw a chart of sales", "a"]


def answers(url: str, texts: list[str]) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            return await asyncio.gather(*(client.post("/v1/route", json={"text": text, "top": 2}) for text in texts))

    return asyncio.run(ask())


def plain(decision: Any) -> Any:
    """Without what differs from time to time."""
    return {name: value for name, value in decision.items() if name not in ("timings_us", "cached", "evidence")}


def test_tasks_of_many_clients_at_once_are_decided_as_each_alone():
    with serving(RuvLLM(encoder="static")) as edge:
        found = answers(edge.url, [*TASKS, "", *TASKS[:3]])
        bad = found.pop(len(TASKS))
        assert (bad.status_code, bad.json()["field"]) == (422, "text")
    with RuvLLM(encoder="static") as llm:
        single = [json.loads(encode(llm.route(text, 2))) for text in (*TASKS, *TASKS[:3])]
    assert [answer.status_code for answer in found] == [200] * len(found)
    assert list(map(plain, (answer.json() for answer in found))) == list(map(plain, single))


def test_who_has_left_costs_the_others_nothing():
    async def ask() -> list[Any]:
        with RuvLLM(encoder="static") as llm:
            tasks = Tasks(llm)
            asked = [asyncio.ensure_future(tasks.route(text, 3, False, alone=False)) for text in (*TASKS[:3], " ")]
            await asyncio.sleep(0)
            asked[1].cancel()
            return await asyncio.gather(*asked, return_exceptions=True)

    first, left, third, empty = asyncio.run(ask())
    assert isinstance(left, asyncio.CancelledError)
    assert isinstance(empty, InputError)
    assert first.agent == third.agent == "tester"


def test_tasks_of_connections_that_do_not_see_one_another_are_decided_together():
    blocks = list[int]()

    async def ask() -> None:
        with RuvLLM(encoder="static") as llm:
            tasks, many = Tasks(llm), llm.aroute_many

            async def counted(texts: list[str], *others: Any) -> Any:
                blocks.append(len(texts))
                return await many(texts, *others)

            llm.aroute_many = counted  # type: ignore[method-assign]
            for one in range(4):  # one client alone waits for company once, and not again
                await tasks.route(f"add tests for part {one}", 3, False, alone=True)
            for round_ in range(20):
                await asyncio.gather(*[tasks.route(f"{text} {round_}", 3, False, alone=True) for text in TASKS])

    asyncio.run(ask())
    assert blocks[0] == 1
    assert blocks.count(len(TASKS)) > 15


def test_what_one_process_learns_is_decided_by_the_others(tmp_path: Path):
    """Of a worker too: what it decided is bytes; and where it ends, this process decides alone."""

    def make() -> RuvLLM:
        return RuvLLM(encoder="static", state=tmp_path / "state.db")

    workers = fork_workers(1, make, keeps=True)

    async def ask() -> list[Any]:
        with make() as llm:
            tasks, found = Tasks(llm, workers), list[Any]()

            async def there(text: str) -> Any:
                for _ in range(int(PATIENCE / 0.02)):
                    tasks.refresh()
                    if workers[0].basis == tasks.basis and not workers[0].busy:
                        return await tasks.route(text, 3, False, alone=False)
                    await asyncio.sleep(0.02)
                raise TimeoutError

            text = "varnish the violin in the attic"
            found.append(await there(text))
            await llm.afeedback(text, "planner")
            found.append(await tasks.route(text, 3, False, alone=False))  # the worker does not know of it yet
            found.append(await there(text))
            tasks.close()
            found.append(await tasks.route(text + " again", 3, False, alone=False))
            return found

    before, here, after, alone = asyncio.run(ask())
    assert (before.agent if hasattr(before, "agent") else before.data[:30]) != "planner"
    assert here.agent == alone.agent == "planner"
    assert b'"agent":"planner"' in after.data
    assert after.confidence == here.confidence


def test_a_server_of_two_processes(tmp_path: Path):
    settings = {"RUVLLM_WORKERS": "2"}
    with spawn(tmp_path / "state.db", settings=settings) as server, httpx.Client(base_url=server.url) as client:
        assert {answer.status_code for answer in answers(server.url, TASKS)} == {200}
        agent = {"name": "luthier", "description": "Builds and mends violins", "examples": ["varnish the violin"]}
        assert client.put("/v1/agents", json={"agents": [agent]}, timeout=PATIENCE).status_code == 200
        texts = [f"varnish the violin number {i}" for i in range(30)]
        assert {answer.json()["agent"] for answer in answers(server.url, texts)} == {"luthier"}
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        if children.exists():
            (worker,) = children.read_text().split()
            server.stop()
            until(lambda: not Path(f"/proc/{worker}").exists())
