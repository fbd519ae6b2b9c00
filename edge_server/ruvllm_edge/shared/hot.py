"""The memories of a large collection that a node holds itself, and how it comes to the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ruvllm.memory.filters import Filter
from ruvllm.memory.found import Brought
from ruvllm.memory.replica import Replica
from ruvllm.state.outbox import Change
from ruvllm.state.set_aside import reason_of
from ruvllm_edge.logs import event
from ruvllm_edge.shared.large import LargeCollection, LargeSearch, Policy, prepare_search
from ruvllm_edge.shared.log import Log, connect, connected

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from ruvllm_edge.edge import Edge


_PATIENCE = 10.0  # seconds after which a search that is late is given up
_AT_ONCE = 8  # searches in the database; more of them are late
_IDLE = 4  # connections that stay open
_REFRESH = 30.0  # seconds between two looks at what is large
_SLICE = 200  # memories let go of between two turns of the event loop
_SLACK = 1.05  # so much more than it shall hold, before it lets go of any


class Searches:
    """Connections to search with. A search that hangs holds up no other one.

    Args:
        url: of the database.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._idle: list[AsyncConnection] = []
        self.running = set[asyncio.Task[None]]()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[LargeSearch]:
        """One that is free, or new; closed where anything went wrong."""
        if self._idle:
            db = self._idle.pop()
        else:
            db = await connect(self.url)
            await prepare_search(db, _PATIENCE)
        try:
            yield LargeSearch(db)
        except BaseException:
            await db.close()
            raise
        if len(self._idle) < _IDLE:
            self._idle.append(db)
        else:
            await db.close()

    async def close(self) -> None:
        """All of them."""
        for task in self.running:
            task.cancel()
        for db in self._idle:
            await db.close()
        self._idle.clear()


class HotSet:
    """Of the large collections of a space.

    Args:
        edge: the space.
        searches: of the server.
        most: memories of one collection to hold.
        deadline: seconds that a search waits for the database.
    """

    def __init__(self, edge: Edge, searches: Searches, most: int, deadline: float) -> None:
        self._edge, self._searches, self._most, self._deadline = edge, searches, most, deadline
        self._large = dict[str, LargeCollection]()
        self._floors = dict[str, str]()
        self._looked = float("-inf")
        self.up = False

    async def refresh(self, db: AsyncConnection) -> None:
        """See what is large, now and then. A collection with another encoder's vectors is held whole."""
        self._edge.llm.memory.elsewhere = self if self._large else None  # which another state file has not
        if monotonic() - self._looked < _REFRESH:
            return
        search, space = LargeSearch(db), self._edge.llm.memory.space
        found = [one for one in await search.collections(self._edge.name) if one.ready and one.encoder == space]
        self._floors = {one.collection: await search.floor(one, self._most) for one in found}
        self._large = {one.collection: one for one in found}
        self._edge.llm.memory.elsewhere = self if found else None
        self._looked = monotonic()

    def wanted(self, changes: Sequence[Change]) -> list[Change]:
        """Without memories that are older than those to be held."""
        return [
            one
            for one in changes
            if one.kind != "memory" or one.uid >= self._floors.get(str(one.data.get("collection")), "")
        ]

    async def trim(self) -> None:
        """Let go of what is used least and longest ago, beyond what is to be held."""
        replica = Replica(self._edge.llm.memory)
        for name in self._large:
            if self._edge.llm.memory.records.size(name) <= _SLACK * self._most:
                continue
            ids = replica.excess(name, self._most)
            for start in range(0, len(ids), _SLICE):
                replica.release(ids[start : start + _SLICE])
                await asyncio.sleep(0)

    def covers(self, collection: str) -> bool:
        """Whether the database searches it."""
        return collection in self._large

    async def bring(
        self,
        vector: NDArray[np.float32],
        k: int,
        collection: str,
        filter: Filter | None,
        text: str = "",
        steps: int = 0,
    ) -> Brought:
        """Have the k memories nearest to a query here. What is late is here for the next search."""
        if not self.covers(collection) or not (vector.any() or text):
            return ""
        if not self.up:
            return "unreachable"
        running = self._searches.running
        if len(running) >= _AT_ONCE:
            return "late"
        large = self._large[collection]
        worded = text if large.words and self._edge.llm.store.outbox.sharing == "texts" else ""
        task = asyncio.ensure_future(self._fetch(vector, k, large, filter, worded, steps))
        running.add(task)
        task.add_done_callback(running.discard)
        done, _ = await asyncio.wait({task}, timeout=self._deadline)
        if not done:
            task.add_done_callback(lambda one: one.cancelled() or one.exception())
            return "late"
        if task.cancelled() or (problem := task.exception()) is None:
            return "unreachable" if task.cancelled() else "searched" if worded or not text else "meaning"
        event(logging.WARNING, "large collection not searched", space=self._edge.name, problem=reason_of(problem))
        return "unreachable"

    async def forget(self, policy: Policy, erase: bool) -> tuple[int, Brought]:
        """Forget what a policy names and is not here; how many, and how that went. Raises InputError: no filter."""
        replica, count, name = Replica(self._edge.llm.memory), 0, self._edge.name
        policy.sql()
        try:
            async with connected(self._searches.url) as db, aclosing(LargeSearch(db).chosen(name, policy)) as pages:
                async for uids in pages:
                    missing = replica.missing(uids)
                    await Log(db).forget(name, self._edge.llm.store.outbox.node, missing, erase)
                    count += len(missing)
        except Exception as error:  # psycopg.Error, which cannot be named where it is not installed
            event(logging.WARNING, "not forgotten in the database", space=name, problem=reason_of(error))
            return count, "unreachable"
        return count, "searched"

    async def fetch_erased(self, db: AsyncConnection, changes: Sequence[Change]) -> None:
        """Have what is to be erased here, so that what repeats its text is found and goes with it."""
        erased = [one.target for one in changes if one.target and one.kind == "forget" and one.data.get("erase")]
        replica = Replica(self._edge.llm.memory)
        if missing := replica.missing(erased):
            await replica.adopt(await LargeSearch(db).about(self._edge.name, missing, forgotten=True))

    async def _fetch(
        self,
        vector: NDArray[np.float32],
        k: int,
        among: LargeCollection,
        filter: Filter | None,
        text: str,
        steps: int,
    ) -> None:
        replica = Replica(self._edge.llm.memory)
        self._edge.uses += 1
        try:
            async with asyncio.timeout(_PATIENCE), self._searches.connection() as search:
                found = [uid for uid, _ in await search.nearest(among, vector, k, filter)] if vector.any() else []
                found += await search.worded(among, text, k, filter) if text else []
                for left in range(steps, -1, -1):
                    if missing := replica.missing(found):
                        await replica.adopt(await search.about(among.space, missing))
                    found = await search.beside(among.space, found) if left else []
        finally:
            self._edge.uses -= 1
