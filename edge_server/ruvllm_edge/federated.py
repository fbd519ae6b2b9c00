"""The hub of federated learning: agents push updates, and pull the model that all of them made."""

from __future__ import annotations

from ruvllm.learning.federated import Accepted, FederatedStats
from ruvllm_edge.edge import Edge
from ruvllm_edge.operations import Call, Operation, Reply

_BYTES = b"application/octet-stream"
_MOST = 32 << 20


async def push(edge: Edge, call: Call) -> Accepted:
    """What became of an update."""
    return edge.hub.push(call.body)


async def pull(edge: Edge, _: Call) -> Reply:
    """The shared model."""
    return Reply(await edge.hub.pull(), media=_BYTES)


async def stats(edge: Edge, _: Call) -> FederatedStats:
    """How it stands."""
    return edge.hub.coordinator.stats()


OPERATIONS = (
    Operation("POST", "/v1/federated/updates", push, "Push an update (`Update.to_bytes`)", bytes, answer=Accepted,
              tag="federated", most=_MOST),
    Operation("GET", "/v1/federated/model", pull, "Pull the model (`SharedModel.from_bytes`)", answer=bytes,
              tag="federated", media=("application/octet-stream",)),
    Operation("GET", "/v1/federated", stats, "How many agents have taught what", answer=FederatedStats,
              tag="federated"),
)  # fmt: skip
