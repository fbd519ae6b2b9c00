"""`ruvllm bench memory`: what it collects, how it judges, and one small run of the real thing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ruvllm import InputError
from ruvllm.cli.main import main
from ruvllm_bench.memory import data as bench_data
from ruvllm_bench.memory.curves import K, Point, at_recall, interpolated, truth_of
from ruvllm_bench.memory.rows import Curve, Rival, Row, against, read, tell
from ruvllm_bench.memory.vectors import held_mb, perturbed

CURVE = (Point(10, 0.90, 0.1), Point(20, 0.95, 0.2), Point(40, 0.99, 0.4))


def unit(size: int, dim: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((size // 20, dim))
    points = centres[random.integers(0, len(centres), size)] + 0.6 * random.standard_normal((size, dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_sentences_come_from_every_kind_of_file_once_each(tmp_path: Path) -> None:
    many = "\n".join(f"Ticket {i} is about the parser. It is number {i} of them!" for i in range(600))
    (tmp_path / "a.txt").write_text(many)
    (tmp_path / "b.md").write_text(many)
    (tmp_path / "c.json").write_text(json.dumps({"rows": [["Deep inside a list here.", 7, None]], "k": "too short"}))
    (tmp_path / "d.jsonl").write_text('{"text": "One object on a line."}\nnot json\n')
    (tmp_path / "e.json").write_text("{broken")
    (tmp_path / "f.bin").write_text("This file is not looked at.")
    found = bench_data.sentences(tmp_path, 10_000)
    assert len(found) == len(set(found)) == 1_202
    assert {"Deep inside a list here.", "One object on a line."} <= set(found)
    assert found != sorted(found)
    assert found[:500] == bench_data.sentences(tmp_path, 500)


def test_too_little_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Only one sentence is here.")
    with pytest.raises(InputError, match="1 sentences"):
        bench_data.sentences(tmp_path, 10)
    np.save(tmp_path / "a.npy", np.zeros((5, 4)))
    with pytest.raises(InputError, match="float64"):
        bench_data.vectors_in(tmp_path / "a.npy")
    (tmp_path / "b.npy").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="cannot be read"):
        bench_data.vectors_in(tmp_path / "b.npy")


def test_embeddings_are_made_once(cache: Path) -> None:
    pytest.importorskip("onnxruntime")
    texts, calls = [f"fix the parser of customer {i}" for i in range(70)], list[int]()
    path = bench_data.embeddings(texts, lambda: calls.append(1))
    assert path.is_relative_to(cache)
    assert len(calls) == len(texts)
    table = np.load(path)
    assert table.shape == (70, 384)
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1, atol=1e-5)
    assert bench_data.embeddings(texts, lambda: calls.append(1)) == path
    assert len(calls) == len(texts)
    assert bench_data.embeddings(texts[:3], lambda: None) != path


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", "a", 1.0, "ms", 1.0), True),
        (Row("a", "a", 1.1, "ms", 1.0), False),
        (Row("a", "a", 8.0, "x", 8.0, at_least=True), True),
        (Row("a", "a", 7.9, "x", 8.0, at_least=True), False),
        (Row("a", "a", 1.0, "ms", 1.0, recall=0.95, least_recall=0.95), True),
        (Row("a", "a", 1.0, "ms", 1.0, recall=0.949, least_recall=0.95), False),
        (Row("a", "a", None, "ms", 1.0), None),
        (Row("a", "a", 1.0, "ms"), None),
    ],
)
def test_a_promise_is_kept_only_with_its_recall(row: Row, met: bool | None) -> None:
    assert row.met is met


def test_a_row_survives_the_way_between_processes(capsys: pytest.CaptureFixture[str]) -> None:
    for item in (Row("a", "a b", 1.5, "ms", 2.0, recall=0.9), Curve("ivf", 10, CURVE)):
        tell(item)
        assert read(capsys.readouterr().out) == item
    assert read("something else") is None
    assert read("[1]") is None


def test_rivals_are_compared_at_the_same_recall() -> None:
    assert interpolated(CURVE, 0.97) == pytest.approx(0.3)
    assert interpolated(CURVE, 0.999) is None
    assert at_recall(CURVE, 0.95) == CURVE[1]
    assert at_recall(CURVE, 0.999) == CURVE[2]
    rivals = [Rival("hnswlib", 1.0, CURVE), Rival("usearch", 1.0, CURVE[:1])]
    first, second = against("x", Point(0.9, 0.97, 0.6), rivals, 1.5)
    assert (first.value, first.met) == (pytest.approx(2.0), False)
    assert (second.value, second.bar) == (None, None)


def test_truth_is_the_nearest_under_the_filter() -> None:
    vectors, queries = unit(2_000, 16), unit(40, 16, seed=1)
    allowed = np.arange(2_000) % 3 == 0
    scores = queries @ vectors.T
    assert (truth_of(vectors, queries) == np.argsort(-scores, axis=1)[:, :K]).all()
    scores[:, ~allowed] = -np.inf
    assert (truth_of(vectors, queries, allowed) == np.argsort(-scores, axis=1)[:, :K]).all()


def test_perturbed_vectors_are_near_their_sources(tmp_path: Path) -> None:
    vectors = unit(1_000, 64)
    mapped = perturbed(tmp_path / "many.npy", vectors, 5_000)
    assert mapped.shape == (5_000, 64)
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(mapped[:1_000], vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    cosines = (mapped[1_000:2_000] * vectors).sum(1)
    assert np.median(cosines) == pytest.approx(0.7, abs=0.03)
    held = held_mb()
    assert held is None or 0 < held.anonymous <= held.whole <= held.most


def test_a_small_run(tmp_path: Path, cache: Path) -> None:
    data, picture = tmp_path / "vectors.npy", tmp_path / "plot.png"
    np.save(data, unit(12_000, 64))
    options = ["--size", "10000", "--stream", "3000", "--json", "--plot", str(picture)]
    groups = ["--only", "10k", "--only", "100k", "--only", "stream"]
    result = CliRunner().invoke(main, ["bench", "memory", "--data", str(data), *options, *groups])
    assert result.exit_code == 0, result.output
    told = json.loads(result.output.splitlines()[-1])
    rows = told["rows"]
    assert {"binary_10k", "build_10k", "insert_10k", "batch_10k", "filter_10k", "hnsw_10k", "ivf_10k_950"} <= set(rows)
    assert all(row["recall"] is None or 0.5 < row["recall"] <= 1 for row in rows.values())
    assert rows["stream"]["met"]
    assert rows["stream_lost"]["value"] == 0
    assert {curve["name"] for curve in told["curves"]} >= {"binary", "hnsw", "ivf"}
    assert "10k, one query" in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not list(cache.rglob("run-*"))


def test_data_is_needed() -> None:
    result = CliRunner().invoke(main, ["bench", "memory", "--data", "no-such-folder"])
    assert result.exit_code == 2
    assert "no-such-folder" in result.output
