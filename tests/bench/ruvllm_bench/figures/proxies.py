"""Whole answers through ruvllm's proxy, through LiteLLM's, and directly from the same stand-in for an LLM server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from secrets import token_hex
from statistics import median
from time import perf_counter, sleep
from urllib.parse import urlsplit

from ruvllm import RuvllmError
from ruvllm_bench.figures.peers import Peer
from ruvllm_bench.serve.load import prompts
from ruvllm_bench.serve.slow_backend import slow_backend
from ruvllm_bench.serve.spawn import running

_WORDS, _CONNECTIONS, _SECONDS, _ROUNDS = 20, 16, 1.5, 3
_READY_S = 300.0
_KEY = f"sk-{token_hex(24)}"  # LiteLLM does not start without one


@dataclass(frozen=True, slots=True)
class Whole:
    """Milliseconds of an answer, one at a time, and answers a second over many connections: medians."""

    p50_ms: float
    rate: float


def proxies(litellm: Peer | None) -> tuple[Whole, Whole, Whole | None]:
    """(directly, by ruvllm, by LiteLLM), asked in turn. Raises RuvllmError: one does not start or answer."""
    with ExitStack() as stack:
        url = stack.enter_context(slow_backend(0, _WORDS))
        tier = {"KIND": "openai", "URL": url, "MODEL": "stand-in"}
        settings = {f"RUVLLM_INFERENCE_SMALL_{name}": value for name, value in tier.items()}
        quiet = {"RUVLLM_LOG_LEVEL": "warning", "RUVLLM_RATE": "0"}
        server = stack.enter_context(running("static", settings | quiet))
        sides = [urlsplit(url).netloc, f"127.0.0.1:{server.port}"]
        if litellm is not None:
            sides.append(stack.enter_context(_litellm(litellm, url)))
        asked = prompts()
        for side in sides:
            _alone(side, asked, 0.5)
        alone, many = list[list[float]](), list[list[float]]()
        for _ in range(_ROUNDS):
            alone.append([_alone(side, asked, _SECONDS) for side in sides])
            many.append([_rate(side, asked) for side in sides])
    found = [Whole(*map(median, pair)) for pair in zip(zip(*alone, strict=True), zip(*many, strict=True), strict=True)]
    return found[0], found[1], found[2] if litellm is not None else None


def _asking(side: str, asked: Iterator[str]) -> Callable[[], float]:
    """Asks over one connection; seconds of an answer."""
    connection = HTTPConnection(side, timeout=60)

    def ask() -> float:
        body = {"model": "auto", "messages": [{"role": "user", "content": next(asked)}]}
        headers = {"content-type": "application/json", "authorization": f"Bearer {_KEY}"}
        began = perf_counter()
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, HTTPException) as error:
            raise RuvllmError(f"{side} broke off: {error}", field="bench", fix="leave it out") from None
        if answer.status != 200:
            raise RuvllmError(f"{side} answered {answer.status}: {said[:200]!r}", field="bench", fix="leave it out")
        return perf_counter() - began

    return ask


def _alone(side: str, asked: Iterator[str], seconds: float) -> float:
    ask, times, end = _asking(side, asked), list[float](), perf_counter() + seconds
    while perf_counter() < end:
        times.append(ask())
    return median(times) * 1e3


def _rate(side: str, asked: Iterator[str]) -> float:
    end = perf_counter() + _SECONDS
    texts = [[next(asked) for _ in range(2_000)] for _ in range(_CONNECTIONS)]

    def client(mine: list[str]) -> int:
        ask, count = _asking(side, iter(mine)), 0
        while perf_counter() < end and count < len(mine):
            ask()
            count += 1
        return count

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return sum(pool.map(client, texts)) / _SECONDS


@contextmanager
def _litellm(peer: Peer, url: str) -> Iterator[str]:
    """LiteLLM's proxy before the same server, as its documentation starts it, without a database."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        model = {"model": "openai/stand-in", "api_base": url, "api_key": "none"}
        settings = {"model_list": [{"model_name": "auto", "litellm_params": model}]}
        config.write_text(json.dumps(settings | {"general_settings": {"master_key": _KEY}}), "utf-8")  # JSON is YAML
        command = [str(peer.python.with_name("litellm")), "--config", str(config), "--host", "127.0.0.1"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--port", str(port), "--num_workers", "1"], env=environment, stdout=out, stderr=out
            )
        try:
            end = perf_counter() + _READY_S
            while not _answers(port):
                if process.poll() is not None or perf_counter() > end:
                    said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                    raise RuvllmError(f"LiteLLM's proxy does not start: {said[-1][:200]}", field="peers", fix="see it")
                sleep(0.2)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/liveliness")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
