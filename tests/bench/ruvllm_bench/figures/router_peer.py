"""semantic-router among given routes, run by its own Python: `router_peer.py NAME ROUTES VECTORS QUERIES`.

ROUTES is a JSON file {name: [utterance, …]}; VECTORS has a row for each utterance, in that order. Prints the median
microseconds of a decision, without an encoder: each query is a vector already.
"""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np


def main(_: str, routes_path: str, vectors_path: str, queries_path: str) -> None:
    """Measure it."""
    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import DenseEncoder

    named = json.loads(Path(routes_path).read_text("utf-8"))
    vectors, queries = (np.load(path, allow_pickle=False).tolist() for path in (vectors_path, queries_path))
    texts = [text for utterances in named.values() for text in utterances]
    asked = [f"query {i}" for i in range(len(queries))]
    by_text = dict(zip(texts + asked, vectors + queries, strict=True))

    class Given(DenseEncoder):
        name: str = "given"

        def __call__(self, docs: list[Any]) -> list[list[float]]:
            return [by_text[doc] for doc in docs]

        async def acall(self, docs: list[Any]) -> list[list[float]]:
            return self(docs)

    routes = [Route(name=name, utterances=utterances) for name, utterances in named.items()]
    router = IndexedRouter(encoder=Given(), routes=routes)
    times = []
    for text in asked:
        began = perf_counter()
        router(text)
        times.append(perf_counter() - began)
    print(json.dumps({"us": float(np.median(times[20:])) * 1e6}))


if __name__ == "__main__":
    main(*sys.argv[1:])
