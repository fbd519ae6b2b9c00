"""Background work of a server: done without a query, told of, and not repeated by a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Running, serving
from waiting import until

from ruvllm import RuvLLM
from ruvllm.encoders.protocol import run_now
from ruvllm.jobs import HOUR
from ruvllm_edge.edge import Edge
from ruvllm_edge.server import Server
from ruvllm_edge.settings import Settings


def job(edge: Running, name: str) -> dict[str, Any]:
    (row,) = [row for row in edge.get("/v1/stats").json()["jobs"] if row["name"] == name]
    return row


def measured(edge: Running, metric: str, name: str) -> float:
    (line,) = [
        line
        for line in edge.get("/metrics").text.splitlines()
        if line.startswith(f'ruvllm_job_{metric}{{job="{name}"}}')
    ]
    return float(line.split()[-1])


def test_200_feedbacks_over_http_are_reviewed_without_a_query_and_a_restart_does_not_repeat_it(tmp_path: Path):
    state = tmp_path / "state.db"
    with serving(RuvLLM(encoder="static", state=state)) as edge:
        names = [agent.name for agent in edge.llm.agents]
        for i in range(200):
            told = {"text": f"polish copper kettle number {i}", "agent": names[i % len(names)]}
            assert edge.post("/v1/feedback", told).status_code == 200
        until(lambda: job(edge, "review")["last"])
        before = job(edge, "review")
        assert before["last"]["outcome"] == "reviewed 200 feedbacks"
        until(lambda: measured(edge, "runs_total", "review") == 1)
        assert measured(edge, "failures_total", "review") == 0
        assert measured(edge, "last_run_seconds", "review") == before["last"]["seconds"] > 0
        assert measured(edge, "last_run_timestamp_seconds", "review") == before["last"]["at"]
        assert measured(edge, "next_run_timestamp_seconds", "review") == before["last"]["at"] + HOUR
    with serving(RuvLLM(encoder="static", state=state)) as edge:
        until(lambda: measured(edge, "runs_total", "write") >= 2)  # so the whole list was gone through
        after = job(edge, "review")
        assert (after["due"], after["last"]) == (False, before["last"])
        assert measured(edge, "runs_total", "review") == 0


def test_between_slices_of_work_requests_get_most_of_the_time(monkeypatch: pytest.MonkeyPatch):
    llm, slept, now = RuvLLM(encoder="static"), list[float](), [100.0]
    edge = Edge(Server(llm, Settings()), llm)
    edge._resumed = now[0]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("ruvllm_edge.edge.perf_counter", lambda: now[0])
    monkeypatch.setattr("ruvllm_edge.edge.asyncio.sleep", sleep)
    for requests, worked in ((0, 0.004), (1, 0.004), (5, 60.0)):

        async def others(requests: int = requests) -> None:
            edge.server.requests += requests

        now[0] += worked
        monkeypatch.setattr("ruvllm_edge.edge.pause", others)
        run_now(edge._considerate())
    assert slept == [pytest.approx(0.036), 0.1]


def test_a_failed_job_is_counted_and_its_next_run_told():
    llm = RuvLLM(encoder="static")

    def broken() -> None:
        raise KeyError

    llm.services.write = broken  # type: ignore[method-assign]
    with serving(llm) as edge:
        until(lambda: measured(edge, "failures_total", "write") >= 1)
        row = job(edge, "write")
        assert (row["last"], row["failure"]["error"]) == (None, "KeyError")
        assert row["next"] > row["failure"]["at"]
        assert measured(edge, "last_run_timestamp_seconds", "write") == 0
