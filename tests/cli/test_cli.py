"""What a person or a program sees of the command line: formats, exit codes, errors with a fix."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ruvllm import Action, Candidate, Decision, Evidence, RuvLLM, Tier
from ruvllm.cli.main import main

AGENTS: dict[str, dict[str, Any]] = {
    "baker": {
        "description": "Bakes bread, cakes and pastry: doughs, ovens, proofing times and recipes.",
        "examples": ["bake a sourdough loaf", "proof the dough overnight", "glaze the birthday cake"],
    },
    "gardener": {
        "description": "Plants and waters flowers, prunes hedges and trees, mows lawns.",
        "examples": ["prune the apple tree", "water the tomatoes", "sow grass on the bare patch"],
    },
    "mechanic": {
        "description": "Repairs cars: engines, brakes, oil changes and tyres.",
        "examples": ["change the brake pads", "the engine stalls when cold", "rotate the tyres"],
    },
}
PROMPTS = [
    {"prompt": "bake a loaf of rye bread", "agent": "baker"},
    {"prompt": "my cake did not rise in the oven", "agent": "baker"},
    {"prompt": "prune the roses and the hedge", "agent": "gardener"},
    {"prompt": "when do I water the lawn?", "agent": "gardener"},
    {"prompt": "the brakes squeal, fit new pads", "agent": "mechanic"},
    {"prompt": "do an oil change on the engine", "agent": "mechanic"},
]
LINE = re.compile(r"^Agent: (\S+) \| Confidence: [01]\.\d\d \| Tier: [123]$")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may read or write the feedback of whoever runs it."""
    monkeypatch.setenv("RUVLLM_STATE", str(tmp_path / "state.db"))


@pytest.fixture
def agents_file(tmp_path: Path) -> Path:
    return write(tmp_path / "agents.json", {"agents": AGENTS})


def write(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return path


def run(*args: object, stdin: str | bytes | None = None, code: int = 0) -> Result:
    """Run the command line; nothing but a clean exit is ever acceptable."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def unsure(confidence: float, action: str, *others: str) -> Decision:
    alternatives = tuple(Candidate(name, 0.12) for name in others)
    return Decision("tester", confidence, Tier.SMALL, action, 0.1, alternatives, "static", Evidence(), {})


def last_json(result: Result) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


# route


def test_route_prints_the_line_that_scripts_read() -> None:
    first = run("route", "add unit tests for the auth module", "--encoder", "static").stdout.splitlines()[0]
    match = LINE.match(first)
    assert match is not None
    assert match[1] == "tester"


@pytest.mark.parametrize(
    ("decision", "says"),
    [
        (unsure(0.78, Action.CONFIRM, "reviewer"), "confirm: 0.78 is between 0.7 and 0.9; next best: reviewer 0.12"),
        (unsure(0.41, Action.ESCALATE, "reviewer"), "escalate: 0.41 is below 0.7; next best: reviewer 0.12"),
        (unsure(0.41, Action.ESCALATE), "escalate: 0.41 is below 0.7"),
    ],
)
def test_route_says_what_to_do_when_unsure(decision: Decision, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RuvLLM, "route", lambda *_, **__: decision)
    first = f"Agent: tester | Confidence: {decision.confidence:.2f} | Tier: 2"
    assert run("route", "x", "--encoder", "static").stdout.splitlines() == [first, says]


def test_a_task_of_several_agents_says_so() -> None:
    said = run("route", "--no-state", "Add authentication to the API").output
    assert "for several: backend-dev + security-architect (--team)" in said
    told = last_json(run("route", "--no-state", "--json", "Add authentication to the API"))
    assert told["team"] == ["backend-dev", "security-architect"]


def test_route_json_is_one_decision_on_one_line() -> None:
    result = run("route", "--json", "--top", 2, "--encoder", "static", "review my pull request")
    assert len(result.stdout.splitlines()) == 1
    decision = last_json(result)
    assert {"agent", "confidence", "tier", "action", "out_of_scope", "evidence", "timings_us"} <= decision.keys()
    assert len(decision["alternatives"]) == 2


def test_route_explain_shows_the_evidence(agents_file: Path) -> None:
    text = run("route", "--explain", "--encoder", "static", "--agents", agents_file, "prune the apple tree").stdout
    for part in ("Alternatives", "Nearest examples", "Scores", "Timings", "out of scope", "prune"):
        assert part in text


def test_route_team_names_roles_and_agents() -> None:
    task = "build a web shop with login and deploy it"
    team = last_json(run("route", "--team", "--json", "--encoder", "static", task))
    assert len(team["members"]) > 1
    assert {"agent", "role", "task", "confidence"} == team["members"][0].keys()
    table = run("route", "--team", "--encoder", "static", task).stdout
    assert "Role" in table
    assert team["members"][0]["agent"] in table


def test_route_reads_plain_lines_from_stdin(agents_file: Path) -> None:
    stdin = "bake a loaf of rye bread\n\nprune the hedge\n"
    lines = run("route", "--agents", agents_file, "--encoder", "static", stdin=stdin).stdout.splitlines()
    named = [match[1] for match in map(LINE.match, lines) if match]
    assert named == ["baker", "gardener"]


def test_route_batch_answers_every_line_and_names_the_bad_one(agents_file: Path) -> None:
    rows = [
        '{"text": "bake a cake", "id": 7}',
        '{"text": ',
        '{"prompt": "fix the brakes"}',
        '{"id": 1}',
        '{"text": ""}',
        "x",
    ]
    result = run("route", "--agents", agents_file, "--encoder", "static", stdin="\n".join(rows), code=1)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer.get("agent") for answer in answers] == ["baker", None, "mechanic", None, None, None]
    assert answers[0]["input"] == {"id": 7}
    assert [answer["line"] for answer in answers if "error" in answer] == [2, 4, 5, 6]


@pytest.mark.parametrize(
    "bad", ['{"text": NaN}', '{"text": 3}', "[" * 100_000, '{"text": "\\ud800"}', '{"text": "a\\u0000"}']
)
def test_route_batch_survives_odd_lines(bad: str, agents_file: Path) -> None:
    stdin = '{"text": "bake a cake"}\n' + bad
    result = CliRunner().invoke(main, ["route", "--agents", str(agents_file), "--encoder", "static"], input=stdin)
    assert isinstance(result.exception, SystemExit | None)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert answers[0]["agent"] == "baker"
    assert len(answers) == 2
    assert {"agent", "error"} & answers[1].keys()


def test_route_batch_survives_bytes_that_are_not_utf8(agents_file: Path) -> None:
    stdin = b'{"text": "bake a cake"}\n{"text": "\xff"}\n'
    result = run("route", "--agents", agents_file, "--encoder", "static", stdin=stdin, code=1)
    assert "UTF-8" in last_json(result)["error"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("route", ""), "text is empty. say what is to be done"),
        (("route", "   "), "text is empty"),
        (("route",), "pipe tasks in"),
        (("route", "x", "--agents", "no/such/folder"), "does not exist. give a folder of agents"),
        (("route", "x", "--explain", "--team"), "Drop --team"),
        (("agents", "show", "testr"), "did you mean tester"),
        (("agents", "lint", "no/such/folder"), "does not exist"),
        (("feedback", "x", "nobody"), "no agent is called 'nobody'"),
        (("feedback", "x", "tester", "--weight", "0"), "weight is 0"),
        (("eval", "agents", "no/such/file.json"), "cannot be read"),
        (("eval", "agents", "x.json", "--plot", "x.pdf"), "end the name in .png"),
    ],
)
def test_mistakes_are_answered_with_a_fix(args: tuple[str, ...], says: str) -> None:
    assert says in run(*args, code=2).stderr


def test_a_broken_agents_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "agents.json", '{"agents":\n oops}')
    assert f"{path}:2: not JSON" in run("route", "x", "--agents", path, code=2).stderr


# feedback


def test_feedback_changes_where_the_next_task_goes(agents_file: Path, tmp_path: Path) -> None:
    text, state = "arrange the tulip bouquet", tmp_path / "own.db"
    run("feedback", text, "mechanic", "--weight", 5, "--agents", agents_file, "--state", state)
    ask = ("route", text, "--json", "--encoder", "static", "--agents", agents_file)
    assert last_json(run(*ask, "--state", state))["agent"] == "mechanic"
    assert last_json(run("--state", state, *ask))["agent"] == "mechanic"
    assert last_json(run(*ask, "--state", state, "--no-state"))["agent"] == "gardener"


def test_feedback_can_say_that_an_agent_is_wrong(agents_file: Path, tmp_path: Path) -> None:
    text, state = "arrange the tulip bouquet", ("--state", tmp_path / "own.db", "--agents", agents_file)
    assert "-/-> gardener" in run("feedback", "--wrong", text, "gardener", *state).stdout
    assert last_json(run("route", text, "--json", "--encoder", "static", *state))["agent"] != "gardener"


def test_a_file_that_is_no_state_is_refused(agents_file: Path) -> None:
    result = run("route", "x", "--state", agents_file, code=2)
    assert "state file" in result.stderr


# agents


def test_agents_list_and_show(agents_file: Path) -> None:
    assert "baker" in run("agents", "list", "--agents", agents_file).stdout
    listed = last_json(run("agents", "list", "--agents", agents_file, "--json"))
    assert [agent["name"] for agent in listed] == ["baker", "gardener", "mechanic"]
    assert "proof the dough overnight" in run("agents", "show", "baker", "--agents", agents_file).stdout
    assert last_json(run("agents", "show", "tester", "--json"))["name"] == "tester"


def test_hostile_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json", {"agents": {"evil\x1b[2J[bold]": {"description": "Does odd jobs in \x1b]0;x the house."}}}
    )
    for args in (("agents", "list"), ("route", "odd jobs", "--explain", "--encoder", "static")):
        text = run(*args, "--agents", path).stdout
        assert "\x1b" not in text
        assert "[bold]" in text


def test_lint_exits_0_when_there_is_nothing_to_change(agents_file: Path) -> None:
    assert "0 finding(s)" in run("agents", "lint", agents_file).stdout


def test_lint_exits_1_for_what_cannot_be_used_and_names_the_rest(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(
            tmp_path / f"{name}.md",
            f"---\nname: {name}\ntier: premium\ndescription: Reviews pull requests for security problems.\n---\n",
        )
    write(tmp_path / "README.md", "How to use these.")
    assert "one, two" in run("agents", "lint", tmp_path).stdout
    assert "2 note(s), 0 skipped" in run("agents", "lint", tmp_path, "--strict", code=1).stdout
    write(tmp_path / "broken.md", "---\nname: endless")
    text = run("agents", "lint", tmp_path, code=1).stdout
    assert "fix:" in text
    assert f"{tmp_path / 'broken.md'}:1" in text
    assert f"{tmp_path / 'one.md'}:3" in text
    data = last_json(run("agents", "lint", tmp_path, "--json", code=1))
    assert data["findings"][0]["kind"] == "duplicate"
    assert [len(data["notes"]), len(data["skipped"])] == [2, 1]


def test_only_agents_that_are_missing_are_warned_of(tmp_path: Path) -> None:
    write(tmp_path / "cook.md", "---\nname: cook\ntier: premium\ndescription: Cooks soup.\n---\n")
    ask = ("route", "cook soup", "--agents", tmp_path, "--encoder", "static")
    assert "skipped" not in run(*ask).stderr
    write(tmp_path / "endless.md", "---\nname: endless")
    assert "skipped 1 agent(s)" in run(*ask).stderr


def test_lint_of_an_empty_folder_says_so(tmp_path: Path) -> None:
    assert "holds no *.md file" in run("agents", "lint", tmp_path, code=1).stdout


# eval


def test_eval_agents_scores_a_small_file(tmp_path: Path) -> None:
    path = write(tmp_path / "set.json", {"agents": AGENTS, "prompts": PROMPTS})
    result = run("eval", "agents", path, "--encoder", "static", "--json")
    scores = last_json(result)
    assert (scores["n"], scores["agents"], scores["encoder"]) == (6, 3, "static")
    assert scores["top3"] == 1
    assert scores["top1"] >= 0.8
    assert {"mrr", "ece", "coverage_at_0.9", "precision_at_0.9", "p50_us", "p95_us", "top5"} <= scores.keys()
    assert "mrr" in "".join(result.stdout.splitlines()[:-1])


def test_eval_agents_keeps_collections_apart(tmp_path: Path) -> None:
    agents = {f"{group}::{name}": AGENTS[name] for group in ("a", "b") for name in AGENTS}
    prompts = [{**row, "agent": f"a::{row['agent']}"} for row in PROMPTS]
    prompts.append({"prompt": "mow the lawn", "agent": "b::gardener"})
    path = write(tmp_path / "set.json", {"agents": agents, "prompts": prompts})
    scores = last_json(run("eval", "agents", path, "--encoder", "static", "--json"))
    assert (scores["n"], scores["agents"], scores["top3"]) == (7, 6, 1)
    scores = last_json(run("eval", "agents", path, "--encoder", "static", "--json", "--min-prompts", 2))
    assert (scores["n"], scores["agents"]) == (6, 3)


def test_eval_agents_among_named_builtin(tmp_path: Path) -> None:
    prompts = [{"prompt": "add unit tests", "agent": "tester"}, {"prompt": "review this diff", "agent": "reviewer"}]
    path = write(tmp_path / "set.json", {"prompts": prompts})
    args = ("eval", "agents", path, "--builtin", "--encoder", "static", "--json")
    assert last_json(run(*args))["agents"] > 50
    assert last_json(run(*args, "--among-named"))["agents"] == 2


@pytest.mark.parametrize("strategy", ["keywords", "embedding", "hybrid"])
def test_route_and_eval_by_one_strategy(tmp_path: Path, agents_file: Path, strategy: str) -> None:
    path = write(tmp_path / "set.json", {"agents": AGENTS, "prompts": PROMPTS})
    scores = last_json(run("eval", "agents", path, "--encoder", "static", "--strategy", strategy, "--json"))
    assert scores["strategy"] == strategy
    assert scores["top1"] >= 0.5
    args = ("route", "--no-state", "--agents", agents_file, "--strategy", strategy, "--json")
    decision = last_json(run(*args, "water the flowers and prune the hedges"))
    assert decision["agent"] == "gardener"
    assert (decision["evidence"]["scores"]["head"] != 0) == (strategy == "hybrid")


def test_a_strategy_that_there_is_not() -> None:
    assert "hybrid" in run("route", "--strategy", "coin", "add tests", code=2).stderr


def test_eval_robustness_names_each_change(tmp_path: Path) -> None:
    path = write(tmp_path / "set.json", {"agents": AGENTS, "prompts": PROMPTS})
    found = last_json(run("eval", "robustness", path, "--encoder", "static", "--most", 2, "--json"))
    assert {"two typos", "capitals", "last in 100 kB"} <= found.keys()
    assert all(0 <= row["same"] <= 1 and 0 <= row["of_right"] <= 1 for row in found.values())
    assert found["capitals"]["same"] == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("{", ":1: not JSON"),
        ([], "holds a JSON list"),
        ({"prompts": PROMPTS}, "`agents` is missing"),
        ({"agents": AGENTS}, "`prompts` is missing"),
        ({"agents": AGENTS, "prompts": []}, "`prompts` is empty"),
        ({"agents": AGENTS, "prompts": [{"prompt": "x"}]}, "prompts[0].agent is missing"),
        ({"agents": AGENTS, "prompts": [{"prompt": "x", "agent": "cook"}]}, "prompts[0].agent is 'cook'"),
        ({"agents": AGENTS, "prompts": [{"prompt": " ", "agent": "baker"}]}, "prompts[0].prompt is empty"),
        ({"agents": {"a": {"examples": 3}}, "prompts": PROMPTS}, "agents['a']: `examples`"),
        ({"agents": {"a": 3}, "prompts": PROMPTS}, "agents['a'] is a number"),
    ],
)
def test_eval_names_the_key_at_fault(data: Any, says: str, tmp_path: Path) -> None:
    assert says in run("eval", "agents", write(tmp_path / "set.json", data), code=2).stderr


INTENTS = {
    "train": [[text, name] for name, agent in AGENTS.items() for text in agent["examples"]],
    "test": [[row["prompt"], row["agent"]] for row in PROMPTS],
    "oos_test": [["what is the capital of Peru", "oos"], "translate this poem"],
}


def test_eval_intents_scores_a_small_file(tmp_path: Path) -> None:
    path = write(tmp_path / "intents.json", INTENTS)
    args = ("eval", "intents", path, "--encoder", "static", "--json")
    scores = last_json(run(*args, "--shots", 2, "--seeds", 2))
    assert (scores["n"], scores["shots"], scores["seeds"]) == (6, 2, 2)
    assert scores["accuracy"] > 0.5
    assert 0 <= scores["oos_auroc"] <= 1
    assert {"ece", "ece_calibrated", "p50_us"} <= scores.keys()
    write(path, {key: INTENTS[key] for key in ("train", "test")})
    assert last_json(run(*args))["oos_auroc"] is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train": None}, "`train` is missing"),
        ({"test": [["x"]]}, "test[0] is not"),
        ({"test": [["x", "cook"]]}, "test[0] has the label 'cook'"),
        ({"oos_test": [3]}, "oos_test[0] is a number"),
    ],
)
def test_eval_intents_names_the_key_at_fault(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    assert says in run("eval", "intents", write(tmp_path / "i.json", INTENTS | change), code=2).stderr


def test_eval_plot_draws_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path, picture = write(tmp_path / "set.json", {"agents": AGENTS, "prompts": PROMPTS}), tmp_path / "report.png"
    run("eval", "agents", path, "--encoder", "static", "--plot", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


# info and help


def test_info_finds_whole_artifacts() -> None:
    data = last_json(run("info", "--json"))
    assert data["problem"] is None
    assert (data["cores"] >= 1, bool(data["cpu_features"]), bool(data["blas"])) == (True, True, True)
    assert {artifact["state"] for artifact in data["artifacts"]} == {"ok"}
    assert "static.npz" in run("info").stdout


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("generate", "query"),
        ("benchmark", "bench"),
        ("train", "learn"),
        ("export", "learn export"),
        ("benchmark simd", "bench steps"),
    ],
)
def test_other_systems_names_of_commands(name: str, path: str) -> None:
    assert run(*name.split(), "--help").stdout.splitlines()[2:] == run(*path.split(), "--help").stdout.splitlines()[2:]


def test_a_mistyped_command_names_the_nearest() -> None:
    assert "did you mean route?" in run("rout", "x", code=2).stderr
    assert "see " in run("zzz", code=2).stderr


def test_vectors_how_alike_texts_are_and_counts(tmp_path: Path) -> None:
    told = last_json(run("embed", "--json", "--encoder", "static", "fix the login", "word " * 300))
    assert (told["dim"], told["truncated"], [len(row) for row in told["vectors"]]) == (256, [False, True], [256, 256])
    plain = run("embed", "--encoder", "static", stdin="fix the login\n\nbake bread\n").stdout.splitlines()
    np.testing.assert_allclose(json.loads(plain[0]), told["vectors"][0], atol=1e-5)
    near = last_json(
        run("similarity", "--json", "--encoder", "static", "fix the login", "bake bread", "mend the login")
    )
    assert [one["text"] for one in near] == ["mend the login", "bake bread"]
    assert "there is no text" in run("embed", code=2).stderr
    state = tmp_path / "state.db"
    run("feedback", "--state", state, "polish the kettle", "coder")
    assert last_json(run("stats", "--json", "--state", state))["feedback"] == 1
    assert "sona ewc lambda" in run("stats", "--state", state).stdout


def test_shells_are_told_what_completes() -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_RUVLLM_COMPLETE" in run("completion", shell).stdout


def test_info_tells_missing_from_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"bytes": 3, "sha256": "0" * 64}
    write(tmp_path / "manifest.json", {"artifacts": {"a.npz": entry, "b.npz": entry}})
    write(tmp_path / "a.npz", "abc")
    monkeypatch.setenv("RUVLLM_MODELS", str(tmp_path))
    data = last_json(run("info", "--json", code=1))
    assert [artifact["state"] for artifact in data["artifacts"]] == ["damaged", "missing"]
    assert "a.npz" in data["problem"]


def test_artifacts_that_are_missing_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUVLLM_MODELS", str(tmp_path))
    assert "manifest.json is missing" in run("route", "add tests", code=2).stderr


@pytest.mark.parametrize(
    "command",
    [
        "",
        "route",
        "feedback",
        "agents list",
        "agents show",
        "agents lint",
        "eval agents",
        "eval robustness",
        "eval intents",
        "bench route",
        "info",
    ],
)
def test_every_help_has_examples(command: str) -> None:
    assert "Examples:" in run(*command.split(), "--help").stdout
