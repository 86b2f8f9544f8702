"""What a worker of `chaos` trains and reads, what is right, and the log of what it saw."""

import dataclasses
import faulthandler
import json
import os
import random
import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import moe.scheduler
from moe.config import CLASSES, FLOAT32, Config
from moe.networks import Dropout, Layers, log_probs
from moe.scheduler import Scheduler, StageTask, TrainedStage
from moe.stages import STAGES, Request, Spec, plan
from moe.store.entries import folder_of
from moe.store.locks import Timing
from moe.store.manifest import digest, epochs_of
from moe.store.store import Store
from moe.store.tensors import State, pack
from moe.store.tolerant import TolerantFiles
from moe.training.loop import Chain, Epoch, Examples, best_epoch, to_floats, train
from moe.training.numerics import configure_numerics

CPU = torch.device("cpu")
NAMES = ("baseline", "gate", "artificial", "natural")
TIMING = Timing(beat_s=0.2, ttl_s=1.5, poll_s=0.05, rest_s=1.0)
Event = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """What all processes know."""

    folder: str
    seconds: float = 120
    processes: int = 4
    commit_every_s: float = 0
    seed: int = 0
    seeds: int = 2  # of the stages: two chains for each of the four, so that workers meet
    epochs: int = 20
    images: int = 500

    @property
    def store(self) -> Path:
        return Path(self.folder) / "store"

    @property
    def stop(self) -> Path:
        """A file that ends the workers."""
        return Path(self.folder) / "stop"


def small(_: str, precision: str = FLOAT32) -> nn.Module:
    """A network with a layer of each kind and files of a few kilobytes."""
    pooled = 8 * 8 * 8
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), Dropout(0.25), nn.Flatten()]
    return Layers(*layers, nn.Linear(pooled, CLASSES), precision=precision)


def prepare() -> None:
    """Make this process train small networks, with one thread."""
    torch.set_num_threads(1)
    for name in NAMES:
        STAGES[name] = dataclasses.replace(STAGES[name], network=small)


def specs(scene: Scene) -> list[Spec]:
    """The chains: some end early."""
    configs = [
        Config(seed=seed, batch_size=25, learning_rate=0.003, patience=2 if seed % 2 else 99)
        for seed in range(scene.seeds)
    ]
    numerics = configure_numerics(CPU)
    return [plan(config, "made up", numerics)[name].spec for config in configs for name in NAMES]


@cache
def images_for(stage: str, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Noise, of which the mean brightness tells the class."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    images = torch.rand(count, 3, 32, 32, generator=draw) * 160 + labels[:, None, None, None] * 9
    rows, seen = STAGES[stage].view(labels)
    return images.byte().contiguous(memory_format=torch.channels_last)[rows], seen[rows]


def examples_of(spec: Spec, scene: Scene) -> tuple[Examples, Examples]:
    """What a stage learns from and what stops it."""
    images, labels = images_for(spec.stage, spec.seed, scene.images)
    stop = len(labels) // 10
    return Examples(images[stop:], labels[stop:]), Examples(images[:stop], labels[:stop])


def predict(network: nn.Module, spec: Spec, scene: Scene) -> State:
    """A network's predictions for the images that stop it."""
    with torch.no_grad():
        return {"log_probs": log_probs(network(to_floats(examples_of(spec, scene)[1].images)))}


def hashed(state: State) -> str:
    return digest(pack(state))


def metrics(epoch: Epoch) -> list[float]:
    return [epoch.loss, epoch.accuracy, epoch.validation_loss, epoch.validation_accuracy]


@dataclass(frozen=True)
class Truth:
    """The right results of a chain, epoch by epoch."""

    metrics: list[list[float]]
    weights: dict[int, str]  # hashes, by epoch, of those that were the best so far
    predictions: dict[int, str]

    @classmethod
    def of(cls, spec: Spec, scene: Scene) -> "Truth":
        """Train it, without a store."""
        chain = Chain(spec)
        for _ in train(Request(spec, scene.epochs), chain, *examples_of(spec, scene), CPU):
            pass
        weights, predictions = {}, {}
        for epoch, state in chain.weights.items():
            network = small("")
            network.load_state_dict(state)
            weights[epoch], predictions[epoch] = hashed(state), hashed(predict(network, spec, scene))
        return cls([metrics(epoch) for epoch in chain.epochs], weights, predictions)

    def best(self, epochs: int) -> int:
        """The epoch that a request for so many resolves to."""
        return best_epoch([validation for _, _, validation, _ in self.metrics[:epochs]])


class Log:
    """What one process saw, a line for each event, written at once."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def __call__(self, kind: str, **event: Any) -> None:
        line = json.dumps({"kind": kind, "at": time.monotonic(), **event}) + "\n"
        os.write(self._file, line.encode())


def work(scene: Scene, truths: dict[str, Truth], name: str) -> None:
    """A worker: train stages until the file `stop` exists, and check what the store returns."""
    prepare()
    faulthandler.register(signal.SIGUSR1)
    log, draw = Log(Path(scene.folder) / f"{name}.jsonl"), random.Random(f"{scene.seed}/{name}")
    _log_training(log)
    timing = dataclasses.replace(TIMING, commit_every_s=scene.commit_every_s)
    chains = specs(scene)
    try:
        with Store(str(scene.store), warn=lambda sentence: log("warned", sentence=sentence), timing=timing) as store:
            while not scene.stop.exists():
                spec, epochs = draw.choice(chains), draw.randint(1, scene.epochs)
                task = StageTask(Request(spec, epochs), lambda _, spec=spec: examples_of(spec, scene))  # type: ignore[misc]
                _check(Scheduler(store).run(task, CPU), truths[spec.address], scene, log)
    except BaseException:
        log("raised", traceback=traceback.format_exc())
        raise


def _log_training(log: Log) -> None:
    """Log each epoch that is trained and each manifest that is written."""
    original = TolerantFiles.create

    def logged(request: Request, chain: Chain, *rest: Any) -> Iterator[Epoch]:
        training, folder = train(request, chain, *rest), folder_of(request.spec)
        while not chain.finished(request.epochs):
            log("begun", folder=folder, epoch=len(chain.epochs) + 1)
            epoch = next(training)
            log("trained", folder=folder, epoch=len(chain.epochs))
            yield epoch

    def create(self: TolerantFiles, path: str, content: bytes) -> bool | None:
        written = original(self, path, content)
        folder, _, name = path.rpartition("/")
        if written and (epochs := epochs_of(name)):
            log("committed", folder=folder, epochs=epochs)
        return written

    moe.scheduler.train = logged
    TolerantFiles.create = create  # type: ignore[method-assign]


def _check(stage: TrainedStage, truth: Truth, scene: Scene, log: Log) -> None:
    """Compare all that a stage returns with the right results."""
    request, store = stage.task.request, stage.scheduler.store
    spec = request.spec
    used = stage.chain.used(request.epochs)
    best = truth.best(used)

    def judged(what: str, right: bool) -> None:
        log("read", what=what, folder=folder_of(spec), epochs=used, right=right)

    judged("metrics", [metrics(epoch) for epoch in stage.chain.epochs[:used]] == truth.metrics[:used])
    judged("checkpoint", stage.checkpoint.epoch == best)
    store.chain(spec)
    if (weights := store.load_weights(stage.checkpoint)) is not None:
        judged("stored weights", hashed(weights) == truth.weights[best])
    if (stored := store.load_predictions(stage.checkpoint, "stop")) is not None:
        judged("stored predictions", hashed(stored) == truth.predictions[best])
    judged(
        "predictions",
        hashed(stage.predictions("stop", lambda network: predict(network, spec, scene))) == truth.predictions[best],
    )
    judged("weights", hashed(stage.network.state_dict()) == truth.weights[best])
