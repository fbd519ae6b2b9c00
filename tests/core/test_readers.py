import contextlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.agents.readers import parse_claude_agent, read_agents
from ruvllm.errors import AgentFileError
from ruvllm.types import Tier

ESCAPED = (
    '\\n\\n<example>\\nContext: A page is slow.\\nuser: "The orders page takes 9 seconds"\\n'
    'assistant: "I\'ll use db-doctor"\\n<commentary>\\nuser: "not an example"\\n</commentary>\\n</example>'
)
ODD = f"""---
name: db-doctor
description: Use this agent when queries are slow: it reads plans. Examples:{ESCAPED}
model: haiku
tools: Read, Grep,Bash
color: "blue"
---

You heal databases.

<example>
user: 'why does this join scan the whole table?'
</example>
"""


def test_claude_agent_with_odd_quoting():
    agent = parse_claude_agent(ODD, "db.md")
    assert agent.name == "db-doctor"
    assert agent.description == "Use this agent when queries are slow: it reads plans."
    assert agent.examples == ("The orders page takes 9 seconds", "why does this join scan the whole table?")
    assert (agent.tier, agent.model, agent.tools) == (Tier.SMALL, "haiku", ("Read", "Grep", "Bash"))


@pytest.mark.parametrize(
    ("front", "description"),
    [
        ("description: |\n  one\n  two", "one two"),
        ("description: >-\n  one\n  two", "one two"),
        ('description: "quoted: with colon"', "quoted: with colon"),
        ("description: 'it''s'", "it's"),
        ("description: first\n  second", "first second"),
    ],
)
def test_front_matter_forms(front, description):
    assert parse_claude_agent(f"---\nname: x\n{front}\nmodel: inherit\n---\nbody").description == description


@pytest.mark.parametrize("tools", ["tools: [Read, 'Edit']", "tools:\n  - Read\n  - Edit", "tools: Read, Edit"])
def test_lists_in_front_matter(tools):
    assert parse_claude_agent(f"---\nname: x\n{tools}\n---").tools == ("Read", "Edit")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("just text", 1, "no front matter"),
        ("", 1, "no front matter"),
        ("\n---\nname: x\n", 2, "never ends"),
        ("---\ndescription: x\n---\n", 2, "no name"),
        ("---\nname: x\ntier: 9\n---\n", 3, "tier"),
    ],
)
def test_broken_files_name_their_line(text, line, message):
    with pytest.raises(AgentFileError, match=message) as error:
        parse_claude_agent(text, "bad.md")
    assert error.value.field == f"bad.md:{line}"
    assert error.value.fix


def test_a_folder_skips_what_is_broken(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "good.md").write_text("---\nname: good\ndescription: fine\n---\n")
    (tmp_path / "bad.md").write_text("no front matter")
    (tmp_path / "latin.md").write_bytes(b"---\nname: caf\xe9\n---\n")
    (tmp_path / "twin.md").write_text("---\nname: good\ndescription: again\n---\n")
    agents, problems = read_agents(tmp_path)
    assert [agent.name for agent in agents] == ["good"]
    assert sorted(Path(problem.field.rpartition(":")[0]).name for problem in problems) == [
        "bad.md",
        "latin.md",
        "twin.md",
    ]
    assert any(problem.field.endswith("latin.md:2") for problem in problems)


def test_an_empty_and_a_missing_folder(tmp_path: Path):
    agents, problems = read_agents(tmp_path)
    assert agents == []
    assert "no *.md" in problems[0].message
    with pytest.raises(AgentFileError, match="does not exist"):
        read_agents(tmp_path / "nowhere")


def test_semantic_router_json(tmp_path: Path):
    routes = {"encoder_type": "x", "routes": [{"name": "chat", "utterances": ["hi", "hello"], "description": None}]}
    (tmp_path / "routes.json").write_text(json.dumps(routes))
    agents, problems = read_agents(tmp_path / "routes.json")
    assert (agents[0].name, agents[0].examples, problems) == ("chat", ("hi", "hello"), [])


def test_our_toml_and_json(tmp_path: Path):
    (tmp_path / "a.toml").write_text('[[agent]]\nname = "a"\nexamples = ["x y"]\n')
    (tmp_path / "b.json").write_text('{"agents": {"b": {"description": "does b", "tier": 3}}}')
    assert read_agents(tmp_path / "a.toml")[0][0].examples == ("x y",)
    assert read_agents(tmp_path / "b.json")[0][0].tier is Tier.LARGE


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"agents": \n oops}', r":2: not JSON"),
        ("a.toml", "[[agent]]\nname = \n", r":2: not TOML"),
        ("a.json", "[1, 2]", "holds no agents"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", '{"agents": ' + "[{}, " * 200 + "0", "nested too deeply"),
        ("a.toml", "x = " + "[" * 5_000, "nested too deeply|not TOML"),
        ("a.yaml", "[" * 5_000, "nested too deeply"),
        ("a.json", '{"x": "' + "[" * 200 + '\\"["}', "holds no agents"),  # brackets in a string nest nothing
        ("a.json", '{"agents": [{"name": 3}]}', "agent 1"),
        ("a.txt", "x", "unknown kind"),
    ],
)
def test_broken_data_files(tmp_path: Path, name, text, message):
    (tmp_path / name).write_text(text)
    agents, problems = read_agents(tmp_path / name)
    assert agents == []
    assert len(problems) == 1
    assert re.search(message, str(problems[0]))


@given(st.text(max_size=300))
def test_no_text_is_a_traceback(text):
    for candidate in (text, f"---\n{text}\n---\n", f"---\nname: x\n{text}\n---\n"):
        with contextlib.suppress(AgentFileError):
            assert parse_claude_agent(candidate).name
