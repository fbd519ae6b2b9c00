"""Where an OpenAI-like API is, and what it wants."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from ruvllm.errors import BackendError, ConfigError
from ruvllm.inference.backend import Usage
from ruvllm.inference.chat_wire import DIALECTS, Dialect
from ruvllm.reprs import Shown

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


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens; `cached` of those that the server had read before, None for the same."""

    prompt: float = 0.0
    completion: float = 0.0
    cached: float | None = None

    def of(self, usage: Usage) -> float:
        """US dollars."""
        cached = self.prompt if self.cached is None else self.cached
        read = (usage.prompt_tokens - usage.cached_tokens) * self.prompt + usage.cached_tokens * cached
        return (read + usage.completion_tokens * self.completion) / 1_000_000


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint(Shown):
    """An API under a URL.

    Attributes:
        url: up to and with the version, as in "http://localhost:8080/v1".
        model: as the server calls it.
        api_key_env: name of the environment variable with the key, "" for none.
        context: tokens that prompt and answer may have together.
        api: whose it is like, "openai" or "anthropic".
        dialect: who gets `top_k` and `repeat_penalty`, and under which names.
        logprobs: ask for the tokens' probabilities, which give the answer its confidence.
        extra: more fields of the request; None leaves one out that ruvllm would send.
        connect_timeout: seconds until a connection stands.
        read_timeout: seconds between two signs of life, the wait for the first one included.
        timeout: seconds for the whole answer with all attempts at it.
        connections: at once, at most; further requests wait for one as long as for a connection.

    Raises:
        ConfigError: a value that cannot be right.
    """

    url: str
    model: str
    api_key_env: str = ""
    context: int = 8_192
    dialect: Dialect = "openai"
    logprobs: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    price: Price = field(default_factory=Price)
    connect_timeout: float = 5.0
    read_timeout: float = 60.0
    timeout: float = 300.0
    retries: Retries = field(default_factory=Retries)
    connections: int = 256
    api: str = "openai"

    def __post_init__(self) -> None:
        self._check_url()
        try:
            json.dumps(dict(self.extra))
        except (TypeError, ValueError, RecursionError):
            raise ConfigError("extra is no JSON", field="extra", fix="give texts, numbers, lists and tables") from None
        if not self.model:
            raise ConfigError("a backend needs a model", field="model", fix="name it as the server does")
        if self.dialect not in DIALECTS:
            fix = f"use one of {', '.join(DIALECTS)}"
            raise ConfigError(f"{self.dialect!r} is no dialect", field="dialect", fix=fix)
        for name in ("connect_timeout", "read_timeout", "timeout"):
            value = getattr(self, name)
            if not (value > 0 and isfinite(value)):
                raise ConfigError(f"{name} is {value}", field=name, fix="give seconds above 0")
        for name in ("context", "connections"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", field=name, fix="give 1 or more")
        if not (self.price.prompt >= 0 and self.price.completion >= 0 and (self.price.cached or 0) >= 0):
            raise ConfigError("a price is below 0", field="price", fix="give US dollars per million tokens")

    def _check_url(self) -> None:
        example = "give one like http://localhost:8080/v1"
        try:
            parts = urlsplit(self.url)
            right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise ConfigError("the URL cannot be read", field="url", fix=example) from None
        # What a URL holds beside an address is in every log on the way, so the message does not repeat it either.
        if parts.username or parts.password or parts.query or parts.fragment:
            message = "the URL holds more than an address"
            raise ConfigError(message, field="url", fix="keep keys out of it: name their variable in api_key_env")
        if not right:
            raise ConfigError(f"{self.url!r} is no HTTP address", field="url", fix=example)

    def at(self, path: str) -> str:
        """The URL of a path under it."""
        return f"{self.url.rstrip('/')}/{path}"

    @property
    def local(self) -> bool:
        """Whether it is on this machine, where a proxy has no business."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")
