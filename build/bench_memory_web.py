"""Times the vector indexes inside Pyodide under Node, hnswlib-wasm beside them where it is given.

python build/bench_memory_web.py VECTORS.npy [--hnswlib-wasm FOLDER] [--large 100000] [--json]

VECTORS.npy is float32 (n, dim), unit rows, the last 500 being the unseen queries; `ruvllm bench memory` keeps one
in its cache. FOLDER is where `npm install hnswlib-wasm` was run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm_bench.memory.curves import K, Point, at_recall, interpolated, truth_of
from ruvllm_bench.memory.data import vectors_in
from ruvllm_bench.memory.rows import Row

ROOT = Path(__file__).parents[1]
SMALL, ASKED = 10_000, 500
M, BUILD, EFS = 16, 200, (10, 16, 24, 32, 48, 64, 96, 128, 192, 256)

_SCRIPT = """
import sys
sys.path[:0] = "/core", "/bench"
import json
from dataclasses import asdict
import numpy as np
from ruvllm_bench.memory.curves import points, seconds
from ruvllm.index import BinaryIndex, IvfIndex

queries, told = np.load("/data/queries.npy"), {}
for name, make, asked in (
    ("small", BinaryIndex, (0.98, 0.985, 0.99, 0.993, 0.996)),
    ("large", IvfIndex, (0.96, 0.97, 0.975, 0.98, 0.985, 0.99)),
):
    vectors, truth = np.load(f"/data/{name}.npy"), np.load(f"/data/{name}-truth.npy")
    index = make(vectors.shape[1])
    took = seconds(lambda: index.add(np.arange(len(vectors)), vectors))
    told[name] = {"build_s": took, "points": [asdict(one) for one in points(index, asked, queries, truth)]}
    del index, vectors
told = json.dumps(told)
"""


def main() -> None:
    """Measure, print the table, and with --json one line more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--hnswlib-wasm", type=Path, metavar="FOLDER", help="where it was installed")
    parser.add_argument("--large", type=int, default=100_000, help="vectors of the large index")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measured(vectors_in(options.vectors), options.large, options.hnswlib_wasm)
    print(table(rows))
    if options.json:
        print(json.dumps({row.key: asdict(row) | {"met": row.met} for row in rows}))


def measured(vectors: NDArray[np.float32], large: int, wasm: Path | None) -> list[Row]:
    """Every row."""
    stored, queries = vectors[: len(vectors) - ASKED], np.array(vectors[len(vectors) - ASKED :])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "queries.npy", queries)
        truths = {}
        for name, size in (("small", SMALL), ("large", large)):
            some = np.array(stored[:size])
            truths[name] = truth_of(some, queries)
            np.save(folder / f"{name}.npy", some)
            np.save(folder / f"{name}-truth.npy", truths[name])
        ours = _in_pyodide(folder)
        theirs = None if wasm is None else _hnswlib(folder, wasm, stored[:SMALL], queries, truths["small"])
    small = at_recall(_points(ours["small"]), 0.99)
    note = f"asked for {small.setting:g}; built in {1e3 * ours['small']['build_s']:.0f} ms"
    rows = [Row("web_10k", "Pyodide, 10k, one query", small.p50_ms, "ms", 0.16, False, small.recall, 0.99, note)]
    if theirs is not None:
        base = interpolated(_points(theirs), small.recall)
        note = "" if base is None else f"{base:.3f} ms at recall {small.recall:.4f}; built in {theirs['build_s']:.0f} s"
        ratio = None if base is None else small.p50_ms / base
        rows.append(Row("web_10k_hnswlib", "… over hnswlib-wasm", ratio, "x", 0.4, note=note))
    big = at_recall(_points(ours["large"]), 0.98)
    note = f"asked for {big.setting:g}; built in {ours['large']['build_s']:.1f} s"
    label = f"Pyodide, {large:,}, one query"
    return [*rows, Row("web_100k", label, big.p50_ms, "ms", 1.3, False, big.recall, 0.98, note)]


def table(rows: list[Row]) -> str:
    """For a terminal."""

    def line(row: Row) -> str:
        value = "-" if row.value is None else f"{row.value:.3f} {row.unit}"
        recall = "" if row.recall is None else f"{row.recall:.4f}"
        return f"{row.label:<28} {value:>10}  <= {row.bar:<5} {recall:>7} {row.mark:<13} {row.note}".rstrip()

    return "\n".join(map(line, rows))


def _points(told: dict[str, Any]) -> list[Point]:
    return [Point(**one) for one in told["points"]]


def _in_pyodide(folder: Path) -> dict[str, Any]:
    (numpy,) = (ROOT / "build" / "wheels").glob("numpy-*.whl")
    pyodide = ROOT / "web" / "node_modules" / "pyodide" / "pyodide.mjs"
    paths = {"numpy": str(numpy), "core": str(ROOT / "core"), "bench": str(ROOT / "tests" / "bench")}
    return _node({"pyodide": pyodide.as_uri(), "script": _SCRIPT, **paths}, folder)


def _hnswlib(
    folder: Path, wasm: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32], truth: NDArray[np.int64]
) -> dict[str, Any]:
    module = wasm.resolve() / "node_modules" / "hnswlib-wasm" / "dist" / "hnswlib.js"
    if not module.is_file():
        raise SystemExit(f"{module} is missing: run `npm install hnswlib-wasm` in {wasm}")
    np.ascontiguousarray(vectors).tofile(folder / "vectors.f32")
    queries.tofile(folder / "queries.f32")
    (folder / "truth.json").write_text(json.dumps(truth.tolist()), "utf-8")
    shape = {"size": len(vectors), "asked": len(queries), "dim": queries.shape[1]}
    return _node({"module": module.as_uri(), "m": M, "build": BUILD, "efs": EFS, "k": K, **shape}, folder)


def _node(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        ["node", str(Path(__file__).with_suffix("").with_name("bench_memory.mjs"))],
        input=json.dumps(job | {"folder": str(folder)}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"Node failed: {done.stderr.strip()[-1500:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    main()
