"""`ruvllm memory` over time: until when memories held, what superseded them, and what is forgotten."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from ruvllm import InputError
from ruvllm.cli.console import plain, print_json, show_table
from ruvllm.cli.options import json_object, json_option, open_memory, said_option, state_option
from ruvllm.memory.erasure import chosen, expired
from ruvllm.memory.validity import Lifetime

_id = click.IntRange(1, 2**63 - 1)


def lived(life: Lifetime) -> tuple[str, str, str]:
    """From when, until when and how often something was said, for a table."""
    return _day(life.since), "now" if life.until is None else _day(life.until), str(life.said)


def _day(seconds: float) -> str:
    try:
        return str(datetime.fromtimestamp(seconds, UTC).date())
    except (ValueError, OverflowError, OSError):
        return "?"


@click.command()
@click.argument("ids", type=_id, nargs=-1)
@click.option("--expired", "late", is_flag=True, help="Those whose `expires` among the metadata has passed.")
@click.option("--filter", "filter_", metavar="JSON", help="""Those whose metadata fulfil this: '{"team": "web"}'.""")
@click.option("--collection", help="Those of this collection.")
@click.option("--before", metavar="DATE", help="Those remembered before this date.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@click.option("--erase", "whole", is_flag=True, help="Leave no byte of them, in the file or beside it.")
@state_option
@json_option
@click.pass_context
def forget(
    ctx: click.Context,
    ids: tuple[int, ...],
    late: bool,
    filter_: str | None,
    collection: str | None,
    before: str | None,
    dry_run: bool,
    whole: bool,
    state: Path | None,
    as_json: bool,
) -> None:
    """Remove memories for good, with their edges: by their ids, or all that a policy names.

    --filter, --collection and --before go together: what fulfils all of them is removed.

    With --erase the file is written anew, and what repeats their texts or came of them goes along: statements and
    answers that were written back, conversation turns, feedback, what is set aside or learnt of them, saved indexes,
    copies that a repair left. Backups of your own are yours to erase. The exit status is 1 when one was not there.

    \b
    Examples:
      ruvllm memory forget 12
      ruvllm memory forget 12 31 --erase
      ruvllm memory forget --expired
      ruvllm memory forget --filter '{"speaker": "user"}' --before 2025-01-01 --dry-run
    """
    policy = bool(filter_) or collection is not None or before is not None
    if not ids and not late and not policy:
        raise click.UsageError("Say which: ids, --expired, --filter, --collection or --before.", ctx)
    with open_memory(ctx, state, "static", make=False) as llm:
        wanted = {*ids, *(expired(llm.store) if late else ())}
        if policy:
            wanted |= {*chosen(llm.store, json_object(filter_, "filter"), collection=collection, before=before)}
        there = len(llm.memory.records.present(wanted))
        remove = llm.services.erase if whole else llm.memory.forget
        gone = there if dry_run else remove(sorted(wanted))
        if policy and llm.store.outbox.enabled:
            notice = "Memories that this server has let go of are reached by `ruvllm shared forget` alone."
            click.echo(notice, err=True)
    missing = len(wanted) - gone
    if as_json:
        print_json({"forgotten": 0 if dry_run else gone, "missing": missing} | ({"found": there} if dry_run else {}))
    else:
        said = f"would forget {gone:,}" if dry_run else f"forgot {gone:,}"
        click.echo(said + (f"; {missing:,} were not there" if missing else ""))
    ctx.exit(1 if missing else 0)


@click.command()
@click.argument("id", type=_id)
@state_option
@json_option
@click.pass_context
def timeline(ctx: click.Context, id: int, state: Path | None, as_json: bool) -> None:
    """Show what superseded a memory and what it superseded, oldest first, each with until when it held and why.

    `ruvllm memory reopen` undoes it.

    \b
    Examples:
      ruvllm memory timeline 12
    """
    with open_memory(ctx, state, "static", make=False) as llm:
        found = llm.memory.records.get(llm.memory.validity.history(id))
        lives = llm.memory.validity.lifetimes(found)
    if not found:
        raise InputError(f"there is no memory {id}", field="id", fix="`ruvllm memory search` shows ids")
    if as_json:
        print_json([asdict(one) | asdict(lives[one.id]) for one in found])
        return
    rows = []
    for one in found:
        since, until, said = lived(lives[one.id])
        closed = lives[one.id].closed
        rows.append((str(one.id), since, until, said, plain(one.text), closed.reason if closed else ""))
    columns = ("Id", "From", "Until", "Said", "Text", "Why it ended")
    show_table(f"{len(rows)} memories", columns, rows, right=("Id", "Said"), cut="Text")


@click.command()
@said_option
@click.argument("ids", type=_id, nargs=-1, required=True)
@state_option
@click.pass_context
def reopen(ctx: click.Context, ids: tuple[int, ...], state: Path | None) -> None:
    """Undo a supersession: let memories hold again, by their ids.

    The exit status is 1 when one of them held anyway.

    \b
    Examples:
      ruvllm memory reopen 12
    """
    with open_memory(ctx, state, "static") as llm:
        opened = llm.memory.validity.reopen(set(ids))
    click.echo(f"{opened:,} hold again")
    ctx.exit(0 if opened == len(set(ids)) else 1)
