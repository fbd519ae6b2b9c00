"""Waiting for what a test expects: for an event, never for a time. The limits are only for what would hang."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic, sleep

__all__ = ["PATIENCE", "patiently", "until", "until_async"]

PATIENCE = 120.0  # seconds after which something hangs, however busy the machine


def until(happened: Callable[[], object]) -> None:
    """Come back when it has happened."""
    end = monotonic() + PATIENCE
    while not happened():
        assert monotonic() < end, "it never happened"
        sleep(0.01)


async def until_async(happened: Callable[[], object]) -> None:
    """The same while an event loop goes on."""
    end = monotonic() + PATIENCE
    while not happened():
        assert monotonic() < end, "it never happened"
        await asyncio.sleep(0.01)


def patiently(check: Callable[[float], None]) -> None:
    """For what is about a limit of time itself: on a busy machine all times may be ten and a hundred times as long."""
    for slower in (1, 10, 100):
        try:
            return check(slower)
        except AssertionError:
            if slower == 100:
                raise
    return None
