"""Dates in English texts: ISO and European ones, names of months and days, and what is said relative to a day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

_MONTHS_WORDS = "january february march april may june july august september october november december "
_MONTHS = _MONTHS_WORDS.split()
_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_COUNTS = {word: n for n, word in enumerate(_NUMBERS)} | {"a": 1, "an": 1, "couple": 2, "few": 3}
_UNIT_DAYS = {"day": 1, "week": 7, "fortnight": 14, "weekend": 7}
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_LONGEST = 20_000  # characters that are looked at
_MOST = 32  # dates of a text
_MOST_DAYS, _MOST_MONTHS = 28, 36  # from so many days on a span is of months

_MONTH = r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"  # noqa: E501
_DAY = rf"({'|'.join(_DAYS)})"
_COUNT = rf"(\d{{1,4}}|{'|'.join(_COUNTS)})(?:\s+of)?"
_UNIT = r"(day|week|weekend|fortnight|month|year)s?"
_GRAMMAR = re.compile(
    r"(?<![\w.-])(?:"
    r"(?P<iso>(\d{4})-(\d{1,2})(?:-(\d{1,2}))?(?![\d-]))"
    r"|(?P<euro>(\d{1,2})[./](\d{1,2})[./](\d{4}|\d{2}))(?!\d)"
    rf"|(?P<dmy>(\d{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?\s+{_MONTH}(?:,?\s+(\d{{4}}))?)\b"
    rf"|(?P<mdy>{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(\d{{4}}))?)(?!\d)\b"
    rf"|(?P<my>(?:(last|next|this|in|since|until|by|during|early|late|mid)\s+)?{_MONTH}(?:,?\s+(\d{{4}}))?)\b"
    rf"|(?P<ago>{_COUNT}\s+{_UNIT}\s+(ago|earlier|later|before|after|from now|prior to))\b"
    rf"|(?P<in>in\s+{_COUNT}\s+{_UNIT})\b"
    rf"|(?P<unit>(last|next|this|past|previous|coming)\s+{_UNIT})\b"
    rf"|(?P<day>(?:(last|next|this|on)\s+)?{_DAY})\b"
    r"|(?P<season>(?:(last|next|this|in|in the)\s+)?(spring|summer|autumn|fall|winter)(?:\s+(?:of\s+)?(\d{4}))?)\b"
    r"|(?P<near>the day before yesterday|the day after tomorrow|yesterday|today|tonight|tomorrow|last night|"
    r"this morning|this afternoon|this evening)\b"
    r"|(?P<year>(?:in|since|of|during|before|after|until|year)\s+((?:19|20)\d\d))\b"
    r")",
    re.IGNORECASE,
)
# What every date has some of, in small letters: most texts have none, and the grammar takes its time.
_SIGNS = re.compile(
    r"\d|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|day|week|fortnight|month|year|spring|summer|autumn|fall|winter"
    r"|night|tomorrow|this (?:morning|afternoon|evening)"
)
_NEAR = {"yesterday": -1, "last night": -1, "tomorrow": 1, "the day before yesterday": -2, "the day after tomorrow": 2}
_PAST = re.compile(
    r"\b(used to|previous(?:ly)?|former(?:ly)?|originally|at first|back then|earlier|in the past|once|the old"
    r"|(?:was|were|did|had)\b.*\bbefore)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Span:
    """Days from the first to the last, both among them."""

    first: date
    last: date

    def meets(self, other: Span) -> bool:
        """Whether they have a day in common."""
        return self.first <= other.last and other.first <= self.last


def dates_in(text: str, today: date) -> list[Span]:
    """The spans of days that a text speaks of, in order.

    Args:
        today: the day that "yesterday", "last May" and dates without a year count from. A day or month without one is
            the one nearest to it, after "last" the latest that is over, after "next" the first to come.

    `two weeks before 8 May 2023` is one span, counted from the date behind it.
    """
    text = text[:_LONGEST]
    return [span for span, _ in _found(text, today, 0)] if _SIGNS.search(text.lower()) else []


def first_date(value: object, today: date | None = None) -> Span | None:
    """The date that a value of the metadata names, None where it is none: ISO, or as text, seconds since 1970 too."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        if isinstance(value, int | float):
            day = date(1970, 1, 1) + timedelta(seconds=float(value))
            return Span(day, day)
        if not isinstance(value, str):
            return None
        found = _found(value[:200], today or date.today(), 0, most=1)
        return next((span for span, _ in found), None)
    except (ValueError, OverflowError):
        return None


def speaks_of_the_past(text: str) -> bool:
    """Whether a question asks for what held before: "used to", "previously", "former"."""
    return bool(_PAST.search(text[:_LONGEST]))


def date_terms(span: Span, stored: bool = False) -> list[str]:
    """Terms that no text has, for the days of a span ("#2023-05-08"), or for the months of a long one ("#2023-05").

    Args:
        stored: for a memory rather than a question: of the days' months too.
    """
    months, days = list[str](), (span.last - span.first).days + 1
    if days < _MOST_DAYS:
        named = [f"#{span.first + timedelta(n)}" for n in range(days)]
        return list(dict.fromkeys([*named, *(day[:8] for day in named)])) if stored else named
    at = span.first.replace(day=1)
    while at <= span.last and len(months) < _MOST_MONTHS:
        months.append(f"#{at:%Y-%m}")
        at = _months_on(at, 1)
    return months


def _found(text: str, today: date, start: int, most: int = _MOST) -> Iterator[tuple[Span, int]]:
    """(span, where its words end)."""
    count, at = 0, start
    while count < most and (match := _GRAMMAR.search(text, at)):
        at = match.end()
        try:
            span, at = _span(match, text, today)
        except (ValueError, OverflowError):  # no such day
            continue
        if span is not None:
            count += 1
            yield span, at


def _span(match: re.Match[str], text: str, today: date) -> tuple[Span | None, int]:
    kind = next(name for name, value in match.groupdict().items() if value)
    words = [part for part in match.groups() if part is not None][1:]
    if kind == "ago":
        return _counted(words, match, text, today)
    if kind == "near":
        return _one(today + timedelta(_NEAR.get(match[0].lower(), 0))), match.end()
    return _SPANS[kind](words, today), match.end()


def _iso(words: list[str], today: date) -> Span | None:
    year, month, *day = map(int, words)
    return _day(year, month, day[0]) if day else _month(year, month)


def _euro(words: list[str], today: date) -> Span | None:
    day, month, year = map(int, words)
    if month > 12 >= day:  # the American order
        day, month = month, day
    return _day(year + (2000 if year < 70 else 1900) if year < 100 else year, month, day)


def _dmy(words: list[str], today: date) -> Span | None:
    day, month, *year = words
    return _named(int(day), _month_of(month), year, today)


def _mdy(words: list[str], today: date) -> Span | None:
    month, day, *year = words
    return _named(int(day), _month_of(month), year, today)


def _named(day: int, month: int, year: list[str], today: date) -> Span:
    if year:
        return _day(int(year[0]), month, day)
    spans = [_day(today.year + n, month, day) for n in (-1, 0, 1)]
    return min(spans, key=lambda span: abs((span.first - today).days))


def _my(words: list[str], today: date) -> Span | None:
    year = int(words.pop()) if words[-1].isdigit() else 0
    month, way = _month_of(words.pop()), words.pop().lower() if words else ""
    if not year and not way:  # "may" is a verb, "march" too: alone they are no dates
        return None
    return _month(year, month) if year else _nearest(way, month, today, 1)


def _season(words: list[str], today: date) -> Span | None:
    year = int(words.pop()) if words[-1].isdigit() else 0
    month, way = _SEASONS[words.pop().lower()], words.pop().lower() if words else ""
    if not year and not way:
        return None
    if year:
        return Span(date(year, month, 1), _months_on(date(year, month, 1), 3) - timedelta(1))
    return _nearest(way, month, today, 3)


def _nearest(way: str, month: int, today: date, length: int) -> Span:
    """The month or season meant: over after "last", to come after "next", else the latest that has begun."""
    starts = [date(today.year + n, month, 1) for n in (-2, -1, 0, 1)]
    spans = [Span(start, _months_on(start, length) - timedelta(1)) for start in starts]
    if way == "last":
        return next(span for span in reversed(spans) if span.last < today)
    if way in ("next", "until", "by"):
        return next(span for span in spans if span.first > today or span.last >= today)
    if way == "this":
        return spans[2]
    return next(span for span in reversed(spans) if span.first <= today)


def _in(words: list[str], today: date) -> Span | None:
    return _moved(today, words[1].lower(), _count(words[0]))


def _unit(words: list[str], today: date) -> Span | None:
    way, unit = (word.lower() for word in words)
    by = {"this": 0, "next": 1, "coming": 1}.get(way, -1)
    if unit == "weekend":
        saturday = today + timedelta(5 - today.weekday() + 7 * by)
        return Span(saturday, saturday + timedelta(1))
    if unit in _UNIT_DAYS:
        monday = today - timedelta(today.weekday()) + timedelta(by * _UNIT_DAYS[unit])
        return Span(monday, monday + timedelta(6)) if unit != "day" else _one(today + timedelta(by))
    if unit == "month":
        start = _months_on(today.replace(day=1), by)
        return Span(start, _months_on(start, 1) - timedelta(1))
    return Span(date(today.year + by, 1, 1), date(today.year + by, 12, 31))


def _weekday(words: list[str], today: date) -> Span | None:
    day, way = _DAYS.index(words[-1].lower()), words[0].lower() if len(words) > 1 else ""
    ahead = (day - today.weekday()) % 7
    if way == "next":
        return _one(today + timedelta(ahead or 7))
    if way == "this":
        return _one(today - timedelta(today.weekday()) + timedelta(day))
    return _one(today + timedelta(ahead - 7))  # what is told of a day has most often been


def _year(words: list[str], today: date) -> Span | None:
    return Span(date(int(words[0]), 1, 1), date(int(words[0]), 12, 31))


def _counted(words: list[str], match: re.Match[str], text: str, today: date) -> tuple[Span | None, int]:
    """ "two weeks ago", "three days before 8 May"."""
    count, unit, way = _count(words[0]), words[1].lower(), words[2].lower()
    if way == "ago":
        return _moved(today, unit, -count), match.end()
    sign = 1 if way in ("later", "after", "from now") else -1
    if way in ("before", "after", "prior to"):
        behind = next(_found(text, today, match.end(), most=1), None)
        if behind is not None and not text[match.end() : match.end() + 12].strip().startswith((".", ",", ";")):
            return _moved(behind[0].first, unit, sign * count), behind[1]
        return None, match.end()
    return _moved(today, unit, sign * count), match.end()


def _moved(day: date, unit: str, count: int) -> Span:
    """A day, or a month or year around it, so many units on."""
    if unit in _UNIT_DAYS:
        moved = day + timedelta(count * _UNIT_DAYS[unit])
        slack = timedelta(3 if _UNIT_DAYS[unit] > 1 else 0)  # weeks are seldom counted to the day
        return Span(moved - slack, moved + slack)
    if unit == "month":
        start = _months_on(day.replace(day=1), count)
        return Span(start, _months_on(start, 1) - timedelta(1))
    return Span(date(day.year + count, 1, 1), date(day.year + count, 12, 31))


def _count(word: str) -> int:
    return int(word) if word.isdigit() else _COUNTS[word.lower()]


def _month_of(word: str) -> int:
    return next(n for n, name in enumerate(_MONTHS, 1) if name.startswith(word.lower()[:3]))


def _months_on(day: date, count: int) -> date:
    months = day.year * 12 + day.month - 1 + count
    return date(months // 12, months % 12 + 1, 1)


def _one(day: date) -> Span:
    return Span(day, day)


def _day(year: int, month: int, day: int) -> Span:
    return _one(date(year, month, day))


def _month(year: int, month: int) -> Span:
    start = date(year, month, 1)
    return Span(start, _months_on(start, 1) - timedelta(1))


_SPANS = {
    "iso": _iso, "euro": _euro, "dmy": _dmy, "mdy": _mdy, "my": _my, "in": _in, "unit": _unit, "day": _weekday,
    "season": _season, "year": _year,
}  # fmt: skip
