"""How far confidences can be trusted: what was decided before feedback told what is right."""

from __future__ import annotations

import json
from struct import Struct
from typing import Any

from ruvllm.state.names import RELIABILITY
from ruvllm.state.store import Store
from ruvllm.types import Decision

_MOST = 1_000  # decisions kept, the latest
_ROW, _PACKED = Struct("<f?"), b"\x01"  # each of them, and what is before the first; older files have JSON
_SEEN = "SELECT 1 FROM feedback WHERE id > (SELECT max(id) FROM feedback) - 10000 AND text = ? LIMIT 1"
_BINS = 10  # of equal width, as the expected calibration error has them (Naeini et al. 2015)


def note(store: Store, text: str, decision: Decision, agent: str) -> None:
    """Keep whether a decision was right, unless its text was told of before: then it knew the answer.

    To be called before the feedback itself is kept.

    Raises:
        StoreError: it cannot be kept.
    """
    if store.read(_SEEN, (text,)):
        return
    rows = _packed(store) + _ROW.pack(decision.confidence, decision.agent == agent)
    store.put(RELIABILITY, _PACKED + rows[-_MOST * _ROW.size :])


def reliability(store: Store) -> dict[str, Any]:
    """Bins with their count, mean confidence and share that was right; and the expected calibration error."""
    decisions = _decisions(store)
    inside: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for confidence, right in decisions:
        inside[min(int(confidence * _BINS), _BINS - 1)].append((confidence, right))
    bins = [
        {"from": place / _BINS, "to": (place + 1) / _BINS, "count": len(rows)}
        | {"confidence": sum(row[0] for row in rows) / len(rows), "right": sum(row[1] for row in rows) / len(rows)}
        for place, rows in enumerate(inside)
        if rows
    ]
    error = (
        sum(row["count"] * abs(row["confidence"] - row["right"]) for row in bins) / len(decisions)
        if decisions
        else None
    )
    return {"decisions": len(decisions), "right": sum(right for _, right in decisions), "ece": error, "bins": bins}


def _decisions(store: Store) -> list[tuple[float, bool]]:
    return list(_ROW.iter_unpack(_packed(store)))


def _packed(store: Store) -> bytes:
    data = store.load(RELIABILITY) or _PACKED
    if not data.startswith(_PACKED):
        return b"".join(_ROW.pack(*row) for row in json.loads(data))
    return data[1 : len(data) - (len(data) - 1) % _ROW.size]
