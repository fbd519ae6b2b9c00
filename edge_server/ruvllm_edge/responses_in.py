"""A request of OpenAI's Responses API as one of chat completions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ruvllm.inference.relay import MISSHAPEN
from ruvllm_edge.problems import Problem, unsupported

_PASSED = ("temperature", "top_p", "stream", "parallel_tool_calls", "user", "safety_identifier", "service_tier",
           "prompt_cache_key", "prompt_cache_retention")  # fmt: skip
_RENAMED = (("max_output_tokens", "max_tokens"),)
_READ = frozenset(
    {"model", "input", "instructions", "tools", "tool_choice", "text", "reasoning", "store", "metadata",
     "previous_response_id", "client_metadata", *_PASSED, "max_output_tokens"}
)  # fmt: skip
# Fields that make no other answer, and that chat completions have not; those of one value alone with it.
_UNHEEDED = frozenset({"include", "truncation", "max_tool_calls", "stream_options", "context_management",
                       "prompt_cache_options"})  # fmt: skip
_PLAIN = {"background": False, "top_logprobs": 0}
_HOSTED = frozenset({"web_search", "web_search_preview", "tool_search"})  # OpenAI's own, which a model can do without
_CALLS = frozenset({"function_call", "custom_tool_call", "tool_search_call"})
_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})


class Tool(NamedTuple):
    """What a function of chat completions stands for.

    Attributes:
        kind: "function", "custom" (it takes free text) or "tool_search" (the client's, for tools that are found later).
        namespace: "" without one.
    """

    kind: str
    name: str
    namespace: str = ""


@dataclass(slots=True)
class ChatRequest:
    """The request in the words of chat completions.

    Attributes:
        body: of it.
        tools: by the function's name there.
        ignored: names of what the request has and chat completions have not, where it can do without.
    """

    body: dict[str, Any]
    tools: dict[str, Tool] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)


def _refused(name: str, fix: str = "leave it out") -> Problem:
    return unsupported(name, "cannot be passed on to a server of chat completions or messages", fix)


def chat_request(body: Mapping[str, Any], items: Sequence[Mapping[str, Any]], earlier: int = 0) -> ChatRequest:
    """A request of the Responses API as one of chat completions.

    Args:
        body: its fields as JSON types.
        items: of the conversation: those of an earlier answer, and `input` as a list.
        earlier: how many are not of `input`.

    Raises:
        Problem: 400, a field, a tool or an item has no counterpart (it is named), or has another shape.
    """
    request = ChatRequest({"model": body.get("model") or "auto"})
    for name, value in body.items():
        if value is None or name in _READ or _PLAIN.get(name, ...) == value:
            continue
        if name not in _UNHEEDED:
            raise _refused(name)
        request.ignored.add(name)
    try:
        _fill(request, body, items, earlier)
    except MISSHAPEN as bad:
        message = f"the request is not as the Responses API has it ({type(bad).__name__})"
        raise Problem(400, message, field="input", fix="see OpenAI's documentation of it") from None
    return request


def _fill(request: ChatRequest, body: Mapping[str, Any], items: Sequence[Mapping[str, Any]], earlier: int) -> None:
    out = request.body
    for theirs, ours in (*((name, name) for name in _PASSED), *_RENAMED):
        if body.get(theirs) is not None:
            out[ours] = body[theirs]
    tools = _listed(body.get("tools"), "tools", request)
    system = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    out["messages"] = _joined([*system, *_messages(items, request, tools, -earlier)])
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        allowed = {_name(tool) for tool in choice["tools"]}
        tools = [tool for tool in tools if tool["function"]["name"] in allowed]
        choice = choice.get("mode") or "auto"
    if tools:
        out["tools"] = tools
    else:
        out.pop("parallel_tool_calls", None)  # which OpenAI's own chat completions take with tools alone
    if choice is not None and (tools or choice != "auto"):
        out["tool_choice"] = _choice(choice)
    reasoning, text = body.get("reasoning") or {}, body.get("text") or {}
    if reasoning.get("effort") is not None:
        out["reasoning_effort"] = reasoning["effort"]
    if text.get("verbosity") is not None:
        out["verbosity"] = text["verbosity"]
    if shape := _format(text.get("format") or {}):
        out["response_format"] = shape


def _format(given: Mapping[str, Any]) -> dict[str, Any]:
    kind = given.get("type")
    if kind == "json_schema":
        named = {name: value for name, value in given.items() if name != "type" and value is not None}
        return {"type": kind, "json_schema": named}
    if kind not in (None, "text", "json_object"):
        raise _refused(f"text.format.type {kind!r}"[:100])
    return {"type": kind} if kind == "json_object" else {}


def _name(tool: Mapping[str, Any]) -> str:
    """Of the function that stands for a tool, or for a call of one."""
    namespace = tool.get("namespace")
    return f"{namespace}__{tool['name']}" if namespace else str(tool["name"])


def _choice(choice: Any) -> Any:
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return choice
    if isinstance(choice, Mapping) and choice.get("type") in ("function", "custom"):
        return {"type": "function", "function": {"name": _name(choice)}}
    raise _refused("tool_choice", "name a function or a custom tool")


def _listed(tools: Any, where: str, request: ChatRequest) -> list[dict[str, Any]]:
    return [one for i, tool in enumerate(tools or ()) for one in _tools(tool, f"{where}[{i}]", request)]


def _tools(tool: Mapping[str, Any], where: str, request: ChatRequest, namespace: str = "") -> Iterable[dict[str, Any]]:
    kind = str(tool.get("type"))
    if kind == "namespace":
        for i, one in enumerate(tool.get("tools") or ()):
            yield from _tools(one, f"{where}.tools[{i}]", request, tool["name"])
        return
    found = kind == "tool_search" and tool.get("execution") == "client"
    if kind in _HOSTED and not found:
        request.ignored.add(f"{where}.type {kind}")
        return
    if kind not in ("function", "custom", "tool_search"):
        raise _refused(f"{where}.type {kind!r}"[:100])
    made = Tool(kind, kind if found else tool["name"], namespace)
    name = _name(made._asdict())
    request.tools[name] = made
    function = {"name": name, "description": tool.get("description"), "parameters": tool.get("parameters")}
    if kind == "custom":
        function |= _one_text(tool)
    elif tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    yield {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def _one_text(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool that takes free text, as a function of one text; its grammar is described."""
    shape = tool.get("format") or {}
    about = tool.get("description") or ""
    if shape.get("type") == "grammar":
        about += f"\n\nThe input follows this {shape.get('syntax')} grammar:\n{shape.get('definition')}"
    schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"],
              "additionalProperties": False}  # fmt: skip
    return {"description": about.strip() or None, "parameters": schema}


def _messages(
    items: Sequence[Mapping[str, Any]], request: ChatRequest, tools: list[dict[str, Any]], first: int
) -> Iterable[dict[str, Any]]:
    """The items as messages; tools that a search found are added to `tools`."""
    seen = list[dict[str, Any]]()  # parts of outputs of tools that are no text: they follow as a user's message
    for i, item in enumerate(items, first):
        where, kind = f"input[{i}]", item.get("type") or "message"
        if kind == "reasoning":  # what it thought then is another server's, and encrypted
            continue
        if kind == "tool_search_output":
            found = _listed(item.get("tools"), f"{where}.tools", request)
            there = {tool["function"]["name"] for tool in tools}
            tools += [tool for tool in found if tool["function"]["name"] not in there]
            names = ", ".join(tool["function"]["name"] for tool in found)
            yield {"role": "tool", "tool_call_id": item["call_id"], "content": f"Tools found: {names or 'none'}"}
            continue
        if kind in _OUTPUTS:
            text, others = _output(item.get("output"), where)
            seen += others
            yield {"role": "tool", "tool_call_id": item["call_id"], "content": text}
            continue
        if seen:
            yield {"role": "user", "content": seen}
            seen = []
        if kind in _CALLS:
            yield {"role": "assistant", "content": None, "tool_calls": [_call(item, kind)]}
        elif kind == "message":
            yield _message(item, where)
        else:
            raise _refused(f"{where}.type {kind!r}"[:100])
    if seen:
        yield {"role": "user", "content": seen}


def _call(item: Mapping[str, Any], kind: str) -> dict[str, Any]:
    name, given = _name({"name": "tool_search", **item}), item.get("arguments") or "{}"
    if kind == "custom_tool_call":
        given = {"input": item.get("input") or ""}
    given = given if isinstance(given, str) else json.dumps(given)
    return {"id": item["call_id"], "type": "function", "function": {"name": name, "arguments": given}}


def _message(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    role = {"developer": "system"}.get(item["role"], item["role"])
    if role not in ("system", "user", "assistant"):
        raise _refused(f"{where}.role {role!r}"[:100])
    text, others = _output(item.get("content"), where, "" if role == "assistant" else "\n")
    if not others:
        return {"role": role, "content": text}
    if role != "user":
        raise _refused(f"{where}.content, which is more than text,")
    return {"role": role, "content": _parts(item["content"], where)}


def _output(content: Any, where: str, between: str = "\n") -> tuple[str, list[dict[str, Any]]]:
    """(all text of some content, its parts that are none)."""
    parts = _parts(content, where)
    texts = (part["text"] for part in parts if part["type"] == "text")
    return between.join(texts), [part for part in parts if part["type"] != "text"]


def _parts(content: Any, where: str) -> list[dict[str, Any]]:
    if isinstance(content, str) or content is None:
        return [{"type": "text", "text": content or ""}]
    return [_part(part, f"{where}.content[{j}]") for j, part in enumerate(content)]


def _part(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text", "refusal"):
        return {"type": "text", "text": part.get("refusal" if kind == "refusal" else "text") or ""}
    if kind == "input_image" and part.get("image_url"):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_file" and part.get("file_data"):
        return {"type": "file", "file": {name: part[name] for name in ("filename", "file_data") if part.get(name)}}
    raise _refused(f"{where}.type {kind!r}"[:100], "send text, images as URLs or data, and files as data")


def _joined(turns: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """With one message for what was said and called at once, and one of the system where several follow each other."""
    out = list[dict[str, Any]]()
    for turn in turns:
        before = out[-1] if out else {}
        if turn["role"] == before.get("role") == "system":
            out[-1] = turn | {"content": f"{before['content']}\n\n{turn['content']}"}
        elif turn["role"] == before.get("role") == "assistant":
            calls = [*before.get("tool_calls", ()), *turn.get("tool_calls", ())]
            text = "".join(one["content"] or "" for one in (before, turn))
            out[-1] = {"role": "assistant", "content": text or (None if calls else "")}
            out[-1] |= {"tool_calls": calls} if calls else {}
        else:
            out.append(turn)
    return out
