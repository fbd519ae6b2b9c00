"""Three ways of training one encoder: what is trained, and by which loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.encoder.bert import Bert

_SHARPNESS = 20.0
_MARGIN = 0.5
_RANK, _ALPHA = 8, 16


def _chances(tasks: Tensor, cards: Tensor, right: Tensor, alike: Tensor) -> Tensor:
    """Cosines (tasks, cards); of what is no negative, -1e4."""
    scores = tasks @ cards.T
    same = alike[right]
    own = F.one_hot(right, len(cards)).bool()
    return scores.masked_fill(same & ~own, -1e4)


def info_nce(tasks: Tensor, cards: Tensor, right: Tensor, alike: Tensor) -> Tensor:
    """Cross-entropy of the right card among all (van den Oord et al. 2018)."""
    return F.cross_entropy(_chances(tasks, cards, right, alike) * _SHARPNESS, right)


def triplet(tasks: Tensor, cards: Tensor, right: Tensor, alike: Tensor) -> Tensor:
    """Hinge of 0.5 between the right card's cosine and the hardest wrong one's (Schroff et al. 2015)."""
    scores = _chances(tasks, cards, right, alike)
    good = scores.gather(1, right[:, None])[:, 0]
    wrong = scores.masked_fill(F.one_hot(right, len(cards)).bool(), -1e4).amax(1)
    return F.relu(_MARGIN + wrong - good).mean()


@dataclass(frozen=True, slots=True)
class Method:
    """How to train.

    Attributes:
        start: first trained layer; what lies below is computed once.
        low_rank: train low-rank residuals (Hu et al. 2021) in place of the weights.
        loyalty: weight of the distance to the untouched model on general sentences.
    """

    loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    start: int
    low_rank: bool
    rate: float
    steps: int
    loyalty: float


# Left-out collections gain little after these steps: the data is the limit.
METHODS = {
    "lora": Method(triplet, 0, True, 1e-3, 80, 2.0),
    "last2": Method(info_nce, 4, False, 1e-4, 180, 2.0),
    "all": Method(info_nce, 0, False, 5e-5, 100, 2.0),
}


class _LowRank(nn.Module):
    """A frozen linear layer and its trained residual of rank 8."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(torch.randn(linear.in_features, _RANK) * linear.in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(_RANK, linear.out_features))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + (x @ self.down) @ self.up * (_ALPHA / _RANK)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        self.linear.weight += (self.down @ self.up).T * (_ALPHA / _RANK)
        return self.linear


def _replace(model: nn.Module, old: type[nn.Module], new: Callable[[nn.Module], nn.Module]) -> None:
    for name, child in model.named_children():
        if isinstance(child, old):
            setattr(model, name, new(child))
        else:
            _replace(child, old, new)


def prepare(model: Bert, method: Method, seed: int) -> dict[str, nn.Parameter]:
    """Freeze what `method` leaves as it is; returns what it trains, by name."""
    torch.manual_seed(seed)
    model.requires_grad_(False)
    layers = model.encoder.layer[method.start :]
    if method.low_rank:
        _replace(layers, nn.Linear, _LowRank)
    else:
        layers.requires_grad_(True)
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def merge(model: Bert) -> Bert:
    """Low-rank residuals added to their weights; a model without them stays as it is."""
    _replace(model, _LowRank, lambda layer: layer.merged())  # type: ignore[attr-defined]
    return model
