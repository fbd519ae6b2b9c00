"""Is a state file whole? And if not: a new one of everything in it that is."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ruvllm.errors import StoreError
from ruvllm.reprs import Shown
from ruvllm.state.repair.audit import Progress, faults, reading, silent, tables
from ruvllm.state.repair.rescue import keep_beside, refuse_when_open, rescue
from ruvllm.state.repair.shapes import shapes
from ruvllm.state.schema import APPLICATION_ID, SCHEMA_VERSION, differences

_REPAIR = "`ruvllm memory check --repair` writes a new file of what is good"
_SHOWN = 20  # findings of one kind that are told one by one
_STRUCTURE, _SCHEMA = "structure", "schema"


@dataclass(frozen=True, slots=True, repr=False)
class Finding(Shown):
    """Something wrong.

    Attributes:
        field: where: "structure", "schema", "application_id", "user_version", or a table with the row's key.
    """

    field: str
    message: str
    fix: str = _REPAIR


@dataclass(frozen=True, slots=True, repr=False)
class Report(Shown):
    """What was found in a file; after a repair, what was wrong with the damaged one.

    Attributes:
        path: the file that `counts` is about.
        counts: rows by table; of the good file after a repair.
        dropped: rows by table that a repair found and could not keep.
        broken: where a repair has put the damaged file, "" when it is where it was.
    """

    path: str
    counts: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    broken: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.findings


def check(path: str | Path, progress: Progress = silent) -> Report:
    """Look at everything in a state file, and write nothing to it; it may be in use.

    SQLite checks pages, keys and types. Checksums cover the text, metadata and vector of memories and what was
    learnt; of other values only impossible ones are found.

    Args:
        progress: told what is being looked at and the share of it that is done.

    Raises:
        StoreError: there is no such file, it cannot be read, is another program's or a newer ruvllm's.
    """
    if not Path(path).is_file():
        raise StoreError(f"there is no file {path}", field="state", fix="give the path of a ruvllm state file")
    counts, findings = dict[str, int](), list[Finding]()
    try:
        with closing(reading(Path(path))) as db:
            db.execute("BEGIN")  # one state of the file for all questions, whatever a writer does meanwhile
            findings += _identity(db, str(path))
            if not any(finding.field == _SCHEMA for finding in findings):  # else SQLite might run what it brings
                findings += _limited(_structure(db, progress))
                findings += _limited(_rows(db, progress))
                counts = _counts(db)
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "unable to open" in str(error):
            fix = "see that it can be read and that no other process repairs it"
            raise StoreError(f"{path} cannot be read: {error}", field="state", fix=fix) from None
        findings.append(Finding(_STRUCTURE, str(error)))
    except (sqlite3.Error, UnicodeDecodeError) as error:
        findings.append(Finding(_STRUCTURE, str(error)))
    return Report(str(path), counts, tuple(dict.fromkeys(findings)))


def repair(path: str | Path, out: str | Path | None = None, progress: Progress = silent) -> Report:
    """Write a new file of everything that can be read and is good, and put it in the place of the damaged one.

    The damaged one stays beside it as `<name>.broken-<n>`, with its journals. A whole file is left alone.

    Args:
        path: the damaged file; nobody may have it open.
        out: where the good file goes instead; `path` then stays as it is.
        progress: as for `check`.

    Raises:
        StoreError: nothing of ruvllm's could be read, the file is in use, or the new one cannot be written.
    """
    before = check(path, progress)
    if before.ok and out is None:
        return before
    if out is not None and Path(out).exists():
        raise StoreError(f"{out} is there already", field="out", fix="give the name of a new file")
    refuse_when_open(Path(path))
    target = Path(out) if out is not None else Path(f"{path}.repairing")
    sound = not {_STRUCTURE, _SCHEMA} & {finding.field for finding in before.findings}
    try:
        dropped = rescue(Path(path), target, sound, progress)
        after = check(target)
        if not after.ok:
            raise StoreError(f"the repaired file is damaged: {after.findings[0].message}", field="out", fix="try again")
        broken = keep_beside(Path(path), target) if out is None else ""
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, OSError | sqlite3.Error):
            fix = "check free disk space and rights; the damaged file is as it was"
            raise StoreError(f"the repaired file cannot be written: {error}", field="out", fix=fix) from None
        raise
    return Report(str(path if out is None else out), after.counts, before.findings, dropped, str(broken))


def _identity(db: sqlite3.Connection, path: str) -> Iterator[Finding]:
    """Whose file it is and of which version. Raises StoreError for one that is not for us."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    there = tables(db)
    if not there:
        yield Finding(_SCHEMA, "there are no tables in it")
        return
    if application != APPLICATION_ID:
        if not there & {"feedback", "memories"}:
            fix = "give the path of a ruvllm state file"
            raise StoreError(f"{path} is another program's database", field="state", fix=fix)
        yield Finding("application_id", f"it is {application:#x}, not {APPLICATION_ID:#x}")
    fitting = next((v for v in range(SCHEMA_VERSION, 0, -1) if not differences(db, v)), None)
    if fitting is None and SCHEMA_VERSION < version < SCHEMA_VERSION + 1_000:
        raise StoreError(f"{path} was written by a newer ruvllm", field="state", fix="pip install -U ruvllm")
    if fitting is None:
        for what in differences(db, SCHEMA_VERSION):
            yield Finding(_SCHEMA, what)
    elif version != fitting:
        yield Finding("user_version", f"it is {version}, the tables are those of {fitting}")


def _structure(db: sqlite3.Connection, progress: Progress) -> Iterator[Finding]:
    progress(_STRUCTURE, 0.0)
    try:
        for (finding,) in db.execute("PRAGMA integrity_check(1000)"):
            if finding != "ok":
                for line in str(finding).splitlines():
                    yield Finding(_STRUCTURE, line)
    except sqlite3.DatabaseError as error:
        yield Finding(_STRUCTURE, str(error))
    progress(_STRUCTURE, 1.0)


def _rows(db: sqlite3.Connection, progress: Progress) -> Iterator[Finding]:
    for fault in faults(db, progress):
        key = ", ".join(f"{name} {value!r:.40}" for name, value in fault.key)
        yield Finding(fault.table, f"{key}: {fault.why}")


def _limited(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The first few of each field, and how many more there are."""
    seen = Counter[str]()
    for finding in findings:
        seen[finding.field] += 1
        if seen[finding.field] <= _SHOWN:
            yield finding
    for where, count in seen.items():
        if count > _SHOWN:
            yield Finding(where, f"and {count - _SHOWN} more")


def _counts(db: sqlite3.Connection) -> dict[str, int]:
    present = [name for name in shapes() if name in tables(db) and name not in ("clock", "sqlite_sequence")]
    return {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in present}
