"""`ruvllm keys`: the file of hashed API keys."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import click

from ruvllm import ConfigError
from ruvllm_edge.auth import Key, KeyRing, new_key, read_keys

__all__ = ["keys"]

_file = click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="RUVLLM_KEYS_FILE",
    required=True,
    help="Where hashed keys are kept.  [env: RUVLLM_KEYS_FILE]",
)
_name = click.argument("name")


@click.group()
def keys() -> None:
    """Make and withdraw the keys that `ruvllm serve --keys-file` asks for.

    \b
    Examples:
      ruvllm keys add laptop --file keys.txt
      ruvllm keys add owner --admin --file keys.txt
      ruvllm keys list --file keys.txt
      ruvllm keys remove laptop --file keys.txt
    """


@keys.command()
@_name
@_file
@click.option("--admin", is_flag=True, help="Who has it is told paths, backends' addresses and what backends said.")
def add(name: str, file: Path, admin: bool) -> None:
    """Make a key and print it: only its hash is kept, so it cannot be shown again."""
    ring = read_keys(file) if file.exists() else KeyRing()
    if name in {key.name for key in ring.keys}:
        raise ConfigError(f"there is a key {name!r} already", field="name", fix="give this one another name")
    if not name or any(char.isspace() for char in name) or len(name) > 80:
        fix = "give it another name, one word of up to 80 characters"
        raise ConfigError(f"no key can be called {name!r}", field="name", fix=fix)
    key = new_key()
    _write(file, (*ring.keys, Key(name, sha256(key.encode()).digest(), "admin" if admin else "")))
    click.echo(key)


@keys.command("list")
@_file
def show(file: Path) -> None:
    """Names of the keys, those of administrators marked."""
    for key in read_keys(file).keys:
        click.echo(f"{key.name} (admin)" if key.admin else key.name)


@keys.command()
@_name
@_file
def remove(name: str, file: Path) -> None:
    """Withdraw a key; a running server has to be restarted."""
    ring = read_keys(file)
    left = tuple(key for key in ring.keys if key.name != name)
    if len(left) == len(ring):
        raise ConfigError(f"no key is called {name!r}", field="name", fix="see `ruvllm keys list`")
    _write(file, left)


def _write(file: Path, kept: tuple[Key, ...]) -> None:
    """Whole or not at all, and for the owner alone unless others were let in since."""
    text = "".join(key.line() for key in kept)
    fresh = file.with_name(f"{file.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
    if file.exists():
        fresh.chmod(file.stat().st_mode & 0o777)
    fresh.replace(file)
