"""Commands that are imported when asked for: our own, and those that other distributions bring."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from ruvllm import RuvllmError
from ruvllm.hints import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


_GROUP = "ruvllm.commands"
# What somebody may have read of, and where it comes from.
_ELSEWHERE = {"serve": "ruvllm-edge", "keys": "ruvllm-edge", "models": "ruvllm-models", "bench": "ruvllm-bench"}


class AliasGroup(click.Group):
    """A group whose commands have other names too.

    Args:
        aliases: a command's path below the group ("learn export"), by its other name; no help lists them.
    """

    def __init__(self, *args: Any, aliases: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._aliases = aliases or {}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """By either name."""
        found: click.Command | None = None
        if (found := super().get_command(ctx, cmd_name)) is None and cmd_name in self._aliases:
            found = self
            for name in self._aliases[cmd_name].split():
                found = found.get_command(ctx, name) if isinstance(found, click.Group) else None
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with. Raises UsageError: there is none; it names the nearest."""
        name = str(args[0])
        if not (name.startswith("-") or ctx.resilient_parsing or self.get_command(ctx, name)):
            names = (*self.list_commands(ctx), *self._aliases)
            ctx.fail(f"No such command {name!r}: {nearest(name, names, f'see {ctx.command_path} --help')}")
        return super().resolve_command(ctx, args)


class OpenGroup(AliasGroup):
    """A group whose commands are its own and those of installed distributions.

    Args:
        lazy: own commands by name, as "module:attribute": a hook that starts with every prompt imports one of them.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy or {}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """An own command, else an installed one. Raises RuvllmError: its distribution is missing or broken."""
        if cmd_name in self._lazy and cmd_name not in self.commands:
            module, _, name = self._lazy[cmd_name].partition(":")
            self.add_command(getattr(import_module(module), name), cmd_name)
        if (builtin := super().get_command(ctx, cmd_name)) is not None:
            return builtin
        point = self._points().get(cmd_name)
        if point is None:
            if (package := _ELSEWHERE.get(cmd_name)) is None:
                return None
            raise RuvllmError(f"`ruvllm {cmd_name}` is not installed", field="command", fix=f"pip install {package}")
        try:
            command: click.Command = point.load()
        except ImportError as error:
            package = point.dist.name if point.dist else point.value
            fix = f"pip install -U {package}"
            raise RuvllmError(f"{package} cannot be loaded: {error}", field="command", fix=fix) from None
        return command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all, for the help."""
        return sorted({*super().list_commands(ctx), *self._lazy, *self._points()})

    def _points(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points  # no own command waits for it

        return {point.name: point for point in entry_points(group=_GROUP)}
