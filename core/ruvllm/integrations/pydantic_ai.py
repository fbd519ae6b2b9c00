"""Of a pydantic-ai agent's tools, the few that its prompt needs: the model is told of no others.

agent = Agent("openai:gpt-5", toolsets=[everything.prepared(relevant_tools(llm, 10))])
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any

from ruvllm.errors import RuvllmError
from ruvllm.runtime import RuvLLM


def relevant_tools(llm: RuvLLM, k: int = 10) -> Callable[[Any, list[Any]], Awaitable[list[Any]]]:
    """What `prepared` of a toolset takes: the `k` tools for the run's prompt, and those that the run has called.

    Args:
        llm: its encoders read tools and prompts.

    Raises:
        RuvllmError: pydantic-ai is not installed.
    """
    if find_spec("pydantic_ai") is None:
        fix = "pip install 'ruvllm[pydantic-ai]'"
        raise RuvllmError("pydantic-ai is not installed", field="pydantic_ai", fix=fix)

    async def prepare(context: Any, tools: list[Any]) -> list[Any]:
        task = _text(context.prompt)
        if not task.strip() or len(tools) <= k:
            return tools
        called = {
            part.tool_name
            for message in context.messages
            for part in message.parts
            if getattr(part, "part_kind", "") == "tool-call"
        }
        rows = [
            {"name": one.name, "description": one.description or "", "input_schema": one.parameters_json_schema}
            for one in tools
        ]
        chosen = {one["name"] for one in await llm.tools.select(rows, task, k, called)}
        return [one for one in tools if one.name in chosen or one.kind != "function"]

    return prepare


def _text(prompt: Any) -> str:
    """A prompt's texts: it may be one, or parts with images among them."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(part for part in prompt or () if isinstance(part, str))
