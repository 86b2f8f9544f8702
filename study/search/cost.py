"""The time a study will take, with and without the stage store, from a short calibration on this machine."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from moe.config import ARTIFICIAL, CLASSES, HOLDOUT, NATURAL, NOTEBOOK, Config
from moe.networks import BLOCKS, IMAGE, Layers, subgate, vgg
from moe.stages import STAGES, plan
from moe.training.cuda_graph import captured, own_stream, synchronize
from moe.training.loop import adam
from moe.training.numerics import Numerics, configure_numerics
from study.search.resources import Resources
from study.search.worker import devices
from study.study import Study

CALIBRATION_STEPS = 5
SHARES = {  # of the images, that a frozen network is trained on
    "baseline": 1.0,
    "gate": 1.0,
    "artificial": len(ARTIFICIAL) / CLASSES,
    "natural": len(NATURAL) / CLASSES,
}
_ANY = Numerics(device="any", torch="any", instructions="any")


@dataclass(frozen=True)
class Speed:
    """Seconds per image for each network: "small", "large" and "subgate"."""

    training: dict[str, float]
    evaluation: dict[str, float]


@dataclass(frozen=True)
class Price:
    """The seconds of a stage."""

    epoch: float
    prediction: float  # once for the images that later stages and scores need


@dataclass(frozen=True)
class Tally:
    """The work of some trials."""

    stages: int = 0
    epochs: int = 0
    cost: float = 0.0  # seconds


@dataclass(frozen=True)
class Forecast:
    """The most that a study can take."""

    apart: Tally  # if every trial trains everything
    shared: Tally  # if no stage is trained twice
    cheapest: float  # seconds of a trial
    dearest: float


def calibrate(resources: Resources, batch_size: int, precision: str) -> Speed:
    """Time a few training and evaluation steps of each network on what a trial is allotted."""
    torch.set_num_threads(resources.cpus_per_trial)
    device = devices(resources.gpus_per_trial)[0]
    configure_numerics(device, precision)
    networks = {size: vgg(size, CLASSES, precision) for size in BLOCKS} | {"subgate": subgate(precision)}
    training, evaluation = {}, {}
    with own_stream(device):
        for name, network in networks.items():
            network.to(memory_format=torch.channels_last).to(device)
            images = torch.rand(batch_size, *IMAGE, device=device).contiguous(memory_format=torch.channels_last)
            training[name] = _seconds(_step(network, images), device) / batch_size
            evaluation[name] = _seconds(partial(network, images), device) / batch_size
    return Speed(training, evaluation)


def _step(network: Layers, images: torch.Tensor) -> Callable[[], Any]:
    optimizer = adam(network, Config().learning_rate)
    noise = torch.Generator(images.device)
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)

    def step(rows: torch.Tensor) -> None:
        loss = functional.cross_entropy(network(images[rows], noise), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return partial(captured(step, noise, images.device), torch.arange(len(images), device=images.device))


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """The shortest of a few runs, after one to warm up: a busy machine, or recording a step, only ever adds time."""
    times = []
    for _ in range(CALIBRATION_STEPS + 1):
        began = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def price(config: Config, speed: Speed, score_examples: int) -> dict[str, Price]:
    """The price of each stage of a config."""
    prices = {}
    for name, share in SHARES.items():
        size = STAGES[name].size(config)
        training = config.train_examples * speed.training[size] + config.test_examples * speed.evaluation[size]
        predicting = (score_examples + (config.protocol == HOLDOUT) * config.train_examples) * speed.evaluation[size]
        prices[name] = Price(epoch=share * training, prediction=predicting)
    subgates = config.train_examples * speed.training["subgate"] + config.test_examples * speed.evaluation["subgate"]
    frozen = sum(speed.evaluation[STAGES[name].size(config)] for name in SHARES) * config.train_examples
    prices["mixture"] = Price(
        epoch=2 * subgates + (config.protocol == NOTEBOOK) * frozen,  # frozen networks predict in each epoch
        prediction=2 * score_examples * speed.evaluation["subgate"],
    )
    return prices


def forecast(study: Study, trials: int, recorded: Sequence[Config], speed: Speed) -> Forecast:
    """The cost of further trials if points are drawn evenly, each once before any is drawn again.

    It is an upper bound: no stage stops early, and mixtures count as one only if their stages' epochs agree too.

    Args:
        recorded: the configs of the trials that the study has, whose stages are assumed to be in the store.
    """
    drawn = list(_drawn(study, trials))
    apart = [_tally(study, [config], speed, {}) for config in drawn]
    stored: dict[str, set[int]] = {}
    _tally(study, recorded, speed, stored)
    return Forecast(
        apart=Tally(*(sum(column) for column in zip(*map(astuple, apart), strict=True))) if apart else Tally(),
        shared=_tally(study, drawn, speed, stored),
        cheapest=min((tally.cost for tally in apart), default=0.0),
        dearest=max((tally.cost for tally in apart), default=0.0),
    )


def _drawn(study: Study, trials: int) -> Iterator[Config]:
    space = study.space
    order = random.Random(study.seed).sample(range(space.size), min(trials, space.size))
    for number in range(trials):
        replicate, place = divmod(number, len(order))
        yield study.config(space.at(order[place]), replicate)


def _tally(study: Study, configs: Sequence[Config], speed: Speed, stored: dict[str, set[int]]) -> Tally:
    """The work of configs one after the other, each reusing what was trained before it.

    Args:
        stored: by a stage's address, the epochs that were requested of it; grows.
    """
    stages = epochs = 0
    cost = 0.0
    for config in configs:
        prices = price(config, speed, study.space.score_examples())
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
