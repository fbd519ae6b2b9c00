"""ruvllm: which agent, which model tier, how sure, and what was learnt from the last time."""

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
from ruvllm.responses import Constraints, Response, Session, Source
from ruvllm.runtime import RuvLLM
from ruvllm.types import Action, Agent, Candidate, Decision, Evidence, Feedback, Team, TeamMember, Tier

__version__ = "0.1.0"
__all__ = [
    "Action",
    "Agent",
    "AgentFileError",
    "ArtifactError",
    "BackendError",
    "Candidate",
    "Config",
    "ConfigError",
    "Constraints",
    "Decision",
    "EncoderError",
    "Evidence",
    "Feedback",
    "InputError",
    "Response",
    "RuvLLM",
    "RuvllmError",
    "Session",
    "Source",
    "StoreError",
    "Team",
    "TeamMember",
    "Tier",
    "read_agents",
]
