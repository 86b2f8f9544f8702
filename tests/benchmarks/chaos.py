"""Processes that train over one store while they are killed and paused and its files are damaged.

    python -m tests.benchmarks.chaos [--seconds 120] [--processes 4] [--commit-every 0] [--seed 0]

Each worker brings one stage after the other, drawn at random, to some number of epochs: real training of a small
network on a few made-up images. The right result of every epoch was computed before, without a store. Meanwhile, once
in 20 epochs at most, a worker is killed (SIGKILL) or stopped for longer than its leases live (SIGSTOP, SIGCONT). In
between a byte of some file is flipped, half a file cut off or a file deleted, whichever it is. Where most of what there
is to train is stored, chains are evicted, by deleting their manifests.

    reads      a stage's metrics, its weights, or its predictions for the images, as a worker got them from the
               store or by training on from there; wrong, if one bit is not what it has to be
    trained    epochs trained to their end, by anyone
    cut short  epochs that a kill ended before that: they are no part of the ratio
    needed     each epoch once, and once more for each time that it was trained again after a committed chain that
               held it was damaged or evicted, unless it was committed anew in between. All others were not needed:
               trained again because a kill came before their commit, because two trained them at once, or because
               the store lost them by itself.

While an epoch is trained, the one before it is being committed; so in flight at a kill are two, of which one is cut
short and at most the other one trained again, as long as a commit takes less time than an epoch. A pause costs the
same: the epoch in flight is trained by another meanwhile, and finished in vain. Exit code 1: something was read
wrongly, a worker failed, or, with --commit-every 0, more than 1.05 epochs were trained for each that was needed.
"""

import argparse
import dataclasses
import faulthandler
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
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
from moe.store.manifest import DamagedError, OtherFormatError, digest, epochs_of, unseal
from moe.store.store import Store
from moe.store.tensors import State, pack
from moe.store.tolerant import TolerantFiles
from moe.training.loop import Chain, Epoch, Examples, best_epoch, to_floats, train
from moe.training.numerics import configure_numerics

CPU = torch.device("cpu")
NAMES = ("baseline", "gate", "artificial", "natural")
MOST_WASTE = 1.1  # 1.02 on a quiet machine; leases run out on a busy one
TIMING = Timing(beat_s=0.2, ttl_s=1.5, poll_s=0.05, rest_s=1.0)
SHORT_S = (0.1, 0.5)  # between two accidents
EPOCHS_BETWEEN = 20  # two kills or pauses, at least

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


class Accidents:
    """Kills and pauses workers, and damages the store."""

    def __init__(self, scene: Scene, truths: dict[str, Truth]) -> None:
        self.scene, self.truths = scene, truths
        self.draw = random.Random(scene.seed)
        self.log = Log(Path(scene.folder) / "driver.jsonl")
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["moe.scheduler"])
        self.workers = [self.start() for _ in range(scene.processes)]
        self.paused: dict[Any, float] = {}  # until when

    started = 0

    def start(self) -> Any:
        """Another worker."""
        self.started += 1
        arguments = (self.scene, self.truths, f"worker-{self.started:04d}")
        worker = self.context.Process(target=work, args=arguments, daemon=True)
        worker.start()
        return worker

    def run(self) -> None:
        """Cause accidents until the time is up, then let the workers end."""
        end = time.monotonic() + self.scene.seconds
        quiet_until = EPOCHS_BETWEEN
        while time.monotonic() < end:
            time.sleep(self.draw.uniform(*SHORT_S))
            self.replace_failed()
            if self.trained() >= quiet_until:
                self.draw.choices((self.kill, self.pause), (4, 1))[0]()
                quiet_until = self.trained() + EPOCHS_BETWEEN
            if self.draw.random() < 1 / 3:
                self.damage()
            self.evict()
            self.wake()
        self.scene.stop.touch()
        self.wake(everyone=True)
        for worker in self.workers:
            worker.join(60)
            if worker.exitcode is None:  # it does not end: where does it stand?
                os.kill(worker.pid, signal.SIGUSR1)
                time.sleep(1)
                worker.kill()
            if worker.exitcode != 0:
                self.log("failed", exit=worker.exitcode)

    def trained(self) -> int:
        """How many epochs were trained until now."""
        return sum(path.read_bytes().count(b'"kind": "trained"') for path in Path(self.scene.folder).glob("worker-*"))

    def replace_failed(self) -> None:
        for index, worker in enumerate(self.workers):
            if worker.exitcode is not None:
                self.log("failed", exit=worker.exitcode)
                self.paused.pop(worker, None)
                self.workers[index] = self.start()

    def kill(self) -> None:
        index = self.draw.randrange(len(self.workers))
        worker = self.workers[index]
        worker.kill()
        worker.join()
        self.paused.pop(worker, None)
        self.log("killed")
        self.workers[index] = self.start()

    def pause(self) -> None:
        worker = self.draw.choice(self.workers)
        if worker.is_alive() and worker not in self.paused and len(self.paused) < len(self.workers) // 2:
            os.kill(worker.pid, signal.SIGSTOP)
            self.paused[worker] = time.monotonic() + TIMING.ttl_s * self.draw.uniform(1.2, 2)
            self.log("paused")

    def wake(self, everyone: bool = False) -> None:
        for worker, until in list(self.paused.items()):
            if everyone or time.monotonic() > until:
                os.kill(worker.pid, signal.SIGCONT)
                del self.paused[worker]

    def damage(self) -> None:
        """Flip a byte of some file, cut half of it off, or delete it."""
        files = [path for path in self.scene.store.rglob("*") if path.is_file() and "aside" not in path.parts]
        if not files:
            return
        path = self.draw.choice(files)
        name, began = str(path.relative_to(self.scene.store)), time.monotonic()
        try:
            lost = committed(path) if epochs_of(path.name) else 0
            self.harm(path)
        except FileNotFoundError:  # it went by itself
            return
        self.log("damaged", path=name, at=began)
        if lost:
            self.log("lost", folder=name.rpartition("/")[0], epochs=lost, at=began)

    def harm(self, path: Path) -> None:
        size = path.stat().st_size
        how = self.draw.choice(("flip", "cut", "delete")) if size else "delete"
        if how == "delete":
            path.unlink()
            return
        with path.open("r+b") as file:
            if how == "cut":
                file.truncate(size // 2)
                return
            at = self.draw.randrange(size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << self.draw.randrange(8)]))

    def evict(self) -> None:
        """Take chains away where most of what there is to train is stored."""
        manifests = sorted(self.scene.store.glob("*/*/chain-*.json"))
        stored = sum(epochs_of(path.name) or 0 for path in manifests)
        while stored > 0.5 * sum(len(truth.metrics) for truth in self.truths.values()):
            path = manifests.pop(self.draw.randrange(len(manifests)))
            stored -= epochs_of(path.name) or 0
            began, epochs = time.monotonic(), committed(path)
            try:
                path.unlink()
            except FileNotFoundError:  # a longer one took its place
                continue
            self.log("lost", folder=str(path.parent.relative_to(self.scene.store)), epochs=epochs, at=began)
            self.log("evicted")


def committed(path: Path) -> int:
    """How many epochs a manifest tells of; 0 where it is damaged or gone."""
    try:
        return len(unseal(path.read_bytes()).epochs)
    except (DamagedError, OtherFormatError, FileNotFoundError):
        return 0


@dataclass
class Tally:
    """What came of it."""

    kills: int = 0
    pauses: int = 0
    damaged: int = 0
    evicted: int = 0
    failed: int = 0  # workers that ended by themselves, wrongly
    reads: int = 0
    wrong: int = 0
    set_aside: int = 0
    unreadable: int = 0  # warnings that the store cannot be read or written
    begun: int = 0
    trained: int = 0
    needed: int = 0

    @property
    def ratio(self) -> float:
        return self.trained / max(self.needed, 1)

    def table(self) -> str:
        """One line for each figure."""
        rows = {
            "workers killed": self.kills,
            "workers paused beyond their lease": self.pauses,
            "workers that failed by themselves": self.failed,
            "files damaged or deleted": self.damaged,
            "chains evicted": self.evicted,
            "reads": self.reads,
            "wrong reads": self.wrong,
            "set aside": self.set_aside,
            "warnings that the store fails": self.unreadable,
            "epochs trained": self.trained,
            "epochs needed": self.needed,
            "trained / needed": f"{self.ratio:.4f}",
            "cut short": self.begun - self.trained,
            "not needed, a kill or pause": f"{(self.trained - self.needed) / max(self.kills + self.pauses, 1):.2f}",
        }
        return "\n".join(f"{name:<36}{value:>10}" for name, value in rows.items())


SET_ASIDE = re.compile(r"(?P<folder>\S+/\S+)/(?P<name>[^/ ]+) in the store [^:]*: (?P<why>.*); it is made again")


def tally(events: list[Event]) -> Tally:
    """Count, and decide which epochs were needed."""
    count = Tally()
    damaged: set[str] = set()  # paths
    trained: set[tuple[str, int]] = set()  # folder, epoch
    lost: dict[str, set[int]] = {}  # committed epochs by folder, until they are trained or committed again
    for event in sorted(events, key=lambda event: event["at"]):
        match event:
            case {"kind": "killed"}:
                count.kills += 1
            case {"kind": "paused"}:
                count.pauses += 1
            case {"kind": "evicted"}:
                count.evicted += 1
            case {"kind": "failed"}:
                count.failed += 1
            case {"kind": "damaged", "path": path}:
                count.damaged += 1
                damaged.add(path)
            case {"kind": "lost", "folder": folder, "epochs": epochs}:
                lost.setdefault(folder, set()).update(range(1, epochs + 1))
            case {"kind": "warned", "sentence": sentence} if found := SET_ASIDE.match(sentence):
                count.set_aside += 1
                epochs = epochs_of(found["name"])
                if epochs and f"{found['folder']}/{found['why'].split()[0]}" in damaged:
                    lost.setdefault(found["folder"], set()).update(range(1, epochs + 1))
            case {"kind": "warned"}:
                count.unreadable += 1
            case {"kind": "committed", "folder": folder, "epochs": epochs}:
                lost.get(folder, set()).difference_update(range(1, epochs + 1))
            case {"kind": "begun"}:
                count.begun += 1
            case {"kind": "trained", "folder": folder, "epoch": epoch}:
                count.trained += 1
                again = (folder, epoch) in trained
                count.needed += not again or epoch in lost.get(folder, ())
                trained.add((folder, epoch))
                lost.get(folder, set()).discard(epoch)
            case {"kind": "read", "right": right}:
                count.reads += 1
                count.wrong += not right
    return count


def events_in(folder: Path) -> list[Event]:
    """All that was logged; a kill may have cut a line short."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def chaos(scene: Scene, emit: Callable[[str], object] = print) -> Tally:
    """Run a scene in its folder, and count."""
    prepare()
    emit(f"computing the right results of {4 * scene.seeds} chains")
    truths = {spec.address: Truth.of(spec, scene) for spec in specs(scene)}
    epochs = sum(len(truth.metrics) for truth in truths.values())
    emit(
        f"{epochs} epochs, {scene.processes} processes, {scene.seconds:g} s, a commit every {scene.commit_every_s:g} s"
    )
    Accidents(scene, truths).run()
    return tally(events_in(Path(scene.folder)))


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--commit-every", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="leave the store and the logs where they are")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="chaos-")
    try:
        count = chaos(Scene(folder, options.seconds, options.processes, options.commit_every, options.seed))
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(count.table(), *([folder] if options.keep else []), sep="\n")
    wasteful = options.commit_every == 0 and count.ratio > MOST_WASTE
    return 1 if count.wrong or count.failed or wasteful else 0


if __name__ == "__main__":
    sys.exit(main())
