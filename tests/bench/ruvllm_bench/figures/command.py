"""`ruvllm bench figures`: measures what docs/benchmarks.md says, part by part, and writes it there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from ruvllm import InputError, RuvllmError
from ruvllm.agents.catalog import builtin_agents
from ruvllm.cli.console import number, show_table, waiting, warn
from ruvllm_bench.figures.page import Figure, update
from ruvllm_bench.figures.peers import PEERS, Peer
from ruvllm_bench.serve.load import prompts

_QUERIES = 500
_PATIENCE = 1_800.0  # seconds of a command

Peers = Mapping[str, tuple[Peer, str]]  # by name, those of a part that are there, with their versions
Measure = Callable[[Peers, Path | None], list[Figure]]


class _Parts:
    """What there is to measure, with the command of each."""

    route = "ruvllm bench route"
    search = "ruvllm bench memory --only 10k"
    serve = "ruvllm bench serve; ruvllm bench proxy"
    start = "ruvllm bench hook"
    lm = "ruvllm models bench --shape 60M"
    million = "ruvllm bench memory --only store --only open"


_SLOW = "million"  # minutes, and 5 GB of disk
COMMANDS = {name: value for name, value in vars(_Parts).items() if not name.startswith("_")}


@click.command()
@click.option("--only", metavar="PART,…", help=f"Of {', '.join(COMMANDS)}; all but {_SLOW} when left out.")
@click.option("--peers", is_flag=True, help="Beside other programs, each installed into an environment of its own.")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="Text, or an .npy of vectors, as for `ruvllm bench memory`; without it nothing is searched.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The page that gets the rows.")
def figures(only: str | None, peers: bool, data: Path | None, out: Path | None) -> None:
    """Measure ruvllm on this machine, beside other programs, and write what comes of it into a page.

    Each part is the command that the page names, run anew. With --peers others are measured in the same run: they are
    downloaded by pip into the cache once (gigabytes, minutes; nothing of them becomes part of ruvllm). One that
    cannot be had here is named with the reason. Rows that are not measured stay in the page with their dates.

    \b
    Examples:
      ruvllm bench figures --only route,serve
      ruvllm bench figures --peers --data ../shared/data --out docs/benchmarks.md
    """
    chosen = [name.strip() for name in only.split(",")] if only else [name for name in COMMANDS if name != _SLOW]
    if strange := [name for name in chosen if name not in COMMANDS]:
        raise InputError(f"there is no part {strange[0]!r}", field="only", fix=f"use {', '.join(COMMANDS)}")
    page = out.read_text("utf-8") if out is not None and out.exists() else None
    if out is not None:
        update(page or "", {}, COMMANDS, ())  # it has a place for the rows, before minutes are spent
    found, missing = dict[str, list[Figure]](), list[str]()
    for part in chosen:
        there = _installed(part, missing) if peers else {}
        with waiting(f"measuring {part}"):
            try:
                found[part] = _MEASURES[part](there, data)
            except RuvllmError as error:
                missing.append(f"{part}: not measured ({error.message})")
                warn(missing[-1])
                continue
        rows = [(one.what, one.value, one.beside, one.ratio, one.bar) for one in found[part]]
        show_table(COMMANDS[part], ("What", "ruvllm", "Beside it", "Ratio", "Bar"), rows)
    for note in missing:
        click.echo(note)
    if out is not None and page is not None:
        out.write_text(update(page, found, COMMANDS, missing), "utf-8")
        click.echo(f"{out} is up to date: {', '.join(found)}")


def _installed(part: str, missing: list[str]) -> dict[str, tuple[Peer, str]]:
    found = dict[str, tuple[Peer, str]]()
    for peer in PEERS:
        if peer.beside == part:
            try:
                with waiting(f"installing {peer.name}"):
                    found[peer.name] = peer, peer.install()
            except RuvllmError as error:
                missing.append(f"{peer.name} cannot be had here: {error.message}")
                warn(missing[-1])
    return found


def _said(*words: str, more: Mapping[str, str] | None = None) -> Any:
    """The JSON of a command of ruvllm. Raises RuvllmError: it failed."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ruvllm.cli", *words, "--json"], env=os.environ | dict(more or {}),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuvllmError(f"{' '.join(words)} took too long", field="bench", fix="leave it out") from None
    lines = done.stdout.splitlines()
    start = next((place for place, line in enumerate(lines) if line.startswith("{")), None)
    if done.returncode or start is None:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise RuvllmError(f"{' '.join(words)}: {last}"[:300], field="bench", fix="run it alone")
    return json.loads("\n".join(lines[start:]))


def _us(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{number(value / 1e3, 2)} ms" if value >= 1_000 else f"{number(value, 0 if value >= 100 else 2)} µs"


def _ratio(ours: float, theirs: float) -> str:
    return f"{number(ours / theirs, 2)} ×" if theirs else ""


def _route(peers: Peers, _: Path | None) -> list[Figure]:
    found = _said("bench", "route", "--seconds", "0.5")
    static, block = found["static_p50_us"], "each of 256 at once"
    rows = [
        Figure("a route, static, p50", _us(static), bar="100 µs"),
        Figure("… with tier, evidence and times", _us(found["told_p50_us"])),
        Figure(f"… {block}", _us(found["static_block_us"]), "one alone", _ratio(found["static_block_us"], static)),
        Figure("a route, RuvLTRA, p50", _us(found["ruvltra_p50_us"]), bar="1.2 ms"),
        Figure(f"… {block} (RuvLTRA)", _us(found["ruvltra_block_us"])),
        Figure("a route asked before", _us(found["cached_p50_us"]), bar="1 µs"),
        Figure("2,000 agents", _us(found["many_p50_us"]), "83 agents", f"{found['many_ratio']} ×", "2 ×"),
        Figure("first answer of a process", f"{number(found['cold_ms'], 0)} ms", bar="180 ms"),
    ]
    for peer, version in peers.values():
        with tempfile.TemporaryDirectory() as folder:
            theirs = _decided(peer, Path(folder))
        beside = f"{peer.name} {version}: {_us(theirs)} without an encoder"
        rows.append(Figure("a route, static, with its encoder", _us(static), beside, _ratio(static, theirs)))
    return rows


def _decided(peer: Peer, folder: Path) -> float:
    """Microseconds of a decision of semantic-router among the same agents by their examples."""
    from ruvllm import RuvLLM

    agents, asked = builtin_agents(), prompts()
    seen, routes = set[str](), dict[str, list[str]]()
    for agent in agents:
        routes[agent.name] = [text for text in agent.examples if not (text in seen or seen.add(text))]  # type: ignore[func-returns-value]
    with RuvLLM(encoder="static") as llm:
        vectors = llm.embed([text for texts in routes.values() for text in texts])
        queries = llm.embed([next(asked) for _ in range(_QUERIES)])
    (folder / "routes.json").write_text(json.dumps(routes), "utf-8")
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "queries.npy", queries)
    found = peer.measure(
        "router_peer.py", *(str(folder / name) for name in ("routes.json", "vectors.npy", "queries.npy"))
    )
    return float(found["us"])


def _search(peers: Peers, data: Path | None) -> list[Figure]:
    from ruvllm_bench.memory.command import vectors_of
    from ruvllm_bench.memory.curves import Point, interpolated, truth_of
    from ruvllm_bench.memory.measures import SMALL

    if data is None:
        raise InputError("no text was given to search in", field="data", fix="give --data")
    found = _said("bench", "memory", "--quick", "--only", "10k", "--data", str(data))["rows"]
    ours = found["binary_10k"]
    value, recall = ours["value"], ours["recall"]
    shown = f"{number(value, 3)} ms, recall {number(recall, 4)}"
    rows = [
        Figure("10,000 × 384, one query, numpy alone", shown, bar="0.9 × hnswlib"),
        Figure("10,000, build", f"{number(found['build_10k']['value'], 1)} ms"),
        Figure("10,000, insert a vector, 1,000 at a time", f"{number(found['insert_10k']['value'], 1)} µs", bar="3 µs"),
        Figure("10,000, each of 256 queries at once", f"{number(found['batch_10k']['value'], 1)} µs"),
    ]
    if not peers:
        return rows
    table = np.load(vectors_of(data, 2 * SMALL)[0], mmap_mode="r", allow_pickle=False)
    vectors, queries = np.array(table[:SMALL]), np.array(table[-_QUERIES:])
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{name}.npy") for name in ("vectors", "queries", "truth")]
        for path, array in zip(paths, (vectors, queries, truth_of(vectors, queries)), strict=True):
            np.save(path, array)
        for peer, version in peers.values():
            what = f"10,000 × 384, one query, beside {peer.name}"
            try:
                told = peer.measure("index_peer.py", *paths)
            except RuvllmError as error:
                rows.append(Figure(what, shown, f"{peer.name} {version} failed here: {error.message}"))
                continue
            curve = [Point(*point) for point in told["curve"]]
            theirs, best = interpolated(curve, recall), max(curve, key=lambda point: point.recall)
            label = f"{peer.name} {version}: "
            if theirs is None:
                label += f"{number(best.p50_ms, 3)} ms, but recall {number(best.recall, 4)} at most"
                rows.append(Figure(what, shown, label))
                continue
            label += f"{number(theirs, 3)} ms at that recall; build {number(told['build_s'], 2)} s"
            rows.append(Figure(what, shown, label, _ratio(value, theirs)))
    return rows


def _million(_: Peers, data: Path | None) -> list[Figure]:
    if data is None:
        raise InputError("no text was given to search in", field="data", fix="give --data")
    found = _said("bench", "memory", "--only", "store", "--only", "open", "--data", str(data))["rows"]
    value = {name: row["value"] for name, row in found.items()}
    query = f"{number(value['open_1m_query'], 2)} ms, recall {number(found['open_1m_query']['recall'], 4)}"
    return [
        Figure("1,000,000 memories, one query, vectors in the state file", query, bar="0.6 ms"),
        Figure("… open the file and search once", f"{number(value['open_1m'], 2)} s", bar="0.4 s"),
        Figure("… memory of that process", f"{number(value['open_1m_mb'] or 0, 0)} MB", bar="250 MB"),
        Figure("… first search ever, which builds the index", f"{number(value['first_1m'], 0)} s"),
    ]


def _serve(peers: Peers, _: Path | None) -> list[Figure]:
    from ruvllm_bench.figures.proxies import proxies

    found = _said("bench", "serve", "--seconds", "5", "--streams", "0", "--memories", "0")
    bare, added = found["floor"]["rate"], _said("bench", "proxy", "--requests", "100")
    rows = [
        Figure("`POST /v1/route`, 64 connections, one process, static",
               f"{number(found['rate'], 0)} a second, p99 {number(found['p99_ms'], 0)} ms",
               f"uvicorn alone: {number(bare, 0)} a second", _ratio(found["rate"], bare), "6,000 a second, 0.5 ×"),
        Figure("proxy, to the first event of a stream", f"{number(added['first'], 2)} ms",
               f"directly: {number(added['direct_first'], 2)} ms; a bare relay: {number(added['relay_first'], 2)} ms",
               f"+ {number(added['added_first'], 2)} ms", "+ 1 ms"),
        Figure("a decision among 77 options, over HTTP", f"{number(added['decision_http'], 2)} ms"),
    ]  # fmt: skip
    litellm = peers.get("litellm")
    direct, ours, theirs = proxies(None if litellm is None else litellm[0])
    rows.append(
        Figure("proxy, a whole answer, one at a time, p50", f"{number(ours.p50_ms, 2)} ms",
               f"directly: {number(direct.p50_ms, 2)} ms", f"+ {number(ours.p50_ms - direct.p50_ms, 2)} ms", "+ 1 ms")
    )  # fmt: skip
    if litellm is not None and theirs is not None:
        beside = f"LiteLLM's proxy {litellm[1]}, one worker: {number(theirs.rate, 0)} a second"
        rows.append(
            Figure("proxy, whole answers, 16 connections", f"{number(ours.rate, 0)} a second", beside,
                   _ratio(ours.rate, theirs.rate), "10 ×")
        )  # fmt: skip
    return rows


def _start(_: Peers, __: Path | None) -> list[Figure]:
    found = _said("bench", "hook", "--times", "15")
    idle = f"`python -c pass`: {number(found['ms']['python -c pass'], 0)} ms"
    return [
        Figure(f"a hook, {name}", f"{number(found['ms'][name], 0)} ms", idle,
               f"+ {number(found['over_ms'][name], 0)} ms", bar)
        for name, bar in (("resident", "+ 15 ms"), ("cold", "+ 60 ms"))
    ]  # fmt: skip


def _lm(peers: Peers, _: Path | None) -> list[Figure]:
    peer = peers.get("llama-cpp-python")
    more = dict[str, str]()
    if peer is not None:
        (place,) = peer[0].folder.glob("**/site-packages")
        more["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH", ""), str(place))))
    rows = list[Figure]()
    for threads in ("1", "2"):
        words = ("models", "bench", "--shape", "60M", "--rounds", "3", "--threads", threads)
        engines = _said(*words, more=more)["engines"]
        ours, theirs = engines["ours"], engines.get("llama.cpp")
        for what, name, unit, bar in (
            ("tokens a second", "tokens_per_second", "/s", "≥ 1.0 ×"),
            ("first token of 256", "first_token_s", " s", "≤ 0.67 ×"),
        ):
            value = f"{number(ours[name], 2)}{unit}"
            beside = f"llama.cpp ({peer[0].name} {peer[1]}): {number(theirs[name], 2)}{unit}" if peer and theirs else ""
            ratio = _ratio(ours[name], theirs[name]) if theirs else ""
            rows.append(Figure(f"59 M weights in 4 bits, {threads} thread(s): {what}", value, beside, ratio, bar))
    return rows


_MEASURES: dict[str, Measure] = {"route": _route, "search": _search, "serve": _serve, "start": _start, "lm": _lm}
_MEASURES[_SLOW] = _million
