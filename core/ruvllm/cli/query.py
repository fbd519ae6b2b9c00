"""`ruvllm query`: one question, one answer; `ruvllm decompose`: what a question falls into."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ruvllm.cli.answers import SAMPLING, answer_options, open_answering, safe, sampling_options, times_line
from ruvllm.cli.console import plain, print_json, warn
from ruvllm.cli.explain import show_attention
from ruvllm.cli.options import json_option
from ruvllm.query.responses import Constraints, rlm_settings

if TYPE_CHECKING:
    from ruvllm.rlm.answers import RlmAnswer

__all__ = ["decompose", "query"]


@click.command()
@click.argument("text")
@answer_options
@sampling_options
@click.option("--max-latency-ms", type=float, help="For the whole answer.")
@click.option("--explain", is_flag=True, help="Show which memories the answer draws on, along which edges.")
@click.option("--deep", is_flag=True, help="Take a complex question apart, and answer its parts first.")
@json_option
@click.pass_context
def query(
    ctx: click.Context,
    /,
    text: str,
    max_latency_ms: float | None,
    explain: bool,
    deep: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Answer TEXT: routed, with what memory knows, by the configured backend.

    Without one the answer is put together from what was remembered (`ruvllm memory add`), with sources.

    \b
    Examples:
      ruvllm query "when is the staging database reset?"
      ruvllm query --explain "when is the staging database reset?"
      ruvllm query --deep "compare how staging and production are backed up, and when each is reset"
      ruvllm query --model ruv/ruvltra "write a haiku about rollbacks"
      ruvllm query --url http://localhost:11434/v1 --model qwen3:8b "write a haiku about rollbacks"
    """
    sampling = {name: options.pop(name) for name in SAMPLING}
    constraints = Constraints(max_latency_ms=max_latency_ms, explain=explain, **sampling)
    if deep:
        limits = rlm_settings(sampling | {"max_latency_ms": max_latency_ms})
    with open_answering(ctx, **options) as llm:
        if deep:
            _show_deep(llm.query_deep(text, **limits), as_json)
            return
        response = llm.query(text, constraints=constraints)
        summary = response.attention
        drawn = {} if summary is None else {m.id: m.text for m in llm.memory.get([i for i, _ in summary.ranked])}
    if as_json:
        print_json(response.to_dict())
        return
    click.echo(safe(response.text))
    for warning in response.warnings:
        warn(plain(warning))
    if explain:
        show_attention(summary, drawn)
    decision = response.decision
    about = f"{plain(decision.agent)} {decision.confidence:.2f} ({decision.action}) | {times_line(response)}"
    click.secho(about, dim=True, err=True)
    click.secho(f"rate it: ruvllm feedback --request {response.request_id} --rating 1..5", dim=True, err=True)


@click.command()
@click.argument("text")
@json_option
def decompose(text: str, as_json: bool) -> None:
    """Show which sub-queries TEXT falls into, and which of them needs which.

    \b
    Examples:
      ruvllm decompose "causes AND solutions for slow API responses"
      ruvllm decompose --json "first find the memory leak, then explain how to fix it"
    """
    from ruvllm.rlm.decompose import RuleDecomposer

    plan = RuleDecomposer().plan(text)
    if as_json:
        print_json(asdict(plan))
    elif not plan.parts:
        click.echo("one question; it is answered whole")
    for number, part in enumerate(plan.parts if not as_json else (), 1):
        needed = ", ".join(str(place + 1) for place in part.after)
        click.echo(f"{number}. {plain(part.text)}" + (f"  (needs {needed})" if needed else ""))


def _show_deep(answer: RlmAnswer, as_json: bool) -> None:
    if as_json:
        print_json(asdict(answer))
        return
    click.echo(safe(answer.text))
    about = f"{len(answer.findings)} part(s), {len(answer.unanswered)} unanswered | quality {answer.quality:.2f}"
    if answer.grounding is None and len(answer.unanswered) < len(answer.findings):
        about += " (no source bears it out)"
    if answer.calls:
        about += f" | {answer.calls} call(s), {answer.usage.total_tokens} tokens"
    click.secho(about, dim=True, err=True)
