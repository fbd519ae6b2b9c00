"""How long the review of much feedback takes, and for how long at most it holds what else is asked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from ruvllm import Agent, Feedback, RuvLLM
from ruvllm.cli.evalset import IntentSet
from ruvllm.encoders.protocol import run_now


@dataclass(frozen=True, slots=True)
class Growth:
    """Of one review, the start of the process counted in: seconds, those of the processor, and of its longest slice."""

    feedbacks: int
    seconds: float
    processor: float
    longest: float


def growth(intents: IntentSet, count: int, encoder: str = "static") -> Growth:
    """Review so many different texts with their labels, of a state file that has just been opened."""
    pairs = [(text, label) for label, texts in intents.train.items() for text in texts]
    agents = [Agent(label, label.replace("_", " ")) for label in sorted(intents.train)]
    slices = list[float]()

    async def pause() -> None:
        slices.append(process_time())

    with TemporaryDirectory() as folder:
        with RuvLLM(agents, encoder=encoder, state=Path(folder) / "state.db") as llm, llm.store.write():
            for n, (text, label) in enumerate(islice(cycle(pairs), count)):
                llm.store.add_feedback(Feedback(f"{text} {n // len(pairs) or ''}".strip(), label))
        with RuvLLM(agents, encoder=encoder, state=Path(folder) / "state.db") as llm:
            began = perf_counter()
            slices.append(process_time())
            run_now(llm.routing.review(pause))
            slices.append(process_time())
            took = perf_counter() - began
    longest = max(later - before for before, later in pairwise(slices))
    return Growth(count, took, slices[-1] - slices[0], longest)
