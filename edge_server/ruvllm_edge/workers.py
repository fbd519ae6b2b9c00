"""Tasks that wait at the same time are decided in one go: here, or by a process that follows this one's state file.

This process alone learns, writes and serves connections; workers read the file and decide tasks. One that has not seen
the latest feedback, agents or weights gets no task until it has read them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from struct import Struct as Layout
from time import monotonic
from typing import Any, BinaryIO, NamedTuple

import msgspec

from ruvllm import Decision, RuvLLM, Tier
from ruvllm.routing.reading import checked_text
from ruvllm.state.agents import load_agents
from ruvllm.state.set_aside import reason_of
from ruvllm_edge.logs import event

_TOGETHER = 64  # tasks decided between two turns of the event loop
_HERE, _THERE = 8, 16  # where there are workers: by this process, and by one of them
_AT_ONCE = 16  # tasks after one that waited alone, which are decided without waiting
_AGAIN = 0.2  # seconds between two times that a worker reads the file
_LENGTH = Layout("<I")


class Decided(msgspec.Struct, array_like=True):
    """A decision as a worker sends it: its JSON, and what is counted of it."""

    data: bytes
    tier: Tier
    action: str
    confidence: float


class _Order(msgspec.Struct, array_like=True):
    """Tasks for a worker; without any, it reads the state file again."""

    texts: list[str]
    top: int = 0
    team: bool = False


class _Report(msgspec.Struct, array_like=True):
    """What a worker made of an order: why it could not be carried out, or a decision for each task."""

    problem: str
    decided: list[Decided]


class _Task(NamedTuple):
    text: str
    top: int
    team: bool
    outcome: asyncio.Future[Decision | Decided]


class Worker:
    """One of them, as this process sees it.

    Attributes:
        basis: what its decisions rest on, as `Tasks.basis`; None before it has read the file.
        busy: whether it works on an order.
        lost: whether it has ended.
        read: when it read the file last, of a monotonic clock.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.basis: tuple[Any, ...] | None = None
        self.busy = self.lost = False
        self.read = float("-inf")

    async def ask(self, order: _Order) -> list[Decided] | None:
        """Decisions for the tasks of an order; None where it gave none."""
        self.busy = True
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(sock=self._connection)
            reader, writer = self._streams
            data = msgspec.msgpack.encode(order)
            writer.write(_LENGTH.pack(len(data)) + data)
            (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            report = msgspec.msgpack.decode(await reader.readexactly(size), type=_Report)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            self.lost = True
            event(logging.ERROR, "worker lost", problem=reason_of(error))
            return None
        finally:
            self.busy = False
        if report.problem:
            event(logging.WARNING, "worker failed", problem=report.problem[:300])
            return None
        return report.decided

    def close(self) -> None:
        """Let it end."""
        self.lost = True
        if self._streams is not None:
            self._streams[1].close()
        else:
            self._connection.close()


class Tasks:
    """Decides the tasks of a space.

    Args:
        llm: decides here, and learns.
        workers: decide too, from the same state file.
        stored: whether all that is routed among is in that file.
    """

    def __init__(self, llm: RuvLLM, workers: Sequence[Worker] = (), stored: Callable[[], bool] = lambda: True) -> None:
        self._llm, self._workers, self._stored = llm, workers, stored
        self._waiting = deque[_Task]()
        self._running = set[asyncio.Task[None]]()
        self._begun, self._at_once = False, 0

    @property
    def basis(self) -> tuple[Any, ...]:
        """What decisions rest on: another tuple whenever tasks may be decided otherwise."""
        router = self._llm.routing.router
        return router, router.shared, router.stats["feedback"]

    async def route(self, text: str, top: int, team: bool, alone: bool) -> Decision | Decided:
        """The decision for a task.

        Args:
            alone: whether no other request is being answered, for which waiting a moment could pay.

        Raises:
            InputError: the text is empty or far too large.
        """
        if alone and self._at_once and not self._waiting:
            self._at_once -= 1
            return await self._llm.aroute(text, top, team)
        text = checked_text(text)
        outcome: asyncio.Future[Decision | Decided] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Task(text, top, team, outcome))
        if not self._begun:  # what other connections have sent by now is read before this is called
            self._begun = True
            asyncio.get_running_loop().call_soon(self._start, self._decide())
        return await outcome

    def refresh(self) -> None:
        """Have idle workers read the file where it has what they have not seen."""
        if not self._stored():
            return
        basis, now = self.basis, monotonic()
        for worker in self._workers:
            if not (worker.busy or worker.lost or worker.basis == basis or now - worker.read < _AGAIN):
                worker.busy = True
                self._start(self._read(worker, basis))

    def close(self) -> None:
        """Let the workers end."""
        for worker in self._workers:
            worker.close()

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _read(self, worker: Worker, basis: tuple[Any, ...]) -> None:
        self._llm.store.flush()
        read = await worker.ask(_Order([]))
        worker.read, worker.basis = monotonic(), None if read is None else basis

    async def _decide(self) -> None:
        most = _HERE if self._workers else _TOGETHER
        try:
            while self._waiting:
                self._hand_over()
                if some := self._take(most):
                    # Connections read in the same turn of the event loop do not see one another: whether a task has
                    # company shows only in the queue, a turn later.
                    self._at_once = _AT_ONCE if len(some) == 1 and not self._waiting else 0
                    await self._here(some)
                    await asyncio.sleep(0)
        finally:
            self._begun = False

    def _hand_over(self) -> None:
        self.refresh()
        basis = self.basis
        for worker in self._workers:
            if self._waiting and worker.basis == basis and not (worker.busy or worker.lost):
                worker.busy = True
                self._start(self._there(worker, self._take(_THERE)))

    def _take(self, most: int) -> list[_Task]:
        """The first that wait, asked for in the same way."""
        some = list[_Task]()
        while self._waiting and len(some) < most and (not some or self._waiting[0][1:3] == some[0][1:3]):
            task = self._waiting.popleft()
            if not task.outcome.done():  # its client is still there
                some.append(task)
        return some

    async def _there(self, worker: Worker, some: list[_Task]) -> None:
        decided = await worker.ask(_Order([one.text for one in some], *some[0][1:3])) if some else []
        if decided is None or len(decided) != len(some):
            worker.basis = None
            await self._here(some)
            return
        for task, one in zip(some, decided, strict=True):
            if not task.outcome.done():
                task.outcome.set_result(one)
        self._hand_over()

    async def _here(self, some: list[_Task]) -> None:
        texts, top, team = [one.text for one in some], *some[0][1:3]
        with suppress(Exception):  # of one of them, perhaps, with which the others have nothing to do
            for task, decision in zip(some, await self._llm.aroute_many(texts, top, team), strict=True):
                if not task.outcome.done():
                    task.outcome.set_result(decision)
            return
        for task in some:
            try:
                decision = await self._llm.aroute(task.text, top, team)
            except Exception as error:
                if not task.outcome.done():
                    task.outcome.set_exception(error)
            else:
                if not task.outcome.done():
                    task.outcome.set_result(decision)


def fork_workers(count: int, make: Callable[[], RuvLLM], keeps: bool) -> list[Worker]:
    """So many processes that decide from a state file, before this one has opened it.

    Args:
        make: opens it.
        keeps: whether agents that clients add are in it.
    """
    workers = list[Worker]()
    ends = list[socket.socket]()
    for _ in range(count):
        ours, theirs = socket.socketpair()
        if os.fork():
            theirs.close()
            ends.append(ours)
            workers.append(Worker(ours))
            continue
        status = 1
        try:
            for end in (*ends, ours):  # a worker ends when nobody can give it an order any more
                end.close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that answers
            with theirs, theirs.makefile("rb") as orders:
                _follow(orders, theirs, make, keeps)
            status = 0
        finally:
            os._exit(status)
    return workers


def _follow(orders: BinaryIO, reports: socket.socket, make: Callable[[], RuvLLM], keeps: bool) -> None:
    """Carry out orders until there are no more."""
    llm: RuvLLM | None = None
    encode, decode = msgspec.json.Encoder().encode, msgspec.msgpack.Decoder(_Order).decode
    while len(head := orders.read(_LENGTH.size)) == _LENGTH.size:
        order = decode(orders.read(*_LENGTH.unpack(head)))
        try:
            if not order.texts or llm is None:
                if llm is not None:
                    llm.store.close()  # and nothing is written
                    llm = None
                llm = make()
                if keeps and (added := load_agents(llm.store)):
                    llm.add_agents(list(added.values()))
                llm.route("warm up")
            found = llm.route_many(order.texts, order.top, order.team) if order.texts else []
            report = _Report("", [Decided(encode(one), one.tier, one.action, one.confidence) for one in found])
        except Exception as error:
            report = _Report(reason_of(error) or "it failed", [])
        data = msgspec.msgpack.encode(report)
        reports.sendall(_LENGTH.pack(len(data)) + data)
