"""What much feedback costs: its review, and for how long that holds what else is asked; start, route and memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from ruvllm import Agent, Feedback, RuvLLM
from ruvllm.cli.evals.sets import IntentSet, read_intents
from ruvllm.encoders.protocol import run_now

_ASKED = 300


@dataclass(frozen=True, slots=True)
class Growth:
    """Of so much feedback.

    Attributes:
        seconds, processor, longest: of its review, right after a start: seconds, those of the processor, and of its
            longest slice.
        start: processor seconds of a new process from reading the agents to its first answer.
        route: processor seconds of a route after that, median of 300 texts.
        mb: resident memory of that process after them.
        peak: resident memory at most, of the process that reviewed.
    """

    feedbacks: int
    seconds: float
    processor: float
    longest: float
    start: float
    route: float
    mb: float
    peak: float


def growth(data: Path, count: int, encoder: str = "static") -> Growth:
    """Review so many different texts of clinc150.json with their labels, then ask a new process."""
    with TemporaryDirectory() as folder:
        state = Path(folder) / "state.db"
        made, asked = (_process(kind, data, state, count, encoder) for kind in ("review", "ask"))
    return Growth(count, **made, **asked)


def _process(kind: str, *args: object) -> dict[str, float]:
    command = [sys.executable, "-m", "ruvllm_bench.loop.growth", kind, *map(str, args)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _llm(intents: IntentSet, encoder: str, state: Path) -> RuvLLM:
    agents = [Agent(label, label.replace("_", " ")) for label in sorted(intents.train)]
    return RuvLLM(agents, encoder=encoder, state=state)


def _review(intents: IntentSet, state: Path, count: int, encoder: str) -> dict[str, float]:
    pairs = [(text, label) for label, texts in intents.train.items() for text in texts]
    slices = list[float]()

    async def pause() -> None:
        slices.append(process_time())

    with _llm(intents, encoder, state) as llm, llm.store.write():
        for n, (text, label) in enumerate(islice(cycle(pairs), count)):
            llm.store.add_feedback(Feedback(f"{text} {n // len(pairs) or ''}".strip(), label))
    with _llm(intents, encoder, state) as llm:
        began = perf_counter()
        slices.append(process_time())
        run_now(llm.routing.review(pause))
        slices.append(process_time())
        took = perf_counter() - began
    longest = max(later - before for before, later in pairwise(slices))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": took, "processor": slices[-1] - slices[0], "longest": longest, "peak": peak}


def _ask(intents: IntentSet, state: Path, count: int, encoder: str) -> dict[str, float]:
    with _llm(intents, encoder, state) as llm:
        llm.route(intents.test[0].text)
        start, took = process_time() - _BEGAN, list[float]()
        for prompt in intents.test[1:_ASKED]:
            began = process_time()
            llm.route(prompt.text)
            took.append(process_time() - began)
        held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return {"start": start, "route": median(took), "mb": int(held.split()[1]) / 1024}


if __name__ == "__main__":
    kind, data, state, count, encoder = sys.argv[1:]
    intents = read_intents(Path(data))
    _BEGAN = process_time()
    print(json.dumps((_review if kind == "review" else _ask)(intents, Path(state), int(count), encoder)))
