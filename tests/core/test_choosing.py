"""One runtime's backends: chosen among by what came of it, and asked recursively."""

import json
from io import BytesIO

import numpy as np
import pytest

from ruvllm import RuvLLM
from ruvllm.artifacts.host import load_npz
from ruvllm.sizing.fastgrnn import ModelSize
from ruvllm.sizing.ledger import sizes_by_cost
from ruvllm.sizing.selector import BackendProfile
from ruvllm.state.names import name_in

BACKENDS = (BackendProfile("haiku", 0.001, 400), BackendProfile("opus", 0.03, 3_000))
TASKS = [f"prove that {n} has no root in the field" if n % 2 else f"say hello to guest {n}" for n in range(240)]


def worked(selector, tasks: int = len(TASKS)) -> None:
    """Haiku greets, opus proves."""
    for task in TASKS[:tasks]:
        choice = selector.select(task)
        selector.record_outcome(choice, choice.backend == "opus" or task.startswith("say"))


def test_the_model_router_learns_from_the_same_outcomes():
    with RuvLLM(encoder="static") as llm:
        network, vectors = llm.learning.network, llm.embed(TASKS[:2])
        before, states = network.theta.copy(), network.start()
        selector = llm.orchestrator(BACKENDS, budget=0.016)
        worked(selector)
        assert len(llm.learning.replay.labelled) == len(TASKS)
        llm.run_jobs(600)
        assert np.abs(llm.learning.network.theta - before).max() > 0
        small = [
            network.choose(network.step(network.inputs(vector, text), states)[0]).holds[ModelSize.TINY]
            for text, vector in zip(TASKS[:2], vectors, strict=True)
        ]
        assert small[0] > small[1]  # it can say hello, and it cannot prove


def test_an_outcome_told_by_name_reaches_it_too():
    with RuvLLM(encoder="static") as llm:
        llm.orchestrator(BACKENDS).record_outcome("opus", quality=0.4, cost=0.02, prompt="prove it")
        assert len(llm.learning.replay.labelled) == 1


def test_what_was_learnt_of_backends_is_kept(tmp_path):
    with RuvLLM(encoder="static", state=tmp_path / "s.db") as llm:
        worked(llm.orchestrator(BACKENDS, budget=0.016), 60)
        told = llm.stats()["selection"]
        assert json.loads(json.dumps(told, allow_nan=False)) == told
        assert {"spent", "always_dearest", "savings", "quality", "backends", "curve"} <= set(told)
    with RuvLLM(encoder="static", state=tmp_path / "s.db") as llm:
        assert "selection" not in llm.stats()
        assert llm.orchestrator(BACKENDS, budget=0.016).stats() == told
        others = llm.orchestrator([BACKENDS[0], BackendProfile("other", 1)])
        assert others.stats()["answers"] == 0


def test_a_tick_keeps_what_was_learnt_of_backends(tmp_path):
    with RuvLLM(encoder="static", state=tmp_path / "s.db") as llm:
        selector = llm.orchestrator(BACKENDS, budget=0.016)
        worked(selector, 60)
        assert llm.store.load(name_in(llm.encoders.space, "orchestrator")) is None
        llm.write()
        assert llm.store.load(name_in(llm.encoders.space, "orchestrator")) == selector.to_bytes()
        selector.record_outcome("opus", prompt="prove it")
        llm.write()
        assert llm.store.load(name_in(llm.encoders.space, "orchestrator")) == selector.to_bytes()


def test_what_cannot_be_read_is_set_aside_and_learnt_anew(tmp_path):
    with RuvLLM(encoder="static", state=tmp_path / "s.db") as llm:
        worked(llm.orchestrator(BACKENDS), 60)
    with RuvLLM(encoder="static", state=tmp_path / "s.db") as llm:
        arrays = load_npz(llm.store.load(name_in(llm.encoders.space, "orchestrator")), "selector")
        older = BytesIO()
        np.savez(older, **{name: value for name, value in arrays.items() if name != "rows"})
        llm.store.put(name_in(llm.encoders.space, "orchestrator"), older.getvalue())
        selector = llm.orchestrator(BACKENDS)
        told = selector.stats()
        assert (told["answers"], told["lost"][:30]) == (0, "nothing usable was learnt of backe"[:30])
        worked(selector, 60)
    with RuvLLM(encoder="static", state=tmp_path / "s.db") as llm:
        assert llm.store.load(name_in(llm.encoders.space, "orchestrator-unread")) == older.getvalue()
        assert llm.orchestrator(BACKENDS).stats()["lost"] == ""


def test_sizes_follow_costs_unless_they_are_named():
    assert sizes_by_cost([30, 1, 5]) == [ModelSize.LARGE, ModelSize.TINY, ModelSize.MEDIUM]
    with RuvLLM(encoder="static") as llm:
        profiles = [BackendProfile("a", 1, size=ModelSize.SMALL), BackendProfile("b", 2)]
        assert llm.orchestrator(profiles)._sizes == [ModelSize.SMALL, ModelSize.LARGE]


def test_complex_queries_are_answered_from_its_memory():
    with RuvLLM(encoder="static") as llm:
        llm.memory.add("The staging database is reset every Monday at six.")
        llm.memory.add("The production database is backed up every night to another region.")
        answer = llm.rlm().query("When is the staging database reset and when is the production database backed up?")
    assert len(answer.findings) == 2
    assert "Monday" in answer.text
    assert "night" in answer.text


def test_settings_of_recursion_are_named():
    with RuvLLM(encoder="static") as llm:
        assert llm.rlm(max_depth=2, token_budget=512).config.max_depth == 2
        with pytest.raises(Exception, match="depth"):
            llm.rlm(depth=2)
