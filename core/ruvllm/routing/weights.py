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

_ADAPTER = ("query_down", "query_up", "card_down", "card_up")
_CONFIDENCE, _SCOPE = "confidence_", "scope_"  # and the name of an encoder, whose own name is that of its fusion


@dataclass(frozen=True, slots=True)
class RouterWeights:
    """Adapters, fusion, confidence and scope weights (models/recipes/router.py trains them).

    Attributes:
        stages: by encoder name.
        confidence: by encoder name, float32 (CONFIDENCE_FEATURES + 1,).
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

    def with_encoder(self, name: str, dim: int, like: str) -> RouterWeights:
        """For another encoder, with the weights of one: they are over standardised scores, whatever gave them.

        The adapters are of the shared space, and change nothing in another one.

        Args:
            like: the name of the one whose weights it takes.
        """
        none = np.zeros((dim, 1), np.float32), np.zeros((1, dim), np.float32)
        return replace(
            self,
            adapter=Adapter(*none, *none),
            stages={name: self.stages[like]},
            confidence={name: self.confidence[like]},
            scopes={name: self.scopes[like]},
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], name: str = "router.npz") -> RouterWeights:
        """Raises ArtifactError when an array is missing, not float32, or of another shape."""
        encoders = [key.removeprefix(_CONFIDENCE) for key in arrays if key.startswith(_CONFIDENCE)]
        sizes = {"familiarity": 2, "recollection": 2}
        for encoder in encoders:
            sizes |= {encoder: len(FEATURES), _CONFIDENCE + encoder: len(CONFIDENCE_FEATURES) + 1}
            sizes |= {_SCOPE + encoder: len(SCOPE_FEATURES) + 1}
        for key in (*_ADAPTER, *sizes):
            value, ndim = arrays.get(key), 2 if key in _ADAPTER else 1
            if value is None or value.dtype != np.float32 or value.ndim != ndim or not np.isfinite(value).all():
                raise ArtifactError(f"{name}: array {key!r} is missing or malformed", field=key, fix=REBUILD)
        for key, size in sizes.items():
            if len(arrays[key]) != size:
                raise ArtifactError(
                    f"{name}: {key!r} has {len(arrays[key])} weights, not {size}", field=key, fix=REBUILD
                )
        return cls(
            adapter=Adapter(*(np.ascontiguousarray(arrays[key]) for key in _ADAPTER)),
            stages={key: Stage(arrays[key]) for key in encoders},
            confidence={key: arrays[_CONFIDENCE + key] for key in encoders},
            scopes={key: arrays[_SCOPE + key] for key in encoders},
            familiarity=arrays["familiarity"],
            recollection=arrays["recollection"],
        )
