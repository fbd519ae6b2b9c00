"""Where one request ends and the next begins: lists, sentences, clauses, steps, conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from ruvllm.rlm.lexicon import lexicon, singular

_OPAQUE = re.compile(
    r"```.*?```|`[^`]+`|\"[^\"\n]+\"|“[^”\n]+”|«[^»\n]+»|(?<!\w)'[^'\n]{2,80}'(?!\w)"
    r"|https?://\S+|\([^()\n]*\)|\[[^\[\]\n]*\]|\{[^{}\n]*\}"
    # Names joined by an ampersand.
    r"|[A-Z][\w.']*(?:, [A-Z][\w.']*)* ?& ?[A-Z][\w.']*|\w+&\w+",
    re.DOTALL,
)
_OPENS = re.compile(r"[`\"“«'&(\[{]|://")
_SHELL = re.compile(r"(?:[\w./\"=-]+ ){1,12}(?:&&|\|\|?) [\w./\"=-]+(?: [\w./\"=-]+){0,12}")
_WORD = re.compile(r"[^\s,;]+(?<![.?!:])|[,;:]|[.?!]+")
_AND = frozenset(("and", "&", "plus"))
_PUNCTUATION = {",": ",", ";": ";", ":": ":"}


@dataclass(frozen=True, slots=True)
class Words:
    """Words of a text.

    Attributes:
        spans: (start, end) of each in the text.
        low: lower-cased.
        tags: one letter a word.
    """

    text: str
    spans: list[tuple[int, int]]
    low: list[str]
    tags: str

    def cut(self, start: int, end: int | None = None) -> str:
        """The text from one word to before another, bare of the punctuation around it."""
        end = len(self.spans) if end is None else end
        if start >= end:
            return ""
        return self.text[self.spans[start][0] : self.spans[end - 1][1]].strip(" ,;:.?!")


@lru_cache(maxsize=256)
def tag_words(text: str) -> Words:
    """The words of a text."""
    tags_of = lexicon().tags
    spans: list[tuple[int, int]] = []
    low: list[str] = []
    tags: list[str] = []
    names = not text.isupper()
    at = 0
    for start, end in [*_opaque(text), (len(text), len(text))]:
        for match in _WORD.finditer(text, at, start):
            word = match.group()
            lower = word.lower().replace("’", "'")
            spans.append(match.span())
            low.append(lower)
            tags.append(_tag(word, lower, tags_of, names and len(tags) > 0))
        if end > start:
            spans.append((start, end))
            low.append(text[start:end].lower())
            tags.append("q")
        at = end
    _join_pairs(spans, low, tags)
    return Words(text, spans, low, "".join(tags))


def _opaque(text: str) -> list[tuple[int, int]]:
    """What is quoted, code or a name, and must stay in one piece; in order."""
    if "&&" in text or " | " in text:
        return [match.span() for match in _SHELL.finditer(text)]
    return [match.span() for match in _OPAQUE.finditer(text)] if _OPENS.search(text) else []


def _join_pairs(spans: list[tuple[int, int]], low: list[str], tags: list[str]) -> None:
    """Make one word of each pair that is one thing; "and so on" joins nothing."""
    lex = lexicon()
    for i in range(len(tags) - 2, -1, -1):
        if tags[i] not in "co" and low[i] != "n":
            continue
        if i and (low[i - 1], low[i + 1]) in lex.pairs:
            spans[i - 1 : i + 2] = [(spans[i - 1][0], spans[i + 1][1])]
            low[i - 1 : i + 2] = [" ".join(low[i - 1 : i + 2])]
            tags[i - 1 : i + 2] = "q"
        elif low[i + 1] in lex.rest:
            tags[i] = "n"


def _tag(word: str, lower: str, tags_of: dict[str, str], may_be_name: bool) -> str:
    if lower in _AND:
        return "c"
    if lower == "or":
        return "o"
    if lower in _PUNCTUATION:
        return _PUNCTUATION[lower]
    tag = tags_of.get(lower)
    if may_be_name and word[0].isupper() and tag in (None, "v", "p") and lower != "i":
        return "N"
    if tag is not None:
        return tag
    return "m" if word[0].isdigit() else "n"


_LINE_ITEM = re.compile(r"^[ \t]*(?:[-*•]|\(?\d{1,2}[.)]|\(?[a-z]\))[ \t]+(.+)$", re.MULTILINE)
_INLINE_ITEM = re.compile(
    r"(?:^|(?<=\s))(?:step (\d{1,2})\s*[:.)]|\(?(\d{1,2})[.)](?=\s)|\(([a-z])\))\s*", re.IGNORECASE
)
_SENTENCE = re.compile(r"(?<=[?!])[?!]{0,8}\s*(?=\w)|(?<=[a-z0-9)\]\"'”]\.)\s+(?=[A-Z\d\"“])|\n+")
_OTHERWISE = re.compile(r"[,;.]?\s+(?=(?:otherwise|or else|else|if not)\b)", re.IGNORECASE)
_AFTER = re.compile(r"(?:after|once) (?:you (?:have )?|we |having )?", re.IGNORECASE)
_START = re.compile(
    r"(?:to )?(?:start|begin|first) (?:by|with|off by) |first(?: of all)?,? |step one:? ", re.IGNORECASE
)
_STEP = re.compile(r"[,;.]? (?:and |which is )?(?:followed by|after (?:that|this|which)|once done),? ", re.IGNORECASE)
_MARKED = re.compile(
    r"(?:and )?(?:then|finally|next|lastly|afterwards|after that|second(?:ly)?|third(?:ly)?|fourth),? ", re.IGNORECASE
)

# Over tags. A question: a question word, or an auxiliary before its subject; an order: a verb before its object.
_QUESTION = re.compile(r"b?(?:p?w|a[drnNqm])")
_ORDER = re.compile(r"b{0,2}v(?:[drnNqmpw]|v[^ac]|$)")
_DEED = re.compile(r"n[drwq]")  # behind "then", where the orders before it make a verb of an unknown word
_ALONE = re.compile(r"(?:p?w[,c]?)*")  # "when and where"
_OF_A_THING = re.compile(r"(?P<thing>(?P<head>d?[nqv]{1,3})p[^,;cowa]+),?c")
_BREAK = re.compile(r"[,;co]+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a query.

    Attributes:
        follows: whether it is a step that comes after the one before it.
    """

    text: str
    follows: bool = False


def unled(text: str) -> str:
    """Without the politeness it begins with."""
    match = lexicon().lead.match(text)
    return text[match.end() :] if match and match.end() < len(text) else text


def list_items(text: str) -> list[str]:
    """The items of a list written as one, by lines or by numbers; empty if there are not two."""
    if "\n" in text and len(lines := _LINE_ITEM.findall(text)) >= 2:
        return [line.strip() for line in lines]
    marks = list(_INLINE_ITEM.finditer(text))
    numbers = [next(group for group in mark.groups() if group) for mark in marks]
    counted = [str(i + 1) for i in range(len(marks))]
    if len(marks) < 2 or numbers not in (counted, list("abcdefghijklmnopqrstuvwxyz"[: len(marks)])):
        return []
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]


def requests(text: str) -> list[tuple[str, str]]:
    """(the statements before it, the sentence) of each sentence that asks; greetings left out."""
    if not any(mark in text for mark in ".?!\n"):
        return [("", text)]
    out: list[tuple[str, str]] = []
    background = ""
    for sentence in filter(None, map(str.strip, _SENTENCE.split(text))):
        if lexicon().greeting.fullmatch(sentence):
            continue
        if not _asks(sentence):
            background = f"{background} {sentence}".strip()
        else:
            out.append((background, sentence))
            background = ""
    if background and out:
        out[-1] = (out[-1][0], f"{out[-1][1]} {background}")
    return out or [("", text)]


def _asks(sentence: str) -> bool:
    marker = _MARKED.match(sentence) or _START.match(sentence)
    return sentence.endswith("?") or is_request(tag_words(unled(sentence[marker.end() :] if marker else sentence)))


def is_request(words: Words, at: int = 0) -> bool:
    """Whether a question or an order starts at a word."""
    return bool(_QUESTION.match(words.tags, at) or _ORDER.match(words.tags, at))


def clauses(text: str) -> list[Piece]:
    """The requests of a sentence, in the order in which they are to be dealt with."""
    text = text.strip()
    marker = _MARKED.match(text)
    text = unled(text[marker.end() :] if marker else text)
    stepped = [part for part in _STEP.split(text) if part]
    if len(stepped) > 1:
        return _chain([clauses(part) for part in stepped])
    started = _START.match(text)
    text = text[started.end() :] if started else text
    words = tag_words(text)
    found = _conditional(words) if words.low and words.low[0] in lexicon().condition else []
    found = found or _coordinated(words, steps=bool(started))
    return [replace(found[0], follows=marker is not None), *found[1:]]


def _chain(groups: list[list[Piece]]) -> list[Piece]:
    """Groups of pieces, each after the one before it."""
    return [
        replace(piece, follows=piece.follows or (i == 0 and n > 0))
        for n, group in enumerate(groups)
        for i, piece in enumerate(group)
    ]


def _conditional(words: Words) -> list[Piece]:
    """What stands under a condition; empty where there is none."""
    if words.low[0] in ("if", "when") and len(cut := _OTHERWISE.split(words.text, maxsplit=1)) == 2:
        return [Piece(cut[0].strip(" ,;.")), Piece(cut[1].strip(" ,;."), follows=True)]
    at = next((i + 1 for i, tag in enumerate(words.tags) if tag == "," and is_request(words, i + 1)), 0)
    if not at or (words.low[0] == "when" and words.tags[1:2] == "a"):
        return []
    rest = _coordinated(tag_words(words.text[words.spans[at][0] :]), steps=False)
    order = _ORDER.match(words.tags, at)
    if order and words.low[0] == "before":
        deed = 2 if words.low[1] in ("you", "we", "i") else 1
        return _chain([rest, [Piece(words.cut(deed, at))]])
    if order and words.low[0] == "after" and (match := _AFTER.match(words.text)):
        return _chain([[Piece(words.text[match.end() : words.spans[at - 1][0]].strip())], rest])
    if len(rest) < 2:
        return []
    condition = words.text[: words.spans[at][0]].strip()
    return [Piece(f"{condition} {piece.text}", piece.follows) for piece in rest]


def _coordinated(words: Words, steps: bool) -> list[Piece]:
    """Clauses joined by commas, "and" and "then"."""
    if not (steps or is_request(words)):
        return _thing_and_question(words)
    starts, follows = [0], [False]
    orders = bool(_ORDER.match(words.tags))
    embeds = orders and bool(re.search("w", words.tags[1:4]))
    for start, end in _joints(words):
        at, marked = _past_markers(words, end)
        if at >= len(words.tags) or _ALONE.fullmatch(words.tags, 0, start):
            continue
        if _begins(words, at, words.tags[start:end], marked, orders, embeds):
            starts.append(at)
            follows.append(marked in lexicon().sequence)
    if len(starts) == 1:
        return [Piece(words.text)]
    return _pieces(words, starts, follows, embeds)


def _thing_and_question(words: Words) -> list[Piece]:
    """ "The price of x and how to pay it": what is asked of a thing, and a question beside it."""
    match = _OF_A_THING.match(words.tags)
    if match and singular(words.low[match.end("head") - 1].split()[-1]) in lexicon().relational:
        at, _ = _past_markers(words, match.end())
        if words.tags[at : at + 1] == "w":
            return [Piece(words.cut(0, match.end("thing"))), Piece(words.cut(at))]
    return [Piece(words.text)]


def _joints(words: Words) -> list[tuple[int, int]]:
    """(start, end) of what may stand between clauses: commas, "and", and "then" by itself."""
    found = [match.span() for match in _BREAK.finditer(words.tags)]
    found = [(start, end) for start, end in found if words.low[max(start - 2, 0) : start] != ["if", "so"]]
    if "then" in words.low:
        behind = {end for _, end in found}
        found += [(i, i) for i, word in enumerate(words.low) if word == "then" and i and i not in behind]
    return sorted(found)


def _past_markers(words: Words, at: int) -> tuple[int, str | None]:
    """Where the clause begins behind "then", "also" …, and the last of these."""
    marked = None
    while at < len(words.low) and words.low[at] in lexicon().marker:
        marked, at = words.low[at], at + 1
        while words.tags[at : at + 1] == ",":
            at += 1
    return at, marked


def _begins(words: Words, at: int, joint: str, marked: str | None, orders: bool, embeds: bool) -> bool:
    """Whether a clause of its own begins at a word behind a joint."""
    tags = words.tags
    if "o" in joint:
        return False
    strong = "c" in joint or ";" in joint or marked is not None
    if tags[at] == "w" or tags[at : at + 2] == "pw":
        inverted = bool(re.match(r"p?w(?:[njm]{0,3}a|c?w)|w[nb]?$", tags[at:]))
        later = re.search(r"c[^,;]*w", tags[at + 1 :])
        return strong or inverted or (embeds and later is not None) or words.low[at].startswith("how")
    if re.match(r"a[drnNq]", tags[at:]):
        return strong and not orders and words.low[at + 1] not in ("a", "an")
    if words.low[at] == "if" and "c" in joint and (orders or words.low[at + 1 : at + 2] == ["so"]):
        return True
    if marked in lexicon().sequence and (tags[at] in "vp" or (orders and _DEED.match(tags, at))):
        return True
    if not _ORDER.match(tags, at) or not orders:
        return False
    later = re.search(r"[,;c]+b{0,2}v[drnNqmpw]", tags[at + 1 :])
    return strong or later is not None


def _pieces(words: Words, starts: list[int], follows: list[bool], embeds: bool) -> list[Piece]:
    out: list[Piece] = []
    ends = [*starts[1:], len(words.tags)]
    for start, end, later in zip(starts, ends, follows, strict=True):
        while end > start and (words.tags[end - 1] in ",;c" or words.low[end - 1] in lexicon().marker):
            end -= 1
        text = words.cut(start, end)
        if start and embeds and words.tags[start] == "w":
            text = f"{words.cut(0, words.tags.index('w'))} {text}"
        out.append(Piece(text, later))
    return out
