"""Fusion, and how sure a zero-shot decision may be: fitted on collections that no encoder or adapter has seen.

RuvLTRA has learnt from most of them. The encoder that its training started from has not, and stands in its place here;
the collections that are shown are left out of every training, and there RuvLTRA speaks for itself.

Collections are weighed by the root of their prompts, and drawn subsets of their agents stand beside them, so that the
weights hold for sets of any size. Left out one by one they show what the confidence is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
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
from ruvllm.routing.calibration import CONFIDENCE_FEATURES, confidence_row, ece, logistic, scope_row
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
_DRAWS = 200
_TELLING = 40  # prompts of a collection, from which its ECE says something
_GROUPS = (2, 6, 13, 31, 101, 501)  # of set sizes: from each up to below the next


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
            found.append(confidence_row(logits, features))
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
            rows = {key: one.rows(Stage(arrays[stage])) for key, one in sets.items()}
            arrays[f"confidence_{stage}"] = _confidence(rows, "")
            inside, outside = (
                np.concatenate(part) for part in zip(*[one.scopes() for one in sets.values()], strict=True)
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
            one = blank.rows(vectors[i : i + 1], some, [index.scores(words[i])])[0, :-1]
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


_Rows = tuple[Floats, NDArray[np.bool_], Floats]  # as `_Set.rows` gives them


def _confidence(rows: Mapping[str, _Rows], without: str) -> Floats:
    parts = [row for name, row in rows.items() if name != without]
    return fit_logistic(*(np.concatenate(part) for part in zip(*parts, strict=True)), _PENALTY)


def _left_out(stage: str, sets: Mapping[str, _Set], before: Stage) -> dict[str, float]:
    """ECE, and how much can be used at a precision of 0.95, of collections that were left out one by one.

    Of a hundred prompts the ECE is seldom below 0.1, however right the confidence: `ece_by_chance` is what it would
    be if every prompt were right with just the probability given, and `ece_at_most_by_chance` what one draw in twenty
    exceeds. `top1_before` is by the fusion weights before. Fusion is fitted without those that are shown only: one of
    so many collections does not move four weights.
    """
    found, rng, every = dict[str, float](), np.random.default_rng(0), Stage(_fusion(sets, ""))
    rows = {name: one.rows(every) for name, one in sets.items()}
    sizes, sures, rights, gaps = list[Floats](), list[Floats](), list[NDArray[np.bool_]](), list[tuple[float, float]]()
    for name, one in sets.items():
        here = rows
        if name in _SHOWN:
            fused = Stage(_fusion(sets, name))
            here = {key: other.rows(fused) for key, other in sets.items()}
        weights = _confidence(here, name)
        features, right = here[name][:2]
        sure = np.array([logistic(row, weights) for row in features])
        sizes.append(np.exp(features[:, CONFIDENCE_FEATURES.index("log_agents")]))
        sures.append(sure)
        rights.append(right)
        sure, right = sure[: one.whole], right[: one.whole]
        if len(sure) < _TELLING:
            continue
        chance = [ece(sure, rng.random(len(sure)) < sure) for _ in range(_DRAWS)]
        gaps.append((ece(sure, right), float(np.mean(chance))))
        if name in _SHOWN:
            row = {"top1_before": one.rows(before)[1][: one.whole].mean(), **_figures(sure, right)}
            row |= {"ece_by_chance": np.mean(chance), "ece_at_most_by_chance": np.quantile(chance, 0.95)}
            found |= _note(stage, name.partition("/")[0], row, len(sure))
    agents, sure, right = np.concatenate(sizes), np.concatenate(sures), np.concatenate(rights)
    for low, high in pairwise(_GROUPS):
        some = (agents > low - 0.5) & (agents < high - 0.5)
        _note(stage, f"up to {high - 1} agents", _figures(sure[some], right[some]), int(some.sum()))
    mean, by_chance = np.mean(gaps, axis=0)
    return found | _note(stage, f"{len(gaps)}_collections", {"ece": mean, "ece_by_chance": by_chance}, len(gaps))


def _figures(sure: Floats, right: NDArray[np.bool_]) -> dict[str, np.floating | float]:
    precision = np.cumsum(right[np.argsort(-sure)]) / np.arange(1, len(sure) + 1)
    enough, used = np.flatnonzero(precision >= 0.95), sure >= 0.9
    return {
        "top1": right.mean(),
        "ece": ece(sure, right),
        "bias": sure.mean() - right.mean(),
        "coverage_at_0.9": used.mean(),
        "precision_at_0.9": right[used].mean() if used.any() else 1.0,
        "coverage_at_precision_0.95": (enough.max() + 1) / len(sure) if len(enough) else 0.0,
    }


def _note(stage: str, what: str, row: Mapping[str, np.floating | float], count: int) -> dict[str, float]:
    print(f"{stage:8} {what[:24]:24} n={count} " + "  ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True)
    return {f"{stage}_{what}_{key}": round(float(value), 4) for key, value in row.items()}
