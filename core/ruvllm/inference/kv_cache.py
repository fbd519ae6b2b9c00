"""The attention's keys and values of tokens that a decoder has read, kept from turn to turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["CacheShape", "KeptCaches", "Reading"]


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a decoder's cache consists of.

    Attributes:
        attention: for each layer whether it attends; the others keep the state of a short convolution.
    """

    attention: tuple[bool, ...]
    kv_heads: int
    head_dim: int
    hidden: int = 0
    conv: int = 0

    def empty(self) -> dict[str, Any]:
        """The cache before the first token, by the names of the decoder's inputs."""
        tensors: dict[str, Any] = {}
        for i, attends in enumerate(self.attention):
            if attends:
                for place in ("key", "value"):
                    tensors[f"past_key_values.{i}.{place}"] = np.zeros((1, self.kv_heads, 0, self.head_dim), np.float32)
            else:
                tensors[f"past_conv.{i}"] = np.zeros((1, self.hidden, self.conv - 1), np.float32)
        return tensors

    @property
    def can_be_cut(self) -> bool:
        """Whether the cache of a text holds that of its beginnings: a convolution's state does not."""
        return all(self.attention)

    @staticmethod
    def following(tensors: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        """The next step's cache out of a step's outputs."""
        return {name: outputs[_present(name)] for name in tensors}

    @staticmethod
    def cut(tensors: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """The cache of the first tokens alone."""
        return {name: tensor[:, :, :tokens] for name, tensor in tensors.items()}


@dataclass(slots=True)
class Reading:
    """What a decoder has read.

    Attributes:
        ids: the tokens.
        tensors: their cache: arrays, or what a host keeps on its device and can be cut by `[:, :, :n]`.
    """

    tensors: dict[str, Any]
    ids: list[int] = field(default_factory=list)


class KeptCaches:
    """The last readings, so that a conversation's next turn reads its new tokens only.

    Args:
        most: readings; each holds memory for all of its tokens.
    """

    def __init__(self, shape: CacheShape, most: int = 2) -> None:
        self._shape, self._most = shape, most
        self._kept: list[Reading] = []

    def take(self, prompt: Sequence[int]) -> Reading:
        """The reading that shares most with the prompt, cut to what they share; it is the caller's now.

        At least one token of the prompt is left to read, since logits come from reading.
        """
        best, shared = None, 0
        for reading in self._kept:
            common = min(_common(reading.ids, prompt), len(prompt) - 1)
            if common < len(reading.ids) and not self._shape.can_be_cut:
                continue
            if common > shared:
                best, shared = reading, common
        if best is None:
            return Reading(self._shape.empty())
        if shared == len(best.ids):
            self._kept.remove(best)
            return best
        # The rest may belong to another conversation that goes on: it keeps its own.
        return Reading(self._shape.cut(best.tensors, shared), best.ids[:shared])

    def keep(self, reading: Reading) -> None:
        """Give a reading back."""
        if reading.ids and self._most:
            self._kept = [*self._kept[1 - self._most or len(self._kept) :], reading]

    def clear(self) -> None:
        """Let the memory go."""
        self._kept.clear()


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    for i, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return i
    return min(len(left), len(right))


def _present(name: str) -> str:
    return name.replace("past_key_values.", "present.").replace("past_conv.", "present_conv.")
