"""The GPUs of this machine, the versions of packages and the commit. No torch, no Ray."""

import os
import platform
import re
import shutil
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


class ClusterError(Exception):
    """A machine or cluster cannot run the study; the sentence says why."""


PACKAGES = ("torch", "ray", "optuna", "numpy", "pandas")
NVIDIA_SMI_S = 10.0  # seconds that nvidia-smi may take: on a broken GPU it hangs


def gpus() -> int:
    """How many NVIDIA GPUs this process may use, as CUDA counts them: by the driver and CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip():
        return 0
    listed = _nvidia_smi()
    present = re.findall(r"^GPU \d+: .*\(UUID: (GPU-[^)\s]+)", listed, re.MULTILINE)
    if visible is None:
        return len(present)
    if visible.startswith(("GPU-", "MIG-")):
        parts = re.findall(r"^\s+MIG .*\(UUID: (MIG-[^)\s]+)", listed, re.MULTILINE)
        return len(_chosen(visible, [*present, *parts]))
    return len(_chosen_by_number(visible, len(present)))


def _chosen(visible: str, present: list[str]) -> list[str]:
    """The devices whose identifiers begin as those listed do, up to the first that is not one; twice is none."""
    found: list[str] = []
    for prefix in visible.split(","):
        named = [uuid for uuid in present if prefix.strip() and uuid.startswith(prefix.strip())]
        if len(named) != 1:
            break
        found += named
    return found if len({*found}) == len(found) else []


def _chosen_by_number(visible: str, present: int) -> list[int]:
    """The numbers listed, up to the first that is none or too large; twice is none. CUDA takes "1x" for 1."""
    found: list[int] = []
    for word in visible.split(","):
        number = re.match(r"\s*\+?(\d{1,9})(?!\d)", word)
        if number is None or int(number[1]) >= present:
            break
        found.append(int(number[1]))
    return found if len({*found}) == len(found) else []


def _nvidia_smi() -> str:
    """What nvidia-smi lists; nothing if it is missing, fails or hangs."""
    if not shutil.which("nvidia-smi"):
        return ""
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = subprocess.Popen(["nvidia-smi", "-L"], stdout=pipe, stderr=none, errors="replace")
    except OSError:  # it is for another machine, or no program
        return ""
    try:
        return process.communicate(timeout=NVIDIA_SMI_S)[0]
    except subprocess.TimeoutExpired:
        with suppress(OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait(1.0)  # it may be in the kernel, where no kill ends it
        return ""
    finally:
        if process.stdout:
            process.stdout.close()


def versions() -> dict[str, str]:
    """Of Python, of this package and of those that results depend on."""
    found = {"python": platform.python_version()}
    for name in ("moe-study", *PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def identity() -> dict[str, str]:
    """The name, operating system and CPU model of this machine."""
    cpu = platform.processor() or platform.machine()
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        cpu = found[1] if found else cpu
    return {"host": platform.node(), "os": platform.platform(), "cpu": cpu}


def commit() -> str | None:
    """The git commit of this code, with "+" where files were changed since; None outside a checkout of it.

    A repository that the code is only installed in, in an environment say, does not count.
    """
    if not _git("ls-files", "--error-unmatch", Path(__file__).name):
        return None
    head = _git("rev-parse", "HEAD")
    return head and head + ("+" if _git("status", "--porcelain", "--untracked-files=no", ".", "../moe") else "")


def _git(*arguments: str) -> str | None:
    elsewhere = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # in a hook, say
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, env=elsewhere, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
