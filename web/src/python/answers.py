"""What Python answers to JavaScript: JSON {"value"} or {"error"}, or a typed array; errors in the words of a page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from ruvllm.errors import REPAIR, TRAIN, RuvllmError

_STATE = "/home/pyodide/ruvllm.sqlite"
# Who reads a fix here can call methods and choose files; there is no command line beside a page.
_FIXES = {
    REPAIR: "import a copy that `export` gave",
    TRAIN: "import a copy that `export` gave",
    "ruvllm tiers": "import a copy that `export` gave",
    "pip install -U": "load the newest build",
    "pip install": "use .md, .json or .toml",
    "ruvllm serve": "try again",
}


def problem_row(error: RuvllmError) -> dict[str, str]:
    """An error as plain JSON, in the words of a page."""
    fix = next((here for elsewhere, here in _FIXES.items() if elsewhere in error.fix), error.fix)
    return {"field": error.field, "message": error.message.replace(_STATE, "the state"), "fix": fix}


def answer(work: Coroutine[Any, Any, Any]) -> Any:
    """The outcome, or a task of it: JSON {"value"} or {"error"}, or a typed array."""
    task: asyncio.Task[Any] = asyncio.Task(outcome(work), loop=asyncio.get_event_loop(), eager_start=True)
    return task.result() if task.done() else task


async def outcome(work: Coroutine[Any, Any, Any]) -> Any:
    """What the work gives, or the error that it raises."""
    try:
        value = await work
    except RuvllmError as error:
        return json.dumps({"error": {"name": type(error).__name__, **problem_row(error)}})
    except Exception as error:
        problem = {"name": type(error).__name__, "message": str(error)[:500], "field": "", "fix": "please report this"}
        return json.dumps({"error": problem})
    return value if hasattr(value, "js_id") else json.dumps({"value": value})
