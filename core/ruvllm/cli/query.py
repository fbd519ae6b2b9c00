"""`ruvllm query`: one question, one answer; `ruvllm decompose`: what a question falls into."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ruvllm.cli.answers import SAMPLING, answer_options, choice_line, open_answering, safe, sampling_options, times_line
from ruvllm.cli.console import plain, print_json, warn
from ruvllm.cli.explain import show_attention
from ruvllm.cli.options import agent_option, json_option
from ruvllm.query.responses import Constraints, rlm_settings

if TYPE_CHECKING:
    from ruvllm.query.service import QueryService
    from ruvllm.rlm.answers import RlmAnswer


@click.command()
@click.argument("text")
@answer_options
@sampling_options
@click.option("--max-latency-ms", type=float, help="For the whole answer.")
@click.option("--max-cost", type=float, metavar="DOLLARS", help="Ask no tier that is expected to cost more.")
@click.option(
    "--explain", is_flag=True, help="Show who decided how strong a model is asked, and the memories it drew on."
)
@agent_option
@click.option("--deep", is_flag=True, help="Take a complex question apart, and answer its parts first.")
@json_option
@click.pass_context
def query(
    ctx: click.Context,
    /,
    text: str,
    max_latency_ms: float | None,
    max_cost: float | None,
    explain: bool,
    agent: str | None,
    deep: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Answer TEXT: routed, with what memory knows, by the configured backend.

    Without one the answer is put together from what was remembered (`ruvllm memory add`), with sources. With --deep
    the answers to its parts are on stderr as they come. A mechanical edit whose code is in TEXT (rename, sort imports,
    type hints, docstring skeletons, remove prints or console.log, var to const) is carried out without a model, where
    that is certain to be right.

    \b
    Examples:
      ruvllm query "when is the staging database reset?"
      ruvllm query --explain "when is the staging database reset?"
      ruvllm query --deep "compare how staging and production are backed up, and when each is reset"
      ruvllm query --explain "change var to const: var greeting = 'hello';"
      ruvllm query --model ruv/ruvltra "write a haiku about rollbacks"
      ruvllm query --url http://localhost:11434/v1 --model qwen3:8b "write a haiku about rollbacks"
    """
    sampling = {name: options.pop(name) for name in SAMPLING}
    given = sampling | {"max_latency_ms": max_latency_ms, "max_cost": max_cost, "agent_id": agent}
    constraints = Constraints(explain=explain, **given)
    if deep:
        limits = rlm_settings(given)
    with open_answering(ctx, **options) as llm:
        if deep:
            answer = _answered(llm.queries, text, limits, quiet=as_json)
            _show_deep(answer, as_json, explain)
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
        if response.choice is not None:
            click.secho(choice_line(response.choice), dim=True, err=True)
        show_attention(summary, drawn)
    if response.advice:
        click.secho(plain(response.advice), dim=True, err=True)
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


def _answered(queries: QueryService, text: str, limits: dict[str, Any], *, quiet: bool) -> RlmAnswer:
    """The answer to a complex query, after those to its parts as they came, unless quiet."""
    from ruvllm.rlm.answers import Answered, Planned, RlmAnswer

    async def shown() -> RlmAnswer:
        found: RlmAnswer | None = None
        async with aclosing(queries.stream_deep(text, **limits)) as events:
            async for event in events:
                if isinstance(event, RlmAnswer):
                    found = event
                elif isinstance(event, Planned) and not quiet:
                    for part in event.plan.parts:
                        click.secho(f"? {plain(part.text)}", dim=True, err=True)
                elif isinstance(event, Answered) and not quiet:
                    finding = event.finding
                    said = plain(finding.text) or f"no answer: {finding.missing}"
                    click.secho(f"= {plain(finding.query)}\n  {said}", dim=True, err=True)
        assert found is not None  # the last event, or an error
        return found

    return asyncio.run(shown()) if queries.writers.local else queries.wait(shown(), "rlm().astream")


def _show_deep(answer: RlmAnswer, as_json: bool, explain: bool) -> None:
    if as_json:
        print_json(asdict(answer))
        return
    click.echo(safe(answer.text))
    if explain and answer.choice is not None:
        click.secho(choice_line(answer.choice), dim=True, err=True)
    about = f"{len(answer.findings)} part(s), {len(answer.unanswered)} unanswered | quality {answer.quality:.2f}"
    if answer.grounding is None and len(answer.unanswered) < len(answer.findings):
        about += " (no source bears it out)"
    if answer.calls:
        about += f" | {answer.calls} call(s), {answer.usage.total_tokens} tokens"
    click.secho(about, dim=True, err=True)
