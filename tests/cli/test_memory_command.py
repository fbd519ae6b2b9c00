"""`ruvllm memory`: what a person or a program sees of it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ruvllm import RuvLLM
from ruvllm.cli.main import main
from ruvllm.memory.records import Records
from ruvllm.state.record import Memory
from ruvllm.state.store import Store


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test may read or write what whoever runs it remembers."""
    monkeypatch.setenv("RUVLLM_STATE", str(tmp_path / "state.db"))
    return tmp_path / "state.db"


def run(*args: object, stdin: str | bytes | None = None, code: int = 0, env: dict[str, str] | None = None) -> Result:
    """Run `ruvllm memory …`; nothing but a clean exit is ever acceptable."""
    result = CliRunner().invoke(main, ["memory", *(str(arg) for arg in args)], input=stdin, env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    return result


def add(*texts: str, **options: str) -> list[int]:
    named = [part for name, value in options.items() for part in (f"--{name}", value)]
    return told(run("add", *texts, "--encoder", "static", "--json", *named))["ids"]  # type: ignore[no-any-return]


def told(result: Result) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


def search(query: str, *options: object) -> list[int]:
    return [row["id"] for row in told(run("search", query, "--encoder", "static", "--json", *options))]


def damage(path: Path, statement: str) -> None:
    """Change the file behind ruvllm's back."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()


def test_what_was_added_is_found():
    (first,) = add("The staging database is reset every Monday", metadata='{"team": "web"}')
    (second,) = add("Refunds need two approvals", kind="Fact", collection="faq")
    assert search("when does staging lose its data?") == [first]
    assert search("refunds", "--collection", "faq") == [second]
    assert search("staging", "--filter", '{"team": "shop"}') == []
    table = run("search", "staging", "--encoder", "static").stdout
    assert "The staging database" in table
    assert "Score" in table
    assert told(run("stats", "--json"))["collections"] == {"default": 1, "faq": 1}
    with closing(Store(run_state())) as store:
        assert Records(store).get([first])[0].accesses == 2  # a search that returned it, twice


def run_state() -> str:
    return str(told(run("stats", "--json"))["state"])


def test_the_sessions_that_have_most_to_do_with_a_query():
    for session, text in (("s1", "the violin is varnished"), ("s2", "soup of the day"), ("s1", "the violin is strung")):
        add(text, metadata=json.dumps({"session": session}))
    (found,) = told(run("search", "violin", "--sessions", "-k", 1, "--json"))
    assert (found["session"], len(found["memories"])) == ("s1", 2)
    assert "the violin is" in run("search", "violin", "--sessions").stdout


def test_lines_from_a_pipe_are_memories_whatever_else_is_in_them():
    ids = told(run("add", "-", "--json", "--encoder", "static", stdin="one\u2028still one\r\n\n two \n".encode()))[
        "ids"
    ]
    assert len(ids) == 2
    with closing(Store(run_state())) as store:
        assert [one.text for one in Records(store).get(ids)] == ["one\u2028still one", "two"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("add", " "), "there is no text"),
        (("add", "x", "--metadata", "[]"), "--metadata cannot be read"),
        (("add", "x", "--metadata", "{"), "--metadata cannot be read"),
        (("search", " "), "the query is empty"),
        (("search", "x", "--filter", '{"$x": 1}'), "$x is no logical operator"),
        (("link", 1, 2), "there is no memory 1"),
        (("link", 1, 1), "cannot be linked to itself"),
        (("check", "--out", "x.db"), "Add --repair"),
        (("check",), "there is no file"),
        (("link", 1, 2, "--kind", "Likes"), "Likes"),
        (("link", 1, 2, "--weight", 2), "2"),
        (("bind", 1), "a hyperedge of 1 memories"),
        (("bind", 1, 2), "there is no memory 1"),
        (("bind", 1, 2, "--metadata", "[]"), "--metadata cannot be read"),
        (("graph", 5), "there is no memory 5"),
        (("forget", 0), "0"),
        (("consolidate", "--most", 3), "3"),
    ],
)
def test_a_mistake_is_one_line_with_a_fix(args: tuple[object, ...], says: str):
    result = run(*args, code=2)
    assert says in result.stderr


def test_bytes_that_are_no_text_are_named_by_their_line(tmp_path: Path):
    assert "line 2" in run("add", "-", stdin=b"one\n\xff\n", code=2).stderr
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "one"}\n{"text": "\xff"}\n')
    assert "line 2" in run("import", tmp_path / "bad.jsonl", code=2).stderr


def test_who_only_asks_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RUVLLM_STATE")
    monkeypatch.setattr("click.get_app_dir", lambda name: str(tmp_path / "home"))
    assert search("anything") == []
    run("stats")
    run("export")
    assert not (tmp_path / "home").exists()
    add("now it is made")
    assert search("made") == [1]


def test_what_was_exported_can_be_imported_elsewhere(tmp_path: Path):
    first, second = add("one\u2028line", "another")
    run("link", first, second, "--kind", "Cites", "--weight", 0.5)
    out = tmp_path / "memories.jsonl"
    assert "wrote 3 lines" in run("export", "--out", out).stdout
    assert run("export").stdout == out.read_text("utf-8")
    other = tmp_path / "other.db"
    assert told(run("import", out, "--state", other, "--encoder", "static", "--json")) == {
        "memories": 2,
        "edges": 1,
        "there": 0,
        "skipped": 0,
    }
    assert run("export", "--state", other).stdout == out.read_text("utf-8")


def test_an_export_that_fails_leaves_no_file_and_not_the_half_of_one(tmp_path: Path, state: Path):
    ids = add("one", "two", "three")
    out = tmp_path / "memories.jsonl"
    out.write_text("before")
    damage(state, f"UPDATE memories SET metadata = '[' WHERE id = {ids[2]}")
    assert "damaged" in run("export", "--out", out, code=2).stderr
    assert out.read_text() == "before"
    assert not list(tmp_path.glob("*.part"))
    assert "cannot be written" in run("export", "--out", tmp_path / "none" / "x", code=2).stderr


def test_what_is_linked_to_a_hit_is_looked_at_too(state: Path):
    first, second = add("The staging database is reset every Monday", "Ask Ms Meyer for the calendar of the move")
    damage(state, f"UPDATE memories SET archived = 1 WHERE id = {second}")
    assert search("staging database", "--hops", 1) == [first]
    assert "weight 0.5" in run("link", first, second, "--kind", "Cites", "--weight", 0.5).stdout
    rows = told(run("search", "staging database", "--hops", 1, "--encoder", "static", "--json"))
    assert [(row["id"], row["hops"]) for row in rows] == [(first, 0), (second, 1)]
    assert "is gone" in run("link", first, second, "--kind", "Cites", "--remove").stdout
    assert "was not there" in run("link", first, second, "--kind", "Cites", "--remove", code=1).stdout


def test_memories_that_belong_together():
    one, two, three = add("The staging database is reset every Monday", "Backups run at night", "Paint dries in a day")
    assert told(run("bind", one, two, three, "--weight", 0.5, "--metadata", '{"topic": "x"}', "--json"))["id"] == 1
    shown = told(run("graph", one, "--json"))
    (bound,) = shown["hyperedges"]
    assert bound == {
        "id": 1,
        "members": [one, two, three],
        "kind": "SameTopic",
        "weight": 0.5,
        "metadata": {"topic": "x"},
    }
    assert {node["id"]: node["hops"] for node in shown["nodes"]} == {one: 0, two: 1, three: 1}
    assert "#1: 1, 2, 3" in run("graph", one).stdout
    assert "is gone" in run("bind", "--remove", 1).stdout
    assert "was not there" in run("bind", "--remove", 1, code=1).stdout
    assert told(run("graph", one, "--json"))["hyperedges"] == []


def test_vectors_are_compressed_and_counted(state: Path):
    add("The staging database is reset every Monday")
    assert "nothing to gain" in run("tier").stdout
    random = np.random.default_rng(0)
    with closing(RuvLLM(encoder="static", state=state)) as llm:
        memory = llm.memory
        rows = random.standard_normal((2_100, memory.encoder.dim)).astype(np.float32)
        ids = memory.add_encoded([Memory(f"text {i}") for i in range(len(rows))], rows)
        memory.records.count_accesses([(i, i) for i in ids])
    tiers = told(run("tier", "--encoder", "static", "--json"))["default"]
    assert [one["count"] for one in tiers.values()] == pytest.approx([420, 840, 630, 210, 1], abs=2)
    stats = told(run("stats", "--encoder", "static", "--json"))
    assert stats["tiers"]["default"] == tiers
    assert "420 f32" in run("stats", "--encoder", "static").stdout
    assert search("staging database", "-k", 1, "--recall", 1) == [1]
    assert "whole vectors" in run("tier", "--encoder", "static", code=2, env={"RUVLLM_MEMORY_INDEX": "hnsw"}).stderr


@pytest.mark.parametrize("kind", ["flat", "binary", "ivf", "hnsw"])
def test_a_kind_of_index_may_be_named(kind: str):
    first, _ = add("The staging database is reset every Monday", "Paint dries in a day")
    assert search("staging database", "--index", kind) == [first]
    result = run("stats", "--json", env={"RUVLLM_MEMORY_INDEX": "annoy"}, code=2)
    assert "memory.index is 'annoy'. use one of auto, flat" in result.stderr


def test_when_it_held_whose_it_is_and_why_it_was_found():
    add("The office is in Graz.", "--valid-from", "2024", "--valid-to", "May 2025", "--speaker", "Ada")
    add("The office is in Linz.", "--valid-from", "May 2025", "--agent", "cook")
    result = run("search", "where is the office?", "--why", "--at", "April 2024").stdout
    assert "2024-01-01   2025-05-01" in result
    assert "Speaker" in result
    first, *_ = told(run("search", "where is the office?", "--json", "--agent", "cook"))
    assert (first["id"], first["said"], first["until"]) == (2, 1, None)
    assert search("where is the office?", "--agent", "baker") == [1]
    (row,) = told(run("timeline", 1, "--json"))
    assert (row["metadata"]["speaker"], row["closed"]["reason"]) == ("Ada", "it was given so")
    assert run("add", "x", "--valid-to", "soon", code=2).stderr.startswith("error: valid_to is 'soon'")
    assert told(run("forget", "--filter", '{"agent_id": "cook"}', "--dry-run", "--json"))["found"] == 1
    assert told(run("forget", "--filter", '{"agent_id": "cook"}', "--json"))["forgotten"] == 1
    assert told(run("forget", "--before", "2020-01-01", "--json"))["forgotten"] == 0


def test_forget_says_what_was_there():
    first, second = add("one", "two")
    assert told(run("forget", first, 99, first, "--json", code=1)) == {"forgotten": 1, "missing": 1}
    assert "forgot 1" in run("forget", second).stdout
    assert told(run("stats", "--json"))["collections"] == {}


def test_consolidate_says_what_it_did():
    texts = [f"the staging database is reset on day {n}" for n in range(30)]
    add(*texts)
    assert "nothing to do" in run("consolidate", "--most", 30).stdout
    done = told(run("consolidate", "--most", 20, "--alike", 0.5, "--json"))
    assert done["before"] == 30
    assert done["after"] == 30 - done["archived"] + done["concepts"] <= 20
    add(*texts)
    assert "concepts" in run("consolidate", "--most", 20, "--alike", 0.5).stdout
    assert told(run("stats", "--json"))["collections"]["default"] <= 20


def test_a_whole_file_is_told_to_be_whole(state: Path):
    add("one")
    before = state.read_bytes()
    assert "is whole: 1 memories" in run("check").stdout
    report = told(run("check", "--json"))
    assert (report["ok"], report["findings"], report["counts"]["memories"]) == (True, [], 1)
    assert not told(run("check", "--repair", "--json"))["repaired"]
    assert state.read_bytes() == before


def test_damage_is_named_and_repaired(state: Path, tmp_path: Path):
    first, second = add("one", "two")
    damage(state, f"UPDATE memories SET text = 'other' WHERE id = {first}")
    table = run("check", code=1).stdout
    assert "checksum" in table
    assert "--repair" in table
    report = told(run("check", "--json", code=1))
    assert (report["ok"], report["repaired"], report["findings"][0]["field"]) == (False, False, "memories")
    out = tmp_path / "good.db"
    assert str(out) in run("check", "--repair", "--out", out).stdout
    assert told(run("check", "--json", code=1))["ok"] is False  # it is as it was
    mended = run("check", "--repair").stdout
    assert "broken-1" in mended
    assert "1 memories" in mended
    assert told(run("check", "--json"))["ok"]
    assert search("two") == [second]


def test_a_file_without_a_header_is_repaired(state: Path):
    (only,) = add("the only one")
    with closing(sqlite3.connect(state)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    state.write_bytes(bytes(100) + state.read_bytes()[100:])
    run("search", "one", code=2)
    run("check", code=1)
    run("check", "--repair")
    assert search("the only one") == [only]


def test_what_was_remembered_cannot_drive_the_terminal():
    add("\x1b[31mred\x07 \u202e text")
    assert "\x1b[31m" not in run("search", "red", "--encoder", "static").stdout


@pytest.mark.parametrize(
    "command", ["", "add", "search", "check", "link", "bind", "graph", "tier", "forget", "consolidate"]
)
def test_every_help_has_examples(command: str):
    assert "Examples:" in run(*command.split(), "--help").stdout


FACTS = ("The staging database is reset every Monday", "Refunds above 500 euros need two approvals")


def test_hits_that_have_nothing_to_do_with_the_query_are_hidden():
    first, second = add(*FACTS)
    result = run("search", "when does staging lose its data?", "--encoder", "static", "--json")
    assert [row["id"] for row in told(result)] == [first]
    assert "not shown: 1 of a score below 0.2; --min-score -1 shows all" in result.stderr
    result = run("search", "how do whales sleep?", "--encoder", "static")
    assert "staging" not in result.stdout
    assert "not shown: 2" in result.stderr
    assert set(search("how do whales sleep?", "--min-score", -1)) == {first, second}
    assert search("when does staging lose its data?", "--min-score", 0.9) == []


def test_a_search_that_finds_nothing_names_other_collections():
    add(*FACTS, collection="faq")
    add("Ms Meyer keeps the keys", collection="notes")
    missing = run("search", "staging", "--encoder", "static", "--json")
    assert json.loads(missing.stdout) == []
    assert "default holds nothing; choose with --collection among: faq (2), notes (1)" in missing.stderr
    near = run("search", "staging", "--encoder", "static", "--collection", "note").stderr
    assert "note holds nothing; choose with --collection among: notes (1), faq (2)" in near
    unlike = run("search", "how do whales sleep?", "--encoder", "static", "--collection", "faq").stderr
    assert "nothing like it is in faq; choose with --collection among: notes (1)" in unlike
    assert "faq (2)" in run("export", "--collection", "fag").stderr
    good = run("search", "staging database", "-k", 1, "--encoder", "static", "--collection", "faq")
    assert good.stderr == ""


def test_an_import_names_the_collections_that_it_filled(tmp_path: Path):
    lines = [{"text": text, "collection": name} for text, name in zip(FACTS, ("faq", "default"), strict=True)]
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    result = run("import", file, "--encoder", "static")
    assert "added 2 memories and 0 edges" in result.stdout
    assert "default (1), faq (1); a search finds them with --collection" in result.stderr
    file.write_text(json.dumps({"text": "one more"}), "utf-8")
    assert run("import", file, "--encoder", "static").stderr == ""


def test_half_a_character_is_replaced_where_it_comes_in():
    add("staging \ud800 is reset", metadata=r'{"a\udc00": ["\ud83d\ude00"]}')
    add("the keys \udcff of staging", metadata=r'{"team": "\ud800"}')
    found = told(run("search", "staging \udcff", "--encoder", "static", "--json", "--min-score", -1))
    assert {row["text"]: row["metadata"] for row in found} == {
        "staging \ufffd is reset": {"a\ufffd": ["😀"]},
        "the keys \ufffd of staging": {"team": "\ufffd"},
    }
    assert search("staging", "--collection", "x\udcff") == []


def test_what_is_damaged_comes_with_the_command_that_mends_it(state: Path):
    add("one")
    damage(state, "UPDATE memories SET metadata = '['")
    said = run("search", "one", "--encoder", "static", "--min-score", -1, code=2).stderr
    assert "the metadata of memory 1 are damaged. repair the state file (`ruvllm memory check --repair`)" in said
