"""Every format of agents, skills, commands and tools, field by field, in small files of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ruvllm.agents.formats import FORMATS
from ruvllm.agents.readers import parse_agents, read_agents
from ruvllm.types import Agent, Tier

DEPLOY = {"name": "deploy", "description": "Ships a build.", "inputSchema": {"type": "object", "properties": {
    "service": {"type": "string", "description": "which service"}, "stage": {"enum": ["test", "live"]}}}}  # fmt: skip
FUNCTION = {"type": "function", "function": {"name": "deploy", "description": "Ships a build.",
            "parameters": DEPLOY["inputSchema"]}}  # fmt: skip
TOOL = {"name": "deploy", "description": "Ships a build.", "kind": "tool", "keywords": ("service", "stage"),
        "body": "service: which service\nstage: test, live"}  # fmt: skip

OPENAPI = """
openapi: 3.1.0
info: {title: Shop, version: "1"}
paths:
  /orders/{id}:
    parameters:
      - {name: id, in: path, description: number of the order}
    get:
      operationId: getOrder
      summary: One order.
      description: With its lines and what became of them.
      tags: [orders]
    delete:
      summary: Cancel an order
  /orders:
    post:
      operationId: makeOrder
      summary: Order something
      requestBody: {$ref: '#/components/requestBodies/New'}
components:
  requestBodies:
    New:
      content:
        application/json:
          schema: {$ref: '#/components/schemas/Order'}
  schemas:
    Order:
      type: object
      properties:
        article: {type: string, description: what is ordered}
        address: {type: object, properties: {city: {description: where to}}}
"""

COMPONENT = {"provider": "autogen_agentchat.agents.AssistantAgent", "component_type": "agent", "version": 1, "config": {
    "name": "coder", "description": "Writes Python.", "system_message": "You write code.",
    "model_client": {"provider": "x", "config": {"model": "gpt-5-mini"}},
    "tools": [{"provider": "y", "config": {"name": "run_code"}}]}}  # fmt: skip
TEAM = {"provider": "autogen_agentchat.teams.RoundRobinGroupChat", "component_type": "team",
        "config": {"participants": [COMPONENT]}}  # fmt: skip
CODER = {"name": "coder", "description": "Writes Python.", "body": "You write code.", "model": "gpt-5-mini",
         "tools": ("run_code",)}  # fmt: skip

CASES: list[tuple[str, str, list[dict[str, Any]]]] = [
    # Claude Code, and the same files elsewhere
    (".claude/agents/tester.md", "---\nname: tester\ndescription: Writes tests.\nmodel: haiku\ntools: Read, Bash\n---\n"
     "You test.", [{"name": "tester", "description": "Writes tests.", "model": "haiku", "tier": Tier.SMALL,
                    "tools": ("Read", "Bash"), "body": "You test."}]),
    (".claude/skills/pdf-forms/SKILL.md", "---\nname: pdf-forms\ndescription: Fills PDF forms.\n"
     "allowed-tools: [Read]\n---\n# PDF\n\nRun fill.py.", [{"name": "pdf-forms", "description": "Fills PDF forms.",
     "kind": "skill", "tools": ("Read",), "body": "# PDF\n\nRun fill.py."}]),
    (".claude/commands/git/tidy.md", "---\ndescription: Tidy the branches\nargument-hint: [name]\n---\nDelete $1.",
     [{"name": "tidy", "description": "Tidy the branches", "kind": "command", "body": "Delete $1."}]),
    (".claude/commands/explain.md", "# Explain the file\n\nGo through $ARGUMENTS.",
     [{"name": "explain", "description": "Explain the file", "kind": "command",
       "body": "# Explain the file\n\nGo through $ARGUMENTS."}]),
    # semantic-router
    ("routes.json", json.dumps({"encoder_type": "openai", "encoder_name": "x", "routes": [
        {"name": "politics", "utterances": ["who won the vote?"], "description": "Politics", "score_threshold": 0.4}]}),
     [{"name": "politics", "description": "Politics", "examples": ("who won the vote?",)}]),
    ("routes.yaml", "encoder_type: huggingface\nroutes:\n- name: chat\n  utterances:\n  - how are you\n  llm: null\n",
     [{"name": "chat", "examples": ("how are you",)}]),
    # Codex
    (".codex/agents/reviewer.toml", 'name = "reviewer"\ndescription = "Reviews patches."\nmodel = "gpt-5-codex"\n'
     'developer_instructions = """\nLook for bugs.\n"""\nsandbox_mode = "read-only"\n',
     [{"name": "reviewer", "description": "Reviews patches.", "model": "gpt-5-codex", "body": "Look for bugs."}]),
    ("AGENTS.md", "# Project\n\n## Agent: Release manager\n\nCuts **releases**.\n\nTag, then push.\n\n"
     "## Testing\n\nRun make test.\n\n## Empty\n",
     [{"name": "Release manager", "description": "Cuts **releases**.", "body": "Cuts **releases**.\n\nTag, then push."},
      {"name": "Testing", "description": "Run make test.", "kind": "skill", "body": "Run make test."}]),
    # Copilot
    (".github/agents/planner.agent.md", "---\ndescription: Plans work\ntools: ['search', 'fetch']\nmodel: GPT-5\n---\n"
     "Plan.", [{"name": "planner", "description": "Plans work", "tools": ("search", "fetch"), "model": "gpt-5",
                "body": "Plan."}]),
    (".github/chatmodes/Architect.chatmode.md", "---\ndescription: 'Designs systems'\ntools: []\n---\nDesign.",
     [{"name": "Architect", "description": "Designs systems", "body": "Design."}]),
    (".github/prompts/readme.prompt.md", "---\nmode: agent\ndescription: Write a readme\n---\nWrite it.",
     [{"name": "readme", "description": "Write a readme", "kind": "command", "body": "Write it."}]),
    # opencode
    (".opencode/agents/docs.md", "---\ndescription: Writes docs\nmode: subagent\nmodel: anthropic/claude-haiku\n"
     "tools:\n  write: true\n  bash: false\n---\nDocs.", [{"name": "docs", "description": "Writes docs",
     "model": "anthropic/claude-haiku", "tier": Tier.SMALL, "tools": ("write",), "body": "Docs."}]),
    (".opencode/commands/build.md", "---\ndescription: Mends the build\nagent: helpers:build-fixer\n---\nMend.",
     [{"name": "build", "description": "Mends the build", "kind": "command", "body": "Mend."}]),
    ("opencode.jsonc", '{// ours\n"$schema": "https://opencode.ai/config.json", "agent": {"review": {"description": '
     '"Reviews", "model": "x/large", "prompt": "Be kind.", "tools": {"write": false, "read": true},}, '
     '"old": {"disable": true}}, "command": {"ship": {"template": "Ship $1 // now.", "description": "Ships"}} /* x */}',
     [{"name": "review", "description": "Reviews", "model": "x/large", "tools": ("read",), "body": "Be kind."},
      {"name": "ship", "description": "Ships", "kind": "command", "body": "Ship $1 // now."}]),
    # Cursor
    (".cursor/rules/react.mdc", "---\ndescription: How we write React\nglobs: *.tsx,*.ts\nalwaysApply: false\n---\n"
     "Hooks only.", [{"name": "react", "description": "How we write React", "kind": "skill", "body": "Hooks only."}]),
    # CrewAI
    ("agents.yaml", "researcher:\n  role: >\n    {topic} Researcher\n  goal: >\n    Find what is new in {topic}\n"
     "  backstory: >\n    You dig.\n  llm: openai/gpt-5\n  tools: [search]\n",
     [{"name": "researcher", "description": "{topic} Researcher: Find what is new in {topic}", "body": "You dig.",
       "model": "openai/gpt-5", "tools": ("search",)}]),
    # AutoGen
    ("agent.json", json.dumps(COMPONENT), [CODER]),
    ("team.json", json.dumps(TEAM), [CODER]),
    ("gallery.json", json.dumps({"id": "g", "name": "Gallery", "components": {"agents": [COMPONENT], "teams": []}}),
     [CODER]),
    ("ag2.json", json.dumps([{"name": "critic", "system_message": "You find faults.\n\nShort.",
                              "llm_config": {"config_list": [{"model": "gpt-5"}]}}]),
     [{"name": "critic", "description": "You find faults.", "body": "You find faults.\n\nShort.", "model": "gpt-5"}]),
    # OpenAI
    ("assistants.json", json.dumps({"object": "list", "data": [{"id": "asst_1", "object": "assistant", "name": "Tutor",
     "description": "Teaches maths", "instructions": "Ask first.", "model": "gpt-5", "tools": [
         {"type": "code_interpreter"}, {"type": "function", "function": {"name": "plot"}}]}]}),
     [{"name": "Tutor", "description": "Teaches maths", "body": "Ask first.", "model": "gpt-5",
       "tools": ("code_interpreter", "plot")}]),
    ("gpt.json", json.dumps({"gizmo": {"id": "g-1", "instructions": "Cook.", "display": {"name": "Chef",
     "description": "Finds recipes", "prompt_starters": ["What can I cook with leeks?"]}}}),
     [{"name": "Chef", "description": "Finds recipes", "body": "Cook.", "examples": ("What can I cook with leeks?",)}]),
    # tools of MCP servers, of requests, of HTTP APIs
    ("tools.json", json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": [DEPLOY]}}), [TOOL]),
    ("tools.json", json.dumps({"tools": [DEPLOY]}), [TOOL]),
    ("tools.json", json.dumps([FUNCTION]), [TOOL]),
    ("tools.json", json.dumps([{"name": "deploy", "description": "Ships a build.",
                                "input_schema": DEPLOY["inputSchema"]}]), [TOOL]),
    ("openapi.yaml", OPENAPI, [
        {"name": "getOrder", "description": "One order. With its lines and what became of them", "kind": "tool",
         "category": "orders", "keywords": ("orders", "id"), "body": "GET /orders/{id}\nid: number of the order"},
        {"name": "delete_orders_id", "description": "Cancel an order", "kind": "tool", "keywords": ("id",),
         "body": "DELETE /orders/{id}\nid: number of the order"},
        {"name": "makeOrder", "description": "Order something", "kind": "tool",
         "keywords": ("article", "address", "city"), "body": "POST /orders\narticle: what is ordered\ncity: where to"},
    ]),
    # A2A
    ("agent-card.json", json.dumps({"protocolVersion": "0.3.0", "name": "Travel", "description": "Books trips.",
     "url": "https://a.example", "capabilities": {}, "skills": [{"id": "f", "name": "Flights", "description":
     "Finds flights", "tags": ["air"], "examples": ["fly to Rome on Friday"]}, {"id": "h", "name": "Hotels"}]}),
     [{"name": "Travel", "description": "Books trips.", "keywords": ("air",), "examples": ("fly to Rome on Friday",),
       "body": "Flights: Finds flights\nHotels"}]),
    # ours
    ("agents.toml", '[[agent]]\nname = "baker"\ndescription = "Bakes."\nkind = "skill"\nscope = "user"\n',
     [{"name": "baker", "description": "Bakes.", "kind": "skill"}]),
]  # fmt: skip


@pytest.mark.parametrize(("file", "text", "wanted"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_every_field_is_as_the_file_says(file: str, text: str, wanted: list[dict[str, Any]]) -> None:
    pytest.importorskip("yaml")
    agents, problems = parse_agents(text, file)
    assert problems == []
    assert agents == [Agent(**row, source=file) for row in wanted]


def test_a_folder_has_all_of_them(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    listed = [case for case in CASES if case[0].startswith((".", "opencode", "agents.yaml", "agent-card"))]
    for file, text, _ in listed:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    agents, problems = read_agents(tmp_path)
    assert problems == []
    assert {agent.name for agent in agents} == {row["name"] for _, _, rows in listed for row in rows}


def test_a_document_of_no_known_format_says_what_was_looked_for() -> None:
    agents, (problem,) = parse_agents(json.dumps({"colour": "red", "sizes": []}), "x.json")
    assert agents == []
    assert "colour, sizes" in problem.message
    assert all(one.name in problem.message for one in FORMATS)


def test_a_configuration_of_servers_says_how_to_ask_them() -> None:
    _, (problem,) = parse_agents(json.dumps({"mcpServers": {"git": {"command": "uvx"}}}), "/x/.mcp.json")
    assert "names MCP servers" in problem.message
    assert "--start --from .mcp.json" in problem.fix


HOSTILE: list[Any] = [
    {"tools": [1, None, {"name": 3}, {"name": "a", "inputSchema": {"properties": [1]}}, DEPLOY]},
    {"openapi": 3, "paths": {"/": 1, "/a": {"get": 2, "post": {"tags": 3, "parameters": [{"$ref": "#/a/b"}, 4]}}}},
    {"openapi": 3, "paths": {"/a": {"get": {"requestBody": {"$ref": "#/paths"}}}}, "components": {"x": {"$ref": "#"}}},
    {"skills": [1, {"tags": "x", "examples": {"a": 1}}], "url": 1, "name": "card"},
    {"component_type": "team", "participants": [{"component_type": "agent", "config": {"name": ["x"], "tools": [1]}}]},
    {"object": "list", "data": [1, {"object": "assistant", "name": "a", "tools": [None, {"function": 1}]}]},
    {"$schema": "https://opencode.ai", "agent": {"a": 1, "b": {"tools": [1]}}, "command": ["x"]},
    {"gizmo": {"display": 3, "name": "x"}},
    {"a": {"role": 1, "goal": [2], "tools": {"x": 1}}},
]


@pytest.mark.parametrize("data", HOSTILE)
def test_odd_values_cost_no_more_than_themselves(data: Any) -> None:
    agents, problems = parse_agents(json.dumps(data), "x.json")
    assert agents or problems
    assert all(problem.fix for problem in problems)


def test_a_schema_that_refers_to_itself_ends() -> None:
    paths = {f"/{i}": {"post": {"operationId": f"o{i}", "requestBody": {"$ref": "#/b"}}} for i in range(50)}
    loop = {"properties": {"next": {"$ref": "#/s"}, **{f"p{i}": {"$ref": "#/s"} for i in range(100)}}}
    body = {"content": {"application/json": {"schema": {"$ref": "#/s"}}}}
    agents, _ = parse_agents(json.dumps({"openapi": "3", "paths": paths, "b": body, "s": loop}), "x.json")
    assert len(agents) == 50


@pytest.mark.parametrize("line", ["# a" + " " * 300_000 + "b", "# " + "# " * 150_000, "# a\n" * 100_000])
def test_sections_are_read_in_linear_time(line: str) -> None:
    parse_agents(f"# Build\n\nRun make.\n{line}", "AGENTS.md")


def test_a_description_of_very_many_operations_ends() -> None:
    body = {"content": {"x": {"schema": {"properties": {f"p{i}": {"description": "d"} for i in range(30)}}}}}
    paths = {f"/{i}": {"post": {"requestBody": {"$ref": "#/b"}}} for i in range(10_100)}
    agents, _ = parse_agents(json.dumps({"openapi": "3", "paths": paths, "b": body}), "x.json")
    assert len(agents) == 10_001  # whoever puts them together keeps 10,000, and says so
