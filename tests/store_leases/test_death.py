"""A process that holds a lease and dies, and who takes over."""

import dataclasses
import json
import os
import signal
import subprocess
import time
from unittest import mock

import pytest

from moe.store.locks import Lease, Owner
from moe.store.store import Store
from moe.store.tolerant import TolerantFiles
from tests.store_helpers import Faulty, open_writer
from tests.store_leases.helpers import (
    BRISK,
    FOLDER,
    ME,
    PATIENT,
    SPEC,
    another,
    held,
    refused,
    seconds_until_claimed,
    state_of,
    store,
)


def hold(folder, timing, say):
    """In another process: open a writer, say so and hold on."""
    with Store(folder, timing=timing) as opened, open_writer(opened, SPEC):
        say.send("claimed")
        say.recv()


class TestDeath:
    def test_a_process_killed_on_this_machine_is_taken_over_at_once(self, place):
        with store(place, PATIENT) as waiter, another(hold, place.name, PATIENT) as (process, _):
            assert refused(waiter, 0.3)
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            assert waiter.open_writer(SPEC) is not None

    def test_a_living_process_has_not_gone(self):
        assert not ME.has_ended()

    def test_a_process_that_only_waits_to_be_reaped_has_gone(self):
        process = subprocess.Popen(["sleep", "60"])
        owner = Owner.of(process.pid)
        assert not owner.has_ended()
        process.kill()
        while state_of(process.pid) != "Z":
            time.sleep(0.01)
        assert owner.has_ended()
        process.wait()
        assert owner.has_ended()

    @pytest.mark.parametrize("answer", [None, PermissionError()])
    def test_a_living_process_that_proc_hides_has_not_gone(self, answer, monkeypatch):
        """As with hidepid, where those of other users are not shown."""
        monkeypatch.setattr("moe.store.locks._start_of", lambda _: None)
        monkeypatch.setattr(os, "kill", mock.Mock(side_effect=answer))
        assert not ME.has_ended()

    @pytest.mark.parametrize("pid", [2**22 + 1, 10**30])
    def test_a_process_number_that_none_has_is_that_of_one_that_has_gone(self, pid):
        assert ME.replace(pid=pid).has_ended()

    def test_a_process_number_used_again_is_not_its_former_owner(self):
        assert ME.replace(started="1").has_ended()

    @pytest.mark.parametrize("change", [{"machine": "another"}, {"machine": ""}])
    def test_of_an_owner_elsewhere_only_its_beat_can_tell(self, change, place):
        owner = ME.replace(**change, started="1")
        assert not owner.has_ended()
        held(place, owner, {"beats": 3, "epochs": 1, "released": False})
        with store(place, dataclasses.replace(BRISK, ttl_s=0.5)) as waiter:
            assert 0.5 <= seconds_until_claimed(waiter) < 3

    def test_an_owner_elsewhere_that_beats_is_waited_for(self, place):
        held(place, ME.replace(machine="another"))
        with store(place, dataclasses.replace(BRISK, ttl_s=0.5)) as waiter:
            for beats in range(15):
                place.replace(f"{FOLDER}/lease-0001.beat", json.dumps({"beats": beats, "epochs": 0}).encode())
                assert refused(waiter, 0.1)
            assert seconds_until_claimed(waiter) >= 0.3

    def test_one_that_looks_again_after_long_takes_over_nothing_that_has_beaten_meanwhile(self, place):
        held(place, ME.replace(machine="another"), {"beats": 1})
        with store(place, dataclasses.replace(BRISK, ttl_s=0.3)) as waiter:
            assert waiter.open_writer(SPEC) is None
            time.sleep(0.6)
            place.replace(f"{FOLDER}/lease-0001.beat", json.dumps({"beats": 2}).encode())
            assert waiter.open_writer(SPEC) is None

    def test_a_waiter_that_is_paused_after_it_read_a_beat_has_seen_no_silence(self, place):
        held(place, ME.replace(machine="another"), {"beats": 1})

        class Slow(Faulty):
            def read(self, path):
                content = super().read(path)
                time.sleep(0.6 * path.endswith(".beat"))
                return content

        with store(Slow(place), dataclasses.replace(BRISK, ttl_s=0.5)) as waiter:
            assert waiter.open_writer(SPEC) is None
            assert waiter.open_writer(SPEC) is None

    def test_a_lease_that_another_is_just_writing_is_waited_for(self, place):
        """Without hard links a file is created empty."""

        class Slower(Faulty):
            def create(self, path, content):
                self.place.create(path, b"")
                return super().create(path, content)

        with store(Slower(place)) as waiter:
            assert waiter.open_writer(SPEC) is None

    @pytest.mark.parametrize("content", [b"", b"\0\0\0", b"[]", b'{"pid": 1}', b'{"token": "x", "pid": "many"}'])
    def test_a_damaged_lease_is_waited_for_as_long_as_one_without_a_beat(self, content, place):
        place.create(f"{FOLDER}/lease-0001.json", content)
        with store(place, dataclasses.replace(BRISK, ttl_s=0.3)) as waiter:
            assert 0.3 <= seconds_until_claimed(waiter) < 3

    def test_a_damaged_beat_is_no_release(self, place):
        held(place, ME.replace(machine="another"))
        place.replace(f"{FOLDER}/lease-0001.beat", b"\0\0\0")
        with store(place, dataclasses.replace(BRISK, ttl_s=0.3)) as waiter:
            assert 0.3 <= seconds_until_claimed(waiter) < 3

    def test_only_leases_that_are_there_count_as_deaths(self, place):
        for number, released in ((1, True), (2, False), (200_000, False)):
            place.create(f"{FOLDER}/lease-{number:04d}.json", b"{}")
            place.replace(f"{FOLDER}/lease-{number:04d}.beat", json.dumps({"released": released}).encode())
        watched = Faulty(place)
        lease = Lease(TolerantFiles(watched, pytest.fail, 0), FOLDER, 200_001)
        assert lease.deaths() == 2
        assert len(watched.operations) == 4
