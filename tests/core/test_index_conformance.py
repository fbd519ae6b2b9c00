"""Every index written in numpy, under one suite."""

from __future__ import annotations

from typing import Any

from index_suite import IndexSuite

from ruvllm.index import AutoIndex, BinaryIndex, FlatIndex, HnswIndex, IvfIndex


class TestFlat(IndexSuite):
    exact = True

    def make(self, dim: int, metric: str = "cosine") -> Any:
        return FlatIndex(dim, metric)


class TestBinary(IndexSuite):
    def make(self, dim: int, metric: str = "cosine") -> Any:
        return BinaryIndex(dim, metric)


class TestIvf(IndexSuite):
    edits = 3  # it learns its codes anew in each

    def make(self, dim: int, metric: str = "cosine") -> Any:
        return IvfIndex(dim, metric, least=200)


class TestHnsw(IndexSuite):
    edits = 10

    def make(self, dim: int, metric: str = "cosine") -> Any:
        return HnswIndex(dim, metric)


class TestForced(IndexSuite):
    edits = 3

    def make(self, dim: int, metric: str = "cosine") -> Any:
        return AutoIndex(dim, metric, use="hnsw")
