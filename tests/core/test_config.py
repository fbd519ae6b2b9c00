"""Options from code, TOML and the environment: every mistake names its key and what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ruvllm.config import Config
from ruvllm.errors import ConfigError
from ruvllm.options import BackendConfig, InferenceConfig, MemoryConfig

EXAMPLE = """
agents = ".claude/agents"
encoder = "static"

[memory]
recall = 0.99
sources = 4

[inference]
temperature = 1

[inference.tiers.small]
kind = "openai"
url = "http://127.0.0.1:8080/v1"
model = "small-model"
prompt_price = 0.15

[inference.tiers.large]
kind = "openai"
url = "http://127.0.0.1:8081/v1"
api_key_env = "LARGE_KEY"
"""


def test_defaults_are_usable():
    config = Config()
    assert config == Config.from_dict({})
    assert (config.memory.k, config.memory.hops) == (64, 2)
    assert (config.router.hidden_dim, config.router.rank, config.router.sparsity) == (64, 8, 0.9)
    assert (config.sessions.ttl, config.sessions.most) == (3_600, 10_000)


def test_a_toml_file_gives_nested_options(tmp_path: Path):
    path = tmp_path / "ruvllm.toml"
    path.write_text(EXAMPLE, "utf-8")
    config = Config.from_toml(path)
    assert (config.agents, config.encoder, config.state) == (".claude/agents", "static", None)
    assert config.memory == MemoryConfig(recall=0.99, sources=4)
    assert config.inference.temperature == 1
    assert set(config.inference.tiers) == {"small", "large"}
    assert config.inference.tiers["small"].prompt_price == 0.15
    assert config.inference.tiers["large"].api_key_env == "LARGE_KEY"


def test_a_tier_takes_dialect_and_extra_from_a_file_and_from_the_environment(tmp_path: Path):
    path = tmp_path / "ruvllm.toml"
    tier = '[inference.tiers.small]\nkind = "openai"\nurl = "http://127.0.0.1:1/v1"\nmodel = "m"\ndialect = "vllm"\n'
    path.write_text(
        tier + "[inference.tiers.small.extra]\nchat_template_kwargs = { enable_thinking = false }\n", "utf-8"
    )
    config = Config.from_toml(path)
    small = config.inference.tiers["small"]
    assert (small.dialect, small.extra) == ("vllm", {"chat_template_kwargs": {"enable_thinking": False}})
    assert (config.inference.max_tokens, config.inference.temperature) == (None, None)
    environ = {"RUVLLM_INFERENCE_SMALL_EXTRA": '{"stream_options": null}', "RUVLLM_INFERENCE_TOP_K": "3"}
    over = Config.from_env(environ=environ, base=config)
    assert over.inference.tiers["small"].extra == {"stream_options": None}
    assert over.inference.top_k == 3
    for wrong in ("{", "[1]"):
        with pytest.raises(ConfigError, match="a table"):
            Config.from_env(environ={"RUVLLM_INFERENCE_SMALL_EXTRA": wrong})


@pytest.mark.parametrize(
    ("options", "key", "said"),
    [
        ({"memory": {"recal": 0.9}}, "memory.recal", "did you mean recall"),
        ({"memory": {"recall": 1.5}}, "memory.recall", "use 0.01 to 1"),
        ({"memory": {"recall": float("nan")}}, "memory.recall", "use 0.01 to 1"),
        ({"memory": {"k": 3.5}}, "memory.k", "a whole number"),
        ({"memory": {"k": True}}, "memory.k", "a whole number"),
        ({"memory": {"write_back": "yes"}}, "memory.write_back", "true or false"),
        ({"memory": {"hnsw_m": 16}}, "memory.hnsw_m", "set memory.recall"),
        ({"memory": 3}, "memory", "a table"),
        ({"encoder": "bert"}, "encoder", "cascade, ruvltra, static, minilm"),
        ({"encoder": 3}, "encoder", "a text"),
        ({"embedding": {"dimension": 768}}, "embedding", "the encoder settles it"),
        ({"inference": {"tiers": {"huge": {}}}}, "inference.tiers.huge", "booster, small, large"),
        ({"inference": {"tiers": {"small": {"kind": "magic"}}}}, "inference.tiers.small.kind", "extractive"),
        ({"inference": {"tiers": {"small": {"timeout": 0}}}}, "inference.tiers.small.timeout", "use 0.001"),
        ({"inference": {"tiers": []}}, "inference.tiers", "a table"),
        ({"inference": {"tiers": {"small": {"dialect": "vlm"}}}}, "inference.tiers.small.dialect", "openai, llama.cpp"),
        ({"inference": {"tiers": {"small": {"extra": [1]}}}}, "inference.tiers.small.extra", "a table"),
        ({"inference": {"max_tokens": 0}}, "inference.max_tokens", "use 1"),
        ({"sessions": {"ttl": -1}}, "sessions.ttl", "use 0.001"),
        ({3: 4}, "3", "use "),
    ],
)
def test_a_mistake_names_its_key_and_the_fix(options: dict[Any, Any], key: str, said: str):
    with pytest.raises(ConfigError) as caught:
        Config.from_dict(options)
    assert caught.value.field == key
    assert said in str(caught.value)


def test_options_made_in_code_are_checked_too():
    with pytest.raises(ConfigError, match=r"memory\.recall"):
        Config(memory=MemoryConfig(recall=7))
    with pytest.raises(ConfigError, match=r"inference\.tiers\.small\.retries"):
        Config(inference=InferenceConfig(tiers={"small": BackendConfig(retries=-1)}))
    with pytest.raises(ConfigError, match="memory is"):
        Config(memory={"k": 3})  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"memory = [", b"\xff\xfe", b"x = 1\n" * 200_000])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Config.from_toml(path)
    assert caught.value.field == str(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        Config.from_toml(tmp_path / "none.toml")


def test_the_environment_overrides_and_the_rest_stays():
    base = Config.from_dict({"memory": {"k": 10}, "inference": {"tiers": {"small": {"model": "one", "retries": 5}}}})
    environ = {
        "RUVLLM_STATE": "/data/state.db",
        "RUVLLM_MEMORY_RECALL": "0.9",
        "RUVLLM_MEMORY_WRITE_BACK": "false",
        "RUVLLM_INFERENCE_SMALL_MODEL": "two",
        "RUVLLM_INFERENCE_LARGE_KIND": "openai",
        "RUVLLM_INFERENCE_LARGE_URL": "http://127.0.0.1:1/v1",
        "RUVLLM_MODELS": "/somebody/else's",
        "RUVLLM_ENCODER": "",
    }
    config = Config.from_env(environ=environ, base=base)
    assert config.state == "/data/state.db"
    assert config.encoder is None
    assert config.memory == replace(base.memory, recall=0.9, write_back=False)
    assert config.inference.tiers["small"] == BackendConfig(model="two", retries=5)
    assert config.inference.tiers["large"].url == "http://127.0.0.1:1/v1"
    assert "booster" not in config.inference.tiers


@pytest.mark.parametrize(
    ("name", "value"),
    [("RUVLLM_MEMORY_K", "many"), ("RUVLLM_MEMORY_WRITE_BACK", "perhaps"), ("RUVLLM_INFERENCE_SMALL_TIMEOUT", "soon")],
)
def test_an_unusable_variable_is_named(name: str, value: str):
    with pytest.raises(ConfigError) as caught:
        Config.from_env(environ={name: value})
    assert caught.value.field == name


def test_a_variable_out_of_range_is_refused():
    with pytest.raises(ConfigError, match=r"memory\.recall"):
        Config.from_env(environ={"RUVLLM_MEMORY_RECALL": "nan"})


def test_a_builder_takes_options_by_their_places_and_names():
    built = Config.builder().encoder("static").memory_k(32).ewc_lambda(500).inference({"queue": 3}).build()
    assert (built.encoder, built.memory.k, built.learning.ewc_lambda) == ("static", 32, 500)
    assert built.inference.queue == 3
    for name, fix in (("quality_threshold", "memory_quality_threshold or"), ("hnsw_params", "memory.recall"),
                      ("db_path", "use state"), ("max_loaded", "memory_mb")):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            getattr(Config.builder(), name)
        assert (caught.value.field, fix in caught.value.fix) == (name, True)
