"""What the ways to Slurm and to Kubernetes share: a job's name, size and continuation, and the scheduler's commands."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from moe.cli import refuse
from moe.console import emit, warn
from study.cluster.http import one_line
from study.cluster.options import CARRIED, new_name
from study.cluster.request import PROGRAM, Request
from study.machine import ClusterError
from study.options import Options, as_words
from study.search.resources import REST_BYTES, TRIAL_BYTES

COMMAND_S = 120.0  # for a command of the scheduler
CPUS_PER_TRIAL = 4  # the stages that train side by side


@dataclass(frozen=True)
class NodeSize:
    """What a job asks for of one node: for trials, and the memory for all that runs there besides."""

    cpus: int
    gpus: int
    trial_bytes: int

    @property
    def mebibytes(self) -> int:
        """Of memory, in all."""
        return (self.trial_bytes + REST_BYTES) // 2**20


def node_size(run: Options, nodes: int) -> NodeSize:
    """What the options of a study need of each of its nodes; a node has one trial at a time unless they say more."""
    trials = -(-(run.concurrency or nodes) // nodes)
    share = run.gpus_per_trial or 0
    gpus = trials * share if share >= 1 or not share else -(-trials // int(1 / share))  # a share never spans two
    cpus = trials * (run.cpus_per_trial or CPUS_PER_TRIAL)
    return NodeSize(cpus=cpus, gpus=int(gpus), trial_bytes=trials * TRIAL_BYTES)


def job_name(request: Request) -> str:
    """The study's name, also of one without."""
    if request.name is None and request.action == "resume":
        refuse(PROGRAM, f"NAME is missing; expected {PROGRAM} resume --on {request.on} NAME ...")
    return request.name or new_name(request)


def continuation(request: Request, name: str, run: Options) -> str:
    """The command that continues a study with what its folder does not hold."""
    return request.command("resume", name, "--run", "--", *as_words(run, "results", *CARRIED))


def placeholder(name: str, value: str | None) -> str:
    """A value, or what stands for it where it is not given."""
    return f"<{name.upper()}>" if value is None else value


def written(request: Request, text: str, needed: Sequence[str], how: str) -> bool:
    """Whether the file is to be sent; else it was printed, with a note on stderr. What is missing is not sent."""
    missing = ", ".join(f"--{name}" for name in needed if getattr(request, name) is None)
    if request.send and missing:
        refuse(PROGRAM, f"{missing} is missing; expected it with --run, or a file without --run")
    if not request.send:
        emit(text, end="")
        warn(PROGRAM, f"{f'replace what stands for {missing}, then ' if missing else ''}submit it with: {how}")
    return request.send


def hint(request: Request, name: str, *place: str) -> None:
    """Print the commands for a study that was submitted; `place` are the options for its logs."""
    emit(f"Look at it: {request.command('logs', name, '--follow', *place)}")
    emit(f"Stop it:    {request.command('stop', name)}")


def call(*words: str, content: str = "") -> str:
    """What a command of the scheduler prints; raises a `ClusterError` if it fails, or is not on this machine."""
    try:
        done = subprocess.run(
            words, input=content, capture_output=True, text=True, errors="replace", timeout=COMMAND_S, check=False
        )  # fmt: skip
    except OSError as error:
        raise _not_here(words[0], error) from None
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
        raise _not_here(words[0], error) from None
    if process.returncode:
        raise ClusterError(f"{words[0]} {words[1]} failed with exit code {process.returncode}")


def _not_here(command: str, error: OSError) -> ClusterError:
    return ClusterError(f"{command}: {error.strerror}; expected a machine from which jobs are submitted")
