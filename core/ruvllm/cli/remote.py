"""Agents and tools that others have: documents at a URL, MCP servers over HTTP or, when asked, as a process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ruvllm import InputError, RuvllmError, __version__
from ruvllm.agents.folders import Found
from ruvllm.agents.readers import parse_agents
from ruvllm.disk_cache import DiskCache
from ruvllm.errors import AgentFileError

_SECONDS = 20.0  # for one answer
_MOST_BYTES = 2_000_000  # of one answer
_MOST_PAGES, _MOST_TOOLS = 100, 10_000
_FRESH = 3_600.0  # seconds for which what a server said is used again
_PROTOCOL = "2025-06-18"
_HELLO = {"protocolVersion": _PROTOCOL, "capabilities": {}, "clientInfo": {"name": "ruvllm", "version": __version__}}

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]  # a method of JSON-RPC, its parameters


def is_url(text: str) -> bool:
    """Whether a source is fetched."""
    return text.lower().startswith(("http://", "https://"))


def servers_of(path: Path, start: bool, private: bool) -> list[RemoteSource]:
    """The MCP servers that a client's configuration names (`mcpServers`, `servers`); none where it is no such file.

    Args:
        start: whether processes may be started; without, only servers that have a URL are asked.
    """
    with suppress(OSError, ValueError, RecursionError):
        if path.is_file() and path.suffix.lower() == ".json" and path.stat().st_size <= _MOST_BYTES:
            data = json.loads(path.read_bytes())
            held = data.get("mcpServers", data.get("servers")) if isinstance(data, dict) else None
            if isinstance(held, dict):
                rows = [(str(name), row) for name, row in held.items() if isinstance(row, dict)]
                return [RemoteSource(str(path), name, row, start=start, private=private) for name, row in rows]
    return []


class RemoteSource:
    """One document or MCP server.

    Args:
        path: its URL, or the configuration that names it.
        server: its name there, "" for a URL from the command line.
        row: what the configuration says of it: `url`, or `command`, `args` and `env`.
        start: whether its command may be started.
        private: whether its URL may lead to this machine or its network.
    """

    def __init__(
        self, path: str, server: str = "", row: Mapping[str, Any] | None = None, *, start: bool = False,
        private: bool = False,
    ) -> None:  # fmt: skip
        self.path, self._server, self._row = path, server, row or {"url": path}
        self._start, self._private = start, private

    def read(self, cache: DiskCache | None = None) -> Found:
        """Its agents, from the cache where it was asked within the hour.

        Raises:
            RuvllmError: it gives none, or may not be asked.
        """
        name = f"remote-{sha256(json.dumps([self.path, self._row], sort_keys=True).encode()).hexdigest()}"
        stored = cache.get(name) if cache is not None else None
        data: dict[str, Any] = json.loads(stored) if stored else {"at": 0.0}
        if not 0 <= time.time() - data["at"] < _FRESH:
            data = {"at": time.time(), "file": asyncio.run(self._ask())}
            if cache is not None:
                cache.put(name, json.dumps(data).encode())
        text, ending = data["file"]
        where = f"{self.path} {self._server}".strip()
        agents, problems = parse_agents(text, f"{where}{ending}")
        before = f"mcp__{self._server}__" if self._server else ""
        return [replace(one, name=before + one.name, source=where) for one in agents], problems

    async def _ask(self) -> tuple[str, str]:
        """What it says, as a file's text and ending."""
        url, command = self._row.get("url"), self._row.get("command")
        if isinstance(url, str) and is_url(url):
            return await self._over_http(url)
        if not isinstance(command, str):
            fix = "give the server a `url`, or a `command` and `args`"
            raise AgentFileError(f"{self.path}: {self._server!r} has no command", field=self._server, fix=fix)
        if not self._start:
            fix = "add --start to start it, if you trust that configuration"
            message = f"{self.path}: the server {self._server!r} is a process, which is not started"
            raise AgentFileError(message, field=self._server, fix=fix)
        args = [str(one) for one in self._row.get("args") or ()]
        env = {str(key): str(value) for key, value in (self._row.get("env") or {}).items()}
        async with _process([command, *args], env) as ask:
            return await _listed(ask)

    async def _over_http(self, url: str) -> tuple[str, str]:
        """A document, else the tools of an MCP server."""
        try:
            import httpx
        except ModuleNotFoundError:
            fix = "pip install 'ruvllm[http]'"
            raise RuvllmError("asking other machines needs httpx", field="from", fix=fix) from None
        headers = {str(key): str(value) for key, value in (self._row.get("headers") or {}).items()}
        async with httpx.AsyncClient(timeout=_SECONDS, follow_redirects=False, trust_env=False) as client:
            caller = _Caller(client, url, headers, self._private)
            try:
                if not self._server:
                    status, media, text = await caller.fetch("GET", {"accept": "application/json, application/yaml"})
                    if status == 200 and "event-stream" not in media:
                        return text, ".yaml" if "yaml" in media or url.endswith((".yaml", ".yml")) else ".json"
                return await _listed(caller.ask)
            except httpx.HTTPError as error:
                fix = "check the address, and whether the server runs"
                why = f"{url} cannot be reached ({type(error).__name__})"
                raise RuvllmError(why, field="from", fix=fix) from None


class _Caller:
    """Requests to one URL, whose address is looked up and checked once, and then used."""

    def __init__(self, client: Any, url: str, headers: Mapping[str, str], private: bool) -> None:
        self._client, self._headers, self._id = client, dict(headers), 0
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError):
            raise InputError(f"{url} cannot be resolved", field="from", fix="check the address") from None
        addresses = [str(one[4][0]).partition("%")[0] for one in found]
        if not private and not all(ip_address(one).is_global for one in addresses):
            fix = "add --private if you mean this machine or its network"
            raise InputError(f"{url} leads to a private address", field="from", fix=fix)
        address = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        self._url = urlunsplit((parts.scheme, f"{address}:{port}", parts.path, parts.query, ""))
        self._headers["host"] = parts.netloc.rpartition("@")[2]
        self._extensions, self._name = {"sni_hostname": host}, url

    async def fetch(self, method: str, headers: Mapping[str, str], body: Any = None) -> tuple[int, str, str]:
        """(status, media type, text). Raises RuvllmError: it leads elsewhere, or is too long."""
        options = {"headers": {**self._headers, **headers}, "extensions": self._extensions, "json": body}
        async with self._client.stream(method, self._url, **options) as response:
            if response.is_redirect:
                fix = "give the address that it leads to"
                raise RuvllmError(f"{self._name} leads elsewhere", field="from", fix=fix)
            if session := response.headers.get("mcp-session-id"):
                self._headers["mcp-session-id"] = session
            data = bytearray()
            async for part in response.aiter_bytes():
                data += part
                if len(data) > _MOST_BYTES:
                    fix = f"give a document of at most {_MOST_BYTES} bytes"
                    raise RuvllmError(f"{self._name} says too much", field="from", fix=fix)
            return response.status_code, response.headers.get("content-type", ""), data.decode("utf-8", "replace")

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """One call of the protocol; notifications have no answer."""
        silent = method.startswith("notifications/")
        self._id += 1
        body = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if silent else {"id": self._id})
        accept = {"accept": "application/json, text/event-stream", "mcp-protocol-version": _PROTOCOL}
        status, media, text = await self.fetch("POST", accept, body)
        if silent:
            return None
        if status >= 400:
            fix = "give the URL of a document or of an MCP server"
            raise RuvllmError(f"{self._name} answers with {status}", field="from", fix=fix)
        lines = text.splitlines()
        messages = [line[5:] for line in lines if line.startswith("data:")] if "event-stream" in media else [text]
        return _result(messages, self._id, self._name)


@asynccontextmanager
async def _process(command: list[str], env: Mapping[str, str]) -> AsyncIterator[Ask]:
    """An MCP server as a process over standard input and output, ended afterwards."""
    try:
        started = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, **env}, limit=_MOST_BYTES,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        fix = "check its command and its arguments"
        raise RuvllmError(f"{command[0]!r} cannot be started ({error})"[:300], field="from", fix=fix) from None
    assert started.stdin is not None
    assert started.stdout is not None
    written, read, number = started.stdin, started.stdout, 0

    async def ask(method: str, params: Mapping[str, Any]) -> Any:
        nonlocal number
        silent = method.startswith("notifications/")
        number += not silent
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if silent else {"id": number})
        try:
            written.write(json.dumps(message).encode() + b"\n")
            await written.drain()
            while not silent:
                line = await asyncio.wait_for(read.readline(), _SECONDS)
                if not line:
                    raise OSError("it has ended")
                with suppress(ValueError, AttributeError):
                    if json.loads(line).get("id") == number:
                        return _result([line.decode("utf-8", "replace")], number, command[0])
        except (OSError, ValueError, TimeoutError) as error:
            fix = "see what it says when it is started by hand"
            raise RuvllmError(f"{command[0]!r} gave no answer ({error})"[:300], field="from", fix=fix) from None

    try:
        yield ask
    finally:
        written.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(started.wait(), 2)
        if started.returncode is None:
            started.kill()
            await started.wait()


async def _listed(ask: Ask) -> tuple[str, str]:
    """All tools of a server, page by page, as a file of tools."""
    await ask("initialize", _HELLO)
    await ask("notifications/initialized", {})
    tools, params = list[Any](), dict[str, Any]()
    for _ in range(_MOST_PAGES):
        page = await ask("tools/list", params)
        tools += [one for one in page.get("tools") or () if isinstance(one, dict)]
        cursor = page.get("nextCursor")
        if not isinstance(cursor, str) or len(tools) >= _MOST_TOOLS:
            break
        params = {"cursor": cursor}
    return json.dumps({"tools": tools[:_MOST_TOOLS]}), ".json"


def _result(messages: list[str], id: int, name: str) -> dict[str, Any]:
    """The result in an answer's messages. Raises RuvllmError: there is none."""
    for message in messages:
        with suppress(ValueError, RecursionError):
            found = json.loads(message)
            if isinstance(found, dict) and found.get("id") == id:
                if isinstance(result := found.get("result"), dict):
                    return result
                why = str((found.get("error") or {}).get("message", "no result"))[:200]
                raise RuvllmError(f"{name}: {why}", field="from", fix="give the URL or command of an MCP server")
    fix = "give the URL of a document, or of an MCP server"
    raise RuvllmError(f"{name} gives no answer of the protocol", field="from", fix=fix)
