"""How likely it is that memory holds an answer: the weights of `memory.found` and `inference.passages`.

python build/fit_abstention.py

Fitted on conversations of our own (`ruvllm_bench.memory.talks`): questions as they are, the same without the turns that
answer them, and what somebody else was asked; and on tests/data/answers.json, alike.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm import RuvLLM
from ruvllm.cli.evals.memory import _auroc as auroc
from ruvllm.encoders.protocol import run_now
from ruvllm.inference.passages import BIAS, TOGETHER, WEIGHTS, Passage, weigh
from ruvllm.memory.found import Found, answer_odds
from ruvllm.memory.subgraph import Edge
from ruvllm.state.record import Memory
from ruvllm_bench.memory.talks import UNANSWERABLE, talks

DATA = Path(__file__).parents[1] / "tests" / "data" / "answers.json"
SOURCES, LOOKED_AT, RIDGE = 5, 20, 1e-3
SILENT = -8.0  # log-odds where there is no sentence at all
Row = tuple[
    list[float], bool, bool
]  # what speaks for it, whether it is there, whether it is of the half for the report


def row(llm: RuvLLM, question: str, hits: list[Found], there: bool, held_out: bool) -> Row:
    """Words of the best hit, how far it is ahead, the same of three; the odds in use, and the best sentence's."""
    whys = [one.why for one in hits[:10] if one.why]
    named = sorted((one.words for one in whys if one.speaker > 0), reverse=True)
    others = sorted((one.words for one in whys if not one.speaker > 0), reverse=True)
    some, rivals = named or others or [0.0], others if named else []
    ahead = some[0] - (rivals[0] if rivals else 0.0 if named else 0.6 * some[0])
    passages = [Passage(one.memory.text, one.memory.id, one.why.cosine) for one in hits[:SOURCES] if one.why]
    _, features, _ = run_now(weigh(question, passages, llm.memory.encoder))
    sentence = float((features @ WEIGHTS + BIAS).max()) if len(features) else SILENT
    words = [some[0], ahead, sum(some[:3]) - sum(rivals[:3])]
    return [*words, answer_odds(whys) or 0.0, sentence], there, held_out


def conversations(llm: RuvLLM, count: int) -> list[Row]:
    """Questions about conversations; every second one is for the report."""
    out = list[Row]()
    for place, one in enumerate(talks(count, 11)["conversations"]):
        turns: list[dict[str, Any]] = one["turns"]
        about = [{"speaker": t["speaker"], "session": t["session"], "observed_at": t["when"]} for t in turns]
        new = [Memory(turn["text"], metadata=of) for turn, of in zip(turns, about, strict=True)]
        ids, name = llm.memory.add(new, collection=f"talk {place}"), f"talk {place}"
        after = [(b, a) for (a, x), (b, y) in pairwise(zip(ids, turns, strict=True)) if x["session"] == y["session"]]
        llm.memory.graph.link_all(Edge(b, a, "Follows") for b, a in after)
        where = {turn["id"]: i for turn, i in zip(turns, ids, strict=True)}
        for question in one["questions"]:
            text, wrong = question["question"], question["category"] == UNANSWERABLE
            hits = llm.memory.search(text, LOOKED_AT, collection=name)
            out.append(row(llm, text, hits, not wrong, bool(place % 2)))
            if not wrong:
                answers = {where[id] for id in question["evidence"]}
                left = [hit for hit in hits if hit.memory.id not in answers]
                out.append(row(llm, text, left, False, bool(place % 2)))
    return out


def documents(llm: RuvLLM) -> list[Row]:
    """Questions about the passages of answers.json."""
    data = json.loads(DATA.read_text("utf-8"))
    ids, out = llm.memory.add([one["text"] for one in data["passages"]]), list[Row]()
    for one, i in zip(data["passages"], ids, strict=True):
        for question in one["asked"]:
            hits = llm.memory.search(question, LOOKED_AT)
            out.append(row(llm, question, hits, True, False))
            out.append(row(llm, question, [hit for hit in hits if hit.memory.id != i], False, False))
        out += [row(llm, text, llm.memory.search(text, LOOKED_AT), False, False) for text in one["unanswered"]]
    return [*out, *(row(llm, text, llm.memory.search(text, LOOKED_AT), False, False) for text in data["elsewhere"])]


def fit(x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights and bias by Newton's method."""
    x, w = np.column_stack([x, np.ones(len(x))]), np.zeros(x.shape[1] + 1)
    ridge = RIDGE * weight.sum()
    for _ in range(60):
        p = 1 / (1 + np.exp(-x @ w))
        slope = x.T @ (x * (weight * p * (1 - p))[:, None]) + ridge * np.eye(len(w))
        w -= np.linalg.solve(slope, x.T @ (weight * (p - y)) + ridge * w)
    return w


def main() -> None:
    said, read = list[Row](), list[Row]()
    for name in ("static", "ruvltra"):
        with RuvLLM(encoder=name, config={"memory": {"supersede": False}}) as llm:
            said += conversations(llm, 24)
            read += documents(llm)
    rows = [*said, *read]
    x, y = np.array([one for one, _, _ in rows]), np.array([there for _, there, _ in rows])
    report = np.array([held_out for _, _, held_out in rows])
    weight = np.concatenate([np.full(len(said), 2 / len(said)), np.full(len(read), 1 / len(read))])
    learn, talk = ~report, np.arange(len(rows)) < len(said)
    words = learn & talk
    print("words", fit(x[words, :3], y[words].astype(float), weight[words]).round(2), "in use: see memory.found")
    print("together", fit(x[learn, 3:], y[learn].astype(float), weight[learn]).round(2), "in use", TOGETHER)
    sure = 1 / (1 + np.exp(-np.column_stack([x[:, 3:], np.ones(len(x))]) @ TOGETHER))
    for name, some in (("conversations held out", report), ("documents", ~talk)):
        right, wrong = sure[some & y], sure[some & ~y]
        said_so = f"answered {np.mean(right >= 0.5):.0%} of what is there, {np.mean(wrong >= 0.5):.0%} of what is not"
        print(f"{name}: AUROC {auroc(right.tolist(), wrong.tolist()):.3f}, {said_so}")


if __name__ == "__main__":
    main()
