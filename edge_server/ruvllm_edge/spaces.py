"""The spaces of a server: each a state file of its own, opened when first used, closed when others need the room."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruvllm import ConfigError, RuvLLM
from ruvllm.agents.catalog import builtin_agents
from ruvllm_edge.auth import DEFAULT_SPACE, check_space
from ruvllm_edge.edge import Edge
from ruvllm_edge.logs import event
from ruvllm_edge.settings import Settings

_TICK = 1.0  # seconds between two looks for room


def spaces_folder(settings: Settings, state: str) -> Path | None:
    """Where the state files of the spaces lie: as set, else beside the server's own; None where that is in memory."""
    if settings.spaces is not None:
        return settings.spaces
    return None if state == ":memory:" else Path(f"{state}.spaces")


def space_file(folder: Path, name: str) -> Path:
    """The state file of a space. Raises ConfigError: none can be called so."""
    return folder / f"{check_space(name)}.db"


class Spaces:
    """Open ones, of which those that nobody uses are closed when there are too many.

    What only reads is there once: encoders, catalog, trained weights, backends.

    Args:
        default: of the keys that name no space, and of everyone where no key is needed; it stays open.
        make: an `Edge` of a name and its RuvLLM.
        folder: of the others' state files; None where there can be none.
        most: that are open beside the default one, unless more are in use at once.
    """

    def __init__(self, default: Edge, make: Callable[[RuvLLM, str], Edge], folder: Path | None, most: int) -> None:
        self.default, self._make, self._folder, self._most = default, make, folder, most
        self._open: OrderedDict[str, Edge] = OrderedDict()  # the ones used longest ago first
        self._turns: dict[str, asyncio.Lock] = {}
        self._full = asyncio.Event()

    @property
    def opened(self) -> list[Edge]:
        """Those that are open, the default one first."""
        return [self.default, *self._open.values()]

    def closed(self) -> list[str]:
        """Names of those that have a state file and are not open."""
        files = [] if self._folder is None else self._folder.glob("*.db")
        return sorted({file.stem for file in files} - {DEFAULT_SPACE} - self._open.keys())

    def get(self, name: str) -> Edge | None:
        """One that is open; it counts as used now."""
        if name == DEFAULT_SPACE:
            return self.default
        found = self._open.get(name)
        if found is not None:
            self._open.move_to_end(name)
        return found

    async def open(self, name: str) -> Edge:
        """One, opened if need be. Raises ConfigError, StoreError: it cannot be."""
        async with self._turns.setdefault(name, asyncio.Lock()):
            found = self.get(name)
            if found is None:
                found = self._open[name] = await self._opened(name)
                self._full.set()
            return found

    async def _opened(self, name: str) -> Edge:
        if self._folder is None:
            fix = "start the server with a state file, or set RUVLLM_SPACES to a folder"
            raise ConfigError("a server in memory has no other spaces", field="spaces", fix=fix)
        file, like, base = space_file(self._folder, name), self.default.llm, self.default.agents.base
        agents = None if base == builtin_agents() else base  # which need not be checked once more
        alone = replace(like.config.federated, url="")  # it would hand to others what one space taught
        config = replace(like.config, agents=None, state=None, federated=alone)
        backends: Any = like.backends  # by Tier: a Mapping's keys are invariant

        def made() -> RuvLLM:
            return RuvLLM(
                agents,
                encoder=like.encoders.name,
                state=file,
                like=like,
                config=config,
                backends=backends,
            )

        edge = self._make(await asyncio.to_thread(made), name)
        await edge.start()
        event(logging.INFO, "space opened", space=name)
        return edge

    async def close(self, name: str) -> bool:
        """Write what waits of one and let go of its file, unless somebody uses it; whether it is closed."""
        async with self._turns.setdefault(name, asyncio.Lock()):
            edge = self._open.get(name)
            if edge is None or edge.uses:
                return edge is None
            del self._open[name]
            await edge.close()
        event(logging.INFO, "space closed", space=name)
        return True

    async def make_room(self) -> None:
        """For ever: close those used longest ago when there are too many; never one in use."""
        while True:
            with suppress(TimeoutError):  # what was in use before may not be any more
                await asyncio.wait_for(self._full.wait(), _TICK)
            self._full.clear()
            for name in list(self._open):
                if len(self._open) <= self._most:
                    break
                await self.close(name)
