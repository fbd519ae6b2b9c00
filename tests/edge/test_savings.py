"""What was spent, and what the largest model would have cost: by day, agent and key, over restarts."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import serving
from llm_server import answer
from test_backends import llm_server
from test_tools import ASK, SERVED, WHOLE

from ruvllm import RuvLLM
from ruvllm.config import Config
from ruvllm.inference.backend import Usage
from ruvllm.inference.endpoint import Price
from ruvllm_edge.savings import Savings, report

KEYS = {name: f"rv-{name * 20}" for name in "ab"}
BODY: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": ASK}]}
# Of WHOLE's usage: 9 tokens read, of which 5 were cached, and 4 written.
SMALL, LARGE = (4 * 1 + 5 * 0.1 + 4 * 2) / 1e6, (4 * 10 + 5 * 1 + 4 * 20) / 1e6


def config(url: str) -> Config:
    tiers = {
        name: {"kind": "openai", "url": url, "model": f"{name}-1", "prompt_price": price, "cached_price": price / 10,
               "completion_price": 2 * price} for name, price in (("small", 1.0), ("large", 10.0))
    }  # fmt: skip
    return Config.from_dict({"inference": {"tiers": tiers}})


def test_each_key_sees_its_part_and_a_restart_loses_nothing(tmp_path: Path):
    state = tmp_path / "state.db"
    with llm_server(answer(200, WHOLE)) as server:
        with serving(
            RuvLLM(state=state, encoder="static", config=config(server.url)), api_keys=tuple(KEYS.values())
        ) as edge:
            mine, theirs = ({"authorization": f"Bearer {key}"} for key in KEYS.values())
            assert edge.get("/v1/savings", headers=mine).json()["total"]["answers"] == 0
            for headers in (mine, mine, theirs):
                assert edge.post("/v1/chat/completions", BODY, headers=headers).status_code == 200
            found = edge.get("/v1/savings", headers=mine).json()
            assert found["large"] == "large-1"
            assert (found["total"]["answers"], found["total"]["prompt_tokens"]) == (2, 18)
            assert found["total"]["cost"] == pytest.approx(2 * SMALL)
            assert found["total"]["large_cost"] == pytest.approx(2 * LARGE)
            assert found["total"]["saved"] == pytest.approx(2 * (LARGE - SMALL))
            assert [one["name"] for one in found["by_key"]] == ["key-1"]
            assert len(found["by_day"]) == len(found["by_agent"]) == 1
            assert edge.get("/v1/savings?days=0", headers=mine).status_code == 422
        with serving(
            RuvLLM(state=state, encoder="static", config=config(server.url))
        ) as edge:  # its owner, without keys
            found = edge.get("/v1/savings").json()
            assert [(one["name"], one["answers"]) for one in found["by_key"]] == [("key-1", 2), ("key-2", 1)]


def test_streams_and_all_apis_count():
    answers = [SERVED["openai", streamed] for streamed in (True, False, False)]
    with llm_server(*answers) as server, serving(RuvLLM(encoder="static", config=config(server.url))) as edge:
        assert edge.post("/v1/chat/completions", BODY | {"stream": True}).status_code == 200
        assert edge.post("/v1/responses", {"model": "small", "input": ASK}).status_code == 200
        assert edge.post("/v1/messages", BODY | {"max_tokens": 9}).status_code == 200
        total = edge.get("/v1/savings").json()["total"]
    assert (total["answers"], total["cost"]) == (3, pytest.approx(3 * SMALL))


def counted(agent: str = "coder") -> Any:
    return SimpleNamespace(usage=Usage(1_000_000, 0), cost=0.5, decision=SimpleNamespace(agent=agent))


def test_days_pass_and_are_forgotten():
    today = [date(2026, 1, 1)]
    with RuvLLM(encoder="static") as llm:
        savings = Savings(llm.store, lambda: today[0])
        for _ in range(3):
            savings.add(counted(), "", Price(2.0))
            today[0] += timedelta(1)
        today[0] -= timedelta(1)
        assert [len(savings.since(days, None)) for days in (1, 2, 30)] == [1, 2, 3]
        total = report(savings.since(2, None), 2, "large").total
        assert (total.answers, total.cost, total.large_cost, total.saved) == (2, 1.0, 4.0, 3.0)
        today[0] += timedelta(401)
        savings.add(counted("other"), "", Price(2.0))
        savings.save(now=True)
        assert list(Savings(llm.store, lambda: today[0]).since(400, None)) == [(today[0].isoformat(), "other", "")]


def test_what_cannot_be_read_begins_anew():
    with RuvLLM(encoder="static") as llm:
        for data in (b"{", b"[[1]]", b"7"):
            llm.store.put("savings", data)
            assert Savings(llm.store).since(30, None) == {}
