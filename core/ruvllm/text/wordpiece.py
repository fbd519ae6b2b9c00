"""BERT WordPiece in pure Python, token for token what HF `tokenizers` gives for uncased BERT.

Source: Devlin et al. 2019 (BERT), Song et al. 2021 (WordPiece); the normaliser and the
pre-tokeniser follow `tokenizers`' BertNormalizer(lowercase, strip accents, CJK) and
BertPreTokenizer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from ruvllm.text.bert_unicode import CJK, DROPPED, MARKS, PUNCTUATION, SPACES, code_points

__all__ = ["WordPiece"]

_MAX_WORD = 100  # a longer word is [UNK], as in the reference
_WORD_CACHE = 20_000

# ASCII: control characters vanish (tab, LF and CR are white space), the rest is words or single marks.
_ASCII_CONTROLS = {code: None for code in (*range(32), 127) if code not in (9, 10, 13)}
_ASCII_TOKEN = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")
_SPECIAL = re.compile(r"(\[(?:PAD|UNK|CLS|SEP|MASK)\])")


class _Table(dict[int, str | None]):
    """A `str.translate` table that works a character out when it first meets it."""

    def __init__(self, rule: Callable[[int], str | None]) -> None:
        self.rule = rule

    def __missing__(self, code: int) -> str | None:
        self[code] = out = self.rule(code)
        return out


@cache
def _tables() -> tuple[_Table, _Table]:
    """(clean: before decomposition, plain: after it); built when the first non-ASCII text comes."""
    dropped, spaces, cjk, marks, punctuation = map(code_points, (DROPPED, SPACES, CJK, MARKS, PUNCTUATION))

    def clean(code: int) -> str | None:
        if code in _ASCII_CONTROLS or code in dropped:
            return None
        if code in (9, 10, 13) or code in spaces:
            return " "
        return f" {chr(code)} " if code in cjk else chr(code)

    def plain(code: int) -> str | None:
        char = chr(code)
        if code in marks:
            return None
        if code in punctuation or (code < 128 and not char.isalnum() and code != 32):
            return f" {char} "
        return char.lower()  # one by one: str.lower() on a whole text would bend a final sigma

    return _Table(clean), _Table(plain)


def _words(text: str) -> Iterable[str]:
    """Lower-cased, accent-free words and single punctuation marks."""
    if text.isascii():
        kept = text if text.isprintable() else text.translate(_ASCII_CONTROLS)
        return _ASCII_TOKEN.findall(kept.lower())
    clean, plain = _tables()
    return unicodedata.normalize("NFD", text.translate(clean)).translate(plain).split()


class WordPiece:
    """Text to token ids.

    Args:
        vocab: the tokens; a token's id is its place.
    """

    def __init__(self, vocab: Sequence[str]) -> None:
        self.vocab = {token: i for i, token in enumerate(vocab)}
        self.unk, self.cls, self.sep = (self.vocab[name] for name in ("[UNK]", "[CLS]", "[SEP]"))
        self._cache: dict[str, tuple[int, ...]] = {}

    def ids(self, text: str, max_tokens: int = 512) -> list[int]:
        """Token ids of `text` without [CLS] and [SEP], at most `max_tokens`."""
        out: list[int] = []
        cache = self._cache
        for word in self._split(text):
            pieces = cache.get(word)
            if pieces is None:
                pieces = self._pieces(word)
                if len(cache) >= _WORD_CACHE:
                    cache.clear()
                if len(word) <= _MAX_WORD:  # others are no words, and may be megabytes
                    cache[word] = pieces
            out.extend(pieces)
            if len(out) >= max_tokens:
                return out[:max_tokens]
        return out

    def encode(self, text: str, max_tokens: int = 512) -> list[int]:
        """Token ids with [CLS] and [SEP] around them, at most `max_tokens` in all."""
        return [self.cls, *self.ids(text, max_tokens - 2), self.sep]

    def _split(self, text: str) -> Iterable[str]:
        if "[" not in text:
            return _words(text)
        parts = _SPECIAL.split(text)
        return (word for i, part in enumerate(parts) for word in ((part,) if i % 2 else _words(part)))

    def _pieces(self, word: str) -> tuple[int, ...]:
        """Greedy longest match first."""
        whole = self.vocab.get(word)
        if whole is not None:
            return (whole,)
        if len(word) > _MAX_WORD:
            return (self.unk,)
        pieces: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                piece = self.vocab.get(prefix + word[start:end])
                if piece is not None:
                    pieces.append(piece)
                    break
            else:
                return (self.unk,)
            start = end
        return tuple(pieces)
