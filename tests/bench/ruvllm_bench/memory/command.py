"""`ruvllm bench memory`: are searches as fast and as exact as they promise to be, on real sentences?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from ruvllm import InputError, RuvllmError
from ruvllm.cli.console import number, print_json, progress, show_table, waiting, warn
from ruvllm.cli.evals.plots import check_plot
from ruvllm.cli.options import json_option
from ruvllm_bench.memory.data import cache_folder, embeddings, sentences, vectors_in
from ruvllm_bench.memory.measures import Task
from ruvllm_bench.memory.rows import Curve, Row, read
from ruvllm_bench.plots import save_curves

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_UNSEEN = 1_000
_QUICK, _QUICK_SIZE = ("10k", "100k", "routing"), 20_000
_USUAL = ("10k", "100k", "hybrid", "routing", "tiers", "attention", "stream")
_FULL = (*_USUAL, "1M", "store", "open")
_GROUPS = click.Choice(_FULL)


@click.command()
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Text to take sentences from: a folder or file of .txt, .md, .json, .jsonl; or an .npy of vectors.",
)
@click.option("--size", type=click.IntRange(10_000, 1_000_000), default=100_000, show_default=True, help="Sentences.")
@click.option("--quick", is_flag=True, help="A minute: 20,000 sentences, no tiers, attention, nor stream.")
@click.option("--full", is_flag=True, help="Also a million vectors and memories (5 GB of disk), and a longer stream.")
@click.option("--only", type=_GROUPS, multiple=True, help="Only these groups.")
@click.option("--stream", type=click.IntRange(2_000, 1_000_000), help="Entries of Loop C's stream.  [default: 20,000]")
@click.option("--rounds", type=click.IntRange(1, 20), default=1, show_default=True, help="Of each latency.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Latency over recall, as a PNG.")
@json_option
def memory(
    data: Path,
    size: int,
    quick: bool,
    full: bool,
    only: tuple[str, ...],
    stream: int | None,
    rounds: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Time memory on real sentences, and compare with what ruvllm promises.

    Sentences become vectors by MiniLM once, which takes a few minutes for 100,000, and are then kept in the
    cache. Latencies are medians of single queries on one thread, recall is measured against an exact search
    for queries that were not stored. hnswlib and usearch run beside where they are installed. With --json the
    last line is one object.

    \b
    Examples:
      ruvllm bench memory --data docs/ --quick
      ruvllm bench memory --data vectors.npy --plot memory.png
      ruvllm bench memory --data docs/ --full --json
    """
    check_plot(plot)
    size = min(size, _QUICK_SIZE) if quick else size
    vectors, texts = vectors_of(data, size)
    entries = stream or (200_000 if full else 20_000)
    told = list[Row | Curve]()
    with _folder() as folder:
        given = Path(folder) / "texts.json"
        given.write_text(json.dumps(texts), "utf-8")
        task = Task(str(vectors), str(given) if texts else "", size, entries, folder, rounds, full)
        for group in only or (_FULL if full else _QUICK if quick else _USUAL):
            with waiting(f"measuring {group}"):
                told += _measured(group, json.dumps(asdict(task)))
    rows = [item for item in told if isinstance(item, Row)]
    curves = [item for item in told if isinstance(item, Curve)]
    _show(rows, len(np.load(vectors, mmap_mode="r")))
    if plot is not None:
        save_curves(plot, curves)
    if as_json:
        by_key = {row.key: asdict(row) | {"met": row.met} for row in rows}
        print_json({"rows": by_key, "curves": [asdict(curve) for curve in curves]})


@contextmanager
def _folder() -> Iterator[str]:
    """For large files: the system's own temporary folder may lie in memory."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix="run-", dir=cache_folder())
    except OSError as error:
        what = f"{cache_folder()} cannot be written: {error}"
        raise InputError(what, field="cache", fix="free disk space, or set XDG_CACHE_HOME") from None
    with folder as path:
        yield path


def vectors_of(data: Path, size: int) -> tuple[Path, list[str]]:
    """An .npy of vectors, and the sentences behind them where they are known."""
    if data.suffix == ".npy":
        vectors_in(data)
        return data, []
    texts = sentences(data, size + _UNSEEN)
    if len(texts) < size + _UNSEEN:
        warn(f"{data} holds {len(texts):,} different sentences, fewer than the {size + _UNSEEN:,} wanted")
    with progress(f"embedding (kept in {cache_folder()})", len(texts)) as advance:
        return embeddings(texts, advance), texts


def _measured(group: str, task: str) -> Iterator[Row | Curve]:
    """From a fresh process with one BLAS thread."""
    command = [sys.executable, "-m", "ruvllm_bench.memory.measures", group, task]
    done = subprocess.run(
        command, env=os.environ | dict.fromkeys(_THREADS, "1"), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuvllmError(f"measuring {group} failed: {last}", field="bench", fix="see `ruvllm info`, or leave it out")
    yield from (item for line in done.stdout.splitlines() if (item := read(line)) is not None)


def _show(rows: Sequence[Row], size: int) -> None:
    def shown(row: Row, value: float | None) -> str:
        if value is None:
            return "-"
        return f"{number(value, 0 if abs(value) >= 100 or value == int(value) else 3)} {row.unit}".rstrip()

    cells = []
    for row in rows:
        bar = "" if row.bar is None else f"{'>=' if row.at_least else '<='} {shown(row, row.bar)}"
        recall = "" if row.recall is None else f"{row.recall:.4f}"
        cells.append((row.label, shown(row, row.value), bar, recall, row.mark, row.note))
    columns = ("Measure", "Value", "Promise", "Recall", "", "Note")
    show_table(f"{size:,} vectors, one thread", columns, cells, right=("Value", "Promise", "Recall"), cut="Note")
