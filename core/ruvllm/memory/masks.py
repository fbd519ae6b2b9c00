"""Metadata filters as masks of an index, the last few kept ready."""

from __future__ import annotations

import json

from ruvllm.index import AutoIndex, Mask
from ruvllm.memory.filters import Filter
from ruvllm.memory.records import Records

__all__ = ["Masks"]

_MOST = 64


class Masks:
    """Filters that were asked before, for as long as nothing changes.

    Args:
        records: tells which memories fulfil a filter.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._kept: dict[tuple[str, str], Mask] = {}

    def of(self, collection: str, shelf: AutoIndex, filter: Filter | None) -> Mask | None:
        """A filter's mask over a collection's index; None where there is nothing to filter.

        Raises:
            InputError: a filter that cannot be understood.
        """
        if not filter:
            return None
        try:
            key = (collection, json.dumps(filter, sort_keys=True))
        except (TypeError, ValueError, RecursionError):
            key = (collection, "")
        mask = self._kept.get(key) if key[1] else None
        if mask is None or mask.version != shelf.rows.version:
            mask = shelf.mask(self._records.matching(collection, filter))
            if len(self._kept) >= _MOST:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = mask
        return mask

    def clear(self) -> None:
        """Forget them: metadata may have changed."""
        self._kept.clear()
