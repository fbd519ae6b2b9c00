"""Where updates meet: filtered, made robust against a few hostile ones, fitted into one model (row F2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, Vectors, no_pause, synchronous
from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.learning.federated.groups import Group, merge_closest
from ruvllm.learning.federated.wire import (
    GROUP_SPECS,
    LORA_SPECS,
    OUTCOME_SPECS,
    SharedModel,
    Update,
    adapter_from,
    fit_head,
    group_arrays,
    groups_from,
    names_of,
    outcome_arrays,
    outcomes_from,
    patterns_of,
    whole,
)
from ruvllm.learning.lora import LowRank, mixture
from ruvllm.reprs import Shown
from ruvllm.routing.head import Head
from ruvllm.sizing.bandit import shared_width
from ruvllm.state.packing import Spec, array_json, json_array, pack, unpack

_BLOCK = 1 << 22  # numbers that all clients' maps may take at once
_SPREADS = 4.0  # times the usual distance from the median, from where on a client is not believed
_LEAST = 0.05  # distance that never makes an outlier, however close the others lie

Floats = NDArray[Any]
Aggregator = Callable[[Floats, Floats], Floats]


def trimmed_mean(values: Floats, weights: Floats, fraction: float = 0.2) -> Floats:
    """Mean over the clients (clients, …) without the highest and lowest fifth of each number.

    At least one client is cut off on each side, from three on. The rest count alike: a weight is told
    by the client itself, and a liar would tell a large one.
    """
    n = len(values)
    cut = min(max(1, int(fraction * n)), (n - 1) // 2)
    if not cut:
        return weighted_mean(values, weights)
    ordered = np.sort(values, axis=0)
    return np.asarray(ordered[cut : n - cut].mean(0))


def median(values: Floats, weights: Floats) -> Floats:
    """Of each number over the clients (clients, …); up to half of them may lie. Weights play no part."""
    del weights
    return np.asarray(np.median(values, axis=0))


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """By how many texts each client learnt from: best where all are honest."""
    return np.asarray(np.tensordot(weights / weights.sum(), values, 1))


AGGREGATORS: dict[str, Aggregator] = {"mean": weighted_mean, "median": median, "trimmed": trimmed_mean}


def merged_adapter(deltas: Sequence[LowRank], weights: Sequence[float], how: str, rank: int, clip: float) -> LowRank:
    """One adapter from those of several clients.

    Whole maps are aggregated, entry by entry: A and B are only known up to a turn, and so a median of
    them means nothing.

    Args:
        deltas: of one width, at least one.
        weights: above 0, one each.
        how: a name in AGGREGATORS.
        rank: the result's; the nearest such map.
        clip: a map of a larger Frobenius norm is shortened to it first.
    """
    if how not in AGGREGATORS:
        raise InputError(f"no aggregation {how!r}", field="robust", fix=f"use one of {', '.join(AGGREGATORS)}")
    scales = [min(1.0, clip / max(delta.strength, 1e-30)) for delta in deltas]
    shares = np.asarray(weights, np.float64)
    if how == "mean" or len(deltas) < 3:
        parts = [float(w) * scale for w, scale in zip(shares / shares.sum(), scales, strict=True)]
        return mixture(deltas, parts, min(rank, deltas[0].dim))
    dim = deltas[0].dim
    whole = np.empty((dim, dim), np.float32)
    step = max(1, _BLOCK // (dim * len(deltas)))
    for start in range(0, dim, step):
        rows = slice(start, start + step)
        maps = [(d.scale * scale) * (d.down[rows] @ d.up) for d, scale in zip(deltas, scales, strict=True)]
        whole[rows] = AGGREGATORS[how](np.stack(maps), shares)
    return _nearest(whole, min(rank, dim))


def _nearest(whole: Floats, rank: int, rounds: int = 3) -> LowRank:
    """The nearest map of `rank` to (dim, dim), by randomised subspace iteration (Halko et al. 2011)."""
    dim = len(whole)
    basis = np.random.default_rng(0).standard_normal((dim, min(rank + 8, dim))).astype(np.float32)
    for _ in range(rounds):
        basis = np.linalg.qr(whole @ (whole.T @ basis))[0]
    left, sizes, right = np.linalg.svd(basis.T @ whole, full_matrices=False)
    root = np.sqrt(sizes[:rank])
    down, up = (basis @ left[:, :rank]) * root, root[:, None] * right[:rank]
    arrays = {"down": down.astype(np.float32), "up": up.astype(np.float32), "alpha": np.array(float(rank))}
    return LowRank.from_arrays(arrays)


def outliers(means: Floats) -> NDArray[np.bool_]:
    """Which clients' means (clients, dim) of one route lie far from where most of them do; nobody of fewer than 3."""
    if len(means) < 3:
        return np.zeros(len(means), bool)
    away = np.sqrt(((means - np.median(means, axis=0)) ** 2).sum(1))
    return np.asarray(away > max(_SPREADS * float(np.median(away)), _LEAST))


CAPACITY, CLUSTERS, EVERY, QUALITY, BASE_RANK = 50_000, 200, 50, 0.4, 16
COUNTS = ("updates", "consolidations", "refused", "outliers")
_KIND, _LARGEST = "federated-state", 256 << 20
_CLIP = 1.0  # of one client's map: half of what an adapter of rank 1 may grow to


@dataclass(frozen=True, slots=True, repr=False)
class Accepted(Shown):
    """What became of one update.

    Attributes:
        refused: groups that were not good enough or of a route that is not allowed.
        again: whether it had come before; then nothing of it was taken.
        consolidated: whether it was the one that made the coordinator consolidate.
        outcomes: of models' answers, taken.
    """

    groups: int
    texts: int
    refused: int
    again: bool = False
    consolidated: bool = False
    outcomes: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class FederatedStats(Shown):
    """Counts since the coordinator began, but `groups`, `texts` and `answers`, which it holds now.

    Attributes:
        epsilon: the weakest promise of any agent; None when one sent without noise, or nobody sent.
        outliers: contributions to a route that lay too far from what the other agents say of it.
        answers: of models, whose outcomes are known.
    """

    agents: int
    updates: int
    pending: int
    consolidations: int
    groups: int
    texts: int
    refused: int
    outliers: int
    epsilon: float | None
    answers: int = 0


class FederatedCoordinator:
    """Aggregates updates; every 50 of them, or when told, it consolidates them into the model.

    Args:
        capacity: texts whose groups are kept; then the largest routes forget their oldest.
        clusters: patterns in the model, and groups of one route, at most.
        every: updates after which it consolidates by itself.
        quality: groups of a lower mean quality are refused.
        robust: how adapters are aggregated: "trimmed" mean, "median", or plain "mean".
        clip: an adapter of a larger norm is shortened to it.
        routes: those allowed; None allows every name.
    """

    def __init__(
        self,
        dim: int,
        *,
        capacity: int = CAPACITY,
        clusters: int = CLUSTERS,
        every: int = EVERY,
        quality: float = QUALITY,
        robust: str = "trimmed",
        clip: float = _CLIP,
        base_rank: int = BASE_RANK,
        routes: Iterable[str] | None = None,
    ) -> None:
        if robust not in AGGREGATORS:
            raise InputError(f"no aggregation {robust!r}", field="robust", fix=f"use one of {', '.join(AGGREGATORS)}")
        numbers = (("dim", dim), ("capacity", capacity), ("clusters", clusters), ("every", every), ("rank", base_rank))
        for field, value in numbers:
            if value < 1:
                raise InputError(f"{field} is {value}", field=field, fix="use 1 or more")
        self.dim = dim
        self.adapter: LowRank | None = None
        self._capacity, self._clusters, self._every, self._quality = capacity, clusters, every, quality
        self._robust, self._clip, self._rank = robust, clip, base_rank
        self._allowed = None if routes is None else frozenset(routes)
        self._serials: dict[str, set[int]] = {}
        self._pending: list[Update] = []
        self._groups: list[Group] = []
        self._outcomes: list[Group] = []  # of models: routes are not limited, and bad answers tell as much as good ones
        self._width = shared_width(dim)
        self._model: SharedModel | None = None
        self._counts = dict.fromkeys(COUNTS, 0)
        self._epsilon = 0.0  # the largest that was promised

    def aggregate(self, export: Update | bytes) -> Accepted:
        """Take one update, or the bytes of one; the same one twice counts once.

        Raises:
            InputError: it is damaged, or of another width.
        """
        update = Update.from_bytes(export) if isinstance(export, bytes | bytearray) else export
        if update.dim != self.dim or (update.adapter is not None and update.adapter.dim != self.dim):
            fix = "use one encoder on all agents"
            raise InputError(f"an update of {update.dim} dimensions, not {self.dim}", field="export", fix=fix)
        if any(len(group.total) != self._width for group in update.outcomes):
            message = f"outcomes of {len(update.outcomes[0].total)} numbers, not {self._width}"
            raise InputError(message, field="outcome_totals", fix="use one version of ruvllm, and one width of vectors")
        serials = self._serials.setdefault(update.agent, set())
        if update.serial in serials:
            return Accepted(0, 0, 0, again=True)
        serials.add(update.serial)
        good = tuple(group for group in update.groups if self._takes(group))
        refused = len(update.groups) - len(good)
        self._counts["refused"] += refused
        self._counts["updates"] += 1
        self._epsilon = max(self._epsilon, update.noise.epsilon if update.noise else math.inf)
        taken = replace(update, groups=good)
        self._pending.append(taken)
        answers = round(sum(group.count for group in update.outcomes))
        return Accepted(len(good), taken.texts, refused, consolidated=self.auto_consolidate(), outcomes=answers)

    def _takes(self, group: Group) -> bool:
        allowed = self._allowed is None or group.route in self._allowed
        return allowed and group.quality >= self._quality * group.count

    def auto_consolidate(self) -> bool:
        """Consolidate if `every` updates wait; whether it did."""
        if len(self._pending) < self._every:
            return False
        self.consolidate()
        return True

    def consolidate(self) -> None:
        """Fold the waiting updates into what is known, whatever order they came in."""
        updates = sorted(self._pending, key=lambda update: (update.agent, update.serial))
        self._pending = []
        if not updates:
            return
        self._groups = self._merged(self._groups, [(update.agent, update.groups) for update in updates])
        self._outcomes = self._merged(self._outcomes, [(update.agent, update.outcomes) for update in updates])
        self._merge_adapters(updates)
        self._counts["consolidations"] += 1
        self._model = None

    def _merged(self, groups: list[Group], sent: Sequence[tuple[str, Sequence[Group]]]) -> list[Group]:
        """With what agents sent of each route, unless it lies far from what the others say of it."""
        doubted = _doubted(sent)
        self._counts["outliers"] += len(doubted)
        fresh = [group for agent, rows in sent for group in rows if (agent, group.route) not in doubted]
        return self._newest(merge_closest([*groups, *fresh], self._clusters))

    def _merge_adapters(self, updates: Sequence[Update]) -> None:
        sent = [(update.adapter, max(1, update.texts)) for update in updates if update.adapter is not None]
        if not sent:
            return
        adapters, weights = zip(*sent, strict=True)
        change = merged_adapter(adapters, weights, self._robust, self._rank, self._clip)
        rank = min(self._rank, self.dim)
        self.adapter = change if self.adapter is None else self.adapter.merge(change, rank)

    def _newest(self, groups: list[Group]) -> list[Group]:
        """Within capacity: the largest routes lose their oldest groups first, none its last one."""
        held: dict[str, float] = {}
        for group in groups:
            held[group.route] = held.get(group.route, 0.0) + group.count
        limit = _fair_limit(sorted(held.values()), self._capacity)
        newest: list[Group] = []
        texts: dict[str, float] = {}
        for group in reversed(groups):
            so_far = texts.get(group.route, 0.0)
            if not so_far or so_far + group.count <= limit:
                newest.append(group)
                texts[group.route] = so_far + group.count
        return newest[::-1]

    async def amodel(self, pause: Pause = no_pause) -> SharedModel:
        """What all consolidated updates teach, fitted when it is asked for first: seconds for a hundred routes."""
        if self._model is not None:
            return self._model
        groups, adapter = self._groups, self.adapter
        routes = tuple(sorted({group.route for group in groups}))
        head = await fit_head(groups, routes, pause) if groups else Head.blank(self.dim, 0)
        texts = round(sum(group.count for group in groups))
        outcomes = patterns_of(self._outcomes, self._clusters)
        made = SharedModel(routes, head, adapter, patterns_of(groups, self._clusters), texts, outcomes)
        if groups is self._groups:  # else something was consolidated meanwhile
            self._model = made
        return made

    model = synchronous(amodel)

    def stats(self) -> FederatedStats:
        """How it stands."""
        texts = round(sum(group.count for group in self._groups))
        promise = self._epsilon if 0 < self._epsilon < math.inf else None
        agents, waiting, groups = len(self._serials), len(self._pending), len(self._groups)
        return FederatedStats(
            **self._counts,
            agents=agents,
            pending=waiting,
            groups=groups,
            texts=texts,
            epsilon=promise,
            answers=round(sum(group.count for group in self._outcomes)),
        )

    def to_bytes(self) -> bytes:
        """Everything consolidated, for the state file; updates that wait are consolidated first."""
        self.consolidate()
        header = {
            "names": names_of(self._groups),
            "outcomes": names_of(self._outcomes),
            "counts": self._counts,
            "epsilon": self._epsilon if self._epsilon < math.inf else None,
            "serials": {agent: sorted(serials) for agent, serials in self._serials.items()},
        }
        arrays = group_arrays(self._groups, self.dim) | outcome_arrays(self._outcomes)
        arrays |= self.adapter.arrays() if self.adapter else {}
        return pack(arrays | {"header": json_array(header)}, _KIND)

    def load(self, data: bytes, error: type[RuvllmError] = StoreError) -> None:
        """Go on from what `to_bytes` gave. Raises `error`: it is damaged, or of another width."""
        specs = GROUP_SPECS | OUTCOME_SPECS | LORA_SPECS
        specs |= {"header": Spec(("bytes",), "uint8"), "totals": Spec(("groups", self.dim))}
        arrays = unpack(data, _KIND, specs, most_bytes=_LARGEST, error=error)
        header = array_json(arrays["header"], "header", error)
        adapter = adapter_from(arrays, error)
        try:
            if adapter is not None and adapter.dim != self.dim:
                raise ValueError(f"its adapter has {adapter.dim} dimensions")
            groups = groups_from(arrays, header["names"], 0, _LARGEST)
            outcomes = outcomes_from(arrays, header.get("outcomes"), 0, _LARGEST)
            if any(len(group.total) != self._width for group in outcomes):
                raise ValueError("its outcomes have another width")
            counts = {name: whole(header["counts"][name]) for name in COUNTS}
            serials = {agent: {whole(serial) for serial in found} for agent, found in header["serials"].items()}
            epsilon = math.inf if header["epsilon"] is None else float(header["epsilon"])
        except (KeyError, TypeError, AttributeError, ValueError) as bad:
            fix = "drop it; agents send new updates"
            raise error(f"no usable state of a coordinator: {bad}"[:240], field="federated", fix=fix) from None
        self.adapter = adapter
        self._groups, self._counts, self._serials, self._epsilon = list(groups), counts, serials, epsilon
        self._outcomes = list(outcomes)
        self._pending, self._model = [], None


def _fair_limit(ascending: Sequence[float], capacity: float) -> float:
    """The largest share with which min(share, number) of all numbers add up to no more than capacity."""
    left = capacity
    for done, number in enumerate(ascending):
        limit = left / (len(ascending) - done)
        if number > limit:
            return limit
        left -= number
    return math.inf


def _doubted(sent: Sequence[tuple[str, Sequence[Group]]]) -> set[tuple[str, str]]:
    """(agent, route) of contributions that lie far from what most of three or more agents say of the route."""
    sums: dict[str, dict[str, tuple[Vectors, float]]] = {}
    for agent, groups in sent:
        for group in groups:
            by_agent = sums.setdefault(group.route, {})
            total, count = by_agent.get(agent, (np.zeros_like(group.total), 0.0))
            by_agent[agent] = (total + group.total, count + group.count)
    found = set()
    for route, by_agent in sums.items():
        means = np.stack([total / np.float32(count) for total, count in by_agent.values()])
        found |= {(agent, route) for agent, far in zip(by_agent, outliers(means), strict=True) if far}
    return found
