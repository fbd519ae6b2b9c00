"""Past sessions: what they cost and what came of them, to the token; hostile ones are named; the page has no script."""

from __future__ import annotations

import json
import os
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ruvllm import RuvLLM
from ruvllm.cli.main import main
from ruvllm.cli.report.transcript_readers import read_asks
from ruvllm.cli.report.transcripts import Ask, redacted
from ruvllm_bench.transcripts import write_sessions

PRUNE = "prune the apple trees and the hedge in the garden"
AGENTS = {"gardener": "Plants flowers, prunes hedges and trees.", "baker": "Bakes bread and cakes."}
USAGE = {
    "input_tokens": 1_000,
    "output_tokens": 200,
    "cache_read_input_tokens": 10_000,
    "cache_creation_input_tokens": 50,
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "RUVLLM_STATE", "CLAUDE_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    folder = tmp_path / "home" / ".claude" / "agents"
    folder.mkdir(parents=True)
    for name, text in AGENTS.items():
        (folder / f"{name}.md").write_text(f"---\nname: {name}\ndescription: {text}\n---\nGo.\n")
    return tmp_path / "home"


def run(*args: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["report", *args])
    assert result.exit_code == status, result.output
    return result


def found(*args: str) -> Any:
    return json.loads(run("--json", *args).stdout)


_turns = 0


def turn(role: str, content: Any, *, model: str = "claude-opus-4-6", sub: str = "", **more: Any) -> dict[str, Any]:
    global _turns
    _turns += 1
    message = {"role": role, "content": content} | more
    if role == "assistant":
        message = {"id": f"m{_turns}", "model": model, "usage": USAGE, "stop_reason": "end_turn"} | message
    stamp = f"2026-03-01T10:{_turns // 60 % 60:02}:{_turns % 60:02}Z"
    row = {"type": role, "message": message, "sessionId": "s1", "cwd": "/work/shop", "timestamp": stamp}
    return row | ({"isSidechain": True, "attributionAgent": sub} if sub else {})


def call(name: str, given: dict[str, Any], said: str = "", failed: bool = False) -> list[dict[str, Any]]:
    use = {"type": "tool_use", "id": f"t{_turns}", "name": name, "input": given}
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": said, "is_error": failed}
    return [turn("assistant", [use], stop_reason="tool_use"), turn("user", [result])]


def shell(command: str, said: str = "", failed: bool = False) -> list[dict[str, Any]]:
    return call("Bash", {"command": command}, said, failed)


def edit(old: str, new: str) -> list[dict[str, Any]]:
    return call("Edit", {"file_path": "/a.py", "old_string": old, "new_string": new})


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asks(tmp_path: Path, *rows: Any) -> list[Ask]:
    faults = list[str]()
    read = list(read_asks(write(tmp_path / "s1.jsonl", list(rows)), lambda where, what: faults.append(what)))
    assert faults == []
    return read


END = turn("assistant", [{"type": "text", "text": "Done."}])


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (shell("python -m pytest -q", "3 passed in 0.1s"), (True, "tests passed")),
        (shell("npm run test:unit", "Tests: 1 failed, 2 passed", True), (False, "tests failed")),
        (
            [*shell("cargo test", "test result: FAILED", True), *shell("cargo test", "test result: ok")],
            (True, "tests passed"),
        ),
        ([*shell("go test ./...", "ok"), *shell("gh pr checks", "build\tfail\t1m")], (False, "CI failed")),
        (shell("gh run view 12", "✓ build pass\t12s"), (True, "CI passed")),
        ([*edit("a", "b"), *shell("git checkout -- a.py")], (False, "its changes were undone")),
        ([*edit("alpha", "beta"), *edit("beta", "alpha")], (False, "its changes were undone")),
        ([*edit("a", "b"), *shell("git commit -am x")], (True, "it was committed")),
        (edit("a", "b"), (True, "its edits were kept")),
        (shell("git checkout main"), (None, "nothing says")),
        (shell("ls", "2 failed"), (None, "nothing says")),
        ([], (None, "nothing says")),
        ([turn("user", [{"type": "text", "text": "[Request interrupted by user]"}])], (False, "the user stopped it")),
    ],
)
def test_what_says_whether_it_worked_out(tmp_path: Path, work: list[dict[str, Any]], said: tuple[Any, str]):
    (ask,) = asks(tmp_path, turn("user", PRUNE), *work, END)
    success, _, signal = ask.outcome()
    assert (success, signal) == said


@pytest.mark.parametrize("then", ["No, that's wrong", "still failing", f"{PRUNE}!", "undo that please"])
def test_what_the_user_says_next_counts(tmp_path: Path, then: str):
    first, _ = asks(tmp_path, turn("user", PRUNE), END, turn("user", then), END)
    assert first.outcome()[::2] == (False, "the user said that it is wrong, or asked again")
    first, _ = asks(tmp_path, turn("user", PRUNE), END, turn("user", "now bake a cake"), END)
    assert first.outcome()[0] is None


def test_tokens_are_counted_once_and_priced_by_their_model(tmp_path: Path):
    streamed = turn("assistant", [{"type": "text", "text": "a"}])
    rows = [
        turn("user", PRUNE),
        streamed,
        {**streamed, "timestamp": "2026-03-01T10:30:00Z"},  # the same answer in a second line
        turn("assistant", [{"type": "text", "text": "b"}], model="claude-haiku-4-5"),
        turn("assistant", [], model="<synthetic>"),
        {"type": "user", "isMeta": True, "message": {"content": "no ask"}},
        turn("user", "<command-name>/clear</command-name>"),
    ]
    write(tmp_path / "p" / "s1.jsonl", rows)
    sums = found("--transcripts", str(tmp_path / "p"))
    assert (sums["sessions"], sums["asks"], sums["skipped"]) == (1, 1, 0)
    opus = (1_000 * 5 + 200 * 25 + 10_000 * 0.5 + 50 * 6.25) / 1e6
    assert sums["models"]["claude-opus-4-6"]["cost"] == pytest.approx(opus)
    assert sums["models"]["claude-haiku-4-5"]["cost"] == pytest.approx(opus / 5)
    assert sums["models"].keys() == {"claude-opus-4-6", "claude-haiku-4-5"}
    assert sums["estimates"]["cost"][0] == pytest.approx(opus * 1.2)


def test_who_took_it_and_who_should_have(tmp_path: Path):
    folder = tmp_path / "p"
    given = {"description": "d", "prompt": PRUNE, "subagent_type": "baker"}
    write(
        folder / "s1.jsonl",
        [turn("user", "what is the time"), *call("Agent", given, "Done."), turn("user", PRUNE), END],
    )
    sub = folder / "s1" / "subagents" / "agent-1.jsonl"
    write(sub, [turn("user", PRUNE, sub="x"), turn("assistant", "Done.", sub="baker")])
    (sub.parent / "agent-1.meta.json").write_text('{"agentType": "baker"}')
    sums = found("--transcripts", str(folder))
    assert sums["agents"].keys() == {"", "baker"}
    assert sums["wrong"] == [{"agent": "baker", "better": "gardener", "asks": 1}]
    assert sums["missing"] == [{"agent": "gardener", "asks": 1}]
    assert sums["estimates"]["missing"][0] == 0.5
    assert sums["estimates"]["wrong"][0] == 1.0


def test_a_rollout_of_codex_in_its_old_and_its_new_form(tmp_path: Path):
    def row(kind: str, **payload: Any) -> dict[str, Any]:
        return {"timestamp": "2026-03-01T10:00:00.5Z", "type": kind, "payload": payload}

    def total(n: int) -> dict[str, Any]:
        usage = {"input_tokens": 5_000 * n, "cached_input_tokens": 4_000 * n, "output_tokens": 100 * n}
        return row("event_msg", type="token_count", info={"total_token_usage": usage})

    old = [
        row("session_meta", id="c1", cwd="/w"),
        row("turn_context", model="gpt-5-codex"),
        row(
            "response_item",
            type="message",
            role="user",
            content=[{"type": "input_text", "text": "<environment_context>"}],
        ),
        row("event_msg", type="user_message", message=PRUNE),
        row(
            "response_item",
            type="function_call",
            name="shell",
            call_id="a",
            arguments='{"command":["bash","-lc","pytest"]}',
        ),
        row(
            "response_item", type="function_call_output", call_id="a", output='{"output":"","metadata":{"exit_code":1}}'
        ),
        row("event_msg", type="token_count", info=None),
        total(1),
        total(1),
        row("event_msg", type="user_message", message="bake bread"),
        total(3),
        row("event_msg", type="task_complete"),
    ]
    item = {"type": "UserMessage", "content": [{"type": "text", "text": PRUNE}]}
    ran = {
        "type": "CommandExecution",
        "command": ["bash", "-lc", "cargo test"],
        "exit_code": 0,
        "aggregated_output": "x",
    }
    new = [
        row("session_meta", id="c2", cwd="/w", source={"subagent": {"thread_spawn": {"agent_role": "worker"}}}),
        row("event_msg", type="item_completed", item=item),
        row("event_msg", type="item_completed", item=ran),
        row("event_msg", type="turn_aborted"),
    ]
    first, second = asks(tmp_path, *old)
    assert (first.client, first.session, first.model) == ("codex", "c1", "gpt-5-codex")
    assert tuple(first.tokens) == (1_000, 100, 4_000, 0)
    assert tuple(second.tokens) == (2_000, 200, 8_000, 0)
    assert first.outcome()[::2] == (False, "tests failed")
    (third,) = asks(tmp_path, *new)
    assert (third.agent, third.tests, third.stopped) == ("worker", True, True)


def test_hostile_transcripts_are_named_and_cost_no_more_than_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ruvllm.cli.report.transcripts._MOST_LINE", 10_000)
    folder = tmp_path / "p"
    good = [turn("user", PRUNE), END]
    path = write(folder / "s1.jsonl", good)
    with open(path, "ab") as file:
        file.write(b"\xff\xfe\n\n[1]\n3\n" + b"[" * 9_000 + b"\n" + b'{"a": "' + b"x" * 50_000 + b'"}\n')
        for odd in (
            {"type": "user"}, {"type": "user", "message": 3}, {"type": "assistant", "message": {"content": [3, None]}},
            {"type": "user", "message": {"content": {"a": 1}}}, {"type": {"a": 1}, "payload": {"type": []}},
            {"type": "assistant", "message": {"content": [], "usage": {"input_tokens": -5, "output_tokens": "9"}}},
            {"type": "assistant", "message": {"content": [], "usage": [], "model": 7}},
            {"type": "user", "message": {"content": "x"}, "timestamp": "99999-01-01", "sessionId": [], "cwd": {}},
            {"type": "session_meta", "payload": {"id": "\ud800", "cwd": "/a\x00\ud800b"}},
            {"type": "event_msg", "payload": {"type": "user_message", "message": "y \udfff"}},
            {"type": "turn_context", "payload": {"model": "\ud800"}},
            {"type": "event_msg", "payload": {"type": "token_count", "info": {"total_token_usage": [1]}}},
            {"type": "response_item", "payload": {"type": "function_call", "arguments": "{", "call_id": {}}},
            {"type": "assistant", "message": {"content": [], "usage": {"input_tokens": 10**30}}},
        ):  # fmt: skip
            file.write(json.dumps(odd).encode() + b"\n")
        file.write(b'{"type": "user", "mess')
    os.symlink(path, folder / "link.jsonl")
    os.symlink("/", folder / "everything")
    os.symlink(tmp_path / "gone", folder / "gone.jsonl")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jsonl")
    (folder / "binary.jsonl").write_bytes(bytes(range(256)) * 50)
    result = run("--transcripts", str(folder), "--json", "--html", str(tmp_path / "r.html"))
    sums = json.loads(result.stdout)
    assert sums["skipped"] >= 9
    assert "s1.jsonl:3" in result.stderr
    assert "a link" in result.stderr
    assert sums["agents"][""]["asks"] == sums["asks"] == 3
    assert sums["estimates"]["cost"][0] < 1


class _Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags = set[str]()
        self.attributes = list[tuple[str, str]]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def test_the_page_asks_for_nothing_and_holds_no_markup_and_no_secret_of_others(tmp_path: Path):
    tags, secrets = (
        "<img src=x onerror=alert(1)></text></svg><script>alert(1)</script>",
        "hunter22 sk-ant-0123456789abcdef",
    )
    evil = f"{tags} password = {secrets}"
    rows = [turn("user", f"fix the typo {evil}"), END, turn("assistant", "x", model=tags)]
    rows[0]["cwd"] = f"/w/{evil}"
    write(tmp_path / "p" / "s1.jsonl", rows)
    page = tmp_path / "r.html"
    said = run("--transcripts", str(tmp_path / "p"), "--html", str(page)).output
    text = page.read_text()
    read = _Page()
    read.feed(text)
    assert not read.tags & {"script", "img", "link", "iframe", "object", "a", "form"}
    assert not [name for name, value in read.attributes if name.startswith("on") or name in ("src", "href")]
    assert "default-src 'none'" in text
    assert "://" not in text
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "fix the typo" in text
    for secret in secrets.split():
        shown = text.partition("Asks for a small model")[2] + said.partition("Asks for a small model")[2]
        assert secret not in shown


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("use sk-proj-abcdefghijklmnop1234", "abcdefghijklmnop1234"),
        ("export AWS_SECRET_ACCESS_KEY=abcd/efgh+1234", "abcd/efgh"),
        ("the password is swordfish99", "swordfish99"),
        ('{"apiKey": "a1b2c3d4e5"}', "a1b2c3d4e5"),
        ("Authorization: Bearer abcdef.ghijkl", "abcdef.ghijkl"),
        ("postgres://me:s3cret@db/x", "s3cret"),
        ("mail me@example.org about it", "me@example"),
        ("token ghp_0123456789abcdefghij in it", "0123456789abcdefghij"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----", "MIIabc"),
        ("sha 0123456789abcdef0123456789abcdef01234567", "0123456789abcdef"),
        ("jwt eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM", "eyJzdWIiOiIx"),
    ],
)
def test_secrets_are_left_out(text: str, secret: str):
    assert secret not in redacted(text)


def test_what_is_no_secret_stays():
    for text in (
        PRUNE,
        "fix src/checkout/payment_service.py line 120",
        "why does the password reset fail?",
        "émile's task",
    ):
        assert redacted(text) == text


def test_prices_of_a_file_come_first(tmp_path: Path):
    write(tmp_path / "p" / "s1.jsonl", [turn("user", PRUNE), turn("assistant", "x", model="house-model-7b")])
    result = run("--transcripts", str(tmp_path / "p"))
    assert "no price is known of house-model-7b" in result.stderr
    prices = tmp_path / "prices.toml"
    prices.write_text('[models."house-model"]\ninput = 1.0\noutput = 10\n')
    sums = found("--transcripts", str(tmp_path / "p"), "--prices", str(prices))
    assert sums["estimates"]["cost"][0] == pytest.approx((11_050 + 2_000) / 1e6)
    for text in ('[models."x"]\ninput = -1\noutput = 1', '[models."x"]\ninput = "a"', "nonsense", ""):
        prices.write_text(text)
        assert "price" in run("--transcripts", str(tmp_path / "p"), "--prices", str(prices), status=2).output


def test_outcomes_are_learnt_once(home: Path, tmp_path: Path):
    rows = [turn("user", f"look at frobnicator {n} again", sub="x") for n in range(3)]
    for number, row in enumerate(rows):
        work = [row, *shell("pytest", "1 passed"), turn("assistant", "Done.", sub="baker")]
        path = write(tmp_path / "p" / "s1" / "subagents" / f"agent-{number}.jsonl", work)
        path.with_suffix(".meta.json").write_text('{"agentType": "baker"}')
    args = ("--transcripts", str(tmp_path / "p"), "--state", str(tmp_path / "state.db"))
    run(*args)
    assert not (tmp_path / "state.db").exists()
    assert "Learnt from 3 outcomes" in run(*args, "--learn").output
    assert "Learnt from 0 outcomes" in run(*args, "--learn").output
    with RuvLLM(home / ".claude" / "agents", encoder="static", state=tmp_path / "state.db") as llm:
        assert llm.stats()["feedback"] == 3
        assert llm.route("look at frobnicator 7 again").agent == "baker"


def test_many_sessions_add_up_and_intervals_hold_what_is_estimated(tmp_path: Path):
    write_sessions(tmp_path, 25)
    sums = found("--transcripts", str(tmp_path), "--days", "100000")
    assert sums["sessions"] == 25
    assert sums["skipped"] == 0
    for value, low, high in sums["estimates"].values():
        assert low <= value <= high
    assert 0 < sums["estimates"]["saved"][0] < sums["estimates"]["cost"][0]
    by_model = sum(row["cost"] for row in sums["models"].values())
    assert by_model == pytest.approx(sums["estimates"]["cost"][0])
    assert found("--transcripts", str(tmp_path), "--days", "0.001")["asks"] == 0


def test_where_there_is_nothing_it_says_so(tmp_path: Path):
    assert "no transcripts" in run(status=2).output
    assert "does not exist" in run("--transcripts", str(tmp_path / "gone"), status=2).output
    (tmp_path / "empty").mkdir()
    assert (
        "0 sessions, 0 asks" in run("--transcripts", str(tmp_path / "empty"), "--html", str(tmp_path / "r.html")).output
    )
