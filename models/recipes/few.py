"""Do two feedbacks an agent help on a collection that no weight has seen?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from recipes.common import RUNS, load, static
from recipes.material import CONTEXTUAL, GROUPS, REST, Collection, Material
from recipes.router import adapter_without, unseen
from ruvllm.encoders.cache import CachedEncoder
from ruvllm.encoders.families import RUVLTRA
from ruvllm.encoders.protocol import Vectors, run_now
from ruvllm.routing.fusion import RouterWeights
from ruvllm.routing.router import Router
from ruvllm.types import Feedback

_EACH = 2


class _Unseen:
    """An encoder that learnt nothing of the collections it is asked about, in RuvLTRA's place."""

    name = RUVLTRA.name

    def __init__(self, material: Material) -> None:
        self._encode, self.dim = material.encoders[CONTEXTUAL], material.catalog.cards.shape[1]

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 (len(texts), dim), unit rows."""
        return self._encode(list(texts))


def few_feedbacks(data: Path) -> dict[str, float]:
    """Top-1 before and after, of each encoder, each collection with an encoder and adapters that never saw it."""
    weights, table = RouterWeights.from_arrays(load("router.npz")), static()
    right: dict[str, list[bool]] = {}
    for group, folds in GROUPS.items():
        material = unseen(data, RUNS / group / "model")
        encoder = CachedEncoder(_Unseen(material))
        for collection in [c for c in material.collections if c.fold in folds and c.fold != REST]:
            own = replace(weights, adapter=adapter_without(material, {collection.fold}))
            for mode in (table.name, encoder.name):
                router = Router(collection.agents, table, encoder, own, mode=mode)
                before, after = _before_and_after(router, collection)
                right.setdefault(f"{mode}_zero_shot", []).extend(before)
                right.setdefault(f"{mode}_two_feedbacks", []).extend(after)
    found = {name: round(float(np.mean(rows)), 4) for name, rows in right.items()}
    return found | {"texts": len(right["static_zero_shot"])}


def _before_and_after(router: Router, collection: Collection) -> tuple[list[bool], list[bool]]:
    names = [agent.name for agent in router.agents]
    taught, asked, seen = list[Feedback](), list[tuple[str, str]](), dict[str, int]()
    for text, label in zip(collection.texts, collection.labels.tolist(), strict=True):
        name = collection.agents[label].name
        seen[name] = seen.get(name, 0) + 1
        if name in names and seen[name] <= _EACH:
            taught.append(Feedback(text, name))
        elif name in names:
            asked.append((text, name))
    before = [run_now(router.route(text)).agent == name for text, name in asked]
    for feedback in taught:
        run_now(router.learn(feedback))
    run_now(router.review())
    return before, [run_now(router.route(text)).agent == name for text, name in asked]
