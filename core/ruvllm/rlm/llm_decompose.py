"""Complex queries taken apart by an LLM, where rules do not reach."""

from __future__ import annotations

import json
import re
from typing import Any

from ruvllm.errors import BackendError, InputError
from ruvllm.inference.backend import Backend, Message, Params, estimate_usage
from ruvllm.rlm.decompose import RuleDecomposer
from ruvllm.rlm.plan import Decomposer, Join, Plan, SubQuery, checked_query

__all__ = ["LlmDecomposer"]

_TASK = """Split the user's query into the smallest set of sub-queries that can each be answered alone.
Keep names, quotes, code and fixed pairs of words whole. If the query is about one thing, return an empty list.
Write each sub-query so that it makes sense by itself. "after" lists the places (from 0) of the sub-queries whose
answers it needs. "join" is "compare" if the query compares things, else "parts". Do not answer the query.
Reply with JSON alone:
{"join": "parts", "parts": [{"text": "...", "after": []}]}"""
_ANSWER = 400  # tokens
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


class LlmDecomposer:
    """Asks a backend, and falls back on another decomposer when it cannot answer in form.

    Args:
        most: sub-queries.
        fallback: rules, if None.
    """

    def __init__(self, backend: Backend, *, most: int = 8, fallback: Decomposer | None = None) -> None:
        self._backend, self._most, self._fallback = backend, most, fallback or RuleDecomposer()

    def tokens(self, query: str) -> int:
        """That a plan costs, at most."""
        return estimate_usage(_messages(query), "").prompt_tokens + _ANSWER

    async def decompose(self, query: str) -> Plan:
        """The plan for a query. Raises InputError: it is empty or too long."""
        query = checked_query(query)
        try:
            said = await self._backend.generate(_messages(query), Params(max_tokens=_ANSWER, temperature=0.0))
        except BackendError:
            return await self._fallback.decompose(query)
        plan = self._read(query, said.text)
        if plan is None:
            plan = await self._fallback.decompose(query)
        return Plan(plan.query, plan.parts, plan.join, said.usage)

    def _read(self, query: str, text: str) -> Plan | None:
        """What the backend says, None where it is not in form."""
        found = _OBJECT.search(text)
        try:
            data: Any = json.loads(found[0]) if found else None
            parts = tuple(_part(row) for row in data["parts"])[: self._most]
            join: Join = "compare" if data.get("join") == "compare" else "parts"
            return Plan(query, parts if len(parts) > 1 else (), join)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InputError):
            return None


def _part(row: Any) -> SubQuery:
    text = checked_query(row["text"])
    return SubQuery(text, tuple(sorted({int(place) for place in row.get("after") or ()})))


def _messages(query: str) -> list[Message]:
    return [Message("system", _TASK), Message("user", query)]
