"""Outcomes of similar tasks vote: in routing at once, after a restart, and no more once they are taken back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ruvllm import Agent, BackendProfile, RuvLLM
from ruvllm.encoders.protocol import run_now, unit_rows
from ruvllm.learning.sona import SonaEngine
from ruvllm.sizing.tiers import Features, TierProfile
from ruvllm.state.names import SONA, name_in
from ruvllm.state.store import Store
from ruvllm.types import Tier

DIM = 32
TASK = "sort the invoices of last month"
LIKE = "sort the invoices of this month"


def opened(static_llm: RuvLLM, state: Path | None = None, **learning: object) -> RuvLLM:
    agents = [Agent("clerk", "files letters"), Agent("bookkeeper", "keeps accounts"), Agent("gardener", "grows plants")]
    config = {"learning": {"near_duplicates": False, **learning}}
    return RuvLLM(agents, encoder="static", like=static_llm, state=state, config=config)


def engine() -> SonaEngine:
    return SonaEngine.with_config(embedding_dim=DIM)


def end(sona: SonaEngine, vector: np.ndarray, route: str, good: bool, model: str = "") -> None:
    id = sona.begin_trajectory(vector, route)
    if model:
        sona.add_trajectory_context({"model": model}, id)
    sona.end_trajectory(float(good), good, id)


def test_similar_outcomes_speak_for_and_against():
    sona, task, far = engine(), *np.eye(2, DIM, dtype=np.float32)
    near = unit_rows((task + 0.2 * far)[None])[0]
    assert sona.votes(task) == {}
    end(sona, near, "right", True, "small")
    end(sona, near, "wrong", False, "large")
    end(sona, far, "elsewhere", True)
    votes = sona.votes(task)
    assert votes.keys() == {"right", "wrong"}
    assert votes["right"] > 1 > 0 > votes["wrong"]
    by_model = sona.model_outcomes(task)
    assert by_model["small"][1] > 0.9 > 0.1 > by_model["large"][1]
    sona.set_enabled(False)
    assert sona.votes(task) == {}


def test_a_model_that_is_asked_more_is_no_better_for_it():
    sona, task = engine(), np.eye(1, DIM, dtype=np.float32)[0]
    for number in range(60):
        end(sona, task, "", number % 2 == 0, "often")
        if number % 10 < 2:
            end(sona, task, "", number % 2 == 0, "seldom")
    found = sona.model_outcomes(task)
    assert found["often"] == (pytest.approx(60), pytest.approx(0.5))
    assert found["seldom"] == (pytest.approx(12), pytest.approx(0.5))


def test_patterns_go_on_voting_when_their_outcomes_are_gone():
    sona, tasks = engine(), unit_rows(np.eye(1, DIM) + 0.1 * np.random.default_rng(0).normal(size=(40, DIM)))
    for task in tasks:
        end(sona, task, "right", True)
    sona.force_learn()
    ring = sona.core.adapters.good
    for task in tasks:
        ring.drop(task, "right")
    assert len(ring.rows) == 0
    assert sona.votes(np.eye(1, DIM, dtype=np.float32)[0])["right"] > 1


def test_the_latest_outcomes_are_bounded_and_saved():
    sona, rows = engine(), unit_rows(np.random.default_rng(1).normal(size=(1_100, DIM)))
    for number, row in enumerate(rows):
        end(sona, row, f"route {number % 3}", True)
    ring = sona.core.adapters.good
    assert ring.rows.shape == (1_024, DIM)
    again = SonaEngine.from_bytes(sona.to_bytes())
    assert again.votes(rows[-1]) == sona.votes(rows[-1])
    for one in (sona, again):
        end(one, rows[0], "route 0", True)
    np.testing.assert_array_equal(again.core.adapters.good.rows, ring.rows)


@pytest.mark.parametrize("patterns", [True, False])
def test_feedback_is_an_outcome_that_votes_in_routing(static_llm: RuvLLM, patterns: bool):
    llm = opened(static_llm, patterns=patterns)
    llm.feedback(TASK, "bookkeeper")
    assert (llm.learning.version > 0) == patterns
    vector = llm.embed([LIKE])[0]
    assert (llm.learning.votes(vector).get("bookkeeper", 0) > 1) == patterns
    with_votes = llm.route(LIKE)
    llm.routing.router._votes = None
    llm.routing.router._changed()
    without = llm.route(LIKE)
    assert (with_votes.agent, without.agent) == ("bookkeeper", "bookkeeper")
    assert (with_votes.confidence > without.confidence) == patterns


def test_a_rejection_votes_against(static_llm: RuvLLM):
    llm = opened(static_llm)
    llm.feedback(TASK, "clerk", right=False)
    assert llm.learning.votes(llm.embed([LIKE])[0])["clerk"] < 0


def test_votes_outlive_the_process_and_leave_with_what_is_undone(static_llm: RuvLLM, tmp_path: Path):
    state = tmp_path / "state.db"
    with opened(static_llm, state) as llm:
        llm.feedback(TASK, "bookkeeper")
        vector = llm.embed([LIKE])[0]
        votes = dict(llm.learning.votes(vector))
    with opened(static_llm, state) as llm:
        assert llm.learning.votes(vector) == votes
        assert llm.undo_feedback(llm.store.feedback_rows()[0].id)
        assert llm.learning.votes(vector) == {}
    with opened(static_llm, state) as llm:
        assert llm.learning.votes(vector) == {}


def test_what_is_damaged_has_no_vote_and_stops_no_routing(static_llm: RuvLLM, tmp_path: Path):
    state = tmp_path / "state.db"
    with opened(static_llm, state) as llm:
        llm.feedback(TASK, "bookkeeper")
        name = name_in(llm.encoders.space, SONA)
    store = Store(state)
    assert store.load(name) is not None
    store.put(name, b"nothing")
    store.close()
    with opened(static_llm, state) as llm:
        assert llm.learning.version == 0
        assert llm.route(LIKE).agent == "bookkeeper"


def test_a_cached_decision_is_made_again_when_votes_change(static_llm: RuvLLM):
    llm = opened(static_llm)
    first = llm.route(LIKE)
    assert llm.route(LIKE).cached
    run_now(llm.learning.observe(TASK, "gardener"))
    again = llm.route(LIKE)
    assert not again.cached
    assert again != first


def test_outcomes_of_similar_prompts_speak_in_the_choice_of_a_backend(static_llm: RuvLLM):
    backends = [BackendProfile("one", 0.01), BackendProfile("two", 0.01)]
    prompts = [f"sum up chapter {n} of the report on whales" for n in range(12)]

    def expected(patterns: bool) -> float:
        with opened(static_llm, patterns=patterns) as llm:
            chooser = llm.orchestrator(backends)
            for prompt in prompts:
                chooser.record_outcome("two", quality=0.95, prompt=prompt)
                chooser.record_outcome("one", quality=0.05, prompt=prompt)
            assert bool(llm.learning.model_outcomes(llm.embed(prompts[:1])[0])) is patterns
            choice = chooser.select("sum up chapter 9 of the report on whales")
            assert choice.backend == "two"
            return choice.quality

    assert expected(True) > expected(False)


def test_answers_of_a_tier_vote_for_its_backend(static_llm: RuvLLM):
    with opened(static_llm) as llm:
        profiles = [
            TierProfile(Tier.SMALL, 1.0, 1.0, "weak", "weak-7b"),
            TierProfile(Tier.LARGE, 2.0, 1.0, "strong", "strong-70b"),
        ]
        llm.sizing.serve(profiles, True)
        text = "prove the lemma of the four colours"
        vector = llm.embed([text])[0]
        for _ in range(20):
            for model, quality in (("weak-7b", 0.0), ("strong-70b", 1.0)):
                run_now(llm.learning.observe_model(vector, model, quality))
                llm.sizing.observe(model, text, vector, quality)
        found = llm.sizing._of_backends(vector)
        assert found["strong"][1] > 0.9 > 0.1 > found["weak"][1]
        choice = llm.sizing.choose(Features(text, vector=vector))
        assert (choice.by, choice.backend) == ("outcomes", "strong")
