"""Queries from text to answer: stages, sources, sessions, streaming, constraints, and what stays when they fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scripted import Scripted

from ruvllm import Action, RuvLLM, Tier
from ruvllm.config import Config
from ruvllm.encoders.protocol import run_now
from ruvllm.errors import BackendError, ConfigError, InputError
from ruvllm.inference.backend import Message, Params, estimate_tokens
from ruvllm.inference.endpoint import Endpoint, Price
from ruvllm.options import InferenceConfig
from ruvllm.query.responses import STAGES, Constraints, Delta, Response, Routed
from ruvllm.sizing.tiers import CONFIRM_FROM
from ruvllm.state.record import Memory

FACTS = (
    "The staging database is reset every Monday at six in the morning.",
    "A deployment needs two approvals and a green build.",
    "Refunds are paid within five working days.",
)
QUESTION = "when is the staging database reset?"


def make(static_llm: RuvLLM, *backends: Scripted, config: Config | None = None, **more: Any) -> RuvLLM:
    """With one backend for each of the upper tiers, or none."""
    tiers = dict(zip((Tier.LARGE, Tier.SMALL), backends, strict=False)) or None
    return RuvLLM(encoder="static", like=static_llm, backends=tiers, config=config, **more)


def ask(llm: RuvLLM, text: str = QUESTION, **more: Any) -> Response:
    return run_now(llm.aquery(text, **more))


def events(stream: AsyncIterator[Any], most: int = 1_000) -> Iterator[Any]:
    """The events of a stream that never waits; it is left after so many."""
    try:
        for _ in range(most):
            yield run_now(stream.__anext__())  # type: ignore[arg-type]
    except StopAsyncIteration:
        return
    finally:
        run_now(stream.aclose())  # type: ignore[attr-defined]


@pytest.fixture
def remembering(static_llm: RuvLLM) -> tuple[RuvLLM, Scripted]:
    """Knows the FACTS, of which the first two are linked."""
    backend = Scripted()
    llm = make(static_llm, backend)
    ids = llm.memory.add(FACTS)
    llm.memory.graph.link(ids[0], ids[1], "SameTopic", 0.5)
    return llm, backend


def test_every_stage_is_timed_and_nothing_is_lost(remembering: tuple[RuvLLM, Scripted]):
    latency = dict(ask(remembering[0]).latency)
    total = latency.pop("total")
    assert tuple(latency) == STAGES
    assert sum(latency.values()) == total
    assert all(micros > 0 for micros in latency.values())


def test_without_a_backend_memory_answers(static_llm: RuvLLM):
    llm = make(static_llm)
    ids = llm.memory.add(FACTS)
    response = llm.query(QUESTION)
    assert "every Monday at six" in response.text
    assert [source.id for source in response.sources][:1] == ids[:1]
    assert response.routing.backend == response.routing.model == "extractive"
    assert "cannot answer" in llm.query("who painted the ceiling of the chapel?").text


def test_the_backend_reads_agent_sources_and_question(remembering: tuple[RuvLLM, Scripted]):
    llm, backend = remembering
    sure = "write unit tests for the job that resets the staging database every Monday"
    response = ask(llm, sure)
    assert response.decision.confidence >= CONFIRM_FROM
    ((system, user),) = [messages for messages, _ in backend.asked]
    assert system.role == "system"
    assert system.content.startswith(f"You are {response.agent}. ")
    assert FACTS[0] in system.content
    assert (user.role, user.content) == ("user", sure)
    assert (response.text, response.routing.model) == (backend.answer, "scripted-1b")
    assert response.usage.total_tokens == 44


def test_edges_lead_to_sources_that_the_search_misses(static_llm: RuvLLM):
    backend = Scripted()
    llm = make(static_llm, backend)
    near, far = llm.memory.add([FACTS[0], "Ask Grace for the password."])
    assert [source.id for source in ask(llm).sources] == [near]
    llm.memory.graph.link(near, far, "Follows", 1.0)
    found = {source.id: source for source in ask(llm).sources}
    assert found.keys() == {near, far}
    assert (found[near].hops, found[far].hops) == (0, 1)


def test_edges_lead_to_no_other_collection(static_llm: RuvLLM):
    llm = make(static_llm, Scripted())
    (near,) = llm.memory.add(FACTS[0])
    (secret,) = llm.memory.add("Ask Grace for the password.", collection="private")
    (beyond,) = llm.memory.add("Grace sits on the third floor.")
    llm.memory.graph.link(near, secret, "Follows", 1.0)
    llm.memory.graph.link(secret, beyond, "Follows", 1.0)
    assert {source.id for source in ask(llm).sources} == {near, beyond}


def test_quality_decides_among_alike(static_llm: RuvLLM):
    llm = make(static_llm, Scripted())
    texts = [Memory(FACTS[0], quality=0.1), Memory(FACTS[0] + " ", quality=0.9)]
    worse, better = llm.memory.add(texts)
    assert [source.id for source in ask(llm).sources] == [better, worse]


def test_a_session_carries_its_history(remembering: tuple[RuvLLM, Scripted]):
    llm, backend = remembering
    session = llm.new_session({"user": "ada"})
    first = ask(llm, session=session.id)
    ask(llm, "and who approves it?", session=session.id)
    ask(llm, "something else")
    spoken = [[one.content for one in messages if one.role != "system"] for messages, _ in backend.asked]
    assert spoken == [
        [QUESTION],
        [QUESTION, backend.answer, "and who approves it?"],
        ["something else"],
    ]
    assert first.session_id == session.id
    assert [message.content for message in llm.session(session.id).history][::2] == [QUESTION, "and who approves it?"]
    with pytest.raises(InputError, match="no session"):
        ask(llm, session="nobody")


def test_a_session_has_a_hidden_state_of_its_own(remembering: tuple[RuvLLM, Scripted]):
    llm, _ = remembering
    one, other = llm.new_session().id, llm.new_session().id
    ask(llm, session=one)
    known = llm.queries.sessions
    assert known.get(one).state.hidden.any()
    assert not known.get(other).state.hidden.any()


def test_a_stream_begins_with_who_takes_it_and_ends_with_the_whole(remembering: tuple[RuvLLM, Scripted]):
    llm, backend = remembering
    first, *deltas, last = events(llm.aquery_stream(QUESTION))
    assert isinstance(first, Routed)
    assert first.decision.agent == llm.route(QUESTION).agent
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert isinstance(last, Response)
    assert "".join(delta.text for delta in deltas) == last.text == backend.answer
    assert (last.request_id, last.agent) == (first.request_id, first.decision.agent)
    assert last.usage.total_tokens == 44


@pytest.mark.parametrize("most", [1, 2, 4])
def test_a_stream_that_is_left_leaves_nothing(remembering: tuple[RuvLLM, Scripted], most: int):
    llm, backend = remembering
    session = llm.new_session().id
    seen = list(events(llm.aquery_stream(QUESTION, session=session), most))
    assert len(seen) == most
    assert backend.closed == len(backend.asked)
    assert llm.session(session).history == ()
    assert not llm.queries.sessions.get(session).state.hidden.any()
    assert llm.stats()["total_queries"] == 0
    with pytest.raises(InputError, match="remembered"):
        llm.feedback_request(seen[0].request_id, 5)
    llm.queries.save()
    assert llm.memory.stats()["collections"] == {"default": len(FACTS)}


def test_a_backend_that_breaks_off_leaves_nothing(remembering: tuple[RuvLLM, Scripted]):
    llm, backend = remembering
    backend.fails_after = 2
    session = llm.new_session().id
    with pytest.raises(BackendError, match="down"):
        ask(llm, session=session)
    with pytest.raises(BackendError, match="down"):
        list(events(llm.aquery_stream(QUESTION, session=session)))
    assert llm.session(session).history == ()
    assert llm.stats()["total_queries"] == 0


def test_below_the_confirm_band_nobody_is_played_no_agents_tier_counts_and_a_tier_more_is_asked(static_llm: RuvLLM):
    large, small = Scripted("Large."), Scripted("Small.", "small")
    tiers = {Tier.LARGE: large, Tier.SMALL: small}
    pinned = [replace(agent, tier=Tier.SMALL, model="haiku") for agent in static_llm.agents]
    llm = RuvLLM(pinned, encoder="static", like=static_llm, backends=tiers)
    unsure = ask(llm, "Hi")
    assert unsure.decision.confidence < CONFIRM_FROM
    assert (unsure.decision.tier, unsure.tier, unsure.text) == (Tier.SMALL, Tier.LARGE, "Large.")
    assert (unsure.choice.by, unsure.advice[:28]) == ("escalation", "no agent is sure enough to s")
    assert [message.role for message in large.asked[-1][0]] == ["user"]
    sure = ask(llm, "write unit tests for the parser")
    assert (sure.tier, sure.text, sure.choice.by) == (Tier.SMALL, "Small.", "agent")
    assert small.asked[-1][0][0].content.startswith("You are tester. ")


def priced(backend: Scripted, dollars: float) -> Scripted:
    """With a price, as one behind a URL has it."""
    backend.endpoint = Endpoint("http://127.0.0.1:1/v1", "m", price=Price(dollars, dollars))  # type: ignore[attr-defined]
    return backend


def test_what_forbids_escalation(static_llm: RuvLLM):
    llm = make(static_llm, priced(Scripted("Large."), 9), priced(Scripted("Small.", "small"), 0.1))
    first = ask(llm, "Hi")
    assert (first.text, first.choice.cost, first.choice.others) == ("Large.", 750 * 9e-6, (Tier.SMALL,))
    limited = ask(llm, "Hi", constraints=Constraints(max_cost=0.001))
    assert (limited.text, limited.choice.by, limited.choice.others) == ("Small.", "limits", ())
    named = ask(llm, "Hi", constraints=Constraints(force_model="small"))
    assert (named.text, named.choice.by) == ("Small.", "request")
    with pytest.raises(InputError, match="no backend costs so little"):
        ask(llm, "Hi", constraints=Constraints(max_cost=1e-9))


def test_a_route_to_be_confirmed_says_so_and_its_agent_speaks(static_llm: RuvLLM):
    backend = Scripted("Done.")
    llm = RuvLLM(encoder="static", like=static_llm, backends={Tier.SMALL: backend})
    response = ask(llm, "document the planner")
    assert (response.decision.action, response.agent) == (Action.CONFIRM, "documenter")
    assert response.advice.startswith("probably a task for documenter (0.8")
    assert backend.asked[-1][0][0].content.startswith("You are documenter. ")


def test_confidence_is_the_answers_and_the_decisions_is_the_routes(remembering: tuple[RuvLLM, Scripted]):
    llm, backend = remembering
    for confidence in (0.4, None):
        backend.confidence = confidence
        response = ask(llm)
        assert response.confidence == confidence
        assert response.decision.confidence == llm.route(QUESTION).confidence
        assert (response.agent, response.to_dict()["decision"]["agent"]) == (response.decision.agent,) * 2
    assert make(llm, config=None).query("what?").confidence == 0


def test_with_the_only_backend_dead_memory_answers_and_says_so(remembering: tuple[RuvLLM, Scripted]):
    llm, backend = remembering
    backend.fails_after = 0
    session = llm.new_session().id
    response = ask(llm, session=session)
    assert "every Monday at six" in response.text
    assert (response.routing.backend, response.tier) == ("extractive", Tier.BOOSTER)
    assert response.warnings == ("scripted gave no answer (unavailable); memory answers instead",)
    assert 0.5 < (response.confidence or 0) <= 1
    *_, last = events(llm.aquery_stream(QUESTION, session=session))
    assert (last.routing.backend, last.warnings) == ("extractive", response.warnings)
    llm.queries.save()
    assert llm.memory.stats()["collections"] == {"default": len(FACTS)}  # it only repeats them
    assert llm.services.unavailable == ["scripted"]
    backend.fails_after = None
    again = ask(llm, session=session)
    assert (again.text, again.warnings) == (backend.answer, ())
    assert llm.services.unavailable == []


def test_what_memory_does_not_hold_is_the_dead_backends_error(remembering: tuple[RuvLLM, Scripted]):
    llm, backend = remembering
    backend.fails_after = 0
    with pytest.raises(BackendError, match="down"):
        ask(llm, "who painted the ceiling of the chapel?")
    with pytest.raises(BackendError, match="down"):  # a conversation is its caller's: nobody else goes on with it
        ask(llm, messages=[Message("user", QUESTION)])
    with pytest.raises(BackendError, match="down"):
        ask(llm, constraints=Constraints(force_model="scripted"))


@pytest.mark.parametrize("kind", ["refused", "rate_limited"])
def test_a_backend_that_is_alive_is_not_replaced_by_memory(remembering: tuple[RuvLLM, Scripted], kind: Any):
    llm, backend = remembering
    backend.fails_after, backend.fails_with = 0, kind
    with pytest.raises(BackendError) as caught:
        ask(llm)
    assert caught.value.kind == kind


def test_another_tier_answers_when_one_is_down(static_llm: RuvLLM):
    large, small = Scripted("From the large one."), Scripted("From the small one.", "small")
    llm = make(static_llm, large, small)
    text = "design a distributed architecture for the whole payment system and migrate it end-to-end"
    assert ask(llm, text).routing.backend == "scripted"
    large.fails_after = 0
    response = ask(llm, text)
    assert (response.text, response.routing.backend, response.tier) == ("From the small one.", "small", Tier.SMALL)
    assert response.warnings == ("scripted gave no answer (unavailable); small answers instead",)


def test_constraints_are_respected(remembering: tuple[RuvLLM, Scripted]):
    llm, backend = remembering
    response = ask(llm, constraints=Constraints(max_tokens=7, temperature=0.1, top_p=0.2, force_context=300))
    _, params = backend.asked[-1]
    assert (params.max_tokens, params.temperature, params.top_p) == (7, 0.1, 0.2)
    assert (response.routing.temperature, response.routing.context_size) == (0.1, 300)


def test_what_nobody_set_is_left_to_the_backend(static_llm: RuvLLM):
    backend = Scripted()
    asked = ask(make(static_llm, backend))
    assert backend.asked[-1][1] == Params()
    assert (asked.routing.temperature, asked.routing.top_p) == (None, None)
    configured = Config(inference=InferenceConfig(temperature=0.2, max_tokens=30, repeat_penalty=1.2))
    llm = RuvLLM(encoder="static", like=static_llm, backends={"large": backend}, config=configured)
    ask(llm)
    assert backend.asked[-1][1] == Params(temperature=0.2, max_tokens=30, repeat_penalty=1.2)


def test_sampling_is_set_by_constraints_else_by_the_configuration(remembering: tuple[RuvLLM, Scripted]):
    llm, backend = remembering
    ask(llm)
    params = backend.asked[-1][1]
    assert (params.top_k, params.min_p, params.repeat_penalty, params.seed) == (None, None, None, None)
    ask(llm, constraints=Constraints(top_k=0, min_p=0.1, repeat_penalty=1.3, seed=-7))
    params = backend.asked[-1][1]
    assert (params.top_k, params.min_p, params.repeat_penalty, params.seed) == (0, 0.1, 1.3, -7)


def test_a_model_can_be_forced(static_llm: RuvLLM):
    large, small = Scripted("Large."), Scripted("Small.", "small")
    llm = make(static_llm, large, small)
    for name, text in (("small-1b", "Small."), ("small", "Small."), ("scripted-1b", "Large.")):
        assert ask(llm, constraints=Constraints(force_model=name)).text == text
    with pytest.raises(InputError, match="small-1b"):
        ask(llm, constraints=Constraints(force_model="gigantic"))
    small.fails_after = 0
    with pytest.raises(BackendError):  # forced is forced
        ask(llm, constraints=Constraints(force_model="small"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"temperature": 3.0},
        {"top_p": 0.0},
        {"max_latency_ms": float("nan")},
        {"force_context": 1},
        {"force_context": True},
        {"force_model": 3},
        {"extra": "reasoning_effort"},
        {"seed": 1.5},
        {"seed": 2**63},
        {"top_k": -1},
        {"min_p": 1.1},
        {"repeat_penalty": 0},
    ],
)
def test_constraints_out_of_range_are_named(wrong: dict[str, Any]):
    with pytest.raises(InputError) as caught:
        Constraints(**wrong)
    assert caught.value.field == next(iter(wrong))


def test_the_prompt_fits_its_budget(static_llm: RuvLLM):
    backend = Scripted()
    llm = make(static_llm, backend)
    llm.memory.add(
        [f"The staging database reset number {i}: " + "details of the staging reset " * 40 for i in range(8)]
    )
    session = llm.new_session().id
    for i in range(6):
        ask(llm, f"{QUESTION} {i} " + "really " * 30, session=session)
    for size in (400, 1_000, 4_000):
        ask(llm, session=session, constraints=Constraints(force_context=size, max_tokens=100))
        messages, params = backend.asked[-1]
        read = sum(estimate_tokens(message.content) + 4 for message in messages)
        assert read + params.max_tokens <= size
        assert messages[-1].content == QUESTION
        assert read > 0.5 * (size - 100) or size == 4_000  # and what there is room for is used
    with pytest.raises(InputError, match="shorten"):
        ask(llm, "staging " * 2_000, constraints=Constraints(force_context=500))


def test_sources_and_history_are_still_read_after_150_rated_turns(static_llm: RuvLLM):
    backend = Scripted()
    llm = make(static_llm, backend, config=Config.from_dict({"memory": {"write_back": False}}))
    for i in range(160):  # short ones: what they need fits into the smallest context
        response = ask(llm, f"write unit tests for part {i} of the parser", constraints=Constraints(max_tokens=20))
        llm.feedback_request(response.request_id, 5)
    run_now(llm.learning.train(300))
    ids = llm.memory.add(FACTS)
    session = llm.new_session().id
    told = list[Response]()
    for text in (QUESTION, "when is that staging database reset?", "what does a deployment need, how many approvals?"):
        told.append(ask(llm, text, session=session))
    learnt = [response for response in told[1:] if response.routing.learnt]
    assert learnt
    assert min(response.routing.context_size for response in learnt) < 1_100
    for (messages, params), response in zip(backend.asked[-3:], told, strict=True):
        assert {source.id for source in response.sources} & set(ids)
        assert response.sources[0].text in messages[0].content
        assert params.max_tokens is None  # nobody set it
        turns = (len(messages) - 2) // 2
        assert turns >= (response is not told[0])  # the last one at least
        assert bool(response.warnings) == (turns < told.index(response))


def test_messages_that_a_backend_could_not_read_are_told(remembering: tuple[RuvLLM, Scripted]):
    llm, backend = remembering
    backend.dropped = 2
    said = [Message("user", "one"), Message("assistant", "two"), Message("user", QUESTION)]
    words = ("2 of 3 messages did not fit into scripted's context",)
    assert ask(llm, messages=said).warnings == words
    *_, last = events(llm.aquery_stream(QUESTION, messages=said))
    assert last.warnings == words


def test_a_long_question_gets_the_context_it_needs(remembering: tuple[RuvLLM, Scripted]):
    llm, backend = remembering
    long = "reset the staging database " * 800  # about 5,400 tokens; the usual context has 4,096
    response = ask(llm, long)
    assert backend.asked[-1][0][-1].content == long
    assert 5_000 < response.routing.context_size <= backend.context


def test_the_best_answers_are_remembered_with_a_real_vector(remembering: tuple[RuvLLM, Scripted]):
    llm, _ = remembering
    text = "write unit tests for the parser"
    assert ask(llm, text).confidence == 0.9
    llm.queries.save()
    (pair,) = [found.memory for found in llm.memory.search(text, 10) if found.memory.kind == "QAPair"]
    assert pair.text == f"Q: {text}\nA: Do it on Monday."
    vector = llm.memory.records.vectors(np.array([pair.id]))[0]
    assert np.allclose(vector, llm.embed([text])[0], atol=1e-6)
    assert ask(llm, "unit tests for a parser, please").sources[0].id == pair.id


def test_an_answer_whose_backend_says_nothing_of_its_confidence_is_as_good_as_its_route(
    remembering: tuple[RuvLLM, Scripted],
):
    llm, backend = remembering
    backend.confidence = None
    sure, unsure = ask(llm, "write unit tests for the parser"), ask(llm, "how hot is the oven?")
    assert sure.confidence is unsure.confidence is None
    assert sure.decision.confidence > 0.9 > 0.7 > unsure.decision.confidence
    llm.queries.save()
    _, _, _, pair = llm.memory.records.get(llm.memory.records.ids("default", llm.memory.space).tolist())
    assert (pair.text[:35], pair.quality) == ("Q: write unit tests for the parser\n", sure.decision.confidence)


@pytest.mark.parametrize("confidence", [0.7, 0.0])
def test_an_answer_that_its_backend_is_not_sure_of_is_not_remembered(
    remembering: tuple[RuvLLM, Scripted], confidence: float
):
    llm, backend = remembering
    backend.confidence = confidence
    response = ask(llm, "write unit tests for the parser")
    assert (response.confidence, response.decision.confidence > 0.9) == (confidence, True)
    llm.queries.save()
    assert llm.memory.stats()["collections"] == {"default": len(FACTS)}


def test_learning_can_be_switched_off(static_llm: RuvLLM):
    llm = make(static_llm, Scripted(), config=Config.from_dict({"learning": {"enabled": False}}))
    response = ask(llm, "write unit tests for the parser")
    llm.queries.save()
    assert llm.memory.stats()["collections"] == {}
    applied = llm.feedback_request(response.request_id, 5, agent="tester")
    assert (applied.agent, applied.trajectory, applied.model_choice) == ("confirmed", False, False)


def test_backends_need_a_tier_that_there_is(static_llm: RuvLLM):
    llm = RuvLLM(encoder="static", like=static_llm, backends={"huge": Scripted()})
    with pytest.raises(ConfigError, match="booster, small, large"):
        ask(llm)


def test_stats_count_queries(remembering: tuple[RuvLLM, Scripted]):
    llm, _ = remembering
    assert llm.stats()["total_queries"] == 0
    session = llm.new_session().id
    for text in ("one", "two"):
        ask(llm, text, session=session)
    told = llm.stats()
    assert (told["total_queries"], told["sessions"], told["requests"]) == (2, 1, 2)
    assert told["avg_latency_us"] > 0


def test_closing_twice_does_no_harm(static_llm: RuvLLM):
    llm = make(static_llm, Scripted())
    ask(llm)
    llm.close()
    llm.close()
