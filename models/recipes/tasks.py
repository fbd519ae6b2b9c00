"""Developers' tasks, and texts that are none, from our own grammar (task_data/*.toml): what the built-in agents learn.

A task is an act on an object in a manner. Its label is the agent of the act, whatever the object is about. A third of
the templates and of each slot's words is held out: `tasks(held=True)` gives texts of which neither was in the others.
"""

from __future__ import annotations

import random
import re
import tomllib
from functools import cache
from pathlib import Path
from zlib import crc32

_DATA = Path(__file__).with_name("task_data")
_SLOT = re.compile(r"\{(\w+)\}")
_HELD = 3  # one in so many
_FEW = 12  # words of a slot, up to which both halves have all of them

_BEFORE = (
    *("please", "can you", "could you please", "hey,", "i need you to", "we have to", "let's", "I want to", "now"),
    *("kindly", "todo:", "task:", "next:", "quickly", "hi! please", "ok so", "you must", "somebody should", "Ticket:"),
)
_AFTER = (
    *("please", "thanks", "asap", "by friday", "before the demo", "if you have time", "for the new customer", "today"),
    *("- it is urgent", "when you can", "as we discussed", "for version 2", "in our project", "for me", "thx"),
)
_QUESTION = ("can somebody {}?", "who can {}?", "would you {}?", "is it possible to {}?", "how about we {}?")
_TRACE = (
    'Traceback (most recent call last):\n  File "{}.py", line {}, in run\nValueError: bad value',
    "TypeError: Cannot read properties of undefined (reading '{}')\n    at main.js:{}:12",
    "java.lang.NullPointerException\n\tat com.acme.{}.Main.run(Main.java:{})",
    "panic: runtime error: index out of range\ngoroutine 1 [running]:\n{}.go:{}",
)
_NO_ORDER = re.compile(
    r"(?:the|is|are|why|what|who|does|could|i|we|users|our|there|something|how|where|which|should|a|my|this|exception|"
    r"any|can|let|error|bug|docs|feature|test|unit|refactoring|performance|security|plan|task|openapi|api|system|"
    r"high|architecture|event|hotfix|release|upgrade|migration|strategy|timeline|work|requirements|functional|code|"
    r"faster|second|comments|sanity|load|tests|sdk|pentest|documentation|market|read|go|[{])"
)  # how a template begins that is no order, and does not follow "can you"
_ARTICLES = re.compile(r"\b(the|a|an) ")


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(";") if item.strip()]


@cache
def _load(name: str) -> dict[str, dict[str, list[str]]]:
    data = tomllib.loads((_DATA / f"{name}.toml").read_text("utf-8"))
    return {section: {key: _items(text) for key, text in rows.items()} for section, rows in data.items()}


def _half(items: list[str], held: bool) -> list[str]:
    return [item for item in items if (crc32(item.encode()) % _HELD == 0) == held]


def _words(words: dict[str, list[str]], held: bool) -> dict[str, list[str]]:
    return {slot: items if len(items) <= _FEW else _half(items, held) for slot, items in words.items()}


def _filled(template: str, words: dict[str, list[str]], rng: random.Random) -> str:
    return _SLOT.sub(lambda slot: rng.choice(words[slot[1]]), template)


def typo(text: str, rng: random.Random) -> str:
    """One slip in one of its longer words: a letter dropped, doubled, swapped with the next, or another one."""
    places = [match.span() for match in re.finditer(r"[a-z]{4,}", text)]
    if not places:
        return text
    start, end = rng.choice(places)
    at, kind = rng.randrange(start, end - 1), rng.randrange(4)
    swapped = text[at + 1] + text[at]
    new = ("", text[at] * 2, swapped, rng.choice("abcdefghijklmnopqrstuvwxyz"))[kind]
    return text[:at] + new + text[at + (2 if kind == 2 else 1) :]


def _dressed(body: str, agent: str, rng: random.Random) -> str:
    """In one of the manners in which people write."""
    manner, orders = rng.random(), _NO_ORDER.match(body) is None
    if manner < 0.25 and orders:
        body = f"{rng.choice(_BEFORE)} {body}"
    elif manner < 0.4:
        body = f"{body} {rng.choice(_AFTER)}"
    elif manner < 0.5:
        body = _ARTICLES.sub("", body)
    elif manner < 0.58 and orders:
        body = rng.choice(_QUESTION).format(body)
    elif manner < 0.64 and agent == "debugger":
        body = f"{body}\n{rng.choice(_TRACE).format(rng.choice(['api', 'core', 'app', 'db']), rng.randrange(900))}"
    for _ in range(rng.choice((0, 0, 0, 0, 1, 2))):
        body = typo(body, rng)
    style = rng.random()
    if style < 0.35:
        body = body[0].upper() + body[1:] + rng.choice(("", ".", ".", "!" if agent != "researcher" else "?"))
    return body.upper() if style > 0.99 else body


def tasks(each: int, *, held: bool = False, seed: int = 0) -> list[tuple[str, str]]:
    """(text, agent), up to `each` distinct ones of each agent, fewer where there are few templates."""
    rng, out = random.Random(seed + held), dict[str, str]()
    words = _words(_load("objects")["words"], held)
    for agent, templates in _load("acts")["acts"].items():
        chosen = _half(templates, held)
        for i in range(min(each, 12 * len(chosen))):
            out[_dressed(_filled(chosen[i % len(chosen)], words, rng), agent, rng)] = agent
    return list(out.items())


def contrasts(objects: int, *, seed: int = 0) -> list[list[tuple[str, str]]]:
    """For each of so many draws of objects a list of (text, agent): every act on these objects once."""
    rng, out = random.Random(seed), []
    words = _words(_load("objects")["words"], held=False)
    acts = {agent: _half(templates, held=False) for agent, templates in _load("acts")["acts"].items()}
    for _ in range(objects):
        drawn = {slot: [rng.choice(items)] for slot, items in words.items()}
        rows = [(_filled(rng.choice(templates), drawn, rng), agent) for agent, templates in acts.items()]
        out.append([(_dressed(text, agent, rng), agent) for text, agent in rows])
    return out


def traps(each: int, *, held: bool = False, seed: int = 0) -> list[str]:
    """Texts that no agent should take, up to `each` from each template: once where it has no slot."""
    rng, out = random.Random(seed + held), dict[str, None]()
    data = _load("traps")
    words = _words(data["words"], held)
    for templates in data["topics"].values():
        for template in _half(templates, held):
            for _ in range(each if "{" in template else 1):
                text = _filled(template, words, rng)
                out[text[0].upper() + text[1:] + rng.choice((".", "!", "?", "")) if rng.random() < 0.3 else text] = None
    return list(out)
