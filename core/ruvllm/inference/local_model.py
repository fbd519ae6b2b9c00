"""What belongs to a converted model beside its weights: its manifest, tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ruvllm.errors import CONVERT, ArtifactError
from ruvllm.inference.backend import Message
from ruvllm.text.bpe import ByteBPE
from ruvllm.text.chat_template import ChatTemplate
from ruvllm.text.tokenizer_file import read_tokenizer


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
        tensors: their cache: arrays, or what a host keeps on its device and can be cut by `[:, :, :n]`.
    """

    tensors: dict[str, Any]
    ids: list[int] = field(default_factory=list)


class ReadingCache:
    """The last readings, so that a conversation's next turn reads its new tokens only.

    Args:
        most: readings; each holds memory for all of its tokens.
    """

    def __init__(self, shape: CacheShape, most: int = 2) -> None:
        self._shape, self._most = shape, most
        self._readings: list[Reading] = []

    def take(self, prompt: Sequence[int]) -> Reading:
        """The reading that shares most with the prompt, cut to what they share; it is the caller's now.

        At least one token of the prompt is left to read, since logits come from reading.
        """
        best, shared = None, 0
        for reading in self._readings:
            common = min(_common(reading.ids, prompt), len(prompt) - 1)
            if common < len(reading.ids) and not self._shape.can_be_cut:
                continue
            if common > shared:
                best, shared = reading, common
        if best is None:
            return Reading(self._shape.empty())
        if shared == len(best.ids):
            self._readings.remove(best)
            return best
        # The rest may belong to another conversation that goes on: it keeps its own.
        return Reading(self._shape.cut(best.tensors, shared), best.ids[:shared])

    def keep(self, reading: Reading) -> None:
        """Give a reading back."""
        if reading.ids and self._most:
            self._readings = [*self._readings[1 - self._most or len(self._readings) :], reading]

    def clear(self) -> None:
        """Let the memory go."""
        self._readings.clear()


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    for i, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return i
    return min(len(left), len(right))


def _present(name: str) -> str:
    return name.replace("past_key_values.", "present.").replace("past_conv.", "present_conv.")


_LARGEST = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class LocalModel:
    """A converted model.

    Attributes:
        context: tokens that prompt and answer may have together.
        begin: the token that every text begins with, None without one.
        ends: tokens that end an answer.
        template: None for ChatML or plain lines, whichever the vocabulary knows.
    """

    name: str
    context: int
    shape: CacheShape
    tokenizer: ByteBPE
    begin: int | None
    ends: frozenset[int]
    template: ChatTemplate | None

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a conversation, up to where the answer begins. No message can say a control token.

        Raises:
            InputError: the template refuses the messages.
        """
        turns = [{"role": m.role, "content": self.tokenizer.inert(m.content)} for m in messages]
        if self.template is not None:
            text = self.template.render(turns)
        elif "<|im_start|>" in self.tokenizer.specials:
            text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in turns)
            text += "<|im_start|>assistant\n"
        else:
            text = "".join(f"{m['role'].capitalize()}: {m['content']}\n" for m in turns) + "Assistant:"
        ids = self.tokenizer.ids(text, inert=True)
        return ids if self.begin is None or ids[:1] == [self.begin] else [self.begin, *ids]


def read_model(name: str, manifest: Any, tokenizer: Any, template: str = "") -> LocalModel:
    """A model out of its parsed files.

    Raises:
        ArtifactError: a field of the manifest is missing or out of range.
        InputError: the tokenizer or the template cannot be used.
    """
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        raise _broken("format", "is not 1")
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not layers or not {*map(str, layers)} <= {"attention", "conv"}:
        raise _broken("layers", "is no list of kinds")
    shape = CacheShape(
        tuple(kind == "attention" for kind in layers),
        _number(manifest, "kv_heads", 1),
        _number(manifest, "head_dim", 1),
        _number(manifest, "hidden", 1),
        _number(manifest, "conv", 0),
    )
    bpe = read_tokenizer(tokenizer)
    ends = manifest.get("ends")
    if not isinstance(ends, list) or not all(type(end) is int for end in ends):
        raise _broken("ends", "is no list of tokens")
    begin = None if manifest.get("begin") is None else _number(manifest, "begin", 0)
    if bpe.size > _number(manifest, "vocabulary", 1):
        raise _broken("vocabulary", "is smaller than the tokenizer's")
    names = manifest.get("names")
    tokens = {str(key): str(value) for key, value in names.items()} if isinstance(names, dict) else {}
    made = ChatTemplate(template, tokens) if template else None
    return LocalModel(name, _number(manifest, "context", 8), shape, bpe, begin, frozenset(ends), made)


def _number(manifest: Mapping[str, Any], field: str, least: int) -> int:
    value = manifest.get(field)
    if type(value) is not int or not least <= value <= _LARGEST:
        raise _broken(field, f"is {str(value)[:40]}")
    return value


def _broken(field: str, what: str) -> ArtifactError:
    return ArtifactError(f"the model's manifest cannot be used: {field} {what}", field=field, fix=CONVERT)
