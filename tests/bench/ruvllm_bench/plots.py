"""Pictures of what was measured. matplotlib is imported only when a picture was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ruvllm.cli.console import plain
from ruvllm.cli.evals.plots import BLUE, RUST, SOFT, clean, write
from ruvllm_bench.memory.rows import Curve


def save_curves(path: Path, curves: Sequence[Curve]) -> None:
    """Latency over recall, a panel for each size.

    Raises:
        InputError: the picture cannot be written there.
    """
    from matplotlib.figure import Figure

    sizes = sorted({curve.size for curve in curves})
    figure = Figure(figsize=(6.5 * max(1, len(sizes)), 5.6), dpi=130)
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.1)
    for size, axes in zip(sizes, np.atleast_1d(figure.subplots(1, max(1, len(sizes)))), strict=False):
        for curve in (curve for curve in curves if curve.size == size):
            rising = sorted(curve.points, key=lambda point: point.recall)
            recalls, latencies = [point.recall for point in rising], [point.p50_ms for point in rising]
            axes.plot(recalls, latencies, marker="o", markersize=4, linewidth=1.4, label=curve.name)
        axes.set(xlabel="recall@10", ylabel="milliseconds, median of single queries", yscale="log")
        axes.set_title(f"{size:,} vectors, one thread", fontsize=11)
        axes.legend(loc="upper left", frameon=False, fontsize=9)
        axes.grid(color=SOFT, alpha=0.25)
        clean(axes)
    write(figure, path)


def save_streams(path: Path, curves: Mapping[str, Sequence[bool]], window: int = 500) -> None:
    """Accuracy over the last `window` decisions, a curve for each stream.

    Raises:
        InputError: the picture cannot be written there.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=130)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    for (name, right), colour in zip(curves.items(), (BLUE, RUST, SOFT), strict=False):
        total = np.concatenate([[0], np.cumsum(right)])
        ends = np.arange(1, len(right) + 1)
        starts = np.maximum(ends - window, 0)
        axes.plot(ends, (total[ends] - total[starts]) / (ends - starts), label=plain(name), color=colour)
    axes.set_xlabel("decisions")
    axes.set_ylabel(f"accuracy over the last {window}")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, loc="lower right")
    write(figure, path)
