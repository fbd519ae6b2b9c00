"""Complex queries: taken apart, answered part by part, and put together again."""

from ruvllm.rlm.answers import Answered, Delta, Finding, Planned, RlmAnswer, RlmConfig, RlmEvent
from ruvllm.rlm.controller import RlmController
from ruvllm.rlm.decompose import LlmDecomposer, RuleDecomposer
from ruvllm.rlm.document import Document
from ruvllm.rlm.plan import Decomposer, Plan, SubQuery

__all__ = [
    "Answered",
    "Decomposer",
    "Delta",
    "Document",
    "Finding",
    "LlmDecomposer",
    "Plan",
    "Planned",
    "RlmAnswer",
    "RlmConfig",
    "RlmController",
    "RlmEvent",
    "RuleDecomposer",
    "SubQuery",
]
