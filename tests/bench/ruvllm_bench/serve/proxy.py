"""`ruvllm bench proxy`: what the server adds to an answer of an LLM server behind it, and what a decision takes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from statistics import median
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import click

from ruvllm import RuvLLM
from ruvllm.cli.console import number, print_json, show_table, waiting
from ruvllm.cli.options import json_option
from ruvllm_bench.serve.floor import floor
from ruvllm_bench.serve.load import prompts
from ruvllm_bench.serve.slow_backend import slow_backend
from ruvllm_bench.serve.spawn import running

_WORDS = 200  # events of a stream
_OPTIONS = 77
_FIRST_MS, _EVENT_MS, _PROCESS_MS, _HTTP_MS = 1.0, 0.3, 0.5, 1.5


@dataclass(frozen=True, slots=True)
class Added:
    """Medians, milliseconds.

    Attributes:
        first: from a request to the first byte of its answer; event: for each one after it.
        direct_first, direct_event: the same without the server.
        relay_first, relay_event: by uvicorn and httpx that only send on.
        decision, decision_http: a choice among 77 options about a state that was not seen before.
    """

    direct_first: float
    relay_first: float
    first: float
    direct_event: float
    relay_event: float
    event: float
    decision: float
    decision_http: float

    @property
    def added_first(self) -> float:
        """By the server."""
        return self.first - self.direct_first

    @property
    def added_event(self) -> float:
        """By the server."""
        return self.event - self.direct_event


@click.command("proxy")
@click.option("--requests", type=click.IntRange(3, 100_000), default=200, show_default=True, help="Of each kind.")
@click.option("--encoder", type=click.Choice(["static", "ruvltra", "cascade"]), default="static", show_default=True)
@json_option
def bench_proxy(requests: int, encoder: str, as_json: bool) -> None:
    """Ask a stand-in for an LLM server directly and through ruvllm, in turn, and compare; then time decisions.

    The stand-in answers at once, in a process of its own, with a stream of 200 words. A bare relay is asked in turn
    with both: uvicorn and httpx, which send on what comes and do nothing else. The promises are for the static encoder.

    \b
    Examples:
      ruvllm bench proxy
      ruvllm bench proxy --requests 1000 --json
    """
    with waiting("measuring"):
        added = _measured(requests, encoder)
    rows = [
        _row("to the first event", added.direct_first, added.relay_first, added.first, added.added_first, _FIRST_MS),
        _row("each event after it", added.direct_event, added.relay_event, added.event, added.added_event, _EVENT_MS),
        _row("a choice among 77, in process", None, None, added.decision, added.decision, _PROCESS_MS),
        _row("a choice among 77, over HTTP", None, None, added.decision_http, added.decision_http, _HTTP_MS),
    ]
    heads = ("Median", "Directly", "Bare relay", "Through ruvllm", "Added", "Promise", "")
    show_table(f"{requests} requests of each kind, {encoder}, milliseconds", heads, rows, right=heads[1:6])
    if as_json:
        print_json(asdict(added) | {"added_first": added.added_first, "added_event": added.added_event})


def _row(
    name: str, direct: float | None, relay: float | None, through: float, added: float, most: float
) -> tuple[str, ...]:
    mark = "pass" if added <= most else "short"
    return name, number(direct, 3), number(relay, 3), number(through, 3), number(added, 3), f"<= {most:g}", mark


def _measured(requests: int, encoder: str) -> Added:
    asked = prompts()
    with slow_backend(0, _WORDS) as url:
        tier = {"KIND": "openai", "URL": url, "MODEL": "stand-in"}
        settings = {f"RUVLLM_INFERENCE_SMALL_{name}": value for name, value in tier.items()}
        quiet = {"RUVLLM_LOG_LEVEL": "warning", "RUVLLM_RATE": "0"}
        with running(encoder, settings=settings | quiet) as server, floor(url) as relay:
            addresses = urlsplit(url).netloc, f"127.0.0.1:{relay}", f"127.0.0.1:{server.port}"
            sides = [HTTPConnection(address, timeout=60) for address in addresses]
            through = sides[-1]
            for text in _some(asked, 10):  # before a new process is as fast as it will be
                for connection in sides:
                    _stream(connection, text)
            times = [[_stream(connection, text) for connection in sides] for text in _some(asked, requests)]
            http = [
                _timed(lambda text=text: _post(through, "/v1/systemone", _question(text)))
                for text in _some(asked, requests + 5)
            ]
    with RuvLLM(encoder=encoder) as llm:
        inside = [
            _timed(lambda text=text: llm.decide(text, _question(text)["questions"]))
            for text in _some(asked, requests + 5)
        ]
    medians = [median(of[side][i] for of in times) for i in (0, 1) for side in range(3)]
    return Added(*(*medians, median(inside[5:]), median(http[5:])))


def _some(asked: Any, count: int) -> list[str]:
    return [next(asked) for _ in range(count)]


def _question(text: str) -> dict[str, Any]:
    options = {f"desk {i}": f"What belongs to desk number {i}" for i in range(_OPTIONS)}
    return {
        "model": "auto",
        "state": text,
        "questions": {"desk": {"type": "choice", "instructions": "Whose?", "criteria": options}},
    }


def _timed(work: Any) -> float:
    began = perf_counter()
    work()
    return (perf_counter() - began) * 1_000


def _post(connection: HTTPConnection, path: str, body: dict[str, Any]) -> None:
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200:
        raise click.ClickException(f"{path} answered {answer.status}: {said[:300]!r}")


def _stream(connection: HTTPConnection, text: str) -> tuple[float, float]:
    """(milliseconds to the first piece of an answer, and for each event after it)."""
    body = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": text}]}
    data = json.dumps(body)
    began = perf_counter()
    connection.request("POST", "/v1/chat/completions", data, {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.readline()
    first = perf_counter()
    rest = answer.read()
    ended = perf_counter()
    if b"[DONE]" not in rest:
        raise click.ClickException("a stream was not whole")
    return (first - began) * 1_000, (ended - first) * 1_000 / rest.count(b"data:")
