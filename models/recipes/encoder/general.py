"""Whether the encoder still serves what it was not trained for: intents from ten examples, and what fits none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recipes.common import read_json, tokenizer
from ruvllm.cli.evals.metrics import auroc

_SHOTS, _SEEDS = 10, 3
_SCALE = 16.0  # of the unit vectors: a linear head starts from cosines otherwise too flat

Floats = NDArray[np.float32]
Encode = Callable[[Sequence[NDArray[np.int64]]], Floats]


class General:
    """CLINC150 and BANKING77 with a linear head on frozen vectors.

    Args:
        data: folder with clinc150.json and banking77.json.
    """

    def __init__(self, data: Path) -> None:
        words = tokenizer()

        def ids(texts: list[str]) -> list[NDArray[np.int64]]:
            return [np.array(words.encode(text, 64), np.int64) for text in texts]

        self._sets = []
        for name in ("clinc150", "banking77"):
            raw = read_json(data / f"{name}.json")
            names = sorted({label for _, label in raw["train"]})
            draws = [_draw(raw["train"], seed) for seed in range(_SEEDS)]
            used = sorted({i for draw in draws for i in draw})
            self._sets.append(
                (
                    name,
                    ids([raw["train"][i][0] for i in used]),
                    [np.searchsorted(used, draw) for draw in draws],
                    np.array([names.index(raw["train"][i][1]) for i in used]),
                    ids([text for text, _ in raw["test"]]),
                    np.array([names.index(label) for _, label in raw["test"]]),
                    ids([text for text, _ in raw.get("oos_test", [])]),
                )
            )

    def measure(self, encode: Encode) -> dict[str, float]:
        """Accuracies, and the AUROC of CLINC150's out-of-scope texts, as means over draws."""
        out: dict[str, float] = {}
        for name, train, draws, labels, test, right, outside in self._sets:
            taught, asked = encode(train), encode([*test, *outside])
            hits, apart = [], []
            for draw in draws:
                logits = _head(taught[draw], labels[draw], asked)
                inside, beyond = logits[: len(test)], logits[len(test) :]
                hits.append((inside.argmax(1) == right).mean())
                if len(beyond):
                    apart.append(auroc(_energy(beyond), _energy(inside)))
            out[name] = round(100 * float(np.mean(hits)), 2)
            if apart:
                out["out_of_scope_auroc"] = round(100 * float(np.mean(apart)), 2)
        return out


def _draw(rows: list[list[str]], seed: int) -> list[int]:
    """Ten rows of each label."""
    kept: dict[str, list[int]] = {}
    for i in np.random.default_rng(seed).permutation(len(rows)).tolist():
        kept.setdefault(rows[i][1], []).append(i)
    return sorted(i for picked in kept.values() for i in picked[:_SHOTS])


def _head(taught: Floats, labels: NDArray[np.int64], asked: Floats) -> Floats:
    """Logits of `asked` by a logistic regression on `taught`."""
    x, y = torch.from_numpy(taught) * _SCALE, torch.from_numpy(labels)
    weight = torch.zeros(int(labels.max()) + 1, x.shape[1], requires_grad=True)
    bias = torch.zeros(len(weight), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(x @ weight.T + bias, y) + 2e-3 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    with torch.no_grad():
        return (torch.from_numpy(asked) * _SCALE @ weight.T + bias).numpy()


def _energy(logits: Floats) -> Floats:
    top = logits.max(1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(1)), np.float32)
