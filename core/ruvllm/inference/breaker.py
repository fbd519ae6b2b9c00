"""A circuit breaker (Nygard 2007): a backend that fails is left alone for a while, then tried with one request."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

from ruvllm.errors import BackendError

__all__ = ["CircuitBreaker"]

_REMEMBERED = 1_000  # outcomes; a window of a busy server holds more, its last ones say enough


class CircuitBreaker:
    """Counts a backend's failures, and lets nobody through to it while it is down.

    Closed: every call goes through. Open: none, for `rest` seconds. Half-open: one, whose outcome closes or
    opens it. What a call tells counts only in the state that it began in, and a cancelled one tells nothing.

    Args:
        name: of the backend, for the error.
        failures: so many within the window open it, if they are half of all calls there.
        window: seconds.
        rest: seconds that it stays open.
        patience: a call that was given less time than these seconds and timed out tells nothing.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        name: str = "backend",
        *,
        failures: int = 5,
        window: float = 30.0,
        rest: float = 10.0,
        patience: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.failures, self.window, self.rest, self.patience = name, failures, window, rest, patience
        self._clock = clock
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=_REMEMBERED)  # (when, failed)
        self._opened: float | None = None
        self._probing = False
        self._turn = 0  # counts changes of state

    @property
    def state(self) -> str:
        """ "closed", "open" or "half-open"."""
        if self._opened is None:
            return "closed"
        return "half-open" if self._clock() >= self._opened + self.rest else "open"

    @property
    def failing(self) -> bool:
        """Whether the latest call of the window failed, or those that opened it have not been made good yet."""
        if self._opened is not None:
            return True
        when, failed = self._outcomes[-1] if self._outcomes else (0.0, False)
        return failed and when > self._clock() - self.window

    @property
    def wait(self) -> float:
        """Seconds until a call may go through; 0 when one may now."""
        if self._opened is None:
            return 0.0
        left = self._opened + self.rest - self._clock()
        # How long the one request that tries it takes, nobody knows.
        return left if left > 0 else float(self._probing)

    @contextmanager
    def call(self) -> Iterator[Callable[[], None]]:
        """Around one call of the backend.

        Yields what to call as soon as it answers: others need not wait for the end of a long stream.

        Raises:
            BackendError: "unavailable", with `retry_after`, when it is open or being tried; the call is not made.
        """
        self._admit()
        turn, began = self._turn, self._clock()
        failed: bool | None = None

        def answers() -> None:
            nonlocal turn
            if self._opened is not None and turn == self._turn:
                self._tell(turn, False)
                turn = self._turn

        try:
            yield answers
            failed = False
        except BackendError as error:
            failed = self._blames(error, self._clock() - began)
            raise
        finally:
            self._tell(turn, failed)

    def _admit(self) -> None:
        if wait := self.wait:
            message = f"{self.name} failed {self.failures} times or more and rests"
            fix = f"try again in {ceil(wait)} s, or see why it is down"
            raise BackendError(message, kind="unavailable", retry_after=wait, fix=fix)
        if self._opened is not None:
            self._probing = True

    def _blames(self, error: BackendError, took: float) -> bool | None:
        """Whether an error shows that the backend is down (True) or alive (False)."""
        if error.kind == "timeout":
            return True if took >= self.patience else None
        return error.kind in ("unavailable", "bad_response")

    def _tell(self, turn: int, failed: bool | None) -> None:
        if turn != self._turn:
            return
        if self._opened is not None:
            self._probing = False
            if failed is not None:
                self._turn += 1
                self._opened = self._clock() if failed else None
                self._outcomes.clear()
        elif failed is not None:
            self._outcomes.append((self._clock(), failed))
            if failed:
                self._open_if_down()

    def _open_if_down(self) -> None:
        now = self._clock()
        while self._outcomes and self._outcomes[0][0] <= now - self.window:
            self._outcomes.popleft()
        failed = sum(bad for _, bad in self._outcomes)
        if failed >= self.failures and 2 * failed >= len(self._outcomes):
            self._opened, self._turn = now, self._turn + 1
