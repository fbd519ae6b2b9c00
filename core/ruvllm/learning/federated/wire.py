"""What agents send each other: groups of texts and an adapter, as bytes that are checked before they are believed.

A JSON header (names, counts, the promise of privacy) and arrays, in the npz of `packing`: nothing is
unpickled, inflated, or larger than it says.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, Vectors, no_pause
from ruvllm.errors import InputError, RuvllmError
from ruvllm.learning.federated.groups import Group, merge_closest
from ruvllm.learning.lora import LowRank
from ruvllm.reprs import Shown
from ruvllm.routing.head import LEXICAL_WEIGHT, WIDTH, Design, Examples, Head, Words, blocks_of
from ruvllm.state.packing import Arrays, Spec, array_json, json_array, pack, unpack
from ruvllm.text.lexical import HashedTfidf

_HEAVIEST = 100.0  # texts that a group counts for at most: a client that lies about its number gains little
_LOOSE = 1e-3
_RESTRAINT = np.float32(0.7)  # whole, the residual of 75 others' intents cost a router 8 points on its 75, and this 1
_KIND = "federated-model"


class _Grouped(Design):
    """Groups in the place of examples: features of the mean text, weighed by how many texts it stands for."""

    def __init__(
        self, groups: Sequence[Group], routes: Sequence[str], offsets: NDArray[np.float32] | None = None
    ) -> None:
        place = {route: i for i, route in enumerate(routes)}
        means = np.stack([group.mean for group in groups])
        labels = np.array([place[group.route] for group in groups], np.int64)
        weights = np.array([min(group.count, _HEAVIEST) for group in groups], np.float32)
        zero = np.zeros((len(groups), len(routes)), np.float32) if offsets is None else offsets
        self._groups = groups
        super().__init__(Examples(means, [[] for _ in groups], labels, zero, weights), _idf(groups))
        self.blocks = [self._block(self.examples, rows) for rows in blocks_of(self.examples)]

    def fill(self, out: NDArray[np.float32], words: Sequence[Words], rows: slice) -> None:
        """Add the features of some groups' words to (rows, width)."""
        for row, group in zip(out, self._groups[rows], strict=True):
            _add_lexical(row, group, self.tfidf)


def _idf(groups: Sequence[Group]) -> HashedTfidf:
    """As of the texts one by one: what a group tells of a term is in how many of them it stands."""
    uses: Counter[int] = Counter()
    for group in groups:
        uses.update(group.terms)
    total = 1 + sum(group.count for group in groups)
    return HashedTfidf({term: math.log(max(total / (1 + n), 1.0)) + 1 for term, n in uses.items()}, WIDTH)


def _add_lexical(row: Vectors, group: Group, tfidf: HashedTfidf) -> None:
    """The mean of its texts' TF-IDF, each taken to be as long as they are in the root mean square."""
    if not group.terms:
        return
    terms = np.array(list(group.terms), np.int64)
    uses = np.array(list(group.terms.values())) / group.count
    idf = np.array([tfidf.idf[term] for term in group.terms])
    length = math.sqrt(float(uses @ (idf * idf)))
    signs = np.where(terms >> 31, 1.0, -1.0)
    np.add.at(row, (terms % tfidf.width).astype(np.intp), signs * uses * idf * (LEXICAL_WEIGHT / length))


async def fit_head(groups: Sequence[Group], routes: Sequence[str], pause: Pause = no_pause) -> Head:
    """The routing head that the groups teach, columns in the order of `routes`; awaits `pause` between steps."""
    return await _Grouped(groups, routes).fit(pause, tolerance=_LOOSE)


@dataclass(frozen=True, repr=False)
class SharedModel(Shown):
    """What a coordinator gives back.

    Attributes:
        routes: in the order of the head's columns.
        head: the routing head of (vector, words), as `routing.head` has it.
        adapter: of embeddings; None while nobody sent one.
        patterns: what the routes' tasks are like, the closest of them merged.
        outcomes: how good models' answers to what prompts were; a group's route is `model_route`.
    """

    routes: tuple[str, ...]
    head: Head
    adapter: LowRank | None
    patterns: tuple[Group, ...]
    texts: int
    outcomes: tuple[Group, ...] = ()

    @property
    def dim(self) -> int:
        """Of the embeddings."""
        return self.head.dim

    def logits(self, vector: Vectors, words: Sequence[str] = ()) -> NDArray[np.float32]:
        """float32 (routes,) of one text: its vector (dim,), its stems."""
        if vector.shape != (self.dim,):
            message = f"a vector of shape {vector.shape}"
            raise InputError(message, field="vector", fix=f"use the encoder of {self.dim} dimensions")
        return self.head.logits(vector, words)

    def route(self, vector: Vectors, words: Sequence[str] = ()) -> tuple[str, float]:
        """(the likeliest route, its probability). Raises InputError: it knows none yet."""
        if not self.routes:
            raise InputError("no route is known yet", field="model", fix="aggregate updates first")
        logits = self.logits(vector, words)
        powers = np.exp(logits - logits.max())
        best = int(powers.argmax())
        return self.routes[best], float(powers[best] / powers.sum())

    async def fit(self, agents: Sequence[str], local: Callable[[Vectors], Vectors], pause: Pause = no_pause) -> Head:
        """What its patterns add to a router's own scores: the residual alone, so that nothing counts twice.

        Args:
            agents: names, one for each column; routes that are none of them are left out.
            local: a unit vector (dim,) -> the router's logits, float32 (agents,).
        """
        names = frozenset(agents)
        groups = [pattern for pattern in self.patterns if pattern.route in names]
        if not groups:
            return Head.blank(self.dim, len(agents))
        means = [group.mean / np.float32(max(float(np.linalg.norm(group.mean)), 1e-12)) for group in groups]
        offsets = np.stack([local(mean) for mean in means])
        head = await _Grouped(groups, agents, offsets).fit(pause, tolerance=_LOOSE)
        return Head(head.weights * _RESTRAINT, head.tfidf)

    def find(self, vector: Vectors, k: int = 5) -> list[tuple[Group, float]]:
        """The k patterns whose direction is nearest to vector (dim,), with their cosines, best first."""
        if not self.patterns:
            return []
        means = np.stack([pattern.mean for pattern in self.patterns])
        lengths = np.maximum(np.linalg.norm(means, axis=1), 1e-12)
        cosines = (means @ vector) / lengths
        return [(self.patterns[i], float(cosines[i])) for i in np.argsort(-cosines, kind="stable")[:k].tolist()]

    def to_bytes(self) -> bytes:
        """To be sent to every agent."""
        idf = self.head.tfidf.idf
        header = {"routes": self.routes, "names": names_of(self.patterns), "texts": self.texts}
        header["outcomes"] = names_of(self.outcomes)
        arrays = group_arrays(self.patterns, self.dim, _PATTERN) | outcome_arrays(self.outcomes)
        arrays |= {
            "weights": self.head.weights,
            "idf_terms": np.array(list(idf), np.int64),
            "idf": np.array(list(idf.values()), np.float64),
            "header": json_array(header),
        }
        return pack(arrays | (self.adapter.arrays() if self.adapter else {}), _KIND)

    @classmethod
    def from_bytes(cls, data: bytes) -> SharedModel:
        """What `to_bytes` gave. Raises InputError: it is damaged."""
        specs = LORA_SPECS | OUTCOME_SPECS | {f"{_PATTERN}{name}": spec for name, spec in GROUP_SPECS.items()}
        specs |= {
            "weights": Spec(("features", "routes")),
            "idf_terms": Spec(("vocabulary",), "int64"),
            "idf": Spec(("vocabulary",), "float64"),
            "header": Spec(("bytes",), "uint8"),
        }
        arrays = unpack(data, _KIND, specs, most_bytes=MOST_BYTES, error=InputError)
        header = array_json(arrays["header"], "header", InputError)
        weights, terms = arrays["weights"], arrays["idf_terms"]
        dim = arrays[f"{_PATTERN}totals"].shape[1]
        try:
            routes, texts = tuple(header["routes"]), header["texts"]
            for route in routes:
                check_name(route, "route")
            patterns = groups_from(arrays, header["names"], 0, prefix=_PATTERN)
            outcomes = outcomes_from(arrays, header.get("outcomes"), 0)
            if weights.shape != (dim + WIDTH, len(routes)) or len(set(routes)) < len(routes) or type(texts) is not int:
                raise ValueError(f"weights of shape {weights.shape}, {len(routes)} routes")
            if ((terms < 0) | (terms >= 1 << 32)).any() or not (arrays["idf"] > 0).all():
                raise ValueError("a term's weight is out of range")
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as bad:
            message = f"no usable model: {bad}"[:240]
            raise InputError(message, field="model", fix="send what `to_bytes` of this version made") from None
        tfidf = HashedTfidf(dict(zip(terms.tolist(), arrays["idf"].tolist(), strict=True)), WIDTH)
        return cls(routes, Head(weights, tfidf), adapter_from(arrays, InputError), patterns, texts, outcomes)


def patterns_of(groups: Sequence[Group], most: int) -> tuple[Group, ...]:
    """At most `most` in all, by merging within routes as evenly as they allow; the largest routes' when still more."""
    routes = {group.route for group in groups}
    merged = merge_closest(groups, max(1, most // max(1, len(routes))))
    return tuple(sorted(merged, key=lambda group: -group.count)[:most])


LONGEST_NAME = 200
MOST_BYTES = 64 << 20
MOST_GROUPS, _MOST_TEXTS, _MOST_TAGS = 20_000, 1e6, 32
_UPDATE = "federated"
_FIX = "send what `export_state` of this version made"
GROUP_SPECS = {
    "totals": Spec(("groups", "dim")),
    "counts": Spec(("groups",), "float64"),
    "quality": Spec(("groups",), "float64"),
    "route": Spec(("groups",), "int32"),
    "ends": Spec(("groups",), "int64"),
    "terms": Spec(("entries",), "int64"),
    "uses": Spec(("entries",), "int32"),
}
_OUTCOME, _PATTERN = "outcome_", "pattern_"
OUTCOME_SPECS = {
    f"{_OUTCOME}{name}": Spec(tuple(f"{_OUTCOME}{one}" for one in spec.shape), spec.dtype, optional=True)
    for name, spec in GROUP_SPECS.items()
}
LORA_SPECS = {
    "down": Spec(("dim", "rank"), optional=True),
    "up": Spec(("rank", "dim"), optional=True),
    "alpha": Spec((), "float64", optional=True),
}


@dataclass(frozen=True, slots=True)
class NoiseAdded:
    """The promise that an update keeps (see `privacy`).

    Attributes:
        epsilon, delta: of each text, however many updates its agent sends: it is in one of them.
        sigma: standard deviation of the noise on each number.
    """

    epsilon: float
    delta: float
    sigma: float


@dataclass(frozen=True, slots=True, repr=False)
class Update(Shown):
    """What one agent lets travel, once.

    Attributes:
        agent: who; with `serial` it tells two updates apart.
        k: texts in the smallest group.
        adapter: what it learnt since its last update; None when nothing.
        noise: None when none was added.
        held_back: how many wait for others of their route.
        outcomes: how good models' answers to what prompts were; a group's route is `model_route`.
    """

    agent: str
    serial: int
    dim: int
    k: int
    groups: tuple[Group, ...]
    adapter: LowRank | None = None
    noise: NoiseAdded | None = None
    held_back: int = 0
    refused: int = 0
    outcomes: tuple[Group, ...] = ()

    @property
    def texts(self) -> int:
        """How many texts its sums are of."""
        return round(sum(group.count for group in self.groups))

    @property
    def routes(self) -> tuple[str, ...]:
        """Each once, sorted."""
        return tuple(sorted({group.route for group in self.groups}))

    def to_bytes(self) -> bytes:
        """All of it: nothing else leaves an agent."""
        noise = self.noise and [self.noise.epsilon, self.noise.delta, self.noise.sigma]
        header = {
            "agent": self.agent,
            "serial": self.serial,
            "k": self.k,
            "noise": noise,
            "held_back": self.held_back,
            "refused": self.refused,
            "names": names_of(self.groups),
            "outcomes": names_of(self.outcomes),
        }
        arrays = (
            group_arrays(self.groups, self.dim)
            | outcome_arrays(self.outcomes)
            | (self.adapter.arrays() if self.adapter else {})
        )
        return pack(arrays | {"header": json_array(header)}, _UPDATE)

    @classmethod
    def from_bytes(cls, data: bytes) -> Update:
        """What `to_bytes` gave.

        Raises:
            InputError: it is damaged, of another version, too large, or says what cannot be; where one array does,
                `field` names it.
        """
        specs = GROUP_SPECS | OUTCOME_SPECS | LORA_SPECS | {"header": Spec(("bytes",), "uint8")}
        arrays = unpack(data, _UPDATE, specs, most_bytes=MOST_BYTES, error=InputError)
        header = array_json(arrays["header"], "header", InputError)
        try:
            agent, names, noise = header["agent"], header["names"], header["noise"]
            serial, k, held_back, refused = (whole(header[name]) for name in ("serial", "k", "held_back", "refused"))
            check_name(agent, "agent")
            if k < 2:
                raise ValueError("groups of one text")
            promise = None if noise is None else NoiseAdded(*(positive(value) for value in noise))
            least = 0 if promise else k
            groups = groups_from(arrays, names, least)
            outcomes = outcomes_from(arrays, header.get("outcomes"), least)
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as bad:
            raise refuse(bad) from None
        adapter = adapter_from(arrays, InputError)
        dim = arrays["totals"].shape[1]
        return cls(agent, serial, dim, k, groups, adapter, promise, held_back, refused, outcomes)


def check_name(name: Any, field: str) -> None:
    """Raises InputError: `name` is no short printable text."""
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        fix = f"use 1 to {LONGEST_NAME} printable characters"
        raise InputError(f"{field} is {str(name)[:40]!r}", field=field, fix=fix)


def names_of(groups: Sequence[Group]) -> dict[str, Any]:
    """Routes and tags for the header of `group_arrays`."""
    return {"routes": sorted({group.route for group in groups}), "tags": [list(group.tags) for group in groups]}


def group_arrays(groups: Sequence[Group], dim: int, prefix: str = "") -> Arrays:
    """As GROUP_SPECS says, with a prefix to each name; route numbers are places in `names_of`."""
    place = {route: i for i, route in enumerate(names_of(groups)["routes"])}
    entries = [sorted(group.terms.items()) for group in groups]
    flat = [entry for row in entries for entry in row]
    arrays: Arrays = {
        "totals": np.array([group.total for group in groups], np.float32).reshape(-1, dim),
        "counts": np.array([group.count for group in groups], np.float64),
        "quality": np.array([group.quality for group in groups], np.float64),
        "route": np.array([place[group.route] for group in groups], np.int32),
        "ends": np.cumsum([len(row) for row in entries], dtype=np.int64),
        "terms": np.array([term for term, _ in flat], np.int64),
        "uses": np.array([uses for _, uses in flat], np.int32),
    }
    return {f"{prefix}{name}": value for name, value in arrays.items()}


def model_route(space: str, model: str) -> str:
    """What outcomes of a model on prompts in a vector space are called: only they can be compared."""
    return f"{space} {model}"


def outcome_arrays(groups: Sequence[Group]) -> Arrays:
    """As OUTCOME_SPECS says; nothing where there are none."""
    return group_arrays(groups, len(groups[0].total), _OUTCOME) if groups else {}


def outcomes_from(arrays: Arrays, names: Any, k: int, most: int = MOST_GROUPS) -> tuple[Group, ...]:
    """What `outcome_arrays` gave, none where there are none. Arguments and errors are those of `groups_from`."""
    found = OUTCOME_SPECS.keys() & arrays.keys()
    if found and len(found) < len(OUTCOME_SPECS):
        raise InputError("outcomes are not complete", field="outcomes", fix=_FIX)
    return groups_from(arrays, names, k, most, _OUTCOME) if found else ()


def groups_from(arrays: Arrays, names: Any, k: int, most: int = MOST_GROUPS, prefix: str = "") -> tuple[Group, ...]:
    """What `group_arrays` gave.

    Args:
        k: texts that each group has at least; 0 where noise was added to the counts.
        most: groups that are believed.

    Raises:
        ValueError, KeyError, TypeError, InputError: they contradict each other.
    """
    arrays = {name: arrays[f"{prefix}{name}"] for name in GROUP_SPECS}
    routes, tags = names["routes"], names["tags"]
    counts, quality = arrays["counts"], arrays["quality"]
    if len(counts) > most or not isinstance(tags, list) or len(tags) != len(counts):
        raise ValueError(f"{len(counts)} groups")
    for name in routes:
        check_name(name, "route")
    for row in tags:
        if not isinstance(row, list) or len(row) > _MOST_TAGS:
            raise ValueError("tags of a group are too many")
        for tag in row:
            check_name(tag, "tag")
    _check_numbers(arrays, len(routes), k, prefix)
    ends, terms, uses = (arrays[name].tolist() for name in ("ends", "terms", "uses"))
    starts = [0, *ends][: len(ends)]
    return tuple(
        Group(
            routes[number],
            arrays["totals"][i],
            float(counts[i]),
            float(quality[i]),
            dict(zip(terms[start:end], uses[start:end], strict=True)),
            tuple(tags[i]),
        )
        for i, (number, start, end) in enumerate(zip(arrays["route"].tolist(), starts, ends, strict=True))
    )


def _check_numbers(arrays: Arrays, routes: int, k: int, prefix: str) -> None:
    counts, quality, totals, ends = arrays["counts"], arrays["quality"], arrays["totals"], arrays["ends"]
    terms, uses, route = arrays["terms"], arrays["uses"], arrays["route"]
    lengths = np.sqrt(np.einsum("ij,ij->i", totals, totals, dtype=np.float64))
    spans = np.diff(ends, prepend=0)
    entries = int(ends[-1]) if len(ends) else 0
    if (spans < 0).any() or entries != len(terms):
        raise ValueError("the terms do not fit the groups")
    most = np.repeat(counts, spans.astype(np.intp))
    for name, wrong, what in (
        ("counts", (counts <= 0) | (counts < k) | (counts > _MOST_TEXTS), "a group has too few or too many texts"),
        ("totals", lengths > counts * (1 + 1e-4) + 1e-4, "a sum is longer than its texts allow"),
        ("quality", (quality < -1e-6) | (quality > counts * (1 + 1e-6)), "a quality is out of range"),
        ("route", (route < 0) | (route >= routes), "a route number stands for nothing"),
        ("uses", (terms < 0) | (terms >= 1 << 32) | (uses < 1) | (uses > most), "a term's use is out of range"),
    ):
        if wrong.any():
            raise InputError(f"{prefix}{name}: {what}", field=f"{prefix}{name}", fix=_FIX)


def adapter_from(arrays: Arrays, error: type[RuvllmError]) -> LowRank | None:
    """The adapter among the arrays, all of its parts or none. Raises `error`."""
    found = {name: arrays[name] for name in LORA_SPECS if name in arrays}
    if found and len(found) < len(LORA_SPECS):
        raise error("an adapter is not complete", field="adapter", fix=_FIX)
    return LowRank.from_arrays(found, error) if found else None


def whole(value: Any) -> int:
    """A count from JSON. Raises ValueError."""
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"{str(value)[:20]} is no count")
    return value


def positive(value: Any) -> float:
    """A finite number above 0 from JSON. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{str(value)[:20]} is no number above 0")
    return float(value)


def refuse(bad: Exception) -> InputError:
    """The error for an update that says what cannot be."""
    return InputError(f"no usable update: {bad}"[:240], field="update", fix=_FIX)
