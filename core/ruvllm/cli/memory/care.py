"""`ruvllm memory` for those who look after it: is the file whole, what belongs together, what may go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from ruvllm.cli.console import plain, print_json, progress, show_table, stages, waiting
from ruvllm.cli.options import (
    default_state,
    encoder_option,
    json_object,
    json_option,
    open_memory,
    said_option,
    state_of,
    state_option,
)
from ruvllm.encoders.protocol import run_now
from ruvllm.memory.consolidate import Consolidated, Consolidation
from ruvllm.memory.consolidate import consolidate as gather
from ruvllm.memory.exchange import around
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.reembed import elsewhere
from ruvllm.memory.reembed import reembed as take_over
from ruvllm.memory.subgraph import EDGE_KINDS
from ruvllm.memory.tiering import LEAST
from ruvllm.state.repair.check import Report, repair
from ruvllm.state.repair.check import check as look

_USUAL = Consolidation()
_id = click.IntRange(1, 2**63 - 1)


@click.command()
@click.option(
    "--repair", "mend", is_flag=True, help="Write a new file of what is good; the damaged one stays beside it."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --repair: write the good file here, and leave the damaged one as it is.",
)
@state_option
@json_option
@click.pass_context
def check(ctx: click.Context, mend: bool, out: Path | None, state: Path | None, as_json: bool) -> None:
    """Look at everything in the state file: pages, checksums, values.

    The exit status is 1 when something is wrong and was not repaired. Without --repair nothing is written, and
    the file may be in use.

    \b
    Examples:
      ruvllm memory check
      ruvllm memory check --state ./team.db --json
      ruvllm memory check --repair
      ruvllm memory check --repair --out rescued.db
    """
    if out is not None and not mend:
        raise click.UsageError("--out is where a repair writes to. Add --repair.", ctx)
    path = state_of(ctx, state) or default_state()
    with stages("checking") as tell:
        report = repair(path, out, tell) if mend else look(path, tell)
    if as_json:
        print_json({"ok": report.ok or mend, "repaired": mend and not report.ok, **asdict(report)})
    else:
        _show(report, mend)
    ctx.exit(0 if report.ok or mend else 1)


def _show(report: Report, mended: bool) -> None:
    if report.findings:
        rows = [(finding.field, finding.message, finding.fix) for finding in report.findings]
        show_table(f"{len(rows)} findings", ("Where", "What", "Fix"), rows)
    counts = ", ".join(f"{count:,} {table}" for table, count in report.counts.items() if count) or "nothing"
    if report.ok:
        click.echo(f"{report.path} is whole: {counts}")
    elif mended:
        lost = ", ".join(f"{count:,} {table}" for table, count in report.dropped.items()) or "nothing"
        beside = f"; the damaged file is {report.broken}" if report.broken else ""
        click.echo(f"{report.path} was written anew: {counts}. Dropped: {lost}{beside}")


@click.command()
@said_option
@click.argument("source", type=_id)
@click.argument("target", type=_id)
@click.option("--kind", type=click.Choice(EDGE_KINDS), default="SameTopic", show_default=True)
@click.option("--weight", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="How much it is worth.")
@click.option("--remove", is_flag=True, help="Take the edge of this kind away.")
@state_option
@click.pass_context
def link(
    ctx: click.Context, source: int, target: int, kind: str, weight: float, remove: bool, state: Path | None
) -> None:
    """Join two memories, by their ids: a search with --hops that hits one looks at the other as well.

    \b
    Examples:
      ruvllm memory link 12 31
      ruvllm memory link 12 31 --kind Cites --weight 0.8
      ruvllm memory link 12 31 --kind Cites --remove
    """
    with open_memory(ctx, state, "static") as llm:
        if remove:
            there = llm.memory.graph.unlink(source, target, kind)
            click.echo(f"{source} -{kind}-> {target} " + ("is gone" if there else "was not there"))
            ctx.exit(0 if there else 1)
        llm.memory.graph.link(source, target, kind, weight)
    click.echo(f"{source} -{kind}-> {target} (weight {weight:g})")


@click.command()
@click.argument("ids", type=_id, nargs=-1)
@click.option("--kind", type=click.Choice(EDGE_KINDS), default="SameTopic", show_default=True)
@click.option("--weight", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="How much it is worth.")
@click.option("--metadata", metavar="JSON", help="An object to go with it.")
@click.option("--remove", type=_id, metavar="ID", help="Take this hyperedge away; its memories stay.")
@state_option
@json_option
@click.pass_context
def bind(
    ctx: click.Context,
    ids: tuple[int, ...],
    kind: str,
    weight: float,
    metadata: str | None,
    remove: int | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Join two or more memories that belong together, all with all, by a hyperedge.

    A search with --hops that hits one looks at the others as well. What is rated afterwards moves its weight.

    \b
    Examples:
      ruvllm memory bind 12 31 44
      ruvllm memory bind 12 31 44 --kind Contains --metadata '{"topic": "releases"}'
      ruvllm memory bind --remove 3
    """
    about = json_object(metadata, "metadata")
    with open_memory(ctx, state, "static") as llm:
        graph = llm.memory.graph
        there = None if remove is None else graph.unbind(remove)
        made = graph.bind(ids, kind, weight, about) if ids or remove is None else None
    if as_json:
        print_json({"id": made, "removed": there})
    else:
        if there is not None:
            click.echo(f"hyperedge {remove} " + ("is gone" if there else "was not there"))
        if made is not None:
            click.echo(f"hyperedge {made}: {kind} of {len(set(ids))} memories (weight {weight:g})")
    ctx.exit(1 if there is False else 0)


@click.command()
@click.argument("ids", type=_id, nargs=-1, required=True)
@click.option("--hops", type=click.IntRange(0, 5), default=1, show_default=True, help="Follow edges this far.")
@state_option
@json_option
@click.pass_context
def graph(ctx: click.Context, ids: tuple[int, ...], hops: int, state: Path | None, as_json: bool) -> None:
    """Show what lies around memories: their edges and hyperedges, and what these lead to.

    \b
    Examples:
      ruvllm memory graph 12
      ruvllm memory graph 12 31 --hops 2 --json
    """
    with open_memory(ctx, state, "static", make=False) as llm:
        shown = around(llm.memory, ids, hops)
    if as_json:
        print_json(shown)
        return
    nodes = [(str(one["id"]), str(one["hops"]), one["kind"], plain(one["text"])) for one in shown["nodes"]]
    show_table(f"{len(nodes)} memories", ("Id", "Hops", "Kind", "Text"), nodes, right=("Id", "Hops"), cut="Text")
    rows = [(f"{one['source']} -> {one['target']}", one["kind"], f"{one['weight']:.2f}") for one in shown["edges"]]
    rows += [
        (f"#{one['id']}: {', '.join(map(str, one['members']))}", one["kind"], f"{one['weight']:.2f}")
        for one in shown["hyperedges"]
    ]
    if rows:
        show_table(
            "Edges, and hyperedges by #id", ("Between", "Kind", "Weight"), rows, right=("Weight",), cut="Between"
        )


@click.command()
@click.option("--most", type=click.IntRange(16), default=_USUAL.most, show_default=True, help="Memories to keep.")
@click.option("--collection", default="default", show_default=True, help="Which shelf.")
@click.option(
    "--alike",
    type=click.FloatRange(0, 1),
    default=_USUAL.alike,
    show_default=True,
    help="Cosine from which two memories say much the same.",
)
@encoder_option
@state_option
@json_option
@click.pass_context
def consolidate(
    ctx: click.Context,
    most: int,
    collection: str,
    alike: float,
    encoder: str | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Put old, seldom used and similar memories under concepts, until there are no more than --most.

    Nothing is lost: what is under a concept is found through it (`search --hops 1`). It may be stopped at any time.

    \b
    Examples:
      ruvllm memory consolidate --most 10000
      ruvllm memory consolidate --most 500 --collection faq --alike 0.7
    """
    settings, done = Consolidation(most=most, alike=alike), Consolidated()
    with open_memory(ctx, state, encoder or "static") as llm:
        before = llm.memory.records.counts().get(collection, 0)
        with _towards(before - int(most * settings.down_to) if before > most else 0) as advance:
            for step in gather(llm.memory, collection, settings):
                done += step
                advance(step.archived - step.concepts)
        left = llm.memory.records.counts().get(collection, 0)
    if as_json:
        print_json({"before": before, "after": left, **asdict(done)})
    elif done.archived:
        said = f"{done.archived:,} went under concepts, {done.concepts:,} of these new"
        click.echo(f"{collection}: {before:,} -> {left:,}; {said}, {done.bytes_saved / 1e6:,.1f} MB less in the index")
    else:
        click.echo(f"{collection} holds {before:,} memories, at most {most:,} are wanted: nothing to do")


@click.command()
@click.option("--collection", help="Only this one.")
@encoder_option
@state_option
@json_option
@click.pass_context
def tier(ctx: click.Context, collection: str | None, encoder: str | None, state: Path | None, as_json: bool) -> None:
    """Compress vectors by how much their memories are used: f32, f16, pq8, binary.

    Nothing is lost: the state file holds all vectors whole, and alone those of memories that were never used. It is
    done in the background too, in searched collections of the option memory.tier_from (200,000) or more.

    \b
    Examples:
      ruvllm memory tier
      ruvllm memory tier --collection faq --json
    """
    with open_memory(ctx, state, encoder, make=False) as llm, waiting("compressing"):
        tiers = llm.memory.auto_tier(None if collection is None else [collection])
    if as_json:
        print_json(tiers)
        return
    if not tiers:
        click.echo(f"no collection has {LEAST:,} memories or more: there is nothing to gain")
    for name, held in tiers.items():
        shown = ", ".join(f"{one['count']:,} {tier} ({one['bytes'] / 1e6:,.1f} MB)" for tier, one in held.items())
        click.echo(f"{plain(name)}: {shown}")


@click.command()
@encoder_option
@state_option
@json_option
@click.pass_context
def reembed(ctx: click.Context, encoder: str | None, state: Path | None, as_json: bool) -> None:
    """Encode memories of another encoder anew, so that this one finds them.

    It may be stopped at any time, and goes on where it was: a memory keeps its old vector until its new one is on
    disk. Searches with the old encoder find fewer and fewer of them.

    \b
    Examples:
      ruvllm memory reembed
      ruvllm memory reembed --encoder ./smollm2
    """
    with open_memory(ctx, state, encoder, make=False) as llm:
        away = elsewhere(llm.memory)
        with progress("encoding", sum(away.values()), quiet=as_json) as advance:
            done = run_now(_reembedded(llm.memory, advance))
        left = sum(elsewhere(llm.memory).values())
        space = llm.memory.space
    if as_json:
        print_json({"space": space, "before": away, "done": done, "left": left})
        return
    click.echo(f"{done:,} memories are of {space} now" + (f"; {left:,} say nothing to it and stay" if left else ""))


async def _reembedded(memory: MemoryStore, advance: Callable[[], None]) -> int:
    done = 0
    async for count in take_over(memory):
        done += count
        for _ in range(count):
            advance()
    return done


@contextmanager
def _towards(goal: int) -> Iterator[Callable[[int], None]]:
    """A bar up to so many memories; what is passed to the function moves it on."""
    with progress("consolidating", goal) as advance:

        def move(count: int) -> None:
            for _ in range(count):
                advance()

        yield move
