"""What of this machine a process may take: a container's limits count before what the hardware has."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
_ENDLESS = 1 << 60  # bytes: how the first version of cgroups says that there is no limit


def cores(root: Path = CGROUP) -> int:
    """Threads that can run at once, at least 1: the processors of this process within its container's share of them.

    Args:
        root: where the kernel shows control groups, of either version.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _text(root / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(root / "cpu/cpu.cfs_quota_us"), _text(root / "cpu/cpu.cfs_period_us")
    if quota.isdecimal() and period.isdecimal() and int(period):
        usable = min(usable, math.ceil(int(quota) / int(period)))
    return max(1, usable)


def memory_limit(root: Path = CGROUP) -> int | None:
    """Bytes that a container's processes may take; None without a limit."""
    limit = _text(root / "memory.max") or _text(root / "memory/memory.limit_in_bytes")
    return int(limit) if limit.isdecimal() and int(limit) < _ENDLESS else None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
