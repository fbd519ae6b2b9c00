"""The tables of the log, in numbered steps that only go forward."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from ruvllm import ConfigError

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["VERSION", "check_version", "migrate", "version_of"]

_LOCK = 0x72757631  # of PostgreSQL's advisory locks: two that migrate at once would each make the tables
_TABLE = (
    "CREATE SCHEMA IF NOT EXISTS ruvllm; CREATE TABLE IF NOT EXISTS ruvllm.migrations"
    " (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())"
)

# A log that came out of pg_dump has transactions that this cluster has not come to yet. Nodes read it from the start.
_RENUMBER = "UPDATE ruvllm.changes SET xid = pg_current_xact_id() WHERE xid > pg_current_xact_id()"


def _steps() -> Sequence[str]:
    """SQL of each, in order."""
    found = {file.name: file for file in files(__name__).iterdir() if file.name.endswith(".sql")}
    return [found[name].read_text("utf-8") for name in sorted(found)]


VERSION = len(_steps())


async def version_of(db: AsyncConnection) -> int:
    """The version of the log's tables, 0 where there are none."""
    cursor = await db.execute("SELECT to_regclass('ruvllm.migrations') IS NOT NULL")
    (there,) = await cursor.fetchone() or (False,)
    if not there:
        return 0
    (version,) = await (await db.execute("SELECT coalesce(max(version), 0) FROM ruvllm.migrations")).fetchone() or (0,)
    return int(version)


async def migrate(db: AsyncConnection, to: int = VERSION) -> tuple[int, int]:
    """Make the tables, or bring older ones up to date, all or nothing; versions before and after.

    Raises:
        ConfigError: they are of a newer ruvllm.
    """
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await db.execute(_TABLE)
        before = await version_of(db)
        _refuse_newer(before)
        for number, step in enumerate(_steps()[before:to], before + 1):
            await db.execute(step.encode())
            await db.execute("INSERT INTO ruvllm.migrations (version) VALUES (%s)", (number,))
        if max(before, to) == VERSION:
            await db.execute(_RENUMBER)
    return before, max(before, to)


async def check_version(db: AsyncConnection) -> None:
    """Raises ConfigError: the tables are missing, or of another version."""
    version = await version_of(db)
    _refuse_newer(version)
    if version < VERSION:
        what = "has no log of ruvllm yet" if not version else f"has a log of version {version}, not {VERSION}"
        raise ConfigError(f"the database {what}", field="shared", fix="run: ruvllm shared init URL")


def _refuse_newer(version: int) -> None:
    if version > VERSION:
        raise ConfigError("the log was made by a newer ruvllm", field="shared", fix="pip install -U ruvllm-edge")
