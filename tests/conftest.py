"""Shared fixtures: the shipped artifacts, and small agent sets written for the tests."""

from __future__ import annotations

import pytest

from ruvllm import Agent, RuvLLM


@pytest.fixture(scope="session")
def static_llm() -> RuvLLM:
    """The built-in catalog under the static encoder; do not teach it anything."""
    return RuvLLM(encoder="static")


@pytest.fixture(scope="session")
def kitchen() -> list[Agent]:
    """Three agents far from the built-in ones; only the last has examples. Do not change the list."""
    return [
        Agent("baker", "Bakes bread, cakes and pastry; knows doughs, yeast and ovens."),
        Agent("barista", "Makes coffee drinks: espresso, latte art, grinders and milk foam."),
        Agent("gardener", "Grows herbs and vegetables.", examples=("prune the roses", "when do I sow basil")),
    ]
