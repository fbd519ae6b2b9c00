"""The helper that answers hooks at once: by whom, for whom, and that nobody misses it where it is gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from ruvllm.cli.hook import resident

pytestmark = pytest.mark.skipif(sys.platform == "win32" or not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")

EVENT = json.dumps({"hook_event_name": "UserPromptSubmit", "prompt": "prune the apple trees and the hedge"}).encode()


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    agents = tmp_path / "home" / "work" / ".claude" / "agents"
    agents.mkdir(parents=True)
    for name, text in (("gardener", "Plants flowers, prunes hedges and trees."), ("baker", "Bakes bread and cakes.")):
        (agents / f"{name}.md").write_text(f"---\nname: {name}\ndescription: {text}\n---\nGo.\n")
    with tempfile.TemporaryDirectory(prefix="r") as short:  # a socket's path may not be long
        made = {"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": short, "RUVLLM_HOOK_IDLE": "60"}
        yield {name: value for name, value in os.environ.items() if not name.startswith(("RUVLLM", "CLAUDE"))} | made
        for lock in Path(short).glob("ruvllm-hook/*.lock"):
            for pid in helpers(lock):
                os.kill(pid, signal.SIGTERM)


def helpers(lock: Path) -> list[int]:
    """Processes that have the lock open."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.path.samefile(link, lock) for link in (folder / "fd").iterdir() if link.exists()):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def hook(environment: dict[str, str], *args: str, event: bytes = EVENT, module: str = "ruvllm.cli") -> bytes:
    """What the command prints, as a client runs it."""
    work = Path(environment["HOME"]) / "work"
    done = subprocess.run(
        [sys.executable, "-m", module, "hook", *args],
        input=event, env=environment, cwd=work, capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stderr == b""
    return done.stdout


def listening(environment: dict[str, str]) -> Path:
    """The socket, when somebody answers there."""
    folder = Path(environment["XDG_RUNTIME_DIR"]) / "ruvllm-hook"

    def answers() -> bool:
        for path in folder.glob("*.sock"):
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(str(path))
                except OSError:
                    continue
                return True
        return False

    until(answers)
    return next(folder.glob("*.sock"))


def only_the_helper(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """With numpy gone from it, this process cannot answer by itself."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['numpy'] = None; sys.modules['click'] = None")
    return environment | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{environment.get('PYTHONPATH', '')}"}


def test_the_first_call_starts_it_and_later_ones_are_answered_by_it(environment: dict[str, str], tmp_path: Path):
    first = hook(environment)
    path = listening(environment)
    assert b"`gardener`" in first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert hook(only_the_helper(environment, tmp_path)) == first
    for hostile in (b"", b"garbage", b"[" * 100_000, b"\xff" * 5_000, b" " * 16_000_001, b'{"prompt": 3}'):
        assert hook(environment, event=hostile) == b""
    assert hook(environment, "--no-such-option", "left", "over") == first
    log = Path(environment["HOME"]) / ".config" / "ruvllm" / "hook.jsonl"
    before = log.read_text().count("\n")
    assert hook(environment, "--mode", "shadow") == b""
    assert log.read_text().count("\n") == before + 1  # and this process has not answered once more
    (pid,) = helpers(path.with_suffix(".lock"))

    os.kill(pid, signal.SIGKILL)  # a crash leaves the socket behind
    until(lambda: helpers(path.with_suffix(".lock")) == [])
    assert path.exists()
    assert hook(environment) == first
    assert listening(environment) == path
    assert hook(only_the_helper(environment, tmp_path)) == first

    path.unlink()  # whoever is not found any more ends with the next that it hears of, and stands in nobody's way
    assert hook(environment) == first


def test_it_is_told_of_changes_and_asks_the_state_that_the_client_names(environment: dict[str, str], tmp_path: Path):
    hook(environment)
    listening(environment)
    thin = only_the_helper(environment, tmp_path)
    odd = json.dumps({"prompt": "look at the frobnicator again"}).encode()
    assert hook(thin, event=odd) == b""
    agents = Path(environment["HOME"]) / "work" / ".claude" / "agents"
    state = str(tmp_path / "other.db")
    for _ in range(2):
        command = ["feedback", "--state", state, "--agents", str(agents), "look at the frobnicator again", "baker"]
        subprocess.run([sys.executable, "-m", "ruvllm.cli", *command], env=environment, check=True, capture_output=True)
    assert b"`baker`" in hook(thin | {"RUVLLM_STATE": state}, event=odd)
    assert hook(thin, event=odd) == b""
    (agents / "smith.md").write_text("---\nname: smith\ndescription: Repairs frobnicators.\n---\nGo.\n")
    assert b"`smith`" in hook(thin, event=json.dumps({"prompt": "repair the frobnicators"}).encode())


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_who_does_not_want_one_gets_none(environment: dict[str, str], way: str):
    args = ["--no-resident"] if way == "argument" else []
    assert b"`gardener`" in hook(environment | ({} if args else {"RUVLLM_HOOK_RESIDENT": "0"}), *args)
    assert not (Path(environment["XDG_RUNTIME_DIR"]) / "ruvllm-hook").exists()


def test_it_ends_when_nothing_comes(environment: dict[str, str]):
    hook(environment | {"RUVLLM_HOOK_IDLE": "1"})
    folder = Path(environment["XDG_RUNTIME_DIR"]) / "ruvllm-hook"
    until(lambda: list(folder.glob("*.lock")) != [])
    (lock,) = folder.glob("*.lock")
    until(lambda: helpers(lock) == [])
    assert list(folder.glob("*.sock")) == []


def test_a_folder_that_others_can_enter_is_not_trusted(environment: dict[str, str]):
    folder = Path(environment["XDG_RUNTIME_DIR"]) / "ruvllm-hook"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    assert b"`gardener`" in hook(environment)
    os.environ["XDG_RUNTIME_DIR"] = environment["XDG_RUNTIME_DIR"]
    path = resident.socket_path()
    del os.environ["XDG_RUNTIME_DIR"]
    assert path is not None
    with socket.socket(socket.AF_UNIX) as impostor:
        impostor.bind(path)
        impostor.listen()
        assert b"`gardener`" in hook(environment)


@pytest.mark.parametrize("answer", [b"\x05\x00\x00\x00ab", b"\xff\xff\xff\xff"])
def test_half_an_answer_is_none(environment: dict[str, str], answer: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", environment["XDG_RUNTIME_DIR"])
    path = resident.socket_path()
    assert path is not None
    Path(path).parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as broken:
        broken.bind(path)
        broken.listen()
        work = Path(environment["HOME"]) / "work"
        command = [sys.executable, "-m", "ruvllm.cli", "hook"]
        client = subprocess.Popen(
            command, env=environment, cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert client.stdin is not None
        client.stdin.write(EVENT)
        client.stdin.close()
        client.stdin = None
        connection, _ = broken.accept()
        with connection:
            resident.read_frame(connection)
            assert resident.read_frame(connection) == EVENT
            connection.sendall(answer)
        said, wrong = client.communicate(timeout=120)
    assert (client.returncode, wrong) == (0, b"")
    assert b"`gardener`" in said


def test_the_client_loads_nothing_that_it_does_not_need(environment: dict[str, str]):
    hook(environment)
    listening(environment)
    code = (
        "import os, sys; before = set(sys.modules); sys.argv = ['ruvllm', 'hook'];"
        "from ruvllm.cli.__main__ import run; run();"
        "sys.stderr.write(' '.join(sorted(set(sys.modules) - before)))"
    )
    work = Path(environment["HOME"]) / "work"
    done = subprocess.run([sys.executable, "-c", code], input=EVENT, env=environment, cwd=work, capture_output=True)
    assert b"`gardener`" in done.stdout
    own = {"ruvllm", "ruvllm.cli", "ruvllm.cli.__main__", "ruvllm.cli.hook", "ruvllm.cli.hook.resident", "__future__"}
    assert set(done.stderr.decode().split()) <= own | {"_socket", "binascii"}
