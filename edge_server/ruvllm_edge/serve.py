"""`ruvllm serve`: the server on this machine."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import click
import uvicorn

from ruvllm import ConfigError, RuvLLM, RuvllmError
from ruvllm.cli.answers import ready_models, with_local_model
from ruvllm.cli.options import agents_option, default_state, encoder_option, state_of
from ruvllm.cli.ready import ready_encoder, warm_agents
from ruvllm.config import Config
from ruvllm.memory.reembed import refuse_strange
from ruvllm_edge.app import make_app
from ruvllm_edge.connections import bounded_protocol
from ruvllm_edge.gate import Gate
from ruvllm_edge.logs import start_logging
from ruvllm_edge.page import find_page
from ruvllm_edge.settings import Settings
from ruvllm_edge.shared.log import check_address
from ruvllm_edge.telemetry import export_telemetry
from ruvllm_edge.workers import Worker, fork_workers

_BACKLOG = 2_048


@click.command()
@click.option("--host", help="Address to listen on; 127.0.0.1 when left out.  [env: RUVLLM_HOST]")
@click.option("--port", type=int, help="3000 when left out; 0 takes a free one.  [env: RUVLLM_PORT]")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="A TOML file: backends, memory, …")
@click.option(
    "--model",
    metavar="NAME|PATH",
    help="A model to answer with on this machine: a converted folder, a GGUF file, owner/repo[:file] or a known name.",
)
@agents_option
@encoder_option
@click.option(
    "--web", type=click.Path(file_okay=False, path_type=Path), help="The built playground.  [env: RUVLLM_WEB]"
)
@click.option(
    "--keys-file", type=click.Path(dir_okay=False, path_type=Path), help="Hashed API keys.  [env: RUVLLM_KEYS_FILE]"
)
@click.option(
    "--shared", metavar="URL", help="Share what is held with other servers: postgresql://…  [env: RUVLLM_SHARED]"
)
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Processes that decide tasks, one learns.  [env: RUVLLM_WORKERS]"
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--open", "show", is_flag=True, help="Open the page in a browser, where there is a window.")
@click.option("--any-port", is_flag=True, help="Take a free port where the usual one is taken.")
@click.option(
    "--force", is_flag=True, help="Listen beyond this machine without an API key: anybody may use and teach it."
)
@click.pass_context
def serve(
    ctx: click.Context,
    /,
    config: Path | None,
    agents: Path | None,
    encoder: str | None,
    model: str | None,
    show: bool,
    any_port: bool,
    force: bool,
    **given: Any,
) -> None:
    """Answer over HTTP: ruvllm's own API, OpenAI's and Anthropic's, and the playground at /.

    Every setting can be an environment variable too; a config file and RUVLLM_INFERENCE_SMALL_URL and the like name
    the backends that write answers. Without one, answers are drawn from memory.

    \b
    Examples:
      ruvllm serve
      ruvllm serve --config ruvllm.toml --port 8080
      ruvllm serve --workers 4
      ruvllm serve --model ./smollm2-135m-instruct-q8_0.gguf
      RUVLLM_INFERENCE_SMALL_KIND=openai RUVLLM_INFERENCE_SMALL_URL=http://127.0.0.1:8080/v1 \\
        RUVLLM_INFERENCE_SMALL_MODEL=qwen ruvllm serve
      ruvllm keys add laptop --file keys.txt; ruvllm serve --host 0.0.0.0 --keys-file keys.txt
    """  # fmt: skip
    settings = Settings.from_env(**given)
    if not (settings.loopback or settings.has_keys or force):
        fix = "make a key with `ruvllm keys add` and give --keys-file, or --force it"
        raise ConfigError(f"{settings.host} can be reached from elsewhere, and no key is needed", field="host", fix=fix)
    options = Config.from_env(base=Config.from_toml(config) if config else None)
    if model:
        options = with_local_model(options, model)
    ready_models(options)
    start_logging(settings.log_level)
    if settings.shared:
        check_address(settings.shared)
    if settings.otel:
        export_telemetry()
    _allow_files()
    state = state_of(ctx, None) or options.state or default_state()
    chosen = agents or options.agents

    def make() -> RuvLLM:
        return RuvLLM(chosen, encoder=encoder or options.encoder, state=state, config=options)

    if settings.workers > 1 and not hasattr(os, "fork"):
        raise ConfigError("several processes are not possible on this system", field="workers", fix="use 1")
    ended = list[str]()

    def failed(problem: str) -> None:
        ended.append(problem)
        server.should_exit = True

    workers = fork_workers(settings.workers - 1, make, chosen is None, failed)
    sock = bound(settings.host, settings.port, any_port)
    ready_encoder(encoder or options.encoder)
    llm = make()
    warm_agents(llm)
    refuse_strange(llm.memory)
    llm.backends  # noqa: B018 - one that cannot be made shows now, not with the first question
    server = make_server(llm, settings, keeps=chosen is None, workers=workers)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    page = "" if find_page(settings.web) else "  (the API; the page is not built: make web)"
    url = f"http://{host}:{sock.getsockname()[1]}/"
    click.echo(f"{url}{page}  (ends with Ctrl-C)")
    if show:
        _open(url)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(server.serve([sock]))
    except KeyboardInterrupt:  # uvicorn has ended in order, and passes it on
        pass
    if ended:
        fix = "see its log, give it more memory, or --workers 1"
        raise RuvllmError(f"a worker ended again and again: {ended[0]}", field="workers", fix=fix)


def make_server(
    llm: RuvLLM, settings: Settings, *, keeps: bool = False, workers: Sequence[Worker] = ()
) -> uvicorn.Server:
    """A server that has not begun; `serve(sockets)` runs it."""
    app = make_app(llm, settings, keeps=keeps, workers=workers)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        http=bounded_protocol(settings),
        h11_max_incomplete_event_size=settings.max_headers,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(settings.drain) or None,
        limit_concurrency=None,
        backlog=_BACKLOG,
        ws="none",
    )
    return _Server(config, app)


class _Server(uvicorn.Server):
    """One that ends open streams of events before it waits for what is being answered."""

    def __init__(self, config: uvicorn.Config, app: Gate) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in order."""
        await self._app.end_streams()
        await super().shutdown(sockets)


def bound(host: str, port: int, any_port: bool = False) -> socket.socket:
    """A listening address. Raises ConfigError: it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(_BACKLOG)  # who connects from now on is answered when it begins
    except OSError as error:
        if any_port and error.errno == errno.EADDRINUSE and port:
            sock.close()
            click.echo(f"Port {port} is in use, so this is another address.")
            return bound(host, 0)
        sock.close()
        fix = "give another --port, or 0 for a free one"
        raise ConfigError(f"{host}:{port} cannot be used: {error.strerror}", field="port", fix=fix) from None
    return sock


def _open(url: str) -> None:
    """In a browser that has a window; the printed address is for everyone else."""
    windows = sys.platform in ("win32", "darwin") or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY"))
    if windows:
        Thread(target=webbrowser.open, args=(url,), daemon=True).start()  # some browsers hold on to whoever starts them


def _allow_files() -> None:
    """As many open files as the system lets this process have: each connection is one."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def loop_factory() -> Any:
    try:
        import uvloop
    except ModuleNotFoundError:  # Windows and PyPy have none
        return None
    return uvloop.new_event_loop
