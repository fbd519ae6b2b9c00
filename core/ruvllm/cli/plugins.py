"""Commands that other distributions bring: found by name, imported when asked for."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from ruvllm import RuvllmError

__all__ = ["OpenGroup"]

_GROUP = "ruvllm.commands"
# What somebody may have read of, and where it comes from.
_ELSEWHERE = dict.fromkeys(("serve", "keys", "mcp", "bench serve"), "ruvllm-edge")


class OpenGroup(click.Group):
    """A group whose commands are its own and those of installed distributions.

    An entry point's name is the command's, with that of its group before it: "serve", "bench serve".

    Args:
        prefix: of names that belong to this group, e.g. "bench ".
    """

    def __init__(self, *args: Any, prefix: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prefix = prefix

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """An own command, else an installed one. Raises RuvllmError: its distribution is missing or broken."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        point = self._points().get(cmd_name)
        if point is None:
            if (package := _ELSEWHERE.get(self._prefix + cmd_name)) is not None:
                raise RuvllmError(
                    f"`ruvllm {self._prefix}{cmd_name}` is not installed", field="command", fix=f"pip install {package}"
                )
            return None
        try:
            command: click.Command = point.load()
        except ImportError as error:
            package = point.dist.name if point.dist else point.value
            fix = f"pip install -U {package}"
            raise RuvllmError(f"{package} cannot be loaded: {error}", field="command", fix=fix) from None
        return command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all, for the help."""
        return sorted({*super().list_commands(ctx), *self._points()})

    def _points(self) -> dict[str, EntryPoint]:
        found = {point.name: point for point in entry_points(group=_GROUP)}
        names = (name for name in found if name.startswith(self._prefix))
        short = {name.removeprefix(self._prefix): found[name] for name in names}
        return {name: point for name, point in short.items() if " " not in name}
