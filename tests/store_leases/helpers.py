"""Stores that share a place, and processes that hold a lease in it."""

import json
import os
import time
from contextlib import contextmanager

import torch

from moe.scheduler import StageTask
from moe.stages import Request
from moe.store.entries import folder_of
from moe.store.locks import Owner, Timing
from moe.store.store import Store
from moe.store.writer import LeaseLostError
from tests.store_helpers import a_spec, children, open_writer, pretend

CPU = torch.device("cpu")

SPEC = a_spec()

FOLDER = folder_of(SPEC)

ME = Owner.of(os.getpid())

BRISK = Timing(beat_s=0.05, ttl_s=1.0, poll_s=0.02)

PATIENT = Timing(beat_s=0.05, ttl_s=1000, stuck_s=1000, poll_s=0.02)  # waits for whoever lives


@contextmanager
def store(place, timing=BRISK, **settings):
    with Store(place, timing=timing, **settings) as opened:
        yield opened


def seconds_until_claimed(waiter, most=10.0):
    """How long it takes until the writer can be had."""
    began = time.monotonic()
    while (writer := waiter.open_writer(SPEC)) is None:
        assert time.monotonic() - began < most
        time.sleep(0.01)
    with writer:
        return time.monotonic() - began


def refused(waiter, seconds):
    """Whether the writer cannot be had for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if waiter.open_writer(SPEC) is not None:
            return False
        time.sleep(0.02)
    return True


def held(place, owner, beat=None):
    """The files of a lease that nobody beats for."""
    place.create(f"{FOLDER}/lease-0001.json", owner.model_dump_json().encode())
    if beat is not None:
        place.replace(f"{FOLDER}/lease-0001.beat", json.dumps(beat).encode())


def train_when_told(folder, timing, say):
    """In another process: open a writer, then train an epoch each time it is told to, saying how that went."""
    with Store(folder, timing=timing) as opened:
        try:
            with open_writer(opened, SPEC) as writer:
                say.send("claimed")
                for _ in pretend(Request(SPEC, 3), writer.chain):
                    say.recv()
                    writer.epoch_done()
                    say.send(len(writer.chain.epochs))
        except LeaseLostError:
            say.send("lost")
    say.send("ended")


@contextmanager
def another(target, *arguments):
    """A process that claims, and what to talk to it through."""
    here, there = children().Pipe()
    process = children().Process(target=target, args=(*arguments, there), daemon=True)
    process.start()
    there.close()
    try:
        assert here.poll(60)
        assert here.recv() == "claimed"
        yield process, here
    finally:
        process.kill()
        process.join()
        here.close()


def state_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def task(spec, epochs):
    """A stage to be trained by pretence."""
    return StageTask(Request(spec, epochs), lambda _: (None, None))
