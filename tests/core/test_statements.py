"""What users state, and what good answers state, as memories of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from scripted import Scripted

from ruvllm import Config, RuvLLM
from ruvllm.encoders.protocol import run_now
from ruvllm.memory.erasure import chosen, erase, expired
from ruvllm.state.record import Memory
from ruvllm.text.statements import stated_in
from ruvllm.types import Tier

SAID = "Our staging database is reset every Monday. I live in Porto! Where can I eat fish?"


def made(
    static_llm: RuvLLM, answer: str = "Try the harbour. The harbour market is open on Sundays.", **options: object
):
    config = Config.from_dict({"memory": {"quality_threshold": 0.0, **options}})
    return RuvLLM(encoder="static", like=static_llm, backends={Tier.LARGE: Scripted(answer)}, config=config)


def ask(llm: RuvLLM, text: str, **constraints: object):
    return run_now(llm.aquery(text, constraints={"force_model": "large", **constraints}))


def feedback(llm: RuvLLM, request_id: str, *said: object, **more: object) -> None:
    run_now(llm.afeedback_request(request_id, *said, **more))  # type: ignore[arg-type]


def facts(llm: RuvLLM) -> dict[str, Memory]:
    llm.queries.save()
    ids = [row[0] for row in llm.store.read("SELECT id FROM memories WHERE kind = 'Fact' AND archived = 0 ORDER BY id")]
    return {one.text: one for one in llm.memory.records.get(ids)}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SAID, ["Our staging database is reset every Monday.", "I live in Porto!"]),
        ("The port of the proxy is 8080.", ["The port of the proxy is 8080."]),
        ("Fix the bug in the parser. Make sure the button is blue. Use pytest.", []),
        ("It works now. Thanks, that helps! You are a helpful assistant.", []),
        ("```\nThe port is 8080.\n```\n> The port is 81.\n- The port is 82.", []),
        ("Is the port 8080? I think the port is 8080. I want the port to be 80.", []),
        ("The port is 8080. " * 30, ["The port is 8080."]),
        (" ".join(f"The port of proxy {n} is {n}." for n in range(30)), 8),
    ],
)
def test_what_a_text_states(text: str, found: list[str] | int):
    stated = stated_in(text, "user")
    assert len(stated) == found if isinstance(found, int) else stated == found


def test_what_users_state_is_remembered_once_with_a_count(static_llm: RuvLLM):
    llm = made(static_llm)
    response = ask(llm, SAID)
    ask(llm, "I live in Porto. What shall I see?")
    there = facts(llm)
    assert list(there) == ["Our staging database is reset every Monday.", "I live in Porto!"]
    porto = there["I live in Porto!"]
    assert porto.metadata["speaker"] == "user"
    assert porto.metadata["request"] == response.request_id
    lives = llm.memory.validity.lifetimes([porto])[porto.id]
    assert (lives.said, lives.until) == (2, None)
    assert datetime.now(UTC) - timedelta(days=2) < datetime.fromtimestamp(lives.since, UTC)
    ask(llm, "Big news: I moved to Quito. Any ideas?")
    assert "I moved to Quito." not in facts(llm)  # what stands before it belongs to the sentence
    ask(llm, "I moved to Quito. Any ideas?")
    quito = facts(llm)["I moved to Quito."]
    assert llm.memory.validity.closed([porto.id])[porto.id].successor == quito.id
    llm.close()


def test_an_answer_states_something_once_it_was_found_good(static_llm: RuvLLM):
    llm = made(static_llm)
    response = ask(llm, "Where can I eat fish?")
    said = "The harbour market is open on Sundays."
    assert said not in facts(llm)
    feedback(llm, response.request_id, 5)
    (fact,) = facts(llm).values()
    assert (fact.text, fact.metadata["speaker"]) == (said, "assistant")
    assert [(one.other, one.kind) for one in llm.memory.graph.neighbours([fact.id])] == [(1, "Derived")]
    feedback(llm, response.request_id, 1)
    assert facts(llm) == {}
    feedback(llm, response.request_id, correction="The harbour market is open on Fridays.")
    assert list(facts(llm)) == ["The harbour market is open on Fridays."]
    llm.close()


@pytest.mark.parametrize("options", [{"write_back": False}, {"statements": False}])
def test_it_can_be_off(static_llm: RuvLLM, options: dict[str, bool]):
    llm = made(static_llm, **options)
    ask(llm, SAID)
    assert facts(llm) == {}
    llm.close()


def test_what_is_kept_for_days_expires(static_llm: RuvLLM):
    llm = made(static_llm, keep_days=3)
    ask(llm, SAID)
    assert len(facts(llm)) == 2
    now = datetime.now(UTC)
    assert expired(llm.store, now + timedelta(days=2)) == []
    assert len(expired(llm.store, now + timedelta(days=4))) == 3
    (old,) = llm.memory.add("an offer", metadata={"expires": "2020-01-01"})
    jobs = {run.name: run.outcome for run in llm.run_jobs(force=True)}
    assert jobs["expiry"] == "1 memories had expired"
    assert llm.memory.records.get([old]) == []
    llm.close()


def test_a_model_settles_what_words_do_not_tell_where_it_may(static_llm: RuvLLM):
    texts = ("The endpoint returns XML.", "The endpoint returns JSON.")
    for ask, answers in ((False, []), (True, ["No: both may hold."]), (True, ["Yes. It returns something else now."])):
        llm = made(static_llm, ask_unsure=ask)
        model = Scripted(*answers)
        llm = RuvLLM(encoder="static", like=static_llm, backends={Tier.LARGE: model}, config=llm.config)
        old, new = (llm.memory.add(text)[0] for text in texts)
        assert llm.memory.validity.doubts() == ([(old, new)] if ask else [])
        llm.run_jobs(force=True)
        closed = llm.memory.validity.closed([old])
        assert llm.memory.validity.doubts() == []
        assert bool(closed) is bool(answers and answers[0].startswith("Yes"))
        if closed:
            assert closed[old].successor == new
            assert closed[old].reason == "scripted says so: It returns something else now."
            assert llm.memory.validity.reopen([old]) == 1
        llm.close()


def test_agents_have_their_own_and_shared_knowledge(static_llm: RuvLLM):
    llm = made(static_llm)
    ask(llm, "The port of the proxy is 8080. Does it run?", agent_id="a")
    ask(llm, "The port of the proxy is 9090. Does it run?", agent_id="b")
    llm.queries.save()
    llm.memory.add("The proxy is run by Ada.")

    def found(agent_id: str | None) -> set[str]:
        return {one.memory.text for one in llm.memory.search("port of the proxy", 9, agent_id=agent_id)}

    assert {"The port of the proxy is 8080.", "The proxy is run by Ada."} <= found("a")
    assert not any("9090" in text for text in found("a"))
    assert not any("8080" in text for text in found("b"))
    assert found("c") == {"The proxy is run by Ada."}
    assert len(found(None)) == 5
    for id, port, other in (("a", "8080", "9090"), ("b", "9090", "8080")):
        response = run_now(llm.aquery("What is the port of the proxy?", constraints={"agent_id": id}))
        texts = " ".join(source.text for source in response.sources)
        assert port in texts
        assert other not in texts
    llm.close()


def test_forgetting_by_policy(static_llm: RuvLLM):
    llm = made(static_llm)
    web, shop, other = llm.memory.add(
        [Memory("a", metadata={"team": "web"}), Memory("b", metadata={"team": "shop"}), Memory("c", collection="faq")]
    )
    assert chosen(llm.store, {"team": {"$exists": True}}) == [web, shop]
    assert chosen(llm.store, {"team": "web"}, collection="faq") == []
    assert chosen(llm.store, collection="faq") == [other]
    assert chosen(llm.store, before="2020-01-01") == []
    assert chosen(llm.store, {"team": "web"}, before="2999-01-01") == [web]
    for wrong in ({}, {"before": "soon"}, {"filter": {"$no": 1}}):
        with pytest.raises(ValueError, match=r"\w"):
            chosen(llm.store, **wrong)
    llm.close()


def test_what_came_of_a_text_is_erased_with_it(static_llm: RuvLLM):
    llm = made(static_llm)
    response = ask(llm, SAID)
    feedback(llm, response.request_id, 5)
    there = facts(llm)
    assert len(there) == 3
    (first, *_) = there
    assert erase(llm.memory, [there[first].id]) == 1  # and the pair that it stands in
    assert there.keys() - facts(llm).keys() == {first}
    assert llm.store.read("SELECT count(*) FROM memories") == [(2,)]
    response = ask(llm, SAID)
    feedback(llm, response.request_id, 5)
    assert len(facts(llm)) == 3
    assert erase(llm.memory, [row[0] for row in llm.store.read("SELECT id FROM memories WHERE kind = 'QAPair'")]) == 1
    assert llm.store.read("SELECT count(*) FROM memories") == [(0,)]
    llm.close()
