"""How likely each of several LLMs is to answer a prompt well: trained on rows of who was right.

Logistic regressions on the prompt's vector and its forms that share how hard a prompt is (`logistic`). What a routing
decision needs is by how much one model is likelier to be right than another, a weak signal in itself; that a prompt
is neither so easy that both are right nor so hard that both are wrong says much of it. Forms enter twice, as they are
and as random Fourier features (Rahimi & Recht 2007), which tell kinds of questions apart that no single count does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import TRAIN, ArtifactError, InputError
from ruvllm.routing.logistic import fitted, held_out
from ruvllm.routing.policy import Policy, cheapest, policy_for
from ruvllm.routing.prompt_forms import PROMPT_FORMS, prompt_forms

__all__ = ["Difficulty", "folds_of"]

Floats = NDArray[np.float32]

_FOURIER, _BANDWIDTH = 512, 0.2
_FORMS_SHARE = 0.5  # of the forms as they are: their Fourier features say most of it again
_SHARED, _OWN = 0.5, 0.35  # prior standard deviations of the logit, see `logistic.fitted`
_LINK = "logit"  # what the weights give; a file of another version has no such word
_OLD_SPACE = "minilm-256"  # of files that name none: there was no other
_FOLDS, _SEED = 5, 20_240_618  # no seed that somebody draws folds of their own with
_FEWEST = 50  # rows
_HELD = 512  # held-out probabilities that are kept to set thresholds by
_MOST_MODELS = 64
_EDGE = 0.01  # no prompt is clearer than that


@dataclass(frozen=True, slots=True)
class Difficulty:
    """P(right) of each LLM for a prompt.

    Attributes:
        models: names, in the order of the columns.
        encoder: the name of the encoder its vectors come from.
        space: the name of their space, where it is known.
        means, scales: float32 (forms,) of the training prompts.
        weights: float32 (dim + forms + 512, models).
        bias: float32 (models,).
        held: float32 (n, models), probabilities of training prompts by folds that had not seen them.
    """

    models: tuple[str, ...]
    encoder: str
    means: Floats
    scales: Floats
    weights: Floats
    bias: Floats
    held: Floats
    space: str = ""

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        vectors: Floats,
        right: NDArray[np.bool_],
        models: Sequence[str] = ("weak", "strong"),
        encoder: str = "",
        space: str = "",
    ) -> Difficulty:
        """Train on everything, and once on all of five folds but one for each, to know what to expect of it.

        Args:
            vectors: (n, dim) unit rows of the texts.
            right: (n, models) which of them answered well.

        Raises:
            InputError: too few rows, or shapes that do not fit.
        """
        _check(texts, vectors, right, models)
        forms = np.stack([prompt_forms(text) for text in texts])
        # A form that hardly varies among these prompts must not shout when it does in another.
        means, scales = forms.mean(0), np.maximum(forms.std(0), 0.05)
        x = _features(vectors, forms, means, scales)
        truth = right.astype(np.float32)
        weights, bias = fitted(x, truth, _SHARED, _OWN)
        held = held_out(x, truth, folds_of(texts, _FOLDS, _SEED), _SHARED, _OWN)
        sample = np.linspace(0, len(texts) - 1, min(_HELD, len(texts))).astype(np.int64)
        told = np.clip(held[sample], _EDGE, 1 - _EDGE)
        return cls(tuple(models), encoder, means, scales, weights, bias, told, space)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return len(self.weights) - len(PROMPT_FORMS) - _FOURIER

    def probabilities(self, text: str, vector: Floats) -> Floats:
        """P(right) of each model: float32 (models,). Raises InputError: a vector of another width."""
        row: Floats = self.batch([text], np.asarray(vector, np.float32)[None])[0]
        return row

    def batch(self, texts: Sequence[str], vectors: Floats) -> Floats:
        """`probabilities` of many prompts: float32 (n, models)."""
        if vectors.shape != (len(texts), self.dim):
            fix = f"give vectors of {self.encoder or 'the encoder it was trained with'}, {self.dim} wide"
            raise InputError(f"vectors of shape {vectors.shape}", field="vectors", fix=fix)
        forms = np.stack([prompt_forms(text) for text in texts])
        raw = _features(vectors, forms, self.means, self.scales) @ self.weights + self.bias
        return np.asarray(np.clip(1 / (1 + np.exp(-np.clip(raw, -30, 30))), _EDGE, 1 - _EDGE), np.float32)

    def cheapest(self, text: str, vector: Floats, costs: Sequence[float], quality: float) -> str:
        """The cheapest model that is right with a probability of `quality`, else the likeliest to be right."""
        return self.models[cheapest(self.probabilities(text, vector), costs, quality)]

    def policy(self, costs: Sequence[float], *, cost: float | None = None, quality: float | None = None) -> Policy:
        """The rule of the best quality for a mean cost, or of the least cost for a mean quality.

        Args:
            costs: of one answer by each model, in any unit.
            cost: mean cost of a prompt, at most, over prompts like those it was trained on.
            quality: mean probability of a right answer, at least.

        Raises:
            InputError: neither or both are given, or no rule reaches it.
        """
        return policy_for(self.held, costs, cost=cost, quality=quality)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For an npz file."""
        told = {"models": self.models, "encoder": self.encoder, "space": self.space, "link": _LINK}
        return {
            "about": np.frombuffer(json.dumps(told).encode(), np.uint8),
            **{name: getattr(self, name) for name in ("means", "scales", "weights", "bias", "held")},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], name: str = "tiers.npz") -> Difficulty:
        """What `arrays` gave. Raises ArtifactError when one is missing, not finite or of another shape."""
        try:
            about = json.loads(arrays["about"].astype(np.uint8).tobytes())
            models, encoder, link = tuple(map(str, about["models"])), str(about["encoder"]), about.get("link")
            space = str(about.get("space", _OLD_SPACE))
            parts = {key: arrays[key] for key in ("means", "scales", "weights", "bias", "held")}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{name} is no trained difficulty: {error!r}"[:160], field=name, fix=TRAIN) from None
        forms, count = len(PROMPT_FORMS), len(models)
        width = parts["weights"].shape[0] if parts["weights"].ndim == 2 else 0
        held = len(parts["held"]) if parts["held"].ndim == 2 else 0
        shapes = {"means": (forms,), "scales": (forms,), "weights": (width, count), "bias": (count,)}
        for key, shape in (shapes | {"held": (held, count)}).items():
            value = parts[key]
            if value.shape != shape or value.dtype != np.float32 or not np.isfinite(value).all():
                raise ArtifactError(f"{name}: array {key!r} is malformed", field=key, fix=TRAIN)
        if link != _LINK or width <= forms + _FOURIER or held == 0 or not (parts["scales"] > 0).all():
            raise ArtifactError(f"{name} is of another version", field=name, fix=TRAIN)
        return cls(models, encoder, **parts, space=space)


def folds_of(texts: Sequence[str], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Which of `folds` each text is in, int64 (n,): by its own hash, so that equal texts are never split."""
    salt = seed.to_bytes(8, "little")
    hashes = (blake2b(text.encode("utf-8", "replace"), digest_size=6, salt=salt).digest() for text in texts)
    return np.array([int.from_bytes(hashed, "little") % folds for hashed in hashes], np.int64)


def _check(texts: Sequence[str], vectors: Floats, right: NDArray[np.bool_], models: Sequence[str]) -> None:
    if len(texts) < _FEWEST or len(set(folds_of(texts, _FOLDS, _SEED).tolist())) < _FOLDS:
        raise InputError(f"{len(texts)} rows are too few to learn from", field="rows", fix=f"give {_FEWEST} or more")
    if not 2 <= len(models) <= _MOST_MODELS or len(set(models)) != len(models):
        raise InputError(f"models are {list(models)[:4]}", field="models", fix="name two or more, each once")
    if vectors.shape[:1] != (len(texts),) or vectors.ndim != 2 or right.shape != (len(texts), len(models)):
        shapes = f"{len(texts)} texts, vectors {vectors.shape}, right {right.shape}"
        raise InputError(shapes, field="rows", fix="give a vector and a truth value per model for each text")


def _features(vectors: Floats, forms: Floats, means: Floats, scales: Floats) -> Floats:
    """float32 (n, dim + forms + 512), each column with a variance of about 1 or less."""
    away = np.clip((forms - means) / scales, -4, 4)
    frequencies, phases = _fourier(forms.shape[1])
    waves = np.float32(np.sqrt(2)) * np.cos(away @ frequencies + phases)
    parts = [vectors * np.float32(np.sqrt(vectors.shape[1])), away * np.float32(_FORMS_SHARE), waves]
    return np.concatenate(parts, 1, dtype=np.float32)


@lru_cache(maxsize=2)
def _fourier(width: int) -> tuple[Floats, Floats]:
    """(frequencies (width, 512), phases (512,)): the same on every host, so no file has to hold them."""
    random = np.random.default_rng(1).random((2, width, _FOURIER))
    normal = np.sqrt(-2 * np.log1p(-random[0])) * np.cos(2 * np.pi * random[1])  # Box & Muller 1958
    phases = np.random.default_rng(2).random(_FOURIER) * 2 * np.pi
    return np.asarray(normal * _BANDWIDTH, np.float32), np.asarray(phases, np.float32)
