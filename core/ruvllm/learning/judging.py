"""What a trajectory is worth: its rewards, what was said about it, and what experience says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ruvllm.errors import InputError
from ruvllm.learning.patterns import Pattern

__all__ = ["Verdict", "judge"]

_QUALITY, _SUCCESS, _REWARD = 0.5, 0.3, 0.2  # how much each counts of what is told
_EXPERIENCE = 0.2  # and what is known already, of the whole
_RELATED = 0.5  # cosine from which a pattern has something to say about a task


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of judging.

    Attributes:
        score: 0 to 1.
        good: an example to follow; else one to avoid.
        weight: 0 to 1, how much is to be learnt from it.
        agreement: 0 to 1, how well patterns known before foretold the score's direction; None without any.
    """

    score: float
    good: bool
    weight: float
    agreement: float | None


def judge(
    quality: float | None,
    success: bool | None,
    rewards: Sequence[float],
    route: str = "",
    retrieved: Sequence[Pattern] = (),
    threshold: float = 0.4,
) -> Verdict:
    """Weighs what was told with what the retrieved patterns expect of this route.

    Experience tempers a verdict and can turn it down, but a failure or a quality below the threshold
    stays one however much speaks for it.

    Args:
        quality: 0 to 1.
        rewards: of the steps, -1 to 1; their mean counts.
        retrieved: patterns of the same task, with their similarity.

    Raises:
        InputError: nothing was told, or quality is out of range.
    """
    told = _told(quality, success, rewards)
    agreement = _expected(route, retrieved)
    score = told if agreement is None else (1 - _EXPERIENCE) * told + _EXPERIENCE * agreement
    good = success is not False and min(told, score) >= threshold
    return Verdict(score, good, score if good else 1 - score, agreement)


def _told(quality: float | None, success: bool | None, rewards: Sequence[float]) -> float:
    parts = []
    if quality is not None:
        if isinstance(quality, bool) or not isinstance(quality, int | float) or not 0 <= quality <= 1:
            raise InputError(f"quality is {quality!r}", field="quality", fix="use a number from 0 to 1")
        parts.append((_QUALITY, float(quality)))
    if success is not None:
        if not isinstance(success, bool):
            raise InputError(f"success is {success!r}", field="success", fix="use True, False or None")
        parts.append((_SUCCESS, float(success)))
    if rewards:
        parts.append((_REWARD, float(np.clip(rewards, -1, 1).mean()) / 2 + 0.5))
    if not parts:
        message = "nothing is known of how the trajectory came out"
        raise InputError(message, field="quality", fix="give quality, success or a step's reward")
    return sum(weight * value for weight, value in parts) / sum(weight for weight, _ in parts)


def _expected(route: str, retrieved: Sequence[Pattern]) -> float | None:
    related = [(one, one.similarity or 0.0) for one in retrieved if one.route and (one.similarity or 0) >= _RELATED]
    if not route or not related:
        return None
    votes = sum(near * (one.avg_quality if one.route == route else 1 - one.avg_quality) for one, near in related)
    return votes / sum(near for _, near in related)
