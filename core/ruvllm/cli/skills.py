"""`ruvllm skills`: what clients list of skills, and whether it fits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ruvllm import Agent, InputError, RuvLLM
from ruvllm.agents.catalog import KINDS
from ruvllm.agents.sources import read_sources, sources_of
from ruvllm.cli.console import print_json, show_table, warn
from ruvllm.cli.options import json_option
from ruvllm.disk_cache import user_cache
from ruvllm.routing.lint import LONG

if TYPE_CHECKING:
    from ruvllm.cli.listing import Entry


_ENDING = ".suggested"  # no reader takes it for an agent


class _Percentage(click.ParamType[float]):
    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """ "1%" or .01 as a number."""
        text = str(value).strip()
        try:
            fraction = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            fraction = 0.0
        if not 0 < fraction <= 1:
            raise click.BadParameter(f"{value!r} is no share, such as 1% or .01", ctx, param)
        return fraction


@click.group()
def skills() -> None:
    """Check what clients list of skills.

    \b
    Examples:
      ruvllm skills budget
      ruvllm skills budget .claude/skills --share 2% --fix
    """


@skills.command()
@click.argument("places", metavar="[SOURCE]...", nargs=-1)
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Instead of skills and commands.")
@click.option("--context", type=click.IntRange(1000), default=200_000, show_default=True, help="Tokens of the model's.")
@click.option(
    "--share",
    "fraction",
    type=_Percentage(),
    default="1%",
    show_default=True,
    help="Of the context, for the whole list.",
)
@click.option("--most", type=click.IntRange(20), default=LONG, show_default=True, help="Characters of one description.")
@click.option("--fix", is_flag=True, help=f"Write suggested descriptions beside the files, into FILE{_ENDING}.")
@click.option("--strict", is_flag=True, help="The exit code is 1 for any finding, too.")
@json_option
@click.pass_context
def budget(
    ctx: click.Context, places: tuple[str, ...], kinds: tuple[str, ...], context: int, fraction: float, most: int,
    fix: bool, strict: bool, as_json: bool,
) -> None:  # fmt: skip
    """Which skills of SOURCE (all clients' without one) a client can list, and which can be found by what they say.

    A client lists names and descriptions within a share of the model's context, and cuts or drops what is over it.
    The exit code is 1 when the list does not fit; with --strict when a description is too long, has no trigger ("Use
    when …") or can be confused, too. No file is changed: --fix writes suggestions beside them.

    \b
    Examples:
      ruvllm skills budget
      ruvllm skills budget .claude/skills --context 1000000 --share 2%
      ruvllm skills budget claude --kind agent --fix
    """
    found, problems = read_sources(sources_of(",".join(places) or "auto"), user_cache())
    for problem in problems:
        warn(problem.message)
    chosen = [agent for agent in found if agent.kind in (kinds or ("skill", "command"))]
    if not chosen:
        raise InputError("there is nothing of that kind", field="kind", fix="name a source that has some, or --kind")
    from ruvllm.cli.listing import listing_of

    with RuvLLM(encoder="static") as llm:
        listing = listing_of(chosen, llm.encoders.static, math.floor(context * fraction), most)
    written = list(_written(listing.entries)) if fix else []
    over = [entry for entry in listing.entries if not entry.fits]
    found_any = any(entry.problems for entry in listing.entries)
    if as_json:
        rows = [_row(entry) for entry in listing.entries]
        print_json({"budget": listing.budget, "tokens": listing.tokens, "entries": rows, "written": written})
    else:
        table = [
            (one.agent.name, one.agent.kind, str(one.tokens), "yes" if one.fits else "no", "; ".join(one.problems))
            for one in listing.entries
        ]
        title = f"{listing.tokens} of {listing.budget} tokens"
        show_table(title, ("Name", "Kind", "Tokens", "Fits", "Findings"), table, right=("Tokens",), cut="Findings")
        for path in written:
            click.echo(f"suggested: {path}")
        if over:
            click.echo(f"{len(over)} do not fit: shorten descriptions (--fix suggests), or remove some")
    ctx.exit(1 if over or (strict and found_any) else 0)


def _row(entry: Entry) -> dict[str, Any]:
    row = asdict(entry)
    agent: Agent = entry.agent
    return row | {"agent": agent.name, "kind": agent.kind, "source": agent.source}


def _written(entries: Iterable[Entry]) -> Iterable[str]:
    """Files with suggestions; one that is there already stays as it is."""
    for entry in entries:
        source = Path(entry.agent.source)
        if not entry.suggestion or not source.is_file():
            continue
        beside = source.with_name(f"{source.name}{_ENDING}")
        try:
            with beside.open("x", encoding="utf-8") as file:
                said = json.dumps(entry.suggestion, ensure_ascii=False)  # YAML, whatever marks are in it
                file.write(f"description: {said}\n")
        except FileExistsError:
            warn(f"{beside} is there already, and stays as it is")
        except OSError as error:
            warn(f"{beside} cannot be written ({error.strerror})")
        else:
            yield str(beside)
