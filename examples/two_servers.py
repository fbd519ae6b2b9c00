"""Two servers with one memory: what one is taught the other knows.

Run: python two_servers.py postgresql://owner@db/ruvllm
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

TASK = {"text": "polish the copper kettle", "agent": "reviewer"}


def ask(url: str, path: str, body: dict[str, object]) -> dict[str, object]:
    request = Request(url + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def server(stack: ExitStack, folder: str, name: str, database: str) -> str:
    """A server's address; it ends with the stack."""
    command = [sys.executable, "-m", "ruvllm.cli", "--state", str(Path(folder) / f"{name}.db"), "serve", "--port", "0"]
    environment = os.environ | {"RUVLLM_SHARED": database}
    more = ["--encoder", "static", "--log-level", "warning"]
    process = subprocess.Popen([*command, *more], env=environment, stdout=subprocess.PIPE, text=True)
    stack.enter_context(process)
    stack.callback(process.terminate)
    assert process.stdout is not None
    return process.stdout.readline().split()[0].rstrip("/")


def main(database: str) -> None:
    subprocess.run([sys.executable, "-m", "ruvllm.cli", "shared", "init", database], check=True)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        first, second = (server(stack, folder, name, database) for name in ("first", "second"))
        ask(first, "/v1/feedback", dict(TASK))
        for _ in range(100):
            found = ask(second, "/v1/route", {"text": TASK["text"]})
            if found["agent"] == TASK["agent"]:
                break
            time.sleep(0.1)
        print(f"taught {first}, asked {second}: {found['agent']} {found['confidence']}")


if __name__ == "__main__":
    main(sys.argv[1])
