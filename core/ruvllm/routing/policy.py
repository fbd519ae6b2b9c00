"""Which of several models to ask, given how likely each is to be right and what each costs.

The rule of the best mean quality for a mean cost gives every prompt to the model with the greatest probability
minus a price times its cost, with one price for all prompts (a Lagrange multiplier). For two models that is a
threshold on the difference of their probabilities; for more it is the same rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError

__all__ = ["Policy", "cheapest", "checked_costs", "policy_for"]

Floats = NDArray[np.floating[Any]]

_STEPS = 50


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule, and what it was expected to come to.

    Attributes:
        costs: of one answer by each model.
        price: probability of a right answer that a unit of cost has to buy.
        cost: mean cost of a prompt.
        quality: mean probability of a right answer.
        shares: of the prompts, by model.
    """

    costs: tuple[float, ...]
    price: float
    cost: float
    quality: float
    shares: tuple[float, ...]

    def choose(self, probabilities: Floats) -> int:
        """The number of the model to ask, from the probabilities (models,)."""
        return int(_chosen(np.asarray(probabilities)[None], np.array(self.costs), self.price)[0])


def policy_for(
    held: Floats, costs: Sequence[float], *, cost: float | None = None, quality: float | None = None
) -> Policy:
    """The price at which the rule meets a target on prompts with the probabilities `held` (n, models).

    Raises:
        InputError: neither or both targets are given, or none of the rules reaches it.
    """
    if (cost is None) == (quality is None):
        raise InputError("a policy has one target", field="cost", fix="give either cost= or quality=")
    each = checked_costs(costs, held.shape[1])
    generous, frugal = _made(held, each, 0.0), _made(held, each, _highest(each))
    if cost is not None:
        if not cost >= frugal.cost:
            message = f"no rule costs {cost:g} a prompt: the cheapest costs {frugal.cost:g}"
            raise InputError(message, field="cost", fix=f"allow {frugal.cost:g} or more")
        if generous.cost <= cost:
            return generous
        return _bisected(held, each, lambda policy: policy.cost <= cost)
    assert quality is not None
    if not quality <= generous.quality:
        message = f"no rule is right with {quality:g}: the best is with {generous.quality:.3f}"
        raise InputError(message, field="quality", fix=f"ask for {generous.quality:.3f} or less")
    if frugal.quality >= quality:
        return frugal
    return _bisected(held, each, lambda policy: policy.quality < quality, last=False)


def cheapest(probabilities: Floats, costs: Sequence[float], quality: float) -> int:
    """The cheapest model whose probability reaches `quality`; where none does, the likeliest to be right."""
    each = checked_costs(costs, len(probabilities))
    if not 0 <= quality <= 1:
        raise InputError(f"quality is {quality}", field="quality", fix="give a probability")
    enough = np.flatnonzero(probabilities >= quality)
    return int(enough[each[enough].argmin()]) if len(enough) else int(probabilities.argmax())


def checked_costs(costs: Sequence[float], models: int) -> NDArray[np.float64]:
    """float64 (models,). Raises InputError: not one finite cost of 0 or more for each model."""
    if len(costs) != models or not all(isfinite(cost) and cost >= 0 for cost in costs):
        raise InputError(f"costs are {list(costs)[:8]}", field="costs", fix=f"give {models} numbers of 0 or more")
    return np.array(costs, np.float64)


def _chosen(held: Floats, costs: NDArray[np.float64], price: float) -> NDArray[np.intp]:
    """(n,) model numbers; of equally good ones the cheapest."""
    order = np.argsort(costs, kind="stable")
    values = held[:, order] - price * costs[order]
    return np.asarray(order[values.argmax(1)], np.intp)


def _made(held: Floats, costs: NDArray[np.float64], price: float) -> Policy:
    chosen = _chosen(held, costs, price)
    shares = np.bincount(chosen, minlength=len(costs)) / len(held)
    quality = float(held[np.arange(len(held)), chosen].mean())
    return Policy(tuple(costs.tolist()), price, float(costs @ shares), quality, tuple(shares.tolist()))


def _highest(costs: NDArray[np.float64]) -> float:
    """A price at which only the cheapest is ever worth it."""
    gaps = np.diff(np.unique(costs))
    return float(2 / gaps.min()) if len(gaps) else 1.0


def _bisected(held: Floats, costs: NDArray[np.float64], frugal: Any, last: bool = True) -> Policy:
    """The policy at the edge of those that are `frugal`: within it, or just outside when not `last`."""
    low, high = 0.0, _highest(costs)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if frugal(_made(held, costs, middle)):
            high = middle
        else:
            low = middle
    return _made(held, costs, high if last else low)
