"""What administrators of a space do over HTTP: its keys, its audit log, and the end of all it holds; usage for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct, convert

from ruvllm import ConfigError
from ruvllm_edge.audit import AuditRow, read_audit
from ruvllm_edge.auth import Key
from ruvllm_edge.edge import Edge
from ruvllm_edge.keyfile import add_key, revoke_key, rotate_key
from ruvllm_edge.operations import Call, Operation
from ruvllm_edge.problems import Problem
from ruvllm_edge.savings import DaysQuery
from ruvllm_edge.usage import UsageReport

T = TypeVar("T")
_Limit = Annotated[float, Meta(ge=0)]


class KeyBody(Struct, forbid_unknown_fields=True):
    """A key of the caller's space: role, the models it may use (all when empty), dollars a day, requests a second.

    `adds` is what its chats get beside being passed on: "memory", "persona", "write-back".
    """

    name: Annotated[str, Meta(min_length=1, max_length=80)]
    role: str = "use"
    models: Annotated[list[str], Meta(max_length=100)] = []
    budget: _Limit | None = None
    rate: _Limit | None = None
    agent: Annotated[str, Meta(max_length=200, description="whose memories it reads beside shared ones")] = ""
    adds: Annotated[list[str], Meta(max_length=3)] | None = None


class KeyRow(Struct, omit_defaults=True):
    """A key without its secret."""

    name: str
    role: str
    space: str
    models: list[str] = []
    budget: float | None = None
    rate: float | None = None
    agent: str = ""
    adds: list[str] | None = None


class KeyMade(Struct):
    """The key itself: it is shown this once."""

    name: str
    key: str


class KeyRows(Struct):
    """Of the caller's space."""

    keys: list[KeyRow]


class AuditQuery(Struct):
    """The latest rows, of one key or of all."""

    key: str | None = None
    most: Annotated[int, Meta(ge=1, le=10_000)] = 100


class AuditRows(Struct):
    """The oldest first."""

    rows: list[AuditRow]


async def usage(edge: Edge, call: Call) -> UsageReport:
    """Requests, tokens, cost and what is left of the budget, by key; an administrator sees all keys of the space."""
    keys = edge.keys.of_space(edge.name) if call.key.may("admin") and call.key.name else [call.key]
    return edge.usage.report(keys if edge.keys else [], edge.savings, call.query.days)


async def list_keys(edge: Edge, _: Call) -> KeyRows:
    """The keys of this space."""
    return KeyRows([_row(key) for key in edge.keys.of_space(edge.name)])


def _row(key: Key) -> KeyRow:
    adds = None if key.adds is None else list(key.adds)
    more = (list(key.models), key.budget, key.rate, key.agent, adds)
    return KeyRow(key.name, key.role or "teach", key.space, *more)


async def make_key(edge: Edge, call: Call) -> KeyMade:
    """Make a key of this space; only its hash is kept."""
    b: KeyBody = call.body
    limits: dict[str, Any] = {"budget": b.budget, "rate": b.rate, "agent": b.agent}
    limits |= {"models": tuple(b.models), "adds": None if b.adds is None else tuple(b.adds)}
    key = Key(b.name, role=b.role, space=edge.name, **limits)
    return KeyMade(b.name, await _change(edge, call, "keys add", b.name, lambda file: add_key(file, key)))


async def drop_key(edge: Edge, call: Call) -> None:
    """Withdraw a key: it is refused from now on."""
    name = _of_space(edge, call.path["name"])
    await _change(edge, call, "keys revoke", name, lambda file: revoke_key(file, name))


async def turn_key(edge: Edge, call: Call) -> KeyMade:
    """Another secret for a key; the former one is refused from now on."""
    name = _of_space(edge, call.path["name"])
    return KeyMade(name, await _change(edge, call, "keys rotate", name, lambda file: rotate_key(file, name)))


def _of_space(edge: Edge, name: str) -> str:
    """Raises Problem: this space has no such key; another space's is none."""
    if name not in {key.name for key in edge.keys.of_space(edge.name)}:
        raise Problem(404, "there is no such key", field="name", fix="see GET /v1/keys")
    return name


async def _change(edge: Edge, call: Call, action: str, name: str, change: Callable[[Path], T]) -> T:
    file = edge.settings.keys_file
    if file is None:
        fix = "start the server with --keys-file"
        raise Problem(409, "keys are not in a file, and stay as they are", field="keys_file", fix=fix)
    try:
        made = await asyncio.to_thread(change, file)
    except ConfigError as error:
        if error.field == "name" and "already" in error.message:
            raise Problem(409, error.message, field="name", fix=error.fix) from None
        raise
    edge.server.audit.add(action, 200, key=call.key.name, space=edge.name, role=call.key.role, about=name)
    return made


async def audit(edge: Edge, call: Call) -> AuditRows:
    """Who did what in this space, without contents."""
    log = edge.server.audit
    log.write()
    if log.file is None:
        return AuditRows([])
    rows: list[dict[str, Any]] = await asyncio.to_thread(
        read_audit, log.file, call.query.key, edge.name, call.query.most
    )
    return AuditRows([convert(row, AuditRow) for row in rows])


async def erase(edge: Edge, _: Call) -> None:
    """Delete all that this space holds: memories, sessions, agents, what was learnt, costs. Its keys stay."""
    await edge.erase()


_KEY = {"name": "laptop", "role": "use", "budget": 5}

OPERATIONS = (
    Operation("GET", "/v1/usage", usage, "What keys used and have left", query=DaysQuery, answer=UsageReport,
              tag="keys"),
    Operation("GET", "/v1/keys", list_keys, "The keys of the space", answer=KeyRows, tag="keys"),
    Operation("POST", "/v1/keys", make_key, "Make a key", KeyBody, answer=KeyMade, tag="keys", status=201,
              example=_KEY),
    Operation("DELETE", "/v1/keys/{name}", drop_key, "Withdraw a key", tag="keys", status=204),
    Operation("POST", "/v1/keys/{name}/rotate", turn_key, "Another secret for a key", answer=KeyMade, tag="keys"),
    Operation("GET", "/v1/audit", audit, "Who did what", query=AuditQuery, answer=AuditRows, tag="keys"),
    Operation("DELETE", "/v1/state", erase, "Delete all that the space holds", tag="server", status=204),
)  # fmt: skip
