"""`ruvllm eval decide`: how often typed decisions are right, and whether their probabilities hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np

from ruvllm import InputError, RuvLLM
from ruvllm.cli.console import number, print_json, progress, show_table
from ruvllm.cli.evals.sets import read_intents
from ruvllm.cli.options import encoder_option, json_option
from ruvllm.encoders.protocol import run_now
from ruvllm.routing.calibration import ece

_Item = tuple[str, Any]  # a state and its right answer
_FOLDS = 3  # of the texts of a question


@dataclass(slots=True)
class _Marks:
    """Answers to one kind of question."""

    right: list[bool] = field(default_factory=list)
    sure: list[float] = field(default_factory=list)  # the probability of what was answered
    away: list[float] = field(default_factory=list)  # levels between the score and the right one
    micros: list[float] = field(default_factory=list)

    def row(self, name: str) -> dict[str, Any]:
        """As it is shown."""
        right = np.array(self.right)
        scores = {"set": name, "n": len(right), "accuracy": right.mean(), "ece": ece(np.array(self.sure), right)}
        scores |= {"mae": np.mean(self.away)} if self.away else {}
        scores["p50_ms"] = np.median(self.micros) / 1000
        return {key: round(float(value), 4) if isinstance(value, float) else value for key, value in scores.items()}


@click.command("decide")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--descriptions", type=click.Path(path_type=Path), metavar="FILE", help="{label: what it means}, or ….KEY"
)
@click.option("--key", metavar="NAME", help="The key of the descriptions in that file, where they are not all of it.")
@click.option("--feedbacks", type=click.IntRange(0), default=10, show_default=True, help="Given for each option.")
@click.option("--tests", type=click.IntRange(1), help="Test so many texts, drawn at random; all when left out.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the feedback that is drawn.")
@encoder_option
@json_option
def decide(
    file: Path,
    descriptions: Path | None,
    key: str | None,
    feedbacks: int,
    tests: int | None,
    seed: int,
    encoder: str | None,
    as_json: bool,
) -> None:
    """Ask FILE's questions without an example, and once more after feedback.

    FILE is {"train": [[text, label]…], "test": [[text, label]…]}: one choice among all labels; feedback is drawn from
    `train`. Or {"noul": [{"instructions", "criteria", "half", "yes": […], "no": […]}], "score": [{"instructions",
    "criteria": [level…], "half", "items": [[text, level]…]}]}: yes or no, and ordered levels; after feedback on two
    thirds of a question's texts it is asked about the others. `ece` is of the probability of what is answered, `mae` in
    levels. With --json each line is one object.

    \b
    Examples:
      ruvllm eval decide banking77.json --descriptions tests/data/decide.json --key banking77
      ruvllm eval decide clinc150.json --encoder static --tests 1000
      ruvllm eval decide tests/data/decide.json
    """
    data = _object(file)
    if "train" in data:
        meanings = _object(descriptions) if descriptions else {}
        rows = list(_choice(file, meanings.get(key, {}) if key else meanings, (feedbacks, tests, seed), encoder))
    else:
        rows = [row for kind in ("noul", "score") for row in _typed(kind, data.get(kind, []), encoder)]
    for row in rows if as_json else ():
        print_json(row)
    if not as_json:
        names = ("n", "accuracy", "ece", "mae", "p50_ms")
        table = [(row["set"], *(_cell(row.get(name)) for name in names)) for row in rows]
        show_table(file.name, ("Set", *names), table, right=names)


def _object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}"[:200], field=str(path), fix="give a JSON file") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} holds no object", field=str(path), fix="see --help for what it holds")
    return data


def _choice(
    file: Path, meanings: Mapping[str, str], draws: tuple[int, int | None, int], encoder: str | None
) -> Iterator[dict[str, Any]]:
    data, (feedbacks, tests, seed) = read_intents(file), draws
    draw = np.random.default_rng(seed)
    options = {label: meanings.get(label) for label in data.train}
    question = {"type": "choice", "instructions": "Which of these is it about?", "criteria": options}
    chosen = draw.permutation(len(data.test))[:tests]
    items = [(data.test[i].text, data.test[i].agent) for i in chosen.tolist()]
    lessons = [
        (texts[i], label) for label, texts in data.train.items() for i in draw.permutation(len(texts))[:feedbacks]
    ]
    order = [lessons[i] for i in draw.permutation(len(lessons))]
    name = f"{file.stem}, {len(options)} options" + (" described" if meanings else "")
    with RuvLLM(encoder=encoder) as llm, progress("deciding", 2 * len(items) + len(order)) as advance:
        yield _answered(llm, question, items, _Marks(), advance).row(f"{name}, {llm.encoders.main.name}: no example")
        if order:
            _teach(llm, question, order, advance)
            run_now(llm.decisions.review())
            yield _answered(llm, question, items, _Marks(), advance).row(f"{name}: {feedbacks} feedbacks each")


def _typed(kind: str, questions: Sequence[Mapping[str, Any]], encoder: str | None) -> Iterator[dict[str, Any]]:
    for half in dict.fromkeys(str(one.get("half", "")) for one in questions):
        before, after = _Marks(), _Marks()
        with RuvLLM(encoder=encoder) as llm:
            model = llm.encoders.main.name
            for one in questions:
                if str(one.get("half", "")) == half:
                    question = {"type": kind} | {key: one[key] for key in ("instructions", "criteria") if key in one}
                    _answered(llm, question, [item[:2] for item in _items(kind, one)], before)
        for one in questions:
            if str(one.get("half", "")) != half:
                continue
            question = {"type": kind} | {key: one[key] for key in ("instructions", "criteria") if key in one}
            for fold in range(_FOLDS):
                items = list(_items(kind, one))
                with RuvLLM(encoder=encoder) as llm:
                    _teach(llm, question, [(text, right) for text, right, place in items if place % _FOLDS != fold])
                    tested = [(text, right) for text, right, place in items if place % _FOLDS == fold]
                    _answered(llm, question, tested, after)
        yield before.row(f"{kind}, {half} half, {model}: no example")
        yield after.row(f"{kind}, {half} half: feedback on two thirds of the texts")


def _items(kind: str, one: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Each text, its right answer, and its place among those of the same answer."""
    items = one["items"] if kind == "score" else [(text, name == "yes") for name in ("yes", "no") for text in one[name]]
    places: Counter[Any] = Counter()
    for text, right in items:
        yield text, right, places[right]
        places[right] += 1


def _answered(
    llm: RuvLLM, question: Any, items: Sequence[_Item], marks: _Marks, advance: Callable[[], None] = lambda: None
) -> _Marks:
    llm.decide("warm up", {"it": question})
    for text, right in items:
        began = perf_counter()
        answer = llm.decide(text, {"it": question})["it"]
        marks.micros.append((perf_counter() - began) * 1e6)
        best = max(answer.probabilities, key=answer.probabilities.__getitem__)
        marks.right.append(best == (str(right).lower() if question["type"] == "noul" else str(right)))
        marks.sure.append(answer.probabilities[best])
        if question["type"] == "score":
            marks.away.append(abs(float(answer.value) - right))
        advance()
    return marks


def _teach(llm: RuvLLM, question: Any, items: Sequence[_Item], advance: Callable[[], None] = lambda: None) -> None:
    for text, right in items:
        llm.feedback_decision(llm.decide(text, {"it": question}).id, right)
        advance()


def _cell(value: Any) -> str:
    return "-" if value is None else number(value, 3) if isinstance(value, float) else str(value)
