"""The training loop all methods share: schedule, early stopping, checkpoints that a run goes on from."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from recipes.common import static
from recipes.conversation import sentences
from recipes.encoder import checkpoint
from recipes.encoder.batches import Batch, Batches
from recipes.encoder.bert import Bert, read, write
from recipes.encoder.data import Texts, read_corpus
from recipes.encoder.measures import Score, held_out, score
from recipes.encoder.methods import METHODS, Method, merge, prepare
from recipes.encoder.negatives import mine
from recipes.encoder.sources import folds, sources
from recipes.encoder.states import States, encode, untouched

_GENERAL = 1500  # sentences on which the model has to stay what it was
_GENERAL_A_STEP = 12
_WARM_UP = 20
_EVERY = 50  # steps between two measurements
_PATIENCE = 4  # of them without a better one
_SENTENCE_TOKENS = 24


Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        without: folds or groups that nothing is learnt from; they and what no run learns from tell when to stop.
        stop_early: or else the last step's weights are taken.
        minutes: after which it stops wherever it is, to be resumed.
        source: folder of the untouched model.
        start: folder of a model whose trained layers to start from, trained without the same folds.
        out: folder of the checkpoint and of the finished model.
        states: folder for what lies below the trained layers, or None.
    """

    method: str
    data: Path
    source: Path
    out: Path
    without: frozenset[str] = frozenset()
    stop_early: bool = True
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    resume: bool = False
    states: Path | None = None
    start: Path | None = None


def device() -> torch.device:
    """The fastest there is."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class _Run:
    """A model being trained on a corpus."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.method = plan, METHODS[plan.method]
        self.steps = plan.steps or self.method.steps
        model = read(plan.source).to(device())
        texts = Texts()
        # All texts are numbered first: so every split finds the same states kept.
        whole = read_corpus(plan.data, seed=plan.seed, texts=texts)
        self.general = [texts.add(text, _SENTENCE_TOKENS) for text in sentences(_GENERAL, seed=plan.seed)]
        shared = len(texts.ids)
        corpus = read_corpus(plan.data, plan.without, plan.seed, texts) if plan.without else whole
        self.wanted = untouched(model, [texts.ids[i] for i in self.general], plan.states)
        cards = static().encode_now(list(corpus.numbers))  # which are alike it tells well enough, and at once
        negatives = mine(corpus, cards)
        print(f"{sum(map(len, negatives))} hard negatives of {len(corpus.cards)} agents", flush=True)
        self.cards = np.array(corpus.cards)
        self.batches = Batches(corpus, cards, negatives, plan.seed)
        self.states = States(model, texts.ids, self.method.start, plan.states, shared)
        if plan.start is not None:
            upper = tuple(f"encoder.layer.{layer}." for layer in range(self.method.start, model.depth))
            known = read(plan.start).state_dict()
            chosen = {name: value for name, value in known.items() if not self.method.start or name.startswith(upper)}
            model.load_state_dict(chosen, strict=False)
        self.model = model
        self.trained = prepare(model, self.method, plan.seed)
        self.model.to(device())
        self.optimiser = torch.optim.AdamW(list(self.trained.values()), lr=self.method.rate, weight_decay=0.01)
        self.held = held_out(plan.data, folds(sources(plan.data), plan.without))

    def step(self, number: int) -> dict[str, float]:
        """Learn from one step's batches; returns the losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.method.rate * min(1, (number + 1) / _WARM_UP) * max(0.02, 1 - number / self.steps)
        batches = self.batches.at(number)
        rng = np.random.default_rng((self.plan.seed, number, 1))
        general = rng.choice(len(self.general), _GENERAL_A_STEP, replace=False)
        parts = [self.cards[batch.cards] for batch in batches] + [batch.tasks for batch in batches]
        parts.append(np.array([self.general[i] for i in general]))
        texts = np.concatenate(parts)
        vectors = self.states.vectors(texts.tolist()).split([len(part) for part in parts])
        losses = _losses(self.method, batches, vectors)
        wanted = torch.from_numpy(self.wanted[general]).to(vectors[-1].device)
        strayed = 1 - (vectors[-1] * wanted).sum(1).mean()
        loss = sum(losses[1:], losses[0]) + self.method.loyalty * strayed
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimiser.step()
        named = {batch.kind: float(value.detach()) for batch, value in zip(batches, losses, strict=True)}
        return named | {"strayed": float(strayed.detach())}

    def measure(self) -> Score | None:
        """On the left-out collections."""
        return score(self.held, lambda ids: encode(self.model, ids, short=True)) if self.held else None


def _losses(method: Method, batches: Sequence[Batch], vectors: Sequence[Tensor]) -> list[Tensor]:
    out = []
    for i, batch in enumerate(batches):
        cards, tasks = vectors[i], vectors[i + len(batches)]
        right, alike = torch.from_numpy(batch.right), torch.from_numpy(batch.alike)
        out.append(batch.weight * method.loss(tasks, cards, right.to(cards.device), alike.to(cards.device)))
    return out


def train(plan: Plan) -> Path | None:
    """Train as planned; returns the finished model's folder, or None where the minutes ran out."""
    began = time.monotonic()
    run = _Run(plan)
    plan.out.mkdir(parents=True, exist_ok=True)
    state = checkpoint.State()
    if plan.resume:
        state = checkpoint.load(plan.out, run.trained, run.optimiser)
    elif run.held and plan.stop_early:
        _report(plan, 0, {}, run.measure())
    with Progress() as progress:
        task = progress.add_task(plan.method, total=run.steps, completed=state.step)
        while state.step < run.steps and not (plan.stop_early and state.waited >= _PATIENCE):
            losses = run.step(state.step)
            state = state.after_step()
            progress.update(task, completed=state.step)
            last = state.step == run.steps
            if state.step % _EVERY == 0 or last:
                found = run.measure() if plan.stop_early or last else None
                _report(plan, state.step, losses, found)
                state = state.measured(found.reciprocal if found else None)
                checkpoint.save(plan.out, state, run.trained, run.optimiser)
            if plan.minutes is not None and time.monotonic() - began > 60 * plan.minutes and not last:
                checkpoint.save(plan.out, state, run.trained, run.optimiser)
                print(f"stopped after step {state.step}: go on with --resume", flush=True)
                return None
    if plan.stop_early and run.held:
        checkpoint.load_best(plan.out, run.trained)
    return _finish(plan, run.model)


def _finish(plan: Plan, model: Bert) -> Path:
    folder = plan.out / "model"
    write(merge(model), plan.source, folder)
    return folder


def _report(plan: Plan, step: int, losses: dict[str, float], found: Score | None) -> None:
    told = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
    print(f"{plan.method} {step:4} {told} {found.line() if found else ''}", flush=True)
    row = {"step": step, **losses, **(asdict(found) if found else {})}
    with (plan.out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(row) + "\n")
