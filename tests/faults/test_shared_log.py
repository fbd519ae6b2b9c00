"""The log in PostgreSQL by itself: its tables, its order, its rights."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from cluster import call
from waiting import PATIENCE

from ruvllm import ConfigError
from ruvllm.state.outbox import Change, Position
from ruvllm_edge.metrics import Metrics
from ruvllm_edge.shared.log import Log, check_address, connected
from ruvllm_edge.shared.migrations import VERSION, check_version, migrate, version_of
from ruvllm_edge.shared.node import Node

if TYPE_CHECKING:
    from databases import Postgres

SERIAL = count(1)


def change(kind: str = "feedback", target: str | None = None, **data: Any) -> Change:
    return Change(f"01900000-0000-7000-8000-{next(SERIAL):012x}", kind, target, data)


def run(url: str, work: Callable[[Log], Awaitable[Any]]) -> Any:
    async def inside() -> Any:
        async with connected(url) as db:
            return await work(Log(db))

    return asyncio.run(inside())


def test_tables_are_made_from_every_version(postgres: Postgres):
    async def steps(log: Log) -> None:
        db, written = log.db, list[Change]()
        with pytest.raises(ConfigError, match="no log"):
            await check_version(db)
        for version in range(VERSION):
            assert await migrate(db, version + 1) == (version, version + 1)
            assert await version_of(db) == version + 1
            await db.execute(  # as that version has written it
                "INSERT INTO ruvllm.changes (space, uid, kind, node, data) VALUES ('a', %s, 'feedback', 'x', '{}')",
                ((one := change()).uid,),
            )
            written.append(one)
        await check_version(db)
        assert await migrate(db) == (VERSION, VERSION)
        assert (await log.read("a", Position())).changes == written
        await db.execute("INSERT INTO ruvllm.migrations VALUES (%s)", (VERSION + 1,))
        for refused in (check_version(db), migrate(db)):
            with pytest.raises(ConfigError, match="newer"):
                await refused

    run(postgres.database(), steps)


def test_nothing_is_missed_when_transactions_end_in_another_order_than_they_began(url: str):
    async def steps(log: Log) -> None:
        first, second, third = change(n=1), change(n=2), change(n=0.1 + 0.2, text="\0 \u2028 é")
        async with connected(url) as other, other.transaction():
            await Log(other).append("a", "other", [first])  # it has its number, and is not committed
            await log.append("a", "here", [second])
            page = await log.read("a", Position())
            assert (page.changes, page.held, page.more) == ([], True, False)
        await log.append("a", "here", [third, third, second])
        page = await log.read("a", Position(), 2)
        assert page.more
        rest = await log.read("a", page.position)
        assert [*page.changes, *rest.changes] == [first, second, third]
        assert (rest.held, rest.more) == (False, False)
        assert (await log.read("b", Position())).changes == []
        assert page.position.xid < await log.horizon()

    run(url, steps)


def test_transactions_are_read_in_the_order_of_their_numbers_and_not_of_the_digits(url: str):
    async def steps(log: Log) -> None:
        found, before = list[int](), Position()
        for number in (99, 9, 100, 101):  # as if so few had been before
            await log.db.execute(
                "INSERT INTO ruvllm.changes (space, uid, kind, node, data, xid)"
                " VALUES ('a', %s, 'feedback', 'x', json_build_object('number', %s::int), %s::text::xid8)",
                (change().uid, number, str(number)),
            )
        while (page := await log.read("a", before, 2)).changes:
            found, before = [*found, *(one.data["number"] for one in page.changes)], page.position
        assert found == [9, 99, 100, 101]

    run(url, steps)


def test_others_are_woken_by_the_name_of_a_space_alone(url: str):
    async def steps(log: Log) -> None:
        async with connected(url) as other:
            await other.execute("LISTEN ruvllm")
            await log.append("acme", "here", [change(text="secret")])
            async for heard in other.notifies(timeout=PATIENCE, stop_after=1):
                assert heard.payload == "acme"

    run(url, steps)


def test_what_was_forgotten_is_deleted_once_every_node_has_heard_of_it(url: str):
    memory, feedback = change("memory", text="secret"), change(text="kept")
    rate, gone = change("rate", memory.uid, change=0.5), change("forget", memory.uid, erase=True)

    async def steps(log: Log) -> None:
        await log.append("a", "x", [memory, feedback, rate])
        middle = (await log.read("a", Position())).position
        await log.append("a", "x", [gone, change("forget", memory.uid, erase=True)])
        last = (await log.read("a", middle)).position
        await log.checkpoint("a", "x", last, 0)
        await log.checkpoint("a", "y", middle, 3)
        assert await log.prune() == {}
        (x, y) = await log.nodes()
        assert (x.behind, y.behind, y.waiting) == (0, 1, 3)
        await log.checkpoint("a", "y", last, 0)
        assert await log.prune() == {"a": 2}
        await log.append("a", "back from a copy", [memory, rate])  # it does not come back
        assert [one.kind for one in (await log.read("a", Position())).changes] == ["feedback", "forget", "rate"]
        await log.checkpoint("a", "never again", Position(), 0)
        assert await log.prune() == {}
        assert await log.prune(["never again"]) == {"a": 1}

    run(url, steps)
    assert "nothing is wrong" in call("verify", url)
    rows = json.loads(call("status", url, "--json"))
    assert rows["changes"] == {"a": {"feedback": 1, "forget": 1}}
    assert "feedback" in call("status", url)
    assert "nothing to delete" in call("prune", url)


def test_a_role_sees_and_adds_to_its_spaces_alone_and_changes_nothing(url: str):
    async def make(log: Log) -> None:
        await log.db.execute("DROP ROLE IF EXISTS laptop")
        await log.db.execute("CREATE ROLE laptop LOGIN")
        for space in "ab":
            await log.append(space, "x", [change(text=space)])

    run(url, make)
    call("grant", url, "laptop", "--space", "b", "--space", "c")

    async def steps(log: Log) -> None:
        import psycopg

        await check_version(log.db)
        assert (await log.read("a", Position())).changes == []
        assert len((await log.read("b", Position())).changes) == 1
        await log.append("c", "laptop", [change()])
        await log.checkpoint("c", "laptop", Position(1, 1), 0)
        refused = (
            "UPDATE ruvllm.changes SET kind = 'x'", "DELETE FROM ruvllm.changes", "TRUNCATE ruvllm.changes",
            "INSERT INTO ruvllm.members VALUES ('laptop', 'a')", "DELETE FROM ruvllm.nodes",
            "DROP TABLE ruvllm.changes", "ALTER TABLE ruvllm.changes DISABLE ROW LEVEL SECURITY",
        )  # fmt: skip
        for statement in refused:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await log.db.execute(statement)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await log.append("a", "laptop", [change()])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await log.checkpoint("a", "laptop", Position(), 0)

    run(url.replace("postgres:@", "laptop:@"), steps)


def test_the_database_refuses_what_a_space_does_not_share(url: str):
    memory = {"metadata": "{}", "collection": "c", "archived": 0}

    async def steps(log: Log) -> None:
        import psycopg

        await log.append("a", "x", [change("memory", text="secret", **memory)])
        assert await log.restrict("*", "deltas") == 1
        assert await log.restrict("a", "vectors") == 1
        assert await log.shares() == {"*": "deltas", "a": "vectors"}
        await log.append("a", "x", [change("memory", text=None, **memory), change("delta")])
        await log.append("b", "x", [change("delta"), change("forget", change().uid, erase=True)])
        refused = (("a", "memory", "text"), ("a", "closed", "reason"), ("a", "agent", "name"), ("b", "memory", "x"),
                   ("b", "feedback", "text"))  # fmt: skip
        for space, kind, name in refused:
            with pytest.raises(psycopg.errors.CheckViolation, match="alone"):
                await log.append(space, "x", [change("delta"), change(kind, **{name: "x"})])
        assert (await log.counts())["a"] == {"delta": 1, "memory": 2}  # all or none

    run(url, steps)
    assert call("restrict", url, "c", "texts") == "c shares texts\n"
    node = Node(url, {"a": "texts", "b": "vectors"}, list, Metrics())
    node._allowed = {"*": "deltas", "a": "vectors"}
    assert [node.sharing(space) for space in "abc"] == ["vectors", "deltas", ""]


@pytest.mark.parametrize("address", ["mysql://x/y", "postgresql://x/y?nonsense=1", "postgresql://["])
def test_what_is_no_address_is_refused(postgres: Postgres, address: str):
    with pytest.raises(ConfigError) as caught:
        check_address(address)
    assert caught.value.field == "shared"
