"""Words as memory looks for them: stems without the commonest words, irregular forms joined, hashed to 32 bits."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ruvllm.text.lexical import MAX_CHARS, Memo, spoken, stem_all

SPOKEN = "@"  # begins the terms of who said it

_STOP_WORDS = (
    "a an the and or of to in for on with is are was were be been being am this that these those it its i you "
    "he she they we me him her them us my your his their our what which who whom whose when where why how do "
    "does did have has had having at as by if from but so than then too very just can could will would shall "
    "now should may might must not no nor about into over under up down out off some any there here also s t d m "
    "re ve ll don didn doesn isn wasn aren weren won wouldn couldn shouldn hasn haven hadn "
)
STOP = frozenset(_STOP_WORDS.split())
# Other forms of a word, the first of each line's parts: English bends its commonest words as it likes.
_BENT = (
    "go went gone goes;buy bought;see saw seen;get got gotten;make made;take took taken;give gave given;eat ate eaten;"
    "write wrote written;read;speak spoke spoken;teach taught;think thought;bring brought;catch caught;find found;"
    "feel felt;leave left;lose lost;meet met;sell sold;tell told;say said;win won;run ran;begin began begun;"
    "swim swam swum;sing sang sung;drink drank drunk;drive drove driven;ride rode ridden;fly flew flown;"
    "grow grew grown;know knew known;draw drew drawn;break broke broken;choose chose chosen;wear wore worn;"
    "fall fell fallen;build built;spend spent;send sent;lend lent;keep kept;sleep slept;hold held;stand stood;"
    "understand understood;hear heard;come came;become became;forget forgot forgotten;hide hid hidden;"
    "child children kid kids;man men;woman women;person people;foot feet;tooth teeth;mouse mice;wife wives;"
    "knife knives;life lives live lived living;mum mom mother;dad father;photo photograph picture pic;movie film;"
    "fight fought;"
    "pay paid;steal stole stolen;throw threw thrown;hang hung;sit sat;shoot shot;stick stuck;strike struck;"
    "lead led;feed fed;bend bent;deal dealt;dream dreamt;burn burnt;learn learnt;mean meant;seek sought;"
    "sink sank sunk;ring rang rung;shake shook shaken;wake woke woken;freeze froze frozen;rise rose risen"
)
_JOINED = {form: line.split()[0] for line in _BENT.split(";") for form in line.split()}
_MOST_WORDS = 100_000  # whose hashes are remembered
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")  # scripts without spaces between words
_PHRASE = re.compile(r'"([^"]{1,500})"')
_FIELD = re.compile(r'(?<!\S)([A-Za-z_][\w.]{0,60}):(?:"([^"]{0,200})"|([^\s"/:][^\s"]{0,200}))(?!\S)')
_WITHOUT = re.compile(r"(?<!\S)-([^\W\d_]{3,60})(?!\S)")
_MOST_NAME = 100  # characters of a speaker
_MOST_PARTS = 16  # phrases, words and fields of a query


def terms(text: str) -> list[str]:
    """The terms of a text in order, repeats included; of scripts without spaces, pairs of characters."""
    text = text[:MAX_CHARS]
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        text = _UNSPACED.sub(lambda run: f" {_pairs(unicodedata.normalize('NFC', run[0]))} ", text)
    words = [_JOINED.get(word, word) for word in spoken(text) if word not in STOP]
    return stem_all(words)


def _pairs(run: str) -> str:
    return " ".join(run[i : i + 2] for i in range(max(1, len(run) - 1)))


_HASHES: Memo[str, int] = Memo(lambda term: crc32(term.encode("utf-8", "replace")), _MOST_WORDS)


def term_hashes(found: Iterable[str]) -> NDArray[np.uint32]:
    """uint32 (n,), a hash for each term."""
    return np.fromiter(map(_HASHES.__getitem__, found), np.uint32)


def speaker_terms(speaker: object) -> list[str]:
    """Terms that no text has: SPOKEN for whatever somebody said, and one for each word of who did."""
    if not isinstance(speaker, str) or not speaker.strip():
        return []
    return [SPOKEN, *(SPOKEN + word for word in spoken(speaker[:_MOST_NAME]))]


@dataclass(frozen=True, slots=True)
class Sought:
    """A query taken apart.

    Attributes:
        text: what is left to be compared by meaning and by words; that of the phrases too.
        phrases: each has to stand in a memory as it is, whatever its case.
        without: terms that must not stand in it.
        fields: metadata key -> value that it has to have.
    """

    text: str
    phrases: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def plain(self) -> bool:
        """Whether it has no syntax in it."""
        return not (self.phrases or self.without or self.fields)

    @property
    def filter(self) -> dict[str, Any]:
        """Its fields as a filter of metadata, whatever the case of a value's first letters; numbers as such too."""
        return {key: {"$in": _readings(value)} for key, value in self.fields}


def _readings(value: str) -> list[Any]:
    found: list[Any] = [*dict.fromkeys((value, value.lower(), value.title(), value.upper()))]
    try:
        number = float(value)
    except ValueError:
        return found
    return [*found, int(number) if number.is_integer() else number] if abs(number) < 2**53 else found


def parse(query: str) -> Sought:
    """Take `"exact phrase"`, `-word` and `field:value` out of a query; what looks only alike stays text.

    A minus needs a space before it and a word of three letters or more after it (not `git commit -m`, not -5); a
    field needs its value right behind the colon (not `note: that`, a time, `std::vector` or a URL). What ends with a
    question mark is a question, and quotes in it are only quotes.
    """
    fields, phrases, without = list[tuple[str, str]](), list[str](), list[str]()

    def field(match: re.Match[str]) -> str:
        fields.append((match[1], match[2] if match[2] is not None else match[3]))
        return " "

    def phrase(match: re.Match[str]) -> str:
        if terms(match[1]):
            phrases.append(" ".join(match[1].split()))
        return f" {match[1]} "

    def leave_out(match: re.Match[str]) -> str:
        without.extend(terms(match[1]))
        return " "

    text = _FIELD.sub(field, query)
    parts = _PHRASE.split(text)  # text and phrases in turn
    outside = "".join(f'"{part}"' if i % 2 else _WITHOUT.sub(leave_out, part) for i, part in enumerate(parts))
    strict = not outside.rstrip().endswith("?")
    text = " ".join((_PHRASE.sub(phrase, outside) if strict else outside).split())
    if len(fields) + len(phrases) + len(without) > _MOST_PARTS:
        return Sought(query)
    return Sought(text, tuple(phrases), tuple(without), tuple(fields))
