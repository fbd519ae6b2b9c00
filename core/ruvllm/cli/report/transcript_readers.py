"""Asks of a transcript of Claude Code or of a rollout of Codex, as they go by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ruvllm.cli.hook.session import read_json
from ruvllm.cli.report.prices import Tokens
from ruvllm.cli.report.transcripts import Ask, Note, parts_of, read_lines, redacted, seconds_of, signal_of

_MOST_OUTPUT = 20_000  # characters of what a command printed, from its end
_MOST_CALLS = 2_000  # that wait for their result
_EDITS = ("Edit", "Write", "MultiEdit", "NotebookEdit")
_DELEGATES = ("Task", "Agent")
_STOPPED = "[Request interrupted by user"
_NO_ASK = re.compile(
    r"\s*(?:<(?:command-|local-command|task-notification|system-reminder|user-prompt-submit-hook|bash-"
    r"|environment_context|user_instructions)|Caveat:|\[Request interrupted|# AGENTS\.md|$)"
)
_WRONG = re.compile(
    r"(?i)\s*(?:no[,.! ]|nope|wrong|that(?:'s| is) (?:not|wrong)|still (?:fails|failing|broken|wrong|not)|undo|revert"
    r"|(?:it|this|that) (?:still )?(?:does ?n[o']t|fails|is broken)|you (?:broke|forgot|missed)|not what i)"
)
_ALIKE = 0.9  # of two prompts, from which the second is the first once more
_COMPARED = 400  # characters


@dataclass(slots=True)
class _State:
    """What is held of a transcript while it goes by."""

    client: str = "claude"
    session: str = ""
    project: str = ""
    agent: str = ""
    model: str = ""
    ask: Ask | None = None
    message: tuple[str, str, Tokens] | None = None  # id, model and tokens of the latest answer
    calls: dict[str, tuple[str, str]] = field(default_factory=dict)  # id -> (tool, command or agent)
    spent: Tokens = Tokens()  # noqa: RUF009
    written: set[tuple[str, str]] = field(default_factory=set)  # (file, hash of what an edit put in the place of)


def read_asks(path: Path, note: Note, start: int = 0) -> Iterator[Ask]:
    """The asks of a file in their order; each when the next begins, so that what was said of it counts.

    Args:
        start: byte to begin at, where only the end matters.
    """
    state = _State(session=path.stem, agent=str(read_json(path.with_suffix(".meta.json")).get("agentType") or ""))
    for row in read_lines(path, note, start):
        try:
            kind = row.get("type")
            if kind in ("user", "assistant"):
                yield from _of_claude(state, row, kind)
            elif isinstance(row.get("payload"), dict):
                state.client = "codex"
                yield from _of_codex(state, row, str(kind), row["payload"])
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            note(str(path), f"a line of another form than its type has ({type(error).__name__})")
    if state.ask is not None:
        yield state.ask


def _begin(state: _State, text: str, at: float) -> Iterator[Ask]:
    """A prompt ends the ask before it, and says something of it."""
    before, text = state.ask, redacted(text)
    if before is not None:
        again = SequenceMatcher(None, before.text[:_COMPARED], text[:_COMPARED]).quick_ratio() >= _ALIKE
        before.rejected = bool(_WRONG.match(text)) or again
        yield before
    state.calls.clear()
    state.written.clear()
    state.ask = Ask(state.client, state.session, state.project, text, state.agent, at)


def _of_claude(state: _State, row: dict[str, Any], kind: str) -> Iterator[Ask]:
    message = row.get("message")
    if not isinstance(message, dict) or row.get("isMeta") or row.get("isCompactSummary"):
        return
    state.session, state.project = str(row.get("sessionId") or state.session), str(row.get("cwd") or state.project)
    at, parts = seconds_of(row.get("timestamp")), parts_of(message.get("content"))
    if kind == "user":
        text = "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
        results = [part for part in parts if part.get("type") == "tool_result"]
        if not results and not _NO_ASK.match(text):
            if row.get("isSidechain") and not state.agent:
                state.agent = str(row.get("attributionAgent") or "general-purpose")
            elif not row.get("isSidechain"):
                state.agent = ""
            yield from _begin(state, text, at)
        elif state.ask is not None:
            state.ask.stopped = state.ask.stopped or text.startswith(_STOPPED)
            for part in results:
                outer = row.get("toolUseResult")
                _result(state, str(part.get("tool_use_id")), part, outer if isinstance(outer, dict) else {})
    elif state.ask is not None:
        if isinstance(row.get("attributionAgent"), str) and row.get("isSidechain"):
            state.ask.agent = state.agent = row["attributionAgent"]
        _spend(state, message, str(row.get("requestId") or ""))
        state.ask.ended = message.get("stop_reason") in ("end_turn", "stop_sequence", None)
        for part in parts:
            if part.get("type") == "tool_use":
                given = part.get("input")
                _call(state, str(part.get("id")), str(part.get("name")), given if isinstance(given, dict) else {})
    if state.ask is not None and at:
        state.ask.seconds = max(0.0, at - (state.ask.at or at))


def _spend(state: _State, message: dict[str, Any], request: str) -> None:
    """Tokens of an answer, which is in several lines with the same usage, or with more of it."""
    usage, model = message.get("usage"), str(message.get("model") or "")
    if state.ask is None or not isinstance(usage, dict) or model.startswith("<"):
        return
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    tokens = Tokens(*(_count(usage.get(name)) for name in names))
    id = f"{message.get('id')} {request}"
    if state.message is not None and state.message[:2] == (id, model) and message.get("id"):
        before = state.message[2]
        if request or before == tokens:
            state.ask.spend(model, Tokens(*(a - b for a, b in zip(tokens, before, strict=True))))
    else:
        state.ask.spend(model, tokens)
    state.message = (id, model, tokens)


def _call(state: _State, id: str, name: str, given: dict[str, Any]) -> None:
    ask = state.ask
    assert ask is not None
    ask.calls += 1
    subject = ""
    if name in _EDITS:
        ask.edits += 1
        file, new, old = (str(given.get(key) or "") for key in ("file_path", "new_string", "old_string"))
        if old and (file, old) in state.written and (file, f"was {new}") in state.written:
            ask.undone += 1  # what an edit had put there is taken away for what was there before
        if len(state.written) < _MOST_CALLS and len(new) + len(old) < _MOST_OUTPUT:
            state.written |= {(file, new), (file, f"was {old}")}
    elif name in _DELEGATES:
        subject = str(given.get("subagent_type") or "general-purpose")
        ask.delegated.append(subject[:200])
    elif name in ("Bash", "PowerShell"):
        subject = str(given.get("command") or "")[:_MOST_OUTPUT]
    if len(state.calls) < _MOST_CALLS:
        state.calls[id] = (name, subject)


def _result(state: _State, id: str, part: dict[str, Any], outer: dict[str, Any]) -> None:
    ask, (name, subject) = state.ask, state.calls.pop(id, ("", ""))
    if ask is None:
        return
    failed = part.get("is_error") is True
    ask.errors += failed and name not in ("Bash", "PowerShell")
    if name in ("Bash", "PowerShell"):
        said = "\n".join(str(block.get("text", "")) for block in parts_of(part.get("content")))
        said = said or f"{outer.get('stdout', '')}\n{outer.get('stderr', '')}"
        signal_of(ask, subject, said[-_MOST_OUTPUT:], failed)


def _of_codex(state: _State, row: dict[str, Any], kind: str, payload: dict[str, Any]) -> Iterator[Ask]:
    at, what = seconds_of(row.get("timestamp")), payload.get("type")
    item = payload.get("item") if isinstance(payload.get("item"), dict) else {}
    if kind == "session_meta":
        state.session, state.project = str(payload.get("id") or state.session), str(payload.get("cwd") or "")
        source = payload.get("source")
        spawn = source.get("subagent") if isinstance(source, dict) else None
        spawn = spawn.get("thread_spawn") if isinstance(spawn, dict) else None
        if isinstance(spawn, dict):
            state.agent = str(spawn.get("agent_role") or spawn.get("agent_type") or "default")
    elif kind == "turn_context":
        state.model = str(payload.get("model") or state.model)
    elif kind == "event_msg" and what == "user_message":
        yield from _codex_prompt(state, str(payload.get("message") or ""), at)
    elif kind == "event_msg" and what == "item_completed" and item:
        if item.get("type") == "UserMessage":
            text = "\n".join(str(part.get("text", "")) for part in parts_of(item.get("content")))
            yield from _codex_prompt(state, text, at)
        elif state.ask is not None and item.get("type") == "CommandExecution":
            command, code = item.get("command"), item.get("exit_code")
            line = " ".join(map(str, command)) if isinstance(command, list) else str(command)
            said = str(item.get("aggregated_output") or "")[-_MOST_OUTPUT:]
            signal_of(state.ask, line[:_MOST_OUTPUT], said, code != 0 if isinstance(code, int) else None)
    elif state.ask is not None:
        _codex_work(state, state.ask, kind, payload)
    if state.ask is not None and at:
        state.ask.seconds = max(0.0, at - (state.ask.at or at))


def _codex_prompt(state: _State, text: str, at: float) -> Iterator[Ask]:
    """Newer rollouts say a prompt twice, in the old form and the new."""
    if _NO_ASK.match(text):
        return
    if state.ask is not None and not state.ask.usage and state.ask.text == redacted(text):
        return
    yield from _begin(state, text, at)


def _codex_work(state: _State, ask: Ask, kind: str, payload: dict[str, Any]) -> None:
    what = payload.get("type")
    if what == "token_count" and isinstance(payload.get("info"), dict):
        usage = payload["info"].get("total_token_usage") or {}
        cached, written = _count(usage.get("cached_input_tokens")), _count(usage.get("cache_write_input_tokens"))
        total = Tokens(
            max(0, _count(usage.get("input_tokens")) - cached - written),
            _count(usage.get("output_tokens")),
            cached,
            written,
        )
        if total != state.spent:
            ask.spend(state.model, Tokens(*(max(0, a - b) for a, b in zip(total, state.spent, strict=True))))
            state.spent = total
    elif what == "task_complete":
        ask.ended = True
    elif what == "turn_aborted":
        ask.stopped = True
    elif kind == "response_item" and what in ("function_call", "custom_tool_call", "local_shell_call"):
        _codex_call(state, ask, payload)
    elif kind == "response_item" and what in ("function_call_output", "custom_tool_call_output"):
        name, command = state.calls.pop(str(payload.get("call_id")), ("", ""))
        output = payload.get("output")
        said = output if isinstance(output, str) else json.dumps(output)
        code = re.search(r"(?:exited with code|exit_code\W{1,4}|Exit code:)\s?(\d{1,5})", said[:2_000])
        if command:
            signal_of(ask, command, said[-_MOST_OUTPUT:], code[1] != "0" if code else None)
        ask.errors += bool(code) and code[1] != "0" and name == "apply_patch"  # type: ignore[index]


def _codex_call(state: _State, ask: Ask, payload: dict[str, Any]) -> None:
    name, given = str(payload.get("name") or "shell"), payload.get("arguments") or payload.get("action")
    ask.calls += 1
    try:
        given = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        given = {}
    given = given if isinstance(given, dict) else {}
    command = given.get("cmd") or given.get("command") or ""
    line = " ".join(map(str, command)) if isinstance(command, list) else str(command)
    if name == "apply_patch" or "apply_patch" in line[:200]:
        ask.edits += 1
        name = "apply_patch"
    if name == "spawn_agent":
        ask.delegated.append(str(given.get("agent_type") or "default")[:200])
    if len(state.calls) < _MOST_CALLS:
        state.calls[str(payload.get("call_id"))] = (name, line[:_MOST_OUTPUT])


def _count(value: Any) -> int:
    """Tokens; 0 for what is no such number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else 0
