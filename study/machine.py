"""The memory and GPUs of this machine, the versions of packages and the commit. No torch, no Ray."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


class ClusterError(Exception):
    """A machine or cluster cannot run the study; the sentence says why."""


PACKAGES = ("torch", "ray", "optuna", "numpy", "pandas")


def memory() -> int:
    """The bytes of memory that this process may use, the limit of its container (cgroup v2) included."""
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(present, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no control group of this kind, or "max"
        return present


def gpus() -> int:
    """How many NVIDIA GPUs this process may use, by the driver and CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = None if visible is None else [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    if chosen == [] or not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    present = sum(line.startswith("GPU ") for line in listed.splitlines())
    return present if chosen is None else min(present, len(chosen))


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """The git commit of this code, with "+" where files were changed since; None outside a checkout."""
    head = _git("rev-parse", "HEAD")
    return head and head + ("+" if _git("status", "--porcelain", "--untracked-files=no", ".", "../moe") else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
