"""How many image passes a list of trials takes, one after another, here and in the plain peer. Nothing is run.

    trials --ours--> Cost     what moe.pipeline and moe.scheduler do, with a store that was empty or with none
    trials --peers--> Cost    what tests.benchmarks.peer does
    studies --table--> both, and what reuse has to do with it

An image pass is one image forward through one network, or backward through one; both subgates are one network.
Images count as balanced, a tenth to each class: so `holdout` cuts them, `notebook` nearly.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch

from moe.config import CLASSES, HOLDOUT, Config
from moe.result import Result
from moe.stages import PIPELINE, STAGES, Checkpoint, Spec, plan, resolved
from moe.training.numerics import Numerics
from study.study import COMPLETE, Record
from tests.benchmarks.report import spread

FROZEN = STAGES["mixture"].needs
ANY = Numerics(device="any", torch="any", instructions="any")


@dataclass(frozen=True)
class Trial:
    """A config and how far its stages were trained."""

    config: Config
    used: Mapping[str, int]  # epochs, by stage
    read: Mapping[str, int]  # the epoch whose weights later stages and scores see, from 1

    @classmethod
    def of(cls, result: Result) -> "Trial":
        """The trial of a result."""
        used = {name: len(result.stages[name].epochs) for name in PIPELINE}
        return cls(result.config, used, {name: result.stages[name].best_epoch for name in PIPELINE})


@dataclass(frozen=True)
class Cost:
    """What some trials take."""

    passes: int = 0
    subgates: int = 0  # of the passes; their arithmetic is about an eighth of a VGG's
    epochs: int = 0  # trained, over all stages

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.passes + other.passes, self.subgates + other.subgates, self.epochs + other.epochs)


def from_records(records: Iterable[Record]) -> list[Trial]:
    """The complete trials of a study."""
    return [Trial.of(record.done) for record in records if record.state == COMPLETE]


def assumed(config: Config, stop: int | None = None) -> Trial:
    """A trial of which each stage uses all its epochs, or so many at most, and is read at the last."""
    epochs = dict.fromkeys(PIPELINE, min(config.epochs, stop or config.epochs))
    return Trial(config, epochs, epochs)


def ours(trials: Iterable[Trial], reuse: bool) -> Cost:
    """What the pipeline takes for these trials, one after another.

    Args:
        trials: in the order in which they are run.
        reuse: with one store, empty at first; else with none.
    """
    return sum(ours_each(trials, reuse), Cost())


def ours_each(trials: Iterable[Trial], reuse: bool) -> Iterator[Cost]:
    """What each trial takes after those before it."""
    store = _Store()
    for trial in trials:
        yield _ours(trial, store if reuse else _Store())


def peers(trials: Iterable[Trial]) -> Cost:
    """What the peer takes for these trials, given the epochs that each stage used."""
    return sum(peers_each(trials), Cost())


def peers_each(trials: Iterable[Trial]) -> Iterator[Cost]:
    """What the peer takes for each trial."""
    for trial in trials:
        config, mixed = trial.config, trial.used["mixture"]
        subgates = mixed * _epoch("mixture", config) + config.scored_examples
        vggs = sum(trial.used[name] * _epoch(name, config) for name in FROZEN)
        vggs += mixed * len(FROZEN) * (config.train_examples + config.test_examples)  # in every batch of the mixture
        vggs += (1 + len(FROZEN)) * config.scored_examples  # the baseline by itself, then in the mixture
        yield Cost(vggs + subgates, subgates, sum(trial.used.values()))


#: how trials can be run, and what each of them takes then
WAYS: dict[str, Callable[[list[Trial]], Iterable[Cost]]] = {
    "ours": lambda trials: ours_each(trials, reuse=True),
    "no reuse": lambda trials: ours_each(trials, reuse=False),
    "peer": peers_each,
}
Sums = dict[str, Cost]  # by way

COLUMNS: dict[str, Callable[[Sums], float]] = {
    **{way: lambda sums, way=way: sums[way].passes / 1e6 for way in WAYS},  # type: ignore[misc]
    "peer / ours": lambda sums: _over(sums["peer"].passes, sums["ours"].passes),
    "VGGs alone": lambda sums: _over(_vggs(sums["peer"]), _vggs(sums["ours"])),
    "no reuse / ours": lambda sums: _over(sums["no reuse"].passes, sums["ours"].passes),
}


def table(studies: list[list[Trial]]) -> str:
    """Image passes in millions: of each study's first trials, of all, and of the last ones."""
    trials, edge = len(studies[0]), max(1, len(studies[0]) // 10)
    costs = [{way: list(count(trials)) for way, count in WAYS.items()} for trials in studies]
    parts = {f"{mark} trials": slice(mark) for mark in (trials // 4, trials // 2, trials) if mark}
    parts |= {f"the first {edge}": slice(edge), f"the last {edge}": slice(-edge, None)}
    lines = [f"{'million passes':<16}" + "".join(f"{name:>20}" for name in COLUMNS)]
    sums = {}
    for label, part in parts.items():
        sums[label] = [{way: sum(each[way][part], Cost()) for way in WAYS} for each in costs]
        lines.append(_line(label, [[value(ways) for ways in sums[label]] for value in COLUMNS.values()]))
    first, last = list(sums.values())[-2:]
    growth = [
        [_over(late[way].passes, early[way].passes) for early, late in zip(first, last, strict=True)] for way in WAYS
    ]
    return "\n".join([*lines, _line("last / first", growth)])


@dataclass
class _Store:
    """What a store has of the trials so far."""

    epochs: dict[str, int] = field(default_factory=dict)  # trained, by address
    predicted: set[tuple[Checkpoint, str]] = field(default_factory=set)

    def train(self, spec: Spec, used: int) -> int:
        """Bring a chain to so many epochs; how many that takes."""
        before = self.epochs.get(spec.address, 0)
        self.epochs[spec.address] = max(before, used)
        return self.epochs[spec.address] - before

    def predict(self, checkpoint: Checkpoint, images: str, passes: int) -> int:
        """Predict a set of images; the passes that takes."""
        if (checkpoint, images) in self.predicted:
            return 0
        self.predicted.add((checkpoint, images))
        return passes


def _ours(trial: Trial, store: _Store) -> Cost:
    config = trial.config
    learn, scored = config.train_examples, config.scored_examples
    once = config.protocol == HOLDOUT  # the frozen networks predict once, not in each epoch
    requests = plan(config, "any", replace(ANY, precision=config.precision))
    vggs, trained, checkpoints = 0, 0, {}
    for name in FROZEN:
        spec = requests[name].spec
        epochs = store.train(spec, trial.used[name])
        vggs, trained = vggs + epochs * _epoch(name, config), trained + epochs
        checkpoints[name] = Checkpoint(name, spec.address, trial.read[name])
    spec = resolved(requests["mixture"], checkpoints).spec
    mixed = store.train(spec, trial.used["mixture"])
    for checkpoint in checkpoints.values():
        vggs += store.predict(checkpoint, "score", scored)
        if not once:
            vggs += mixed * learn
        elif mixed:
            vggs += store.predict(checkpoint, "train", learn)
    subgate = Checkpoint("mixture", spec.address, trial.read["mixture"])
    subgates = mixed * _epoch("mixture", config)
    subgates += store.predict(subgate, "score", scored)
    return Cost(vggs + subgates, subgates, trained + mixed)


def _epoch(stage: str, config: Config) -> int:
    """The passes of a stage's own network in an epoch: forward and backward to learn, forward to stop."""
    return 2 * _images(stage, config.train_examples) + _images(stage, config.test_examples)


@lru_cache
def _images(stage: str, images: int) -> int:
    """How many of some images a stage sees."""
    if images % CLASSES:
        raise ValueError(f"a config asks for {images} images; expected a multiple of {CLASSES}, an equal share a class")
    return int(STAGES[stage].view(torch.arange(images) % CLASSES)[0].sum())


def _line(label: str, columns: list[list[float]]) -> str:
    return f"{label:<16}" + "".join(f"{spread(values):>20}" for values in columns)


def _vggs(cost: Cost) -> int:
    return cost.passes - cost.subgates


def _over(value: float, other: float) -> float:
    return value / other if other else math.inf
