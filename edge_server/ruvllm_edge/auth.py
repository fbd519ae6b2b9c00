"""Who may call: API keys, of which only hashes are kept, with the space, role and limits of each of them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import quote, unquote

from ruvllm import ConfigError
from ruvllm.options import ADDS
from ruvllm.state.record import AGENT, Memory
from ruvllm_edge.logs import event
from ruvllm_edge.problems import Problem

DEFAULT_SPACE = "default"
ROLES = ("use", "teach", "admin")  # each may do what those before it may
_SHORTEST = 20  # characters; a key is hashed fast, so it must not be one that can be guessed
_LINE = re.compile(r"(\S{1,80})\s+sha256:([0-9a-f]{64})((?:\s+\S+)*)")
_SPACE = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")


def new_key() -> str:
    """256 random bits."""
    return f"rv-{token_urlsafe(32)}"


def check_space(name: str) -> str:
    """The name of a space, which is that of its file too. Raises ConfigError: it cannot be one."""
    if not _SPACE.fullmatch(name):
        fix = "use up to 64 lower-case letters, digits, - and _"
        raise ConfigError(f"no space can be called {name[:80]!r}", field="space", fix=fix)
    return name


@dataclass(frozen=True, slots=True)
class Key:
    """Who calls.

    Attributes:
        name: "" where no key is needed.
        digest: the SHA-256: of a random key, which a plain hash protects well.
        role: of ROLES; "" is "teach" that nobody chose.
        space: whose memory, agents, sessions and learning it uses.
        models: that it may be answered by, as `/v1/models` names them; all of them when empty.
        budget: US dollars a day (UTC); None for no limit.
        rate: requests a second; the server's where None.
        tools: of a request that are passed on, those its question needs; the server's setting where None, 0 for all.
        agent: whose knowledge it reads, beside what is shared, and whose it adds to; "" for all.
        owner: what its sessions belong to; from the digest when empty. It survives the key's rotation.
        adds: to its conversations, as `Constraints.adds`; the server's setting where None.
        alone: whether it is the only one, or none is needed: it may do everything then.
    """

    name: str = ""
    digest: bytes = b""
    role: str = ""
    space: str = DEFAULT_SPACE
    models: tuple[str, ...] = ()
    budget: float | None = None
    rate: float | None = None
    tools: float | None = None
    owner: str = ""
    adds: tuple[str, ...] | None = None
    alone: bool = False
    agent: str = ""

    @property
    def admin(self) -> bool:
        """Whether paths, backends' addresses and what backends said may be told."""
        return self.role == "admin"

    @property
    def tag(self) -> str:
        """Part of what belongs to this key alone, which tells nothing of it."""
        return self.owner or (sha256(b"tag" + self.digest).hexdigest()[:12] if self.name else "")

    def may(self, role: str) -> bool:
        """Whether it may do what a role may."""
        return self.alone or ROLES.index(self.role or "teach") >= ROLES.index(role)

    def agent_of(self, named: str | None) -> str | None:
        """The agent that a request is of: the key's, else the one that it names. Raises Problem: 403, it is another."""
        if self.agent and named not in (None, "", self.agent):
            fix = "leave it out, or use a key without an agent"
            raise Problem(403, f"this key is of the agent {self.agent}", field="agent_id", fix=fix)
        return self.agent or named or None

    def sees(self, memory: Memory) -> bool:
        """Whether a memory is shared, or not another agent's."""
        return not self.agent or memory.metadata.get(AGENT) in (None, self.agent)

    def need(self, role: str) -> None:
        """Raises Problem: 403, it may not do what a role may."""
        if not self.may(role):
            fix = f"use a key that `ruvllm keys add --role {role}` made"
            raise Problem(
                403, f"this key's role is {self.role or 'teach'}, and this needs {role}", field="role", fix=fix
            )

    def line(self) -> str:
        """Of a file of keys."""
        words = [self.name, f"sha256:{self.digest.hex()}"]
        texts = ((name, getattr(self, name)) for name in _TEXTS)
        words += [f"{name}={quote(text, safe='')}" for name, text in texts if text not in ("", DEFAULT_SPACE)]
        words += [f"{name}={getattr(self, name):g}" for name in _NUMBERS if getattr(self, name) is not None]
        lists = (("models", self.models or None), ("adds", self.adds))
        words += [f"{name}={','.join(quote(one, safe='') for one in some)}" for name, some in lists if some is not None]
        return " ".join(words) + "\n"

    @classmethod
    def read(cls, line: str) -> Key:
        """From a line of a file of keys. Raises ValueError: it is none."""
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise ValueError
        found = dict[str, object]()
        for word in match[3].split():
            name, _, value = word.partition("=")
            if word == "admin":  # as former versions wrote it
                found["role"] = word
            elif name in _TEXTS:
                found[name] = unquote(value)
            elif name in _NUMBERS:
                found[name] = checked_number(value)
            elif name in ("models", "adds"):
                found[name] = tuple(unquote(one) for one in value.split(",") if one)
            else:
                raise ValueError
        key = cls(match[1], bytes.fromhex(match[2]), **found)  # type: ignore[arg-type]
        if key.role not in ("", *ROLES) or not _SPACE.fullmatch(key.space) or not {*(key.adds or ())} <= {*ADDS}:
            raise ValueError
        return key


NOBODY = Key(space="")  # whose request has no valid key
_TEXTS, _NUMBERS = ("role", "space", "owner", "agent"), ("budget", "rate", "tools")


def checked_number(text: str) -> float:
    """A limit. Raises ValueError: it is no number of 0 or more."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


class KeyRing:
    """The keys that may be used.

    Args:
        keys: in their order; one alone may do everything where nobody gave it a role.
    """

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        if len(keys) == 1 and not keys[0].role and keys[0].space == DEFAULT_SPACE:
            keys = (replace(keys[0], alone=True),)
        self.keys = tuple(keys)
        self._by_digest = {key.digest: key for key in self.keys}

    @classmethod
    def of(cls, keys: Iterable[str]) -> KeyRing:
        """Of keys in plain text. Raises ConfigError: one is too short."""
        given = list(keys)
        if any(len(key) < _SHORTEST for key in given):
            fix = f"use {_SHORTEST} random characters or more, as `ruvllm keys add` makes"
            raise ConfigError("an API key is too short", field="RUVLLM_API_KEYS", fix=fix)
        return cls([Key(f"key-{i + 1}", sha256(key.encode()).digest()) for i, key in enumerate(given)])

    def __add__(self, other: KeyRing) -> KeyRing:
        return KeyRing([replace(key, alone=False) for key in (*self.keys, *other.keys)])

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, presented: str) -> Key | None:
        """A key by its hash. Who does not have it cannot choose a hash, so the time of a look-up tells nothing."""
        return self._by_digest.get(sha256(presented.encode("utf-8", "replace")).digest())

    def of_space(self, name: str) -> list[Key]:
        """Those of one space."""
        return [key for key in self.keys if key.space == name]

    @property
    def spaces(self) -> set[str]:
        """That they belong to."""
        return {key.space for key in self.keys}


class Keys:
    """The keys of today: those of the settings, and those of a file, which may change at any time.

    Args:
        given: in plain text.
        file: hashed ones; None for none.

    Attributes:
        needed: whether a key is needed at all; that never changes, whatever is withdrawn.

    Raises:
        ConfigError: a key is too short, or the file cannot be read.
    """

    def __init__(self, given: Iterable[str] = (), file: Path | None = None) -> None:
        self._given, self._file, self._path = KeyRing.of(given), file, str(file)
        self._seen = self._signature() if file is not None else None
        self._ring = self._given if file is None else self._given + read_keys(file)
        self.needed = bool(self._ring) or file is not None

    @property
    def ring(self) -> KeyRing:
        """As the file says now, which one look at its time tells. A file that cannot be read changes nothing."""
        if self._file is not None and (seen := self._signature()) != self._seen:
            self._seen = seen
            try:
                self._ring = self._given + read_keys(self._file)
            except ConfigError as error:
                event(logging.ERROR, "keys not read", problem=str(error)[:300])
        return self._ring

    def _signature(self) -> tuple[int, ...] | None:
        try:
            seen = os.stat(self._path)
        except OSError:
            return None
        return seen.st_mtime_ns, seen.st_size, seen.st_ino


def read_keys(path: Path) -> KeyRing:
    """A file of lines as `Key.line` writes them.

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
        try:
            found.append(Key.read(line))
        except ValueError:
            fix = "write NAME sha256:HEX and what `ruvllm keys add --help` names, as space=S role=use"
            raise ConfigError(f"{path}:{number} is no key", field=f"{path}:{number}", fix=fix) from None
    return KeyRing(found)


class Buckets:
    """Token buckets, one for each name.

    Args:
        rate: tokens a second; 0 gives as many as are asked for.
        burst: tokens that a bucket holds.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._held: dict[str, tuple[float, float]] = {}

    def take(self, name: str, now: float, rate: float | None = None) -> float:
        """Take one token; returns 0, or the seconds until there is one again.

        Args:
            rate: of this name; everyone's when None.
        """
        rate = self._rate if rate is None else rate
        if not rate:
            return 0.0
        burst = min(self._burst, max(1.0, 2 * rate)) if rate != self._rate else self._burst
        held, since = self._held.get(name, (burst, now))
        held = min(burst, held + (now - since) * rate)
        if held < 1:
            self._held[name] = (held, now)
            return (1 - held) / rate
        self._held[name] = (held - 1, now)
        return 0.0
