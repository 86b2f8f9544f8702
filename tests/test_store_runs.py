"""Runs over one store: what they share, and what damage and places that fail cost them."""

import dataclasses
import os

import pytest

from moe import Config, run
from moe.pipeline import train_mixture
from moe.scheduler import Scheduler
from moe.stages import PIPELINE, STAGES, Request
from moe.store.damage import find_damage
from moe.store.files import Local, PlaceError
from moe.store.manifest import unseal
from moe.store.store import Store
from moe.training.loop import Chain, train
from tests.store_helpers import (
    CPU,
    LONGER,
    SMALL,
    Faulty,
    figures,
    flip,
    memory,
    open_writer,
    same,
)


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
