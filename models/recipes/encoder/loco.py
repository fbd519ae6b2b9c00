"""The full hybrid on collections that were left out, with encoders that never saw them.

Training an encoder for each collection would take days, so the folds are put into four groups, with
an encoder and an adapter for each that learnt nothing of the whole group: a collection's features come
from those of its own group. Fusion and confidence of a left-out fold are fitted on the other folds'
features. One thing is laxer than in the router's own measurement: those features come from
encoders which, but for the fold's own group, did learn from it; it can reach but the few weights
of fusion and confidence that way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.adapters import Group, Pairs, train_adapter
from recipes.common import read_json, tokenizer
from recipes.encoder.bert import Bert, read
from recipes.encoder.data import Corpus, Rows, collections_of, fold_of, read_corpus
from recipes.encoder.export import average
from recipes.encoder.states import encode
from recipes.fits import fit_fusion, fit_logistic
from recipes.material import REST
from ruvllm.agents.catalog import card, spoken_name
from ruvllm.routing.calibration import ece, softmax
from ruvllm.routing.confidence import confidence_row, logistic
from ruvllm.routing.fusion import Adapter, AgentVectors, Stage, lexicon
from ruvllm.text.lexical import content, stems
from ruvllm.types import Agent

__all__ = ["GROUPS", "leave_groups_out"]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "a": ("contains-studio/agents", "davila7/claude-code-templates", "pedroid999/test-claude-code-agents"),
    "b": ("lokki007/claude-agents", "edspencer/claude-agents"),
    "c": ("virtexvirtuoso/claude-code-agents", "ersinkoc/claude-code-subagents", "chintanmehta21/claude-agents"),
    "d": (
        "servesys-labs/claude-agents",
        "vijaythecoder/awesome-claude-agents",
        "kentin0-fiz0l/claude-agents",
        "resolve109/claude-agents",
        REST,
    ),
}
_LINES = 6000  # weak pairs an adapter learns from
_SURE = 0.9
_WIDTH = 384

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Measured:
    """A collection's features (prompts, FEATURES, agents) from models of its own group."""

    fold: str
    features: Floats
    labels: NDArray[np.int64]


def leave_groups_out(
    data: Path, folders: Mapping[str, Path], source: Path, share: float, adapted: bool
) -> dict[str, float]:
    """Micro averages over the folds of one collection.

    Args:
        folders: group -> folder of the encoder that was trained without it.
        source: folder of the untouched model.
        share: of the tuned weights, averaged with the untouched.
        adapted: with the router's adapters on top, or without.
    """
    measured: list[_Measured] = []
    for group, folds in GROUPS.items():
        measured += _features(data, set(folds), average(read(source), read(folders[group]), share), adapted)
    ranks, confidences = [], []
    for fold in sorted({each.fold for each in measured} - {REST}):
        used = [each for each in measured if each.fold != fold and each.features.shape[2] > 2]
        stage = Stage(fit_fusion([(each.features, each.labels) for each in used]))
        trust = _trust(used, stage)
        for each in measured:
            if each.fold == fold:
                logits = _logits(each.features, stage)
                right = logits[np.arange(len(logits)), each.labels][:, None]
                ranks.append((logits > right).sum(1))
                confidences.append([logistic(row, trust) for row in _rows(logits, each.features)])
    place, sure = np.concatenate(ranks), np.concatenate(confidences)
    right = place < 1
    high = sure >= _SURE
    found = {
        "prompts": len(place),
        "top1": right.mean(),
        "top3": (place < 3).mean(),
        "top5": (place < 5).mean(),
        "ece": ece(sure.astype(np.float32), right),
        "coverage_at_0.9": high.mean(),
        "precision_at_0.9": right[high].mean() if high.any() else float("nan"),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def _logits(features: Floats, stage: Stage) -> Floats:
    return np.stack([stage.logits(each) for each in features])


def _rows(logits: Floats, features: Floats) -> list[Floats]:
    return [confidence_row(z, softmax(z), f) for z, f in zip(logits, features, strict=True)]


def _trust(used: Sequence[_Measured], stage: Stage) -> Floats:
    rows, right = [], []
    for each in used:
        logits = _logits(each.features, stage)
        rows += _rows(logits, each.features)
        right.append(logits.argmax(1) == each.labels)
    return fit_logistic(np.stack(rows), np.concatenate(right))


def _features(data: Path, folds: set[str], model: Bert, adapted: bool) -> list[_Measured]:
    adapter = train_adapter(*_material(read_corpus(data, folds), model)) if adapted else _no_adapter()
    raw, words, out = read_json(data / "agent_prompts.json")["agents"], tokenizer(), []
    for name, asked in collections_of(data).items():
        fold = fold_of(name, asked)
        if fold not in folds:
            continue
        keys = [key for key in raw if key.startswith(f"{name}::") and raw[key]["name"].strip()]
        agents = [Agent(raw[key]["name"], raw[key]["description"]) for key in keys]
        prompts, cards, names = (
            encode(model, [np.array(words.encode(text, 256), np.int64) for text in texts])
            for texts in ([text for text, _ in asked], list(map(card, agents)), [spoken_name(a.name) for a in agents])
        )
        vectors, index, blank = AgentVectors(cards, names, adapter), lexicon(agents), Stage(np.zeros(4, np.float32))
        rows = [
            blank.features(vector, vectors, adapter, index.scores(content(stems(text))))
            for vector, (text, _) in zip(prompts, asked, strict=True)
        ]
        out.append(_Measured(fold, np.stack(rows), np.array([keys.index(key) for _, key in asked])))
    return out


def _no_adapter() -> Adapter:
    down, up = np.zeros((_WIDTH, 1), np.float32), np.zeros((1, _WIDTH), np.float32)
    return Adapter(down, up, down, up)


def _material(corpus: Corpus, model: Bert) -> tuple[Pairs, list[Group], Group]:
    """What the adapter learns from: as written, nothing augmented but the weak lines."""

    def vectors(texts: Sequence[int]) -> Floats:
        return encode(model, [corpus.texts.ids[i] for i in texts], short=True)

    cards = vectors(corpus.cards)
    picked = np.sort(np.random.default_rng(0).permutation(len(corpus.weak.cards))[:_LINES])
    lines = vectors([corpus.weak.tasks[i][0] for i in picked])

    def group(name: str, rows: Rows) -> Group:
        among = np.array(sorted(corpus.among[name]))
        tasks = vectors([wordings[0] for wordings in rows.tasks])
        return Group(name, tasks, cards[among], np.searchsorted(among, rows.cards))

    groups = [group(name, rows) for name, rows in corpus.prompts.items()]
    return Pairs(lines, cards, corpus.weak.cards[picked]), groups, group("builtin", corpus.catalog)
