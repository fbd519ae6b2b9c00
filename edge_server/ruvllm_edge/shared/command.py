"""`ruvllm shared`: the database through which several servers share what they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import click

from ruvllm import ConfigError
from ruvllm.cli.console import plain, print_json, show_table, waiting
from ruvllm.cli.options import encoder_option, json_object, json_option, open_llm, said_option
from ruvllm.memory.erasure import beginning_of
from ruvllm.state.outbox import SHARES
from ruvllm.state.record import read_metadata
from ruvllm_edge.shared.large import LargeSearch, Policy, prepare_search
from ruvllm_edge.shared.log import Log, connected
from ruvllm_edge.shared.migrations import check_version, migrate

if TYPE_CHECKING:
    from psycopg import AsyncConnection


T = TypeVar("T")
_url = click.argument("url", envvar="RUVLLM_SHARED")


@click.group()
def shared() -> None:
    """Several servers, one memory: agents, memories, feedback and outcomes through an append-only log in PostgreSQL.

    Every server decides from its own state file; none waits for the database.

    \b
    Examples:
      ruvllm shared init postgresql://owner@db/ruvllm
      ruvllm shared grant postgresql://owner@db/ruvllm node1 --space default
      ruvllm serve --shared postgresql://node1@db/ruvllm
      ruvllm shared status postgresql://owner@db/ruvllm
    """


def _with(url: str, work: Callable[[AsyncConnection], Awaitable[T]], ready: bool = True) -> T:
    """Raises ConfigError: the database cannot be reached, or refuses."""

    async def run() -> T:
        async with connected(url) as db:
            if ready:
                await check_version(db)
            return await work(db)

    try:
        return asyncio.run(run())
    except (ConfigError, click.ClickException):
        raise
    except Exception as error:  # psycopg.Error, which cannot be named where it is not installed
        message = f"the database refuses: {error}".strip().splitlines()[0][:300]
        raise ConfigError(message, field="shared", fix="check the address, its user and rights") from None


@shared.command()
@said_option
@_url
def init(url: str) -> None:
    """Make the tables of the log, or bring older ones up to date. Needs a role that may create a schema and a role.

    \b
    Examples:
      ruvllm shared init postgresql://owner@db/ruvllm
    """
    before, after = _with(url, migrate, ready=False)
    click.echo(f"the log is of version {after}" + (f", before {before}" if before not in (0, after) else ""))


@shared.command()
@said_option
@_url
@click.argument("role")
@click.option("--space", "spaces", multiple=True, required=True, help="That it may read and add to; * for all.")
def grant(url: str, role: str, spaces: tuple[str, ...]) -> None:
    """Let a role of the database take part: it may add to the log of these spaces and read it, and nothing else.

    \b
    Examples:
      ruvllm shared grant postgresql://owner@db/ruvllm node1 --space default --space acme
    """

    async def work(db: AsyncConnection) -> None:
        from psycopg import sql

        async with db.transaction():
            await db.execute(sql.SQL("GRANT ruvllm_node TO {}").format(sql.Identifier(role)))
            await db.execute("DELETE FROM ruvllm.members WHERE role = %s", (role,))
            for space in spaces:
                await db.execute("INSERT INTO ruvllm.members VALUES (%s, %s) ON CONFLICT DO NOTHING", (role, space))

    _with(url, work)
    click.echo(f"{role} takes part in {', '.join(spaces)}")


@shared.command()
@said_option
@_url
@click.argument("space")
@click.argument("what", type=click.Choice(list(SHARES)))
def restrict(url: str, space: str, what: str) -> None:
    """Have the database refuse more of a space than this; * for spaces that are not named.

    Servers that would send more are held to it, whatever their options say.

    \b
    Examples:
      ruvllm shared restrict postgresql://owner@db/ruvllm acme vectors
    """
    more = _with(url, lambda db: Log(db).restrict(space, what))
    click.echo(f"{space} shares {what}" + (f"; {more:,} changes with more are in the log already" if more else ""))


@shared.command()
@_url
@click.option("--space", default="default", show_default=True)
@click.option("--filter", "filter_", metavar="JSON", help="""Those whose metadata fulfil this: '{"team": "web"}'.""")
@click.option("--collection", help="Those of this collection.")
@click.option("--before", metavar="DATE", help="Those remembered before this date.")
@click.option("--expired", is_flag=True, help="Those whose `expires` among the metadata has passed.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@click.option("--erase", is_flag=True, help="Leave no byte of them on any server; `prune` then does so in the log.")
@json_option
def forget(
    url: str,
    space: str,
    filter_: str | None,
    collection: str | None,
    before: str | None,
    expired: bool,
    dry_run: bool,
    erase: bool,
    as_json: bool,
) -> None:
    """Have all servers forget memories, those as well that only the database still has; as `ruvllm memory forget`.

    \b
    Examples:
      ruvllm shared forget postgresql://owner@db/ruvllm --collection papers --before 2025-01-01 --dry-run
      ruvllm shared forget postgresql://owner@db/ruvllm --filter '{"customer": 4711}' --erase
    """
    if not (filter_ or collection is not None or before or expired):
        raise click.UsageError("Say which: --filter, --collection, --before or --expired.")
    since = None if before is None else beginning_of(before)
    policy = Policy(json_object(filter_, "filter"), collection, since, expired)

    async def work(db: AsyncConnection) -> int:
        count = 0
        async for uids in LargeSearch(db).chosen(space, policy):
            count += len(uids)
            if not dry_run:
                await Log(db).forget(space, "", uids, erase)
        return count

    count = _with(url, work)
    if as_json:
        print_json({"found": count, "forgotten": 0 if dry_run else count})
    else:
        click.echo(f"{'would forget' if dry_run else 'forgot'} {count:,}")


@shared.command()
@_url
@json_option
def status(url: str, as_json: bool) -> None:
    """What the log holds, and how far each node is.

    \b
    Examples:
      ruvllm shared status postgresql://owner@db/ruvllm
    """

    async def work(db: AsyncConnection) -> tuple[dict[str, dict[str, int]], list[dict[str, object]]]:
        log = Log(db)
        return await log.counts(), [asdict(row) for row in await log.nodes()]

    counts, nodes = _with(url, work)
    if as_json:
        print_json({"changes": counts, "nodes": nodes})
        return
    for space, kinds in counts.items():
        click.echo(f"{space}: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()))
    names = ("space", "node", "name", "behind", "waiting", "seen")
    cells = ([str(row["space"]), str(row["node"]), str(row["name"]), f"{row['behind']:,}", f"{row['waiting']:,}",
              f"{row['seen']:.0f} s ago"] for row in nodes)  # fmt: skip
    show_table("nodes", tuple(name.capitalize() for name in names), cells, right=("Behind", "Waiting", "Seen"))


@shared.command()
@said_option
@_url
def verify(url: str) -> None:
    """Look at every row of the log; exits with 1 where something is wrong.

    \b
    Examples:
      ruvllm shared verify postgresql://owner@db/ruvllm
    """
    faults = _with(url, lambda db: Log(db).faults())
    for fault in faults[:100]:
        click.echo(fault, err=True)
    if faults:
        raise SystemExit(1)
    click.echo("nothing is wrong with it")


@shared.command()
@said_option
@_url
@click.option("--without", multiple=True, metavar="NODE", help="It never comes back: it is waited for no more.")
def prune(url: str, without: tuple[str, ...]) -> None:
    """Delete what was forgotten for good, once every node has applied that.

    \b
    Examples:
      ruvllm shared prune postgresql://owner@db/ruvllm
      ruvllm shared prune postgresql://owner@db/ruvllm --without 5f0c9be4a1d2e377
    """
    gone = _with(url, lambda db: Log(db).prune(without))
    click.echo(", ".join(f"{space}: {count:,} changes deleted" for space, count in gone.items()) or "nothing to delete")


@shared.command()
@said_option
@_url
@click.option("--over", type=click.IntRange(0), default=50_000, show_default=True, help="Memories of a collection.")
@click.option("--space", help="Of this space alone.")
@click.option("--collection", help="Of this name alone.")
@click.option("--memory", type=click.IntRange(16), default=4096, show_default=True, help="Megabytes to build it in.")
def index(url: str, over: int, space: str | None, collection: str | None, memory: int) -> None:
    """Have the database search collections that are too large for a server. Needs pgvector 0.8 or newer.

    Servers that are started with RUVLLM_SHARED_HOT hold so many of a collection's memories, those used most and last,
    and find the others in the database. Servers go on meanwhile; a second run indexes what has grown since.

    \b
    Examples:
      ruvllm shared index postgresql://owner@db/ruvllm
      ruvllm shared index postgresql://owner@db/ruvllm --space acme --collection papers --over 1000
      RUVLLM_SHARED_HOT=50000 ruvllm serve --shared postgresql://node1@db/ruvllm
    """
    with waiting("indexing"):
        done = _with(url, lambda db: LargeSearch(db).index(over, space, collection, memory))
    for one in done:
        click.echo(f"{one.space}: {one.collection} is searched in the database ({one.encoder})")
    if not done:
        click.echo(f"no other collection has more than {over:,} memories with a vector")


@shared.command()
@_url
@click.argument("query")
@click.option("--space", default="default", show_default=True)
@click.option("--collection", default="default", show_default=True)
@click.option("-k", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many.")
@click.option("--filter", "filter_", metavar="JSON", help="""What metadata must fulfil: '{"team": "web"}'.""")
@encoder_option
@json_option
def search(
    url: str, query: str, space: str, collection: str, k: int, filter_: str | None, encoder: str | None, as_json: bool
) -> None:
    """Search a collection that `ruvllm shared index` has indexed, without a server.

    \b
    Examples:
      ruvllm shared search postgresql://owner@db/ruvllm "how are invoices paid?" --collection papers
      ruvllm shared search postgresql://owner@db/ruvllm "deploys" --filter '{"team": "web"}' -k 3
    """

    async def work(db: AsyncConnection) -> list[dict[str, object]]:
        large = LargeSearch(db)
        found = [one for one in await large.collections(space) if one.collection == collection and one.ready]
        if not found:
            fix = f"run: ruvllm shared index URL --space {space} --collection {collection}"
            raise ConfigError(f"no collection {collection!r} is indexed"[:120], field="collection", fix=fix)
        with open_llm(None, encoder) as llm:
            if llm.memory.space != found[0].encoder:
                fix = "name that encoder with --encoder"
                raise ConfigError(f"its vectors are of {found[0].encoder}", field="encoder", fix=fix)
            vector = await llm.memory.vector(query)
        await prepare_search(db, 60.0)
        near = dict(await large.nearest(found[0], vector, k, json_object(filter_, "filter")))
        texts = {one.uid: one.data for one in await large.about(space, list(near)) if one.kind == "memory"}
        found_here = [(uid, score, texts[uid]) for uid, score in near.items() if uid in texts]
        return [
            {"uid": uid, "score": round(score, 4), "text": one["text"], "metadata": read_metadata(one["metadata"])}
            for uid, score, one in found_here
        ]

    hits = _with(url, work)
    if as_json:
        print_json(hits)
        return
    cells = ([f"{hit['score']:.3f}", plain(str(hit["text"])), str(hit["uid"])] for hit in hits)
    show_table(f"{len(hits)} of {collection}", ("Score", "Text", "Id"), cells, right=("Score",), cut="Text")
