"""An agent that learns, lets sums travel, and forgets the texts (row F1 of the feature list)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.encoders.protocol import Vectors
from ruvllm.errors import InputError
from ruvllm.learning.federated.groups import Group, Privacy, Seen, fold, merge_closest, noise_for, terms_of
from ruvllm.learning.federated.wire import NoiseAdded, SharedModel, Update, check_name
from ruvllm.learning.lora import LowRank
from ruvllm.sizing.bandit import shared_width

CAPACITY, CLUSTERS, LEAST, QUALITY = 500, 25, 5, 0.4
ADAPTER_SEED = 0  # the same everywhere: where an adapter began is no secret, and noise is added to what moved
_PULL = 15.0


class EphemeralAgent:
    """Takes trajectories, keeps at most `capacity` of them, and exports groups of at least `least` texts.

    Every text travels in one group of one export at most: two exports differ by groups, never by a text.

    Args:
        agent_id: 1 to 200 characters, unique among the agents of a coordinator.
        capacity: trajectories kept; when full they are folded into groups, and their texts forgotten.
        clusters: groups of a route that travel at once, at most.
        least: texts in a group (k-anonymity); routes with fewer wait. 2 or more.
        quality: trajectories below it teach the adapter only.
        privacy: adds noise; then no words travel, and one group for each of `routes`.
        routes: needed with `privacy`, and then public: which routes there are must not depend on a text.
        models: likewise, those whose answers' outcomes travel.
    """

    def __init__(
        self,
        agent_id: str,
        dim: int,
        *,
        capacity: int = CAPACITY,
        clusters: int = CLUSTERS,
        least: int = LEAST,
        quality: float = QUALITY,
        rank: int = 2,
        privacy: Privacy | None = None,
        routes: Sequence[str] = (),
        models: Sequence[str] = (),
    ) -> None:
        check_name(agent_id, "agent_id")
        for field, value, low in (("capacity", capacity, 1), ("clusters", clusters, 1), ("least", least, 2)):
            if value < low:
                raise InputError(f"{field} is {value}", field=field, fix=f"use {low} or more")
        for route in (*routes, *models):
            check_name(route, "route")
        if privacy is not None and not routes:
            fix = "name all routes that there are, e.g. the names of your agents"
            raise InputError("privacy without routes", field="routes", fix=fix)
        self.agent_id, self.dim, self.serial = agent_id, dim, 0
        self.model: SharedModel | None = None
        self.adapter = LowRank(dim, min(rank, dim), seed=ADAPTER_SEED)
        self._capacity, self._clusters, self._least, self._quality = capacity, clusters, least, quality
        self._privacy, self._routes = privacy, tuple(dict.fromkeys(routes))
        self._random = np.random.default_rng(privacy.seed if privacy else None)
        self._texts: list[Seen] = []
        self._groups: list[Group] = []
        self._models, self._outcomes = tuple(dict.fromkeys(models)), list[Seen]()
        self._refused = 0

    @classmethod
    def default_federated(cls, agent_id: str, dim: int) -> EphemeralAgent:
        """Capacity 500, 25 clusters, groups of 5 texts, quality 0.4, no noise."""
        return cls(agent_id, dim)

    @property
    def waiting(self) -> int:
        """Texts in memory."""
        return len(self._texts)

    def process_trajectory(
        self,
        embedding: ArrayLike,
        activations: ArrayLike = (),
        quality: float = 1.0,
        model: str = "",
        tags: Sequence[str] = (),
        words: Sequence[str] = (),
    ) -> None:
        """Learn from one task.

        Args:
            embedding: (dim,) of the task's text.
            activations: (dim,) of what answered it, or empty; good ones draw the adapter to them, bad ones repel it.
            quality: 0 to 1.
            model: the route that took it; without one, the adapter alone learns.
            tags: travel only when `least` texts of a group share them.
            words: the text's stems; likewise, when `least` texts share them.

        Raises:
            InputError: another width, a quality out of range, a name that is none.
        """
        x = self._unit(embedding, "embedding")
        if not 0 <= quality <= 1:
            raise InputError(f"quality is {quality}", field="quality", fix="use 0 to 1")
        for tag in tags:
            check_name(tag, "tag")
        answer = np.asarray(activations, np.float32)
        if answer.size:
            self._teach(x, self._unit(answer, "activations"), quality)
        if not model:
            return
        check_name(model, "model")
        if self._privacy and model not in self._routes:
            raise InputError(f"route {model!r} was not declared", field="model", fix="name it in `routes`")
        if quality < self._quality:
            self._refused += 1
            return
        terms = terms_of(words) if words and not self._privacy else frozenset()
        self._texts.append(Seen(x, model, float(quality), terms, tuple(tags)))
        if len(self._texts) >= self._capacity:
            self._fold()

    def process_outcome(self, model: str, inputs: Vectors, quality: float) -> None:
        """Learn how good a model's answer was; it travels with the next update, or never.

        Args:
            model: its name, or with privacy one of `models`.
            inputs: (shared_width(dim),) of the prompt, no longer than 1.
            quality: 0 to 1.

        Raises:
            InputError: another width or length, a quality out of range, a name that is none.
        """
        check_name(model, "model")
        width = shared_width(self.dim)
        if inputs.shape != (width,) or not float(inputs @ inputs) <= 1 + 1e-6 or not 0 <= quality <= 1:
            raise InputError("an outcome that is none", field="inputs", fix=f"use {width} numbers of length 1 at most")
        if self._privacy and model not in self._models:
            raise InputError(f"model {model!r} was not declared", field="model", fix="name it in `models`")
        self._outcomes.append(Seen(np.asarray(inputs, np.float32), model, float(quality)))

    def _unit(self, values: ArrayLike, field: str) -> Vectors:
        x = np.asarray(values, np.float32)
        if x.shape != (self.dim,) or not np.isfinite(x).all():
            fix = f"use {self.dim} finite numbers"
            raise InputError(f"{field} of shape {x.shape} cannot be used", field=field, fix=fix)
        wide = x.astype(np.float64)
        return np.asarray(wide / max(math.sqrt(wide @ wide), 1e-30), np.float32)

    def _teach(self, x: Vectors, answer: Vectors, quality: float) -> None:
        """Squared distance in cosine: it fades as the goal comes near."""
        weight = 2 * quality - 1
        cosine = float(self.adapt(x) @ answer)
        pull = weight * (1 - cosine) if weight > 0 else weight * max(cosine, 0.0)
        self.adapter.teach(x, np.asarray(-_PULL * pull * answer, np.float32))

    def adapt(self, x: Vectors) -> Vectors:
        """x (dim,) as the shared adapter and its own have learnt to see it, of unit norm."""
        shared = self.model.adapter if self.model else None
        moved = x + self.adapter.residual(x)
        if shared is not None:
            moved = moved + shared.residual(x)
        return np.asarray(moved / np.float32(max(math.sqrt(float(moved @ moved)), 1e-30)), np.float32)

    def _fold(self) -> None:
        if self._privacy:
            fresh = _plain(self._routes, self._texts, self.dim)
            pairs = zip(self._groups, fresh, strict=True)
            self._groups = [group.joined(more) for group, more in pairs] if self._groups else fresh
            self._texts = []
            return
        groups, rest = fold(self._texts, self._least, self._clusters)
        # Texts of rare routes may not fill the memory: the oldest give way.
        self._texts = rest[-max(0, self._capacity - 1) :] if self._capacity > 1 else []
        self._groups = merge_closest([*self._groups, *groups], self._clusters)

    def export_state(self) -> Update:
        """What it learnt since the last time, and nothing of it again: send the same object again if it is lost."""
        self._fold()
        groups, noise = self._groups, None
        # An adapter that few texts taught points along them.
        adapter = self.adapter if self.adapter.updates >= self._least else None
        if self._privacy:
            outcomes = _plain(self._models, self._outcomes, shared_width(self.dim))
            groups, outcomes, adapter, noise = self._noisy(self._privacy, outcomes)
        else:
            outcomes, _ = fold(self._outcomes, self._least, self._clusters)
        self.serial += 1
        done = Update(
            self.agent_id,
            self.serial,
            self.dim,
            self._least,
            tuple(groups),
            adapter,
            noise,
            len(self._texts),
            0 if noise else self._refused,
            tuple(outcomes),
        )
        self._groups, self._outcomes, self._refused = [], [], 0
        if adapter is not None:
            self.adapter = LowRank(self.dim, self.adapter.rank, seed=ADAPTER_SEED)
        return done

    def _noisy(self, privacy: Privacy, outcomes: list[Group]) -> tuple[list[Group], list[Group], LowRank, NoiseAdded]:
        """One text changes a sum, a count and a quality by 1 each at most, and the adapter by twice the clip.

        Where outcomes travel it changes those of one model as well.
        """
        sigma = noise_for(privacy.epsilon, privacy.delta) * math.sqrt(3 + 3 * bool(self._models) + 4)
        groups, outcomes = self._hidden(self._groups, sigma), self._hidden(outcomes, sigma)
        made = LowRank(self.dim, self.adapter.rank, seed=ADAPTER_SEED)
        moved = self.adapter.theta - made.theta
        moved *= np.float32(min(1.0, privacy.clip / max(math.sqrt(float(moved @ moved)), 1e-30)))
        made.theta += moved + np.float32(privacy.clip * sigma) * self._gaussian(len(moved)).astype(np.float32)
        return groups, outcomes, made, NoiseAdded(privacy.epsilon, privacy.delta, sigma)

    def _hidden(self, groups: Sequence[Group], sigma: float) -> list[Group]:
        """With noise; those that seem too small are left out."""
        found = []
        for group in groups:
            noise = self._gaussian(len(group.total) + 2) * sigma
            count = group.count + float(noise[0])
            if count < self._least:
                continue
            total = np.asarray(group.total + noise[2:], np.float32)
            total *= np.float32(min(1.0, count / max(math.sqrt(float(total @ total)), 1e-30)))
            quality = min(max(group.quality + float(noise[1]), 0.0), count)
            found.append(replace(group, total=total, count=count, quality=quality))
        return found

    def _gaussian(self, n: int) -> NDArray[np.float64]:
        return self._random.standard_normal(n)

    def adopt(self, model: SharedModel) -> None:
        """Route and adapt by what all have learnt together. Raises InputError: of another width."""
        if model.dim != self.dim:
            fix = "use one encoder on all agents"
            raise InputError(f"a model of {model.dim} dimensions, not {self.dim}", field="model", fix=fix)
        self.model = model


def _plain(routes: Sequence[str], texts: Sequence[Seen], dim: int) -> list[Group]:
    """One group for each route, of all its texts."""
    found = []
    for route in routes:
        members = [text for text in texts if text.route == route]
        total = np.zeros(dim, np.float32)
        for text in members:
            total += text.vector
        found.append(Group(route, total, float(len(members)), sum(text.quality for text in members), {}))
    return found
