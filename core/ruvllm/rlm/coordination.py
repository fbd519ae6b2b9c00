"""One request over several things: "the causes and cures of x" is about the causes of x and about the cures of x."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ruvllm.rlm.clauses import Words, tag_words
from ruvllm.rlm.lexicon import lexicon, singular

_ADJECTIVE = re.compile(r".{2,}(?:ic|al|ous|ive|ary|term|ful|less|ish|able|ible|ed|ern|ent)$")
_PAST = re.compile(
    r".{2,}ed$|^(?:wrote|sang|made|built|drew|won|led|ran|found|sold|bought|taught|held|began|shot|cut)$"
)
# Over tags: nouns with what stands before them; a list of them.
_NP = r"d?[mnNqv]{1,4}"
_LIST = re.compile(rf"({_NP})((?:,{_NP})*),?c({_NP})")
_COMMAS = re.compile(rf"({_NP})((?:,{_NP})*)(?:,?c|,)({_NP})")
_VERBS = re.compile(r"(?P<first>v)(?P<more>(?:,[vn])*),?c(?P<last>v)(?=[dnNrqm])")
_SUBJECTS = re.compile(r"w[njm]{0,2}a(?P<list>d?[nNq]+(?:,d?[nNq]+)*,?cd?[nNq]+)(?P<rest>v.*|n.*)?$")
Rule = Callable[[Words], list[str]]


def distributed(text: str) -> list[str]:
    """The requests that one holds; empty if it is best left whole."""
    words = tag_words(text)
    listed = "c" in words.tags or (":" in words.tags and "," in words.tags)
    if not listed or lexicon().together.intersection(words.low):
        return []
    for rule in _RULES:
        if found := rule(words):
            return found
    return []


def _questions(words: Words) -> list[str]:
    """ "When and where was x" """
    match = re.match(r"p?(w)(?:,w)*,?cw", words.tags)
    if not match or words.tags[match.end() : match.end() + 1] != "a":
        return []
    question_words = [i for i in range(match.end()) if words.tags[i] == "w"]
    rest = words.cut(match.end())
    return [f"{words.cut(i, i + 1)} {rest}" for i in question_words]


def _verbs(words: Words) -> list[str]:
    """ "How do I start and stop x": verbs next to each other before what they are done to."""
    if words.tags.startswith("w") and (found := _deeds(words)):
        return found
    match = _VERBS.search(words.tags)
    if not match:
        return []
    before = words.tags[: match.start()]
    if not (before in ("", "b") or before.endswith("r") or words.low[match.start() - 1] == "to"):
        return []
    places = [i for i in range(match.start(), match.end()) if words.tags[i] in "vn"]
    return _around(words, [(i, i + 1) for i in places], match.end())


def _deeds(words: Words) -> list[str]:
    """ "Who wrote and directed x" """
    if words.low[0] != "who" or words.tags[2:3] != "c" or len(words.low) < 5:
        return []
    if not (_PAST.match(words.low[1]) and _PAST.match(words.low[3])):
        return []
    return _around(words, [(1, 2), (3, 4)], 4)


def _owned(words: Words) -> list[str]:
    """ "The causes and cures of x", "the economic and social effects of x" """
    for match in _LIST.finditer(words.tags):
        end = match.end()
        if words.tags[end : end + 1] != "p" or end + 1 >= len(words.tags):
            continue
        items = _items(words, match.start(), end)
        start = items[0][0]
        if not _open(words, start):
            continue
        heads = [singular(words.low[stop - 1]) for _, stop in items]
        countable = lexicon().relational
        if all(words.low[place].endswith("ing") for place in (items[0][1] - 1, items[-1][0])):
            continue  # "opening and closing times" are one thing
        if all(head in countable for head in heads):
            return [_owning(words, _lead(words, start), item, end) for item in items]
        adjectives = all(_ADJECTIVE.match(words.low[stop - 1]) for _, stop in items[:-1])
        if heads[-1] in countable and adjectives and _ADJECTIVE.match(words.low[items[-1][0]]):
            noun = words.cut(items[-1][1] - 1, items[-1][1])
            lead, tail = _lead(words, start), words.cut(end)
            first = [f"{lead} {words.cut(*item)} {noun} {tail}".strip() for item in items[:-1]]
            return [*first, f"{lead} {words.cut(*items[-1])} {tail}".strip()]
    return []


def _possessed(words: Words) -> list[str]:
    """ "x's height and weight" """
    match = re.search(r"([nNq])([nv]{1,2})c([nv]{1,2})$", words.tags)
    if not match or not words.low[match.start()].endswith(("'s", "s'")):
        return []
    heads = [singular(words.low[match.end(2) - 1]), singular(words.low[match.end(3) - 1])]
    if not all(head in lexicon().relational for head in heads):
        return []
    return _around(words, [match.span(2), match.span(3)], match.end())


def _owners(words: Words) -> list[str]:
    """ "Flights from a to b and hotels near c": what is asked for stands there twice, each time with its own."""
    joints = [i for i, tag in enumerate(words.tags) if tag == "c"]
    start = _after_lead(words)
    if len(joints) != 1 or start is None:
        return []
    joint = joints[0]
    if "," in words.tags[start:joint] and (several := _several_owners(words, start)):
        return several
    left, right = words.tags[start:joint], words.tags[joint + 1 :]
    one, other = re.match(r"d?[nNv]+p", left), re.match(r"d?[nNv]+(?:p|r)", right)
    if not one or not other or "w" in left[1:] or re.search(r"[a]", right[: other.end()]):
        return []
    wanted = words.low[0] in ("show", "find", "list", "book", "get")
    if not wanted and left.startswith("d") != right.startswith("d"):
        return []
    head = singular(words.low[joint + other.end() - 1])
    same = words.low[start + one.end() - 1] == words.low[joint + other.end()]
    if not (same or head in lexicon().relational or wanted):
        return []
    lead = _lead(words, start)
    return [f"{lead} {words.cut(start, joint)}".strip(), f"{lead} {words.cut(joint + 1)}".strip()]


def _several_owners(words: Words, start: int) -> list[str]:
    """ "The height of x, the depth of y and the length of z" """
    items, lead = _items(words, start, len(words.tags)), _lead(words, start)
    for first, end in items:
        head = re.match(r"d?[nNv]+(?=p)", words.tags[first:end])
        if not head or singular(words.low[first + head.end() - 1]) not in lexicon().relational:
            return []
    return [f"{lead} {words.cut(*item)}".strip() for item in items]


def _things(words: Words) -> list[str]:
    """ "Explain x, y and z in w", "what is x and y", "how do I install x and y on z" """
    start = _after_lead(words)
    verb = re.match(r"(?:war)?v", words.tags)
    if start is None and verb and words.low[verb.end() - 1] in lexicon().separable:
        start = verb.end()
    match = _COMMAS.match(words.tags, start) if start is not None else None
    if match is None or start is None or not re.match(r"$|p", words.tags[match.end() :]):
        return _long_things(words, start)
    items = _items(words, start, match.end())
    if not _parallel(words, items) or words.low[match.end() : match.end() + 1] == ["of"]:
        return []
    return _around(words, items, match.end())


def _long_things(words: Words, start: int | None) -> list[str]:
    """Things of many words, each with the same article: "the treaty of x, the house of y and the fall of z"."""
    if start is None or words.tags[start : start + 1] != "d":
        return []
    item = r"d[nNv]+(?:p[nNm]+)?"
    match = re.compile(rf"{item}(?:,{item})*,?c{item}$").match(words.tags, start)
    items = _items(words, start, len(words.tags)) if match else []
    if not items or any(words.low[at] != "the" for at, _ in items) or not any("N" in words.tags[a:b] for a, b in items):
        return []
    return _around(words, items, len(words.tags))


def _subjects(words: Words) -> list[str]:
    """ "What do x and y eat", "when were x and y born" """
    match = _SUBJECTS.match(words.tags)
    lex = lexicon()
    if not match or words.low[0] == "why" or lex.meet.intersection(words.low):
        return []
    start, end = match.span("list")
    aux, items = start - 1, _items(words, start, end)
    born = words.low[-1] in ("born", "founded", "located", "built", "released", "invented")
    nothing = end == len(words.tags)
    if not _parallel(words, items):
        return []
    if words.low[aux] == "do" and not nothing and words.tags[end] in "vn" and "N" not in words.tags[start:end]:
        return _around(words, items, end)
    if words.low[aux] in ("are", "were") and (born or (nothing and words.low[0] == "how")):
        return [_agreeing(words, item, aux, end) for item in items]
    return []


def _agreeing(words: Words, item: tuple[int, int], aux: int, end: int) -> str:
    verb = words.low[aux]
    if words.tags[item[0]] == "N":
        verb = {"are": "is", "were": "was"}[verb]
    return f"{words.cut(0, aux)} {verb} {words.cut(*item)} {words.cut(end)}".strip()


def _items(words: Words, start: int, end: int) -> list[tuple[int, int]]:
    """(start, end) of what commas and "and" part."""
    out: list[tuple[int, int]] = []
    at = start
    for i in [*(i for i in range(start, end) if words.tags[i] in ",c"), end]:
        if i > at:
            out.append((at, i))
        at = i + 1
    return out


def _parallel(words: Words, items: Sequence[tuple[int, int]]) -> bool:
    """Whether items are of one make: the same articles, and as many words unless they are names."""
    if len(items) < 2 or any(words.tags[a:b] in ("m", "d") for a, b in items):
        return False
    articles = {words.low[a] if words.tags[a] == "d" else "" for a, _ in items}
    if len(articles - {"a", "an"}) + bool(articles & {"a", "an"}) > 1:
        return False
    names = all("N" in words.tags[a:b] or "q" in words.tags[a:b] for a, b in items)
    if names:  # "what is War and Peace": one title
        title = words.tags[0] == "w" and words.low[1] in ("is", "was")
        return not title or all(words.cut(a, b).isupper() for a, b in items)
    return len(items) > 2 or len({b - a for a, b in items}) == 1


def _after_lead(words: Words) -> int | None:
    """Where that begins which is to be told about; None if nothing is."""
    if words.tags[:2] == "wa" and words.low[0] in ("what", "who") and words.low[1] in lexicon().be:
        return 2
    if words.low[0] in ("what's", "whats", "who's", "whos"):
        return 1
    if words.low[0] in lexicon().inform:
        match = re.match(r"vr?", words.tags)
        at = match.end() if match else 1
        at += words.low[at : at + 1] == ["about"]
        if words.low[at : at + 2] in (["these", "terms"], ["the", "following"]):
            at += 2 + (words.low[at + 2 : at + 3] in (["terms"], ["words"], ["concepts"]))
        return at + (words.tags[at : at + 1] == ":")
    return 0 if re.match(r"d?[nNm]", words.tags) else None


def _open(words: Words, start: int) -> bool:
    """Whether nothing that a list could be a part of stands before it: "the ratio of …" keeps its list whole."""
    before = words.tags[:start]
    if before.endswith("a"):
        return words.low[0] in lexicon().wh and words.low[0] not in ("why", "how")
    return not before or before[-1] in "vrw:" or words.low[start - 1] == "about"


def _lead(words: Words, start: int) -> str:
    """What every sub-query begins with; "what are" adds nothing to "the causes of x"."""
    if words.low[:1] and words.low[0].startswith("what") and start <= 2:
        return ""
    return words.cut(0, start)


def _owning(words: Words, lead: str, item: tuple[int, int], end: int) -> str:
    preposition, tail = words.cut(end, end + 1), words.cut(end + 1)
    if words.low[end] in ("for", "to") and singular(words.low[item[1] - 1]) in lexicon().of_only:
        preposition = "of"
    return f"{lead} {words.cut(*item)} {preposition} {tail}".strip()


def _around(words: Words, items: Sequence[tuple[int, int]], end: int) -> list[str]:
    """Each item with what stands before the first and behind the last."""
    head, tail = words.cut(0, items[0][0]), words.cut(end)
    if head.lower().startswith(("define these", "define the following")):
        head = head.split()[0]
    if words.low[1:2] == ["are"] and items[0][0] == 2 and not tail:
        head = words.cut(0, 1) + " is"
    return [" ".join(filter(None, (head, words.cut(*item), tail))) for item in items]


_RULES: tuple[Rule, ...] = (_questions, _owned, _possessed, _verbs, _owners, _subjects, _things)
