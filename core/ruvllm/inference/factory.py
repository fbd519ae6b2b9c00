"""Backends as a configuration describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ruvllm.artifacts.machine import memory_limit
from ruvllm.encoders.protocol import Encoder
from ruvllm.errors import ConfigError
from ruvllm.inference.backend import Backend
from ruvllm.inference.chat_wire import Dialect
from ruvllm.inference.echo import Echo
from ruvllm.inference.endpoint import Endpoint, Price, Retries
from ruvllm.inference.extractive import Extractive
from ruvllm.inference.library import find_model, missing
from ruvllm.inference.local_models import LocalModels
from ruvllm.inference.openai_http import OpenAiHttp
from ruvllm.inference.tiers import Tiers
from ruvllm.options import TIERS, BackendConfig, InferenceConfig
from ruvllm.reprs import shortened
from ruvllm.types import Tier

# Where nobody said how long a prompt may be: a coding agent's begin at tens of thousands of tokens, and a limit of
# ours would refuse what the server takes. Whatever ruvllm itself adds stays within `inference.context`.
_UNKNOWN_CONTEXT = 10_000_000
_OF_LIMIT = 0.7  # of a container's memory that models may have; the rest is for what they read, and for all else
_LOCAL_CONTEXT = 8_192  # the cache of what was read takes memory


def make_tiers(config: InferenceConfig, encoder: Encoder, backends: Mapping[Tier | str, Backend] | None) -> Tiers:
    """The backends of all tiers; the extractive one alone where there is none.

    Args:
        encoder: of the extractive backend.
        backends: by tier or its name, in the place of the configured ones.

    Raises:
        ConfigError: a backend that cannot be made, or for a tier that there is not.
    """
    if backends is None:
        models = local_models(config)
        backends = {tier: make_backend(tier, one, encoder, models) for tier, one in config.tiers.items()}
    if not isinstance(backends, Mapping):
        fix = 'give a mapping by tier, as {"large": …}'
        raise ConfigError(f"backends is {shortened(backends)}", field="backends", fix=fix)
    for tier, backend in backends.items():
        if not hasattr(backend, "generate"):
            fix = "give a Backend, or name one by url or model in the `inference.tiers` of a config"
            raise ConfigError(f"backends.{tier} is {shortened(backend)}"[:120], field="backends", fix=fix)
    chosen = {_tier(tier): backend for tier, backend in backends.items()}
    return Tiers(chosen or {Tier.BOOSTER: Extractive(encoder)})


def local_models(config: InferenceConfig) -> LocalModels:
    """The models on this machine, which the backends of all tiers share; in a container, within its memory."""
    limit = config.memory_mb * 1_000_000 or int(_OF_LIMIT * (memory_limit() or 0))
    return LocalModels(memory=limit or None, queue=config.queue, threads=config.threads)


def make_backend(name: str, config: BackendConfig, encoder: Encoder, models: LocalModels) -> Backend:
    """A backend as configured. Raises ConfigError: it cannot be made."""
    if config.kind == "local":
        found = find_model(config.model) if config.model else None
        if found is None:
            raise missing(config.model)
        return models.backend(name, found.path, config.context or _LOCAL_CONTEXT)
    if config.kind == "echo":
        return Echo(name)
    if config.kind == "extractive":
        return Extractive(encoder, name=name)
    endpoint = Endpoint(
        config.url,
        config.model,
        config.api_key_env,
        config.context or _UNKNOWN_CONTEXT,
        cast(Dialect, config.dialect),
        extra=config.extra,
        price=Price(config.prompt_price, config.completion_price, config.cached_price),
        read_timeout=config.read_timeout,
        timeout=config.timeout,
        retries=Retries(config.retries),
        api=config.kind,
    )
    return OpenAiHttp(endpoint, name=name)


def _tier(tier: Tier | str) -> Tier:
    if isinstance(tier, Tier):
        return tier
    if tier not in TIERS:
        raise ConfigError(f"no tier {tier!r}"[:100], field="backends", fix=f"use {', '.join(TIERS)}")
    return Tier(TIERS.index(tier) + 1)
