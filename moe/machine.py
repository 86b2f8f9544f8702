"""What this process may use of its machine. No torch."""

import os
from pathlib import Path


def cpus() -> int:
    """How many CPUs this process may run on, a container's quota included."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # no control group of this kind, or "max"
        return allowed
