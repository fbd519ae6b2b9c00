"""The files that hold a model's weights, small enough each for a browser to fetch and keep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

_ALIGN = 4096  # a page: what lies on one can be mapped


@dataclass(slots=True)
class Region:
    """Bytes of a shard that are being written, first to last."""

    location: str
    offset: int
    length: int
    _file: BinaryIO
    _done: int = 0

    def write(self, part: NDArray[Any]) -> None:
        """The next bytes."""
        data = part.tobytes()
        assert self._done + len(data) <= self.length
        self._file.seek(self.offset + self._done)
        self._file.write(data)
        self._done += len(data)


class Shards:
    """model.onnx_data, model.onnx_data_1, … in a folder; a weight never crosses from one to the next.

    Args:
        most: bytes of a file; a larger weight gets a file of its own.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._files: list[BinaryIO] = []
        self._end = 0

    def region(self, length: int) -> Region:
        """Room for so many bytes."""
        start = -(-self._end // _ALIGN) * _ALIGN
        if not self._files or (start + length > self._most and self._end):
            self._files.append((self._folder / self._name(len(self._files))).open("wb"))
            start = 0
        self._end = start + length
        return Region(self._name(len(self._files) - 1), start, length, self._files[-1])

    def close(self) -> None:
        """Write what is left."""
        for file in self._files:
            file.close()

    @staticmethod
    def _name(i: int) -> str:
        return f"model.onnx_data_{i}" if i else "model.onnx_data"
