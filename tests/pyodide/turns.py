"""One host's turn with a state file: a bit of everything is changed, and what is there is said as a digest."""

from __future__ import annotations

import sys
from contextlib import closing
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np

from ruvllm.memory.records import Records
from ruvllm.state.record import Memory
from ruvllm.state.repair.check import check
from ruvllm.state.store import Store
from ruvllm.types import Feedback

DIM = 16
TABLES = ("memories", "vectors", "removed", "edges", "feedback", "learnt", "clock")


def turn(path: Path) -> str:
    """Change the file; the digest of what it holds then."""
    with closing(Store(path)) as store:
        records = Records(store)
        there = records.matching("default")
        n = len(store.feedback())
        texts = [f"turn {n} on {sys.platform}: Grüße 🦊 \x00 {i}" for i in range(30)]
        vectors = np.random.default_rng(n).standard_normal((30, DIM)).astype(np.float32)
        vectors[0, :3] = 1e-45, -0.0, 3.4e38
        ids = records.add([Memory(text, metadata={"n": n, "wide": 2**53 + 1}) for text in texts], vectors, "test")
        assert records.vectors(np.array(ids, np.int64)).tobytes() == vectors.tobytes()
        assert records.matching("default", {"n": n}).tolist() == ids
        records.rate(dict.fromkeys(ids[:3], -0.1))
        records.remove([ids[3], *there[:2].tolist()])
        records.archive(ids[4:6])
        records.touch(ids[6:9])
        records.flush()
        with store.write() as db:
            db.executemany("INSERT INTO edges VALUES (?, ?, 'Follows', 0.1)", pairwise(ids[7:]))
        store.put("weights", vectors.tobytes())
        store.add_feedback(Feedback(texts[0], "agent", 0.1))
    report = check(path)
    assert report.ok, report.findings
    return digest(path)


def digest(path: Path) -> str:
    """Over all values of all rows."""
    told = sha256()
    with closing(Store(path)) as store:
        for table in TABLES:
            for row in store.read(f"SELECT * FROM {table} ORDER BY 1, 2"):
                told.update(repr(row).encode())
    return told.hexdigest()
