"""`ruvllm query`: one question, one answer."""

from __future__ import annotations

from typing import Any

import click

from ruvllm.cli.answers import answer_options, open_answering, safe, times_line
from ruvllm.cli.console import plain, print_json
from ruvllm.cli.options import json_option
from ruvllm.responses import Constraints

__all__ = ["query"]


@click.command()
@click.argument("text")
@answer_options
@click.option("--max-tokens", type=int, help="Of the answer.")
@click.option("--max-latency-ms", type=float, help="For the whole answer.")
@json_option
@click.pass_context
def query(
    ctx: click.Context,
    /,
    text: str,
    max_tokens: int | None,
    max_latency_ms: float | None,
    as_json: bool,
    **opening: Any,
) -> None:
    """Answer TEXT: routed, with what memory knows, by the configured backend.

    Without one the answer is put together from what was remembered (`ruvllm memory add`), with sources.

    \b
    Examples:
      ruvllm query "when is the staging database reset?"
      ruvllm query --model ruv/ruvltra "write a haiku about rollbacks"
      ruvllm query --url http://localhost:11434/v1 --model qwen3:8b "write a haiku about rollbacks"
    """
    constraints = Constraints(max_tokens=max_tokens, max_latency_ms=max_latency_ms)
    with open_answering(ctx, **opening) as llm:
        response = llm.query(text, constraints=constraints)
    if as_json:
        print_json(response.to_dict())
        return
    click.echo(safe(response.text))
    about = f"{plain(response.agent)} {response.confidence:.2f} | {times_line(response)}"
    click.secho(about, dim=True, err=True)
