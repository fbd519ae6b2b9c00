"""Fusion, and how sure a zero-shot decision may be: fitted on collections that no encoder or adapter has seen.

RuvLTRA has learnt from most of them. The encoder that its training started from has not, and stands in its place here;
the collections that are shown are left out of every training, and there RuvLTRA speaks for itself.

Collections are weighed by the root of their prompts, and drawn subsets of their agents stand beside them, so that the
weights hold for sets of any size. Left out one by one they show what the confidence is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.common import RUNS, encode, load, read_json, save, static
from recipes.fits import fit_fusion, fit_logistic
from recipes.material import Encode
from recipes.tasks import traps
from ruvllm.agents.catalog import card, spoken_name
from ruvllm.encoders.families import FAMILIES, RUVLTRA, Family
from ruvllm.encoders.protocol import unit_rows
from ruvllm.routing.calibration import CONFIDENCE_FEATURES, confidence_row, ece, logistic, scope_row, softmax
from ruvllm.routing.fusion import FEATURES, Adapter, AgentVectors, RouterWeights, Stage, lexicon
from ruvllm.text.lexical import content, stems
from ruvllm.types import Agent

Floats = NDArray[np.float32]

_LEAST, _MOST, _AGENTS = 8, 200, 250  # prompts of a collection, and agents beside those that a prompt is for
_BEFORE = RUNS / "start" / RUVLTRA.model
# Near twins of each other or of training data, assistants of any subject, and prompts that do not tell their agent.
_NOT = (
    *("openclaw/skills", "sickn33/antigravity-awesome-skills", "davila7/claude-code-templates"),
    *("lobehub/lobe-chat-agents", "charleswiltgen/axiom", "JosiahSiegel/claude-plugin-marketplace"),
    "gkkirsch/gkkirsch-claude-plugins",
)
_SHOWN = ("HeshamFS/materials-simulation-skills", "dotnet/skills", "akin-ozer/cc-devops-skills", "ClawBio/ClawBio")
_SIZES = (5, 12, 30, 100)  # of subsets of a collection's agents
_ELSEWHERE = 15  # prompts of a subset's agents, to one whose agent is not in it
_PENALTY, _OUTSIDE_PRIOR = 3e-3, 0.05
_DRAWS = 50


@dataclass(frozen=True, slots=True)
class _Set:
    """One collection under one encoder.

    Attributes:
        features: (FEATURES, agents) of each decision, raw: first among all agents, at last texts that are no task.
        labels: the right one's number among them; -1 where it is not among them.
        whole: decisions among all agents.
    """

    features: list[Floats]
    labels: list[int]
    whole: int

    def rows(self, stage: Stage) -> tuple[Floats, NDArray[np.bool_], Floats]:
        """(confidence features, whether right, weights) of the decisions by these weights."""
        found, right = [], []
        for features, label in zip(self.features[: len(self.labels)], self.labels, strict=True):
            logits = stage.logits(features)
            found.append(confidence_row(logits, softmax(logits), features))
            right.append(int(logits.argmax()) == label)
        each = np.where(np.arange(len(right)) < self.whole, np.float32(1), np.float32(0.5))
        return np.stack(found), np.array(right), each / np.sqrt(each.sum())

    def scopes(self) -> tuple[Floats, Floats]:
        """Scope features of tasks among all agents, and of texts that are none."""
        inside, outside = self.features[: self.whole], self.features[len(self.labels) :]
        return np.stack([scope_row(one) for one in inside]), np.stack([scope_row(one) for one in outside])


def fit(data: Path) -> dict[str, float]:
    """Write fusion, confidence and scope of each router.npz; returns what leaving collections out shows."""
    collections, found = _collections(data), dict[str, float]()
    for family in FAMILIES.values():
        name = family.artifact("router.npz")
        arrays = load(name)
        blank = np.zeros(len(CONFIDENCE_FEATURES) + 1, np.float32)
        weights = RouterWeights.from_arrays({key: blank if "confidence" in key else arrays[key] for key in arrays})
        for stage in weights.stages:
            sets = {
                key: _read(agents, pairs, _reader(stage, family, key), weights.adapter)
                for key, (agents, pairs) in collections.items()
            }
            found |= _left_out(stage, sets, weights.stages[stage])
            arrays[stage] = _fusion(sets, "")
            arrays[f"confidence_{stage}"] = _confidence(sets, "", Stage(arrays[stage]))
            inside, outside = (
                np.concatenate(rows) for rows in zip(*[one.scopes() for one in sets.values()], strict=True)
            )
            sizes = len(inside), len(outside)
            each = np.repeat(np.float32([(1 - _OUTSIDE_PRIOR) / sizes[0], _OUTSIDE_PRIOR / sizes[1]]), sizes)
            labels = np.repeat([False, True], sizes)
            arrays[f"scope_{stage}"] = fit_logistic(np.concatenate([inside, outside]), labels, each, penalty=1e-4)
        save(name, **arrays)
    return found


def _collections(data: Path) -> Mapping[str, tuple[list[Agent], list[tuple[str, int]]]]:
    """Agents and (prompt, agent's number) by collection."""
    raw = read_json(data / "agent_prompts_2.json")
    agents = read_json(data / "agent_prompts.json")["agents"] | raw["agents"]
    prompts: dict[str, list[tuple[str, str]]] = {}
    for row in raw["prompts"]:
        prompts.setdefault(row["collection"], []).append((row["prompt"], row["agent"]))
    rng, out = np.random.default_rng(0), {}
    for name, rows in prompts.items():
        keys = [key for key in raw["collections"][name] if key in agents and agents[key]["name"].strip()]
        number = {key: i for i, key in enumerate(keys)}
        pairs = [(text, number[key]) for text, key in rows if key in number and text.strip()]
        if name not in _NOT and len(pairs) >= _LEAST and len(keys) > 2:
            pairs = [pairs[i] for i in rng.permutation(len(pairs))[:_MOST]]
            right = np.unique([label for _, label in pairs])
            others = rng.permutation(np.setdiff1d(np.arange(len(keys)), right))[:_AGENTS]
            chosen = np.sort(np.concatenate([right, others]))
            among = [agents[keys[i]] for i in chosen.tolist()]
            rows = [(text, int(np.searchsorted(chosen, label))) for text, label in pairs]
            out[name] = [Agent(agent["name"], agent["description"]) for agent in among], rows
    return out


def _reader(stage: str, family: Family, collection: str) -> Encode:
    """The encoder of a stage, as it was before it learnt from this collection."""
    if stage == "static":
        return static().encode_now
    learnt = family is RUVLTRA and collection not in _SHOWN
    projection, model = load(family.artifact("space.npz"))["projection"], _BEFORE if learnt else None
    return lambda texts: unit_rows(encode(texts, family=family, model=model).astype(np.float32) @ projection)


def _read(agents: list[Agent], pairs: list[tuple[str, int]], read: Encode, adapter: Adapter) -> _Set:
    rng = np.random.default_rng(0)
    labels, none = np.array([label for _, label in pairs]), traps(1)
    none = [none[i] for i in rng.permutation(len(none))[: max(5, len(pairs) // 5)]]
    texts = [text for text, _ in pairs] + none
    vectors = read(texts)
    cards, names = read([card(agent) for agent in agents]), read([spoken_name(agent.name) for agent in agents])
    words, blank = [content(stems(text)) for text in texts], Stage(np.zeros(len(FEATURES), np.float32))
    everyone = np.arange(len(agents))
    features, right_ones, outside = list[Floats](), list[int](), list[Floats]()
    for size in (len(agents), *(size for size in _SIZES if size * 1.5 <= len(agents))):
        among, asked = everyone, np.arange(len(texts))
        if size < len(agents):
            right = rng.permutation(np.unique(labels))[: max(2, size // 2)]
            others = rng.permutation(np.setdiff1d(everyone, right))[: size - len(right)]
            among = np.sort(np.concatenate([right, others]))
            here = np.isin(labels, among)
            asked = np.flatnonzero(here)
            asked = np.append(asked, rng.permutation(np.flatnonzero(~here))[: len(asked) // _ELSEWHERE])
        index = lexicon([agents[i] for i in among])
        some = AgentVectors(cards[among], names[among], adapter)
        for i in asked.tolist():
            one = blank.rows(vectors[i], some, adapter, index.scores(words[i]))[:-1]
            if i < len(pairs):
                features.append(one)
                here = np.flatnonzero(among == labels[i])
                right_ones.append(int(here[0]) if len(here) else -1)
            else:
                outside.append(one)
    return _Set(features + outside, right_ones, len(pairs))


def _fusion(sets: Mapping[str, _Set], without: str) -> Floats:
    """Weights of the features, by what is right among all agents of each collection but one."""
    used = [one for name, one in sets.items() if name != without]
    return fit_fusion([(np.stack(one.features[: one.whole]), np.array(one.labels[: one.whole])) for one in used])


def _confidence(sets: Mapping[str, _Set], without: str, stage: Stage) -> Floats:
    parts = [one.rows(stage) for name, one in sets.items() if name != without]
    return fit_logistic(*(np.concatenate(part) for part in zip(*parts, strict=True)), _PENALTY)


def _left_out(stage: str, sets: Mapping[str, _Set], before: Stage) -> dict[str, float]:
    """ECE, and how much can be used at a precision of 0.95, of collections that were left out.

    Of a hundred prompts the ECE is seldom below 0.1, however right the confidence: `ece_by_chance` is what it would
    be if every prompt were right with just the probability given. `top1_before` is by the fusion weights before.
    """
    found, rng = {}, np.random.default_rng(0)
    for name in _SHOWN:
        one, fused = sets[name], Stage(_fusion(sets, name))
        weights = _confidence(sets, name, fused)
        rows, right = (part[: one.whole] for part in one.rows(fused)[:2])
        sure = np.array([logistic(row, weights) for row in rows])
        precision = np.cumsum(right[np.argsort(-sure)]) / np.arange(1, len(sure) + 1)
        enough = np.flatnonzero(precision >= 0.95)
        used = sure >= 0.9
        row = {
            "top1_before": one.rows(before)[1][: one.whole].mean(),
            "top1": right.mean(),
            "ece": ece(sure, right),
            "ece_by_chance": np.mean([ece(sure, rng.random(len(sure)) < sure) for _ in range(_DRAWS)]),
            "bias": sure.mean() - right.mean(),
            "coverage_at_0.9": used.mean(),
            "precision_at_0.9": right[used].mean() if used.any() else 1.0,
            "coverage_at_precision_0.95": (enough.max() + 1) / len(sure) if len(enough) else 0.0,
        }
        print(
            f"{stage:8} {name[:24]:24} n={len(sure)} " + "  ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True
        )
        found |= {f"{stage}_{name.partition('/')[0]}_{key}": round(float(value), 4) for key, value in row.items()}
    return found
