"""`ruvllm bench report`: made-up transcripts of Claude Code and Codex, and how long a report on them takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np

from ruvllm.agents.catalog import builtin_agents
from ruvllm.cli.console import print_json
from ruvllm.cli.options import json_option

_MODELS = ("claude-opus-4-6", "claude-sonnet-4-5", "claude-haiku-4-5")
_PADDING = "The function reads the file and returns its lines. " * 8
_CODEX = 0.2  # share of the sessions
_SECRET = "export API_KEY=sk-live-0123456789abcdef0123456789abcdef"


def write_sessions(folder: Path, count: int, seed: int = 1, asks: int = 6) -> Path:
    """Transcripts of made-up sessions, alike for a seed.

    Args:
        folder: takes `projects` (Claude Code's) and `sessions` (Codex's).
        asks: of a session, on average.
    """
    rng = np.random.default_rng(seed)
    agents = builtin_agents()
    for number in range(count):
        named = [agents[int(rng.integers(len(agents)))] for _ in range(1 + int(rng.poisson(asks - 1)))]
        tasks = [(agent.name, str(rng.choice(agent.examples))) for agent in named]
        at = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=int(rng.integers(60 * 24 * 60)))
        if rng.random() < _CODEX:
            path = folder / "sessions" / f"{at:%Y/%m/%d}" / f"rollout-{number}.jsonl"
            _write(path, _codex(rng, f"codex-{number}", tasks, at))
        else:
            path = folder / "projects" / f"-work-{number % 20}" / f"session-{number}.jsonl"
            _write(path, _claude(rng, path, f"session-{number}", tasks, at, [agent.name for agent in agents]))
    return folder


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


def _usage(rng: np.random.Generator) -> dict[str, int]:
    return {
        "input_tokens": int(rng.integers(50, 3_000)),
        "output_tokens": int(rng.integers(50, 1_500)),
        "cache_read_input_tokens": int(rng.integers(5_000, 60_000)),
        "cache_creation_input_tokens": int(rng.integers(0, 5_000)),
    }


def _claude(
    rng: np.random.Generator, path: Path, session: str, tasks: Sequence[tuple[str, str]], at: datetime, names: list[str]
) -> Iterator[dict[str, Any]]:
    model, calls = str(rng.choice(_MODELS, p=(0.5, 0.3, 0.2))), 0

    def turn(role: str, content: Any, sub: str = "", **more: Any) -> dict[str, Any]:
        nonlocal at
        at += timedelta(seconds=int(rng.integers(1, 60)))
        extra: dict[str, Any] = {"id": f"m{calls}-{at.timestamp():.0f}", "model": model, "usage": _usage(rng)}
        message = {"role": role, "content": content} | (extra if role == "assistant" else {}) | more
        row: dict[str, Any] = {
            "type": role,
            "message": message,
            "sessionId": session,
            "cwd": f"/work/{session[-1]}",
            "version": "2.1",
        }
        row |= {"timestamp": at.isoformat().replace("+00:00", "Z"), "isSidechain": bool(sub)}
        return row | ({"attributionAgent": sub} if sub and role == "assistant" else {})

    for right, task in tasks:
        secret = f" with {_SECRET}" if rng.random() < 0.05 else ""
        yield turn("user", f"{task}{secret}")
        if rng.random() < 0.3:
            to = right if rng.random() < 0.6 else str(rng.choice(names))
            calls += 1
            given = {"description": "part", "prompt": task, "subagent_type": to}
            yield turn("assistant", [{"type": "tool_use", "id": f"c{calls}", "name": "Agent", "input": given}])
            rows = [turn("user", task, to), turn("assistant", _PADDING, to, stop_reason="end_turn")]
            _write(path.with_suffix("") / "subagents" / f"agent-{calls}.jsonl", iter(rows))
            yield turn("user", [{"type": "tool_result", "tool_use_id": f"c{calls}", "content": "Done."}])
        for _ in range(int(rng.integers(0, 4))):
            calls += 1
            given = {"file_path": f"/work/{calls}.py", "old_string": "a", "new_string": _PADDING}
            yield turn("assistant", [{"type": "tool_use", "id": f"c{calls}", "name": "Edit", "input": given}])
            yield turn("user", [{"type": "tool_result", "tool_use_id": f"c{calls}", "content": _PADDING}])
        if rng.random() < 0.4:
            calls += 1
            good = bool(rng.random() < 0.7)
            given = {"command": "python -m pytest -q"}
            yield turn("assistant", [{"type": "tool_use", "id": f"c{calls}", "name": "Bash", "input": given}])
            said = "12 passed in 0.4s" if good else "2 failed, 10 passed in 0.5s"
            block = {"type": "tool_result", "tool_use_id": f"c{calls}", "content": said, "is_error": not good}
            yield turn("user", [block])
        yield turn("assistant", [{"type": "text", "text": _PADDING}], stop_reason="end_turn")


def _codex(
    rng: np.random.Generator, session: str, tasks: Sequence[tuple[str, str]], at: datetime
) -> Iterator[dict[str, Any]]:
    spent = {"input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0}

    def row(kind: str, **payload: Any) -> dict[str, Any]:
        nonlocal at
        at += timedelta(seconds=int(rng.integers(1, 60)))
        return {"timestamp": at.isoformat().replace("+00:00", "Z"), "type": kind, "payload": payload}

    yield row("session_meta", id=session, cwd="/work/codex")
    yield row("turn_context", model="gpt-5-codex", cwd="/work/codex")
    for number, (_, task) in enumerate(tasks):
        yield row("event_msg", type="user_message", message=task)
        call = json.dumps({"cmd": "cargo test"})
        yield row("response_item", type="function_call", name="exec_command", call_id=f"c{number}", arguments=call)
        code = int(rng.random() < 0.3)
        said = f"Process exited with code {code}\nOutput:\n{'test result: FAILED' if code else 'test result: ok'}"
        yield row("response_item", type="function_call_output", call_id=f"c{number}", output=said)
        usage = _usage(rng)
        spent["cached_input_tokens"] += usage["cache_read_input_tokens"]
        spent["input_tokens"] += usage["cache_read_input_tokens"] + usage["input_tokens"]
        spent["output_tokens"] += usage["output_tokens"]
        yield row("event_msg", type="token_count", info={"total_token_usage": dict(spent)})
        yield row("event_msg", type="task_complete")


@click.command()
@click.option("--sessions", type=click.IntRange(1), default=1_000, show_default=True)
@json_option
def report(sessions: int, as_json: bool) -> None:
    """How long `ruvllm report` takes on made-up sessions, and how much memory, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        write_sessions(Path(folder), sessions)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.jsonl"))
        environment = os.environ | {"HOME": folder, "USERPROFILE": folder, "APPDATA": folder}
        command = [sys.executable, "-m", "ruvllm.cli", "report", "--html", f"{folder}/report.html"]
        start = time.perf_counter()
        done = subprocess.Popen([*command, "--transcripts", folder], env=environment, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(done.pid, 0)
        took = time.perf_counter() - start
    if status:
        raise click.ClickException("the report failed")
    measured = {"sessions": sessions, "bytes": size, "seconds": took, "cpu_seconds": used.ru_utime + used.ru_stime}
    measured["peak_mb"] = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    if as_json:
        print_json(measured)
    else:
        click.echo(
            f"{sessions:,} sessions, {size / 1e6:.0f} MB: {took:.1f} s ({measured['cpu_seconds']:.1f} s of processor), "
            f"at most {measured['peak_mb']:.0f} MB of memory"
        )
