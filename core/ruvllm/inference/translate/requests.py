"""Requests of OpenAI's chat completions as Anthropic's messages API has them, and the other way round.

Nothing is dropped in silence: what has no counterpart is refused by its name, but for what only speeds the other
server up or hides (`cache_control`, `thinking` of earlier turns), and for UNHEEDED, which a host has to tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ruvllm.errors import BackendError

APIS = ("openai", "anthropic")
# Fields of a request that make no other answer, and that the other API has not.
UNHEEDED: Mapping[str, frozenset[str]] = {
    "anthropic": frozenset({"thinking", "context_management", "service_tier", "inference_geo", "metadata", "effort"}),
    "openai": frozenset(
        {"user", "metadata", "store", "service_tier", "seed", "presence_penalty", "frequency_penalty", "logit_bias",
         "reasoning_effort", "verbosity", "prompt_cache_key", "safety_identifier", "prediction", "stream_options"}
    ),
}  # fmt: skip
_READ: Mapping[str, frozenset[str]] = {
    "anthropic": frozenset(
        {"model", "messages", "system", "max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "stream",
         "tools", "tool_choice", "output_config", "cache_control"}
    ),
    "openai": frozenset(
        {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "stream",
         "tools", "tool_choice", "parallel_tool_calls", "response_format", "n", "logprobs"}
    ),
}  # fmt: skip
_ANSWER = 8_192  # tokens, where nobody set a limit: Anthropic's API wants one
_ERROR = "[error] "


def _refused(name: str) -> BackendError:
    fix = "leave it out, or name a model whose server speaks your API"
    message = f"{name} cannot be said in the API of the chosen backend"
    return BackendError(message, kind="refused", field=name, fix=fix, code="unsupported_parameter", status=400)


def _checked(body: Mapping[str, Any], api: str) -> None:
    for name, value in body.items():
        if value is not None and name not in _READ[api] | UNHEEDED[api]:
            raise _refused(name)


def to_openai(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request of Anthropic's messages API as one of chat completions, without `model`.

    Raises:
        BackendError: a field or a part has no counterpart; it is named.
    """
    _checked(body, "anthropic")
    out: dict[str, Any] = {"messages": _openai_messages(body)}
    if tools := body.get("tools"):
        out["tools"] = [_openai_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)]
    choice = body.get("tool_choice") or {}
    if kind := choice.get("type"):
        named = {"type": "function", "function": {"name": choice.get("name")}}
        out["tool_choice"] = {"auto": "auto", "any": "required", "none": "none"}.get(kind, named)
        if choice.get("disable_parallel_tool_use"):
            out["parallel_tool_calls"] = False
    for theirs, ours in (("max_tokens", "max_tokens"), ("temperature", "temperature"), ("top_p", "top_p"),
                         ("top_k", "top_k"), ("stop_sequences", "stop"), ("stream", "stream")):  # fmt: skip
        if body.get(theirs) is not None:
            out[ours] = body[theirs]
    shape = (body.get("output_config") or {}).get("format")
    if shape:
        out["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": shape.get("schema", {}), "strict": True},
        }
    return out


def _openai_messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    out = list[dict[str, Any]]()
    if system := body.get("system"):
        out.append({"role": "system", "content": _only_text(system, "system")})
    for i, turn in enumerate(body.get("messages") or ()):
        where, content = f"messages[{i}]", turn.get("content")
        if isinstance(content, str):
            out.append({"role": turn["role"], "content": content})
        elif turn["role"] == "system":
            out.append({"role": "system", "content": _only_text(content or "", f"{where}.content")})
        elif turn["role"] == "assistant":
            out.append(_said(content or (), where))
        else:
            out += _user_messages(content or (), where)
    return out


def _said(blocks: Sequence[Mapping[str, Any]], where: str) -> dict[str, Any]:
    """An assistant's turn; what it thought then stays behind, as Anthropic's own API leaves it out of later turns."""
    texts, calls = list[str](), list[dict[str, Any]]()
    for j, block in enumerate(blocks):
        kind = block.get("type")
        if kind == "text":
            texts.append(block.get("text") or "")
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": json.dumps(block.get("input") or {})}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind not in ("thinking", "redacted_thinking"):
            raise _refused(f"{where}.content[{j}].type {kind!r}"[:100])
    turn: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or (None if calls else "")}
    return turn | ({"tool_calls": calls} if calls else {})


def _user_messages(blocks: Sequence[Mapping[str, Any]], where: str) -> list[dict[str, Any]]:
    """A user's turn: each tool's result is a message of its own, and comes first."""
    results, parts = list[dict[str, Any]](), list[dict[str, Any]]()
    for j, block in enumerate(blocks):
        place = f"{where}.content[{j}]"
        if block.get("type") != "tool_result":
            parts.append(_openai_part(block, place))
            continue
        content = block.get("content") or ""
        inner = [{"type": "text", "text": content}] if isinstance(content, str) else content
        found = [_openai_part(one, place) for one in inner]
        text = "\n".join(part["text"] for part in found if part["type"] == "text")
        text = _ERROR + text if block.get("is_error") else text
        results.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text})
        parts += [part for part in found if part["type"] != "text"]  # a tool's message holds text alone
    if not parts:
        return results
    if all(part["type"] == "text" for part in parts):
        return [*results, {"role": "user", "content": "\n".join(part["text"] for part in parts)}]
    return [*results, {"role": "user", "content": parts}]


def _openai_part(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind, source = block.get("type"), block.get("source") or {}
    if kind == "text":
        return {"type": "text", "text": block.get("text") or ""}
    if kind == "image" and source.get("type") == "base64":
        return _image(f"data:{source.get('media_type')};base64,{source.get('data')}")
    if kind == "image" and source.get("type") == "url":
        return _image(source.get("url"))
    if kind == "document" and source.get("type") == "text":
        return {"type": "text", "text": source.get("data") or ""}
    if kind == "tool_reference":  # a tool that a search found; its definition is among the tools
        return {"type": "text", "text": f"[tool {block.get('tool_name')}]"}
    raise _refused(f"{where}.type {kind!r}"[:100])


def _image(url: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def _openai_tool(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise _refused(f"{where}.type {tool.get('type')!r}"[:100])
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema") or {"type": "object"}}
    named = {name: tool[name] for name in ("description", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": function | named}


def _only_text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    for j, part in enumerate(content):
        if part.get("text") is None:
            raise _refused(f"{where}[{j}].type {part.get('type')!r}"[:100])
    return "\n\n".join(part["text"] for part in content)


def to_anthropic(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request of chat completions as one of Anthropic's messages API, without `model`.

    Raises:
        BackendError: a field or a part has no counterpart; it is named.
    """
    _checked(body, "openai")
    for name, plain in (("n", 1), ("logprobs", False)):
        if body.get(name) not in (None, plain):
            raise _refused(name)
    system, turns = list[str](), list[dict[str, Any]]()
    for i, turn in enumerate(body.get("messages") or ()):
        where, role = f"messages[{i}]", turn.get("role")
        if role in ("system", "developer"):
            system.append(_only_text(turn.get("content") or "", f"{where}.content"))
            continue
        blocks = _blocks(turn, where)
        role = "assistant" if role == "assistant" else "user"
        if turns and turns[-1]["role"] == role:  # results of parallel calls belong into one turn
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or _ANSWER
    out: dict[str, Any] = {"messages": turns, "max_tokens": limit}
    if system:
        out["system"] = "\n\n".join(system)
    if tools := body.get("tools"):
        out["tools"] = [_anthropic_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)]
    if choice := _anthropic_choice(body):
        out["tool_choice"] = choice
    if (temperature := body.get("temperature")) is not None:
        out["temperature"] = min(temperature, 1.0)
    for name in ("top_p", "top_k", "stream"):
        if body.get(name) is not None:
            out[name] = body[name]
    if stop := body.get("stop"):
        out["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    shape = body.get("response_format") or {}
    if shape.get("type") == "json_schema":
        out["output_config"] = {"format": {"type": "json_schema", "schema": shape["json_schema"].get("schema", {})}}
    elif shape.get("type") not in (None, "text"):
        raise _refused("response_format")
    return out


def _blocks(turn: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    content = turn.get("content")
    if turn.get("role") in ("tool", "function"):
        text = _only_text(content or "", f"{where}.content")
        failed = text.startswith(_ERROR)
        result = {"type": "tool_result", "tool_use_id": turn.get("tool_call_id"), "content": text.removeprefix(_ERROR)}
        return [result | ({"is_error": True} if failed else {})]
    parts: Iterable[Mapping[str, Any]] = (
        [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
    )
    blocks = [_anthropic_part(part, f"{where}.content[{j}]") for j, part in enumerate(parts)]
    blocks = [block for block in blocks if block.get("text") != ""]  # which Anthropic's API refuses
    for j, call in enumerate(turn.get("tool_calls") or ()):
        function = call.get("function") or {}
        try:
            given = json.loads(function.get("arguments") or "{}")
        except (ValueError, RecursionError):
            raise _refused(f"{where}.tool_calls[{j}].function.arguments, which is no JSON,") from None
        blocks.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given})
    return blocks


def _anthropic_part(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
    if kind == "image_url":
        url = (part.get("image_url") or {}).get("url") or ""
        head, comma, data = url.partition(";base64,")
        if comma and head.startswith("data:"):
            source = {"type": "base64", "media_type": head.removeprefix("data:"), "data": data}
            return {"type": "image", "source": source}
        return {"type": "image", "source": {"type": "url", "url": url}}
    raise _refused(f"{where}.type {kind!r}"[:100])


def _anthropic_tool(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise _refused(f"{where}.type {tool.get('type')!r}"[:100])
    function = tool.get("function") or {}
    out = {"name": function.get("name"), "input_schema": function.get("parameters") or {"type": "object"}}
    return out | {name: function[name] for name in ("description", "strict") if function.get(name) is not None}


def _anthropic_choice(body: Mapping[str, Any]) -> dict[str, Any]:
    choice = body.get("tool_choice")
    out: dict[str, Any] = {}
    if isinstance(choice, str):
        kind = {"required": "any"}.get(choice, choice)
        if kind not in ("auto", "any", "none"):
            raise _refused("tool_choice")
        out = {"type": kind}
    elif isinstance(choice, Mapping):
        if choice.get("type") != "function":
            raise _refused("tool_choice")
        out = {"type": "tool", "name": (choice.get("function") or {}).get("name")}
    if body.get("parallel_tool_calls") is False and body.get("tools"):
        out = {"type": "auto"} | out | {"disable_parallel_tool_use": True}
    return out
