"""Faults of the machine: limits of containers and schedulers, GPUs that are hidden or hang, other repositories."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from unittest import mock

from moe import machine as limits
from study import machine
from tests.faults.table import Fault, SkippedError

GIB = 2**30
LISTED = """GPU 0: NVIDIA H100 (UUID: GPU-aaaa-1)
  MIG 1g.10gb     Device  0: (UUID: MIG-cccc-1)
  MIG 1g.10gb     Device  1: (UUID: MIG-cccc-2)
GPU 1: NVIDIA H100 (UUID: GPU-aabb-2)
"""


def memory(groups: str, files: Mapping[str, str], expected: int, environment: Mapping[str, str], folder: Path) -> None:
    """The memory found below a root with these files, in bytes."""
    assert limited(limits.memory, groups, files, environment, folder) == expected


def cpus(groups: str, files: Mapping[str, str], expected: int, environment: Mapping[str, str], folder: Path) -> None:
    """The CPUs found below a root with these files, where the process may run on 64."""
    with mock.patch.object(os, "sched_getaffinity", return_value=set(range(64)), create=True):
        assert limited(limits.cpus, groups, files, environment, folder) == expected


def limited(
    found: Callable[[Path], int], groups: str, files: Mapping[str, str], environment: Mapping[str, str], folder: Path
) -> int:
    """What is found."""
    for name, text in {"../../../proc/self/cgroup": groups, **files}.items():
        path = Path(os.path.normpath(folder / "sys/fs/cgroup" / name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(text))
    others = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    with mock.patch.dict(os.environ, {**others, **environment}, clear=True):
        return found(folder)


def affinity(folder: Path) -> None:
    """The process may run on one CPU."""
    with mock.patch.object(os, "sched_getaffinity", return_value={5}, create=True):
        assert limits.cpus(folder) == 1


def gpus(visible: str | None, expected: int, folder: Path) -> None:
    """As many GPUs as CUDA would find with that CUDA_VISIBLE_DEVICES."""
    with nvidia_smi(folder, f"cat <<'END'\n{LISTED}END\n", visible):
        assert machine.gpus() == expected


def nvidia_smi(folder: Path, script: str, visible: str | None) -> mock._patch_dict:
    """A program of that name."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    return mock.patch.dict(
        os.environ, environment | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}), clear=True
    )


def smi(script: str, folder: Path) -> None:
    """nvidia-smi is of no help."""
    began = time.monotonic()
    with nvidia_smi(folder, script, None), mock.patch.object(machine, "NVIDIA_SMI_S", 0.5):
        assert machine.gpus() == 0
    assert time.monotonic() - began < 5


def no_program(folder: Path) -> None:
    """nvidia-smi is an empty file that may be executed."""
    with nvidia_smi(folder, "", None):
        (folder / "nvidia-smi").write_bytes(b"")
        assert machine.gpus() == 0


def installed_in_a_thesis(folder: Path) -> None:
    """The package is installed below another repository, in whose history it has no part."""
    if not shutil.which("git"):
        raise SkippedError("git is not installed")
    package = folder / ".venv" / "study"
    package.mkdir(parents=True)
    shutil.copy(Path(machine.__file__), package)
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    (folder / ".gitignore").write_text(".venv\n")
    subprocess.run([*git, "add", ".gitignore"], check=True)
    subprocess.run([*git, "commit", "-qm", "a thesis"], check=True)
    with mock.patch.object(machine, "__file__", str(package / "machine.py")):
        assert machine.commit() is None


V1 = "5:memory:/slurm/uid_1/job_2/step_0\n3:cpuset:/\n2:cpu,cpuacct:/slurm/uid_1/job_2\n"
V2 = "0::/system.slice/docker-1.scope/inner\n"
LIMITED = (
    ("v2, at the root", memory, "0::/\n", {"memory.max": f"{GIB}"}, GIB, {}),
    ("v2, at the root of a container that shows the path outside", memory, V2, {"memory.max": f"{GIB}"}, GIB, {}),
    ("v2, at the process's own group", memory, V2, {"system.slice/docker-1.scope/inner/memory.max": f"{GIB}"}, GIB, {}),
    (
        "v2, at a group around it",
        memory,
        V2,
        {"system.slice/memory.max": f"{GIB}", "system.slice/docker-1.scope/memory.max": "max\n"},
        GIB,
        {},
    ),
    ("v2 beside v1", memory, V2, {"unified/system.slice/memory.max": f"{GIB}"}, GIB, {}),
    (
        "v1, at the job",
        memory,
        V1,
        {
            "memory/slurm/uid_1/job_2/memory.limit_in_bytes": f"{GIB}",
            "memory/memory.limit_in_bytes": "9223372036854771712",
        },
        GIB,
        {},
    ),
    ("v1, at the root of a container", memory, V1, {"memory/memory.limit_in_bytes": f"{GIB}"}, GIB, {}),
    ("a path that leads out", memory, "0::/../../..\n", {"memory.max": f"{GIB}", "../../../memory.max": "1"}, GIB, {}),
    ("v2, at the root", cpus, "0::/\n", {"cpu.max": "300000 100000\n"}, 3, {}),
    ("v2, at a group around it", cpus, V2, {"system.slice/cpu.max": "150000 100000\n", "cpu.max": "max 100000"}, 1, {}),
    (
        "v1, at the job",
        cpus,
        V1,
        {"cpu,cpuacct/slurm/uid_1/cpu.cfs_quota_us": "400000", "cpu,cpuacct/slurm/uid_1/cpu.cfs_period_us": "100000"},
        4,
        {},
    ),
    ("v1, linked by one name", cpus, V1, {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1, {}),
    ("v1, without a quota", cpus, V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64, {}),
    ("garbage", cpus, "nonsense\n", {"cpu.max": "\0\n"}, 64, {}),
    ("SLURM_CPUS_PER_TASK", cpus, "", {}, 6, {"SLURM_CPUS_PER_TASK": "6"}),
    ("SLURM_CPUS_ON_NODE", cpus, "", {}, 5, {"SLURM_CPUS_ON_NODE": "5"}),
    ("a number of 5,000 digits", cpus, "", {}, 64, {"SLURM_CPUS_PER_TASK": "9" * 5000}),
    (
        "memory of 5,000 digits beside a limit",
        memory,
        "",
        {},
        GIB,
        {"SLURM_MEM_PER_NODE": "9" * 5000, "SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_PER_TASK": "1"},
    ),
    ("SLURM_MEM_PER_GPU", memory, "", {}, GIB, {"SLURM_MEM_PER_GPU": "512", "SLURM_GPUS_ON_NODE": "2"}),
    ("a control group of no text", cpus, "1:\udcff:/x\n", {}, 64, {}),
    ("SLURM_MEM_PER_NODE", memory, "", {}, GIB, {"SLURM_MEM_PER_NODE": "1024"}),
    ("SLURM_MEM_PER_CPU", memory, "", {}, 300 * 2**20, {"SLURM_MEM_PER_CPU": "300", "SLURM_CPUS_PER_TASK": "1"}),
)
VISIBLE = {
    None: 2, "0": 1, "0,1": 2, "1,0": 2, "": 0, " ": 0, "-1": 0, "-1,0": 0, "0,-1,1": 1, "0,0": 0, "0,1,0": 0, "2": 0,
    "0,7": 1, "NoDevFiles": 0, "none": 0, "void": 0, "all": 0, "0 , 1": 2, "1gpu": 1, "GPU-aaaa-1": 1, "GPU-aabb": 1,
    "GPU-aa": 0, "GPU-zz": 0, "GPU-aaaa,GPU-aabb": 2, "GPU-aaaa,GPU-aaaa": 0, "GPU-aaaa,GPU-zz": 1, "MIG-cccc-1": 1,
    "MIG-cccc-1,MIG-cccc-2": 2, "MIG-zz": 0, "9" * 5000: 0,
}  # fmt: skip
WHERE = "study.machine"
FAULTS = (
    *(
        Fault("H32", f"{check.__name__}: {what}", WHERE, "the scheduler's limit", partial(check, *how))
        for what, check, *how in LIMITED
    ),
    Fault("H32", "affinity", WHERE, "no more CPUs than the process may run on", affinity),
    *(
        Fault("H33", f"CUDA_VISIBLE_DEVICES={visible!r}", WHERE, "counted as CUDA does", partial(gpus, visible, count))
        for visible, count in VISIBLE.items()
    ),
    Fault("H33", "nvidia-smi hangs", WHERE, "seconds, and no GPU", partial(smi, "sleep 60\n")),
    Fault(
        "H33",
        "nvidia-smi hangs and ignores signals",
        WHERE,
        "seconds, and no GPU",
        partial(smi, "trap '' TERM INT\nsleep 60 &\nwait\nsleep 60\n"),
    ),
    Fault("H33", "nvidia-smi fails", WHERE, "no GPU", partial(smi, "echo 'NVIDIA-SMI has failed'; exit 9\n")),
    Fault("H33", "nvidia-smi prints other bytes", WHERE, "no GPU", partial(smi, "printf '\\377\\376'\n")),
    Fault("H33", "nvidia-smi is no program", WHERE, "no GPU", no_program),
    Fault("H37", "installed below another repository", WHERE, "no commit", installed_in_a_thesis),
)
