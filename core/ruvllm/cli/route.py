"""`ruvllm route`: who should take a task."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ruvllm import Action, Decision, InputError, RuvLLM, Team
from ruvllm.cli.console import fail, number, plain, print_json, progress, show_table
from ruvllm.cli.options import (
    agents_option,
    default_state,
    encoder_option,
    json_option,
    open_llm,
    state_of,
    state_option,
    strategy_option,
)
from ruvllm.cli.stdin import Task, is_batch, read_tasks
from ruvllm.routing.reading import checked_text

_BLOCK = 256  # tasks that are read at a time
_NOTHING = (
    'there is no task. Give it as TEXT (ruvllm route "add tests"), or pipe tasks in: '
    'one per line, or JSON lines with a "text" key.'
)


@dataclass(frozen=True, slots=True)
class _Ask:
    """What the person wants to see of each task."""

    as_json: bool
    top: int
    explain: bool
    team: bool


@click.command()
@click.argument("text", required=False)
@json_option
@click.option("--top", type=click.IntRange(0), default=3, show_default=True, help="How many alternatives to name.")
@click.option("--explain", is_flag=True, help="Show why: alternatives, keywords, nearest examples, scores, timings.")
@click.option("--team", is_flag=True, help="Split a compound task and name an agent for each part.")
@agents_option
@encoder_option
@strategy_option
@state_option
@click.option("--no-state", is_flag=True, help="Ignore feedback that was kept.")
@click.pass_context
def route(
    ctx: click.Context,
    text: str | None,
    as_json: bool,
    top: int,
    explain: bool,
    team: bool,
    agents: Path | None,
    encoder: str | None,
    strategy: str | None,
    state: Path | None,
    no_state: bool,
) -> None:
    """Name the agent, confidence and model tier for TEXT.

    Without TEXT, tasks are read from stdin: one per line, or JSON lines whose objects have a "text"
    (or "prompt") key. JSON lines are answered with one JSON decision each, their other keys kept under
    "input"; a bad line is answered with {"error", "line"} and the exit code becomes 1.

    \b
    Examples:
      ruvllm route "write unit tests for the parser"
      ruvllm route --explain --agents .claude/agents "why is checkout slow?"
      ruvllm route --team "build a web shop with login and deploy it"
      ruvllm route --json "review my pull request" | jq .agent
      ruvllm route < tasks.jsonl > decisions.jsonl
    """
    if explain and team:
        raise click.UsageError("--explain is about one decision. Drop --team, or route its parts one by one.", ctx)
    ask = _Ask(as_json, top, explain, team)
    tasks = None if text is not None and text != "-" else _from_stdin(ctx)
    with open_llm(agents, encoder, None if no_state else _existing_state(ctx, state), strategy=strategy) as llm:
        if tasks is None:
            answer = _answer(llm, str(text), ask)
            _show(answer, ask)
        elif not _route_all(llm, tasks, ask):
            ctx.exit(1)


def _existing_state(ctx: click.Context, given: Path | None) -> Path | None:
    """The state to read; a default file that nobody has made yet is not made by asking a question."""
    return state_of(ctx, given) or (default_state() if default_state().exists() else None)


def _from_stdin(ctx: click.Context) -> list[Task]:
    stream = sys.stdin.buffer
    tasks = [] if stream.isatty() else read_tasks(stream.read())
    if not tasks:
        raise click.UsageError(_NOTHING, ctx)
    return tasks


def _answer(llm: RuvLLM, text: str, ask: _Ask) -> Decision | Team:
    return llm.route_complex(text) if ask.team else llm.route(text, top=ask.top, team=True)


def _route_all(llm: RuvLLM, tasks: Sequence[Task], ask: _Ask) -> bool:
    """Answer every task in order; False when a line could not be answered."""
    batch, good = is_batch(tasks), True
    # Where the answers go to the same terminal they are the progress, and a bar would cut into them.
    with progress("routing", len(tasks), quiet=len(tasks) < 2 or sys.stdout.isatty()) as advance:
        for first in range(0, len(tasks), _BLOCK):
            for task, answer, extra in _answers(llm, tasks[first : first + _BLOCK], batch, ask):
                if isinstance(answer, InputError):
                    good = False
                    _show_bad(task.line, answer, batch or ask.as_json)
                elif batch:
                    print_json({**answer.to_dict(), "input": extra})
                else:
                    _show(answer, ask)
                advance()
    return good


def _answers(
    llm: RuvLLM, tasks: Sequence[Task], batch: bool, ask: _Ask
) -> Iterator[tuple[Task, Decision | Team | InputError, dict[str, Any]]]:
    """The answer to each task, or what is wrong with it, and the line's other keys."""
    rows = list[tuple[Task, str | InputError, dict[str, Any]]]()
    for task in tasks:
        try:
            text, extra = task.read(batch)
            rows.append((task, checked_text(text), extra))
        except InputError as error:
            rows.append((task, error, {}))
    texts = [text for _, text, _ in rows if isinstance(text, str)]
    answers: Iterator[Decision | Team]
    answers = map(llm.route_complex, texts) if ask.team else iter(llm.route_many(texts, ask.top, team=True))
    for task, read, extra in rows:
        yield task, next(answers) if isinstance(read, str) else read, extra


def _show_bad(line: int, error: InputError, as_json: bool) -> None:
    if as_json:
        print_json({"error": str(error), "line": line})
    else:
        fail(f"line {line}: {error}")


def _show(answer: Decision | Team, ask: _Ask) -> None:
    if ask.as_json:
        print_json(answer.to_dict())
    elif isinstance(answer, Team):
        _show_team(answer)
    else:
        click.echo(f"Agent: {plain(answer.agent)} | Confidence: {answer.confidence:.2f} | Tier: {int(answer.tier)}")
        if answer.action != Action.USE:
            click.secho(_doubt(answer), dim=True)
        if answer.team:
            click.secho(f"for several: {' + '.join(map(plain, answer.team))} (--team)", dim=True)
        if ask.explain:
            from ruvllm.cli.explain import show_explanation

            show_explanation(answer)


def _doubt(decision: Decision) -> str:
    """Why the decision is not simply to be used, and what else there is."""
    where = "is between 0.7 and 0.9" if decision.action == Action.CONFIRM else "is below 0.7"
    line = f"{decision.action}: {decision.confidence:.2f} {where}"
    if decision.alternatives:
        second = decision.alternatives[0]
        line += f"; next best: {plain(second.agent)} {second.confidence:.2f}"
    return line


def _show_team(team: Team) -> None:
    rows: list[Sequence[Any]] = [(m.role, m.agent, number(m.confidence), m.task) for m in team.members]
    show_table(f"Team | Tier: {int(team.tier)}", ("Role", "Agent", "Confidence", "Task"), rows, right=("Confidence",))
