"""What came of a prompt or a delegation, as far as its transcript says: logged, and learnt from where it is wanted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any

from ruvllm.cli.hook import log as hook_log
from ruvllm.cli.hook.events import name_of
from ruvllm.cli.hook.router import open_router
from ruvllm.cli.hook.session import Session
from ruvllm.cli.hook.settings import HookSettings
from ruvllm.cli.report.outcomes import ClientModels, cost_of
from ruvllm.cli.report.prices import load_prices
from ruvllm.cli.report.transcript_readers import read_asks
from ruvllm.cli.report.transcripts import Ask

_WAITS = (0.05, 0.1, 0.2, 0.4)  # seconds between two looks at a transcript that has no answer yet
_TAIL = 8_000_000  # bytes at the end of a transcript that are read


def on_end(event: dict[str, Any], entry: dict[str, Any], session: Session, settings: HookSettings, state: Path) -> None:
    """Log cost, tokens and success of what has just ended; teach them where the user wants it.

    Args:
        event: of SubagentStop or Stop.
        entry: what every line of the log has.
        state: the file that learns.

    Raises:
        RuvllmError: the state file cannot be used, or the user's prices.
    """
    ask = _ended(event)
    if ask is None:
        return
    success, _, signal = ask.outcome()
    prices = load_prices(None)
    came = {"agent": name_of(ask.agent), "model": name_of(ask.model), "success": success, "signal": signal}
    spent = {"cost": round(cost_of(ask, prices), 6), "tokens": list(ask.tokens), "seconds": round(ask.seconds, 1)}
    hook_log.append(entry | came | spent)
    agents = session.agents()
    if settings.learn and success is not None and agents:
        foreign = session.scopes.get(ask.agent) == "project" and not settings.trust
        with open_router(agents, "static", state) as llm:
            learner = ClientModels(llm, settings.models)
            learner.learn(ask, prices, routes=bool(ask.agent) and not foreign)
            learner.save()


def _ended(event: dict[str, Any]) -> Ask | None:
    """The last ask of the event's transcript; None where it does not say.

    A client may tell of an end before it has written the answer down, so that is waited for a little.
    """
    path = event.get("agent_transcript_path" if event["hook_event_name"] == "SubagentStop" else "transcript_path")
    if not isinstance(path, str) or not path.endswith(".jsonl"):
        return None
    for wait in (*_WAITS, 0.0):
        last = _last(Path(path))
        if last is not None and any(last.tokens):
            break
        sleep(wait)
    if last is not None and isinstance(event.get("agent_type"), str):
        last.agent = event["agent_type"]
    return last


def _last(file: Path) -> Ask | None:
    """The last ask of a transcript; None where there is none, or it cannot be read."""
    last = None
    with suppress(OSError, ValueError):
        if file.is_file() and not file.is_symlink():
            for ask in read_asks(file, lambda *_: None, max(0, file.stat().st_size - _TAIL)):
                last = ask
    return last
