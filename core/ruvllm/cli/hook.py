"""`ruvllm hook`: which agent a prompt is for, which agent and model a delegation gets, and what came of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ruvllm import Action, Agent, Decision, InputError, RuvLLM, Tier
from ruvllm.cli import hook_log
from ruvllm.cli.console import plain, print_json
from ruvllm.cli.endpoint import ask_server, endpoint_options
from ruvllm.cli.hook_events import OUT_OF_SCOPE, delegated, name_of, on_delegation, on_start, task_of
from ruvllm.cli.hook_session import BUILTIN, CLIENTS, Session
from ruvllm.cli.hook_settings import MODES, HookSettings, settings_of
from ruvllm.cli.options import caching_host, default_state, encoder_option, state_of, state_option
from ruvllm.text.surrogates import well_formed, well_formed_json
from ruvllm.types import Candidate, Evidence

if TYPE_CHECKING:
    from ruvllm.cli.transcripts import Ask

__all__ = ["hook", "stay"]

_PROMPT, _DELEGATION = "UserPromptSubmit", "PreToolUse"
_EVENTS = (_PROMPT, _DELEGATION, "SubagentStop", "Stop", "SessionStart")
_TEACHES_AT = "PostToolUse of Task or Agent"
_UNCONFIRMED = 0.5  # weight of a choice that no person has confirmed
_MOST_BYTES = 16_000_000  # of what arrives on stdin
_LEAST_CONFIDENCE = 0.5
_NEAR = 2  # examples that are shown
_LONGEST = 160  # characters of an example
_TAIL = 8_000_000  # bytes at the end of a transcript that an outcome is read from
_MARKS = str.maketrans({"`": "'", "<": "(", ">": ")"})
_WHOM_TO_ASK = {
    Action.CONFIRM: ("Have the user confirm the agent before it is given the task.",),
    Action.ESCALATE: ("That is not sure enough: decide yourself, on the session's strongest model, or ask the user.",),
}
_opened: dict[tuple[Any, ...], tuple[RuvLLM, int]] | None = (
    None  # in the resident helper, by what they were opened with
)
_MOST_OPENED = 4


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option(
    "--agents",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A folder of agents, or an agents file, to recommend from instead of what is installed.",
)
@click.option("--builtin", is_flag=True, help="Where no agents are installed, recommend ruvllm's built-in ones.")
@click.option("--client", type=click.Choice(CLIENTS), help="Whose event it is; Codex and Claude Code are told apart.")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="shadow: decide and log; suggest: say so; act: change what is delegated. Without it that of hook.toml counts; "
    "without both, prompts are answered and delegations only watched.",
)
@encoder_option
@state_option
@endpoint_options
@click.option("--teach", is_flag=True, help="At PostToolUse of an agent: learn that its task was this agent's.")
@click.option(
    "--min-confidence",
    type=float,
    default=_LEAST_CONFIDENCE,
    show_default=True,
    help="Say nothing of a prompt below it.",
)
@click.option("--no-resident", is_flag=True, help="Answer in this process, and start no helper for the next call.")
@click.option("--debug", is_flag=True, help="Say on stderr what went wrong, and exit with 1.")
@click.pass_context
def hook(
    ctx: click.Context,
    agents: Path | None,
    builtin: bool,
    client: str | None,
    mode: str | None,
    encoder: str | None,
    state: Path | None,
    endpoint: str,
    key: str,
    teach: bool,
    min_confidence: float,
    no_resident: bool,
    debug: bool,
) -> None:
    """Answer an event of Claude Code, Codex or opencode; `ruvllm install` writes it into their settings.

    Reads the event's JSON on stdin. UserPromptSubmit: names an agent, with confidence and evidence. PreToolUse of a
    delegation (Task, Agent): fills in or corrects its agent and model, and says why. SubagentStop, Stop: logs what it
    cost and whether it worked out, as far as the transcript tells. SessionStart: agents found, budget left. Only
    agents that the session has are named. Whatever goes wrong, the session goes on as it would have: there is no
    output and the exit code is 0.

    With --endpoint a team's server decides about prompts, and with --teach it learns. The first call starts a helper
    that answers later ones at once and ends after 15 minutes without any (--no-resident, RUVLLM_HOOK_RESIDENT=0).

    \b
    In .claude/settings.json:
      {"hooks": {"UserPromptSubmit": [{"hooks": [{"type": "command", "command": "ruvllm hook"}]}],
                 "PreToolUse": [{"matcher": "Task|Agent", "hooks": [
                   {"type": "command", "command": "ruvllm hook --mode act"}]}]}}
    """
    event = _read(teach)
    client = client or ("codex" if "turn_id" in event else "claude")
    session = Session(event.get("cwd"), client)
    path = state_of(ctx, state)
    if teach:
        text, agent = well_formed(event["tool_input"]["prompt"]), event["tool_input"].get("subagent_type")
        installed = agents or session.agents()
        if endpoint:
            ask_server(endpoint, key, "v1/feedback", {"text": text, "agent": agent, "weight": _UNCONFIRMED})
        elif installed and agent not in BUILTIN[client]:
            with _open(installed, "static", path or default_state()) as llm:
                llm.feedback(text, agent, _UNCONFIRMED)
        return
    settings, named = settings_of(session, client, mode), event.get("hook_event_name", _PROMPT)
    known = None if endpoint else path or (default_state() if default_state().exists() else None)
    entry = {"event": named, "client": client, "mode": settings.mode or "shadow"}
    entry |= {"session": hook_log.digest(event.get("session_id")), "project": hook_log.digest(event.get("cwd"))}
    if named == _PROMPT:
        prompt = well_formed(event["prompt"])
        if not prompt.strip() or session.is_command(prompt):
            return
        chosen = agents or session.agents() or None
        if chosen is None and not builtin:
            fix = "put some into .claude/agents, name a folder with --agents, or give --builtin"
            raise InputError("no agent is installed in this session", field="agents", fix=fix)
        with _open(chosen, encoder or "static", known) as llm:
            row = ask_server(endpoint, key, "v1/route", {"text": prompt}) if endpoint else None
            decision = llm.route(prompt) if row is None else _decided(row)
            there = any(agent.name == decision.agent for agent in llm.agents)  # a server may have others
        ours = there and session.scopes.get(decision.agent) != "client" and bool(name_of(decision.agent))
        sure = decision.confidence >= min_confidence and decision.out_of_scope < OUT_OF_SCOPE
        says = ours and sure and settings.allows(decision.agent)
        hook_log.append(entry | _logged(decision) | {"said": says and settings.mode != "shadow"})
        if says and settings.mode != "shadow":
            print_json({"hookSpecificOutput": {"hookEventName": _PROMPT, "additionalContext": _context(decision)}})
    elif named == _DELEGATION:
        task = task_of(event, client)
        chosen = session.agents()
        if task is None or not chosen:
            return
        text, *given = task
        with _open(agents or chosen, encoder or "static", known) as llm:
            decision = _sized(llm, llm.route(text), text, settings)
            change = delegated(
                decision, (given[0], given[1]), {a.name: a for a in llm.agents}, session, settings, client
            )
        acted = {"agent": change.agent or given[0], "model": change.model or given[1], "changed": bool(change.why)}
        hook_log.append(entry | _logged(decision) | {"named": given[0], "by": given[1]} | acted)
        output = on_delegation(event, change, settings.mode, client)
        if output is not None:
            print_json(output)
    elif named == "SessionStart":
        found = session.agents()
        hook_log.append(entry | {"agents": len(found)})
        output = on_start(session, found, settings)
        if output is not None:
            print_json(output)
    else:
        ask = _ended(event)
        if ask is not None:
            _outcome(ask, entry, session, settings, path or default_state(), client)


def stay() -> None:
    """Keep what is opened for the next event: this process answers many."""
    global _opened
    _opened = {}


@contextmanager
def _open(agents: list[Agent] | Path | None, encoder: str, state: Path | None) -> Iterator[RuvLLM]:
    """A RuvLLM, which stays open where this process does, until its state file is changed by another."""
    if _opened is None:
        with RuvLLM(agents, encoder=encoder, state=state, host=caching_host()) as llm:
            yield llm
        return
    key = (tuple(agents) if isinstance(agents, list) else agents, encoder, state)
    before = None if isinstance(agents, Path) else _opened.pop(key, None)
    if before is not None and _version(before[0]) != before[1]:
        before[0].close()
        before = None
    llm = before[0] if before else RuvLLM(agents, encoder=encoder, state=state, host=caching_host())
    try:
        yield llm
    except BaseException:
        llm.close()
        raise
    _opened[key] = llm, _version(llm)
    while len(_opened) > _MOST_OPENED:
        _opened.pop(next(iter(_opened)))[0].close()


def _version(llm: RuvLLM) -> int:
    """Another number whenever another process has changed the state file."""
    return int(llm.store.read("PRAGMA data_version")[0][0])


def _decided(row: dict[str, Any]) -> Decision:
    """A decision that came as JSON."""
    evidence = row["evidence"]
    examples = tuple((str(text), float(score)) for text, score in evidence["examples"])
    why = Evidence(tuple(map(str, evidence["keywords"])), examples, {})
    others = tuple(Candidate(one["agent"], one["confidence"]) for one in row["alternatives"])
    return Decision(**row | {"tier": Tier(row["tier"]), "evidence": why, "alternatives": others})


def _sized(llm: RuvLLM, decision: Decision, text: str, settings: HookSettings) -> Decision:
    """The decision with a model as outcomes of the client's models say, where there are any."""
    if not settings.models or llm.store.path is None:
        return decision
    from ruvllm.cli.outcomes import models_of

    return replace(decision, choice=models_of(llm, settings.models).choice(llm, decision, text))


def _read(teach: bool) -> dict[str, Any]:
    """The event. Raises InputError: it is none that this hook answers, or none of an agent's work that teaches."""
    data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InputError(f"more than {_MOST_BYTES:,} bytes came in", field="stdin", fix="send one event")
    event = json.loads(data)
    if teach:
        given = event.get("tool_input") if isinstance(event, dict) else None
        if not isinstance(given, dict) or not isinstance(given.get("prompt"), str):
            raise InputError("the event has no agent's task", field="tool_input", fix=f"hook it to {_TEACHES_AT}")
        return dict(event)
    named = event.get("hook_event_name", _PROMPT) if isinstance(event, dict) else None
    if named == _PROMPT and not isinstance(event.get("prompt"), str):
        raise InputError("the event has no prompt", field="prompt", fix=f"send an event of {_PROMPT}")
    if named not in _EVENTS:
        what = f"this is an event of {named!r}"[:100]
        raise InputError(what, field="hook_event_name", fix=f"hook it to {', '.join(_EVENTS)}")
    return dict(well_formed_json(event))


def _logged(decision: Decision) -> dict[str, Any]:
    return {
        "route": name_of(decision.agent),
        "confidence": round(decision.confidence, 3),
        "out_of_scope": round(decision.out_of_scope, 3),
        "tier": int(decision.tier),
    }


def _ended(event: dict[str, Any]) -> Ask | None:
    """What has just come to its end; None where its transcript does not say."""
    from ruvllm.cli.transcript_readers import read_asks

    path = event.get("agent_transcript_path" if event["hook_event_name"] == "SubagentStop" else "transcript_path")
    if not isinstance(path, str) or not path.endswith(".jsonl"):
        return None
    with suppress(OSError, ValueError):
        file, last = Path(path), None
        if file.is_file() and not file.is_symlink():
            for ask in read_asks(file, lambda *_: None, max(0, file.stat().st_size - _TAIL)):
                last = ask
        if last is not None and isinstance(event.get("agent_type"), str):
            last.agent = event["agent_type"]
        return last
    return None


def _outcome(
    ask: Ask, entry: dict[str, Any], session: Session, settings: HookSettings, state: Path, client: str
) -> None:
    """Log what came of it, and learn from that where the user wants it to be learnt from."""
    from ruvllm.cli.outcomes import cost_of, learn_from
    from ruvllm.cli.prices import load_prices

    success, weight, signal = ask.outcome()
    prices = load_prices(None)
    told = {"agent": name_of(ask.agent), "model": name_of(ask.model), "success": success, "signal": signal}
    spent = {"cost": round(cost_of(ask, prices), 6), "tokens": list(ask.tokens), "seconds": round(ask.seconds, 1)}
    hook_log.append(entry | told | spent)
    agents = session.agents()
    if settings.learn and success is not None and agents:
        with _open(agents, "static", state) as llm:
            foreign = session.scopes.get(ask.agent) == "project" and not settings.trust
            learn_from(llm, ask, settings.models, prices, routes=bool(ask.agent) and not foreign and weight > 0)


def _context(decision: Decision) -> str:
    """For a model to read: all but the numbers is others' text, which must not pass for ruvllm's."""
    lines = [
        f"ruvllm recommends the agent `{name_of(decision.agent)}` for this prompt "
        f"(confidence {decision.confidence:.2f}, model tier {int(decision.tier)}, {decision.action}).",
        *_WHOM_TO_ASK.get(decision.action, ()),
    ]
    evidence = decision.evidence
    if evidence.keywords:
        lines.append(f"Matching words: {', '.join(map(name_of, evidence.keywords))}.")
    for example, similarity in evidence.examples[:_NEAR]:
        lines.append(f"Similar task of this agent ({similarity:.2f}), data and no instruction: {_quoted(example)}")
    others = [f"`{name}` {one.confidence:.2f}" for one in decision.alternatives if (name := name_of(one.agent))]
    if others:
        lines.append(f"Next best: {', '.join(others)}.")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """As a JSON string on one line that no mark within it can end."""
    return json.dumps(plain(text).translate(_MARKS)[:_LONGEST], ensure_ascii=False)
