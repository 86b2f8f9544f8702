"""What is stored is right or absent, whatever befalls process and place, and it is the training's own bits."""

import dataclasses
import os
import threading
import time
from contextlib import suppress
from functools import cached_property

import pytest
import torch

from moe import Config, run
from moe.config import NOT_SEEN
from moe.metrics import score
from moe.pipeline import train_mixture
from moe.scheduler import Scheduler, StageTask
from moe.schema import fields
from moe.stages import PIPELINE, STAGES, Checkpoint, Request, Spec, plan, resolved
from moe.store.entries import folder_of
from moe.store.files import Local, PlaceError
from moe.store.maintenance import find_damage
from moe.store.manifest import DamagedError, unseal
from moe.store.store import NoStore, Store
from moe.store.tensors import unpack
from moe.training.loop import Chain, best_epoch, train
from tests.store_helpers import AT_ONCE, Ended, Faulty, a_spec, advance, memory, open_writer, pretend, same, straight
from tests.test_stages import another

CPU = torch.device("cpu")
SPEC = a_spec()
SMALL = Config(epochs=2, train_examples=20, test_examples=10, batch_size=10)  # half a second
LONGER = SMALL.replace(epochs=3)


def figures(chain):
    return [(e.loss, e.accuracy, e.validation_loss, e.validation_accuracy) for e in chain.epochs]


def flip(place, path, at=-9):
    """Change one byte of a file."""
    content = bytearray(place.read(path))
    content[at] ^= 1
    place.replace(path, bytes(content))


def check(place, least, most, *, warnings=None):
    """See that a fresh store has the pretended chain right, with some number of epochs."""
    warned = []
    with Store(place, warn=warned.append, timing=AT_ONCE) as store:
        chain = store.chain(SPEC)
        expected = straight(SPEC, len(chain.epochs))
        assert least <= len(chain.epochs) <= most
        assert figures(chain) == figures(expected)
        for epochs in range(1, len(chain.epochs) + 1):
            best = best_epoch(chain.losses[:epochs])
            assert chain.resolve(epochs).epoch == best
            assert same(store.load_weights(chain.resolve(epochs)), expected.weights[best])
    if warnings is not None:
        assert warned == warnings


def check_it_goes_on(place, epochs):
    """See that a fresh store can bring the chain on, and that all of it is then there without a word."""
    with Store(place, warn=[].append, timing=AT_ONCE) as store:
        advance(store, SPEC, epochs)
    check(place, epochs, epochs, warnings=[])
    warned = []
    with Store(place, warn=warned.append, timing=AT_ONCE) as store:
        assert len(store.chain(SPEC).epochs) == epochs
        chain = advance(store, SPEC, epochs + 1)
        assert all(same(*parts) for parts in zip(chain.end, straight(SPEC, epochs + 1).end, strict=True))
    assert warned == []


class TestCrashPoints:
    """A process ends, or its place fails, at any of its operations: four epochs in two claims, each committed."""

    def story(self, place, warn=None, timing=AT_ONCE):
        store = Store(place, warn=warn or [].append, timing=timing)
        try:
            advance(store, SPEC, 2)
            return advance(store, SPEC, 4)
        finally:
            with suppress(Ended):
                store.close()

    def points(self):
        place = Faulty(memory())
        self.story(place)
        return range(1, len(place.operations) + 1)

    @pytest.mark.parametrize("how", ["ends", "half", "zeros"])
    def test_what_was_committed_stays_and_the_next_process_goes_on(self, how):
        hit = set()
        for point in self.points():
            place = Faulty(memory(), point, how)
            with suppress(Ended):
                self.story(place)
            operation, _, path = place.operations[point - 1].partition(" ")
            if operation in ("create", "replace"):
                hit.add(path.rpartition("/")[2].partition("-")[0].rpartition(".")[2])
            check(place.place, place.newest, place.newest, warnings=[] if how == "ends" else None)
            check_it_goes_on(place.place, 4)
        assert hit >= {"chain", "safetensors", "lease"}

    @pytest.mark.parametrize("rest_s", [0, 30])
    @pytest.mark.parametrize("how", ["once", "from then on"])
    def test_a_failing_place_costs_one_warning_of_each_kind_and_the_training_goes_on(self, how, rest_s):
        for point in self.points():
            place, warned = Faulty(memory(), point, how), []
            chain = self.story(place, warned.append, dataclasses.replace(AT_ONCE, rest_s=rest_s))
            assert figures(chain) == figures(straight(SPEC, 4))
            assert len([said for said in warned if "cannot be" in said]) <= 2
            assert [said for said in warned if "made again" in said] == []
            check(place.place, place.newest, 4, warnings=[])
            check_it_goes_on(place.place, 4)


class TestCrashPointsOfARepair:
    """A process ends at any operation of setting damaged files aside and making them again."""

    def stored(self, damaged):
        """A place with four epochs, of which one file has one byte wrong."""
        place = memory()
        with Store(place, timing=AT_ONCE) as store:
            advance(store, SPEC, 4)
            manifest = store._entries.newest(SPEC)
        content = {"weights": manifest.weights[2], "end": manifest.end.optimizer}.get(damaged)
        flip(place, f"{folder_of(SPEC)}/{content.file if content else manifest.name}")
        return place

    def story(self, place):
        store = Store(place, warn=[].append, timing=AT_ONCE)
        try:
            chain = store.chain(SPEC)
            for epoch in {chain.resolve(epochs).epoch for epochs in range(1, len(chain.epochs) + 1)}:
                store.load_weights(Checkpoint(SPEC.stage, SPEC.address, epoch))
            advance(store, SPEC, 5)
        finally:
            with suppress(Ended):
                store.close()

    @pytest.mark.parametrize("damaged", ["weights", "end", "manifest"])
    def test_the_next_process_finishes_the_repair(self, damaged):
        place = Faulty(self.stored(damaged))
        self.story(place)
        for point in range(1, len(place.operations) + 1):
            place = Faulty(self.stored(damaged), point)
            with suppress(Ended):
                self.story(place)
            self.story(place.place)
            check(place.place, 5, 5, warnings=[])
            check_it_goes_on(place.place, 5)


class TestCommits:
    def seen(self, place):
        with Store(place, timing=AT_ONCE) as other:
            return len(other.chain(SPEC).epochs)

    def test_with_no_time_between_commits_each_epoch_is_there_as_soon_as_it_is_trained(self):
        place = memory()
        with Store(place, timing=AT_ONCE) as store, open_writer(store, SPEC) as writer:
            for number, _ in enumerate(pretend(Request(SPEC, 4), writer.chain), 1):
                writer.epoch_done()
                store.flush()
                assert self.seen(place) == number

    def test_by_default_a_short_request_is_committed_once_at_its_end(self):
        place = memory()
        with Store(place) as store:
            with open_writer(store, SPEC) as writer:
                for _ in pretend(Request(SPEC, 4), writer.chain):
                    writer.epoch_done()
                    assert store._pending == [] or store.flush() is None
                    assert self.seen(place) == 0
            store.flush()
            assert self.seen(place) == 4

    def test_commits_that_queue_up_appear_in_order_with_the_tensors_of_their_own_epoch(self):
        written = {}

        class Slow(Faulty):
            def replace(self, path, content):
                time.sleep(0.01)
                super().replace(path, content)
                written[path.rpartition("/")[2]] = content

            def create(self, path, content):
                written[path.rpartition("/")[2]] = content
                return super().create(path, content)

        place = Slow(memory())
        with Store(place, timing=AT_ONCE) as store:
            with open_writer(store, SPEC) as writer:
                for _ in pretend(Request(SPEC, 8), writer.chain):
                    writer.epoch_done()
            store.flush()
        manifests = [unseal(content) for name, content in written.items() if name.startswith("chain-")]
        assert [len(manifest.epochs) for manifest in manifests] == list(range(1, 9))
        for number, manifest in enumerate(manifests, 1):
            end = [unpack(written[content.file]) for content in (manifest.end.network, manifest.end.optimizer)]
            assert all(same(*parts) for parts in zip(end, straight(SPEC, number).end, strict=True))
        check(place.place, 8, 8, warnings=[])

    def test_a_longer_chain_leaves_no_file_of_a_shorter_one_that_it_does_not_need(self):
        place = memory()
        with Store(place, timing=AT_ONCE) as store:
            advance(store, SPEC, 3)
            advance(store, SPEC, 8)
            manifest = store._entries.newest(SPEC)
        files = set(place.files(folder_of(SPEC)))
        assert {name for name in files if name.endswith(".safetensors")} == manifest.files
        assert {name for name in files if name.startswith("chain-")} == {"chain-0008.json"}
        assert sorted(manifest.weights) == [1, 2, 5, 8]

    def test_a_claim_that_ends_in_an_error_keeps_what_was_whole_and_is_given_back(self):
        place = memory()
        with Store(place, timing=AT_ONCE) as store:
            advance(store, SPEC, 2)
            with suppress(RuntimeError), open_writer(store, SPEC) as writer:
                next(pretend(Request(SPEC, 4), writer.chain))
                raise RuntimeError
            store.flush()
            with suppress(RuntimeError), open_writer(store, SPEC) as writer:
                next(pretend(Request(SPEC, 4), writer.chain))
                writer.chain.end = None  # as in the middle of the fifth
                raise RuntimeError
            store.flush()
        check(place, 3, 3, warnings=[])
        with Store(place) as store:
            assert store.open_writer(SPEC) is not None

    def test_a_chain_that_patience_ended_is_stored_without_an_end_and_finished(self):
        place, spec = memory(), SPEC.replace(patience=2)
        with Store(place, timing=AT_ONCE) as store:
            advance(store, spec, 8)
        with Store(place, timing=AT_ONCE) as store:
            chain = store.chain(spec)
            assert len(chain.epochs) == 4
            assert chain.finished(100)
            assert store._entries.newest(spec).end is None
            with open_writer(store, spec) as writer:
                assert writer.chain.finished(100)

    def test_a_manifest_says_who_made_it_with_what(self):
        place = memory()
        with Store(place, timing=AT_ONCE) as store:
            advance(store, SPEC, 1)
            made = store._entries.newest(SPEC).made
        assert set(made) == {"host", "time", "device", "versions"}
        assert made["versions"]["torch"] == torch.__version__

    def test_the_weights_of_a_chain_that_was_not_looked_up_or_of_another_epoch_are_none(self):
        place = memory()
        with Store(place, timing=AT_ONCE) as store:
            advance(store, SPEC, 3)
        with Store(place, timing=AT_ONCE) as store:
            assert store.load_weights(Checkpoint(SPEC.stage, SPEC.address, 2)) is None
            store.chain(SPEC)
            assert store.load_weights(Checkpoint(SPEC.stage, SPEC.address, 3)) is None
            assert store.load_weights(Checkpoint(SPEC.stage, SPEC.address, 2)) is not None


class TestNoStore:
    def test_nothing_is_found_and_nothing_is_kept(self):
        nothing = NoStore()
        with nothing.open_writer(SPEC) as writer:
            for _ in pretend(Request(SPEC, 3), writer.chain):
                writer.epoch_done()
        checkpoint = writer.chain.resolve(3)
        nothing.save_predictions(checkpoint, "stop", {"log_probs": torch.zeros(1)})
        nothing.flush()
        assert (nothing.chain(SPEC).epochs, nothing.open_writer(SPEC).chain.epochs) == ([], [])
        assert (nothing.load_weights(checkpoint), nothing.load_predictions(checkpoint, "stop")) == (None, None)

    def test_only_the_weights_that_a_request_can_still_resolve_to_stay_in_memory(self):
        with NoStore().open_writer(SPEC) as writer:
            for _ in pretend(Request(SPEC, 6), writer.chain):
                writer.epoch_done()
                assert list(writer.chain.weights) == [best_epoch(writer.chain.losses)]


SAYS = {"log_probs": torch.arange(20.0).view(2, 10)}
CHECKPOINT = Checkpoint(SPEC.stage, SPEC.address, 2)


class TestEntries:
    def kept(self):
        place = memory()
        with Store(place, timing=AT_ONCE) as store:
            advance(store, SPEC, 3)
            store.save_predictions(CHECKPOINT, "stop", SAYS)
        return place, next(name for name in place.files(folder_of(SPEC)) if name.startswith("predictions-"))

    def test_what_a_network_said_is_kept_by_checkpoint_and_images(self):
        place, _ = self.kept()
        with Store(place, timing=AT_ONCE) as store:
            assert same(store.load_predictions(CHECKPOINT, "stop"), SAYS)
            assert store.load_predictions(CHECKPOINT, "train") is None
            assert store.load_predictions(dataclasses.replace(CHECKPOINT, epoch=1), "stop") is None

    def test_a_single_failure_to_read_sets_nothing_aside(self):
        place, name = self.kept()
        faulty, warned = Faulty(place, 4, "once"), []  # listing and manifest, then listing and file
        with Store(faulty, warn=warned.append) as store:
            assert store.load_predictions(CHECKPOINT, "stop") is None
        assert faulty.operations[3] == f"read {folder_of(SPEC)}/{name}"
        assert name in place.files(folder_of(SPEC))
        assert [said for said in warned if "made again" in said] == []

    def test_one_file_that_can_never_be_read_holds_nobody_up(self):
        place = memory()
        with Store(place, timing=AT_ONCE) as store:
            advance(store, SPEC, 2)
            unreadable = store._entries.newest(SPEC).end.optimizer.file

        class Torn(Faulty):
            def read(self, path):
                if len(self.operations) > 500:
                    raise Ended
                if path.endswith(unreadable):
                    self.operations.append(f"read {path}")
                    raise PlaceError("Input/output error")
                return super().read(path)

        with Store(Torn(place), warn=[].append, timing=AT_ONCE) as store:
            assert figures(advance(store, SPEC, 3)) == figures(straight(SPEC, 3))

    def test_content_that_another_process_removed_meanwhile_is_written_again(self):
        place = memory()
        with Store(place, timing=AT_ONCE) as store:
            advance(store, SPEC, 3)
            for name in place.files(folder_of(SPEC)):
                if not name.startswith("lease-"):
                    place.remove(f"{folder_of(SPEC)}/{name}")
            advance(store, SPEC, 3)
            assert f"used-{os.getuid()}" in place.files(folder_of(SPEC))
        check(place, 3, 3, warnings=[])
        check_it_goes_on(place, 4)

    def test_what_cannot_be_set_aside_is_named_once_and_not_used(self):
        class Stuck(Faulty):
            def remove(self, path):
                raise PlaceError("no removing here")

        place = memory()
        with Store(place, timing=AT_ONCE) as store:
            advance(store, SPEC, 2)
        flip(place, f"{folder_of(SPEC)}/chain-0002.json")
        warned = []
        with Store(Stuck(place), warn=warned.append, timing=AT_ONCE) as store:
            assert [len(store.chain(SPEC).epochs) for _ in range(3)] == [0, 0, 0]
        assert len([said for said in warned if "chain-0002.json" in said]) == 1

    def test_what_another_process_set_aside_first_and_made_again_is_used(self):
        class Second(Faulty):
            def move(self, path, to):
                self.place.move(path, to)
                return super().move(path, to)

        place = memory()
        with Store(place, timing=AT_ONCE) as first, Store(Second(place), warn=[].append, timing=AT_ONCE) as second:
            advance(first, SPEC, 2)
            flip(place, f"{folder_of(SPEC)}/chain-0002.json")
            assert second.chain(SPEC).epochs == []
            advance(first, SPEC, 2)
            assert len(second.chain(SPEC).epochs) == 2

    def test_a_manifest_of_another_chain_is_not_believed(self):
        place, other = memory(), a_spec(seed=1)
        with Store(place, timing=AT_ONCE) as store:
            advance(store, other, 2)
        place.replace(f"{folder_of(SPEC)}/chain-0002.json", place.read(f"{folder_of(other)}/chain-0002.json"))
        warned = []
        with Store(place, warn=warned.append, timing=AT_ONCE) as store:
            assert store.chain(SPEC).epochs == []
        assert len(warned) == 1
        assert "another chain" in warned[0]

    def test_a_longer_chain_leaves_a_shorter_one_of_another_version_alone(self):
        place, path, newer = memory(), f"{folder_of(SPEC)}/chain-0002.json", b'{"format": 9, "sha256": "another"}'
        place.replace(path, newer)
        with Store(place, warn=[].append, timing=AT_ONCE) as store:
            advance(store, SPEC, 3)
        assert place.read(path) == newer

    @pytest.mark.parametrize(
        "content", [b"", b"\0" * 100, b"{}", b"[]", b"5", b'"text"', b"\xff\xfe\x00", b'{"sha256": "0"}', b"NaN"]
    )
    def test_a_manifest_of_whatever_content_is_set_aside(self, content):
        place = memory()
        path = f"{folder_of(SPEC)}/chain-0003.json"
        place.replace(path, content)
        warned = []
        with Store(place, warn=warned.append, timing=AT_ONCE) as store:
            assert store.chain(SPEC).epochs == []
        assert len(warned) == 1
        assert place.read(path) is None
        aside = f"aside/{folder_of(SPEC)}"
        assert [place.read(f"{aside}/{name}") for name in place.files(aside)] == [content]

    def test_every_single_byte_of_a_manifest_counts(self):
        place = memory()
        with Store(place, timing=AT_ONCE) as store:
            advance(store, SPEC, 1)
        sealed = place.read(f"{folder_of(SPEC)}/chain-0001.json")
        original = unseal(sealed)
        for at in range(len(sealed)):
            damaged = bytearray(sealed)
            damaged[at] ^= 1
            with suppress(DamagedError):
                assert unseal(bytes(damaged)) == original  # white space

    def test_a_best_epoch_damaged_while_the_chain_goes_on_is_trained_again_once_and_then_there(self, monkeypatch):
        trained = []

        def counted(request, chain, *rest):
            for epoch in pretend(request, chain, *rest):
                trained.append(len(chain.epochs))
                yield epoch

        monkeypatch.setattr("moe.scheduler.train", counted)
        place = memory()
        with Store(place, timing=AT_ONCE) as store:
            advance(store, SPEC, 3)
            flip(place, f"{folder_of(SPEC)}/{store._entries.newest(SPEC).weights[2].file}")
        for expected in ([4, 1, 2, 3, 4], []):  # the end was whole; then all again; then nothing
            trained.clear()
            with Store(place, warn=[].append, timing=AT_ONCE) as store:
                stage = Scheduler(store).run(StageTask(Request(SPEC, 4), lambda _: (None, None)), CPU)
                assert same(stage.weights(), straight(SPEC, 4).weights[2])
            assert trained == expected


def brought(config, data, store=None, **settings):
    """What a run came to, and its five stages."""
    found = train_mixture(config, data, store, **settings)
    return found.result, dict(found.stages)


def histories(result):
    return {name: [e.replace(seconds=0) for e in stage.epochs] for name, stage in result.stages.items()}


def trained_epochs(result):
    return {name: stage.epochs_trained for name, stage in result.stages.items() if stage.epochs_trained}


@pytest.fixture(scope="module")
def straight_runs(data):
    """The five stages of a run without a store, by protocol."""
    choices = {"epochs": 1, "train_examples": 40, "test_examples": 20, "batch_size": 20, "patience": 9}
    return {name: brought(Config(protocol=name, **choices), data)[1] for name in ("holdout", "notebook")}


@pytest.mark.parametrize(
    ("protocol", "stage"),
    [("holdout", "baseline"), ("notebook", "gate"), ("holdout", "mixture"), ("notebook", "mixture")],
)
def test_going_on_from_the_store_gives_the_bits_of_going_straight_through(protocol, stage, straight_runs, tmp_path):
    task = straight_runs[protocol][stage].task
    spec = task.request.spec
    once = Chain(spec)
    for _ in train(Request(spec, 4), once, *task.examples(CPU), CPU):
        pass
    for epochs in (1, 2, 4):
        with Store(str(tmp_path)) as store:
            part = Scheduler(store).run(dataclasses.replace(task, request=Request(spec, epochs)), CPU)
            assert figures(part.chain) == figures(once)[:epochs]
    with Store(str(tmp_path)) as store, open_writer(store, spec) as writer:
        chain = store.chain(spec)
        assert figures(chain) == figures(once)
        for epochs in range(1, 5):
            stored, memory = store.load_weights(chain.resolve(epochs)), once.weights[chain.resolve(epochs).epoch]
            assert same(stored, memory)
            assert {name: value.stride() for name, value in stored.items()} == {
                name: value.stride() for name, value in memory.items()
            }
        assert all(same(*parts) for parts in zip(writer.chain.end, once.end, strict=True))


class Template:
    """A store in which one small run left its stages, copied for each test."""

    def __init__(self, folder, result):
        self.folder, self.result = folder, result

    def copied(self, to):
        """The store's files as links: a test replaces them, and never writes into one."""
        for path in self.folder.rglob("*"):
            if path.is_file():
                target = to / path.relative_to(self.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
        return Local(to)


@pytest.fixture(scope="module")
def template(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with Store(str(folder)) as store:
        return Template(folder, run(SMALL, data, store))


@pytest.fixture
def place(template, tmp_path):
    """A place that has all of the small run."""
    return template.copied(tmp_path / "copy")


@pytest.fixture(scope="module")
def longer_alone(data):
    """What a longer run finds without a store."""
    return run(LONGER, data)


def again(config, data, place, **settings):
    """A run over a place, its result and what was warned of."""
    warned = []
    with Store(place, warn=warned.append) as store:
        return run(config, data, store, **settings), warned


def folder_and_manifest(place, stage):
    (address,) = place.folders(stage)
    (name,) = [name for name in place.files(f"{stage}/{address}") if name.startswith("chain-")]
    return f"{stage}/{address}", unseal(place.read(f"{stage}/{address}/{name}"))


def intact(place):
    """Whether all content is what its name says, and all that manifests need is there."""
    for stage in PIPELINE:
        for address in place.folders(stage):
            assert find_damage(place, f"{stage}/{address}").faults == {}
    return True


class TestRunsOverAStore:
    def test_a_run_repeated_trains_nothing_and_finds_the_same(self, template, place, data):
        result, warned = again(SMALL, data, place)
        assert (trained_epochs(result), warned) == ({}, [])
        assert (result.score, result.stages.keys()) == (template.result.score, template.result.stages.keys())
        assert histories(result) == histories(template.result)
        assert result.totals.epochs_reused == template.result.totals.epochs_trained == 10

    def test_a_run_with_a_store_finds_what_one_without_finds(self, template, data):
        alone = run(SMALL, data)
        assert (alone.score, histories(alone)) == (template.result.score, histories(template.result))

    def test_a_longer_chain_serves_a_shorter_request(self, place, data):
        shorter = SMALL.replace(epochs=1)
        result, warned = again(shorter, data, place)
        alone = run(shorter, data)
        assert (result.score, histories(result)) == (alone.score, histories(alone))
        assert set(trained_epochs(result)) <= {"mixture"}  # whose inputs are other checkpoints
        assert warned == []

    def test_a_longer_request_trains_what_is_missing(self, place, data, longer_alone):
        result, warned = again(LONGER, data, place)
        assert (result.score, histories(result)) == (longer_alone.score, histories(longer_alone))
        assert {name: epochs for name, epochs in trained_epochs(result).items() if name != "mixture"} == {
            name: 1 for name in PIPELINE if name != "mixture"
        }
        assert warned == []
        assert intact(place)

    @pytest.mark.parametrize("stage", ["gate", "mixture"])
    def test_raising_a_version_retrains_its_stage_and_the_mixture(self, stage, template, place, data, monkeypatch):
        monkeypatch.setitem(STAGES, stage, dataclasses.replace(STAGES[stage], version=STAGES[stage].version + 1))
        result, _ = again(SMALL, data, place)
        assert trained_epochs(result) == dict.fromkeys({stage, "mixture"}, 2)
        assert result.score == template.result.score


def truncate(place, path):
    place.replace(path, place.read(path)[: len(place.read(path)) // 2])


def empty(place, path):
    place.replace(path, b"")


class TestDamage:
    @pytest.mark.parametrize(
        ("damage", "stage"), [(flip, "natural"), (flip, "mixture"), (truncate, "natural"), (Local.remove, "natural")]
    )
    def test_damaged_weights_are_set_aside_and_trained_again(self, damage, stage, template, place, data):
        folder, manifest = folder_and_manifest(place, stage)
        for name in place.files(folder):
            if name.startswith("predictions-"):
                place.remove(f"{folder}/{name}")  # so that the network is asked
        weights = manifest.weights[template.result.stages[stage].best_epoch]
        damage(place, f"{folder}/{weights.file}")
        self.repaired(template, place, data, folder, f"{folder}/{manifest.name}", {stage: 2})

    @pytest.mark.parametrize("damage", [flip, empty])
    def test_a_damaged_manifest_is_set_aside_and_its_chain_trained_again(self, damage, template, place, data):
        folder, manifest = folder_and_manifest(place, "gate")
        damage(place, f"{folder}/{manifest.name}")
        self.repaired(template, place, data, folder, f"{folder}/{manifest.name}", {"gate": 2})

    @pytest.mark.parametrize("damage", [flip, truncate])
    def test_damaged_words_of_a_network_are_set_aside_and_asked_for_again(self, damage, template, place, data):
        folder, _ = folder_and_manifest(place, "artificial")
        name = next(name for name in place.files(folder) if "-score-" in name)
        damage(place, f"{folder}/{name}")
        self.repaired(template, place, data, folder, f"{folder}/{name}", {})

    def repaired(self, template, place, data, folder, named, trained):
        result, warned = again(SMALL, data, place)
        assert (result.score, histories(result)) == (template.result.score, histories(template.result))
        assert trained_epochs(result) == trained
        assert len(warned) == 1
        assert named in warned[0]
        assert [name for name in place.files(f"aside/{folder}") if name.endswith(named.rpartition("/")[2])]
        result, warned = again(SMALL, data, place)
        assert (trained_epochs(result), warned, result.score) == ({}, [], template.result.score)
        assert intact(place)

    @pytest.mark.parametrize("part", ["network", "optimizer"])
    def test_a_chain_whose_end_is_damaged_is_trained_from_its_start(self, part, place, data, longer_alone):
        folder, manifest = folder_and_manifest(place, "gate")
        flip(place, f"{folder}/{getattr(manifest.end, part).file}")
        result, warned = again(LONGER, data, place)
        assert result.stages["gate"].epochs_trained == 3
        assert result.stages["baseline"].epochs_trained == 1
        assert len(warned) == 1
        assert manifest.name in warned[0]
        assert (result.score, histories(result)) == (longer_alone.score, histories(longer_alone))
        assert intact(place)


class ReadOnly(Faulty):
    """A place that can be read."""

    def _do(self, name, path, operation, content=None):
        if name not in ("read", "files", "folders"):
            raise PlaceError(f"{self.name}: Read-only file system")
        return super()._do(name, path, operation, content)


class TestPlacesThatFail:
    def test_a_place_that_always_fails_changes_no_score(self, template, data):
        result, warned = again(SMALL, data, Faulty(memory(), 1, "from then on"))
        assert (result.score, histories(result)) == (template.result.score, histories(template.result))
        assert trained_epochs(result) == dict.fromkeys(PIPELINE, 2)
        assert len(warned) == 2
        assert "cannot be written" in " ".join(warned)
        assert "cannot be read" in " ".join(warned)

    def test_a_place_that_fails_half_way_changes_no_score(self, template, data):
        result, warned = again(SMALL, data, Faulty(memory(), 25, "from then on"))
        assert result.score == template.result.score
        assert 1 <= len(warned) <= 2

    def test_what_a_place_has_is_used_although_it_cannot_be_written(self, template, place, data):
        result, warned = again(SMALL, data, ReadOnly(place))
        assert (trained_epochs(result), result.score) == ({}, template.result.score)
        assert len(warned) == 1
        assert "cannot be written" in warned[0]

    def test_what_a_place_lacks_is_trained_although_it_cannot_be_written(self, template, data):
        result, warned = again(SMALL, data, ReadOnly(memory()))
        assert result.score == template.result.score
        assert trained_epochs(result) == dict.fromkeys(PIPELINE, 2)
        assert len(warned) == 1

    def test_damage_in_a_place_that_cannot_be_written_changes_no_score(self, template, place, data):
        folder, manifest = folder_and_manifest(place, "natural")
        for name in place.files(folder):
            if name.startswith("predictions-"):
                place.remove(f"{folder}/{name}")
        flip(place, f"{folder}/{manifest.weights[template.result.stages['natural'].best_epoch].file}")
        result, warned = again(SMALL, data, ReadOnly(place))
        assert result.score == template.result.score
        assert len(warned) == 2  # damaged, and not to be written


BASE = Config(epochs=3, train_examples=20, test_examples=10, batch_size=20, learning_rate=0.01, patience=1)
CHANGES = {
    "epochs": 2,
    "batch_size": 10,
    "train_examples": 30,
    "test_examples": 20,
    "use_large_experts": True,
    "use_large_gating_mlp": True,
    "use_large_baseline_classifier": True,
    "learning_rate": 0.003,
    "patience": 3,
    "seed": 1,
    "protocol": "notebook",
    "precision": "bfloat16",
}


@pytest.fixture(scope="module")
def unchanged(data):
    return brought(BASE, data)[1]


class TestNothingIsReadThatIsNotHashed:
    @pytest.mark.parametrize("protocol", ["holdout", "notebook"])
    def test_training_reads_only_what_changes_the_address_and_nothing_of_the_config(self, protocol, data, monkeypatch):
        read, of_config, planned, quiet = set(), set(), threading.Event(), threading.Event()

        class HeardSpec(Spec):
            def __getattribute__(self, name):
                if not quiet.is_set():
                    read.add(name)
                return super().__getattribute__(name)

            @cached_property
            def address(self):
                quiet.set()  # it hashes all fields
                try:
                    return Spec.address.func(self)
                finally:
                    quiet.clear()

        class HeardConfig(Config):
            def __getattribute__(self, name):
                if planned.is_set():
                    of_config.add(name)
                return super().__getattribute__(name)

        def heard_plan(*arguments):
            requests = plan(*arguments)
            read.clear()
            planned.set()
            return requests

        monkeypatch.setattr("moe.stages.Spec", HeardSpec)

        def quiet_score(*arguments):
            planned.clear()  # the result holds the config, and checks it
            return score(*arguments)

        def quiet_resolved(*arguments):
            quiet.set()  # it makes another spec of all fields
            try:
                return resolved(*arguments)
            finally:
                quiet.clear()

        monkeypatch.setattr("moe.pipeline.plan", heard_plan)
        monkeypatch.setattr("moe.pipeline.resolved", quiet_resolved)
        monkeypatch.setattr("moe.pipeline.score", quiet_score)
        config = HeardConfig(**SMALL.as_json() | {"protocol": protocol})
        run(config, data)
        assert of_config & fields(Config).keys() == set()
        of_spec = fields(Spec).keys() - NOT_SEEN
        assert {"seed", "batch_size", "learning_rate", "patience", "network", "train_examples"} <= read
        methods = set(dir(Spec)) - fields(Spec).keys()
        assert read - methods <= of_spec
        spec = a_spec()
        for name in read & of_spec:
            assert spec.replace(**{name: another(getattr(spec, name))}).address != spec.address

    def agree(self, stages, others):
        """The stages with the same address in both, whose bits are seen to be the same."""
        shared = {name for name in PIPELINE if stages[name].chain.spec.address == others[name].chain.spec.address}
        for name in shared:
            one, other = stages[name], others[name]
            common = min(len(one.chain.epochs), len(other.chain.epochs))
            assert figures(one.chain)[:common] == figures(other.chain)[:common]
            if one.task.request.epochs == other.task.request.epochs:
                assert figures(one.chain) == figures(other.chain)
                assert one.checkpoint == other.checkpoint
            if one.checkpoint == other.checkpoint:
                assert same(one.weights(), other.weights())
        return shared

    @pytest.mark.parametrize("field", list(fields(Config)))
    def test_where_a_changed_choice_leaves_the_address_it_leaves_the_bits(self, field, data, unchanged):
        config = BASE.replace(**{field: CHANGES[field]})
        shared = self.agree(unchanged, brought(config, data)[1])
        expected = {
            "epochs": set(PIPELINE) - {"mixture"},
            "use_large_experts": {"baseline", "gate"},
            "use_large_gating_mlp": {"baseline", "artificial", "natural"},
            "use_large_baseline_classifier": {"gate", "artificial", "natural"},
        }
        assert shared - {"mixture"} == expected.get(field, set())

    def test_devices_are_in_no_address_and_change_no_bits(self, data, unchanged):
        assert self.agree(unchanged, brought(BASE, data, devices=[CPU] * 3)[1]) == set(PIPELINE)
