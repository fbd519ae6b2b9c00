# ruff: noqa: E501 (tables of texts)
"""Agent files as people write them, read by PyYAML's C parser, its Python one (as in the page), and without PyYAML."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.agents.front_matter import YamlError, _by_lines, load_yaml
from ruvllm.agents.readers import parse_agents
from ruvllm.types import Agent, Tier

FRONT = {
    "comment after the name": ("name: cook # who cooks\n", {"name": "cook"}),
    "comment after the model": ("name: cook\nmodel: sonnet  # or haiku\n", {"model": "sonnet", "tier": Tier.LARGE}),
    "comment after the description": ("name: cook\ndescription: makes soup # and stew: too\n", {"description": "makes soup"}),
    "comment lines": ("# a comment\nname: cook\n# model: opus\ntools: Read\n", {"name": "cook", "model": None}),
    "model list": ("name: cook\nmodel: [opus, 'GPT-5']\n", {"name": "cook", "model": None}),
    "tools mapping": ("name: cook\ntools:\n  read: true\n  write: false\n  bash: true\n", {"tools": ("read", "bash")}),
    "tools mapping on a line": ("name: cook\ntools: {read: true, write: false}\n", {"tools": ("read",)}),
    "tools list on lines": ("name: cook\ntools: [\n  Read, # reads\n  'Edit',\n  Bash\n]\n", {"tools": ("Read", "Edit", "Bash")}),
    "commented list": ("name: cook\ntools:\n  - Read # reads\n  # - Write\n  - Edit\n", {"tools": ("Read", "Edit")}),
    "list that is not indented": ("name: cook\ntools:\n- Read\n- Edit\nmodel: opus\n", {"tools": ("Read", "Edit"), "model": "opus"}),
    "list item on two lines": ("name: cook\nkeywords:\n  - soup of\n    the day\n  - stew\n", {"keywords": ("soup of the day", "stew")}),
    "tools with a comma in brackets": ("name: cook\ntools: Bash(a, b), Read\n", {"tools": ("Bash(a, b)", "Read")}),
    "tools list with a comma in brackets": ("name: cook\ntools: [Bash(a, b), Read]\n", {"tools": ("Bash(a, b)", "Read")}),
    "indented line in a block": (
        "name: cook\ndescription: |\n  before\n  ---\n  after\nmodel: opus\n",
        {"description": "before --- after", "model": "opus"},
    ),
    "block with an indentation": ("name: cook\ndescription: |2-\n    soup\n  stew\n", {"description": "soup stew"}),
    "folded block": ("name: cook\ndescription: >-\n  makes soup\n  and stew\n\n  for all\n", {"description": "makes soup and stew for all"}),
    "comment after a block mark": ("name: cook\ndescription: | # c\n  soup\nmodel: opus\n", {"description": "soup", "model": "opus"}),
    "comment under a block": ("name: cook\ndescription: |\n  soup\n# stew\nmodel: opus\n", {"description": "soup", "model": "opus"}),
    "unicode escape": ('name: cook\ndescription: "caf\\u00e9 \\x41\\U0001f41f"\n', {"description": "café A🐟"}),
    "tab escape": ('name: cook\ndescription: "a\\tb"\n', {"description": "a b"}),
    "escaped quotes": ('name: cook\ndescription: "a \\"b\\" c" # d\n', {"description": 'a "b" c'}),
    "quoted on two lines": ('name: cook\ndescription: "a\n  b \\\n  c"\n', {"description": "a b c"}),
    "doubled apostrophe": ("name: cook\ndescription: 'it''s soup # hot'\n", {"description": "it's soup # hot"}),
    "quoted key": ('"name": cook\n\'model\': opus\n', {"name": "cook", "model": "opus"}),
    "space before the colon": ("name : cook\nmodel : opus\n", {"name": "cook", "model": "opus"}),
    "tab after the colon": ("name:\tcook\n", {"name": "cook"}),
    "keys in capitals": ("Name: cook\nDescription: soup\n", {"name": "cook", "description": "soup"}),
    "name that is a bracket": ("name: [\nmodel: opus\n", {"name": "pond", "model": "opus"}),
    "no name": ("description: makes soup\n", {"name": "pond", "description": "makes soup"}),
    "empty name": ("name:\ndescription: makes soup\n", {"name": "pond"}),
    "name that is a list": ("name: [a, b]\n", {"name": "pond"}),
    "name that is a number": ("name: 404\n", {"name": "404"}),
    "name that is a date": ("name: 2001-02-03\n", {"name": "2001-02-03"}),
    "name that is true": ("name: yes\n", {"name": "yes"}),
    "description that is no date": ("name: cook\ndescription: 2001-02-31\n", {"description": "2001-02-31"}),
    "description that is null": ("name: cook\ndescription: ~\n", {"description": ""}),
    "description with a colon": ("name: cook\ndescription: Use it so: cook issue #12\nmodel: opus\n", {"description": "Use it so: cook issue #12", "model": "opus"}),
    "description with a quote": ('name: cook\ndescription: "Soup" and stew\n', {"description": '"Soup" and stew'}),
    "description with quotes inside": ('name: cook\ndescription: "a "big" pot"\n', {"description": 'a "big" pot'}),
    "description with a star": ("name: cook\ndescription: *big* pots\n", {"description": "*big* pots"}),
    "description with a bracket": ("name: cook\ndescription: [old] makes soup\n", {"description": "[old] makes soup"}),
    "description that goes on below": ("name: cook\ndescription: makes\n  soup\n\n  and stew\n", {"description": "makes soup and stew"}),
    "description that begins below": ("name: cook\ndescription:\n  makes soup\n", {"description": "makes soup"}),
    "description that goes on at the margin": ("name: cook\ndescription: makes\nsoup\nNote: hot\nmodel: opus\n", {"description": "makes soup Note: hot", "model": "opus"}),
    "alias": ("name: cook\ndescription: &a soup\nkeywords: *a\n", {"name": "cook"}),
    "tag": ("name: cook\ndescription: !!python/object:os.system soup\n", {"name": "cook"}),
    "tier in quotes": ("name: cook\ntier: '2'\n", {"tier": Tier.SMALL}),
    "tier with a comment": ("name: cook\ntier: 3 # large\n", {"tier": Tier.LARGE}),
    "tier in words": ("name: cook\ntier: premium\n", {"name": "cook", "tier": None}),
    "tier that is raised": ("name: cook\ntier: ²\n", {"name": "cook", "tier": None}),
    "tier of 6000 digits": (f"name: cook\ntier: {'9' * 6000}\n", {"name": "cook", "tier": None}),
    "category that is a list": ("name: cook\ncategory: [a]\n", {"name": "cook", "category": "custom"}),
    "inherited model": ("name: cook\nmodel: inherit\n", {"model": None, "tier": None}),
    "skill's tools": ("name: cook\nallowed-tools: Read, Edit\n", {"tools": ("Read", "Edit")}),
    "hooks that nobody reads": ("name: cook\nhooks:\n  Stop:\n    - command: x\n      type: y\nmodel: opus\n", {"model": "opus"}),
    "indented as a whole": ("  name: cook\n  model: opus\n", {"name": "cook", "model": "opus"}),
}  # fmt: skip


@pytest.fixture(params=["C parser", "Python parser", "no PyYAML"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The front matter's reader."""
    if request.param == "no PyYAML":
        monkeypatch.setitem(sys.modules, "yaml", None)
    elif request.param == "Python parser":
        import yaml

        monkeypatch.delattr(yaml, "CBaseLoader", raising=False)
    return request.param


def one(text: str, file: str = "ponds/pond.md") -> Agent:
    (agent,), problems = parse_agents(text, file)
    assert not any(problem.skipped for problem in problems)
    return agent


@pytest.mark.parametrize("form", FRONT)
def test_front_matter(form: str, parser: str):
    front, wanted = FRONT[form]
    agent = one(f"---\n{front}---\nYou cook.\n")
    assert {field: getattr(agent, field) for field in wanted} == wanted
    assert one(f"\ufeff---\r\n{front}---\r\nYou cook.\r\n".replace("\n", "\r\n").replace("\r\r", "\r")) == agent


NOTED = [
    "model list",
    "name that is a bracket",
    "no name",
    "tier in words",
    "tier that is raised",
    "tier of 6000 digits",
]
NOTED += ["category that is a list"]


@pytest.mark.parametrize("form", NOTED)
def test_what_is_left_out_is_noted(form: str, parser: str):
    _, problems = parse_agents(f"---\n{FRONT[form][0]}---\n", "ponds/pond.md")
    assert [problem.skipped for problem in problems] == [False]
    assert problems[0].fix
    assert len(problems[0].message) < 200


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a/pond.md", "pond"),
        ("a/pond.MD", "pond"),
        ("a/pond.markdown", "pond"),
        ("a/pond.agent.md", "pond"),
        ("koi-care/SKILL.md", "koi-care"),
        ("C:\\a\\koi-care\\skill.md", "koi-care"),
        ("SKILL.md", "SKILL"),
        (".md", ".md"),
    ],
)
def test_without_a_name_it_is_called_after_its_file(file: str, name: str):
    assert one("---\ndescription: keeps ponds\n---\n", file).name == name


SICK = "my koi has spots"
EXAMPLES = {
    "on one line": "description: Keeps ponds. Examples: <example>Context: pond. user: 'my koi has spots' assistant: 'ok'</example>\n",
    "not indented": "description: Keeps ponds. Examples:\n<example>\nContext: pond\nuser: 'my koi has spots'\nassistant: 'ok'\n</example>\nmodel: opus\n",
    "not indented, under a key of its own": "description: Keeps ponds.\nExamples: <example>Context: pond. user: 'my koi has spots' assistant: 'ok'</example>\nmodel: opus\n",
    "two, not indented": "description: Keeps ponds.\n\n<example>\nuser: my koi has spots\nassistant: ok\n</example>\n\n<example>\nuser: [User message]\nassistant: ok\n</example>\nmodel: opus\n",
    "never closed": "description: Keeps ponds.\n<example>\nuser: my koi has spots\nassistant: ok\nmodel: opus\n",
    "bold": "description: |\n  Keeps ponds.\n\n  <example>\n  **Context:** pond\n  **User:** \"my koi has spots\"\n  **Assistant:** \"ok\"\n  </example>\nmodel: opus\n",
    "bold, colon after": "description: |\n  Keeps ponds.\n  <example>\n  - **User**: my koi has spots\n  - **Assistant**: ok\n  </example>\nmodel: opus\n",
    "speaker's name": "description: |\n  Keeps ponds.\n  <example>\n  Context: pond\n  Dana: \"my koi has spots\"\n  assistant: \"ok\"\n  </example>\nmodel: opus\n",
    "speaker's name on one line": "description: \"Keeps ponds. <example>Context: Pond. Dana: 'my koi has spots' assistant: 'ok'</example>\"\nmodel: opus\n",
    "speaker's name, not indented": "description: Keeps ponds.\n<example>\nDana Roe: my koi has spots\npond: I look\nassistant: ok\n</example>\nmodel: opus\n",
    "escaped once": 'description: "Keeps ponds.\\n\\n<example>\\nContext: pond\\nuser: \\"my koi has spots\\"\\nassistant: \\"ok\\"\\n</example>"\nmodel: opus\n',
    "escaped twice": 'description: "Keeps ponds.\\\\n\\\\n<example>\\\\nContext: pond\\\\nuser: \\\\\\"my koi has spots\\\\\\"\\\\nassistant: ok\\\\n</example>"\nmodel: opus\n',
    "escaped without quotes": 'description: Keeps ponds. Examples:\\n\\n<example>\\nContext: pond\\nuser: "my koi has spots"\\nassistant: "ok"\\n</example>\nmodel: opus\n',
    "folded": "description: >-\n  Keeps ponds. Examples: <example>Context: A pond\n  of fish. user: 'my koi\n  has spots' assistant: 'ok'\n  <commentary>user: 'no task'</commentary></example>\nmodel: opus\n",
    "list item": "description: |\n  Keeps ponds.\n  - <example>\n    Context: pond\n    user: \"my koi has spots\"\n    assistant: \"ok\"\n  </example>\nmodel: opus\n",
    "curly quotes": "description: |\n  Keeps ponds.\n  <example>user: “my koi has spots” assistant: “ok”</example>\nmodel: opus\n",
    "without an example block": "description: |\n  Keeps ponds.\n  user: my koi has spots\n  assistant: ok\nmodel: opus\n",
    "without a block or indentation": "description: Keeps ponds.\nuser: my koi has spots\nassistant: ok\nmodel: opus\n",
    "listed": "description: Keeps ponds.\nexamples:\n  - my koi has spots\nmodel: opus\n",
    "listed in a text": "description: Keeps ponds.\nexamples: |\n  my koi has spots\nmodel: opus\n",
    "asks": "description: |\n  Keeps ponds.\n  <example>\n  User asks: \"my koi has spots\"\n  Response: \"ok\"\n  </example>\nmodel: opus\n",
    "tags after the question": "description: |\n  Keeps ponds.\n  <example>\n  user: \"my koi has spots\"\n  <agent_invocation>Task(\"pond\")</agent_invocation>\n  </example>\nmodel: opus\n",
}  # fmt: skip


@pytest.mark.parametrize("form", EXAMPLES)
def test_examples(form: str, parser: str):
    agent = one(f"---\nname: pond\n{EXAMPLES[form]}---\nYou keep ponds.\n")
    assert agent.examples == (SICK,)
    assert agent.description.startswith("Keeps ponds.")
    assert "<example>" not in agent.description
    assert agent.model == ("opus" if "model:" in EXAMPLES[form] else None)


def test_examples_of_the_body_and_an_apostrophe():
    body = "<example>\nuser: 'I've lost the pump's key (again)'\nassistant: 'ok'\n</example>\n"
    assert one(f"---\nname: pond\n---\n{body}").examples == ("I've lost the pump's key (again)",)


@pytest.mark.parametrize(
    "said", ["[User message]", "<what they ask>", "{{query}}", "...", "[request 1]", "(after it wrote the code)", "“…”"]
)
def test_a_placeholder_is_no_example(said: str):
    block = f"<example>\nuser: {said}\nassistant: [how it answers]\n</example>"
    assert one(f"---\nname: pond\ndescription: x\n---\n{block}\n").examples == ()


def test_a_broken_entry_costs_itself():
    routes = {
        "routes": [{"name": "a", "utterances": ["x", 5]}, {"name": "b", "utterances": ["y"]}, {"utterances": ["z"]}]
    }
    agents, problems = parse_agents(json.dumps(routes), "routes.json")
    assert [(agent.name, agent.examples) for agent in agents] == [("a", ("x",)), ("b", ("y",))]
    assert [(problem.field, problem.skipped) for problem in problems] == [
        ("routes.json: agent 1: examples", False),
        ("routes.json: agent 3: name", True),
    ]


def test_an_entry_that_is_text_is_named():
    agents, (problem,) = parse_agents('{"agents": {"a": {"description": "does a"}, "b": "text"}}', "x.json")
    assert [agent.name for agent in agents] == ["a"]
    assert (problem.field, problem.skipped) == ("x.json: agent 'b': name", True)


@pytest.mark.parametrize("file", ["a.yaml", "a.yml"])
def test_yaml_keeps_numbers_and_dates_as_text(file: str):
    text = "routes:\n- name: 404\n  utterances: [2024, not found, 2001-02-31]\n- description: nameless\n- name: b\n  utterances: [y]\n"
    agents, (problem,) = parse_agents(text, file)
    assert [(agent.name, agent.examples) for agent in agents] == [
        ("404", ("2024", "not found", "2001-02-31")),
        ("b", ("y",)),
    ]
    assert problem.field == f"{file}: agent 2: name"


def test_over_2000_utterances_keep_the_first():
    rows = [{"name": "a", "utterances": [f"say {i}" for i in range(2_100)]}, {"name": "b", "utterances": ["y"]}]
    agents, (problem,) = parse_agents(json.dumps({"routes": rows}), "r.json")
    assert [len(agent.examples) for agent in agents] == [2_000, 1]
    assert not problem.skipped


@pytest.mark.parametrize("key", ["agent", "agents", "routes"])
def test_toml_tables_of_any_name(key: str):
    agents, problems = parse_agents(f'[[{key}]]\nname = "a"\nexamples = ["x y"]\n', "a.toml")
    assert [(agent.name, agent.examples) for agent in agents] == [("a", ("x y",))]
    assert problems == []


def test_a_broken_toml_table_costs_itself():
    text = (
        '[[agents]]\nname = "a"\ntier = '
        + "9" * 6_000
        + '\n[[agents]]\nname = \n[[agents]]\nname = "c"\nd = 2001-02-31\n[[agents]]\nname = "d"\n'
    )
    agents, problems = parse_agents(text, "a.toml")
    assert [agent.name for agent in agents] == ["a", "d"]
    assert [(problem.field, problem.skipped) for problem in problems] == [
        ("a.toml:5", True),
        ("a.toml:8", True),
        ("a.toml: agent 1: tier", False),
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a", "description": "does a"}',
        '[{"name": "a", "description": "does a"}]',
        '{"name": "ours", "agents": [{"name": "a", "description": "does a"}]}',
    ],
)
def test_json_of_any_shape(text: str):
    agents, problems = parse_agents(text, "a.json")
    assert [(agent.name, agent.description) for agent in agents] == [("a", "does a")]
    assert problems == []


@pytest.mark.parametrize(
    "value", ["9" * 6_000, "-1e999", "NaN", "[[]]", '{"a": 1}', "true", "null", '"²"', '"\\ud800"']
)
@pytest.mark.parametrize("field", ["description", "category", "keywords", "examples", "tier", "model", "tools"])
def test_an_odd_value_costs_its_field(field: str, value: str):
    agents, problems = parse_agents(f'{{"agents": [{{"name": "a", "{field}": {value}}}, {{"name": "b"}}]}}', "a.json")
    assert [agent.name for agent in agents] == ["a", "b"]
    assert not any(problem.skipped for problem in problems)
    json.dumps([(agent.description, agent.examples) for agent in agents], ensure_ascii=False).encode()


HOSTILE = {
    "empty lines": "---\nname: x\ndescription: |\n" + "\n" * 200_000 + "  y\n---\n",
    "spaces": "---\nname: x\ndescription: |\n" + " " * 200_000 + "\n---\n",
    "aliases": "---\nname: x\na: &a [x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(10_000)) + "---\n",
    "dashes": "---\nname: x\ntools: " + "- " * 50_000 + "\n---\n",
    "questions": "---\nname: x\n" + "? " * 50_000 + "\n---\n",
    "brackets": "---\nname: x\ntools: " + "[" * 50_000 + "\n---\n",
    "quotes": "---\nname: x\ntools: [" + "'a, \"b, " * 20_000 + "\n---\n",
    "backslashes": '---\nname: x\ndescription: "' + "\\" * 100_001 + '"\n---\n',
    "users": "---\nname: x\n---\n<example>" + "user: '" * 50_000,
    "example marks": "---\nname: x\n---\n" + "<example>" * 50_000,
    "commentaries": "---\nname: x\n---\n" + "<commentary>" * 50_000,
    "examples": "---\nname: x\ndescription: " + "example " * 20_000 + ":" * 20_000 + "x\n---\n",
    "keys": "---\nname: x\n" + "".join(f"key{i}: x\n" for i in range(10_000)) + "---\n",
    "colons": "---\nname: x\ndescription: " + ": " * 50_000 + "\n---\n",
    "tool brackets": "---\nname: x\ntools: " + "(" * 50_000 + "\n---\n",
    "spaces in a list": "---\nname: x\ntools: [a" + " " * 200_000 + "b]\n---\n",
    "lines of an item": "---\nname: x\ntools:\n  - a: b: c\n" + "    more\n" * 50_000 + "---\n",
    "marks in a turn": "---\nname: x\n---\n<example>user: '" + "' " * 100_000,
    "comments": "---\nname: x\ndescription: a " + "# " * 50_000 + "\n---\n",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_reading_is_linear(kind: str, parser: str):
    """Each of these took minutes, or did not end, where time grew with the square of the length."""
    agents, problems = parse_agents(HOSTILE[kind], "x.md")
    assert [agent.name[0] for agent in agents] == ["x"]
    assert not any(problem.skipped for problem in problems)


@pytest.mark.parametrize(
    "text",
    [
        "a." * 15_000 + "a=1",
        "[" + "a." * 15_000 + "a]",
        'x = """' + '\\"""' * 50_000,
        '"a".' * 15_000 + "a=1",
        "{a." * 1_000,
        "x = " + "{a=" * 200,
    ],
)
def test_toml_that_nests_is_refused(text: str):
    agents, problems = parse_agents(text, "a.toml")
    assert agents == []
    assert len(problems) == 1


@pytest.mark.parametrize(
    "text", ["a: &a [x]\nb: *a", "a: 1\n---\nb: 1", "? [a]\n: b", "- " * 200 + "a", "[" * 200 + "]" * 200]
)
def test_yaml_that_is_refused(text: str):
    with pytest.raises(YamlError):
        load_yaml(text)


WORDS = st.text("abcxyz -:#'\"[]{}|>,\\n\n\t*&!%@`~?éß", max_size=40)
LINES = st.lists(
    st.tuples(
        st.sampled_from(["name: ", "description: ", "tools: ", "  ", "- ", "", "model: ", "  - ", "user: "]), WORDS
    )
)


@given(LINES, st.sampled_from(["x.md", "x.yaml", "x.json", "x.toml"]))
def test_nothing_that_is_written_is_a_traceback(lines: list[tuple[str, str]], file: str):
    text = "\n".join(map("".join, lines))
    for candidate in (text, f"---\n{text}\n---\n{text}", f"---\nname: x\n{text}\n---\n<example>\n{text}"):
        agents, problems = parse_agents(candidate, file)
        assert (agents, [str(one) for one in problems]) == (
            (again := parse_agents(candidate, file))[0],
            [str(one) for one in again[1]],
        )
        for agent in agents:
            assert 0 < len(agent.name) <= 200
            assert len(agent.description) <= 20_000
            assert all(0 < len(example) <= 20_000 for example in agent.examples)


LETTERS = st.text("abc xyz.()/-_!?'éß0123", max_size=30)
PLAIN = st.tuples(st.sampled_from("abcé"), LETTERS).map(lambda pair: "".join(pair).strip())
VALUES = st.one_of(
    PLAIN,
    PLAIN.map(lambda text: f'"{text}" # {text}'),
    PLAIN.map(lambda text: "'" + text.replace("'", "''") + "'"),
    PLAIN.map(lambda text: f"{text} # {text}"),
    st.lists(PLAIN, min_size=1).map(lambda texts: "\n  " + "\n  ".join(texts)),
    st.tuples(st.sampled_from(["|", ">", "|-", ">-", "|+"]), st.lists(PLAIN | st.just(""), min_size=1)).map(
        lambda pair: f"{pair[0]}\n  a" + "".join(f"\n  {line}" if line else "\n" for line in pair[1])
    ),
    st.lists(PLAIN, min_size=1).map(lambda texts: "\n" + "\n".join(f"  - {text} # c" for text in texts)),
    st.lists(PLAIN.map(lambda text: text.replace("?", "")), min_size=1).map(lambda texts: f"[{', '.join(texts)}]"),
)


@given(st.dictionaries(st.sampled_from(["name", "description", "tools", "color", "x"]), VALUES, min_size=1))
def test_lines_say_what_yaml_says(fields: dict[str, str]):
    """What `_by_lines` makes of plain YAML is what PyYAML makes of it, but for the white space at the end."""
    text = "\n".join(f"{key}: {value}" for key, value in fields.items())
    read = {key: value.rstrip() if isinstance(value, str) else value for key, value in load_yaml(text).items()}
    assert _by_lines(text) == read
