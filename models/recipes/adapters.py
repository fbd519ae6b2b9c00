"""Train the router's low-rank adapters with InfoNCE (van den Oord et al. 2018), torch.

Three kinds of (task, agent) pairs: lines of agents' bodies with the description they belong to,
real prompts among the agents of their own collection, and the built-in catalog's examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ruvllm.routing.fusion import Adapter

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Group:
    """Prompts and the agents they are routed among.

    Attributes:
        prompts: (n, dim) vectors.
        cards: (agents, dim) vectors.
        labels: int64 (n,) agent numbers.
    """

    name: str
    prompts: Floats
    cards: Floats
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Weak pairs: a line and the card it belongs to.

    Attributes:
        lines: (n, dim).
        cards: (m, dim).
        labels: int64 (n,) card numbers.
    """

    lines: Floats
    cards: Floats
    labels: NDArray[np.int64]


class _Model(torch.nn.Module):
    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.query_down = torch.nn.Parameter(torch.randn(dim, rank) * 0.05)
        self.query_up = torch.nn.Parameter(torch.zeros(rank, dim))
        self.card_down = torch.nn.Parameter(torch.randn(dim, rank) * 0.05)
        self.card_up = torch.nn.Parameter(torch.zeros(rank, dim))
        self.sharpness = torch.nn.Parameter(torch.tensor(20.0).log())

    def loss(self, queries: Tensor, cards: Tensor, labels: Tensor) -> Tensor:
        queries = F.dropout(queries, 0.1)
        q = F.normalize(queries + queries @ self.query_down @ self.query_up, dim=1)
        c = F.normalize(cards + cards @ self.card_down @ self.card_up, dim=1)
        return F.cross_entropy(q @ c.T * self.sharpness.exp(), labels, label_smoothing=0.05)


def train_adapter(
    pairs: Pairs,
    groups: list[Group],
    catalog: Group,
    *,
    rank: int = 32,
    steps: int = 600,
    batch: int = 256,
    rate: float = 2e-3,
    seed: int = 0,
) -> Adapter:
    """One adapter; a batch of each kind of pair a step, collections drawn by the root of their size."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = _Model(pairs.lines.shape[1], rank)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    lines, cards = torch.tensor(pairs.lines), torch.tensor(pairs.cards)
    tensors = [(torch.tensor(g.prompts), torch.tensor(g.cards), torch.tensor(g.labels)) for g in groups]
    own = (torch.tensor(catalog.prompts), torch.tensor(catalog.cards), torch.tensor(catalog.labels))
    share = np.sqrt([len(g.labels) for g in groups])
    share /= share.sum()
    for step in range(steps):
        for setting in optimiser.param_groups:
            setting["lr"] = rate * min(1, (step + 1) / 30) * max(0.02, 1 - step / steps)
        rows = rng.integers(0, len(lines), batch)
        used, labels = np.unique(pairs.labels[rows], return_inverse=True)
        loss = model.loss(lines[rows], cards[used], torch.tensor(labels))
        for number in rng.choice(len(tensors), 4, p=share):
            prompts, among, right = tensors[number]
            rows = rng.integers(0, len(prompts), min(24, len(prompts)))
            loss = loss + model.loss(prompts[rows], among, right[rows]) / 4
        rows = rng.integers(0, len(own[0]), 96)
        loss = loss + model.loss(own[0][rows], own[1], own[2][rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    parts = (model.query_down, model.query_up, model.card_down, model.card_up)
    return Adapter(*(part.detach().numpy().astype(np.float32) for part in parts))
