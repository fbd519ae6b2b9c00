"""Byte-level BPE in pure Python, token for token what HF `tokenizers` gives.

Sources: Sennrich et al. 2016 (BPE), Radford et al. 2019 (on bytes). A byte is written as one printable character,
as in every vocabulary of this family.
"""

from __future__ import annotations

import re
import unicodedata
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from typing import Literal

from ruvllm.errors import InputError
from ruvllm.text.lexical import Memo

NormalForm = Literal["", "NFC", "NFD", "NFKC", "NFKD"]

_WORD_CACHE = 50_000
_SHORT = 24  # characters; below, scanning all pairs beats a heap
_INERT = "\ufdd0"  # a noncharacter, which Unicode keeps for a program's own use


def byte_characters() -> str:
    """The character that stands for each byte: itself where it can be printed, else one from U+0100 on."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return "".join(chr(byte if byte in plain else next(others)) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Special:
    """A token that is found in a text as it stands, before anything else.

    Attributes:
        control: it steers the model (a turn's end); a text by a user must not be able to say it.
        lstrip, rstrip: white space before or behind it belongs to it.
    """

    text: str
    id: int
    control: bool = True
    lstrip: bool = False
    rstrip: bool = False


class ByteBPE:
    """Text to token ids and back.

    Args:
        vocab: ids of the tokens, in byte characters.
        merges: pairs of tokens that become one, the first of them first.
        patterns: cut a text into words, one after the other; what lies between matches is a word too.
        specials: tokens beside the vocabulary's.
        normal_form: what a text is brought into, "" for nothing.
        whole_words: a word that is a token needs no merges (Llama 3).
        prefix_space: a text that does not begin with a blank gets one.

    Raises:
        InputError: a merge of tokens that the vocabulary has not.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        patterns: Sequence[re.Pattern[str]],
        *,
        specials: Sequence[Special] = (),
        normal_form: NormalForm = "",
        whole_words: bool = False,
        prefix_space: bool = False,
    ) -> None:
        self.vocab, self.specials = dict(vocab), {special.text: special for special in specials}
        self.size = 1 + max((*vocab.values(), *(special.id for special in specials)), default=-1)
        self._patterns, self._form, self._whole, self._prefix = tuple(patterns), normal_form, whole_words, prefix_space
        self._merges = _ranked(vocab, merges, self.size)
        self._bytes = byte_characters()
        self._first = [vocab.get(char, -1) for char in self._bytes]
        self._pieces = _pieces(vocab, specials)
        # Leftmost, and the longest of those: as the reference finds them.
        self._longest = sorted(specials, key=lambda special: -len(special.text))
        self._splits = _finder(self._longest)
        controls = [special.text for special in self._longest if special.control]
        self._dropped = {ord(text): None for text in (_INERT, *controls) if len(text) == 1}
        self._controls = re.compile("|".join(re.escape(text) for text in controls if len(text) > 1) or r"(?!)")
        self._cache = Memo(self._word, _WORD_CACHE)

    def ids(self, text: str, *, inert: bool = False) -> list[int]:
        """Token ids of a text; the specials in it count as such, unless `inert` broke them."""
        out: list[int] = []
        for i, (part, special) in enumerate(self._cut(text)):
            if special is not None:
                out.append(special.id)
            else:
                out.extend(self._ordinary(part.replace(_INERT, "") if inert else part, i == 0))
        return out

    def inert(self, text: str) -> str:
        """The text with its control tokens broken, for what users wrote: `ids(…, inert=True)` reads them as text."""
        # Behind every character, since specials may overlap; one of a single character can only be left out.
        return self._controls.sub(lambda found: _INERT.join(found[0]) + _INERT, text.translate(self._dropped))

    def text(self, ids: Iterable[int], *, control: bool = False) -> str:
        """The text of tokens, U+FFFD where their bytes are no UTF-8; control tokens only on demand."""
        return b"".join(map(self.bytes_of(control), ids)).decode("utf-8", "replace")

    def reader(self) -> Callable[[int], str]:
        """Reads an answer token by token; bytes of a character wait until it is whole."""
        decoder, bytes_of = getincrementaldecoder("utf-8")("replace"), self.bytes_of()
        return lambda token: decoder.decode(bytes_of(token))

    def bytes_of(self, control: bool = False) -> Callable[[int], bytes]:
        """The bytes of a token, b"" for one that is not there."""
        pieces = self._pieces
        hidden = {} if control else {special.id for special in self.specials.values() if special.control}
        return lambda token: b"" if token in hidden else pieces.get(token, b"")

    def _cut(self, text: str) -> Iterator[tuple[str, Special | None]]:
        start = 0
        for match in self._splits.finditer(text) if self._splits else ():
            if match.start() > start:
                yield text[start : match.start()], None
            found = self.specials.get(match[0])  # unless it took blanks along
            yield match[0], found or next(special for special in self._longest if special.text in match[0])
            start = match.end()
        if start < len(text):
            yield text[start:], None

    def _ordinary(self, text: str, first: bool) -> Iterable[int]:
        """Token ids of a text without specials; `first` when nothing is before it."""
        if self._form and not text.isascii():
            text = unicodedata.normalize(self._form, text)
        if self._prefix and text and text[0] != " ":
            text = " " + text
        for word in _words(text, self._patterns):
            yield from self._cache[word]

    def _word(self, word: str) -> tuple[int, ...]:
        data = word.encode("utf-8", "replace")
        if self._whole:
            whole = self.vocab.get("".join(self._bytes[byte] for byte in data))
            if whole is not None:
                return (whole,)
        ids = [token for token in map(self._first.__getitem__, data) if token >= 0]
        return tuple(merged(ids, self._merges, self.size))


def _words(text: str, patterns: Sequence[re.Pattern[str]]) -> Iterable[str]:
    words: Iterable[str] = (text,)
    for pattern in patterns:
        words = [piece for word in words for piece in _isolated(pattern, word)]
    return words


def _isolated(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    start = 0
    for match in pattern.finditer(text):
        if match.start() > start:
            yield text[start : match.start()]
        if match.end() > match.start():
            yield match[0]
        start = match.end()
    if start < len(text):
        yield text[start:]


def _ranked(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], size: int) -> dict[int, int]:
    """Both ids of a pair as one number -> its rank and the merged id as one number: a third of a dict of tuples."""
    out: dict[int, int] = {}
    for rank, (left, right) in enumerate(merges):
        try:
            pair = vocab[left] * size + vocab[right]
            out[pair] = rank * size + vocab[left + right]
        except KeyError as missing:
            message = f"merge {rank} ({left!r} {right!r}) needs the token {missing}, which the vocabulary has not"
            raise InputError(message, field="merges", fix="use the tokenizer file that belongs to the model") from None
    return out


def merged(ids: list[int], merges: Mapping[int, int], size: int) -> list[int]:
    """Tokens with all their merges done; `merges` as `_ranked` gives them."""
    return (_merged_short if len(ids) < _SHORT else _merged_long)(ids, merges, size)


def _merged_short(ids: list[int], merges: Mapping[int, int], size: int) -> list[int]:
    """The pair of the lowest rank first, the leftmost of its kind first."""
    none = len(merges) * size
    while len(ids) > 1:
        ranks = [merges.get(left * size + right, none) for left, right in pairwise(ids)]
        best = min(ranks)
        if best == none:
            break
        place = ranks.index(best)
        ids[place : place + 2] = [best % size]
    return ids


def _merged_long(ids: list[int], merges: Mapping[int, int], size: int) -> list[int]:
    """The same in n log n, for text without blanks."""
    after, before = [*range(1, len(ids)), -1], [*range(-1, len(ids) - 1)]
    heap: list[tuple[int, int, int]] = []  # (rank and merged id, place, the pair it was)

    def consider(place: int) -> None:
        if place >= 0 and after[place] >= 0:
            pair = ids[place] * size + ids[after[place]]
            if pair in merges:
                heappush(heap, (merges[pair], place, pair))

    for place in range(len(ids) - 1):
        consider(place)
    while heap:
        ranked, place, pair = heappop(heap)
        gone = after[place]
        if ids[place] < 0 or gone < 0 or ids[place] * size + ids[gone] != pair:
            continue  # one of the two has been merged since
        ids[place], ids[gone] = ranked % size, -1
        after[place] = after[gone]
        if after[gone] >= 0:
            before[after[gone]] = place
        consider(before[place])
        consider(place)
    return [token for token in ids if token >= 0]


def _pieces(vocab: Mapping[str, int], specials: Sequence[Special]) -> dict[int, bytes]:
    """The bytes of each token; a token that was not written in byte characters stands for itself."""
    byte_of = {char: byte for byte, char in enumerate(byte_characters())}
    out: dict[int, bytes] = {}
    for token, id_ in vocab.items():
        try:
            out[id_] = bytes(map(byte_of.__getitem__, token))
        except KeyError:
            out[id_] = token.encode("utf-8", "replace")
    return out | {special.id: special.text.encode("utf-8", "replace") for special in specials}


def _finder(specials: Sequence[Special]) -> re.Pattern[str] | None:
    """A pattern of all, without groups: some vocabularies have thousands."""
    blanks = r"\s*"
    parts = [f"{blanks * s.lstrip}{re.escape(s.text)}{blanks * s.rstrip}" for s in specials]
    return re.compile("|".join(parts)) if parts else None
