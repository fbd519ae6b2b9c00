"""`ruvllm memory import` of what other programs wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ruvllm import StoreError
from ruvllm.cli.main import main
from ruvllm.cli.memory.imports import Importer, Talk


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUVLLM_STATE", str(tmp_path / "state.db"))


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["memory", *map(str, args), "--encoder", "static", "--json"])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def imported(path: Path, *options: object) -> dict[str, int]:
    return json.loads(run("import", path, *options).splitlines()[-1])  # type: ignore[no-any-return]


def added(memories: int, edges: int, there: int = 0, skipped: int = 0) -> dict[str, int]:
    return {"memories": memories, "edges": edges, "there": there, "skipped": skipped}


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
    assert imported(path) == added(2, 1)
    hit = found("reset_walrus")
    assert len(hit["metadata"].pop("import")) == 24
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
    assert imported(path) == added(2, 1)
    assert found("sourdough starter")["metadata"]["session"] == "Bread"


def test_markdown_and_mbox(tmp_path: Path):
    (tmp_path / "notes.md").write_text(
        "intro\n\n# Deploys\n\nTwo approvals.\n\n## Rollback\n\nUse the zeppelin script.\n"
    )
    assert imported(tmp_path / "notes.md") == added(3, 2)
    assert found("zeppelin script")["text"].startswith("## Rollback")
    head = "From: Ann Lee <a@b.c>\nSubject: Re: Budget\nDate: Mon, 5 Jan 2026 10:00:00 +0000"
    mail = f"From a@b.c Mon Jan  5 10:00:00 2026\n{head}\n\nThe budget is 40 guilders.\n\n"
    (tmp_path / "all.mbox").write_text(mail)
    assert imported(tmp_path / "all.mbox") == added(1, 0)
    hit = found("how many guilders?")
    assert hit["metadata"]["speaker"] == "Ann Lee"
    assert hit["metadata"]["session"] == "Budget"


@pytest.mark.parametrize(("name", "text"), [("x.json", "{}"), ("x.json", "[1]"), ("x.json", "nonsense")])
def test_what_is_of_another_form_is_refused(name: str, text: str, tmp_path: Path):
    (tmp_path / name).write_text(text)
    result = CliRunner().invoke(main, ["memory", "import", str(tmp_path / name), "--encoder", "static"])
    assert result.exit_code != 0


def test_one_bad_item_stops_no_other_and_what_is_there_is_not_added_again(tmp_path: Path):
    def talk(title: object, text: object, when: object = 1e9) -> dict[str, Any]:
        row = {"author": {"role": "user"}, "content": {"parts": [text]}, "create_time": when}
        return {"title": title, "mapping": {"a": {"message": row}}}

    bad: list[Any] = [7, None, {}, {"mapping": []}, {"mapping": {"a": {"message": {"author": 3}}}}]
    odd = [talk("x", {"no": "text"}), talk(["t"], "a list for a title", "soon"), talk(None, "the time is odd", -1e99)]
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([talk("one", "first walrus"), *bad, *odd, talk("two", "last \ud800 zeppelin")]))
    assert imported(path) == added(4, 0, skipped=5)
    assert imported(path) == added(0, 0, there=4, skipped=5)
    assert found("zeppelin")["metadata"]["session"] == "two"
    assert "observed_at" not in found("the time is odd")["metadata"]

    head = "From a@b.c Mon Jan  5 10:00:00 2026\n"
    mails = [
        "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nDate: never\nFrom: =?x-none?b?!!!?=\n\nThe budget is 40 guilders.\n",
        "Content-Type: text/plain; charset=no-such\nSubject: [odd\n\n\xff\xfe abacus\n",
        "Content-Type: multipart/mixed; boundary=q\n\n--q\nContent-Type: text/html\n\n<style>b{}</style><b>A</b> kazoo"
        "\n--q--\n",
        "\x00\x01 nothing of a mail\n",
    ]
    box = tmp_path / "all.mbox"
    box.write_bytes("\n".join(head + mail for mail in mails).encode("latin-1"))
    counts = imported(box)
    assert counts["memories"] + counts["skipped"] >= 3
    assert found("how many guilders?")["metadata"]["session"] == "Grüße"
    assert "b{}" not in found("kazoo")["text"]
    assert "abacus" in found("abacus")["text"]

    rows = ['{"type": "user", "sessionId": "s", "message": {"content": "a trombone"}}', "{", "[" * 5_000, "7", "\x00",
            '{"type": "user", "sessionId": {}, "timestamp": [1], "message": {"content": [{"type": "text"}, 3, "ok"]}}',
            '{"type": "user", "message": {"content": "cut o']  # fmt: skip
    lines = tmp_path / "session.jsonl"
    lines.write_text("\n".join(rows))
    assert imported(lines, "--from", "claude") == added(2, 1, skipped=5)


def test_an_import_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "notes.md"
    path.write_text("\n".join(f"# Part {n}\n\nIt says {n}.\n" for n in range(300)))
    keep = Importer.keep

    def stopped(self: Importer, talk: Talk) -> None:
        if self.memories >= 128:
            raise StoreError("stopped")
        keep(self, talk)

    with monkeypatch.context() as once:
        once.setattr(Importer, "keep", stopped)
        assert "stopped" in run("import", path, code=2)
    assert imported(path) == added(172, 172, there=128)
    assert imported(path) == added(0, 0, there=300)
