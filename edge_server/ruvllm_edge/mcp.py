"""The Model Context Protocol over HTTP: one path, the SDK's transport behind this server's own gate and keys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.types import Receive, Scope, Send

from ruvllm import RuvllmError
from ruvllm.cli.mcp import make_server
from ruvllm_edge.operations import Call, Operation, Served
from ruvllm_edge.problems import Problem

if TYPE_CHECKING:
    from ruvllm_edge.auth import Key
    from ruvllm_edge.edge import Edge


_IDLE = 30 * 60.0  # seconds without a request after which a session ends
_MOST = 1_000  # sessions of a space
_GRACE = 0.5  # seconds that requests have when the space closes


class McpSpace:
    """The protocol's server of one space, which begins with the first request and ends with the space.

    Args:
        edge: the space.

    Raises:
        Problem: 501, the protocol's SDK is not installed.
    """

    def __init__(self, edge: Edge) -> None:
        try:
            server = make_server(edge.llm, _check)
        except RuvllmError as error:
            raise Problem(501, error.message, field="mcp", fix=error.fix) from None
        from mcp.server.transport_security import TransportSecuritySettings

        # Host and Origin are the gate's to check.
        server.streamable_http_app(
            max_request_body_size=edge.settings.max_body,
            session_idle_timeout=_IDLE,
            max_sessions=_MOST,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        self._manager = server.session_manager
        self._begun, self._ending = asyncio.Event(), asyncio.Event()
        self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        """In a task of its own, which has to be the one that it ends in."""
        async with self._manager.run():
            self._begun.set()
            await self._ending.wait()
            await asyncio.sleep(_GRACE)

    async def close(self) -> None:
        """End all sessions and streams."""
        self._ending.set()
        await asyncio.gather(self._running, return_exceptions=True)

    async def serve(self, key: Key, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. A stream that is open for events ends with the space."""
        await self._begun.wait()
        from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
        from mcp.server.auth.provider import AccessToken

        # A session is its key's: to all others it is not there.
        scope["user"] = AuthenticatedUser(AccessToken(token=key.tag, client_id=key.tag or "anyone", scopes=[]))
        scope["ruvllm.key"] = key
        work = asyncio.ensure_future(self._manager.handle_request(scope, receive, send))
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait((work, ending), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await asyncio.wait((work,), timeout=_GRACE)
            if work.done():
                await work
        finally:
            ending.cancel()
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await work
        if work.cancelled() and scope["ruvllm.started"]:
            await send({"type": "http.response.body", "body": b""})


def _check(request: Any, role: str) -> str:
    """The agent of a request's key, "" for none. Raises RuvllmError: it may not do that."""
    key: Key = request.scope["ruvllm.key"]
    try:
        key.need(role)
    except Problem as problem:
        raise RuvllmError(problem.message, field=problem.field, fix=problem.fix) from None
    return key.agent


@dataclass(frozen=True, slots=True)
class _Request:
    """One request to a space's server."""

    space: McpSpace
    key: Key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.space.serve(self.key, scope, receive, send)


async def serve(edge: Edge, call: Call) -> Served:
    """What the protocol's SDK makes of it: a request by POST, a stream of events by GET, a session's end by DELETE."""
    if edge.mcp is None:
        edge.mcp = McpSpace(edge)
    return Served(_Request(edge.mcp, call.key))


OPERATIONS: Sequence[Operation] = tuple(
    Operation(method, "/mcp", serve, "The Model Context Protocol", tag="mcp") for method in ("GET", "POST", "DELETE")
)
