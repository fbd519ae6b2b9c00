"""Where a page pushes to and pulls from: a ruvllm server, asked by the browser's own fetch."""

from __future__ import annotations

from pyodide.ffi import JsException, to_js
from pyodide.http import AbortError, pyfetch

from ruvllm.learning.federated.client import RemoteCoordinator
from ruvllm.learning.federated.wire import MOST_BYTES


class PageCoordinator(RemoteCoordinator):
    """The same as elsewhere, but that a page has no sockets. Arguments and errors are those of `RemoteCoordinator`."""

    async def send(self, path: str, body: bytes | None = None) -> bytes:
        """What the server answers to one request. Raises BackendError: it cannot be reached, or refuses."""
        headers = self.headers | {"Content-Type": "application/octet-stream"}
        more = {} if body is None else {"body": to_js(body)}
        method = "GET" if body is None else "POST"
        try:
            response = await pyfetch(self.endpoint.at(path), method=method, headers=headers, redirect="error", **more)
            data: bytes = await response.bytes()
        except (OSError, JsException, AbortError):
            fix = "check the address and the network, and that the server allows this page's origin (RUVLLM_ORIGINS)"
            raise self.failure("cannot be reached", fix=fix) from None
        if not response.ok:
            raise self.refusal(response.status, data[:65_536])
        if len(data) > MOST_BYTES:
            raise self.failure("answered something else", "bad_response")
        return data
