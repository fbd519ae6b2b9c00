"""API keys: read from the environment when they are needed, kept nowhere, said nowhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ruvllm.errors import BackendError, ConfigError

__all__ = ["KeyFromEnvironment", "cleaned"]

_HIDDEN = "[key]"
_TELLING = 8  # characters of a key that nobody should see
_ADDRESS = re.compile(r"\w+://[^\s'\"<>)\]]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\blocalhost:\d+\b")
_KEY = re.compile(r"\bBearer\s+\S+|\b(?:sk|pk|rk|gsk|xai|hf)[-_][\w*.-]{6,}|\bAIza[\w*-]{6,}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KeyFromEnvironment:
    """The name of the variable that holds a key, never the key itself.

    Args:
        variable: "" for a backend that wants no key.

    Raises:
        ConfigError: the variable is not set, or what it holds cannot be sent in a header.
    """

    variable: str

    def __post_init__(self) -> None:
        self.read()

    def read(self, environment: Mapping[str, str] = os.environ) -> str:
        """The key as it is now, so that a new one needs no restart; "" without a variable."""
        if not self.variable:
            return ""
        key = environment.get(self.variable, "").strip()
        if not key:
            message = f"the environment variable {self.variable} is not set"
            raise ConfigError(message, field="api_key_env", fix="set it to the backend's API key")
        if not key.isascii() or not key.isprintable() or " " in key:
            message = f"the environment variable {self.variable} holds no API key: blanks or odd characters are in it"
            raise ConfigError(message, field="api_key_env", fix="set it to the key alone")
        return key

    def headers(self) -> dict[str, str]:
        """What authorises a request."""
        key = self.read()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def hide(self, error: BackendError) -> BackendError:
        """The error without the key, in case a server repeated it."""
        key = os.environ.get(self.variable, "").strip() if self.variable else ""
        # An excerpt may have cut the key off, so its beginnings are looked for too.
        for length in range(len(key), min(_TELLING, len(key)) - 1, -1):
            if length and key[:length] in str(error):
                error.message = error.message.replace(key[:length], _HIDDEN)
                error.args = (str(error).replace(key[:length], _HIDDEN),)
        return error


def cleaned(text: str) -> str:
    """What a backend says, without the addresses and the keys in it: it goes to clients."""
    return _KEY.sub(_HIDDEN, _ADDRESS.sub("[address]", text))
