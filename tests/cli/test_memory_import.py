"""`ruvllm memory import` of what other programs wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ruvllm.cli.main import main


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUVLLM_STATE", str(tmp_path / "state.db"))


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["memory", *map(str, args), "--encoder", "static", "--json"])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def imported(path: Path, *options: object) -> dict[str, int]:
    return json.loads(run("import", path, *options).splitlines()[-1])  # type: ignore[no-any-return]


def found(query: str) -> dict[str, Any]:
    return json.loads(run("search", query, "--min-score", -1).splitlines()[-1])[0]  # type: ignore[no-any-return]


def test_claude_code(tmp_path: Path):
    rows: list[dict[str, Any]] = [
        {"type": "summary", "sessionId": "s1", "summary": "x"},
        {"type": "user", "sessionId": "s1", "timestamp": "2026-01-05T10:00:00Z",
         "message": {"role": "user", "content": "Where is the walrus cache cleared?"}},
        {"type": "assistant", "sessionId": "s1", "timestamp": "2026-01-05T10:01:00Z",
         "message": {"content": [{"type": "text", "text": "In reset_walrus, password=hunter2secret"},
                                 {"type": "tool_use"}]}},
    ]  # fmt: skip
    path = tmp_path / "session.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert imported(path) == {"memories": 2, "edges": 1}
    hit = found("reset_walrus")
    assert hit["metadata"] == {"speaker": "assistant", "session": "s1", "observed_at": "2026-01-05T10:01:00Z"}
    assert "hunter2secret" not in hit["text"]


def test_chatgpt(tmp_path: Path):
    def node(role: str, text: str, when: float) -> dict[str, Any]:
        return {"message": {"author": {"role": role}, "content": {"parts": [text]}, "create_time": when}}

    mapping = {
        "b": node("assistant", "Use a sourdough starter.", 2e9),
        "a": node("user", "How do I bake rye bread?", 1e9),
    }
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([{"title": "Bread", "mapping": mapping | {"root": {"message": None}}}]))
    assert imported(path) == {"memories": 2, "edges": 1}
    assert found("sourdough starter")["metadata"]["session"] == "Bread"


def test_markdown_and_mbox(tmp_path: Path):
    (tmp_path / "notes.md").write_text(
        "intro\n\n# Deploys\n\nTwo approvals.\n\n## Rollback\n\nUse the zeppelin script.\n"
    )
    assert imported(tmp_path / "notes.md") == {"memories": 3, "edges": 2}
    assert found("zeppelin script")["text"].startswith("## Rollback")
    head = "From: Ann Lee <a@b.c>\nSubject: Re: Budget\nDate: Mon, 5 Jan 2026 10:00:00 +0000"
    mail = f"From a@b.c Mon Jan  5 10:00:00 2026\n{head}\n\nThe budget is 40 guilders.\n\n"
    (tmp_path / "all.mbox").write_text(mail)
    assert imported(tmp_path / "all.mbox") == {"memories": 1, "edges": 0}
    hit = found("how many guilders?")
    assert hit["metadata"]["speaker"] == "Ann Lee"
    assert hit["metadata"]["session"] == "Budget"


@pytest.mark.parametrize(("name", "text"), [("x.json", "{}"), ("x.json", "[1]"), ("x.json", "nonsense")])
def test_what_is_of_another_form_is_refused(name: str, text: str, tmp_path: Path):
    (tmp_path / name).write_text(text)
    result = CliRunner().invoke(main, ["memory", "import", str(tmp_path / name), "--encoder", "static"])
    assert result.exit_code != 0
