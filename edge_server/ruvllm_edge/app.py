"""The ASGI application: all operations, the page and the documents behind one gate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from ruvllm import RuvLLM
from ruvllm_edge import (
    anthropic,
    completions,
    decisions,
    embeddings,
    federated,
    mcp,
    native,
    ollama,
    openai,
    responses,
    tenants,
    tools,
    workbench,
)
from ruvllm_edge.dialects import style_of
from ruvllm_edge.endpoint import Endpoint, send_problem
from ruvllm_edge.gate import Gate
from ruvllm_edge.openapi import document_operations
from ruvllm_edge.operations import Operation
from ruvllm_edge.page import Page, find_guide, find_page
from ruvllm_edge.problems import Problem
from ruvllm_edge.server import Server
from ruvllm_edge.settings import Settings
from ruvllm_edge.workers import Worker

_PARTS = (
    workbench,
    native,
    tools,
    openai,
    responses,
    completions,
    embeddings,
    anthropic,
    decisions,
    ollama,
    federated,
    tenants,
)
OPERATIONS: tuple[Operation, ...] = tuple(operation for part in _PARTS for operation in part.OPERATIONS)


class _Methods:
    """The operations of one path."""

    def __init__(self, endpoints: dict[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._allowed = ", ".join(sorted(endpoints))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        endpoint = self._endpoints.get(method)
        if endpoint is None:
            fix = f"use {self._allowed}"
            problem = Problem(
                405, "this path has no such method", field="method", fix=fix, headers={"allow": self._allowed}
            )
            await send_problem(send, problem, style_of(scope["path"]), scope["ruvllm.id"])
            return
        await endpoint(scope, receive, send)


class _Paths:
    """Paths without parameters at once, all others by the router."""

    def __init__(self, routes: list[Route], router: Router) -> None:
        self._exact = {route.path: route.app for route in routes if "{" not in route.path}
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._exact.get(scope.get("path", ""), self._router)(scope, receive, send)


def all_operations() -> tuple[Operation, ...]:
    """All that a server serves beside the page: what the API document lists, MCP, and the document."""
    return (*OPERATIONS, *mcp.OPERATIONS, *document_operations(OPERATIONS))


def make_app(
    llm: RuvLLM, settings: Settings | None = None, *, keeps: bool = False, workers: Sequence[Worker] = ()
) -> Gate:
    """The application for a server.

    Args:
        llm: what answers; closed when the server ends.
        settings: limits and keys; those of the environment when None.
        keeps: whether added agents are there again after a restart.
        workers: decide tasks too, see `workers.fork_workers`.

    Raises:
        ConfigError: a setting that cannot be used.
        StoreError: added agents in the state file are damaged.
    """
    settings = settings or Settings.from_env()
    server = Server(llm, settings, keeps, workers)
    operations = all_operations()
    page = Page(find_page(settings.web), find_guide(settings.web))
    routes = _routes(server, operations)
    router = Router(routes, redirect_slashes=False, default=page, lifespan=server.lifespan)
    return Gate(_Paths(routes, router), server)


def _routes(server: Server, operations: Iterable[Operation]) -> list[Route]:
    paths: dict[str, dict[str, Endpoint]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = Endpoint(server, operation)
    return [Route(path, _Methods(endpoints)) for path, endpoints in paths.items()]
