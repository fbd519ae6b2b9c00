"""Conversations whose later turns say little by themselves: each needs as large a model as its first one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ruvllm import RuvLLM
from ruvllm.encoders.protocol import no_pause, run_now
from ruvllm.inference.backend import Backend, Chunk, Message, Params, Streaming, Usage
from ruvllm.sizing.fastgrnn.loss import COST_WEIGHT
from ruvllm.types import Tier
from ruvllm_bench.loop.choosing import Prompts

TURNS = 4  # of a conversation
_FOLLOWING = (
    "And what about the next one?",
    "Go on with the other case, please.",
    "Could you check the second part as well?",
    "Now do the same for the remaining ones.",
    "Why is that so?",
    "Are you certain about this result?",
    "Give me more details on it.",
    "What happens after that?",
    "And if it were the other way round?",
    "Please look at the last step once more.",
)
_EVERY = 50  # conversations to the background work of an hour
_JOBS = ("patterns", "sizes")  # of it, what choices hang on
_MOST_TEXT = 1_500


class _Answering(Streaming):
    """A model of which nothing is read but its name: the data say how good its answers are."""

    context = 1_000_000

    def __init__(self, name: str) -> None:
        self.name = self.model = name

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncGenerator[Chunk, None]:
        """A word."""
        yield Chunk("done", "stop", Usage(500, 250))


def turns(
    prompts: Prompts,
    seed: int,
    length: int,
    learning: Mapping[str, Any],
    advance: Callable[[], None] = lambda: None,
) -> float:
    """Mean utility of the answers: quality less the large model's cost, at the model router's own weight for it.

    The two models are the best of at most a quarter of the greatest price, and the best of all.

    Args:
        length: conversations.
        learning: options of `LearningConfig`.
        advance: called after each conversation.
    """
    random = np.random.default_rng(seed)
    means = prompts.scores.mean(0)
    small = int(np.where(prompts.prices <= prompts.prices.max() / 4, means, -1).argmax())
    large = int(means.argmax())
    costs = COST_WEIGHT * prompts.prices[[small, large]] / prompts.prices[large]
    utilities = list[float]()
    backends: dict[Tier | str, Backend] = {"small": _Answering("small"), "large": _Answering("large")}
    with RuvLLM(encoder="static", backends=backends, config={"learning": dict(learning)}) as llm:
        for n, row in enumerate(random.permutation(len(prompts.texts))[:length].tolist()):
            session = llm.new_session()
            following = random.integers(0, len(_FOLLOWING), TURNS - 1).tolist()
            for text in (prompts.texts[row][:_MOST_TEXT], *(_FOLLOWING[i] for i in following)):
                answer = llm.query(text, session=session)
                took = int(answer.routing.backend == "large")
                quality = float(prompts.scores[row, (small, large)[took]])
                utilities.append(quality - costs[took])
                llm.feedback_request(answer.request_id, rating=1 + 4 * quality)
            llm.end_session(session)
            if n % _EVERY == _EVERY - 1:
                run_now(llm.jobs.run(5.0, no_pause, force=True, names=_JOBS))
            advance()
    return float(np.mean(utilities))
