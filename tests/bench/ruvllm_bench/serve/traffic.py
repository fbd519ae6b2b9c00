"""Mixed traffic: what clients of every kind ask of one server, and whether each answer was as it should be."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx

from ruvllm_bench.serve.load import prompts
from ruvllm_bench.serve.slow_backend import SAYS

# What is bounded is made small, so that it is full after the warm-up: what grows after that is a leak.
SETTINGS = {
    "RUVLLM_INFERENCE_SMALL_KIND": "echo",
    "RUVLLM_LEARNING_REQUESTS": "500",
    "RUVLLM_SESSIONS_MOST": "100",
    "RUVLLM_MEMORY_WRITE_BACK": "false",
    "RUVLLM_LOG_LEVEL": "warning",
}
_CALLS = "caller"  # the model that calls tools
_TURNS = 6  # questions of one session
_MEMORY = "The {} was checked in on shift {}."


def settings_before(url: str) -> dict[str, str]:
    """SETTINGS, with the stand-in for an LLM server at a URL as the large tier."""
    tier = {"KIND": "openai", "URL": url, "MODEL": _CALLS}
    return SETTINGS | {f"RUVLLM_INFERENCE_LARGE_{name}": value for name, value in tier.items()}


@dataclass(slots=True)
class Tally:
    """What became of it.

    Attributes:
        asked: requests by kind.
        wrong: answers that were not as they should be, by kind; the first few in words.
    """

    asked: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    first: list[str] = field(default_factory=list)

    def add(self, kind: str, problem: str) -> None:
        """One request; `problem` is "" where there was none."""
        self.asked[kind] += 1
        if problem:
            self.wrong[kind] += 1
            if len(self.first) < 5:
                self.first.append(f"{kind}: {problem}"[:300])


_TOOL = {
    "name": "note",
    "description": "Keeps a note.",
    "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


def _answered(text: str) -> bool:
    return "[echo]" in text or SAYS in text


class Traffic:
    """Clients that go on asking.

    Args:
        url: of the server.
        writes: memories, and lessons, a second that all of them add together: what is kept is meant to stay, so a
            run that looks for leaks adds little.
        seed: of their choices.
    """

    def __init__(self, url: str, *, writes: float = 0.5, seed: int = 0) -> None:
        self._url, self._writes, self._rng = url, writes, random.Random(seed)
        self._asked: Iterator[str] = prompts()
        self._next = dict.fromkeys(("memory", "lesson"), 0.0)
        self.tally = Tally()
        kinds: dict[Callable[[httpx.AsyncClient], Awaitable[str | None]], int] = {
            self._route: 40, self._team: 4, self._query: 8, self._session: 2, self._chat: 8, self._message: 4,
            self._loop: 6, self._claude_loop: 3, self._items_loop: 3, self._leave: 2, self._search: 10,
            self._memory: 4, self._lesson: 4, self._embed: 3, self._agents: 1, self._look: 4, self._mistake: 6,
        }  # fmt: skip
        self._kinds, self._weights = list(kinds), list(kinds.values())

    async def run(self, clients: int, seconds: float, until: Callable[[Tally], bool] = lambda _: True) -> Tally:
        """So many clients for so long, and until that is so."""
        end = monotonic() + seconds
        limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
        async with httpx.AsyncClient(base_url=self._url, timeout=300, limits=limits) as client:
            await asyncio.gather(*(self._client(client, end, until) for _ in range(clients)))
        return self.tally

    async def _client(self, client: httpx.AsyncClient, end: float, until: Callable[[Tally], bool]) -> None:
        while monotonic() < end or not until(self.tally):
            kind = self._rng.choices(self._kinds, self._weights)[0]
            problem: str | None
            try:
                problem = await kind(client)
            except (httpx.HTTPError, ValueError, KeyError) as error:
                problem = repr(error)
            if problem is not None:  # else it was not time for it
                self.tally.add(kind.__name__.strip("_"), problem)

    async def _post(self, client: httpx.AsyncClient, path: str, body: Any) -> Any:
        answer = await client.post(path, json=body)
        if answer.status_code != 200:
            raise ValueError(f"{answer.status_code} {answer.text}")
        return answer.json()

    def _due(self, kind: str) -> bool:
        """Whether it is time for another write."""
        now = monotonic()
        if now < self._next[kind]:
            return False
        self._next[kind] = now + 1 / self._writes
        return True

    async def _route(self, client: httpx.AsyncClient) -> str:
        return "" if (await self._post(client, "/v1/route", {"text": next(self._asked)}))["agent"] else "no agent"

    async def _team(self, client: httpx.AsyncClient) -> str:
        text = f"{next(self._asked)}, then {next(self._asked)}"
        return "" if (await self._post(client, "/v1/route/complex", {"text": text}))["members"] else "nobody"

    async def _query(self, client: httpx.AsyncClient) -> str:
        answer = await self._post(client, "/v1/query", {"query": next(self._asked)})
        if self._rng.random() < 0.2:
            rated = {"request_id": answer["request_id"], "rating": self._rng.choice((1, 3, 5))}
            if self._due("lesson"):
                await self._post(client, "/v1/feedback", rated)
        return "" if _answered(answer["text"]) else answer["text"][:80]

    async def _session(self, client: httpx.AsyncClient) -> str:
        name = (await self._post(client, "/v1/sessions", {}))["session_id"]
        for _ in range(_TURNS):
            await self._post(client, "/v1/query", {"query": next(self._asked), "session_id": name})
        said = len((await client.get(f"/v1/sessions/{name}")).json()["history"])
        if self._rng.random() < 0.5:
            await client.delete(f"/v1/sessions/{name}")
        return "" if said == 2 * _TURNS else f"{said} messages"

    async def _chat(self, client: httpx.AsyncClient) -> str:
        text = await self._streamed(client, "/v1/chat/completions", {"stream": True})
        return "" if _answered(text) and text.endswith("data: [DONE]\n\n") else f"ends with {text[-80:]!r}"

    async def _message(self, client: httpx.AsyncClient) -> str:
        text = await self._streamed(client, "/v1/messages", {"stream": True, "max_tokens": 100})
        return "" if _answered(text) and "message_stop" in text else f"ends with {text[-80:]!r}"

    async def _streamed(self, client: httpx.AsyncClient, path: str, more: dict[str, Any]) -> str:
        body = {"model": "auto", "messages": [{"role": "user", "content": next(self._asked)}], **more}
        async with client.stream("POST", path, json=body) as answer:
            return (await answer.aread()).decode()

    async def _events(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[Any]:
        """Of a stream of the model that calls tools."""
        async with client.stream("POST", path, json={"model": _CALLS, "stream": True, **body}) as answer:
            lines = (await answer.aread()).decode().splitlines()
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        return [json.loads(one) for one in data if one != "[DONE]"]

    async def _loop(self, client: httpx.AsyncClient) -> str:
        """A tool is called, answers, and is answered upon: in chat completions."""
        turns: list[dict[str, Any]] = [{"role": "user", "content": next(self._asked)}]
        tools = [{"type": "function", "function": _TOOL}]
        found = await self._events(client, "/v1/chat/completions", {"messages": turns, "tools": tools})
        deltas = [one["choices"][0]["delta"] for one in found if one["choices"]]
        calls = [call for delta in deltas for call in delta.get("tool_calls") or ()]
        given = "".join(call["function"]["arguments"] for call in calls)
        call = {"id": calls[0]["id"], "type": "function", "function": {"name": "note", "arguments": given}}
        turns += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": calls[0]["id"], "content": json.loads(given)["text"]},
        ]
        found = await self._events(client, "/v1/chat/completions", {"messages": turns, "tools": tools})
        return "" if _answered(json.dumps(found)) else f"ends with {found[-1]}"

    async def _claude_loop(self, client: httpx.AsyncClient) -> str:
        """The same in Anthropic's messages, which the server translates."""
        turns: list[dict[str, Any]] = [{"role": "user", "content": next(self._asked)}]
        tool = {"name": "note", "description": "Keeps a note.", "input_schema": _TOOL["parameters"]}
        body = {"messages": turns, "tools": [tool], "max_tokens": 100}
        found = await self._events(client, "/v1/messages", body)
        block = next(one["content_block"] for one in found if one["type"] == "content_block_start")
        given = "".join(one["delta"].get("partial_json", "") for one in found if one["type"] == "content_block_delta")
        result = {"type": "tool_result", "tool_use_id": block["id"], "content": json.loads(given)["text"]}
        turns += [
            {"role": "assistant", "content": [block | {"input": json.loads(given)}]},
            {"role": "user", "content": [result]},
        ]
        found = await self._events(client, "/v1/messages", body)
        return "" if _answered(json.dumps(found)) and found[-1]["type"] == "message_stop" else f"ends with {found[-1]}"

    async def _items_loop(self, client: httpx.AsyncClient) -> str:
        """The same in the Responses API, going on from the answer that the server has stored."""
        body: dict[str, Any] = {"input": next(self._asked), "tools": [{"type": "function", **_TOOL}]}
        first = (await self._events(client, "/v1/responses", body))[-1]["response"]
        call = next(item for item in first["output"] if item["type"] == "function_call")
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "closed"}
        found = await self._events(
            client, "/v1/responses", body | {"input": [result], "previous_response_id": first["id"]}
        )
        good = _answered(json.dumps(found)) and found[-1]["type"] == "response.completed"
        return "" if good else f"ends with {found[-1]}"

    async def _leave(self, client: httpx.AsyncClient) -> str:
        """In the middle of an answer."""
        body = {"messages": [{"role": "user", "content": f"{next(self._asked)} " * 40}], "stream": True}
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for _ in answer.aiter_bytes():
                break
        return ""

    async def _search(self, client: httpx.AsyncClient) -> str:
        body = {"query": next(self._asked), "k": 5, "hops": self._rng.choice((0, 2))}
        return "" if "memories" in await self._post(client, "/v1/memory/search", body) else "no list"

    async def _memory(self, client: httpx.AsyncClient) -> str | None:
        if not self._due("memory"):
            return None
        text = _MEMORY.format(next(self._asked), self._rng.randrange(10**6))
        body = {"memories": [{"text": text, "metadata": {"shift": "early"}}]}
        return "" if (await self._post(client, "/v1/memory", body))["ids"] else "no id"

    async def _lesson(self, client: httpx.AsyncClient) -> str | None:
        if not self._due("lesson"):
            return None
        agent = self._rng.choice(("coder", "tester", "reviewer"))
        taught = await self._post(client, "/v1/feedback", {"text": next(self._asked), "agent": agent})
        return "" if taught["learnt"] else "not learnt"

    async def _embed(self, client: httpx.AsyncClient) -> str:
        body = {"model": "auto", "input": [next(self._asked) for _ in range(4)]}
        rows = (await self._post(client, "/v1/embeddings", body))["data"]
        return "" if len(rows) == 4 else f"{len(rows)} vectors"

    async def _agents(self, client: httpx.AsyncClient) -> str:
        """One comes and goes."""
        name = f"porter-{self._rng.randrange(5)}"
        agent = {"name": name, "description": "Carries luggage to the rooms.", "examples": ["bring my bags up"]}
        added = await client.put("/v1/agents", json={"agents": [agent]})
        gone = await client.delete(f"/v1/agents/{name}")  # another client may have been faster
        # 202: another client has changed them again meanwhile
        good = added.status_code in (200, 202) and gone.status_code in (200, 202, 404)
        return "" if good else f"{added.text} {gone.text}"

    async def _look(self, client: httpx.AsyncClient) -> str:
        path = self._rng.choice(("/health", "/ready", "/metrics", "/stats", "/v1/models", "/v1/patterns", "/docs"))
        status = (await client.get(path)).status_code
        return "" if status == 200 else f"{path}: {status}"

    async def _mistake(self, client: httpx.AsyncClient) -> str:
        """Paths and ids that never were, bodies that are none: refused, and no trace left of them."""
        number = self._rng.randrange(10**9)
        tried = {
            f"/no/such/path/{number}": ({}, 404),
            f"/v1/route?{number}": ({"text": number}, 422),
            "/v1/query": ({"query": "a", "session_id": f"sess-{number}"}, 404),
            "/v1/chat/completions": ({"model": f"m{number}", "messages": [{"role": "user", "content": "a"}]}, 404),
        }
        path = self._rng.choice(list(tried))
        body, status = tried[path]
        got = (await client.post(path, json=body)).status_code
        return "" if got == status else f"{path}: {got}"
