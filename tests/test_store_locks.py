"""Who trains a stage: one at a time, never nobody, and right whoever it is."""

import dataclasses
import json
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import pytest
import torch

from moe import Config, run
from moe.data import DataSet
from moe.scheduler import Scheduler, StageTask
from moe.stages import Request
from moe.store.entries import folder_of
from moe.store.files import Local
from moe.store.locks import Owner, Timing
from moe.store.store import Store
from moe.store.writer import LeaseLostError
from moe.training.loop import Chain
from tests.conftest import coloured
from tests.store_helpers import AT_ONCE, Faulty, a_spec, advance, children, open_writer, pretend, same, straight

CPU = torch.device("cpu")
SPEC = a_spec()
FOLDER = folder_of(SPEC)
ME = Owner.of(os.getpid())
BRISK = Timing(beat_s=0.05, ttl_s=1.0, poll_s=0.02)
PATIENT = Timing(beat_s=0.05, ttl_s=1000, stuck_s=1000, poll_s=0.02)  # waits for whoever lives


@pytest.fixture
def place(tmp_path):
    return Local(tmp_path / "store")


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


class TestOneAtATime:
    def test_while_one_lives_another_waits_and_once_it_is_released_goes_at_once(self, place):
        with store(place) as first, store(place) as second:
            with open_writer(first, SPEC):
                assert refused(second, 2.5 * BRISK.ttl_s)
            first.flush()
            assert second.open_writer(SPEC) is not None

    def test_of_eight_that_claim_at_once_one_is_given_it(self, place):
        stores = [Store(place, timing=PATIENT) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            claims = list(pool.map(lambda each: each.open_writer(SPEC), stores))
        assert len([writer for writer in claims if writer is not None]) == 1
        for each in stores:
            each.close()

    def test_another_stage_is_free(self, place):
        with store(place) as first, store(place) as second, open_writer(first, SPEC):
            assert second.open_writer(a_spec("gate")) is not None

    def test_generations_count_up_and_none_is_deleted(self, place):
        with store(place) as first:
            for epochs in (1, 2, 3):
                advance(first, SPEC, epochs)
        leases = sorted(name for name in place.files(FOLDER) if name.startswith("lease-") and name.endswith(".json"))
        assert leases == ["lease-0001.json", "lease-0002.json", "lease-0003.json"]

    def test_where_no_lease_can_be_had_everyone_trains_and_is_told_once(self, place):
        class Plain(Faulty):
            def create(self, path, content):
                self.replace(path, content)
                return True

        warned = []
        with store(Plain(place), warn=warned.append) as first, store(Plain(place), warn=warned.append) as second:
            with open_writer(first, SPEC), open_writer(second, SPEC), open_writer(second, a_spec("gate")):
                assert len(warned) == 2
            assert all(said.startswith("two trials may train one stage") for said in warned)
            assert advance(first, SPEC, 2).losses == advance(second, SPEC, 2).losses


def hold(folder, timing, say):
    """In another process: open a writer, say so and hold on."""
    with Store(folder, timing=timing) as opened, open_writer(opened, SPEC):
        say.send("claimed")
        say.recv()


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


def task(spec, epochs):
    """A stage to be trained by pretence."""
    return StageTask(Request(spec, epochs), lambda _: (None, None))


def trained_twice(folder, start, say):
    """In another process: a run, and how many epochs of each stage it had to train."""
    torch.set_num_threads(1)
    data = DataSet("coloured", *coloured(6000, 1), *coloured(1000, 2), fingerprint="f" * 64, source="made up")
    config = Config(epochs=2, train_examples=20, test_examples=10, batch_size=10, protocol="notebook")
    with Store(folder, timing=PATIENT) as opened:
        say.send("ready")
        start.wait()
        result = run(config, data, opened)
        say.send(({name: stage.epochs_trained for name, stage in result.stages.items()}, result.score))


class TestSideBySide:
    def test_two_processes_with_one_config_train_each_epoch_once(self, place):
        context = children()
        start, pipes = context.Event(), [context.Pipe() for _ in range(2)]
        processes = [
            context.Process(target=trained_twice, args=(place.name, start, there), daemon=True) for _, there in pipes
        ]
        for process in processes:
            process.start()
        assert [here.recv() for here, _ in pipes] == ["ready", "ready"]
        start.set()
        (first, score), (second, same_score) = [here.recv() for here, _ in pipes]
        for process in processes:
            process.join()
        assert {name: first[name] + second[name] for name in first} == dict.fromkeys(first, 2)
        assert score == same_score

    def test_a_stage_that_is_taken_is_left_for_last(self, place, monkeypatch):
        monkeypatch.setattr("moe.scheduler.train", pretend)
        heard = []
        with store(place, PATIENT) as other, store(place, PATIENT) as ours:
            taken = open_writer(other, SPEC)

            def watch(stage, epoch, *_):
                heard.append((stage, epoch))
                if (stage, epoch) == ("natural", 2):
                    taken.__exit__(None)

            stages = Scheduler(ours, watch).run_all(
                [task(a_spec(name), 2) for name in ("baseline", "gate", "natural")], [CPU]
            )
        assert heard == [(name, epoch) for name in ("gate", "natural", "baseline") for epoch in (1, 2)]
        assert list(stages) == ["baseline", "gate", "natural"]

    def test_what_another_trained_meanwhile_is_not_trained_again(self, place, monkeypatch):
        monkeypatch.setattr("moe.scheduler.train", pretend)
        with store(place, PATIENT) as other, store(place, PATIENT) as ours, ThreadPoolExecutor(1) as pool:
            with open_writer(other, SPEC) as writer:
                waiting = pool.submit(Scheduler(ours).run, task(SPEC, 3), CPU)
                for _ in pretend(Request(SPEC, 3), writer.chain):
                    writer.epoch_done()
            stage = waiting.result(timeout=10)
            assert (len(stage.chain.epochs), stage.trained) == (3, [])
            assert same(stage.weights(), straight(SPEC, 3).weights[2])

    def test_a_watcher_hears_of_a_stage_that_another_finished_just_before_it_was_claimed(self, place, monkeypatch):
        heard = []
        with store(place, PATIENT) as other:
            advance(other, SPEC, 3)
        with store(place, PATIENT) as ours:
            monkeypatch.setattr(ours, "chain", Chain)  # looked up while the other was at it
            scheduler = Scheduler(ours, lambda stage, epoch, *_: heard.append((stage, epoch)))
            assert scheduler.run(task(SPEC, 3), CPU).trained == []
        assert heard == [("baseline", 3)]

    def test_two_that_want_two_stages_in_either_order_train_each_once_and_both_end(self, place, monkeypatch):
        trained = []

        def slow(request, chain, *rest):
            for epoch in pretend(request, chain, *rest):
                trained.append((request.spec.stage, len(chain.epochs)))
                time.sleep(0.1)
                yield epoch

        monkeypatch.setattr("moe.scheduler.train", slow)
        tasks = [task(a_spec(name), 3) for name in ("baseline", "gate")]
        with store(place, PATIENT) as first, store(place, PATIENT) as second, ThreadPoolExecutor(2) as pool:
            one = pool.submit(Scheduler(first).run_all, tasks, [CPU])
            other = pool.submit(Scheduler(second).run_all, tasks[::-1], [CPU])
            one.result(timeout=20)
            other.result(timeout=20)
        assert sorted(trained) == [(name, epoch) for name in ("baseline", "gate") for epoch in (1, 2, 3)]

    def test_an_error_on_one_device_ends_a_run_whose_other_stage_is_taken(self, place, monkeypatch):
        monkeypatch.setattr("moe.scheduler.train", pretend)
        failed = threading.Event()

        def refuse(*_):
            failed.set()
            raise RuntimeError("told to stop")

        with store(place, PATIENT) as other, store(place, PATIENT) as ours, ThreadPoolExecutor(1) as pool:
            original = ours.open_writer

            def first_refused(spec):
                if spec == SPEC:  # asked for before the error, and refused after it
                    failed.wait()
                    time.sleep(0.2)
                return original(spec)

            monkeypatch.setattr(ours, "open_writer", first_refused)
            with open_writer(other, SPEC):
                running = pool.submit(
                    Scheduler(ours, refuse).run_all, [task(a_spec("gate"), 2), task(SPEC, 2)], [CPU, CPU]
                )
                error = next(iter(wait([running], timeout=2).done), None)
            with pytest.raises(RuntimeError, match="told to stop"):
                running.result(timeout=10)
        assert error is running
