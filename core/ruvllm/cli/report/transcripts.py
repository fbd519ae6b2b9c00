"""What coding agents wrote down of their sessions, as asks with what came of them; read line by line, never as a whole.

Transcripts are hostile: sizes are bounded before anything is parsed, links are not followed, and a line that cannot be
used costs no more than itself. They hold secrets: what leaves this module as text is redacted.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any

from ruvllm.cli.report.prices import Tokens
from ruvllm.text.surrogates import well_formed, well_formed_json

Note = Callable[[str, str], None]  # (where, what is wrong with it)

_MOST_LINE = 32_000_000  # bytes
_MOST_TEXT = 20_000  # characters of an ask
_REDACTED = "[redacted]"
_SECRET = re.compile(
    r"""-----BEGIN[\s\S]{0,64}PRIVATE\sKEY-----[\s\S]*?(?:-----END[^-]{0,64}-----|\Z)
    |\b(?:sk|pk|rk|ghp|gho|ghs|ghu|github_pat|glpat|xox[abprs]|npm|hf|dop_v1|shpat|AIza|ya29)[-_][\w.-]{8,}
    |\b(?:AKIA|ASIA)[0-9A-Z]{12,}|\bAIza[\w-]{20,}
    |\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*
    |(?<=://)[^\s/@:]{1,200}:[^\s/@]{1,200}(?=@)
    |\b[0-9a-fA-F]{32,}\b|\b(?=[A-Za-z]{0,60}\d)[\w+]{40,}={0,2}
    |\b[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+""",
    re.VERBOSE,
)
_NAMED_SECRET = re.compile(
    r"""(?ix)\b((?:[\w-]{0,40}(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|credential)[\w-]{0,20}
    |authorization)["']?\s{0,4}(?:=|:|\sis\s)\s{0,4}(?:bearer\s|basic\s)?)["']?[^\s"']{4,}["']?"""
)
_TESTS = re.compile(
    r"\b(?:pytest|py\.test|unittest|tox|nox|jest|vitest|mocha|rspec|phpunit|ctest"
    r"|(?:npm|pnpm|yarn|bun|make|mix|deno|cargo|go|swift|dotnet|mvn|\S*gradlew?|bazel|rake|just)\s+(?:run\s+)?[\w:-]*tests?)\b"
)
_CI = re.compile(r"\bgh\s+(?:pr\s+checks|run\s+(?:view|watch|list))|\bglab\s+ci\s+(?:status|view)")
_UNDO = re.compile(
    r"\bgit\s+(?:checkout\s+(?:--|\.|HEAD)|restore\b(?!\s+--staged)|reset\s+--hard|revert\b|stash(?:\s+push)?\s*(?:$|[;&|]))"
)
_COMMIT = re.compile(r"\bgit\s+(?:commit|push)\b|\bgh\s+pr\s+(?:create|merge)\b")
_FAILED = re.compile(
    r"(?i)\b[1-9]\d{0,6} (?:failed|failing|failures?|errors?)\b|\bFAILED\b|\bFAIL\b|\btest result: FAILED|✗|\bfail\t"
    r"|exit(?:ed with)? code:? [1-9]"
)
_PASSED = re.compile(
    r"(?i)\b[1-9]\d{0,6} (?:passed|passing|tests? ok)\b|\btest result: ok|^ok\b|\bPASS\b|\bpass\t"
    r"|exit(?:ed with)? code:? 0\b"
)


@dataclass(slots=True)
class Ask:
    """One thing that was asked for, and what came of it.

    Attributes:
        client: "claude" or "codex".
        session, project: of the transcript: its id, the folder it was in.
        text: the prompt, redacted, cut at 20,000 characters.
        agent: the sub-agent that it was delegated to; "" where the session itself took it.
        at: seconds since 1970 at its beginning; 0 where nothing says.
        seconds: to the last line of it.
        usage: tokens by model.
        delegated: agents that it was delegated to in parts.
        calls, errors: tools called, and how many of them said that they failed.
        edits, undone: files changed; changes taken back.
        tests, ci: how they last came out; None where there were none.
        committed: whether it was put on record.
        rejected: whether what the user said next was that it is wrong, or the same again.
        stopped: whether the user cut it off.
        ended: whether it came to an end by itself.
    """

    client: str
    session: str
    project: str
    text: str
    agent: str = ""
    at: float = 0.0
    seconds: float = 0.0
    usage: dict[str, Tokens] = field(default_factory=dict)
    delegated: list[str] = field(default_factory=list)
    calls: int = 0
    errors: int = 0
    edits: int = 0
    undone: int = 0
    tests: bool | None = None
    ci: bool | None = None
    committed: bool = False
    rejected: bool = False
    stopped: bool = False
    ended: bool = False

    @property
    def model(self) -> str:
        """The one that wrote most of it; "" where none is named."""
        return max(self.usage, key=lambda name: (self.usage[name].output, sum(self.usage[name])), default="")

    @property
    def tokens(self) -> Tokens:
        """Of all models."""
        total = Tokens()
        for one in self.usage.values():
            total = total.plus(one)
        return total

    def spend(self, model: str, tokens: Tokens) -> None:
        """Count tokens of a model."""
        self.usage[model] = self.usage.get(model, Tokens()).plus(tokens)

    def outcome(self) -> tuple[bool | None, float, str]:
        """(whether it worked out, how much that counts from 0 to 1, by what signal); None where nothing says."""
        if self.ci is not None:
            return self.ci, 0.9, f"CI {'passed' if self.ci else 'failed'}"
        if self.undone:
            return False, 0.8, "its changes were undone"
        if self.tests is not None:
            return self.tests, 0.8, f"tests {'passed' if self.tests else 'failed'}"
        if self.rejected:
            return False, 0.6, "the user said that it is wrong, or asked again"
        if self.stopped:
            return False, 0.3, "the user stopped it"
        if self.committed:
            return True, 0.6, "it was committed"
        if self.edits and self.ended and not self.errors:
            return True, 0.3, "its edits were kept"
        return None, 0.0, "nothing says"


def signal_of(ask: Ask, command: str, output: str, failed: bool | None) -> None:
    """What a shell command and its output say of an ask.

    Args:
        failed: whether it exited with an error; None where only the output says.
    """
    bad = failed if failed is not None else True if _FAILED.search(output) else None
    good = bad is False or (bad is None and bool(_PASSED.search(output)))
    if _CI.search(command):
        if bad or good or _FAILED.search(output):
            ask.ci = bool(good) and not _FAILED.search(output)
    elif _TESTS.search(command):
        if bad or good:
            ask.tests = bool(good)
    elif _UNDO.search(command) and not bad:
        ask.undone += 1
    elif _COMMIT.search(command) and not bad:
        ask.committed = True


def redacted(text: str) -> str:
    """Without keys, passwords, tokens and addresses, as far as their form gives them away; cut at 20,000 characters."""
    short = well_formed(text[: _MOST_TEXT * 2])
    return _SECRET.sub(_REDACTED, _NAMED_SECRET.sub(rf"\1{_REDACTED}", short))[:_MOST_TEXT]


def transcript_files(root: Path, note: Note) -> Iterator[Path]:
    """Every *.jsonl file in a folder or under it, sorted; links and what is no regular file are named and skipped."""
    if root.is_file():
        yield root
        return
    for folder, folders, files in os.walk(root):
        for name in [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            note(os.path.join(folder, name), "a link, not followed")
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(".jsonl"):
                try:
                    regular = S_ISREG(path.lstat().st_mode)
                except OSError as error:
                    note(str(path), f"cannot be read ({error.strerror})")
                    continue
                if regular:
                    yield path
                else:
                    note(str(path), "a link or no regular file, not read")


def read_lines(path: Path, note: Note, start: int = 0) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; what is none is named with its line and skipped.

    Args:
        start: byte from which it is read; what is left of a line there is skipped.
    """
    try:
        with open(path, "rb") as file:
            number = 0
            if start:
                file.seek(start)
                file.readline(_MOST_LINE)
            while line := file.readline(_MOST_LINE + 1):
                number += 1
                if len(line) > _MOST_LINE:
                    note(f"{path}:{number}", f"longer than {_MOST_LINE:,} bytes")
                    while line and not line.endswith(b"\n"):
                        line = file.readline(_MOST_LINE)
                    continue
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                    row = well_formed_json(row) if b"\\u" in line else row
                except (ValueError, RecursionError):
                    note(f"{path}:{number}", "no JSON" if line.endswith(b"\n") else "cut off")
                    continue
                if isinstance(row, dict):
                    yield row
                else:
                    note(f"{path}:{number}", "no object")
    except OSError as error:
        note(str(path), f"cannot be read ({error.strerror})")


def parts_of(content: Any) -> list[dict[str, Any]]:
    """The blocks of a message's content, whatever form it has."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def seconds_of(stamp: Any) -> float:
    """Seconds since 1970 of an ISO 8601 time; 0 where it is none."""
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return 0.0
