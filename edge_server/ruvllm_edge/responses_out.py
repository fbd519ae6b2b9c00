"""An answer in chat completions, whole or in chunks, as OpenAI's Responses API gives it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from secrets import token_hex
from typing import Any

from ruvllm.inference.backend import Usage
from ruvllm.inference.chat_wire import garbled
from ruvllm.inference.relay import MISSHAPEN
from ruvllm.query.responses import Delta, PassedResponse, Response
from ruvllm_edge.problems import Problem, problem_of
from ruvllm_edge.responses_in import Tool

# Of a part of the text: the item it is in, its type, and where its text is.
_PARTS = {
    "reasoning": ("reasoning", "reasoning_text", "text"),
    "text": ("message", "output_text", "text"),
    "refusal": ("message", "refusal", "refusal"),
}
_PREFIXES = {"reasoning": "rs", "message": "msg", "function_call": "fc", "custom_tool_call": "ctc",
             "tool_search_call": "tsc"}  # fmt: skip
# Of a tool: the item of its calls, and what is in it at first.
_CALLS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "function": ("function_call", {"arguments": ""}),
    "custom": ("custom_tool_call", {"input": ""}),
    "tool_search": ("tool_search_call", {"arguments": {}, "execution": "client"}),
}
_CODES = {429: "rate_limit_exceeded", 400: "invalid_prompt"}


class ResponseWriter:
    """Writes one answer.

    Args:
        response: the fields of it that the request tells; the others are filled in as the answer goes on.
        tools: by the function's name in chat completions.

    Attributes:
        done: whether the last event has been written.
    """

    def __init__(self, response: dict[str, Any], tools: Mapping[str, Tool] | None = None) -> None:
        self.response = {"status": "in_progress", "error": None, "incomplete_details": None, "usage": None} | response
        self.response["output"] = []
        self.done = False
        self._tools = tools or {}
        self._number = 0
        self._kind = ""  # of the part that is being written: one of _PARTS, or ""
        self._texts = list[str]()  # of it
        self._calls: dict[Any, int] = {}  # a call's number in chat completions, and that of its item
        self._last: Any = None  # the call that was written last
        self._arguments: dict[int, list[str]] = {}  # of the calls, by the number of their item
        self._usage: Mapping[str, Any] = {}
        self._reason = ""

    def begin(self) -> list[dict[str, Any]]:
        """The events before the answer."""
        return [self._event(f"response.{kind}", response=dict(self.response)) for kind in ("created", "in_progress")]

    async def events(self, pieces: AsyncIterator[Delta | Response]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of an answer, the last of which says how it ended; an error is an event too."""
        try:
            async for piece in pieces:
                for event in self.read(piece):
                    yield event
        except Exception as error:
            yield self.fail(problem_of(error))
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]

    def whole(self, response: Response) -> dict[str, Any]:
        """The response of an answer that came at once. Raises BackendError: it is none of chat completions."""
        if isinstance(response, PassedResponse) and response.body:
            self.read(Delta("", events=(response.body,), whole=True))
        else:
            self.read(Delta(response.text, response.finish_reason == "refusal"))
        self.read(response)
        return self.response

    def read(self, piece: Delta | Response) -> list[dict[str, Any]]:
        """The events that a piece stands for; all that are left where it is the answer's end.

        Raises:
            BackendError: a server sent what is none of chat completions.
        """
        if isinstance(piece, Response):
            self._usage = self._usage or _counts(piece.usage)
            self._reason = self._reason or piece.finish_reason
            return self.close()
        if not piece.events:
            return self.feed({"choices": [{"delta": {"refusal" if piece.refusal else "content": piece.text}}]})
        read = self._completion if piece.whole else self.feed
        try:
            return [event for one in piece.events for event in read(json.loads(one))]
        except MISSHAPEN:
            raise garbled(piece.events[0]) from None

    def _completion(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        choice = (body.get("choices") or [{}])[0]
        said = dict(choice.get("message") or {})
        said["tool_calls"] = [{**call, "index": i} for i, call in enumerate(said.get("tool_calls") or ())]
        return self.feed(dict(body) | {"choices": [{**choice, "index": 0, "delta": said}]})

    def feed(self, chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The events that one chunk of a chat completion stands for."""
        out = list[dict[str, Any]]()
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue
            said = choice.get("delta") or {}
            out += self._add("reasoning", said.get("reasoning_content") or said.get("reasoning"))
            out += self._add("text", said.get("content"))
            out += self._add("refusal", said.get("refusal"))
            for call in said.get("tool_calls") or ():
                out += self._call(call)
            self._reason = choice.get("finish_reason") or self._reason
        return out

    def close(self) -> list[dict[str, Any]]:
        """The last events."""
        cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(self._reason)
        status = "incomplete" if cut else "completed"
        out = self._end(status)
        for number in self._calls.values():
            out += self._end_call(number, status)
        self.response |= {"status": status, "usage": _usage(self._usage)}
        self.response["incomplete_details"] = {"reason": cut} if cut else None
        self.done = True
        return [*out, self._event(f"response.{status}", response=self.response)]

    def fail(self, problem: Problem) -> dict[str, Any]:
        """The last event, where there is no answer."""
        code = problem.code or _CODES.get(problem.status, "server_error")
        self.response |= {"status": "failed", "error": {"code": code, "message": problem.message}}
        self.done = True
        return self._event("response.failed", response=self.response)

    def _add(self, kind: str, text: Any) -> list[dict[str, Any]]:
        if not isinstance(text, str) or not text:
            return []
        out = list[dict[str, Any]]()
        item_kind, part, name = _PARTS[kind]
        if self._kind != kind:
            out = self._end("completed")
            self._kind, self._texts = kind, []
            fields: dict[str, Any] = {"role": "assistant"} if item_kind == "message" else {"summary": []}
            item = self._item(item_kind, {**fields, "content": []})
            out.append(self._of_item("response.output_item.added", item=item))
            out.append(self._of_part("response.content_part.added", part=_part(part, name, "")))
        self._texts.append(text)
        more: dict[str, Any] = {"logprobs": []} if kind == "text" else {}
        return [*out, self._of_part(f"response.{part}.delta", delta=text, **more)]

    def _end(self, status: str) -> list[dict[str, Any]]:
        if not self._kind:
            return []
        _, part, name = _PARTS[self._kind]
        text = "".join(self._texts)
        more: dict[str, Any] = {"logprobs": []} if self._kind == "text" else {}
        self._kind = ""
        item, made = self.response["output"][-1], _part(part, name, text)
        out = [
            self._of_part(f"response.{part}.done", **{name: text}, **more),
            self._of_part("response.content_part.done", part=made),
        ]
        item |= {"status": status, "content": [made]}
        return [*out, self._of_item("response.output_item.done", item=dict(item))]

    def _call(self, call: Mapping[str, Any]) -> list[dict[str, Any]]:
        function = call.get("function") or {}
        key = call.get("index")
        key = (call.get("id") or self._last) if key is None else key  # servers that leave the number out
        self._last, out = key, list[dict[str, Any]]()
        if key not in self._calls:
            out = self._end("completed")
            name = str(function.get("name") or "")
            tool = self._tools.get(name, Tool("function", name))
            kind, fields = _CALLS[tool.kind]
            item = {"call_id": call.get("id") or f"call_{token_hex(12)}", **fields}
            item |= {} if tool.kind == "tool_search" else {"name": tool.name}
            item = self._item(kind, item | ({"namespace": tool.namespace} if tool.namespace else {}))
            self._calls[key] = len(self.response["output"]) - 1
            self._arguments[self._calls[key]] = []
            out.append(self._of_item("response.output_item.added", item=item))
        number, piece = self._calls[key], function.get("arguments")
        if isinstance(piece, str) and piece:
            self._arguments[number].append(piece)
            if self.response["output"][number]["type"] == "function_call":
                kind = "response.function_call_arguments.delta"
                out.append(self._of_call(kind, number, delta=piece))
        return out

    def _end_call(self, number: int, status: str) -> list[dict[str, Any]]:
        item, text = self.response["output"][number], "".join(self._arguments[number])
        item["status"], out = status, list[dict[str, Any]]()
        if item["type"] == "custom_tool_call":  # its text is known when the JSON around it is whole
            item["input"] = text = _free_text(text)
            out.append(self._of_call("response.custom_tool_call_input.delta", number, delta=text))
            out.append(self._of_call("response.custom_tool_call_input.done", number, input=text))
        elif item["type"] == "tool_search_call":
            item["arguments"] = _arguments(text)
        else:
            item["arguments"] = text = text or "{}"
            out.append(self._of_call("response.function_call_arguments.done", number, arguments=text))
        return [*out, self._event("response.output_item.done", output_index=number, item=dict(item))]

    def _item(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        """A new item of the output; returns it as it is at first."""
        item = {"id": f"{_PREFIXES[kind]}_{token_hex(16)}", "type": kind, "status": "in_progress", **fields}
        self.response["output"].append(item)
        return dict(item)

    def _of_item(self, kind: str, **fields: Any) -> dict[str, Any]:
        return self._event(kind, output_index=len(self.response["output"]) - 1, **fields)

    def _of_part(self, kind: str, **fields: Any) -> dict[str, Any]:
        name = self.response["output"][-1]["id"]
        return self._of_item(kind, item_id=name, content_index=0, **fields)

    def _of_call(self, kind: str, number: int, **fields: Any) -> dict[str, Any]:
        return self._event(kind, output_index=number, item_id=self.response["output"][number]["id"], **fields)

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **fields}


def _part(kind: str, name: str, text: str) -> dict[str, Any]:
    return {"type": kind, name: text} | ({"annotations": [], "logprobs": []} if kind == "output_text" else {})


def _arguments(text: str) -> dict[str, Any]:
    """Of a call; empty where they are no JSON object."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return given if isinstance(given, dict) else {}


def _free_text(text: str) -> str:
    """What a tool of free text gets: the one text of a function's arguments, or all of them where they are none."""
    return str(_arguments(text).get("input", text))


def _counts(usage: Usage) -> dict[str, Any]:
    details = {"cached_tokens": usage.cached_tokens}
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
            "prompt_tokens_details": details}  # fmt: skip


def _usage(counts: Mapping[str, Any]) -> dict[str, Any]:
    read, written = _count(counts, "prompt_tokens"), _count(counts, "completion_tokens")
    cached = _count(counts.get("prompt_tokens_details"), "cached_tokens")
    thought = _count(counts.get("completion_tokens_details"), "reasoning_tokens")
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": read + written,
    }


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, Mapping) else 0
    return value if isinstance(value, int) else 0
