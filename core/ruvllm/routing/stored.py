"""What a router has learnt, kept in the state file: a start takes it up instead of learning it all again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.artifacts.host import load_npz
from ruvllm.disk_cache import DiskCache
from ruvllm.errors import RuvllmError, StoreError
from ruvllm.routing.fusion import RouterWeights
from ruvllm.routing.head import Prior
from ruvllm.routing.scorer import Scorer
from ruvllm.state.names import scorer_name
from ruvllm.state.packing import Spec, pack, unpack
from ruvllm.state.store import Store
from ruvllm.types import Agent, Feedback

_MOST = 64_000_000  # bytes of one scorer
_CALIBRATION = 6  # numbers of a Calibration
_SPECS = {
    "cards": Spec(("agents", "dim")),
    "names": Spec(("agents", "dim")),
    "head": Spec(("features", "agents")),
    "terms": Spec(("terms",), "int64", optional=True),
    "idf": Spec(("terms",), optional=True),
    "share": Spec(()),
    "width": Spec((), "int64"),
    "centroids": Spec(("taught", "dim"), optional=True),
    "near": Spec(("near", "dim"), optional=True),
    "near_labels": Spec(("near",), "int64", optional=True),
    "near_weight": Spec((), "float64"),
    "calibration": Spec((_CALIBRATION,), "float64", optional=True),
    "print": Spec((32,), "uint8"),
    "told": Spec((), "int64"),
}


def save_scorers(
    store: Store,
    scorers: Mapping[str, tuple[Scorer, int]],
    agents: Sequence[Agent],
    records: Sequence[Feedback],
    weights: RouterWeights,
) -> None:
    """Keep scorers that were reviewed.

    Args:
        scorers: by encoder name, with how much of `records` each has taken in.
        records: all feedback for these agents, oldest first.

    Raises:
        StoreError: it cannot be written.
    """
    for name, (scorer, seen) in scorers.items():

        def dump(name: str = name, scorer: Scorer = scorer, seen: int = seen) -> bytes:
            arrays = {key: _plain(value) for key, value in scorer.arrays().items() if value.size}
            arrays["print"] = _print(agents, records[:seen], weights, name, scorer.fitted.prior)
            arrays["told"] = np.array(seen, np.int64)
            return pack(arrays, scorer_name(name))

        store.save(scorer_name(name), dump)


def load_scorers(
    store: Store,
    agents: Sequence[Agent],
    records: Sequence[Feedback],
    weights: RouterWeights,
    priors: Mapping[str, Prior | None] | None = None,
) -> dict[str, tuple[Scorer, int]]:
    """Scorers that were kept for exactly these agents, these weights and the beginning of this feedback.

    What is damaged, of another encoder's vectors, built upon another one of `priors` (by encoder name), or was learnt
    from feedback that has been undone since, is left aside: it is learnt again.
    """
    found = {}
    for name, stage in weights.stages.items():
        try:
            data = store.load(scorer_name(name))
            arrays = unpack(data, scorer_name(name), _SPECS, most_bytes=_MOST) if data else None
        except StoreError:
            continue
        if arrays is not None and _fits(arrays := _whole(arrays), agents, records):
            seen = int(arrays["told"].item())
            prior = (priors or {}).get(name)
            if not np.array_equal(arrays["print"], _print(agents, records[:seen], weights, name, prior)):
                continue
            try:
                scorer = Scorer.from_arrays(arrays, stage, weights.adapter, prior)
            except (RuvllmError, ValueError, TypeError, KeyError):
                continue
            found[name] = scorer, seen
    return found


def _whole(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    dim = arrays["cards"].shape[1]
    empty: dict[str, NDArray[Any]] = {
        "terms": np.zeros(0, np.int64),
        "idf": np.zeros(0, np.float32),
        "centroids": np.zeros((0, dim), np.float32),
        "near": np.zeros((0, dim), np.float32),
        "near_labels": np.zeros(0, np.int64),
        "calibration": np.zeros(0),
    }
    return empty | dict(arrays)


def _fits(arrays: Mapping[str, NDArray[Any]], agents: Sequence[Agent], records: Sequence[Feedback]) -> bool:
    seen, labels = int(arrays["told"].item()), arrays["near_labels"]
    width = int(arrays["width"].item())
    return (
        len(arrays["cards"]) == len(agents)
        and width > 0
        and len(arrays["head"]) == arrays["cards"].shape[1] + width
        and bool(((labels >= 0) & (labels < len(agents))).all())
        and 0 <= seen <= len(records)
    )


def _print(
    agents: Sequence[Agent], records: Sequence[Feedback], weights: RouterWeights, name: str, prior: Prior | None = None
) -> NDArray[np.uint8]:
    """A digest of all that a scorer is taught by, and of the weights, which are trained anew for other vectors."""
    cards = [(a.name, a.description, list(a.keywords), list(a.examples), a.body) for a in agents]
    rows = [(one.text, one.agent, one.weight, one.right) for one in records]
    digest = sha256(json.dumps([cards, rows]).encode())
    adapter = weights.adapter
    parts = (adapter.query_down, adapter.query_up, adapter.card_down, adapter.card_up, weights.stages[name].weights)
    for part in (*parts, weights.confidence[name], *(() if prior is None else (prior.head.weights, prior.zero_weight))):
        digest.update(np.ascontiguousarray(part, "<f4").tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """In a dtype that can be packed."""
    kinds = {"float16": np.float32, "uint32": np.int64}
    return array.astype(kinds.get(array.dtype.name, array.dtype))


_LONG = 200  # agents and examples
_CACHED = 1  # the layout of what is cached, and the way it was learnt


def is_long(agents: Sequence[Agent]) -> bool:
    """Whether learning these agents takes longer than reading what was learnt of them before."""
    return len(agents) + sum(len(agent.examples) for agent in agents) >= _LONG


class CachedScorers:
    """Scorers of a long set of agents that nobody has taught anything, in the user's cache: by content and encoder.

    Args:
        cache: where; None keeps nothing.
        encoders: names of those in use.
    """

    def __init__(
        self, cache: DiskCache | None, agents: Sequence[Agent], weights: RouterWeights, encoders: Collection[str]
    ) -> None:
        self._cache = cache if is_long(agents) else None
        self._agents, self._weights, self._encoders = agents, weights, encoders

    def load(self) -> dict[str, Scorer]:
        """Those there are, by encoder name."""
        found = {}
        for name in self._encoders:
            data = self._cache.get(self._name(name)) if self._cache is not None else None
            if data is not None:
                found[name] = self._scorer(name, data)
        return found

    def save(self, name: str, scorer: Scorer) -> Scorer:
        """Keep one that was just built; gives it as `load` will, so that the next process decides alike."""
        if self._cache is None:
            return scorer
        file = BytesIO()
        np.savez(file, **scorer.arrays())  # type: ignore[arg-type]
        self._cache.put(self._name(name), file.getvalue())
        return self._scorer(name, file.getvalue())

    def _scorer(self, name: str, data: bytes) -> Scorer:
        return Scorer.from_arrays(load_npz(data, "cached scorer"), self._weights.stages[name], self._weights.adapter)

    def _name(self, name: str) -> str:
        return f"scorer-{_CACHED}-{_print(self._agents, (), self._weights, name).tobytes().hex()}"
