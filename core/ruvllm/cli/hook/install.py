"""`ruvllm install` and `ruvllm uninstall`: the hook and the MCP server in the settings of a coding agent."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ruvllm import InputError
from ruvllm.agents.sources import user_folder
from ruvllm.cli.console import plain
from ruvllm.cli.hook.session import CLIENTS
from ruvllm.cli.hook.settings import MODES, settings_file
from ruvllm.cli.hook.settings_files import Change, apply, diff, in_json, in_text, installed, undo
from ruvllm.cli.options import said_option

_SECONDS = 10  # that a client waits for a hook
# Event -> what of it, as the client's matcher names it.
EVENTS = {
    "claude": {
        "UserPromptSubmit": "",
        "PreToolUse": "Task|Agent|mcp__.*ruvllm.*__(remember|recall)",
        "SubagentStop": "",
        "Stop": "",
        "SessionStart": "",
    },
    "codex": {
        "UserPromptSubmit": "",
        "PreToolUse": ".*spawn_agent",
        "SubagentStop": "",
        "Stop": "",
        "SessionStart": "",
    },
}
_OURS = re.compile(r"(?:^|[/\\'\"])ruvllm(?:\.exe)?['\"]? hook\b")
_CALLED = re.compile(r"(?:/|\b[A-Za-z]:\\)[^\s\"']*\bruvllm(?:\.exe)?(?=['\"\s]|$)")
_MODE = re.compile(rf"--mode[\s\",]+({'|'.join(MODES)})\b")
_client = click.argument("client", type=click.Choice(CLIENTS))
_project = click.option("--project", is_flag=True, help="In the settings of this folder's project, not the user's.")
_dry_run = click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")


@click.command()
@said_option
@_client
@_project
@click.option("--mode", type=click.Choice(MODES), default="shadow", show_default=True, help="What the hook may do.")
@click.option("--mcp/--no-mcp", default=None, help="The MCP server too; where its SDK is installed when left out.")
@_dry_run
def install(client: str, project: bool, mode: str, mcp: bool | None, dry_run: bool) -> None:
    """Write ruvllm's hook and MCP server into the settings of a coding agent.

    What is there stays; the files as they were are kept beside them (*.before-ruvllm). Once more with other options
    changes them. With --project the project's own agents may take any task of it.

    \b
    Examples:
      ruvllm install claude --dry-run
      ruvllm install claude --mode suggest
      ruvllm install codex --project --mode act
    """
    changes = list(_changes(client, project, mode, find_spec("mcp") is not None if mcp is None else mcp))
    if dry_run:
        said = "".join(map(diff, changes))
        click.echo("\n".join(map(_shown, said.splitlines())) if said else "Nothing would change.")
        return
    written = [change.path for change in changes if apply(change, _name(client, project))]
    for path in written:
        click.echo(f"wrote {plain(str(path))}")
    if not written:
        click.echo("Nothing to change.")
    else:
        undoing = f"ruvllm uninstall {client}{' --project' if project else ''}"
        click.echo(f"ruvllm is there in the next session of {client}, in the mode {mode}; `{undoing}` undoes it.")


@click.command()
@said_option
@_client
@_project
@_dry_run
def uninstall(client: str, project: bool, dry_run: bool) -> None:
    """Take back what `ruvllm install` wrote, and nothing else.

    \b
    Examples:
      ruvllm uninstall claude
      ruvllm uninstall codex --project
    """
    changes = list(_changes(client, project, "shadow", True))
    if dry_run:
        for change in changes:
            left = None if change.before is None else change.rest(change.before)
            if left != change.before:
                said = diff(Change(change.path, change.before, left, change.rest))
                click.echo("\n".join(map(_shown, said.splitlines())))
        return
    undone = [change.path for change in changes if undo(change, _name(client, project))]
    for path in undone:
        click.echo(f"took it out of {plain(str(path))}")
    if not undone:
        click.echo("Nothing was installed.")


def stale_hooks() -> dict[str, str]:
    """Clients whose settings, as `install` wrote them for the user, call a program that is gone, and that."""
    found = dict[str, str]()
    for client, path in installed():
        with suppress(OSError, UnicodeDecodeError):
            for match in _CALLED.finditer(Path(path).read_text("utf-8")):
                if client in CLIENTS and not Path(match[0]).exists():
                    found[client] = match[0]
    return found


def reinstall(client: str) -> None:
    """Once more for the user, with the program that is running, in the same mode. Raises InputError, StoreError."""
    texts = [Path(path).read_text("utf-8") for name, path in installed() if name == client and Path(path).exists()]
    mode = next((match[1] for text in texts if (match := _MODE.search(text))), "shadow")
    for change in list(_changes(client, False, mode, any('"mcp"' in text for text in texts))):
        apply(change, client)


def _name(client: str, project: bool) -> str:
    return f"{client} of {Path.cwd()}" if project else client


def _shown(line: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)


def _changes(client: str, project: bool, mode: str, mcp: bool) -> Iterator[Change]:
    """All files that it takes. Raises InputError: one of them cannot be changed."""
    here, user = Path.cwd(), user_folder(client)
    words = ["hook", "--client", client, "--mode", mode]
    program = "ruvllm" if project else _program()
    command = f"{program if project else shlex.quote(program)} {' '.join(words)}"
    server = {"command": program, "args": ["mcp"]}
    if client == "claude":
        yield in_json((here / ".claude" if project else user) / "settings.json", *_hooks(client, command))
        beside = (user if os.environ.get("CLAUDE_CONFIG_DIR") else Path("~").expanduser()) / ".claude.json"
        if mcp:
            yield in_json(here / ".mcp.json" if project else beside, *_server("mcpServers", {"type": "stdio"} | server))
    elif client == "codex":
        folder = here / ".codex" if project else user
        yield in_json(folder / "hooks.json", *_hooks(client, command))
        if mcp:
            yield _codex_server(folder / "config.toml", server)
    else:
        folder = here / ".opencode" if project else user
        yield _opencode_plugin(folder / "plugins" / "ruvllm.js", [program, *words])
        if mcp:
            row = {"type": "local", "command": [program, "mcp"], "enabled": True}
            yield in_json((here if project else user) / "opencode.json", *_server("mcp", row))
    if project:
        yield _trusted(here)


def _program() -> str:
    """The command that is running, by its whole path: a client's PATH may be another."""
    beside = Path(sys.executable).with_name("ruvllm.exe" if os.name == "nt" else "ruvllm")
    return str(beside) if beside.is_file() else "ruvllm"


Edits = tuple[Callable[[dict[str, Any]], None], Callable[[dict[str, Any]], None]]


def _hooks(client: str, command: str) -> Edits:
    """What puts the hooks into a settings object, and what takes them out."""

    def remove(data: dict[str, Any]) -> None:
        hooks = data.get("hooks")
        if hooks is None:
            return
        if not isinstance(hooks, dict):
            raise TypeError("its hooks are no object")
        for event in [event for event in hooks if event in EVENTS[client]]:
            for group in hooks[event]:
                group["hooks"] = [one for one in group.get("hooks", ()) if not _OURS.search(str(one.get("command")))]
            hooks[event] = [group for group in hooks[event] if group["hooks"]]
            if not hooks[event]:
                del hooks[event]
        if not hooks:
            del data["hooks"]

    def merge(data: dict[str, Any]) -> None:
        remove(data)
        hooks = data.setdefault("hooks", {})
        for event, matcher in EVENTS[client].items():
            group = {"matcher": matcher} if matcher else {}
            entry = {"type": "command", "command": command, "timeout": _SECONDS}
            hooks.setdefault(event, []).append(group | {"hooks": [entry]})

    return merge, remove


def _server(key: str, row: dict[str, Any]) -> Edits:
    """What puts the MCP server into a settings object, and what takes it out."""

    def merge(data: dict[str, Any]) -> None:
        data.setdefault(key, {})["ruvllm"] = row

    def remove(data: dict[str, Any]) -> None:
        if key in data and data[key].pop("ruvllm", None) is not None and not data[key]:
            del data[key]

    return merge, remove


def _codex_server(path: Path, server: dict[str, Any]) -> Change:
    block = f"[mcp_servers.ruvllm]\ncommand = {json.dumps(server['command'])}\nargs = {json.dumps(server['args'])}"
    change = in_text(path, block)
    _check_toml(change)
    return change


def _trusted(folder: Path) -> Change:
    """The user's own list of projects whose agents may take any task."""
    path = settings_file()
    table = f"[projects.{json.dumps(str(folder), ensure_ascii=False)}]"
    change = in_text(path, f"{table}\ntrust = true", f" {table}")
    _check_toml(change)
    return change


def _check_toml(change: Change) -> None:
    try:
        tomllib.loads(change.after or "")
    except (ValueError, RecursionError) as error:
        fix = "mend it, or leave the MCP server out with --no-mcp; nothing has been changed"
        raise InputError(f"{change.path} would be no TOML: {error}"[:300], field=str(change.path), fix=fix) from None


_OPENCODE = """// Made by `ruvllm install opencode`: asks `ruvllm hook` at prompts and delegations, never in their way.
import { spawn } from "node:child_process"

const COMMAND = @COMMAND@

const ask = (event) =>
  new Promise((resolve) => {
    const nothing = () => resolve({})
    try {
      const child = spawn(COMMAND[0], COMMAND.slice(1), { stdio: ["pipe", "pipe", "ignore"], timeout: 10_000 })
      let said = ""
      child.stdout.on("data", (piece) => (said += piece))
      child.on("error", nothing)
      child.stdin.on("error", nothing)
      child.on("close", () => {
        try {
          resolve(JSON.parse(said).hookSpecificOutput ?? {})
        } catch {
          nothing()
        }
      })
      child.stdin.end(JSON.stringify(event))
    } catch {
      nothing()
    }
  })

export const Ruvllm = async ({ directory }) => ({
  "chat.message": async (input, output) => {
    const parts = output.parts.filter((part) => part.type === "text" && !part.synthetic)
    const prompt = parts.map((part) => part.text).join("\\n")
    const event = { hook_event_name: "UserPromptSubmit", prompt, cwd: directory, session_id: input.sessionID }
    const { additionalContext } = prompt ? await ask(event) : {}
    const last = parts.at(-1)
    if (additionalContext) last.text += `\\n\\n<system-reminder>\\n${additionalContext}\\n</system-reminder>`
  },
  "tool.execute.before": async (input, output) => {
    if (input.tool !== "task") return
    const event = { hook_event_name: "PreToolUse", tool_name: "task", tool_input: output.args, cwd: directory }
    const { updatedInput } = await ask({ ...event, session_id: input.sessionID })
    if (updatedInput) Object.assign(output.args, updatedInput)
  },
})
"""


def _opencode_plugin(path: Path, command: list[str]) -> Change:
    text = _OPENCODE.replace("@COMMAND@", json.dumps(command))
    resolved = Path(os.path.realpath(path))
    before = resolved.read_text("utf-8", "replace") if resolved.is_file() else None
    head = _OPENCODE.partition("\n")[0]
    if before is not None and not before.startswith(head):
        raise InputError(f"{path} is not ruvllm's", field=str(path), fix="move it aside")
    return Change(resolved, before, text, lambda _: None)
