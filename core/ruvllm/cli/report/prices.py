"""What tokens of a model cost: list prices as they were when this was written, and a user's own file over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import click

from ruvllm import InputError
from ruvllm.cli.hook.session import read_toml
from ruvllm.types import Tier


class Tokens(NamedTuple):
    """How many; those read from a cache or written to one are not in `input`."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    def plus(self, other: Tokens) -> Tokens:
        """The sum of both."""
        return Tokens(*(a + b for a, b in zip(self, other, strict=True)))


class Price(NamedTuple):
    """US dollars for a million tokens."""

    input: float
    output: float
    cache_read: float
    cache_write: float

    def of(self, tokens: Tokens) -> float:
        """US dollars for these."""
        return sum(a * b for a, b in zip(self, tokens, strict=True)) / 1e6


def _anthropic(input: float, output: float) -> Price:
    return Price(input, output, input * 0.1, input * 1.25)


def _openai(input: float, output: float, cached: float = 0.1) -> Price:
    return Price(input, output, input * cached, input)


# A model has the price of the longest of these that its name begins with, wherever in the name that is.
_PRICES = {
    "claude-opus": _anthropic(5, 25),
    "claude-opus-4-0": _anthropic(15, 75),
    "claude-opus-4-1": _anthropic(15, 75),
    "claude-opus-4-2": _anthropic(15, 75),  # claude-opus-4-20250514
    "claude-3-opus": _anthropic(15, 75),
    "claude-sonnet": _anthropic(3, 15),
    "claude-3": _anthropic(3, 15),
    "claude-haiku": _anthropic(1, 5),
    "claude-3-5-haiku": _anthropic(0.8, 4),
    "claude-3-haiku": _anthropic(0.25, 1.25),
    "gpt-5": _openai(1.25, 10),
    "gpt-5-mini": _openai(0.25, 2),
    "gpt-5-nano": _openai(0.05, 0.4),
    "gpt-4.1": _openai(2, 8, 0.25),
    "gpt-4.1-mini": _openai(0.4, 1.6, 0.25),
    "o3": _openai(2, 8, 0.25),
    "o4-mini": _openai(1.1, 4.4, 0.25),
}
_LARGE = ("opus", "sonnet", "fable", "gpt-5", "gpt-4.1", "o3")
_SMALL = ("haiku", "mini", "nano", "flash", "small")
_SMALLER = {"claude": "claude-haiku-4-5", "codex": "gpt-5-mini", "opencode": "claude-haiku-4-5"}


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by the beginnings of models' names.

    Attributes:
        table: as described; a name of "" prices what nothing else does.
        smaller: client -> the model that a small task is priced with.
    """

    table: Mapping[str, Price]
    smaller: Mapping[str, str]

    def of(self, model: str) -> Price | None:
        """Of a model; None where nobody said what it costs."""
        name = model.lower().rpartition("/")[2]
        fitting = [key for key in self.table if name.startswith(key)]
        return self.table[max(fitting, key=len)] if fitting else None

    def tier(self, model: str) -> Tier | None:
        """Which tier a model is of, by its name; None where that says nothing."""
        name = model.lower()
        if any(word in name for word in _SMALL):
            return Tier.SMALL
        return Tier.LARGE if any(word in name for word in _LARGE) else None


def load_prices(file: Path | None) -> Prices:
    """The prices that are known here, with those of a TOML file over them.

    Args:
        file: `[models."claude-haiku"]` tables of `input`, `output`, and perhaps `cache_read` and `cache_write`, in
            US dollars for a million tokens, and `[smaller]` with a model for each client; the user's `prices.toml`
            when None, where there is one.

    Raises:
        InputError: the file that was named cannot be read, or a price is no number from 0.
    """
    row = read_toml(file or Path(click.get_app_dir("ruvllm")) / "prices.toml")
    if file is not None and not row:
        raise InputError(f"{file} holds no prices", field="prices", fix='write TOML: [models."my-model"] input = 1.0 …')
    table, smaller = dict(_PRICES), dict(_SMALLER)
    models = row.get("models", {})
    for name, one in models.items() if isinstance(models, dict) else ():
        table[name.lower()] = _price(name, one)
    changed = row.get("smaller", {})
    smaller |= (
        {key: name for key, name in changed.items() if isinstance(name, str)} if isinstance(changed, dict) else {}
    )
    return Prices(table, smaller)


def _price(name: str, row: Any) -> Price:
    values = dict(row) if isinstance(row, dict) else {}
    values.setdefault("cache_read", values.get("input"))
    values.setdefault("cache_write", values.get("input"))
    for key in Price._fields:
        value = values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
            fix = "give input and output in US dollars for a million tokens"
            raise InputError(f"the price {key} of {name!r} is no number"[:200], field=f"models.{name}.{key}", fix=fix)
    return Price(*(float(values[key]) for key in Price._fields))
