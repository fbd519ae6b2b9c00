"""What a SonaEngine tells of its work."""

from __future__ import annotations

from dataclasses import dataclass

from ruvllm.reprs import one_line

__all__ = ["SonaReport", "SonaStats"]


@dataclass(frozen=True, slots=True)
class SonaReport:
    """What a call of `tick` or `force_learn` did.

    Attributes:
        ran: whether there was anything to do, and it was due.
        finished: false when the time was over first; the next call goes on there.
        trajectories: that the base adapter was taught, each counted once.
        patterns: known after it.
        consolidated: tasks that EWC++ has consolidated, in all.
    """

    ran: bool
    finished: bool
    trajectories: int
    patterns: int
    consolidated: int
    seconds: float

    __repr__ = one_line


@dataclass(frozen=True, slots=True)
class SonaStats:
    """Where an engine stands.

    Attributes:
        trajectories: ended so far.
        waiting: of them, not learnt from by the background yet; `dropped` never will be.
        judged_good: examples, the others are warnings.
        micro_updates, base_updates: of the adapters; micro_strength, base_strength: ‖W‖ of what they change.
        ewc_tasks, ewc_lambda: tasks consolidated, and how firmly they are held.
    """

    enabled: bool
    open: int
    trajectories: int
    judged_good: int
    waiting: int
    dropped: int
    patterns: int
    cycles: int
    micro_updates: int
    base_updates: int
    micro_strength: float
    base_strength: float
    ewc_tasks: int
    ewc_lambda: float

    __repr__ = one_line
