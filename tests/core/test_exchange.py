from __future__ import annotations

import json
from typing import Any

import pytest

from ruvllm import InputError, RuvLLM
from ruvllm.memory import exchange
from ruvllm.memory.exchange import export_lines, import_lines
from ruvllm.memory.memory import MemoryStore
from ruvllm.state.record import Memory
from ruvllm.state.store import Store


@pytest.fixture
def memory(static_llm: RuvLLM) -> MemoryStore:
    return MemoryStore(static_llm.encoders.static, Store())


@pytest.fixture
def full(memory: MemoryStore) -> MemoryStore:
    """Some of everything, with what is hard to keep on one line."""
    told = [
        Memory("one\nline\u2028and\x85another", metadata={"größe": [1, {"x": None}]}),
        Memory("two", "Fact", "notes", quality=0.25),
        Memory("three 🦊"),
        Memory("four"),
    ]
    a, b, c, d = memory.add(told)
    memory.graph.link(a, b, "Cites", 0.75)
    memory.graph.link(c, a, "Follows")
    memory.graph.bind([a, c, d], "SameTopic", 0.5, {"why": "x"})
    memory.archive([d])
    return memory


def content(memory: MemoryStore) -> dict[str, Any]:
    """All of it, by text instead of by id."""
    ids = [row[0] for row in memory.store.read("SELECT id FROM memories ORDER BY id")]
    told = {one.id: one for one in memory.records.get(ids)}
    text = {i: one.text for i, one in told.items()}
    edges = memory.store.read("SELECT source, target, kind, weight FROM edges")
    return {
        "memories": [
            (one.text, one.kind, one.collection, one.metadata, one.quality, one.archived) for one in told.values()
        ],
        "edges": {(text[source], text[target], kind, weight) for source, target, kind, weight in edges},
        "bindings": [
            ([text[i] for i in one.members], one.kind, one.weight, one.metadata) for one in memory.graph.bindings(ids)
        ],
    }


def test_what_was_written_comes_back_under_new_ids(full: MemoryStore, static_llm: RuvLLM):
    lines = list(export_lines(full))
    assert all("\n" not in line and isinstance(json.loads(line), dict) for line in lines)
    other = MemoryStore(static_llm.encoders.static, Store())
    (there,) = other.add("there before")
    steps = list[int]()
    assert import_lines(other, "\n".join([*lines, "", " "]).split("\n"), lambda: steps.append(1)) == (4, 3)
    assert len(steps) == len(lines) + 2
    other.forget([there])
    assert content(other) == content(full)
    assert [one.memory.text for one in other.search("two", 1, collection="notes")] == ["two"]
    assert "four" not in [one.memory.text for one in other.search("four", 9)]


def test_one_collection_is_written_with_the_edges_inside_it(full: MemoryStore):
    rows = [json.loads(line) for line in export_lines(full, "notes")]
    assert [row["text"] for row in rows] == ["two"]
    rows = [json.loads(line) for line in export_lines(full, "default")]
    assert len([row for row in rows if "source" in row]) == len([row for row in rows if "members" in row]) == 1
    assert list(export_lines(full, "none")) == []


def test_pages_do_not_show(full: MemoryStore, static_llm: RuvLLM, monkeypatch: pytest.MonkeyPatch):
    lines = list(export_lines(full))
    monkeypatch.setattr(exchange, "_PAGE", 2)
    assert list(export_lines(full)) == lines
    other = MemoryStore(static_llm.encoders.static, Store())
    assert import_lines(other, lines) == (4, 3)
    assert content(other) == content(full)


def test_what_others_write_may_leave_out_what_has_a_default(memory: MemoryStore):
    assert import_lines(memory, ['{"text": "plain"}', '{"text": "again", "quality": 0}']) == (2, 0)
    assert [(text, quality) for text, _, _, _, quality, _ in content(memory)["memories"]] == [
        ("plain", 1.0),
        ("again", 0.0),
    ]


GOOD = '{"id": 1, "text": "good"}'
DEEP = '{"text": "x", "metadata": ' + '{"a":' * 5_000 + "1" + "}" * 5_001


@pytest.mark.parametrize(
    "bad",
    [
        "no json", "[1]", "{}", '{"text": 5}', '{"text": ""}', '{"text": "x", "more": 1}',
        '{"text": "x", "kind": "Thing"}',
        '{"text": "x", "quality": 2}', '{"text": "x", "quality": 1e999}', '{"text": "x", "metadata": []}',
        '{"text": "x", "id": "1"}', '{"text": "x", "archived": 1}', '{"text": "x", "collection": null}',
        DEEP, '{"text": "' + "x" * 8_000_000 + '"}',
        '{"source": 1, "target": 7, "kind": "Cites", "weight": 1}',
        '{"source": 1, "target": 1, "kind": "Cites", "weight": 1}',
        '{"source": 1, "target": 2, "kind": "Thing", "weight": 1}',
        '{"source": 1, "target": 2, "kind": "Cites", "weight": NaN}',
        '{"source": 1, "target": 2, "kind": "Cites", "weight": ' + "9" * 400 + "}",
        '{"source": [1], "target": 2, "kind": "Cites", "weight": 1}',
        '{"source": 1, "target": 2, "kind": ["Cites"], "weight": 1}',
        '{"members": [1], "kind": "Cites", "weight": 1, "metadata": {}}',
        '{"members": 1, "kind": "Cites", "weight": 1, "metadata": {}}',
        '{"members": [1, 2], "kind": "Cites", "weight": true, "metadata": {}}',
        '{"members": [1, 2], "kind": "Cites", "weight": 1, "metadata": null}',
    ],
    ids=lambda line: line[:60],
)  # fmt: skip
def test_a_bad_line_is_named_and_what_stood_before_it_is_kept(bad: str, memory: MemoryStore):
    other, edge = '{"id": 2, "text": "other"}', '{"source": 1, "target": 2, "kind": "Follows", "weight": 1}'
    with pytest.raises(InputError) as caught:
        import_lines(memory, [GOOD, other, edge, bad, '{"text": "after"}'])
    assert caught.value.field == "line 4"
    assert "line 4" in caught.value.message
    assert caught.value.fix
    assert len(caught.value.message) <= 300
    assert [row[0] for row in content(memory)["memories"]] == ["good", "other"]
    assert content(memory)["edges"] == {("good", "other", "Follows", 1.0)}
    skipped = list[tuple[str, str]]()
    assert import_lines(memory, [bad, '{"text": "after"}'], skip=lambda *one: skipped.append(one)) == (1, 0)
    assert skipped[0][0] == "line 1"
    assert skipped[0][1]


def test_metadata_as_deep_as_may_be_come_back(memory: MemoryStore, static_llm: RuvLLM):
    deep: Any = 1
    for _ in range(99):
        deep = {"x": deep}
    memory.add(Memory("deep", metadata={"x": deep}))
    other = MemoryStore(static_llm.encoders.static, Store())
    assert import_lines(other, export_lines(memory)) == (1, 0)
    assert content(other) == content(memory)
