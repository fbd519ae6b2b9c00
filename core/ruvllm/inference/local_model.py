"""What belongs to a converted model beside its weights: its manifest, tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruvllm.errors import CONVERT, ArtifactError
from ruvllm.inference.backend import Message
from ruvllm.inference.kv_cache import CacheShape
from ruvllm.text.bpe import ByteBPE
from ruvllm.text.chat_template import ChatTemplate
from ruvllm.text.tokenizer_file import read_tokenizer

__all__ = ["LocalModel", "read_model"]

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
        told = [{"role": m.role, "content": self.tokenizer.inert(m.content)} for m in messages]
        if self.template is not None:
            text = self.template.render(told)
        elif "<|im_start|>" in self.tokenizer.specials:
            text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in told)
            text += "<|im_start|>assistant\n"
        else:
            text = "".join(f"{m['role'].capitalize()}: {m['content']}\n" for m in told) + "Assistant:"
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
