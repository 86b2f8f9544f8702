"""What a study will cost, from a short calibration on the device at hand."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch.nn import functional

from moe.config import ARTIFICIAL, CLASSES, NATURAL, NOTEBOOK, Config
from moe.networks import BLOCKS, IMAGE, Layers, subgate, vgg
from study.options import Resources
from study.space import Space
from study.trial import devices

CALIBRATION_STEPS = 5
SAMPLED_POINTS = 1000


@dataclass(frozen=True)
class Speed:
    """Seconds per image for each network: "small", "large" and "subgate"."""

    training: dict[str, float]
    evaluation: dict[str, float]


def calibrate(resources: Resources, batch_size: int) -> Speed:
    """Time a few training and evaluation steps of each network on what a trial is allotted."""
    torch.set_num_threads(resources.cpus_per_trial)
    device = devices(resources.gpus_per_trial)[0]
    networks = {size: vgg(size, CLASSES) for size in BLOCKS} | {"subgate": subgate()}
    training, evaluation = {}, {}
    for name, network in networks.items():
        network.to(memory_format=torch.channels_last).to(device)
        images = torch.rand(batch_size, *IMAGE, device=device).contiguous(memory_format=torch.channels_last)
        training[name] = _seconds(_step(network, images), device) / batch_size
        evaluation[name] = _seconds(lambda n=network, i=images: n(i), device) / batch_size  # type: ignore[misc]
    return Speed(training, evaluation)


def _step(network: Layers, images: torch.Tensor) -> Callable[[], Any]:
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    noise = torch.Generator(images.device)
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)

    def step() -> None:
        loss = functional.cross_entropy(network(images, noise), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """The shortest of a few runs, after one to warm up: a busy machine only ever adds time."""
    times = []
    for _ in range(CALIBRATION_STEPS + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def price(config: Config, speed: Speed, score_examples: int) -> float:
    """Seconds that a config takes at most: every stage for all its epochs, then the scoring."""
    sizes = {
        "baseline": (config.use_large_baseline_classifier, 1.0),
        "gate": (config.use_large_gating_mlp, 1.0),
        "artificial": (config.use_large_experts, len(ARTIFICIAL) / CLASSES),
        "natural": (config.use_large_experts, len(NATURAL) / CLASSES),
    }
    seconds = 0.0
    for large, share in sizes.values():
        size = "large" if large else "small"
        training = config.train_examples * speed.training[size]
        seconds += config.epochs * share * (training + config.test_examples * speed.evaluation[size])
        readings = config.epochs if config.protocol == NOTEBOOK else 1  # of the frozen networks by the mixture
        seconds += (readings * config.train_examples + score_examples) * speed.evaluation[size]
    subgates = config.train_examples * speed.training["subgate"] + config.test_examples * speed.evaluation["subgate"]
    return seconds + 2 * config.epochs * subgates


def study_seconds(
    space: Space, protocol: str, trials: int, concurrency: int, speed: Speed, seed: int
) -> tuple[float, float, float]:
    """Seconds for a whole study, and for its cheapest and its dearest trial, if points were drawn evenly."""
    draw = random.Random(seed)
    places = range(space.size) if space.size <= SAMPLED_POINTS else draw.choices(range(space.size), k=SAMPLED_POINTS)
    prices = [
        price(Config(protocol=protocol, **space.values(space.at(place))), speed, space.score_examples())
        for place in places
    ]
    return trials * fmean(prices) / concurrency, min(prices), max(prices)
