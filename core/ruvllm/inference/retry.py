"""When to ask a backend again, and after how long."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

from ruvllm.errors import BackendError

__all__ = ["Retries", "retry_after"]

_LONGEST = 7 * 86_400.0  # a date further away than a week is a mistake of somebody's clock


@dataclass(frozen=True, slots=True)
class Retries:
    """Exponential backoff with jitter (Brooker 2015), so that clients who failed together do not return together.

    Attributes:
        most: attempts after the first one.
        first: seconds before the second attempt, doubled for each further one.
        longest: seconds, of these.
        patience: seconds; a backend that asks for more is given up: the caller can ask another, or come back itself.
    """

    most: int = 2
    first: float = 0.5
    longest: float = 10.0
    patience: float = 0.5

    def delay(
        self, attempt: int, error: BackendError, left: float, jitter: Callable[[], float] = random.random
    ) -> float | None:
        """Seconds until the attempt after `attempt` (0 for the first), None when there shall be none.

        Args:
            left: seconds until the caller's deadline.
            jitter: uniform in [0, 1).
        """
        if attempt >= self.most or error.kind not in ("unavailable", "rate_limited"):
            return None
        seconds = min(self.first * 2**attempt, self.longest) * (0.5 + jitter() / 2)
        if error.retry_after is not None:
            if error.retry_after > self.patience:
                return None
            seconds = max(seconds, error.retry_after)
        return seconds if seconds < left else None


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a response's headers ask to wait, None when they ask nothing or nonsense.

    Args:
        headers: names in any case, as HTTP libraries give them.
        now: in UTC, what a date is compared to.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        # A date without a zone is in UTC, as all of HTTP's are.
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), _LONGEST) if isfinite(seconds) else None
