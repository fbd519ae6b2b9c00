"""Who may call: API keys, of which only hashes are kept, and how often each of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from secrets import token_urlsafe

from ruvllm import ConfigError

__all__ = ["Buckets", "Key", "KeyRing", "new_key", "read_keys"]

_SHORTEST = 20  # characters; a key is hashed fast, so it must not be one that can be guessed
_LINE = re.compile(r"(\S{1,80})\s+sha256:([0-9a-f]{64})(\s+admin)?")


def new_key() -> str:
    """256 random bits."""
    return f"rv-{token_urlsafe(32)}"


@dataclass(frozen=True, slots=True)
class Key:
    """Who calls.

    Attributes:
        name: "" where no key is needed.
        digest: the SHA-256: of a random key, which a plain hash protects well.
        admin: whether paths, backends' addresses and what backends said may be told.
    """

    name: str = ""
    digest: bytes = b""
    admin: bool = False

    @property
    def tag(self) -> str:
        """Part of what belongs to this key alone, which tells nothing of it."""
        return sha256(b"tag" + self.digest).hexdigest()[:12] if self.name else ""

    def line(self) -> str:
        """Of a file of keys."""
        return f"{self.name} sha256:{self.digest.hex()}{' admin' if self.admin else ''}\n"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that may be used."""

    keys: tuple[Key, ...] = ()

    @classmethod
    def of(cls, keys: Iterable[str]) -> KeyRing:
        """Of keys in plain text. Raises ConfigError: one is too short."""
        given = list(keys)
        if any(len(key) < _SHORTEST for key in given):
            fix = f"use {_SHORTEST} random characters or more, as `ruvllm keys add` makes"
            raise ConfigError("an API key is too short", field="RUVLLM_API_KEYS", fix=fix)
        return cls(tuple(Key(f"key-{i + 1}", sha256(key.encode()).digest()) for i, key in enumerate(given)))

    def __add__(self, other: KeyRing) -> KeyRing:
        return KeyRing(self.keys + other.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, presented: str) -> Key | None:
        """A key; every hash is compared to its end, whatever it is, so time tells nothing."""
        digest, found = sha256(presented.encode("utf-8", "replace")).digest(), None
        for key in self.keys:
            if compare_digest(digest, key.digest):
                found = key
        return found


def read_keys(path: Path) -> KeyRing:
    """A file of `NAME sha256:HEX` lines, with ` admin` behind an administrator's.

    Raises:
        ConfigError: it is missing, or a line is something else.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fix = "make one with `ruvllm keys add`"
        raise ConfigError(f"{path} cannot be read: {error}", field="RUVLLM_KEYS_FILE", fix=fix) from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if not match:
            fix = "write NAME sha256:HEX, for an administrator with ` admin` behind it"
            raise ConfigError(f"{path}:{number} is no key", field=f"{path}:{number}", fix=fix)
        found.append(Key(match[1], bytes.fromhex(match[2]), bool(match[3])))
    return KeyRing(tuple(found))


class Buckets:
    """Token buckets, one for each name.

    Args:
        rate: tokens a second; 0 gives as many as are asked for.
        burst: tokens that a bucket holds.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._held: dict[str, tuple[float, float]] = {}

    def take(self, name: str, now: float) -> float:
        """Take one token; returns 0, or the seconds until there is one again."""
        if not self._rate:
            return 0.0
        held, since = self._held.get(name, (self._burst, now))
        held = min(self._burst, held + (now - since) * self._rate)
        if held < 1:
            self._held[name] = (held, now)
            return (1 - held) / self._rate
        self._held[name] = (held - 1, now)
        return 0.0
