"""What texts leave behind once they are forgotten: sums over groups of at least k of one route.

Microaggregation (Domingo-Ferrer & Mateo-Sanz 2002). Each text is in exactly one group, and all that is
known of a group is a sum over it, so no combination of groups is a sum over fewer than k texts. A word
is known of only if k texts share it. That is k-anonymity: who knows all but one text of a group knows
the last one's vector, and k times the same text is a group that shows it. Only noise (`privacy`) helps there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors
from ruvllm.errors import InputError
from ruvllm.reprs import Shown
from ruvllm.text.lexical import term_counts

_HALVINGS = 100
_TAIL = -8.0  # below it erfc is replaced by its continued fraction: e^ε would overflow against it


@dataclass(frozen=True, slots=True)
class Privacy:
    """A promise: nobody tells from what travelled whether one text was there, but for (epsilon, delta).

    Attributes:
        epsilon: 0.01 to 100; 1 is strong, above 10 weak.
        delta: the chance that the promise fails; below one over the number of texts.
        clip: the longest change of the adapter's factors that travels.
        seed: of the noise, for tests. None draws it from the system, as the promise needs.
    """

    epsilon: float = 4.0
    delta: float = 1e-5
    clip: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("epsilon", 0.01, 100.0), ("delta", 1e-15, 0.1), ("clip", 1e-6, 1e6)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} is {value}", field=name, fix=f"use {low:g} to {high:g}")


def delta_of(epsilon: float, ratio: float) -> float:
    """The least delta that noise of standard deviation ratio·sensitivity gives at `epsilon`."""
    if ratio <= 0:
        return 1.0
    middle, shift = epsilon * ratio, 0.5 / ratio
    second = math.exp(min(epsilon + _log_normal(-shift - middle), 0.0))
    return min(max(_normal(shift - middle) - second, 0.0), 1.0)


def noise_for(epsilon: float, delta: float) -> float:
    """The least standard deviation, per unit of sensitivity, that keeps the promise."""
    low, high = 0.0, 1.0
    while delta_of(epsilon, high) > delta:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(epsilon, middle) > delta else (low, middle)
    return high


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def _log_normal(x: float) -> float:
    """log P(N(0, 1) <= x), far into the tail too."""
    if x > _TAIL:
        return math.log(_normal(x))
    fraction = -x
    for n in range(30, 0, -1):
        fraction = -x + n / fraction
    return -x * x / 2 - math.log(fraction * math.sqrt(2 * math.pi))


_BLOCK = 256


@dataclass(frozen=True, slots=True, repr=False)
class Seen(Shown):
    """One text as an agent remembers it until it is folded into a group.

    Attributes:
        vector: float32 (dim,), of unit norm.
        terms: hashes of its words and word pairs, each once.
    """

    vector: Vectors
    route: str
    quality: float
    terms: frozenset[int] = frozenset()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Group(Shown):
    """Sums over some texts of one route.

    Attributes:
        total: float32 (dim,), of their vectors.
        count: texts; not a whole number once noise is added.
        quality: sum of their qualities.
        terms: by term, how many of them hold it; sorted, so that sums come out alike wherever they are made.
        tags: each on at least k of them.
    """

    route: str
    total: Vectors
    count: float
    quality: float
    terms: dict[int, int]
    tags: tuple[str, ...] = ()

    @property
    def mean(self) -> Vectors:
        """float32 (dim,), shorter the more its texts differ."""
        return np.asarray(self.total / np.float32(self.count))

    def joined(self, other: Group) -> Group:
        """Both as one."""
        terms = Counter(self.terms)
        terms.update(other.terms)
        tags = tuple(sorted({*self.tags, *other.tags}))
        count, quality = self.count + other.count, self.quality + other.quality
        return Group(self.route, self.total + other.total, count, quality, dict(sorted(terms.items())), tags)


def terms_of(words: Sequence[str]) -> frozenset[int]:
    """Hashes of the stems and of each two in a row, those that the routing head's features are made of."""
    return frozenset(term_counts([words]))


def fold(texts: Sequence[Seen], k: int, most: int) -> tuple[list[Group], list[Seen]]:
    """(groups of at least k, at most `most` a route; the texts of routes that have fewer than k)."""
    numbers = Counter(text.route for text in texts)
    ready = [text for text in texts if numbers[text.route] >= k]
    rest = [text for text in texts if numbers[text.route] < k]
    counts = Counter(term for text in ready for term in text.terms)
    shared = {term for term, uses in counts.items() if uses >= k}
    groups: list[Group] = []
    for route in sorted({text.route for text in ready}):
        members = [text for text in ready if text.route == route]
        vectors = np.stack([text.vector for text in members])
        rows = microaggregate(vectors, max(k, -(-len(members) // most)))
        groups += [_summed([members[i] for i in some.tolist()], shared, k) for some in rows]
    return groups, rest


def _summed(texts: Sequence[Seen], shared: set[int], k: int) -> Group:
    terms = Counter(term for text in texts for term in text.terms if term in shared)
    tags = Counter(tag for text in texts for tag in set(text.tags))
    return Group(
        texts[0].route,
        np.sum([text.vector for text in texts], axis=0, dtype=np.float32),
        float(len(texts)),
        float(sum(text.quality for text in texts)),
        dict(sorted(terms.items())),
        tuple(sorted(tag for tag, uses in tags.items() if uses >= k)),
    )


def microaggregate(vectors: Vectors, k: int) -> list[NDArray[np.intp]]:
    """Rows (n, dim), n >= k, in groups of k to 2k - 1 that lie close together (MDAV): row numbers.

    The row farthest from the mean takes its k - 1 nearest, until fewer than 2k are left. Tight groups
    lose less of what tells routes apart than random ones.
    """
    left = np.arange(len(vectors))
    groups: list[NDArray[np.intp]] = []
    while len(left) >= 2 * k:
        rows = vectors[left]
        far = rows[_squares(rows, rows.mean(0)).argmax()]
        order = _squares(rows, far).argsort(kind="stable")
        groups.append(left[order[:k]])
        left = np.sort(left[order[k:]])
    return [*groups, left]


def _squares(rows: Vectors, centre: Vectors) -> Vectors:
    difference = rows - centre
    return np.asarray(np.einsum("ij,ij->i", difference, difference))


def merge_closest(groups: Iterable[Group], most: int) -> list[Group]:
    """At most `most` groups of each route: the two whose union adds least variance become one (Ward 1963)."""
    by_route: dict[str, list[Group]] = {}
    for group in groups:
        by_route.setdefault(group.route, []).append(group)
    return [group for members in by_route.values() for group in _merged(members, most)]


def _merged(groups: list[Group], most: int) -> list[Group]:
    """In blocks, halved each: all pairs of ten thousand groups would not fit into a browser's memory."""
    block = 2 * max(most, _BLOCK)
    while len(groups) > block:
        blocks = [groups[i : i + block] for i in range(0, len(groups), block)]
        groups = [group for some in blocks for group in _closest(some, block // 2)]
    return _closest(groups, most)


def _closest(groups: Sequence[Group], most: int) -> list[Group]:
    groups = list(groups)
    if len(groups) <= most:
        return groups
    means = np.stack([group.mean for group in groups])
    counts = np.array([group.count for group in groups])
    squares = np.einsum("ij,ij->i", means, means)
    distance = squares[:, None] + squares[None, :] - 2 * means @ means.T
    cost = distance * (counts[:, None] * counts[None, :]) / (counts[:, None] + counts[None, :])
    cost[np.tril_indices(len(groups))] = np.inf
    alive = np.ones(len(groups), bool)
    for _ in range(len(groups) - most):
        i, j = divmod(int(cost.argmin()), len(groups))
        groups[i] = groups[i].joined(groups[j])
        alive[j] = False
        cost[j], cost[:, j] = np.inf, np.inf
        means[i], counts[i] = groups[i].mean, groups[i].count
        others = np.flatnonzero(alive & (np.arange(len(groups)) != i))
        fresh = _squares(means[others], means[i]) * counts[others] * counts[i] / (counts[others] + counts[i])
        cost[np.minimum(others, i), np.maximum(others, i)] = fresh
    return [group for group, lives in zip(groups, alive, strict=True) if lives]
