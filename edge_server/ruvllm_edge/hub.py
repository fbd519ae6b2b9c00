"""The coordinator of federated learning, with its updates in the state file."""

from __future__ import annotations

from functools import cached_property

from ruvllm.encoders.protocol import pause
from ruvllm.learning.federated import Accepted, FederatedCoordinator, Update
from ruvllm.memory.store import Store

__all__ = ["Hub"]

_NAME = "federated"
_TABLE = "CREATE TABLE IF NOT EXISTS federated_updates (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT"


class Hub:
    """A coordinator whose updates are on disk before they are acknowledged.

    Args:
        store: the state file; updates wait in it until they are consolidated.
        dim: of the embeddings.
    """

    def __init__(self, store: Store, dim: int) -> None:
        self._store, self._dim = store, dim

    @cached_property
    def coordinator(self) -> FederatedCoordinator:
        """As it was left. Raises StoreError: what is kept is damaged."""
        made = FederatedCoordinator(self._dim)
        if (kept := self._store.kept(_NAME)) is not None:
            made.load(kept)
        with self._store.write() as db:
            db.execute(_TABLE)
        for (data,) in self._store.read("SELECT data FROM federated_updates ORDER BY id"):
            made.aggregate(bytes(data))
        return made

    def push(self, data: bytes) -> Accepted:
        """Take an update. Raises InputError: it is damaged, or of another width."""
        accepted = self.coordinator.aggregate(Update.from_bytes(data))
        if accepted.consolidated:
            self._keep()
        elif not accepted.again:
            with self._store.write() as db:
                db.execute("INSERT INTO federated_updates (data) VALUES (?)", (data,))
        return accepted

    async def pull(self) -> bytes:
        """The model of all updates so far."""
        if self.coordinator.stats().pending:
            self.coordinator.consolidate()
            self._keep()
        return (await self.coordinator.amodel(pause)).to_bytes()

    def _keep(self) -> None:
        """What was consolidated, in the place of the updates it was made from."""
        data = self.coordinator.to_bytes()
        with self._store.write() as db:
            self._store.keep(_NAME, data)
            db.execute("DELETE FROM federated_updates")
