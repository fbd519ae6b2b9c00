"""What a server may be told, by options or by the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ruvllm import ConfigError
from ruvllm.options import ADDS
from ruvllm.state.outbox import SHARES

PREFIX = "RUVLLM_"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Each field is read from RUVLLM_ and its name in capitals; lists are separated by commas.

    Attributes:
        host, port: where to listen; 0 takes a free port.
        api_keys: keys that may be used, in plain text; only their hashes are kept in memory.
        keys_file: hashed keys, see `ruvllm keys`.
        audit: the log of who did what; without it, one beside the file of keys.
        spaces: the folder of the state files of other spaces than the default one; without it, one beside the server's
            own state file. max_spaces: that are open at a time beside it, unless more are in use.
        rate, burst: requests a second of one key, and how many at once; 0 for no limit.
        max_body: bytes of one request body; bodies_memory: of all bodies that are being read.
        max_state: bytes of a state file that clients may take or put in the place of this one; 0 lets nobody.
        max_headers: bytes of a request's headers; header_timeout: seconds for them to arrive.
        max_connections: at a time; address_connections: of one address other than this machine's, 0 for no limit.
            More get 503.
        max_requests: requests at a time; more get 503.
        max_answers: answers that backends write at a time; queue: requests that may wait for one.
        body_timeout, timeout: seconds for a body to arrive, and for an answer; a client that takes nothing of an answer
            for `body_timeout` is cut off.
        drain: seconds that running requests get when the server stops.
        origins: pages of other origins that may call (CORS); none by default.
        hosts: names in the Host header that are answered beside the loopback's, while no key is needed.
        web: the folder of the playground; None looks beside the package.
        share_answers: whether answers go into memory though several keys find them there; with one key or none they do.
        embedding_names: of models that clients ask for embeddings, all of which are the encoder; without any, OpenAI's
            own ("text-embedding-...") are.
        trim_tools: of a request's tools that are passed on to a model: those that its question needs, and those that
            its conversation has used; 0 for all of them. A key may have a number of its own.
        chat_adds: what is done with clients' conversations beside passing them on, as `Constraints.adds`; nothing
            unless named. A key may have its own.
        otel: whether OpenTelemetry gets spans and metrics (extra `otel`); where to, the OTEL_... variables say.
        shared: the PostgreSQL database through which nodes share what they hold, as postgresql://… (extra `postgres`).
        shared_spaces: those of this server that are shared, each NAME or NAME:SHARE ("*" for all others), SHARE being
            "texts", "vectors" (no text leaves) or "deltas" (sums over what was learnt alone); texts of all when empty.
        shared_hot: memories of a collection that stay on this server where the database searches it (`ruvllm shared
            index`); 0 for all. shared_deadline: seconds that a search of such a collection waits for the database.
        workers: processes that decide tasks of the default space. This one learns, writes and serves connections; the
            others read its state file, and decide nothing until they have read the latest.
        log_level: of the log; "info" has a line for each request.
        log_prompts: whether what clients send is logged too; never unless this is set.
    """

    host: str = "127.0.0.1"
    port: int = 3000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    keys_file: Path | None = None
    audit: Path | None = None
    spaces: Path | None = None
    max_spaces: int = 50
    rate: float = 100.0
    burst: int = 200
    max_body: int = 1 << 20
    bodies_memory: int = 64 << 20
    max_state: int = 0
    max_headers: int = 64 << 10
    header_timeout: float = 10.0
    max_connections: int = 2048
    address_connections: int = 256
    max_requests: int = 1024
    max_answers: int = 256
    queue: int = 256
    body_timeout: float = 10.0
    timeout: float = 300.0
    drain: float = 30.0
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    web: Path | None = None
    share_answers: bool = False
    embedding_names: tuple[str, ...] = ()
    trim_tools: int = 0
    chat_adds: tuple[str, ...] = ()
    otel: bool = False
    shared: str = field(default="", repr=False)
    shared_spaces: tuple[str, ...] = ()
    shared_hot: int = 0
    shared_deadline: float = 0.2
    workers: int = 1
    log_level: str = "info"
    log_prompts: bool = False

    def __post_init__(self) -> None:
        positive = (
            "burst", "max_body", "bodies_memory", "max_headers", "header_timeout", "max_connections", "max_requests",
            "max_answers", "max_spaces", "workers", "body_timeout", "timeout", "shared_deadline",
        )  # fmt: skip
        for name in positive:
            if not getattr(self, name) > 0:
                raise _wrong(name, getattr(self, name), "give a number above 0")
        for name in ("rate", "queue", "drain", "max_state", "address_connections", "trim_tools", "shared_hot"):
            if not getattr(self, name) >= 0:
                raise _wrong(name, getattr(self, name), "give 0 or more")
        if self.max_state > self.bodies_memory:
            raise _wrong("max_state", self.max_state, "raise RUVLLM_BODIES_MEMORY to as much")
        if not 0 <= self.port <= 65535:
            raise _wrong("port", self.port, "give 0 to 65535")
        if self.log_level not in _LEVELS:
            raise _wrong("log_level", self.log_level, f"use one of {', '.join(_LEVELS)}")
        if unknown := {*self.chat_adds} - {*ADDS}:
            raise _wrong("chat_adds", sorted(unknown)[0], f"name {', '.join(ADDS)}")
        for name, sharing in self.shares.items():
            if not name or sharing not in SHARES:
                raise _wrong("shared_spaces", f"{name}:{sharing}", f"write NAME or NAME:SHARE, of {', '.join(SHARES)}")
        for origin in self.origins:
            if "://" not in origin or origin.endswith("/"):
                raise _wrong("origins", origin, "name each as https://app.example, without a path; * is not taken")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in _LOOPBACK

    @property
    def shares(self) -> dict[str, str]:
        """Of each shared space, what leaves this server."""
        parts = (one.partition(":") for one in self.shared_spaces)
        return {name.strip(): sharing.strip() if colon else "texts" for name, colon, sharing in parts}

    @property
    def has_keys(self) -> bool:
        """Whether a key is needed."""
        return bool(self.api_keys or self.keys_file)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **given: Any) -> Settings:
        """What the environment says, and over it what is given and not None.

        Raises:
            ConfigError: a value that cannot be used, with its key as the field.
        """
        found: dict[str, Any] = {}
        for one in fields(cls):
            text = environ.get(PREFIX + one.name.upper(), "").strip()
            if text:
                found[one.name] = _read(one.name, str(one.type), text)
        return cls(**found | {name: value for name, value in given.items() if value is not None})


def _read(name: str, kind: str, text: str) -> Any:
    try:
        if kind.startswith("tuple"):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if kind.startswith("Path"):
            return Path(text)
        if kind == "bool":
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        kinds = {"bool": "true or false", "int": "a whole number", "float": "a number"}
        raise _wrong(name, text, f"give {kinds.get(kind, 'a text')}") from None


def _wrong(name: str, value: object, fix: str) -> ConfigError:
    return ConfigError(f"{name} is {value!r}"[:120], field=PREFIX + name.upper(), fix=fix)
