"""One memory: its fields, what of them can be kept, and the checksum that tells whether it still is what it was."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.hints import nearest
from ruvllm.reprs import Shown, shortened
from ruvllm.text.dates import Span, date_terms, dates_in, first_date
from ruvllm.text.depth import deeper
from ruvllm.text.surrogates import well_formed
from ruvllm.text.terms import speaker_terms, term_hashes, terms

NODE_KINDS = ("Query", "Document", "QAPair", "AgentStep", "Fact", "Concept")  # FEATURES.md M3
LITTLE = np.dtype("<f4")  # of vectors in the file
SPEAKER, SESSION, OBSERVED = "speaker", "session", "observed_at"  # keys of metadata that a search reads
VALID_FROM, VALID_TO, AGENT, EXPIRES = "valid_from", "valid_to", "agent_id", "expires"
ELSEWHERE = "elsewhere"  # among the metadata of a memory whose text another node does not give away: its id there
_TIMES = (OBSERVED, VALID_FROM, VALID_TO, EXPIRES)
_DATED, _MOST_DATES = 2_000, 8  # characters that dates are looked for in, and how many count
_NO_DAY = date(3, 1, 1)  # long before any
_MOST_TEXT = 1_000_000
_DEEPEST = 100


@dataclass(frozen=True, slots=True, repr=False)
class Memory(Shown):
    """One thing remembered.

    Attributes:
        id: given by the store; 0 before that.
        kind: one of NODE_KINDS.
        quality: 0 to 1, how good it proved to be.
        accesses: how often a search returned it.
        created, accessed: seconds since 1970, UTC.
        archived: out of the index, reachable by its id and through its concept.
    """

    text: str
    kind: str = "Document"
    collection: str = "default"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    quality: float = 1.0
    id: int = 0
    accesses: int = 0
    created: float = 0.0
    accessed: float = 0.0
    archived: bool = False


Given = str | Memory | Mapping[str, Any]


def dated(metadata: Mapping[str, Any], **given: str | None) -> dict[str, Any]:
    """Metadata with what else is given of a memory: `observed_at`, `valid_from`, `valid_to`, `expires`, and texts.

    Raises:
        InputError: one of the dates is none, or it ends before it begins.
    """
    about = {**metadata, **{name: value for name, value in given.items() if value is not None}}
    spans = dict[str, Span]()
    for name in _TIMES:
        if (value := given.get(name)) is None:
            continue
        span = first_date(value) or first_date(f"in {value}")  # a year alone
        if span is None:
            fix = 'give a date such as "2023-05-08", "8 May 2023" or "March 2023"'
            raise InputError(f"{name} is {shortened(value)}", field=name, fix=fix)
        spans[name] = span
        about[name] = value if first_date(value) else str(span.first)
    begins, ends = spans.get(VALID_FROM), spans.get(VALID_TO)
    if begins and ends and ends.last < begins.first:
        raise InputError("valid_to is before valid_from", field=VALID_TO, fix="give the day that it ends on or after")
    return about


def heard(text: str, metadata: Mapping[str, Any]) -> str:
    """A memory's text as an encoder reads it: with the name of who said it, where that is among the metadata."""
    speaker = metadata.get(SPEAKER)
    return f"{speaker}: {text}" if isinstance(speaker, str) and speaker.strip() else text


def word_hashes(text: str, metadata: Mapping[str, Any]) -> NDArray[np.uint32]:
    """The hashes of all that a memory is found by: its terms in order, who said it, the days that it speaks of.

    Relative dates count from `observed_at` among the metadata, and are none without it.
    """
    observed = first_date(metadata.get(OBSERVED))
    spans = dates_in(text[:_DATED], observed.first if observed else _NO_DAY)[:_MOST_DATES]
    found = dict.fromkeys(term for span in (observed, *spans) if span for term in date_terms(span, stored=True))
    return term_hashes([*terms(text), *speaker_terms(metadata.get(SPEAKER)), *found])


def checksum(collection: str, kind: str, space: str, text: str, metadata: str, vector: bytes) -> int:
    """CRC-32 over what of a memory never changes."""
    return zlib.crc32(vector, zlib.crc32("\0".join((collection, kind, space, text, metadata)).encode()))


def read_metadata(text: str, inside: int = 0) -> dict[str, Any]:
    """The object that a metadata column holds. Raises ValueError when it holds none.

    Args:
        inside: of so many levels around the metadata.
    """
    if text == "{}":  # most have none
        return {}
    if deeper(text, _DEEPEST + 1 + inside):
        raise ValueError("nested too deeply")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def row_of(memory: Memory) -> tuple[str, str, str, str, float]:
    """Collection, kind, text, metadata and quality as they are kept: a half of a character is replaced.

    Raises:
        InputError: they cannot be kept.
    """
    if not isinstance(memory.text, str) or not memory.text.strip() or len(memory.text) > _MOST_TEXT:
        raise InputError("a memory has no usable text", field="text", fix=f"give 1 to {_MOST_TEXT:,} characters")
    if memory.kind not in NODE_KINDS:
        raise InputError(f"kind is {memory.kind!r}", field="kind", fix=f"use one of {', '.join(NODE_KINDS)}")
    if not isinstance(memory.collection, str) or not 0 < len(memory.collection) <= 200:
        raise InputError(f"collection is {memory.collection!r}"[:120], field="collection", fix="give a short name")
    if not isinstance(memory.quality, int | float) or not 0 <= memory.quality <= 1:
        raise InputError(f"quality is {memory.quality!r}"[:120], field="quality", fix="use a number from 0 to 1")
    try:
        if _deeper(memory.metadata, _DEEPEST):
            raise ValueError(f"more than {_DEEPEST} levels")
        metadata = json.dumps(dict(memory.metadata), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if len(metadata) > _MOST_TEXT:
            raise ValueError(f"more than {_MOST_TEXT:,} characters")
    except (TypeError, ValueError) as error:
        fix = "give an object of text, finite numbers, booleans, lists and objects"
        raise InputError(f"it cannot be kept as JSON: {error}"[:200], field="metadata", fix=fix) from None
    collection, text, metadata = map(well_formed, (memory.collection, memory.text, metadata))
    return collection, memory.kind, text, metadata, float(memory.quality)


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects lie in each other more deeply, or in a circle."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return bool(inside) and (levels == 0 or any(_deeper(part, levels - 1) for part in inside))


def memories_of(given: object, about: Mapping[str, Any]) -> Iterator[Memory]:
    """What is to be remembered, one or several, each with these fields too. Raises InputError: no memory, no field."""
    given = [given] if isinstance(given, str | Memory | Mapping) else given
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        fix = "give a text, a Memory, or a list of them"
        raise InputError(f"memories is {shortened(given)}", field="memories", fix=fix)
    names = Memory.__dataclass_fields__
    for one in given:
        fields = {**one, **about} if isinstance(one, Mapping) else {"text": one, **about}
        for name in fields:
            if name not in names:
                message = f"a memory has no field {shortened(name)}"
                raise InputError(message, field=str(name)[:60], fix=nearest(name, names))
        yield replace(one, **about) if isinstance(one, Memory) else Memory(**{"text": "", **fields})


def ids_of(given: object) -> list[int]:
    """Ids of memories, or one. Raises InputError: they are none."""
    ids = [given] if isinstance(given, int) else given
    if isinstance(ids, Iterable) and not isinstance(ids, str | bytes):
        ids = list(ids)
        if all(isinstance(i, int | np.integer) for i in ids):
            return [int(i) for i in ids]
    fix = "give ids, as add returns and found memories have them"
    raise InputError(f"ids is {shortened(given)}", field="ids", fix=fix)
