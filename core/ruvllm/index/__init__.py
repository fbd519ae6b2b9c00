"""Vector indexes in numpy: one file per index, behind one protocol."""

from ruvllm.index.auto import AutoIndex
from ruvllm.index.binary import BinaryIndex
from ruvllm.index.flat import FlatIndex
from ruvllm.index.hnsw import HnswIndex
from ruvllm.index.ivf import IvfIndex
from ruvllm.index.protocol import Hits
from ruvllm.index.rows import Mask, Rows

__all__ = ["AutoIndex", "BinaryIndex", "FlatIndex", "Hits", "HnswIndex", "IvfIndex", "Mask", "Rows"]
