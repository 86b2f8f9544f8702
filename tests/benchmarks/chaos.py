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
wrongly, a worker failed, or, with --commit-every 0, more than 1.1 epochs were trained for each that was needed.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moe.store.manifest import DamagedError, OtherFormatError, epochs_of, unseal
from tests.benchmarks.chaos_scene import (
    TIMING,
    Log,
    Scene,
    Truth,
    prepare,
    specs,
    work,
)
from tests.benchmarks.chaos_tally import Tally, events_in, tally

MOST_WASTE = 1.1  # 1.02 on a quiet machine; leases run out on a busy one
SHORT_S = (0.1, 0.5)  # between two accidents
EPOCHS_BETWEEN = 20  # two kills or pauses, at least


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
