"""Outcomes of what coding agents did, taken to the router and to the choice of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ruvllm import Choice, Decision, RuvLLM
from ruvllm.cli.prices import Prices
from ruvllm.cli.transcripts import Ask
from ruvllm.encoders.protocol import run_now
from ruvllm.sizing.chooser import ModelChooser
from ruvllm.sizing.tiers import CATALOG, Features, TierProfile
from ruvllm.state.names import SpaceScopedStore
from ruvllm.types import Tier

__all__ = ["ClientModels", "cost_of", "learn_from", "models_of"]


@dataclass(frozen=True, slots=True)
class ClientModels:
    """How strong a model of a client a task gets, by what came of such tasks.

    Its outcomes have a part of the state file of their own, as a server's configured backends have theirs.
    """

    chooser: ModelChooser

    def choice(self, llm: RuvLLM, decision: Decision, text: str) -> Choice:
        """The model's tier for a task, and who says so."""
        agent = next((one for one in llm.agents if one.name == decision.agent), None)
        trained = run_now(llm.routing.trained_tier(text))
        return self.chooser.choose(Features(text, agent, "", trained, llm.embed([text])[0]))


def models_of(llm: RuvLLM, models: Mapping[Tier, str]) -> ClientModels:
    """Over the models that a client has.

    Args:
        models: what the client calls that of each tier.
    """
    store = SpaceScopedStore(llm.store, f"{llm.encoders.space}/{'/'.join(models.values())}")
    chooser = ModelChooser(llm.encoders.main, store)
    rows = {one.tier: one for one in CATALOG}
    chooser.serve(
        [TierProfile(tier, rows[tier].cost, rows[tier].latency, name, name) for tier, name in sorted(models.items())],
        learning=True,
    )
    return ClientModels(chooser)


def cost_of(ask: Ask, prices: Prices) -> float:
    """US dollars; what nobody priced costs nothing."""
    found = ((prices.of(model), tokens) for model, tokens in ask.usage.items())
    return sum(price.of(tokens) for price, tokens in found if price is not None)


def learn_from(llm: RuvLLM, ask: Ask, models: Mapping[Tier, str], prices: Prices, *, routes: bool) -> bool:
    """Teach what came of an ask; whether it says anything.

    Args:
        models: the client's by their tiers; outcomes of others teach nothing of models.
        routes: whether it says something of the agent, too, rather than of the model alone.

    Raises:
        StoreError: the state file takes nothing.
    """
    success, weight, _ = ask.outcome()
    if success is None or not ask.text.strip():
        return False
    if routes and any(agent.name == ask.agent for agent in llm.agents):
        llm.feedback(ask.text, ask.agent, weight, right=success)
    tier = prices.tier(ask.model)
    if tier is not None and tier in models and len(models) > 1:
        learner = models_of(llm, models)
        quality = 0.5 + (weight if success else -weight) / 2
        learner.chooser.observe(models[tier], ask.text, llm.embed([ask.text])[0], quality)
        learner.chooser.save()
    return True
