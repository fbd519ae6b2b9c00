"""`ruvllm eval memory`: whether questions about a conversation find the turns that answer them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np

from ruvllm import InputError, RuvLLM
from ruvllm.cli.console import number, plain, print_json, progress, show_table
from ruvllm.cli.options import encoder_option, json_option
from ruvllm.memory.found import answerable
from ruvllm.memory.subgraph import Edge
from ruvllm.state.record import OBSERVED, SESSION, SPEAKER, Memory

_NAMES = {1: "multi-hop", 2: "time", 3: "open", 4: "single-hop", 5: "not answerable"}
_UNANSWERABLE = 5
_SEARCHES = {"vectors": "vectors", "bm25": "words"}
_FIX = (
    'give {"conversations": [{"turns": [{"id", "session", "when", "speaker", "text"}], "questions": [{"question",'
    ' "evidence": [turn ids], "category"}]}]}'
)


@dataclass(frozen=True, slots=True)
class _Answered:
    """How one question fared.

    Attributes:
        turns, sessions, ndcg: recall of its evidence among the first k turns, that of their sessions among the first k
            sessions, and nDCG@k; NaN where nothing answers it.
        confidence: that memory holds an answer.
        ms: of the search, without encoding.
    """

    category: int
    turns: float
    sessions: float
    ndcg: float
    confidence: float
    ms: float


@click.command("memory")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-k", "k", type=click.IntRange(1, 100), default=10, show_default=True, help="Hits that count.")
@click.option("--baseline", type=click.Choice(list(_SEARCHES)), help="Vectors or words (BM25) alone.")
@encoder_option
@json_option
def eval_memory(file: Path, k: int, baseline: str | None, encoder: str | None, as_json: bool) -> None:
    """Remember FILE's conversations and ask its questions.

    FILE has LoCoMo's form: {"conversations": [{"turns": [{"id", "session", "when", "speaker", "text"}], "questions":
    [{"question", "evidence": [turn ids], "category"}]}]}. Category 5 has no answer: it counts for `abstention`
    alone, the chance that an answerable question is trusted more than one that is not (AUROC).

    \b
    Examples:
      ruvllm eval memory locomo.json
      ruvllm eval memory locomo.json --baseline bm25
      ruvllm eval memory locomo.json --encoder static --json
    """
    conversations = _read(file)
    found = list[_Answered]()
    with RuvLLM(encoder=encoder) as llm, progress("asking", sum(len(one["questions"]) for one in conversations)) as on:
        for place, one in enumerate(conversations):
            found += _measured(llm, f"conversation {place}", one, k, _SEARCHES.get(baseline or ""), on)
    report = _report(found)
    columns = ("Questions", "n", f"turn R@{k}", f"session R@{k}", f"nDCG@{k}")
    rows = [(name, *(number(value, 0 if at == 0 else 3) for at, value in enumerate(row.values()))) for name, row in
            report["categories"].items()]  # fmt: skip
    show_table(plain(f"{file.name}: {len(found)} questions"), columns, rows, right=columns[1:])
    abstention = report["abstention_auroc"]
    click.echo(
        f"abstention AUROC {number(abstention, 3) if abstention is not None else '-'}, p50 {report['p50_ms']} ms"
    )
    if as_json:
        print_json(report | {"k": k, "baseline": baseline})


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        conversations = json.loads(file.read_text("utf-8"))["conversations"]
        for one in conversations:
            for turn in one["turns"]:
                if not isinstance(turn["id"], str) or not isinstance(turn["text"], str):
                    raise ValueError("a turn's id and text are strings")
            for question in one["questions"]:
                if not isinstance(question["question"], str) or not isinstance(question["evidence"], list):
                    raise ValueError("a question is a string, its evidence a list")
        return list(conversations)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {error!r:.200}", field=str(file), fix=_FIX) from None


def _measured(
    llm: RuvLLM, collection: str, conversation: Mapping[str, Any], k: int, search: str | None, advance: Any
) -> list[_Answered]:
    turns = [turn for turn in conversation["turns"] if turn["text"].strip()]
    metadata = [
        {
            name: turn[key]
            for name, key in ((SPEAKER, "speaker"), (SESSION, "session"), (OBSERVED, "when"))
            if key in turn
        }
        for turn in turns
    ]
    new = [Memory(turn["text"], metadata=about) for turn, about in zip(turns, metadata, strict=True)]
    ids = llm.memory.add(new, collection=collection)
    together = [a.get(SESSION) == b.get(SESSION) for a, b in pairwise(metadata)]
    llm.memory.graph.link_all(
        Edge(b, a, "Follows") for (a, b), same in zip(pairwise(ids), together, strict=True) if same
    )
    place = {turn["id"]: i for turn, i in zip(turns, ids, strict=True)}
    session = dict(zip(ids, (str(about.get(SESSION)) for about in metadata), strict=True))
    found = list[_Answered]()
    for question in conversation["questions"]:
        evidence = {place[id] for id in question["evidence"] if id in place}
        category = int(question.get("category", 0))
        if evidence or category == _UNANSWERABLE:
            found.append(_answered(llm, collection, question["question"], category, evidence, session, k, search))
        advance()
    return found


def _answered(
    llm: RuvLLM,
    collection: str,
    question: str,
    category: int,
    evidence: set[int],
    session: Mapping[int, str],
    k: int,
    search: str | None,
) -> _Answered:
    sessions = llm.memory.search_sessions(question, k, collection=collection, search=search)  # encodes the question
    begun = perf_counter()
    hits = llm.memory.search(question, k, collection=collection, search=search)
    ms = 1_000 * (perf_counter() - begun)
    ids = [hit.memory.id for hit in hits]
    confidence = answerable(hits) if search is None else hits[0].score if hits else 0.0
    if category == _UNANSWERABLE:
        return _Answered(category, math.nan, math.nan, math.nan, confidence, ms)
    wanted = {session[i] for i in evidence}
    gains = sum(1 / math.log2(2 + place) for place, i in enumerate(ids) if i in evidence)
    best = sum(1 / math.log2(2 + place) for place in range(min(len(evidence), k)))
    by_session = len(wanted & {one.session for one in sessions}) / len(wanted)
    return _Answered(category, len(evidence & {*ids}) / len(evidence), by_session, gains / best, confidence, ms)


def _report(found: Sequence[_Answered]) -> dict[str, Any]:
    groups = defaultdict[str, list[_Answered]](list)
    for one in found:
        if one.category != _UNANSWERABLE:
            groups["all"].append(one)
            groups[_NAMES.get(one.category, f"category {one.category}")].append(one)
    return {
        "categories": {
            name: {
                "n": len(some),
                "turn_recall": float(np.mean([one.turns for one in some])),
                "session_recall": float(np.mean([one.sessions for one in some])),
                "ndcg": float(np.mean([one.ndcg for one in some])),
            }
            for name, some in groups.items()
        },
        "abstention_auroc": _auroc(
            [one.confidence for one in found if one.category != _UNANSWERABLE],
            [one.confidence for one in found if one.category == _UNANSWERABLE],
        ),
        "p50_ms": round(float(np.median([one.ms for one in found])), 3) if found else 0.0,
    }


def _auroc(right: Sequence[float], wrong: Sequence[float]) -> float | None:
    """The chance that one of `right` is above one of `wrong`; None where either is empty."""
    if not right or not wrong:
        return None
    low = np.sort(np.array(wrong))
    above, equal = np.searchsorted(low, right, "left"), np.searchsorted(low, right, "right")
    return float((above + equal).mean() / (2 * len(low)))
