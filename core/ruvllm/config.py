"""The options of a RuvLLM: from code, a TOML file or the environment, every mistake named with its key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ruvllm.errors import ConfigError
from ruvllm.hints import Options, nearest, snake_case
from ruvllm.lazy_dataclass import dataclass
from ruvllm.options import (
    CHOICES,
    RANGES,
    TIERS,
    BackendConfig,
    FederatedConfig,
    InferenceConfig,
    LearningConfig,
    MemoryConfig,
    RouterConfig,
    SessionsConfig,
)

_MOST_BYTES = 1_000_000  # of a file
# Options other systems of this kind have, and what takes their place here.
_ELSEWHERE = {
    **dict.fromkeys(
        (
            "hnsw_m",
            "hnsw_ef_construction",
            "hnsw_ef_search",
            "hnsw_params",
            "hnsw_config",
            "m",
            "efc",
            "efs",
            "ef_search",
        ),
        "set memory.recall; the index finds its own parameters",
    ),
    **dict.fromkeys(("embedding", "embedding_dim", "dimension", "dimensions"), "leave it out; the encoder settles it"),
    **dict.fromkeys(
        ("models", "available_models", "default_model", "inference_mode"),
        "set inference.tiers, a backend for each of booster, small and large",
    ),
    **dict.fromkeys(("db_path", "storage_path"), "use state"),
    **dict.fromkeys(("auto_consolidate", "auto_consolidate_interval"), "use learning.background_interval_ms"),
    "router.input_dim": "leave it out; it is 128",
    "max_tokens": "use inference.max_tokens for answers; encoders settle how much they read",
    **dict.fromkeys(("max_loaded", "max_loaded_models"), "use inference.memory_mb"),
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Config(Options):
    """All options.

    Attributes:
        agents: a folder of Claude Code agents or an agents file; the built-in catalog when None.
        encoder: "cascade", "ruvltra", "static" or "minilm", or the path or name of a model; None takes the best that
            can run.
        state: the file that keeps what is learnt; None keeps nothing.
    """

    agents: str | None = None
    encoder: str | None = None
    state: str | None = None
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    router: RouterConfig = field(default_factory=RouterConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    sessions: SessionsConfig = field(default_factory=SessionsConfig)
    federated: FederatedConfig = field(default_factory=FederatedConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)

    def __post_init__(self) -> None:
        """Raises ConfigError: a value that cannot be used, however it came here."""
        if isinstance(self.agents, Mapping):
            raise ConfigError("options are given as a mapping", field="config", fix="call Config.from_dict")
        for key, value, kind in _leaves(self):
            _check(key, value, kind)

    @classmethod
    def instead(cls, name: str) -> str:
        """What to use where there is no such option."""
        return _instead(name, name, cls)

    @classmethod
    def of(cls, given: Config | Mapping[str, Any] | None) -> Config:
        """The options given as such, as a mapping, or not at all. Raises ConfigError: they are neither."""
        if given is None or isinstance(given, Mapping):
            return cls.from_dict(given or {})
        if not isinstance(given, Config):
            fix = "give a Config: Config(…), Config.from_dict({…}) or Config.from_toml(path)"
            raise ConfigError(f"config is {given!r}"[:120], field="config", fix=fix)
        return given

    @classmethod
    def builder(cls) -> Builder:
        """Options one after another: `Config.builder().encoder("static").memory_k(32).build()`."""
        return Builder()

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> Config:
        """From nested mappings, as a TOML or JSON file gives them. Raises ConfigError: it names the key."""
        return _made(cls, options, "")

    @classmethod
    def from_toml(cls, path: str | Path) -> Config:
        """From a TOML file. Raises ConfigError: it cannot be read, or names the key."""
        import tomllib

        fix = "give a TOML file with options of ruvllm"
        if not isinstance(path, str | os.PathLike):
            raise ConfigError(f"path is {path!r}"[:120], field="path", fix=fix)
        try:
            with Path(path).open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
            options = tomllib.loads(data.decode("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read: {error}"[:300], field=str(path), fix=fix) from None
        return cls.from_dict(options)

    @classmethod
    def from_env(
        cls, prefix: str = "RUVLLM_", environ: Mapping[str, str] | None = None, base: Config | None = None
    ) -> Config:
        """From variables such as RUVLLM_STATE, RUVLLM_MEMORY_RECALL or RUVLLM_INFERENCE_SMALL_URL.

        Other variables with this prefix are somebody else's and stay unread.

        Args:
            base: where options come from that no variable names.

        Raises:
            ConfigError: it names the variable.
        """
        found = os.environ if environ is None else environ
        return _overlaid(base or cls(), prefix, found)


def agents_and_config(agents: Any, config: Any) -> tuple[Any, Config]:
    """Both, where options may have been given in the place of agents, or as a mapping, which may hold the agents.

    Raises:
        ConfigError: they cannot be used, or are given twice.
    """
    if isinstance(agents, Config) or (isinstance(agents, Mapping) and "name" not in agents):
        if config is not None:
            raise ConfigError("options are given twice", field="config", fix="give them as `config` alone")
        agents, config = None, agents
    if isinstance(config, Mapping) and not isinstance(config.get("agents"), str | None):
        agents = config["agents"] if agents is None else agents
        config = {name: value for name, value in config.items() if name != "agents"}
    return agents, Config.of(config)


def names_a_model(encoder: str) -> bool:
    """Whether that can be the path or the name of a model, rather than an encoder of ruvllm's."""
    return re.search(r"[/\\.:-]", encoder) is not None


class Builder:
    """Takes options by name, each with a call that gives the builder back.

    An option is called by its place (`memory_k` for memory.k), or by its name where no other group has the same
    (`ewc_lambda`); a group (`inference`) takes a mapping.
    """

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[[Any], Builder]:
        """Raises ConfigError: there is no such option; where it lives now."""
        if name.startswith("__"):
            raise AttributeError(name)
        places = [place for place, _, _ in _leaves(Config())]
        found = [one for one in places if name == one.replace(".", "_")]
        found += [one for one in places if name == one.rpartition(".")[2]]
        if not found and name not in get_type_hints(Config):
            raise ConfigError(f"no option {name!r}"[:100], field=name[:100], fix=Config.instead(name))
        if len(found) > 1 and name != found[0].replace(".", "_"):
            raise ConfigError(f"{name} is several", field=name, fix=f"use {' or '.join(found)}".replace(".", "_"))
        group, _, option = (found or [name])[0].rpartition(".")

        def put(value: Any) -> Builder:
            if group:
                self._given.setdefault(group, {})[option] = value
            else:
                self._given[name] = dict(value) if isinstance(value, Mapping) else value
            return self

        return put

    def build(self) -> Config:
        """All that was given. Raises ConfigError: a value that cannot be used."""
        return Config.from_dict(self._given)


def _leaves(config: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, value, type) of every option that holds no others."""
    for option, kind in get_type_hints(type(config)).items():
        value, key = getattr(config, option), f"{path}{option}"
        if is_dataclass(kind):
            if not isinstance(value, kind):  # type: ignore[arg-type]
                raise ConfigError(
                    f"{key} is {value!r}"[:120], field=key, fix="give its dataclass, or call Config.from_dict"
                )
            yield from _leaves(value, f"{key}.")
        elif option == "tiers":
            for tier, backend in _tiers(value, key).items():
                if not isinstance(backend, BackendConfig):
                    raise ConfigError(f"{key}.{tier} is no BackendConfig", field=f"{key}.{tier}", fix="give one")
                yield from _leaves(backend, f"{key}.{tier}.")
        else:
            yield key, value, kind


def _check(key: str, value: Any, kind: Any) -> None:
    if not _fits(value, kind):
        raise ConfigError(f"{key} is {value!r}"[:120], field=key, fix=f"give {_spelt(kind)}")
    short = key.rpartition(".")[2] if key.startswith("inference.tiers.") else key
    if short in RANGES and value is not None:
        least, most = RANGES[short]
        if not least <= value <= most:
            raise ConfigError(f"{key} is {value!r}", field=key, fix=f"use {least:g} to {most:g}")
    a_model = short == "encoder" and isinstance(value, str) and names_a_model(value)
    if short in CHOICES and value is not None and value not in CHOICES[short] and not a_model:
        raise ConfigError(f"{key} is {value!r}"[:120], field=key, fix=f"use one of {', '.join(CHOICES[short])}")


def _fits(value: Any, kind: Any) -> bool:
    kinds = _kinds(kind)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


def _kinds(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if isinstance(kind, UnionType) else (get_origin(kind) or kind,)


def _spelt(kind: Any) -> str:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", Mapping: "a table"}
    return " or ".join(names[one] for one in _kinds(kind) if one is not type(None))


def _tiers(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} is {value!r}"[:120], field=key, fix="give a table for each tier")
    for tier in value:
        if tier not in TIERS:
            raise ConfigError(f"no tier {tier!r}"[:100], field=f"{key}.{tier}"[:100], fix=f"use {', '.join(TIERS)}")
    return value


def _made(cls: type[T], options: Any, path: str) -> T:
    """A dataclass of options from a mapping."""
    if not isinstance(options, Mapping):
        key = path.rstrip(".") or "config"
        raise ConfigError(f"{key} is {options!r}"[:120], field=key, fix="give a table of options")
    kinds, given = get_type_hints(cls), {}
    for name, value in options.items():
        key = f"{path}{name}"[:100]
        if name not in kinds:
            raise ConfigError(f"no option {key!r}", field=key, fix=_instead(key, str(name), cls))
        if name == "tiers":
            given[name] = {
                tier: _made(BackendConfig, one, f"{key}.{tier}.") for tier, one in _tiers(value, key).items()
            }
        elif is_dataclass(kinds[name]):
            given[name] = _made(kinds[name], value, f"{key}.")
        else:
            _check(key, value, kinds[name])
            given[name] = value
    return cls(**given)


def _instead(key: str, name: str, group: type[Any]) -> str:
    """What to use in the place of an option that this group has not."""
    snake, fields = snake_case(name), get_type_hints(group)
    for spelt in (snake_case(key), snake):
        if spelt in _ELSEWHERE:
            return _ELSEWHERE[spelt]
    places = [place for place, _, _ in _leaves(Config())]
    same = [place for place in places if place.rpartition(".")[2] == snake]
    if same and snake not in fields:
        return f"use {' or '.join(same)}"
    fix, elsewhere = nearest(name, fields), nearest(name, places)
    return elsewhere if fix.startswith("use ") and not elsewhere.startswith("use ") else fix


def _overlaid(config: T, prefix: str, environ: Mapping[str, str]) -> T:
    """The same with what the environment says instead."""
    given: dict[str, Any] = {}
    for option in fields(config):  # type: ignore[arg-type]
        kind, value = get_type_hints(type(config))[option.name], getattr(config, option.name)
        name = f"{prefix}{option.name.upper()}"
        if option.name == "tiers":
            given[option.name] = _tiers_overlaid(value, prefix, environ)
        elif is_dataclass(kind):
            given[option.name] = _overlaid(value, f"{name}_", environ)
        else:
            given[option.name] = _parsed(name, environ[name], kind) if environ.get(name) else value
    return type(config)(**given)


def _tiers_overlaid(
    tiers: Mapping[str, BackendConfig], prefix: str, environ: Mapping[str, str]
) -> dict[str, BackendConfig]:
    """A tier that has no variable and is not there stays away."""
    out = {}
    for tier in TIERS:
        start = f"{prefix}{tier.upper()}_"
        named = any(environ.get(f"{start}{option.name.upper()}") for option in fields(BackendConfig))
        if tier in tiers or named:
            out[tier] = _overlaid(tiers.get(tier, BackendConfig()), start, environ)
    return out


def _parsed(name: str, text: str, kind: Any) -> Any:
    kinds = _kinds(kind)
    try:
        if Mapping in kinds:
            return json.loads(text)
        if bool in kinds:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        return int(text) if int in kinds else float(text) if float in kinds else text
    except (ValueError, KeyError, RecursionError):
        raise ConfigError(f"{name} is {text[:60]!r}", field=name, fix=f"give {_spelt(kind)}") from None
