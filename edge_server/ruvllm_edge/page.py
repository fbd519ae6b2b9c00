"""The playground at `/` and the guide at `/guide`: built folders of files, precompressed, cached for long where
their names hold a hash.
"""

from __future__ import annotations

import re
from mimetypes import guess_type
from os import stat_result
from pathlib import Path
from urllib.parse import unquote

from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from ruvllm_edge.dialects import style_of
from ruvllm_edge.endpoint import send_problem
from ruvllm_edge.problems import Problem

HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "frame-ancestors 'none'",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "vary": "accept-encoding",
    "x-content-type-options": "nosniff",
    "x-ruvllm-api": "v1",  # the page can ask who serves it: any static host can
}
GUIDE = "/guide"
_HASHED = re.compile(r"[-/][0-9a-f]{10}[./]|-[\w-]{8}\.(?:js|css)$")
_BUILT = Path(__file__).parents[2] / "web" / "dist"
_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".whl": "application/zip",
}
_ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
_MISSING = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ruvllm</title>
<h1>The server is running; its page is not built.</h1>
<p>Run <code>make web</code> in the repository, or name a built folder with <code>--web</code>.
The API works as it is: see <a href="/docs">/docs</a>.</p></html>"""


def find_page(given: Path | None) -> Path | None:
    """The folder that was given, else web/dist of the repository this package lies in."""
    folder = given or _BUILT
    return folder.resolve() if (folder / "index.html").is_file() else None


def find_guide(given: Path | None) -> Path | None:
    """The folder `guide` in the page's folder, or beside it, where `make docs` puts it."""
    page = given or _BUILT
    folders = (page / "guide", page.parent / "guide")
    return next((folder.resolve() for folder in folders if (folder / "index.html").is_file()), None)


class Page:
    """GET and HEAD of a folder's files.

    Args:
        folder: None says that the page is not built.
        guide: None answers 404 below /guide.
    """

    def __init__(self, folder: Path | None, guide: Path | None = None) -> None:
        self._folder, self._guide = folder, guide

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            problem = Problem(404, "there is no such endpoint", field="path", fix="see /docs")
            await send_problem(send, problem, style_of(scope["path"]), scope["ruvllm.id"])
            return
        path = scope["path"]
        if self._folder is None and path == "/":
            await HTMLResponse(_MISSING, 404)(scope, receive, send)
            return
        file = self._file(path)
        if file is None:
            fix = "build the guide: make docs" if path.startswith(GUIDE) and self._guide is None else "see /docs"
            problem = Problem(404, "there is no such page", field="path", fix=fix)
            await send_problem(send, problem, style_of(path), scope["ruvllm.id"])
            return
        guide = path.startswith(GUIDE) and self._guide is not None
        scope["ruvllm.path"] = GUIDE if guide else "/"
        if guide and file.name == "index.html" and not path.endswith(("/", file.name)):
            await RedirectResponse(f"{path}/", headers=HEADERS)(scope, receive, send)  # its links are relative
            return
        await self._answer(scope, file)(scope, receive, send)

    def _file(self, path: str) -> Path | None:
        """The file of a path, if it is one inside the folder."""
        folder = self._folder
        if self._guide is not None and (path == GUIDE or path.startswith(f"{GUIDE}/")):
            folder, path = self._guide, path.removeprefix(GUIDE)
        if folder is None or "\0" in path:
            return None
        try:
            file = (folder / unquote(path).lstrip("/")).resolve()
            if file.is_dir():
                file /= "index.html"
            return file if file.is_relative_to(folder) and file.is_file() else None
        except (OSError, ValueError):
            return None

    def _answer(self, scope: Scope, file: Path) -> Response:
        """It in the smallest form that the client takes."""
        sent = dict(scope["headers"])
        taken = {
            part.split(b";")[0].strip().decode("latin-1") for part in sent.get(b"accept-encoding", b"").split(b",")
        }
        headers, form = dict(HEADERS), file
        if scope["ruvllm.path"] == GUIDE:
            headers["content-security-policy"] += "; img-src 'self' data:"  # its theme's icons
        elif self._guide is not None:
            headers["server-timing"] = "guide"  # the page links to it: read without another request
        for name, end in _ENCODINGS:
            if name in taken and (other := file.with_name(file.name + end)).is_file():
                headers["content-encoding"], form = name, other
                break
        about = form.stat()
        headers["etag"] = tag = _tag(about)
        lasting = _HASHED.search(scope["path"])
        headers["cache-control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
        if sent.get(b"if-none-match", b"").decode("latin-1") == tag:
            return Response(status_code=304, headers=headers)
        kind = _TYPES.get(file.suffix) or guess_type(file.name)[0] or "application/octet-stream"
        return FileResponse(form, headers=headers, media_type=kind, stat_result=about)


def _tag(about: stat_result) -> str:
    return f'"{about.st_mtime_ns:x}-{about.st_size:x}"'
