"""Tokens and seconds that a query may take, never exceeded: what is to be spent is reserved before it is."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from time import monotonic

from ruvllm.inference.backend import Message, Usage, estimate_usage

__all__ = ["Budget"]

_MARGIN = 1.5  # real tokens to estimated ones, until a backend has told: English has about 1.0, dense code 1.4


class Budget:
    """What is left.

    Args:
        tokens: of prompts and answers together.
        seconds: from now on; None for no deadline.
        clock: seconds.
    """

    def __init__(self, tokens: int, seconds: float | None = None, clock: Callable[[], float] = monotonic) -> None:
        self.tokens, self.prompt, self.completion, self.estimated = tokens, 0, 0, False
        self.waiting = 0  # requests that are still to come, and want their share
        self.ratio = _MARGIN  # of a backend's tokens to estimated ones
        self._reserved, self._clock = 0, clock
        self._until = None if seconds is None else clock() + seconds

    @property
    def left(self) -> int:
        """Tokens neither spent nor reserved."""
        return self.tokens - self.prompt - self.completion - self._reserved

    @property
    def seconds(self) -> float | None:
        """Until the deadline, 0 when it has passed; None without one."""
        return None if self._until is None else max(0.0, self._until - self._clock())

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.seconds == 0

    @property
    def usage(self) -> Usage:
        """What was spent."""
        return Usage(self.prompt, self.completion, self.estimated)

    def share(self) -> int:
        """Tokens for one request, so that as much is left for each that waits."""
        return self.left // (self.waiting + 1)

    def prompt_tokens(self, messages: list[Message]) -> int:
        """At most, as far as this backend's tokens are known."""
        return ceil(estimate_usage(messages, "").prompt_tokens * self.ratio)

    def reserve(self, tokens: int) -> bool:
        """Set tokens aside; False if there are not so many."""
        if tokens > self.left:
            return False
        self._reserved += tokens
        return True

    def settle(self, reserved: int, usage: Usage, messages: list[Message] | None = None) -> None:
        """Give back what was reserved, and count what was used; what a backend counts corrects the estimates."""
        self._reserved -= reserved
        self.prompt += usage.prompt_tokens
        self.completion += usage.completion_tokens
        self.estimated |= usage.estimated
        if messages and not usage.estimated:
            estimate = estimate_usage(messages, "").prompt_tokens
            self.ratio = max(self.ratio, usage.prompt_tokens / max(estimate, 1))
