"""A model of the stage store: what processes, people and disks do to it, in any order, over every kind of place.

After each step all files are compared with those before it: what is read is right or absent, what was committed and is
undamaged stays and is not trained again, and nothing is touched but the chain in question.

    STORE_MODEL=1000 pytest -n 0 tests/test_store_model.py      1,000 random stories of 50 steps over each place

A failure prints its steps. Found: a longer chain deleted the manifest of a newer version (random, 12 steps); files that
a longer chain needs deleted with a shorter one (planted; short form, in the first story); a chain of a newer version
evicted (planted; short form, 1 step); weights read without their hash (planted; short form).
"""

import contextlib
import dataclasses
import io
import itertools
import os
import re
import time
from concurrent.futures import wait
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from moe.stages import Request
from moe.store.__main__ import main
from moe.store.damage import read_aside
from moe.store.eviction import KEEP_S, delete, plan_gc
from moe.store.files import Local
from moe.store.listing import read_entries
from moe.store.store import Store
from moe.store.writer import LeaseLostError
from tests.store_helpers import AT_ONCE, Ended, Faulty, advance, open_writer, pretend, same, straight
from tests.store_truth import FOLDERS, SPECS, Watched, contents, remove, truth

SOON = dataclasses.replace(AT_ONCE, beat_s=1e6)  # no heartbeat comes between two steps
LATE = dataclasses.replace(SOON, commit_every_s=1000)  # commits at the end, when another may have taken over
STORIES = int(os.environ.get("STORE_MODEL", "0"))  # 0: a few, always the same

processes, chains, numbers = st.integers(0, 1), st.integers(0, 1), st.integers(1, 8)
some = st.integers(0, 2**16)  # which file or byte, modulo how many there are

right = cache(straight)


def losses(chain):
    return [(epoch.loss, epoch.validation_loss) for epoch in chain.epochs]


def predicted(which, epoch):
    return {"log_probs": torch.arange(20.0).view(2, 10) + 100 * which + epoch}


class Story(Watched):
    """Two processes over one place, and what befalls it."""

    def __init__(self, above):
        super().__init__(above)
        self.leased = True
        self.stores = [self.opened(timing) for timing in (SOON, LATE)]
        self.writers = {}  # by process and chain: a writer, the epochs it has yet to train, and what had befallen
        self.looked = {}  # by process and chain: the chain as it was looked up
        self.befallen = [0, 0]  # by chain: how often it was damaged, evicted, ...
        self.used, self.spoiled = set(), set()  # chains of which a use was written, and of which that may be damaged
        self.blocked = set()  # chains in whose folder a newer version has put a manifest

    def opened(self, timing=SOON, place=None):
        store = Store(place or self.place, warn=self.warned.append, timing=timing)
        store._leases._exclusive = None if self.leased else False
        return store

    def flush(self, who):
        """Wait until all is written; the store then forgets what was looked up."""
        self.stores[who].flush()
        self.looked = {key: chain for key, chain in self.looked.items() if key[0] != who}

    @initialize(leased=st.booleans(), epochs=st.tuples(numbers, numbers))
    def start(self, leased, epochs):
        """Train both chains, with leases or at a place that can give none: what is stored does not depend on them."""
        self.leased = leased
        self.stores = [self.opened(timing) for timing in (SOON, LATE)]
        for which in (0, 1):
            self.train(0, which, epochs[which])
            self.predict(0, which, epochs[which])

    def begin(self, who, which):
        """Open a writer: no whole epoch is to be trained again."""
        with self.touching(which):
            writer = open_writer(self.stores[who], SPECS[which])
            self.flush(who)
            assert len(writer.chain.epochs) >= truth(FOLDERS[which], self.disk)[0]
            expected = right(SPECS[which], len(writer.chain.epochs))
            assert losses(writer.chain) == losses(expected)
            assert writer.chain.end is None or all(map(same, writer.chain.end, expected.end))
            untrained = pretend(Request(SPECS[which], 8), writer.chain)
            self.writers[who, which] = writer, untrained, self.befallen[which]
            self.used.add(which)

    @rule(who=processes, which=chains, epochs=st.integers(0, 8))
    def train(self, who, which, epochs):
        if (who, which) not in self.writers:
            self.begin(who, which)
        writer, untrained, _ = self.writers[who, which]
        with self.touching(which):
            try:
                for _ in itertools.islice(untrained, epochs):
                    writer.epoch_done()
                    self.flush(who)
            except LeaseLostError:
                self.leave(who, which)

    @rule(who=processes, which=chains)
    def leave(self, who, which):
        """End a training: all that it trained is then there, unless something befell the chain meanwhile."""
        if (who, which) in self.writers:
            writer, _, befallen = self.writers.pop((who, which))
            with self.touching(which) as sound:
                writer.__exit__(None)
                self.flush(who)
            if sound[which] and befallen == self.befallen[which] and which not in self.blocked:
                assert truth(FOLDERS[which], self.disk)[0] >= len(writer.chain.epochs)

    @rule(who=processes, which=chains)
    def look(self, who, which):
        with self.touching(which) as sound:
            chain = self.stores[who].chain(SPECS[which])
            wait(self.stores[who]._pending)
            assert losses(chain) == losses(right(SPECS[which], len(chain.epochs)))
            assert not sound[which] or len(chain.epochs) == truth(FOLDERS[which], self.disk)[0]
        self.looked[who, which] = chain, self.befallen[which]

    @rule(who=processes, which=chains)
    def load(self, who, which):
        """Read all of a chain: each part as it was committed, or absent if something befell it or it was replaced."""
        if (who, which) not in self.looked:
            self.look(who, which)
        chain, befallen = self.looked.pop((who, which))
        store, newest = self.stores[who], f"{FOLDERS[which]}/chain-{len(chain.epochs):04d}.json"
        with self.touching(which) as sound:
            expected = sound[which] and befallen == self.befallen[which] and newest in self.disk
            for epoch in {chain.resolve(epochs).epoch for epochs in range(1, len(chain.epochs) + 1)}:
                weights = store.load_weights(chain.resolve(epoch))
                assert same(weights, right(SPECS[which], 8).weights[epoch]) or (weights is None and not expected)
                predictions = store.load_predictions(chain.resolve(epoch), "stop")
                there = any(f"/predictions-{epoch:04d}-stop" in path for path in self.of(which))
                assert same(predictions, predicted(which, epoch)) or (predictions is None and not (expected and there))
            self.flush(who)

    @rule(who=processes, which=chains, epochs=numbers)
    def predict(self, who, which, epochs):
        with self.touching(which):
            if (chain := self.stores[who].chain(SPECS[which])).epochs:
                checkpoint = chain.resolve(epochs)
                self.stores[who].save_predictions(checkpoint, "stop", predicted(which, checkpoint.epoch))
            self.flush(who)

    @rule(
        who=processes,
        which=chains,
        kind=st.sampled_from(["[0-9a-f]{64}", "[0-9a-f]{64}", "chain", "predictions", "used", "lease"]),
        file=some,
        at=some,
        how=st.sampled_from(["flip", "flip", "cut", "delete", "swap", "link", "folder"]),
        then=st.sampled_from(["load", "train", None]),
    )
    def damage(self, who, which, kind, file, at, how, then):
        """One file is flipped in a bit, cut short, deleted, or replaced: by another, by a link, by a folder."""
        mine = [path for path, content in sorted(self.of(which).items()) if content not in (b"a link", b"a folder")]
        files = [path for path in mine if re.match(kind, os.path.basename(path)) and path not in self.others]
        if not files:
            return
        path, self.befallen[which] = files[file % len(files)], self.befallen[which] + 1
        self.spoiled |= {which} if kind == "used" else set()
        content = bytearray(self.disk[path] or b"x")
        self.place.remove(path)
        if how in ("link", "folder") and isinstance(self.place, Local):
            target = self.place.root / path
            target.mkdir() if how == "folder" else target.symlink_to(self.place.root.parent / "beside")
        elif how != "delete":
            others = [other for _, other in sorted(self.disk.items()) if other not in (b"a link", b"a folder")]
            cut, swap = content[: at % len(content)], others[at % len(others)]
            content[at % len(content)] ^= 1
            self.place.replace(path, bytes({"cut": cut, "swap": swap}.get(how, content)))
        self.disk = contents(self.place)
        if then:
            self.load(who, which) if then == "load" else self.train(who, which, 1)

    @rule(which=chains, epochs=numbers, at=st.integers(1, 120), how=st.sampled_from(["ends", "half", "zeros", "once"]))
    def kill(self, which, epochs, at, how):
        """A third process ends at one of its operations, in the middle of a file or before it, or that one fails."""
        self.befallen[which] += 1
        self.spoiled |= {which} if how in ("half", "zeros") else set()
        with self.touching(which), contextlib.suppress(Ended):
            store = self.opened(place=Faulty(self.place, at, how))
            try:
                advance(store, SPECS[which], epochs)
            finally:
                store.close()

    @rule(who=processes)
    def crash(self, who):
        """A process ends without a word, and another one starts."""
        self.writers = {key: writer for key, writer in self.writers.items() if key[0] != who}
        self.flush(who)
        self.stores[who].close()
        self.stores[who] = self.opened((SOON, LATE)[who])

    @precondition(lambda self: not self.blocked)
    @rule(which=chains, epochs=numbers, name=st.sampled_from(["chain-{:04d}.json", "chain-v9-{:04d}.json", None, None]))
    def other_version(self, which, epochs, name):
        """A newer version writes a manifest into the folder of a chain; seldom, since this one then leaves it alone."""
        if name and f"{FOLDERS[which]}/{name.format(epochs)}" not in self.disk:
            self.put_newer(FOLDERS[which], name.format(epochs))
            self.blocked.add(which)
            self.befallen[which] += 1
            self.disk = contents(self.place)

    @rule(later=st.booleans(), share=st.sampled_from([0, 0.5]))
    def evict(self, later, share):
        """`gc`, now or two days later: what was used in the last day stays, and so does what a newer version wrote."""
        entries, now = read_entries(self.place), time.time() + 2 * KEEP_S * later
        if later:
            self.used.clear()
            for store in self.stores:
                store._uses_noted.clear()  # more than an hour ago
        plan = plan_gc(entries, read_aside(self.place), int(share * sum(entry.bytes for entry in entries)), now)
        gone = {FOLDERS.index(entry.folder) for entry in plan.chains}
        assert gone.isdisjoint(self.blocked | (self.used - self.spoiled))
        with self.touching(0, 1, may_lose=gone):
            assert delete(self.place, plan).used == ()
        for n in gone:
            self.befallen[n] += 1

    @rule(which=chains)
    def delete_by_hand(self, which):
        self.befallen[which] += 1
        self.used.discard(which)
        self.spoiled.discard(which)
        for path in self.of(which).keys() - self.others.keys():
            remove(self.place, path)
        self.disk = contents(self.place)

    @rule()
    def verify(self):
        sound = all(truth(folder, self.disk)[1] for folder in FOLDERS)
        with self.touching(0, 1), contextlib.redirect_stdout(io.StringIO()) as output:
            code = main(["--store", self.place.name, "verify"])
        assert code == (0 if sound else 5), output.getvalue()
        assert all(truth(folder, self.disk)[1] for folder in FOLDERS), output.getvalue()

    def teardown(self):
        """Whatever befell it, a chain can be trained and read, and is then there without a word."""
        for who in range(2):
            self.crash(who)
        self.verify()
        for which in {0, 1} - self.blocked:
            self.train(0, which, 3)
            self.leave(0, which)
            self.load(1, which)  # it may find predictions damaged that belonged to no manifest
            self.load(1, which)
            assert truth(FOLDERS[which], self.disk)[0] >= 3
            assert self.warned == []
        for store in self.stores:
            store.close()


SHORT = settings(
    derandomize=True, report_multiple_bugs=False, deadline=None, database=None, suppress_health_check=HealthCheck
)
LONG = settings(SHORT, derandomize=False, stateful_step_count=50, max_examples=STORIES or 1, print_blob=True)


@pytest.mark.parametrize(("kind", "stories", "steps"), [("folder", 4, 30), ("memory", 12, 30), ("s3", 2, 5)])
def test_what_is_read_is_right_or_absent_and_nothing_is_lost(kind, stories, steps, request, tmp_path, monkeypatch):
    above = {"folder": lambda: tmp_path, "memory": lambda: "memory://", "s3": lambda: request.getfixturevalue("s3")}
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power fails here
    short = settings(SHORT, max_examples=stories, stateful_step_count=steps)
    run_state_machine_as_test(lambda: Story(above[kind]()), settings=LONG if STORIES else short)
