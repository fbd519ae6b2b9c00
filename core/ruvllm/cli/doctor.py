"""`ruvllm doctor`: does everything that an answer needs work here, and if not, what helps?"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click

import ruvllm
from ruvllm import RuvLLM, RuvllmError
from ruvllm.artifacts.host import NativeHost
from ruvllm.cli.console import print_json, show_table, waiting
from ruvllm.cli.options import default_state, json_option, state_of
from ruvllm.config import Config
from ruvllm.encoders.families import RUVLTRA

_ROOM = 100_000_000  # bytes that are to be free where the state file is
_PATIENCE = 10.0  # seconds for a backend to say that it is there


@dataclass(frozen=True, slots=True)
class _Check:
    """One thing that was looked at.

    Attributes:
        state: "ok", "missing" (it works without) or "broken".
    """

    name: str
    state: str
    finding: str
    fix: str = ""


@click.command()
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="A TOML file, as for `ruvllm serve`.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, config: Path | None, as_json: bool) -> None:
    """Look at artifacts, encoder, state file, disk, console, server, page and backends; exit with 1 if one is broken.

    \b
    Examples:
      ruvllm doctor
      ruvllm doctor --config ruvllm.toml --json
    """
    with waiting("looking"):
        checks = list(_checks(ctx, config))
    if as_json:
        print_json([{"name": c.name, "state": c.state, "told": c.finding, "fix": c.fix} for c in checks])
    else:
        rows = [(check.name, check.state, check.finding, check.fix) for check in checks]
        show_table("ruvllm doctor", ("What", "", "Found", "What helps"), rows)
    ctx.exit(int(any(check.state == "broken" for check in checks)))


def _checks(ctx: click.Context, config: Path | None) -> Iterator[_Check]:
    yield _artifacts()
    yield _onnxruntime()
    yield _routing()
    options, found = _options(config)
    yield found
    yield _state(state_of(ctx, None) or Path((options or Config()).state or default_state()))
    yield _disk(state_of(ctx, None) or Path((options or Config()).state or default_state()))
    yield _console()
    yield _server()
    yield _page()
    if options is not None:
        import asyncio  # here: the other commands start faster without it

        yield from asyncio.run(_backends(options))


def _broken(name: str, error: RuvllmError) -> _Check:
    return _Check(name, "broken", error.message, error.fix)


def _artifacts() -> _Check:
    host = NativeHost()
    try:
        for name in host.manifest:
            host.artifact(name)
    except RuvllmError as error:
        return _broken("artifacts", error)
    return _Check("artifacts", "ok", f"{len(host.manifest)} whole, in {host.folder}")


def _onnxruntime() -> _Check:
    if not NativeHost().has_sessions():
        return _Check("onnxruntime", "missing", "the static encoder answers alone", "pip install 'ruvllm[onnx]'")
    try:
        with RuvLLM(encoder=RUVLTRA.name) as llm:
            llm.embed(["is it there?"])
    except (RuvllmError, ImportError) as error:
        return _Check("onnxruntime", "broken", f"{RUVLTRA.title} cannot run: {error}", "pip install -U onnxruntime")
    return _Check("onnxruntime", "ok", f"{RUVLTRA.title} runs, the encoder of tasks that the static one is unsure of")


def _routing() -> _Check:
    try:
        with RuvLLM(encoder="static") as llm:
            decision = llm.route("write unit tests for the parser")
    except RuvllmError as error:
        return _broken("routing", error)
    return _Check("routing", "ok", f"a task went to {decision.agent} in {decision.timings_us['total']:.0f} µs")


def _options(config: Path | None) -> tuple[Config | None, _Check]:
    where = str(config or "the environment")
    try:
        options = Config.from_env(base=Config.from_toml(config) if config else None)
    except RuvllmError as error:
        return None, _broken("options", error)
    return options, _Check("options", "ok", where)


def _state(path: Path) -> _Check:
    from ruvllm.state.repair.check import check

    if not path.exists():
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if not os.access(parent, os.W_OK):
            return _Check("state file", "broken", f"{path} cannot be made", "give --state a path that can be written")
        return _Check("state file", "ok", f"{path} will be made when something is to be kept")
    try:
        report = check(path)
    except RuvllmError as error:
        return _broken("state file", error)
    if not report.ok:
        first = report.findings[0]
        return _Check("state file", "broken", f"{path}: {first.message}", first.fix)
    if not os.access(path, os.W_OK):
        return _Check("state file", "broken", f"{path} cannot be written", "mend its rights")
    return _Check("state file", "ok", f"{path}: {sum(report.counts.values()):,} rows")


def _disk(path: Path) -> _Check:
    folder = next(one for one in path.absolute().parents if one.exists())
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        return _Check(
            "disk", "broken", f"{free / 1e6:,.0f} MB are free in {folder}", "make room, or give --state elsewhere"
        )
    return _Check("disk", "ok", f"{free / 1e9:,.1f} GB are free in {folder}")


def _console() -> _Check:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding not in ("utf8", "cp65001"):
        found = f"it writes {sys.stdout.encoding}: what that lacks is spelt out"
        return _Check("console", "missing", found, "set PYTHONUTF8=1")
    return _Check("console", "ok", "it writes UTF-8")


def _server() -> _Check:
    if find_spec("ruvllm_edge") is None:
        return _Check("server", "missing", "`ruvllm serve` is not installed", "pip install ruvllm-edge")
    return _Check("server", "ok", "`ruvllm serve` is installed")


def _page() -> _Check:
    given = os.environ.get("RUVLLM_WEB")
    folder = Path(given) if given else Path(ruvllm.__file__).parents[2] / "web" / "dist"
    if not (folder / "index.html").is_file():
        fix = "run `make web` in the repository, and point RUVLLM_WEB at web/dist"
        return _Check("page", "missing", f"{folder} holds no built page", fix)
    return _Check("page", "ok", str(folder))


async def _backends(options: Config) -> list[_Check]:
    import asyncio

    from ruvllm.inference.factory import local_models, make_backend

    if not options.inference.tiers:
        fix = "name one: see `ruvllm serve --help`"
        return [_Check("backends", "missing", "none is configured: answers are drawn from memory", fix)]
    found = []
    with RuvLLM(encoder="static") as llm:
        for tier, config in options.inference.tiers.items():
            name = f"backend {tier}"
            try:
                backend = make_backend(tier, config, llm.encoders.static, local_models(options.inference))
            except RuvllmError as error:
                found.append(_broken(name, error))
                continue
            try:
                async with asyncio.timeout(_PATIENCE):
                    there = await backend.healthy()
            except TimeoutError:
                there = False
            await backend.close()
            at = f"{backend.model}{f' at {config.url}' if config.url else ''}"
            fix = "start it, or mend its url and api_key_env"
            found.append(_Check(name, "ok", at) if there else _Check(name, "broken", f"{at} does not answer", fix))
    return found
