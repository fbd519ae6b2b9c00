"""Train how difficult a prompt is for a weak and a strong LLM, and measure it by five folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import track

from recipes.common import read_json, save, static
from ruvllm.cli.evals.metrics import tier_scores
from ruvllm.encoders.families import RUVLTRA
from ruvllm.sizing.difficulty import Difficulty, folds_of

_MODELS = ("weak", "strong")


def train(data: Path) -> dict[str, float]:
    """Write tiers.npz; returns what five folds measured, each left out of everything."""
    rows = read_json(data / "tiers_mmlu.json")
    texts = [row["prompt"] for row in rows]
    right = np.array([[row[name] == "True" for name in _MODELS] for row in rows])
    vectors = static().encode_now(texts)
    fold = folds_of(texts, 5)
    found = []
    for number in track(range(5), description="tiers"):
        known, asked = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        learnt = Difficulty.fit([texts[i] for i in known], vectors[known], right[known], _MODELS, "static")
        told = learnt.batch([texts[i] for i in asked], vectors[asked])
        found.append(tier_scores(told[:, 1] - told[:, 0], *right[asked].T))
    space = RUVLTRA.space(vectors.shape[1])
    save("tiers.npz", **Difficulty.fit(texts, vectors, right, _MODELS, "static", space).arrays())
    return {name: round(float(np.mean([getattr(one, name) for one in found])), 4) for name in ("apgr", "auroc")}
