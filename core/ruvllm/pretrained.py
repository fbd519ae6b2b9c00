"""Options for a runtime that answers with a model on this machine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ruvllm.config import BackendConfig, Config
from ruvllm.errors import InputError
from ruvllm.inference.library import Tell, prepare
from ruvllm.reprs import shortened

__all__ = ["config_with_model"]


def config_with_model(model: str | Path, config: Config, tell: Tell | None = None) -> Config:
    """The same with a model for the small tier, downloaded and converted first if need be.

    Raises:
        RuvllmError: the model cannot be had.
    """
    if not isinstance(model, str | os.PathLike) or not str(model).strip():
        fix = "give a path, owner/repo[:file] or a known name; options go into `config`"
        raise InputError(f"model is {shortened(model)}", field="model", fix=fix)
    name = os.fspath(model)
    ready = prepare(name) if tell is None else prepare(name, tell=tell)
    tiers = {**config.inference.tiers, "small": BackendConfig("local", model=str(ready.path))}
    return replace(config, inference=replace(config.inference, tiers=tiers))
