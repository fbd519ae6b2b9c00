"""ruvllm: which agent, which model tier, how sure, and what was learnt from the last time."""

from ruvllm.agents.readers import read_agents
from ruvllm.errors import (
    AgentFileError,
    ArtifactError,
    ConfigError,
    EncoderError,
    InputError,
    RuvllmError,
    StoreError,
)
from ruvllm.runtime import RuvLLM
from ruvllm.types import Action, Agent, Candidate, Decision, Evidence, Feedback, Team, TeamMember, Tier

__version__ = "0.1.0"
__all__ = [
    "Action",
    "Agent",
    "AgentFileError",
    "ArtifactError",
    "Candidate",
    "ConfigError",
    "Decision",
    "EncoderError",
    "Evidence",
    "Feedback",
    "InputError",
    "RuvLLM",
    "RuvllmError",
    "StoreError",
    "Team",
    "TeamMember",
    "Tier",
    "read_agents",
]
