"""Conversational English from our own grammar (conversation_data/*.toml), to distil encoders from.

Meaning is spread on purpose: a topic is drawn, then a template, then its words, then perhaps
an opener and a context. Grammar slips are welcome: people make them too.
"""

from __future__ import annotations

import random
import re
import tomllib
from pathlib import Path

_SLOT = re.compile(r"\{(\w+)\}")
_DATA = Path(__file__).with_name("conversation_data")


def _load(only: str) -> tuple[dict[str, list[str]], list[list[str]]]:
    """(vocabulary by slot name, templates by topic) of the files of that name, which part them by ';'."""
    words: dict[str, list[str]] = {}
    topics: list[list[str]] = []
    for file in sorted(_DATA.glob(f"{only}.toml")):
        data = tomllib.loads(file.read_text("utf-8"))
        words |= {slot: _items(text) for slot, text in data.get("words", {}).items()}
        topics += [_items(text) for text in data.get("topics", {}).values()]
    return words, topics


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(";") if item.strip()]


def _typo(text: str, rng: random.Random) -> str:
    """One letter dropped, or two swapped."""
    at = rng.randrange(1, max(2, len(text) - 1))
    return (
        text[:at] + text[at + 1 :]
        if rng.random() < 0.5
        else text[: at - 1] + text[at : at + 1] + text[at - 1] + text[at + 1 :]
    )


def _dress(body: str, words: dict[str, list[str]], rng: random.Random) -> str:
    """An opener, a context, capitals and marks, or none of them."""
    if rng.random() < 0.45:
        body = f"{rng.choice(words['opener'])} {body}"
    if rng.random() < 0.2:
        body = f"{body} {rng.choice(words['context'])}"
    if rng.random() < 0.25:
        body = body[0].upper() + body[1:] + rng.choice((".", "?", "!", "."))
    return _typo(body, rng) if rng.random() < 0.03 else body


def sentences(n: int, seed: int = 0, only: str = "*") -> list[str]:
    """`n` distinct sentences, the same for the same seed, from all files or only those of a name."""
    rng = random.Random(seed)
    words, topics = _load(only)
    out: dict[str, None] = {}
    while len(out) < n:
        body = rng.choice(rng.choice(topics))
        while (slot := _SLOT.search(body)) is not None:
            body = body[: slot.start()] + rng.choice(words[slot[1]]) + body[slot.end() :]
        out[_dress(body, words, rng)] = None
    return list(out)
