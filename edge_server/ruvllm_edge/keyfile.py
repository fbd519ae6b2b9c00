"""Changes of the file of keys: made by one process at a time, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from ruvllm import ConfigError
from ruvllm.options import ADDS
from ruvllm_edge.auth import ROLES, Key, check_space, new_key, read_keys

try:
    import fcntl
except ModuleNotFoundError:  # Windows: who changes it last wins
    fcntl = None  # type: ignore[assignment]


_MOST = 100_000  # keys


def add_key(file: Path, key: Key) -> str:
    """Add a key; returns it in plain text, which nothing keeps. Raises as `add_keys`."""
    return add_keys(file, [key])[0]


def add_keys(file: Path, new: Sequence[Key]) -> list[str]:
    """Add keys, all or none, to a file that is made when it is missing; returns them in plain text.

    Args:
        new: without their digests.

    Raises:
        ConfigError: a name is taken or none, or a field cannot be used.
    """
    for key in new:
        _check(key)
    plain = [new_key() for _ in new]
    with _changed(file) as keys:
        names = {key.name for key in keys}
        for key, secret in zip(new, plain, strict=True):
            if key.name in names:
                message = f"there is a key {key.name!r} already"
                raise ConfigError(message, field="name", fix="give this one another name")
            names.add(key.name)
            keys.append(replace(key, digest=sha256(secret.encode()).digest(), alone=False))
        if len(keys) > _MOST:
            raise ConfigError(f"more than {_MOST:,} keys", field="name", fix="revoke those that nobody uses")
    return plain


def _check(key: Key) -> None:
    name = key.name
    if not name.isprintable() or not 0 < len(name) <= 80 or name[0] == "#" or any(char.isspace() for char in name):
        fix = "give it another name, one word of up to 80 characters"
        raise ConfigError(f"no key can be called {name[:100]!r}", field="name", fix=fix)
    if key.role not in ("", *ROLES):
        raise ConfigError(f"there is no role {key.role[:80]!r}", field="role", fix=f"use {', '.join(ROLES)}")
    for field in ("budget", "rate"):
        value = getattr(key, field)
        if value is not None and not 0 <= value < float("inf"):
            raise ConfigError(f"{field} is {value}", field=field, fix="give a number of 0 or more")
    if unknown := {*(key.adds or ())} - {*ADDS}:
        message = f"{sorted(unknown)[0][:80]!r} is nothing that can be added"
        raise ConfigError(message, field="adds", fix=f"name {', '.join(ADDS)}")
    if not all(key.models):
        raise ConfigError("a model has no name", field="models", fix="name each as GET /v1/models does")
    check_space(key.space)


def revoke_key(file: Path, name: str) -> Key:
    """Withdraw a key; a running server refuses it at once. Raises ConfigError: there is none."""
    with _changed(file) as keys:
        found = named(keys, name)
        keys.remove(found)
    return found


def rotate_key(file: Path, name: str) -> str:
    """Another key in the place of one, with its name, space, role, limits and sessions. Raises as `revoke_key`."""
    plain = new_key()
    with _changed(file) as keys:
        found = named(keys, name)
        digest = sha256(plain.encode()).digest()
        keys[keys.index(found)] = replace(found, digest=digest, owner=found.tag, alone=False)
    return plain


def named(keys: Sequence[Key], name: str) -> Key:
    """The key of this name. Raises ConfigError: there is none."""
    found = next((key for key in keys if key.name == name), None)
    if found is None:
        raise ConfigError(f"no key is called {name[:80]!r}", field="name", fix="see `ruvllm keys list`")
    return found


@contextmanager
def _changed(file: Path) -> Iterator[list[Key]]:
    """The keys of a file; what the block has made of them is written at its end, for the owner alone at first."""
    with _alone(file):
        keys = list(read_keys(file).keys) if file.exists() else []
        yield keys
        fresh = file.with_name(f"{file.name}.new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            out.write("".join(key.line() for key in keys))
            out.flush()
            os.fsync(out.fileno())
        if file.exists():
            fresh.chmod(file.stat().st_mode & 0o777)
        fresh.replace(file)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(file.with_name(f"{file.name}.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as error:
        fix = "give a path that can be written"
        raise ConfigError(f"{file} cannot be changed: {error}", field="RUVLLM_KEYS_FILE", fix=fix) from None
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
