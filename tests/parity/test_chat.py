"""A language model says the same in CPython, in Pyodide under Node and in Chromium, token for token."""

from __future__ import annotations

import os
from pathlib import Path

import chats
import gguf
import pytest
from decoders import random_decoder, write_folder, write_gguf

from ruvllm_models.convert import convert
from ruvllm_models.convert.decoder import Bits

ROOT = Path(__file__).parents[2]
WANTED = [chats.GREEDY, chats.DRAWN]


@pytest.fixture(scope="module")
def dist() -> Path:
    """The folder that `make web` built, or that $RUVLLM_DIST names."""
    folder = Path(os.environ.get("RUVLLM_DIST", ROOT / "web" / "dist"))
    if not (folder / "ruvllm.json").is_file():
        pytest.fail(f"{folder} is not built: run `make web`", pytrace=False)
    return folder


@pytest.fixture(scope="module", params=["qwen2", "lfm2", "qwen2 in 4 bits"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted model of a few random layers, in float32 unless it says otherwise."""
    folder = tmp_path_factory.mktemp("models")
    architecture, _, bits = request.param.partition(" ")
    decoder = random_decoder(architecture, layers=2 if architecture == "qwen2" else 4)
    if bits:
        write_gguf(decoder, folder / "model.gguf", gguf.GGMLQuantizationType.Q4_K)
        convert(folder / "model.gguf", folder / "model")
    else:
        convert(write_folder(decoder, folder / "source"), folder / "model", bits=Bits(32, 32))
    return folder / "model"


def test_three_hosts_say_the_same(dist: Path, model: Path, tmp_path: Path) -> None:
    # Rounding to int8 makes more of the hosts' last bits: enough for a draw between two tokens to fall the other way.
    wanted = WANTED[:1] if (model / "model_web.onnx").exists() else WANTED
    here = chats.cpython(model, wanted, tmp_path / "web")
    assert all(written > 3 for _, _, written in here), here
    assert len({text for text, _, _ in here}) == len(here)
    assert chats.node(dist, model, wanted) == here
    assert chats.chromium(dist, model, wanted, tmp_path / "site") == here
