"""A hub of model files on this machine, laid out as Hugging Face's, that can break off, lie or be slow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class Hub:
    """What the server has, and what was asked of it.

    Attributes:
        repos: owner/repo -> file's path -> its bytes.
        breaks: how many bytes of the next answers are sent before the connection ends; used up one by one.
        lies: files whose bytes differ from what the hub says of them.
        ranged: whether a part of a file can be asked for.
        gated: repositories that want a token.
        asked: (method, path, Range) of each request.
    """

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    lies: set[str] = field(default_factory=set)
    ranged: bool = True
    gated: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""

    def add(self, repo: str, *paths: Path) -> None:
        self.repos.setdefault(repo, {}).update({path.name: path.read_bytes() for path in paths})

    @property
    def ranges(self) -> list[str]:
        return [asked for method, _, asked in self.asked if method == "GET" and asked]


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub until the end of the block."""
    one = Hub()

    class Handler(_Handler):
        told = one

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    told: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.told.asked.append((self.command, path, self.headers.get("Range", "")))
        if about := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            self._about(about[1])
        elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._file(*file.groups())
        else:
            self._refuse("RepoNotFound")

    def _about(self, repo: str) -> None:
        if repo in self.told.gated:
            self._refuse("GatedRepo", 403)
        elif repo not in self.told.repos:
            self._refuse("RepoNotFound")
        else:
            files = self.told.repos[repo].items()
            rows = [{"rfilename": name, "size": len(data), "lfs": _pointer(name, data)} for name, data in files]
            body = json.dumps({"id": repo, "sha": COMMIT, "siblings": rows}).encode()
            self._send(200, body, {"content-type": "application/json"})

    def _file(self, repo: str, name: str) -> None:
        data = self.told.repos.get(repo, {}).get(name)
        if data is None:
            self._refuse("EntryNotFound")
            return
        headers = {
            "x-repo-commit": COMMIT,
            "etag": f'"{_digest(data)}"',
            "x-linked-etag": f'"{_digest(data)}"',
            "x-linked-size": str(len(data)),
            "accept-ranges": "bytes",
        }
        sent = bytes(len(data)) if name in self.told.lies else data
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if found and self.told.ranged:
            start = int(found[1])
            headers["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._send(206, sent[start:], headers)
        else:
            self._send(200, sent, headers)

    def _refuse(self, code: str, status: int = 404) -> None:
        self._send(status, b"", {"x-error-code": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if "x-repo-commit" in headers and self.told.breaks:
            body, self.close_connection = body[: self.told.breaks.pop(0)], True
        self.wfile.write(body)


def _pointer(name: str, data: bytes) -> dict[str, object] | None:
    """Of a large file; small ones are in the repository itself."""
    large = name.endswith((".gguf", ".safetensors"))
    return {"sha256": _digest(data), "size": len(data), "pointerSize": 134} if large else None


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
