"""The outermost layer: which hosts and origins are served, how many requests at once, and what became of each."""

from __future__ import annotations

import logging
import re
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ruvllm_edge.dialects import style_of
from ruvllm_edge.endpoint import send_problem, send_reply
from ruvllm_edge.logs import event
from ruvllm_edge.operations import Reply
from ruvllm_edge.problems import Problem, problem_of, too_many
from ruvllm_edge.server import Server

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_ALIVE = frozenset({"/health", "/v1/health"})  # answered however full it is
_PORTS = {"http": b":80", "https": b":443"}
_PREFLIGHT = {"access-control-allow-methods": "GET, POST, PUT, DELETE", "access-control-max-age": "600"}
_ALLOWED = "authorization, api-key, content-type, user-agent, x-api-key"
# Headers that the vendors' clients send.
_CLIENTS = re.compile(r"(?:x-stainless|openai|anthropic|mcp)-[a-z0-9-]{1,60}|last-event-id")
_EXPOSED = (b"access-control-expose-headers", b"x-request-id, request-id, retry-after, x-ruvllm-request, "
            b"x-ruvllm-agent, x-ruvllm-tier, x-ruvllm-confidence, x-ruvllm-action, x-ruvllm-backend, x-ruvllm-model, "
            b"x-ruvllm-ignored, x-ruvllm-cost, x-ruvllm-decided-by, x-ruvllm-why, x-ruvllm-expected-cost, "
            b"x-ruvllm-expected-ms, mcp-session-id")  # fmt: skip


class Gate:
    """Lets requests in.

    Args:
        app: what is behind it.
        server: its state.
    """

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app, self._server = app, server
        self._origins = frozenset(origin.encode("latin-1") for origin in server.settings.origins)
        # A name that somebody else made to point here (DNS rebinding) reaches nothing that needs no key.
        open_here = server.settings.loopback and not server.keys.needed
        self._hosts = _LOOPBACK | set(server.settings.hosts) if open_here else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        server, began = self._server, perf_counter()
        request_id = server.new_id()
        scope.update({"ruvllm.id": request_id, "ruvllm.status": 0, "ruvllm.started": False, "ruvllm.path": "other"})
        added = [(b"x-request-id", request_id.encode()), (b"request-id", request_id.encode())]  # OpenAI's, Anthropic's

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["ruvllm.status"], scope["ruvllm.started"] = message["status"], True
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        server.in_flight += 1
        try:
            refused = self._refusal(scope, added)
            if refused is not None:
                await send_problem(sending, refused, style_of(scope["path"]), request_id)
            elif scope["method"] == "OPTIONS":
                await send_reply(sending, Reply(b"", _preflight(scope)), 204)
            else:
                await self._app(scope, receive, sending)
        except Exception as error:
            if scope["ruvllm.started"]:
                scope["ruvllm.status"] = 599  # broken off; whoever reads the answer sees that it has no end
                event(logging.WARNING, "broken off", request=request_id, problem=str(error)[:300])
                raise
            event(logging.ERROR, "failed", request=request_id, problem=repr(error)[:300])
            await send_problem(sending, problem_of(error), style_of(scope["path"]), request_id)
        finally:
            server.in_flight -= 1
            self._note(scope, perf_counter() - began)

    async def end_streams(self) -> None:
        """Before the server waits for the answers that are being written: end those that nothing else would end."""
        for edge in self._server.spaces.opened:
            if edge.mcp is not None:
                await edge.mcp.close()

    def _refusal(self, scope: Scope, added: list[tuple[bytes, bytes]]) -> Problem | None:
        """Why a request is not let in; CORS headers are added for an origin that may read the answer."""
        host = origin = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        if self._hosts is not None and _name(host) not in self._hosts:
            fix = "use http://127.0.0.1, or set RUVLLM_HOSTS or an API key"
            return Problem(421, "this server is not known by that name", field="host", fix=fix)
        if origin:
            allowed = origin in self._origins
            if not allowed and origin.lower() != _origin(scope["scheme"], host):
                fix = f"the server's owner can set RUVLLM_ORIGINS={origin.decode('latin-1')[:200]}"
                return Problem(403, "pages of this origin may not call", field="origin", fix=fix)
            if allowed:
                added += [(b"access-control-allow-origin", origin), (b"vary", b"origin"), _EXPOSED]
        full = "ruvllm.full" in scope  # a connection beyond the most
        if full:
            added.append((b"connection", b"close"))
        if (full or self._server.in_flight > self._server.settings.max_requests) and scope["path"] not in _ALIVE:
            return too_many(f"too many {'connections' if full else 'requests at once'}", 1, status=503)
        return None

    def _note(self, scope: Scope, seconds: float) -> None:
        path, method, status = scope["ruvllm.path"], scope["method"], scope["ruvllm.status"]
        self._server.metrics.request(method if len(method) < 8 else "OTHER", path, status, seconds)
        milliseconds = round(seconds * 1000, 3)
        event(
            logging.INFO,
            "request",
            request=scope["ruvllm.id"],
            method=method,
            path=path,
            status=status,
            ms=milliseconds,
        )


def _preflight(scope: Scope) -> dict[str, str]:
    """What a page of a permitted origin may send."""
    requested = b",".join(value for name, value in scope["headers"] if name == b"access-control-request-headers")
    names = (name.strip() for name in requested.decode("latin-1").lower().split(","))
    allowed = ", ".join((_ALLOWED, *(name for name in names if _CLIENTS.fullmatch(name))))
    return _PREFLIGHT | {"access-control-allow-headers": allowed, "vary": "access-control-request-headers"}


def _name(host: bytes) -> str:
    """Without the port."""
    name = host.decode("latin-1")
    return name.rpartition(":")[0] if ":" in name and not name.endswith("]") else name


def _origin(scheme: str, host: bytes) -> bytes:
    """Of this server's own pages. A proxy's word for its scheme is not taken: anybody could send it."""
    return scheme.encode() + b"://" + host.lower().removesuffix(_PORTS.get(scheme, b""))
