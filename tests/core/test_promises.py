"""The rows of RuvLLM's feature matrix (FEATURES.md O9), kept by one object; that nothing leaves the device, by
tests/e2e/test_offline.py."""

from __future__ import annotations

import pytest
from scripted import Scripted

from ruvllm import Agent, RuvLLM, Tier
from ruvllm.encoders.protocol import run_now
from ruvllm.index.codecs import FloatCodec, HalfCodec
from ruvllm.query.responses import Constraints

TASK = "polish the copper kettle"


@pytest.fixture(scope="module")
def llm(static_llm: RuvLLM) -> RuvLLM:
    agents = [Agent("baker", "Bakes bread and cakes."), Agent("gardener", "Waters plants and prunes trees.")]
    backends = {"small": Scripted("A small answer.", "small"), "large": Scripted("A large answer.", "large")}
    return RuvLLM(agents, encoder="static", like=static_llm, backends=backends)


def test_any_llm_answers_and_the_choice_of_one_says_who_made_it(llm: RuvLLM):
    question = "prove that there are infinitely many primes"
    response = run_now(llm.aquery(question, constraints=Constraints(force_model="large")))
    assert (response.text, response.choice.by) == ("A large answer.", "request")
    assert run_now(llm.aquery(TASK)).choice.tier in Tier


def test_it_learns_with_each_feedback_and_forgets_nothing_of_before(llm: RuvLLM):
    llm.feedback(TASK, "gardener")
    llm.feedback("glaze the birthday cake", "baker")
    assert [llm.route(text).agent for text in (TASK, "glaze the birthday cake")] == ["gardener", "baker"]
    assert llm.learning.engine.get_stats().ewc_lambda > 0


def test_memory_is_searched_by_meaning_along_edges_and_kept_small(llm: RuvLLM):
    ids = [llm.memory.add(text)[0] for text in ("The login page is broken.", "Bo mends it.", "Bread needs salt.")]
    llm.memory.graph.link(ids[0], ids[1], "Follows")
    found = llm.memory.search("users cannot sign in", 3, hops=1)
    assert (found[0].memory.id, ids[1] in {one.memory.id for one in found}) == (ids[0], True)
    assert FloatCodec(256).bytes_per_vector == 2 * HalfCodec(256).bytes_per_vector


def test_a_session_goes_on_and_a_rating_reaches_what_led_to_the_answer(llm: RuvLLM):
    session = llm.new_session({"user": "ada"})
    response = run_now(llm.aquery("when is staging reset?", session=session))
    assert llm.feedback_request(response.request_id, rating=5).trajectory
    assert [one.role for one in llm.session(session).history] == ["user", "assistant"]


def test_a_decision_costs_little_and_says_what_it_took(llm: RuvLLM):
    decision = llm.route("water the tomatoes")
    assert decision.timings_us["total"] > 0
    assert llm.route("water the tomatoes").cached
