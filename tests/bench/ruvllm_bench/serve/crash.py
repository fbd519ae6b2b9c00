"""kill -9 while clients write: is the file whole, and is everything there that was acknowledged?"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ruvllm.state.repair.check import check
from ruvllm.state.store import Store
from ruvllm_bench.serve.spawn import Spawned, spawn

_WRITERS = 8


@dataclass(slots=True)
class Written:
    """What was acknowledged: marks of memories with their ids, and texts that were taught."""

    memories: dict[str, int] = field(default_factory=dict)
    lessons: set[str] = field(default_factory=set)
    agents: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.memories) + len(self.lessons) + len(self.agents)


@dataclass(frozen=True, slots=True)
class Crashes:
    """What came of it.

    Attributes:
        rounds: kills, each followed by a restart on the same file.
        written: writes that were acknowledged.
        lost: of them, asked of the server that was started next.
        damaged: rounds after which `memory check` found something wrong.
    """

    rounds: int
    written: int
    lost: int
    damaged: int


async def crash(state: Path, rounds: int, settings: Mapping[str, str], seed: int = 0) -> Crashes:
    """Kill a server so many times at moments of chance in the middle of writes.

    Raises:
        RuvllmError: it does not start again.
    """
    rng, written, lost, damaged = random.Random(seed), Written(), 0, 0
    for number in range(rounds):
        with spawn(state, settings=settings) as server:
            writing = asyncio.ensure_future(write(server.url, written, f"{number}"))
            enough = len(written) + rng.randrange(20, 100)
            while len(written) < enough and not writing.done():
                await asyncio.sleep(0.002)
            await asyncio.sleep(rng.uniform(0, 0.02))  # anywhere between two acknowledgements
            server.kill()
            await writing
        damaged += not check(state).ok
        with spawn(state, settings=settings) as server:
            lost = max(lost, await missing(server, state, written))
    return Crashes(rounds, len(written), lost, damaged)


async def write(url: str, written: Written, name: str) -> None:
    """Write from many clients until the server is gone; noted is what it acknowledged."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        await asyncio.gather(*(_writer(client, written, f"{name}-{i}", not i) for i in range(_WRITERS)))


async def _writer(client: httpx.AsyncClient, written: Written, name: str, agents: bool) -> None:
    """One client; agents take the server longer than the rest, so one of them adds one."""
    number = 0
    with suppress(httpx.HTTPError):
        while True:
            number += 1
            mark = f"{name}-{number}"
            if number % 3:
                rows = [{"text": f"Parcel {mark}-{i} went to bay {i}.", "metadata": {"mark": mark}} for i in range(2)]
                answer = await client.post("/v1/memory", json={"memories": rows})
                if answer.status_code != 200:
                    return
                written.memories[mark] = answer.json()["ids"][0]
            else:
                text = f"file parcel {mark}"
                answer = await client.post("/v1/feedback", json={"text": text, "agent": "planner"})
                if answer.status_code != 200:
                    return
                written.lessons.add(text)
            if agents and number == 1:
                agent = {"name": f"clerk-{name}", "description": "Files parcels."}
                if (await client.put("/v1/agents", json={"agents": [agent]})).status_code == 200:
                    written.agents.add(agent["name"])


async def missing(server: Spawned, state: Path, written: Written) -> int:
    """How many of these writes a restarted server does not have."""
    lost = 0
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
        for mark, id in written.memories.items():
            asked = {"query": "parcel", "k": 3, "filter": {"mark": mark}}
            found = (await client.post("/v1/memory/search", json=asked)).json()["memories"]
            lost += id not in {one["id"] for one in found} or len(found) != 2  # a batch is whole or not there
        agents = {one["name"] for one in (await client.get("/v1/agents")).json()["agents"]}
    with closing(Store(state)) as store:
        taught = {feedback.text for feedback in store.feedback()}
    return lost + len(written.lessons - taught) + len(written.agents - agents)
