"""What a hook may do: modes, agents that it may name, models by tier; the user's file, which a project may narrow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import isfinite
from pathlib import Path
from typing import Any

import click

from ruvllm.cli.hook.session import Session, read_toml
from ruvllm.types import Tier

MODES = ("shadow", "suggest", "act")
_MOST_NAMES = 200
_MODELS: dict[str, dict[Tier, str]] = {
    "claude": {Tier.SMALL: "haiku", Tier.LARGE: "sonnet"},
    "codex": {},  # a spawned agent has the model of its role
    "opencode": {},
}


@dataclass(frozen=True, slots=True)
class HookSettings:
    """How a hook behaves in one project.

    Attributes:
        mode: "shadow" decides and logs, "suggest" says so too, "act" changes what is delegated. "" where nobody chose
            one: prompts get their recommendation then, and delegations are only watched.
        allow, deny: patterns of the agents that it may name; None allows all.
        learn: whether outcomes teach routing and sizing.
        trust: whether the project's own agents may take tasks that were meant for agents from elsewhere.
        models: what the client calls the model of a tier.
        budget: US dollars a day, of which SessionStart says how much is spent; 0 for none.
    """

    mode: str = ""
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    learn: bool = False
    trust: bool = False
    models: Mapping[Tier, str] = field(default_factory=dict)
    budget: float = 0.0

    def allows(self, agent: str) -> bool:
        """Whether the hook may name this agent."""
        inside = self.allow is None or _matches(agent, self.allow)
        return inside and not _matches(agent, self.deny)


def settings_file() -> Path:
    """The user's `hook.toml`."""
    return Path(click.get_app_dir("ruvllm")) / "hook.toml"


def settings_of(session: Session, client: str, mode: str | None) -> HookSettings:
    """Those of a session: the user's for all projects, then for this one, then what the project itself narrows.

    Args:
        mode: of the command line, before the file's.
    """
    row = read_toml(settings_file())
    found = _read(HookSettings(models=_MODELS[client]), row)
    projects = row.get("projects")
    for folder in reversed(session.projects):
        of_project = projects.get(os.fspath(folder.parent)) if isinstance(projects, dict) else None
        if isinstance(of_project, dict):
            found = _read(found, of_project)
    if mode:
        found = replace(found, mode=mode)
    for folder in reversed(session.projects):
        found = _narrowed(found, read_toml(folder / "ruvllm.toml"))
    return found


def _read(base: HookSettings, row: Mapping[str, Any]) -> HookSettings:
    """What a table says, over what counted so far; a value of a wrong type counts as left out."""
    mode, learn, trust, budget = row.get("mode"), row.get("learn"), row.get("trust"), row.get("budget")
    models = table if isinstance(table := row.get("models"), dict) else {}
    named = {tier: models.get(tier.name.lower(), base.models.get(tier)) for tier in (Tier.SMALL, Tier.LARGE)}
    return HookSettings(
        mode=mode if mode in MODES else base.mode,
        allow=_names(row["allow"]) if isinstance(row.get("allow"), list) else base.allow,
        deny=(*base.deny, *_names(row.get("deny"))),
        learn=learn if isinstance(learn, bool) else base.learn,
        trust=trust if isinstance(trust, bool) else base.trust,
        models={tier: name for tier, name in named.items() if isinstance(name, str) and name},
        budget=float(budget) if isinstance(budget, int | float) and isfinite(budget) and budget > 0 else base.budget,
    )


def _narrowed(base: HookSettings, row: Mapping[str, Any]) -> HookSettings:
    """What came with a project is a stranger's: it may ask for less, never for more."""
    mode, listed = row.get("mode"), row.get("allow")
    lower = mode in MODES and MODES.index(mode) < MODES.index(base.mode or "suggest")
    allow = base.allow
    if isinstance(listed, list):
        allow = tuple(name for name in _names(listed) if base.allow is None or _matches(name, base.allow))
    deny = (*base.deny, *_names(row.get("deny")))
    return replace(base, mode=str(mode) if lower else base.mode, allow=allow, deny=deny)


def _names(value: object) -> tuple[str, ...]:
    listed: Iterable[object] = value if isinstance(value, list) else ()
    return tuple(name for name in listed if isinstance(name, str))[:_MOST_NAMES]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
