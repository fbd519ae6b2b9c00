"""A task as it is meant: slips of the keyboard mended, the commonest words of other languages put into English."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ruvllm.agents.catalog import spoken_name
from ruvllm.encoders.static import MAX_TOKENS
from ruvllm.errors import InputError
from ruvllm.sizing.tiers import CONFIRM_FROM, USE_ABOVE
from ruvllm.text.lexical import Memo, spoken, stems
from ruvllm.text.surrogates import well_formed
from ruvllm.text.wordpiece import WordPiece
from ruvllm.types import Agent

LONG = 2_000  # characters; a longer text is read for the passage that asks
_MAX_TEXT = 4_000_000  # characters; past this it is no task but a file
_MOST, _LONGEST, _SHORTEST = 2_000, 600, 8  # passages that are looked at, and characters of one
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n")
_OFTEN = 3  # times that a line stands, digits aside, from which it belongs to a list and asks nothing
_DIGITS, _WORD = re.compile(r"\d+"), re.compile(r"[^\W\d_]+")
_SLIP = re.compile(r"(?<![\w/.\\@-])[A-Za-z]{4,20}(?![\w/\\@(])")  # no paths, no calls
_ODD = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")  # not printable, and no tab or line's end
_MOST_PARTS, _LONGEST_PART, _MOST_MENDED = 20_000, 40, 2_000  # remembered; characters of one; remembered
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SHORT = 4  # letters, up to which many words are one letter away from others
_ENDINGS = ("s", "r", "d", "ed", "er", "ers", "ing", "ly", "y", "n", "able")
_FOREIGN = 0.3  # of the letters, as a fraction, that are of no Latin alphabet
_SCRIPTS = {"ja": ("\u3040", "\u30ff"), "ko": ("\uac00", "\ud7af"), "zh": ("\u4e00", "\u9fff")}
_SCRIPTS |= {"ru": ("\u0400", "\u04ff"), "hi": ("\u0900", "\u097f")}
_UNSPACED = ("zh", "ja", "ko", "hi")  # without spaces, or with letters that end a word for `re`
_TRANSLATED = 0.5  # of a foreign task's words, as a fraction, that are known, from which it may be confirmed


class Reading(NamedTuple):
    """A task as it was understood.

    Attributes:
        text: what encoders are to read.
        most: how sure a decision may be.
        ids: its tokens.
        words: the stem of each of its words.
    """

    text: str
    most: float
    ids: list[int]
    words: list[str]


def checked_text(text: object, field: str = "text") -> str:
    """The text, if it is one that can be routed, with U+FFFD for a half of a character.

    Raises:
        InputError: not a string, empty, or larger than 4 million characters.
    """
    if not isinstance(text, str):
        raise InputError(f"{field} is a {type(text).__name__}, not a string", field=field, fix="pass the task as text")
    if len(text) > _MAX_TEXT:
        raise InputError(f"{field} has {len(text)} characters", field=field, fix=f"keep it under {_MAX_TEXT}")
    if text.isascii() and text.isprintable() and text and not text.isspace():
        return text
    text = well_formed(text)
    if not any(char.isprintable() and not char.isspace() and char != "\ufffd" for char in text):
        raise InputError(f"{field} is empty", field=field, fix="say what is to be done")
    return text


def passages(text: str) -> list[str]:
    """The sentences and lines of a long text, each once: the first two and the last two first, at most 2,000 in all."""
    found: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for part in _SENTENCE.split(text):
        part = " ".join(part[:_LONGEST].split())
        if len(part) >= _SHORTEST:
            shape = _DIGITS.sub("0", part.lower())
            counts[shape] += 1
            found.setdefault(shape, part)
    every = [part for shape, part in found.items() if counts[shape] < _OFTEN] or list(found.values())
    rest = every[2:-2]
    return [*every[:2], *every[2:][:-3:-1], *rest[:: len(rest) // _MOST + 1]]


def asks(text: str) -> bool:
    """Whether a sentence looks like an order or a question."""
    words = [word for word in spoken(text) if word not in _languages().polite][:1]
    return text.endswith("?") or not _languages().orders.isdisjoint(words)


class _Languages(NamedTuple):
    common: frozenset[str]  # words of English that other languages have too
    polite: frozenset[str]  # words before an order
    orders: frozenset[str]  # English words for what developers ask for
    telling: dict[str, list[str]]  # by word, the languages that it tells; none of English
    function: dict[str, frozenset[str]]  # words of a language that say nothing of a task
    english: dict[str, dict[str, str]]  # by language, words with their English


@cache
def _languages() -> _Languages:
    data = json.loads(Path(__file__).with_name("languages.json").read_text("utf-8"))
    common, polite, orders = (frozenset(words.split()) for words in data.pop("en").values())
    function = {name: frozenset(rows.get("function", "").split()) for name, rows in data.items()}
    english = {name: dict(pair.split("=") for pair in rows["words"].split("; ")) for name, rows in data.items()}
    telling: dict[str, list[str]] = {}
    for name in data:
        for word in (function[name] | english[name].keys()) - common:
            telling.setdefault(word, []).append(name)
    orders |= {word for words in english.values() for phrase in words.values() for word in phrase.split()[:1]}
    return _Languages(common, polite, orders, telling, function, english)


_Part = tuple[list[int], list[str]]  # ids, stems


class Reader:
    """Reads tasks for a set of agents.

    Args:
        agents: whose words a slip is mended towards.
        tokenizer: its whole words are none.
    """

    def __init__(self, agents: Sequence[Agent], tokenizer: WordPiece) -> None:
        self._agents, self._tokenizer, self._vocabulary = agents, tokenizer, tokenizer.vocab
        self._words: Counter[str] | None = None
        self._mended = Memo(self._nearest, _MOST_MENDED)
        self._parts = Memo(self._part, _MOST_PARTS, _LONGEST_PART)

    def read(self, text: str) -> Reading:
        """Nearly every text comes back as it is; slips and languages are looked for in its first 2,000 characters."""
        if len(text) > LONG or not text.isascii() or not (text.isprintable() or _ODD.search(text) is None):
            return self._read(text)
        # Whatever is read of such a text is read of what stands between its spaces, and that comes again and again.
        parts = self._parts
        ids: list[int] = []
        words: list[str] = []
        for part in text.split():
            if (found := parts[part]) is None:
                return self._read(text)
            ids += found[0]
            words += found[1]
        return Reading(text, 1.0, ids, words)

    def _read(self, text: str) -> Reading:
        head = text[:LONG]
        words = _WORD.findall(head.lower())
        language = _language(head, words)
        if language is not None:
            return self._reading(*_translated(text, language))
        if self._vocabulary.keys() >= set(words):
            return self._reading(text)
        return self._reading(_SLIP.sub(lambda match: self._mend(match[0]), head) + text[LONG:])

    def _reading(self, text: str, most: float = 1.0) -> Reading:
        return Reading(text, most, self._tokenizer.ids(text, MAX_TOKENS), stems(text))

    def _part(self, part: str) -> _Part | None:
        """What is read of a part of a text without a space; None where the text has to be looked at as a whole."""
        words = _WORD.findall(part.lower())
        if words and not _languages().telling.keys().isdisjoint(words):
            return None
        if words and _SLIP.sub(lambda match: self._mend(match[0]), part) != part:
            return None
        return self._tokenizer.ids(part), stems(part)

    def _mend(self, word: str) -> str:
        low = word.lower()
        if low in self._vocabulary:
            return word
        mended = self._mended[low]
        return word if mended == low else mended

    def warm(self) -> Counter[str]:
        """How often the agents use each word, counted when a first unknown word is met, or before."""
        if self._words is None:
            self._words = _words_of(self._agents)
        return self._words

    def _nearest(self, word: str) -> str:
        """The commonest word of the agents that is one slip away; the word itself where it is one, or there is none."""
        words = self.warm()
        if word in words:
            return word
        swaps = [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)]
        found = [one for one in swaps if words[one] > 1]
        inflected = any(word.endswith(end) and word[: -len(end)] in self._vocabulary for end in _ENDINGS)
        if not found and len(word) > _SHORT and not inflected:
            found = [one for one in _one_letter_away(word) if words[one] > 1]
        return max(found, key=lambda one: (one[0] == word[0], words[one])) if found else word


def _one_letter_away(word: str) -> Iterable[str]:
    places = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    return (head + new + tail[left:] for head, tail in places for new in ("", *_LETTERS) for left in (0, 1))


def _words_of(agents: Sequence[Agent]) -> Counter[str]:
    """How often each word stands in what agents say and in orders; what one example says once may be a slip itself."""
    counts = Counter(word for agent in agents for text in agent.examples for word in spoken(text))
    for agent in agents:
        counts.update(2 * spoken(" ".join((spoken_name(agent.name), agent.description, *agent.keywords))))
    for words in _languages().english.values():
        counts.update(word for phrase in words.values() for word in phrase.split())
    return Counter({word: count for word, count in counts.items() if len(word) >= _SHORT})


def _language(text: str, words: Sequence[str]) -> str | None:
    """Which other language a text of these words is in, "" for one that is not known; None for English."""
    if not text.isascii():
        letters = [char for char in text if char.isalpha()]
        if sum(char > "\u024f" for char in letters) > _FOREIGN * len(letters):
            return next((name for name, (low, high) in _SCRIPTS.items() if any(low <= c <= high for c in letters)), "")
    languages = _languages()
    if languages.telling.keys().isdisjoint(words):
        return None
    said = Counter(name for word in words for name in languages.telling.get(word, ()))
    (best, most), *_ = said.most_common(1)
    english, function = languages.english[best], languages.function[best]
    ours = sum(word in languages.common and word not in function and word not in english for word in words)
    clear = most > 1 or any(word in english or not word.isascii() for word in words)
    return best if clear and most >= ours else None


def _translated(text: str, language: str) -> tuple[str, float]:
    """With the words that are known in English; never sure enough to be used without asking."""
    words = _languages().english.get(language, {})
    if language in _UNSPACED:
        found = [word for word in sorted(words, key=len, reverse=True) if word in text]
        for word in found:
            text = text.replace(word, f" {words[word]} ")
        covered = len(found) / 2
    else:
        function = _languages().function.get(language, frozenset())
        parts = re.split(r"(\W+)", text)
        meant = [part.lower() for part in parts[::2] if len(part) > 2 and part.lower() not in function]
        covered = sum(word in words for word in meant) / max(len(meant), 1)
        parts[::2] = [words.get(part.lower(), part) for part in parts[::2]]
        text = "".join(parts)
    return text, (USE_ABOVE if covered >= _TRANSLATED else CONFIRM_FROM) - 1e-3
