"""`tokenizer.json` files of Hugging Face's `tokenizers`, as far as they are BPE with bytes below it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from ruvllm.errors import InputError
from ruvllm.text.bpe import ByteBPE, NormalForm, Special, merged
from ruvllm.text.pretokenize import GPT2, compile_pattern

BLANK = "▁"
Prefix = Literal["never", "first", "always", "each"]


def byte_token(byte: int) -> str:
    """The token of a byte."""
    return f"<0x{byte:02X}>"


class SentencePiece(ByteBPE):
    """Text to token ids and back.

    Args:
        vocab: ids of the tokens.
        prefix: what gets a blank before it: "first", the text's beginning, "always", each part between specials,
            both unless there is one; "each", each part in any case.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        specials: Sequence[Special] = (),
        prefix: Prefix = "each",
    ) -> None:
        super().__init__(vocab, merges, (), specials=specials)
        bytes_of = {vocab[byte_token(byte)]: bytes([byte]) for byte in range(256) if byte_token(byte) in vocab}
        self._ids = {value[0]: id_ for id_, value in bytes_of.items()}
        words = {id_: token.replace(BLANK, " ").encode("utf-8", "replace") for token, id_ in vocab.items()}
        self._pieces = words | bytes_of | {special.id: special.text.encode() for special in specials}
        self._lead = prefix

    def reader(self) -> Callable[[int], str]:
        """Reads an answer token by token, without the blank that its first word begins with."""
        read, begun = super().reader(), False

        def piece(token: int) -> str:
            nonlocal begun
            text = read(token)
            if begun or not text:
                return text
            begun = True
            return text.removeprefix(" ")

        return piece

    def _ordinary(self, text: str, first: bool) -> Iterable[int]:
        text = text.replace(" ", BLANK)
        wanted = self._lead in ("each", "always") or (self._lead == "first" and first)
        if text and wanted and (self._lead == "each" or not text.startswith(BLANK)):
            text = BLANK + text
        symbols: list[int] = []
        for char in text:
            id_ = self.vocab.get(char)
            if id_ is not None:
                symbols.append(id_)
            else:
                symbols += [self._ids[byte] for byte in char.encode("utf-8", "replace") if byte in self._ids]
        return merged(symbols, self._merges, self.size)


_FIX = "use a model whose tokenizer is of GPT-2's, Llama's or Qwen2's family"


def read_tokenizer(data: Any) -> ByteBPE:
    """The tokenizer of a parsed tokenizer.json.

    Raises:
        InputError: it is another kind of tokenizer, or damaged; the field is named.
    """
    root = _object(data, "tokenizer.json")
    model = _object(root.get("model"), "model")
    if model.get("type", "BPE") != "BPE" or model.get("dropout"):
        raise _refused("model", f"is {str(model.get('type'))[:40]!r} or has dropout, and is not plain BPE")
    if model.get("end_of_word_suffix") or model.get("continuing_subword_prefix"):
        raise _refused("model", "marks parts of words")
    if model.get("byte_fallback"):
        return SentencePiece(
            _vocab(model.get("vocab")),
            _merges(model.get("merges")),
            specials=_specials(root.get("added_tokens", [])),
            prefix=_lead(root),
        )
    patterns, prefix = _pre_tokenizer(root.get("pre_tokenizer"))
    return ByteBPE(
        _vocab(model.get("vocab")),
        _merges(model.get("merges")),
        patterns,
        specials=_specials(root.get("added_tokens", [])),
        normal_form=_normal_form(root.get("normalizer")),
        whole_words=bool(model.get("ignore_merges")),
        prefix_space=prefix,
    )


def _vocab(data: Any) -> dict[str, int]:
    vocab = _object(data, "model.vocab")
    # A bool is an int to Python, and no id to anybody.
    if not vocab or not all(type(id_) is int and 0 <= id_ < 1 << 31 for id_ in vocab.values()):
        raise _refused("model.vocab", "is no table of tokens and their ids")
    return dict(vocab)


def _merges(data: Any) -> list[tuple[str, str]]:
    if not isinstance(data, list):
        raise _refused("model.merges", "is no list")
    out: list[tuple[str, str]] = []
    for i, merge in enumerate(data):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise _refused(f"model.merges[{i}]", "is no pair of tokens")
        out.append((pair[0], pair[1]))
    return out


def _specials(data: Any) -> list[Special]:
    if not isinstance(data, list):
        raise _refused("added_tokens", "is no list")
    found: list[Special] = []
    for i, token in enumerate(data):
        text, id_ = _object(token, f"added_tokens[{i}]").get("content"), token.get("id")
        if not isinstance(text, str) or not text or type(id_) is not int or not 0 <= id_ < 1 << 31:
            raise _refused(f"added_tokens[{i}]", "has no text or no id")
        if token.get("single_word"):
            raise _refused(f"added_tokens[{i}]", "is a special for single words")
        flags = (bool(token.get(flag)) for flag in ("special", "lstrip", "rstrip"))
        found.append(Special(text, id_, *flags))
    return found


def _normal_form(data: Any) -> NormalForm:
    forms = [str(step.get("type")) for step in _steps(data, "normalizer", "normalizers")]
    match forms:
        case []:
            return ""
        case [("NFC" | "NFD" | "NFKC" | "NFKD") as form]:
            return form
        case _:
            raise _refused("normalizer", f"is {str(forms)[:80]}, not NFC")


def _pre_tokenizer(data: Any) -> tuple[list[re.Pattern[str]], bool]:
    """Patterns, and whether a text gets a blank before it."""
    patterns: list[re.Pattern[str]] = []
    for step in _steps(data, "pre_tokenizer", "pretokenizers"):
        match step:
            case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
                patterns.append(compile_pattern(pattern))
            case {"type": "Digits", "individual_digits": bool(one)}:
                patterns.append(compile_pattern(r"\p{N}" if one else r"\p{N}+"))
            case {"type": "ByteLevel"}:
                if step.get("use_regex", True):
                    patterns.append(compile_pattern(GPT2))
                return patterns, bool(step.get("add_prefix_space"))
            case _:
                raise _refused("pre_tokenizer", f"holds {str(step)[:80]}")
    raise _refused("pre_tokenizer", "is not byte-level")


def _lead(root: dict[str, Any]) -> Prefix:
    """Where SentencePiece's blank goes: said by the normalizer in older files, by the pre-tokenizer in newer ones."""
    match [*_steps(root.get("normalizer"), "normalizer", "normalizers"), root.get("pre_tokenizer")]:
        case [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            None,
        ]:
            return "each"
        case [{"type": "Metaspace", "prepend_scheme": "never", "split": False}]:
            return "never"
        case [{"type": "Metaspace", "prepend_scheme": "first", "split": False}]:
            return "first"
        case [{"type": "Metaspace", "prepend_scheme": "always", "split": False}]:
            return "always"
        case other:
            raise _refused("normalizer", f"and pre_tokenizer are {str(other)[:120]}")


def _steps(data: Any, field: str, inner: str) -> list[dict[str, Any]]:
    """One step, or those of a sequence."""
    if data is None:
        return []
    step = _object(data, field)
    if step.get("type") != "Sequence":
        return [step]
    steps = step.get(inner)
    return [_object(one, field) for one in steps] if isinstance(steps, list) else []


def _object(data: Any, field: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise _refused(field, "is no object")
    return data


def _refused(field: str, what: str) -> InputError:
    return InputError(f"the tokenizer cannot be used: {field} {what}", field=field, fix=_FIX)
