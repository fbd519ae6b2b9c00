"""What a sentence states, of whom: subject, attribute and value by words alone, and whether one replaces another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ruvllm.text.terms import terms

__all__ = ["Statement", "replaces", "sentences", "stated_in", "statement_of"]

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
    r"\b(no longer|not|never|no|isn't|aren't|doesn't|don't|didn't|hasn't|stopped|quit|gave up|broke up|divorced|left"
    r"|moved away|moved out|sold|cancelled|canceled|ended)\b",
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
_WE = re.compile(
    r"^we\s+(?:have\s+)?(?:migrated|switched|moved|changed|upgraded|renamed)\s+(?P<whom>.{2,60}?)\s+to\s+(?P<rest>.*)$",
    re.IGNORECASE,
)
_BY = re.compile(
    r"^(?P<value>.{1,60}?)\s+(?:is\s+(?:no longer\s+|not\s+)?(?:responsible|in charge)\s+(?:for|of)|"
    r"(?:no longer\s+|now\s+)?(?:maintains|owns|leads|runs)|took over)\s+"
    r"(?P<whom>(?:the|our|my)\s+.{1,60}?)(?:\s+now)?$",
    re.IGNORECASE,
)
_REACH = re.compile(
    r"^(?:you can |please )?(?:reach|call|phone)\s+(?P<whom>.{1,60}?)\s+(?:at|on|under)\s+(?P<rest>.*)$", re.IGNORECASE
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
_MOST_SENTENCES = 200
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
    """

    subject: tuple[str, ...]
    attributes: frozenset[str]
    value: frozenset[str]
    negated: bool
    changed: bool

    @property
    def single(self) -> bool:
        """Whether it may end another one: it has an attribute of one value at a time, or denies, or renews."""
        return (
            self.negated
            or self.changed
            or any(one[0] not in "+~" and one not in ("is", "any") for one in self.attributes)
        )


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, without their spaces around."""
    for number, part in enumerate(_SENTENCE.split(text)):
        if number == _MOST_SENTENCES:
            return
        if part.strip():
            yield part.strip()


def stated_in(text: str, speaker: str = "", most: int = 8) -> list[str]:
    """The sentences of a text that state something of somebody or something that they name, word for word.

    Code, lists, quotations, questions, orders and what only a neighbouring sentence explains ("it works") are left out.

    Args:
        speaker: who says it, for what they say of themselves.
        most: of them.
    """
    found = dict[str, None]()
    for one in sentences(_CODE.sub("\n", text)):
        plain = _OF_WHOM.match(one) and not _ORDERED.match(one) and one[-1] in ".!" and len(one.split()) > 2
        said = statement_of(one, speaker) if plain else None
        if said is not None and (said.value or said.negated):
            found[one] = None
    return list(found)[:most]


@lru_cache(4_096)
def statement_of(sentence: str, speaker: str = "") -> Statement | None:
    """What a sentence states; None for questions, wishes, opinions, what was once, and what cannot be read.

    Args:
        speaker: who says it, for what they say of themselves.
    """
    text = " ".join(sentence.split()).strip(" .!")
    if speaker:
        text = _MINE.sub(f"{speaker}'s", _IS.sub(f"{speaker} is", _HAVE.sub(f"{speaker} has", text)))
        text = _SELF.sub(speaker, text)
    if not 3 < len(text) <= _LONGEST or _HEDGED.search(text):
        return None
    negated, changed = bool(_NOT.search(text)), bool(_CHANGED.search(text))
    found = _parts(text, changed or negated)
    if found is None:
        return None
    subject, attributes, rest = found
    names = frozenset(terms(" ".join(subject)))
    if not names:
        return None
    words = [word.strip(".,;:'’") for word in _WORD.findall(rest)]
    attributes |= {_OF_WORD[word.lower()] for word in words if word.lower() in _OF_WORD}
    hidden = {stem for word in words if word.lower() in _OF_WORD for stem in terms(word)} | _FILLERS
    value = frozenset(_exact(word) for word in words if _exact(word) and not set(terms(word)) <= hidden)
    return Statement(tuple(sorted(names)), frozenset(attributes), value, negated, changed)


def _exact(word: str) -> str:
    """A value's word: as it stands where it has a digit, else its stem."""
    word = word.lower().removesuffix("'s")
    word = _COUNTED.get(word, word)
    return word if any(letter.isdigit() for letter in word) else " ".join(terms(word))


def _parts(text: str, changed: bool) -> tuple[list[str], set[str], str] | None:
    """Subject, attributes and the rest of a sentence."""
    if match := _BY.match(text):
        return [match["whom"]], {"owner"}, match["value"]
    if match := _OF.match(text):
        return [match["whom"]], _named(match["what"]), match["rest"]
    if match := _HAS.match(text):
        return [match["whom"]], _named(match["what"]), match["rest"][len(match["what"]) :]
    if match := _WE.match(text):
        return [match["whom"]], {"any"}, match["rest"]
    if match := _REACH.match(text):
        return [match["whom"]], {"phone"}, match["rest"]
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
    """A sentence whose verb stands at a place."""
    verb, rest = words[at].lower(), words[at:]
    if verb in ("was", "were") and not changed:
        return None  # an event is over, and says nothing of today
    following = [word.lower().strip(",.") for word in rest[:6]]
    if any(word in _ADDITIVE for word in following):
        return words[:at], {f"+{next(word for word in following if word in _ADDITIVE)}"}, " ".join(rest[1:])
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
    if len(rest) > 2 and rest[1].lower() in ("in", "at", "on"):
        return {"place", "time"}
    return {"is"}


_COUNTED = {
    word: str(n)
    for n, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
}
_MOVES = {"moved": {"place", "time"}, "relocated": {"place"}, "rescheduled": {"time"}, "postponed": {"time"}}


def _named(what: str) -> set[str]:
    """The attribute that "the port of" or "'s favourite food" names."""
    words = [word for word in what.lower().split() if word not in ("new", "old", "current", "former")]
    if words and words[0] in ("favourite", "favorite", "preferred"):
        return {"favourite " + " ".join(terms(" ".join(words[1:])))}
    found = {_OF_WORD[word] for word in words if word in _OF_WORD}
    if not found and words and words[-1] in _MANY:
        return {f"+{words[-1]}"}
    return found or {" ".join(terms(" ".join(words))) or "is"}


def replaces(old: Statement, new: Statement) -> tuple[float, str]:
    """The chance that what a new statement says ends what an old one said, and why; 0 where it does not."""
    if old.subject != new.subject or old.negated:
        return 0.0, ""
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
    numbers = [{word for word in one.value if any(letter.isdigit() for letter in word)} for one in (old, new)]
    if old.value & new.value and not (numbers[0] and numbers[1] and numbers[0] != numbers[1]):
        return 0.0, ""
    name = sorted(shared)[0]
    sure = 0.95 if new.changed else 0.85
    return sure, f"another {name}" + (", and it says that this is new" if new.changed else "")
