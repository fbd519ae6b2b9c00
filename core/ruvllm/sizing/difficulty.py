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
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import TRAIN, ArtifactError, InputError
from ruvllm.sizing.bandit import chances_of, logit
from ruvllm.sizing.prompt_forms import PROMPT_FORMS, prompt_forms

Floats = NDArray[np.floating[Any]]

_STEPS = 50


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule, and what it was expected to come to.

    Attributes:
        costs: of one answer by each model.
        price: probability of a right answer that a unit of cost has to buy.
        cost: mean cost of a prompt.
        quality: mean probability of a right answer.
        shares: of the prompts, by model.
    """

    costs: tuple[float, ...]
    price: float
    cost: float
    quality: float
    shares: tuple[float, ...]

    def choose(self, probabilities: Floats) -> int:
        """The number of the model to ask, from the probabilities (models,)."""
        return int(_chosen(np.asarray(probabilities)[None], np.array(self.costs), self.price)[0])


def policy_for(
    held: Floats, costs: Sequence[float], *, cost: float | None = None, quality: float | None = None
) -> Policy:
    """The price at which the rule meets a target on prompts with the probabilities `held` (n, models).

    Raises:
        InputError: neither or both targets are given, or none of the rules reaches it.
    """
    if (cost is None) == (quality is None):
        raise InputError("a policy has one target", field="cost", fix="give either cost= or quality=")
    each = checked_costs(costs, held.shape[1])
    generous, frugal = _made(held, each, 0.0), _made(held, each, _highest(each))
    if cost is not None:
        if not cost >= frugal.cost:
            message = f"no rule costs {cost:g} a prompt: the cheapest costs {frugal.cost:g}"
            raise InputError(message, field="cost", fix=f"allow {frugal.cost:g} or more")
        if generous.cost <= cost:
            return generous
        return _bisected(held, each, lambda policy: policy.cost <= cost)
    assert quality is not None
    if not quality <= generous.quality:
        message = f"no rule is right with {quality:g}: the best is with {generous.quality:.3f}"
        raise InputError(message, field="quality", fix=f"ask for {generous.quality:.3f} or less")
    if frugal.quality >= quality:
        return frugal
    return _bisected(held, each, lambda policy: policy.quality < quality, last=False)


def checked_costs(costs: Sequence[float], models: int) -> NDArray[np.float64]:
    """float64 (models,). Raises InputError: not one finite cost of 0 or more for each model."""
    if len(costs) != models or not all(isfinite(cost) and cost >= 0 for cost in costs):
        raise InputError(f"costs are {list(costs)[:8]}", field="costs", fix=f"give {models} numbers of 0 or more")
    return np.array(costs, np.float64)


def _chosen(held: Floats, costs: NDArray[np.float64], price: float) -> NDArray[np.intp]:
    """(n,) model numbers; of equally good ones the cheapest."""
    order = np.argsort(costs, kind="stable")
    values = held[:, order] - price * costs[order]
    return np.asarray(order[values.argmax(1)], np.intp)


def _made(held: Floats, costs: NDArray[np.float64], price: float) -> Policy:
    chosen = _chosen(held, costs, price)
    shares = np.bincount(chosen, minlength=len(costs)) / len(held)
    quality = float(held[np.arange(len(held)), chosen].mean())
    return Policy(tuple(costs.tolist()), price, float(costs @ shares), quality, tuple(shares.tolist()))


def _highest(costs: NDArray[np.float64]) -> float:
    gaps = np.diff(np.unique(costs))
    return float(2 / gaps.min()) if len(gaps) else 1.0


def _bisected(held: Floats, costs: NDArray[np.float64], frugal: Any, last: bool = True) -> Policy:
    """The policy at the edge of those that are `frugal`: within it, or just outside when not `last`."""
    low, high = 0.0, _highest(costs)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if frugal(_made(held, costs, middle)):
            high = middle
        else:
            low = middle
    return _made(held, costs, high if last else low)


Singles = NDArray[np.float32]

_NEWTON_STEPS, _CLOSE = 100, 2e-3
_FLATTEST = 0.13


def fitted(x: Singles, right: Singles, shared: float, individual: float) -> tuple[Singles, Singles]:
    """(weights (d, models), bias (models,)), the most likely ones for rows x (n, d).

    Args:
        right: (n, models), 0 to 1.
        shared, individual: prior standard deviations, over prompts, of what the logits of all models have in common,
            and of each one's own part.
    """
    models = right.shape[1]
    mean = x.mean(0)
    x = x - mean
    variance = max(float((x**2).sum(1).mean()), 1e-6)
    base = right.mean(0, dtype=np.float64)
    # Steps by one curvature for all rows: no row is more than twice as curved, so none goes too far.
    curve = max(float((base * (1 - base)).mean()), _FLATTEST)
    moments = (x.T @ x).astype(np.float64) * curve
    prior = (
        np.array([models * shared**2 + individual**2, individual**2]) / variance
    )  # of what models agree in, and do not
    together, separate = (np.linalg.inv(moments + np.eye(len(mean)) / one).astype(np.float32) for one in prior)
    weights, bias = np.zeros((len(mean), models), np.float32), logit(base).astype(np.float32)
    for _ in range(_NEWTON_STEPS):
        missed = right - chances_of(x @ weights + bias)
        slope = x.T @ missed
        slopes, weighed = slope.mean(1, keepdims=True), weights.mean(1, keepdims=True)
        step = together @ (slopes - weighed / np.float32(prior[0]))
        step = step + separate @ (slope - slopes - (weights - weighed) / np.float32(prior[1]))
        weights += step
        bias += missed.mean(0) / np.float32(curve)
        if np.sqrt((step**2).sum(0).max() * variance / len(mean)) < _CLOSE:
            break
    return weights, bias - mean @ weights


def held_out(x: Singles, right: Singles, fold: NDArray[np.int64], shared: float, individual: float) -> Singles:
    """(n, models), the chance that each row is right by a fit without its fold."""
    predicted = np.empty(right.shape, np.float32)
    for number in np.unique(fold):
        rows = fold == number
        weights, bias = fitted(x[~rows], right[~rows], shared, individual)
        predicted[rows] = chances_of(x[rows] @ weights + bias)
    return predicted


_FOURIER, _BANDWIDTH = 512, 0.2
_FORMS_WEIGHT = 0.5  # of the forms as they are: their Fourier features say most of it again
_SHARED, _INDIVIDUAL = 0.5, 0.35  # prior standard deviations of the logit, see `logistic.fitted`
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
        means, scales: float32 (forms,) of the training prompts.
        weights: float32 (dim + forms + 512, models).
        bias: float32 (models,).
        held: float32 (n, models), probabilities of training prompts by folds that had not seen them.
    """

    models: tuple[str, ...]
    encoder: str
    means: Singles
    scales: Singles
    weights: Singles
    bias: Singles
    held: Singles
    space: str = ""

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        vectors: Singles,
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
        weights, bias = fitted(x, truth, _SHARED, _INDIVIDUAL)
        held = held_out(x, truth, folds_of(texts, _FOLDS, _SEED), _SHARED, _INDIVIDUAL)
        sample = np.linspace(0, len(texts) - 1, min(_HELD, len(texts))).astype(np.int64)
        predicted = np.clip(held[sample], _EDGE, 1 - _EDGE)
        return cls(tuple(models), encoder, means, scales, weights, bias, predicted, space)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return len(self.weights) - len(PROMPT_FORMS) - _FOURIER

    def probabilities(self, text: str, vector: Singles) -> Singles:
        """P(right) of each model: float32 (models,). Raises InputError: a vector of another width."""
        row: Singles = self.batch([text], np.asarray(vector, np.float32)[None])[0]
        return row

    def batch(self, texts: Sequence[str], vectors: Singles) -> Singles:
        """`probabilities` of many prompts: float32 (n, models)."""
        if vectors.shape != (len(texts), self.dim):
            fix = f"give vectors of {self.encoder or 'the encoder it was trained with'}, {self.dim} wide"
            raise InputError(f"vectors of shape {vectors.shape}", field="vectors", fix=fix)
        forms = np.stack([prompt_forms(text) for text in texts])
        raw = _features(vectors, forms, self.means, self.scales) @ self.weights + self.bias
        return np.asarray(np.clip(chances_of(raw), _EDGE, 1 - _EDGE), np.float32)

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
        header = {"models": self.models, "encoder": self.encoder, "space": self.space, "link": _LINK}
        return {
            "about": np.frombuffer(json.dumps(header).encode(), np.uint8),
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


def _check(texts: Sequence[str], vectors: Singles, right: NDArray[np.bool_], models: Sequence[str]) -> None:
    if len(texts) < _FEWEST or len(set(folds_of(texts, _FOLDS, _SEED).tolist())) < _FOLDS:
        raise InputError(f"{len(texts)} rows are too few to learn from", field="rows", fix=f"give {_FEWEST} or more")
    if not 2 <= len(models) <= _MOST_MODELS or len(set(models)) != len(models):
        raise InputError(f"models are {list(models)[:4]}", field="models", fix="name two or more, each once")
    if vectors.shape[:1] != (len(texts),) or vectors.ndim != 2 or right.shape != (len(texts), len(models)):
        shapes = f"{len(texts)} texts, vectors {vectors.shape}, right {right.shape}"
        raise InputError(shapes, field="rows", fix="give a vector and a truth value per model for each text")


def _features(vectors: Singles, forms: Singles, means: Singles, scales: Singles) -> Singles:
    """float32 (n, dim + forms + 512), each column with a variance of about 1 or less."""
    away = np.clip((forms - means) / scales, -4, 4)
    frequencies, phases = _fourier(forms.shape[1])
    waves = np.float32(np.sqrt(2)) * np.cos(away @ frequencies + phases)
    parts = [vectors * np.float32(np.sqrt(vectors.shape[1])), away * np.float32(_FORMS_WEIGHT), waves]
    return np.concatenate(parts, 1, dtype=np.float32)


@lru_cache(maxsize=2)
def _fourier(width: int) -> tuple[Singles, Singles]:
    """(frequencies (width, 512), phases (512,)): the same on every host, so no file has to hold them."""
    random = np.random.default_rng(1).random((2, width, _FOURIER))
    normal = np.sqrt(-2 * np.log1p(-random[0])) * np.cos(2 * np.pi * random[1])  # Box & Muller 1958
    phases = np.random.default_rng(2).random(_FOURIER) * 2 * np.pi
    return np.asarray(normal * _BANDWIDTH, np.float32), np.asarray(phases, np.float32)
