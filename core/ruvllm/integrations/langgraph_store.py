"""LangGraph's long-term store over ruvllm's memory: found by meaning and words, in one SQLite file, without an API.

graph = builder.compile(store=memory_store(llm))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import islice
from typing import Any

from ruvllm.encoders.protocol import run_now
from ruvllm.errors import InputError, RuvllmError
from ruvllm.runtime import RuvLLM
from ruvllm.state.record import AGENT, Memory

_MOST = 100_000  # items that are looked through where nothing is asked
_DEEPEST = 20  # of values and of namespaces


def memory_store(llm: RuvLLM, collection: str = "langgraph") -> Any:
    """A `BaseStore` of LangGraph.

    Values are searched by their texts, or by the fields that `index` names at the top level. An item's `ttl` (minutes)
    becomes its `expires`, which `ruvllm memory forget --expired` goes by.

    Args:
        llm: whose memory it is, and whose encoder reads the texts.
        collection: of that memory, in which all items are.

    Raises:
        RuvllmError: LangGraph is not installed.
    """
    if find_spec("langgraph") is None:
        raise RuvllmError("LangGraph is not installed", field="langgraph", fix="pip install 'ruvllm[langgraph]'")
    from langgraph.store.base import BaseStore, GetOp, Item, ListNamespacesOp, PutOp, SearchItem, SearchOp

    memory = llm.memory

    class RuvllmStore(BaseStore):  # type: ignore[misc]
        """Items as memories; each operation is on disk when it has returned."""

        supports_ttl = True

        def batch(self, ops: Iterable[Any]) -> list[Any]:
            return run_now(self.abatch(ops))

        async def abatch(self, ops: Iterable[Any]) -> list[Any]:
            return [await self._done(op) for op in ops]

        async def _done(self, op: Any) -> Any:
            if isinstance(op, PutOp):
                return await self._put(op)
            if isinstance(op, GetOp):
                found = self._stored(op.namespace, op.key)
                return _item(Item, found[0]) if found else None
            if isinstance(op, SearchOp):
                return await self._search(op)
            if isinstance(op, ListNamespacesOp):
                return self._namespaces(op)
            raise InputError(f"{type(op).__name__} is no operation", field="ops", fix="use those of langgraph.store")

        def _stored(self, namespace: Sequence[str], key: str) -> list[Memory]:
            wanted = {f"ns{len(namespace)}": _path(namespace), "depth": len(namespace), "key": key}
            return memory.get(memory.records.matching(collection, wanted).tolist())

        async def _put(self, op: Any) -> None:
            before = self._stored(op.namespace, op.key)
            if op.value is not None:
                now = datetime.now(UTC)
                about: dict[str, Any] = {f"ns{i}": _path(op.namespace[:i]) for i in range(1, len(op.namespace) + 1)}
                about |= {"depth": len(op.namespace), "namespace": list(op.namespace), "key": op.key}
                about |= {"value": op.value, "updated": now.isoformat(), AGENT: _path((*op.namespace, op.key))}
                about |= {"made": before[0].metadata["made"] if before else now.isoformat()}
                if op.ttl is not None:
                    about["expires"] = now.timestamp() + 60 * op.ttl
                await memory.aadd(_text(op), metadata=about, collection=collection)
            if before:
                memory.forget([one.id for one in before])
            memory.flush()

        async def _search(self, op: Any) -> list[Any]:
            depth, wanted = len(op.namespace_prefix), dict[str, Any]()
            if depth:
                wanted[f"ns{depth}"] = _path(op.namespace_prefix)
            wanted |= {f"value.{name}": condition for name, condition in (op.filter or {}).items()}
            last = op.offset + op.limit
            if op.query and last:
                hits = await memory.asearch(op.query, last, collection=collection, filter=wanted or None)
                return [_item(SearchItem, one.memory, score=one.score) for one in hits[op.offset :]]
            ids = memory.records.matching(collection, wanted).tolist()
            return [_item(SearchItem, one, score=None) for one in memory.get(ids[op.offset : last])]

        def _namespaces(self, op: Any) -> list[tuple[str, ...]]:
            ids = memory.records.matching(collection, {}).tolist()[:_MOST]
            found = {tuple(one.metadata["namespace"]) for one in memory.get(ids)}
            chosen = [one for one in found if all(_matches(one, rule) for rule in op.match_conditions or ())]
            cut = sorted({one[: op.max_depth] if op.max_depth else one for one in chosen})
            return cut[op.offset : op.offset + op.limit]

    return RuvllmStore()


def _path(namespace: Sequence[str]) -> str:
    return "\x1f".join(namespace)


def _item(kind: Any, memory: Memory, **more: Any) -> Any:
    about = memory.metadata
    return kind(
        value=dict(about["value"]), key=about["key"], namespace=tuple(about["namespace"]),
        created_at=datetime.fromisoformat(about["made"]), updated_at=datetime.fromisoformat(about["updated"]), **more,
    )  # fmt: skip


def _matches(namespace: Sequence[str], rule: Any) -> bool:
    """Whether a namespace begins or ends as a rule says, where "*" stands for any part."""
    length = len(rule.path)
    part = namespace[:length] if rule.match_type == "prefix" else namespace[len(namespace) - length :]
    return len(namespace) >= length and all(b in ("*", a) for a, b in zip(part, rule.path, strict=True))


def _text(op: Any) -> str:
    """What an item is found by."""
    fields = [] if op.index is False else op.value.values() if op.index is None else map(op.value.get, op.index)
    texts = list(islice((text for value in fields for text in _texts(value)), 1_000))
    return "\n".join(texts)[:100_000] or op.key


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str) and value.strip():
        yield value
    elif depth < _DEEPEST and isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one, depth + 1)
