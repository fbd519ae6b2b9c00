"""Processes that decide beside a server die: requests are answered, and others take their places."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
from waiting import PATIENCE, until

from ruvllm_bench.serve.spawn import spawn


def test_a_worker_that_is_killed_begins_again_and_a_server_that_gets_none_ends(tmp_path: Path) -> None:
    with (
        spawn(tmp_path / "state.db", settings={"RUVLLM_WORKERS": "2", "RUVLLM_RATE": "0"}) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE) as client,
        ThreadPoolExecutor(8) as clients,
    ):
        (parent,) = psutil.Process(server.process.pid).children()
        until(parent.children)
        (first,) = parent.children()

        def ask(i: int) -> tuple[int, int]:
            if i == 30:
                first.kill()
            text = f"varnish violin number {i}"
            given = client.post("/v1/feedback", json={"text": text, "agent": "planner"}) if i % 5 == 0 else None
            found = client.post("/v1/route", json={"text": text, "top": 2})
            return found.status_code, given.status_code if given else 200

        answers = list(clients.map(ask, range(80)))
        assert answers == [(200, 200)] * len(answers)
        until(lambda: [one for one in parent.children() if one != first])
        assert client.get("/stats").json()["feedback"] == 16
        (second,) = (one for one in parent.children() if one != first)
        parent.kill()  # nothing can begin any more
        second.kill()
        assert server.process.wait(PATIENCE) == 2
        assert "a worker ended again and again" in server.log.read_text()
