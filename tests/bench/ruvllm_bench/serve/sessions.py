"""`ruvllm bench sessions`: what staying with a backend saves in conversations of coding agents, and what it risks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from ruvllm import InputError, RuvLLM, Tier
from ruvllm.cli.console import number, print_json, progress, show_table
from ruvllm.cli.options import json_option
from ruvllm.inference.backend import Chunk, Completion, Message, Params, Usage, estimate_usage, gather
from ruvllm.inference.endpoint import Price
from ruvllm.sizing.difficulty import Difficulty, folds_of
from ruvllm.sizing.trained import TrainedTiers
from ruvllm_bench.loop.choosing import read_prompts
from ruvllm_bench.serve.coding import TOOLS, Turn, asks, conversation
from ruvllm_edge import Settings
from ruvllm_edge.auth import Key
from ruvllm_edge.chat import Ask, answer
from ruvllm_edge.edge import Edge
from ruvllm_edge.openai import ask_of
from ruvllm_edge.openai_types import ChatBody
from ruvllm_edge.operations import Call
from ruvllm_edge.server import Server

_SMALL, _LARGE = "llama-3.1-8b-instruct", "llama-3.1-nemotron-51b-instruct"
_CONTEXTS = {"small": 65_536, "large": 200_000}
_CACHED, _WRITTEN = 0.1, 5.0  # prices of a token that was read before, and of a written one, by that of a read one
_SWITCHES, _COST, _QUALITY = 0.2, 0.5, 0.95


@dataclass(frozen=True, slots=True)
class Asks:
    """What users ask, and what a small and a large model made of it.

    Attributes:
        texts: those that are alike beside each other.
        scores: float64 (n, 2), 0 to 1.
        prices: of a million tokens read by each.
        source: where they are from.
    """

    texts: tuple[str, ...]
    scores: NDArray[np.float64]
    prices: tuple[float, float]
    source: str

    def halves(self, seed: int) -> tuple[Asks, Asks]:
        """(to learn from, to be asked), no text in both."""
        first = folds_of(self.texts, 2, seed) == 0
        return self._rows(np.flatnonzero(first)), self._rows(np.flatnonzero(~first))

    def _rows(self, rows: NDArray[np.int64]) -> Asks:
        return replace(self, texts=tuple(self.texts[row] for row in rows.tolist()), scores=self.scores[rows])


def measured(path: Path) -> Asks:
    """Prompts with the scores of LLMs. Raises InputError: no such file, or the two models are not in it."""
    prompts = read_prompts(path)
    if not {_SMALL, _LARGE} <= {*prompts.models}:
        raise InputError(f"{path} lacks models", field=str(path), fix=f"give scores of {_SMALL} and {_LARGE}")
    pair = [prompts.models.index(_SMALL), prompts.models.index(_LARGE)]
    small, large = prompts.prices[pair].tolist()
    return Asks(prompts.texts, prompts.scores[:, pair], (small, large), path.name)


def written(count: int = 3_000) -> Asks:
    """Asks of the generator, and scores by a formula: both fall with how hard one is, the small model's sooner."""
    rng = np.random.default_rng(0)
    texts, hardness = asks(rng, count)
    right = 1 / (1 + np.exp(-(np.array([[4.0, 4.2]]) - np.array([[6.0, 5.3]]) * hardness[:, None])))
    # A number in each, as of an issue, so that no two are one text.
    numbered = tuple(f"{text} (#{i})" for i, text in enumerate(texts))
    return Asks(numbered, (rng.random((count, 2)) < right).astype(float), (8.0, 51.0), "written")


def _trained(learnt: Asks, path: Path) -> None:
    """What `ruvllm tiers train` makes of outcomes, with its usual target."""
    with RuvLLM(encoder="static") as llm:
        vectors = llm.embed(learnt.texts)
    difficulty = Difficulty.fit(learnt.texts, vectors, learnt.scores > 0.5, encoder="static")
    path.write_bytes(TrainedTiers.of(difficulty, learnt.prices).to_bytes())


@dataclass(slots=True)
class _StandIn:
    """A backend that counts tokens, and has cached of a conversation what it read of it last.

    Attributes:
        cached: tokens by conversation, which the request's `user` names.
    """

    name: str
    model: str
    context: int
    price: Price
    passes: bool = True
    cached: dict[str, int] = field(default_factory=dict)

    async def generate(self, messages: Sequence[Message], params: Params) -> Completion:
        return await gather(self.stream(messages, params), self.model)

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncIterator[Chunk]:
        conversation, tokens = str(params.extra["user"]), estimate_usage(messages, "").prompt_tokens
        usage = Usage(tokens, params.max_tokens or 0, cached_tokens=min(self.cached.get(conversation, 0), tokens))
        self.cached[conversation] = tokens
        yield Chunk("done", "stop", usage, 0.9, self.price.of(usage))

    async def healthy(self) -> bool:
        return True

    async def close(self) -> None:
        """There is nothing to let go."""


@dataclass(slots=True)
class Arm:
    """One way to choose, over all conversations.

    Attributes:
        switches: of the backend, within conversations.
        unsafe: of them, those in the middle of a loop of tools, or to a backend that cannot read the conversation.
        cost: in units of the prices.
        quality: mean score of an ask.
        large: share of requests to the large model.
    """

    name: str
    switches: int = 0
    unsafe: int = 0
    cost: float = 0.0
    quality: float = 0.0
    large: float = 0.0


_Asked = Callable[[Ask, int], Ask]


def _sticky(ask: Ask, _: int) -> Ask:
    return ask


def _each(ask: Ask, number: int) -> Ask:
    """As if every request were a conversation's first, of which the last message is read."""
    return replace(ask, question=ask.messages[-1].content, looping=False, conversation=b"%d" % number)


def _each_ask(ask: Ask, number: int) -> Ask:
    """The same, but what is read is what the user asked last, in a loop of tools too."""
    return replace(ask, looping=False, conversation=b"%d" % number)


def _always(name: str, ask: Ask, _: int) -> Ask:
    return replace(ask, model=name)


async def _run(
    name: str, asked: _Asked, users: Asks, tiers: str, count: int, seed: int, advance: Callable[[], None]
) -> Arm:
    backends: dict[Tier | str, Any] = {
        tier: _StandIn(tier, f"{tier}-1", context, Price(price, price * _WRITTEN, price * _CACHED))
        for (tier, context), price in zip(_CONTEXTS.items(), users.prices, strict=True)
    }
    arm, scores, requests = Arm(name), list[float](), 0
    config = {"router": {"tier_model": tiers}}
    edge = Server(RuvLLM(encoder="static", backends=backends, config=config), Settings()).spaces.default
    try:
        for i in range(count):
            of_ask, before = dict[int, list[float]](), ""
            for turn in conversation(np.random.default_rng([seed, i]), str(i), users.texts):
                if turn.paused:
                    for backend in backends.values():
                        backend.cached.pop(str(i), None)
                requests += 1
                ask = _ask(edge, turn, str(i))
                response = await answer(edge, asked(ask, requests))
                now = response.routing.backend
                if before and now != before:
                    arm.switches += 1
                    lost = estimate_usage(ask.messages, "").prompt_tokens > _CONTEXTS[now]
                    arm.unsafe += turn.looping or lost
                before = now
                arm.cost += response.cost
                arm.large += now == "large"
                of_ask.setdefault(turn.ask, []).append(float(users.scores[turn.task, int(now == "large")]))
            scores += [float(np.mean(one)) for one in of_ask.values()]
            advance()
    finally:
        await edge.close()
    arm.quality, arm.large = float(np.mean(scores)), arm.large / requests
    return arm


def _ask(edge: Edge, turn: Turn, name: str) -> Ask:
    """The request as the server reads it from the wire."""
    raw = {"model": "auto", "user": name, "messages": list(turn.messages), "tools": TOOLS, "max_tokens": turn.answer}
    return ask_of(edge, Call(msgspec.convert(raw, ChatBody), None, {}, Key(), "", raw))


_ARMS: tuple[tuple[str, _Asked], ...] = (
    ("ruvllm", _sticky),
    ("each request anew", _each),
    ("each ask anew", _each_ask),
    ("always the small", partial(_always, "small")),
    ("always the large", partial(_always, "large")),
)


@click.command("sessions")
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="tiers_nine.json: what LLMs really made of prompts. Without it asks are written and scored by a formula.",
)
@click.option("--conversations", type=click.IntRange(2, 10_000), default=500, show_default=True)
@click.option("--untrained", is_flag=True, help="Choose by words alone, without a difficulty trained on outcomes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the conversations.")
@json_option
def bench_sessions(data: Path | None, conversations: int, untrained: bool, seed: int, as_json: bool) -> None:
    """Let the server choose a backend in conversations of coding agents, of 5 to 40 requests each.

    A generator writes them: asks of differing difficulty, loops of tools, contexts that grow, pauses after which caches
    have forgotten them. The server's own code chooses between two stand-ins, whose prices are billions of parameters, a
    tenth of that for what is cached, and five times that for what is written. How hard an ask is was trained as by
    `ruvllm tiers train`, on outcomes of one half of the texts; the other half is asked.

    \b
    Examples:
      ruvllm bench sessions
      ruvllm bench sessions --data ../shared/data/tiers_nine.json
      ruvllm bench sessions --conversations 50 --json
    """
    learnt, users = (written() if data is None else measured(data)).halves(seed)
    with TemporaryDirectory() as folder, progress("conversations", len(_ARMS) * conversations) as advance:
        tiers = "words" if untrained else str(Path(folder) / "tiers.npz")
        if not untrained:
            _trained(learnt, Path(tiers))
        arms = [asyncio.run(_run(name, asked, users, tiers, conversations, seed, advance)) for name, asked in _ARMS]
    _show(arms, conversations, users.source)
    if as_json:
        print_json({"arms": [asdict(arm) for arm in arms], "asks": users.source, "met": all(_met(arms))})


def _met(arms: Sequence[Arm]) -> tuple[bool, bool, bool]:
    ours, anew, large = arms[0], arms[1], arms[-1]
    fewer = ours.switches <= _SWITCHES * anew.switches
    return not ours.unsafe, fewer, ours.cost <= _COST * large.cost and ours.quality >= _QUALITY * large.quality


def _show(arms: Sequence[Arm], conversations: int, source: str) -> None:
    large = arms[-1]
    rows = [
        (arm.name, number(arm.switches, 0), number(arm.unsafe, 0), f"{arm.large:.0%}", f"{arm.cost / large.cost:.3f}",
         f"{arm.quality / large.quality:.3f}")
        for arm in arms
    ]  # fmt: skip
    safe, fewer, cheap = ("pass" if met else "short" for met in _met(arms))
    promise = f"<= {_SWITCHES:.0%} of each request anew: {fewer}"
    rows.append(("promise", promise, f"0: {safe}", "", f"<= {_COST:g}", f">= {_QUALITY:g}: {cheap}"))
    heads = ("Chosen by", "Switches", "Unsafe", "To the large", "Cost", "Quality")
    title = f"{conversations} conversations, asks of {source}; cost and quality by those of the large model"
    show_table(title, heads, rows, right=heads[1:])
