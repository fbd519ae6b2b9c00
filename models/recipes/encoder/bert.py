"""MiniLM's BERT in torch: reads the published safetensors and writes the same names back.

Tokens of a batch are packed end to end, without padding: only attention needs the rectangle.
A text's hidden states after any layer are an input too, so that what lies below the trained
layers is computed once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Packed:
    """Where each token of a packed batch belongs.

    Attributes:
        lengths: int64 (texts,).
        cells: int64 (tokens,): the token's place in the (texts x longest) rectangle.
        seen: bool (texts, 1, 1, longest), or None where no text is shorter than the longest.
    """

    lengths: Tensor
    cells: Tensor
    seen: Tensor | None

    @property
    def longest(self) -> int:
        return int(self.lengths.max())


def pack(lengths: Sequence[int], device: torch.device | str = "cpu") -> Packed:
    """The layout of texts of these lengths."""
    sizes = torch.tensor(lengths, dtype=torch.int64, device=device)
    grid = torch.arange(int(sizes.max()), device=device)[None] < sizes[:, None]
    cells = grid.flatten().nonzero()[:, 0]
    return Packed(sizes, cells, None if bool(grid.all()) else grid[:, None, None])


class _Embeddings(nn.Module):
    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], width)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], width)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], width)
        self.LayerNorm = nn.LayerNorm(width, config["layer_norm_eps"])

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        kinds = self.token_type_embeddings.weight[0]
        return self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings(positions) + kinds)


class _Output(nn.Module):
    """A projection, added to what went around it."""

    def __init__(self, inner: int, width: int, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, epsilon)

    def forward(self, x: Tensor, around: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + around)


class _Self(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.heads = heads

    def forward(self, x: Tensor, layout: Packed) -> Tensor:
        texts, longest = len(layout.lengths), layout.longest

        def heads(y: Tensor) -> Tensor:  # (tokens, width) to (texts, heads, longest, width / heads)
            padded = y.new_zeros(texts * longest, y.shape[1]).index_copy(0, layout.cells, y)
            return padded.view(texts, longest, self.heads, -1).transpose(1, 2).float()

        query, key, value = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        with torch.autocast(x.device.type, enabled=False):  # in bfloat16 its gradient is four times slower on a CPU
            seen = F.scaled_dot_product_attention(query, key, value, attn_mask=layout.seen)
        return seen.transpose(1, 2).reshape(texts * longest, -1)[layout.cells]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.self = _Self(width, heads)
        self.output = _Output(width, width, epsilon)


class _Wide(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)


class _Layer(nn.Module):
    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        width, inner, epsilon = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self.attention = _Attention(width, config["num_attention_heads"], epsilon)
        self.intermediate = _Wide(width, inner)
        self.output = _Output(inner, width, epsilon)

    def forward(self, x: Tensor, layout: Packed) -> Tensor:
        x = self.attention.output(self.attention.self(x, layout), x)
        return self.output(F.gelu(self.intermediate.dense(x)), x)


class _Encoder(nn.Module):
    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config["num_hidden_layers"]))


class Bert(nn.Module):
    """Token ids to sentence vectors: mean of the last layer's tokens, unit length."""

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)

    @property
    def depth(self) -> int:
        return len(self.encoder.layer)

    def embed(self, ids: Tensor, layout: Packed) -> Tensor:
        """(tokens,) to (tokens, width): what the first layer takes."""
        positions = layout.cells % layout.longest
        return self.embeddings(ids, positions)

    def climb(self, x: Tensor, layout: Packed, start: int, stop: int) -> Tensor:
        """Through the layers from `start` to before `stop`."""
        for layer in self.encoder.layer[start:stop]:
            x = layer(x, layout)
        return x

    def finish(self, x: Tensor, layout: Packed, start: int) -> Tensor:
        """(tokens, width) before layer `start` to (texts, width) unit rows."""
        x = self.climb(x, layout, start, self.depth)
        owner = torch.repeat_interleave(torch.arange(len(layout.lengths), device=x.device), layout.lengths)
        sums = x.new_zeros(len(layout.lengths), x.shape[1], dtype=torch.float32).index_add(0, owner, x.float())
        return F.normalize(sums, dim=1)  # the mean's divisor cancels

    def forward(self, ids: Tensor, layout: Packed) -> Tensor:
        return self.finish(self.embed(ids, layout), layout, 0)


def _known(name: str) -> str:
    return name.removeprefix("bert.")


def read(folder: Path) -> Bert:
    """The model of a folder with config.json and model.safetensors."""
    model = Bert(json.loads((folder / "config.json").read_text("utf-8")))
    weights = {_known(name): value.float() for name, value in load_file(folder / "model.safetensors").items()}
    found = {name: weights[name] for name in model.state_dict()}
    model.load_state_dict(found)
    return model.eval()


def write(model: Bert, source: Path, folder: Path) -> None:
    """`model` as a folder like `source`: the same tensor names (a pooler that nothing uses included)."""
    folder.mkdir(parents=True, exist_ok=True)
    own = model.state_dict()
    tensors = {
        name: own.get(_known(name), value).to(value.dtype).contiguous().cpu()
        for name, value in load_file(source / "model.safetensors").items()
    }
    part = folder / "model.safetensors.part"
    save_file(tensors, part, metadata={"format": "pt"})
    part.replace(folder / "model.safetensors")
    for name in ("config.json", "vocab.txt", "tokenizer.json"):
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
