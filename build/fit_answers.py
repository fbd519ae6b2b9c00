"""What answers without an LLM are worth on tests/data/answers.json, and the weights that fit it.

python build/fit_answers.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ruvllm import RuvLLM
from ruvllm.encoders.protocol import Encoder, run_now
from ruvllm.inference.passages import ANSWERS_FROM, BIAS, WEIGHTS, Passage, extract, weigh

DATA = Path(__file__).parents[1] / "tests" / "data" / "answers.json"
FOUND, FOLDS, RIDGE = 5, 8, 0.1


class Questions:
    """The file's questions over an encoder's search of its passages."""

    def __init__(self, encoder: Encoder) -> None:
        told = json.loads(DATA.read_text("utf-8"))
        self.texts = [passage["text"] for passage in told["passages"]]
        self.asked = [(q, a) for passage in told["passages"] for q, a in passage["asked"].items()]
        self.near = [q for passage in told["passages"] for q in passage["unanswered"]]
        self.elsewhere = told["elsewhere"]
        self.encoder, self.vectors = encoder, run_now(encoder.encode(self.texts))

    def search(self, question: str) -> list[Passage]:
        scores = self.vectors @ run_now(self.encoder.encode([question]))[0]
        return [Passage(self.texts[i], int(i) + 1, float(scores[i])) for i in np.argsort(-scores)[:FOUND]]

    def best(self, question: str) -> NDArray[np.float64]:
        """What speaks for the best sentence, (4,)."""
        _, features, _ = run_now(weigh(question, self.search(question), self.encoder))
        return features[int(np.argmax(features @ WEIGHTS))]

    def says(self, question: str) -> str:
        found = run_now(extract(question, self.search(question), self.encoder))
        return " ".join(cited.text for cited in found.sentences)

    def report(self, name: str) -> None:
        said = [(self.says(question), answer) for question, answer in self.asked]
        right, declined = sum(answer in text for text, answer in said), sum(not text for text, _ in said)
        near, far = (sum(bool(self.says(question)) for question in asked) for asked in (self.near, self.elsewhere))
        print(f"{name}: right {right} of {len(said)}, declined {declined}", end="; ")
        print(f"answered without an answer there: {near} of {len(self.near)} near, {far} of {len(self.elsewhere)} far")


def fit(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights and bias, (5,), by Newton's method."""
    x, w = np.column_stack([x, np.ones(len(x))]), np.zeros(x.shape[1] + 1)
    ridge = np.diag([RIDGE] * (len(w) - 1) + [0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        w -= np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + ridge, x.T @ (p - y) + ridge @ w)
    return w


def main() -> None:
    sets = {name: Questions(RuvLLM(encoder=name).memory.encoder) for name in ("static", "ruvltra")}
    features, holds, fold = list[NDArray[np.float64]](), list[bool](), list[int]()
    for one in sets.values():
        told = [*((q, True) for q, _ in one.asked), *((q, False) for q in [*one.near, *one.elsewhere])]
        features += [one.best(question) for question, _ in told]
        holds += [there for _, there in told]
        fold += [i % FOLDS for i in range(len(told))]  # a question is in one fold with both encoders
    x, y, group = np.array(features), np.array(holds, np.float64), np.array(fold)
    held_out = np.zeros(len(y))
    for k in range(FOLDS):
        w = fit(x[group != k], y[group != k])
        held_out[group == k] = 1 / (1 + np.exp(-(x[group == k] @ w[:-1] + w[-1])))
    kept, wrong = (np.mean(held_out[y == there] >= ANSWERS_FROM) for there in (1, 0))
    print("weights", fit(x, y).round(1), "in use", WEIGHTS, BIAS)
    print(f"held out: Brier {np.mean((held_out - y) ** 2):.3f}", end=", ")
    print(f"answered {kept:.0%} of what is there, {wrong:.0%} of what is not")
    for name, one in sets.items():
        one.report(name)


if __name__ == "__main__":
    main()
