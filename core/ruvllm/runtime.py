"""RuvLLM: one object that routes and learns, asynchronous inside, with a synchronous face."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Never

from ruvllm.agents.catalog import Agents, as_agents, builtin_agents, unique
from ruvllm.agents.readers import read_agents
from ruvllm.artifacts.host import Host, NativeHost
from ruvllm.choosing import trained_tiers
from ruvllm.config import Config, agents_and_config, names_a_model
from ruvllm.encoders.families import FAMILIES, MINILM, RUVLTRA
from ruvllm.encoders.protocol import Encoder, Vectors, pause, run_now
from ruvllm.errors import LINT, AgentFileError, ConfigError, InputError, unknown
from ruvllm.models import Models
from ruvllm.reprs import shortened
from ruvllm.routing.compiled import Compiled
from ruvllm.routing.router import MODES, Router, checked_text
from ruvllm.routing.stored import CachedScorers, kept_scorers
from ruvllm.state.steps import Steps
from ruvllm.state.store import Store
from ruvllm.teaching import Teaching
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Agent, Decision, Team, Tier

if TYPE_CHECKING:
    from ruvllm.inference.backend import Backend
    from ruvllm.inference.library import Tell
    from ruvllm.learning.loops import Loops
    from ruvllm.memory.memory import MemoryStore
    from ruvllm.own_encoder import OwnEncoder
    from ruvllm.query.pipeline import Pipeline
    from ruvllm.routing.lint import Finding
    from ruvllm.sizing.trained import TrainedTiers

__all__ = ["RuvLLM"]


class RuvLLM(Teaching):
    """Routes tasks to agents and answers them, offline, and learns from every feedback.

    Every method has an async form (`aroute`, …) for hosts whose encoder must be awaited.

    Args:
        agents: agents to route among: a folder of Claude Code agents, an agents file, or agents as Agent objects or
            mappings; the built-in catalog when None. Options in their place, a Config or a mapping, count as `config`.
        encoder: "cascade", "ruvltra", "static" or "minilm"; None takes "cascade" where RuvLTRA can run. Or a model
            on this machine, as `ruvllm.inference.encoder_model.open_encoder` takes it; what another encoder remembered
            is found with it after `ruvllm memory reembed`.
        state: the SQLite file that keeps what is learnt; None keeps nothing.
        host: where this runs; the native host when None.
        like: another one, whose host and models this one shall use too: they are read once.
        config: all other options, a Config or a mapping as `Config.from_dict` takes it; where it names agents, encoder
            or state, the arguments here count first.
        backends: what writes the answers of each tier (or of "booster", "small", "large"); those of the config,
            and without any the extractive one, which answers from memory without an LLM.

    Attributes:
        problems: agent files that were skipped, each naming its line.
        own: the model that was named as encoder, None with one of ruvllm's.
        steps: guards what is done behind answers and at the end; `stats` counts what failed.
        contextual: the encoder that reads a text as a whole; None where the static one is alone.
        space: the name of the vector space of what is remembered.

    Raises:
        ArtifactError: a model artifact is missing or damaged.
        AgentFileError: `agents` does not exist.
        InputError: `agents` holds no usable agent, or another argument is unusable.
        ConfigError: an unusable option, or one that there is not.
    """

    INSTEAD: ClassVar = {
        "process": "query",
        "generate": "query",
        "shutdown": "close",
        "add_memory": "memory.add",
        "search_memory": "memory.search",
        "force_learn": "learners.engine.force_learn, or loops.run",
        "find_patterns": "learners.engine.find_patterns",
        "similarity": "embed: the product of two vectors is their cosine",
        "batch_query": "query for each, or aquery in asyncio.gather",
        "create_session": "new_session",
        "get_stats": "stats()",
        "save": "tick, which writes what waits, or close",
    }

    def __init__(
        self,
        agents: Agents | Config | None = None,
        *,
        encoder: str | None = None,
        state: str | Path | None = None,
        host: Host | None = None,
        like: RuvLLM | None = None,
        config: Config | Mapping[str, Any] | None = None,
        backends: Mapping[Tier | str, Backend] | None = None,
        **unknown: Never,
    ) -> None:
        for name in unknown:
            raise ConfigError(f"no argument {name!r}", field=name, fix=f"{Config.instead(name)} (see Config)")
        if not isinstance(like, RuvLLM | None):
            raise InputError(f"like is {like!r}"[:120], field="like", fix="give a RuvLLM, or leave it out")
        agents, self.config = agents_and_config(agents, config)
        self._backends = backends
        agents = self.config.agents if agents is None else agents
        encoder, state = encoder or self.config.encoder, self.config.state if state is None else state
        self.host: Host = like.host if like is not None else host or NativeHost()
        self.problems: list[AgentFileError] = []
        self.steps = Steps()
        chosen = None if agents is None else self._read(agents)
        self._models: Models = like._models if like is not None else Models(self.host)
        self.mode = encoder or ("cascade" if self.host.has_sessions() else "static")
        self.own: OwnEncoder | None = None
        self.static = self._models.static
        self._use_encoder()
        self.store = Store(state) if state is not None else Store()
        self._take_over(self._make_router(builtin_agents() if chosen is None else chosen))

    @classmethod
    def from_pretrained(cls, model: str | Path, *, tell: Tell | None = None, **options: Any) -> RuvLLM:
        """One that answers with a model on this machine, which is downloaded and converted first if need be.

        Args:
            model: a converted folder, a GGUF file, a Hugging Face folder, `owner/repo[:file]` or a known name.
            tell: told what is being done, how much of it, of how much.
            options: as for `RuvLLM`; what a `config` says of backends counts for the other tiers.

        Raises:
            RuvllmError: the model cannot be had; or as `RuvLLM`.
        """
        from ruvllm.pretrained import config_with_model

        config = config_with_model(model, Config.of(options.pop("config", None)), tell)
        return cls(config=config, **options)

    def __repr__(self) -> str:
        return f"RuvLLM({len(self.agents)} agents, encoder={self.mode!r}, state={shortened(self.store.path)})"

    def _use_encoder(self) -> None:
        """Open what `mode` names."""
        self.contextual: Encoder | None = None
        self.space = self._models.space
        if not isinstance(self.mode, str):
            raise InputError(f"encoder is {self.mode!r}"[:120], field="encoder", fix="give its name, or a model's path")
        if self.mode in FAMILIES:
            family = FAMILIES[self.mode]
            self.contextual, self.weights = self._models.encoder(family), self._models.weights(family)
            self.space = family.space(self.contextual.dim)
        elif self.mode in MODES:
            self.weights = self._models.weights(RUVLTRA)
            self.contextual = None if self.mode == "static" else self._models.encoder(RUVLTRA)
        elif names_a_model(self.mode):
            from ruvllm.own_encoder import OwnEncoder

            self.own = OwnEncoder(self.mode)
            # Weights over what an encoder says that was not trained for routing fit another such one best.
            self.contextual, self.weights = self.own.encoder, self.own.weights(self._models.weights(MINILM))
            self.mode = self.contextual.name
            self.space = f"{self.contextual.name}-{self.contextual.dim}"
        else:
            fix = f"use one of {', '.join(MODES)}, or the path of a model"
            raise InputError(f"encoder is {self.mode!r}", field="encoder", fix=fix)

    @cached_property
    def memory(self) -> MemoryStore:
        """What was told it to remember: texts found again by meaning, in the same state file."""
        from ruvllm.memory.memory import MemoryStore  # who only routes need not wait for it

        return MemoryStore(self.contextual or self.static, self.store, space=self.space)

    @property
    def agents(self) -> tuple[Agent, ...]:
        """The agents routed among."""
        return self.router.agents

    def agent(self, name: str) -> Agent:
        """One of them by its name. Raises InputError: there is none."""
        found = self.router.agent(well_formed(name)) if isinstance(name, str) else None
        if found is None:
            raise unknown("agent", name, (agent.name for agent in self.agents))
        return found

    def route(self, text: str, top: int = 3) -> Decision:
        """The agent, confidence and tier for a task.

        Args:
            text: the task as a person would type it.
            top: how many alternatives to name.

        Raises:
            InputError: the text is empty or far too large.
        """
        return run_now(self.aroute(text, top))

    async def aroute(self, text: str, top: int = 3) -> Decision:
        """`route`, awaited."""
        return await self.router.route(text, top)

    def route_complex(self, text: str) -> Team:
        """The agents that take a compound task together, each with a role."""
        return run_now(self.aroute_complex(text))

    async def aroute_complex(self, text: str) -> Team:
        """`route_complex`, awaited."""
        from ruvllm.routing.team import build_team

        return await build_team(checked_text(text), self.router)

    def add_agents(self, agents: Agents) -> None:
        """Route among these agents too; one of a known name takes the other's place.

        Raises:
            AgentFileError: the path does not exist.
            InputError: there is no usable agent in it; the agents stay as they were.
        """
        self._take_over(self._with(self._read(agents)))

    async def aadd_agents(self, agents: Agents) -> None:
        """`add_agents`, awaited: all is learnt before it returns, while tasks go on being routed among the old ones."""
        added = self._read(agents)
        while True:
            before, router = self.router, self._with(added)
            await router.warm(pause)
            if self.router is before:  # nothing else was added meanwhile
                break
        self._take_over(router)

    async def areplace_agents(
        self, agents: str | Path | Iterable[Agent], fit: Callable[[Router], Awaitable[None]] | None = None
    ) -> None:
        """Route among these agents and no others, from when it returns; among the old ones until then.

        Args:
            fit: warms the new router up in its own way, as a server does in a thread.

        Raises:
            AgentFileError: the path does not exist.
            InputError: there is no usable agent in it; the agents stay as they were.
        """
        router = self._make_router(self._read(agents))
        await (router.warm(pause) if fit is None else fit(router))
        self._take_over(router)

    def _with(self, added: Iterable[Agent]) -> Router:
        """A router for today's agents and these."""
        merged = {agent.name: agent for agent in (*self.agents, *added)}
        return self._make_router(list(merged.values()))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors in `space`: float32 (len(texts), dim), by the static encoder where there is no other."""
        return run_now(self.aembed(texts))

    async def aembed(self, texts: Sequence[str]) -> Vectors:
        """`embed`, awaited."""
        if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
            raise InputError(f"texts is {texts!r}"[:120], field="texts", fix="give a list: embed([text])[0] for one")
        encoder: Encoder = self.contextual or self.static
        return await encoder.encode([checked_text(text) for text in texts])

    def lint(self) -> list[Finding]:
        """What to change about these agents: confusable, duplicated, empty ones."""
        from ruvllm.routing.lint import lint_agents

        return lint_agents(self.agents, self.static)

    def raw_confidence(self, text: str) -> float:
        """The top softmax probability before calibration (`ruvllm eval` shows both)."""
        return run_now(self.router.raw_confidence(text))

    def stats(self) -> dict[str, Any]:
        """What this object holds and has done."""
        told = {"agents": len(self.agents), "encoder": self.mode, "state": self.store.path}
        told |= {"set_aside": self.store.set_aside.counts(), "failures": dict(self.steps.failures)}
        return told | self.router.stats | self._query_stats() | self._choice_stats()

    def close(self) -> None:
        """Write what waits, and release the state file."""
        try:
            self._stop()
            with self.steps("encoder"):
                if self.own is not None:
                    self.own.save(self.store, self.router, self._told(self.agents))
            self._save_selector()
            with self.steps("memory"):
                if "memory" in self.__dict__:  # not one that would be made just now
                    self.memory.save()
        finally:
            self.store.close()

    def __enter__(self) -> RuvLLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_loops(self) -> Loops:
        from ruvllm.background import loops_of

        return loops_of(self)

    def _make_pipeline(self) -> Pipeline:
        from ruvllm.assembly import assemble  # who only routes need not wait for asyncio and the learners

        return assemble(self, self.memory, self.config, self._backends, self.steps)

    def _read(self, agents: object) -> list[Agent]:
        if not isinstance(agents, str | Path):
            return list(unique(as_agents(agents)))
        found, self.problems = read_agents(agents, self.host.cache)
        if not found:
            first = f" ({self.problems[0].message})" if self.problems else ""
            raise InputError(f"{agents} holds no usable agent{first}", field="agents", fix=LINT)
        return found

    def _make_router(self, agents: Sequence[Agent]) -> Router:
        chosen = unique(agents)
        compiled = None if self.own is not None else self._models.builtin(agents, self._builtin(), self.weights)
        encoders = [one.name for one in (self.static, self.contextual) if one is not None]
        cached = CachedScorers(self.host.cache if self.own is None else None, chosen, self.weights, encoders)
        if compiled is None and (known := cached.load()):
            compiled = Compiled(chosen, known)
        kept = kept_scorers(self.store, chosen, self._told(chosen), self.weights)
        if kept:
            before = compiled.scorers if compiled and compiled.agents == chosen else {}
            compiled = Compiled(chosen, before | {name: scorer for name, (scorer, _) in kept.items()})
        seen = {name: count for name, (_, count) in kept.items()}
        if self.own is not None:
            self.own.kept = self.own.model.name in kept
        return Router(
            chosen,
            self.static,
            self.contextual,
            self.weights,
            mode=self.mode,
            compiled=compiled,
            seen=seen,
            tiers=self._tiers(),
            built=cached.save,
        )

    def _tiers(self) -> TrainedTiers | None:
        """What is to name the tiers of tasks; None for their words, also where it was learnt on other vectors."""
        tiers = trained_tiers(self.config.router.tier_model, self.store, self.host)
        if tiers is None:
            return None
        own = self._models.space if tiers.difficulty.encoder == self.static.name else self.space
        return tiers if tiers.difficulty.space in ("", own) else None

    def _builtin(self) -> list[str]:
        """The artifacts of the built-in agents: apart, since a page begins before it has fetched the second."""
        read = [] if self.mode in FAMILIES else ["builtin.npz"]
        return read if self.contextual is None else [*read, FAMILIES[self.contextual.name].builtin]
