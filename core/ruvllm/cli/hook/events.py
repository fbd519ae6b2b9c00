"""What a hook answers to each event of a session: to a prompt, to a delegation, to an end, to a beginning."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any

from ruvllm import Action, Agent, Decision
from ruvllm.cli.console import plain
from ruvllm.cli.hook import log as hook_log
from ruvllm.cli.hook.session import Session
from ruvllm.cli.hook.settings import HookSettings
from ruvllm.sizing.tiers import CONFIRM_FROM, USE_ABOVE
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Tier

_OUT_OF_SCOPE = 0.5  # probability from which no agent is recommended
_LONGEST_NAME = 80  # characters
_GENERIC = {"claude": ("general-purpose", "claude"), "codex": ("default",), "opencode": ("general", "build")}
_TOOLS = {"claude": ("Task", "Agent"), "codex": ("spawn_agent",), "opencode": ("task",)}
_AGENT = {"codex": "agent_type"}  # the field that names the agent, where it is not Claude Code's
_PROMPT = {"codex": "message"}
_VALID = ("sonnet", "opus", "haiku", "fable", "inherit")  # models that Claude Code takes by these names
_SURE = ("limits", "outcomes", "sizes")  # who may correct a model that was named
_MEMORY = re.compile(r"mcp__.*ruvllm.*__(remember|recall)")
_DAY = 86_400.0
_NEAR, _LONGEST = 2, 160  # examples that are shown; characters of each
_MARKS = str.maketrans({"`": "'", "<": "(", ">": ")"})
_WHOM_TO_ASK = {
    Action.CONFIRM: ("Have the user confirm the agent before it is given the task.",),
    Action.ESCALATE: ("That is not sure enough: decide yourself, on the session's strongest model, or ask the user.",),
}


@dataclass(frozen=True, slots=True)
class Delegation:
    """What becomes of a delegation.

    Attributes:
        agent, model: in the place of what was named; "" where that stays.
        why: in words, "" where nothing changes.
    """

    agent: str = ""
    model: str = ""
    why: str = ""


def name_of(text: str) -> str:
    """A name without what could end what it stands in: it comes from others' files."""
    return re.sub(r"[^\w.:-]+", "-", text).strip("-")[:_LONGEST_NAME]


def task_of(event: dict[str, Any], client: str) -> tuple[str, str, str] | None:
    """(task, agent, model) that a tool call delegates, "" for what it does not name; None where it is another call."""
    given, tool = event.get("tool_input"), str(event.get("tool_name") or _TOOLS[client][0])
    if not tool.endswith(_TOOLS[client]) or not isinstance(given, dict):  # Codex puts a namespace before it
        return None
    task = given.get(_PROMPT.get(client, "prompt"))
    if not isinstance(task, str) or not task.strip():
        return None
    agent, model = given.get(_AGENT.get(client, "subagent_type")), given.get("model")
    return well_formed(task), agent if isinstance(agent, str) else "", model if isinstance(model, str) else ""


def of_agent(event: dict[str, Any]) -> dict[str, Any] | None:
    """The call of ruvllm's memory with the sub-agent that makes it as `agent_id`; None for any other call.

    What a sub-agent remembers is its own then, and it recalls that and what is shared. What the call names stays.
    """
    given, agent = event.get("tool_input"), event.get("agent_type")
    if not _MEMORY.fullmatch(str(event.get("tool_name"))) or not isinstance(given, dict):
        return None
    if not isinstance(agent, str) or not (name := name_of(agent)) or given.get("agent_id"):
        return {}
    return {"hookSpecificOutput": {"hookEventName": "PreToolUse", "updatedInput": given | {"agent_id": name}}}


def delegated(
    decision: Decision,
    named: tuple[str, str],
    agents: dict[str, Agent],
    session: Session,
    settings: HookSettings,
    client: str,
) -> Delegation:
    """Which agent and model a task is to get, and why.

    An agent that was named is changed only where routing is sure of another; one of the project takes no task that was
    meant for an agent from elsewhere, unless the user trusts the project. A model is filled in where neither the caller
    nor the agent's file names one, and changed where outcomes or limits say so.

    Args:
        named: agent and model that the caller named, "" for none.
        agents: that are installed, by their names.
    """
    agent, model = named
    best, why = decision.agent, list[str]()
    there = agents.get(agent)
    least = USE_ABOVE if there is not None and settings.allows(agent) else CONFIRM_FROM
    meant = there is not None and agent not in _GENERIC[client]  # for this agent, and not for want of another
    foreign = meant and session.scopes.get(best) == "project" != session.scopes.get(agent)
    change = (
        best != agent
        and best in agents
        and decision.confidence >= least
        and decision.out_of_scope < _OUT_OF_SCOPE
        and settings.allows(best)
        and (settings.trust or not foreign)
        and (session.scopes.get(best) != "client" or there is None)
    )
    if change:
        before = f"instead of {name_of(agent)}" if agent else "where none was named"
        words = "".join(f"; {name_of(word)}" for word in decision.evidence.keywords[:4])
        why.append(f"agent {name_of(best)} {before} (confidence {decision.confidence:.2f}{words})")
    taker = agents.get(best if change else agent)
    chosen = _model(decision, model, taker, settings)
    if chosen and decision.choice is not None:
        before = f"instead of {name_of(model)}" if model else "where none was named"
        why.append(f"model {name_of(chosen)} {before} ({_plain(decision.choice.why)})")
    return Delegation(best if change else "", chosen, "; ".join(why))


def _model(decision: Decision, named: str, taker: Agent | None, settings: HookSettings) -> str:
    """The model that a delegation gets, "" where what is named stays."""
    choice = decision.choice
    if choice is None or not settings.models:
        return ""
    wanted = settings.models.get(max(choice.tier, Tier.SMALL), "")
    if named in _VALID or named in settings.models.values():
        return wanted if choice.by in _SURE and wanted != named else ""
    if taker is not None and (taker.model or taker.tier):
        return ""  # its own file says it, and the client reads that
    return wanted if named or choice.by not in ("default", "agent") else ""


def on_prompt(decision: Decision, sure: bool, session: Session, settings: HookSettings) -> dict[str, Any] | None:
    """A recommendation, where routing is sure enough of an agent that the session has and may be told of.

    Args:
        sure: whether its agent is there, and its confidence high enough.
    """
    ours = session.scopes.get(decision.agent) != "client" and bool(name_of(decision.agent))
    says = sure and ours and decision.out_of_scope < _OUT_OF_SCOPE and settings.allows(decision.agent)
    if not says or settings.mode == "shadow":
        return None
    return {"hookSpecificOutput": {"hookEventName": "UserPromptSubmit", "additionalContext": _context(decision)}}


def on_delegation(event: dict[str, Any], change: Delegation, mode: str, client: str) -> dict[str, Any] | None:
    """What the client reads: the changed call where the hook acts, a word where it suggests, nothing else."""
    if not change.why or mode not in ("suggest", "act"):
        return None
    acts = mode == "act"
    said = f"ruvllm {'chose' if acts else 'would choose'} {change.why}"
    output: dict[str, Any] = {"hookEventName": "PreToolUse", "additionalContext": said}
    if acts:
        field = _AGENT.get(client, "subagent_type")
        changed = {field: change.agent, "model": change.model}
        output["updatedInput"] = event["tool_input"] | {key: value for key, value in changed.items() if value}
        if client == "codex":  # takes a changed call only with a decision, which every other hook can still overrule
            output["permissionDecision"] = "allow"
    return {"hookSpecificOutput": output, "systemMessage": said}


def on_start(session: Session, agents: list[Agent], settings: HookSettings) -> dict[str, Any] | None:
    """How many agents there are, and what of the day's budget is spent."""
    scopes = [session.scopes.get(agent.name) for agent in agents]
    counts = [f"{scopes.count(scope)} of {whose}" for scope, whose in _WHOSE.items() if scopes.count(scope)]
    said = (
        [f"ruvllm routes among {len(agents) - scopes.count('client')} agents here ({', '.join(counts)})."]
        if counts
        else []
    )
    if settings.budget:
        spent = hook_log.spent_since(time.time() // _DAY * _DAY)
        left = max(0.0, settings.budget - spent)
        said.append(f"${spent:.2f} of today's budget of ${settings.budget:.2f} are spent, ${left:.2f} are left.")
    if not said or settings.mode not in ("suggest", "act"):
        return None
    return {"hookSpecificOutput": {"hookEventName": "SessionStart", "additionalContext": " ".join(said)}}


_WHOSE = {"project": "the project's", "user": "the user's", "plugin": "plugins'"}


def _plain(text: str) -> str:
    return re.sub(r"[^\w .,:;()$%/-]+", "-", text)[:200]


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
