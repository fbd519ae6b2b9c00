"""Models that a command needs, made ready while a person watches."""

from __future__ import annotations

from ruvllm.cli.console import stages
from ruvllm.inference.library import Converted, find_model, prepare

__all__ = ["ready_model"]


def ready_model(text: str, *, download: bool = True) -> Converted:
    """A model that is ready, downloaded and converted with a bar if need be.

    Raises:
        RuvllmError: it cannot be had.
    """
    known = find_model(text)
    if known is not None:
        return known
    with stages(text) as show:
        return prepare(text, tell=lambda what, done, total: show(what, done / max(total, 1)), download=download)
