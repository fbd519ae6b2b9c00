"""The options of a SonaEngine, and sets of them that suit a purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ruvllm.errors import ConfigError
from ruvllm.hints import Options, snake_case
from ruvllm.lazy_dataclass import dataclass
from ruvllm.learning.ewc import DEFAULT, LEAST, MOST
from ruvllm.learning.lora import RATE
from ruvllm.learning.trajectories import CAPACITY

_RANGES: dict[str, tuple[float, float]] = {
    "hidden_dim": (1, 16_384),
    "embedding_dim": (1, 16_384),
    "micro_lora_rank": (1, 64),
    "base_lora_rank": (1, 256),
    "micro_lora_lr": (1e-8, 1.0),
    "base_lora_lr": (1e-8, 1.0),
    "ewc_lambda": (LEAST, MOST),
    "pattern_clusters": (1, 1_000),
    "trajectory_capacity": (1, 100_000),
    "background_interval_ms": (0, 10**10),
    "quality_threshold": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True, repr=False)
class SonaConfig(Options):
    """Options of the learning loops.

    Attributes:
        hidden_dim: width of the vectors where neither `embedding_dim` nor an encoder gives it.
        embedding_dim: width of the vectors; None takes the encoder's.
        micro_lora_rank, base_lora_rank: of the instant adapter, and of the one that learns in the background.
        ewc_lambda: where λ of consolidation starts; it then adapts itself.
        pattern_clusters: at most, of one background cycle.
        trajectory_capacity: trajectories that wait for the background; the oldest leave beyond it.
        background_interval_ms: between two background cycles.
        quality_threshold: below it a trajectory is a warning, not an example.
        enable_simd: numpy always uses what the processor has, so only True is possible.
    """

    hidden_dim: int = 256
    embedding_dim: int | None = None
    micro_lora_rank: int = 2
    base_lora_rank: int = 8
    micro_lora_lr: float = RATE
    base_lora_lr: float = RATE
    ewc_lambda: float = DEFAULT
    pattern_clusters: int = 100
    trajectory_capacity: int = CAPACITY
    background_interval_ms: int = 3_600_000
    quality_threshold: float = 0.4
    enable_simd: bool = True

    def __post_init__(self) -> None:
        """Raises ConfigError: an option of another type or out of range."""
        self.check_ranges(_RANGES)
        if self.enable_simd is not True:
            fix = "leave it out: numpy chooses its instructions itself"
            raise ConfigError(f"enable_simd is {self.enable_simd!r}", field="enable_simd", fix=fix)

    @classmethod
    def of(cls, given: SonaConfig | Mapping[str, Any] | int | None = None, **options: Any) -> SonaConfig:
        """Options given as such, as a mapping (camelCase is understood), as the width of vectors, or not at all.

        Args:
            options: by name, which count first.

        Raises:
            ConfigError: they are neither, or one is unknown or unusable.
        """
        named = {**given, **options} if isinstance(given, Mapping) else options
        options = {snake_case(str(name)): value for name, value in named.items()}
        if isinstance(given, SonaConfig):
            return replace(given, **options)
        if type(given) is int:
            options = {"hidden_dim": given, **options}
        elif given is not None and not isinstance(given, Mapping):
            fix = "give a SonaConfig, a mapping of its options, or the width of the vectors"
            raise ConfigError(f"config is {given!r}"[:120], field="config", fix=fix)
        return cls(**options)

    @classmethod
    def max_throughput(cls) -> SonaConfig:
        """The least work per trajectory and in the background."""
        return cls(micro_lora_rank=1, base_lora_rank=4, pattern_clusters=50, background_interval_ms=7_200_000)

    @classmethod
    def max_quality(cls) -> SonaConfig:
        """Wider adapters and finer patterns, learnt more often."""
        return cls(base_lora_rank=16, pattern_clusters=200, background_interval_ms=1_800_000, quality_threshold=0.5)

    @classmethod
    def edge(cls) -> SonaConfig:
        """Two to three megabytes in all, for small hosts."""
        return cls(micro_lora_rank=1, base_lora_rank=4, pattern_clusters=25, trajectory_capacity=500)
