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
from recipes.common import read_json, save
from recipes.fits import fit_fusion, fit_logistic
from recipes.material import REST, Collection, Material
from ruvllm.routing.calibration import ece, log_sum_exp, softmax
from ruvllm.routing.confidence import confidence_row, logistic, scope_row
from ruvllm.routing.fusion import Adapter, AgentVectors, Stage
from ruvllm.routing.head import Examples, Head, held_out_logits
from ruvllm.routing.router import STATIC_SHARE
from ruvllm.text.lexical import content, stems

__all__ = ["leave_one_out", "train"]

_ENCODERS = ("static", "minilm")
_OUTSIDE_PRIOR = 0.05  # of texts that no agent should take, in a router's daily stream

Floats = NDArray[np.float32]
Features = dict[str, Floats]  # encoder -> (prompts, FEATURES, agents)


def _features(collection: Collection, adapter: Adapter) -> Features:
    out = {}
    for name in _ENCODERS:
        prompts, cards, names = collection.vectors[name]
        agents = AgentVectors(cards, names, adapter.cards(cards))
        stage = Stage(np.zeros(4, np.float32))
        rows = [stage.features(v, agents, adapter, b) for v, b in zip(prompts, collection.bm25, strict=True)]
        out[name] = np.stack(rows)
    return out


def _fit(material: Material, features: dict[str, Features], without: set[str]) -> dict[str, Floats]:
    """Fusion and confidence weights from the collections of the other folds."""
    used = [c for c in material.collections if c.fold not in without and len(c.agents) > 2]
    out = {name: fit_fusion([(features[c.name][name], c.labels) for c in used]) for name in _ENCODERS}
    for stage in ("static", "minilm", "both"):
        rows, right = [], []
        for c in used:
            logits = _logits(features[c.name], out, stage)
            raw = features[c.name]["static" if stage == "static" else "minilm"]
            rows += [confidence_row(z, softmax(z), f) for z, f in zip(logits, raw, strict=True)]
            right.append(logits.argmax(1) == c.labels)
        out[f"confidence_{stage}"] = fit_logistic(np.stack(rows), np.concatenate(right))
    return out


def _logits(features: Features, weights: dict[str, Floats], stage: str) -> Floats:
    parts = {name: np.stack([Stage(weights[name]).logits(f) for f in features[name]]) for name in _ENCODERS}
    return parts["minilm"] + np.float32(STATIC_SHARE) * parts["static"] if stage == "both" else parts[stage]


def train(data: Path) -> dict[str, float]:
    """Write router.npz; returns what was measured."""
    material = Material(data)
    found = leave_one_out(material)
    features = {}
    for fold in track(material.folds, description="cross-fit"):
        adapter = _adapter(material, {fold})
        features |= {c.name: _features(c, adapter) for c in material.collections if c.fold == fold}
    weights = _fit(material, features, set())
    adapter = _adapter(material, set())
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


def _adapter(material: Material, without: set[str]) -> Adapter:
    return train_adapter(material.pairs(without), material.groups(without), material.catalog)


def leave_one_out(material: Material) -> dict[str, float]:
    """Micro-averaged figures on the collections with ten prompts or more, each left out of everything.

    Adapters for the inner cross-fit leave out two folds; one of them serves both orders.
    """
    folds = material.folds
    by_fold = {fold: [c for c in material.collections if c.fold == fold] for fold in folds}
    inner: dict[str, dict[str, Features]] = {fold: {} for fold in folds}  # outer fold -> collection -> features
    for a, b in track(list(combinations(folds, 2)), description="leave one collection out"):
        adapter = _adapter(material, {a, b})
        inner[a] |= {c.name: _features(c, adapter) for c in by_fold[b]}
        inner[b] |= {c.name: _features(c, adapter) for c in by_fold[a]}
    scored: dict[str, list[tuple[Floats, Floats, NDArray[np.bool_]]]] = {"static": [], "minilm": [], "both": []}
    for fold in folds:
        if fold == REST:
            continue
        weights, adapter = _fit(material, inner[fold], {fold}), _adapter(material, {fold})
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
    raw = features["static" if stage == "static" else "minilm"]
    rows = np.arange(len(logits))
    ranks = (logits > logits[rows, collection.labels][:, None]).sum(1)
    confidence = [
        logistic(confidence_row(z, softmax(z), f), weights[f"confidence_{stage}"])
        for z, f in zip(logits, raw, strict=True)
    ]
    return ranks.astype(np.float32), np.array(confidence, np.float32), logits.argmax(1) == collection.labels


def _scopes(material: Material, features: dict[str, Features], adapter: Adapter, data: Path) -> dict[str, Floats]:
    """P(out of scope): from raw features for agents without examples, from energy for those with."""
    outside = [text for text, _ in read_json(data / "clinc150.json")["train"]][::15]
    out = {}
    for name in _ENCODERS:
        vectors = material.static.encode_now(outside) if name == "static" else material.minilm(outside)
        inside_rows, outside_rows = [], []
        rng = np.random.default_rng(0)
        for c in material.collections:
            inside_rows += [scope_row(f) for f in features[c.name][name]]
            _, cards, names = c.vectors[name]
            agents = AgentVectors(cards, names, adapter.cards(cards))
            picked = rng.choice(len(outside), min(60, len(c.labels)), replace=False)
            outside_rows += [_outside_row(vectors[i], outside[i], c, agents, adapter) for i in picked]
        out[f"scope_{name}"] = _scope_fit(inside_rows, outside_rows)
    out["scope_energy"] = _energy_scope(material, data)
    return out


def _outside_row(vector: Floats, text: str, c: Collection, agents: AgentVectors, adapter: Adapter) -> Floats:
    stage = Stage(np.zeros(4, np.float32))
    return scope_row(stage.features(vector, agents, adapter, c.lexicon.scores(content(stems(text)))))


def _scope_fit(inside: Sequence[Floats], outside: Sequence[Floats]) -> Floats:
    weights = np.concatenate(
        [np.full(len(inside), (1 - _OUTSIDE_PRIOR) / len(inside)), np.full(len(outside), _OUTSIDE_PRIOR / len(outside))]
    ).astype(np.float32)
    labels = np.repeat([False, True], [len(inside), len(outside)])
    return fit_logistic(np.stack([*inside, *outside]), labels, weights, penalty=1e-4)


def _energy_scope(material: Material, data: Path) -> Floats:
    """From intents: half of CLINC150's classes are the agents, texts of the other half are outside."""
    rows = read_json(data / "clinc150.json")
    labels = sorted({label for _, label in rows["train"]})
    inside_rows, outside_rows = [], []
    for seed, shots in ((0, 10), (1, 10), (2, 50)):
        rng = np.random.default_rng(seed)
        known = {label: i for i, label in enumerate(rng.permutation(labels)[: len(labels) // 2])}
        taught: list[tuple[str, int]] = []
        for label, i in known.items():
            texts = [text for text, own in rows["train"] if own == label]
            taught += [(texts[k], i) for k in rng.permutation(len(texts))[:shots]]
        vectors = material.minilm([text for text, _ in taught])
        zeros = np.zeros((len(taught), len(known)), np.float32)
        examples = Examples(
            vectors,
            [stems(text) for text, _ in taught],
            np.array([i for _, i in taught], np.int64),
            zeros,
            np.ones(len(taught), np.float32),
        )
        held, filled = held_out_logits(examples)
        energy = log_sum_exp(held[filled])
        head = Head.fit(examples)
        texts = [text for text, _ in rows["val"]]
        found = [head.logits(v, stems(text)) for v, text in zip(material.minilm(texts), texts, strict=True)]
        z = (log_sum_exp(np.stack(found)) - energy.mean()) / max(float(energy.std()), 1e-3)
        inner = np.array([own in known for _, own in rows["val"]])
        inside_rows += list(z[inner, None])
        outside_rows += list(z[~inner, None])
    return _scope_fit([r.astype(np.float32) for r in inside_rows], [r.astype(np.float32) for r in outside_rows])
