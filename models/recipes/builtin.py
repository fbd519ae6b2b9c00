"""What the built-in agents know beyond their examples: the act before the topic, and what is no task at all.

A prior (`ruvllm.routing.head.Prior`) is fitted on the catalog's examples, on tasks of our own grammar and on texts
that are none. How sure it may be is read off texts that it did not see: tasks whose templates and objects were held
out, traps that were held out, and the catalog's examples, each by a head without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.common import encode, load, read_json, save, static
from recipes.conversation import sentences
from recipes.fits import fit_logistic
from recipes.tasks import tasks, traps
from ruvllm.agents.catalog import builtin_agents, builtin_digest, builtin_words, card, spoken_name
from ruvllm.encoders.families import FAMILIES, RUVLTRA, Family
from ruvllm.encoders.protocol import unit_rows
from ruvllm.routing.calibration import CONFIDENCE_FEATURES, confidence_row, energy
from ruvllm.routing.evidence import FIRST
from ruvllm.routing.fusion import AgentVectors, Requirements, RouterWeights, lexicon
from ruvllm.routing.head import LEXICAL_WEIGHT, WIDTH, Head, Prior, minimise
from ruvllm.text.lexical import HashedTfidf, content, stems

Floats = NDArray[np.float32]

_NOBODY = None
_SHARE, _STRENGTH = 0.4, 25.0
_FOLDS, _TOLERANCE = 4, 3e-4
_OUTSIDE_PRIOR = 0.05  # share of texts that no agent should take, in a router's daily stream
_WEIGHTS = {"catalog": 1.0, "tasks": 0.5, "traps": 0.5, "life": 0.3, "assistant": 0.3}  # of a text, in the fit
# Shares in the calibration: mostly tasks of other wording than what the prior learnt from.
_TELLING = {"catalog": 0.19, "held tasks": 0.69, "held traps": 0.08, "held assistant": 0.04}
_EVERYDAY = 3.0  # how much more often tasks are for the agents of the grammar than for the others


@dataclass(frozen=True, slots=True)
class _Rows:
    """Texts under one encoder.

    Attributes:
        labels: int64 (n,), the number of agents for "nobody".
        features: (n, FEATURES, agents), raw.
        zero: (n, agents).
    """

    vectors: Floats
    words: list[list[str]]
    labels: NDArray[np.int64]
    features: Floats
    zero: Floats

    def take(self, rows: NDArray[np.intp]) -> _Rows:
        words = [self.words[i] for i in rows.tolist()]
        return _Rows(self.vectors[rows], words, self.labels[rows], self.features[rows], self.zero[rows])


def _texts(data: Path) -> dict[str, list[tuple[str, str | None]]]:
    """(text, agent) by where they come from; None is nobody."""
    everyday = [text for text, _ in read_json(data / "clinc150.json")["train"]]

    def nobodys(texts: Sequence[str]) -> list[tuple[str, str | None]]:
        return [(text, _NOBODY) for text in texts]

    return {
        "catalog": [(text, agent.name) for agent in builtin_agents() for text in agent.examples],
        "tasks": list(tasks(300)),
        "traps": nobodys(traps(5)),
        "life": nobodys(sentences(1500, only="life")),
        "assistant": nobodys(everyday[::15]),
        "held tasks": list(tasks(60, held=True)),
        "held traps": nobodys(traps(2, held=True)),
        "held assistant": nobodys(everyday[7::60]),
    }


class _Bench:
    """The texts under one encoder, and the fits on them."""

    def __init__(self, name: str, family: Family, texts: dict[str, list[tuple[str, str | None]]]) -> None:
        agents = builtin_agents()
        weights = RouterWeights.from_arrays(load(family.artifact("router.npz")))
        self.stage, self.adapter, self.agents = weights.stages[name], weights.adapter, len(agents)
        projection = load(family.artifact("space.npz"))["projection"]

        def read(some: list[str]) -> Floats:
            if name == "static":
                return static().encode_now(some)
            return unit_rows(encode(some, family=family).astype(np.float32) @ projection)

        cards, names = read([card(agent) for agent in agents]), read([spoken_name(agent.name) for agent in agents])
        self.vectors = AgentVectors(cards, names, self.adapter)
        index, number = lexicon(agents), {agent.name: i for i, agent in enumerate(agents)}
        self.rows = {}
        for kind, rows in texts.items():
            vectors, words = read([text for text, _ in rows]), [stems(text) for text, _ in rows]
            bm25 = [index.scores(content(some)) for some in words]
            scored = self.stage.rows(vectors, self.vectors, bm25)
            features, zero = scored[:, :-1], scored[:, -1]
            labels = np.array([self.agents if agent is None else number[agent] for _, agent in rows])
            self.rows[kind] = _Rows(vectors, words, labels, features, zero)

    def fit(self, without: NDArray[np.intp] | None = None) -> Prior:
        """On what is not held out, and of the catalog's examples on those that are not `without`."""
        parts = {kind: self.rows[kind] for kind in _WEIGHTS}
        if without is not None:
            parts["catalog"] = parts["catalog"].take(np.setdiff1d(np.arange(len(parts["catalog"].labels)), without))
        weights = np.concatenate([np.full(len(rows.labels), _WEIGHTS[k], np.float32) for k, rows in parts.items()])
        tfidf = HashedTfidf.fit([words for rows in parts.values() for words in rows.words], WIDTH)
        x = np.concatenate([_design(rows, tfidf) for rows in parts.values()])
        labels = np.concatenate([rows.labels for rows in parts.values()])
        offsets = np.zeros((len(x), self.agents + 1), np.float32)
        offsets[:, :-1] = np.concatenate([rows.zero for rows in parts.values()]) * _SHARE
        each, shape = np.arange(len(x)), (x.shape[1], self.agents + 1)

        def loss(flat: Floats) -> tuple[float, Floats]:
            w = flat.reshape(shape)
            logits = x @ w + offsets
            logits -= logits.max(1, keepdims=True)
            powers = np.exp(logits)
            total = powers.sum(1, keepdims=True)
            value = float(((np.log(total[:, 0]) - logits[each, labels]) * weights).sum())
            powers /= total
            powers[each, labels] -= 1
            slope = x.T @ (powers * weights[:, None]) + w / np.float32(_STRENGTH)
            return value + float(np.vdot(w, w)) / 2 / _STRENGTH, slope.ravel()

        found = minimise(loss, np.zeros(shape[0] * shape[1], np.float32), _TOLERANCE).reshape(shape)
        blank = np.zeros((2, len(CONFIDENCE_FEATURES) + 2), np.float32), np.zeros((2, 2), np.float32)
        steps, scale = _steps(found)
        return Prior(Head(steps * scale, tfidf), np.float32(_SHARE), *blank)

    def logits(self, prior: Prior, rows: _Rows) -> Floats:
        """(n, agents + 1)."""
        out: Floats = _design(rows, prior.head.tfidf) @ prior.head.weights
        out[:, :-1] += rows.zero * prior.zero_weight
        return out

    def unseen(self, prior: Prior) -> dict[str, Floats]:
        """Logits of the texts that tell how sure to be, by heads that did not see them."""
        out = {kind: self.logits(prior, self.rows[kind]) for kind in _TELLING}
        fold = np.random.default_rng(0).permutation(len(self.rows["catalog"].labels)) % _FOLDS
        for k in range(_FOLDS):
            held = np.flatnonzero(fold == k)
            out["catalog"][held] = self.logits(self.fit(held), self.rows["catalog"].take(held))
        return out

    def arrays(self, prior: Prior) -> dict[str, NDArray[np.generic]]:
        """What a start needs."""
        cards, names = self.vectors.cards.astype(np.float16), self.vectors.names.astype(np.float16)
        steps, scale = _steps(prior.head.weights)
        terms, idf = zip(*sorted(prior.head.tfidf.idf.items()), strict=True)
        return {
            "cards": cards,
            "names": names,
            "prior": steps.astype(np.int8),
            "prior_scale": scale,
            "prior_terms": np.diff(np.array(terms, np.uint32), prepend=np.uint32(0)),  # small numbers pack well
            "prior_idf": np.array(idf, np.float16),
            "prior_zero_weight": np.array(prior.zero_weight, np.float32),
            "prior_confidence": prior.confidence,
            "prior_scope": prior.scope,
        }


def _steps(weights: Floats) -> tuple[Floats, Floats]:
    """(whole numbers from -127 to 127, what one of them is worth in each column)."""
    scale = np.maximum(np.abs(weights).max(0), 1e-6) / np.float32(127)
    return np.rint(weights / scale), scale.astype(np.float32)


def _design(rows: _Rows, tfidf: HashedTfidf) -> Floats:
    dim = rows.vectors.shape[1]
    x = np.zeros((len(rows.labels), dim + tfidf.width), np.float32)
    x[:, :dim] = rows.vectors
    tfidf.fill(x[:, dim:], rows.words, LEXICAL_WEIGHT)
    return x


def _calibrated(bench: _Bench, logits: dict[str, Floats], candidates: dict[str, list]) -> tuple[Floats, Floats]:
    """(weights of confidence, slope and intercept of scope): among all agents, and once more among some of them."""
    found, right, outside, weights, daily = [], [], [], [], []
    rng = np.random.default_rng(0)
    named = [i for i, agent in enumerate(builtin_agents()) if agent.name in {name for _, name in tasks(1)}]
    for kind, share in (*_TELLING.items(), *_TELLING.items()):
        rows, some = bench.rows[kind], len(outside) >= len(_TELLING)
        nobody = rows.labels == bench.agents
        for i, row in enumerate(logits[kind]):
            among = np.arange(bench.agents) if candidates[kind][i] is None else candidates[kind][i]
            if some:
                drawn = rng.permutation(among)[: rng.integers(6, 40)]
                among = np.union1d(drawn, rows.labels[i : i + 1] if not nobody[i] else drawn[:1])
            own = row[among]
            score = np.float32(row[-1] - energy(own))
            found.append(np.append(confidence_row(own, rows.features[i][:, among]), score))
            right.append(int(among[own.argmax()]) == rows.labels[i])
        outside.append(nobody)
        often = np.where(np.isin(rows.labels, named), np.float32(_EVERYDAY), np.float32(1))
        weights.append(often * np.float32(share / often.sum()))
        daily.append(np.full(len(nobody), share / len(nobody), np.float32))
    x, out, each = np.stack(found), np.concatenate(outside), np.concatenate(daily)
    each[out] *= _OUTSIDE_PRIOR / each[out].sum()
    each[~out] *= (1 - _OUTSIDE_PRIOR) / each[~out].sum()
    confidence = fit_logistic(x, np.array(right), np.concatenate(weights), penalty=1e-3)
    return confidence, fit_logistic(x[:, -1:], out, each, penalty=1e-4)


def build(data: Path) -> dict[str, float]:
    """Write builtin.npz and the like of each family; returns what held-out texts show."""
    texts, digest = _texts(data), np.array(builtin_digest())
    required = Requirements([entries for _, entries in builtin_words().values()])
    candidates = {kind: [required.candidates(stems(text)) for text, _ in texts[kind]] for kind in _TELLING}
    measured: dict[str, float] = {}
    first: dict[str, Floats] = {}
    for name, family in (("static", RUVLTRA), *((family.name, family) for family in FAMILIES.values())):
        bench = _Bench(name, family, texts)
        prior = bench.fit()
        logits = bench.unseen(prior)
        alone = _calibrated(bench, logits, candidates)
        joint = alone
        if name == "static":
            first = logits
        elif family is RUVLTRA:  # in the cascade the static scores come before
            logits = {kind: rows + np.float32(FIRST) * first[kind] for kind, rows in logits.items()}
            joint = _calibrated(bench, logits, candidates)
        confidence, scope = (np.stack(pair) for pair in zip(alone, joint, strict=True))
        prior = replace(prior, confidence=confidence, scope=scope)
        arrays = {f"{name}.{key}": value for key, value in bench.arrays(prior).items()}
        save("builtin.npz" if name == "static" else family.builtin, digest=digest, **arrays)
        for kind in ("catalog", "held tasks"):
            right = logits[kind][:, :-1].argmax(1) == bench.rows[kind].labels
            measured[f"{name}_{kind.replace(' ', '_')}"] = round(float(right.mean()), 4)
    return measured
