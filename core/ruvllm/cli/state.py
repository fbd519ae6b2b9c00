"""`ruvllm state`: what of the state file needs a person's look."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from ruvllm import InputError, StoreError
from ruvllm.cli.console import print_json, show_table
from ruvllm.cli.options import default_state, json_option, said_option, state_of, state_option
from ruvllm.memory.rewriting import write_again
from ruvllm.state.agents import save_agents
from ruvllm.state.names import RESTORED
from ruvllm.state.set_aside import SetAsideRow
from ruvllm.state.store import Store
from ruvllm.state.transfer import dump, empty, replaced

_ids = click.argument("ids", type=click.IntRange(1, 2**63 - 1), nargs=-1)


@click.group()
def state() -> None:
    """Look after the file that keeps everything, and those of a server's other spaces.

    \b
    Examples:
      ruvllm state spaces
      ruvllm state export acme.db --space acme
      ruvllm state restore acme.db --space acme
      ruvllm state delete --space acme --yes
      ruvllm state set-aside list
      ruvllm state set-aside retry
    """


_space = click.option("--space", metavar="NAME", help="Of a server's keys (`ruvllm keys add --space`).")


def _space_file(ctx: click.Context, path: Path | None, space: str | None) -> Path:
    """The state file, or that of a space beside it (or in RUVLLM_SPACES)."""
    found = state_of(ctx, path) or default_state()
    if space in (None, "default"):
        return found
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?", space):
        raise InputError(f"no space is called {space[:80]!r}", field="space", fix="see `ruvllm state spaces`")
    return _folder(found) / f"{space}.db"


def _folder(state: Path) -> Path:
    return Path(os.environ.get("RUVLLM_SPACES") or f"{state}.spaces")


@state.command()
@state_option
@json_option
@click.pass_context
def spaces(ctx: click.Context, state: Path | None, as_json: bool) -> None:
    """The spaces that a server with keys has made, and how large their files are.

    \b
    Examples:
      ruvllm state spaces
      ruvllm state spaces --state ./team.db --json
    """
    found = state_of(ctx, state) or default_state()
    files = [("default", found)] * found.is_file() + [(one.stem, one) for one in sorted(_folder(found).glob("*.db"))]
    sizes = [(name, sum(one.stat().st_size for one in _with_log(file)), str(file)) for name, file in files]
    if as_json:
        print_json([{"space": name, "bytes": size, "file": file} for name, size, file in sizes])
        return
    cells = [(name, f"{size:,}", file) for name, size, file in sizes]
    show_table(f"{len(cells):,} spaces", ("Space", "Bytes", "File"), cells, right=("Bytes",))


def _with_log(file: Path) -> list[Path]:
    """It, and what is written but not yet in it."""
    return [one for one in (file, file.with_name(f"{file.name}-wal")) if one.exists()]


@state.command("export")
@said_option
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_space
@state_option
@click.pass_context
def export_(ctx: click.Context, file: Path, space: str | None, state: Path | None) -> None:
    """Write all that is stored into one file, which every host opens; a running server need not stop.

    \b
    Examples:
      ruvllm state export backup.db
      ruvllm state export acme.db --space acme
    """
    with _opened(ctx, _space_file(ctx, state, space)) as store:
        data = dump(store)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(data)
    click.echo(f"wrote {len(data):,} bytes")


@state.command()
@said_option
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_space
@state_option
@click.pass_context
def restore(ctx: click.Context, file: Path, space: str | None, state: Path | None) -> None:
    """Put what `export` wrote in the place of all that is stored; a running server goes on with it.

    \b
    Examples:
      ruvllm state restore backup.db
      ruvllm state restore acme.db --space acme
    """
    with closing(Store(_space_file(ctx, state, space))) as store, replaced(store, file.read_bytes()):
        store.put(RESTORED, os.urandom(8))
    click.echo("restored")


@state.command()
@said_option
@_space
@click.option("--yes", is_flag=True, help="Do not ask.")
@state_option
@click.pass_context
def delete(ctx: click.Context, space: str | None, yes: bool, state: Path | None) -> None:
    """Delete all that is stored: memories, sessions, agents, what was learnt. A running server goes on empty.

    \b
    Examples:
      ruvllm state delete --space acme --yes
    """
    found = _space_file(ctx, state, space)
    with _opened(ctx, found) as store:
        if not yes:
            click.confirm(f"Delete all of {found}?", abort=True)
        with replaced(store, empty(store)):
            save_agents(store, ())
            store.put(RESTORED, os.urandom(8))
        with store.alone() as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    click.echo("deleted")


@state.group("set-aside")
def set_aside() -> None:
    """What could not be written, while everything else was: answers, turns, feedback, agents …

    The log names each with its id and the reason. Its text is in the state file until it is written again, dropped,
    or what it belongs to is erased.

    \b
    Examples:
      ruvllm state set-aside list
      ruvllm state set-aside retry 3 4
      ruvllm state set-aside drop --all
    """


@contextmanager
def _opened(ctx: click.Context, path: Path | None) -> Iterator[Store]:
    """The state file; one that nobody has made is not made here."""
    found = state_of(ctx, path) or default_state()
    if not found.is_file():
        raise StoreError(f"there is no file {found}", field="state", fix="give the path of a ruvllm state file")
    with closing(Store(found)) as store:
        yield store


@set_aside.command("list")
@state_option
@json_option
@click.pass_context
def list_(ctx: click.Context, state: Path | None, as_json: bool) -> None:
    """What is set aside: its number, kind, id and the reason; never its text.

    \b
    Examples:
      ruvllm state set-aside list
      ruvllm state set-aside list --state ./team.db --json
    """
    with _opened(ctx, state) as store:
        rows = store.set_aside.rows()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        click.echo("nothing is set aside")
        return
    columns = ("No.", "Kind", "Id", "Reason", "Since", "Bytes")
    show_table(f"{len(rows):,} set aside", columns, map(_row, rows), right=("No.", "Bytes"))


def _row(row: SetAsideRow) -> tuple[str, ...]:
    since = f"{datetime.fromtimestamp(row.created):%Y-%m-%d %H:%M}"
    return str(row.id), row.kind, row.item, row.reason, since, f"{row.size:,}" if row.size else "lost"


@set_aside.command()
@_ids
@state_option
@json_option
@click.pass_context
def retry(ctx: click.Context, ids: tuple[int, ...], state: Path | None, as_json: bool) -> None:
    """Write it again, by numbers of `list`, or all of it. The exit status is 1 when some of it still cannot be.

    A half of a character becomes U+FFFD. A server that has the file open sees sessions and agents after a restart.

    \b
    Examples:
      ruvllm state set-aside retry
      ruvllm state set-aside retry 3 4
    """
    with _opened(ctx, state) as store:
        _check(store, ids)
        done, left = write_again(store, ids or None)
    if as_json:
        print_json({"written": done, "left": left})
    else:
        click.echo(f"wrote {len(done):,}" + (f"; {len(left):,} still cannot be written" if left else ""))
    ctx.exit(1 if left else 0)


@set_aside.command()
@_ids
@click.option("--all", "every", is_flag=True, help="All that is set aside.")
@state_option
@json_option
@click.pass_context
def drop(ctx: click.Context, ids: tuple[int, ...], every: bool, state: Path | None, as_json: bool) -> None:
    """Remove it for good, by numbers of `list`.

    \b
    Examples:
      ruvllm state set-aside drop 3
      ruvllm state set-aside drop --all
    """
    if bool(ids) == every:
        raise click.UsageError("give numbers of `list`, or --all", ctx)
    with _opened(ctx, state) as store:
        _check(store, ids)
        gone = store.set_aside.drop(ids or [row.id for row in store.set_aside.rows()])
    if as_json:
        print_json({"dropped": gone})
    else:
        click.echo(f"dropped {gone:,}")


def _check(store: Store, ids: tuple[int, ...]) -> None:
    missing = sorted(set(ids) - {row.id for row in store.set_aside.rows()})
    if missing:
        fix = "see `ruvllm state set-aside list`"
        raise InputError(f"nothing set aside has the number {', '.join(map(str, missing))}", field="ids", fix=fix)
