"""What many keys cost: how soon a server with a thousand spaces is ready, and what those in use take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from urllib.request import Request, urlopen

from ruvllm_bench.serve.spawn import Spawned, spawn
from ruvllm_edge.auth import Key
from ruvllm_edge.keyfile import add_keys

_ROUNDS = 3  # through the spaces in use


@dataclass(frozen=True, slots=True)
class Tenancy:
    """What was measured.

    Attributes:
        ready_s: from the start of the process to ready.
        rss_mb, active_mb: resident memory with the default space in use, and what so many active ones added.
        first_ms, later_ms: a first request in a space that was closed, and a route in one that is open; medians.
        open: spaces that were open after all had been asked.
    """

    spaces: int
    active: int
    ready_s: float
    rss_mb: float | None
    active_mb: float | None
    first_ms: float
    later_ms: float
    open: int


def tenancy(spaces: int, active: int, encoder: str) -> Tenancy:
    """Start a server with so many keys, each of a space of its own. Raises RuvllmError: it does not start."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "keys"
        names = [f"space-{number}" for number in range(spaces)]
        keys = [Key("owner", role="admin"), *(Key(name, role="teach", space=name) for name in names)]
        secrets = add_keys(file, keys)
        settings = {"RUVLLM_KEYS_FILE": str(file), "RUVLLM_RATE": "0", "RUVLLM_LOG_LEVEL": "warning"}
        with spawn(Path(folder) / "state.db", encoder, settings | {"RUVLLM_MAX_SPACES": str(active)}) as server:
            owner, others = secrets[0], secrets[1:]
            for number in range(_ROUNDS):
                _use(server, owner, number)
            rss, first, later = server.rss(), list[float](), list[float]()
            for number in range(_ROUNDS):
                for secret in others[:active]:
                    (first if number == 0 else later).append(_timed(server, secret, f"polish kettle {number}"))
                    _use(server, secret, number)
            full = server.rss()
            for secret in others[active : 2 * active]:
                _timed(server, secret, "close somebody else")
            told = _ask(server, owner, "/metrics").decode()
            left = int(float(told.partition("\nruvllm_spaces_open ")[2].split()[0])) - 1
            more = None if rss is None or full is None else round(full - rss, 1)
            return Tenancy(
                spaces,
                active,
                round(server.started, 3),
                rss,
                more,
                median(first) * 1e3,
                median(later or first) * 1e3,
                left,
            )


def _use(server: Spawned, secret: str, number: int) -> None:
    _ask(server, secret, "/v1/memory", {"memories": [{"text": f"The boiler {number} is serviced in May."}]})
    _ask(server, secret, "/v1/query", {"query": "When is the boiler serviced?"})


def _timed(server: Spawned, secret: str, text: str) -> float:
    began = perf_counter()
    _ask(server, secret, "/v1/route", {"text": text})
    return perf_counter() - began


def _ask(server: Spawned, secret: str, path: str, body: Any = None) -> bytes:
    headers = {"content-type": "application/json", "x-api-key": secret}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(server.url + path, data, headers), timeout=60) as answer:
        said: bytes = answer.read()
    return said
