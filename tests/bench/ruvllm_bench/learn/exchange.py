"""Two installations that never met, each taught half of the intents, before and after a coordinator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ruvllm import Agent, RuvLLM
from ruvllm.encoders.protocol import run_now
from ruvllm.learning.federated import Accepted, FederatedCoordinator


class LocalCoordinator:
    """A coordinator in this process, for a client that expects one elsewhere."""

    def __init__(self, dim: int) -> None:
        self.held = FederatedCoordinator(dim)

    async def push(self, update: bytes) -> Accepted:
        """Take an update."""
        return self.held.aggregate(update)

    async def pull(self) -> bytes:
        """The model."""
        self.held.consolidate()
        return self.held.model().to_bytes()


@dataclass(frozen=True, slots=True)
class ExchangeResult:
    """Accuracies, means over both installations: on the half that each was taught, and on the other's half."""

    alone_own: float
    alone_other: float
    shared_own: float
    shared_other: float


def measure_exchange(
    train: Mapping[str, Sequence[str]], test: Sequence[tuple[str, str]], shots: int = 10, encoder: str = "static"
) -> ExchangeResult:
    """Both know all agents by name alone; each is given `shots` tasks of half of them as feedback.

    Args:
        train: tasks of each agent.
        test: (task, agent), among them none of the tasks above.
    """
    names = sorted(train)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    installations = [_taught(names, {name: train[name][:shots] for name in half}, encoder) for half in halves]
    alone = [_accuracies(llm, set(half), test) for llm, half in zip(installations, halves, strict=True)]
    coordinator = LocalCoordinator(installations[0].encoders.static.dim)
    for llm in installations:
        run_now(llm.federated.push(coordinator))
    for llm in installations:
        run_now(llm.federated.pull(coordinator))
    shared = [_accuracies(llm, set(half), test) for llm, half in zip(installations, halves, strict=True)]
    means = [(one[i] + two[i]) / 2 for one, two in (alone, shared) for i in (0, 1)]
    return ExchangeResult(*means)


def _taught(names: Sequence[str], tasks: Mapping[str, Sequence[str]], encoder: str) -> RuvLLM:
    llm = RuvLLM([Agent(name, name.replace("_", " ")) for name in names], encoder=encoder)
    for name, texts in tasks.items():
        for text in texts:
            llm.feedback(text, name)
    llm.review()
    return llm


def _accuracies(llm: RuvLLM, own: set[str], test: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """(on its own agents, on the others)."""
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for text, agent in test:
        hits[agent in own].append(llm.route(text).agent == agent)
    return sum(hits[True]) / max(len(hits[True]), 1), sum(hits[False]) / max(len(hits[False]), 1)
