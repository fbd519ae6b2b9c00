"""One operation as an ASGI application: who calls, what they send, what they get. No layers in between."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from contextlib import suppress
from typing import Any, get_args
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from ruvllm.inference.backend import TRACE
from ruvllm.text.depth import deeper
from ruvllm.text.surrogates import well_formed_json
from ruvllm_edge.auth import NOBODY, Key
from ruvllm_edge.edge import Edge
from ruvllm_edge.limits import DisconnectedError
from ruvllm_edge.logs import event
from ruvllm_edge.operations import EVENTS, PASSED, PROBLEMS, Call, Operation, Reply, Served, Stream, Style
from ruvllm_edge.problems import CALLER, Caller, Problem, problem_of, too_many, unreadable
from ruvllm_edge.roles import role_of
from ruvllm_edge.server import Server
from ruvllm_edge.sse import send_events, while_there

_LEVELS = 100  # of JSON; what comes after reads it with Python's own stack
_KEYS = 4  # that are tried
_KEY_HEADERS = frozenset({b"x-api-key", b"api-key"})  # Anthropic's, Azure's
_encoder = msgspec.json.Encoder()
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_JSON = (b"content-type", b"application/json")


class Endpoint:
    """Serves one operation."""

    def __init__(self, server: Server, operation: Operation) -> None:
        self.server, self.operation, self._role = server, operation, role_of(operation.method, operation.plain_path)
        self._path, self._decode = operation.plain_path, None
        self._action = f"{operation.method} {self._path}"
        if operation.body not in (None, bytes):
            self._decode = msgspec.json.Decoder(Any if operation.passing else operation.body).decode
        self._most = operation.most or getattr(server.settings, operation.limit) or server.settings.max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.server.telemetry is None:
            await self._serve(scope, receive, send)
            return
        with self.server.telemetry.request(scope, self.operation.method, self._path):
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation, request_id, server = self.operation, scope["ruvllm.id"], self.server
        key, edge = NOBODY, None
        scope["ruvllm.path"] = self._path
        try:
            key = self._let_in(scope)
            if key.name:
                server.check_rate(key)
                key.need(self._role)
            edge = server.spaces.get(key.space) or await server.spaces.open(key.space)
            edge.uses += 1
            server.requests += 1
            if operation.waits:
                edge.check_budget(key)
            call = await self._call(scope, receive, request_id, key)
            if not operation.waits:
                outcome = await operation.handler(edge, call)
                if isinstance(outcome, Served):
                    await outcome.app(scope, receive, send)
                else:
                    await send_reply(send, outcome, operation.status)
                return
            async with server.answers.turn():
                await while_there(self._answer(edge, call, send), receive)
        except DisconnectedError:
            scope["ruvllm.status"] = 499
        except (Exception, asyncio.CancelledError) as error:
            if scope["ruvllm.started"]:  # the status is sent already: all that is left is to break off
                raise
            if isinstance(error, asyncio.CancelledError):
                with suppress(Exception):
                    await send_problem(
                        send, too_many("the server is ending", 5, status=503), operation.style, request_id
                    )
                raise
            await send_problem(send, self._problem(error, request_id), operation.style, request_id)
        finally:
            if edge is not None:
                edge.uses -= 1
            if server.keys.needed and not operation.public:
                server.note(key, edge, self._action, scope["ruvllm.status"], request_id)

    def _let_in(self, scope: Scope) -> Key:
        """Who calls. Raises Problem: 401."""
        server = self.server
        free = self.operation.public or not server.keys.needed
        key = server.anyone if free else server.caller(_presented(scope))
        CALLER.set(Caller(scope["ruvllm.id"], key.admin))
        return key

    async def _call(self, scope: Scope, receive: Receive, request_id: str, key: Key) -> Call:
        operation = self.operation
        body = raw = None
        if operation.body is not None:
            data = await self.server.bodies.read(scope, receive, self._most)
            body = self._read(scope, data)
            if operation.passing:
                body, raw = msgspec.convert(body, operation.body), body
            if self.server.settings.log_prompts and self._decode is not None:
                event(logging.INFO, "asked", request=request_id, body=msgspec.to_builtins(body))
        query = None
        if operation.query is not None:
            pairs = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
            query = msgspec.convert(pairs, operation.query, strict=False)
        passed = _passed(scope, PASSED if operation.passing else TRACE) if operation.waits else {}
        return Call(body, query, scope.get("path_params", {}), key, request_id, raw, passed)

    def _read(self, scope: Scope, data: bytes) -> Any:
        if self._decode is None:
            return data
        if not data and self.operation.optional:
            return None
        # A page of another origin may send forms and plain text without asking; JSON it must ask for. Ollama's own
        # examples declare nothing; what no page has sent may do so there.
        if not _is_json(scope) and (self.operation.tag != "ollama" or _header(scope, b"origin")):
            fix = "send `Content-Type: application/json`"
            raise Problem(415, "the body is not declared as JSON", field="content-type", fix=fix)
        if deeper(data, _LEVELS):
            fix = f"keep lists and objects within {_LEVELS} levels"
            raise Problem(400, "the body is nested too deeply", field="body", fix=fix)
        try:
            return self._decode(data)
        except msgspec.ValidationError as error:
            raise unreadable(error, sorted(_fields(self.operation.body))) from None
        except msgspec.DecodeError:
            if (whole := _whole(data)) is None:
                raise
            return self._decode(whole)

    async def _answer(self, edge: Edge, call: Call, send: Send) -> None:
        """What takes its time, within a limit."""
        async with asyncio.timeout(self.server.settings.timeout):
            outcome = await self.operation.handler(edge, call)
            if not isinstance(outcome, Stream):
                await send_reply(send, outcome, self.operation.status)
                return
            headers = [(b"content-type", outcome.media), (b"cache-control", b"no-store"), *_raw(outcome.headers)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send_events(outcome.events, send, comments=outcome.media == EVENTS)

    def _problem(self, error: BaseException, request_id: str) -> Problem:
        assert isinstance(error, Exception)
        problem = problem_of(error)
        if problem.status == 500:
            event(logging.ERROR, "failed", request=request_id, path=self._path, problem=type(error).__name__)
            logging.getLogger("ruvllm.edge").debug("traceback", exc_info=error)
        if kind := getattr(error, "kind", ""):
            self.server.metrics.failure(kind)
        return problem


def _whole(data: bytes) -> bytes | None:
    """The JSON with U+FFFD for each half of a character, which no decoder takes; None where that is not the trouble."""
    if not _HALF.search(data):
        return None
    try:
        return json.dumps(well_formed_json(json.loads(data))).encode()
    except (ValueError, RecursionError):
        return None


def _fields(kind: Any) -> set[str]:
    """Names of all fields in a type, and in those in it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        found = msgspec.structs.fields(kind)
        return {one.encode_name for one in found}.union(*(_fields(one.type) for one in found))
    return set().union(*map(_fields, get_args(kind)))


def _presented(scope: Scope) -> list[str]:
    """All keys that were sent: clients of two APIs send one in each header, of which one may be another server's."""
    found: list[bytes] = []
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            found.append(value[7:])
        elif name in _KEY_HEADERS:
            found.append(value)
    return [text for value in found[:_KEYS] if (text := value.decode("latin-1").strip())]


def _passed(scope: Scope, names: frozenset[str]) -> dict[str, str]:
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return {name: value for name, value in pairs if name in names and value.isascii() and value.isprintable()}


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _is_json(scope: Scope) -> bool:
    media = _header(scope, b"content-type").partition(b";")[0].strip().lower()
    return bool(media == b"application/json" or media.endswith(b"+json"))


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]


def _encoded(value: Any) -> bytes:
    """As JSON; a state file of an older version can hold halves of characters."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(well_formed_json(msgspec.to_builtins(value)))


async def send_reply(send: Send, outcome: Any, status: int) -> None:
    """Send a value as JSON, or a Reply as it says."""
    headers: list[tuple[bytes, bytes]]
    if isinstance(outcome, Reply):
        value, status = outcome.value, outcome.status or status
        data = value if isinstance(value, bytes) else _encoded(value)
        headers = [(b"content-type", outcome.media), *_raw(outcome.headers)]
    elif outcome is None:
        data, headers, status = b"", [], 204
    else:
        data, headers = _encoded(outcome), [_JSON]
    if status != 204:
        headers.append((b"content-length", b"%d" % len(data)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def send_problem(send: Send, problem: Problem, style: Style = PROBLEMS, request_id: str = "") -> None:
    """Send an error in the style of the API it belongs to."""
    status = style.statuses.get(problem.status, problem.status)
    reply = Reply(style.body(problem, request_id), problem.headers, status, style.media)
    await send_reply(send, reply, status)
