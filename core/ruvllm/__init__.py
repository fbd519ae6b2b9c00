"""ruvllm: which agent, which model tier, how sure, and what was learnt from the last time."""

from __future__ import annotations

TYPE_CHECKING = False  # that of `typing` would take a hook's process longer than all else that it does
if TYPE_CHECKING:
    from typing import Any

    from ruvllm.agents.readers import read_agents
    from ruvllm.config import Config
    from ruvllm.errors import (
        AgentFileError,
        ArtifactError,
        BackendError,
        ConfigError,
        EncoderError,
        InputError,
        RuvllmError,
        StoreError,
    )
    from ruvllm.integrations.agentdb import IntelligentQueryRouter, LLMRouter
    from ruvllm.query.responses import Constraints, Response, Session, Source
    from ruvllm.runtime import RuvLLM
    from ruvllm.sizing.selector import BackendProfile, LLMOrchestrator
    from ruvllm.sizing.tiers import TaskRouter
    from ruvllm.types import Action, Agent, Candidate, Choice, Decision, Evidence, Feedback, Team, TeamMember, Tier

__version__ = "0.1.0"
__all__ = [
    "Action",
    "Agent",
    "AgentFileError",
    "ArtifactError",
    "BackendError",
    "BackendProfile",
    "Candidate",
    "Choice",
    "Config",
    "ConfigError",
    "Constraints",
    "Decision",
    "EncoderError",
    "Evidence",
    "Feedback",
    "InputError",
    "IntelligentQueryRouter",
    "LLMOrchestrator",
    "LLMRouter",
    "Response",
    "RuvLLM",
    "RuvllmError",
    "Session",
    "Source",
    "StoreError",
    "TaskRouter",
    "Team",
    "TeamMember",
    "Tier",
    "read_agents",
]


_HOMES = {  # of what is not in `types`
    "errors": "AgentFileError ArtifactError BackendError ConfigError EncoderError InputError RuvllmError StoreError",
    "config": "Config",
    "agents.readers": "read_agents",
    "query.responses": "Constraints Response Session Source",
    "runtime": "RuvLLM",
    "sizing.tiers": "TaskRouter",
    "sizing.selector": "BackendProfile LLMOrchestrator",
    "integrations.agentdb": "IntelligentQueryRouter LLMRouter",
}


def __getattr__(name: str) -> Any:
    """A name of `__all__`, imported when first asked for: a command that needs no numpy does not wait for it."""
    if name in __all__:
        from importlib import import_module

        home = next((home for home, names in _HOMES.items() if name in names.split()), "types")
        globals()[name] = getattr(import_module(f"ruvllm.{home}"), name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
