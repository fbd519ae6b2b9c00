"""The log in PostgreSQL: appending to it, reading on from a position, checkpoints of nodes.

A transaction's rows become visible when it commits, in any order of their numbers. So rows are read in the order of
(xid, place), and only those of transactions that are older than every running one: nothing can be put before them any
more. A transaction that stays open, of whatever program in the same cluster, holds readers back and never makes them
miss anything.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ruvllm import ConfigError
from ruvllm.state.outbox import Change, Position, new_uid
from ruvllm_edge.shared.large import LargeSearch

if TYPE_CHECKING:
    from psycopg import AsyncConnection


CHANNEL = "ruvllm"  # of notifications, which say the name of a space
_PATIENCE = 15.0  # seconds for a statement: a database that hangs is one that is away
_ROW = (
    "INSERT INTO ruvllm.changes (space, uid, kind, target, node, data, vector)"
    " SELECT %(space)s, %(uid)s::uuid, %(kind)s, %(target)s::uuid, %(node)s, %(data)s::json, %(vector)s"
    " WHERE NOT EXISTS (SELECT FROM ruvllm.changes WHERE space = %(space)s AND kind = 'forget'"
    " AND target = %(uid)s::uuid) ON CONFLICT DO NOTHING"
)
_PAGE = (
    "SELECT xid < pg_snapshot_xmin(pg_current_snapshot()), xid::text, place, uid::text, kind, target::text, data::text,"
    " vector FROM ruvllm.changes WHERE space = %s AND (xid, place) > (%s::text::xid8, %s)"
    " ORDER BY changes.xid, changes.place LIMIT %s"  # the name alone would be that of the text above: 1000 before 999
)
_CHECKPOINT = (
    "INSERT INTO ruvllm.nodes (space, node, name, xid, place, waiting) VALUES (%s, %s, %s, %s::text::xid8, %s, %s)"
    " ON CONFLICT (space, node) DO UPDATE SET name = excluded.name, xid = excluded.xid, place = excluded.place,"
    " waiting = excluded.waiting, seen = now()"
)


@dataclass(frozen=True, slots=True)
class Page:
    """What was read on.

    Attributes:
        changes: in the order of the log.
        position: of the last of them.
        more: whether there is more to read at once.
        held: whether there is more that a running transaction holds back.
    """

    changes: list[Change]
    position: Position
    more: bool
    held: bool


@dataclass(frozen=True, slots=True)
class NodeRow:
    """How far a node is.

    Attributes:
        behind: changes of the space that it has not applied.
        waiting: in its own outbox, when it said so last.
        seen: seconds ago.
    """

    space: str
    node: str
    name: str
    behind: int
    waiting: int
    seen: float


def check_address(url: str) -> None:
    """Raises ConfigError: the extra is not installed, or this is no address of a database."""
    try:
        from psycopg import ProgrammingError, conninfo
    except ModuleNotFoundError:
        fix = "pip install 'ruvllm-edge[postgres]'"
        raise ConfigError("psycopg is not installed", field="shared", fix=fix) from None
    fix, what = "give postgresql://USER@HOST/DATABASE?sslmode=verify-full", "this is no address of a database"
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError(what, field="shared", fix=fix)
    try:
        conninfo.conninfo_to_dict(url)
    except ProgrammingError as error:
        raise ConfigError(f"{what}: {error}"[:200], field="shared", fix=fix) from None


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection as `connect` makes it, from the beginning of a block to its end. Raises as that does."""
    made = await connect(url)
    try:
        yield made
    finally:
        await made.close()


async def connect(url: str) -> AsyncConnection:
    """A connection that commits each statement by itself.

    Raises:
        ConfigError: as `check_address`.
        psycopg.Error: it cannot be had.
    """
    check_address(url)
    from psycopg import AsyncConnection

    return await AsyncConnection.connect(
        url,
        autocommit=True,
        prepare_threshold=None,  # poolers that give each transaction another connection know no prepared statements
        application_name=f"ruvllm on {socket.gethostname()}",
        connect_timeout=10,
        keepalives_idle=10,
        keepalives_interval=5,
        tcp_user_timeout=15_000,
    )


class Log:
    """The log over one connection.

    Args:
        db: commits each statement by itself.
    """

    def __init__(self, db: AsyncConnection) -> None:
        self.db = db

    async def append(self, space: str, node: str, changes: Sequence[Change]) -> None:
        """Add changes, all or none, and wake up the others; what is there already, or was forgotten, is left out."""
        rows = [
            {
                "space": space,
                "node": node,
                "uid": one.uid,
                "kind": one.kind,
                "target": one.target,
                "data": json.dumps(one.data),
                "vector": one.vector or None,
            }
            for one in changes
        ]
        async with asyncio.timeout(_PATIENCE), self.db.pipeline(), self.db.transaction():  # one way there and back
            cursor = self.db.cursor()
            await cursor.executemany(_ROW, rows)
            await cursor.execute("SELECT pg_notify(%s, %s)", (CHANNEL, space))
            memories = [one for one in changes if one.kind == "memory" and one.vector]
            if memories and (large := await (search := LargeSearch(self.db)).collections(space)):
                await search.add(large, space, memories)

    async def forget(self, space: str, node: str, uids: Sequence[str], erase: bool) -> None:
        """Have memories forgotten by every node, whether it has them or not."""
        await self.append(space, node, [Change(new_uid(), "forget", uid, {"erase": erase}) for uid in uids])

    async def shares(self) -> dict[str, str]:
        """Space -> what of it may be in the log, where that was settled; "*" for all others."""
        return dict(await (await self.db.execute("SELECT space, share FROM ruvllm.shares")).fetchall())

    async def restrict(self, space: str, sharing: str) -> int:
        """Have the database refuse what a space may not share; how many changes are there already that it may not."""
        sql = "INSERT INTO ruvllm.shares VALUES (%s, %s) ON CONFLICT (space) DO UPDATE SET share = excluded.share"
        await self.db.execute(sql, (space, sharing))
        sql = (
            "SELECT count(*) FROM ruvllm.changes c WHERE (space = %(of)s OR %(of)s = '*' AND space NOT IN"
            " (SELECT space FROM ruvllm.shares)) AND ruvllm.unshared(%(share)s, kind, data)"
        )
        (count,) = await (await self.db.execute(sql, {"of": space, "share": sharing})).fetchone() or (0,)
        return int(count)

    async def read(self, space: str, after: Position, most: int = 500) -> Page:
        """What comes after a position."""
        async with asyncio.timeout(_PATIENCE):
            cursor = await self.db.execute(_PAGE, (space, str(after.xid), after.place, most))
            rows = await cursor.fetchall()
        safe = [row for row in rows if row[0]]
        found = [
            Change(uid, kind, target, data if isinstance(data := json.loads(text), dict) else {}, bytes(vector or b""))
            for _, _, _, uid, kind, target, text, vector in safe
        ]
        position = Position(int(safe[-1][1]), safe[-1][2]) if safe else after
        return Page(found, position, len(safe) == most, len(safe) < len(rows))

    async def horizon(self) -> int:
        """Transactions from this one on have not begun: no position can be beyond it, unless the log was put back."""
        async with asyncio.timeout(_PATIENCE):
            cursor = await self.db.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
            (number,) = await cursor.fetchone() or ("0",)
        return int(number)

    async def checkpoint(self, space: str, node: str, position: Position, waiting: int) -> None:
        """Say how far a node is."""
        row = (space, node, socket.gethostname(), str(position.xid), position.place, waiting)
        async with asyncio.timeout(_PATIENCE):
            await self.db.execute(_CHECKPOINT, row)

    async def nodes(self) -> list[NodeRow]:
        """How far each node of each space is."""
        cursor = await self.db.execute(
            "SELECT space, node, name, (SELECT count(*) FROM ruvllm.changes c WHERE c.space = n.space"
            " AND (c.xid, c.place) > (n.xid, n.place)), waiting, extract(epoch FROM now() - seen)::float8"
            " FROM ruvllm.nodes n ORDER BY space, name, node"
        )
        return [NodeRow(*row) for row in await cursor.fetchall()]

    async def counts(self) -> dict[str, dict[str, int]]:
        """Space -> kind -> changes."""
        cursor = await self.db.execute("SELECT space, kind, count(*) FROM ruvllm.changes GROUP BY 1, 2 ORDER BY 1, 2")
        found = dict[str, dict[str, int]]()
        for space, kind, count in await cursor.fetchall():
            found.setdefault(space, {})[kind] = count
        return found

    async def prune(self, without: Sequence[str] = ()) -> dict[str, int]:
        """Delete for good what was forgotten, once every node has applied that; space -> changes deleted.

        Args:
            without: ids of nodes that never come back: they are waited for no longer.
        """
        async with self.db.transaction():
            await self.db.execute("DELETE FROM ruvllm.nodes WHERE node = ANY(%s)", (list(without),))
            cursor = await self.db.execute(_PRUNE)
            gone = {space: int(count) for space, count in await cursor.fetchall()}
        if gone:
            await self.db.execute("VACUUM ruvllm.changes")
            for one in await LargeSearch(self.db).collections():
                await self.db.execute(f"VACUUM ruvllm.vectors_{one.id}".encode())
        return gone

    async def faults(self) -> list[str]:
        """What is not as ruvllm writes it: ids of another kind, changes of what there never was."""
        cursor = await self.db.execute(
            "SELECT space, uid::text FROM ruvllm.changes WHERE substr(uid::text, 15, 1) <> '7'"
        )
        faults = [f"space {space}: {uid} is no UUIDv7" for space, uid in await cursor.fetchall()]
        cursor = await self.db.execute(
            "SELECT c.space, count(*) FROM ruvllm.changes c WHERE target IS NOT NULL AND kind <> 'forget'"
            " AND NOT EXISTS (SELECT FROM ruvllm.changes t WHERE t.space = c.space AND (t.uid = c.target"
            " OR (t.kind = 'forget' AND t.target = c.target))) GROUP BY 1"
        )
        return faults + [
            f"space {space}: {count} changes of what is not there" for space, count in await cursor.fetchall()
        ]


# What is about a memory, or feedback, that is forgotten goes with it; that it was forgotten stays, without a content.
_PRUNE = """
WITH forgotten AS (
    SELECT c.space, c.target FROM ruvllm.changes c WHERE c.kind = 'forget' AND NOT EXISTS (
        SELECT FROM ruvllm.nodes n WHERE n.space = c.space AND (n.xid, n.place) < (c.xid, c.place))
), gone AS (
    DELETE FROM ruvllm.changes c USING forgotten f
    WHERE c.space = f.space AND c.kind <> 'forget' AND (c.uid = f.target OR c.target = f.target)
    RETURNING c.space
)
SELECT space, count(*) FROM gone GROUP BY space
"""
