"""Conversations and documents of other programs as memories: Claude Code, ChatGPT, Markdown, mbox."""

from __future__ import annotations

import json
import mailbox
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from email.utils import parsedate_to_datetime
from hashlib import sha256
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

from ruvllm import InputError
from ruvllm.cli.report.transcripts import Note, read_lines, redacted
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.subgraph import Edge
from ruvllm.state.record import OBSERVED, SESSION, SPEAKER, Memory
from ruvllm.text.dates import first_date
from ruvllm.text.surrogates import well_formed

FORMATS = ("ruvllm", "claude", "chatgpt", "markdown", "mbox")
_MOST_FILE = 1 << 30  # bytes
_MOST_TEXT = 8_000  # characters of one memory
_MOST_NAME = 200  # characters of a speaker or a session
_PIECE = 128  # memories that are written together
IMPORT = "import"  # key of metadata: what they came with
_ODD = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError)
_TAG = re.compile(r"<(style|script)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_REPLY = re.compile(r"^((re|fwd?|aw|wg):\s*)+", re.IGNORECASE)
_Turn = tuple[dict[str, Any], str]
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


def read_talks(path: Path, kind: str, collection: str, note: Note) -> Iterator[Talk]:
    """The conversations or documents of a file, in pieces; secrets are left out.

    Args:
        note: called with where and what, of each item that cannot be read; the others are.

    Raises:
        InputError: the file is not of this format, or too large.
    """
    if path.stat().st_size > _MOST_FILE:
        raise InputError(f"{path} is too large", field=str(path), fix=f"split it; up to {_MOST_FILE:,} bytes are read")
    try:
        for talk in _READERS[kind](path, note):
            turns = [(about, redacted(well_formed(text)).strip()[:_MOST_TEXT]) for about, text in talk]
            found = [(about, text) for about, text in turns if text]
            for start in range(0, len(found), _PIECE):
                yield Talk(found[start : start + _PIECE], collection, start > 0)
    except (*_ODD, OSError) as error:
        fix = f"give an export of this kind, or another --from: {', '.join(FORMATS)}"
        raise InputError(f"{path} cannot be read as {kind}: {error!r:.160}", field=str(path), fix=fix) from None


class Talk:
    """Some memories, each following the one before.

    Args:
        turns: metadata and text of each.
        follows: whether the first follows the last one of the talk before this.

    Attributes:
        memories: with the digest of them all among their metadata, by which they are known when they come again.
    """

    def __init__(self, turns: Sequence[_Turn], collection: str, follows: bool) -> None:
        self.follows, self.digest = follows, sha256(json.dumps(turns, sort_keys=True).encode()).hexdigest()[:24]
        self.memories = [
            Memory(text, collection=collection, metadata=about | {IMPORT: self.digest}) for about, text in turns
        ]


class Importer:
    """Remembers talks that are not there yet, so that an import can be stopped, and done again, at any time.

    Args:
        memory: where they go.
        collection: of all of them.

    Attributes:
        memories, edges, there: added, and memories that were there already.
    """

    def __init__(self, memory: MemoryStore, collection: str) -> None:
        self._memory = memory
        self.memories = self.edges = self.there = 0
        self._last: int | None = None  # of the talk before
        sql = f"SELECT json_extract(metadata, '$.{IMPORT}'), max(id) FROM memories WHERE collection = ? GROUP BY 1"
        self._latest = {digest: id for digest, id in memory.store.read(sql, (collection,)) if digest is not None}

    def keep(self, talk: Talk) -> None:
        """Remember a talk with its edges, all or nothing. Raises StoreError: the file takes nothing."""
        if talk.digest in self._latest:
            self.there += len(talk.memories)
            self._last = self._latest[talk.digest]
            return
        with self._memory.store.write():
            ids = self._memory.add(talk.memories)
            chain = [self._last, *ids] if talk.follows and self._last is not None else ids
            self._memory.graph.link_all(Edge(after, before, "Follows") for before, after in pairwise(chain))
        self.memories, self.edges, self._last = self.memories + len(ids), self.edges + len(chain) - 1, ids[-1]
        self._latest[talk.digest] = ids[-1]


def _claude(path: Path, note: Note) -> Iterator[list[_Turn]]:
    turns = list[_Turn]()
    for row in read_lines(path, note):
        message = row.get("message")
        if row.get("type") not in ("user", "assistant") or not isinstance(message, dict) or row.get("isMeta"):
            continue
        text = _text_of(message.get("content"))
        if text and not text.startswith("<"):  # what the client put there
            when = row.get("timestamp")
            about = {
                SPEAKER: row["type"],
                SESSION: str(row.get("sessionId", path.stem))[:_MOST_NAME],
                OBSERVED: when if isinstance(when, str) and first_date(when) else None,
            }
            turns.append((_given(about), text))
    yield turns


def _chatgpt(path: Path, note: Note) -> Iterator[list[_Turn]]:
    talks = json.loads(path.read_bytes())
    if not isinstance(talks, list) or (talks and not any(isinstance(talk, dict) for talk in talks)):
        raise ValueError("no list of conversations")
    for number, talk in enumerate(talks, 1):
        try:
            yield _chat(talk, path)
        except _ODD as error:
            note(f"{path}: conversation {number}", f"{error!r:.120}")


def _chat(talk: dict[str, Any], path: Path) -> list[_Turn]:
    rows = [node["message"] for node in talk["mapping"].values() if isinstance(node, dict) and node.get("message")]
    turns = list[_Turn]()
    for row in sorted(rows, key=lambda row: _when(row.get("create_time"))):
        content = row.get("content")
        text = _text_of(content.get("parts") if isinstance(content, dict) else None)
        role = row["author"]["role"]
        if role in ("user", "assistant") and text:
            session = str(talk.get("title") or talk.get("id") or path.stem)[:_MOST_NAME]
            turns.append((_given({SPEAKER: role, SESSION: session, OBSERVED: _iso(row.get("create_time"))}), text))
    return turns


def _markdown(path: Path, _: Note) -> Iterator[list[_Turn]]:
    text = path.read_text("utf-8", "replace")
    cuts = [match.start() for match in _HEADING.finditer(text)]
    parts = [text[a:b] for a, b in pairwise([0, *cuts, len(text)]) if text[a:b].strip()]
    yield [({SESSION: path.name, "source": path.name}, part.strip()) for part in parts]


def _mbox(path: Path, note: Note) -> Iterator[list[_Turn]]:
    with path.open("rb") as file:
        if not file.read(1 << 16).lstrip().startswith(b"From "):
            raise ValueError("it begins with no mail")
    box = mailbox.mbox(path, create=False)
    try:
        for number, key in enumerate(box.iterkeys(), 1):
            try:
                yield [_mail(message_from_bytes(box.get_bytes(key), policy=default_policy))]
            except _ODD as error:
                note(f"{path}: mail {number}", f"{error!r:.120}")
    finally:
        box.close()


def _mail(mail: EmailMessage) -> _Turn:
    part = mail.get_body(("plain", "html"))
    body = part.get_payload(decode=True) if part is not None else b""
    charset = (part.get_content_charset() if part is not None else None) or "utf-8"
    try:
        text = bytes(body).decode(charset, "replace") if isinstance(body, bytes) else ""
    except LookupError:  # no such charset
        text = bytes(body).decode("utf-8", "replace") if isinstance(body, bytes) else ""
    if part is not None and part.get_content_subtype() == "html":
        text = unescape(_TAG.sub(" ", text))
    subject, sender = _header(mail, "subject"), _header(mail, "from").split("<")[0].strip(' "')
    try:
        when = parsedate_to_datetime(_header(mail, "date")).isoformat()
    except (ValueError, TypeError, OverflowError):
        when = None
    session = _REPLY.sub("", subject)[:_MOST_NAME]
    return _given(
        {SPEAKER: sender[:_MOST_NAME] or None, SESSION: session or None, OBSERVED: when}
    ), f"{subject}\n\n{text}"


def _header(mail: EmailMessage, name: str) -> str:
    """One of a mail's headers; "" for what the standard library makes nothing of."""
    try:
        return str(mail[name] or "")
    except _ODD:
        return ""


_READERS = {"claude": _claude, "chatgpt": _chatgpt, "markdown": _markdown, "mbox": _mbox}


def _text_of(content: Any) -> str:
    parts = [content] if isinstance(content, str) else content if isinstance(content, list) else []
    texts = (part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part for part in parts)
    return "\n".join(text for text in texts if isinstance(text, str)).strip()


def _when(when: Any) -> float:
    return float(when) if isinstance(when, int | float) and 0 < when < 1e11 else 0.0


def _iso(when: Any) -> str | None:
    return datetime.fromtimestamp(_when(when), UTC).isoformat() if _when(when) else None


def _given(about: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in about.items() if value is not None}
