"""One federated round over clients with disjoint routes, against training on all their texts in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors, no_pause, run_now
from ruvllm.learning.federated import FederatedCoordinator, Privacy
from ruvllm.learning.federated.ephemeral import EphemeralAgent
from ruvllm.learning.federated.wire import Update
from ruvllm.routing.head import Design, Examples
from ruvllm.text.lexical import stems

_SAME = 1e-4  # cosine distance below which two vectors are one
_SHORT = 8  # letters


@dataclass(frozen=True, slots=True)
class FederatedResult:
    """What one round gave.

    Attributes:
        central, shared, alone: accuracy of training on all texts, of the shared model, and the mean of the
            clients' own models; None where central training was not asked for.
        alone_own: the mean accuracy of clients' own models on the routes they know.
        sent_bytes: of all updates together.
        texts_found: prompts that stand in what their client sent, as UTF-8 or UTF-16, in any case.
        vectors_found: prompts whose vector is the direction of a sum that their client sent.
        epsilon: the promise kept; None without noise.
        fit_s, central_s: seconds of the shared and of the central fit.
    """

    clients: int
    routes: int
    central: float | None
    shared: float
    alone: float
    alone_own: float
    sent_bytes: int
    texts_found: int
    vectors_found: int
    epsilon: float | None
    fit_s: float
    central_s: float


@dataclass(frozen=True, slots=True)
class _Set:
    """Texts, their vectors float32 (n, dim), stems, routes int64 (n,)."""

    texts: list[str]
    vectors: Vectors
    words: list[list[str]]
    routes: NDArray[np.int64]


def measure_federated(
    train: tuple[Sequence[str], Vectors, Sequence[str]],
    test: tuple[Sequence[str], Vectors, Sequence[str]],
    clients: int = 10,
    *,
    least: int = 5,
    privacy: Privacy | None = None,
    central: bool = True,
    alone: bool = True,
) -> FederatedResult:
    """Share the routes of `train` out among clients, none to two of them; one round; test on `test`.

    Args:
        train, test: (texts, vectors (n, dim), the route of each).
        least: texts in a group that travels.
        central, alone: whether to fit these too; the central fit takes the longest.
    """
    names = sorted(set(train[2]))
    place = {name: i for i, name in enumerate(names)}
    learn, check = (_prepared(rows, place) for rows in (train, test))
    parts = [np.flatnonzero(learn.routes % clients == number) for number in range(clients)]
    sent = [_exported(f"client-{n}", learn, names, rows, least, privacy).to_bytes() for n, rows in enumerate(parts)]
    start = perf_counter()
    shared = _accuracy(sent, learn.vectors.shape[1], names, check)
    middle = perf_counter()
    best = _central(learn, check, len(names)) if central else None
    end = perf_counter()
    own = [_accuracy([data], learn.vectors.shape[1], names, check) for data in sent] if alone else []
    found = [
        traces([learn.texts[i] for i in rows.tolist()], learn.vectors[rows], data)
        for rows, data in zip(parts, sent, strict=True)
    ]
    return FederatedResult(
        clients,
        len(names),
        None if best is None else float(best.mean()),
        float(shared.mean()),
        float(np.mean([hits.mean() for hits in own])) if own else 0.0,
        float(np.mean([_on_own(hits, check, n, clients) for n, hits in enumerate(own)])) if own else 0.0,
        sum(map(len, sent)),
        sum(texts for texts, _ in found),
        sum(vectors for _, vectors in found),
        privacy.epsilon if privacy else None,
        middle - start,
        end - middle,
    )


def traces(texts: Sequence[str], vectors: Vectors, sent: bytes) -> tuple[int, int]:
    """(texts that stand in the bytes, texts whose vector (dim,) is the direction of a sum in them).

    Names of routes are meant to travel, and a text that is part of one is not counted. Texts of fewer than
    eight letters stand in any megabyte of numbers by chance: they are looked for in the header's names only.
    """
    update, plain = Update.from_bytes(sent), sent.lower()
    public = "\n".join(update.routes).lower()
    names = {update.agent, *(tag for group in update.groups for tag in group.tags)}
    told = 0
    for text in texts:
        if len(text) < _SHORT:
            told += text in names
        elif text.lower() not in public:
            told += any(text.lower().encode(form) in plain for form in ("utf-8", "utf-16-le"))
    if not update.groups:
        return told, 0
    sums = np.stack([group.mean / max(float(np.linalg.norm(group.mean)), 1e-12) for group in update.groups])
    return told, int((vectors @ sums.T > 1 - _SAME).any(1).sum())


def _prepared(rows: tuple[Sequence[str], Vectors, Sequence[str]], place: dict[str, int]) -> _Set:
    texts, vectors, routes = rows
    numbers = np.array([place[route] for route in routes], np.int64)
    return _Set(list(texts), vectors, [stems(text) for text in texts], numbers)


def _exported(
    name: str, learn: _Set, names: list[str], rows: NDArray[np.intp], least: int, privacy: Privacy | None
) -> Update:
    routes = [names[i] for i in np.unique(learn.routes[rows]).tolist()]
    agent = EphemeralAgent(name, learn.vectors.shape[1], least=least, privacy=privacy, routes=routes)
    for i in rows.tolist():
        agent.process_trajectory(learn.vectors[i], model=names[learn.routes[i]], words=learn.words[i])
    return agent.export_state()


def _accuracy(sent: Sequence[bytes], dim: int, names: list[str], check: _Set) -> NDArray[np.bool_]:
    """(n,) where the model that these updates make is right."""
    coordinator = FederatedCoordinator(dim)
    for data in sent:
        coordinator.aggregate(data)
    coordinator.consolidate()
    model = coordinator.model()
    if not model.routes:
        return np.zeros(len(check.texts), bool)
    pairs = zip(check.vectors, check.words, check.routes.tolist(), strict=True)
    return np.array([model.routes[int(model.logits(x, words).argmax())] == names[route] for x, words, route in pairs])


def _central(learn: _Set, check: _Set, routes: int) -> NDArray[np.bool_]:
    """(n,) where the routing head fitted on all texts is right."""
    order = np.argsort(learn.routes, kind="stable")
    zero = np.zeros((len(order), routes), np.float32)
    words = [learn.words[i] for i in order.tolist()]
    weights = np.ones(len(order), np.float32)
    examples = Examples(learn.vectors[order], words, learn.routes[order], zero, weights)
    head = run_now(run_now(Design.read(examples, no_pause)).fit(no_pause, tolerance=1e-3))
    pairs = zip(check.vectors, check.words, check.routes.tolist(), strict=True)
    return np.array([int(head.logits(x, words).argmax()) == route for x, words, route in pairs])


def _on_own(hits: NDArray[np.bool_], check: _Set, number: int, clients: int) -> float:
    own = check.routes % clients == number
    return float(hits[own].mean()) if own.any() else 0.0
