"""Who trains a stage: one at a time, never nobody, and each epoch once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch

from moe import Config, run
from moe.data import DataSet
from moe.scheduler import Scheduler
from moe.stages import Request
from moe.store.store import Store
from moe.training.loop import Chain
from tests.conftest import coloured
from tests.store_helpers import Faulty, a_spec, advance, children, open_writer, pretend, same, straight
from tests.store_leases.helpers import BRISK, CPU, FOLDER, PATIENT, SPEC, refused, store, task


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


def trained_twice(folder, start, say):
    """In another process: a run, and how many epochs of each stage it had to train."""
    torch.set_num_threads(1)
    data = DataSet("coloured", *coloured(6000, 1), *coloured(200, 2), fingerprint="f" * 64, source="made up")
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
