"""Times ruvllm in Node, Chromium, Firefox and WebKit (where their drivers are), and compares with what it promises.

python build/bench_web.py [DIST] [--rounds 3] [--seconds 2] [--json]
python build/bench_web.py [DIST] --chat [60M 494M] [--tokens 32] [--json]

Starts are the best of the rounds (whatever else a machine does only ever adds), routes are medians over texts of
which no two are alike. Each round has a browser profile of its own. With --chat it is language models of random
weights that are timed, made here: no threads first, then those that an isolated page has.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import browser as browsers
from bench_chat import SHAPES
from bench_chat import bench as chat_rows
from bench_hosts import fresh_profile, in_node

DIST = Path(__file__).parent.parent / "web" / "dist"


@dataclass(frozen=True, slots=True)
class Row:
    """One measure on all hosts; None where a host has no such thing.

    Attributes:
        bar: what the worse of Node and Chromium must not exceed.
    """

    key: str
    label: str
    unit: str
    node: float | None
    chromium: float | None
    firefox: float | None = None
    webkit: float | None = None
    bar: float | None = None

    @property
    def met(self) -> bool | None:
        values = [value for value in (self.node, self.chromium) if value is not None]
        return None if self.bar is None else max(values) <= self.bar


def main() -> None:
    """Measure, print the table, and with --json one line more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path, nargs="?", default=DIST)
    parser.add_argument("--rounds", type=int, default=3, help="of starts")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each kind of route")
    parser.add_argument("--chat", nargs="*", choices=list(SHAPES), help="time language models of these shapes (all)")
    parser.add_argument("--tokens", type=int, default=32, help="that a language model writes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    dist = options.dist.resolve()
    if not (dist / "ruvllm.json").is_file():
        raise SystemExit(f"{dist} is not built: run `make web`")
    if options.chat is not None:
        told = chat_rows(dist, options.chat or list(SHAPES), options.tokens)
        if options.json:
            print(json.dumps(told))
        return
    load = [os.getloadavg()[0]]
    pages = [_page(dist, options, name) for name in ("chromium", "firefox", "webkit")]
    rows = list(_rows(_node(dist, options), *pages))
    load.append(os.getloadavg()[0])
    print(_table(rows))
    print(f"{os.cpu_count()} processors, load average {load[0]:.2f} before and {load[1]:.2f} after")
    if options.json:
        kept = {
            row.key: {
                "unit": row.unit,
                "node": row.node,
                "chromium": row.chromium,
                "firefox": row.firefox,
                "webkit": row.webkit,
                "bar": row.bar,
            }
            for row in rows
        }
        print(json.dumps({"rows": kept, "met": {row.key: row.met for row in rows if row.bar}, "load": load}))


def _node(dist: Path, options: argparse.Namespace) -> dict[str, float]:
    starts = [in_node(dist, "cascade", 0) for _ in range(options.rounds)]
    static, ruvltra = (in_node(dist, encoder, options.seconds) for encoder in ("static", "ruvltra"))
    return {
        "start": _best(starts, "route"),
        "ruvltra_ready": _best(starts, "ruvltra"),
        **_routes("static", static),
        "many": static["many"] / 1000,
        **_routes("ruvltra", ruvltra),
    }


def _page(dist: Path, options: argparse.Namespace, name: str) -> dict[str, float]:
    """Of a browser; nothing where there is none, said on stderr."""
    print(f"measuring {name}", file=sys.stderr, flush=True)  # WebKit takes many minutes
    try:
        return _visits(dist, options, name)
    except browsers.BrowserError as missing:
        if name == "chromium":
            raise SystemExit(str(missing)) from None
        print(missing, file=sys.stderr)
        return {}


def _visits(dist: Path, options: argparse.Namespace, name: str) -> dict[str, float]:
    cold, snapshot, plain = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
    bare = list[float]()
    found: dict[str, float] = {}
    for number in range(options.rounds):
        with fresh_profile(dist, name) as page:
            cold.append(page.visit(snapshot=False))
            bare.append(page.bare())
            page.keep_snapshot()
            plain += [page.visit(encoder="static", snapshot=False) for _ in range(2)]
            snapshot += [page.visit(encoder="static") for _ in range(2)]
            if number == options.rounds - 1:
                static = page.visit(options.seconds, encoder="static", state="memory")
                found = _routes("static", static) | {"many": static["many"] / 1000}
                found |= _routes("ruvltra", page.visit(options.seconds, encoder="ruvltra", state="memory"))
    if any(visit["from"] != "snapshot" for visit in snapshot):
        raise SystemExit("a visit with a kept snapshot did not start from it")
    with fresh_profile(dist, name) as page:
        loaded = page.first_bytes()
    return found | {
        "raw": loaded.raw / 1e6,
        "brotli": loaded.brotli / 1e6,
        "start": _best(cold, "route"),
        "bare": min(bare) / 1000,
        "ratio": _best(cold, "route") * 1000 / min(bare),
        "ruvltra_ready": _best(cold, "ruvltra"),
        "warm": _best(plain, "route"),
        "snapshot": _best(snapshot, "route"),
    }


def _best(visits: list[dict[str, Any]], key: str) -> float:
    return float(min(visit[key] for visit in visits)) / 1000


def _routes(name: str, told: dict[str, Any]) -> dict[str, float]:
    return {f"{name}_inside": told["inside"], f"{name}_whole": told["whole"]}


def _rows(*hosts: dict[str, float]) -> Iterator[Row]:
    kinds = (
        ("start", "first visit to first static route", "s", 2.0),
        ("bare", "… of which Pyodide alone, from the browser's cache", "s", None),
        ("ratio", "… as a multiple of that", "x", None),
        ("ruvltra_ready", "… to RuvLTRA being there", "s", None),
        ("snapshot", "later visit to first route, from the snapshot", "s", 0.6),
        ("warm", "… without the snapshot", "s", 2.5),
        ("static_inside", "static route inside the worker, p50", "ms", 1.0),
        ("static_whole", "… with the crossing to it and back", "ms", None),
        ("ruvltra_inside", "RuvLTRA route inside the worker, p50", "ms", 8.0),
        ("ruvltra_whole", "… with the crossing to it and back", "ms", None),
        ("many", "200 agents added, to a decision among them", "s", 2.0),
        ("raw", "bytes to the first static route", "MB", None),
        ("brotli", "… as a host with brotli sends them", "MB", 14.0),
    )
    for key, label, unit, bar in kinds:
        yield Row(key, label, unit, *(host.get(key) for host in hosts), bar)


def _table(rows: list[Row]) -> str:
    def shown(value: float | None, unit: str) -> str:
        return "-" if value is None else f"{value:.2f} {unit}"

    lines = [f"{'':<48} {'Node':>10} {'Chromium':>10} {'Firefox':>10} {'WebKit':>10} {'promise':>11}"]
    for row in rows:
        mark = {None: "", True: "pass", False: "short"}[row.met]
        bar = "" if row.bar is None else f"<= {shown(row.bar, row.unit)}"
        cells = " ".join(f"{shown(value, row.unit):>10}" for value in (row.node, row.chromium, row.firefox, row.webkit))
        lines.append(f"{row.label:<48} {cells} {bar:>11} {mark}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    main()
