"""Do two feedbacks an agent help on a collection that no weight has seen?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track

from recipes.common import load, minilm
from recipes.material import REST, Collection, Material
from recipes.router import adapter_without
from ruvllm.encoders.cache import CachedEncoder
from ruvllm.encoders.protocol import run_now
from ruvllm.routing.router import Router
from ruvllm.routing.weights import RouterWeights
from ruvllm.types import Feedback

__all__ = ["few_feedbacks"]

_EACH = 2


def few_feedbacks(data: Path) -> dict[str, float]:
    """Top-1 before and after, of each encoder, each collection routed with adapters that never saw it."""
    material, encoder = Material(data), CachedEncoder(minilm())
    weights = RouterWeights.from_arrays(load("router.npz"))
    right: dict[str, list[bool]] = {}
    for collection in track([c for c in material.collections if c.fold != REST], description="two feedbacks an agent"):
        own = replace(weights, adapter=adapter_without(material, {collection.fold}))
        for mode in ("static", "minilm"):
            router = Router(collection.agents, material.static, encoder, own, mode=mode)
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
