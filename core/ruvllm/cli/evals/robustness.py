"""`ruvllm eval robustness`: whether a task keeps its agent when it is written otherwise."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import click

from ruvllm import RuvLLM
from ruvllm.cli.console import number, print_json, progress, show_table
from ruvllm.cli.evals.sets import read_agent_set
from ruvllm.cli.options import encoder_option, json_option

_PADDING = 100_000  # characters
_WORD = re.compile(r"[A-Za-z]{4,}")
_FRAMES = ("could you please {}", "{} - thanks!", "Hi team, {}", "task: {}", "I would like you to {}")
_FILLER = (
    "The old ferry;A visitor from the north;Our neighbour;The choir;A grey heron;The museum guide;My great aunt;"
    "The station master;A street musician;The baker next door;One of the hikers;The retired captain",
    "crossed the square;waited for the rain to stop;told a long story;lost a glove;counted the boats;fed the ducks;"
    "painted the fence;hummed a tune;mended a kite;sold the last apples;drew a map;watched the tide",
    "before breakfast;in late autumn;on the way home;while the bells rang;under a yellow umbrella;near the mill;"
    "after the concert;with a borrowed lantern;at the edge of town;as every year;without a word;by candlelight",
    "and nobody minded;and the dog barked;which was unusual;to everyone's delight;so the children laughed;"
    "and then it snowed;for no clear reason;as the paper reported;and tea was served;until the lamps went out",
)  # prose that asks nothing, a part of a sentence from each


def _typos(count: int) -> Callable[[str, random.Random], str]:
    """That many slips, each in another of the longer words: a letter dropped, doubled, replaced or swapped."""

    def slip(text: str, rng: random.Random) -> str:
        places = [match.span() for match in _WORD.finditer(text)]
        for start, end in sorted(rng.sample(places, min(count, len(places))), reverse=True):
            at, kind = rng.randrange(start + 1, end - 1), rng.randrange(4)
            new = ("", text[at] * 2, rng.choice("aeiourstn"), text[at + 1] + text[at])[kind]
            text = text[:at] + new + text[at + 1 + (kind == 3) :]
        return text

    return slip


def _padded(place: float) -> Callable[[str, random.Random], str]:
    """The task within lines that ask nothing, at this share of them."""

    def pad(text: str, rng: random.Random) -> str:
        lines, size, filler = list[str](), 0, [parts.split(";") for parts in _FILLER]
        while size < _PADDING:
            lines.append(" ".join(rng.choice(parts) for parts in filler) + ".")
            size += len(lines[-1]) + 1
        lines.insert(round(place * len(lines)), text)
        return "\n".join(lines)

    return pad


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "one typo": _typos(1),
    "two typos": _typos(2),
    "capitals": lambda text, _: text.upper(),
    "small letters, no marks": lambda text, _: re.sub(r"[.,!?;:]", "", text.lower()),
    "phrased politely": lambda text, rng: rng.choice(_FRAMES).format(text),
    "first in 100 kB": _padded(0),
    "in the middle of 100 kB": _padded(0.5),
    "last in 100 kB": _padded(1),
}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--builtin", is_flag=True, help="Route among the built-in agents; only `prompts` is read from FILE.")
@click.option("--most", type=click.IntRange(1), default=100, show_default=True, help="Prompts of each collection.")
@encoder_option
@json_option
def robustness(file: Path, builtin: bool, most: int, encoder: str | None, as_json: bool) -> None:
    """Write FILE's prompts otherwise and see whether they keep their agent.

    FILE is as for `ruvllm eval agents`. Of each change: the share of all prompts that go to the same agent as before,
    and of those that went to the right one. With --json the last line is one object.

    \b
    Examples:
      ruvllm eval robustness prompts.json
      ruvllm eval robustness tasks.json --builtin --most 40
    """
    same: dict[str, list[bool]] = {name: [] for name in CHANGES}
    right: dict[str, list[bool]] = {name: [] for name in CHANGES}
    collections = read_agent_set(file, builtin)
    with progress("routing", len(CHANGES) * sum(len(one.prompts[:most]) for one in collections)) as advance:
        for collection in collections:
            with RuvLLM(collection.agents, encoder=encoder) as llm:
                for prompt in collection.prompts[:most]:
                    before = llm.route(prompt.text, top=0).agent
                    for name, change in CHANGES.items():
                        changed = change(prompt.text, random.Random(f"{name} {prompt.text}"))
                        as_before = llm.route(changed, top=0).agent == before
                        same[name].append(as_before)
                        if before == prompt.agent:
                            right[name].append(as_before)
                        advance()
    rows = {name: {"same": _rate(same[name]), "of_right": _rate(right[name])} for name in CHANGES}
    shown = [(name, number(row["same"], 3), number(row["of_right"], 3)) for name, row in rows.items()]
    title = f"{file.name}: {len(next(iter(same.values())))} prompts"
    show_table(title, ("Written with", "Same agent", "Of those right"), shown, right=("Same agent", "Of those right"))
    if as_json:
        print_json(rows)


def _rate(flags: list[bool]) -> float:
    return round(sum(flags) / len(flags), 4) if flags else 0.0
