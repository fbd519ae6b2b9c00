"""The log: one JSON object a line on stderr, without secrets, and without prompts unless asked for."""

from __future__ import annotations

import logging
import sys
import time
from functools import lru_cache
from typing import Any

import msgspec

LOG = logging.getLogger("ruvllm.edge")
_encode = msgspec.json.Encoder(enc_hook=str).encode


@lru_cache(4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class _Json(logging.Formatter):
    """A record and its `data` as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "data", {}),
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return _encode(row).decode()


def start_logging(level: str) -> None:
    """Send what ruvllm and uvicorn have to say to stderr."""
    # What no line shows need not be found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    for name in ("ruvllm", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level.upper())


def event(level: int, what: str, **data: Any) -> None:
    """Log an event with its data. Where in the code it was is not looked up: that takes longer than all the rest."""
    if LOG.isEnabledFor(level):
        record = logging.LogRecord(LOG.name, level, "", 0, what, None, None)
        record.data = data
        LOG.handle(record)
