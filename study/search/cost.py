"""The time a study will take, with and without the stage store, from a short calibration on this machine."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from moe.config import ARTIFICIAL, CLASSES, HOLDOUT, NATURAL, NOTEBOOK, Config, Precision
from moe.console import duration
from moe.networks import IMAGE, FrozenOutputs
from moe.stages import PIPELINE, STAGES, plan
from moe.training.adam import Adam
from moe.training.cuda_graph import own_stream, synchronize
from moe.training.loop import Examples, Trainer, evaluate, initial_network
from moe.training.numerics import Numerics, configure_numerics, one_thread
from study.search.resources import Resources
from study.search.worker import devices
from study.study import Study

CALIBRATION_STEPS = 5
SHARES = {"artificial": len(ARTIFICIAL) / CLASSES, "natural": len(NATURAL) / CLASSES}  # of the images; others see all
SUBGATES = "subgates"  # the mixture's network, beside "small" and "large"
_ANY = Numerics(device="any", torch="any", instructions="any")


class Speed(NamedTuple):
    """Seconds per image for each network: "small", "large" and "subgates"."""

    training: dict[str, float]
    evaluation: dict[str, float]


class Price(NamedTuple):
    """The seconds of a stage."""

    epoch: float
    prediction: float  # once for the images that later stages and scores need


class Tally(NamedTuple):
    """The work of some trials."""

    stages: int = 0
    epochs: int = 0
    cost: float = 0.0  # seconds


class Forecast(NamedTuple):
    """The most that a study can take."""

    apart: Tally  # if every trial trains everything
    shared: Tally  # if no stage is trained twice
    cheapest: float  # seconds of a trial
    dearest: float


class Costs(NamedTuple):
    """What a study still costs on this machine."""

    trials: int  # missing
    missing: Forecast
    whole: Forecast  # of every point of the space
    points: int
    refining: int  # trials that it adds at most
    at_once: int  # trials

    def seconds(self, tally: Tally) -> float:
        """What that work takes."""
        return tally.cost / self.at_once

    def __str__(self) -> str:
        cost = self.missing
        apart, shared, every = (duration(self.seconds(tally)) for tally in (cost.apart, cost.shared, self.whole.shared))
        return (
            f"  {self.trials} trials to run, {duration(cost.cheapest)} to {duration(cost.dearest)} each without reuse. "
            f"They need {cost.apart.stages} stages, {cost.apart.epochs} epochs in all; {cost.shared.stages} stages, "
            f"{cost.shared.epochs} epochs, are distinct.\n"
            f"  By a short calibration on this machine: about {apart} if each trial trains everything, about {shared} "
            f"with the stage store; {every} for all {self.points} points (--trials all). These are for points "
            "drawn evenly and no stage stopping early; a sampler that returns to good points reuses more, and so does "
            "a store with stages of other studies.\n"
            f"  Refining adds up to {self.refining} trials on fresh seeds."
        )

    def as_json(self) -> dict[str, Any]:
        """The same for other programs."""
        tallies = {
            "without_store": self.missing.apart,
            "with_store": self.missing.shared,
            "whole_space_with_store": self.whole.shared,
        }
        return {
            "trials": self.trials,
            "refining_trials": self.refining,
            "trial_seconds": [self.missing.cheapest, self.missing.dearest],
        } | {
            name: {"stages": tally.stages, "epochs": tally.epochs, "seconds": self.seconds(tally)}
            for name, tally in tallies.items()
        }


class Sample(NamedTuple):
    """A network with a trainer for one batch of random images."""

    size: str  # "small", "large" or "subgates"
    stage: str
    network: nn.Module
    examples: Examples
    trainer: Trainer


def samples(device: torch.device, batch_size: int, precision: Precision) -> Iterator[Sample]:
    """Each kind of network, with a batch of random images to train and evaluate it on."""
    most = max(batch_size, CLASSES)
    config = Config(protocol=NOTEBOOK, precision=precision, batch_size=batch_size, train_examples=most)
    requests = plan(config, "", configure_numerics(device, precision))
    images = torch.randint(256, (batch_size, *IMAGE), dtype=torch.uint8, device=device)
    labels = torch.arange(batch_size, device=device) % CLASSES
    frozen = FrozenOutputs(labels > CLASSES // 2, torch.zeros(batch_size, CLASSES, 2, device=device))
    for size, stage in {"small": "baseline", "large": "baseline", SUBGATES: "mixture"}.items():
        spec = requests[stage].spec.replace(network=size)
        network = initial_network(spec).to(device)
        examples = Examples(images, labels, frozen if stage == "mixture" else None)
        # it does not learn: once it knew its batch, gradients were denormal numbers, which take several times longer
        trainer = Trainer(network, Adam(network, 0.0), examples, spec)
        yield Sample(size, stage, network, examples, trainer)


def calibrate(resources: Resources, batch_size: int, precision: Precision) -> Speed:
    """Time a batch of random images, trained on and evaluated, for each network on what a trial is allotted."""
    device = devices(resources)[0]
    speed = Speed({}, {})
    with one_thread(), own_stream(device):
        for size, stage, network, examples, trainer in samples(device, batch_size, precision):
            speed.training[size] = _seconds(partial(trainer.epoch, 1), device) / batch_size
            speed.evaluation[size] = _seconds(partial(evaluate, network, examples, stage), device) / batch_size
    return speed


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """The shortest of a few runs, after one to warm up: a busy machine, or recording a step, only ever adds time."""
    times = []
    for _ in range(CALIBRATION_STEPS + 1):
        began = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def price(config: Config, speed: Speed) -> dict[str, Price]:
    """The price of each stage of a config."""
    prices, frozen = {}, 0.0
    for name in PIPELINE:
        size = SUBGATES if name == "mixture" else STAGES[name].size(config)
        evaluation, predicted = speed.evaluation[size], config.scored_examples
        epoch = SHARES.get(name, 1) * (config.train_examples * speed.training[size] + config.test_examples * evaluation)
        if name != "mixture":
            frozen += evaluation * config.train_examples
            predicted += config.train_examples if config.protocol == HOLDOUT else 0
        elif config.protocol == NOTEBOOK:
            epoch += frozen  # frozen networks predict in each epoch
        prices[name] = Price(epoch=epoch, prediction=predicted * evaluation)
    return prices


def forecast(study: Study, trials: int, recorded: Sequence[Config], speed: Speed) -> Forecast:
    """The cost of further trials if points are drawn evenly, each on every seed before any is drawn again.

    It is an upper bound: no stage stops early, and mixtures count as one only if their stages' epochs agree too.

    Args:
        recorded: the configs of the trials that the study has, whose stages are assumed to be in the store.
    """
    drawn = list(_drawn(study, trials))
    apart = [_tally(study, [config], speed, {}) for config in drawn]
    costs = [tally.cost for tally in apart] or [0.0]
    stored: dict[str, set[int]] = {}
    _tally(study, recorded, speed, stored)
    shared = _tally(study, drawn, speed, stored)
    return Forecast(Tally(*map(sum, zip(*apart, strict=True))), shared, min(costs), max(costs))


def _drawn(study: Study, trials: int) -> Iterator[Config]:
    space = study.space
    points = -(-trials // study.seeds)
    order = random.Random(study.seed).sample(range(space.size), min(points, space.size))
    for number in range(trials):
        replicate, place = divmod(number, len(order))
        yield study.config(space.at(order[place]), replicate)


def _tally(study: Study, configs: Sequence[Config], speed: Speed, stored: dict[str, set[int]]) -> Tally:
    """The work of configs one after the other, each reusing what was trained before it.

    Args:
        stored: by a stage's address, the epochs that were requested of it; grows.
    """
    stages, epochs, cost = Tally()
    for config in configs:
        prices = price(config, speed)
        numerics = replace(_ANY, precision=config.precision)
        for name, request in plan(config, study.data, numerics).items():
            requested = stored.setdefault(request.spec.address, set())
            if fresh := max(0, request.epochs - max(requested, default=0)):
                stages += not requested
                epochs += fresh
                cost += fresh * prices[name].epoch
            if request.epochs not in requested:  # its best epoch may be another, whose predictions are missing
                cost += prices[name].prediction
            requested.add(request.epochs)
    return Tally(stages, epochs, cost)
