"""A stream of prompts, each answered by one of several LLMs; how well it did is all that is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm import InputError, RuvLLM
from ruvllm.sizing.selector import BackendProfile

BUDGET = 20.0  # of the mean prompt, in the unit of the prices
_SIZE = re.compile(r"(\d+(?:\.\d+)?)b\b")
_FIX = 'give {"models": ["name-7b", …], "rows": [{"prompt": "…", "scores": [0 to 1 for each model]}]}'


@dataclass(frozen=True, slots=True)
class Prompts:
    """What LLMs made of prompts.

    Attributes:
        prices: float64 (models,), billions of parameters.
        scores: float64 (n, models), 0 to 1.
    """

    models: tuple[str, ...]
    prices: NDArray[np.float64]
    texts: tuple[str, ...]
    scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Means over a stream: score, and price; `single` is the score of the best LLM at that price, known beforehand."""

    quality: float
    price: float
    single: float


def read_prompts(path: Path) -> Prompts:
    """Prompts with the scores of models whose names tell their size. Raises InputError: no such file."""
    try:
        data = json.loads(path.read_text("utf-8"))
        models, rows = tuple(data["models"]), data["rows"]
        prices = np.array([float(_SIZE.findall(name)[-1]) for name in models])
        scores = np.array([row["scores"] for row in rows], np.float64)
        if scores.shape != (len(rows), len(models)) or not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("scores that cannot be")
        return Prompts(models, prices, tuple(str(row["prompt"]) for row in rows), scores)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path} cannot be read: {error}"[:200], field=str(path), fix=_FIX) from None


def best_single(prompts: Prompts) -> int:
    """The number of the one LLM within the budget that is best on the whole."""
    return int(np.where(prompts.prices <= BUDGET, prompts.scores.mean(0), -1).argmax())


def choose(
    prompts: Prompts,
    seed: int,
    length: int,
    learning: Mapping[str, Any],
    advance: Callable[[], None] = lambda: None,
) -> Chosen:
    """Choose for each prompt under the budget, then tell the score.

    Args:
        length: prompts of the stream.
        learning: options of `LearningConfig`; "feedback": False tells nothing at all.
        advance: called after each prompt.
    """
    options = dict(learning)
    tell = options.pop("feedback", True)
    order = np.random.default_rng(seed).permutation(len(prompts.texts))[:length]
    quality, price = list[float](), list[float]()
    with RuvLLM(encoder="static", config={"learning": options}) as llm:
        profiles = [BackendProfile(*pair) for pair in zip(prompts.models, prompts.prices.tolist(), strict=True)]
        chooser = llm.orchestrator(profiles, budget=BUDGET, seed=seed)
        for i in order.tolist():
            choice = chooser.select(prompts.texts[i])
            model = prompts.models.index(choice.backend)
            score = float(prompts.scores[i, model])
            if tell:
                chooser.record_outcome(choice, score > 0.5, score)
            quality.append(score)
            price.append(float(prompts.prices[model]))
            advance()
    single = float(prompts.scores[order, best_single(prompts)].mean())
    return Chosen(float(np.mean(quality)), float(np.mean(price)), single)
