"""How every command prints, so that hostile text cannot drive the terminal and pipes stay clean.

rich is imported where it is used: `ruvllm route` runs in editor hooks and needs none of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from ruvllm.errors import CONVERT, LINT, REEMBED, REPAIR, TRAIN, RuvllmError

if TYPE_CHECKING:
    from rich.console import Console


T = TypeVar("T")

_COMMANDS = {
    CONVERT: "ruvllm models convert",
    LINT: "ruvllm agents lint",
    REEMBED: "ruvllm memory reembed",
    REPAIR: "ruvllm memory check --repair",
    TRAIN: "ruvllm tiers train FILE",
}
_PIPE_WIDTH = 120  # a pipe has no width of its own; rich's 80 would cut descriptions short


def plain(text: str) -> str:
    """The text on one line with its control characters spelt out: agent files are not to be trusted."""
    flat = " ".join(text.split())
    if flat.isprintable():
        return flat
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in flat)


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table, "-" where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def print_json(data: Any) -> None:
    """One line of JSON in ASCII, which no terminal's or pipe's encoding can break."""
    click.echo(json.dumps(data, allow_nan=False))


def warn(message: str) -> None:
    """Something that does not stop the command."""
    click.secho(plain(message), fg="yellow", err=True)


def fail(error: str | RuvllmError) -> None:
    """What stopped the command, with the one that does what its fix says: a library's fix names none."""
    fixes = error.fix if isinstance(error, RuvllmError) else ""
    command = next((f" (`{command}`)" for fix, command in _COMMANDS.items() if fix in fixes), "")
    click.secho(f"error: {plain(str(error))}{command}", fg="red", err=True)


def show_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = (), cut: str = ""
) -> None:
    """Print a table.

    Args:
        right: columns of numbers.
        cut: the column that is cut short rather than wrapped.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    # Only a column with a ratio in a table that expands leaves the others their full width.
    table = Table(box=SIMPLE_HEAD, show_edge=False, show_header=any(columns), expand=bool(cut))
    for column in columns:
        is_number, is_cut = column in right, column == cut and bool(cut)
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(column, justify=justify, no_wrap=is_number or is_cut, ratio=1 if is_cut else None)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    # A title of the table's own would be wrapped to the table's width.
    _console().print(Text(plain(title), style="bold"), table, "", sep="\n")


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _PIPE_WIDTH)


def tracked(items: Sequence[T], label: str, quiet: bool = False) -> Iterator[T]:
    """The items, behind a progress bar on stderr where a person can see it."""
    with progress(label, len(items), quiet) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def progress(label: str, total: int, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """A function that moves the bar on by one; it does nothing where stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Left alone, rich would send what the command prints on stdout to stderr as well.
    with Progress(*columns, console=_console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def stages(label: str) -> Iterator[Callable[[str, float], None]]:
    """A bar for work in several stages, on stderr where a person can see it.

    Gives a function that is told what is being worked on, and the share of it that is done (or, above one, how many).
    """
    if not sys.stderr.isatty():
        yield lambda what, fraction: None
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        console=_console(stderr=True),
        transient=True,
        redirect_stdout=False,
    ) as bar:
        task = bar.add_task(label, total=None)

        def tell(what: str, fraction: float) -> None:
            if fraction > 1:
                bar.update(task, description=f"{label}: {fraction:,.0f} {plain(what)}", total=None)
            else:
                bar.update(task, description=f"{label}: {plain(what)}", total=1.0, completed=fraction)

        yield tell


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """A spinner on stderr, where a person can see it."""
    if not sys.stderr.isatty():
        yield
        return
    with _console(stderr=True).status(label):
        yield
