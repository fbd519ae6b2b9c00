"""Where an OpenAI-like API is, and what it wants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from ruvllm.errors import ConfigError
from ruvllm.inference.backend import Usage
from ruvllm.inference.chat_wire import DIALECTS, Dialect
from ruvllm.inference.retry import Retries
from ruvllm.reprs import one_line

__all__ = ["Endpoint", "Price"]


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, usage: Usage) -> float:
        """US dollars."""
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1_000_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API under a URL.

    Attributes:
        url: up to and with the version, as in "http://localhost:8080/v1".
        model: as the server calls it.
        api_key_env: name of the environment variable with the key, "" for none.
        context: tokens that prompt and answer may have together.
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

    __repr__ = one_line

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
        if not (self.price.prompt >= 0 and self.price.completion >= 0):
            raise ConfigError("a price is below 0", field="price", fix="give US dollars per million tokens")

    def _check_url(self) -> None:
        example = "give one like http://localhost:8080/v1"
        try:
            parts = urlsplit(self.url)
            right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise ConfigError(
                "the URL cannot be read", field="url", fix="give one like http://localhost:8080/v1"
            ) from None
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
