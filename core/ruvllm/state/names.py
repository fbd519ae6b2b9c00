"""What is learnt on one encoder's vectors, kept apart from what is learnt on another's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Apart", "Keeper", "name_in"]

_FIRST = "minilm-"  # of the spaces that state files began with: what is learnt in them has plain names


class Keeper(Protocol):
    """Keeps bytes under names: a `Store`, or a part of one."""

    def keep(self, name: str, data: bytes) -> None:
        """Keep learnt weights under a name, in the place of what was there."""
        ...

    def save(self, name: str, dump: Callable[[], bytes]) -> bool:
        """`keep` what `dump` gives, or set it aside; whether it was kept."""
        ...

    def kept(self, name: str) -> bytes | None:
        """Learnt weights, None when there are none."""
        ...


def name_in(space: str, name: str) -> str:
    """What is called `name` in a space, as the state file calls it."""
    return name if space.startswith(_FIRST) else f"{name}@{space}"


class Apart:
    """The part of a store for one vector space."""

    def __init__(self, store: Keeper, space: str) -> None:
        self._store, self._space = store, space

    def keep(self, name: str, data: bytes) -> None:
        """As `Store.keep`. Raises StoreError: it cannot be written."""
        self._store.keep(name_in(self._space, name), data)

    def save(self, name: str, dump: Callable[[], bytes]) -> bool:
        """As `Store.save`. Raises StoreError: nothing can be kept."""
        return self._store.save(name_in(self._space, name), dump)

    def kept(self, name: str) -> bytes | None:
        """As `Store.kept`. Raises StoreError: it is damaged."""
        return self._store.kept(name_in(self._space, name))
