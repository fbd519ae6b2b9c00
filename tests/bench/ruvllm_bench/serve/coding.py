"""Conversations of coding agents as they go over the wire: asks, loops of tools, contexts that grow.

Written, not recorded: no session of anybody's is in it. Lengths are drawn from distributions like those of coding
agents' logs: a long system prompt with its tools, loops of a few calls, results of which a few are very long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EASY = (
    "There's a typo in the heading of {file}, please fix it.", "what does {name} return for an empty list?",
    "Rename {name} to {other}.", "Add a docstring to {name}", "which version of {lib} do we use?",
    "why is this import unused? remove it if nothing needs it", "make the save button in {file} blue",
    "print the value before it is returned", "delete the commented-out block in {file}",
    "what's the command to run a single test?", "mention {lib} in the README", "set the timeout to 30 seconds",
    "show me where {name} is called", "the log message in {name} says 'recieved'", "add {file} to the gitignore",
    "change the default of limit to 50", "is {name} covered by a test?", "add a type hint to the result of {name}",
)  # fmt: skip
_MIDDLING = (
    "Add tests for {name} with an empty input and with a very long one.",
    "write a function that groups orders by customer and adds them up", "/{thing} should take a page parameter",
    "Validate the sign-up form: the address and how long the password is.", "fix the failing test in {file}",
    "{name} returns None for dates before 1970, please find out why.", "turn {file} from callbacks into async code",
    "write a query for customers without any order in the last month", "Keep the results of {name} for five minutes.",
    "retry {name} three times when the server says 503, waiting longer each time",
    "export {thing} as CSV from the admin page", "replace {lib} by what the standard library has in {file}",
    "The dropdown closes when I scroll. It should stay open.", "send a mail when {thing} are older than 30 days",
    "Split {file}: it has 900 lines and does three things.", "add a dark theme to the settings page",
)  # fmt: skip
_HARD = (
    "We lose messages when the broker restarts. Find out why, and make sure that each arrives at least once.",
    "Redesign how {thing} are stored so that customers can be spread over several databases, without downtime.",
    "two workers sometimes book the same seat; make that impossible without locking the whole table",
    "Plan how we get from this one application to separate services, beginning with {thing}.",
    "The importer's memory grows until it is killed after a day. Find the leak.",
    "p99 of /{thing} went from 80 ms to 900 ms since Tuesday, profile it and fix what you find",
    "Write a parser for this grammar that recovers from errors and says what it expected.",
    "Review how we log people in for ways around it, and close those that you find.",
    "{name} gives other results on 1 of 10,000 runs. Find the race and prove that it is gone.",
    "Make the sync work offline: two devices may change the same {thing}, and nothing may get lost.",
    "move us from {lib} to something that scales to 50 nodes, with a way back at each step",
    "Work out why the optimiser picks the wrong plan for the {thing} report, and get it under a second.",
)  # fmt: skip
_GO_ON = ("yes", "go on", "ok, do it", "looks good, continue", "try again", "no, the other one", "yes please", "next")
_SLOTS = {
    "file": ("src/app.py", "parser.ts", "lib/orders.rb", "main.go", "views/cart.tsx", "auth/session.py"),
    "name": ("parse_date", "loadOrders", "merge_carts", "fetchUser", "to_cents", "resolvePath"),
    "other": ("read_date", "getOrders", "join_carts", "user_by_id", "cents_of", "find_path"),
    "lib": ("requests", "lodash", "pandas", "express", "redis", "zod"),
    "thing": ("orders", "invoices", "sessions", "shipments", "reports", "tickets"),
}
_LEVELS = (_EASY, _MIDDLING, _HARD)
_SHARES = (0.45, 0.35, 0.2)
_STAYS, _NEAR = 0.6, 0.02  # share of asks that are near the one before, and how near, by all that there are
_LOOP = 0.3  # share of answers that end a loop of tools
_AGAIN = 0.2  # share of asks that only say to go on
_PAUSED = 0.15  # share of asks that come when caches have forgotten the conversation
_CODE = "def load(self, path): return [line for line in read(path) if line not in self.items] "

TOOLS = [
    {"type": "function", "function": {"name": name, "description": about, "parameters": {"type": "object"}}}
    for name, about in (("read", "reads a file"), ("edit", "edits a file"), ("run", "runs a command"))
]


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a conversation.

    Attributes:
        messages: all of the conversation up to here, as chat completions have them.
        ask: number of what the user said last.
        task: row of what is to be done; who only says to go on has the same.
        looping: whether tools have been called since, and this hands in what they gave.
        paused: whether caches have forgotten the conversation since the turn before.
        answer: tokens that are written.
    """

    messages: Sequence[dict[str, Any]]
    ask: int
    task: int
    looping: bool
    paused: bool
    answer: int


def asks(rng: np.random.Generator, count: int) -> tuple[list[str], NDArray[np.float64]]:
    """(what users ask, how hard each is from 0 to 1), so many, the easy ones first."""
    levels = np.sort(rng.choice(3, count, p=_SHARES))
    hardness = np.clip(rng.normal(np.array([0.25, 0.5, 0.8])[levels], 0.12), 0, 1)
    return [_filled(rng, _LEVELS[level]) for level in levels], hardness


def conversation(rng: np.random.Generator, name: str, texts: Sequence[str]) -> Iterator[Turn]:
    """The 5 to 40 requests of one conversation.

    Args:
        name: of it, which its system prompt says.
        texts: what users ask, those that are alike beside each other: the next ask often is near the one before.
    """
    left, ask, task = int(rng.integers(5, 41)), -1, int(rng.integers(len(texts)))
    system = f"You are a coding agent. Session {name}.\n{_code(rng, int(rng.integers(3_000, 14_000)))}"
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}]
    while left > 0:
        ask += 1
        goes_on = ask > 0 and rng.random() < _AGAIN
        if not goes_on:
            near = round(float(rng.normal(0, len(texts) * _NEAR)))
            task = (task + near) % len(texts) if rng.random() < _STAYS else int(rng.integers(len(texts)))
        messages.append({"role": "user", "content": str(rng.choice(_GO_ON)) if goes_on else texts[task]})
        calls = min(int(rng.geometric(_LOOP)) - 1, 12, left - 1)
        for i in range(calls + 1):
            written = int(rng.lognormal(4.8, 0.7))
            paused = i == 0 and ask > 0 and bool(rng.random() < _PAUSED)
            yield Turn(tuple(messages), ask, task, i > 0, paused, written)
            left -= 1
            messages += _answered(rng, written, f"c{len(messages)}" if i < calls else "")


def _answered(rng: np.random.Generator, written: int, call: str) -> list[dict[str, Any]]:
    """What an assistant wrote, and where it called a tool what that gave."""
    if not call:
        return [{"role": "assistant", "content": _code(rng, written)}]
    function = {"name": str(rng.choice(["read", "edit", "run"])), "arguments": f'{{"text": "{_code(rng, written)}"}}'}
    called = {"id": call, "type": "function", "function": function}
    given = _code(rng, min(int(rng.lognormal(6.3, 1.0)), 12_000))
    return [{"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": call, "content": given}]  # fmt: skip


def _filled(rng: np.random.Generator, texts: Sequence[str]) -> str:
    return str(rng.choice(texts)).format(**{slot: rng.choice(words) for slot, words in _SLOTS.items()})


def _code(rng: np.random.Generator, tokens: int) -> str:
    """Something of about so many tokens."""
    start = int(rng.integers(len(_CODE)))
    text = _CODE[start:] + _CODE[:start]
    return (text * (4 * tokens // len(text) + 1))[: 4 * tokens]
