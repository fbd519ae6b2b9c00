"""One server among others: it sends what its state files have to say, and applies what others have said."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from ruvllm import RuvllmError
from ruvllm.memory.replica import Replica
from ruvllm.state.outbox import SHARES
from ruvllm.state.set_aside import reason_of
from ruvllm_edge.hub import LogCoordinator
from ruvllm_edge.logs import event
from ruvllm_edge.shared.apply import take_in
from ruvllm_edge.shared.hot import HotSet, Searches
from ruvllm_edge.shared.log import CHANNEL, Log, connected
from ruvllm_edge.shared.migrations import check_version

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from ruvllm_edge.edge import Edge
    from ruvllm_edge.metrics import Metrics
    from ruvllm_edge.spaces import Spaces


_POLL = 1.0  # seconds between two looks that nothing has caused
_HELD = 0.02  # seconds until what a running transaction holds back is looked for again, doubled each time
_VISIT = 600.0  # seconds between two visits of spaces that nobody uses
_PATIENCE = 60.0  # seconds that one may take to catch up, before the next has its turn
_HEARTBEAT = 10.0  # seconds between two checkpoints of a node that applies nothing
_FIRST, _MOST = 0.2, 15.0  # seconds until a database that is away is tried again, doubled each time
_PAGE, _SLICE = 500, 100  # changes that are read at a time, and applied between two turns of the event loop


@dataclass(slots=True)
class SpaceStatus:
    """How a space stands.

    Attributes:
        sent, applied: changes since the server began.
        behind: whether there was more to read than a page.
        read: when all that others wrote was here last, in seconds since 1970; 0 before the first time.
        marked: when the last checkpoint was written, of a monotonic clock.
        position: of that checkpoint.
        hot: what is held of large collections; None where all is.
    """

    sent: int = 0
    applied: int = 0
    behind: bool = False
    read: float = 0.0
    marked: float = float("-inf")
    position: tuple[int, int] = field(default=(-1, -1))
    hot: HotSet | None = None


class Node:
    """Keeps a server's spaces together with those of others. Nothing that a request does waits for it.

    Args:
        url: of the database, as libpq takes it.
        shares: space -> what of it leaves this server (`outbox.SHARES`), "*" for all others; texts of all when empty.
        spaces: those that are open.
        metrics: is told what was sent and applied.
        hot: memories of a large collection that stay on this server; 0 for all.
        deadline: seconds that a search of one waits for the database.

    Attributes:
        up: whether the database answers.
        problem: why it does not, "" where it does.
        status: by space.
    """

    def __init__(
        self,
        url: str,
        shares: Mapping[str, str],
        spaces: Callable[[], list[Edge]],
        metrics: Metrics,
        hot: int = 0,
        deadline: float = 0.2,
    ) -> None:
        self._url, self._shares, self._spaces, self._metrics = url, shares or {"*": "texts"}, spaces, metrics
        self._hot, self._deadline, self._searches = hot, deadline, Searches(url)
        self._wake, self._heard = asyncio.Event(), True
        self.up, self.problem = False, ""
        self._allowed = dict[str, str]()
        self.status: dict[str, SpaceStatus] = {}

    def __contains__(self, space: str) -> bool:
        return bool(self.sharing(space))

    def sharing(self, space: str) -> str:
        """What of a space leaves this server, one of `outbox.SHARES`; "" for nothing.

        No more than the database takes, whatever the options say.
        """
        mine = self._shares.get(space, self._shares.get("*", ""))
        most = self._allowed.get(space, self._allowed.get("*", "texts"))
        return max(mine, most, key=list(SHARES).index) if mine else ""

    def stats(self, edge: Edge) -> dict[str, Any]:
        """Of a space, as plain JSON types."""
        status, waiting = self.status.get(edge.name, SpaceStatus()), edge.llm.store.outbox.waiting()
        return {
            "sharing": self.sharing(edge.name),
            "up": self.up,
            "problem": self.problem,
            "sent": status.sent,
            "applied": status.applied,
            "waiting": waiting.changes,
            "waiting_seconds": round(max(0.0, time() - waiting.oldest), 3) if waiting.changes else 0.0,
            "lag_seconds": self.lag(edge.name),
        }

    def lag(self, space: str) -> float:
        """Seconds since all that others wrote was here last; -1 before the first time."""
        read = self.status.get(space, SpaceStatus()).read
        return round(max(0.0, time() - read), 3) if read else -1.0

    def behind(self, space: str) -> bool:
        """Whether it is catching up: what learns from all of it can wait for the rest."""
        return self.up and self.status.get(space, SpaceStatus()).behind

    async def run(self) -> None:
        """For ever: stay connected, or try again."""
        wait = _FIRST
        while True:
            for edge in self._edges():  # what is written while the database is away waits as well
                with suppress(RuvllmError):
                    self._begin(edge)
            try:
                async with connected(self._url) as db, connected(self._url) as listener:
                    await check_version(db)
                    self._allowed = await Log(db).shares()
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._listen(listener))
                        self._set_up("")
                        wait = _FIRST
                        await self._work(Log(db))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # whatever it is, it is tried again
                inner = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
                self._set_up(str(inner) if isinstance(inner, RuvllmError) else reason_of(inner))
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(_MOST, 2 * wait)

    async def visit(self, spaces: Spaces) -> None:
        """For ever: open what nobody has opened, so that what waits in it leaves, and what others erased is erased."""
        while True:
            for name in [one for one in spaces.closed() if one in self]:
                began = time()
                with suppress(RuvllmError):
                    await spaces.open(name)
                    while self.status.get(name, SpaceStatus()).read < began < time() < began + _PATIENCE:
                        await asyncio.sleep(_POLL)
                    await spaces.close(name)
            await asyncio.sleep(_VISIT)

    def _set_up(self, problem: str) -> None:
        if problem != self.problem or not self.up:
            level, what = (logging.WARNING, "shared log is away") if problem else (logging.INFO, "shared log is there")
            if problem != self.problem or not problem:
                event(level, what, **({"problem": problem} if problem else {}))
        self.up, self.problem = not problem, problem
        self._heard = True
        for status in self.status.values():
            if status.hot is not None:
                status.hot.up = self.up

    async def _listen(self, db: AsyncConnection) -> None:
        await db.execute(f"LISTEN {CHANNEL}")
        self._signal(heard=True)  # what came before it listened
        async for _ in db.notifies():
            self._signal(heard=True)
        raise ConnectionError("the connection was closed")

    async def _work(self, log: Log) -> None:
        held = _HELD
        horizon = await log.horizon()
        for edge in self._edges():
            self._check_position(edge, horizon)
        while True:
            self._wake.clear()
            heard, self._heard = self._heard, False
            again = waits = False
            for edge in self._edges():
                if self._begin(edge):
                    self._check_position(edge, await log.horizon())
                edge.uses += 1
                hot = self.status[edge.name].hot
                try:
                    if hot is not None:
                        await hot.refresh(log.db)
                    sent = await self._send(edge, log)
                    if heard or sent:
                        more, late = await self._read(edge, log)
                        again, waits = again or more, waits or late
                    if hot is not None:
                        await hot.trim()
                    await self._mark(edge, log)
                finally:
                    edge.uses -= 1
            if again:
                self._heard = True
                continue
            held = 2 * held if waits else _HELD
            try:
                async with asyncio.timeout(min(held, _POLL) if waits else _POLL):
                    await self._wake.wait()
            except TimeoutError:
                self._heard = True

    def _edges(self) -> list[Edge]:
        return [edge for edge in self._spaces() if edge.name in self and not edge.closed]

    def _begin(self, edge: Edge) -> bool:
        """Have its writes wait to be sent; whether that is new."""
        store = edge.llm.store
        store.outbox.sharing = sharing = self.sharing(edge.name)
        if sharing != "texts":  # of texts each server learns itself
            edge.llm.services.coordinator = LogCoordinator(edge.hub, store)
        if store.outbox.enabled and store.committed is not None and edge.name in self.status:
            return False
        store.outbox.enable()
        loop = asyncio.get_running_loop()

        def committed() -> None:
            with suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(self._signal)

        store.committed = committed
        hot = HotSet(edge, self._searches, self._hot, self._deadline) if self._hot else None
        self.status[edge.name] = SpaceStatus(hot=hot)
        if hot is not None:
            hot.up = self.up
        return True

    def _signal(self, heard: bool = False) -> None:
        self._heard = self._heard or heard
        self._wake.set()

    def _check_position(self, edge: Edge, horizon: int) -> None:
        """Begin again where the log is another one than it was: what is here already changes nothing."""
        outbox = edge.llm.store.outbox
        if outbox.position.xid >= horizon:
            with edge.llm.store.write():
                outbox.reached(type(outbox.position)())

    async def _send(self, edge: Edge, log: Log) -> int:
        outbox, count = edge.llm.store.outbox, 0
        while True:
            ids, changes = outbox.take(_PAGE)
            if not ids:
                return count
            if changes:
                await log.append(edge.name, outbox.node, changes)
            outbox.sent(ids)
            count += len(ids)
            self.status[edge.name].sent += len(changes)
            self._metrics.shared_sent.labels(edge.name).inc(len(changes))
            await asyncio.sleep(0)

    async def _read(self, edge: Edge, log: Log) -> tuple[bool, bool]:
        """Apply a page; whether there is more, and whether more is held back."""
        outbox, status = edge.llm.store.outbox, self.status[edge.name]
        began, before = time(), outbox.position
        page = await log.read(edge.name, before, _PAGE)
        if page.changes:
            replica = Replica(edge.llm.memory, edge.hub.push)
            changes = page.changes if status.hot is None else status.hot.wanted(page.changes)
            if status.hot is not None:
                await status.hot.fetch_erased(log.db, changes)
            if outbox.sharing == "deltas":
                changes = [one for one in changes if one.kind == "delta"]
            for start in range(0, len(changes) or 1, _SLICE):
                some = changes[start : start + _SLICE]
                last = start + _SLICE >= len(changes)
                applied = await replica.apply(some, page.position if last else None, _turn)
                await take_in(edge, applied)
                status.applied += applied.count
                self._metrics.shared_applied.labels(edge.name).inc(applied.count)
                await asyncio.sleep(0)
        status.behind = page.more
        if not page.more and not page.held:
            status.read = began
        return page.more, page.held

    async def _mark(self, edge: Edge, log: Log) -> None:
        outbox, status = edge.llm.store.outbox, self.status[edge.name]
        position, now = outbox.position, monotonic()
        if (position != status.position and now - status.marked > _POLL) or now - status.marked > _HEARTBEAT:
            await log.checkpoint(edge.name, outbox.node, position, outbox.waiting().changes)
            status.marked, status.position = now, position


async def _turn() -> None:
    await asyncio.sleep(0)
