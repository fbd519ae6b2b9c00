"""The compiled indexes under the suite of those in numpy."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "core"))

from index_suite import IndexSuite

from ruvllm.errors import InputError
from ruvllm.index.native import HnswlibIndex, UsearchIndex


@pytest.mark.skipif(find_spec("usearch") is None, reason="usearch is not installed: pip install ruvllm[native]")
class TestUsearch(IndexSuite):
    edits = 5

    def make(self, dim: int, metric: str = "cosine") -> Any:
        return UsearchIndex(dim, metric)


@pytest.mark.skipif(find_spec("hnswlib") is None, reason="hnswlib is not installed, and has no wheels: it is compiled")
class TestHnswlib(IndexSuite):
    edits = 5

    def make(self, dim: int, metric: str = "cosine") -> Any:
        return HnswlibIndex(dim, metric)


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with pytest.raises(InputError, match="hnswlib is not installed"):
        HnswlibIndex(4)


def test_nothing_compiled_is_imported_unasked() -> None:
    from subprocess import run

    code = "import sys, ruvllm.index.native; sys.exit(any(m in sys.modules for m in ('usearch', 'hnswlib')))"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
