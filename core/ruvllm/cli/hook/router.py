"""A router for a hook: opened for one event, or kept open by the process that answers many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruvllm import Agent, RuvLLM
from ruvllm.cli.options import caching_host

_MOST_OPENED = 4
_opened: dict[tuple[Any, ...], tuple[RuvLLM, int]] | None = None  # by what they were opened with, where they stay open


def stay() -> None:
    """Keep what is opened for the next event: this process answers many."""
    global _opened
    _opened = {}


@contextmanager
def open_router(agents: list[Agent] | Path | None, encoder: str, state: Path | None) -> Iterator[RuvLLM]:
    """A RuvLLM, which stays open where this process does, until its state file is changed by another."""
    if _opened is None:
        with RuvLLM(agents, encoder=encoder, state=state, host=caching_host()) as llm:
            yield llm
        return
    key = (tuple(agents) if isinstance(agents, list) else agents, encoder, state)
    before = None if isinstance(agents, Path) else _opened.pop(key, None)
    if before is not None and _version(before[0]) != before[1]:
        before[0].close()
        before = None
    llm = before[0] if before else RuvLLM(agents, encoder=encoder, state=state, host=caching_host())
    try:
        yield llm
    except BaseException:
        llm.close()
        raise
    _opened[key] = llm, _version(llm)
    while len(_opened) > _MOST_OPENED:
        _opened.pop(next(iter(_opened)))[0].close()


def _version(llm: RuvLLM) -> int:
    """Another number whenever another process has changed the state file."""
    return int(llm.store.read("PRAGMA data_version")[0][0])
