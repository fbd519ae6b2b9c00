"""One answer from the answers to the sub-queries: by an LLM where there is one, else side by side, with sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ruvllm.inference.backend import Message, estimate_tokens
from ruvllm.inference.extractive import CANNOT_ANSWER
from ruvllm.inference.passages import Passage
from ruvllm.rlm.answers import Finding
from ruvllm.rlm.plan import Join
from ruvllm.rlm.reading import renumbered

__all__ = ["Merged", "legend", "merge", "plain_answer", "synthesis_messages", "unanswered_line"]

_TASK = {
    "parts": "Write one answer to the query from the findings below, in their order and without repeating yourself.",
    "compare": "The findings below are about things that the query compares. Write one answer that compares them.",
}
_RULES = "Use nothing but the findings. Keep their citations [n]. Do not mention sub-queries or findings."
_AGAIN = "An earlier answer said what no source bears out; leave it out or correct it:"


@dataclass(frozen=True, slots=True)
class Merged:
    """Findings whose citations have numbers of one common list of sources."""

    findings: tuple[Finding, ...]
    sources: tuple[Passage, ...]

    @property
    def answered(self) -> tuple[Finding, ...]:
        """Those that have an answer."""
        return tuple(finding for finding in self.findings if not finding.missing)

    @property
    def unanswered(self) -> tuple[Finding, ...]:
        """Those that have none."""
        return tuple(finding for finding in self.findings if finding.missing)


def merge(findings: Sequence[Finding]) -> Merged:
    """Number the sources of all findings in one list, each once."""
    places: dict[tuple[int | str, str], int] = {}
    sources: list[Passage] = []
    out = []
    for finding in findings:
        numbers = {}
        for own, source in enumerate(finding.sources, start=1):
            key = (source.id, source.text)
            if key not in places:
                sources.append(source)
                places[key] = len(sources)
            numbers[own] = places[key]
        text = renumbered(finding.text, numbers)
        out.append(Finding(finding.query, text, finding.sources, finding.depth, finding.missing))
    return Merged(tuple(out), tuple(sources))


def plain_answer(merged: Merged) -> str:
    """The answers one after another, each under its sub-query if there are several."""
    answered = merged.answered
    if not answered:
        return CANNOT_ANSWER
    if len(merged.findings) == 1:
        return answered[0].text
    return "\n\n".join(f"{finding.query.strip(' ?.!')}: {finding.text}" for finding in answered)


def synthesis_messages(
    query: str, merged: Merged, join: Join, room: int, doubtful: Sequence[str] = ()
) -> list[Message]:
    """The prompt that makes one answer; empty if the findings do not fit into so many tokens.

    Args:
        doubtful: sentences of an earlier answer that no source bears out.
    """
    parts = [f"{_TASK[join]} {_RULES}"]
    if doubtful:
        parts.append("\n".join([_AGAIN, *(f"- {sentence}" for sentence in doubtful)]))
    parts += [f"{finding.query}\n{finding.text}" for finding in merged.answered]
    messages = [Message("system", "\n\n".join(parts)), Message("user", query)]
    return messages if sum(estimate_tokens(message.content) + 4 for message in messages) <= room else []


def unanswered_line(merged: Merged) -> str:
    """What has no answer and why, "" if all have one; a query whose only answer is that there is none says so."""
    if not merged.unanswered or not merged.answered:
        return ""
    named = "; ".join(f"{finding.query.strip(' ?.!')} ({finding.missing})" for finding in merged.unanswered)
    return f"\n\nNot answered: {named}."


def legend(sources: Sequence[Passage]) -> str:
    """The sources by number, where they have names."""
    named = [(n, source.source or f"memory {source.id}") for n, source in enumerate(sources, start=1)]
    return "\n\n" + "\n".join(f"[{n}] {name}" for n, name in named) if named else ""
