"""`ruvllm completion`: words that a shell completes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what lets SHELL complete commands and options.

    \b
    Examples:
      ruvllm completion bash >> ~/.bashrc
      ruvllm completion zsh >> ~/.zshrc
      ruvllm completion fish > ~/.config/fish/completions/ruvllm.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(ctx.find_root().command, {}, "ruvllm", "_RUVLLM_COMPLETE").source())
