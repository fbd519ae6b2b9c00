"""The coordinator of federated learning, with its updates in the state file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

from ruvllm.encoders.protocol import pause
from ruvllm.learning.federated import Accepted, FederatedCoordinator, Update
from ruvllm.state.names import FEDERATED
from ruvllm.state.schema import GUESTS
from ruvllm.state.set_aside import base64_of
from ruvllm.state.store import Store

_TABLE = GUESTS["federated_updates"].replace("TABLE", "TABLE IF NOT EXISTS", 1)


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
        """As it was left; an update that cannot be read is set aside. Raises StoreError: what is kept is damaged."""
        made = FederatedCoordinator(self._dim)
        if (stored := self._store.load(FEDERATED)) is not None:
            made.load(stored)
        with self._store.write() as db:
            db.execute(_TABLE)
        for id, data in self._store.read("SELECT id, data FROM federated_updates ORDER BY id"):
            try:
                made.aggregate(bytes(data))
            except Exception as error:
                with self._store.write() as db:
                    self._store.set_aside.add(FEDERATED, f"update {id}", error, partial(_payload, bytes(data)))
                    db.execute("DELETE FROM federated_updates WHERE id = ?", (id,))
        return made

    def push(self, data: bytes) -> Accepted:
        """Take an update. Raises InputError: it is damaged, or of another width."""
        update = Update.from_bytes(data)
        accepted = self.coordinator.aggregate(update)
        if accepted.consolidated:
            self._keep()
        elif not accepted.again:
            self._store.set_aside.write_each(
                FEDERATED, [data], self._insert, lambda _: f"{update.agent} {update.serial}", _payload
            )
        return accepted

    async def pull(self) -> bytes:
        """The model of all updates so far."""
        if self.coordinator.stats().pending:
            self.coordinator.consolidate()
            self._keep()
        return (await self.coordinator.amodel(pause)).to_bytes()

    def _keep(self) -> None:
        """What was consolidated, in the place of the updates it was made from."""
        with self._store.write() as db:
            if self._store.save(FEDERATED, self.coordinator.to_bytes):
                db.execute("DELETE FROM federated_updates")

    def _insert(self, updates: Sequence[bytes]) -> None:
        with self._store.write() as db:
            db.executemany("INSERT INTO federated_updates (data) VALUES (?)", [(data,) for data in updates])


class LogCoordinator:
    """Has updates travel through the log that servers share: each of them has all updates, and makes the model itself.

    Args:
        hub: of the space; takes those of other servers, too.
    """

    def __init__(self, hub: Hub, store: Store) -> None:
        self._hub, self._store = hub, store

    async def push(self, update: bytes) -> Accepted:
        """Take an update, and have it wait for the others. Raises StoreError: it cannot be written."""
        with self._store.write():
            accepted = self._hub.push(update)
            if not accepted.again:
                self._store.outbox.delta(update)
        return accepted

    async def pull(self) -> bytes:
        """The model that all updates made."""
        return await self._hub.pull()


def _payload(data: bytes) -> dict[str, str]:
    return {"data": base64_of(data)}
