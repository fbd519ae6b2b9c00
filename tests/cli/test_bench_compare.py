"""`ruvllm bench route --compare`: every way of routing is asked the same prompts, the LLM over a real socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from llm_server import Server, answer

from ruvllm import InputError
from ruvllm_bench import steps
from ruvllm_bench.cli import bench
from ruvllm_bench.compare import read_sets

LOCAL = ("ruvllm", "utterances, nearest five", "centroids", "logistic", "keywords")
AGENTS = {
    "tester": {"description": "writes tests", "examples": ["write unit tests", "test the parser", "add a test case"]},
    "documenter": {"description": "writes documentation of a project"},
}
PROMPTS = [
    {"prompt": "write unit tests for the login", "agent": "tester"},
    {"prompt": "write documentation for the project", "agent": "documenter"},
]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps({"agents": AGENTS, "prompts": PROMPTS}))
    return file


def run(*arguments: object) -> Result:
    return CliRunner().invoke(bench, ["route", "--compare", *map(str, arguments), "--encoder", "static", "--json"])


def rows(result: Result) -> dict[str, dict[str, float]]:
    assert not result.exception, result.output
    found: dict[str, dict[str, float]] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_every_way_is_asked_every_prompt(tasks: Path) -> None:
    found = rows(run(tasks))
    assert tuple(found) == LOCAL
    for row in found.values():
        assert row["prompts"] == 2
        assert row["top1"] == 1.0
        assert row["p50_us"] > 0
        assert row["usd_per_million"] >= 0


def test_a_file_of_intents_gives_as_many_examples_as_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "intents.json"
    train = [[f"{word} number {n}", word] for word in ("invoice", "garden") for n in range(5)]
    file.write_text(json.dumps({"train": train, "test": [["my invoice", "invoice"], ["the garden", "garden"]]}))
    (found,) = read_sets(file, builtin=False, shots=2, limit=0)
    assert [len(agent.examples) for agent in found.agents] == [2, 2]
    assert len(read_sets(file, builtin=False, shots=0, limit=1)[0].prompts) == 1
    assert rows(run(file))["centroids"]["top1"] == 1.0


def test_an_llm_is_asked_and_its_tokens_are_paid(tasks: Path) -> None:
    reply = {
        "choices": [{"message": {"content": "**Tester**"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }

    async def ask() -> tuple[Result, list[str]]:
        async with Server(answer(200, reply)) as server:
            options = ("--llm-url", server.url, "--llm-model", "big", "--llm-price", 2.0, 10.0)
            done = await asyncio.to_thread(run, tasks, *options)
            return done, [json.dumps(request.body) for request in server.requests]

    done, said = asyncio.run(ask())
    found = rows(done)["big"]
    assert found["top1"] == 0.5
    assert found["usd_per_million"] == pytest.approx(300.0)
    assert all("documenter: writes documentation" in text for text in said)
    assert "write unit tests for the login" in said[0]


def test_what_is_missing_is_named(tasks: Path, tmp_path: Path) -> None:
    alone = run(tasks, "--llm-url", "http://127.0.0.1:1/v1")
    assert isinstance(alone.exception, InputError)
    assert alone.exception.field == "llm-model"
    gone = run(tmp_path / "gone.json")
    assert isinstance(gone.exception, InputError)
    assert "cannot be read" in gone.exception.message


def test_what_a_decision_allocates_and_a_step_takes() -> None:
    told = steps._allocations()
    assert told["bytes_at_most"] > told["bytes_that_stay"] > 0
    assert steps.p50(lambda: None, 5) >= 0
