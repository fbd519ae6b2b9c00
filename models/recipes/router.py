"""Train the router's weights so that they carry over to agents never seen, and measure just that.

Everything is cross-fitted by collection: a fold's features come from an encoder and adapters that never saw
it. In the leave-one-collection-out measurement, fusion and confidence of a fold are fitted on the others' features;
those come from adapters (and, in other groups, encoders) that did learn from it, which can reach but the few weights
of fusion and confidence that way. The static table is one for all folds: it was distilled from an encoder that saw
them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from recipes.adapters import train_adapter
from recipes.common import ARTIFACTS, contextual, load, read_json, save, static, tokenizer
from recipes.fits import fit_fusion, fit_logistic
from recipes.material import CONTEXTUAL, GROUPS, REST, Collection, Material, shipped
from ruvllm.encoders.cache import CachedEncoder
from ruvllm.encoders.families import Family
from ruvllm.encoders.protocol import run_now, unit_rows
from ruvllm.encoders.static import StaticEncoder
from ruvllm.routing.calibration import confidence_row, ece, energy, logistic, scope_row
from ruvllm.routing.fusion import Adapter, AgentVectors, RouterWeights, Stage, lexicon
from ruvllm.routing.scorer import Scorer, TaskView
from ruvllm.text.lexical import content, stems
from ruvllm.types import Agent

_LINES = 12_000  # weak pairs under an encoder that is only for measuring
_MANY = 1_000  # texts that take long enough for a bar
_OUTSIDE_PRIOR = 0.05  # share of texts that no agent should take, in a router's daily stream

Floats = NDArray[np.float32]
Features = dict[str, Floats]  # encoder -> (prompts, FEATURES, agents)


def _features(collection: Collection, adapter: Adapter) -> Features:
    out = {}
    for name, (prompts, cards, names) in collection.vectors.items():
        agents = AgentVectors(cards, names, adapter)
        stage = Stage(np.zeros(4, np.float32))
        out[name] = stage.rows(prompts, agents, collection.bm25)[:, :-1]
    return out


def cross_fit(material_for: Callable[[str], Material], *, adapted: bool = True) -> dict[str, Features]:
    """Each collection's features, from an encoder and adapters that never saw its fold.

    Args:
        material_for: all of it for a group, under an encoder that learnt nothing of that group.
        adapted: with adapters, or as the encoder gives them.
    """
    found = {}
    for group, folds in GROUPS.items():
        material = material_for(group)
        for fold in track(folds, description=f"cross-fit {group}"):
            adapter = adapter_without(material, {fold}) if adapted else _none(material)
            found |= {c.name: _features(c, adapter) for c in material.collections if c.fold == fold}
    return found


def unseen(data: Path, folder: Path, share: float = 1.0, table: StaticEncoder | None = None) -> Material:
    """Under an encoder that is not shipped, in RuvLTRA's space.

    Args:
        folder: of its weights.
        share: of them, averaged with the untouched.
        table: the static one beside it.
    """
    from recipes.encoder.bert import read
    from recipes.encoder.export import average
    from recipes.encoder.states import encode
    from recipes.minilm_onnx import source_folder

    model, words = average(read(source_folder()), read(folder), share), tokenizer()
    projection = load("space.npz")["projection"]

    def contextual(texts: list[str]) -> Floats:
        ids = [np.array(words.encode(text, 256), np.int64) for text in texts]
        title = f"encode {len(ids)} texts" if len(ids) > _MANY else ""
        return unit_rows(encode(model, ids, title, short=True) @ projection)

    return Material(data, contextual, table, _LINES)


def _none(material: Material) -> Adapter:
    dim = material.catalog.cards.shape[1]
    down, up = np.zeros((dim, 1), np.float32), np.zeros((1, dim), np.float32)
    return Adapter(down, up, down, up)


def _fit(collections: Sequence[Collection], features: dict[str, Features], without: set[str]) -> dict[str, Floats]:
    """Fusion and confidence weights from the collections of the other folds."""
    used = [c for c in collections if c.fold not in without and len(c.agents) > 2]
    stages = list(features[used[0].name])
    out = {name: fit_fusion([(features[c.name][name], c.labels) for c in used]) for name in stages}
    for stage in stages:
        rows, right = [], []
        for c in used:
            logits = _logits(features[c.name], out, stage)
            raw = features[c.name][stage]
            rows += [confidence_row(z, f) for z, f in zip(logits, raw, strict=True)]
            right.append(logits.argmax(1) == c.labels)
        out[f"confidence_{stage}"] = fit_logistic(np.stack(rows), np.concatenate(right))
    return out


def _logits(features: Features, weights: dict[str, Floats], stage: str) -> Floats:
    return np.stack([Stage(weights[stage]).logits(f) for f in features[stage]])


def train(data: Path, family: Family, runs: Path | None = None) -> dict[str, float]:
    """Write a family's router.npz; returns what was measured.

    Args:
        runs: folder of the encoders that were trained without a group each; None where the family's saw none.
    """
    if runs is not None and (missing := [name for name in GROUPS if not (runs / name / "model").exists()]):
        raise SystemExit(f"{runs} has no run {missing[0]}: see `python -m recipes.encoder` in models/README.md")
    material, table = shipped(data, family), static()
    if runs is None:
        features = cross_fit(lambda _: material)
    else:
        features = cross_fit(lambda group: unseen(data, runs / group / "model", table=table))
    found = leave_one_out(material.collections, features)
    adapter = adapter_without(material, set())
    weights = _fit(material.collections, features, set()) | _scopes(material, features, adapter, data)
    name = family.artifact("router.npz")
    kept = load(name) if (ARTIFACTS / name).exists() else {}
    save(
        name,
        query_down=adapter.query_down,
        query_up=adapter.query_up,
        card_down=adapter.card_down,
        card_up=adapter.card_up,
        **{key.replace(CONTEXTUAL, family.name): value for key, value in weights.items()},
        **{key: kept[key] for key in ("familiarity", "recollection") if key in kept},  # steps of their own
    )
    return {key.replace(CONTEXTUAL, family.name): value for key, value in found.items()}


def adapter_without(material: Material, without: set[str]) -> Adapter:
    return train_adapter(material.pairs(without), material.groups(without), material.catalog)


def leave_one_out(collections: Sequence[Collection], features: dict[str, Features]) -> dict[str, float]:
    """Micro-averaged figures on the collections with ten prompts or more, by features that `cross_fit` gave."""
    scored: dict[str, list[tuple[Floats, Floats, NDArray[np.bool_]]]] = {}
    for collection in collections:
        if collection.fold == REST:
            continue
        weights = _fit(collections, features, {collection.fold})
        for stage in features[collection.name]:
            rows = _judge(collection, features[collection.name], weights, stage)
            scored.setdefault(stage, []).append(rows)
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
        print(f"{stage:10} n={len(ranks)} " + "  ".join(f"{key} {value:.3f}" for key, value in row.items()), flush=True)
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
        logistic(confidence_row(z, f), weights[f"confidence_{stage}"]) for z, f in zip(logits, raw, strict=True)
    ]
    return ranks.astype(np.float32), np.array(confidence, np.float32), logits.argmax(1) == collection.labels


def _scopes(material: Material, features: dict[str, Features], adapter: Adapter, data: Path) -> dict[str, Floats]:
    """P(out of scope) from raw features, for agents without examples."""
    outside = [text for text, _ in read_json(data / "clinc150.json")["train"]][::15]
    out = {}
    for name, encode in material.encoders.items():
        vectors = encode(outside)
        inside_rows, outside_rows = [], []
        rng = np.random.default_rng(0)
        for c in material.collections:
            inside_rows += [scope_row(f) for f in features[c.name][name]]
            _, cards, names = c.vectors[name]
            agents = AgentVectors(cards, names, adapter)
            picked = rng.choice(len(outside), min(60, len(c.labels)), replace=False)
            outside_rows += [_outside_row(vectors[i], outside[i], c, agents) for i in picked]
        out[f"scope_{name}"] = _scope_fit(inside_rows, outside_rows)
    return out


def _outside_row(vector: Floats, text: str, c: Collection, agents: AgentVectors) -> Floats:
    stage = Stage(np.zeros(4, np.float32))
    return scope_row(stage.rows(vector[None], agents, [c.lexicon.scores(content(stems(text)))])[0, :-1])


def _scope_fit(inside: Sequence[Floats], outside: Sequence[Floats]) -> Floats:
    sizes = (len(inside), len(outside))
    weights = np.repeat(np.array([(1 - _OUTSIDE_PRIOR) / sizes[0], _OUTSIDE_PRIOR / sizes[1]], np.float32), sizes)
    labels = np.repeat([False, True], sizes)
    return fit_logistic(np.stack([*inside, *outside]), labels, weights, penalty=1e-4)


def familiarity(data: Path, family: Family) -> None:
    """Fit P(out of scope | familiarity) and add it to a family's router.npz.

    Half of CLINC150's classes are the agents, in three draws; validation texts of the other half are outside.
    """
    arrays = load(family.artifact("router.npz"))
    blank = {"familiarity": np.zeros(2, np.float32), "recollection": np.zeros(2, np.float32)}
    weights = RouterWeights.from_arrays(blank | arrays)
    encoder = CachedEncoder(contextual(family))
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
        scorer = run_now(Scorer.build(agents, index, encoder, weights.stages[family.name], weights.adapter))
        vectors = run_now(encoder.encode([text for text, _ in rows["val"]]))
        for vector, (text, label) in zip(vectors, rows["val"], strict=True):
            words = stems(text)
            scored = scorer.score(vector, TaskView(words, index.scores(content(words))))
            row = np.array([scorer.fitted.calibration.familiarity(energy(scored.logits), scored.closeness)], np.float32)
            (inside if label in known else outside).append(row)
    save(family.artifact("router.npz"), **(arrays | {"familiarity": _scope_fit(inside, outside)}))
