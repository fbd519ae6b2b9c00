"""`ruvllm report`: what past sessions of coding agents cost, and what routing would have saved; nothing leaves here."""

from __future__ import annotations

import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import click

from ruvllm import InputError, RuvLLM, read_agents
from ruvllm.agents.catalog import builtin_agents
from ruvllm.agents.sources import user_folder
from ruvllm.cli.console import plain, print_json, show_table, stages, warn
from ruvllm.cli.hook import log as hook_log
from ruvllm.cli.hook.session import Session
from ruvllm.cli.hook.settings import settings_of
from ruvllm.cli.hook.settings_files import write_private
from ruvllm.cli.options import caching_host, default_state, json_option, state_of, state_option
from ruvllm.cli.report.html import page
from ruvllm.cli.report.outcomes import ClientModels
from ruvllm.cli.report.prices import Prices, load_prices
from ruvllm.cli.report.stats import Estimate, Report, Row
from ruvllm.cli.report.transcript_readers import read_asks
from ruvllm.cli.report.transcripts import Ask, transcript_files
from ruvllm.state.names import TRANSCRIPTS
from ruvllm.types import Agent

_DAY = 86_400.0
_MOST_OPEN = 4  # sets of agents that are routed among at once
_MOST_NAMED = 10  # transcripts whose first fault is named
_MOST_LEARNT = 200_000  # asks that are remembered as learnt
_ROWS = 10  # of a table


@click.command()
@click.option(
    "--transcripts", type=click.Path(path_type=Path), multiple=True, metavar="PATH",
    help="A folder of transcripts, or one; ~/.claude/projects and ~/.codex/sessions when left out. More than once.",
)  # fmt: skip
@click.option(
    "--agents", type=click.Path(exists=True, path_type=Path), metavar="PATH",
    help="Agents to route among, in the place of each project's and yours (the built-in ones where there are none).",
)  # fmt: skip
@click.option("--days", type=click.FloatRange(0, min_open=True), help="Only what was asked in so many last days.")
@click.option(
    "--prices", type=click.Path(path_type=Path), metavar="FILE", help="Prices by model, over ruvllm's own (TOML)."
)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page with plots."
)
@click.option("--learn", "learns", is_flag=True, help="Teach routing and sizing what came of the asks, each once.")
@state_option
@json_option
@click.pass_context
def report(
    ctx: click.Context,
    transcripts: tuple[Path, ...],
    agents: Path | None,
    days: float | None,
    prices: Path | None,
    html: Path | None,
    learns: bool,
    state: Path | None,
    as_json: bool,
) -> None:
    """Show where tokens and money of Claude Code and Codex went, and what routing would have changed.

    Reads the transcripts that both keep on this machine, line by line, routes each ask as the hook would have, and
    estimates what a small model would have saved, with intervals. Whether an ask worked out is read from its tests, CI,
    edits kept or undone, and what the user said next. Keys and passwords are left out; nothing leaves this machine.

    \b
    Examples:
      ruvllm report
      ruvllm report --days 30 --html report.html
      ruvllm report --transcripts ~/.claude/projects --prices prices.toml --json
      ruvllm report --learn
    """
    roots = transcripts or tuple(
        filter(Path.exists, (user_folder("claude") / "projects", user_folder("codex") / "sessions"))
    )
    missing = next((root for root in roots if not root.exists()), None)
    if missing is not None or not roots:
        what = f"{missing} does not exist" if missing else "there are no transcripts on this machine"
        raise InputError(what, field="transcripts", fix="name a folder of transcripts with --transcripts")
    table, faults, path = load_prices(prices), dict[str, str](), state_of(ctx, state) or default_state()
    count = 0

    def note(where: str, what: str) -> None:
        nonlocal count
        count += 1
        if len(faults) < _MOST_NAMED:  # the first of each file
            faults.setdefault(re.sub(r":\d+$", "", where), f"{where}: {what}")

    found, since = Report(table), time.time() - days * _DAY if days else 0.0
    with stages("reading") as tell, _routers(agents, path if learns or path.exists() else None, learns) as routers:
        for root in roots:
            for number, file in enumerate(transcript_files(root, note), 1):
                tell("transcripts", number + 1)
                for ask in read_asks(file, note):
                    if ask.at >= since:
                        routers.add(ask, found, table, learns)
        learnt = routers.learnt
    for line in faults.values():
        warn(f"skipped {line}")
    if count > len(faults):
        warn(f"skipped {count - len(faults):,} more")
    if html is not None:
        write_private(html, page(found))
    if as_json:
        print_json(found.to_dict() | {"skipped": count, "learnt": learnt})
    else:
        _show(found, count)
        if learns:
            click.echo(f"Learnt from {learnt:,} outcomes that were new.")
    if html is not None:
        click.echo(f"wrote {plain(str(html))}", err=as_json)


class _Routers:
    """Routes each ask among the agents of its project; the latest sets of agents stay open."""

    def __init__(self, agents: list[Agent] | None, state: Path | None) -> None:
        self._agents, self._state, self.learnt = agents, state, 0
        self._sessions = OrderedDict[tuple[str, str], tuple[Session, list[Agent], bool]]()
        self._open = OrderedDict[tuple[Agent, ...], tuple[RuvLLM, dict[str, ClientModels]]]()
        self._seen: dict[bytes, None] | None = None

    def add(self, ask: Ask, found: Report, prices: Prices, learns: bool) -> None:
        """Route an ask, count it, and learn from it where that is wanted and it is new."""
        if not ask.text.strip():
            return
        session, agents, trusted = self._session(ask)
        llm, learners = self._llm(agents)
        found.add(ask, llm.route(ask.text), frozenset(agent.name for agent in agents))
        if learns and self._is_new(llm, ask):
            settings = settings_of(session, ask.client, None)
            if ask.client not in learners:
                learners[ask.client] = ClientModels(llm, settings.models)
            routes = bool(ask.agent) and (trusted or session.scopes.get(ask.agent) != "project")
            self.learnt += learners[ask.client].learn(ask, prices, routes=routes)

    def close(self) -> None:
        """Store what was learnt."""
        while self._open:
            self._leave()

    def _session(self, ask: Ask) -> tuple[Session, list[Agent], bool]:
        key = ask.client, ask.project
        if key not in self._sessions:
            session = Session(ask.project if os.path.isabs(ask.project) else "/", ask.client)
            agents = self._agents or session.agents() or list(builtin_agents())
            trusted = self._agents is not None or settings_of(session, ask.client, None).trust
            self._sessions[key] = session, agents, trusted
            if len(self._sessions) > _MOST_OPEN * 16:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(key)
        return self._sessions[key]

    def _llm(self, agents: list[Agent]) -> tuple[RuvLLM, dict[str, ClientModels]]:
        key = tuple(agents)
        if key not in self._open:
            if len(self._open) >= _MOST_OPEN:
                self._leave()
            self._open[key] = RuvLLM(agents, encoder="static", state=self._state, host=caching_host()), {}
        self._open.move_to_end(key)
        return self._open[key]

    def _leave(self) -> None:
        llm, learners = self._open.popitem(last=False)[1]
        with llm:
            for learner in learners.values():
                learner.save()
            if self._seen is not None:
                llm.store.put(TRANSCRIPTS, b"".join(list(self._seen)[-_MOST_LEARNT:]))

    def _is_new(self, llm: RuvLLM, ask: Ask) -> bool:
        """Whether it was not learnt from before, in this run or an earlier one."""
        if self._seen is None:
            stored = llm.store.load(TRANSCRIPTS) or b""
            self._seen = {stored[at : at + 8]: None for at in range(0, len(stored) // 8 * 8, 8)}
        said = f"{ask.session}\0{ask.at}\0{ask.text}\0{ask.outcome()[0]}".encode("utf-8", "surrogatepass")
        digest = blake2b(said, digest_size=8).digest()
        new = digest not in self._seen
        self._seen[digest] = None
        return new


@contextmanager
def _routers(agents: Path | None, state: Path | None, learns: bool) -> Iterator[_Routers]:
    """Raises InputError: the agents cannot be used; StoreError: what was learnt cannot be stored."""
    routers = _Routers(read_agents(agents)[0] if agents else None, state)
    try:
        yield routers
    finally:
        routers.close()


def _show(found: Report, skipped: int) -> None:
    estimates = found.estimates()
    click.echo(
        f"{found.sessions:,} sessions, {found.asks:,} asks{f', {skipped:,} lines or files skipped' if skipped else ''}."
    )
    click.echo(f"They cost {_dollars(estimates['cost'])}.")
    click.echo(f"A small model would have saved {_dollars(estimates['saved'])}, {_percent(estimates['share'])} of it.")
    click.echo(
        f"Delegations that were missing: {_percent(estimates['missing'])} of asks; "
        f"wrong: {_percent(estimates['wrong'])} of delegations."
    )
    click.echo("")
    _table("Models", "Model", found.models)
    _table("Who took it", "Agent", found.agents)
    pairs = [(f"{a} -> {b}", f"{n:,}") for (a, b), n in found.wrong.most_common(_ROWS)]
    pairs += [(f"(none) -> {name}", f"{n:,}") for name, n in found.missing.most_common(_ROWS)]
    if pairs:
        show_table("Delegations that routing is sure of otherwise", ("From -> to", "Asks"), pairs, right=("Asks",))
    rows = [(f"${saved:.3f}", model, small, text) for text, model, small, saved in found.examples()]
    if rows:
        show_table("Asks for a small model", ("Saves", "Model", "Smaller", "Ask"), rows, right=("Saves",), cut="Ask")
    if found.unpriced:
        warn(f"no price is known of {', '.join(sorted(found.unpriced)[:5])}: they count as free (--prices)")
    decided = [row for row in hook_log.entries() if row.get("event") == "PreToolUse"]
    if decided:
        changed = sum(row.get("changed") is True for row in decided)
        click.echo(
            f"The hook has seen {len(decided):,} delegations, of which it changed or would have changed {changed:,}."
        )
    click.echo(
        "Where no agents are installed, the built-in ones were routed among. "
        "Intervals hold in 95 of 100 resamples of whole sessions. Assumed: the same tokens on both models, and that "
        "a failure of the small model is noticed and done again on the other."
    )


def _table(title: str, what: str, rows: dict[str, Row]) -> None:
    listed = sorted(rows.items(), key=lambda item: -item[1].cost)[:_ROWS]
    cells = [
        (name or "(the session itself)", f"{row.asks:,}", f"${row.cost:,.2f}", f"{sum(row.tokens):,}",
         f"{row.good:,}", f"{row.bad:,}", row.routed.most_common(1)[0][0] if row.routed else "")
        for name, row in listed
    ]  # fmt: skip
    names = (what, "Asks", "Cost", "Tokens", "Good", "Bad", "Mostly routed to")
    last = None if any(row.routed for row in rows.values()) else -1  # of models there is nothing to route
    show_table(title, names[:last], [cell[:last] for cell in cells], right=names[1:6])


def _dollars(one: Estimate) -> str:
    return f"${one.value:,.2f} (${one.low:,.2f} to ${one.high:,.2f})"


def _percent(one: Estimate) -> str:
    return f"{one.value:.1%} ({one.low:.1%} to {one.high:.1%})"
