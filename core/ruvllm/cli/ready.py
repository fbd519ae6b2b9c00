"""Models that a command needs, made ready while a person watches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ruvllm import RuvLLM
from ruvllm.cli.console import progress, stages, warn
from ruvllm.encoders.protocol import run_now
from ruvllm.routing.router import MODES
from ruvllm.routing.stored import is_long

if TYPE_CHECKING:
    from ruvllm.inference.library import Converted


_SLICE, _FIT = 64, 150  # texts read between two steps; steps of a fit, about
_MANY = 50_000  # memories from which looking at all their vectors' spaces takes longer than a command should


def ready_model(text: str, *, download: bool = True) -> Converted:
    """A model that is ready, downloaded and converted with a bar if need be. Raises RuvllmError: it cannot be had."""
    from ruvllm.inference.library import find_model, prepare

    found = find_model(text)
    if found is not None:
        return found
    with stages(text) as show:
        return prepare(text, tell=lambda what, done, total: show(what, done / max(total, 1)), download=download)


def ready_encoder(text: str | None) -> None:
    """The same for what `--encoder` names. Raises RuvllmError: it cannot be had."""
    if text is None or text in MODES:
        return
    from ruvllm.inference.encoder_model import is_onnx_folder, parted

    model, _ = parted(text)
    if not is_onnx_folder(Path(model).expanduser()):
        ready_model(model)


def warm_agents(llm: RuvLLM) -> None:
    """Let the encoders read the agents, with a bar: a language model, or a long set, takes its time the first time."""
    if llm.encoders.custom is None:
        _warm_long(llm)
        return
    agents = llm.agents
    texts = {text for agent in agents for text in agent.examples}
    with progress("reading the agents", 2 * len(agents) + len(texts)) as advance:
        llm.encoders.custom.model.on_encoded = advance
        run_now(llm.routing.router.warm())
        llm.encoders.custom.model.on_encoded = lambda: None


def _warm_long(llm: RuvLLM) -> None:
    """A long set that is in no cache: with a step for each slice that is read, and for each of a fit."""
    agents = llm.agents
    missing = {
        one.name for one in (llm.encoders.static, llm.encoders.contextual) if one is not None
    } - llm.routing.router.learnt.keys()
    if not is_long(agents) or not missing:
        return
    texts = 2 * len(agents) + sum(len(agent.examples) for agent in agents)
    with progress("learning the agents, once", len(missing) * (texts // _SLICE + _FIT)) as advance:

        async def step() -> None:
            advance()

        run_now(llm.routing.router.warm(step))


def check_memories(llm: RuvLLM) -> None:
    """Say that some memories are of another encoder; where all are, a search itself does.

    Raises:
        StoreError: the state file cannot be read.
    """
    counts = llm.memory.records.counts()
    if not 0 < sum(counts.values()) <= _MANY:
        return
    from ruvllm.memory.reembed import elsewhere

    away = elsewhere(llm.memory)
    if away and sum(away.values()) < sum(counts.values()):
        names = ", ".join(f"{count:,} of {space}" for space, count in away.items())
        warn(f"not searched: memories of another encoder ({names}); `ruvllm memory reembed` takes them over")
