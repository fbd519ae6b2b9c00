"""`ruvllm chat`: a conversation in the terminal that shows who answers, and learns from what you think of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import aclosing, suppress
from typing import Any, cast

import click

from ruvllm import RuvLLM, RuvllmError
from ruvllm.cli.answers import (
    SAMPLING,
    answer_options,
    choice_line,
    learnt_line,
    open_answering,
    routing_line,
    safe,
    sampling_options,
    times_line,
)
from ruvllm.cli.console import fail, plain, warn
from ruvllm.query.responses import Constraints, Delta, Response, Routed

_HELP = """\
/good              this answer was good: its sources gain
/bad               it was not: they lose
/better TEXT       the better answer, which is remembered instead
/agent NAME        the agent NAME is right for the question
/remember TEXT     keep TEXT in memory
/sources           what of memory the last answer was given
/new               begin a new conversation
/quit              end (so does the end of input)"""


@click.command()
@answer_options
@sampling_options
@click.pass_context
def chat(ctx: click.Context, /, **options: Any) -> None:
    """Talk, see which agent and model each question goes to, and teach with /good, /bad, /better and /agent.

    Without an LLM the answers are put together from what was remembered, with their sources.

    \b
    Examples:
      ruvllm chat
      ruvllm chat --model ./smollm2-135m-instruct-q8_0.gguf
      ruvllm chat --model ruv/ruvltra
      ruvllm chat --agents .claude/agents --url http://localhost:8080/v1 --model qwen3-8b
    """
    constraints = Constraints(**{name: options.pop(name) for name in SAMPLING})
    llm = open_answering(ctx, **options)
    with asyncio.Runner() as runner:
        try:
            chat = _Chat(llm, runner, constraints)
            try:
                chat.run()
            finally:
                chat.end()
        finally:
            runner.run(llm.aclose())


class _Chat:
    """One sitting."""

    def __init__(self, llm: RuvLLM, runner: asyncio.Runner, constraints: Constraints) -> None:
        self._llm, self._runner, self._constraints = llm, runner, constraints
        self._session = llm.new_session().id
        self._last: Response | None = None

    def run(self) -> None:
        """Until the input ends."""
        click.echo(f"{len(self._llm.agents)} agents; answers: {_writers(self._llm)}. /help lists the commands.")
        for line in _lines():
            if line.lower() in ("/quit", "/exit"):
                return
            try:
                if line.startswith("/"):
                    self._command(*line[1:].split(maxsplit=1))
                else:
                    self._runner.run(self._answer(line))
            except RuvllmError as error:
                fail(error)
            except KeyboardInterrupt:
                click.echo("\n(stopped; nothing of it was kept)")

    def end(self) -> None:
        """Forget the conversation: nobody can go on with it."""
        self._llm.end_session(self._session)

    async def _answer(self, text: str) -> None:
        events = cast(Any, self._llm.aquery_stream(text, session=self._session, constraints=self._constraints))
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Routed):
                    click.secho(routing_line(event), dim=True)
                elif isinstance(event, Delta):
                    click.echo(safe(event.text), nl=False)
                else:
                    self._last = event
                    click.echo()
                    for warning in event.warnings:
                        warn(plain(warning))
                    if event.choice is not None:
                        click.secho(choice_line(event.choice), dim=True)
                    if event.advice:
                        click.secho(f"{plain(event.advice)} (/agent NAME)", dim=True)
                    click.secho(times_line(event), dim=True)

    def _command(self, name: str = "", rest: str = "") -> None:
        match name:
            case "good":
                self._rate(rating=5)
            case "bad":
                self._rate(rating=1)
            case "better" if rest:
                self._rate(correction=rest)
            case "agent" if rest:
                self._rate(agent=rest)
            case "remember" if rest:
                ids = self._runner.run(self._llm.memory.aadd(rest))
                click.echo(f"remembered (id {ids[0]})")
            case "sources":
                self._show_sources()
            case "new":
                self._llm.end_session(self._session)
                self._session, self._last = self._llm.new_session().id, None
                click.echo("a new conversation")
            case _:
                click.echo(_HELP)

    def _rate(self, **said: Any) -> None:
        if self._last is None:
            click.echo("there is no answer yet")
            return
        request = self._last.request_id
        done = self._runner.run(self._llm.afeedback_request(request, **said))
        click.echo(learnt_line(done, said.get("agent", "")))

    def _show_sources(self) -> None:
        sources = self._last.sources if self._last else ()
        for number, source in enumerate(sources, 1):
            click.echo(f"[{number}] {source.score:.2f} {plain(source.text)[:200]}")
        if not sources:
            click.echo("none")


def _lines() -> Iterator[str]:
    """What is typed, or piped in, without blank lines."""
    asking = sys.stdin.isatty()
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            line = input("> ") if asking else sys.stdin.readline()
            if not line and not asking:
                return
            if line.strip():
                yield line.strip()


def _writers(llm: RuvLLM) -> str:
    """Who answers."""
    backends = llm.backends
    if all(backend.model == "extractive" for backend in backends.values()):
        return "extractive (no LLM: sentences of what was remembered, with their sources)"
    return ", ".join(f"{plain(one.model)} (tier {tier.name.lower()})" for tier, one in backends.items())
