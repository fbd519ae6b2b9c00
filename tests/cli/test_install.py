"""Settings of coding agents: written beside what is there, and taken back to the byte."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ruvllm.cli.main import main

THEIRS = {
    "model": "opus",
    "hooks": {
        "PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "check.sh"}]}],
        "Stop": [{"hooks": [{"type": "command", "command": "say done"}]}],
    },
    "umlaut": "ä\u2028",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def run(*args: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == status, result.output
    return result


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commands(settings: dict[str, Any], event: str) -> list[str]:
    return [one["command"] for group in settings["hooks"][event] for one in group["hooks"]]


SETTINGS = {
    "claude": ".claude/settings.json",
    "codex": ".codex/hooks.json",
    "opencode": ".config/opencode/opencode.json",
}


@pytest.mark.parametrize("client", SETTINGS)
@pytest.mark.parametrize("before", [None, "", "{}", json.dumps(THEIRS), json.dumps(THEIRS, indent=7) + "\n\n"])
@pytest.mark.parametrize("project", [False, True])
def test_what_was_there_comes_back_to_the_byte(home: Path, client: str, before: str | None, project: bool):
    root, where = home / "work" if project else home, SETTINGS[client]
    path = root / (where.rpartition("/")[2] if project and client == "opencode" else where)
    if before is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before.encode())
    there = files(home)
    args = [client, "--mcp", *(["--project"] if project else [])]
    assert "+++" in run("install", *args, "--dry-run").output
    assert files(home) == there
    run("install", *args)
    installed = files(home)
    assert "Nothing to change" in run("install", *args).output
    assert files(home) == installed
    run("install", *args, "--mode", "act")
    assert files(home) != installed
    run("uninstall", *args[::2] if project else args[:1], "--dry-run")
    run("uninstall", *args[::2] if project else args[:1])
    assert files(home) == there
    assert "Nothing was installed" in run("uninstall", *args[::2] if project else args[:1]).output


def test_hooks_stand_beside_those_of_others(home: Path):
    path = home / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text(json.dumps(THEIRS))
    path.chmod(0o640)
    run("install", "claude", "--mode", "suggest")
    settings = json.loads(path.read_text())
    assert settings["model"] == "opus"
    assert settings["hooks"]["PreToolUse"][0] == THEIRS["hooks"]["PreToolUse"][0]  # type: ignore[index]
    assert settings["hooks"]["PreToolUse"][1]["matcher"].startswith("Task|Agent|mcp__")
    assert commands(settings, "Stop")[0] == "say done"
    for event in ("UserPromptSubmit", "PreToolUse", "SubagentStop", "Stop", "SessionStart"):
        assert commands(settings, event)[-1].endswith("ruvllm hook --client claude --mode suggest")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    backup = path.with_name("settings.json.before-ruvllm")
    assert json.loads(backup.read_text()) == THEIRS
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600


def test_what_came_after_it_stays_when_it_goes(home: Path):
    path = home / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text(json.dumps(THEIRS))
    run("install", "claude")
    settings = json.loads(path.read_text())
    settings["theme"] = "dark"
    settings["hooks"]["Stop"].append({"hooks": [{"type": "command", "command": "ring the bell"}]})
    path.write_text(json.dumps(settings))
    run("uninstall", "claude")
    left = json.loads(path.read_text())
    assert left["theme"] == "dark"
    assert commands(left, "Stop") == ["say done", "ring the bell"]
    assert "ruvllm" not in path.read_text()
    assert left.keys() - {"theme"} == THEIRS.keys()


def test_a_link_to_a_file_elsewhere_stays_a_link(home: Path):
    (home / "dotfiles").mkdir()
    real = home / "dotfiles" / "settings.json"
    real.write_text("{}")
    (home / ".claude").mkdir()
    (home / ".claude" / "settings.json").symlink_to(real)
    run("install", "claude", "--no-mcp")
    assert (home / ".claude" / "settings.json").is_symlink()
    assert "ruvllm" in real.read_text()
    run("uninstall", "claude")
    assert real.read_text() == "{}"


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"hooks": []}', '{"hooks": {"Stop": 3}}', '{"hooks": {"Stop": [7]}}', "\xff"]
)
def test_settings_that_cannot_be_read_are_left_alone(home: Path, text: str):
    path = home / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    there = files(home)
    result = run("install", "claude", status=2)
    assert "settings.json" in result.output
    assert files(home) == there


def test_codex_gets_its_server_where_its_file_allows_it(home: Path):
    path = home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text('model = "gpt-5"\n[mcp_servers.other]\ncommand = "x"')
    run("install", "codex", "--mcp")
    read = tomllib.loads(path.read_text())
    assert read["model"] == "gpt-5"
    assert set(read["mcp_servers"]) == {"other", "ruvllm"}
    run("uninstall", "codex")
    assert path.read_text() == 'model = "gpt-5"\n[mcp_servers.other]\ncommand = "x"'
    path.write_text("mcp_servers = {}")
    there = files(home)
    assert "--no-mcp" in run("install", "codex", "--mcp", status=2).output
    assert files(home) == there


def test_each_project_that_is_installed_into_is_trusted_until_it_is_not(home: Path, monkeypatch: pytest.MonkeyPatch):
    run("install", "claude", "--project")
    (home / "other").mkdir()
    monkeypatch.chdir(home / "other")
    run("install", "claude", "--project")
    (settings,) = [Path(name) for name in files(home) if name.endswith("hook.toml")]
    assert len(tomllib.loads((home / settings).read_text())["projects"]) == 2
    run("uninstall", "claude", "--project")
    assert tomllib.loads((home / settings).read_text())["projects"] == {str(home / "work"): {"trust": True}}


def test_opencodes_plugin_asks_the_hook(home: Path):
    """In Node, as opencode loads it, over agents of opencode's own form."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    agents = home / "work" / ".opencode" / "agents"
    agents.mkdir(parents=True)
    for name, text in (("gardener", "Plants flowers, prunes hedges and trees."), ("baker", "Bakes bread and cakes.")):
        (agents / f"{name}.md").write_text(f"---\ndescription: {text}\nmode: subagent\n---\nGo.\n")
    run("install", "opencode", "--no-mcp", "--mode", "act")
    plugin = home / ".config" / "opencode" / "plugins" / "ruvllm.js"
    page = f"""
import {{ Ruvllm }} from {json.dumps(plugin.as_uri())}
const hooks = await Ruvllm({{ directory: {json.dumps(str(home / "work"))} }})
const text = "prune the apple trees and the hedge"
const output = {{ args: {{ prompt: text, subagent_type: "general", description: "d" }} }}
await hooks["tool.execute.before"]({{ tool: "task", sessionID: "s" }}, output)
const message = {{ parts: [{{ type: "text", text }}] }}
await hooks["chat.message"]({{ sessionID: "s" }}, message)
console.log(JSON.stringify([output.args, message.parts[0].text]))
"""
    plugin.with_suffix(".mjs").write_text(plugin.read_text().replace("ruvllm.js", "ruvllm.mjs"))
    page = page.replace("ruvllm.js", "ruvllm.mjs")
    environment = os.environ | {"RUVLLM_HOOK_RESIDENT": "0"}
    command = [node, "--input-type=module", "-e", page]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    args, prompt = json.loads(done.stdout)
    assert args == {"prompt": "prune the apple trees and the hedge", "subagent_type": "gardener", "description": "d"}
    assert "`gardener`" in prompt
