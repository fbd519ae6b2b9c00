"""Writes what JSON plugin/ holds, and the two marketplaces that list it: a plugin of Claude Code and of Codex.

Its skill and its commands are written by hand, beside that.

python build/plugin.py [--check] [--to FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ruvllm import __version__
from ruvllm.cli.hook.install import EVENTS

__all__ = ["files"]

ROOT = Path(__file__).parent.parent
_ABOUT = "Routes prompts and delegations to the right agent and model, offline, and shows what that saves."
_WORDS = ["routing", "agents", "subagents", "models", "cost"]
_SECONDS = 10


def _json(data: Any) -> str:
    return json.dumps(data, indent=2) + "\n"


def files() -> dict[str, str]:
    """Path below the root -> text."""
    both = {"name": "ruvllm", "version": __version__, "description": _ABOUT, "license": "MIT OR Apache-2.0"}
    both |= {"author": {"name": "ruvllm"}, "keywords": _WORDS}
    hooks = dict[str, Any]()
    for event, matcher in EVENTS["claude"].items():
        theirs = EVENTS["codex"][event]
        group = {"matcher": f"{matcher}|{theirs}"} if matcher else {}
        entry = {"type": "command", "command": "ruvllm hook || true", "timeout": _SECONDS}
        hooks[event] = [group | {"hooks": [entry]}]
    listed = {"name": "ruvllm", "source": "./plugin", "description": _ABOUT}
    claude = {"name": "ruvllm", "owner": {"name": "ruvllm"}, "description": _ABOUT, "plugins": [listed]}
    shown = {"displayName": "ruvllm", "shortDescription": _ABOUT, "category": "Productivity"}
    source = {"source": "local", "path": "./plugin"}
    policy = {"installation": "AVAILABLE", "authentication": "ON_INSTALL"}
    codex = {"name": "ruvllm", "interface": {"displayName": "ruvllm"}, "plugins": [
        {"name": "ruvllm", "source": source, "policy": policy, "category": "Productivity"}
    ]}  # fmt: skip
    return {
        ".claude-plugin/marketplace.json": _json(claude),
        ".agents/plugins/marketplace.json": _json(codex),
        "plugin/.claude-plugin/plugin.json": _json(both),
        "plugin/.codex-plugin/plugin.json": _json(
            both
            | {"skills": "./skills/", "mcpServers": "./.mcp.json", "hooks": "./hooks/hooks.json", "interface": shown}
        ),
        "plugin/.mcp.json": _json({"mcpServers": {"ruvllm": {"command": "ruvllm", "args": ["mcp"]}}}),
        "plugin/hooks/hooks.json": _json({"description": _ABOUT, "hooks": hooks}),
    }


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="whether what is there is what would be written")
    parser.add_argument("--to", type=Path, default=ROOT, metavar="FOLDER", help="in the place of this repository")
    options, stale = parser.parse_args(), list[str]()
    for name, text in files().items():
        path = options.to / name
        if options.check:
            if not path.is_file() or path.read_text("utf-8") != text:
                stale.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    if stale:
        print(f"stale, run `make plugin`: {', '.join(stale)}", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(_main())
