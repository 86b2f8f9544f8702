"""What each trial gets of the machines, and how many run at once.

    options, nodes --allot--> Resources

By default a trial gets one GPU where there is one. Without a GPU as many trials run at once as there are CPUs, because
a trial that has several is idle in part: it trains four stages side by side (of 1, 1, 0.4 and 0.6 of the work), then
the mixture alone. Trials that wait for a stage of another one cost less. Counted by an event simulation of 50 trials of
space notebook, each stage trained once: 16 CPUs take 78 s with one a trial, 81 s with two, 114 s with four; 2 CPUs take
305 s with one, 414 s with two. CPUs that are left, by --concurrency, a GPU or too little memory, are shared, at most
four to a trial. No more trials run at once than all nodes together have memory for: Ray places them by their CPUs and
GPUs only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from moe.cli import option, refuse
from moe.machine import cpus, memory
from study import machine
from study.options import RayOptions

MOST_CPUS = 4  # the stages of a trial that train side by side
TRIAL_BYTES = 3 * 2**29  # a worker that trains was measured at 1.05 GB
REST_BYTES = 2**31  # for the system, Ray and the driver


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one trial is allotted, and how many run at once."""

    cpus_per_trial: int
    gpus_per_trial: float
    concurrency: int
    idle: tuple[str, ...] = ()  # Ray's ids of nodes that get no trial, because their arithmetic is another

    @property
    def labels(self) -> dict[str, str]:
        """Ray's selector of the nodes that get trials."""
        return {"ray.io/node-id": f"!in({','.join(self.idle)})"} if self.idle else {}


@dataclass(frozen=True)
class Node:
    """The CPUs, GPUs and memory of a machine for trials."""

    cpus: int
    gpus: int = 0
    memory: int = 2**63  # bytes

    def places(self, cpus: int, gpus: float) -> int:
        """How many trials with so many CPUs and GPUs fit; a fraction of a GPU never spans two."""
        by_cpus = self.cpus // cpus
        if gpus >= 1:
            return min(by_cpus, int(self.gpus // gpus))
        if gpus > 0:
            return min(by_cpus, self.gpus * int(1 / gpus))
        return by_cpus

    def fitting(self, cpus: int, gpus: float) -> int:
        """How many of those have enough memory; at least one is assumed to."""
        return min(self.places(cpus, gpus), max(1, self.memory // TRIAL_BYTES))


def local(options: RayOptions) -> Resources:
    """What each trial gets on this machine; options that need more than it has exit with code 2."""
    return allot(options, [Node(cpus(), machine.gpus(), memory() - REST_BYTES)])


def allot(options: RayOptions, nodes: Sequence[Node]) -> Resources:
    """What each trial gets of these machines; options that need more than any of them has exit with code 2."""
    most, gpus = max(node.cpus for node in nodes), max(node.gpus for node in nodes)
    gpus_per_trial = options.gpus_per_trial if options.gpus_per_trial is not None else min(1, gpus)
    where = "that there are" if len(nodes) == 1 else "of the largest node"
    _check(options, "gpus_per_trial", gpus_per_trial, gpus, f"GPUs {where}")
    _check(options, "cpus_per_trial", options.cpus_per_trial, most, f"CPUs {where}")

    def places(cpus_per_trial: int) -> int:
        return sum(node.places(cpus_per_trial, gpus_per_trial) for node in nodes)

    _check(options, "concurrency", options.concurrency, places(options.cpus_per_trial or 1), "places for such a trial")
    fitting = sum(node.fitting(options.cpus_per_trial or 1, gpus_per_trial) for node in nodes)
    at_once = options.concurrency or fitting
    roomy = [count for count in range(1, min(MOST_CPUS, most) + 1) if places(count) >= at_once]
    return Resources(
        cpus_per_trial=options.cpus_per_trial or max(roomy, default=1),
        gpus_per_trial=gpus_per_trial,
        concurrency=max(1, at_once),
    )


def _check(options: RayOptions, field: str, asked: float | None, present: int, what: str) -> None:
    if asked is not None and asked > present:
        refuse(options.program, f"{option(field)} is {asked:g}; expected at most {present}, the {what}")
