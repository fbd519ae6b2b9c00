"""Work that is done in steps, of which none stops another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ruvllm.errors import StoreError
from ruvllm.state.set_aside import reason_of

_AGAIN = 100  # times as many failures until the same line is logged again


class Steps:
    """Guards each step by itself: `with steps("sessions"): …`.

    A StoreError passes through: the file takes nothing, so there is no use in the other steps either, and all waits.

    Attributes:
        failures: of each step, so far.
    """

    def __init__(self) -> None:
        self.failures = Counter[str]()
        self._seen, self._due = Counter[tuple[str, str]](), dict[tuple[str, str], int]()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Let what fails in this step be counted and logged, and go on after it."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            self.failed(name, error)

    def failed(self, name: str, error: Exception) -> None:
        """Count a failure; it is logged when its reason is new, and seldom after that."""
        self.failures[name] += 1
        key = name, reason_of(error)
        self._seen[key] += 1
        if self._seen[key] >= self._due.get(key, 1):
            self._due[key] = self._seen[key] * _AGAIN
            import logging  # no start waits for it

            logging.getLogger("ruvllm.steps").error("failed: %s: %s (%d times)", *key, self._seen[key])
