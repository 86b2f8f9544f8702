"""Leases under a seeded scheduler with a virtual clock: a seed is a story of some hours, replayed in milliseconds.

Processes on several machines, each with a clock of its own offset and rate, train one chain. They are paused, also
within an operation and for longer than a lease lives, and killed; beats and leases are found half written. Whoever
holds the lease: what is stored is right, somebody always gets on, and two hold it only where one gave no sign of life.

    STORE_MODEL=20000 pytest -n 0 tests/test_store_leases.py      seeds 0 to 19,999

A failure names its seed. Found: a waiter that was paused after it had read a beat took over from a living holder (seed
30); planted were a holder that never looks for the next generation (seed 0) and a wait of one beat (seed 1).
"""

import dataclasses
import heapq
import json
import math
import os
import random
import uuid
from concurrent.futures import Future
from itertools import pairwise
from types import SimpleNamespace

from moe.stages import Request
from moe.store.locks import Leases, Owner, Timing
from moe.store.store import Store
from moe.store.writer import LeaseLostError
from tests.store_helpers import Ended, Faulty, a_spec, memory, pretend, same, straight

SPEC, EPOCHS = a_spec(), 4
RIGHT = straight(SPEC, EPOCHS)
TIMING = Timing(poll_s=10, stuck_s=300)
SEEDS = int(os.environ.get("STORE_MODEL", "0")) or 60


class Inline(Store):
    """A store that writes at once, in the thread that hands over."""

    def _submit(self, folder, job):
        done = Future()
        done.set_result(job())
        return done


class Shared(Faulty):
    """The place as one process sees it: others go on between any two of its operations, and within those on leases."""

    def __init__(self, world, process):
        super().__init__(world.place)
        self.world, self.process = world, process

    def _do(self, name, path, operation, content=None):
        self.world.interrupt(self.process)
        if name not in ("create", "replace") or "/lease-" not in path:
            return operation()
        halves, self.world.held_until = self.world.chance("torn"), self.world.now
        if name == "replace":
            if halves:
                self.place.replace(path, content[: len(content) // 2])
                self.world.interrupt(self.process)
            operation()
            self.world.held_until = self.world.now
            self.process.signs.append((self.world.now, json.loads(content)["epochs"]))
        elif created := self.place.create(path, b"" if halves else content):
            self.world.created(self.process)
            if halves:  # as on a file system without hard links
                self.world.interrupt(self.process)
                self.place.replace(path, content)
        return None if name == "replace" else created


class Process:
    """A process that brings the chain to its end, and what is known of it."""

    def __init__(self, world, number):
        draw = world.random
        self.world, self.number, self.machine = world, number, draw.choice("AB")
        self.offset, self.rate = draw.uniform(0, 1e6), draw.uniform(0.9, 1.1)
        timing = dataclasses.replace(TIMING, commit_every_s=draw.choice([0, 1e9]))
        self.store = Inline(Shared(world, self), warn=world.warned.append, timing=timing)
        self.writer, self.gone, self.busy = None, False, False
        self.paused_until = self.awake_since = 0.0
        self.signs = []  # (when, epochs): what it wrote to its lease since it has that

    def believes(self):
        return self.writer is not None and not self.writer.lease.over and not self.gone

    def awake(self):
        return not (self.gone or self.busy or self.paused_until > self.world.now)

    def train(self):
        """Train as the scheduler does; yields how long each part takes, in seconds of its own clock."""
        while not self.store.chain(SPEC).finished(EPOCHS):
            if (writer := self.store.open_writer(SPEC)) is None:
                yield TIMING.poll_s
                continue
            self.writer = writer
            self.world.acquired(self)
            for _ in pretend(Request(SPEC, EPOCHS), writer.chain):
                self.world.trained += 1
                yield self.world.epoch_s()
                try:
                    writer.epoch_done()
                except LeaseLostError:
                    break
            writer.__exit__(None)
            self.writer, self.awake_since = None, self.world.now
        self.gone = True

    def beat(self):
        while True:
            yield TIMING.beat_s
            self.store._leases.beat()

    def silence(self):
        """The longest time without a beat, and without a beat that says of another epoch."""
        beats = [when for when, _ in self.signs]
        epochs = [when for (_, before), (when, after) in pairwise(self.signs) if before != after]
        spans = ([*beats, self.world.now], [beats[0], *epochs, self.world.now])
        return [max(after - before for before, after in pairwise(times)) for times in spans]


class World:
    """All processes, and the time. One runs at once; while one is interrupted, the others do."""

    def __init__(self, seed):
        self.random = draw = random.Random(seed)
        self.place, self.warned = memory(), []
        self.now, self.trained, self.depth, self.held_until = 0.0, 0, 0, 0.0
        self.faults = {name: draw.choice([0, 0, often]) for name, often in FAULTS.items()}
        self.current = None
        self.taken = {}  # when each generation was created
        self.queue = []  # when, a number for its order, and whose turn it is then
        self.processes = [Process(self, number) for number in range(draw.randint(2, 4))]
        for process in self.processes:
            for steps in (process.train(), process.beat()):
                self.wake(draw.uniform(0, 30), process, steps)

    def chance(self, fault):
        return self.random.random() < self.faults[fault]

    def epoch_s(self):
        return self.random.uniform(*((250, 700) if self.chance("stuck") else (1, 100)))

    def pause_s(self):
        return self.random.uniform(0, self.random.choice([20, 200]))

    def clock(self):
        return self.current.offset + self.current.rate * self.now

    def wake(self, when, process, steps):
        heapq.heappush(self.queue, (when, self.random.random(), process, steps))

    def run(self, until=math.inf):
        while self.queue and self.queue[0][0] <= until:
            when, _, process, steps = heapq.heappop(self.queue)
            self.now = max(self.now, when)
            if process.busy or process.paused_until > self.now:
                self.wake(max(process.paused_until, self.now + 1), process, steps)
            elif not process.gone:
                self.step(process, steps)
                self.check()
        self.now = max(self.now, min(until, 1e9)) if self.queue else self.now

    def step(self, process, steps):
        before, self.current = self.current, process
        try:
            self.wake(self.now + next(steps) / process.rate, process, steps)
        except (Ended, StopIteration):
            process.gone = True
        self.current = before
        if self.chance("pause"):
            process.paused_until = process.awake_since = self.now + self.pause_s()

    def interrupt(self, process):
        """Let the others go on in the middle of a process's step; it may also end there."""
        if process.gone or (self.chance("kill") and sum(not each.gone for each in self.processes) > 1):
            process.gone = True
            raise Ended
        if self.depth < 3 and self.chance("interrupt"):
            self.depth += 1
            process.busy, current = True, self.current
            self.run(self.now + self.pause_s())
            process.busy, self.current, process.awake_since = False, current, self.now
            self.depth -= 1

    def created(self, process):
        """A process has created a lease."""
        self.taken[len(self.taken) + 1] = self.now
        process.signs = [(self.now, 0)]

    def acquired(self, process):
        """Two hold it only if the earlier one had been silent for too long."""
        assert process.writer.lease.generation
        for other in self.processes:
            if other is not process and other.believes():
                earlier, later = sorted((process, other), key=lambda each: each.writer.lease.generation)
                beat, epoch = earlier.silence()
                assert beat * later.rate > TIMING.ttl_s or epoch * later.rate > TIMING.stuck_s

    def check(self):
        """Who has lost the lease notices; while nobody has it, those who wait get it."""
        for each in filter(Process.awake, self.processes):
            if each.believes():
                self.held_until = self.now
                lost = self.taken.get(each.writer.lease.generation + 1, math.inf)
                assert self.now - max(lost, each.awake_since) <= 2 * TIMING.beat_s / each.rate + 1
        for each in filter(Process.awake, self.processes):
            waited = self.now - max(self.held_until, each.awake_since) if each.writer is None else 0
            assert waited * each.rate <= TIMING.ttl_s + 4 * TIMING.poll_s


FAULTS = {
    "kill": 0.01,
    "pause": 0.1,
    "interrupt": 0.02,
    "torn": 0.3,
    "stuck": 0.3,
}  # how often, in a story that has it


def play(seed, monkeypatch):
    """One story to its end."""
    world = World(seed)
    monkeypatch.setattr("moe.store.locks.time", SimpleNamespace(monotonic=world.clock))
    monkeypatch.setattr(Owner, "of", lambda _: owner(world.current))
    monkeypatch.setattr(Owner, "has_ended", lambda self: of(world, self).gone and self.machine == world.current.machine)
    world.run()
    assert all(process.gone for process in world.processes)
    assert world.warned == []
    if not any(world.faults.values()):
        assert world.trained == EPOCHS
    with Store(world.place, warn=world.warned.append) as store:
        chain = store.chain(SPEC)
        assert chain.losses == RIGHT.losses
        assert all(same(store.load_weights(chain.resolve(n)), RIGHT.weights[n]) for n in RIGHT.weights)
    return world


def owner(process):
    return Owner(token=uuid.uuid4().hex, host="host", machine=process.machine, pid=process.number, started="1")


def of(world, owner):
    return world.processes[owner.pid]


def test_somebody_always_gets_on_two_hold_it_only_after_silence_and_what_is_stored_is_right(monkeypatch):
    monkeypatch.setattr(Leases, "_keep_beating", lambda _: None)  # beats are part of the story
    for seed in range(SEEDS):
        try:
            play(seed, monkeypatch)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
