"""What is stored is right or absent, whatever befalls process and place, and it is the training's own bits."""

import time
from contextlib import suppress

import torch

from moe.stages import Checkpoint, Request
from moe.store.entries import folder_of
from moe.store.manifest import unseal
from moe.store.store import NoStore, Store
from moe.store.tensors import unpack
from moe.training.loop import best_epoch
from tests.store_helpers import AT_ONCE, SPEC, Faulty, advance, check, memory, open_writer, pretend, same, straight


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
