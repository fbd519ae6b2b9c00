"""What is learnt on one encoder's vectors, kept apart from what is learnt on another's."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Apart", "Keeper"]


class Keeper(Protocol):
    """Keeps bytes under names: a `Store`, or a part of one."""

    def keep(self, name: str, data: bytes) -> None:
        """Keep learnt weights under a name, in the place of what was there."""
        ...

    def kept(self, name: str) -> bytes | None:
        """Learnt weights, None when there are none."""
        ...


class Apart:
    """A part of a store for one vector space.

    Args:
        space: goes into every name.
    """

    def __init__(self, store: Keeper, space: str) -> None:
        self._store, self._space = store, space

    def keep(self, name: str, data: bytes) -> None:
        """As `Store.keep`. Raises StoreError: it cannot be written."""
        self._store.keep(f"{name}@{self._space}", data)

    def kept(self, name: str) -> bytes | None:
        """As `Store.kept`. Raises StoreError: it is damaged."""
        return self._store.kept(f"{name}@{self._space}")
