"""The store after a crash at any point of writing, and of repairing."""

import dataclasses
from contextlib import suppress

import pytest

from moe.stages import Checkpoint
from moe.store.entries import folder_of
from moe.store.store import Store
from tests.store_helpers import (
    AT_ONCE,
    SPEC,
    Ended,
    Faulty,
    advance,
    check,
    check_it_goes_on,
    figures,
    flip,
    memory,
    straight,
)


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
