"""`ruvllm hook`: which agent a prompt is for, which agent and model a delegation gets, and what came of it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ruvllm import Decision, InputError, RuvLLM, Tier
from ruvllm.cli.console import print_json
from ruvllm.cli.endpoint import ask_server, endpoint_options
from ruvllm.cli.hook import log as hook_log
from ruvllm.cli.hook.events import delegated, name_of, of_agent, on_delegation, on_prompt, on_start, task_of
from ruvllm.cli.hook.router import open_router
from ruvllm.cli.hook.session import BUILTIN, CLIENTS, Session
from ruvllm.cli.hook.settings import MODES, HookSettings, settings_of
from ruvllm.cli.options import default_state, encoder_option, state_of, state_option
from ruvllm.text.surrogates import well_formed, well_formed_json
from ruvllm.types import Candidate, Evidence

_PROMPT, _DELEGATION = "UserPromptSubmit", "PreToolUse"
_EVENTS = (_PROMPT, _DELEGATION, "SubagentStop", "Stop", "SessionStart")
_TEACHES_AT = "PostToolUse of Task or Agent"
_UNCONFIRMED = 0.5  # weight of a choice that no person has confirmed
_MOST_BYTES = 16_000_000  # of what arrives on stdin
_LEAST_CONFIDENCE = 0.5


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
    client = client or ("codex" if "rollout-" in str(event.get("transcript_path")) or "turn_id" in event else "claude")
    session = Session(event.get("cwd"), client)
    path = state_of(ctx, state)
    if teach:
        text, agent = well_formed(event["tool_input"]["prompt"]), event["tool_input"].get("subagent_type")
        installed = agents or session.agents()
        if endpoint:
            ask_server(endpoint, key, "v1/feedback", {"text": text, "agent": agent, "weight": _UNCONFIRMED})
        elif installed and agent not in BUILTIN[client]:
            with open_router(installed, "static", path or default_state()) as llm:
                llm.feedback(text, agent, _UNCONFIRMED)
        return
    settings, named = settings_of(session, client, mode), event.get("hook_event_name", _PROMPT)
    state_file = None if endpoint else path or (default_state() if default_state().exists() else None)
    entry = {"event": named, "client": client, "mode": settings.mode or "shadow"}
    entry |= {"session": hook_log.digest(event.get("session_id")), "project": hook_log.digest(event.get("cwd"))}
    output: dict[str, Any] | None = None
    if named == _PROMPT:
        prompt = well_formed(event["prompt"])
        if not prompt.strip() or session.is_command(prompt):
            return
        chosen = agents or session.agents() or None
        if chosen is None and not builtin:
            fix = "put some into .claude/agents, name a folder with --agents, or give --builtin"
            raise InputError("no agent is installed in this session", field="agents", fix=fix)
        with open_router(chosen, encoder or "static", state_file) as llm:
            row = ask_server(endpoint, key, "v1/route", {"text": prompt}) if endpoint else None
            decision = llm.route(prompt) if row is None else _decided(row)
            there = any(agent.name == decision.agent for agent in llm.agents)  # a server may have others
        output = on_prompt(decision, there and decision.confidence >= min_confidence, session, settings)
        hook_log.append(entry | _logged(decision) | {"said": output is not None})
    elif named == _DELEGATION and (call := of_agent(event)) is not None:
        output = call if call and settings.mode == "act" else None
    elif named == _DELEGATION:
        task = task_of(event, client)
        chosen = session.agents()
        if task is None or not chosen:
            return
        text, *given = task
        with open_router(agents or chosen, encoder or "static", state_file) as llm:
            decision = _sized(llm, llm.route(text), text, settings)
            there_are = {agent.name: agent for agent in llm.agents}
        change = delegated(decision, (given[0], given[1]), there_are, session, settings, client)
        acted = {"agent": change.agent or given[0], "model": change.model or given[1], "changed": bool(change.why)}
        hook_log.append(entry | _logged(decision) | {"named": given[0], "by": given[1]} | acted)
        output = on_delegation(event, change, settings.mode, client)
    elif named == "SessionStart":
        found = session.agents()
        hook_log.append(entry | {"agents": len(found)})
        output = on_start(session, found, settings)
    else:
        from ruvllm.cli.hook.outcome import on_end

        on_end(event, entry, session, settings, path or default_state())
    if output is not None:
        print_json(output)


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
    from ruvllm.cli.report.outcomes import ClientModels

    return replace(decision, choice=ClientModels(llm, settings.models).choice(decision, text))


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
