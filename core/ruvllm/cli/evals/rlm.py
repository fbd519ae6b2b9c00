"""`ruvllm eval decompose` and `ruvllm eval longdoc`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from ruvllm import InputError, RuvLLM
from ruvllm.cli.console import number, plain, print_json, show_table
from ruvllm.cli.evals.sets import read_graded, read_labelled_queries, read_questions
from ruvllm.cli.options import json_option
from ruvllm.encoders.families import FAMILIES
from ruvllm.encoders.protocol import run_now

_FILE = Path("tests/data/decompose.json")


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=_FILE)
@click.option("--wrong", is_flag=True, help="List the queries that did not fall apart as expected.")
@json_option
def decompose(file: Path, wrong: bool, as_json: bool) -> None:
    """Take FILE's queries apart and compare with the sub-queries they should fall into.

    FILE is {"queries": [{"query": …, "parts": [sub-query…]}]}; `parts` is empty for a query that must stay whole.
    Case, punctuation, articles and a leading "what is" or "tell me" make no difference. Queries belong to the half
    "dev" or "test" by their hash. `exact` counts queries with just the expected sub-queries, `decision` those where
    splitting or not was right. With --json the last line is one object.

    \b
    Examples:
      ruvllm eval decompose
      ruvllm eval decompose queries.json --wrong
    """
    from ruvllm.cli.evals.rlm_measures import HALVES, Labelled, half_of, measure_decomposition
    from ruvllm.rlm.decompose import RuleDecomposer

    rows = [Labelled(query, parts) for query, parts in read_labelled_queries(file)]
    decomposer = RuleDecomposer()
    decomposer.plan("what is it, and why")  # reads the lexicon before the clock runs
    scores: dict[str, Any] = {}
    for half in HALVES:
        mine = [row for row in rows if half_of(row.query) == half]
        if not mine:
            continue
        found = run_now(measure_decomposition(mine, decomposer))
        scores[half] = found.to_dict()
        for query, right, got in found.wrong if wrong else ():
            click.echo(plain(f"{half}: {query} -> {' | '.join(got) or '-'} (expected {' | '.join(right) or '-'})"))
    names = next(iter(scores.values()))
    table = [(name, *(number(one[name], 0 if name == "n" else 4) for one in scores.values())) for name in names]
    show_table(f"{file.name}: {len(rows)} queries", ("Measure", *scores), table, right=tuple(scores))
    if as_json:
        print_json(scores)


@click.command()
@click.argument("text", type=click.Path(path_type=Path))
@click.argument("questions", type=click.Path(path_type=Path))
@click.option(
    "--encoder", type=click.Choice(["static", *FAMILIES]), default="static", show_default=True, help="What reads it."
)
@json_option
def longdoc(text: Path, questions: Path, encoder: str, as_json: bool) -> None:
    """Index the file TEXT and see how often the passages found for QUESTIONS hold the answer.

    QUESTIONS is {"questions": [{"question": …, "answer": …}]}; an answer is a few words that stand in the text as they
    are, or a list of such. `top3` is the share of the questions where one of the three best passages holds one, `said`
    that where the extractive answer does. A page is 2,500 characters. With --json the last line is one object.

    \b
    Examples:
      ruvllm eval longdoc manual.txt questions.json
    """
    from ruvllm.cli.evals.rlm_measures import measure_document

    try:
        content = text.read_text("utf-8", "replace")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{text} cannot be read ({reason})", field=str(text), fix="check the path") from None
    pairs = read_questions(questions)
    with RuvLLM(encoder=encoder) as llm:
        scores = run_now(measure_document(content, pairs, llm.encoders.main))
    rows = [(name, number(value, 0 if isinstance(value, int) else 3)) for name, value in scores.items()]
    show_table(f"{text.name}: {len(pairs)} questions", ("Measure", "Value"), rows, right=("Value",))
    if as_json:
        print_json(scores | {"encoder": encoder})


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("tests/data/graded_answers.json"))
@click.option(
    "--encoder", type=click.Choice(["static", *FAMILIES]), default="static", show_default=True, help="What reads it."
)
@json_option
def answers(file: Path, encoder: str, as_json: bool) -> None:
    """Grade the answers in FILE without a model, and compare with whether people call them good.

    FILE is {"questions": [{"question": …, "source": …, "good": [answer…], "bad": [answer…]}]}. A grade says how far an
    answer is borne out by the sentence of its source that answers the question. `auroc` is the chance that a good
    answer has a higher grade than a bad one, `right` the share on the right side of 0.5.

    \b
    Examples:
      ruvllm eval answers
      ruvllm eval answers graded.json --encoder ruvltra --json
    """
    from ruvllm.cli.evals.metrics import auroc
    from ruvllm.inference.passages import Passage
    from ruvllm.rlm.reading import grade

    grades: dict[bool, list[float]] = {True: [], False: []}
    with RuvLLM(encoder=encoder) as llm:
        reader = llm.encoders.main
        for question, source, answer, is_good in read_graded(file):
            vectors = llm.embed([question, source])
            passage = Passage(source, 1, float(vectors[0] @ vectors[1]))
            grades[is_good].append(run_now(grade(question, answer, [passage], reader)))
    good, bad = np.array(grades[True]), np.array(grades[False])
    right = (int((good >= 0.5).sum()) + int((bad < 0.5).sum())) / max(len(good) + len(bad), 1)
    scores = {"answers": len(good) + len(bad), "auroc": round(auroc(bad, good), 4), "right": round(right, 4)}
    rows = [(name, number(value, 0 if isinstance(value, int) else 3)) for name, value in scores.items()]
    show_table(f"{file.name}: {len(good)} good, {len(bad)} bad", ("Measure", "Value"), rows, right=("Value",))
    if as_json:
        print_json(scores | {"encoder": encoder})
