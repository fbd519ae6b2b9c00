"""Which API a path belongs to, and so how its errors look: also of paths below it that there are not."""

from __future__ import annotations

from ruvllm_edge import anthropic, decisions, ollama, openai
from ruvllm_edge.operations import PROBLEMS, Style

_STYLES = {
    "/v1/messages": anthropic.STYLE,
    **dict.fromkeys((operation.path for operation in ollama.OPERATIONS), ollama.STYLE),
    "/v1/systemone": decisions.SYSTEM_ONE,
    **dict.fromkeys(
        (
            "/v1/audio",
            "/v1/chat",
            "/v1/completions",
            "/v1/decisions",
            "/v1/embeddings",
            "/v1/files",
            "/v1/images",
            "/v1/models",
            "/v1/moderations",
            "/v1/responses",
        ),
        openai.STYLE,
    ),
}


def style_of(path: str) -> Style:
    """The style that the clients of a path read."""
    return _STYLES.get("/".join(path.split("/", 3)[:3]), PROBLEMS)
