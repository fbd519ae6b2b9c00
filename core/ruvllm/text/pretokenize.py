"""The regular expressions that byte-level BPE cuts a text with, run by Python's own `re`."""

from __future__ import annotations

import re
from functools import cache

from ruvllm.errors import InputError
from ruvllm.text.unicode_classes import CLASSES, SPACES

__all__ = ["GPT2", "LLAMA3", "QWEN2", "compile_pattern"]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LATER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = _LATER % ""
LLAMA3 = _LATER % "{1,3}"

_PART = re.compile(r"\\p\{(\w+)\}|\\.|\[\^?|\]|.", re.DOTALL)
_UNSUPPORTED = re.compile(r"\\[PhHXRAZzGKkdDwWbB]|&&|\[:|\(\?[<P][^=!]|\(\?[a-hj-z-]")


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    r"""A pattern of a tokenizer file for `re`: \p{L}, \p{N}, \p{M}, \s and \S mean what Unicode says.

    Raises:
        InputError: it asks for more than that.
    """
    if found := _UNSUPPORTED.search(pattern):
        raise _refused(pattern, found[0])
    try:
        return re.compile("".join(_parts(pattern)))
    except re.error as bad:
        raise _refused(pattern, str(bad)) from None


def _parts(pattern: str) -> list[str]:
    out: list[str] = []
    inside = False  # of a character class
    for match in _PART.finditer(pattern):
        part, name = match[0], match[1]
        if name is not None and name not in CLASSES:
            raise _refused(pattern, part)
        members = SPACES if part == r"\s" else CLASSES[name] if name else ""
        if inside and (part in (r"\S", "[", "[^")):
            raise _refused(pattern, f"{part} inside a class")
        if members:
            out.append(members if inside else f"[{members}]")
        elif part == r"\S":
            out.append(f"[^{SPACES}]")
        else:
            inside = (inside or part in ("[", "[^")) and part != "]"
            out.append(part)
    return out


def _refused(pattern: str, what: str) -> InputError:
    message = f"the pre-tokenizer's pattern {pattern[:80]!r} cannot be run: {what}"
    return InputError(message, field="pre_tokenizer", fix="use a model whose pattern is GPT-2's, Llama-3's or Qwen2's")
