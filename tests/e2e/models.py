"""Small converted models of random weights, beside the built folder."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "native"))

import gguf
from decoders import random_decoder, write_gguf

from ruvllm_models.convert import convert


def tiny_model(folder: Path) -> Path:
    """Two layers of Qwen2's kind, 512 tokens of context, with a chat template."""
    source = folder.with_suffix(".gguf")
    write_gguf(random_decoder("qwen2"), source, gguf.GGMLQuantizationType.Q4_0)
    convert(source, folder)
    return folder


def beside(dist: Path, model: Path, out: Path) -> Path:
    """The built folder with a model in it."""
    shutil.copytree(dist, out, copy_function=os.link)
    shutil.copytree(model, out / "models" / "tiny")
    return out
