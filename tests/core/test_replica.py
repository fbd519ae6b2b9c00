"""Two state files that replicate each other, without anything between them but the changes themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ruvllm import Agent, InputError, RuvLLM
from ruvllm.encoders.protocol import no_pause, run_now
from ruvllm.memory.erasure import erase
from ruvllm.memory.replica import Applied, Replica
from ruvllm.memory.validity import Closed
from ruvllm.state.agents import load_agents, save_agents
from ruvllm.state.outbox import KINDS, Change, Position, time_of
from ruvllm.state.record import ELSEWHERE
from ruvllm.state.transfer import dump, empty, replaced

SECRET = "the safe in the cellar opens with a blue key"


def node() -> RuvLLM:
    made = RuvLLM(encoder="static")
    made.store.outbox.enable()
    return made


@pytest.fixture
def nodes() -> tuple[RuvLLM, RuvLLM]:
    return node(), node()


def taken(llm: RuvLLM) -> list[Change]:
    """All that waits there, as it comes out of JSON."""
    ids, changes = llm.store.outbox.take()
    llm.store.outbox.sent(ids)
    return [replace(one, data=json.loads(json.dumps(one.data))) for one in changes]


def apply(llm: RuvLLM, changes: Sequence[Change], position: Position | None = None) -> Applied:
    return run_now(Replica(llm.memory).apply(changes, position))


def exchange(a: RuvLLM, b: RuvLLM) -> None:
    """Until both have said all."""
    while changes := [*taken(a), *taken(b)]:
        for llm in (a, b):
            apply(llm, changes)


def content(llm: RuvLLM) -> dict[str, Any]:
    """What of it is the same on all nodes."""
    names = dict(llm.store.read("SELECT item, uid FROM replicated WHERE kind = 'memory' AND item IS NOT NULL"))
    memories = llm.memory.records.get([int(id) for id in names])
    edges = llm.store.read("SELECT source, target, kind, weight FROM edges")
    closed = llm.store.read("SELECT id, until, successor, reason FROM closed")
    bound = llm.memory.graph.bindings([int(id) for id in names])
    ratings = llm.store.read("SELECT space, query, relevance FROM ratings")
    return {
        "memories": {
            names[str(m.id)]: (m.text, m.kind, m.metadata, m.quality, m.archived, m.created) for m in memories
        },
        "edges": {(names[str(s)], names[str(t)], kind, weight) for s, t, kind, weight in edges},
        "closed": {(names[str(i)], until, names.get(str(by)), why) for i, until, by, why in closed},
        "hyperedges": [({names[str(i)] for i in one.members}, one.kind, one.weight, one.metadata) for one in bound],
        "ratings": [
            (space, query, {names[i]: how for i, how in json.loads(rated).items()}) for space, query, rated in ratings
        ],
        "feedback": [(row.feedback, row.rating, row.created) for row in llm.store.feedback_rows()],
        "agents": load_agents(llm.store) or {},
        "outcomes": sorted(llm.store.read("SELECT text, agent, model, quality, success, created FROM outcomes")),
    }


def test_everything_that_nodes_replicate_is_the_same_on_both_and_twice_changes_nothing():
    a, b = RuvLLM(encoder="static"), node()
    before = a.memory.add(["said before there were others", "and this"])
    a.memory.graph.link(*before, "Follows", 0.5)
    a.memory.graph.bind(before, "Cites", 0.25)
    a.memory.rate("what was said before?", before)
    a.feedback("fix the bug", "coder")
    save_agents(a.store, [Agent("baker", "Bakes bread.")])
    a.store.outbox.enable()
    first, second = a.memory.add([{"text": "one", "metadata": {"n": 1}}, {"text": "two", "kind": "Fact"}])
    a.memory.graph.link(first, second, "Cites", 0.3)
    a.memory.graph.strengthen({(first, second, "Cites"): 0.25})
    a.memory.records.rate({first: -0.25, before[0]: -0.5})
    bound = a.memory.graph.bind([first, *before], weight=0.5, metadata={"why": "alike"})
    a.memory.graph.strengthen({bound: 0.25})
    a.memory.rate("one?", [first])
    a.memory.graph.unbind(a.memory.graph.bind(before))
    a.memory.archive([second])
    a.memory.validity.close([Closed(before[0], 1.5, first, "said so", 0.9, 2.0)])
    a.feedback("polish the kettle", "reviewer", 2.0, right=False)
    a.undo_feedback(1)
    a.store.outbox.outcome("a task", "coder", "small", 0.75, None)
    save_agents(a.store, [Agent("baker", "Bakes cakes too."), Agent("smith", "Forges iron.")])
    changes = taken(a)
    assert {one.kind for one in changes} == KINDS - {"delta"}
    applied = apply(b, changes, Position(7, 9))
    assert (applied.agents, len(applied.feedback), len(applied.outcomes)) == (True, 1, 1)
    assert content(b) == content(a)
    assert b.store.outbox.position == (7, 9)
    assert b.memory.search("two", 2)[0].memory.text == "one"  # the other one is archived
    for again in (changes, changes[::-1], changes[len(changes) // 2 :]):
        assert apply(b, again).count == 0
    assert content(b) == content(a)
    assert taken(b) == [] == b.store.set_aside.rows()


def test_two_that_write_at_once_agree_in_any_order(nodes: tuple[RuvLLM, RuvLLM]):
    a, b = nodes
    x, y = a.memory.add(["a text", "another text"])
    a.memory.graph.link(x, y, "Follows", 0.5)
    bound = a.memory.graph.bind([x, y], weight=1.0)
    exchange(a, b)
    for llm, what, change in ((a, "Bakes.", -0.25), (b, "Brews.", -0.125)):
        save_agents(llm.store, [Agent("baker", what)])
        llm.memory.records.rate({x: change})
        llm.memory.graph.strengthen({(x, y, "Follows"): change, bound: change})
        llm.feedback("the same task", "coder" if llm is a else "tester")
        llm.feedback(f"a task of {what}", "coder")
    ours, theirs = taken(a), taken(b)
    apply(a, theirs)
    apply(b, ours[::-1])
    assert content(a) == content(b)
    assert content(a)["memories"][time_first(a)][3] == 0.625
    assert content(a)["hyperedges"][0][2] == 0.625
    assert next(iter(content(a)["edges"]))[3] == 0.125
    b.memory.graph.unlink(x, y, "Follows")
    save_agents(a.store, [])
    exchange(a, b)
    assert content(a) == content(b)
    assert content(a)["edges"] == set() == set(content(a)["agents"])


def test_of_vectors_no_text_leaves_and_of_deltas_nothing_but_what_was_learnt(nodes: tuple[RuvLLM, RuvLLM]):
    a, b = nodes
    a.store.outbox.sharing = "vectors"
    old, new = a.memory.add([{"text": SECRET, "metadata": {"team": "web"}}, "the safe opens with a code now"])
    a.memory.validity.close([Closed(old, 1.5, new, SECRET, 0.9, 2.0)])
    a.memory.graph.bind([old, new], weight=0.5)
    a.memory.rate("which key opens the safe?", [old])
    a.feedback(SECRET, "coder")
    save_agents(a.store, [Agent("baker", SECRET)])
    a.store.outbox.outcome(SECRET, "coder", "small", 0.75, None)
    a.store.outbox.delta(b"sums")
    changes = taken(a)
    assert b"safe" not in json.dumps([one.data for one in changes]).encode() + b"".join(one.vector for one in changes)
    learnt = list[bytes]()
    run_now(Replica(b.memory, learnt.append).apply(changes))
    (hit,) = b.memory.search(run_now(a.memory.vector(SECRET)), 1)
    assert hit.score > 0.999
    assert hit.memory.metadata == {"team": "web", ELSEWHERE: hit.memory.text}
    assert (learnt, len(content(b)["hyperedges"]), len(content(b)["ratings"])) == ([b"sums"], 1, 1)
    assert b.query("which key opens the safe?").sources == ()  # an answer has no use for it
    a.memory.forget([old])
    a.store.outbox.sharing = "deltas"
    a.store.outbox.delta(b"more")
    (only,) = taken(a)
    assert (only.kind, only.vector) == ("delta", b"more")


def time_first(llm: RuvLLM) -> str:
    uids = [uid for (uid,) in llm.store.read("SELECT uid FROM replicated WHERE kind = 'memory'")]
    assert all(time_of(uid) > 1.7e12 for uid in uids)
    return min(uids)


def test_after_a_review_both_decide_alike(nodes: tuple[RuvLLM, RuvLLM]):
    a, b = nodes
    tasks = [f"{verb} the {thing}" for thing in ("kettle", "ledger", "canoe") for verb in ("polish", "check", "paint")]
    agents = ["coder", "tester", "reviewer"]
    for number, task in enumerate(tasks):
        (a, b)[number % 2].feedback(task, agents[number % 3], right=number != 4)
        (b, a)[number % 2].feedback(tasks[number - 1], agents[number % 3])
    a.store.outbox.outcome("paint the fence", "coder", "small", 0.9, True)
    changes = {llm: taken(llm) for llm in nodes}
    for llm, theirs in ((a, changes[b][::-1]), (b, changes[a])):
        llm.routing.note(apply(llm, theirs).feedback)
        assert llm.route("polish the kettle").evidence
        run_now(llm.jobs.run(60, no_pause, force=True, names=["review"]))
    probes = [*tasks, "paint the old canoe", "write tests", "fix the login bug", "check my ledger for errors"]
    ours, theirs = ([llm.route(probe) for probe in probes] for llm in nodes)
    assert [one.agent for one in ours] == [one.agent for one in theirs]
    assert max(abs(x.confidence - y.confidence) for x, y in zip(ours, theirs, strict=True)) < 1e-3
    assert a.learning.votes(a.embed(["paint the canoe"])[0]) == b.learning.votes(b.embed(["paint the canoe"])[0]) != {}
    assert a.store.outbox.outcomes() == b.store.outbox.outcomes()
    assert a.store.outbox.outcomes()[-1] == ("paint the fence", "coder", "small", 0.9, True)


def test_what_one_erases_is_erased_everywhere_and_does_not_come_back(nodes: tuple[RuvLLM, RuvLLM]):
    a, b = nodes
    (id,) = a.memory.add([SECRET])
    (plain,) = a.memory.add(["to be forgotten"])
    made = taken(a)
    apply(b, made)
    b.feedback(SECRET, "coder")  # nobody else has heard of it yet
    late = taken(b)
    erase(a.memory, [id])
    a.memory.forget([plain])
    apply(b, taken(a))
    apply(a, late)  # a little too late
    assert SECRET.encode() not in dump(b.store)
    exchange(a, b)
    assert SECRET.encode() not in dump(a.store)
    apply(b, made + late)
    assert content(a) == content(b)
    assert content(b)["memories"] == {}
    assert content(b)["feedback"] == []


def test_what_is_unusable_is_set_aside_alone(nodes: tuple[RuvLLM, RuvLLM]):
    a, b = nodes
    a.memory.add(["good"])
    a.feedback("a task", "coder")
    (memory, feedback) = taken(a)
    end = 0

    def bad(one: Change, **data: Any) -> Change:
        nonlocal end
        end += 1
        return replace(one, uid=f"{one.uid[:-2]}{end:02}", data={**one.data, **data})

    broken = [
        bad(memory, text=""),
        bad(memory, metadata="[" * 200),
        bad(memory, created="now"),
        bad(memory, memory=3),
        bad(feedback, weight=1e9),
        bad(feedback, text=None),
        bad(feedback, rating=True),
        replace(bad(memory), kind="edge"),
        replace(bad(memory), kind="agent", data={"name": "x", "agent": {"name": ["x"]}}),
    ]
    assert apply(b, [*broken[:5], memory, *broken[5:], feedback]).count == len(broken) + 2
    assert len(content(b)["memories"]) == len(content(b)["feedback"]) == 1
    assert len(b.store.set_aside.rows()) == len(broken)
    assert apply(b, broken).count == 0
    with pytest.raises(InputError, match="upgrade"):
        apply(b, [replace(bad(feedback), kind="order")])


def test_a_file_that_was_put_in_its_place_is_replicated_or_not(nodes: tuple[RuvLLM, RuvLLM]):
    a, b = nodes
    a.memory.add(["a text"])
    data = dump(a.store)
    with replaced(a.store, empty()):
        pass
    a.memory.add(["nobody is told"])
    assert not a.store.outbox.enabled
    assert a.store.outbox.waiting().changes == 0
    with replaced(b.store, data):
        pass
    b.memory.add(["more"])
    assert b.store.outbox.waiting().changes == 2
    assert len(b.store.outbox.take(most=1)[1]) == 1
