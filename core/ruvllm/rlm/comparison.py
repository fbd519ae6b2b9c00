"""Queries that set things side by side."""

from __future__ import annotations

import re

from ruvllm.rlm.lexicon import lexicon

__all__ = ["compared"]

_THING = r"(?:(?!\b(?:and|or|vs)\b)[^,?.!;:])+?"
_VIEW = r"(?P<view> (?:for|in|on|as|with|under|when|at|regarding|considering|by) .+)?"


def _pattern(text: str) -> re.Pattern[str]:
    text = text.replace("THING", _THING).replace(" VIEW", _VIEW)
    return re.compile(rf"(?:{text})[?.! ]*", re.IGNORECASE)


_VS = _pattern(r"(?P<a>[^,?.!;:]+?),? (?:vs\.?|versus|v\.) (?P<b>[^,?.!;:]+?) VIEW(?P<tail>)")
_FORMS = (
    _pattern(
        r"(?:please )?(?:compare(?: and contrast)?|contrast) (?P<of>(?:the )?[\w ,-]{2,60}? of )?"
        r"(?P<a>THING)(?:,? (?:and|with|to|against|or) )(?P<b>THING) VIEW"
    ),
    _pattern(r"(?:please )?(?:compare|contrast) (?P<list>[^,?.!;:]+(?:, (?!and )[^,?.!;:]+)+?,? and THING) VIEW"),
    _pattern(
        r"(?:(?:what(?:'s| is| are)|explain|describe) )?(?:the )?(?:main |key |biggest )?(?:similarities and )?"
        r"(?:differences?|distinction) between (?P<a>THING) and (?P<b>THING) VIEW"
    ),
    _pattern(
        r"how (?:does|do|is|are) (?P<a>THING) (?:compared?|differ|different) (?:to|with|from|than) (?P<b>THING) VIEW"
    ),
    _pattern(r"how do (?P<a>\w+) and (?P<b>\w+) (?P<noun>\w+) compare VIEW"),
    _pattern(r"what (?:distinguishes|differentiates|separates) (?P<a>THING) from (?P<b>THING) VIEW"),
    _pattern(
        r"(?:what(?:'s|s| is| was)|wh(?:ich|o)(?: \w+)? (?:is|are|was)) (?:the )?(?:best|more \w+|\w+er)"
        r" VIEW, ?(?P<a>THING) or (?P<b>THING)"
    ),
    _pattern(r"which (?:one )?should (?:i|we) \w+(?: first)? VIEW, ?(?P<a>THING) or (?P<b>THING)"),
    _pattern(r"should (?:i|we) (?:choose|use|pick|buy|get|go with|take|prefer) (?P<a>THING) or (?P<b>THING) VIEW"),
)
_SPLIT = re.compile(r",? and |, ", re.IGNORECASE)
_SIGNALS = ("compar", "contrast", "differ", "vs", "versus", " or ", "disti", "separates", " v. ")
_GERUND = re.compile(r"\w+ing\b", re.IGNORECASE)  # "leasing and buying a car"
_RANGES = re.compile(r"\bin (?:temperature|price|time|age|height|size|number)s? between\b", re.IGNORECASE)


def compared(text: str) -> list[str]:
    """What is compared, each with the point of view; empty if nothing is."""
    lower = text.lower()
    if not any(signal in lower for signal in _SIGNALS) or _RANGES.search(text):
        return []
    if match := _VS.fullmatch(text):
        return _versus(match)
    for form in _FORMS:
        if match := form.fullmatch(text):
            return _sides(match.groupdict())
    return []


def _sides(found: dict[str, str | None]) -> list[str]:
    view, of = found.get("view") or "", found.get("of") or ""
    noun = f" {found['noun']}" if found.get("noun") else ""
    listed = found.get("list")
    things = _SPLIT.split(listed) if listed else [(found["a"] or "").strip(), (found["b"] or "").strip()]
    if not lexicon().bare.isdisjoint(thing.lower() for thing in things):
        return []
    if _GERUND.fullmatch(things[0]) and (object := _GERUND.match(things[-1])):
        things = [*(f"{thing}{things[-1][object.end() :]}" for thing in things[:-1]), things[-1]]
    if not of:
        return [f"{thing}{noun}{view}" for thing in things]
    aspects = _SPLIT.split(of.strip().removesuffix(" of"))
    return [f"{aspect} of {thing}{view}" for aspect in aspects for thing in things]


def _versus(match: re.Match[str]) -> list[str]:
    """What only the right side ends with belongs to both: "a 5 vs b 8 camera" compares the cameras."""
    left, right, view = match["a"].strip(), match["b"].strip(), match["view"] or ""
    shared = right.split()[len(left.split()) :]
    tail = f" {' '.join(shared)}" if shared and len(left.split()) > 1 else ""
    right = right.removesuffix(tail) if tail else right
    return [f"{left}{tail}{view}", f"{right}{tail}{view}"]
