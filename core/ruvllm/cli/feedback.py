"""`ruvllm feedback`: whose a task is, or how an answer was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ruvllm import RuvLLM
from ruvllm.cli.answers import learnt_line
from ruvllm.cli.console import plain
from ruvllm.cli.decide import decision_answer
from ruvllm.cli.endpoint import ask_server, endpoint_options
from ruvllm.cli.options import (
    agents_option,
    default_state,
    encoder_option,
    open_llm,
    said_option,
    state_of,
    state_option,
)
from ruvllm.encoders.protocol import run_now


@click.command()
@said_option
@click.argument("text", required=False)
@click.argument("agent", required=False)
@click.option("--weight", type=float, help="How much it counts, above 0, up to 10; 1 when left out.")
@click.option("--wrong", is_flag=True, help="TEXT does not belong to AGENT, wherever else it may.")
@click.option("--request", metavar="ID", help="The answer that is rated instead of a text; `ruvllm query` names it.")
@click.option("--rating", type=float, help="How the answer was, 1 (bad) to 5 (good).")
@click.option("--correction", metavar="TEXT", help="The better answer, which is remembered instead.")
@click.option("--agent", "right_agent", metavar="NAME", help="Who is right for the question of that answer.")
@click.option(
    "--answer", "answers", multiple=True, metavar="[NAME=]ANSWER", help="The right answer of a decision's question."
)
@click.option("--success/--failure", default=None, help="Whether the task was solved.")
@endpoint_options
@agents_option
@encoder_option
@state_option
@click.pass_context
def feedback(
    ctx: click.Context,
    text: str | None,
    agent: str | None,
    weight: float | None,
    wrong: bool,
    request: str | None,
    rating: float | None,
    correction: str | None,
    right_agent: str | None,
    answers: tuple[str, ...],
    success: bool | None,
    endpoint: str,
    key: str,
    agents: Path | None,
    encoder: str | None,
    state: Path | None,
) -> None:
    """Teach that TEXT belongs to AGENT, so that similar tasks go there; or say how an answer was.

    It is kept in the state file, which `ruvllm route` and `ruvllm query` read; with --endpoint by a team's server.

    \b
    Examples:
      ruvllm feedback "check the contract terms" reviewer
      ruvllm feedback --wrong "check the contract terms" tester
      ruvllm feedback --weight 3 "rotate the API keys" security-manager
      ruvllm feedback --state ./team.db --agents .claude/agents "triage issue 12" triage
      ruvllm feedback --endpoint https://team.example:3000 "check the contract terms" reviewer
      ruvllm feedback --request dec-51aa --answer billing
      ruvllm feedback --request req-0c5e --rating 2 --correction "It is reset on Mondays."
    """
    path = state_of(ctx, state) or default_state()
    said: dict[str, Any] = {"rating": rating, "correction": correction, "agent": right_agent, "task_success": success}
    said["answer"] = answers or None
    task = {"TEXT": text, "AGENT": agent, "--weight": weight, "--wrong": wrong or None}
    unfit = task if request is not None else said
    if given := [name for name, value in unfit.items() if value is not None]:
        with_ = "cannot be told with --request" if request is not None else "needs --request ID"
        raise click.UsageError(f"{given[0]} {with_}.", ctx)
    if request is None and (text is None or agent is None):
        raise click.UsageError("Give TEXT and AGENT, or --request ID with --rating 1 to 5.", ctx)
    if endpoint:
        task = {"text": text, "agent": agent, "weight": weight, "right": not wrong if request is None else None}
        body = said | {"request_id": request} if request is not None else task
        ask_server(endpoint, key, "v1/feedback", body)
        click.echo(f"Learnt by {plain(endpoint)}.")
        return
    with open_llm(agents, encoder, path) as llm:
        if request is not None:
            if answers:
                _decided(llm, request, answers)
                return
            del said["answer"]
            click.echo(learnt_line(llm.feedback_request(request, **said), right_agent or ""))
            return
        assert text is not None and agent is not None  # noqa: PT018
        llm.feedback(text, agent, 1.0 if weight is None else weight, right=not wrong)
        count = llm.stats()["feedback"]
    arrow = "-/->" if wrong else "->"
    weighed = 1.0 if weight is None else weight
    click.echo(
        f"Learnt: {plain(text)} {arrow} {plain(agent)} (weight {weighed:g}; {count} kept for these agents in {path})"
    )


def _decided(llm: RuvLLM, request: str, answers: tuple[str, ...]) -> None:
    """Teach the questions of a decision, and fit them where that is due: no process stays to do it later."""
    counts = llm.feedback_decision(request, decision_answer(answers))
    run_now(llm.decisions.review())
    for name, count in counts.items():
        click.echo(f"Learnt: {plain(name)} has {count} example(s)")
