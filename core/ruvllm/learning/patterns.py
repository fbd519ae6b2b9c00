"""ReasoningBank: clusters of trajectories that went well, each with the route that handled them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Encoder, Vectors
from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.index.kmeans import assign, kmeans
from ruvllm.lazy_dataclass import dataclass
from ruvllm.learning.trajectories import Scalar, Trajectory, checked_about
from ruvllm.reprs import Shown, shortened
from ruvllm.state.packing import Arrays, Spec, array_json, json_array, pack, unpack

_SENTENCES = {
    "Reasoning": (
        "work out step by step why this follows; compare the options and decide which is better; solve this "
        "equation and prove the result; plan how to get from the goal back to the first step; analyse the "
        "cause of the failure; weigh the arguments for and against it"
    ),
    "Factual": (
        "what is the capital of this country; when did this happen and who was involved; look up the "
        "definition of this term; how many people live there; which year was it founded; who was the first "
        "person to do it"
    ),
    "Creative": (
        "write a short story about a dragon; compose a poem or song lyrics; invent a name and slogan for a "
        "product; imagine a scene and describe it vividly; draft a funny dialogue between two characters; "
        "come up with titles for a novel"
    ),
    "CodeGen": (
        "write a function in Python that parses a file; fix the bug in this class and add a unit test; "
        "implement an API endpoint with a database query; refactor the module and its types; a shell script "
        "that builds and deploys the container; create a component for the login form in JavaScript"
    ),
    "Conversational": (
        "hello, how are you today; thanks a lot, that was kind of you; nice to meet you, tell me about "
        "yourself; I feel tired, can we just chat; good morning, have a great day; see you later, that was "
        "fun"
    ),
}  # six of each kind
PATTERN_TYPES = ("General", *_SENTENCES)
_NEAREST = 2  # sentences of a kind that a task is compared with
_LEAST, _AHEAD = 0.15, 0.02  # mean cosine of the winner, and by how much it wins; else the kind is General


class TypeGuesser:
    """Compares embeddings with the sentences, which the encoder is asked for once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._references: Vectors | None = None  # (kinds, sentences, dim)

    async def guess(self, vector: Vectors) -> str:
        """One of `PATTERN_TYPES` for an embedding (dim,), "General" when no kind is clearly nearest."""
        if self._references is None:
            rows = await self._encoder.encode("; ".join(_SENTENCES.values()).split("; "))
            self._references = rows.reshape(len(_SENTENCES), -1, rows.shape[1])
        scores = np.sort(self._references @ vector, axis=1)[:, -_NEAREST:].mean(1)  # (kinds,)
        second, first = np.sort(scores)[-2:]
        if first < _LEAST or first - second < _AHEAD:
            return PATTERN_TYPES[0]
        return PATTERN_TYPES[1 + int(scores.argmax())]


_PER_CLUSTER = 4  # trajectories that a cluster shall have on average, at the least
_ALIKE = 0.9  # cosine from which two patterns of one route are one
_CONTRADICTS = 0.5  # cosine from which a failure counts against the nearest pattern of its route
_SAME = 0.999  # cosine of a repetition
_MEMORY = 20.0  # the weight of what is known beside one failure, at most
_MOST_NAMES = 16  # contexts and actions that a pattern names
_SPECS = {"numbers": Spec(("n", 4), "float64"), "counts": Spec(("n", 3), "int64"), "about": Spec(("bytes",), "uint8")}
_FIX = "drop it; patterns are learnt again"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Pattern(Shown):
    """A way of handling a kind of task that has worked.

    Attributes:
        id: stays with it; a pattern that absorbs another keeps its own.
        centroid: float32 (dim,), unit norm.
        route: who handled these tasks, "" when that is not known.
        cluster_size: trajectories in it.
        total_weight: the sum of their scores.
        avg_quality: 0 to 1, their mean score, lowered by failures that contradict it.
        created_at, last_accessed: seconds since 1970.
        contexts: the most frequent ones.
        actions: of the best trajectory, in order.
        metadata: of the best trajectory.
        similarity: cosine with the query in an answer of `find`, else None.
    """

    id: int
    centroid: Vectors
    pattern_type: str = PATTERN_TYPES[0]
    route: str = ""
    cluster_size: int = 1
    total_weight: float = 1.0
    avg_quality: float = 1.0
    created_at: float = 0.0
    last_accessed: float = 0.0
    access_count: int = 0
    contexts: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    similarity: float | None = None


def distill(trajectories: Sequence[Trajectory], clusters: int, now: float) -> Iterator[list[Pattern]]:
    """Patterns of the good ones among the trajectories, route by route; their ids are still 0.

    Args:
        clusters: at most this many in all, one a route at the least.
        now: seconds since 1970.
    """
    groups: defaultdict[str, list[Trajectory]] = defaultdict(list)
    for one in trajectories:
        if one.good:
            groups[one.route].append(one)
    total = sum(map(len, groups.values()))
    for group in groups.values():
        most = max(1, clusters * len(group) // total)
        k = min(most, -(-len(group) // _PER_CLUSTER))
        points = np.stack([one.vector for one in group])
        centroids = kmeans(points, k, plus_plus=True)
        nearest = assign(points, centroids)
        yield [
            _pattern(centroid, [group[i] for i in np.flatnonzero(nearest == n)], now)
            for n, centroid in enumerate(centroids)
            if (nearest == n).any()
        ]


def _pattern(centroid: Vectors, members: list[Trajectory], now: float) -> Pattern:
    best = max(members, key=lambda one: one.score)
    kinds, contexts = Counter[str](), Counter[str]()
    for one in members:
        kinds[one.pattern_type] += 1
        contexts.update(one.contexts)
    weight = sum(one.score for one in members)
    return Pattern(
        0,
        centroid,
        kinds.most_common(1)[0][0],
        best.route,
        len(members),
        weight,
        weight / len(members),
        created_at=now,
        last_accessed=now,
        contexts=tuple(name for name, _ in contexts.most_common(_MOST_NAMES)),
        actions=tuple(step.action for step in best.steps[:_MOST_NAMES]),
        metadata=best.metadata,
    )


class ReasoningBank:
    """Patterns by id, found by meaning.

    Args:
        capacity: beyond it the nearest two of a route become one, or the least valuable leaves.
        quality_threshold: a pattern below it is no pattern.

    Attributes:
        weights: float32 (patterns,), how many good outcomes each stands for.
    """

    def __init__(self, dim: int, capacity: int = 400, quality_threshold: float = 0.4) -> None:
        """Raises InputError: a value out of range."""
        if dim < 1 or capacity < 1 or not 0 <= quality_threshold <= 1:
            message = f"dim {dim}, capacity {capacity}, quality_threshold {quality_threshold}"
            raise InputError(message, field="patterns", fix="dim > 0, capacity > 0, threshold from 0 to 1")
        self.dim, self.capacity, self.quality_threshold = dim, capacity, quality_threshold
        self._patterns: list[Pattern] = []
        self._centroids = np.zeros((0, dim), np.float32)
        self._next = 1
        self._note()

    def __len__(self) -> int:
        return len(self._patterns)

    def _note(self) -> None:
        """What a search and an adapter ask of every pattern, in one array each."""
        self._trust = np.array([0.5 + 0.5 * one.avg_quality for one in self._patterns], np.float32)
        self._routes = np.array([one.route for one in self._patterns], object)
        self.weights = np.array(
            [one.avg_quality * min(one.total_weight, _MEMORY) for one in self._patterns], np.float32
        )

    @property
    def centroids(self) -> Vectors:
        """float32 (patterns, dim), in the order of `routes`."""
        return self._centroids

    @property
    def routes(self) -> NDArray[Any]:
        """(patterns,) of each, as objects."""
        return self._routes

    def get_patterns(self, limit: int | None = None) -> list[Pattern]:
        """The most valuable ones first: of high quality, seen often. Raises InputError: an unusable limit."""
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InputError(f"limit is {shortened(limit)}", field="limit", fix="use 0 or more, or None for all")
        return sorted(self._patterns, key=lambda one: (-_value(one), one.id))[:limit]

    def get(self, id: int) -> Pattern | None:
        """None when there is none, or it was merged into another."""
        return next((one for one in self._patterns if one.id == id), None)

    def find(self, vector: Vectors, k: int = 5, now: float | None = None) -> list[Pattern]:
        """The nearest to (dim,), unit norm; of two equally near the one of higher quality first.

        Args:
            now: seconds since 1970, noted as an access; None notes nothing.

        Raises:
            InputError: a vector of another width or not finite, or k below 1.
        """
        if vector.shape != (self.dim,) or not np.isfinite(vector).all():
            message = f"a vector of shape {vector.shape}"
            raise InputError(message, field="vector", fix=f"use finite numbers of shape ({self.dim},)")
        if type(k) is not int or k < 1:
            raise InputError(f"k is {shortened(k)}", field="k", fix="use 1 or more")
        cosines = self._centroids @ vector
        best = np.argsort(-np.where(cosines > 0, cosines * self._trust, cosines), kind="stable")[:k].tolist()
        if now is not None:
            for i in best:
                one = self._patterns[i]
                self._patterns[i] = replace(one, last_accessed=now, access_count=one.access_count + 1)
        return [replace(self._patterns[i], similarity=float(cosines[i])) for i in best]

    def add(self, patterns: Sequence[Pattern]) -> None:
        """Take in patterns; one that is nearly another of its route is merged with it.

        Raises:
            InputError: of another width.
        """
        if any(one.centroid.shape != (self.dim,) for one in patterns):
            raise InputError("a pattern of another width", field="patterns", fix=f"use centroids of width {self.dim}")
        for one in patterns:
            if one.avg_quality < self.quality_threshold:
                continue
            near = self._nearest(one.centroid, one.route)
            if near is not None and near[1] >= _ALIKE:
                self._set(near[0], _merged(self._patterns[near[0]], one))
            else:
                self._patterns.append(replace(one, id=self._next, similarity=None))
                self._centroids = np.vstack([self._centroids, one.centroid[None]])
                self._next += 1
        while len(self._patterns) > self.capacity:
            self._shrink()
        self._note()

    def weaken(self, vector: Vectors, route: str, score: float) -> bool:
        """A failure of this score counts against the pattern that would have advised it; true when there was one."""
        near = self._nearest(vector, route)
        if near is None or near[1] < _CONTRADICTS:
            return False
        one = self._patterns[near[0]]
        weight = min(one.total_weight, _MEMORY)
        quality = (weight * one.avg_quality + score) / (weight + 1)
        if quality < self.quality_threshold:
            self._drop(near[0])
        else:
            self._patterns[near[0]] = replace(one, avg_quality=quality)
        self._note()
        return True

    def drop(self, vector: Vectors) -> None:
        """Let go of patterns whose centroid is this very vector (dim,)."""
        for place in np.flatnonzero(self._centroids[: len(self._patterns)] @ vector >= _SAME)[::-1].tolist():
            self._drop(place)
            self._note()

    def _nearest(self, vector: Vectors, route: str) -> tuple[int, float] | None:
        """(place, cosine) of the nearest pattern of a route."""
        places = [i for i, one in enumerate(self._patterns) if one.route == route]
        if not places:
            return None
        cosines = self._centroids[places] @ vector
        return places[int(cosines.argmax())], float(cosines.max())

    def _set(self, place: int, pattern: Pattern) -> None:
        self._patterns[place] = pattern
        self._centroids[place] = pattern.centroid

    def _drop(self, place: int) -> None:
        del self._patterns[place]
        self._centroids = np.delete(self._centroids, place, axis=0)

    def _shrink(self) -> None:
        """One less: the two most alike of a route become one; where no route has two, the least valuable leaves."""
        numbers = {route: n for n, route in enumerate(dict.fromkeys(one.route for one in self._patterns))}
        labels = np.array([numbers[one.route] for one in self._patterns])
        cosines = np.where(labels[:, None] == labels, self._centroids @ self._centroids.T, -np.inf)
        np.fill_diagonal(cosines, -np.inf)
        first, second = sorted(int(i) for i in np.unravel_index(cosines.argmax(), cosines.shape))
        if np.isfinite(cosines[first, second]):
            self._set(first, _merged(self._patterns[first], self._patterns[second]))
            self._drop(second)
        else:
            self._drop(min(range(len(self._patterns)), key=lambda i: _value(self._patterns[i])))

    def to_bytes(self) -> bytes:
        """For the state file."""
        patterns = self._patterns
        numbers = [(one.total_weight, one.avg_quality, one.created_at, one.last_accessed) for one in patterns]
        counts = [(one.id, one.cluster_size, one.access_count) for one in patterns]
        about = [
            [one.route, one.pattern_type, list(one.contexts), list(one.actions), dict(one.metadata)] for one in patterns
        ]
        arrays: Arrays = {
            "centroids": self._centroids,
            "numbers": np.array(numbers, np.float64).reshape(-1, 4),
            "counts": np.array(counts, np.int64).reshape(-1, 3),
            "about": json_array([self._next, about]),
        }
        return pack(arrays, "patterns")

    def load(self, data: bytes, error: type[RuvllmError] = StoreError) -> None:
        """Hold what `to_bytes` was taken of. Raises `error`: it is damaged, or of another width."""
        found = unpack(data, "patterns", _SPECS | {"centroids": Spec(("n", self.dim))}, error=error)
        rows = zip(found["centroids"], found["counts"].tolist(), found["numbers"].tolist(), strict=True)
        header = array_json(found["about"], "patterns", error)
        try:
            following, about = header
            patterns = [_restored(*row, one) for row, one in zip(rows, about, strict=True)]
            if type(following) is not int or not all(0 < one.id < following for one in patterns):
                raise ValueError("ids that cannot be")
        except (TypeError, ValueError, InputError) as bad:
            raise error(f"damaged patterns: {bad}"[:200], field="patterns", fix=_FIX) from None
        self._patterns, self._next, self._centroids = patterns, following, found["centroids"]
        self._note()


def _value(pattern: Pattern) -> float:
    return float(pattern.avg_quality * np.log1p(pattern.total_weight + pattern.access_count))


def _merged(one: Pattern, other: Pattern) -> Pattern:
    weights = np.array([one.cluster_size, other.cluster_size], np.float32)
    centroid = weights @ np.stack([one.centroid, other.centroid])
    best = one if one.avg_quality >= other.avg_quality else other
    quality = float(weights @ np.array([one.avg_quality, other.avg_quality], np.float32) / weights.sum())
    return replace(
        one,
        centroid=centroid / np.float32(max(float(np.linalg.norm(centroid)), 1e-12)),
        pattern_type=one.pattern_type if weights[0] >= weights[1] else other.pattern_type,
        cluster_size=one.cluster_size + other.cluster_size,
        total_weight=one.total_weight + other.total_weight,
        avg_quality=quality,
        created_at=min(one.created_at, other.created_at),
        last_accessed=max(one.last_accessed, other.last_accessed),
        access_count=one.access_count + other.access_count,
        contexts=tuple(dict.fromkeys(one.contexts + other.contexts))[:_MOST_NAMES],
        actions=best.actions,
        metadata=best.metadata,
    )


def _restored(centroid: Vectors, counts: list[int], numbers: list[float], about: Any) -> Pattern:
    """Raises TypeError, ValueError or InputError: no pattern."""
    route, kind, contexts, actions, metadata = about
    names = [route, kind, *contexts, *actions]
    if not all(isinstance(name, str) and len(name) <= 200 for name in names) or len(names) > 2 + 2 * _MOST_NAMES:
        raise ValueError("names that cannot be")
    if kind not in PATTERN_TYPES or min(counts) < 0 or min(numbers) < 0 or numbers[1] > 1:
        raise ValueError("a kind or numbers that cannot be")
    id, size, accesses = counts
    weight, quality, created, accessed = numbers
    made = Pattern(id, centroid.copy(), kind, route, size, weight, quality, created, accessed, accesses)
    return replace(made, contexts=tuple(contexts), actions=tuple(actions), metadata=checked_about(dict(metadata)))
