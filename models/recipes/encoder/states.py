"""Texts through a model's layers, and the hidden states below the trained layers, kept between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from recipes.encoder.bert import Bert, pack

Rows = NDArray[Any]

_TOKENS = 6000  # of a batch, when nothing is learnt


def _batches(ids: Sequence[NDArray[np.int64]]) -> list[list[int]]:
    """Texts of like length together, some 6,000 tokens a batch."""
    batches: list[list[int]] = [[]]
    room = _TOKENS
    for i in sorted(range(len(ids)), key=lambda i: len(ids[i])):
        if len(ids[i]) > room and batches[-1]:
            batches.append([])
            room = _TOKENS
        batches[-1].append(i)
        room -= len(ids[i])
    return batches


def _joined(ids: Sequence[NDArray[np.int64]], device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate(ids)).to(device)


def short_products(device: torch.device) -> torch.autocast:
    """Products in bfloat16 where the processor has them: half the time; weights and sums stay float32."""
    has = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.autocast(device.type, torch.bfloat16, enabled=has)


@torch.no_grad()
def encode(
    model: Bert, ids: Sequence[NDArray[np.int64]], title: str = "", *, short: bool = False
) -> NDArray[np.float32]:
    """Sentence vectors (texts, width); `short`: good enough to compare, in half the time."""
    device = next(model.parameters()).device
    with short_products(device) if short else nullcontext():
        return _encoded(model, ids, title, device)


def _encoded(model: Bert, ids: Sequence[NDArray[np.int64]], title: str, device: torch.device) -> NDArray[np.float32]:
    out = np.zeros((len(ids), model.embeddings.LayerNorm.weight.shape[0]), np.float32)
    for batch in track(_batches(ids), description=title, disable=not title):
        chosen = [ids[i] for i in batch]
        out[batch] = model(_joined(chosen, device), pack([len(i) for i in chosen], device)).cpu().numpy()
    return out


def _kept(
    folder: Path | None, kind: str, model: Bert, ids: Sequence[NDArray[np.int64]], compute: Callable[[], Rows]
) -> Rows:
    """What `compute` gives, from `folder` if it was computed there for the same model and texts."""
    if folder is None:
        return compute()
    digest = sha256()
    for weights in (model.embeddings.word_embeddings.weight[:2000], model.encoder.layer[-1].output.dense.weight):
        digest.update(weights.detach().cpu().numpy().tobytes())
    for part in ids:
        digest.update(part.tobytes() + b".")
    file = folder / f"{kind}-{digest.hexdigest()[:16]}.npy"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".part.npy")
        np.save(aside, compute())
        aside.replace(file)
    rows: Rows = np.load(file, mmap_mode="r", allow_pickle=False)
    return rows


def untouched(model: Bert, ids: Sequence[NDArray[np.int64]], folder: Path | None) -> NDArray[np.float32]:
    """`encode`, kept in `folder`."""
    rows = _kept(folder, "untouched", model, ids, lambda: encode(model, ids, "untouched vectors", short=True))
    return np.array(rows, np.float32)


class States:
    """Each text's token vectors before layer `start`; with `start` 0, its token ids.

    Args:
        folder: to keep them in.
        shared: so many of the texts come first in other runs, too: theirs are kept on their own.
    """

    def __init__(
        self,
        model: Bert,
        ids: Sequence[NDArray[np.int64]],
        start: int,
        folder: Path | None,
        shared: int | None = None,
    ) -> None:
        self._model, self._ids, self.start = model, ids, start
        self.device = next(model.parameters()).device
        self._ends = np.cumsum([len(i) for i in ids])
        parts = [ids[:shared], ids[shared:]] if shared is not None else [ids]
        kept = [_kept(folder, f"states-{start}", model, p, partial(self._compute, p)) for p in parts if start and p]
        self._rows = np.concatenate(kept) if kept else None

    @torch.no_grad()
    def _compute(self, ids: Sequence[NDArray[np.int64]]) -> Rows:
        width = self._model.embeddings.LayerNorm.weight.shape[0]
        ends = np.cumsum([len(i) for i in ids])
        out = np.zeros((int(ends[-1]), width), np.float16)
        for batch in track(_batches(ids), description=f"states before layer {self.start}"):
            chosen = [ids[i] for i in batch]
            layout = pack([len(i) for i in chosen], self.device)
            with short_products(self.device):
                x = self._model.embed(_joined(chosen, self.device), layout)
                x = self._model.climb(x, layout, 0, self.start)
            cells = np.concatenate([np.arange(ends[i] - len(ids[i]), ends[i]) for i in batch])
            out[cells] = x.half().cpu().numpy()
        return out

    def vectors(self, texts: Sequence[int]) -> Tensor:
        """Sentence vectors (texts, width) by the model as it is now, with gradients."""
        order = sorted(range(len(texts)), key=lambda i: len(self._ids[texts[i]]))
        half = len(order) // 2  # apart, short texts are not padded to the long ones' length in attention
        parts = [self._packed([texts[i] for i in part]) for part in (order[:half], order[half:]) if part]
        return torch.cat(parts)[torch.from_numpy(np.argsort(order)).to(self.device)]

    def _packed(self, texts: Sequence[int]) -> Tensor:
        layout = pack([len(self._ids[i]) for i in texts], self.device)
        with short_products(self.device):
            if self._rows is None:
                return self._model(_joined([self._ids[i] for i in texts], self.device), layout)
            rows = np.concatenate([self._rows[self._ends[i] - len(self._ids[i]) : self._ends[i]] for i in texts])
            return self._model.finish(torch.from_numpy(rows).to(self.device).float(), layout, self.start)
