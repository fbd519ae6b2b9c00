"""The router's trained weights: one npz file, checked on the way in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import REBUILD, ArtifactError
from ruvllm.routing.confidence import CONFIDENCE_FEATURES, SCOPE_FEATURES
from ruvllm.routing.fusion import FEATURES, Adapter, Stage

__all__ = ["RouterWeights"]

_ARRAYS = {
    "query_down": 2,
    "query_up": 2,
    "card_down": 2,
    "card_up": 2,
    "static": 1,
    "minilm": 1,
    "confidence_static": 1,
    "confidence_minilm": 1,
    "scope_static": 1,
    "scope_minilm": 1,
    "familiarity": 1,
    "recollection": 1,
}


@dataclass(frozen=True, slots=True)
class RouterWeights:
    """Adapters, fusion, confidence and scope weights (models/recipes/router.py trains them).

    Attributes:
        stages: by encoder name.
        confidence: by stage name ("static", "minilm"), float32 (CONFIDENCE_FEATURES + 1,).
        scopes: P(out of scope) by encoder name, for agents without examples, (SCOPE_FEATURES + 1,).
        familiarity: P(out of scope) from `Calibration.familiarity`, for agents with examples, (2,).
        recollection: P(same agent) from the cosine to a confirmed task, static encoder, (2,).
    """

    adapter: Adapter
    stages: Mapping[str, Stage]
    confidence: Mapping[str, NDArray[np.float32]]
    scopes: Mapping[str, NDArray[np.float32]]
    familiarity: NDArray[np.float32]
    recollection: NDArray[np.float32]

    def with_encoder(self, name: str, dim: int) -> RouterWeights:
        """For another encoder in MiniLM's place: its weights are over standardised scores, whatever gave them.

        The adapters are of the shared space, and change nothing in another one.
        """
        none = np.zeros((dim, 1), np.float32), np.zeros((1, dim), np.float32)
        return replace(
            self,
            adapter=Adapter(*none, *none),
            stages={**self.stages, name: self.stages["minilm"]},
            confidence={**self.confidence, name: self.confidence["minilm"]},
            scopes={**self.scopes, name: self.scopes["minilm"]},
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], name: str = "router.npz") -> RouterWeights:
        """Raises ArtifactError when an array is missing, not float32, or of another shape."""
        for key, ndim in _ARRAYS.items():
            value = arrays.get(key)
            if value is None or value.dtype != np.float32 or value.ndim != ndim or not np.isfinite(value).all():
                raise ArtifactError(f"{name}: array {key!r} is missing or malformed", field=key, fix=REBUILD)
        adapter = Adapter(
            *(np.ascontiguousarray(arrays[k]) for k in ("query_down", "query_up", "card_down", "card_up"))
        )
        sizes = {
            "static": len(FEATURES),
            "minilm": len(FEATURES),
            "familiarity": 2,
            "recollection": 2,
            **{f"confidence_{stage}": len(CONFIDENCE_FEATURES) + 1 for stage in ("static", "minilm")},
            **{f"scope_{stage}": len(SCOPE_FEATURES) + 1 for stage in ("static", "minilm")},
        }
        for key, size in sizes.items():
            if len(arrays[key]) != size:
                raise ArtifactError(
                    f"{name}: {key!r} has {len(arrays[key])} weights, not {size}", field=key, fix=REBUILD
                )
        return cls(
            adapter=adapter,
            stages={key: Stage(arrays[key]) for key in ("static", "minilm")},
            confidence={key: arrays[f"confidence_{key}"] for key in ("static", "minilm")},
            scopes={key: arrays[f"scope_{key}"] for key in ("static", "minilm")},
            familiarity=arrays["familiarity"],
            recollection=arrays["recollection"],
        )
