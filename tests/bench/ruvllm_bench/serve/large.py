"""`ruvllm bench nodes --large`: a collection that is too large for a server, searched in the database."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm import RuvLLM
from ruvllm.cli.console import number, print_json, show_table, waiting
from ruvllm.encoders.protocol import run_now
from ruvllm_bench.serve.databases import Client, database, prepared, until_read
from ruvllm_bench.serve.load import prompts
from ruvllm_bench.serve.spawn import spawn
from ruvllm_edge.shared.large import LargeSearch
from ruvllm_edge.shared.log import connected

_P50_MS, _RECALL = 25.0, 0.95
_QUERIES, _K, _TENANTS = 200, 10, 100
_PAGE = 5_000
_COPY = "COPY ruvllm.changes (space, uid, kind, node, data, vector) FROM STDIN"
_NEAR = 1e-3  # of a cosine: halves of a float tell no more


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it.

    Attributes:
        fill, index: seconds to write the log, and to index it; 0 where a run before has.
        p50, p99: of a search over HTTP, in milliseconds; tenant_p50 likewise, with a filter that one in 100 fulfils.
        recall, tenant_recall: at 10, against all vectors.
        searched: share of the searches in which the database answered in time.
        held: memories on the server. rss: its memory in MB.
    """

    memories: int
    fill: float
    index: float
    p50: float
    p99: float
    recall: float
    tenant_p50: float
    tenant_recall: float
    searched: float
    held: int
    rss: float


def bench_large(url: str | None, memories: int, hot: int, as_json: bool) -> None:
    """Measure and show it; arguments as of `ruvllm bench nodes`."""
    with waiting("measuring"), TemporaryDirectory() as folder, database(url) as (address, _):
        asyncio.run(prepared(address))
        found = _measured(Path(folder), address, memories, hot)
    if as_json:
        print_json(asdict(found))
        return
    p50, recall = f"<= {_P50_MS:g} ms", f">= {_RECALL:g}"
    lines = [
        ("written to the log", f"{found.fill:.0f} s", "", True),
        ("indexed", f"{found.index:.0f} s", "", True),
        ("held by the server", number(found.held, 0), "", True),
        ("its memory", f"{found.rss:.0f} MB", "", True),
        ("search, p50", f"{found.p50:.1f} ms", p50, found.p50 <= _P50_MS),
        ("p99", f"{found.p99:.1f} ms", "", True),
        ("recall@10", f"{found.recall:.3f}", recall, found.recall >= _RECALL),
        ("with a filter of 1 %, p50", f"{found.tenant_p50:.1f} ms", "", True),
        ("recall@10", f"{found.tenant_recall:.3f}", recall, found.tenant_recall >= _RECALL),
        ("database in time", f"{found.searched:.1%}", "", True),
    ]
    cells = [(what, value, bar, "" if not bar else "pass" if met else "short") for what, value, bar, met in lines]
    show_table(
        f"{number(memories, 0)} memories, searched", ("Measure", "Value", "Promise", ""), cells, right=("Value",)
    )


def _measured(folder: Path, address: str, memories: int, hot: int) -> Measured:
    with RuvLLM(encoder="static") as llm:
        space, encoder = llm.memory.space, llm.memory.encoder
        texts = _texts(memories + 2 * _QUERIES)
        vectors = np.concatenate([run_now(encoder.encode(texts[i : i + _PAGE])) for i in range(0, len(texts), _PAGE)])
    asked, vectors = vectors[memories:], vectors[:memories]
    fill, index = asyncio.run(_filled(address, texts[:memories], vectors, space))
    settings = {"RUVLLM_SHARED": address, "RUVLLM_RATE": "0", "RUVLLM_SHARED_HOT": str(hot)}
    with spawn(folder / "node.db", settings=settings) as server:
        client = Client(server)
        until_read(client)
        queries, half = texts[memories:], _QUERIES
        plain = _searched(client, queries[:half], None)
        tenant = _searched(client, queries[half:], {"tenant": 7})
        held = client.call("GET", "/stats")[1]["memory_nodes"]
        rss = server.rss() or 0.0
    p50, p99 = np.percentile([took for took, _, _ in plain], (50, 99))
    answers = [found for _, found, _ in plain], [found for _, found, _ in tenant]
    recall = _recall(vectors, asked[:half], answers[0], encoder)
    of_tenant = vectors[7::_TENANTS]
    return Measured(
        memories, fill, index, float(p50), float(p99), recall,
        float(np.median([took for took, _, _ in tenant])), _recall(of_tenant, asked[half:], answers[1], encoder),
        float(np.mean([how == "searched" for *_, how in plain + tenant])), held, rss,
    )  # fmt: skip


def _texts(count: int) -> list[str]:
    """Of which no two are alike, and most are about different things."""
    rng, some = np.random.default_rng(0), list(islice(prompts(), 600))
    words = sorted({word for text in some for word in text.lower().split() if word.isalpha()})
    starts, more = rng.integers(0, len(some), count), rng.integers(0, len(words), (count, 4))
    return [
        f"{some[start].rsplit(' #')[0]} {' '.join(words[i] for i in row)}"
        for start, row in zip(starts.tolist(), more.tolist(), strict=True)
    ]


async def _filled(address: str, texts: list[str], vectors: NDArray[np.float32], space: str) -> tuple[float, float]:
    """Seconds to write them into the log, and to index them."""
    now, began = time(), perf_counter()
    async with connected(address) as db:
        if await LargeSearch(db).collections():  # of a run before
            return 0.0, 0.0
        async with db.cursor().copy(_COPY) as copy:
            about = {"memory": "Fact", "collection": "default", "quality": 1.0, "archived": 0, "created": now}
            for i, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
                serial = int(1000 * now) - len(texts) + i
                uid = f"{serial >> 16:08x}-{serial & 0xFFFF:04x}-7000-8000-{i:012x}"
                data = about | {"text": text, "space": space, "metadata": json.dumps({"tenant": i % _TENANTS})}
                await copy.write_row(("default", uid, "memory", "bench", json.dumps(data), vector.tobytes()))
        middle = perf_counter()
        await db.execute("ANALYZE ruvllm.changes")
        assert await LargeSearch(db).index(0)
        return middle - began, perf_counter() - middle


def _searched(client: Client, queries: list[str], filter: dict[str, Any] | None) -> list[tuple[float, list[str], str]]:
    """Of each query: milliseconds, texts that were found, how the database took part."""
    out = list[tuple[float, list[str], str]]()
    for query in queries:
        body = {"query": query, "k": _K, "search": "vectors", "filter": filter}
        began = perf_counter()
        status, answer = client.call("POST", "/v1/memory/search", body)
        took = 1e3 * (perf_counter() - began)
        assert status == 200, answer
        out.append((took, [hit["text"] for hit in answer["memories"]], answer.get("elsewhere", "")))
    return out


def _recall(vectors: NDArray[np.float32], asked: NDArray[np.float32], found: list[list[str]], encoder: Any) -> float:
    """The share of hits that are as near as the true 10th nearest."""
    shares = list[float]()
    for query, texts in zip(asked, found, strict=True):
        least = np.partition(vectors @ query, -_K)[-_K]
        scores = run_now(encoder.encode(texts)) @ query if texts else np.empty(0)
        shares.append(float((scores >= least - _NEAR).sum()) / _K)
    return float(np.mean(shares))
