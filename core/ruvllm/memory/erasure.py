"""Forgetting so that nothing is left: not in the file, its log, what was learnt, set aside or saved beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ruvllm.errors import StoreError
from ruvllm.memory.memory import MemoryStore
from ruvllm.state.record import Memory, ids_of

__all__ = ["erase", "expired"]

_COPIES = (".broken-*", ".repairing", ".part")
_PIECE = 1 << 20  # bytes of a file that are looked at together
_SHORTEST = 12  # bytes of a text that is looked for within others: shorter ones stand everywhere
# Columns that may repeat what a memory says, and are nobody's own without it.
_REPEATING = (("turns", ("question", "answer")), ("feedback", ("text",)), ("outcomes", ("text",)))


def expired(memory: MemoryStore, now: datetime | None = None) -> list[int]:
    """Ids of memories whose `expires` (ISO date or time, or seconds since 1970) among the metadata has passed."""
    moment = now or datetime.now(UTC)
    sql = (
        "SELECT id FROM memories WHERE CASE json_type(metadata, '$.expires')"
        " WHEN 'text' THEN json_extract(metadata, '$.expires') <= ?"
        " WHEN 'integer' THEN json_extract(metadata, '$.expires') <= ?"
        " WHEN 'real' THEN json_extract(metadata, '$.expires') <= ? END ORDER BY id"
    )
    text, seconds = moment.strftime("%Y-%m-%dT%H:%M:%S"), moment.timestamp()
    return [row[0] for row in memory.store.read(sql, (text, seconds, seconds))]


def erase(memory: MemoryStore, ids: Iterable[int]) -> int:
    """Remove memories so that no byte of their texts is left; returns how many there were.

    With them go: concepts with the same text, conversation turns and feedback that repeat it, what is set aside or
    learnt with it (that is learnt again), saved indexes, and copies that a repair left beside the file. The file is
    written anew, which takes as long as it is large.

    Raises:
        InputError: these are no ids.
        StoreError: another process has the file open, or it cannot be written. Memories may be gone by then; call it
            again.
    """
    chosen = ids_of(list(ids))
    found = memory.records.get(chosen)
    texts = list(dict.fromkeys(one.text for one in found))
    alike = [one.id for text in texts for one in _same(memory, text) if one.kind == "Concept"]
    store = memory.store
    store.flush()
    there = [one for one in _REPEATING if store.read("SELECT 1 FROM sqlite_master WHERE name = ?", one[:1])]
    with store.write() as db, store.erasing():
        gone = memory.forget([*chosen, *alike]) - len(set(alike) - set(chosen))
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


def _same(memory: MemoryStore, text: str) -> Sequence[Memory]:
    rows = memory.store.read("SELECT id FROM memories WHERE text = ?", (text,))
    return memory.records.get([row[0] for row in rows])


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
