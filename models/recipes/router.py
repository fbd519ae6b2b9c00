"""Train the router's weights so that they carry over to agents never seen, and measure just that.

Everything is cross-fitted by collection: a fold's features come from adapters that never saw it,
and in the leave-one-collection-out measurement nothing of the left-out collection is used at
any level: adapters, fusion or confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from recipes.adapters import train_adapter
from recipes.common import load, minilm, read_json, save
from recipes.fits import fit_fusion, fit_logistic
from recipes.material import REST, Collection, Material
from ruvllm.encoders.cache import CachedEncoder
from ruvllm.encoders.protocol import run_now
from ruvllm.routing.calibration import ece, softmax
from ruvllm.routing.confidence import confidence_row, logistic, scope_row
from ruvllm.routing.fusion import Adapter, AgentVectors, Stage, lexicon
from ruvllm.routing.scorer import Scorer, TaskView
from ruvllm.routing.weights import RouterWeights
from ruvllm.text.lexical import content, stems
from ruvllm.types import Agent

__all__ = ["adapter_without", "familiarity", "leave_one_out", "train"]

_ENCODERS = ("static", "minilm")
_OUTSIDE_PRIOR = 0.05  # share of texts that no agent should take, in a router's daily stream

Floats = NDArray[np.float32]
Features = dict[str, Floats]  # encoder -> (prompts, FEATURES, agents)


def _features(collection: Collection, adapter: Adapter) -> Features:
    out = {}
    for name in _ENCODERS:
        prompts, cards, names = collection.vectors[name]
        agents = AgentVectors(cards, names, adapter)
        stage = Stage(np.zeros(4, np.float32))
        rows = [stage.features(v, agents, adapter, b) for v, b in zip(prompts, collection.bm25, strict=True)]
        out[name] = np.stack(rows)
    return out


def _fit(material: Material, features: dict[str, Features], without: set[str]) -> dict[str, Floats]:
    """Fusion and confidence weights from the collections of the other folds."""
    used = [c for c in material.collections if c.fold not in without and len(c.agents) > 2]
    out = {name: fit_fusion([(features[c.name][name], c.labels) for c in used]) for name in _ENCODERS}
    for stage in _ENCODERS:
        rows, right = [], []
        for c in used:
            logits = _logits(features[c.name], out, stage)
            raw = features[c.name][stage]
            rows += [confidence_row(z, softmax(z), f) for z, f in zip(logits, raw, strict=True)]
            right.append(logits.argmax(1) == c.labels)
        out[f"confidence_{stage}"] = fit_logistic(np.stack(rows), np.concatenate(right))
    return out


def _logits(features: Features, weights: dict[str, Floats], stage: str) -> Floats:
    return np.stack([Stage(weights[stage]).logits(f) for f in features[stage]])


def train(data: Path) -> dict[str, float]:
    """Write router.npz; returns what was measured."""
    material = Material(data)
    found = leave_one_out(material)
    features = {}
    for fold in track(material.folds, description="cross-fit"):
        adapter = adapter_without(material, {fold})
        features |= {c.name: _features(c, adapter) for c in material.collections if c.fold == fold}
    weights = _fit(material, features, set())
    adapter = adapter_without(material, set())
    weights |= _scopes(material, features, adapter, data)
    save(
        "router.npz",
        query_down=adapter.query_down,
        query_up=adapter.query_up,
        card_down=adapter.card_down,
        card_up=adapter.card_up,
        **weights,
    )
    return found


def adapter_without(material: Material, without: set[str]) -> Adapter:
    return train_adapter(material.pairs(without), material.groups(without), material.catalog)


def leave_one_out(material: Material) -> dict[str, float]:
    """Micro-averaged figures on the collections with ten prompts or more, each left out of everything.

    Adapters for the inner cross-fit leave out two folds; one of them serves both orders.
    """
    folds = material.folds
    by_fold = {fold: [c for c in material.collections if c.fold == fold] for fold in folds}
    inner: dict[str, dict[str, Features]] = {fold: {} for fold in folds}  # outer fold -> collection -> features
    for a, b in track(list(combinations(folds, 2)), description="leave one collection out"):
        adapter = adapter_without(material, {a, b})
        inner[a] |= {c.name: _features(c, adapter) for c in by_fold[b]}
        inner[b] |= {c.name: _features(c, adapter) for c in by_fold[a]}
    scored: dict[str, list[tuple[Floats, Floats, NDArray[np.bool_]]]] = {stage: [] for stage in _ENCODERS}
    for fold in folds:
        if fold == REST:
            continue
        weights, adapter = _fit(material, inner[fold], {fold}), adapter_without(material, {fold})
        (collection,) = by_fold[fold]
        features = _features(collection, adapter)
        for stage, rows in scored.items():
            rows.append(_judge(collection, features, weights, stage))
    out: dict[str, float] = {}
    for stage, parts in scored.items():
        ranks, confidence, right = (np.concatenate(column) for column in zip(*parts, strict=True))
        sure = confidence >= 0.9
        row = {
            "top1": (ranks < 1).mean(),
            "top3": (ranks < 3).mean(),
            "top5": (ranks < 5).mean(),
            "ece": ece(confidence, right),
            "coverage_at_0.9": sure.mean(),
            "precision_at_0.9": right[sure].mean() if sure.any() else float("nan"),
        }
        print(f"{stage:7} n={len(ranks)} " + "  ".join(f"{key} {value:.3f}" for key, value in row.items()), flush=True)
        out |= {f"{stage}_{key}": round(float(value), 4) for key, value in row.items()}
    return out


def _judge(
    collection: Collection, features: Features, weights: dict[str, Floats], stage: str
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """(ranks of the right agent, confidences, whether right) of a left-out collection."""
    logits = _logits(features, weights, stage)
    raw = features[stage]
    rows = np.arange(len(logits))
    ranks = (logits > logits[rows, collection.labels][:, None]).sum(1)
    confidence = [
        logistic(confidence_row(z, softmax(z), f), weights[f"confidence_{stage}"])
        for z, f in zip(logits, raw, strict=True)
    ]
    return ranks.astype(np.float32), np.array(confidence, np.float32), logits.argmax(1) == collection.labels


def _scopes(material: Material, features: dict[str, Features], adapter: Adapter, data: Path) -> dict[str, Floats]:
    """P(out of scope) from raw features, for agents without examples."""
    outside = [text for text, _ in read_json(data / "clinc150.json")["train"]][::15]
    out = {}
    for name in _ENCODERS:
        vectors = material.static.encode_now(outside) if name == "static" else material.minilm(outside)
        inside_rows, outside_rows = [], []
        rng = np.random.default_rng(0)
        for c in material.collections:
            inside_rows += [scope_row(f) for f in features[c.name][name]]
            _, cards, names = c.vectors[name]
            agents = AgentVectors(cards, names, adapter)
            picked = rng.choice(len(outside), min(60, len(c.labels)), replace=False)
            outside_rows += [_outside_row(vectors[i], outside[i], c, agents, adapter) for i in picked]
        out[f"scope_{name}"] = _scope_fit(inside_rows, outside_rows)
    return out


def _outside_row(vector: Floats, text: str, c: Collection, agents: AgentVectors, adapter: Adapter) -> Floats:
    stage = Stage(np.zeros(4, np.float32))
    return scope_row(stage.features(vector, agents, adapter, c.lexicon.scores(content(stems(text)))))


def _scope_fit(inside: Sequence[Floats], outside: Sequence[Floats]) -> Floats:
    sizes = (len(inside), len(outside))
    weights = np.repeat(np.array([(1 - _OUTSIDE_PRIOR) / sizes[0], _OUTSIDE_PRIOR / sizes[1]], np.float32), sizes)
    labels = np.repeat([False, True], sizes)
    return fit_logistic(np.stack([*inside, *outside]), labels, weights, penalty=1e-4)


def familiarity(data: Path) -> None:
    """Fit P(out of scope | familiarity) and add it to router.npz.

    Half of CLINC150's classes are the agents, in three draws; validation texts of the other half are outside.
    """
    arrays = load("router.npz")
    blank = {"familiarity": np.zeros(2, np.float32), "recollection": np.zeros(2, np.float32)}
    weights = RouterWeights.from_arrays(blank | arrays)
    encoder = CachedEncoder(minilm())
    rows = read_json(data / "clinc150.json")
    names = sorted({label for _, label in rows["train"]})
    inside: list[Floats] = []
    outside: list[Floats] = []
    for seed, shots in ((0, 10), (1, 10), (2, 50)):
        rng = np.random.default_rng(seed)
        known = {str(name): list[str]() for name in rng.permutation(names)[: len(names) // 2]}
        for i in rng.permutation(len(rows["train"])).tolist():
            text, label = rows["train"][i]
            if label in known and len(known[label]) < shots:
                known[label].append(text)
        agents = [Agent(name, examples=tuple(texts)) for name, texts in known.items()]
        index = lexicon(agents)
        scorer = run_now(Scorer.build(agents, index, encoder, weights.stages["minilm"], weights.adapter))
        vectors = run_now(encoder.encode([text for text, _ in rows["val"]]))
        for vector, (text, label) in zip(vectors, rows["val"], strict=True):
            words = stems(text)
            scored = scorer.score(vector, TaskView(words, index.scores(content(words))))
            row = np.array([scorer.taught.calibration.familiarity(scored.logits, scored.closeness)], np.float32)
            (inside if label in known else outside).append(row)
    save("router.npz", **(arrays | {"familiarity": _scope_fit(inside, outside)}))
