"""Serves a built folder as a static host does: precompressed files, lasting caches, one strict policy.

python build/serve.py [FOLDER] [--port PORT] [--open] [--isolated] [--any-origin]
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
import webbrowser
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import BinaryIO

PORT = 8000  # the same each time, where it is free: what a page keeps belongs to its address
POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'"
_HASHED = re.compile(r"[-/][0-9a-f]{10}[./]|-[\w-]{8}\.(?:js|css)$")
_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".whl": "application/zip",
    ".npz": "application/octet-stream",
    ".onnx": "application/octet-stream",
}
_ENCODINGS = (("br", ".br"), ("gzip", ".gz"))


class Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of a folder's files."""

    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | _TYPES

    def __init__(self, *args: object, extra: dict[str, str], quiet: bool, **kwargs: object) -> None:
        self.extra, self.quiet = extra, quiet
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def send_head(self) -> BytesIO | BinaryIO | None:
        """The file, in the smallest form that the client takes."""
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            path /= "index.html"
        if not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        start = self._start(path.stat().st_size)
        accepted = "" if start else self.headers.get("Accept-Encoding", "")
        taken = {part.split(";")[0].strip() for part in accepted.split(",")}
        encoding, file = next(
            ((name, form) for name, end in _ENCODINGS if name in taken and (form := Path(f"{path}{end}")).is_file()),
            ("", path),
        )
        data = file.read_bytes()
        tag = f'"{file.stat().st_mtime_ns:x}-{len(data):x}"'
        unchanged = self.headers.get("If-None-Match") == tag
        usual = HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK
        self.send_response(HTTPStatus.NOT_MODIFIED if unchanged else usual)
        self.send_header("ETag", tag)
        self.send_header("Vary", "Accept-Encoding")
        lasting = _HASHED.search(self.path.partition("?")[0])
        self.send_header("Cache-Control", "public, max-age=31536000, immutable" if lasting else "no-cache")
        for name, value in self.extra.items():
            self.send_header(name, value)
        if not unchanged:
            self.send_header("Content-Type", self.guess_type(str(path)))
            if encoding:
                self.send_header("Content-Encoding", encoding)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                data = data[start:]
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return None if unchanged else BytesIO(data)

    def _start(self, size: int) -> int:
        """Where a download goes on that was interrupted; any other part of a file is sent whole, as is allowed."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        return start if start < size else 0

    def log_message(self, format: str, *args: object) -> None:
        """Only where it was asked for."""
        if not self.quiet:
            super().log_message(format, *args)


class Server(ThreadingHTTPServer):
    """Says nothing when a page goes away in the middle of a file."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Only what is not the client's own doing."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def serve(
    folder: Path, port: int = 0, *, isolated: bool = False, any_origin: bool = False, quiet: bool = True
) -> Server:
    """A server on 127.0.0.1 that has not begun; port 0 takes a free one.

    Args:
        isolated: send the headers that give a page shared memory, and so threads.
        any_origin: let pages of other origins load the files.
    """
    extra = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    if isolated:
        extra |= {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
    if any_origin:
        extra |= {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
    return Server(("127.0.0.1", port), partial(Handler, directory=str(folder), extra=extra, quiet=quiet))


def serve_at(port: int | None, folder: Path, **options: bool) -> Server:
    """`serve` at this port; with none, at the usual one or, where that is taken, at a free one."""
    try:
        return serve(folder, PORT if port is None else port, **options)
    except OSError as error:
        if port is not None:
            raise SystemExit(
                f"port {port}: {error.strerror}. Give another one, or none: then a free one is found"
            ) from None
        if error.errno != errno.EADDRINUSE:
            raise
        print(f"Port {PORT} is in use, so this is another address: what the page kept there is not here.")
        return serve(folder, 0, **options)


def show(url: str) -> None:
    """Open the address in a browser that has a window, if there is one; the printed address is for everyone else."""
    windows = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if windows:
        Thread(target=_open, args=(url,), daemon=True).start()  # some browsers hold on to whoever starts them


def _open(url: str) -> None:
    try:
        webbrowser.open(url)
    except Exception as error:
        print(f"No browser could be opened ({error}).")


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent.parent / "web" / "dist")
    parser.add_argument("--port", type=int, help=f"{PORT}, or a free one where that is taken")
    parser.add_argument("--open", action="store_true", help="open it in a browser, and print no requests")
    parser.add_argument("--isolated", action="store_true", help="send COOP and COEP: onnxruntime may use threads")
    parser.add_argument("--any-origin", action="store_true", help="let other origins embed it")
    options = parser.parse_args()
    if not (options.folder / "index.html").is_file():
        raise SystemExit(f"{options.folder} holds no page: run `make web`")
    isolated, any_origin = options.isolated, options.any_origin
    server = serve_at(options.port, options.folder, isolated=isolated, any_origin=any_origin, quiet=options.open)
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    print(f"{url}  (ends with Ctrl-C)", flush=True)
    if options.open:
        show(url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
