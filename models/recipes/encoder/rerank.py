"""Would a second look at the first five agents pay? Late interaction and a cross-encoder, in one table.

The first stage is cosine and BM25, as in `measures`. Its best five are scored again: by MaxSim, each
of the task's tokens against its nearest of the card's (Khattab and Zaharia 2020), or by a
cross-encoder. How much the second score counts is chosen on collections other than the measured ones.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional as F

from recipes import minilm_onnx
from recipes.common import session
from recipes.encoder.bert import Bert, read
from recipes.encoder.cross import FIRST, Below, Cross, read_lists, teach
from recipes.encoder.data import read_corpus
from recipes.encoder.measures import LEXICAL, Held, held_out
from recipes.encoder.states import encode
from recipes.material import GROUPS
from ruvllm.routing.fusion import standardise

_TASK_TOKENS, _CARD_TOKENS = 48, 64
_PAIR_TOKENS, _ROUNDS = 60, 30  # of the timing: the median task and card together
_TRIED = 3.0  # highest weight of the second score

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Scorer = Callable[[Sequence[Ids], Sequence[Sequence[Ids]]], Floats]


@dataclass(frozen=True, slots=True)
class Shortlist:
    """A left-out collection's prompts after the first stage.

    Attributes:
        cards: token ids of each prompt's best five.
        first: (prompts, 5) standard scores, best first.
        right: bool (prompts, 5): where the right card is, if among them.
    """

    tasks: list[Ids]
    cards: list[list[Ids]]
    first: Floats
    right: NDArray[np.bool_]


def _cut(ids: Ids, length: int) -> Ids:
    return ids if len(ids) <= length else np.append(ids[: length - 1], ids[-1])


def shortlist(held: Held, model: Bert) -> Shortlist:
    """The first stage under `model`."""
    vectors = encode(model, [*held.prompts, *held.cards], short=True)
    prompts, cards = np.split(vectors, [len(held.prompts)])
    scores = standardise(prompts @ cards.T) + LEXICAL * held.bm25
    best = np.argsort(-scores, axis=1, kind="stable")[:, :FIRST]
    short = [_cut(ids, _CARD_TOKENS) for ids in held.cards]
    return Shortlist(
        [_cut(ids, _TASK_TOKENS) for ids in held.prompts],
        [[short[i] for i in row] for row in best],
        np.take_along_axis(scores, best, 1),
        best == held.labels[:, None],
    )


def top1(shortlists: Sequence[Shortlist], second: Sequence[Floats], weight: float) -> float:
    """Share of prompts whose right card comes first, with `weight` of the standardised second score."""
    hits = []
    for each, scores in zip(shortlists, second, strict=True):
        first = (each.first + weight * standardise(scores)).argmax(1)
        hits.append(each.right[np.arange(len(first)), first])
    return float(np.concatenate(hits).mean())


def best_weight(shortlists: Sequence[Shortlist], second: Sequence[Floats]) -> float:
    """That with the highest top-1; the least of several."""
    weights = np.linspace(0, _TRIED, 31)
    return float(weights[np.argmax([top1(shortlists, second, weight) for weight in weights])])


def late_interaction(model: Bert) -> Scorer:
    """Mean over the task's tokens of the highest cosine with a token of the card."""
    below = Below(model, model.depth)

    def score(tasks: Sequence[Ids], cards: Sequence[Sequence[Ids]]) -> Floats:
        rows = []
        for task, own in zip(tasks, cards, strict=True):
            said, *others = (F.normalize(states, dim=1) for states in below.of([task, *own]))
            rows.append([float((said @ card.T).amax(1).mean()) for card in others])
        return np.array(rows, np.float32)

    return score


@dataclass(frozen=True, slots=True)
class Row:
    """Top-1 of one group of collections.

    Attributes:
        weight: of the second score, chosen on other groups.
        hindsight: with the weight that suits this group best.
        reachable: share of prompts whose right card is among the five.
    """

    method: str
    group: str
    prompts: int
    first: float
    weight: float
    reranked: float
    hindsight: float
    reachable: float

    def line(self) -> str:
        return (
            f"{self.method:16} {self.group} n={self.prompts}  first {self.first:.3f}  reranked {self.reranked:.3f} "
            f"({self.reranked - self.first:+.3f}, weight {self.weight:.1f})  in hindsight {self.hindsight:.3f}  "
            f"among the five {self.reachable:.3f}"
        )


Groups = Mapping[str, Sequence[Shortlist]]


def _rows(method: str, groups: Groups, second: Mapping[str, Sequence[Floats]]) -> Iterator[Row]:
    for group, lists in groups.items():
        others = [other for other in groups if other != group]
        weight = best_weight(
            [each for other in others for each in groups[other]], [each for other in others for each in second[other]]
        )
        hindsight = top1(lists, second[group], best_weight(lists, second[group]))
        first, reranked = (top1(lists, second[group], share) for share in (0.0, weight))
        reachable = float(np.concatenate([each.right.any(1) for each in lists]).mean())
        prompts = sum(len(each.tasks) for each in lists)
        yield Row(method, group, prompts, first, weight, reranked, hindsight, reachable)


def table(
    data: Path, source: Path, runs: Path, steps: int, joined: int, crossed: Sequence[str] = ("a", "b")
) -> Iterator[Row]:
    """Each method on each group, one row after the other.

    Args:
        source: folder of the untouched model, which the cross-encoder starts from.
        runs: folder of the encoders, each trained without its group.
        joined: layer from which the cross-encoder reads both, and is trained.
        crossed: groups that the cross-encoder learns nothing of; the others' rows are of MaxSim alone.
    """
    encoders = {group: read(runs / group / "model") for group in GROUPS}
    groups = {
        group: [shortlist(held, encoders[group]) for held in held_out(data, set(folds))]
        for group, folds in GROUPS.items()
    }
    scorers = {group: late_interaction(encoders[group]) for group in groups}
    yield from _rows(
        "late interaction",
        groups,
        {group: [scorers[group](each.tasks, each.cards) for each in lists] for group, lists in groups.items()},
    )
    corpus = read_corpus(data, {fold for group in crossed for fold in GROUPS[group]})
    cross = Cross(read(source), joined)
    teach(cross, corpus, read_lists(corpus, read(source), 0), steps, 0)
    unseen = {group: groups[group] for group in crossed}
    scores = {group: [cross.score(each.tasks, each.cards) for each in lists] for group, lists in unseen.items()}
    yield from _rows("cross-encoder", unseen, scores)


def milliseconds(source: Path, layers: int) -> float:
    """Median of an int8 graph with the first `layers` layers over five pairs, on one thread."""
    config = json.loads((source / "config.json").read_text("utf-8")) | {"num_hidden_layers": layers}
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        shutil.copyfile(source / "model.safetensors", folder / "model.safetensors")
        run = session(minilm_onnx.build(folder).SerializeToString())
    ids = np.random.default_rng(0).integers(1000, 20000, (FIRST, _PAIR_TOKENS))
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        run.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))
