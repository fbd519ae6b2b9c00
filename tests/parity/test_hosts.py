"""500 prompts in CPython, in Pyodide under Node and in Chromium: the same decisions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import hosts
import numpy as np
import pytest
from hosts import Answers

ROOT = Path(__file__).parents[2]
KINDS: dict[str, list[str]] = json.loads((ROOT / "tests/data/parity_prompts.json").read_text("utf-8"))["prompts"]
PROMPTS = [prompt for prompts in KINDS.values() for prompt in prompts]


@pytest.fixture(scope="module")
def dist() -> Path:
    """The folder that `make web` built, or that $RUVLLM_DIST names."""
    folder = Path(os.environ.get("RUVLLM_DIST", ROOT / "web" / "dist"))
    if not (folder / "ruvllm.json").is_file():
        pytest.fail(f"{folder} is not built: run `make web`", pytrace=False)
    return folder


@pytest.fixture(params=["node", "chromium"])
def host(request: pytest.FixtureRequest, dist: Path) -> Callable[[str], Answers]:
    """Asks one of the two hosts that are not this process."""
    return lambda encoder: getattr(hosts, request.param)(dist, encoder, PROMPTS)


@pytest.fixture(scope="module")
def here() -> dict[str, Answers]:
    """By encoder, what this process says."""
    return {encoder: hosts.cpython(encoder, PROMPTS) for encoder in ("static", "ruvltra")}


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[Answers, Answers], None]:
    """Prints the figures, whatever pytest keeps to itself otherwise."""

    def print_figures(one: Answers, other: Answers) -> None:
        cosines = (one.vectors * other.vectors).sum(1)
        least = PROMPTS[int(cosines.argmin())][:60]
        with capsys.disabled():
            print(
                f"\n{request.node.name}: {_same(one, other)} of {len(PROMPTS)} agents the same as in CPython", end="; "
            )
            print(f"cosine of the vectors {cosines.mean():.6f} on average, at least {cosines.min():.6f} ({least!r})")

    return print_figures


def _same(one: Answers, other: Answers) -> int:
    return sum(a == b for a, b in zip(one.agents, other.agents, strict=True))


def test_the_prompts_are_500_and_of_many_kinds():
    assert len(set(PROMPTS)) == len(PROMPTS) == 500
    assert len(KINDS) >= 8


def test_static_decides_alike(host, here, tell):
    told = host("static")
    tell(told, here["static"])
    assert told.agents == here["static"].agents
    np.testing.assert_allclose(told.vectors, here["static"].vectors, atol=1e-5)


def test_ruvltra_hardly_differs(host, here, tell):
    told = host("ruvltra")
    tell(told, here["ruvltra"])
    cosines = (told.vectors * here["ruvltra"].vectors).sum(1)
    assert cosines.mean() >= 0.999
    assert cosines.min() >= 0.99
    assert _same(told, here["ruvltra"]) >= 0.99 * len(PROMPTS)
