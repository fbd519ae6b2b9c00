"""What feedback teaches a router: at once, in a review, while others wait, and when it is wrong."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ruvllm import Agent, EncoderError, InputError, RuvLLM
from ruvllm.encoders.protocol import Vectors, pause, run_now
from ruvllm.encoders.static import StaticEncoder
from ruvllm.routing import updater
from ruvllm.routing.calibration import Calibration
from ruvllm.routing.router import Router
from ruvllm.types import Feedback

Pairs = Sequence[tuple[str, str]]


def _everyday() -> list[tuple[str, str]]:
    rows = json.loads((Path(__file__).parents[1] / "data" / "everyday_tasks.json").read_text("utf-8"))["prompts"]
    order = np.random.default_rng(0).permutation(len(rows))
    return [(rows[i]["prompt"], rows[i]["agent"]) for i in order.tolist()]


EVERYDAY = _everyday()
TAUGHT, ASKED = EVERYDAY[:180], EVERYDAY[180:]


def everyday_router(llm: RuvLLM, examples: bool = True) -> Router:
    """A router among the agents that the everyday tasks belong to."""
    names = {agent for _, agent in EVERYDAY}
    agents = [agent for agent in llm.agents if agent.name in names]
    return router_of(llm, agents if examples else [replace(agent, examples=()) for agent in agents])


def router_of(llm: RuvLLM, agents: Sequence[Agent]) -> Router:
    return Router(agents, llm.encoders.static, None, llm.encoders.weights, mode="static")


def accuracy(router: Router, pairs: Pairs) -> float:
    return float(np.mean([run_now(router.route(text)).agent == agent for text, agent in pairs]))


def examples_of(router: Router) -> Pairs:
    return [(text, agent.name) for agent in router.agents for text in agent.examples]


def calibration(router: Router) -> Calibration | None:
    return run_now(router.scorer("static")).fitted.calibration


def step(work: Coroutine[Any, Any, None]) -> bool:
    """Run it up to its next pause; whether there was one."""
    try:
        work.send(None)
    except StopIteration:
        return False
    return True


def test_similar_tasks_go_where_a_few_feedbacks_said(static_llm: RuvLLM, kitchen: list[Agent]):
    router = router_of(static_llm, kitchen)
    told = {
        "polish the copper kettle": "barista",
        "order more flour from the mill": "gardener",
        "sharpen the long knives": "baker",
    }
    for text, agent in told.items():
        run_now(router.learn(Feedback(text, agent)))
    for text, agent in {
        "the copper kettle needs a polish": "barista",
        "we need to order flour at the mill": "gardener",
        "sharpen all knives": "baker",
        "my sourdough does not rise in the oven": "baker",
        "prune the roses": "gardener",
    }.items():
        assert run_now(router.route(text)).agent == agent


@pytest.mark.parametrize("reviewed", [False, True])
def test_a_rejected_agent_is_not_asked_again_and_the_others_keep_their_tasks(static_llm: RuvLLM, reviewed: bool):
    router = everyday_router(static_llm)
    text = ASKED[0][0]
    first = run_now(router.route(text)).agent
    before = accuracy(router, ASKED[1:])
    run_now(router.learn(Feedback(text, first, right=False)))
    if reviewed:
        run_now(router.review())
    assert run_now(router.route(text)).agent != first
    assert abs(accuracy(router, ASKED[1:]) - before) <= 0.02


def test_a_rejection_overrules_what_was_confirmed_before_and_is_overruled_itself(
    static_llm: RuvLLM, kitchen: list[Agent]
):
    router, text = router_of(static_llm, kitchen), "polish the copper kettle"
    for right in (True, False, True, False):
        run_now(router.learn(Feedback(text, "barista", right=right)))
        assert (run_now(router.route(text)).agent == "barista") == right
        run_now(router.review())
        assert (run_now(router.route(text)).agent == "barista") == right


def test_rejections_alone_survive_a_review(static_llm: RuvLLM):
    router = router_of(static_llm, [Agent("cook", "cooks meals"), Agent("pilot", "flies planes")])
    run_now(router.learn(Feedback("fly the plane to Oslo", "pilot", right=False)))
    run_now(router.review())
    assert run_now(router.route("fly the plane to Oslo")).agent == "cook"


def test_a_review_keeps_what_was_learnt_and_forgets_no_example(static_llm: RuvLLM):
    router = everyday_router(static_llm)
    own, others = accuracy(router, examples_of(router)), accuracy(router, ASKED)
    for text, agent in TAUGHT:
        router.note(Feedback(text, agent))
    at_once = accuracy(router, ASKED)
    run_now(router.review())
    assert accuracy(router, TAUGHT) >= 0.97
    assert accuracy(router, examples_of(router)) >= own - 0.01
    assert accuracy(router, ASKED) >= max(others, at_once - 0.02)


def test_a_review_without_feedback_changes_hardly_anything(static_llm: RuvLLM):
    router = everyday_router(static_llm)
    before = [run_now(router.route(text)) for text, _ in ASKED]
    run_now(router.review())
    after = [run_now(router.route(text)) for text, _ in ASKED]
    assert np.mean([one.agent == other.agent for one, other in zip(before, after, strict=True)]) >= 0.98
    assert np.mean([abs(one.confidence - other.confidence) for one, other in zip(before, after, strict=True)]) < 0.02


def test_a_review_builds_what_nobody_has_asked_for_yet(static_llm: RuvLLM, kitchen: list[Agent]):
    router = router_of(static_llm, kitchen)
    router.note(Feedback("polish the copper kettle", "gardener"))
    turns = list[int]()

    async def turn() -> None:
        turns.append(1)

    run_now(router.review(turn))
    assert len(turns) > 3
    assert run_now(router.route("polish that copper kettle")).agent == "gardener"


def test_a_fifth_of_wrong_feedback_does_little_harm(static_llm: RuvLLM):
    names, random = sorted({agent for _, agent in EVERYDAY}), np.random.default_rng(1)
    told = [(text, str(random.choice(names)) if random.random() < 0.2 else agent) for text, agent in TAUGHT]
    assert 20 < sum(one != other for one, other in zip(told, TAUGHT, strict=True)) < 50
    router = everyday_router(static_llm, examples=False)
    before = accuracy(router, ASKED)
    for text, agent in told:
        router.note(Feedback(text, agent))
    run_now(router.review())
    assert accuracy(router, ASKED) >= before - 0.02


def test_the_calibration_changes_only_when_there_is_enough_to_tell(static_llm: RuvLLM):
    router = everyday_router(static_llm)
    measured = calibration(router)
    assert measured is not None
    for text, agent in TAUGHT[:20]:
        router.note(Feedback(text, agent))
    run_now(router.review())
    assert calibration(router) == measured
    for n in range(200):  # decisions made before their answer was known
        text, agent = TAUGHT[n % len(TAUGHT)]
        run_now(router.learn(Feedback(f"{text} ({n})", agent)))
    run_now(router.review())
    assert calibration(router) != measured


def test_agents_without_examples_are_calibrated_once_feedback_is_enough(static_llm: RuvLLM):
    router = everyday_router(static_llm, examples=False)
    assert calibration(router) is None
    for text, agent in TAUGHT[:25]:
        router.note(Feedback(text, agent))
    run_now(router.review())
    assert calibration(router) is None
    for text, agent in TAUGHT[25:]:
        router.note(Feedback(text, agent))
    run_now(router.review())
    assert calibration(router) is not None


def test_a_review_of_much_feedback_chooses_by_some_of_it(static_llm: RuvLLM, monkeypatch: pytest.MonkeyPatch):
    found = []
    for choosing in (10_000, 60):
        monkeypatch.setattr(updater, "_CHOOSING", choosing)
        router = everyday_router(static_llm, examples=False)
        for text, agent in TAUGHT:
            router.note(Feedback(text, agent))
        run_now(router.review())
        fitted = router.learnt["static"][0].fitted
        assert fitted.calibration is not None
        found.append((fitted.prior_weight, accuracy(router, ASKED)))
    assert found[0][0] == found[1][0]
    assert abs(found[0][1] - found[1][1]) < 0.05


def test_feedback_that_comes_during_a_review_is_not_lost(static_llm: RuvLLM):
    router = everyday_router(static_llm)
    for text, agent in TAUGHT[:30]:
        router.note(Feedback(text, agent))
    lost = list[str]()
    work, told, n = router.review(pause), list[tuple[str, str]](), 0
    while step(work):
        n += 1
        if n % 3 == 1 and len(told) < 12:  # in all of its phases
            text = f"water the {n} office plants on floor {n}"
            told.append((text, router.agents[len(told) % 3].name))
            run_now(router.learn(Feedback(*told[-1])))
            if run_now(router.route(text)).agent != told[-1][1]:
                lost.append(text)
    assert len(told) > 5
    scorer = run_now(router.scorer("static"))
    named = [agent.name for agent in router.agents]
    for text, agent in told:
        scored = scorer.score(static_llm.encoders.static.encode_one(text), router._learner.view(text))
        assert named[int(scored.logits.argmax())] == agent, text
    assert lost == []
    assert router.stats["feedback"] == 30 + len(told)


class Slow:
    """The static encoder as a host whose model has to be awaited gives it, and which may fail."""

    name = "ruvltra"

    def __init__(self, static: StaticEncoder) -> None:
        self.static, self.dim, self.fails = static, static.dim, False

    async def encode(self, texts: Sequence[str]) -> Vectors:
        await pause()
        if self.fails:
            raise EncoderError("the model is gone", field="encoder", fix="reload")
        return self.static.encode_now(texts)


@pytest.fixture
def slow(static_llm: RuvLLM, kitchen: list[Agent]) -> tuple[Router, Slow]:
    encoder = Slow(static_llm.encoders.static)
    encoders = static_llm.encoders
    router = Router(kitchen, encoders.static, encoder, encoders.weights, mode="ruvltra")
    wait(router.warm())
    return router, encoder


def wait(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of what waits."""
    while True:
        try:
            work.send(None)
        except StopIteration as done:
            return done.value


def test_a_decision_that_feedback_overtook_is_not_remembered(slow: tuple[Router, Slow]):
    router, _ = slow
    text = "please do polish that copper kettle of ours"
    work = router.route(text)
    work.send(None)  # it waits for the encoder
    wait(router.learn(Feedback("polish the copper kettle", "gardener")))
    wait(work)
    again = wait(router.route(text))
    assert not again.cached
    assert again.agent == "gardener"


def test_feedback_that_the_encoder_failed_on_is_taken_in_later(slow: tuple[Router, Slow]):
    router, encoder = slow
    encoder.fails = True
    text = "polish the copper kettle"
    with pytest.raises(EncoderError):
        wait(router.learn(Feedback(text, "gardener")))
    encoder.fails = False
    scorer = wait(router.scorer("ruvltra"))
    scored = scorer.score(encoder.static.encode_one(text), router._learner.view(text))
    assert router.agents[int(scored.logits.argmax())].name == "gardener"


def test_two_that_build_one_scorer_share_it_and_what_it_learnt(static_llm: RuvLLM, kitchen: list[Agent]):
    router = Router(
        kitchen,
        static_llm.encoders.static,
        Slow(static_llm.encoders.static),
        static_llm.encoders.weights,
        mode="ruvltra",
    )
    first, second = router.scorer("ruvltra"), router.scorer("ruvltra")
    first.send(None)
    second.send(None)
    assert wait(first) is wait(second)


@pytest.mark.parametrize("top", [-1, "3", 1.5, None])
def test_a_number_of_alternatives_that_is_none_is_an_input_error(static_llm: RuvLLM, top: Any):
    with pytest.raises(InputError) as caught:
        static_llm.route("prune the roses", top=top)
    assert caught.value.field == "top"


def test_feedback_for_an_agent_that_is_gone_harms_nobody(static_llm: RuvLLM, kitchen: list[Agent], tmp_path: Path):
    path, text = tmp_path / "s.db", "polish the copper kettle"
    with RuvLLM(kitchen, encoder="static", like=static_llm, state=path) as llm:
        llm.feedback(text, "barista")
        llm.feedback("sow the basil", "gardener", right=False)
    with RuvLLM(kitchen[2:], encoder="static", like=static_llm, state=path) as llm:
        assert llm.route(text).agent == "gardener"
        assert llm.stats()["feedback"] == 1
        with pytest.raises(InputError, match="no agent"):
            llm.feedback(text, "barista", right=False)
    with RuvLLM(kitchen, encoder="static", like=static_llm, state=path) as llm:
        assert llm.route(text).agent == "barista"
        assert llm.route("sow the basil").agent != "gardener"
