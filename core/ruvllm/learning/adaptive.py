"""Embeddings that learn, domain by domain, which texts belong together: an encoder under low-rank adapters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.cache import LruCache
from ruvllm.encoders.protocol import Encoder, Vectors, unit_rows
from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.hints import by_object
from ruvllm.learning.ewc import EWC_SPECS, EwcPlusPlus
from ruvllm.learning.lora import BATCH, LowRank, apply_all, pairwise_loss
from ruvllm.reprs import Shown, shortened
from ruvllm.state.names import ADAPTERS, BlobStore
from ruvllm.state.packing import Arrays, Spec, array_json, json_array, pack, unpack

_PARTS = ("down", "up", "alpha")
_BASE_RATE = 0.01  # of the base's step for each feedback of a batch
_TWO_SPEED = {
    **{f"{part}_down": Spec(("dim", part)) for part in ("micro", "base")},
    **{f"{part}_up": Spec((part, "dim")) for part in ("micro", "base")},
    **dict.fromkeys(("micro_alpha", "base_alpha"), Spec((), "float64")),
    **dict.fromkeys(("xs", "slopes"), Spec(("waiting", "dim"))),
    "updates": Spec((3,), "int64"),
    **{f"ewc_{name}": spec for name, spec in EWC_SPECS.items()},
}


class TwoSpeed:
    """MicroLoRA over a base LoRA that EWC++ holds.

    The base's first batch chooses the subspace that it learns in; from then on it takes a step for each feedback, held
    by what earlier tasks need of its weights. The micro adapter starts anew with each batch that the base has learnt:
    both together would count it twice.
    """

    def __init__(self, dim: int, micro_rank: int = 2, base_rank: int = 16, batch: int = BATCH, seed: int = 0) -> None:
        """Raises InputError: a rank that does not fit, or a batch below 1."""
        if batch < 1:
            raise InputError(f"a batch of {batch}", field="batch", fix="use 1 or more")
        self._batch, self._seed = batch, seed
        self.micro, self.base = LowRank(dim, micro_rank, seed=seed), LowRank(dim, min(base_rank, dim), seed=seed + 1)
        self.ewc = EwcPlusPlus(self.base.theta.size)
        self._xs: list[Vectors] = []
        self._slopes: list[Vectors] = []

    @property
    def updates(self) -> int:
        """Feedbacks taught so far, waiting ones included."""
        return self.base.updates + len(self._xs)

    @property
    def waiting(self) -> int:
        """Feedbacks that only the micro adapter has learnt from."""
        return len(self._xs)

    def apply(self, x: Vectors) -> Vectors:
        """x (dim,) or (n, dim) adapted by both, rows of unit norm."""
        return apply_all(x, (self.micro, self.base))

    def learn(self, x: Vectors, loss: Callable[[Vectors], tuple[float, NDArray[Any]]]) -> float:
        """Teach one x (dim,) with a loss of what becomes of it; returns the loss before.

        Args:
            loss: the adapted x -> (value, gradient), see `losses`.
        """
        value, slope = loss(self.apply(x))
        slope = slope.astype(np.float32, copy=False)
        self.micro.teach(x, slope)
        self._xs.append(np.array(x, np.float32))
        self._slopes.append(slope)
        if len(self._xs) >= self._batch:
            self.flush()
        return value

    def flush(self) -> None:
        """Let the base learn what waits; a few milliseconds for a hundred."""
        if not self._xs:
            return
        if self.base.strength == 0:
            self.base.absorb(np.stack(self._xs), np.stack(self._slopes))
        else:
            for x, slope in zip(self._xs, self._slopes, strict=True):
                gradient = self.base.gradient(x, slope)
                self.ewc.observe(gradient, self.base.theta)
                self.base.step(gradient, _BASE_RATE)
                self.ewc.pull(self.base.theta, _BASE_RATE)
        self._restart()

    def _restart(self) -> None:
        self._xs, self._slopes = [], []
        self.micro = LowRank(self.micro.dim, self.micro.rank, seed=self._seed + 2 + self.base.updates)

    def arrays(self) -> Arrays:
        """Both adapters and the batch that waits, by name: copies."""
        state = {f"{part}_{name}": value for part in ("micro", "base") for name, value in self._part(part).items()}
        for name, rows in (("xs", self._xs), ("slopes", self._slopes)):
            state[name] = np.array(rows, np.float32).reshape(-1, self.base.dim)
        state |= {f"ewc_{name}": value for name, value in self.ewc.arrays().items()}
        return state | {"updates": np.array([self.base.updates, self._batch, self._seed], np.int64)}

    def _part(self, part: str) -> Arrays:
        return (self.micro if part == "micro" else self.base).arrays()

    @classmethod
    def from_arrays(cls, arrays: Arrays, error: type[RuvllmError] = StoreError) -> TwoSpeed:
        """What `arrays` gave, and what it then learns is the same too. Raises `error`: they do not fit together."""
        micro, base = (
            LowRank.from_arrays({name: arrays[f"{part}_{name}"] for name in _PARTS}, error)
            for part in ("micro", "base")
        )
        xs, slopes = arrays["xs"], arrays["slopes"]
        updates, batch, seed = (int(n) for n in arrays["updates"])
        if micro.dim != base.dim or xs.shape != slopes.shape or xs.shape[1:] != (base.dim,) or len(xs) >= batch:
            raise error("the two adapters do not fit together", field="lora", fix="drop them; they are learnt again")
        if updates < 0 or seed < 0:
            raise error("a count is negative", field="lora", fix="drop them; they are learnt again")
        made = cls(base.dim, micro.rank, base.rank, batch, seed)
        made.micro, made.base = micro, base
        made.base.updates, made.micro.updates = updates, len(xs)
        made.ewc.restore({name: arrays[f"ewc_{name}"] for name in EWC_SPECS}, error)
        made._xs, made._slopes = list(xs), list(slopes)
        return made


_RANK = 4
_OUTCOMES = 64  # vectors of the latest successes that a domain keeps, and as many of failures
_NEAREST = 16  # of each that an embedding is compared with: a domain's successes need not all be alike
_BATCH = 16  # outcomes between two absorptions: a domain may never see a hundred
_RECENT = 512  # embeddings whose origin is remembered until their outcome is known
_MOST_DOMAINS, _LONGEST_NAME = 64, 64
_TRIED, _MEMORY = 16, 64  # preferences before an adapter is used, and those that its gain is a mean over
_FAR = 0.3  # cosine that what answered may lie behind the nearest of the others
_SPECS = _TWO_SPEED | {
    "good": Spec(("successes", "dim")),
    "bad": Spec(("failures", "dim")),
    "tried": Spec((2,), "float64"),
}


@dataclass(frozen=True, slots=True, repr=False)
class DomainStats(Shown):
    """What a domain has learnt.

    Attributes:
        updates: outcomes and preferences that taught it.
        successes, failures: how many of the latest ones are kept.
        gain: by how much the adapter improves the reciprocal rank of what answers, over its latest preferences, each
            looked at before it was learnt.
        strength: norm of what its two adapters add, 0 while they change nothing.
    """

    domain: str
    updates: int
    successes: int
    failures: int
    gain: float
    strength: float


@dataclass(slots=True)
class _Domain:
    adapters: TwoSpeed
    good: deque[Vectors] = field(default_factory=lambda: deque(maxlen=_OUTCOMES))
    bad: deque[Vectors] = field(default_factory=lambda: deque(maxlen=_OUTCOMES))
    gain: float = 0.0
    tried: int = 0
    changed: bool = False

    def to_bytes(self) -> bytes:
        dim = self.adapters.base.dim
        rows = {name: np.array(some, np.float32).reshape(-1, dim) for name, some in self._outcomes()}
        return pack(self.adapters.arrays() | rows | {"tried": np.array([self.gain, self.tried])}, "domain")

    def _outcomes(self) -> Iterable[tuple[str, deque[Vectors]]]:
        return ("good", self.good), ("bad", self.bad)


class AdaptiveEmbeddingService:
    """One encoder, and for each domain adapters over it.

    `learn` draws an embedding towards the nearest ones of the same outcome and away from the nearest
    of the other (large margin nearest neighbours, Weinberger & Saul 2009), so a domain that has only
    seen successes, or only failures, has nothing yet to tell apart. Domains do not touch each other.

    Attributes:
        shared: of all domains, learnt by others from searches of theirs; added to what a domain does to a query.
    """

    def __init__(self, encoder: Encoder, store: BlobStore | None = None, rank: int = _RANK) -> None:
        """Take up what `store` keeps of earlier learning.

        Args:
            rank: of each domain's instant adapter; the one that learns from batches has four times as much.

        Raises:
            StoreError: what is kept is damaged, or was learnt with another width.
        """
        self._encoder, self._store, self._rank = encoder, store, rank
        self._domains: dict[str, _Domain] = {}
        self.shared: LowRank | None = None
        self._recent = LruCache[bytes, tuple[str, Vectors]](_RECENT)
        self._made(dim=encoder.dim)  # a rank that does not fit is told at once
        if store is not None and (index := store.load(ADAPTERS)) is not None:
            names = array_json(unpack(index, ADAPTERS, {"names": Spec(("bytes",), "uint8")})["names"], ADAPTERS)
            for name in names[:_MOST_DOMAINS] if isinstance(names, list) else ():
                if isinstance(name, str) and (data := store.load(f"{ADAPTERS}/{name}")) is not None:
                    self._domains[name] = self._load(data)

    def _made(self, dim: int) -> _Domain:
        return _Domain(TwoSpeed(dim, self._rank, 4 * self._rank, _BATCH))

    def _load(self, data: bytes) -> _Domain:
        specs = _SPECS | {"good": Spec(("successes", self._encoder.dim))}  # which binds every other "dim" to it
        arrays = unpack(data, "domain", specs)
        domain = _Domain(TwoSpeed.from_arrays(arrays))
        domain.good.extend(arrays["good"])
        domain.bad.extend(arrays["bad"])
        domain.gain, domain.tried = float(arrays["tried"][0]), int(arrays["tried"][1])
        return domain

    @by_object()
    async def generate(self, text: str, domain: str = "general") -> Vectors:
        """The text's embedding in a domain: float32 (dim,), unit norm. Raises InputError: an unusable domain."""
        return np.asarray((await self.generate_many([text], domain))[0])

    async def generate_many(self, texts: Sequence[str], domain: str = "general") -> Vectors:
        """Embeddings in a domain: float32 (n, dim), unit rows. Raises InputError: an unusable domain."""
        _check_name(domain)
        plain = await self._encoder.encode(texts)
        state = self._domains.get(domain)
        out = state.adapters.apply(plain) if state else plain
        for before, after in zip(plain, out, strict=True):
            self._recent.put(_key(after), (domain, before.copy()))
        return out

    def learn(self, embedding: Vectors, quality: float, success: bool, domain: str | None = None) -> bool:
        """What came of an embedding; true when the domain's adapters moved.

        Args:
            embedding: (dim,), as `generate` gave it. One that it did not give lately is taken as the
                encoder's own, unadapted.
            quality: 0 to 1. A success teaches by as much, a failure by what is missing to 1.
            domain: the one it was made for, when it is not known from `generate`.

        Raises:
            InputError: a value out of range, or one domain too many.
        """
        if not 0 <= quality <= 1:
            raise InputError(f"quality is {quality}", field="quality", fix="use a number from 0 to 1")
        name, x = self._origin(embedding, domain)
        state = self._domain(name)
        same, other = (state.good, state.bad) if success else (state.bad, state.good)
        weight = quality if success else 1 - quality
        moved = bool(same and other and weight > 0)
        if moved:
            self._teach(state, x, np.stack(same), np.stack(other), weight)
        same.append(x)
        state.changed = True
        return moved

    def adapt(self, vector: Vectors, domain: str) -> Vectors:
        """A query's vector (dim,) as a search in this domain shall use it; its own adapter counts while it helps."""
        state = self._domains.get(domain)
        helps = state is not None and state.tried >= _TRIED and state.gain > 0
        out = state.adapters.apply(vector) if state is not None and helps else vector
        return out if self.shared is None else unit_rows((out + self.shared.residual(vector))[None])[0]

    def prefer(self, embedding: Vectors, relevant: Vectors, irrelevant: Vectors, domain: str | None = None) -> None:
        """These texts answered a query and those did not: draw the query nearer to the first.

        One that is much farther than all others is not believed: it is more often said in error.

        Args:
            embedding: (dim,), the query as in `learn`.
            relevant, irrelevant: (n, dim) and (m, dim), as they are kept for retrieval in this domain.

        Raises:
            InputError: an unusable vector or domain.
        """
        near, far = (_checked(np.atleast_2d(rows), self._encoder.dim) for rows in (relevant, irrelevant))
        if not len(near) or not len(far):
            raise InputError("nothing to prefer", field="relevant", fix="give one vector of each at least")
        name, x = self._origin(embedding, domain)
        if float((far @ x).max() - (near @ x).max()) > _FAR:
            return
        state = self._domain(name)
        rank = _reciprocal(state.adapters.apply(x), near, far)
        gain = rank - _reciprocal(x, near, far)
        state.changed, state.tried = True, state.tried + 1
        state.gain += (gain - state.gain) / min(state.tried, _MEMORY)
        if rank < 1:  # what comes first already would only be learnt by heart
            state.adapters.learn(x, lambda y: pairwise_loss(y, near, far))

    def _teach(self, state: _Domain, x: Vectors, same: Vectors, other: Vectors, weight: float) -> None:
        same, other = state.adapters.apply(same), state.adapters.apply(other)

        def loss(y: Vectors) -> tuple[float, Vectors]:
            near, far = (rows[np.argsort(-(rows @ y), kind="stable")[:_NEAREST]] for rows in (same, other))
            return pairwise_loss(y, near, far, weight=weight)

        state.adapters.learn(x, loss)

    def _origin(self, embedding: Vectors, domain: str | None) -> tuple[str, Vectors]:
        """Domain and unadapted vector (dim,) of an embedding."""
        vector = _checked(embedding[None], self._encoder.dim)[0]
        name, plain = self._recent.get(_key(embedding)) or (domain or "general", vector)
        if domain is not None and domain != name:
            name, plain = domain, vector
        _check_name(name)
        return name, plain

    def _domain(self, name: str) -> _Domain:
        if name not in self._domains:
            if len(self._domains) >= _MOST_DOMAINS:
                fix = f"use one of {', '.join(sorted(self._domains)[:5])}, …"
                raise InputError(f"more than {_MOST_DOMAINS} domains", field="domain", fix=fix)
            self._domains[name] = self._made(self._encoder.dim)
        return self._domains[name]

    def stats(self) -> list[DomainStats]:
        """Of each domain that was taught something, by name."""
        return [
            DomainStats(
                name,
                state.adapters.updates,
                len(state.good),
                len(state.bad),
                state.gain,
                float(np.hypot(state.adapters.micro.strength, state.adapters.base.strength)),
            )
            for name, state in sorted(self._domains.items())
        ]

    def save(self) -> None:
        """Keep what has changed in the store; nothing without one. Raises StoreError: it cannot be written."""
        changed = [(name, state) for name, state in self._domains.items() if state.changed]
        if self._store is None or not changed:
            return
        for name, state in changed:
            state.changed = not self._store.save(f"{ADAPTERS}/{name}", state.to_bytes)
        self._store.put(ADAPTERS, pack({"names": json_array(sorted(self._domains))}, ADAPTERS))


def _reciprocal(y: Vectors, near: Vectors, far: Vectors) -> float:
    """1 / the rank of the best of `near` among both, for a query (dim,)."""
    return 1 / (1 + int((far @ y > (near @ y).max()).sum()))


def _checked(rows: Vectors, dim: int) -> Vectors:
    """Unit rows. Raises InputError: of another width, not finite, or all zero."""
    if rows.ndim != 2 or rows.shape[1] != dim or not np.isfinite(rows).all() or not rows.any(1).all():
        message = f"vectors of shape {rows.shape}"
        raise InputError(message, field="embedding", fix=f"use finite vectors of width {dim}, none of them zero")
    return unit_rows(np.asarray(rows, np.float32))


def _check_name(domain: str) -> None:
    if not isinstance(domain, str) or not 0 < len(domain) <= _LONGEST_NAME:
        fix = f"use 1 to {_LONGEST_NAME} characters"
        raise InputError(f"domain is {shortened(domain)}", field="domain", fix=fix)


def _key(embedding: Vectors) -> bytes:
    return blake2b(np.ascontiguousarray(embedding, np.float32).tobytes(), digest_size=16).digest()
