"""Ollama's API: chats, answers to prompts, embeddings and the list of models, in lines of JSON."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from ruvllm import __version__
from ruvllm.inference.backend import estimate_tokens
from ruvllm.inference.relay import MISSHAPEN
from ruvllm.query.responses import Delta, Response
from ruvllm_edge import ollama_types as t
from ruvllm_edge.chat import AUTO, Ask, answer, models, open_stream, routing_headers, unheeded
from ruvllm_edge.edge import Edge
from ruvllm_edge.embeddings import embed
from ruvllm_edge.openai import ask_chat, extra_names
from ruvllm_edge.operations import LINES, Call, Operation, Reply, Stream, Style
from ruvllm_edge.problems import Problem, unsupported
from ruvllm_edge.responses_out import ResponseWriter

_encode = msgspec.json.Encoder().encode
_LATEST = ":latest"
_OPTIONS = {"num_predict": "max_tokens"} | {name: name for name in (
    "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "stop", "seed", "presence_penalty", "frequency_penalty",
)}  # fmt: skip
# Of how a model is run, which its own server decides.
_UNHEEDED = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "num_keep", "num_thread", "main_gpu", "low_vram", "numa", "use_mmap",
     "use_mlock", "f16_kv", "vocab_only", "repeat_last_n", "penalize_newline"}
)  # fmt: skip
_IMAGES = (("iVBOR", "png"), ("/9j/", "jpeg"), ("R0lGOD", "gif"), ("UklGR", "webp"))


def _error(problem: Problem, _: str = "") -> t.OllamaError:
    return t.OllamaError(f"{problem.message}; {problem.fix}" if problem.fix else problem.message)


STYLE = Style(b"application/json", _error, t.OllamaError, {422: 400})


async def chat(edge: Edge, call: Call) -> Any:
    """The next message of a conversation, in lines of JSON unless `stream` is false."""
    body: t.OllamaChat = call.body
    found = {"messages": _messages(body.messages)} | ({"tools": body.tools} if body.tools else {})
    return await _reply(edge, call, found, bool(body.messages))


async def generate(edge: Edge, call: Call) -> Any:
    """The answer to a prompt, in lines of JSON unless `stream` is false."""
    body: t.OllamaGenerate = call.body
    for name in ("suffix", "template", "context", "raw"):
        if getattr(body, name):
            raise _refused(name)
    system = [{"role": "system", "content": body.system}] if body.system else []
    turn = {"role": "user", "content": body.prompt, "images": body.images}
    return await _reply(edge, call, {"messages": _messages([*system, turn])}, bool(body.prompt))


def _refused(name: str) -> Problem:
    return unsupported(name, "has no meaning for the models behind this server")


async def _reply(edge: Edge, call: Call, chat: dict[str, Any], asks: bool) -> Any:
    body: t.OllamaAsking = call.body
    lines = _Lines(body.model, isinstance(body, t.OllamaChat))
    for name, value in call.raw.items():
        if value is not None and name not in body.__struct_fields__:
            raise _refused(name)
    if not asks:  # which loads a model in Ollama
        return Reply(lines.empty())
    ignored, streams = set[str](), body.stream is not False
    chat |= _fields(body, ignored) | {"model": _model(edge, call, body.model), "stream": streams}
    ask = ask_chat(edge, call, chat)

    def headers(where: Any) -> dict[str, str]:
        return routing_headers(where, ignored | unheeded(edge, where, extra_names(ask), "openai"))

    if not streams:
        return await _whole(edge, ask, lines, headers)
    routed, pieces = await open_stream(edge, ask)
    return Stream(lines.streamed(pieces), headers(routed), LINES)


async def _whole(edge: Edge, ask: Ask, lines: _Lines, headers: Any) -> Reply:
    response = await answer(edge, ask)
    made, said = lines.writer.whole(response), dict[str, Any]()
    for item in made["output"]:
        for name, value in _said(item).items():
            said[name] = said[name] + value if name in said else value
    return Reply(lines.last(made) | lines.piece(said), headers(response))


def _model(edge: Edge, call: Call, name: str) -> str:
    plain = name.removesuffix(_LATEST)
    if name not in (found := models(edge, call.key)) and plain not in found:
        raise Problem(404, f"model '{name[:100]}' not found", field="model", fix=f"use {AUTO}, or see /api/tags")
    return name if name in found else plain


def _fields(body: t.OllamaAsking, ignored: set[str]) -> dict[str, Any]:
    """What a request asks beside its messages, in the words of chat completions."""
    out: dict[str, Any] = {"stream_options": {"include_usage": True}} if body.stream is not False else {}
    for name, value in (body.options or {}).items():
        if name in _UNHEEDED:
            ignored.add(f"options.{name}")
        elif name not in _OPTIONS:
            raise _refused(f"options.{name}"[:100])
        elif not (name == "num_predict" and isinstance(value, int) and value < 0):  # as many as there will be
            out[_OPTIONS[name]] = value
    if body.logprobs:
        raise _refused("logprobs")
    if isinstance(body.think, str):
        out["reasoning_effort"] = body.think
    ignored |= {name for name in ("think", "keep_alive") if getattr(body, name) is not None and name not in out}
    ignored -= {"think"} if "reasoning_effort" in out else set()
    if isinstance(body.format, dict):
        out["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": body.format}}
    elif body.format == "json":
        out["response_format"] = {"type": "json_object"}
    elif body.format:
        raise _refused("format")
    return out


def _messages(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ollama's messages as those of chat completions; a call and its result belong together by their order."""
    out, waiting, calls = list[dict[str, Any]](), list[str](), 0
    try:
        for turn in turns:
            made: dict[str, Any] = {"role": turn["role"], "content": turn.get("content") or ""}
            if images := turn.get("images"):
                made["content"] = [{"type": "text", "text": made["content"]}, *map(_image, images)]
            for call in turn.get("tool_calls") or ():
                calls += 1
                function, name = call["function"], call.get("id") or f"call_{calls}"
                function = {"name": function["name"], "arguments": json.dumps(function.get("arguments") or {})}
                made.setdefault("tool_calls", []).append({"id": name, "type": "function", "function": function})
                waiting.append(name)
            if turn["role"] == "tool":
                name = turn.get("tool_call_id") or (waiting[0] if waiting else "call_0")
                waiting = [one for one in waiting if one != name]
                made["tool_call_id"] = name
            out.append(made)
    except MISSHAPEN as bad:
        message = f"the messages are not as Ollama's API has them ({type(bad).__name__})"
        raise Problem(400, message, field="messages", fix="see its documentation") from None
    return out


def _image(data: str) -> dict[str, Any]:
    kind = next((kind for head, kind in _IMAGES if data.startswith(head)), "png")
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{data}"}}


def _said(item: Mapping[str, Any]) -> dict[str, Any]:
    """What a finished item of the Responses API is in a message of Ollama's."""
    if item["type"] == "function_call":
        try:
            given = json.loads(item["arguments"])
        except ValueError:
            given = {"arguments": item["arguments"]}
        return {"tool_calls": [{"id": item["call_id"], "function": {"name": item["name"], "arguments": given}}]}
    text = "".join(str(part.get("text") or part.get("refusal") or "") for part in item["content"])
    return {"thinking" if item["type"] == "reasoning" else "content": text}


class _Lines:
    """The lines of one answer.

    Args:
        model: as its client calls it.
        chats: whether it is a message, or the answer to a prompt.
    """

    def __init__(self, model: str, chats: bool) -> None:
        self.writer = ResponseWriter({"id": ""})
        self._model, self._chats, self._began = model, chats, time.perf_counter_ns()

    def piece(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """The field with what is said, of a line."""
        if self._chats:
            return {"message": {"role": "assistant", "content": "", **said}}
        thought = {"thinking": said["thinking"]} if "thinking" in said else {}
        return {"response": said.get("content", ""), **thought}

    def empty(self) -> dict[str, Any]:
        """The answer to nothing."""
        return self._line({}) | {"done": True, "done_reason": "load"}

    def last(self, response: Mapping[str, Any]) -> dict[str, Any]:
        """The last line, with why it ended, nanoseconds and tokens."""
        cut, usage = response["status"] == "incomplete", response["usage"]
        spent = time.perf_counter_ns() - self._began
        return self._line({}) | {
            "done": True, "done_reason": "length" if cut else "stop", "total_duration": spent, "load_duration": 0,
            "prompt_eval_count": usage["input_tokens"], "prompt_eval_duration": 0,
            "eval_count": usage["output_tokens"], "eval_duration": spent,
        }  # fmt: skip

    async def streamed(self, pieces: AsyncIterator[Delta | Response]) -> AsyncIterator[bytes]:
        """All lines; an error is one, too."""
        async with aclosing(self.writer.events(pieces)) as events:
            async for event in events:
                kind, line = event["type"], dict[str, Any]()
                if kind in ("response.output_text.delta", "response.refusal.delta"):
                    line = self._line({"content": event["delta"]})
                elif kind == "response.reasoning_text.delta":
                    line = self._line({"thinking": event["delta"]})
                elif kind == "response.output_item.done" and event["item"]["type"] == "function_call":
                    line = self._line(_said(event["item"]))
                elif kind == "response.failed":
                    line = {"error": event["response"]["error"]["message"]}
                elif self.writer.done and "response" in event:
                    line = self.last(event["response"])
                if line:
                    yield _encode(line) + b"\n"

    def _line(self, said: Mapping[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {"model": self._model, "created_at": now, **self.piece(said), "done": False}


async def tags(edge: Edge, call: Call) -> t.OllamaTags:
    """Names that `model` may have."""
    found = [name if ":" in name else name + _LATEST for name in models(edge, call.key)]
    about = {"parent_model": "", "format": "", "family": "ruvllm", "families": ["ruvllm"], "parameter_size": "",
             "quantization_level": ""}  # fmt: skip
    return t.OllamaTags([t.OllamaModel(name, name, sha256(name.encode()).hexdigest(), about) for name in found])


async def version(_: Edge, __: Call) -> t.OllamaVersion:
    """Of this server, not of Ollama: what is there, /docs lists."""
    return t.OllamaVersion(__version__)


async def embeddings(edge: Edge, call: Call) -> t.OllamaEmbeddings:
    """Unit vectors in the space that tasks and memories share."""
    body, began = call.body, time.perf_counter_ns()
    texts = [body.input] if isinstance(body.input, str) else body.input
    rows = await embed(edge, call.key, texts, body.model.removesuffix(_LATEST), body.dimensions)
    spent = time.perf_counter_ns() - began
    return t.OllamaEmbeddings(body.model, rows.tolist(), spent, sum(map(estimate_tokens, texts)))


_MEDIA = (LINES.decode(), "application/json")
_CHAT = {"model": "auto", "stream": False, "messages": [{"role": "user", "content": "When do we deploy?"}]}
_PROMPT = {"model": "auto", "stream": False, "prompt": "When do we deploy?"}

OPERATIONS = (
    Operation("POST", "/api/chat", chat, "Go on with a conversation", t.OllamaChat, answer=t.OllamaAnswer, tag="ollama",
              style=STYLE, passing=True, waits=True, most=8 << 20, example=_CHAT, media=_MEDIA),
    Operation("POST", "/api/generate", generate, "Answer a prompt", t.OllamaGenerate, answer=t.OllamaAnswer,
              tag="ollama", style=STYLE, passing=True, waits=True, most=8 << 20, example=_PROMPT, media=_MEDIA),
    Operation("POST", "/api/embed", embeddings, "Place texts in the space", t.OllamaEmbed, answer=t.OllamaEmbeddings,
              tag="ollama", style=STYLE, most=8 << 20, example={"model": "auto", "input": ["fix the login"]}),
    Operation("GET", "/api/tags", tags, "List the models", answer=t.OllamaTags, tag="ollama", style=STYLE),
    Operation("GET", "/api/version", version, "The version", answer=t.OllamaVersion, tag="ollama", style=STYLE),
)  # fmt: skip
