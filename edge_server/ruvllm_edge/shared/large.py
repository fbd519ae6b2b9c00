"""Collections too large for a node: indexed and searched in PostgreSQL, with pgvector."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ruvllm import ConfigError
from ruvllm.memory.filters import Filter, compile_filter
from ruvllm.state.outbox import Change
from ruvllm.state.record import LITTLE, read_metadata, word_hashes
from ruvllm.text.lexical import spoken
from ruvllm.text.terms import SPOKEN, term_hashes, terms

if TYPE_CHECKING:
    from psycopg import AsyncConnection


_FEW = 20_000  # rows of a filter that are all compared: an index that is asked for so few of its rows finds too few
_PAGE = 2_000
_LINKS, _LEAST = 800, 64  # bytes of memory a vector, beside its numbers, while it is indexed; megabytes at least
_MOST_WORDS = 24  # of a query
_COMPARED = {"$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}
_NEAREST = "SELECT uid::text, embedding::halfvec({dim}) <=> %s::halfvec AS away FROM {rows} ORDER BY away LIMIT %s"
_COMPARE = (  # by the filter, not by the index; and how many fulfil it
    "SELECT uid::text, embedding::halfvec({dim}) <=> %s::halfvec AS away, count(*) OVER () FROM"
    f" (SELECT uid, embedding FROM {{rows}} LIMIT {_FEW + 1}) few ORDER BY away LIMIT %s"
)
_JOINED = "SELECT uid FROM ruvllm.joined WHERE space = %(space)s AND memory = ANY(%(uids)s::uuid[])"
_ABOUT = (  # of some memories: these, what was said of them since, and what joins them
    "SELECT uid::text, kind, target::text, data::text, vector FROM ruvllm.changes c WHERE space = %(space)s"
    " AND uid IN (SELECT unnest(%(uids)s::uuid[]) UNION SELECT uid FROM ruvllm.changes WHERE space = %(space)s"
    " AND target = ANY(%(uids)s::uuid[]) AND kind IN ('archive', 'closed', 'rate')"
    f" UNION {_JOINED} UNION SELECT uid FROM ruvllm.changes WHERE space = %(space)s AND kind = 'weigh'"
    f" AND target IN ({_JOINED}))"
)
_LIVING = (
    " AND NOT EXISTS (SELECT FROM ruvllm.changes f WHERE f.space = %(space)s AND f.kind = 'forget'"
    " AND f.target = coalesce(c.target, c.uid))"
)
_BESIDE = (
    "SELECT DISTINCT memory::text FROM ruvllm.joined WHERE space = %(space)s"
    f" AND uid IN ({_JOINED}) AND memory <> ALL(%(uids)s::uuid[]) LIMIT {{most}}"
)
_MOST_BESIDE = 256  # memories that edges lead to from what was found
_EXPIRED = (
    "CASE jsonb_typeof(metadata->'expires') WHEN 'string' THEN metadata->>'expires' COLLATE \"C\" <= %s"
    " WHEN 'number' THEN (metadata->>'expires')::float8 <= %s ELSE false END"
)
_CHOSEN = (  # jsonb knows no character of the number 0
    "SELECT uid::text FROM (SELECT uid, data, CASE WHEN strpos(data->>'metadata', '\\u0000') > 0 THEN '{{}}'"
    " ELSE (data->>'metadata')::jsonb END AS metadata FROM ruvllm.changes c WHERE space = %s AND kind = 'memory'"
    " AND uid > %s::uuid AND NOT EXISTS (SELECT FROM ruvllm.changes f WHERE f.space = c.space AND f.kind = 'forget'"
    " AND f.target = c.uid)) one WHERE {where} ORDER BY uid LIMIT {most}"
)
_NONE, _ALL = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"


@dataclass(frozen=True, slots=True)
class LargeCollection:
    """One that is searched in the database.

    Attributes:
        id: of its partition.
        encoder, dim: of the vectors in it; others are left out.
        ready: whether all of it is indexed.
        words: whether its words are, too.
    """

    id: int
    space: str
    collection: str
    encoder: str
    dim: int
    ready: bool
    words: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """What is to be forgotten: what fulfils `filter`, `collection` and `before` together, and what has expired.

    Attributes:
        filter: of metadata, as `ruvllm.memory.filters` has them.
        before: when it was remembered at the latest, in seconds since 1970.
        expired: whether `expires` among the metadata is looked at.
        agent: whose alone; "" for everybody's.
    """

    filter: Filter | None = None
    collection: str | None = None
    before: float | None = None
    expired: bool = False
    agent: str = ""

    def sql(self) -> tuple[str, list[Any]]:
        """A condition over `metadata` and `data`, and its values. Raises InputError: as `jsonb_filter`."""
        where, values, _ = jsonb_filter(self.filter or {})
        if self.collection is not None:
            where, values = f"{where} AND data->>'collection' = %s", [*values, self.collection]
        if self.before is not None:
            where, values = f"{where} AND (data->>'created')::float8 < %s", [*values, self.before]
        if not self.filter and self.collection is None and self.before is None:
            where = "false"
        if self.expired:
            now = datetime.now(UTC)
            where, values = f"({where} OR {_EXPIRED})", [*values, now.strftime("%Y-%m-%dT%H:%M:%S"), now.timestamp()]
        if self.agent:
            where, values = f"({where}) AND metadata->>'agent_id' = %s", [*values, self.agent]
        return where, values


def halfvec(vector: NDArray[np.float32]) -> str:
    """As pgvector reads it."""
    return f"[{','.join(['%.5g'] * len(vector)) % tuple(vector.tolist())}]"


def jsonb_filter(filter: Filter) -> tuple[str, list[Any], dict[str, Any]]:
    """A WHERE expression over `metadata` as jsonb, its values, and what the metadata must contain for it.

    As `ruvllm.memory.filters.compile_filter`, whose errors it raises.
    """
    compile_filter(filter)
    sql, values = _all_of(filter)
    contained = dict[str, Any]()
    for key, condition in filter.items():
        if not key.startswith(("$",)) and "." not in key and isinstance(condition, str | int | float):
            contained[key] = condition
    return sql, values, contained


def _all_of(filter: Filter) -> tuple[str, list[Any]]:
    parts, values = ["true"], list[Any]()
    for key, condition in filter.items():
        if key == "$not":
            sql, more = _all_of(condition)
            sql = f"NOT ({sql})"
        elif key in ("$and", "$or"):
            compiled = [_all_of(part) for part in condition]
            sql = "(" + f" {key[1:]} ".join(f"({part})" for part, _ in compiled) + ")"
            more = [value for _, some in compiled for value in some]
        else:
            conditions = condition if isinstance(condition, Mapping) else {"$eq": condition}
            compiled = [_compare(key.split("."), *one) for one in conditions.items()]
            sql = " AND ".join(part for part, _ in compiled)
            more = [value for _, some in compiled for value in some]
        parts.append(sql)
        values += more
    return " AND ".join(parts), values


def _compare(path: list[str], operator: str, operand: Any) -> tuple[str, list[Any]]:
    if operator == "$exists":
        return f"metadata #> %s IS {'NOT ' if operand else ''}NULL", [path]
    if operator in _COMPARED:
        kind = "string" if isinstance(operand, str) else "number"
        sql = f"jsonb_typeof(metadata #> %s) = '{kind}' AND metadata #> %s {_COMPARED[operator]} %s::jsonb"
        return f"coalesce({sql}, false)", [path, path, json.dumps(operand)]
    some = [json.dumps(one) for one in (operand if operator in ("$in", "$nin") else [operand])]
    inside = "coalesce(metadata #> %s = ANY(%s::jsonb[]), false)"
    return inside if operator in ("$eq", "$in") else f"NOT {inside}", [path, some]


async def prepare_search(db: AsyncConnection, patience: float) -> None:
    """Have a connection search well: as far as a filter needs, never by reading a table from end to end."""
    await db.execute(
        "SET hnsw.ef_search = 600; SET hnsw.iterative_scan = relaxed_order; SET hnsw.max_scan_tuples = 40000;"
        f" SET enable_seqscan = off; SET statement_timeout = {int(1000 * patience)}"
    )


class LargeSearch:
    """Large collections over one connection.

    Args:
        db: commits each statement by itself.
    """

    def __init__(self, db: AsyncConnection) -> None:
        self._db = db

    async def collections(self, space: str | None = None) -> list[LargeCollection]:
        """Of a space, or of all that may be seen."""
        cursor = await self._db.execute(
            "SELECT id, space, collection, encoder, dim, ready, words FROM ruvllm.large"
            " WHERE space = coalesce(%s, space) ORDER BY space, collection",
            (space,),
        )
        return [LargeCollection(*row) for row in await cursor.fetchall()]

    async def nearest(
        self, among: LargeCollection, vector: NDArray[np.float32], k: int, filter: Filter | None = None
    ) -> list[tuple[str, float]]:
        """(uid, cosine) of the k memories nearest to a vector (dim,), best first.

        Raises:
            InputError: a filter that cannot be understood.
            psycopg.Error: the database does not answer.
        """
        rows, values, contained = _rows(among, filter)
        wanted = halfvec(vector)
        if contained:
            sql = _COMPARE.format(dim=among.dim, rows=rows)
            few = await (await self._db.execute(sql.encode(), (wanted, *values, k))).fetchall()
            if not few or few[0][2] <= _FEW:
                return [(uid, 1.0 - away) for uid, away, _ in few]
        sql = _NEAREST.format(dim=among.dim, rows=rows)
        found = await (await self._db.execute(sql.encode(), (wanted, *values, k))).fetchall()
        return [(uid, 1.0 - away) for uid, away in found]

    async def worded(
        self, among: LargeCollection, text: str, k: int, filter: Filter | None = None, most: int = 2_000
    ) -> list[str]:
        """Uids of the k memories that have most of a text's words, among so many that a filter may leave out.

        Raises:
            InputError: a filter that cannot be understood.
            psycopg.Error: the database does not answer.
        """
        named = [SPOKEN + word for word in dict.fromkeys(spoken(text))]
        words = term_hashes([*dict.fromkeys(terms(text)), *named][:_MOST_WORDS]).view(np.int32).tolist()
        rows, values, _ = _rows(among, filter)
        sql = (
            f"SELECT uid::text FROM ruvllm.worded(%s, %s::int[], {most}) found JOIN (SELECT uid FROM {rows}) rows"
            " USING (uid) ORDER BY score DESC LIMIT %s"
        )
        found = await self._db.execute(sql.encode(), (among.id, words, *values, k)) if words else None
        return [uid for (uid,) in await found.fetchall()] if found else []

    async def beside(self, space: str, uids: Sequence[str]) -> list[str]:
        """Uids of memories that edges and hyperedges lead to from these."""
        query = _BESIDE.format(most=_MOST_BESIDE).encode()
        cursor = await self._db.execute(query, {"space": space, "uids": list(uids)})
        return [uid for (uid,) in await cursor.fetchall()]

    async def chosen(self, space: str, policy: Policy) -> AsyncGenerator[list[str]]:
        """Uids of memories that a policy names, by and by. Raises InputError: as `Policy.sql`."""
        where, values = policy.sql()
        sql, after = _CHOSEN.format(where=where, most=_PAGE).encode(), _NONE
        while True:
            rows = await (await self._db.execute(sql, (space, after, *values))).fetchall()
            if not rows:
                return
            after = rows[-1][0]
            yield [uid for (uid,) in rows]

    async def about(self, space: str, uids: Sequence[str], forgotten: bool = False) -> list[Change]:
        """Memories by their uids, what was said of each since and what joins them, in the order of the log.

        Args:
            forgotten: whether those as well that were.
        """
        query = f"{_ABOUT}{'' if forgotten else _LIVING} ORDER BY xid, place"
        cursor = await self._db.execute(query.encode(), {"space": space, "uids": list(uids)})
        return [
            Change(uid, kind, target, json.loads(text), bytes(vector or b""))
            for uid, kind, target, text, vector in await cursor.fetchall()
        ]

    async def floor(self, among: LargeCollection, most: int) -> str:
        """The uid of the oldest of the newest so many; "" where there are no more."""
        sql = "SELECT uid::text FROM ruvllm.vectors WHERE large = %s ORDER BY uid DESC OFFSET %s LIMIT 1"
        found = await (await self._db.execute(sql, (among.id, most - 1))).fetchone()
        return str(found[0]) if found else ""

    async def index(
        self, over: int, space: str | None = None, collection: str | None = None, memory: int = 4096
    ) -> list[LargeCollection]:
        """Index what has more memories than that; those that were indexed here, or finished.

        Args:
            memory: megabytes that the database may use for building an index.

        Raises:
            ConfigError: pgvector is not there.
        """
        cursor = await self._db.execute(
            "SELECT DISTINCT ON (1, 2) c.space, data->>'collection', data->>'space', octet_length(vector) / 4,"
            " sum(count(*)) OVER (PARTITION BY c.space, data->>'collection') AS found FROM ruvllm.changes c"
            " WHERE kind = 'memory' AND vector IS NOT NULL AND c.space = coalesce(%s, c.space)"
            " AND data->>'collection' = coalesce(%s, data->>'collection') AND NOT EXISTS (SELECT FROM ruvllm.large l"
            " WHERE l.ready AND l.words AND l.space = c.space AND l.collection = data->>'collection')"
            " GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, count(*) DESC",
            (space, collection),
        )
        done = list[LargeCollection]()
        for of, name, encoder, dim, found in await cursor.fetchall():
            if found > over and encoder:
                size = int(found) * (2 * dim + _LINKS) >> 20  # an index that outgrows it is built many times slower
                await self._db.execute(f"SET maintenance_work_mem = '{min(max(size, _LEAST), memory)}MB'".encode())
                done.append(await self._index(of, name, encoder, dim))
        return done

    async def _index(self, space: str, collection: str, encoder: str, dim: int) -> LargeCollection:
        from psycopg import sql

        await self._make_table()
        async with self._db.transaction():  # who appends after this adds vectors, who did before is read below
            await self._db.execute("LOCK TABLE ruvllm.changes IN SHARE ROW EXCLUSIVE MODE")
            await self._db.execute(
                "INSERT INTO ruvllm.large (space, collection, encoder, dim) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (space, collection) DO NOTHING",
                (space, collection, encoder, dim),
            )
            (one,) = [row for row in await self.collections(space) if row.collection == collection]
            part = sql.Identifier("ruvllm", f"vectors_{one.id}")
            await self._db.execute(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF ruvllm.vectors FOR VALUES IN ({})").format(
                    part, one.id
                )
            )
        await self._fill(one)
        await self._db.execute(
            sql.SQL(
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS {} ON {}"
                " USING hnsw ((embedding::halfvec({})) halfvec_cosine_ops)"
            ).format(sql.Identifier(f"vectors_{one.id}_nearest"), part, one.dim)
        )
        await self._db.execute(_FORGOTTEN, (one.id,))
        await self._db.execute(sql.SQL("ANALYZE {}").format(part))
        await self._db.execute("UPDATE ruvllm.large SET ready = true, words = true WHERE id = %s", (one.id,))
        return LargeCollection(one.id, space, collection, one.encoder, one.dim, True, True)

    async def _make_table(self) -> None:
        (there,) = await (await self._db.execute("SELECT to_regclass('ruvllm.vectors') IS NOT NULL")).fetchone() or (0,)
        if there:
            return
        step = files("ruvllm_edge.shared").joinpath("vectors.sql").read_text("utf-8")
        try:
            async with self._db.transaction():
                await self._db.execute(step.encode())
        except Exception as error:
            fix = "install pgvector on the database's machine (0.8 or newer), as a role that may create extensions"
            raise ConfigError(f"no collection can be indexed: {error}"[:200], field="shared", fix=fix) from None

    async def _fill(self, one: LargeCollection) -> None:
        """What the log has of it, read in pieces of its primary key: no plan reads all of it for each of them."""
        after: str | None = _NONE
        while after is not None:
            cursor = await self._db.execute(
                "SELECT uid::text FROM ruvllm.changes WHERE space = %s AND uid > %s::uuid"
                " ORDER BY uid LIMIT 1 OFFSET %s",
                (one.space, after, _PAGE),
            )
            found = await cursor.fetchone()
            last = found[0] if found else None
            cursor = await self._db.execute(
                "SELECT uid::text, data::text, vector FROM ruvllm.changes WHERE space = %s AND kind = 'memory'"
                " AND data->>'collection' = %s AND uid > %s::uuid AND uid <= %s::uuid",
                (one.space, one.collection, after, last or _ALL),
            )
            rows = await cursor.fetchall()
            changes = [Change(u, "memory", None, json.loads(d), bytes(v or b"")) for u, d, v in rows]
            await self.add([one], one.space, changes, again=True)
            after = last

    async def add(
        self, large: Sequence[LargeCollection], space: str, changes: Sequence[Change], again: bool = False
    ) -> None:
        """Have memories found in their large collections; what is forgotten or archived is left out.

        Args:
            again: whether the words of those that are there are written anew, which only the owner may.
        """
        by_name, rows = {one.collection: one for one in large}, list[tuple[int, str, str, str, str]]()
        for change in changes:
            one = by_name.get(str(change.data.get("collection")))
            usable = one and change.data.get("space") == one.encoder and len(change.vector) == 4 * one.dim
            if one is None or not usable or change.data.get("archived"):
                continue
            vector = np.frombuffer(change.vector, LITTLE)
            if np.isfinite(vector).all() and vector.any():
                metadata = str(change.data["metadata"])  # jsonb knows no such character
                hashes = word_hashes(str(change.data.get("text") or ""), read_metadata(metadata)).view(np.int32)
                words = f"{{{','.join(map(str, np.unique(hashes).tolist()))}}}"
                rows.append((one.id, change.uid, halfvec(vector), "{}" if "\\u0000" in metadata else metadata, words))
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            then = "(uid, large) DO UPDATE SET words = excluded.words" if again else "DO NOTHING"
            await self._db.execute(f"{_ADD} ON CONFLICT {then}".encode(), (space, *columns, space))


def _rows(among: LargeCollection, filter: Filter | None) -> tuple[str, list[Any], dict[str, Any]]:
    """What of a collection fulfils a filter, as SQL behind FROM, its values, and what of it is plain equality."""
    where, values, contained = jsonb_filter(filter or {})
    rows, values = f"ruvllm.vectors WHERE large = %s AND {where}", [among.id, *values]
    if contained:
        rows, values = f"{rows} AND metadata @> %s::jsonb", [*values, json.dumps(contained)]
    return rows, values, contained


_ADD = (
    "INSERT INTO ruvllm.vectors (large, space, uid, embedding, metadata, words) SELECT large, %s, uid,"
    " embedding::halfvec, metadata::jsonb, words::int[] FROM unnest(%s::int[], %s::uuid[], %s::text[], %s::text[],"
    " %s::text[]) new (large, uid, embedding, metadata, words)"
    " WHERE NOT EXISTS (SELECT FROM ruvllm.changes c WHERE c.space = %s AND c.target = uid"
    " AND c.kind IN ('archive', 'forget'))"
)
_FORGOTTEN = (
    "DELETE FROM ruvllm.vectors v USING ruvllm.changes c WHERE v.large = %s AND c.space = v.space"
    " AND c.target = v.uid AND c.kind IN ('archive', 'forget')"
)
