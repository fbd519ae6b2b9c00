"""A desk that knows nothing at first: the same people go on asking new questions, and correct its answers.

Each label of the data is a topic with one right reply. A query is answered from memory alone; whoever asked tells the
right reply and the right agent afterwards, as a person would. No text is asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm import Agent, InputError, RuvLLM
from ruvllm.cli.evals.sets import IntentSet
from ruvllm.encoders.protocol import no_pause, run_now

EPOCHS, QUERIES = 6, 50
_TOPICS = 30  # of the data's labels
_JOBS = ("write", "review", "patterns")  # of an hour; what is due once a week is not due yet


@dataclass(frozen=True, slots=True)
class Epoch:
    """Shares of an epoch's queries, and what is remembered after it.

    Attributes:
        quality: answered with the right reply.
        routing: given to the right agent.
        hits: answered from a remembered question and answer, right or not.
        memory: memories.
    """

    quality: float
    routing: float
    hits: float
    memory: float


def epochs(
    intents: IntentSet,
    seed: int,
    learning: Mapping[str, Any],
    encoder: str = "static",
    advance: Callable[[], None] = lambda: None,
) -> list[Epoch]:
    """Six epochs of 50 new queries each, the hour's background work done after each.

    Args:
        learning: options of `LearningConfig`.
        advance: called after each query.

    Raises:
        InputError: the data are too few.
    """
    random = np.random.default_rng(seed)
    topics = [str(label) for label in random.permutation(sorted(intents.train))[:_TOPICS]]
    rows = [(text, topic) for topic in topics for text in intents.train[topic]]
    order = random.permutation(len(rows)).tolist()[: EPOCHS * QUERIES]
    if len(order) < EPOCHS * QUERIES:
        message = f"{len(order)} texts of {len(topics)} labels"
        raise InputError(message, field="data", fix=f"give {EPOCHS * QUERIES} texts of {_TOPICS} labels, or more")
    agents = [Agent(topic, topic.replace("_", " ")) for topic in topics]
    found = list[Epoch]()
    with RuvLLM(agents, encoder=encoder, config={"learning": dict(learning)}) as llm:
        for start in range(0, len(order), QUERIES):
            asked = [rows[i] for i in order[start : start + QUERIES]]
            marks = [_answered(llm, text, topic, advance) for text, topic in asked]
            run_now(llm.jobs.run(60.0, no_pause, force=True, names=_JOBS))
            quality, routing, hits = np.mean(marks, 0).tolist()
            found.append(Epoch(quality, routing, hits, float(sum(llm.memory.records.counts().values()))))
    return found


def _answered(llm: RuvLLM, text: str, topic: str, advance: Callable[[], None]) -> tuple[bool, bool, bool]:
    reply = f"This goes to the desk of {topic.replace('_', ' ')}."
    response = llm.query(text)
    right = reply in response.text
    hit = bool(response.sources) and response.sources[0].kind == "QAPair"
    rating = 5 if right else 1
    llm.feedback_request(response.request_id, rating, correction=None if right else reply, agent=topic)
    advance()
    return right, response.agent == topic, hit


def slope(values: NDArray[np.float64]) -> tuple[float, float]:
    """(mean rise an epoch, half the width of its 95 % interval) of curves (seeds, epochs)."""
    steps = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    each = values @ steps / (steps @ steps)
    # Student's t for few seeds; one seed has no interval.
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(len(each), 2.0)
    return float(each.mean()), float("nan") if len(each) < 2 else t * float(each.std(ddof=1)) / float(
        np.sqrt(len(each))
    )
