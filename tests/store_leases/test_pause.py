"""A process that holds a lease and is paused, and who takes over."""

import dataclasses
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from moe.scheduler import Scheduler
from moe.stages import Request
from moe.store.files import Local
from moe.store.locks import Leases
from moe.store.tolerant import TolerantFiles
from moe.store.writer import LeaseLostError
from tests.store_helpers import AT_ONCE, Faulty, advance, open_writer, pretend, same, straight
from tests.store_leases.helpers import (
    BRISK,
    CPU,
    FOLDER,
    PATIENT,
    SPEC,
    another,
    refused,
    seconds_until_claimed,
    state_of,
    store,
    task,
    train_when_told,
)


class Listing(Local):
    """A folder that calls `meanwhile` while its files are listed."""

    def meanwhile(self):
        """Nothing."""

    def files(self, folder):
        found = super().files(folder)
        self.meanwhile()
        return found


def test_a_lease_that_is_released_while_it_is_looked_up_stays_released(tmp_path):
    place = Listing(tmp_path)
    leases = Leases(TolerantFiles(place, print, 1.0), PATIENT)
    lease = leases.acquire(FOLDER)
    place.meanwhile = lambda: lease.beat(released=True)  # as the thread that commits does
    assert not lease.holds(0)
    place.meanwhile = lambda: None
    leases.beat()
    assert leases.acquire(FOLDER).generation == 2
    leases.close()


class TestPause:
    def test_a_paused_owner_is_taken_over_and_stops_when_it_wakes(self, place):
        with store(place) as waiter, another(train_when_told, place.name, BRISK) as (process, owner):
            owner.send("go")
            assert owner.recv() == 1
            os.kill(process.pid, signal.SIGSTOP)
            while state_of(process.pid) != "T":
                time.sleep(0.01)
            began = time.monotonic()
            assert len(advance(waiter, SPEC, 3).epochs) == 3
            assert time.monotonic() - began >= BRISK.ttl_s
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(2 * BRISK.beat_s)
            owner.send("go")
            assert owner.recv() == "lost"
            assert owner.recv() == "ended"
        with store(place) as reader:
            chain = reader.chain(SPEC)
            assert chain.losses == straight(SPEC, 3).losses
            assert same(reader.load_weights(chain.resolve(3)), straight(SPEC, 3).weights[2])

    @pytest.mark.parametrize("bits", [0.0, 0.25])
    @pytest.mark.parametrize("paused_at", ["safetensors", "chain"])
    def test_a_commit_that_comes_late_does_no_harm(self, bits, paused_at, place):
        """Also where the one that took over computes other bits, as another GPU does."""
        awake = threading.Event()

        class Paused(Faulty):
            def replace(self, path, content):
                if paused_at in path:
                    awake.wait()
                return super().replace(path, content)

            def create(self, path, content):
                if paused_at in path:
                    awake.wait()
                return super().create(path, content)

        with store(Paused(place), dataclasses.replace(AT_ONCE, commit_every_s=1000)) as late:
            with open_writer(late, SPEC) as writer:
                for _ in pretend(Request(SPEC, 3), writer.chain):
                    writer.epoch_done()
            with store(place, AT_ONCE) as other, open_writer(other, SPEC) as theirs:
                for number, _ in enumerate(pretend(Request(SPEC, 4), theirs.chain, bits=bits), 1):
                    theirs.epoch_done()
                    other.flush()
                    if number == 2:
                        awake.set()
                        late.flush()
        warned = []
        with store(place, warn=warned.append) as reader:
            chain = reader.chain(SPEC)
            assert len(chain.epochs) >= 3
            found = {epoch: reader.load_weights(chain.resolve(epoch)) for epoch in range(1, len(chain.epochs) + 1)}
            whole = [straight(SPEC, 4, bits) for bits in {0.0, bits}]
            assert any(
                all(same(state, one.weights[one.resolve(epoch).epoch]) for epoch, state in found.items())
                for one in whole
            )
        assert warned == []

    def test_an_owner_that_beats_but_gets_nowhere_is_not_waited_for(self, place):
        impatient = dataclasses.replace(PATIENT, stuck_s=0.5)
        with store(place, PATIENT) as stuck, store(place, impatient) as waiter:
            writer = open_writer(stuck, SPEC)
            assert 0.5 <= seconds_until_claimed(waiter) < 5
            time.sleep(2 * PATIENT.beat_s)
            next(pretend(Request(SPEC, 3), writer.chain))
            with pytest.raises(LeaseLostError):
                writer.epoch_done()

    def test_an_owner_that_gets_on_is_waited_for(self, place):
        impatient = dataclasses.replace(PATIENT, stuck_s=1.0)
        with store(place, PATIENT) as slow, store(place, impatient) as waiter, open_writer(slow, SPEC) as writer:
            for _ in pretend(Request(SPEC, 5), writer.chain):
                writer.epoch_done()
                assert refused(waiter, 0.5)

    def test_owners_whose_epochs_take_longer_than_anyone_waits_still_get_there(self, place, monkeypatch):
        """Each takes over from the other, and what was trained until then is not lost."""
        impatient = dataclasses.replace(PATIENT, stuck_s=0.1)
        end = time.monotonic() + 8

        def slow(request, chain, *rest):
            for epoch in pretend(request, chain, *rest):
                time.sleep(0.3)
                if time.monotonic() > end:
                    raise TimeoutError
                yield epoch

        monkeypatch.setattr("moe.scheduler.train", slow)

        def train_it(opened):
            return Scheduler(opened).run(task(SPEC, 3), CPU).chain.losses

        with store(place, impatient) as first, store(place, impatient) as second, ThreadPoolExecutor(2) as pool:
            assert list(pool.map(train_it, (first, second))) == [straight(SPEC, 3).losses] * 2
