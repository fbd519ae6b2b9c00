"""Agents that another program hands over: what cannot be used is told in its words, and stops no other."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.agents.incoming import read_incoming
from ruvllm.errors import InputError

FILE = "---\nname: {}\ndescription: does things\n---\nYou do things.\n"


def test_objects_are_read_and_their_mistakes_numbered():
    rows = [
        {"name": "cook", "keywords": "soup, stew", "source": "/etc/passwd"},
        {"name": " "},
        {"name": "x", "tier": 9},
    ]
    agents, problems = read_incoming(rows)
    assert [(agent.name, agent.keywords, agent.source) for agent in agents] == [
        ("cook", ("soup", "stew"), ""),
        ("x", (), ""),
    ]
    assert [problem.field for problem in problems] == ["agents[1]: name", "agents[2]: tier"]
    assert all(problem.message and problem.fix for problem in problems)


def test_files_keep_their_senders_paths_and_touch_none_here():
    rows = [
        {"path": "../../etc/one.md", "text": "\ufeff" + FILE.format("one")},
        {"path": "C:\\x\\two.md", "text": FILE.format("two") + "\ud800"},
        {"path": "a/broken.md", "text": "no front matter"},
        {"path": "again.md", "text": FILE.format("two")},
        {"path": "more.json", "text": '{"agents": [{"name": "three"}]}'},
        {"path": "deep.json", "text": "[" * 200_000},
        {"path": "odd.exe", "text": "x"},
        {"path": "", "text": FILE.format("four")},
        {"path": 3, "text": ""},
        {"path": "long.md", "text": "x" * 2_000_001},
    ]
    agents, problems = read_incoming(rows)
    assert [(agent.name, agent.source) for agent in agents] == [
        ("one", "../../etc/one.md"),
        ("two", "C:\\x\\two.md"),
        ("three", "more.json"),
        ("four", ""),
    ]
    told = [problem.field for problem in problems]
    assert told == ["a/broken.md:1", "again.md", "deep.json:1", "odd.exe:1", "agents", "long.md:1"]


@pytest.mark.parametrize("rows", ["agents", None, {"name": "cook"}, [{}] * 10_001])
def test_what_is_no_list_of_agents_is_refused(rows: Any):
    with pytest.raises(InputError) as caught:
        read_incoming(rows)
    assert caught.value.field == "agents"


def test_an_empty_list_is_nothing():
    assert read_incoming([]) == ([], [])


def test_what_is_no_agent_stops_no_other():
    agents, problems = read_incoming(
        [3, {"name": "a"}, "b", None, {"path": "c.md", "text": FILE.format("c")}, {"name": "a"}]
    )
    assert [agent.name for agent in agents] == ["a", "c"]
    assert [problem.field for problem in problems] == [
        "agents[0]: name",
        "agents[2]: name",
        "agents[3]: name",
        "agents[5]",
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters(categories=["Cs"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["name", "description", "category", "keywords", "examples", "tier", "model", "tools", "path", "text", "source"]


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES) | VALUES, max_size=5))
def test_nothing_that_is_handed_over_is_a_traceback(rows: list[Any]):
    agents, problems = read_incoming(rows)
    assert len({agent.name for agent in agents}) == len(agents)
    assert len(agents) + sum(problem.skipped for problem in problems) >= len(rows)
    json.dumps([asdict(agent) for agent in agents], ensure_ascii=False).encode()  # can be stored
    assert all(problem.message and problem.field and problem.fix for problem in problems)


def test_half_a_character_is_made_whole():
    rows = [{"name": "fence-painter\ud800", "description": "paint the garden fence", "examples": ["paint \udc00"]}]
    (agent,), problems = read_incoming(rows)
    assert (agent.name, agent.examples, problems) == ("fence-painter\ufffd", ("paint \ufffd",), [])
