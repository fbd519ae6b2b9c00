"""How much longer answers take while the server does its background work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.request import Request, urlopen

from ruvllm.agents.catalog import builtin_agents
from ruvllm_bench.serve.load import drive, prompts
from ruvllm_bench.serve.spawn import Spawned, running

_LESSONS = 200  # feedbacks that make a review due


@dataclass(frozen=True, slots=True)
class Background:
    """Of runs in turn, the first without background work, the next with it.

    Attributes:
        alone_ms, beside_ms: p99 of each run.
        reviews: that were finished in all of them.
        errors: answers other than 200.
    """

    alone_ms: tuple[float, ...]
    beside_ms: tuple[float, ...]
    reviews: int
    errors: int

    @property
    def ratio(self) -> float:
        """By how much the median of the p99s grew."""
        return round(median(self.beside_ms) / max(median(self.alone_ms), 1e-9), 2)


def background(encoder: str, connections: int, seconds: float, runs: int) -> Background:
    """So many runs of so many seconds without, and as many beside the review of 200 feedbacks each.

    Raises:
        RuvllmError: no server starts.
    """
    lessons = _lessons()
    with running(encoder, settings={"RUVLLM_RATE": "0", "RUVLLM_LOG_LEVEL": "warning"}) as server:
        asyncio.run(drive(server.port, connections, min(1.0, seconds), prompts()))
        return asyncio.run(_measure(server, lessons, connections, seconds, runs))


async def _measure(
    server: Spawned, lessons: Iterator[tuple[str, str]], connections: int, seconds: float, runs: int
) -> Background:
    asked, loop = prompts(), asyncio.get_running_loop()
    alone, beside = [], []
    reviews = errors = 0
    for _ in range(runs):
        before = await loop.run_in_executor(None, _last, server)
        alone.append(await drive(server.port, connections, seconds, asked))
        for text, agent in (next(lessons) for _ in range(_LESSONS)):
            await loop.run_in_executor(None, _ask, server, "feedback", {"text": text, "agent": agent})
        beside.append(await drive(server.port, connections, seconds, asked))
        while (after := await loop.run_in_executor(None, _last, server)) == before:
            await asyncio.sleep(0.2)
        reviews += after != before
    errors = sum(one.errors for one in (*alone, *beside))
    return Background(tuple(one.p99_ms for one in alone), tuple(one.p99_ms for one in beside), reviews, errors)


def _lessons() -> Iterator[tuple[str, str]]:
    """Endless tasks with their agents, no two alike."""
    pairs = [(example, agent.name) for agent in builtin_agents() for example in agent.examples]
    return ((f"{text}, case {n}", name) for n in range(1, 1 << 30) for text, name in pairs)


def _ask(server: Spawned, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{server.url}/v1/{path}", data, {"content-type": "application/json"}), timeout=60) as answer:
        return json.load(answer)


def _last(server: Spawned) -> float:
    """When feedback was last reviewed; 0 before."""
    (review,) = (job for job in _ask(server, "stats")["jobs"] if job["name"] == "review")
    return review["last"]["at"] if review["last"] else 0.0
