"""Collections that are too large for a node: searched in PostgreSQL, and a hot set of them on the node."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cluster import call
from waiting import until_async

from ruvllm import ConfigError, Feedback, InputError, RuvLLM
from ruvllm.encoders.protocol import no_pause
from ruvllm.memory.filters import compile_filter
from ruvllm.memory.found import Brought
from ruvllm.memory.replica import Replica
from ruvllm.state.outbox import Change, Position
from ruvllm_edge.hub import Hub
from ruvllm_edge.metrics import Metrics
from ruvllm_edge.shared.hot import HotSet, Searches
from ruvllm_edge.shared.large import LargeSearch, Policy, jsonb_filter
from ruvllm_edge.shared.log import Log, connected
from ruvllm_edge.shared.node import Node

if TYPE_CHECKING:
    pass

HOT = 20
TOPICS = ("kettles", "ledgers", "canoes", "violins", "trellises", "lanterns", "compasses", "hammocks", "boats", "bread")
METADATA: tuple[dict[str, Any], ...] = (
    {}, {"a": 1}, {"a": "1"}, {"a": None}, {"a": 2.5}, {"a": [1, 2]}, {"a": {"b": "x"}}, {"a": {"b": 3}, "c": "y"},
    {"c": "y", "a": -4}, {"agent_id": "one"}, {"agent_id": None, "c": "z"},
)  # fmt: skip
FILTERS: tuple[dict[str, Any], ...] = (
    {}, {"a": 1}, {"a": "1"}, {"a": None}, {"a.b": "x"}, {"a": {"$ne": 1}}, {"a": {"$gt": 1}}, {"a": {"$lte": "1"}},
    {"a": {"$in": [1, 2.5, None]}}, {"a": {"$nin": ["1"]}}, {"a": {"$exists": True}}, {"a": {"$exists": False}},
    {"$or": [{"a": 1}, {"c": "y"}]}, {"$and": [{"c": "y"}, {"a": {"$lt": 0, "$gt": -9}}]}, {"$not": {"c": "y"}},
    {"$and": [{}, {"$or": [{"agent_id": {"$in": ["one", None]}}, {"agent_id": {"$exists": False}}]}]},
)  # fmt: skip


async def pushed(llm: RuvLLM, log: Log) -> None:
    ids, changes = llm.store.outbox.take()
    await log.append("a", llm.store.outbox.node, changes)
    llm.store.outbox.sent(ids)


@asynccontextmanager
async def node(url: str, log: Log, llm: RuvLLM) -> AsyncIterator[HotSet]:
    """With what the log holds."""
    edge: Any = SimpleNamespace(llm=llm, name="a", uses=0)
    searches = Searches(url)
    made = HotSet(edge, searches, HOT, 60.0)
    made.up = True
    await made.refresh(log.db)
    changes = (await log.read("a", Position(), 1_000)).changes
    await Replica(llm.memory).apply(made.wanted(changes))
    await made.trim()
    yield made
    await searches.close()


def test_a_filter_means_the_same_in_both_databases(url: str):
    async def of_postgres() -> list[list[int]]:
        out = list[list[int]]()
        async with connected(url) as db:
            for filter in FILTERS:
                where, values, contained = jsonb_filter(filter)
                sql = (
                    "SELECT n FROM unnest(%s::jsonb[]) WITH ORDINALITY AS one (metadata, n)"
                    f" WHERE {where} AND metadata @> %s::jsonb ORDER BY n"
                )
                given = ([json.dumps(one) for one in METADATA], *values, json.dumps(contained))
                out.append([n - 1 for (n,) in await (await db.execute(sql.encode(), given)).fetchall()])
        return out

    with closing(sqlite3.connect(":memory:")) as db:
        rows = json.dumps([json.dumps(one) for one in METADATA])
        for filter, found in zip(FILTERS, asyncio.run(of_postgres()), strict=True):
            where, values = compile_filter(filter)
            sql = f"SELECT key FROM (SELECT key, value AS metadata FROM json_each(?)) WHERE {where}"
            assert found == [n for (n,) in db.execute(sql, (rows, *values))], filter
    with pytest.raises(InputError, match="no comparison"):
        jsonb_filter({"a": {"$regex": "x"}})


def test_a_node_finds_what_it_has_let_go_of(url: str):
    texts = [f"All about {topic}, chapter {chapter}." for chapter in range(1, 7) for topic in TOPICS]

    async def steps() -> None:
        async with connected(url) as db:
            log, first, second = Log(db), RuvLLM(encoder="static"), RuvLLM(encoder="static")
            for llm in (first, second):
                llm.store.outbox.enable()
            ids = await first.memory.aadd([{"text": text, "metadata": {"n": n % 10}} for n, text in enumerate(texts)])
            first.memory.records.rate({ids[0]: -0.25})
            await pushed(first, log)
            assert [one.collection for one in await LargeSearch(db).index(50)] == ["default"]
            assert await LargeSearch(db).index(50) == []
            await first.memory.aadd(["All about kettles, an epilogue."])
            gone = ids[texts.index("All about ledgers, chapter 1.")]
            first.memory.forget([gone])
            await pushed(first, log)
            async with node(url, log, second) as hot:
                assert second.memory.records.counts()["default"] == HOT  # the newest
                for query in ("All about kettles, chapter 1.", "ledgers", "violins and boats, chapter 2"):
                    brought = list[Brought]()
                    options: dict[str, Any] = {"k": 5, "search": "vectors"}
                    found = await second.memory.asearch(query, brought=brought, **options)
                    wanted = await first.memory.asearch(query, **options)
                    assert [hit.memory.text for hit in found] == [hit.memory.text for hit in wanted]
                    assert brought == ["searched"]
                assert found[0].score == pytest.approx(wanted[0].score, abs=1e-5)
                (best, *_) = await second.memory.asearch(texts[0], 1, search="vectors", filter={"n": 0})
                assert (best.memory.text, best.memory.quality) == (texts[0], 0.75)  # with what was said of it since
                second.memory.forget([best.memory.id])  # as if it had always been here
                (change,) = second.store.outbox.take()[1]
                assert change.kind == "forget"
                assert texts[0] not in {hit.memory.text for hit in await second.memory.asearch("kettles", 10)}
                await pushed(second, log)
                vector = await first.memory.vector(texts[0])
                assert change.target not in dict(await LargeSearch(db).nearest(hot._large["default"], vector, 99))
                before = second.memory.records.counts()["default"]
                await hot.trim()
                assert second.memory.records.counts()["default"] < before

                hot._deadline = 0.0
                assert await hot.bring(await first.memory.vector("canoes"), 3, "default", None) == "late"
                await until_async(lambda: not hot._searches.running)  # it is here for the next one
                hot.up, brought = False, []
                found = await second.memory.asearch("All about canoes", 3, search="vectors", brought=brought)
                assert brought == ["unreachable"]
                assert all("canoes" in hit.memory.text for hit in found)
                assert await hot.bring(vector, 3, "another", None) == ""
            await asyncio.gather(first.aclose(), second.aclose())

    asyncio.run(steps())
    options = ("--space", "a", "--encoder", "static")
    (found,) = json.loads(call("search", url, "kettles epilogue", *options, "-k", "1", "--json"))
    assert found["text"] == "All about kettles, an epilogue."
    assert "kettles" in call("search", url, "kettles", *options, "--filter", '{"n": 0}')
    with pytest.raises(ConfigError, match="is indexed"):
        call("search", url, "kettles", "--encoder", "static")
    assert "no other collection" in call("index", url)


def test_words_edges_and_what_is_to_be_forgotten_are_found_where_the_node_has_them_not(url: str):
    texts = [f"All about {topic}, chapter {chapter}." for chapter in range(1, 7) for topic in TOPICS]
    secret = "The combination is zyxomma-4711 and nothing else."

    async def steps() -> None:
        async with connected(url) as db:
            log, first, second = Log(db), RuvLLM(encoder="static"), RuvLLM(encoder="static")
            for llm in (first, second):
                llm.store.outbox.enable()
            ids = await first.memory.aadd([secret, *texts], {"team": "web"})
            first.memory.graph.link(ids[0], ids[1], "Cites", 0.75)
            first.memory.graph.bind(ids[1:4], "SameTopic", 0.5)
            first.memory.graph.strengthen({(ids[0], ids[1], "Cites"): -0.25})
            await pushed(first, log)
            await LargeSearch(db).index(50)
            second.store.outbox.outcome(secret, "coder", "m", 1.0, True)  # as an answer that repeats it
            await pushed(second, log)
            async with node(url, log, second) as hot:
                brought = list[Brought]()
                (best,) = await second.memory.asearch("zyxomma-4711", 1, search="words", hops=1, brought=brought)
                assert (best.memory.text, brought) == (secret, ["searched"])
                held = dict(second.store.read("SELECT text, id FROM memories"))
                near = {(one.other, one.weight) for one in second.memory.graph.neighbours([held[secret]])}
                assert near == {(held[texts[0]], 0.5)}
                assert await second.memory.asearch("nothing", 1, search="words", filter={"team": "none"}) == []
                hot._large = {name: replace(one, words=False) for name, one in hot._large.items()}
                await second.memory.asearch("lanterns", 1, brought=brought)
                assert brought[1] == "meaning"

                second.memory.forget([held[secret]])  # and is not reached a second time
                policy = Policy({"team": "web"}, "default", 4e9)
                count = len(texts) + 1 - second.memory.records.counts()["default"]
                assert await hot.forget(replace(policy, agent="another"), False) == (0, "searched")
                assert await hot.forget(replace(policy, before=1.0), False) == (0, "searched")
                assert await hot.forget(policy, True) == (count - 1, "searched")
                with pytest.raises(InputError):
                    await hot.forget(Policy({"a": {"$regex": "x"}}), True)
                hot._searches.url = "postgresql://nobody@127.0.0.1:9/none"
                assert await hot.forget(policy, True) == (0, "unreachable")
            await asyncio.gather(first.aclose(), second.aclose())

    asyncio.run(steps())
    left = json.loads(call("forget", url, "--space", "a", "--collection", "default", "--dry-run", "--json"))
    assert 0 < left["found"] < len(texts)
    assert call("forget", url, "--space", "a", "--filter", '{"team": "web"}', "--expired").startswith("forgot")
    assert "would forget 0" in call("forget", url, "--space", "a", "--before", "2999-01-01", "--dry-run")


def test_what_is_erased_elsewhere_goes_here_with_what_repeats_it(url: str):
    secret = "The combination is zyxomma-4711 and nothing else."

    async def steps() -> list[Any]:
        async with connected(url) as db:
            log, first, second = Log(db), RuvLLM(encoder="static"), RuvLLM(encoder="static")
            for llm in (first, second):
                llm.store.outbox.enable()
            ids = await first.memory.aadd([secret, *(f"All about {topic}." for topic in TOPICS)])
            await pushed(first, log)
            async with node(url, log, second) as hot:
                Replica(second.memory).release([id for (id,) in second.store.read("SELECT id FROM memories")])
                second.store.add_feedback(Feedback(f"Is it so? {secret}", "coder"))
                first.memory.forget(ids[1:2])
                await first.services.aerase(ids[:1])
                position = (await log.read("a", Position())).position
                await pushed(first, log)
                changes = (await log.read("a", position)).changes
                await hot.fetch_erased(db, changes)
                await Replica(second.memory).apply(changes)
                assert second.memory.records.counts() == {}
            await first.aclose()
        return second.store.feedback()

    assert asyncio.run(steps()) == []


def test_vectors_are_those_of_granted_spaces_alone(url: str):
    import psycopg

    async def make() -> None:
        async with connected(url) as db:
            await db.execute("DROP ROLE IF EXISTS laptop")
            await db.execute("CREATE ROLE laptop LOGIN")
            for space in "ab":
                uid, vector = f"01900000-0000-7000-8000-0000000000{ord(space):02x}", b"\0\0\x80?" * 4
                data = {"text": space, "collection": "c", "space": "e", "metadata": '{"x":"\\u0000"}', "archived": 0}
                await Log(db).append(space, "x", [Change(uid, "memory", None, data, vector)])
            assert len(await LargeSearch(db).index(0)) == 2
            uids = [f"01900000-0000-7000-8000-0000000001{n:02x}" for n in range(2)]
            for space in "ab":
                data = {"source": uids[0], "target": uids[1], "edge": "e", "weight": 1.0}
                await Log(db).append(space, "x", [Change(uids[0][:-2] + "ff", "edge", None, data)])

    asyncio.run(make())
    call("grant", url, "laptop", "--space", "b")
    with psycopg.connect(url.replace("postgres:@", "laptop:@"), autocommit=True) as db:
        assert db.execute("SELECT space FROM ruvllm.vectors").fetchall() == [("b",)]
        ((own,),) = db.execute("SELECT id FROM ruvllm.large").fetchall()
        other = 3 - own
        assert db.execute("SELECT DISTINCT space FROM ruvllm.joined").fetchall() == [("b",)]
        words = "SELECT count(*) FROM ruvllm.worded(%s, (SELECT array_agg(w) FROM generate_series(0, 9) w), 9)"
        assert db.execute(words, (other,)).fetchone() == (0,)
        row = "INSERT INTO ruvllm.vectors VALUES (%s, %s, gen_random_uuid(), '[1,1,1,1]', '{}')"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(row, (other, "a"))
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            db.execute(row, (other, "b"))
        parts = [f"SELECT FROM ruvllm.vectors_{id}" for id in (own, other)]
        for statement in (*parts, "DELETE FROM ruvllm.vectors", "UPDATE ruvllm.large SET ready = false"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(statement)


def test_of_deltas_no_text_is_in_the_database_and_all_learn_from_them(url: str):
    async def steps() -> tuple[str, RuvLLM]:
        llms = [RuvLLM(encoder="static") for _ in range(2)]
        edges: list[Any] = [
            SimpleNamespace(llm=llm, name="a", uses=0, closed=False, hub=Hub(llm.store, llm.encoders.static.dim))
            for llm in llms
        ]
        nodes = [Node(url, {"a": "deltas"}, lambda one=edge: [one], Metrics()) for edge in edges]
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(node.run()) for node in nodes]
            await until_async(lambda: all(llm.services.coordinator is not None for llm in llms))
            for verb in ("polish", "paint", "photograph", "measure", "label", "weigh", "wrap", "ship"):
                llms[0].feedback(f"{verb} the copper kettle of the customer", "reviewer")
            await llms[0].memory.aadd(["The kettle is in the cellar."])
            await llms[0].jobs.run(60, no_pause, force=True, names=["federated"])
            await until_async(lambda: llms[1].routing.router.shared)
            assert nodes[1].stats(edges[1])["sharing"] == "deltas"
            for task in running:
                task.cancel()
        async with connected(url) as db:
            rows = await (await db.execute("SELECT changes::text FROM ruvllm.changes changes")).fetchall()
        await llms[0].aclose()
        return str(rows), llms[1]

    log, other = asyncio.run(steps())
    assert "delta" in log
    assert "kettle" not in log
    assert other.route("polish the copper kettle of the customer").agent == "reviewer"
    assert (other.store.feedback(), other.memory.records.counts()) == ([], {})
    other.close()
