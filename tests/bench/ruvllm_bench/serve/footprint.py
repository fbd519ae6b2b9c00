"""How soon a server with many memories is ready, and how large it is with RuvLTRA loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

from ruvllm import RuvLLM
from ruvllm.state.record import Memory
from ruvllm_bench.serve.load import prompts
from ruvllm_bench.serve.spawn import Spawned, spawn

_STARTS = 3
_BATCH = 1_000
_ASKED = 100


@dataclass(frozen=True, slots=True)
class Footprint:
    """What was measured.

    Attributes:
        ready_s: from the start of the process to ready, the median of a few.
        rss_mb: resident memory with RuvLTRA in use; None where it or the measure is not there.
    """

    memories: int
    ready_s: float
    rss_mb: float | None


def footprint(memories: int) -> Footprint:
    """Start servers on a file with so many memories. Raises RuvllmError: one does not start."""
    with TemporaryDirectory() as folder:
        state = Path(folder) / "state.db"
        _fill(state, memories)
        started = []
        for _ in range(_STARTS):
            with spawn(state) as server:
                started.append(server.started)
        rss = None
        if find_spec("onnxruntime") is not None:
            with spawn(state, "ruvltra", {"RUVLLM_LOG_LEVEL": "warning"}) as server:
                _use(server)
                rss = server.rss()
    return Footprint(memories, round(median(started), 3), None if rss is None else round(rss, 1))


def _fill(state: Path, memories: int) -> None:
    """With texts, not only vectors: what is measured is a file as it is in use."""
    texts = prompts()
    with RuvLLM(encoder="static", state=state) as llm:
        for start in range(0, memories, _BATCH):
            batch = list(islice(texts, min(_BATCH, memories - start)))
            llm.memory.add_encoded([Memory(text) for text in batch], llm.embed(batch))


def _use(server: Spawned) -> None:
    """Until everything that is loaded with the first uses has been."""
    for text in islice(prompts(), _ASKED):
        _post(server, "/v1/route", {"text": text})
        _post(server, "/v1/memory/search", {"query": text})
    _post(server, "/v1/memory", {"memories": [{"text": "The boiler is serviced in May."}]})
    _post(server, "/v1/query", {"query": "When is the boiler serviced?"})


def _post(server: Spawned, path: str, body: object) -> None:
    headers = {"content-type": "application/json"}
    with urlopen(Request(server.url + path, json.dumps(body).encode(), headers), timeout=60) as answer:
        answer.read()
