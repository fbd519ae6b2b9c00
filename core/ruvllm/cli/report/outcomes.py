"""Outcomes of what coding agents did, taken to the router and to the choice of models."""

from __future__ import annotations

from collections.abc import Mapping

from ruvllm import Choice, Decision, RuvLLM
from ruvllm.cli.report.prices import Prices
from ruvllm.cli.report.transcripts import Ask
from ruvllm.encoders.protocol import run_now
from ruvllm.sizing.chooser import ModelChooser
from ruvllm.sizing.tiers import CATALOG, Features, TierProfile
from ruvllm.state.names import SpaceScopedStore
from ruvllm.types import Tier


class ClientModels:
    """How strong a model of a client a task gets, by what came of such tasks.

    Its outcomes have a part of the state file of their own, as a server's configured backends have theirs.

    Args:
        llm: whose state file holds them, and whose encoder reads the tasks.
        models: what the client calls that of each tier.
    """

    def __init__(self, llm: RuvLLM, models: Mapping[Tier, str]) -> None:
        self._llm, self._models = llm, models
        store = SpaceScopedStore(llm.store, f"{llm.encoders.space}/{'/'.join(models.values())}")
        self._chooser = ModelChooser(llm.encoders.main, store)
        rows = {one.tier: one for one in CATALOG}
        named = [(rows[tier], name) for tier, name in sorted(models.items())]
        if named:
            profiles = [TierProfile(row.tier, row.cost, row.latency, name, name) for row, name in named]
            self._chooser.serve(profiles, learning=True)

    def choice(self, decision: Decision, text: str) -> Choice:
        """The model's tier for a task, and who says so."""
        agent = next((one for one in self._llm.agents if one.name == decision.agent), None)
        trained = run_now(self._llm.routing.router.trained_tier(text))
        return self._chooser.choose(Features(text, agent, trained=trained, vector=self._llm.embed([text])[0]))

    def learn(self, ask: Ask, prices: Prices, *, routes: bool) -> bool:
        """Teach what came of an ask; whether it says anything. Call `save` at the end.

        Args:
            prices: which tell models' tiers by their names.
            routes: whether it says something of the agent, too, and not of the model alone.

        Raises:
            StoreError: the state file takes nothing.
        """
        success, weight, _ = ask.outcome()
        if success is None or not ask.text.strip():
            return False
        if routes and any(agent.name == ask.agent for agent in self._llm.agents):
            self._llm.feedback(ask.text, ask.agent, weight, right=success)
        tier = prices.tier(ask.model)
        if tier is not None and tier in self._models and len(self._models) > 1:
            quality = 0.5 + (weight if success else -weight) / 2
            self._chooser.observe(self._models[tier], ask.text, self._llm.embed([ask.text])[0], quality)
        return True

    def save(self) -> None:
        """Store what was learnt of models. Raises StoreError: the file takes nothing."""
        self._chooser.save()


def cost_of(ask: Ask, prices: Prices) -> float:
    """US dollars; what nobody priced costs nothing."""
    found = ((prices.of(model), tokens) for model, tokens in ask.usage.items())
    return sum(price.of(tokens) for price, tokens in found if price is not None)
