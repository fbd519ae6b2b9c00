"""The tier that a prompt needs, by a difficulty trained on somebody's own outcomes (`ruvllm tiers train`).

Only such outcomes say what models fail at in the tasks at hand. Trained on one half of MMLU's subjects and asked
about the other half, it ranks prompts no better than chance (APGR 0.52 of 0.50 to about 0.68, 10 beds of 1,300 rows):
what makes a question hard is what it is about. So the one that is shipped, trained on MMLU's exam questions, is
never used unless somebody asks for it; without an own one, the words of a task decide (`tiers.difficulty`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ruvllm.artifacts.host import Host, load_npz
from ruvllm.encoders.protocol import Encoder
from ruvllm.errors import TRAIN, ArtifactError, InputError
from ruvllm.sizing.difficulty import Difficulty, Policy
from ruvllm.sizing.tiers import tier_by
from ruvllm.state.names import TIERS
from ruvllm.state.store import Store
from ruvllm.types import Tier

_LEAST = 1e-12  # that a stronger model costs more, by the rule's price
NEAR_BEST = 0.95  # share of the best quality that is enough where nobody says what is


@dataclass(frozen=True, slots=True)
class TrainedTiers:
    """A difficulty and the rule that chooses by it.

    The model that costs least stands for the small tier, every other one for the large tier.
    """

    difficulty: Difficulty
    policy: Policy

    @classmethod
    def of(
        cls,
        difficulty: Difficulty,
        costs: Sequence[float] = (),
        *,
        cost: float | None = None,
        quality: float | None = None,
    ) -> TrainedTiers:
        """With a rule for a mean cost or a mean quality; without either for 95 % of the quality that there is.

        Args:
            costs: of one answer by each model, in any unit; rising from 1 to 30 when left out.

        Raises:
            InputError: no rule reaches it, or there is not a cost for each model.
        """
        each = list(costs) or np.geomspace(1, 30, len(difficulty.models)).tolist()
        if cost is None and quality is None:
            quality = NEAR_BEST * float(difficulty.held.max(1).mean())
        return cls(difficulty, difficulty.policy(each, cost=cost, quality=quality))

    def check(self, encoders: Mapping[str, Encoder]) -> None:
        """Raises InputError: it reads vectors of none of these encoders, by name."""
        encoder = self.difficulty.encoder
        if encoder not in encoders or self.difficulty.dim != encoders[encoder].dim:
            message = f"the trained tiers read vectors of {encoder or 'an unnamed encoder'}, {self.difficulty.dim} wide"
            fix = f"train them with --encoder {' or '.join(encoders)}"
            raise InputError(message, field="router.tier_model", fix=fix)

    def worth(self, text: str, vector: NDArray[np.float32]) -> float:
        """How many times what it costs more the large tier is worth; the rule takes it where that is above 1.

        Args:
            vector: of the text, float32 (dim,), by the encoder it was trained with.
        """
        right, costs = self.difficulty.probabilities(text, vector), np.array(self.policy.costs)
        small = int(np.argmin(costs))
        more = np.maximum(self.policy.price * (costs - costs[small]), _LEAST)
        return float(np.delete((right - right[small]) / more, small).max(initial=0.0))

    def tier(self, text: str, vector: NDArray[np.float32]) -> Tier:
        """SMALL or LARGE, as `worth` says."""
        return tier_by(self.worth(text, vector))

    def to_bytes(self) -> bytes:
        """An npz file; `Difficulty` reads it too."""
        header = {"costs": self.policy.costs, "price": self.policy.price, "cost": self.policy.cost}
        header |= {"quality": self.policy.quality, "shares": self.policy.shares}
        buffer, policy = BytesIO(), np.frombuffer(json.dumps(header).encode(), np.uint8)
        np.savez(buffer, policy=policy, **self.difficulty.arrays())  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "tiers.npz") -> TrainedTiers:
        """What `to_bytes` gave; a difficulty without a rule gets the usual one. Raises ArtifactError: it is neither."""
        arrays = load_npz(data, name)
        difficulty = Difficulty.from_arrays(arrays, name)
        if "policy" not in arrays:
            return cls.of(difficulty)
        try:
            header = json.loads(arrays["policy"].astype(np.uint8).tobytes())
            costs, shares = (tuple(map(float, header[key])) for key in ("costs", "shares"))
            price, cost, quality = (float(header[key]) for key in ("price", "cost", "quality"))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{name} has no usable rule: {error!r}"[:160], field="policy", fix=TRAIN) from None
        if len(costs) != len(difficulty.models) or not np.isfinite([*costs, *shares, price, cost, quality]).all():
            raise ArtifactError(f"{name} has no usable rule", field="policy", fix=TRAIN)
        return cls(difficulty, Policy(costs, price, cost, quality, shares))


def load_tiers(choice: str, store: Store, host: Host) -> TrainedTiers | None:
    """What `router.tier_model` names; None for the words of a task.

    Raises:
        ArtifactError, StoreError: what it names is damaged.
        InputError: it is a path that cannot be read.
    """
    if choice == "words":
        return None
    if choice == "shipped":
        return TrainedTiers.from_bytes(host.artifact("tiers.npz"))
    if choice == "kept":
        stored = store.load(TIERS)
        return None if stored is None else TrainedTiers.from_bytes(stored, "the trained tiers in the state file")
    try:
        return TrainedTiers.from_bytes(Path(choice).read_bytes(), choice)
    except OSError as error:
        message = f"{choice} cannot be read ({error.strerror or error})"
        fix = "use kept, words, shipped, or a file that `ruvllm tiers train` wrote"
        raise InputError(message, field="router.tier_model", fix=fix) from None


def forget_tiers(store: Store) -> bool:
    """Drop what `ruvllm tiers train` stored; whether there was any. Raises StoreError: it cannot be written."""
    with store.write() as db:
        return db.execute("DELETE FROM learnt WHERE name = ?", (TIERS,)).rowcount > 0
