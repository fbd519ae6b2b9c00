"""`ruvllm learn`: what was learnt, and the learning that happens in the background."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ruvllm import InputError, RuvLLM, StoreError
from ruvllm.cli.console import plain, print_json, show_table, waiting, warn
from ruvllm.cli.endpoint import key_option
from ruvllm.cli.options import (
    agents_option,
    default_state,
    encoder_option,
    json_option,
    open_llm,
    said_option,
    state_of,
    state_option,
)
from ruvllm.config import Config
from ruvllm.encoders.protocol import no_pause, run_now

if TYPE_CHECKING:
    from ruvllm.learning.federated.client import RemoteCoordinator


_BUDGET = 120.0  # seconds for each loop, where somebody asked for it by hand


@click.group()
def learn() -> None:
    """Look after what feedback has taught.

    \b
    Examples:
      ruvllm learn status
      ruvllm learn run --force
      ruvllm learn list
      ruvllm learn undo 12
      ruvllm learn export adapter.safetensors
      ruvllm learn dataset feedback.jsonl
      ruvllm learn push https://team.example:3000
      ruvllm learn pull https://team.example:3000
    """


def _open(ctx: click.Context, agents: Path | None, encoder: str | None, state: Path | None) -> RuvLLM:
    return open_llm(agents, encoder, state_of(ctx, state) or default_state())


@learn.command()
@agents_option
@state_option
@json_option
@click.pass_context
def status(ctx: click.Context, agents: Path | None, state: Path | None, as_json: bool) -> None:
    """How much feedback there is, and when each job last ran."""
    with _open(ctx, agents, None, state) as llm:
        held, federated = llm.stats(), llm.federated.status()
    jobs = held["jobs"]
    if as_json:
        print_json({"state": held["state"], "feedback": held["feedback"], "federated": federated, "jobs": jobs})
        return
    rows = [(row["name"], _span(row["interval"]), _when(row), "yes" if row["due"] else "") for row in jobs]
    title = f"{held['feedback']:,} feedbacks in {held['state']}"
    show_table(title, ("Job", "Every", "Last run", "Due"), rows)
    click.echo(
        f"Federated: {federated['sent']:,} texts pushed, {federated['waiting']:,} not; "
        f"others' feedback speaks for {federated['shared_agents']} agents."
    )


def _span(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def _when(row: dict[str, Any]) -> str:
    last = row["last"]
    if last is None:
        return "never"
    return f"{datetime.fromtimestamp(last['at']):%Y-%m-%d %H:%M}, {last['seconds']:.1f} s: {plain(last['outcome'])}"


@learn.command()
@click.option("--force", is_flag=True, help="Run every job, due or not.")
@click.option("--budget", type=click.FloatRange(0.01, 600), default=_BUDGET, show_default=True, help="Seconds a job.")
@agents_option
@encoder_option
@state_option
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    force: bool,
    budget: float,
    agents: Path | None,
    encoder: str | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Run the background work that is due: review of feedback, patterns, sizes, retrieval, concepts, federated.

    The last only where RUVLLM_FEDERATED_URL names a coordinator.

    A job that fails stops no other; the exit status is 1 then.

    \b
    Examples:
      ruvllm learn run
      ruvllm learn run --force --state ./team.db
    """
    path = state_of(ctx, state) or default_state()
    with open_llm(agents, encoder, path, Config.from_env()) as llm, waiting("learning"):
        runs = [run for run in llm.run_jobs(budget, force=force) if run.name != "write"]
        if llm.routing.unreviewed:  # a person who asks need not wait until there is much
            runs += run_now(llm.jobs.run(budget, no_pause, force=True, names=["review"]))
    if as_json:
        names = ("name", "outcome", "seconds", "stopped", "error")
        print_json([{name: getattr(run, name) for name in names} for run in runs])
    else:
        rows = [(r.name, f"{r.seconds:.2f} s", r.error or ("out of time" if r.stopped else r.outcome)) for r in runs]
        show_table("what was done" if runs else "nothing was due", ("Job", "Took", "Outcome"), rows, right=("Took",))
    ctx.exit(1 if any(run.error for run in runs) else 0)


@learn.command("list")
@click.option("-n", "--last", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@state_option
@json_option
@click.pass_context
def list_(ctx: click.Context, last: int, state: Path | None, as_json: bool) -> None:
    """The last feedbacks, with the ids that `undo` takes."""
    with _open(ctx, None, "static", state) as llm:
        latest = llm.store.feedback_rows()[-last:]
    if as_json:
        print_json(
            [
                {"id": k.id, "text": k.feedback.text, "agent": k.feedback.agent, "right": k.feedback.right}
                for k in latest
            ]
        )
        return
    rows = [(str(k.id), "" if k.feedback.right else "not", k.feedback.agent, plain(k.feedback.text)) for k in latest]
    show_table(f"the last {len(latest)}", ("Id", "", "Agent", "Text"), rows, right=("Id",), cut="Text")


@learn.command()
@said_option
@click.argument("ids", type=int, nargs=-1, required=True)
@agents_option
@state_option
@click.pass_context
def undo(ctx: click.Context, ids: tuple[int, ...], agents: Path | None, state: Path | None) -> None:
    """Take feedback back, as if it had never been given."""
    with _open(ctx, agents, None, state) as llm:
        undone = [i for i in ids if llm.undo_feedback(i)]
    missing = sorted(set(ids) - set(undone))
    if missing:
        fix = "see `ruvllm learn list`"
        raise InputError(f"no feedback has the id {', '.join(map(str, missing))}", field="ids", fix=fix)
    click.echo(f"undone: {', '.join(map(str, undone))}")


@learn.command("export")
@said_option
@click.argument("file", type=click.Path(path_type=Path))
@state_option
@click.pass_context
def export_(ctx: click.Context, file: Path, state: Path | None) -> None:
    """Write the learnt adapters (MicroLoRA and base LoRA) as SafeTensors; never a prompt.

    Where FILE is no .safetensors, it is made a folder as the Hugging Face Hub has adapters: adapter_model.safetensors,
    adapter_config.json and a README.md. `import` reads both.

    \b
    Examples:
      ruvllm learn export adapter.safetensors
      ruvllm learn export my-adapter/
    """
    from ruvllm.cli.safetensors import export_safetensors, hub_files

    with _open(ctx, None, None, state) as llm:
        arrays, space = llm.learning.engine.adapters(), llm.memory.space
    data = export_safetensors(arrays, {"made_by": "ruvllm", "space": space})
    if file.suffix == ".safetensors":
        _write(file, data)
    else:
        for name, content in hub_files(arrays, space, data).items():
            _write(file / name, content)
    click.echo(f"wrote {len(arrays)} tensors, {len(data):,} bytes, to {file}")


@learn.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@state_option
@click.pass_context
def dataset(ctx: click.Context, file: Path, state: Path | None) -> None:
    """Write what feedback said as JSON lines of `text`, `agent`, `weight` and `right`: your own texts, to train with.

    \b
    Examples:
      ruvllm learn dataset feedback.jsonl
    """
    with _open(ctx, None, "static", state) as llm:
        rows = [asdict(row.feedback) for row in llm.store.feedback_rows()]
    _write(file, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode())
    click.echo(f"wrote {len(rows):,} lines to {file}")


def _write(file: Path, data: bytes) -> None:
    """The whole file or nothing. Raises StoreError: it cannot be written."""
    fresh = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(data)
        fresh.replace(file)
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error}", field="file", fix="give a writable path") from None


@learn.command("import")
@said_option
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@state_option
@click.pass_context
def import_(ctx: click.Context, file: Path, state: Path | None) -> None:
    """Take up adapters that `export` wrote, here or elsewhere."""
    from ruvllm.cli.safetensors import ADAPTER, read_safetensors

    weights = file / ADAPTER if file.is_dir() else file
    if not weights.is_file():
        raise InputError(f"there is no {weights}", field="file", fix="give what `ruvllm learn export` wrote")
    arrays, about = read_safetensors(weights.read_bytes())
    with _open(ctx, None, None, state) as llm:
        if about.get("space") != llm.memory.space:
            message = f"{file} is for the space {about.get('space')!r}"[:200]
            raise InputError(message, field="file", fix=f"give adapters for {llm.memory.space}")
        llm.learning.engine.adopt(arrays)
        llm.learning.engine.flush()
    click.echo(f"took up {len(arrays)} tensors")


def _coordinator(url: str, key: str) -> RemoteCoordinator:
    from ruvllm.learning.federated.client import RemoteCoordinator

    if not url:
        fix = "name a ruvllm server: `ruvllm learn push URL`, or set RUVLLM_FEDERATED_URL"
        raise InputError("no coordinator is named", field="url", fix=fix)
    return RemoteCoordinator(url, key)


def _with_coordinator(command: Callable[..., None]) -> Callable[..., None]:
    """What `push` and `pull` have in common."""
    for option in (
        json_option,
        state_option,
        key_option,
        click.argument("url", envvar="RUVLLM_FEDERATED_URL", default=""),
    ):
        command = option(command)
    return command


@learn.command()
@_with_coordinator
@click.option("--least", type=click.IntRange(2, 1_000), help="Texts in a group that travels; 5 when left out.")
@click.option("--epsilon", type=click.FloatRange(0.01, 100), help="Add noise that keeps this promise for each text.")
@click.option("--all", "everything", is_flag=True, help="What has travelled before too, to another coordinator.")
@click.pass_context
def push(
    ctx: click.Context,
    url: str,
    key: str,
    state: Path | None,
    as_json: bool,
    least: int | None,
    epsilon: float | None,
    everything: bool,
) -> None:
    """Send what feedback has taught here to a coordinator: a ruvllm server at URL, or at RUVLLM_FEDERATED_URL.

    Sums over groups of at least five texts of one agent travel, or of five prompts that one model answered with how
    good that was; never a text, and each once. RUVLLM_FEDERATED_URL
    makes servers and `ruvllm learn run` push and pull every hour by themselves.

    \b
    Examples:
      ruvllm learn push https://team.example:3000
      ruvllm learn push --epsilon 4 https://team.example:3000
    """
    coordinator, config = _coordinator(url, key), Config.from_env()
    options = config.federated
    options = replace(options, least=least or options.least, epsilon=epsilon or options.epsilon)
    config = replace(config, federated=options)
    with open_llm(None, "static", state_of(ctx, state) or default_state(), config) as llm, waiting("pushing"):
        sent = run_now(llm.federated.push(coordinator, everything=everything))
    if as_json:
        print_json(asdict(sent))
        return
    waits = f"; {sent.waiting:,} wait for others of their agent" if sent.waiting else ""
    click.echo(
        f"Pushed {sent.texts:,} texts in {sent.groups:,} group(s), and outcomes of {sent.outcomes:,} answers by models "
        f"({sent.bytes:,} bytes){waits}."
        if sent.updates
        else f"Nothing new to push{waits}."
    )
    if sent.refused:
        warn(f"the coordinator refused {sent.refused:,} groups")


@learn.command()
@_with_coordinator
@agents_option
@click.option("--undo", is_flag=True, help="Decide by what was learnt here alone again.")
@click.pass_context
def pull(
    ctx: click.Context, url: str, key: str, state: Path | None, as_json: bool, agents: Path | None, undo: bool
) -> None:
    """Route and choose models with what everybody's feedback has taught a coordinator, until --undo.

    It adds what is not known here, and never makes a decision one to be used without asking. Searches are moved by
    what rated ones taught, where the vectors are the same.

    \b
    Examples:
      ruvllm learn pull https://team.example:3000
      ruvllm learn pull --undo
    """
    coordinator = None if undo else _coordinator(url, key)
    with open_llm(agents, "static", state_of(ctx, state) or default_state()) as llm, waiting("pulling"):
        if coordinator is None:
            undone = run_now(llm.federated.undo_pull())
        else:
            pulled = run_now(llm.federated.pull(coordinator))
    if coordinator is None:
        click.echo("Undone: what was learnt here decides alone." if undone else "Nothing was pulled.")
        return
    if as_json:
        print_json(asdict(pulled))
        return
    anything = pulled.routes or pulled.models
    state_ = "" if pulled.changed else "; nothing is new" if anything else "; nobody has pushed yet"
    click.echo(
        f"Pulled {pulled.routes:,} routes learnt from {pulled.texts:,} texts; "
        f"{len(pulled.agents):,} are agents here{state_}."
        + (f" Outcomes of {', '.join(map(plain, pulled.models))} choose models too." if pulled.models else "")
    )
