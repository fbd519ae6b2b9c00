"""`ruvllm models …`: language models made ready for this machine and for the browser."""

from __future__ import annotations

from pathlib import Path

import click

from ruvllm.cli.console import plain, print_json, progress, show_table
from ruvllm.errors import ConfigError
from ruvllm_models.bench.cli import bench
from ruvllm_models.store.cli import COMMANDS

_SHOWN = 5


@click.group()
def models() -> None:
    """Language models on this machine: downloaded, converted, looked after; they run here and in the browser.

    \b
    Examples:
      ruvllm models download ruv/ruvltra
      ruvllm models list
      ruvllm models convert model-q4_k_m.gguf --out ./model
      ruvllm chat --model ./model
    """


for _command in (*COMMANDS, bench):
    models.add_command(_command)


@models.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A folder to make.")
@click.option(
    "--bits", type=click.Choice(["4", "8", "32"]), help="Of the layers' weights.  [default: what suits the source]"
)
@click.option("--embedding-bits", type=click.Choice(["4", "8", "32"]), help="Of the embedding table.")
@click.option("--context", type=click.IntRange(min=8), metavar="TOKENS", help="[default: the model's, at most 32768]")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
def convert(
    source: Path, out: Path, bits: str | None, embedding_bits: str | None, context: int | None, as_json: bool
) -> None:
    """Convert a GGUF file, or a folder with config.json and SafeTensors, of Qwen2, Llama, LFM2 or (GGUF) Gemma 3.

    \b
    Examples:
      ruvllm models convert model-q4_k_m.gguf --out ./model
      ruvllm models convert ./SmolLM2-135M-Instruct --out ./smol --bits 8
    """
    try:
        from ruvllm_models.convert import convert as run
        from ruvllm_models.convert.decoder import Bits
    except ImportError as missing:
        message = f"conversion needs a package that is not installed: {missing.name}"
        raise ConfigError(message, field="convert", fix="pip install 'ruvllm-models[convert]'") from None
    # The table costs most when it is coarse: 4 bits of the layers do not ask that of it.
    widths = Bits(int(bits or 0), int(embedding_bits or (32 if bits == "32" else 0)))
    shown = 0
    with progress("converting", 100, quiet=as_json) as advance:

        def tell(done: int, total: int) -> None:
            nonlocal shown
            while shown < 100 * done // total:
                shown += 1
                advance()

        manifest = run(source, out, bits=widths, context=context or 0, progress=tell)
    if as_json:
        print_json(manifest)
        return
    size = sum(file["bytes"] for file in manifest["files"]) / 1e6
    click.echo(f"{plain(str(out))}: {manifest['architecture']}, {size:,.1f} MB, context {manifest['context']:,}")
    worst = sorted(manifest["tensors"], key=lambda tensor: -tensor["relative"])[:_SHOWN]
    rows = [(t["name"], t["source"], str(t["bits"]), f"{t['relative']:.4f}", f"{t['largest']:.2g}") for t in worst]
    columns = ("tensor", "was", "bits", "relative error", "largest")
    show_table("What requantisation cost most", columns, rows, right=("bits", "relative error", "largest"))
