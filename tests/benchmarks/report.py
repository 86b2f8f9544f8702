"""What all benchmarks print: the spread of repeated runs, and the machine and versions."""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from moe.machine import cpus
from study import machine


def spread(values: Sequence[float]) -> str:
    """Their median, least and most; three digits, or three places after the point."""
    middle, least, most = (_short(value) for value in (median(values), min(values), max(values)))
    return f"{middle} ({least}–{most})" if len(values) > 1 else middle


def _short(value: float) -> str:
    return f"{value:,.{sum(abs(value) < bound for bound in (1, 10, 100))}f}"


def circumstances() -> str:
    """This machine, how busy it is, the versions and the commit, on a line. Call it before the work begins."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions().items())
    busy = f"a load of {os.getloadavg()[0]:.1f}"
    return f"{cpus()} CPUs ({_model()}), {machine.gpus()} GPUs, {busy}; {versions}; commit {machine.commit()}"


def _model() -> str:
    """The CPU's model; "unknown" where the system does not name it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    return (named[0] if named else "unknown") + (", AMX" if "amx_bf16" in flags else "")
