"""Vector indexes in numpy: one file per index, behind one protocol."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ruvllm.index.auto import AutoIndex
    from ruvllm.index.binary import BinaryIndex
    from ruvllm.index.flat import FlatIndex
    from ruvllm.index.hnsw import HnswIndex
    from ruvllm.index.ivf import IvfIndex
    from ruvllm.index.protocol import Hits
    from ruvllm.index.rows import Mask, Rows

__all__ = ["AutoIndex", "BinaryIndex", "FlatIndex", "Hits", "HnswIndex", "IvfIndex", "Mask", "Rows"]

_HOMES = {"AutoIndex": "auto", "BinaryIndex": "binary", "FlatIndex": "flat", "HnswIndex": "hnsw", "IvfIndex": "ivf"}
_HOMES |= {"Hits": "protocol", "Mask": "rows", "Rows": "rows"}


def __getattr__(name: str) -> Any:
    """A name of `__all__`, imported when it is first asked for: patterns need k-means, and none of these."""
    if name in _HOMES:
        return getattr(import_module(f"ruvllm.index.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
