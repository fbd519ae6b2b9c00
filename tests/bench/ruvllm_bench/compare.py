"""`ruvllm bench route --compare`: the router beside what people build instead, on the same prompts.

Beside ruvllm stand keywords alone, a vote of the nearest utterances (as semantic-router decides), the nearest
centroid and a logistic regression, all three on ruvllm's own vectors, and an LLM where an address is given. Each
is asked one prompt at a time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from ruvllm import Agent, RuvLLM
from ruvllm.agents.catalog import agent_from, card
from ruvllm.cli.console import progress
from ruvllm.cli.evals.sets import Collection, read_agent_set, read_intents
from ruvllm.config import Config
from ruvllm.encoders.protocol import unit_rows
from ruvllm.errors import InputError
from ruvllm.inference.backend import Message, Params
from ruvllm.inference.endpoint import Endpoint
from ruvllm.inference.openai_http import OpenAiHttp
from ruvllm.options import RouterConfig
from ruvllm.routing.head import minimise

Floats = NDArray[np.float32]
Route = Callable[[str], str]
Decisions = list[tuple[bool, float]]  # (whether right, microseconds)

_NEAREST = 5  # utterances that vote: semantic-router's default
_SCALE = np.float32(16)  # of unit vectors before the logistic regression, whose penalty would hold them back
_PENALTY = np.float32(2e-3)
_INTENTS = re.compile(rb'"(train|prompts)"\s*:')
_ASK = "You route tasks to agents. Answer with the name of the one agent that fits best, and with nothing else.\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One way of routing.

    Attributes:
        top1: share of prompts that went to the agent they belong to.
        p50_us: median time of one decision in microseconds.
        usd_per_million: of a million decisions: time on a processor's core, or the LLM's tokens.
        prompts: that it was asked.
    """

    name: str
    top1: float
    p50_us: float
    usd_per_million: float
    prompts: int

    def to_dict(self) -> dict[str, str | float | int]:
        """As `--json` prints it."""
        return asdict(self)


def read_sets(file: Path, builtin: bool, shots: int, limit: int) -> list[Collection]:
    """The agents and prompts of a file as `ruvllm eval agents` or `ruvllm eval intents` takes it.

    Args:
        builtin: the built-in agents are the candidates; only `prompts` is read.
        shots: examples of a label, of a file of intents; 0 for all of them.
        limit: prompts in all, drawn evenly; 0 for all of them.

    Raises:
        InputError: naming the key that is missing or wrong.
    """
    if not builtin and _is_intents(file):
        data, draw = read_intents(file), np.random.default_rng(0)
        agents = []
        for label, texts in data.train.items():
            chosen = draw.permutation(len(texts))[: shots or None]
            agents.append(agent_from({"name": label, "examples": [texts[i] for i in chosen]}, f"label {label!r}"))
        sets = [Collection("", tuple(agents), data.test)]
    else:
        sets = read_agent_set(file, builtin)
    total = sum(len(each.prompts) for each in sets)
    if not limit or total <= limit:
        return sets
    kept = set(np.random.default_rng(0).permutation(total)[:limit].tolist())
    numbers = iter(range(total))
    some = [Collection(s.name, s.agents, tuple(p for p in s.prompts if next(numbers) in kept)) for s in sets]
    return [each for each in some if each.prompts]


def _is_intents(file: Path) -> bool:
    try:
        first = _INTENTS.search(file.read_bytes())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{file} cannot be read ({reason})", field=str(file), fix="check the path") from None
    return first is not None and first[1] == b"train"


def compare(
    sets: Sequence[Collection], encoder: str | None, core_hour: float, llm: Endpoint | None = None, llm_limit: int = 100
) -> list[Row]:
    """A row for each way of routing.

    Args:
        encoder: of ruvllm and of the vectors that the classifiers take.
        core_hour: US dollars of an hour of one core.
        llm: asked last, about `llm_limit` prompts at most.

    Raises:
        BackendError: the LLM does not answer.
    """
    found: dict[str, Decisions] = {}
    with progress("comparing", sum(len(each.prompts) for each in sets)) as advance:
        for each in sets:
            for name, decisions in _local(each, encoder).items():
                found.setdefault(name, []).extend(decisions)
            for _ in each.prompts:
                advance()
    rows = [_row(name, done, usd_second=core_hour / 3600) for name, done in found.items()]
    if llm is not None:
        decisions, usd = asyncio.run(_ask_all(llm, sets, llm_limit))
        rows.append(_row(llm.model, decisions, usd_each=usd / len(decisions)))
    return rows


def _row(name: str, decisions: Decisions, usd_second: float = 0.0, usd_each: float = 0.0) -> Row:
    top1, micros = float(np.mean([right for right, _ in decisions])), median(took for _, took in decisions)
    usd = 1e6 * usd_each + usd_second * micros
    return Row(name, round(top1, 4), round(micros, 1), round(usd, 4), len(decisions))


def _local(each: Collection, encoder: str | None) -> dict[str, Decisions]:
    """What runs on this machine: by name."""
    out = {}
    with RuvLLM(each.agents, encoder=encoder) as llm:
        out["ruvllm"] = _timed(lambda text: llm.route(text).agent, each)
        known = [(text, agent.name) for agent in each.agents for text in (agent.examples or (card(agent),))]
        vectors, names = llm.embed([text for text, _ in known]), [name for _, name in known]

        def embed(text: str) -> Floats:
            vector: Floats = llm.embed([text])[0]
            return vector

        for name, make in (("utterances, nearest five", _nearest), ("centroids", _centroids), ("logistic", _logistic)):
            decide = make(vectors, names)
            out[name] = _timed(lambda text, decide=decide: decide(embed(text)), each)  # type: ignore[misc]
    config = Config(router=RouterConfig(strategy="keywords"))
    with RuvLLM(each.agents, encoder="static", config=config) as llm:
        out["keywords"] = _timed(lambda text: llm.route(text).agent, each)
    return out


def _timed(route: Route, each: Collection) -> Decisions:
    route("warm up")
    out = []
    for prompt in each.prompts:
        began = perf_counter_ns()
        agent = route(prompt.text)
        out.append((agent == prompt.agent, (perf_counter_ns() - began) / 1000))
    return out


def _nearest(vectors: Floats, names: Sequence[str]) -> Callable[[Floats], str]:
    """The route whose utterances among the five nearest have the highest mean cosine."""

    def decide(vector: Floats) -> str:
        cosines = vectors @ vector
        most = min(_NEAREST, len(cosines))
        votes: dict[str, list[float]] = {}
        for i in np.argpartition(-cosines, most - 1)[:most].tolist():
            votes.setdefault(names[i], []).append(float(cosines[i]))
        return max(votes, key=lambda name: sum(votes[name]) / len(votes[name]))

    return decide


def _centroids(vectors: Floats, names: Sequence[str]) -> Callable[[Floats], str]:
    classes = sorted(set(names))
    labels = np.searchsorted(classes, names)
    sums = np.zeros((len(classes), vectors.shape[1]), np.float32)
    np.add.at(sums, labels, vectors)
    means = unit_rows(sums)
    return lambda vector: classes[int((means @ vector).argmax())]


def _logistic(vectors: Floats, names: Sequence[str]) -> Callable[[Floats], str]:
    """Multinomial logistic regression with an L2 penalty."""
    classes = sorted(set(names))
    labels = np.searchsorted(classes, names)
    x = np.hstack([vectors * _SCALE, np.ones((len(vectors), 1), np.float32)])
    rows, shape = np.arange(len(x)), (x.shape[1], len(classes))

    def loss(flat: Floats) -> tuple[float, Floats]:
        w = flat.reshape(shape)
        logits = x @ w
        logits -= logits.max(1, keepdims=True)
        powers = np.exp(logits)
        total = powers.sum(1)
        value = float((np.log(total) - logits[rows, labels]).mean()) + float(_PENALTY * np.vdot(w[:-1], w[:-1]))
        powers /= total[:, None]
        powers[rows, labels] -= 1
        slope = x.T @ powers / np.float32(len(x))
        slope[:-1] += 2 * _PENALTY * w[:-1]
        return value, slope.ravel()

    fitted = minimise(loss, np.zeros(shape[0] * shape[1], np.float32), 1e-6).reshape(shape)
    weights, bias = fitted[:-1] * _SCALE, fitted[-1]
    return lambda vector: classes[int((vector @ weights + bias).argmax())]


async def _ask_all(
    endpoint: Endpoint, sets: Sequence[Collection], limit: int
) -> tuple[list[tuple[bool, float]], float]:
    """(right, microseconds) of each decision, and what they cost together in US dollars."""
    llm, out, usd = OpenAiHttp(endpoint, name="llm"), list[tuple[bool, float]](), 0.0
    try:
        for each in sets:
            listed = "\n".join(f"- {card(agent)}" for agent in each.agents)
            for prompt in each.prompts[: max(0, limit - len(out))]:
                messages = [Message("system", f"{_ASK}{listed}"), Message("user", prompt.text)]
                began = perf_counter_ns()
                done = await llm.generate(messages, Params(max_tokens=64, temperature=0))
                micros = (perf_counter_ns() - began) / 1000
                out.append((_named(done.text, each.agents) == prompt.agent, micros))
                usd += done.cost
    finally:
        await llm.close()
    return out, usd


def _named(said: str, agents: Sequence[Agent]) -> str:
    """The agent that an answer names; "" for none, the longest name where it names several."""
    said = said.strip().strip("`\"'*.- ").lower()
    names = {agent.name.lower(): agent.name for agent in agents}
    return names.get(said) or next((names[name] for name in sorted(names, key=len, reverse=True) if name in said), "")
