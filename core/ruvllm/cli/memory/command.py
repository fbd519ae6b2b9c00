"""`ruvllm memory`: what was remembered, by hand."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from ruvllm import InputError, StoreError
from ruvllm.cli.console import number, plain, print_json, progress, show_table, waiting, warn
from ruvllm.cli.memory.care import bind, check, consolidate, graph, link, reembed, tier
from ruvllm.cli.memory.imports import FORMATS, Importer, format_of, read_talks
from ruvllm.cli.memory.time import forget, lived, reopen, timeline
from ruvllm.cli.options import (
    agent_option,
    encoder_option,
    json_object,
    json_option,
    least_score,
    open_memory,
    state_option,
)
from ruvllm.cli.ready import check_memories
from ruvllm.memory.exchange import export_lines, import_lines
from ruvllm.memory.found import Found, FoundSession, Why, answerable
from ruvllm.memory.validity import Lifetime
from ruvllm.options import CHOICES
from ruvllm.state.record import NODE_KINDS, dated, heard
from ruvllm.text.surrogates import well_formed

_SHOWN = 10
_DOUBTFUL = 0.5
_collection = click.option(
    "--collection",
    default="default",
    show_default=True,
    callback=lambda ctx, param, value: well_formed(value),
    help="Which shelf.",
)


@click.group()
def memory() -> None:
    """Remember texts, and find them again by meaning.

    \b
    Examples:
      ruvllm memory add "The staging database is reset every Monday" --metadata '{"team": "web"}'
      ruvllm memory search "when does staging lose its data?"
      ruvllm memory export > memories.jsonl
      ruvllm memory check --repair
      ruvllm memory reembed --encoder ./ruvltra
    """


def _lines(data: bytes, source: str) -> list[str]:
    """Lines of UTF-8; a text may hold any other separator than \\n."""
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        at = data.count(b"\n", 0, error.start) + 1
        message = f"line {at} of {source} is not UTF-8 text"
        raise InputError(message, field=f"line {at}", fix="save the file as UTF-8") from None


@memory.command()
@click.argument("texts", nargs=-1, required=True)
@_collection
@click.option("--kind", type=click.Choice(NODE_KINDS), default="Document", show_default=True)
@click.option("--metadata", metavar="JSON", help="An object kept beside the text, to filter by.")
@click.option("--observed-at", metavar="DATE", help="When it was said; relative dates in it count from then.")
@click.option("--valid-from", metavar="DATE", help="From when it holds, where that is another day.")
@click.option("--valid-to", metavar="DATE", help="The day from which it holds no longer.")
@click.option("--expires", metavar="DATE", help="When it is forgotten.")
@click.option("--speaker", help="Who said it.")
@agent_option
@click.option("--once", is_flag=True, help="Count what is said there already, rather than keep it twice.")
@encoder_option
@state_option
@json_option
@click.pass_context
def add(
    ctx: click.Context,
    /,
    texts: tuple[str, ...],
    collection: str,
    kind: str,
    metadata: str | None,
    agent: str | None,
    once: bool,
    encoder: str | None,
    state: Path | None,
    as_json: bool,
    **times: str | None,
) -> None:
    """Remember one or more texts ("-" reads lines from standard input).

    \b
    Examples:
      ruvllm memory add "Deploys need two approvals"
      ruvllm memory add "The office is in Graz." --valid-from 2024-03-01 --valid-to "May 2025"
      ruvllm memory add --collection faq --metadata '{"team": "web"}' - < faq.txt
    """
    given: list[str] = []
    for text in texts:
        given += _lines(sys.stdin.buffer.read(), "standard input") if text == "-" else [text]
    stripped = [well_formed(text.strip()) for text in given if text.strip()]
    if not stripped:
        raise InputError("there is no text", field="texts", fix="give what to remember")
    about = dated(json_object(metadata, "metadata"), agent_id=agent, **times)
    with open_memory(ctx, state, encoder) as llm:
        add = llm.memory.remember if once else llm.memory.add
        ids = add(stripped, collection=collection, kind=kind, metadata=about)
    if as_json:
        print_json({"ids": ids})
    else:
        more = ", …" if len(ids) > _SHOWN else ""
        click.echo(f"remembered {len(ids):,} in {plain(collection)} (id {', '.join(map(str, ids[:_SHOWN]))}{more})")


@memory.command()
@click.argument("query")
@click.option("-k", "--top", "k", type=click.IntRange(1, 1_000), default=5, show_default=True)
@_collection
@click.option("--filter", "filter_", metavar="JSON", help="""What metadata must fulfil: '{"cost": {"$lt": 3}}'.""")
@click.option("--hops", type=click.IntRange(0, 5), default=0, show_default=True, help="Follow edges this far.")
@click.option("--recall", type=click.FloatRange(0, 1, min_open=True), help="Share of the true nearest to be found.")
@click.option(
    "--search", "way", type=click.Choice(CHOICES["memory.search"]), help="Meaning and words (hybrid), or one of them."
)
@click.option("--at", metavar="DATE", help='As of this date: "2023-05-08", "March 2023".')
@click.option("--recency", type=click.FloatRange(0, 1), help="What being of today adds to a score.")
@click.option(
    "--window",
    type=click.IntRange(0, 8),
    default=0,
    show_default=True,
    help="Also show so many memories before and after a hit in its conversation or document.",
)
@agent_option
@click.option(
    "--why", "--explain", "explain", is_flag=True, help="Show what each score is the sum of, and when it held."
)
@click.option("--sessions", is_flag=True, help="Name the -k conversations that have most to do with it.")
@click.option("--index", type=click.Choice(CHOICES["memory.index"]), help="Search with this kind; auto by default.")
@click.option(
    "--min-score",
    type=click.FloatRange(-1, 1),
    help="Hide hits of a lower score, also in JSON: 0.2 unless the encoder is one of your own; -1 shows all.",
)
@encoder_option
@state_option
@json_option
@click.pass_context
def search(
    ctx: click.Context,
    query: str,
    k: int,
    collection: str,
    filter_: str | None,
    hops: int,
    recall: float | None,
    way: str | None,
    at: str | None,
    recency: float | None,
    agent: str | None,
    window: int,
    explain: bool,
    sessions: bool,
    index: str | None,
    min_score: float | None,
    encoder: str | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Find what means the same, or says the same words.

    QUERY may have "an exact phrase", -word (three letters or more) and field:value of the metadata in it.

    \b
    Examples:
      ruvllm memory search "how do I deploy?"
      ruvllm memory search 'deploy "two approvals" -staging team:web' --why
      ruvllm memory search "where was the office?" --at "April 2024" --agent reviewer
      ruvllm memory search "what is the dog called?" -k 3 --window 2
      ruvllm memory search "refund rules" -k 3 --filter '{"team": {"$in": ["web", "shop"]}}'
      ruvllm memory search "refund rules" --min-score 0.4
    """
    wanted = json_object(filter_, "filter")
    # The first search of a large collection builds its index.
    with open_memory(ctx, state, encoder, make=False, index=index) as llm, waiting("searching"):
        check_memories(llm)
        options: dict[str, Any] = {"collection": collection, "filter": wanted, "hops": hops, "recall": recall}
        options |= {"search": way, "at": at, "recency": recency, "agent_id": agent, "window": window}
        if sessions:
            _show_sessions(llm.memory.search_sessions(well_formed(query), k, **options), as_json)
            return
        near = llm.memory.search(well_formed(query), k, **options)
        llm.memory.flush()
        least = least_score(llm) if min_score is None else min_score
        # What an edge leads to need not be alike, nor what was asked for by its field alone.
        found = [one for one in near if one.score >= least or one.hops or (one.why and not one.why.score)]
        counts = llm.memory.records.counts()
        lives = llm.memory.validity.lifetimes([one.memory for hit in found for one in (hit, *hit.passage)])
    if len(found) < len(near):
        warn(f"not shown: {len(near) - len(found)} of a score below {least:g}; --min-score -1 shows all")
    if not found:
        _hint(collection, counts)
    elif way != "vectors" and query.rstrip().endswith("?") and (sure := answerable(found)) < _DOUBTFUL:
        warn(f"this may not be in memory: that an answer is among these is {sure:.0%} likely")
    if as_json:
        print_json([_row(one, lives[one.memory.id]) for one in found])
        return
    parts = [field.name for field in fields(Why)] if explain else []
    times = ("From", "Until", "Said") if explain else ()
    columns = ("Id", "Score", *(name.capitalize() for name in parts), *times, "Kind", "Text")
    rows = list[tuple[str, ...]]()
    for hit in found:
        for one in hit.passage or (hit,):
            direct, memory = one.memory.id == hit.memory.id, one.memory
            more = [_part(hit if direct else one, name) for name in parts]
            more += (lived(lives[memory.id]) if direct else ("",) * len(times)) if explain else ()
            said = heard(memory.text, memory.metadata) if window else memory.text
            mark = "* " if direct and window else ""
            rows.append((f"{mark}{memory.id}", number(one.score), *more, memory.kind, plain(said)))
    show_table(f"{len(found)} of {collection}", columns, rows, right=columns[:-2], cut="Text")


def _row(one: Found, life: Lifetime | None = None) -> dict[str, Any]:
    why = None if one.why is None else {name: round(value, 4) for name, value in asdict(one.why).items()}
    about = {} if life is None else {"since": life.since, "until": life.until, "said": life.said}
    row = {**asdict(one.memory), "score": round(one.score, 4), "hops": one.hops, "why": why, **about}
    return row | {"passage": [_row(other) for other in one.passage]}


def _show_sessions(found: Sequence[FoundSession], as_json: bool) -> None:
    if as_json:
        about = ((one.session, one.score, [_row(hit) for hit in one.found]) for one in found)
        print_json([{"session": name, "score": score, "memories": rows} for name, score, rows in about])
        return
    best = [one.found[0].memory.text for one in found]
    rows = [
        (plain(one.session), number(one.score), str(len(one.found)), plain(text))
        for one, text in zip(found, best, strict=True)
    ]
    show_table("Sessions", ("Session", "Score", "Hits", "Best"), rows, right=("Score", "Hits"), cut="Best")


def _part(one: Found, name: str) -> str:
    """What one thing adds to a score; "-" where it says nothing."""
    value = getattr(one.why, name, 0.0)
    return number(value, 2) if value else "-"


def _hint(collection: str, counts: Mapping[str, int]) -> None:
    """Where else there is something, those called alike first."""
    others = [name for name in counts if name != collection]
    others = list(dict.fromkeys((*get_close_matches(collection, others, _SHOWN), *others)))
    if others:
        named = ", ".join(f"{name} ({counts[name]:,})" for name in others[:_SHOWN]) + ", …" * (len(others) > _SHOWN)
        nothing = f"nothing like it is in {collection}" if collection in counts else f"{collection} holds nothing"
        warn(f"{nothing}; choose with --collection among: {named}")


@memory.command()
@encoder_option
@state_option
@json_option
@click.pass_context
def stats(ctx: click.Context, encoder: str | None, state: Path | None, as_json: bool) -> None:
    """How much is remembered where, and how precisely its vectors are in memory once they are searched."""
    with open_memory(ctx, state, encoder, make=False) as llm:
        stats = llm.memory.stats()
        path = llm.store.path
    if as_json:
        print_json(stats | {"state": path})
        return
    rows = []
    for name, count in stats["collections"].items():
        tiers = {tier: held for tier, held in stats["tiers"][name].items() if held["count"]}
        shown = ", ".join(f"{held['count']:,} {tier}" for tier, held in tiers.items())
        rows.append((name, f"{count:,}", shown, f"{sum(held['bytes'] for held in tiers.values()) / 1e6:,.1f}"))
    columns = ("Collection", "Memories", "Tiers", "MB")
    show_table(f"{path} ({stats['space']})", columns, rows, right=("Memories", "MB"), cut="Tiers")


@memory.command("export")
@click.option("--collection", help="Only this one.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="A file, else standard output.")
@state_option
@click.pass_context
def export_(ctx: click.Context, collection: str | None, out: Path | None, state: Path | None) -> None:
    """Write memories and edges as JSON lines."""
    with open_memory(ctx, state, "static", make=False) as llm:
        counts = llm.memory.records.counts()
        if collection is not None and collection not in counts:
            _hint(collection, counts)
        lines = export_lines(llm.memory, collection)
        if out is None:
            for line in lines:
                click.echo(line)
            return
        count = _write(out, lines)
    click.echo(f"wrote {count:,} lines to {out}")


def _write(out: Path, lines: Any) -> int:
    """All lines or no file."""
    fresh, count = out.with_name(out.name + ".part"), 0
    try:
        with fresh.open("w", encoding="utf-8", newline="\n") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
        fresh.replace(out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error}", field="out", fix="give a writable path") from None
    finally:
        fresh.unlink(missing_ok=True)
    return count


@memory.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--from", "kind", type=click.Choice(FORMATS), help="What FILE is; by its name and first line when left out."
)
@_collection
@encoder_option
@state_option
@json_option
@click.pass_context
def import_(
    ctx: click.Context,
    file: Path,
    kind: str | None,
    collection: str,
    encoder: str | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Add memories and edges from JSON lines of an export, or from what another program wrote.

    Transcripts of Claude Code (.jsonl), ChatGPT's conversations.json, Markdown and mbox go into --collection: a turn,
    section or mail each, with speaker, session and date, each following the one before; secrets in them are left out.
    An item that cannot be read is named and skipped. An import that was stopped goes on where it was when it is done
    again: what is there already is not added twice.

    \b
    Examples:
      ruvllm memory import memories.jsonl
      ruvllm memory import conversations.json --collection chats
      ruvllm memory import notes.md --from markdown
    """
    kind = kind or format_of(file)
    memories = edges = there = 0
    skipped = list[tuple[str, str]]()

    def skip(where: str, what: str) -> None:
        skipped.append((where, what))

    with open_memory(ctx, state, encoder) as llm:
        before = llm.memory.records.counts()
        if kind == "ruvllm":
            lines = _lines(file.read_bytes(), str(file))
            with progress("importing", len(lines)) as advance:
                memories, edges = import_lines(llm.memory, lines, advance, skip)
        else:
            with waiting("reading"):
                talks = list(read_talks(file, kind, collection, skip))
            importer = Importer(llm.memory, collection)
            with progress("importing", len(talks)) as advance:
                for talk in talks:
                    importer.keep(talk)
                    advance()
            memories, edges, there = importer.memories, importer.edges, importer.there
        counts = llm.memory.records.counts()
    if skipped and not memories + edges + there:
        where, what = skipped[0]
        message = f"{plain(where)}: {plain(what)}"
        raise InputError(message, field=str(file), fix=f"say what it is: --from {', '.join(FORMATS)}")
    for where, what in skipped[:_SHOWN]:
        warn(f"skipped {plain(where)}: {plain(what)}")
    if len(skipped) > _SHOWN:
        warn(f"skipped {len(skipped) - _SHOWN:,} more")
    if as_json:
        print_json({"memories": memories, "edges": edges, "there": there, "skipped": len(skipped)})
    else:
        more = f"; {there:,} were there already" if there else ""
        click.echo(f"added {memories:,} memories and {edges:,} edges{more}")
    grown = {name: count - before.get(name, 0) for name, count in counts.items() if count > before.get(name, 0)}
    if grown.keys() - {"default"}:
        named = ", ".join(f"{name} ({count:,})" for name, count in list(grown.items())[:_SHOWN])
        warn(f"they went into {named}{', …' * (len(grown) > _SHOWN)}; a search finds them with --collection")


for _command in (check, link, bind, graph, forget, consolidate, reembed, tier, timeline, reopen):
    memory.add_command(_command)
