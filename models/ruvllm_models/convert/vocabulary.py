"""What goes beside the weights: tokenizer.json, the chat template, and which tokens begin and end a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruvllm.errors import ArtifactError, InputError
from ruvllm.text.bpe import ByteBPE
from ruvllm.text.pretokenize import LLAMA3, QWEN2
from ruvllm.text.tokenizer_file import BLANK, read_tokenizer
from ruvllm_models.convert.fields import Fields
from ruvllm_models.convert.hf_source import read_json_file

_KEY = "tokenizer.ggml."
_FIX = "use a model whose tokenizer is of GPT-2's, Llama's or Qwen2's family"
_LONGEST_WORD = 256
_CONTROL, _USER = 3, 4  # kinds of tokens in GGUF
_FAMILIES = {
    "gpt-2": "gpt2",
    "smollm": "digits",
    "qwen2": "qwen2",
    "deepseek-r1-qwen": "qwen2",
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "lfm2"), "llama3"),
}
# They end a turn in some family, and are often missing from its list of ends.
_ENDS = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>")


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """A model's words.

    Attributes:
        tokenizer: tokenizer.json.
        template: of chats, "" without one.
        begin: the token that every text begins with, None without one.
        ends: tokens that end an answer.
    """

    tokenizer: dict[str, Any]
    template: str
    begin: int | None
    ends: tuple[int, ...]
    names: dict[str, str]  # bos_token and eos_token, for the template


def from_gguf(file: str, metadata: Mapping[str, Any], size: int) -> Vocabulary:
    """Out of a GGUF file's metadata.

    Raises:
        ArtifactError: it is another kind of tokenizer, damaged, or larger than the table of `size` rows.
    """
    fields = Fields(file, metadata, _KEY)
    kind, pre = fields.get("model"), fields.get("pre")
    family = "sentencepiece" if kind == "llama" else _FAMILIES.get(str(pre)) if kind == "gpt2" else None
    if family is None:
        known = f"llama, or gpt2 with {', '.join(_FAMILIES)}"
        raise fields.refuse("model", f"and pre are {str(kind)[:20]!r}, {str(pre)[:20]!r}; what can be read is {known}")
    tokens = _texts(fields, "tokens")
    kinds = fields.get("token_type", [1] * len(tokens))
    if not isinstance(kinds, list) or len(kinds) != len(tokens) or len({*tokens}) != len(tokens):
        raise fields.refuse("token_type", "does not fit the tokens, or a token is there twice")
    added = [
        {"id": i, "content": token, "special": kind == _CONTROL, "normalized": False}
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _USER)
    ]
    model: dict[str, Any] = {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}}
    if family == "sentencepiece":
        model |= {"merges": _merges_by_score(tokens, _scores(fields, len(tokens))), "byte_fallback": True}
    else:
        model |= {"merges": _texts(fields, "merges"), "ignore_merges": family == "llama3"}
    told = {
        "version": "1.0",
        "added_tokens": [token | dict.fromkeys(("single_word", "lstrip", "rstrip"), False) for token in added],
        "normalizer": _normalizer(family, bool(fields.get("add_space_prefix", True))),
        "pre_tokenizer": _pre_tokenizer(family, bool(fields.get("add_space_prefix", True))),
        "post_processor": None,
        "decoder": _decoder(family),
        "model": model,
    }
    bpe = _checked(file, told, size)
    begin = fields.int("bos_token_id") if fields.get("add_bos_token", family in ("llama3", "sentencepiece")) else None
    ends = [fields.int(key) for key in ("eos_token_id", "eot_token_id") if fields.get(key) is not None]
    names = {
        name: tokens[id_]
        for name, key in (("bos_token", "bos_token_id"), ("eos_token", "eos_token_id"))
        if fields.get(key) is not None and (id_ := fields.int(key)) < len(tokens)
    }
    template = metadata.get("tokenizer.chat_template", "")
    return Vocabulary(told, template if isinstance(template, str) else "", begin, _all_ends(bpe, ends), names)


def from_folder(folder: Path, config: Mapping[str, Any], size: int) -> Vocabulary:
    """Out of a Hugging Face folder's files.

    Raises:
        ArtifactError: tokenizer.json is missing, of another kind, or larger than the table of `size` rows.
    """
    told = read_json_file(folder / "tokenizer.json")
    bpe = _checked(folder.name, told, size)
    extra = _optional(folder / "tokenizer_config.json")
    ends: list[int] = []
    for source in (_optional(folder / "generation_config.json"), config):
        value = source.get("eos_token_id")
        ends += [id_ for id_ in (value if isinstance(value, list) else [value]) if type(id_) is int]
    names = {name: text for name in ("bos_token", "eos_token") if (text := _content(extra.get(name)))}
    if (end := bpe.specials.get(names.get("eos_token", ""))) is not None:
        ends.append(end.id)
    first = bpe.specials.get(names.get("bos_token", ""))
    begins = "bos" in str(told.get("post_processor")) or str(names.get("bos_token")) in str(told.get("post_processor"))
    begin = first.id if first is not None and (extra.get("add_bos_token") or begins) else None
    return Vocabulary(told, _template(folder, extra), begin, _all_ends(bpe, ends), names)


def _texts(fields: Fields, name: str) -> list[str]:
    value = fields.get(name)
    if not isinstance(value, list) or not value or not isinstance(value[0], str):
        raise fields.refuse(name, "is no list of texts")
    return value


def _scores(fields: Fields, count: int) -> list[float]:
    scores = fields.get("scores")
    if not isinstance(scores, list) or len(scores) != count or not all(isinstance(score, float) for score in scores):
        raise fields.refuse("scores", "do not fit the tokens")
    return scores


def _merges_by_score(tokens: list[str], scores: list[float]) -> list[list[str]]:
    """All pairs of tokens that make a token, the best token first: SentencePiece keeps no list of its own."""
    ids = {token: i for i, token in enumerate(tokens)}
    found: list[tuple[float, int, int]] = []
    for token, score in zip(tokens, scores, strict=True):
        # A word of the vocabulary has some tens of characters; a longer one is a mark.
        for cut in range(1, min(len(token), _LONGEST_WORD)):
            left, right = ids.get(token[:cut]), ids.get(token[cut:])
            if left is not None and right is not None:
                found.append((-score, left, right))
    return [[tokens[left], tokens[right]] for _, left, right in sorted(found)]


def _normalizer(family: str, blank: bool) -> dict[str, Any] | None:
    if family == "sentencepiece" and blank:
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
        return {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": BLANK}, replace]}
    return {"type": "NFC"} if family == "qwen2" else None


def _pre_tokenizer(family: str, blank: bool) -> dict[str, Any] | None:
    if family == "sentencepiece":
        plain = {"type": "Metaspace", "replacement": BLANK, "prepend_scheme": "never", "split": False}
        return None if blank else plain
    if family == "gpt2":
        return _byte_level(True)
    if family == "digits":
        first: dict[str, Any] = {"type": "Digits", "individual_digits": True}
        return {"type": "Sequence", "pretokenizers": [first, _byte_level(True)]}
    pattern = QWEN2 if family == "qwen2" else LLAMA3
    first = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [first, _byte_level(False)]}


def _decoder(family: str) -> dict[str, Any]:
    if family != "sentencepiece":
        return _byte_level(False)
    replace = {"type": "Replace", "pattern": {"String": BLANK}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return {"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]}


def _byte_level(cut: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": cut}


def _checked(file: str, told: dict[str, Any], size: int) -> ByteBPE:
    try:
        bpe = read_tokenizer(told)
    except InputError as bad:
        raise ArtifactError(f"{file}: {bad.message}", field=bad.field, fix=_FIX) from None
    if bpe.size > size:
        message = f"{file}: the tokenizer has {bpe.size} tokens, the embedding table {size} rows"
        raise ArtifactError(message, field="tokenizer", fix="use the tokenizer that belongs to the model")
    return bpe


def _all_ends(bpe: ByteBPE, ends: list[int]) -> tuple[int, ...]:
    more = [bpe.specials[text].id for text in _ENDS if text in bpe.specials]
    return tuple(sorted({end for end in (*ends, *more) if end < bpe.size}))


def _optional(path: Path) -> dict[str, Any]:
    return read_json_file(path) if path.exists() else {}


def _content(token: Any) -> str:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _template(folder: Path, extra: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text("utf-8", "replace")
    told = extra.get("chat_template", "")
    if isinstance(told, list):  # several, by name
        told = next((one.get("template") for one in told if isinstance(one, dict) and one.get("name") == "default"), "")
    return told if isinstance(told, str) else ""
