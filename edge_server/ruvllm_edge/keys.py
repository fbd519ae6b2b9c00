"""`ruvllm keys`: the file of hashed API keys, and the log of what was done with them."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import click

from ruvllm.cli.console import print_json, show_table
from ruvllm.cli.options import json_option, said_option
from ruvllm_edge.audit import Audit, audit_file, read_audit
from ruvllm_edge.auth import DEFAULT_SPACE, ROLES, Key, read_keys
from ruvllm_edge.keyfile import add_key, named, revoke_key, rotate_key

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

    A running server sees every change at once. Each key belongs to a space, which has memories, agents, sessions and
    learning of its own.

    \b
    Examples:
      ruvllm keys add laptop --file keys.txt
      ruvllm keys add ci --space acme --role use --models small --budget 5 --rate 10 --file keys.txt
      ruvllm keys list --file keys.txt
      ruvllm keys rotate ci --file keys.txt
      ruvllm keys revoke laptop --file keys.txt
      ruvllm keys audit --key ci --file keys.txt
    """


def _dollars(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """5, $5 or 5/day."""
    if value is None:
        return None
    try:
        return float(value.strip().removeprefix("$").removesuffix("/day"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no amount: give US dollars a day, as 5 or 0.50") from None


@keys.command()
@_name
@_file
@click.option("--space", default=DEFAULT_SPACE, show_default=True, help="Whose memory, agents and sessions it uses.")
@click.option("--role", type=click.Choice(ROLES), help="use: ask. teach (when left out): feedback, memories and agents "
              "too. admin: keys, export, restore and erasure of the space too.")  # fmt: skip
@click.option("--admin", is_flag=True, help="The same as --role admin.")
@click.option("--models", default="", metavar="A,B", help="Names of GET /v1/models that it may use; all when left out.")
@click.option("--budget", callback=_dollars, metavar="$", help="US dollars a day (UTC); without, no limit.")
@click.option("--rate", type=click.FloatRange(0), metavar="N", help="Requests a second; the server's when left out.")
@click.option("--agent", default="", metavar="NAME", help="The agent that uses it: it reads its own memories and "
              "shared ones, and adds to its own.")  # fmt: skip
@click.option("--tools", type=click.IntRange(0), metavar="N", help="Pass on this many of a request's tools, those that "
              "its question needs; 0 for all, the server's RUVLLM_TRIM_TOOLS when left out.")  # fmt: skip
@click.option("--adds", metavar="A,B", help="What its chats get beside being passed on: memory (notes from it), "
              "persona (of the agent), write-back (good answers go into memory); '' for nothing, the server's "
              "RUVLLM_CHAT_ADDS when left out.")  # fmt: skip
@json_option
def add(
    name: str,
    file: Path,
    space: str,
    role: str | None,
    admin: bool,
    models: str,
    budget: float | None,
    rate: float | None,
    agent: str,
    tools: int | None,
    adds: str | None,
    as_json: bool,
) -> None:
    """Make a key and print it: only its hash is kept, so it cannot be shown again.

    \b
    Examples:
      ruvllm keys add laptop --file keys.txt
      ruvllm keys add owner --space acme --role admin --file keys.txt
      ruvllm keys add ci --space acme --role use --models small,gpt-4o-mini --budget 5 --rate 10 --file keys.txt
    """
    allowed = tuple(model.strip() for model in models.split(",") if model.strip())
    role = "admin" if admin else role or ""
    added = None if adds is None else tuple(one.strip() for one in adds.split(",") if one.strip())
    key = Key(
        name, role=role, space=space, models=allowed, budget=budget, rate=rate, tools=tools, agent=agent, adds=added
    )
    plain = add_key(file, key)
    _note(file, "keys add", key)
    _show(plain, key, as_json)


@keys.command("list")
@_file
@click.option("--space", help="Of this space only.")
@json_option
def list_(file: Path, space: str | None, as_json: bool) -> None:
    """Names of the keys, with their roles, spaces and limits.

    \b
    Examples:
      ruvllm keys list --file keys.txt
      ruvllm keys list --space acme --json --file keys.txt
    """
    found = [key for key in read_keys(file).keys if space in (None, key.space)]
    if as_json:
        print_json([_row(key) for key in found])
        return
    for key in found:
        about = [key.role] if key.role else []
        about += [f"space {key.space}"] if key.space != DEFAULT_SPACE else []
        about += [f"agent {key.agent}"] if key.agent else []
        about += [f"models {' '.join(key.models)}"] if key.models else []
        about += [f"adds {' '.join(key.adds)}"] if key.adds else []
        about += [f"${key.budget:g} a day"] if key.budget is not None else []
        about += [f"{key.rate:g} requests a second"] if key.rate is not None else []
        click.echo(f"{key.name} ({', '.join(about)})" if about else key.name)


@keys.command()
@said_option
@_name
@_file
def revoke(name: str, file: Path) -> None:
    """Withdraw a key; a running server refuses it at once. What it did stays in the log and in its space.

    \b
    Examples:
      ruvllm keys revoke laptop --file keys.txt
    """
    _note(file, "keys revoke", revoke_key(file, name))


@keys.command()
@_name
@_file
@json_option
def rotate(name: str, file: Path, as_json: bool) -> None:
    """Another key in the place of one, with its space, role, limits and sessions; the former is refused at once.

    \b
    Examples:
      ruvllm keys rotate ci --file keys.txt
    """
    plain = rotate_key(file, name)
    key = named(read_keys(file).keys, name)
    _note(file, "keys rotate", key)
    _show(plain, key, as_json)


@keys.command()
@_file
@click.option("--key", help="What this key did, and what was done with it.")
@click.option("--space", help="In this space only.")
@click.option("-n", "--most", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="The latest.")
@click.option(
    "--log", type=click.Path(dir_okay=False, path_type=Path), envvar="RUVLLM_AUDIT",
    help="The log, where it is not beside the keys.  [env: RUVLLM_AUDIT]",
)  # fmt: skip
@json_option
def audit(file: Path, key: str | None, space: str | None, most: int, log: Path | None, as_json: bool) -> None:
    """Who did what, when, and what came of it; never what was said.

    \b
    Examples:
      ruvllm keys audit --file keys.txt
      ruvllm keys audit --key ci -n 1000 --json --file keys.txt
    """
    rows = read_audit(log or audit_file(file), key, space, most)
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("nothing was done yet")
        return
    names = ("time", "key", "space", "role", "action", "about", "outcome")
    cells = ([str(row.get(name, "")) for name in names] for row in rows)
    show_table(f"{len(rows):,} done", tuple(name.capitalize() for name in names), cells, right=("Outcome",))


def _show(plain: str, key: Key, as_json: bool) -> None:
    if as_json:
        print_json(_row(key) | {"key": plain})
    else:
        click.echo(plain)


def _row(key: Key) -> dict[str, Any]:
    return {
        "name": key.name, "role": key.role or "teach", "space": key.space, "models": list(key.models),
        "budget": key.budget, "rate": key.rate, "tools": key.tools, "agent": key.agent,
        "adds": key.adds and list(key.adds),
    }  # fmt: skip


def _note(file: Path, action: str, key: Key) -> None:
    """In the audit log, by the name of this machine's user."""
    log = Audit(audit_file(file))
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = "?"
    log.add(action, 200, key=f"cli:{user}", space=key.space, about=key.name)
    log.write()


# The name that former versions had for it.
keys.add_command(click.Command("remove", callback=revoke.callback, params=revoke.params, hidden=True))
