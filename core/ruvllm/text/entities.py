"""Whom and what a text names: people, places and products by capitals, code by its form, titles by their quotes."""

from __future__ import annotations

import re

from ruvllm.text.terms import STOP

_LONGEST, _MOST = 4_000, 24  # characters that are looked at, names of a text
_CODE = re.compile(
    r"`([^`\n]{2,80})`|(?<![\w.])([a-z]+(?:[A-Z][a-z0-9]*)+|[A-Za-z]\w*_\w+|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|[A-Z]+-?\d+)\b"
)
_QUOTED = re.compile(r"\"([^\"\n]{2,60})\"|“([^”\n]{2,60})”|«([^»\n]{2,60})»|„([^“\n]{2,60})“")
_TOKEN = re.compile(r"[^\W\d_][\w'’-]*|[.!?:;,()\n]")
_BETWEEN = frozenset(["of", "de", "del", "della", "van", "von", "der", "la", "le", "da", "di", "du", "al"])
_POSSESSIVE = re.compile(r"['’]s?$")
_FIRST = re.compile(r"(?:ing|ly|ed)$")  # what begins a sentence and ends so is hardly a name
_CLAUSE = re.compile(
    r"\b(?:the|that|a|an)\s+(?:\w+\s+){0,2}?(?:person|one|man|woman|guy|girl|boy|friend|colleague|people|company|team|city"
    r"|place|town|country|tool|service|project|module|function|product|\w+(?:er|or|ist|ant))\s+"
    r"(?:who|whom|whose|that|which|where)\s+(?P<after>[^?,;]{5,200})",
    re.IGNORECASE,
)


def entities_in(text: str) -> list[str]:
    """The names in a text, in no order, each once.

    A word with a capital is one, and so is a run of them ("University of Oslo"); of scripts without capitals only
    what is quoted.
    """
    text = text[:_LONGEST]
    found = dict.fromkeys(part for match in (*_CODE.findall(text), *_QUOTED.findall(text)) for part in match if part)
    run, first = list[str](), True
    for token in [*_TOKEN.findall(text), "."]:
        word = _POSSESSIVE.sub("", token)
        if word[:1].isupper() and (len(word) > 1 or run) and word.lower() not in STOP:
            if not (first and _FIRST.search(word)):
                run.append(word)
        elif run and word in _BETWEEN:
            run.append(word)
        elif run:
            while run[-1] in _BETWEEN:
                run.pop()
            found[" ".join(run)] = None
            run = []
        first = token in ".!?:\n"
    return list(found)[:_MOST]


def relative_clause(question: str) -> str:
    """What a question says of something that it does not name ("the person who …"); "" where it names all."""
    match = _CLAUSE.search(question[:_LONGEST])
    return match["after"].strip() if match else ""
