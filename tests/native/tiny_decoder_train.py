"""Trains the decoder of `tiny_decoder.py`: `python tests/native/tiny_decoder_train.py MINUTES`, with torch installed.

It reads the docstrings of this repository and sentences of the conversation grammar; README and its like are kept
for the tests to measure perplexity on.
"""

from __future__ import annotations

import ast
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import decoders
import numpy as np
import pytest
import tiny_decoder
import torch
from tokenizers import Tokenizer, trainers
from torch.nn import functional

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "models"))
CODE = ("core/ruvllm", "models/ruvllm_models", "edge_server")
HELD_OUT = ("README.md", "CONTRIBUTING.md", "edge_server/README.md")
LENGTH, BATCH, RATE, WARM = 128, 6, 2e-3, 20
TOKENS = 2000


def _docstrings() -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            found = (
                ast.get_docstring(node)
                for node in ast.walk(ast.parse(path.read_text("utf-8")))
                if isinstance(node, kinds)
            )
            yield from filter(None, found)


def _text() -> str:
    from recipes.conversation import sentences

    said = sentences(20_000, seed=7)
    parts = [" ".join(said[i : i + 6]) for i in range(0, len(said), 6)] + [*_docstrings()] * 2
    random.Random(0).shuffle(parts)
    return "\n".join(parts)


def _tokenizer(text: str) -> Tokenizer:
    made = decoders.tokenizer()
    alphabet = decoders.cutters.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(text.split("\n"), trainer)
    return made


class _Model:
    """One layer's weights, used for each of them."""

    def __init__(self) -> None:
        made = decoders.random_decoder("qwen2", 1, seed=1)
        self.weights = {
            # Smaller than the tests' own, which are to be loud; smallest what is added up.
            name: torch.tensor(w if w.ndim == 1 else w * (0.5 if "o_proj" in name or "down" in name else 0.75))
            for name, w in made.weights.items()
        }
        for weight in self.weights.values():
            weight.requires_grad_()
        self._width = made.head_dim
        pairs = decoders.THETA ** (-np.arange(0, self._width, 2) / self._width)
        angles = np.outer(np.arange(LENGTH), pairs)[:, None]
        self._cos, self._sin = (torch.tensor(f(angles), dtype=torch.float32) for f in (np.cos, np.sin))

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """(batch, LENGTH, VOCAB)."""
        w, at = self.weights, "model.layers.0."
        x = w["model.embed_tokens.weight"][ids]
        for _ in range(tiny_decoder.LAYERS):
            x = x + self._attended(self._normed(x, at + "input_layernorm.weight"), at + "self_attn.")
            y = self._normed(x, at + "post_attention_layernorm.weight")
            gate, up = (functional.linear(y, w[f"{at}mlp.{name}_proj.weight"]) for name in ("gate", "up"))
            x = x + functional.linear(functional.silu(gate) * up, w[at + "mlp.down_proj.weight"])
        return functional.linear(self._normed(x, "model.norm.weight"), w["model.embed_tokens.weight"])

    def _normed(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.rms_norm(x, x.shape[-1:], self.weights[name], decoders.EPS)

    def _attended(self, y: torch.Tensor, at: str) -> torch.Tensor:
        w = self.weights
        parts = (functional.linear(y, w[f"{at}{n}_proj.weight"], w[f"{at}{n}_proj.bias"]) for n in "qkv")
        q, k, v = (part.view(*y.shape[:2], -1, self._width) for part in parts)
        heads = (self._turned(q), self._turned(k).expand_as(q), v.expand_as(q))  # one head of keys for all
        mixed = functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in heads), is_causal=True)
        return functional.linear(mixed.transpose(1, 2).flatten(2), w[at + "o_proj.weight"])

    def _turned(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat([a * self._cos - b * self._sin, b * self._cos + a * self._sin], -1)


def _train(model: _Model, ids: np.ndarray, seconds: float) -> None:
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(model.weights.values(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    began, step = time.process_time(), 0
    while (done := (time.process_time() - began) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARM) * (1 - 0.95 * done)
        starts = rng.integers(0, len(ids) - LENGTH - 1, BATCH)
        rows = torch.tensor(np.stack([ids[start : start + LENGTH + 1] for start in starts]))
        loss = functional.cross_entropy(model.logits(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.weights.values(), 1.0)
        optimiser.step()
        step += 1
        if step % 50 == 0:
            print(f"{step} steps, loss {loss.item():.3f}", flush=True)


def main() -> None:
    """Train, and keep it beside the tests."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    text = _text()
    tokenizer = _tokenizer(text)
    held = "\n".join((ROOT / name).read_text("utf-8") for name in HELD_OUT)
    with pytest.MonkeyPatch.context() as patch:
        tiny_decoder.shape(patch)
        model = _Model()
        _train(model, np.array(tokenizer.encode(text).ids, np.int64), 60 * float(sys.argv[1]))
    weights = {name: weight.detach().numpy() for name, weight in model.weights.items()}
    tiny_decoder.save(weights, np.array(tokenizer.encode(held).ids[:TOKENS]))


if __name__ == "__main__":
    main()
