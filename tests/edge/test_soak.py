"""`ruvllm bench soak` and what `ruvllm bench serve` measures beside the rate, for a short while."""

from __future__ import annotations

import asyncio
import json
import sys

import httpx
import pytest
from click.testing import CliRunner
from waiting import PATIENCE

from ruvllm.cli.main import main
from ruvllm_bench.serve import soak
from ruvllm_bench.serve.crash import Crashes
from ruvllm_bench.serve.footprint import footprint
from ruvllm_bench.serve.slow_backend import slow_backend
from ruvllm_bench.serve.soak import Soaked
from ruvllm_bench.serve.spawn import running
from ruvllm_bench.serve.streams import streamed
from ruvllm_bench.serve.traffic import Traffic, settings_before


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_quarter_of_a_minute_of_everything():
    answer = CliRunner().invoke(main, ["bench", "soak", "--minutes", "0.25", "--kills", "1", "--json"])
    found = json.loads(answer.stdout.splitlines()[-1])
    assert (found["errors"], found["problems"]) == (0, [])
    assert found["requests"] > 0
    assert (found["crashes"]["lost"], found["crashes"]["damaged"]) == (0, 0)
    assert found["crashes"]["written"] >= 20
    if sys.platform == "linux":
        assert 20 < found["warm_mb"] < 350  # how much it grows, so short a run does not tell
    assert answer.exit_code == (0 if found["met"] else 1)


def test_every_kind_of_traffic_is_there_and_wrong_answers_are_counted():
    with slow_backend(0, 3) as url, running(settings=settings_before(url)) as server:
        traffic = Traffic(server.url, writes=100)
        tally = asyncio.run(traffic.run(4, 0, until=lambda tally: len(tally.asked) == 17))
        assert (tally.wrong, tally.first) == ({}, [])
        server.kill()
        tally = asyncio.run(Traffic(server.url).run(1, 0, until=lambda tally: tally.asked.total() > 0))
    assert sum(tally.wrong.values()) == sum(tally.asked.values()) > 0
    assert tally.first


@pytest.mark.parametrize(
    ("change", "met"),
    [({}, True), ({"errors": 1}, False), ({"end_mb": 106.0}, False), ({"crashes": Crashes(1, 9, 1, 0)}, False),
     ({"crashes": Crashes(1, 9, 0, 1)}, False), ({"warm_mb": None}, True)],
)  # fmt: skip
def test_a_promise_that_is_not_kept_is_seen(change: dict, met: bool):
    good = {"minutes": 1, "requests": 9, "errors": 0, "problems": (), "warm_mb": 100.0, "end_mb": 104.0}
    assert Soaked(**{**good, "crashes": Crashes(1, 9, 0, 0), **change}).met is met


def test_growth_is_between_the_warm_up_and_the_end():
    seen = [200.0] * 40 + [100.0] * 100 + [110.0] * 60
    assert soak._sizes(seen) == (100.0, 110.0)
    assert soak._sizes(seen[:100]) == (None, None)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory")
@pytest.mark.parametrize("text", ["{} " + "fix the login page now " * 39_000, "{}" + "q" * 900_000])
def test_prompts_of_a_megabyte_do_not_pile_up(text: str):
    with running(settings={"RUVLLM_LOG_LEVEL": "warning"}) as server:
        client = httpx.Client(base_url=server.url, timeout=PATIENCE)

        def ask(numbers: range) -> float:
            for i in numbers:
                assert client.post("/v1/route", json={"text": text.format(i)}).status_code == 200
            return server.rss() or 0.0

        before = ask(range(5))
        assert ask(range(5, 30)) - before < 12  # MB; kept, they would be 22


def test_streams_before_a_slow_backend_are_whole():
    found = streamed(20, 0.5)
    assert (found.whole, found.errors) == (20, 0)
    assert found.alone_ms > 0
    assert found.beside_ms > 0


def test_the_footprint_is_measured():
    found = footprint(500)
    assert found.memories == 500
    assert found.ready_s > 0
    if sys.platform == "linux" and found.rss_mb is not None:
        assert 50 < found.rss_mb < 350
