"""Conversations and documents of other programs as memories: Claude Code, ChatGPT, Markdown, mbox."""

from __future__ import annotations

import json
import mailbox
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from ruvllm import InputError
from ruvllm.cli.transcripts import read_lines, redacted
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.subgraph import Edge
from ruvllm.state.record import OBSERVED, SESSION, SPEAKER, Memory
from ruvllm.text.surrogates import well_formed

__all__ = ["FORMATS", "format_of", "keep", "read_talks"]

FORMATS = ("ruvllm", "claude", "chatgpt", "markdown", "mbox")
_MOST_FILE = 1 << 30  # bytes
_MOST_TEXT = 8_000  # characters of one memory
_HEADING = re.compile(r"^(#{1,6})\s+(.*)$", re.MULTILINE)
_ENDS = {".md": "markdown", ".markdown": "markdown", ".mbox": "mbox"}


def format_of(path: Path) -> str:
    """The format of a file, by the end of its name, and of JSON by its first line."""
    if path.suffix.lower() in _ENDS:
        return _ENDS[path.suffix.lower()]
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            line = file.readline(1 << 20)
        if path.suffix.lower() == ".json" and line.lstrip().startswith("["):
            return "chatgpt"
        first = json.loads(line)
        return "claude" if isinstance(first, dict) and {"sessionId", "message", "type"} & first.keys() else "ruvllm"
    except (OSError, ValueError, RecursionError):
        return "ruvllm"


def read_talks(path: Path, kind: str, collection: str) -> Iterator[list[Memory]]:
    """The conversations or documents of a file, each as memories in their order; secrets are left out.

    Raises:
        InputError: the file is not of this format, or too large.
    """
    if path.stat().st_size > _MOST_FILE:
        raise InputError(f"{path} is too large", field=str(path), fix=f"split it; up to {_MOST_FILE:,} bytes are read")
    try:
        for talk in _READERS[kind](path):
            turns = [(about, redacted(well_formed(text)).strip()[:_MOST_TEXT]) for about, text in talk]
            found = [Memory(text, collection=collection, metadata=about) for about, text in turns if text]
            if found:
                yield found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fix = f"give an export of this kind, or another --from: {', '.join(FORMATS)}"
        raise InputError(f"{path} cannot be read as {kind}: {error!r:.160}", field=str(path), fix=fix) from None


def keep(memory: MemoryStore, talk: Sequence[Memory]) -> int:
    """Remember a conversation, each memory following the one before; returns how many."""
    ids = memory.add(talk)
    memory.graph.link_all(Edge(after, before, "Follows") for before, after in pairwise(ids))
    return len(ids)


_Turn = tuple[dict[str, Any], str]


def _claude(path: Path) -> Iterator[list[_Turn]]:
    turns = list[_Turn]()
    for row in read_lines(path, lambda where, what: None):
        message = row.get("message")
        if row.get("type") not in ("user", "assistant") or not isinstance(message, dict) or row.get("isMeta"):
            continue
        text = _text_of(message.get("content"))
        if text and not text.startswith("<"):  # what the client put there
            about = {
                SPEAKER: row["type"],
                SESSION: str(row.get("sessionId", path.stem)),
                OBSERVED: row.get("timestamp"),
            }
            turns.append((_given(about), text))
    yield turns


def _chatgpt(path: Path) -> Iterator[list[_Turn]]:
    for talk in json.loads(path.read_text("utf-8")):
        rows = [node["message"] for node in talk["mapping"].values() if node.get("message")]
        turns = list[_Turn]()
        for row in sorted(rows, key=lambda row: row.get("create_time") or 0):
            role, text = row["author"]["role"], _text_of(row.get("content", {}).get("parts"))
            if role in ("user", "assistant") and text:
                when = row.get("create_time")
                about = {SPEAKER: role, SESSION: str(talk.get("title") or talk.get("id") or path.stem)}
                turns.append((_given(about | {OBSERVED: _iso(when)}), text))
        yield turns


def _markdown(path: Path) -> Iterator[list[_Turn]]:
    text = path.read_text("utf-8", "replace")
    cuts = [match.start() for match in _HEADING.finditer(text)]
    parts = [text[a:b] for a, b in pairwise([0, *cuts, len(text)]) if text[a:b].strip()]
    yield [({SESSION: path.name, "source": path.name}, part.strip()) for part in parts]


def _mbox(path: Path) -> Iterator[list[_Turn]]:
    box = mailbox.mbox(path, create=False)
    try:
        for mail in box:
            part = next((one for one in mail.walk() if one.get_content_type() == "text/plain"), None)
            body = part.get_payload(decode=True) if part is not None else b""
            text = bytes(body).decode("utf-8", "replace") if isinstance(body, bytes) else ""
            subject, sender = str(mail["subject"] or ""), str(mail["from"] or "").split("<")[0].strip(' "')
            try:
                when = parsedate_to_datetime(str(mail["date"])).isoformat()
            except (ValueError, TypeError):
                when = None
            about = {SPEAKER: sender or None, SESSION: subject.removeprefix("Re: ") or None, OBSERVED: when}
            yield [(_given(about), f"{subject}\n\n{text}")]
    finally:
        box.close()


_READERS = {"claude": _claude, "chatgpt": _chatgpt, "markdown": _markdown, "mbox": _mbox}


def _text_of(content: Any) -> str:
    parts = [content] if isinstance(content, str) else content if isinstance(content, list) else []
    texts = (part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part for part in parts)
    return "\n".join(text for text in texts if isinstance(text, str)).strip()


def _iso(when: Any) -> str | None:
    return datetime.fromtimestamp(when, UTC).isoformat() if isinstance(when, int | float) and 0 < when < 1e11 else None


def _given(about: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in about.items() if value is not None}
