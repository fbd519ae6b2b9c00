"""Forgetting so that nothing is left: not in the file, its log, what was learnt, set aside or saved beside it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ruvllm.errors import InputError, StoreError
from ruvllm.memory.filters import Filter, compile_filter
from ruvllm.memory.memory import MemoryStore
from ruvllm.state.record import ids_of
from ruvllm.state.store import Store
from ruvllm.text.dates import first_date

_COPIES = (".broken-*", ".repairing", ".part")
_PIECE = 1 << 20  # bytes of a file that are looked at together
_PAIR = re.compile(r"Q: (.*?)\nA: (.*)", re.DOTALL)
_SINGULAR = 24  # characters from which a question or an answer is nobody else's
_SHORTEST = 12  # bytes of a text that is looked for within others: shorter ones stand everywhere
# Columns that may repeat what a memory says, and are nobody's own without it.
_REPEATING = (("turns", ("question", "answer")), ("feedback", ("text",)), ("outcomes", ("text",)))


def expired(store: Store, now: datetime | None = None) -> list[int]:
    """Ids of memories whose `expires` (ISO date or time, or seconds since 1970) among the metadata has passed."""
    moment = now or datetime.now(UTC)
    sql = (
        "SELECT id FROM memories WHERE CASE json_type(metadata, '$.expires')"
        " WHEN 'text' THEN json_extract(metadata, '$.expires') <= ?"
        " WHEN 'integer' THEN json_extract(metadata, '$.expires') <= ?"
        " WHEN 'real' THEN json_extract(metadata, '$.expires') <= ? END ORDER BY id"
    )
    text, seconds = moment.strftime("%Y-%m-%dT%H:%M:%S"), moment.timestamp()
    return [row[0] for row in store.read(sql, (text, seconds, seconds))]


def chosen(
    store: Store, filter: Filter | None = None, *, collection: str | None = None, before: object = None
) -> list[int]:
    """Ids of memories that a policy names: all that is given must hold.

    Args:
        filter: what their metadata must fulfil; see `filters.compile_filter`.
        collection: that they are in.
        before: a date; they were remembered before its first day.

    Raises:
        InputError: nothing is given, no such filter, or no date.
    """
    if not filter and collection is None and before is None:
        raise InputError("nothing says what to forget", field="filter", fix="give a filter, a collection or a date")
    where, values = compile_filter(filter or {})
    if collection is not None:
        where, values = f"{where} AND collection = ?", [*values, collection]
    if before is not None:
        where, values = f"{where} AND created < ?", [*values, beginning_of(before)]
    return [row[0] for row in store.read(f"SELECT id FROM memories WHERE {where} ORDER BY id", values)]


def beginning_of(before: object) -> float:
    """When a date begins, in seconds since 1970. Raises InputError: it is none."""
    span = first_date(before)
    if span is None:
        raise InputError(f"before is {before!r}"[:80], field="before", fix='give a date such as "2023-05-08"')
    return datetime(span.first.year, span.first.month, span.first.day, tzinfo=UTC).timestamp()


def texts_of(memory: MemoryStore, ids: Iterable[int]) -> list[str]:
    """All texts that go with these memories when they are erased: theirs, and of what came of them."""
    return _together(memory, ids_of(list(ids)))[1]


def erase(memory: MemoryStore, ids: Iterable[int]) -> int:
    """Remove memories so that no byte of their texts is left; returns how many there were.

    With them go: concepts with the same text, what was written back that repeats it or that it repeats (questions with
    their answers, statements), conversation turns and feedback that repeat it, what is set aside or
    learnt with it (that is learnt again), saved indexes, and copies that a repair left beside the file. The file is
    written anew, which takes as long as it is large.

    Raises:
        InputError: these are no ids.
        StoreError: another process has the file open, or it cannot be written. Memories may be gone by then; call it
            again.
    """
    wanted = ids_of(list(ids))
    alike, texts = _together(memory, wanted)
    store = memory.store
    store.flush()
    there = [one for one in _REPEATING if store.read("SELECT 1 FROM sqlite_master WHERE name = ?", one[:1])]
    with store.write() as db, store.erasing():
        gone = memory.forget([*wanted, *alike]) - len(alike)
        for text in texts:
            test = "instr({}, ?)" if len(text.encode()) >= _SHORTEST else "{} = ?"
            for table, columns in there:
                where = " OR ".join(map(test.format, columns))
                db.execute(f"DELETE FROM {table} WHERE {where}", (text,) * len(columns))
            for form in _forms(text):
                db.execute("DELETE FROM learnt WHERE instr(data, ?)", (form,))
        store.set_aside.erase_texts([form for text in texts for form in _forms(text)])
    store.flush()
    with store.alone() as db:
        db.execute("VACUUM")
        (busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        fix = "stop the other processes that have it open, and erase again"
        raise StoreError(f"the log of {store.path} could not be emptied", field="state", fix=fix)
    if store.path != ":memory:":
        _remove_copies(Path(store.path), [form for text in texts for form in _forms(text)])
    return gone


def _together(memory: MemoryStore, ids: Sequence[int]) -> tuple[set[int], list[str]]:
    """(what else goes with these memories, the texts of all of them)."""
    texts = [one.text for one in memory.records.get(ids)]
    alike = {one for text in texts for one in _repeating(memory.store, text)} - {*ids}
    texts += [one.text for one in memory.records.get(sorted(alike))]
    return alike, list(dict.fromkeys(part for text in texts for part in _parts(text)))


def _parts(text: str) -> tuple[str, ...]:
    """A text, with its question and its answer where it is such a pair, unless anybody may have said these."""
    match = _PAIR.fullmatch(text)
    parts = match.groups() if match else ()
    return text, *(part for part in parts if len(part) >= _SINGULAR)


def _repeating(store: Store, text: str) -> list[int]:
    """What repeats a text: concepts of it, and what came of answers that holds it or stands in it."""
    sql = (
        "SELECT id FROM memories WHERE text = ?1 AND kind IN ('Concept', 'Fact', 'QAPair')"
        " OR json_type(metadata, '$.request') = 'text' AND length(text) >= ?2 AND length(?1) >= ?2"
        " AND (kind = 'QAPair' AND instr(text, ?1) OR kind = 'Fact' AND instr(?1, text))"
    )
    return [row[0] for row in store.read(sql, (text, _SHORTEST))]


def _forms(text: str) -> list[bytes]:
    """A text as bytes, as it stands and as JSON has it."""
    forms = (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])
    return [form for form in dict.fromkeys(form.encode() for form in forms) if len(form) >= _SHORTEST]


def _remove_copies(path: Path, forms: Sequence[bytes]) -> None:
    """Saved indexes, which are made again, and damaged or unfinished copies that hold any of these."""
    shutil.rmtree(f"{path}.index", ignore_errors=True)
    for end in _COPIES:
        for copy in path.parent.glob(path.name + end):
            if any(_holds(copy, form) for form in forms):
                copy.unlink()


def _holds(path: Path, form: bytes) -> bool:
    with path.open("rb") as file:
        before = b""
        while piece := file.read(_PIECE):
            if form in before + piece:
                return True
            before = (before + piece)[-len(form) :]
    return False
