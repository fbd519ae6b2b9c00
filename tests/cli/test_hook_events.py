"""A hook on delegations, ends and beginnings: what it changes, by whose leave, and what it writes down."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ruvllm import RuvLLM, Tier
from ruvllm.cli.hook.log import entries, log_file
from ruvllm.cli.hook.settings import settings_file
from ruvllm.cli.main import main
from ruvllm.cli.report.outcomes import ClientModels

BAKER = "Bakes bread, cakes and pastry; doughs, ovens and proofing times."
GARDENER = "Plants flowers, prunes hedges and trees, mows lawns."
PRUNE = "prune the apple trees and the hedge in the garden"
SECRET = "sk-ant-REDACTME0123456789"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CLAUDE_PROJECT_DIR", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "RUVLLM_STATE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setenv("APPDATA", str(folder / "app"))
    return folder


@pytest.fixture
def project(home: Path) -> Path:
    folder = home / "project"
    install(folder / ".claude", baker=BAKER, gardener=GARDENER)
    return folder


def install(folder: Path, model: str = "", **agents: str) -> None:
    (folder / "agents").mkdir(parents=True, exist_ok=True)
    for name, text in agents.items():
        more = f"model: {model}\n" if model else ""
        (folder / "agents" / f"{name}.md").write_text(f"---\nname: {name}\ndescription: {text}\n{more}---\nGo.\n")


def run(event: dict[str, Any], *args: str) -> Result:
    result = CliRunner().invoke(main, ["hook", "--no-resident", *args], input=json.dumps(event))
    assert result.exit_code == 0
    return result


def delegation(cwd: Path, task: str = PRUNE, **given: Any) -> dict[str, Any]:
    call = {"description": "work", "prompt": task} | given
    return {"hook_event_name": "PreToolUse", "tool_name": "Agent", "tool_input": call, "cwd": str(cwd)}


def changed(result: Result) -> dict[str, Any]:
    """The call in the place of the given one; {} where it stays."""
    output = json.loads(result.stdout)["hookSpecificOutput"] if result.stdout else {}
    return dict(output.get("updatedInput", {}))


def test_acting_names_an_agent_where_there_is_none_and_says_why(project: Path):
    result = run(delegation(project), "--mode", "act")
    call = changed(result)
    assert call["subagent_type"] == "gardener"
    assert (call["prompt"], call["description"]) == (PRUNE, "work")  # a client takes the whole call as it comes
    said = json.loads(result.stdout)
    assert "agent gardener where none was named (confidence 0." in said["systemMessage"]
    assert "permissionDecision" not in said["hookSpecificOutput"]  # whoever asks the user still does


@pytest.mark.parametrize("named", ["general-purpose", "no-such-agent"])
def test_what_is_named_for_want_of_better_is_corrected(project: Path, named: str):
    assert changed(run(delegation(project, subagent_type=named), "--mode", "act"))["subagent_type"] == "gardener"


def test_what_a_sub_agent_remembers_and_recalls_is_its_own(project: Path):
    call = {"hook_event_name": "PreToolUse", "tool_name": "mcp__plugin_ruvllm_ruvllm__recall", "cwd": str(project)}
    call |= {"tool_input": {"query": "hedges"}, "agent_type": "gardener"}
    assert changed(run(call, "--mode", "act")) == {"query": "hedges", "agent_id": "gardener"}
    named = call | {"tool_input": {"query": "hedges", "agent_id": "baker"}}
    for event, mode in ((call, "suggest"), (named, "act"), ({**call, "agent_type": None}, "act")):
        assert run(event, "--mode", mode).stdout == ""


def test_what_is_right_or_unsure_stays(project: Path):
    for task, named in ((PRUNE, "gardener"), ("what is the capital of Peru?", "baker"), ("look at it", "")):
        given = {"subagent_type": named} if named else {}
        assert (
            "subagent_type" not in changed(run(delegation(project, task, **given), "--mode", "act"))
            or named == (changed(run(delegation(project, task, **given), "--mode", "act"))["subagent_type"])
        )


def test_shadow_is_the_default_and_changes_nothing(project: Path):
    assert run(delegation(project)).output == ""
    assert run(delegation(project), "--mode", "shadow").output == ""
    rows = list(entries())
    assert [(row["mode"], row["route"], row["agent"], row["changed"]) for row in rows] == [
        ("shadow", "gardener", "gardener", True)
    ] * 2


def test_suggesting_says_it_and_changes_nothing(project: Path):
    said = json.loads(run(delegation(project), "--mode", "suggest").stdout)
    assert "updatedInput" not in said["hookSpecificOutput"]
    assert "would choose agent gardener" in said["hookSpecificOutput"]["additionalContext"]


def test_shadow_keeps_still_about_prompts_too(project: Path):
    event = {"hook_event_name": "UserPromptSubmit", "prompt": PRUNE, "cwd": str(project)}
    assert "gardener" in run(event).stdout
    assert run(event, "--mode", "shadow").output == ""


def test_an_agent_of_the_project_takes_nothing_that_was_meant_for_the_users(home: Path, project: Path):
    """A cloned repository brings its own descriptions."""
    install(home / ".claude", cook="Cooks soups and stews in pots.")
    call = delegation(project, subagent_type="cook")
    assert changed(run(call, "--mode", "act")) == {}
    settings(f'[projects."{project}"]\ntrust = true')
    assert changed(run(call, "--mode", "act"))["subagent_type"] == "gardener"
    settings("")
    for file in (project / ".claude" / "agents").iterdir():
        file.rename(home / ".claude" / "agents" / file.name)
    assert changed(run(call, "--mode", "act"))["subagent_type"] == "gardener"  # both the user's


def settings(text: str) -> None:
    settings_file().parent.mkdir(parents=True, exist_ok=True)
    settings_file().write_text(text)


@pytest.mark.parametrize(
    "text",
    ['deny = ["garden*"]', 'allow = ["baker"]', 'mode = "act"\ndeny = ["gardener"]', "allow = []", 'deny = ["*"]'],
)
def test_lists_of_what_may_be_named(project: Path, text: str):
    settings(text)
    call = run(delegation(project), "--mode", "act")
    assert "subagent_type" not in changed(call)
    assert run({"hook_event_name": "UserPromptSubmit", "prompt": PRUNE, "cwd": str(project)}).output == ""


def test_a_project_may_ask_for_less_and_never_for_more(home: Path, project: Path):
    def narrowed(text: str) -> dict[str, Any]:
        (project / ".claude" / "ruvllm.toml").write_text(text)
        return changed(run(delegation(project)))

    settings('mode = "act"\nallow = ["gardener"]')
    assert narrowed("")["subagent_type"] == "gardener"
    assert narrowed('mode = "shadow"') == {}
    assert "subagent_type" not in narrowed('deny = ["gardener"]')
    assert "subagent_type" not in narrowed('allow = ["baker"]')
    settings('mode = "shadow"\ndeny = ["gardener"]')
    assert narrowed('mode = "act"\nallow = ["gardener"]\ntrust = true') == {}
    settings(f'mode = "shadow"\n[projects."{project}"]\nmode = "act"')
    assert narrowed("")["subagent_type"] == "gardener"


@pytest.mark.parametrize(
    "text", ["mode = 3", "[[[", "a" + ".a" * 50_000 + " = 1", 'allow = 3\ndeny = "x"\nmodels = []', "\x00"]
)
def test_settings_that_cannot_be_used_count_as_none(project: Path, text: str):
    settings(text)
    assert run(delegation(project)).output == ""
    assert changed(run(delegation(project), "--mode", "act"))["subagent_type"] == "gardener"


def test_a_model_is_filled_in_by_the_task_and_never_over_an_agents_own_file(project: Path):
    hard = "prune the hedge, then design and prove the distributed architecture of the irrigation, and fix deadlocks"
    assert changed(run(delegation(project, hard, subagent_type="gardener"), "--mode", "act"))["model"] == "sonnet"
    assert "model" not in changed(
        run(delegation(project, hard, subagent_type="gardener", model="opus"), "--mode", "act")
    )
    assert changed(run(delegation(project, hard, subagent_type="gardener", model="gpt"), "--mode", "act"))["model"]
    install(project / ".claude", model="haiku", gardener=GARDENER)
    assert "model" not in changed(run(delegation(project, hard, subagent_type="gardener"), "--mode", "act"))


@pytest.mark.parametrize(
    "more",
    [
        {"tool_name": "Bash"},
        {"tool_input": None},
        {"tool_input": {"prompt": 3}},
        {"tool_input": {"prompt": " "}},
        {"tool_input": {"prompt": PRUNE, "subagent_type": {}, "model": []}},
        {"tool_name": {"a": 1}},
        {"cwd": "/nowhere"},
        {"cwd": 3},
        {"tool_input": {"prompt": "\ud800"}},
    ],
)
def test_no_delegation_is_ever_stood_in_the_way_of(project: Path, more: dict[str, Any]):
    event = delegation(project) | more
    result = run(event, "--mode", "act")
    assert result.output == "" or changed(result)


def test_codex_and_opencode_have_agents_and_forms_of_their_own(home: Path):
    work = home / "work"
    (work / ".codex" / "agents").mkdir(parents=True)
    for name, text in (("gardener", GARDENER), ("baker", BAKER)):
        (work / ".codex" / "agents" / f"{name}.toml").write_text(f'name = "{name}"\ndescription = "{text}"\n')
    event = {
        "hook_event_name": "PreToolUse",
        "tool_name": "spawn_agent",
        "tool_input": {"message": PRUNE},
        "cwd": str(work),
    }
    output = json.loads(run(event, "--client", "codex", "--mode", "act").stdout)["hookSpecificOutput"]
    assert output["updatedInput"] == {"message": PRUNE, "agent_type": "gardener"}
    assert output["permissionDecision"] == "allow"  # Codex takes a changed call with nothing less
    (work / ".opencode" / "agents").mkdir(parents=True)
    for name, text in (("gardener", GARDENER), ("baker", BAKER)):
        (work / ".opencode" / "agents" / f"{name}.md").write_text(
            f"---\ndescription: {text}\nmode: subagent\n---\nGo.\n"
        )
    event["tool_name"], event["tool_input"] = "task", {"prompt": PRUNE, "subagent_type": "general"}
    assert changed(run(event, "--client", "opencode", "--mode", "act"))["subagent_type"] == "gardener"


def transcript(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    message = {"role": role, "content": content} | more
    return {"type": role, "message": message, "sessionId": "s1", "cwd": "/p", "timestamp": "2026-01-01T00:00:00Z"}


def work_with_tests(
    said: str, failed: bool = False, model: str = "claude-haiku-4-5", task: str = f"{PRUNE} with the key {SECRET}"
) -> list[dict[str, Any]]:
    """A sub-agent's work that ends in a run of the tests."""
    usage = {"input_tokens": 1_000, "output_tokens": 200, "cache_read_input_tokens": 10_000}
    call = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "python -m pytest -q"}}
    return [
        turn("user", task),
        turn("assistant", [call], id="m1", model=model, usage=usage, stop_reason="tool_use"),
        turn("user", [{"type": "tool_result", "tool_use_id": "t1", "content": said, "is_error": failed}]),
        turn("assistant", "Done.", id="m2", model=model, usage=usage, stop_reason="end_turn"),
    ]


def stop(path: Path, project: Path, agent: str = "gardener") -> dict[str, Any]:
    return {
        "hook_event_name": "SubagentStop",
        "agent_transcript_path": str(path),
        "agent_type": agent,
        "cwd": str(project),
    }


def test_an_outcome_is_logged_with_its_cost_and_without_its_words(tmp_path: Path, project: Path):
    path = transcript(tmp_path / "agent-1.jsonl", *work_with_tests("3 passed in 0.1s"))
    assert run(stop(path, project)).output == ""
    (row,) = entries()
    assert (row["success"], row["signal"], row["agent"]) == (True, "tests passed", "gardener")
    assert row["tokens"] == [2_000, 400, 20_000, 0]
    assert row["cost"] == pytest.approx((2_000 * 1 + 400 * 5 + 20_000 * 0.1) / 1e6)
    text = log_file().read_text()
    assert not any(word in text for word in ("prune", SECRET, "/p", "home"))
    assert stat.S_IMODE(log_file().stat().st_mode) == 0o600


def test_nothing_is_learnt_unless_it_is_wanted_and_secrets_never(home: Path, tmp_path: Path, project: Path):
    path = transcript(tmp_path / "agent-1.jsonl", *work_with_tests("3 passed in 0.1s"))
    state = home / "state.db"
    run(stop(path, project), "--state", str(state))
    assert not state.exists()
    settings("learn = true")
    run(stop(path, project), "--state", str(state))
    with RuvLLM(project / ".claude" / "agents", encoder="static", state=state) as llm:
        assert llm.stats()["feedback"] == 0  # the project is not trusted with the user's state
    settings("learn = true\ntrust = true")
    run(stop(path, project), "--state", str(state))
    with RuvLLM(project / ".claude" / "agents", encoder="static", state=state) as llm:
        (learnt,) = llm.store.feedback_rows()
        assert (learnt.feedback.agent, learnt.feedback.right) == ("gardener", True)
        assert SECRET not in learnt.feedback.text
        assert PRUNE in learnt.feedback.text


def test_outcomes_decide_on_models(home: Path, tmp_path: Path, project: Path):
    """Where the small model fails at such tasks and the large one does not, the large one is taken."""
    settings("learn = true\ntrust = true")
    state = str(home / "state.db")
    bad = transcript(tmp_path / "agent-1.jsonl", *work_with_tests("2 failed", failed=True, task=PRUNE))
    good = transcript(tmp_path / "agent-2.jsonl", *work_with_tests("3 passed", model="claude-sonnet-4-5", task=PRUNE))
    for _ in range(6):
        run(stop(bad, project), "--state", state)
        run(stop(good, project), "--state", state)
    with RuvLLM(project / ".claude" / "agents", encoder="static", state=state) as llm:
        choice = ClientModels(llm, {Tier.SMALL: "haiku", Tier.LARGE: "sonnet"}).choice(llm.route(PRUNE), PRUNE)
    assert (choice.by, choice.tier) == ("outcomes", Tier.LARGE)
    call = changed(run(delegation(project, subagent_type="gardener", model="haiku"), "--mode", "act", "--state", state))
    assert call["model"] == "sonnet"


@pytest.mark.parametrize(
    "path", [None, 3, "/nowhere.jsonl", "/etc/passwd", "relative.jsonl", "\x00.jsonl", "/dev/zero.jsonl"]
)
def test_a_transcript_that_is_not_there_is_no_reason(project: Path, path: Any):
    event = stop(Path("/x"), project) | {"agent_transcript_path": path}
    assert run(event).output == ""
    assert run({"hook_event_name": "Stop", "transcript_path": path, "cwd": 3}).output == ""


def test_a_session_begins_with_its_agents_and_what_is_left_of_the_budget(tmp_path: Path, project: Path):
    run(stop(transcript(tmp_path / "agent-1.jsonl", *work_with_tests("1 passed", model="claude-opus-4-1")), project))
    settings("budget = 5.0")
    event = {"hook_event_name": "SessionStart", "source": "startup", "cwd": str(project)}
    assert run(event).output == ""
    said = json.loads(run(event, "--mode", "suggest").stdout)["hookSpecificOutput"]["additionalContext"]
    assert "routes among 2 agents here (2 of the project's)" in said
    assert "$0.09 of today's budget of $5.00 are spent, $4.91 are left" in said
