"""Sparse lexical scores: stemmed words, BM25 over agents, hashed TF-IDF features for the learned head."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from operator import mul
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memo(dict[K, V]):
    """key -> its value, worked out when first asked for.

    Everything is forgotten when there is too much: the links of an LRU cache, which lie all over memory, cost
    more than working some values out again.

    Args:
        work: gives a key's value.
        most: keys.
        longest: characters of a word that is worth it; others may be megabytes.
    """

    def __init__(self, work: Callable[[K], V], most: int, longest: int | None = None) -> None:
        self._work, self._most, self._longest = work, most, longest

    def __missing__(self, key: K) -> V:
        if len(self) >= self._most:
            self.clear()
        value = self._work(key)
        if self._longest is None or len(str(key)) <= self._longest:
            self[key] = value
        return value


_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD = re.compile(r"[^\W_]+[+#]*")
_SUFFIXES = ("ations", "ation", "ings", "ing", "ers", "er", "ies", "ied", "ed", "es", "s", "ly", "e")
_STOP_WORDS = (
    "a an the and or of to in for on with is are be this that it i you my we our your can help me need want "
    "how what when do does have has from at as by if use used should not all any will please could would let "
    "us into about there some so just agent"
)
_STOP = frozenset(_STOP_WORDS.split())
_MOST_WORDS = 50_000  # whose stems and hashes are remembered
_MOST_ROWS = 4_000  # of terms, what they add to documents, that are remembered
_FEW, _PICKED = 256, 8  # documents up to which all are added to; how many one that is picked takes as long as
MAX_CHARS = 20_000  # lexical evidence past this is noise, and a megabyte of text must stay cheap


def _stem(word: str) -> str:
    """Strip one English suffix: "tests", "testing" and "tested" meet in "test"."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


_STEMS = Memo(_stem, _MOST_WORDS)


def spoken(text: str) -> list[str]:
    """Lower-cased words in order; camelCase and snake_case fall into their words."""
    text = text[:MAX_CHARS]
    return _WORD.findall(text if text.islower() else _CAMEL.sub(" ", text).lower())


def stems(text: str) -> list[str]:
    """The stem of each word of `text`, in order."""
    return stem_all(spoken(text))


def stem_all(words: Iterable[str]) -> list[str]:
    """The stem of each word."""
    return list(map(_STEMS.__getitem__, words))


_STOP_STEMS = frozenset(map(_stem, _STOP)) | _STOP


def content(words: Iterable[str]) -> list[str]:
    """The stems that carry meaning: stop words left out, each once, in order."""
    return [word for word in dict.fromkeys(words) if word not in _STOP_STEMS]


class Bm25:
    """Okapi BM25 over a small set of documents (Robertson & Zaragoza 2009), postings by term.

    Args:
        documents: one mapping of stem to (weighted) count per document; one below 0 speaks against it.
        k1: saturation of repeated terms.
        b: strength of the length normalisation.
    """

    def __init__(self, documents: Sequence[Mapping[str, float]], k1: float = 1.2, b: float = 0.5) -> None:
        self.size = len(documents)
        lengths = np.array([sum(max(count, 0.0) for count in document.values()) for document in documents], np.float64)
        self._k1, self._norm = k1, k1 * (1 - b + b * lengths / max(lengths.mean() if self.size else 1.0, 1.0))
        self._postings: dict[str, dict[int, float]] = {}
        for i, document in enumerate(documents):
            for term, count in document.items():
                self._postings.setdefault(term, {})[i] = count
        self._rows = Memo(self._spread, _MOST_ROWS)

    def scores(self, terms: Iterable[str]) -> NDArray[np.float32]:
        """BM25 of each document for distinct `terms`: float32 (documents,)."""
        out = np.zeros(self.size, np.float32)
        for term in terms:
            if term in self._postings:
                ids, weights = self._rows[term]
                if ids is None:
                    out += weights
                else:
                    out[ids] += weights
        return out

    def _spread(self, term: str) -> tuple[NDArray[np.intp] | None, NDArray[np.float32]]:
        """(documents, what a term adds to each); (None, what it adds to every one) where picking them takes longer."""
        ids = np.array(list(self._postings[term]), np.intp)
        weights = np.array([self._weight(term, i) for i in ids.tolist()], np.float32) * np.float32(self._idf(term))
        if self.size > _FEW and len(ids) * _PICKED < self.size:
            return ids, weights
        row = np.zeros(self.size, np.float32)
        row[ids] = weights
        return None, row

    def _weight(self, term: str, document: int) -> float:
        count = self._postings[term][document]
        return float(count * (self._k1 + 1) / (abs(count) + self._norm[document]))

    def _idf(self, term: str) -> float:
        having = len(self._postings[term])
        return math.log(1 + (self.size - having + 0.5) / (having + 0.5))

    def matches(self, terms: Iterable[str], document: int) -> list[tuple[str, float]]:
        """Which of `terms` speak for the document, with their share of its score, strongest first."""
        there = (term for term in terms if self._postings.get(term, {}).get(document, 0) > 0)
        found = [(term, self._weight(term, document) * self._idf(term)) for term in there]
        return sorted(found, key=lambda match: -match[1])


_HASHES: Memo[str, int] = Memo(lambda stem: crc32(stem.encode()), _MOST_WORDS)


def _term_hashes(words: Sequence[str]) -> list[int]:
    """Hashes of the unigrams and bigrams of `words`, in order, repeats kept."""
    single = list(map(_HASHES.__getitem__, words))
    return single + [(a * 31 + b * 17 + 7) & 0xFFFFFFFF for a, b in pairwise(single)]


def term_counts(texts: Iterable[Sequence[str]]) -> Counter[int]:
    """In how many texts, given by their stems, each term is."""
    counts: Counter[int] = Counter()
    for words in texts:
        counts.update(set(_term_hashes(words)))
    return counts


_NO_TERMS = (np.zeros(0, np.intp), np.zeros(0, np.float32))


class HashedTfidf:
    """Signed feature hashing (Weinberger et al. 2009) of TF-IDF over stems and their bigrams.

    Terms that no training text held are dropped, so a collision cannot invent evidence.

    Args:
        idf: by term hash.
        width: buckets.
    """

    def __init__(self, idf: dict[int, float], width: int) -> None:
        self.idf, self.width = idf, width

    @classmethod
    def from_arrays(cls, terms: NDArray[Any], idf: NDArray[Any], width: int) -> HashedTfidf:
        """From term hashes (n,) and their weights (n,)."""
        values, places = np.unique(idf.astype(np.float32), return_inverse=True)
        weights = values.tolist()  # thousands of terms have the same weight: one object stays in the cache
        shared = map(weights.__getitem__, places.tolist())
        return cls(dict(zip(terms.tolist(), shared, strict=True)), width)

    @classmethod
    def fit(cls, texts: Iterable[Sequence[str]], width: int) -> HashedTfidf:
        """From the stems of the training texts."""
        every = list(texts)
        return cls.of_counts(term_counts(every), len(every), width)

    @classmethod
    def of_counts(cls, counts: Counter[int], total: int, width: int) -> HashedTfidf:
        """From the `term_counts` of so many training texts."""
        weights = {n: math.log((1 + total) / (1 + n)) + 1 for n in set(counts.values())}
        return cls({term: weights[n] for term, n in counts.items()}, width)

    def admit(self, words: Sequence[str]) -> None:
        """Know the terms of one more text, as rare ones."""
        for term in _term_hashes(words):
            if term not in self.idf:
                self.idf[term] = self._rarest

    @cached_property
    def _rarest(self) -> float:
        """The weight of what is rarest, which no admitted term changes."""
        return max(self.idf.values(), default=1.0)

    def sparse(
        self, words: Sequence[str], first: int = 0, norm: float = 1.0
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """(buckets, values) of one text; a repeated term's bucket comes again.

        Args:
            first: what is added to every bucket.
            norm: of the values (L2).
        """
        idf, width = self.idf, self.width
        terms = [term for term in _term_hashes(words) if term in idf] if idf else ()
        if not terms:
            return _NO_TERMS
        signed = [idf[term] if term >> 31 else -idf[term] for term in terms]
        unit = norm / math.sqrt(sum(map(mul, signed, signed)))
        places = np.array([first + term % width for term in terms], np.intp)
        return places, np.array([unit * value for value in signed], np.float32)

    def dense(self, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Features of many texts: float32 (len(texts), width)."""
        out = np.zeros((len(texts), self.width), np.float32)
        self.fill(out, texts)
        return out

    def fill(self, out: NDArray[np.float32], texts: Sequence[Sequence[str]], weight: float = 1.0) -> None:
        """Add the features of many texts, times `weight`, to `out` (len(texts), width)."""
        found = [self.sparse(words) for words in texts]
        if not found:
            return
        rows = np.repeat(np.arange(len(found)), [len(buckets) for buckets, _ in found])
        values = np.concatenate([values for _, values in found]) * np.float32(weight)
        np.add.at(out, (rows, np.concatenate([buckets for buckets, _ in found])), values)
