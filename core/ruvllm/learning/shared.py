"""What all agents have learnt together: a routing head fitted on the groups, an adapter, patterns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, Vectors, no_pause
from ruvllm.errors import InputError
from ruvllm.learning.groups import Group, merge_closest
from ruvllm.learning.lora import LowRank
from ruvllm.learning.packing import Spec, array_json, json_array, pack, unpack
from ruvllm.learning.wire import (
    GROUP_SPECS,
    LORA_SPECS,
    MOST_BYTES,
    adapter_from,
    check_name,
    group_arrays,
    groups_from,
    names_of,
)
from ruvllm.reprs import one_line
from ruvllm.routing.head import LEXICAL_WEIGHT, WIDTH, Design, Examples, Head
from ruvllm.text.lexical import HashedTfidf

__all__ = ["SharedModel", "fit_head", "patterns_of"]

_HEAVIEST = 100.0  # texts that a group counts for at most: a client that lies about its number gains little
_LOOSE = 1e-3
_KIND = "federated-model"


class _Grouped(Design):
    """Groups in the place of examples: features of the mean text, weighed by how many texts it stands for."""

    def __init__(self, groups: Sequence[Group], routes: Sequence[str]) -> None:
        place = {route: i for i, route in enumerate(routes)}
        means = np.stack([group.mean for group in groups])
        labels = np.array([place[group.route] for group in groups], np.int64)
        weights = np.array([min(group.count, _HEAVIEST) for group in groups], np.float32)
        zero = np.zeros((len(groups), len(routes)), np.float32)
        self.examples = Examples(means, [[] for _ in groups], labels, zero, weights)
        self.tfidf = _idf(groups)
        self.x = np.zeros((len(groups), means.shape[1] + WIDTH), np.float32)
        self.x[:, : means.shape[1]] = means
        for row, group in zip(self.x[:, means.shape[1] :], groups, strict=True):
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


@dataclass(frozen=True)
class SharedModel:
    """What a coordinator gives back.

    Attributes:
        routes: in the order of the head's columns.
        head: the routing head of (vector, words), as `routing.head` has it.
        adapter: of embeddings; None while nobody sent one.
        patterns: what the routes' tasks are like, the closest of them merged.
        texts: how many it was learnt from.
    """

    routes: tuple[str, ...]
    head: Head
    adapter: LowRank | None
    patterns: tuple[Group, ...]
    texts: int

    __repr__ = one_line

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
        arrays = {f"pattern_{name}": value for name, value in group_arrays(self.patterns, self.dim).items()}
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
        specs = LORA_SPECS | {f"pattern_{name}": spec for name, spec in GROUP_SPECS.items()}
        specs |= {
            "weights": Spec(("features", "routes")),
            "idf_terms": Spec(("vocabulary",), "int64"),
            "idf": Spec(("vocabulary",), "float64"),
            "header": Spec(("bytes",), "uint8"),
        }
        arrays = unpack(data, _KIND, specs, most_bytes=MOST_BYTES, error=InputError)
        header = array_json(arrays["header"], "header", InputError)
        weights, terms = arrays["weights"], arrays["idf_terms"]
        dim = arrays["pattern_totals"].shape[1]
        try:
            routes, texts = tuple(header["routes"]), header["texts"]
            for route in routes:
                check_name(route, "route")
            found = {name: arrays[f"pattern_{name}"] for name in GROUP_SPECS}
            patterns = groups_from(found, header["names"], 0)
            if weights.shape != (dim + WIDTH, len(routes)) or len(set(routes)) < len(routes) or type(texts) is not int:
                raise ValueError(f"weights of shape {weights.shape}, {len(routes)} routes")
            if ((terms < 0) | (terms >= 1 << 32)).any() or not (arrays["idf"] > 0).all():
                raise ValueError("a term's weight is out of range")
        except (KeyError, TypeError, ValueError) as bad:
            message = f"no usable model: {bad}"[:240]
            raise InputError(message, field="model", fix="send what `to_bytes` of this version made") from None
        tfidf = HashedTfidf(dict(zip(terms.tolist(), arrays["idf"].tolist(), strict=True)), WIDTH)
        return cls(routes, Head(weights, tfidf), adapter_from(arrays, InputError), patterns, texts)


def patterns_of(groups: Sequence[Group], most: int) -> tuple[Group, ...]:
    """At most `most` in all, by merging within routes as evenly as they allow; the largest routes' when still more."""
    routes = {group.route for group in groups}
    merged = merge_closest(groups, max(1, most // max(1, len(routes))))
    return tuple(sorted(merged, key=lambda group: -group.count)[:most])
