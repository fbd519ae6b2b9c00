"""The log: one JSON object a line on stderr, without secrets, and without prompts unless asked for."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import msgspec

__all__ = ["LOG", "event", "start_logging"]

LOG = logging.getLogger("ruvllm.edge")
_encode = msgspec.json.Encoder(enc_hook=str).encode


class _Json(logging.Formatter):
    """A record and its `data` as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    for name in ("ruvllm", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level.upper())


def event(level: int, what: str, **data: Any) -> None:
    """Log an event with its data."""
    if LOG.isEnabledFor(level):
        LOG.log(level, what, extra={"data": data})
