"""The index that suits its size: starts flat, grows into sign codes, then into lists, and stays with what is faster.

A promotion is built beside the index in use, timed against it on stored vectors at the same recall, and
taken only if it earns more: reward 1 / (latency in ms + 1), FEATURES.md R17. Reads go on all the while.
Where a compiled graph is installed `compare` builds it too, and each search from then on, of one query or many,
goes to what was measured to be fastest at its recall.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ruvllm.errors import InputError
from ruvllm.index.base import RowsIndex
from ruvllm.index.binary import BinaryIndex
from ruvllm.index.flat import FlatIndex
from ruvllm.index.hnsw import HnswIndex
from ruvllm.index.ivf import IvfIndex
from ruvllm.index.protocol import Hits, checked_recall
from ruvllm.index.rows import Base, Mask, Rows

if TYPE_CHECKING:
    from ruvllm.index.native import HnswlibIndex, UsearchIndex


_TRIALS = 32
_COMPARED = (0.9, 0.97, 0.999)  # recalls at which kinds are compared; a search goes by the next one above its own
_GRAPH_FROM = 20_000  # rows from which a compiled graph may be faster than sign codes
_BUSY = 1_000  # searches from which building one is worth its time
_GAIN = 0.9  # part of the time of the index in use that another may take to be worth its memory
GRAPHS = ("hnsw", "usearch", "hnswlib")  # kinds that hold copies of all vectors
KINDS = ("auto", "flat", "binary", "ivf", *GRAPHS)
Native = RowsIndex[Any]


@dataclass(frozen=True, slots=True)
class _Arm:
    kind: str
    least: int
    make: Callable[[int, str, float, Rows], Native]


_ARMS = (
    _Arm("flat", 0, lambda dim, metric, recall, rows: FlatIndex(dim, metric, rows=rows)),
    _Arm("binary", 1_500, lambda dim, metric, recall, rows: BinaryIndex(dim, metric, recall=recall, rows=rows)),
    _Arm("ivf", 50_000, lambda dim, metric, recall, rows: IvfIndex(dim, metric, recall=recall, rows=rows)),
)


class AutoIndex:
    """Chooses among the kinds of index.

    Args:
        recall: recall@k of a search that names none.
        rows: vectors to search from the start.
        index: one that was built or restored elsewhere, to go on with.
        background: runs a promotion, e.g. a thread's start on a native host; at once when None.
        use: one of KINDS; any but "auto" is used whatever the size.

    Raises:
        InputError: there is no such kind, or its library is not installed.
    """

    kind = "auto"

    def __init__(
        self,
        dim: int,
        metric: str = "cosine",
        *,
        recall: float = 0.95,
        rows: Rows | None = None,
        index: Native | None = None,
        background: Callable[[Callable[[], None]], Any] | None = None,
        use: str = "auto",
    ) -> None:
        if use not in KINDS:
            raise InputError(f"index is {use!r}"[:100], field="index", fix=f"choose one of {', '.join(KINDS)}")
        self.dim, self.metric, self.recall = dim, metric, checked_recall(recall)
        self._background = background
        self._writing = threading.RLock()
        self._busy = False
        self._rewards: dict[str, float] = {}  # of the kinds tried at the last promotion
        self._use = use
        self._tried = 0  # arms that were built or passed over
        self._fastest: dict[tuple[float, bool], Native] = {}  # by recall and whether there are many queries
        self._compared = self._searches = 0  # rows when these were measured; searches so far
        self._building: Iterator[Native | None] | None = None  # graphs, of which the first are whole
        self._rivals = list[Native]()
        if index is None:
            stored = rows if rows is not None else Rows(dim, unit=metric == "cosine")  # one without rows is false
            index = _ARMS[0].make(dim, metric, recall, stored)
        elif use == "auto":
            self._tried = next((i for i, arm in enumerate(_ARMS) if arm.kind == index.kind), 0)
        self._index: Native = index
        self.promote()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def index(self) -> Native:
        """The index in use at the usual recall."""
        return self._index

    @property
    def rows(self) -> Rows:
        """The vectors, whichever index searches them."""
        return self._index.rows

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Add or replace; see `RowsIndex.add`."""
        with self._writing:
            self._index.add(ids, vectors)
            self._sync()
        self.promote()

    def remove(self, ids: ArrayLike) -> int:
        """Forget ids; see `RowsIndex.remove`."""
        with self._writing:
            removed = self._index.remove(ids)
            self._sync()
            return removed

    def rebase(self, base: Base) -> None:
        """Read the vectors from elsewhere from now on; see `Rows.rebase`."""
        with self._writing, self.rows.lock:
            self.rows.rebase(base)
            self._index.sync()
            self._fastest.clear()

    def mask(self, ids: ArrayLike) -> Mask:
        """A filter; see `RowsIndex.mask`."""
        return self._index.mask(ids)

    def search(
        self, queries: ArrayLike, k: int = 10, *, filter: Mask | ArrayLike | None = None, recall: float | None = None
    ) -> Hits:
        """The k nearest; see `RowsIndex.search`."""
        wanted = self.recall if recall is None else recall
        index = self._index
        self._searches += 1
        if self._fastest and wanted <= _COMPARED[-1]:
            key = next(limit for limit in _COMPARED if wanted <= limit)
            index = self._fastest.get((key, np.ndim(queries) > 1), index)
        return index.search(queries, k, filter=filter, recall=wanted)

    def stats(self) -> dict[str, Any]:
        """What the index in use says, and what each kind that was timed last had earned.

        "fastest" says which kind takes one query, or many at a time, at which recall, once kinds were compared.
        """
        fastest = {f"{recall:g} {'many' if many else 'one'}": i.kind for (recall, many), i in self._fastest.items()}
        report = {**self._index.stats(), "rewards": dict(self._rewards)}
        return report | {"fastest": fastest} if fastest else report

    def promote(self) -> None:
        """Build the next kind if the size calls for it."""
        following = self._tried + 1
        if self._use == "auto" and (following == len(_ARMS) or self.rows.size < _ARMS[following].least):
            return
        with self._writing:
            due = self._due()
            if self._busy or (due <= self._tried if self._use == "auto" else self._index.kind == self._use):
                return
            self._busy = True
        if self._background is None:
            self._try(due)
        else:
            self._background(lambda: self._try(due))

    def due_to_compare(self) -> bool:
        """Whether graphs are worth building: one is installed, and there are many vectors and many searches."""
        if self._use != "auto" or self._searches < _BUSY or self.rows.view.base is not None:
            return False
        return len(self) >= max(_GRAPH_FROM, 2 * self._compared) and bool(_compiled())

    async def compare(self, pause: Callable[[], Awaitable[None]]) -> list[str]:
        """Build the compiled graphs that are installed, and find the fastest kind for each recall.

        Args:
            pause: awaited between slices of the work; where it raises, the next call goes on from there.

        Returns:
            The kinds in use.
        """
        if self._building is None:
            self._building = chain.from_iterable(
                kind.steps(self.dim, self.metric, recall=self.recall, rows=self.rows) for kind in _compiled()
            )
        for built in self._building:
            self._rivals += [] if built is None else [built]
            await pause()
        fastest = dict[tuple[float, bool], Native]()
        for recall in _COMPARED:
            for many in (False, True):
                usual = self._milliseconds(self._index, recall, many)
                await pause()
                for rival in self._rivals:
                    taken = self._milliseconds(rival, recall, many)
                    if taken < _GAIN * usual:
                        fastest[recall, many], usual = rival, taken
                    await pause()
        with self._writing:
            self._fastest, self._compared = fastest, len(self)
            self._building, self._rivals = None, []
            self._sync()
        return sorted({self._index.kind, *(index.kind for index in fastest.values())})

    def _due(self) -> int:
        return max(i for i, arm in enumerate(_ARMS) if len(self._index) >= arm.least)

    def _try(self, arm: int) -> None:
        try:
            with self._writing:  # adding waits for the build; searching does not
                self._index.sync()
                if self._use != "auto":
                    self._index = _made(self._use, self.dim, self.metric, self.recall, self.rows)
                    return
                rival = _ARMS[arm].make(self.dim, self.metric, self.recall, self.rows)
                before, after = self._milliseconds(self._index), self._milliseconds(rival)
                self._rewards = {self._index.kind: 1 / (before + 1), rival.kind: 1 / (after + 1)}
                if after < before:
                    self._index = rival
                self._tried = arm
                self._fastest = {}
        finally:
            self._busy = False

    def _sync(self) -> None:
        """Tell the other kinds in use that the rows have changed; one writer at a time."""
        if not self._fastest:
            return
        for index in {id(one): one for one in self._fastest.values()}.values():
            index.sync()

    def _milliseconds(self, index: Native, recall: float | None = None, many: bool = False) -> float:
        """Median time of a search for a stored vector, alone or among many at a time."""
        recall = self.recall if recall is None else recall
        step = max(1, self.rows.size // _TRIALS)
        queries = self.rows.take(np.arange(0, self.rows.size, step, dtype=np.int64)[:_TRIALS])
        index.search(queries if many else queries[0], recall=recall)  # measures its own curve first
        if many:
            return median(_timed(index, queries, recall) for _ in range(3)) / len(queries)
        return median(_timed(index, query, recall) for query in queries)


def _made(kind: str, dim: int, metric: str, recall: float, rows: Rows) -> Native:
    """An index of one of KINDS but "auto". Raises InputError: its library is not installed."""
    if kind == "hnsw":
        return HnswIndex(dim, metric, recall=recall, rows=rows)
    if kind in GRAPHS:
        from ruvllm.index.native import COMPILED

        return COMPILED[kind](dim, metric, recall=recall, rows=rows)
    return next(arm for arm in _ARMS if arm.kind == kind).make(dim, metric, recall, rows)


def _compiled() -> list[type[UsearchIndex] | type[HnswlibIndex]]:
    if sys.platform == "emscripten":
        return []
    from ruvllm.index.native import COMPILED

    return [kind for kind in COMPILED.values() if find_spec(kind.module.partition(".")[0]) is not None]


def _timed(index: Native, query: Any, recall: float) -> float:
    began = perf_counter()
    index.search(query, recall=recall)
    return (perf_counter() - began) * 1000
