"""One picture of an evaluation. matplotlib is imported only when a picture was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ruvllm import ConfigError, InputError
from ruvllm.cli.console import plain
from ruvllm.cli.evals.metrics import Answer, confused
from ruvllm.routing.calibration import ece

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_BINS = 15
_INK, SOFT, RUST = "#1f2933", "#9aa5b1", "#c05621"
BLUE = (0.169, 0.424, 0.690)
_LABEL = 22  # characters of a name that still fit beside a bar


def check_plot(path: Path | None) -> None:
    """Complain before minutes of routing rather than after them.

    Raises:
        ConfigError: matplotlib is not installed.
        InputError: the picture cannot be written there.
    """
    if path is None:
        return
    if find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib", field="plot", fix="pip install 'ruvllm[plots]', or drop --plot")
    if path.suffix.lower() != ".png":
        raise InputError(f"--plot {path} is no PNG", field="plot", fix="end the name in .png")
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no folder {path.parent} for --plot", field="plot", fix="make it, or choose another")


def save_report(path: Path, title: str, answers: Sequence[Answer]) -> None:
    """Reliability on the left, the commonest mistakes on the right.

    Raises:
        InputError: the picture cannot be written there.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    figure = Figure(figsize=(13, 5.6), dpi=130)
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.1)
    figure.suptitle(plain(title), color=_INK, fontsize=14, fontweight="bold", parse_math=False)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_reliability(left, answers)
    _draw_confused(right, answers)
    write(figure, path)


def write(figure: Figure, path: Path) -> None:
    """Raises InputError: the picture cannot be written there."""
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        what = f"{path} cannot be written ({error.strerror})"
        raise InputError(what, field="plot", fix="choose another path") from None


def _draw_reliability(axes: Axes, answers: Sequence[Answer]) -> None:
    """Accuracy by confidence; how solid a bar is tells how many prompts stand behind it."""
    confidences = np.array([answer.confidence for answer in answers])
    correct = np.array([answer.correct for answer in answers], np.float64)
    which = np.minimum((confidences * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(which, minlength=_BINS)
    held = np.flatnonzero(counts)
    accuracy = np.bincount(which, weights=correct, minlength=_BINS)[held] / counts[held]
    fractions = counts[held] / counts.max()
    colors = [(*BLUE, 0.25 + 0.75 * float(part) ** 0.5) for part in fractions]
    axes.bar((held + 0.5) / _BINS, accuracy, width=0.9 / _BINS, color=colors, zorder=2)
    for number, height in zip(held.tolist(), accuracy.tolist(), strict=True):
        axes.annotate(
            f"{counts[number]}",
            ((number + 0.5) / _BINS, height),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_INK,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        )
    axes.plot(
        (0, 1), (0, 1), color=_INK, alpha=0.7, linestyle="--", linewidth=1.1, zorder=3, label="perfectly calibrated"
    )
    axes.set(
        xlim=(0, 1), ylim=(0, 1.2), yticks=np.linspace(0, 1, 6), xlabel="Confidence", ylabel="Share that was right"
    )
    error = ece(confidences, correct, _BINS)
    axes.set_title(f"Reliability (ECE {error:.3f}; number of prompts on each bar)", fontsize=11)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    clean(axes)
    axes.grid(axis="y", color=SOFT, alpha=0.25, zorder=0)


def _draw_confused(axes: Axes, answers: Sequence[Answer]) -> None:
    from matplotlib.ticker import MaxNLocator

    pairs = confused(answers)
    axes.set_title("Most confused pairs (right → named instead)", fontsize=11)
    clean(axes)
    if not pairs:
        axes.text(0.5, 0.5, "no mistakes", ha="center", va="center", color=SOFT, fontsize=14, transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    labels = [f"{_cut(right)} → {_cut(chosen)}" for right, chosen, _ in pairs]
    times = [count for _, _, count in pairs]
    bars = axes.barh(range(len(pairs)), times, color=RUST, height=0.65, zorder=2)
    axes.bar_label(bars, padding=3, fontsize=9, color=_INK)
    axes.set_yticks(range(len(pairs)), labels, fontsize=9, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel="Prompts", xlim=(0, max(times) * 1.12))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", color=SOFT, alpha=0.25, zorder=0)


def clean(axes: Axes) -> None:
    """No frame, quiet ticks, the grid behind what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(colors=_INK)
    axes.set_axisbelow(True)


def _cut(name: str) -> str:
    name = plain(name)
    return name if len(name) <= _LABEL else name[: _LABEL - 1] + "…"
