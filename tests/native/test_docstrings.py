"""Each public name has an example in its docstring, and the examples do what they say."""

from __future__ import annotations

import asyncio
import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ruvllm
from ruvllm import BackendProfile, LLMOrchestrator, RuvLLM
from ruvllm.memory.memory import MemoryStore

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def documented() -> Iterator[tuple[str, object]]:
    """What has to have an example: all that `ruvllm` exports, and all methods of these classes."""
    yield from ((name, getattr(ruvllm, name)) for name in ruvllm.__all__)
    yield "MemoryStore", MemoryStore
    classes = [one for name in ruvllm.__all__ if inspect.isclass(one := getattr(ruvllm, name))]
    for owner in (*classes, MemoryStore):
        for name, one in vars(owner).items():
            awaited = name.startswith("a") and name[1:] in dir(owner)  # the other one has it
            method = callable(one) or isinstance(one, classmethod | staticmethod | property)
            if method and not (name.startswith("_") or name.isupper() or awaited):
                yield f"{owner.__name__}.{name}", getattr(owner, name)


EXAMPLES = dict(documented())


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_public_name_has_an_example_that_holds(
    name: str, static_llm: RuvLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ruvllm.toml").write_text('encoder = "static"\n')
    (tmp_path / "agents.json").write_text('[{"name": "barista", "description": "Makes coffee."}]')
    names = {one: getattr(ruvllm, one) for one in ruvllm.__all__} | {"np": np, "asyncio": asyncio}
    profiles = [("gpt-4", 0.03, 500, 0.98), ("llama-3-70b", 0.001, 1000, 0.85)]  # as in LLMOrchestrator's example
    names["llms"] = LLMOrchestrator([BackendProfile(*one) for one in profiles], static_llm.encoders.static)
    with RuvLLM(encoder="static", like=static_llm) as llm:
        found = doctest.DocTestParser().get_doctest(
            inspect.getdoc(EXAMPLES[name]) or "", names | {"llm": llm}, name, None, 0
        )
        said = list[str]()
        doctest.DocTestRunner(optionflags=FLAGS).run(found, out=said.append)
    assert found.examples, f"{name} shows no example"
    assert "".join(said) == ""
