"""`ruvllm doctor`: does everything that an answer needs work here, and if not, what helps?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import time

import click

import ruvllm
from ruvllm import RuvLLM, RuvllmError
from ruvllm.artifacts.host import NativeHost
from ruvllm.cli.console import print_json, show_table, waiting
from ruvllm.cli.hook.install import reinstall, stale_hooks
from ruvllm.cli.hook.resident import left_behind
from ruvllm.cli.options import default_state, json_option, state_of
from ruvllm.config import Config
from ruvllm.disk_cache import user_cache
from ruvllm.encoders.families import RUVLTRA

_ROOM = 100_000_000  # bytes that are to be free where the state file is
_PATIENCE = 10.0  # seconds for a backend to say that it is there
_OLD = 3600.0  # seconds after which an unfinished file is nobody's any more
_MOST_MENDED = 50  # options of a file that are refused


@dataclass(frozen=True, slots=True)
class _Check:
    """One thing that was looked at.

    Attributes:
        state: "ok", "missing" (it works without) or "broken".
        fix: what helps.
        mend: does it; None where a person has to.
    """

    name: str
    state: str
    finding: str
    fix: str = ""
    mend: Callable[[], object] | None = None


@click.command()
@click.option("--fix", "mending", is_flag=True, help="Mend what can be mended, each after a question.")
@click.option("--yes", is_flag=True, help="With --fix: ask nothing.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    envvar="RUVLLM_PORT",
    default=3000,
    show_default=True,
    help="Where `ruvllm serve` would listen.",
)
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="A TOML file, as for `ruvllm serve`.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, mending: bool, yes: bool, port: int, config: Path | None, as_json: bool) -> None:
    """Look at all that an answer needs, from models to the disk, and mend it; exit with 1 if something stays broken.

    --fix mends what "mend" stands beside: a damaged or unwritable state file and its folder, unfinished files beside
    it, rights of the keys file, options of a file that nobody knows (they become comments; the file as it was stays
    beside it), damaged models and missing packages (with pip), hooks of a program that is gone, what a helper of the
    hook has left, a full disk (ruvllm's own cache). It asks before each; with --yes it does not.

    \b
    Examples:
      ruvllm doctor
      ruvllm doctor --fix
      ruvllm doctor --config ruvllm.toml --fix --yes --json
    """
    with waiting("looking"):
        checks = list(_checks(ctx, config, port))
    mended = [check.name for check in checks if mending and _mended(check, yes)]
    if mended:
        with waiting("looking again"):
            checks = list(_checks(ctx, config, port))
    if as_json:
        found = [{"name": c.name, "state": c.state, "told": c.finding, "fix": c.fix} for c in checks]
        more = [{"mends": c.mend is not None, "mended": c.name in mended} for c in checks]
        print_json([row | one for row, one in zip(found, more, strict=True)])
    else:
        rows = [(c.name, c.state, c.finding, f"{c.fix} [mend]" if c.mend else c.fix) for c in checks]
        show_table("ruvllm doctor", ("What", "", "Found", "What helps"), rows)
    ctx.exit(int(any(check.state == "broken" for check in checks)))


def _mended(check: _Check, yes: bool) -> bool:
    """Whether something was mended."""
    if check.mend is None or not (yes or click.confirm(f"{check.name}: {check.finding}. {check.fix}?", err=True)):
        return False
    try:
        check.mend()
    except (RuvllmError, OSError, subprocess.SubprocessError) as error:
        click.echo(f"{check.name}: not mended: {error}", err=True)
        return False
    return True


def _install(*packages: str) -> Callable[[], object]:
    command = [sys.executable, "-m", "pip", "install", "--quiet", *packages]
    return lambda: subprocess.run(command, check=True, stdout=sys.stderr)


def _checks(ctx: click.Context, config: Path | None, port: int) -> Iterator[_Check]:
    yield _artifacts()
    yield _onnxruntime()
    yield _routing()
    options, found = _options(config)
    yield found
    yield _state(state_of(ctx, None) or Path((options or Config()).state or default_state()))
    path = state_of(ctx, None) or Path((options or Config()).state or default_state())
    yield _disk(path)
    yield _unfinished(path)
    yield _keys()
    yield _hooks()
    yield _resident()
    yield _console()
    yield _server()
    yield _port(port)
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
        again = "--force-reinstall", "--no-deps", f"ruvllm-models=={ruvllm.__version__}"
        return _Check("artifacts", "broken", error.message, error.fix or "install ruvllm-models anew", _install(*again))
    return _Check("artifacts", "ok", f"{len(host.manifest)} whole, in {host.folder}")


def _onnxruntime() -> _Check:
    if not NativeHost().has_sessions():
        found = "the static encoder answers alone"
        return _Check("onnxruntime", "missing", found, "pip install 'ruvllm[onnx]'", _install("ruvllm[onnx]"))
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
        mend = (lambda: _comment_out(config)) if config is not None and config.is_file() else None
        return None, _Check("options", "broken", error.message, error.fix, mend)
    return options, _Check("options", "ok", where)


def _comment_out(path: Path) -> None:
    """Make comments of lines that are refused; the file as it was stays beside it. Raises RuvllmError: others are."""
    before = text = path.read_text("utf-8")
    for _ in range(_MOST_MENDED):
        error = _refused(text)
        if error is None:
            break
        name = re.escape(error.field.rpartition(".")[2])
        lines = [match.start() for match in re.finditer(rf"^\s*{name}\s*=.*$", text, re.MULTILINE)]
        tried = (text[:at] + "# refused: " + text[at:] for at in lines)
        better = (one for one in tried if (left := _refused(one)) is None or left.field != error.field)
        if not name or (found := next(better, None)) is None:
            raise error
        text = found
    if text != before:
        path.with_name(f"{path.name}.before-doctor").write_text(before, "utf-8")
        path.write_text(text, "utf-8")


def _refused(text: str) -> RuvllmError | None:
    import tomllib

    try:
        Config.from_dict(tomllib.loads(text))
    except RuvllmError as error:
        return error
    except tomllib.TOMLDecodeError as error:
        return RuvllmError(f"this is no TOML: {error}", fix="mend it by hand")
    return None


def _rights(path: Path, more: int) -> Callable[[], object]:
    return lambda: path.chmod(path.stat().st_mode | more)


def _private(path: Path) -> Callable[[], object]:
    return lambda: path.chmod(path.stat().st_mode & 0o700)


def _state(path: Path) -> _Check:
    from ruvllm.state.repair.check import check, repair

    if not path.exists():
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if not os.access(parent, os.W_OK):
            fix = "let its owner write there, or give --state another path"
            return _Check("state file", "broken", f"{path} cannot be made", fix, _rights(parent, 0o700))
        return _Check("state file", "ok", f"{path} will be made when something is to be kept")
    try:
        report = check(path)
    except RuvllmError as error:
        return _broken("state file", error)
    if not report.ok:
        first = report.findings[0]
        fix = first.fix or "write it anew of what is good"
        return _Check("state file", "broken", f"{path}: {first.message}", fix, lambda: repair(path))
    if not os.access(path, os.W_OK):
        return _Check("state file", "broken", f"{path} cannot be written", "mend its rights", _rights(path, 0o600))
    if os.name == "posix" and path.stat().st_mode & 0o077:
        return _Check("state file", "missing", f"others may read {path}", "keep it to its owner", _private(path))
    return _Check("state file", "ok", f"{path}: {sum(report.counts.values()):,} rows")


def _disk(path: Path) -> _Check:
    folder = next(one for one in path.absolute().parents if one.exists())
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        found, cache = f"{free / 1e6:,.0f} MB are free in {folder}", user_cache()
        if cache is None or not cache.folder.is_dir():
            return _Check("disk", "broken", found, "make room, or give --state elsewhere")
        return _Check("disk", "broken", found, f"empty {cache.folder}", lambda: shutil.rmtree(cache.folder))
    return _Check("disk", "ok", f"{free / 1e9:,.1f} GB are free in {folder}")


def _unfinished(path: Path) -> _Check:
    """What a repair or a restore that was cut off has left: nobody reads it again."""
    some = [one for end in (".repairing", ".part") for one in path.parent.glob(f"{path.name}*{end}")]
    old = [one for one in some if time() - one.stat().st_mtime > _OLD]
    if not old:
        return _Check("unfinished files", "ok", "none")
    names = ", ".join(one.name for one in old)
    return _Check("unfinished files", "missing", names, "remove them", lambda: [*map(os.remove, old)])


def _keys() -> _Check:
    path = Path(os.environ.get("RUVLLM_KEYS_FILE", ""))
    if path == Path():
        return _Check("keys file", "ok", "none is named: a server takes requests from this machine alone")
    if not path.is_file():
        return _Check("keys file", "broken", f"{path} is not there", "make one with `ruvllm keys add`")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        return _Check("keys file", "broken", f"others may read {path}", "keep it to its owner", _private(path))
    return _Check("keys file", "ok", str(path))


def _hooks() -> _Check:
    stale = stale_hooks()
    if not stale:
        return _Check("hooks", "ok", "no coding agent calls a program that is gone")
    found = ", ".join(f"{client} calls {program}" for client, program in stale.items())
    return _Check("hooks", "broken", f"{found}, which is gone", "install them anew", lambda: [*map(reinstall, stale)])


def _resident() -> _Check:
    left = left_behind()
    if left is None:
        return _Check("helper", "ok", "nothing stands in the way of the hook's helper")
    path, what = Path(left[0]), left[1]
    mend = _private(path) if path.is_dir() else lambda: os.remove(path)
    return _Check("helper", "missing", f"{path} {what}: hooks answer slower", "mend that", mend)


def _port(port: int) -> _Check:
    import socket

    with socket.socket() as one, socket.socket() as other:
        if one.connect_ex(("127.0.0.1", port)):
            return _Check("port", "ok", f"{port} is free")
        other.bind(("127.0.0.1", 0))
        free = other.getsockname()[1]
    return _Check("port", "missing", f"something listens on {port} already", f"`ruvllm serve --port {free}`")


def _console() -> _Check:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding not in ("utf8", "cp65001"):
        found = f"it writes {sys.stdout.encoding}: what that lacks is spelt out"
        return _Check("console", "missing", found, "set PYTHONUTF8=1")
    return _Check("console", "ok", "it writes UTF-8")


def _server() -> _Check:
    if find_spec("ruvllm_edge") is None:
        return _Check("server", "missing", "`ruvllm serve` is not installed", "pip install ruvllm-edge",
                      _install("ruvllm-edge"))  # fmt: skip
    return _Check("server", "ok", "`ruvllm serve` is installed")


def _page() -> _Check:
    given, root = os.environ.get("RUVLLM_WEB"), Path(ruvllm.__file__).parents[2]
    folder = Path(given) if given else root / "web" / "dist"
    if not given and not (root / "Makefile").is_file():
        fix = "`make web` in a clone of the repository, then set RUVLLM_WEB to its web/dist"
        return _Check("page", "missing", "it is not among what pip installs", fix)
    if not (folder / "index.html").is_file():
        return _Check("page", "missing", f"{folder} holds no built page", "run `make web`, or mend RUVLLM_WEB")
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
