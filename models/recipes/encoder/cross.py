"""A cross-encoder over a short list: task and card see each other from some layer on.

Below that layer each is on its own, so that a card's states can be kept (MacAvaney et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.encoder.bert import Bert, pack
from recipes.encoder.data import Corpus, Rows
from recipes.encoder.negatives import ALIKE
from recipes.encoder.states import encode, short_products

FIRST = 5  # cards of a short list
_SHARPNESS = 20.0
_NEAR = 12  # wrong cards of the task's collection that a step draws from
_LINES, _EXAMPLES = 1200, 600  # of agents' bodies and of the catalog
_OF_EACH = {"prompts": 8, "lines": 6, "catalog": 2}  # tasks a step
_RATE, _WARM_UP = 1e-4, 20
_AT_ONCE = 16

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class Below:
    """Texts' token vectors before layer `stop`, each text on its own and computed once."""

    def __init__(self, model: Bert, stop: int) -> None:
        self._model, self._stop = model, stop
        self._known: dict[bytes, Tensor] = {}

    def of(self, texts: Sequence[Ids]) -> list[Tensor]:
        """(tokens, width) of each."""
        new = {ids.tobytes(): ids for ids in texts if ids.tobytes() not in self._known}
        if new:
            self._known.update(zip(new, self._compute(list(new.values())), strict=True))
        return [self._known[ids.tobytes()] for ids in texts]

    @torch.no_grad()
    def _compute(self, texts: Sequence[Ids]) -> tuple[Tensor, ...]:
        device = next(self._model.parameters()).device
        layout = pack([len(ids) for ids in texts], device)
        with short_products(device):
            x = self._model.embed(torch.from_numpy(np.concatenate(texts)).to(device), layout)
            x = self._model.climb(x, layout, 0, self._stop)
        return x.float().split(layout.lengths.tolist())


class Cross(nn.Module):
    """Scores pairs of texts that see each other from layer `joined` on; what lies below stays as it is.

    The score starts as the cosine of the two sides' means, so that little has to be learnt; a linear
    head over the pair's mean, zero at first, comes on top.
    """

    def __init__(self, model: Bert, joined: int) -> None:
        super().__init__()
        self.model, self.joined = model.requires_grad_(False), joined
        model.encoder.layer[joined:].requires_grad_(True)
        self.head = nn.Linear(model.embeddings.LayerNorm.weight.shape[0], 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._below = Below(model, joined)

    def forward(self, tasks: Sequence[Ids], cards: Sequence[Sequence[Ids]]) -> Tensor:
        """(tasks, cards of each)."""
        pairs = [(task, card) for task, own in zip(tasks, cards, strict=True) for card in own]
        sides = self._below.of([side for pair in pairs for side in pair])
        x = torch.cat(sides)
        sizes = torch.tensor([len(side) for side in sides], device=x.device)
        layout = pack(sizes.view(-1, 2).sum(1).tolist(), x.device)
        with short_products(x.device):
            x = self.model.climb(x, layout, self.joined, self.model.depth)
        owner = torch.repeat_interleave(torch.arange(len(sizes), device=x.device), sizes)
        sums = x.new_zeros(len(sizes), x.shape[1], dtype=torch.float32).index_add(0, owner, x.float())
        sums = sums.view(len(pairs), 2, -1)
        cosines = F.cosine_similarity(sums[:, 0], sums[:, 1])
        means = sums.sum(1) / layout.lengths[:, None]
        return (_SHARPNESS * cosines + self.head(means)[:, 0]).view(len(tasks), -1)

    @torch.no_grad()
    def score(self, tasks: Sequence[Ids], cards: Sequence[Sequence[Ids]]) -> Floats:
        """Without gradients."""
        starts = range(0, len(tasks), _AT_ONCE)
        parts = [self(tasks[i : i + _AT_ONCE], cards[i : i + _AT_ONCE]) for i in starts]
        return np.asarray(torch.cat(parts).cpu().numpy(), np.float32)


@dataclass(frozen=True, slots=True)
class Listed:
    """A task to learn from.

    Attributes:
        wordings: text numbers.
        near: the wrong cards of its collection that the untouched model finds most like the task.
    """

    wordings: tuple[int, ...]
    right: int
    near: Ids


def read_lists(corpus: Corpus, model: Bert, seed: int) -> dict[str, list[Listed]]:
    """Tasks of each kind that have four wrong cards or more."""
    cards = encode(model, [corpus.texts.ids[i] for i in corpus.cards], "cards", short=True)
    prompts = list(corpus.prompts.values())
    asked = Rows([task for rows in prompts for task in rows.tasks], np.concatenate([rows.cards for rows in prompts]))
    lines, examples = _sample(corpus.weak, _LINES, seed), _sample(corpus.catalog, _EXAMPLES, seed)
    kinds = {"prompts": asked, "lines": lines, "catalog": examples}
    return {kind: _listed(corpus, rows, cards, model) for kind, rows in kinds.items()}


def _sample(rows: Rows, size: int, seed: int) -> Rows:
    picked = np.random.default_rng(seed).permutation(len(rows.cards))[:size]
    return Rows([rows.tasks[i] for i in picked], rows.cards[picked])


def _listed(corpus: Corpus, rows: Rows, cards: Floats, model: Bert) -> list[Listed]:
    tasks = encode(model, [corpus.texts.ids[wordings[0]] for wordings in rows.tasks], short=True)
    out = []
    for wordings, right, vector in zip(rows.tasks, rows.cards.tolist(), tasks, strict=True):
        homes = [home for home in corpus.home[right] if home]
        among = np.array(sorted({other for home in homes for other in corpus.among[home]} - {right}), np.int64)
        among = among[cards[among] @ cards[right] <= ALIKE]
        near = among[np.argsort(-(cards[among] @ vector), kind="stable")[:_NEAR]]
        if len(near) >= FIRST - 1:
            out.append(Listed(wordings, right, near))
    return out


def teach(cross: Cross, corpus: Corpus, known: dict[str, list[Listed]], steps: int, seed: int) -> list[float]:
    """Cross-entropy of the right card among five; returns each step's."""
    trained = [value for value in cross.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=_RATE, weight_decay=0.01)
    ids, losses = corpus.texts.ids, []
    for step in track(range(steps), description="cross-encoder"):
        rng = np.random.default_rng((seed, step))
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / _WARM_UP) * max(0.02, 1 - step / steps)
        batch = [known[kind][i] for kind, n in _OF_EACH.items() for i in rng.integers(len(known[kind]), size=n)]
        tasks = [ids[each.wordings[rng.integers(len(each.wordings))]] for each in batch]
        wrong = [rng.choice(each.near, FIRST - 1, replace=False) for each in batch]
        five = [[ids[corpus.cards[i]] for i in (each.right, *own)] for each, own in zip(batch, wrong, strict=True)]
        scores = cross(tasks, five)
        loss = F.cross_entropy(scores, torch.zeros(len(tasks), dtype=torch.int64, device=scores.device))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses
