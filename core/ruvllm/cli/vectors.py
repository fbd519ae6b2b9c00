"""`ruvllm embed`, `similarity` and `stats`: vectors of texts, how alike two are, and what was done so far."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ruvllm import InputError, RuvLLM
from ruvllm.cli.console import plain, print_json, show_table
from ruvllm.cli.options import default_state, encoder_option, json_option, open_llm, state_of, state_option


@click.command()
@click.argument("texts", nargs=-1)
@encoder_option
@json_option
def embed(texts: tuple[str, ...], encoder: str | None, as_json: bool) -> None:
    """Print the unit vector of each text as a line of JSON; of each line of stdin without TEXTS.

    With --json one object: the encoder, its space, the vectors, and of which texts only the beginning was read.

    \b
    Examples:
      ruvllm embed "fix the login"
      ruvllm embed --json --encoder static < tasks.txt
    """
    if not texts and not sys.stdin.isatty():
        texts = tuple(line for line in sys.stdin.read().splitlines() if line.strip())
    if not texts:
        raise InputError("there is no text", field="text", fix='give one: ruvllm embed "fix the login"')
    with RuvLLM(encoder=encoder) as llm:
        rows, cut = llm.embed(texts).tolist(), llm.encoders.truncated(texts)
        about = {"encoder": llm.encoders.main.name, "space": llm.encoders.space, "dim": llm.encoders.main.dim}
    if as_json:
        print_json(about | {"vectors": rows, "truncated": cut})
        return
    for row in rows:
        print_json([round(one, 6) for one in row])


@click.command()
@click.argument("text")
@click.argument("others", nargs=-1, required=True)
@encoder_option
@json_option
def similarity(text: str, others: tuple[str, ...], encoder: str | None, as_json: bool) -> None:
    """Print the cosine of TEXT with each of the OTHERS, the nearest first.

    \b
    Examples:
      ruvllm similarity "fix the login" "users cannot sign in" "bake bread"
    """
    with RuvLLM(encoder=encoder) as llm:
        first, *rest = llm.embed([text, *others])
    found = sorted(((float(first @ one), other) for one, other in zip(rest, others, strict=True)), reverse=True)
    if as_json:
        print_json([{"text": other, "cosine": round(cosine, 6)} for cosine, other in found])
        return
    for cosine, other in found:
        click.echo(f"{cosine:6.3f}  {plain(other)}")


@click.command()
@state_option
@json_option
@click.pass_context
def stats(ctx: click.Context, state: Path | None, as_json: bool) -> None:
    """Show what the state file holds, and what routing, memory and learning have done.

    \b
    Examples:
      ruvllm stats
      ruvllm stats --json | jq .feedback
    """
    path = state_of(ctx, state) or (default_state() if default_state().exists() else None)
    with open_llm(None, "static", path) as llm:
        held = llm.stats() | {"memory": llm.memory.stats(), "sona": asdict(llm.learning.engine.get_stats())}
    if as_json:
        print_json(held)
        return
    rows = [(name, str(value)) for name, value in _leaves(held) if name != "jobs"]
    show_table("ruvllm", ("", ""), rows)


def _leaves(held: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found = list[tuple[str, Any]]()
    for name, value in held.items():
        place = f"{before}{name}".replace("_", " ")
        found += _leaves(value, f"{place} ") if isinstance(value, Mapping) else [(place, value)]
    return found
