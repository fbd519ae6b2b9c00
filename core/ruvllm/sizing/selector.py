"""Which LLM backend to ask, learnt from outcomes: a contextual bandit under limits on cost, latency and quality.

`select` keeps to the limits, and among the backends within them takes the one of the greatest value. Without a
budget the value is quality / (cost · latency); with one it is quality less a price for cost, and the price is set
so that the mean cost comes to the budget: as much quality as that buys.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from io import BytesIO
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.artifacts.host import load_npz
from ruvllm.artifacts.shipped import shipped_encoder
from ruvllm.encoders.protocol import Encoder, synchronous
from ruvllm.errors import ArtifactError, InputError, StoreError
from ruvllm.hints import by_object
from ruvllm.reprs import Shown, shortened
from ruvllm.sizing.bandit import Bandit, logit, shared_width
from ruvllm.sizing.difficulty import Difficulty, policy_for
from ruvllm.sizing.fastgrnn import ModelSize
from ruvllm.sizing.fastgrnn.loss import COST_WEIGHT
from ruvllm.sizing.ledger import Ledger, SizeOutcomes, sizes_by_cost, within_limits
from ruvllm.sizing.prompt_forms import PROMPT_FORMS, prompt_forms
from ruvllm.sizing.tiers import Limits

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, repr=False)
class BackendProfile(Shown):
    """What is known of a backend beforehand; outcomes correct all of it.

    Attributes:
        cost: US dollars of a prompt with its answer.
        latency: milliseconds to the whole answer.
        quality: mean quality of its answers, 0 to 1.
        size: what the model router takes it for; by its place among the backends' costs when None.

    >>> BackendProfile("llama-3-70b", cost=0.001, latency=1000, quality=0.85).name
    'llama-3-70b'
    """

    name: str
    cost: float
    latency: float = 1_000.0
    quality: float = 0.8
    size: ModelSize | None = None

    def __post_init__(self) -> None:
        checks = (
            ("name", bool(self.name), "a name"),
            ("cost", isfinite(self.cost) and self.cost >= 0, "dollars, 0 or more"),
            ("latency", isfinite(self.latency) and self.latency > 0, "milliseconds above 0"),
            ("quality", 0 <= self.quality <= 1, "0 to 1"),
        )
        for name, right, fix in checks:
            if not right:
                raise InputError(f"{name} is {getattr(self, name)!r}", field=name, fix=f"give {fix}")


@dataclass(frozen=True, slots=True, repr=False)
class Choice(Shown):
    """The backend for one prompt.

    Attributes:
        quality, cost, latency: as expected.
        value: what it was chosen for.
        alternatives: the other backends within the limits, best first.
        inputs: of the prompt, for `record_outcome`.
        turn: where the model router keeps the prompt; -1 where it does not learn from it.
    """

    backend: str
    quality: float
    cost: float
    latency: float
    value: float
    alternatives: tuple[str, ...]
    inputs: Array = field(repr=False, compare=False)
    turn: int = -1


def columns_of(
    difficulty: Difficulty | None, backends: Sequence[BackendProfile], dim: int, encoder: Encoder | None
) -> list[int]:
    """Which of a difficulty's models each backend is."""
    if difficulty is None:
        return []
    read = difficulty.encoder if encoder is None or not difficulty.encoder else encoder.name
    if difficulty.dim != dim or read != difficulty.encoder:
        message = f"the difficulty reads vectors of {difficulty.encoder or 'an encoder'}, {difficulty.dim} wide"
        raise InputError(message, field="difficulty", fix="train it with the encoder that the prompts are read by")
    names = [backend.name for backend in backends]
    if set(names) <= set(difficulty.models):
        return [difficulty.models.index(name) for name in names]
    if len(names) != len(difficulty.models):
        models = ", ".join(difficulty.models)[:80]
        raise InputError(f"the difficulty is of {models}", field="difficulty", fix="call the backends like its models")
    ranked = sorted(range(len(names)), key=lambda i: backends[i].cost)
    return [ranked.index(i) for i in range(len(names))]


_OPTIMISM = 0.5  # standard deviations that an unsure quality is raised by
_WINDOW = 1_024  # prompts that the price is set by
_STARTING = 16  # prompts before there is a price
_DARING = 0.25  # standard deviations that a draw for the one to ask is moved by: one would cost more than it finds
_ANYHOW = 0.01  # share of choices under a budget that is random: backends change
_ENOUGH = 8  # outcomes before any backend is preferred for them
_HORIZON = 1_000  # prompts within which overspending is made good
_LEAD = 0.3  # standard deviations that the best is ahead by; who asks for more goes on asking the dearest instead
_FITTED = 10.0  # outcomes of similar prompts that what was fitted to all of them counts for

# A vector (dim,) -> how many outcomes of similar prompts each backend has, and their mean quality.
Similar = Callable[[Array], Mapping[str, tuple[float, float]]]


class LLMOrchestrator:
    """Chooses among backends and learns from what came of it.

    Args:
        backends: two or more, each name once.
        encoder: of prompts; when None, `select` takes vectors, and reads texts with the shipped static one.
        dim: of the vectors, where there is no encoder.
        budget: mean US dollars of a prompt; None for the best quality / (cost · latency).
        memory: outcomes after which an old one has lost most of its weight: backends change.
        difficulty: what is known beforehand (`ruvllm tiers train`), of models called like the backends, or as many
            from the weakest to the strongest as there are backends from the cheapest to the dearest. Outcomes teach
            how far it is off.
        sizes: takes the same outcomes to the model router.
        similar: outcomes of similar prompts by backend; None where nobody remembers any.
        observe: takes the same outcomes to who remembers: a vector (dim,), a backend's name, a quality.

    Raises:
        InputError: fewer backends, a name twice, a budget below the cheapest, or a difficulty of other models or
            another encoder.

    >>> llama = BackendProfile("llama-3-70b", 0.001, 1000, 0.85)
    >>> llms = LLMOrchestrator([BackendProfile("gpt-4", 0.03, 500, 0.98), llama])
    >>> llms.select("hi", max_cost=0.01).backend
    'llama-3-70b'
    """

    def __init__(
        self,
        backends: Sequence[BackendProfile],
        encoder: Encoder | None = None,
        *,
        dim: int = 256,
        budget: float | None = None,
        memory: float = 10_000.0,
        seed: int = 0,
        difficulty: Difficulty | None = None,
        sizes: SizeOutcomes | None = None,
        similar: Similar | None = None,
        observe: Callable[[Array, str, float], Awaitable[None]] | None = None,
    ) -> None:
        if not isinstance(backends, Sequence) or not all(isinstance(one, BackendProfile) for one in backends):
            fix = 'give a list of BackendProfile("name", cost=…)'
            raise InputError(f"backends are {shortened(backends)}", field="backends", fix=fix)
        names = [backend.name for backend in backends]
        if len(names) < 2 or len(set(names)) != len(names):
            raise InputError(f"backends are {names[:8]}", field="backends", fix="give two or more, each name once")
        if budget is not None and not budget >= (least := min(backend.cost for backend in backends)):
            raise InputError(f"budget is {budget}", field="budget", fix=f"the cheapest backend costs {least:g}")
        if not memory >= 100:
            raise InputError(f"memory is {memory}", field="memory", fix="give 100 outcomes or more")
        self.backends, self.encoder, self.budget = tuple(backends), encoder, budget
        self.dim = dim if encoder is None else encoder.dim
        self._number = {name: i for i, name in enumerate(names)}
        self._difficulty, self._columns = difficulty, columns_of(difficulty, self.backends, self.dim, encoder)
        priors, informed = [backend.quality for backend in backends], difficulty is not None
        self.bandit = Bandit(self.dim, len(PROMPT_FORMS), priors, memory, informed)
        self.ledger = Ledger(names, [b.cost for b in backends], [b.latency for b in backends])
        ranked = sizes_by_cost([b.cost for b in backends])
        self._sizes = [rank if b.size is None else b.size for b, rank in zip(backends, ranked, strict=True)]
        self._price, self._learner, self._lost, self._similar, self._observe = 0.0, sizes, "", similar, observe
        self._random = np.random.default_rng(seed)
        self._window = np.zeros((0, self.bandit.inputs))

    @by_object()
    async def aselect(
        self,
        prompt: str | Array,
        *,
        max_cost: float | None = None,
        max_latency: float | None = None,
        min_quality: float | None = None,
    ) -> Choice:
        """The backend for a prompt, a text or its vector (dim,).

        Args:
            max_cost: US dollars; max_latency: milliseconds; min_quality: expected, 0 to 1.

        Raises:
            InputError: no backend is within the limits (the nearest is named), or the prompt cannot be read.

        >>> llms.select("prove that the scheduler is fair", min_quality=0.95).backend
        'gpt-4'
        """
        inputs = await self._inputs(prompt)
        choice = self.choose(inputs, max_cost, max_latency, min_quality)
        return replace(choice, turn=self._turn(inputs, prompt))

    select = synchronous(aselect)

    def inputs(self, text: str, vector: Array) -> Array:
        """What is learnt from of a prompt, for `choose`: float64 (dim + forms + 1,); text may be "".

        With a difficulty its logit of each backend follows.

        >>> x = llms.inputs("hi", llm.embed(["hi"])[0])
        >>> len(x) > 256  # the vector, and what the text looks like
        True
        """
        vector = np.asarray(vector)
        if vector.shape != (self.dim,) or not np.isfinite(vector).all():
            fix = f"give {self.dim} finite numbers"
            raise InputError(f"a vector of shape {vector.shape}", field="vector", fix=fix)
        here = np.concatenate([vector, prompt_forms(text), [1.0]], dtype=np.float64)
        if self._difficulty is None:
            return here
        return np.concatenate([here, logit(self._difficulty.probabilities(text, vector)[self._columns])])

    @property
    def names(self) -> list[str]:
        """Of the backends.

        >>> llms.names
        ['gpt-4', 'llama-3-70b']
        """
        return list(self._number)

    def _turn(self, inputs: Array, prompt: str | Array) -> int:
        if self._learner is None:
            return -1
        return self._learner.turn(inputs[: self.dim], prompt if isinstance(prompt, str) else "")

    async def _inputs(self, prompt: str | Array) -> Array:
        if not isinstance(prompt, str):
            return self.inputs("", prompt)
        if not prompt.strip():
            raise InputError("prompt is empty", field="prompt", fix="say what is to be done")
        encoder = self.encoder or shipped_encoder()
        if encoder.dim != self.dim:
            raise InputError("a text without an encoder", field="prompt", fix="give encoder=, or the text's vector")
        return self.inputs(prompt, (await encoder.encode([prompt]))[0])

    def choose(
        self,
        inputs: Array,
        max_cost: float | None = None,
        max_latency: float | None = None,
        min_quality: float | None = None,
    ) -> Choice:
        """`select`, for what `inputs` gave.

        >>> x = llms.inputs("hi", llm.embed(["hi"])[0])
        >>> llms.choose(x, max_cost=0.01).backend
        'llama-3-70b'
        """
        quality = self._expected(inputs)
        cost, latency = self.ledger.cost, self.ledger.latency
        within = within_limits(Limits(max_cost, max_latency, min_quality), self.names, cost, latency, quality)
        doubt = self.bandit.uncertainty(inputs)
        if self.budget is None:
            value = np.clip(quality + _OPTIMISM * doubt, 0, 1) / np.maximum(cost * latency, 1e-12)
        else:
            drawn = quality + _DARING * doubt * self._random.standard_normal(len(quality))
            value = np.clip(drawn, 0, 1) - self._price * cost
        order = within[np.argsort(-value[within], kind="stable")]
        if self.budget is not None and self._random.random() < _ANYHOW:
            order = self._random.permutation(order)
        best = int(order[0])
        self._seen(inputs)
        others = tuple(self.backends[i].name for i in order[1:].tolist())
        expected = float(quality[best]), float(cost[best]), float(latency[best]), float(value[best])
        return Choice(self.backends[best].name, *expected, others, inputs)

    def preferred(self, inputs: Array, names: Sequence[str], costs: Sequence[float]) -> tuple[str, float, float] | None:
        """Which of some backends is worth most for a prompt, of those that outcomes say so of beyond doubt.

        What it is worth is its quality, less that of the most expensive one's cost, as the network of sizes has it.

        Args:
            inputs: what `inputs` gave.
            names: two backends or more.
            costs: of an answer by each, in one unit.

        Returns:
            (its name, its expected quality, by how much more it is worth than the next best); None where there are
            too few outcomes, or the lead is within a third of a standard deviation.

        >>> x = llms.inputs("hi", llm.embed(["hi"])[0])
        >>> llms.preferred(x, ["gpt-4", "llama-3-70b"], [0.03, 0.001]) is None  # no outcome says so yet
        True
        """
        places = [self._number[name] for name in names]
        if len(places) < 2 or (self.bandit.outcomes + self.bandit.pulled)[places].sum() < _ENOUGH:
            return None
        quality, doubt = self._expected(inputs)[places], self.bandit.uncertainty(inputs)[places]
        value = quality - COST_WEIGHT * np.array(costs) / max(max(costs), 1e-12)
        second, best = np.argsort(value, kind="stable")[-2:].tolist()
        lead = float(value[best] - value[second])
        if lead < _LEAD * float(np.hypot(doubt[best], doubt[second])):
            return None
        return names[best], float(quality[best]), lead

    def pull(self, groups: Iterable[tuple[str, Array, float]]) -> None:
        """Learn from others' outcomes beside the own ones, in the place of those pulled before.

        Args:
            groups: a backend's name, the mean (shared_width(dim),) of what travels of its prompts, and how many.

        >>> llms.pull([])  # nobody else has said anything
        """
        ours = [(self._number[name], mean, count) for name, mean, count in groups if name in self._number]
        means = np.array([mean for _, mean, _ in ours], np.float64).reshape(-1, shared_width(self.dim))
        self.bandit.pull(np.array([arm for arm, _, _ in ours], np.int64), means, np.array([n for _, _, n in ours]))

    def _expected(self, inputs: Array) -> Array:
        """Quality of each backend (backends,) for a prompt: fitted to all outcomes, moved by those of similar ones."""
        found = self.bandit.expected(inputs)
        similar = {} if self._similar is None else self._similar(inputs[: self.dim].astype(np.float32))
        for name, (count, quality) in similar.items():
            if (place := self._number.get(name)) is not None:
                found[place] += count / (count + _FITTED) * (quality - found[place])
        return found

    def _seen(self, inputs: Array) -> None:
        """Keep the latest prompts, and set the price by them now and then."""
        self._window = np.concatenate([self._window[1 - _WINDOW :], inputs[None]])
        if self.budget is not None and self.ledger.prompts % _STARTING == 0 and len(self._window) >= _STARTING:
            self._price = self._priced(self.budget)
        self.ledger.prompts += 1

    def _priced(self, budget: float) -> float:
        """What a dollar has to buy so that the next prompts come to the budget, and make good what was spent amiss."""
        owed = (budget * self.ledger.answers - self.ledger.spent) / _HORIZON
        costs = self.ledger.cost
        target = min(max(budget + owed, float(costs.min())), float(costs.max()))
        return policy_for(self.bandit.expected(self._window), costs.tolist(), cost=target).price

    async def arecord_outcome(
        self,
        choice: Choice | str,
        success: bool = True,
        quality: float | None = None,
        *,
        cost: float | None = None,
        latency: float | None = None,
        prompt: str | Array | None = None,
    ) -> None:
        """What came of a choice.

        Args:
            choice: what `select` gave, or a backend's name together with `prompt`.
            success: whether the answer was good; `quality`, 0 to 1, says it more finely.
            cost, latency: what it really took, US dollars and milliseconds.

        Raises:
            InputError: an unknown backend, or a number out of range.

        >>> llms.record_outcome(llms.select("hi"), quality=0.9)
        >>> llms.stats()["answers"]
        1
        """
        name = choice if isinstance(choice, str) else choice.backend
        if name not in self._number:
            raise InputError(f"no backend is called {name!r}", field="backend", fix=f"use {', '.join(self._number)}")
        score = float(success) if quality is None else quality
        for field_, value, most in (("quality", score, 1.0), ("cost", cost, inf), ("latency", latency, inf)):
            if value is not None and not (0 <= value <= most and isfinite(value)):
                raise InputError(f"{field_} is {value}", field=field_, fix="give a finite number of 0 or more")
        if isinstance(choice, Choice):
            inputs, turn = choice.inputs, choice.turn
        elif prompt is None:
            raise InputError("a backend's name says nothing of the prompt", field="prompt", fix="give prompt=")
        else:
            inputs = await self._inputs(prompt)
            turn = self._turn(inputs, prompt)
        number = self._number[name]
        self.bandit.learn(number, inputs, score)
        self.ledger.add(number, score, cost, latency)
        if self._observe is not None:
            await self._observe(inputs[: self.dim].astype(np.float32), name, score)
        if self._learner is not None and turn >= 0:
            self._learner.observe(turn, self._sizes[number], score, float(self.ledger.cost[number]))

    record_outcome = synchronous(arecord_outcome)

    def stats(self) -> dict[str, Any]:
        """For a dashboard: spend, savings against always asking the dearest, quality over time, each backend.

        `lost` says why `resume` had to begin anew, "" where it had not.

        >>> llms.stats()["answers"]
        0
        """
        return self.ledger.stats() | {"budget": self.budget, "price": self._price, "lost": self._lost}

    def to_bytes(self) -> bytes:
        """All that was learnt, for a file; the backends' profiles and the encoder are not in it.

        >>> llms.restore(llms.to_bytes())
        """
        header = {"names": list(self._number), "dim": self.dim, "price": self._price, "ledger": self.ledger.state()}
        window = self._window.astype(np.float32)
        buffer = BytesIO()
        about = np.frombuffer(json.dumps(header).encode(), np.uint8)
        np.savez(buffer, about=about, window=window, **self.bandit.arrays())  # type: ignore[arg-type]
        return buffer.getvalue()

    @staticmethod
    def names_in(data: bytes) -> list[str]:
        """The backends of what `to_bytes` gave; none where it is damaged.

        >>> llms.names_in(llms.to_bytes())
        ['gpt-4', 'llama-3-70b']
        """
        try:
            return list(json.loads(load_npz(data, "selector")["about"].astype(np.uint8).tobytes())["names"])
        except (ArtifactError, KeyError, TypeError, ValueError):
            return []

    def resume(self, data: bytes) -> bool:
        """`restore`, or begin anew where that cannot be: what was learnt is no reason not to choose.

        >>> llms.resume(llms.to_bytes()), llms.resume(b"damaged")
        (True, False)
        """
        try:
            self.restore(data)
        except StoreError as error:
            self._lost = error.message
        return not self._lost

    def restore(self, data: bytes) -> None:
        """Go on from what `to_bytes` gave. Raises StoreError: it is damaged, or of other backends.

        >>> llms.restore(llms.to_bytes())
        """
        try:
            arrays = load_npz(data, "selector")
            header = json.loads(arrays["about"].astype(np.uint8).tobytes())
            if header["names"] != list(self._number) or header["dim"] != self.dim:
                raise ValueError(f"it is of {header['names']} and vectors of width {header['dim']}")
            window = arrays["window"].astype(np.float64)
            price = float(header["price"])
            if window.shape[1:] != (self.bandit.inputs,) or not (np.isfinite(window).all() and 0 <= price < inf):
                raise ValueError("its prompts or its price are no such numbers")
            ledger, bandit = deepcopy((self.ledger, self.bandit))  # what fails must not leave one of them changed
            ledger.restored(header["ledger"])
            bandit.restore(arrays)
        except (ArtifactError, AttributeError, KeyError, TypeError, ValueError) as bad:
            message = f"nothing usable was learnt of backends: {bad}"[:240]
            raise StoreError(message, field="selector", fix="drop it; it is learnt again") from None
        self.ledger, self.bandit = ledger, bandit
        self._window, self._price = window[-_WINDOW:], price
