from dataclasses import replace

import numpy as np
import pytest

from ruvllm import Agent, RuvLLM
from ruvllm.routing.stored import load_scorers
from ruvllm.state.store import Store

TOLD = (("descale the espresso machine", "barista"), ("the sourdough does not rise", "baker"))


@pytest.fixture
def taught(kitchen: list[Agent], tmp_path):
    """A state file whose router was reviewed."""
    path = tmp_path / "state.db"
    with RuvLLM(kitchen, encoder="static", state=path) as llm:
        for text, agent in TOLD:
            llm.feedback(text, agent)
        assert llm.review() == len(TOLD)
        wanted = {text: llm.route(f"please {text}") for text, _ in TOLD}
    return path, wanted


def kept(path, agents, llm):
    return load_scorers(llm.store, tuple(agents), llm.store.feedback(), llm.encoders.weights)


def test_a_start_takes_up_what_was_reviewed(taught, kitchen):
    path, wanted = taught
    with RuvLLM(kitchen, encoder="static", state=path) as llm:
        ((scorer, seen),) = kept(path, kitchen, llm).values()
        assert seen == len(TOLD)
        np.testing.assert_allclose(
            llm.routing.router.learnt["static"][0].fitted.head.weights, scorer.fitted.head.weights
        )
        for text, before in wanted.items():
            after = llm.route(f"please {text}")
            assert (after.agent, after.confidence) == (before.agent, pytest.approx(before.confidence, abs=0.02))


def test_later_feedback_is_learnt_on_top(taught, kitchen):
    path, _ = taught
    with RuvLLM(kitchen, encoder="static", state=path) as llm:
        llm.feedback("the hedge wants trimming", "gardener")
    with RuvLLM(kitchen, encoder="static", state=path) as llm:
        assert llm.route("trim the hedge").agent == "gardener"
        assert llm.review() == len(TOLD) + 1
        assert llm.route("trim the hedge").agent == "gardener"


@pytest.mark.parametrize("change", ["other agents", "undone", "damaged"])
def test_what_no_longer_holds_is_learnt_again(taught, kitchen, change):
    path, _ = taught
    agents = [replace(kitchen[0], description="Bakes bricks."), *kitchen[1:]] if change == "other agents" else kitchen
    store = Store(path)
    if change == "undone":
        assert store.undo_feedback(1)
    if change == "damaged":
        store.put("router-static", b"no arrays at all")
    store.close()
    with RuvLLM(agents, encoder="static", state=path) as llm:
        assert kept(path, agents, llm) == {}
        assert llm.route(TOLD[1][0]).agent == "baker"


def test_feedback_can_be_taken_back(taught, kitchen):
    path, _ = taught
    with RuvLLM(kitchen, encoder="static", state=path) as llm:
        llm.feedback("prune the roses by the oven", "baker")
        assert llm.route("prune the roses by the oven").agent == "baker"
        assert llm.undo_feedback(len(TOLD) + 1)
        assert llm.route("prune the roses by the oven").agent == "gardener"
        assert not llm.undo_feedback(99)
