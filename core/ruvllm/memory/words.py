"""BM25 over the memories of a collection: postings as arrays, kept up with the state file.

What a text's words are is in the state file beside it, written with it; postings are made of that when a collection
is first searched. SQLite's FTS5 takes many times as long for a question's words joined by OR.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from math import log
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import REPAIR, StoreError
from ruvllm.memory.filters import Filter
from ruvllm.memory.records import Records
from ruvllm.state.record import read_metadata, word_hashes
from ruvllm.text.dates import Span, date_terms
from ruvllm.text.lexical import spoken
from ruvllm.text.terms import SPOKEN, Sought, term_hashes, terms

_K1, _B = 1.2, 0.5  # saturation of repeated words, strength of the length normalisation
_TAIL = 1_024  # memories added since the postings were last sorted
_TAIL_FRACTION = 0.125
_MOST_OPEN = 1_000  # collections
_PAGE = 8_192
_GROUP = 64  # memories whose best score is looked at first
_TEXTS = 512  # read at once, to look for a phrase
_MOST_NAMED = 1_024  # memories of one name

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Scored:
    """The same for some postings: ids int64 (n,) rising, scores float32 (n,), speakers bool (n,) or None."""

    ids: Ids
    scores: Floats
    speakers: NDArray[np.bool_] | None = None

    def best(self, k: int) -> tuple[Ids, Floats]:
        scores, least = self.scores, np.float32(1e-9)
        groups = len(scores) // _GROUP
        if groups > k:  # what k groups reach is no more than what the k best do
            tops = scores[: groups * _GROUP].reshape(groups, _GROUP).max(1)
            tops.partition(groups - k)
            least = max(least, tops[groups - k])
        rows = np.flatnonzero(scores >= least)
        rows = rows[np.argsort(-scores[rows], kind="stable")[:k]]
        return self.ids[rows], scores[rows]


@dataclass(frozen=True, slots=True)
class WordHits:
    """What the words of one query are worth to each memory of an index at one moment.

    A score is BM25 divided by what a memory of nothing but these words could have, so 0 to 1.
    """

    parts: Sequence[_Scored]

    def best(self, k: int) -> tuple[Ids, Floats]:
        """int64 and float32, ids and scores of the k best that have any of the words, best first."""
        found = [part.best(k) for part in self.parts]
        if len(found) == 1:
            return found[0]
        ids, scores = np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])
        order = np.argsort(-scores, kind="stable")[:k]
        return ids[order], scores[order]

    def of(self, ids: Ids) -> tuple[Floats, Floats]:
        """float32 (n,) each: scores of some memories, and 1 for what was said by somebody whom the query names.

        Both are 0 for those that are not there.
        """
        scores, speakers = np.zeros(len(ids), np.float32), np.zeros(len(ids), np.float32)
        for part in self.parts:
            if not len(part.ids):
                continue
            rows = np.minimum(part.ids.searchsorted(ids), len(part.ids) - 1)
            there = part.ids[rows] == ids
            scores += part.scores[rows] * there
            if part.speakers is not None:
                speakers += part.speakers[rows] & there
        return scores, speakers


class Postings:
    """For each term the memories that have it, and how much it counts there; what is gone is only marked.

    Args:
        ids: int64 (n,) of memories, rising.
        counts: int64 (n,), how many terms each has.
        found: uint32 (sum of counts,), the hashes of all their terms, one memory after the other.

    Attributes:
        ids: as given.
        living: how many of them are not gone.
        silent: bool (n,), those that nobody is said to have said; None where that is all of them.
    """

    def __init__(self, ids: Ids, counts: NDArray[np.int64], found: NDArray[np.uint32]) -> None:
        self.ids, self._alive, self.living = ids, np.ones(len(ids), bool), len(ids)
        mean = max(float(counts.mean()) if len(counts) else 1.0, 1.0)
        norm = (_K1 * (1 - _B + _B * counts / mean)).astype(np.float32)
        keys = found.astype(np.uint64) << np.uint64(32) | np.repeat(np.arange(len(ids)), counts.astype(np.intp)).astype(
            np.uint64
        )
        keys, repeats = np.unique(keys, return_counts=True)
        self._rows = (keys & np.uint64(0xFFFFFFFF)).astype(np.int32)
        hashes, counted = (keys >> np.uint64(32)).astype(np.uint32), repeats.astype(np.float32)
        self._terms, starts = np.unique(hashes, return_index=True)
        self._starts = np.append(starts, len(hashes)).astype(np.int64)
        self._impacts = counted * np.float32(_K1 + 1) / (counted + norm[self._rows])
        (spoken_by,) = self.places(term_hashes([SPOKEN]))
        self.silent = None if spoken_by.stop == spoken_by.start else ~self.marks([spoken_by])

    def having(self, term: int) -> Ids:
        """int64 ids of the memories that have a term, rising; some may be gone."""
        (place,) = self.places(np.array([term], np.uint32))
        return np.asarray(self.ids[self._rows[place]], np.int64)

    def remove(self, ids: Ids) -> None:
        """Leave out those of these memories that are here."""
        self._alive &= ~np.isin(self.ids, ids)
        self.living = int(self._alive.sum())

    def places(self, terms: NDArray[np.uint32]) -> list[slice]:
        """Where the postings of each term are; as many memories have it as the slice is long."""
        if not len(self._terms):
            return [slice(0, 0)] * len(terms)
        at = np.minimum(self._terms.searchsorted(terms), len(self._terms) - 1)
        starts, stops = self._starts[at], self._starts[at + 1]
        stops = np.where(self._terms[at] == terms, stops, starts)
        return list(map(slice, starts.tolist(), stops.tolist()))

    def scores(self, places: Sequence[slice], weights: Sequence[float], allowed: Ids | None) -> Floats:
        """float32 (n,), what distinct terms count for by their weights; 0 where a memory is not among `allowed`."""
        out = np.zeros(len(self.ids), np.float32)
        for place, weight in zip(places, weights, strict=True):
            if place.stop > place.start:
                out[self._rows[place]] += self._impacts[place] * weight
        if self.living < len(out):
            out[~self._alive] = 0
        if allowed is not None:
            out[~np.isin(self.ids, allowed)] = 0
        return out

    def marks(self, places: Sequence[slice]) -> NDArray[np.bool_]:
        """bool (n,): which memories have any of these terms."""
        out = np.zeros(len(self.ids), bool)
        for place in places:
            out[self._rows[place]] = True
        return out


class _Collection:
    """Postings of a collection: of most of it, and of what came since these were made."""

    def __init__(self, first: Postings) -> None:
        self.parts = [first]
        self._new: list[tuple[Ids, NDArray[np.int64], NDArray[np.uint32]]] = []

    def add(self, rows: tuple[Ids, NDArray[np.int64], NDArray[np.uint32]]) -> None:
        """Take in what is new, by rising ids; its postings are made when they are needed."""
        self._new.append(rows)
        del self.parts[1:]

    def sort(self) -> list[Postings]:
        """All postings."""
        if self._new and len(self.parts) == 1:
            self._new = [tuple(map(np.concatenate, zip(*self._new, strict=True)))]  # type: ignore[list-item]
            self.parts.append(Postings(*self._new[0]))
        return self.parts

    @property
    def worn(self) -> bool:
        """Whether so much is new or gone that all postings are better made again."""
        main, new = self.parts[0], sum(len(ids) for ids, _, _ in self._new)
        return new + len(main.ids) - main.living > max(_TAIL, _TAIL_FRACTION * len(main.ids))


class Words:
    """What the memories of a store have of a query's words.

    Args:
        records: the memories.
    """

    def __init__(self, records: Records) -> None:
        self._records, self._lock = records, RLock()
        self._open: dict[str, _Collection] = {}
        self._revision = -1

    def find(self, collection: str, text: str, allowed: Ids | None = None) -> WordHits:
        """What a query's words are worth to each memory of a collection that is in the index.

        A name of somebody who speaks in this collection asks for what was said by them, not to them; only in what
        nobody is said to have said it counts as a word.

        Args:
            allowed: int64, the only memories that may be found; all when None.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock:
            parts = self._parts(collection)
            names = self._speakers(parts, text)
            hidden = {term for name in names for term in terms(name)}
            words = list(dict.fromkeys(terms(text)))
            plain, weights, total = self._weighed(parts, [word for word in words if word not in hidden])
            scores = [part.scores(places, weights, allowed) for part, places in zip(parts, plain, strict=True)]
            if not names:
                return WordHits([_Scored(part.ids, one) for part, one in zip(parts, scores, strict=True)])
            named, weights, more = self._weighed(parts, [word for word in words if word in hidden])
            fraction, out = more / max(total + more, 1e-9), list[_Scored]()
            said_by = term_hashes([SPOKEN + name for name in names])
            for part, places, one in zip(parts, named, scores, strict=True):
                silent = slice(None) if part.silent is None else part.silent
                one[silent] = (1 - fraction) * one[silent] + fraction * part.scores(places, weights, allowed)[silent]
                out.append(_Scored(part.ids, one, part.marks(part.places(said_by))))
            return WordHits(out)

    @staticmethod
    def _speakers(parts: Sequence[Postings], text: str) -> list[str]:
        """Words of a query that are names of speakers."""
        if all(part.silent is None for part in parts):
            return []
        words = list(dict.fromkeys(spoken(text)))
        hashes = term_hashes(SPOKEN + word for word in words)
        places = [part.places(hashes) for part in parts]
        found = [any(one.stop > one.start for one in some) for some in zip(*places, strict=True)]
        return [word for word, there in zip(words, found, strict=True) if there]

    @staticmethod
    def _weighed(parts: Sequence[Postings], words: Sequence[str]) -> tuple[list[list[slice]], list[float], float]:
        """Where words are in each part; their weights, so that no memory can have more than 1 of all; their sum."""
        found, living = term_hashes(words), sum(part.living for part in parts)
        places = [part.places(found) for part in parts]
        counts = [sum(place.stop - place.start for place in some) for some in zip(*places, strict=True)]
        weights = [log(1 + (living - min(count, living) + 0.5) / (count + 0.5)) for count in counts]
        total = sum(weights)
        return places, [weight / (max(total, 1e-9) * (_K1 + 1)) for weight in weights], total

    def dated(self, collection: str, span: Span, most: int) -> Ids:
        """int64 ids of memories that speak of a day of a span, or were said then; the latest if there are more."""
        with self._lock:
            parts = self._parts(collection)
            found = [part.having(term) for part in parts for term in term_hashes(date_terms(span)).tolist()]
        return np.unique(np.concatenate(found))[-most:] if found else np.empty(0, np.int64)

    def naming(self, collection: str, name: str) -> Ids:
        """int64 ids of memories that have all terms of a name, rising; the latest if there are many."""
        hashes = term_hashes(dict.fromkeys(terms(name))).tolist()
        with self._lock:
            parts, found = self._parts(collection), list[Ids]()
            for term in hashes:
                found.append(np.concatenate([part.having(term) for part in parts]))
        return reduce(np.intersect1d, found)[-_MOST_NAMED:] if found else np.empty(0, np.int64)

    def allowed(self, collection: str, sought: Sought, filter: Filter | None) -> Ids | None:
        """Ids of the memories that a query's syntax and a filter let through, rising; None where all are.

        Raises:
            InputError: a filter that cannot be understood.
            StoreError: the file cannot be read.
        """
        if sought.plain and not filter:
            return None
        conditions = [one for one in (filter, sought.filter) if one]
        ids = self._records.matching(collection, {"$and": conditions} if conditions else {})
        with self._lock:
            parts = self._parts(collection)
            for term in term_hashes(sought.without).tolist():
                for part in parts:
                    ids = np.setdiff1d(ids, part.having(term))
            for phrase in sought.phrases:
                for term in term_hashes(dict.fromkeys(terms(phrase))).tolist():
                    ids = np.intersect1d(ids, np.concatenate([part.having(term) for part in parts]))
        for phrase in sought.phrases:
            ids = self._saying(ids, phrase)
        return ids

    def _saying(self, ids: Ids, phrase: str) -> Ids:
        """Those of these memories in which a phrase stands, whatever case and spaces."""
        said, found = phrase.casefold(), list[int]()
        for start in range(0, len(ids), _TEXTS):
            some = self._records.get(ids[start : start + _TEXTS].tolist())
            found += [one.id for one in some if said in " ".join(one.text.split()).casefold()]
        return np.array(found, np.int64)

    def _parts(self, collection: str) -> list[Postings]:
        self._refresh()
        there = self._open.get(collection)
        if there is None or there.worn:
            if len(self._open) >= _MOST_OPEN:
                self._open.clear()
            there = self._open[collection] = _Collection(Postings(*self._read(collection)))
        return there.sort()

    def _refresh(self) -> None:
        """Take in what this process or another one has changed."""
        revision = self._records.revision()
        if revision == self._revision:
            return
        if self._open:
            there, gone = self._records.changed(self._revision)
            left = np.array(gone + [i for i, _, archived in there if archived], np.int64)
            for name, one in self._open.items():
                for part in one.sort() if len(left) else ():
                    part.remove(left)
                last = max([0, *(int(part.ids[-1]) for part in one.sort() if len(part.ids))])
                if any(name == collection and not archived and i > last for i, collection, archived in there):
                    one.add(self._read(name, last))
        self._revision = revision

    def _read(self, collection: str, after: int = 0) -> tuple[Ids, NDArray[np.int64], NDArray[np.uint32]]:
        """Ids, counts and hashes of a collection's memories; what the file has no words of gets them now."""
        rows, missing = list[tuple[int, bytes]](), list[tuple[int, int, bytes]]()
        while page := self._records.store.read(
            "SELECT m.id, w.data, CASE WHEN w.id IS NULL THEN m.text END,"
            " CASE WHEN w.id IS NULL THEN m.metadata END FROM memories m LEFT JOIN words w ON w.id = m.id"
            " WHERE m.collection = ? AND NOT m.archived AND m.id > ? ORDER BY m.id LIMIT ?",
            (collection, after, _PAGE),
        ):
            for i, data, text, metadata in page:
                if text is not None:
                    made = word_hashes(text, _metadata(metadata))
                    data = made.astype("<u4").tobytes()
                    missing.append((i, len(made), data))
                rows.append((i, data))
            after = page[-1][0]
        if missing:
            with suppress(StoreError):  # a file that only can be read is searched all the same
                self._records.add_words(missing)
        ids = np.fromiter((i for i, _ in rows), np.int64, len(rows))
        counts = np.fromiter((len(data) // 4 for _, data in rows), np.int64, len(rows))
        found = np.frombuffer(b"".join(data for _, data in rows), "<u4").astype(np.uint32, copy=False)
        if int(counts.sum()) != len(found):
            raise StoreError("the words of a memory are damaged", field="state", fix=REPAIR)
        return ids, counts, found


def _metadata(text: str) -> dict[str, Any]:
    with suppress(ValueError):
        return read_metadata(text)
    return {}
