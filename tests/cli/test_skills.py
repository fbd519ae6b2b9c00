"""What clients list of skills, suggestions beside the files, and prompts as a check of a build."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from ruvllm import Agent, RuvLLM
from ruvllm.cli.listing import listing_of
from ruvllm.cli.main import main
from ruvllm.routing.lint import LONG, triggers


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUVLLM_CACHE", "")
    skills = {
        "pdf": ("Fills in PDF forms. Use when a form has to be completed.", "Run it."),
        "invoice": (
            "Writes invoices.",
            "# Invoices\n\n## When to use\n\n- a customer has to be billed\n- a fee is due\n",
        ),
        "essay": (
            f"Writes essays. Use when an essay is asked for. {'It knows many things about them. ' * 50}",
            "Write.",
        ),
    }
    for name, (description, body) in skills.items():
        path = tmp_path / name / "SKILL.md"
        path.parent.mkdir()
        path.write_text(f"---\nname: {name}\ndescription: {description}\n---\n{body}", encoding="utf-8")
    return tmp_path


def test_a_list_that_fits(folder: Path) -> None:
    report = json.loads(run("skills", "budget", folder, "--json", "--share", "1%").stdout)
    assert report["budget"] == 2000
    rows = {row["agent"]: row for row in report["entries"]}
    assert all(row["fits"] for row in rows.values())
    assert rows["pdf"]["problems"] == []
    assert rows["invoice"]["problems"] == ["no trigger: it does not say when to use it"]
    assert rows["invoice"]["suggestion"] == ("Writes invoices. Use when a customer has to be billed, or a fee is due.")
    assert rows["essay"]["problems"][0].startswith("too long")
    assert len(rows["essay"]["suggestion"]) <= LONG
    assert rows["essay"]["suggestion"].startswith("Writes essays. Use when an essay is asked for.")
    run("skills", "budget", folder, "--strict", code=1)


def test_a_list_that_does_not_fit(folder: Path) -> None:
    result = run("skills", "budget", folder, "--context", 10_000, "--share", ".02", code=1)
    assert "do not fit" in result.stdout
    for share in ("0", "-1%", "x", "101%"):
        assert "is no share" in run("skills", "budget", folder, "--share", share, code=2).stderr
    assert "nothing of that kind" in run("skills", "budget", folder, "--kind", "tool", code=2).stderr


def test_suggestions_stand_beside_the_files_and_over_none(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.md")}
    (folder / "essay" / "SKILL.md.suggested").write_text("mine")
    result = run("skills", "budget", folder, "--fix")
    assert {path: path.read_bytes() for path in folder.rglob("*.md")} == before
    assert "stays as it is" in result.stderr
    assert (folder / "essay" / "SKILL.md.suggested").read_text() == "mine"
    suggested = (folder / "invoice" / "SKILL.md.suggested").read_text()
    assert suggested == ('description: "Writes invoices. Use when a customer has to be billed, or a fee is due."\n')
    assert not (folder / "pdf" / "SKILL.md.suggested").exists()
    assert len(json.loads(run("skills", "budget", folder, "--json").stdout)["entries"]) == 3  # it is no skill itself


def test_what_can_be_confused_says_what_it_is_not_for() -> None:
    static = RuvLLM(encoder="static").encoders.static
    one = Agent("web", "Builds web pages with React. Use when a page is needed.", kind="skill")
    two = Agent("web-2", "Builds web pages with React. Use when a page is needed.", kind="skill")
    far = Agent("cook", "Cooks soups. Use when somebody is hungry.", kind="skill")
    listing = listing_of([one, two, far], static, 2000)
    assert listing.entries[0].problems == ("confusable with web-2",)
    assert "Not for what web-2 does (Builds web pages with React" in listing.entries[0].suggestion
    assert listing.entries[2].problems == ()


@pytest.mark.parametrize(
    ("description", "there"),
    [
        ("Fills forms. Use when a form has to be filled.", True),
        ("Use this agent for slow queries", True),
        ("This skill should be used if tests fail", True),
        ("When the user asks for a chart, draws one", True),
        ("Fills PDF forms", False),
        ("Reuses what others wrote", False),
    ],
)
def test_triggers(description: str, there: bool) -> None:
    assert triggers(description) == there


def test_lint_speaks_of_skills(folder: Path) -> None:
    found = json.loads(run("agents", "lint", folder, "--json").stdout)["findings"]
    assert {(one["kind"], one["agents"][0]) for one in found} >= {("trigger", "invoice"), ("long", "essay")}
    assert "Does not say when" in run("agents", "lint", folder).stdout


AGENTS = [
    {"name": "baker", "description": "Bakes bread and cakes.", "examples": ["bake a sourdough loaf", "a rye bread"]},
    {"name": "sailor", "description": "Sails boats.", "examples": ["hoist the main sail", "moor the boat"]},
]


def test_prompts_are_a_check(tmp_path: Path) -> None:
    agents, file, report = tmp_path / "agents.json", tmp_path / "prompts.json", tmp_path / "report.xml"
    agents.write_text(json.dumps(AGENTS))
    rows = [
        {"prompt": "bake a sourdough loaf", "agent": "baker"},
        {"prompt": "hoist the main sail", "agent": ["sailor", "baker"], "name": "sails"},
        {"prompt": 'moor the <boat> & \x07 "go"', "agent": "baker"},
        {"prompt": "who won the election in 1912?", "agent": None},
        {"prompt": "bread", "agent": "baker", "min_confidence": 1},
    ]
    file.write_text(json.dumps({"prompts": rows}))
    command = ("agents", "test", file, "--agents", agents, "--encoder", "static")
    result = run(*command, "--junit", report, code=1)
    assert "3 of 5 passed" in result.stdout
    suite = ElementTree.parse(report).getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("5", "2")
    cases = list(suite)
    assert [case.get("name") for case in cases][:2] == ["bake a sourdough loaf", "sails"]
    assert [len(case) for case in cases] == [0, 0, 1, 0, 1]
    assert "instead of baker" in cases[2][0].get("message", "")
    run(*command, "--least", "0.6")
    assert json.loads(run(*command, "--json", code=1).stdout)["failures"] == 2


def test_a_file_of_prompts_that_cannot_be_used_names_its_place(tmp_path: Path) -> None:
    agents, file = tmp_path / "agents.json", tmp_path / "prompts.json"
    agents.write_text(json.dumps(AGENTS))
    for rows, place in (
        ([{"prompt": "x"}], "prompts[0] has no agent"),
        ([{"prompt": "x", "agent": "bakre"}], "did you mean baker"),
        ([{"prompt": "x", "agent": "baker", "min_confidence": 2}], "prompts[0].min_confidence"),
        ([{"prompt": 3, "agent": "baker"}], "prompts[0].prompt"),
    ):
        file.write_text(json.dumps({"prompts": rows}))
        assert place in run("agents", "test", file, "--agents", agents, code=2).stderr


def test_yaml_prompts(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    agents, file = tmp_path / "agents.json", tmp_path / "prompts.yaml"
    agents.write_text(json.dumps(AGENTS))
    file.write_text("prompts:\n- prompt: bake a sourdough loaf\n  agent: baker\n  min_confidence: 0.5\n")
    assert "1 of 1 passed" in run("agents", "test", file, "--agents", agents, "--encoder", "static").stdout


def test_eval_tools(tmp_path: Path) -> None:
    tools = {f"make::{thing}": {"description": f"Makes a {thing}."} for thing in ("soup", "boat", "letter")}
    file = tmp_path / "tools.json"
    prompts = [
        {"prompt": "I want to eat soup", "tool": "make::soup"},
        {"prompt": "a boat, please", "agent": "make::boat"},
    ]
    file.write_text(json.dumps({"tools": tools, "prompts": prompts}))
    report = json.loads(run("eval", "tools", file, "-k", 1, "--encoder", "static", "--json").stdout)
    (row,) = report["collections"]
    assert (row["collection"], row["tools"], row["prompts"], row["recall"]) == ("make", 3, 2, 1.0)
    assert 0.6 < row["cut"] < 0.7
    assert run("eval", "tools", file, "--pool", 2, "--encoder", "static")
