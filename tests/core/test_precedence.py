"""Who says how strong a model a task gets: each step of the one order, and what takes it there."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scripted import Scripted

from ruvllm import Agent, BackendError, InputError, RuvLLM, Tier
from ruvllm.agents.catalog import builtin_agents
from ruvllm.encoders.protocol import run_now
from ruvllm.inference.endpoint import Price
from ruvllm.inference.tiers import Tiers
from ruvllm.options import InferenceConfig
from ruvllm.query.responses import Constraints, Response
from ruvllm.query.writers import Writers
from ruvllm.sizing.chooser import ModelChooser
from ruvllm.sizing.fastgrnn import ModelSize, SizeChoice
from ruvllm.sizing.fastgrnn.session import RouterSession
from ruvllm.sizing.selector import BackendProfile
from ruvllm.sizing.tiers import CATALOG, Advice, Features, Limits, TierProfile, choose, tier_by
from ruvllm.state.names import SpaceScopedStore
from ruvllm.state.store import Store

HARD, EASY, PLAIN = "design a distributed consensus protocol", "fix a typo in the label", "look at the parser"
OPEN = "read the log, find what is slow and say what we could do about it"
TWO = (
    TierProfile(Tier.SMALL, 0.0002, 500, "mini", "mini-1b", 4_096),
    TierProfile(Tier.LARGE, 0.015, 3_000, "maxi", "maxi-70b", 128_000),
)
PINNED = Agent("mine", tier=Tier.LARGE)
SUGGESTED = {agent.tier: agent for agent in builtin_agents()}


def small(*_: object) -> Advice:
    return Advice(Tier.SMALL, "outcomes", "it was enough")


def sizes(size: ModelSize, sure: bool = True) -> SizeChoice:
    return SizeChoice(size, 1_024, 0.3, 0.6, 0.9, sure, (0.1, 0.5, 0.8, 0.9))


@pytest.mark.parametrize(
    ("features", "limits", "voices", "tier", "by"),
    [
        # Each row beats those below it; what it beats is there as well.
        (Features(EASY, agent=PINNED, request="mini"), Limits(cost=0.1), [], Tier.SMALL, "request"),
        (Features(EASY, agent=PINNED, request="mini-1b"), Limits(cost=0), [], Tier.SMALL, "request"),
        (Features(EASY, request="large"), Limits(cost=0.001), [], Tier.LARGE, "request"),
        (Features(HARD, agent=PINNED), Limits(cost=0.001), [], Tier.SMALL, "limits"),
        (Features(HARD, agent=PINNED), Limits(latency=1_000), [], Tier.SMALL, "limits"),
        (Features(HARD, agent=PINNED), Limits(latency=1), [], Tier.SMALL, "limits"),  # none is fast enough
        (Features(EASY, tokens=50_000), None, [small], Tier.LARGE, "limits"),
        (Features(EASY, tokens=5_000_000), None, [small], Tier.SMALL, "outcomes"),  # fits nowhere: a backend says so
        (Features(EASY, agent=PINNED, edit="one renamed"), None, [small], Tier.LARGE, "agent"),
        (Features(HARD, agent=Agent("other", model="Mini-1B".lower())), None, [], Tier.SMALL, "agent"),
        (Features(HARD, edit="one renamed", unsure="unsure"), None, [small], Tier.BOOSTER, "edit"),
        (Features(HARD, trained=Tier.LARGE, unsure="unsure"), None, [small], Tier.SMALL, "outcomes"),
        (Features(EASY, trained=Tier.LARGE), None, [lambda *_: None], Tier.LARGE, "difficulty"),
        (Features(HARD, trained=Tier.SMALL, unsure="unsure"), None, [], Tier.SMALL, "difficulty"),
        (Features(HARD, agent=SUGGESTED[Tier.SMALL]), None, [], Tier.LARGE, "difficulty"),
        (Features(EASY, agent=SUGGESTED[Tier.LARGE]), None, [], Tier.SMALL, "difficulty"),
        (Features(PLAIN, agent=SUGGESTED[Tier.LARGE]), None, [], Tier.LARGE, "default"),
        (Features(PLAIN, agent=SUGGESTED[Tier.BOOSTER]), None, [], Tier.SMALL, "default"),  # no edit: a model's
        (Features(PLAIN, agent=Agent("none")), None, [], Tier.SMALL, "default"),
        (Features(PLAIN), None, [], Tier.SMALL, "default"),
        (Features(PLAIN, unsure="unsure"), None, [], Tier.LARGE, "escalation"),
        (Features(EASY, unsure="unsure"), None, [], Tier.LARGE, "escalation"),
        (Features(HARD, unsure="unsure"), None, [], Tier.LARGE, "difficulty"),  # there is nothing stronger
        (Features(PLAIN, unsure="unsure"), Limits(cost=0.001), [], Tier.SMALL, "limits"),
        # A client's own conversation: which agent takes it does not matter, so that a doubt about that raises nothing,
        # unless its words leave open how hard it is.
        (Features(PLAIN, unsure="unsure", passing=True), None, [], Tier.SMALL, "default"),
        (Features(EASY, unsure="unsure", passing=True), None, [], Tier.SMALL, "difficulty"),
        (Features(OPEN, unsure="unsure", passing=True), None, [], Tier.LARGE, "escalation"),
        (Features(PLAIN, tokens=3_000, room=2_000), None, [], Tier.LARGE, "limits"),
        (Features(PLAIN, tokens=127_000, room=2_000), None, [], Tier.LARGE, "limits"),  # nobody has the room
    ],
)
def test_each_step_of_the_order(features, limits, voices, tier, by):
    choice = choose(features, limits, TWO, voices)
    assert (choice.tier, choice.by) == (tier, by)
    assert choice.why
    if by != "edit":
        expected = next(one for one in TWO if one.tier == tier)
        assert (choice.cost, choice.latency_ms, choice.backend) == (expected.cost, expected.latency, expected.backend)
    else:
        assert (choice.cost, choice.backend) == (0, "")


@pytest.mark.parametrize("text", ["yes", "ok, go on", "no, the other one", "Looks good, continue!"])
def test_who_only_says_to_go_on_stays_where_the_conversation_is(text: str):
    for stay, tier in (("mini", Tier.SMALL), ("maxi", Tier.LARGE)):
        choice = choose(Features(text, stay=stay, unsure="unsure", dearer=lambda *_: False), None, TWO)
        assert (choice.tier, choice.by) == (tier, "session")


def test_a_conversation_moves_for_few_words_that_say_how_hard_it_is():
    typo = Features("fix the typo", stay="maxi", tokens=20_000, dearer=lambda *_: False)
    small = replace(TWO[0], context=100_000)
    assert choose(typo, None, (small, TWO[1])).backend == "mini"
    assert choose(replace(typo, tokens=9_000), None, (small, TWO[1])).backend == "maxi"  # it would save little
    assert choose(replace(typo, dearer=lambda *_: True), None, (small, TWO[1])).backend == "maxi"
    long = Features("find out what the parser does", stay="mini", tokens=50_000, trained=Tier.LARGE)
    assert choose(long, None, (small, TWO[1])).backend == "mini"  # it would be read anew
    assert choose(replace(long, text=HARD), None, (small, TWO[1])).backend == "maxi"
    assert choose(Features("prove it", stay="mini", trained=Tier.LARGE), None, TWO).backend == "maxi"


def test_a_conversation_moves_down_where_the_requests_ahead_make_up_for_what_is_cached():
    mini, maxi = Scripted(name="mini"), Scripted(name="maxi")
    mini.price, maxi.price = Price(8, 40, 0.8), Price(51, 255, 5.1)
    writers = Writers(Tiers({Tier.SMALL: mini, Tier.LARGE: maxi}), InferenceConfig())
    assert not writers.dearer(Constraints(), 30_000)("maxi", "mini")  # though one request alone were cheaper at maxi
    mini.price = Price(8, 40)  # which never has anything cached
    assert writers.dearer(Constraints(), 30_000)("maxi", "mini")


def test_a_trained_difficulty_weighs_length_and_what_is_cached():
    mini, maxi = Scripted(name="mini"), Scripted(name="maxi")
    mini.price, maxi.price = Price(8, 40, 0.8), Price(51, 255, 5.1)
    writers = Writers(Tiers({Tier.SMALL: mini, Tier.LARGE: maxi}), InferenceConfig())

    def extra(tokens: int, stay: str) -> float:
        found = writers.extra(Constraints(stay=stay), tokens)
        assert found is not None
        return found

    assert extra(10_000, "maxi") < 1 < extra(10_000, "mini")  # where it is, it is cheap to stay
    assert extra(40_000, "mini") > 1.5 * extra(20_000, "mini")  # a long one moves up only for what is worth it
    assert writers.extra(Constraints(), 20_000) is None
    assert [tier_by(worth, extra(20_000, "maxi")) for worth in (0.1, 0.9)] == [Tier.SMALL, Tier.LARGE]
    long = Features("find out what the parser does", stay="mini", tokens=50_000, trained=Tier.LARGE, weighed=True)
    assert choose(long, None, (replace(TWO[0], context=100_000), TWO[1])).backend == "maxi"
    maxi.price = mini.price
    assert writers.extra(Constraints(stay="maxi"), 20_000) is None


def test_a_choice_says_what_else_the_limits_allow():
    assert choose(Features(PLAIN), None, TWO).others == (Tier.LARGE,)
    assert choose(Features(PLAIN), Limits(cost=0.001), TWO).others == ()
    assert choose(Features(PLAIN, request="small"), None, TWO).others == ()  # who insists gets nobody else


def test_what_cannot_be_had_is_named():
    with pytest.raises(InputError, match="no model 'huge'") as unknown:
        choose(Features(PLAIN, request="huge"), None, TWO)
    assert (unknown.value.field, "mini-1b" in unknown.value.fix) == ("force_model", True)
    with pytest.raises(InputError, match=r"mini takes \$0.0002") as dear:
        choose(Features(PLAIN), Limits(cost=0.0001), TWO)
    assert dear.value.field == "max_cost"


def test_without_backends_tiers_have_the_catalogs_price_and_latency():
    assert [(one.cost, one.latency) for one in CATALOG] == [(0, 1), (0.0002, 500), (0.015, 3_000)]
    only = (replace(TWO[1], tier=Tier.LARGE),)
    alone = choose(Features(PLAIN, unsure="unsure"), None, only)
    assert (alone.tier, alone.by, "no stronger one" in alone.why) == (Tier.LARGE, "default", True)


def test_a_built_in_agent_of_the_users_file_with_another_tier_insists():
    agent = SUGGESTED[Tier.SMALL]
    assert choose(Features(EASY, replace(agent, tier=Tier.LARGE)), None, TWO).by == "agent"


# What was learnt


@pytest.fixture
def chooser(static_llm: RuvLLM) -> ModelChooser:
    made = ModelChooser(static_llm.encoders.static, SpaceScopedStore(Store(), "space"))
    made.serve(TWO, learning=True)
    return made


def features(llm: RuvLLM, text: str, **more: object) -> Features:
    return Features(text, vector=llm.embed([text])[0], **more)


def taught(chooser: ModelChooser, llm: RuvLLM) -> None:
    """The small one greets and cannot prove; the large one does both."""
    tasks = [f"prove theorem {n} of topology" if n % 2 else f"say hello to guest {n}" for n in range(80)]
    for task, vector in zip(tasks, llm.embed(tasks), strict=True):
        assert chooser.observe("mini-1b", task, vector, float(task.startswith("say")))
        assert chooser.observe("maxi", task, vector, 1.0)


def test_outcomes_decide_where_they_are_sure(chooser: ModelChooser, static_llm: RuvLLM):
    hello, proof = (features(static_llm, text) for text in ("say hello to guest 90", "prove theorem 91 of topology"))
    assert {chooser.choose(one).by for one in (hello, proof)} == {"default"}
    taught(chooser, static_llm)
    chosen = [chooser.choose(one) for one in (hello, proof)]
    assert [(one.tier, one.by) for one in chosen] == [(Tier.SMALL, "outcomes"), (Tier.LARGE, "outcomes")]
    assert "mini does" in chosen[0].why
    assert chooser.choose(replace(hello, unsure="unsure")).tier == Tier.SMALL  # outcomes know better than a doubt
    assert chooser.choose(replace(hello, agent=PINNED)).by == "agent"
    assert chooser.choose(replace(hello, size=sizes(ModelSize.LARGE))).by == "outcomes"
    assert chooser.choose(proof, Limits(cost=0.001)).by == "default"  # one is left: there is nothing to compare
    assert not chooser.observe("nobody", "x", hello.vector, 1.0)


def test_the_network_of_sizes_decides_after_them(chooser: ModelChooser, static_llm: RuvLLM):
    one = features(static_llm, EASY, size=sizes(ModelSize.LARGE))
    assert (chooser.choose(one).tier, chooser.choose(one).by) == (Tier.LARGE, "sizes")
    assert chooser.choose(replace(one, size=sizes(ModelSize.LARGE, sure=False))).by == "difficulty"
    assert chooser.choose(replace(one, size=sizes(ModelSize.SMALL), unsure="unsure")).tier == Tier.SMALL


def test_what_was_learnt_and_measured_is_stored(static_llm: RuvLLM):
    store = SpaceScopedStore(Store(), "space")
    first = ModelChooser(static_llm.encoders.static, store)
    first.serve(TWO, learning=True)
    for _ in range(60):
        first.measure(Tier.SMALL, 0.001, 900)
    assert first.profiles[0].latency == pytest.approx(900, rel=0.01)
    taught(first, static_llm)
    assert first.changed
    first.save()
    assert not first.changed
    later = ModelChooser(static_llm.encoders.static, store)
    later.serve(TWO, learning=True)
    assert later.choose(features(static_llm, "prove theorem 91 of topology")).by == "outcomes"
    assert later.profiles[0].cost == pytest.approx(0.001, rel=0.01)
    others = ModelChooser(static_llm.encoders.static, store)
    others.serve([TWO[0], replace(TWO[1], backend="other")], learning=True)
    assert others.choose(features(static_llm, "prove theorem 91 of topology")).by == "default"
    still = ModelChooser(static_llm.encoders.static, store)
    still.serve(TWO, learning=False)
    assert still.choose(features(static_llm, "prove theorem 91 of topology")).by == "default"


def test_named_backends_of_the_same_names_speak_for_the_configured_ones(chooser: ModelChooser, static_llm: RuvLLM):
    named = chooser.make([BackendProfile("mini", 0.0002), BackendProfile("maxi", 0.015)], None)
    for n in range(60):
        vector = static_llm.embed([f"translate letter {n} into Latin"])[0]
        named.record_outcome("mini", quality=0.0, prompt=vector)
        named.record_outcome("maxi", quality=1.0, prompt=vector)
    choice = chooser.choose(features(static_llm, "translate letter 99 into Latin"))
    assert (choice.tier, choice.by) == (Tier.LARGE, "outcomes")


# Through a query


def ask(llm: RuvLLM, text: str, **more: object) -> Response:
    return run_now(llm.aquery(text, **more))


def test_ratings_of_answers_change_who_is_asked(static_llm: RuvLLM):
    backends = {"small": Scripted("No idea.", "mini"), "large": Scripted("Proven.", "maxi")}
    llm = RuvLLM([Agent("any", "All tasks.")], encoder="static", like=static_llm, backends=backends)
    assert ask(llm, "prove theorem 1 of topology", constraints=Constraints(force_model="small")).text == "No idea."
    for n in range(24):
        name = "small" if n % 2 else "large"
        response = ask(llm, f"prove theorem {n} of topology", constraints=Constraints(force_model=name))
        llm.feedback_request(response.request_id, rating=1 if n % 2 else 5)
        llm.feedback_request(response.request_id, rating=1 if n % 2 else 5)  # again: it counts once
    assert llm.sizing._served is not None
    assert llm.sizing._served.stats()["answers"] == 24
    response = ask(llm, "prove theorem 40 of topology")
    assert (response.text, response.choice.by) == ("Proven.", "outcomes")
    shown = json.loads(json.dumps(response.to_dict()))["choice"]
    assert (shown["tier"], shown["backend"], shown["others"]) == (3, "maxi", [2])
    assert [row["backend"] for row in llm.stats()["tiers"]] == ["mini", "maxi"]


def test_a_query_of_a_built_in_agent_hears_the_sessions_network(static_llm: RuvLLM, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(RouterSession, "decide", lambda *_: sizes(ModelSize.LARGE))
    backends = {"small": Scripted("Small.", "mini"), "large": Scripted("Large.", "maxi")}
    llm = RuvLLM(encoder="static", like=static_llm, backends=backends)
    response = ask(llm, "write unit tests for the parser")
    assert (response.decision.choice.by, response.decision.tier) == ("default", Tier.SMALL)
    assert (response.text, response.choice.by, response.routing.learnt) == ("Large.", "sizes", True)


def test_a_failure_falls_back_within_the_limits_only(static_llm: RuvLLM):
    cheap, dear = Scripted("Small.", "mini"), Scripted("Large.", "maxi")
    dear.confidence, cheap.fails_after = 0.9, 0
    llm = RuvLLM(encoder="static", like=static_llm, backends={"small": cheap, "large": dear})
    llm.queries  # noqa: B018 - opens them
    llm.sizing.serve([replace(TWO[0], context=8_192), replace(TWO[1], context=8_192)], learning=True)
    assert ask(llm, EASY).text == "Large."
    with pytest.raises(BackendError):
        ask(llm, EASY, constraints=Constraints(max_cost=0.001))
    assert len(dear.asked) == 1


def test_a_deep_query_asks_the_same(static_llm: RuvLLM):
    backends = {"small": Scripted("Small.", "mini"), "large": Scripted("Large.", "maxi")}
    llm = RuvLLM([Agent("any", tier=Tier.SMALL)], encoder="static", like=static_llm, backends=backends)
    answer = run_now(llm.queries.answer_deep("Why is the parser slow and what makes the build fail?"))
    assert answer.choice is not None
    assert (answer.choice.by, answer.choice.backend) == ("escalation", "maxi")
    assert not backends["small"].asked
    assert np.isfinite(answer.choice.cost)


def test_a_mechanical_edit_is_carried_out_without_a_model(static_llm: RuvLLM):
    backend = Scripted("A model's.")
    llm = RuvLLM(encoder="static", like=static_llm, backends={"small": backend})
    task = "sort imports:\n```python\nimport sys\nimport os\n```"
    assert (llm.route(task).tier, llm.route(task).choice.by) == (Tier.BOOSTER, "edit")
    session = llm.new_session().id
    response = ask(llm, task, session=session)
    assert response.text == "```python\nimport os\nimport sys\n```"
    assert (response.tier, response.choice.by, response.cost, response.confidence) == (Tier.BOOSTER, "edit", 0, 1)
    assert (response.routing.backend, response.sources, response.advice, backend.asked) == ("edit", (), "", [])
    assert [one.content for one in llm.session(session).history] == [task, response.text]
    llm.feedback_request(response.request_id, rating=5)
    events = llm.aquery_stream(task)
    run_now(anext(events))
    assert run_now(anext(events)).text == response.text


@pytest.mark.parametrize(
    "constraints",
    [
        Constraints(force_model="small"),
        Constraints(max_tokens=3),
        Constraints(stop=("os",)),
        Constraints(extra={"response_format": {"type": "json_object"}}),
    ],
)
def test_who_insists_on_something_else_gets_a_model(static_llm: RuvLLM, constraints: Constraints):
    backend = Scripted("A model's.")
    backend.passes = True  # type: ignore[attr-defined]
    llm = RuvLLM(encoder="static", like=static_llm, backends={"small": backend})
    assert ask(llm, "sort imports:\nimport sys\nimport os", constraints=constraints).text == "A model's."
