"""Distil RuvLTRA into a token table whose mean-pooled, normalised vectors land in the shared space.

Start: each wordpiece's own RuvLTRA vector, weighted by its Zipf rank (Model2Vec, Tulkens & van
Dongen 2024). Then training on sentences: cosine to the teacher, and the teacher's in-batch
similarities (relational distillation, Park et al. 2019).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch.nn import functional as F

_UNUSED = 999  # [PAD], [unused…] and the special tokens come first in the vocabulary


def _initial(pieces: NDArray[np.float32]) -> NDArray[np.float32]:
    """(V, dim) starting table from the wordpieces' own vectors."""
    table = pieces - pieces[_UNUSED:].mean(0)
    rank = np.maximum(np.arange(len(table)) - _UNUSED + 1, 1)
    table = table * np.log1p(rank)[:, None]
    table /= np.linalg.norm(table, axis=1).mean()
    table[:_UNUSED] *= 0.1
    return table.astype(np.float32)


def train(
    ids: list[list[int]],
    targets: NDArray[np.float16],
    pieces: NDArray[np.float32],
    *,
    epochs: int = 4,
    batch: int = 512,
    rate: float = 4e-4,
    sharpness: float = 20.0,
    relational: float = 0.3,
    seed: int = 0,
) -> NDArray[np.float32]:
    """The trained table, float32 (V, dim).

    Args:
        ids: wordpieces of each text, without [CLS] and [SEP].
        targets: (n, dim) unit rows, the teacher's vectors in the shared space.
        pieces: (V, dim) the teacher's vector of each wordpiece alone.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    bag = torch.nn.EmbeddingBag(*pieces.shape, mode="mean", sparse=True, _weight=torch.tensor(_initial(pieces)))
    optimiser = torch.optim.SparseAdam(list(bag.parameters()), lr=rate)
    steps = epochs * (len(ids) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1, pct_start=0.1)
    diagonal = torch.eye(batch, dtype=torch.bool)
    order = np.concatenate([rng.permutation(len(ids))[: len(ids) // batch * batch] for _ in range(epochs)])
    running = 0.0
    for step in track(range(steps), description="static table"):
        rows = order[step * batch : (step + 1) * batch]
        parts = [ids[i] for i in rows]
        offsets = np.cumsum([0] + [len(part) for part in parts[:-1]])
        flat = torch.tensor(np.concatenate([np.asarray(part, np.int64) for part in parts]))
        student = F.normalize(bag(flat, torch.tensor(offsets)), dim=1)
        teacher = torch.tensor(targets[rows].astype(np.float32))
        loss = (1 - (student * teacher).sum(1)).mean()
        wanted = (teacher @ teacher.T * sharpness).masked_fill(diagonal, -1e4)
        got = (student @ student.T * sharpness).masked_fill(diagonal, -1e4)
        loss = loss + relational * F.kl_div(got.log_softmax(1), wanted.softmax(1), reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        running = 0.99 * running + 0.01 * loss.item() if step else loss.item()
        if step % 500 == 0:
            print(f"step {step}/{steps} loss {running:.4f}", flush=True)
    return bag.weight.detach().numpy()


def quantise(table: NDArray[np.float32], step: float) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 rows with one scale each, `step` standard deviations of the row apart.

    A coarse step costs next to nothing after averaging over a sentence's tokens, and makes the
    table compress on the wire (entropy about 2.05 - log2(step) bits a value).
    """
    scale = np.maximum(table.std(1), 1e-6) * step
    return np.clip(np.rint(table / scale[:, None]), -127, 127).astype(np.int8), scale.astype(np.float32)
