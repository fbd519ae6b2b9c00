"""The built folder behind build/serve.py, with a record of what was asked of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO

import serve

BLANK = '<!doctype html><html lang="en"><title>blank</title><body></body></html>'
REPORTS = "/violations"


@dataclass(frozen=True, slots=True)
class Sent:
    """One answer's body as it crossed the wire."""

    path: str
    bytes: int


@dataclass(slots=True)
class Site:
    """A folder under a URL; it may change. Browsers report here what breaks the policy, also from workers."""

    folder: Path
    url: str = ""
    pages: dict[str, str] = field(default_factory=lambda: {"/blank.html": BLANK, "/favicon.ico": ""})
    sent: list[Sent] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    down: bool = False
    gates: dict[str, Event] = field(default_factory=dict)

    @contextmanager
    def holding(self, *words: str) -> Iterator[None]:
        """Files whose paths hold one of the words wait until this ends."""
        gate = Event()
        self.gates |= dict.fromkeys(words, gate)
        try:
            yield
        finally:
            gate.set()

    def wait_for(self, path: str) -> None:
        """Return when nothing holds this path back."""
        for word, gate in list(self.gates.items()):
            if word in path:
                gate.wait()


class Recorder(serve.Handler):
    """Writes down what it sends, and adds pages that are in no folder."""

    def __init__(self, *args: object, site: Site, **kwargs: object) -> None:
        self.site = site
        super().__init__(*args, directory=str(site.folder), **kwargs)  # type: ignore[arg-type]

    def handle_one_request(self) -> None:
        """A server that is down says nothing, not even on a connection from before."""
        super().handle_one_request()
        self.close_connection |= self.site.down

    def parse_request(self) -> bool:
        """What comes after the end is not answered."""
        return super().parse_request() and not self.site.down

    def send_head(self) -> BytesIO | BinaryIO | None:
        """A page of the site's own, else a file."""
        self.site.wait_for(self.path)
        self.directory = str(self.site.folder)
        page = self.site.pages.get(self.path.partition("?")[0])
        if page is None:
            return super().send_head()
        data = page.encode()
        self.send_response(HTTPStatus.OK)
        for name, value in self.extra.items():
            self.send_header(name, value)
        self.send_header("Content-Type", self.guess_type(self.path))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return BytesIO(data)

    def copyfile(self, source: BytesIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
        """Send, then count."""
        super().copyfile(source, outputfile)
        self.site.sent.append(Sent(self.path, source.tell()))

    def do_POST(self) -> None:  # noqa: N802 (so http.server calls it)
        """A report of a violation."""
        report = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.site.violations.append(report.decode("utf-8", "replace"))
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()


@contextmanager
def hosted(
    folder: Path, port: int = 0, *, isolated: bool = False, any_origin: bool = False, policy: str | None = None
) -> Iterator[Site]:
    """A running server; `policy` takes the place of the strict one ("" for none)."""
    server = serve.serve(folder, port, isolated=isolated, any_origin=any_origin)
    site = Site(folder, f"http://127.0.0.1:{server.server_address[1]}/")
    extra = dict(server.RequestHandlerClass.keywords["extra"])
    strict = extra.pop("Content-Security-Policy")
    if policy := strict if policy is None else policy:
        extra["Content-Security-Policy"] = f"{policy}; report-uri {REPORTS}"
    server.RequestHandlerClass = partial(Recorder, extra=extra, quiet=True, site=site)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.down = True
        server.shutdown()
        server.server_close()
        thread.join()


def build_called(mark: str, dist: Path, out: Path) -> Path:
    """The same build under another mark, which three files of lasting names carry: page, library and index."""
    shutil.copytree(dist, out, copy_function=os.link)
    index = json.loads((dist / "ruvllm.json").read_text("utf-8"))
    page, library, worker = (out / name for name in ("index.html", "ruvllm.js", "sw.js"))
    build = sha256(mark.encode()).hexdigest()[:16]
    _rewrite(page, page.read_text("utf-8").replace("<title>", f'<meta name="mark" content="{mark}" /><title>'))
    _rewrite(library, f'{library.read_text("utf-8")}\nexport const MARK = "{mark}";\n')
    _rewrite(worker, worker.read_text("utf-8").replace(index["build"], build))
    for file in (page, library):
        index["files"][file.name] |= {"bytes": file.stat().st_size, "sha256": sha256(file.read_bytes()).hexdigest()}
    _rewrite(out / "ruvllm.json", json.dumps(index | {"build": build, "version": mark}))
    return out


def _rewrite(file: Path, text: str) -> None:
    """A file of its own instead of the link, and no compressed form."""
    for end in ("", ".br", ".gz"):
        file.with_name(f"{file.name}{end}").unlink(missing_ok=True)
    file.write_text(text, "utf-8")
