"""What each trial gets of the machines, and how many run at once.

    options, nodes --allot--> Resources

By default a trial gets one GPU where there is one. Without a GPU as many trials run at once as there are CPUs, because
a trial that has several is idle in part: it trains four stages side by side (of 1, 1, 0.4 and 0.6 of the work), then
the mixture alone. Trials that wait for a stage of another one cost less. Counted by an event simulation of 50 trials of
space notebook, each stage trained once: 16 CPUs take 78 s with one a trial, 81 s with two, 114 s with four; 2 CPUs take
305 s with one, 414 s with two. CPUs that are left, by --concurrency, a GPU or too little memory, are shared, at most
four to a trial. No more trials run at once than all nodes together have memory for: Ray places them by their CPUs and
GPUs only. Rules of the space give some configs another share. Then the number at once is counted with the smallest
share, and Ray starts a trial as soon as its own share is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from moe.cli import option, refuse
from moe.config import Config
from moe.machine import cpus, memory
from study import machine
from study.options import RayOptions
from study.rules import Rule

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
    rules: tuple[Rule, ...] = field(default=(), hash=False)  # of the space; they hold mappings, which have no hash

    def of(self, config: Config) -> Self:
        """The same with what a trial of this config is allotted."""
        return next((self._by(rule) for rule in self.rules if rule.fits(config)), self)

    @property
    def kinds(self) -> list[Self]:
        """The same with every share that a trial may be allotted, the usual one first."""
        return [self, *map(self._by, self.rules)]

    def _by(self, rule: Rule) -> Self:
        gpus = self.gpus_per_trial if rule.gpus is None else rule.gpus
        return replace(self, cpus_per_trial=rule.cpus or self.cpus_per_trial, gpus_per_trial=gpus)

    @property
    def share(self) -> str:
        """What a trial gets, in words."""
        cpus = f"{self.cpus_per_trial} CPU{'s' * (self.cpus_per_trial > 1)}"
        return cpus + f" and {self.gpus_per_trial:g} GPU{'s' * (self.gpus_per_trial > 1)}" * bool(self.gpus_per_trial)

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


def here() -> Node:
    """What this machine has for trials."""
    return Node(cpus(), machine.gpus(), memory() - REST_BYTES)


def local(options: RayOptions, rules: tuple[Rule, ...]) -> Resources:
    """What each trial gets on this machine; raises as `allot`."""
    return allot(options, [here()], rules)


def allot(options: RayOptions, nodes: Sequence[Node], rules: tuple[Rule, ...] = ()) -> Resources:
    """What each trial gets of these machines; options that need more than any of them has exit with code 2.

    Raises:
        ClusterError: a trial, by a rule too, would wait forever.
    """
    most, gpus = max(node.cpus for node in nodes), max(node.gpus for node in nodes)
    gpus_per_trial = options.gpus_per_trial if options.gpus_per_trial is not None else min(1, gpus)
    where = "that there are" if len(nodes) == 1 else "of the largest node"
    _check(options, "gpus_per_trial", gpus_per_trial, gpus, f"GPUs {where}")
    _check(options, "cpus_per_trial", options.cpus_per_trial, most, f"CPUs {where}")

    fewest = min([options.cpus_per_trial or 1, *(rule.cpus for rule in rules if rule.cpus)])
    least = min([gpus_per_trial, *(rule.gpus for rule in rules if rule.gpus is not None)])

    def places(cpus_per_trial: int) -> int:
        return sum(node.places(cpus_per_trial, least) for node in nodes)

    _check(options, "concurrency", options.concurrency, places(fewest), "places for such a trial")
    fitting = sum(node.fitting(fewest, least) for node in nodes)
    at_once = options.concurrency or fitting
    roomy = [count for count in range(1, min(MOST_CPUS, most) + 1) if places(count) >= at_once]
    resources = Resources(
        cpus_per_trial=options.cpus_per_trial or max(roomy, default=1),
        gpus_per_trial=gpus_per_trial,
        concurrency=max(1, at_once),
        rules=rules,
    )
    _check_kinds(options, resources, nodes)
    return resources


def _check_kinds(options: RayOptions, resources: Resources, nodes: Sequence[Node]) -> None:
    for kind in resources.kinds:
        if not any(node.places(kind.cpus_per_trial, kind.gpus_per_trial) for node in nodes):
            raise machine.ClusterError(
                f"no machine has the {kind.share} of one trial, which would wait forever; lower --cpus-per-trial, "
                "--gpus-per-trial or resources in the space file"
            )
        if bool(kind.gpus_per_trial) != bool(resources.gpus_per_trial) and not options.mixed:
            why = f"{resources.share} for others, and a GPU gives other results in the last digits"
            refuse(options.program, f"--space has {kind.share} for some trials, {why}; expected one kind, or --mixed")


def _check(options: RayOptions, field: str, asked: float | None, present: int, what: str) -> None:
    if asked is not None and asked > present:
        refuse(options.program, f"{option(field)} is {asked:g}; expected at most {present}, the {what}")
