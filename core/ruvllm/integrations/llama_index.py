"""A selector for LlamaIndex's routers: which query engine, retriever or tool a query goes to, without an LLM.

engine = RouterQueryEngine(selector=selector(), query_engine_tools=tools)
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from ruvllm.errors import RuvllmError
from ruvllm.runtime import RuvLLM
from ruvllm.types import Agent, Decision


def selector(llm: RuvLLM | None = None, several: float = 0.0) -> Any:
    """A `BaseSelector` of LlamaIndex that reads the choices' descriptions.

    Args:
        llm: whose encoders read them; one of its own when None.
        several: choices at least this likely, as a share of the first one's confidence, are named as well; 0 names one.

    Raises:
        RuvllmError: LlamaIndex is not installed.
    """
    if find_spec("llama_index") is None or find_spec("llama_index.core") is None:
        fix = "pip install 'ruvllm[llama-index]'"
        raise RuvllmError("LlamaIndex is not installed", field="llama_index", fix=fix)
    from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection

    base = llm

    class RuvllmSelector(BaseSelector):  # type: ignore[misc]
        """Routes among choices as among agents that were never seen; equal choices are read once."""

        def __init__(self) -> None:
            self._among: tuple[tuple[str, ...], RuvLLM] | None = None

        def _get_prompts(self) -> dict[str, Any]:
            return {}

        def _update_prompts(self, prompts: Any) -> None:
            """There are none."""

        def _select(self, choices: Sequence[Any], query: Any) -> SelectorResult:
            return self._result(self._router(choices).route(query.query_str, len(choices)))

        async def _aselect(self, choices: Sequence[Any], query: Any) -> SelectorResult:
            return self._result(await self._router(choices).aroute(query.query_str, len(choices)))

        def _router(self, choices: Sequence[Any]) -> RuvLLM:
            texts = tuple(f"{one.name or ''}\0{one.description}" for one in choices)
            if self._among is None or self._among[0] != texts:
                agents = [Agent(str(i), f"{one.name or ''} {one.description}") for i, one in enumerate(choices)]
                self._among = texts, RuvLLM(agents, like=base)
            return self._among[1]

        def _result(self, decision: Decision) -> SelectorResult:
            found = [(decision.agent, decision.confidence)]
            if several:
                least = several * decision.confidence
                found += [(one.agent, one.confidence) for one in decision.alternatives if one.confidence >= least]
            return SelectorResult(
                selections=[SingleSelection(index=int(i), reason=f"confidence {sure:.2f}") for i, sure in found]
            )

    return RuvllmSelector()
