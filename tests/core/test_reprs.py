"""Whatever a session at the prompt shows fits on one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import pytest

import ruvllm
from ruvllm import Agent, BackendError, Config, Constraints, InputError, RuvLLM, Session, StoreError, Tier
from ruvllm.index import AutoIndex
from ruvllm.inference.backend import Message, Params
from ruvllm.inference.echo import Echo
from ruvllm.learning.federated.ephemeral import EphemeralAgent
from ruvllm.learning.sona import SonaConfig, SonaEngine
from ruvllm.options import BackendConfig
from ruvllm.reprs import one_line, shortened
from ruvllm.sizing.selector import BackendProfile

LONG = "a task\nwith lines, that goes on about doughs, ovens and cakes " * 200
LINE = 160


def within(value: Any, seen: int = 0) -> Iterator[Any]:
    """It, and all it holds."""
    yield value
    if seen > 4 or isinstance(value, str | bytes | np.ndarray):
        return
    inside: list[Any] = []
    if is_dataclass(value):
        inside = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, Mapping):
        inside = list(value.values())
    elif isinstance(value, list | tuple):
        inside = list(value[:20])
    for one in inside:
        yield from within(one, seen + 1)


def shown(llm: RuvLLM) -> Iterator[Any]:
    """What normal use gives."""
    yield llm
    yield from llm.agents
    yield llm.route(LONG)
    yield llm.route("use a var, please: const x = 1")
    yield llm.route_complex("bake a cake, then write down the recipe and then test it")
    yield llm.lint()
    session = llm.new_session({"user": LONG, "tags": [[LONG] * 50] * 50})
    yield session
    ids = llm.memory.add([LONG, "cakes are baked at 180 degrees"], metadata={"about": LONG}, collection="default")
    yield llm.memory
    yield llm.memory.get(ids)
    yield llm.memory.search("how are cakes baked?", hops=1)
    yield llm.memory.nearest(llm.embed(["cakes"])[0], 2)
    yield llm.memory.graph.neighbours(ids)
    yield llm.memory.graph.expand(ids, 1)
    yield llm.memory.store
    for text in ("how are cakes baked?", LONG):
        response = llm.query(text, session=session, constraints={"max_tokens": 50})
        yield response
        yield llm.feedback_request(response.request_id, 5)
    yield llm.session(session)
    yield llm.query_deep("how are cakes baked, and who writes the recipe?", context=LONG)
    yield llm.rlm()
    yield llm.store.feedback()
    yield llm.learning
    yield llm.backends
    yield llm.jobs
    yield llm.stats()
    chooser = llm.orchestrator([BackendProfile("small " * 50, 0.001), BackendProfile("large", 0.03)])
    yield chooser.backends
    yield chooser.select("say hello")


def learnt(llm: RuvLLM) -> Iterator[Any]:
    """What learning gives."""
    sona = SonaEngine(encoder=llm.encoders.static)
    for _ in range(3):
        id = sona.begin_trajectory(LONG, "baker")
        sona.add_trajectory_step(LONG, LONG, 0.5)
        sona.add_trajectory_context({"desk": LONG, "floor": 2})
        yield sona.end_trajectory(0.9, trajectory=id)
    yield from sona.core.waiting
    yield sona.force_learn()
    yield sona.get_patterns()
    yield sona.find_patterns("cakes")
    yield sona.get_stats()
    yield sona
    yield EphemeralAgent.default_federated("agent-1", 256)


def made() -> Iterator[Any]:
    """What code makes itself."""
    yield Config()
    yield Config.from_dict(
        {"state": LONG, "inference": {"tiers": {tier: {"url": LONG} for tier in ("small", "large")}}}
    )
    yield SonaConfig(1, 2, 3, 4, 0.5, 0.5, 1_000, 5, 6, 7, 0.8)
    yield Constraints(1.5, 2, 0.5, 0.9, LONG, 4096, (LONG,) * 50, 2**63 - 1)
    yield Params(stop=(LONG,) * 50, seed=10**5_000)
    yield BackendConfig("openai", LONG, LONG, LONG, 1.5, 1.5, 9, 9, 0.5, 0.5)
    yield Message("user", LONG)
    yield Session("s", metadata={LONG: {LONG: [LONG] * 9}})
    yield Agent(LONG, LONG, LONG, (LONG,) * 9, (LONG,) * 9, Tier.SMALL, LONG, (LONG,) * 9, LONG)
    yield Echo("echo")
    index = AutoIndex(4)
    index.add([1, 2], np.eye(4, dtype=np.float32)[:2])
    yield index
    yield index.search(np.ones(4, np.float32), 2)
    yield InputError(LONG, field=LONG, fix=LONG)
    yield StoreError(LONG)
    yield BackendError(LONG, kind="timeout", partial=LONG)


def test_what_is_shown_fits_on_a_line(kitchen: list[Agent]):
    llm = RuvLLM([*kitchen, Agent("writer", LONG[:10_000], examples=("write it down",) * 5)], encoder="static")
    kinds = set()
    for source in (shown(llm), learnt(llm), made()):
        for top in source:
            for value in within(top):
                if type(value).__module__.startswith("ruvllm"):
                    kinds.add(type(value).__name__)
                    line = repr(value)
                    assert len(line) <= LINE, (type(value), line)
                    assert "\n" not in line, line
    assert len(kinds) > 50, sorted(kinds)


def test_every_noun_that_is_exported_shows_itself_on_a_line():
    """Whatever its fields hold."""
    for name in ruvllm.__all__:
        kind: Any = getattr(ruvllm, name)
        if isinstance(kind, type) and is_dataclass(kind):
            for value in (LONG, [LONG] * 99, {LONG: LONG}, np.ones((9, 99)), 10**9_999, object(), float("nan")):
                one = object.__new__(kind)
                for field in fields(kind):
                    object.__setattr__(one, field.name, value)
                assert len(repr(one)) <= LINE, name
                assert "\n" not in repr(one), name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("bread", "'bread'"),
        (np.ones(256, np.float32), "float32[256]"),
        (np.ones((3, 4)), "float64[3, 4]"),
        (np.float32(0.25), "0.25"),
        (0.1234567891, "0.123457"),
        (Tier.SMALL, "Tier.SMALL"),
        ([1, 2, 3], "[1, 2, 3]"),
        (tuple(range(9)), "(0, 1, 2, … 9 items)"),
        ({"a": {"b": [1, 2]}}, "{'a': {'b': [2 items]}}"),
        ({}, "{}"),
        (2**300, "a number of 301 bits"),
    ],
)
def test_values_are_shortened(value: Any, text: str):
    assert shortened(value) == text


def test_what_is_at_its_default_is_left_out():
    @dataclass
    class Loaf:
        flour: str
        grams: int = 500
        __repr__ = one_line

    assert repr(Loaf("rye")) == "Loaf(flour='rye')"
    assert repr(Loaf("rye", 750)) == "Loaf(flour='rye', grams=750)"
    assert repr(Loaf("rye\n" * 99)).endswith("…')")
    assert repr(Config()) == "Config()"
