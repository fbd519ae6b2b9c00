import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.agents.readers import parse_agents, read_agents
from ruvllm.errors import AgentFileError
from ruvllm.types import Agent, Tier

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


def read(text: str, file: str = "x.md") -> Agent:
    """The one agent of a file that has nothing wrong."""
    (agent,), problems = parse_agents(text, file)
    assert problems == []
    return agent


def test_claude_agent_with_odd_quoting():
    agent = read(ODD)
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
    assert read(f"---\nname: x\n{front}\nmodel: inherit\n---\nbody").description == description


@pytest.mark.parametrize("tools", ["tools: [Read, 'Edit']", "tools:\n  - Read\n  - Edit", "tools: Read, Edit"])
def test_lists_in_front_matter(tools):
    assert read(f"---\nname: x\n{tools}\n---").tools == ("Read", "Edit")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("just text", 1, "no front matter"),
        ("", 1, "no front matter"),
        ("\n---\nname: x\n", 2, "never ends"),
    ],
)
def test_broken_files_name_their_line(text, line, message):
    agents, (problem,) = parse_agents(text, "bad.md")
    assert agents == []
    assert re.search(message, problem.message)
    assert problem.field == f"bad.md:{line}"
    assert problem.fix
    assert problem.skipped


def test_a_field_that_cannot_be_used_names_its_line():
    (agent,), (problem,) = parse_agents("---\nname: x\ntier: 9\n---\n", "bad.md")
    assert (agent.name, agent.tier) == ("x", None)
    assert (problem.field, problem.skipped) == ("bad.md:3", False)
    assert "tier" in problem.message


def test_a_folder_skips_what_is_broken(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "good.md").write_text("---\nname: good\ndescription: fine\n---\n")
    (tmp_path / "bad.md").write_text("---\nname: endless\n")
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


def test_folders_that_hold_no_agents_are_not_entered(tmp_path: Path):
    for folder in (".git", "node_modules", ".venv", "deep/NODE_MODULES", "deep/er"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.md").write_text(f"---\nname: of {folder}\n---\n")
    assert [agent.name for agent in read_agents(tmp_path)[0]] == ["of deep/er"]
    assert [agent.name for agent in read_agents(tmp_path / ".git")[0]] == ["of .git"]


def test_linked_folders_are_entered_once(tmp_path: Path):
    for folder in ("agents", "elsewhere/deep"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "far.md").write_text("---\nname: far\n---\n")
    (tmp_path / "agents" / "near.md").write_text("---\nname: near\n---\n")
    (tmp_path / "agents" / "away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "agents" / "again").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "agents" / "same.md").symlink_to(tmp_path / "agents" / "near.md")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "agents")
    (tmp_path / "agents" / "lost.md").symlink_to(tmp_path / "nowhere.md")
    agents, problems = read_agents(tmp_path / "agents")
    assert (sorted(agent.name for agent in agents), problems) == (["far", "near"], [])


def test_what_has_no_front_matter_is_no_agent_and_no_fault(tmp_path: Path):
    (tmp_path / "skill" / "references").mkdir(parents=True)
    (tmp_path / "README.md").write_text("---\ntitle: Ours\n---\n# Ours\n")
    (tmp_path / "notes.md").write_text("---\nA line between rules.\n\n---\n")
    (tmp_path / "latin.md").write_bytes(b"caf\xe9")
    (tmp_path / "long.md").write_text("x" * 2_000_001)
    (tmp_path / "._cook.md").write_bytes(b"\0\5")
    (tmp_path / "skill" / "references" / "api.md").write_text("# API\n")
    (tmp_path / "skill" / "SKILL.md").write_text("---\ndescription: feeds fish\n---\n")
    (tmp_path / "cook.Markdown").write_text("---\nname: cook\n---\n")
    agents, problems = read_agents(tmp_path)
    assert [agent.name for agent in agents] == ["cook", "skill"]
    assert [(problem.field, problem.skipped) for problem in problems] == [
        (f"{tmp_path / 'skill' / 'SKILL.md'}:2", False)
    ]
    for file in ("notes.md", "latin.md", "long.md"):
        assert read_agents(tmp_path / file)[1][0].skipped  # one that was asked for by name


def test_a_folder_without_agents_says_what_is_there(tmp_path: Path):
    (tmp_path / "notes.md").write_text("x")
    agents, (problem,) = read_agents(tmp_path)
    assert agents == []
    assert "1 *.md files, but none with front matter" in problem.message


def test_the_first_of_a_name_stays(tmp_path: Path):
    for folder in ("b", "a"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.md").write_text(f"---\nname: x\ndescription: of {folder}\n---\n")
    (agent,), (problem,) = read_agents(tmp_path)
    assert agent.description == "of a"
    assert problem.field == f"{tmp_path / 'b' / 'x.md'}:1"
    assert problem.skipped


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
        ("a.yaml", "[" * 5_000, "nested too deeply|nesting depth"),
        ("a.json", '{"x": "' + "[" * 200 + '\\"["}', "holds no agents"),  # brackets in a string nest nothing
        ("a.json", '{"agents": [{"name": []}]}', "agent 1"),
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
        agents, problems = parse_agents(candidate, "x.md")
        assert len(agents) <= 1
        assert all(agent.name for agent in agents)
        assert agents or problems
