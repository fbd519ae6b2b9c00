"""semantic-router's RouteLayer over ruvllm: the same calls, with a calibrated confidence in place of a threshold.

layer = RouteLayer(routes=[Route(name="billing", utterances=["I was charged twice"])])
layer("why was I billed again?").name  # None where no route is sure enough

semantic-router itself is not needed; its own Route objects are taken, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruvllm.agents.readers import read_agents
from ruvllm.errors import InputError
from ruvllm.runtime import RuvLLM
from ruvllm.sizing.tiers import CONFIRM_FROM
from ruvllm.types import Agent, Decision


@dataclass(frozen=True, slots=True)
class Route:
    """A route, as semantic-router describes one."""

    name: str
    utterances: Sequence[str] = ()
    description: str | None = None


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """What a text was routed to.

    Attributes:
        name: of the route; None where none is sure enough.
        similarity_score: the calibrated confidence, 0..1, in the place of a cosine.
    """

    name: str | None = None
    function_call: None = None
    similarity_score: float | None = None


class RouteLayer:
    """Routes texts among routes.

    Args:
        encoder: "cascade", "ruvltra", "static" or "minilm", as `RuvLLM` takes it; an encoder of semantic-router's is
            not used.
        routes: by name, with utterances; at least one before the first text.
        threshold: confidence below which no route is named.
        state: a file that keeps what feedback teaches.
    """

    def __init__(
        self,
        encoder: Any = None,
        routes: Iterable[Any] = (),
        *,
        threshold: float = CONFIRM_FROM,
        state: str | Path | None = None,
        **_: Any,
    ) -> None:
        self.routes: list[Any] = list(routes)
        self.threshold = threshold
        self._encoder, self._state = encoder if isinstance(encoder, str) else None, state
        self._llm: RuvLLM | None = None

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> RouteLayer:
        """From what semantic-router's `to_json` or `to_yaml` wrote. Raises AgentFileError: it holds no routes."""
        agents, problems = read_agents(path)
        if not agents:
            raise problems[0]
        return cls(routes=[Route(one.name, one.examples, one.description) for one in agents], **options)

    from_json = from_yaml = from_file

    @property
    def llm(self) -> RuvLLM:
        """What routes. Raises InputError: there are no routes, or one of them cannot be used."""
        if self._llm is None:
            if not self.routes:
                raise InputError("there are no routes", field="routes", fix="give RouteLayer(routes=[Route(…)])")
            self._llm = RuvLLM([_agent(one) for one in self.routes], encoder=self._encoder, state=self._state)
        return self._llm

    def add(self, routes: Any) -> None:
        """Add a route, or several; one of a name that there is takes the other's place."""
        new = list(routes) if isinstance(routes, Iterable) else [routes]
        self.routes = list(({one.name: one for one in self.routes} | {one.name: one for one in new}).values())
        if self._llm is not None:
            self._llm.add_agents([_agent(one) for one in new])

    def list_route_names(self) -> list[str]:
        """Names of the routes."""
        return [one.name for one in self.routes]

    def __call__(self, text: str, **_: Any) -> RouteChoice:
        """Where a text goes. Raises InputError: an unusable text."""
        return self._choice(self.llm.route(text))

    async def acall(self, text: str, **_: Any) -> RouteChoice:
        """The same, awaited."""
        return self._choice(await self.llm.aroute(text))

    def retrieve_multiple_routes(self, text: str) -> list[RouteChoice]:
        """The first route and those beside it that are at least half as likely, best first; none where unsure."""
        decision = self.llm.route(text)
        if self._choice(decision).name is None:
            return []
        near = [one for one in decision.alternatives if one.confidence >= decision.confidence / 2]
        found = [(decision.agent, decision.confidence), *((one.agent, one.confidence) for one in near)]
        return [RouteChoice(name, None, confidence) for name, confidence in found]

    def feedback(self, text: str, name: str) -> None:
        """Teach that a text belongs to a route; the next similar one goes there."""
        self.llm.feedback(text, name)

    def _choice(self, decision: Decision) -> RouteChoice:
        sure = decision.confidence >= self.threshold
        return RouteChoice(decision.agent if sure else None, None, decision.confidence)


SemanticRouter = RouteLayer  # as version 0.1 and later call it


def _agent(route: Any) -> Agent:
    name, utterances = getattr(route, "name", None), getattr(route, "utterances", None)
    if not isinstance(name, str) or utterances is None or isinstance(utterances, str):
        fix = 'give Route(name="…", utterances=["…"])'
        raise InputError(f"{route!r:.80} is no route", field="routes", fix=fix)
    texts = tuple(one for one in utterances if isinstance(one, str))
    return Agent(name, getattr(route, "description", None) or "", examples=texts)
