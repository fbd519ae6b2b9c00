"""The plugin is what its parts of today make it, and what both clients' manifests ask for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from ruvllm.agents.front_matter import read_fields

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "plugin"


def test_its_json_is_made_of_the_hooks_of_today():
    command = [sys.executable, ROOT / "build" / "plugin.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_manifests_name_what_there_is():
    version = tomllib.loads((ROOT / "core" / "pyproject.toml").read_text())["project"]["version"]
    for client in ("claude", "codex"):
        manifest = json.loads((PLUGIN / f".{client}-plugin" / "plugin.json").read_text())
        assert re.fullmatch(r"[a-z][a-z-]*", manifest["name"])
        assert manifest["version"] == version
        assert len(manifest["description"]) < 200
    for key in ("skills", "mcpServers", "hooks"):
        assert (PLUGIN / manifest[key]).exists()
    for market in (".claude-plugin", ".agents/plugins"):
        (listed,) = json.loads((ROOT / market / "marketplace.json").read_text())["plugins"]
        source = listed["source"]
        assert (ROOT / (source if isinstance(source, str) else source["path"])).resolve() == PLUGIN
    hooks = json.loads((PLUGIN / "hooks" / "hooks.json").read_text())["hooks"]
    commands = [one["command"] for groups in hooks.values() for group in groups for one in group["hooks"]]
    assert set(commands) == {"ruvllm hook || true"}  # where ruvllm is not installed, nobody is stood in the way of


def test_skill_and_commands_say_when_they_are_for():
    for file in (PLUGIN / "skills" / "ruvllm" / "SKILL.md", *PLUGIN.glob("commands/*.md")):
        _, front, body = file.read_text().split("---\n", 2)
        assert 20 < len(str(read_fields(front)["description"])) < 300
        assert body.strip()
