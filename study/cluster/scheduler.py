"""What the ways to Slurm and to Kubernetes share: the size of a node, placeholders, and the scheduler's commands."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from moe.cli import refuse
from moe.console import emit, warn
from study.cluster.fetch import save
from study.cluster.http import one_line
from study.cluster.request import PROGRAM, Request
from study.machine import ClusterError
from study.options import Options
from study.search.resources import REST_BYTES, TRIAL_BYTES

COMMAND_S = 120.0  # for a command of the scheduler
CPUS_PER_TRIAL = 4  # the stages that train side by side


@dataclass(frozen=True)
class NodeSize:
    """What a job asks for of one node: for trials, and the memory for all that runs there besides."""

    cpus: int
    gpus: int
    trial_bytes: int
    rest_bytes: int = REST_BYTES

    @property
    def mebibytes(self) -> int:
        """Of memory, in all."""
        return (self.trial_bytes + self.rest_bytes) // 2**20


def node_size(run: Options, nodes: int) -> NodeSize:
    """What the options of a study need of each of its nodes; a node has one trial at a time unless they say more."""
    trials = -(-(run.concurrency or nodes) // nodes)
    share = run.gpus_per_trial or 0
    gpus = trials * share if share >= 1 or not share else -(-trials // int(1 / share))  # a share never spans two
    cpus = trials * (run.cpus_per_trial or CPUS_PER_TRIAL)
    return NodeSize(cpus=cpus, gpus=int(gpus), trial_bytes=trials * TRIAL_BYTES)


def placeholder(name: str, value: str | None) -> str:
    """A value, or what stands for it where it is not given."""
    return f"<{name.upper()}>" if value is None else value


def written(request: Request, text: str, missing: Sequence[str], how: str) -> bool:
    """Whether the file is to be sent; else it was printed, with a note on stderr. What is missing is not sent."""
    options = ", ".join(f"--{name}" for name in missing)
    if request.send and missing:
        refuse(PROGRAM, f"{options} is missing; expected it with --run, or a file without --run")
    if not request.send:
        emit(text, end="")
        warn(PROGRAM, f"{f'replace what stands for {options}, then ' if missing else ''}submit it with: {how}")
    return request.send


def fetched(request: Request, archive: bytes) -> None:
    """Write a study's folder here and print where it is."""
    assert request.name
    count = save(archive, request.results, request.name)
    emit(f"Study {request.name}: {count} files in {request.results / request.name}")


def call(*words: str, content: str = "") -> str:
    """What a command of the scheduler prints; raises a `ClusterError` if it fails, or is not on this machine."""
    try:
        done = subprocess.run(
            words, input=content, capture_output=True, text=True, errors="replace", timeout=COMMAND_S, check=False
        )  # fmt: skip
    except OSError as error:
        raise ClusterError(f"{words[0]}: {error.strerror}; expected a machine from which jobs are submitted") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{words[0]} {words[1]} did not end within {COMMAND_S:.0f} s") from None
    if done.returncode:
        reason = one_line(done.stderr or done.stdout) or f"exit code {done.returncode}"
        raise ClusterError(f"{words[0]} {words[1]} failed: {reason}")
    return done.stdout


def show(*words: str) -> None:
    """Print what a command prints, as it comes; raises a `ClusterError` if it fails, or is not on this machine."""
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, errors="replace") as process:
            assert process.stdout
            for piece in iter(lambda: process.stdout.readline(2**16), ""):  # type: ignore[union-attr]
                emit(piece, end="")
    except OSError as error:
        raise ClusterError(f"{words[0]}: {error.strerror}; expected a machine from which jobs are submitted") from None
    if process.returncode:
        raise ClusterError(f"{words[0]} {words[1]} failed with exit code {process.returncode}")
