"""The CPUs and the memory of this machine, as its system, its container and Slurm limit them; its boot. No torch."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")  # of the file system


def boot_id() -> str:
    """This boot of the machine's kernel, by which machines with one name differ; "" if unknown."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def cpus(root: Path = ROOT) -> int:
    """How many CPUs this process may use: by its affinity, its control groups and Slurm."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    for folder in _control_groups(root):
        split = (*_numbers(folder / "cpu.cfs_quota_us"), *_numbers(folder / "cpu.cfs_period_us"))
        for times in (_numbers(folder / "cpu.max"), split):  # quota and period in microseconds; -1 is no quota
            limits += [times[0] // times[1]] if len(times) == 2 and min(times) > 0 else []
    limits += _slurm("SLURM_CPUS_PER_TASK") + _slurm("SLURM_CPUS_ON_NODE")
    return max(1, min(limits))


def memory(root: Path = ROOT) -> int:
    """The bytes of memory that this process may use: those of the machine, its control groups and Slurm."""
    limits = [sys.maxsize]  # Windows has no sysconf
    if hasattr(os, "sysconf"):
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _control_groups(root):
        limits += _numbers(folder / "memory.max") + _numbers(folder / "memory.limit_in_bytes")
    limits += [megabytes * 2**20 for megabytes in _slurm("SLURM_MEM_PER_NODE")]
    limits += [megabytes * 2**20 * cpus(root) for megabytes in _slurm("SLURM_MEM_PER_CPU")]
    gpus = _slurm("SLURM_GPUS_ON_NODE")
    limits += [megabytes * 2**20 * gpus[0] for megabytes in _slurm("SLURM_MEM_PER_GPU") if gpus]
    return min(limits)


def _control_groups(root: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in, of both versions, and of all groups around them."""
    mounted = root / "sys/fs/cgroup"
    groups = [("", "/")]  # in a container the path below may be that outside of it
    with suppress(OSError):
        lines = os.fsdecode((root / "proc/self/cgroup").read_bytes()).splitlines()
        groups += [(found[2], found[3]) for line in lines if (found := re.fullmatch(r"(\d+):([^:]*):(.*)", line))]
    for controllers, path in groups:
        for mount in (controllers, *controllers.split(",")) if controllers else ("", "unified"):
            here = (mounted / mount / path.strip("/")).absolute()
            if ".." not in here.parts:
                yield here
                yield from (folder for folder in here.parents if folder.is_relative_to(mounted))


def _numbers(file: Path) -> tuple[int, ...]:
    """The numbers in a file; none if there is no such file, or no limit in it."""
    try:
        return tuple(int(word) for word in file.read_text().split())
    except (OSError, ValueError):  # no control group of this kind, or "max"
        return ()


def _slurm(name: str) -> list[int]:
    """A limit that Slurm has set for this job; 0 is none."""
    value = os.environ.get(name, "")
    return [int(value)] if re.fullmatch(r"\d{1,15}", value, re.ASCII) and int(value) else []
