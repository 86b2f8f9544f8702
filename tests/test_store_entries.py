"""What lies in the store of a chain is believed only where it is whole and the chain's own."""

import dataclasses
import os
from contextlib import suppress

import pytest
import torch

from moe.scheduler import Scheduler, StageTask
from moe.stages import Checkpoint, Request
from moe.store.entries import folder_of
from moe.store.files import PlaceError
from moe.store.manifest import DamagedError, unseal
from moe.store.store import Store
from tests.store_helpers import (
    AT_ONCE,
    CPU,
    SPEC,
    Ended,
    Faulty,
    a_spec,
    advance,
    check,
    check_it_goes_on,
    figures,
    flip,
    memory,
    open_writer,
    pretend,
    same,
    straight,
)

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

    @pytest.mark.parametrize("at", range(1, 7))
    def test_what_a_chain_in_training_loses_is_written_again_or_else_nothing_more_is_stored(self, at):
        """The trainer has the best weights so far in memory: at first those are all, later there are others."""
        place, warned, folder = memory(), [], folder_of(SPEC)
        with Store(place, warn=warned.append, timing=AT_ONCE) as store, open_writer(store, SPEC) as writer:
            for number, _ in enumerate(pretend(Request(SPEC, 6), writer.chain), 1):
                writer.epoch_done()
                store.flush()
                if number == at:
                    for name in place.files(folder):
                        place.remove(f"{folder}/{name}")
        if at == 1:
            check(place, 6, 6, warnings=[])
        else:
            assert [name for name in place.files(folder) if not name.startswith(("lease", "used"))] == []
        assert len(warned) == (1 < at < 6)
        assert all(f"{folder} in the store has lost files" in sentence for sentence in warned)
        check_it_goes_on(place, 7)

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
