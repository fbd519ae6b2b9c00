"""What a sentence states, of whom: subject, attribute and value by words alone, and whether one replaces another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from ruvllm.text.dates import Span, dates_in
from ruvllm.text.terms import terms

# Attributes that have one value at a time, by the words that stand for them.
_ATTRIBUTES = {
    "place": "live lives living reside resides home based settled located relocated stays",
    "employer": "work works working employed employer job joined hired employment",
    "spouse": "married spouse husband wife divorced",
    "partner": "dating partner girlfriend boyfriend",
    "vehicle": "drive drives driving car",
    "port": "port listens",
    "time": "starts start begins begin scheduled date deadline rescheduled postponed due planned takes",
    "price": "costs cost price fee rent priced",
    "host": "runs hosted deployed hosting",
    "owner": "owner responsible maintains maintainer maintained lead leader",
    "database": "database",
    "language": "language written rewritten",
    "cache": "cache caching",
    "version": "version upgraded",
    "age": "years old turned",
    "name": "name named called",
    "phone": "phone reach telephone",
    "email": "email e-mail mail",
    "address": "address",
    "password": "password passphrase",
    "code": "code pin",
    "studies": "studies study subject",
    "weight": "weighs weight",
    "timeout": "timeout times",
    "limit": "limit allows maximum quota",
    "colour": "colour color",
    "status": "status state",
    "diet": "vegetarian vegan meat smoker",
    "schedule": "schedule closed open opens closes",
}
_OF_WORD = {word: name for name, words in _ATTRIBUTES.items() for word in words.split()}
_SEVERAL = {"opens": "opens", "closes": "closes", "takes": "takes", "deploy": "deploy"}  # alike, and yet not one thing
# What somebody can do or have more than once says nothing against what they did or had before.
_ADDITIVE_WORDS = (
    "like likes love loves enjoy enjoys fond visit visited travelled traveled went go goes buy bought order "
    "ordered read watch watched speak speaks play plays met meet help helped saw see eat eats ate tried try know "
    "knows wrote made own gave got found won sent heard owns "
)
_ADDITIVE = frozenset(_ADDITIVE_WORDS.split())
_MANY_WORDS = (
    "friend brother sister son daughter child cousin colleague neighbour neighbor hobby skill book song project "
    "pet dog cat goal problem idea interest part feature member example advantage "
)
_MANY = frozenset(_MANY_WORDS.split())
_COPULA = frozenset(("is", "are", "isn't", "aren't", "was", "were", "has", "have", "hasn't", "haven't"))
_HEDGED = re.compile(
    r"\b(want|wants|wanted|would|wish|wishes|hope|hopes|plans to|might|(?<!\d )may(?! *\d|$)"
    r"|could|should|if|thinks?|says?|said|believes?|maybe|perhaps|used to|once)\b|\?",
    re.IGNORECASE,
)
_NOT = re.compile(
    r"\b(no longer|not|never|no|cannot|\w+n['’]t|stopped|quit|gave up|broke up|divorced|left|moved away|moved out|sold"
    r"|ended|cancelled|canceled|dropped|removed|deleted|disabled|discontinued|forbidden|retired|resigned|lost|for good"
    r")\b",
    re.IGNORECASE,
)
_CHANGED = re.compile(
    r"\b(now|by now|these days|from now on|currently|any more|anymore|any longer|moved|relocated|switched|changed|"
    r"migrated|upgraded|raised|rose|lowered|reduced|cut|rescheduled|postponed|rewritten|renamed|took over|turned|joined"
    r"|started|new|again|instead|since)\b",
    re.IGNORECASE,
)
_OF = re.compile(
    r"^(?:the|an?|our|my)\s+(?P<what>[\w' -]{2,40}?)\s+of\s+(?P<whom>.{2,60}?)"
    r"\s+(?P<rest>(?:is|are|was|were|has|changed|rose|fell|isn't)\b.*)$",
    re.IGNORECASE,
)
_HAS = re.compile(
    r"^(?P<whom>.{1,60}?)['’]s\s+(?P<rest>(?P<what>[\w -]{2,40}?)\s+(?:is|are|isn't|was|changed|has)\b.*)$"
)
_BY = re.compile(
    r"^(?P<value>.{1,60}?)\s+(?:is\s+(?:no longer\s+|not\s+)?(?:responsible|in charge)\s+(?:for|of)|"
    r"(?:no longer\s+|now\s+)?(?:maintains|owns|leads|runs)|took over)\s+"
    r"(?P<whom>(?:the|our|my)\s+.{1,60}?)(?:\s+now)?$",
    re.IGNORECASE,
)
_MINE, _SELF = re.compile(r"^my(?=\s)", re.IGNORECASE), re.compile(r"^(?:well,? |so,? |oh,? |yes,? )?I(?=\s)")
_IS, _HAVE = re.compile(r"^I(?: am|['’]m)(?=\s)"), re.compile(r"^I(?: have|['’]ve)(?=\s)")
_SENTENCE = re.compile(
    r"(?<!\b[DM]r\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bSt\.)(?<!\bProf\.)(?<!\bNo\.)(?<=[.!?])\s+(?=[\"'(\w])|\n+"
)
_WORD = re.compile(r"[\w$€£][\w.@:/'’$-]*")
_FILLERS = frozenset(
    terms(
        "now currently new these days by from on longer more any again instead since last month week autumn good today "
        "moved relocated switched changed migrated upgraded raised rose lowered rescheduled postponed started took "
        "over joined there that away left stopped quit gave sold broke no ended ago time best all other uses use used"
    )
) | {"n't"}
_LONGEST = 400
_MOST_SENTENCES, _MOST_STATED = 200, 8
_CODE = re.compile(r"```.*?(?:```|\Z)|^[ \t]*[>|#*-].*$", re.DOTALL | re.MULTILINE)
# How a sentence begins that says of whom it speaks: a person of the conversation, a thing, or a name.
_OF_WHOM = re.compile(r"(?:I|I['’]m|I['’]ve|[Mm]y|[Oo]ur|[Ww]e|[Tt]he)\s+\w|(?:[A-Z][\w'’.-]*\s+){1,3}[a-z]")
_ORDERED = re.compile(r"[A-Z]\w*\s+(?:the|an?|my|our|your|it|this|that|these|those|all|sure|me|us)\b")


@dataclass(frozen=True, slots=True)
class Statement:
    """What a sentence states.

    Attributes:
        subject: stems of who or what it is about, sorted.
        attributes: what about them, as far as one word tells; with the verb's stem.
        value: stems of the rest.
        negated: whether it is not so.
        changed: whether it says itself that this is new.
        said: its words in order, as stems where they have one, without denials and without what says that it is new.
        verbs: which of these are verbs, as far as their form tells.
        names: which of its words are written as names.
        days: that it names, the first of them.
    """

    subject: tuple[str, ...]
    attributes: frozenset[str]
    value: frozenset[str]
    negated: bool
    changed: bool
    said: tuple[str, ...] = ()
    verbs: frozenset[int] = frozenset()
    names: frozenset[int] = frozenset()
    days: tuple[Span, ...] = ()

    @property
    def single(self) -> bool:
        """Whether it may end another one: it has an attribute of one value at a time, or denies, or renews."""
        return (
            self.negated
            or self.changed
            or bool(self.verbs)
            or any(one[0] not in "+~" and one not in ("is", "any") for one in self.attributes)
        )


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, without their spaces around."""
    for number, part in enumerate(_SENTENCE.split(text)):
        if number == _MOST_SENTENCES:
            return
        if part.strip():
            yield part.strip()


def stated_in(text: str, speaker: str = "") -> list[str]:
    """The sentences of a text that state something of somebody or something that they name, word for word.

    Code, lists, quotations, questions, orders and what only a neighbouring sentence explains ("it works") are left out.

    Args:
        speaker: who says it, for what they say of themselves.
    """
    found = dict[str, None]()
    for one in sentences(_CODE.sub("\n", text)):
        plain = _OF_WHOM.match(one) and not _ORDERED.match(one) and one[-1] in ".!" and len(one.split()) > 2
        said = statement_of(one, speaker) if plain else None
        if said is not None and (said.value or said.negated):
            found[one] = None
    return list(found)[:_MOST_STATED]


@lru_cache(4_096)
def statement_of(sentence: str, speaker: str = "") -> Statement | None:
    """What a sentence states; None for questions, wishes, opinions, what was once, and what cannot be read."""
    text = " ".join(sentence.split()).strip(" .!")
    if speaker:
        text = _MINE.sub(f"{speaker}'s", _IS.sub(f"{speaker} is", _HAVE.sub(f"{speaker} has", text)))
        text = _SELF.sub(speaker, text)
    if not 3 < len(text) <= _LONGEST or _HEDGED.search(text):
        return None
    negated, changed = bool(_NOT.search(text)), bool(_CHANGED.search(text))
    said, verbs, written = _in_order(text)
    first = min(verbs, default=0)
    plain = ([" ".join(said[:first])], set[str](), " ".join(said[first + 1 :]))
    found = _parts(text, changed or negated) or (plain if first and not {"was", "were"} & {*said} else None)
    if found is None:
        return None
    subject, attributes, rest = found
    names = frozenset(terms(" ".join(subject))) or frozenset(said[:1]) & {"we", "i", "there"}
    if not names:
        return None
    words = [word.strip(".,;:'’") for word in _WORD.findall(rest)]
    attributes |= {_OF_WORD[word.lower()] for word in words if word.lower() in _OF_WORD}
    hidden = {stem for word in words if word.lower() in _OF_WORD for stem in terms(word)} | _FILLERS
    value = frozenset(_exact(word) for word in words if _exact(word) and not set(terms(word)) <= hidden)
    days = tuple(dates_in(text, _NO_DAY)[:1]) if any(map(str.islower, said)) else ()
    return Statement(tuple(sorted(names)), frozenset(attributes), value, negated, changed, said, verbs, written, days)


def _in_order(text: str) -> tuple[tuple[str, ...], frozenset[int], frozenset[int]]:
    """A sentence's words as `Statement.said` has them, which are verbs, and which names."""
    said, verbs, names, before = list[str](), set[int](), set[int](), ""
    for word in _WORD.findall(_ADVERBS.sub(" ", _SHORTENED.sub(r"\1 not", text))):
        lower = _COUNTED.get(word.lower(), word.lower()).strip(".,;:'’")
        kind = lower in ("a", "an", "the") and bool(said) and said[-1] in _COPULA  # one of many, or the only one
        if lower and (kind or lower not in _EMPTY):
            form = len(word) > 3 and word.endswith("s") and not word.endswith("ss") and not _of_a_noun(before)
            part = bool(verbs) and max(verbs) == len(said) - 1 and lower.endswith(("ed", "en"))
            form |= part or before.lower() in ("i", "we", "they") or bool(_TURNS.fullmatch(lower))
            if said and (lower in _COPULA or (form and word.islower())):
                verbs.add(len(said))
            if said and word[:1].isupper():
                names.add(len(said))
            said.append(lower if lower in _COPULA or any(map(str.isdigit, lower)) else _exact(lower) or lower)
        before = word if word[:1].isupper() else lower
    return tuple(said), frozenset(verbs), frozenset(names)


def _of_a_noun(before: str) -> bool:
    """Whether what follows a word is a noun rather than a verb."""
    return before.lower() in _OF_A_NOUN or before[:1].isdigit()


def _aligned(old: Statement, new: Statement) -> tuple[float, str]:
    """Whether two statements differ in one place after their verb, which takes one thing at a time."""
    a, b = old.said, new.said
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    end = next((i for i, (x, y) in enumerate(zip(a[:start:-1], b[:start:-1], strict=False)) if x != y), None)
    end = max(min(len(a), len(b)) - start - 1, 0) if end is None else end
    before, one, other = a[:start], a[start : len(a) - end], b[start : len(b) - end]
    verbs = [i for i in old.verbs if i < start]
    if not verbs or not one or not other or {*one} & {*other} or len(one) + len(other) > _MOST_WORDS:
        return 0.0, ""
    if any(i >= start for i in (*old.verbs, *new.verbs)) or {*before} & _REPEATED or "also" in other:
        return 0.0, ""
    numbers = [any(map(str.isdigit, "".join(part))) for part in (one, other)]
    at, last = max(verbs), before[-1]
    if any(numbers):
        return (0.9, "another number") if all(numbers) and not {*before} & _ADDITIVE_STEMS else (0.0, "")
    part = at == len(before) - 3 and before[at] in _COPULA
    if (last in _PLACING or (last == "with" and before[at] in _COPULA)) and (part or at == len(before) - 2):
        return 0.85, f"another {last}"
    if at == len(before) - 1 and before[at] in ("is", "are") and len(old.attributes) == 1:
        (name,) = old.attributes
        named = old.names.issuperset(range(start, len(a) - end)) and new.names.issuperset(range(start, len(b) - end))
        if name[0] not in "+~" and (name != "is" or named) and not {*before} & _MANY:
            return 0.85, "another name" if name == "is" else f"another {name}"
    several = {*before} & (_ADDITIVE_STEMS | _MANY)
    return (0.0, "") if several else (_UNSURE, "it may be another one")


def _exact(word: str) -> str:
    """A value's word: as it stands where it has a digit, else its stem."""
    word = word.lower().removesuffix("'s")
    word = _COUNTED.get(word, word)
    return word if any(letter.isdigit() for letter in word) else " ".join(terms(word))


def _parts(text: str, changed: bool) -> tuple[list[str], set[str], str] | None:
    if match := _BY.match(text):
        return [match["whom"]], {"owner"}, match["value"]
    if match := _OF.match(text):
        return [match["whom"]], _named(match["what"]), match["rest"]
    if match := _HAS.match(text):
        return [match["whom"]], _named(match["what"]), match["rest"][len(match["what"]) :]
    words = text.split()
    for at in range(1, min(len(words), 8)):
        word = words[at].lower().strip(",")
        if not terms(" ".join(words[:at])):
            continue
        if word in _ADDITIVE:
            return words[:at], {f"+{word}"}, " ".join(words[at + 1 :])
        if word in _COPULA or word in _OF_WORD or _verbal(words, at):
            return _clause(words, at, changed)
    return None


def _verbal(words: list[str], at: int) -> bool:
    word, before = words[at], words[at - 1].lower()
    lower = word.islower() and before not in ("the", "a", "an", "our", "my", "your", "his", "her", "their", "of")
    return lower and (word in _CHANGING or (word.endswith(("s", "ed")) and not word.endswith("ss") and len(word) > 3))


_CHANGING = frozenset(["no", "now", "took", "does", "do", "doesn't", "don't", "quit", "left", "rose"])


def _clause(words: list[str], at: int, changed: bool) -> tuple[list[str], set[str], str] | None:
    verb, rest = words[at].lower(), words[at:]
    if verb in ("was", "were") and not changed:
        return None  # an event is over, and says nothing of today
    following = [word.lower().strip(",.") for word in rest[:6]]
    attributes = {_SEVERAL[word] for word in following if word in _SEVERAL}
    if not any(word in _OF_WORD for word in following) or attributes:
        if verb in _COPULA:
            attributes |= _copular(rest, changed)
        else:
            verb = next((word for word in following if word not in _CHANGING and terms(word)), "")
            attributes |= _MOVES.get(verb) or {f"~{stem}" for stem in terms(verb)[:1] if stem not in _FILLERS}
        rest = rest[1:]
    return words[:at], attributes, " ".join(rest)


def _copular(rest: list[str], changed: bool) -> set[str]:
    """What "is" and "has" are about: a place, a number of things, or nothing that excludes another."""
    moved = next((_MOVES[word.lower()] for word in rest[1:4] if word.lower() in _MOVES), None)
    if moved:
        return moved
    numbers = [word for word in rest[1:] if any(letter.isdigit() for letter in word) or word.lower() in _COUNTED]
    if rest[0].lower().startswith("ha"):
        nouns = [word for word in rest[1:] if word not in numbers and terms(word)]
        return {f"count {terms(nouns[0])[0]}"} if numbers and nouns else {"+have"}
    if numbers and len(rest) <= 6:
        return {"amount", "age"} if len(rest) == 2 else {"amount"}
    return {"is"}


_TURNS = re.compile(
    r"moved|relocated|switched|changed|stopped|quit|left|sold|dropped|retired|resigned|lost|started|joined"
)
_UNSURE = 0.4  # the chance of what words alone do not tell
_MOST_WORDS = 8  # words that two statements may differ in
_SHORTENED = re.compile(r"\b(is|are|was|were|do|does|did|has|have|ca|wo|could|should)n['’]t\b", re.IGNORECASE)
_ADVERBS = re.compile(
    r"\b(?:no longer|any ?more|any longer|these days|by now|from now on|at the moment|currently|now|just|not|never)\b",
    re.IGNORECASE,
)
_EMPTY = frozenset(("the", "a", "an", "do", "does", "did"))
_OF_A_NOUN = ("the", "a", "an", "our", "my", "your", "his", "her", "their", "of", "in", "at", "on", "for", "with")
_PLACING = frozenset(("in", "at", "on", "from", "under", "behind", "near", "by", "every"))
_ADDITIVE_STEMS = frozenset(stem for word in _ADDITIVE for stem in terms(word))
_NO_DAY = date(3001, 1, 1)  # what relative days count from, long after any
# What can be so of several things at once, and what is over.
_REPEATED_WORDS = (
    "depends relies interested good active supports includes has have uses covers needs contains teaches was were sells"
)
_REPEATED = frozenset((*_REPEATED_WORDS.split(), *terms(_REPEATED_WORDS)))
_COUNTED = {
    word: str(n)
    for n, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
}
_MOVES = {"moved": {"place", "time"}, "relocated": {"place"}, "rescheduled": {"time"}, "postponed": {"time"}}


def _named(what: str) -> set[str]:
    """The attribute that "the port of" or "'s favourite food" names."""
    words = [word for word in what.lower().split() if word not in ("new", "old", "current", "former")]
    found = {_OF_WORD[word] for word in words if word in _OF_WORD}
    if not found and words and words[-1] in _MANY:
        return {f"+{words[-1]}"}
    return found or {" ".join(terms(" ".join(words))) or "is"}


def _holder(one: Statement) -> tuple[frozenset[str], tuple[str, ...]] | None:
    """(role, name) of "the role is Name"; None for what says something else."""
    at = next((i for i in sorted(one.verbs) if one.said[i] in ("is", "are")), None)
    if at is None or max(one.verbs) != at:
        return None
    named = one.names.issuperset(range(at + 1, len(one.said))) and not (one.names | {0}).issuperset(range(at))
    return (frozenset(one.said[:at]), one.said[at + 1 :]) if named else None


def _same_subject(old: Statement, new: Statement) -> bool:
    """Whether two statements are about the same, called more or less fully ("my sister Karin", "Karin")."""
    if old.subject == new.subject:
        return True
    short, full = sorted((one.said[: min(one.verbs, default=0)] for one in (old, new)), key=len)
    if not short or full[-len(short) :] != short:
        return False
    longer = old if old.said[: len(full)] == full else new
    return longer.names.issuperset(range(len(full) - len(short), len(full)))


def _succeeded(old: Statement, new: Statement) -> tuple[float, str]:
    was, now = _holder(old), _holder(new)
    if was is None or now is None or was[0] != now[0] or {*was[1]} & {*now[1]} or was[0] & _MANY:
        return 0.0, ""
    return (0.9, "somebody else is that") if new.changed or old.said[0] in was[0] else (0.0, "")


def _within(one: Span, other: Span) -> bool:
    return other.first <= one.first and one.last <= other.last


def _renewed(old: Statement, new: Statement) -> tuple[float, str]:
    """Whether a statement says that what an older one says was changed to something else, or from it."""
    first = min(old.verbs, default=0)
    subject, was = old.said[:first], old.said[max(old.verbs, default=0) + 1 :]
    if not new.changed or not subject or not was:
        return 0.0, ""
    for at in (i for i, word in enumerate(new.said) if word == "from"):
        former = new.said[at + 1 : at + 2]
        both = {*old.said} & {*new.said} - {*former} - _COPULA - _PLACING - {"to", "of", "for"}
        if former and former[0] in (*subject, *was) and both and not any(i > at for i in new.verbs):
            return 0.9, "it says what was before"
    starts = [i for i in range(len(new.said) - len(subject)) if new.said[i : i + len(subject)] == subject]
    if not starts or "to" not in new.said[starts[0] :] or {*old.said} & _REPEATED:
        return 0.0, ""
    to = new.said.index("to", starts[0])
    return (0.0, "") if any(i > to for i in new.verbs) else (0.85, "it says that this was changed")


def replaces(old: Statement, new: Statement) -> tuple[float, str]:
    """The chance that what a new statement says ends what an old one said, and why; 0 where it does not."""
    if old.negated or (old.days and new.days and _within(new.days[0], old.days[0])):
        return 0.0, ""
    same = _same_subject(old, new)
    found = _contradicts(old, new) if same else (0.0, "")
    if found[0] or new.negated:
        return found
    may = (_UNSURE, "it may say what has changed") if same and new.changed else (0.0, "")
    return max(_aligned(old, new), _renewed(old, new), _succeeded(old, new), may)


def _contradicts(old: Statement, new: Statement) -> tuple[float, str]:
    """What two statements about the same say against each other by attribute and value."""
    both = old.attributes & new.attributes
    additive = {one for one in both if one.startswith("+")}
    # What a verb that is not known says excludes nothing, unless it says itself that it is new.
    shared = {one for one in both - additive if one not in ("any", "is") and (new.changed or not one.startswith("~"))}
    if new.negated:
        if old.value and new.value and not (old.value & new.value):
            return 0.0, ""
        if shared or additive or old.value & new.value or ("is" in both and old.value == new.value):
            return (
                (0.9, "it says that this is no longer so")
                if old.value <= new.value or not new.value
                else (0.7, "it denies it")
            )
        return 0.0, ""
    if old.value <= new.value or new.value <= old.value:
        return 0.0, ""  # the same, more or less precisely
    if not shared:
        return 0.0, ""
    name = sorted(shared)[0]
    sure = 0.95 if new.changed else 0.85
    return sure, f"another {name}" + (", and it says that this is new" if new.changed else "")
